//! Notes: texts outside the logs, named by hash. A missing note is no fault.
use std::ops::ControlFlow;

use fama_ledger::id::NoteHash;
use fama_ledger::note::note_hash;
use fama_ledger::public::Path;
use fama_node::store::Store;

use super::figures::NoteCounts;
use super::finding::{AuditFinding, LieKind};
use super::ordered::in_order;
use super::{PublicFiles, read};
use crate::error::ReadError;

/// How many notes are fetched before they are stored.
const PAGE: usize = 1_024;
/// The audit of notes stops after this many findings.
const UNAVAILABLE_MAX: usize = 8;

/// Fetches the named notes that the auditor's store lacks, from any source, and stores them.
pub(super) fn check(
    store: &Store,
    sources: &[&dyn PublicFiles],
    findings: &mut Vec<AuditFinding>,
) -> Result<NoteCounts, ReadError> {
    let (mut notes, mut after) = (NoteCounts::default(), None);
    let before = findings.len();
    loop {
        let wanted = page(store, after.as_ref())?;
        let Some(last) = wanted.last().copied() else { return Ok(notes) };
        let mut found = Vec::new();
        let work = |at: u64| {
            let hash = usize::try_from(at).ok().and_then(|at| wanted.get(at)).copied();
            hash.map(|hash| (hash, ask(sources, &hash)))
        };
        in_order(0..wanted.len() as u64, work, |asked| {
            let Some((hash, (text, faults))) = asked else { return ControlFlow::Continue(()) };
            findings.extend(faults);
            match text {
                Some(text) => found.push((hash, text)),
                None => notes.missing = notes.missing.saturating_add(1),
            }
            if findings.len() > before.saturating_add(UNAVAILABLE_MAX) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        notes.checked = notes.checked.saturating_add(found.len() as u64);
        store.put_notes(&found).map_err(ReadError::audit_store)?;
        if findings.len() > before.saturating_add(UNAVAILABLE_MAX) {
            return Ok(notes);
        }
        after = Some(last);
    }
}

/// The next hashes of missing notes above `after`, in ascending order.
fn page(store: &Store, after: Option<&NoteHash>) -> Result<Vec<NoteHash>, ReadError> {
    let start = after.copied().unwrap_or(NoteHash([0; 32]));
    let mut wanted = store.view().wanted_notes_from(&start, PAGE).map_err(ReadError::audit_store)?;
    // At the end of its list the store starts over from the beginning.
    wanted.retain(|hash| after.is_none_or(|after| hash > after));
    wanted.sort();
    Ok(wanted)
}

/// The text from the first source that has it, and findings about sources that failed or showed another text.
fn ask(sources: &[&dyn PublicFiles], hash: &NoteHash) -> (Option<String>, Vec<AuditFinding>) {
    let (path, mut findings) = (Path::Note(*hash), Vec::new());
    for files in sources {
        match read(*files, &path) {
            Ok(None) => {}
            Ok(Some(bytes)) if note_hash(&bytes) == *hash => {
                if let Ok(text) = String::from_utf8(bytes) {
                    return (Some(text), findings);
                }
            }
            Ok(Some(_)) => {
                findings.push(
                    *AuditFinding::new(LieKind::Note, format!("{path} is another text than entries name"))
                        .by(files.name()),
                );
            }
            Err(finding) => findings.push(*finding),
        }
    }
    (None, findings)
}
