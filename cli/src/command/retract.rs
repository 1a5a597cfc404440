//! `fama retract`
use fama_ledger::event::Action;
use fama_ledger::id::{Domain, EventId};
use fama_ledger::time::Day;

use super::handing_in::HandingIn;
use crate::author::{self, Draft};
use crate::failure::Failure;
use crate::identity::Identity;
use crate::terminal::Terminal;

/// Shown below the help.
pub const EXAMPLE: &str = "\
Example:
  fama retract 5f2c…e844 --day 2026-11-22 --subject swift-core-maps@alpha.example \\
    --issuer mloverflow@beta.example --manifest manifest.txt --key service.pem \\
    --query http://127.0.0.1:8080";

/// Options.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The attestation: its event id
    attestation: EventId,
    /// The UTC date in the attestation's `created`
    #[arg(long, value_name = "YYYY-MM-DD")]
    day: Day,
    /// Who got it: `name@home`, id or DID
    #[arg(long, value_name = "IDENTITY")]
    subject: String,
    /// Who gave it: `name@home`, id or DID
    #[arg(long, value_name = "IDENTITY")]
    issuer: String,
    /// The issuer's home, if no node is asked
    #[arg(long, value_name = "DOMAIN")]
    home: Option<Domain>,
    #[command(flatten)]
    handing_in: HandingIn,
}

/// Does it.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let manifest = args.handing_in.manifest()?;
    let key = args.handing_in.key()?;
    let query = args.handing_in.query();
    let issuer = Identity::find(&args.issuer, query.as_ref())?;
    let subject = Identity::find(&args.subject, query.as_ref())?.id;
    let home = issuer.home(args.home.as_ref())?;
    let action = Action::Retract { home, issuer: issuer.id, subject, day: args.day, attestation: args.attestation };
    let event = author::event(manifest.federation(), action)?;
    args.handing_in.finish(terminal, &manifest, Draft::new(event, &key)).map(drop)
}
