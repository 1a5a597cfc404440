//! Audits each log: compares the sources' heads, then the entries below them.
use std::collections::BTreeMap;
use std::sync::Arc;

use fama_ledger::adoption::Adopted;
use fama_ledger::adoption::certifying;
use fama_ledger::entry::VerifiedEntry;
use fama_ledger::fold::Outcome;
use fama_ledger::id::StateRoot;
use fama_ledger::join::LogState;
use fama_ledger::log::Head;
use fama_ledger::manifest::{LogId, Manifest};
use fama_node::replay::audit::{self, Auditor};
use fama_node::store::{LogRecord, Store};

use super::finding::{AuditFinding, AuditResult, LieKind};
use super::heads::{self, QuorumCount, ShownHead};
use super::tiles::LogFiles;
use super::{AuditFigures, Hooks, LogReport, PublicFiles, replay};
use crate::error::ReadError;

/// The heads of a log that fit together, to be read in this order.
struct PlannedLog<'a> {
    log: &'a LogId,
    /// Certified ones first, larger ones first, each with the files of its source.
    heads: Vec<(ShownHead, LogFiles<'a>)>,
}

/// The state of a running audit.
pub(super) struct AuditRun<'a, 'h> {
    pub(super) store: &'a Store,
    pub(super) manifest: &'a Arc<Manifest>,
    /// Each source with the newest manifest version that it shows; `None` if its manifests are unusable.
    pub(super) sources: Vec<Option<(&'a dyn PublicFiles, u32)>>,
    pub(super) findings: Vec<AuditFinding>,
    pub(super) figures: AuditFigures,
    pub(super) hooks: &'a mut Hooks<'h>,
}

impl<'a> AuditRun<'a, '_> {
    /// Audits every log that the manifests name.
    ///
    /// # Errors
    /// The auditor's own store failed.
    pub(super) fn logs(&mut self) -> Result<Vec<LogReport>, ReadError> {
        let known = self.manifest.logs();
        let order = audit::order(self.manifest);
        let order: Vec<&'a LogId> = order.iter().filter_map(|log| Some(known.get_key_value(log)?.0)).collect();
        let (mut heads, mut total) = (BTreeMap::new(), 0u64);
        for log in &order {
            let held = self.record(log)?.map_or(0, |record| record.state.size);
            let seen = self.heads(log)?;
            total = seen.iter().fold(total, |sum, seen| sum.saturating_add(seen.head.size.saturating_sub(held)));
            heads.insert(*log, seen);
        }
        let (mut logs, mut done) = (Vec::new(), 0);
        for log in order {
            let seen = heads.remove(log).unwrap_or_default();
            logs.push(self.log(log, seen, &mut done, total)?);
        }
        Ok(logs)
    }

    fn record(&self, log: &LogId) -> Result<Option<LogRecord>, ReadError> {
        self.store.view().log(log).map_err(ReadError::audit_store)
    }

    fn keep(&mut self, found: AuditResult<()>) {
        self.findings.extend(found.err().map(|finding| *finding));
    }

    /// The heads of a log that the sources show: certified ones first, and larger ones first among those.
    fn heads(&mut self, log: &LogId) -> Result<Vec<ShownHead>, ReadError> {
        let mut heads = Vec::new();
        let cut = self.manifest.log(log).and_then(|known| known.cut.as_ref());
        if cut.is_some_and(|(_, cut)| cut.head == Head::EMPTY) {
            return Ok(heads);
        }
        let held = self.record(log)?.map_or(0, |record| record.state.size);
        for (i, (files, version)) in self.sources.iter().enumerate().filter_map(|(i, source)| Some((i, (*source)?))) {
            // A source that does not know the cut yet still shows its own head.
            let end = cut.filter(|(since, _)| version >= *since).map(|(_, cut)| ShownHead::end(i, cut.head));
            match end.map_or_else(|| ShownHead::read(i, files, self.manifest, log), |end| Ok(Some(end))) {
                Ok(Some(seen)) if cut.is_some_and(|(_, cut)| seen.head.size > cut.head.size) => {}
                Ok(Some(seen)) => heads.push(seen),
                Ok(None) if held > 0 && cut.is_none() => {
                    let what = format!("it shows nothing of this log, of which {held} entries were audited before");
                    self.findings.push(*AuditFinding::new(LieKind::Rollback, what).within(log).by(files.name()));
                }
                Ok(None) => {}
                Err(finding) => self.findings.push(*finding),
            }
        }
        heads.sort_by_cached_key(|seen| (!seen.may_be_certified(self.manifest, log), u64::MAX - seen.head.size));
        Ok(heads)
    }

