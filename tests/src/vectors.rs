//! Golden vectors: files for other implementations, read and compared in both directions.
//!
//! `FAMA_BLESS=1` writes them anew. Each is checked by an interpreter that starts from the file, and
//! fails if a file, a vector or a field of one was not used.
mod maps;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use fama_ledger::batch::ReplayError;
use fama_ledger::checkpoint::{self, Checkpoint, Cosignature, SignedCheckpoint};
use fama_ledger::entry::{SignedEvent, VerifiedEntry};
use fama_ledger::event::{Action, DismissReason, Event, Method, RevokeReason};
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
    DAY, Replica, START, countersigned, domain, event, federation, governance_key, log, node_key, secret, signed,
};
use serde_json::{Map, Value, json};

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

pub(crate) fn hex(bytes: impl AsRef<[u8]>) -> String {
    Hex(bytes.as_ref()).to_string()
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// The federation of all vectors: two operators, the recommended policy but for small bounds of a day.
pub(crate) fn manifest() -> Manifest {
    federation(2, |p| {
        (p.min_sponsors, p.daily_registrations, p.daily_attestations, p.daily_retractions, p.daily_claims) =
            (1, 4, 4, 1, 1);
    })
}

/// What the folder holds beside them, each read whole by the test of its name.
const ELSEWHERE: [&str; 3] = ["ed25519-matrix.json", "invalid-logs.json", "wycheproof"];

// ---------------------------------------------------------------- made

fn keys() -> Value {
    let seeds = [2u8, 3, 4, 5, 200, 220];
    let secrets = seeds.map(|seed| if seed < 200 { secret(seed) } else { node_or_governance(seed) });
    seeds.iter().zip(&secrets).map(|(seed, secret)| key_vector(*seed, secret)).collect()
}

fn node_or_governance(seed: u8) -> SecretKey {
    if seed < 220 { node_key(seed - 200) } else { governance_key(seed - 220) }
}

fn key_vector(seed: u8, secret: &SecretKey) -> Value {
    let public = secret.public();
    json!({
        "type": "key", "curve": public.curve().as_str(), "seed": hex([seed; 32]), "public": public.to_string(),
        "hash": public.hash().to_string(), "pem": public.to_pem().unwrap(),
        "message": "fama", "signature": hex(secret.sign(b"fama").as_bytes()),
    })
}

/// The events of the story that the vectors tell, each with the operator whose log takes it.
pub(crate) fn story() -> Vec<(usize, Millis, SignedEvent)> {
    let federation = manifest().federation();
    let (service, mapper, next, other, stranger) = (secret(2), secret(3), secret(5), secret(4), secret(6));
    let (alpha, beta) = (domain("alpha.example"), domain("beta.example"));
    let note = Note { salt: [9; 32], bio: Some("I draw maps.".to_owned()), ..Note::default() };
    let mut nonce = 0x0123_4567_89ab_cd00;
    let mut make = |seconds: u64, action: Action| {
        nonce += 1;
        event(federation, action, START.plus(seconds * 1_000), nonce)
    };
    let register = |home: &str, name: &str, key: &SecretKey, next: Option<&SecretKey>, note: Option<&Note>| {
        let (next, note) = (next.map(|key| key.public().hash()), note.map(|note| note_hash(note.text().as_bytes())));
        Action::Register { home: domain(home), name: name.parse().unwrap(), key: key.public(), next, note }
    };
    let one = make(1, register("alpha.example", "ml-overflow", &service, None, None));
    let two = make(2, register("beta.example", "swift-core-maps", &mapper, Some(&next), Some(&note)));
    let (issuer, subject) = (one.id(), two.id());
    let attest = |delta, context: Option<&str>, note| Action::Attest {
        home: alpha.clone(),
        issuer,
        subject,
        delta,
        context: context.map(|context| context.parse().unwrap()),
        note,
    };
    let reason = Note {
        salt: [8; 32],
        reason: Some("good answer".to_owned()),
        reference: Some("https://service.example/a/1".to_owned()),
        ..Note::default()
    };
    let (slug, place) = ("ml_overflow", domain("service.example"));
    let admit = Action::Admit {
        operator: beta.clone(),
        provider: issuer,
        service: slug.parse().unwrap(),
        domain: place.clone(),
        method: Method::Dns,
        from: 0,
    };
    let dismiss = Action::Dismiss {
        operator: beta.clone(),
        provider: issuer,
        service: slug.parse().unwrap(),
        domain: place,
        from: 9,
        reason: DismissReason::Expired,
    };
    let rotate = Action::Rotate { home: alpha.clone(), identity: issuer, version: 2, key: other.public(), next: None };
    let revoke = |identity, version, key: &SecretKey| Action::Revoke {
        home: beta.clone(),
        identity,
        version,
        key: key.public(),
        reason: RevokeReason::KeyCompromised,
    };
    let given = make(3, attest(5, Some("code"), Some(note_hash(reason.text().as_bytes()))));
    let taken = Action::Retract { home: alpha.clone(), issuer, subject, day: START.day(), attestation: given.id() };
    let attested = signed(given, &service);
    let first = signed(one, &service);
    let at = |seconds: u64| START.plus(seconds * 1_000);
    vec![
        (0, at(1), first.clone()),
        (1, at(2), signed(two, &mapper)),
        (1, at(2), signed(make(2, admit), &node_key(1))),
        (0, at(3), attested.clone()),
        (0, at(4), signed(make(4, attest(-2, None, None)), &service)),
        (0, at(5), signed(make(5, taken), &service)),
        (0, at(6), countersigned(make(6, rotate), &service, &other)),
        (1, at(7), signed(make(7, dismiss), &node_key(1))),
        (0, at(8), signed(make(8, revoke(subject, 1, &mapper)), &next)),
        (1, at(9), signed(make(9, revoke(subject, 1, &mapper)), &mapper)),
        // Void ones, as a careless owner might log them.
        (0, at(10), first),
        (0, at(10), attested),
        (0, at(10), signed(make(10, attest(0, None, None)), &other)),
        (0, at(10), signed(make(10, attest(6, None, None)), &stranger)),
        (1, at(10), signed(make(10, attest(1, None, None)), &other)),
        (0, at(10), signed(make(10, revoke(EventId([1; 32]), 1, &mapper)), &mapper)),
        (0, Millis(at(10).0 + DAY), signed(make(10, attest(3, None, None)), &other)),
        (0, Millis(at(10).0 + 4 * DAY), signed(make(10, attest(3, None, None)), &other)),
    ]
}

fn seed_of(key: &PublicKey) -> u8 {
    let found = (2..=7).find(|seed| secret(*seed).public() == *key);
    found.or_else(|| (200..202).find(|seed| node_or_governance(*seed).public() == *key)).unwrap()
}

fn event_vector(time: Millis, said: &SignedEvent) -> Value {
    let text = said.event.text();
    let entry = VerifiedEntry::of(time, said.clone().verify(&said.event.federation).unwrap());
    let mut vector = json!({
        "type": "event", "kind": said.event.action.kind().as_str(), "text": text, "id": said.event.id().to_string(),
        "signer": said.signer.to_string(), "seed": hex([seed_of(&said.signer); 32]),
        "signature": hex(said.signature.as_bytes()), "time": time.0, "entry": hex(entry.bytes()),
        "leaf": hex(leaf_hash(entry.bytes())),
    });
    if let (Some(signature), Action::Rotate { key, .. }) = (&said.countersignature, &said.event.action) {
        vector["countersignature"] = hex(signature.as_bytes()).into();
        vector["counterseed"] = hex([seed_of(key); 32]).into();
    }
    vector
}

fn events() -> Value {
    story().iter().take(10).map(|(_, time, said)| event_vector(*time, said)).collect()
}

fn notes() -> Value {
    let notes = [
        Note { salt: [9; 32], bio: Some("I draw maps.".to_owned()), ..Note::default() },
        Note {
            salt: [8; 32],
            reason: Some("good answer".to_owned()),
            reference: Some("https://service.example/a/1".to_owned()),
            bio: None,
        },
        Note { salt: [0xab; 32], bio: Some("地図を描きます 🗺️".to_owned()), ..Note::default() },
        Note { salt: [7; 32], reference: Some("ticket 12".to_owned()), ..Note::default() },
        Note { salt: [6; 32], ..Note::default() },
    ];
    let vector = |note: &Note| json!({"type": "note", "text": note.text(), "hash": note_hash(note.text().as_bytes()).to_string()});
    notes.iter().map(vector).collect()
}

fn manifests() -> Value {
    let vector = |manifest: &Manifest| {
        json!({
            "type": "manifest", "note": manifest.note().to_string(), "federation": manifest.federation().to_string(),
            "quorum": manifest.quorum(), "faults": manifest.faults(),
            "origin": manifest.origin(&log(0)).to_string(),
        })
    };
    [manifest(), federation(1, |_| ()), federation(4, |_| ())].iter().map(vector).collect()
}

/// The replica that the story makes.
fn told(manifest: &Manifest) -> Replica<'_> {
    let mut replica = Replica::adopted(manifest);
    for (i, time, said) in story() {
        let _ = replica.say(&log(i), time, said);
    }
    replica
}

