//! A draft on the desk with all that belongs to it.
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fama_ledger::manifest::Manifest;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::files;
use crate::governance::{self, CHAIN_FILE, EVIDENCE_FILE, Evidence, Paper, changes, list, missing, words};

/// A draft and the files beside it.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// The draft
    draft: PathBuf,
    /// The chain of versions before it [default: chain.txt beside the draft]
    #[arg(long, value_name = "FILE")]
    chain: Option<PathBuf>,
    /// What shows that its cuts lose nothing final [default: evidence.json beside the draft]
    #[arg(long, value_name = "FILE")]
    evidence: Option<PathBuf>,
}

/// All of it, read and checked, but for who signed.
pub(super) struct Desk {
    /// The newest version before the draft.
    pub(super) previous: Arc<Manifest>,
    /// The draft's file.
    pub(super) paper: Paper,
    /// The draft as the version that it would be.
    pub(super) next: Manifest,
    /// For its cuts; empty if there are none.
    pub(super) evidence: Evidence,
}

impl Options {
    fn beside(&self, given: Option<&PathBuf>, name: &str) -> PathBuf {
        given.cloned().unwrap_or_else(|| self.draft.with_file_name(name))
    }

    /// Reads all files.
    pub(super) fn read(&self) -> Result<Desk, Failure> {
        let paper = Paper::read(&self.draft)?;
        let previous = chain(&self.beside(self.chain.as_ref(), CHAIN_FILE))?;
        let next = previous.unsigned_successor(paper.note.clone());
        let next = next.map_err(|error| Failure::from(error).about(self.draft.display()))?;
        let evidence = if next.cuts().next().is_some() {
            Evidence::read(&self.beside(self.evidence.as_ref(), EVIDENCE_FILE), &previous)?
        } else {
            Evidence::default()
        };
        Ok(Desk { previous, paper, next, evidence })
    }
}

/// Reads the chain of versions before a draft.
pub(super) fn chain(path: &Path) -> Result<Arc<Manifest>, Failure> {
    files::read_manifest(path)
        .map_err(|failure| failure.hint("--chain FILE names the chain of versions before the draft"))
}

impl Desk {
    /// What the draft says, for a person who is to agree or sign.
    pub(super) fn summary(&self) -> String {
        let mut text =
            format!("version {} of {}, hash {}\n", self.next.version(), self.next.federation(), self.next.hash());
        for change in changes(&self.previous, &self.next) {
            text.push_str(&format!("  {change}\n"));
        }
        text
    }
}

/// Who agreed, who signed and who is missing, for a program.
pub(super) fn progress_json(previous: &Manifest, next: &Manifest) -> Result<Value, Failure> {
    let signers = next.signers()?;
    let one = |one: &fama_ledger::manifest::Signers| {
        json!({
            "version": one.version, "wanted": one.wanted, "signed": names(&one.signed),
            "missing": names(&missing(previous, one)),
        })
    };
    let complete = signers.iter().all(|one| one.signed.len() >= one.wanted);
    Ok(json!({
        "version": next.version(), "hash": next.hash().to_string(), "changes": changes(previous, next),
        "words": {"wanted": previous.quorum(), "given": names(&words(previous, next)?)},
        "signers": signers.iter().map(one).collect::<Vec<_>>(), "complete": complete,
    }))
}

/// The same for people.
pub(super) fn progress_lines(previous: &Manifest, next: &Manifest) -> Result<Vec<(&'static str, String)>, Failure> {
    let words = words(previous, next)?;
    let agreed = format!("{} of {} needed: {}", words.len(), previous.quorum(), list(&words));
    let mut lines = vec![("agreed", agreed)];
    for one in next.signers()? {
        let by =
            format!("{} of {} needed of version {}: {}", one.signed.len(), one.wanted, one.version, list(&one.signed));
        lines.push(("signed", format!("{by}\nmissing: {}", list(&missing(previous, &one)))));
    }
    Ok(lines)
}

fn names(domains: &[fama_ledger::id::Domain]) -> Vec<&str> {
    domains.iter().map(fama_ledger::id::Domain::as_str).collect()
}

/// Adds what a person sees of grounds that are not the plain one.
pub(super) fn grounds_line(grounds: &[(&fama_ledger::manifest::LogId, fama_ledger::cut::Ground)]) -> Option<String> {
    use fama_ledger::cut::Ground;
    let given_up = grounds.iter().filter(|(_, ground)| *ground != Ground::Extends);
    let logs: Vec<String> = given_up.map(|(log, _)| log.to_string()).collect();
    (!logs.is_empty()).then(|| {
        format!(
            "your node cosigned entries of {} that the cut does not have; the evidence shows that they are final nowhere",
            logs.join(", ")
        )
    })
}

/// As [`governance::grounds`], as a failure that says what about.
pub(super) fn grounds<'a>(
    desk: &'a Desk,
    operator: &fama_ledger::id::Domain,
) -> Result<Vec<(&'a fama_ledger::manifest::LogId, fama_ledger::cut::Ground)>, Failure> {
    Ok(governance::grounds(&desk.previous, &desk.next, &desk.evidence, operator)?)
}
