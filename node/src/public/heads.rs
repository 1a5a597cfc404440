//! The signed heads of a log that this node holds, with their cosignatures, to choose the one that a reader gets.
use fama_ledger::checkpoint::{CheckpointError, Cosignature};
use fama_ledger::log::{self, LogError};
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::public;
use fama_ledger::signed_note::SignedNote;

use crate::store::{StoreError, View};
use crate::wire::SignedHead;

/// A signed head with its cosignatures; all signatures were verified before they were stored.
#[derive(Clone, Debug)]
pub struct HeldHead {
    /// The head, signed by the log's owner.
    pub signed: SignedHead,
    /// Cosignatures, each with the operator's log generation whose node key signed.
    pub cosignatures: Vec<(LogId, Cosignature)>,
}

impl HeldHead {
    /// The checkpoint with all cosignatures that fit; `None` if the manifest does not have the log.
    ///
    /// # Errors
    /// [`CheckpointError`]: the owner's signature is invalid.
    pub fn note(&self, manifest: &Manifest, log: &LogId) -> Result<Option<SignedNote>, CheckpointError> {
        let signed = self.signed.verify(manifest, log)?;
        let cosignatures = self.cosignatures.iter().map(|(by, cosignature)| (by, cosignature));
        Ok(public::checkpoint(manifest, log, &signed, cosignatures))
    }
}

/// The largest head that a quorum is known to have cosigned on one note.
///
/// # Errors
/// [`StoreError`].
pub fn certificate(view: &View<'_>, log: &LogId) -> Result<Option<HeldHead>, StoreError> {
    let found = view.certificate(log)?;
    Ok(found.map(|found| HeldHead { signed: found.signed, cosignatures: found.cosignatures }))
}

/// Every signed head of at most `size_max` entries: the owner's newest, then the newest that each node key cosigned.
///
/// # Errors
/// [`StoreError`].
pub fn all(view: &View<'_>, log: &LogId, size_max: u64) -> Result<Vec<HeldHead>, StoreError> {
    let newest = view.newest(log)?.into_iter().map(|signed| (signed, None));
    let cosigned = view.cosigned_by(log)?.into_iter().map(|(by, one)| (one.signed, Some((by, one.cosignature))));
    let mut heads: Vec<HeldHead> = Vec::new();
    for (signed, cosignature) in newest.chain(cosigned).filter(|(signed, _)| signed.head.size <= size_max) {
        match heads.iter_mut().find(|held| held.signed.head == signed.head) {
            Some(held) => held.cosignatures.extend(cosignature),
            None => heads.push(HeldHead { signed, cosignatures: cosignature.into_iter().collect() }),
        }
    }
    Ok(heads)
}

/// The first of `heads` whose root is that of this node's copy. The copy must be at least as large as each of them.
///
/// # Errors
/// [`LogError`]: the copy's tiles cannot be read, or a head is larger than the copy.
pub fn first_on_branch(
    view: &View<'_>,
    log: &LogId,
    heads: impl IntoIterator<Item = HeldHead>,
) -> Result<Option<HeldHead>, LogError<StoreError>> {
    let tiles = view.tiles(log);
    for held in heads {
        if log::root_at(held.signed.head.size, &tiles)? == held.signed.head.root {
            return Ok(Some(held));
        }
    }
    Ok(None)
}
