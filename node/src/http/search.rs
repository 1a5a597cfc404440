//! `GET /api/search?q=`: agents and services by the beginning of a handle, id, DID, key, service or domain.
use axum::Json;
use axum::extract::Query;
use fama_ledger::id::IdentityId;
use fama_ledger::join::LocatedIdentity;
use schemars::JsonSchema;
use serde::Serialize;

use super::input::Params;
use super::layers::Place;
use super::moment::{Moment, handle};
use super::{ApiError, Serving, services};
use crate::store::SearchedBy;

const LIMIT_DEFAULT: usize = 20;
const LIMIT_MAX: usize = 100;
/// Longest query, in bytes: fits the longest key, DID and handle.
const QUERY_BYTES_MAX: usize = 400;
/// Fewest hex digits that are taken for the beginning of an id.
const DIGITS_MIN: usize = 4;
/// Most entries of the index that one search reads: a home may be left out of those with the name.
const READ_MAX: usize = 2_000;

/// The answer of `GET /api/search`.
#[derive(Serialize, JsonSchema)]
pub(super) struct SearchView {
    /// Agents by name in the order of their names, then agents by id and by key, then services. Each agent once.
    pub(super) results: Vec<FoundView>,
    /// Whether there is more that fits: ask for a longer beginning.
    pub(super) more: bool,
}

/// Something that begins with the query.
#[derive(Serialize, JsonSchema)]
pub(super) struct FoundView {
    /// `agent` or `service`.
    pub(super) kind: &'static str,
    /// What begins with the query: `handle`, `id`, `did`, `key`, `key_hash`, `service` or `domain`.
    pub(super) matched: &'static str,
    pub(super) agent_id: String,
    pub(super) handle: String,
    /// For a service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) service: Option<services::ServiceView>,
}

pub(super) async fn search(
    Serving(app): Serving,
    place: Place,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<SearchView>, ApiError> {
    let params = Params::new(query, &["q", "limit"])?;
    let limit = params.limit(LIMIT_DEFAULT, LIMIT_MAX)?;
    let q = query_text(params.get("q").unwrap_or_default())?;
    place.read(move || read(&Moment::open(&app)?, &q, limit)).await.map(Json)
}

/// What is searched for.
pub(super) fn query_text(given: &str) -> Result<String, ApiError> {
    let wrong = |rule: &str| ApiError::bad("bad_query", format!("q: {rule}")).with("field", "q");
    match given.trim() {
        "" => Err(wrong("is missing")),
        q if q.len() > QUERY_BYTES_MAX => Err(wrong("at most 400 bytes")),
        q => Ok(q.to_ascii_lowercase()),
    }
}

/// What is found, up to one more than the limit.
struct Found<'a, 'm> {
    moment: &'m Moment<'a>,
    results: Vec<FoundView>,
    /// One more than is shown.
    max: usize,
}

impl Found<'_, '_> {
    fn is_full(&self) -> bool {
        self.results.len() >= self.max
    }

    fn agent(&mut self, matched: &'static str, found: &LocatedIdentity) {
        let (agent_id, handle) = (found.id.to_string(), handle(found));
        let known = self.results.iter().any(|one| one.kind == "agent" && one.agent_id == agent_id);
        if !known && !self.is_full() {
            self.results.push(FoundView { kind: "agent", matched, agent_id, handle, service: None });
        }
    }

    fn agent_of(&mut self, matched: &'static str, id: IdentityId) -> Result<(), ApiError> {
        if let Some(found) = self.moment.join().identity(id)? {
            self.agent(matched, &found);
        }
        Ok(())
    }

    /// Names that begin with `name`; with `home`, exactly this name in homes that begin so.
    fn names(&mut self, name: &str, home: Option<&str>) -> Result<(), ApiError> {
        for (text, id) in self.moment.view.search(SearchedBy::Name, name, None, READ_MAX)? {
            if self.is_full() || home.is_some() && text != name {
                break;
            }
            let Some(found) = self.moment.join().identity(id)? else { continue };
            // A rollback may be about to drop what the index has.
            if found.identity.name.as_str() == text && home.is_none_or(|home| found.home.as_str().starts_with(home)) {
                self.agent("handle", &found);
            }
        }
        Ok(())
    }

    fn ids(&mut self, matched: &'static str, digits: &str, home: Option<&str>) -> Result<(), ApiError> {
        let max = self.max.saturating_mul(2);
        for found in self.moment.join().with_digits(digits, home, max)? {
            self.agent(matched, &found);
        }
        Ok(())
    }

    fn keys(&mut self, by: SearchedBy, matched: &'static str, text: &str) -> Result<(), ApiError> {
        for (_, id) in self.moment.view.search(by, text, None, self.max)? {
            self.agent_of(matched, id)?;
        }
        Ok(())
    }

    fn services(&mut self, q: &str) -> Result<(), ApiError> {
        let list = self.moment.app.services.of(self.moment.app)?;
        for one in list.iter() {
            let by_service = one.service.as_str().starts_with(q);
            if self.is_full() {
                break;
            }
            if by_service || one.domain.as_str().starts_with(q) {
                let service = services::view(self.moment, one)?;
                self.results.push(FoundView {
                    kind: "service",
                    matched: if by_service { "service" } else { "domain" },
                    agent_id: one.provider.to_string(),
                    handle: self.moment.join().identity(one.provider)?.as_ref().map(handle).unwrap_or_default(),
                    service: Some(service),
                });
            }
        }
        Ok(())
    }
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|digit| digit.is_ascii_hexdigit())
}

pub(super) fn read(moment: &Moment<'_>, q: &str, limit: usize) -> Result<SearchView, ApiError> {
    let mut found = Found { moment, results: Vec::new(), max: limit.saturating_add(1) };
    if let Some(rest) = q.strip_prefix("did:agent:") {
        if let Some((home, digits)) = rest.split_once(':').filter(|(_, digits)| is_hex(digits)) {
            found.ids("did", digits, Some(home))?;
        }
    } else if let Some(digits) = q.strip_prefix("sha256:") {
        found.keys(SearchedBy::KeyHash, "key_hash", digits)?;
    } else if q.starts_with("secp256k1:") || q.starts_with("ed25519:") {
        found.keys(SearchedBy::Key, "key", q)?;
    } else if let Some((name, home)) = q.split_once('@') {
        found.names(name, Some(home))?;
    } else {
        found.names(q, None)?;
        if q.len() >= DIGITS_MIN && is_hex(q) {
            found.ids("id", q, None)?;
            found.keys(SearchedBy::KeyHash, "key_hash", q)?;
        }
        found.services(q)?;
    }
    let more = found.results.len() > limit;
    let mut results = found.results;
    results.truncate(limit);
    Ok(SearchView { results, more })
}
