//! `fama grant`: lets an agent do something at a service.
use fama_ledger::event::{Action, Scope};
use fama_ledger::id::Domain;
use fama_ledger::note::Note;
use fama_ledger::time::Millis;

use super::submission::SubmissionArgs;
use crate::author::{self, EventDraft};
use crate::failure::Failure;
use crate::identity::ResolvedIdentity;
use crate::terminal::Terminal;

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Example: until the end of the year
  fama grant swift-core-maps@alpha.example --issuer payments@beta.example --scope read:payments \\
    --expires 2026-12-31T23:59:59.000Z --manifest manifest.txt --key payments.pem \\
    --query http://127.0.0.1:8080

The scope is a word of the service's own; the same word means nothing at another service. `fama grants`
shows what stands, `fama ungrant` takes it back.";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The agent that may do it: `name@home`, id or DID
    pub(super) subject: String,
    /// The service that lets it: `name@home`, id or DID
    #[arg(long, value_name = "IDENTITY")]
    pub(super) issuer: String,
    /// What it may do, one word of at most 64 visible characters
    #[arg(long, value_name = "SCOPE", allow_hyphen_values = true)]
    pub(super) scope: Scope,
    /// When the grant ends, like 2026-12-31T23:59:59.000Z [default: when it is taken back]
    #[arg(long, value_name = "TIME")]
    pub(super) expires: Option<Millis>,
    /// Why, for people, at most 200 bytes
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(super) reason: Option<String>,
    /// The issuer's home, if no node is asked
    #[arg(long, value_name = "DOMAIN")]
    pub(super) home: Option<Domain>,
    #[command(flatten)]
    pub(super) submission: SubmissionArgs,
}

/// Submits the grant.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let delivery = args.submission.delivery()?;
    let key = args.submission.key()?;
    let query = args.submission.query(&delivery)?;
    let issuer = ResolvedIdentity::find(&args.issuer, query.as_ref())?;
    let subject = ResolvedIdentity::find(&args.subject, query.as_ref())?.id;
    let (text, note) = author::note(Note { reason: args.reason.clone(), ..Note::default() })?;
    let (home, scope) = (issuer.home(args.home.as_ref())?, args.scope.clone());
    let action = Action::Grant { home, issuer: issuer.id, subject, scope, expires: args.expires, note };
    let event = author::event(delivery.manifest.federation(), action)?;
    if let Some(expires) = args.expires.filter(|expires| *expires <= event.created) {
        return Err(Failure::new("expired", format!("{expires} is over"))
            .hint("without --expires a grant stands until `fama ungrant` takes it back"));
    }
    let draft = EventDraft { note: text, ..EventDraft::new(event, &key) };
    args.submission.finish(terminal, &delivery, draft).map(drop)
}
