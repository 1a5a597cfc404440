//! Handles submissions: verifies each, sends it to the log that takes it, and answers with a receipt.
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fama_ledger::checkpoint;
use fama_ledger::entry::{EntryError, SignedEvent, VerifiedEntry, VerifiedEvent};
use fama_ledger::event::Action;
use fama_ledger::id::{Domain, NoteHash};
use fama_ledger::log::{self, Prover};
use fama_ledger::manifest::{LogId, Manifest, Operator};
use fama_ledger::note::{Note, note_hash};
use fama_ledger::proof::TlogProof;
use futures::future::join_all;
use libp2p::PeerId;
use rayon::prelude::*;
use tokio::sync::{mpsc, oneshot};

use crate::inbox::{InboxInput, SubmitOutcome, Submitted};
use crate::network::{Network, peer_id};
use crate::public::inclusion;
use crate::shared::Shared;
use crate::store::{LogTiles, Position, StoreError};
use crate::verify;
use crate::wire::{self, NoteAnswer, Receipt, Refusal, Submission, SubmitRequest, SubmitResponse, SubmitResult};

pub(crate) mod admission;
mod forward;
pub(crate) mod permits;

use admission::{Admission, SubmissionOrigin};
use forward::Forwards;
use permits::{Permit, Permits};

/// Requests of all strangers together that are handled at once; more are refused as busy. Strangers are peers that are
/// not operators.
const REQUESTS_STRANGERS_MAX: usize = 48;
/// Of [`REQUESTS_STRANGERS_MAX`], those of one stranger.
const REQUESTS_PER_STRANGER_MAX: usize = 16;
/// Requests of one operator that are handled at once.
const REQUESTS_PER_OPERATOR_MAX: usize = 24;
/// Requests of all strangers together that wait at once for sponsors' logs; more are answered at once from what this node
/// has.
const WAITS_STRANGERS_MAX: usize = 8;
/// Of [`WAITS_STRANGERS_MAX`], those of one stranger.
const WAITS_PER_STRANGER_MAX: usize = 2;
/// Requests of one operator that wait at once for sponsors' logs.
const WAITS_PER_OPERATOR_MAX: usize = 4;
/// Shortest time between two rounds that ask all peers for new entries because a request waits.
const ASK_PAUSE: Duration = Duration::from_millis(250);
/// How often an attestation of an unsponsored issuer is tried while sponsors' logs are fetched.
const SPONSOR_TRIES: usize = 4;
/// Pause between these tries.
const SPONSOR_WAIT: Duration = Duration::from_millis(500);

/// Answers the submissions of peers, and forwards those that belong to another operator's log.
pub(crate) struct Submitter {
    shared: Shared,
    own: Option<LogId>,
    /// This node's own peer id.
    peer: PeerId,
    inputs: mpsc::Sender<InboxInput>,
    network: Network,
    admission: Admission,
    slots: Arc<Permits>,
    forwards: Forwards,
    revocations: Forwards,
    waits: Arc<Permits>,
    asked: Mutex<Option<Instant>>,
}

/// Why a submission is not handled any further.
enum Unfit {
    Refused(Refusal),
    /// It can never be valid, and no honest node passes it on: its sender is at fault.
    Forged(Refusal),
}

impl From<Unfit> for Refusal {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::Refused(refusal) | Unfit::Forged(refusal) => refusal,
        }
    }
}

/// A submission, and its event where that is verified already.
type Offered = (Submission, Option<VerifiedEvent>);

/// A verified submission and the log that takes it.
struct Routed {
    log: LogId,
    submission: Submission,
    submitted: Submitted,
    /// What this node knows of the event already.
    held: Held,
    /// Whether the note came later than its event: the event is in this node's copy, the note's text is not.
    is_late: bool,
}

/// A submission before its signatures are verified.
struct Prepared {
    log: LogId,
    submission: Submission,
    /// The note, if it is kept here.
    note: Option<(NoteHash, String)>,
}

