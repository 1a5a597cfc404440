//! Server-sent events.
use std::time::Duration;

use futures::StreamExt;
use tokio::time::timeout;

use super::*;
use crate::replay::rollback::{RollbackRun, StepEnd};
use crate::store::RolledBack;

/// An event as a client reads it: its name, id and data.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    name: String,
    id: String,
    data: Value,
}

struct Listener {
    body: axum::body::BodyDataStream,
    text: String,
}

impl Listener {
    async fn next(&mut self) -> Seen {
        // Heartbeats alone are nothing.
        timeout(Duration::from_secs(60), self.read()).await.expect("no event comes")
    }

    async fn read(&mut self) -> Seen {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name: &str| {
                    let line = block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
                    line.unwrap_or_default().to_owned()
                };
                if !field("event").is_empty() {
                    let data = serde_json::from_str(&field("data")).unwrap();
                    return Seen { name: field("event"), id: field("id"), data };
                }
            }
            let chunk = timeout(Duration::from_secs(20), self.body.next()).await.expect("nothing comes");
            self.text.push_str(std::str::from_utf8(&chunk.expect("the stream ended").unwrap()).unwrap());
        }
    }
}

async fn listen(router: &Router, path: &str, after: Option<&str>) -> Listener {
    let mut request = Request::get(path);
    if let Some(id) = after {
        request = request.header("last-event-id", id);
    }
    let response = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["cache-control"], "no-store");
    Listener { body: response.into_body().into_data_stream(), text: String::new() }
}

/// What the inbox does after each batch.
fn shown(world: &World) {
    let view = world.app.shared.store.view();
    let mut health = world.app.shared.health.write();
    for log in [&world.alpha, &world.beta] {
        let record = view.log(&log.id).unwrap().unwrap();
        let known = health.logs.get_mut(&log.id).unwrap();
        (known.size, known.certified) = (record.state.size, record.certified);
    }
}

#[tokio::test]
async fn what_happens_is_told_and_can_be_told_again() {
    let mut world = World::new(Some("alpha.example"));
    shown(&world);
    let router = world.query();
    let mut all = listen(&router, "/api/stream", None).await;
    let open = all.next().await;
    assert_eq!((open.name.as_str(), &open.data["manifest_version"]), ("open", &json!(1)));

    let (key, service) = (agent(1), agent(2));
    let id = world.register("alpha.example", "swift-core-maps", &key, None);
    shown(&world);
    let registered = all.next().await;
    assert_eq!(
        (registered.name.as_str(), &registered.data["handle"]),
        ("registration", &json!("swift-core-maps@alpha.example"))
    );
    let provider = world.register("alpha.example", "mloverflow", &service, None);
    let admitted = world.admit(provider);
    let attested = world.attest((&service, provider), id, 5, None);
    let revoked = world.revoke("beta.example", &key, id);
    // A claim by a stranger does not count, so nobody hears of it.
    world.revoke("beta.example", &agent(9), id);
    shown(&world);
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(all.next().await);
    }
    let ids: Vec<_> = seen.iter().map(|one| one.data["event"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, [provider, admitted, attested, revoked].map(|id| id.to_string()));
    assert_eq!((seen[3].name.as_str(), &seen[3].data["reason"]), ("key", &json!("KEY_COMPROMISED")));
    assert_eq!(
        (&seen[2].data["delta"], &seen[2].data["provider_handle"]),
        (&json!(5), &json!("mloverflow@alpha.example"))
    );

    // From any id on, here or at another node with the same logs, the same follows.
    for (i, from) in std::iter::once(&registered).chain(&seen).enumerate() {
        let mut again = listen(&world.query(), "/api/stream", Some(&from.id)).await;
        assert_eq!(again.next().await.id, from.id);
        for one in &seen[i..] {
            assert_eq!(again.next().await, *one);
        }
    }

    world.certify(&world.alpha, world.alpha.tree.size());
    shown(&world);
    let checkpoint = all.next().await;
    assert_eq!((checkpoint.name.as_str(), &checkpoint.data["log"]), ("checkpoint", &json!("alpha.example/1")));
    assert_eq!(checkpoint.data["size"], world.alpha.tree.size());
}

