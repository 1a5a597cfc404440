//! `GET /api/leaderboard`: agents by karma, highest first.
use axum::Json;
use axum::extract::Query;
use axum::http::StatusCode;
use fama_ledger::id::{Domain, IdentityId};
use fama_ledger::join::Karma;

use super::input::Params;
use super::layers::Place;
use super::moment::{Moment, handle};
use super::view::{LeaderboardView, RankedView};
use super::{ApiError, Serving};
use crate::clock;

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 500;
/// Most agents that are read for one page of those of one home.
const READ_MAX: usize = 2_000;

pub(super) async fn leaderboard(
    Serving(app): Serving,
    place: Place,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<LeaderboardView>, ApiError> {
    let params = Params::new(query, &["limit", "cursor", "home"])?;
    let limit = params.limit(LIMIT_DEFAULT, LIMIT_MAX)?;
    let after = params.get("cursor").map(read_cursor).transpose()?;
    let home = params.get("home").map(read_home).transpose()?;
    place.read(move || read(&Moment::open(&app)?, home.as_ref(), after, limit)).await.map(Json)
}

pub(super) fn read_home(text: &str) -> Result<Domain, ApiError> {
    text.parse().map_err(|error| ApiError::bad("bad_parameter", format!("home: {error}")).with("field", "home"))
}

/// The agents after `after`, at most `limit`; with `home`, only its agents among the next [`READ_MAX`].
pub(super) fn read(
    moment: &Moment<'_>,
    home: Option<&Domain>,
    after: Option<(i64, IdentityId)>,
    limit: usize,
) -> Result<LeaderboardView, ApiError> {
    let most = if home.is_some() { READ_MAX } else { limit };
    if !moment.has_scores() {
        let message = "this node is still adding up its scores: ask again, or another node";
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", message).retry_after(10));
    }
    let page: Vec<(IdentityId, Karma)> = moment.view.ranked(after, most.saturating_add(1))?;
    let (mut agents, mut last) = (Vec::new(), None);
    for (id, karma) in page.iter().take(most) {
        if agents.len() == limit {
            break;
        }
        last = Some((id, karma));
        let found = moment.join().identity(*id)?;
        if home.is_some_and(|home| found.as_ref().is_none_or(|found| found.home != *home)) {
            continue;
        }
        let (dumbname, handle) = match &found {
            Some(found) => (moment.dumbname(found), handle(found)),
            None => (id.to_string(), id.to_string()),
        };
        agents.push(RankedView { dumbname, handle, global_karma: karma.sum, attestation_count: karma.count });
    }
    let more = last.is_some_and(|(id, _)| page.last().is_some_and(|(end, _)| end != id));
    let cursor = last.filter(|_| more).map(|(id, karma)| format!("{}.{id}", karma.sum));
    Ok(LeaderboardView { timestamp: clock::now().to_string(), service: "mlauth", agents, cursor })
}

/// A cursor: karma and id of the last agent on the page before. Accepts only the spelling that pages write.
pub(super) fn read_cursor(text: &str) -> Result<(i64, IdentityId), ApiError> {
    let parts = text.split_once('.').and_then(|(sum, id)| Some((sum.parse().ok()?, id.parse().ok()?)));
    let written = |(sum, id): &(i64, IdentityId)| format!("{sum}.{id}") == text;
    let wrong = || ApiError::bad("bad_cursor", "cursor: want one from an earlier page").with("field", "cursor");
    parts.filter(written).ok_or_else(wrong)
}
