//! `fama request`: asks operators to sponsor a service.
use std::path::PathBuf;

use fama_ledger::event::{Method, Service};
use fama_ledger::id::Domain;
use fama_node::clock;
use serde_json::json;

use crate::failure::Failure;
use crate::files::{self, PUBLIC_MODE};
use crate::identity::ResolvedIdentity;
use crate::settings::{self, QueryArgs};
use crate::sponsor_request::{Requested, proof_wanted};
use crate::terminal::{FieldList, Terminal};

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Example: the file goes to the operators, who read it with `fama admit --request`
  fama request mloverflow@beta.example --service mloverflow --domain mloverflow.example \\
    --method https --contact ops@mloverflow.example --manifest manifest.txt --key service.pem --out request.json

Operators want to see that you have the domain. The answer says what to publish there, and where.";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The identity that is to give karma: `name@home`, id or DID
    provider: String,
    /// The name of the service
    #[arg(long)]
    service: Service,
    /// The service's domain
    #[arg(long)]
    domain: Domain,
    /// How operators can check that you have the domain: dns, https or manual
    #[arg(long, default_value = "https")]
    method: Method,
    /// Where operators can ask: an address of mail or the web
    #[arg(long, value_name = "TEXT", default_value = "")]
    contact: String,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The federation's manifest [default: FAMA_MANIFEST, or that of `fama init`]
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// The provider's key [default: FAMA_KEY, or that of `fama init`]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    #[command(flatten)]
    query: QueryArgs,
}

/// Writes a signed request.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let (_, manifest) = settings::manifest(args.manifest.as_deref())?;
    let key = files::read_key(&settings::key(args.key.as_deref())?)?;
    let found = ResolvedIdentity::find(&args.provider, args.query.open_for(&manifest)?.as_ref())?;
    if found.key.is_some_and(|current| current != key.public()) {
        return Err(Failure::new("not_authorized", format!("{} is not the current key of {}", key.public(), found.id)));
    }
    if found.revoked {
        return Err(Failure::new("revoked", format!("the key of {} is revoked: nobody should sponsor it", found.id)));
    }
    let requested = Requested {
        federation: manifest.federation(),
        provider: found.id,
        service: args.service.clone(),
        domain: args.domain.clone(),
        method: args.method,
        contact: args.contact.clone(),
        created: clock::now(),
        signer: key.public(),
    };
    let request = requested.sign(&key)?;
    let text = serde_json::to_string_pretty(&request).map_err(|error| Failure::new("internal", error))?;
    files::create(&args.out, &format!("{text}\n"), PUBLIC_MODE)?;
    let claim = found.claim(args.domain.clone(), manifest.federation());
    let wanted = proof_wanted(args.method, &claim);
    let operators: Vec<&str> = manifest.operators().iter().map(|operator| operator.name.as_str()).collect();
    let sponsors = manifest.policy().min_sponsors;
    let json = json!({
        "file": args.out.display().to_string(), "provider": found.id.to_string(), "publish": wanted,
        "sponsors_wanted": sponsors, "operators": operators,
    });
    let lines = vec![
        ("written", args.out.display().to_string()),
        ("publish", wanted),
        ("send it to", format!("{sponsors} or more of the operators {}", operators.join(", "))),
    ];
    terminal.answer(&json, FieldList(lines))
}
