//! `fama attest`
use fama_ledger::event::{Action, Context};
use fama_ledger::id::Domain;
use fama_ledger::note::Note;

use super::handing_in::HandingIn;
use crate::author::{self, Draft};
use crate::failure::Failure;
use crate::identity::Identity;
use crate::terminal::Terminal;

/// Shown below the help.
pub const EXAMPLE: &str = "\
Example:
  fama attest swift-core-maps@alpha.example --issuer mloverflow@beta.example --delta 5 \\
    --context code --reason 'accepted answer' --ref https://mloverflow.example/a/17 \\
    --manifest manifest.txt --key service.pem --query http://127.0.0.1:8080

It counts while enough operators sponsor the issuer: `fama admit`. Reason and ref go into a note
beside the ledger, which can be forgotten; the ledger keeps its hash only.";

/// Options.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Who gets it: `name@home`, id or DID
    subject: String,
    /// Who gives it: `name@home`, id or DID
    #[arg(long, value_name = "IDENTITY")]
    issuer: String,
    /// How much, above or below 0
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    delta: i32,
    /// What it is about: a word of a-z 0-9 . _ -
    #[arg(long, value_name = "WORD")]
    context: Option<Context>,
    /// Why, at most 200 bytes
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Where to look, at most 512 bytes
    #[arg(long = "ref", value_name = "TEXT")]
    reference: Option<String>,
    /// The issuer's home, if no node is asked
    #[arg(long, value_name = "DOMAIN")]
    home: Option<Domain>,
    #[command(flatten)]
    handing_in: HandingIn,
}

/// Does it.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let manifest = args.handing_in.manifest()?;
    let max = manifest.policy().max_delta;
    if args.delta == 0 || args.delta.unsigned_abs() > max {
        return Err(Failure::new("delta", format!("{} is 0 or beyond ±{max}", args.delta))
            .hint("the manifest's max_delta bounds one attestation"));
    }
    let key = args.handing_in.key()?;
    let query = args.handing_in.query();
    let issuer = Identity::find(&args.issuer, query.as_ref())?;
    let subject = Identity::find(&args.subject, query.as_ref())?.id;
    let note = Note { reason: args.reason.clone(), reference: args.reference.clone(), ..Note::default() };
    let (text, note) = author::note(note)?;
    let (home, context) = (issuer.home(args.home.as_ref())?, args.context.clone());
    let action = Action::Attest { home, issuer: issuer.id, subject, delta: args.delta, context, note };
    let event = author::event(manifest.federation(), action)?;
    let draft = Draft { note: text, ..Draft::new(event, &key) };
    args.handing_in.finish(terminal, &manifest, draft).map(drop)
}
