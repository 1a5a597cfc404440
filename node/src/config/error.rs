//! Why a configuration is refused, and what to do about it.
use std::path::PathBuf;
use std::{fmt, io};

use fama_ledger::id::Domain;
use fama_ledger::key::{KeyError, PublicKey};
use fama_ledger::manifest::ManifestError;

use super::files::{NO_TEXT, key_hint, mode_hint};

/// A line of the configuration file; displays as `node.toml:7`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    /// Path of the configuration file.
    pub file: PathBuf,
    /// Counted from 1.
    pub line: usize,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The configuration file itself can't be read.
    #[error("{path}: {error}", path = path.display())]
    Unreadable {
        /// Path of the configuration file.
        path: PathBuf,
        /// Reported by the operating system.
        error: io::Error,
    },
    /// Not TOML, an unknown setting, a missing one, or a value of the wrong type.
    #[error("{at}: {message}")]
    Toml {
        /// Line of the error.
        at: At,
        /// From the parser, joined into one line.
        message: String,
    },
    /// A value breaks a rule.
    #[error("{at}: {setting}: {rule}")]
    Value {
        /// Line of the setting.
        at: At,
        /// Its name, with its table.
        setting: &'static str,
        /// The rule that it breaks, as text.
        rule: String,
    },
    /// A file that the configuration names can't be read.
    #[error("{at}: {setting}: {path}: {error}", path = path.display())]
    File {
        /// Line of the setting that names the file.
        at: At,
        /// The name of the setting.
        setting: &'static str,
        /// Path of the file that it names.
        path: PathBuf,
        /// Reported by the operating system.
        error: io::Error,
    },
    /// The manifest file holds no valid chain of versions.
    #[error("{at}: {path}: {error}", path = path.display())]
    Manifest {
        /// Line of the setting that names the file.
        at: At,
        /// Path of the manifest file.
        path: PathBuf,
        /// The rule that it breaks.
        error: ManifestError,
    },
    /// Too many may read or change the key file: see [`unsafe_mode`](super::unsafe_mode).
    #[error("{at}: {path} has mode {mode:04o}, want 0600", path = path.display())]
    Permissions {
        /// Line of the setting that names the file.
        at: At,
        /// Path of the key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The key file holds no key.
    #[error("{at}: {path}: {error}", path = path.display())]
    Key {
        /// Line of the setting that names the file.
        at: At,
        /// Path of the key file.
        path: PathBuf,
        /// Why it is not one.
        error: KeyError,
    },
    /// The key file holds a secp256k1 key.
    #[error("{at}: {path} holds a secp256k1 key, and a node's key is Ed25519", path = path.display())]
    KeyAlgorithm {
        /// Line of the setting that names the file.
        at: At,
        /// Path of the key file.
        path: PathBuf,
    },
    /// The manifest has no such operator.
    #[error("{at}: the manifest has no operator {operator}, only {known}")]
    Operator {
        /// Line of the setting `operator`.
        at: At,
        /// The configured operator.
        operator: Domain,
        /// The manifest's operators, separated by commas.
        known: String,
    },
    /// The key is not the operator's, or the node is a mirror and the key is an operator's.
    #[error("{at}: {path} holds {found}, but {wanted}", path = path.display())]
    WrongKey {
        /// Line of the setting that names the file.
        at: At,
        /// Path of the key file.
        path: PathBuf,
        /// Public key of the key in the file.
        found: PublicKey,
        /// What was expected instead, as the end of a sentence.
        wanted: String,
    },
}

impl ConfigError {
    /// Stable snake_case code; for a wrapped error, its own.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "config_unreadable",
            Self::Toml { .. } => "config_toml",
            Self::Value { .. } => "config_value",
            Self::File { .. } => "config_file",
            Self::Manifest { error, .. } => error.code(),
            Self::Permissions { .. } => "key_permissions",
            Self::Key { error, .. } => error.code(),
            Self::KeyAlgorithm { .. } => "key_algorithm",
            Self::Operator { .. } => "unknown_operator",
            Self::WrongKey { .. } => "wrong_node_key",
        }
    }

    /// A hint for a person: what to do next, one line.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Unreadable { .. } => "`fama federation new` writes a node.toml for every operator".to_owned(),
            Self::Toml { .. } | Self::Value { .. } => {
                "`fama node --example-config` prints every setting with its default".to_owned()
            }
            Self::File { error, .. } if error.kind() == io::ErrorKind::InvalidData => NO_TEXT.to_owned(),
            Self::File { .. } => "paths are relative to the configuration file".to_owned(),
            Self::Manifest { path, .. } => {
                format!("get the federation's manifest from an operator; `fama federation show {}`", path.display())
            }
            Self::Permissions { path, mode, .. } => mode_hint(path, *mode, true),
            Self::Key { error, .. } if key_hint(error).is_some() => key_hint(error).unwrap_or_default().to_owned(),
            Self::Key { .. } | Self::KeyAlgorithm { .. } => {
                "a node key is an Ed25519 key: `fama key new --ed25519`".to_owned()
            }
            Self::Operator { .. } => "without `operator` the node is a mirror".to_owned(),
            Self::WrongKey { .. } => "`fama federation show` lists the operators' keys".to_owned(),
        }
    }
}
