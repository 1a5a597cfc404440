//! When an owner announces its heads: seldom enough that cosignatures gather on the same head.
//!
//! Nobody else learns of a head before it is announced. Once a heartbeat an announced head is a *meeting head*: the
//! next one waits until a quorum has cosigned it. So a busy log has a certificate on one note that is no older than
//! that of an idle one.
use alloc::collections::VecDeque;

use crate::checkpoint::SignedCheckpoint;

/// How many of the newest announced heads are watched.
const WATCHED: usize = 10;
/// The pause between announcements while none of the watched heads has reached its quorum, in milliseconds.
const HOLD_MILLIS: u64 = 1_000;
/// How long a meeting head waits for its quorum, in milliseconds: in two rounds of frontiers everybody who can be
/// reached has heard of it. Without a quorum nothing becomes final in that time anyway.
pub(super) const MEETING_MILLIS: u64 = 4_000;

/// Delays announcements while the other operators are too slow to cosign each head, and while they meet.
#[derive(Debug, Default)]
pub(super) struct Announcer {
    waiting: Option<SignedCheckpoint>,
    announced: VecDeque<(u64, bool)>,
    last: Option<u64>,
    /// The size of the last meeting head, and when it was announced.
    met: Option<(u64, u64)>,
    /// The meeting head has not reached its quorum.
    meeting: bool,
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
        self.meeting &= self.met.is_none_or(|(met, _)| met != size);
    }

    /// Whether the newest head has not been announced yet.
    pub(super) const fn holds(&self) -> bool {
        self.waiting.is_some()
    }

    /// The head to announce at `now`, if any.
    pub(super) fn due(&mut self, now: u64, heartbeat_ms: u64) -> Option<SignedCheckpoint> {
        let within = |millis: u64| self.met.is_some_and(|(_, at)| now < at.saturating_add(millis));
        let meets = self.meeting && within(MEETING_MILLIS);
        let crowded = self.announced.len() >= WATCHED && self.announced.iter().all(|(_, found)| !found);
        let too_soon = self.last.is_some_and(|last| now < last.saturating_add(HOLD_MILLIS));
        if meets || crowded && too_soon {
            return None;
        }
        let begins = !within(heartbeat_ms);
        let signed = self.waiting.take()?;
        let size = signed.checkpoint().head.size;
        if begins {
            (self.met, self.meeting) = (Some((size, now)), true);
        }
        self.last = Some(now);
        self.announced.push_back((size, false));
        if self.announced.len() > WATCHED {
            self.announced.pop_front();
        }
        Some(signed)
    }
}
