//! The clients in `node/clients`, run by the programs that they are for, against this implementation.
//!
//! Where there is no Node.js of version 20 or newer, the tests say so and end; with `FAMA_FOREIGN=1` that is a failure.
use std::io::Seek;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fama_ledger::adoption::Adoption;
use fama_ledger::codec;
use fama_ledger::entry::VerifiedEntry;
use fama_ledger::id::StateRoot;
use fama_ledger::log::prove_inclusion;
use fama_ledger::manifest::Manifest;
use fama_ledger::profile::{GRANTED_BY_MAX, ProfileError, ProfileProof, Required};
use fama_ledger::proof::{CertifiedBy, TlogProof, TlogProofError};
use fama_tests::{MemoryReplica, START, adoption, federation, log};
use serde_json::{Value, json};

use crate::auditor::recorded;
use crate::cli::program;
use crate::profile::{
    NOW, certificate, crowd, every_log, four, next, prove, prove_with, small_story, story, succession,
};
use crate::properties::{policy, write_history};
use crate::vectors::profiles::{said, shown};

/// How many random proofs a client checks.
const PROOFS: usize = 1_000;
/// How many proofs there are of one history.
const PROOFS_OF_ONE: usize = 50;
/// When a run of tests hangs.
const GIVING_UP: Duration = Duration::from_secs(300);
/// The oldest Node.js that the client is for.
const NODE_VERSION_MIN: u32 = 20;

/// Node.js, if this machine has one that is new enough.
#[allow(clippy::print_stdout, reason = "a test that shows nothing must say so")]
pub(crate) fn node() -> Option<PathBuf> {
    let version = Command::new("node").arg("--version").output().ok();
    let version = version.and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
    let major = version.trim().trim_start_matches('v').split('.').next().and_then(|major| major.parse().ok());
    if major.is_some_and(|major: u32| major >= NODE_VERSION_MIN) {
        return Some("node".into());
    }
    assert!(std::env::var_os("FAMA_FOREIGN").is_none(), "no Node.js of version {NODE_VERSION_MIN} or newer");
    println!("skipped: this machine has no Node.js of version {NODE_VERSION_MIN} or newer");
    None
}

/// A program for Node.js. Without threads that compile beside it, which can keep a process from ever ending: it waits for them
/// when it ends, and they wait for it to collect garbage (nodejs/node#54918).
pub(crate) fn javascript(node: &Path) -> Command {
    let mut command = Command::new(node);
    command.arg("--single-threaded");
    command
}

/// Runs tests of the client for JavaScript.
fn run(node: &Path, tests: &[&str], (name, value): (&str, &Path)) {
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("../node/clients/js");
    let tests = tests.iter().map(|test| format!("test/{test}.test.js"));
    let mut said = tempfile::tempfile().unwrap();
    let mut child = javascript(node)
        .current_dir(client)
        .args(["--test", "--test-reporter=tap"])
        .args(tests)
        .env(name, value)
        .stdout(said.try_clone().unwrap())
        .process_group(0)
        .spawn()
        .unwrap();
    let begun = Instant::now();
    let ended = loop {
        if let Some(ended) = child.try_wait().unwrap() {
            break Some(ended);
        }
        if begun.elapsed() > GIVING_UP {
            // The processes of the single files, too.
            Command::new("kill").args(["-KILL", "--", &format!("-{}", child.id())]).status().unwrap();
            break None;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    said.rewind().unwrap();
    let said = std::io::read_to_string(said).unwrap();
    assert!(ended.is_some_and(|ended| ended.success()), "{ended:?} after {:?}: {said}", begun.elapsed());
    assert!(!said.contains("# pass 0\n"), "{said}");
}

#[test]
fn the_client_reads_every_vector_and_checks_logins() {
    let Some(node) = node() else { return };
    run(&node, &["vectors", "browser", "login", "tokens", "resource"], ("FAMA_BIN", &program()));
}

#[test]
fn the_client_speaks_with_a_federation() {
    let Some(node) = node() else { return };
    run(&node, &["live"], ("FAMA_BIN", &program()));
}

/// Numbers that look random, and are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound.max(1) as u64) as usize
    }

    fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    fn flip(&mut self, bytes: &mut [u8]) {
        let at = self.below(bytes.len());
        bytes[at] ^= 1 << self.below(8);
    }
}

