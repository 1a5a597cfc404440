//! `fama check`: compares a data folder with what its entries give when replayed.
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fama_ledger::manifest::Manifest;
use fama_node::replay::check::{CheckFinding, CheckReport, check};
use fama_node::store::{REPAIR_ENDINGS, Store, StoreError};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::files;
use crate::progress;
use crate::terminal::{FieldList, Terminal};

const REBUILT: &str = REPAIR_ENDINGS[0];
const KEPT: &str = REPAIR_ENDINGS[1];
/// Suffix of the folder with a copy of the data. The check works on the copy, so it never changes the data.
const COPIED: &str = ".copied";

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Example, with the node stopped:
  fama check --config demo/alpha.example/node.toml
  fama check --config demo/alpha.example/node.toml --repair

Reads every entry, checks every signature, replays everything into a folder next to the data, and
compares tree, state, indexes, signed heads and notes. This needs as much disk space as the data
once more. The data itself is not changed; --repair keeps it, too, next to its replacement.
Exit codes: 0 the data is correct (or was repaired), 1 it is damaged.";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The configuration of the node
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Replace damaged data with the rebuilt data; the damaged is kept next to it, and peers supply what is missing
    #[arg(long)]
    repair: bool,
}

/// Rebuilds a data folder from its entries and compares.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let config = fama_node::node::configured(&args.config)?;
    let data = &config.data_dir;
    if !Store::is_there(data) {
        return Err(Failure::new("no_data", format!("{} holds no data", data.display())));
    }
    let (folder, copy) = (SiblingFolder::new(data, REBUILT)?, SiblingFolder::new(data, COPIED)?);
    let mut report = CheckReport::default();
    let original = match Store::open_copy(data, &copy.0, &config.manifest) {
        Err(StoreError::Database { message, .. }) if args.repair => {
            report.findings.push(CheckFinding { log: None, code: "database", what: message });
            Store::open_damaged(data, &copy.0, &config.manifest).map(|(store, unreadable)| {
                report.findings.extend(unreadable.into_iter().map(not_read));
                store
            })
        }
        opened => opened,
    };
    let original = original.map_err(|error| Failure::new(error.code(), error))?;
    let rebuilt = rebuild(&config.manifest, original, &folder.0)?;
    report.findings.extend(rebuilt.findings);
    report.logs = rebuilt.logs;
    if report.findings.is_empty() {
        return terminal.answer(&json!({"ok": true, "report": shown(&report)}), table(&report));
    }
    for finding in &report.findings {
        let log = finding.log.as_ref().map_or_else(String::new, |log| format!("{log}: "));
        terminal.say(format!("{log}{} ({})", finding.what, finding.code));
    }
    if args.repair {
        let kept = replace(data, &folder)?;
        let people = format!(
            "repaired; the damaged data is kept in {}; start the node: peers supply what is missing",
            kept.display()
        );
        return terminal.answer(&json!({"ok": true, "kept": kept, "report": shown(&report)}), people);
    }
    let message = format!("{} differs from what its entries give: {} findings", data.display(), report.findings.len());
    let mut failure =
        Failure::new("damaged", message).hint("run the same command with --repair; keep a copy of the folder");
    failure = failure.achieved("report", shown(&report));
    Err(failure)
}

/// Checks a folder without its configuration, and repairs nothing: what `fama restore` put there.
///
/// # Errors
/// `damaged` with the findings; those of the folder.
pub(super) fn check_restored(data: &Path, manifest: &Arc<Manifest>) -> Result<(), Failure> {
    let (folder, copy) = (SiblingFolder::new(data, REBUILT)?, SiblingFolder::new(data, COPIED)?);
    let original = Store::open_copy(data, &copy.0, manifest).map_err(|error| Failure::new(error.code(), error))?;
    let report = rebuild(manifest, original, &folder.0)?;
    if report.findings.is_empty() {
        return Ok(());
    }
    let message = format!("{} differs from what its entries give: {} findings", data.display(), report.findings.len());
    let hint = "restore another backup, or run `fama check --repair`, which keeps what is correct";
    Err(Failure::new("damaged", message).hint(hint).achieved("report", shown(&report)))
}

/// Replays the original into `folder` and compares. Both stores are closed when this returns.
fn rebuild(manifest: &Arc<Manifest>, original: Store, folder: &Path) -> Result<CheckReport, Failure> {
    let store = |error: fama_node::store::StoreError| Failure::new(error.code(), error);
    let mut rebuilt = Store::open(folder, manifest).map_err(store)?;
    let unreadable = rebuilt.take_governance(&original).map_err(store)?;
    let bar = progress::bar(0, "checking");
    let report = check(&original, &rebuilt, original.manifest(), &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    drop(original);
    let mut report = report.map_err(|error| Failure::new(error.code(), error))?;
    report.findings.extend(unreadable.into_iter().map(not_read));
    Ok(report)
}

const fn not_read(what: String) -> CheckFinding {
    CheckFinding { log: None, code: "unreadable", what }
}

/// A new folder next to the data; dropping it deletes the folder, unless it was renamed to replace the data.
struct SiblingFolder(PathBuf);

impl SiblingFolder {
    fn new(data: &Path, ending: &str) -> Result<Self, Failure> {
        let path = sibling(data, ending);
        if path.exists() {
            let failure = Failure::new("file_exists", format!("{} already exists", path.display()));
            return Err(failure.hint("an earlier check left it behind: remove it"));
        }
        Ok(Self(path))
    }
}

impl Drop for SiblingFolder {
    fn drop(&mut self) {
        // A folder that cannot be removed is reported by the next check.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn sibling(data: &Path, ending: &str) -> PathBuf {
    let mut name = data.file_name().map_or_else(OsString::new, OsString::from);
    name.push(ending);
    data.with_file_name(name)
}

/// Replaces the data with two renames. After a crash between them the data folder is missing: a node then refuses to
/// start, and says what to rename.
fn replace(data: &Path, folder: &SiblingFolder) -> Result<PathBuf, Failure> {
    Store::check_unused(data).map_err(|error| Failure::new(error.code(), error))?;
    let system = |error: std::io::Error| Failure::new("file", format!("{}: {error}", data.display()));
    let kept = (1..).map(|n| sibling(data, &format!("{KEPT}{n}"))).find(|path| !path.exists());
    let kept = kept.ok_or_else(|| Failure::new("file_exists", "no unused name for the damaged data"))?;
    fs::rename(data, &kept).map_err(system)?;
    if let Err(error) = fs::rename(&folder.0, data) {
        fs::rename(&kept, data).map_err(|_| {
            let lost = Failure::new("file", format!("{}: {error}", data.display()));
            lost.hint(format!("rename {} to it", kept.display()))
        })?;
        return Err(system(error));
    }
    files::sync_folder(data).map_err(system)?;
    Ok(kept)
}

fn shown(report: &CheckReport) -> Value {
    let logs: Vec<Value> =
        report.logs.iter().map(|(log, size)| json!({"log": log.to_string(), "entries": size})).collect();
    let finding = |finding: &CheckFinding| json!({"log": finding.log.as_ref().map(ToString::to_string), "code": finding.code, "what": finding.what});
    let findings: Vec<Value> = report.findings.iter().map(finding).collect();
    json!({"logs": logs, "findings": findings})
}

fn table(report: &CheckReport) -> FieldList {
    let mut lines = vec![("checked", "every entry, signature, tree, state root, row and index is correct".to_owned())];
    lines.extend(report.logs.iter().map(|(log, size)| ("log", format!("{log}: {size} entries"))));
    FieldList(lines)
}
