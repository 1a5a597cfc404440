//! Self-contained profiles: one file proves an agent's identity, the status of its key and its karma.
//!
//! A [`ProfileProof`] answers one [`Question`] from the state maps of the logs, each at a head that a quorum of
//! operators cosigned. To check it with [`ProfileProof::verify`], a reader needs only the federation's genesis or any
//! longer chain of its manifests, and says what it requires: no node, no network, no database.
//!
//! ```no_run
//! use std::sync::Arc;
//! use std::time::{SystemTime, UNIX_EPOCH};
//!
//! use fama_ledger::manifest::Manifest;
//! use fama_ledger::profile::{ProfileAnswer, ProfileProof, ProvenStatus, Required};
//!
//! fn is_trusted(file: &str, genesis: &str) -> Result<bool, Box<dyn std::error::Error>> {
//!     let manifest = Arc::new(Manifest::parse(genesis)?);
//!     let required = Required {
//!         // A proof of anything else is refused.
//!         question: "swift-core-maps@alpha.example".parse()?,
//!         // What was said in the last five minutes may be missing, and nothing older.
//!         max_age_seconds: 300,
//!         // Here every log must be shown. A reader that accepts one less cannot be sure of an active key.
//!         missing_max: 0,
//!         now: SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
//!     };
//!     let proven = file.parse::<ProfileProof>()?.verify(&manifest, &required)?;
//!     Ok(match proven.answer {
//!         ProfileAnswer::Found(profile) => profile.status == ProvenStatus::Active && profile.karma.sum > 0,
//!         ProfileAnswer::Absent => false,
//!     })
//! }
//! ```
//!
//! To make a proof, the join runs over rows that record every key and prefix it reads, and the proof covers exactly
//! these. To check it, the same join runs over the rows of the file, and the proof must cover exactly what the join
//! reads then. So this module contains no rule of the join, and a proof cannot omit a row that the join reads.
//!
//! A proof may leave out logs, and the tallies of a home; it names them, and so does [`Proven::left_out`]. A log whose
//! certificate is older than the reader accepts counts as left out too. What is left out may hide a revocation, so
//! then a key that nothing shown revokes is only [`ProvenStatus::NotKnownRevoked`].
//!
//! **What this does not do.** A proof shows the state at the heads that it names, not the current state: see
//! [`Proven::as_of`] and the times of each log. A node can present an old proof, but not a wrong one, unless more
//! operators collude than the federation tolerates. The age is by the reader's clock: a slow one hides as much age as
//! it is slow.
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use crate::adoption::AdoptionError;
use crate::checkpoint::CheckpointError;
use crate::codec::CodecError;
use crate::event::Scope;
use crate::id::{Domain, FederationId, Handle, Hex, IdentityId, from_hex};
use crate::join::{Join, Karma, KeyStatus, LocatedIdentity, Revoked};
use crate::log;
use crate::manifest::{LogId, Manifest, ManifestError, Operator};
use crate::map;
use crate::rows::{Grant, KeyVersion, MapId, MapName, RowError, Rows, Suspended};
use crate::time::Millis;

mod carriers;
mod file;
mod json;
mod make;
mod recorded;
mod verify;

pub use crate::batch::LogMaps;
pub use carriers::carriers;
pub use file::{HeadEvidence, LogEvidence, MapEvidence, ProfileProof};
pub use make::{LogSource, MakeError};

/// Longest profile proof that is parsed, in bytes: enough for about ten thousand sponsored providers.
pub const PROFILE_BYTES_MAX: usize = 4 << 20;
/// Most bytes of keys and values that the rows of a profile proof unpack to.
pub const PROFILE_UNPACKED_BYTES_MAX: usize = 16 << 20;
/// The value of `format` in the file.
const PROFILE_FORMAT: &str = "fama.profile-proof/1";

/// Most issuers whose grants one proof shows.
pub const GRANTED_BY_MAX: usize = 16;
/// What stands between the agent and the issuers in a question's text.
const GRANTED_BY: &str = " granted by ";

/// What is asked: an agent's profile, and what some services let it do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The agent whose profile is requested.
    pub agent: Agent,
    /// The issuers whose grants to the agent are requested too: strictly ascending, at most [`GRANTED_BY_MAX`].
    pub granted_by: Vec<IdentityId>,
}

