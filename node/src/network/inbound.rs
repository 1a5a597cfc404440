//! Requests of peers that this node has taken in: how many, of whom.
use std::collections::HashMap;

use libp2p::PeerId;
use libp2p::request_response::InboundRequestId;

use super::limits;
use super::wire::{Refusal, SubmitRequest, SubmitResponse, SubmitResult, SyncResponse};

/// A request by its protocol and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Slot {
    Sync(InboundRequestId),
    Submit(InboundRequestId),
}

/// Requests from when they have arrived until their answer has left or their stream is gone.
#[derive(Default)]
pub(super) struct Slots(HashMap<Slot, (PeerId, bool)>);

impl Slots {
    /// Takes a slot; false if this peer, strangers or all together have too many.
    pub(super) fn take(&mut self, slot: Slot, peer: PeerId, operator: bool) -> bool {
        let strangers = || self.0.values().filter(|(_, operator)| !operator).count();
        let of_peer = self.0.values().filter(|(other, _)| *other == peer).count();
        let per_peer = if operator { limits::INBOUND_PER_OPERATOR_MAX } else { limits::INBOUND_PER_STRANGER_MAX };
        let free = of_peer < per_peer
            && self.0.len() < limits::INBOUND_MAX
            && (operator || strangers() < limits::INBOUND_STRANGERS_MAX);
        if free {
            self.0.insert(slot, (peer, operator));
        }
        free
    }

    /// Gives it back.
    pub(super) fn release(&mut self, slot: Slot) {
        self.0.remove(&slot);
    }
}

fn busy() -> Refusal {
    let message = "too many requests at once";
    Refusal { retry_after: Some(1), ..Refusal::new("busy", message) }
}

/// What a peer hears when there is no slot, or the node does not keep up.
pub(super) fn sync_busy() -> SyncResponse {
    SyncResponse::Refused(busy())
}

/// As [`sync_busy`], once per submission.
pub(super) fn submit_busy(request: &SubmitRequest) -> SubmitResponse {
    SubmitResponse(request.submissions.iter().map(|_| SubmitResult::Refused(busy())).collect())
}
