//! Signs a workload's events and appends them to the folder's log, from where it ends.
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use fama_cli::synthetic::{LEAD, Step, Workload};
use fama_ledger::entry::{SignedEvent, VerifiedEntry, VerifiedEvent};
use fama_ledger::event::{Action, Event, Method, RevokeReason};
use fama_ledger::id::{Domain, FederationId, IdentityId};

use fama_ledger::limits::{BATCH_ENTRIES_MAX, ENTRY_BYTES_MAX};
use fama_ledger::replica::Overrides;
use fama_ledger::secret::SecretKey;
use fama_ledger::time::Millis;
use fama_node::clock::{self, Clock, Simulated};
use fama_node::inbox::{COMMANDS_MAX, Inbox, InboxCommand, InboxInput, Own, SubmitOutcome, Submitted};
use fama_node::shared::Shared;
use fama_node::store::{Store, StoreError, View};
use fama_tests::{domain, event};
use rayon::prelude::*;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::costs::{bytes, memory};
use super::folder::{Folder, OPERATOR};
use crate::renewals::processor;

/// When the first event is made: 2022-01-01T00:00:00.000Z.
const FIRST: Millis = Millis(1_640_995_200_000);
/// Simulated time between two events: 100,000 of them make a day.
const EVENT_MILLIS: u64 = 864;
/// Events that are made at the same simulated time and appended in one write.
const BATCH: u64 = LEAD;
const _: () = assert!(LEAD == BATCH_ENTRIES_MAX as u64);
/// Events in a batch while the processor time of appending is measured: as many as come in a second on a busy day.
const MEASURED_BATCH: u64 = 1_024;
/// Events of which the processor time is measured, if so many are left. They are all signed before.
const MEASURED: u64 = 65_536;
/// After this index the first provider attests.
const FIRST_ADMITTED: u64 = 3;
/// Signed batches that wait for the inbox.
const WAITING_MAX: usize = 2;
/// How long to wait for a folder that another process uses.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// Time between two lines that say how far it is.
const LINES: Duration = Duration::from_secs(10);

/// Appends what is missing; says how fast that went, and what each of the last events cost.
pub(super) fn load(folder: &Folder, workload: &Workload) -> Value {
    let events = workload.shape().events;
    assert!(time(events) < clock::now(), "so many events would end in the future");
    let begun = Instant::now();
    let mut door = Door::open(folder);
    let from = door.appended;
    if from >= events {
        println!("{from} events are there");
        return Value::Null;
    }
    println!("{from} events are there, loaded in {:.1} s", begun.elapsed().as_secs_f64());
    let signer = Signer::new(folder, workload);
    let measured = events.saturating_sub(MEASURED).max(from + (events - from) / 2);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let (sender, batches) = sync_channel(WAITING_MAX);
        let signer = &signer;
        scope.spawn(move || {
            for range in ranges(from..measured, BATCH) {
                sender.send((range.clone(), signer.sign_all(range))).unwrap();
            }
        });
        let mut progress = Progress::new(from);
        for (range, signed) in batches {
            let end = range.end;
            door.append(time(range.start), signed);
            progress.tell(folder, end);
        }
    });
    let bulk = begun.elapsed().as_secs_f64();
    let signed: Vec<_> =
        ranges(measured..events, MEASURED_BATCH).map(|range| (time(range.start), signer.sign_all(range))).collect();
    let (before, begun) = (processor(), Instant::now());
    for (time, signed) in signed {
        door.append(time, signed);
    }
    let (seconds, count) = (processor() - before, (events - measured) as f64);
    json!({
        "events": events - from, "per_second": ((measured - from) as f64 / bulk).round(),
        "memory_bytes": memory("self"),
        "append": {
            "events": events - measured, "batch": MEASURED_BATCH,
            "cpu_us_per_event": micros(seconds / count),
            "us_per_event": micros(begun.elapsed().as_secs_f64() / count),
        },
    })
}

fn micros(seconds: f64) -> f64 {
    (seconds * 1e8).round() / 100.0
}

/// When the event at `index` is made, and its batch appended.
fn time(index: u64) -> Millis {
    FIRST.plus(index / BATCH * BATCH * EVENT_MILLIS)
}

