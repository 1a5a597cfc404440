//! Profile proofs in the vectors: what they show to a reader who holds the manifest next to them.
use std::sync::Arc;

use fama_ledger::manifest::Manifest;
use fama_ledger::profile::{ProfileAnswer, ProfileProof, Proven};
use serde_json::{Value, json};

use super::Vector;
use crate::profile::{adopted_since, four, passed_on, prove, small_story, story};

pub(super) fn made() -> Value {
    let manifest = four();
    let (mut world, agent, _) = story(&manifest);
    let question = "swift-core-maps@alpha.example";
    let before = prove(&manifest, &world.replica, question).unwrap();
    let nobody = prove(&manifest, &world.replica, "nobody@alpha.example").unwrap();
    world.revoke(2, agent, (2, 8));
    let revoked = prove(&manifest, &world.replica, &agent.to_string()).unwrap();
    let (first, passed) = passed_on();
    let (small, little) = small_story();
    let (genesis, adopted) = adopted_since();
    let mut vectors = vec![
        vector(&manifest, &before),
        vector(&manifest, &nobody),
        vector(&manifest, &revoked),
        vector(&first, &passed),
        vector(&small, &little),
        vector(&genesis, &adopted),
    ];
    let mut lie_of =
        |(manifest, proof): (&Arc<Manifest>, &ProfileProof), why: &str, lie: &dyn Fn(&mut ProfileProof)| {
            let mut proof = proof.clone();
            lie(&mut proof);
            let code = proof.verify(manifest).unwrap_err().code();
            let proof = proof.to_string();
            vectors.push(
            json!({"type": "invalid profile", "why": why, "manifest": manifest.chain(), "proof": proof, "code": code}),
        );
        };
    let adopting = (&genesis, &adopted);
    lie_of(adopting, "where the log adopted its version is left out", &|proof| {
        proof.logs[0].certificate.as_mut().unwrap().adopted = None;
    });
    lie_of(adopting, "the adopting batch is the last, and too few of the version before cosigned", &|proof| {
        proof.logs[0].certificate.as_mut().unwrap().note.signatures.truncate(3);
    });
    let mut lie = |why: &str, lie: &dyn Fn(&mut ProfileProof)| lie_of((&small, &little), why, lie);
    lie("a log is left out", &|proof| drop(proof.logs.pop()));
    lie("a row is left out", &|proof| drop(proof.logs[0].maps[1].rows.remove(0)));
    lie("a value is another", &|proof| proof.logs[0].maps[1].rows[0].1[8] ^= 1);
    lie("a cosignature is left out", &|proof| {
        proof.logs[0].certificate.as_mut().unwrap().note.signatures.truncate(2);
    });
    lie("the evidence is that of another question", &|proof| proof.question = nobody.question.clone());
    vectors.into()
}

fn vector(manifest: &Arc<Manifest>, proof: &ProfileProof) -> Value {
    let shows = shown(&proof.verify(manifest).unwrap());
    json!({"type": "profile", "manifest": manifest.chain(), "proof": proof.to_string(), "shows": shows})
}

pub(crate) fn shown(proven: &Proven) -> Value {
    let logs: Vec<_> = proven.logs.iter().map(|log| json!([log.log.to_string(), log.size, log.adopted])).collect();
    let mut shows = json!({
        "question": proven.question.to_string(), "manifest_version": proven.manifest.version(), "logs": logs,
        "as_of": proven.as_of(),
    });
    if let ProfileAnswer::Found(profile) = &proven.answer {
        shows["id"] = json!(profile.found.id.to_string());
        shows["home"] = json!(profile.found.home.as_str());
        shows["keys"] = profile.keys.iter().map(|key| key.key.to_string()).collect();
        shows["revoked"] = json!(profile.status.is_revoked());
        shows["karma"] = json!([profile.karma.sum, profile.karma.count]);
        let one = |(provider, karma): &(fama_ledger::id::IdentityId, fama_ledger::join::Karma)| {
            json!([provider.to_string(), karma.sum, karma.count])
        };
        shows["providers"] = profile.providers.iter().map(one).collect();
    }
    shows
}

fn read(v: &mut Vector) -> Result<Proven, fama_ledger::profile::ProfileError> {
    let manifest = Manifest::parse_chain(&v.text("manifest")).unwrap();
    let text = v.text("proof");
    let proof: ProfileProof = text.parse()?;
    assert_eq!(proof.to_string(), text);
    proof.verify(&manifest)
}

pub(super) fn check(v: &mut Vector) {
    let proven = read(v).unwrap();
    assert_eq!(shown(&proven), v.take("shows"));
}

pub(super) fn check_invalid(v: &mut Vector) {
    v.text("why");
    assert_eq!(read(v).unwrap_err().code(), v.text("code"));
}
