//! `fama federation agree`
use std::path::PathBuf;

use fama_ledger::cut::Ground;
use fama_ledger::id::Domain;
use fama_ledger::log::Head;
use fama_ledger::manifest::{Cut, LogId};
use fama_ledger::signed_note;

use super::desk::{self, Desk, grounds, grounds_line, progress_json, progress_lines};
use crate::command::admit::operator_of;
use crate::failure::Failure;
use crate::files;
use crate::governance::Place;
use crate::query::{self, Query};
use crate::terminal::{Table, Terminal};

/// Shown below the help.
pub(super) const EXAMPLE: &str = "\
Example: on the machine of alpha.example's node
  fama federation agree next/draft.txt --key alpha.example/node.pem --query http://127.0.0.1:8080";

/// Options.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    desk: desk::Options,
    /// The operator's node key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The own node, whose copy is compared with every cut
    #[arg(long, value_name = "URL", default_value = query::DEFAULT)]
    query: String,
    /// Don't ask
    #[arg(long)]
    yes: bool,
}

/// Does it.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let key = files::read_key(&args.key)?;
    let mut desk = args.desk.read()?;
    let operator = operator_of(&desk.previous, &key.public())?;
    let node = Query::new(&args.query);
    let grounds = grounds(&desk, &operator)?;
    for (cut, (_, ground)) in desk.next.cuts().zip(&grounds) {
        let held = desk.evidence.shown(&desk.previous, cut).is_held();
        check_copy(cut, (*ground, held), &node, terminal)?;
    }
    terminal.say(desk.summary());
    grounds_line(&grounds).into_iter().for_each(|line| terminal.say(line));
    terminal.confirm(&format!("Does {operator} agree?"), args.yes)?;
    give_word(&mut desk, &operator, &key)?;
    terminal.answer(&progress_json(&desk.previous, &desk.next)?, Table(progress_lines(&desk.previous, &desk.next)?))
}

fn give_word(desk: &mut Desk, operator: &Domain, key: &fama_ledger::secret::SecretKey) -> Result<(), Failure> {
    let key = key.ed25519().ok_or_else(|| Failure::new("key_algorithm", "a node key is an Ed25519 key"))?;
    desk.paper.add(signed_note::sign(&desk.paper.note.text, operator.as_str(), key))?;
    desk.next = desk.previous.unsigned_successor(desk.paper.note.clone())?;
    Ok(())
}

/// Whether the own node's copy is what the draft says where it cuts. The draft's signers can't see it: they go
/// by the words of those whose nodes have that branch.
fn check_copy(
    cut: &Cut,
    (ground, held): (Ground, bool),
    node: &Query,
    terminal: &mut Terminal<'_>,
) -> Result<(), Failure> {
    if cut.head == Head::EMPTY {
        return Ok(());
    }
    let log = &cut.log;
    match Place::ask(node, log, &cut.head) {
        Ok(Some(place)) => check_place(cut, &place, held),
        Ok(None) if ground == Ground::GivenUp => unheld(log, terminal),
        Err(failure) if ground == Ground::GivenUp && failure.code == "bad_size" => unheld(log, terminal),
        Ok(None) => {
            let message = format!("{}: its copy of {log} has another head at {} entries", node.base(), cut.head.size);
            Err(Failure::new("cut_unheld", message).hint("has the node fetched that log? --query URL names the node"))
        }
        Err(failure) => Err(failure),
    }
}

fn check_place(cut: &Cut, place: &Place, held: bool) -> Result<(), Failure> {
    let (log, size) = (&cut.log, cut.head.size);
    if (place.state_root, place.adopted) != (cut.state_root, cut.adopted) {
        let message = format!("the state of {log} at {size} entries is not what the draft says");
        return Err(Failure::new("cut_state", message).hint("the draft is wrong: don't sign it, draft anew"));
    }
    // A node that was away may not know what is certified; an honest one that cosigned the cut did.
    if !place.may_end() && !held {
        let message = format!("{log} adopts more than one version below {size} entries that no quorum certified");
        return Err(Failure::new("cut_uncertified", message)
            .hint("another branch may be final: don't sign it, draft anew without the stand of who cosigned this"));
    }
    Ok(())
}

/// The own copy of a branch that is given up shows nothing of the cut.
fn unheld(log: &LogId, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    terminal.say(format!(
        "Your node has not the branch of {log} that goes on: its state was not compared. Nobody can sign before \
         operators agree whose nodes have."
    ));
    Ok(())
}