/// Changes one thing in a proof.
fn lie(proof: &mut ProfileProof, dice: &mut Dice) {
    let at = dice.below(proof.logs.len());
    match dice.below(22) {
        0 => drop(proof.logs.remove(at)),
        1 => proof.logs.reverse(),
        2 => {
            let log = proof.logs.remove(at).log;
            proof.left_out.push(log);
            proof.left_out.sort();
        }
        3 => proof.without.push("alpha.example".parse().unwrap()),
        4 => proof.whole.push("statements/beta.example".to_owned()),
        5 => proof.whole.push("home/alpha.example".to_owned()),
        6 => proof.question = "nobody@alpha.example".parse().unwrap(),
        7 => dice.flip(&mut proof.federation.0),
        8 => drop(proof.logs[at].roots.pop()),
        9 => dice.flip(&mut proof.logs[at].roots[0].0),
        10 => proof.logs[at].roots.push(StateRoot([7; 32])),
        11 => proof.logs[at].maps.reverse(),
        12 => drop(proof.logs[at].maps.pop()),
        13 => drop(proof.logs[at].maps.last_mut().unwrap().rows.pop()),
        14 | 15 => {
            let maps = proof.logs[at].maps.len();
            let rows = &mut proof.logs[at].maps[dice.below(maps)].rows;
            let row = dice.below(rows.len());
            if let Some((_, value)) = rows.get_mut(row) {
                dice.flip(value);
            }
        }
        _ => lie_about_a_head(proof, at, dice),
    }
}

fn lie_about_a_head(proof: &mut ProfileProof, at: usize, dice: &mut Dice) {
    let Some(head) = proof.logs[at].certificate.as_mut() else { return };
    match dice.below(7) {
        0 => head.note.signatures.truncate(dice.below(5)),
        1 => {
            let line = dice.below(head.note.signatures.len());
            dice.flip(&mut head.note.signatures[line].bytes);
        }
        2 => head.note.signatures.push(head.note.signatures.last().unwrap().clone()),
        3 => head.note.text = head.note.text.replacen("/1\n", "/2\n", 1),
        4 => dice.flip(&mut head.entry),
        5 => drop(head.path.pop()),
        _ => head.adopted = Some(Adoption { index: 0, entry: head.entry.clone(), path: head.path.clone() }),
    }
}

/// What a reader of this implementation finds in a file.
fn outcome(text: &str, manifest: &Arc<Manifest>, required: &Required) -> Result<Value, ProfileError> {
    text.parse::<ProfileProof>()?.verify(manifest, required).map(|proven| shown(&proven))
}

