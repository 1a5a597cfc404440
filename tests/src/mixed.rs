//! Requests over everything that the OpenAPI documents of a node describe, right ones and wrong ones, by many clients at
//! once: none is answered with a server error, and none with a status that its document does not have.
//! `FAMA_MIXED` says how many requests; the short form is part of the tests.
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fama_ledger::base64;
use fama_ledger::id::EventId;
use fama_ledger::key::Signature;
use fama_ledger::secret::SecretKey;
use fama_node::wire::{Submission, SubmitRequest, SubmitResult};
use fama_tests::secret;
use serde_json::{Value, json};

use crate::crash::SeededRandom;
use crate::federation::{LocalFederation, get, multi};

/// Requests of the short form.
const REQUESTS: usize = 5_000;
/// Clients at once.
const CLIENTS: usize = 8;
/// Stands for the status of a request whose answer did not arrive.
const HUNG_UP: u16 = 0;
/// Connections that a client may keep, and of which each may have ended.
const REUSED_MAX: usize = 4;
/// Of so many requests at most one may have to be asked again.
const AGAIN: usize = 50;
/// Agents, and attestations to some of them.
const AGENTS: usize = 1_024;
const ATTESTATIONS: usize = 2_048;

/// A route of one of the listeners.
struct MixedRoute {
    listener: SocketAddr,
    method: String,
    path: String,
    operation: Value,
}

/// What requests are made of.
struct RequestPool {
    routes: Vec<MixedRoute>,
    /// Spellings of agents.
    agents: Vec<String>,
    events: Vec<String>,
    notes: Vec<String>,
    /// Signed events as JSON: some known, some not.
    signed: Vec<Value>,
}

fn item(submission: &Submission) -> Value {
    let signature = match &submission.signed.signature {
        Signature::Ed25519(bytes) => base64::encode(bytes),
        Signature::Secp256k1([rs @ .., _]) => base64::encode(rs),
    };
    json!({"text": submission.signed.event.text(), "signature": signature, "note": submission.note})
}

/// A key of its own for each number.
fn key(i: usize) -> SecretKey {
    let mut seed = [1; 32];
    seed[..8].copy_from_slice(&(i as u64 + 1).to_be_bytes());
    SecretKey::from_seed(fama_ledger::key::Curve::Ed25519, &seed).unwrap()
}

