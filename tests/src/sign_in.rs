//! Agents sign in at a running federation: tokens for assertions and for signed challenges, what withdraws them, and what a
//! stranger cannot do.
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fama_ledger::base64;
use fama_ledger::event::{Action, Method, SuspendReason};
use fama_ledger::id::{EventId, IdentityId, did};
use fama_ledger::jose::{self, JoseKey};
use fama_ledger::key::{Curve, Signature};
use fama_ledger::manifest::Endpoints;
use fama_ledger::secret::SecretKey;
use fama_ledger::time::Millis;
use fama_ledger::token::{AccessToken, Delegation, Expected};
use fama_node::clock;
use fama_node::config::{AuthSettings, Listener};
use fama_tests::{DOMAINS, domain, node_key, secret};
use serde_json::{Value, json};

use crate::federation::{LocalFederation, eventually, get, multi, signed};
use crate::live::{tested, tester};

mod attacks;
mod foreign;
mod secrets;
mod servers;
mod withdrawn;

const PAYMENTS: &str = "https://payments.example/api";
/// How soon what is said at one node is known at the others' sign-in.
const HEARD: Duration = Duration::from_secs(2);

fn token_key(i: u8) -> SecretKey {
    SecretKey::from_seed(Curve::Ed25519, &[240 + i; 32]).unwrap()
}

fn issuer(i: usize) -> String {
    format!("https://auth.{}", DOMAINS[i])
}

/// A federation of four whose first two operators issue tokens, an agent of each curve, and a service with a domain.
struct World {
    net: LocalFederation,
    agent: (IdentityId, SecretKey),
    other: (IdentityId, SecretKey),
    service: (IdentityId, SecretKey),
}

async fn world() -> World {
    let mut net = LocalFederation::with_endpoints(4, |i| {
        let mut endpoints = Endpoints::default();
        if i < 2 {
            endpoints.issuer = Some(issuer(i.into()));
            endpoints.token_keys = vec![token_key(i).ed25519().unwrap().verifying_key()];
        }
        endpoints
    });
    for i in 0..4 {
        start(&mut net, i).await;
    }
    net.wait("all may write", |status| status["fresh"] == true && status["waiting"].is_null()).await;
    let (agent, registration) = net.register(0, "swift", &secret(2));
    net.accepted(0, registration).await;
    let other_key = token_key(9);
    let (other, registration) = net.register(1, "other", &other_key);
    net.accepted(1, registration).await;
    let (service, registration) = net.register(1, "payments", &secret(4));
    net.accepted(1, registration).await;
    for i in [0, 2] {
        let (operator, name) = (domain(DOMAINS[i]), "payments".parse().unwrap());
        let site = domain("payments.example");
        let admit =
            Action::Admit { operator, provider: service, service: name, domain: site, method: Method::Dns, from: 0 };
        let admit = signed(net.event(admit), &node_key(u8::try_from(i).unwrap()));
        net.accepted(i, admit).await;
    }
    let world = World { net, agent: (agent, secret(2)), other: (other, other_key), service: (service, secret(4)) };
    world.grant(agent, "read", None).await;
    world.grant(agent, "pay", None).await;
    world.net.settled().await;
    world
}

async fn start(net: &mut LocalFederation, i: usize) {
    let mut config = net.config(i);
    if i < 2 {
        let listener = Listener { enabled: true, listen: SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0)) };
        let token_key = Arc::new(token_key(u8::try_from(i).unwrap()));
        config.auth = Some(AuthSettings { listener, token_key, token_seconds: 300 });
    }
    net.start_with(i, config).await;
}

impl World {
    fn auth(&self, i: usize) -> SocketAddr {
        self.net.nodes[i].as_ref().unwrap().auth
    }

    async fn grant(&self, subject: IdentityId, scope: &str, expires: Option<Millis>) {
        let (home, scope) = (domain(DOMAINS[1]), scope.parse().unwrap());
        let action = Action::Grant { home, issuer: self.service.0, subject, scope, expires, note: None };
        self.net.accepted(1, signed(self.net.event(action), &self.service.1)).await;
    }

    async fn ungrant(&self, subject: IdentityId, scope: &str) {
        let (home, scope) = (domain(DOMAINS[1]), scope.parse().unwrap());
        let action = Action::Ungrant { home, issuer: self.service.0, subject, scope };
        self.net.accepted(3, signed(self.net.event(action), &self.service.1)).await;
    }

