//! `fama webhook`: who is told what happens, over HTTP: adds, lists, tests and replays webhooks of the own node.
use std::path::{Path, PathBuf};

use clap::Subcommand;
use fama_ledger::base64;
use fama_node::config::{LiveSettings, SECRET_PREFIX};
use serde_json::{Value, json};

use super::agent::text;
use crate::failure::Failure;
use crate::files;
use crate::query::{self, Query};
use crate::terminal::{FieldList, Terminal};

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Examples:
  fama webhook add revocations https://service.example/fama --kind key --config alpha.example/node.toml
  fama webhook test revocations
  fama webhook list --json

Each event is posted as JSON, signed as Standard Webhooks describes, until a status from 200 to 299
answers: after one second, then later and later, for half an hour. What is not taken by then is
kept aside, up to 1,000 events a webhook, until `fama webhook replay`. An event may come twice.";

/// Bytes of a new secret.
const SECRET_BYTES: usize = 32;
/// Longest configuration that is read, in bytes.
const CONFIG_BYTES_MAX: usize = 1 << 20;

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    deed: Deed,
}

#[derive(Debug, Subcommand)]
enum Deed {
    /// Add a webhook to a node's configuration, with a new secret
    #[command(after_help = "\
Example:
  fama webhook add revocations https://service.example/fama --kind key --config alpha.example/node.toml
  systemctl reload fama")]
    Add(AddArgs),
    /// Show how each webhook of the own node does
    #[command(after_help = "\
Example:
  fama webhook list --admin http://127.0.0.1:9090")]
    List(AdminArgs),
    /// Send a message of type `test` now
    #[command(after_help = "\
Example:
  fama webhook test revocations")]
    Test(NamedArgs),
    /// Send again what was kept aside, oldest first
    #[command(after_help = "\
Example:
  fama webhook replay revocations")]
    Replay(NamedArgs),
}

#[derive(Debug, clap::Args)]
struct AdminArgs {
    /// The admin listener of your own node
    #[arg(long, value_name = "URL", default_value = query::ADMIN)]
    admin: String,
}

#[derive(Debug, clap::Args)]
struct NamedArgs {
    /// Name of the webhook
    name: String,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, clap::Args)]
struct AddArgs {
    /// Its name on this node: letters, digits, - and _
    name: String,
    /// Where events are posted: https://…
    url: String,
    /// The node's configuration, to which it is added
    #[arg(long, value_name = "NODE_TOML")]
    config: PathBuf,
    /// Only events of this kind: key, karma, access or registration; may be repeated
    #[arg(long, value_name = "KIND")]
    kind: Vec<String>,
    /// Only what is about this agent: name@home, id or DID; may be repeated
    #[arg(long, value_name = "AGENT")]
    agent: Vec<String>,
    /// Only what this provider gave; may be repeated
    #[arg(long, value_name = "PROVIDER")]
    provider: Vec<String>,
    /// Only what is about agents of this home; may be repeated
    #[arg(long, value_name = "HOME")]
    home: Vec<String>,
    /// Allow an address of this machine or of a private network, and http://
    #[arg(long)]
    allow_private: bool,
}

/// Adds, lists, tests or replays.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    match &args.deed {
        Deed::Add(args) => add(args, terminal),
        Deed::List(args) => list(args, terminal),
        Deed::Test(args) => {
            let answer = ask(args, "test")?;
            let status =
                format!("{}{}", answer["status"], if answer["taken"] == true { ", taken" } else { ", not taken" });
            terminal.answer(&answer, FieldList(vec![("status", status)]))
        }
        Deed::Replay(args) => {
            let answer = ask(args, "replay")?;
            terminal.answer(
                &answer,
                FieldList(vec![("replay", "begun; `fama webhook list` shows what is left".to_owned())]),
            )
        }
    }
}

fn unreachable(failure: Failure) -> Failure {
    failure.hint_if_unreachable("--admin URL names the admin listener of your own node")
}

fn ask(args: &NamedArgs, deed: &str) -> Result<Value, Failure> {
    Query::admin(&args.admin.admin).post_text(&["webhooks", deed], &args.name).map_err(unreachable)
}

