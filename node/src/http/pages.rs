//! The explorer: pages for people, made of the same answers that programs get, so that the two cannot differ.
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::get;
use maud::html;

use super::error::Failed;
use super::layers::Place;
use super::moment::Moment;
use super::{ApiError, App, Serving};
use frame::Page;
use pulse::Pulse;

mod agent;
mod assets;
mod chart;
mod compare;
mod event;
mod federation;
mod frame;
mod front;
mod leaderboard;
mod live;
mod pulse;
mod search;
mod services;
mod words;

/// The paths of pages. They are not in the OpenAPI document, which is for programs.
pub(super) const PATHS: [&str; 10] = [
    "/",
    "/search",
    "/agent/{x}",
    "/event/{id}",
    "/leaderboard",
    "/services",
    "/service/{x}",
    "/federation",
    "/live",
    "/compare/{x}",
];
/// What programs read, below and besides `/api`: errors there are JSON whatever the client accepts.
const FOR_PROGRAMS: [&str; 8] =
    ["/api", "/log", "/manifest", "/note", "/.well-known", "/fama.js", "/skill.md", "/assets"];

/// What pages are made of.
pub(super) struct Pages {
    /// Of the node's own copies.
    app: Arc<App>,
    pulse: Pulse,
}

impl Pages {
    /// Makes a page of one moment of what answers queries about agents now.
    async fn read(
        self: Arc<Self>,
        place: Place,
        make: impl FnOnce(&Self, &Moment<'_>) -> Result<Page, ApiError> + Send + 'static,
    ) -> Result<Response, ApiError> {
        let read = move || {
            let Serving(app) = Serving::of(&self.app);
            let page = make(&self, &Moment::open(&app)?)?;
            Ok(page.answer(&app))
        };
        place.read(read).await
    }
}

/// The routes of all pages, and of what they are made of in a browser.
pub(super) fn routes(app: &Arc<App>) -> Router {
    let pages = Arc::new(Pages { app: Arc::clone(app), pulse: Pulse::default() });
    Router::new()
        .route("/", get(front::page))
        .route("/search", get(search::page))
        .route("/agent/{x}", get(agent::page))
        .route("/event/{id}", get(event::page))
        .route("/leaderboard", get(leaderboard::page))
        .route("/services", get(services::list))
        .route("/service/{x}", get(services::one))
        .route("/federation", get(federation::page))
        .route("/live", get(live::page))
        .route("/compare/{x}", get(compare::page))
        .route("/assets/{version}/{file}", get(assets::file))
        .with_state(pages)
}

/// Shows errors as pages to people: where there are pages, and everywhere to browsers that are not at a program's path.
pub(super) async fn errors(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let path = request.uri().path().trim_end_matches('/').to_owned();
    let wanted = wants_page(&path, request.headers());
    let asks = matches!(*request.method(), Method::GET | Method::HEAD);
    let mut response = next.run(request).await;
    let Some(failed) = response.extensions().get::<Failed>().cloned() else { return response };
    if is_for_programs(&path) || !asks {
        return response;
    }
    if wanted {
        response = error_page(&app, &failed, &response);
    }
    response.headers_mut().append(header::VARY, header::ACCEPT.into());
    response
}

fn is_for_programs(path: &str) -> bool {
    FOR_PROGRAMS
        .iter()
        .any(|first| path.strip_prefix(first).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

fn wants_page(path: &str, headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let first = path.split('/').nth(1).unwrap_or_default();
    let is_page = PATHS.iter().any(|page| page.split('/').nth(1) == Some(first));
    accept.contains("text/html") || is_page && !accept.contains("json")
}

/// The answer with a page in the place of its JSON.
fn error_page(app: &App, failed: &Failed, answer: &Response) -> Response {
    let status = answer.status();
    let (headline, advice) = match status.as_u16() {
        404 => ("Nothing is known here by that name", "Check the spelling, or search for how it begins."),
        400 => ("That is not a question this node understands", "Search for what you mean."),
        410 => ("That was dropped", "The operator of this node removed it. Others may still have it."),
        429 => ("Too many requests", "Wait a moment, then load the page again."),
        503 => ("Not now", "The node is busy or still catching up. Load the page again in a moment."),
        405 => ("That cannot be done here", "Pages of this node can be read only."),
        _ => ("The node could not answer", "Its operator sees why in the log. Another node may answer."),
    };
    let after = answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    let main = html! {
        div.narrow {
            p.eyebrow { "Error " (status.as_u16()) " · " code { (failed.code) } }
            h1 { (headline) }
            p.lead { (words::given(&failed.message)) }
            p { (advice) @if let Some(after) = after { " Try again in " (after) " s." } }
            (frame::search_form("", "error-q"))
            p { a href="/" { "To the front page" } }
        }
    };
    let page = Page { title: headline.to_owned(), main, ..Page::default() };
    let mut shown = page.answer(app);
    *shown.status_mut() = status;
    for name in [header::RETRY_AFTER, header::ALLOW, header::CACHE_CONTROL, super::layers::REQUEST_ID] {
        if let Some(value) = answer.headers().get(&name) {
            shown.headers_mut().insert(name, value.clone());
        }
    }
    shown.headers_mut().append(header::VARY, HeaderValue::from_static("accept-encoding"));
    shown
}
