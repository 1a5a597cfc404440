//! The own log: checks submissions, appends them in one durable write, signs the new head and answers.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fama_ledger::batch::{Batch, Folded, ReplayError};
use fama_ledger::checkpoint::{Checkpoint, SignedCheckpoint};
use fama_ledger::entry::{VerifiedEntry, VerifiedEvent};
use fama_ledger::event::{Action, Event};
use fama_ledger::fold::{Effect, Outcome, Void};
use fama_ledger::id::{Domain, EventId, IdentityId, NoteHash};
use fama_ledger::join::{Join, LogState, Numbers, Scores};
use fama_ledger::limits;
use fama_ledger::log::leaf_hash;
use fama_ledger::time::{DAY_MILLIS, Millis};
use tokio::sync::oneshot;

use super::reserve::{Purpose, Reserve};
use super::{Inbox, InboxInput, Own, StoredRoots, SubmitOutcome, Submitted};
use crate::certified::Write;
use crate::replay::{Fatal, LogCopy, adopted};
use crate::store::{Commit, DayUsage, Store, StoreError, View};
use crate::wire::{Refusal, SignedHead};

/// When a claim is worth another try whose key this node has not seen yet.
const NOT_SEEN_SECONDS: u32 = 10;

/// Entries and their outcomes, in order.
type Built = (Vec<VerifiedEntry>, Vec<Option<Outcome>>);
/// For each submission, in order: its number of events, and where its outcomes go.
type Replies = Vec<(usize, oneshot::Sender<Vec<SubmitOutcome>>)>;

/// Submissions that wait for the next batch, and when it is due.
#[derive(Default)]
pub(super) struct PendingSubmissions {
    events: Vec<Submitted>,
    replies: Replies,
    due: Option<Duration>,
    last: Option<Duration>,
    interval: Duration,
    /// Size of the own log at its last announcement.
    pub(super) announced: u64,
}

impl PendingSubmissions {
    pub(super) const fn len(&self) -> usize {
        self.events.len()
    }

    /// Adds events. They are due at once, or when the interval since the last batch is over.
    pub(super) fn push(&mut self, events: Vec<Submitted>, reply: oneshot::Sender<Vec<SubmitOutcome>>, now: Duration) {
        self.replies.push((events.len(), reply));
        self.events.extend(events);
        let earliest = self.last.map(|last| last + self.interval);
        self.due.get_or_insert_with(|| earliest.unwrap_or(now));
    }

    pub(super) fn due_in(&self, now: Duration) -> Option<Duration> {
        self.due.map(|due| due.saturating_sub(now))
    }

    pub(super) fn is_due(&self, now: Duration) -> bool {
        self.len() >= limits::BATCH_ENTRIES_MAX || self.due.is_some_and(|due| due <= now)
    }

    fn take(&mut self, interval: Duration, now: Duration) -> (Vec<Submitted>, Replies) {
        (self.due, self.last, self.interval) = (None, Some(now), interval);
        (std::mem::take(&mut self.events), std::mem::take(&mut self.replies))
    }
}

