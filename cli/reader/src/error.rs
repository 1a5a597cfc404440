//! Why public files could not be read, written or audited.
use std::path::PathBuf;

use fama_node::config::ConfigError;
use fama_node::replay::Fatal;
use fama_node::store::StoreError;

/// What went wrong, with the values to find it by. The message has no advice in it: that depends on who asks.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A source's name is neither a URL nor a bucket, and no folder or file has it.
    #[error("{0}: no such folder")]
    NoSource(String),
    /// A source has no `manifest/1`.
    #[error("{0} has no manifest/1")]
    NoManifest(String),
    /// The HTTP client cannot use this URL.
    #[error("{url}: {reason}")]
    BadUrl {
        /// Of the file.
        url: String,
        /// Stated by the client.
        reason: String,
    },
    /// An HTTP status that neither a node nor a static host gives for a public file.
    #[error("{url}: status {status}")]
    NoNode {
        /// Of the file.
        url: String,
        /// Code and reason phrase.
        status: String,
    },
    /// The name of a folder or bucket is malformed, or the folder does not exist.
    #[error("{name}: {reason}")]
    BadPlace {
        /// As it was given.
        name: String,
        /// Stated by the object store.
        reason: String,
    },
    /// No usable answer, after retries where they make sense; trying again later may help.
    #[error("{what}: {reason}")]
    Unreachable {
        /// Name of the source and path of the file.
        what: String,
        /// Stated by the client or the system.
        reason: String,
    },
    /// As [`ReadError::Unreachable`]: the server's certificate is not accepted, which trying again does not change.
    #[error("{what}: {reason}")]
    Certificate {
        /// Name of the source and path of the file.
        what: String,
        /// Stated by the client.
        reason: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// As [`ReadError::Unreachable`]: the server does not speak TLS.
    #[error("{what}: {reason}")]
    NoTls {
        /// Name of the source and path of the file.
        what: String,
        /// Stated by the client.
        reason: String,
    },
    /// As [`ReadError::Unreachable`]: the proxy that the environment names does not work.
    #[error("{what}: {reason}")]
    Proxy {
        /// Name of the source and path of the file.
        what: String,
        /// Stated by the client, with the proxy and its variable.
        reason: String,
    },
    /// As [`ReadError::Unreachable`], for a file in an S3-compatible store.
    #[error("{what}: {reason}")]
    BucketUnreachable {
        /// Name of the source and path of the file.
        what: String,
        /// Stated by the object store.
        reason: String,
    },
    /// The store refused the credentials; it counts as unreachable.
    #[error("{what}: {reason}")]
    BucketDenied {
        /// Name of the source and path of the file.
        what: String,
        /// Stated by the object store.
        reason: String,
    },
    /// A file is longer than any valid file at its path.
    #[error("{what} is longer than {bytes_max} bytes")]
    TooLarge {
        /// Name of the source and path of the file.
        what: String,
        /// The most that its path allows.
        bytes_max: usize,
    },
    /// A source lacks a file that its own head implies.
    #[error("{0} is missing")]
    MissingFile(String),
    /// A file breaks a rule of the ledger.
    #[error("{what}: {reason}")]
    Invalid {
        /// The rule's own code.
        code: &'static str,
        /// Name of the source and path of the file.
        what: String,
        /// How it breaks the rule.
        reason: String,
    },
    /// The configuration of a node whose data folder was to be read.
    #[error(transparent)]
    Config(Box<ConfigError>),
    /// The data folder that serves as a source; `locked` if a running node uses it.
    #[error(transparent)]
    SourceStore(Box<StoreError>),
    /// The auditor's own store.
    #[error(transparent)]
    AuditStore(Box<StoreError>),
    /// The auditor's own store, while entries were folded into it.
    #[error(transparent)]
    Fold(Box<Fatal>),
    /// The auditor's own store holds something that no audit wrote.
    #[error("{0}")]
    Damaged(String),
    /// The operating system refused threads or other resources.
    #[error("{0}")]
    System(String),
    /// A file or folder of the caller could not be written.
    #[error("{0}")]
    File(String),
    /// A table of this name exists; tables are never overwritten.
    #[error("{} already exists", .0.display())]
    FileExists(PathBuf),
    /// A folder or bucket holds more files than this program lists.
    #[error("{0} holds too many files")]
    TooManyFiles(String),
    /// There is no finished backup, or none of that id.
    #[error("{place} has no finished backup{}", .id.as_ref().map_or_else(String::new, |id| format!(" {id}")))]
    NoBackup {
        /// Where it was looked for.
        place: String,
        /// The id that was asked for.
        id: Option<String>,
    },
    /// A part of a backup is missing, is not what was backed up, or breaks its own description.
    #[error("{what}: {reason}")]
    BackupDamaged {
        /// The damaged file in the backup's place.
        what: String,
        /// How it differs.
        reason: String,
    },
    /// The place holds backups of another node.
    #[error("{place} holds backups of {found}, not of {wanted}")]
    OtherNode {
        /// Where they lie.
        place: String,
        /// Operator and federation of the backups.
        found: String,
        /// Operator and federation of the node.
        wanted: String,
    },
    /// A folder that must be empty or missing is neither.
    #[error("{} is not empty", .0.display())]
    NotEmpty(PathBuf),
    /// Two sides belong to different federations.
    #[error("{name} is of the federation {found}, not {wanted}")]
    OtherFederation {
        /// Name of the source, or of the place that files are published to.
        name: String,
        /// The federation that it shows.
        found: String,
        /// The federation that was expected.
        wanted: String,
    },
    /// Two histories of one log or manifest exist. A person must decide which one is right.
    #[error("{0}")]
    Conflict(String),
    /// The source has fewer entries of a log than are published.
    #[error("{target} has {published} entries of {log}, {source_name} has {offered}")]
    Behind {
        /// Where it is published.
        target: String,
        /// Size of the published head.
        published: u64,
        /// Operator and generation of the log.
        log: String,
        /// Name of the source.
        source_name: String,
        /// Entries that the source has.
        offered: u64,
    },
    /// An earlier export wrote more of a log than the audit found now.
    #[error("{} has at least {files} entries of {log}, the source {audited}", .folder.display())]
    FilesAhead {
        /// The folder of the log's files.
        folder: PathBuf,
        /// Entries in the files up to the one that does not fit.
        files: u64,
        /// Operator and generation of the log.
        log: String,
        /// Entries that the source has.
        audited: u64,
    },
    /// An earlier export wrote entries that are not those of the log which the audit found now.
    #[error("{} holds another history of {log} than the source", .file.display())]
    FileOfOtherHistory {
        /// The first file that differs.
        file: PathBuf,
        /// Operator and generation of the log.
        log: String,
    },
    /// Published tiles do not give the root of the published checkpoint.
    #[error("{target}: the tiles of {log} are not those of its checkpoint")]
    PublishedDamaged {
        /// Where it is published.
        target: String,
        /// Operator and generation of the log.
        log: String,
    },
    /// A head lacks the quorum of the version that its log has adopted.
    #[error("the head of {log} at {size}, which adopted version {version}, has no quorum of it")]
    Uncertified {
        /// Operator and generation of the log.
        log: String,
        /// Entries below the head.
        size: u64,
        /// The version, or `none`.
        version: String,
    },
    /// A source's tiles or entries do not give the root of its own head.
    #[error("{source_name}: the files of {log} are not the tree of its head at {size}")]
    WrongTree {
        /// Name of the source.
        source_name: String,
        /// Operator and generation of the log.
        log: String,
        /// Entries below the head.
        size: u64,
    },
}

