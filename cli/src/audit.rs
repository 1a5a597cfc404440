//! Redoes everything that a federation's public files say, believing nobody who serves or signed them.
//!
//! Sources are compared first: manifests, heads, which of them extend one another. Then each log is read once from
//! every source, compared with the tree of that source's head, and folded into a store of the auditor's own, from
//! which the join is read. What a former audit left in that store is not read again.
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use fama_ledger::entry::VerifiedEntry;
use fama_ledger::fold::Outcome;
use fama_ledger::id::{FederationId, StateId};
use fama_ledger::join::{Join, LogState, Ranking, state_id};
use fama_ledger::manifest::{LogId, Manifest};
use fama_node::replay::Fatal;
use fama_node::replay::audit;
use fama_node::store::{Store, StoreError};

use crate::failure::Failure;

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

pub use figures::Figures;
pub use files::Files;
use files::{Counted, read};
use finding::Finding;
use logs::Run;

/// What is told of each entry that is folded.
pub type Watch<'w> = dyn FnMut(&LogId, u64, &VerifiedEntry, Option<&Outcome>) + 'w;

/// What an audit is told on its way.
pub struct Hooks<'h> {
    /// Entries done, of how many.
    pub progress: &'h mut dyn FnMut(u64, u64),
    /// Every entry that is folded, log by log in order.
    pub watch: &'h mut Watch<'h>,
}

/// How far one log was audited.
#[derive(Clone, Debug, PartialEq)]
pub struct LogReport {
    /// Size, root and recomputed state root.
    pub state: LogState,
    /// The version of the manifest that it adopted last; 0 before it began.
    pub adopted: u32,
    /// When the last cosignature that its quorum needed was given, in seconds since 1970.
    pub certified_at: Option<u64>,
    /// Whether a manifest ends it there.
    pub cut: bool,
    /// How many of the entries were audited in this run.
    pub new: u64,
}

/// One verdict.
#[derive(Debug)]
pub struct Report {
    /// Whose genesis it is.
    pub federation: FederationId,
    /// The newest version of the manifest.
    pub version: u32,
    /// Every log that the manifests name.
    pub logs: Vec<LogReport>,
    /// Over the logs that go on, as far as they were audited.
    pub state_id: StateId,
    /// Registered identities.
    pub identities: u64,
    /// Karma of all identities together.
    pub karma: i64,
    /// What was counted in this run.
    pub figures: Figures,
    /// Empty if all holds.
    pub findings: Vec<Finding>,
}

/// Audits what `sources` show, into the folder `dir`, which is empty or a former audit's. The genesis is that of
/// `trusted`, or of the first source.
///
/// The store that it leaves open behind the report holds all that was folded.
///
/// # Errors
/// Nothing could be audited at all, or the folder failed; lies are findings of the report.
pub fn run(
    sources: &[Box<dyn Files>],
    trusted: Option<&Arc<Manifest>>,
    dir: &Path,
    hooks: &mut Hooks<'_>,
) -> Result<(Report, Store), Failure> {
    let begun = Instant::now();
    let (count, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
    let counted: Vec<Counted<'_>> =
        sources.iter().map(|files| Counted { files: files.as_ref(), count: &count, bytes: &bytes }).collect();
    let files: Vec<&dyn Files> = counted.iter().map(|files| files as &dyn Files).collect();
    let mut findings = Vec::new();
    let Some(chain) = manifests::chain(&files, trusted, &mut findings) else {
        return Err(nothing(&findings));
    };
    let (store, before) = audit::open(dir, &chain.newest).map_err(store_failure)?;
    let known = before.max(trusted.map_or(1, |trusted| trusted.version()));
    manifests::rolled_back(&files, &chain, known, &mut findings);
    let manifest = Arc::clone(store.manifest());
    let sources = files.iter().zip(chain.versions).map(|(files, version)| Some((*files, version?))).collect();
    let mut run = Run { store: &store, manifest: &manifest, sources, findings, figures: Figures::default(), hooks };
    let logs = run.logs()?;
    let files: Vec<&dyn Files> = run.sources.iter().flatten().map(|(files, _)| *files).collect();
    let notes = notes::check(&store, &files, &mut run.findings)?;
    let (mut figures, findings) = (run.figures, run.findings);
    (figures.notes, figures.files, figures.bytes) = (notes, count.into_inner(), bytes.into_inner());
    let mut report = verdict(&store, logs, figures, findings)?;
    report.figures.seconds = begun.elapsed().as_secs_f64();
    report.figures.measure();
    Ok((report, store))
}

fn nothing(findings: &[Finding]) -> Failure {
    let what = findings.first().map_or_else(|| "no source".to_owned(), ToString::to_string);
    let shown: Vec<_> = findings.iter().map(Finding::json).collect();
    let mut failure = Failure::new(findings.first().map_or("no_source", |finding| &finding.code), what);
    failure.achieved = Some(("findings", shown.into()));
    failure.hint(
        "a source is a node's query address, a folder or bucket of `fama publish`, or a stopped node's data folder",
    )
}

fn store_failure(error: StoreError) -> Failure {
    Failure::new(error.code(), error)
}

fn fatal(error: Fatal) -> Failure {
    Failure::new(error.code(), error)
}

/// Reads the join of all that was folded.
fn verdict(store: &Store, logs: Vec<LogReport>, figures: Figures, findings: Vec<Finding>) -> Result<Report, Failure> {
    let (view, manifest) = (store.view(), store.manifest());
    let ranking = Ranking::rebuild(&Join::new(manifest, &view)).map_err(|error| Failure::new("damaged", error))?;
    let karma = ranking.from(None).fold(0i64, |sum, (_, karma)| sum.saturating_add(karma.sum));
    let live: Vec<LogState> = logs.iter().filter(|log| !log.cut).map(|log| log.state.clone()).collect();
    Ok(Report {
        federation: manifest.federation(),
        version: manifest.version(),
        state_id: state_id(manifest.hash(), &live),
        identities: ranking.len() as u64,
        karma,
        logs,
        figures,
        findings,
    })
}
