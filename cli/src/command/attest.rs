//! `fama attest`: gives karma to an identity.
use fama_ledger::event::{Action, Context};
use fama_ledger::id::Domain;
use fama_ledger::note::Note;

use super::submission::SubmissionArgs;
use crate::author::{self, EventDraft};
use crate::failure::Failure;
use crate::identity::ResolvedIdentity;
use crate::terminal::Terminal;

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Example:
  fama attest swift-core-maps@alpha.example --issuer mloverflow@beta.example --delta 5 \\
    --context code --reason 'accepted answer' --ref https://mloverflow.example/a/17 \\
    --manifest manifest.txt --key service.pem --query http://127.0.0.1:8080

It counts while enough operators sponsor the issuer: `fama admit`. Reason and ref go into a note
outside the ledger, which can be deleted; the ledger keeps only its hash.";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The identity that receives it: `name@home`, id or DID
    pub(super) subject: String,
    /// The identity that gives it: `name@home`, id or DID
    #[arg(long, value_name = "IDENTITY")]
    pub(super) issuer: String,
    /// How much karma, above or below 0
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(super) delta: i32,
    /// The topic: a word of a-z 0-9 . _ -
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    pub(super) context: Option<Context>,
    /// Why, at most 200 bytes
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(super) reason: Option<String>,
    /// Where to find more, at most 512 bytes
    #[arg(long = "ref", value_name = "TEXT", allow_hyphen_values = true)]
    pub(super) reference: Option<String>,
    /// The issuer's home, if no node is asked
    #[arg(long, value_name = "DOMAIN")]
    pub(super) home: Option<Domain>,
    #[command(flatten)]
    pub(super) submission: SubmissionArgs,
}

/// Checks the amount against the policy and submits the attestation.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let delivery = args.submission.delivery()?;
    let manifest = &delivery.manifest;
    let max = manifest.policy().max_delta;
    if args.delta == 0 || args.delta.unsigned_abs() > max {
        return Err(Failure::new("delta", format!("{} is 0 or beyond ±{max}", args.delta))
            .hint("the manifest's max_delta bounds one attestation"));
    }
    let key = args.submission.key()?;
    let query = args.submission.query(&delivery)?;
    let issuer = ResolvedIdentity::find(&args.issuer, query.as_ref())?;
    let subject = ResolvedIdentity::find(&args.subject, query.as_ref())?.id;
    let note = Note { reason: args.reason.clone(), reference: args.reference.clone(), ..Note::default() };
    let (text, note) = author::note(note)?;
    let (home, context) = (issuer.home(args.home.as_ref())?, args.context.clone());
    let action = Action::Attest { home, issuer: issuer.id, subject, delta: args.delta, context, note };
    let event = author::event(manifest.federation(), action)?;
    let draft = EventDraft { note: text, ..EventDraft::new(event, &key) };
    args.submission.finish(terminal, &delivery, draft).map(drop)
}
