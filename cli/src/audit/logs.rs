//! Log by log: whose heads fit together, and what is behind them.
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

use super::finding::{Finding, Found, Lie};
use super::heads::{self, Certificate, Seen};
use super::tiles::LogFiles;
use super::{Figures, Files, Hooks, LogReport, fatal, replay, store_failure};
use crate::failure::Failure;

/// A log's heads as far as they are worth reading on.
struct Planned<'a> {
    log: &'a LogId,
    /// The largest first, each with its files.
    heads: Vec<(Seen, LogFiles<'a>)>,
}

/// An audit of all logs.
pub(super) struct Run<'a, 'h> {
    pub(super) store: &'a Store,
    pub(super) manifest: &'a Arc<Manifest>,
    /// Each with the newest version of the manifest that it shows; `None`: nothing of it can be used.
    pub(super) sources: Vec<Option<(&'a dyn Files, u32)>>,
    pub(super) findings: Vec<Finding>,
    pub(super) figures: Figures,
    pub(super) hooks: &'a mut Hooks<'h>,
}

impl<'a> Run<'a, '_> {
    /// Audits every log that the manifests name.
    ///
    /// # Errors
    /// The folder failed.
    pub(super) fn logs(&mut self) -> Result<Vec<LogReport>, Failure> {
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

    fn record(&self, log: &LogId) -> Result<Option<LogRecord>, Failure> {
        self.store.view().log(log).map_err(store_failure)
    }

    fn keep(&mut self, found: Found<()>) {
        self.findings.extend(found.err().map(|finding| *finding));
    }

    /// Every source's head of a log, certified ones first, the largest first.
    fn heads(&mut self, log: &LogId) -> Result<Vec<Seen>, Failure> {
        let mut heads = Vec::new();
        let cut = self.manifest.log(log).and_then(|known| known.cut.as_ref());
        if cut.is_some_and(|(_, cut)| cut.head == Head::EMPTY) {
            return Ok(heads);
        }
        let held = self.record(log)?.map_or(0, |record| record.state.size);
        for (i, (files, version)) in self.sources.iter().enumerate().filter_map(|(i, source)| Some((i, (*source)?))) {
            // Whoever does not know of the cut yet shows what it has.
            let end = cut.filter(|(since, _)| version >= *since).map(|(_, cut)| Seen::end(i, cut.head));
            match end.map_or_else(|| Seen::read(i, files, self.manifest, log), |end| Ok(Some(end))) {
                Ok(Some(seen)) if cut.is_some_and(|(_, cut)| seen.head.size > cut.head.size) => {}
                Ok(Some(seen)) => heads.push(seen),
                Ok(None) if held > 0 && cut.is_none() => {
                    let what = format!("it shows nothing of this log, of which {held} entries were audited before");
                    self.findings.push(*Finding::new(Lie::Rollback, what).within(log).by(files.name()));
                }
                Ok(None) => {}
                Err(finding) => self.findings.push(*finding),
            }
        }
        heads.sort_by_cached_key(|seen| (!seen.may_be_certified(self.manifest, log), u64::MAX - seen.head.size));
        Ok(heads)
    }

    /// Compares heads, and folds what is new.
    fn log(&mut self, log: &'a LogId, heads: Vec<Seen>, done: &mut u64, total: u64) -> Result<LogReport, Failure> {
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

    /// The heads that extend what is held and do not conflict with the largest.
    fn plan(&mut self, log: &'a LogId, heads: Vec<Seen>) -> Result<Planned<'a>, Failure> {
        let mut planned = Planned { log, heads: Vec::new() };
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
                    // Where it is not the heads that differ, one source's files are not what its head says.
                    let first = largest.map(|(largest, _)| self.name(largest.source));
                    if finding.lie != Lie::SplitView && first.is_some() && finding.source == first {
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

    /// Whether the larger of two sources' heads extends the smaller.
    fn fits(&self, log: &LogId, one: (&Seen, &LogFiles<'_>), other: (&Seen, &LogFiles<'_>)) -> Found<()> {
        let ((larger, files), (smaller, _)) =
            if one.0.head.size < other.0.head.size { (other, one) } else { (one, other) };
        let both = format!("{} and {}", self.name(one.0.source), self.name(other.0.source));
        let fits = heads::extends(files, larger, log, smaller).map_err(heads::tiles_finding)?;
        fits.map_err(|finding| finding.by(&both))
    }

    /// Whether a head extends what a former audit saw.
    fn fits_held(&self, log: &LogId, seen: &Seen, files: &LogFiles<'_>) -> Result<Found<()>, Failure> {
        let view = self.store.view();
        let source = self.name(seen.source);
        let Some(record) = view.log(log).map_err(store_failure)? else { return Ok(Ok(())) };
        let newest = view.newest(log).map_err(store_failure)?;
        let known = newest.as_ref().map_or(record.state.size, |newest| newest.head.size.max(record.state.size));
        let mut held = Seen::end(seen.source, record.state.head());
        held.signed = newest.filter(|newest| newest.head == held.head);
        let fits = if seen.head.size < held.head.size {
            let tiles = view.tiles(log);
            heads::extends(&tiles, &held, log, seen).map_err(|error| Failure::new("damaged", error))?
        } else {
            heads::extends(files, seen, log, &held).unwrap_or_else(|error| Err(heads::tiles_finding(error)))
        };
        Ok(match fits {
            Err(finding) if finding.lie == Lie::SplitView => Err(finding.by(&format!("{source} and the former audit"))),
            Ok(()) if seen.head.size < known && self.manifest.cut(log).is_none() => {
                let what = format!("it shows {} entries; a former audit saw a head of {known}", seen.head.size);
                Err(Finding::new(Lie::Rollback, what).within(log).by(&source))
            }
            fits => fits,
        })
    }

    /// Reads every source's files, and folds what is new.
    fn read_on(&mut self, planned: &Planned<'_>, held: u64, done: &mut u64, total: u64) -> Result<(), Failure> {
        let log = planned.log;
        let Some((first, _)) = planned.heads.first() else { return Ok(()) };
        if let Some(signed) = first.signed.as_ref().filter(|_| first.may_be_certified(self.manifest, log)) {
            // From now on less than this is a rollback.
            self.store.put_newest(log, signed).map_err(store_failure)?;
        }
        let mut auditor = Auditor::resume(self.store, log).map_err(fatal)?;
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
            let passed =
                replay::pass(files, held, log, &federation, &mut auditor, &mut each, &mut progress).map_err(fatal)?;
            self.findings.extend(passed.findings);
            if passed.invalid {
                break;
            }
        }
        Ok(())
    }

    /// Whether quorums of the versions that count there cosigned each head; when the largest was certified.
    fn certified(&mut self, planned: &Planned<'_>) -> Result<Option<u64>, Failure> {
        let log = planned.log;
        let (adopted, size) = self.record(log)?.map_or((Vec::new(), 0), |record| (record.adopted, record.state.size));
        let mut certified_at = None;
        // Of a larger one, something else is wrong: what the log had adopted there was not read.
        let read = |seen: &Seen| seen.signed.is_some() && seen.head.size <= size;
        for (i, (seen, _)) in planned.heads.iter().enumerate().filter(|(_, (seen, _))| read(seen)) {
            match self.quorums(log, seen, &adopted) {
                Ok(seconds) if i == 0 && seen.head.size == size => {
                    certified_at = seconds;
                    self.store.put_certified(log, size).map_err(store_failure)?;
                }
                Ok(_) => {}
                Err(finding) => self.keep(Err(finding.within(log).by(&self.name(seen.source)))),
            }
        }
        Ok(certified_at)
    }

    /// When the last quorum that a head needs had cosigned it.
    fn quorums(&self, log: &LogId, seen: &Seen, adopted: &[Adopted]) -> Found<Option<u64>> {
        let since = self.manifest.log(log).map_or(1, |known| known.since);
        let mut last = None;
        for version in certifying(adopted, since, seen.head.size).filter_map(|version| self.manifest.at(version)) {
            let found = seen.certificate(self.manifest, version, log);
            let Certificate { signed, wanted, seconds } = found.map_err(|what| Finding::new(Lie::Checkpoint, what))?;
            if signed < wanted {
                let (version, size) = (version.version(), seen.head.size);
                let what = format!(
                    "{signed} operators of version {version} cosigned the head of {size} entries, {wanted} must"
                );
                return Err(Finding::new(Lie::Quorum, what));
            }
            last = last.max(seconds);
        }
        Ok(last)
    }

    /// Whether a log that was cut is what the cut names.
    fn check_cut(&mut self, log: &LogId, record: Option<&LogRecord>) {
        let Some(cut) = self.manifest.cut(log).filter(|cut| cut.head != Head::EMPTY) else { return };
        let adopted = record.and_then(|record| record.adopted.last()).map_or(0, |adopted| adopted.version);
        let found = record.map(|record| (record.state.head(), record.state.state_root, adopted));
        if found != Some((cut.head, cut.state_root, cut.adopted)) {
            let size = record.map_or(0, |record| record.state.size);
            let what = format!(
                "a manifest ends this log at {} entries; what the entries make of {size} of them is not what it names",
                cut.head.size
            );
            self.findings.push(*Finding::new(Lie::Cut, what).within(log));
        }
    }
}
