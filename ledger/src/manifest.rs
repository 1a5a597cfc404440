//! The manifest: its operators, policy and quorums, and how one version follows another.
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
use crate::time::Millis;

mod chain;
mod changes;
mod endpoints;
mod state;
mod succession;
#[cfg(test)]
mod tests;
mod text;

pub use changes::changes;
pub use endpoints::Endpoints;
pub use state::VersionState;
pub use text::{Draft, Genesis};

/// First line of a manifest's text.
pub const MANIFEST_FORMAT: &str = "fama.manifest/1";

/// The newest protocol that this program knows. A manifest names the protocol of the logs that adopt it; without a
/// name it is 1.
pub const PROTOCOL: u32 = 1;

/// Why a manifest was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Longer than [`limits::MANIFEST_BYTES_MAX`].
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
    /// Not the one text that its content has; [`Draft::text`] and [`Genesis::text`] write it.
    #[error("line {line} is not as the canonical text has it")]
    Canonical {
        /// The first line that differs, from 1.
        line: usize,
    },
    /// A version of a protocol that this program does not know. [`Manifest::successor`] returns this only for a version
    /// that a quorum signed.
    #[error("version {version} is of protocol {protocol}, this program knows {PROTOCOL}: install a newer release")]
    Protocol {
        /// The version in the text.
        version: u32,
        /// The protocol in the text.
        protocol: u32,
    },
    /// A value breaks a rule.
    #[error("{field}: {rule}")]
    Value {
        /// The key in the TOML.
        field: &'static str,
        /// The rule, or the value that breaks it.
        rule: String,
    },
    /// Not the expected version: 1 for a genesis, else one more than the version before it.
    #[error("version {found}, want version {wanted}")]
    Version {
        /// The version in the text.
        found: u32,
        /// The expected version.
        wanted: u32,
    },
    /// Does not follow from the version before it: another federation, name, or hash of the previous text.
    #[error("{field} does not match the version before it")]
    Previous {
        /// The field that differs.
        field: &'static str,
    },
    /// A change that is not allowed from one version to the next; the text states the rule.
    #[error("{0}")]
    Succession(String),
    /// An operator's governance key did not sign this text.
    #[error("the governance key of {0} did not sign this text")]
    Signature(Domain),
    /// Too few governance keys of a version signed.
    #[error("{signed} operators of version {version} signed, {wanted} must")]
    Quorum {
        /// The version whose operators must sign.
        version: u32,
        /// How many of them signed.
        signed: usize,
        /// How many must sign.
        wanted: usize,
    },
    /// A version after the genesis in a chain is wrong.
    #[error("version {version}: {error}")]
    InChain {
        /// The version expected at that position.
        version: u32,
        /// Why that version was refused.
        error: Box<Self>,
    },
    /// More than [`limits::VERSIONS_MAX`] versions in a chain.
    #[error("more than {max} versions", max = limits::VERSIONS_MAX)]
    ChainTooLong,
}

impl ManifestError {
    /// A stable code for answers, logs and metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLong(_) => "manifest_too_long",
            Self::Note(_) => "manifest_note",
            Self::Format => "manifest_format",
            Self::Toml(_) => "manifest_toml",
            Self::Canonical { .. } => "manifest_canonical",
            Self::Protocol { .. } => "manifest_protocol",
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

/// The rules that a manifest sets for the federation. A day is a UTC day of entry time, unless stated otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Largest absolute delta of one attestation.
    pub max_delta: u32,
    /// Largest sum of absolute effective deltas from one provider to one subject on one UTC day of `created`.
    pub daily_cap: u32,
    /// How many operators must sponsor a provider before its attestations count.
    pub min_sponsors: u32,
    /// Most registrations per home and day.
    pub daily_registrations: u32,
    /// Most attestations per provider and day.
    pub daily_attestations: u32,
    /// Most retractions per provider and day.
    pub daily_retractions: u32,
    /// Most providers of one home and day that attest to a subject for the first time.
    pub daily_new_providers: u32,
    /// Most grants per issuer and day.
    pub daily_grants: u32,
    /// Most bytes appended to a log per day, with [`limits::NOTE_QUOTA_BYTES`] for each note and without state entries.
    pub daily_bytes: u64,
    /// How far `created` may be behind the entry's time, in milliseconds.
    pub max_age_ms: u64,
    /// How old an entry may be when a node first holds it, for that node to cosign it, in milliseconds: an hour to 30
    /// days. It is a rule of cosigning, never of validity.
    pub max_lag_ms: u64,
    /// Time between two cosignatures of one operator on a head that stays the newest, in milliseconds: a second to ten
    /// minutes.
    pub heartbeat_ms: u64,
    /// Longest time that a submission waits for others to join its batch, in milliseconds.
    pub batch_ms: u64,
}

