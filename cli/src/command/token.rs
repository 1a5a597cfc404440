//! `fama token`: gets a token with an assertion, signs a call, and checks either offline.
use std::path::PathBuf;

use clap::Subcommand;
use clap::builder::NonEmptyStringValueParser;
use fama_ledger::event::Scope;
use fama_ledger::id::{Hex, did};
use fama_ledger::jose::{self, JWS_BYTES_MAX, JoseKey};
use fama_ledger::secret::SecretKey;
use fama_ledger::time::Millis;
use fama_ledger::token::{AGENT_CALL, CALL_SECONDS_MAX, DELEGATION_CLAIM, Delegation, scope_text};
use fama_node::clock;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::files;
use crate::identity::ResolvedIdentity;
use crate::query::Query;
use crate::settings::{self, QueryArgs};
use crate::terminal::Terminal;

mod check;

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Examples: a process signs in with its delegation; a service checks the token offline
  fama token get swift-core-maps@alpha.example --issuer https://auth.alpha.example \\
    --key worker.pem --delegation worker.delegation --resource https://payments.example/api > token
  fama token check token --issuer https://auth.alpha.example --manifest genesis.txt \\
    --audience https://payments.example/api
Examples: the process signs a call itself; a service checks it with a proof of the profile
  fama token call swift-core-maps@alpha.example --key worker.pem --delegation worker.delegation \\
    --resource https://payments.example/api > call
  fama prove swift-core-maps@alpha.example --query https://any.example --out swift.proof
  fama token check call --proof swift.proof --manifest genesis.txt \\
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
    /// Sign a call (an agent JWT): for one service and for a minute, without an issuer
    #[command(after_help = "\
Example:
  fama token call swift-core-maps@alpha.example --key worker.pem --delegation worker.delegation \\
    --resource https://payments.example/api")]
    Call(CallArgs),
    /// Check an access token, a call or a delegation; without a network, unless --online is given
    ///
    /// An access token is its issuer's word: it says what that operator knew when it issued the token. A
    /// call (an agent JWT) and a delegation are the agent's own word, and count while its key is in force: a
    /// proof of its profile shows that. Neither shows what was withdrawn since; for a token, --online asks its issuer.
    #[command(after_help = check::EXAMPLE)]
    Check(check::Args),
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
    #[command(flatten)]
    signer: Signer,
}

#[derive(Debug, clap::Args)]
struct CallArgs {
    /// Who calls: `name@home`, id or DID
    agent: String,
    /// The service, as it names itself
    #[arg(long, value_name = "RESOURCE", value_parser = NonEmptyStringValueParser::new())]
    resource: String,
    #[command(flatten)]
    signer: Signer,
    #[command(flatten)]
    query: QueryArgs,
}

/// Whose key signs.
#[derive(Debug, clap::Args)]
struct Signer {
    /// The delegation by which --key acts for the agent
    #[arg(long, value_name = "FILE")]
    delegation: Option<PathBuf>,
    /// The key that signs: the agent's, or the process's [default: FAMA_KEY, or that of `fama init`]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

impl Signer {
    fn key(&self) -> Result<SecretKey, Failure> {
        files::read_key(&settings::key(self.key.as_deref())?)
    }

    fn delegation(&self) -> Result<Option<String>, Failure> {
        let text = self.delegation.as_deref().map(|path| files::read(path, JWS_BYTES_MAX + 1)).transpose()?;
        Ok(text.map(|text| text.trim_end().to_owned()))
    }
}

/// Gets, signs or checks a token.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    match &args.deed {
        Deed::Get(args) => get(args, terminal),
        Deed::Call(args) => call(args, terminal),
        Deed::Check(args) => check::run(args, terminal),
    }
}

/// Signs a JWS of this type.
fn sign(key: &SecretKey, kind: &str, claims: &Value) -> String {
    let algorithm = JoseKey::Ledger(key.public()).algorithms().first().copied().unwrap_or_default();
    let header = json!({"alg": algorithm, "typ": kind});
    jose::sign(&header, claims, |message| jose::signature_bytes(&key.sign(message)))
}

