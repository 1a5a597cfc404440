//! Lies of a source, of a log's owner, and of owner and cosigners together: the auditor names each lie and where it
//! is.
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use fama_ledger::entry::VerifiedEntry;
use fama_ledger::manifest::Manifest;
use fama_tests::{MemoryReplica, federation, log};
use serde_json::{Value, json};

use super::folder::{publish, publish_log};
use super::{audit, one_process, recorded};
use crate::properties::{policy, write_history};

/// Fewest entries of the log that is lied about.
const ENTRIES: usize = 12;

/// Honest public files in a folder, with the replica that they show; tests plant lies in the first log.
struct AuditedFolder<'a> {
    replica: MemoryReplica<'a>,
    dir: tempfile::TempDir,
}

impl<'a> AuditedFolder<'a> {
    /// The first recorded history, from `skip` on, whose first log is long enough to lie about.
    fn new(manifest: &'a Manifest, skip: usize) -> Self {
        let histories = recorded(skip + 20).into_iter().skip(skip);
        let long = |replica: &MemoryReplica<'_>| replica.logs[&log(0)].entries.len() >= ENTRIES;
        let replica = histories.map(|ops| write_history(manifest, &ops).live).find(long).unwrap();
        let dir = tempfile::tempdir().unwrap();
        publish(&replica, dir.path());
        Self { replica, dir }
    }

    fn entries(&self) -> Vec<Vec<u8>> {
        self.replica.logs[&log(0)].entries.iter().map(|entry| entry.bytes().to_vec()).collect()
    }

    /// The index of the first log's first event after its first batch.
    fn event(&self) -> usize {
        let entries = &self.replica.logs[&log(0)].entries;
        (2..entries.len()).find(|i| !entries[*i].is_state()).unwrap()
    }

    fn bundle(&self) -> PathBuf {
        self.dir.path().join(format!("log/alpha.example/1/tile/entries/000.p/{}", self.entries().len()))
    }

    /// Changes only the bundle: what anybody between the node and its reader could do.
    fn serve(&self, entries: &[Vec<u8>]) {
        std::fs::write(self.bundle(), fama_ledger::public::bundle(entries).unwrap()).unwrap();
    }

    /// Publishes the first log again, under heads that its owner and all operators signed.
    fn sign(&self, entries: &[Vec<u8>]) {
        let entries: Vec<&[u8]> = entries.iter().map(Vec::as_slice).collect();
        publish_log(self.replica.manifest, &log(0), &entries, self.dir.path());
    }

    fn found(&self, more: &[&OsStr]) -> Value {
        audit(&[self.dir.path()], &[&one_process(), more].concat())
    }

    /// Expects a finding with this code at this entry of the first log.
    fn expect(&self, code: &str, index: Option<usize>) {
        expect(&self.found(&[]), code, index);
    }
}

fn expect(report: &Value, code: &str, index: Option<usize>) {
    assert_eq!((&report["verdict"], &report["state_id"]), (&json!("findings"), &Value::Null), "{code}: {report}");
    let findings = report["findings"].as_array().unwrap();
    let fits = |found: &&Value| found["code"] == code && found["log"] == "alpha.example/1";
    let found = findings.iter().find(fits).unwrap_or_else(|| panic!("{code}: {findings:?}"));
    assert_eq!(found["index"], json!(index), "{code}");
}