/// The decision on an event, before the batch is durable.
enum EventVerdict {
    /// A new entry, at this position in the batch.
    New(usize),
    /// The log already has the event, at this index.
    Known(u64),
    /// Refused; the code is a constant for the metric.
    Refused(&'static str, Refusal),
    Unsponsored,
}

impl Inbox {
    /// Appends all waiting submissions, each batch in one durable write, signs the new heads and answers.
    ///
    /// # Errors
    /// [`Fatal`].
    #[doc(hidden)]
    pub fn append(&mut self) -> Result<(), Fatal> {
        if self.reload {
            self.refuse_all();
            return Ok(());
        }
        let interval = Duration::from_millis(self.shared.manifest.policy().batch_ms);
        let (events, replies) = self.waiting.take(interval, self.shared.clock.monotonic());
        if events.is_empty() && replies.is_empty() {
            return Ok(());
        }
        // A version that is due is adopted in a batch of its own first: this batch is judged under it. A crash between
        // the two leaves a whole batch behind; the submissions get no answer and come again.
        self.adopt()?;
        let mut answers = match self.may_write().and_then(|()| self.has_begun()) {
            Ok(()) => self.append_all(events)?,
            Err(waiting) => {
                self.claims_due = true;
                let refusal = Refusal {
                    code: "not_ready".into(),
                    message: format!("this node does not accept events yet: {}", waiting.code()),
                    retry_after: Some(2),
                };
                events.iter().map(|_| SubmitOutcome::Refused(refusal.clone())).collect()
            }
        }
        .into_iter();
        for (count, reply) in replies {
            // Everything answered here is durable and below a signed head. A crash before an answer leaves loses no
            // event: submitted again, it is found in the log and gets the same receipt.
            // A client that has gone gets the outcome when it submits the event again.
            let _ = reply.send(answers.by_ref().take(count).collect());
        }
        Ok(())
    }

    /// Whether the own log has its first adoption; without it the log accepts no events.
    fn has_begun(&self) -> Result<(), fama_ledger::replica::WaitReason> {
        let copy = self.own.as_ref().and_then(|own| self.copies.get(own.log.as_ref()?));
        let begun = copy.is_some_and(|copy| copy.tree.size() > 0);
        if begun { Ok(()) } else { Err(fama_ledger::replica::WaitReason::Starting) }
    }

    /// Refuses all waiting submissions because of a reload; clients have to submit them again.
    pub(super) fn refuse_all(&mut self) {
        let (events, replies) = self.waiting.take(Duration::ZERO, self.now());
        let mut events = events.into_iter();
        for (count, reply) in replies {
            super::refuse(InboxInput::Submit { events: events.by_ref().take(count).collect(), reply });
        }
    }

    fn append_all(&mut self, mut events: Vec<Submitted>) -> Result<Vec<SubmitOutcome>, Fatal> {
        let Some(log) = self.own.as_ref().and_then(|own| own.log.clone()) else { return Ok(Vec::new()) };
        let mut answers = Vec::with_capacity(events.len());
        while !events.is_empty() {
            let rest = events.split_off(events.len().min(limits::BATCH_ENTRIES_MAX));
            answers.extend(self.append_batch(&log, std::mem::replace(&mut events, rest))?);
        }
        Ok(answers)
    }

    fn append_batch(
        &mut self,
        log: &fama_ledger::manifest::LogId,
        events: Vec<Submitted>,
    ) -> Result<Vec<SubmitOutcome>, Fatal> {
        let begun = self.shared.clock.monotonic();
        let (store, manifest) = (Arc::clone(&self.shared.store), Arc::clone(&self.shared.manifest));
        let view = store.view();
        // Until `write`, only memory changes. A crash or an error leaves the disk as it was, and nobody was answered.
        let size = self.replica.head(log).map_or(0, |head| head.size);
        let mut batch = Batch::begin(&manifest, log, &view, size).map_err(|error| Fatal::rows(log, error))?;
        let now = self.shared.clock.now();
        let usage = self.usage.on(batch.entry_time(now).day());
        let mut builder = BatchBuilder::new(log, &view, Join::new(&manifest, &view), now, usage)?;
        builder.backlog_age = self.backlog_age()?;
        // A revocation that is taken over from another log may be among those refused for it.
        self.claims_due |= builder.backlog_age.is_some_and(|age| age > manifest.policy().max_lag_ms);
        let mut notes = Vec::new();
        let mut verdicts = Vec::with_capacity(events.len());
        for Submitted { event, note, recovered, forwarder } in events {
            let verdict = builder.judge(&mut batch, event, recovered, forwarder)?;
            notes.extend(note.filter(|_| matches!(verdict, EventVerdict::New(_))));
            verdicts.push(verdict);
        }
        let built = builder.built;
        let taken = built.0.len();
        let new: Vec<Vec<u8>> = built.0.iter().map(|entry| entry.bytes().to_vec()).collect();
        if taken > 0 {
            if builder.usage != self.usage {
                // A crash between this write and the batch's counts bytes that the log does not have: until midnight it
                // takes a little less in, never more.
                store.put_day_usage(&builder.usage)?;
                self.usage = builder.usage;
            }
            let changes: Vec<Event> = built.0.iter().filter_map(access_change).collect();
            // An error from here on is fatal: whether the batch is on disk is unknown, and the next start finds out.
            self.write(&store, batch, built, &notes)?;
            changes.iter().for_each(|event| self.tell_access_change(event));
            self.shared.metrics.batch(taken as u64, self.shared.clock.monotonic().saturating_sub(begun).as_secs_f64());
            self.shared.metrics.accepted(taken as u64);
        }
        verdicts.into_iter().map(|verdict| self.answer(log, size, &new, verdict)).collect()
    }