fn map_name(manifest: &Manifest, id: fama_ledger::rows::MapId) -> String {
    let logs = manifest.operators().iter().map(fama_ledger::manifest::Operator::log);
    let mut names = logs
        .flat_map(|log| fama_ledger::batch::LogMaps::names(manifest, &log).into_iter().map(move |n| (n, log.clone())));
    let (name, log) = names.find(|(name, _)| name.id() == id).unwrap();
    if name.as_str() == "log" { format!("log/{log}") } else { name.as_str().to_owned() }
}

fn logs() -> Value {
    let manifest = manifest();
    let replica = told(&manifest);
    let mut vectors: Vec<Value> = Vec::new();
    let mut fresh = Replica::new(&manifest);
    for (log, mirror) in &replica.logs {
        let replayed = fresh.deliver(log, 0, &mirror.entries);
        let word = |outcome: &Option<fama_ledger::fold::Outcome>| match outcome {
            None => "adopted",
            Some(Ok(_)) => "applied",
            Some(Err(void)) => void.code(),
        };
        let outcomes: Vec<Vec<&str>> = replayed.iter().map(|batch| batch.outcomes.iter().map(word).collect()).collect();
        let entries: Vec<String> = mirror.entries.iter().map(|entry| hex(entry.bytes())).collect();
        vectors.push(json!({
            "type": "log", "operator": log.operator.as_str(), "generation": log.generation, "entries": entries,
            "outcomes": outcomes, "size": mirror.tree.size(), "root": mirror.tree.head().root.to_string(),
            "state_root": mirror.state_root.to_string(),
        }));
    }
    for ((map, key), value) in replica.rows.iter() {
        vectors.push(json!({
            "type": "row", "map": map_name(&manifest, *map), "tag": key[0], "key": hex(key), "value": hex(value),
        }));
    }
    vectors.push(json!({
        "type": "state", "manifest": manifest.note().to_string(), "state_id": replica.state_id().to_string(),
        "empty_state_id": Replica::new(&manifest).state_id().to_string(),
        "dump": hex(replica.join().dump().unwrap()),
    }));
    Value::Array(vectors)
}

