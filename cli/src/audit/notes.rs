//! Notes: beside the log, each named by its hash. One that is missing is no fault.
use std::ops::ControlFlow;

use fama_ledger::id::NoteHash;
use fama_ledger::note::note_hash;
use fama_ledger::public::Path;
use fama_node::store::Store;

use super::figures::Notes;
use super::finding::{Finding, Lie};
use super::ordered::in_order;
use super::{Files, read, store_failure};
use crate::failure::Failure;

/// How many notes are asked for and kept at a time.
const PAGE: usize = 1_024;
/// After how many notes that could not be asked for no more are.
const UNAVAILABLE_MAX: usize = 8;

/// Asks all sources for the notes that entries name and that are not here yet, and keeps them.
pub(super) fn check(store: &Store, sources: &[&dyn Files], findings: &mut Vec<Finding>) -> Result<Notes, Failure> {
    let (mut notes, mut after) = (Notes::default(), None);
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
        store.put_notes(&found).map_err(store_failure)?;
        if findings.len() > before.saturating_add(UNAVAILABLE_MAX) {
            return Ok(notes);
        }
        after = Some(last);
    }
}

/// Notes that are named but not here, in their order, behind `after`.
fn page(store: &Store, after: Option<&NoteHash>) -> Result<Vec<NoteHash>, Failure> {
    let start = after.copied().unwrap_or(NoteHash([0; 32]));
    let mut wanted = store.view().wanted_notes_from(&start, PAGE).map_err(store_failure)?;
    // The store goes on at the beginning where it is at the end.
    wanted.retain(|hash| after.is_none_or(|after| hash > after));
    wanted.sort();
    Ok(wanted)
}

/// The text that fits, from whichever source has it, and who showed another.
fn ask(sources: &[&dyn Files], hash: &NoteHash) -> (Option<String>, Vec<Finding>) {
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
                    *Finding::new(Lie::Note, format!("{path} is another text than entries name")).by(files.name()),
                );
            }
            Err(finding) => findings.push(*finding),
        }
    }
    (None, findings)
}
