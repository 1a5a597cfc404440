//! `fama export --ranges`: entries with their bytes in files by log and range, which later exports continue.
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fama_ledger::id::Hex;
use fama_ledger::join::LogState;
use fama_ledger::log::leaf_hash;
use fama_reader::error::ReadError;
use fama_reader::export::{LogRanges, ranges};
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::Field;

use super::commands::command;
use super::served::EncodedLogs;
use super::*;
use crate::federation::multi;
use crate::properties::write_history;

/// Indexes of a file here: the first log of the story has seven files.
const SIZE: u64 = 100;
/// How many entries an earlier export lacks of the first log: three batches, from one file into the next.
const EARLIER: usize = 115;

/// Audits `folder` into `store`, and writes what is new.
fn export(folder: &Folder, store: &Path, to: &Path) -> Result<Vec<LogRanges>, ReadError> {
    let sources: Vec<Box<dyn PublicFiles>> = vec![Box::new(folder.clone())];
    let mut hooks = Hooks { progress: &mut |_, _| {}, watch: &mut |_, _, _, _| {} };
    let (report, store) = run(&sources, None, store, &mut hooks).unwrap();
    assert_eq!(report.findings, []);
    let logs: Vec<LogState> = report.logs.into_iter().map(|log| log.state).collect();
    ranges(&store, &logs, to, SIZE, &mut |_, _| {})
}

/// The files of an export by their paths below it, with their bytes.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![dir.to_owned()]);
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(dir).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// All rows of Parquet files, as texts by the names of their columns; null is left out.
pub(super) fn parquet_rows(paths: &[PathBuf]) -> Vec<BTreeMap<String, String>> {
    let text = |field: &Field| match field {
        Field::Null => None,
        Field::Str(text) => Some(text.clone()),
        Field::Bytes(bytes) => Some(Hex(bytes.data()).to_string()),
        Field::TimestampMillis(millis) => Some(Millis(*millis as u64).to_string()),
        other => Some(other.to_string()),
    };
    let mut all = Vec::new();
    for path in paths {
        let reader = SerializedFileReader::new(fs::File::open(path).unwrap()).unwrap();
        for row in reader.get_row_iter(None).unwrap() {
            let row = row.unwrap();
            let cells = row.get_column_iter().filter_map(|(name, field)| Some((name.clone(), text(field)?)));
            all.push(cells.collect());
        }
    }
    all
}

/// All rows of one log in the order of its files.
fn rows(dir: &Path, log: &LogId) -> Vec<BTreeMap<String, String>> {
    let folder = format!("entries/log={}/generation={}", log.operator, log.generation);
    let paths = files(dir).into_keys().filter(|path| path.starts_with(&folder)).map(|path| dir.join(path));
    parquet_rows(&paths.collect::<Vec<_>>())
}

/// The rows of the table of entries of the same source, in the same form.
fn table(folder: &Folder) -> BTreeMap<String, Vec<BTreeMap<String, String>>> {
    let dir = TempDir::new().unwrap();
    let sources: Vec<Box<dyn PublicFiles>> = vec![Box::new(folder.clone())];
    let mut entries = EntryTable::create(dir.path(), TableFormat::Jsonl).unwrap();
    let mut watch = |log: &LogId, index: u64, entry: &VerifiedEntry, outcome: Option<&Outcome>| {
        entries.take(log, index, entry, outcome);
    };
    let mut hooks = Hooks { progress: &mut |_, _| {}, watch: &mut watch };
    let (report, _) = run(&sources, None, &dir.path().join("store"), &mut hooks).unwrap();
    assert_eq!(report.findings, []);
    let (mut tables, table) = (BTreeMap::<String, Vec<_>>::new(), entries.finish().unwrap().0.finish().unwrap());
    for line in fs::read_to_string(table).unwrap().lines() {
        let row: BTreeMap<String, Value> = serde_json::from_str(line).unwrap();
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let mut row: BTreeMap<String, String> =
            row.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.clone(), text(value))).collect();
        tables.entry(row.remove("log").unwrap()).or_default().push(row);
    }
    tables
}

