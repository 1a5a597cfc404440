//! `fama retract`: takes an attestation back.
use fama_ledger::event::Action;
use fama_ledger::id::{Domain, EventId, IdentityId};
use fama_ledger::time::Day;

use super::event;
use super::submission::SubmissionArgs;
use crate::author::{self, EventDraft};
use crate::delivery::Delivery;
use crate::failure::Failure;
use crate::terminal::Terminal;

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Example: with a node that has the attestation; then without one
  fama retract 5f2c…e844 --manifest manifest.txt --key service.pem --query http://127.0.0.1:8080
  fama retract 5f2c…e844 --day 2026-11-22 --subject 07a1…66d0 --issuer 9c3e…02b7 \\
    --home beta.example --manifest manifest.txt --key service.pem";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The event id of the attestation
    attestation: EventId,
    /// The UTC date in the attestation's `created`, if no node is asked
    #[arg(long, value_name = "YYYY-MM-DD", requires_all = ["subject", "issuer", "home"])]
    day: Option<Day>,
    /// The id of the identity that received it, if no node is asked
    #[arg(long, value_name = "ID")]
    subject: Option<IdentityId>,
    /// The id of the identity that gave it, if no node is asked
    #[arg(long, value_name = "ID")]
    issuer: Option<IdentityId>,
    /// The issuer's home, if no node is asked
    #[arg(long, value_name = "DOMAIN")]
    home: Option<Domain>,
    #[command(flatten)]
    submission: SubmissionArgs,
}

impl Args {
    fn action(&self, delivery: &Delivery) -> Result<Action, Failure> {
        let attestation = self.attestation;
        if let (Some(day), Some(subject), Some(issuer), Some(home)) =
            (self.day, self.subject, self.issuer, self.home.clone())
        {
            return Ok(Action::Retract { home, issuer, subject, day, attestation });
        }
        let query = self.submission.query(delivery)?.ok_or_else(|| {
            Failure::new("query_needed", "the attestation's text is not known")
                .hint("ask a node with --query URL, or state its content with --day, --subject, --issuer and --home")
        })?;
        let event = event::fetch(&query, &attestation)?.0;
        match event.action {
            Action::Attest { home, issuer, subject, .. } => {
                Ok(Action::Retract { home, issuer, subject, day: event.created.day(), attestation })
            }
            other => Err(Failure::new(
                "no_attestation",
                format!("{attestation} is not an attestation but of the kind {}", other.kind()),
            )),
        }
    }
}

/// Submits the retraction of an attestation.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let delivery = args.submission.delivery()?;
    let manifest = &delivery.manifest;
    let key = args.submission.key()?;
    let event = author::event(manifest.federation(), args.action(&delivery)?)?;
    args.submission.finish(terminal, &delivery, EventDraft::new(event, &key)).map(drop)
}
