//! How pages show what others wrote, times, numbers, names, and events in a sentence.
use std::fmt::Display;

use maud::{Markup, html};
use serde::Deserialize;

/// How many digits of an id are shown; the rest is in its title.
const DIGITS: usize = 12;

/// Text that a stranger wrote: it cannot change the direction of what is around it.
pub(super) fn given(text: &str) -> Markup {
    html! { bdi dir="auto" { (text) } }
}

/// A time as this node's answers spell it. Without script in UTC; scripts show the reader's own, with UTC on hover.
pub(super) fn time(text: &str) -> Markup {
    let plain = text.get(..19).map_or_else(|| text.to_owned(), |whole| format!("{} UTC", whole.replace('T', " ")));
    html! { time datetime=(text) { (plain) } }
}

pub(super) fn number(number: impl Display) -> Markup {
    html! { data.n value=(number) { (number) } }
}

/// A number with its sign: `+5`, `−3`, `0`.
pub(super) fn signed(number: i64) -> Markup {
    let (class, sign) = match number {
        0 => ("n zero", ""),
        1.. => ("n up", "+"),
        _ => ("n down", "−"),
    };
    html! { data class=(class) value=(number) data-signed { (sign) (number.unsigned_abs()) } }
}

/// `1 agent`, `2 agents`.
pub(super) fn count(count: u64, one: &str, many: &str) -> Markup {
    html! { (number(count)) " " (if count == 1 { one } else { many }) }
}

/// A hash, key or id: its beginning, the whole on hover.
pub(super) fn digits(text: &str) -> Markup {
    let short: String = text.chars().take(DIGITS).collect();
    let is_short = short.len() == text.len();
    html! { code.id title=(text) { (short) @if !is_short { "…" } } }
}

