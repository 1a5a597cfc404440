//! What a verified proof shows, as JSON.
use alloc::string::ToString;
use alloc::vec::Vec;

use serde_json::{Value, json};

use super::{LeftOut, Profile, ProfileAnswer, Proven, ProvenGrants, ProvenLog, ProvenStatus, WhyLeftOut};
use crate::id::{Domain, Handle, did};
use crate::join::Karma;
use crate::rows::{Grant, Suspended};
use crate::time::Millis;

impl Proven {
    /// What the proof shows: the object that `fama verify --json`, `verifyProof` of `fama.js` and the module `fama` for
    /// Python give. `now` is the reader's clock in seconds since 1970, from which `age_seconds` counts.
    #[must_use]
    pub fn to_json(&self, now: u64) -> Value {
        let mut json = json!({
            "proven": true, "kind": "profile", "question": self.question.to_string(), "found": false,
            "age_seconds": self.as_of().map(|as_of| now.saturating_sub(as_of)),
            "as_of": self.as_of().map(time), "federation": self.manifest.federation().to_string(),
            "manifest_version": self.manifest.version(), "logs": self.logs.iter().map(log).collect::<Vec<_>>(),
            "left_out": self.left_out.iter().map(left_out).collect::<Vec<_>>(),
        });
        if let (ProfileAnswer::Found(profile), Some(json)) = (&self.answer, json.as_object_mut()) {
            json.insert("found".to_string(), json!(true));
            json.insert("agent".to_string(), agent(profile));
        }
        json
    }
}

fn time(seconds: u64) -> alloc::string::String {
    Millis(seconds.saturating_mul(1_000)).to_string()
}

fn karma(karma: Karma) -> Value {
    json!({"sum": karma.sum, "count": karma.count})
}

fn log(log: &ProvenLog) -> Value {
    let cosigned: Vec<Value> =
        log.cosigned.iter().map(|(by, at)| json!({"operator": by.as_str(), "time": time(*at)})).collect();
    json!({
        "log": log.log.to_string(), "size": log.size, "adopted": log.adopted, "cut": log.as_of.is_none(),
        "last_entry": log.time.map(|time| time.to_string()), "as_of": log.as_of.map(time), "cosigned": cosigned,
    })
}

fn left_out(left_out: &LeftOut) -> Value {
    let (why, as_of) = match left_out.why {
        WhyLeftOut::Missing => ("missing", None),
        WhyLeftOut::Old { as_of } => ("old", Some(time(as_of))),
        WhyLeftOut::Tallies => ("attestations", None),
    };
    json!({"log": left_out.log.to_string(), "why": why, "as_of": as_of, "maps": left_out.maps})
}

fn agent(profile: &Profile) -> Value {
    let Profile { found, version, current, status, keys, providers, .. } = profile;
    let revoked = match status {
        ProvenStatus::Revoked(revoked) => {
            let by = revoked.operator.as_ref().map_or("home", Domain::as_str);
            json!({"by": by, "time": revoked.time.to_string(), "reason": revoked.reason.as_str()})
        }
        ProvenStatus::Active | ProvenStatus::NotKnownRevoked => Value::Null,
    };
    let keys: Vec<Value> =
        keys.iter().map(|key| json!({"key": key.key.to_string(), "since": key.time.to_string()})).collect();
    let providers: Vec<Value> = providers
        .iter()
        .map(|(provider, sum)| json!({"provider": provider.to_string(), "karma": karma(*sum)}))
        .collect();
    let handle = Handle { name: found.identity.name.clone(), home: found.home.clone() };
    json!({
        "id": found.id.to_string(), "handle": handle.to_string(), "did": did(&found.home, &found.id),
        "key": current.key.to_string(), "key_version": version, "status": status.as_str(), "revoked": revoked,
        "suspension": profile.suspension.as_str(),
        "suspended_by": profile.suspended_by.iter().map(suspended).collect::<Vec<_>>(),
        "keys": keys, "karma": karma(profile.karma), "providers": providers,
        "granted": profile.granted.iter().map(granted).collect::<Vec<_>>(),
    })
}

fn suspended((operator, standing): &(Domain, Suspended)) -> Value {
    json!({"operator": operator.as_str(), "since": standing.since.to_string(), "reason": standing.reason.as_str()})
}

fn granted(granted: &ProvenGrants) -> Value {
    let grant =
        |grant: &Grant| json!({"scope": grant.scope.as_str(), "expires": grant.expires.map(|at| at.to_string())});
    let issuer = granted.found.as_ref();
    json!({
        "issuer": granted.issuer.to_string(), "home": issuer.map(|issuer| issuer.home.as_str()),
        "status": issuer.map(|issuer| issuer.status.as_str()),
        "suspension": issuer.map(|issuer| issuer.suspension.as_str()),
        "in_force": granted.is_in_force(), "grants": granted.grants.iter().map(grant).collect::<Vec<_>>(),
    })
}
