//! Profile proofs: they say what the join says, and no lie passes for a proof.
use std::sync::Arc;

use fama_ledger::adoption::Adoption;
use fama_ledger::checkpoint::{self, Checkpoint, Cosignature, SignedCheckpoint};
use fama_ledger::codec;
use fama_ledger::entry::VerifiedEntry;
use fama_ledger::event::{Action, Method, RevokeReason, Service, SuspendReason};
use fama_ledger::id::{EventId, IdentityId};
use fama_ledger::join::Karma;
use fama_ledger::log::prove_inclusion;
use fama_ledger::manifest::{Cut, LogId, Manifest};
use fama_ledger::profile::{
    GRANTED_BY_MAX, HeadEvidence, LeftOut, LogMaps, LogSource, MakeError, PROFILE_BYTES_MAX, Profile, ProfileAnswer,
    ProfileError, ProfileProof, Proven, ProvenStatus, ProvenSuspension, Question, Required, WhyLeftOut,
};
use fama_ledger::proof::{CertifiedBy, TlogProof};
use fama_ledger::rows::{Changes, DayCounter, Interval, MapName, Statement, Tally, row_key, text_key};
use fama_ledger::signed_note::{SignedNote, sign};
use fama_tests::{
    DOMAINS, MemoryReplica, MirroredLog, SECOND, START, adoption, countersigned, domain, event, federation,
    governance_key, log, node_key, secret, signed,
};

/// Operators' clock times when they cosign, in seconds since 1970: each one a minute after the one before.
fn cosigned_at(i: usize) -> u64 {
    START.0 / SECOND + 60 * (i as u64 + 1)
}

/// The clock of a reader five minutes after the first cosignature.
pub(crate) const NOW: u64 = START.0 / SECOND + 360;

/// Wants every log, of whatever age.
pub(crate) fn every_log(proof: &ProfileProof) -> Required {
    Required { question: proof.question.clone(), max_age_seconds: u64::MAX, missing_max: 0, now: NOW }
}

/// Accepts one log less, and certificates up to an hour old.
fn one_less(proof: &ProfileProof) -> Required {
    Required { max_age_seconds: 3_600, missing_max: 1, ..every_log(proof) }
}

/// The head of a mirror's log, signed by its owner and cosigned by the operators `by`.
pub(crate) fn certificate(manifest: &Manifest, of: usize, mirror: &MirroredLog, by: &[usize]) -> HeadEvidence {
    certificate_at(manifest, of, mirror, (by, 0))
}

/// The same, cosigned so many seconds earlier.
fn certificate_at(
    manifest: &Manifest,
    of: usize,
    mirror: &MirroredLog,
    (by, earlier): (&[usize], u64),
) -> HeadEvidence {
    let key = |i: usize| node_key(i as u8).ed25519().unwrap().clone();
    let head = mirror.tree.head();
    let checkpoint = Checkpoint { origin: manifest.origin(&log(of)), head };
    let signed = SignedCheckpoint::sign(checkpoint, &key(of));
    let cosign = |i: &usize| {
        let time = cosigned_at(*i) - earlier;
        let cosignature = Cosignature::sign(signed.checkpoint(), domain(DOMAINS[*i]), &key(*i), time);
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
    prove_with(manifest, replica, question, |_| Some(0))
}

/// The same of a node that has no certificate of some logs, and an old one of others: `earlier` says how many seconds.
pub(crate) fn prove_with(
    manifest: &Arc<Manifest>,
    replica: &MemoryReplica<'_>,
    question: &str,
    earlier: impl Fn(usize) -> Option<u64>,
) -> Result<ProfileProof, String> {
    let all: Vec<usize> = (0..manifest.operators().len()).collect();
    fn named(id: &LogId) -> usize {
        DOMAINS.iter().position(|name| *name == id.operator.as_str()).unwrap()
    }
    let source = |(id, mirror): (&LogId, &'_ MirroredLog)| {
        let earlier = earlier(named(id))?;
        let certificate = || certificate_at(manifest, named(id), mirror, (&all, earlier));
        Some((id.clone(), manifest.cut(id).is_none().then(certificate)))
    };
    let shown: Vec<_> = replica.logs.iter().filter_map(source).collect();
    let source = |(log, certificate): (LogId, _)| LogSource { maps: &replica.logs[&log].maps, log, certificate };
    let sources: Vec<LogSource<'_>> = shown.into_iter().map(source).collect();
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
    let proof = text.parse::<ProfileProof>()?;
    proof.verify(manifest, &every_log(&proof))
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
        let key = join.key_status(&profile.found).unwrap();
        assert_eq!((profile.version, &profile.current, key.revoked), (2, &key.current, None));
        assert_eq!(profile.status, ProvenStatus::Active);
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
    let status = |world: &World<'_>| {
        found(read(&prove(&manifest, &world.replica, question).unwrap().to_string(), &manifest).unwrap()).status
    };
    assert_eq!(status(&world), ProvenStatus::Active, "of a key that is not in force any more");
    world.revoke(2, agent, (2, 8));
    let ProvenStatus::Revoked(revoked) = status(&world) else { panic!("revoked") };
    assert_eq!((revoked.operator, revoked.reason), (Some(domain(DOMAINS[2])), RevokeReason::KeyCompromised));
}

