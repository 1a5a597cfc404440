//! How many instructions the parts take that a node runs for every event, held to committed figures.
//!
//! Valgrind counts them, so they are the same on a busy machine. Its processor has AVX2 and neither AVX-512 nor SHA
//! instructions, whatever the machine has. A part that takes a tenth more than its figure fails: find out why, or commit the
//! new figure with the reason. `make counts` prints them.
#![allow(clippy::unwrap_used, reason = "a benchmark that fails should say where")]
#![allow(missing_docs, reason = "the macros make modules")]
#[path = "world.rs"]
#[allow(dead_code, reason = "the other benchmarks read more of it")]
mod world;

use std::collections::BTreeMap;
use std::hint::black_box;

use fama_ledger::batch::{Batch, replay};
use fama_ledger::codec;
use fama_ledger::entry::{SignedEvent, VerifiedEntry};
use fama_ledger::key::Curve;
use fama_ledger::key::batch::Verifier;
use fama_ledger::limits::ENTRY_BYTES_MAX;
use fama_ledger::log::{MemoryTiles, Tree, leaf_hash, prove_inclusion, verify_inclusion};
use fama_ledger::map::{StateMap, Whole};
use gungraun::prelude::*;
use gungraun::{Callgrind, EventKind};
use world::World;

/// Attestations of a batch.
const BATCH: u32 = 64;

/// Fails above a tenth more instructions than `figure`.
fn about(figure: u64) -> LibraryBenchmarkConfig {
    let mut callgrind = Callgrind::default();
    callgrind.hard_limits([(EventKind::Ir, figure + figure / 10)]);
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(callgrind);
    config
}

fn secp256k1() -> World {
    World::new(Curve::Secp256k1, BATCH)
}

fn ed25519() -> World {
    World::new(Curve::Ed25519, BATCH)
}

fn encoded() -> Vec<Vec<u8>> {
    secp256k1().signed.iter().map(codec::encode).collect()
}

// Canonical texts of 64 events, and their ids.
#[library_benchmark]
#[bench::attest(setup = secp256k1, config = about(534_204))]
fn text_and_id(world: World) -> World {
    world.signed.iter().for_each(|signed| _ = black_box(signed.event.id()));
    world
}

// 64 events, decoded strictly.
#[library_benchmark]
#[bench::attest(setup = encoded, config = about(193_308))]
fn decode(bytes: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    bytes.iter().for_each(|bytes| _ = black_box(codec::decode::<SignedEvent>(bytes, ENTRY_BYTES_MAX).unwrap()));
    bytes
}

// 64 signatures one by one.
#[library_benchmark]
#[bench::secp256k1(setup = secp256k1, config = about(58_036_596))]
#[bench::ed25519(setup = ed25519, config = about(30_921_097))]
fn verify(world: World) -> World {
    for signed in &world.signed {
        black_box(signed.clone().verify(&world.manifest.federation()).unwrap());
    }
    world
}

// 64 signatures of one signer at once.
#[library_benchmark]
#[bench::secp256k1(setup = secp256k1, config = about(16_157_019))]
fn verify_all(world: World) -> World {
    let verifier = Verifier::new([1; 32]);
    let all = SignedEvent::verify_all(world.signed.clone(), &world.manifest.federation(), &verifier);
    assert!(all.iter().all(Result::is_ok));
    world
}

// 64 attestations, folded without the state root.
#[library_benchmark]
#[bench::attest(setup = secp256k1, config = about(1_801_571))]
fn fold(world: World) -> World {
    let mut batch = Batch::begin(&world.manifest, &world.log, &world.rows, world.size).unwrap();
    for entry in &world.batch[..world.batch.len() - 1] {
        assert!(batch.replay(entry).unwrap().unwrap().is_ok());
    }
    world
}

// A batch of 64 attestations as a mirror takes it: decoded, verified, folded, with its state root.
#[library_benchmark]
#[bench::attest(setup = secp256k1, config = about(19_406_231))]
fn mirror(world: World) -> World {
    let bytes = world.batch.iter().map(|entry| entry.bytes().to_vec()).collect();
    let entries = VerifiedEntry::decode_all(bytes, &world.manifest.federation(), &Verifier::new([1; 32]));
    let entries: Vec<_> = entries.into_iter().collect::<Result<_, _>>().unwrap();
    let mut maps = world.maps.clone();
    replay(&world.manifest, &world.log, &world.rows, &mut maps, world.size, &entries).unwrap();
    world
}

type Hash = [u8; 32];
type Changes = Vec<(Vec<u8>, Option<Hash>)>;

/// A state map of 10,000 rows, and 256 rows to add.
fn map() -> (StateMap, Changes) {
    let hash = |n: u32| *blake3::hash(&n.to_le_bytes()).as_bytes();
    let row = |n: u32| ([hash(n), hash(!n)].concat(), hash(n ^ 1));
    let rows: BTreeMap<Vec<u8>, Hash> = (0..10_000).map(row).collect();
    let changes: BTreeMap<Vec<u8>, Hash> = (20_000..20_256).map(row).collect();
    let mut map = StateMap::from_sorted(rows).unwrap();
    // Only the first change of a map that was built from rows returns all its records.
    map.update(&[(row(30_000).0, Some(hash(0)))], &Whole).unwrap();
    (map, changes.into_iter().map(|(key, value)| (key, Some(value))).collect())
}

#[library_benchmark]
#[bench::new_rows(setup = map, config = about(4_639_389))]
fn state_map((mut map, changes): (StateMap, Changes)) -> StateMap {
    map.update(&changes, &Whole).unwrap();
    map
}

fn leaves() -> Vec<Hash> {
    (0..1_000u32).map(|n| leaf_hash(&n.to_le_bytes())).collect()
}

// A tree of 1,000 entries; then the inclusion of the last 16, proven and checked.
#[library_benchmark]
#[bench::leaves(setup = leaves, config = about(33_283_748))]
fn tree(leaves: Vec<Hash>) -> Tree {
    let (mut tree, mut tiles) = (Tree::default(), MemoryTiles::default());
    tiles.write(tree.append(leaves.iter().copied()));
    let head = tree.head();
    for index in head.size - 16..head.size {
        let path = prove_inclusion(index, head.size, &tiles).unwrap();
        verify_inclusion(leaves[usize::try_from(index).unwrap()], index, &head, &path).unwrap();
    }
    tree
}

library_benchmark_group!(
    name = every_event,
    benchmarks = [text_and_id, decode, verify, verify_all, fold, mirror, state_map, tree]
);
main!(library_benchmark_groups = every_event);
