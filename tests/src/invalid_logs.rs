//! Golden invalid logs: one for each way in which a log can be wrong, replayed from its first byte.
//!
//! `tests/vectors/invalid-logs.json`; `FAMA_BLESS=1` rewrites it. Each log gives the number of entries that a replica
//! keeps (`taken`), the entry at fault (`index`, absent if the batch as a whole is wrong) and the code. An entry may
//! be written as `<count>*<hex>`. The code `valid` marks a log that is just within a bound.
use std::collections::BTreeSet;

use fama_ledger::batch::{BatchError, ReplayError};
use fama_ledger::codec::{self, CodecError};
use fama_ledger::entry::{Body, Entry, EntryError, SignedEvent, VerifiedEntry};
use fama_ledger::event::{Action, Event};
use fama_ledger::id::{EventId, FederationId, ManifestHash, StateRoot};
use fama_ledger::key::{KeyError, PublicKey, Signature, SignatureError};
use fama_ledger::limits;
use fama_ledger::manifest::Manifest;
use fama_ledger::time::Millis;
use fama_tests::{DAY, MemoryReplica, START, countersigned, domain, event, federation, log, secret, signed};
use serde_json::{Value, json};

use crate::vectors::{Vector, blessing, hex, manifest, read, story, unhex, write};

const FILE: &str = "invalid-logs.json";

