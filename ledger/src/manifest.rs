//! Who the operators are: the manifest, its policy and its quorums, and how one version follows another.
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use bincode::{Decode, Encode};
use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Serialize};

use crate::checkpoint::{Origin, decimal};
use crate::event::Action;
use crate::id::{Domain, FederationId, ManifestHash, StateRoot};
use crate::limits;
use crate::log::Head;
use crate::signed_note::{NoteError, SignedNote};

mod chain;
mod state;
mod succession;
mod text;

pub use state::VersionState;
pub use text::{Draft, Genesis};

/// First line of a manifest's text.
pub const MANIFEST_FORMAT: &str = "fama.manifest/1";

/// Why a manifest was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Longer than any manifest may be.
    #[error("{0} bytes, at most {max} allowed", max = limits::MANIFEST_BYTES_MAX)]
    TooLong(usize),
    /// Not a signed note.
    #[error("not a signed note: {0}")]
    Note(String),
    /// The text does not begin with the format.
    #[error("the first line is not format = {MANIFEST_FORMAT:?}")]
    Format,
    /// Not the TOML of a manifest; the message names line and column.
    #[error("{0}")]
    Toml(String),
    /// A value breaks a rule.
    #[error("{field}: {rule}")]
    Value {
        /// Where.
        field: &'static str,
        /// The rule or the value.
        rule: String,
    },
    /// Not the version that is wanted here: the genesis, or the one behind the newest that is held.
    #[error("version {found}, want version {wanted}")]
    Version {
        /// The manifest's.
        found: u32,
        /// The one that would fit.
        wanted: u32,
    },
    /// Not a successor of the version before it: another federation, or another text before it.
    #[error("{field} is not that of the version before it")]
    Previous {
        /// What differs.
        field: &'static str,
    },
    /// A rule about what may change from one version to the next.
    #[error("{0}")]
    Succession(String),
    /// An operator's governance key did not sign, or signed something else.
    #[error("the governance key of {0} did not sign this text")]
    Signature(Domain),
    /// Too few governance keys of a version signed.
    #[error("{signed} operators of version {version} signed, {wanted} must")]
    Quorum {
        /// Whose operators.
        version: u32,
        /// How many of them signed.
        signed: usize,
        /// How many must.
        wanted: usize,
    },
    /// Wrong in a version of a chain behind its genesis.
    #[error("version {version}: {error}")]
    InChain {
        /// Which version it should be.
        version: u32,
        /// What is wrong with it.
        error: Box<Self>,
    },
    /// More versions than a chain may have.
    #[error("more than {max} versions", max = limits::VERSIONS_MAX)]
    ChainTooLong,
}

impl ManifestError {
    /// Stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLong(_) => "manifest_too_long",
            Self::Note(_) => "manifest_note",
            Self::Format => "manifest_format",
            Self::Toml(_) => "manifest_toml",
            Self::Value { .. } => "manifest_value",
            Self::Version { .. } => "manifest_version",
            Self::Previous { .. } => "manifest_previous",
            Self::Succession(_) => "manifest_succession",
            Self::Quorum { .. } => "manifest_quorum",
            Self::Signature(_) => "manifest_signature",
            Self::InChain { error, .. } => error.code(),
            Self::ChainTooLong => "manifest_chain_too_long",
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "called with literals and error values alike")]
fn value<T>(field: &'static str, rule: impl ToString) -> Result<T, ManifestError> {
    Err(ManifestError::Value { field, rule: rule.to_string() })
}

/// The federation's rules that a manifest sets. Each day is a UTC day of entry time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Largest absolute delta of one attestation.
    pub max_delta: u32,
    /// Most that the absolute effective deltas of one provider to one subject add up to in one day of `created`.
    pub daily_cap: u32,
    /// How many operators must sponsor a provider before its attestations count.
    pub min_sponsors: u32,
    /// Most registrations per home and day.
    pub daily_registrations: u32,
    /// Most attestations per provider and day.
    pub daily_attestations: u32,
    /// Most retractions per provider and day.
    pub daily_retractions: u32,
    /// Most claims of foreign revocations per log and day.
    pub daily_claims: u32,
    /// Most bytes that a log takes per day.
    pub daily_bytes: u64,
    /// How far `created` may lie behind the entry's time, in milliseconds.
    pub max_age_ms: u64,
    /// How long a submission may wait for others at most, in milliseconds.
    pub batch_ms: u64,
}

