//! What must hold for any history: the order, duplication and splitting of deliveries never matter.
use std::collections::{BTreeMap, BTreeSet};

use fama_ledger::entry::{SignedEvent, VerifiedEntry, VerifiedEvent};
use fama_ledger::event::{Action, DismissReason, Method, RevokeReason, SuspendReason};
use fama_ledger::fold::Effect;
use fama_ledger::id::{Domain, EventId, IdentityId};
use fama_ledger::join::{Karma, MemoryScores, Score, ScoreUpdate};
use fama_ledger::log::leaf_hash;
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::rows::{Row, Rows, Tally};
use fama_ledger::secret::SecretKey;
use fama_ledger::time::Millis;
use fama_tests::{
    DOMAINS, MemoryReplica, START, countersigned, domain, event, federation, log, node_key, secret, signed,
};
use proptest::prelude::*;

/// One step of a history; the meaning of each number depends on `kind`.
#[derive(Clone, Debug)]
pub(crate) struct HistoryOp {
    kind: u8,
    place: usize,
    who: usize,
    whom: usize,
    value: i32,
    /// Minutes since the last entry.
    minutes: u64,
    /// The event is logged even if it is void, which an honest owner would not do.
    raw: bool,
    /// The event goes to a different log than it should.
    astray: bool,
}

fn op() -> impl Strategy<Value = HistoryOp> {
    let fields = (0u8..16, 0usize..4, 0usize..6, 0usize..6, -6i32..7, prop_oneof![0u64..3, 0u64..2_000]);
    (fields, any::<bool>(), prop::bool::weighted(0.1)).prop_map(
        |((kind, place, who, whom, value, minutes), raw, astray)| HistoryOp {
            kind,
            place,
            who,
            whom,
            value,
            minutes,
            raw,
            astray,
        },
    )
}

pub(crate) fn history() -> impl Strategy<Value = Vec<HistoryOp>> {
    prop::collection::vec(op(), 30..120)
}

/// An agent as its owner knows it: its home, the seeds of its keys by version, and whether it commits to the next
/// key.
struct HistoryAgent {
    home: usize,
    id: IdentityId,
    seeds: Vec<u8>,
    commits: bool,
}

/// Turns histories into the logs of a federation of four.
pub(crate) struct HistoryWriter<'a> {
    pub(crate) live: MemoryReplica<'a>,
    agents: Vec<HistoryAgent>,
    given: Vec<(usize, IdentityId, IdentityId, Millis, EventId)>,
    /// Batches in the order in which they were made: log, and number of entries before.
    order: Vec<(LogId, usize)>,
    effects: Vec<Effect>,
    time: Millis,
    seed: u8,
    nonce: u64,
}

impl<'a> HistoryWriter<'a> {
    fn new(manifest: &'a Manifest) -> Self {
        let mut history = Self {
            live: MemoryReplica::adopted(manifest),
            agents: Vec::new(),
            given: Vec::new(),
            order: Vec::new(),
            effects: Vec::new(),
            time: START,
            seed: 2,
            nonce: 0,
        };
        for i in 0..6 {
            history.register(i % 4, i % 2 == 0, START, true);
        }
        history
    }

    fn next_seed(&mut self) -> u8 {
        self.seed = if self.seed >= 180 { 2 } else { self.seed + 1 };
        self.seed
    }

    fn make(&mut self, action: Action, created: Millis) -> fama_ledger::event::Event {
        self.nonce += 1;
        event(self.live.manifest.federation(), action, created, self.nonce)
    }

