//! `fama token check`: checks access tokens, delegations and agent JWTs offline.
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::builder::NonEmptyStringValueParser;
use fama_ledger::jose::{JWS_BYTES_MAX, JoseError, Jws};
use fama_ledger::manifest::Manifest;
use fama_ledger::profile::{PROFILE_BYTES_MAX, Profile, ProfileAnswer, Proven};
use fama_ledger::time::Millis;
use fama_ledger::token::{
    ACCESS_TOKEN, AGENT_CALL, AccessToken, AgentCall, DELEGATION, Delegation, Expected, TokenError, scope_text,
};
use fama_node::clock;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::files;
use crate::proven::{Accepted, MAX_AGE_SECONDS, VerifiedProof, granted_lines, handle};
use crate::query::Query;
use crate::settings;
use crate::terminal::{FieldList, Terminal};

/// Examples that follow the help text.
pub(super) const EXAMPLE: &str = "\
Examples: an access token, and what an agent or its process signed itself
  fama token check token --issuer https://auth.alpha.example --manifest genesis.txt \\
    --audience https://payments.example/api --online
  fama prove swift-core-maps@alpha.example --query https://any.example --out swift.proof
  fama token check call --proof swift.proof --manifest genesis.txt \\
    --audience https://payments.example/api
  fama token check worker.delegation --proof swift.proof --manifest genesis.txt";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// File with the token; - reads it from standard input
    token: PathBuf,
    /// An issuer that you accept, as the manifest names it; may be repeated. Needed for an access token
    #[arg(long, value_name = "URL")]
    issuer: Vec<String>,
    /// Your own name: what the token must be for. Needed for all but a delegation
    #[arg(long, value_name = "RESOURCE", value_parser = NonEmptyStringValueParser::new())]
    audience: Option<String>,
    /// A proof of the agent's profile, from `fama prove`. Needed for a call and a delegation
    #[arg(long, value_name = "FILE")]
    proof: Option<PathBuf>,
    /// Oldest certificate of a log that is accepted in --proof
    #[arg(long, value_name = "SECONDS", default_value_t = MAX_AGE_SECONDS)]
    max_age: u64,
    /// How many logs --proof may leave out. One that may hide a revocation has the call refused all the same
    #[arg(long, value_name = "LOGS", default_value_t = 0)]
    missing: usize,
    /// The federation's manifest, with its newest version [default: FAMA_MANIFEST, or that of `fama init`]
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Ask the issuer of an access token, too, whether all of it holds now
    #[arg(long)]
    online: bool,
}

/// Checks a token of any kind; its header says which.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let (_, manifest) = settings::manifest(args.manifest.as_deref())?;
    let text = read(&args.token)?;
    let text = text.trim_end();
    let (now, kind) = (clock::now().0 / 1_000, Jws::parse(text).map_err(|error| refused(&error.into()))?.token_type());
    let (json, table) = match kind.as_deref() {
        Some(ACCESS_TOKEN) => access_token(args, text, &manifest, now)?,
        Some(DELEGATION) => delegation(args, text, &manifest, now)?,
        Some(AGENT_CALL) => agent_call(args, text, &manifest, now)?,
        found => {
            let found = found.unwrap_or("no type at all");
            let message = format!("the type is {found}; want {ACCESS_TOKEN}, {AGENT_CALL} or {DELEGATION}");
            return Err(Failure::new("jws_type", message));
        }
    };
    terminal.answer(&json, FieldList(table))
}

