//! The pipeline of entries: fetch, compare with the tree, verify signatures, fold; all stages run at the same time.
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use fama_ledger::entry::{EntryError, VerifiedEntry};
use fama_ledger::id::FederationId;
use fama_ledger::log::TILE_WIDTH;
use fama_ledger::manifest::LogId;
use fama_node::replay::Fatal;
use fama_node::replay::audit::{Auditor, FoldRefusal, OnEntry};
use fama_node::verify;

use super::finding::{AuditFinding, LieKind};
use super::ordered::in_order;
use super::tiles::{Bundle, LogFiles};

/// How many bundles are verified, folded and written as one chunk.
const CHUNK_BUNDLES: usize = 16;
/// How many verified chunks may wait to be folded.
const CHUNKS_MAX: usize = 2;

/// Consecutive verified entries.
struct Chunk {
    entries: Vec<VerifiedEntry>,
    /// How many entries were compared with the tree, including those that earlier audits folded.
    compared: u64,
    findings: Vec<AuditFinding>,
}

/// How a pass over a log's files ended.
#[derive(Default)]
pub(super) struct Passed {
    /// Empty if the files fit the head.
    pub(super) findings: Vec<AuditFinding>,
    /// Whether the log itself is invalid from there on, in every source: nothing more of it can be folded.
    pub(super) invalid: bool,
}

/// Reads all bundles with entries from `from` on, compares each with the tree, and gives `auditor` the entries that it
/// lacks. `progress` receives the number of entries compared since its last call.
///
/// # Errors
/// [`Fatal`]: the auditor's own store failed.
pub(super) fn pass(
    files: &LogFiles<'_>,
    from: u64,
    log: &LogId,
    federation: &FederationId,
    auditor: &mut Auditor<'_>,
    each: &mut OnEntry<'_>,
    progress: &mut dyn FnMut(u64),
) -> Result<Passed, Fatal> {
    let known = auditor.head().size.saturating_add(auditor.waiting() as u64);
    let log_pass = LogPass { files, from, known, log, federation };
    thread::scope(|scope| {
        let (send, chunks) = sync_channel(CHUNKS_MAX);
        scope.spawn(|| log_pass.verify(send));
        log_pass.fold(&chunks, auditor, each, progress)
    })
}

struct LogPass<'a> {
    files: &'a LogFiles<'a>,
    from: u64,
    known: u64,
    log: &'a LogId,
    federation: &'a FederationId,
}

impl LogPass<'_> {
    /// Sends verified chunks. Ends when everything is read, a finding came up, or the receiver is gone.
    #[expect(clippy::needless_pass_by_value, reason = "dropping it ends the receiver")]
    fn verify(&self, send: SyncSender<Chunk>) {
        let mut bundles: Vec<(u64, Bundle)> = Vec::new();
        let width = TILE_WIDTH as u64;
        let range = self.from / width..self.files.bundles();
        let last = range.end;
        in_order(
            range,
            |index| (index, self.files.bundle(index)),
            |(index, bundle)| {
                let ends = bundle.fault.is_some();
                bundles.push((index.saturating_mul(width), bundle));
                if !ends && bundles.len() < CHUNK_BUNDLES && index.saturating_add(1) < last {
                    return ControlFlow::Continue(());
                }
                let chunk = self.chunk(std::mem::take(&mut bundles));
                let ends = !chunk.findings.is_empty();
                if send.send(chunk).is_err() || ends { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            },
        );
    }

    /// Verifies every signature; keeps the entries before the first invalid one.
    fn chunk(&self, bundles: Vec<(u64, Bundle)>) -> Chunk {
        let mut chunk = Chunk { entries: Vec::new(), compared: 0, findings: Vec::new() };
        let (mut raw, mut indices) = (Vec::new(), Vec::new());
        for (first, bundle) in bundles {
            chunk.findings.extend(bundle.fault.map(|fault| *fault));
            for (index, entry) in (first..).zip(bundle.entries).filter(|(index, _)| *index >= self.from) {
                chunk.compared = chunk.compared.saturating_add(1);
                if index >= self.known {
                    raw.push(entry);
                    indices.push(index);
                }
            }
        }
        let (decoded, fault) = verify::decode_all(raw, self.federation);
        if let Some((error, index)) = fault.zip(indices.get(decoded.len())) {
            chunk.findings.push(*invalid_entry(&error).within(self.log).at(*index));
        }
        chunk.entries = decoded;
        chunk
    }

    fn fold(
        &self,
        chunks: &Receiver<Chunk>,
        auditor: &mut Auditor<'_>,
        each: &mut OnEntry<'_>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Passed, Fatal> {
        let mut passed = Passed::default();
        for chunk in chunks {
            let taken = auditor.take(chunk.entries, each)?;
            progress(chunk.compared);
            passed.invalid = taken.is_err() || chunk.findings.iter().any(|finding| finding.source.is_none());
            passed.findings.extend(taken.err().map(|refused| *invalid_log(&refused).within(self.log)));
            passed.findings.extend(chunk.findings);
            if !passed.findings.is_empty() {
                return Ok(passed);
            }
        }
        let (found, wanted) = (auditor.head(), self.files.head());
        if found != wanted && self.known < wanted.size {
            let what = format!("the head of {} entries does not end with a state entry", wanted.size);
            let finding = AuditFinding::new(LieKind::InvalidBatch, what).code("batch_shape");
            passed.findings.push(*finding.within(self.log).at(found.size));
            passed.invalid = true;
        }
        Ok(passed)
    }
}

/// The signed tree holds the entry, so its owner is at fault.
fn invalid_entry(error: &EntryError) -> Box<AuditFinding> {
    let lie = match error {
        EntryError::Signature(_) | EntryError::Countersignature(_) | EntryError::Possession => LieKind::Signature,
        EntryError::Codec(_) | EntryError::Federation(_) => LieKind::InvalidEntry,
    };
    AuditFinding::new(lie, error.to_string()).code(error.code())
}

fn invalid_log(refused: &FoldRefusal) -> Box<AuditFinding> {
    match refused {
        FoldRefusal::Invalid { index, error } => {
            let wrong_root = matches!(error, fama_ledger::batch::BatchError::StateRoot { .. });
            let lie = if wrong_root { LieKind::StateRoot } else { LieKind::InvalidBatch };
            AuditFinding::new(lie, error.to_string()).code(error.code()).at(*index)
        }
        FoldRefusal::Unheld { index, version } => {
            let what = format!("the log adopts version {version} of the manifest, which no source shows");
            AuditFinding::new(LieKind::Manifest, what).code("unheld").at(*index)
        }
    }
}