fn checkpoints() -> Value {
    let manifest = manifest();
    let replica = told(&manifest);
    let (log, index) = (log(0), 2);
    let mirror = &replica.logs[&log];
    let head = mirror.tree.head();
    let signed =
        SignedCheckpoint::sign(Checkpoint { origin: manifest.origin(&log), head }, node_key(0).ed25519().unwrap());
    let cosign = |i: u8, seconds| {
        let (key, operator) = (node_key(i), manifest.operators()[usize::from(i)].name.clone());
        let key = key.ed25519().unwrap();
        (Cosignature::sign(signed.checkpoint(), operator, key, seconds), key.verifying_key())
    };
    let owner = node_key(0).ed25519().unwrap().verifying_key();
    let note = checkpoint::note(&signed, &owner, &[cosign(0, 1_795_323_611), cosign(1, 1_795_323_612)]);
    let path = prove_inclusion(index, head.size, &mirror.tiles).unwrap();
    let proof = TlogProof { extra: None, index, path, checkpoint: note.clone() };
    let entry = hex(mirror.entries[index as usize].bytes());
    json!([
        {"type": "checkpoint", "note": note.to_string(), "text": note.text, "size": head.size, "cosigners": ["alpha.example", "beta.example"]},
        {"type": "proof", "entry": entry, "index": index, "proof": proof.to_string()},
    ])
}

