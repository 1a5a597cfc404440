//! `fama admit`
use fama_ledger::event::{Action, Method, Service};
use fama_ledger::id::Domain;
use fama_ledger::key::PublicKey;
use fama_ledger::manifest::Manifest;

use super::handing_in::HandingIn;
use crate::author::{self, Draft};
use crate::failure::Failure;
use crate::identity::Identity;
use crate::terminal::Terminal;

/// Shown below the help.
pub const EXAMPLE: &str = "\
Example: alpha.example sponsors a service, its attestations from the first on
  fama admit mloverflow@beta.example --service mloverflow --domain mloverflow.example --method dns \\
    --manifest manifest.txt --key alpha.example/node.pem --query http://127.0.0.1:8080";

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
    /// How the domain was checked: dns, https or manual
    #[arg(long)]
    method: Method,
    /// The first of the provider's numbers that counts
    #[arg(long, default_value_t = 0, value_name = "N")]
    from: u64,
    #[command(flatten)]
    handing_in: HandingIn,
}

/// The operator that a node key belongs to.
pub(crate) fn operator_of(manifest: &Manifest, key: &PublicKey) -> Result<Domain, Failure> {
    let owner = manifest.operators().iter().find(|operator| operator.node_key.as_bytes() == key.as_bytes());
    owner.map(|operator| operator.name.clone()).ok_or_else(|| {
        Failure::new("not_an_operator", format!("{key} is no operator's node key"))
            .hint("statements are signed by an operator's node.pem")
    })
}

/// Does it.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let manifest = args.handing_in.manifest()?;
    let key = args.handing_in.key()?;
    let operator = operator_of(&manifest, &key.public())?;
    let provider = Identity::find(&args.provider, args.handing_in.query().as_ref())?.id;
    let (service, domain) = (args.service.clone(), args.domain.clone());
    let action = Action::Admit { operator, provider, service, domain, method: args.method, from: args.from };
    let event = author::event(manifest.federation(), action)?;
    args.handing_in.finish(terminal, &manifest, Draft::new(event, &key)).map(drop)
}