/// What this node has of an event before the home's log is asked.
enum Held {
    Nothing,
    /// The home's log has it, as far as this node's copy shows.
    Logged,
    /// It is final: the receipt.
    Final(Receipt),
}

impl Submitter {
    /// `own` is the log that this node writes, if any; `peer` is its own peer id.
    #[must_use]
    pub(crate) fn new(
        shared: Shared,
        (own, peer): (Option<LogId>, PeerId),
        inputs: mpsc::Sender<InboxInput>,
        network: Network,
        admission: Admission,
    ) -> Self {
        let requests = (REQUESTS_STRANGERS_MAX, REQUESTS_PER_STRANGER_MAX, REQUESTS_PER_OPERATOR_MAX);
        let waits = (WAITS_STRANGERS_MAX, WAITS_PER_STRANGER_MAX, WAITS_PER_OPERATOR_MAX);
        Self {
            slots: Permits::new(requests),
            forwards: Forwards::new(&shared.manifest, forward::EVENTS),
            revocations: Forwards::new(&shared.manifest, forward::REVOCATIONS),
            waits: Permits::new(waits),
            shared,
            own,
            peer,
            inputs,
            network,
            admission,
            asked: Mutex::default(),
        }
    }

    /// Handles a peer's request. Returns one result per submission, in order.
    pub(crate) async fn submit(
        self: &Arc<Self>,
        peer: PeerId,
        address: Option<IpAddr>,
        request: SubmitRequest,
    ) -> SubmitResponse {
        let SubmitRequest { forwarded, submissions } = request;
        let operator = self.operator_of(peer).is_some();
        let origin = SubmissionOrigin { peer, address, forwarded: forwarded && operator };
        let offered = submissions.into_iter().map(|submission| (submission, None)).collect();
        let (results, forged) = self.handle(&origin, (forwarded, operator), offered).await;
        if forged {
            self.network.penalize(peer, "forged_submission");
        }
        SubmitResponse(results)
    }

    /// Handles the submissions of a client of the submit listener, whose address block counts as one peer, each with its
    /// event. Returns one result per submission, in order.
    pub(crate) async fn submit_from(
        self: &Arc<Self>,
        address: Option<IpAddr>,
        offered: Vec<(Submission, VerifiedEvent)>,
    ) -> Vec<SubmitResult> {
        let origin = SubmissionOrigin { peer: admission::peer_of_block(address), address, forwarded: false };
        let offered = offered.into_iter().map(|(submission, event)| (submission, Some(event))).collect();
        self.handle(&origin, (false, false), offered).await.0
    }

    /// Verifies and routes submissions; also gives whether one of them can never be valid.
    async fn handle(
        self: &Arc<Self>,
        origin: &SubmissionOrigin,
        (forwarded, operator): (bool, bool),
        offered: Vec<Offered>,
    ) -> (Vec<SubmitResult>, bool) {
        let count = offered.len();
        let all = |refusal: &Refusal| (vec![SubmitResult::Refused(refusal.clone()); count], false);
        if count > wire::SUBMISSIONS_MAX {
            return all(&Refusal::new("too_many", format!("at most {} events at a time", wire::SUBMISSIONS_MAX)));
        }
        let Some(_slot) = self.slots.take(origin.peer, operator) else {
            self.shared.metrics.refused("busy");
            return all(&busy());
        };
        let this = Arc::clone(self);
        let forwarder = self.operator_of(origin.peer).filter(|_| forwarded).map(|operator| operator.name.clone());
        let verified = tokio::task::spawn_blocking(move || this.verify_all(offered, forwarder.as_ref())).await;
        let Ok(verified) = verified else { return all(&Refusal::new("internal", "verification stopped")) };
        let forged = verified.iter().any(|one| matches!(one, Err(Unfit::Forged(_))));
        // Other nodes fetch them from here, as they do all notes that they lack.
        let late: Vec<_> = verified.iter().flatten().filter(|one| one.is_late).collect();
        let late: Vec<_> = late.into_iter().filter_map(|one| one.submitted.note.clone()).collect();
        if !late.is_empty() && self.inputs.try_send(InboxInput::Notes(late)).is_err() {
            return all(&busy());
        }
        (self.route(verified, origin, forwarded, operator).await, forged)
    }