    /// Leaves a line of the audit trail, whose events are in the ledger.
    fn tell_access_change(&self, event: &Event) {
        let (kind, id) = (event.action.kind().as_str(), event.id());
        self.shared.metrics.access_changed(kind);
        match &event.action {
            Action::Grant { issuer, subject, scope, .. } | Action::Ungrant { issuer, subject, scope, .. } => {
                tracing::info!(kind, %issuer, %subject, scope = scope.as_str(), event = %id, "access was changed");
            }
            Action::Suspend { operator, identity, reason } => {
                let reason = reason.as_str();
                tracing::info!(kind, %operator, subject = %identity, reason, event = %id, "access was changed");
            }
            Action::Resume { operator, identity } => {
                tracing::info!(kind, %operator, subject = %identity, event = %id, "access was changed");
            }
            _ => {}
        }
    }

    /// Turns a verdict into the answer. `new` are the batch's encoded entries, which are durable now.
    fn answer(
        &self,
        log: &fama_ledger::manifest::LogId,
        size: u64,
        new: &[Vec<u8>],
        verdict: EventVerdict,
    ) -> Result<SubmitOutcome, Fatal> {
        let (index, entry) = match verdict {
            EventVerdict::Refused(code, refusal) => {
                self.shared.metrics.refused(code);
                return Ok(SubmitOutcome::Refused(refusal));
            }
            EventVerdict::Unsponsored => return Ok(SubmitOutcome::Unsponsored),
            EventVerdict::New(position) => (size + position as u64, new.get(position).cloned()),
            EventVerdict::Known(index) => (index, None),
        };
        let known = entry.is_none();
        let stored = || Ok(self.shared.store.view().entry(log, index)?);
        let entry = entry.map_or_else(stored, |entry| Ok::<_, Fatal>(Some(entry)))?;
        let entry = entry.ok_or(Fatal::Internal("an appended entry is in the store"))?;
        let signed =
            self.replica.newest(log).cloned().ok_or(Fatal::Internal("a log with entries has a signed head"))?;
        Ok(SubmitOutcome::Taken { index, entry, signed, known })
    }

