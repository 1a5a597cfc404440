//! Counters of an audit.
use std::collections::BTreeMap;
use std::time::Instant;

use fama_ledger::entry::{VerifiedEntry, VerifiedEvent};
use fama_ledger::fold::Outcome;
use fama_ledger::key::batch::{self, Signed};
use fama_node::verify;
use rayon::prelude::*;

/// How many events are verified a second time, without any other work, to measure the cost of a signature here.
const SAMPLE_EVENTS: usize = 4_096;

/// Counters and measurements of one run.
#[derive(Debug, Default)]
pub struct AuditFigures {
    /// Entries verified and folded, adoptions and state entries included.
    pub entries: u64,
    /// Events that took effect, by kind.
    pub events: BTreeMap<&'static str, u64>,
    /// Events without effect, by reason.
    pub void: BTreeMap<&'static str, u64>,
    /// Verified signatures of authors.
    pub signatures: u64,
    /// Notes that entries name.
    pub notes: NoteCounts,
    /// Files that sources had.
    pub files: u64,
    /// Bytes of those files.
    pub bytes: u64,
    /// Duration of the run, in seconds.
    pub seconds: f64,
    /// Signature checks per second on all cores, in batches as an audit makes them, when nothing else is done; 0 if nothing was
    /// measured.
    pub bare_rate: f64,
    sample: Vec<VerifiedEvent>,
}

/// How many of the named notes the sources have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoteCounts {
    /// Found, and their hash is the one that the entry names.
    pub checked: u64,
    /// Found nowhere: not yet delivered, or withdrawn on purpose. Neither is a fault.
    pub missing: u64,
}

impl AuditFigures {
    /// Counts one folded entry; `outcome` is `None` for entries that are no events.
    pub fn count(&mut self, entry: &VerifiedEntry, outcome: Option<&Outcome>) {
        self.entries = self.entries.saturating_add(1);
        let (Some(event), Some(outcome)) = (entry.event(), outcome) else { return };
        self.signatures = self.signatures.saturating_add(signatures(event));
        let counter = match outcome {
            Ok(_) => self.events.entry(event.event().action.kind().as_str()).or_default(),
            Err(void) => self.void.entry(void.code()).or_default(),
        };
        *counter = counter.saturating_add(1);
        if self.sample.len() < SAMPLE_EVENTS {
            self.sample.push(event.clone());
        }
    }

    /// Signature checks per second over the whole run.
    #[must_use]
    pub fn rate(&self) -> f64 {
        rate(self.signatures, self.seconds)
    }

    /// Measures [`AuditFigures::bare_rate`] with a sample of the events.
    pub fn measure(&mut self) {
        let sample: Vec<(String, VerifiedEvent)> =
            std::mem::take(&mut self.sample).into_iter().map(|event| (event.event().text(), event)).collect();
        let (begun, verifier) = (Instant::now(), verify::verifier());
        let holds = |piece: &[(String, VerifiedEvent)]| {
            let signed = piece.iter().map(|(text, event)| Signed {
                key: &event.signed().signer,
                message: text.as_bytes(),
                signature: &event.signed().signature,
            });
            let outcomes = batch::verify_all(&signed.collect::<Vec<_>>(), &verifier);
            outcomes.iter().filter(|outcome| outcome.is_ok()).count()
        };
        let size = sample.len().div_ceil(rayon::current_num_threads()).max(1);
        let held: usize = sample.par_chunks(size).map(holds).sum();
        self.bare_rate = rate(held as u64, begun.elapsed().as_secs_f64());
    }
}

fn signatures(event: &VerifiedEvent) -> u64 {
    1 + u64::from(event.signed().countersignature.is_some())
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn rate(count: u64, seconds: f64) -> f64 {
    if count == 0 || seconds <= 0.0 { 0.0 } else { count as f64 / seconds }
}