impl Policy {
    /// The recommended policy for a federation of `n` operators.
    #[must_use]
    pub fn recommended(n: usize) -> Self {
        Self {
            max_delta: 5,
            daily_cap: 25,
            min_sponsors: u32::try_from(faults(n).saturating_add(1)).unwrap_or(u32::MAX),
            daily_registrations: 100_000,
            daily_attestations: 250_000,
            daily_retractions: 1_000,
            daily_new_providers: 1_000,
            daily_grants: 1_000,
            daily_bytes: 1 << 30,
            max_age_ms: 3 * 86_400_000,
            max_lag_ms: 86_400_000,
            heartbeat_ms: 30_000,
            batch_ms: 20,
        }
    }

    /// [`Policy::min_sponsors`] as a number of operators: how many must sponsor a provider, or suspend an identity,
    /// before that counts.
    #[must_use]
    pub fn sponsors_wanted(&self) -> usize {
        usize::try_from(self.min_sponsors).unwrap_or(usize::MAX)
    }

    fn check(&self, n: usize) -> Result<(), ManifestError> {
        if !(1 <= self.max_delta && self.max_delta <= self.daily_cap && self.daily_cap <= 1_000) {
            return value("policy", "want 1 ≤ max_delta ≤ daily_cap ≤ 1000");
        }
        let sponsors = usize::try_from(self.min_sponsors).unwrap_or(usize::MAX);
        if !(1..=n).contains(&sponsors) {
            return value("policy", "want 1 ≤ min_sponsors ≤ number of operators");
        }
        // Below an hour, an owner that was cut off for as long as a silence lasts would lose what it took in. A liar
        // gains one window of `max_lag_ms` for each silence: 30 days of it is more than any outage needs.
        if !(3_600_000..=30 * 86_400_000).contains(&self.max_lag_ms) {
            return value("policy", "want 3600000 ≤ max_lag_ms ≤ 2592000000, an hour to 30 days");
        }
        // Cosignatures carry whole seconds; above ten minutes no proof would be fresh.
        if !(1_000..=600_000).contains(&self.heartbeat_ms) {
            return value("policy", "want 1000 ≤ heartbeat_ms ≤ 600000, a second to ten minutes");
        }
        if self.batch_ms > 60_000 { value("policy", "want batch_ms ≤ 60000") } else { Ok(()) }
    }
}

/// The f of `n` operators: how many may lie without harm, ⌊(n−1)/3⌋.
#[must_use]
pub const fn faults(n: usize) -> usize {
    n.saturating_sub(1) / 3
}

/// The quorum of `n` operators: how many must cosign a head to certify it, ⌊(n+f)/2⌋ + 1.
#[must_use]
pub const fn quorum(n: usize) -> usize {
    (n.saturating_add(faults(n)) / 2).saturating_add(1)
}

/// One generation of an operator's log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct LogId {
    /// The log's owner.
    pub operator: Domain,
    /// Counts from 1; each new generation starts with an empty log.
    pub generation: u32,
}

/// A text that does not name a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("want an operator and a generation, like alpha.example/1")]
pub struct LogIdError;

impl core::str::FromStr for LogId {
    type Err = LogIdError;
    /// Reads exactly what `Display` writes.
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

/// An operator: owns one log and cosigns the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// Its unique name, which is also the name of a home.
    pub name: Domain,
    /// Signs heads and cosignatures, and is the libp2p identity of its node. Kept online.
    pub node_key: VerifyingKey,
    /// Signs manifests. Kept offline.
    pub governance_key: VerifyingKey,
    /// The generation of its log.
    pub generation: u32,
    /// The time from which this generation's log may have entries. It stays as long as the log continues.
    pub begins: Millis,
    /// libp2p multiaddresses without peer id.
    pub addresses: Vec<String>,
    /// Its HTTP addresses and token keys.
    pub endpoints: Endpoints,
}

impl Operator {
    /// The log that this operator owns in this version.
    #[must_use]
    pub fn log(&self) -> LogId {
        LogId { operator: self.name.clone(), generation: self.generation }
    }
}

