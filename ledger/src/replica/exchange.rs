//! The types that a replica and its caller exchange.
use alloc::vec::Vec;

#[cfg(doc)]
use super::Replica;
use super::{Certificate, Renewal};
use crate::adoption::Adopted;
use crate::checkpoint::{Cosignature, SignedCheckpoint};
use crate::id::TreeRoot;
use crate::log::Head;
use crate::manifest::LogId;

/// Why a log is not cosigned any more. Only a later version of the manifest, which cuts the log, ends this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its owner signed a head below which an entry or a state root is invalid.
    Invalid,
    /// Its owner signed two heads, neither of which extends the other.
    Equivocation,
}

impl Fault {
    /// The stable code for answers, logs and metrics.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Invalid => "invalid_log",
            Self::Equivocation => "equivocation",
        }
    }
}

/// Why a range of entries did not extend the copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchFailure {
    /// The copy has grown in the meantime by another range: nobody's fault.
    Late,
    /// The peer returned no entries.
    Unanswered,
    /// The peer returned entries that do not lead from the copy to the head. Either the peer is wrong, or copy and
    /// head are on two branches that the owner signed.
    Wrong,
    /// The owner signed a head of an invalid log.
    Invalid,
    /// The log adopts a manifest version that this node does not hold yet; the copy waits for it.
    Unheld,
    /// The next entries are ahead of this node's clock; the copy waits a little.
    Ahead,
}

/// A verified cosignature and its head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosigned {
    /// The head, signed by the log's owner.
    pub signed: SignedCheckpoint,
    /// The node key that made the cosignature: the one of this generation of the cosigner's log.
    pub by: LogId,
    /// The cosignature by that key.
    pub cosignature: Cosignature,
}

impl Cosigned {
    pub(super) const fn head(&self) -> Head {
        self.signed.checkpoint().head
    }
}

/// What a peer reports about one log. The caller has verified the signatures.
#[derive(Clone, Debug)]
pub struct PeerLog {
    /// The log that the report is about.
    pub log: LogId,
    /// The number of entries that the peer can serve.
    pub size: u64,
    /// The largest head of the log that the peer knows, if this node lacks it.
    pub newest: Option<SignedCheckpoint>,
    /// Cosignatures that this node lacks.
    pub cosigned: Vec<Cosigned>,
    /// Newer cosignatures of heads that this node knows as cosigned by the same keys.
    pub renewed: Vec<Renewal>,
    /// The peer's certificate, if this node may need it.
    pub certificate: Option<Certificate>,
}

/// What the caller must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplicaOutput<P> {
    /// Request a peer's frontier, then call [`Replica::frontier`] or [`Replica::unanswered`].
    AskFrontier {
        /// The peer to ask.
        peer: P,
    },
    /// Request entries, then call [`Replica::advanced`] or [`Replica::fetch_failed`].
    Fetch {
        /// The peer to ask.
        peer: P,
        /// The log that has the entries.
        log: LogId,
        /// The index of the first entry.
        from: u64,
        /// The head that the entries lead to: the last one has the index `head.size - 1`.
        head: Head,
    },
    /// Store the owner's largest known head.
    KeepNewest {
        /// The head, signed by the owner.
        signed: SignedCheckpoint,
    },
    /// Store durably a head that the owner signed on another branch, and pass it to [`Replica::equivocated`] after a
    /// restart. Together with a head of this copy's branch that is not smaller, it proves the equivocation.
    KeepConflicting {
        /// The head on the other branch.
        signed: SignedCheckpoint,
        /// The owner's smallest known head that conflicts with it and is not smaller.
        beside: Option<SignedCheckpoint>,
    },
    /// This copy is on a branch that is not the log's: drop the entries after this size, then fetch them again.
    Rewind {
        /// The log to rewind.
        log: LogId,
        /// The number of entries that stay.
        size: u64,
    },
    /// Store an operator's newest cosignature and the log's certified size.
    KeepCosigned {
        /// The log of the cosigned head.
        log: LogId,
        /// The cosignature and its head.
        cosigned: Cosigned,
        /// The number of certified entries.
        certified: u64,
    },
    /// Store the log's certificate: a new one, or the same with more cosignatures.
    KeepCertificate {
        /// The certificate, which replaces the stored one.
        certificate: Certificate,
    },
    /// The first `size` entries of this copy are final now.
    Certified {
        /// The log that has the entries.
        log: LogId,
        /// The number of certified entries.
        size: u64,
    },
    /// Cosign this head, store the cosignature durably, then call [`Replica::cosigned`] and send it to all peers.
    Cosign {
        /// The head; this copy is exactly at it.
        signed: SignedCheckpoint,
        /// The node key to use: that of this generation of the own log.
        by: LogId,
    },
    /// Cosign this head again with the current time, if that is enough newer than `known`, then call
    /// [`Replica::renewed`].
    Renew {
        /// The newest head that `by` cosigned in its log.
        signed: SignedCheckpoint,
        /// The node key to use: that of this generation of the own log.
        by: LogId,
        /// The time of its last cosignature, in seconds since 1970.
        known: u64,
    },
    /// Keep a renewed cosignature in memory, where frontiers take it from. It is in place of the stored one, which has
    /// the same head.
    KeepRenewed {
        /// The log of the cosigned head.
        log: LogId,
        /// The cosignature and its head.
        cosigned: Cosigned,
    },
    /// Keep the certificate, in which only times became newer, in memory in place of the stored one.
    KeepRenewedCertificate {
        /// The certificate with the newest known cosignatures.
        certificate: Certificate,
    },
    /// Announce this head of the own log to all peers.
    Announce {
        /// The head, durable and signed.
        signed: SignedCheckpoint,
    },
    /// The log is not cosigned any more: alert the operator.
    Faulted {
        /// The log with the fault.
        log: LogId,
        /// The kind of fault.
        fault: Fault,
    },
}

/// Reads the root of this node's copy of a log at a size that the copy has.
pub trait Roots {
    /// A failure of the storage.
    type Error;

    /// The root over the first `size` entries.
    ///
    /// # Errors
    /// The storage's own error.
    fn root_at(&self, log: &LogId, size: u64) -> Result<TreeRoot, Self::Error>;
}

/// The state of one log on disk, from which a replica restores it.
#[derive(Clone, Debug)]
pub struct StoredLog {
    /// The head of this node's copy.
    pub head: Head,
    /// The size at which the copy starts: earlier entries are certified, but this node does not have them.
    pub base: u64,
    /// The versions that the log adopted up to the head.
    pub adopted: Vec<Adopted>,
    /// The number of certified entries.
    pub certified: u64,
    /// The owner's largest known head.
    pub newest: Option<SignedCheckpoint>,
    /// The newest cosignature by each node key.
    pub cosigned: Vec<Cosigned>,
    /// The largest head that a quorum cosigned on one note.
    pub certificate: Option<Certificate>,
}
