//! Proofs of an entry's position that a reader with the manifests alone can check.
use fama_ledger::log::{LogError, prove_inclusion};
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::proof::TlogProof;
use fama_ledger::{codec, limits};

use super::heads;
use crate::store::{StoreError, View};

/// Whether readers of the version in use refuse a head of `log`, because it had adopted too old a version there: the
/// note that certifies a later one is still to come.
///
/// # Errors
/// [`StoreError`].
pub(crate) fn is_outdated(manifest: &Manifest, view: &View<'_>, log: &LogId, size: u64) -> Result<bool, StoreError> {
    let adopted = view.log(log)?.map_or(0, |record| record.adopted_at(size));
    Ok(manifest.cut(log).is_none() && adopted < manifest.adopted_min(log))
}

/// The c2sp.org/tlog-proof of an entry under the log's certificate, with all its cosignatures; `None` while no
/// certificate that readers accept covers the entry. Its extra data is the encoded entry, followed by the proof of where
/// the log adopted the version that counts.
///
/// # Errors
/// [`LogError`]: the disk failed, or what it holds does not fit together.
pub(crate) fn certified(
    view: &View<'_>,
    manifest: &Manifest,
    log: &LogId,
    index: u64,
) -> Result<Option<TlogProof>, LogError<StoreError>> {
    let certificate = heads::certificate(view, log).map_err(LogError::Tiles)?;
    let Some(certificate) = certificate.filter(|held| index < held.signed.head.size) else { return Ok(None) };
    let size = certificate.signed.head.size;
    if is_outdated(manifest, view, log, size).map_err(LogError::Tiles)? {
        return Ok(None);
    }
    let broken = |what: String| LogError::Tiles(view.store().inconsistent(log, &what));
    let entry = view.entries(log, index, 1, limits::ENTRY_BYTES_MAX).map_err(LogError::Tiles)?.pop();
    let mut extra = entry.ok_or_else(|| broken(format!("entry {index} is missing")))?;
    extra.extend(view.adoption(log, size)?.iter().flat_map(codec::encode));
    let path = prove_inclusion(index, size, &view.tiles(log))?;
    let checkpoint = certificate.note(manifest, log).map_err(|error| broken(error.to_string()))?;
    let checkpoint = checkpoint.ok_or_else(|| broken("the manifest does not have the log".to_owned()))?;
    Ok(Some(TlogProof { index, path, checkpoint, extra: Some(extra) }))
}