impl ReadError {
    /// Stable `snake_case` code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoSource(_) => "no_source",
            Self::NoManifest(_) => "no_manifest",
            Self::BadUrl { .. } => "bad_url",
            Self::NoNode { .. } => "no_node",
            Self::BadPlace { .. } => "bad_place",
            Self::Unreachable { .. }
            | Self::Certificate { .. }
            | Self::NoTls { .. }
            | Self::Proxy { .. }
            | Self::BucketUnreachable { .. }
            | Self::BucketDenied { .. } => "unreachable",
            Self::TooLarge { .. } => "too_large",
            Self::MissingFile(_) => "missing_file",
            Self::Invalid { code, .. } => code,
            Self::Config(error) => error.code(),
            Self::SourceStore(error) | Self::AuditStore(error) => error.code(),
            Self::Fold(error) => error.code(),
            Self::Damaged(_) => "damaged",
            Self::System(_) => "system",
            Self::File(_) => "file",
            Self::FileExists(_) => "file_exists",
            Self::TooManyFiles(_) => "too_many_files",
            Self::NoBackup { .. } => "no_backup",
            Self::BackupDamaged { .. } => "backup_damaged",
            Self::OtherNode { .. } => "other_node",
            Self::NotEmpty(_) => "not_empty",
            Self::OtherFederation { .. } => "other_federation",
            Self::Conflict(_) | Self::FileOfOtherHistory { .. } => "conflict",
            Self::Behind { .. } | Self::FilesAhead { .. } => "behind",
            Self::PublishedDamaged { .. } => "published_damaged",
            Self::Uncertified { .. } => "uncertified",
            Self::WrongTree { .. } => "wrong_tree",
        }
    }

    pub(crate) fn system(error: impl std::fmt::Display) -> Self {
        Self::System(error.to_string())
    }

    pub(crate) fn file(error: impl std::fmt::Display) -> Self {
        Self::File(error.to_string())
    }

    pub(crate) fn damaged(error: impl std::fmt::Display) -> Self {
        Self::Damaged(error.to_string())
    }

    /// A source that sends more than `path` allows.
    pub(crate) fn too_large(name: &str, path: &fama_ledger::public::Path) -> Self {
        Self::TooLarge { what: format!("{name}/{path}"), bytes_max: path.bytes_max() }
    }

    /// The error of the auditor's own store.
    pub(crate) fn audit_store(error: StoreError) -> Self {
        Self::AuditStore(Box::new(error))
    }

    /// The error of a data folder that serves as a source.
    pub(crate) fn source_store(error: StoreError) -> Self {
        Self::SourceStore(Box::new(error))
    }

    pub(crate) fn fold(error: Fatal) -> Self {
        Self::Fold(Box::new(error))
    }
}
