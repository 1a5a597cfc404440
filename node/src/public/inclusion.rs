//! Proofs of an entry's position that a reader with the manifests alone can check.
use fama_ledger::codec;
use fama_ledger::log::{LogError, Prover};
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::proof::TlogProof;
use fama_ledger::signed_note::SignedNote;

use super::heads;
use crate::store::{LogTiles, StoreError, View};

/// Whether readers of the version in use refuse a head of `log`, because it had adopted too old a version there: the
/// note that certifies a later one is still to come.
///
/// # Errors
/// [`StoreError`].
pub(crate) fn is_outdated(manifest: &Manifest, view: &View<'_>, log: &LogId, size: u64) -> Result<bool, StoreError> {
    let adopted = view.log(log)?.map_or(0, |record| record.adopted_at(size));
    Ok(manifest.cut(log).is_none() && adopted < manifest.adopted_min(log))
}

/// Whether the log's certificate covers the entry, and readers accept it.
///
/// # Errors
/// [`StoreError`].
pub(crate) fn is_certified(view: &View<'_>, manifest: &Manifest, log: &LogId, index: u64) -> Result<bool, StoreError> {
    let Some(certificate) = heads::certificate(view, log)? else { return Ok(false) };
    let size = certificate.signed.head.size;
    Ok(index < size && !is_outdated(manifest, view, log, size)?)
}

/// The c2sp.org/tlog-proof of an entry under the log's certificate; `None` while no certificate that readers accept covers
/// the entry. [`CertifiedLog`] proves many.
///
/// # Errors
/// [`LogError`]: the disk failed, or what it holds does not fit together.
pub(crate) fn certified(
    view: &View<'_>,
    manifest: &Manifest,
    log: &LogId,
    index: u64,
) -> Result<Option<TlogProof>, LogError<StoreError>> {
    if !is_certified(view, manifest, log, index).map_err(LogError::Tiles)? {
        return Ok(None);
    }
    CertifiedLog::open(view, manifest, log)?.map_or(Ok(None), |mut log| log.prove(index))
}

/// A log under a certificate that readers accept. What the proofs of its entries share is read, verified and hashed once:
/// make one for each request.
pub(crate) struct CertifiedLog<'v> {
    view: &'v View<'v>,
    log: LogId,
    size: u64,
    /// With all cosignatures.
    checkpoint: SignedNote,
    /// The encoded proof of where the log adopted the version that counts; empty if that is its first.
    adoption: Vec<u8>,
    prover: Prover<LogTiles<'v>>,
}

impl<'v> CertifiedLog<'v> {
    /// `None` if there is no such certificate.
    ///
    /// # Errors
    /// As [`certified`], here and below.
    pub(crate) fn open(
        view: &'v View<'v>,
        manifest: &Manifest,
        log: &LogId,
    ) -> Result<Option<Self>, LogError<StoreError>> {
        let Some(certificate) = heads::certificate(view, log).map_err(LogError::Tiles)? else { return Ok(None) };
        let size = certificate.signed.head.size;
        if is_outdated(manifest, view, log, size).map_err(LogError::Tiles)? {
            return Ok(None);
        }
        let broken = |what: String| LogError::Tiles(view.store().inconsistent(log, &what));
        let checkpoint = certificate.note(manifest, log).map_err(|error| broken(error.to_string()))?;
        let checkpoint = checkpoint.ok_or_else(|| broken("the manifest does not have the log".to_owned()))?;
        let adoption = view.adoption(log, size)?.map_or_else(Vec::new, |adoption| codec::encode(&adoption));
        let prover = Prover::new(view.tiles(log));
        Ok(Some(Self { view, log: log.clone(), size, checkpoint, adoption, prover }))
    }

    /// The proof of an entry, or `None` if the certificate does not cover it. Its extra data is the encoded entry, followed
    /// by the proof of where the log adopted the version that counts.
    ///
    /// # Errors
    /// As [`certified`].
    pub(crate) fn prove(&mut self, index: u64) -> Result<Option<TlogProof>, LogError<StoreError>> {
        if index >= self.size {
            return Ok(None);
        }
        let entry = self.view.entry(&self.log, index).map_err(LogError::Tiles)?;
        let missing =
            || LogError::Tiles(self.view.store().inconsistent(&self.log, &format!("entry {index} is missing")));
        let mut extra = entry.ok_or_else(missing)?;
        extra.extend_from_slice(&self.adoption);
        let (path, checkpoint) = (self.prover.inclusion(index, self.size)?, self.checkpoint.clone());
        Ok(Some(TlogProof { index, path, checkpoint, extra: Some(extra) }))
    }
}
