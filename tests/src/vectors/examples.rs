//! The files of valid vectors, made from one story.
use super::*;

pub(super) fn keys() -> Value {
    let seeds = [2u8, 3, 4, 5, 200, 220];
    let secrets = seeds.map(|seed| if seed < 200 { secret(seed) } else { node_or_governance(seed) });
    seeds.iter().zip(&secrets).map(|(seed, secret)| key_vector(*seed, secret)).collect()
}

pub(super) fn node_or_governance(seed: u8) -> SecretKey {
    if seed < 220 { node_key(seed - 200) } else { governance_key(seed - 220) }
}

pub(super) fn key_vector(seed: u8, secret: &SecretKey) -> Value {
    let public = secret.public();
    json!({
        "type": "key", "curve": public.curve().as_str(), "seed": hex([seed; 32]), "public": public.to_string(),
        "hash": public.hash().to_string(), "pem": public.to_pem().unwrap(),
        "message": "fama", "signature": hex(secret.sign(b"fama").as_bytes()),
    })
}

/// The events of the vectors' story, each with the operator whose log takes it.
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
    let (scope, expires) = ("read:payments", Some(START.plus(30 * DAY)));
    let grant = Action::Grant {
        home: alpha.clone(),
        issuer,
        subject,
        scope: scope.parse().unwrap(),
        expires,
        note: Some(note_hash(reason.text().as_bytes())),
    };
    let ungrant = Action::Ungrant { home: alpha.clone(), issuer, subject, scope: scope.parse().unwrap() };
    let suspend = Action::Suspend { operator: beta.clone(), identity: subject, reason: SuspendReason::Misconduct };
    let resume = Action::Resume { operator: beta.clone(), identity: subject };
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
        (0, at(9), signed(make(11, grant), &other)),
        (0, at(9), signed(make(12, ungrant), &other)),
        (1, at(9), signed(make(13, suspend), &node_key(1))),
        (1, at(9), signed(make(14, resume), &node_key(1))),
        // A claim against an identity that nobody knows is recorded, too.
        (0, at(10), signed(make(10, revoke(EventId([1; 32]), 1, &mapper)), &mapper)),
        // Void events, as a careless owner might log them.
        (0, at(10), first),
        (0, at(10), attested),
        (0, at(10), signed(make(10, attest(0, None, None)), &other)),
        (0, at(10), signed(make(10, attest(6, None, None)), &stranger)),
        (1, at(10), signed(make(10, attest(1, None, None)), &other)),
        (0, Millis(at(10).0 + DAY), signed(make(10, attest(3, None, None)), &other)),
        (0, Millis(at(10).0 + 4 * DAY), signed(make(10, attest(3, None, None)), &other)),
    ]
}

pub(super) fn seed_of(key: &PublicKey) -> u8 {
    let found = (2..=7).find(|seed| secret(*seed).public() == *key);
    found.or_else(|| (200..202).find(|seed| node_or_governance(*seed).public() == *key)).unwrap()
}

pub(super) fn event_vector(time: Millis, said: &SignedEvent) -> Value {
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

pub(super) fn events() -> Value {
    story().iter().take(14).map(|(_, time, said)| event_vector(*time, said)).collect()
}

pub(super) fn notes() -> Value {
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

pub(super) fn manifests() -> Value {
    let vector = |manifest: &Manifest| {
        json!({
            "type": "manifest", "note": manifest.note().to_string(), "federation": manifest.federation().to_string(),
            "quorum": manifest.quorum(), "faults": manifest.faults(),
            "origin": manifest.origin(&log(0)).to_string(),
        })
    };
    [manifest(), federation(1, |_| ()), federation(4, |_| ())].iter().map(vector).collect()
}

/// The replica after the whole story.
pub(super) fn replayed_story(manifest: &Manifest) -> MemoryReplica<'_> {
    let mut replica = MemoryReplica::adopted(manifest);
    for (i, time, said) in story() {
        let _ = replica.append_event(&log(i), time, said);
    }
    replica
}

pub(super) fn map_name(manifest: &Manifest, id: fama_ledger::rows::MapId) -> String {
    let mut names = manifest
        .logs()
        .keys()
        .flat_map(|log| fama_ledger::batch::LogMaps::names(manifest, log).into_iter().map(move |name| (name, log)));
    let (name, log) = names.find(|(name, _)| name.id() == id).unwrap();
    if name.as_str() == "log" { format!("log/{log}") } else { name.as_str().to_owned() }
}

/// An entry's outcome, in one word.
pub(super) fn outcome(outcome: &Option<fama_ledger::fold::Outcome>) -> &'static str {
    match outcome {
        None => "adopted",
        Some(Ok(_)) => "applied",
        Some(Err(void)) => void.code(),
    }
}

pub(super) fn logs() -> Value {
    let manifest = manifest();
    let replica = replayed_story(&manifest);
    let mut vectors: Vec<Value> = Vec::new();
    let mut fresh = MemoryReplica::new(&manifest);
    for (log, mirror) in &replica.logs {
        let replayed = fresh.deliver(log, 0, &mirror.entries);
        let outcomes: Vec<Vec<&str>> =
            replayed.iter().map(|batch| batch.outcomes.iter().map(outcome).collect()).collect();
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
        "empty_state_id": MemoryReplica::new(&manifest).state_id().to_string(),
        "dump": hex(replica.join().dump().unwrap()),
    }));
    Value::Array(vectors)
}

pub(super) fn checkpoints() -> Value {
    let manifest = manifest();
    let replica = replayed_story(&manifest);
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
