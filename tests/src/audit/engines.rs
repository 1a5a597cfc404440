//! The programs in docs/examples/engines: in the files of `fama export --ranges`, Spark and DuckDB find what nodes say.
//!
//! Where their packages or Java are missing, the tests say so and end; with `FAMA_FOREIGN=1` that is a failure.
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::commands::command;
use super::ranges::{folder_of, parquet_rows};
use super::served::{AGENTS, story};
use super::*;
use crate::auditor::histories;
use crate::federation::multi;

/// What runs the rules: their programs, and whether the tests of small things are worth its start of half a minute.
const PROGRAMS: [(&str, bool); 2] = [("duckdb_audit.py", true), ("spark_audit.py", false)];
/// Exit code of what is not covered.
const NOT_COVERED: i32 = 2;

/// The Python with the engines' packages, if this machine has one, and Java.
#[allow(clippy::print_stdout, reason = "a test that shows nothing must say so")]
pub(crate) fn engines_python() -> Option<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let python = crate::papers::root().join(target).join("engines/bin/python3");
    let java = Command::new("java").arg("-version").output().is_ok_and(|output| output.status.success());
    if python.exists() && java {
        return Some(python);
    }
    assert!(std::env::var_os("FAMA_FOREIGN").is_none(), "no {} or no java", python.display());
    println!("skipped: no Spark and DuckDB; `FAMA_FOREIGN=1 .cargo/needs.sh test` and `make wheel` prepare them");
    None
}

/// Runs a Python program; gives its exit code and what it printed.
fn run_python(python: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(python)
        .args(args)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYSPARK_PYTHON", python)
        .env("PYSPARK_SUBMIT_ARGS", "--master local[2] --conf spark.ui.enabled=false pyspark-shell")
        .env("SPARK_LOCAL_IP", "127.0.0.1")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// An engine's verdict about the files in `lake`; `Err` with what it said if it gave none.
fn judge(python: &Path, program: &str, lake: &Path, manifest: &Path, more: &[&str]) -> Result<Value, (i32, String)> {
    let program = crate::papers::root().join("docs/examples/engines").join(program).display().to_string();
    let (lake, manifest) = (lake.display().to_string(), manifest.display().to_string());
    let args = [&[program.as_str(), &lake, "--manifest", &manifest, "--json"][..], more].concat();
    let (code, out, err) = run_python(python, &args);
    let verdict: Value = serde_json::from_str(&out).map_err(|_| (code.unwrap_or(-1), err))?;
    assert_eq!(code, Some(i32::from(verdict["ok"] != true)), "{verdict}");
    Ok(verdict)
}

/// What the engines say differs from what `fama export` says only where this names it otherwise.
fn answers(rows: Vec<BTreeMap<String, String>>, names: &[(&str, &str)]) -> BTreeMap<String, Vec<Option<String>>> {
    let row = |mut row: BTreeMap<String, String>| {
        // The engines keep times as milliseconds, and the two parts of a log's name apart.
        for name in ["key_since", "revoked"] {
            let millis = row.get(name).and_then(|time| time.parse::<u64>().ok());
            millis.map(|millis| row.insert(name.to_owned(), Millis(millis).to_string()));
        }
        if let Some(generation) = row.remove("generation") {
            row.entry("log".to_owned()).and_modify(|log| *log = format!("{log}/{generation}"));
        }
        let cells = names.iter().map(|(ours, theirs)| row.get(*ours).or_else(|| row.get(*theirs)).cloned());
        let cells: Vec<Option<String>> = cells.collect();
        (cells[0].clone().unwrap(), cells[1..].to_vec())
    };
    rows.into_iter().map(row).collect()
}

const IDENTITIES: [(&str, &str); 13] = [
    ("identity", ""),
    ("handle", ""),
    ("home", ""),
    ("name", ""),
    ("key", ""),
    ("key_version", ""),
    ("key_since", ""),
    ("status", ""),
    ("revoked", ""),
    ("revocation_reason", ""),
    ("revoked_by", ""),
    ("karma", ""),
    ("attestations", ""),
];
const ATTESTATIONS: [(&str, &str); 11] = [
    ("event", ""),
    ("log", ""),
    ("index", "idx"),
    ("home", ""),
    ("subject", ""),
    ("provider", ""),
    ("number", ""),
    ("delta", ""),
    ("effective", ""),
    ("retraction", ""),
    ("counted", ""),
];

/// Exports from `source` into `dir`, and checks that both engines come to every row of the exported tables of identities
/// and attestations. Gives the number of identities and of attestations; `None` without the engines.
pub(crate) async fn engines_agree(source: &str, manifest: &Path, dir: &Path) -> Option<(usize, usize)> {
    let python = engines_python()?;
    let path = |name: &str| dir.join(name).display().to_string();
    let export = async |to: &str, more: &[&str]| {
        let to = path(to);
        let args = ["export", "--from", source, "--format", "parquet", "--to", &to];
        let (done, said) = command(args.iter().chain(more).map(ToString::to_string).collect()).await;
        assert!(done, "{said}");
        said
    };
    let said = export("lake", &["--ranges"]).await;
    export("tables", &[]).await;
    let heads = dir.join("export.json");
    fs::write(&heads, said.to_string()).unwrap();
    let wanted = |table: &str, names| answers(parquet_rows(&[dir.join(format!("tables/{table}.parquet"))]), names);
    let identities = wanted("identities", &IDENTITIES[..]);
    let attestations = wanted("attestations", &ATTESTATIONS[..]);
    for (program, _) in PROGRAMS {
        let out = path(&format!("answers of {program}"));
        let more = ["--heads", &heads.display().to_string(), "--out", &out];
        let verdict = tokio::task::block_in_place(|| judge(&python, program, &dir.join("lake"), manifest, &more));
        let verdict = verdict.unwrap_or_else(|(code, said)| panic!("{program} ended with {code}:\n{said}"));
        assert_eq!(verdict["karma"], said["audit"]["karma"], "{program}: {verdict}");
        let found = |table: &str, names| answers(parquet_rows(&parts(&Path::new(&out).join(table))), names);
        assert_eq!(found("identities", &IDENTITIES[..]), identities, "{program}");
        assert_eq!(found("attestations", &ATTESTATIONS[..]), attestations, "{program}");
    }
    Some((identities.len(), attestations.len()))
}

/// The files of a table: one from DuckDB, a folder of them from Spark.
fn parts(table: &Path) -> Vec<PathBuf> {
    if !table.is_dir() {
        return vec![table.with_extension("parquet")];
    }
    let files = fs::read_dir(table).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "parquet")).collect()
}