    async fn suspend(&self, i: usize, identity: IdentityId, more: bool) -> EventId {
        let operator = domain(DOMAINS[i]);
        let action = match more {
            true => Action::Suspend { operator, identity, reason: SuspendReason::Misconduct },
            false => Action::Resume { operator, identity },
        };
        self.net.accepted(i, signed(self.net.event(action), &node_key(u8::try_from(i).unwrap()))).await.event
    }

    /// Asks the first operator for a token until the answer has this code (or `ok`), which may take a moment.
    async fn until(&self, i: usize, what: &str, code: &str) -> Duration {
        let begun = Instant::now();
        eventually(what, || async {
            let (_, answer) = self.token(i, &[]).await;
            let found = if answer["access_token"].is_string() { "ok" } else { answer["code"].as_str().unwrap() };
            if found == code { Ok(()) } else { Err(answer.to_string()) }
        })
        .await;
        begun.elapsed()
    }

    /// Asks for a token for the payments service, as the agent, with parameters that replace the usual ones.
    async fn token(&self, i: usize, changes: &[(&str, &str)]) -> (u16, Value) {
        let assertion = assertion(&self.agent.1, &did(&domain(DOMAINS[0]), &self.agent.0), &issuer(i), &json!({}));
        let mut all = vec![
            ("grant_type", "client_credentials"),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", assertion.as_str()),
            ("resource", PAYMENTS),
        ];
        all.retain(|(name, _)| changes.iter().all(|(other, _)| other != name));
        all.extend(changes.iter().filter(|(_, value)| !value.is_empty()));
        form(self.auth(i), "/oauth/token", &all).await
    }

    async fn introspect(&self, i: usize, by: &(IdentityId, SecretKey), home: usize, token: &str) -> (u16, Value) {
        let assertion = assertion(&by.1, &did(&domain(DOMAINS[home]), &by.0), &issuer(i), &json!({}));
        let pairs = [
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", assertion.as_str()),
            ("token", token),
        ];
        form(self.auth(i), "/oauth/introspect", &pairs).await
    }

    fn check(&self, i: usize, token: &str) -> AccessToken {
        let (issuer, now) = (issuer(i), clock::now().0 / 1_000);
        let expected = Expected { manifest: &self.net.manifest, issuers: &[&issuer], audience: PAYMENTS, now };
        AccessToken::check(token, &expected).unwrap()
    }
}

fn random() -> String {
    let mut bytes = [0; 12];
    getrandom::fill(&mut bytes).unwrap();
    fama_ledger::id::Hex(&bytes).to_string()
}

fn made(header: &Value, claims: &Value, key: &SecretKey) -> String {
    jose::sign(header, claims, |message| jose::signature_bytes(&key.sign(message)))
}

fn assertion(key: &SecretKey, did: &str, issuer: &str, more: &Value) -> String {
    let now = clock::now().0 / 1_000;
    let mut claims = json!({"iss": did, "sub": did, "aud": issuer, "jti": random(), "iat": now, "exp": now + 60});
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let algorithm = JoseKey::Ledger(key.public()).algorithms()[0];
    made(&json!({"alg": algorithm, "typ": "JWT"}), &claims, key)
}

async fn form(to: SocketAddr, path: &str, pairs: &[(&str, &str)]) -> (u16, Value) {
    let pairs: Vec<(String, String)> = pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    let url = format!("http://{to}{path}");
    let sent = tokio::task::spawn_blocking(move || {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
        let mut answer = agent.post(&url).send_form(pairs).unwrap();
        assert_eq!(answer.headers()["cache-control"], "no-store");
        assert!(answer.headers().get("www-authenticate").is_none());
        (answer.status().as_u16(), answer.body_mut().read_json().unwrap())
    });
    sent.await.unwrap()
}

async fn post(to: SocketAddr, path: &str, body: Value) -> (u16, Value) {
    let url = format!("http://{to}{path}");
    let sent = tokio::task::spawn_blocking(move || {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
        let mut answer = agent.post(&url).send_json(&body).unwrap();
        (answer.status().as_u16(), answer.body_mut().read_json().unwrap())
    });
    sent.await.unwrap()
}

fn signature(key: &SecretKey, text: &str) -> String {
    let bytes = match key.sign(text.as_bytes()) {
        Signature::Ed25519(bytes) => bytes.to_vec(),
        Signature::Secp256k1([rs @ .., _]) => rs.to_vec(),
    };
    base64::encode(&bytes)
}

