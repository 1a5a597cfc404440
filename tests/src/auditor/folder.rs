//! A federation's public files as a folder, written from logs in memory whose keys the tests have.
use std::path::Path as Folder;

use fama_ledger::checkpoint::{Checkpoint, Cosignature, SignedCheckpoint};
use fama_ledger::entry::VerifiedEntry;
use fama_ledger::log::{Head, MemoryTiles, Tiles as _, Tree, leaf_hash};
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::public::{self, LogFile, Path, TilePosition};
use fama_tests::{DOMAINS, MemoryReplica, node_key};

/// Writes all logs of a replica, each head signed by its owner and cosigned by all operators.
pub(super) fn publish(replica: &MemoryReplica<'_>, folder: &Folder) {
    let manifest = replica.manifest;
    for version in 1..=manifest.version() {
        let note = manifest.at(version).unwrap().note().to_string();
        write(folder, &Path::Manifest(version), note.as_bytes());
    }
    write(folder, &Path::Policy, public::policy(manifest).as_bytes());
    for (log, mirror) in &replica.logs {
        let entries: Vec<&[u8]> = mirror.entries.iter().map(VerifiedEntry::bytes).collect();
        publish_log(manifest, log, &entries, folder);
    }
}

/// Writes one log; its entries need not be valid.
pub(super) fn publish_log(manifest: &Manifest, log: &LogId, entries: &[&[u8]], folder: &Folder) {
    let (mut tree, mut tiles) = (Tree::default(), MemoryTiles::default());
    tiles.write(tree.append(entries.iter().map(|entry| leaf_hash(entry))));
    for file in LogFile::grown(0, tree.size()) {
        let content = match file {
            LogFile::Entries(place) => public::bundle(&entries[range(place)]).unwrap(),
            LogFile::Tile(level, place) => public::tile(&tiles.tile(level, place.index()).unwrap()[..place.width()]),
            LogFile::Checkpoint => continue,
        };
        write(folder, &Path::Log(log.clone(), file), &content);
    }
    sign(manifest, log, tree.head(), folder);
}

fn range(place: TilePosition) -> std::ops::Range<usize> {
    place.first() as usize..place.end() as usize
}

/// Writes a head as the checkpoint, signed by its owner and cosigned by all operators.
fn sign(manifest: &Manifest, log: &LogId, head: Head, folder: &Folder) {
    let key = |operator: &str| node_key(DOMAINS.iter().position(|name| *name == operator).unwrap() as u8);
    let checkpoint = Checkpoint { origin: manifest.origin(log), head };
    let cosignatures: Vec<(LogId, Cosignature)> = (manifest.operators().iter())
        .map(|by| {
            let key = key(by.name.as_str());
            let seconds = 1_795_323_600;
            (by.log(), Cosignature::sign(&checkpoint, by.name.clone(), key.ed25519().unwrap(), seconds))
        })
        .collect();
    let signed = SignedCheckpoint::sign(checkpoint, key(log.operator.as_str()).ed25519().unwrap());
    let lines = cosignatures.iter().map(|(by, cosignature)| (by, cosignature));
    let note = public::checkpoint(manifest, log, &signed, lines).unwrap();
    write(folder, &Path::Log(log.clone(), LogFile::Checkpoint), note.to_string().as_bytes());
}

fn write(folder: &Folder, path: &Path, content: &[u8]) {
    let file = folder.join(path.to_string());
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, content).unwrap();
}
