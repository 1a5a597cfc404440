//! The second implementation, in Python and from `ledger/PROTOCOL.md` alone, against this one: see `tests/auditor`.
mod corners;
mod folder;
mod lies;
mod story;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use fama_ledger::id::{Domain, IdentityId};
use fama_ledger::profile::GRANTED_BY_MAX;
use fama_ledger::rows::{Grant, Suspended};
use fama_tests::{MemoryReplica, federation};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use crate::profile::{NOW, every_log, prove};
use crate::properties::{HistoryOp, history, policy, write_history};
use crate::vectors::profiles::shown;

/// How many random histories are audited.
pub(crate) fn histories() -> usize {
    std::env::var("FAMA_AUDITOR_HISTORIES").map_or(6, |count| count.parse().unwrap())
}

/// The interpreter that `.cargo/needs.sh` prepared, otherwise the one on the path.
pub(crate) fn python() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let prepared = root.join(target).join("auditor/bin/python3");
    if prepared.exists() { prepared } else { "python3".into() }
}

fn run(arguments: &[&OsStr]) -> Output {
    let tests = env!("CARGO_MANIFEST_DIR");
    let mut command = Command::new(python());
    command
        .current_dir(tests)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}; `.cargo/needs.sh test` prepares it", python().display()))
}

/// The auditor's output for these sources, with the options in `more`.
fn audit(sources: &[&Path], more: &[&OsStr]) -> Value {
    let fixed = ["-m", "auditor", "--json"].map(OsStr::new);
    let sources: Vec<&OsStr> = sources.iter().map(|source| source.as_os_str()).collect();
    let output = run(&[&fixed[..], more, &sources].concat());
    let said = serde_json::from_slice(&output.stdout);
    said.unwrap_or_else(|_| panic!("no verdict:\n{}", String::from_utf8_lossy(&output.stderr)))
}

fn one_process() -> [&'static OsStr; 2] {
    ["--processes", "1"].map(OsStr::new)
}

/// This implementation's view of all identities, in the auditor's format.
fn identities(replica: &MemoryReplica<'_>) -> Value {
    let (join, mut found) = (replica.join(), Vec::new());
    join.each_identity(|one| found.push(one)).unwrap();
    found.sort_by_key(|one| one.id);
    let suspended =
        |(operator, of): &(Domain, Suspended)| json!([operator.as_str(), of.reason.as_str(), of.since.to_string()]);
    let grant = |(subject, of): &(IdentityId, Grant)| {
        json!([subject.to_string(), of.scope.as_str(), of.expires.map(|expires| expires.to_string())])
    };
    let said = |one: &fama_ledger::join::LocatedIdentity| {
        let status = join.key_status(one).unwrap();
        let revoked = status.revoked.as_ref();
        json!({
            "id": one.id.to_string(),
            "home": one.home.as_str(),
            "name": one.identity.name.as_str(),
            "key": status.current.key.to_string(),
            "key_version": status.version,
            "revoked": revoked.is_some(),
            "revoked_at": revoked.map(|revoked| revoked.time.to_string()),
            "revocation_reason": revoked.map(|revoked| revoked.reason.to_string()),
            "karma": join.karma(one.id).unwrap().sum,
            "suspended_by": join.suspended_by(one.id).unwrap().iter().map(suspended).collect::<Vec<_>>(),
            "grants": join.granted(one, None, usize::MAX, usize::MAX).unwrap().grants.iter().map(grant).collect::<Vec<_>>(),
        })
    };
    found.iter().map(said).collect()
}

/// This many random histories, the same every time.
pub(crate) fn recorded(count: usize) -> Vec<Vec<HistoryOp>> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    (0..count).map(|_| history().new_tree(&mut runner).unwrap().current()).collect()
}

/// For each identity of random histories, and for an unknown one, both implementations read the same from a proof.
#[test]
fn any_profile_is_proven_to_the_auditor() {
    let (mut proven, mut rated, mut allowed) = (0, 0, 0);
    for ops in recorded(histories()) {
        let manifest = Arc::new(federation(4, policy));
        let live = write_history(&manifest, &ops).live;
        let (dir, mut questions) = (tempfile::tempdir().unwrap(), vec!["nobody@alpha.example".to_owned()]);
        let mut issuers = Vec::new();
        live.join().each_identity(|one| issuers.push(one.id)).unwrap();
        issuers.sort();
        questions.extend(issuers.iter().map(ToString::to_string));
        let all: Vec<String> = issuers.iter().take(GRANTED_BY_MAX - 1).map(ToString::to_string).collect();
        questions.extend(issuers.iter().map(|one| format!("{one} granted by {} {}", all.join(" "), "f".repeat(64))));
        let genesis = dir.path().join("genesis.txt");
        std::fs::write(&genesis, manifest.chain()).unwrap();
        let (mut files, mut wanted) = (Vec::new(), Vec::new());
        for (i, question) in questions.iter().enumerate() {
            let proof = prove(&manifest, &live, question).unwrap();
            let mut shows = shown(&proof.verify(&manifest, &every_log(&proof)).unwrap());
            rated += usize::from(shows["providers"].as_array().is_some_and(|all| !all.is_empty()));
            let may = |one: &Value| one[3].as_array().is_some_and(|grants| !grants.is_empty());
            allowed += usize::from(shows["granted"].as_array().is_some_and(|all| all.iter().any(may)));
            shows["proven"] = json!(true);
            wanted.push(shows);
            files.push(dir.path().join(format!("{i}.json")));
            std::fs::write(&files[i], proof.to_string()).unwrap();
        }
        let mut arguments = ["-m", "auditor.profile", "--manifest"].map(OsStr::new).to_vec();
        let now = NOW.to_string();
        let required = ["--max-age", "1000", "--missing", "0", "--now", &now].map(OsStr::new);
        arguments.extend([genesis.as_os_str()].into_iter().chain(required));
        arguments.extend(files.iter().map(|file| file.as_os_str()));
        let output = run(&arguments);
        let said = String::from_utf8(output.stdout).unwrap();
        let said: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(said, wanted, "{}", String::from_utf8_lossy(&output.stderr));
        proven += said.len();
    }
    assert!(proven > 12 && rated > 0 && allowed > 0, "{rated} of {proven} have karma to show, {allowed} grants");
}

#[test]
fn the_auditor_reads_every_golden_vector() {
    let output = run(&["-m", "unittest", "auditor.test_vectors"].map(OsStr::new));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The histories include void events and claims. Each batch's state root is recomputed, so a single rule that is read
/// differently shows.
#[test]
fn any_history_is_the_same_to_the_auditor() {
    for ops in recorded(histories()) {
        let manifest = federation(4, policy);
        let live = write_history(&manifest, &ops).live;
        let dir = tempfile::tempdir().unwrap();
        folder::publish(&live, dir.path());
        let said = audit(&[dir.path()], &one_process());
        assert_eq!(said["findings"], json!([]), "{ops:?}");
        assert_eq!(said["state_id"], live.state_id().to_string());
        assert_eq!(said["identities"], identities(&live));
    }
}
