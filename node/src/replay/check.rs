//! Checks a data folder against a copy rebuilt from its entries alone.
use fama_ledger::batch::LogMaps;
use fama_ledger::entry::VerifiedEntry;
use fama_ledger::id::NoteHash;
use fama_ledger::log::{Tree, root_at};
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::rows::RowError;

use super::{Fatal, LogCopy, ReplayStop, batches, commits, replay};
use crate::scores;
use crate::store::{Store, StoreError, StoredCertificate, View};
use crate::verify;
use crate::wire::NoteAnswer;

/// At most this many entries are read and verified at a time.
const CHUNK_ENTRIES: usize = 4_096;
/// About this many bytes of entries are read at a time.
const CHUNK_BYTES: usize = 8 << 20;

/// One difference from what the entries give, or one invalid or unreadable value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckFinding {
    /// The log concerned; `None` for data derived from all logs.
    pub log: Option<LogId>,
    /// Stable code.
    pub code: &'static str,
    /// What is wrong and where, as text.
    pub what: String,
}

/// The result of checking a data folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Each log with the number of its entries that verify and replay.
    pub logs: Vec<(LogId, u64)>,
    /// Empty if the folder is sound.
    pub findings: Vec<CheckFinding>,
}

/// The check of one log.
struct LogChecker<'a> {
    manifest: &'a Manifest,
    original: &'a Store,
    rebuilt: &'a Store,
    log: LogId,
    copy: LogCopy,
    rest: Vec<VerifiedEntry>,
    findings: Vec<CheckFinding>,
}

