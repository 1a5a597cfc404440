//! Why a command did not succeed: one stable word, one sentence, the next step.
use std::fmt::Display;

use fama_ledger::entry::EntryError;
use fama_ledger::key::{KeyError, SignatureError};
use fama_ledger::manifest::ManifestError;
use fama_ledger::proof::TlogProofError;
use fama_ledger::text::TextError;
use fama_node::config::ConfigError;
use fama_node::network::RequestError;
use fama_node::network::client::ClientError;
use fama_node::network::wire::Refusal;
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
coded!(EntryError, KeyError, SignatureError, ManifestError, TlogProofError, ClientError, RequestError);
