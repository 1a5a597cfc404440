//! What is news of what others say: only that is worth the check of a signature.
use std::cmp::Ordering;

use fama_ledger::id::Domain;
use fama_ledger::log::{self, Head, LogError};
use fama_ledger::manifest::{LogId, Manifest, Operator};
use fama_ledger::replica::PeerLog;

use crate::inbox::verify_cosigned;
use crate::network::wire::{CosignedHead, Frontier, LogFrontier, Session};
use crate::store::{StoreError, View};

/// Why nothing was made of a frontier.
#[derive(Debug, thiserror::Error)]
pub enum FrontierError {
    /// The sender's fault, by its stable code.
    #[error("{0}")]
    Sender(&'static str),
    /// The disk's.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is news of a peer's frontier, its signatures checked.
#[derive(Debug)]
pub struct Said {
    /// Of the logs.
    pub logs: Vec<PeerLog>,
    /// Another process with this node's key that the peer hears.
    pub other: Option<Session>,
}

/// Whether a head would be the largest known of its log, or may prove that the owner has two branches.
///
/// # Errors
/// [`StoreError`].
pub fn head(view: &View<'_>, manifest: &Manifest, log: &LogId, head: &Head) -> Result<bool, StoreError> {
    if head.size == 0 || manifest.operator(&log.operator).map(Operator::log).as_ref() != Some(log) {
        return Ok(false);
    }
    let Some(known) = view.newest(log)?.map(|signed| signed.head) else { return Ok(true) };
    match head.size.cmp(&known.size) {
        Ordering::Greater => Ok(true),
        Ordering::Equal => Ok(head.root != known.root),
        Ordering::Less => Ok(view.conflicting(log)?.is_none() && on_other_branch(view, log, head)?),
    }
}

/// Whether this node's copy reaches a head and has another root there.
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

/// Whether an operator's cosignature of `head` is beyond the one known of it, or of another head of that size.
fn beyond(known: &[CosignedHead], operator: &Domain, head: &Head) -> bool {
    let known = known.iter().find(|one| one.cosignature.operator == *operator).map(|one| one.signed.head);
    head.size > 0
        && known.is_none_or(|known| head.size > known.size || (head.size == known.size && head.root != known.root))
}

/// Whether a cosignature is news.
///
/// # Errors
/// [`StoreError`].
pub fn cosigned(view: &View<'_>, manifest: &Manifest, log: &LogId, one: &CosignedHead) -> Result<bool, StoreError> {
    let operator = &one.cosignature.operator;
    let known = manifest.operator(operator).is_some() && manifest.operator(&log.operator).is_some();
    Ok(known && beyond(&view.cosigned(log)?, operator, &one.signed.head))
}

/// A peer's frontier with signatures checked, but only of what is news; the rest is left out.
///
/// # Errors
/// [`FrontierError`].
pub fn frontier(view: &View<'_>, manifest: &Manifest, frontier: Frontier) -> Result<Said, FrontierError> {
    let most = manifest.operators().len();
    if frontier.logs.len() > most || frontier.logs.iter().any(|log| log.cosigned.len() > most) {
        return Err(FrontierError::Sender("frontier_too_long"));
    }
    let logs = frontier.logs.into_iter().map(|log| of_log(view, manifest, log)).collect::<Result<_, _>>()?;
    Ok(Said { logs, other: frontier.other })
}

fn of_log(view: &View<'_>, manifest: &Manifest, said: LogFrontier) -> Result<PeerLog, FrontierError> {
    let LogFrontier { log, size, newest, cosigned } = said;
    let newest = match newest {
        Some(signed) if head(view, manifest, &log, &signed.head)? => {
            Some(signed.verify(manifest, &log).map_err(|error| FrontierError::Sender(error.code()))?)
        }
        _ => None,
    };
    let known = view.cosigned(&log)?;
    let operators = |one: &&CosignedHead| manifest.operator(&one.cosignature.operator).is_some();
    let news = cosigned.iter().filter(operators);
    let news = news.filter(|one| beyond(&known, &one.cosignature.operator, &one.signed.head));
    let verified: Option<Vec<_>> = news.map(|one| verify_cosigned(manifest, &log, one)).collect();
    let cosigned = verified.ok_or(FrontierError::Sender("checkpoint_cosignature"))?;
    Ok(PeerLog { log, size, newest, cosigned })
}