/// Replays every entry of `original` into `rebuilt`, which must be empty, and compares the two. What `original` has still
/// to do for its scores is done.
///
/// `progress` is called after each chunk with the number of checked entries and their total. Readable data of
/// `original` that is not derived from entries (signed heads, cosignatures, notes) is checked separately, and
/// copied if it is valid. So `rebuilt` can replace the original, and the node fetches the rest from its peers.
///
/// # Errors
/// [`Fatal`] of the rebuilt store, which is new: the disk failed. Faults of `original` are findings.
pub fn check(
    original: &Store,
    rebuilt: &Store,
    manifest: &Manifest,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<CheckReport, Fatal> {
    let logs = replay_order(manifest);
    let recorded = |log: &LogId| original.view().log(log).ok().flatten().map_or(0, |record| record.state.size);
    let total = logs.iter().map(recorded).sum();
    let (mut report, mut before) = (CheckReport::default(), 0);
    copy_redacted(original, rebuilt, &mut report.findings)?;
    for log in logs {
        let maps = LogMaps::load(manifest, &log, &rebuilt.view()).map_err(|error| Fatal::rows(&log, error))?;
        let copy = LogCopy { tree: Tree::default(), maps: Some(maps) };
        let (rest, findings) = (Vec::new(), Vec::new());
        let mut checker = LogChecker { manifest, original, rebuilt, log, copy, rest, findings };
        checker.run(&mut |done| progress(before + done, total))?;
        checker.signatures()?;
        let size = checker.copy.tree.size();
        before += size;
        report.findings.append(&mut checker.findings);
        report.logs.push((checker.log, size));
    }
    scores::settle(rebuilt).map_err(|error| match error {
        RowError::Storage(error) => Fatal::Store(error),
        _ => Fatal::Internal("rows that were just written are whole"),
    })?;
    if report.findings.is_empty() {
        report.findings.extend(differences(original, rebuilt)?);
    }
    rebuilt.sync()?;
    Ok(report)
}

/// Redacted on purpose: these must not be fetched again.
fn copy_redacted(original: &Store, rebuilt: &Store, findings: &mut Vec<CheckFinding>) -> Result<(), Fatal> {
    match original.view().redacted_notes() {
        Ok(redacted) if redacted.is_empty() => {}
        Ok(redacted) => rebuilt.redact_notes(&Vec::from_iter(redacted))?,
        Err(error) => {
            findings.push(CheckFinding { log: None, code: "unreadable", what: format!("redacted notes: {error}") });
        }
    }
    Ok(())
}

/// All logs: first those that were cut, in the order of the versions that cut them. So a log comes after those
/// whose maps it receives.
pub(crate) fn replay_order(manifest: &Manifest) -> Vec<LogId> {
    let cut_in = |log: &LogId| manifest.log(log).and_then(|known| known.cut.as_ref()).map_or(u32::MAX, |(in_, _)| *in_);
    let mut logs: Vec<LogId> = manifest.logs().keys().cloned().collect();
    logs.sort_by_key(cut_in);
    logs
}

/// Findings for derived data that differs from what the entries give.
fn differences(original: &Store, rebuilt: &Store) -> Result<Vec<CheckFinding>, Fatal> {
    if let Err(error) = scores::settle(original) {
        let what = format!("what the scores follow from: {error}");
        return Ok(vec![CheckFinding { log: None, code: "unreadable", what }]);
    }
    let mut found = original.differences(rebuilt)?;
    found.extend(original.score_differences(rebuilt)?);
    Ok(found.into_iter().map(|what| CheckFinding { log: None, code: "derived", what }).collect())
}

impl LogChecker<'_> {
    fn find(&mut self, code: &'static str, what: String) {
        self.findings.push(CheckFinding { log: Some(self.log.clone()), code, what });
    }

    /// Reads, verifies and replays the log up to its end or the first invalid entry.
    fn run(&mut self, progress: &mut dyn FnMut(u64)) -> Result<(), Fatal> {
        let mut count = CHUNK_ENTRIES;
        loop {
            let at = self.copy.tree.size() + self.rest.len() as u64;
            let read = self.original.view().entries(&self.log, at, count, CHUNK_BYTES);
            match read {
                // Entries before the damage are readable: approach it in smaller steps.
                Err(_) if count > 1 => count /= 2,
                Err(error) => {
                    self.find("unreadable", format!("entries from {at} on: {error}"));
                    return Ok(());
                }
                Ok(entries) if entries.is_empty() => return self.end(),
                Ok(entries) => {
                    if !self.chunk(at, entries)? {
                        return Ok(());
                    }
                    progress(self.copy.tree.size());
                }
            }
        }
    }

    /// Verifies and replays a chunk that begins at index `at`. `false` after a finding that ends the check of this log.
    fn chunk(&mut self, at: u64, entries: Vec<Vec<u8>>) -> Result<bool, Fatal> {
        let (decoded, fault) = verify::decode_all(entries, &self.manifest.federation());
        let bad = fault.map(|error| {
            let index = at.saturating_add(decoded.len() as u64);
            (error.code(), format!("entry {index}: {error}"))
        });
        let mut good = std::mem::take(&mut self.rest);
        good.extend(decoded);
        let (whole, rest) = batches(good);
        let (done, stop) = replay(self.manifest, &self.log, &self.rebuilt.view(), &mut self.copy, whole)?;
        let (notes, redacted) = self.notes(&done);
        self.rebuilt.commit(&commits(&done, &notes))?;
        if let Some(maps) = &mut self.copy.maps {
            maps.trim(self.rebuilt.nodes_max());
        }
        redacted.iter().try_for_each(|hash| self.rebuilt.redact_note(hash))?;
        self.rest = rest;
        let at = self.copy.tree.size();
        let bad = bad.or_else(|| match stop? {
            ReplayStop::Invalid(error) => Some((error.code(), format!("batch from {at}: {error}"))),
            ReplayStop::Unheld(version) => {
                Some(("unheld", format!("batch from {at} adopts version {version}, which is not held")))
            }
        });
        let Some((code, what)) = bad else { return Ok(true) };
        self.find(code, what);
        Ok(false)
    }

    /// The notes of these entries that the original has with the right hash, and those that it has redacted.
    fn notes(&mut self, done: &[super::ReplayedBatch]) -> (Vec<(NoteHash, String)>, Vec<NoteHash>) {
        let view = self.original.view();
        let events = done.iter().flat_map(|done| &done.entries).filter_map(VerifiedEntry::event);
        let (mut notes, mut redacted) = (Vec::new(), Vec::new());
        for hash in events.filter_map(|event| event.event().action.note()) {
            match view.note(&hash) {
                Ok(Some(NoteAnswer::Text(text))) if fama_ledger::note::note_hash(text.as_bytes()) == hash => {
                    notes.push((hash, text));
                }
                Ok(Some(NoteAnswer::Text(_))) => self.findings.push(CheckFinding {
                    log: Some(self.log.clone()),
                    code: "note",
                    what: format!("the text stored for note {hash} does not match its hash"),
                }),
                // Redacted on purpose: it must not be fetched again.
                Ok(Some(NoteAnswer::Redacted)) if self.rebuilt.view().note(&hash) == Ok(Some(NoteAnswer::Redacted)) => {
                }
                Ok(Some(NoteAnswer::Redacted)) => redacted.push(hash),
                Ok(None) => {}
                Err(error) => self.findings.push(CheckFinding {
                    log: Some(self.log.clone()),
                    code: "unreadable",
                    what: format!("note {hash}: {error}"),
                }),
            }
        }
        (notes, redacted)
    }

    /// Checks the end of the log: no entries after the last state entry, and a record that agrees with the entries.
    fn end(&mut self) -> Result<(), Fatal> {
        let size = self.copy.tree.size();
        match self.original.view().is_rolled_back(&self.log) {
            Ok(false) => {}
            Ok(true) => {
                self.find("rollback", "its rollback was interrupted: start its node once, which continues".to_owned());
                return Ok(());
            }
            Err(error) => {
                self.find("unreadable", format!("which logs are rolled back: {error}"));
                return Ok(());
            }
        }
        if !self.rest.is_empty() {
            let left = self.rest.len();
            self.find("cut", format!("{left} entries from {size} on have no state entry"));
        }
        let record = match self.original.view().log(&self.log) {
            Ok(record) => record.map(|record| record.state),
            Err(error) => {
                self.find("unreadable", format!("the log's record: {error}"));
                return Ok(());
            }
        };
        let head = self.copy.tree.head();
        let recorded = record.as_ref().map_or((0, head.root), |state| (state.size, state.root));
        if recorded != (size, head.root) {
            self.find(
                "head",
                format!(
                    "the record has {} entries with root {}, the entries give {size} with root {}",
                    recorded.0, recorded.1, head.root
                ),
            );
        }
        Ok(())
    }

    /// Checks the signatures of stored heads and cosignatures, and their roots up to the size of the log. Copies the
    /// valid ones.
    fn signatures(&mut self) -> Result<(), Fatal> {
        let view = self.original.view();
        match self.kept_heads(&view) {
            Ok(()) => Ok(()),
            Err(Fatal::Store(error)) => {
                self.find("unreadable", format!("signed heads: {error}"));
                Ok(())
            }
            Err(fatal) => Err(fatal),
        }
    }

    fn kept_heads(&mut self, view: &View<'_>) -> Result<(), Fatal> {
        let log = self.log.clone();
        if let Some(signed) = view.newest(&log)? {
            match signed.verify(self.manifest, &log) {
                Ok(_) if self.on_branch(signed.head.size, signed.head.root)? => {
                    self.rebuilt.put_newest(&log, &signed)?;
                }
                Ok(_) => self.find("branch", format!("the owner signed another root at size {}", signed.head.size)),
                Err(error) => self.find("signature", format!("the owner's head at {}: {error}", signed.head.size)),
            }
        }
        if let Some(signed) = view.conflicting(&log)?.filter(|signed| signed.verify(self.manifest, &log).is_ok()) {
            self.rebuilt.put_conflicting(&log, &signed)?;
        }
        let certified = view.log(&log)?.map_or(0, |record| record.certified).min(self.copy.tree.size());
        for one in view.cosigned(&log)? {
            let (operator, size) = (&one.cosignature.operator, one.signed.head.size);
            let Some(by) = one.verify(self.manifest, &log).map(|cosigned| cosigned.by) else {
                self.find("signature", format!("the cosignature of {operator} at {size} is invalid"));
                continue;
            };
            if self.on_branch(size, one.signed.head.root)? {
                self.rebuilt.put_cosigned(&log, &by, &one, certified, false)?;
            } else {
                self.find("branch", format!("{operator} cosigned another root at size {size}"));
            }
        }
        if let Some(stored) = view.certificate(&log)? {
            self.kept_certificate(&log, &stored)?;
        }
        // An absent certified size counts as 0.
        if certified > 0 {
            self.rebuilt.put_certified(&log, certified)?;
        }
        Ok(())
    }

    fn kept_certificate(&mut self, log: &LogId, stored: &StoredCertificate) -> Result<(), Fatal> {
        let head = stored.signed.head;
        if stored.clone().verify(self.manifest, log).is_none() {
            self.find("signature", format!("a signature of the certificate at {} is invalid", head.size));
        } else if self.on_branch(head.size, head.root)? {
            self.rebuilt.put_certificate(log, stored)?;
        } else {
            self.find("branch", format!("another root is certified at size {}", head.size));
        }
        Ok(())
    }

    /// Whether the rebuilt log has this root at `size`; `true` if the log is shorter, as nothing contradicts it.
    fn on_branch(&self, size: u64, root: fama_ledger::id::TreeRoot) -> Result<bool, StoreError> {
        if size > self.copy.tree.size() {
            return Ok(true);
        }
        let view = self.rebuilt.view();
        Ok(root_at(size, &view.tiles(&self.log)).is_ok_and(|given| given == root))
    }
}
