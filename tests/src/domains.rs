//! Domains that name a provider, looked up by `fama admit` and by nodes: honest ones, hostile ones, and ones that change.
//! The DNS server and the web server are of this file, on loopback.
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fama_ledger::event::Method;
use fama_ledger::id::{FederationId, IdentityId};
use fama_node::config::{Config, DomainSettings};
use fama_node::domains::{DomainClaim, DomainLookup, LookupSettings, PROOF_BYTES_MAX};
use fama_tests::{domain, secret};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::cli::UserFolder;
use crate::federation::{LocalFederation, eventually, get, multi};

/// The only domain that the certificate is not for.
const WRONG_CERTIFICATE: &str = "certificate.example";

/// What the web server answers for a domain.
#[derive(Clone)]
enum Page {
    /// Status and body of the file at this path; all others are missing.
    File(u16, &'static str, String),
    /// A redirect to this URL.
    Redirect(String),
    /// A body without an end, sent as fast as it is read.
    Endless,
    /// A head that never ends, a byte at a time.
    Slow,
}

/// What the DNS server answers for a name.
#[derive(Clone)]
enum Answer {
    Addresses(Vec<Ipv4Addr>),
    /// Records, each of several strings.
    Texts(Vec<Vec<String>>),
    Failure,
}

/// A part of the internet.
struct Internet {
    dns: SocketAddr,
    https: u16,
    /// The certificate of the issuer, as PEM and as DER.
    ca: (String, Vec<u8>),
    names: Arc<Mutex<BTreeMap<String, Answer>>>,
    pages: Arc<Mutex<BTreeMap<String, Page>>>,
    questions: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

const FAMA: &str = "/.well-known/fama.json";
const MLAUTH: &str = "/.well-known/mlauth.json";

impl Internet {
    async fn start(domains: &[&str]) -> Self {
        let (names, pages): (Arc<Mutex<BTreeMap<_, _>>>, Arc<Mutex<BTreeMap<_, _>>>) = Default::default();
        let (questions, requests) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let dns = socket.local_addr().unwrap();
        tokio::spawn(serve_dns(socket, Arc::clone(&names), Arc::clone(&questions)));
        let (acceptor, ca) = certificate(domains);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let https = listener.local_addr().unwrap().port();
        tokio::spawn(serve_https(listener, acceptor, Arc::clone(&pages), Arc::clone(&requests)));
        for name in domains.iter().chain([&WRONG_CERTIFICATE]) {
            names.lock().unwrap().insert((*name).to_owned(), Answer::Addresses(vec![Ipv4Addr::LOCALHOST]));
        }
        Self { dns, https, ca, names, pages, questions, requests }
    }

    fn name(&self, name: &str, answer: Answer) {
        self.names.lock().unwrap().insert(name.to_owned(), answer);
    }

    fn page(&self, domain: &str, page: Page) {
        self.pages.lock().unwrap().insert(domain.to_owned(), page);
    }

    fn settings(&self) -> LookupSettings {
        LookupSettings {
            resolver: Some(self.dns),
            allow_private: true,
            https_port: self.https,
            roots: vec![self.ca.1.clone()],
        }
    }
}

fn certificate(names: &[&str]) -> (TlsAcceptor, (String, Vec<u8>)) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&ca_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &ca, &ca_key).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from(leaf.der().to_vec())],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        );
    (TlsAcceptor::from(Arc::new(config.unwrap())), (ca.pem(), ca.der().to_vec()))
}