    /// Submits the events of an abandoned branch again, and logs the results.
    pub(crate) async fn resubmit(self: &Arc<Self>, submissions: Vec<Submission>) {
        let this = Arc::clone(self);
        let offered = submissions.into_iter().map(|submission| (submission, None)).collect();
        let Ok(verified) = tokio::task::spawn_blocking(move || this.verify_all(offered, None)).await else {
            return;
        };
        let origin = SubmissionOrigin { peer: self.peer, address: None, forwarded: true };
        for result in self.route(verified, &origin, false, true).await {
            match result {
                SubmitResult::Accepted(receipt) => {
                    tracing::info!(event = %receipt.event, "event of an abandoned branch is in its home's log again");
                }
                SubmitResult::Refused(refusal) => {
                    tracing::info!(code = refusal.code, "event of an abandoned branch is refused");
                }
            }
        }
    }

    fn operator_of(&self, peer: PeerId) -> Option<&Operator> {
        self.shared.manifest.operators().iter().find(|operator| peer_id(&operator.node_key) == peer)
    }

    fn verify_all(&self, offered: Vec<Offered>, forwarder: Option<&Domain>) -> Vec<Result<Routed, Unfit>> {
        let prepared: Vec<Result<(Prepared, Option<VerifiedEvent>), Unfit>> =
            offered.into_par_iter().map(|(submission, event)| Ok((self.prepare(submission)?, event))).collect();
        let unverified = prepared.iter().flatten().filter(|(_, event)| event.is_none());
        let signed = unverified.map(|(prepared, _)| prepared.submission.signed.clone()).collect();
        // One for each that is not verified yet, in the same order.
        let mut events = verify::verify_all(signed, &self.shared.manifest.federation()).into_iter();
        let mut event = |event: Option<VerifiedEvent>| event.map_or_else(|| events.next(), |event| Some(Ok(event)));
        let pairs: Vec<_> =
            prepared.into_iter().map(|one| one.map(|(prepared, found)| (prepared, event(found)))).collect();
        let finish = |one: Result<(Prepared, Option<Result<VerifiedEvent, EntryError>>), Unfit>| {
            let (prepared, event) = one?;
            let event = event.ok_or_else(|| Unfit::Refused(Refusal::new("internal", "not verified")))?;
            let event = event.map_err(|error| Unfit::Forged(Refusal::new(error.code(), error)))?;
            Ok(self.finish(prepared, event, forwarder.cloned()))
        };
        pairs.into_par_iter().map(finish).collect()
    }

    /// Makes the checks before those of signatures.
    fn prepare(&self, mut submission: Submission) -> Result<Prepared, Unfit> {
        let action = &submission.signed.event.action;
        let log = self.shared.manifest.log_for(action).ok_or_else(|| {
            let message = format!("no log of this federation carries {}", action.place());
            Unfit::Refused(Refusal::new("unknown_home", message))
        })?;
        let mut note = checked_note(&submission).map_err(Unfit::Refused)?;
        if note.as_ref().is_some_and(|(hash, _)| self.is_redacted(hash)) {
            // Neither kept here nor passed on to the home.
            (note, submission.note) = (None, None);
        }
        Ok(Prepared { log, submission, note })
    }

