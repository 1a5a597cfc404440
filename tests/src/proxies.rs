//! The examples of `config/` for nginx and Caddy, in front of a real node: what the node promises its clients holds
//! behind them, and only the proxy says who the client is.
#![allow(clippy::print_stdout, reason = "a test that shows nothing must say so")]
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fama_ledger::key::Curve;
use fama_ledger::secret::SecretKey;
use fama_node::wire::{SUBMISSIONS_MAX, SubmitRequest, SubmitResult};
use fama_tests::node_key;

use crate::alerts::program;
use crate::federation::{LocalFederation, addresses, free_ports, multi};
use crate::papers::root;

/// The name of the examples.
const NAME: &str = "node.example";
/// How long a program may take until it answers.
const PATIENCE: Duration = Duration::from_secs(45);
/// So many registrations make a file of a log that no buffer of a proxy holds: 256 entries are one file.
const REGISTRATIONS: u16 = 300;
/// What no default buffer of these proxies holds, in bytes.
const LARGE: usize = 40 << 10;
/// Where the client of the test connects from: not from where the proxy does.
const CLIENT: &str = "127.0.0.2";

/// A program that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // nginx stops its workers with SIGTERM, and leaves them behind after a kill.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let begun = Instant::now();
        while self.0.try_wait().is_ok_and(|ended| ended.is_none()) && begun.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spawn(command: &mut Command, log: &Path) -> Running {
    let log = fs::File::create(log).unwrap();
    let command = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    Running(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
}

/// An example with other words in the place of its own; each must be there.
fn adapted(file: &str, words: &[(&str, String)]) -> String {
    let mut text = fs::read_to_string(root().join("config").join(file)).unwrap();
    for (word, other) in words {
        assert!(text.contains(word), "{file} has no {word}");
        text = text.replace(word, other);
    }
    text
}

/// What curl got.
#[derive(Debug)]
struct Fetched {
    /// First line and headers. The names are in small letters: the node writes them so, and HTTP/2 has no others.
    head: String,
    body: Vec<u8>,
}

impl Fetched {
    fn status(&self) -> u16 {
        self.head.split_whitespace().nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// A node with a log that is large enough, a proxy in front of it, and what both need.
struct ProxiedNode {
    net: LocalFederation,
    query: u16,
    https: u16,
    _node: Running,
}

impl ProxiedNode {
    fn folder(&self) -> &Path {
        self.net.dir.path()
    }

    fn file(&self, name: &str) -> String {
        self.folder().join(name).display().to_string()
    }

    /// A node as a process of its own, since its log is looked at. It believes what connects from 127.0.0.1.
    async fn start() -> Self {
        let net = LocalFederation::new(1);
        let (folder, ports) = (net.dir.path().to_owned(), free_ports(3));
        let file = |name: &str| folder.join(name);
        fs::write(file("manifest.txt"), net.manifest.note().to_string()).unwrap();
        fs::write(file("node.pem"), node_key(0).to_pem().as_bytes()).unwrap();
        done(Command::new("chmod").arg("600").arg(file("node.pem")));
        let config = format!(
            "data_dir = \"proxied\"\nmanifest = \"manifest.txt\"\nnode_key = \"node.pem\"\noperator = \"{}\"\n\
             [network]\nlisten = {:?}\n[query]\nlisten = \"127.0.0.1:{}\"\naccess_log = true\n\
             trusted_proxies = [\"127.0.0.1\"]\n[admin]\nlisten = \"127.0.0.1:{}\"\n",
            net.manifest.operators()[0].name,
            addresses(net.ports[0]),
            ports[0],
            ports[1],
        );
        fs::write(file("node.toml"), config).unwrap();
        let mut node = Command::new(crate::cli::program());
        node.args(["node", "--config"]).arg(file("node.toml")).env_remove("RUST_LOG");
        let node = spawn(&mut node, &file("node.log"));
        done(
            Command::new("openssl")
                .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
                .args(["-subj", &format!("/CN={NAME}"), "-addext", &format!("subjectAltName=DNS:{NAME}")])
                .arg("-keyout")
                .arg(file("privkey.pem"))
                .arg("-out")
                .arg(file("fullchain.pem")),
        );
        let proxied = Self { net, query: ports[0], https: ports[2], _node: node };
        proxied.eventually("the node is up", || proxied.direct("/api/status", &[]).status() == 200);
        proxied.fill().await;
        proxied
    }

    /// Fills the log.
    async fn fill(&self) {
        let client = self.net.client(0).await;
        let registration = |i: u16| {
            let mut seed = [7; 32];
            seed[..2].copy_from_slice(&i.to_be_bytes());
            let key = SecretKey::from_seed(Curve::Ed25519, &seed).unwrap();
            self.net.register(0, &format!("agent-{i}"), &key).1
        };
        let submissions: Vec<_> = (0..REGISTRATIONS).map(registration).collect();
        for part in submissions.chunks(SUBMISSIONS_MAX) {
            let request = SubmitRequest { forwarded: false, submissions: part.to_vec() };
            let results = client.submit(request).await.unwrap().0;
            let refused = results.iter().find(|result| !matches!(result, SubmitResult::Accepted(_)));
            assert!(refused.is_none(), "{refused:?}");
        }
    }

    fn eventually(&self, what: &str, mut there: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !there() {
            let logs = ["node.log", "proxy.log"].map(|log| fs::read_to_string(self.folder().join(log)));
            assert!(begun.elapsed() < PATIENCE, "{what}: {logs:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn curl(&self, url: &str, args: &[&str]) -> Fetched {
        let (head, body) = (self.folder().join("head"), self.folder().join("body"));
        for file in [&head, &body] {
            fs::write(file, "").unwrap();
        }
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--max-time", "20", "--noproxy", "*", "--interface", CLIENT, "--dump-header"]);
        curl.arg(&head).arg("--output").arg(&body).args(args).arg(url);
        // Of an error the answer says enough, and of none the empty one does.
        let _ = curl.stdin(Stdio::null()).status().unwrap();
        let head = fs::read_to_string(head).unwrap();
        Fetched { head, body: fs::read(body).unwrap() }
    }

    fn direct(&self, path: &str, args: &[&str]) -> Fetched {
        self.curl(&format!("http://127.0.0.1:{}{path}", self.query), args)
    }

    fn proxied(&self, path: &str, args: &[&str]) -> Fetched {
        let (port, certificate) = (self.https, self.file("fullchain.pem"));
        let resolve = format!("{NAME}:{port}:127.0.0.1");
        let ways = ["--http2", "--cacert", &certificate, "--resolve", &resolve];
        self.curl(&format!("https://{NAME}:{port}{path}"), &[&ways[..], args].concat())
    }

    /// The client that the access log has for a request with this id.
    fn logged(&self, id: &str) -> String {
        let line = || {
            let log = fs::read_to_string(self.folder().join("node.log")).unwrap();
            log.lines().find(|line| line.contains(&format!("id={id}"))).map(str::to_owned)
        };
        self.eventually(id, || line().is_some());
        let line = line().unwrap();
        let client = line.split("client=").nth(1).and_then(|rest| rest.split_whitespace().next());
        client.unwrap_or_else(|| panic!("{line}")).to_owned()
    }

    /// Everything that a proxy must leave as it is, and what it must add.
    fn check(&self) {
        self.eventually("the proxy is up", || self.proxied("/api/status", &[]).status() == 200);

        let whole = self.proxied("/manifest/1", &[]);
        assert!(whole.head.starts_with("HTTP/2 200"), "{}", whole.head);
        let tag = whole.header("etag").unwrap_or_else(|| panic!("{}", whole.head));
        let known = self.proxied("/manifest/1", &["--header", &format!("if-none-match: {tag}")]);
        assert_eq!((known.status(), known.body.len()), (304, 0), "{}", known.head);
        let packed = self.proxied("/manifest/1", &["--header", "accept-encoding: gzip"]);
        assert_eq!((packed.header("content-encoding"), &packed.body[..2]), (Some("gzip"), &[0x1f, 0x8b][..]));

        // A file of the log that no buffer holds, whole, and cacheable as the node says.
        let path = format!("/log/{}/1/tile/entries/000", self.net.manifest.operators()[0].name);
        self.eventually("the file is final", || self.direct(&path, &[]).status() == 200);
        let (ours, theirs) = (self.direct(&path, &[]), self.proxied(&path, &[]));
        assert!(ours.body.len() > LARGE, "{} bytes", ours.body.len());
        assert!(ours.body == theirs.body, "{} of {} bytes", theirs.body.len(), ours.body.len());
        assert_eq!(theirs.header("cache-control"), Some("public, max-age=31536000, immutable"));

        // What the client says of itself doesn't count; what the proxy says does.
        let forged = "x-forwarded-for: 203.0.113.9";
        let id = |id: &str| format!("x-request-id: {id}");
        self.direct("/api/status", &["--header", forged, "--header", &id("directly")]);
        self.proxied("/api/status", &["--header", forged, "--header", &id("through")]);
        assert_eq!((self.logged("directly").as_str(), self.logged("through").as_str()), (CLIENT, CLIENT));
        let log = fs::read_to_string(self.folder().join("node.log")).unwrap();
        assert!(!log.contains("203.0.113.9"), "nowhere");

        // Too much is refused by one of them; as much as the node reads arrives.
        let body = |bytes: usize| {
            fs::write(self.folder().join("sent"), vec![b' '; bytes]).unwrap();
            let sent = format!("@{}", self.file("sent"));
            let kind = "content-type: application/json";
            self.proxied("/api/verify", &["--data-binary", &sent, "--header", kind]).status()
        };
        // The node refuses before it has read all: a proxy that still sends then says 502 in its place.
        let (refused, read) = (body((64 << 10) + 1), body(64 << 10));
        assert!(matches!(refused, 413 | 502) && read == 400, "{refused} {read}");
    }
}

fn done(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn found(name: &str) -> Option<PathBuf> {
    let found = program(name);
    assert!(found.is_some() || std::env::var_os("FAMA_FOREIGN").is_none(), "no {name}");
    if found.is_none() {
        println!("skipped: there is no {name} on this machine, so its example was not tried");
    }
    found
}

#[test]
fn the_example_for_nginx_works() {
    let Some(nginx) = found("nginx") else { return };
    multi(async {
        let node = ProxiedNode::start().await;
        let site = adapted(
            "nginx.conf",
            &[
                ("127.0.0.1:8080", format!("127.0.0.1:{}", node.query)),
                ("listen 443 ", format!("listen 127.0.0.1:{} ", node.https)),
                ("listen [::]:443 ", format!("listen [::1]:{} ", node.https)),
                ("/etc/ssl/node.example/", node.file("")),
            ],
        );
        // What Debian's nginx.conf has around a site, with all folders in that of the test.
        let user = "# Who may not choose a user is warned only.\nuser root;";
        let folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|part| format!("{part}_temp_path {};\n", node.file(part)))
            .concat();
        let whole = format!(
            "{user}\ndaemon off;\npid {};\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{folders}{site}}}\n",
            node.file("nginx.pid")
        );
        fs::write(node.file("nginx.conf"), whole).unwrap();
        let mut command = Command::new(nginx);
        command.args(["-e", "stderr", "-p"]).arg(node.folder()).arg("-c").arg(node.file("nginx.conf"));
        let _proxy = spawn(&mut command, &node.folder().join("proxy.log"));
        node.check();
    });
}

#[test]
fn the_example_for_caddy_works() {
    let Some(caddy) = found("caddy") else { return };
    multi(async {
        let node = ProxiedNode::start().await;
        let certificate = format!("\ttls {} {}\n", node.file("fullchain.pem"), node.file("privkey.pem"));
        let site = adapted(
            "Caddyfile",
            &[
                ("127.0.0.1:8080", format!("127.0.0.1:{}", node.query)),
                ("node.example {\n", format!("{NAME}:{} {{\n{certificate}", node.https)),
            ],
        );
        // No certificate from elsewhere, no port 80, no port for commands.
        let whole = format!("{{\n\tadmin off\n\tauto_https disable_redirects\n\tskip_install_trust\n}}\n{site}");
        fs::write(node.file("Caddyfile"), whole).unwrap();
        let mut command = Command::new(caddy);
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(node.file("Caddyfile"));
        command.env("XDG_DATA_HOME", node.folder()).env("XDG_CONFIG_HOME", node.folder()).env("HOME", node.folder());
        let _proxy = spawn(&mut command, &node.folder().join("proxy.log"));
        node.check();
    });
}
