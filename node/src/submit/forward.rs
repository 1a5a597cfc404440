//! Passes submissions on to other operators: events to the log of their home, and revocations that their home does not
//! take to any log that claims them.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use fama_ledger::event::Action;
use fama_ledger::fold::Void;
use fama_ledger::id::Domain;
use fama_ledger::join::Join;
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::rows::Status;
use libp2p::PeerId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::permits::{Permit, Permits};
use super::{Routed, Submitter};
use crate::network::{RequestError, peer_id};
use crate::wire::{Refusal, Submission, SubmitRequest, SubmitResponse, SubmitResult};

/// Requests that wait at once for the answer of another operator, which may never come, without those of revocations: of
/// all strangers together, of one stranger, and of one operator. Of the first number, one part in f + 1 waits for one
/// home, so that f silent ones leave a part to the others.
pub(super) const EVENTS: (usize, usize, usize) = (18, 8, 6);
/// The same for revocations.
pub(super) const REVOCATIONS: (usize, usize, usize) = (12, 4, 4);
/// How long a home may take to answer before a revocation is claimed in another operator's log.
const HOME_TIMEOUT: Duration = Duration::from_secs(5);
/// How long another operator may take to claim a revocation that a mirror sends it: it tries the home first.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(15);

/// Requests that wait for other operators' answers: bounded in all, by sender, and for strangers by the operator asked.
pub(super) struct Forwards {
    all: Arc<Permits>,
    homes: BTreeMap<Domain, Arc<Semaphore>>,
}

impl Forwards {
    pub(super) fn new(manifest: &Manifest, bounds: (usize, usize, usize)) -> Self {
        let of_home = (bounds.0 / (manifest.faults() + 1)).max(1);
        let homes = manifest.operators().iter();
        let homes = homes.map(|home| (home.name.clone(), Arc::new(Semaphore::new(of_home)))).collect();
        Self { all: Permits::new(bounds), homes }
    }

    /// A permit to wait for `home`; `None` if a bound is reached.
    pub(super) fn take(
        &self,
        peer: PeerId,
        operator: bool,
        home: &Domain,
    ) -> Option<(Permit, Option<OwnedSemaphorePermit>)> {
        let permit = self.all.take(peer, operator)?;
        let home = match operator {
            true => None,
            false => Some(Arc::clone(self.homes.get(home)?).try_acquire_owned().ok()?),
        };
        Some((permit, home))
    }
}

/// Why another operator gave no answer to forwarded submissions.
#[derive(Clone, Copy)]
enum Unanswered {
    /// Nothing was sent to it.
    Unsent,
    /// It may have taken them.
    Sent,
}

impl Unanswered {
    /// What the sender of a submission to `log` is told.
    fn refusal(self, log: &LogId) -> Refusal {
        let (code, message) = match self {
            Self::Unsent => ("home_unreachable", format!("the operator of {log} cannot be reached")),
            Self::Sent => (
                "outcome_unknown",
                format!("the operator of {log} was sent the event and did not answer: submit the same event again"),
            ),
        };
        Refusal { code: code.into(), message, retry_after: Some(10) }
    }
}

impl Submitter {
    /// Forwards submissions to the operator whose log takes them. A revocation that the home does not take is claimed
    /// in another operator's log.
    pub(super) async fn forward(self: &Arc<Self>, log: &LogId, group: Vec<Routed>) -> Vec<SubmitResult> {
        let submissions = group.iter().map(|routed| routed.submission.clone()).collect();
        let answers = self.send(&log.operator, SubmitRequest { forwarded: true, submissions }, HOME_TIMEOUT).await;
        let answers =
            answers.and_then(|answers| if answers.len() == group.len() { Ok(answers) } else { Err(Unanswered::Sent) });
        let silent = answers.is_err();
        let mut results = answers.unwrap_or_else(|why| vec![SubmitResult::Refused(why.refusal(log)); group.len()]);
        let open = |(at, routed): &(usize, Routed)| {
            matches!(results.get(*at), Some(SubmitResult::Refused(_))) && (silent || self.is_open(routed))
        };
        let claims = group.into_iter().enumerate().filter(open).collect();
        self.claim(&log.operator, claims, &mut results).await;
        results
    }

    async fn send(
        &self,
        operator: &Domain,
        request: SubmitRequest,
        most: Duration,
    ) -> Result<Vec<SubmitResult>, Unanswered> {
        let operator = self.shared.manifest.operator(operator).ok_or(Unanswered::Unsent)?;
        let (peer, operator) = (peer_id(&operator.node_key), &operator.name);
        let sent = tokio::time::timeout(most, self.network.submit(peer, request)).await;
        self.shared.metrics.forwarded(matches!(sent, Ok(Ok(_))));
        match sent {
            Ok(Ok(SubmitResponse(results))) => Ok(results),
            Ok(Err(error)) => {
                tracing::debug!(%operator, %error, "no answer to a forwarded submission");
                let unsent =
                    matches!(error, RequestError::NotConnected | RequestError::Unsent | RequestError::TooLong(_));
                Err(if unsent { Unanswered::Unsent } else { Unanswered::Sent })
            }
            Err(_) => Err(Unanswered::Sent),
        }
    }

    /// Whether this node's copy of the home's log gives no reason to refuse a revocation: the key is the current one
    /// there, and not revoked; or a receipt shows it, and the copy has not got that far.
    fn is_open(&self, routed: &Routed) -> bool {
        let Action::Revoke { identity, version, .. } = &routed.submission.signed.event.action else { return false };
        let view = self.shared.store.view();
        let found = Join::new(&self.shared.manifest, &view).identity(*identity).ok().flatten();
        match found {
            None => routed.submitted.recovered,
            Some(found) if found.identity.version < *version => routed.submitted.recovered,
            Some(found) => found.identity.version == *version && found.identity.status == Status::Active,
        }
    }

