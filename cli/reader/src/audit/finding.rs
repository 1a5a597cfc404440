//! Findings: what kind of lie, shown by which source, at which entry.
use fama_ledger::equivocation::Equivocation;
use fama_ledger::id::Hex;
use fama_ledger::manifest::LogId;
use fama_ledger::{codec, equivocation};
use serde_json::{Value, json};

/// The kinds of findings that an audit tells apart; all but the first are lies or damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LieKind {
    /// The source does not answer, so it shows nothing, neither a lie nor the truth.
    Unreachable,
    /// A file is missing, unreadable or too long: the source shows less than it must.
    Unavailable,
    /// A manifest version is invalid, or is not the one that other sources show.
    Manifest,
    /// A checkpoint without a valid signature of the log's owner, or of another log.
    Checkpoint,
    /// Fewer operators cosigned the head than its quorum needs.
    Quorum,
    /// A source shows less than an earlier audit saw, or less than the trusted manifest.
    Rollback,
    /// Two heads of one log, neither of which extends the other.
    SplitView,
    /// A cut log does not end with the head and state that its cut names.
    Cut,
    /// A hash tile that does not belong to the tree of the head.
    TreeMismatch,
    /// An entry that differs from the one in the tree.
    EntryChanged,
    /// An entry of the tree is left out.
    EntryDropped,
    /// An entry that is not in the tree.
    EntryAdded,
    /// The entries of the tree in another order.
    EntriesReordered,
    /// In the tree: an event whose author's signature is invalid.
    Signature,
    /// In the tree: bytes that do not decode as an entry.
    InvalidEntry,
    /// In the tree: entries that break the rules of a log.
    InvalidBatch,
    /// In the tree: a state root that replaying the entries does not give.
    StateRoot,
    /// A note whose hash is not the one in its path.
    Note,
}

impl LieKind {
    /// Stable `snake_case` code of the kind.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Unavailable => "unavailable",
            Self::Manifest => "manifest",
            Self::Checkpoint => "checkpoint",
            Self::Quorum => "quorum",
            Self::Rollback => "rollback",
            Self::SplitView => "split_view",
            Self::Cut => "cut",
            Self::TreeMismatch => "tree_mismatch",
            Self::EntryChanged => "entry_changed",
            Self::EntryDropped => "entry_dropped",
            Self::EntryAdded => "entry_added",
            Self::EntriesReordered => "entries_reordered",
            Self::Signature => "signature",
            Self::InvalidEntry => "invalid_entry",
            Self::InvalidBatch => "invalid_batch",
            Self::StateRoot => "state_root",
            Self::Note => "note",
        }
    }
}

/// One lie, with what identifies it.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditFinding {
    /// The kind of lie.
    pub lie: LieKind,
    /// Stable code of the broken rule; [`LieKind::as_str`] where the rule has no code of its own.
    pub code: String,
    /// The source at fault; `None` if the log's owner is, because the entry is in the signed tree.
    pub source: Option<String>,
    /// The log, if the finding is about one.
    pub log: Option<LogId>,
    /// Index of the first wrong entry.
    pub index: Option<u64>,
    /// What is wrong, in a sentence for people.
    pub what: String,
    /// Proves to anyone that the log's owner signed two branches.
    pub proof: Option<Box<Equivocation>>,
}

/// A check that fails with a finding.
pub type AuditResult<T> = Result<T, Box<AuditFinding>>;

impl AuditFinding {
    /// A finding without source, log or index; its code is the kind's own.
    pub fn new(lie: LieKind, what: impl Into<String>) -> Box<Self> {
        let code = lie.as_str().to_owned();
        Box::new(Self { lie, code, source: None, log: None, index: None, what: what.into(), proof: None })
    }

    /// Sets the code of the broken rule.
    #[must_use]
    pub fn code(mut self: Box<Self>, code: impl Into<String>) -> Box<Self> {
        self.code = code.into();
        self
    }

    /// Sets the source at fault.
    #[must_use]
    pub fn by(mut self: Box<Self>, source: &str) -> Box<Self> {
        self.source = Some(source.to_owned());
        self
    }

    /// Sets the log.
    #[must_use]
    pub fn within(mut self: Box<Self>, log: &LogId) -> Box<Self> {
        self.log = Some(log.clone());
        self
    }

    /// Sets the index of the first wrong entry.
    #[must_use]
    pub const fn at(mut self: Box<Self>, index: u64) -> Box<Self> {
        self.index = Some(index);
        self
    }

    /// As a JSON object; a proof is in hex, in the protocol's encoding.
    #[must_use]
    pub fn json(&self) -> Value {
        let proof =
            self.proof.as_deref().map(|proof: &equivocation::Equivocation| Hex(&codec::encode(proof)).to_string());
        json!({
            "lie": self.lie.as_str(), "code": self.code, "source": self.source,
            "log": self.log.as_ref().map(ToString::to_string), "index": self.index, "what": self.what,
            "equivocation": proof,
        })
    }
}

impl std::fmt::Display for AuditFinding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.lie.as_str())?;
        if let Some(log) = &self.log {
            write!(f, " in {log}")?;
        }
        if let Some(index) = self.index {
            write!(f, ", entry {index}")?;
        }
        write!(f, ": {}", self.what)?;
        self.source.as_ref().map_or(Ok(()), |source| write!(f, " (shown by {source})"))
    }
}
