//! `fama federation sign`
use std::path::PathBuf;

use fama_ledger::id::Domain;
use fama_ledger::key::PublicKey;
use fama_ledger::signed_note;

use super::desk::{self, Desk, grounds, grounds_line, progress_json, progress_lines};
use crate::failure::Failure;
use crate::files;
use crate::governance::{check_holders, list, record, words};
use crate::terminal::{Table, Terminal};

/// Shown below the help.
pub(super) const EXAMPLE: &str = "\
Example: offline, with draft.txt, chain.txt and evidence.json on a stick
  fama federation sign stick/draft.txt --key governance.pem";

/// Options.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    desk: desk::Options,
    /// The operator's governance key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Don't ask
    #[arg(long)]
    yes: bool,
}

/// Does it.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let secret = files::read_key(&args.key)?;
    let mut desk = args.desk.read()?;
    let operator = signer(&desk, &secret.public())?;
    check_words(&desk)?;
    terminal.say(desk.summary());
    grounds_line(&grounds(&desk, &operator)?).into_iter().for_each(|line| terminal.say(line));
    terminal.say("A governance key signs one text of a version, for ever.");
    terminal.confirm(&format!("Sign as {operator}?"), args.yes)?;
    record(&args.key, &desk.next)?;
    let key = secret.ed25519().ok_or_else(|| Failure::new("key_algorithm", "a governance key is an Ed25519 key"))?;
    desk.paper.add(signed_note::sign(&desk.paper.note.text, operator.as_str(), key))?;
    desk.next = desk.previous.unsigned_successor(desk.paper.note.clone())?;
    terminal.answer(&progress_json(&desk.previous, &desk.next)?, Table(progress_lines(&desk.previous, &desk.next)?))
}

/// The operator whose governance key this is, in one of the versions whose quorums sign.
fn signer(desk: &Desk, key: &PublicKey) -> Result<Domain, Failure> {
    let versions = desk.next.signers()?.into_iter().filter_map(|one| desk.previous.at(one.version));
    let mut operators = versions.flat_map(|version| version.operators());
    let owner = operators.find(|operator| operator.governance_key.as_bytes() == key.as_bytes());
    owner.map(|operator| operator.name.clone()).ok_or_else(|| {
        Failure::new("not_an_operator", format!("{key} is no governance key that signs this version"))
            .hint("versions are signed with an operator's governance.pem")
    })
}

/// A quorum must have agreed on this text before anybody signs it, and among it who compared its cuts.
fn check_words(desk: &Desk) -> Result<(), Failure> {
    let (given, wanted) = (words(&desk.previous, &desk.next)?, desk.previous.quorum());
    if given.len() >= wanted {
        return check_holders(&desk.previous, &desk.next, &desk.evidence, &given);
    }
    let message = format!("{} of {wanted} operators needed agreed on this text: {}", given.len(), list(&given));
    Err(Failure::new("words_missing", message).hint(
        "each runs `fama federation agree DRAFT --key node.pem`; signatures split between two texts can't be saved",
    ))
}
