//! What all pages share: head, navigation, search, foot, and the headers that bind the browser.
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use fama_ledger::text::forbidden;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{assets, words};
use crate::http::{ApiError, App, status};

const PERMISSIONS: HeaderName = HeaderName::from_static("permissions-policy");
const OPENER: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
/// The main parts of the explorer.
const PARTS: [(&str, &str); 4] =
    [("/leaderboard", "Leaderboard"), ("/services", "Services"), ("/federation", "Federation"), ("/live", "Live")];

/// A page without its frame.
#[derive(Default)]
pub(super) struct Page {
    pub(super) title: String,
    /// The part that it belongs to, as [`PARTS`] spells its path.
    pub(super) part: &'static str,
    pub(super) main: Markup,
    /// Scripts besides the one of every page.
    pub(super) scripts: &'static [&'static str],
    /// What of `/api/stream` tells that the page has changed.
    pub(super) stream: Option<String>,
    /// Origins besides the node's own that its scripts may ask.
    pub(super) origins: Vec<String>,
}

impl Page {
    pub(super) fn answer(self, app: &App) -> Response {
        let policy = format!(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'{}; \
             form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
             trusted-types 'none'",
            self.origins.iter().map(|origin| format!(" {origin}")).collect::<String>()
        );
        let policy = match HeaderValue::try_from(policy) {
            Ok(policy) => policy,
            Err(error) => return ApiError::internal(error).into_response(),
        };
        let fixed = HeaderValue::from_static;
        let headers = [
            (header::CONTENT_TYPE, fixed("text/html; charset=utf-8")),
            (header::CONTENT_SECURITY_POLICY, policy),
            (header::X_CONTENT_TYPE_OPTIONS, fixed("nosniff")),
            (header::REFERRER_POLICY, fixed("no-referrer")),
            (header::X_FRAME_OPTIONS, fixed("DENY")),
            (PERMISSIONS, fixed("camera=(), geolocation=(), microphone=()")),
            (OPENER, fixed("same-origin")),
        ];
        let mut text = self.markup(app).into_string();
        // The ledger has nothing that turns text around, but an address may, and a page shows some of it.
        text.retain(|c| c == '\n' || !forbidden(c));
        (headers, text).into_response()
    }

    fn markup(&self, app: &App) -> Markup {
        let federation = app.shared.manifest.name();
        html! {
            (DOCTYPE)
            html lang="en" dir="ltr" {
                head {
                    meta charset="utf-8";
                    title { (self.title) " · " (federation) }
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    link rel="icon" type="image/svg+xml" href=(assets::path("icon.svg"));
                    link rel="stylesheet" href=(assets::path("style.css"));
                    // Scripts put times into the reader's form and add controls: first shown without, the page would jump.
                    script type="module" blocking="render" src=(assets::path("page.js")) {}
                    @for script in self.scripts { script type="module" blocking="render" src=(assets::path(script)) {} }
                }
                body data-stream=[self.stream.as_deref()] {
                    a.skip href="#main" { "Skip to the content" }
                    (head(self.part, federation))
                    main #main tabindex="-1" {
                        (stale(app))
                        (self.main)
                    }
                    (foot(app))
                }
            }
        }
    }
}

fn head(part: &str, federation: &str) -> Markup {
    let here = |path: &str| (path == part).then_some("page");
    html! {
        header.top {
            div.bar {
                a.brand href="/" aria-current=[here("/")] { (logo()) span { "Fama" } }
                span.federation { (words::given(federation)) }
                nav aria-label="Explorer" {
                    ul { @for (path, name) in PARTS { li { a href=(path) aria-current=[here(path)] { (name) } } } }
                }
                @if part != "/" { (search_form("", "top-q")) }
            }
        }
    }
}

/// The search box. `id` must be unique on the page.
pub(super) fn search_form(q: &str, id: &str) -> Markup {
    // Two on one page are two landmarks, which need two names.
    let label = if id == "top-q" { "Explorer" } else { "This page" };
    html! {
        form.search role="search" aria-label=(label) action="/search" method="get" {
            label.hidden for=(id) { "Handle, id, DID, key, service or event" }
            input type="search" id=(id) name="q" value=(q) required maxlength="400" autocomplete="off" autocapitalize="none"
                spellcheck="false" dir="auto" placeholder="Handle, id, key, service, event";
            button type="submit" { "Search" }
        }
    }
}

/// The mark of the house, drawn so that it takes the colour of the text.
fn logo() -> Markup {
    PreEscaped(
        "<svg class=\"logo\" viewBox=\"0 0 32 32\" width=\"22\" height=\"22\" aria-hidden=\"true\" focusable=\"false\">\
         <path d=\"M8 27V5h16M8 15h12\" fill=\"none\" stroke=\"currentColor\" stroke-width=\"4\" stroke-linecap=\"round\" \
         stroke-linejoin=\"round\"/><circle cx=\"24\" cy=\"24\" r=\"4\" fill=\"currentColor\"/></svg>"
            .to_owned(),
    )
}

/// Says that the node may not have the newest.
fn stale(app: &App) -> Markup {
    html! {
        div #freshness data-live {
            @if !status::is_live(app) {
                p.notice.careful role="note" {
                    span.shape aria-hidden="true" { "▲" }
                    span {
                        strong { "This node may not have the newest." }
                        " It hears too few operators, lacks entries that exist, or holds old certificates. "
                        a href="/federation" { "See the federation" } "."
                    }
                }
            }
        }
    }
}

fn foot(app: &App) -> Markup {
    let of = app.operator.as_ref().map(ToString::to_string);
    html! {
        footer {
            div.bar {
                p {
                    @match of {
                        Some(operator) => { "Node of " (words::given(&operator)) }
                        None => { "A mirror" }
                    }
                    ", fama " (env!("CARGO_PKG_VERSION")) ". It shows what it has checked itself: every signature, every log, every rule."
                }
                ul {
                    li { a href="/api" { "API" } }
                    li { a href="/api/openapi.json" { "OpenAPI" } }
                    li { a href="/fama.js" { "fama.js" } }
                    li { a href="/skill.md" { "For agents" } }
                    li { a href="/api/status" { "Status" } }
                }
                p #printed {}
                p #updated role="status" aria-live="polite" {}
            }
        }
    }
}

/// One figure with its label.
pub(super) fn tile(label: &str, value: &Markup, more: &Markup) -> Markup {
    html! { div.tile { dt { (label) } dd { span.value { (value) } span.more { (more) } } } }
}

/// The link to the next page of a list, which is the last thing on it.
pub(super) fn next(href: Option<&str>) -> Markup {
    html! { @if let Some(href) = href { nav.next aria-label="Pages" { a.button href=(href) rel="next" { "Next page" } } } }
}
