//! What goes into the inbox and what it asks of the network.
use fama_ledger::checkpoint::SignedCheckpoint;
use fama_ledger::entry::{EntryError, VerifiedEntry, VerifiedEvent};
use fama_ledger::equivocation::Equivocation;
use fama_ledger::id::{Domain, FederationId, NoteHash};
use fama_ledger::log::{Hash, Head, leaf_hash};
use fama_ledger::manifest::LogId;
use fama_ledger::replica::Cosigned;
use libp2p::PeerId;
use rayon::prelude::*;
use tokio::sync::oneshot;

use crate::sync::heard::HeardFrontier;
use crate::wire::{EntryRange, Frontier, Gossip, Refusal, Submission};

/// From how many entries on other cores are worth waking.
const PARALLEL_MIN: usize = 8;

/// A verified event with the text of its note.
#[derive(Debug)]
pub struct Submitted {
    /// The event.
    pub event: VerifiedEvent,
    /// The note that it names, if it came along; it has the event's hash.
    pub note: Option<(NoteHash, String)>,
    /// It was in a log that was cut below it: the time at which it was created is no matter.
    pub recovered: bool,
}

/// What became of a submitted event.
#[derive(Debug)]
pub enum SubmitOutcome {
    /// It is in the own log, durable, below a signed head.
    Taken {
        /// Its index.
        index: u64,
        /// The encoded entry.
        entry: Vec<u8>,
        /// The head.
        signed: SignedCheckpoint,
        /// Whether it was there before.
        known: bool,
    },
    /// It is not.
    Refused(Refusal),
    /// Its issuer is not sponsored as far as this node knows: the sponsors' logs may say more.
    Unsponsored,
}

/// Entries with all that can be said of them without state.
#[derive(Debug)]
pub struct DecodedRange {
    /// Index of the first.
    pub first: u64,
    /// Leaf hashes of the bytes as received.
    pub leaves: Vec<Hash>,
    /// The entries, up to the first that is wrong.
    pub entries: Vec<VerifiedEntry>,
    /// What is wrong with that one.
    pub fault: Option<EntryError>,
    /// Consistency proof from behind the last entry to the head asked for.
    pub proof: Vec<Hash>,
}

impl DecodedRange {
    /// Decodes and verifies all entries, many of them on all cores.
    #[must_use]
    pub fn new(range: EntryRange, federation: &FederationId) -> Self {
        let leaves = range.entries.iter().map(|bytes| leaf_hash(bytes)).collect();
        let decode = |bytes| VerifiedEntry::decode(bytes, federation);
        let decoded: Vec<Result<VerifiedEntry, EntryError>> = match range.entries.len() {
            0..PARALLEL_MIN => range.entries.into_iter().map(decode).collect(),
            _ => range.entries.into_par_iter().map(decode).collect(),
        };
        let (mut entries, mut fault) = (Vec::with_capacity(decoded.len()), None);
        for entry in decoded {
            match entry {
                Ok(entry) => entries.push(entry),
                Err(error) => {
                    fault = Some(error);
                    break;
                }
            }
        }
        Self { first: range.first, leaves, entries, fault, proof: range.proof }
    }
}

/// What the inbox takes in. Every signature in it has been checked.
#[derive(Debug)]
pub enum InboxInput {
    /// A connection opened.
    PeerUp {
        /// With whom.
        peer: PeerId,
        /// The operator whose key that is.
        operator: Option<Domain>,
    },
    /// The last connection closed.
    PeerDown {
        /// With whom.
        peer: PeerId,
    },
    /// What a peer has.
    Frontier {
        /// Whose.
        peer: PeerId,
        /// It, without signatures that are no news.
        said: HeardFrontier,
        /// Its clock less this node's when it came, in milliseconds.
        ahead: i64,
    },
    /// No frontier came.
    Unanswered {
        /// From whom.
        peer: PeerId,
    },
    /// A gossiped head.
    Head {
        /// Who passed it on.
        peer: PeerId,
        /// It.
        signed: SignedCheckpoint,
        /// Its newest entries, if they came along.
        range: Option<DecodedRange>,
    },
    /// A gossiped cosignature.
    Cosigned(Cosigned),
    /// Entries that were asked for.
    Range {
        /// From whom.
        peer: PeerId,
        /// Of which log.
        log: LogId,
        /// Below which head.
        head: Head,
        /// They.
        range: DecodedRange,
    },
    /// They did not come.
    RangeFailed {
        /// From whom.
        peer: PeerId,
        /// Of which log.
        log: LogId,
    },
    /// Events for the own log.
    Submit {
        /// They.
        events: Vec<Submitted>,
        /// Gets one answer each, in order.
        reply: oneshot::Sender<Vec<SubmitOutcome>>,
    },
    /// The operator's own word: cosign nothing more in this log until the next version of the manifest holds.
    Stand {
        /// The log; the node's own: take nothing more in.
        log: LogId,
        /// Gets the stand, a signed note.
        reply: oneshot::Sender<Result<String, Refusal>>,
    },
    /// A version of the manifest, not checked yet.
    Manifest {
        /// The signed note.
        text: String,
        /// Gets whether it was taken up; `None` if nobody waits.
        reply: Option<oneshot::Sender<Result<(), Refusal>>>,
    },
    /// Versions of the manifest that a peer holds, not checked yet.
    Manifests {
        /// Who.
        peer: PeerId,
        /// They, oldest first.
        texts: Vec<String>,
    },
    /// A proof that an owner signed two branches.
    Equivocation(Equivocation),
    /// Ask everybody what they have, now.
    AskAll,
    /// Texts of notes, each with its hash.
    Notes(Vec<(NoteHash, String)>),
    /// Finish and end.
    Stop,
}

/// What the inbox asks of the network.
#[derive(Debug)]
pub enum InboxCommand {
    /// Ask for a frontier; [`InboxInput::Frontier`] or [`InboxInput::Unanswered`] follows.
    AskFrontier {
        /// Whom.
        peer: PeerId,
        /// What to say of ourselves.
        ours: Frontier,
    },
    /// Ask for entries; [`InboxInput::Range`] or [`InboxInput::RangeFailed`] follows.
    Fetch {
        /// Whom.
        peer: PeerId,
        /// Of which log.
        log: LogId,
        /// From which index.
        from: u64,
        /// Below which head.
        head: Head,
    },
    /// Ask for notes; [`InboxInput::Notes`] may follow.
    FetchNotes {
        /// Whom; `None`: anybody.
        peer: Option<PeerId>,
        /// Which.
        hashes: Vec<NoteHash>,
    },
    /// Ask for versions of the manifest; [`InboxInput::Manifests`] may follow.
    FetchManifests {
        /// Whom.
        peer: PeerId,
        /// The first wanted.
        from: u32,
    },
    /// Hand in again what a branch had that was left.
    Resubmit(Vec<Submission>),
    /// Gossip this.
    Publish(Gossip),
    /// A peer sent what no honest peer sends.
    Penalize {
        /// Who.
        peer: PeerId,
        /// What: a stable code.
        code: &'static str,
    },
}