    fn finish(&self, prepared: Prepared, event: VerifiedEvent, forwarder: Option<Domain>) -> Routed {
        let (manifest, Prepared { log, submission, note }) = (&self.shared.manifest, prepared);
        let shown = submission.recovered.as_ref();
        let recovered = match submission.signed.event.action {
            Action::Revoke { .. } => shown.is_some_and(|shown| shows_version(manifest, &submission.signed, shown)),
            _ => shown.is_some_and(|shown| was_cut(manifest, &submission.signed, shown)),
        };
        let held = self.held(&event, &log).unwrap_or_else(|error| {
            tracing::error!(%error, event = %event.id(), "cannot look up a submitted event");
            Held::Nothing
        });
        let is_late = !matches!(held, Held::Nothing)
            && note.as_ref().is_some_and(|(hash, _)| self.shared.store.view().wants_note(hash).unwrap_or_default());
        let submitted = Submitted { event, note, recovered, forwarder };
        Routed { log, submission, submitted, held, is_late }
    }

    fn is_redacted(&self, hash: &NoteHash) -> bool {
        self.shared.store.view().note(hash).is_ok_and(|note| note == Some(NoteAnswer::Redacted))
    }

    /// What this node has of an event that `home`, the log of its home, takes. An event that took effect in an earlier
    /// generation of the home's log counts too. A revocation's receipt is always the home's, since others only claim it.
    fn held(&self, event: &VerifiedEvent, home: &LogId) -> Result<Held, log::LogError<StoreError>> {
        let (view, manifest, id) = (self.shared.store.view(), &self.shared.manifest, event.id());
        let mut found = view.position(&id, home).map_err(log::LogError::Tiles)?;
        if found.is_none() && manifest.cuts().next().is_some() {
            let positions = view.positions(&id).map_err(log::LogError::Tiles)?;
            found = positions.into_iter().find(|one| one.void.is_none() && manifest.cut(&one.log).is_some());
        }
        let Some(found) = found.filter(|position| position.void.is_none()) else { return Ok(Held::Nothing) };
        if matches!(event.event().action, Action::Revoke { .. }) {
            return Ok(if found.log == *home { Held::Logged } else { Held::Nothing });
        }
        let Some(proof) = inclusion::certified(&view, manifest, &found.log, found.index)? else {
            return Ok(Held::Logged);
        };
        let entry = view.entry(&found.log, found.index).map_err(log::LogError::Tiles)?;
        let entry = entry.ok_or(log::LogError::Range)?;
        let Position { log, index, .. } = found;
        Ok(Held::Final(Receipt { event: id, log, index, known: true, entry, proof: proof.to_string() }))
    }

    /// Sends each submission to its log and returns the results in the order of the submissions. Logs do not wait for one
    /// another, and revocations wait for no other submissions.
    async fn route(
        self: &Arc<Self>,
        verified: Vec<Result<Routed, Unfit>>,
        origin: &SubmissionOrigin,
        forwarded: bool,
        operator: bool,
    ) -> Vec<SubmitResult> {
        let mut results: Vec<Option<SubmitResult>> = verified.iter().map(|_| None).collect();
        let mut groups: BTreeMap<(LogId, bool), Vec<(usize, Routed)>> = BTreeMap::new();
        for (at, routed) in verified.into_iter().enumerate() {
            let routed = match routed.map_err(Refusal::from) {
                Ok(Routed { held: Held::Final(receipt), .. }) => {
                    put(&mut results, at, SubmitResult::Accepted(receipt));
                    continue;
                }
                routed => routed,
            };
            match routed.and_then(|routed| self.admit(&routed, origin).map(|()| routed)) {
                Err(refusal) => put(&mut results, at, SubmitResult::Refused(refusal)),
                Ok(routed) => {
                    // What this node takes itself stays in order: a revocation after the rotation that it follows.
                    let first = routed.revokes() && self.own.as_ref() != Some(&routed.log);
                    groups.entry((routed.log.clone(), first)).or_default().push((at, routed));
                }
            }
        }
        let handled = groups.into_iter().map(async |((log, revokes), group)| {
            let (positions, group): (Vec<usize>, Vec<Routed>) = group.into_iter().unzip();
            let forwards = if revokes { &self.revocations } else { &self.forwards };
            let done = if self.own.as_ref() == Some(&log) {
                self.take(group.into_iter().map(|routed| routed.submitted).collect(), || {
                    self.waits.take(origin.peer, operator)
                })
                .await
            } else if forwarded && operator && revokes {
                self.claim_here(group).await
            } else if forwarded {
                let refusal = Refusal::new("not_home", format!("this node does not carry {log}"));
                vec![SubmitResult::Refused(refusal); group.len()]
            } else if let Some(_wait) = forwards.take(origin.peer, operator, &log.operator) {
                self.forward(&log, group).await
            } else {
                vec![SubmitResult::Refused(busy()); group.len()]
            };
            (positions, done)
        });
        for (positions, done) in join_all(handled).await {
            positions.into_iter().zip(done).for_each(|(at, result)| put(&mut results, at, result));
        }
        let missing = || SubmitResult::Refused(Refusal::new("internal", "no answer"));
        results.into_iter().map(|result| result.unwrap_or_else(missing)).collect()
    }

