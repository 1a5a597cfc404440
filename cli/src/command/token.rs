//! `fama token`: gets a token with an assertion, and checks a token offline.
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use fama_ledger::event::Scope;
use fama_ledger::id::Hex;
use fama_ledger::jose::{self, JWS_BYTES_MAX, JoseKey};
use fama_ledger::time::Millis;
use fama_ledger::token::{AccessToken, Expected, scope_text};
use fama_node::clock;
use serde_json::json;

use crate::failure::Failure;
use crate::files;
use crate::query::Query;
use crate::settings;
use crate::terminal::{FieldList, Terminal};

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Examples: a process signs in with its delegation; a service checks the token offline
  fama token get swift-core-maps@alpha.example --issuer https://auth.alpha.example \\
    --key worker.pem --delegation worker.delegation --resource https://payments.example/api > token
  fama token check token --issuer https://auth.alpha.example --manifest genesis.txt \\
    --audience https://payments.example/api";

/// How long an assertion lasts, in seconds.
const ASSERTION_SECONDS: u64 = 60;

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    deed: Deed,
}

#[derive(Debug, Subcommand)]
enum Deed {
    /// Get a token with OAuth 2.0: an assertion signed by the agent's key, or by a process's with a delegation
    #[command(after_help = "\
Example:
  fama token get swift-core-maps@alpha.example --issuer https://auth.alpha.example --key agent.pem \\
    --resource https://payments.example/api --scope read")]
    Get(GetArgs),
    /// Check a token against the manifest, without a network
    ///
    /// It says what its issuer knew when it issued it. What was withdrawn since, only a node or the
    /// issuer knows: --online asks it.
    #[command(after_help = "\
Example:
  fama token check token --issuer https://auth.alpha.example --manifest genesis.txt \\
    --audience https://payments.example/api --online")]
    Check(CheckArgs),
}

#[derive(Debug, clap::Args)]
struct GetArgs {
    /// Who signs in: `name@home`, id or DID
    agent: String,
    /// Address of the issuer, as the manifest names it
    #[arg(long, value_name = "URL")]
    issuer: String,
    /// The service: its DID, or an https address at its domain
    #[arg(long, value_name = "RESOURCE")]
    resource: String,
    /// What the token shall allow; may be repeated [default: all that the service grants]
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<Scope>,
    /// The delegation by which --key acts for the agent
    #[arg(long, value_name = "FILE")]
    delegation: Option<PathBuf>,
    /// The key that signs: the agent's, or the process's [default: FAMA_KEY, or that of `fama init`]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct CheckArgs {
    /// File with the token; - reads it from standard input
    token: PathBuf,
    /// An issuer that you accept, as the manifest names it; may be repeated
    #[arg(long, value_name = "URL", required = true)]
    issuer: Vec<String>,
    /// Your own name: what the token must be for
    #[arg(long, value_name = "RESOURCE")]
    audience: String,
    /// The federation's manifest, with its newest version [default: FAMA_MANIFEST, or that of `fama init`]
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Ask the issuer, too, whether all of it holds now
    #[arg(long)]
    online: bool,
}

/// Gets or checks a token.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    match &args.deed {
        Deed::Get(args) => get(args, terminal),
        Deed::Check(args) => check(args, terminal),
    }
}

