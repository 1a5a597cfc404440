//! `fama admit`: sponsors a service, as an operator.
use fama_ledger::event::{Action, Method, Service};
use fama_ledger::id::Domain;
use fama_ledger::key::PublicKey;
use fama_ledger::manifest::Manifest;

use super::submission::SubmissionArgs;
use crate::author::{self, EventDraft};
use crate::failure::Failure;
use crate::identity::ResolvedIdentity;
use crate::terminal::Terminal;

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Example: alpha.example sponsors a service, including all its earlier attestations
  fama admit mloverflow@beta.example --service mloverflow --domain mloverflow.example --method dns \\
    --manifest manifest.txt --key alpha.example/node.pem --query http://127.0.0.1:8080";

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
    /// How the domain was checked: dns, https or manual
    #[arg(long)]
    method: Method,
    /// The number of the provider's first attestation that counts
    #[arg(long, default_value_t = 0, value_name = "N")]
    from: u64,
    #[command(flatten)]
    submission: SubmissionArgs,
}

/// The operator that a node key belongs to.
pub(crate) fn operator_of(manifest: &Manifest, key: &PublicKey) -> Result<Domain, Failure> {
    let owner = manifest.operators().iter().find(|operator| operator.node_key.as_bytes() == key.as_bytes());
    owner.map(|operator| operator.name.clone()).ok_or_else(|| {
        Failure::new("not_an_operator", format!("{key} is not an operator's node key"))
            .hint("statements are signed with an operator's node.pem")
    })
}

/// Submits the sponsorship.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let manifest = args.submission.manifest()?;
    let key = args.submission.key()?;
    let operator = operator_of(&manifest, &key.public())?;
    let provider = ResolvedIdentity::find(&args.provider, args.submission.query().as_ref())?.id;
    let (service, domain) = (args.service.clone(), args.domain.clone());
    let action = Action::Admit { operator, provider, service, domain, method: args.method, from: args.from };
    let event = author::event(manifest.federation(), action)?;
    args.submission.finish(terminal, &manifest, EventDraft::new(event, &key)).map(drop)
}