/// Where a log ends forever. Entries beyond this head do not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The log that ends.
    pub log: LogId,
    /// Its last head; [`Head::EMPTY`] for a log that never began.
    pub head: Head,
    /// The state root at that head; zeros for a log that never began.
    pub state_root: StateRoot,
    /// The version that the log had adopted at that head; 0 if it never began.
    pub adopted: u32,
    /// The log that carries its statements and claims from then on.
    pub successor: LogId,
}

/// What this version and those before it state about one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownLog {
    /// Signs the heads of this log, and cosigns other logs for its operator.
    pub node_key: VerifyingKey,
    /// The version that introduced the log; its first entry adopts it.
    pub since: u32,
    /// No entry of the log is earlier.
    pub begins: Millis,
    /// The cut that ends the log, if there is one, and the version that made it.
    pub cut: Option<(u32, Cut)>,
}

/// One version with all versions before it, back to the genesis. The rules of each were checked, and so were the
/// signatures, except those of a version that [`Manifest::unsigned_successor`] returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    note: SignedNote,
    hash: ManifestHash,
    federation: FederationId,
    name: String,
    version: u32,
    protocol: u32,
    policy: Policy,
    operators: Vec<Operator>,
    homes: BTreeMap<Domain, LogId>,
    /// The log that carries an operator's statements and claims, former operators included.
    records: BTreeMap<Domain, LogId>,
    /// Every log of this version and of those before it.
    logs: BTreeMap<LogId, KnownLog>,
    previous: Option<Arc<Self>>,
}

/// How many operators of one version must sign a new version, and which of them did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signers {
    /// The version whose operators sign.
    pub version: u32,
    /// How many must sign.
    pub wanted: usize,
    /// The operators that signed, in the version's order.
    pub signed: Vec<Domain>,
}