/// A piece of a path: everything that could end it, or begin something else, is escaped.
pub(super) fn piece(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'@' | b':' => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// A handle, which breaks before its home if it must.
pub(super) fn handle(text: &str) -> Markup {
    let (name, home) = text.split_once('@').unwrap_or((text, ""));
    html! { bdi dir="auto" { (name) @if !home.is_empty() { "@" wbr; (home) } } }
}

/// A link to an agent, by handle or by id.
pub(super) fn agent(x: &str) -> Markup {
    let is_id = x.len() == 64 && !x.contains('@');
    html! { a href={ "/agent/" (piece(x)) } { @if is_id { (digits(x)) } @else { (handle(x)) } } }
}

pub(super) fn event(id: &str) -> Markup {
    html! { a href={ "/event/" (piece(id)) } { (digits(id)) } }
}

/// Evidence that an attestation names: a link only if it is a web address whose host is plain to see, and one that vouches
/// for nothing.
pub(super) fn evidence(reference: &str) -> Markup {
    let lower = reference.to_ascii_lowercase();
    let rest = lower.strip_prefix("https://").or_else(|| lower.strip_prefix("http://"));
    // A name before the host, or letters of other scripts that look like Latin ones, would pass for another host.
    let host = rest.and_then(|rest| rest.split(['/', '\\', '?', '#']).next()).unwrap_or_default();
    let is_web = host.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[')
        && host.is_ascii()
        && !host.contains('@')
        && !reference.chars().any(|c| c.is_control() || c.is_whitespace());
    html! {
        @if is_web { a.out href=(reference) rel="noopener noreferrer nofollow ugc" { (given(reference)) } }
        @else { (given(reference)) }
    }
}

/// A state that is told by colour, shape and word.
#[derive(Clone, Copy)]
pub(super) enum Mark {
    Good,
    Careful,
    Bad,
    Plain,
}

pub(super) fn badge(mark: Mark, word: &str) -> Markup {
    let (class, shape) = match mark {
        Mark::Good => ("badge good", "●"),
        Mark::Careful => ("badge careful", "▲"),
        Mark::Bad => ("badge bad", "✕"),
        Mark::Plain => ("badge plain", "○"),
    };
    html! { span class=(class) { span.shape aria-hidden="true" { (shape) } (word) } }
}

pub(super) fn finality(is_final: bool) -> Markup {
    if is_final {
        badge(Mark::Good, "Final")
    } else {
        html! { span data-pending { (badge(Mark::Careful, "Not final yet")) } }
    }
}

/// What `/api/stream` tells of an event.
#[derive(Deserialize)]
pub(super) struct Told {
    pub(super) event: String,
    pub(super) kind: String,
    pub(super) identity: String,
    pub(super) handle: Option<String>,
    pub(super) log: String,
    pub(super) index: u64,
    pub(super) time: String,
    pub(super) r#final: bool,
    key_version: Option<u32>,
    reason: Option<String>,
    provider: Option<String>,
    provider_handle: Option<String>,
    delta: Option<i64>,
    context: Option<String>,
    operator: Option<String>,
    service: Option<String>,
    domain: Option<String>,
    scope: Option<String>,
    expires: Option<String>,
}

impl Told {
    fn subject(&self) -> Markup {
        agent(self.handle.as_deref().unwrap_or(&self.identity))
    }

    fn provider(&self) -> Markup {
        agent(self.provider_handle.as_deref().or(self.provider.as_deref()).unwrap_or_default())
    }

    fn sponsorship(&self, says: &str) -> Markup {
        let text = |text: &Option<String>| given(text.as_deref().unwrap_or_default());
        html! { (text(&self.operator)) " " (says) " " (self.subject()) " for " (text(&self.service)) " (" (text(&self.domain)) ")" }
    }

    /// What happened, in a sentence.
    pub(super) fn sentence(&self) -> Markup {
        let version = self.key_version.unwrap_or_default();
        match self.kind.as_str() {
            "register" => html! { (self.subject()) " registered" },
            "rotate" => html! { (self.subject()) " replaced its key: key " (version) " holds now" },
            "revoke" => html! {
                (badge(Mark::Bad, "Revoked")) " key " (version) " of " (self.subject())
                @if let Some(reason) = &self.reason { ": " (revocation(reason)) }
            },
            "attest" => html! {
                (self.provider()) " gave " (signed(self.delta.unwrap_or_default())) " to " (self.subject())
                @if let Some(context) = &self.context { " for " (given(context)) }
            },
            "retract" => html! { (self.provider()) " retracted an attestation to " (self.subject()) },
            "admit" => self.sponsorship("sponsors"),
            "dismiss" => self.sponsorship("no longer sponsors"),
            "grant" => html! {
                (self.provider()) " lets " (self.subject()) " do " (given(self.scope.as_deref().unwrap_or_default()))
                @if let Some(expires) = &self.expires { " until " (time(expires)) }
            },
            "ungrant" => html! {
                (self.provider()) " no longer lets " (self.subject()) " do " (given(self.scope.as_deref().unwrap_or_default()))
            },
            "suspend" => html! {
                (badge(Mark::Careful, "Suspended")) " by " (given(self.operator.as_deref().unwrap_or_default())) ": " (self.subject())
                @if let Some(reason) = &self.reason { ", " (revocation(reason)) }
            },
            "resume" => html! {
                (given(self.operator.as_deref().unwrap_or_default())) " no longer suspends " (self.subject())
            },
            kind => html! { (kind) " " (self.subject()) },
        }
    }
}

/// A reason that answers spell `KEY_COMPROMISED`, in words.
pub(super) fn revocation(reason: &str) -> String {
    reason.to_ascii_lowercase().replace('_', " ")
}

/// Rows of what happened, newest first.
pub(super) fn happened(caption: &str, rows: &[Told]) -> Markup {
    html! {
        div.scroll tabindex="0" role="group" aria-label=(caption) {
            table {
                caption.hidden { (caption) }
                thead { tr { th scope="col" { "Time" } th scope="col" { "What happened" } th scope="col" { "Event" } th scope="col" { "State" } } }
                tbody {
                    @for row in rows {
                        tr data-key=(row.event) title={ (row.log) ", entry " (row.index) } {
                            td.when { (time(&row.time)) }
                            td.what { (row.sentence()) }
                            td { (event(&row.event)) }
                            td { (finality(row.r#final)) }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{evidence, piece};

    #[test]
    fn only_web_addresses_are_links() {
        for (reference, is_link) in [
            ("https://example.org/a?b=c&d", true),
            ("HTTP://example.org", true),
            ("javascript:alert(1)", false),
            ("data:text/html,x", false),
            ("https://", false),
            ("https:///x", false),
            ("https://a b", false),
            ("https://a\u{85}b", false),
            ("//example.org", false),
            (" https://example.org", false),
            ("https://example.org/\u{645}?x=@", true),
            ("https://example.org@evil.example/", false),
            ("https://evil.example\\@example.org", true),
            ("https://ex\u{430}mple.org", false),
        ] {
            assert_eq!(evidence(reference).0.contains("<a "), is_link, "{reference}");
        }
        assert!(evidence("https://x/\"onclick=\"").0.contains("&quot;onclick=&quot;"));
    }

    #[test]
    fn a_piece_of_a_path_stays_one() {
        assert_eq!(piece("a@b.example"), "a@b.example");
        assert_eq!(piece("a/../b?c#d%\"é"), "a%2F..%2Fb%3Fc%23d%25%22%C3%A9");
    }
}