/// Answers questions for addresses (1) and texts (16); a name of the other type has no records, an unknown one does not
/// exist.
async fn serve_dns(socket: UdpSocket, names: Arc<Mutex<BTreeMap<String, Answer>>>, questions: Arc<AtomicUsize>) {
    let mut packet = [0; 2_048];
    loop {
        let (len, from) = socket.recv_from(&mut packet).await.unwrap();
        questions.fetch_add(1, Ordering::Relaxed);
        let (mut at, mut labels) = (12, Vec::new());
        while packet[at] > 0 {
            let end = at + 1 + usize::from(packet[at]);
            labels.push(String::from_utf8_lossy(&packet[at + 1..end]).to_ascii_lowercase());
            at = end;
        }
        assert!(at + 5 <= len, "a whole question");
        let (name, kind) = (labels.join("."), u16::from_be_bytes([packet[at + 1], packet[at + 2]]));
        let known = names.lock().unwrap().get(&name).cloned();
        let mut records: Vec<Vec<u8>> = Vec::new();
        let code = match &known {
            None => 3,
            Some(Answer::Failure) => 2,
            Some(Answer::Addresses(addresses)) => {
                records.extend(addresses.iter().filter(|_| kind == 1).map(|address| address.octets().to_vec()));
                0
            }
            Some(Answer::Texts(texts)) => {
                let strings = |text: &Vec<String>| {
                    text.iter().flat_map(|part| [&[part.len() as u8], part.as_bytes()].concat()).collect::<Vec<u8>>()
                };
                records.extend(texts.iter().filter(|_| kind == 16).map(strings));
                0
            }
        };
        let mut answer =
            [&packet[..2], &[0x81, 0x80 | code, 0, 1], &(records.len() as u16).to_be_bytes(), &[0; 4]].concat();
        answer.extend_from_slice(&packet[12..at + 5]);
        for data in records {
            answer.extend_from_slice(&[0xc0, 12]);
            answer.extend_from_slice(&kind.to_be_bytes());
            answer.extend_from_slice(&[0, 1, 0, 0, 0, 60]);
            answer.extend_from_slice(&(data.len() as u16).to_be_bytes());
            answer.extend_from_slice(&data);
        }
        socket.send_to(&answer, from).await.unwrap();
    }
}

async fn serve_https(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    pages: Arc<Mutex<BTreeMap<String, Page>>>,
    requests: Arc<AtomicUsize>,
) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, pages, requests) = (acceptor.clone(), Arc::clone(&pages), Arc::clone(&requests));
        tokio::spawn(async move {
            let mut stream = acceptor.accept(stream).await.ok()?;
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.ok()?);
            }
            requests.fetch_add(1, Ordering::Relaxed);
            let head = String::from_utf8(head).ok()?;
            let path = head.split(' ').nth(1)?.to_owned();
            let host = head.lines().find_map(|line| line.strip_prefix("host: "))?.split(':').next()?.to_owned();
            let page = pages.lock().unwrap().get(&host).cloned();
            let text = |status: u16, more: &str, body: &str| {
                format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n{more}\r\n{body}", body.len())
            };
            let answer = match page {
                Some(Page::File(status, at, body)) if at == path => text(status, "", &body),
                Some(Page::Redirect(to)) => text(302, &format!("location: {to}\r\n"), ""),
                Some(Page::Endless) => {
                    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
                    loop {
                        stream.write_all(&[b' '; 8_192]).await.ok()?;
                    }
                }
                Some(Page::Slow) => {
                    stream.write_all(b"HTTP/1.1 200 OK\r\n").await.ok()?;
                    loop {
                        stream.write_all(b"x: y\r\n").await.ok()?;
                        stream.flush().await.ok()?;
                        tokio::time::sleep(Duration::from_millis(500)).await;
                    }
                }
                _ => text(404, "", "no"),
            };
            stream.write_all(answer.as_bytes()).await.ok()?;
            stream.shutdown().await.ok()
        });
    }
}

fn claim(name: &str) -> DomainClaim {
    let provider: IdentityId = fama_ledger::id::EventId([2; 32]);
    DomainClaim::new(domain(name), FederationId([1; 32]), &provider, Some(("judge", &domain("beta.example"))))
}

fn file(federation: &FederationId, provider: &str, member: &str) -> String {
    format!("{{\"{member}\": [{{\"federation\": \"{federation}\", \"provider\": \"{provider}\"}}]}}")
}

