//! When an owner tells the others of its heads: so that they find their cosignatures on one head.
use alloc::collections::VecDeque;

use crate::checkpoint::SignedCheckpoint;

/// How many announced heads are watched.
const WATCHED: usize = 10;
/// How long an announcement is held back while none of the watched heads found its quorum, in milliseconds.
const HOLD_MILLIS: u64 = 1_000;

/// Holds announcements back while the others are too slow to cosign each head.
#[derive(Debug, Default)]
pub(super) struct Announcer {
    waiting: Option<SignedCheckpoint>,
    announced: VecDeque<(u64, bool)>,
    last: Option<u64>,
}

impl Announcer {
    /// A new head: it takes the place of one that still waits.
    pub(super) fn appended(&mut self, signed: SignedCheckpoint) {
        self.waiting = Some(signed);
    }

    /// The head of that size found a quorum of cosignatures.
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