    /// Applies this node's rates: all of them to events for the log that it writes itself, and those of the sender's
    /// address block to registrations that it would forward.
    /// An event that its log has already costs its sender nothing.
    fn admit(&self, routed: &Routed, origin: &SubmissionOrigin) -> Result<(), Refusal> {
        if matches!(routed.held, Held::Logged) {
            return Ok(());
        }
        if self.own.as_ref() != Some(&routed.log) {
            return self.admission.to_forward(origin, &routed.submission);
        }
        self.admission.submission(origin, &routed.submission)
    }

    /// Appends to this node's own log; tries again those events for which only entries of sponsors' logs are missing.
    async fn take(
        self: &Arc<Self>,
        mut events: Vec<Submitted>,
        may_wait: impl Fn() -> Option<Permit>,
    ) -> Vec<SubmitResult> {
        let mut wait = None;
        let mut results: Vec<Option<SubmitResult>> = events.iter().map(|_| None).collect();
        let mut positions: Vec<usize> = (0..events.len()).collect();
        for left in (0..SPONSOR_TRIES).rev() {
            let again: Vec<Submitted> = events.iter().map(Submitted::copy).collect();
            let answers = self.ask_inbox(std::mem::take(&mut events)).await;
            let mut unsponsored = Vec::new();
            let results_now = self.results(answers).await;
            for ((at, event), result) in std::mem::take(&mut positions).into_iter().zip(again).zip(results_now) {
                match result {
                    Some(result) => put(&mut results, at, result),
                    None => unsponsored.push((at, event)),
                }
            }
            if unsponsored.is_empty() || left == 0 {
                break;
            }
            (positions, events) = unsponsored.into_iter().unzip();
            wait = wait.or_else(&may_wait);
            if wait.is_none() || !self.ask_all().await {
                break;
            }
            tokio::time::sleep(SPONSOR_WAIT).await;
        }
        let message = "the issuer is not sponsored by enough operators for one service at its next number";
        let retry_after = wait.is_none().then_some(1);
        let refusal = Refusal { retry_after, ..Refusal::new("not_sponsored", message) };
        let unsponsored = || SubmitResult::Refused(refusal.clone());
        results.into_iter().map(|result| result.unwrap_or_else(unsponsored)).collect()
    }

    /// Has all peers asked for new entries, unless that was done within [`ASK_PAUSE`]; `false` if the node is stopping.
    async fn ask_all(&self) -> bool {
        let due = {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            let due = asked.is_none_or(|at| at.elapsed() >= ASK_PAUSE);
            if due {
                *asked = Some(Instant::now());
            }
            due
        };
        !due || self.inputs.send(InboxInput::AskAll).await.is_ok()
    }

