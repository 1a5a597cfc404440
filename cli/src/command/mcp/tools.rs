//! The tools: each runs a command of `fama` and takes its answer as `--json` prints it.
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fama_ledger::event::{Context, RevokeReason};
use fama_ledger::id::{EventId, Handle};
use fama_ledger::profile::PROFILE_BYTES_MAX;
use fama_node::clock;
use rmcp::handler::server::tool::{schema_for_input, schema_for_output};
use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use rmcp::schemars::{self, JsonSchema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::super::submission::SubmissionArgs;
use super::super::{agent, attest, check_login, event, leaderboard, prove, register, revoke, rotate, sign, verify};
use super::untrusted;
use crate::failure::Failure;
use crate::files;
use crate::login::LoginRequest;
use crate::proven::Accepted;
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
    LookUpAgent, ExplainKarma, ReadHistory, Search, Leaderboard, ReadEvent, VerifyLogin, Prove, VerifyProof,
    Register, SignLogin, Attest, RotateKey, RevokeKey
}

const READS: Effect = Effect::Reads { asks: true };

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LookUpAgent {
    /// The agent: `name@home`, id (64 hex digits) or DID
    agent: String,
    /// Count only karma from events that can never be undone
    #[serde(default)]
    only_final: bool,
}

impl McpTool for LookUpAgent {
    const NAME: &'static str = "look_up_agent";
    const TITLE: &'static str = "Look up an agent";
    const DESCRIPTION: &'static str = "Shows who an agent is: handle, id, DID, bio, key and whether it is revoked, karma, \
        recent attestations, and who sponsors it if it gives karma. It is the word of one node; `prove` gets a proof.";
    const EFFECT: Effect = READS;
    const ANSWER: (&'static str, &'static [(&'static str, &'static str)]) = (
        "The node's answer to GET /api/agent/{x}",
        &[
            ("identity", "object"),
            ("reputation", "object"),
            ("key_status", "object"),
            ("recent_attestations", "array"),
            ("ledger", "object"),
            ("sponsorship", "object"),
        ],
    );

