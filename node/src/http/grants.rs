//! `GET /api/agent/{x}/grants`: what services let an agent do, or what a service lets agents do.
use axum::Json;
use axum::extract::{Path, Query};
use fama_ledger::id::IdentityId;
use fama_ledger::join::LocatedIdentity;
use fama_ledger::rows::Grant;
use fama_ledger::time::Millis;
use schemars::JsonSchema;
use serde::Serialize;

use super::input::Params;
use super::layers::Place;
use super::moment::{Moment, handle};
use super::{ApiError, Serving};
use crate::clock;

const LIMIT_DEFAULT: usize = 50;
const LIMIT_MAX: usize = 200;
/// Most rows that one page reads, and that end it: many may be of grants that were withdrawn.
const ROWS_MAX: usize = 4_096;

/// The answer of `GET /api/agent/{x}/grants`.
#[derive(Serialize, JsonSchema)]
pub(super) struct GrantsView {
    pub(super) agent_id: String,
    pub(super) handle: String,
    /// Those that stand, ordered by the other identity's id. A page may be shorter or a little longer than `limit`, and
    /// shorter without being the last: see `cursor`.
    pub(super) grants: Vec<GrantView>,
    /// The cursor of the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cursor: Option<String>,
}

/// A grant that stands.
#[derive(Serialize, JsonSchema)]
pub(super) struct GrantView {
    pub(super) issuer_id: String,
    pub(super) issuer: String,
    pub(super) subject_id: String,
    /// The subject's handle, or its id while this node does not know it.
    pub(super) subject: String,
    pub(super) scope: String,
    /// When the service said so, by its own clock.
    pub(super) granted_at: String,
    pub(super) expires: Option<String>,
    /// Whether it counts now: it has not expired, and the issuer is neither revoked nor suspended.
    pub(super) in_force: bool,
}

pub(super) async fn grants(
    Serving(app): Serving,
    place: Place,
    Path(x): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<GrantsView>, ApiError> {
    let params = Params::new(query, &["given", "with", "limit", "cursor"])?;
    let wrong = |_| ApiError::bad("bad_cursor", "cursor: want one from an earlier page").with("field", "cursor");
    let wanted = Wanted {
        given: params.flag("given")?,
        other: params.get("with").map(ToOwned::to_owned),
        after: params.get("cursor").map(|cursor| cursor.parse().map_err(wrong)).transpose()?,
        limit: params.limit(LIMIT_DEFAULT, LIMIT_MAX)?,
    };
    place.read(move || page(&Moment::open(&app)?, &x, &wanted)).await.map(Json)
}

/// What a page of grants shows.
#[derive(Default)]
pub(super) struct Wanted {
    /// Those that the identity gave, not those that it received.
    pub(super) given: bool,
    /// Only those of this issuer, or to this subject.
    pub(super) other: Option<String>,
    pub(super) after: Option<IdentityId>,
    pub(super) limit: usize,
}

pub(super) fn page(moment: &Moment<'_>, x: &str, wanted: &Wanted) -> Result<GrantsView, ApiError> {
    let found = moment.find(x)?;
    let mut page = Page { moment, now: clock::now(), grants: Vec::new() };
    let cursor = match &wanted.other {
        Some(other) => {
            let other = moment.find(other).map_err(|error| error.with("field", "with"))?;
            let (issuer, subject) = if wanted.given { (&found, other.id) } else { (&other, found.id) };
            page.add(issuer, moment.join().grants(issuer, subject)?.into_iter().map(|grant| (subject, grant)))?;
            None
        }
        None if wanted.given => {
            let of = moment.join().granted(&found, wanted.after, wanted.limit, ROWS_MAX)?;
            page.add(&found, of.grants.into_iter())?;
            of.after
        }
        None => page.received(&found, wanted)?,
    };
    let cursor = cursor.map(|id| id.to_string());
    Ok(GrantsView { agent_id: found.id.to_string(), handle: handle(&found), grants: page.grants, cursor })
}

struct Page<'a, 'm> {
    moment: &'m Moment<'a>,
    now: Millis,
    grants: Vec<GrantView>,
}

impl Page<'_, '_> {
    /// Adds grants of one issuer.
    fn add(
        &mut self,
        issuer: &LocatedIdentity,
        grants: impl Iterator<Item = (IdentityId, Grant)>,
    ) -> Result<(), ApiError> {
        let join = self.moment.join();
        let mut grants = grants.peekable();
        if grants.peek().is_none() {
            return Ok(());
        }
        let good = !join.is_suspended(issuer.id)? && !join.key_status(issuer)?.is_revoked();
        let mut name: Option<(IdentityId, String)> = None;
        for (subject, grant) in grants {
            let subject = match name.take().filter(|(id, _)| *id == subject) {
                Some(known) => known,
                None => (subject, join.identity(subject)?.map_or_else(|| subject.to_string(), |of| handle(&of))),
            };
            self.grants.push(GrantView {
                issuer_id: issuer.id.to_string(),
                issuer: handle(issuer),
                subject_id: subject.0.to_string(),
                subject: subject.1.clone(),
                scope: grant.scope.to_string(),
                granted_at: grant.created.to_string(),
                expires: grant.expires.map(|expires| expires.to_string()),
                in_force: good && grant.is_good(self.now),
            });
            name = Some(subject);
        }
        Ok(())
    }

    /// Adds what issuers granted to `found`, and says after which issuer the next page begins.
    fn received(&mut self, found: &LocatedIdentity, wanted: &Wanted) -> Result<Option<IdentityId>, ApiError> {
        let issuers = self.moment.view.issuers_of(&found.id, wanted.after.as_ref(), wanted.limit)?;
        let more = issuers.len() >= wanted.limit;
        let mut last = None;
        for issuer in issuers {
            if self.grants.len() >= wanted.limit {
                return Ok(last);
            }
            last = Some(issuer);
            // A rollback may be about to drop what the index has.
            let Some(issuer) = self.moment.join().identity(issuer)? else { continue };
            let grants = self.moment.join().grants(&issuer, found.id)?;
            self.add(&issuer, grants.into_iter().map(|grant| (found.id, grant)))?;
        }
        Ok(last.filter(|_| more))
    }
}