impl Policy {
    /// The recommended policy of a federation of `n` operators.
    #[must_use]
    pub fn recommended(n: usize) -> Self {
        Self {
            max_delta: 5,
            daily_cap: 25,
            min_sponsors: u32::try_from(faults(n).saturating_add(1)).unwrap_or(u32::MAX),
            daily_registrations: 100_000,
            daily_attestations: 1_000_000,
            daily_retractions: 1_000,
            daily_claims: 10_000,
            daily_bytes: 4 << 30,
            max_age_ms: 3 * 86_400_000,
            batch_ms: 100,
        }
    }

    fn check(&self, n: usize) -> Result<(), ManifestError> {
        if !(1 <= self.max_delta && self.max_delta <= self.daily_cap && self.daily_cap <= 1_000) {
            return value("policy", "want 1 ≤ max_delta ≤ daily_cap ≤ 1000");
        }
        let sponsors = usize::try_from(self.min_sponsors).unwrap_or(usize::MAX);
        if !(1..=n).contains(&sponsors) {
            return value("policy", "want 1 ≤ min_sponsors ≤ number of operators");
        }
        if self.batch_ms > 60_000 { value("policy", "want batch_ms ≤ 60000") } else { Ok(()) }
    }
}

/// How many lying operators `n` operators withstand: ⌊(n−1)/3⌋.
#[must_use]
pub const fn faults(n: usize) -> usize {
    n.saturating_sub(1) / 3
}

/// How many operators of `n` certify a head: ⌊(n+f)/2⌋ + 1.
#[must_use]
pub const fn quorum(n: usize) -> usize {
    (n.saturating_add(faults(n)) / 2).saturating_add(1)
}

/// One generation of an operator's log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct LogId {
    /// The owner.
    pub operator: Domain,
    /// Counts from 1; a new one begins an empty log.
    pub generation: u32,
}

/// A text that names no log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("want an operator and a generation, like alpha.example/1")]
pub struct LogIdError;

impl core::str::FromStr for LogId {
    type Err = LogIdError;
    /// Reads exactly what it displays as.
    fn from_str(text: &str) -> Result<Self, LogIdError> {
        let (operator, generation) = text.split_once('/').ok_or(LogIdError)?;
        let operator = operator.parse().map_err(|_| LogIdError)?;
        Ok(Self { operator, generation: decimal(generation).ok_or(LogIdError)? })
    }
}

impl core::fmt::Display for LogId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}/{}", self.operator, self.generation)
    }
}

/// An operator: who signs one log and cosigns the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// Names it and, at first, its home.
    pub name: Domain,
    /// Signs heads and cosignatures, and is its libp2p identity. Hot.
    pub node_key: VerifyingKey,
    /// Signs manifests. Kept offline.
    pub governance_key: VerifyingKey,
    /// The generation of its log.
    pub generation: u32,
    /// libp2p multiaddresses without peer id.
    pub addresses: Vec<String>,
}

impl Operator {
    /// The log that this operator writes now.
    #[must_use]
    pub fn log(&self) -> LogId {
        LogId { operator: self.name.clone(), generation: self.generation }
    }
}

/// Where a log ends for ever. Beyond it nothing counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The log.
    pub log: LogId,
    /// Its last head; [`Head::EMPTY`] of a log that never began.
    pub head: Head,
    /// The state root there; zeros of a log that never began.
    pub state_root: StateRoot,
    /// The version that the log had adopted there; 0 if it never began.
    pub adopted: u32,
    /// The log that carries its statements and claims on.
    pub successor: LogId,
}

/// What all versions together say of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownLog {
    /// Signs its heads, and cosigns the others' for its operator.
    pub node_key: VerifyingKey,
    /// The version that brought it, and that its first entry adopts.
    pub since: u32,
    /// Where it ends, if it does, and the version that says so.
    pub cut: Option<(u32, Cut)>,
}

/// The newest of a chain of versions, from the genesis on, each of which follows from the one before. Its rules
/// and signatures were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    note: SignedNote,
    hash: ManifestHash,
    federation: FederationId,
    name: String,
    version: u32,
    policy: Policy,
    operators: Vec<Operator>,
    homes: BTreeMap<Domain, LogId>,
    /// Which log carries an operator's statements and claims; also of operators that are gone.
    records: BTreeMap<Domain, LogId>,
    /// Every log of this version and of those before it.
    logs: BTreeMap<LogId, KnownLog>,
    previous: Option<Arc<Self>>,
}

