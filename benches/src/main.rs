//! How fast each part and each task is, next to what it cannot do without: bare signature checks, bare hashes, a bare
//! synced write. Both are measured in the same run, those of parts in turns, so that the ratio holds on a busy machine.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark that fails should say where")]
mod grow;
mod renewals;
mod report;
mod signatures;
mod tasks;
mod tokens;
mod world;

use std::collections::BTreeMap;
use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use fama_ledger::batch::{Batch, LogMaps, replay};
use fama_ledger::codec;
use fama_ledger::entry::{SignedEvent, VerifiedEntry};
use fama_ledger::join::LogState;
use fama_ledger::key::{Curve, PublicKey, Signature};
use fama_ledger::limits::ENTRY_BYTES_MAX;
use fama_ledger::log::{MemoryTiles, Prover, Tree, leaf_hash, prove_inclusion, verify_inclusion};
use fama_ledger::map::{StateMap, Whole};
use fama_ledger::rows::MemoryRows;
use fama_node::store::{Commit, Store};
use k256::ecdsa::signature::Verifier;
use report::Report;
use sha2::{Digest, Sha256};
use world::{World, check};

/// That of `fama`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Attestations in one batch.
const BATCH: u32 = 1_000;
/// How often both sides are measured; the shortest time of each counts.
const ROUNDS: usize = 7;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        None => all(),
        Some("signatures") => sink(signatures::run(&mut Report::new())),
        Some("nodes") => {
            let mut report = Report::new();
            let l = signatures::run(&mut report);
            tasks::run(&mut report, l);
        }
        Some("tokens") => tokens::run(&mut Report::new()),
        Some("renewals") => renewals::run(),
        Some("grow") => grow::run(&args[2..]),
        Some("plot") => grow::plot(args.get(2).expect("plot FILE")),
        // The program that operators and auditors run, for processes of their own.
        Some("node" | "audit") => return fama_cli::run(args, &mut std::io::stdout(), &mut std::io::stderr()),
        Some(other) => panic!("want renewals, signatures, tokens, nodes, grow, plot or nothing, not {other}"),
    }
    ExitCode::SUCCESS
}

/// The table: what each part costs, then what nodes do as a whole.
fn all() {
    let mut report = Report::new();
    let l = signatures::run(&mut report);
    parts(&mut report);
    tokens::run(&mut report);
    tasks::run(&mut report, l);
    report.keep();
}

fn parts(report: &mut Report) {
    let world = World::new(Curve::Secp256k1, BATCH);
    text(report, &world);
    encoding(report, &world);
    verify(report, "verify secp256k1 | bare ECDSA", &world);
    verify(report, "verify Ed25519 | bare Ed25519", &World::new(Curve::Ed25519, BATCH));
    fold(report, &world);
    state_map(report, &world);
    tree(report);
    receipts(report);
    whole_replay(report, &world);
    commit(report, &world);
}

/// Adds the shortest time of each side: the name is that of the part and of its limit, for `count` items each.
fn compare(
    report: &mut Report,
    name: &str,
    count: usize,
    mut ours: impl FnMut() -> Duration,
    mut limit: impl FnMut() -> Duration,
) {
    let (mut best, mut least) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        best = best.min(ours());
        least = least.min(limit());
    }
    let a_second = |time: Duration| count as f64 / time.as_secs_f64();
    let (task, what) = name.split_once(" | ").unwrap();
    report.limited(task, a_second(best), (what, a_second(least)));
}

fn sink<T>(value: T) {
    black_box(value);
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let begun = Instant::now();
    black_box(work());
    begun.elapsed()
}

fn text(report: &mut Report, world: &World) {
    let texts: Vec<String> = world.signed.iter().map(|signed| signed.event.text()).collect();
    let ours = || timed(|| world.signed.iter().for_each(|signed| sink(signed.event.id())));
    let limit = || timed(|| texts.iter().for_each(|text| sink(blake3::hash(text.as_bytes()))));
    compare(report, "event text and id | BLAKE3 of the text", texts.len(), ours, limit);
}

fn encoding(report: &mut Report, world: &World) {
    let bytes: Vec<Vec<u8>> = world.signed.iter().map(codec::encode).collect();
    let copies = || timed(|| bytes.iter().for_each(|bytes| sink(bytes.clone())));
    let ours = || timed(|| world.signed.iter().for_each(|signed| sink(codec::encode(signed))));
    compare(report, "encode | copying the bytes", bytes.len(), ours, copies);
    let decode = |bytes: &Vec<u8>| codec::decode::<SignedEvent>(bytes, ENTRY_BYTES_MAX).unwrap();
    let ours = || timed(|| bytes.iter().for_each(|bytes| sink(decode(bytes))));
    compare(report, "decode strictly | copying the bytes", bytes.len(), ours, copies);
}

