//! Pages in a real browser: journeys of `tests/browser`, driven by playwright-core, against live nodes.
//!
//! Where Node.js, Chromium or playwright-core is missing, the tests say so and end; with `FAMA_FOREIGN=1` that is a failure.
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::lines;
use crate::clients::{javascript, node};
use crate::federation::{LocalFederation, free_ports, multi};
use crate::live::{running, sections, text_of};
use crate::mcp::McpUser;

/// How long a journey may say nothing; it ends itself before that.
const SILENCE: Duration = Duration::from_secs(150);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A journey that runs. Dropping it ends its browser.
pub(crate) struct Journey {
    child: Child,
    _stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Journey {
    /// Starts `tests/browser/{name}.mjs` with a plan, if this machine has what it needs.
    #[allow(clippy::print_stdout, reason = "a test that shows nothing must say so")]
    pub(crate) fn begin(name: &str, plan: &Value) -> Option<Self> {
        let node = node()?;
        let needed = ["/usr/bin/chromium".into(), root().join("node/clients/js/node_modules/playwright-core")];
        if let Some(missing) = needed.iter().find(|path: &&PathBuf| !path.exists()) {
            assert!(std::env::var_os("FAMA_FOREIGN").is_none(), "no {}", missing.display());
            println!("skipped: no {}; `FAMA_FOREIGN=1 .cargo/needs.sh test` installs it", missing.display());
            return None;
        }
        let mut command = javascript(&node);
        command.arg(root().join(format!("tests/browser/{name}.mjs"))).arg(plan.to_string());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, lines) = (child.stdin.take().unwrap(), lines(child.stdout.take().unwrap()));
        Some(Self { child, _stdin: stdin, lines })
    }

    /// Waits until the journey says this.
    pub(crate) fn says(&self, what: &str) {
        let said = self.lines.recv_timeout(SILENCE).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(said, what);
    }

    /// Waits until it ends well. Returns what it still said.
    pub(crate) fn end(mut self) -> Vec<String> {
        let said: Vec<String> = std::iter::from_fn(|| self.lines.recv_timeout(SILENCE).ok()).collect();
        let ended = self.child.wait().unwrap();
        assert!(ended.success(), "{ended} {said:?}");
        said
    }
}

#[test]
fn the_driver_notices_faults() {
    if let Some(journey) = Journey::begin("faults", &json!({})) {
        journey.end();
    }
}

/// The addresses of the nodes, as journeys take them.
pub(crate) fn addresses(net: &LocalFederation) -> Vec<Value> {
    let address = |address: SocketAddr| format!("http://{address}");
    let nodes = net.nodes.iter().flatten();
    nodes.map(|node| json!({"query": address(node.query), "submit": address(node.submit)})).collect()
}

#[test]
fn a_page_of_another_origin_uses_the_client_that_a_node_serves() {
    multi(async {
        let net = running(2).await;
        let plan = json!({"nodes": addresses(&net), "genesis": net.manifest.note().to_string()});
        let journey = move || Journey::begin("client", &plan).map(Journey::end).map(drop);
        tokio::task::spawn_blocking(journey).await.unwrap();
    });
}

#[test]
#[allow(clippy::print_stdout, reason = "how soon a revocation shows is a figure")]
fn people_use_the_explorer() {
    multi(async {
        let net = running(2).await;
        let plan = json!({"nodes": addresses(&net)});
        let journey = move || {
            let Some(journey) = Journey::begin("explorer", &plan) else { return };
            for line in journey.end() {
                println!("{line}");
            }
        };
        tokio::task::spawn_blocking(journey).await.unwrap();
    });
}

/// A shell that stays.
struct Shell {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Shell {
    const DONE: &str = "-- done --";

    fn open(dir: &Path) -> Self {
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-s"]).current_dir(dir).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (stdin, lines) = (child.stdin.take().unwrap(), lines(child.stdout.take().unwrap()));
        Self { child, stdin, lines }
    }

