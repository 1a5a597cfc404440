//! Finds what is new in the frontiers and gossip of peers: signatures are verified only for news.
use std::cmp::Ordering;

use fama_ledger::equivocation::Equivocation;
use fama_ledger::id::ManifestHash;
use fama_ledger::limits;
use fama_ledger::log::{self, Head, LogError};
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::replica::PeerLog;

use crate::store::{StoreError, View};
use crate::wire::{self, CosignedHead, Frontier, LogFrontier, Session};

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

/// Whether a cosignature is news.
///
/// # Errors
/// [`StoreError`].
pub fn cosigned(view: &View<'_>, manifest: &Manifest, log: &LogId, one: &CosignedHead) -> Result<bool, StoreError> {
    Ok(is_uncut(manifest, log) && beyond(&view.cosigned(log)?, manifest, one))
}

/// The news in a peer's frontier, with verified signatures; the rest is left out. If the sender has a later version
/// than this node, cosignatures that do not verify are left out too: their keys may be known to that version only.
///
/// # Errors
/// [`FrontierError`].
pub fn frontier(view: &View<'_>, manifest: &Manifest, mut frontier: Frontier) -> Result<HeardFrontier, FrontierError> {
    // The sender may use another version than this node.
    let cosigned_max = limits::OPERATORS_MAX + wire::FORMER_COSIGNERS_MAX;
    if frontier.logs.len() > limits::OPERATORS_MAX || frontier.logs.iter().any(|log| log.cosigned.len() > cosigned_max)
    {
        return Err(FrontierError::Sender("frontier_too_long"));
    }
    let mut equivocations = Vec::new();
    for proof in frontier.logs.iter().filter_map(|log| log.equivocation.as_ref()) {
        if is_uncut(manifest, &proof.log) && view.equivocation(&proof.log)?.is_none() {
            proof.verify(manifest).map_err(|error| FrontierError::Sender(error.code()))?;
            equivocations.push(proof.clone());
        }
    }
    let behind = frontier.manifest > manifest.version();
    let logs = std::mem::take(&mut frontier.logs)
        .into_iter()
        .map(|log| of_log(view, manifest, log, behind))
        .collect::<Result<_, _>>()?;
    let Frontier { other, manifest, manifest_hash, .. } = frontier;
    Ok(HeardFrontier { logs, other, manifest, manifest_hash, equivocations })
}

fn of_log(view: &View<'_>, manifest: &Manifest, reported: LogFrontier, behind: bool) -> Result<PeerLog, FrontierError> {
    let LogFrontier { log, size, newest, cosigned, .. } = reported;
    let newest = match newest {
        Some(signed) if head(view, manifest, &log, &signed.head)? => {
            Some(signed.verify(manifest, &log).map_err(|error| FrontierError::Sender(error.code()))?)
        }
        _ => None,
    };
    let known = view.cosigned(&log)?;
    let news = cosigned.iter().filter(|_| is_uncut(manifest, &log));
    let news = news.filter(|one| beyond(&known, manifest, one));
    let mut cosigned = Vec::new();
    for one in news {
        match one.verify(manifest, &log) {
            Some(verified) => cosigned.push(verified),
            None if behind && one.signed.verify(manifest, &log).is_ok() => {}
            None => return Err(FrontierError::Sender("checkpoint_cosignature")),
        }
    }
    Ok(PeerLog { log, size, newest, cosigned })
}

#[cfg(test)]
mod tests;
