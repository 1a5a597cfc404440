//! `GET /api/leaderboard`: agents by karma, highest first.
use std::sync::PoisonError;

use axum::Json;
use axum::extract::Query;
use fama_ledger::id::IdentityId;
use fama_ledger::join::Karma;

use super::input::Params;
use super::layers::Place;
use super::moment::{Moment, handle};
use super::view::{LeaderboardView, RankedView};
use super::{ApiError, App, Serving};
use crate::clock;

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 500;

pub(super) async fn leaderboard(
    Serving(app): Serving,
    place: Place,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<LeaderboardView>, ApiError> {
    let params = Params::new(query, &["limit", "cursor"])?;
    let limit = params.limit(LIMIT_DEFAULT, LIMIT_MAX)?;
    let after = params.get("cursor").map(read_cursor).transpose()?;
    place.read(move || read(&app, after, limit)).await.map(Json)
}

fn read(app: &App, after: Option<(i64, IdentityId)>, limit: usize) -> Result<LeaderboardView, ApiError> {
    let mut page: Vec<(IdentityId, Karma)> = {
        let scores = app.shared.scores.read().unwrap_or_else(PoisonError::into_inner);
        scores.ranking.from(after).take(limit.saturating_add(1)).collect()
    };
    let more = page.len() > limit;
    page.truncate(limit);
    let cursor = page.last().filter(|_| more).map(|(id, karma)| format!("{}.{id}", karma.sum));
    let moment = Moment::open(app)?;
    let agents = page.into_iter().map(|(id, karma)| {
        let found = moment.join().identity(id)?;
        let (dumbname, handle) = match &found {
            Some(found) => (moment.dumbname(found), handle(found)),
            None => (id.to_string(), id.to_string()),
        };
        Ok(RankedView { dumbname, handle, global_karma: karma.sum, attestation_count: karma.count })
    });
    let agents = agents.collect::<Result<_, ApiError>>()?;
    Ok(LeaderboardView { timestamp: clock::now().to_string(), service: "mlauth", agents, cursor })
}

/// A cursor: karma and id of the last agent on the page before. Accepts only the spelling that pages write.
fn read_cursor(text: &str) -> Result<(i64, IdentityId), ApiError> {
    let parts = text.split_once('.').and_then(|(sum, id)| Some((sum.parse().ok()?, id.parse().ok()?)));
    let written = |(sum, id): &(i64, IdentityId)| format!("{sum}.{id}") == text;
    let wrong = || ApiError::bad("bad_cursor", "cursor: want one from an earlier page").with("field", "cursor");
    parts.filter(written).ok_or_else(wrong)
}
