//! Profile proofs: they say what the join says, and no lie passes for a proof.
use std::sync::Arc;

use fama_ledger::adoption::Adoption;
use fama_ledger::checkpoint::{self, Checkpoint, Cosignature, SignedCheckpoint};
use fama_ledger::codec;
use fama_ledger::entry::VerifiedEntry;
use fama_ledger::event::{Action, Method, RevokeReason};
use fama_ledger::id::{EventId, IdentityId};
use fama_ledger::join::Karma;
use fama_ledger::log::prove_inclusion;
use fama_ledger::manifest::{Cut, LogId, Manifest};
use fama_ledger::profile::{
    HeadEvidence, LogSource, MakeError, Profile, ProfileAnswer, ProfileError, ProfileProof, Proven,
};
use fama_ledger::proof::{CertifiedBy, TlogProof};
use fama_ledger::signed_note::{SignedNote, sign};
use fama_tests::{
    DOMAINS, MemoryReplica, MirroredLog, SECOND, START, adoption, countersigned, domain, event, federation,
    governance_key, log, node_key, secret, signed,
};

/// Operators' clock times when they cosign, in seconds since 1970: each one a minute after the one before.
fn cosigned_at(i: usize) -> u64 {
    START.0 / SECOND + 60 * (i as u64 + 1)
}

/// The head of a mirror's log, signed by its owner and cosigned by the operators `by`.
fn certificate(manifest: &Manifest, of: usize, mirror: &MirroredLog, by: &[usize]) -> HeadEvidence {
    let key = |i: usize| node_key(i as u8).ed25519().unwrap().clone();
    let head = mirror.tree.head();
    let checkpoint = Checkpoint { origin: manifest.origin(&log(of)), head };
    let signed = SignedCheckpoint::sign(checkpoint, &key(of));
    let cosign = |i: &usize| {
        let cosignature = Cosignature::sign(signed.checkpoint(), domain(DOMAINS[*i]), &key(*i), cosigned_at(*i));
        (cosignature, key(*i).verifying_key())
    };
    let cosigned: Vec<_> = by.iter().map(cosign).collect();
    HeadEvidence {
        note: checkpoint::note(&signed, &key(of).verifying_key(), &cosigned),
        entry: mirror.entries.last().unwrap().bytes().to_vec(),
        path: prove_inclusion(head.size - 1, head.size, &mirror.tiles).unwrap(),
        adopted: adoption(mirror),
    }
}

/// The proof that a node with this replica makes when every operator has cosigned every head.
pub(crate) fn prove(
    manifest: &Arc<Manifest>,
    replica: &MemoryReplica<'_>,
    question: &str,
) -> Result<ProfileProof, String> {
    let all: Vec<usize> = (0..manifest.operators().len()).collect();
    fn named(id: &LogId) -> usize {
        DOMAINS.iter().position(|name| *name == id.operator.as_str()).unwrap()
    }
    let source = |(id, mirror)| {
        let certificate = manifest.cut(id).is_none().then(|| certificate(manifest, named(id), mirror, &all));
        LogSource { log: id.clone(), certificate, maps: &mirror.maps }
    };
    let sources: Vec<LogSource<'_>> = replica.logs.iter().map(source).collect();
    ProfileProof::make(manifest, question.parse().unwrap(), &replica.rows, &sources).map_err(|error| error.to_string())
}

pub(crate) struct World<'a> {
    pub(crate) replica: MemoryReplica<'a>,
    nonce: u64,
}

impl<'a> World<'a> {
    fn new(manifest: &'a Manifest) -> Self {
        Self { replica: MemoryReplica::adopted(manifest), nonce: 1_000 }
    }

    fn say(&mut self, i: usize, action: Action, seed: u8) -> EventId {
        self.nonce += 1;
        let said = event(self.replica.manifest.federation(), action, START, self.nonce);
        let id = said.id();
        let key = if seed >= 200 { node_key(seed - 200) } else { secret(seed) };
        self.replica.append_event(&log(i), START, signed(said, &key)).unwrap();
        id
    }

    fn admit(&mut self, i: usize, provider: IdentityId, from: u64) {
        let (operator, method) = (domain(DOMAINS[i]), Method::Dns);
        let (service, domain) = ("judge".parse().unwrap(), domain("judge.example"));
        self.say(i, Action::Admit { operator, provider, service, domain, method, from }, 200 + i as u8);
    }

