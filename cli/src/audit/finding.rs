//! What an audit finds: which lie, whose, and where.
use fama_ledger::equivocation::Equivocation;
use fama_ledger::id::Hex;
use fama_ledger::manifest::LogId;
use fama_ledger::{codec, equivocation};
use serde_json::{Value, json};

/// The kinds of lies that can be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// A file is missing, unreadable or too long: the source shows less than it must.
    Unavailable,
    /// A version of the manifest that does not hold, or is another one than elsewhere.
    Manifest,
    /// A head that is no signed head of this log.
    Checkpoint,
    /// Too few operators cosigned the head.
    Quorum,
    /// Older than what an audit saw before.
    Rollback,
    /// Two heads of one log of which neither extends the other.
    SplitView,
    /// A log that a manifest cuts is not what the cut names.
    Cut,
    /// Hashes that are not in the tree of the head.
    TreeMismatch,
    /// An entry is another one than in the tree.
    EntryChanged,
    /// An entry of the tree is missing.
    EntryDropped,
    /// An entry that is not in the tree.
    EntryAdded,
    /// The tree's entries in another order.
    EntriesReordered,
    /// In the tree: an author's signature that does not hold.
    Signature,
    /// In the tree: bytes that are no valid entry.
    InvalidEntry,
    /// In the tree: entries that break the rules of a log.
    InvalidBatch,
    /// In the tree: a state root that the entries do not make.
    StateRoot,
    /// A note that is not the one that an entry names.
    Note,
}

impl Lie {
    /// Stable word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
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

/// One lie.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Which kind.
    pub lie: Lie,
    /// Stable code of the rule that is broken, often the kind's own word.
    pub code: String,
    /// The source that showed it; `None`: the owner signed it, whoever shows it.
    pub source: Option<String>,
    /// The log.
    pub log: Option<LogId>,
    /// The first entry that is wrong.
    pub index: Option<u64>,
    /// What is wrong, for people.
    pub what: String,
    /// Shows anyone that the owner signed two branches.
    pub proof: Option<Box<Equivocation>>,
}

/// A result whose error is a finding.
pub type Found<T> = Result<T, Box<Finding>>;

impl Finding {
    /// Without a place yet.
    pub fn new(lie: Lie, what: impl Into<String>) -> Box<Self> {
        let code = lie.as_str().to_owned();
        Box::new(Self { lie, code, source: None, log: None, index: None, what: what.into(), proof: None })
    }

    /// Of a rule with a code of its own.
    #[must_use]
    pub fn code(mut self: Box<Self>, code: impl Into<String>) -> Box<Self> {
        self.code = code.into();
        self
    }

    /// Shown by this source.
    #[must_use]
    pub fn by(mut self: Box<Self>, source: &str) -> Box<Self> {
        self.source = Some(source.to_owned());
        self
    }

    /// In this log.
    #[must_use]
    pub fn within(mut self: Box<Self>, log: &LogId) -> Box<Self> {
        self.log = Some(log.clone());
        self
    }

    /// From this entry on.
    #[must_use]
    pub const fn at(mut self: Box<Self>, index: u64) -> Box<Self> {
        self.index = Some(index);
        self
    }

    /// As `--json` shows it. A proof is in the encoding of the protocol, in hex.
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

impl std::fmt::Display for Finding {
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
