//! Lateness: an operator does not vouch for entries that reached its node long after their time, so that an owner
//! cannot fill days of the past. A rule of cosigning: it never decides whether a log is valid.
//!
//! Times are those of the node's own wall clock. Nothing here reads it.
use alloc::vec::Vec;

use bincode::{Decode, Encode};

use crate::time::Millis;

/// A silence is at least this part of the policy's `max_lag_ms` without a word from the owner: an hour of 24.
const SILENCE_PART: u64 = 24;
/// How often the time of the last word is stored, as a part of `max_lag_ms`: ten minutes of 24 hours.
const STORED_PART: u64 = 144;
/// Most late ranges that are kept for a log; with more, the last two are joined. Entry times never go back, so an owner
/// can add about one a day.
pub const LATE_RANGES_MAX: usize = 64;
/// Longest encoding of a [`Lateness`], in bytes.
pub const LATENESS_BYTES_MAX: usize = 8 + 1 + 8 + 1 + 8 + 8 + LATE_RANGES_MAX * 16;

/// What a node remembers about the times at which it received one log, besides the entries. Durable.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Lateness {
    /// When this node last had a word from the owner: an answer of its node, a new head or a renewed cosignature.
    heard: Millis,
    /// The silence that this node's copy has not caught up with yet.
    silence: Option<Silence>,
    /// Ranges of indices, ascending: entries older than `max_lag_ms` when this node first held them.
    late: Vec<(u64, u64)>,
}

/// A time without a word from the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
struct Silence {
    /// The last word before it.
    since: Millis,
    /// The time of the first entry that passed because of this silence.
    first: Option<Millis>,
}

/// Whether a node may vouch for a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passing {
    /// All entries pass, without the help of a silence.
    All,
    /// They pass because of a silence. Call [`Lateness::passed`] with this time, store it, then cosign.
    AfterSilence(Millis),
    /// The entry with this index does not pass.
    Late(u64),
}

impl Lateness {
    /// Of a log that this node has never heard of: its owner is silent since the log's beginning.
    #[must_use]
    pub const fn new(begins: Millis) -> Self {
        Self { heard: begins, silence: None, late: Vec::new() }
    }

    /// The owner gave a word at `now`. Returns whether this has to be stored now.
    pub fn heard(&mut self, now: Millis, max_lag_ms: u64) -> bool {
        let (gap, ended) = (now.0.saturating_sub(self.heard.0), self.silence_at(now, max_lag_ms));
        // A clock that was set back must not turn the time until it catches up into a silence.
        let store = gap >= max_lag_ms / STORED_PART || now < self.heard || ended != self.silence;
        if store {
            (self.heard, self.silence) = (now, ended);
        }
        store
    }

    /// The owner is not silent, and this node has all the entries that the owner reported. A silence does not end before
    /// late ones among them are `covered`, as for [`Lateness::judge`]: a node that starts, or distrusts its clock, judges
    /// them later. Returns whether that ended a silence, which has to be stored.
    pub fn caught_up(&mut self, covered: u64) -> bool {
        let judged = self.late.iter().all(|(_, to)| *to <= covered);
        judged && self.silence.take().is_some()
    }

    /// The silence that counts at `now`: one not caught up with, or one that lasts.
    fn silence_at(&self, now: Millis, max_lag_ms: u64) -> Option<Silence> {
        let lasts = now.0.saturating_sub(self.heard.0) >= max_lag_ms / SILENCE_PART;
        self.silence.or_else(|| lasts.then_some(Silence { since: self.heard, first: None }))
    }

    /// This node holds a batch with the indices `from..to` for the first time, whose first entry has the time `oldest`.
    /// Returns whether it is late, which has to be stored together with the entries. Not for batches that adopt a
    /// version: lateness does not apply to them.
    pub fn held(&mut self, (from, to): (u64, u64), oldest: Millis, now: Millis, max_lag_ms: u64) -> bool {
        if oldest.plus(max_lag_ms) >= now {
            return false;
        }
        let full = self.late.len() >= LATE_RANGES_MAX;
        match self.late.last_mut() {
            Some((_, end)) if *end >= from || full => *end = to,
            _ => self.late.push((from, to)),
        }
        true
    }

