//! Readiness, headers, bounds, real connections.
use super::*;
use crate::config::CONNECTIONS_MAX;

#[tokio::test]
async fn the_admin_listener_says_why_the_node_is_not_ready() {
    let world = World::new(Some("alpha.example"));
    let admin = async |path: &str| {
        ask(crate::http::admin(Arc::clone(&world.app), mpsc::channel(1).0, Arc::default()), Method::GET, path, &[], "")
            .await
    };
    assert_eq!(admin("/healthz").await.status, 200);
    let answer = admin("/readyz").await;
    assert_eq!((answer.status, problem(&answer).as_str()), (503, "not_ready"));
    assert_eq!(answer.json()["reasons"], json!(["too_few_operators_heard", "waiting: starting"]));
    {
        let mut health = world.app.shared.health.write();
        health.waiting = None;
        health.operators.get_mut(&domain("beta.example")).unwrap().heard = Some(clock::now());
        health.logs.get_mut(&world.beta.id).unwrap().fault = Some("equivocation");
    }
    assert_eq!(admin("/readyz").await.json()["reasons"], json!(["fault: equivocation in beta.example/1"]));
    world.app.shared.health.write().logs.get_mut(&world.beta.id).unwrap().fault = None;
    world.app.shared.health.write().warnings = vec!["assume_disk_current"];
    let ready = admin("/readyz").await;
    assert_eq!((ready.status, ready.json()), (200, json!({"status": "ready", "warnings": ["assume_disk_current"]})));
    world.app.shared.health.write().wrong_clock = Some("clock_behind");
    assert_eq!(admin("/readyz").await.json()["reasons"], json!(["clock_behind"]));
    world.app.shared.health.write().warnings = vec!["clock_behind", "accept_clock"];
    assert_eq!(admin("/readyz").await.status, 200, "the operator says that the others' clocks are wrong");
    world.app.shared.health.write().warnings = vec!["assume_disk_current"];
    world.app.shared.health.write().waiting = Some("clock_ahead");
    world.app.shared.health.write().wrong_clock = Some("clock_ahead");
    assert_eq!(admin("/readyz").await.json()["reasons"], json!(["waiting: clock_ahead"]), "once");
    let metrics = admin("/metrics").await;
    assert!(metrics.text.contains("fama_log_fault{log=\"beta.example/1\"} 0"), "{}", metrics.text);
    assert!(metrics.text.contains("fama_http_requests_total{route=\"/readyz\",status=\"5xx\"} 4"), "{}", metrics.text);
    for line in ["fama_node_warning{code=\"assume_disk_current\"} 1", "fama_node_warning{code=\"other_session\"} 0"] {
        assert!(metrics.text.contains(line), "{line}: {}", metrics.text);
    }
}

#[tokio::test]
async fn every_answer_has_the_headers_around_it() {
    let mut world = World::new(Some("alpha.example"));
    world.register("alpha.example", "swift-core-maps", &agent(1), None);
    let path = "/api/agent/swift-core-maps";
    let answer =
        ask(world.query(), Method::GET, path, &[("origin", "https://x.example"), ("x-request-id", "abc-1")], "").await;
    let tag = answer.header("etag").to_owned();
    assert!(tag.starts_with("W/\"") && tag.len() == 68, "{tag}");
    assert_eq!(answer.header("cache-control"), "public, max-age=1");
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    assert_eq!(answer.header("x-request-id"), "abc-1");
    assert_eq!(world.get(path).await.header("x-request-id").len(), 16);
    let known = ask(world.query(), Method::GET, path, &[("if-none-match", &format!("\"x\", {tag}"))], "").await;
    assert_eq!((known.status, known.text.as_str(), known.header("etag")), (304, "", tag.as_str()));
    let head = ask(world.query(), Method::HEAD, path, &[], "").await;
    assert_eq!((head.status, head.text.as_str(), head.header("etag")), (200, "", tag.as_str()));
    assert_eq!(head.header("content-length"), answer.text.len().to_string());
    for coding in ["gzip", "zstd"] {
        let small = ask(world.query(), Method::GET, path, &[("accept-encoding", coding)], "").await;
        assert_eq!((small.header("content-encoding"), small.header("etag")), (coding, tag.as_str()));
    }
    let preflight = [
        ("origin", "https://x.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type"),
    ];
    let preflight = ask(world.query(), Method::OPTIONS, "/api/verify", &preflight, "").await;
    assert!(preflight.status == 200 && preflight.header("access-control-allow-methods").contains("POST"));

    let missing = world.get("/api/nothing").await;
    assert_eq!((missing.status, problem(&missing).as_str()), (404, "no_such_route"));
    for (method, path, allow) in [
        (Method::POST, "/api/status", "GET,HEAD"),
        (Method::GET, "/api/verify", "POST"),
        (Method::DELETE, "/api/agent/x", "GET,HEAD"),
    ] {
        let answer = ask(world.query(), method, path, &[], "").await;
        assert_eq!(
            (answer.status, problem(&answer).as_str(), answer.header("allow")),
            (405, "method_not_allowed", allow)
        );
    }
}

