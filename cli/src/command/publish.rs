//! `fama publish`: copies public files to where a web server or CDN can serve them.
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use fama_reader::bucket::Bucket;
use fama_reader::error::ReadError;
use fama_reader::publish::{Pass, Publisher};
use fama_reader::source::PublicSource;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::files;
use crate::progress;
use crate::terminal::{FieldList, Terminal};

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Examples:
  fama publish --from http://127.0.0.1:8080 --to public --once
  AWS_REGION=eu-central-1 fama publish --from https://node.alpha.example --to s3://my-bucket/fama

Writes manifests, each log's entries, tree and checkpoint (c2sp.org/tlog-tiles), notes, and the
policy (c2sp.org/tlog-policy), as in PROTOCOL.md, Public files. Everything is checked first:
the tree against the checkpoint, the checkpoint against the quorum. A longer or different published
history is never overwritten. Nothing is deleted but notes that the source has dropped (`fama redact`):
those go, and no later run brings them back. Run it again to continue where it stopped.
For s3://, set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION in the environment; for a
store other than Amazon's also AWS_ENDPOINT, and AWS_ALLOW_HTTP=true if it uses http.";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A node's query URL, a published folder or s3://bucket/prefix, or a stopped node's data folder
    #[arg(long, value_name = "SOURCE")]
    from: String,
    /// A folder, or s3://bucket/prefix
    #[arg(long, value_name = "PLACE")]
    to: String,
    /// Stop after one pass
    #[arg(long)]
    once: bool,
    /// Pause between two passes, like 500ms, 10s or 5m
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = interval)]
    interval: Duration,
    /// The manifest of the federation to publish; without it, the source's own is used
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
}

fn interval(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => return Err("want a time like 500ms, 10s or 5m".to_owned()),
    };
    let number = digits.parse::<u32>().map_err(|_| "want a time like 500ms, 10s or 5m".to_owned())?;
    Ok(Duration::from_millis(u64::from(number).saturating_mul(unit)))
}

/// Copies once, or forever with pauses.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let genesis = args.manifest.as_deref().map(files::read_manifest).transpose()?;
    let (source, target) = (PublicSource::open(&args.from)?, Bucket::create(&args.to)?);
    let mut publisher = Publisher::new(source, target, genesis)?;
    if args.once {
        let pass = pass(&mut publisher)?;
        return terminal.answer(&shown(&pass), table(&pass));
    }
    let mut last = None;
    loop {
        match pass(&mut publisher) {
            // These may pass by themselves: report them and try again.
            Err(error) if matches!(error.code(), "unreachable" | "behind") => terminal.say(Failure::from(error)),
            Err(error) => return Err(error.into()),
            Ok(pass) if last.is_some() && pass.files == 0 => {}
            Ok(pass) => {
                terminal.answer(&shown(&pass), line(&pass))?;
                last = Some(pass);
            }
        }
        thread::sleep(args.interval);
    }
}

fn pass(publisher: &mut Publisher) -> Result<Pass, ReadError> {
    let bar = progress::bar(0, "copying entries");
    let pass = publisher.pass(&mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    pass
}

fn shown(pass: &Pass) -> Value {
    let logs: Vec<Value> =
        pass.logs.iter().map(|(log, size)| json!({"log": log.to_string(), "entries": size})).collect();
    json!({
        "version": pass.version, "logs": logs, "entries": pass.entries, "files": pass.files, "bytes": pass.bytes,
        "notes_missing": pass.notes_missing, "notes_removed": pass.notes_removed, "notes_dropped": pass.notes_dropped,
    })
}

fn line(pass: &Pass) -> String {
    let logs: Vec<String> = pass.logs.iter().map(|(log, size)| format!("{log} {size}")).collect();
    let removed = match pass.notes_removed {
        0 => String::new(),
        removed => format!(", {removed} dropped notes removed"),
    };
    format!("{} entries, {} files, {} bytes{removed}; now {}", pass.entries, pass.files, pass.bytes, logs.join(", "))
}

fn table(pass: &Pass) -> FieldList {
    let logs: Vec<String> = pass.logs.iter().map(|(log, size)| format!("{log}: {size} entries")).collect();
    let mut lines = vec![
        ("copied", format!("{} entries in {} files, {} bytes", pass.entries, pass.files, pass.bytes)),
        ("manifest", format!("version {}", pass.version)),
        ("logs", logs.join("\n")),
    ];
    if pass.notes_missing > 0 {
        lines.push(("missing", format!("{} notes that the source does not have", pass.notes_missing)));
    }
    if pass.notes_dropped > 0 {
        let (all, removed) = (pass.notes_dropped, pass.notes_removed);
        lines.push(("dropped", format!("{all} in all, {removed} removed just now")));
    }
    FieldList(lines)
}
