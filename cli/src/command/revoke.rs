//! `fama revoke`: revokes a key.
use std::path::{Path, PathBuf};

use fama_ledger::event::{Action, RevokeReason};
use fama_ledger::id::Domain;
use fama_ledger::manifest::Manifest;
use fama_ledger::proof::{PROOF_BYTES_MAX, TlogProof};
use fama_node::wire::Recovered;

use super::submission::SubmissionArgs;
use crate::author::{self, EventDraft};
use crate::failure::Failure;
use crate::files;
use crate::identity::ResolvedIdentity;
use crate::terminal::Terminal;

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Example: the key is stolen; or it is lost, and the next key revokes it
  fama revoke swift-core-maps@alpha.example --reason key_compromised --manifest manifest.txt \\
    --key agent.pem --query http://127.0.0.1:8080
  fama revoke swift-core-maps@alpha.example --reason key_compromised --manifest manifest.txt \\
    --key agent.next.pem --query http://127.0.0.1:8080

If the identity committed to a next key, `fama rotate` replaces the revoked one. Otherwise the
identity is lost.";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The identity: `name@home`, id or DID
    pub(super) identity: String,
    /// key_compromised, superseded, retired or unspecified
    #[arg(long, default_value = "unspecified")]
    pub(super) reason: RevokeReason,
    /// The key to revoke, if no node is asked and it isn't the one that signs
    #[arg(long, value_name = "FILE")]
    pub(super) revoked_key: Option<PathBuf>,
    /// The identity's home, if no node is asked
    #[arg(long, value_name = "DOMAIN")]
    pub(super) home: Option<Domain>,
    /// The version of the key to revoke, if no node is asked
    #[arg(long, value_name = "N")]
    pub(super) key_version: Option<u32>,
    /// Receipt of the registration or rotation that brought the key, for nodes that have not seen it
    #[arg(long, value_name = "FILE")]
    pub(super) receipt: Option<PathBuf>,
    #[command(flatten)]
    pub(super) submission: SubmissionArgs,
}

/// Submits the revocation.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let delivery = args.submission.delivery()?;
    let manifest = &delivery.manifest;
    let signer = args.submission.key()?;
    let identity = ResolvedIdentity::find(&args.identity, args.submission.query(&delivery)?.as_ref())?;
    let home = identity.home(args.home.as_ref())?;
    let version = identity.version(args.key_version)?;
    let key = match &args.revoked_key {
        Some(path) => files::read_public(path)?,
        None => identity.key.unwrap_or_else(|| signer.public()),
    };
    let action = Action::Revoke { home, identity: identity.id, version, key, reason: args.reason };
    let event = author::event(manifest.federation(), action)?;
    let receipt = args.receipt.as_deref().map(|path| receipt(path, manifest)).transpose()?;
    let draft = EventDraft { receipt, ..EventDraft::new(event, &signer) };
    args.submission.finish(terminal, &delivery, draft).map(drop)
}

/// Reads a proof that carries its entry, and checks it.
fn receipt(path: &Path, manifest: &Manifest) -> Result<Recovered, Failure> {
    let text = files::read(path, PROOF_BYTES_MAX)?;
    let mut proof: TlogProof = text.parse()?;
    let extra = proof.extra.take().ok_or_else(|| Failure::new("proof_form", "the receipt carries no entry"))?;
    let entry = proof.included(&extra, manifest)?.entry.bytes().to_vec();
    Ok(Recovered { entry, proof: proof.to_string() })
}
