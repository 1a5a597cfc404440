//! Proofs show the logs as they were at their certified heads, however much they have grown since.
#![allow(clippy::cast_possible_truncation, reason = "tests")]
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use fama_ledger::id::TreeRoot;
use fama_ledger::profile::{ProfileAnswer, ProfileError, ProfileProof, Proven, ProvenStatus, Required};
use fama_ledger::proof::CertifiedBy;
use fama_ledger::replica::Certificate;
use fama_ledger::rows::{Changes, MemoryRows, Rows};

use super::*;
use crate::certified::STATES_MAX;

/// A head that both operators cosigned.
fn certificate(app: &App, log: &Log, head: Head) -> Certificate {
    let checkpoint = Checkpoint { origin: app.shared.manifest.origin(&log.id), head };
    let signed = SignedCheckpoint::sign(checkpoint.clone(), log.node_key.ed25519().unwrap());
    let cosign = |(name, seed)| {
        let key = operator_key(seed);
        let cosignature = Cosignature::sign(&checkpoint, domain(name), key.ed25519().unwrap(), NOW / 1_000);
        (LogId { operator: domain(name), generation: 1 }, cosignature)
    };
    let cosignatures = [("alpha.example", 10), ("beta.example", 20)].map(cosign).into();
    Certificate { signed, cosignatures }
}

/// Stores a certificate as the inbox does.
fn certify(app: &App, log: &Log, head: Head) {
    let certificate = certificate(app, log, head);
    app.shared.certified.certified(&log.id, &certificate);
    let (signed, cosignatures) = (SignedHead::of(&certificate.signed), certificate.cosignatures.into_iter().collect());
    app.shared.store.put_certificate(&log.id, &crate::store::StoredCertificate { signed, cosignatures }).unwrap();
}

/// Verifies a proof for a reader who accepts certificates of any age, and so many logs less.
fn verified(world: &World, text: &str, missing_max: usize) -> Result<Proven, ProfileError> {
    let proof = text.parse::<ProfileProof>().unwrap();
    let required =
        Required { question: proof.question.clone(), max_age_seconds: u64::MAX, missing_max, now: NOW / 1_000 };
    proof.verify(&world.app.shared.manifest, &required)
}

/// All current rows of a log's maps.
fn rows(app: &App, log: &Log) -> Changes {
    let (view, mut rows) = (app.shared.store.view(), Changes::new());
    for (_, id, _) in log.maps.iter() {
        view.scan(id, &[], &mut |key, value| {
            rows.insert((id, key.to_vec()), Some(value.to_vec()));
            ControlFlow::Continue(())
        })
        .unwrap();
    }
    rows
}

/// Without a certificate of the home's own log there is no proof; other logs without one are named.
#[tokio::test]
async fn a_proof_waits_for_its_home_and_names_other_logs() {
    let mut world = World::new(Some("alpha.example"));
    world.register("alpha.example", "swift-core-maps", &agent(1), None);
    certify(&world.app, &world.beta, world.beta.tree.head());
    for x in ["swift-core-maps", &"0".repeat(64)] {
        let answer = world.get(&format!("/api/agent/{x}/proof")).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, "2"));
        assert_eq!((problem(&answer), &answer.json()["log"]), ("proof_pending".to_owned(), &json!("alpha.example/1")));
    }
    let mut world = World::new(Some("alpha.example"));
    world.register("alpha.example", "swift-core-maps", &agent(1), None);
    certify(&world.app, &world.alpha, world.alpha.tree.head());
    let partial = world.get("/api/agent/swift-core-maps/proof").await.text;
    let ProfileAnswer::Found(profile) = verified(&world, &partial, 1).unwrap().answer else { panic!("{partial}") };
    assert_eq!(profile.status, ProvenStatus::NotKnownRevoked);
    assert_eq!(verified(&world, &partial, 0).unwrap_err().code(), "profile_left_out");
    certify(&world.app, &world.beta, world.beta.tree.head());
    for x in ["swift-core-maps", "swift-core-maps@alpha.example", "nobody", &"0".repeat(64)] {
        let answer = world.get(&format!("/api/agent/{x}/proof")).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"), "{x}");
        let proven = verified(&world, &answer.text, 0).unwrap();
        assert_eq!(matches!(proven.answer, ProfileAnswer::Found(_)), x.starts_with("swift"), "{x}");
    }
    for (x, code) in [("sw", "bad_name"), ("a@b", "bad_name"), ("did:agent:alpha.example:00", "bad_name")] {
        let answer = world.get(&format!("/api/agent/{x}/proof")).await;
        assert_eq!((answer.status, problem(&answer)), (400, code.to_owned()), "{x}");
    }
    let world = World::new(None);
    assert_eq!(problem(&world.get("/api/agent/swift-core-maps/proof").await), "ambiguous_name");
}