/// The agent whose profile is requested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agent {
    /// `name@home`: the identity that has the name in that home.
    Handle(Handle),
    /// The identity with this id, in any home.
    Id(IdentityId),
    /// `did:agent:<home>:<32 hex>`: the identity in that home whose id begins with these 16 bytes.
    Did(Domain, [u8; 16]),
}

/// A text that is no question: it does not identify an agent, or no issuers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("want name@home, an id of 64 lower-case hex digits or a did:agent:<home>:<32 hex digits>")]
pub struct QuestionError;

impl From<Agent> for Question {
    fn from(agent: Agent) -> Self {
        Self { agent, granted_by: Vec::new() }
    }
}

impl FromStr for Question {
    type Err = QuestionError;
    /// Parses exactly the displayed form: the agent, then ` granted by ` and the issuers' ids if there are any.
    fn from_str(text: &str) -> Result<Self, QuestionError> {
        let Some((agent, issuers)) = text.split_once(GRANTED_BY) else { return text.parse().map(Agent::into) };
        let issuers = issuers.split(' ').map(|id| id.parse().map_err(|_| QuestionError));
        let granted_by = issuers.collect::<Result<Vec<IdentityId>, _>>()?;
        if granted_by.len() > GRANTED_BY_MAX || !granted_by.is_sorted_by(|a, b| a < b) {
            return Err(QuestionError);
        }
        Ok(Self { agent: agent.parse()?, granted_by })
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.agent.fmt(f)?;
        for (i, issuer) in self.granted_by.iter().enumerate() {
            write!(f, "{}{issuer}", if i == 0 { GRANTED_BY } else { " " })?;
        }
        Ok(())
    }
}

impl FromStr for Agent {
    type Err = QuestionError;
    /// Parses exactly the displayed form.
    fn from_str(text: &str) -> Result<Self, QuestionError> {
        if let Some(rest) = text.strip_prefix("did:agent:") {
            let (home, digits) = rest.split_once(':').ok_or(QuestionError)?;
            let home = home.parse().map_err(|_| QuestionError)?;
            return Ok(Self::Did(home, from_hex(digits).map_err(|_| QuestionError)?));
        }
        let handle = || text.parse().map(Self::Handle).map_err(|_| QuestionError);
        text.parse().map(Self::Id).or_else(|_| handle())
    }
}

impl fmt::Display for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handle(handle) => handle.fmt(f),
            Self::Id(id) => id.fmt(f),
            Self::Did(home, digits) => write!(f, "did:agent:{home}:{}", Hex(digits)),
        }
    }
}

impl Agent {
    /// The home that the agent's name has; `None` for an id, which may be in any home.
    #[must_use]
    pub const fn home(&self) -> Option<&Domain> {
        match self {
            Self::Handle(Handle { home, .. }) | Self::Did(home, _) => Some(home),
            Self::Id(_) => None,
        }
    }
}

/// What a reader requires of a proof. Nothing has a default: each of these decides what a node can hide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Required {
    /// The question that the proof must answer.
    pub question: Question,
    /// The largest age of a log's certificate, in seconds. A log with an older one counts as left out.
    pub max_age_seconds: u64,
    /// How many logs may be left out. Up to as many as can lie (`f`), liars alone can bring it about.
    pub missing_max: usize,
    /// The reader's clock, in seconds since 1970.
    pub now: u64,
}

/// The answer that follows from all logs together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProfileAnswer {
    /// The agent exists.
    Found(Box<Profile>),
    /// The agent does not exist: no identity has this name in the home, or no home has this id.
    Absent,
}

/// Whether a key is in force, as far as a proof shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProvenStatus {
    /// No log revokes the key: the claims of every operator were read.
    Active,
    /// A log revokes the key.
    Revoked(Revoked),
    /// No log that was read revokes the key, but a log that is left out may.
    NotKnownRevoked,
}

impl ProvenStatus {
    /// The word for answers: `active`, `revoked` or `not_known_revoked`.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Revoked(_) => "revoked",
            Self::NotKnownRevoked => "not_known_revoked",
        }
    }
}

