//! `fama admit`: sponsors a service, as an operator.
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use fama_ledger::event::{Action, Method, Service};
use fama_ledger::id::Domain;
use fama_ledger::key::PublicKey;
use fama_ledger::manifest::Manifest;
use fama_node::domains::{DomainClaim, DomainLookup, LookupError, LookupSettings};

use super::submission::SubmissionArgs;
use crate::author::{self, EventDraft};
use crate::failure::Failure;
use crate::files;
use crate::identity::ResolvedIdentity;
use crate::query::Query;
use crate::sponsor_request::{REQUEST_BYTES_MAX, Requested, SponsorRequest, proof_wanted};
use crate::terminal::Terminal;

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Examples: alpha.example sponsors a service that asked for it, and one that did not, including all
their earlier attestations; --no-check if it has checked the domain in another way
  fama admit --request request.json --manifest manifest.txt --key alpha.example/node.pem \\
    --query http://127.0.0.1:8080
  fama admit mloverflow@beta.example --service mloverflow --domain mloverflow.example --method dns \\
    --manifest manifest.txt --key alpha.example/node.pem --query http://127.0.0.1:8080

The domain must name the provider and the federation, by the method that the statement names:
  https  https://DOMAIN/.well-known/fama.json has {\"providers\": [{\"federation\": \"6f2b…\", \"provider\": \"4b95…\"}]},
         or /.well-known/mlauth.json has the same list as \"fama_providers\"
  dns    a TXT record at _fama.DOMAIN has the text v=fama1; federation=6f2b…; provider=4b95…
  manual is for you to check, in whatever way
A provider is named by id, DID or handle. A look-up takes 15 seconds at most, reads 64 kB, follows no
redirect, uses no proxy, and asks no address that is not public.";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The provider: `name@home`, id or DID
    #[arg(required_unless_present = "request")]
    provider: Option<String>,
    /// The request of the service, made with `fama request`; its signature is checked
    #[arg(long, value_name = "FILE", conflicts_with_all = ["provider", "service", "domain", "method"])]
    request: Option<PathBuf>,
    /// The name of the service
    #[arg(long, allow_hyphen_values = true, required_unless_present = "request")]
    service: Option<Service>,
    /// The service's domain
    #[arg(long, required_unless_present = "request")]
    domain: Option<Domain>,
    /// How the domain is checked: dns, https or manual
    #[arg(long, required_unless_present = "request")]
    method: Option<Method>,
    /// The number of the provider's first attestation that counts
    #[arg(long, default_value_t = 0, value_name = "N")]
    from: u64,
    /// Do not look the domain up: you have checked it in another way
    #[arg(long)]
    no_check: bool,
    #[command(flatten)]
    lookup: LookupArgs,
    #[command(flatten)]
    submission: SubmissionArgs,
}

/// How the domain is looked up.
#[derive(Debug, clap::Args)]
struct LookupArgs {
    /// The DNS server to ask, like 192.0.2.53:53 [default: those of the system]
    #[arg(long, value_name = "ADDRESS", conflicts_with = "no_check")]
    resolver: Option<SocketAddr>,
    /// Ask a web server even if its address is not public, as in a try-out
    #[arg(long, conflicts_with = "no_check")]
    allow_private: bool,
    /// Port of the web server, for tests
    #[arg(long, hide = true, default_value_t = 443)]
    https_port: u16,
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
    let delivery = args.submission.delivery_by_the_newest()?;
    let manifest = &delivery.manifest;
    let key = args.submission.key()?;
    let operator = operator_of(manifest, &key.public())?;
    let query = args.submission.query(&delivery)?;
    let (found, service, domain, method) =
        match (&args.request, &args.provider, &args.service, &args.domain, args.method) {
            (Some(path), ..) => {
                let (found, requested) = asked(path, manifest, query.as_ref(), terminal)?;
                (found, requested.service, requested.domain, requested.method)
            }
            (None, Some(provider), Some(service), Some(domain), Some(method)) => {
                let found = ResolvedIdentity::find(provider, query.as_ref())?;
                warn_of_revoked(&found, terminal);
                (found, service.clone(), domain.clone(), method)
            }
            _ => {
                return Err(Failure::new(
                    "usage",
                    "want a provider with --service, --domain and --method, or --request",
                ));
            }
        };
    check_domain(args, &found.claim(domain.clone(), manifest.federation()), method, terminal)?;
    let provider = found.id;
    let action = Action::Admit { operator, provider, service, domain, method, from: args.from };
    let event = author::event(manifest.federation(), action)?;
    args.submission.finish(terminal, &delivery, EventDraft::new(event, &key)).map(drop)
}

fn warn_of_revoked(found: &ResolvedIdentity, terminal: &mut Terminal<'_>) {
    if found.revoked {
        terminal.say(format!("WARNING: the key of {} is REVOKED: whoever has it may not be the service.", found.id));
    }
}

/// Looks the domain up, unless there is nothing to look up or the operator has checked it.
fn check_domain(args: &Args, claim: &DomainClaim, method: Method, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let wanted = proof_wanted(method, claim);
    if method == Method::Manual {
        terminal.say(format!("NOT CHECKED: {}. With `manual` it is for you to check {wanted}.", claim.domain));
        return Ok(());
    }
    if args.no_check {
        terminal.say(format!(
            "NOT CHECKED: {}. By --no-check you say that you have checked it. Wanted: {wanted}.",
            claim.domain
        ));
        return Ok(());
    }
    let LookupArgs { resolver, allow_private, https_port } = args.lookup;
    let settings = LookupSettings { resolver, allow_private, https_port, roots: fama_reader::http::trusted() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new("system", error))?;
    let found = runtime.block_on(async {
        let lookup = DomainLookup::new(&settings).map_err(|error| Failure::new("system", error))?;
        lookup.find(claim, method).await.map_err(|error| {
            let hint = match error {
                LookupError::Unproven(_) => format!("the service must publish {wanted}"),
                LookupError::Unreachable(_) => {
                    "try again later; --no-check if you have checked it in another way".to_owned()
                }
                LookupError::Private(_) => "--allow-private asks private addresses, for try-outs only".to_owned(),
            };
            Failure::new(error.code(), &error).hint(hint)
        })
    })?;
    terminal.say(format!("Checked: {found} names it."));
    Ok(())
}

/// Reads a request and checks that the provider's current key signed it.
fn asked(
    path: &Path,
    manifest: &Manifest,
    query: Option<&Query>,
    terminal: &mut Terminal<'_>,
) -> Result<(ResolvedIdentity, Requested), Failure> {
    let text = files::read(path, REQUEST_BYTES_MAX)?;
    let requested = SponsorRequest::read(&text).map_err(|failure| failure.about(path.display()))?;
    if requested.federation != manifest.federation() {
        return Err(Failure::new("other_federation", format!("the request is for {}", requested.federation)));
    }
    let query = query.ok_or_else(|| {
        Failure::new("query_needed", "whose key signed the request is not known").hint("ask a node with --query URL")
    })?;
    let found = ResolvedIdentity::find(&requested.provider.to_string(), Some(query))?;
    if found.key != Some(requested.signer) {
        let message = format!("the request was not signed with the current key of {}", requested.provider);
        return Err(Failure::new("not_authorized", message).hint("ask the service for a new one"));
    }
    warn_of_revoked(&found, terminal);
    let home = found.home(None)?;
    let Requested { contact, created, .. } = &requested;
    terminal.say(format!("Requested {created} by {} of {home}; contact: {contact}", requested.provider));
    Ok((found, requested))
}