    fn register(&mut self, home: usize, commits: bool, time: Millis, raw: bool) {
        let known = self.agents.get(self.nonce as usize % 20).map(|agent| agent.seeds[0]);
        let seed = known.unwrap_or_else(|| self.next_seed());
        let next = commits.then(|| secret(seed + 1).public().hash());
        if commits {
            self.next_seed();
        }
        let (key, name) = (secret(seed), format!("agent-{}", seed % 10).parse().unwrap());
        let action = Action::Register { home: domain(DOMAINS[home]), name, key: key.public(), next, note: None };
        let said = self.make(action, time);
        let id = said.id();
        if self.say(home, time, signed(said, &key), raw) {
            self.agents.push(HistoryAgent { home, id, seeds: vec![seed], commits });
        }
    }

    /// Logs an event; returns whether it was applied.
    fn say(&mut self, place: usize, time: Millis, said: SignedEvent, raw: bool) -> bool {
        let event: VerifiedEvent = said.verify(&self.live.manifest.federation()).unwrap();
        let (log, before) = (log(place), self.live.logs[&log(place)].entries.len());
        let effect = if raw {
            let entry = VerifiedEntry::of(time.max(self.live.logs[&log].entries.last().unwrap().time), event);
            self.live.append(&log, vec![entry]).pop().flatten().unwrap()
        } else {
            self.live.admit(&log, time, vec![event]).pop().unwrap()
        };
        if self.live.logs[&log].entries.len() > before {
            self.order.push((log, before));
            self.effects.extend(effect.clone());
        }
        effect.is_ok()
    }

    fn take_step(&mut self, op: &HistoryOp) {
        self.time = self.time.plus(op.minutes * 60_000);
        let astray = |home: usize| if op.astray { (home + 1) % 4 } else { home };
        let (who, whom) = (op.who % self.agents.len(), op.whom % self.agents.len());
        let created = match op.value {
            6 => self.time.plus(600_001),
            -6 => Millis(self.time.0 - self.live.manifest.policy().max_age_ms - 1),
            value => Millis(self.time.0 - u64::from(value.unsigned_abs()) * 600_000),
        };
        let (home, id) = (self.agents[who].home, self.agents[who].id);
        let place = astray(home);
        match op.kind {
            0 => self.register(op.place, op.value > 0, self.time, op.raw),
            1 => self.rotate(who, place, created, op),
            2 => self.revoke(who, if op.value > 3 { home } else { op.place }, created, op),
            3 => self.retract(op),
            10 => self.grant(who, whom, place, created, op),
            11 => self.suspend(whom, created, op),
            4..7 => self.sponsor(self.agents[who % 2].id, created, op),
            _ => {
                let signer = if op.value == 4 && op.place == 1 { whom } else { who };
                let key = secret(*self.agents[signer].seeds.last().unwrap());
                let subject = self.agents[whom % 2].id;
                let issuer = if op.value == 5 && op.place == 2 { EventId([5; 32]) } else { id };
                let action = Action::Attest {
                    home: domain(DOMAINS[home]),
                    issuer,
                    subject,
                    delta: op.value,
                    context: None,
                    note: None,
                };
                let said = self.make(action, created);
                let event = said.id();
                let said = signed(said, &key);
                if self.say(place, self.time, said.clone(), op.raw) {
                    self.given.push((home, issuer, subject, created, event));
                }
                if op.raw && op.place == 0 {
                    self.say(place, self.time, said, true);
                }
            }
        }
    }

    fn rotate(&mut self, who: usize, place: usize, created: Millis, op: &HistoryOp) {
        let agent = &self.agents[who];
        let (home, id, version, commits) = (agent.home, agent.id, agent.seeds.len() as u32 + 1, agent.commits);
        let old = *agent.seeds.last().unwrap();
        let new = if commits { old + 1 } else { self.next_seed() };
        let action = Action::Rotate {
            home: domain(DOMAINS[home]),
            identity: id,
            version,
            key: secret(new).public(),
            next: None,
        };
        let said = self.make(action, created);
        let said = if commits { signed(said, &secret(new)) } else { countersigned(said, &secret(old), &secret(new)) };
        if self.say(place, self.time, said, op.raw) {
            self.agents[who].seeds.push(new);
            self.agents[who].commits = false;
        }
    }

