//! Reading and writing the manifest's text, which is TOML.
use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;

use ed25519_dalek::VerifyingKey;
use serde::Deserialize;

use super::{
    Cut, Endpoints, KnownLog, LogId, MANIFEST_FORMAT, Manifest, ManifestError, Operator, Policy, endpoints, value,
};
use crate::id::{Domain, FederationId, ManifestHash, StateRoot, TreeRoot};
use crate::key::PublicKey;
use crate::limits;
use crate::log::Head;
use crate::signed_note::SignedNote;

/// The protocol of a manifest that names none.
const FIRST_PROTOCOL: u32 = 1;

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
            protocol: FIRST_PROTOCOL,
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
    /// The protocol of the logs that adopt it.
    pub protocol: u32,
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
            protocol: self.protocol,
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
            protocol: self.protocol,
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

const fn first_protocol() -> u32 {
    FIRST_PROTOCOL
}

/// What a text of any protocol has; its other keys may be unknown.
#[derive(Deserialize)]
pub(super) struct Outline {
    pub(super) version: u32,
    #[serde(default = "first_protocol")]
    protocol: u32,
    pub(super) federation: Option<String>,
    pub(super) previous: Option<String>,
}

impl Outline {
    pub(super) fn read(text: &str) -> Result<Self, ManifestError> {
        if !text.starts_with(&alloc::format!("format = \"{MANIFEST_FORMAT}\"\n")) {
            return Err(ManifestError::Format);
        }
        toml::from_str(text).map_err(|error| ManifestError::Toml(error.to_string()))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawManifest {
    format: String,
    name: String,
    version: u32,
    #[serde(default = "first_protocol")]
    protocol: u32,
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
    begins: String,
    addresses: Vec<String>,
    query: Option<String>,
    submit: Option<String>,
    issuer: Option<String>,
    #[serde(default)]
    token_keys: Vec<String>,
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
        let key = |key: &VerifyingKey| PublicKey::Ed25519(key.to_bytes()).to_string();
        let Endpoints { query, submit, issuer, token_keys } = operator.endpoints.clone();
        Self {
            name: operator.name.to_string(),
            node_key: key(&operator.node_key),
            governance_key: key(&operator.governance_key),
            generation: operator.generation,
            begins: operator.begins.to_string(),
            addresses: operator.addresses.clone(),
            query,
            submit,
            issuer,
            token_keys: token_keys.iter().map(key).collect(),
        }
    }

    fn write(&self, out: &mut String) -> core::fmt::Result {
        let Self { name, node_key, governance_key, generation, begins, addresses, .. } = self;
        writeln!(out, "name = \"{name}\"\nnode_key = \"{node_key}\"\ngovernance_key = \"{governance_key}\"")?;
        writeln!(out, "generation = {generation}\nbegins = \"{begins}\"\naddresses = {addresses:?}")?;
        for (field, origin) in [("query", &self.query), ("submit", &self.submit), ("issuer", &self.issuer)] {
            origin.iter().try_for_each(|origin| writeln!(out, "{field} = \"{origin}\""))?;
        }
        if self.token_keys.is_empty() { Ok(()) } else { writeln!(out, "token_keys = {:?}", self.token_keys) }
    }

    fn read(self) -> Result<Operator, ManifestError> {
        let fits = |address: &String| (1..=limits::DOMAIN_BYTES_MAX).contains(&address.len()) && is_plain(address);
        if self.addresses.len() > limits::ADDRESSES_MAX || !self.addresses.iter().all(fits) {
            return value("addresses", "want at most 8, each of 1 to 253 visible ASCII characters without \" and \\");
        }
        if self.generation == 0 {
            return value("generation", "generations count from 1");
        }
        let Self { query, submit, issuer, .. } = self;
        let keys = self.token_keys.iter().map(|key| ed25519("token_keys", key)).collect::<Result<_, _>>()?;
        let endpoints = Endpoints { query, submit, issuer, token_keys: keys };
        endpoints.check()?;
        Ok(Operator {
            name: self.name.parse().or_else(|rule| value("operators.name", rule))?,
            node_key: ed25519("node_key", &self.node_key)?,
            governance_key: ed25519("governance_key", &self.governance_key)?,
            generation: self.generation,
            begins: self.begins.parse().or_else(|rule| value("begins", rule))?,
            addresses: self.addresses,
            endpoints,
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

/// Whether a TOML string needs no escape for this text: visible ASCII without quote and backslash.
fn is_plain(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_graphic() && c != '"' && c != '\\')
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
        if self.name.is_empty() || self.name.len() > 64 || !is_plain(&self.name) {
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
        let Policy { daily_new_providers, daily_grants, daily_bytes, .. } = self.policy;
        let Policy { max_age_ms, max_lag_ms, heartbeat_ms, batch_ms, .. } = self.policy;
        writeln!(out, "format = \"{}\"\nname = \"{}\"\nversion = {}", self.format, self.name, self.version)?;
        if self.protocol != FIRST_PROTOCOL {
            writeln!(out, "protocol = {}", self.protocol)?;
        }
        for (field, hash) in [("federation", &self.federation), ("previous", &self.previous)] {
            hash.iter().try_for_each(|hash| writeln!(out, "{field} = \"{hash}\""))?;
        }
        writeln!(out)?;
        writeln!(out, "[policy]\nmax_delta = {max_delta}\ndaily_cap = {daily_cap}\nmin_sponsors = {min_sponsors}")?;
        writeln!(out, "daily_registrations = {daily_registrations}\ndaily_attestations = {daily_attestations}")?;
        writeln!(
            out,
            "daily_retractions = {daily_retractions}\ndaily_new_providers = {daily_new_providers}\ndaily_grants = {daily_grants}"
        )?;
        writeln!(out, "daily_bytes = {daily_bytes}")?;
        writeln!(out, "max_age_ms = {max_age_ms}\nmax_lag_ms = {max_lag_ms}\nheartbeat_ms = {heartbeat_ms}")?;
        writeln!(out, "batch_ms = {batch_ms}")?;
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
    pub(super) protocol: u32,
    pub(super) federation: Option<FederationId>,
    pub(super) previous: Option<ManifestHash>,
    pub(super) name: String,
    pub(super) policy: Policy,
    pub(super) operators: Vec<Operator>,
    pub(super) homes: BTreeMap<Domain, LogId>,
    pub(super) cuts: Vec<Cut>,
}

/// Reads a text of a protocol up to `known`, and checks the rules that do not depend on other versions.
pub(super) fn read(text: &str, known: u32) -> Result<ManifestContent, ManifestError> {
    let Outline { version, protocol, .. } = Outline::read(text)?;
    if protocol == 0 {
        return value("protocol", "protocols count from 1");
    }
    if protocol > known {
        return Err(ManifestError::Protocol { version, protocol });
    }
    let raw: RawManifest = toml::from_str(text).map_err(|error| ManifestError::Toml(error.to_string()))?;
    let canonical = raw.text()?;
    let federation = raw.federation.map(|hash| hash.parse().or_else(|rule| value("federation", rule))).transpose()?;
    let previous = raw.previous.map(|hash| hash.parse().or_else(|rule| value("previous", rule))).transpose()?;
    let operators = raw.operators.into_iter().map(RawOperator::read).collect::<Result<Vec<_>, _>>()?;
    let homes = read_homes(raw.homes, &operators)?;
    check_distinct(&operators)?;
    let cuts = raw.cuts.into_iter().map(RawCut::read).collect::<Result<Vec<_>, _>>()?;
    let hash = ManifestHash(*blake3::hash(text.as_bytes()).as_bytes());
    // Last, so that a text which is wrong in content says so. TOML 1.0 and 1.1 read the canonical text alike.
    if canonical != text {
        let same = canonical.lines().zip(text.lines()).take_while(|(ours, theirs)| ours == theirs).count();
        return Err(ManifestError::Canonical { line: same.saturating_add(1) });
    }
    let (name, policy) = (raw.name, raw.policy);
    Ok(ManifestContent { hash, version, protocol, federation, previous, name, policy, operators, homes, cuts })
}

/// Reads a genesis without checking its signatures.
pub(super) fn genesis(note: SignedNote, known: u32) -> Result<Manifest, ManifestError> {
    let ManifestContent { hash, version, protocol, name, policy, operators, homes, .. } = read(&note.text, known)?;
    if version != 1 {
        return Err(ManifestError::Version { found: version, wanted: 1 });
    }
    let known =
        |operator: &Operator| KnownLog { node_key: operator.node_key, since: 1, begins: operator.begins, cut: None };
    let logs = operators.iter().map(|operator| (operator.log(), known(operator))).collect();
    let records = operators.iter().map(|operator| (operator.name.clone(), operator.log())).collect();
    let (federation, previous) = (FederationId(hash.0), None);
    Ok(Manifest { note, hash, federation, name, version, protocol, policy, operators, homes, records, logs, previous })
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
    endpoints::check_distinct(operators)
}
