//! `fama backup`: copies a node's data to a folder or bucket while the node runs.
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fama_node::clock;
use fama_node::config::Config;
use fama_node::store::{self, BackupLock, Store, StoreError};
use fama_reader::backup::{self, BackupOptions, BackupRecord, MadeBackup};
use fama_reader::bucket::Bucket;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::progress;
use crate::query::Query;
use crate::terminal::{FieldList, Terminal};

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Examples, on the node's machine and as its user:
  fama backup --config demo/alpha.example/node.toml --to /mnt/backups/alpha
  AWS_REGION=eu-central-1 fama backup --config node.toml --to s3://my-bucket/alpha --keep 30

A running node is asked over its admin listener for a checkpoint: links to its files, made at one
moment. Without a running node the data folder is opened. Files that the place already has are not
copied again. Every new file is read back and checked; the backup exists once all of them are there.
Older backups than --keep are removed, and the files that only they had.
No key is in a backup: keep node.pem, node.toml and manifest.txt apart. One place is for one node.
The variables for s3:// are those of `fama publish`.";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The configuration of the node
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// A folder, or s3://bucket/prefix
    #[arg(long, value_name = "PLACE")]
    to: String,
    /// How many backups to keep, the new one included
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    keep: u32,
    /// Read back also the files that the place already had, and copy those again that are damaged
    #[arg(long)]
    read_all: bool,
    /// The node's admin listener [default: as the configuration says]
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
}

/// Whether a place is the data folder or below it.
fn is_within(place: &str, data: &Path) -> bool {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| absolute(path));
    whole(Path::new(place)).starts_with(whole(data))
}

/// Makes a backup.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let config = fama_node::node::configured(&args.config)?;
    let data = &config.data_dir;
    if !Store::is_there(data) {
        return Err(Failure::new("no_data", format!("{} holds no data", data.display())));
    }
    let lock = BackupLock::take(data).map_err(|error| folder_failed(data, &error))?;
    let Some(_lock) = lock else {
        return Err(Failure::new("backup_running", format!("another backup of {} is running", data.display())));
    };
    if is_within(&args.to, data) {
        let message = format!("{} is in the data folder: a lost disk would take the backup with it", args.to);
        return Err(Failure::new("backup_place", message).hint("name another disk, or a bucket"));
    }
    let to = Bucket::create(&args.to)?;
    let checkpoint = Checkpoint::make(&config, args.admin.as_deref())?;
    let options = BackupOptions { keep: usize::try_from(args.keep).unwrap_or(usize::MAX), read_all: args.read_all };
    let bar = progress::bytes("backing up");
    let made = backup::make(
        &store::checkpoint_folder(data),
        &to,
        config.operator.as_ref(),
        (clock::now(), options),
        &mut |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        },
    );
    bar.finish_and_clear();
    checkpoint.end(made.is_ok(), terminal);
    let made = made.map_err(|error| hinted(error.into(), &args.to))?;
    if let Some(reason) = &made.not_removed {
        terminal.say(format!("the backup is finished, but older ones were not removed: {reason}"));
    }
    terminal.answer(&shown(&made, &args.to), table(&made, &args.to))
}

/// Where files fail, the cause is most often at the place.
fn hinted(failure: Failure, to: &str) -> Failure {
    match failure.code.as_str() {
        "file" => failure.hint(format!("is there space in {to}, and may this user write there?")),
        _ => failure,
    }
}

fn folder_failed(data: &Path, error: &std::io::Error) -> Failure {
    let failure = Failure::new("file", format!("{}: {error}", data.display()));
    failure.hint("run this as the node's own user, like `runuser -u fama -- fama backup …`")
}

/// Refuses to open a database of another user: the files that this makes there would not be that user's, and the node
/// could not start any more.
fn check_user(data: &Path) -> Result<(), Failure> {
    let user = |path: &Path| fs::metadata(path).map(|about| about.uid());
    match (user(data), user(Path::new("/proc/self"))) {
        (Ok(owner), Ok(ours)) if owner != ours => {
            let message = format!("{} belongs to another user, and no node runs", data.display());
            let hint = "run this as the node's own user, like `runuser -u fama -- fama backup …`, or start the node";
            Err(Failure::new("other_user", message).hint(hint))
        }
        _ => Ok(()),
    }
}

