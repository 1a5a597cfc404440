//! `/leaderboard`: agents by karma, of one home or of all.
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::Response;
use fama_ledger::id::{Domain, IdentityId};
use maud::{Markup, html};

use super::frame::{self, Page};
use super::{Pages, words};
use crate::http::input::Params;
use crate::http::layers::Place;
use crate::http::moment::Moment;
use crate::http::view::LeaderboardView;
use crate::http::{ApiError, leaderboard};

const LIMIT: usize = 50;
const LIMIT_MAX: usize = 200;
const LIMITS: [usize; 3] = [20, 50, 200];

/// What a reader wants to see.
struct Filter {
    home: Option<Domain>,
    after: Option<(i64, IdentityId)>,
    /// The rank before the first one shown, as the link to this page says.
    rank: u64,
    limit: usize,
}

pub(super) async fn page(
    State(pages): State<Arc<Pages>>,
    place: Place,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    let params = Params::new(query, &["home", "limit", "cursor", "rank"])?;
    let given = |name| params.get(name).filter(|text| !text.is_empty());
    let filter = Filter {
        home: given("home").map(leaderboard::read_home).transpose()?,
        after: given("cursor").map(leaderboard::read_cursor).transpose()?,
        rank: given("rank").and_then(|rank| rank.parse().ok()).unwrap_or(0),
        limit: params.limit(LIMIT, LIMIT_MAX)?,
    };
    pages.read(place, move |_, moment| make(moment, &filter)).await
}

fn make(moment: &Moment<'_>, filter: &Filter) -> Result<Page, ApiError> {
    let found = leaderboard::read(moment, filter.home.as_ref(), filter.after, filter.limit)?;
    let homes: Vec<&Domain> = moment.app.shared.manifest.homes().keys().collect();
    let main = html! {
        h1 { "Leaderboard" }
        p.lead { "Agents by karma: the sum of what services gave that enough operators sponsor." }
        (form(&homes, filter))
        section #ranking data-live aria-label="Ranking" { (table(&found, filter)) }
        (frame::next(found.cursor.as_deref().map(|cursor| next(&found, cursor, filter)).as_deref()))
    };
    let stream = filter.after.is_none().then(|| "/api/stream?kind=karma,registration".to_owned());
    Ok(Page { title: "Leaderboard".to_owned(), part: "/leaderboard", main, stream, ..Page::default() })
}

fn form(homes: &[&Domain], filter: &Filter) -> Markup {
    html! {
        form.filters action="/leaderboard" method="get" {
            p {
                label for="home" { "Home" }
                input #home name="home" list="homes" value=[filter.home.as_ref()] placeholder="all homes" autocomplete="off" autocapitalize="none" spellcheck="false";
                datalist #homes { @for home in homes { option value=(home) {} } }
            }
            p {
                label for="limit" { "Rows" }
                select #limit name="limit" { @for limit in LIMITS { option value=(limit) selected[limit == filter.limit] { (limit) } } }
            }
            button type="submit" { "Show" }
        }
    }
}

fn table(found: &LeaderboardView, filter: &Filter) -> Markup {
    html! {
        @if found.agents.is_empty() {
            p.empty {
                @match &filter.home {
                    Some(home) => { "No agent of " (words::given(home.as_str())) " is among those that this page looked at." }
                    None => { "No agent has karma yet." }
                }
            }
        } @else {
            div.scroll tabindex="0" role="group" aria-label="Ranking" {
                table {
                    caption.hidden { "Agents by karma, highest first" }
                    thead { tr {
                        th.num scope="col" { @if filter.home.is_some() { "In this home" } @else { "Rank" } }
                        th scope="col" { "Agent" } th.num scope="col" { "Karma" } th.num scope="col" { "Attestations" }
                    } }
                    tbody {
                        @for (agent, rank) in found.agents.iter().zip(filter.rank.saturating_add(1)..) {
                            tr { td.num { (words::number(rank)) } td { (words::agent(&agent.handle)) } td.num { (words::number(agent.global_karma)) } td.num { (words::number(agent.attestation_count)) } }
                        }
                    }
                }
            }
        }
    }
}

fn next(found: &LeaderboardView, cursor: &str, filter: &Filter) -> String {
    let shown = u64::try_from(found.agents.len()).unwrap_or(u64::MAX);
    let home = filter.home.as_ref().map(|home| format!("home={home}&")).unwrap_or_default();
    format!("/leaderboard?{home}limit={}&rank={}&cursor={cursor}", filter.limit, filter.rank.saturating_add(shown))
}
