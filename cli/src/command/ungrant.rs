//! `fama ungrant`: takes a grant back.
use fama_ledger::event::{Action, Event, Scope};
use fama_ledger::id::Domain;
use fama_ledger::time::Millis;
use serde_json::Value;

use super::submission::SubmissionArgs;
use crate::author::{self, EventDraft};
use crate::failure::Failure;
use crate::identity::ResolvedIdentity;
use crate::query::Query;
use crate::terminal::Terminal;

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Example:
  fama ungrant swift-core-maps@alpha.example --issuer payments@beta.example --scope read:payments \\
    --manifest manifest.txt --key payments.pem --query http://127.0.0.1:8080

A service should refuse the agent from the moment in which it signs this. Programs that check its
tokens learn of it from the ledger: within seconds if they ask a node or follow its stream, else
when the token ends.";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The agent that may no longer: `name@home`, id or DID
    pub(super) subject: String,
    /// The service that had let it: `name@home`, id or DID
    #[arg(long, value_name = "IDENTITY")]
    pub(super) issuer: String,
    /// What it may no longer do
    #[arg(long, value_name = "SCOPE", allow_hyphen_values = true)]
    pub(super) scope: Scope,
    /// The issuer's home, if no node is asked
    #[arg(long, value_name = "DOMAIN")]
    pub(super) home: Option<Domain>,
    #[command(flatten)]
    pub(super) submission: SubmissionArgs,
}

/// Submits the end of a grant.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let delivery = args.submission.delivery()?;
    let key = args.submission.key()?;
    let query = args.submission.query(&delivery)?;
    let issuer = ResolvedIdentity::find(&args.issuer, query.as_ref())?;
    let subject = ResolvedIdentity::find(&args.subject, query.as_ref())?.id;
    let granted_at = match &query {
        Some(query) => granted_at(query, (&subject.to_string(), &issuer.id.to_string()), &args.scope)?,
        None => None,
    };
    if query.is_some() && granted_at.is_none() {
        terminal.say("That node knows of no such grant. If one is under way, this ends it all the same.");
    }
    let (home, scope) = (issuer.home(args.home.as_ref())?, args.scope.clone());
    let action = Action::Ungrant { home, issuer: issuer.id, subject, scope };
    let event = author::event(delivery.manifest.federation(), action)?;
    // The later one counts, and a grant may be dated ahead.
    let created = granted_at.map_or(event.created, |at| event.created.max(at.plus(1)));
    let event = Event { created, ..event };
    args.submission.finish(terminal, &delivery, EventDraft::new(event, &key)).map(drop)
}

/// When the grant that stands was signed, by the issuer's clock; `None` if the node knows none.
fn granted_at(query: &Query, (subject, issuer): (&str, &str), scope: &Scope) -> Result<Option<Millis>, Failure> {
    let answer = query.get(&["agent", subject, "grants"], &[("with", issuer.to_owned())])?;
    let is_meant = |grant: &&Value| grant["scope"] == scope.as_str();
    let grant = answer["grants"].as_array().into_iter().flatten().find(is_meant);
    Ok(grant.and_then(|grant| grant["granted_at"].as_str()?.parse().ok()))
}
