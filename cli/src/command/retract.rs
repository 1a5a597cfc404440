//! `fama retract`
use fama_ledger::event::Action;
use fama_ledger::id::{Domain, EventId, IdentityId};
use fama_ledger::time::Day;

use super::event;
use super::handing_in::HandingIn;
use crate::author::{self, Draft};
use crate::failure::Failure;
use crate::terminal::Terminal;

/// Shown below the help.
pub const EXAMPLE: &str = "\
Example: what a node has the attestation of; then what one knows oneself
  fama retract 5f2c…e844 --manifest manifest.txt --key service.pem --query http://127.0.0.1:8080
  fama retract 5f2c…e844 --day 2026-11-22 --subject 07a1…66d0 --issuer 9c3e…02b7 \\
    --home beta.example --manifest manifest.txt --key service.pem";

/// Options.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The attestation: its event id
    attestation: EventId,
    /// The UTC date in the attestation's `created`, if no node is asked
    #[arg(long, value_name = "YYYY-MM-DD", requires_all = ["subject", "issuer", "home"])]
    day: Option<Day>,
    /// The id of who got it, if no node is asked
    #[arg(long, value_name = "ID")]
    subject: Option<IdentityId>,
    /// The id of who gave it, if no node is asked
    #[arg(long, value_name = "ID")]
    issuer: Option<IdentityId>,
    /// The issuer's home, if no node is asked
    #[arg(long, value_name = "DOMAIN")]
    home: Option<Domain>,
    #[command(flatten)]
    handing_in: HandingIn,
}

impl Args {
    fn action(&self) -> Result<Action, Failure> {
        let attestation = self.attestation;
        if let (Some(day), Some(subject), Some(issuer), Some(home)) =
            (self.day, self.subject, self.issuer, self.home.clone())
        {
            return Ok(Action::Retract { home, issuer, subject, day, attestation });
        }
        let query = self.handing_in.query().ok_or_else(|| {
            Failure::new("query_needed", "the attestation's text is not known")
                .hint("--query URL asks a node; --day, --subject, --issuer and --home say what it says")
        })?;
        let event = event::fetch(&query, &attestation)?.0;
        match event.action {
            Action::Attest { home, issuer, subject, .. } => {
                Ok(Action::Retract { home, issuer, subject, day: event.created.day(), attestation })
            }
            other => Err(Failure::new("no_attestation", format!("{attestation} is of the kind {}", other.kind()))),
        }
    }
}

/// Does it.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let manifest = args.handing_in.manifest()?;
    let key = args.handing_in.key()?;
    let event = author::event(manifest.federation(), args.action()?)?;
    args.handing_in.finish(terminal, &manifest, Draft::new(event, &key)).map(drop)
}