    /// Logs an action by the identity in the home of `i` with the key of `seed`.
    fn attest(&mut self, (i, issuer, seed): (usize, IdentityId, u8), subject: IdentityId, delta: i32) -> EventId {
        let home = domain(DOMAINS[i]);
        self.say(i, Action::Attest { home, issuer, subject, delta, context: None, note: None }, seed)
    }

    fn rotate(&mut self, i: usize, identity: IdentityId, (old, new): (u8, u8)) {
        let (old, new) = (secret(old), secret(new));
        let action = Action::Rotate { home: domain(DOMAINS[i]), identity, version: 2, key: new.public(), next: None };
        let said = event(self.replica.manifest.federation(), action, START, 77);
        self.replica.append_event(&log(i), START, countersigned(said, &old, &new)).unwrap();
    }

    /// Logs an action in the log of `i`, whatever the identity's home is.
    pub(crate) fn revoke(&mut self, i: usize, identity: IdentityId, (version, seed): (u32, u8)) {
        let (home, key, reason) = (domain(DOMAINS[0]), secret(seed).public(), RevokeReason::KeyCompromised);
        self.say(i, Action::Revoke { home, identity, version, key, reason }, seed);
    }
}

/// An agent of the first home with two keys, and two providers of the second. All attestations of one provider count;
/// of the other, those from its second on.
pub(crate) fn story(manifest: &Manifest) -> (World<'_>, IdentityId, [IdentityId; 2]) {
    let mut world = World::new(manifest);
    let agent = world.replica.register(0, "swift-core-maps", 2);
    let (whole, part) = (world.replica.register(1, "whole", 4), world.replica.register(1, "part", 6));
    for (id, seed) in [(whole, 4), (part, 6)] {
        world.attest((1, id, seed), agent, 3);
        world.attest((1, id, seed), agent, 2);
    }
    for i in [0, 1] {
        world.admit(i, whole, 0);
        world.admit(i, part, 1);
    }
    let taken = world.attest((1, whole, 4), agent, 4);
    let home = domain(DOMAINS[1]);
    world.say(1, Action::Retract { home, issuer: whole, subject: agent, day: START.day(), attestation: taken }, 4);
    world.rotate(0, agent, (2, 8));
    (world, agent, [whole, part])
}

pub(crate) fn four() -> Arc<Manifest> {
    Arc::new(federation(4, |_| ()))
}

fn found(proven: Proven) -> Profile {
    match proven.answer {
        ProfileAnswer::Found(profile) => *profile,
        ProfileAnswer::Absent => panic!("found"),
    }
}

/// Parses the text that a proof is written as, and verifies it.
fn read(text: &str, manifest: &Arc<Manifest>) -> Result<Proven, ProfileError> {
    text.parse::<ProfileProof>()?.verify(manifest)
}

#[test]
fn a_proof_says_what_the_join_says() {
    let manifest = four();
    let (world, agent, [whole, part]) = story(&manifest);
    let did = format!("did:agent:alpha.example:{}", &agent.to_string()[..32]);
    for question in ["swift-core-maps@alpha.example", &agent.to_string(), &did] {
        let text = prove(&manifest, &world.replica, question).unwrap().to_string();
        let proven = read(&text, &manifest).unwrap();
        assert_eq!(proven.question.to_string(), question);
        let times: Vec<_> = proven.logs.iter().map(|log| (log.as_of, log.time, log.adopted)).collect();
        assert_eq!(
            times,
            [(Some(cosigned_at(1)), Some(START), 1); 4],
            "the third of four cosigned a minute before the last"
        );
        assert_eq!(proven.as_of(), Some(cosigned_at(1)));
        let profile = found(proven);
        let join = world.replica.join();
        assert_eq!(profile.found, join.identity(agent).unwrap().unwrap());
        assert_eq!(profile.status, join.key_status(&profile.found).unwrap());
        assert_eq!((profile.status.version, profile.status.is_revoked()), (2, false));
        assert_eq!(profile.keys, join.keys(&profile.found).unwrap());
        assert_eq!(profile.karma, Karma { sum: 7, count: 3 });
        assert_eq!(profile.karma, join.karma(agent).unwrap());
        let mut providers = vec![(whole, Karma { sum: 5, count: 2 }), (part, Karma { sum: 2, count: 1 })];
        providers.sort_unstable();
        assert_eq!(profile.providers, providers);
    }
}