/// Whether an identity's use is suspended, as far as a proof shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProvenSuspension {
    /// Too few operators suspend it, whatever the maps have that are left out.
    None,
    /// As many operators suspend it as the policy wants.
    Holds,
    /// Too few of those shown suspend it, but with those that are left out there may be enough.
    NotKnown,
}

impl ProvenSuspension {
    /// The word for answers: `none`, `holds` or `not_known`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Holds => "holds",
            Self::NotKnown => "not_known",
        }
    }
}

/// What one service lets the agent do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenGrants {
    /// The service's identity.
    pub issuer: IdentityId,
    /// Its home and what speaks against its key; `None` if no home has such an identity.
    pub found: Option<ProvenIssuer>,
    /// The grants that stand, ordered by the hash of their scope. One with `expires` may have ended since.
    pub grants: Vec<Grant>,
}

impl ProvenGrants {
    /// Whether the service's key is known to be in force. Without this, no grant counts.
    #[must_use]
    pub fn is_in_force(&self) -> bool {
        let good = |issuer: &ProvenIssuer| {
            issuer.status == ProvenStatus::Active && issuer.suspension == ProvenSuspension::None
        };
        self.found.as_ref().is_some_and(good)
    }

    /// Whether the service lets the agent do `scope` at the time `now`, as far as the proof shows.
    #[must_use]
    pub fn allows(&self, scope: &Scope, now: Millis) -> bool {
        self.is_in_force() && self.grants.iter().any(|grant| grant.scope == *scope && grant.is_good(now))
    }
}

/// A service whose grants a proof shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenIssuer {
    /// Its home.
    pub home: Domain,
    /// Whether its current key is in force.
    pub status: ProvenStatus,
    /// Whether its use is suspended.
    pub suspension: ProvenSuspension,
}

/// One agent, as it follows from all logs that are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The agent's identity and home.
    pub found: LocatedIdentity,
    /// The version of its current key.
    pub version: u32,
    /// Its current key, as its home has it.
    pub current: KeyVersion,
    /// Whether that key is in force.
    pub status: ProvenStatus,
    /// Whether its use is suspended.
    pub suspension: ProvenSuspension,
    /// The operators of the newest version whose suspension of it stands, by name. Fewer than the policy wants bind only
    /// their own issuers of tokens.
    pub suspended_by: Vec<(Domain, Suspended)>,
    /// All its key versions, oldest first.
    pub keys: Vec<KeyVersion>,
    /// Its karma: the sum of `providers`. What is left out is not in it.
    pub karma: Karma,
    /// The part of each provider's attestations that counts, ordered by provider; 0 if nothing counts.
    pub providers: Vec<(IdentityId, Karma)>,
    /// What the services that the question names let it do, in their order.
    pub granted: Vec<ProvenGrants>,
}

/// What a proof shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// The question that the file answers: the one that was required.
    pub question: Question,
    /// The proven answer to it.
    pub answer: ProfileAnswer,
    /// The manifest whose homes, operators and policy the join used: the newest in the proof, which continues the
    /// caller's chain.
    pub manifest: Arc<Manifest>,
    /// Every log that was read, ordered by log; also those that count as left out because of their age.
    pub logs: Vec<ProvenLog>,
    /// Every log that counts as left out, ordered by log.
    pub left_out: Vec<LeftOut>,
}

/// A log of which something is not shown, or is too old.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The log that counts as left out.
    pub log: LogId,
    /// Why it does.
    pub why: WhyLeftOut,
    /// The names of the maps in which something may be hidden, ordered.
    pub maps: Vec<String>,
}

/// Why a log counts as left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyLeftOut {
    /// Nothing of it is shown. It may not have begun yet.
    Missing,
    /// Its certificate is older than the reader accepts. What it says is used as of then.
    Old {
        /// The time that it is of, in seconds since 1970.
        as_of: u64,
    },
    /// The attestations of the agent in some of its homes are not shown.
    Tallies,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.why {
            WhyLeftOut::Missing => write!(f, "{} is not shown", self.log),
            WhyLeftOut::Old { as_of } => write!(f, "{} is as of {}", self.log, Millis(as_of.saturating_mul(1_000))),
            WhyLeftOut::Tallies => write!(f, "of {} the attestations are not shown", self.log),
        }
    }
}