/// A replica's verdict on a log: how much it keeps, the entry at fault, and the code.
type ReplayResult = (u64, Option<u64>, &'static str);

fn index_of(error: &BatchError) -> Option<u64> {
    match error {
        BatchError::Time { index, .. }
        | BatchError::Adopt { index }
        | BatchError::Early { index, .. }
        | BatchError::Kind { index, .. }
        | BatchError::Bytes { index, .. } => Some(*index),
        BatchError::Shape | BatchError::StateRoot { .. } => None,
    }
}

/// Takes the batches of the first operator's log one after the other, as a mirror does.
fn replayed(manifest: &Manifest, entries: &[Vec<u8>]) -> ReplayResult {
    let mut replica = MemoryReplica::new(manifest);
    let (mut batch, log) = (Vec::new(), log(0));
    for (index, bytes) in entries.iter().enumerate() {
        let before = replica.logs[&log].maps.state_root();
        let size = replica.head(&log).size;
        match VerifiedEntry::decode(bytes.clone(), &manifest.federation()) {
            Ok(entry) => batch.push(entry),
            Err(error) => return (size, Some(index as u64), error.code()),
        }
        let ended = batch.last().is_some_and(VerifiedEntry::is_state) || index + 1 == entries.len();
        if !ended {
            continue;
        }
        match replica.take(&log, std::mem::take(&mut batch)) {
            Ok(_) => {}
            Err(ReplayError::Invalid(error)) => {
                assert_eq!(before, replica.logs[&log].maps.state_root(), "what was refused left no trace");
                return (size, index_of(&error), error.code());
            }
            // Nobody's fault: the log continues once that version is held.
            Err(ReplayError::Unheld(_)) => return (size, None, "unheld"),
            Err(error) => panic!("{error:?}"),
        }
    }
    (replica.head(&log).size, None, "valid")
}

/// The logs made so far, and the common beginning of them all.
struct InvalidLogs {
    all: Vec<Value>,
    /// Adoption, state, a registration, state.
    begin: Vec<Vec<u8>>,
}

impl InvalidLogs {
    fn add(&mut self, federation: &str, why: &str, entries: &[Vec<u8>], verdict: ReplayResult) {
        let (taken, index, code) = verdict;
        let mut list: Vec<(usize, &Vec<u8>)> = Vec::new();
        for entry in entries {
            match list.last_mut() {
                Some((count, last)) if *last == entry => *count += 1,
                _ => list.push((1, entry)),
            }
        }
        let word = |(count, entry): (usize, &Vec<u8>)| match count {
            1 => hex(entry),
            _ => format!("{count}*{}", hex(entry)),
        };
        let entries: Vec<String> = list.into_iter().map(word).collect();
        let mut vector = json!({
            "type": "log", "federation": federation, "why": why, "entries": entries, "taken": taken, "code": code,
        });
        if let Some(index) = index {
            vector["index"] = index.into();
        }
        self.all.push(vector);
    }

    /// Adds a log in which one entry, wrong in itself, follows the beginning.
    fn entry(&mut self, why: &str, entry: Vec<u8>, code: &'static str) {
        let entries = [self.begin.as_slice(), &[entry]].concat();
        self.add("usual", why, &entries, (4, Some(4), code));
    }

    /// Adds a log in which entries that are wrong together follow the beginning.
    fn batch(&mut self, why: &str, entries: &[VerifiedEntry], index: Option<u64>, code: &'static str) {
        let entries = self.begin.iter().cloned().chain(entries.iter().map(|entry| entry.bytes().to_vec()));
        self.add("usual", why, &entries.collect::<Vec<_>>(), (4, index, code));
    }
}

fn encoded(time: Millis, said: &SignedEvent) -> Vec<u8> {
    codec::encode(&Entry { time, body: Body::Event(said.clone()) })
}

fn bytes_of(entries: &[VerifiedEntry]) -> Vec<Vec<u8>> {
    entries.iter().map(|entry| entry.bytes().to_vec()).collect()
}

/// Bytes that are no valid encoding of an entry.
fn encodings(made: &mut InvalidLogs) {
    let (_, time, said) = story().remove(3);
    let good = encoded(time, &said);
    let with = |at: usize, bytes: &[u8]| [&good[..at], bytes, &good[at + bytes.len()..]].concat();
    let home = good.windows(13).position(|window| window == b"alpha.example").unwrap();
    // Time (8), body (4), federation (32), action (4); at the end signature (4 + 65) and option (1).
    let end = good.len();
    for (why, bytes, code) in [
        ("nothing", vec![], "malformed_encoding"),
        ("a byte short", good[..end - 1].to_vec(), "malformed_encoding"),
        ("a byte long", [good.as_slice(), &[0]].concat(), "not_canonical"),
        ("the entry twice", [good.as_slice(), &good].concat(), "not_canonical"),
        ("an unknown body", with(8, &[3]), "malformed_encoding"),
        ("an unknown kind of event", with(44, &[7]), "malformed_encoding"),
        ("a kind whose fields do not fit", with(44, &[4]), "malformed_encoding"),
        ("a length beyond the input", with(home - 8, &[0xff; 2]), "malformed_encoding"),
        ("a length beyond any memory", with(home - 8, &[0xff; 8]), "malformed_encoding"),
        ("a text that is not UTF-8", with(home, &[0xff]), "malformed_encoding"),
        ("an unknown curve of the signature", with(end - 70, &[2]), "malformed_encoding"),
        ("an unknown curve of the signer", with(end - 70 - 37, &[2]), "malformed_encoding"),
        ("an option that is neither 0 nor 1", with(end - 1, &[2]), "malformed_encoding"),
        ("an option that promises what is not there", with(end - 1, &[1]), "malformed_encoding"),
        ("a byte beyond the longest entry", vec![0; limits::ENTRY_BYTES_MAX + 1], "too_long"),
        ("an upper-case letter in the home", with(home, b"A"), "malformed_field"),
        ("a newline in the home", with(home + 5, b"\n"), "malformed_field"),
        ("another letter in the home", with(home, b"b"), "signature_mismatch"),
    ] {
        made.entry(why, bytes, code);
    }
}

/// Properly signed events with fields that no text can express.
fn fields(made: &mut InvalidLogs) {
    let federation = manifest().federation();
    let (service, home, id) = (secret(2), domain("alpha.example"), EventId([1; 32]));
    let attest =
        |delta| Action::Attest { home: home.clone(), issuer: id, subject: id, delta, context: None, note: None };
    let rotate = |version, key| Action::Rotate { home: home.clone(), identity: id, version, key, next: None };
    let off = PublicKey::Secp256k1([5; 33]);
    let weak = PublicKey::Ed25519([0; 32]);
    for (why, action, created) in [
        ("a rotation to version 0", rotate(0, service.public()), START),
        ("a rotation to a key off the curve", rotate(2, off), START),
        ("a rotation to a key of small order", rotate(2, weak), START),
        ("created before 2020", attest(1), Millis(1_577_836_799_999)),
        ("created behind the year 9999", attest(1), Millis(253_402_300_800_000)),
        ("created at the end of time", attest(1), Millis(u64::MAX)),
    ] {
        made.entry(why, encoded(START, &signed(event(federation, action, created, 1), &service)), "malformed_field");
    }
}

/// Events whose signatures do not verify.
fn signatures(made: &mut InvalidLogs) {
    let (_, time, said) = story().remove(3);
    let ecdsa: [u8; 65] = said.signature.as_bytes().try_into().unwrap();
    let with = |signature| encoded(time, &SignedEvent { signature, ..said.clone() });
    let changed = |change: &dyn Fn(&mut [u8; 65])| {
        let mut bytes = ecdsa;
        change(&mut bytes);
        with(Signature::Secp256k1(bytes))
    };
    let other_s = |bytes: &mut [u8; 65]| {
        let s = crate::signature::negated(&bytes[32..64]);
        bytes[32..64].copy_from_slice(&s);
        bytes[64] ^= 1;
    };
    let by =
        |signer: PublicKey, signature: Signature| encoded(time, &SignedEvent { signer, signature, ..said.clone() });
    let edwards = signed(said.event.clone(), &secret(3));
    let mut edwards_off: [u8; 64] = edwards.signature.as_bytes().try_into().unwrap();
    edwards_off[63] |= 0x80;
    let mut identity = [0; 32];
    identity[0] = 1;
    for (why, bytes, code) in [
        ("a flipped bit of r", changed(&|bytes| bytes[0] ^= 1), "signature_mismatch"),
        ("a flipped bit of s", changed(&|bytes| bytes[63] ^= 1), "signature_mismatch"),
        ("the other recovery id", changed(&|bytes| bytes[64] ^= 1), "signature_recovery_id"),
        ("a recovery id of a chain's transactions", changed(&|bytes| bytes[64] += 27), "signature_recovery_id"),
        ("the high s, with its own recovery id", changed(&other_s), "signature_high_s"),
        ("r is zero", changed(&|bytes| bytes[..32].fill(0)), "signature_malformed"),
        ("s is above the order", changed(&|bytes| bytes[32..64].fill(0xff)), "signature_malformed"),
        ("a signature of the other curve", with(edwards.signature), "signature_wrong_curve"),
        ("another signer", by(secret(4).public(), said.signature), "signature_mismatch"),
        ("a signer off the curve", by(PublicKey::Secp256k1([2; 33]), said.signature), "signature_mismatch"),
        ("a signer that is no compressed point", by(PublicKey::Secp256k1([4; 33]), said.signature), "key_not_on_curve"),
        ("a signer of small order", by(PublicKey::Ed25519(identity), edwards.signature), "key_weak"),
        ("a signer not below p", by(PublicKey::Ed25519([0xff; 32]), edwards.signature), "key_not_canonical"),
        ("an Ed25519 s not below L", by(edwards.signer, Signature::Ed25519(edwards_off)), "signature_mismatch"),
    ] {
        made.entry(why, bytes, code);
    }
}

/// Events signed by the wrong keys.
fn signers(made: &mut InvalidLogs) {
    let federation = manifest().federation();
    let (old, new, third) = (secret(2), secret(4), secret(3));
    let foreign = Event { federation: FederationId([1; 32]), ..story().remove(3).2.event };
    made.entry("another federation", encoded(START, &signed(foreign, &old)), "wrong_federation");
    let mine = story().remove(0).2;
    let own = || mine.clone();
    let twice = SignedEvent { countersignature: Some(own().signature), ..own() };
    made.entry("a registration with a countersignature", encoded(START, &twice), "countersignature");
    let stolen = signed(own().event, &third);
    made.entry("a registration of somebody else's key", encoded(START, &stolen), "not_possessed");
    let mut attested = story().remove(3).2;
    attested.countersignature = Some(attested.signature);
    made.entry("an attestation with a countersignature", encoded(START, &attested), "countersignature");
    let action = Action::Rotate {
        home: domain("alpha.example"),
        identity: mine.event.id(),
        version: 2,
        key: new.public(),
        next: None,
    };
    let rotate = event(federation, action, START, 1);
    for (why, said) in [
        ("a rotation without the new key's signature", signed(rotate.clone(), &old)),
        ("a rotation that the old key signed twice", countersigned(rotate.clone(), &old, &old)),
        ("a rotation that a third key countersigned", countersigned(rotate.clone(), &old, &third)),
        ("a rotation that the new key signed twice", countersigned(rotate, &new, &new)),
    ] {
        made.entry(why, encoded(START, &said), "countersignature");
    }
}

/// Batches that are wrong as a whole.
fn batches(made: &mut InvalidLogs) {
    let manifest = manifest();
    let verified = |time, said: SignedEvent| VerifiedEntry::of(time, said.verify(&manifest.federation()).unwrap());
    let (_, time, said) = story().remove(3);
    let good = verified(time, said.clone());
    let mut replica = MemoryReplica::adopted(&manifest);
    let (_, begun, first) = story().remove(0);
    replica.append(&log(0), vec![verified(begun, first.clone())]);
    let complete = |entries: &[VerifiedEntry]| replica.complete(&log(0), entries.to_vec());
    let whole = complete(std::slice::from_ref(&good));
    let root = |batch: &[VerifiedEntry]| match batch.last().unwrap().body {
        fama_ledger::entry::VerifiedBody::State { root } => root,
        _ => unreachable!("the last is a state entry"),
    };
    let (zero, right) = (StateRoot([0; 32]), root(&whole));
    let state = VerifiedEntry::state;
    let adopt = VerifiedEntry::adopt(time, 1, manifest.hash());
    let early = verified(Millis(begun.0 - 1), said.clone());
    let later = verified(time.plus(1), said);
    let other = verified(time, story().remove(4).2);
    let both = complete(&[good.clone(), other.clone()]);
    let turned = [other.clone(), good.clone(), state(time, root(&both))];
    let again = [whole.as_slice(), &whole].concat();
    for (why, entries, index, code) in [
        ("no state entry", vec![good.clone()], None, "batch_shape"),
        ("a state entry alone", vec![state(begun, replica.logs[&log(0)].state_root)], None, "batch_shape"),
        ("an entry before the one before it", vec![early, state(begun, right)], Some(4), "time_back"),
        ("within a batch, back in time", vec![later, good.clone(), state(time, right)], Some(5), "time_back"),
        ("a state entry of a later time", vec![good.clone(), state(time.plus(1), right)], Some(5), "time_back"),
        ("a state entry of an earlier time", vec![good.clone(), state(begun, right)], Some(5), "time_back"),
        ("the version adopted again", vec![adopt.clone(), state(time, zero)], Some(4), "adopt"),
        ("an adoption behind an event", vec![good.clone(), adopt, state(time, zero)], Some(5), "adopt"),
        (
            "a version is left out",
            vec![VerifiedEntry::adopt(time, 3, ManifestHash([2; 32])), state(time, zero)],
            Some(4),
            "adopt",
        ),
        (
            "a version that is not held here yet: the log is not invalid, it waits",
            vec![VerifiedEntry::adopt(time, 2, ManifestHash([2; 32])), state(time, zero)],
            None,
            "unheld",
        ),
        ("a state root of zeros", vec![good.clone(), state(time, zero)], None, "state_root"),
        ("an entry left out", vec![good.clone(), state(time, root(&both))], None, "state_root"),
        ("an entry too many", vec![good.clone(), other, state(time, right)], None, "state_root"),
        ("two entries turned round", turned.to_vec(), None, "state_root"),
        (
            "the state root from before the batch",
            vec![good, state(time, replica.logs[&log(0)].state_root)],
            None,
            "state_root",
        ),
    ] {
        made.batch(why, &entries, index, code);
    }
    let twice = [made.begin.as_slice(), &bytes_of(&again)].concat();
    made.add("usual", "a batch twice", &twice, (6, None, "state_root"));
    let many = |count| vec![verified(time, first.clone()); count];
    let full = complete(&many(limits::BATCH_ENTRIES_MAX));
    let size = 4 + full.len() as u64;
    made.add("usual", "the longest batch", &[made.begin.clone(), bytes_of(&full)].concat(), (size, None, "valid"));
    let longer = [many(limits::BATCH_ENTRIES_MAX + 1), vec![state(time, zero)]].concat();
    made.batch("one entry more than the longest batch", &longer, None, "batch_shape");
}

/// Logs that do not begin as a log must.
fn begins(made: &mut InvalidLogs) {
    let manifest = manifest();
    let fresh = MemoryReplica::new(&manifest);
    let genesis = |hash| VerifiedEntry::adopt(START, 1, hash);
    let (_, time, said) = story().remove(0);
    let good = VerifiedEntry::of(time, said.verify(&manifest.federation()).unwrap());
    let state = |time| VerifiedEntry::state(time, StateRoot([0; 32]));
    let adopted = fresh.complete(&log(0), vec![genesis(manifest.hash())]);
    let theirs = fresh.complete(&log(1), vec![genesis(manifest.hash())]);
    let second = VerifiedEntry::adopt(START, 2, manifest.hash());
    let early = VerifiedEntry::adopt(Millis(START.0 - 1), 1, manifest.hash());
    for (why, entries, index, code) in [
        ("begins with an event", vec![good.clone(), state(time)], Some(0), "adopt"),
        ("begins with a state entry", vec![state(START)], None, "batch_shape"),
        ("begins by adopting another manifest", vec![genesis(ManifestHash([1; 32])), state(START)], Some(0), "adopt"),
        ("begins by adopting version 2", vec![second, state(START)], Some(0), "adopt"),
        ("adopts and goes on", vec![genesis(manifest.hash()), good, state(time)], Some(1), "adopt"),
        ("adopts twice", vec![genesis(manifest.hash()), genesis(manifest.hash()), state(START)], Some(1), "adopt"),
        ("adopts without a state entry", vec![genesis(manifest.hash())], None, "batch_shape"),
        ("begins before its manifest lets it", vec![early, state(Millis(START.0 - 1))], Some(0), "too_early"),
        ("another operator's log", theirs, None, "state_root"),
    ] {
        made.add("usual", why, &bytes_of(&entries), (0, index, code));
    }
    made.add("usual", "an adoption alone", &bytes_of(&adopted), (2, None, "valid"));
}

/// A federation with daily bounds that fit an adoption and one registration to the byte, or one note.
fn narrow() -> Manifest {
    let usual = manifest();
    let adopt = VerifiedEntry::adopt(START, 1, usual.hash());
    let (_, time, said) = story().remove(0);
    federation(2, |p| {
        p.min_sponsors = 1;
        p.daily_bytes = (adopt.bytes().len() + encoded(time, &said).len()) as u64;
    })
}

fn bytes_of_a_day(made: &mut InvalidLogs) {
    let narrow = narrow();
    let max = narrow.policy().daily_bytes;
    let mut replica = MemoryReplica::adopted(&narrow);
    let register = |time, note| {
        let action = Action::Register {
            home: domain("alpha.example"),
            name: "ml-overflow".parse().unwrap(),
            key: secret(2).public(),
            next: None,
            note,
        };
        let said = signed(event(narrow.federation(), action, START, 1), &secret(2));
        VerifiedEntry::of(time, said.verify(&narrow.federation()).unwrap())
    };
    let begin = replica.logs[&log(0)].entries.clone();
    let fits = replica.complete(&log(0), vec![register(START, None)]);
    let noted = register(START, Some(fama_ledger::id::NoteHash([3; 32])));
    let zero = VerifiedEntry::state(START, StateRoot([0; 32]));
    assert!(max < limits::NOTE_QUOTA_BYTES);
    made.add("narrow", "a day's last byte", &bytes_of(&[begin.clone(), fits.clone()].concat()), (4, None, "valid"));
    let over = [begin.clone(), vec![noted, zero.clone()]].concat();
    made.add("narrow", "a note counts its quota", &bytes_of(&over), (2, Some(2), "daily_bytes"));
    let twice = [begin.clone(), vec![register(START, None), register(START, None), zero.clone()]].concat();
    made.add("narrow", "more than a day holds, in one batch", &bytes_of(&twice), (2, Some(3), "daily_bytes"));
    replica.take(&log(0), fits.clone()).unwrap();
    let late = Millis((START.0 / DAY + 1) * DAY - 1);
    let next = [begin.clone(), fits.clone(), vec![register(late, None), zero]].concat();
    made.add("narrow", "more than a day holds, until its last moment", &bytes_of(&next), (4, Some(4), "daily_bytes"));
    let tomorrow = replica.complete(&log(0), vec![register(late.plus(1), None)]);
    made.add("narrow", "the next day", &bytes_of(&[begin, fits, tomorrow].concat()), (6, None, "valid"));
}

fn made() -> Value {
    let manifest = manifest();
    let mut replica = MemoryReplica::adopted(&manifest);
    let (_, time, said) = story().remove(0);
    replica.append(&log(0), vec![VerifiedEntry::of(time, said.verify(&manifest.federation()).unwrap())]);
    let mut made = InvalidLogs { all: Vec::new(), begin: bytes_of(&replica.logs[&log(0)].entries) };
    for (name, manifest) in [("usual", &manifest), ("narrow", &narrow())] {
        made.all.push(json!({"type": "manifest", "name": name, "note": manifest.note().to_string()}));
    }
    let begin = made.begin.clone();
    made.add("usual", "what most of these begin with", &begin, (4, None, "valid"));
    encodings(&mut made);
    fields(&mut made);
    signatures(&mut made);
    signers(&mut made);
    begins(&mut made);
    batches(&mut made);
    bytes_of_a_day(&mut made);
    Value::Array(made.all)
}

fn entries(value: &Value) -> Vec<Vec<u8>> {
    let texts = value.as_array().unwrap().iter().map(|text| text.as_str().unwrap());
    let repeated = texts.flat_map(|text| match text.split_once('*') {
        Some((count, entry)) => vec![unhex(entry); count.parse().unwrap()],
        None => vec![unhex(text)],
    });
    repeated.collect()
}

/// Every code of [`BatchError`] and [`EntryError`]: a new variant does not compile until it is listed here.
fn codes() -> BTreeSet<&'static str> {
    let (zero, time) = (StateRoot([0; 32]), START);
    let batch = [
        BatchError::Shape,
        BatchError::Time { index: 0, time, before: time },
        BatchError::Adopt { index: 0 },
        BatchError::Early { index: 0, time, from: time },
        BatchError::Bytes { index: 0, max: 0 },
        BatchError::StateRoot { given: zero, computed: zero },
    ];
    for error in &batch {
        match error {
            BatchError::Shape
            | BatchError::Time { .. }
            | BatchError::Adopt { .. }
            | BatchError::Early { .. }
            // No kind is of a later protocol than the first: no log can show it yet.
            | BatchError::Kind { .. }
            | BatchError::Bytes { .. }
            | BatchError::StateRoot { .. } => {}
        }
    }
    let codec =
        [CodecError::TooLong { len: 0, max: 0 }, CodecError::Malformed, CodecError::NotCanonical, CodecError::Field];
    for error in codec {
        match error {
            CodecError::TooLong { .. } | CodecError::Malformed | CodecError::NotCanonical | CodecError::Field => {}
        }
    }
    let signature = [
        SignatureError::WrongCurve,
        SignatureError::HighS,
        SignatureError::Malformed,
        SignatureError::RecoveryId,
        SignatureError::Mismatch,
        SignatureError::Key(KeyError::Point),
        SignatureError::Key(KeyError::NotCanonical),
        SignatureError::Key(KeyError::Weak),
    ];
    for error in signature {
        match error {
            SignatureError::WrongCurve
            | SignatureError::HighS
            | SignatureError::Malformed
            | SignatureError::RecoveryId
            | SignatureError::Mismatch
            // The other faults of keys concern texts and PEM, which entries do not contain.
            | SignatureError::Key(_) => {}
        }
    }
    let whole =
        [EntryError::Federation(FederationId([0; 32])), EntryError::Countersignature(""), EntryError::Possession];
    let entry = codec.map(EntryError::Codec).into_iter().chain(signature.map(EntryError::Signature)).chain(whole);
    let entry = entry.inspect(|error| match error {
        EntryError::Codec(_)
        | EntryError::Federation(_)
        | EntryError::Signature(_)
        | EntryError::Countersignature(_)
        | EntryError::Possession => {}
    });
    let entry: Vec<&str> = entry.map(|error| error.code()).collect();
    batch.iter().map(BatchError::code).chain(entry).chain(["valid"]).collect()
}

