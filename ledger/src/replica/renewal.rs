//! Cosignatures made again: the same head, a newer time. They show readers how recent a head is.
//!
//! The q-th newest time on a head means: until then, by the cosigners' clocks, no larger head of the log was certified
//! and no valid cut of it existed. For any later quorum shares an honest operator with these cosigners, and that one
//! renews no head once it has cosigned a larger one or agreed to a text that cuts the log.
use alloc::vec::Vec;

use super::{Cosigned, Replica, ReplicaOutput};
use crate::checkpoint::Cosignature;
use crate::limits;
use crate::log::Head;
use crate::manifest::LogId;

/// A verified cosignature of a head that this node knows a cosignature of by the same key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// The head that was cosigned again.
    pub head: Head,
    /// The node key that made the cosignature: the one of this generation of the cosigner's log.
    pub by: LogId,
    /// The newer cosignature by that key.
    pub cosignature: Cosignature,
}

/// Whether a cosignature was made while its author's clock was too far ahead of what it shows now, both in seconds.
/// Nobody else keeps such a cosignature, so it is made again with the right time.
#[must_use]
pub const fn is_misdated(known: u64, seconds: u64) -> bool {
    known > seconds.saturating_add(limits::HEAD_SKEW_MILLIS_MAX / 1_000)
}

/// Whether a cosignature's time, in seconds, is enough newer than the known one to replace it: half a heartbeat. So a
/// liar that renews without end costs two signature checks a heartbeat for each of its keys and each log.
#[must_use]
pub const fn renews(known: u64, seconds: u64, heartbeat_ms: u64) -> bool {
    let least = heartbeat_ms / 2_000;
    seconds >= known.saturating_add(if least == 0 { 1 } else { least })
}

impl<P: Ord + Copy> Replica<P> {
    /// Takes a cosignature made again, which replaces the older one in memory and in the certificate.
    pub fn renewed(&mut self, log: &LogId, renewal: Renewal) -> Option<ReplicaOutput<P>> {
        let heartbeat = self.manifest.heartbeat_ms();
        let copy = self.logs.get_mut(log).filter(|copy| copy.end.is_none())?;
        let (known, _) = copy.cosigned.get_mut(&renewal.by).filter(|(known, _)| known.head() == renewal.head)?;
        let (before, after) = (known.cosignature.seconds, renewal.cosignature.seconds);
        let redated = self.keys.contains(&renewal.by) && is_misdated(before, after);
        if !redated && !renews(before, after, heartbeat) {
            return None;
        }
        known.cosignature = renewal.cosignature;
        let cosigned = known.clone();
        copy.certificates.renew(&cosigned);
        Some(ReplicaOutput::KeepRenewed { log: log.clone(), cosigned })
    }

    /// This operator agrees to a text that cuts `log`: it renews no cosignature there until the next version is in use.
    pub fn agree(&mut self, log: &LogId) {
        if let Some(copy) = self.logs.get_mut(log) {
            copy.agreed = true;
        }
    }

    /// Once every heartbeat: the newest head that this operator cosigned in each log, to be cosigned again with each
    /// key that cosigned it. Neither a stand nor a fault ends this: the head is no larger than before.
    pub(super) fn renew(&mut self, now: u64) -> Vec<ReplicaOutput<P>> {
        let due = self.round.is_none_or(|last| now >= last.saturating_add(self.manifest.heartbeat_ms()));
        if !due || self.halted || self.keys.is_empty() || !self.gate.may_cosign(now) {
            return Vec::new();
        }
        self.round = Some(now);
        let mut out = Vec::new();
        for copy in self.logs.values().filter(|copy| copy.end.is_none() && !copy.agreed) {
            let own = || self.keys.iter().filter_map(|by| Some((by, &copy.cosigned.get(by)?.0)));
            let largest = own().map(|(_, cosigned)| cosigned.head().size).max();
            let newest = own().filter(|(_, cosigned)| Some(cosigned.head().size) == largest);
            out.extend(newest.map(|(by, Cosigned { signed, cosignature, .. })| ReplicaOutput::Renew {
                signed: signed.clone(),
                by: by.clone(),
                known: cosignature.seconds,
            }));
        }
        out
    }

    /// The certificates whose cosignatures were renewed since the last call.
    pub(super) fn renewed_certificates(&mut self) -> Vec<ReplicaOutput<P>> {
        let renewed = self.logs.values_mut().filter_map(|copy| copy.certificates.take_renewed());
        renewed.map(|certificate| ReplicaOutput::KeepRenewedCertificate { certificate }).collect()
    }
}