/// For messages: all of them, in one line.
struct LeftOutList<'a>(&'a [LeftOut]);

impl fmt::Display for LeftOutList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, one) in self.0.iter().enumerate() {
            write!(f, "{}{one}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// The part of a log that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenLog {
    /// The log that was read.
    pub log: LogId,
    /// The number of its entries that count: the size of the proven head.
    pub size: u64,
    /// The manifest version that the log had adopted at that head.
    pub adopted: u32,
    /// The time of the last entry below the head; `None` if the log was cut.
    pub time: Option<Millis>,
    /// The operators that cosigned the head, each with the time on its cosignature in seconds since 1970; empty if the
    /// log was cut, because then the manifest names the head.
    pub cosigned: Vec<(Domain, u64)>,
    /// The newest time, in seconds since 1970, at or after which a quorum stated that it knew no larger head; `None` if
    /// the log was cut and so cannot grow.
    pub as_of: Option<u64>,
}

impl Proven {
    /// The time up to which the answer includes everything final in any log that does not count as left out, in seconds
    /// since 1970: the earliest of the logs' own [`ProvenLog::as_of`].
    #[must_use]
    pub fn as_of(&self) -> Option<u64> {
        let is_old = |log: &ProvenLog| {
            self.left_out.iter().any(|one| one.log == log.log && matches!(one.why, WhyLeftOut::Old { .. }))
        };
        self.logs.iter().filter(|log| !is_old(log)).filter_map(|log| log.as_of).min()
    }
}

/// Why a file proves nothing to a reader that holds this manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// The file is longer than [`PROFILE_BYTES_MAX`].
    #[error("the proof has {0} bytes, at most {PROFILE_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// The rows unpack to more than [`PROFILE_UNPACKED_BYTES_MAX`].
    #[error("the rows of the proof unpack to more than {PROFILE_UNPACKED_BYTES_MAX} bytes")]
    Unpacked,
    /// The file is not the JSON of a profile proof.
    #[error("this is no profile proof: {0}")]
    Form(String),
    /// The proof answers another question than the one required.
    #[error("the proof is about {found}, not about {wanted}")]
    Question {
        /// The question in the proof.
        found: Box<Question>,
        /// The question that was required.
        wanted: Box<Question>,
    },
    /// More logs are left out than the reader accepts.
    #[error("{} logs are left out, at most {max} may be: {}", left_out.len(), LeftOutList(left_out))]
    LeftOut {
        /// The logs that count as left out.
        left_out: Vec<LeftOut>,
        /// How many may be.
        max: usize,
    },
    /// The log of the agent's own home is left out, so nothing is known about the agent.
    #[error("the log of {0}, which would have the agent, is left out: this proof says nothing about it")]
    HomeLeftOut(Domain),
    /// A quorum's cosignatures are more than a minute ahead of the reader's clock.
    #[error("log {log}: cosigned {seconds} seconds after now, by this clock")]
    Ahead {
        /// The log that was cosigned.
        log: LogId,
        /// How far its time is ahead, in seconds.
        seconds: u64,
    },
    /// The proof is of another federation.
    #[error("the proof is of the federation {found}, the manifest of {wanted}")]
    Federation {
        /// The federation in the proof.
        found: FederationId,
        /// The federation of the reader's manifest.
        wanted: FederationId,
    },
    /// A manifest version in the proof does not follow from the previous one.
    #[error("a manifest in the proof: {0}")]
    Manifest(ManifestError),
    /// The proof has a different text for a version that the reader holds.
    #[error("the proof has a different text of version {0} of the manifest than the reader")]
    OtherManifest(u32),
    /// The reader holds a newer version than the proof.
    #[error("the proof was made under version {found} of the manifest, but the reader holds version {held}")]
    OldManifest {
        /// The newest version in the proof.
        found: u32,
        /// The newest version that the reader holds.
        held: u32,
    },
    /// A log is missing, superfluous, unknown or out of order.
    #[error("log {log}: {what}")]
    Log {
        /// The log in question.
        log: LogId,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A checkpoint or a signature is invalid.
    #[error("log {log}: {error}")]
    Checkpoint {
        /// The log of the checkpoint.
        log: LogId,
        /// What is wrong with it.
        error: CheckpointError,
    },
    /// The proof does not show which version's quorum counts.
    #[error("log {log}: {error}")]
    Adoption {
        /// The log that adopted a version.
        log: LogId,
        /// What is missing or wrong.
        error: AdoptionError,
    },
    /// Too few operators of the version that the log adopted, or of an earlier one that also counts, cosigned.
    #[error("log {log}: {cosigned} operators of version {version} cosigned its head, {wanted} must")]
    Quorum {
        /// The log of the head.
        log: LogId,
        /// The version whose quorum is short.
        version: u32,
        /// The number of its operators that cosigned.
        cosigned: usize,
        /// The quorum of that version.
        wanted: usize,
    },
    /// The log had adopted a version older than any that an uncut log can have now: its operators' keys may be retired.
    #[error("log {log}: its head is of the time of version {adopted}; by now it has adopted version {wanted}")]
    Outdated {
        /// The log of the head.
        log: LogId,
        /// The version that it had adopted there.
        adopted: u32,
        /// The oldest version that a reader accepts.
        wanted: u32,
    },
    /// The last entry below the head is no state entry.
    #[error("log {0}: the last entry is no state entry")]
    Entry(LogId),
    /// The path does not show the last entry below the head.
    #[error("log {log}: {error}")]
    Path {
        /// The log of the head.
        log: LogId,
        /// What is wrong with the path.
        error: log::TreeProofError,
    },
    /// The roots of the maps do not lead to the log's state root at this head.
    #[error("log {0}: the roots of its maps do not lead to its state root")]
    StateRoot(LogId),
    /// A map's proof does not show the rows in the file.
    #[error("log {log}, map {map}: {error}")]
    Map {
        /// The log that carries the map.
        log: LogId,
        /// The name of the map.
        map: String,
        /// What is wrong with the proof.
        error: map::MapProofError,
    },
    /// A map has rows that the answer does not need, or a map that the answer needs is missing.
    #[error("the rows of {0} are not those that the answer is read from")]
    Rows(String),
    /// A row does not decode.
    #[error("a row does not decode: {0}")]
    Row(CodecError),
}

impl ProfileError {
    /// The stable code for answers, logs and metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLong(_) => "profile_too_long",
            Self::Unpacked => "profile_unpacked",
            Self::Form(_) => "profile_form",
            Self::Question { .. } => "profile_question",
            Self::LeftOut { .. } => "profile_left_out",
            Self::HomeLeftOut(_) => "profile_home_left_out",
            Self::Ahead { .. } => "profile_ahead",
            Self::Federation { .. } => "profile_federation",
            Self::Manifest(error) => error.code(),
            Self::OtherManifest(_) => "profile_other_manifest",
            Self::OldManifest { .. } => "profile_old_manifest",
            Self::Log { .. } => "profile_log",
            Self::Checkpoint { error, .. } => error.code(),
            Self::Adoption { error, .. } => error.code(),
            Self::Quorum { .. } => "profile_quorum",
            Self::Outdated { .. } => "profile_outdated",
            Self::Entry(_) => "profile_entry",
            Self::Path { error, .. } => error.code(),
            Self::StateRoot(_) => "profile_state_root",
            Self::Map { error, .. } => error.code(),
            Self::Rows(_) => "profile_rows",
            Self::Row(_) => "profile_row",
        }
    }

    fn log(log: &LogId, what: &'static str) -> Self {
        Self::Log { log: log.clone(), what }
    }
}