/// Verifies a signature that has already been decoded.
fn bare(signed: &SignedEvent) -> Box<dyn Fn() -> bool> {
    let text = signed.event.text().into_bytes();
    match (signed.signer, signed.signature) {
        (PublicKey::Secp256k1(key), Signature::Secp256k1(bytes)) => {
            let key = k256::ecdsa::VerifyingKey::from_sec1_bytes(&key).unwrap();
            let signature = k256::ecdsa::Signature::from_slice(&bytes[..64]).unwrap();
            Box::new(move || key.verify(&text, &signature).is_ok())
        }
        (PublicKey::Ed25519(key), Signature::Ed25519(bytes)) => {
            let key = ed25519_dalek::VerifyingKey::from_bytes(&key).unwrap();
            let signature = ed25519_dalek::Signature::from_bytes(&bytes);
            Box::new(move || key.verify_strict(&text, &signature).is_ok())
        }
        _ => unreachable!("the key made the signature"),
    }
}

fn verify(report: &mut Report, name: &str, world: &World) {
    let checks: Vec<_> = world.signed.iter().map(bare).collect();
    let ours = || {
        let signed = world.signed.clone();
        timed(|| signed.into_iter().for_each(|signed| sink(check(&world.manifest, signed))))
    };
    compare(report, name, checks.len(), ours, || timed(|| assert!(checks.iter().all(|check| check()))));
}

fn fold(report: &mut Report, world: &World) {
    let body = &world.batch[..world.batch.len() - 1];
    let ours = || {
        let mut batch = Batch::begin(&world.manifest, &world.log, &world.rows, world.size).unwrap();
        timed(|| body.iter().for_each(|entry| assert!(batch.replay(entry).unwrap().unwrap().is_ok())))
    };
    // Reads issuer, key, day, provider and tally; writes day, provider and tally.
    let keys: Vec<_> = world.rows.iter().map(|(key, _)| key.clone()).collect();
    let known: BTreeMap<_, _> = world.rows.iter().collect();
    let limit = || {
        let mut written = BTreeMap::new();
        timed(|| {
            for turn in 0..body.len() {
                let keys = (0..5).map(|read| &keys[(turn * 7 + read * 401) % keys.len()]);
                for (read, key) in keys.enumerate() {
                    let value = black_box(known.get(key));
                    if read > 1 {
                        written.insert(key.clone(), value.map(|value| value.to_vec()));
                    }
                }
            }
            written
        })
    };
    compare(report, "fold an attestation | row accesses", body.len(), ours, limit);
}

/// A map of 100,000 rows takes new rows in batches of different sizes: alone, and while the version before each batch
/// is kept, so that none of its paths may be overwritten.
fn state_map(report: &mut Report, world: &World) {
    let hash = |n: u32| *blake3::hash(&n.to_le_bytes()).as_bytes();
    let row = |n: u32| ([hash(n), hash(!n)].concat(), hash(n ^ 1));
    let all: BTreeMap<Vec<u8>, [u8; 32]> = (0..100_000).map(row).collect();
    let batch = |first: u32, count: u32| {
        let changes: BTreeMap<_, _> = (first..first + count).map(row).collect();
        changes.into_iter().map(|(key, value)| (key, Some(value))).collect::<Vec<_>>()
    };
    let batches = |size: u32| (0..BATCH / size).map(|n| batch(200_000 + n * size, size)).collect::<Vec<_>>();
    let update = |batches: &[Vec<_>], keep: bool| {
        let mut map = StateMap::from_sorted(all.clone()).unwrap();
        // Only the first change of a map that was built from rows returns all its records.
        map.update(&batch(199_999, 1), &Whole).unwrap();
        let mut kept = Vec::new();
        timed(|| {
            for batch in batches {
                kept.extend(keep.then(|| map.clone()));
                map.update(batch, &Whole).unwrap();
            }
        })
    };
    // Each change has hashes of its own for its leaf and the nodes below the top levels, which the batch shares.
    let own_nodes = 1 + (all.len() / BATCH as usize).ilog2() + 2;
    let (node, hashes) = ([7; 70], BATCH * own_nodes);
    let limit = || timed(|| (0..hashes).for_each(|_| sink(blake3::hash(black_box(&node)))));
    compare(report, "state map, per key | its hashes", BATCH as usize, || update(&batches(BATCH), false), limit);
    let checks: Vec<_> = world.signed.iter().map(bare).collect();
    let limit = || timed(|| assert!(checks.iter().all(|check| check())));
    for (name, size, keep) in [
        ("map key of 1,000 | bare ECDSA", BATCH, false),
        ("map key of 1,000, kept | bare ECDSA", BATCH, true),
        ("map key of 10 | bare ECDSA", 10, false),
        ("map key of 10, kept | bare ECDSA", 10, true),
    ] {
        let batches = batches(size);
        compare(report, name, BATCH as usize, || update(&batches, keep), limit);
    }
}

