//! The JSON shapes of identities: the one place that knows them. The first part is MLAuth's contract.
use std::collections::BTreeMap;

use fama_ledger::event::RevokeReason;
use fama_ledger::join::Karma;
use serde::Serialize;

/// `GET /api/agent/{x}`: the union of the shapes that MLAuth's clients read.
#[derive(Serialize)]
pub(super) struct ProfileView {
    pub(super) identity: IdentityView,
    pub(super) reputation: ReputationView,
    pub(super) key_status: KeyStatusView,
    pub(super) recent_attestations: Vec<AttestationView>,
    pub(super) recent_key_events: Vec<KeyEventView>,
    pub(super) public_key: String,
    pub(super) agent: AgentView,
    pub(super) ledger: LedgerView,
}

#[derive(Serialize)]
pub(super) struct IdentityView {
    pub(super) agent_id: String,
    pub(super) did: String,
    pub(super) dumbname: String,
    pub(super) handle: String,
    pub(super) bio: Option<String>,
    /// The bio was dropped here; the registration still commits to it.
    #[serde(skip_serializing_if = "is_false")]
    pub(super) bio_redacted: bool,
    /// The bio has not arrived yet.
    #[serde(skip_serializing_if = "is_false")]
    pub(super) bio_pending: bool,
    pub(super) public_key: String,
    pub(super) joined_at: String,
    pub(super) key_version: u32,
}

#[derive(Serialize)]
pub(super) struct ReputationView {
    global_score: i64,
    attestation_count: u64,
    /// A score that only one MLAuth server knew; there is none here.
    local_community_score: i64,
    external_verified_score: i64,
}

impl ReputationView {
    pub(super) const fn of(karma: Karma) -> Self {
        Self {
            global_score: karma.sum,
            attestation_count: karma.count,
            local_community_score: 0,
            external_verified_score: karma.sum,
        }
    }
}

#[derive(Serialize)]
pub(super) struct KeyStatusView {
    pub(super) is_revoked: bool,
    pub(super) key_version: u32,
    pub(super) rotated_at: Option<String>,
    pub(super) revoked_at: Option<String>,
    pub(super) revocation_reason: Option<String>,
    /// Whether the revocation can no longer be undone; there only beside a revocation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) revocation_final: Option<bool>,
}

#[derive(Serialize)]
pub(super) struct AttestationView {
    pub(super) provider: String,
    pub(super) points: i32,
    pub(super) effective: i32,
    /// Too few operators sponsor the provider at this number: the score is without it.
    #[serde(skip_serializing_if = "is_true")]
    pub(super) counts: bool,
    pub(super) context: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) external_ref: Option<String>,
    pub(super) redacted: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub(super) pending: bool,
    pub(super) date: String,
    pub(super) event: String,
}

#[derive(Serialize)]
pub(super) struct KeyEventView {
    pub(super) event_type: &'static str,
    pub(super) signed_at: String,
    pub(super) recorded_at: String,
    pub(super) reason: Option<String>,
    pub(super) event: String,
}

#[derive(Serialize)]
pub(super) struct AgentView {
    pub(super) public_key: String,
    pub(super) global_karma: i64,
}

#[derive(Serialize)]
pub(super) struct LedgerView {
    pub(super) r#final: bool,
    pub(super) home: String,
    pub(super) frontier: BTreeMap<String, u64>,
    pub(super) state_id: String,
    /// `loading`: what happened before the certified state that this answer is from is not here yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) history: Option<&'static str>,
}

/// The answer to a signature that holds.
#[derive(Serialize)]
pub(super) struct VerifiedView {
    pub(super) verified: bool,
    pub(super) dumbname: String,
    pub(super) handle: String,
    pub(super) agent_id: String,
    pub(super) attestation: &'static str,
}

/// `GET /api/leaderboard`.
#[derive(Serialize)]
pub(super) struct LeaderboardView {
    pub(super) timestamp: String,
    pub(super) service: &'static str,
    pub(super) agents: Vec<RankedView>,
    /// Where the next page begins; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cursor: Option<String>,
}

#[derive(Serialize)]
pub(super) struct RankedView {
    pub(super) dumbname: String,
    pub(super) global_karma: i64,
    pub(super) attestation_count: u64,
}

/// A reason as MLAuth spells it: `KEY_COMPROMISED`.
pub(super) fn reason(reason: RevokeReason) -> String {
    reason.as_str().to_ascii_uppercase()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_true(value: &bool) -> bool {
    *value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}