/// Wrong on purpose: how to make the input from a good one, and the code.
fn invalid() -> Value {
    let mut all = Vec::new();
    let mut add = |what: &str, why: &str, input: String, code: &str| {
        all.push(json!({"type": format!("invalid {what}"), "why": why, "input": input, "code": code}));
    };
    let (_, time, said) = story().remove(3);
    let text = said.event.text();
    let changed = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    };
    for (why, input, code) in [
        ("another first line", changed("fama.event/1", "fama.event/2"), "first_line"),
        ("the last newline is missing", text.trim_end().to_owned(), "no_newline"),
        ("a line after the last", format!("{text}x: y\n"), "extra_line"),
        ("two fields swapped", changed("delta: 5\ncontext: code\n", "context: code\ndelta: 5\n"), "wrong_field"),
        ("ends after the kind", text[..text.find("home").unwrap()].to_owned(), "missing_field"),
        ("no space behind the colon", changed("delta: 5", "delta:5"), "no_colon"),
        ("an empty value", changed("code", ""), "empty_value"),
        ("a space at the end", changed("code", "code "), "outer_space"),
        ("a bidirectional control", changed("code", "co\u{202e}de"), "forbidden_character"),
        ("a plus before the number", changed("delta: 5", "delta: +5"), "bad_value"),
        ("a leading zero", changed("delta: 5", "delta: 05"), "bad_value"),
        ("a leap second", changed("05:00:03", "05:00:60"), "bad_value"),
        ("upper-case hex", changed("nonce: 0123456789abcd0", "nonce: 0123456789ABCD0"), "bad_value"),
        ("an unknown kind", changed("kind: attest", "kind: vouch"), "bad_value"),
        ("a dot at the end of the domain", changed("alpha.example", "alpha.example."), "bad_value"),
        ("longer than any event", format!("{text}{}", " ".repeat(limits::TEXT_BYTES_MAX)), "too_long"),
    ] {
        add("event", why, input, code);
    }
    for (why, input, code) in [
        ("no salt", "fama.note/1\nbio: b\n".to_owned(), "wrong_field"),
        ("a bio and a reason", format!("fama.note/1\nsalt: {}\nbio: b\nreason: r\n", hex([1; 32])), "extra_line"),
        (
            "a reason of 201 bytes",
            format!("fama.note/1\nsalt: {}\nreason: {}\n", hex([1; 32]), "r".repeat(201)),
            "bad_value",
        ),
        ("a line separator", format!("fama.note/1\nsalt: {}\nbio: a\u{2028}b\n", hex([1; 32])), "forbidden_character"),
    ] {
        add("note", why, input, code);
    }
    let entry = VerifiedEntry::of(time, said.clone().verify(&said.event.federation).unwrap()).into_bytes();
    let flipped = |at: usize, bit: u8| {
        let mut bytes = entry.clone();
        bytes[at] ^= bit;
        hex(bytes)
    };
    let encoded = |said: SignedEvent| {
        let body = fama_ledger::entry::Body::Event(said);
        hex(codec::encode(&fama_ledger::entry::Entry { time, body }))
    };
    let foreign = Event { federation: FederationId([1; 32]), ..said.event.clone() };
    let zero = Event {
        action: Action::Rotate {
            home: domain("alpha.example"),
            identity: EventId([1; 32]),
            version: 0,
            key: secret(2).public(),
            next: None,
        },
        ..said.event
    };
    let stolen = story().remove(0).2;
    let unsigned = SignedEvent { countersignature: None, ..story().remove(6).2 };
    let high = {
        let mut bytes: [u8; 65] = said.signature.as_bytes().try_into().unwrap();
        bytes[32] |= 0x80;
        SignedEvent { signature: fama_ledger::key::Signature::Secp256k1(bytes), ..said }
    };
    for (why, input, code) in [
        ("nothing", String::new(), "malformed_encoding"),
        ("cut short", hex(&entry[..entry.len() - 1]), "malformed_encoding"),
        ("a byte too many", hex([entry.as_slice(), &[0]].concat()), "not_canonical"),
        ("an unknown body", flipped(8, 0x80), "malformed_encoding"),
        ("an option that is neither 0 nor 1", flipped(entry.len() - 1, 2), "malformed_encoding"),
        ("another recovery id", flipped(entry.len() - 2, 1), "signature_recovery_id"),
        ("another r", flipped(entry.len() - 40, 1), "signature_mismatch"),
        ("longer than any entry", hex(vec![0; limits::ENTRY_BYTES_MAX + 1]), "too_long"),
        ("another federation", encoded(signed(foreign, &secret(2))), "wrong_federation"),
        ("a value that no text can have", encoded(signed(zero, &secret(2))), "malformed_field"),
        ("a registration of somebody else's key", encoded(signed(stolen.event, &secret(3))), "not_possessed"),
        ("a rotation without the new key's signature", encoded(unsigned), "countersignature"),
        ("a high s", encoded(high), "signature_high_s"),
    ] {
        add("entry", why, input, code);
    }
    invalid_notes(&mut add);
    invalid_batches(&mut add);
    Value::Array(all)
}

