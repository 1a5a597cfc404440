//! The APIs of `docs/examples` that accept tokens, each in its language: what passes, what is refused and with which words,
//! and how soon what was withdrawn is.
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use p256::ecdsa::signature::Signer as _;
use p256::elliptic_curve::sec1::ToSec1Point as _;

use super::*;
use crate::auditor;
use crate::clients::{javascript, node};
use crate::federation::free_ports;

/// The karma that the APIs want for `/pay`.
const MIN_KARMA: &str = "1";
/// Until the next token is asked for: an issuer gives an agent 240 a minute.
const AGAIN: Duration = Duration::from_millis(200);

struct Server {
    child: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer: its status, the challenge, the body.
type Answer = (u16, String, Value);

impl Server {
    async fn ask(&self, method: &'static str, path: &str, headers: &[(&'static str, String)]) -> Answer {
        let (url, headers) = (format!("http://127.0.0.1:{}{path}", self.port), headers.to_vec());
        let asked = tokio::task::spawn_blocking(move || {
            let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
            let mut answer = if method == "GET" {
                headers.iter().fold(agent.get(&url), |asked, (name, value)| asked.header(*name, value)).call().unwrap()
            } else {
                let asked = headers.iter().fold(agent.post(&url), |asked, (name, value)| asked.header(*name, value));
                asked.send_empty().unwrap()
            };
            let challenge = answer.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
            let body = answer.body_mut().read_json().unwrap_or_default();
            (answer.status().as_u16(), challenge.unwrap_or_default(), body)
        });
        asked.await.unwrap()
    }

    async fn bearer(&self, method: &'static str, path: &str, token: &str) -> (u16, String) {
        let (status, _, body) = self.ask(method, path, &[("authorization", format!("Bearer {token}"))]).await;
        (status, body["code"].as_str().unwrap_or("ok").to_owned())
    }
}

/// A DPoP proof by the key with this secret.
fn proof(secret: [u8; 32], method: &str, url: &str, token: Option<&str>) -> String {
    let key = p256::SecretKey::from_slice(&secret).unwrap();
    let point = key.public_key().to_sec1_point(true);
    let jwk = JoseKey::P256(point.as_bytes().try_into().unwrap()).to_jwk();
    let mut claims = json!({"htm": method, "htu": url, "iat": clock::now().0 / 1_000, "jti": random()});
    if let Some(token) = token {
        use base64ct::{Base64UrlUnpadded, Encoding as _};
        use sha2::Digest as _;
        claims["ath"] = Base64UrlUnpadded::encode_string(&sha2::Sha256::digest(token.as_bytes())).into();
    }
    let signing = p256::ecdsa::SigningKey::from(key);
    jose::sign(&json!({"alg": "ES256", "typ": "dpop+jwt", "jwk": jwk}), &claims, |message| {
        let signature: p256::ecdsa::Signature = signing.sign(message);
        signature.to_bytes().into()
    })
}

/// Starts an API, and asks it for everything.
fn run(mut command: Command, arguments: &[&str]) {
    multi(async {
        let world = world().await;
        let genesis = world.net.dir.path().join("genesis.txt");
        std::fs::write(&genesis, world.net.manifest.note().to_string()).unwrap();
        let (port, node) = (free_ports(1)[0], world.net.nodes[2].as_ref().unwrap().query);
        command.args(arguments).arg(format!("http://{node}")).arg(port.to_string()).arg(&genesis).arg(PAYMENTS);
        command.args([MIN_KARMA, &issuer(0)]).current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
        command.env("PYTHONPATH", "node/clients/python/src").env("PYTHONDONTWRITEBYTECODE", "1").stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        assert_eq!(first, format!("listening on http://127.0.0.1:{port}\n"));
        let server = Server { child, port };
        asked(&world, &server).await;
    });
}

