//! The inbox's inputs, and the commands that it gives to the network.
use std::collections::BTreeSet;

use fama_ledger::checkpoint::SignedCheckpoint;
use fama_ledger::entry::{EntryError, VerifiedEntry, VerifiedEvent};
use fama_ledger::equivocation::Equivocation;
use fama_ledger::id::{Domain, FederationId, NoteHash};
use fama_ledger::log::{Hash, Head, leaf_hash};
use fama_ledger::manifest::LogId;
use fama_ledger::note::note_hash;
use fama_ledger::replica::Cosigned;
use libp2p::PeerId;
use tokio::sync::oneshot;

use super::redact::NoteBefore;
use crate::sync::heard::HeardFrontier;
use crate::verify;
use crate::wire::{EntryRange, Frontier, Gossip, Refusal, Submission};

/// A verified event with the text of its note.
#[derive(Debug)]
pub struct Submitted {
    /// The signed event.
    pub event: VerifiedEvent,
    /// The note that the event names, if it was submitted too; the text matches its hash.
    pub note: Option<(NoteHash, String)>,
    /// The event was in a log that was cut below it, so its creation time is not checked. Of a revocation: a receipt
    /// shows that the version it names exists.
    pub recovered: bool,
    /// The operator whose node forwarded it, if one did.
    pub forwarder: Option<Domain>,
}

/// The result for a submitted event.
#[derive(Debug)]
pub enum SubmitOutcome {
    /// The event is in the own log, durable, below a signed head.
    Taken {
        /// Index of its entry.
        index: u64,
        /// The encoded entry.
        entry: Vec<u8>,
        /// A signed head above the entry.
        signed: SignedCheckpoint,
        /// Whether the log had the event before.
        known: bool,
    },
    /// The event was not appended.
    Refused(Refusal),
    /// The event was not appended because no copy on this node shows a sponsor of its issuer. The sponsors' own nodes
    /// may know more.
    Unsponsored,
}

/// A range of entries after every check that needs no state.
#[derive(Debug)]
pub struct DecodedRange {
    /// Index of the first entry.
    pub first: u64,
    /// Leaf hashes of the bytes as received.
    pub leaves: Vec<Hash>,
    /// The valid entries before the first invalid one.
    pub entries: Vec<VerifiedEntry>,
    /// Why the first invalid entry is invalid.
    pub fault: Option<EntryError>,
    /// Consistency proof from the tree after the last entry to the requested head.
    pub proof: Vec<Hash>,
    /// The notes that came along and that a valid entry names.
    pub notes: Vec<(NoteHash, String)>,
    /// Whether other texts came along: the sender's fault.
    pub strange_notes: bool,
}

impl DecodedRange {
    /// Decodes and verifies all entries, on all cores if there are many.
    #[must_use]
    pub fn new(range: EntryRange, federation: &FederationId) -> Self {
        let leaves = range.entries.iter().map(|bytes| leaf_hash(bytes)).collect();
        let (entries, fault) = verify::decode_all(range.entries, federation);
        let named: BTreeSet<NoteHash> = entries.iter().filter_map(note_of).collect();
        let notes = range.notes.into_iter().map(|text| (note_hash(text.as_bytes()), text));
        let (notes, strange): (Vec<_>, Vec<_>) = notes.partition(|(hash, _)| named.contains(hash));
        Self {
            first: range.first,
            leaves,
            entries,
            fault,
            proof: range.proof,
            notes,
            strange_notes: !strange.is_empty(),
        }
    }
}

/// The note that an entry names.
pub(super) fn note_of(entry: &VerifiedEntry) -> Option<NoteHash> {
    entry.event()?.event().action.note()
}