type Add<'a> = dyn FnMut(&str, &str, String, &str) + 'a;

fn invalid_notes(add: &mut Add<'_>) {
    let good = manifest().note().to_string();
    for (why, input, code) in [
        ("no signature", manifest().note().text.clone(), "manifest_note"),
        ("a changed rule", good.replacen("daily_cap = 25", "daily_cap = 26", 1), "manifest_signature"),
        ("a format of the future", good.replacen("manifest/1", "manifest/2", 1), "manifest_format"),
        ("an unknown key", good.replacen("[policy]", "colour = \"blue\"\n[policy]", 1), "manifest_toml"),
        ("a cap above 1000", good.replacen("daily_cap = 25", "daily_cap = 1001", 1), "manifest_value"),
        ("no sponsors", good.replacen("min_sponsors = 1", "min_sponsors = 0", 1), "manifest_value"),
        ("a later version without the one before it", good.replacen("version = 1", "version = 2", 1), "manifest_value"),
    ] {
        add("manifest", why, input, code);
    }
    let all = checkpoints();
    let (note, proof) = (all[0]["note"].as_str().unwrap(), all[1]["proof"].as_str().unwrap());
    let stranger = note.replacen("alpha.example/1\n", "alpha.example/2\n", 1);
    for (why, input, code) in [
        ("a size with a leading zero", note.replacen('\n', "\n0", 1), "checkpoint_text"),
        ("another size", note.replacen('\n', "\n1", 1), "checkpoint_signature"),
        ("an unknown generation", stranger, "checkpoint_unknown_origin"),
        ("no line of the owner", note.replacen("\n— fama", "\n— gama", 1), "checkpoint_unsigned"),
        ("no empty line", note.replacen("\n\n", "\n", 1), "note_form"),
        ("a carriage return", note.replacen('\n', "\r\n", 1), "note_text"),
        ("no base64", note.replacen("beta.example ", "beta.example ?", 1), "note_signature_line"),
        (
            "a cosignature twice",
            format!("{note}{}\n", note.trim_end().rsplit('\n').next().unwrap()),
            "checkpoint_cosigned_twice",
        ),
    ] {
        add("checkpoint", why, input, code);
    }
    for (why, input, code) in [
        ("another version", proof.replacen("@v1", "@v2", 1), "proof_form"),
        ("another index", proof.replacen("index 2", "index 3", 1), "proof_root"),
        ("an index behind the end", proof.replacen("index 2", "index 99", 1), "proof_range"),
        (
            "a hash too few",
            proof.split_inclusive('\n').enumerate().filter(|(i, _)| *i != 2).map(|(_, l)| l).collect(),
            "proof_length",
        ),
    ] {
        add("proof", why, input, code);
    }
}