    fn run(self, options: &Options, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        bounded("agent", &self.agent, WORD_BYTES_MAX)?;
        let args = agent::Args { agent: self.agent, query: options.query.clone(), only_final: self.only_final };
        agent::run(&args, terminal)
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ExplainKarma {
    /// The agent: `name@home`, id (64 hex digits) or DID
    agent: String,
}

impl McpTool for ExplainKarma {
    const NAME: &'static str = "explain_karma";
    const TITLE: &'static str = "Explain an agent's karma";
    const DESCRIPTION: &'static str = "Shows where an agent's karma comes from: the score, the recent attestations with \
        provider, points, what counted, and reason; and per provider, if the node has that view (`karma_view`).";
    const EFFECT: Effect = READS;
    const ANSWER: (&'static str, &'static [(&'static str, &'static str)]) = (
        "Members of the node's answer to GET /api/agent/{x}, and `karma_view`, its answer to GET /api/agent/{x}/karma, or \
         `karma_view_missing`, why there is none",
        &[
            ("identity", "object"),
            ("reputation", "object"),
            ("recent_attestations", "array"),
            ("ledger", "object"),
            ("karma_view", "object"),
            ("karma_view_missing", "string"),
        ],
    );

    fn run(self, options: &Options, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        bounded("agent", &self.agent, WORD_BYTES_MAX)?;
        let query = options.query.open()?;
        let profile = query.get(&["agent", &self.agent], &[])?;
        let members = ["identity", "reputation", "recent_attestations", "recent_key_events", "ledger"];
        let mut answer: Map<String, Value> =
            members.iter().filter_map(|name| Some(((*name).to_owned(), profile.get(name)?.clone()))).collect();
        match query.get(&["agent", &self.agent, "karma"], &[]) {
            Ok(view) => answer.insert("karma_view".to_owned(), view),
            Err(failure) if failure.code == NO_ROUTE => {
                let missing = newer_only(failure, "karma per provider").message;
                answer.insert("karma_view_missing".to_owned(), missing.into())
            }
            Err(failure) => return Err(failure),
        };
        terminal.answer(&answer.into(), "")
    }
}

/// Which history of an agent.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum HistoryKind {
    /// The attestations that it received, and why each counts or not
    Attestations,
    /// The attestations that it gave, as a provider
    Given,
    /// Everything that is recorded about it
    Events,
    /// Every version of its key, and when it held
    Keys,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReadHistory {
    /// The agent: `name@home`, id (64 hex digits) or DID
    agent: String,
    /// Which history
    of: HistoryKind,
    /// The `cursor` of the page before, for the next page
    cursor: Option<String>,
}

impl McpTool for ReadHistory {
    const NAME: &'static str = "read_history";
    const TITLE: &'static str = "Read an agent's history";
    const DESCRIPTION: &'static str = "Lists an agent's attestations, those that it gave, its events or its keys, newest \
        first, in pages.";
    const EFFECT: Effect = READS;
    const ANSWER: (&'static str, &'static [(&'static str, &'static str)]) = (
        "The node's answer to GET /api/agent/{x}/attestations, /events or /keys",
        &[("attestations", "array"), ("events", "array"), ("keys", "array"), ("cursor", "string")],
    );

    fn run(self, options: &Options, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        bounded("agent", &self.agent, WORD_BYTES_MAX)?;
        bounded("cursor", self.cursor.as_deref().unwrap_or_default(), WORD_BYTES_MAX)?;
        let (path, given) = match self.of {
            HistoryKind::Attestations => ("attestations", None),
            HistoryKind::Given => ("attestations", Some(("given", "1".to_owned()))),
            HistoryKind::Events => ("events", None),
            HistoryKind::Keys => ("keys", None),
        };
        let parameters: Vec<_> = given.into_iter().chain(self.cursor.map(|cursor| ("cursor", cursor))).collect();
        let answer = options.query.open()?.get(&["agent", &self.agent, path], &parameters);
        terminal.answer(&answer.map_err(|failure| newer_only(failure, "history"))?, "")
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Search {
    /// The beginning of a handle, id, DID, key, service or domain
    text: String,
}

impl McpTool for Search {
    const NAME: &'static str = "search";
    const TITLE: &'static str = "Search agents and services";
    const DESCRIPTION: &'static str = "Finds agents and services by the beginning of a handle, id, DID, key, service name \
        or domain. Names that look alike may belong to different agents: compare the home and the id.";
    const EFFECT: Effect = READS;
    const ANSWER: (&'static str, &'static [(&'static str, &'static str)]) =
        ("The node's answer to GET /api/search", &[("results", "array"), ("more", "boolean")]);

    fn run(self, options: &Options, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        bounded("text", &self.text, WORD_BYTES_MAX)?;
        let answer = options.query.open()?.get(&["search"], &[("q", self.text)]);
        terminal.answer(&answer.map_err(|failure| newer_only(failure, "search"))?, "")
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Leaderboard {
    /// How many agents, 1 to 100
    #[serde(default = "leaders")]
    #[schemars(range(min = 1, max = 100))]
    limit: u16,
}

/// Default of the leaderboard's limit.
const fn leaders() -> u16 {
    20
}

impl McpTool for Leaderboard {
    const NAME: &'static str = "leaderboard";
    const TITLE: &'static str = "Show the agents with the most karma";
    const DESCRIPTION: &'static str = "Lists the agents with the most karma, the highest first.";
    const EFFECT: Effect = READS;
    const ANSWER: (&'static str, &'static [(&'static str, &'static str)]) =
        ("The node's answer to GET /api/leaderboard", &[("agents", "array"), ("timestamp", "string")]);

    fn run(self, options: &Options, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        if !(1..=100).contains(&self.limit) {
            return Err(Failure::new("bad_limit", format!("{} is not from 1 to 100", self.limit)).hint("leave it out"));
        }
        leaderboard::run(&leaderboard::Args { limit: self.limit, query: options.query.clone() }, terminal)
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReadEvent {
    /// The event's id: 64 hex digits
    event: String,
}

impl McpTool for ReadEvent {
    const NAME: &'static str = "read_event";
    const TITLE: &'static str = "Read an event";
    const DESCRIPTION: &'static str = "Shows an event: its signed text, which is checked against its id, its place in a \
        log, whether it is final, its effect, and its note.";
    const EFFECT: Effect = READS;
    const ANSWER: (&'static str, &'static [(&'static str, &'static str)]) =
        ("The node's answer to GET /api/event/{id}", &[("text", "string"), ("positions", "array")]);

    fn run(self, options: &Options, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let event: EventId = parsed("event", &self.event, "want 64 hex digits")?;
        event::run(&event::Args { event, query: options.query.clone() }, terminal)
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct VerifyLogin {
    /// Name or handle, as it was signed
    name: String,
    /// The time, as it was signed: RFC 3339 in UTC
    timestamp: String,
    /// The challenge, as it was signed
    message: String,
    /// The signature in base64
    signature: String,
}

impl McpTool for VerifyLogin {
    const NAME: &'static str = "verify_login";
    const TITLE: &'static str = "Verify a login";
    const DESCRIPTION: &'static str = "Asks the node whether an agent signed this name, time and challenge with a key that \
        is in force. A login that is not valid is an error whose code says why.";
    const EFFECT: Effect = READS;
    const ANSWER: (&'static str, &'static [(&'static str, &'static str)]) = (
        "The node's answer to POST /api/verify",
        &[("verified", "boolean"), ("handle", "string"), ("agent_id", "string")],
    );

    fn run(self, options: &Options, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let Self { name, timestamp, message, signature } = self;
        for (what, value) in [("name", &name), ("timestamp", &timestamp), ("signature", &signature)] {
            bounded(what, value, WORD_BYTES_MAX)?;
        }
        bounded("message", &message, CHALLENGE_BYTES_MAX)?;
        let query = options.query.clone();
        let args =
            check_login::Args { name, timestamp, payload: message, signature, public: None, any_time: false, query };
        check_login::run(&args, terminal)
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Prove {
    /// An agent as `name@home`, id or DID; or the id of an event
    what: String,
    /// Take an id for that of an event, not for that of the agent whose registration it is
    #[serde(default)]
    event: bool,
    /// Show the proof itself, too: tens of kilobytes, and cut above 96
    #[serde(default)]
    with_proof: bool,
}

impl McpTool for Prove {
    const NAME: &'static str = "prove";
    const TITLE: &'static str = "Prove an agent's profile or an event";
    const DESCRIPTION: &'static str = "Gets a proof from the node and verifies it with the federation's manifest that this \
        server was started with, so that the node need not be believed: who the agent is, its keys, whether any log revokes \
        the one in force, its karma per provider; or that nobody has the name. Names in it are still chosen by strangers.";
    const EFFECT: Effect = READS;
    const ANSWER: (&'static str, &'static [(&'static str, &'static str)]) = (
        "What the proof shows (`shows`), as `fama verify --json` prints it",
        &[("kind", "string"), ("shows", "object")],
    );

    fn run(self, options: &Options, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        bounded("what", &self.what, WORD_BYTES_MAX)?;
        // Without a manifest, the proof would come unverified.
        crate::settings::manifest(options.manifest.as_deref())?;
        let args = prove::Args {
            what: self.what,
            event: self.event,
            out: None,
            manifest: options.manifest.clone(),
            query: options.query.clone(),
            timeout: WAIT_SECONDS,
            accepted: Accepted::default(),
        };
        let Outcome { answer, .. } = outcome(None, |terminal| prove::run(&args, terminal));
        let mut answer = answer?;
        if !self.with_proof
            && let Value::Object(members) = &mut answer
        {
            members.remove("proof");
        }
        terminal.answer(&answer, "")
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct VerifyProof {
    /// The whole proof as `fama prove` writes it, or the JSON receipt of a submitted event
    proof: String,
    /// The agent or event that it must be about, named as when it was asked for
    about: Option<String>,
    /// Accept the signature of the log's owner alone, for a receipt that is not final yet
    #[serde(default)]
    owner_only: bool,
    /// Oldest accepted certificate of a log, in seconds [default: 600]
    max_age_seconds: Option<u64>,
    /// How many logs may be left out [default: f, as many operators as may lie]
    missing_logs: Option<usize>,
}

impl McpTool for VerifyProof {
    const NAME: &'static str = "verify_proof";
    const TITLE: &'static str = "Verify a proof offline";
    const DESCRIPTION: &'static str = "Verifies a proof with the federation's manifest that this server was started with. \
        Asks no node.";
    const EFFECT: Effect = Effect::Reads { asks: false };
    const ANSWER: (&'static str, &'static [(&'static str, &'static str)]) =
        ("What the proof shows, as `fama verify --json` prints it", &[("proven", "boolean")]);

    fn run(self, options: &Options, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        bounded("proof", &self.proof, PROFILE_BYTES_MAX)?;
        let usual = Accepted::default();
        let max_age = self.max_age_seconds.unwrap_or(usual.max_age);
        let accepted = Accepted { max_age, missing: self.missing_logs };
        let wanted = verify::Wanted { about: self.about.as_deref(), owner_only: self.owner_only, accepted };
        verify::check(&self.proof, options.manifest.as_deref(), &wanted, terminal)
    }
}

/// What the receipt of an event has.
const RECEIPT: (&str, &[(&str, &str)]) =
    ("The receipt: event, log, time, whether it is final, proof", &[("event", "string"), ("final", "boolean")]);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Register {
    /// Name and home, which never change: `name@home`
    handle: String,
    /// One line in which the agent describes itself
    bio: Option<String>,
    /// An invitation from the home, if it accepts no more registrations from this address
    invite: Option<String>,
    /// Wait until the registration can never be undone
    #[serde(default)]
    wait_final: bool,
}

impl McpTool for Register {
    const NAME: &'static str = "register";
    const TITLE: &'static str = "Register an agent";
    const DESCRIPTION: &'static str = "Registers a permanent name for the server's key, and commits to a next key, which is \
        created next to it if there is none. Asks the user before it signs.";
    const EFFECT: Effect = Effect::Signs { destructive: false, idempotent: false };
    const ANSWER: (&'static str, &'static [(&'static str, &'static str)]) = RECEIPT;

    fn run(self, options: &Options, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let handle: Handle = parsed("handle", &self.handle, "want one like swift-core-maps@alpha.example")?;
        bounded("bio", self.bio.as_deref().unwrap_or_default(), NOTE_BYTES_MAX)?;
        bounded("invite", self.invite.as_deref().unwrap_or_default(), NOTE_BYTES_MAX)?;
        let submission = options.submission(self.wait_final)?;
        let args =
            register::Args { handle, bio: self.bio, next: None, no_next: false, invite: self.invite, submission };
        register::run(&args, terminal)
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SignLogin {
    /// The agent's name or handle, as the service expects it
    name: String,
    /// The service's challenge
    message: String,
}

impl McpTool for SignLogin {
    const NAME: &'static str = "sign_login";
    const TITLE: &'static str = "Sign a login";
    const DESCRIPTION: &'static str = "Signs name, time and a service's challenge with the server's key, to log in there. \
        Asks the user before it signs. The signature is good for five minutes, and whoever has it can log in with it.";
    const EFFECT: Effect = Effect::Signs { destructive: false, idempotent: true };
    const ANSWER: (&'static str, &'static [(&'static str, &'static str)]) = (
        "What to send to the service",
        &[("dumbname", "string"), ("timestamp", "string"), ("message", "string"), ("signature", "string")],
    );

    fn run(self, options: &Options, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        bounded("message", &self.message, CHALLENGE_BYTES_MAX)?;
        if !untrusted::is_plain(&self.message) {
            return Err(Failure::new("dangerous_payload", "the challenge has characters that the user would not see")
                .hint("`fama sign` signs any challenge"));
        }
        let key = files::read_key(&options.key()?)?;
        let timestamp = clock::now().to_string();
        let request = LoginRequest { dumbname: self.name, timestamp, payload: self.message };
        let to_sign = ToSign { text: request.message()?, signer: key.public().to_string(), note: None };
        terminal.confirm_signing(to_sign, "Sign?", false)?;
        sign::signed(request, &key, terminal)
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Attest {
    /// The agent that receives karma: `name@home`, id or DID
    subject: String,
    /// The service that gives it, whose key this server has: `name@home`, id or DID
    issuer: String,
    /// How much karma, above or below 0
    delta: i32,
    /// The topic: a word of a-z 0-9 . _ -
    context: Option<String>,
    /// Why, at most 200 bytes
    reason: Option<String>,
    /// Where to find more, at most 512 bytes
    reference: Option<String>,
    /// Wait until the attestation can never be undone
    #[serde(default)]
    wait_final: bool,
}

impl McpTool for Attest {
    const NAME: &'static str = "attest";
    const TITLE: &'static str = "Give karma";
    const DESCRIPTION: &'static str = "Gives karma to an agent, or takes some, in the name of a service that operators \
        sponsor. Asks the user before it signs.";
    const EFFECT: Effect = Effect::Signs { destructive: false, idempotent: false };
    const ANSWER: (&'static str, &'static [(&'static str, &'static str)]) = RECEIPT;

    fn run(self, options: &Options, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let Self { subject, issuer, delta, context, reason, reference, wait_final } = self;
        for (name, value) in [("subject", &subject), ("issuer", &issuer)] {
            bounded(name, value, WORD_BYTES_MAX)?;
        }
        for (name, value) in [("reason", &reason), ("reference", &reference)] {
            bounded(name, value.as_deref().unwrap_or_default(), NOTE_BYTES_MAX)?;
        }
        let context =
            context.map(|text| parsed::<Context>("context", &text, "want a word of a-z 0-9 . _ -")).transpose()?;
        let submission = options.submission(wait_final)?;
        attest::run(
            &attest::Args { subject, issuer, delta, context, reason, reference, home: None, submission },
            terminal,
        )
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RotateKey {
    /// The identity: `name@home`, id or DID
    identity: String,
    /// Wait until the rotation can never be undone
    #[serde(default)]
    wait_final: bool,
}

impl McpTool for RotateKey {
    const NAME: &'static str = "rotate_key";
    const TITLE: &'static str = "Replace a key";
    const DESCRIPTION: &'static str = "Replaces the identity's key with the next key that it committed to, whose file is \
        next to the server's key, and renames the files: the server's key file is the new key afterwards. Asks the user \
        before it signs.";
    const EFFECT: Effect = Effect::Signs { destructive: true, idempotent: false };
    const ANSWER: (&'static str, &'static [(&'static str, &'static str)]) = (
        "The receipt, or that the identity had this key already (`known`)",
        &[("event", "string"), ("final", "boolean")],
    );

    fn run(self, options: &Options, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        bounded("identity", &self.identity, WORD_BYTES_MAX)?;
        let submission = options.submission(self.wait_final)?;
        let args = rotate::Args {
            identity: self.identity,
            new: None,
            uncommitted: false,
            no_next: false,
            home: None,
            key_version: None,
            submission,
        };
        rotate::run(&args, terminal)
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RevokeKey {
    /// The identity: `name@home`, id or DID
    identity: String,
    /// key_compromised, superseded, retired or unspecified
    #[serde(default = "unspecified")]
    reason: String,
    /// Wait until the revocation can never be undone
    #[serde(default)]
    wait_final: bool,
}

fn unspecified() -> String {
    "unspecified".to_owned()
}

impl McpTool for RevokeKey {
    const NAME: &'static str = "revoke_key";
    const TITLE: &'static str = "Revoke a key forever";
    const DESCRIPTION: &'static str = "Revokes the identity's key, forever and everywhere. An identity that committed to no \
        next key ends with it. Asks the user before it signs.";
    const EFFECT: Effect = Effect::Signs { destructive: true, idempotent: true };
    const ANSWER: (&'static str, &'static [(&'static str, &'static str)]) = RECEIPT;

    fn run(self, options: &Options, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        bounded("identity", &self.identity, WORD_BYTES_MAX)?;
        let wanted = "want key_compromised, superseded, retired or unspecified";
        let reason: RevokeReason = parsed("reason", &self.reason, wanted)?;
        let args = revoke::Args {
            identity: self.identity,
            reason,
            revoked_key: None,
            home: None,
            key_version: None,
            receipt: None,
            submission: options.submission(self.wait_final)?,
        };
        revoke::run(&args, terminal)
    }
}

/// The node that a tool asks, for [`AnswerSource`].
///
/// # Errors
/// As [`QueryArgs::open`].
pub(super) fn asked(options: &Options) -> Result<Query, Failure> {
    options.query.open()
}