    /// Compares the heads of a log, then folds its new entries.
    fn log(
        &mut self,
        log: &'a LogId,
        heads: Vec<ShownHead>,
        done: &mut u64,
        total: u64,
    ) -> Result<LogReport, ReadError> {
        let before = self.record(log)?;
        let held = before.as_ref().map_or(0, |record| record.state.size);
        let whole = self.manifest.cut(log).is_some_and(|cut| cut.head.size == held);
        let mut certified_at = None;
        if !whole {
            let planned = self.plan(log, heads)?;
            self.read_on(&planned, held, done, total)?;
            certified_at = self.certified(&planned)?;
        }
        let record = self.record(log)?;
        self.check_cut(log, record.as_ref());
        let empty = LogState { log: log.clone(), size: 0, root: Head::EMPTY.root, state_root: StateRoot([0; 32]) };
        let state = record.as_ref().map_or(empty, |record| record.state.clone());
        Ok(LogReport {
            new: state.size.saturating_sub(held),
            state,
            adopted: record.and_then(|record| record.adopted.last().copied()).map_or(0, |adopted| adopted.version),
            certified_at,
            cut: self.manifest.cut(log).is_some(),
        })
    }

    /// Keeps the heads that fit both the first one and the part audited before; the others become findings.
    fn plan(&mut self, log: &'a LogId, heads: Vec<ShownHead>) -> Result<PlannedLog<'a>, ReadError> {
        let mut planned = PlannedLog { log, heads: Vec::new() };
        for seen in heads {
            let Some((source, _)) = self.sources.get(seen.source).copied().flatten() else { continue };
            let files = match LogFiles::open(source, log, seen.head) {
                Ok(files) => files,
                Err(finding) => {
                    self.findings.push(*finding);
                    continue;
                }
            };
            let largest = planned.heads.first();
            let fits = match largest.map_or(Ok(()), |(largest, its)| self.fits(log, (largest, its), (&seen, &files))) {
                Ok(()) => self.fits_held(log, &seen, &files)?,
                wrong => wrong,
            };
            match fits {
                Ok(()) => planned.heads.push((seen, files)),
                Err(finding) => {
                    // The first source's files contradict its own head: drop it and keep the other one.
                    let first = largest.map(|(largest, _)| self.name(largest.source));
                    if finding.lie != LieKind::SplitView && first.is_some() && finding.source == first {
                        planned.heads.remove(0);
                        planned.heads.push((seen, files));
                    }
                    self.findings.push(*finding);
                }
            }
        }
        Ok(planned)
    }

    fn name(&self, source: usize) -> String {
        self.sources.get(source).copied().flatten().map_or_else(String::new, |(files, _)| files.name().to_owned())
    }

    /// Checks that the larger of two sources' heads extends the smaller one.
    fn fits(
        &self,
        log: &LogId,
        one: (&ShownHead, &LogFiles<'_>),
        other: (&ShownHead, &LogFiles<'_>),
    ) -> AuditResult<()> {
        let ((larger, files), (smaller, _)) =
            if one.0.head.size < other.0.head.size { (other, one) } else { (one, other) };
        let both = format!("{} and {}", self.name(one.0.source), self.name(other.0.source));
        let fits = heads::extends(files, larger, log, smaller).map_err(heads::tiles_finding)?;
        fits.map_err(|finding| finding.by(&both))
    }

    /// Checks that a head extends what an earlier audit saw.
    fn fits_held(&self, log: &LogId, seen: &ShownHead, files: &LogFiles<'_>) -> Result<AuditResult<()>, ReadError> {
        let view = self.store.view();
        let source = self.name(seen.source);
        let Some(record) = view.log(log).map_err(ReadError::audit_store)? else { return Ok(Ok(())) };
        let newest = view.newest(log).map_err(ReadError::audit_store)?;
        let known = newest.as_ref().map_or(record.state.size, |newest| newest.head.size.max(record.state.size));
        let mut held = ShownHead::end(seen.source, record.state.head());
        held.signed = newest.filter(|newest| newest.head == held.head);
        let fits = if seen.head.size < held.head.size {
            let tiles = view.tiles(log);
            heads::extends(&tiles, &held, log, seen).map_err(ReadError::damaged)?
        } else {
            heads::extends(files, seen, log, &held).unwrap_or_else(|error| Err(heads::tiles_finding(error)))
        };
        Ok(match fits {
            Err(finding) if finding.lie == LieKind::SplitView => {
                Err(finding.by(&format!("{source} and the former audit")))
            }
            Ok(()) if seen.head.size < known && self.manifest.cut(log).is_none() => {
                let what = format!("it shows {} entries; an earlier audit saw a head of {known}", seen.head.size);
                Err(AuditFinding::new(LieKind::Rollback, what).within(log).by(&source))
            }
            fits => fits,
        })
    }

    /// Compares the files of every source with the tree, and folds the new entries.
    fn read_on(&mut self, planned: &PlannedLog<'_>, held: u64, done: &mut u64, total: u64) -> Result<(), ReadError> {
        let log = planned.log;
        let Some((first, _)) = planned.heads.first() else { return Ok(()) };
        if let Some(signed) = first.signed.as_ref().filter(|_| first.may_be_certified(self.manifest, log)) {
            // Stored before anything is read: from now on, a smaller head is a rollback.
            self.store.put_newest(log, signed).map_err(ReadError::audit_store)?;
        }
        let mut auditor = Auditor::resume(self.store, log).map_err(ReadError::fold)?;
        for (_, files) in &planned.heads {
            let (figures, hooks) = (&mut self.figures, &mut *self.hooks);
            let (watch, progress) = (&mut *hooks.watch, &mut *hooks.progress);
            let mut each = |index: u64, entry: &VerifiedEntry, outcome: Option<&Outcome>| {
                figures.count(entry, outcome);
                watch(log, index, entry, outcome);
            };
            let mut progress = |compared: u64| {
                *done = done.saturating_add(compared);
                progress(*done, total);
            };
            let federation = self.manifest.federation();
            let passed = replay::pass(files, held, log, &federation, &mut auditor, &mut each, &mut progress)
                .map_err(ReadError::fold)?;
            self.findings.extend(passed.findings);
            if passed.invalid {
                break;
            }
        }
        Ok(())
    }

    /// Checks that each head has the quorums it needs; gives the time at which the first head was certified.
    fn certified(&mut self, planned: &PlannedLog<'_>) -> Result<Option<u64>, ReadError> {
        let log = planned.log;
        let (adopted, size) = self.record(log)?.map_or((Vec::new(), 0), |record| (record.adopted, record.state.size));
        let mut certified_at = None;
        // A larger head already has a finding: its entries were not read, so its adopted versions are unknown.
        let read = |seen: &ShownHead| seen.signed.is_some() && seen.head.size <= size;
        for (i, (seen, _)) in planned.heads.iter().enumerate().filter(|(_, (seen, _))| read(seen)) {
            match self.quorums(log, seen, &adopted).and_then(|at| self.current(log, seen, &adopted).map(|()| at)) {
                Ok(seconds) if i == 0 && seen.head.size == size => {
                    certified_at = seconds;
                    self.store.put_certified(log, size).map_err(ReadError::audit_store)?;
                }
                Ok(_) => {}
                Err(finding) => self.keep(Err(finding.within(log).by(&self.name(seen.source)))),
            }
        }
        Ok(certified_at)
    }

    /// Time at which the last of the quorums that a head needs was complete.
    fn quorums(&self, log: &LogId, seen: &ShownHead, adopted: &[Adopted]) -> AuditResult<Option<u64>> {
        let since = self.manifest.log(log).map_or(1, |known| known.since);
        let mut last = None;
        for version in certifying(adopted, since, seen.head.size).filter_map(|version| self.manifest.at(version)) {
            let found = seen.quorum(self.manifest, version, log);
            let QuorumCount { signed, wanted, seconds } =
                found.map_err(|what| AuditFinding::new(LieKind::Checkpoint, what))?;
            if signed < wanted {
                let (version, size) = (version.version(), seen.head.size);
                let what = format!(
                    "{signed} operators of version {version} cosigned the head of {size} entries, {wanted} must"
                );
                return Err(AuditFinding::new(LieKind::Quorum, what));
            }
            last = last.max(seconds);
        }
        Ok(last)
    }

    /// Checks that the head is not of the time of a version whose operators' keys may be retired. A source is judged by
    /// the newest version that it shows itself.
    fn current(&self, log: &LogId, seen: &ShownHead, adopted: &[Adopted]) -> AuditResult<()> {
        let shown = self.sources.get(seen.source).and_then(Option::as_ref).map_or(1, |(_, version)| *version);
        let wanted = self.manifest.at(shown).map_or(1, |newest| newest.adopted_min(log));
        let at = adopted.iter().rev().find(|adopted| adopted.size <= seen.head.size).map_or(0, |last| last.version);
        if at >= wanted {
            return Ok(());
        }
        let what = format!(
            "its head of {} entries is of the time of version {at}; under version {shown} the log has adopted {wanted}",
            seen.head.size
        );
        Err(AuditFinding::new(LieKind::Quorum, what).code("head_outdated"))
    }

    /// Checks that a cut log ends with the head, state root and adopted version that its cut names.
    fn check_cut(&mut self, log: &LogId, record: Option<&LogRecord>) {
        let Some(cut) = self.manifest.cut(log).filter(|cut| cut.head != Head::EMPTY) else { return };
        let adopted = record.and_then(|record| record.adopted.last()).map_or(0, |adopted| adopted.version);
        let found = record.map(|record| (record.state.head(), record.state.state_root, adopted));
        if found != Some((cut.head, cut.state_root, cut.adopted)) {
            let size = record.map_or(0, |record| record.state.size);
            let what = format!(
                "the manifest cuts this log at {} entries; replaying {size} entries does not give the head and state of the cut",
                cut.head.size
            );
            self.findings.push(*AuditFinding::new(LieKind::Cut, what).within(log));
        }
    }
}
