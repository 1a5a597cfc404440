//! Profile proofs in the vectors: what they show to a reader who holds the manifest next to them.
use std::sync::Arc;

use fama_ledger::id::Domain;
use fama_ledger::manifest::Manifest;
use fama_ledger::profile::{ProfileAnswer, ProfileError, ProfileProof, Proven, ProvenGrants, Required, WhyLeftOut};
use fama_ledger::rows::{Grant, Suspended};
use fama_tests::federation;
use serde_json::{Value, json};

use super::Vector;
use crate::profile::{
    NOW, adopted_since, crowd, every_log, four, left_behind, passed_on, prove, prove_with, restricted, small_story,
    story,
};

pub(super) fn made() -> Value {
    let manifest = four();
    let (mut world, agent, _) = story(&manifest);
    let question = "swift-core-maps@alpha.example";
    let before = prove(&manifest, &world.replica, question).unwrap();
    let nobody = prove(&manifest, &world.replica, "nobody@alpha.example").unwrap();
    world.revoke(2, agent, (2, 8));
    let revoked = prove(&manifest, &world.replica, &agent.to_string()).unwrap();
    // Of gamma nothing is shown, beta is an hour old.
    let missing = prove_with(&manifest, &world.replica, question, |i| (i != 2).then_some(0)).unwrap();
    let old = prove_with(&manifest, &world.replica, question, |i| Some(if i == 1 { 3_600 } else { 0 })).unwrap();
    crowd(&mut world, 3, agent, (20, 1));
    let whole = prove(&manifest, &world.replica, question).unwrap();
    assert_eq!(whole.whole.len(), 4);
    // Of alpha no attestations are shown.
    world.replica.register(3, "elsewhere", 60);
    let mut without = prove(&manifest, &world.replica, "elsewhere@delta.example").unwrap();
    without.without.push("alpha.example".parse().unwrap());
    without.logs[0].maps.retain(|map| map.name != "home/alpha.example");
    let (first, passed) = passed_on();
    let (small, little) = small_story();
    let (genesis, adopted) = adopted_since();
    let one_less = |proof: &ProfileProof| Required { max_age_seconds: 3_600, missing_max: 1, ..every_log(proof) };
    let limited = Arc::new(federation(4, |p| p.min_sponsors = 2));
    let (world, agent, service) = restricted(&limited);
    let question_of_two = format!("{agent} granted by {service} {}", "f".repeat(64));
    let granted = prove(&limited, &world.replica, &question_of_two).unwrap();
    let question_of_one = format!("{agent} granted by {service}");
    let unsure = prove_with(&limited, &world.replica, &question_of_one, |i| (i != 3).then_some(0)).unwrap();
    let mut vectors = vec![
        vector(&limited, &granted, &every_log(&granted)),
        vector(&limited, &unsure, &one_less(&unsure)),
        vector(&manifest, &before, &every_log(&before)),
        vector(&manifest, &nobody, &every_log(&nobody)),
        vector(&manifest, &revoked, &every_log(&revoked)),
        vector(&first, &passed, &every_log(&passed)),
        vector(&small, &little, &every_log(&little)),
        vector(&genesis, &adopted, &every_log(&adopted)),
        vector(&manifest, &missing, &one_less(&missing)),
        vector(&manifest, &old, &one_less(&old)),
        vector(&manifest, &whole, &every_log(&whole)),
        vector(&manifest, &without, &one_less(&without)),
    ];
    let mut refused = |(manifest, proof): (&Arc<Manifest>, &ProfileProof), why: &str, required: &Required| {
        let code = proof.verify(manifest, required).unwrap_err().code();
        vectors.push(json!({
            "type": "invalid profile", "why": why, "manifest": manifest.chain(), "proof": proof.to_string(),
            "required": said(required), "code": code,
        }));
    };
    refused((&manifest, &missing), "a log more is left out than the reader accepts", &every_log(&missing));
    let too_old = Required { max_age_seconds: 3_600, ..every_log(&old) };
    refused((&manifest, &old), "a log is older than the reader accepts", &too_old);
    refused(
        (&manifest, &before),
        "the log of the agent's home is too old",
        &Required { max_age_seconds: 1, missing_max: 4, ..every_log(&before) },
    );
    refused(
        (&manifest, &before),
        "cosigned after the reader's time",
        &Required { now: NOW - 1_000, ..every_log(&before) },
    );
    let other = Required { question: nobody.question.clone(), ..every_log(&before) };
    refused((&manifest, &before), "another question was asked", &other);
    let mut lie_of =
        |manifest_and_proof: (&Arc<Manifest>, &ProfileProof), why: &str, lie: &dyn Fn(&mut ProfileProof)| {
            let (manifest, mut proof) = (manifest_and_proof.0, manifest_and_proof.1.clone());
            lie(&mut proof);
            refused((manifest, &proof), why, &every_log(&proof));
        };
    lie_of((&manifest, &whole), "statements that are shown as a whole are read one by one", &|proof| {
        proof.whole.remove(0);
    });
    let adopting = (&genesis, &adopted);
    lie_of(adopting, "where the log adopted its version is left out", &|proof| {
        proof.logs[0].certificate.as_mut().unwrap().adopted = None;
    });
    lie_of(adopting, "the adopting batch is the last, and too few of the version before cosigned", &|proof| {
        proof.logs[0].certificate.as_mut().unwrap().note.signatures.truncate(3);
    });
    let (held, lagging) = left_behind();
    lie_of((&held, &lagging), "the logs have adopted no version since the one before the last", &|_| ());
    let mut lie = |why: &str, lie: &dyn Fn(&mut ProfileProof)| lie_of((&small, &little), why, lie);
    lie("grants are asked for that are not shown", &|proof| {
        proof.question = format!("{} granted by {service}", proof.question).parse().unwrap();
    });
    lie("a log is left out", &|proof| drop(proof.logs.pop()));
    lie("a row is left out", &|proof| drop(proof.logs[0].maps[1].rows.remove(0)));
    lie("a value is another", &|proof| proof.logs[0].maps[1].rows[0].1[8] ^= 1);
    lie("a cosignature is left out", &|proof| {
        proof.logs[0].certificate.as_mut().unwrap().note.signatures.truncate(2);
    });
    lie("the evidence is that of another question", &|proof| proof.question = nobody.question.clone());
    vectors.into()
}

