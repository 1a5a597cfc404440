//! Golden vectors: files for other implementations, compared with the code in both directions.
//!
//! `FAMA_BLESS=1` rewrites them. An interpreter that starts from the file checks each vector, and fails if it did not
//! use a file, a vector or a field of one.
mod checks;
mod examples;
mod governance;
mod invalid;
mod maps;
pub(crate) mod profiles;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use fama_ledger::batch::ReplayError;
use fama_ledger::checkpoint::{self, Checkpoint, Cosignature, SignedCheckpoint};
use fama_ledger::entry::{SignedEvent, VerifiedEntry};
use fama_ledger::event::{Action, DismissReason, Event, Method, RevokeReason, SuspendReason};
use fama_ledger::id::{EventId, FederationId, Hex, StateRoot};
use fama_ledger::key::{Curve, PublicKey};
use fama_ledger::log::{leaf_hash, prove_inclusion};
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::map::value_hash;
use fama_ledger::note::{Note, note_hash};
use fama_ledger::proof::TlogProof;
use fama_ledger::rows::MapName;
use fama_ledger::secret::SecretKey;
use fama_ledger::signed_note::SignedNote;
use fama_ledger::time::Millis;
use fama_ledger::{codec, limits};
use fama_tests::{
    DAY, MemoryReplica, START, countersigned, domain, event, federation, governance_key, log, node_key, secret, signed,
};
use serde_json::{Map, Value, json};

pub(crate) use examples::story;

use checks::{
    check_checkpoint, check_event, check_invalid, check_key, check_log, check_manifest, check_note, check_proof,
    check_row, check_state, strings,
};
use examples::{checkpoints, events, keys, logs, manifests, map_name, notes, outcome};
use invalid::invalid;

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

pub(crate) fn hex(bytes: impl AsRef<[u8]>) -> String {
    Hex(bytes.as_ref()).to_string()
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// The federation of all vectors: two operators, and the recommended policy with small daily bounds.
pub(crate) fn manifest() -> Manifest {
    federation(2, |p| {
        (p.min_sponsors, p.daily_registrations, p.daily_attestations, p.daily_retractions, p.daily_new_providers) =
            (1, 4, 4, 1, 1);
    })
}

/// Other files in the folder; the test named here reads each whole.
const ELSEWHERE: [&str; 6] =
    ["ed25519-matrix.json", "governance.json", "invalid-logs.json", "tokens.json", "upgrade", "wycheproof"];

fn made() -> BTreeMap<&'static str, Value> {
    BTreeMap::from([
        ("checkpoints.json", checkpoints()),
        ("events.json", events()),
        ("invalid.json", invalid()),
        ("keys.json", keys()),
        ("logs.json", logs()),
        ("manifests.json", manifests()),
        ("maps.json", maps::made()),
        ("notes.json", notes()),
        ("profiles.json", profiles::made()),
    ])
}

#[test]
fn the_files_are_what_the_code_makes() {
    let made = made();
    if blessing() {
        std::fs::create_dir_all(folder()).unwrap();
        for (name, value) in &made {
            write(name, value);
        }
    }
    let names: BTreeSet<String> =
        std::fs::read_dir(folder()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    let all = made.keys().chain(&ELSEWHERE).map(ToString::to_string).collect();
    assert_eq!(names, all, "every file in the folder is read");
    for (name, value) in made {
        assert!(read(name) == *value.as_array().unwrap(), "{name} differs; FAMA_BLESS=1 rewrites it");
    }
}

/// Whether the files are to be rewritten.
pub(crate) fn blessing() -> bool {
    std::env::var_os("FAMA_BLESS").is_some()
}

pub(crate) fn write(name: &str, value: &Value) {
    std::fs::write(folder().join(name), serde_json::to_string_pretty(value).unwrap() + "\n").unwrap();
}

pub(crate) fn read(name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(folder().join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// A vector, of which every field must be taken.
pub(crate) struct Vector(Map<String, Value>);

impl Vector {
    pub(crate) fn of(vector: Value) -> Self {
        let Value::Object(fields) = vector else { panic!("not an object: {vector}") };
        Self(fields)
    }

    pub(crate) fn close(self) {
        assert!(self.0.is_empty(), "unused fields {:?}", self.0);
    }

    pub(crate) fn optional(&mut self, field: &str) -> Option<Value> {
        self.0.remove(field)
    }

    pub(crate) fn truth(&mut self, field: &str) -> bool {
        self.take(field).as_bool().unwrap()
    }

    pub(crate) fn take(&mut self, field: &str) -> Value {
        self.0.remove(field).unwrap_or_else(|| panic!("no field {field} in {:?}", self.0))
    }

    pub(crate) fn text(&mut self, field: &str) -> String {
        self.take(field).as_str().unwrap().to_owned()
    }

    pub(crate) fn number(&mut self, field: &str) -> u64 {
        self.take(field).as_u64().unwrap()
    }

    pub(crate) fn bytes(&mut self, field: &str) -> Vec<u8> {
        unhex(&self.text(field))
    }

    fn secret(&mut self, field: &str) -> [u8; 32] {
        self.bytes(field).try_into().unwrap()
    }
}

#[test]
fn every_vector_of_every_file_holds() {
    let manifest = manifest();
    let mut replica = MemoryReplica::new(&manifest);
    let (mut tags, mut used) = (BTreeSet::new(), 0);
    for file in made().keys() {
        let rows_before = replica.rows.iter().count();
        let (mut rows, vectors) = (0, read(file));
        for vector in vectors {
            let mut v = Vector::of(vector);
            match v.text("type").as_str() {
                "key" => check_key(&mut v),
                "event" => check_event(&mut v),
                "note" => check_note(&mut v),
                "manifest" => check_manifest(&mut v),
                "checkpoint" => check_checkpoint(&mut v),
                "proof" => check_proof(&mut v),
                "map" => maps::check_map(&mut v),
                "map proof" => maps::check_proof(&mut v),
                "range proof" => maps::check_range(&mut v),
                "invalid map proof" => maps::check_invalid(&mut v),
                "profile" => profiles::check(&mut v),
                "invalid profile" => profiles::check_invalid(&mut v),
                "log" => check_log(&mut v, &mut replica),
                "row" => {
                    rows += 1;
                    tags.insert(check_row(&mut v, &replica));
                }
                "state" => check_state(&mut v, &replica),
                other => check_invalid(other.strip_prefix("invalid ").unwrap(), &mut v),
            }
            v.close();
            used += 1;
        }
        assert!(rows == 0 || rows == replica.rows.iter().count() - rows_before, "{file}: a row is missing");
    }
    assert_eq!(tags, (1..=15).collect(), "every tag has a row");
    assert!(used > 100, "{used} vectors");
}