#[test]
fn a_token_says_what_the_ledger_says() {
    multi(async {
        let world = world().await;
        let metadata = get(world.auth(0), "/.well-known/oauth-authorization-server").await;
        assert_eq!(metadata["issuer"], issuer(0));
        assert_eq!(metadata["token_endpoint"], format!("{}/oauth/token", issuer(0)));
        let keys = get(world.auth(0), "/.well-known/jwks.json").await;
        let shown =
            get(world.net.nodes[3].as_ref().unwrap().query, "/api/federation/issuers/alpha.example/jwks.json").await;
        assert_eq!(keys, shown, "any node shows an issuer's keys");

        let (status, answer) = world.token(0, &[]).await;
        assert_eq!(
            (status, &answer["token_type"], &answer["scope"]),
            (200, &json!("Bearer"), &json!("pay read")),
            "{answer}"
        );
        assert!(answer["expires_in"].as_u64().unwrap() <= 300);
        let text = answer["access_token"].as_str().unwrap();
        let token = world.check(0, text);
        assert_eq!((token.client_id.as_str(), token.identity), ("swift@alpha.example", world.agent.0));
        assert_eq!(token.service, did(&domain(DOMAINS[1]), &world.service.0));
        assert_eq!((token.key_version, token.karma, token.process.as_deref()), (1, 0, None));
        // By its DID, a part of what is granted, a client id, another name for itself.
        let service = did(&domain(DOMAINS[1]), &world.service.0);
        let (status, answer) =
            world.token(1, &[("resource", &service), ("scope", "read"), ("client_id", "swift@alpha.example")]).await;
        assert_eq!((status, &answer["scope"]), (200, &json!("read")), "{answer}");
        let (status, answer) = world.token(0, &[("scope", "read delete")]).await;
        assert_eq!((status, &answer["scope"]), (200, &json!("read")), "what is granted of what was asked for");

        for (changes, status, error, code) in [
            (&[("grant_type", "password")][..], 400, "unsupported_grant_type", "grant_type"),
            (&[("grant_type", "")], 400, "invalid_request", "missing_parameter"),
            (&[("client_assertion_type", "")], 401, "invalid_client", "no_assertion"),
            (&[("client_assertion", "x")], 401, "invalid_client", "jws_form"),
            (&[("client_id", "payments@beta.example")], 401, "invalid_client", "other_client"),
            (&[("client_id", "nobody@beta.example")], 401, "invalid_client", "unknown_agent"),
            (&[("resource", "")], 400, "invalid_target", "no_resource"),
            (&[("resource", "https://other.example")], 400, "invalid_target", "unknown_resource"),
            (&[("resource", "http://payments.example")], 400, "invalid_target", "bad_resource"),
            (&[("resource", "https://payments.example/?x")], 400, "invalid_target", "bad_resource"),
            (&[("scope", "delete")], 400, "invalid_scope", "not_granted"),
            (&[("scope", "a  b")], 400, "invalid_scope", "bad_scope"),
            (&[("resource", PAYMENTS), ("resource", PAYMENTS)], 400, "invalid_target", "one_resource"),
            (&[("scope", "read"), ("scope", "pay")], 400, "invalid_request", "repeated_parameter"),
        ] {
            let (found, answer) = world.token(0, changes).await;
            assert_eq!(
                (found, &answer["error"], &answer["code"]),
                (status, &json!(error), &json!(code)),
                "{changes:?}"
            );
        }
        let (status, answer) = post(world.auth(0), "/oauth/token", json!({})).await;
        assert_eq!((status, &answer["code"]), (400, &json!("bad_form")));
        let (status, answer) = form(world.auth(0), "/oauth/authorize", &[]).await;
        assert_eq!(status, 405, "{answer}");

        // Addressed to the other issuer; by a key that the identity does not have.
        let own = did(&domain(DOMAINS[0]), &world.agent.0);
        for (text, code) in [
            (assertion(&world.agent.1, &own, &issuer(1), &json!({})), "token_audience"),
            (assertion(&secret(4), &own, &issuer(0), &json!({})), "jws_signature"),
            (assertion(&world.agent.1, &own, &issuer(0), &json!({"sub": "swift@alpha.example"})), "token_identity"),
        ] {
            let (status, answer) = world.token(0, &[("client_assertion", &text)]).await;
            assert_eq!((status, &answer["code"]), (401, &json!(code)), "{answer}");
        }
    });
}

