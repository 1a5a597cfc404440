//! `fama dismiss`: ends a sponsorship, as an operator.
use fama_ledger::event::{Action, DismissReason, Service};
use fama_ledger::id::Domain;
use serde_json::Value;

use super::admit::operator_of;
use super::agent::{numbers, text};
use super::submission::SubmissionArgs;
use crate::author::{self, EventDraft};
use crate::failure::Failure;
use crate::identity::ResolvedIdentity;
use crate::query::Query;
use crate::terminal::Terminal;

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Example: what alpha.example may dismiss; then the service's attestations and retractions no longer
count from number 1200 on
  fama dismiss mloverflow@beta.example --manifest manifest.txt --key alpha.example/node.pem \\
    --query http://127.0.0.1:8080
  fama dismiss mloverflow@beta.example --service mloverflow --domain mloverflow.example \\
    --from 1200 --reason key_compromised --manifest manifest.txt --key alpha.example/node.pem \\
    --query http://127.0.0.1:8080";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The provider: `name@home`, id or DID
    provider: String,
    /// The name of the service [default: the one that this operator sponsors]
    #[arg(long, allow_hyphen_values = true)]
    service: Option<Service>,
    /// The service's domain [default: that of the service that this operator sponsors]
    #[arg(long)]
    domain: Option<Domain>,
    /// The number of the provider's first attestation or retraction that no longer counts; without it, the numbers are shown
    #[arg(long, value_name = "N")]
    from: Option<u64>,
    /// misconduct, key_compromised, expired or unspecified
    #[arg(long, default_value = "unspecified")]
    reason: DismissReason,
    #[command(flatten)]
    submission: SubmissionArgs,
}

/// Submits the end of a sponsorship, after it told what that changes.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let delivery = args.submission.delivery_by_the_newest()?;
    let manifest = &delivery.manifest;
    let key = args.submission.key()?;
    let operator = operator_of(manifest, &key.public())?;
    let query = args.submission.query(&delivery)?;
    let provider = ResolvedIdentity::find(&args.provider, query.as_ref())?.id;
    let (service, domain, from) = match (&args.service, &args.domain, args.from) {
        (Some(service), Some(domain), Some(from)) => (service.clone(), domain.clone(), from),
        _ => args.completed(query.as_ref(), &operator, &provider.to_string())?,
    };
    if let Some(query) = &query {
        warn(query, &provider.to_string(), (&operator, &service, &domain, from), terminal)?;
    }
    let action = Action::Dismiss { operator, provider, service, domain, from, reason: args.reason };
    let event = author::event(manifest.federation(), action)?;
    args.submission.finish(terminal, &delivery, EventDraft::new(event, &key)).map(drop)
}

impl Args {
    /// What the options leave open, from what the operator sponsors.
    ///
    /// # Errors
    /// `from_needed` with the numbers to choose from; `service_needed`, `not_sponsored`, `query_needed`.
    fn completed(
        &self,
        query: Option<&Query>,
        operator: &Domain,
        provider: &str,
    ) -> Result<(Service, Domain, u64), Failure> {
        let query = query.ok_or_else(|| {
            Failure::new("query_needed", "what is sponsored is not known")
                .hint("ask a node with --query URL, or state --service, --domain and --from")
        })?;
        let shown = query.get(&["agent", provider, "sponsorship"], &[])?;
        let own = |service: &Value| {
            let mut sponsors = service["sponsors"].as_array()?.iter();
            let of = sponsors.find(|one| one["operator"] == operator.as_str())?["numbers"].clone();
            let name: Service = service["service"].as_str()?.parse().ok()?;
            Some((name, service["domain"].as_str()?.parse::<Domain>().ok()?, of))
        };
        let meant = |(service, domain, _): &(Service, Domain, Value)| {
            self.service.as_ref().is_none_or(|meant| meant == service)
                && self.domain.as_ref().is_none_or(|meant| meant == domain)
        };
        let mut all: Vec<_> =
            shown["services"].as_array().into_iter().flatten().filter_map(own).filter(meant).collect();
        if all.len() > 1 {
            let names: Vec<String> = all.iter().map(|(name, domain, _)| format!("{name} of {domain}")).collect();
            return Err(Failure::new("service_needed", format!("{operator} sponsors it as {}", names.join(", ")))
                .hint("choose with --service and --domain"));
        }
        let (service, domain, of) = all.pop().ok_or_else(|| {
            Failure::new("not_sponsored", format!("{operator} does not sponsor that provider"))
                .hint("`fama agent` shows who does")
        })?;
        let from = self.from.ok_or_else(|| {
            let next = text(&shown["next_number"]);
            let message = format!(
                "from which number on? {operator} sponsors {service} of {domain} {}; the next number is {next}",
                numbers(&of)
            );
            let ends = of.as_array().and_then(|all| all.last()).is_some_and(|last| last["before"].is_u64());
            let keeps = if ends { "it ends there already; " } else { "" };
            let keep = if ends { String::new() } else { format!("--from {next} keeps all that was given, ") };
            Failure::new("from_needed", message)
                .hint(format!("{keeps}{keep}--from 0 drops it all; `fama event ID` shows an attestation's number"))
        })?;
        Ok((service, domain, from))
    }
}

/// Says what the dismissal changes; above all that retracted karma would count again.
fn warn(
    query: &Query,
    provider: &str,
    (operator, service, domain, from): (&Domain, &Service, &Domain, u64),
    terminal: &mut Terminal<'_>,
) -> Result<(), Failure> {
    let parameters = [
        ("operator", operator.to_string()),
        ("service", service.to_string()),
        ("domain", domain.to_string()),
        ("dismiss_from", from.to_string()),
    ];
    let shown = query.get(&["agent", provider, "sponsorship"], &parameters)?;
    let effect = &shown["dismissal"];
    let (lost, revived) = (&effect["lost"], &effect["revived"]);
    let count = |of: &Value| of["count"].as_u64().unwrap_or_default();
    terminal.say(format!("{} attestations ({} points) stop counting.", count(lost), text(&lost["sum"])));
    if count(revived) > 0 {
        terminal.say(format!(
            "WARNING: {} retracted attestations ({} points) COUNT AGAIN, because their retractions have numbers from {from} \
             on. --from a number after the last retraction that you trust avoids that.",
            count(revived),
            text(&revived["sum"])
        ));
    }
    if effect["complete"] == false {
        terminal.say("The provider gave so much that not all of it was looked at: these are lower bounds.");
    }
    Ok(())
}
