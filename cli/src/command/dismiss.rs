//! `fama dismiss`
use fama_ledger::event::{Action, DismissReason, Service};
use fama_ledger::id::Domain;

use super::admit::operator_of;
use super::handing_in::HandingIn;
use crate::author::{self, Draft};
use crate::failure::Failure;
use crate::identity::Identity;
use crate::terminal::Terminal;

/// Shown below the help.
pub const EXAMPLE: &str = "\
Example: what the service attests from its 1,200th attestation or retraction on counts no longer
  fama dismiss mloverflow@beta.example --service mloverflow --domain mloverflow.example \\
    --from 1200 --reason key_compromised --manifest manifest.txt --key alpha.example/node.pem \\
    --query http://127.0.0.1:8080";

/// Options.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The provider: `name@home`, id or DID
    provider: String,
    /// The service that it is
    #[arg(long)]
    service: Service,
    /// The service's domain
    #[arg(long)]
    domain: Domain,
    /// The first of the provider's numbers that counts no longer
    #[arg(long, value_name = "N")]
    from: u64,
    /// misconduct, key_compromised, expired or unspecified
    #[arg(long, default_value = "unspecified")]
    reason: DismissReason,
    #[command(flatten)]
    handing_in: HandingIn,
}

/// Does it.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let manifest = args.handing_in.manifest()?;
    let key = args.handing_in.key()?;
    let operator = operator_of(&manifest, &key.public())?;
    let provider = Identity::find(&args.provider, args.handing_in.query().as_ref())?.id;
    let (service, domain) = (args.service.clone(), args.domain.clone());
    let action = Action::Dismiss { operator, provider, service, domain, from: args.from, reason: args.reason };
    let event = author::event(manifest.federation(), action)?;
    args.handing_in.finish(terminal, &manifest, Draft::new(event, &key)).map(drop)
}