/// A name that no other token has.
fn fresh_id() -> Result<String, Failure> {
    let mut id = [0; 16];
    files::fill(&mut id)?;
    Ok(Hex(&id).to_string())
}

fn get(args: &GetArgs, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let key = args.signer.key()?;
    let issuer = Query::issuer(&args.issuer);
    let now = clock::now().0 / 1_000;
    let claims = json!({
        "iss": args.agent, "sub": args.agent, "aud": issuer.base(), "jti": fresh_id()?, "iat": now,
        "exp": now.saturating_add(ASSERTION_SECONDS),
    });
    let assertion = sign(&key, "JWT", &claims);
    let delegation = args.signer.delegation()?;
    let scope = scope_text(&args.scope);
    let mut form = vec![
        ("grant_type", "client_credentials"),
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
        ("client_assertion", assertion.as_str()),
        ("resource", args.resource.as_str()),
    ];
    form.extend(delegation.as_ref().map(|text| (DELEGATION_CLAIM, text.as_str())));
    if !args.scope.is_empty() {
        form.push(("scope", &scope));
    }
    let answer = issuer.post_form(&["oauth", "token"], &form).map_err(|failure| match failure.code.as_str() {
        "jws_signature" | "jws_algorithm" => {
            let whose = if delegation.is_some() { "the delegation's" } else { "this agent's key in force" };
            failure.hint(format!("is --key {whose}? `fama key show FILE` prints a key, `fama agent NAME` an agent's"))
        }
        _ => failure,
    })?;
    let token = answer["access_token"]
        .as_str()
        .ok_or_else(|| Failure::new("no_issuer", format!("{}: it answered without a token", issuer.base())))?;
    terminal.answer(&answer, token)
}

fn call(args: &CallArgs, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let (key, delegation) = (args.signer.key()?, args.signer.delegation()?);
    let (mut subject, mut current) = (args.agent.clone(), None);
    if !subject.starts_with("did:") {
        let identity = ResolvedIdentity::find(&args.agent, Some(&args.query.open()?))?;
        (subject, current) = (did(&identity.home(None)?, &identity.id), identity.key);
    }
    // What the service would refuse, refused here.
    match &delegation {
        Some(text) => {
            let given = Delegation::unverified(text).map_err(|error| {
                Failure::new(error.code(), format!("--delegation: {error}")).hint("`fama delegate` makes one")
            })?;
            if given.subject != subject {
                let message = format!("the delegation is by {}, not by {subject}", given.subject);
                return Err(Failure::new("token_identity", message));
            }
            if given.key != JoseKey::Ledger(key.public()) {
                return Err(Failure::new(
                    "wrong_key",
                    format!("the delegation is to another key than {}", key.public()),
                )
                .hint("sign with the key of the process, the one that `fama delegate --to` was given"));
            }
            given.expect_resource(&args.resource).map_err(|error| Failure::new(error.code(), error))?;
        }
        None if current.is_some_and(|current| current != key.public()) => {
            return Err(Failure::new("wrong_key", format!("{} has another key in force", args.agent))
                .hint("sign with the agent's key, or give the process's with its --delegation"));
        }
        None => {}
    }
    let (now, id) = (clock::now().0 / 1_000, fresh_id()?);
    let expires = now.saturating_add(CALL_SECONDS_MAX);
    let mut claims = json!({"iss": subject, "aud": args.resource, "jti": id, "iat": now, "exp": expires});
    if let Some(delegation) = delegation {
        claims[DELEGATION_CLAIM] = delegation.into();
    }
    let call = sign(&key, AGENT_CALL, &claims);
    let expires = Millis(expires.saturating_mul(1_000)).to_string();
    let json = json!({"call": call, "subject": subject, "audience": args.resource, "expires": expires, "jti": id});
    terminal.answer(&json, call)
}
