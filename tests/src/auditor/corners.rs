//! Edges of the fold's rules: events on both sides of each bound, logged whether void or not, and folded again by the
//! auditor.
use fama_ledger::event::{Action, DismissReason, Event, Method, RevokeReason, SuspendReason};
use fama_ledger::id::{EventId, IdentityId, NoteHash};
use fama_ledger::secret::SecretKey;
use fama_ledger::time::Millis;
use fama_tests::{
    DAY, DOMAINS, MemoryReplica, SECOND, START, countersigned, domain, event, federation, log, node_key, secret, signed,
};
use serde_json::json;

use super::{audit, folder, identities, one_process};

/// Submits events one after the other and checks the outcome of each.
struct ExpectedHistory<'a> {
    replica: MemoryReplica<'a>,
    time: Millis,
    nonce: u64,
}

/// The outcome of an event that took effect; a void event's outcome is its code.
const APPLIED: &str = "applied";

impl ExpectedHistory<'_> {
    fn event(&mut self, action: Action, created: Millis) -> Event {
        self.nonce += 1;
        event(self.replica.manifest.federation(), action, created, self.nonce)
    }

    fn expect(&mut self, i: usize, said: fama_ledger::entry::SignedEvent, outcome: &str) {
        let kind = format!("{:?}", said.event.action);
        let found = self.replica.append_event(&log(i), self.time, said);
        assert_eq!(found.map_or_else(|void| void.code(), |_| APPLIED), outcome, "{kind}");
    }

    /// Moves the clock on by a second and submits an event created at that time.
    fn say(&mut self, i: usize, action: Action, key: &SecretKey, outcome: &str) -> EventId {
        self.time = self.time.plus(SECOND);
        let said = self.event(action, self.time);
        let id = said.id();
        self.expect(i, signed(said, key), outcome);
        id
    }

    fn attest(&mut self, issuer: (IdentityId, u8), subject: IdentityId, delta: i32, outcome: &str) -> EventId {
        let note = (delta == 4).then_some(NoteHash([4; 32]));
        let home = domain(DOMAINS[0]);
        let action = Action::Attest { home, issuer: issuer.0, subject, delta, context: None, note };
        self.say(0, action, &secret(issuer.1), outcome)
    }

    fn retract(&mut self, issuer: (IdentityId, u8), subject: IdentityId, attestation: EventId, outcome: &str) {
        let (home, day) = (domain(DOMAINS[0]), self.time.day());
        let action = Action::Retract { home, issuer: issuer.0, subject, day, attestation };
        self.say(0, action, &secret(issuer.1), outcome);
    }

    fn admit(&mut self, provider: IdentityId, service: &str, from: u64, outcome: &str) {
        let (operator, service, domain) = (domain(DOMAINS[0]), service.parse().unwrap(), domain("s.example"));
        let action = Action::Admit { operator, provider, service, domain, method: Method::Dns, from };
        self.say(0, action, &node_key(0), outcome);
    }

    fn dismiss(&mut self, provider: IdentityId, service: &str, from: u64, outcome: &str) {
        let (operator, service, domain) = (domain(DOMAINS[0]), service.parse().unwrap(), domain("s.example"));
        let reason = DismissReason::Expired;
        let action = Action::Dismiss { operator, provider, service, domain, from, reason };
        self.say(0, action, &node_key(0), outcome);
    }

    fn rotate(&mut self, identity: IdentityId, version: u32, (old, new): (u8, u8), outcome: &str) {
        self.time = self.time.plus(SECOND);
        let (home, key) = (domain(DOMAINS[0]), secret(new).public());
        let said = self.event(Action::Rotate { home, identity, version, key, next: None }, self.time);
        self.expect(0, countersigned(said, &secret(old), &secret(new)), outcome);
    }

    fn revoke(&mut self, i: usize, identity: IdentityId, version: u32, seed: u8, outcome: &str) {
        let (home, key) = (domain(DOMAINS[0]), secret(seed).public());
        let action = Action::Revoke { home, identity, version, key, reason: RevokeReason::Retired };
        self.say(i, action, &secret(seed), outcome);
    }

    fn next_day(&mut self) {
        self.time = Millis((self.time.0 / DAY + 1) * DAY);
    }
}