/// An input of the inbox. Its signatures have been verified, except those of manifests.
#[derive(Debug)]
pub enum InboxInput {
    /// The first connection to a peer opened.
    PeerUp {
        /// The connected peer.
        peer: PeerId,
        /// The operator whose node key the peer has; `None` for strangers.
        operator: Option<Domain>,
    },
    /// The last connection to a peer closed.
    PeerDown {
        /// The disconnected peer.
        peer: PeerId,
    },
    /// A peer's answer to [`InboxCommand::AskFrontier`].
    Frontier {
        /// The peer that answered.
        peer: PeerId,
        /// Its frontier, without signatures that this node already has.
        said: HeardFrontier,
        /// The peer's clock minus this node's when the frontier arrived, in milliseconds.
        ahead: i64,
    },
    /// A peer gave no usable answer to [`InboxCommand::AskFrontier`].
    Unanswered {
        /// The peer that was asked.
        peer: PeerId,
    },
    /// A gossiped head.
    Head {
        /// The peer that forwarded it, not necessarily the owner.
        peer: PeerId,
        /// The head, signed by its log's owner.
        signed: SignedCheckpoint,
        /// The newest entries below the head, if the message had them.
        range: Option<DecodedRange>,
    },
    /// A gossiped cosignature.
    Cosigned(Cosigned),
    /// A peer's answer to [`InboxCommand::Fetch`].
    Range {
        /// The peer that answered.
        peer: PeerId,
        /// The log that was asked for.
        log: LogId,
        /// The head that was asked for; the range leads to it or to a smaller size.
        head: Head,
        /// The entries, checked without state.
        range: DecodedRange,
    },
    /// A peer gave no usable answer to [`InboxCommand::Fetch`].
    RangeFailed {
        /// The peer that was asked.
        peer: PeerId,
        /// The log that was asked for.
        log: LogId,
    },
    /// Events for the own log.
    Submit {
        /// The submitted events.
        events: Vec<Submitted>,
        /// Receives one outcome for each event, in order.
        reply: oneshot::Sender<Vec<SubmitOutcome>>,
    },
    /// The operator's request to sign a stand: from then on its node cosigns nothing more in this log, until the next
    /// version of the manifest is in use.
    Stand {
        /// The log; if it is the node's own, it also accepts no more events.
        log: LogId,
        /// Receives the stand as a signed note.
        reply: oneshot::Sender<Result<String, Refusal>>,
    },
    /// The operator's request to drop a note's text for good.
    Redact {
        /// The note; no entry need name it.
        hash: NoteHash,
        /// Receives what the node had of it, once it is durably dropped.
        reply: oneshot::Sender<Result<NoteBefore, Refusal>>,
    },
    /// The operator is about to approve a draft of the next version: from then on its node renews no cosignature in the
    /// logs that the draft cuts.
    Agree {
        /// The draft's text, without signatures.
        text: String,
        /// Receives whether the node agreed.
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    /// A manifest version, not verified yet.
    Manifest {
        /// The signed note.
        text: String,
        /// Receives whether the version is valid and kept; `None` if nobody waits.
        reply: Option<oneshot::Sender<Result<(), Refusal>>>,
    },
    /// Manifest versions that a peer holds, not verified yet.
    Manifests {
        /// The peer that sent them.
        peer: PeerId,
        /// Signed notes, oldest version first.
        texts: Vec<String>,
    },
    /// A proof that an owner signed two branches.
    Equivocation(Equivocation),
    /// Ask all peers for their frontiers now.
    AskAll,
    /// Texts of notes, each with its hash.
    Notes(Vec<(NoteHash, String)>),
    /// Append what waits, then end.
    Stop,
}

/// A command of the inbox to the network.
#[derive(Debug)]
pub enum InboxCommand {
    /// Ask for a frontier; [`InboxInput::Frontier`] or [`InboxInput::Unanswered`] follows.
    AskFrontier {
        /// The peer to ask.
        peer: PeerId,
        /// What the request shows of this node: no logs.
        ours: Frontier,
    },
    /// Ask for entries; [`InboxInput::Range`] or [`InboxInput::RangeFailed`] follows.
    Fetch {
        /// The peer to ask.
        peer: PeerId,
        /// The log to fetch from.
        log: LogId,
        /// Index of the first wanted entry.
        from: u64,
        /// The head that the entries must lead to.
        head: Head,
    },
    /// Ask for notes; [`InboxInput::Notes`] may follow.
    FetchNotes {
        /// The peer to ask; `None`: any.
        peer: Option<PeerId>,
        /// Hashes of the wanted notes.
        hashes: Vec<NoteHash>,
    },
    /// Ask for manifest versions; [`InboxInput::Manifests`] may follow.
    FetchManifests {
        /// The peer to ask.
        peer: PeerId,
        /// The first wanted version.
        from: u32,
    },
    /// Submit events of an abandoned branch again.
    Resubmit(Vec<Submission>),
    /// Gossip this message.
    Publish(Gossip),
    /// Lower the score of a peer that sent what no honest peer sends.
    Penalize {
        /// The peer at fault.
        peer: PeerId,
        /// Stable code of the offence.
        code: &'static str,
    },
}
