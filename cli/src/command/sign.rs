//! `fama sign`
use std::path::PathBuf;

use fama_node::clock;
use serde_json::json;

use crate::failure::Failure;
use crate::files;
use crate::login::Request;
use crate::terminal::{Table, Terminal};

/// Shown below the help.
pub const EXAMPLE: &str = "\
Example: log in somewhere that knows MLAuth
  fama sign --key agent.pem --name swift-core-maps --payload 'challenge-4711'

What is signed is name, timestamp and payload, one after the other. What would order something about
your key (ROTATE_KEY:…, REVOKE_KEY:…) is never signed.";

/// Options.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The agent's key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The agent's name or handle, as the service will send it on
    #[arg(long)]
    name: String,
    /// What to sign
    #[arg(long, value_name = "TEXT")]
    payload: String,
    /// When, RFC 3339 in UTC [default: now]
    #[arg(long, value_name = "TIME")]
    timestamp: Option<String>,
}

/// Does it.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let timestamp = args.timestamp.clone().unwrap_or_else(|| clock::now().to_string());
    let request = Request { dumbname: args.name.clone(), timestamp, payload: args.payload.clone() };
    let signature = request.sign(&files::read_key(&args.key)?)?;
    let json = json!({
        "dumbname": request.dumbname, "timestamp": request.timestamp, "message": request.payload,
        "signature": signature,
    });
    let lines = vec![("name", request.dumbname), ("timestamp", request.timestamp), ("signature", signature)];
    terminal.answer(&json, Table(lines))
}