fn vector(manifest: &Arc<Manifest>, proof: &ProfileProof, required: &Required) -> Value {
    let shows = shown(&proof.verify(manifest, required).unwrap());
    json!({
        "type": "profile", "manifest": manifest.chain(), "proof": proof.to_string(), "required": said(required),
        "shows": shows,
    })
}

/// What a reader requires, for programs.
pub(crate) fn said(required: &Required) -> Value {
    let Required { question, max_age_seconds, missing_max, now } = required;
    json!({
        "question": question.to_string(), "max_age_seconds": max_age_seconds, "missing_max": missing_max, "now": now,
    })
}

pub(crate) fn shown(proven: &Proven) -> Value {
    let logs: Vec<_> = proven.logs.iter().map(|log| json!([log.log.to_string(), log.size, log.adopted])).collect();
    let left_out = proven.left_out.iter().map(|one| {
        let why = match one.why {
            WhyLeftOut::Missing => "missing",
            WhyLeftOut::Old { .. } => "old",
            WhyLeftOut::Tallies => "attestations",
        };
        json!([one.log.to_string(), why, one.maps])
    });
    let mut shows = json!({
        "question": proven.question.to_string(), "manifest_version": proven.manifest.version(), "logs": logs,
        "as_of": proven.as_of(), "left_out": left_out.collect::<Vec<_>>(),
    });
    if let ProfileAnswer::Found(profile) = &proven.answer {
        shows["id"] = json!(profile.found.id.to_string());
        shows["home"] = json!(profile.found.home.as_str());
        shows["keys"] = profile.keys.iter().map(|key| key.key.to_string()).collect();
        shows["status"] = json!(profile.status.as_str());
        shows["karma"] = json!([profile.karma.sum, profile.karma.count]);
        let one = |(provider, karma): &(fama_ledger::id::IdentityId, fama_ledger::join::Karma)| {
            json!([provider.to_string(), karma.sum, karma.count])
        };
        shows["suspension"] = profile.suspension.as_str().into();
        let by = |(operator, of): &(Domain, Suspended)| json!([operator.as_str(), of.reason.as_str()]);
        shows["suspended_by"] = profile.suspended_by.iter().map(by).collect();
        let grant = |grant: &Grant| json!([grant.scope.as_str(), grant.expires.map(|expires| expires.0)]);
        let granted = |one: &ProvenGrants| {
            let grants: Vec<Value> = one.grants.iter().map(grant).collect();
            let (status, suspension) =
                one.found.as_ref().map(|of| (of.status.as_str(), of.suspension.as_str())).unzip();
            json!([one.issuer.to_string(), status, suspension, grants])
        };
        shows["granted"] = profile.granted.iter().map(granted).collect();
        shows["providers"] = profile.providers.iter().map(one).collect();
    }
    shows
}

fn read(v: &mut Vector) -> Result<Proven, ProfileError> {
    let manifest = Manifest::parse_chain(&v.text("manifest")).unwrap();
    let required = v.take("required");
    let required = Required {
        question: required["question"].as_str().unwrap().parse().unwrap(),
        max_age_seconds: required["max_age_seconds"].as_u64().unwrap(),
        missing_max: required["missing_max"].as_u64().unwrap() as usize,
        now: required["now"].as_u64().unwrap(),
    };
    let text = v.text("proof");
    let proof: ProfileProof = text.parse()?;
    assert_eq!(proof.to_string(), text);
    proof.verify(&manifest, &required)
}

pub(super) fn check(v: &mut Vector) {
    let proven = read(v).unwrap();
    assert_eq!(shown(&proven), v.take("shows"));
}

pub(super) fn check_invalid(v: &mut Vector) {
    v.text("why");
    assert_eq!(read(v).unwrap_err().code(), v.text("code"));
}
