//! One interpreter for each type of vector.
use super::*;

pub(super) fn check_key(v: &mut Vector) {
    let curve: Curve = v.text("curve").parse().unwrap();
    let secret = SecretKey::from_seed(curve, &v.secret("seed")).unwrap();
    let public: PublicKey = v.text("public").parse().unwrap();
    assert_eq!(secret.public(), public);
    assert_eq!(public.hash().to_string(), v.text("hash"));
    assert_eq!(PublicKey::from_pem(&v.text("pem")), Ok(public));
    let message = v.text("message");
    assert_eq!(secret.sign(message.as_bytes()).as_bytes(), v.bytes("signature"));
}

pub(super) fn check_event(v: &mut Vector) {
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

pub(super) fn check_note(v: &mut Vector) {
    let text = v.text("text");
    assert_eq!(Note::parse(text.as_bytes()).unwrap().text(), text);
    assert_eq!(note_hash(text.as_bytes()).to_string(), v.text("hash"));
}

pub(super) fn check_manifest(v: &mut Vector) {
    let manifest = Manifest::parse(&v.text("note")).unwrap();
    assert_eq!(manifest.federation().to_string(), v.text("federation"));
    assert_eq!((manifest.quorum() as u64, manifest.faults() as u64), (v.number("quorum"), v.number("faults")));
    assert_eq!(manifest.origin(&log(0)).to_string(), v.text("origin"));
}

pub(super) fn check_checkpoint(v: &mut Vector) {
    let manifest = manifest();
    let note = SignedNote::parse(v.text("note").as_bytes(), limits::CHECKPOINT_BYTES_MAX).unwrap();
    let (signed, cosignatures) = read_checkpoint(&manifest, &note).unwrap();
    assert_eq!((signed.checkpoint().text(), signed.checkpoint().head.size), (v.text("text"), v.number("size")));
    let names: Vec<Value> = cosignatures.iter().map(|c| c.operator.as_str().into()).collect();
    assert_eq!(Value::Array(names), v.take("cosigners"));
}

pub(super) fn read_checkpoint(
    manifest: &Manifest,
    note: &SignedNote,
) -> Result<(SignedCheckpoint, Vec<Cosignature>), checkpoint::CheckpointError> {
    let owner = |origin: &checkpoint::Origin| {
        let owner = manifest.operator(&origin.operator).filter(|owner| manifest.origin(&owner.log()) == *origin);
        owner.map(|owner| owner.node_key)
    };
    checkpoint::read_note(note, owner, |name| manifest.operator(name).map(|operator| operator.node_key))
}

pub(super) fn check_proof(v: &mut Vector) {
    let text = v.text("proof");
    let proof: TlogProof = text.parse().unwrap();
    assert_eq!((proof.to_string(), proof.index), (text, v.number("index")));
    let key = |i| node_key(i).ed25519().unwrap().verifying_key();
    let cosigner = |name: &fama_ledger::id::Domain| Some(key(u8::from(name.as_str() == "beta.example")));
    let (_, cosigned) = proof.verify(&v.bytes("entry"), |_| Some(key(0)), cosigner).unwrap();
    assert_eq!(cosigned.len(), 2);
}

pub(super) fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

/// Replays one log of the file; its rows are compared once all logs are replayed.
pub(super) fn check_log(v: &mut Vector, replica: &mut MemoryReplica<'_>) {
    let log = LogId { operator: v.text("operator").parse().unwrap(), generation: v.number("generation") as u32 };
    let federation = replica.manifest.federation();
    let entries = v.take("entries");
    let entries: Vec<_> =
        strings(&entries).into_iter().map(|entry| VerifiedEntry::decode(unhex(entry), &federation).unwrap()).collect();
    let replayed = replica.deliver(&log, 0, &entries);
    let outcomes = v.take("outcomes");
    let want: Vec<Vec<&str>> = outcomes.as_array().unwrap().iter().map(strings).collect();
    let got: Vec<Vec<&str>> = replayed.iter().map(|batch| batch.outcomes.iter().map(outcome).collect()).collect();
    assert_eq!(got, want);
    let mirror = &replica.logs[&log];
    assert_eq!((mirror.tree.size(), mirror.tree.head().root.to_string()), (v.number("size"), v.text("root")));
    assert_eq!(mirror.state_root.to_string(), v.text("state_root"));
}

pub(super) fn check_row(v: &mut Vector, replica: &MemoryReplica<'_>) -> u8 {
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

/// The first eight bytes of the BLAKE3 hash of a map's name.
pub(super) fn blake3_of(text: &str) -> [u8; 8] {
    value_hash(text.as_bytes())[..8].try_into().unwrap()
}

pub(super) fn check_state(v: &mut Vector, replica: &MemoryReplica<'_>) {
    assert_eq!(v.text("manifest"), replica.manifest.note().to_string());
    assert_eq!(v.text("state_id"), replica.state_id().to_string());
    assert_eq!(v.text("empty_state_id"), MemoryReplica::new(replica.manifest).state_id().to_string());
    assert_eq!(v.bytes("dump"), replica.join().dump().unwrap());
}

pub(super) fn check_invalid(what: &str, v: &mut Vector) {
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

pub(super) fn proof_code(input: &str) -> &'static str {
    let entry = unhex(checkpoints()[1]["entry"].as_str().unwrap());
    let owner = |_: &_| Some(node_key(0).ed25519().unwrap().verifying_key());
    let verified = input.parse::<TlogProof>().and_then(|proof| proof.verify(&entry, owner, |_| None).map(drop));
    verified.unwrap_err().code()
}

pub(super) fn batch_code(manifest: &Manifest, input: &str) -> &'static str {
    let mut replica = MemoryReplica::adopted(manifest);
    let decode = |entry| VerifiedEntry::decode(unhex(entry), &manifest.federation()).unwrap();
    match replica.take(&log(0), input.split(',').map(decode).collect()) {
        Err(ReplayError::Invalid(error)) => error.code(),
        other => panic!("{other:?}"),
    }
}