/// Logs arrive in any order: a claim that comes before what it revokes is told once that is there.
#[tokio::test]
async fn a_claim_that_comes_before_its_key_is_told_after_it() {
    let mut world = World::new(Some("alpha.example"));
    shown(&world);
    let mut keys = listen(&world.query(), "/api/stream?kind=key", None).await;
    keys.next().await;
    let key = agent(1);
    let (home, name) = (domain("alpha.example"), "swift-core-maps".parse().unwrap());
    let action = Action::Register { home, name, key: key.public(), next: None, note: None };
    let registration = world.signed(&key, action);
    let id = registration.event().id();
    let claim = world.revoke("beta.example", &key, id);
    shown(&world);
    tokio::time::sleep(Duration::from_millis(200)).await;
    world.take("alpha.example", registration, &[]);
    shown(&world);
    let told = keys.next().await;
    assert_eq!(
        (&told.data["event"], &told.data["log"], &told.data["kind"]),
        (&json!(claim.to_string()), &json!("beta.example/1"), &json!("revoke"))
    );
    // A client that continues from before hears of it as well.
    world.register("alpha.example", "another", &agent(2), None);
    shown(&world);
    let mut again = listen(&world.query(), "/api/stream?kind=key", Some("1.AAA")).await;
    assert_eq!(
        (again.next().await.name, again.next().await.data["event"].clone()),
        ("open".to_owned(), json!(claim.to_string()))
    );
}

#[tokio::test]
async fn a_client_hears_only_what_it_wants() {
    let mut world = World::new(Some("alpha.example"));
    let (key, service) = (agent(1), agent(2));
    let id = world.register("alpha.example", "swift-core-maps", &key, None);
    let provider = world.register("beta.example", "mloverflow", &service, None);
    shown(&world);
    let router = world.query();
    let open = listen(&router, "/api/stream", None).await.next().await.id;
    let other = world.register("alpha.example", "someone-else", &agent(3), None);
    let admitted = world.admit(provider);
    let revoked = world.revoke("beta.example", &key, id);
    let last = world.revoke("alpha.example", &agent(3), other);
    shown(&world);
    for (filter, first) in [
        ("kind=key", revoked),
        ("agent=swift-core-maps", revoked),
        ("agent=swift-core-maps,someone-else&kind=key", revoked),
        ("home=beta.example&kind=karma,key", admitted),
        ("kind=key&agent=someone-else", last),
    ] {
        let mut only = listen(&world.query(), &format!("/api/stream?{filter}"), Some(&open)).await;
        assert_eq!(only.next().await.name, "open");
        let seen = only.next().await;
        let expect = first.to_string();
        if filter.starts_with("home") || filter.starts_with("kind=key&agent") {
            assert_eq!(seen.data["event"], expect, "{filter}");
        } else {
            // Logs are told one after the other, so both revocations may be first.
            let either = [revoked.to_string(), last.to_string()];
            assert!(either.contains(&seen.data["event"].as_str().unwrap().to_owned()), "{filter}: {seen:?}");
        }
    }
    for (query, status, code) in [
        ("kind=none", 400, "bad_parameter"),
        ("agent=nobody", 404, "unknown_agent"),
        ("after=x", 400, "bad_cursor"),
        ("after=1.AAAA", 400, "bad_cursor"),
        ("after=9.AAA", 503, "later_version"),
        ("home=a,b", 400, "bad_parameter"),
    ] {
        let answer = ask(world.query(), Method::GET, &format!("/api/stream?{query}"), &[], "").await;
        assert_eq!((answer.status, problem(&answer).as_str()), (status, code), "{query}");
    }
}

#[tokio::test]
async fn a_client_that_is_far_behind_reads_from_the_disk() {
    let mut world = World::new(Some("alpha.example"));
    shown(&world);
    let router = world.query();
    let mut all = listen(&router, "/api/stream", None).await;
    let open = all.next().await;
    // More than the feed keeps for those who are slow, and the client reads nothing meanwhile.
    const COUNT: usize = 5_000;
    let mut expect = Vec::with_capacity(COUNT);
    for batch in 0..50u32 {
        for one in 0..100u32 {
            let mut seed = [7; 32];
            seed[..4].copy_from_slice(&(batch * 100 + one).to_be_bytes());
            let key = SecretKey::from_seed(Curve::Ed25519, &seed).unwrap();
            expect.push(world.register("beta.example", &format!("agent-{batch}-{one}"), &key, None).to_string());
        }
        shown(&world);
    }
    let mut found = Vec::with_capacity(COUNT);
    for _ in 0..COUNT {
        found.push(all.next().await.data["event"].as_str().unwrap().to_owned());
    }
    assert_eq!(found, expect, "everything, once, in order");
    let mut again = listen(&router, "/api/stream", Some(&open.id)).await;
    again.next().await;
    for one in &expect {
        assert_eq!(again.next().await.data["event"], *one);
    }
}

