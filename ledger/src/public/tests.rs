use alloc::borrow::ToOwned;
use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use alloc::{format, vec};

use ed25519_dalek::SigningKey;

use super::*;
use crate::checkpoint::{Checkpoint, Cosignature, SignedCheckpoint};
use crate::id::Domain;
use crate::limits::{CHECKPOINT_BYTES_MAX, DOMAIN_BYTES_MAX, ENTRY_BYTES_MAX, OPERATORS_MAX};
use crate::log::Head;
use crate::manifest::{Genesis, Manifest, Operator, Policy};
use crate::note_quorum::NoteQuorum;
use crate::signed_note::{SignedNote, sign};

const HASH: &str = "11111111111111111111111111111111111111111111111111111111111111ff";

#[test]
fn a_list_of_dropped_notes_has_one_text() {
    let notes: BTreeSet<NoteHash> = [3, 1, 2].map(|byte| NoteHash([byte; 32])).into();
    let text = dropped(&notes);
    assert_eq!(text.lines().count(), 3);
    assert_eq!(read_dropped(&text), Ok(notes));
    assert_eq!(read_dropped(""), Ok(BTreeSet::new()));
    let line = |byte| format!("{}\n", NoteHash([byte; 32]));
    for wrong in [
        "\n".to_owned(),
        line(1) + &line(1),
        line(2) + &line(1),
        line(1).trim_end().to_owned(),
        line(1) + "\n",
        format!("{HASH}\r\n"),
        format!("sha256:{HASH}\n"),
    ] {
        assert_eq!(read_dropped(&wrong), Err(PathError), "{wrong:?}");
    }
    let most = |count: u32| (0..count).map(|n| format!("{n:064x}\n")).collect::<String>();
    let all = most(100_000);
    assert_eq!(all.len(), Path::Dropped.bytes_max());
    assert!(read_dropped(&all).is_ok());
    assert_eq!(read_dropped(&most(100_001)), Err(PathError));
}

#[test]
fn paths_read_back_and_have_no_aliases() {
    let log = "log/alpha.example/3";
    let valid = [
        "manifest/1".to_owned(),
        "manifest/4294967295".to_owned(),
        "log/policy".to_owned(),
        "note/dropped".to_owned(),
        format!("note/{HASH}"),
        format!("{log}/checkpoint"),
        format!("{log}/tile/0/000"),
        format!("{log}/tile/0/999.p/1"),
        format!("{log}/tile/63/x001/000.p/255"),
        format!("{log}/tile/1/x001/x234/067"),
        format!("{log}/tile/entries/x001/x000/000"),
        format!("{log}/tile/entries/273.p/112"),
        // The last bundle of the longest possible log.
        format!("{log}/tile/entries/x036/x028/x797/x018/x963/967"),
    ];
    for path in &valid {
        let read: Path = path.parse().unwrap_or_else(|_| panic!("{path}"));
        assert_eq!(read.to_string(), *path);
    }
    let invalid = [
        "",
        "/",
        "manifest",
        "manifest/",
        "manifest/0",
        "manifest/01",
        "manifest/+1",
        "manifest/4294967296",
        "manifest/1/",
        "/manifest/1",
        "log",
        "log/",
        "log/policy/",
        "note/",
        "note/dropped/",
        "note/11",
        "checkpoint",
        "tile/0/000",
        "log/alpha.example/checkpoint",
        "log/alpha.example/03/checkpoint",
        "log/Alpha.example/3/checkpoint",
        "log/alpha/3/checkpoint",
        "log/policy/1/checkpoint",
    ];
    let files = [
        "",
        "checkpoint/",
        "Checkpoint",
        "tile",
        "tile/",
        "tile/0",
        "tile/0/",
        "tile/00/000",
        "tile/64/000",
        "tile/-1/000",
        "tile/0/0",
        "tile/0/00",
        "tile/0/0000",
        "tile/0/x000/000",
        "tile/0/x001",
        "tile/0/001/000",
        "tile/0/x1/000",
        "tile/0/x001/x000",
        "tile/0/x001//000",
        "tile/0/+01",
        "tile/0/000/",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000.p/",
        "tile/0/000.p",
        "tile/0/000.p/1/",
        "tile/0/000.p/+1",
        "tile/entries",
        "tile/entries/",
        "tile/data/000",
        "tile/entries/x036/x028/x797/x018/x963/968",
        "tile/0/x018/x446/x744/x073/x709/x551/616",
        "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
        "tile/0/\u{661}00",
    ];
    let invalid = invalid.map(String::from).into_iter().chain(files.map(|file| format!("{log}/{file}")));
    for path in invalid {
        assert_eq!(path.parse::<Path>(), Err(PathError), "{path}");
    }
}

