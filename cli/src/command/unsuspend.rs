//! `fama unsuspend`: takes a suspension back, as an operator.
use fama_ledger::event::Action;

use super::admit::operator_of;
use super::submission::SubmissionArgs;
use crate::author::{self, EventDraft};
use crate::failure::Failure;
use crate::identity::ResolvedIdentity;
use crate::terminal::Terminal;

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Example:
  fama unsuspend swift-core-maps@alpha.example --manifest manifest.txt --key beta.example/node.pem \\
    --query http://127.0.0.1:8080

Other operators' suspensions stay: `fama agent` shows them. In the ledger this is an event of the kind
resume.";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The identity: `name@home`, id or DID
    identity: String,
    #[command(flatten)]
    submission: SubmissionArgs,
}

/// Submits the end of a suspension.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let delivery = args.submission.delivery_by_the_newest()?;
    let key = args.submission.key()?;
    let operator = operator_of(&delivery.manifest, &key.public())?;
    let query = args.submission.query(&delivery)?;
    let identity = ResolvedIdentity::find(&args.identity, query.as_ref())?.id;
    let event = author::event(delivery.manifest.federation(), Action::Resume { operator, identity })?;
    args.submission.finish(terminal, &delivery, EventDraft::new(event, &key)).map(drop)
}