#[test]
fn what_is_withdrawn_anywhere_is_refused_within_seconds() {
    multi(async {
        let world = world().await;
        let token = world.token(0, &[("scope", "read")]).await.1["access_token"].as_str().unwrap().to_owned();
        let asked = |by: &'static str| {
            let (world, token) = (&world, token.clone());
            async move {
                let by = match by {
                    "service" => (&world.service, 1),
                    "agent" => (&world.agent, 0),
                    _ => (&world.other, 1),
                };
                let (status, answer) = world.introspect(0, by.0, by.1, &token).await;
                assert_eq!(status, 200, "{answer}");
                answer
            }
        };
        let answer = asked("service").await;
        assert_eq!(
            (&answer["active"], &answer["client_id"]),
            (&json!(true), &json!("swift@alpha.example")),
            "{answer}"
        );
        assert_eq!(asked("agent").await["active"], true);
        assert_eq!(asked("other").await, json!({"active": false}), "who is neither learns nothing");
        let (status, answer) = world.introspect(1, &world.service, 1, &token).await;
        assert_eq!((status, answer), (200, json!({"active": false})), "another issuer does not speak for it");

        let inactive = |what: &'static str, active: bool| {
            let asked = &asked;
            async move {
                let begun = Instant::now();
                eventually(what, || async {
                    let answer = asked("service").await;
                    if answer["active"] == active { Ok(()) } else { Err(answer.to_string()) }
                })
                .await;
                assert!(begun.elapsed() < HEARD, "{what}: {:?}", begun.elapsed());
            }
        };
        // One operator's suspension binds that operator; two hold everywhere; none is left, and all is well again.
        world.suspend(3, world.agent.0, true).await;
        world.net.settled().await;
        assert_eq!(world.token(0, &[]).await.0, 200, "one of four, and not this one");
        world.suspend(1, world.agent.0, true).await;
        inactive("a suspension that holds", false).await;
        assert!(world.until(0, "no more tokens", "suspended").await < HEARD);
        world.suspend(3, world.agent.0, false).await;
        inactive("the suspension holds no longer", true).await;
        assert!(world.until(1, "the operator's own", "suspended").await < HEARD);
        world.suspend(1, world.agent.0, false).await;
        world.until(1, "it resumes", "ok").await;

        world.ungrant(world.agent.0, "read").await;
        inactive("an ungrant", false).await;
        let (status, answer) = world.token(0, &[("scope", "read")]).await;
        assert_eq!((status, &answer["code"]), (400, &json!("not_granted")));
        world.grant(world.agent.0, "read", None).await;
        inactive("a new grant", true).await;

        // Revoked at this issuer by its client only.
        let revoke = |by: &(IdentityId, SecretKey), home: usize| {
            let assertion = assertion(&by.1, &did(&domain(DOMAINS[home]), &by.0), &issuer(0), &json!({}));
            let (to, token) = (world.auth(0), token.clone());
            async move {
                let pairs = [
                    ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
                    ("client_assertion", assertion.as_str()),
                    ("token", token.as_str()),
                ];
                form(to, "/oauth/revoke", &pairs).await.0
            }
        };
        assert_eq!(revoke(&world.service, 1).await, 200);
        assert_eq!(asked("service").await["active"], true, "who is not its client changes nothing");
        assert_eq!(revoke(&world.agent, 0).await, 200);
        assert_eq!(asked("service").await["active"], false);

        // The key's revocation, said at an operator that issues nothing.
        let revocation = world.net.revoke(0, world.agent.0, &world.agent.1);
        world.net.accepted(2, revocation).await;
        assert!(world.until(0, "the revoked key", "revoked").await < HEARD);
    });
}