    fn revoke(&mut self, who: usize, place: usize, created: Millis, op: &HistoryOp) {
        let agent = &self.agents[who];
        let (home, id) = (agent.home, agent.id);
        let version = if op.value == 0 { 1 } else { agent.seeds.len() };
        let seed = agent.seeds[version - 1];
        let signer: SecretKey = if agent.commits && op.value < 0 { secret(seed + 1) } else { secret(seed) };
        let action = Action::Revoke {
            home: domain(DOMAINS[home]),
            identity: id,
            version: version as u32,
            key: secret(seed).public(),
            reason: RevokeReason::ALL[op.whom % 4],
        };
        let said = self.make(action, created);
        self.say(place, self.time, signed(said, &signer), op.raw);
    }

    fn retract(&mut self, op: &HistoryOp) {
        let Some((home, issuer, subject, created, attestation)) =
            self.given.get(op.who * 6 % self.given.len().max(1)).copied()
        else {
            return;
        };
        let agent = self.agents.iter().find(|agent| agent.id == issuer).unwrap();
        let key = secret(*agent.seeds.last().unwrap());
        let action = Action::Retract {
            home: domain(DOMAINS[home]),
            issuer,
            subject,
            day: if op.astray { START.day() } else { created.day() },
            attestation,
        };
        let said = self.make(action, self.time);
        self.say(home, self.time, signed(said, &key), op.raw);
    }

    fn grant(&mut self, who: usize, whom: usize, place: usize, created: Millis, op: &HistoryOp) {
        let (home, issuer) = (domain(DOMAINS[self.agents[who].home]), self.agents[who].id);
        let (subject, scope) = (self.agents[whom].id, ["read", "write"][op.minutes as usize % 2].parse().unwrap());
        let expires = (op.value > 3).then(|| START.plus(op.minutes));
        let action = match op.value {
            ..0 => Action::Ungrant { home, issuer, subject, scope },
            _ => Action::Grant { home, issuer, subject, scope, expires, note: None },
        };
        let (said, key) = (self.make(action, created), secret(*self.agents[who].seeds.last().unwrap()));
        self.say(place, self.time, signed(said, &key), op.raw);
    }

    fn suspend(&mut self, whom: usize, created: Millis, op: &HistoryOp) {
        let (operator, identity) = (domain(DOMAINS[op.place]), self.agents[whom].id);
        let action = match op.value {
            ..0 => Action::Resume { operator, identity },
            value => Action::Suspend { operator, identity, reason: SuspendReason::ALL[value as usize % 3] },
        };
        let said = self.make(action, created);
        self.say(if op.astray { 0 } else { op.place }, self.time, signed(said, &node_key(op.place as u8)), op.raw);
    }

    fn sponsor(&mut self, provider: IdentityId, created: Millis, op: &HistoryOp) {
        let (operator, domain): (Domain, Domain) = (domain(DOMAINS[op.place]), domain("s.example"));
        let (service, from) = (["a", "b"][op.whom % 2].parse().unwrap(), u64::from(op.value.unsigned_abs()) / 2);
        let action = if op.kind == 4 || op.value > 0 {
            Action::Admit { operator, provider, service, domain, method: Method::Manual, from }
        } else {
            Action::Dismiss { operator, provider, service, domain, from, reason: DismissReason::Unspecified }
        };
        let said = self.make(action, created);
        self.say(if op.astray { 0 } else { op.place }, self.time, signed(said, &node_key(op.place as u8)), op.raw);
    }
}

pub(crate) fn policy(p: &mut fama_ledger::manifest::Policy) {
    (p.daily_attestations, p.daily_retractions, p.daily_registrations, p.daily_new_providers) = (4, 1, 4, 1);
    (p.daily_cap, p.daily_grants) = (6, 2);
}