/// Pieces of a range that end at multiples of `size`, which divides [`BATCH`] or is it; the first ones at powers of two, so
/// that no provider attests in the batch in which it is admitted.
pub(crate) fn ranges(all: Range<u64>, size: u64) -> impl Iterator<Item = Range<u64>> {
    let mut from = all.start;
    std::iter::from_fn(move || {
        let end = match from {
            0..FIRST_ADMITTED => FIRST_ADMITTED,
            _ if from < size => (from + 1).next_power_of_two(),
            _ => (from / size + 1) * size,
        };
        let range = from..end.min(all.end);
        from = range.end;
        (!range.is_empty()).then_some(range)
    })
}

/// The inbox of a node without a network.
struct Door {
    clock: Arc<Simulated>,
    inbox: Inbox,
    commands: mpsc::Receiver<InboxCommand>,
    /// Events in the log when it was opened.
    appended: u64,
}

impl Door {
    fn open(folder: &Folder) -> Self {
        let store = open(folder);
        let appended = appended(&store.view(), folder);
        let clock = Arc::new(Simulated::default());
        set(&clock, time(appended.saturating_sub(1)));
        let shared = Shared::new(store, Clock::simulated(Arc::clone(&clock)), [1; 16]);
        let held = [folder.node_key.ed25519().unwrap()];
        let own = Own::of(&folder.manifest, domain(OPERATOR), &held, Overrides::default());
        let (sender, commands) = mpsc::channel(COMMANDS_MAX);
        let inbox = Inbox::load(shared, Some(own), sender).unwrap();
        Self { clock, inbox, commands, appended }
    }

    /// Appends one batch at this time. What a node does four times a second is done once for each batch.
    fn append(&mut self, now: Millis, events: Vec<VerifiedEvent>) {
        set(&self.clock, now);
        self.inbox.tick().unwrap();
        let events = events
            .into_iter()
            .map(|event| Submitted { event, note: None, recovered: false, forwarder: None })
            .collect();
        let (reply, mut outcomes) = oneshot::channel();
        self.inbox.take(InboxInput::Submit { events, reply }).unwrap();
        self.inbox.append().unwrap();
        let mut refused: BTreeMap<String, u64> = BTreeMap::new();
        for outcome in outcomes.try_recv().unwrap() {
            let code = match outcome {
                SubmitOutcome::Taken { .. } => continue,
                SubmitOutcome::Refused(refusal) => refusal.code,
                SubmitOutcome::Unsponsored => "not_sponsored".to_owned(),
            };
            *refused.entry(code).or_default() += 1;
        }
        assert!(refused.is_empty(), "not all events of a batch are taken: {refused:?}");
        // Nobody is there to be told.
        while self.commands.try_recv().is_ok() {}
    }
}

/// Opens the store. A run that was killed may still be ending.
fn open(folder: &Folder) -> Store {
    let begun = Instant::now();
    loop {
        match Store::open(&folder.data(), &folder.manifest) {
            Err(StoreError::Locked { .. }) if begun.elapsed() < LOCK_WAIT => {
                std::thread::sleep(Duration::from_millis(50));
            }
            opened => return opened.unwrap(),
        }
    }
}

fn set(clock: &Simulated, now: Millis) {
    clock.set(now, now.0 - FIRST.0);
}

/// How many of the workload's events the log has: the nonce of each is its index.
fn appended(view: &View<'_>, folder: &Folder) -> u64 {
    let log = folder.log();
    let size = view.log(&log).unwrap().map_or(0, |record| record.state.size);
    // The last entry is a state entry; before it is an event, or the adoption at the beginning.
    let Some(last) = size.checked_sub(2) else { return 0 };
    let bytes = view.entries(&log, last, 1, ENTRY_BYTES_MAX).unwrap().pop().unwrap();
    let entry = VerifiedEntry::decode(bytes, &folder.manifest.federation()).unwrap();
    entry.event().map_or(0, |signed| u64::from_be_bytes(signed.event().nonce.0) + 1)
}

/// When events are made. A registration's time is part of the identity's id.
#[derive(Clone, Copy)]
pub(crate) enum Made {
    /// At the simulated time of their index.
    Then,
    /// All at this time, but registrations at that of their index.
    At(Millis),
    /// All at this time.
    AllAt(Millis),
}

/// Makes events. Each is the same whenever it is made.
pub(crate) struct Signer<'a> {
    workload: &'a Workload,
    federation: FederationId,
    home: Domain,
    operator: &'a SecretKey,
    pub(crate) made: Made,
    /// Both versions of each provider's key.
    keys: Vec<[OnceLock<SecretKey>; 2]>,
    ids: Vec<OnceLock<IdentityId>>,
}