#[test]
fn absence_is_proven_too() {
    let manifest = four();
    let (world, agent, _) = story(&manifest);
    let did = format!("did:agent:beta.example:{}", &agent.to_string()[..32]);
    for question in
        ["swift-core-map@alpha.example", "swift-core-maps@beta.example", "a-name@no.example", &"0".repeat(64), &did]
    {
        let text = prove(&manifest, &world.replica, question).unwrap().to_string();
        assert_eq!(read(&text, &manifest).unwrap().answer, ProfileAnswer::Absent, "{question}");
    }
}

#[test]
fn a_revocation_in_a_foreign_log_is_part_of_the_proof() {
    let manifest = four();
    let (mut world, agent, _) = story(&manifest);
    world.revoke(2, agent, (1, 2));
    let question = "swift-core-maps@alpha.example";
    let prove =
        |world: &World<'_>| found(prove(&manifest, &world.replica, question).unwrap().verify(&manifest).unwrap());
    assert_eq!(prove(&world).status.revoked, None, "of a key that is not in force any more");
    world.revoke(2, agent, (2, 8));
    let revoked = prove(&world).status.revoked.unwrap();
    assert_eq!((revoked.operator, revoked.reason), (Some(domain(DOMAINS[2])), RevokeReason::KeyCompromised));
}

/// A federation of two with one agent and one provider.
pub(crate) fn small_story() -> (Arc<Manifest>, ProfileProof) {
    let manifest = Arc::new(federation(2, |_| ()));
    let mut world = World::new(&manifest);
    let agent = world.replica.register(0, "swift-core-maps", 2);
    let judge = world.replica.register(1, "judge", 4);
    world.attest((1, judge, 4), agent, 3);
    world.admit(0, judge, 0);
    let proof = prove(&manifest, &world.replica, "swift-core-maps@alpha.example").unwrap();
    (Arc::clone(&manifest), proof)
}

/// A federation's genesis, and a proof under its second version about an agent whose home passed from a log that was
/// cut to one that has not adopted version 2.
pub(crate) fn passed_on() -> (Arc<Manifest>, ProfileProof) {
    let first = four();
    let mut world = World::new(&first);
    world.replica.register(3, "passed-on", 10);
    let second = succession(&first, &world.replica);
    let replica = MemoryReplica { manifest: &second, ..world.replica };
    let proof = prove(&second, &replica, "passed-on@delta.example").unwrap();
    (Arc::clone(&first), proof)
}

/// The same after the first log has adopted version 2 and the second log has continued.
pub(crate) fn adopted_since() -> (Arc<Manifest>, ProfileProof) {
    let first = four();
    let mut world = World::new(&first);
    world.replica.register(3, "passed-on", 10);
    let second = succession(&first, &world.replica);
    let mut replica = MemoryReplica { manifest: &second, ..world.replica };
    for i in 0..2 {
        replica.append(&log(i), vec![VerifiedEntry::adopt(START, 2, second.hash())]);
    }
    replica.register(1, "beyond", 12);
    let proof = prove(&second, &replica, "passed-on@delta.example").unwrap();
    (Arc::clone(&first), proof)
}

/// Changing any byte of a file makes it prove nothing, or exactly the same.
#[test]
fn every_flipped_byte_is_refused() {
    let (manifest, found) = small_story();
    let nobody = prove(&manifest, &MemoryReplica::adopted(&manifest), "nobody@alpha.example").unwrap();
    for proof in [found, nobody] {
        let text = proof.to_string();
        assert_eq!(text.parse(), Ok(proof.clone()));
        let mut refused = 0;
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1 << (at % 7);
            let Ok(flipped) = String::from_utf8(bytes) else { continue };
            let Ok(read) = flipped.parse::<ProfileProof>() else { continue };
            if read == proof {
                assert!(text.as_bytes()[at].is_ascii_whitespace(), "byte {at} of {flipped}");
                continue;
            }
            refused += 1;
            if let Ok(proven) = read.verify(&manifest) {
                assert_ne!(proven.question, proof.question, "byte {at} of {flipped}");
                assert_eq!(proven.answer, ProfileAnswer::Absent, "another name that nobody has: {flipped}");
            }
        }
        assert!(refused > 1_000, "flips that leave a well-formed file: {refused}");
    }
}

