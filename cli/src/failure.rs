//! Why a command did not succeed: one stable word, one sentence, the next step.
use std::fmt::Display;

use fama_ledger::cut::CutError;
use fama_ledger::entry::EntryError;
use fama_ledger::key::{KeyError, SignatureError};
use fama_ledger::manifest::ManifestError;
use fama_ledger::profile::ProfileError;
use fama_ledger::proof::TlogProofError;
use fama_ledger::stand::StandError;
use fama_ledger::text::TextError;
use fama_node::config::ConfigError;
use fama_node::network::RequestError;
use fama_node::network::client::ClientError;
use fama_node::network::wire::Refusal;
use fama_node::store::StoreError;
use fama_reader::audit::AuditError;
use fama_reader::audit::finding::AuditFinding;
use fama_reader::error::ReadError;
use serde_json::{Value, json};

/// What a person and a program are told when something went wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// Stable `snake_case` word.
    pub code: String,
    /// One sentence, lower case.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
    /// What was achieved nevertheless, by name; in JSON beside the rest.
    pub achieved: Option<(&'static str, Value)>,
}

impl Failure {
    /// Without a hint.
    pub fn new(code: impl Into<String>, message: impl Display) -> Self {
        Self { code: code.into(), message: message.to_string(), hint: None, achieved: None }
    }

    /// With the next step.
    #[must_use]
    pub fn hint(mut self, hint: impl Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// With the usual next step of its code, if there is none yet.
    #[must_use]
    pub fn or_usual_hint(mut self) -> Self {
        self.hint = self.hint.or_else(|| usual_hint(&self.code).map(str::to_owned));
        self
    }

    /// With this next step, in the place of any other.
    #[must_use]
    pub fn or_hint(self, hint: &str) -> Self {
        if self.code == "unreachable" { self.hint(hint) } else { self }
    }

    /// The message with what it is about before it.
    #[must_use]
    pub fn about(mut self, what: impl Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// The object that `--json` prints.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut object = json!({"error": self.message, "code": self.code});
        if let Some(hint) = &self.hint {
            object["hint"] = json!(hint);
        }
        if let Some((name, value)) = &self.achieved {
            object[*name] = value.clone();
        }
        object
    }
}

/// The next step for what is refused with this code, whoever refused it.
fn usual_hint(code: &str) -> Option<&'static str> {
    Some(match code {
        "address_in_use" => "another process has that port: stop it, or change the address in the configuration",
        "already_retracted" | "duplicate" => "nothing is left to do: `fama event ID` shows what is in the ledger",
        "bad_name" => "want a name like swift-core-maps, or a handle like swift-core-maps@alpha.example",
        "bad_signature" | "signature_mismatch" => {
            "name, time and payload must be, byte for byte, what was signed, and the key the one that signed"
        }
        "bad_signature_form" | "signature_malformed" => "want the base64 of what openssl or `fama sign` gives",
        "bad_value" | "empty_value" | "forbidden_character" | "too_long" => {
            "bio, reason and ref are one line each; reason has at most 200 bytes, ref 512, all together 1 KiB"
        }
        "busy" | "catching_up" | "not_ready" | "starting" | "stopping" => "try again in a moment",
        "cap" => "the provider's cap for this subject is used up until midnight UTC",
        "cut_no_stand" => "`fama federation stand --log LOG` makes the node stand still; then draft anew",
        "cut_conflict" | "cut_too_few_stands" => {
            "draft anew with the stands of more operators; what was cosigned is given up only if it is final nowhere"
        }
        "expired" | "outside_window" => "is this machine's clock right? sign again, and send it at once",
        "file" | "file_not_found" | "file_permission" => "is that the right path?",
        "home_unreachable" => "its operator's node must run; a revocation is taken by any other operator too",
        "key_in_use" => "a key belongs to one identity of a home: `fama key new` makes another",
        "key_pem" | "key_der" | "key_algorithm" => {
            "`fama key new --out FILE` makes a key; `fama key show FILE` shows one"
        }
        "manifest_value" | "ports" => "`fama federation new --help` has examples",
        "name_taken" => "choose another name; if it is yours, `fama agent` shows its key",
        "not_authorized" => "`fama key show FILE` shows the key that signed, `fama agent` the one in force",
        "not_sponsored" => "operators sponsor a service: `fama admit`",
        "other_federation" | "wrong_federation" => {
            "get the manifest of that node's federation: `GET /api/federation` has it"
        }
        "profile_federation" => "is that the manifest of the federation that you mean?",
        "profile_form" | "proof_form" => "want a file that `fama prove` wrote",
        "profile_old_manifest" => "ask a node that uses the newest version: `fama status` shows it",
        "proof_pending" => "a quorum must cosign first: `fama status` shows who does",
        code if code.starts_with("profile_") || code.starts_with("proof_") || code.starts_with("checkpoint_") => {
            "nothing in the file is to be believed: ask another node, and tell the operators of this one"
        }
        "quota" => "try again after midnight UTC",
        "revoked" => "`fama rotate` puts the key committed to in the place of a revoked one",
        "store_federation" | "locked" => "`data_dir` in the configuration names the folder",
        "unreachable" => "is it running, and is that its address?",
        "missing_file" | "tile_length" | "tile_entry" | "too_large" => "that source is broken: take another",
        "checkpoint_cosignature" | "checkpoint_signature" | "checkpoint_unsigned" => {
            "that source is broken or lies: take another"
        }
        "unknown_agent" | "unknown_identity" => "a bare name is looked up in the node's own home: try name@home",
        "unknown_event" => "is the id whole? a node that is behind gets it later: `fama status`",
        "unknown_home" => "`fama federation show MANIFEST` lists the homes",
        "wrong_version" => "`fama agent` shows the version of the key in force",
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
                let failure = Self::new(error.code(), &error).hint(
                    "a source is a node's query address, a folder or bucket of `fama publish`, or a stopped node's \
                     data folder",
                );
                Self { achieved: Some(("findings", shown.into())), ..failure }
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
        ReadError::BucketDenied { .. } => {
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment must be allowed to"
        }
        ReadError::BucketUnreachable { .. } => {
            "AWS_ENDPOINT names a store other than Amazon's, AWS_ALLOW_HTTP=true lets it be http"
        }
        ReadError::SourceStore(error) if matches!(**error, StoreError::Locked { .. }) => {
            "a running node serves the same files: name its query URL instead"
        }
        ReadError::FileExists(_) => "remove it, or export to another folder",
        ReadError::OtherFederation { .. } => "each federation has a place of its own",
        ReadError::Conflict(_) => {
            "nothing was overwritten; `fama audit` with both as sources says which log has two histories"
        }
        ReadError::Behind { .. } => "the source is behind, or was put back: take another one",
        ReadError::PublishedDamaged { .. } => "remove what is published of this log: all of it is copied again",
        ReadError::Uncertified { .. } => "that source is broken or lies: take another",
        ReadError::WrongTree { .. } => "that source is broken or lies: nothing of this was published; take another",
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
    KeyError,
    SignatureError,
    ManifestError,
    StandError,
    CutError,
    ProfileError,
    TlogProofError,
    ClientError,
    RequestError
);