    async fn ask_inbox(&self, events: Vec<Submitted>) -> Vec<SubmitOutcome> {
        let (count, (reply, answers)) = (events.len(), oneshot::channel());
        let refused = |refusal: Refusal| (0..count).map(|_| SubmitOutcome::Refused(refusal.clone())).collect();
        if self.inputs.try_send(InboxInput::Submit { events, reply }).is_err() {
            return refused(busy());
        }
        answers.await.unwrap_or_else(|_| refused(Refusal::new("stopping", "this node is stopping")))
    }

    /// Makes receipts for the events that were taken, so that the inbox need not; `None` for unsponsored events.
    async fn results(self: &Arc<Self>, answers: Vec<SubmitOutcome>) -> Vec<Option<SubmitResult>> {
        let (this, count) = (Arc::clone(self), answers.len());
        let work = move || this.all_results(answers);
        let failed = SubmitResult::Refused(Refusal::new("internal", "the receipt could not be made; submit again"));
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| vec![Some(failed); count])
    }

    /// Makes receipts one after the other: they share most of their paths, and other requests run in parallel anyway.
    /// A node without a log of its own has taken no events.
    fn all_results(&self, answers: Vec<SubmitOutcome>) -> Vec<Option<SubmitResult>> {
        let Some(own) = &self.own else { return answers.into_iter().map(|_| None).collect() };
        let view = self.shared.store.view();
        let mut prover = Prover::new(view.tiles(own));
        answers.into_iter().map(|answer| self.result(answer, &mut prover)).collect()
    }

    fn result(&self, answer: SubmitOutcome, prover: &mut Prover<LogTiles<'_>>) -> Option<SubmitResult> {
        match answer {
            SubmitOutcome::Unsponsored => None,
            SubmitOutcome::Refused(refusal) => Some(SubmitResult::Refused(refusal)),
            SubmitOutcome::Taken { index, entry, signed, known } => {
                Some(match self.receipt(index, entry, &signed, known, prover) {
                    Ok(receipt) => SubmitResult::Accepted(receipt),
                    Err(error) => {
                        tracing::error!(%error, index, "cannot make a receipt");
                        SubmitResult::Refused(Refusal::new("internal", "the receipt could not be made; submit again"))
                    }
                })
            }
        }
    }

    fn receipt(
        &self,
        index: u64,
        entry: Vec<u8>,
        signed: &checkpoint::SignedCheckpoint,
        known: bool,
        prover: &mut Prover<LogTiles<'_>>,
    ) -> Result<Receipt, log::LogError<StoreError>> {
        let log = fama_ledger::replica::log_of(signed);
        let event = fama_ledger::entry::event_id(&entry).ok_or(log::LogError::Range)?;
        // The same text again gets the same place in the log, and by now perhaps the proof that it is final.
        let certified =
            known.then(|| inclusion::certified(&self.shared.store.view(), &self.shared.manifest, &log, index));
        if let Some(proof) = certified.transpose()?.flatten() {
            return Ok(Receipt { event, log, index, known, entry, proof: proof.to_string() });
        }
        let path = prover.inclusion(index, signed.checkpoint().head.size)?;
        let owner = self.shared.manifest.log(&log).ok_or(log::LogError::Range)?;
        let proof = TlogProof { extra: None, index, path, checkpoint: checkpoint::note(signed, &owner.node_key, &[]) };
        Ok(Receipt { event, log, index, known, entry, proof: proof.to_string() })
    }
}

impl Routed {
    const fn revokes(&self) -> bool {
        matches!(self.submission.signed.event.action, Action::Revoke { .. })
    }
}

impl Submitted {
    fn copy(&self) -> Self {
        let Self { event, note, recovered, forwarder } = self;
        let (event, note, forwarder) = (event.clone(), note.clone(), forwarder.clone());
        Self { event, note, recovered: *recovered, forwarder }
    }
}

