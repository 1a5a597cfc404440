//! The federation's story: the entries of each log under each version.
use std::sync::Arc;

use fama_ledger::entry::{SignedEvent, VerifiedBody, VerifiedEntry};
use fama_ledger::event::{Action, Method, RevokeReason};
use fama_ledger::id::{EventId, ManifestHash, StateRoot};
use fama_ledger::log::Head;
use fama_ledger::manifest::{Cut, Draft, LogId, Manifest, Operator};
use fama_ledger::secret::SecretKey;
use fama_ledger::signed_note::{SignedNote, sign};
use fama_ledger::time::Millis;
use fama_tests::{
    MemoryReplica, SECOND, START, countersigned, domain, event, federation, governance_key, log, node_key, secret,
    signed,
};
use serde_json::{Value, json};

use super::super::map_name;
use super::{hexes, outcomes};

pub(super) const NAMES: [&str; 5] =
    ["alpha.example", "beta.example", "gamma.example", "delta.example", "epsilon.example"];

/// The text of a draft with governance lines of these operators.
pub(super) fn note(draft: &Draft, by: &[usize]) -> SignedNote {
    let text = draft.text().unwrap();
    let line = |i: &usize| sign(&text, NAMES[*i], governance_key(*i as u8).ed25519().unwrap());
    SignedNote { signatures: by.iter().map(line).collect(), text }
}

pub(super) fn behind(previous: &Arc<Manifest>, draft: &Draft) -> Arc<Manifest> {
    Arc::new(previous.successor(&note(draft, &[0, 1, 2, 4]).to_string()).unwrap())
}

pub(super) fn operator(i: u8, node: u8, generation: u32) -> Operator {
    Operator {
        name: domain(NAMES[usize::from(i)]),
        node_key: node_key(node).ed25519().unwrap().verifying_key(),
        governance_key: governance_key(i).ed25519().unwrap().verifying_key(),
        generation,
        begins: START,
        addresses: Vec::new(),
        endpoints: fama_ledger::manifest::Endpoints::default(),
    }
}

pub(super) fn own_log(i: usize, generation: u32) -> LogId {
    LogId { operator: domain(NAMES[i]), generation }
}

pub(super) fn first() -> Arc<Manifest> {
    Arc::new(federation(4, |_| ()))
}

/// The draft of version 2.
pub(super) fn second_draft() -> Draft {
    let mut draft = first().draft();
    draft.policy.max_delta = 3;
    draft.operators.push(Operator { begins: START.plus(5 * SECOND), ..operator(4, 4, 1) });
    draft.homes.insert(domain(NAMES[4]), own_log(4, 1));
    draft
}

pub(super) fn second() -> Arc<Manifest> {
    behind(&first(), &second_draft())
}

/// The draft of version 3, which cuts the logs of beta and delta as they are after their part of the story.
pub(super) fn third_draft() -> Draft {
    let second = second();
    let mut replica = MemoryReplica::new(&second);
    replay_story(&mut replica, &[log(3), log(1), log(0)]);
    let mut draft = second.draft();
    draft.operators[1] = operator(1, 5, 2);
    draft.operators.remove(3);
    draft.homes.insert(domain(NAMES[1]), own_log(1, 2));
    draft.homes.insert(domain(NAMES[3]), own_log(0, 1));
    for (at, successor) in [(1, own_log(1, 2)), (3, own_log(0, 1))] {
        let (log, mirror) = (log(at), &replica.logs[&log(at)]);
        let (head, state_root) = (mirror.tree.head(), mirror.state_root);
        draft.cuts.push(Cut { log, head, state_root, adopted: 2, successor });
    }
    draft
}

/// All three versions.
pub(super) fn versions() -> Arc<Manifest> {
    behind(&second(), &third_draft())
}

/// The logs in an order in which each comes after the logs that it carries on: those that are cut first.
fn order() -> [LogId; 6] {
    [log(1), log(3), own_log(0, 1), own_log(1, 2), own_log(2, 1), own_log(4, 1)]
}