/// Every domain of the table, with what a look-up at its web server gives.
#[test]
fn a_web_server_is_asked_within_bounds() {
    multi(async {
        let here = FederationId([1; 32]);
        let (id, big) = (fama_ledger::id::EventId([2; 32]).to_string(), " ".repeat(PROOF_BYTES_MAX + 1));
        let good = |name: &str| file(&here, name, "providers");
        let elsewhere = file(&FederationId([3; 32]), &id, "providers");
        let table: Vec<(&str, Page, &str)> = vec![
            ("id.example", Page::File(200, FAMA, good(&id)), "https://id.example/.well-known/fama.json"),
            (
                "handle.example",
                Page::File(200, FAMA, good("judge@beta.example")),
                "https://handle.example/.well-known/fama.json",
            ),
            (
                "mlauth.example",
                Page::File(200, MLAUTH, file(&here, &id, "fama_providers")),
                "https://mlauth.example/.well-known/mlauth.json",
            ),
            ("member.example", Page::File(200, MLAUTH, good(&id)), "domain_unproven"),
            ("elsewhere.example", Page::File(200, FAMA, elsewhere), "domain_unproven"),
            ("other.example", Page::File(200, FAMA, good("judge@alpha.example")), "domain_unproven"),
            ("nothing.example", Page::File(404, FAMA, String::new()), "domain_unproven"),
            ("broken.example", Page::File(500, FAMA, good(&id)), "domain_unreachable"),
            ("long.example", Page::File(200, FAMA, good(&id) + &big), "domain_unproven"),
            ("redirect.example", Page::Redirect("https://id.example/.well-known/fama.json".into()), "domain_unproven"),
            ("inside.example", Page::Redirect("http://127.0.0.1/".into()), "domain_unproven"),
            ("endless.example", Page::Endless, "domain_unproven"),
            ("slow.example", Page::Slow, "domain_unreachable"),
            (WRONG_CERTIFICATE, Page::File(200, FAMA, good(&id)), "domain_unreachable"),
            ("missing.example", Page::Endless, "domain_unproven"),
        ];
        let names: Vec<&str> = table.iter().map(|(name, ..)| *name).filter(|name| *name != WRONG_CERTIFICATE).collect();
        let internet = Internet::start(&names).await;
        internet.names.lock().unwrap().remove("missing.example");
        let lookup = DomainLookup::new(&internet.settings()).unwrap();
        for (name, page, want) in table {
            internet.page(name, page);
            let begun = Instant::now();
            let found = lookup.find(&claim(name), Method::Https).await;
            assert_eq!(found.as_ref().map_or_else(|error| error.code(), String::as_str), want, "{name}: {found:?}");
            assert!(begun.elapsed() < Duration::from_secs(25), "{name}");
        }
        // A page that is right, but whose issuer is nobody's.
        let strangers = LookupSettings { roots: Vec::new(), ..internet.settings() };
        let found = DomainLookup::new(&strangers).unwrap().find(&claim("id.example"), Method::Https).await;
        assert_eq!(found.unwrap_err().code(), "domain_unreachable");
    });
}