/// The result for a good proof after `lie`; the changed proof travels as a file.
fn told(
    manifest: &Arc<Manifest>,
    good: &ProfileProof,
    lie: impl FnOnce(&mut ProfileProof),
) -> Result<ProfileAnswer, String> {
    let mut proof = good.clone();
    lie(&mut proof);
    let code = |error: ProfileError| error.code().to_owned();
    let proof: ProfileProof = proof.to_string().parse().map_err(code)?;
    proof.verify(manifest).map(|proven| proven.answer).map_err(code)
}

#[test]
fn every_lie_has_its_code() {
    let manifest = four();
    let (mut world, agent, _) = story(&manifest);
    let question = "swift-core-maps@alpha.example";
    let before = prove(&manifest, &world.replica, question).unwrap();
    world.revoke(2, agent, (2, 8));
    let good = prove(&manifest, &world.replica, question).unwrap();
    let stranger = prove(&manifest, &world.replica, "nobody@alpha.example").unwrap();
    let check = |what: &str, code: &str, lie: &dyn Fn(&mut ProfileProof)| {
        assert_eq!(told(&manifest, &good, lie), Err(code.to_owned()), "{what}");
    };
    assert!(told(&manifest, &good, |_| ()).is_ok());
    // The logs are in the order alpha, beta, delta, gamma.
    check("another state root", "profile_state_root", &|proof| proof.logs[0].roots[1].0[0] ^= 1);
    check("a root too few", "profile_state_root", &|proof| proof.logs[0].roots.truncate(3));
    check("a name dropped", "profile_rows", &|proof| drop(proof.logs[0].maps[1].rows.pop()));
    check("a tally dropped", "proof_claim", &|proof| drop(proof.logs[1].maps[1].rows.pop()));
    check("a row of another key", "proof_claim", &|proof| *proof.logs[1].maps[1].rows[0].0.last_mut().unwrap() ^= 1);
    check("a changed value", "proof_root", &|proof| proof.logs[1].maps[1].rows[0].1[0] ^= 1);
    check("a row too many", "proof_claim", &|proof| proof.logs[3].maps[1].rows.push((vec![13], vec![0])));
    check("the claim left out", "proof_claim", &|proof| proof.logs[3].maps[0].rows.clear());
    check("the claim with its map left out", "profile_rows", &|proof| drop(proof.logs[3].maps.remove(0)));
    check("a map that is not asked", "profile_rows", &|proof| {
        let map = proof.logs[3].maps[0].clone();
        proof.logs[3].maps.push(map);
    });
    check("a map of no log", "profile_rows", &|proof| proof.logs[3].maps[0].name = "claims/Nobody".into());
    check("a map of another log", "profile_rows", &|proof| proof.logs[3].maps[0].name = "claims/beta.example".into());
    check("a log left out", "profile_log", &|proof| drop(proof.logs.remove(3)));
    check("a log twice", "profile_log", &|proof| proof.logs.push(proof.logs[3].clone()));
    check("logs in another order", "profile_log", &|proof| proof.logs.swap(0, 1));
    check("a log that there is not", "profile_log", &|proof| proof.logs[0].log.generation = 2);
    check("a log without a head", "profile_log", &|proof| proof.logs[0].certificate = None);
    check("too few cosigners", "profile_quorum", &|proof| {
        proof.logs[0].certificate.as_mut().unwrap().note.signatures.truncate(3);
    });
    check("strangers among the cosigners", "profile_quorum", &|proof| {
        let lines = &mut proof.logs[0].certificate.as_mut().unwrap().note.signatures;
        lines[3].key_id = [0; 4];
        lines[4].name = "stranger.example".into();
    });
    check("another owner's head", "checkpoint_unknown_origin", &|proof| {
        proof.logs[0].certificate = proof.logs[1].certificate.clone();
    });
    check("an older head", "profile_state_root", &|proof| {
        proof.logs[3].certificate = before.logs[3].certificate.clone();
    });
    check("an older entry", "proof_root", &|proof| {
        proof.logs[3].certificate.as_mut().unwrap().entry = before.logs[3].certificate.clone().unwrap().entry;
    });
    check("no state entry", "profile_entry", &|proof| {
        let entry = world.replica.logs[&log(0)].entries[0].bytes().to_vec();
        proof.logs[0].certificate.as_mut().unwrap().entry = entry;
    });
    check("the evidence of another question", "proof_claim", &|proof| proof.logs = stranger.logs.clone());
    check("another question", "profile_rows", &|proof| proof.question = stranger.question.clone());
    check("a home that is not asked", "profile_rows", &|proof| {
        proof.question = "swift-core-maps@beta.example".parse().unwrap();
    });
    check("another federation's name", "profile_federation", &|proof| proof.federation.0[0] ^= 1);
    let two = Arc::new(federation(2, |_| ()));
    assert_eq!(told(&two, &good, |_| ()), Err("profile_federation".to_owned()));
    // An old proof is not a lie: what it says held then, and it says when.
    assert!(told(&manifest, &before, |_| ()).is_ok());
}

