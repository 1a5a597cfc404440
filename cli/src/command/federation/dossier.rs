//! A draft together with its chain and evidence.
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fama_ledger::manifest::{Manifest, VersionState};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::files;
use crate::governance::{self, CHAIN_FILE, EVIDENCE_FILE, Evidence, SignedText, approvals, changes, list, missing};

/// The files of a draft, as arguments.
#[derive(Debug, clap::Args)]
pub(super) struct DossierFiles {
    /// The draft
    draft: PathBuf,
    /// The chain of earlier versions [default: chain.txt next to the draft]
    #[arg(long, value_name = "FILE")]
    chain: Option<PathBuf>,
    /// The evidence that its cuts lose nothing final [default: evidence.json next to the draft]
    #[arg(long, value_name = "FILE")]
    evidence: Option<PathBuf>,
}

/// A draft whose files were read and checked; its signatures are not counted yet.
pub(super) struct Dossier {
    /// The newest version before the draft.
    pub(super) previous: Arc<Manifest>,
    /// The file that collects signatures.
    pub(super) signed_text: SignedText,
    /// The draft as a manifest version.
    pub(super) next: Manifest,
    /// The evidence for its cuts; empty if there are none.
    pub(super) evidence: Evidence,
}

impl DossierFiles {
    fn path_of(&self, given: Option<&PathBuf>, name: &str) -> PathBuf {
        given.cloned().unwrap_or_else(|| self.draft.with_file_name(name))
    }

    /// Reads and checks all files.
    pub(super) fn read(&self) -> Result<Dossier, Failure> {
        let signed_text = SignedText::read(&self.draft)?;
        let previous = chain(&self.path_of(self.chain.as_ref(), CHAIN_FILE))?;
        let next = previous.unsigned_successor(signed_text.note.clone());
        let next = next.map_err(|error| Failure::from(error).about(self.draft.display()))?;
        let evidence = if next.cuts().next().is_some() {
            Evidence::read(&self.path_of(self.evidence.as_ref(), EVIDENCE_FILE), &previous)?
        } else {
            Evidence::default()
        };
        Ok(Dossier { previous, signed_text, next, evidence })
    }
}

/// Reads the chain of versions before a draft.
pub(super) fn chain(path: &Path) -> Result<Arc<Manifest>, Failure> {
    files::read_manifest(path)
        .map_err(|failure| failure.hint("--chain FILE names the chain of versions before the draft"))
}

impl Dossier {
    /// How far its preparation is: [`VersionState::Draft`], `Approved` or `Signed`.
    pub(super) fn state(&self) -> Result<VersionState, Failure> {
        let signed = self.next.signers()?.iter().all(|one| one.signed.len() >= one.wanted);
        let approvals = approvals(&self.previous, &self.next)?;
        Ok(VersionState::of_text(approvals.len(), self.previous.quorum(), signed))
    }

    /// The changes of the draft, for a person who is asked to agree or sign.
    pub(super) fn summary(&self) -> String {
        let mut text =
            format!("version {} of {}, hash {}\n", self.next.version(), self.next.federation(), self.next.hash());
        for change in changes(&self.previous, &self.next) {
            text.push_str(&format!("  {change}\n"));
        }
        text
    }
}

/// Approvals and signatures of a draft, given and missing, as JSON.
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
        "words": {"wanted": previous.quorum(), "given": names(&approvals(previous, next)?)},
        "signers": signers.iter().map(one).collect::<Vec<_>>(), "complete": complete,
    }))
}

/// As [`progress_json`], as lines for people.
pub(super) fn progress_lines(previous: &Manifest, next: &Manifest) -> Result<Vec<(&'static str, String)>, Failure> {
    let approvals = approvals(previous, next)?;
    let agreed = format!("{} of {} needed: {}", approvals.len(), previous.quorum(), list(&approvals));
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

/// A warning if the operator's node cosigned entries that a cut gives up.
pub(super) fn grounds_line(grounds: &[(&fama_ledger::manifest::LogId, fama_ledger::cut::Ground)]) -> Option<String> {
    use fama_ledger::cut::Ground;
    let given_up = grounds.iter().filter(|(_, ground)| *ground != Ground::Extends);
    let logs: Vec<String> = given_up.map(|(log, _)| log.to_string()).collect();
    (!logs.is_empty()).then(|| {
        format!(
            "your node cosigned entries of {} that are not in the cut; the evidence shows that they are final nowhere",
            logs.join(", ")
        )
    })
}

/// As [`governance::grounds`], with a [`Failure`].
pub(super) fn grounds<'a>(
    dossier: &'a Dossier,
    operator: &fama_ledger::id::Domain,
) -> Result<Vec<(&'a fama_ledger::manifest::LogId, fama_ledger::cut::Ground)>, Failure> {
    Ok(governance::grounds(&dossier.previous, &dossier.next, &dossier.evidence, operator)?)
}
