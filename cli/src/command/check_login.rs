//! `fama check-login`
use std::path::PathBuf;

use fama_node::clock;
use serde_json::json;

use super::agent::text;
use crate::failure::Failure;
use crate::files;
use crate::login::Request;
use crate::query::{self, Query};
use crate::terminal::Terminal;

/// Shown below the help.
pub const EXAMPLE: &str = "\
Example: against a public key, or asking a node, which knows about revocations
  fama check-login --name swift-core-maps --timestamp 2026-11-22T05:00:00Z --payload challenge-4711 \\
    --signature MEUCIQ… --public agent-public.pem
  fama check-login --name swift-core-maps --timestamp 2026-11-22T05:00:00Z --payload challenge-4711 \\
    --signature MEUCIQ… --query http://127.0.0.1:8080";

/// Options.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The agent's name or handle, as it was signed
    #[arg(long)]
    name: String,
    /// The time, as it was signed
    #[arg(long, value_name = "TIME")]
    timestamp: String,
    /// What was signed
    #[arg(long, value_name = "TEXT")]
    payload: String,
    /// Base64 of any kind
    #[arg(long, value_name = "BASE64")]
    signature: String,
    /// Check against this key (PEM), asking nobody: a revocation stays unseen
    #[arg(long, value_name = "FILE", conflicts_with = "query")]
    public: Option<PathBuf>,
    /// With --public, don't mind how old the request is
    #[arg(long, requires = "public")]
    any_time: bool,
    /// The node to ask
    #[arg(long, value_name = "URL", default_value = query::DEFAULT)]
    query: String,
}

/// Does it.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let Args { name, timestamp, payload, signature, .. } = args;
    let request = Request { dumbname: name.clone(), timestamp: timestamp.clone(), payload: payload.clone() };
    if let Some(public) = &args.public {
        let now = (!args.any_time).then(clock::now);
        request.verify(&files::read_public(public)?, signature, now)?;
        return terminal.answer(&json!({"verified": true, "dumbname": name}), format!("verified  {name}"));
    }
    request.message()?;
    let body = json!({"dumbname": name, "timestamp": timestamp, "signature": signature, "message": payload});
    let answer = Query::new(&args.query).post(&["verify"], &body)?;
    if answer["verified"] != true {
        return Err(Failure::new("not_verified", "the node did not say that the request is verified"));
    }
    let people = format!("verified  {} {}", text(&answer["handle"]), text(&answer["agent_id"]));
    terminal.answer(&answer, people)
}
