//! The tools that read.
use fama_ledger::id::EventId;
use fama_ledger::profile::PROFILE_BYTES_MAX;
use rmcp::schemars::{self, JsonSchema};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    CHALLENGE_BYTES_MAX, Effect, McpTool, NO_ROUTE, Options, Outcome, WAIT_SECONDS, WORD_BYTES_MAX, bounded,
    newer_only, outcome, parsed,
};
use crate::command::{agent, check_login, event, grants, leaderboard, prove, verify};
use crate::failure::Failure;
use crate::proven::Accepted;
use crate::settings;
use crate::terminal::Terminal;

const READS: Effect = Effect::Reads { asks: true };
/// Most grants of an answer.
const GRANTS_MAX: u32 = 200;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LookUpAgent {
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
pub(super) struct ExplainKarma {
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
pub(super) struct ReadHistory {
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
pub(super) struct ListGrants {
    /// The agent or the service: `name@home`, id (64 hex digits) or DID
    agent: String,
    /// What it lets others do, as a service; otherwise what services let it do
    #[serde(default)]
    given: bool,
    /// Only those of this service, or to this agent
    with: Option<String>,
}

impl McpTool for ListGrants {
    const NAME: &'static str = "list_grants";
    const TITLE: &'static str = "List grants";
    const DESCRIPTION: &'static str = "Lists what services let an agent do, or what a service lets agents do: scopes that \
        were granted in the ledger and not taken back. A scope is a word of the service's own.";
    const EFFECT: Effect = READS;
    const ANSWER: (&'static str, &'static [(&'static str, &'static str)]) = (
        "What `fama grants --json` prints; `more` says whether some are missing",
        &[("handle", "string"), ("grants", "array"), ("more", "boolean")],
    );

    fn run(self, options: &Options, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        bounded("agent", &self.agent, WORD_BYTES_MAX)?;
        bounded("with", self.with.as_deref().unwrap_or_default(), WORD_BYTES_MAX)?;
        let Self { agent, given, with } = self;
        grants::run(&grants::Args { agent, given, with, limit: GRANTS_MAX, query: options.query.clone() }, terminal)
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Search {
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
pub(super) struct Leaderboard {
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
pub(super) struct ReadEvent {
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
pub(super) struct VerifyLogin {
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
pub(super) struct Prove {
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
        settings::manifest(options.manifest.as_deref())?;
        let args = prove::Args {
            granted_by: Vec::new(),
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
pub(super) struct VerifyProof {
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