async fn asked(world: &World, server: &Server) {
    // Who has nothing learns where tokens come from.
    let (status, challenge, _) = server.ask("GET", "/answers", &[]).await;
    let place = "https://payments.example/.well-known/oauth-protected-resource/api";
    assert_eq!((status, challenge), (401, format!("Bearer resource_metadata=\"{place}\"")));
    let (status, _, metadata) = server.ask("GET", "/.well-known/oauth-protected-resource/api", &[]).await;
    assert_eq!((status, &metadata["resource"]), (200, &json!(PAYMENTS)), "{metadata}");
    assert_eq!(metadata["authorization_servers"], json!([issuer(0)]));

    let get = |answer: Value| answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
    let read = get(world.token(0, &[("scope", "read")]).await.1);
    // What happened before the stream was followed counts as unknown, so the first token may be too old.
    let begun = Instant::now();
    let mut read_now = read;
    while server.bearer("GET", "/answers", &read_now).await.1 == "withdrawn" {
        assert!(begun.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(AGAIN).await;
        read_now = get(world.token(0, &[("scope", "read")]).await.1);
    }
    let read = read_now;
    let (status, _, answer) = server.ask("GET", "/answers", &[("authorization", format!("Bearer {read}"))]).await;
    assert_eq!((status, answer["agent"].as_str().unwrap()), (200, "swift@alpha.example"), "{answer}");

    // Scope, karma, audience, issuer, and what is no token.
    let (status, challenge, answer) = server.ask("POST", "/pay", &[("authorization", format!("Bearer {read}"))]).await;
    assert_eq!((status, &answer["code"]), (403, &json!("insufficient_scope")), "{answer}");
    assert!(challenge.contains("error=\"insufficient_scope\"") && challenge.contains("scope=\"pay\""), "{challenge}");
    let pay = get(world.token(0, &[("scope", "pay")]).await.1);
    assert_eq!(server.bearer("POST", "/pay", &pay).await, (403, "low_karma".to_owned()));
    let other = get(world.token(0, &[("resource", "https://payments.example/other")]).await.1);
    assert_eq!(server.bearer("GET", "/answers", &other).await, (401, "token_audience".to_owned()));
    let second = get(world.token(1, &[]).await.1);
    assert_eq!(server.bearer("GET", "/answers", &second).await, (401, "token_issuer".to_owned()));
    for (text, code) in [("x", "jws_form"), ("a.b.c", "jws_form"), (&format!("{read}x"), "jws_form")] {
        assert_eq!(server.bearer("GET", "/answers", text).await, (401, code.to_owned()), "{text}");
    }
    let twice = ["x", "y"].map(|text| ("authorization", format!("Bearer {text}")));
    assert!(matches!(server.ask("GET", "/answers", &twice).await.0, 400 | 401));
    let basic = [("authorization", "Basic c3dpZnQ6c2VjcmV0".to_owned())];
    assert!(matches!(server.ask("GET", "/answers", &basic).await.0, 400 | 401));

    // A token that is bound to a key, a thief who has only the token, and a proof that comes twice.
    let key = [9; 32];
    let shown = proof(key, "POST", &format!("{}/oauth/token", issuer(0)), None);
    let bound = bound(world, &shown).await;
    let (status, code) = server.bearer("GET", "/answers", &bound).await;
    assert_eq!(status, 401, "{code}: a bound token is no bearer token");
    let url = "https://payments.example/answers";
    let dpop = |proof: String| [("authorization", format!("DPoP {bound}")), ("dpop", proof)];
    let good = proof(key, "GET", url, Some(&bound));
    let (status, _, answer) = server.ask("GET", "/answers", &dpop(good.clone())).await;
    assert_eq!(status, 200, "{answer}");
    for (what, wrong) in [
        ("the same again", good),
        ("another key", proof([8; 32], "GET", url, Some(&bound))),
        ("another method", proof(key, "POST", url, Some(&bound))),
        ("another address", proof(key, "GET", "https://payments.example/pay", Some(&bound))),
        ("another token", proof(key, "GET", url, Some(&read))),
        ("no token", proof(key, "GET", url, None)),
    ] {
        let (status, challenge, answer) = server.ask("GET", "/answers", &dpop(wrong)).await;
        assert_eq!(status, 401, "{what}: {answer}");
        assert!(challenge.contains("invalid_dpop_proof"), "{what}: {challenge}");
    }
    let with = [("authorization", format!("DPoP {read}")), ("dpop", proof(key, "GET", url, Some(&read)))];
    assert_eq!(server.ask("GET", "/answers", &with).await.0, 401, "a bearer token is bound to no key");

    // Taken back at another node, and granted again: a token from before never holds again.
    world.ungrant(world.agent.0, "read").await;
    let begun = Instant::now();
    while server.bearer("GET", "/answers", &read).await != (401, "withdrawn".to_owned()) {
        assert!(begun.elapsed() < HEARD, "{:?}", begun.elapsed());
    }
    world.grant(world.agent.0, "read", None).await;
    let begun = Instant::now();
    loop {
        // The issuer may not have heard of the grant yet, nor the server.
        let (_, answer) = world.token(0, &[("scope", "read")]).await;
        let token = answer["access_token"].as_str();
        if let Some(token) = token
            && server.bearer("GET", "/answers", token).await.0 == 200
        {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{answer}");
        tokio::time::sleep(AGAIN).await;
    }
    assert_eq!(server.bearer("GET", "/answers", &read).await, (401, "withdrawn".to_owned()));
}

/// A token that is bound to the key of this proof.
async fn bound(world: &World, proof: &str) -> String {
    let (url, proof) = (format!("http://{}/oauth/token", world.auth(0)), proof.to_owned());
    let text = assertion(&world.agent.1, &did(&domain(DOMAINS[0]), &world.agent.0), &issuer(0), &json!({}));
    let asked = tokio::task::spawn_blocking(move || {
        let pairs = [
            ("grant_type", "client_credentials"),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", text.as_str()),
            ("resource", PAYMENTS),
        ];
        let mut answer = ureq::post(&url).header("dpop", &proof).send_form(pairs).unwrap();
        answer.body_mut().read_json::<Value>().unwrap()
    });
    let answer = asked.await.unwrap();
    assert_eq!(answer["token_type"], "DPoP", "{answer}");
    answer["access_token"].as_str().unwrap().to_owned()
}

/// A shell that brings a proof gets a token that is bound, and never one that only looks so.
#[test]
fn a_signed_challenge_binds_a_token_to_a_key() {
    multi(async {
        let world = world().await;
        let question = json!({"identity": "swift@alpha.example", "resource": PAYMENTS, "scope": "read"});
        let (_, challenge) = post(world.auth(0), "/v1/challenge", question).await;
        let text = challenge["text"].as_str().unwrap();
        let body = json!({"text": text, "signature": signature(&world.agent.1, text)});
        let url = format!("http://{}/v1/token", world.auth(0));
        let send = |proof: String| {
            let (url, body) = (url.clone(), body.clone());
            tokio::task::spawn_blocking(move || {
                let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
                let mut answer = agent.post(&url).header("dpop", &proof).send_json(body).unwrap();
                (answer.status().as_u16(), answer.body_mut().read_json::<Value>().unwrap())
            })
        };
        for wrong in ["x.y.z".to_owned(), proof([9; 32], "POST", &format!("{}/oauth/token", issuer(0)), None)] {
            let (status, answer) = send(wrong).await.unwrap();
            assert_eq!(status, 400, "{answer}");
        }
        let (status, answer) = send(proof([9; 32], "POST", &format!("{}/v1/token", issuer(0)), None)).await.unwrap();
        assert_eq!((status, &answer["token_type"]), (200, &json!("DPoP")), "{answer}");
        assert!(world.check(0, answer["access_token"].as_str().unwrap()).key_thumbprint.is_some());
    });
}

#[test]
#[allow(clippy::print_stdout, reason = "a test that shows nothing must say so")]
fn the_api_in_rust() {
    let tests = std::env::current_exe().unwrap();
    let server: PathBuf = tests.ancestors().nth(2).unwrap().join("examples/api_server");
    if server.is_file() {
        return run(Command::new(&server), &[]);
    }
    assert!(std::env::var_os("FAMA_FOREIGN").is_none(), "no {}", server.display());
    println!("skipped: no {}: cargo build --release -p fama-tests --examples", server.display());
}

#[test]
fn the_api_in_javascript() {
    if let Some(node) = node() {
        run(javascript(&node), &["docs/examples/api_server.mjs"]);
    }
}

#[test]
#[allow(clippy::print_stdout, reason = "a test that shows nothing must say so")]
fn the_api_in_python() {
    let python = auditor::python();
    let has_packages = Command::new(&python).args(["-c", "import cryptography, httpx"]).output();
    if has_packages.is_ok_and(|output| output.status.success()) {
        return run(Command::new(&python), &["docs/examples/api_server.py"]);
    }
    assert!(std::env::var_os("FAMA_FOREIGN").is_none(), "{} has no httpx and cryptography", python.display());
    println!("skipped: no Python with httpx and cryptography; `.cargo/needs.sh test` prepares one");
}