    /// Ends a batch of the own log: makes it durable, then signs the new head, then announces it.
    pub(super) fn write(
        &mut self,
        store: &Store,
        batch: Batch<'_, View<'_>>,
        (mut entries, outcomes): Built,
        notes: &[(NoteHash, String)],
    ) -> Result<(), Fatal> {
        let Some((log, key)) = self.own.as_ref().and_then(Own::writes) else {
            return Err(Fatal::Internal("a mirror writes no log"));
        };
        let Some(LogCopy { tree, maps: Some(maps) }) = self.copies.get_mut(log) else {
            return Err(Fatal::Internal("the own log is loaded"));
        };
        // Maps and tree run ahead of the disk from here to `commit`. If that fails, the process ends with them, and the
        // next start loads both from disk.
        let folded = match batch.finish(maps) {
            Ok(folded) => folded,
            Err(ReplayError::Rows(error)) => return Err(Fatal::rows(log, error)),
            Err(_) => return Err(Fatal::Internal("the batch has entries")),
        };
        let Folded { changes, read, nodes, state_root, time } = &folded;
        let state_root = *state_root;
        entries.push(VerifiedEntry::state(*time, state_root));
        let first = tree.size();
        let tiles = tree.append(entries.iter().map(|entry| leaf_hash(entry.bytes())));
        let head = tree.head();
        let state = LogState { log: log.clone(), size: head.size, root: head.root, state_root };
        let adopted = adopted(&entries, head.size);
        let (entries, outcomes) = (&entries[..], &outcomes[..]);
        // Readers at the certified state need the rows as they were: kept before the write can be seen. In memory only;
        // after a crash there is no certified state to read until the next certificate.
        self.shared.certified.before(log, [Write { changes, read, nodes }], &store.view())?;
        let states = Self::open_statements(&self.shared, log, first, outcomes);
        // The point of no return: one atomic, synced write. A crash before or within it leaves nothing of the batch. A
        // crash after it leaves entries below a head without a signature: `stored_newest` signs it at the start.
        store.commit(&[Commit { state, first, entries, outcomes, tiles, changes, nodes, notes }])?;
        maps.trim(store.nodes_max());
        self.shared.certified.after(log, head.size, maps);
        // Signed only now that the head is durable, so that no other head of this size can ever be signed.
        let signed = SignedCheckpoint::sign(Checkpoint { origin: self.shared.manifest.origin(log), head }, key);
        // Not synced. If a crash loses it, the start signs the same head again, with the same bytes (Ed25519).
        store.put_newest(log, &SignedHead::of(&signed))?;
        if states {
            self.stated();
        }
        // The head leaves the node last, as an announcement and under this operator's own cosignature, which is synced
        // before it leaves. After a crash here, peers read the head from this node's frontier.
        let outputs = self.replica.appended(signed, adopted, self.millis(), &StoredRoots(store))?;
        self.perform(outputs)
    }
}

/// Decides on the events of one batch, one by one, and collects the entries.
struct BatchBuilder<'a> {
    log: &'a fama_ledger::manifest::LogId,
    view: &'a View<'a>,
    join: Join<'a, View<'a>>,
    now: Millis,
    built: Built,
    indexes: BTreeMap<EventId, usize>,
    /// How many numbers of each provider this batch has used.
    numbers: BTreeMap<IdentityId, u64>,
    /// Each provider's sponsored numbers, as first read from the view.
    sponsored: BTreeMap<IdentityId, Numbers>,
    /// Whether the view keeps the sponsored numbers of all providers.
    has_scores: bool,
    /// The age of the log's oldest event without a certificate, in milliseconds.
    backlog_age: Option<u64>,
    /// What the day is used for, with this batch.
    usage: DayUsage,
}

impl<'a> BatchBuilder<'a> {
    fn new(
        log: &'a fama_ledger::manifest::LogId,
        view: &'a View<'a>,
        join: Join<'a, View<'a>>,
        now: Millis,
        usage: DayUsage,
    ) -> Result<Self, StoreError> {
        let (built, indexes, numbers, sponsored) = Default::default();
        let (has_scores, backlog_age) = (view.has_scores()?, None);
        Ok(Self { log, view, join, now, built, indexes, numbers, sponsored, has_scores, backlog_age, usage })
    }