/// Changes a byte of an entry in a file of an export, with the leaf's hash or without.
const TAMPER: &str = "
import hashlib, sys
import pyarrow.parquet as pq
path, index, at, leaf = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == 'leaf'
table = pq.read_table(path, partitioning=None)
rows = table.to_pylist()
entry = bytearray(rows[index]['entry'])
entry[at] ^= 1
rows[index]['entry'] = bytes(entry)
if leaf:
    rows[index]['leaf'] = hashlib.sha256(b'\\0' + entry).digest()
pq.write_table(table.from_pylist(rows, schema=table.schema), path)
";

/// Each byte is under a signature or a root: what the files' columns say is never believed.
#[test]
fn engines_find_a_changed_byte_and_say_what_they_do_not_judge() {
    let Some(python) = engines_python() else { return };
    multi(async {
        let manifest = federation(4, |_| {});
        let story = story(&manifest);
        let dir = TempDir::new().unwrap();
        let source = story.folder("a mirror").write(&dir.path().join("public"));
        let genesis = dir.path().join("manifest.txt");
        fs::write(&genesis, manifest.note().to_string()).unwrap();
        let agreed = engines_agree(&source, &genesis, dir.path()).await;
        assert_eq!(agreed, Some((AGENTS as usize + 1, 20)));

        let (lake, heads) = (dir.path().join("lake"), dir.path().join("export.json").display().to_string());
        let file = lake.join("entries/log=beta.example/generation=1/000000000000-000000262143.parquet");
        let kept = fs::read(&file).unwrap();
        let entries = &story.logs()[&log(1)];
        let last = (entries.len() - 1).to_string();
        let event = (entries.len() - 2).to_string();
        // An event without its leaf, with it, and the state entry at the end, which nobody's signature is under.
        let changes =
            [(&event, "100", "", "leaf:"), (&event, "100", "leaf", "signature_"), (&last, "20", "leaf", "root:")];
        for (index, at, leaf, expect) in changes {
            let (code, _, said) = run_python(&python, &["-c", TAMPER, &file.display().to_string(), index, at, leaf]);
            assert_eq!(code, Some(0), "{said}");
            for (program, _) in PROGRAMS.iter().filter(|(_, quick)| *quick || expect != "leaf:") {
                let found =
                    tokio::task::block_in_place(|| judge(&python, program, &lake, &genesis, &["--heads", &heads]));
                let found = found.unwrap_or_else(|(code, said)| panic!("{program} ended with {code}:\n{said}"));
                assert_eq!(found["ok"], false);
                let found = found["found"][0].as_str().unwrap();
                assert!(found.starts_with(expect) && found.contains("beta.example/1"), "{program}: {found}");
            }
            fs::write(&file, &kept).unwrap();
        }
        // A file that is there twice, and one that is gone.
        let copy = file.with_file_name("000000262144-000000524287.parquet");
        fs::rename(&file, &copy).unwrap();
        fs::copy(&copy, &file).unwrap();
        let twice = judge(&python, "duckdb_audit.py", &lake, &genesis, &[]).unwrap();
        assert!(twice["found"][0].as_str().unwrap().starts_with("index:"), "{twice}");
        fs::remove_dir_all(file.parent().unwrap()).unwrap();
        let gone = judge(&python, "duckdb_audit.py", &lake, &genesis, &["--heads", &heads]).unwrap();
        assert_eq!(gone["found"][0], "log: beta.example/1 is missing", "{gone}");
    });
}

