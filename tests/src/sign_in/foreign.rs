//! Other people's software, unmodified, at the sign-in listener and with its tokens: Authlib, PyJWT, oauth4webapi, jose,
//! dpop, and the SDKs of the Model Context Protocol at a server that accepts the federation's tokens.
//!
//! Each script in `tests/sign_in` gets the federation as JSON. The issuers are `https` origins as in a federation on
//! machines of its own; the scripts send what is for them to the listeners of this machine.
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use base64ct::{Base64UrlUnpadded, Encoding as _};
use p256::elliptic_curve::sec1::ToSec1Point as _;

use super::*;
use crate::clients::{javascript, node};
use crate::federation::free_ports;

/// The secret of the delegated process.
const PROCESS: [u8; 32] = [9; 32];
/// The MCP server's name for itself.
const MCP: &str = "https://payments.example/mcp";

/// A Python with the packages of `tests/sign_in`, if this machine has one.
#[allow(clippy::print_stdout, reason = "a test that shows nothing must say so")]
fn python() -> Option<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(target).join("sign_in/bin/python3");
    if python.exists() {
        return Some(python);
    }
    assert!(std::env::var_os("FAMA_FOREIGN").is_none(), "no {}", python.display());
    println!("skipped: no Python with Authlib and PyJWT; `FAMA_FOREIGN=1 .cargo/needs.sh test` prepares one");
    None
}

/// Whether the packages for JavaScript are here.
#[allow(clippy::print_stdout, reason = "a test that shows nothing must say so")]
fn has_packages() -> bool {
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../node/clients/js/node_modules/oauth4webapi");
    if packages.exists() {
        return true;
    }
    assert!(std::env::var_os("FAMA_FOREIGN").is_none(), "no {}", packages.display());
    println!("skipped: no oauth4webapi; `FAMA_FOREIGN=1 .cargo/needs.sh test` installs it");
    false
}

impl World {
    /// What the scripts need to know, with the keys in files of this folder.
    async fn given(&self, folder: &Path) -> Value {
        let own = did(&domain(DOMAINS[0]), &self.agent.0);
        let agent = |name: &str, home: usize, (id, key): &(IdentityId, SecretKey)| {
            let file = folder.join(format!("{name}.pem"));
            std::fs::write(&file, key.to_pem().as_bytes()).unwrap();
            let algorithm = JoseKey::Ledger(key.public()).algorithms()[0];
            let handle = format!("{name}@{}", DOMAINS[home]);
            json!({"handle": handle, "did": did(&domain(DOMAINS[home]), id), "key": file, "algorithm": algorithm})
        };
        let (mut routes, mut sets, mut tokens) = (json!({}), json!({}), json!({}));
        for i in 0..2 {
            routes[issuer(i)] = json!(format!("http://{}", self.auth(i)));
            // Each operator's set as the other one's node serves it.
            let query = self.net.nodes[1 - i].as_ref().unwrap().query;
            sets[issuer(i)] = json!(format!("http://{query}/api/federation/issuers/{}/jwks.json", DOMAINS[i]));
            tokens[issuer(i)] = self.token(i, &[]).await.1["access_token"].clone();
        }
        let token = self.check(0, tokens[issuer(0)].as_str().unwrap());
        let lie = AccessToken { issuer: issuer(1), ..token }
            .sign(self.net.manifest.federation(), token_key(0).ed25519().unwrap());
        json!({
            "resource": PAYMENTS, "issuers": [issuer(0), issuer(1)], "routes": routes, "sets": sets, "tokens": tokens,
            "lie": lie, "now": clock::now().0 / 1_000, "delegated": self.delegated(&own),
            "agents": [agent("swift", 0, &self.agent), agent("other", 1, &self.other)],
        })
    }

    /// A process of the agent with a key on P-256.
    fn delegated(&self, own: &str) -> Value {
        let point = p256::SecretKey::from_slice(&PROCESS).unwrap().public_key().to_sec1_point(true);
        let key = JoseKey::P256(point.as_bytes().try_into().unwrap());
        let now = clock::now().0 / 1_000;
        let (scopes, resources, id) = (None, None, random());
        let process = "worker-1".parse().unwrap();
        let delegation = Delegation {
            subject: own.to_owned(),
            process,
            key,
            scopes,
            resources,
            issued_at: now,
            expires: now + 3_600,
            id,
        };
        let mut jwk = key.to_jwk();
        jwk["d"] = json!(Base64UrlUnpadded::encode_string(&PROCESS));
        let said = delegation.sign(self.net.manifest.federation(), &self.agent.1);
        json!({"handle": "swift@alpha.example", "jwk": jwk, "delegation": said, "process": "worker-1"})
    }
}

/// An MCP server that accepts the tokens of one issuer; dropping it ends it.
struct McpServer(Child);

impl Drop for McpServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl McpServer {
    /// The example of our client for Python, which asks a node of an operator that issues nothing.
    fn start(world: &World, folder: &Path, port: u16) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let genesis = folder.join("genesis.txt");
        std::fs::write(&genesis, world.net.manifest.note().to_string()).unwrap();
        let query = world.net.nodes[2].as_ref().unwrap().query;
        let mut command = Command::new(python().unwrap());
        command.arg(root.join("node/clients/python/examples/mcp_server.py")).arg(format!("http://{query}"));
        command.arg(port.to_string()).arg(genesis).args([MCP, &issuer(0)]);
        command.env("PYTHONPATH", root.join("node/clients/python/src")).env("PYTHONDONTWRITEBYTECODE", "1");
        let server = Self(command.stdout(Stdio::null()).spawn().unwrap());
        let begun = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(60), "the MCP server does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }
}

/// Runs the parts of a script against a federation in which both agents may read and pay.
fn run(program: impl Fn() -> Command, script: &str, parts: &[&'static str]) {
    multi(async {
        let world = world().await;
        for scope in ["read", "pay"] {
            world.grant(world.other.0, scope, None).await;
        }
        world.net.settled().await;
        let folder = tempfile::tempdir().unwrap();
        let mut given = world.given(folder.path()).await;
        let port = free_ports(1)[0];
        given["routes"]["https://payments.example"] = json!(format!("http://127.0.0.1:{port}"));
        given["mcp"] = json!(MCP);
        let server = McpServer::start(&world, folder.path(), port);
        let given = given.to_string();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("sign_in").join(script);
        for part in parts {
            let mut command = program();
            command.arg(&script).arg(part).env("FAMA_SIGN_IN", &given).env("PYTHONDONTWRITEBYTECODE", "1");
            let output: Output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
            let said = [output.stdout, output.stderr].concat();
            assert!(output.status.success(), "{part}: {}", String::from_utf8_lossy(&said));
        }
        drop(server);
    });
}

#[test]
fn authlib_and_pyjwt() {
    let Some(python) = python() else { return };
    run(|| Command::new(&python), "clients.py", &["authlib", "pyjwt", "pyjwt_signs", "mcp"]);
}

#[test]
fn oauth4webapi_jose_and_dpop() {
    let Some(node) = node().filter(|_| has_packages() && python().is_some()) else { return };
    run(|| javascript(&node), "clients.mjs", &["oauth4webapi", "dpop", "jose", "mcp"]);
}