/// A cache keeps one answer for each value of the headers in `Vary`: a 304 must name the same as its 200.
#[tokio::test]
async fn an_unchanged_answer_varies_as_the_whole_one_does() {
    let mut world = World::new(Some("alpha.example"));
    world.register("alpha.example", "swift-core-maps", &agent(1), None);
    let vary = |answer: &HttpAnswer| {
        let all = answer.headers.get_all("vary").iter().flat_map(|value| value.to_str().unwrap().split(','));
        let mut all: Vec<String> = all.map(|name| name.trim().to_lowercase()).collect();
        all.sort();
        all
    };
    for path in ["/manifest/1", "/log/policy", "/api", "/api/status", "/api/agent/swift-core-maps", "/api/federation"] {
        let whole = world.get(path).await;
        assert!(whole.status == 200 && vary(&whole).contains(&"accept-encoding".to_owned()), "{path}");
        let tag = whole.header("etag").to_owned();
        for (method, known, status) in [(Method::GET, true, 304), (Method::HEAD, true, 304), (Method::HEAD, false, 200)]
        {
            for coding in ["gzip", "identity"] {
                let mut headers = vec![("accept-encoding", coding)];
                headers.extend(known.then_some(("if-none-match", tag.as_str())));
                let answer = ask(world.query(), method.clone(), path, &headers, "").await;
                assert_eq!((answer.status, vary(&answer)), (status, vary(&whole)), "{method} {path} {coding}");
                assert_eq!(answer.header("cache-control"), whole.header("cache-control"), "{path}");
            }
        }
    }
}

/// Programs that want no cached answer add a parameter that nobody knows, and so do links that are tracked.
#[tokio::test]
async fn unknown_parameters_are_ignored_everywhere() {
    let mut world = World::new(Some("alpha.example"));
    world.register("alpha.example", "swift-core-maps", &agent(1), None);
    for path in [
        "/api",
        "/api/status",
        "/api/agent/swift-core-maps",
        "/api/agent/swift-core-maps?final=0",
        "/api/leaderboard",
        "/api/leaderboard?limit=5",
        "/api/federation",
        "/api/federation/manifests",
        "/api/federation/consistency?log=alpha.example/1&to=0",
        "/manifest/1",
        "/log/policy",
    ] {
        let plain = world.get(path).await;
        let mark = if path.contains('?') { '&' } else { '?' };
        let answer = world.get(&format!("{path}{mark}_=1&_=2&utm_source=x")).await;
        assert_eq!((answer.status, answer.text.len()), (plain.status, plain.text.len()), "{path}: {}", answer.text);
    }
}