/// Proofs of one history, of which some are old, some leave logs out, and most are lies.
fn proofs(manifest: &Arc<Manifest>, ops: &[crate::properties::HistoryOp], dice: &mut Dice) -> Vec<Value> {
    let live = write_history(manifest, ops).live;
    let (mut questions, mut issuers) = (vec!["nobody@alpha.example".to_owned()], Vec::new());
    live.join()
        .each_identity(|one| {
            questions.push(one.id.to_string());
            questions.push(format!("{}@{}", one.identity.name.as_str(), one.home));
            issuers.push(one.id);
        })
        .unwrap();
    issuers.sort();
    let of: Vec<String> = issuers.iter().take(GRANTED_BY_MAX).map(ToString::to_string).collect();
    questions.extend(issuers.iter().map(|one| format!("{one} granted by {}", of.join(" "))));
    let one = |_| {
        let question = dice.one_of(&questions).clone();
        let (absent, old) = (dice.below(12), dice.below(12));
        let earlier = |i| (i != absent).then_some(if i == old { 3_600 } else { 0 });
        let made = prove_with(manifest, &live, &question, earlier);
        // A node that lacks the log of the home has no answer.
        let mut proof = made.or_else(|_| prove(manifest, &live, &question)).unwrap();
        let required = Required {
            max_age_seconds: *dice.one_of(&[u64::MAX, 400, 250]),
            missing_max: *dice.one_of(&[0, 1, 1, 4]),
            now: *dice.one_of(&[NOW, NOW, NOW, NOW + 60, NOW - 250]),
            ..every_log(&proof)
        };
        if dice.below(3) > 0 {
            lie(&mut proof, dice);
        }
        let text = proof.to_string();
        let mut vector = json!({"proof": text, "required": said(&required)});
        match outcome(&text, manifest, &required) {
            Ok(shows) => vector["shows"] = shows,
            Err(error) => vector["code"] = json!(error.code()),
        }
        vector
    };
    (0..PROOFS_OF_ONE).map(one).collect()
}

/// A proof with what becomes of it for each of its bytes that is changed: the code, or `ok`.
fn flips(manifest: &Arc<Manifest>, proof: &ProfileProof) -> Value {
    let (text, required) = (proof.to_string(), every_log(proof));
    let flipped = |at: usize| {
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 1 << (at % 7);
        let Ok(text) = String::from_utf8(bytes) else { return "profile_form" };
        outcome(&text, manifest, &required).map_or_else(|error| error.code(), |_| "ok")
    };
    let codes: Vec<&str> = (0..text.len()).map(flipped).collect();
    json!({"manifest": manifest.chain(), "proof": text, "required": said(&required), "codes": codes})
}

/// What a reader of this implementation finds in a proof of an event, as `fama verify` says it.
fn event_outcome(text: &str, manifest: &Manifest, owner_only: bool) -> Result<Value, &'static str> {
    let code = |error: TlogProofError| error.code();
    let proof: TlogProof = text.parse().map_err(code)?;
    let extra = proof.extra.clone().ok_or("proof_no_entry")?;
    let included = proof.included(&extra, manifest).map_err(code)?;
    let event = included.entry.event().map(|event| event.id().to_string()).unwrap_or_default();
    if included.certified.is_none() && !owner_only {
        return Err("not_final");
    }
    let (version, by): (u32, Vec<String>) = match &included.certified {
        Some(CertifiedBy::Cosigned { version, by }) => (*version, by.iter().map(|(by, _)| by.to_string()).collect()),
        _ => (0, Vec::new()),
    };
    let (log, size) = (included.log.to_string(), included.head.size);
    Ok(json!({
        "event": event, "log": log, "index": included.index, "size": size, "final": included.certified.is_some(),
        "manifest_version": version, "cosigned": by,
    }))
}

/// Proofs of entries of all logs as they are now, to readers that hold this version.
fn event_proofs(held: &Manifest, replica: &MemoryReplica<'_>, dice: &mut Dice) -> Vec<Value> {
    let operators: Vec<usize> = (0..4).collect();
    let one = |_| {
        let of = dice.below(4);
        let mirror = &replica.logs[&log(of)];
        let index = dice.below(mirror.entries.len());
        let by: Vec<usize> = operators.iter().copied().filter(|_| dice.below(5) > 0).collect();
        let shown = adoption(mirror).filter(|_| dice.below(6) > 0);
        let adopted = shown.as_ref().map(codec::encode).unwrap_or_default();
        let size = mirror.tree.size();
        let mut proof = TlogProof {
            extra: Some([mirror.entries[index].bytes(), &adopted].concat()),
            index: index as u64,
            path: prove_inclusion(index as u64, size, &mirror.tiles).unwrap(),
            checkpoint: certificate(held, of, mirror, &by).note,
        };
        match dice.below(14) {
            0 => proof.extra = None,
            1 | 2 => dice.flip(proof.extra.as_mut().unwrap()),
            3 => proof.index ^= 1,
            4 => drop(proof.path.pop()),
            5 => dice.flip(proof.path[0].as_mut_slice()),
            6 => proof.checkpoint.signatures.truncate(dice.below(4)),
            7 => dice.flip(&mut proof.checkpoint.signatures[0].bytes),
            _ => {}
        }
        let (text, owner_only) = (proof.to_string(), dice.below(2) == 0);
        let event = mirror.entries[index].event().map(|event| event.id().to_string()).unwrap_or_default();
        let mut vector = json!({"proof": text, "question": event, "owner_only": owner_only});
        match event_outcome(&text, held, owner_only) {
            Ok(shows) => vector["shows"] = shows,
            Err(code) => vector["code"] = json!(code),
        }
        vector
    };
    (0..PROOFS_OF_ONE).map(one).collect()
}

