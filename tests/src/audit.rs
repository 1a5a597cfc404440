//! An auditor who trusts nobody: honest files pass, and each planted lie is found and identified.
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use fama_ledger::codec;
use fama_ledger::entry::{Body, Entry, VerifiedEntry};
use fama_ledger::event::Action;
use fama_ledger::fold::Outcome;
use fama_ledger::id::{StateRoot, TreeRoot};
use fama_ledger::log::Head;
use fama_ledger::manifest::{Cut, LogId, Manifest};
use fama_ledger::signed_note::{SignedNote, sign};
use fama_ledger::time::Millis;
use fama_reader::audit::finding::{AuditFinding, LieKind};
use fama_reader::audit::{AuditError, AuditReport, Hooks, PublicFiles, run};
use fama_reader::export::{EntryTable, TableFormat, Unfinished};
use fama_tests::{
    DOMAINS, MemoryReplica, MirroredLog, SECOND, START, domain, event, federation, governance_key, later_version, log,
    secret, signed,
};
use serde_json::Value;
use tempfile::TempDir;

mod commands;
mod engines;
mod ranges;
mod served;

use crate::publish::pass;
pub(crate) use commands::comes_to;
pub(crate) use engines::{engines_agree, engines_python};

use served::{AGENTS, Folder, branches, story};

fn audit_into(dir: &Path, folders: &[Folder], trusted: Option<&Arc<Manifest>>) -> Result<AuditReport, AuditError> {
    let sources: Vec<Box<dyn PublicFiles>> =
        folders.iter().map(|folder| Box::new(folder.clone()) as Box<dyn PublicFiles>).collect();
    let (mut progress, mut watch) = (|_: u64, _: u64| {}, |_: &_, _: u64, _: &_, _: Option<&_>| {});
    run(&sources, trusted, dir, &mut Hooks { progress: &mut progress, watch: &mut watch }).map(|(report, _)| report)
}

fn audit(folders: &[Folder]) -> AuditReport {
    audit_into(TempDir::new().unwrap().path(), folders, None).unwrap()
}

/// A finding without its text for people.
fn summary(finding: &AuditFinding) -> (LieKind, &str, Option<u64>, Option<&str>) {
    (finding.lie, finding.code.as_str(), finding.index, finding.source.as_deref())
}

#[test]
fn honest_files_pass_and_give_the_state_that_every_node_has() {
    let manifest = federation(4, |_| {});
    let story = story(&manifest);
    let report = audit(&[story.folder("one"), story.folder("two")]);
    assert_eq!(report.findings, []);
    assert_eq!(report.state_id, story.replica.state_id());
    assert_eq!((report.identities, report.karma), (AGENTS + 1, 60));
    let figures = &report.figures;
    assert_eq!(figures.entries as usize, story.logs().values().map(Vec::len).sum::<usize>());
    assert_eq!((figures.signatures, figures.notes.checked, figures.notes.missing), (AGENTS + 23, 19, 1));
    assert_eq!(figures.events, BTreeMap::from([("register", AGENTS + 1), ("admit", 2), ("attest", 20)]));
    assert!(report.logs.iter().all(|log| log.certified_at == Some(1_795_323_602)), "by the third of four");
}