    /// Submits revocations that their home did not take to this node's own log and, where that cannot take them now, to
    /// every other operator, in one request each. Puts the outcome of each in its place of `results`: those that do not
    /// fit the chain of key versions that this node has, or that no operator accepts, keep what the home answered.
    async fn claim(self: &Arc<Self>, home: &Domain, group: Vec<(usize, Routed)>, results: &mut [SubmitResult]) {
        let mut left = Vec::with_capacity(group.len());
        for (at, routed) in group {
            match self.fits(&routed) {
                Ok(()) => left.push((at, routed)),
                Err(None) => {}
                Err(Some(refusal)) => set(results, at, SubmitResult::Refused(refusal)),
            }
        }
        let own = self.own.as_ref().map(|own| own.operator.clone());
        if own.is_some() && !left.is_empty() {
            let submitted = left.iter().map(|(_, routed)| routed.submitted.copy()).collect();
            let taken = self.take(submitted, || None).await;
            let not_now = |result: &SubmitResult| {
                // A full share is one that the home's own identities have filled: it is as full elsewhere.
                matches!(result, SubmitResult::Refused(why) if why.retry_after.is_some() && why.code != "daily_bytes")
            };
            let (open, decided): (Vec<_>, Vec<_>) =
                left.into_iter().zip(taken).partition(|(_, result)| not_now(result));
            decided.into_iter().for_each(|((at, _), result)| set(results, at, result));
            left = open.into_iter().map(|(one, _)| one).collect();
        }
        if left.is_empty() {
            return;
        }
        let mut asked = JoinSet::new();
        // An operator takes the word of another one that the home does not answer, but not that of a mirror.
        let (forwarded, most) = if own.is_some() { (true, HOME_TIMEOUT) } else { (false, CLAIM_TIMEOUT) };
        let submissions: Vec<Submission> = left.iter().map(|(_, routed)| routed.submission.clone()).collect();
        for operator in self.shared.manifest.operators() {
            if own.as_ref() == Some(&operator.name) || forwarded && operator.name == *home {
                continue;
            }
            let (this, name) = (Arc::clone(self), operator.name.clone());
            let request = SubmitRequest { forwarded, submissions: submissions.clone() };
            asked.spawn(async move { this.send(&name, request, most).await });
        }
        let mut positions: BTreeSet<usize> = left.iter().map(|(at, _)| *at).collect();
        while let Some(answer) = asked.join_next().await {
            let answers = answer.ok().and_then(Result::ok).unwrap_or_default();
            for ((at, _), answer) in left.iter().zip(answers) {
                if matches!(answer, SubmitResult::Accepted(_)) && positions.remove(at) {
                    set(results, *at, answer);
                }
            }
            if positions.is_empty() {
                // The other requests run on: every operator should have the revocations.
                asked.detach_all();
                return;
            }
        }
    }

    /// Takes revocations that another operator forwards, since their home did not take them, into this node's own log.
    pub(super) async fn claim_here(self: &Arc<Self>, group: Vec<Routed>) -> Vec<SubmitResult> {
        let refused = SubmitResult::Refused(Refusal::new("not_home", "not a claim that this node can check"));
        let mut results = vec![refused; group.len()];
        let mut fitting = Vec::with_capacity(group.len());
        for (at, routed) in group.into_iter().enumerate() {
            match self.fits(&routed) {
                Ok(()) => fitting.push((at, routed.submitted)),
                Err(None) => {}
                Err(Some(refusal)) => set(&mut results, at, SubmitResult::Refused(refusal)),
            }
        }
        if self.own.is_some() && !fitting.is_empty() {
            let (positions, submitted): (Vec<usize>, Vec<_>) = fitting.into_iter().unzip();
            let taken = self.take(submitted, || None).await;
            positions.into_iter().zip(taken).for_each(|(at, result)| set(&mut results, at, result));
        }
        results
    }

    /// Whether a revocation fits the chain of key versions that this node has, or a receipt shows its version.
    ///
    /// # Errors
    /// `None` if it does not; a refusal if this node does not know the identity.
    fn fits(&self, routed: &Routed) -> Result<(), Option<Refusal>> {
        let Action::Revoke { home, identity, version, key, .. } = &routed.submission.signed.event.action else {
            return Err(None);
        };
        if routed.submitted.recovered {
            return Ok(());
        }
        let signer = routed.submission.signed.signer.hash();
        let view = self.shared.store.view();
        let join = Join::new(&self.shared.manifest, &view);
        let found = join.identity(*identity).map_err(|_| None)?.ok_or_else(|| Some(unknown_identity()))?;
        let fits = found.home == *home && join.fits_chain(&found, *version, key.hash(), signer).map_err(|_| None)?;
        if fits { Ok(()) } else { Err(None) }
    }
}

fn unknown_identity() -> Refusal {
    Refusal {
        code: Void::UnknownIdentity.code().into(),
        message: "the home does not answer, and this node does not know the identity yet: submit again later, to \
                  another node, or with the receipt of its registration"
            .into(),
        retry_after: Some(10),
    }
}

fn set(results: &mut [SubmitResult], at: usize, result: SubmitResult) {
    if let Some(slot) = results.get_mut(at) {
        *slot = result;
    }
}