/// Batches behind the first one (adoption and its state entry) of the first log, entries joined with commas.
fn invalid_batches(add: &mut Add<'_>) {
    let manifest = manifest();
    let (_, time, said) = story().remove(0);
    let good = VerifiedEntry::of(time, said.verify(&manifest.federation()).unwrap());
    let early = VerifiedEntry::of(Millis(START.0 - 1), good.event().unwrap().clone());
    let (state, zero) = (VerifiedEntry::state, StateRoot([0; 32]));
    let adopt = VerifiedEntry::adopt(time, 1, manifest.hash());
    for (why, entries, code) in [
        ("no state entry", vec![&good], "batch_shape"),
        ("a state entry alone", vec![&state(START, zero)], "batch_shape"),
        ("before the entry before it", vec![&early, &state(START, zero)], "time_back"),
        ("a state entry of another time", vec![&good, &state(time.plus(1), zero)], "time_back"),
        ("a version adopted again", vec![&adopt, &state(time, zero)], "adopt"),
        ("a wrong state root", vec![&good, &state(time, zero)], "state_root"),
    ] {
        let entries: Vec<String> = entries.iter().map(|entry| hex(entry.bytes())).collect();
        add("batch", why, entries.join(","), code);
    }
}

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
        assert!(read(name) == *value.as_array().unwrap(), "{name} differs; FAMA_BLESS=1 writes it anew");
    }
}

/// Whether the files are to be written anew.
pub(crate) fn blessing() -> bool {
    std::env::var_os("FAMA_BLESS").is_some()
}

pub(crate) fn write(name: &str, value: &Value) {
    std::fs::write(folder().join(name), serde_json::to_string_pretty(value).unwrap() + "\n").unwrap();
}

// ---------------------------------------------------------------- read