/// An agent that a service of another home lets read and write, until one is over, and that two of four operators suspend.
/// Returns the world, the agent and the service.
pub(crate) fn restricted(manifest: &Manifest) -> (World<'_>, IdentityId, IdentityId) {
    let mut world = World::new(manifest);
    let agent = world.replica.register(0, "swift-core-maps", 2);
    let service = world.replica.register(1, "payments", 4);
    let home = || domain(DOMAINS[1]);
    let grant = |scope: &str, expires| Action::Grant {
        home: home(),
        issuer: service,
        subject: agent,
        scope: scope.parse().unwrap(),
        expires,
        note: None,
    };
    world.say(1, grant("read", None), 4);
    world.say(1, grant("write", Some(START.plus(1_000))), 4);
    world.say(1, grant("delete", None), 4);
    let scope = "never".parse().unwrap();
    world.say(1, Action::Ungrant { home: home(), issuer: service, subject: agent, scope }, 4);
    for i in [1, 3] {
        let (operator, reason) = (domain(DOMAINS[i]), SuspendReason::Misconduct);
        world.say(i, Action::Suspend { operator, identity: agent, reason }, 200 + i as u8);
    }
    (world, agent, service)
}

/// Whose grants a proof shows is in its question: nobody gets by with a proof of less.
#[test]
fn grants_and_suspensions_are_proven() {
    let manifest = Arc::new(federation(4, |p| p.min_sponsors = 2));
    let (mut world, agent, service) = restricted(&manifest);
    let (name, unknown) = ("swift-core-maps@alpha.example", EventId([0xff; 32]));
    let question = format!("{name} granted by {service} {unknown}");
    let shown = |world: &World<'_>| {
        found(read(&prove(&manifest, &world.replica, &question).unwrap().to_string(), &manifest).unwrap())
    };
    let profile = shown(&world);
    assert_eq!((profile.found.id, profile.suspension), (agent, ProvenSuspension::Holds));
    let by: Vec<&str> = profile.suspended_by.iter().map(|(operator, _)| operator.as_str()).collect();
    assert_eq!(by, [DOMAINS[1], DOMAINS[3]]);
    assert_eq!(profile.granted.len(), 2);
    assert_eq!((profile.granted[1].issuer, &profile.granted[1].found), (unknown, &None));
    let may = |profile: &Profile, scope: &str, now| profile.granted[0].allows(&scope.parse().unwrap(), now);
    for (scope, allowed) in [("read", true), ("write", true), ("delete", true), ("never", false), ("Read", false)] {
        assert_eq!(may(&profile, scope, START), allowed, "{scope}");
    }
    assert!(!may(&profile, "write", START.plus(1_000)) && may(&profile, "read", START.plus(1_000)));
    assert!(!profile.granted[1].allows(&"read".parse().unwrap(), START));

    // No grant of a service counts whose own use is suspended, or whose key is revoked.
    world.say(0, suspension(0, service), 200);
    assert!(may(&shown(&world), "read", START), "by one operator of two");
    world.say(2, suspension(2, service), 202);
    assert!(!may(&shown(&world), "read", START));
    world.revoke(3, service, (1, 4));
    let revoked =
        found(read(&prove(&manifest, &world.replica, &service.to_string()).unwrap().to_string(), &manifest).unwrap());
    assert!(matches!(revoked.status, ProvenStatus::Revoked(_)));
    let operator = domain(DOMAINS[2]);
    let later = event(manifest.federation(), Action::Resume { operator, identity: service }, START.plus(1), 999);
    world.replica.append_event(&log(2), START.plus(1), signed(later, &node_key(2))).unwrap();
    let after = shown(&world);
    assert_eq!(after.granted[0].found.as_ref().unwrap().suspension, ProvenSuspension::None);
    assert!(!may(&after, "read", START), "its key is revoked");

    // Of a proof without the question nothing is taken for an answer to it.
    let proof = prove(&manifest, &world.replica, name).unwrap();
    let more = Required { question: question.parse().unwrap(), ..every_log(&proof) };
    assert_eq!(proof.verify(&manifest, &more).unwrap_err().code(), "profile_question");
    let mut lie = proof;
    lie.question = question.parse().unwrap();
    assert_eq!(lie.verify(&manifest, &more).unwrap_err().code(), "proof_claim");
}

