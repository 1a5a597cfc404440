//! Why a command failed: a stable code, one sentence, and a hint about the next step.
use std::fmt::Display;

use fama_ledger::cut::CutError;
use fama_ledger::entry::EntryError;
use fama_ledger::key::{KeyError, SignatureError};
use fama_ledger::manifest::ManifestError;
use fama_ledger::profile::ProfileError;
use fama_ledger::proof::TlogProofError;
use fama_ledger::stand::StandError;
use fama_ledger::text::TextError;
use fama_node::config::{ConfigError, key_hint};
use fama_node::network::ClientError;
use fama_node::network::RequestError;
use fama_node::store::StoreError;
use fama_node::wire::Refusal;
use fama_reader::audit::AuditError;
use fama_reader::audit::finding::{AuditFinding, LieKind};
use fama_reader::error::ReadError;
use fama_reader::http::{PROXY_HINT, TLS_HINT, hint_of};
use serde_json::{Value, json};

/// The failure of a command, for people and for programs.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// Stable `snake_case` code.
    pub code: String,
    /// One sentence, lower case.
    pub message: String,
    /// What the user should do next.
    pub hint: Option<String>,
    /// What the command achieved or found before it failed: the JSON object that the error is added to.
    pub achieved: Option<Box<Value>>,
    /// Whether the outcome is still open, so that the same question may get another answer soon: exit code 3.
    pub undecided: bool,
    /// Whether the log has it already, in the format that the operator wants.
    pub logged: bool,
}

impl Failure {
    /// A failure without a hint.
    pub fn new(code: impl Into<String>, message: impl Display) -> Self {
        Self {
            code: code.into(),
            message: message.to_string(),
            hint: None,
            achieved: None,
            undecided: false,
            logged: false,
        }
    }

    /// Sets the hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// Adds what the command achieved or found, as one member of the JSON object.
    #[must_use]
    pub fn achieved(mut self, name: &str, value: Value) -> Self {
        let mut object = serde_json::Map::new();
        object.insert(name.to_owned(), value);
        self.achieved = Some(Box::new(object.into()));
        self
    }

    /// Says that the outcome is still open.
    #[must_use]
    pub fn undecided(mut self) -> Self {
        self.undecided = true;
        self
    }

    /// Sets the usual hint of its code unless it has one.
    #[must_use]
    pub fn or_usual_hint(mut self) -> Self {
        self.hint = self.hint.or_else(|| usual_hint(&self.code).map(str::to_owned));
        self
    }

    /// Replaces the hint if the code is `unreachable`.
    #[must_use]
    pub fn hint_if_unreachable(self, hint: &str) -> Self {
        if self.code == "unreachable" { self.hint(hint) } else { self }
    }

    /// Prefixes the message with its subject.
    #[must_use]
    pub fn about(mut self, what: impl Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// The object that `--json` prints.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut object = self.achieved.as_deref().cloned().unwrap_or_else(|| json!({}));
        object["error"] = json!(self.message);
        object["code"] = json!(self.code);
        if let Some(hint) = &self.hint {
            object["hint"] = json!(hint);
        }
        object
    }
}

/// The usual hint for a code, whether a node or this program gives it.
fn usual_hint(code: &str) -> Option<&'static str> {
    Some(match code {
        "address_in_use" => "another process has that port: stop it, or change the address in the configuration",
        "already_retracted" | "duplicate" => "nothing is left to do: `fama event ID` shows what the ledger holds",
        "bad_name" => "want a name like swift-core-maps, or a handle like swift-core-maps@alpha.example",
        "bad_signature" | "signature_mismatch" => {
            "name, time and payload must match the signed ones byte for byte, and the key must be the one that signed"
        }
        "bad_signature_form" | "signature_malformed" => "want the base64 of a signature by openssl or `fama sign`",
        "bad_value" | "empty_value" | "forbidden_character" | "too_long" => {
            "bio, reason and ref are one line each; reason has at most 200 bytes, ref 512, all together 1 KiB"
        }
        "backup_running" => "wait for it, or stop that process",
        "busy" | "catching_up" | "not_ready" | "starting" | "stopping" => "try again in a moment",
        "cap" => "the provider's cap for this subject is used up until midnight UTC",
        "cut_no_stand" => "`fama federation stand --log LOG` freezes the log at a node; then draft again",
        "cut_conflict" | "cut_too_few_stands" => {
            "draft again with the stands of more operators; cosigned entries are given up only if they are final nowhere"
        }
        "expired" | "outside_window" => "is this machine's clock right? sign again and send it at once",
        "file" | "file_not_found" | "file_permission" => "is that the right path?",
        "home_unreachable" => {
            "the node of the home's operator must run; a revocation may go to any other operator, too"
        }
        "key_in_use" => "a key belongs to one identity of a home: make another one with `fama key new`",
        "key_pem" | "key_der" | "key_algorithm" => {
            "`fama key new --out FILE` makes a key; `fama key show FILE` shows one"
        }
        "address" | "manifest_value" | "ports" => "`fama federation new --help` has examples",
        "name_taken" => "choose another name; if it is yours, `fama agent` shows its key",
        "no_node" => "is that the query address of a node?",
        "not_authorized" => "`fama key show FILE` shows the key that signed, `fama agent` the current one",
        "not_sponsored" => "operators sponsor a service with `fama admit`",
        "other_federation" | "wrong_federation" => {
            "get the manifest of that node's federation: `GET /api/federation` has it"
        }
        "profile_federation" => "is that the manifest of the federation you mean?",
        "profile_form" | "proof_form" => "want a file that `fama prove` wrote",
        "profile_ahead" => "is this machine's clock right?",
        "profile_home_left_out" => {
            "ask another node, or again in a moment: `fama status` shows how far each log is final"
        }
        "profile_left_out" => "ask another node; or accept more: --max-age SECONDS, --missing LOGS",
        "profile_question" => "get the right one with `fama prove`",
        "proof_outdated" | "profile_outdated" => "`fama prove` gets a newer one from any node",
        "profile_old_manifest" => "ask a node that uses the newest version: `fama status` shows the version",
        "proof_pending" => "a quorum must cosign first: `fama status` shows how far each log is final",
        code if code.starts_with("profile_") || code.starts_with("proof_") || code.starts_with("checkpoint_") => {
            "do not trust anything in the file: ask another node, and tell the operators of this one"
        }
        "quota" => "try again after midnight UTC",
        "revoked" => "`fama rotate` replaces a revoked key with the key that it committed to",
        "store_federation" | "locked" => "`data_dir` in the configuration names the folder",
        "unreachable" => "is it running, and is that its address?",
        "missing_file" | "tile_length" | "tile_entry" | "too_large" => "that source is broken: use another one",
        "checkpoint_cosignature" | "checkpoint_signature" | "checkpoint_unsigned" => {
            "that source is broken or lies: use another one"
        }
        "unknown_agent" | "unknown_identity" => {
            "a name without a home is looked up in the node's own home: try name@home"
        }
        "unknown_event" => "is the id complete? a node that is behind gets the event later: `fama status`",
        "unknown_home" => "`fama federation show MANIFEST` lists the homes",
        "wrong_version" => "`fama agent` shows the version of the current key",
        _ => return None,
    })
}

