//! `fama check`: compares a data folder with what its entries give when replayed.
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
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
once more. The data itself is not changed; --repair keeps it, too, next to its replacement. Where
nothing can be put next to the data, as with a mount point, all this is done within the folder;
--work names another place for it.
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
    /// The folder to work in [default: next to the data folder, or in it if it is a mount point or a link]
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
}

/// Rebuilds a data folder from its entries and compares.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let config = fama_node::node::configured(&args.config)?;
    let data = &config.data_dir;
    if Store::is_half_swapped(data) {
        return finish(data, args, terminal);
    }
    if !Store::is_there(data) {
        return Err(Failure::new("no_data", format!("{} holds no data", data.display())));
    }
    let work = Workplace::choose(data, args.work.as_deref(), args.repair)?;
    let (folder, copy) = (&work.rebuilt, &work.copied);
    let failed = |error: StoreError| Failure::new(error.code(), error);
    let salvage = || -> Result<CheckReport, Failure> {
        let (store, unreadable) = Store::open_damaged(data, &copy.0, &config.manifest).map_err(failed)?;
        let mut report = rebuild(&config.manifest, store, &folder.0)?;
        report.findings.splice(0..0, unreadable.into_iter().map(not_read));
        Ok(report)
    };
    let report = match Store::open_copy(data, &copy.0, &config.manifest) {
        Err(StoreError::Database { message, .. }) if args.repair => {
            let mut report = salvage()?;
            report.findings.insert(0, CheckFinding { log: None, code: "database", what: message });
            report
        }
        opened => {
            let report = rebuild(&config.manifest, opened.map_err(failed)?, &folder.0)?;
            // RocksDB's list of files may be that of an earlier time, and the files that it lacks may have the rest.
            if args.repair && report.findings.iter().any(|finding| finding.code == "unreadable") {
                std::fs::remove_dir_all(&folder.0).map_err(|error| swap_failed(data, &error))?;
                salvage()?
            } else {
                report
            }
        }
    };
    if report.findings.is_empty() {
        return terminal.answer(&json!({"ok": true, "report": shown(&report)}), table(&report));
    }
    for finding in &report.findings {
        let log = finding.log.as_ref().map_or_else(String::new, |log| format!("{log}: "));
        terminal.say(format!("{log}{} ({})", finding.what, finding.code));
    }
    if args.repair {
        let kept = work.replace(data)?;
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
    let work = Workplace::choose(data, None, false)?;
    let (folder, copy) = (&work.rebuilt, &work.copied);
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

/// Ends a repair within the folder that was interrupted.
fn finish(data: &Path, args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    if !args.repair {
        let message = format!("{}: a repair was interrupted", data.display());
        return Err(Failure::new("store_half_repaired", message).hint("run the same command with --repair"));
    }
    Store::check_unused(data).map_err(|error| Failure::new(error.code(), error))?;
    let kept = Store::swap(data).map_err(|error| swap_failed(data, &error))?;
    let people = format!("finished the repair that was interrupted; the damaged data is kept in {}", kept.display());
    terminal.answer(&json!({"ok": true, "kept": kept}), people)
}

fn swap_failed(data: &Path, error: &std::io::Error) -> Failure {
    let hint = if Store::is_half_swapped(data) { "run the same command again: it continues" } else { WORK_HINT };
    Failure::new("file", format!("{}: {error}", data.display())).hint(hint)
}

const WORK_HINT: &str = "--work DIR names a folder that can be written; to repair, so must the data folder be";

/// Where a check works, found out before it begins.
struct Workplace {
    copied: ScratchFolder,
    rebuilt: ScratchFolder,
    /// Whether a repair replaces the data folder, rather than the files in it.
    whole: bool,
}

impl Workplace {
    fn choose(data: &Path, work: Option<&Path>, repair: bool) -> Result<Self, Failure> {
        let writable = |folder: &Path| {
            let tried = tempfile::Builder::new().prefix("fama-check").tempdir_in(folder);
            tried.map_err(|error| Failure::new("file", format!("{}: {error}", folder.display())).hint(WORK_HINT))
        };
        let parent = data.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let (base, whole) = match work {
            Some(work) => {
                files::create_folder(work)?;
                writable(work)?;
                (work.join(data.file_name().unwrap_or("data".as_ref())), false)
            }
            None if !is_fixed(data) && writable(parent).is_ok() => (data.to_owned(), true),
            None => (data.join(WITHIN), false),
        };
        if !whole && (repair || work.is_none()) {
            writable(data)?;
        }
        let rebuilt = if whole || work.is_some() { sibling(&base, REBUILT) } else { Store::rebuilt_within(data) };
        Ok(Self { rebuilt: ScratchFolder::new(rebuilt)?, copied: ScratchFolder::new(sibling(&base, COPIED))?, whole })
    }

    /// Puts the rebuilt data in the place of the damaged. Returns where those are kept.
    fn replace(&self, data: &Path) -> Result<PathBuf, Failure> {
        if self.whole {
            return replace(data, &self.rebuilt);
        }
        Store::check_unused(data).map_err(|error| Failure::new(error.code(), error))?;
        let within = Store::rebuilt_within(data);
        if self.rebuilt.0 != within {
            bring(&self.rebuilt.0, &within).map_err(|error| swap_failed(data, &error))?;
        }
        Store::swap(data).map_err(|error| swap_failed(data, &error))
    }
}

/// The name of the copy within the data folder.
const WITHIN: &str = "check";

/// Moves a folder of files, to another file system too.
fn bring(from: &Path, to: &Path) -> std::io::Result<()> {
    if to.exists() {
        // Of a repair that was interrupted before anything was replaced.
        fs::remove_dir_all(to)?;
    }
    if fs::rename(from, to).is_ok() {
        return Ok(());
    }
    fs::create_dir(to)?;
    for file in fs::read_dir(from)? {
        let (file, name) = file.map(|file| (file.path(), file.file_name()))?;
        if file.is_file() {
            fs::copy(&file, to.join(&name))?;
            fs::File::open(to.join(name))?.sync_all()?;
        }
    }
    fs::File::open(to)?.sync_all()
}

/// Whether a folder cannot or should not be renamed: a mount point, or a link to the folder.
fn is_fixed(folder: &Path) -> bool {
    let Ok(real) = fs::canonicalize(folder) else { return false };
    let device = |path: &Path| fs::metadata(path).map(|found| found.dev()).ok();
    let mounted = real.parent().is_some_and(|parent| device(parent) != device(&real));
    // Part of a file system may be mounted within the same one.
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let listed =
        table.lines().filter_map(|line| line.split(' ').nth(4)).any(|at| unescape(at) == real.as_os_str().as_bytes());
    folder.is_symlink() || mounted || listed
}

/// The table of mounts writes space, tab, newline and backslash as a backslash and three octal digits.
fn unescape(text: &str) -> Vec<u8> {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                plain.push(byte);
                plain.extend_from_slice(part.as_bytes().get(3..).unwrap_or_default());
            }
            None => plain.extend_from_slice(part.as_bytes()),
        }
    }
    plain
}

/// A new folder; dropping it deletes the folder, unless it was renamed to replace the data.
struct ScratchFolder(PathBuf);

impl ScratchFolder {
    fn new(path: PathBuf) -> Result<Self, Failure> {
        if path.exists() {
            let failure = Failure::new("file_exists", format!("{} already exists", path.display()));
            return Err(failure.hint("an earlier check left it behind: remove it"));
        }
        Ok(Self(path))
    }
}

impl Drop for ScratchFolder {
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
fn replace(data: &Path, folder: &ScratchFolder) -> Result<PathBuf, Failure> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_not_renamed() {
        assert_eq!(unescape("/a\\040b\\134c"), b"/a b\\c");
        let dir = tempfile::tempdir().unwrap();
        let (data, link) = (dir.path().join("data"), dir.path().join("link"));
        fs::create_dir(&data).unwrap();
        std::os::unix::fs::symlink(&data, &link).unwrap();
        assert!(is_fixed(Path::new("/proc")) && is_fixed(&link) && !is_fixed(&data));
    }
}