pub(crate) fn write_history<'a>(manifest: &'a Manifest, ops: &[HistoryOp]) -> HistoryWriter<'a> {
    let mut history = HistoryWriter::new(manifest);
    ops.iter().for_each(|op| history.take_step(op));
    history
}

/// Delivers all logs to a fresh replica: the logs in any order, any range at a time, with repetitions.
fn delivered<'a>(live: &MemoryReplica<'a>, choices: &[(usize, usize, usize)]) -> MemoryReplica<'a> {
    let mut replica = MemoryReplica::new(live.manifest);
    for (which, start, length) in choices {
        let log = log(which % 4);
        let entries = &live.logs[&log].entries;
        let held = replica.logs[&log].entries.len();
        let first = start % (held + 1);
        let end = (first + length).min(entries.len());
        replica.deliver(&log, first, &entries[first..end.max(first)]);
    }
    for (log, mirror) in live.logs.iter().rev() {
        replica.deliver(log, 0, &mirror.entries);
    }
    replica
}

fn subjects(replica: &MemoryReplica<'_>) -> BTreeSet<IdentityId> {
    let mut all: BTreeSet<IdentityId> = replica
        .rows
        .iter()
        .filter(|((_, key), _)| key.first() == Some(&Tally::TAG) && key.len() == 65)
        .map(|((_, key), _)| EventId(key[1..33].try_into().unwrap()))
        .collect();
    replica.join().each_identity(|found| all.extend([found.id])).unwrap();
    all
}

/// All registered identities with what the join computes of them from all rows.
fn counted(replica: &MemoryReplica<'_>) -> Vec<(IdentityId, Karma)> {
    let mut ids = BTreeSet::new();
    replica.join().each_identity(|found| ids.extend([found.id])).unwrap();
    ids.into_iter().map(|id| (id, replica.join().karma(id).unwrap())).collect()
}

fn listed(scores: &MemoryScores) -> Vec<(IdentityId, Karma)> {
    scores.listed().collect()
}