#[test]
fn nothing_is_used_twice_also_after_a_restart() {
    multi(async {
        let mut world = world().await;
        let own = did(&domain(DOMAINS[0]), &world.agent.0);
        let text = assertion(&world.agent.1, &own, &issuer(0), &json!({}));
        assert_eq!(world.token(0, &[("client_assertion", &text)]).await.0, 200);
        let again =
            |answer: (u16, Value)| assert_eq!((answer.0, &answer.1["code"]), (401, &json!("used")), "{}", answer.1);
        again(world.token(0, &[("client_assertion", &text)]).await);

        let question = json!({"identity": "swift@alpha.example", "resource": PAYMENTS, "scope": "read"});
        let (status, challenge) = post(world.auth(0), "/v1/challenge", question).await;
        assert_eq!(status, 200, "{challenge}");
        let login = challenge["text"].as_str().unwrap().to_owned();
        assert!(login.starts_with("fama.login/1\nfederation: "), "{login}");
        let signed = json!({"text": login, "signature": signature(&world.agent.1, &login)});
        let wrong = json!({"text": login, "signature": signature(&secret(4), &login)});
        let (status, answer) = post(world.auth(0), "/v1/token", wrong).await;
        assert_eq!((status, &answer["code"]), (401, &json!("bad_signature")), "a stranger does not use it up");
        let (status, answer) = post(world.auth(1), "/v1/token", signed.clone()).await;
        assert_eq!((status, &answer["code"]), (404, &json!("not_ours")));
        let changed = login.replace("scope: read", "scope: pay");
        let changed = json!({"text": changed, "signature": signature(&world.agent.1, &changed)});
        let (status, answer) = post(world.auth(0), "/v1/token", changed).await;
        assert_eq!((status, &answer["code"]), (404, &json!("not_ours")), "nobody else made it");
        let (status, answer) = post(world.auth(0), "/v1/token", signed.clone()).await;
        assert_eq!((status, &answer["scope"]), (200, &json!("read")), "{answer}");
        let token = answer["access_token"].as_str().unwrap().to_owned();
        assert_eq!(world.check(0, &token).scopes.len(), 1);
        let (status, answer) = post(world.auth(0), "/v1/token", signed.clone()).await;
        assert_eq!((status, &answer["code"]), (409, &json!("used")));
        let (status, answer) = post(world.auth(0), "/v1/verify", json!({"token": token})).await;
        assert_eq!((status, &answer["active"]), (200, &json!(true)), "{answer}");

        world.net.stop(0).await;
        start(&mut world.net, 0).await;
        world.net.wait("it is fresh again", |status| status["fresh"] == true && status["waiting"].is_null()).await;
        again(world.token(0, &[("client_assertion", &text)]).await);
        let (status, answer) = post(world.auth(0), "/v1/token", signed).await;
        assert_eq!((status, &answer["code"]), (409, &json!("used")));
        assert_eq!(world.token(0, &[]).await.0, 200);
    });
}

#[test]
fn a_process_and_a_bound_key() {
    multi(async {
        let world = world().await;
        let (own, process) = (did(&domain(DOMAINS[0]), &world.agent.0), token_key(7));
        let now = clock::now().0 / 1_000;
        let delegation = Delegation {
            subject: own.clone(),
            process: "worker-1".parse().unwrap(),
            key: JoseKey::Ledger(process.public()),
            scopes: Some(vec!["read".parse().unwrap()]),
            resources: None,
            issued_at: now,
            expires: now + 120,
            id: random(),
        };
        let said = delegation.sign(world.net.manifest.federation(), &world.agent.1);
        let within = assertion(&process, &own, &issuer(0), &json!({"fama_delegation": said}));
        let (status, answer) = world.token(0, &[("client_assertion", &within)]).await;
        assert_eq!((status, &answer["scope"]), (200, &json!("read")), "at most what is delegated: {answer}");
        assert!(answer["expires_in"].as_u64().unwrap() <= 120, "never longer than the delegation");
        let token = world.check(0, answer["access_token"].as_str().unwrap());
        assert_eq!(token.process.as_deref(), Some("worker-1"));
        // Next to the assertion, by the other issuer.
        let beside = assertion(&process, &own, &issuer(1), &json!({}));
        let (status, answer) = world.token(1, &[("client_assertion", &beside), ("fama_delegation", &said)]).await;
        assert_eq!(status, 200, "{answer}");
        let alone = assertion(&process, &own, &issuer(0), &json!({}));
        let (status, answer) = world.token(0, &[("client_assertion", &alone)]).await;
        assert_eq!(
            (status, &answer["code"]),
            (401, &json!("jws_algorithm")),
            "without the delegation it is a stranger"
        );
    });
}

#[test]
fn the_openapi_document_holds_against_a_tester_of_others() {
    let Some(tester) = tester() else { return };
    multi(async {
        let world = world().await;
        tested(&tester, world.auth(0), "/openapi.json").await;
    });
}

/// A node that does not hear the others issues nothing, and says when to ask again.
#[test]
fn a_stale_issuer_issues_nothing() {
    multi(async {
        let mut world = world().await;
        let token = world.token(0, &[]).await.1["access_token"].as_str().unwrap().to_owned();
        for i in [1, 2, 3] {
            world.net.stop(i).await;
        }
        let begun = Instant::now();
        loop {
            let (status, answer) = world.token(0, &[]).await;
            if status == 503 {
                assert_eq!(
                    (&answer["error"], &answer["code"]),
                    (&json!("temporarily_unavailable"), &json!("not_fresh"))
                );
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(120), "{answer}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        assert_eq!(world.introspect(0, &world.service, 1, &token).await.0, 503);
    });
}
