//! `GET /api/agent/{x}/keys` and `GET /api/key/{key}`: every version of a key, when it held, and whose a key is.
use axum::Json;
use axum::extract::{Path, Query};
use fama_ledger::id::{Hex, IdentityId, KeyHash, did};
use fama_ledger::join::LocatedIdentity;
use fama_ledger::key::PublicKey;
use fama_ledger::rows::KeyVersion;
use fama_ledger::time::Millis;
use schemars::JsonSchema;
use serde::Serialize;

use super::input::Params;
use super::layers::Place;
use super::moment::{Moment, handle};
use super::view::{KeyAtView, KeyVersionView, RevokedView, reason};
use super::{ApiError, Serving};
use crate::store::SearchedBy;

const LIMIT_DEFAULT: usize = 20;
const LIMIT_MAX: usize = 100;
/// Identities that one key, or its hash, is looked up for: one has it, and others may after a rollback.
const OWNERS_MAX: usize = 4;

/// The answer of `GET /api/agent/{x}/keys`.
#[derive(Serialize, JsonSchema)]
pub(super) struct KeysView {
    pub(super) agent_id: String,
    pub(super) handle: String,
    /// Newest first.
    pub(super) keys: Vec<KeyVersionView>,
    /// The cursor of the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cursor: Option<String>,
}

/// The answer of `GET /api/key/{key}`.
#[derive(Serialize, JsonSchema)]
pub(super) struct KeyOwnerView {
    pub(super) agent_id: String,
    pub(super) did: String,
    pub(super) handle: String,
    /// Whether it is the identity's current key.
    pub(super) current: bool,
    #[serde(flatten)]
    pub(super) key: KeyVersionView,
}