/// The source changes what it serves; the log's owner is honest.
#[test]
fn lies_of_who_serves_are_told_apart() {
    let manifest = federation(4, |_| {});
    let story = story(&manifest);
    let honest = story.folder("a mirror");
    let (first, second) = ("log/alpha.example/1/tile/entries/000", "log/alpha.example/1/tile/entries/001");
    let check = |change: &dyn Fn(&mut Folder), expect: (LieKind, &str, Option<u64>)| {
        let mut folder = honest.clone();
        change(&mut folder);
        let report = audit(&[folder]);
        let (lie, code, index) = expect;
        let found: Vec<_> = report.findings.iter().map(summary).collect();
        assert_eq!(found, [(lie, code, index, Some("a mirror"))], "{:?}", report.findings);
        let log = report.logs.iter().find(|one| one.state.log == log(0)).unwrap();
        assert!(index.is_none_or(|index| log.state.size <= index), "nothing behind the lie was taken");
    };
    check(&|f| f.rewrite(second, |e| e[44][60] ^= 1), (LieKind::EntryChanged, "entry_changed", Some(300)));
    check(&|f| f.rewrite(second, |e| drop(e.remove(3))), (LieKind::EntryDropped, "entry_dropped", Some(259)));
    check(&|f| f.rewrite(second, |e| drop(e.pop())), (LieKind::EntryDropped, "entry_dropped", Some(511)));
    check(&|f| f.rewrite(second, |e| e.swap(7, 9)), (LieKind::EntriesReordered, "entries_reordered", Some(263)));
    let more = |entries: &mut Vec<Vec<u8>>| {
        entries.insert(5, entries[0].clone());
        entries.pop();
    };
    check(&|f| f.rewrite(second, more), (LieKind::EntryAdded, "entry_added", Some(261)));
    check(&|f| f.file(second, "").truncate(1_000), (LieKind::TreeMismatch, "malformed_bundle", Some(256)));
    check(&|f| f.put(second.into(), vec![0; 9 << 20]), (LieKind::Unavailable, "too_long", None));
    check(&|f| drop(f.files.remove(first)), (LieKind::Unavailable, "unavailable", None));
    check(&|f| f.file("log/alpha.example/1/tile/0/001", "")[5] ^= 1, (LieKind::TreeMismatch, "wrong_tile", None));
    check(&|f| f.file("log/alpha.example/1/tile/0/002", "")[5] ^= 1, (LieKind::TreeMismatch, "tree_mismatch", None));
    check(&|f| f.file("log/alpha.example/1/tile/1/", "")[5] ^= 1, (LieKind::TreeMismatch, "tree_mismatch", None));
    check(&|f| f.file("log/alpha.example/1/tile/1/", "").truncate(33), (LieKind::TreeMismatch, "malformed_tile", None));
    let checkpoint = "log/alpha.example/1/checkpoint";
    let other = honest.files["log/beta.example/1/checkpoint"].clone();
    check(&|f| f.put(checkpoint.into(), other.clone()), (LieKind::Checkpoint, "checkpoint_unknown_origin", None));
    let larger = |text: &str| text.replacen("\n576\n", "\n999999999999\n", 1);
    let change = |f: &mut Folder| {
        let text = String::from_utf8(f.files[checkpoint].clone()).unwrap();
        assert_ne!(larger(&text), text);
        f.put(checkpoint.into(), larger(&text).into_bytes());
    };
    check(&change, (LieKind::Checkpoint, "checkpoint_signature", None));
    let wrong_note = |f: &mut Folder| {
        let path = story.notes.keys().next().unwrap().clone();
        f.put(path, b"fama.note/1\nanother".to_vec());
    };
    check(&wrong_note, (LieKind::Note, "note", None));
}

/// The owner and the cosigning operators signed what no log may have; the files are as they signed them.
#[test]
fn lies_of_owners_are_told_apart() {
    let manifest = federation(4, |_| {});
    let story = story(&manifest);
    let good = story.logs();
    let alpha = &story.replica.logs[&log(0)].entries;
    let size = alpha.len() as u64;
    let check = |change: &dyn Fn(&mut Vec<Vec<u8>>), expect: (LieKind, &str, Option<u64>)| {
        let mut logs = good.clone();
        change(logs.get_mut(&log(0)).unwrap());
        let report = audit(&[story.folder_of("a mirror", &logs)]);
        let (lie, code, index) = expect;
        let found: Vec<_> = report.findings.iter().map(summary).collect();
        assert_eq!(found, [(lie, code, index, None)], "{:?}", report.findings);
    };
    let decoded = |bytes: &[u8]| codec::decode::<Entry>(bytes, bytes.len()).unwrap();
    let forged = |at: usize| {
        let Entry { time, body: Body::Event(mut said) } = decoded(alpha[at].bytes()) else { panic!("an event") };
        let Body::Event(other) = decoded(alpha[at + 1].bytes()).body else { panic!("an event") };
        said.signature = other.signature;
        codec::encode(&Entry { time, body: Body::Event(said) })
    };
    check(&|e| e[300] = forged(300), (LieKind::Signature, "signature_mismatch", Some(300)));
    let wrong_root = |e: &mut Vec<Vec<u8>>| {
        let last = e.last_mut().unwrap();
        let time = decoded(last).time;
        *last = VerifiedEntry::state(time, StateRoot([7; 32])).into_bytes();
    };
    check(&wrong_root, (LieKind::StateRoot, "state_root", Some(size - 1)));
    let late = |e: &mut Vec<Vec<u8>>| {
        let entry = decoded(&e[300]);
        e[300] = codec::encode(&Entry { time: START.plus(SECOND), ..entry });
    };
    check(&late, (LieKind::InvalidBatch, "time_back", Some(301)));
    check(&|e| e[300].push(0), (LieKind::InvalidEntry, "not_canonical", Some(300)));
    // An entry that was removed from the log or moved shows in the next state root.
    let batch_end = |from: usize| (from..).find(|at| alpha[*at].is_state()).unwrap() as u64;
    check(&|e| drop(e.remove(300)), (LieKind::StateRoot, "state_root", Some(batch_end(300) - 1)));
    check(&|e| drop(e.pop()), (LieKind::InvalidBatch, "batch_shape", Some(size - 2)));
    let unheld = |e: &mut Vec<Vec<u8>>| {
        let adopt = VerifiedEntry::adopt(START, 2, manifest.hash());
        e.extend([adopt.into_bytes(), VerifiedEntry::state(START, StateRoot([7; 32])).into_bytes()]);
    };
    check(&unheld, (LieKind::Manifest, "unheld", Some(size)));
}