fn tree(report: &mut Report) {
    let leaves: Vec<_> = (0..10_000u32).map(|n| leaf_hash(&n.to_le_bytes())).collect();
    let ours = || timed(|| Tree::default().append(leaves.iter().copied()));
    let node = [1; 65];
    let limit = || timed(|| leaves.iter().for_each(|_| sink(Sha256::digest(black_box(node)))));
    compare(report, "tree, per leaf | SHA-256 of 65 bytes", leaves.len(), ours, limit);
}

fn receipts(report: &mut Report) {
    let (mut tree, mut tiles, size) = (Tree::default(), MemoryTiles::default(), 50_000u32);
    tiles.write(tree.append((0..size).map(|n| leaf_hash(&n.to_le_bytes()))));
    let new = u64::from(size) - 256..size.into();
    let ours = || {
        let mut prover = Prover::new(&tiles);
        timed(|| new.clone().for_each(|index| sink(prover.inclusion(index, size.into()).unwrap())))
    };
    let head = tree.head();
    let paths: Vec<_> = new.clone().map(|index| prove_inclusion(index, head.size, &tiles).unwrap()).collect();
    let check = |(index, path): (u64, &Vec<_>)| {
        verify_inclusion(leaf_hash(&u32::try_from(index).unwrap().to_le_bytes()), index, &head, path).unwrap();
    };
    let limit = || timed(|| new.clone().zip(&paths).for_each(check));
    compare(report, "inclusion path of 256 | its check", 256, ours, limit);
}

fn whole_replay(report: &mut Report, world: &World) {
    let bytes: Vec<Vec<u8>> = world.batch.iter().map(|entry| entry.bytes().to_vec()).collect();
    let federation = world.manifest.federation();
    let ours = || {
        let (mut maps, bytes) = (world.maps.clone(), bytes.clone());
        timed(|| {
            let entries = bytes.into_iter().map(|bytes| VerifiedEntry::decode(bytes, &federation));
            let entries: Vec<_> = entries.collect::<Result<_, _>>().unwrap();
            replay(&world.manifest, &world.log, &world.rows, &mut maps, world.size, &entries).unwrap();
        })
    };
    let checks: Vec<_> = world.signed.iter().map(bare).collect();
    let limit = || timed(|| assert!(checks.iter().all(|check| check())));
    compare(report, "decode, verify, replay | bare ECDSA", checks.len(), ours, limit);
}

/// A durable batch; the limit is one synced file with the same entries.
fn commit(report: &mut Report, world: &World) {
    let ours = || {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store"), &world.manifest).unwrap();
        let (mut rows, mut tree) = (MemoryRows::default(), Tree::default());
        let mut maps = LogMaps::load(&world.manifest, &world.log, &rows).unwrap();
        let mut last = Duration::ZERO;
        for entries in world.before.iter().chain([&world.batch]) {
            let first = tree.size();
            let replayed = replay(&world.manifest, &world.log, &rows, &mut maps, first, entries).unwrap();
            rows.apply(&replayed.folded.changes);
            let tiles = tree.append(entries.iter().map(|entry| leaf_hash(entry.bytes())));
            let (head, state_root) = (tree.head(), replayed.folded.state_root);
            let state = LogState { log: world.log.clone(), size: head.size, root: head.root, state_root };
            let (outcomes, folded) = (&replayed.outcomes[..], &replayed.folded);
            let (changes, nodes) = (&folded.changes, &folded.nodes);
            let commit = Commit { state, first, entries, outcomes, tiles, changes, nodes, notes: &[] };
            last = timed(|| store.commit(&[commit]).unwrap());
        }
        last
    };
    let bytes: Vec<u8> = world.batch.iter().flat_map(|entry| entry.bytes()).copied().collect();
    let mut file = tempfile::tempfile().unwrap();
    let limit = || timed(|| write_synced(&mut file, &bytes));
    compare(report, "RocksDB, per entry | synced write", world.batch.len(), ours, limit);
}

fn write_synced(file: &mut File, bytes: &[u8]) {
    file.write_all(bytes).unwrap();
    file.sync_data().unwrap();
}
