//! From one version of the manifest to the next: the draft, what is shown for its cuts, words and signatures.
mod changes;
mod evidence;
mod gather;
mod paper;
mod plan;
mod record;

pub use changes::changes;
pub use evidence::{CutEvidence, Evidence};
pub use gather::{Gathered, Place};
pub use paper::{Paper, render};
pub use plan::Plan;
pub use record::record;

use fama_ledger::cut::{CutError, Ground, honest};
use fama_ledger::id::Domain;
use fama_ledger::log::Head;
use fama_ledger::manifest::{Cut, LogId, Manifest, Signers};
use fama_ledger::signed_note::NoteError;

use crate::failure::Failure;

/// File name of a draft.
pub const DRAFT_FILE: &str = "draft.txt";
/// File name of the chain of versions before a draft.
pub const CHAIN_FILE: &str = "chain.txt";
/// File name of what is shown for a draft's cuts.
pub const EVIDENCE_FILE: &str = "evidence.json";

/// The operators of the version before whose node keys gave their word for `next`.
///
/// # Errors
/// `bad_word`: a line of a known node key does not hold.
pub fn words(previous: &Manifest, next: &Manifest) -> Result<Vec<Domain>, Failure> {
    let mut found = Vec::new();
    for operator in previous.operators() {
        match next.note().verify(operator.name.as_str(), &operator.node_key) {
            Ok(()) => found.push(operator.name.clone()),
            Err(NoteError::Unsigned { .. }) => {}
            Err(error) => return Err(Failure::new("bad_word", error)),
        }
    }
    Ok(found)
}

/// Whether `operator` may sign each of the version's cuts, and on what ground.
///
/// # Errors
/// [`CutError`] of the first that it may not sign.
pub fn grounds<'a>(
    previous: &Manifest,
    next: &'a Manifest,
    evidence: &Evidence,
    operator: &Domain,
) -> Result<Vec<(&'a LogId, Ground)>, CutError> {
    next.cuts().map(|cut| Ok((&cut.log, evidence.shown(previous, cut).check(operator)?))).collect()
}

/// Whether one of those who gave their words surely holds each log that the version cuts up to there, and has
/// compared it: who gives up its own branch has another.
///
/// # Errors
/// `words_missing`, and of which log.
pub fn check_holders(
    previous: &Manifest,
    next: &Manifest,
    evidence: &Evidence,
    words: &[Domain],
) -> Result<(), Failure> {
    for cut in next.cuts().filter(|cut| cut.head != Head::EMPTY) {
        let holds = |name: &&Domain| {
            let ground = evidence.shown(previous, cut).check(name);
            **name != cut.log.operator && matches!(ground, Ok(Ground::Extends | Ground::Certified))
        };
        let (found, wanted) = (words.iter().filter(holds).count(), honest(previous, &cut.log.operator));
        if found < wanted {
            return Err(unheld(cut, found, wanted));
        }
    }
    Ok(())
}

fn unheld(cut: &Cut, found: usize, wanted: usize) -> Failure {
    let message = format!(
        "{found} of those who agreed have the branch of {} that goes on, {wanted} must: one of them is honest and \
         has compared it",
        cut.log
    );
    Failure::new("words_missing", message).hint("those who hold that branch run `fama federation agree`, too")
}

/// The operators of a version that `signers` lacks.
#[must_use]
pub fn missing(manifest: &Manifest, signers: &Signers) -> Vec<Domain> {
    let operators = manifest.at(signers.version).map_or(&[][..], Manifest::operators);
    let names = operators.iter().map(|operator| operator.name.clone());
    names.filter(|name| !signers.signed.contains(name)).collect()
}

/// Names, for people.
#[must_use]
pub fn list(names: &[Domain]) -> String {
    if names.is_empty() {
        return "nobody".to_owned();
    }
    names.iter().map(Domain::as_str).collect::<Vec<_>>().join(", ")
}