#[test]
fn a_head_needs_its_quorum() {
    let manifest = federation(4, |_| {});
    let story = story(&manifest);
    let mut folder = story.folder("a mirror");
    folder.log(&manifest, &log(1), &story.logs()[&log(1)], 2);
    let report = audit(&[folder]);
    let found: Vec<_> = report.findings.iter().map(summary).collect();
    assert_eq!(found, [(LieKind::Quorum, "quorum", None, Some("a mirror"))]);
    assert_eq!(report.state_id, story.replica.state_id(), "what is there is read all the same");
}

#[test]
fn manifests_that_do_not_hold_or_are_others_are_found() {
    let manifest = federation(4, |_| {});
    let story = story(&manifest);
    let honest = story.folder("a mirror");
    let failed = |folders: &[Folder]| {
        audit_into(TempDir::new().unwrap().path(), folders, None).map(|_| ()).unwrap_err().code().to_owned()
    };
    let mut none = honest.clone();
    none.files.remove("manifest/1");
    assert_eq!(failed(&[none]), "no_manifest");
    let mut unsigned = honest.clone();
    let text = String::from_utf8(honest.files["manifest/1"].clone()).unwrap();
    unsigned.put("manifest/1".into(), text.replace("max_delta = 5", "max_delta = 6").into_bytes());
    assert_eq!(failed(&[unsigned.clone()]), "manifest_signature");

    let mine = Arc::new(federation(4, |policy| policy.max_delta = 4));
    let failure = audit_into(TempDir::new().unwrap().path(), std::slice::from_ref(&honest), Some(&mine)).unwrap();
    let found: Vec<_> = failure.findings.iter().map(summary).collect();
    assert_eq!(found, [(LieKind::Manifest, "other_federation", None, Some("a mirror"))]);

    unsigned.name = "another";
    let found: Vec<_> = audit(&[honest, unsigned]).findings;
    let found: Vec<_> = found.iter().map(summary).collect();
    assert_eq!(found, [(LieKind::Manifest, "manifest_signature", None, Some("another"))], "the other source is read");
}

#[test]
fn two_sources_show_a_split_view() {
    let manifest = federation(4, |_| {});
    let story = story(&manifest);
    let end = (400..).find(|at| story.replica.logs[&log(0)].entries[*at].is_state()).unwrap() + 1;
    let one = story.folder("one");
    // A mirror that lags behind is not a liar.
    let behind = story.folder_of("two", &story.earlier(end));
    for folders in [[one.clone(), behind.clone()], [behind, one.clone()]] {
        let report = audit(&folders);
        assert_eq!((report.findings.as_slice(), report.state_id), (&[][..], story.replica.state_id()));
    }
    let (_, other) = branches(&story, end);
    let two = story.folder_of("two", &other);
    for folders in [[one.clone(), two.clone()], [two, one]] {
        let report = audit(&folders);
        let found: Vec<_> = report.findings.iter().map(summary).collect();
        assert_eq!(found, [(LieKind::SplitView, "split_view", None, Some("one and two"))]);
        let proof = report.findings[0].proof.as_ref().unwrap();
        assert_eq!((proof.log.clone(), proof.verify(&manifest)), (log(0), Ok(())));
    }
}

