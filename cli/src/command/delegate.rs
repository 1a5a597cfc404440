//! `fama delegate`: signs that a process with a key of its own acts for an identity.
use std::path::{Path, PathBuf};

use fama_ledger::event::{Scope, Service};
use fama_ledger::id::{Hex, did};
use fama_ledger::jose::JoseKey;
use fama_ledger::key::PublicKey;
use fama_ledger::time::Millis;
use fama_ledger::token::{Delegation, scope_text};
use fama_node::clock;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::files;
use crate::identity::ResolvedIdentity;
use crate::query::{self, Query};
use crate::settings::{self, QueryArgs};
use crate::terminal::Terminal;

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Example: a process gets a key of its own, and acts for the agent for an hour, at one service
  fama key new --ed25519 --out worker.pem
  fama delegate swift-core-maps@alpha.example --process worker-7 --to worker.pem --key agent.pem \\
    --resource https://payments.example/api --scope read > worker.delegation

A delegation stands in no log and is no secret: without the process's key it is worth nothing. It
ends with the identity's key, by a suspension that holds, and at its time. One alone cannot be
withdrawn.";

/// Longest life, in hours.
const HOURS_MAX: i64 = (fama_ledger::token::DELEGATION_SECONDS_MAX / 3_600).cast_signed();
/// Longest JWK that is read, in bytes.
const JWK_BYTES_MAX: usize = 4_096;

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The identity that delegates: `name@home`, id or DID
    agent: String,
    /// Name of the process: 1 to 64 of a-z 0-9 . _ -
    #[arg(long, value_name = "NAME")]
    process: Service,
    /// Key of the process, Ed25519 in PEM, or a JWK of Ed25519 or P-256; its public part is enough
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// What it may do; may be repeated [default: all that the identity may]
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<Scope>,
    /// Where it may do it; may be repeated [default: everywhere]
    #[arg(long, value_name = "RESOURCE")]
    resource: Vec<String>,
    /// For how many hours
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=HOURS_MAX))]
    hours: u8,
    /// The identity's key [default: FAMA_KEY, or that of `fama init`]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The federation's manifest [default: FAMA_MANIFEST, or that of `fama init`]
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    #[command(flatten)]
    query: QueryArgs,
}

/// Signs the delegation, and shows it.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let (_, manifest) = settings::manifest(args.manifest.as_deref())?;
    let key = files::read_key(&settings::key(args.key.as_deref())?)?;
    let query = args.query.open_for(&manifest)?.unwrap_or_else(|| Query::new(query::DEFAULT));
    let identity = ResolvedIdentity::find(&args.agent, Some(&query))?;
    if identity.key.is_some_and(|current| current != key.public()) {
        return Err(Failure::new("wrong_key", format!("{} has another key in force", args.agent))
            .hint("sign with the identity's current key: a delegation ends with it"));
    }
    if identity.revoked {
        return Err(Failure::new("key_revoked", format!("the key of {} is revoked: nobody acts for it", args.agent)));
    }
    let now = clock::now().0 / 1_000;
    let mut id = [0; 16];
    files::fill(&mut id)?;
    let delegation = Delegation {
        subject: did(&identity.home(None)?, &identity.id),
        process: args.process.clone(),
        key: process_key(&args.to)?,
        scopes: (!args.scope.is_empty()).then(|| args.scope.clone()),
        resources: (!args.resource.is_empty()).then(|| args.resource.clone()),
        issued_at: now,
        expires: now.saturating_add(u64::from(args.hours) * 3_600),
        id: Hex(&id).to_string(),
    };
    let text = delegation.sign(manifest.federation(), &key);
    // What every reader will check, checked here: a list that is too long, for one.
    Delegation::check(&text, (&delegation.subject, &key.public()), manifest.federation(), now)
        .map_err(|error| Failure::new(error.code(), error))?;
    let json = json!({
        "delegation": text, "subject": delegation.subject, "process": delegation.process.as_str(),
        "scope": delegation.scopes.as_deref().map(scope_text), "resources": delegation.resources,
        "expires": Millis(delegation.expires.saturating_mul(1_000)).to_string(), "jti": delegation.id,
    });
    terminal.answer(&json, text)
}

/// Reads the key of a process: PEM of Ed25519, or a JWK.
fn process_key(path: &Path) -> Result<JoseKey, Failure> {
    let text = files::read(path, JWK_BYTES_MAX)?;
    if !text.trim_start().starts_with('{') {
        return match files::read_public(path)? {
            PublicKey::Secp256k1(_) => Err(Failure::new("process_key", format!("{}: secp256k1", path.display()))
                .hint("a process has a key on Ed25519 (`fama key new --ed25519`) or P-256 (a JWK)")),
            key @ PublicKey::Ed25519(_) => Ok(JoseKey::Ledger(key)),
        };
    }
    let wrong = |error: &dyn std::fmt::Display| Failure::new("process_key", format!("{}: {error}", path.display()));
    let jwk: Value = serde_json::from_str(&text).map_err(|error| wrong(&error))?;
    JoseKey::from_jwk(&jwk).map_err(|error| wrong(&error).hint("want the public part of an Ed25519 or P-256 key"))
}
