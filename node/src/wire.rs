//! Messages between nodes, encoded with the ledger's strict codec; every list and message has a bound.
use bincode::{Decode, Encode};
use fama_ledger::checkpoint::{Checkpoint, CheckpointError, Cosignature, SignedCheckpoint};
use fama_ledger::entry::SignedEvent;
use fama_ledger::equivocation::Equivocation;
use fama_ledger::id::{EventId, ManifestHash, NoteHash};
use fama_ledger::log::{Hash, Head};
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::map::RangeProof;
use fama_ledger::replica::{Certificate, Cosigned};
use fama_ledger::snapshot::Offer;
use fama_ledger::time::Millis;

/// Longest sync or submit request, in bytes: fits 256 submissions of the largest size, with notes.
pub const REQUEST_BYTES_MAX: usize = 2 << 20;
/// Longest response, in bytes: fits a whole batch of the largest entries, and its proof.
pub const RESPONSE_BYTES_MAX: usize = 20 << 20;
/// Bytes of entries at which a responder stops, once it has one whole batch.
pub const ENTRIES_BYTES_SOFT: usize = 2 << 20;
/// Longest gossip message, in bytes.
pub const GOSSIP_BYTES_MAX: usize = 64 << 10;
/// Most bytes of entries in a gossip message; larger batches are left out and fetched by sync.
pub const GOSSIP_ENTRIES_BYTES_MAX: usize = 48 << 10;
/// Most bytes of entries and their notes in a gossip message; notes beyond are left out and fetched.
pub const GOSSIP_NOTES_BYTES_MAX: usize = 60 << 10;
/// Most bytes of notes that come with a range of entries; notes beyond are left out and fetched.
pub const RANGE_NOTES_BYTES_MAX: usize = 2 << 20;
/// Most submissions of one request.
pub const SUBMISSIONS_MAX: usize = 256;
/// Most notes of one request.
pub const NOTES_MAX: usize = 256;
/// Most manifests of one response.
pub const MANIFESTS_MAX: usize = 16;
/// Most heads cosigned by former operators or former node keys in a log's frontier, besides one per operator.
pub const FORMER_COSIGNERS_MAX: usize = 8;

/// Most rows of one response.
pub const ROWS_MAX: usize = 8_192;
/// Bytes of rows at which a responder stops; the row that reaches this size is the last.
pub const ROWS_BYTES_SOFT: usize = 1 << 20;

/// A request for another node's data. Changes nothing at the responder.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum SyncRequest {
    /// Asks what the responder has and reports what the sender has. First message on every connection: the hello.
    Frontier(Frontier),
    /// Asks for whole batches of a log from an index on, with a proof that they are part of the log at `head`.
    Entries {
        /// The log to read.
        log: LogId,
        /// The first index wanted: the size of the asker's copy.
        from: u64,
        /// A head signed by the log's owner, known to both nodes.
        head: Head,
    },
    /// Asks for the texts of at most [`NOTES_MAX`] notes.
    Notes(Vec<NoteHash>),
    /// Asks for the manifest's versions from one version on.
    Manifests {
        /// The first version wanted, at least 2.
        from: u32,
    },
    /// Asks for the state of each log at a certified head. [`SyncRequest::Rows`] then asks for its rows.
    Offers,
    /// Asks for rows of one map of a log, as they were at an offered head.
    Rows {
        /// The log that carries the map.
        log: LogId,
        /// The offered head.
        head: Head,
        /// The map's index in the offer, from 0.
        map: u16,
        /// Rows start at the first key that is not before these bytes; empty for the map's first row. At most one byte
        /// longer than [`fama_ledger::map::KEY_BYTES_MAX`].
        from: Vec<u8>,
        /// Rows end with the first key that is not before these bytes, that row included; `None` for the map's end.
        to: Option<Vec<u8>>,
    },
}

/// The answer to a [`SyncRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum SyncResponse {
    /// To [`SyncRequest::Frontier`].
    Frontier(Frontier),
    /// To [`SyncRequest::Entries`].
    Entries(EntryRange),
    /// To [`SyncRequest::Notes`]: those of the requested notes that the responder has.
    Notes(Vec<(NoteHash, NoteAnswer)>),
    /// To [`SyncRequest::Manifests`]: signed notes, oldest first, at most [`MANIFESTS_MAX`]; then a rival of the
    /// newest version, if one is known.
    Manifests(Vec<String>),
    /// To any request: the responder cannot answer it now, or not at all.
    Refused(Refusal),
    /// To [`SyncRequest::Offers`]: one for each uncut log whose state at a certified head the responder still has.
    Offers(Vec<Offer>),
    /// To [`SyncRequest::Rows`].
    Rows(RowRange),
}