#[test]
fn files_that_are_none_are_refused() {
    let manifest = four();
    let (world, ..) = story(&manifest);
    let text = prove(&manifest, &world.replica, "swift-core-maps@alpha.example").unwrap().to_string();
    let check = |from: &str, to: &str| {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        assert_eq!(changed.parse::<ProfileProof>().map_err(|error| error.code()), Err("profile_form"), "{from} → {to}");
    };
    for (from, to) in [
        ("fama.profile-proof/1", "fama.profile-proof/2"),
        ("\"format\"", "\"more\": 1, \"format\""),
        ("\"question\": \"", "\"question\": \" "),
        ("\"log\": \"alpha.example/1\"", "\"log\": \"alpha.example\""),
        ("\"entry\": ", "\"entries\": "),
        ("\"path\": \"", "\"path\": \"AAAA"),
        ("\"roots\": \"", "\"roots\": \"AAAA"),
        ("\"rows\": \"", "\"rows\": \"AAAA"),
        ("\"proof\": \"", "\"proof\": \"="),
        ("\\n\\n", "\\n"),
        ("{", "["),
    ] {
        check(from, to);
    }
    let long = format!("{text}{}", " ".repeat(fama_ledger::profile::PROFILE_BYTES_MAX));
    assert_eq!(long.parse::<ProfileProof>().map_err(|error| error.code()), Err("profile_too_long"));
}

/// Version 2 of a federation of four: the last operator is gone, and its home and statements pass to the first.
fn succession(first: &Arc<Manifest>, replica: &MemoryReplica<'_>) -> Arc<Manifest> {
    let mut draft = first.draft();
    draft.operators.remove(3);
    draft.homes.insert(domain(DOMAINS[3]), log(0));
    let (head, state_root) = (replica.head(&log(3)), replica.logs[&log(3)].state_root);
    draft.cuts.push(Cut { log: log(3), head, state_root, adopted: 1, successor: log(0) });
    let text = draft.text().unwrap();
    let line = |i: u8| sign(&text, DOMAINS[usize::from(i)], governance_key(i).ed25519().unwrap());
    let note = SignedNote { signatures: (0..3).map(line).collect(), text }.to_string();
    Arc::new(first.successor(&note).unwrap())
}

