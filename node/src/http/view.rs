//! The JSON shapes of identities; no other file knows them. MLAuth's clients read most: their names are a contract.
use std::collections::BTreeMap;

use fama_ledger::event::RevokeReason;
use fama_ledger::id::Domain;
use fama_ledger::join::Karma;
use fama_ledger::rows::Suspended;
use schemars::JsonSchema;
use serde::Serialize;

/// The answer of `GET /api/agent/{x}`: the union of the shapes that MLAuth's clients read.
#[derive(Serialize, JsonSchema)]
pub(super) struct ProfileView {
    pub(super) identity: IdentityView,
    pub(super) reputation: ReputationView,
    pub(super) key_status: KeyStatusView,
    pub(super) recent_attestations: Vec<AttestationView>,
    pub(super) recent_key_events: Vec<KeyEventView>,
    pub(super) public_key: String,
    pub(super) agent: AgentView,
    /// The key in force at the time that `at` names; absent without `at`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key_at: Option<KeyAtView>,
}

/// Which key an identity had at a time.
#[derive(Serialize, JsonSchema)]
pub(super) struct KeyAtView {
    /// The time asked about.
    pub(super) at: String,
    /// `in_force`, `revoked`, or `none` before the registration.
    pub(super) status: &'static str,
    /// The key that the identity had then.
    pub(super) key: Option<KeyVersionView>,
}

/// A version of an identity's key, and when it held.
#[derive(Serialize, JsonSchema)]
pub(super) struct KeyVersionView {
    pub(super) version: u32,
    /// The key as event texts spell it, like `secp256k1:…`.
    pub(super) key: String,
    /// SHA-256 of `key`, in hex: what a commitment to it says.
    pub(super) key_hash: String,
    pub(super) public_key: String,
    /// When its home recorded it.
    pub(super) from: String,
    /// When the home recorded the next version; `null` for the current one.
    pub(super) until: Option<String>,
    /// The commitment to the next key.
    pub(super) next: Option<String>,
    /// Its first revocation that is known, in its home or as a claim in another log.
    pub(super) revoked: Option<RevokedView>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct RevokedView {
    pub(super) at: String,
    pub(super) reason: String,
    /// The operator whose log has the revocation.
    pub(super) recorded_by: String,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct IdentityView {
    pub(super) agent_id: String,
    pub(super) did: String,
    pub(super) dumbname: String,
    pub(super) handle: String,
    pub(super) bio: Option<String>,
    /// This node has deleted the bio; the registration still commits to its hash.
    #[serde(skip_serializing_if = "is_false")]
    pub(super) bio_redacted: bool,
    /// This node does not have the bio yet.
    #[serde(skip_serializing_if = "is_false")]
    pub(super) bio_pending: bool,
    pub(super) public_key: String,
    pub(super) joined_at: String,
    pub(super) key_version: u32,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct ReputationView {
    pub(super) global_score: i64,
    pub(super) attestation_count: u64,
    /// A score that MLAuth kept per server. Always 0 here.
    pub(super) local_community_score: i64,
    pub(super) external_verified_score: i64,
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

#[derive(Serialize, JsonSchema)]
pub(super) struct KeyStatusView {
    pub(super) is_revoked: bool,
    pub(super) key_version: u32,
    pub(super) rotated_at: Option<String>,
    pub(super) revoked_at: Option<String>,
    pub(super) revocation_reason: Option<String>,
    /// Whether the revocation can no longer be undone; absent without a revocation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) revocation_final: Option<bool>,
    /// Whether as many operators suspend the identity's use as the policy wants (`min_sponsors`): no operator signs it in.
    pub(super) is_suspended: bool,
    /// The operators whose suspension stands, by name. Fewer than the policy wants bind only themselves.
    pub(super) suspended_by: Vec<SuspendedView>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct SuspendedView {
    pub(super) operator: String,
    /// `misconduct`, `key_compromised` or `unspecified`.
    pub(super) reason: &'static str,
    pub(super) since: String,
}

impl SuspendedView {
    pub(super) fn of((operator, standing): &(Domain, Suspended)) -> Self {
        Self { operator: operator.to_string(), reason: standing.reason.as_str(), since: standing.since.to_string() }
    }
}

#[derive(Serialize, JsonSchema)]
pub(super) struct AttestationView {
    pub(super) provider: String,
    pub(super) points: i32,
    pub(super) effective: i32,
    /// Absent if the attestation counts; `false` if too few operators sponsor the provider at this number.
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

#[derive(Serialize, JsonSchema)]
pub(super) struct KeyEventView {
    pub(super) event_type: &'static str,
    pub(super) signed_at: String,
    pub(super) recorded_at: String,
    pub(super) reason: Option<String>,
    pub(super) event: String,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct AgentView {
    pub(super) public_key: String,
    pub(super) global_karma: i64,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct LedgerView {
    pub(super) r#final: bool,
    pub(super) home: String,
    pub(super) frontier: BTreeMap<String, u64>,
    pub(super) state_id: String,
    /// `loading` if the answer is from a certified state, without the history before it; else absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) history: Option<&'static str>,
}

/// The answer to a login whose signature is valid.
#[derive(Serialize, JsonSchema)]
pub(super) struct VerifiedView {
    pub(super) verified: bool,
    pub(super) dumbname: String,
    pub(super) handle: String,
    pub(super) agent_id: String,
    pub(super) key_version: u32,
    /// Whether this node hears enough operators and has all entries known to exist.
    pub(super) fresh: bool,
    pub(super) attestation: &'static str,
}

/// The answer of `GET /api/leaderboard`.
#[derive(Serialize, JsonSchema)]
pub(super) struct LeaderboardView {
    pub(super) timestamp: String,
    pub(super) service: &'static str,
    pub(super) agents: Vec<RankedView>,
    /// The cursor of the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct RankedView {
    pub(super) dumbname: String,
    /// The same on every node.
    pub(super) handle: String,
    pub(super) global_karma: i64,
    pub(super) attestation_count: u64,
}

/// A reason as MLAuth spells it, for instance `KEY_COMPROMISED`.
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