fn update(scores: &mut MemoryScores, change: impl FnOnce(&mut ScoreUpdate<'_, MemoryScores>)) {
    let stored = scores.clone();
    let mut update = ScoreUpdate::new(&stored).unwrap();
    change(&mut update);
    scores.apply(update.into_changes());
}

/// Applies an effect, as a node does in the write that the rows are in.
fn apply(scores: &mut MemoryScores, effect: &Effect, replica: &MemoryReplica<'_>) {
    update(scores, |update| {
        update.apply(effect).unwrap();
        if let Effect::Sponsored { provider } = effect {
            update.sponsor(*provider, replica.join().sponsored(*provider).unwrap()).unwrap();
        }
    });
}

/// Takes in what was there before scores were kept, as a node does.
fn taken_in(replica: &MemoryReplica<'_>) -> MemoryScores {
    let mut scores = MemoryScores::default();
    update(&mut scores, |update| {
        let join = replica.join();
        join.each_identity(|found| update.list(found.id).unwrap()).unwrap();
        let mut after = None;
        loop {
            let some = join.stated(after, 2).unwrap();
            for provider in &some {
                update.sponsor(*provider, join.sponsored(*provider).unwrap()).unwrap();
            }
            after = some.last().copied();
            if after.is_none() {
                break;
            }
        }
    });
    scores
}

/// Recounts up to `slices` times three subjects of marked providers, as a node does in the background.
fn recount(scores: &mut MemoryScores, replica: &MemoryReplica<'_>, slices: usize) {
    for _ in 0..slices {
        let mut done = false;
        update(scores, |update| {
            let Some(recount) = update.recount().unwrap() else {
                done = true;
                return;
            };
            let later = |subject: &IdentityId| recount.after.is_none_or(|after| *subject > after);
            let slice: Vec<IdentityId> = subjects(replica).into_iter().filter(later).take(3).collect();
            let changes = replica.join().recounted(recount.provider, &slice, &recount.numbers).unwrap();
            update.recounted(&changes, slice.last().copied().filter(|_| slice.len() == 3)).unwrap();
        });
        if done {
            break;
        }
    }
}

/// Every subject's kept score, completed by what is missing in it, is what the join computes from all rows.
fn scores_are_the_joins(scores: &MemoryScores, replica: &MemoryReplica<'_>) {
    let join = replica.join();
    for subject in subjects(replica) {
        let score = Score::read(scores, &subject, usize::MAX - 1).unwrap().unwrap();
        assert_eq!(score.settle(subject, &join).unwrap(), join.karma(subject).unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_delivery_gives_the_same_state(
        ops in history(),
        choices in prop::collection::vec((0usize..4, 0usize..200, 0usize..40), 0..60),
        others in prop::collection::vec((0usize..4, 0usize..200, 0usize..12), 0..60),
    ) {
        let manifest = federation(4, policy);
        let live = write_history(&manifest, &ops).live;
        for choices in [choices, others] {
            let replica = delivered(&live, &choices);
            prop_assert!(replica.rows == live.rows);
            prop_assert_eq!(replica.state_id(), live.state_id());
            prop_assert!(replica.join().dump() == live.join().dump());
        }
        // Also when read from bytes and from a scan of the rows.
        for (log, mirror) in &live.logs {
            let rebuilt = fama_ledger::batch::LogMaps::load(&manifest, log, &live.rows).unwrap();
            prop_assert_eq!(rebuilt.state_root(), mirror.state_root);
            for entry in &mirror.entries {
                let again = VerifiedEntry::decode(entry.bytes().to_vec(), &manifest.federation());
                prop_assert_eq!(again.as_ref(), Ok(entry));
            }
        }
    }

    #[test]
    fn equal_frontiers_only(ops in history()) {
        let manifest = federation(4, policy);
        let live = write_history(&manifest, &ops).live;
        let mut short = MemoryReplica::new(&manifest);
        let mut ids = BTreeSet::from([short.state_id()]);
        for (log, mirror) in &live.logs {
            for batch in mirror.entries.split_inclusive(VerifiedEntry::is_state) {
                short.take(log, batch.to_vec()).unwrap();
                prop_assert!(ids.insert(short.state_id()), "two frontiers, one state id");
            }
        }
        prop_assert_eq!(short.state_id(), live.state_id());
    }

    #[test]
    fn kept_scores_keep_up(ops in history(), settles in prop::collection::vec(prop::bool::weighted(0.1), 120)) {
        let manifest = federation(4, policy);
        let mut history = HistoryWriter::new(&manifest);
        let (mut scores, mut seen) = (MemoryScores::default(), 0);
        for (op, settle_now) in ops.iter().zip(settles) {
            history.take_step(op);
            for effect in &history.effects[seen..] {
                apply(&mut scores, effect, &history.live);
                seen += 1;
            }
            scores_are_the_joins(&scores, &history.live);
            recount(&mut scores, &history.live, 1);
            scores_are_the_joins(&scores, &history.live);
            if settle_now {
                recount(&mut scores, &history.live, usize::MAX);
                prop_assert_eq!(listed(&scores), counted(&history.live));
            }
        }
        let mut late = taken_in(&history.live);
        scores_are_the_joins(&late, &history.live);
        for scores in [&mut scores, &mut late] {
            recount(scores, &history.live, usize::MAX);
            prop_assert_eq!(listed(scores), counted(&history.live));
        }
    }

    /// Karma computed from the entries alone, by PROTOCOL.md's definition.
    #[test]
    fn karma_is_what_the_protocol_says(ops in history()) {
        let manifest = federation(4, policy);
        let history = write_history(&manifest, &ops);
        let join = history.live.join();
        let mut given: BTreeMap<(IdentityId, u64), (IdentityId, i64)> = BTreeMap::new();
        let mut taken: BTreeMap<(IdentityId, u64), u64> = BTreeMap::new();
        for effect in &history.effects {
            match effect {
                Effect::Attested { subject, provider, number, effective } => {
                    given.insert((*provider, *number), (*subject, i64::from(*effective)));
                }
                Effect::Retracted { provider, number, retraction, .. } => {
                    taken.insert((*provider, *number), *retraction);
                }
                _ => {}
            }
        }
        let want = manifest.policy().min_sponsors as usize;
        let counts = |provider: IdentityId, number: u64| {
            join.sponsorships(provider).unwrap().iter().any(|service| {
                let holds = |intervals: &[fama_ledger::rows::Interval]| {
                    intervals.iter().any(|i| i.start <= number && i.end.is_none_or(|end| number < end))
                };
                service.sponsors.iter().filter(|(_, intervals)| holds(intervals)).count() >= want
            })
        };
        let mut karma: BTreeMap<IdentityId, Karma> = BTreeMap::new();
        for ((provider, number), (subject, effective)) in &given {
            let undone = taken.get(&(*provider, *number)).is_some_and(|retraction| counts(*provider, *retraction));
            let sum = karma.entry(*subject).or_default();
            if counts(*provider, *number) && !undone {
                *sum = Karma { sum: sum.sum + effective, count: sum.count + 1 };
            }
        }
        for subject in subjects(&history.live) {
            prop_assert_eq!(join.karma(subject).unwrap(), karma.get(&subject).copied().unwrap_or_default());
        }
    }

    #[test]
    fn any_flipped_byte_is_refused(ops in history(), bit in 0u8..8) {
        let manifest = federation(4, policy);
        let live = write_history(&manifest, &ops).live;
        let entries: Vec<&VerifiedEntry> = live.logs.values().flat_map(|mirror| &mirror.entries).collect();
        let event = entries.iter().rev().find(|entry| entry.event().is_some()).unwrap();
        for entry in [*event, entries[0], entries[1]] {
            for at in 0..entry.bytes().len() {
                let mut bytes = entry.bytes().to_vec();
                bytes[at] ^= 1 << bit;
                prop_assert_ne!(leaf_hash(&bytes), leaf_hash(entry.bytes()));
                let read = VerifiedEntry::decode(bytes, &manifest.federation());
                // Only the owner's own entries (time, version, hash and root) have no other protection than the head.
                let owners = at < 8 || (entry.event().is_none() && at >= 12);
                prop_assert!(read.is_err() || owners, "byte {}", at);
                prop_assert_ne!(read.as_ref(), Ok(entry));
            }
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let manifest = federation(1, |_| ());
        prop_assert!(VerifiedEntry::decode(bytes.clone(), &manifest.federation()).is_err() || bytes.len() >= 44);
        let _ = fama_ledger::event::Event::parse(&bytes);
        let _ = fama_ledger::note::Note::parse(&bytes);
    }
}

/// Checks that the histories above reach every effect that they are meant to reach.
#[test]
fn histories_are_rich() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let manifest = federation(4, policy);
    let (mut applied, mut voids) = (std::collections::HashSet::new(), BTreeSet::new());
    for _ in 0..40 {
        let ops = proptest::strategy::ValueTree::current(&history().new_tree(&mut runner).unwrap());
        let history = write_history(&manifest, &ops);
        let mut fresh = MemoryReplica::new(&manifest);
        for (log, mirror) in &history.live.logs {
            for replayed in fresh.deliver(log, 0, &mirror.entries) {
                for outcome in replayed.outcomes.into_iter().flatten() {
                    match outcome {
                        Ok(effect) => applied.extend([std::mem::discriminant(&effect)]),
                        Err(void) => voids.extend([void.code()]),
                    }
                }
            }
        }
        assert!(!history.order.is_empty() && fresh.rows.get(fama_ledger::rows::MapId([0; 8]), b"x") == Ok(None));
    }
    assert_eq!(applied.len(), 8, "every effect");
    assert!(voids.len() >= 13, "{voids:?}");
}