/// A name whose owner lets it lead into the network of whoever looks.
#[test]
fn no_private_address_is_asked() {
    multi(async {
        let internet = Internet::start(&["rebinding.example"]).await;
        let here = FederationId([1; 32]);
        internet.page("rebinding.example", Page::File(200, FAMA, file(&here, "judge@beta.example", "providers")));
        let public_only = DomainLookup::new(&LookupSettings { allow_private: false, ..internet.settings() }).unwrap();
        let private = [[127, 0, 0, 1], [127, 0, 0, 2], [10, 0, 0, 1], [169, 254, 169, 254], [0, 0, 0, 0]];
        let mut sets: Vec<Vec<Ipv4Addr>> = private.iter().map(|one| vec![Ipv4Addr::from(*one)]).collect();
        sets.push(private.map(Ipv4Addr::from).to_vec());
        for addresses in sets {
            internet.name("rebinding.example", Answer::Addresses(addresses.clone()));
            let found = public_only.find(&claim("rebinding.example"), Method::Https).await;
            assert_eq!(found.unwrap_err().code(), "domain_private", "{addresses:?}");
        }
        assert_eq!(internet.requests.load(Ordering::Relaxed), 0);
        // With leave it is: the server would have answered.
        internet.name("rebinding.example", Answer::Addresses(vec![Ipv4Addr::LOCALHOST]));
        let lookup = DomainLookup::new(&internet.settings()).unwrap();
        assert!(lookup.find(&claim("rebinding.example"), Method::Https).await.is_ok());
        assert_eq!(internet.requests.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_record_is_looked_up() {
    multi(async {
        let internet = Internet::start(&[]).await;
        let lookup = DomainLookup::new(&internet.settings()).unwrap();
        let good = claim("judge.example").txt();
        let one = |text: &str| vec![text.to_owned()];
        let (begin, end) = good.split_at(70);
        for (answer, want) in [
            (Some(Answer::Texts(vec![one(&good)])), "the TXT record at _fama.judge.example"),
            (
                Some(Answer::Texts(vec![one("v=spf1 -all"), vec![begin.to_owned(), end.to_owned()]])),
                "the TXT record at _fama.judge.example",
            ),
            (Some(Answer::Texts(vec![one(&good.replace("federation=01", "federation=03"))])), "domain_unproven"),
            (Some(Answer::Texts(vec![one(&format!("provider={}", "02".repeat(32)))])), "domain_unproven"),
            (Some(Answer::Texts(Vec::new())), "domain_unproven"),
            (None, "domain_unproven"),
            (Some(Answer::Failure), "domain_unreachable"),
        ] {
            match answer {
                Some(answer) => internet.name("_fama.judge.example", answer),
                None => drop(internet.names.lock().unwrap().remove("_fama.judge.example")),
            }
            let found = lookup.find(&claim("judge.example"), Method::Dns).await;
            assert_eq!(found.as_ref().map_or_else(|error| error.code(), String::as_str), want, "{found:?}");
        }
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let settings = LookupSettings { resolver: silent.local_addr().ok(), ..internet.settings() };
        let (begun, lookup) = (Instant::now(), DomainLookup::new(&settings).unwrap());
        let found = lookup.find(&claim("judge.example"), Method::Dns).await;
        assert_eq!(found.unwrap_err().code(), "domain_unreachable");
        assert!(begun.elapsed() < Duration::from_secs(25));
    });
}

/// What a service is told to publish is what an operator looks for; without it nothing is signed.
#[test]
fn operators_admit_what_its_domain_names() {
    multi(async {
        let net = LocalFederation::running(1).await;
        let internet = Internet::start(&["judge.example"]).await;
        let user = UserFolder::new(&net);
        std::fs::write(user.path("ca.pem"), &internet.ca.0).unwrap();
        user.done("key new --out file:judge.pem").await;
        let federation = "--manifest file:manifest.txt --query query:0";
        user.done(&format!(
            "register judge@alpha.example --key file:judge.pem --no-next {federation} --yes --wait final"
        ))
        .await;
        let how = format!(
            "--ca file:ca.pem --resolver {} --https-port {} --key file:node0.pem {federation} --yes",
            internet.dns, internet.https
        );
        for method in ["https", "dns"] {
            let request = format!(
                "request judge@alpha.example --service asked-{method} --domain judge.example --method {method} --key file:judge.pem \
                 --out file:{method}.json {federation}"
            );
            let wanted = user.done(&request).await["publish"].as_str().unwrap().to_owned();
            let admit =
                format!("admit judge@alpha.example --service {method} --domain judge.example --method {method} {how}");
            let requested = format!("admit --request file:{method}.json {how}");
            for line in [&admit, &requested] {
                let failure = user.fails(&format!("{line} --allow-private")).await;
                assert_eq!(failure["code"], "domain_unproven", "{failure}");
                assert!(failure["hint"].as_str().unwrap().contains(&wanted), "{failure}");
            }
            if method == "https" {
                let (body, _) = wanted.split_once(" at https://").unwrap();
                internet.page("judge.example", Page::File(200, FAMA, body.to_owned()));
                assert_eq!(user.fails(&admit).await["code"], "domain_private");
            } else {
                let (_, text) = wanted.split_once(" with the text ").unwrap();
                internet.name("_fama.judge.example", Answer::Texts(vec![vec![text.to_owned()]]));
            }
            for line in [&admit, &requested] {
                let receipt = user.done(&format!("{line} --allow-private")).await;
                assert_eq!(receipt["kind"], "admit", "{receipt}");
            }
        }
        let unchecked = "admit judge@alpha.example --service third --domain nowhere.example --method dns --no-check";
        user.done(&format!("{unchecked} --key file:node0.pem {federation} --yes")).await;
    });
}

/// The node tells its operator when a domain no longer names the service, and when it does again, and nobody else's
/// answers change.
#[test]
fn a_node_tells_when_a_domain_it_sponsors_is_lost() {
    multi(async {
        let mut net = LocalFederation::new(1);
        let internet = Internet::start(&[]).await;
        let domains = DomainSettings {
            every_seconds: 1,
            resolver: Some(internet.dns),
            doubt: Duration::from_secs(2),
            ..DomainSettings::default()
        };
        let config = Config { domains, ..net.config(0) };
        net.start_with(0, config.clone()).await;
        net.wait("it writes", |status| status["waiting"].is_null()).await;
        // By hand: there is nothing to look up.
        net.provider(0, "by-hand", &secret(6)).await;
        let (provider, registration) = net.register(0, "judge", &secret(4));
        net.accepted(0, registration).await;
        assert_eq!(internet.questions.load(Ordering::Relaxed), 0);
        let claim = DomainClaim::new(domain("judge.example"), net.manifest.federation(), &provider, None);
        let right = Answer::Texts(vec![vec![claim.txt()]]);
        internet.name("_fama.judge.example", right.clone());
        let user = UserFolder::new(&net);
        let how = format!("--method dns --resolver {} --key file:node0.pem --manifest file:manifest.txt", internet.dns);
        let admit = format!("admit {provider} --service judge --domain judge.example {how} --query query:0 --yes");
        user.done(&admit).await;
        // Newer statements about the provider, for other services: the first one's domain is looked at all the same.
        let second = DomainClaim::new(domain("second.example"), net.manifest.federation(), &provider, None);
        internet.name("_fama.second.example", Answer::Texts(vec![vec![second.txt()]]));
        user.done(&admit.replace("--service judge --domain judge", "--service second --domain second")).await;
        let by_hand = format!("admit {provider} --service hand --domain hand.example --method manual");
        user.done(&format!("{by_hand} --key file:node0.pem --manifest file:manifest.txt --query query:0 --yes")).await;

        let lost = |want: Option<&'static str>| {
            let net = &net;
            async move {
                let node = net.nodes[0].as_ref().unwrap();
                eventually(&format!("lost: {want:?}"), || async {
                    let status = get(node.query, "/api/status").await;
                    let shown = status["lost_domains"]["judge.example"].as_str();
                    if shown == want { Ok(()) } else { Err(status.to_string()) }
                })
                .await;
                let ready = get(node.admin, "/readyz").await;
                assert_eq!(ready["status"], "ready", "{ready}");
                let warnings: BTreeSet<&str> =
                    ready["warnings"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
                assert_eq!(warnings.contains("domain_lost"), want.is_some(), "{ready}");
                let metrics = text(node.admin, "/metrics").await;
                let line = format!("fama_domains_lost {}", u8::from(want.is_some()));
                assert!(metrics.lines().any(|shown| shown == line), "{line}");
            }
        };
        let looked = |more: usize| {
            let (questions, from) = (&internet.questions, internet.questions.load(Ordering::Relaxed));
            eventually("it looks again", move || async move {
                let now = questions.load(Ordering::Relaxed);
                if now >= from + more { Ok(()) } else { Err(format!("{now}")) }
            })
        };
        looked(3).await;
        lost(None).await;
        internet.name("_fama.judge.example", Answer::Texts(vec![vec!["v=spf1 -all".to_owned()]]));
        lost(Some("domain_unproven")).await;
        internet.name("_fama.judge.example", right.clone());
        lost(None).await;
        internet.name("_fama.judge.example", Answer::Failure);
        lost(Some("domain_unreachable")).await;
        assert!(user.done("status --query query:0").await["lost_domains"].is_object());
        net.stop(0).await;
        net.start_with(0, config).await;
        let user = UserFolder::of(&net);
        net.wait("it writes", |status| status["waiting"].is_null()).await;
        net.wait("it learns it again", |status| status["lost_domains"]["judge.example"] == "domain_unreachable").await;
        let dismiss = format!("dismiss {provider} --service judge --domain judge.example --from 0 --reason expired");
        user.done(&format!("{dismiss} --key file:node0.pem --manifest file:manifest.txt --query query:0 --yes")).await;
        net.wait("dismissed", |status| status["lost_domains"].is_null()).await;
        internet.name("_fama.second.example", Answer::Texts(Vec::new()));
        net.wait("the second is lost, too", |status| status["lost_domains"]["second.example"] == "domain_unproven")
            .await;
        let status = get(net.nodes[0].as_ref().unwrap().query, "/api/status").await;
        assert!(status["lost_domains"]["judge.example"].is_null(), "dismissed, so not looked at: {status}");
    });
}

async fn text(at: SocketAddr, path: &str) -> String {
    let url = format!("http://{at}{path}");
    let get = move || ureq::get(&url).call().unwrap().body_mut().read_to_string().unwrap();
    tokio::task::spawn_blocking(get).await.unwrap()
}

impl UserFolder<'_> {
    /// Runs a command line that must fail and say what to do next; returns its answer.
    async fn fails(&self, line: &str) -> Value {
        let (code, answer) = self.run(line).await;
        assert!(code == ExitCode::from(fama_cli::FAILED) && answer["hint"].is_string(), "{line}\n{answer}");
        answer
    }
}