/// A token as JSON, and as lines for people.
type Shown = (Value, Vec<(&'static str, String)>);

fn access_token(args: &Args, text: &str, manifest: &Manifest, now: u64) -> Result<Shown, Failure> {
    if args.proof.is_some() {
        return Err(Failure::new("proof_unused", "an access token is its issuer's word: no proof is looked at")
            .hint("leave --proof out; --online asks the issuer what holds now"));
    }
    let issuers: Vec<&str> = args.issuer.iter().map(String::as_str).collect();
    if issuers.is_empty() {
        return Err(Failure::new("issuer_needed", "an access token is its issuer's word, and you accept no issuer")
            .hint("name each issuer that you accept with --issuer URL"));
    }
    let expected = Expected { manifest, issuers: &issuers, audience: audience(args)?, now };
    let token = AccessToken::check(text, &expected).map_err(|error| refused(&error))?;
    if args.online {
        let answer = Query::issuer(&token.issuer).post(&["v1", "verify"], &json!({"token": text}))?;
        if answer["active"] != true {
            let message = format!("{} says that the token no longer holds", token.issuer);
            return Err(Failure::new("token_inactive", message)
                .hint("the key was replaced or revoked, the agent suspended, or a grant taken back"));
        }
    }
    let (scope, expires) = (scope_text(&token.scopes), time(token.expires));
    let json = json!({
        "kind": "access_token", "issuer": token.issuer, "operator": token.operator.as_str(), "subject": token.subject,
        "client_id": token.client_id, "identity": token.identity.to_string(), "audience": token.audience,
        "service": token.service, "scope": scope, "issued": time(token.issued_at), "expires": expires, "jti": token.id,
        "jkt": token.key_thumbprint, "process": token.process, "key_version": token.key_version, "karma": token.karma,
        "as_of": token.as_of, "frontier": token.frontier, "online": args.online,
    });
    let mut lines = vec![("agent", token.client_id), ("did", token.subject), ("issuer", token.issuer)];
    lines.extend(token.process.map(|process| ("process", process)));
    lines.extend([("for", token.audience), ("scope", scope), ("karma", token.karma.to_string())]);
    lines.extend([("as of", token.as_of), ("expires", expires)]);
    lines.extend(token.key_thumbprint.map(|key| ("bound to", format!("the DPoP key {key}"))));
    Ok((json, lines))
}

fn delegation(args: &Args, text: &str, manifest: &Arc<Manifest>, now: u64) -> Result<Shown, Failure> {
    let (proven, profile) = agent(args, manifest)?;
    let delegation =
        Delegation::check_by(text, &profile, manifest.federation(), now).map_err(|error| refused(&error))?;
    if let Some(resource) = &args.audience {
        delegation.expect_resource(resource).map_err(|error| refused(&error))?;
    }
    let mut json = delegation_json(&delegation);
    json["kind"] = json!("delegation");
    json["proof"] = proven.to_json(now);
    let mut lines = vec![
        ("agent", handle(&profile)),
        ("did", delegation.subject.clone()),
        ("process", delegation.process.to_string()),
    ];
    lines.extend(delegation_lines(&delegation));
    lines.push(("expires", time(delegation.expires)));
    lines.extend(profile_lines(&proven, &profile, now));
    Ok((json, lines))
}

fn agent_call(args: &Args, text: &str, manifest: &Arc<Manifest>, now: u64) -> Result<Shown, Failure> {
    let audience = audience(args)?;
    let (proven, profile) = agent(args, manifest)?;
    let call = AgentCall::check(text, &profile, manifest.federation(), audience, now);
    let call = call.map_err(|error| refused(&error))?;
    let mut json = json!({
        "kind": "agent_call", "subject": call.subject, "audience": audience, "expires": time(call.expires),
        "jti": call.id, "delegation": call.delegation.as_ref().map(delegation_json),
    });
    json["proof"] = proven.to_json(now);
    let mut lines = vec![("agent", handle(&profile)), ("did", call.subject), ("for", audience.to_owned())];
    if let Some(delegation) = &call.delegation {
        lines.push(("process", delegation.process.to_string()));
        lines.extend(delegation_lines(delegation));
    }
    lines.push(("expires", time(call.expires)));
    lines.push(("use once", format!("remember {} until then: only you see all uses", call.id)));
    lines.extend(profile_lines(&proven, &profile, now));
    Ok((json, lines))
}

fn delegation_json(delegation: &Delegation) -> Value {
    json!({
        "subject": delegation.subject, "process": delegation.process.as_str(), "jwk": delegation.key.to_jwk(),
        "scope": delegation.scopes.as_deref().map(scope_text), "resources": delegation.resources,
        "issued": time(delegation.issued_at), "expires": time(delegation.expires), "jti": delegation.id,
    })
}

fn delegation_lines(delegation: &Delegation) -> Vec<(&'static str, String)> {
    let scope = delegation.scopes.as_deref().map(scope_text);
    let resources = delegation.resources.as_ref().map(|all| all.join("\n"));
    vec![
        ("may do", scope.unwrap_or_else(|| "all that the agent may".to_owned())),
        ("where", resources.unwrap_or_else(|| "everywhere".to_owned())),
    ]
}

fn profile_lines(proven: &Proven, profile: &Profile, now: u64) -> Vec<(&'static str, String)> {
    let age = |as_of: u64| format!("{}, {} s ago", time(as_of), now.saturating_sub(as_of));
    let as_of = proven.as_of().map_or_else(|| "none: all logs that are shown have ended".to_owned(), age);
    let mut lines = vec![("karma", profile.karma.sum.to_string())];
    lines.extend(profile.granted.iter().flat_map(granted_lines));
    lines.push(("proof", format!("as of {as_of}")));
    lines
}

/// The profile that the proof shows.
fn agent(args: &Args, manifest: &Arc<Manifest>) -> Result<(Box<Proven>, Profile), Failure> {
    if args.online {
        return Err(Failure::new("no_issuer", "the agent signed this itself: there is no issuer to ask")
            .hint("get a new proof with `fama prove`, and bound its age with --max-age"));
    }
    if !args.issuer.is_empty() {
        return Err(Failure::new("issuer_unused", "the agent signed this itself: no issuer vouches for it")
            .hint("leave --issuer out"));
    }
    let Some(path) = &args.proof else {
        return Err(Failure::new("proof_needed", "no proof shows whether the agent's key is in force")
            .hint("`fama prove AGENT --query URL --out FILE` gets a proof from any node; give it with --proof FILE"));
    };
    let text = files::read(path, PROFILE_BYTES_MAX)?;
    let accepted = Accepted { max_age: args.max_age, missing: Some(args.missing) };
    let VerifiedProof::Profile(proven, _) = VerifiedProof::read(&text, manifest, accepted)? else {
        return Err(Failure::new("other_proof", format!("{}: the proof of an event", path.display()))
            .hint("a proof of the agent's profile is wanted: `fama prove AGENT`"));
    };
    let ProfileAnswer::Found(profile) = &proven.answer else {
        let message = format!("{}: it proves that there is no {}", path.display(), proven.question);
        return Err(Failure::new("agent_absent", message));
    };
    let profile = Profile::clone(profile);
    Ok((proven, profile))
}

fn audience(args: &Args) -> Result<&str, Failure> {
    args.audience.as_deref().ok_or_else(|| {
        Failure::new("audience_needed", "your own name is missing")
            .hint("a token for another service is worth nothing here: --audience RESOURCE says whom it must be for")
    })
}

fn refused(error: &TokenError) -> Failure {
    let hint = match error {
        TokenError::Key => "a newer version of the manifest may name its key: give the chain of all versions",
        TokenError::Identity { .. } => "is --proof about the agent that signed this?",
        TokenError::Issuer(_) => {
            "issuers are compared as texts: give the origin as the manifest has it, without a slash"
        }
        TokenError::Audience { .. } => "audiences are compared as texts: is --audience what callers are told to write?",
        TokenError::Expired(_) => "a call lasts a minute, an access token minutes: get a new one, or set the clock",
        TokenError::NotInForce(_) => "`fama verify` shows what the proof says of the key; `fama prove` gets a new one",
        TokenError::Jose(JoseError::Signature | JoseError::Algorithm { .. }) => {
            "another key signed it: a process needs its delegation, and a proof may be older than a change of key"
        }
        TokenError::Jose(JoseError::Form(_)) => "want the token alone: three parts of base64url with dots between them",
        _ => return Failure::new(error.code(), error),
    };
    Failure::new(error.code(), error).hint(hint)
}

fn time(seconds: u64) -> String {
    Millis(seconds.saturating_mul(1_000)).to_string()
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