#[tokio::test]
async fn an_events_proof_carries_its_entry() {
    let mut world = World::new(None);
    let id = world.register("alpha.example", "swift-core-maps", &agent(1), None);
    let path = format!("/api/event/{id}/proof");
    assert_eq!(problem(&world.get(&path).await), "proof_pending");
    certify(&world.app, &world.alpha, world.alpha.tree.head());
    let later = world.register("alpha.example", "later", &agent(2), None);
    assert_eq!(problem(&world.get(&format!("/api/event/{later}/proof")).await), "proof_pending");
    let answer = world.get(&path).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "text/plain; charset=utf-8"));
    assert!(answer.text.len() <= 3_000, "{}", answer.text.len());
    let proof: TlogProof = answer.text.parse().unwrap();
    let included = proof.included(proof.extra.as_ref().unwrap(), &world.app.shared.manifest).unwrap();
    assert_eq!((included.entry.event().unwrap().id(), included.index), (id, 2));
    assert!(matches!(included.certified, Some(CertifiedBy::Cosigned { version: 1, by }) if by.len() == 2));
    assert_eq!(problem(&world.get(&format!("/api/event/{}/proof", "0".repeat(64))).await), "unknown_event");
    assert_eq!(problem(&world.get("/api/event/x/proof").await), "bad_id");
}

