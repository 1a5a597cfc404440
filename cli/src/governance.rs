//! From one manifest version to the next: the draft, the evidence for its cuts, approvals and signatures.
mod evidence;
mod gather;
mod plan;
mod record;
mod signed_text;

pub(crate) use evidence::{CutEvidence, Evidence};
pub(crate) use fama_ledger::manifest::changes;
pub(crate) use gather::{CopyAtHead, Gathered};
pub(crate) use plan::{EndpointChanges, VersionPlan};
pub(crate) use record::record;
pub(crate) use signed_text::{SignedText, render};

use std::time::{Duration, Instant};

use fama_ledger::cut::{CutError, Ground, honest};
use fama_ledger::id::Domain;
use fama_ledger::log::Head;
use fama_ledger::manifest::{Cut, LogId, Manifest, Signers};
use fama_ledger::signed_note::NoteError;
use serde_json::Value;

use crate::failure::Failure;

/// File name of a draft.
pub(crate) const DRAFT_FILE: &str = "draft.txt";
/// File name of the chain of versions before a draft.
pub(crate) const CHAIN_FILE: &str = "chain.txt";
/// File name of the evidence for a draft's cuts.
pub(crate) const EVIDENCE_FILE: &str = "evidence.json";

/// How long logs may take to adopt the newest version before a command says that they are behind.
pub(crate) const ADOPTION_WAIT: Duration = Duration::from_secs(10);
/// Time between two looks at the nodes.
pub(crate) const ADOPTION_PAUSE: Duration = Duration::from_millis(500);

/// Asks a node again while its refusal has one of `codes`: a node that has just started, or just got a new version, needs
/// a moment until it can answer.
///
/// # Errors
/// The last refusal, after [`ADOPTION_WAIT`]; any other at once.
pub(crate) fn ask_until_ready<T>(codes: &[&str], mut ask: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    let begun = Instant::now();
    loop {
        match ask() {
            Err(failure) if codes.contains(&failure.code.as_str()) && begun.elapsed() < ADOPTION_WAIT => {
                std::thread::sleep(ADOPTION_PAUSE);
            }
            answer => return answer,
        }
    }
}

/// The operators of the previous version whose node keys approved `next`.
///
/// # Errors
/// `bad_word`: a signature line of a known node key is invalid.
pub(crate) fn approvals(previous: &Manifest, next: &Manifest) -> Result<Vec<Domain>, Failure> {
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

/// The grounds on which `operator` may sign each cut of `next`.
///
/// # Errors
/// [`CutError`] of the first cut that it may not sign.
pub(crate) fn grounds<'a>(
    previous: &Manifest,
    next: &'a Manifest,
    evidence: &Evidence,
    operator: &Domain,
) -> Result<Vec<(&'a LogId, Ground)>, CutError> {
    next.cuts().map(|cut| Ok((&cut.log, evidence.shown(previous, cut).check(operator)?))).collect()
}

/// Checks that the approving operators include, for each cut, at least one honest operator that holds the log up to the
/// cut and has compared it. Operators that give up their own branch do not count: they hold another one.
///
/// # Errors
/// `words_missing` with the log.
pub(crate) fn check_holders(
    previous: &Manifest,
    next: &Manifest,
    evidence: &Evidence,
    approvals: &[Domain],
) -> Result<(), Failure> {
    for cut in next.cuts().filter(|cut| cut.head != Head::EMPTY) {
        let holds = |name: &&Domain| {
            let ground = evidence.shown(previous, cut).check(name);
            **name != cut.log.operator && matches!(ground, Ok(Ground::Extends | Ground::Certified))
        };
        let (found, wanted) = (approvals.iter().filter(holds).count(), honest(previous, &cut.log.operator));
        if found < wanted {
            return Err(unheld(cut, found, wanted));
        }
    }
    Ok(())
}

fn unheld(cut: &Cut, found: usize, wanted: usize) -> Failure {
    let message = format!(
        "{found} of the operators that agreed hold the branch of {} that continues, {wanted} must: then at least one of \
         them is honest and has compared it",
        cut.log
    );
    Failure::new("words_missing", message).hint("operators that hold that branch run `fama federation agree`, too")
}

/// The logs that a version leaves behind, by a node's answer about the federation: those that must have adopted the
/// version before it, and have no certificate that shows it there. An owner that is proven to have signed two branches
/// keeps nobody from the next version.
pub(crate) fn behind<'a>(next: &'a Manifest, federation: &Value) -> Vec<&'a LogId> {
    let wanted = u64::from(next.version().saturating_sub(1));
    let shown = |log: &LogId| {
        let logs = federation["logs"].as_array()?;
        logs.iter().find(|shown| shown["log"].as_str() == Some(&log.to_string()))
    };
    let there = |log: &LogId| {
        shown(log).is_some_and(|shown| {
            shown["certified_version"].as_u64() >= Some(wanted) || shown["fault"].as_str() == Some("equivocation")
        })
    };
    next.must_have_adopted().filter(|log| !there(log)).collect()
}

/// Refuses a version that leaves logs behind.
///
/// # Errors
/// `logs_behind` with the logs.
pub(crate) fn check_behind(next: &Manifest, behind: &[&LogId]) -> Result<(), Failure> {
    if behind.is_empty() {
        return Ok(());
    }
    let logs: Vec<String> = behind.iter().map(ToString::to_string).collect();
    let message = format!(
        "no certified adoption of version {} is known in {}; version {} would leave them behind",
        next.version().saturating_sub(1),
        logs.join(", "),
        next.version()
    );
    Err(Failure::new("logs_behind", message).hint(
        "a log adopts by itself once its node runs and a quorum of the others cosigns; else this version must cut it",
    ))
}

/// The operators of a version that have not signed.
#[must_use]
pub(crate) fn missing(manifest: &Manifest, signers: &Signers) -> Vec<Domain> {
    let operators = manifest.at(signers.version).map_or(&[][..], Manifest::operators);
    let names = operators.iter().map(|operator| operator.name.clone());
    names.filter(|name| !signers.signed.contains(name)).collect()
}

/// Names separated by commas, or `nobody`.
#[must_use]
pub(crate) fn list(names: &[Domain]) -> String {
    if names.is_empty() {
        return "nobody".to_owned();
    }
    names.iter().map(Domain::as_str).collect::<Vec<_>>().join(", ")
}
