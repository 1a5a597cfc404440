//! `fama sign`: signs a login request.
use std::path::PathBuf;

use fama_ledger::secret::SecretKey;
use fama_node::clock;
use serde_json::json;

use crate::failure::Failure;
use crate::files;
use crate::login::LoginRequest;
use crate::terminal::{FieldList, Terminal};

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Example: log in to a service that supports MLAuth
  fama sign --key agent.pem --name swift-core-maps --payload 'challenge-4711'

Signs name, timestamp and payload, joined without a separator. A payload that is an order about your
key (ROTATE_KEY:…, REVOKE_KEY:…) is never signed.";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The agent's key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The agent's name or handle, as the service expects it
    #[arg(long, allow_hyphen_values = true)]
    name: String,
    /// The text to sign, usually a challenge
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    payload: String,
    /// Time of the request, RFC 3339 in UTC [default: now]
    #[arg(long, value_name = "TIME")]
    timestamp: Option<String>,
}

/// Signs a login request.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let timestamp = args.timestamp.clone().unwrap_or_else(|| clock::now().to_string());
    let request = LoginRequest { dumbname: args.name.clone(), timestamp, payload: args.payload.clone() };
    signed(request, &files::read_key(&args.key)?, terminal)
}

/// Signs a login request with this key, and shows it.
pub(super) fn signed(request: LoginRequest, key: &SecretKey, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let signature = request.sign(key)?;
    let json = json!({
        "dumbname": request.dumbname, "timestamp": request.timestamp, "message": request.payload,
        "signature": signature,
    });
    let lines = vec![("name", request.dumbname), ("timestamp", request.timestamp), ("signature", signature)];
    terminal.answer(&json, FieldList(lines))
}