fn get(args: &GetArgs, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let key = files::read_key(&settings::key(args.key.as_deref())?)?;
    let issuer = Query::issuer(&args.issuer);
    let (now, mut id) = (clock::now().0 / 1_000, [0; 16]);
    files::fill(&mut id)?;
    let algorithm = JoseKey::Ledger(key.public()).algorithms().first().copied().unwrap_or_default();
    let claims = json!({
        "iss": args.agent, "sub": args.agent, "aud": issuer.base(), "jti": Hex(&id).to_string(), "iat": now,
        "exp": now.saturating_add(ASSERTION_SECONDS),
    });
    let header = json!({"alg": algorithm, "typ": "JWT"});
    let assertion = jose::sign(&header, &claims, |message| jose::signature_bytes(&key.sign(message)));
    let delegation = args.delegation.as_deref().map(|path| files::read(path, JWS_BYTES_MAX + 1)).transpose()?;
    let scope = scope_text(&args.scope);
    let mut form = vec![
        ("grant_type", "client_credentials"),
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
        ("client_assertion", assertion.as_str()),
        ("resource", args.resource.as_str()),
    ];
    form.extend(delegation.as_ref().map(|text| ("fama_delegation", text.trim_end())));
    if !args.scope.is_empty() {
        form.push(("scope", &scope));
    }
    let answer = issuer.post_form(&["oauth", "token"], &form).map_err(|failure| match failure.code.as_str() {
        "jws_signature" | "jws_algorithm" => {
            let whose = if args.delegation.is_some() { "the delegation's" } else { "this agent's key in force" };
            failure.hint(format!("is --key {whose}? `fama key show FILE` prints a key, `fama agent NAME` an agent's"))
        }
        _ => failure,
    })?;
    let token = answer["access_token"]
        .as_str()
        .ok_or_else(|| Failure::new("no_issuer", format!("{}: it answered without a token", issuer.base())))?;
    terminal.answer(&answer, token)
}

fn check(args: &CheckArgs, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let (_, manifest) = settings::manifest(args.manifest.as_deref())?;
    let text = read(&args.token)?;
    let (issuers, now): (Vec<&str>, _) = (args.issuer.iter().map(String::as_str).collect(), clock::now().0 / 1_000);
    let expected = Expected { manifest: &manifest, issuers: &issuers, audience: &args.audience, now };
    let token = AccessToken::check(text.trim_end(), &expected).map_err(|error| {
        let failure = Failure::new(error.code(), &error);
        match error.code() {
            "token_key" => {
                failure.hint("a newer version of the manifest may name its key: give the chain of all versions")
            }
            _ => failure,
        }
    })?;
    if args.online {
        let issuer = Query::issuer(&token.issuer);
        let answer = issuer.post(&["v1", "verify"], &json!({"token": text.trim_end()}))?;
        if answer["active"] != true {
            let message = format!("{} says that the token no longer holds", token.issuer);
            return Err(Failure::new("token_inactive", message)
                .hint("the key was replaced or revoked, the agent suspended, or a grant taken back"));
        }
    }
    let time = |seconds: u64| Millis(seconds.saturating_mul(1_000)).to_string();
    let (scope, expires) = (scope_text(&token.scopes), time(token.expires));
    let json = json!({
        "issuer": token.issuer, "operator": token.operator.as_str(), "subject": token.subject, "client_id": token.client_id,
        "identity": token.identity.to_string(), "audience": token.audience, "service": token.service, "scope": scope,
        "issued": time(token.issued_at), "expires": expires, "jti": token.id, "jkt": token.key_thumbprint,
        "process": token.process, "key_version": token.key_version, "karma": token.karma, "as_of": token.as_of,
        "frontier": token.frontier, "online": args.online,
    });
    let mut lines = vec![("agent", token.client_id), ("did", token.subject), ("issuer", token.issuer)];
    lines.extend(token.process.map(|process| ("process", process)));
    lines.extend([("for", token.audience), ("scope", scope), ("karma", token.karma.to_string())]);
    lines.extend([("as of", token.as_of), ("expires", expires)]);
    lines.extend(token.key_thumbprint.map(|key| ("bound to", format!("the DPoP key {key}"))));
    terminal.answer(&json, FieldList(lines))
}

/// The text of a token in a file, or on standard input.
fn read(path: &Path) -> Result<String, Failure> {
    if path != Path::new("-") {
        return Ok(files::read(path, JWS_BYTES_MAX + 1)?.to_string());
    }
    let mut text = String::new();
    let input = std::io::stdin().lock();
    input.take(JWS_BYTES_MAX as u64 + 1).read_to_string(&mut text).map_err(|error| Failure::new("no_input", error))?;
    Ok(text)
}