    fn judge(
        &mut self,
        batch: &mut Batch<'a, View<'a>>,
        event: VerifiedEvent,
        recovered: bool,
        forwarder: Option<Domain>,
    ) -> Result<EventVerdict, Fatal> {
        let id = event.id();
        if let Some(position) = self.indexes.get(&id) {
            return Ok(EventVerdict::New(*position));
        }
        let known = self.view.position(&id, self.log)?.filter(|position| position.void.is_none());
        let known = known.map(|known| EventVerdict::Known(known.index));
        let ours = self.join.manifest().homes().get(event.event().action.place()) == Some(self.log);
        let revocation = matches!(event.event().action, Action::Revoke { .. });
        match known {
            // This log recorded a claim, and has received the home since: the revocation must still be judged there.
            Some(known) if ours && revocation => return self.judge_claim(batch, event, known),
            Some(known) => return Ok(known),
            None => {}
        }
        let purpose = match self.purpose(&event, ours, recovered, forwarder)? {
            Ok(purpose) => purpose,
            Err(refusal) => return Ok(refusal),
        };
        if let Some(refusal) = self.refusal(batch, &event, &purpose, recovered) {
            return Ok(refusal);
        }
        let issuer = issuer(&event);
        if !self.sponsored(&event)? {
            return Ok(EventVerdict::Unsponsored);
        }
        match batch.admit(event, self.now) {
            Ok(Ok((entry, effect))) => {
                if let Some(issuer) = issuer {
                    *self.numbers.entry(issuer).or_default() += 1;
                }
                Ok(self.take(id, entry, effect, &purpose))
            }
            // The manifest in use gives this log the home, but the log has not adopted that version yet.
            Ok(Err(Void::NotHome)) if ours => Ok(EventVerdict::Refused("not_ready", not_adopted())),
            Ok(Err(void)) => Ok(EventVerdict::Refused(void.code(), void_refusal(void, self.now))),
            Err(ReplayError::Unheld(_)) => Err(Fatal::Internal("an event adopts nothing")),
            Err(ReplayError::Rows(error)) => Err(Fatal::rows(self.log, error)),
            Err(ReplayError::Invalid(_)) => Err(Fatal::Internal("the batch builder keeps the limits of batch and day")),
        }
    }

    fn take(&mut self, id: EventId, entry: VerifiedEntry, effect: Effect, purpose: &Purpose) -> EventVerdict {
        self.usage.count(purpose, entry.bytes().len() as u64);
        let position = self.built.0.len();
        self.indexes.insert(id, position);
        self.built.0.push(entry);
        self.built.1.push(Some(Ok(effect)));
        EventVerdict::New(position)
    }

    /// Decides on a revocation that this log already has: applied if its home has not judged it yet, else known.
    fn judge_claim(
        &mut self,
        batch: &mut Batch<'a, View<'a>>,
        event: VerifiedEvent,
        known: EventVerdict,
    ) -> Result<EventVerdict, Fatal> {
        let id = event.id();
        if self.refusal(batch, &event, &Purpose::Revocation, true).is_some() {
            return Ok(known);
        }
        match batch.admit(event, self.now) {
            Ok(Ok((entry, effect))) => Ok(self.take(id, entry, effect, &Purpose::Revocation)),
            Ok(Err(_)) => Ok(known),
            Err(ReplayError::Rows(error)) => Err(Fatal::rows(self.log, error)),
            Err(_) => Err(Fatal::Internal("the batch builder keeps the limits of batch and day")),
        }
    }

