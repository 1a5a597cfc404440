//! `fama restore`: puts a backup of a node's data into a new folder.
use std::path::PathBuf;
use std::sync::Arc;

use fama_node::store::Store;
use fama_reader::backup::{self, BackupRecord};
use fama_reader::bucket::Bucket;
use serde_json::{Value, json};

use super::backup::logs;
use super::check;
use crate::failure::Failure;
use crate::progress;
use crate::terminal::{FieldList, Terminal};

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Examples:
  fama restore --from /mnt/backups/alpha --list
  fama restore --from /mnt/backups/alpha --to demo/alpha.example/data
  fama restore --from s3://my-bucket/alpha --at 20261128T191333000Z --to /var/lib/fama/data --check

Every file is checked against its hash, then records, last entries and trees of all logs. --check
replays every entry and checks every signature, as `fama check` does: do that where others could
write to the place. A node that starts with a backup first asks the other operators what it signed
since, and signs nothing before it has fetched that. Never run two nodes with one node.pem.
The variables for s3:// are those of `fama publish`.";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where `fama backup` put the backups: a folder, or s3://bucket/prefix
    #[arg(long, value_name = "PLACE")]
    from: String,
    /// The data folder to restore into: a new or an empty one
    #[arg(long, value_name = "DATA_DIR", required_unless_present = "list", conflicts_with = "list")]
    to: Option<PathBuf>,
    /// The backup to restore; without it, the newest
    #[arg(long, value_name = "ID", conflicts_with = "list")]
    at: Option<String>,
    /// Also replay every entry and check every signature
    #[arg(long, conflicts_with = "list")]
    check: bool,
    /// Show the finished backups
    #[arg(long)]
    list: bool,
}

/// Restores a backup, or lists all.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let from = Bucket::open(&args.from)?;
    let Some(to) = args.to.as_ref().filter(|_| !args.list) else { return list(&from, terminal) };
    let bar = progress::bytes("restoring");
    let restored = backup::restore(&from, args.at.as_deref(), to, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let record = restored?;
    if args.check {
        let store = Store::open_read_only(to).map_err(|error| Failure::new(error.code(), error))?;
        let manifest = Arc::clone(store.manifest());
        drop(store);
        check::check_restored(to, &manifest)?;
    }
    let mut json = record.summary();
    (json["to"], json["checked"]) = (json!(to), json!(if args.check { "all" } else { "quick" }));
    terminal.answer(&json, table(&record, args, &to.display().to_string()))
}

fn list(from: &Bucket, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let records = backup::list(from)?;
    let shown: Vec<Value> = records.iter().map(BackupRecord::summary).collect();
    let lines = records.iter().flat_map(|record| {
        let of = record.operator.as_deref().unwrap_or("a mirror");
        let what = format!("{} of {of}, {} files, {} bytes", record.id, record.files.len(), record.bytes());
        std::iter::once(("backup", what)).chain(logs(record))
    });
    let lines: Vec<_> = lines.collect();
    let none = vec![("backups", format!("none in {}", from.name()))];
    terminal.answer(&json!({"backups": shown}), FieldList(if lines.is_empty() { none } else { lines }))
}

fn table(record: &BackupRecord, args: &Args, to: &str) -> FieldList {
    let checked = if args.check {
        "every file, entry, signature, tree, state root, row and index is correct"
    } else {
        "every file by its hash; records, last entries and trees of all logs"
    };
    let next = match (record.operators, &record.operator) {
        (0 | 1, _) => {
            "set data_dir and start the node. There is no other operator: whatever it signed after this backup is \
             lost,\nand readers who saw that will see two histories"
        }
        (_, Some(_)) => {
            "set data_dir and start the node. It asks the other operators what it signed since, and fetches what it \
             lacks,\nbefore it signs anything"
        }
        (_, None) => "set data_dir and start the node. It fetches what it lacks",
    };
    let operator = record.operator.clone().unwrap_or_else(|| "none: a mirror".to_owned());
    let mut lines = vec![
        ("restored", format!("{} to {to}", record.id)),
        ("operator", operator),
        ("federation", format!("{} {}", record.name, record.federation)),
        ("manifest", format!("version {}", record.version)),
    ];
    lines.extend(logs(record));
    lines.extend([("checked", checked.to_owned()), ("next", next.to_owned())]);
    FieldList(lines)
}
