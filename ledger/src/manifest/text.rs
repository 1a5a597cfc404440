//! Reading and writing the manifest's text, which is TOML.
use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;

use ed25519_dalek::VerifyingKey;
use serde::Deserialize;

use super::{Cut, KnownLog, LogId, MANIFEST_FORMAT, Manifest, ManifestError, Operator, Policy, value};
use crate::id::{Domain, FederationId, ManifestHash, StateRoot, TreeRoot};
use crate::key::PublicKey;
use crate::limits;
use crate::log::Head;
use crate::signed_note::SignedNote;

/// The content of the first version of a new federation.
#[derive(Clone, Debug)]
pub struct Genesis {
    /// The federation's name for people: 1 to 64 visible ASCII characters.
    pub name: String,
    /// The federation's rules.
    pub policy: Policy,
    /// The operators, 1 to 64; the log of each carries the home of its name.
    pub operators: Vec<Operator>,
}

impl Genesis {
    /// The manifest's text, to be signed by all governance keys.
    ///
    /// # Errors
    /// [`ManifestError`] if the content breaks a rule.
    pub fn text(&self) -> Result<String, ManifestError> {
        RawManifest {
            format: MANIFEST_FORMAT.to_owned(),
            name: self.name.clone(),
            version: 1,
            federation: None,
            previous: None,
            policy: self.policy,
            operators: self.operators.iter().map(RawOperator::of).collect(),
            homes: self.operators.iter().map(|operator| RawHome::of(&operator.name, &operator.log())).collect(),
            cuts: Vec::new(),
        }
        .text()
    }
}

/// A version in preparation; [`Manifest::draft`] starts one.
#[derive(Clone, Debug)]
pub struct Draft {
    /// One more than the version from which the draft was started.
    pub version: u32,
    /// The federation's id, which never changes.
    pub federation: FederationId,
    /// The hash of the version before this one.
    pub previous: ManifestHash,
    /// The federation's name, which never changes.
    pub name: String,
    /// The rules from this version on.
    pub policy: Policy,
    /// The operators of this version, 1 to 64.
    pub operators: Vec<Operator>,
    /// For each home the log that carries it.
    pub homes: BTreeMap<Domain, LogId>,
    /// The logs that this version ends.
    pub cuts: Vec<Cut>,
}

impl Draft {
    /// The manifest's text, to be signed with governance keys. Does not check
    /// whether it may follow the version before: [`Manifest::unsigned_successor`] does.
    ///
    /// # Errors
    /// [`ManifestError`] if the content breaks a rule that does not depend on other versions.
    pub fn text(&self) -> Result<String, ManifestError> {
        RawManifest {
            format: MANIFEST_FORMAT.to_owned(),
            name: self.name.clone(),
            version: self.version,
            federation: Some(self.federation.to_string()),
            previous: Some(self.previous.to_string()),
            policy: self.policy,
            operators: self.operators.iter().map(RawOperator::of).collect(),
            homes: self.homes.iter().map(|(home, log)| RawHome::of(home, log)).collect(),
            cuts: self.cuts.iter().map(RawCut::of).collect(),
        }
        .text()
    }
}

