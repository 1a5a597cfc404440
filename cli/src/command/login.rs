//! `fama login`: gets a token for a service, by signing the text that an issuer asks for.
use std::path::PathBuf;

use fama_ledger::base64;
use fama_ledger::event::Scope;
use fama_ledger::id::FederationId;
use fama_ledger::token::{LoginText, scope_text};
use serde_json::json;

use super::agent::text;
use crate::author::edge_bytes;
use crate::failure::Failure;
use crate::files;
use crate::query::Query;
use crate::settings;
use crate::terminal::Terminal;

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Example: a token for a service that lets the agent do something
  TOKEN=$(fama login swift-core-maps@alpha.example --issuer https://auth.alpha.example \\
    --resource https://payments.example/api --manifest genesis.txt --key agent.pem)

The text that is signed names the issuer and the service, and works once, within a minute. Whoever
has the token can use it until it ends: keep it from logs and from other people's machines.";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Who logs in: `name@home`, id or DID
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
    /// The agent's key [default: FAMA_KEY, or that of `fama init`]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The federation's manifest [default: FAMA_MANIFEST, or that of `fama init`]
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
}

/// Asks for a text, checks it, signs it, and shows the token.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let (_, manifest) = settings::manifest(args.manifest.as_deref())?;
    let key = files::read_key(&settings::key(args.key.as_deref())?)?;
    let issuer = Query::issuer(&args.issuer);
    let scopes = (!args.scope.is_empty()).then(|| args.scope.clone());
    let mut question = json!({"identity": args.agent, "resource": args.resource});
    if let Some(scopes) = &scopes {
        question["scope"] = scope_text(scopes).into();
    }
    let challenge = issuer.post(&["v1", "challenge"], &question)?;
    let challenge = text(&challenge["text"]);
    let asked = Asked { federation: manifest.federation(), issuer: issuer.base(), resource: &args.resource, scopes };
    asked.refuse_other(&challenge)?;
    let signature = base64::encode(&edge_bytes(&key.sign(challenge.as_bytes()))?);
    let answer = issuer.post(&["v1", "token"], &json!({"text": challenge, "signature": signature}))?;
    let token = answer["access_token"].as_str();
    let token = token.ok_or_else(|| Failure::new("no_issuer", format!("{}: no token in the answer", issuer.base())))?;
    terminal.answer(&answer, token)
}

/// What the text of a login must be for.
struct Asked<'a> {
    federation: FederationId,
    issuer: &'a str,
    resource: &'a str,
    scopes: Option<Vec<Scope>>,
}

impl Asked<'_> {
    /// Refuses to sign anything but this login: whoever answers could ask for another signature.
    fn refuse_other(&self, challenge: &str) -> Result<(), Failure> {
        let wrong = |what: String| {
            Failure::new("wrong_challenge", format!("{}: {what}; nothing was signed", self.issuer))
                .hint("use another issuer, and tell its operator")
        };
        let login = LoginText::parse(challenge.as_bytes());
        let login = login.map_err(|error| wrong(format!("what it asks to be signed is no login: {error}")))?;
        if login.federation != self.federation {
            return Err(wrong("its text is of another federation".to_owned()));
        }
        if (login.issuer.as_str(), login.resource.as_str()) != (self.issuer, self.resource) {
            return Err(wrong(format!("its text is for {} at {}", login.resource, login.issuer)));
        }
        match login.scopes == self.scopes {
            true => Ok(()),
            false => Err(wrong("its text has other scopes than those asked for".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_else_is_signed() {
        let (id, other) = ("ab".repeat(32), "cd".repeat(32));
        let text = |federation: &str, issuer: &str, resource: &str, scope: &str| {
            format!(
                "fama.login/1\nfederation: {federation}\nissuer: {issuer}\nidentity: {id}\nresource: {resource}\n\
                 {scope}challenge: x\nexpires: 2026-11-22T05:00:00.000Z\n"
            )
        };
        let (at, shop) = ("https://auth.alpha.example", "https://shop.example");
        let asked = |scopes: Option<&str>| Asked {
            federation: FederationId(id.parse::<fama_ledger::id::EventId>().unwrap().0),
            issuer: at,
            resource: shop,
            scopes: scopes.map(|scope| vec![scope.parse().unwrap()]),
        };
        assert_eq!(asked(None).refuse_other(&text(&id, at, shop, "")), Ok(()));
        assert_eq!(asked(Some("read")).refuse_other(&text(&id, at, shop, "scope: read\n")), Ok(()));
        for (scopes, wrong) in [
            (None, text(&other, at, shop, "")),
            (None, text(&id, "https://auth.beta.example", shop, "")),
            (None, text(&id, at, "https://bank.example", "")),
            (None, text(&id, at, shop, "scope: pay\n")),
            (Some("read"), text(&id, at, shop, "")),
            (Some("read"), text(&id, at, shop, "scope: read pay\n")),
            (None, format!("{}more: 1\n", text(&id, at, shop, ""))),
            (None, "fama.event/1\n".to_owned()),
            (None, String::new()),
        ] {
            let refused = asked(scopes).refuse_other(&wrong).unwrap_err();
            assert_eq!(refused.code, "wrong_challenge", "{wrong}");
        }
    }
}