    /// Forgets late entries below `certified`: a certificate covers them.
    pub fn forget(&mut self, certified: u64) {
        self.late.retain(|(_, to)| *to > certified);
    }

    /// Whether the node may vouch for a head of `size` entries, of which it need not judge the first `covered`: those
    /// that it vouched for before, that are certified, or that f + 1 operators vouch for.
    ///
    /// A late entry passes if it is not older than `max_lag_ms` before a silence that this node has not caught up with,
    /// and at most `max_lag_ms` later than the first entry that passes because of that silence. `time_at` gives the
    /// time of an entry.
    ///
    /// # Errors
    /// The error of `time_at`.
    pub fn judge<E>(
        &self,
        (covered, size): (u64, u64),
        now: Millis,
        max_lag_ms: u64,
        mut time_at: impl FnMut(u64) -> Result<Millis, E>,
    ) -> Result<Passing, E> {
        let silence = self.silence_at(now, max_lag_ms);
        let mut first = silence.and_then(|silence| silence.first);
        let mut passing = Passing::All;
        for (from, to) in &self.late {
            let (from, to) = ((*from).max(covered), (*to).min(size));
            if from >= to {
                continue;
            }
            let (oldest, newest) = (time_at(from)?, time_at(to.saturating_sub(1))?);
            let Some(silence) = silence.filter(|silence| oldest.plus(max_lag_ms) >= silence.since) else {
                return Ok(Passing::Late(from));
            };
            let begun = *first.get_or_insert(oldest);
            if newest > begun.plus(max_lag_ms) {
                return Ok(Passing::Late(from));
            }
            if silence.first.is_none() {
                passing = Passing::AfterSilence(begun);
            }
        }
        Ok(passing)
    }

