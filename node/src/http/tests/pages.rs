//! The explorer: every page of a filled node and of an empty one, what strangers write, what binds a browser.
use std::time::Instant;

use super::*;
use crate::http::pages::PATHS;

/// What breaks out of markup, attributes, scripts and addresses, and ends in letters that are read from the right. A note
/// may have all of it.
const HOSTILE: &str = "</title></script><script>alert(1)</script><img src=x onerror=alert(2)>\"'`&lt;שלום";
/// What turns text around. No note may have it, an address may.
const TURNS: &str = "\u{202e}\u{2066}";
/// Front page with all that it loads, uncompressed, in bytes.
const FRONT_BYTES_MAX: usize = 60_000;

const HTML: [(&str, &str); 1] = [("accept", "text/html,application/xhtml+xml")];

struct Filled {
    world: World,
    provider: IdentityId,
    subject: IdentityId,
    attestation: EventId,
}

/// A service that is sponsored, an agent whose key is revoked, and hostile text wherever somebody can write.
fn filled() -> Filled {
    let mut world = World::new(Some("alpha.example"));
    let service = agent(2);
    let provider = world.register("alpha.example", "mloverflow", &service, Some(HOSTILE));
    world.admit(provider);
    let subject = world.register("alpha.example", "swift-core-maps", &agent(1), Some(HOSTILE));
    for reference in
        [HOSTILE.to_owned(), "javascript:alert(3)".to_owned(), format!("https://evidence.example/{}", "\"onclick=x")]
    {
        let note = note(&Note { reason: Some(HOSTILE.to_owned()), reference: Some(reference), ..Note::default() });
        let action = Action::Attest {
            home: domain("alpha.example"),
            issuer: provider,
            subject,
            delta: 2,
            context: Some("code".parse().unwrap()),
            note: Some(note.0),
        };
        let event = world.signed(&service, action);
        world.take("alpha.example", event, &[note]);
    }
    let attestation = world.attest((&service, provider), subject, -3, None);
    world.retract((&service, provider), subject, attestation);
    world.revoke("beta.example", &agent(1), subject);
    for log in [&world.alpha, &world.beta] {
        world.cosign(log);
    }
    world.rank();
    Filled { world, provider, subject, attestation }
}

async fn page(world: &World, path: &str) -> HttpAnswer {
    ask(world.query(), Method::GET, path, &HTML, "").await
}

/// A path of each page.
fn paths(of: &Filled) -> Vec<String> {
    let fill = |path: &&str| match *path {
        "/event/{id}" => format!("/event/{}", of.attestation),
        "/service/{x}" => format!("/service/{}", of.provider),
        "/search" => "/search?q=m".to_owned(),
        path => path.replace("{x}", &of.subject.to_string()),
    };
    PATHS.iter().map(fill).collect()
}

/// The values of an attribute in a page, unescaped as far as addresses need it.
fn values(page: &str, attribute: &str) -> Vec<String> {
    let mark = format!(" {attribute}=\"");
    page.split(&mark).skip(1).map(|rest| rest.split('"').next().unwrap().replace("&amp;", "&")).collect()
}

#[tokio::test]
async fn every_page_answers_and_binds_the_browser() {
    let filled = filled();
    for path in paths(&filled) {
        let answer = page(&filled.world, &path).await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, "text/html; charset=utf-8"),
            "{path}: {}",
            answer.text
        );
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe") && policy.contains("connect-src 'self';"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("referrer-policy"), "no-referrer");
        assert_eq!(answer.header("set-cookie"), "");
        assert!(answer.header("cache-control").contains("max-age") && !answer.header("etag").is_empty(), "{path}");
        for forbidden in ["<style", " style=\"", "<script>", " onclick=\"", "javascript:alert(3)\""] {
            assert!(!answer.text.contains(forbidden), "{path}: {forbidden}");
        }
        for wanted in ["<html lang=\"en\"", "<main id=\"main\"", "<h1", "<title>", "href=\"#main\"", "<footer>"] {
            assert!(answer.text.contains(wanted), "{path}: {wanted}");
        }
        assert_eq!(answer.text.matches("<h1").count(), 1, "{path}");
        let mut ids = values(&answer.text, "id");
        let all = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), all, "{path}: an id stands twice");
        let known = [HTML[0], ("if-none-match", answer.header("etag"))];
        assert_eq!(ask(filled.world.query(), Method::GET, &path, &known, "").await.status, 304, "{path}");
    }
}