fn suspension(i: usize, identity: IdentityId) -> Action {
    Action::Suspend { operator: domain(DOMAINS[i]), identity, reason: SuspendReason::Unspecified }
}

/// Whether a suspension holds is not known where those left out could make up the number.
#[test]
fn a_suspension_that_logs_left_out_could_make_is_not_known() {
    let manifest = Arc::new(federation(4, |p| p.min_sponsors = 2));
    let mut world = World::new(&manifest);
    let agent = world.replica.register(0, "agent", 2);
    let suspension_of = |world: &World<'_>, missing: Option<usize>| {
        let proof = prove_with(&manifest, &world.replica, &agent.to_string(), |i| (Some(i) != missing).then_some(0));
        let proof = proof.unwrap();
        found(proof.verify(&manifest, &one_less(&proof)).unwrap()).suspension
    };
    assert_eq!(suspension_of(&world, Some(3)), ProvenSuspension::None, "one operator is not enough");
    world.say(1, suspension(1, agent), 201);
    assert_eq!(suspension_of(&world, Some(3)), ProvenSuspension::NotKnown);
    assert_eq!(suspension_of(&world, Some(1)), ProvenSuspension::None);
    assert_eq!(suspension_of(&world, None), ProvenSuspension::None);
    world.say(2, suspension(2, agent), 202);
    assert_eq!(suspension_of(&world, Some(3)), ProvenSuspension::Holds);
}