/// What an operator logs at a second of the story.
enum LogStep {
    Adopt(u32),
    Say(Box<SignedEvent>),
}

/// Replays the story of some logs up to the replica's newest manifest version. The logs that they carry on must be
/// there.
fn replay_story(replica: &mut MemoryReplica<'_>, logs: &[LogId]) {
    let manifest = replica.manifest;
    for log in logs {
        replica.begin(log);
        for (seconds, step) in steps(manifest, log) {
            let time = START.plus(seconds * SECOND);
            match step {
                LogStep::Adopt(version) => {
                    let Some(adopted) = manifest.at(version) else { break };
                    let entry = VerifiedEntry::adopt(time, version, adopted.hash());
                    replica.append(log, vec![entry]);
                }
                LogStep::Say(said) => drop(replica.append_event(log, time, *said)),
            }
        }
    }
}

/// The story's identities, and the events that they sign.
struct StorySigners {
    manifest: Manifest,
    judge: (EventId, SecretKey),
    mapper: (EventId, SecretKey),
}

impl StorySigners {
    fn new(manifest: &Manifest) -> Self {
        let mut cast = Self {
            manifest: manifest.clone(),
            judge: (EventId([0; 32]), secret(2)),
            mapper: (EventId([0; 32]), secret(3)),
        };
        cast.judge.0 = cast.registers(1, 0, "ml-overflow", 2).event.id();
        cast.mapper.0 = cast.registers(2, 3, "swift-core-maps", 3).event.id();
        cast
    }

    fn signed_at(&self, second: u64, action: Action, by: &SecretKey) -> SignedEvent {
        signed(event(self.manifest.federation(), action, START.plus(second * SECOND), second), by)
    }

    fn registers(&self, second: u64, home: usize, name: &str, seed: u8) -> SignedEvent {
        let (home, name, key) = (domain(NAMES[home]), name.parse().unwrap(), secret(seed));
        self.signed_at(second, Action::Register { home, name, key: key.public(), next: None, note: None }, &key)
    }

    fn admits(&self, second: u64, by: usize, node: u8) -> SignedEvent {
        let (service, place) = ("ml_overflow".parse().unwrap(), domain("service.example"));
        let (operator, provider) = (domain(NAMES[by]), self.judge.0);
        let action = Action::Admit { operator, provider, service, domain: place, method: Method::Dns, from: 0 };
        self.signed_at(second, action, &node_key(node))
    }

    fn attests(&self, second: u64, delta: i32) -> SignedEvent {
        let (home, issuer, subject) = (domain(NAMES[0]), self.judge.0, self.mapper.0);
        let action = Action::Attest { home, issuer, subject, delta, context: None, note: None };
        self.signed_at(second, action, &self.judge.1)
    }

    fn rotates(&self, second: u64) -> SignedEvent {
        let (home, identity, new) = (domain(NAMES[3]), self.mapper.0, secret(5));
        let action = Action::Rotate { home, identity, version: 2, key: new.public(), next: None };
        let said = self.signed_at(second, action, &self.mapper.1);
        countersigned(said.event, &self.mapper.1, &new)
    }

    fn revokes(&self, second: u64, home: usize, (identity, key): (EventId, &SecretKey), version: u32) -> SignedEvent {
        let (home, reason) = (domain(NAMES[home]), RevokeReason::KeyCompromised);
        self.signed_at(second, Action::Revoke { home, identity, version, key: key.public(), reason }, key)
    }
}

