//! Checks the logs of a published folder with `tlog_tiles` and `signed_note`: notes, checkpoints, tiles, proofs.
//!
//! What those two crates lack, timestamped cosignatures (c2sp.org/tlog-cosignature), policies (c2sp.org/tlog-policy)
//! and entry bundles, is read here as the specifications define it.
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use ed25519_dalek::{Signature, VerifyingKey};
use signed_note::{Note, StandardVerifier, VerifierList};
use tlog_tiles::{
    Checkpoint, Hash, HashReader as _, Tile, TileHashReader, TileReader, check_record, check_tree, prove_record,
    prove_tree, record_hash, stored_hash_index, tree_hash,
};

type Done<T> = Result<T, Box<dyn Error>>;

fn main() -> Done<()> {
    let folder = std::env::args().nth(1).ok_or("want a published folder")?;
    let policy = Policy::read(&fs::read_to_string(Path::new(&folder).join("log/policy"))?)?;
    for (origin, key) in &policy.logs {
        let (size, cosigned) = policy.check(Path::new(&folder), origin, key)?;
        println!("{origin} {size} {cosigned}");
    }
    Ok(())
}

/// A c2sp.org/tlog-policy with one group of witnesses.
struct Policy {
    /// Origin and verifier key.
    logs: Vec<(String, String)>,
    witnesses: Vec<Witness>,
    threshold: usize,
}

/// A key of type 0x04.
#[derive(Clone)]
struct Witness {
    name: String,
    id: u32,
    key: VerifyingKey,
}

impl signed_note::Verifier for Witness {
    fn name(&self) -> &str {
        &self.name
    }

    fn key_id(&self) -> u32 {
        self.id
    }

    /// A big-endian time in seconds, and an Ed25519 signature over it and the note.
    fn verify(&self, text: &[u8], bytes: &[u8]) -> bool {
        let Some((time, signature)) = bytes.split_first_chunk::<8>() else { return false };
        let Ok(signature) = Signature::from_slice(signature) else { return false };
        let mut signed = format!("cosignature/v1\ntime {}\n", u64::from_be_bytes(*time)).into_bytes();
        signed.extend_from_slice(text);
        self.key.verify_strict(&signed, &signature).is_ok()
    }
}

impl Witness {
    fn read(key: &str) -> Done<Self> {
        let (name, rest) = key.split_once('+').ok_or("no key name")?;
        let (id, encoded) = rest.split_once('+').ok_or("no key id")?;
        let bytes = BASE64_STANDARD.decode(encoded)?;
        let id = u32::from_str_radix(id, 16)?;
        if id != signed_note::key_id(name, &bytes) {
            return Err("the key id is not that of the key".into());
        }
        let Some((4, key)) = bytes.split_first() else { return Err("want a key of type 0x04".into()) };
        Ok(Self { name: name.into(), id, key: VerifyingKey::from_bytes(key.try_into()?)? })
    }
}

impl Policy {
    fn read(text: &str) -> Done<Self> {
        let (mut logs, mut witnesses, mut group, mut quorum) = (Vec::new(), Vec::new(), None, None);
        for line in text.lines() {
            match line.split([' ', '\t']).collect::<Vec<_>>().as_slice() {
                ["log", key] => logs.push((key.split('+').next().ok_or("no origin")?.into(), (*key).into())),
                ["witness", name, key] => {
                    let witness = Witness::read(key)?;
                    witnesses.push((name.to_string(), witness));
                }
                ["group", name, threshold, members @ ..] => {
                    let known = members.iter().all(|member| witnesses.iter().any(|(name, _)| name == member));
                    if !known || members.len() != witnesses.len() {
                        return Err("the group is not that of all witnesses".into());
                    }
                    group = Some((name.to_string(), threshold.parse()?));
                }
                ["quorum", name] => quorum = Some(name.to_string()),
                _ => return Err(format!("not a line of a policy: {line}").into()),
            }
        }
        let (name, threshold) = group.ok_or("no group")?;
        if quorum.as_ref() != Some(&name) || logs.is_empty() {
            return Err("no quorum or no log".into());
        }
        Ok(Self { logs, witnesses: witnesses.into_iter().map(|(_, witness)| witness).collect(), threshold })
    }