/// A file that one source spoils is read from another.
#[test]
fn an_honest_source_makes_good_what_a_liar_left_out() {
    let manifest = federation(4, |_| {});
    let story = story(&manifest);
    let honest = story.folder("honest");
    let check = |change: &dyn Fn(&mut Folder), expect: (LieKind, Option<u64>)| {
        let mut liar = story.folder("liar");
        change(&mut liar);
        for folders in [[liar.clone(), honest.clone()], [honest.clone(), liar]] {
            let report = audit(&folders);
            let found: Vec<_> = report.findings.iter().map(|found| (found.lie, found.index)).collect();
            assert_eq!((found, report.findings[0].source.as_deref()), (vec![expect], Some("liar")));
            assert_eq!(report.state_id, story.replica.state_id());
        }
    };
    let second = "log/alpha.example/1/tile/entries/001";
    check(&|f| f.rewrite(second, |e| e[44][60] ^= 1), (LieKind::EntryChanged, Some(300)));
    check(&|f| f.file("log/alpha.example/1/tile/1/", "")[5] ^= 1, (LieKind::TreeMismatch, None));
    let lose = |f: &mut Folder| {
        let path = f.path("log/beta.example/1/tile/0/", "");
        f.files.remove(&path);
    };
    check(&lose, (LieKind::Unavailable, None));
}

/// Operators may sign a head of any size: a reader stops where the files end.
#[test]
fn a_head_of_absurd_size_ends_at_once() {
    let manifest = federation(4, |_| {});
    let story = story(&manifest);
    let mut folder = story.folder("a mirror");
    folder.sign(&manifest, &log(0), Head { size: 1 << 62, root: TreeRoot([7; 32]) }, 4);
    let report = audit(&[folder]);
    assert_eq!(
        report.findings.iter().map(summary).collect::<Vec<_>>(),
        [(LieKind::Unavailable, "unavailable", None, Some("a mirror"))]
    );
}

#[test]
fn two_valid_texts_of_a_version_are_found() {
    let manifest = Arc::new(federation(4, |_| {}));
    let story = story(&manifest);
    let with = |name: &'static str, max_delta: u32| {
        let mut draft = manifest.draft();
        draft.policy.max_delta = max_delta;
        let text = draft.text().unwrap();
        let line = |i: u8| sign(&text, DOMAINS[usize::from(i)], governance_key(i).ed25519().unwrap());
        let mut folder = story.folder(name);
        folder.put("manifest/2".into(), SignedNote { signatures: (0..4).map(line).collect(), text }.to_string().into());
        folder
    };
    let (one, two) = (with("one", 4), with("two", 3));
    let report = audit(&[one.clone(), two]);
    let found: Vec<_> = report.findings.iter().map(summary).collect();
    assert_eq!(found, [(LieKind::SplitView, "manifests_conflict", None, Some("two"))]);
    // A source that does not have the second version yet only lags; one that had it and hides it does not.
    assert_eq!(audit(&[one.clone(), story.folder("two")]).findings, []);
    let dir = TempDir::new().unwrap();
    assert_eq!(audit_into(dir.path(), &[one], None).unwrap().findings, []);
    let back = audit_into(dir.path(), &[story.folder("one")], None).unwrap().findings;
    assert_eq!(
        back.iter().map(summary).collect::<Vec<_>>(),
        [(LieKind::Rollback, "manifest_rollback", None, Some("one"))]
    );
}

/// Version 2 without the last operator; its log ends with this state root.
fn without_the_last(manifest: &Manifest, delta: &MirroredLog, state_root: StateRoot) -> Manifest {
    later_version(manifest, |draft| {
        draft.operators.remove(3);
        draft.homes.insert(domain(DOMAINS[3]), log(0));
        draft.cuts.push(Cut { log: log(3), head: delta.tree.head(), state_root, adopted: 1, successor: log(0) });
    })
}

