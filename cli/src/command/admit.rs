//! `fama admit`: sponsors a service, as an operator.
use std::path::{Path, PathBuf};

use fama_ledger::event::{Action, Method, Service};
use fama_ledger::id::Domain;
use fama_ledger::key::PublicKey;
use fama_ledger::manifest::Manifest;

use super::submission::SubmissionArgs;
use crate::author::{self, EventDraft};
use crate::failure::Failure;
use crate::files;
use crate::identity::ResolvedIdentity;
use crate::query::Query;
use crate::sponsor_request::{REQUEST_BYTES_MAX, Requested, SponsorRequest, WELL_KNOWN, check_https, proof_wanted};
use crate::terminal::Terminal;

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Examples: alpha.example sponsors a service that asked for it, and one that it checked by itself,
including all their earlier attestations
  fama admit --request request.json --manifest manifest.txt --key alpha.example/node.pem \\
    --query http://127.0.0.1:8080
  fama admit mloverflow@beta.example --service mloverflow --domain mloverflow.example --method dns \\
    --manifest manifest.txt --key alpha.example/node.pem --query http://127.0.0.1:8080";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The provider: `name@home`, id or DID
    #[arg(required_unless_present = "request")]
    provider: Option<String>,
    /// The request of the service, made with `fama request`; its signature is checked, and its domain if that is to be
    /// checked over https
    #[arg(long, value_name = "FILE", conflicts_with_all = ["provider", "service", "domain", "method"])]
    request: Option<PathBuf>,
    /// The name of the service
    #[arg(long, allow_hyphen_values = true, required_unless_present = "request")]
    service: Option<Service>,
    /// The service's domain
    #[arg(long, required_unless_present = "request")]
    domain: Option<Domain>,
    /// How the domain was checked: dns, https or manual
    #[arg(long, required_unless_present = "request")]
    method: Option<Method>,
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
    let delivery = args.submission.delivery_by_the_newest()?;
    let manifest = &delivery.manifest;
    let key = args.submission.key()?;
    let operator = operator_of(manifest, &key.public())?;
    let query = args.submission.query(&delivery)?;
    let (provider, service, domain, method) =
        match (&args.request, &args.provider, &args.service, &args.domain, args.method) {
            (Some(path), ..) => {
                let requested = checked(path, manifest, query.as_ref(), terminal)?;
                (requested.provider, requested.service, requested.domain, requested.method)
            }
            (None, Some(provider), Some(service), Some(domain), Some(method)) => {
                let found = ResolvedIdentity::find(provider, query.as_ref())?;
                warn_of_revoked(&found, terminal);
                (found.id, service.clone(), domain.clone(), method)
            }
            _ => {
                return Err(Failure::new(
                    "usage",
                    "want a provider with --service, --domain and --method, or --request",
                ));
            }
        };
    let action = Action::Admit { operator, provider, service, domain, method, from: args.from };
    let event = author::event(manifest.federation(), action)?;
    args.submission.finish(terminal, &delivery, EventDraft::new(event, &key)).map(drop)
}

fn warn_of_revoked(found: &ResolvedIdentity, terminal: &mut Terminal<'_>) {
    if found.revoked {
        terminal.say(format!("WARNING: the key of {} is REVOKED: whoever has it may not be the service.", found.id));
    }
}

/// Reads a request, checks that the provider's current key signed it, and the domain if that can be done over https.
fn checked(
    path: &Path,
    manifest: &Manifest,
    query: Option<&Query>,
    terminal: &mut Terminal<'_>,
) -> Result<Requested, Failure> {
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
    let Requested { domain, method, contact, created, .. } = &requested;
    terminal.say(format!("Requested {created} by {} of {home}; contact: {contact}", requested.provider));
    match method {
        Method::Https => {
            check_https(&format!("https://{domain}"), &home, &requested.provider)?;
            terminal.say(format!("Checked: https://{domain}/{} names it.", WELL_KNOWN.join("/")));
        }
        Method::Dns | Method::Manual => {
            let wanted = proof_wanted(*method, domain, &requested.provider);
            terminal.say(format!("NOT CHECKED HERE: the domain. Look for {wanted}."));
        }
    }
    Ok(requested)
}
