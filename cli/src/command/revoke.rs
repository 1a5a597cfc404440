//! `fama revoke`
use std::path::PathBuf;

use fama_ledger::event::{Action, RevokeReason};
use fama_ledger::id::Domain;

use super::handing_in::HandingIn;
use crate::author::{self, Draft};
use crate::failure::Failure;
use crate::files;
use crate::identity::Identity;
use crate::terminal::Terminal;

/// Shown below the help.
pub const EXAMPLE: &str = "\
Example: the key is stolen, or lost and the next one at hand
  fama revoke swift-core-maps@alpha.example --reason key_compromised --manifest manifest.txt \\
    --key agent.pem --query http://127.0.0.1:8080
  fama revoke swift-core-maps@alpha.example --reason key_compromised --manifest manifest.txt \\
    --key agent.next.pem --query http://127.0.0.1:8080

A revoked key with a next key committed to can be replaced: `fama rotate`. Without, this is the end.";

/// Options.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The identity: `name@home`, id or DID
    identity: String,
    /// key_compromised, superseded, retired or unspecified
    #[arg(long, default_value = "unspecified")]
    reason: RevokeReason,
    /// The key to revoke, if no node is asked and it isn't the one that signs
    #[arg(long, value_name = "FILE")]
    revoked_key: Option<PathBuf>,
    /// The identity's home, if no node is asked
    #[arg(long, value_name = "DOMAIN")]
    home: Option<Domain>,
    /// The version of the key to revoke, if no node is asked
    #[arg(long, value_name = "N")]
    key_version: Option<u32>,
    #[command(flatten)]
    handing_in: HandingIn,
}

/// Does it.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let manifest = args.handing_in.manifest()?;
    let signer = args.handing_in.key()?;
    let identity = Identity::find(&args.identity, args.handing_in.query().as_ref())?;
    let home = identity.home(args.home.as_ref())?;
    let version = identity.version(args.key_version)?;
    let key = match &args.revoked_key {
        Some(path) => files::read_public(path)?,
        None => identity.key.unwrap_or_else(|| signer.public()),
    };
    let action = Action::Revoke { home, identity: identity.id, version, key, reason: args.reason };
    let event = author::event(manifest.federation(), action)?;
    args.handing_in.finish(terminal, &manifest, Draft::new(event, &signer)).map(drop)
}