/// Symptom: clients of one address took all places of a listener's streams, and never read.
#[tokio::test]
async fn a_block_has_a_quarter_of_the_streams() {
    use axum::extract::ConnectInfo;
    use std::net::{IpAddr, SocketAddr};
    let world = World::new(Some("alpha.example"));
    shown(&world);
    let (_live, live) = tokio::sync::watch::channel(Arc::default());
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    let bounds = crate::http::QueryBounds { rates: crate::http::Rates::new(live), connections_max: 96, stopped };
    let router = crate::http::query(Arc::clone(&world.app), Some(bounds));
    let follow = async |address: [u8; 4]| {
        let peer = ConnectInfo(SocketAddr::from((IpAddr::from(address), 5)));
        let request = Request::get("/api/stream").extension(peer).body(Body::empty()).unwrap();
        router.clone().oneshot(request).await.unwrap()
    };
    let quarter = 96 / 2 / 4;
    let mut held = Vec::new();
    for i in 0..quarter {
        let answer = follow([198, 51, 100, i]).await;
        assert_eq!(answer.status(), 200, "{i} of {quarter}");
        held.push(answer);
    }
    let refused = follow([198, 51, 100, 251]).await;
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (503, &"30".parse().unwrap()));
    for other in [[203, 0, 113, 1], [127, 0, 0, 1]] {
        assert_eq!(follow(other).await.status(), 200, "others have their own");
    }
    drop(held);
    for _ in 0..200 {
        if follow([198, 51, 100, 251]).await.status() == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("places of clients that left are free");
}

/// A log leaves a branch: entries that were told go, and others come in their place. A revocation among them must reach those
/// who follow, and those who come back with an id from before.
#[tokio::test]
async fn what_comes_in_the_place_of_dropped_entries_is_told() {
    let mut world = World::new(None);
    let key = agent(1);
    let id = world.register("alpha.example", "swift", &key, None);
    shown(&world);
    let router = world.query();
    let mut live = listen(&router, "/api/stream", None).await;
    live.next().await;
    for (seed, name) in [(11, "first"), (12, "second"), (13, "third")] {
        world.register("beta.example", name, &agent(seed), None);
    }
    shown(&world);
    let mut last = live.next().await;
    for _ in 0..2 {
        last = live.next().await;
    }
    assert_eq!((&last.data["handle"], &last.data["log"]), (&json!("third@beta.example"), &json!("beta.example/1")));

    let (store, log) = (Arc::clone(&world.app.shared.store), world.beta.id.clone());
    store.begin_rollback(RolledBack { log: log.clone(), size: 2, signed: None }).unwrap();
    let mut run = RollbackRun::default();
    while let StepEnd::More(_) = run.step(&store).unwrap() {}
    let left = store.view().entries(&log, 0, 10, 1 << 20).unwrap();
    assert_eq!(left.len(), 2);
    world.beta.tree = Tree::default();
    world.beta.tree.append(left.iter().map(|entry| leaf_hash(entry)));
    world.beta.maps = LogMaps::load(store.manifest(), &log, &store.view()).unwrap();
    assert_eq!(store.view().rewound(&log).unwrap(), Some((2, 8)));

    // The other branch is shorter, so that nothing in it is beyond what was told.
    let revoked = world.revoke("beta.example", &key, id);
    shown(&world);
    let heard = live.next().await;
    assert_eq!((heard.name.as_str(), &heard.data["event"]), ("key", &json!(revoked.to_string())));
    assert_eq!(heard.data["index"], 2);
    for path in ["/api/stream", "/api/stream?kind=key"] {
        let mut again = listen(&router, path, Some(&last.id)).await;
        again.next().await;
        assert_eq!(again.next().await.data["event"], revoked.to_string());
    }
    // Who was told of it continues behind it, once the log is longer than it ever was.
    for (seed, name) in [(14, "fourth"), (15, "fifth"), (16, "sixth")] {
        world.register("beta.example", name, &agent(seed), None);
    }
    shown(&world);
    for _ in 0..2 {
        live.next().await;
    }
    let end = live.next().await;
    assert_eq!(end.data["handle"], "sixth@beta.example");
    let mut again = listen(&router, "/api/stream", Some(&end.id)).await;
    again.next().await;
    world.register("beta.example", "seventh", &agent(17), None);
    shown(&world);
    assert_eq!(again.next().await.data["handle"], "seventh@beta.example");
}
