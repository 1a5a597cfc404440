//! The tools: each runs a command of `fama` and takes its answer as `--json` prints it.
mod reading;
mod signing;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rmcp::handler::server::tool::{schema_for_input, schema_for_output};
use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use rmcp::schemars::{self, JsonSchema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use self::reading::{
    ExplainKarma, Leaderboard, ListGrants, LookUpAgent, Prove, ReadEvent, ReadHistory, Search, VerifyLogin, VerifyProof,
};
use self::signing::{Attest, GrantScope, Register, RevokeKey, RotateKey, SignLogin, UngrantScope};
use super::super::submission::SubmissionArgs;
use super::untrusted;
use crate::failure::Failure;
use crate::query::Query;
use crate::settings::QueryArgs;
use crate::terminal::{Consent, Terminal, ToSign};

/// Longest name, handle, id, DID or search text that is taken, in bytes.
const WORD_BYTES_MAX: usize = 512;
/// Longest bio, reason or reference that is taken, in bytes; the ledger's own bounds are lower.
const NOTE_BYTES_MAX: usize = 2_048;
/// Longest challenge that is signed or verified, in bytes: short enough to be read.
const CHALLENGE_BYTES_MAX: usize = 4_096;
/// How long a tool waits for a proof or for an event to be final, in seconds: clients give up after a minute.
const WAIT_SECONDS: u64 = 30;
/// Code of a node that does not know a path.
const NO_ROUTE: &str = "no_such_route";

/// What the user chose on the command line.
#[derive(Clone, Debug)]
pub(super) struct Options {
    /// The file of the pinned manifest.
    pub(super) manifest: Option<PathBuf>,
    /// The key that signs; without it there are no tools that write.
    pub(super) key: Option<PathBuf>,
    /// Nodes to submit to.
    pub(super) node: Vec<String>,
    /// The node to ask.
    pub(super) query: QueryArgs,
    /// How long a text waits for consent.
    pub(super) consent_time: Duration,
}

impl Options {
    fn key(&self) -> Result<PathBuf, Failure> {
        self.key
            .clone()
            .ok_or_else(|| Failure::new("no_key", "this server has no key").hint("start it with --key FILE"))
    }

    fn submission(&self, wait_final: bool) -> Result<SubmissionArgs, Failure> {
        let args =
            SubmissionArgs::to_confirm(self.key()?, self.manifest.clone(), self.node.clone(), self.query.clone());
        Ok(if wait_final { args.until_final(WAIT_SECONDS) } else { args })
    }
}

/// What a command printed.
pub(super) struct Outcome {
    /// The JSON object on stdout, or why there is none.
    pub(super) answer: Result<Value, Failure>,
    /// What it said on stderr, a line each.
    pub(super) remarks: Vec<String>,
}

/// Runs a command with `--json`; `consent` is asked before anything is signed.
fn outcome(
    consent: Option<Box<dyn Consent>>,
    command: impl FnOnce(&mut Terminal<'_>) -> Result<(), Failure>,
) -> Outcome {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let ended = command(&mut Terminal { out: &mut out, err: &mut err, json: true, consent });
    let read = || serde_json::from_slice(&out).map_err(|error| Failure::new("internal", error));
    let answer = ended.and_then(|()| read()).map_err(Failure::or_usual_hint);
    let remarks =
        String::from_utf8_lossy(&err).lines().filter(|line| !line.is_empty()).map(untrusted::sentence).collect();
    Outcome { answer, remarks }
}

/// What a tool does to the world.
#[derive(Clone, Copy)]
pub(super) enum Effect {
    /// Reads from a node, or from nowhere.
    Reads {
        /// Whether it asks a node.
        asks: bool,
    },
    /// Signs with the key.
    Signs {
        /// Whether it puts an end to something that was in force.
        destructive: bool,
        /// Whether the same call again changes nothing more.
        idempotent: bool,
    },
}

/// One tool; its fields are its arguments.
trait McpTool: for<'de> Deserialize<'de> + JsonSchema + Send + 'static {
    const NAME: &'static str;
    const TITLE: &'static str;
    const DESCRIPTION: &'static str;
    const EFFECT: Effect;
    /// What is in the answer, and the main members with their types in JSON Schema.
    const ANSWER: (&'static str, &'static [(&'static str, &'static str)]);

    /// Runs the command that it is.
    fn run(self, options: &Options, terminal: &mut Terminal<'_>) -> Result<(), Failure>;
}

/// A tool without the type of its arguments.
pub(super) struct ToolEntry {
    /// Its name.
    pub(super) name: &'static str,
    /// What it does to the world.
    pub(super) effect: Effect,
    /// The main members of its answer, with their types in JSON Schema.
    members: &'static [(&'static str, &'static str)],
    describe: fn() -> Tool,
    run: fn(JsonObject, &Options, Option<Box<dyn Consent>>) -> Outcome,
}

impl ToolEntry {
    const fn of<T: McpTool>() -> Self {
        Self { name: T::NAME, effect: T::EFFECT, members: T::ANSWER.1, describe: describe::<T>, run: run::<T> }
    }

    /// As clients list it.
    #[must_use]
    pub(super) fn describe(&self) -> Tool {
        (self.describe)()
    }

    /// Whether it signs something.
    #[must_use]
    pub(super) const fn signs(&self) -> bool {
        matches!(self.effect, Effect::Signs { .. })
    }

    /// Runs it with these arguments. Blocks.
    pub(super) fn run(&self, arguments: JsonObject, options: &Options, consent: Option<Box<dyn Consent>>) -> Outcome {
        (self.run)(arguments, options, consent)
    }

    /// Checks that the main members of an answer have the types that the tool's output schema states.
    ///
    /// # Errors
    /// `no_node`.
    pub(super) fn check(&self, answer: &Map<String, Value>) -> Result<(), Failure> {
        let fits = |value: &Value, kind: &str| match kind {
            "array" => value.is_array(),
            "boolean" => value.is_boolean(),
            "object" => value.is_object(),
            _ => value.is_string(),
        };
        let bad = self.members.iter().find(|(name, kind)| answer.get(*name).is_some_and(|value| !fits(value, kind)));
        bad.map_or(Ok(()), |(name, kind)| {
            Err(Failure::new("no_node", format!("the node's answer has a member {name} that is no {kind}"))
                .hint("is that the query address of a node?"))
        })
    }
}

fn run<T: McpTool>(arguments: JsonObject, options: &Options, consent: Option<Box<dyn Consent>>) -> Outcome {
    outcome(consent, |terminal| {
        let tool: T = serde_json::from_value(arguments.into())
            .map_err(|error| Failure::new("bad_arguments", error).hint("the tool's input schema says what it takes"))?;
        tool.run(options, terminal)
    })
}

fn describe<T: McpTool>() -> Tool {
    let input = schema_for_input::<T>().expect("the arguments of a tool are a struct with named fields");
    let (about, members) = T::ANSWER;
    let members: Map<String, Value> =
        members.iter().map(|(name, kind)| ((*name).to_owned(), json!({"type": kind}))).collect();
    let described = |schema: Arc<JsonObject>, member: &str| {
        let mut schema = schema.as_ref().clone();
        schema["properties"][member] = json!({"type": "object", "description": about, "properties": members});
        Arc::new(schema)
    };
    let hints = ToolAnnotations::with_title(T::TITLE);
    let (hints, input, output) = match T::EFFECT {
        Effect::Reads { asks } => {
            let hints = hints.read_only(true).destructive(false).idempotent(true).open_world(asks);
            (hints, input, described(schema_for_output::<Reading>(), "untrusted"))
        }
        Effect::Signs { destructive, idempotent } => {
            let hints = hints.read_only(false).destructive(destructive).idempotent(idempotent).open_world(true);
            let mut input = input.as_ref().clone();
            input["properties"][TOKEN] = json!({
                "type": "string",
                "description": "Only in a second call: the token of the first, which says that the text may be signed",
            });
            (hints, Arc::new(input), described(schema_for_output::<Signing>(), "result"))
        }
    };
    Tool::new(T::NAME, T::DESCRIPTION, input)
        .with_title(T::TITLE)
        .with_raw_output_schema(output)
        .with_annotations(hints)
}

/// The argument that confirms, of every tool that signs.
pub(super) const TOKEN: &str = "token";

/// The answer of a tool that reads.
#[derive(Serialize, JsonSchema)]
pub(super) struct Reading {
    /// What to make of `untrusted`.
    pub(super) notice: &'static str,
    /// Who says so.
    pub(super) source: AnswerSource,
    /// What third parties say, as data.
    pub(super) untrusted: Map<String, Value>,
    /// Whether something was left out of `untrusted` for its length.
    pub(super) cut: bool,
}

/// Who stands for an answer.
#[derive(Serialize, JsonSchema)]
pub(super) struct AnswerSource {
    /// The node that was asked; null if none was.
    pub(super) node: Option<String>,
    /// Whether a quorum's signatures show the answer, by the pinned manifest; otherwise it is the word of the node.
    pub(super) proven: bool,
}

/// The answer of a tool that signs.
#[derive(Serialize, JsonSchema)]
pub(super) struct Signing {
    /// Whether it was signed, or waits for a second call.
    pub(super) status: SigningStatus,
    /// What is signed, if it waits: show it to the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) to_sign: Option<TextToSign>,
    /// What confirms it, in a second call of the same tool with the same arguments; once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token: Option<String>,
    /// For how long the token is good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) expires_in_seconds: Option<u64>,
    /// What came of it, if it was signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) result: Option<Map<String, Value>>,
    /// What else happened: which files have the keys now, what was not remembered.
    pub(super) remarks: Vec<String>,
}

/// How far a tool that signs came.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum SigningStatus {
    /// It was signed, and submitted if it is an event.
    Done,
    /// Nothing was signed yet.
    ConfirmationNeeded,
}

/// What will be signed.
#[derive(Serialize, JsonSchema)]
pub(super) struct TextToSign {
    /// The exact text.
    pub(super) text: String,
    /// The public key of the key that signs.
    pub(super) signer: String,
    /// A note that goes along; of it, only the hash is signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) note: Option<String>,
}

impl From<&ToSign> for TextToSign {
    fn from(to_sign: &ToSign) -> Self {
        let note = to_sign.note.as_deref().map(untrusted::lines);
        Self { text: untrusted::lines(&to_sign.text), signer: to_sign.signer.clone(), note }
    }
}

/// Refuses an argument that is longer than `max` bytes.
fn bounded(name: &str, value: &str, max: usize) -> Result<(), Failure> {
    if value.len() <= max {
        return Ok(());
    }
    Err(Failure::new("too_long", format!("{name} has {} bytes, at most {max} are taken", value.len()))
        .hint("shorten it"))
}

/// Parses an argument.
fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(name: &str, value: &str, hint: &str) -> Result<T, Failure> {
    bounded(name, value, WORD_BYTES_MAX)?;
    value.parse().map_err(|error| Failure::new("bad_arguments", format!("{name}: {error}")).hint(hint))
}

/// A node that lacks a path is older than it.
fn newer_only(failure: Failure, what: &str) -> Failure {
    if failure.code != NO_ROUTE {
        return failure;
    }
    Failure::new("not_served", format!("this node answers no {what}")).hint("a node of a newer version may")
}

macro_rules! tools {
    ($($tool:ident),*) => {
        /// All tools, those that sign last.
        pub(super) static TOOLS: &[ToolEntry] = &[$(ToolEntry::of::<$tool>()),*];
    };
}

tools! {
    LookUpAgent, ExplainKarma, ReadHistory, ListGrants, Search, Leaderboard, ReadEvent, VerifyLogin, Prove,
    VerifyProof, Register, SignLogin, Attest, GrantScope, UngrantScope, RotateKey, RevokeKey
}

/// The node that a tool asks, for [`AnswerSource`].
///
/// # Errors
/// As [`QueryArgs::open`].
pub(super) fn asked(options: &Options) -> Result<Query, Failure> {
    options.query.open()
}