/// One log's part of the story, with the second of each entry.
fn steps(manifest: &Manifest, log: &LogId) -> Vec<(u64, LogStep)> {
    let cast = StorySigners::new(manifest);
    let say = |second: u64, said| (second, LogStep::Say(Box::new(said)));
    let adopt = |second: u64, version| (second, LogStep::Adopt(version));
    match (log.operator.as_str(), log.generation) {
        ("alpha.example", _) => vec![
            adopt(0, 1),
            say(1, cast.registers(1, 0, "ml-overflow", 2)),
            say(4, cast.attests(4, 5)),
            adopt(5, 2),
            // The new rule applies from here on.
            say(6, cast.attests(6, 5)),
            say(7, cast.attests(7, 3)),
            // Delta's home is not here yet.
            say(8, cast.rotates(8)),
            adopt(20, 3),
            say(21, cast.rotates(21)),
            say(22, cast.registers(22, 3, "newcomer", 7)),
            say(23, cast.registers(23, 3, "swift-core-maps", 9)),
            say(24, cast.attests(24, -2)),
            // Delta's statements still count, but nobody can make new ones for it.
            say(25, cast.admits(25, 3, 3)),
        ],
        ("beta.example", 1) => vec![
            adopt(0, 1),
            say(2, cast.admits(2, 1, 1)),
            say(3, cast.registers(3, 1, "stays-here", 4)),
            adopt(5, 2),
            say(9, cast.revokes(9, 3, (cast.mapper.0, &cast.mapper.1), 1)),
        ],
        ("beta.example", _) => vec![
            adopt(20, 3),
            say(26, cast.registers(26, 1, "stays-here", 6)),
            say(27, cast.registers(27, 1, "begins-here", 8)),
            // The old node key can make no new statements.
            say(28, cast.admits(28, 1, 1)),
            say(29, cast.admits(29, 1, 5)),
        ],
        ("delta.example", _) => vec![
            adopt(0, 1),
            say(2, cast.registers(2, 3, "swift-core-maps", 3)),
            say(3, cast.admits(3, 3, 3)),
            say(4, cast.revokes(4, 0, (cast.judge.0, &secret(11)), 1)),
            adopt(5, 2),
        ],
        ("gamma.example", _) => vec![adopt(0, 1), adopt(5, 2), adopt(20, 3)],
        _ => vec![
            adopt(5, 2),
            say(10, cast.registers(10, 4, "first-here", 13)),
            adopt(20, 3),
            say(30, cast.revokes(30, 3, (cast.mapper.0, &secret(5)), 2)),
        ],
    }
}

/// The adoptions among a log's entries, each with the log's size after its batch.
pub(super) fn adopted(entries: &[VerifiedEntry]) -> Value {
    let version = |(at, entry): (usize, &VerifiedEntry)| match entry.body {
        VerifiedBody::Adopt { version, .. } => Some(json!([version, at + 2])),
        _ => None,
    };
    entries.iter().enumerate().filter_map(version).collect()
}

/// The whole story under all three versions.
fn whole_story(manifest: &Manifest) -> MemoryReplica<'_> {
    let mut replica = MemoryReplica::new(manifest);
    replica.logs.clear();
    replay_story(&mut replica, &order());
    replica
}

pub(super) fn logs(manifest: &Manifest) -> Vec<Value> {
    let replica = whole_story(manifest);
    let mut fresh = MemoryReplica::new(manifest);
    fresh.logs.clear();
    let mut vectors = Vec::new();
    for log in order() {
        let mirror = &replica.logs[&log];
        fresh.begin(&log);
        let replayed = fresh.deliver(&log, 0, &mirror.entries);
        vectors.push(json!({
            "type": "log", "operator": log.operator.as_str(), "generation": log.generation,
            "entries": hexes(&mirror.entries), "outcomes": outcomes(&replayed), "adopted": adopted(&mirror.entries),
            "size": mirror.tree.size(), "root": mirror.tree.head().root.to_string(),
            "state_root": mirror.state_root.to_string(),
        }));
    }
    for ((map, key), value) in replica.rows.iter() {
        let name = map_name(manifest, *map);
        vectors.push(
            json!({"type": "row", "map": name, "tag": key[0], "key": super::hex(key), "value": super::hex(value)}),
        );
    }
    let dump = super::hex(replica.join().dump().unwrap());
    vectors.push(json!({"type": "state", "state_id": replica.state_id().to_string(), "dump": dump}));
    vectors
}