    /// What the event is taken in for; a claim must be against the key that this node knows as current in its home, or
    /// against a later one that a receipt shows. The fold cannot know that: it reads no other log's maps. Claims against
    /// other versions could be made without end.
    fn purpose(
        &self,
        event: &VerifiedEvent,
        ours: bool,
        shown: bool,
        forwarder: Option<Domain>,
    ) -> Result<Result<Purpose, EventVerdict>, Fatal> {
        let Action::Revoke { home, identity, version, key, .. } = &event.event().action else {
            return Ok(Ok(match (&event.event().action, forwarder) {
                (Action::Rotate { .. }, _) => Purpose::Rotation,
                (Action::Register { .. }, Some(forwarder)) => Purpose::Forwarded(forwarder),
                _ => Purpose::Other,
            }));
        };
        if ours {
            return Ok(Ok(Purpose::Revocation));
        }
        let fault = |error| Fatal::rows(self.log, error);
        let void = |void| Ok(Err(EventVerdict::Refused(Void::code(void), void_refusal(void, self.now))));
        let found = self.join.identity(*identity).map_err(fault)?;
        let home = match &found {
            Some(found) if shown && *version > found.identity.version => &found.home,
            Some(found) if *version > found.identity.version => return Ok(Err(not_seen(Void::WrongVersion))),
            Some(found) if *version < found.identity.version => return void(Void::WrongVersion),
            Some(found) => {
                let signer = event.signed().signer.hash();
                if !self.join.fits_chain(found, *version, key.hash(), signer).map_err(fault)? {
                    return void(Void::NotAuthorized);
                }
                &found.home
            }
            None if shown => home,
            None => return Ok(Err(not_seen(Void::UnknownIdentity))),
        };
        let Some(carrier) = self.join.manifest().homes().get(home) else { return void(Void::NotHome) };
        Ok(Ok(Purpose::Claim(carrier.operator.clone())))
    }

    /// Checks the node's clock and the log's daily limit, before the fold checks the rest.
    fn refusal(
        &self,
        batch: &Batch<'a, View<'a>>,
        event: &VerifiedEvent,
        purpose: &Purpose,
        recovered: bool,
    ) -> Option<EventVerdict> {
        let (created, action) = (event.event().created.0, &event.event().action);
        if !batch.takes(action) {
            let message = "the manifest that this log has adopted is of a protocol without this kind of event";
            return Some(EventVerdict::Refused("later_kind", Refusal::new("later_kind", message)));
        }
        let revocation = matches!(action, Action::Revoke { .. });
        if !revocation && !recovered && created.abs_diff(self.now.0) > limits::SUBMIT_SKEW_MILLIS_MAX {
            let message = format!("created is {}, more than 5 minutes from this node's clock", event.event().created);
            return Some(EventVerdict::Refused("outside_window", Refusal::new("outside_window", message)));
        }
        let max_lag = batch.policy().max_lag_ms;
        if self.backlog_age.is_some_and(|age| age > if revocation { max_lag } else { max_lag / 2 }) {
            let message =
                "too few operators cosigned this log for hours: it accepts nothing that nobody would vouch for";
            let refusal = Refusal { retry_after: Some(60), ..Refusal::new("uncertified", message) };
            return Some(EventVerdict::Refused("uncertified", refusal));
        }
        let max = batch.policy().daily_bytes;
        let reserve = Reserve::of(batch.policy(), self.join.manifest().faults());
        let most = limits::ENTRY_BYTES_MAX as u64 + limits::NOTE_QUOTA_BYTES;
        let most = most.saturating_add(reserve.kept_from(purpose, &self.usage));
        let time = batch.entry_time(self.now);
        if batch.bytes_on(time).saturating_add(most) > max {
            return Some(self.full("the log has reached its limit for today".into()));
        }
        if let Purpose::Forwarded(operator) = purpose
            && self.usage.forwarded.get(operator).is_some_and(|count| *count >= reserve.forwarded_each)
        {
            let message = format!("the node of {operator} has forwarded its share of today's registrations");
            let refusal = Refusal { retry_after: Some(until_midnight(self.now)), ..Refusal::new("rate", message) };
            return Some(EventVerdict::Refused("rate", refusal));
        }
        if let Purpose::Claim(operator) = purpose {
            let bytes = VerifiedEntry::of(time, event.clone()).bytes().len() as u64;
            if !reserve.takes_claim(operator, bytes, &self.usage) {
                return Some(self.full(format!("the log has today's share of claims against homes of {operator}")));
            }
        }
        None
    }

