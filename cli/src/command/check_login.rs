//! `fama check-login`: checks a login request.
use std::path::PathBuf;

use fama_node::clock;
use serde_json::json;

use super::agent::text;
use crate::failure::Failure;
use crate::files;
use crate::login::LoginRequest;
use crate::settings::QueryArgs;
use crate::terminal::Terminal;

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Example: with a public key, or by asking a node, which knows about revocations
  fama check-login --name swift-core-maps --timestamp 2026-11-22T05:00:00Z --payload challenge-4711 \\
    --signature MEUCIQ… --public agent-public.pem
  fama check-login --name swift-core-maps --timestamp 2026-11-22T05:00:00Z --payload challenge-4711 \\
    --signature MEUCIQ… --query http://127.0.0.1:8080";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The agent's name or handle, as it was signed
    #[arg(long, allow_hyphen_values = true)]
    pub(super) name: String,
    /// The time, as it was signed
    #[arg(long, value_name = "TIME")]
    pub(super) timestamp: String,
    /// The text that was signed
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(super) payload: String,
    /// The signature, in any base64 variant
    #[arg(long, value_name = "BASE64", allow_hyphen_values = true)]
    pub(super) signature: String,
    /// Check with this key (PEM), offline: a revocation goes unnoticed
    #[arg(long, value_name = "FILE", conflicts_with = "query")]
    pub(super) public: Option<PathBuf>,
    /// With --public, accept a request of any age
    #[arg(long, requires = "public")]
    pub(super) any_time: bool,
    #[command(flatten)]
    pub(super) query: QueryArgs,
}

/// Checks a login request with a public key or by a node.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let Args { name, timestamp, payload, signature, .. } = args;
    let request = LoginRequest { dumbname: name.clone(), timestamp: timestamp.clone(), payload: payload.clone() };
    if let Some(public) = &args.public {
        let now = (!args.any_time).then(clock::now);
        request.verify(&files::read_public(public)?, signature, now)?;
        return terminal.answer(&json!({"verified": true, "dumbname": name}), format!("verified  {name}"));
    }
    request.message()?;
    let body = json!({"dumbname": name, "timestamp": timestamp, "signature": signature, "message": payload});
    let answer = args.query.open()?.post(&["verify"], &body)?;
    if answer["verified"] != true {
        return Err(Failure::new("not_verified", "the node did not verify the request"));
    }
    let people = format!("verified  {} {}", text(&answer["handle"]), text(&answer["agent_id"]));
    terminal.answer(&answer, people)
}