/// Consecutive rows of a map: at most [`ROWS_MAX`], and about [`ROWS_BYTES_SOFT`] bytes.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RowRange {
    /// Whole keys and encoded values, ascending.
    pub rows: Vec<(Vec<u8>, Vec<u8>)>,
    /// Proves that no row is missing between the start of the request and the last of these rows.
    pub proof: RangeProof,
}

/// What a node has of a note.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum NoteAnswer {
    /// The note's text.
    Text(String),
    /// The node removed the text.
    Redacted,
}

/// One process of a node: distinguishes two processes with the same node key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Session {
    /// Drawn at random when the process started.
    pub id: [u8; 16],
    /// Whether the process has finished starting: from then on it may have signed something.
    pub writes: bool,
}

/// What a node has, log by log.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Frontier {
    /// The sender's clock.
    pub time: Millis,
    /// The sender's process.
    pub session: Session,
    /// In an answer, another live process with the asker's key, if the sender knows one; in a request `None`.
    pub other: Option<Session>,
    /// The newest version of the manifest that the sender holds.
    pub manifest: u32,
    /// The hash of that version's text; if a rival text is known, the BLAKE3 of both hashes, the smaller one first.
    pub manifest_hash: ManifestHash,
    /// Every uncut log of the version that the sender uses. A node that uses a version has all of the logs that it cut.
    pub logs: Vec<LogFrontier>,
}

impl Frontier {
    /// The frontier of an asker that has no entries, and the manifest's versions up to `manifest`.
    #[must_use]
    pub fn nothing(manifest: &Manifest, time: Millis) -> Self {
        let (session, other, manifest_hash) = (Session::default(), None, manifest.hash());
        Self { time, session, other, manifest: manifest.version(), manifest_hash, logs: Vec::new() }
    }
}

/// What a node has of one log.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LogFrontier {
    /// The log described.
    pub log: LogId,
    /// Number of entries that the sender can serve.
    pub size: u64,
    /// The largest head signed by the owner that the sender knows.
    pub newest: Option<SignedHead>,
    /// The newest head that each operator cosigned, and at most [`FORMER_COSIGNERS_MAX`] by former keys.
    pub cosigned: Vec<CosignedHead>,
    /// Proof that the log's owner signed two branches, if the sender has one.
    pub equivocation: Option<Equivocation>,
    /// In an answer, the sender's certificate, if `cosigned` does not show all of it: its cosigners met at that head
    /// and have cosigned larger ones since.
    pub certificate: Option<Box<CertifiedHead>>,
}

/// A head with the signature of the log's owner, not verified yet.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SignedHead {
    /// The signed size and root.
    pub head: Head,
    /// Ed25519 signature by the log's node key over the checkpoint's text.
    pub signature: [u8; 64],
}

impl SignedHead {
    /// The part of a checkpoint that is sent when the message already names the log.
    #[must_use]
    pub fn of(checkpoint: &SignedCheckpoint) -> Self {
        Self { head: checkpoint.checkpoint().head, signature: *checkpoint.signature() }
    }

    /// Checks the owner's signature.
    ///
    /// # Errors
    /// [`CheckpointError`], also if the manifest does not know the log.
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
    /// The operator's cosignature over the same checkpoint.
    pub cosignature: Cosignature,
}

impl CosignedHead {
    /// The part of a cosigned checkpoint that is sent when the message already names the log.
    #[must_use]
    pub fn of(cosigned: &Cosigned) -> Self {
        Self { signed: SignedHead::of(&cosigned.signed), cosignature: cosigned.cosignature.clone() }
    }

    /// Checks both signatures; `None` if either is invalid or `manifest` has no operator with that name.
    #[must_use]
    pub fn verify(&self, manifest: &Manifest, log: &LogId) -> Option<Cosigned> {
        let signed = self.signed.verify(manifest, log).ok()?;
        let mut generations = manifest.generations(&self.cosignature.operator);
        let (by, _) = generations.find(|(_, key)| self.cosignature.verify(signed.checkpoint(), key).is_ok())?;
        Some(Cosigned { by: by.clone(), cosignature: self.cosignature.clone(), signed })
    }
}

/// A head that a quorum cosigned on one note, with its owner's signature.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct CertifiedHead {
    /// The head, signed by the log's owner.
    pub signed: SignedHead,
    /// Cosignatures, each with the generation of the cosigner's log whose node key signed.
    pub cosignatures: Vec<(u32, Cosignature)>,
}

