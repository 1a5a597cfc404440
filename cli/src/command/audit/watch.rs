//! `fama audit --watch`: an audit that is repeated, and says when sources part or something no longer holds.
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use fama_ledger::manifest::Manifest;
use fama_reader::audit::finding::{AuditFinding, LieKind};
use fama_reader::audit::{self, AuditError, AuditReport, Hooks, PublicFiles};
use serde_json::json;

use super::{AuditFolder, GenesisOrigin, people, shown};
use crate::command::node::stop_signal;
use crate::failure::Failure;
use crate::progress;
use crate::terminal::Terminal;

/// An audit that is repeated in one folder.
pub(super) struct Watch<'a> {
    sources: &'a [Box<dyn PublicFiles>],
    trusted: Option<Arc<Manifest>>,
    folder: &'a AuditFolder,
    genesis: GenesisOrigin,
    /// What the last round found, as text.
    found: BTreeSet<String>,
    /// The state that the last round ended with; `None` before the first.
    state: Option<String>,
    /// Whether any round found a lie.
    has_lied: bool,
}

impl<'a> Watch<'a> {
    pub(super) const fn new(
        sources: &'a [Box<dyn PublicFiles>],
        trusted: Option<Arc<Manifest>>,
        folder: &'a AuditFolder,
        genesis: GenesisOrigin,
    ) -> Self {
        Self { sources, trusted, folder, genesis, found: BTreeSet::new(), state: None, has_lied: false }
    }

    /// Audits, waits and audits again, until a signal.
    ///
    /// # Errors
    /// `audit_failed` at the end if anything that was found is a lie; what keeps an audit from its own folder.
    pub(super) fn run(mut self, every: Duration, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::new("runtime", error))?;
        // The first round may take hours: until it is over, a signal ends the program at once.
        self.round(terminal)?;
        let (stop, stopped) = std::sync::mpsc::sync_channel(1);
        let entered = runtime.enter();
        let first = stop_signal()?;
        drop(entered);
        std::thread::spawn(move || {
            runtime.block_on(first);
            let _ = stop.send(());
            // A round that takes too long is left where it is: the next audit in the folder continues there.
            let entered = runtime.enter();
            let second = stop_signal();
            drop(entered);
            if let Ok(second) = second {
                runtime.block_on(second);
                std::process::exit(i32::from(crate::UNDECIDED));
            }
        });
        while stopped.recv_timeout(every).is_err() {
            self.round(terminal)?;
        }
        if self.has_lied {
            return Err(Failure::new("audit_failed", "something did not hold while it was watched: see above"));
        }
        if let Some(found) = self.found.first() {
            return Err(Failure::new("audit_incomplete", found).undecided());
        }
        Ok(())
    }

    fn round(&mut self, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let bar = progress::bar(0, "auditing");
        let mut hooks = Hooks {
            progress: &mut |done, total| {
                bar.set_length(total);
                bar.set_position(done);
            },
            watch: &mut |_, _, _, _| {},
        };
        let audited = audit::run(self.sources, self.trusted.as_ref(), &self.folder.store(), &mut hooks);
        bar.finish_and_clear();
        match audited {
            Ok((report, _)) => self.tell(&report, terminal),
            // That no source answers passes; before the first round there is nothing to compare with later.
            Err(AuditError::Nothing(findings)) if self.state.is_some() => {
                if terminal.json {
                    let found: Vec<_> = findings.iter().map(AuditFinding::json).collect();
                    terminal.answer(&json!({"time": now(), "ok": false, "findings": found}), "")?;
                }
                // What was found before is neither gone nor there.
                let before = self.found.clone();
                self.tell_findings(&findings, &before, terminal)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Says what changed since the last round; with `--json`, one object for each round.
    fn tell(&mut self, report: &AuditReport, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        for path in self.folder.keep_proofs(report)? {
            terminal.say(format_args!("proof       {}", path.display()));
        }
        let state = Some(report.state_id.to_string());
        let is_first = self.state.is_none();
        if terminal.json {
            let mut shown = shown(report);
            shown["genesis"] = self.genesis.as_str().into();
            shown["time"] = now().into();
            terminal.answer(&shown, "")?;
        } else if is_first {
            terminal.answer(&json!({}), people(report, self.genesis))?;
        } else if self.state != state {
            let (new, size) = report.logs.iter().fold((0u64, 0u64), |(new, size), log| {
                (new.saturating_add(log.new), size.saturating_add(log.state.size))
            });
            let manifest = report.version;
            let line = format!(
                "{}  {new} new of {size} entries, manifest version {manifest}, state {}",
                now(),
                report.state_id
            );
            terminal.answer(&json!({}), line)?;
        }
        self.state = state;
        if is_first {
            self.keep(&report.findings);
            return Ok(());
        }
        self.tell_findings(&report.findings, &BTreeSet::new(), terminal)
    }

    /// Says which findings are new and which are gone; `also` are taken for found, too.
    fn tell_findings(
        &mut self,
        findings: &[AuditFinding],
        also: &BTreeSet<String>,
        terminal: &mut Terminal<'_>,
    ) -> Result<(), Failure> {
        let before = self.keep(findings);
        self.found.extend(also.iter().cloned());
        if terminal.json {
            return Ok(());
        }
        for new in self.found.difference(&before) {
            terminal.answer(&json!({}), format!("{}  FOUND {new}", now()))?;
        }
        for gone in before.difference(&self.found) {
            terminal.answer(&json!({}), format!("{}  no longer: {gone}", now()))?;
        }
        Ok(())
    }

    /// Keeps what was found; returns what the round before found.
    fn keep(&mut self, findings: &[AuditFinding]) -> BTreeSet<String> {
        self.has_lied |= findings.iter().any(|finding| finding.lie != LieKind::Unreachable);
        std::mem::replace(&mut self.found, findings.iter().map(ToString::to_string).collect())
    }
}

fn now() -> String {
    fama_node::clock::now().to_string()
}