fn put(results: &mut [Option<SubmitResult>], at: usize, result: SubmitResult) {
    if let Some(slot) = results.get_mut(at) {
        *slot = Some(result);
    }
}

/// Whether an event was in a log that was cut below it, shown by a proof of its entry under a head that the log's owner
/// signed.
fn was_cut(manifest: &Manifest, signed: &SignedEvent, shown: &wire::Recovered) -> bool {
    let entry = VerifiedEntry::decode(shown.entry.clone(), &manifest.federation()).ok();
    let same = entry.as_ref().and_then(VerifiedEntry::event).is_some_and(|event| event.signed() == signed);
    let Some(proof) = shown.proof.parse::<TlogProof>().ok().filter(|_| same) else { return false };
    let owner = |origin: &checkpoint::Origin| {
        let log = LogId { operator: origin.operator.clone(), generation: origin.generation };
        let known = manifest.log(&log).filter(|_| manifest.origin(&log) == *origin)?;
        known.cut.as_ref().filter(|(_, cut)| cut.head.size <= proof.index).map(|_| known.node_key)
    };
    proof.verify(&shown.entry, owner, |_| None).is_ok()
}

/// Whether a receipt shows the version that a revocation names: an entry of the log that carries the home registers the
/// identity or rotates to that version, with that key, and the revocation's signer is that key or its `next`.
///
/// The home's owner can sign a log with any entries. What it gains are claims against its own homes, within their share.
fn shows_version(manifest: &Manifest, signed: &SignedEvent, shown: &wire::Recovered) -> bool {
    let Action::Revoke { home, identity, version, key, .. } = &signed.event.action else { return false };
    let entry = VerifiedEntry::decode(shown.entry.clone(), &manifest.federation()).ok();
    let Some(event) = entry.as_ref().and_then(VerifiedEntry::event) else { return false };
    let brought = match &event.event().action {
        Action::Register { home, key, next, .. } => (home, event.id(), 1, key, next),
        Action::Rotate { home, identity, version, key, next } => (home, *identity, *version, key, next),
        _ => return false,
    };
    let next = brought.4;
    if (brought.0, brought.1, brought.2, brought.3) != (home, *identity, *version, key)
        || (signed.signer != *key && *next != Some(signed.signer.hash()))
    {
        return false;
    }
    let Ok(proof) = shown.proof.parse::<TlogProof>() else { return false };
    let owner = |origin: &checkpoint::Origin| {
        let log = manifest.homes().get(home).filter(|log| manifest.origin(log) == *origin)?;
        manifest.log(log).map(|known| known.node_key)
    };
    proof.verify(&shown.entry, owner, |_| None).is_ok()
}

fn busy() -> Refusal {
    Refusal { code: "busy".into(), message: "this node is busy".into(), retry_after: Some(1) }
}

/// The note submitted with an event, if the event names it and it is well-formed; `None` if there is no note.
fn checked_note(submission: &Submission) -> Result<Option<(NoteHash, String)>, Refusal> {
    let Some(text) = &submission.note else { return Ok(None) };
    let hash = note_hash(text.as_bytes());
    if submission.signed.event.action.note() != Some(hash) {
        return Err(Refusal::new("wrong_note", "the event does not name this note"));
    }
    let registration = matches!(submission.signed.event.action, Action::Register { .. });
    match Note::parse(text.as_bytes()) {
        Ok(note) if note.bio.is_some() && !registration => {
            Err(Refusal::new("wrong_note", "a bio belongs to a registration, a reason and a ref to an attestation"))
        }
        Ok(note) if (note.reason.is_some() || note.reference.is_some()) && registration => {
            Err(Refusal::new("wrong_note", "a reason and a ref belong to an attestation, a bio to a registration"))
        }
        Ok(_) => Ok(Some((hash, text.clone()))),
        Err(error) => Err(Refusal::new(error.fault.code(), format!("note: {error}"))),
    }
}