/// Why an answer could not be read.
enum ReadError<E> {
    /// The home that would have the agent is left out.
    HomeLeftOut(Domain),
    Rows(RowError<E>),
}

impl<E> From<RowError<E>> for ReadError<E> {
    fn from(error: RowError<E>) -> Self {
        Self::Rows(error)
    }
}

/// Reads the answer. A proof must cover exactly the rows that this function reads. `left_out` are the maps in which
/// something may be hidden.
fn read<S: Rows>(
    manifest: &Manifest,
    rows: &S,
    question: &Question,
    left_out: &BTreeSet<MapId>,
) -> Result<ProfileAnswer, ReadError<S::Error>> {
    let join = Join::new(manifest, rows);
    let Some(found) = find(&join, &question.agent, left_out)? else { return Ok(ProfileAnswer::Absent) };
    let (KeyStatus { version, current, revoked }, keys) = (join.key_status(&found)?, join.keys(&found)?);
    let status = proven_status(manifest, revoked, left_out);
    let suspended_by = join.suspended_by(found.id)?;
    let suspension = proven_suspension(manifest, &suspended_by, left_out);
    let mut granted = Vec::new();
    for issuer in &question.granted_by {
        granted.push(read_grants(&join, *issuer, found.id, left_out)?);
    }
    let providers = join.karma_by_provider(found.id)?;
    let karma = providers.iter().fold(Karma::default(), |all, (_, one)| all.plus(*one));
    let profile =
        Profile { found, version, current, status, suspension, suspended_by, keys, karma, providers, granted };
    Ok(ProfileAnswer::Found(Box::new(profile)))
}