impl Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "error: {} ({})", self.message, self.code)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "\nhint: {hint}"))
    }
}

impl std::error::Error for Failure {}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(error.code(), &error).hint(error.hint())
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        let failure = Self::new(error.code(), &error);
        match &error {
            ReadError::Config(error) => failure.hint(error.hint()),
            _ => Self { hint: reader_hint(&error).map(str::to_owned), ..failure },
        }
    }
}

impl From<AuditError> for Failure {
    fn from(error: AuditError) -> Self {
        match error {
            AuditError::Read(error) => error.into(),
            AuditError::Nothing(ref findings) => {
                let shown: Vec<_> = findings.iter().map(AuditFinding::json).collect();
                let failure = Self::new(error.code(), &error).hint(hint_of(&error.to_string()).unwrap_or(
                    "a source is a node's query address, a folder or bucket of `fama publish`, or a stopped node's \
                     data folder",
                ));
                let silent = findings.iter().all(|finding| finding.lie == LieKind::Unreachable);
                let failure = if silent { failure.undecided() } else { failure };
                failure.achieved("findings", shown.into())
            }
        }
    }
}

/// The next step after an error of the reader, where the usual one of its code does not fit.
fn reader_hint(error: &ReadError) -> Option<&'static str> {
    Some(match error {
        ReadError::NoSource(_) => {
            "want a URL like http://127.0.0.1:8080, a published folder, s3://bucket/prefix, or a data folder"
        }
        ReadError::NoManifest(_) => "is that the right place?",
        ReadError::Certificate { hint, .. } => hint,
        ReadError::NoTls { .. } => TLS_HINT,
        ReadError::Proxy { .. } => PROXY_HINT,
        ReadError::BucketDenied { .. } => {
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment must have access; ~/.aws is not read"
        }
        ReadError::BucketUnreachable { .. } => {
            "AWS_ENDPOINT names a store other than Amazon's, AWS_ALLOW_HTTP=true allows http"
        }
        ReadError::SourceStore(error) if matches!(**error, StoreError::Locked { .. }) => {
            "a running node serves the same files: name its query URL instead"
        }
        ReadError::NoBackup { .. } => "a backup that was cut off is none; `fama restore --from PLACE --list` shows all",
        ReadError::BackupDamaged { .. } => {
            "restore another one (`--list`, `--at ID`); the next `fama backup --read-all` copies damaged files again"
        }
        ReadError::OtherNode { .. } => "back up each node to a place of its own",
        ReadError::NotEmpty(_) => {
            "name a new folder; an earlier restore that was cut off is removed by hand, and so is old data"
        }
        ReadError::FileExists(_) => "remove it, or export to another folder",
        ReadError::OtherFederation { .. } => "publish each federation to a place of its own",
        ReadError::Conflict(_) => {
            "nothing was overwritten; `fama audit` with both as sources shows which log has two histories"
        }
        ReadError::FileOfOtherHistory { .. } => {
            "nothing was overwritten; move the folder of that log's files away to export the source's history"
        }
        ReadError::Behind { .. } | ReadError::FilesAhead { .. } => {
            "the source is behind or was restored from an old copy: use another one"
        }
        ReadError::PublishedDamaged { .. } => "remove the published files of this log: all of them are copied again",
        ReadError::Uncertified { .. } => "that source is broken or lies: use another one",
        ReadError::WrongTree { .. } => "that source is broken or lies: nothing of this was published; use another one",
        _ => return None,
    })
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let failure = Self::new(refusal.code, refusal.message);
        match refusal.retry_after {
            Some(seconds) => failure.hint(format!("try again in {seconds} s")),
            None => failure,
        }
    }
}

impl From<TextError> for Failure {
    fn from(error: TextError) -> Self {
        Self::new(error.fault.code(), error)
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        Self { hint: key_hint(&error).map(str::to_owned), ..Self::new(error.code(), error) }
    }
}

macro_rules! coded {
    ($($error:ty),*) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::new(error.code(), error)
            }
        }
    )*};
}
coded!(
    EntryError,
    SignatureError,
    ManifestError,
    StandError,
    CutError,
    ProfileError,
    TlogProofError,
    ClientError,
    RequestError
);