#[test]
fn questions_have_one_text() {
    let (a, b) = ("1".repeat(64), "2".repeat(64));
    let parse = |text: &str| text.parse::<Question>().map(|question| assert_eq!(question.to_string(), text));
    for good in ["a-name@alpha.example", &a, &format!("{a} granted by {a}"), &format!("n4m@a.b granted by {a} {b}")] {
        parse(good).unwrap_or_else(|error| panic!("{good}: {error}"));
    }
    let many: Vec<String> = (0..=GRANTED_BY_MAX).map(|i| format!("{i:064x}")).collect();
    assert!(parse(&format!("{a} granted by {}", many[1..].join(" "))).is_ok());
    for bad in [
        format!("{a} granted by"),
        format!("{a} granted by "),
        format!("{a} granted by {b} {a}"),
        format!("{a} granted by {a} {a}"),
        format!("{a} granted by {a}  {b}"),
        format!("{a}  granted by {b}"),
        format!("{a} granted by {b} "),
        format!("{a} granted by name@alpha.example"),
        format!("{a} granted by {}", many.join(" ")),
    ] {
        assert!(parse(&bad).is_err(), "{bad}");
    }
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
            if let Ok(proven) = read.verify(&manifest, &every_log(&read)) {
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
    proof.verify(manifest, &every_log(&proof)).map(|proven| proven.answer).map_err(code)
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
    check("a log left out and named", "profile_left_out", &|proof| {
        proof.left_out.push(proof.logs.remove(3).log);
    });
    check("a log shown and named", "profile_log", &|proof| proof.left_out.push(proof.logs[3].log.clone()));
    check("a log named that there is not", "profile_log", &|proof| {
        proof.left_out.push(LogId { generation: 2, ..proof.logs[3].log.clone() });
    });
    check("names out of order", "profile_form", &|proof| proof.left_out = vec![log(1), log(0)]);
    check("a home without its attestations", "profile_left_out", &|proof| proof.without.push(domain(DOMAINS[1])));
    check("a home that there is not", "profile_form", &|proof| proof.without.push(domain("no.example")));
    check("statements as a whole", "proof_claim", &|proof| proof.whole.push("statements/alpha.example".to_owned()));
    check("claims as a whole", "profile_rows", &|proof| proof.whole.push("claims/alpha.example".to_owned()));
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
    let long = format!("{text}{}", " ".repeat(PROFILE_BYTES_MAX));
    assert_eq!(long.parse::<ProfileProof>().map_err(|error| error.code()), Err("profile_too_long"));
}

/// Version 2 of a federation of four: the last operator is gone, and its home and statements pass to the first.
pub(crate) fn succession(first: &Arc<Manifest>, replica: &MemoryReplica<'_>) -> Arc<Manifest> {
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
    let revoked = |proven: Proven| matches!(found(proven).status, ProvenStatus::Revoked(_));
    let logs = |proof: &ProfileProof| proof.logs.iter().map(|log| log.log.to_string()).collect::<Vec<_>>().join(" ");

    let proof = prove(&second, &replica, question).unwrap();
    assert_eq!(logs(&proof), "alpha.example/1 beta.example/1 delta.example/1 gamma.example/1");
    assert!(revoked(read(&proof.to_string(), &first).unwrap()), "for a reader who holds only the genesis");
    let proven = proof.verify(&second, &every_log(&proof)).unwrap();
    let cut = proven.logs.iter().find(|log| log.log.operator.as_str() == DOMAINS[3]).unwrap();
    assert_eq!((cut.size, cut.as_of, cut.time), (replica.head(&log(3)).size, None, None));
    assert_eq!(proven.manifest.version(), 2);
    assert!(revoked(proven));
    let hidden = |proof: &mut ProfileProof| {
        proof.logs.remove(2);
        proof.logs.iter_mut().for_each(|log| log.maps.retain(|map| map.name == "log"));
    };
    assert_eq!(told(&second, &proof, hidden), Err("profile_log".to_owned()), "nobody has the name, for lack of a home");
    let mut named = proof.clone();
    hidden(&mut named);
    named.left_out.push(log(3));
    let refused = named.verify(&second, &one_less(&named));
    assert_eq!(refused, Err(ProfileError::HomeLeftOut(domain(DOMAINS[3]))));
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

/// Symptom: one log that had not begun, or that had no certificate, kept everybody from proving anything. Cause: a
/// proof had to show every log. Now it names what it does not show, and says no more than it knows.
#[test]
fn a_log_that_is_left_out_is_named_and_hides_what_it_might_say() {
    let manifest = four();
    let (mut world, agent, _) = story(&manifest);
    let question = "swift-core-maps@alpha.example";
    let without = |world: &World<'_>, i: usize, question: &str| {
        prove_with(&manifest, &world.replica, question, |log| (log != i).then_some(0))
    };
    let proof = without(&world, 2, question).unwrap();
    assert_eq!(proof.left_out, [log(2)]);
    assert_eq!(proof.to_string().parse(), Ok(proof.clone()));
    let maps = ["claims", "home", "statements"].map(|map| format!("{map}/gamma.example")).to_vec();
    let left_out = vec![LeftOut { log: log(2), why: WhyLeftOut::Missing, maps }];
    let refused = proof.verify(&manifest, &every_log(&proof));
    assert_eq!(refused, Err(ProfileError::LeftOut { left_out: left_out.clone(), max: 0 }));
    let proven = proof.verify(&manifest, &one_less(&proof)).unwrap();
    assert_eq!((&proven.left_out, proven.logs.len()), (&left_out, 3));
    let profile = found(proven);
    assert_eq!(profile.status, ProvenStatus::NotKnownRevoked, "gamma may have a claim");
    assert_eq!(profile.karma, Karma { sum: 7, count: 3 });

    // A revocation that is shown is one, whatever is not.
    world.revoke(2, agent, (2, 8));
    let status = |proof: &ProfileProof| found(proof.verify(&manifest, &one_less(proof)).unwrap()).status;
    assert_eq!(status(&without(&world, 2, question).unwrap()), ProvenStatus::NotKnownRevoked);
    assert!(matches!(status(&without(&world, 1, question).unwrap()), ProvenStatus::Revoked(_)));
    assert_eq!(found(without(&world, 1, question).unwrap().verify(&manifest, &one_less(&proof)).unwrap()).karma.sum, 0);

    // Of an agent nothing is known without the log of its home. Nor that nobody has an id.
    let refused = without(&world, 0, question).unwrap_err();
    assert_eq!(refused, "nothing shows the state of alpha.example, which log alpha.example/1 has");
    assert!(without(&world, 0, &"0".repeat(64)).unwrap_err().contains("alpha.example"));
    let mut lie = prove(&manifest, &world.replica, question).unwrap();
    lie.left_out.push(lie.logs.remove(0).log);
    assert_eq!(lie.verify(&manifest, &one_less(&lie)), Err(ProfileError::HomeLeftOut(domain(DOMAINS[0]))));
    let nobody = without(&world, 1, "nobody@alpha.example").unwrap();
    assert_eq!(nobody.verify(&manifest, &one_less(&nobody)).unwrap().answer, ProfileAnswer::Absent);

    // Not even one that has not begun.
    let mut replica = MemoryReplica::new(&manifest);
    for i in 0..3 {
        replica.append(&log(i), vec![VerifiedEntry::adopt(START, 1, manifest.hash())]);
    }
    let proof = prove_with(&manifest, &replica, "nobody@alpha.example", |i| (i < 3).then_some(0)).unwrap();
    assert_eq!(proof.left_out, [log(3)]);
    assert!(proof.verify(&manifest, &one_less(&proof)).is_ok());
    let maps = LogMaps::default();
    let source = LogSource { log: log(3), certificate: None, maps: &maps };
    let made = ProfileProof::make(&manifest, "nobody@delta.example".parse().unwrap(), &replica.rows, &[source]);
    assert_eq!(made, Err(MakeError::HomeLeftOut { home: domain(DOMAINS[3]), log: log(3) }));
}

/// A log that is older than the reader accepts counts as left out: what it says is used as of then, but a key is not
/// known to be in force, and if it is the log of the agent's home there is no answer.
#[test]
fn an_old_log_counts_as_left_out() {
    let manifest = four();
    let (mut world, agent, _) = story(&manifest);
    let question = "swift-core-maps@alpha.example";
    let old = |world: &World<'_>, i: usize| {
        prove_with(&manifest, &world.replica, question, |log| Some(if log == i { 3_600 } else { 0 })).unwrap()
    };
    let proof = old(&world, 2);
    let at = |max_age_seconds, missing_max, now| {
        proof.verify(&manifest, &Required { max_age_seconds, missing_max, now, ..every_log(&proof) })
    };
    let age = NOW - cosigned_at(1);
    let fresh = at(age + 3_600, 0, NOW).unwrap();
    assert_eq!(fresh.as_of(), Some(cosigned_at(1) - 3_600), "the oldest counts");
    assert_eq!(found(fresh).status, ProvenStatus::Active);
    assert_eq!(at(age + 3_599, 0, NOW).unwrap_err().code(), "profile_left_out");
    let proven = at(age, 1, NOW).unwrap();
    assert_eq!(proven.left_out[0].why, WhyLeftOut::Old { as_of: cosigned_at(1) - 3_600 });
    assert_eq!((proven.logs.len(), proven.as_of()), (4, Some(cosigned_at(1))), "of those that are not left out");
    assert_eq!(found(proven).status, ProvenStatus::NotKnownRevoked);
    assert_eq!(at(age - 1, 3, NOW).unwrap_err().code(), "profile_left_out", "all four are too old then");
    assert_eq!(at(age - 1, 4, NOW).unwrap_err().code(), "profile_home_left_out");
    // A clock that is behind: what is up to a minute ahead of it passes.
    assert!(at(0, 1, cosigned_at(1) - 60).is_ok());
    assert_eq!(at(0, 1, cosigned_at(1) - 61).unwrap_err().code(), "profile_ahead");

    let home = old(&world, 0);
    assert_eq!(home.verify(&manifest, &one_less(&home)), Err(ProfileError::HomeLeftOut(domain(DOMAINS[0]))));
    world.revoke(2, agent, (2, 8));
    let revoked = old(&world, 2);
    let proven = revoked.verify(&manifest, &one_less(&revoked)).unwrap();
    assert!(matches!(found(proven).status, ProvenStatus::Revoked(_)), "that was so an hour ago, and still is");
    let other = Required { question: "part@beta.example".parse().unwrap(), ..every_log(&proof) };
    assert_eq!(proof.verify(&manifest, &other).unwrap_err().code(), "profile_question");
}