impl CertifiedHead {
    /// Checks all signatures; `None` if one is invalid or `manifest` does not know its key. Does not check for a
    /// quorum: the replica does.
    #[must_use]
    pub fn verify(&self, manifest: &Manifest, log: &LogId) -> Option<Certificate> {
        let signed = self.signed.verify(manifest, log).ok()?;
        let verified = self.cosignatures.iter().map(|(generation, cosignature)| {
            let by = LogId { operator: cosignature.operator.clone(), generation: *generation };
            cosignature.verify(signed.checkpoint(), &manifest.log(&by)?.node_key).ok()?;
            Some((by, cosignature.clone()))
        });
        let cosignatures = verified.collect::<Option<_>>()?;
        Some(Certificate { signed, cosignatures })
    }
}

/// Consecutive whole batches of a log.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct EntryRange {
    /// Index of the first entry.
    pub first: u64,
    /// Encoded entries; the last is a state entry.
    pub entries: Vec<Vec<u8>>,
    /// RFC 6962 consistency proof from the size after the last entry to the requested head; empty if they are equal.
    pub proof: Vec<Hash>,
    /// Texts of notes that these entries name: those that the sender has, up to [`RANGE_NOTES_BYTES_MAX`].
    pub notes: Vec<String>,
}

/// A gossip message: a hint only, since sync brings the same later.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Gossip {
    /// A new head of any log, with its new entries if they are few.
    Head {
        /// The log that grew.
        log: LogId,
        /// The log's new head.
        signed: SignedHead,
        /// Index of the first of `entries`.
        first: u64,
        /// The newest entries, encoded; empty if longer than [`GOSSIP_ENTRIES_BYTES_MAX`].
        entries: Vec<Vec<u8>>,
        /// Texts of notes that these entries name, up to [`GOSSIP_NOTES_BYTES_MAX`] with the entries.
        notes: Vec<String>,
    },
    /// A new cosignature.
    Cosignature {
        /// The log whose head was cosigned.
        log: LogId,
        /// The head and its new cosignature.
        cosigned: CosignedHead,
    },
    /// Proof that an owner signed two branches of its log.
    Equivocation(Equivocation),
}

/// Signed events to append to their homes' logs.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SubmitRequest {
    /// Whether a node has already forwarded this request: a node that is not the home then does not forward it again.
    /// It takes an operator's word that the home does not take a revocation, and claims it; it refuses everything else.
    pub forwarded: bool,
    /// The events, at most [`SUBMISSIONS_MAX`].
    pub submissions: Vec<Submission>,
}

/// One signed event, with what accompanies it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Submission {
    /// The event and its signatures.
    pub signed: SignedEvent,
    /// The text of the note that the event names.
    pub note: Option<String>,
    /// An invitation token from the home's operator: lifts the rate limit on registrations.
    pub invite: Option<String>,
    /// Proof that the event was in a log that was later cut below it. Such an event is accepted at any age. With a
    /// revocation: proof of the registration or rotation that brought the version it names, for a node that has not
    /// seen that yet.
    pub recovered: Option<Recovered>,
}

/// An entry, with a proof under a head that the log's owner signed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Recovered {
    /// The encoded entry.
    pub entry: Vec<u8>,
    /// C2SP tlog-proof of the entry.
    pub proof: String,
}

/// One result per submission, in the order of the request.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SubmitResponse(pub Vec<SubmitResult>);

/// The outcome of one submission.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum SubmitResult {
    /// The event is durably in the log, whether or not it was there before.
    Accepted(Receipt),
    /// The event was not appended, and why.
    Refused(Refusal),
}

/// Proof that an event is in a log.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Receipt {
    /// Id of the event.
    pub event: EventId,
    /// The log that has the event.
    pub log: LogId,
    /// Index of the entry in the log.
    pub index: u64,
    /// Whether the event was in the log before this submission.
    pub known: bool,
    /// The encoded entry: the leaf that the proof is about.
    pub entry: Vec<u8>,
    /// C2SP tlog-proof to a head that the owner signed.
    pub proof: String,
}

/// Why a request was not carried out: a stable code and a sentence.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Refusal {
    /// Stable code in snake_case.
    pub code: String,
    /// A sentence for people; may change between versions.
    pub message: String,
    /// Seconds after which a retry may succeed; `None` if waiting does not help.
    pub retry_after: Option<u32>,
}

impl Refusal {
    /// A refusal that gives no time for a retry.
    pub fn new(code: &str, message: impl std::fmt::Display) -> Self {
        Self { code: code.to_owned(), message: message.to_string(), retry_after: None }
    }
    /// Refuses rows of a state that is not pinned, or no longer.
    #[must_use]
    pub fn snapshot_gone() -> Self {
        Self::new("snapshot_gone", "this node does not hold that state: ask for offers again")
    }
}