/// The replica before any entry of a log, without the logs that carry this one on.
pub(super) fn without<'a>(replica: &MemoryReplica<'a>, log: &LogId) -> MemoryReplica<'a> {
    let mut fresh = MemoryReplica::new(replica.manifest);
    fresh.logs.clear();
    for other in order().into_iter().take_while(|other| other != log) {
        fresh.begin(&other);
        fresh.deliver(&other, 0, &replica.logs[&other].entries);
    }
    fresh
}

pub(super) fn head(manifest: &Manifest, log: &LogId) -> Head {
    whole_story(manifest).head(log)
}

/// Batches that no log may have after the first entries of a valid one.
pub(super) fn invalid_batches(manifest: &Manifest) -> Vec<Value> {
    let cast = StorySigners::new(manifest);
    let time = START.plus(40 * SECOND);
    let hash = |version: u32| manifest.at(version).map_or(ManifestHash([9; 32]), Manifest::hash);
    let adopt = |version| VerifiedEntry::adopt(time, version, hash(version));
    let other = |version| VerifiedEntry::adopt(time, version, ManifestHash([7; 32]));
    let state = VerifiedEntry::state(time, StateRoot([7; 32]));
    let said = VerifiedEntry::of(time, cast.registers(40, 0, "late", 15).verify(&manifest.federation()).unwrap());
    let [alpha, gamma, beta, next] = [own_log(0, 1), own_log(2, 1), log(1), own_log(1, 2)];
    let beyond = whole_story(manifest).head(&beta).size;
    let mut alone = MemoryReplica::new(manifest);
    alone.begin(&next);
    let empty = alone.complete(&next, vec![adopt(3)]);
    let early = |seconds: u64, version| {
        let time = START.plus(seconds * SECOND);
        vec![
            VerifiedEntry::adopt(Millis(time.0 - 1), version, hash(version)),
            VerifiedEntry::state(time, StateRoot([7; 32])),
        ]
    };
    let cases = [
        ("an event before the first adoption", &alpha, 0, vec![said.clone(), state.clone()], "adopt"),
        ("a new log that begins with version 1", &next, 0, vec![adopt(1), state.clone()], "adopt"),
        ("a log of version 1 that begins with version 2", &gamma, 0, vec![adopt(2), state.clone()], "adopt"),
        ("a version left out", &gamma, 2, vec![adopt(3), state.clone()], "adopt"),
        ("a version again", &gamma, 4, vec![adopt(2), state.clone()], "adopt"),
        ("the version before", &gamma, 4, vec![adopt(1), state.clone()], "adopt"),
        ("another text of the version", &gamma, 2, vec![other(2), state.clone()], "adopt"),
        ("an event behind an adoption", &alpha, 14, vec![adopt(3), said.clone(), state.clone()], "adopt"),
        ("an adoption behind an event", &alpha, 14, vec![said, adopt(3), state.clone()], "adopt"),
        ("a version that cuts the log", &beta, beyond, vec![adopt(3), state.clone()], "adopt"),
        ("a version that nobody holds", &gamma, 6, vec![adopt(4), state.clone()], "unheld"),
        ("a log that begins before its manifest lets it", &own_log(4, 1), 0, early(5, 2), "too_early"),
        ("maps taken before the last entry of the log that had them", &next, 0, early(9, 3), "too_early"),
        ("maps that were not passed on", &next, 0, empty, "state_root"),
        ("another state root than that of an adoption", &gamma, 2, vec![adopt(2), state], "state_root"),
    ];
    let vector = |(why, log, behind, entries, code): (&str, &LogId, u64, Vec<VerifiedEntry>, &str)| {
        json!({
            "type": "invalid batch", "why": why, "operator": log.operator.as_str(), "generation": log.generation,
            "behind": behind, "entries": hexes(&entries), "code": code,
        })
    };
    cases.map(vector).to_vec()
}