/// A home whose log was cut is read there until the log that it passes to has adopted the cut; the manifest gives the
/// home's state at the cut.
#[test]
fn a_home_that_passes_on_stays_provable() {
    let first = four();
    let (mut world, ..) = story(&first);
    let moved = world.replica.register(3, "passed-on", 10);
    world.revoke(3, moved, (1, 10));
    let question = "passed-on@delta.example";
    let old = prove(&first, &world.replica, question).unwrap();
    let second = succession(&first, &world.replica);
    let mut replica = MemoryReplica { manifest: &second, ..world.replica };
    let revoked = |proven: Proven| found(proven).status.is_revoked();
    let logs = |proof: &ProfileProof| proof.logs.iter().map(|log| log.log.to_string()).collect::<Vec<_>>().join(" ");

    let proof = prove(&second, &replica, question).unwrap();
    assert_eq!(logs(&proof), "alpha.example/1 beta.example/1 delta.example/1 gamma.example/1");
    assert!(revoked(read(&proof.to_string(), &first).unwrap()), "for a reader who holds only the genesis");
    let proven = proof.verify(&second).unwrap();
    let cut = proven.logs.iter().find(|log| log.log.operator.as_str() == DOMAINS[3]).unwrap();
    assert_eq!((cut.size, cut.as_of, cut.time), (replica.head(&log(3)).size, None, None));
    assert_eq!(proven.manifest.version(), 2);
    assert!(revoked(proven));
    let hidden = |proof: &mut ProfileProof| {
        proof.logs.remove(2);
        proof.logs.iter_mut().for_each(|log| log.maps.retain(|map| map.name == "log"));
    };
    assert_eq!(told(&second, &proof, hidden), Err("profile_log".to_owned()), "nobody has the name, for lack of a home");
    assert_eq!(told(&second, &proof, |proof| proof.logs[2].roots[0].0[0] ^= 1), Err("profile_state_root".to_owned()));
    assert_eq!(told(&second, &old, |_| ()), Err("profile_old_manifest".to_owned()));
    assert!(told(&first, &old, |_| ()).is_ok(), "a reader who does not know version 2 cannot tell");

    for i in 0..3 {
        let adopt = VerifiedEntry::adopt(START, 2, second.hash());
        replica.append(&log(i), vec![adopt]);
        let proof = prove(&second, &replica, question).unwrap();
        assert_eq!(logs(&proof), "alpha.example/1 beta.example/1 gamma.example/1", "alpha adopted first");
        let proven = read(&proof.to_string(), &first).unwrap();
        assert_eq!(proven.logs.iter().filter(|log| log.adopted == 2).count(), i + 1);
        assert!(revoked(proven));
    }
    let proof = prove(&second, &replica, question).unwrap();
    let certify = |proof: &ProfileProof, replica: &MemoryReplica<'_>, by: &[usize]| {
        let certificate = certificate(&second, 0, &replica.logs[&log(0)], by);
        told(&second, proof, |proof| proof.logs[0].certificate = Some(certificate)).map(|_| ())
    };
    let too_few = || Err("profile_quorum".to_owned());
    assert_eq!((first.quorum(), second.quorum()), (3, 2));
    // Where the log adopts version 2, quorums of both versions' operators must have cosigned.
    assert_eq!(certify(&proof, &replica, &[0, 2]), too_few());
    assert_eq!(certify(&proof, &replica, &[0, 2, 3]), Ok(()));
    assert_eq!(certify(&proof, &replica, &[0, 3]), too_few());
    // Beyond that, version 1's cosigners do not count.
    replica.register(0, "beyond", 12);
    let beyond = prove(&second, &replica, question).unwrap();
    assert_eq!(certify(&beyond, &replica, &[0, 2]), Ok(()));
    assert_eq!(certify(&beyond, &replica, &[0, 3]), too_few());
    let shows = |change: &dyn Fn(&mut Adoption)| {
        told(&second, &beyond, |proof| change(proof.logs[0].certificate.as_mut().unwrap().adopted.as_mut().unwrap()))
    };
    let earlier = &replica.logs[&log(0)];
    assert_eq!(shows(&|shown| shown.index -= 1), Err("proof_root".to_owned()));
    assert_eq!(shows(&|shown| shown.entry[12] ^= 3), Err("proof_root".to_owned()), "another version");
    let at = |shown: &mut Adoption, index: usize| {
        let path = prove_inclusion(index as u64, earlier.tree.size(), &earlier.tiles).unwrap();
        *shown = Adoption { index: index as u64, entry: earlier.entries[index].bytes().to_vec(), path };
    };
    assert_eq!(shows(&|shown| at(shown, 0)), Err("adoption_entry".to_owned()), "of version 1");
    assert_eq!(shows(&|shown| at(shown, 2)), Err("adoption_entry".to_owned()), "of none");
    let hides = |proof: &mut ProfileProof| proof.logs[0].certificate.as_mut().unwrap().adopted = None;
    assert_eq!(told(&second, &beyond, hides), Err("adoption_missing".to_owned()));
    let shown = beyond.logs[0].certificate.as_ref().unwrap().adopted.clone();
    let adds = |proof: &mut ProfileProof| proof.logs[0].certificate.as_mut().unwrap().adopted.clone_from(&shown);
    assert_eq!(told(&first, &old, adds), Err("adoption_superfluous".to_owned()));
    // A different text of version 2 than the reader's.
    let mut draft = first.draft();
    draft.policy.daily_bytes += 1;
    let text = draft.text().unwrap();
    let line = |i: u8| sign(&text, DOMAINS[usize::from(i)], governance_key(i).ed25519().unwrap());
    let other = SignedNote { signatures: (0..3).map(line).collect(), text };
    assert_eq!(told(&second, &proof, |proof| proof.manifests[0] = other), Err("profile_other_manifest".to_owned()));
    let unsigned = |proof: &mut ProfileProof| proof.manifests[0].signatures.truncate(2);
    assert_eq!(told(&first, &proof, unsigned), Err("manifest_quorum".to_owned()));
}