#[tokio::test]
async fn an_empty_node_has_pages_too() {
    let world = World::new(None);
    world.rank();
    for path in ["/", "/search", "/search?q=x", "/leaderboard", "/services", "/federation", "/live"] {
        let answer = page(&world, path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    }
    for path in ["/agent/nobody@alpha.example", "/service/nothing@alpha.example", "/compare/nobody@alpha.example"] {
        let answer = page(&world, path).await;
        assert_eq!((answer.status, answer.header("content-type")), (404, "text/html; charset=utf-8"), "{path}");
        assert!(
            answer.text.contains("<code>unknown_agent</code>") || answer.text.contains("<code>unknown_service</code>")
        );
    }
}

/// A page says what the API says: both read the same.
#[tokio::test]
async fn a_page_says_what_the_api_says() {
    let filled = filled();
    let profile = filled.world.get(&format!("/api/agent/{}", filled.subject)).await.json();
    let answer = page(&filled.world, "/agent/swift-core-maps@alpha.example").await;
    let has = |name: &str, value: &Value| {
        let value = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        assert!(answer.text.contains(&format!(" data-{name}=\"{value}\"")), "{name} is not {value}");
    };
    has("karma", &profile["reputation"]["global_score"]);
    has("count", &profile["reputation"]["attestation_count"]);
    has("version", &profile["key_status"]["key_version"]);
    has("revoked", &profile["key_status"]["is_revoked"]);
    has("final", &profile["ledger"]["final"]);
    has("pem", &profile["identity"]["public_key"]);
    for words in ["Key revoked", "key compromised", "recorded by", "Counts", "Retracted", "code"] {
        assert!(answer.text.contains(words), "{words}");
    }
    let front = page(&filled.world, "/").await;
    assert!(front.text.contains("Revoked") && front.text.contains("swift-core-maps@alpha.example"));
    let event = page(&filled.world, &format!("/event/{}", filled.attestation)).await;
    assert!(
        event.text.contains("Does not count") && event.text.contains(&format!("href=\"/agent/{}\"", filled.subject))
    );
    let service = page(&filled.world, "/service/mloverflow").await;
    assert!(service.text.contains("mloverflow.example") && service.text.contains("class=\"bar down\""));
}

#[tokio::test]
async fn what_strangers_write_stays_text() {
    let filled = filled();
    let mut asked = paths(&filled);
    let q: String = TURNS.bytes().chain(HOSTILE.bytes()).map(|byte| format!("%{byte:02X}")).collect();
    for path in [
        "/search?q=",
        "/agent/",
        "/service/",
        "/event/",
        "/compare/",
        "/leaderboard?home=",
        "/leaderboard?cursor=",
        "/services?cursor=",
        "/nothing/",
    ] {
        asked.push(format!("{path}{q}"));
    }
    asked.push(format!("/agent/{}?with={q}", filled.subject));
    asked.push(format!("/agent/{}?context={q}", filled.subject));
    let mut shown = 0;
    for path in asked {
        let answer = page(&filled.world, &path).await;
        assert!(
            answer.status < 500 && answer.header("content-type").starts_with("text/html"),
            "{path}: {}",
            answer.status
        );
        for part in ["<script>alert", "<img", "</title></script>"] {
            assert!(!answer.text.contains(part), "{path}: {part}");
        }
        assert!(!answer.text.contains(|c: char| TURNS.contains(c)), "{path}: what turns the page around");
        for (at, _) in answer.text.match_indices("שלום") {
            let before = &answer.text[..at];
            let isolated = before.rfind("<bdi dir=\"auto\">") > before.rfind("</bdi>");
            let attribute = before.rfind('<') > before.rfind('>');
            let title = before.rfind("<title>") > before.rfind("</title>");
            assert!(isolated || attribute || title, "{path}: text that turns the page around");
            shown += 1;
        }
        for address in values(&answer.text, "href").into_iter().chain(values(&answer.text, "src")) {
            let fine = address.starts_with('/') || address.starts_with('#') || address.starts_with("https://");
            assert!(fine, "{path}: {address}");
        }
    }
    assert!(shown >= 4, "the hostile text is shown at all: {shown}");
    let agent = page(&filled.world, &format!("/agent/{}", filled.subject)).await;
    assert!(agent.text.contains("rel=\"noopener noreferrer nofollow ugc\""));
}

/// Every link of every page leads somewhere.
#[tokio::test]
async fn pages_link_to_what_exists() {
    let filled = filled();
    let (mut left, mut seen) = (vec!["/".to_owned()], BTreeSet::new());
    left.extend(paths(&filled));
    while let Some(path) = left.pop() {
        let path = path.split('#').next().unwrap().to_owned();
        if path.is_empty() || !seen.insert(path.clone()) {
            continue;
        }
        assert!(seen.len() < 500, "pages of pages");
        let answer = page(&filled.world, &path).await;
        // A proof waits for a certificate, and a stream for what happens.
        let fine = matches!(answer.status, 200 | 303) || path.ends_with("/proof") && answer.status == 503;
        assert!(fine, "{path}: {} {}", answer.status, answer.text);
        if answer.header("content-type").starts_with("text/html") {
            let links = values(&answer.text, "href").into_iter().chain(values(&answer.text, "src"));
            left.extend(links.filter(|link| link.starts_with('/')));
            left.extend(values(&answer.text, "action").iter().map(|action| format!("{action}?q=swift")));
        }
    }
    let first = |path: &str| path.split('/').nth(1).unwrap().split('?').next().unwrap().to_owned();
    let parts: BTreeSet<String> = seen.iter().map(|path| first(path)).collect();
    for path in PATHS {
        assert!(parts.contains(&first(path)), "{path} was not reached");
    }
}

#[tokio::test]
async fn a_search_for_the_whole_of_something_leads_there() {
    let filled = filled();
    let id = filled.subject.to_string();
    let profile = filled.world.get(&format!("/api/agent/{id}")).await.json();
    let did = profile["identity"]["did"].as_str().unwrap().to_owned();
    let key = agent(1).public().to_string();
    for q in ["swift-core-maps@alpha.example", " Swift-Core-Maps@alpha.example ", &id, &did, &key] {
        let q: String = q.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = page(&filled.world, &format!("/search?q={q}")).await;
        assert_eq!((answer.status, answer.header("location")), (303, format!("/agent/{id}").as_str()), "{q}");
    }
    let event = page(&filled.world, &format!("/search?q={}", filled.attestation)).await;
    assert_eq!((event.status, event.header("location")), (303, format!("/event/{}", filled.attestation).as_str()));
}

#[tokio::test]
async fn errors_are_pages_for_people_and_json_for_programs() {
    let world = World::new(Some("alpha.example"));
    let get = async |path: &str, accept: &str| ask(world.query(), Method::GET, path, &[("accept", accept)], "").await;
    for (path, accept, status, is_page) in [
        ("/agent/nobody", "text/html", 404, true),
        ("/agent/nobody", "*/*", 404, true),
        ("/agent/nobody", "application/json", 404, false),
        ("/agent/A%20B", "text/html", 400, true),
        ("/event/xyz", "text/html", 400, true),
        ("/nothing", "text/html", 404, true),
        ("/nothing", "*/*", 404, false),
        ("/api/agent/nobody", "text/html", 404, false),
        ("/api/nothing", "text/html", 404, false),
        ("/manifest/77", "text/html", 404, false),
        ("/leaderboard?limit=0", "text/html", 400, true),
    ] {
        let answer = get(path, accept).await;
        let is_html = answer.header("content-type") == "text/html; charset=utf-8";
        assert_eq!((answer.status, is_html), (status, is_page), "{path} {accept}");
        assert!(!answer.header("x-request-id").is_empty(), "{path}");
        if is_html {
            assert!(answer.header("content-security-policy").contains("default-src 'none'"), "{path}");
            assert!(answer.headers.get_all("vary").iter().any(|vary| vary == "accept"), "{path}");
        } else {
            problem(&answer);
        }
    }
    let posted = ask(world.query(), Method::POST, "/leaderboard", &HTML, "").await;
    assert_eq!((posted.status, problem(&posted).as_str()), (405, "method_not_allowed"));
}

#[tokio::test]
async fn the_front_page_is_small_and_its_parts_last() {
    let filled = filled();
    let front = page(&filled.world, "/").await;
    let mut bytes = front.text.len();
    let files: Vec<String> = values(&front.text, "href")
        .into_iter()
        .chain(values(&front.text, "src"))
        .filter(|link| link.starts_with("/assets/"))
        .collect();
    assert_eq!(files.len(), 3, "{files:?}");
    for file in &files {
        let answer = page(&filled.world, file).await;
        assert_eq!(
            (answer.status, answer.header("cache-control")),
            (200, "public, max-age=31536000, immutable"),
            "{file}"
        );
        let tag = answer.header("etag").to_owned();
        assert!(tag.starts_with('"'), "strong: {tag}");
        let known = ask(filled.world.query(), Method::GET, file, &[("if-none-match", tag.as_str())], "").await;
        assert_eq!(known.status, 304);
        let packed = ask(filled.world.query(), Method::GET, file, &[("accept-encoding", "gzip")], "").await;
        let is_packed = packed.header("content-encoding") == "gzip";
        assert_eq!(packed.header("etag").starts_with("W/"), is_packed, "other bytes, so no strong tag");
        bytes += answer.text.len();
    }
    assert!(bytes < FRONT_BYTES_MAX, "{bytes} bytes");
    let other = page(&filled.world, "/assets/0000000000000000/style.css").await;
    assert_eq!((other.status, other.header("cache-control")), (200, "public, max-age=1"));
    assert_eq!(page(&filled.world, "/assets/0/nothing.css").await.status, 404);
    // The figure that people wait for; far above what it takes, so that a busy machine fails no test.
    let begin = Instant::now();
    for _ in 0..10 {
        page(&filled.world, "/").await;
    }
    assert!(begin.elapsed().as_millis() < 2_000, "{:?}", begin.elapsed());
}