pub(super) async fn keys(
    Serving(app): Serving,
    place: Place,
    Path(x): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<KeysView>, ApiError> {
    let params = Params::new(query, &["limit", "cursor"])?;
    let limit = params.limit(LIMIT_DEFAULT, LIMIT_MAX)?;
    let wrong = || ApiError::bad("bad_cursor", "cursor: want one from an earlier page").with("field", "cursor");
    let before = params.get("cursor").map(|text| text.parse::<u32>().map_err(|_| wrong())).transpose()?;
    place.read(move || page(&Moment::open(&app)?, &x, before, limit)).await.map(Json)
}

/// The versions below `before`, newest first.
pub(super) fn page(moment: &Moment<'_>, x: &str, before: Option<u32>, limit: usize) -> Result<KeysView, ApiError> {
    let found = moment.find(x)?;
    let end = before.map_or(found.identity.version, |before| found.identity.version.min(before.saturating_sub(1)));
    let numbers: Vec<u32> = (1..=end).rev().take(limit).collect();
    let keys = numbers.iter().map(|number| view(moment, &found, *number)).collect::<Result<_, _>>()?;
    let cursor = numbers.last().filter(|last| **last > 1).map(ToString::to_string);
    Ok(KeysView { agent_id: found.id.to_string(), handle: handle(&found), keys, cursor })
}

/// A version of an identity's key, from 1 to the current one.
fn version(moment: &Moment<'_>, found: &LocatedIdentity, number: u32) -> Result<KeyVersion, ApiError> {
    moment.join().key_version(found, number)?.ok_or_else(|| ApiError::internal("an identity lacks a key"))
}

/// Version `number` of the keys of an identity.
fn view(moment: &Moment<'_>, found: &LocatedIdentity, number: u32) -> Result<KeyVersionView, ApiError> {
    let next = match number < found.identity.version {
        true => Some(version(moment, found, number.saturating_add(1))?),
        false => None,
    };
    let version = version(moment, found, number)?;
    let revoked = match version.revoked {
        Some(revoked) => Some(RevokedView {
            at: revoked.time.to_string(),
            reason: reason(revoked.reason),
            recorded_by: found.home.to_string(),
        }),
        None => {
            let claims = moment.join().claims(found, number)?;
            claims.into_iter().min_by_key(|(_, claim)| claim.time).map(|(log, claim)| RevokedView {
                at: claim.time.to_string(),
                reason: reason(claim.reason),
                recorded_by: log.operator.to_string(),
            })
        }
    };
    Ok(KeyVersionView {
        version: number,
        key: version.key.to_string(),
        key_hash: hash(&version.key.hash()),
        public_key: version.key.to_pem().map_err(ApiError::internal)?,
        from: version.time.to_string(),
        until: next.map(|next| next.time.to_string()),
        next: version.next.as_ref().map(|next| format!("sha256:{}", hash(next))),
        revoked,
    })
}

fn hash(hash: &KeyHash) -> String {
    Hex(&hash.0).to_string()
}

/// The key that an identity had at a time, by the times of entries.
pub(super) fn key_at(moment: &Moment<'_>, found: &LocatedIdentity, at: Millis) -> Result<KeyAtView, ApiError> {
    // A version's time is never before that of the version before: the last one that had begun is between `number` and
    // `end`.
    let (mut number, mut end) = (0, found.identity.version);
    while number < end {
        let middle = end - (end - number) / 2;
        if version(moment, found, middle)?.time <= at { number = middle } else { end = middle - 1 }
    }
    let key = if number == 0 { None } else { Some(view(moment, found, number)?) };
    let revoked = |key: &KeyVersionView| key.revoked.as_ref().is_some_and(|revoked| revoked.at <= at.to_string());
    let status = match &key {
        None => "none",
        Some(key) if revoked(key) => "revoked",
        Some(_) => "in_force",
    };
    Ok(KeyAtView { at: at.to_string(), status, key })
}

pub(super) async fn owner(
    Serving(app): Serving,
    place: Place,
    Path(key): Path<String>,
) -> Result<Json<KeyOwnerView>, ApiError> {
    place.read(move || read(&Moment::open(&app)?, &key)).await.map(Json)
}

/// What a key is looked up by: its hash, in hex.
fn searched(given: &str) -> Result<String, ApiError> {
    let digits = given.strip_prefix("sha256:").unwrap_or(given);
    if digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Ok(digits.to_ascii_lowercase());
    }
    let key = if given.trim_start().starts_with("-----BEGIN") {
        PublicKey::from_pem(given).ok()
    } else {
        given.parse::<PublicKey>().ok()
    };
    let wrong = || {
        let message = "want a key like secp256k1:… or ed25519:…, its PEM, or the SHA-256 of its text in hex";
        ApiError::bad("bad_key", message).with("field", "key")
    };
    key.map(|key| hash(&key.hash())).ok_or_else(wrong)
}

fn read(moment: &Moment<'_>, given: &str) -> Result<KeyOwnerView, ApiError> {
    let digits = searched(given)?;
    for (text, id) in moment.view.search(SearchedBy::KeyHash, &digits, None, OWNERS_MAX)? {
        if let Some(owner) = of(moment, id, &text)? {
            return Ok(owner);
        }
    }
    Err(moment.unknown("unknown_key", "no agent is known here that has or had this key"))
}

fn of(moment: &Moment<'_>, id: IdentityId, digits: &str) -> Result<Option<KeyOwnerView>, ApiError> {
    let Some(found) = moment.join().identity(id)? else { return Ok(None) };
    // Most often it is the current one; no row says which version a key was.
    let current = found.identity.version;
    let is_it = |key: &KeyVersion| hash(&key.key.hash()) == digits;
    let number = if is_it(&version(moment, &found, current)?) {
        current
    } else {
        let Some(at) = moment.join().keys(&found)?.iter().position(is_it) else { return Ok(None) };
        u32::try_from(at.saturating_add(1)).map_err(ApiError::internal)?
    };
    Ok(Some(KeyOwnerView {
        agent_id: found.id.to_string(),
        did: did(&found.home, &found.id),
        handle: handle(&found),
        current: number == current,
        key: view(moment, &found, number)?,
    }))
}