/// Symptom: the quorum of any version was enough. Cause: a proof of inclusion does not say which version the log had
/// adopted, so a small later version could stand in for the one that counts. The proofs here must need exactly the
/// adopted version's quorum.
#[test]
fn an_events_proof_shows_which_version_counts() {
    let first = four();
    let (world, ..) = story(&first);
    let second = succession(&first, &world.replica);
    let mut replica = MemoryReplica { manifest: &second, ..world.replica };
    let told = |replica: &MemoryReplica<'_>, by: &[usize], with: Option<&Adoption>| {
        let mirror = &replica.logs[&log(0)];
        let certificate = certificate(&second, 0, mirror, by);
        let path = prove_inclusion(2, mirror.tree.size(), &mirror.tiles).unwrap();
        let extra = [mirror.entries[2].bytes().to_vec(), with.map(codec::encode).unwrap_or_default()].concat();
        let proof = TlogProof { extra: Some(extra.clone()), index: 2, path, checkpoint: certificate.note };
        let read: TlogProof = proof.to_string().parse().unwrap();
        let included = read.included(&extra, &second).map_err(|error| error.code())?;
        Ok(included.certified.map(|certified| match certified {
            CertifiedBy::Cosigned { version, by } => (version, by.len()),
            CertifiedBy::Cut => (0, 0),
        }))
    };
    assert_eq!(told(&replica, &[0, 1], None), Ok(None), "a quorum of version 2, which it had not adopted");
    assert_eq!(told(&replica, &[0, 1, 2], None), Ok(Some((2, 3))), "of both versions");
    replica.append(&log(0), vec![VerifiedEntry::adopt(START, 2, second.hash())]);
    let shown = adoption(&replica.logs[&log(0)]);
    assert_eq!(told(&replica, &[0, 1], shown.as_ref()), Ok(None), "where it adopts, version 1 counts too");
    assert_eq!(told(&replica, &[0, 1, 2], shown.as_ref()), Ok(Some((2, 3))));
    replica.register(0, "beyond", 12);
    let shown = adoption(&replica.logs[&log(0)]).unwrap();
    assert_eq!(told(&replica, &[0, 1], None), Ok(None));
    assert_eq!(told(&replica, &[0, 1], Some(&shown)), Ok(Some((2, 2))));
    assert_eq!(told(&replica, &[0, 3], Some(&shown)), Ok(None));
    let moved = Adoption { index: shown.index + 1, ..shown.clone() };
    assert_eq!(told(&replica, &[0, 1], Some(&moved)), Err("proof_root"));
    let none = Adoption { entry: replica.logs[&log(0)].entries[2].bytes().to_vec(), ..shown };
    assert_eq!(told(&replica, &[0, 1], Some(&none)), Err("adoption_entry"));
}

#[test]
fn a_log_that_has_not_begun_hides_what_it_might_say() {
    let manifest = four();
    let mut replica = MemoryReplica::new(&manifest);
    let adopt = |replica: &mut MemoryReplica<'_>, i| {
        replica.append(&log(i), vec![VerifiedEntry::adopt(START, 1, manifest.hash())]);
    };
    (0..3).for_each(|i| adopt(&mut replica, i));
    let all: Vec<usize> = (0..4).collect();
    let sources: Vec<LogSource<'_>> = (0..3)
        .map(|i| {
            let mirror = &replica.logs[&log(i)];
            LogSource { log: log(i), certificate: Some(certificate(&manifest, i, mirror, &all)), maps: &mirror.maps }
        })
        .collect();
    let question = || "nobody@alpha.example".parse().unwrap();
    let made = ProfileProof::make(&manifest, question(), &replica.rows, &sources);
    assert_eq!(made, Err(MakeError::Missing(log(3))));
}