/// Two logs grow while some of their heads are certified late, others never. Proofs show their rows as they were at
/// the certified heads, byte for byte.
#[tokio::test]
async fn a_proof_shows_the_logs_as_they_were() {
    let mut world = World::new(None);
    let owner = agent(1);
    let subject = world.register("alpha.example", "swift-core-maps", &owner, None);
    let judges = [2, 3, 4, 5].map(|seed| {
        let id = world.register("alpha.example", &format!("judge-{seed}"), &agent(seed), None);
        world.admit(id);
        (agent(seed), id)
    });
    let mut heads: BTreeMap<LogId, Vec<(Head, Changes)>> = BTreeMap::new();
    let mut fronts: BTreeMap<LogId, Changes> = BTreeMap::new();
    let (mut seen, mut moved) = (std::collections::BTreeSet::new(), 0);
    for step in 0..300u64 {
        match step % 7 {
            0 => drop(world.register("beta.example", &format!("agent-{step}"), &agent(100 + (step / 7) as u8), None)),
            3 => drop(world.register("alpha.example", &format!("agent-{step}"), &agent(100 + (step / 7) as u8), None)),
            _ if step == 250 => drop(world.revoke("beta.example", &owner, subject)),
            _ => {
                let (key, judge) = &judges[step as usize % 4];
                world.attest((key, *judge), subject, 1, None);
            }
        }
        for log in [&world.alpha, &world.beta] {
            let heads = heads.entry(log.id.clone()).or_default();
            if heads.last().is_none_or(|(head, _)| *head != log.tree.head()) {
                heads.push((log.tree.head(), rows(&world.app, log)));
            }
            // Picks a head up to 60 heads back, or up to 12 in the slower log.
            let back = (step * step * 31 % if log.id == world.alpha.id { 61 } else { 13 }) as usize;
            let Some(at) = heads.len().checked_sub(back + 1).filter(|_| step % 3 == 0) else { continue };
            let before = world
                .app
                .shared
                .certified
                .state(&world.app.shared.store.view())
                .unwrap()
                .unwrap()
                .fronts
                .get(&log.id)
                .map(size);
            certify(&world.app, log, heads[at].0);
            let now = world
                .app
                .shared
                .certified
                .state(&world.app.shared.store.view())
                .unwrap()
                .unwrap()
                .fronts
                .get(&log.id)
                .map(size);
            assert!(now >= before, "a front moved back");
            if now == Some(heads[at].0.size) {
                fronts.insert(log.id.clone(), heads[at].1.clone());
                moved += usize::from(now != before);
            }
        }
        if fronts.len() < 2 {
            continue;
        }
        let mut then = MemoryRows::default();
        fronts.values().for_each(|rows| then.apply(rows));
        let join = Join::new(&world.app.shared.manifest, &then);
        check_rows(&world.app, &fronts);
        for question in [subject.to_string(), format!("agent-{}@beta.example", step / 7 * 7)] {
            let text = world.get(&format!("/api/agent/{question}/proof")).await.text;
            let proven = verified(&world, &text, 0).unwrap();
            let expect = match question.parse() {
                Ok(id) => join.identity(id).unwrap(),
                Err(_) => {
                    let name = question.split('@').next().unwrap().parse().unwrap();
                    let id = join.named(&name, &domain("beta.example")).unwrap();
                    id.and_then(|id| join.identity(id).unwrap())
                }
            };
            let ProfileAnswer::Found(profile) = proven.answer else {
                assert_eq!(expect, None);
                continue;
            };
            assert_eq!(Some(&profile.found), expect.as_ref());
            let key = join.key_status(&profile.found).unwrap();
            let status = key.revoked.map_or(ProvenStatus::Active, ProvenStatus::Revoked);
            assert_eq!((&profile.status, profile.current), (&status, key.current));
            assert_eq!(profile.karma, join.karma(profile.found.id).unwrap());
            seen.insert((profile.karma.sum, profile.status.as_str()));
        }
    }
    assert!(moved > 30 && seen.len() > 10 && seen.iter().any(|(_, status)| *status == "revoked"), "{moved} {seen:?}");
}

/// Checks that each row read at the fronts is as it was there.
fn check_rows(app: &App, fronts: &BTreeMap<LogId, Changes>) {
    let view = app.shared.store.view();
    let state = app.shared.certified.state(&view).unwrap().unwrap();
    for ((map, key), value) in fronts.values().flatten() {
        assert_eq!(state.get(*map, key).unwrap(), *value);
    }
}

fn size(front: &crate::certified::Front) -> u64 {
    front.certificate.head().size
}

/// What is kept for later certificates is bounded, however long none arrives. Certifying a head whose state is no
/// longer kept changes nothing.
#[tokio::test]
async fn what_is_kept_is_bounded() {
    let mut world = World::new(None);
    let mut heads = Vec::new();
    for i in 0..4 * STATES_MAX as u64 {
        world.register("alpha.example", &format!("agent-{i}"), &agent(10 + i as u8), None);
        heads.push(world.alpha.tree.head());
    }
    assert!(world.app.shared.certified.kept(&world.alpha.id) <= STATES_MAX);
    let front = |world: &World| {
        let view = world.app.shared.store.view();
        world.app.shared.certified.state(&view).unwrap().unwrap().fronts.get(&world.alpha.id).map(size)
    };
    let kept = |world: &World, head: Head| {
        certify(&world.app, &world.alpha, head);
        front(world) == Some(head.size)
    };
    let found = heads.iter().filter(|head| kept(&world, **head)).count();
    assert!((3..STATES_MAX).contains(&found), "{found} of {}", heads.len());
    assert_eq!(front(&world), Some(heads.last().unwrap().size), "the newest is always kept");
    certify(&world.app, &world.alpha, Head { size: heads.last().unwrap().size + 1, root: TreeRoot([0; 32]) });
    assert_eq!(front(&world), Some(heads.last().unwrap().size));
}
