//! Messages between nodes: the strict codec of the ledger, each kind with its bound.
use bincode::{Decode, Encode};
use fama_ledger::checkpoint::{Checkpoint, CheckpointError, Cosignature, SignedCheckpoint};
use fama_ledger::entry::SignedEvent;
use fama_ledger::equivocation::Equivocation;
use fama_ledger::id::{EventId, ManifestHash, NoteHash};
use fama_ledger::log::{Hash, Head};
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::map::RangeProof;
use fama_ledger::replica::Cosigned;
use fama_ledger::snapshot::Offer;
use fama_ledger::time::Millis;

/// Longest sync or submit request, in bytes: 256 submissions of the largest size with notes.
pub const REQUEST_BYTES_MAX: usize = 2 << 20;
/// Longest response, in bytes: a whole batch of the largest entries, and its proof.
pub const RESPONSE_BYTES_MAX: usize = 20 << 20;
/// How many bytes of entries a responder stops at, once it has one whole batch.
pub const ENTRIES_BYTES_SOFT: usize = 2 << 20;
/// Longest gossip message, in bytes.
pub const GOSSIP_BYTES_MAX: usize = 64 << 10;
/// How many bytes of entries travel within a gossip message; larger batches are fetched.
pub const GOSSIP_ENTRIES_BYTES_MAX: usize = 48 << 10;
/// Most submissions of one request.
pub const SUBMISSIONS_MAX: usize = 256;
/// Most notes of one request.
pub const NOTES_MAX: usize = 256;
/// Most manifests of one response.
pub const MANIFESTS_MAX: usize = 16;
/// Most cosigned heads of a log in a frontier beyond one of each operator: of former ones and former node keys.
pub const FORMER_COSIGNERS_MAX: usize = 8;

/// Most rows of one response.
pub const ROWS_MAX: usize = 8_192;
/// How many bytes of rows a responder stops at; the row that goes beyond is the last.
pub const ROWS_BYTES_SOFT: usize = 1 << 20;

/// What a node asks another.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum SyncRequest {
    /// What do you have? This is what I have. First message on every connection: the hello.
    Frontier(Frontier),
    /// Whole batches of a log from an index on, with a proof that they are below `head`.
    Entries {
        /// The log.
        log: LogId,
        /// The first index wanted: the asker's size.
        from: u64,
        /// A signed head that both know.
        head: Head,
    },
    /// Texts of notes, at most [`NOTES_MAX`].
    Notes(Vec<NoteHash>),
    /// Versions of the manifest from this one on, oldest first, as signed notes.
    Manifests {
        /// The first version wanted, at least 2.
        from: u32,
    },
    /// The state of each log at a certified head, without its rows, which [`SyncRequest::Rows`] brings.
    Offers,
    /// Rows of one map of a log, as they were at a head that was offered.
    Rows {
        /// The log.
        log: LogId,
        /// The head that was offered.
        head: Head,
        /// Which of the offered maps, counted from 0.
        map: u16,
        /// The first key wanted, or what it begins with; nothing for the map's first row. At most
        /// [`fama_ledger::map::KEY_BYTES_MAX`].
        from: Vec<u8>,
        /// Up to the first row with a key not before this one, which comes along; none: to the map's end.
        to: Option<Vec<u8>>,
    },
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum SyncResponse {
    /// To [`SyncRequest::Frontier`].
    Frontier(Frontier),
    /// To [`SyncRequest::Entries`].
    Entries(EntryRange),
    /// To [`SyncRequest::Notes`]: those it has.
    Notes(Vec<(NoteHash, NoteAnswer)>),
    /// To [`SyncRequest::Manifests`], at most [`MANIFESTS_MAX`].
    Manifests(Vec<String>),
    /// Not now, or not here.
    Refused(Refusal),
    /// To [`SyncRequest::Offers`]: of the logs of the version in use, those that have a certified head at hand.
    Offers(Vec<Offer>),
    /// To [`SyncRequest::Rows`].
    Rows(RowRange),
}

/// Rows of a map that follow one another, at most [`ROWS_MAX`] and about [`ROWS_BYTES_SOFT`] of them.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RowRange {
    /// Whole keys and encoded values, ascending.
    pub rows: Vec<(Vec<u8>, Vec<u8>)>,
    /// Shows that none is missing between the key asked for and the last one.
    pub proof: RangeProof,
}

/// What a node knows of a note.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum NoteAnswer {
    /// Its text.
    Text(String),
    /// It was dropped here.
    Redacted,
}

/// One process of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Session {
    /// Drawn at random when the process started.
    pub id: [u8; 16],
    /// Whether its start is over: it may have signed something.
    pub writes: bool,
}

/// What a node has, log by log.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Frontier {
    /// The sender's clock.
    pub time: Millis,
    /// The sender's.
    pub session: Session,
    /// Another live session of the key that is asking, as the sender knows; in a request none.
    pub other: Option<Session>,
    /// The newest version of the manifest that the sender holds.
    pub manifest: u32,
    /// The hash of its text; where a rival of it is known, the BLAKE3 of both hashes, the smaller one first.
    pub manifest_hash: ManifestHash,
    /// Every log of the version that the sender uses; who uses a version has those that it cut.
    pub logs: Vec<LogFrontier>,
}

impl Frontier {
    /// Of an asker that has no entries and the versions of `manifest`.
    #[must_use]
    pub fn nothing(manifest: &Manifest, time: Millis) -> Self {
        let (session, other, manifest_hash) = (Session::default(), None, manifest.hash());
        Self { time, session, other, manifest: manifest.version(), manifest_hash, logs: Vec::new() }
    }
}