    /// Returns the size of a log and the number of its cosignatures.
    fn check(&self, folder: &Path, origin: &str, key: &str) -> Done<(u64, usize)> {
        let (_, log) = origin.split_once('/').and_then(|(_, rest)| rest.split_once('/')).ok_or("not an origin")?;
        let folder = folder.join("log").join(log);
        let note = Note::from_bytes(&fs::read(folder.join("checkpoint"))?)?;
        let owner = VerifierList::new(vec![Box::new(StandardVerifier::new(key)?)]);
        let (signed, _) = note.verify(&owner)?;
        let witnesses = self.witnesses.iter().map(|one| Box::new(one.clone()) as Box<dyn signed_note::Verifier>);
        let (cosigned, _) = note.verify(&VerifierList::new(witnesses.collect()))?;
        if signed.len() != 1 || cosigned.len() < self.threshold {
            return Err(format!("{origin}: {} cosigned, {} must", cosigned.len(), self.threshold).into());
        }
        let checkpoint = Checkpoint::from_bytes(note.text()).map_err(|error| error.to_string())?;
        if checkpoint.origin() != origin || !checkpoint.extension().is_empty() {
            return Err(format!("{origin}: a checkpoint of {}", checkpoint.origin()).into());
        }
        check_tree_of(&folder, checkpoint.size(), *checkpoint.hash())?;
        Ok((checkpoint.size(), cosigned.len()))
    }
}

/// Tiles in a folder.
struct Folder<'a>(&'a Path);

impl Folder<'_> {
    /// The crate's paths name the height; the specification's do not, and say `entries` for data.
    fn path(&self, tile: &Tile) -> PathBuf {
        let path = tile.path().replacen("tile/8/", "tile/", 1).replacen("tile/data/", "tile/entries/", 1);
        self.0.join(path)
    }
}

impl TileReader for Folder<'_> {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, tlog_tiles::Error> {
        tiles.iter().map(|tile| fs::read(self.path(tile)).map_err(|_| tlog_tiles::Error::InvalidTile)).collect()
    }

    fn save_tiles(&self, _: &[Tile], _: &[Vec<u8>]) {}
}

/// Checks that every entry is in the tree, and some proofs of inclusion and of consistency with smaller trees.
fn check_tree_of(folder: &Path, size: u64, root: Hash) -> Done<()> {
    let files = Folder(folder);
    let reader = TileHashReader::new(size, root, &files);
    if tree_hash(size, &reader)? != root {
        return Err("the tiles make another root".into());
    }
    let mut entries = 0;
    for first in (0..size).step_by(256) {
        let width = u32::try_from((size - first).min(256))?;
        let bundle = fs::read(files.path(&Tile::new(8, 0, first / 256, width, true)))?;
        let leaves: Vec<Hash> = split(&bundle)?.into_iter().map(record_hash).collect();
        if leaves.len() != width as usize {
            return Err(format!("{} entries from {first} on, want {width}", leaves.len()).into());
        }
        let indexes: Vec<u64> = (first..).take(leaves.len()).map(|n| stored_hash_index(0, n)).collect();
        if reader.read_hashes(&indexes)? != leaves {
            return Err(format!("entries from {first} on are not those of the tree").into());
        }
        for (n, leaf) in (first..).zip(leaves).filter(|(n, _)| n % 37 == 0 || n + 1 == size) {
            check_record(&prove_record(size, n, &reader)?, size, root, n, leaf)?;
        }
        entries += u64::from(width);
        let older = first + 1;
        check_tree(&prove_tree(size, older, &reader)?, size, root, older, tree_hash(older, &reader)?)?;
    }
    if entries == size { Ok(()) } else { Err(format!("{entries} entries of {size}").into()) }
}

/// Entries, each after its length: two bytes, big-endian.
fn split(mut bundle: &[u8]) -> Done<Vec<&[u8]>> {
    let mut entries = Vec::new();
    while !bundle.is_empty() {
        let (length, rest) = bundle.split_first_chunk().ok_or("half a length")?;
        let (entry, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into()).ok_or("half an entry")?;
        entries.push(entry);
        bundle = rest;
    }
    Ok(entries)
}
