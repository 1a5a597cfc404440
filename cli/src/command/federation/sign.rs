//! `fama federation sign`: signs a draft with a governance key.
use std::path::PathBuf;

use fama_ledger::id::Domain;
use fama_ledger::key::PublicKey;
use fama_ledger::manifest::VersionState;
use fama_ledger::signed_note;

use super::dossier::{self, Dossier, grounds, grounds_line, progress_json, progress_lines};
use crate::failure::Failure;
use crate::files;
use crate::governance::{approvals, check_holders, list, record};
use crate::terminal::{FieldList, Terminal};

/// Examples that follow the help text.
pub(super) const EXAMPLE: &str = "\
Example: offline, with draft.txt, chain.txt and evidence.json on a USB stick
  fama federation sign stick/draft.txt --key governance.pem";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    dossier: dossier::DossierFiles,
    /// The operator's governance key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Skip the confirmation
    #[arg(long)]
    yes: bool,
}

/// Signs a draft with a governance key, at most one text per version.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let secret = files::read_key(&args.key)?;
    let mut dossier = args.dossier.read()?;
    let operator = signer(&dossier, &secret.public())?;
    check_approvals(&dossier)?;
    terminal.say(dossier.summary());
    grounds_line(&grounds(&dossier, &operator)?).into_iter().for_each(|line| terminal.say(line));
    terminal.say("A governance key signs only one text of a version, forever.");
    terminal.confirm(&format!("Sign as {operator}?"), args.yes)?;
    record(&args.key, &dossier.next)?;
    let key = secret.ed25519().ok_or_else(|| Failure::new("key_algorithm", "a governance key is an Ed25519 key"))?;
    dossier.signed_text.add(signed_note::sign(&dossier.signed_text.note.text, operator.as_str(), key))?;
    dossier.next = dossier.previous.unsigned_successor(dossier.signed_text.note.clone())?;
    terminal.answer(
        &progress_json(&dossier.previous, &dossier.next)?,
        FieldList(progress_lines(&dossier.previous, &dossier.next)?),
    )
}

/// The operator that owns this governance key in one of the versions whose quorums must sign.
fn signer(dossier: &Dossier, key: &PublicKey) -> Result<Domain, Failure> {
    let versions = dossier.next.signers()?.into_iter().filter_map(|one| dossier.previous.at(one.version));
    let mut operators = versions.flat_map(|version| version.operators());
    let owner = operators.find(|operator| operator.governance_key.as_bytes() == key.as_bytes());
    owner.map(|operator| operator.name.clone()).ok_or_else(|| {
        Failure::new("not_an_operator", format!("{key} is not a governance key that may sign this version"))
            .hint("versions are signed with an operator's governance.pem")
    })
}

/// Checks that a quorum approved this text, including operators that compared its cuts.
fn check_approvals(dossier: &Dossier) -> Result<(), Failure> {
    let (given, wanted) = (approvals(&dossier.previous, &dossier.next)?, dossier.previous.quorum());
    if dossier.state()? != VersionState::Draft {
        return check_holders(&dossier.previous, &dossier.next, &dossier.evidence, &given);
    }
    let message = format!("{} of {wanted} needed operators agreed on this text: {}", given.len(), list(&given));
    Err(Failure::new("words_missing", message)
        .hint("each runs `fama federation agree DRAFT --key node.pem`; signatures split between two texts are lost"))
}