/// Whether the files of `to` are the table's rows with the logs' bytes.
fn same_as_the_table(folder: &Folder, logs: &EncodedLogs, to: &Path) {
    let table = table(folder);
    for (log, entries) in logs {
        let (mut rows, table) = (rows(to, log), &table[&log.to_string()]);
        assert_eq!((rows.len(), table.len()), (entries.len(), entries.len()), "{log}");
        for ((row, wanted), entry) in rows.iter_mut().zip(table).zip(entries) {
            assert_eq!(row.remove("entry").unwrap(), Hex(entry).to_string());
            assert_eq!(row.remove("leaf").unwrap(), Hex(&leaf_hash(entry)).to_string());
            if row.get("outcome").is_some_and(|outcome| outcome == "repeated") {
                row.insert("outcome".to_owned(), wanted["outcome"].clone());
                assert_ne!(wanted["outcome"], "applied");
            }
            assert_eq!(row, wanted, "{log}");
        }
    }
}

#[test]
fn files_by_range_are_the_table_of_entries_with_its_bytes() {
    let manifest = federation(4, |_| {});
    let story = story(&manifest);
    let (dir, folder) = (TempDir::new().unwrap(), story.folder("a mirror"));
    let to = dir.path().join("lake");
    let written = export(&folder, &dir.path().join("store"), &to).unwrap();
    same_as_the_table(&folder, &story.logs(), &to);
    let first = written.iter().find(|one| one.log == log(0)).unwrap();
    assert_eq!((first.files, first.written), (first.entries.div_ceil(SIZE), first.files));
    assert!(first.files > 3);
    let one = Path::new("entries/log=alpha.example/generation=1/000000000100-000000000199.parquet");
    assert!(files(&to).contains_key(one));
    assert!(files(&to).keys().all(|path| path.extension().unwrap() == "parquet"));

    // Random histories have events of every kind, and void ones.
    for ops in crate::auditor::recorded(4) {
        let manifest = federation(4, crate::properties::policy);
        let live = write_history(&manifest, &ops).live;
        let (dir, folder) = (TempDir::new().unwrap(), folder_of(&manifest, &live));
        export(&folder, &dir.path().join("store"), &dir.path().join("lake")).unwrap();
        same_as_the_table(&folder, &logs_of(&live), &dir.path().join("lake"));
    }
}

/// The public files of a replica in memory.
pub(super) fn folder_of(manifest: &Manifest, live: &MemoryReplica<'_>) -> Folder {
    let mut folder = Folder { name: "a mirror", ..Folder::default() };
    folder.put("manifest/1".to_owned(), manifest.note().to_string().into_bytes());
    logs_of(live).iter().for_each(|(log, entries)| folder.log(manifest, log, entries, 3));
    folder
}

/// The encoded entries of every log that has some.
fn logs_of(live: &MemoryReplica<'_>) -> EncodedLogs {
    let bytes = |entries: &[VerifiedEntry]| entries.iter().map(|entry| entry.bytes().to_vec()).collect();
    let begun = live.logs.iter().filter(|(_, mirror)| !mirror.entries.is_empty());
    begun.map(|(log, mirror)| (log.clone(), bytes(&mirror.entries))).collect()
}

/// A reader counts each entry once at any time, so files that are whole stay, and the last is replaced at once. After a
/// crash at any line there is a part of what an export writes, and at most one temporary file; the next export completes
/// it, whether or not the audit is still there.
#[test]
fn an_export_continues_where_an_earlier_one_ended_or_crashed() {
    let manifest = federation(4, |_| {});
    let story = story(&manifest);
    let dir = TempDir::new().unwrap();
    let (to, store) = (dir.path().join("lake"), dir.path().join("store"));
    let earlier = story.earlier(story.logs()[&log(0)].len() - EARLIER);
    export(&story.folder_of("earlier", &earlier), &store, &to).unwrap();
    let inode = |path: &Path| fs::metadata(to.join(path)).unwrap().ino();
    let before: BTreeMap<PathBuf, u64> = files(&to).into_keys().map(|path| (path.clone(), inode(&path))).collect();
    let whole = story.folder("whole");
    let written: u64 = export(&whole, &store, &to).unwrap().iter().map(|log| log.written).sum();
    let changed: Vec<&PathBuf> =
        before.iter().filter(|(path, was)| inode(path) != **was).map(|(path, _)| path).collect();
    assert_eq!((written, changed.len()), (2, 1), "{changed:?} replaced");
    same_as_the_table(&whole, &story.logs(), &to);
    let again: u64 = export(&whole, &store, &to).unwrap().iter().map(|log| log.written).sum();
    assert_eq!(again, 0);

    let wanted = files(&to);
    let audit_is_lost = |crashed: usize| {
        if crashed.is_multiple_of(3) { dir.path().join(format!("store {crashed}")) } else { store.clone() }
    };
    for crashed in 0..=wanted.len() {
        let to = dir.path().join(format!("crashed {crashed}"));
        for (path, bytes) in wanted.iter().take(crashed) {
            fs::create_dir_all(to.join(path).parent().unwrap()).unwrap();
            fs::write(to.join(path), bytes).unwrap();
        }
        if let Some(path) = wanted.keys().nth(crashed) {
            let path = to.join(path);
            let (folder, name) = (path.parent().unwrap(), path.file_name().unwrap().to_str().unwrap());
            fs::create_dir_all(folder).unwrap();
            fs::write(folder.join(format!("_{}.part", &name[..12])), "PAR1 half a file").unwrap();
        }
        export(&whole, &audit_is_lost(crashed), &to).unwrap();
        assert!(files(&to) == wanted, "after a crash at file {crashed}");
    }
}

