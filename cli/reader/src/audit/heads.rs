//! The head of a log that a source shows, and its signatures.
use fama_ledger::checkpoint::{SignedCheckpoint, read_note};
use fama_ledger::equivocation::Equivocation;
use fama_ledger::limits::CHECKPOINT_BYTES_MAX;
use fama_ledger::log::{Head, LogError, Tiles, prove_consistency, root_at};
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::note_quorum::{NoteQuorum, NoteReading};
use fama_ledger::public::{LogFile, Path};
use fama_ledger::signed_note::SignedNote;
use fama_node::wire::SignedHead;

use super::finding::{AuditFinding, AuditResult, LieKind};
use super::{PublicFiles, read};

/// A head with its owner's signature, and the note that has its cosignatures.
#[derive(Clone, Debug)]
pub(super) struct ShownHead {
    /// Index of the source that shows it.
    pub(super) source: usize,
    /// The head with the owner's signature; `None` for the head of a cut, which needs none.
    pub(super) signed: Option<SignedHead>,
    /// Size and root; certified by nobody yet.
    pub(super) head: Head,
    note: Option<SignedNote>,
}

/// How many operators of one version cosigned a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QuorumCount {
    /// Cosignatures that hold.
    pub(super) signed: usize,
    /// Cosignatures that the quorum needs.
    pub(super) wanted: usize,
    /// Time of the cosignature that completed the quorum, in seconds since 1970; `None` without a quorum.
    pub(super) seconds: Option<u64>,
}

impl ShownHead {
    /// The head of a cut: the manifest decides it, whatever a source shows.
    #[must_use]
    pub(super) const fn end(source: usize, head: Head) -> Self {
        Self { source, signed: None, head, note: None }
    }

    /// Reads the head of `log` that a source shows; `None` if it shows none.
    ///
    /// # Errors
    /// An [`AuditFinding`]: the owner did not sign it, or it is unreadable.
    pub(super) fn read(
        source: usize,
        files: &dyn PublicFiles,
        manifest: &Manifest,
        log: &LogId,
    ) -> AuditResult<Option<Self>> {
        let wrong = |code: &str, what: String| {
            AuditFinding::new(LieKind::Checkpoint, what).code(code).by(files.name()).within(log)
        };
        let path = Path::Log(log.clone(), LogFile::Checkpoint);
        let bytes = read(files, &path).map_err(|finding| finding.within(log))?;
        let Some(bytes) = bytes else { return Ok(None) };
        let note = SignedNote::parse(&bytes, CHECKPOINT_BYTES_MAX)
            .map_err(|error| wrong(error.code(), format!("its checkpoint: {error}")))?;
        let signed = owner_signed(&note, manifest, log).map_err(|(code, what)| wrong(code, what))?;
        let head = signed.checkpoint().head;
        Ok(Some(Self { source, signed: Some(SignedHead::of(&signed)), head, note: Some(note) }))
    }

    /// Counts the operators of `version` that cosigned. The head of a cut needs no cosignatures.
    ///
    /// # Errors
    /// A line of a known operator does not verify, which spoils the whole note.
    pub(super) fn quorum(&self, manifest: &Manifest, version: &Manifest, log: &LogId) -> Result<QuorumCount, String> {
        let Some(note) = &self.note else { return Ok(QuorumCount { signed: 0, wanted: 0, seconds: None }) };
        let quorum = NoteQuorum::read(note, log, manifest, version).map_err(|error| error.to_string())?;
        // When the quorum was complete, not the later time up to which it still stood by the head.
        Ok(QuorumCount { signed: quorum.found(), wanted: quorum.wanted, seconds: quorum.completed() })
    }

    /// Whether a quorum of any version cosigned. Which version counts is known only after the log is read.
    #[must_use]
    pub(super) fn may_be_certified(&self, manifest: &Manifest, log: &LogId) -> bool {
        let Some(note) = &self.note else { return true };
        let Ok(mut reading) = NoteReading::of(note, log, manifest) else { return false };
        manifest.versions().any(|version| reading.quorum(version).is_ok_and(|found| found.is_reached()))
    }
}

fn owner_signed(
    note: &SignedNote,
    manifest: &Manifest,
    log: &LogId,
) -> Result<SignedCheckpoint, (&'static str, String)> {
    let owner = manifest.log(log).map(|known| known.node_key);
    let origin = manifest.origin(log);
    let read = read_note(note, |named| owner.filter(|_| *named == origin), |_| None);
    read.map(|(signed, _)| signed).map_err(|error| (error.code(), format!("its checkpoint: {error}")))
}

/// Whether a log with these tiles up to `larger` extends `smaller`. If not, the finding holds a proof if the owner
/// signed both heads.
///
/// # Errors
/// The tiles could not be read, so the question stays open.
pub(super) fn extends<T: Tiles>(
    tiles: &T,
    larger: &ShownHead,
    log: &LogId,
    smaller: &ShownHead,
) -> Result<AuditResult<()>, LogError<T::Error>> {
    let (head, below) = (larger.head, smaller.head);
    let root = root_at(below.size, tiles)?;
    if root == below.root {
        return Ok(Ok(()));
    }
    let what = format!(
        "the head of {} entries has root {}, but the one of {} entries has {root} there",
        below.size, below.root, head.size
    );
    let mut finding = AuditFinding::new(LieKind::SplitView, what).within(log);
    if let (Some(signed), Some(below)) = (&larger.signed, &smaller.signed) {
        finding.what.push_str("; the log's owner signed both, and the proof is attached");
        finding.proof = Some(Box::new(Equivocation {
            log: log.clone(),
            larger: (signed.head, signed.signature),
            smaller: (below.head, below.signature),
            root,
            proof: prove_consistency(below.head.size, head.size, tiles)?,
        }));
    }
    Ok(Err(finding))
}

/// Turns an error of a source's tiles into a finding.
pub(super) fn tiles_finding(error: LogError<Box<AuditFinding>>) -> Box<AuditFinding> {
    match error {
        LogError::Tiles(finding) => finding,
        other => AuditFinding::new(LieKind::TreeMismatch, other.to_string()),
    }
}