    fn full(&self, message: String) -> EventVerdict {
        let retry_after = Some(until_midnight(self.now));
        EventVerdict::Refused("daily_bytes", Refusal { code: "daily_bytes".into(), message, retry_after })
    }

    fn sponsored(&mut self, event: &VerifiedEvent) -> Result<bool, Fatal> {
        let Action::Attest { home, issuer, .. } = &event.event().action else { return Ok(true) };
        let fault = |error| Fatal::rows(self.log, error);
        let given = self.numbers.get(issuer).copied().unwrap_or_default();
        let next = self.join.next_number(home, *issuer).map_err(fault)?.saturating_add(given);
        if let Some(numbers) = self.sponsored.get(issuer) {
            return Ok(numbers.contains(next));
        }
        let numbers = if self.has_scores {
            self.view.numbers(issuer)?.unwrap_or_default()
        } else {
            self.join.sponsored(*issuer).map_err(fault)?
        };
        let sponsored = numbers.contains(next);
        self.sponsored.insert(*issuer, numbers);
        Ok(sponsored)
    }
}

/// The refusal of a claim against what this node may only not have seen yet.
fn not_seen(void: Void) -> EventVerdict {
    let message = "this node has not seen that key in its home's log: submit again later, or with the receipt of the \
        registration or rotation that brought it";
    let refusal = Refusal { code: void.code().into(), message: message.into(), retry_after: Some(NOT_SEEN_SECONDS) };
    EventVerdict::Refused(void.code(), refusal)
}

fn not_adopted() -> Refusal {
    let message = "this log accepts events of that home once it has adopted the new version of the manifest".into();
    Refusal { code: "not_ready".into(), message, retry_after: Some(2) }
}

const fn issuer(event: &VerifiedEvent) -> Option<IdentityId> {
    match &event.event().action {
        Action::Attest { issuer, .. } | Action::Retract { issuer, .. } => Some(*issuer),
        _ => None,
    }
}

fn until_midnight(now: Millis) -> u32 {
    u32::try_from((DAY_MILLIS - now.0 % DAY_MILLIS) / 1_000 + 1).unwrap_or(u32::MAX)
}

/// The refusal of an event that the fold would make void.
fn void_refusal(void: Void, now: Millis) -> Refusal {
    let message = match void {
        Void::NotHome => "another log carries this home",
        Void::Future => "created is too far in the future",
        Void::Stale => "created is too long ago",
        Void::UnknownIdentity => "no such identity is registered in this home",
        Void::NotAuthorized => "the signing key may not sign this: it is not the identity's current or committed key",
        Void::Revoked => "the identity's key is revoked",
        Void::WrongVersion => {
            "the version is not the next one, or not the current one; request the agent and see its key_version"
        }
        Void::NameTaken => "another identity of this home has that name",
        Void::KeyInUse => "an identity of this home has or had that key",
        Void::Delta => "delta is 0 or larger than the federation's policy allows",
        Void::SelfAttestation => "an agent cannot attest karma to itself",
        Void::NotFound => "no such attestation of this issuer to this subject on that day",
        Void::Duplicate => "the log already has this",
        Void::AlreadyRetracted => "that attestation is already retracted",
        Void::Superseded => "the log has a later statement on this provider, service and domain",
        Void::Cap => "nothing is left of the day's cap from this issuer to this subject",
        Void::Quota => "the day's quota is used up",
    };
    let retry_after = (void == Void::Quota).then(|| until_midnight(now));
    Refusal { code: void.code().into(), message: message.into(), retry_after }
}

/// The event of an entry, if it changes what an identity may do.
fn access_change(entry: &VerifiedEntry) -> Option<Event> {
    let event = entry.event()?.event();
    let changes = matches!(
        event.action,
        Action::Grant { .. } | Action::Ungrant { .. } | Action::Suspend { .. } | Action::Resume { .. }
    );
    changes.then(|| event.clone())
}
