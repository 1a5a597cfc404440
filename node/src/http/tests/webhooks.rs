//! Deliveries to a server on this machine.
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use super::super::webhooks::Delivery;
use super::*;
use crate::config::{Webhook, WebhookSecret};

/// Most deliveries that wait to be looked at.
const RECEIVED_MAX: usize = 1_024;

/// What a server received: the headers in lower case, and the body.
#[derive(Clone, Debug)]
struct Received {
    headers: String,
    body: Value,
}

impl Received {
    fn header(&self, name: &str) -> &str {
        let line = self.headers.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_default()
    }

    fn event(&self) -> String {
        self.body["data"]["event"].as_str().unwrap_or_default().to_owned()
    }
}

/// A server that answers with these statuses, and then with the last of them each time.
fn serve(listener: TcpListener, statuses: &'static [u16]) -> std::sync::mpsc::Receiver<Received> {
    let (found, received) = std::sync::mpsc::sync_channel(RECEIVED_MAX);
    std::thread::spawn(move || {
        let mut left = statuses.iter();
        let mut last = 200;
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            loop {
                let mut headers = String::new();
                while !headers.ends_with("\r\n\r\n") {
                    if reader.read_line(&mut headers).unwrap_or(0) == 0 {
                        break;
                    }
                }
                let headers = headers.to_ascii_lowercase();
                let length = headers.lines().find_map(|line| line.strip_prefix("content-length: "));
                let Some(length) = length.and_then(|length| length.trim().parse::<usize>().ok()) else { break };
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                last = left.next().copied().unwrap_or(last);
                let to = if last == 302 { "location: http://127.0.0.1:1/\r\n" } else { "" };
                write!(stream, "HTTP/1.1 {last} X\r\n{to}content-length: 0\r\n\r\n").unwrap();
                if found.send(Received { headers, body: serde_json::from_slice(&body).unwrap() }).is_err() {
                    return;
                }
            }
        }
    });
    received
}

fn webhook(address: std::net::SocketAddr) -> Webhook {
    Webhook {
        name: "test".to_owned(),
        url: format!("http://{address}/hook"),
        secret: WebhookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap(),
        kinds: Vec::new(),
        agents: Vec::new(),
        providers: Vec::new(),
        homes: Vec::new(),
        allow_private: true,
    }
}

/// What the inbox does after each batch.
fn shown(world: &World) {
    let view = world.app.shared.store.view();
    let mut health = world.app.shared.health.write();
    health.waiting = None;
    for log in [&world.alpha, &world.beta] {
        let record = view.log(&log.id).unwrap().unwrap();
        let known = health.logs.get_mut(&log.id).unwrap();
        (known.size, known.newest) = (record.state.size, record.state.size);
    }
}

fn start(world: &World, webhook: Webhook) -> tokio::task::JoinHandle<()> {
    let mut delivery = Delivery::new(Arc::clone(&world.app), webhook, Arc::default());
    delivery.first_pause = Duration::from_millis(1);
    tokio::spawn(delivery.run())
}