/// Symptom: a node took ten seconds to stop, and to take up a manifest, because somebody had sent half a request. A
/// container runtime kills it then.
#[tokio::test]
async fn whoever_keeps_a_stopping_node_waiting_is_not_waited_for() {
    use std::time::{Duration, Instant};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    // More than the buffers of both sockets hold.
    const LONG: usize = 32 << 20;
    let late = async || {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        "late"
    };
    let router = Router::new()
        .route("/long", axum::routing::get(async || vec![b'x'; LONG]))
        .route("/late", axum::routing::get(late));
    let world = World::new(None);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let router = crate::http::layers::public(router, &world.app.shared.metrics, 10, None);
    let served =
        tokio::spawn(crate::http::serve(listener, router, CONNECTIONS_MAX, async move { drop(stopped.await) }));
    let mut clients = Vec::new();
    for begun in [
        "",
        "GET /api HT",
        "GET /api HTTP/1.1\r\nhost: x\r\n",
        "POST /api/verify HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{",
        "GET /late HTTP/1.1\r\nhost: x\r\n\r\nGET /la",
        "GET /long HTTP/1.1\r\nhost: x\r\n\r\n",
    ] {
        let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
        client.write_all(begun.as_bytes()).await.unwrap();
        clients.push(client);
    }
    let mut working = tokio::net::TcpStream::connect(address).await.unwrap();
    working.write_all(b"GET /late HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut reading = tokio::net::TcpStream::connect(address).await.unwrap();
    reading.write_all(b"GET /long HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.send(()).unwrap();
    let begun = Instant::now();
    let (mut answer, mut long) = (String::new(), Vec::new());
    let (worked, read) = tokio::join!(working.read_to_string(&mut answer), reading.read_to_end(&mut long));
    assert!(worked.is_ok() && answer.ends_with("late"), "what the node works on is finished: {answer}");
    assert!(read.is_ok() && long.len() > LONG, "and what a client takes is sent: {}", long.len());
    served.await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

/// Answers of a node that may not have the newest say so, errors too; files that never change say nothing.
#[tokio::test]
async fn a_node_that_is_not_fresh_says_so_in_its_answers() {
    let mut world = World::new(Some("alpha.example"));
    world.register("alpha.example", "swift-core-maps", &agent(1), None);
    let health = |change: &dyn Fn(&mut crate::health::Snapshot)| change(&mut world.app.shared.health.write());
    let heard = |millis: u64| {
        let at = Millis(clock::now().0 - millis);
        health(&|now| now.operators.get_mut(&domain("beta.example")).unwrap().heard = Some(at));
    };
    let (agent, file) = ("/api/agent/swift-core-maps", "/manifest/1");
    let check = async |stale: &str, why: &str| {
        for (method, path) in [
            (Method::GET, agent),
            (Method::HEAD, agent),
            (Method::GET, "/api/agent/nobody@beta.example"),
            (Method::GET, "/api/status"),
            (Method::GET, "/api/leaderboard"),
            (Method::GET, "/api/federation"),
            (Method::POST, "/api/verify"),
        ] {
            let answer = ask(world.query(), method.clone(), path, &[], "").await;
            assert_eq!(answer.header("fama-stale"), stale, "{why}: {method} {path}: {}", answer.status);
        }
        let origin = [("origin", "https://x.example")];
        let answer = ask(world.query(), Method::GET, agent, &origin, "").await;
        let shown = answer.header("access-control-expose-headers");
        assert!(shown.contains("fama-stale"), "browsers hide it: {shown}");
        let tag = answer.header("etag");
        let known = ask(world.query(), Method::GET, agent, &[("if-none-match", tag)], "").await;
        assert_eq!((known.status, known.header("fama-stale")), (304, stale), "{why}");
        let lasting = world.get(file).await;
        assert_eq!((lasting.status, lasting.header("fama-stale")), (200, ""), "{why}");
    };
    check("true", "beta was never heard").await;
    heard(0);
    check("", "both were heard, and nothing is missing").await;
    heard(61_000);
    check("true", "beta is silent for more than a minute").await;
    heard(0);
    health(&|now| now.logs.get_mut(&world.beta.id).unwrap().newest = 9);
    check("true", "entries are missing").await;
    health(&|now| now.logs.get_mut(&world.beta.id).unwrap().size = 9);
    check("", "none is missing").await;
    health(&|now| now.old_logs = 1);
    check("true", "an old certificate, and nobody may lie among two").await;
    health(&|now| now.old_logs = 0);
    check("", "no certificate is old").await;

    // While a certified state answers instead, what it lacks counts, and not what the node's own copies lack.
    let shown = World::new(Some("alpha.example"));
    world.app.slot.show(Arc::clone(&shown.app));
    assert_eq!(world.get("/api/status").await.header("fama-stale"), "true");
    shown.app.shared.health.write().operators.get_mut(&domain("beta.example")).unwrap().heard = Some(clock::now());
    health(&|now| now.old_logs = 1);
    assert_eq!(world.get("/api/status").await.header("fama-stale"), "");
    world.app.slot.clear();
    assert_eq!(world.get("/api/status").await.header("fama-stale"), "true");
}

#[tokio::test]
async fn a_full_listener_says_so_at_once() {
    let world = World::new(None);
    let bare = Router::new().route("/slow", axum::routing::get(std::future::pending::<()>));
    let full = crate::http::layers::public(bare, &world.app.shared.metrics, 1, None);
    let waiting = tokio::spawn(ask(full.clone(), Method::GET, "/slow", &[], ""));
    tokio::task::yield_now().await;
    let answer = ask(full, Method::GET, "/slow", &[("origin", "https://x.example")], "").await;
    assert_eq!((answer.status, problem(&answer).as_str()), (503, "overloaded"));
    assert_eq!((answer.header("retry-after"), answer.header("cache-control")), ("1", "no-store"));
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    waiting.abort();
}

/// Symptom: a proxy in front answers 502. It keeps idle connections for a minute, and the listener closed them first.
#[tokio::test]
async fn a_silent_connection_outlives_a_proxys_patience() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    const { assert!(crate::http::serve::HEADER_READ.as_secs() > 60) };
    let world = World::new(Some("alpha.example"));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(crate::http::serve(listener, world.query(), CONNECTIONS_MAX, std::future::pending()));
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    // Long enough to tell from the 15 seconds that it was.
    for pause in [0, 17] {
        tokio::time::sleep(std::time::Duration::from_secs(pause)).await;
        stream.write_all(b"GET /api HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"}}") {
            answer.push(stream.read_u8().await.unwrap());
        }
    }
}