/// Writes tallies about the subject by `count` identities into the home of operator `i`, and as many statements about
/// each into the operator's own map as `sponsored` says: as if they had been logged.
pub(crate) fn crowd(world: &mut World<'_>, i: usize, subject: IdentityId, (count, sponsored): (u32, u32)) {
    let (home, statements) = (MapName::home(&domain(DOMAINS[i])).id(), MapName::statements(&domain(DOMAINS[i])).id());
    let mut changes = Changes::new();
    for n in 0..count {
        let provider = EventId(text_key(&format!("{i}/{n}")));
        let tally = Tally { sum: 1, count: 1, ..Tally::default() };
        changes.insert((home, row_key::<Tally>(&(subject, provider))), Some(codec::encode(&tally)));
        for service in 0..sponsored {
            let (service, domain): (Service, _) =
                (format!("crowd-{service}").parse().unwrap(), domain("crowd.example"));
            let key = row_key::<Statement>(&(provider, text_key(service.as_str()), text_key(domain.as_str())));
            let intervals = vec![Interval { start: 0, end: None }];
            let (created, statements_today) = (START, DayCounter::default());
            let row = Statement { service, domain, intervals, created, statements: statements_today };
            changes.insert((statements, key), Some(codec::encode(&row)));
        }
    }
    world.replica.rows.apply(&changes);
    let maps = LogMaps::load(world.replica.manifest, &log(i), &world.replica.rows).unwrap();
    world.replica.logs.get_mut(&log(i)).unwrap().maps = maps;
    // The next state entry has the root with these rows.
    world.admit(i, EventId(text_key(&format!("beyond {count} {sponsored}"))), 0);
}

