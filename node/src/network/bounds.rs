//! How long requests and their answers may be: each request bounds how much of its answer is read.
use fama_ledger::equivocation::Equivocation;
use fama_ledger::limits::{
    CHECKPOINT_BYTES_MAX, DOMAIN_BYTES_MAX, ENTRY_BYTES_MAX, MANIFEST_BYTES_MAX, NOTE_BYTES_MAX, OPERATORS_MAX,
};
use fama_ledger::map::RANGE_PROOF_BYTES_MAX;
use fama_ledger::proof::PROOF_BYTES_MAX;
use fama_ledger::rows::ROW_BYTES_MAX;
use fama_ledger::snapshot::Offer;

use crate::wire::{
    FORMER_COSIGNERS_MAX, GOSSIP_BYTES_MAX, MANIFESTS_MAX, REQUEST_BYTES_MAX, RESPONSE_BYTES_MAX, ROWS_BYTES_SOFT,
    ROWS_MAX, SubmitRequest, SubmitResponse, SubmitResult, SyncRequest, SyncResponse,
};

/// Bytes of a message besides its lists: variants, lengths, a refusal's code and message.
const REST_BYTES: usize = 8 << 10;

/// Bytes of a row besides its key and value: two lengths.
const ROW_BYTES: usize = 16;
/// Most bytes of a map in an offer: its name's length, `statements/` and a domain, its root, its number of rows.
const OFFERED_MAP_BYTES: usize = 8 + 16 + DOMAIN_BYTES_MAX + 32 + 8;
/// Longest offer, in bytes: a checkpoint, the tree's edge, and the maps of a log that took over those of a quarter of
/// the longest list of operators.
const OFFER_BYTES_MAX: usize =
    REST_BYTES + CHECKPOINT_BYTES_MAX + 8 * 256 * 32 + 3 * OPERATORS_MAX / 4 * OFFERED_MAP_BYTES;

/// Bytes of a signed head: its size, root and signature.
const HEAD_BYTES: usize = 8 + 32 + 64;

/// Longest frontier among this many operators, in bytes: for each log a head, a proof of equivocation, a cosigned head
/// by each operator and by some former ones, and a certificate.
fn frontier_bytes_max(operators: usize) -> usize {
    let operator = 8 + DOMAIN_BYTES_MAX;
    let cosigned = HEAD_BYTES + operator + 8 + 64;
    let certificate = 1 + HEAD_BYTES + 8 + 2 * operators * (4 + operator + 8 + 64);
    let log = operator + 4 + 8 + 1 + HEAD_BYTES + 8 + 1 + Equivocation::BYTES_MAX + certificate;
    REST_BYTES + operators * (log + (operators + FORMER_COSIGNERS_MAX) * cosigned)
}

/// A request whose length and whose answer's length have bounds.
pub(super) trait BoundedRequest {
    /// The longest request of this type among this many operators, in bytes.
    fn bytes_max(operators: usize) -> usize;
    /// The longest honest answer to this request among this many operators, in bytes.
    fn answer_bytes_max(&self, operators: usize) -> usize;
}

impl BoundedRequest for SyncRequest {
    fn bytes_max(operators: usize) -> usize {
        frontier_bytes_max(operators).max(GOSSIP_BYTES_MAX)
    }

    fn answer_bytes_max(&self, operators: usize) -> usize {
        match self {
            Self::Frontier(_) => frontier_bytes_max(operators),
            Self::Entries { .. } => RESPONSE_BYTES_MAX,
            Self::Notes(hashes) => REST_BYTES + hashes.len() * (32 + 4 + 8 + NOTE_BYTES_MAX),
            Self::Manifests { .. } => REST_BYTES + (MANIFESTS_MAX + 1) * MANIFEST_BYTES_MAX,
            Self::Offers => (REST_BYTES + operators * OFFER_BYTES_MAX).min(RESPONSE_BYTES_MAX),
            Self::Rows { .. } => {
                REST_BYTES + ROWS_BYTES_SOFT + ROWS_MAX * ROW_BYTES + ROW_BYTES_MAX + RANGE_PROOF_BYTES_MAX
            }
        }
    }
}