async fn next(received: &std::sync::mpsc::Receiver<Received>) -> Received {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match received.try_recv() {
            Ok(one) => return one,
            Err(_) => assert!(Instant::now() < deadline, "nothing is delivered"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Until the store says that the webhook begins with what comes next.
async fn begun(world: &World) {
    while world.app.shared.store.view().webhook("test").unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A webhook that named an agent before it existed missed its registration, and what it did in the ten seconds after it:
/// names were looked up by the clock, and lines about a name that was not known yet were passed over. Here the agent
/// registers right after such a look.
#[tokio::test]
async fn an_agent_is_told_of_from_its_registration_on() {
    let mut world = World::new(Some("alpha.example"));
    shown(&world);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let webhook = Webhook { agents: vec!["later@alpha.example".to_owned()], ..webhook(listener.local_addr().unwrap()) };
    let received = serve(listener, &[200]);
    let task = start(&world, webhook);
    begun(&world).await;
    world.register("alpha.example", "other", &agent(2), None);
    shown(&world);
    let passed = world.app.shared.store.view().webhook("test").unwrap();
    while world.app.shared.store.view().webhook("test").unwrap() == passed {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let later = world.register("alpha.example", "later", &agent(3), None);
    shown(&world);
    assert_eq!(next(&received).await.event(), later.to_string());
    task.abort();
}

#[tokio::test]
async fn every_event_is_delivered_in_order_until_it_is_taken() {
    let mut world = World::new(Some("alpha.example"));
    world.register("alpha.example", "before", &agent(1), None);
    shown(&world);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // A redirect is a failure like others: nobody is led elsewhere.
    let received = serve(listener, &[500, 302, 200]);
    let task = start(&world, webhook(address));
    begun(&world).await;
    let first = world.register("alpha.example", "first-one", &agent(2), None);
    let second = world.register("alpha.example", "second-one", &agent(3), None);
    shown(&world);
    let mut all = Vec::new();
    for _ in 0..4 {
        all.push(next(&received).await);
    }
    let events: Vec<String> = all.iter().map(Received::event).collect();
    assert_eq!(events, [first, first, first, second].map(|id| id.to_string()), "nothing from before it existed");
    assert_eq!(all[0].header("webhook-id"), all[2].header("webhook-id"), "the same message, again");
    assert_ne!(all[2].header("webhook-id"), all[3].header("webhook-id"));
    assert!(all[0].header("webhook-signature").starts_with("v1,"));
    assert_eq!(
        (&all[0].body["type"], &all[0].body["data"]["handle"]),
        (&json!("registration"), &json!("first-one@alpha.example"))
    );

    // What happens while it does not run is told afterwards.
    task.abort();
    let _ = task.await;
    let third = world.register("alpha.example", "third-one", &agent(4), None);
    shown(&world);
    let task = start(&world, webhook(address));
    assert!([second, third].map(|id| id.to_string()).contains(&next(&received).await.event()), "at least once");
    task.abort();
}

#[tokio::test]
async fn what_is_never_taken_is_kept_aside_and_holds_up_nothing() {
    let mut world = World::new(Some("alpha.example"));
    shown(&world);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let received = serve(listener, &[500, 500, 500, 500, 500, 500, 500, 500, 500, 500, 500, 500, 204]);
    let task = start(
        &world,
        Webhook { agents: vec!["second-one@alpha.example".to_owned(), "first-one".to_owned()], ..webhook(address) },
    );
    begun(&world).await;
    let first = world.register("alpha.example", "first-one", &agent(2), None);
    world.register("alpha.example", "not-wanted", &agent(5), None);
    shown(&world);
    // Agents that did not exist yet are looked up again after a while.
    task.abort();
    let _ = task.await;
    let task = start(&world, Webhook { agents: vec!["first-one".to_owned()], ..webhook(address) });
    for _ in 0..12 {
        assert_eq!(next(&received).await.event(), first.to_string());
    }
    let revoked = world.revoke("alpha.example", &agent(2), first);
    shown(&world);
    assert_eq!(next(&received).await.event(), revoked.to_string(), "the next one is delivered");
    let dead = world.app.shared.store.view().dead_letters("test", 10).unwrap();
    assert_eq!((dead.len(), dead[0].1.error.as_str()), (1, "status 500"));
    assert!(dead[0].1.body.contains(&first.to_string()));
    task.abort();
}

#[tokio::test]
async fn a_webhook_hears_what_it_wants() {
    let mut world = World::new(Some("alpha.example"));
    let service = agent(9);
    let provider = world.register("alpha.example", "mloverflow", &service, None);
    world.admit(provider);
    let id = world.register("alpha.example", "swift-core-maps", &agent(2), None);
    shown(&world);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let received = serve(listener, &[200]);
    let only = Webhook { kinds: vec!["key".to_owned()], homes: vec!["alpha.example".to_owned()], ..webhook(address) };
    let task = start(&world, only);
    begun(&world).await;
    world.attest((&service, provider), id, 5, None);
    let revoked = world.revoke("beta.example", &agent(2), id);
    shown(&world);
    assert_eq!(next(&received).await.event(), revoked.to_string());
    task.abort();
}