/// Where a log adopts version 2, quorums of both versions count; beyond that, 2 of 3 operators do. This holds for
/// auditing and for publishing.
#[test]
fn the_end_of_an_adoption_needs_both_quorums() {
    let manifest = federation(4, |_| {});
    let story = story(&manifest);
    let delta = &story.replica.logs[&log(3)];
    let second = without_the_last(&manifest, delta, delta.state_root);
    let last = story.replica.logs[&log(1)].entries.last().unwrap().time;
    let (mut at_end, other) = (MemoryReplica { manifest: &second, ..story.replica.clone() }, log(1));
    at_end.append(&other, vec![VerifiedEntry::adopt(last, 2, second.hash())]);
    let mut beyond = at_end.clone();
    beyond.append(&other, vec![beyond_event(&second, last)]);
    for (replica, cosigners, fine) in [(&at_end, 2, false), (&at_end, 3, true), (&beyond, 2, true), (&beyond, 1, false)]
    {
        let mut folder = story.folder("a mirror");
        folder.put("manifest/2".into(), second.note().to_string().into());
        let entries: Vec<_> = replica.logs[&other].entries.iter().map(|entry| entry.bytes().to_vec()).collect();
        folder.log(&second, &other, &entries, cosigners);
        let found = audit(&[folder.clone()]).findings;
        let found: Vec<_> = found.iter().map(|finding| finding.lie).collect();
        assert_eq!(found, if fine { vec![] } else { vec![LieKind::Quorum] }, "{cosigners} of {}", entries.len());
        let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let published = pass(&folder.write(from.path()), to.path().to_str().unwrap());
        let published = published.map(|status| status.logs[&other]).map_err(|error| error.code());
        let wanted = match (fine, cosigners) {
            (true, _) => Ok(entries.len() as u64),
            // No version's quorum is there, so publishing waits.
            (false, 1) => Ok(0),
            (false, _) => Err("uncertified"),
        };
        assert_eq!(published, wanted, "{cosigners} of {}", entries.len());
    }
}

/// A registration in the second operator's home.
fn beyond_event(manifest: &Manifest, time: Millis) -> VerifiedEntry {
    let (home, name, key) = (domain(DOMAINS[1]), "beyond".parse().unwrap(), secret(60));
    let action = Action::Register { home, name, key: key.public(), next: None, note: None };
    let said = signed(event(manifest.federation(), action, time, 60), &key);
    VerifiedEntry::of(time, said.verify(&manifest.federation()).unwrap())
}

#[test]
fn a_cut_is_held_against_the_entries() {
    let manifest = federation(4, |_| {});
    let story = story(&manifest);
    let delta = &story.replica.logs[&log(3)];
    let with = |state_root: StateRoot| {
        let mut folder = story.folder("a mirror");
        let second = without_the_last(&manifest, delta, state_root);
        folder.put("manifest/2".into(), second.note().to_string().into());
        // Where a manifest names the end, signatures do not matter.
        folder.files.remove("log/delta.example/1/checkpoint");
        folder
    };
    let report = audit(&[with(delta.state_root)]);
    assert_eq!((report.findings.as_slice(), report.logs.iter().filter(|log| log.cut).count()), (&[][..], 1));
    let report = audit(&[with(StateRoot([7; 32]))]);
    assert_eq!(report.findings.iter().map(summary).collect::<Vec<_>>(), [(LieKind::Cut, "cut", None, None)]);
}

/// What an earlier audit saw is neither read again nor forgotten.
#[test]
fn a_second_audit_reads_what_is_new_and_remembers_the_rest() {
    let manifest = federation(4, |_| {});
    let story = story(&manifest);
    let end = (400..).find(|at| story.replica.logs[&log(0)].entries[*at].is_state()).unwrap() + 1;
    let earlier = story.folder_of("a mirror", &story.earlier(end));
    let dir = TempDir::new().unwrap();
    assert_eq!(audit_into(dir.path(), std::slice::from_ref(&earlier), None).unwrap().findings, []);

    let (_, other) = branches(&story, end - 51);
    let forked = audit_into(dir.path(), &[story.folder_of("a mirror", &other)], None).unwrap();
    let found: Vec<_> = forked.findings.iter().map(summary).collect();
    assert_eq!(found, [(LieKind::SplitView, "split_view", None, Some("a mirror and the former audit"))]);
    assert_eq!(forked.findings[0].proof.as_ref().unwrap().verify(&manifest), Ok(()));

    let now = story.folder("a mirror");
    let report = audit_into(dir.path(), std::slice::from_ref(&now), None).unwrap();
    assert_eq!((report.findings.as_slice(), report.state_id), (&[][..], story.replica.state_id()));
    let whole = story.logs()[&log(0)].len();
    assert_eq!(report.figures.entries as usize, whole - end);
    let bundles = report.figures.files;
    assert!(bundles < audit(std::slice::from_ref(&now)).figures.files, "{bundles}");

    let back = audit_into(dir.path(), &[earlier], None).unwrap();
    let found: Vec<_> = back.findings.iter().map(summary).collect();
    assert_eq!(found, [(LieKind::Rollback, "rollback", None, Some("a mirror"))]);
    assert_eq!(back.state_id, story.replica.state_id());
    let mut nothing = now.clone();
    nothing.files.retain(|path, _| !path.starts_with("log/alpha"));
    let found = audit_into(dir.path(), &[nothing], None).unwrap().findings;
    assert_eq!(
        found.iter().map(summary).collect::<Vec<_>>(),
        [(LieKind::Rollback, "rollback", None, Some("a mirror"))]
    );
    let last = audit_into(dir.path(), &[now], None).unwrap();
    assert_eq!((last.findings.as_slice(), last.figures.entries), (&[][..], 0));
}

