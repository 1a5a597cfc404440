//! `fama dismiss`: ends a sponsorship, as an operator.
use fama_ledger::event::{Action, DismissReason, Service};
use fama_ledger::id::Domain;

use super::admit::operator_of;
use super::submission::SubmissionArgs;
use crate::author::{self, EventDraft};
use crate::failure::Failure;
use crate::identity::ResolvedIdentity;
use crate::terminal::Terminal;

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Example: the service's attestations and retractions no longer count from number 1200 on
  fama dismiss mloverflow@beta.example --service mloverflow --domain mloverflow.example \\
    --from 1200 --reason key_compromised --manifest manifest.txt --key alpha.example/node.pem \\
    --query http://127.0.0.1:8080";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The provider: `name@home`, id or DID
    provider: String,
    /// The name of the service
    #[arg(long, allow_hyphen_values = true)]
    service: Service,
    /// The service's domain
    #[arg(long)]
    domain: Domain,
    /// The number of the provider's first attestation or retraction that no longer counts
    #[arg(long, value_name = "N")]
    from: u64,
    /// misconduct, key_compromised, expired or unspecified
    #[arg(long, default_value = "unspecified")]
    reason: DismissReason,
    #[command(flatten)]
    submission: SubmissionArgs,
}

/// Submits the end of a sponsorship.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let manifest = args.submission.manifest()?;
    let key = args.submission.key()?;
    let operator = operator_of(&manifest, &key.public())?;
    let provider = ResolvedIdentity::find(&args.provider, args.submission.query().as_ref())?.id;
    let (service, domain) = (args.service.clone(), args.domain.clone());
    let action = Action::Dismiss { operator, provider, service, domain, from: args.from, reason: args.reason };
    let event = author::event(manifest.federation(), action)?;
    args.submission.finish(terminal, &manifest, EventDraft::new(event, &key)).map(drop)
}