/// A checkpoint in the data folder, and who removes it.
enum Checkpoint {
    /// A running node made it.
    Node(Query),
    /// This process made it, with the node stopped.
    Here(PathBuf),
}

impl Checkpoint {
    fn make(config: &Config, admin: Option<&str>) -> Result<Self, Failure> {
        let data = &config.data_dir;
        let unused = Store::check_unused(data);
        if unused.is_ok() {
            check_user(data)?;
        }
        // Closed before anything is copied, so a node may start meanwhile. It leaves the checkpoint alone.
        match unused.and_then(|()| Store::open(data, &config.manifest)).and_then(|store| store.checkpoint()) {
            Ok(_) => return Ok(Self::Here(data.clone())),
            Err(StoreError::Locked { .. }) => {}
            Err(error) => return Err(Failure::new(error.code(), error)),
        }
        if admin.is_none() && !config.admin.enabled {
            let failure = Failure::new("no_admin", "the node runs, and its admin listener is off");
            return Err(failure.hint("set `enabled = true` under [admin], or stop the node for the backup"));
        }
        let url = admin.map_or_else(|| format!("http://{}", config.admin.listen), str::to_owned);
        let node = Query::admin(&url);
        let hint = "the node runs: --admin URL names its admin listener";
        let made = node.post_text(&["backup"], "").map_err(|failure| failure.hint_if_unreachable(hint))?;
        let (theirs, ours) = (made["folder"].as_str().unwrap_or_default(), store::checkpoint_folder(data));
        if fs::canonicalize(&ours).is_ok_and(|ours| ours == Path::new(theirs)) {
            return Ok(Self::Node(node));
        }
        // It is another node's: nothing is known about its backups.
        let _ = node.post_text(&["backup", "end"], "failed");
        let message = format!("the node at {url} has its data in another folder: its checkpoint is {theirs}");
        Err(Failure::new("other_folder", message)
            .hint("run this where the node runs, in its container if it has one, and with its configuration"))
    }

    /// Removes it. What cannot be removed now, the next backup or the next start of the node removes.
    fn end(self, made: bool, terminal: &mut Terminal<'_>) {
        let ended = match self {
            Self::Node(node) => {
                let ended = node.post_text(&["backup", "end"], if made { "made" } else { "failed" });
                ended.map(drop).map_err(|failure| failure.message)
            }
            Self::Here(data) => store::remove_checkpoint(&data).map_err(|error| error.to_string()),
        };
        if let Err(reason) = ended {
            terminal.say(format!("the checkpoint stays until the next backup or start of the node: {reason}"));
        }
    }
}

fn shown(made: &MadeBackup, to: &str) -> Value {
    let mut object = made.record.summary();
    object["to"] = json!(to);
    object["copied"] = json!({"files": made.copied.0, "bytes": made.copied.1});
    object["read_back"] = json!(made.read_back);
    object["removed"] = json!(made.removed);
    object["not_removed"] = json!(made.not_removed);
    object
}

fn table(made: &MadeBackup, to: &str) -> FieldList {
    let MadeBackup { record, copied, read_back, removed, .. } = made;
    let mut lines = vec![
        ("backup", format!("{} in {to}", record.id)),
        ("holds", format!("{} files, {} bytes", record.files.len(), record.bytes())),
        ("copied", format!("{} files, {} bytes; the others were there", copied.0, copied.1)),
        ("checked", format!("{read_back} files read back, all intact")),
    ];
    lines.extend(logs(record));
    if !removed.is_empty() {
        lines.push(("removed", removed.join("\n")));
    }
    FieldList(lines)
}

/// The logs of a backup, a line for each.
pub(super) fn logs(record: &BackupRecord) -> impl Iterator<Item = (&'static str, String)> + '_ {
    record.logs.iter().map(|log| ("log", format!("{}: {} entries, {} final", log.log, log.entries, log.certified)))
}
