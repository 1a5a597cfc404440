//! Limits on the peers' requests that this node is answering, and on the bytes of its answers.
use std::collections::HashMap;

use libp2p::PeerId;
use libp2p::request_response::InboundRequestId;

use super::codec::MemoryClaim;
use super::limits;
use crate::wire::{Refusal, SubmitRequest, SubmitResponse, SubmitResult, SyncResponse};

/// Identifies a request by its protocol and its number within that protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum RequestKey {
    Sync(InboundRequestId),
    Submit(InboundRequestId),
}

struct Taken {
    peer: PeerId,
    operator: bool,
    /// Bytes of the answer; 0 until there is one.
    bytes: usize,
    _claim: MemoryClaim,
}

/// Incoming requests, from their arrival until their answer is sent or their stream is gone.
#[derive(Default)]
pub(super) struct Slots(HashMap<RequestKey, Taken>);

impl Slots {
    /// Takes a slot and keeps the request's claim with it; false if this peer, or all strangers together, have too many.
    pub(super) fn take(&mut self, slot: RequestKey, peer: PeerId, operator: bool, claim: MemoryClaim) -> bool {
        let strangers = || self.0.values().filter(|taken| !taken.operator).count();
        let of_peer = self.0.values().filter(|taken| taken.peer == peer).count();
        let free = match operator {
            true => of_peer < limits::INBOUND_PER_OPERATOR_MAX,
            false => of_peer < limits::INBOUND_PER_STRANGER_MAX && strangers() < limits::INBOUND_STRANGERS_MAX,
        };
        if free {
            self.0.insert(slot, Taken { peer, operator, bytes: 0, _claim: claim });
        }
        free
    }

    /// Counts the bytes of an answer until the slot is released; false if that exceeds a limit, or the slot is
    /// already released.
    pub(super) fn charge(&mut self, slot: RequestKey, bytes: usize) -> bool {
        let Some(Taken { peer, operator, .. }) = self.0.get(&slot) else { return false };
        let sum =
            |counts: &dyn Fn(&Taken) -> bool| self.0.values().filter(|t| counts(t)).map(|t| t.bytes).sum::<usize>();
        let (of_peer, of_strangers, all) = (sum(&|t| t.peer == *peer), sum(&|t| !t.operator), sum(&|_| true));
        let per_peer =
            if *operator { limits::ANSWERS_PER_OPERATOR_BYTES_MAX } else { limits::ANSWERS_PER_STRANGER_BYTES_MAX };
        let free = (of_peer == 0 || of_peer + bytes <= per_peer)
            && all + bytes <= limits::ANSWERS_BYTES_MAX
            && (*operator || of_strangers + bytes <= limits::ANSWERS_STRANGERS_BYTES_MAX);
        if let Some(taken) = self.0.get_mut(&slot).filter(|_| free) {
            taken.bytes = bytes;
        }
        free
    }

    /// Releases a slot, with its claim and the bytes of its answer.
    pub(super) fn release(&mut self, slot: RequestKey) {
        self.0.remove(&slot);
    }
}

fn busy() -> Refusal {
    let message = "too many requests at once";
    Refusal { retry_after: Some(1), ..Refusal::new("busy", message) }
}

/// The answer when there is no slot, or the node does not keep up.
pub(super) fn sync_busy() -> SyncResponse {
    SyncResponse::Refused(busy())
}

/// The same for submissions: one refusal for each.
pub(super) fn submit_busy(request: &SubmitRequest) -> SubmitResponse {
    SubmitResponse(request.submissions.iter().map(|_| SubmitResult::Refused(busy())).collect())
}
