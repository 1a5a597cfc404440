//! The newest of all logs: how much happens, which keys were revoked, what happened last.
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use fama_ledger::codec;
use fama_ledger::entry::{Body, Entry};
use fama_ledger::event::Action;
use fama_ledger::frontier::Frontier;
use fama_ledger::id::EventId;
use fama_ledger::limits;
use fama_ledger::manifest::LogId;
use fama_ledger::time::Millis;

use super::words::Told;
use crate::clock;
use crate::http::ApiError;
use crate::http::feed;
use crate::http::moment::Moment;

/// Most entries that one page looks at to catch up; older ones are skipped.
const ENTRIES_MAX: u64 = 2_048;
/// Most bytes of entries that are read at once.
const BYTES_MAX: usize = 1 << 20;
/// How many revocations are remembered.
const REVOCATIONS_MAX: usize = 8;
/// For how many seconds events are counted.
const SECONDS: u64 = 60;
/// The unit of counted times, in milliseconds.
const SECOND: u64 = 1_000;

/// What this node has seen happen since it first was asked. Each page continues where the last one ended.
#[derive(Default)]
pub(super) struct Pulse(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    at: Frontier,
    /// From when on nothing was skipped.
    since: Option<Millis>,
    /// The newest revocations, oldest first, as `/api/stream` tells them.
    revocations: VecDeque<(EventId, String)>,
    /// Events by the second of their entries.
    seconds: BTreeMap<u64, u64>,
}

/// What a page shows of it.
pub(super) struct Beat {
    pub(super) per_minute: u64,
    /// Whether the rate is of less than a minute.
    pub(super) about: bool,
    /// Newest first.
    pub(super) revocations: Vec<Told>,
    /// From when on no revocation is missing.
    pub(super) since: Option<Millis>,
}

impl Pulse {
    /// Reads on, and shows what it has seen.
    pub(super) fn beat(&self, moment: &Moment<'_>) -> Result<Beat, ApiError> {
        let (now, mut seen) = (clock::now(), self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if let Err(error) = seen.read_on(moment, now) {
            // What was read before it failed is not among what is remembered.
            *seen = Seen::default();
            return Err(error);
        }
        let first = now.0.saturating_sub(SECONDS * SECOND);
        let counted: u64 = seen.seconds.range(first / SECOND..).map(|(_, count)| *count).sum();
        let skipped = seen.since.filter(|since| since.0 > first);
        let per_minute = skipped.map_or(counted, |since| {
            counted.saturating_mul(SECONDS * SECOND) / now.0.saturating_sub(since.0).max(SECOND)
        });
        let revocations = seen.revocations.iter().rev().map(|(_, line)| read(line)).collect::<Result<_, _>>()?;
        Ok(Beat { per_minute, about: skipped.is_some(), revocations, since: seen.since })
    }
}

impl Seen {
    fn read_on(&mut self, moment: &Moment<'_>, now: Millis) -> Result<(), ApiError> {
        let goal = feed::sizes(moment)?;
        if self.at.is_beyond(&goal) {
            // A log was rolled back: what it had may be gone.
            *self = Self::default();
        }
        let logs: Vec<LogId> = moment.app.shared.manifest.logs().keys().cloned().collect();
        let share = ENTRIES_MAX / u64::try_from(logs.len()).unwrap_or(1).max(1);
        let mut found = Vec::new();
        for log in &logs {
            let (from, to) = (self.at.of(log), goal.of(log));
            let base = if moment.app.partial { moment.view.base(log)?.map_or(0, |base| base.size) } else { 0 };
            let first = from.max(to.saturating_sub(share)).max(base);
            let entries = entries(moment, log, (first, to))?;
            if let Some((_, oldest)) = entries.first().filter(|_| first > from) {
                self.since = self.since.max(Some(oldest.time));
            }
            self.at.set(log, first);
            for (index, entry) in entries {
                self.take(moment, (log, index), &entry, &mut found)?;
                self.at.set(log, index.saturating_add(1));
            }
        }
        found.sort();
        for (_, event, line) in found {
            // Several logs may have it.
            if !self.revocations.iter().any(|(known, _)| *known == event) {
                self.revocations.push_back((event, line));
            }
        }
        let too_many = self.revocations.len().saturating_sub(REVOCATIONS_MAX);
        self.revocations.drain(..too_many);
        self.seconds = self.seconds.split_off(&(now.0 / SECOND).saturating_sub(SECONDS));
        Ok(())
    }

    fn take(
        &mut self,
        moment: &Moment<'_>,
        (log, index): (&LogId, u64),
        entry: &Entry,
        found: &mut Vec<(Millis, EventId, String)>,
    ) -> Result<(), ApiError> {
        let Body::Event(signed) = &entry.body else { return Ok(()) };
        *self.seconds.entry(entry.time.0 / SECOND).or_default() += 1;
        if matches!(signed.event.action, Action::Revoke { .. })
            && let Some(line) = feed::line(moment, (log, index), entry, signed)?
        {
            found.push((entry.time, signed.event.id(), line.data));
        }
        Ok(())
    }
}

/// The entries `first..end` of a log, as many of them as [`BYTES_MAX`] allows, with their indices.
fn entries(moment: &Moment<'_>, log: &LogId, (first, end): (u64, u64)) -> Result<Vec<(u64, Entry)>, ApiError> {
    let count = usize::try_from(end.saturating_sub(first)).unwrap_or(usize::MAX);
    if count == 0 {
        return Ok(Vec::new());
    }
    let bytes = moment.view.entries(log, first, count, BYTES_MAX)?;
    let decode = |(index, bytes): (u64, Vec<u8>)| Ok((index, codec::decode(&bytes, limits::ENTRY_BYTES_MAX)?));
    (first..).zip(bytes).map(decode).collect()
}

/// The newest events of all logs, newest first, at most `max`.
pub(super) fn newest(moment: &Moment<'_>, max: usize) -> Result<Vec<Told>, ApiError> {
    let mut from = feed::sizes(moment)?;
    let logs: Vec<LogId> = moment.app.shared.manifest.logs().keys().cloned().collect();
    // About every second entry of a quiet log is a state root.
    let share = u64::try_from(max.saturating_mul(2) / logs.len().max(1)).unwrap_or(0).max(4);
    for log in &logs {
        let base = if moment.app.partial { moment.view.base(log)?.map_or(0, |base| base.size) } else { 0 };
        let size = from.of(log);
        from.set(log, size.saturating_sub(share).max(base).min(size));
    }
    let (lines, _) = feed::read_on(moment, &from)?;
    let mut told = lines.iter().map(|line| read(&line.data)).collect::<Result<Vec<Told>, ApiError>>()?;
    told.sort_by(|a, b| (&b.time, &b.log, b.index).cmp(&(&a.time, &a.log, a.index)));
    told.truncate(max);
    Ok(told)
}

fn read(line: &str) -> Result<Told, ApiError> {
    serde_json::from_str(line).map_err(ApiError::internal)
}