#[test]
fn the_file_is_what_the_code_makes() {
    let made = made();
    if blessing() {
        write(FILE, &made);
    }
    assert!(read(FILE) == *made.as_array().unwrap(), "{FILE} differs; FAMA_BLESS=1 rewrites it");
}

#[test]
fn every_invalid_log_is_refused_where_and_as_it_says() {
    let (mut manifests, mut seen, mut logs) = (Vec::new(), BTreeSet::new(), 0);
    for vector in read(FILE) {
        let mut v = Vector::of(vector);
        if v.text("type") == "manifest" {
            manifests.push((v.text("name"), Manifest::parse(&v.text("note")).unwrap()));
            v.close();
            continue;
        }
        let (why, federation, code) = (v.text("why"), v.text("federation"), v.text("code"));
        let (_, manifest) = manifests.iter().find(|(name, _)| *name == federation).unwrap();
        let (taken, index) = (v.number("taken"), v.optional("index").map(|index| index.as_u64().unwrap()));
        let verdict = replayed(manifest, &entries(&v.take("entries")));
        assert_eq!(verdict, (taken, index, code.as_str()), "{why}");
        seen.insert(verdict.2);
        logs += 1;
        v.close();
    }
    assert!(seen.remove("unheld"), "a log that waits is not an invalid one");
    assert_eq!(seen, codes(), "every code has a log");
    assert_eq!(logs, 80, "logs");
}
