//! What an audit counts.
use std::collections::BTreeMap;
use std::time::Instant;

use fama_ledger::entry::{VerifiedEntry, VerifiedEvent};
use fama_ledger::fold::Outcome;
use rayon::prelude::*;

/// How many of the events are verified once more, alone, to measure what a signature costs here.
const SAMPLE_EVENTS: usize = 4_096;

/// What was done in one run.
#[derive(Debug, Default)]
pub struct Figures {
    /// Entries that were verified and folded, marks included.
    pub entries: u64,
    /// Events that apply, by kind.
    pub events: BTreeMap<&'static str, u64>,
    /// Events that have no effect, by reason.
    pub void: BTreeMap<&'static str, u64>,
    /// Authors' signatures that were checked.
    pub signatures: u64,
    /// Notes that were read.
    pub notes: Notes,
    /// Files that were read.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Everything, in seconds.
    pub seconds: f64,
    /// Bare checks of the same signatures on all cores, a second; 0 where there were none.
    pub bare_rate: f64,
    sample: Vec<VerifiedEvent>,
}

/// What became of the notes that entries name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Present, with the hash that the entry names.
    pub checked: u64,
    /// Not there: pending, or dropped on purpose.
    pub missing: u64,
}

impl Figures {
    /// Counts one entry.
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

    /// Signatures checked a second, all other work included.
    #[must_use]
    pub fn rate(&self) -> f64 {
        rate(self.signatures, self.seconds)
    }

    /// Measures what the same checks cost alone, on all cores.
    pub fn measure(&mut self) {
        let sample: Vec<(String, VerifiedEvent)> =
            std::mem::take(&mut self.sample).into_iter().map(|event| (event.event().text(), event)).collect();
        let begun = Instant::now();
        let held = sample.par_iter().filter(|(text, event)| {
            let signed = event.signed();
            signed.signer.verify(text.as_bytes(), &signed.signature).is_ok()
        });
        let held = held.count() as u64;
        self.bare_rate = rate(held, begun.elapsed().as_secs_f64());
    }
}

fn signatures(event: &VerifiedEvent) -> u64 {
    1 + u64::from(event.signed().countersignature.is_some())
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn rate(count: u64, seconds: f64) -> f64 {
    if count == 0 || seconds <= 0.0 { 0.0 } else { count as f64 / seconds }
}
