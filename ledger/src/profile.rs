//! Profiles that prove themselves: who an agent is, whether its key holds and what its karma is, in one file.
//!
//! A [`ProfileProof`] answers one [`Question`] from the state maps of all logs, each as it was at a head that a
//! quorum of its operators cosigned. Whoever holds the genesis of the federation, or any chain of its manifests,
//! checks it with [`ProfileProof::verify`] alone: no node, no network, no clock, no database.
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
//!     // Whose profile it is, the proof does not know that you wanted: compare.
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
//! A proof is made by running the join over rows that write down what is asked of them, and proving exactly that;
//! it is checked by running the same join over the rows of the file, and demanding a proof of exactly what is
//! asked of them then. So nothing here knows a rule of the join, and nothing that the join would look at can be
//! left out.
//!
//! **What this does not do.** A proof says what held at the heads that it names, not what holds now: see
//! [`Proven::as_of`] and the times of each log. A node can show an old proof; it cannot show a wrong one, unless
//! more operators lie together than the federation withstands.
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

/// Longest profile proof that is read, in bytes: that of some four thousand providers.
pub const PROFILE_BYTES_MAX: usize = 4 << 20;
/// The value of `format` in the file.
const PROFILE_FORMAT: &str = "fama.profile-proof/1";

/// Whom a profile is asked of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// `name@home`: whoever has the name there.
    Handle(Handle),
    /// The identity with this id, in whichever home.
    Id(IdentityId),
    /// `did:agent:<home>:<32 hex>`: the identity of that home whose id begins so.
    Did(Domain, [u8; 16]),
}

/// A text that names no agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("want name@home, an id of 64 lower-case hex digits or a did:agent:<home>:<32 hex digits>")]
pub struct QuestionError;

impl FromStr for Question {
    type Err = QuestionError;
    /// Reads exactly what it displays as.
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

/// What the logs together say to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProfileAnswer {
    /// There is such an agent.
    Found(Box<Profile>),
    /// There is none: nobody in the home has the name, or no home the id.
    Absent,
}

/// What the logs together say of one agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Who it is, and in which home.
    pub found: LocatedIdentity,
    /// Its current key, and whether any log revokes it.
    pub status: KeyStatus,
    /// All its keys, the first one first.
    pub keys: Vec<KeyVersion>,
    /// Its karma: the sum of the next.
    pub karma: Karma,
    /// What of each provider's attestations counts, in the providers' order; 0 where nothing does.
    pub providers: Vec<(IdentityId, Karma)>,
}

/// What a proof shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// What was asked. The caller compares it with what it wanted to know.
    pub question: Question,
    /// The answer.
    pub answer: ProfileAnswer,
    /// The version of the manifest by whose homes, operators and policy the logs were read together: the newest
    /// that the proof carries, following from the one that the caller holds.
    pub manifest: Arc<Manifest>,
    /// Every log that was read, in the logs' order.
    pub logs: Vec<ProvenLog>,
}

/// How far a log was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenLog {
    /// The log.
    pub log: LogId,
    /// Its entries up to here count, and no others.
    pub size: u64,
    /// The version of the manifest that it had adopted there.
    pub adopted: u32,
    /// The time of its last entry; `None` of a log that was cut.
    pub time: Option<Millis>,
    /// Who cosigned the head, and when they say they did, in seconds since 1970; nobody where a manifest vouches for
    /// it by a cut.
    pub cosigned: Vec<(Domain, u64)>,
    /// The newest time at or after which a quorum says that it knew of no larger head, in seconds since 1970;
    /// `None` of a log that was cut, which says nothing any more.
    pub as_of: Option<u64>,
}

impl Proven {
    /// Up to when everything final in any log was taken into account, in seconds since 1970: the least of the logs'
    /// own times. A log in which nothing happens is cosigned no more, so this may lie back far, and still nothing
    /// newer be known.
    #[must_use]
    pub fn as_of(&self) -> Option<u64> {
        self.logs.iter().filter_map(|log| log.as_of).min()
    }
}

/// Why a file proves nothing to whoever holds this manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// Longer than [`PROFILE_BYTES_MAX`].
    #[error("the proof has {0} bytes, at most {PROFILE_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// Not the JSON of a profile proof.
    #[error("this is no profile proof: {0}")]
    Form(String),
    /// Of another federation.
    #[error("the proof is of the federation {found}, the manifest of {wanted}")]
    Federation {
        /// The proof's.
        found: FederationId,
        /// The manifest's.
        wanted: FederationId,
    },
    /// A version that the proof brings along does not follow from the one before it.
    #[error("a manifest in the proof: {0}")]
    Manifest(ManifestError),
    /// The proof has another text of a version that the reader holds.
    #[error("the proof has another text of version {0} of the manifest than the one that is held")]
    OtherManifest(u32),
    /// The reader holds a newer version than the proof.
    #[error("the proof was made under version {found} of the manifest, but version {held} is held")]
    OldManifest {
        /// The proof's newest.
        found: u32,
        /// The reader's.
        held: u32,
    },
    /// A log that is missing, superfluous, unknown or out of order.
    #[error("log {log}: {what}")]
    Log {
        /// Which.
        log: LogId,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A checkpoint or a signature that does not hold.
    #[error("log {log}: {error}")]
    Checkpoint {
        /// Which.
        log: LogId,
        /// What is wrong.
        error: CheckpointError,
    },
    /// It stays open which version's quorum counts.
    #[error("log {log}: {error}")]
    Adoption {
        /// The log.
        log: LogId,
        /// Why.
        error: AdoptionError,
    },
    /// Too few operators of the version that the log had adopted, or of one before it that counts too, cosigned.
    #[error("log {log}: {cosigned} operators of version {version} cosigned its head, {wanted} must")]
    Quorum {
        /// The log.
        log: LogId,
        /// The version.
        version: u32,
        /// How many of its operators cosigned.
        cosigned: usize,
        /// How many must.
        wanted: usize,
    },
    /// The last entry is no state entry.
    #[error("log {0}: the last entry is no state entry")]
    Entry(LogId),
    /// The last entry is not in the log at this head.
    #[error("log {log}: {error}")]
    Path {
        /// The log.
        log: LogId,
        /// Why.
        error: log::TreeProofError,
    },
    /// The roots of the maps do not make the state root that the log has at this head.
    #[error("log {0}: the roots of its maps do not make its state root")]
    StateRoot(LogId),
    /// A map's proof does not show what the rows beside it say.
    #[error("log {log}, map {map}: {error}")]
    Map {
        /// The log.
        log: LogId,
        /// The map.
        map: String,
        /// Why.
        error: map::MapProofError,
    },
    /// Rows that no answer needs, or none of a map that the answer needs.
    #[error("the rows of {0} are not those that the answer is read from")]
    Rows(String),
    /// A row that cannot be read.
    #[error("a row cannot be read: {0}")]
    Row(CodecError),
}

impl ProfileError {
    /// The stable name of this error.
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

/// Reads the answer. Whatever this looks at is what a proof has to show.
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
