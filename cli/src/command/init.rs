//! `fama init`: remembers a federation, a node and a key.
use std::fs;
use std::io::{self, BufRead, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;

use fama_ledger::id::FederationId;
use fama_ledger::limits::CHAIN_BYTES_MAX;
use fama_ledger::manifest::Manifest;
use serde_json::json;

use crate::chain;
use crate::failure::Failure;
use crate::files::{self, PUBLIC_MODE};
use crate::query::Query;
use crate::settings::{self, Settings};
use crate::terminal::{FieldList, Terminal};

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Example: the federation's id comes from somebody you trust, the rest from any node
  fama init https://fama.alpha.example --federation 5f2c…e844 --key agent.pem
  fama agent swift-core-maps@alpha.example

It writes config.toml and manifest.txt to ~/.config/fama. The manifest's chain of versions is
checked; which federation it is, only its id can tell: without --federation you are asked.";

/// Name of the manifest's file in the folder of the configuration.
const MANIFEST_FILE: &str = "manifest.txt";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The query address of a node
    #[arg(value_name = "URL")]
    node: Option<String>,
    /// The id that the federation must have
    #[arg(long, value_name = "ID")]
    federation: Option<FederationId>,
    /// The key that signs from now on
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Trust the federation, or another one than before, without confirmation
    #[arg(long)]
    yes: bool,
}

/// Gets and checks the manifest, asks, and writes both files.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let folder = settings::folder()?;
    let (file, place) = (folder.join(settings::FILE), folder.join(MANIFEST_FILE));
    let former = Settings::read(&file)?;
    let node = match &args.node {
        Some(node) => node.clone(),
        None => asked(terminal)?,
    };
    let query = Query::new(&node);
    let manifest = fetch(&query)?;
    let id = manifest.federation();
    if let Some(wanted) = args.federation.filter(|wanted| *wanted != id) {
        return Err(Failure::new("other_federation", format!("{node} belongs to {id}, not to {wanted}"))
            .hint("ask a node of the federation that you mean"));
    }
    let key = args.key.as_ref().map(absolute).transpose()?;
    if let Some(key) = &key {
        files::read_key(key)?;
    }
    let known = former.manifest.as_deref().map(chain::read).transpose().unwrap_or_default();
    let changes = known.as_ref().filter(|known| known.federation() != id);
    let operators: Vec<&str> = manifest.operators().iter().map(|operator| operator.name.as_str()).collect();
    let lines = vec![
        ("federation", format!("{} {id}", manifest.name())),
        ("manifest", format!("version {}, its chain of signatures is valid", manifest.version())),
        ("operators", operators.join(", ")),
        ("node", query.base().to_owned()),
    ];
    terminal.say(FieldList(lines.clone()));
    if let Some(known) = changes {
        terminal.say(format!("This replaces the federation {} {}.", known.name(), known.federation()));
    }
    // A federation that is known already needs no trust again.
    if known.as_ref().is_none_or(|known| known.federation() != id) && args.federation.is_none() || changes.is_some() {
        terminal.confirm("Is that the id that you got from somebody you trust?", args.yes)?;
    }
    let newest = match known.filter(|known| known.federation() == id) {
        // This node may be behind.
        Some(known) if known.version() > manifest.version() => known,
        _ => manifest,
    };
    files::create_folder(&folder)?;
    files::replace(&place, &newest.chain(), PUBLIC_MODE)?;
    // What was learnt from nodes belongs to the former manifest.
    let kept = chain::kept_at(&place);
    match fs::remove_file(&kept) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Failure::new("file", format!("{}: {error}", kept.display())));
        }
        _ => {}
    }
    let settings =
        Settings { manifest: Some(place.clone()), key: key.or(former.key), query: Some(query.base().to_owned()) };
    files::replace(&file, &settings.text(), PUBLIC_MODE)?;
    let answer = json!({
        "federation": id.to_string(), "name": newest.name(), "manifest_version": newest.version(),
        "operators": operators_of(&newest), "query": query.base(), "config": file.display().to_string(),
        "manifest": place.display().to_string(), "key": settings.key.as_ref().map(|key| key.display().to_string()),
    });
    terminal.answer(&answer, format!("Remembered in {}", file.display()))
}

fn operators_of(manifest: &Manifest) -> Vec<&str> {
    manifest.operators().iter().map(|operator| operator.name.as_str()).collect()
}

fn fetch(query: &Query) -> Result<Arc<Manifest>, Failure> {
    let text = query.get_text(&["federation", "manifests"], &[], CHAIN_BYTES_MAX)?;
    Manifest::parse_chain(&text)
        .map_err(|error| Failure::from(error).about(query.base()).hint("that node is broken or lies: use another one"))
}

fn absolute(path: &PathBuf) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::new("file", format!("{}: {error}", path.display())))
}

/// Asks for a node's address.
fn asked(terminal: &mut Terminal<'_>) -> Result<String, Failure> {
    let missing = || Failure::new("no_node", "which node?").hint("name its query address: fama init https://…");
    if !io::stdin().is_terminal() {
        return Err(missing());
    }
    terminal.say("The query address of a node, like https://fama.alpha.example:");
    let mut line = String::new();
    // Bounded: a terminal gives at most one line buffer of the system.
    io::stdin().lock().read_line(&mut line).map_err(|error| Failure::new("input", error))?;
    let line = line.trim();
    if line.is_empty() { Err(missing()) } else { Ok(line.to_owned()) }
}