#[test]
fn any_flipped_bit_names_another_file_or_none() {
    let path = "log/alpha.example/3/tile/1/x001/x234/067.p/112";
    for bit in 0..path.len() * 8 {
        let mut bytes = path.as_bytes().to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let Ok(other) = String::from_utf8(bytes) else { continue };
        let read: Result<Path, _> = other.parse();
        assert!(read.is_err() || read.unwrap().to_string() == other, "{other}");
    }
}

/// The example in c2sp.org/tlog-tiles: a tree of 70,000 leaves.
#[test]
fn a_tree_has_the_tiles_of_the_specification() {
    let files: Vec<String> = LogFile::grown(0, 70_000).map(|file| file.to_string()).collect();
    let of = |prefix: &str| files.iter().filter(|file| file.starts_with(prefix)).count();
    assert_eq!((of("tile/0/"), of("tile/1/"), of("tile/2/"), of("tile/entries/"), files.len()), (274, 2, 1, 274, 551));
    for last in ["tile/0/272", "tile/0/273.p/112", "tile/1/000", "tile/1/001.p/17", "tile/2/000.p/1"] {
        assert!(files.iter().any(|file| file == last), "{last}");
    }
    let of_256: Vec<String> = LogFile::grown(0, 256).map(|file| file.to_string()).collect();
    assert_eq!(of_256, ["tile/entries/000", "tile/0/000", "tile/1/000.p/1"]);
    assert_eq!(LogFile::grown(0, 0).count(), 0);
}

#[test]
fn grown_files_are_exactly_those_that_the_smaller_tree_lacks() {
    let sizes = [0, 1, 2, 255, 256, 257, 511, 512, 513, 65_535, 65_536, 65_537, 70_000, 131_072];
    for size in sizes {
        let whole: BTreeSet<LogFile> = LogFile::grown(0, size).collect();
        assert!(whole.iter().all(|file| file.is_within(size)));
        for before in sizes.into_iter().filter(|before| *before <= size) {
            let old: BTreeSet<LogFile> = LogFile::grown(0, before).collect();
            let grown: BTreeSet<LogFile> = LogFile::grown(before, size).collect();
            assert_eq!(grown, whole.difference(&old).copied().collect(), "{before} to {size}");
        }
    }
}

#[test]
fn a_file_is_within_a_tree_that_has_its_hashes() {
    let check = |file: &str, least: u64| {
        let file: LogFile = file.parse().unwrap();
        assert!(file.is_within(least) && file.is_within(least + 1) && file.is_within(u64::MAX), "{file}");
        assert!(least == 0 || !file.is_within(least - 1), "{file}");
    };
    check("checkpoint", 0);
    check("tile/entries/000.p/1", 1);
    check("tile/entries/001", 512);
    check("tile/0/001.p/3", 259);
    check("tile/1/000.p/2", 512);
    check("tile/2/000.p/1", 65_536);
    assert!(!LogFile::Tile(63, TilePosition::new(0, 1).unwrap()).is_within(u64::MAX));
}

#[test]
fn tiles_and_bundles_read_back_and_nothing_else_does() {
    let place = |width| TilePosition::new(0, width).unwrap();
    let tree = vec![[7; 32], [8; 32]];
    assert_eq!(hashes(&tile(&tree), place(2)), Ok(tree.clone()));
    for wrong in [1, 3, 256] {
        assert_eq!(hashes(&tile(&tree), place(wrong)), Err(TileError::Length));
    }
    assert_eq!(hashes(&tile(&tree)[1..], place(2)), Err(TileError::Length));
    let (longest, all) = (vec![9; ENTRY_BYTES_MAX], [vec![], vec![1, 2, 3], vec![9; ENTRY_BYTES_MAX]]);
    let bytes = bundle(&all).unwrap();
    assert_eq!(bytes[..8], [0, 0, 0, 3, 1, 2, 3, 0x10]);
    assert_eq!(entries(&bytes, place(3)), Ok(vec![&[][..], &[1, 2, 3], &longest]));
    for wrong in [1, 2, 4] {
        assert_eq!(entries(&bytes, place(wrong)), Err(TileError::Length), "{wrong}");
    }
    for end in 0..bytes.len() {
        assert_eq!(entries(&bytes[..end], place(3)), Err(TileError::Length), "{end}");
    }
    assert_eq!(bundle(&[vec![0; ENTRY_BYTES_MAX + 1]]), Err(TileError::Entry(ENTRY_BYTES_MAX + 1)));
    assert_eq!(entries(&[&[0x10, 1][..], &[0; 4_097]].concat(), place(1)), Err(TileError::Entry(4_097)));
    let full = vec![longest; 256];
    assert_eq!(bundle(&full).unwrap().len(), BUNDLE_BYTES_MAX);
}

fn key(seed: usize) -> SigningKey {
    SigningKey::from_bytes(&[u8::try_from(seed).unwrap() + 1; 32])
}