impl<'a> Signer<'a> {
    pub(super) fn new(folder: &'a Folder, workload: &'a Workload) -> Self {
        let home = (domain(OPERATOR), &folder.node_key);
        Self::of(folder.manifest.federation(), home, workload, Made::Then)
    }

    /// Of a home whose operator has this key.
    pub(crate) fn of(
        federation: FederationId,
        (home, operator): (Domain, &'a SecretKey),
        workload: &'a Workload,
        made: Made,
    ) -> Self {
        let shape = workload.shape();
        Self {
            workload,
            federation,
            home,
            operator,
            made,
            keys: (0..shape.providers.min(shape.identities)).map(|_| [OnceLock::new(), OnceLock::new()]).collect(),
            ids: (0..shape.identities).map(|_| OnceLock::new()).collect(),
        }
    }

    /// Signs and verifies on all cores.
    fn sign_all(&self, range: Range<u64>) -> Vec<VerifiedEvent> {
        let signed = range.into_par_iter().map(|index| self.sign(index));
        signed.map(|signed| signed.verify(&self.federation).unwrap()).collect()
    }

    pub(crate) fn sign(&self, index: u64) -> SignedEvent {
        let created = match self.made {
            Made::Then => time(index),
            Made::At(now) | Made::AllAt(now) => now,
        };
        let (home, step) = (self.home.clone(), self.workload.step(index));
        let at = |action| event(self.federation, action, created, index);
        match step {
            Step::Register { identity } => {
                let key = self.key(identity, 1);
                let event = self.registration(identity, &key);
                sign(event, &key, None)
            }
            Step::Admit { provider } => {
                let (service, domain) = ("ratings".parse().unwrap(), domain("ratings.example"));
                let (operator, provider, method) = (home, self.id(provider), Method::Manual);
                sign(at(Action::Admit { operator, provider, service, domain, method, from: 0 }), self.operator, None)
            }
            Step::Rotate { identity } => {
                let (old, new) = (self.key(identity, 1), self.key(identity, 2));
                let (identity, key) = (self.id(identity), new.public());
                sign(at(Action::Rotate { home, identity, version: 2, key, next: None }), &old, Some(&new))
            }
            Step::Revoke { identity } => {
                let old = self.key(identity, 1);
                let (identity, key, reason) = (self.id(identity), old.public(), RevokeReason::Retired);
                sign(at(Action::Revoke { home, identity, version: 1, key, reason }), &old, None)
            }
            Step::Attest { issuer, subject, delta } => {
                let version = self.workload.version_at(issuer, index);
                let key = self.keys[issuer as usize][version as usize - 1].get_or_init(|| self.key(issuer, version));
                let (issuer, subject) = (self.id(issuer), self.id(subject));
                sign(at(Action::Attest { home, issuer, subject, delta, context: None, note: None }), key, None)
            }
        }
    }

    fn key(&self, identity: u32, version: u32) -> SecretKey {
        self.workload.key(identity, version).unwrap()
    }

    fn registration(&self, identity: u32, key: &SecretKey) -> Event {
        let (home, name) = (self.home.clone(), format!("person-{identity}").parse().unwrap());
        let index = self.workload.registered_at(identity);
        let action = Action::Register { home, name, key: key.public(), next: None, note: None };
        let created = if let Made::AllAt(now) = self.made { now } else { time(index) };
        event(self.federation, action, created, index)
    }

    fn id(&self, identity: u32) -> IdentityId {
        *self.ids[identity as usize].get_or_init(|| self.registration(identity, &self.key(identity, 1)).id())
    }
}

pub(crate) fn sign(event: Event, key: &SecretKey, new: Option<&SecretKey>) -> SignedEvent {
    let text = event.text();
    let countersignature = new.map(|new| new.sign(text.as_bytes()));
    SignedEvent { signer: key.public(), signature: key.sign(text.as_bytes()), countersignature, event }
}

/// Lines that say how far it is.
struct Progress {
    last: Instant,
    events: u64,
}

impl Progress {
    fn new(events: u64) -> Self {
        Self { last: Instant::now(), events }
    }

    fn tell(&mut self, folder: &Folder, events: u64) {
        let elapsed = self.last.elapsed();
        if elapsed < LINES {
            return;
        }
        let rate = (events - self.events) as f64 / elapsed.as_secs_f64();
        let (memory, disk) = (memory("self") >> 20, bytes(&folder.data()) as f64 / events as f64);
        println!(
            "{events:>11} events {rate:>8.0} per second {memory:>6} MiB of memory {disk:>6.0} bytes an event on disk"
        );
        *self = Self { last: Instant::now(), events };
    }
}
