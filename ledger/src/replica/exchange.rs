//! What a replica and its caller hand each other.
use alloc::vec::Vec;

use super::Certificate;
#[cfg(doc)]
use super::Replica;
use crate::adoption::Adopted;
use crate::checkpoint::{Cosignature, SignedCheckpoint};
use crate::id::TreeRoot;
use crate::log::Head;
use crate::manifest::LogId;

/// Why a log is not cosigned any more. Only a manifest heals it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its owner signed a head below which an entry or a state root is invalid.
    Invalid,
    /// Its owner signed two heads of which neither extends the other.
    Equivocation,
}

impl Fault {
    /// Stable code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Invalid => "invalid_log",
            Self::Equivocation => "equivocation",
        }
    }
}

/// Why a range did not bring the copy on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchFailure {
    /// The copy grew on another way meanwhile: nobody's fault.
    Late,
    /// The peer gave none.
    Unanswered,
    /// The peer gave entries that do not lead from the copy to the head. Either the peer is wrong, or
    /// copy and head are on two branches that the owner signed.
    Wrong,
    /// The owner signed what no log may hold.
    Invalid,
    /// The log adopts a manifest version that is not held yet: it goes on once that is.
    Unheld,
}

/// A verified cosignature and the head that it is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosigned {
    /// The head, signed by the log's owner.
    pub signed: SignedCheckpoint,
    /// Whose node key made the cosignature: that of this generation of the operator's log.
    pub by: LogId,
    /// One operator's cosignature of it.
    pub cosignature: Cosignature,
}

impl Cosigned {
    pub(super) const fn head(&self) -> Head {
        self.signed.checkpoint().head
    }
}

/// What a peer says it has of one log; signatures checked by the caller.
#[derive(Clone, Debug)]
pub struct PeerLog {
    /// The log.
    pub log: LogId,
    /// Entries that the peer can serve.
    pub size: u64,
    /// The largest head that it knows, if that was news.
    pub newest: Option<SignedCheckpoint>,
    /// Cosignatures that were news.
    pub cosigned: Vec<Cosigned>,
}

/// What the caller is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplicaOutput<P> {
    /// Ask for the frontier; answer with [`Replica::frontier`] or [`Replica::unanswered`].
    AskFrontier {
        /// Whom.
        peer: P,
    },
    /// Ask for entries; answer with [`Replica::advanced`] or [`Replica::fetch_failed`].
    Fetch {
        /// Whom.
        peer: P,
        /// Of which log.
        log: LogId,
        /// From which index.
        from: u64,
        /// Below which signed head.
        head: Head,
    },
    /// Keep the owner's largest head.
    KeepNewest {
        /// It.
        signed: SignedCheckpoint,
    },
    /// Keep a head that its owner signed on another branch, durably: [`Replica::equivocated`] tells of it after
    /// a restart. With a head of this copy's branch that is at least as large it proves the equivocation.
    KeepConflicting {
        /// It.
        signed: SignedCheckpoint,
        /// The owner's smallest known head on this copy's branch that is as large, or larger.
        beside: Option<SignedCheckpoint>,
    },
    /// This copy is on a branch that others have left for good: drop what lies behind this size, fetch anew.
    Rewind {
        /// The log.
        log: LogId,
        /// What stays.
        size: u64,
    },
    /// Keep an operator's newest cosignature and the log's certified size.
    KeepCosigned {
        /// The log.
        log: LogId,
        /// The cosignature.
        cosigned: Cosigned,
        /// Entries below a certified head.
        certified: u64,
    },
    /// Keep the log's certificate: a new one, or one with more cosignatures.
    KeepCertificate {
        /// It.
        certificate: Certificate,
    },
    /// Entries below this are final now.
    Certified {
        /// The log.
        log: LogId,
        /// How many.
        size: u64,
    },
    /// Cosign this head, durably first, then call [`Replica::cosigned`] and tell everybody.
    Cosign {
        /// The head; the copy is exactly there.
        signed: SignedCheckpoint,
        /// With the node key of this generation of the own log.
        by: LogId,
    },
    /// Tell everybody of this head of the own log.
    Announce {
        /// The head.
        signed: SignedCheckpoint,
    },
    /// The log is not cosigned any more: say so loudly.
    Faulted {
        /// The log.
        log: LogId,
        /// Why.
        fault: Fault,
    },
}

/// Reads the root of this node's copy of a log at a size that the copy has.
pub trait Roots {
    /// Why it could not be read.
    type Error;

    /// The root over the first `size` entries.
    ///
    /// # Errors
    /// What the storage says.
    fn root_at(&self, log: &LogId, size: u64) -> Result<TreeRoot, Self::Error>;
}

/// What the disk has of one log.
#[derive(Clone, Debug)]
pub struct StoredLog {
    /// The head of the copy.
    pub head: Head,
    /// The size from which on entries are here; what lies below is known to be certified.
    pub base: u64,
    /// The versions adopted up to there.
    pub adopted: Vec<Adopted>,
    /// How much of it is final.
    pub certified: u64,
    /// The owner's largest known head.
    pub newest: Option<SignedCheckpoint>,
    /// Newest cosignature by each node key.
    pub cosigned: Vec<Cosigned>,
    /// The largest head that a quorum cosigned on one note.
    pub certificate: Option<Certificate>,
}