/// For each log of an export the first event that the files call void, and that the rules do: `log index`, and for the
/// rules all reasons.
const FIRST_VOID: &str = "
import sys
sys.path.insert(0, sys.argv[3])
import duckdb, duckdb_audit, entries
database = duckdb.connect()
duckdb_audit.load(database, sys.argv[1], entries.Manifest(open(sys.argv[2]).read()))
duckdb_audit.define(database)
assert not database.execute('FROM uncovered').fetchall()
for name in ('called_void', 'voids'):
    print(database.execute(f\"\"\"SELECT log, idx, list_sort(list(DISTINCT reason)) FROM {name} v
        WHERE idx = (SELECT min(idx) FROM {name} w WHERE w.log = v.log) GROUP BY ALL ORDER BY ALL\"\"\").fetchall())
";

/// Histories with void events, which no honest owner writes, are judged by nobody but `fama audit`. Up to its first void
/// event every log is as if none were, and so the rules find that event, whatever makes it void.
#[test]
fn engines_find_the_first_void_event_and_refuse_the_history() {
    let Some(python) = engines_python() else { return };
    multi(async {
        let (mut reasons, programs) = (BTreeSet::new(), crate::papers::root().join("docs/examples/engines"));
        for (i, ops) in crate::auditor::recorded(histories()).iter().enumerate() {
            let manifest = Arc::new(federation(4, crate::properties::policy));
            let live = crate::properties::write_history(&manifest, ops).live;
            let dir = TempDir::new().unwrap();
            let source = folder_of(&manifest, &live).write(&dir.path().join("public"));
            let genesis = dir.path().join("manifest.txt");
            fs::write(&genesis, manifest.note().to_string()).unwrap();
            let lake = dir.path().join("lake").display().to_string();
            let args = ["export", "--from", &source, "--format", "parquet", "--ranges", "--to", &lake];
            let (done, said) = command(args.map(str::to_owned).to_vec()).await;
            assert!(done, "{said}");
            let args = ["-c", FIRST_VOID, &lake, &genesis.display().to_string(), &programs.display().to_string()];
            let (code, out, err) = run_python(&python, &args);
            assert_eq!(code, Some(0), "{err}");
            let found: Vec<Vec<FirstVoid>> = out.lines().map(first_voids).collect();
            assert_eq!(found[0].len(), found[1].len(), "history {i}: {out}");
            for (called, by_rules) in found[0].iter().zip(&found[1]) {
                assert_eq!((&called.log, called.index), (&by_rules.log, by_rules.index), "history {i}: {out}");
                let reason = &called.reasons[0];
                assert!(reason == "repeated" || by_rules.reasons.contains(reason), "history {i}: {out}");
                reasons.extend(by_rules.reasons.clone());
            }
            for (program, _) in PROGRAMS.iter().filter(|(_, quick)| (*quick || i == 0) && !found[0].is_empty()) {
                let refused = tokio::task::block_in_place(|| judge(&python, program, Path::new(&lake), &genesis, &[]));
                let (code, said) = refused.unwrap_err();
                assert!(code == NOT_COVERED && said.contains(" is void ("), "{program} ended with {code}:\n{said}");
            }
        }
        assert!(reasons.len() >= 3, "{reasons:?}");
    });
}

/// The place of a void event, with the reasons given for it.
#[derive(Debug)]
struct FirstVoid {
    log: String,
    index: u64,
    reasons: Vec<String>,
}

/// Reads a Python list of (log, index, [reason, …]).
fn first_voids(line: &str) -> Vec<FirstVoid> {
    let rows: Vec<(String, u64, Vec<String>)> =
        serde_json::from_str(&line.replace('(', "[").replace(')', "]").replace('\'', "\"")).unwrap();
    rows.into_iter().map(|(log, index, reasons)| FirstVoid { log, index, reasons }).collect()
}