/// Symptom: a node that answers nobody. Clients asked for something long and hung up; the reads went on without the
/// place of their request, any number of them.
#[tokio::test]
async fn reads_of_clients_that_hang_up_keep_their_places() {
    use crate::http::READS_MAX;
    use crate::http::layers::{Place, public};
    use std::sync::atomic::{AtomicUsize, Ordering};
    let world = World::new(None);
    let (release, held) = std::sync::mpsc::sync_channel::<()>(1);
    let (held, running) = (Arc::new(std::sync::Mutex::new(held)), Arc::new(AtomicUsize::new(0)));
    let (waits, now) = (Arc::clone(&held), Arc::clone(&running));
    let slow = async move |place: Place| {
        place
            .read(move || {
                now.fetch_add(1, Ordering::SeqCst);
                let _ = waits.lock().unwrap().recv();
                now.fetch_sub(1, Ordering::SeqCst);
                Ok("done")
            })
            .await
    };
    let bare =
        Router::new().route("/long", axum::routing::get(slow)).route("/cheap", axum::routing::get(async || "ok"));
    // One place more than there are long reads.
    let router = public(bare, &world.app.shared.metrics, READS_MAX + 1, None);
    for i in 0..40 {
        let client = tokio::spawn(ask(router.clone(), Method::GET, "/long", &[], ""));
        while i < READS_MAX && running.load(Ordering::SeqCst) <= i {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        tokio::task::yield_now().await;
        client.abort();
        let _ = client.await;
    }
    assert_eq!(running.load(Ordering::SeqCst), READS_MAX, "no read without a place");
    assert_eq!(ask(router.clone(), Method::GET, "/cheap", &[], "").await.status, 200, "cheap reads wait for nobody");
    let waiting = tokio::spawn(ask(router.clone(), Method::GET, "/long", &[], ""));
    tokio::task::yield_now().await;
    let answer = ask(router.clone(), Method::GET, "/cheap", &[], "").await;
    assert_eq!(
        (answer.status, problem(&answer).as_str()),
        (503, "overloaded"),
        "the reads hold their requests' places"
    );
    drop(release);
    assert_eq!(waiting.await.unwrap().text, "done");
    assert_eq!(ask(router, Method::GET, "/cheap", &[], "").await.status, 200);
}

#[tokio::test]
async fn real_connections_are_served_until_the_end() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let world = World::new(Some("alpha.example"));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let served =
        tokio::spawn(crate::http::serve(listener, world.query(), CONNECTIONS_MAX, async move { drop(stopped.await) }));
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    for _ in 0..2 {
        stream.write_all(b"GET /api HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = vec![0; 64];
        stream.read_exact(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(&answer));
        while !answer.ends_with(b"}}") {
            answer.push(stream.read_u8().await.unwrap());
        }
    }
    stop.send(()).unwrap();
    served.await.unwrap();
    assert_eq!(stream.read(&mut [0; 9]).await.unwrap(), 0);
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