/// Symptom: 4,097 identities that nobody sponsored, all of one liar's home, attested to an agent, and no proof of its
/// profile could be made any more. Cause: a proof asked every operator about each of them, and no map proof answers
/// more than 4,096 questions. Now a proof shows the statements of an operator as a whole where that is shorter, does
/// not ask operators whose word cannot matter any more, and leaves out the attestations of a home that has too many.
#[test]
#[allow(clippy::print_stdout, reason = "what a proof costs is shown")]
fn a_crowd_that_nobody_sponsors_hides_no_profile() {
    let manifest = four();
    let (mut world, agent, _) = story(&manifest);
    let question = "swift-core-maps@alpha.example";
    let measured = |what: &str, world: &World<'_>| {
        let begun = std::time::Instant::now();
        let proof = prove(&manifest, &world.replica, question).unwrap();
        let (made, text) = (begun.elapsed(), proof.to_string());
        assert!(text.len() <= PROFILE_BYTES_MAX);
        let begun = std::time::Instant::now();
        let read: ProfileProof = text.parse().unwrap();
        let proven = read.verify(&manifest, &one_less(&read)).unwrap();
        println!("{what}: {} bytes, made in {made:?}, read in {:?}", text.len(), begun.elapsed());
        assert_eq!(read, proof);
        let left_out = proven.left_out.clone();
        (proof, found(proven), left_out)
    };
    let karma = Karma { sum: 7, count: 3 };
    crowd(&mut world, 3, agent, (10_000, 0));
    let (proof, profile, left_out) = measured("10,000 that nobody sponsors", &world);
    assert_eq!((profile.karma, profile.providers.len(), left_out), (karma, 10_002, vec![]));
    assert_eq!((profile.status, proof.whole.len()), (ProvenStatus::Active, 4));

    // The liar sponsors them all, as often as it can: three others say nothing about them, so nobody asks the liar.
    crowd(&mut world, 3, agent, (10_000, 5));
    let (proof, profile, left_out) = measured("10,000 that one operator sponsors", &world);
    assert_eq!((profile.karma, profile.providers.len(), left_out), (karma, 10_002, vec![]));
    assert!(!proof.whole.contains(&"statements/delta.example".to_owned()), "{:?}", proof.whole);
    let of_liar = proof.logs.iter().find(|one| one.log == log(3)).unwrap();
    // Only about the provider of which others sponsor a part.
    let asked = of_liar.maps.iter().find(|map| map.name == "statements/delta.example").unwrap();
    assert!(asked.rows.is_empty());

    // Beyond any proof: then its home is without its attestations, and named.
    crowd(&mut world, 3, agent, (40_000, 0));
    let (proof, profile, left_out) = measured("40,000", &world);
    assert_eq!((profile.karma, profile.providers.len()), (karma, 2));
    assert_eq!((&proof.without, profile.status), (&vec![domain(DOMAINS[3])], ProvenStatus::Active));
    let maps = vec!["home/delta.example".to_owned()];
    assert_eq!(left_out, [LeftOut { log: log(3), why: WhyLeftOut::Tallies, maps }]);
    assert_eq!(proof.verify(&manifest, &every_log(&proof)).unwrap_err().code(), "profile_left_out");
}