/// What a node has of one log.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LogFrontier {
    /// The log.
    pub log: LogId,
    /// Entries that the sender can serve.
    pub size: u64,
    /// The largest head of the owner that the sender knows.
    pub newest: Option<SignedHead>,
    /// Every operator's newest cosigned head.
    pub cosigned: Vec<CosignedHead>,
    /// Proof that its owner signed two branches, if there is one.
    pub equivocation: Option<Equivocation>,
}

/// A head with its owner's signature, not verified yet.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SignedHead {
    /// The head.
    pub head: Head,
    /// By the log's node key, over the checkpoint's text.
    pub signature: [u8; 64],
}

impl SignedHead {
    /// What travels of a checkpoint whose log the message names.
    #[must_use]
    pub fn of(checkpoint: &SignedCheckpoint) -> Self {
        Self { head: checkpoint.checkpoint().head, signature: *checkpoint.signature() }
    }

    /// Checks the owner's signature.
    ///
    /// # Errors
    /// [`CheckpointError`]; a log that the manifest doesn't know is one too.
    pub fn verify(&self, manifest: &Manifest, log: &LogId) -> Result<SignedCheckpoint, CheckpointError> {
        let known = manifest.log(log).ok_or_else(|| CheckpointError::UnknownOrigin(manifest.origin(log)))?;
        SignedCheckpoint::verify(
            Checkpoint { origin: manifest.origin(log), head: self.head },
            self.signature,
            &known.node_key,
        )
    }
}

/// A head with its owner's signature and one operator's cosignature.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct CosignedHead {
    /// The head, signed by the log's owner.
    pub signed: SignedHead,
    /// The cosignature.
    pub cosignature: Cosignature,
}

impl CosignedHead {
    /// What travels of a cosigned checkpoint whose log the message names.
    #[must_use]
    pub fn of(cosigned: &Cosigned) -> Self {
        Self { signed: SignedHead::of(&cosigned.signed), cosignature: cosigned.cosignature.clone() }
    }

    /// Checks both signatures; `None` if one does not hold or no operator of `manifest` has that name.
    #[must_use]
    pub fn verify(&self, manifest: &Manifest, log: &LogId) -> Option<Cosigned> {
        let signed = self.signed.verify(manifest, log).ok()?;
        let mut generations = manifest.generations(&self.cosignature.operator);
        let (by, _) = generations.find(|(_, key)| self.cosignature.verify(signed.checkpoint(), key).is_ok())?;
        Some(Cosigned { by: by.clone(), cosignature: self.cosignature.clone(), signed })
    }
}

/// Whole batches of a log.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct EntryRange {
    /// Index of the first entry.
    pub first: u64,
    /// Encoded entries; the last is a state entry.
    pub entries: Vec<Vec<u8>>,
    /// RFC 6962 consistency proof from behind the last entry to the head asked for; empty if that is it.
    pub proof: Vec<Hash>,
}

/// What spreads by gossip: hints, never needed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Gossip {
    /// A new head of the sender's own or another log, with its new entries if they are few.
    Head {
        /// The log.
        log: LogId,
        /// Its head.
        signed: SignedHead,
        /// Its newest entries, from index `first`; empty if they are many.
        first: u64,
        /// Encoded entries.
        entries: Vec<Vec<u8>>,
    },
    /// A new cosignature.
    Cosignature {
        /// The log.
        log: LogId,
        /// Its head and the cosignature.
        cosigned: CosignedHead,
    },
    /// Proof that an owner signed two branches of its log.
    Equivocation(Equivocation),
}

/// Signed events for their homes' logs, at most [`SUBMISSIONS_MAX`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SubmitRequest {
    /// Already passed on once: a node that is not the home refuses instead of passing it on again.
    pub forwarded: bool,
    /// What is submitted.
    pub submissions: Vec<Submission>,
}

/// One signed event with what travels beside it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Submission {
    /// The event and its signatures.
    pub signed: SignedEvent,
    /// The text of the note that it names.
    pub note: Option<String>,
    /// An invitation token of the home, for registrations beyond the rate.
    pub invite: Option<String>,
    /// Proof that it was in a log that was cut below it: then it is let in whenever it was created.
    pub recovered: Option<Recovered>,
}

/// An entry of a branch that was left, and the proof that its owner's head has it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Recovered {
    /// The encoded entry.
    pub entry: Vec<u8>,
    /// C2SP tlog-proof.
    pub proof: String,
}

/// One result per submission, in order.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SubmitResponse(pub Vec<SubmitResult>);

/// What became of one submission.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum SubmitResult {
    /// It is in the log, durable.
    Accepted(Receipt),
    /// It is not, and why.
    Refused(Refusal),
}

/// Proof that an event is in a log.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Receipt {
    /// The event.
    pub event: EventId,
    /// The log that has it.
    pub log: LogId,
    /// Where.
    pub index: u64,
    /// Whether it was there before.
    pub known: bool,
    /// The encoded entry: the leaf that the proof proves.
    pub entry: Vec<u8>,
    /// C2SP tlog-proof to a head that the owner signed.
    pub proof: String,
}

/// Why something was not done, in one stable word and one sentence.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Refusal {
    /// Stable snake_case word.
    pub code: String,
    /// For a person.
    pub message: String,
    /// Seconds after which another try may help.
    pub retry_after: Option<u32>,
}

impl Refusal {
    /// A refusal that does not depend on time.
    pub fn new(code: &str, message: impl std::fmt::Display) -> Self {
        Self { code: code.to_owned(), message: message.to_string(), retry_after: None }
    }
    /// The refusal of a request for rows of a state that is not pinned, or no longer.
    #[must_use]
    pub fn snapshot_gone() -> Self {
        Self::new("snapshot_gone", "this node has no such state at hand: ask for offers anew")
    }
}
