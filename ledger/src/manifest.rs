//! Who the operators are: the manifest, its policy and its quorums.
use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;

use bincode::{Decode, Encode};
use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Serialize};

use crate::checkpoint::Origin;
use crate::id::{Domain, FederationId, ManifestHash};
use crate::key::PublicKey;
use crate::limits;
use crate::signed_note::SignedNote;

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
    /// Later versions are not taken up yet.
    #[error("version {0}: only the genesis, version 1, can be used")]
    Version(u32),
    /// An operator's governance key did not sign.
    #[error("the governance key of {0} did not sign; the genesis is signed by all of them")]
    Signature(Domain),
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
            Self::Version(_) => "manifest_version",
            Self::Signature(_) => "manifest_signature",
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

/// A manifest whose rules and signatures were checked.
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
}

/// What a new federation is made from.
#[derive(Clone, Debug)]
pub struct Genesis {
    /// A name for people.
    pub name: String,
    /// The rules.
    pub policy: Policy,
    /// The operators; each carries the home of its name.
    pub operators: Vec<Operator>,
}

impl Genesis {
    /// The manifest's text, to be signed by all governance keys.
    ///
    /// # Errors
    /// [`ManifestError`] if it breaks a rule.
    pub fn text(&self) -> Result<String, ManifestError> {
        let raw = Raw {
            format: MANIFEST_FORMAT.to_owned(),
            name: self.name.clone(),
            version: 1,
            policy: self.policy,
            operators: self.operators.iter().map(RawOperator::of).collect(),
            homes: self.operators.iter().map(RawHome::of).collect(),
        };
        raw.check()?;
        let mut text = String::new();
        raw.write(&mut text).expect("a String takes all that is written to it");
        Ok(text)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    format: String,
    name: String,
    version: u32,
    policy: Policy,
    operators: Vec<RawOperator>,
    homes: Vec<RawHome>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOperator {
    name: String,
    node_key: String,
    governance_key: String,
    generation: u32,
    addresses: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHome {
    name: String,
    operator: String,
    generation: u32,
}

impl RawOperator {
    fn of(operator: &Operator) -> Self {
        Self {
            name: operator.name.to_string(),
            node_key: PublicKey::Ed25519(operator.node_key.to_bytes()).to_string(),
            governance_key: PublicKey::Ed25519(operator.governance_key.to_bytes()).to_string(),
            generation: operator.generation,
            addresses: operator.addresses.clone(),
        }
    }

    fn read(self) -> Result<Operator, ManifestError> {
        if self.addresses.len() > limits::ADDRESSES_MAX
            || self.addresses.iter().any(|a| a.len() > limits::DOMAIN_BYTES_MAX)
        {
            return value("addresses", "at most 8 of at most 253 bytes each");
        }
        if self.generation == 0 {
            return value("generation", "generations count from 1");
        }
        Ok(Operator {
            name: self.name.parse().or_else(|rule| value("operators.name", rule))?,
            node_key: ed25519("node_key", &self.node_key)?,
            governance_key: ed25519("governance_key", &self.governance_key)?,
            generation: self.generation,
            addresses: self.addresses,
        })
    }
}

impl RawHome {
    fn of(operator: &Operator) -> Self {
        Self { name: operator.name.to_string(), operator: operator.name.to_string(), generation: operator.generation }
    }
}

fn ed25519(field: &'static str, text: &str) -> Result<VerifyingKey, ManifestError> {
    let key = match text.parse() {
        Ok(PublicKey::Ed25519(bytes)) => VerifyingKey::from_bytes(&bytes).ok(),
        _ => None,
    };
    key.map_or_else(|| value(field, "want ed25519: and the 64 hex digits of a key"), Ok)
}

impl Raw {
    fn check(&self) -> Result<(), ManifestError> {
        if self.format != MANIFEST_FORMAT {
            return Err(ManifestError::Format);
        }
        if self.version != 1 {
            return Err(ManifestError::Version(self.version));
        }
        if self.name.is_empty()
            || self.name.len() > 64
            || !self.name.chars().all(|c| c.is_ascii_graphic() && c != '"' && c != '\\')
        {
            return value("name", "want 1 to 64 visible ASCII characters without quote and backslash");
        }
        if self.operators.is_empty() || self.operators.len() > limits::OPERATORS_MAX {
            return value("operators", "want 1 to 64");
        }
        self.policy.check(self.operators.len())
    }

    fn write(&self, out: &mut String) -> core::fmt::Result {
        let Policy { max_delta, daily_cap, min_sponsors, .. } = self.policy;
        let Policy { daily_registrations, daily_attestations, daily_retractions, .. } = self.policy;
        let Policy { daily_claims, daily_bytes, max_age_ms, batch_ms, .. } = self.policy;
        writeln!(out, "format = \"{}\"\nname = \"{}\"\nversion = {}\n", self.format, self.name, self.version)?;
        writeln!(out, "[policy]\nmax_delta = {max_delta}\ndaily_cap = {daily_cap}\nmin_sponsors = {min_sponsors}")?;
        writeln!(out, "daily_registrations = {daily_registrations}\ndaily_attestations = {daily_attestations}")?;
        writeln!(
            out,
            "daily_retractions = {daily_retractions}\ndaily_claims = {daily_claims}\ndaily_bytes = {daily_bytes}"
        )?;
        writeln!(out, "max_age_ms = {max_age_ms}\nbatch_ms = {batch_ms}")?;
        for operator in &self.operators {
            let RawOperator { name, node_key, governance_key, generation, addresses } = operator;
            writeln!(out, "\n[[operators]]\nname = \"{name}\"\nnode_key = \"{node_key}\"")?;
            writeln!(
                out,
                "governance_key = \"{governance_key}\"\ngeneration = {generation}\naddresses = {addresses:?}"
            )?;
        }
        self.homes.iter().try_for_each(|RawHome { name, operator, generation }| {
            writeln!(out, "\n[[homes]]\nname = \"{name}\"\noperator = \"{operator}\"\ngeneration = {generation}")
        })
    }
}

impl Manifest {
    /// Reads and verifies a genesis: its rules, and the signatures of all its governance keys.
    ///
    /// Whether this is the federation that one means shows in [`Manifest::federation`] only.
    ///
    /// # Errors
    /// [`ManifestError`] says what is wrong.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        if text.len() > limits::MANIFEST_BYTES_MAX {
            return Err(ManifestError::TooLong(text.len()));
        }
        let note = SignedNote::parse(text.as_bytes(), limits::MANIFEST_BYTES_MAX)
            .map_err(|error| ManifestError::Note(error.to_string()))?;
        let manifest = Self::read(note)?;
        for operator in &manifest.operators {
            let signed = manifest.note.verify(operator.name.as_str(), &operator.governance_key);
            signed.map_err(|_| ManifestError::Signature(operator.name.clone()))?;
        }
        Ok(manifest)
    }

    fn read(note: SignedNote) -> Result<Self, ManifestError> {
        let text = &note.text;
        if !text.starts_with(&alloc::format!("format = \"{MANIFEST_FORMAT}\"\n")) {
            return Err(ManifestError::Format);
        }
        let raw: Raw = toml::from_str(text).map_err(|error| ManifestError::Toml(error.to_string()))?;
        raw.check()?;
        let hash = *blake3::hash(text.as_bytes()).as_bytes();
        let operators = raw.operators.into_iter().map(RawOperator::read).collect::<Result<Vec<_>, _>>()?;
        let homes = read_homes(raw.homes, &operators)?;
        check_distinct(&operators)?;
        let (hash, federation) = (ManifestHash(hash), FederationId(hash));
        Ok(Self { hash, federation, name: raw.name, version: raw.version, policy: raw.policy, operators, homes, note })
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

    /// The rules.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The operators in the manifest's order.
    #[must_use]
    pub fn operators(&self) -> &[Operator] {
        &self.operators
    }

    /// The operator of that name.
    #[must_use]
    pub fn operator(&self, name: &Domain) -> Option<&Operator> {
        self.operators.iter().find(|operator| operator.name == *name)
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

    /// How many operators certify a head.
    #[must_use]
    pub const fn quorum(&self) -> usize {
        quorum(self.operators.len())
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

fn read_homes(raw: Vec<RawHome>, operators: &[Operator]) -> Result<BTreeMap<Domain, LogId>, ManifestError> {
    let mut homes = BTreeMap::new();
    for home in raw {
        let name: Domain = home.name.parse().or_else(|rule| value("homes.name", rule))?;
        let operator: Domain = home.operator.parse().or_else(|rule| value("homes.operator", rule))?;
        let log = LogId { operator, generation: home.generation };
        if !operators.iter().any(|operator| operator.log() == log) {
            return value("homes", alloc::format!("{name}: no operator has the log {log}"));
        }
        if homes.insert(name.clone(), log).is_some() {
            return value("homes", alloc::format!("{name} stands twice"));
        }
    }
    match operators.iter().find(|operator| !homes.contains_key(&operator.name)) {
        Some(operator) => value("homes", alloc::format!("the home {} is carried by no log", operator.name)),
        None => Ok(homes),
    }
}

fn check_distinct(operators: &[Operator]) -> Result<(), ManifestError> {
    let names: BTreeSet<_> = operators.iter().map(|operator| &operator.name).collect();
    let keys = operators.iter().flat_map(|operator| [operator.node_key.to_bytes(), operator.governance_key.to_bytes()]);
    let keys: BTreeSet<_> = keys.collect();
    if names.len() != operators.len() || keys.len() != operators.len().saturating_mul(2) {
        return value("operators", "names and keys must all differ, node and governance keys too");
    }
    Ok(())
}