    /// What these commands print. A command that fails ends the shell.
    fn run(&mut self, commands: &str) -> String {
        tokio::task::block_in_place(|| {
            write!(self.stdin, "{commands}\necho; echo {}\n", Self::DONE).and_then(|()| self.stdin.flush()).unwrap();
            let line = || self.lines.recv_timeout(SILENCE).unwrap_or_else(|error| panic!("{commands}: {error}"));
            let said = std::iter::repeat_with(line).take_while(|line| line != Self::DONE);
            said.collect::<Vec<_>>().join("\n")
        })
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `docs/examples/login_server.mjs`, which asks this node.
struct LoginServer {
    child: Child,
    url: String,
}

impl LoginServer {
    fn start(node: &Path, query: &str) -> Self {
        let port = free_ports(1)[0].to_string();
        let mut command = javascript(node);
        command.arg(root().join("docs/examples/login_server.mjs")).args([query, &port, "0"]).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        Self { child, url }
    }
}

impl Drop for LoginServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One identity, two nodes, and four programs that know nothing of one another: a shell that follows `/skill.md` at the
/// first node; a login server, an MCP client and a page at the second.
#[test]
fn what_a_shell_says_at_one_node_everybody_hears_at_the_other() {
    multi(async {
        let net = running(2).await;
        let second = &addresses(&net)[1];
        let skill = net.nodes[0].as_ref().unwrap().query;
        let skill = tokio::task::block_in_place(|| text_of(skill, "/skill.md"));
        let skill = sections(&skill);
        let dir = tempfile::tempdir().unwrap();
        let mut shell = Shell::open(dir.path());
        shell.run(&skill["Register"]);
        let agent = format!("{}@alpha.example", shell.run("echo $NAME").trim());
        assert!(shell.run(&skill["Look yourself up"]).contains(&agent));
        net.shows(&agent, |profile| profile["identity"]["key_version"] == 1).await;

        let states = ["key 1 is good", "key 2 is good", "key 2 is revoked"];
        let plan = json!({"node": second["query"], "agent": agent, "states": states});
        let Some(page) = Journey::begin("watch", &plan) else { return };
        let server = LoginServer::start(&node().unwrap(), second["query"].as_str().unwrap());
        let mcp = McpUser::new(&net);
        let mut client = mcp.client(&mcp.args(None), "auto", true);
        let mut looked_up = || client.reads("look_up_agent", &json!({"agent": agent}))["key_status"].clone();
        let log_in = |shell: &mut Shell, key: &str| -> Value {
            let recipe = skill["Log in somewhere"].replace("challenge-from-the-service", "login to shop.example");
            // The recipe's times are whole seconds, and the server takes each only once.
            shell.run("until [ \"${TIME:-}\" != $(date -u +%Y-%m-%dT%H:%M:%SZ) ]; do sleep 0.1; done");
            shell.run(&recipe.split("curl").next().unwrap().replace("agent.pem", key));
            let body = format!(r#"{{\"dumbname\":\"{agent}\",\"timestamp\":\"$TIME\",\"signature\":\"$SIGNATURE\"}}"#);
            let said = shell.run(&format!("curl -sS {}/login -d \"{body}\"", server.url));
            serde_json::from_str(&said).unwrap()
        };

        // The same recipe at the first node itself.
        assert!(shell.run(&skill["Log in somewhere"]).contains("\"verified\":true"));
        assert_eq!(log_in(&mut shell, "agent.pem"), json!({"handle": agent, "karma": 0}));
        assert_eq!(looked_up()["key_version"], 1);
        tokio::task::block_in_place(|| page.says(states[0]));

        shell.run(&skill["Change your key"]);
        tokio::task::block_in_place(|| page.says(states[1]));
        assert_eq!(log_in(&mut shell, "agent.pem"), json!({"code": "bad_signature"}));
        assert_eq!(log_in(&mut shell, "next.pem"), json!({"handle": agent, "karma": 0}));
        assert_eq!(looked_up()["key_version"], 2);

        shell.run(&skill["Revoke your key"]);
        tokio::task::block_in_place(|| page.says(states[2]));
        assert_eq!(log_in(&mut shell, "next.pem"), json!({"code": "revoked"}));
        assert_eq!(looked_up()["is_revoked"], true);
        tokio::task::block_in_place(|| page.end());
    });
}