impl BoundedRequest for SubmitRequest {
    fn bytes_max(_: usize) -> usize {
        REQUEST_BYTES_MAX
    }

    fn answer_bytes_max(&self, _: usize) -> usize {
        let each = ENTRY_BYTES_MAX + PROOF_BYTES_MAX + REST_BYTES;
        (REST_BYTES + self.submissions.len() * each).min(RESPONSE_BYTES_MAX)
    }
}

/// About how many bytes of memory an answer takes until it is sent.
pub(super) fn sync_answer_bytes(answer: &SyncResponse) -> usize {
    let long = match answer {
        SyncResponse::Entries(range) => range.entries.iter().map(Vec::len).sum(),
        SyncResponse::Notes(notes) => notes.len() * NOTE_BYTES_MAX,
        SyncResponse::Manifests(texts) => texts.iter().map(String::len).sum(),
        SyncResponse::Rows(answer) => answer.rows.iter().map(|(key, value)| key.len() + value.len() + ROW_BYTES).sum(),
        SyncResponse::Offers(offers) => offers.iter().map(offer_bytes).sum(),
        SyncResponse::Frontier(_) | SyncResponse::Refused(_) => 0,
    };
    REST_BYTES + long
}

fn offer_bytes(offer: &Offer) -> usize {
    let edge: usize = offer.edge.iter().map(|hashes| hashes.len() * 32).sum();
    offer.checkpoint.len() + edge + offer.maps.len() * OFFERED_MAP_BYTES
}

/// About how many bytes of memory an answer to submissions takes until it is sent.
pub(super) fn submit_answer_bytes(answer: &SubmitResponse) -> usize {
    let of = |result: &SubmitResult| match result {
        SubmitResult::Accepted(receipt) => receipt.entry.len() + receipt.proof.len(),
        SubmitResult::Refused(refusal) => refusal.message.len(),
    };
    REST_BYTES + answer.0.iter().map(of).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{CertifiedHead, CosignedHead, Frontier, LogFrontier, Session, SignedHead};
    use fama_ledger::checkpoint::Cosignature;
    use fama_ledger::codec;
    use fama_ledger::id::{Domain, ManifestHash, TreeRoot};
    use fama_ledger::limits::OPERATORS_MAX;
    use fama_ledger::log::Head;
    use fama_ledger::manifest::LogId;
    use fama_ledger::time::Millis;

    /// The longest frontier that operators can have fits the bounds of a request and of an answer.
    #[test]
    fn honest_frontiers_fit() {
        let label = "a".repeat(63);
        let operator: Domain = format!("{label}.{label}.{label}.{}", "a".repeat(61)).parse().unwrap();
        assert_eq!(operator.to_string().len(), DOMAIN_BYTES_MAX);
        let signed = SignedHead { head: Head { size: u64::MAX, root: TreeRoot([1; 32]) }, signature: [2; 64] };
        let cosignature = Cosignature { operator: operator.clone(), seconds: u64::MAX, signature: [3; 64] };
        for n in [1, 4, 10, OPERATORS_MAX] {
            let cosigned = vec![CosignedHead { signed: signed.clone(), cosignature: cosignature.clone() }; n];
            let log = LogId { operator: operator.clone(), generation: u32::MAX };
            let cosignatures = vec![(u32::MAX, cosignature.clone()); 2 * n];
            let (newest, equivocation) = (Some(signed.clone()), None);
            let certificate = Some(Box::new(CertifiedHead { signed: signed.clone(), cosignatures }));
            let log = LogFrontier { log, size: u64::MAX, newest, cosigned, equivocation, certificate };
            let (manifest_hash, logs) = (ManifestHash([4; 32]), vec![log; n]);
            let session = Session::default();
            let frontier = Frontier { time: Millis(0), session, other: None, manifest: 9, manifest_hash, logs };
            let request = SyncRequest::Frontier(frontier);
            let bytes = codec::encode(&request).len();
            assert!(bytes <= request.answer_bytes_max(n) && bytes <= SyncRequest::bytes_max(n), "{n}: {bytes}");
        }
        assert!(SyncRequest::bytes_max(4) == GOSSIP_BYTES_MAX, "few operators, short requests");
    }
}