/// Whose signatures a version wants, and has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signers {
    /// The version whose operators sign.
    pub version: u32,
    /// How many must.
    pub wanted: usize,
    /// Who did.
    pub signed: Vec<Domain>,
}

impl Manifest {
    /// Reads and verifies a genesis: its rules, and the signatures of all its governance keys.
    ///
    /// Whether this is the federation that one means shows in [`Manifest::federation`] only.
    ///
    /// # Errors
    /// [`ManifestError`] says what is wrong.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let manifest = text::genesis(read_note(text)?)?;
        match manifest.operators.iter().find(|operator| !matches!(manifest.signed_by(operator), Ok(true))) {
            Some(operator) => Err(ManifestError::Signature(operator.name.clone())),
            None => Ok(manifest),
        }
    }

    /// Reads and verifies the version behind this one: its rules, and the signatures of the quorums that
    /// [`Manifest::signers`] names.
    ///
    /// # Errors
    /// [`ManifestError`] says what is wrong.
    pub fn successor(self: &Arc<Self>, text: &str) -> Result<Self, ManifestError> {
        let next = self.unsigned_successor(read_note(text)?)?;
        for Signers { version, wanted, signed } in next.signers()? {
            if signed.len() < wanted {
                return Err(ManifestError::Quorum { version, signed: signed.len(), wanted });
            }
        }
        Ok(next)
    }

    /// Reads the version behind this one and checks its rules, but not who signed it.
    ///
    /// # Errors
    /// [`ManifestError`] says what is wrong.
    pub fn unsigned_successor(self: &Arc<Self>, note: SignedNote) -> Result<Self, ManifestError> {
        succession::follow(self, note)
    }

    /// Whose signatures this version wants and has: a quorum of the version before it and, for each log that
    /// it cuts, of the version that the log had adopted there and of the one adopted before that. The adoption
    /// there may not be certified yet; all before it are, as operators cosign no second uncertified one.
    /// Empty for the genesis, which all its operators sign.
    ///
    /// # Errors
    /// [`ManifestError::Signature`]: a line of a known governance key does not hold.
    pub fn signers(&self) -> Result<Vec<Signers>, ManifestError> {
        let mut found = Vec::new();
        for version in succession::signing_versions(self) {
            let Some(signing) = self.at(version) else { continue };
            let mut signed = Vec::new();
            for operator in &signing.operators {
                if self.signed_by(operator)? {
                    signed.push(operator.name.clone());
                }
            }
            found.push(Signers { version, wanted: signing.quorum(), signed });
        }
        Ok(found)
    }

    fn signed_by(&self, operator: &Operator) -> Result<bool, ManifestError> {
        match self.note.verify(operator.name.as_str(), &operator.governance_key) {
            Ok(()) => Ok(true),
            Err(NoteError::Unsigned { .. }) => Ok(false),
            Err(_) => Err(ManifestError::Signature(operator.name.clone())),
        }
    }

    /// The text with its signatures.
    #[must_use]
    pub const fn note(&self) -> &SignedNote {
        &self.note
    }

    /// BLAKE3 of the text.
    #[must_use]
    pub const fn hash(&self) -> ManifestHash {
        self.hash
    }

    /// The federation: the hash of the genesis.
    #[must_use]
    pub const fn federation(&self) -> FederationId {
        self.federation
    }

    /// The federation's name for people.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Counts from 1, the genesis.
    #[must_use]
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// The version before this one; `None` of the genesis.
    #[must_use]
    pub const fn previous(&self) -> Option<&Arc<Self>> {
        self.previous.as_ref()
    }

    /// The first version.
    #[must_use]
    pub fn genesis(self: &Arc<Self>) -> Arc<Self> {
        let mut first = self;
        while let Some(previous) = &first.previous {
            first = previous;
        }
        Arc::clone(first)
    }

    /// This version and those before it, newest first.
    pub fn versions(&self) -> impl Iterator<Item = &Self> {
        core::iter::successors(Some(self), |manifest| manifest.previous.as_deref())
    }

    /// That version, if it is this or an earlier one.
    #[must_use]
    pub fn at(&self, version: u32) -> Option<&Self> {
        self.versions().find(|manifest| manifest.version == version)
    }

    /// The rules.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The operators of this version in its order.
    #[must_use]
    pub fn operators(&self) -> &[Operator] {
        &self.operators
    }

    /// The operator of that name in this version.
    #[must_use]
    pub fn operator(&self, name: &Domain) -> Option<&Operator> {
        self.operators.iter().find(|operator| operator.name == *name)
    }

    /// Every log of this version and of those before it, cut ones too.
    #[must_use]
    pub const fn logs(&self) -> &BTreeMap<LogId, KnownLog> {
        &self.logs
    }

    /// What is known of a log; `None` if no version has it.
    #[must_use]
    pub fn log(&self, log: &LogId) -> Option<&KnownLog> {
        self.logs.get(log)
    }

    /// Where a log ends, if it does.
    #[must_use]
    pub fn cut(&self, log: &LogId) -> Option<&Cut> {
        self.log(log)?.cut.as_ref().map(|(_, cut)| cut)
    }

    /// The cuts that this version makes.
    pub fn cuts(&self) -> impl Iterator<Item = &Cut> {
        let made = self.logs.values().filter_map(|known| known.cut.as_ref());
        made.filter(|(version, _)| *version == self.version).map(|(_, cut)| cut)
    }

    /// The generations of an operator, each with its node key, newest first.
    pub fn generations<'a>(&'a self, operator: &'a Domain) -> impl Iterator<Item = (&'a LogId, &'a VerifyingKey)> {
        let from = LogId { operator: operator.clone(), generation: 0 };
        let to = LogId { operator: operator.clone(), generation: u32::MAX };
        self.logs.range(from..=to).rev().map(|(log, known)| (log, &known.node_key))
    }

    /// Which log carries which home.
    #[must_use]
    pub const fn homes(&self) -> &BTreeMap<Domain, LogId> {
        &self.homes
    }

    /// The homes that `log` carries, in their names' order.
    pub fn homes_of<'a>(&'a self, log: &'a LogId) -> impl Iterator<Item = &'a Domain> + 'a {
        self.homes.iter().filter(move |(_, carrier)| *carrier == log).map(|(home, _)| home)
    }

    /// Which log carries whose statements and claims, operators that are gone included.
    #[must_use]
    pub const fn records(&self) -> &BTreeMap<Domain, LogId> {
        &self.records
    }

    /// The operators whose statements and claims `log` carries, in their names' order.
    pub fn records_of<'a>(&'a self, log: &'a LogId) -> impl Iterator<Item = &'a Domain> + 'a {
        self.records.iter().filter(move |(_, carrier)| *carrier == log).map(|(operator, _)| operator)
    }

    /// The log that takes such an action in: an operator's own, or the one that carries the home.
    #[must_use]
    pub fn log_for(&self, action: &Action) -> Option<LogId> {
        let place = action.place();
        match action {
            Action::Admit { .. } | Action::Dismiss { .. } => self.operator(place).map(Operator::log),
            _ => self.homes.get(place).cloned(),
        }
    }

    /// How many operators certify a head.
    #[must_use]
    pub const fn quorum(&self) -> usize {
        quorum(self.operators.len())
    }

    /// Whether `holds` is true of the logs of a quorum of this version's operators. For cosignatures that were verified
    /// one by one and are kept by the generation that made them; those on a note are [`crate::note_quorum`]'s.
    pub fn has_quorum(&self, holds: impl Fn(&LogId) -> bool) -> bool {
        self.operators.iter().filter(|operator| holds(&operator.log())).count() >= self.quorum()
    }

    /// How many lying operators do no harm.
    #[must_use]
    pub const fn faults(&self) -> usize {
        faults(self.operators.len())
    }

    /// The origin line of a log's checkpoints.
    #[must_use]
    pub fn origin(&self, log: &LogId) -> Origin {
        Origin { federation: self.federation, operator: log.operator.clone(), generation: log.generation }
    }
}

fn read_note(text: &str) -> Result<SignedNote, ManifestError> {
    if text.len() > limits::MANIFEST_BYTES_MAX {
        return Err(ManifestError::TooLong(text.len()));
    }
    SignedNote::parse(text.as_bytes(), limits::MANIFEST_BYTES_MAX)
        .map_err(|error| ManifestError::Note(error.to_string()))
}