impl Manifest {
    /// Reads and verifies a genesis: its rules, and the signatures of all its governance keys.
    ///
    /// Anyone can sign a genesis of their own: compare [`Manifest::federation`] with a trusted id.
    ///
    /// # Errors
    /// [`ManifestError`]: the first rule or signature that fails.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let manifest = text::genesis(read_note(text)?, PROTOCOL)?;
        match manifest.operators.iter().find(|operator| !matches!(signed_by(&manifest.note, operator), Ok(true))) {
            Some(operator) => Err(ManifestError::Signature(operator.name.clone())),
            None => Ok(manifest),
        }
    }

    /// Reads and verifies the version after this one: its rules, and the signatures of the quorums that
    /// [`Manifest::signers`] names.
    ///
    /// # Errors
    /// [`ManifestError`]: the first rule or signature that fails. [`ManifestError::Protocol`] if this program cannot
    /// read the version and a quorum of this version's operators signed it.
    pub fn successor(self: &Arc<Self>, text: &str) -> Result<Self, ManifestError> {
        let note = read_note(text)?;
        let next = match self.unsigned_successor(note.clone()) {
            Err(ManifestError::Protocol { version, protocol }) => return Err(self.unknown(&note, version, protocol)),
            next => next?,
        };
        for Signers { version, wanted, signed } in next.signers()? {
            if signed.len() < wanted {
                return Err(ManifestError::Quorum { version, signed: signed.len(), wanted });
            }
        }
        Ok(next)
    }

    /// Reads the version after this one and checks its rules, but not its signatures.
    ///
    /// # Errors
    /// [`ManifestError`]: the first rule or signature that fails.
    pub fn unsigned_successor(self: &Arc<Self>, note: SignedNote) -> Result<Self, ManifestError> {
        succession::follow(self, note, PROTOCOL)
    }

    /// What is wrong with the next version, of which only its place in the chain and its signers can be judged.
    fn unknown(&self, note: &SignedNote, version: u32, protocol: u32) -> ManifestError {
        let outline = match text::Outline::read(&note.text) {
            Ok(outline) => outline,
            Err(error) => return error,
        };
        let wanted = self.version.saturating_add(1);
        if version != wanted {
            return ManifestError::Version { found: version, wanted };
        }
        let (federation, previous) = (self.federation.to_string(), self.hash.to_string());
        for (field, same) in
            [("federation", outline.federation == Some(federation)), ("previous", outline.previous == Some(previous))]
        {
            if !same {
                return ManifestError::Previous { field };
            }
        }
        match self.signers_among(note) {
            Err(error) => error,
            Ok(signed) if signed.len() < self.quorum() => {
                ManifestError::Quorum { version: self.version, signed: signed.len(), wanted: self.quorum() }
            }
            Ok(_) => ManifestError::Protocol { version, protocol },
        }
    }

    /// The operators of this version whose governance keys signed the note.
    fn signers_among(&self, note: &SignedNote) -> Result<Vec<Domain>, ManifestError> {
        let mut signed = Vec::new();
        for operator in &self.operators {
            if signed_by(note, operator)? {
                signed.push(operator.name.clone());
            }
        }
        Ok(signed)
    }

    /// The signatures that this version needs and those that it has: a quorum of the version before it and, for
    /// each log that it cuts, a quorum of the version that the log had adopted at the cut and one of the version
    /// adopted before that. The adoption at the cut may not be certified yet; all earlier ones are, because
    /// operators cosign no second uncertified adoption. Empty for the genesis, which all its operators sign.
    ///
    /// # Errors
    /// [`ManifestError::Signature`]: a signature line that names a known governance key is invalid.
    pub fn signers(&self) -> Result<Vec<Signers>, ManifestError> {
        let mut found = Vec::new();
        for version in succession::signing_versions(self) {
            let Some(signing) = self.at(version) else { continue };
            let signed = signing.signers_among(&self.note)?;
            found.push(Signers { version, wanted: signing.quorum(), signed });
        }
        Ok(found)
    }

    /// The text with its signatures.
    #[must_use]
    pub const fn note(&self) -> &SignedNote {
        &self.note
    }

    /// BLAKE3-256 of the text without its signatures.
    #[must_use]
    pub const fn hash(&self) -> ManifestHash {
        self.hash
    }

    /// The federation's id: the hash of the genesis.
    #[must_use]
    pub const fn federation(&self) -> FederationId {
        self.federation
    }

    /// The federation's name for people; the same in all versions.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of this version; the genesis is 1.
    #[must_use]
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// The protocol of the logs that adopt this version: it decides which kinds of event they may have.
    #[must_use]
    pub const fn protocol(&self) -> u32 {
        self.protocol
    }

    /// This version as if it named another protocol.
    #[cfg(test)]
    pub(crate) fn with_protocol(&self, protocol: u32) -> Self {
        Self { protocol, ..self.clone() }
    }

    /// The version before this one; `None` for the genesis.
    #[must_use]
    pub const fn previous(&self) -> Option<&Arc<Self>> {
        self.previous.as_ref()
    }

    /// Version 1, which is this manifest itself if there is no other.
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

    /// The manifest of that version; `None` if it is neither this one nor an earlier one.
    #[must_use]
    pub fn at(&self, version: u32) -> Option<&Self> {
        self.versions().find(|manifest| manifest.version == version)
    }

    /// The rules that this version sets.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// How often an operator cosigns its newest head of each log again, in milliseconds.
    #[must_use]
    pub const fn heartbeat_ms(&self) -> u64 {
        self.policy.heartbeat_ms
    }

    /// The operators of this version, in the order of its text.
    #[must_use]
    pub fn operators(&self) -> &[Operator] {
        &self.operators
    }

    /// The operator of that name; `None` for former operators.
    #[must_use]
    pub fn operator(&self, name: &Domain) -> Option<&Operator> {
        self.operators.iter().find(|operator| operator.name == *name)
    }

    /// Every log of this version and of those before it, cut ones too.
    #[must_use]
    pub const fn logs(&self) -> &BTreeMap<LogId, KnownLog> {
        &self.logs
    }

    /// What is known about a log; `None` if neither this version nor one before it has it.
    #[must_use]
    pub fn log(&self, log: &LogId) -> Option<&KnownLog> {
        self.logs.get(log)
    }

    /// The cut that ends a log; `None` while the log continues.
    #[must_use]
    pub fn cut(&self, log: &LogId) -> Option<&Cut> {
        self.log(log)?.cut.as_ref().map(|(_, cut)| cut)
    }

    /// The cuts that this version makes, without those of earlier versions.
    pub fn cuts(&self) -> impl Iterator<Item = &Cut> {
        let made = self.logs.values().filter_map(|known| known.cut.as_ref());
        made.filter(|(version, _)| *version == self.version).map(|(_, cut)| cut)
    }

    /// All logs of an operator, cut ones too, each with its node key, newest first.
    pub fn generations<'a>(&'a self, operator: &'a Domain) -> impl Iterator<Item = (&'a LogId, &'a VerifyingKey)> {
        let from = LogId { operator: operator.clone(), generation: 0 };
        let to = LogId { operator: operator.clone(), generation: u32::MAX };
        self.logs.range(from..=to).rev().map(|(log, known)| (log, &known.node_key))
    }

    /// For each home the log that carries it.
    #[must_use]
    pub const fn homes(&self) -> &BTreeMap<Domain, LogId> {
        &self.homes
    }

    /// The homes that `log` carries, in order of name.
    pub fn homes_of<'a>(&'a self, log: &'a LogId) -> impl Iterator<Item = &'a Domain> + 'a {
        self.homes.iter().filter(move |(_, carrier)| *carrier == log).map(|(home, _)| home)
    }

    /// For each operator, former ones included, the log that carries its statements and claims.
    #[must_use]
    pub const fn records(&self) -> &BTreeMap<Domain, LogId> {
        &self.records
    }

    /// The operators whose statements and claims `log` carries, in order of name.
    pub fn records_of<'a>(&'a self, log: &'a LogId) -> impl Iterator<Item = &'a Domain> + 'a {
        self.records.iter().filter(move |(_, carrier)| *carrier == log).map(|(operator, _)| operator)
    }

    /// The log that such an action belongs in: for an operator's statement its own, else the log that carries the home.
    /// `None` if this version has no such operator or home.
    #[must_use]
    pub fn log_for(&self, action: &Action) -> Option<LogId> {
        let place = action.place();
        if action.is_statement() { self.operator(place).map(Operator::log) } else { self.homes.get(place).cloned() }
    }

    /// How many operators of this version must cosign a head to certify it.
    #[must_use]
    pub const fn quorum(&self) -> usize {
        quorum(self.operators.len())
    }

    /// Whether `holds` is true for the logs of a quorum of this version's operators. For cosignatures that were
    /// verified one by one and are stored by generation; [`crate::note_quorum`] counts cosignatures on a note.
    pub fn has_quorum(&self, holds: impl Fn(&LogId) -> bool) -> bool {
        self.operators.iter().filter(|operator| holds(&operator.log())).count() >= self.quorum()
    }

    /// How many operators of this version may lie without harm: f.
    #[must_use]
    pub const fn faults(&self) -> usize {
        faults(self.operators.len())
    }

    /// The logs that must have adopted the version before this one, and have that adoption certified, before operators
    /// approve this version or nodes take it up: those that continue and that an older version introduced.
    ///
    /// So a log never lags behind by more than one version, unless its owner is proven to have signed two branches: such
    /// a log may be impossible to cut, and must not keep all others from their next version.
    pub fn must_have_adopted(&self) -> impl Iterator<Item = &LogId> {
        let before = self.version.saturating_sub(1);
        let waited = move |known: &KnownLog| known.cut.is_none() && known.since < before;
        self.logs.iter().filter(move |(_, known)| waited(known)).map(|(log, _)| log)
    }

    /// The oldest version that `log` can have adopted, if it is not cut, at a head that a reader of this version accepts:
    /// the one before this one, or the one that introduced the log. Operators approve a version only when every log
    /// that it does not cut has a certified adoption of the version before, so node keys of older versions prove nothing.
    #[must_use]
    pub fn adopted_min(&self, log: &LogId) -> u32 {
        let since = self.log(log).map_or(1, |known| known.since);
        self.version.saturating_sub(1).max(since)
    }

    /// The origin that the checkpoints of a log name.
    #[must_use]
    pub fn origin(&self, log: &LogId) -> Origin {
        Origin { federation: self.federation, operator: log.operator.clone(), generation: log.generation }
    }
}

fn signed_by(note: &SignedNote, operator: &Operator) -> Result<bool, ManifestError> {
    match note.verify(operator.name.as_str(), &operator.governance_key) {
        Ok(()) => Ok(true),
        Err(NoteError::Unsigned { .. }) => Ok(false),
        Err(_) => Err(ManifestError::Signature(operator.name.clone())),
    }
}

fn read_note(text: &str) -> Result<SignedNote, ManifestError> {
    if text.len() > limits::MANIFEST_BYTES_MAX {
        return Err(ManifestError::TooLong(text.len()));
    }
    SignedNote::parse(text.as_bytes(), limits::MANIFEST_BYTES_MAX)
        .map_err(|error| ManifestError::Note(error.to_string()))
}