fn audited_history(tell: impl FnOnce(&mut ExpectedHistory<'_>, IdentityId, IdentityId)) {
    let manifest = federation(2, |policy| (policy.min_sponsors, policy.daily_new_providers) = (1, 1));
    let mut replica = MemoryReplica::adopted(&manifest);
    let (issuer, subject) = (replica.register(0, "issuer", 2), replica.register(0, "subject", 4));
    let mut history = ExpectedHistory { replica, time: START, nonce: 100 };
    tell(&mut history, issuer, subject);
    let dir = tempfile::tempdir().unwrap();
    folder::publish(&history.replica, dir.path());
    let said = audit(&[dir.path()], &one_process());
    assert_eq!(said["findings"], json!([]));
    assert_eq!(said["state_id"], history.replica.state_id().to_string());
    assert_eq!(said["identities"], identities(&history.replica));
}

#[test]
fn caps_and_retractions_end_where_the_auditor_ends_them() {
    audited_history(|history, issuer, subject| {
        let by = (issuer, 2);
        history.admit(issuer, "s", 0, APPLIED);
        let first = history.attest(by, subject, 5, APPLIED);
        for delta in [-5, 5, 4, 5] {
            history.attest(by, subject, delta, APPLIED);
        }
        history.attest(by, subject, -5, APPLIED);
        history.retract(by, subject, first, APPLIED);
        history.attest(by, subject, 1, "cap");
        history.retract(by, subject, first, "already_retracted");
        history.retract(by, subject, EventId([9; 32]), "not_found");
        history.retract(by, issuer, first, "not_found");
        history.attest(by, issuer, 1, "self");
        history.attest(by, subject, 6, "delta");
        history.attest(by, subject, 0, "delta");
        history.dismiss(issuer, "s", 6, APPLIED);
        history.next_day();
        history.attest(by, subject, 3, APPLIED);
    });
}

#[test]
fn new_providers_end_where_the_auditor_ends_them() {
    audited_history(|history, issuer, subject| {
        let home = domain(DOMAINS[0]);
        let key = secret(60);
        let action =
            Action::Register { home, name: "second".parse().unwrap(), key: key.public(), next: None, note: None };
        let second = history.say(0, action, &key, APPLIED);
        history.attest((issuer, 2), subject, 1, APPLIED);
        history.attest((second, 60), subject, 1, "quota");
        history.attest((issuer, 2), subject, 1, APPLIED);
        history.attest((second, 60), issuer, 1, APPLIED);
        history.next_day();
        history.attest((second, 60), subject, 1, APPLIED);
    });
}

#[test]
fn times_end_where_the_auditor_ends_them() {
    audited_history(|history, issuer, subject| {
        history.time = history.time.plus(4 * DAY);
        let ahead = fama_ledger::limits::FUTURE_MILLIS_MAX;
        let behind = history.replica.manifest.policy().max_age_ms;
        let at = history.time.0;
        let cases =
            [(at + ahead, APPLIED), (at + ahead + 1, "future"), (at - behind, APPLIED), (at - behind - 1, "stale")];
        for (created, outcome) in cases {
            let (home, context) = (domain(DOMAINS[0]), "code".parse().ok());
            let action = Action::Attest { home, issuer, subject, delta: 1, context, note: None };
            let said = history.event(action, Millis(created));
            history.expect(0, signed(said, &secret(2)), outcome);
        }
    });
}

#[test]
fn statements_end_where_the_auditor_ends_them() {
    audited_history(|history, issuer, subject| {
        history.admit(issuer, "s", 0, APPLIED);
        history.dismiss(issuer, "s", 5, APPLIED);
        history.admit(issuer, "s", 5, APPLIED);
        history.dismiss(issuer, "s", 3, APPLIED);
        history.admit(issuer, "s", 7, APPLIED);
        history.dismiss(issuer, "s", 1, APPLIED);
        for _ in 6..15 {
            history.admit(issuer, "s", 4, APPLIED);
        }
        history.admit(issuer, "s", 2, "quota");
        history.dismiss(issuer, "s", 6, APPLIED);
        history.dismiss(issuer, "s", 0, "quota");
        history.time = Millis(history.time.0 - SECOND);
        history.admit(issuer, "twice", 0, APPLIED);
        history.time = Millis(history.time.0 - SECOND);
        history.dismiss(issuer, "twice", 1, "superseded");
        for i in 2..64 {
            history.admit(issuer, &format!("s{i}"), i, APPLIED);
        }
        history.dismiss(issuer, "beyond", 0, "quota");
        history.dismiss(subject, "beyond", 0, APPLIED);
        history.say(
            1,
            Action::Admit {
                operator: domain(DOMAINS[0]),
                provider: issuer,
                service: "s".parse().unwrap(),
                domain: domain("s.example"),
                method: Method::Https,
                from: 0,
            },
            &node_key(0),
            "not_home",
        );
    });
}

#[test]
fn grants_and_suspensions_end_where_the_auditor_ends_them() {
    audited_history(|history, issuer, subject| {
        let home = domain(DOMAINS[0]);
        let grant = |subject, word: &str, expires| Action::Grant {
            home: domain(DOMAINS[0]),
            issuer,
            subject,
            scope: word.parse().unwrap(),
            expires,
            note: (word == "noted").then_some(NoteHash([4; 32])),
        };
        let ungrant =
            |word: &str| Action::Ungrant { home: home.clone(), issuer, subject, scope: word.parse().unwrap() };
        let key = secret(2);
        for i in 0..16 {
            history.say(0, grant(subject, &format!("scope:{i}"), Some(Millis(1_800_000_000_000))), &key, APPLIED);
        }
        history.say(0, grant(subject, "noted", None), &key, "quota");
        history.say(0, grant(issuer, "noted", None), &key, APPLIED);
        history.say(0, ungrant("scope:3"), &key, APPLIED);
        history.say(0, grant(subject, "noted", None), &key, APPLIED);
        history.say(0, grant(subject, "noted", Some(Millis(1_800_000_000_001))), &secret(4), "not_authorized");
        history.time = Millis(history.time.0 - SECOND);
        history.say(0, ungrant("noted"), &key, APPLIED);
        history.time = Millis(history.time.0 - SECOND);
        history.say(0, ungrant("noted"), &key, "superseded");
        for i in 17..256 {
            history.say(0, ungrant(&format!("scope:{i}")), &key, APPLIED);
        }
        history.say(0, ungrant("scope:256"), &key, "quota");
        let suspend = |i: usize, reason| Action::Suspend { operator: domain(DOMAINS[i]), identity: subject, reason };
        let resume = |i: usize| Action::Resume { operator: domain(DOMAINS[i]), identity: subject };
        for reason in SuspendReason::ALL {
            history.say(0, suspend(0, *reason), &node_key(0), APPLIED);
        }
        history.say(1, suspend(1, SuspendReason::Misconduct), &node_key(1), APPLIED);
        history.say(1, suspend(0, SuspendReason::Misconduct), &node_key(0), "not_home");
        history.say(0, resume(0), &key, "not_authorized");
        for _ in 3..16 {
            history.say(0, resume(0), &node_key(0), APPLIED);
        }
        history.say(0, suspend(0, SuspendReason::Misconduct), &node_key(0), "quota");
        history.next_day();
        history.say(0, suspend(0, SuspendReason::Misconduct), &node_key(0), APPLIED);
        history.say(0, grant(subject, "scope:5", None), &key, APPLIED);
    });
}

#[test]
fn intervals_end_where_the_auditor_ends_them() {
    audited_history(|history, issuer, _| {
        for number in 0..256 {
            if number % 7 == 0 {
                history.next_day();
            }
            history.admit(issuer, "s", 3 * number, APPLIED);
            history.dismiss(issuer, "s", 3 * number + 1, APPLIED);
        }
        history.next_day();
        history.admit(issuer, "s", 3 * 256, "quota");
        history.admit(issuer, "s", 3 * 255 + 1, APPLIED);
        history.dismiss(issuer, "s", 10, APPLIED);
    });
}

#[test]
fn keys_end_where_the_auditor_ends_them() {
    audited_history(|history, _, subject| {
        for i in 0..10 {
            history.rotate(subject, 2 + u32::from(i), (if i == 0 { 4 } else { 20 + i - 1 }, 20 + i), APPLIED);
        }
        history.rotate(subject, 12, (29, 30), "quota");
        history.rotate(subject, 11, (28, 31), "wrong_version");
        history.next_day();
        history.rotate(subject, 12, (29, 4), "key_in_use");
        history.rotate(subject, 12, (29, 30), APPLIED);
        history.revoke(1, subject, 11, 29, APPLIED);
        history.revoke(1, subject, 12, 30, APPLIED);
        history.revoke(1, subject, 12, 30, "duplicate");
        history.revoke(0, subject, 11, 29, "wrong_version");
        history.revoke(0, subject, 12, 29, "not_authorized");
        history.revoke(0, subject, 12, 30, APPLIED);
        history.revoke(0, subject, 12, 30, "revoked");
        history.rotate(subject, 13, (30, 40), "revoked");
        history.attest((subject, 30), EventId([1; 32]), 1, "revoked");
    });
}

/// A claim counts if it names the current key and is signed by that key or by the one that it committed to.
#[test]
fn claims_count_where_the_auditor_counts_them() {
    audited_history(|history, issuer, _| {
        let mut ids = Vec::new();
        for (name, seed) in [("by-next", 50), ("by-third", 53), ("moot", 56)] {
            let next = Some(secret(seed + 1).public().hash());
            let (home, name) = (domain(DOMAINS[0]), name.parse().unwrap());
            let action = Action::Register { home, name, key: secret(seed).public(), next, note: None };
            ids.push((history.say(0, action, &secret(seed), APPLIED), seed));
        }
        for ((identity, seed), signer) in ids.iter().zip([51, 55, 57]) {
            let (home, key) = (domain("elsewhere.example"), secret(*seed).public());
            let reason = RevokeReason::KeyCompromised;
            let action = Action::Revoke { home, identity: *identity, version: 1, key, reason };
            history.say(1, action, &secret(signer), APPLIED);
        }
        history.revoke(1, issuer, 1, 4, APPLIED);
        let (home, key) = (domain(DOMAINS[0]), secret(57).public());
        let action = Action::Rotate { home, identity: ids[2].0, version: 2, key, next: None };
        history.say(0, action, &secret(57), APPLIED);
        let found = identities(&history.replica);
        let revoked = found.as_array().unwrap().iter().filter(|one| one["revoked"] == true);
        assert_eq!(revoked.map(|one| &one["name"]).collect::<Vec<_>>(), [&json!("by-next")]);
    });
}
