//! What is newer in memory than on disk: cosignatures made again, and how much of the own log others may know of.
//!
//! A start has what is on disk: the same heads with older times, until the next frontiers. Only the inbox writes here.
use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use fama_ledger::manifest::LogId;

use super::{Store, StoredCertificate, View};
use crate::wire::{CosignedHead, SignedHead};

/// Each value counts only while the disk has one of the same head, or of a larger one in the case of `announced`.
#[derive(Default)]
pub(super) struct RenewedHeads(RwLock<Heads>);

#[derive(Default)]
struct Heads {
    /// By log and the node key that cosigned.
    cosigned: BTreeMap<(LogId, LogId), CosignedHead>,
    certificates: BTreeMap<LogId, StoredCertificate>,
    /// The announced head of the own log.
    announced: Option<(LogId, SignedHead)>,
}

impl RenewedHeads {
    fn read(&self) -> RwLockReadGuard<'_, Heads> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Heads> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the stored cosignatures of `log` by renewed ones of the same head and key.
    pub(super) fn cosigned(&self, log: &LogId, stored: &mut [(LogId, CosignedHead)]) {
        let heads = self.read();
        for (by, one) in stored {
            let renewed = heads.cosigned.get(&(log.clone(), by.clone()));
            if let Some(renewed) = renewed.filter(|renewed| renewed.signed.head == one.signed.head) {
                one.clone_from(renewed);
            }
        }
    }

    /// The certificate in memory if it is of the stored one's head, else the stored one.
    pub(super) fn certificate(&self, log: &LogId, stored: StoredCertificate) -> StoredCertificate {
        let heads = self.read();
        let newer = heads.certificates.get(log).filter(|newer| newer.signed.head == stored.signed.head);
        newer.cloned().unwrap_or(stored)
    }
}

impl Store {
    /// Keeps a renewed cosignature, of the head that is stored for this key, in memory.
    pub fn renew_cosigned(&self, log: &LogId, by: &LogId, cosigned: CosignedHead) {
        self.renewed.write().cosigned.insert((log.clone(), by.clone()), cosigned);
    }

    /// Keeps a certificate with renewed cosignatures, of the head of the stored one, in memory.
    pub fn renew_certificate(&self, log: &LogId, certificate: StoredCertificate) {
        self.renewed.write().certificates.insert(log.clone(), certificate);
    }

    /// Forgets the certificate in memory: a newer one was stored.
    pub(super) fn forget_renewed(&self, log: &LogId) {
        self.renewed.write().certificates.remove(log);
    }

    /// Others may know the own log up to this head; `None`: all of it.
    pub fn set_announced(&self, announced: Option<(LogId, SignedHead)>) {
        self.renewed.write().announced = announced;
    }
}

impl View<'_> {
    /// The largest head of `log` that others may know of: that of its owner, unless this is the own log and that head
    /// has not been announced yet.
    ///
    /// # Errors
    /// [`super::StoreError`].
    pub fn shown(&self, log: &LogId) -> Result<Option<SignedHead>, super::StoreError> {
        let newest = self.newest(log)?;
        let heads = self.store().renewed.read();
        let announced = heads.announced.as_ref().filter(|(own, _)| own == log).map(|(_, head)| head);
        Ok(newest.map(|newest| match announced {
            Some(announced) if announced.head.size < newest.head.size => announced.clone(),
            _ => newest,
        }))
    }
}