#[test]
fn files_of_another_history_are_refused_and_stay() {
    let manifest = federation(4, |_| {});
    let story = story(&manifest);
    let common = story.logs()[&log(0)].len() - 64;
    let (one, two) = branches(&story, common);
    assert!(one[&log(0)].len() > two[&log(0)].len() && two[&log(0)].len() > common);
    let dir = TempDir::new().unwrap();
    let (mut audits, to) = (0, dir.path().join("lake"));
    // Each with an audit of its own: a kept one finds both by itself.
    let mut refused = |logs: &EncodedLogs, to: &Path, expect: &str| {
        let before = files(to);
        audits += 1;
        let audit = dir.path().join(format!("store {audits}"));
        let refused = export(&story.folder_of("a mirror", logs), &audit, to).unwrap_err();
        assert_eq!(refused.code(), expect, "{refused}");
        assert!(files(to) == before, "nothing is touched");
    };
    export(&story.folder_of("a mirror", &one), &dir.path().join("store"), &to).unwrap();
    refused(&story.earlier(common), &to, "behind");
    refused(&two, &to, "behind");
    let other = dir.path().join("the other branch");
    export(&story.folder_of("a mirror", &two), &dir.path().join("other store"), &other).unwrap();
    refused(&one, &other, "conflict");
    // A file of another range, whose entries would count twice.
    let folder = to.join("entries/log=alpha.example/generation=1");
    fs::copy(folder.join("000000000000-000000000099.parquet"), folder.join("000000000000-000000000009.parquet"))
        .unwrap();
    refused(&one, &to, "conflict");
}

#[test]
fn the_command_adds_what_is_new() {
    multi(async {
        let manifest = federation(4, |_| {});
        let story = story(&manifest);
        let dir = TempDir::new().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let earlier = story.earlier(story.logs()[&log(0)].len() - EARLIER);
        let earlier = story.folder_of("earlier", &earlier).write(&dir.path().join("earlier"));
        let whole = story.folder("whole").write(&dir.path().join("whole"));
        let export = async |from: &str, format: &str| {
            let args = ["export", "--from", from, "--format", format, "--ranges", "--to", &path("lake")];
            command(args.map(str::to_owned).to_vec()).await
        };
        let (done, said) = export(&earlier, "csv").await;
        assert_eq!((done, &said["code"]), (false, &"format".into()), "{said}");
        let (done, said) = export(&earlier, "parquet").await;
        assert_eq!((done, said["logs"].as_array().map(Vec::len)), (true, Some(4)), "{said}");
        let (done, said) = export(&whole, "parquet").await;
        let written = |said: &Value| {
            said["logs"].as_array().unwrap().iter().map(|log| log["written"].as_u64().unwrap()).sum::<u64>()
        };
        assert_eq!((done, written(&said), &said["audit"]["entries"]), (true, 1, &EARLIER.into()), "{said}");
        let (done, said) = export(&whole, "parquet").await;
        assert_eq!((done, written(&said)), (true, 0), "{said}");
        let (done, said) = export(&earlier, "parquet").await;
        assert_eq!((done, &said["code"]), (false, &"audit_failed".into()), "{said}");
    });
}