pub(crate) fn read(name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(folder().join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// A vector whose fields must all be taken.
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

fn check_key(v: &mut Vector) {
    let curve: Curve = v.text("curve").parse().unwrap();
    let secret = SecretKey::from_seed(curve, &v.secret("seed")).unwrap();
    let public: PublicKey = v.text("public").parse().unwrap();
    assert_eq!(secret.public(), public);
    assert_eq!(public.hash().to_string(), v.text("hash"));
    assert_eq!(PublicKey::from_pem(&v.text("pem")), Ok(public));
    let message = v.text("message");
    assert_eq!(secret.sign(message.as_bytes()).as_bytes(), v.bytes("signature"));
}

fn check_event(v: &mut Vector) {
    let text = v.text("text");
    let event = Event::parse(text.as_bytes()).unwrap();
    assert_eq!((event.text(), event.id().to_string()), (text, v.text("id")));
    assert_eq!(event.action.kind().as_str(), v.text("kind"));
    let entry = VerifiedEntry::decode(v.bytes("entry"), &event.federation).unwrap();
    assert_eq!(entry.time.0, v.number("time"));
    assert_eq!(hex(leaf_hash(entry.bytes())), v.text("leaf"));
    let said = entry.event().unwrap().signed();
    let signer: PublicKey = v.text("signer").parse().unwrap();
    let secret = SecretKey::from_seed(signer.curve(), &v.secret("seed")).unwrap();
    assert_eq!(secret.public(), signer);
    let again = match &event.action {
        Action::Rotate { key, .. } if *key != signer => {
            let new = SecretKey::from_seed(key.curve(), &v.secret("counterseed")).unwrap();
            let made = countersigned(event, &secret, &new);
            assert_eq!(made.countersignature.unwrap().as_bytes(), v.bytes("countersignature"));
            made
        }
        _ => signed(event, &secret),
    };
    assert_eq!((said, said.signature.as_bytes()), (&again, v.bytes("signature").as_slice()));
}

fn check_note(v: &mut Vector) {
    let text = v.text("text");
    assert_eq!(Note::parse(text.as_bytes()).unwrap().text(), text);
    assert_eq!(note_hash(text.as_bytes()).to_string(), v.text("hash"));
}

fn check_manifest(v: &mut Vector) {
    let manifest = Manifest::parse(&v.text("note")).unwrap();
    assert_eq!(manifest.federation().to_string(), v.text("federation"));
    assert_eq!((manifest.quorum() as u64, manifest.faults() as u64), (v.number("quorum"), v.number("faults")));
    assert_eq!(manifest.origin(&log(0)).to_string(), v.text("origin"));
}

fn check_checkpoint(v: &mut Vector) {
    let manifest = manifest();
    let note = SignedNote::parse(v.text("note").as_bytes(), limits::CHECKPOINT_BYTES_MAX).unwrap();
    let (signed, cosignatures) = read_checkpoint(&manifest, &note).unwrap();
    assert_eq!((signed.checkpoint().text(), signed.checkpoint().head.size), (v.text("text"), v.number("size")));
    let names: Vec<Value> = cosignatures.iter().map(|c| c.operator.as_str().into()).collect();
    assert_eq!(Value::Array(names), v.take("cosigners"));
}

fn read_checkpoint(
    manifest: &Manifest,
    note: &SignedNote,
) -> Result<(SignedCheckpoint, Vec<Cosignature>), checkpoint::CheckpointError> {
    let owner = |origin: &checkpoint::Origin| {
        let owner = manifest.operator(&origin.operator).filter(|owner| manifest.origin(&owner.log()) == *origin);
        owner.map(|owner| owner.node_key)
    };
    checkpoint::read_note(note, owner, |name| manifest.operator(name).map(|operator| operator.node_key))
}

fn check_proof(v: &mut Vector) {
    let text = v.text("proof");
    let proof: TlogProof = text.parse().unwrap();
    assert_eq!((proof.to_string(), proof.index), (text, v.number("index")));
    let key = |i| node_key(i).ed25519().unwrap().verifying_key();
    let cosigner = |name: &fama_ledger::id::Domain| Some(key(u8::from(name.as_str() == "beta.example")));
    let (_, cosigned) = proof.verify(&v.bytes("entry"), |_| Some(key(0)), cosigner).unwrap();
    assert_eq!(cosigned.len(), 2);
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

/// Replays one log of the file; its rows are compared when all were replayed.
fn check_log(v: &mut Vector, replica: &mut Replica<'_>) {
    let log = LogId { operator: v.text("operator").parse().unwrap(), generation: v.number("generation") as u32 };
    let federation = replica.manifest.federation();
    let entries = v.take("entries");
    let entries: Vec<_> =
        strings(&entries).into_iter().map(|entry| VerifiedEntry::decode(unhex(entry), &federation).unwrap()).collect();
    let replayed = replica.deliver(&log, 0, &entries);
    let outcomes = v.take("outcomes");
    let want: Vec<Vec<&str>> = outcomes.as_array().unwrap().iter().map(strings).collect();
    let word = |outcome: &Option<fama_ledger::fold::Outcome>| match outcome {
        None => "adopted",
        Some(Ok(_)) => "applied",
        Some(Err(void)) => void.code(),
    };
    let got: Vec<Vec<&str>> = replayed.iter().map(|batch| batch.outcomes.iter().map(word).collect()).collect();
    assert_eq!(got, want);
    let mirror = &replica.logs[&log];
    assert_eq!((mirror.tree.size(), mirror.tree.head().root.to_string()), (v.number("size"), v.text("root")));
    assert_eq!(mirror.state_root.to_string(), v.text("state_root"));
}

fn check_row(v: &mut Vector, replica: &Replica<'_>) -> u8 {
    let (map, key, tag) = (v.text("map"), v.bytes("key"), v.number("tag") as u8);
    let id = match map.strip_prefix("log/") {
        Some(log) => {
            let (operator, generation) = log.split_once('/').unwrap();
            MapName::log(&LogId { operator: domain(operator), generation: generation.parse().unwrap() }).id()
        }
        None => fama_ledger::rows::MapId(blake3_of(&map)),
    };
    assert_eq!(key[0], tag);
    let value = fama_ledger::rows::Rows::get(&replica.rows, id, &key).unwrap();
    assert_eq!(value.map(hex), Some(v.text("value")), "{map} {key:02x?}");
    tag
}

/// First eight bytes of a map's name's hash, by way of a text that is hashed with BLAKE3.
fn blake3_of(text: &str) -> [u8; 8] {
    value_hash(text.as_bytes())[..8].try_into().unwrap()
}

fn check_state(v: &mut Vector, replica: &Replica<'_>) {
    assert_eq!(v.text("manifest"), replica.manifest.note().to_string());
    assert_eq!(v.text("state_id"), replica.state_id().to_string());
    assert_eq!(v.text("empty_state_id"), Replica::new(replica.manifest).state_id().to_string());
    assert_eq!(v.bytes("dump"), replica.join().dump().unwrap());
}

fn check_invalid(what: &str, v: &mut Vector) {
    let (why, input, want) = (v.text("why"), v.text("input"), v.text("code"));
    let manifest = manifest();
    let code = match what {
        "event" => Event::parse(input.as_bytes()).unwrap_err().fault.code(),
        "note" => Note::parse(input.as_bytes()).unwrap_err().fault.code(),
        "entry" => VerifiedEntry::decode(unhex(&input), &manifest.federation()).unwrap_err().code(),
        "manifest" => Manifest::parse(&input).unwrap_err().code(),
        "checkpoint" => match SignedNote::parse(input.as_bytes(), limits::CHECKPOINT_BYTES_MAX) {
            Ok(note) => read_checkpoint(&manifest, &note).unwrap_err().code(),
            Err(error) => error.code(),
        },
        "proof" => proof_code(&input),
        "batch" => batch_code(&manifest, &input),
        _ => panic!("no check for an invalid {what}"),
    };
    assert_eq!(code, want, "{what}: {why}");
}

fn proof_code(input: &str) -> &'static str {
    let entry = unhex(checkpoints()[1]["entry"].as_str().unwrap());
    let owner = |_: &_| Some(node_key(0).ed25519().unwrap().verifying_key());
    let verified = input.parse::<TlogProof>().and_then(|proof| proof.verify(&entry, owner, |_| None).map(drop));
    verified.unwrap_err().code()
}

fn batch_code(manifest: &Manifest, input: &str) -> &'static str {
    let mut replica = Replica::adopted(manifest);
    let decode = |entry| VerifiedEntry::decode(unhex(entry), &manifest.federation()).unwrap();
    match replica.take(&log(0), input.split(',').map(decode).collect()) {
        Err(ReplayError::Invalid(error)) => error.code(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_vector_of_every_file_holds() {
    let manifest = manifest();
    let mut replica = Replica::new(&manifest);
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
    assert_eq!(tags, (1..=12).collect(), "every tag has a row");
    assert!(used > 100, "{used} vectors");
}