/// Symptom: a file of 4 MiB unpacked to over 100. Cause: each row may share 255 bytes with the one before it.
#[test]
#[allow(clippy::print_stdout, reason = "what a refusal costs is shown")]
fn a_file_that_unpacks_to_too_much_is_refused_quickly() {
    let (manifest, proof) = small_story();
    let (mut lengths, mut bytes): (Vec<(u8, u8, u8, u32)>, Vec<u8>) = (Vec::new(), Vec::new());
    let count = 200_000u32;
    for n in 0..count {
        let key = [&[6][..], &[0xff; 61], &n.to_be_bytes()[1..]].concat();
        let before = n.checked_sub(1).map(|n| n.to_be_bytes());
        let shared =
            before.map_or(0, |before| 62 + before[1..].iter().zip(&key[62..]).take_while(|(a, b)| a == b).count());
        let value = if n == 0 { &[7; 255][..] } else { &[] };
        bytes.extend_from_slice(&key[shared..]);
        bytes.extend_from_slice(value);
        let first = if n == 0 { (0, 255) } else { (255, 0) };
        lengths.push((shared as u8, (key.len() - shared) as u8, first.0, first.1));
    }
    let rows = fama_ledger::base64::encode(&codec::encode(&(lengths, bytes)));
    let text = proof.to_string();
    let from = text.find("\"rows\": \"").unwrap() + 9;
    let to = from + text[from..].find('"').unwrap();
    let bomb = format!("{}{rows}{}", &text[..from], &text[to..]);
    assert!(bomb.len() <= PROFILE_BYTES_MAX, "{}", bomb.len());
    let begun = std::time::Instant::now();
    assert_eq!(bomb.parse::<ProfileProof>(), Err(ProfileError::Unpacked));
    let (took, unpacked) = (begun.elapsed(), count as usize * (65 + 255));
    println!("{} bytes that unpack to {unpacked} are refused after {took:?}", bomb.len());
    assert!(took < std::time::Duration::from_secs(2), "{took:?}");
    // Rows are not looked at before the certificates hold.
    let mut unsigned = proof;
    unsigned.logs[0].certificate.as_mut().unwrap().note.signatures.truncate(2);
    unsigned.logs[0].maps[1].rows.clear();
    assert_eq!(unsigned.verify(&manifest, &every_log(&unsigned)).unwrap_err().code(), "profile_quorum");
}

