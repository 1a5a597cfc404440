//! When an owner announces its heads: seldom enough that cosignatures gather on the same head.
use alloc::collections::VecDeque;

use crate::checkpoint::SignedCheckpoint;

/// How many of the newest announced heads are watched.
const WATCHED: usize = 10;
/// The pause between announcements while none of the watched heads has reached its quorum, in milliseconds.
const HOLD_MILLIS: u64 = 1_000;

/// Delays announcements while the other operators are too slow to cosign each head.
#[derive(Debug, Default)]
pub(super) struct Announcer {
    waiting: Option<SignedCheckpoint>,
    announced: VecDeque<(u64, bool)>,
    last: Option<u64>,
}

impl Announcer {
    /// A new head, which replaces one that has not been announced yet.
    pub(super) fn appended(&mut self, signed: SignedCheckpoint) {
        self.waiting = Some(signed);
    }

    /// The head of this size reached a quorum of cosignatures.
    pub(super) fn found(&mut self, size: u64) {
        for (announced, found) in &mut self.announced {
            *found |= *announced == size;
        }
    }

    /// The head to announce at `now`, if any.
    pub(super) fn due(&mut self, now: u64) -> Option<SignedCheckpoint> {
        let crowded = self.announced.len() >= WATCHED && self.announced.iter().all(|(_, found)| !found);
        let too_soon = self.last.is_some_and(|last| now < last.saturating_add(HOLD_MILLIS));
        if crowded && too_soon {
            return None;
        }
        let signed = self.waiting.take()?;
        self.last = Some(now);
        self.announced.push_back((signed.checkpoint().head.size, false));
        if self.announced.len() > WATCHED {
            self.announced.pop_front();
        }
        Some(signed)
    }
}
