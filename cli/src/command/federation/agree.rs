//! `fama federation agree`: adds an operator's approval to a draft.
use std::path::PathBuf;

use fama_ledger::cut::Ground;
use fama_ledger::id::Domain;
use fama_ledger::log::Head;
use fama_ledger::manifest::{Cut, LogId, Manifest};
use fama_ledger::signed_note;

use super::dossier::{self, Dossier, grounds, grounds_line, progress_json, progress_lines};
use crate::command::admit::operator_of;
use crate::failure::Failure;
use crate::files;
use crate::governance::{CopyAtHead, ask_until_ready, behind, check_behind};
use crate::query::{self, Query};
use crate::terminal::{FieldList, Terminal};

/// Examples that follow the help text.
pub(super) const EXAMPLE: &str = "\
Example: on the machine of alpha.example's node
  fama federation agree next/draft.txt --key alpha.example/node.pem --query http://127.0.0.1:8080";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    dossier: dossier::DossierFiles,
    /// The operator's node key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Your own node, whose copy is compared with every cut
    #[arg(long, value_name = "URL", default_value = query::DEFAULT)]
    query: String,
    /// The admin listener of your own node, which has to know of a draft that ends logs
    #[arg(long, value_name = "URL", default_value = query::ADMIN)]
    admin: String,
    /// Skip the confirmation
    #[arg(long)]
    yes: bool,
}

/// Compares the cuts with the operator's own node, checks there that no other log is left behind, and adds its approval.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let key = files::read_key(&args.key)?;
    let mut dossier = args.dossier.read()?;
    let operator = operator_of(&dossier.previous, &key.public())?;
    let node = Query::new(&args.query);
    check_adoptions(&dossier.next, &node)?;
    let grounds = grounds(&dossier, &operator)?;
    for (cut, (_, ground)) in dossier.next.cuts().zip(&grounds) {
        let held = dossier.evidence.shown(&dossier.previous, cut).is_held();
        let unheld = ["cut_unheld", "bad_size", "unknown_log"];
        ask_until_ready(&unheld, || check_copy(cut, (*ground, held), &node, terminal))?;
    }
    terminal.say(dossier.summary());
    grounds_line(&grounds).into_iter().for_each(|line| terminal.say(line));
    terminal.confirm(&format!("Does {operator} agree?"), args.yes)?;
    if dossier.next.cuts().next().is_some() {
        // First: the node's cosignatures in these logs must not be newer than the approval.
        let (admin, text) = (Query::admin(&args.admin), &dossier.signed_text.note.text);
        let agreed = ask_until_ready(&["not_ready"], || admin.post_text(&["federation", "agree"], text));
        agreed
            .map_err(|failure| failure.hint_if_unreachable("--admin URL names the admin listener of your own node"))?;
    }
    approve(&mut dossier, &operator, &key)?;
    terminal.answer(
        &progress_json(&dossier.previous, &dossier.next)?,
        FieldList(progress_lines(&dossier.previous, &dossier.next)?),
    )
}

/// Checks that the operator's own node has every other log at the version before. Right after that version came into use
/// this takes a round of cosignatures, which is waited for.
fn check_adoptions(next: &Manifest, node: &Query) -> Result<(), Failure> {
    if next.must_have_adopted().next().is_none() {
        return Ok(());
    }
    ask_until_ready(&["logs_behind"], || check_behind(next, &behind(next, &node.get(&["federation"], &[])?)))
}

fn approve(dossier: &mut Dossier, operator: &Domain, key: &fama_ledger::secret::SecretKey) -> Result<(), Failure> {
    let key = key.ed25519().ok_or_else(|| Failure::new("key_algorithm", "a node key is an Ed25519 key"))?;
    dossier.signed_text.add(signed_note::sign(&dossier.signed_text.note.text, operator.as_str(), key))?;
    dossier.next = dossier.previous.unsigned_successor(dossier.signed_text.note.clone())?;
    Ok(())
}

/// Compares a cut with the copy of the operator's own node. Signers are offline and cannot: they rely on the approvals
/// of operators whose nodes hold that branch.
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
    match CopyAtHead::ask(node, log, &cut.head) {
        Ok(Some(copy)) => check_state(cut, &copy, held),
        Ok(None) if ground == Ground::GivenUp => unheld(log, terminal),
        Err(failure) if ground == Ground::GivenUp && failure.code == "bad_size" => unheld(log, terminal),
        Ok(None) => {
            let message = format!("{}: its copy of {log} has another head at {} entries", node.base(), cut.head.size);
            Err(Failure::new("cut_unheld", message).hint("has the node fetched that log? --query URL names the node"))
        }
        Err(failure) => Err(failure),
    }
}

fn check_state(cut: &Cut, copy: &CopyAtHead, held: bool) -> Result<(), Failure> {
    let (log, size) = (&cut.log, cut.head.size);
    if (copy.state_root, copy.adopted) != (cut.state_root, cut.adopted) {
        let message = format!("the state of {log} at {size} entries differs from the draft");
        return Err(Failure::new("cut_state", message).hint("the draft is wrong: don't sign it, draft again"));
    }
    // A node that was offline may not know what is certified. Honest operators that cosigned the cut knew it.
    if !copy.may_end() && !held {
        let message = format!("{log} adopts more than one version below {size} entries that no quorum certified");
        return Err(Failure::new("cut_uncertified", message)
            .hint("another branch may be final: don't sign it, draft again without the stand of the operator that cosigned this"));
    }
    Ok(())
}

/// The operator gives up its branch, so its node has nothing to compare the cut with.
fn unheld(log: &LogId, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    terminal.say(format!(
        "Your node does not have the branch of {log} that continues, so its state was not compared. Nobody can sign \
         until operators agree whose nodes have it."
    ));
    Ok(())
}
