//! What a source says a log's head is, and who signed it.
use fama_ledger::checkpoint::{SignedCheckpoint, read_note};
use fama_ledger::equivocation::Equivocation;
use fama_ledger::limits::CHECKPOINT_BYTES_MAX;
use fama_ledger::log::{Head, LogError, Tiles, prove_consistency, root_at};
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::public::{LogFile, Path};
use fama_ledger::signed_note::SignedNote;
use fama_node::wire::SignedHead;

use super::finding::{Finding, Found, Lie};
use super::{Files, read};

/// A head with its owner's signature, and whoever cosigned it on the same note.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// Which source shows it.
    pub(super) source: usize,
    /// The head and the owner's signature; none of a head that a manifest names as the end.
    pub(super) signed: Option<SignedHead>,
    /// The head.
    pub(super) head: Head,
    note: Option<SignedNote>,
}

/// Who certified a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Certificate {
    /// How many operators cosigned.
    pub(super) signed: usize,
    /// How many must.
    pub(super) wanted: usize,
    /// When the last one that was needed did, in seconds since 1970; `None` where too few did.
    pub(super) seconds: Option<u64>,
}

impl Seen {
    /// The end that a manifest names; nobody else's word counts.
    #[must_use]
    pub(super) const fn end(source: usize, head: Head) -> Self {
        Self { source, signed: None, head, note: None }
    }

    /// Reads the head of `log` that a source shows; `None` if it shows none.
    ///
    /// # Errors
    /// A [`Finding`]: the owner did not sign it, or it is unreadable.
    pub(super) fn read(source: usize, files: &dyn Files, manifest: &Manifest, log: &LogId) -> Found<Option<Self>> {
        let wrong =
            |code: &str, what: String| Finding::new(Lie::Checkpoint, what).code(code).by(files.name()).within(log);
        let path = Path::Log(log.clone(), LogFile::Checkpoint);
        let bytes = read(files, &path).map_err(|finding| finding.within(log))?;
        let Some(bytes) = bytes else { return Ok(None) };
        let note = SignedNote::parse(&bytes, CHECKPOINT_BYTES_MAX)
            .map_err(|error| wrong(error.code(), format!("its checkpoint: {error}")))?;
        let signed = owner_signed(&note, manifest, log).map_err(|(code, what)| wrong(code, what))?;
        let head = signed.checkpoint().head;
        Ok(Some(Self { source, signed: Some(SignedHead::of(&signed)), head, note: Some(note) }))
    }

    /// Who of the operators of `version` cosigned. What a manifest names as the end is certified by that.
    ///
    /// # Errors
    /// Why the note is spoiled.
    pub(super) fn certificate(
        &self,
        manifest: &Manifest,
        version: &Manifest,
        log: &LogId,
    ) -> Result<Certificate, String> {
        let Some(note) = &self.note else { return Ok(Certificate { signed: 0, wanted: 0, seconds: None }) };
        let owner = manifest.log(log).map(|known| known.node_key);
        let origin = manifest.origin(log);
        let (_, cosignatures) = read_note(
            note,
            |named| owner.filter(|_| *named == origin),
            |name| version.operator(name).map(|operator| operator.node_key),
        )
        .map_err(|error| error.to_string())?;
        let mut times: Vec<u64> = cosignatures.iter().map(|cosignature| cosignature.seconds).collect();
        times.sort_unstable();
        let wanted = version.quorum();
        let seconds = wanted.checked_sub(1).and_then(|last| times.get(last)).copied();
        Ok(Certificate { signed: times.len(), wanted, seconds })
    }

    /// Whether a quorum of any version certified it: which version counts shows only once the log is read.
    #[must_use]
    pub(super) fn may_be_certified(&self, manifest: &Manifest, log: &LogId) -> bool {
        self.note.is_none()
            || manifest
                .versions()
                .any(|version| self.certificate(manifest, version, log).is_ok_and(|found| found.signed >= found.wanted))
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

/// Whether a log with these tiles up to `larger` extends `smaller`; if not, why, with a proof where the owner signed
/// both.
///
/// # Errors
/// The tiles, which leave it open.
pub(super) fn extends<T: Tiles>(
    tiles: &T,
    larger: &Seen,
    log: &LogId,
    smaller: &Seen,
) -> Result<Found<()>, LogError<T::Error>> {
    let (head, below) = (larger.head, smaller.head);
    let root = root_at(below.size, tiles)?;
    if root == below.root {
        return Ok(Ok(()));
    }
    let what = format!(
        "the head of {} entries has root {}, but the one of {} entries has {root} there",
        below.size, below.root, head.size
    );
    let mut finding = Finding::new(Lie::SplitView, what).within(log);
    if let (Some(signed), Some(below)) = (&larger.signed, &smaller.signed) {
        finding.what.push_str("; their owner signed both, which is proved");
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

/// What is wrong with a source's tiles.
pub(super) fn tiles_finding(error: LogError<Box<Finding>>) -> Box<Finding> {
    match error {
        LogError::Tiles(finding) => finding,
        other => Finding::new(Lie::TreeMismatch, other.to_string()),
    }
}
