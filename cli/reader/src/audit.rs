//! Verifies a federation's public files and recomputes its whole state, trusting neither servers nor signers.
//!
//! First the sources are compared with each other: their manifests, their heads, and which head extends which. Then
//! each log is read once from every source, compared with the tree of that source's head, and folded into the
//! auditor's own store, from which the joined state is computed. Entries that an earlier audit left in that store are
//! not read again.
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use fama_ledger::entry::VerifiedEntry;
use fama_ledger::fold::Outcome;
use fama_ledger::id::{FederationId, StateId};
use fama_ledger::join::{LogState, state_id};
use fama_ledger::manifest::{LogId, Manifest};
use fama_node::replay::audit;
use fama_node::scores;
use fama_node::store::Store;

use crate::error::ReadError;

mod figures;
mod files;
pub mod finding;
mod heads;
mod logs;
mod manifests;
mod notes;
mod ordered;
mod replay;
mod tiles;

pub use figures::AuditFigures;
pub use figures::NoteCounts;
pub use files::PublicFiles;
use files::{Counted, read};
use finding::AuditFinding;
use logs::AuditRun;

/// Receives each folded entry with its log, its index and, for an event, its outcome.
pub type EntryWatch<'w> = dyn FnMut(&LogId, u64, &VerifiedEntry, Option<&Outcome>) + 'w;

/// Callbacks of a running audit.
pub struct Hooks<'h> {
    /// Receives the entries compared so far and the total.
    pub progress: &'h mut dyn FnMut(u64, u64),
    /// Receives every folded entry, log by log and in the order of each log.
    pub watch: &'h mut EntryWatch<'h>,
}

/// The result for one log.
#[derive(Clone, Debug, PartialEq)]
pub struct LogReport {
    /// Size, root and recomputed state root of the audited part.
    pub state: LogState,
    /// The manifest version that the log adopted last; 0 if it has no entries.
    pub adopted: u32,
    /// Time of the cosignature that completed the quorum, in seconds since 1970; `None` without a quorum.
    pub certified_at: Option<u64>,
    /// Whether a manifest version cuts the log.
    pub cut: bool,
    /// Entries audited by this run, without those of earlier ones.
    pub new: u64,
}

/// The result of an audit.
#[derive(Debug)]
pub struct AuditReport {
    /// Id of the federation: the hash of its genesis manifest.
    pub federation: FederationId,
    /// Number of the newest manifest version.
    pub version: u32,
    /// One result for each log that the manifests name.
    pub logs: Vec<LogReport>,
    /// Id of the joined state of all logs that are not cut, at their audited sizes.
    pub state_id: StateId,
    /// Number of registered identities.
    pub identities: u64,
    /// Sum of the karma of all identities.
    pub karma: i64,
    /// Counters of this run.
    pub figures: AuditFigures,
    /// Empty if everything verified.
    pub findings: Vec<AuditFinding>,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// No source has a manifest that holds: what is wrong with each. Empty if there are no sources.
    #[error("{}", .0.first().map_or_else(|| "no source".to_owned(), ToString::to_string))]
    Nothing(Vec<AuditFinding>),
    /// The auditor's own folder failed.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl AuditError {
    /// Stable `snake_case` code: that of the first finding, `no_source` if there is none.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Nothing(findings) => findings.first().map_or("no_source", |finding| &finding.code),
            Self::Read(error) => error.code(),
        }
    }
}

/// Audits what `sources` show, into the folder `dir`, which is empty or that of an earlier audit. The trusted genesis
/// is that of `trusted`; without it, the first source's.
///
/// The store that is returned open next to the report holds everything that was folded.
///
/// # Errors
/// Nothing could be audited at all, or the folder failed. Lies are no errors but findings of the report.
pub fn run(
    sources: &[Box<dyn PublicFiles>],
    trusted: Option<&Arc<Manifest>>,
    dir: &Path,
    hooks: &mut Hooks<'_>,
) -> Result<(AuditReport, Store), AuditError> {
    let begun = Instant::now();
    let (count, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
    let counted: Vec<Counted<'_>> =
        sources.iter().map(|files| Counted { files: files.as_ref(), count: &count, bytes: &bytes }).collect();
    let files: Vec<&dyn PublicFiles> = counted.iter().map(|files| files as &dyn PublicFiles).collect();
    let mut findings = Vec::new();
    let Some(chain) = manifests::chain(&files, trusted, &mut findings) else {
        return Err(AuditError::Nothing(findings));
    };
    let (store, before) = audit::open(dir, &chain.newest).map_err(ReadError::audit_store)?;
    let known = before.max(trusted.map_or(1, |trusted| trusted.version()));
    manifests::rolled_back(&files, &chain, known, &mut findings);
    let manifest = Arc::clone(store.manifest());
    let sources = files.iter().zip(chain.versions).map(|(files, version)| Some((*files, version?))).collect();
    let mut run =
        AuditRun { store: &store, manifest: &manifest, sources, findings, figures: AuditFigures::default(), hooks };
    let logs = run.logs()?;
    let files: Vec<&dyn PublicFiles> = run.sources.iter().flatten().map(|(files, _)| *files).collect();
    let notes = notes::check(&store, &files, &mut run.findings)?;
    let (mut figures, findings) = (run.figures, run.findings);
    (figures.notes, figures.files, figures.bytes) = (notes, count.into_inner(), bytes.into_inner());
    let mut report = verdict(&store, logs, figures, findings)?;
    report.figures.seconds = begun.elapsed().as_secs_f64();
    report.figures.measure();
    Ok((report, store))
}

/// Computes the joined state of everything that was folded.
fn verdict(
    store: &Store,
    logs: Vec<LogReport>,
    figures: AuditFigures,
    findings: Vec<AuditFinding>,
) -> Result<AuditReport, ReadError> {
    scores::settle(store).map_err(ReadError::damaged)?;
    let (view, manifest) = (store.view(), store.manifest());
    let (mut identities, mut karma) = (0u64, 0i64);
    view.each_score(&mut |_, score| {
        if score.listed {
            (identities, karma) = (identities + 1, karma.saturating_add(score.karma.sum));
        }
        ControlFlow::Continue(())
    })
    .map_err(ReadError::audit_store)?;
    let live: Vec<LogState> = logs.iter().filter(|log| !log.cut).map(|log| log.state.clone()).collect();
    Ok(AuditReport {
        federation: manifest.federation(),
        version: manifest.version(),
        state_id: state_id(manifest.hash(), &live),
        identities,
        karma,
        logs,
        figures,
        findings,
    })
}