fn proven_status(manifest: &Manifest, revoked: Option<Revoked>, left_out: &BTreeSet<MapId>) -> ProvenStatus {
    let mut claims = manifest.records().keys().map(|operator| MapName::claims(operator).id());
    match revoked {
        Some(revoked) => ProvenStatus::Revoked(revoked),
        None if claims.any(|map| left_out.contains(&map)) => ProvenStatus::NotKnownRevoked,
        None => ProvenStatus::Active,
    }
}

fn proven_suspension(manifest: &Manifest, by: &[(Domain, Suspended)], left_out: &BTreeSet<MapId>) -> ProvenSuspension {
    let is_shown = |operator: &Domain| by.iter().any(|(shown, _)| shown == operator);
    let may = |operator: &&Operator| {
        left_out.contains(&MapName::statements(&operator.name).id()) && !is_shown(&operator.name)
    };
    let hidden = manifest.operators().iter().filter(may).count();
    let wanted = manifest.policy().sponsors_wanted();
    if by.len() >= wanted {
        ProvenSuspension::Holds
    } else if by.len().saturating_add(hidden) >= wanted {
        ProvenSuspension::NotKnown
    } else {
        ProvenSuspension::None
    }
}

/// What `issuer` lets `subject` do.
fn read_grants<S: Rows>(
    join: &Join<'_, S>,
    issuer: IdentityId,
    subject: IdentityId,
    left_out: &BTreeSet<MapId>,
) -> Result<ProvenGrants, ReadError<S::Error>> {
    let Some(found) = find(join, &Agent::Id(issuer), left_out)? else {
        return Ok(ProvenGrants { issuer, found: None, grants: Vec::new() });
    };
    let status = proven_status(join.manifest(), join.key_status(&found)?.revoked, left_out);
    let suspension = proven_suspension(join.manifest(), &join.suspended_by(issuer)?, left_out);
    let grants = join.grants(&found, subject)?;
    Ok(ProvenGrants { issuer, found: Some(ProvenIssuer { home: found.home, status, suspension }), grants })
}

/// The identity that this names; `None` if it is known that there is none.
fn find<S: Rows>(
    join: &Join<'_, S>,
    agent: &Agent,
    left_out: &BTreeSet<MapId>,
) -> Result<Option<LocatedIdentity>, ReadError<S::Error>> {
    let is_left_out = |home: &&Domain| left_out.contains(&MapName::home(home).id());
    if let Some(home) = agent.home().filter(is_left_out) {
        return Err(ReadError::HomeLeftOut(home.clone()));
    }
    let (home, id) = match agent {
        Agent::Id(id) => {
            let found = join.identity(*id)?;
            let mut homes = join.manifest().homes().keys();
            let hidden = match &found {
                Some(found) => Some(&found.home).filter(is_left_out),
                None => homes.find(is_left_out),
            };
            return hidden.map_or(Ok(found.clone()), |home| Err(ReadError::HomeLeftOut(home.clone())));
        }
        Agent::Handle(Handle { name, home }) => (home, join.named(name, home)?),
        Agent::Did(home, digits) => (home, join.with_prefix(home, digits)?),
    };
    let Some(id) = id else { return Ok(None) };
    match join.identity_in(home, id)? {
        None => Err(RowError::Broken(CodecError::Malformed).into()),
        found => Ok(found),
    }
}
