//! Finds what is new in the frontiers and gossip of peers: signatures are verified only for news.
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use fama_ledger::checkpoint::{Checkpoint, Cosignature};
use fama_ledger::equivocation::Equivocation;
use fama_ledger::id::{Domain, ManifestHash};
use fama_ledger::limits;
use fama_ledger::log::{self, Head, LogError};
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::replica::{PeerLog, Renewal, renews};
use fama_ledger::time::Millis;

use crate::store::{StoreError, StoredCertificate, View};
use crate::wire::{self, CertifiedHead, CosignedHead, Frontier, LogFrontier, Session};

/// Why a frontier was not used.
#[derive(Debug, thiserror::Error)]
pub enum FrontierError {
    /// The sender's fault: the code for its penalty.
    #[error("{0}")]
    Sender(&'static str),
    /// This node's store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is news in a peer's frontier, with verified signatures.
#[derive(Debug)]
pub struct HeardFrontier {
    /// Each log that the peer reports, with only those heads and cosignatures that are news.
    pub logs: Vec<PeerLog>,
    /// Another live process with this node's key that the peer knows.
    pub other: Option<Session>,
    /// The newest version of the manifest that the peer holds.
    pub manifest: u32,
    /// The peer's [`Frontier::manifest_hash`].
    pub manifest_hash: ManifestHash,
    /// New proofs that owners signed two branches.
    pub equivocations: Vec<Equivocation>,
}

/// Whether a head is news: larger than every known head of its log, or possible evidence of a second branch.
///
/// # Errors
/// [`StoreError`].
pub fn head(view: &View<'_>, manifest: &Manifest, log: &LogId, head: &Head) -> Result<bool, StoreError> {
    if head.size == 0 || !is_uncut(manifest, log) {
        return Ok(false);
    }
    let Some(known) = view.newest(log)?.map(|signed| signed.head) else { return Ok(true) };
    match head.size.cmp(&known.size) {
        Ordering::Greater => Ok(true),
        Ordering::Equal => Ok(head.root != known.root),
        Ordering::Less => Ok(!is_proven(view, log)? && on_other_branch(view, log, head)?),
    }
}

/// Whether the manifest knows the log and has not cut it.
fn is_uncut(manifest: &Manifest, log: &LogId) -> bool {
    manifest.log(log).is_some_and(|known| known.cut.is_none())
}

fn is_proven(view: &View<'_>, log: &LogId) -> Result<bool, StoreError> {
    Ok(view.conflicting(log)?.is_some() || view.equivocation(log)?.is_some())
}

/// Whether this node's copy reaches the size of a head and has another root there.
fn on_other_branch(view: &View<'_>, log: &LogId, head: &Head) -> Result<bool, StoreError> {
    if head.size > view.log(log)?.map_or(0, |record| record.state.size) {
        return Ok(false);
    }
    match log::root_at(head.size, &view.tiles(log)) {
        Ok(root) => Ok(root != head.root),
        Err(LogError::Tiles(error)) => Err(error),
        Err(_) => Ok(false),
    }
}

/// Whether a cosignature is over a larger head than the one known from its operator, or over another of the same size.
/// Which of the operator's node keys made it is not known before it is verified, and each key may cosign the same head.
fn beyond(known: &[CosignedHead], manifest: &Manifest, one: &CosignedHead) -> bool {
    let (operator, head) = (&one.cosignature.operator, one.signed.head);
    let others = || known.iter().filter(|known| known.cosignature.operator == *operator);
    let keys = manifest.generations(operator).count();
    head.size > 0
        && others().all(|known| known.cosignature != one.cosignature)
        && others().filter(|known| known.signed.head == head).count() < keys
        && (others().count() < keys || others().any(|known| head.size >= known.signed.head.size))
}

/// Whether a cosignature states a time too far ahead of this node's clock. It is neither kept nor passed on: it would
/// vouch for what nobody can know yet.
fn is_ahead(one: &Cosignature, now: Millis) -> bool {
    one.seconds > now.0.saturating_add(limits::HEAD_SKEW_MILLIS_MAX) / 1_000
}

/// Whether a cosignature is of a head that its operator is known to have cosigned, and enough newer. Each of the
/// operator's node keys may renew its own.
fn again(known: &[CosignedHead], manifest: &Manifest, one: &CosignedHead) -> bool {
    let (operator, heartbeat) = (&one.cosignature.operator, manifest.heartbeat_ms());
    let same = |known: &&CosignedHead| known.cosignature.operator == *operator && known.signed.head == one.signed.head;
    let older = |known: &&CosignedHead| renews(known.cosignature.seconds, one.cosignature.seconds, heartbeat);
    let others = || known.iter().filter(same);
    let newer = others().filter(|known| !older(known)).count();
    others().any(|known| older(&known)) && newer < manifest.generations(operator).count()
}

/// Checks the signature of a cosignature made again. The owner's signature is known.
fn renewal(manifest: &Manifest, log: &LogId, one: &CosignedHead) -> Option<Renewal> {
    let (head, cosignature) = (one.signed.head, &one.cosignature);
    let checkpoint = Checkpoint { origin: manifest.origin(log), head };
    let mut keys = manifest.generations(&cosignature.operator);
    let (by, _) = keys.find(|(_, key)| cosignature.verify(&checkpoint, key).is_ok())?;
    Some(Renewal { head, by: by.clone(), cosignature: cosignature.clone() })
}

/// Whether a gossiped cosignature is news; `now` by this node's clock. One that was made again is not: it travels with
/// the frontiers.
///
/// # Errors
/// [`StoreError`].
pub fn cosigned(
    view: &View<'_>,
    manifest: &Manifest,
    log: &LogId,
    one: &CosignedHead,
    now: Millis,
) -> Result<bool, StoreError> {
    Ok(is_uncut(manifest, log) && !is_ahead(&one.cosignature, now) && beyond(&view.cosigned(log)?, manifest, one))
}

/// The news in a peer's frontier, with verified signatures; the rest is left out. If the sender has a later version
/// than this node, cosignatures that do not verify are left out too: their keys may be known to that version only.
/// `now` by this node's clock.
///
/// # Errors
/// [`FrontierError`].
pub fn frontier(
    view: &View<'_>,
    manifest: &Manifest,
    mut frontier: Frontier,
    now: Millis,
) -> Result<HeardFrontier, FrontierError> {
    // The sender may use another version than this node.
    let (cosigned_max, certificate_max) =
        (limits::OPERATORS_MAX + wire::FORMER_COSIGNERS_MAX, 2 * limits::OPERATORS_MAX);
    let long = |log: &LogFrontier| {
        let certificate = log.certificate.as_ref().map_or(0, |one| one.cosignatures.len());
        log.cosigned.len() > cosigned_max || certificate > certificate_max
    };
    if frontier.logs.len() > limits::OPERATORS_MAX || frontier.logs.iter().any(long) {
        return Err(FrontierError::Sender("frontier_too_long"));
    }
    let mut equivocations = Vec::new();
    for proof in frontier.logs.iter().filter_map(|log| log.equivocation.as_ref()) {
        if is_uncut(manifest, &proof.log) && view.equivocation(&proof.log)?.is_none() {
            proof.verify(manifest).map_err(|error| FrontierError::Sender(error.code()))?;
            equivocations.push(proof.clone());
        }
    }
    let behind = frontier.manifest.saturating_sub(manifest.version());
    let logs = std::mem::take(&mut frontier.logs)
        .into_iter()
        .map(|log| of_log(view, manifest, log, behind, now))
        .collect::<Result<_, _>>()?;
    let Frontier { other, manifest, manifest_hash, .. } = frontier;
    Ok(HeardFrontier { logs, other, manifest, manifest_hash, equivocations })
}

fn of_log(
    view: &View<'_>,
    manifest: &Manifest,
    reported: LogFrontier,
    behind: u32,
    now: Millis,
) -> Result<PeerLog, FrontierError> {
    let LogFrontier { log, size, newest, cosigned: said, certificate, .. } = reported;
    let newest = match newest {
        Some(signed) if head(view, manifest, &log, &signed.head)? => {
            Some(signed.verify(manifest, &log).map_err(|error| FrontierError::Sender(error.code()))?)
        }
        _ => None,
    };
    let known = view.cosigned(&log)?;
    let (mut cosigned, mut renewed, mut checked) = (Vec::new(), Vec::new(), BTreeMap::<&Domain, usize>::new());
    for one in said.iter().filter(|one| is_uncut(manifest, &log) && !is_ahead(&one.cosignature, now)) {
        let (beyond, operator) = (beyond(&known, manifest, one), &one.cosignature.operator);
        if !beyond && !again(&known, manifest, one) {
            continue;
        }
        // An honest sender lists the newest cosignature of each key. Each version that it has and this node lacks may
        // have brought the operator one more, and those come first: they must not displace the keys known here.
        let checked = checked.entry(operator).or_default();
        *checked += 1;
        let later = usize::try_from(behind).unwrap_or(usize::MAX);
        if *checked > manifest.generations(operator).count().saturating_add(later) {
            continue;
        }
        let verified = match beyond {
            true => one.verify(manifest, &log).map(|verified| cosigned.push(verified)),
            false => renewal(manifest, &log, one).map(|renewal| renewed.push(renewal)),
        };
        match verified {
            Some(()) => {}
            None if behind > 0 && one.signed.verify(manifest, &log).is_ok() => {}
            None => return Err(FrontierError::Sender("checkpoint_cosignature")),
        }
    }
    let certificate = match certificate {
        Some(shown) if wants(view, manifest, &log, &shown, now)? => match shown.verify(manifest, &log) {
            None if behind == 0 => return Err(FrontierError::Sender("checkpoint_cosignature")),
            verified => verified,
        },
        _ => None,
    };
    Ok(PeerLog { log, size, newest, cosigned, renewed, certificate })
}

/// Whether a peer's certificate may be better than this node's, which has none or one that is older than a heartbeat:
/// it is of a larger head that the copy has, and names a quorum. So a log costs one such check a heartbeat.
///
/// If the owner signed two branches, every larger one is wanted, also beyond the copy: it shows which branch a quorum
/// certified, and then this node has it.
fn wants(
    view: &View<'_>,
    manifest: &Manifest,
    log: &LogId,
    shown: &CertifiedHead,
    now: Millis,
) -> Result<bool, StoreError> {
    let (head, times) = (shown.signed.head, shown.cosignatures.iter().map(|(_, one)| one));
    let (record, proven) = (view.log(log)?, is_proven(view, log)?);
    if !proven && record.as_ref().is_none_or(|record| head.size > record.state.size) {
        return Ok(false);
    }
    let last = record.and_then(|record| record.adopted.last().map(|last| last.version));
    let adopted = last.and_then(|version| manifest.at(version)).unwrap_or(manifest);
    let named: BTreeSet<&Domain> = times.filter(|one| !is_ahead(one, now)).map(|one| &one.operator).collect();
    let quorum = named.iter().filter(|name| adopted.operator(name).is_some()).count() >= adopted.quorum();
    let old = |known: &StoredCertificate| {
        let mut times: Vec<u64> = known.cosignatures.iter().map(|(_, one)| one.seconds).collect();
        times.sort_unstable_by(|a, b| b.cmp(a));
        let as_of = times.get(adopted.quorum().saturating_sub(1)).copied().unwrap_or_default();
        as_of.saturating_mul(1_000).saturating_add(manifest.heartbeat_ms()) <= now.0
    };
    let better = |known: StoredCertificate| known.signed.head.size < head.size && (proven || old(&known));
    Ok(is_uncut(manifest, log) && quorum && view.certificate(log)?.is_none_or(better))
}

#[cfg(test)]
mod tests;