impl Manifest {
    /// A draft of the next version, with nothing changed yet.
    #[must_use]
    pub fn draft(&self) -> Draft {
        Draft {
            version: self.version.saturating_add(1),
            federation: self.federation,
            previous: self.hash,
            name: self.name.clone(),
            policy: self.policy,
            operators: self.operators.clone(),
            homes: self.homes.clone(),
            cuts: Vec::new(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawManifest {
    format: String,
    name: String,
    version: u32,
    federation: Option<String>,
    previous: Option<String>,
    policy: Policy,
    operators: Vec<RawOperator>,
    homes: Vec<RawHome>,
    #[serde(default)]
    cuts: Vec<RawCut>,
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCut {
    operator: String,
    generation: u32,
    size: u64,
    root: String,
    state_root: String,
    adopted: u32,
    successor: String,
    successor_generation: u32,
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

    fn write(&self, out: &mut String) -> core::fmt::Result {
        let Self { name, node_key, governance_key, generation, addresses } = self;
        writeln!(out, "name = \"{name}\"\nnode_key = \"{node_key}\"\ngovernance_key = \"{governance_key}\"")?;
        writeln!(out, "generation = {generation}\naddresses = {addresses:?}")
    }

    fn read(self) -> Result<Operator, ManifestError> {
        let visible =
            |a: &String| (1..=limits::DOMAIN_BYTES_MAX).contains(&a.len()) && a.chars().all(|c| c.is_ascii_graphic());
        if self.addresses.len() > limits::ADDRESSES_MAX || !self.addresses.iter().all(visible) {
            return value("addresses", "want at most 8, each of 1 to 253 visible ASCII characters");
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

impl Operator {
    /// The TOML of one operator, as in a manifest: what a new operator sends to the existing ones.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        RawOperator::of(self).write(&mut text).expect("writing to a String cannot fail");
        text
    }

    /// Reads what [`Operator::to_toml`] writes.
    ///
    /// # Errors
    /// [`ManifestError`]: the TOML is malformed, or a value breaks a rule.
    pub fn from_toml(text: &str) -> Result<Self, ManifestError> {
        let raw: RawOperator = toml::from_str(text).map_err(|error| ManifestError::Toml(error.to_string()))?;
        raw.read()
    }
}

impl RawHome {
    fn of(home: &Domain, log: &LogId) -> Self {
        Self { name: home.to_string(), operator: log.operator.to_string(), generation: log.generation }
    }
}

impl RawCut {
    fn of(cut: &Cut) -> Self {
        Self {
            operator: cut.log.operator.to_string(),
            generation: cut.log.generation,
            size: cut.head.size,
            root: cut.head.root.to_string(),
            state_root: cut.state_root.to_string(),
            adopted: cut.adopted,
            successor: cut.successor.operator.to_string(),
            successor_generation: cut.successor.generation,
        }
    }

    fn write(&self, out: &mut String) -> core::fmt::Result {
        let Self { operator, generation, size, root, state_root, adopted, .. } = self;
        let Self { successor, successor_generation, .. } = self;
        writeln!(out, "\n[[cuts]]\noperator = \"{operator}\"\ngeneration = {generation}\nsize = {size}")?;
        writeln!(out, "root = \"{root}\"\nstate_root = \"{state_root}\"\nadopted = {adopted}")?;
        writeln!(out, "successor = \"{successor}\"\nsuccessor_generation = {successor_generation}")
    }

    fn read(self) -> Result<Cut, ManifestError> {
        let operator = self.operator.parse().or_else(|rule| value("cuts.operator", rule))?;
        let successor = self.successor.parse().or_else(|rule| value("cuts.successor", rule))?;
        let root: TreeRoot = self.root.parse().or_else(|rule| value("cuts.root", rule))?;
        let state_root: StateRoot = self.state_root.parse().or_else(|rule| value("cuts.state_root", rule))?;
        let cut = Cut {
            log: LogId { operator, generation: self.generation },
            head: Head { size: self.size, root },
            state_root,
            adopted: self.adopted,
            successor: LogId { operator: successor, generation: self.successor_generation },
        };
        let began = cut.head != Head::EMPTY || cut.adopted != 0 || cut.state_root.0 != [0; 32];
        if began && (cut.head.size == 0 || cut.adopted == 0) {
            return value(
                "cuts",
                "a log that never began has size 0, adopted 0, the empty tree's root and a zero state root",
            );
        }
        Ok(cut)
    }
}

fn ed25519(field: &'static str, text: &str) -> Result<VerifyingKey, ManifestError> {
    let key = match text.parse() {
        Ok(PublicKey::Ed25519(bytes)) => VerifyingKey::from_bytes(&bytes).ok(),
        _ => None,
    };
    key.map_or_else(|| value(field, "want ed25519: and the 64 hex digits of a key"), Ok)
}

impl RawManifest {
    fn check(&self) -> Result<(), ManifestError> {
        if self.format != MANIFEST_FORMAT {
            return Err(ManifestError::Format);
        }
        if (self.version == 1) != (self.federation.is_none() && self.previous.is_none() && self.cuts.is_empty()) {
            return value(
                "version",
                "want federation and previous from version 2 on, and neither they nor cuts in version 1",
            );
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

    fn text(&self) -> Result<String, ManifestError> {
        self.check()?;
        let mut text = String::new();
        self.write(&mut text).expect("writing to a String cannot fail");
        Ok(text)
    }

    fn write(&self, out: &mut String) -> core::fmt::Result {
        let Policy { max_delta, daily_cap, min_sponsors, .. } = self.policy;
        let Policy { daily_registrations, daily_attestations, daily_retractions, .. } = self.policy;
        let Policy { daily_claims, daily_bytes, max_age_ms, batch_ms, .. } = self.policy;
        writeln!(out, "format = \"{}\"\nname = \"{}\"\nversion = {}", self.format, self.name, self.version)?;
        for (field, hash) in [("federation", &self.federation), ("previous", &self.previous)] {
            hash.iter().try_for_each(|hash| writeln!(out, "{field} = \"{hash}\""))?;
        }
        writeln!(out)?;
        writeln!(out, "[policy]\nmax_delta = {max_delta}\ndaily_cap = {daily_cap}\nmin_sponsors = {min_sponsors}")?;
        writeln!(out, "daily_registrations = {daily_registrations}\ndaily_attestations = {daily_attestations}")?;
        writeln!(
            out,
            "daily_retractions = {daily_retractions}\ndaily_claims = {daily_claims}\ndaily_bytes = {daily_bytes}"
        )?;
        writeln!(out, "max_age_ms = {max_age_ms}\nbatch_ms = {batch_ms}")?;
        for operator in &self.operators {
            writeln!(out, "\n[[operators]]")?;
            operator.write(out)?;
        }
        self.homes.iter().try_for_each(|RawHome { name, operator, generation }| {
            writeln!(out, "\n[[homes]]\nname = \"{name}\"\noperator = \"{operator}\"\ngeneration = {generation}")
        })?;
        self.cuts.iter().try_for_each(|cut| cut.write(out))
    }
}

/// The content of one text, without what earlier versions state.
pub(super) struct ManifestContent {
    pub(super) hash: ManifestHash,
    pub(super) version: u32,
    pub(super) federation: Option<FederationId>,
    pub(super) previous: Option<ManifestHash>,
    pub(super) name: String,
    pub(super) policy: Policy,
    pub(super) operators: Vec<Operator>,
    pub(super) homes: BTreeMap<Domain, LogId>,
    pub(super) cuts: Vec<Cut>,
}

/// Reads a text and checks the rules that do not depend on other versions.
pub(super) fn read(text: &str) -> Result<ManifestContent, ManifestError> {
    if !text.starts_with(&alloc::format!("format = \"{MANIFEST_FORMAT}\"\n")) {
        return Err(ManifestError::Format);
    }
    let raw: RawManifest = toml::from_str(text).map_err(|error| ManifestError::Toml(error.to_string()))?;
    raw.check()?;
    let federation = raw.federation.map(|hash| hash.parse().or_else(|rule| value("federation", rule))).transpose()?;
    let previous = raw.previous.map(|hash| hash.parse().or_else(|rule| value("previous", rule))).transpose()?;
    let operators = raw.operators.into_iter().map(RawOperator::read).collect::<Result<Vec<_>, _>>()?;
    let homes = read_homes(raw.homes, &operators)?;
    check_distinct(&operators)?;
    let cuts = raw.cuts.into_iter().map(RawCut::read).collect::<Result<Vec<_>, _>>()?;
    let hash = ManifestHash(*blake3::hash(text.as_bytes()).as_bytes());
    let (version, name, policy) = (raw.version, raw.name, raw.policy);
    Ok(ManifestContent { hash, version, federation, previous, name, policy, operators, homes, cuts })
}

/// Reads a genesis without checking its signatures.
pub(super) fn genesis(note: SignedNote) -> Result<Manifest, ManifestError> {
    let ManifestContent { hash, version, name, policy, operators, homes, .. } = read(&note.text)?;
    if version != 1 {
        return Err(ManifestError::Version { found: version, wanted: 1 });
    }
    let known = |operator: &Operator| KnownLog { node_key: operator.node_key, since: 1, cut: None };
    let logs = operators.iter().map(|operator| (operator.log(), known(operator))).collect();
    let records = operators.iter().map(|operator| (operator.name.clone(), operator.log())).collect();
    let (federation, previous) = (FederationId(hash.0), None);
    Ok(Manifest { note, hash, federation, name, version, policy, operators, homes, records, logs, previous })
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
            return value("homes", alloc::format!("{name} is listed twice"));
        }
    }
    match operators.iter().find(|operator| !homes.contains_key(&operator.name)) {
        Some(operator) => value("homes", alloc::format!("no log carries the home {}", operator.name)),
        None => Ok(homes),
    }
}

fn check_distinct(operators: &[Operator]) -> Result<(), ManifestError> {
    let names: BTreeSet<_> = operators.iter().map(|operator| &operator.name).collect();
    let keys = operators.iter().flat_map(|operator| [operator.node_key.to_bytes(), operator.governance_key.to_bytes()]);
    let keys: BTreeSet<_> = keys.collect();
    if names.len() != operators.len() || keys.len() != operators.len().saturating_mul(2) {
        return value("operators", "all names must differ, and all node and governance keys");
    }
    Ok(())
}