/// A version that changes a rule only.
pub(crate) fn next(previous: &Arc<Manifest>) -> Arc<Manifest> {
    let mut draft = previous.draft();
    draft.policy.daily_bytes += 1;
    let text = draft.text().unwrap();
    let line = |i: u8| sign(&text, DOMAINS[usize::from(i)], governance_key(i).ed25519().unwrap());
    Arc::new(previous.successor(&SignedNote { signatures: (0..3).map(line).collect(), text }.to_string()).unwrap())
}

/// A genesis, and a proof under version 3 from logs that have all adopted version 1 only.
pub(crate) fn left_behind() -> (Arc<Manifest>, ProfileProof) {
    let (first, question) = (four(), "swift-core-maps@alpha.example");
    let (world, ..) = story(&first);
    let proof = prove(&next(&next(&first)), &world.replica, question).unwrap();
    (first, proof)
}

/// Symptom: a head that only retired node keys cosigned was taken for the state of a log. Cause: the quorum of the
/// version that the log's own row names was enough, however old. Here all versions have the same operators, so that only
/// the age of the adopted version differs; each kind of reader must refuse the same head.
#[test]
fn a_reader_refuses_a_log_that_lags_behind_by_two_versions() {
    let first = four();
    let (world, ..) = story(&first);
    let second = next(&first);
    let third = next(&second);
    let fourth = next(&third);
    let all: Vec<usize> = (0..4).collect();
    let mut replica = world.replica;
    let shown = |replica: &MemoryReplica<'_>, manifest: &Arc<Manifest>| {
        let proof = prove(manifest, replica, "swift-core-maps@alpha.example").unwrap();
        let told = proof
            .verify(manifest, &every_log(&proof))
            .map(|proven| proven.logs[0].adopted)
            .map_err(|error| error.code());
        let mirror = &replica.logs[&log(0)];
        let path = prove_inclusion(2, mirror.tree.size(), &mirror.tiles).unwrap();
        let extra =
            [mirror.entries[2].bytes().to_vec(), adoption(mirror).as_ref().map(codec::encode).unwrap_or_default()]
                .concat();
        let checkpoint = certificate(manifest, 0, mirror, &all).note;
        let included = TlogProof { extra: Some(extra.clone()), index: 2, path, checkpoint }.included(&extra, manifest);
        let included = included.map(|included| included.certified.is_some()).map_err(|error| error.code());
        let offered = crate::snapshot::offer(manifest, replica, &all).verify(manifest);
        let offered = offered.map(|offered| offered.row.version).map_err(|error| error.code());
        (told, included, offered)
    };
    let outdated = (Err("profile_outdated"), Err("proof_outdated"), Err("snapshot_outdated"));
    assert_eq!(shown(&replica, &second), (Ok(1), Ok(true), Ok(1)), "one version behind");
    assert_eq!(shown(&replica, &third), outdated, "two versions behind");
    assert_eq!(shown(&replica, &fourth), outdated, "three versions behind");
    for (manifest, number) in [(&second, 2), (&third, 3)] {
        replica.manifest = manifest;
        (0..4).for_each(|i| drop(replica.append(&log(i), vec![VerifiedEntry::adopt(START, number, manifest.hash())])));
    }
    assert_eq!(shown(&replica, &third), (Ok(3), Ok(true), Ok(3)));
    assert_eq!(shown(&replica, &fourth), (Ok(3), Ok(true), Ok(3)));
    assert_eq!(fourth.must_have_adopted().count(), 4, "all must be at version 3 before anybody approves version 4");
    assert_eq!(second.must_have_adopted().count(), 0, "version 1 brought all of them");
}