/// Text as a part of a URL.
fn escaped(text: &str) -> String {
    let one = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'@' | b':' | b'/' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

impl RequestPool {
    /// Fills the node's log, and reads its documents.
    async fn fill(net: &LocalFederation) -> Self {
        let node = net.nodes[0].as_ref().unwrap();
        let judge_key = secret(4);
        let judge = net.provider(0, "judge", &judge_key).await;
        let agents: Vec<(EventId, Submission)> =
            (0..AGENTS).map(|i| net.register(0, &format!("agent-{i}"), &key(i))).collect();
        let attested = |i: usize| net.attest(0, (judge, &judge_key), agents[i % AGENTS].0, 1);
        let attestations: Vec<Submission> = (0..ATTESTATIONS).map(attested).collect();
        let client = net.client(0).await;
        for all in [agents.iter().map(|(_, one)| one.clone()).collect(), attestations.clone()] {
            for part in <[Submission]>::chunks(&all, 256) {
                let request = SubmitRequest { forwarded: false, submissions: part.to_vec() };
                let answers = client.submit(request).await.unwrap().0;
                assert!(answers.iter().all(|one| matches!(one, SubmitResult::Accepted(_))), "{answers:?}");
            }
        }
        client.close().await;
        net.settled().await;
        let mut routes = Vec::new();
        for listener in [node.query, node.submit] {
            let document = get(listener, "/api/openapi.json").await;
            for (path, methods) in document["paths"].as_object().unwrap() {
                for (method, operation) in methods.as_object().unwrap() {
                    let (method, path) = (method.to_uppercase(), path.clone());
                    routes.push(MixedRoute { listener, method, path, operation: operation.clone() });
                }
            }
        }
        let mut names =
            vec!["judge".to_owned(), "nobody@alpha.example".to_owned(), "A B".to_owned(), "ü%00".to_owned()];
        for i in [0, 1, 4, 9, 500] {
            names.extend([format!("agent-{i}"), format!("agent-{i}@alpha.example"), agents[i].0.to_string()]);
        }
        let of = |one: &Submission| one.signed.event.id().to_string();
        let mut events: Vec<String> = attestations.iter().step_by(100).map(of).collect();
        events.extend(agents.iter().step_by(100).map(|(id, _)| id.to_string()));
        events.extend(["0".repeat(64), "zz".to_owned()]);
        let note = attestations[0].signed.event.action.note().unwrap();
        let mut signed: Vec<Value> = attestations.iter().step_by(200).map(item).collect();
        signed.extend((0..200).map(|i| item(&net.register(0, &format!("later-{i}"), &key(AGENTS + i)).1)));
        signed.extend([json!({"text": "nonsense", "signature": "AAAA"}), json!({}), json!({"text": 5})]);
        Self { routes, agents: names, events, notes: vec![note.to_string(), "x".to_owned()], signed }
    }

    /// The value of a parameter of this name.
    fn value(&self, random: &mut SeededRandom, name: &str, schema: &Value) -> String {
        let mut pick = |from: &[&str]| from[random.next() as usize % from.len()].to_owned();
        match name {
            "x" | "agent" | "provider" | "with" | "identity" | "q" | "dumbname" => {
                self.agents[random.next() as usize % self.agents.len()].clone()
            }
            "id" => self.events[random.next() as usize % self.events.len()].clone(),
            "hash" => self.notes[random.next() as usize % self.notes.len()].clone(),
            "key" => {
                let known = key(random.next() as usize % (AGENTS + 9));
                known.public().to_string()
            }
            "version" => pick(&["1", "2", "0", "x"]),
            "file" => pick(&[
                "policy",
                "alpha.example/1/checkpoint",
                "alpha.example/1/tile/0/000",
                "alpha.example/1/tile/entries/000",
                "alpha.example/1/tile/9/000",
                "nowhere.example/1/checkpoint",
            ]),
            "limit" => pick(&["1", "5", "100", "99999999999999999999", "0", "-1", "x"]),
            "cursor" => pick(&["", "x", "1", "1-2-3", "0~0~0"]),
            "kind" => pick(&["register", "rotate", "revoke", "attest", "karma", "none", "key,karma"]),
            "log" => pick(&["alpha.example/1", "alpha.example/2", "x"]),
            "wait" => pick(&["final", "long"]),
            _ if schema["type"] == "integer" => pick(&["0", "1", "30", "500", "4294967296", "x"]),
            _ if schema["format"] == "date-time" => {
                pick(&["2026-01-01T00:00:00Z", "2099-01-01T00:00:00.000Z", "yesterday"])
            }
            _ if schema["format"] == "date" => pick(&["2026-11-22", "2099-12-31", "2026-13-01"]),
            _ => pick(&["1", "0", "alpha.example", "\u{0}", "' or 1=1 --", "<b>"]),
        }
    }

    fn target(&self, random: &mut SeededRandom, route: &MixedRoute) -> String {
        let (mut path, mut query) = (route.path.clone(), Vec::new());
        for parameter in route.operation["parameters"].as_array().into_iter().flatten() {
            let (name, schema) = (parameter["name"].as_str().unwrap(), &parameter["schema"]);
            let value = self.value(random, name, schema);
            match parameter["in"].as_str().unwrap() {
                "path" => path = path.replace(&format!("{{{name}}}"), &escaped(&value)),
                "query" if random.next().is_multiple_of(3) || parameter["required"] == true => {
                    query.push(format!("{name}={}", escaped(&value).replace(':', "%3A")));
                }
                _ => {}
            }
        }
        let mark = if query.is_empty() { "" } else { "?" };
        format!("http://{}{path}{mark}{}", route.listener, query.join("&"))
    }

    /// A body, and its content type.
    fn body(&self, random: &mut SeededRandom, route: &MixedRoute) -> (Vec<u8>, &'static str) {
        let signed = |random: &mut SeededRandom| self.signed[random.next() as usize % self.signed.len()].clone();
        let agent = self.agents[random.next() as usize % self.agents.len()].clone();
        let json = "application/json";
        match random.next() % 8 {
            0 => (b"\xff\xfe not JSON".to_vec(), json),
            1 => (Vec::new(), "text/plain"),
            // Longer than the query listener reads.
            2 if random.next().is_multiple_of(4) => (vec![b'['; 70_000], json),
            _ => {
                let body = match route.path.as_str() {
                    "/events" if random.next().is_multiple_of(3) => {
                        return (signed(random)["text"].as_str().unwrap_or("x").into(), "text/plain");
                    }
                    "/events" if random.next().is_multiple_of(3) => json!([signed(random), signed(random)]),
                    "/events" => signed(random),
                    "/api/agents" => json!({"agents": self.agents}),
                    "/api/verify" => {
                        json!({"dumbname": agent, "timestamp": "2026-11-22T05:00:00Z", "signature": "AAAA", "message": "x"})
                    }
                    "/api/register" => json!({"public_key": key(9_999).public().to_string(), "dumbname": agent}),
                    "/api/key/rotate" => json!({"dumbname": agent, "new_public_key": key(9_999).public().to_string()}),
                    "/api/key/revoke" => json!({"dumbname": agent, "reason": "KEY_COMPROMISED"}),
                    _ => json!({"provider_name": "judge", "agent_id": agent, "score_change": 1, "reason": "x"}),
                };
                (body.to_string().into_bytes(), json)
            }
        }
    }
}

/// What a client saw: how often each route answered with each status, and the slowest answer.
#[derive(Default)]
struct AnswersSeen {
    answers: BTreeMap<(usize, u16), usize>,
    faults: Vec<String>,
    worst: Duration,
    /// Requests that were asked again, on another connection.
    again: usize,
}

fn client(pool: &RequestPool, next: &AtomicUsize, count: usize, mut random: SeededRandom) -> AnswersSeen {
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
    let mut seen = AnswersSeen::default();
    loop {
        let at = next.fetch_add(1, Ordering::Relaxed);
        if at >= count {
            return seen;
        }
        let route_at = at % pool.routes.len();
        let route = &pool.routes[route_at];
        let target = pool.target(&mut random, route);
        let request = || ureq::http::Request::builder().method(route.method.as_str()).uri(&target);
        let (body, kind) = if route.method == "POST" { pool.body(&mut random, route) } else { (Vec::new(), "") };
        let (begun, is_huge) = (Instant::now(), body.len() > 64 << 10);
        let ask = || match route.method.as_str() {
            "POST" => agent.run(request().header("content-type", kind).body(body.clone()).unwrap()),
            _ => agent.run(request().body(()).unwrap()),
        };
        let mut answer = ask();
        // A connection whose last request was answered without its body ends: who sends the next one into it asks again
        // on a new one (RFC 9112, 9.3.1).
        for _ in 0..REUSED_MAX {
            if is_huge || answer.is_ok() {
                break;
            }
            seen.again += 1;
            answer = ask();
        }
        let mut answer = match answer {
            Ok(answer) => answer,
            // The node hung up before it had read all of it.
            Err(_) if is_huge => {
                *seen.answers.entry((route_at, HUNG_UP)).or_default() += 1;
                continue;
            }
            Err(error) => panic!("{} {target}: {error}", route.method),
        };
        let status = answer.status().as_u16();
        if route.path == "/api/stream" && status == 200 {
            // It never ends.
            let mut first = [0; 6];
            answer.body_mut().as_reader().read_exact(&mut first).unwrap();
            drop(answer);
        } else {
            let text = answer.body_mut().with_config().limit(64 << 20).read_to_vec().unwrap();
            let described = route.operation["responses"][status.to_string()].is_object();
            if status >= 500 || !described {
                seen.faults.push(format!("{} {target}: {status} {}", route.method, String::from_utf8_lossy(&text)));
            }
        }
        seen.worst = seen.worst.max(begun.elapsed());
        *seen.answers.entry((route_at, status)).or_default() += 1;
    }
}

#[test]
#[allow(clippy::print_stdout, reason = "the figures")]
fn no_mixed_request_is_answered_with_a_server_error() {
    let count = std::env::var("FAMA_MIXED").map_or(REQUESTS, |text| text.parse().unwrap());
    multi(async {
        let mut net = LocalFederation::new(1);
        let mut config = net.config(0);
        config.submit.enabled = true;
        net.start_with(0, config).await;
        net.wait("it writes", |status| status["waiting"].is_null()).await;
        let pool = Arc::new(RequestPool::fill(&net).await);
        let (next, begun) = (Arc::new(AtomicUsize::new(0)), Instant::now());
        let mut seeds = SeededRandom::begin();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let (pool, next, random) = (Arc::clone(&pool), Arc::clone(&next), SeededRandom(seeds.next() | 1));
                tokio::task::spawn_blocking(move || client(&pool, &next, count, random))
            })
            .collect();
        let (mut statuses, mut faults, mut worst) = (BTreeMap::<u16, usize>::new(), Vec::new(), Duration::ZERO);
        let (mut asked, mut fine, mut again) = (BTreeSet::new(), BTreeSet::new(), 0);
        for client in clients {
            let seen = client.await.unwrap();
            for ((route, status), times) in seen.answers {
                *statuses.entry(status).or_default() += times;
                asked.insert(route);
                fine.extend((200..300).contains(&status).then_some(route));
            }
            faults.extend(seen.faults);
            worst = worst.max(seen.worst);
            again += seen.again;
        }
        println!(
            "{count} requests over {} routes in {:?}: {statuses:?}, slowest {worst:?}, {again} asked again",
            pool.routes.len(),
            begun.elapsed()
        );
        assert!(faults.is_empty(), "{} of {count}: {:#?}", faults.len(), &faults[..faults.len().min(9)]);
        assert_eq!(statuses.values().sum::<usize>(), count);
        assert_eq!(asked.len(), pool.routes.len(), "every route was asked");
        assert!(again <= count / AGAIN, "{again} requests had to be asked again");
        let never: Vec<&str> = pool
            .routes
            .iter()
            .enumerate()
            .filter(|(at, route)| {
                let succeeds = route.operation["responses"].as_object().unwrap().contains_key("200");
                // A login that was signed just now, and all fields of an event: not by chance. And this node has no domain,
                // its federation no issuer.
                let unlikely = [
                    "/api/verify",
                    "/api/event/template",
                    "/.well-known/did.json",
                    "/api/federation/issuers/{operator}/jwks.json",
                ]
                .contains(&route.path.as_str());
                succeeds && !unlikely && !fine.contains(at)
            })
            .map(|(_, route)| route.path.as_str())
            .collect();
        assert!(never.is_empty(), "never answered as they should: {never:?}");
        net.settled().await;
    });
}
