//! Self-contained profiles: one file proves an agent's identity, the status of its key and its karma.
//!
//! A [`ProfileProof`] answers one [`Question`] from the state maps of all logs, each at a head that a quorum of
//! operators cosigned. To check it with [`ProfileProof::verify`], a reader needs only the federation's genesis or any
//! longer chain of its manifests: no node, no network, no clock, no database.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use fama_ledger::manifest::Manifest;
//! use fama_ledger::profile::{ProfileAnswer, ProfileProof};
//!
//! fn is_trusted(file: &str, genesis: &str) -> Result<bool, Box<dyn std::error::Error>> {
//!     let manifest = Arc::new(Manifest::parse(genesis)?);
//!     let proven = file.parse::<ProfileProof>()?.verify(&manifest)?;
//!     // The proof is for whatever agent it was made for: compare with the one that you mean.
//!     if proven.question.to_string() != "swift-core-maps@alpha.example" {
//!         return Ok(false);
//!     }
//!     Ok(match proven.answer {
//!         ProfileAnswer::Found(profile) => !profile.status.is_revoked() && profile.karma.sum > 0,
//!         ProfileAnswer::Absent => false,
//!     })
//! }
//! ```
//!
//! To make a proof, the join runs over rows that record every key and prefix it reads, and the proof covers exactly
//! these. To check it, the same join runs over the rows of the file, and the proof must cover exactly what the join
//! reads then. So this module contains no rule of the join, and a proof cannot omit a row that the join reads.
//!
//! **What this does not do.** A proof shows the state at the heads that it names, not the current state: see
//! [`Proven::as_of`] and the times of each log. A node can present an old proof, but not a wrong one, unless more
//! operators collude than the federation tolerates.
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use crate::adoption::AdoptionError;
use crate::checkpoint::CheckpointError;
use crate::codec::CodecError;
use crate::id::{Domain, FederationId, Handle, Hex, IdentityId, from_hex};
use crate::join::{Join, Karma, KeyStatus, LocatedIdentity};
use crate::log;
use crate::manifest::{LogId, Manifest, ManifestError};
use crate::map;
use crate::rows::{KeyVersion, RowError, Rows};
use crate::time::Millis;

mod carriers;
mod file;
mod make;
mod recorded;
mod verify;

pub use crate::batch::LogMaps;
pub use carriers::carriers;
pub use file::{HeadEvidence, LogEvidence, MapEvidence, ProfileProof};
pub use make::{LogSource, MakeError};

/// Longest profile proof that is parsed, in bytes: enough for about four thousand providers.
pub const PROFILE_BYTES_MAX: usize = 4 << 20;
/// The value of `format` in the file.
const PROFILE_FORMAT: &str = "fama.profile-proof/1";

/// The agent whose profile is requested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// `name@home`: the identity that has the name in that home.
    Handle(Handle),
    /// The identity with this id, in any home.
    Id(IdentityId),
    /// `did:agent:<home>:<32 hex>`: the identity in that home whose id begins with these 16 bytes.
    Did(Domain, [u8; 16]),
}

/// A text that is no question: it does not identify an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("want name@home, an id of 64 lower-case hex digits or a did:agent:<home>:<32 hex digits>")]
pub struct QuestionError;

impl FromStr for Question {
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

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handle(handle) => handle.fmt(f),
            Self::Id(id) => id.fmt(f),
            Self::Did(home, digits) => write!(f, "did:agent:{home}:{}", Hex(digits)),
        }
    }
}

/// The answer that follows from all logs together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProfileAnswer {
    /// The agent exists.
    Found(Box<Profile>),
    /// The agent does not exist: no identity has this name in the home, or no home has this id.
    Absent,
}

/// One agent, as it follows from all logs together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The agent's identity and home.
    pub found: LocatedIdentity,
    /// Its current key, and whether any log revokes it.
    pub status: KeyStatus,
    /// All its key versions, oldest first.
    pub keys: Vec<KeyVersion>,
    /// Its karma: the sum of `providers`.
    pub karma: Karma,
    /// The part of each provider's attestations that counts, ordered by provider; 0 if nothing counts.
    pub providers: Vec<(IdentityId, Karma)>,
}

/// What a proof shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// The question that the file answers. The caller must compare it with its own.
    pub question: Question,
    /// The proven answer to it.
    pub answer: ProfileAnswer,
    /// The manifest whose homes, operators and policy the join used: the newest in the proof, which continues the
    /// caller's chain.
    pub manifest: Arc<Manifest>,
    /// Every log that was read, ordered by log.
    pub logs: Vec<ProvenLog>,
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
    /// The time up to which the answer includes everything final in any log, in seconds since 1970: the earliest of the
    /// logs' own [`ProvenLog::as_of`].
    ///
    /// An idle log gets no new cosignatures, so this may be long ago although nothing newer exists.
    #[must_use]
    pub fn as_of(&self) -> Option<u64> {
        self.logs.iter().filter_map(|log| log.as_of).min()
    }
}

/// Why a file proves nothing to a reader that holds this manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// The file is longer than [`PROFILE_BYTES_MAX`].
    #[error("the proof has {0} bytes, at most {PROFILE_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// The file is not the JSON of a profile proof.
    #[error("this is no profile proof: {0}")]
    Form(String),
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
            Self::Form(_) => "profile_form",
            Self::Federation { .. } => "profile_federation",
            Self::Manifest(error) => error.code(),
            Self::OtherManifest(_) => "profile_other_manifest",
            Self::OldManifest { .. } => "profile_old_manifest",
            Self::Log { .. } => "profile_log",
            Self::Checkpoint { error, .. } => error.code(),
            Self::Adoption { error, .. } => error.code(),
            Self::Quorum { .. } => "profile_quorum",
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

/// Reads the answer. A proof must cover exactly the rows that this function reads.
fn read<S: Rows>(manifest: &Manifest, rows: &S, question: &Question) -> Result<ProfileAnswer, RowError<S::Error>> {
    let join = Join::new(manifest, rows);
    let Some(found) = find(&join, question)? else { return Ok(ProfileAnswer::Absent) };
    let (status, keys) = (join.key_status(&found)?, join.keys(&found)?);
    let providers = join.karma_by_provider(found.id)?;
    let karma = providers.iter().fold(Karma::default(), |all, (_, one)| all.plus(*one));
    Ok(ProfileAnswer::Found(Box::new(Profile { found, status, keys, karma, providers })))
}

fn find<S: Rows>(join: &Join<'_, S>, question: &Question) -> Result<Option<LocatedIdentity>, RowError<S::Error>> {
    let (home, id) = match question {
        Question::Id(id) => return join.identity(*id),
        Question::Handle(Handle { name, home }) => (home, join.named(name, home)?),
        Question::Did(home, digits) => (home, join.with_prefix(home, digits)?),
    };
    let Some(id) = id else { return Ok(None) };
    match join.identity_in(home, id)? {
        None => Err(RowError::Broken(CodecError::Malformed)),
        found => Ok(found),
    }
}