/// A line of TOML for a list of words; none for an empty one.
fn line(name: &str, values: &[String]) -> Option<String> {
    let quoted: Vec<String> = values.iter().map(|value| toml_text(value)).collect();
    (!quoted.is_empty()).then(|| format!("{name} = [{}]\n", quoted.join(", ")))
}

/// A basic string of TOML: JSON's escapes are valid there.
fn toml_text(value: &str) -> String {
    Value::from(value).to_string()
}

fn add(args: &AddArgs, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let known =
        LiveSettings::load(&args.config).map_err(|error| Failure::new(error.code(), &error).hint(error.hint()))?;
    if known.webhooks.iter().any(|one| one.name == args.name) {
        let message = format!("{} has a webhook of the name {}", args.config.display(), args.name);
        return Err(Failure::new("webhook_exists", message).hint("remove its table there, or choose another name"));
    }
    let before = files::read(&args.config, CONFIG_BYTES_MAX)?;
    let mut secret = [0; SECRET_BYTES];
    files::fill(&mut secret)?;
    let secret_file = format!("{}.webhook-secret", args.name);
    let mut table = format!(
        "\n[[webhooks]]\nname = {}\nurl = {}\nsecret_file = {}\n",
        toml_text(&args.name),
        toml_text(&args.url),
        toml_text(&secret_file)
    );
    for (name, values) in
        [("kinds", &args.kind), ("agents", &args.agent), ("providers", &args.provider), ("homes", &args.home)]
    {
        table.extend(line(name, values));
    }
    if args.allow_private {
        table.push_str("allow_private = true\n");
    }
    let path = args.config.parent().unwrap_or(Path::new("")).join(&secret_file);
    files::create(&path, &format!("{SECRET_PREFIX}{}\n", base64::encode(&secret)), files::SECRET_MODE)?;
    let written = write(&args.config, &before, &table);
    if let Err(failure) = written {
        // What this made, and nothing names.
        let _ = std::fs::remove_file(&path);
        return Err(failure);
    }
    let json = json!({"name": args.name, "url": args.url, "secret_file": path, "config": args.config});
    let next = "`systemctl reload fama`, or SIGHUP to the node, then `fama webhook test`".to_owned();
    terminal.answer(
        &json,
        FieldList(vec![
            ("added", format!("{} to {}", args.name, args.config.display())),
            ("secret", format!("{}: give it to whoever receives", path.display())),
            ("next", next),
        ]),
    )
}

/// Writes the configuration with the new table, if it is a valid one.
fn write(config: &Path, before: &str, table: &str) -> Result<(), Failure> {
    let after = format!("{}\n{table}", before.trim_end());
    let trial = files::with_ending(config, ".new");
    let mode = std::fs::metadata(config).map_or(files::PUBLIC_MODE, |about| {
        use std::os::unix::fs::PermissionsExt;
        about.permissions().mode() & 0o777
    });
    files::replace(&trial, &after, mode)?;
    let checked = LiveSettings::load(&trial).map_err(|error| Failure::new(error.code(), &error).hint(error.hint()));
    // The configuration itself is replaced in one step, and only by one that a node takes.
    let written = checked.and_then(|_| files::replace(config, &after, mode));
    let _ = std::fs::remove_file(&trial);
    written
}

fn list(args: &AdminArgs, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let answer = Query::admin(&args.admin).get(&["webhooks"], &[]).map_err(unreachable)?;
    let mut lines = Vec::new();
    for one in answer["webhooks"].as_array().into_iter().flatten() {
        lines.push(("webhook", format!("{} {}", text(&one["name"]), text(&one["url"]))));
        lines.push(("delivered", format!("{}, {} entries behind", one["delivered"], one["entries_behind"])));
        if one["failures"] != 0 {
            lines.push(("failing", format!("{} times: {}", one["failures"], text(&one["last_error"]))));
        }
        if one["dead_letters"] != 0 {
            lines.push(("aside", format!("{}: `fama webhook replay {}`", one["dead_letters"], text(&one["name"]))));
        }
    }
    if lines.is_empty() {
        lines.push(("webhooks", "none: `fama webhook add`".to_owned()));
    }
    terminal.answer(&answer, FieldList(lines))
}