fn within(manifest: &Manifest, lie: impl FnOnce(&AuditedFolder<'_>, Vec<Vec<u8>>)) {
    let published = AuditedFolder::new(manifest, 0);
    let entries = published.entries();
    lie(&published, entries);
}

#[test]
fn what_a_source_changes_is_found() {
    let manifest = federation(4, policy);
    within(&manifest, |published, mut entries| {
        assert_eq!(published.found(&[])["verdict"], "ok");
        let at = published.event();
        entries[at][20] ^= 1;
        published.serve(&entries);
        published.expect("entry_changed", Some(at));
        published.expect("tree_root", None);
    });
    within(&manifest, |published, mut entries| {
        entries.remove(5);
        published.serve(&entries);
        published.expect("entry_dropped", Some(5));
    });
    within(&manifest, |published, mut entries| {
        entries.swap(4, 5);
        published.serve(&entries);
        published.expect("entry_reordered", Some(4));
    });
    within(&manifest, |published, _| {
        std::fs::remove_file(published.bundle()).unwrap();
        published.expect("file_missing", None);
    });
    within(&manifest, |published, entries| {
        let tile = published.dir.path().join(format!("log/alpha.example/1/tile/0/000.p/{}", entries.len()));
        let mut hashes = std::fs::read(&tile).unwrap();
        hashes[40] ^= 1;
        std::fs::write(tile, hashes).unwrap();
        published.expect("tile", None);
    });
    within(&manifest, |published, _| {
        let policy = published.dir.path().join("log/policy");
        let fewer = std::fs::read_to_string(&policy).unwrap().replace("group operators 3", "group operators 1");
        std::fs::write(policy, fewer).unwrap();
        assert_eq!(published.found(&[])["findings"][0]["code"], "policy");
    });
    within(&manifest, |published, _| {
        let checkpoint = published.dir.path().join("log/alpha.example/1/checkpoint");
        let note = std::fs::read_to_string(&checkpoint).unwrap();
        let lines: Vec<&str> = note.lines().collect();
        std::fs::write(&checkpoint, format!("{}\n", lines[..7].join("\n"))).unwrap();
        published.expect("quorum", None);
        std::fs::write(&checkpoint, note.replacen(lines[1], "11", 1)).unwrap();
        published.expect("checkpoint_signature", None);
    });
}

#[test]
fn what_all_operators_sign_must_still_follow_from_the_authors() {
    let manifest = federation(4, policy);
    within(&manifest, |published, mut entries| {
        let at = published.event();
        let last = entries[at].len() - 10;
        entries[at][last] ^= 1;
        published.sign(&entries);
        let code = match VerifiedEntry::decode(entries[at].clone(), &manifest.federation()) {
            Ok(_) => panic!("a forged signature holds"),
            Err(error) => error.code(),
        };
        published.expect(code, Some(at));
    });
    within(&manifest, |published, mut entries| {
        let state = (3..entries.len()).find(|i| published.replica.logs[&log(0)].entries[*i].is_state()).unwrap();
        *entries[state].last_mut().unwrap() ^= 1;
        published.sign(&entries);
        published.expect("state_root", None);
    });
    within(&manifest, |published, mut entries| {
        entries.pop();
        published.sign(&entries);
        published.expect("batch_shape", None);
    });
    within(&manifest, |published, entries| {
        let twice = [&entries[..4], &entries[2..4], &entries[4..]].concat();
        published.sign(&twice);
        published.expect("state_root", None);
    });
}

#[test]
fn what_was_seen_before_or_elsewhere_binds() {
    let manifest = federation(4, policy);
    let (published, other) = (AuditedFolder::new(&manifest, 0), AuditedFolder::new(&manifest, 4));
    assert_ne!(published.replica.state_id(), other.replica.state_id());
    let (kept, entries) = (published.dir.path().join("verdict"), published.entries());
    let honest = published.found(&[]);
    std::fs::write(&kept, honest.to_string()).unwrap();
    let since = [OsStr::new("--since"), kept.as_os_str()];
    assert_eq!(published.found(&since)["state_id"], honest["state_id"]);

    let both: [&Path; 2] = [published.dir.path(), other.dir.path()];
    expect(&audit(&both, &one_process()), "split_view", None);
    expect(&other.found(&since), if other.entries().len() < entries.len() { "rollback" } else { "fork" }, None);

    let end = (0..entries.len() - 1).rfind(|i| published.replica.logs[&log(0)].entries[*i].is_state()).unwrap() + 1;
    let earlier = tempfile::tempdir().unwrap();
    publish(&published.replica, earlier.path());
    published.sign(&entries[..end]);
    assert_eq!(
        audit(&[published.dir.path(), earlier.path()], &one_process())["verdict"],
        "ok",
        "one extends the other"
    );
    expect(&published.found(&since), "rollback", None);
}

#[test]
fn another_genesis_than_the_trusted_one_is_refused() {
    let manifest = federation(4, policy);
    let published = AuditedFolder::new(&manifest, 0);
    let trusted = published.dir.path().join("genesis.toml");
    std::fs::write(&trusted, federation(3, policy).at(1).unwrap().note().to_string()).unwrap();
    let report = published.found(&[OsStr::new("--manifest"), trusted.as_os_str()]);
    assert_eq!(report["findings"][0]["code"], "manifest_untrusted", "{report}");
    std::fs::write(&trusted, manifest.at(1).unwrap().note().to_string()).unwrap();
    let report = published.found(&[OsStr::new("--manifest"), trusted.as_os_str()]);
    assert_eq!((&report["verdict"], &report["trusted"]), (&json!("ok"), &json!("file")), "{report}");
    let changed = published.dir.path().join("manifest/1");
    let note = std::fs::read_to_string(&changed).unwrap();
    std::fs::write(&changed, note.replacen("daily_cap = 6", "daily_cap = 7", 1)).unwrap();
    assert_eq!(published.found(&[])["findings"][0]["code"], "manifest_signature");
}