/// Wherever a source stops answering, the same command continues there next time.
#[test]
fn an_interrupted_audit_goes_on_where_it_was() {
    let manifest = federation(4, |_| {});
    let story = story(&manifest);
    let dir = TempDir::new().unwrap();
    let (mut runs, mut patience) = (0, 4);
    let report = loop {
        let left = Arc::new(AtomicU64::new(patience));
        let folder = Folder { patience: Some(left), ..story.folder("a mirror") };
        runs += 1;
        match audit_into(dir.path(), &[folder], None) {
            Ok(report) if report.findings.is_empty() => break report,
            Ok(report) => assert!(report.findings.iter().all(|found| found.lie == LieKind::Unreachable), "{report:?}"),
            Err(error) => assert_eq!(error.code(), "unreachable"),
        }
        patience += 3;
    };
    assert!(runs > 3, "{runs}");
    assert_eq!((report.state_id, report.karma), (story.replica.state_id(), 60));
}

/// The tables of an export, and whether a second export gives the same bytes.
#[test]
fn tables_hold_what_was_audited_and_are_the_same_each_time() {
    let manifest = federation(4, |_| {});
    let story = story(&manifest);
    let export = |format: TableFormat| {
        let dir = TempDir::new().unwrap();
        let sources: Vec<Box<dyn PublicFiles>> = vec![Box::new(story.folder("a mirror"))];
        let mut entries = EntryTable::create(dir.path(), format).unwrap();
        let mut watch = |log: &LogId, index: u64, entry: &VerifiedEntry, outcome: Option<&Outcome>| {
            entries.take(log, index, entry, outcome);
        };
        let store = dir.path().join("store");
        let mut hooks = Hooks { progress: &mut |_, _| {}, watch: &mut watch };
        let (report, store) = run(&sources, None, &store, &mut hooks).unwrap();
        assert_eq!(report.findings, []);
        let mut tables = vec![entries.finish().unwrap()];
        tables.extend(fama_reader::export::join(&store, dir.path(), format).unwrap());
        assert!(tables.iter().all(|(table, _)| !table.path().exists()), "no table before the end");
        let read = |(table, rows): (Unfinished, u64)| (rows, std::fs::read(table.finish().unwrap()).unwrap());
        tables.into_iter().map(read).collect::<Vec<_>>()
    };
    let whole = story.logs().values().map(Vec::len).sum::<usize>() as u64;
    for format in [TableFormat::Jsonl, TableFormat::Csv, TableFormat::Parquet] {
        let tables = export(format);
        assert_eq!(tables.iter().map(|(rows, _)| *rows).collect::<Vec<_>>(), [whole, AGENTS + 1, 20]);
        if format != TableFormat::Parquet {
            assert!(tables == export(format), "{format:?} has equal bytes");
        }
    }
    let lines = |table: &(u64, Vec<u8>)| -> Vec<Value> {
        let text = String::from_utf8(table.1.clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let tables = export(TableFormat::Jsonl);
    let (entries, identities, attestations) = (lines(&tables[0]), lines(&tables[1]), lines(&tables[2]));
    let sum = |rows: &[Value], name: &str| rows.iter().filter_map(|row| row[name].as_i64()).sum::<i64>();
    assert_eq!((sum(&entries, "effective"), sum(&identities, "karma"), sum(&attestations, "effective")), (60, 60, 60));
    let reasons = attestations.iter().filter(|row| row["reason"] == "well done").count();
    let services = attestations.iter().filter(|row| row["services"] == "judge.example/judge").count();
    assert_eq!((reasons, services), (19, 20), "one note was dropped");
    assert!(attestations.iter().all(|row| row["counted"] == true && row["provider_handle"] == "judge@beta.example"));
}