/// Proofs of events before and after the logs adopt a version, to readers of that version, of the one before and of the
/// ones after, and to one that knows of a cut.
fn all_event_proofs(dice: &mut Dice) -> Vec<Value> {
    let first = four();
    let second = next(&first);
    let third = next(&second);
    let (world, ..) = story(&first);
    let cut = succession(&first, &world.replica);
    let (mut found, mut replica) = (Vec::new(), world.replica);
    let mut add = |held: &Manifest, replica: &MemoryReplica<'_>| {
        found.push(json!({"manifest": held.chain(), "proofs": event_proofs(held, replica, dice)}));
    };
    [&first, &second, &third, &cut].into_iter().for_each(|held| add(held, &replica));
    replica.manifest = &second;
    (0..4).for_each(|i| drop(replica.append(&log(i), vec![VerifiedEntry::adopt(START, 2, second.hash())])));
    [&first, &second, &third, &cut].into_iter().for_each(|held| add(held, &replica));
    replica.register(0, "later", 90);
    [&second, &third].into_iter().for_each(|held| add(held, &replica));
    found
}

/// Random proofs, most of them lies, and proofs with each byte changed: the client refuses what this implementation
/// refuses, with the same code, and shows the same of all others.
#[test]
fn the_client_agrees_on_any_proof() {
    let Some(node) = node() else { return };
    let (dir, mut dice) = (tempfile::tempdir().unwrap(), Dice(7));
    let write = |name: String, value: &Value| std::fs::write(dir.path().join(name), value.to_string()).unwrap();
    for (i, ops) in recorded(PROOFS / PROOFS_OF_ONE).iter().enumerate() {
        let manifest = Arc::new(federation(4, policy));
        let proofs = proofs(&manifest, ops, &mut dice);
        write(format!("proofs-{i}.json"), &json!({"manifest": manifest.chain(), "proofs": proofs}));
    }
    for (i, proofs) in all_event_proofs(&mut dice).iter().enumerate() {
        write(format!("events-{i}.json"), proofs);
    }
    // One subject of many providers, which is what a liar can make a proof cost.
    let manifest = four();
    let (mut world, agent, _) = story(&manifest);
    crowd(&mut world, 3, agent, (2_000, 2));
    let proof = prove(&manifest, &world.replica, "swift-core-maps@alpha.example").unwrap();
    let (text, required) = (proof.to_string(), every_log(&proof));
    let shows = outcome(&text, &manifest, &required).unwrap();
    let one = json!({"proof": text, "required": said(&required), "shows": shows});
    write("proofs-crowd.json".to_owned(), &json!({"manifest": manifest.chain(), "proofs": [one]}));
    // Of two operators, since most of the time goes into signatures.
    let (manifest, found) = small_story();
    let nobody = prove(&manifest, &MemoryReplica::adopted(&manifest), "nobody@alpha.example").unwrap();
    write("flips-0.json".to_owned(), &flips(&manifest, &found));
    write("flips-1.json".to_owned(), &flips(&manifest, &nobody));
    run(&node, &["random", "flips"], ("FAMA_PROOFS", dir.path()));
}