    /// Entries from time `first` on pass because of the present silence.
    pub fn passed(&mut self, first: Millis, now: Millis, max_lag_ms: u64) {
        self.silence = self.silence_at(now, max_lag_ms).map(|silence| Silence { first: Some(first), ..silence });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400_000;
    const HOUR: u64 = DAY / 24;

    fn at(hours: u64) -> Millis {
        Millis(1_000 * DAY + hours * HOUR)
    }

    /// Entry i has the time `times[i]`, in hours.
    fn judge(lateness: &Lateness, covered: u64, now: u64, times: &[u64]) -> Passing {
        let time_at = |index: u64| Ok::<_, ()>(at(times[usize::try_from(index).unwrap()]));
        lateness.judge((covered, times.len() as u64), at(now), DAY, time_at).unwrap()
    }

    fn hold(lateness: &mut Lateness, now: u64, times: &[u64]) -> usize {
        let held = |(i, time): (usize, &u64)| lateness.held((i as u64, i as u64 + 1), at(*time), at(now), DAY);
        times.iter().enumerate().map(held).filter(|late| *late).count()
    }

    #[test]
    fn an_owner_that_is_heard_cannot_fill_days_of_the_past() {
        let mut lateness = Lateness::new(at(0));
        for hour in 0..240 {
            lateness.heard(at(hour), DAY);
            lateness.caught_up(0);
        }
        let times = [239, 100, 120];
        assert_eq!(hold(&mut lateness, 240, &times), 2);
        assert_eq!(judge(&lateness, 0, 240, &times), Passing::Late(1));
        assert_eq!(judge(&lateness, 3, 240, &times), Passing::All, "others vouch for all three");
        assert_eq!(judge(&lateness, 2, 240, &times), Passing::Late(2));
    }

    #[test]
    fn an_owner_that_comes_back_is_followed_for_one_window() {
        let mut lateness = Lateness::new(at(0));
        lateness.heard(at(10), DAY);
        lateness.caught_up(0);
        // Silent from hour 10 to hour 240; the first event came on day four.
        assert!(lateness.heard(at(240), DAY));
        let times = [96, 100, 108];
        assert_eq!(hold(&mut lateness, 240, &times), 3);
        assert_eq!(judge(&lateness, 0, 240, &times), Passing::AfterSilence(at(96)));
        lateness.passed(at(96), at(240), DAY);
        assert_eq!(judge(&lateness, 0, 240, &times), Passing::All);
        // One window for each silence, however the entries are split.
        let more = [96, 100, 108, 121];
        lateness.held((3, 4), at(121), at(240), DAY);
        assert_eq!(judge(&lateness, 3, 240, &more), Passing::Late(3));
        assert!(!lateness.caught_up(3) && lateness.caught_up(4), "the last one waits until others vouch for it");
        assert_eq!(judge(&lateness, 0, 240, &times), Passing::Late(0), "the silence is over");
    }

    /// Nodes that received what a silence lets pass while they still waited for others to answer, forgot the silence at
    /// the owner's next answer, and never vouched for it: an outage of two operators ended a third one's log.
    #[test]
    fn a_silence_counts_until_what_it_lets_pass_is_cosigned() {
        let mut lateness = Lateness::new(at(0));
        lateness.heard(at(240), DAY);
        let times = [200, 201];
        assert_eq!(hold(&mut lateness, 240, &times), 2);
        assert!(!lateness.caught_up(0), "the start is not over");
        assert_eq!(judge(&lateness, 0, 241, &times), Passing::AfterSilence(at(200)));
        lateness.passed(at(200), at(241), DAY);
        assert!(!lateness.caught_up(1) && lateness.caught_up(2));
    }

    #[test]
    fn nothing_passes_from_long_before_a_silence() {
        let mut lateness = Lateness::new(at(0));
        lateness.heard(at(100), DAY);
        lateness.caught_up(0);
        lateness.heard(at(140), DAY);
        for (time, passes) in [(75, false), (76, true), (90, true)] {
            let mut lateness = lateness.clone();
            hold(&mut lateness, 140, &[time]);
            assert_eq!(judge(&lateness, 0, 140, &[time]) != Passing::Late(0), passes, "{time}");
        }
    }

    #[test]
    fn a_short_pause_is_no_silence_and_one_that_lasts_is_one() {
        let mut lateness = Lateness::new(at(0));
        lateness.heard(at(100), DAY);
        lateness.caught_up(0);
        let minutes = |minutes: u64| Millis(at(100).0 + minutes * 60_000);
        assert!(!lateness.heard(minutes(9), DAY), "stored every ten minutes");
        assert!(lateness.heard(minutes(59), DAY));
        assert_eq!(lateness.silence, None);
        assert!(lateness.silence_at(minutes(59 + 60), DAY).is_some());
        assert_eq!(lateness.silence, None, "nothing was heard yet");
        assert!(lateness.heard(minutes(59 + 61), DAY) && lateness.silence.is_some());
        assert!(lateness.heard(minutes(59 + 200), DAY), "stored every ten minutes");
        assert_eq!(
            lateness.silence.unwrap().since,
            minutes(59),
            "the earlier silence lasts until it is caught up with"
        );
    }

    #[test]
    fn a_clock_that_is_set_back_makes_no_silence() {
        let mut lateness = Lateness::new(at(0));
        lateness.heard(at(500), DAY);
        lateness.caught_up(0);
        assert!(lateness.heard(at(100), DAY));
        assert_eq!((lateness.heard, lateness.silence), (at(100), None));
    }

    #[test]
    fn late_ranges_are_bounded_and_encoded_within_their_bound() {
        let mut lateness = Lateness::new(at(0));
        lateness.passed(at(1), at(500), DAY);
        for i in 0..10_000 {
            assert!(lateness.held((2 * i, 2 * i + 1), at(0), at(500), DAY));
        }
        assert_eq!(lateness.late.len(), LATE_RANGES_MAX);
        assert_eq!(lateness.late.last().unwrap().1, 19_999);
        assert!(crate::codec::encode(&lateness).len() <= LATENESS_BYTES_MAX);
        lateness.forget(19_999);
        assert!(lateness.late.is_empty());
    }
}