fn federation(names: &[Domain]) -> Arc<Manifest> {
    let operator = |(i, name): (usize, &Domain)| Operator {
        name: name.clone(),
        node_key: key(i).verifying_key(),
        governance_key: key(i + 100).verifying_key(),
        generation: 1,
        begins: crate::time::Millis::FIRST,
        addresses: Vec::new(),
        endpoints: crate::manifest::Endpoints::default(),
    };
    let operators = names.iter().enumerate().map(operator).collect();
    let policy = Policy::recommended(names.len());
    let text = Genesis { name: "test".into(), policy, operators }.text().unwrap();
    let signatures = names.iter().enumerate().map(|(i, name)| sign(&text, name.as_str(), &key(i + 100))).collect();
    Arc::new(Manifest::parse(&SignedNote { text, signatures }.to_string()).unwrap())
}

fn log(name: &Domain) -> LogId {
    LogId { operator: name.clone(), generation: 1 }
}

#[test]
fn the_policy_is_the_manifests_quorum() {
    let names: Vec<Domain> = ["alpha.example", "beta.example"].map(|name| name.parse().unwrap()).to_vec();
    let manifest = federation(&names);
    // Key ids and keys by Python's hashlib and cryptography, from seeds of 32 bytes 1 and 32 bytes 2.
    let origin = |name: &str| format!("fama/{}/{name}/1", manifest.federation());
    let text = policy(&manifest);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 6);
    assert!(lines[0].starts_with(&format!("log {}+", origin("alpha.example"))), "{text}");
    assert!(lines[0].ends_with("+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c"), "{text}");
    assert!(lines[2].starts_with("witness alpha.example alpha.example+"), "{text}");
    assert!(lines[2].ends_with("+BIqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c"), "{text}");
    assert!(lines[3].starts_with("witness beta.example beta.example+"), "{text}");
    assert_eq!(lines[4..], ["group operators 2 alpha.example beta.example", "quorum operators"]);
}

#[test]
fn the_largest_federation_fits() {
    let label = "a".repeat(61);
    let name = |i: usize| format!("{label}.{label}.{label}.{label}.{i:03}").chars().take(DOMAIN_BYTES_MAX).collect();
    let names: Vec<String> = (0..OPERATORS_MAX).map(name).collect();
    let names: Vec<Domain> = names.iter().map(|name| name.parse().unwrap()).collect();
    let manifest = federation(&names);
    assert!(policy(&manifest).len() <= POLICY_BYTES_MAX);
    let (owner, head) = (log(&names[0]), Head { size: 1 << 62, ..Head::EMPTY });
    let signed = SignedCheckpoint::sign(Checkpoint { origin: manifest.origin(&owner), head }, &key(0));
    let cosign = |(i, name): (usize, &Domain)| {
        (log(name), Cosignature::sign(signed.checkpoint(), name.clone(), &key(i), u64::MAX))
    };
    let cosigned: Vec<_> = names.iter().enumerate().map(cosign).collect();
    let note = checkpoint(&manifest, &owner, &signed, cosigned.iter().map(|(by, one)| (by, one))).unwrap();
    assert!(note.to_string().len() <= CHECKPOINT_BYTES_MAX);
    let read = NoteQuorum::read(&note, &owner, &manifest, &manifest).unwrap();
    assert!(read.is_reached(), "{} of {}", read.found(), read.wanted);
}

#[test]
fn a_head_is_certified_by_its_own_logs_note_only() {
    let names: Vec<Domain> = ["a.example", "b.example", "c.example", "d.example"].map(|n| n.parse().unwrap()).to_vec();
    let manifest = federation(&names);
    let (owner, head) = (log(&names[1]), Head { size: 9, ..Head::EMPTY });
    let signed = SignedCheckpoint::sign(Checkpoint { origin: manifest.origin(&owner), head }, &key(1));
    let cosign =
        |i: usize| (log(&names[i]), Cosignature::sign(signed.checkpoint(), names[i].clone(), &key(i), 1_795_000_000));
    let enough = |by: &[usize]| {
        let cosigned: Vec<_> = by.iter().map(|i| cosign(*i)).collect();
        let note = checkpoint(&manifest, &owner, &signed, cosigned.iter().map(|(by, one)| (by, one))).unwrap();
        NoteQuorum::read(&note, &owner, &manifest, &manifest).map(|read| read.is_reached())
    };
    assert_eq!(enough(&[]), Ok(false));
    assert_eq!(enough(&[0, 3]), Ok(false));
    assert_eq!(enough(&[0, 1, 3]), Ok(true), "the owner's own cosignature counts");
    let cosigned: Vec<_> = (0..4).map(cosign).collect();
    let note = checkpoint(&manifest, &owner, &signed, cosigned.iter().map(|(by, one)| (by, one))).unwrap();
    assert!(NoteQuorum::read(&note, &log(&names[0]), &manifest, &manifest).is_err(), "another log's");
    assert_eq!(checkpoint(&manifest, &LogId { generation: 2, ..owner }, &signed, []), None);
}
