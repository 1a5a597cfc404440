//! The nodes of the demo: their folders, ports and processes.
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fama_ledger::id::{Domain, FederationId};
use fama_ledger::key::Curve;
use fama_ledger::manifest::{Endpoints, Manifest, Policy};
use fama_node::network::client::Client;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::failure::Failure;
use crate::federation::{self, FederationPlan, OperatorPlan};
use crate::files;
use crate::query::Query;

/// Names of the operators, each below `.example`.
const NAMES: [&str; 24] = [
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu", "xi",
    "omicron", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega",
];
/// Operators without `--operators` and `--data`.
const OPERATORS_DEFAULT: usize = 4;
/// Pause between two questions while waiting for a node.
const POLL: Duration = Duration::from_millis(150);
/// Processor time of all nodes together that counts as progress, if it is used before the timeout.
const PROGRESS: Duration = Duration::from_secs(30);
/// How long a node may take to stop before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// One operator's node.
pub(super) struct DemoNode {
    /// Name of the operator, or of the mirror.
    pub(crate) operator: Domain,
    /// Folder with keys, configuration, data and log.
    pub(crate) dir: PathBuf,
    /// URL of its query listener.
    pub(crate) url: String,
    query: Query,
    /// Multiaddress for peers and submissions.
    pub p2p: String,
    child: Child,
}

/// All nodes. Dropping it kills those that still run.
pub(super) struct Cluster {
    /// In the order of the manifest.
    pub(crate) nodes: Vec<DemoNode>,
    /// The newest version that the folder has.
    pub(crate) manifest: Arc<Manifest>,
    new: bool,
    /// Deletes the folder when dropped; `None` if the user gave one.
    _temporary: Option<TempDir>,
}

impl Cluster {
    /// Creates a federation with the policy for its number of operators, or opens the one in `data`, and starts its nodes.
    ///
    /// # Errors
    /// [`Failure`].
    pub(super) fn start(
        operators: Option<usize>,
        data: Option<&Path>,
        policy: fn(usize) -> Policy,
    ) -> Result<Self, Failure> {
        let system = |error: std::io::Error| Failure::new("system", error);
        let temporary = match data {
            Some(_) => None,
            None => Some(tempfile::Builder::new().prefix("fama-demo-").tempdir().map_err(system)?),
        };
        let dir = data.or(temporary.as_ref().map(TempDir::path)).unwrap_or(Path::new(".")).to_path_buf();
        let new = !dir.join(federation::MANIFEST_FILE).exists();
        if new {
            create(&dir, operators.unwrap_or(OPERATORS_DEFAULT), policy)?;
        }
        let manifest = files::read_manifest(&dir.join(federation::MANIFEST_FILE))?;
        let count = manifest.operators().len();
        if operators.is_some_and(|wanted| wanted != count) {
            let message = format!("{} holds a federation of {count} operators", dir.display());
            return Err(Failure::new("other_count", message).hint("leave --operators out, or name another folder"));
        }
        let mut cluster = Self { nodes: Vec::new(), manifest, new, _temporary: temporary };
        let program = std::env::current_exe().map_err(system)?;
        let names: Vec<Domain> = cluster.manifest.operators().iter().map(|operator| operator.name.clone()).collect();
        for operator in names {
            let node = spawn(&program, &dir.join(operator.as_str()), operator)?;
            cluster.nodes.push(node);
        }
        Ok(cluster)
    }

    /// Whether this run created the federation.
    pub(super) fn is_new(&self) -> bool {
        self.new
    }

    /// Id of the federation.
    pub(super) fn federation(&self) -> FederationId {
        self.manifest.federation()
    }

    /// Addresses, folders and processes of the nodes, as JSON.
    pub(super) fn json(&self) -> Value {
        let node = |node: &DemoNode| {
            let (operator, pid) = (node.operator.as_str(), node.child.id());
            json!({"operator": operator, "query": node.url, "p2p": node.p2p, "data": node.dir, "pid": pid})
        };
        self.nodes.iter().map(node).collect()
    }

    /// Addresses of the nodes, as JSON.
    pub(super) fn public_json(&self) -> Value {
        let node = |node: &DemoNode| json!({"operator": node.operator.as_str(), "query": node.url, "p2p": node.p2p});
        self.nodes.iter().map(node).collect()
    }

    /// Addresses of the nodes, for people.
    pub(super) fn addresses(&self) -> String {
        let lines =
            self.nodes.iter().map(|node| format!("  {:16} {:26} {}\n", node.operator.as_str(), node.url, node.p2p));
        format!("Ask any of them:\n\n{}", lines.collect::<String>())
    }

    /// The address of the first node's pages.
    pub(super) fn explorer(&self) -> String {
        self.nodes.first().map(|node| format!("{}/", node.url)).unwrap_or_default()
    }

    /// An introduction for people.
    pub(super) fn intro(&self) -> String {
        let count = self.nodes.len();
        let quorum = self.manifest.quorum();
        format!(
            "Explorer: {}\n\nA federation of {count} operators, {quorum} of which make an event final. Each is a process with its own database.\n\n{}",
            self.explorer(),
            self.addresses()
        )
    }

    /// Waits until every node answers and hears enough of the others, for as long as those that load their data make
    /// progress, and `timeout` longer.
    pub(super) async fn wait_until_up(&mut self, timeout: Duration) -> Result<(), Failure> {
        let (mut deadline, mut worked) = (Instant::now() + timeout, self.worked());
        for at in 0..self.nodes.len() {
            loop {
                self.check_alive()?;
                let status = self.status(at).await;
                if status.as_ref().is_ok_and(|status| {
                    status["fresh"] == true && final_sizes(status) && sizes(status).iter().all(|size| *size > 0)
                }) {
                    break;
                }
                let now = self.worked();
                if now.saturating_sub(worked) >= PROGRESS {
                    (deadline, worked) = (Instant::now() + timeout, now);
                }
                if Instant::now() > deadline {
                    return Err(self.late(at, "does not answer or hears too few others"));
                }
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(())
    }

    /// Processor time that all nodes have used so far; zero where the system does not say.
    ///
    /// A node that loads a long history answers nothing meanwhile. One that waits for others uses next to none.
    fn worked(&self) -> Duration {
        let used = |node: &DemoNode| {
            let stat = fs::read_to_string(format!("/proc/{}/stat", node.child.id())).ok()?;
            // proc(5): fields 14 and 15, counted after the name in parentheses, in hundredths of a second.
            let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
            let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            Some(Duration::from_millis(user.saturating_add(system).saturating_mul(10)))
        };
        self.nodes.iter().filter_map(used).sum()
    }

    /// Waits until all nodes have the same state, all of it final, and their rankings have followed: for as long as this
    /// makes progress, and `timeout` longer.
    pub(super) async fn wait_until_final(&mut self, timeout: Duration) -> Result<Value, Failure> {
        let (mut deadline, mut reached) = (Instant::now() + timeout, 0);
        loop {
            self.check_alive()?;
            let mut all = Vec::new();
            for at in 0..self.nodes.len() {
                all.push(self.status(at).await?);
            }
            let same = all.windows(2).all(|pair| pair[0]["state_id"] == pair[1]["state_id"]);
            if same && all.iter().all(|status| final_sizes(status) && status["ranking_lag"] == 0) {
                let rows = self.nodes.iter().zip(&all);
                return Ok(rows.map(|(node, status)| row(node, status)).collect());
            }
            let sum = all.iter().flat_map(certified_sizes).sum::<u64>();
            if sum > reached {
                (deadline, reached) = (Instant::now() + timeout, sum);
            }
            if Instant::now() > deadline {
                return Err(
                    Failure::new("not_final", "the nodes did not agree in time").hint("look into the node.log files")
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The status of a node.
    pub(super) async fn status(&self, at: usize) -> Result<Value, Failure> {
        self.get(at, &["status"], &[]).await
    }

    /// Asks a node's query listener.
    pub(super) async fn get(
        &self,
        at: usize,
        path: &[&str],
        parameters: &[(&'static str, String)],
    ) -> Result<Value, Failure> {
        let Some(node) = self.nodes.get(at) else { return Err(Failure::new("internal", "no such node")) };
        let path: Vec<String> = path.iter().map(ToString::to_string).collect();
        let (query, parameters) = (node.query.clone(), parameters.to_vec());
        let get = move || query.get(&path.iter().map(String::as_str).collect::<Vec<_>>(), &parameters);
        let got = tokio::task::spawn_blocking(get).await;
        got.map_err(|error| Failure::new("internal", error))?
    }

    /// Starts a mirror with an empty folder and `verify = how`. It is the last of the nodes until [`Cluster::leave`].
    ///
    /// # Errors
    /// [`Failure`].
    pub(super) fn join(&mut self, how: &str) -> Result<usize, Failure> {
        let system = |error: std::io::Error| Failure::new("system", error);
        let folder = self.nodes.first().and_then(|node| node.dir.parent());
        let dir = folder.unwrap_or(Path::new(".")).join(format!("mirror-{how}"));
        if dir.exists() {
            fs::remove_dir_all(&dir).map_err(system)?;
        }
        fs::create_dir_all(&dir).map_err(system)?;
        files::create_key(&dir.join("node.pem"), Curve::Ed25519)?;
        let mut ports = FreePorts::default();
        let (p2p, query, admin) = (ports.take()?, ports.take()?, ports.take()?);
        let manifest = federation::MANIFEST_FILE;
        let config = format!(
            "data_dir = \"data\"\nmanifest = \"../{manifest}\"\nnode_key = \"node.pem\"\nverify = \"{how}\"\n\
             [network]\nlisten = [\"/ip4/{}/tcp/{}\"]\n[query]\nlisten = \"{query}\"\n[admin]\nlisten = \"{admin}\"\n",
            p2p.ip(),
            p2p.port()
        );
        fs::write(dir.join("node.toml"), config).map_err(system)?;
        drop(ports);
        let program = std::env::current_exe().map_err(system)?;
        let name = format!("{how}.mirror.example").parse().map_err(|error| Failure::new("internal", error))?;
        self.nodes.push(spawn(&program, &dir, name)?);
        Ok(self.nodes.len() - 1)
    }

    /// Stops the mirror that joined last.
    pub(super) fn leave(&mut self) {
        let Some(mut node) = self.nodes.pop() else { return };
        drop(node.child.stdin.take());
        let deadline = Instant::now() + STOP_TIMEOUT;
        while matches!(node.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        // Kills it if it did not stop in time.
        let _ = node.child.kill();
        let _ = node.child.wait();
    }

    /// Bytes of entries that a node has fetched since it started.
    ///
    /// # Errors
    /// [`Failure`].
    pub(super) async fn entry_bytes(&self, at: usize) -> Result<u64, Failure> {
        let Some(node) = self.nodes.get(at) else { return Err(Failure::new("internal", "no such node")) };
        let config = fama_node::config::Config::load(&node.dir.join("node.toml"))?;
        let url = format!("http://{}/metrics", config.admin.listen);
        // On this machine: no proxy is asked.
        let agent = ureq::Agent::config_builder().proxy(None).build().new_agent();
        let read = move || agent.get(&url).call()?.body_mut().read_to_string();
        let text = tokio::task::spawn_blocking(read).await.map_err(|error| Failure::new("internal", error))?;
        let text = text.map_err(|error| Failure::new("unreachable", error))?;
        let line = text.lines().find_map(|line| line.strip_prefix("fama_sync_bytes_total{direction=\"in\"} "));
        Ok(line.and_then(|bytes| bytes.parse().ok()).unwrap_or_default())
    }

    /// A connection to each node.
    pub(super) async fn connect(&self) -> Result<Vec<Client>, Failure> {
        let mut clients = Vec::new();
        for node in &self.nodes {
            let address = node.p2p.parse().map_err(|error| Failure::new("internal", error))?;
            let client = Client::connect(self.federation(), address).await;
            clients.push(client.map_err(|error| Failure::new(error.code(), error))?);
        }
        Ok(clients)
    }

    /// Completes when a node ends by itself.
    pub(super) async fn watch(&mut self) -> Failure {
        loop {
            if let Err(failure) = self.check_alive() {
                return failure;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// The cause of a failure: a node that ended, else the failure itself.
    pub(super) fn cause(&mut self, noticed: Failure) -> Failure {
        self.check_alive().err().unwrap_or(noticed)
    }

    fn check_alive(&mut self) -> Result<(), Failure> {
        for node in &mut self.nodes {
            if let Ok(Some(status)) = node.child.try_wait() {
                let path = node.dir.join("node.log");
                let log = fs::read_to_string(&path).unwrap_or_default();
                // A node that gives up logs the error and a hint as its last two lines.
                let error = log.lines().rev().take(2).find(|line| line.starts_with("error: "));
                let why = error.map_or_else(String::new, |error| format!(": {error}"));
                let message = format!("the node of {} ended ({status}){why}", node.operator);
                return Err(Failure::new("node_ended", message).hint(format!("look into {}", path.display())));
            }
        }
        Ok(())
    }

    fn late(&self, at: usize, what: &str) -> Failure {
        let node = self.nodes.get(at);
        let name = node.map_or("?", |node| node.operator.as_str());
        let log = node.map(|node| node.dir.join("node.log").display().to_string()).unwrap_or_default();
        Failure::new("node_late", format!("the node of {name} {what}")).hint(format!("look into {log}"))
    }

    /// Stops every node cleanly: they end when their standard input closes. Kills those that take too long.
    pub(super) fn stop(&mut self) {
        for node in &mut self.nodes {
            drop(node.child.stdin.take());
        }
        let deadline = Instant::now() + STOP_TIMEOUT;
        for node in &mut self.nodes {
            while matches!(node.child.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        self.kill();
    }

    fn kill(&mut self) {
        for node in &mut self.nodes {
            if matches!(node.child.try_wait(), Ok(None)) {
                // An error means that it ended in between.
                let _ = node.child.kill();
            }
            let _ = node.child.wait();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill();
    }
}

fn create(dir: &Path, operators: usize, policy: fn(usize) -> Policy) -> Result<(), Failure> {
    let mut ports = FreePorts::default();
    let mut new = Vec::new();
    for name in NAMES.iter().take(operators) {
        let domain = format!("{name}.example").parse().map_err(|error| Failure::new("internal", error))?;
        let (p2p, query, admin) = (ports.take()?, ports.take()?, ports.take()?);
        new.push(OperatorPlan {
            domain,
            host: p2p.ip().to_string(),
            bind: vec![p2p.ip()],
            port: p2p.port(),
            query,
            admin,
            endpoints: Endpoints { query: Some(format!("http://{query}")), ..Endpoints::default() },
        });
    }
    let plan = FederationPlan { name: "demo".to_owned(), policy: policy(new.len()), operators: new };
    federation::create(&plan, dir).map(|_| ())
}

fn spawn(program: &Path, dir: &Path, operator: Domain) -> Result<DemoNode, Failure> {
    let system = |error: std::io::Error| Failure::new("system", error);
    let config = dir.join("node.toml");
    let read = fama_node::config::Config::load(&config)?;
    let log = File::options().create(true).append(true).open(dir.join("node.log")).map_err(system)?;
    let child = Command::new(program)
        .args(["node", "--stop-with-stdin", "--config"])
        .arg(&config)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(system)?;
    let p2p = read.network.listen.iter().map(ToString::to_string).find(|address| address.contains("/tcp/"));
    let url = format!("http://{}", read.query.listen);
    Ok(DemoNode {
        operator,
        dir: dir.to_path_buf(),
        query: Query::direct(&url),
        url,
        p2p: p2p.unwrap_or_default(),
        child,
    })
}

/// Free loopback ports. Another process may take one before the node does; the node then fails to start.
#[derive(Default)]
struct FreePorts(Vec<(TcpListener, UdpSocket)>);

impl FreePorts {
    /// A port that is free for TCP and UDP. Stays bound until `self` is dropped, so that none is given twice.
    fn take(&mut self) -> Result<SocketAddr, Failure> {
        for _ in 0..100 {
            let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let tcp = TcpListener::bind(any).map_err(|error| Failure::new("no_port", error))?;
            let address = tcp.local_addr().map_err(|error| Failure::new("no_port", error))?;
            if let Ok(udp) = UdpSocket::bind(address) {
                self.0.push((tcp, udp));
                return Ok(address);
            }
        }
        Err(Failure::new("no_port", "no loopback port is free for both TCP and UDP"))
    }
}

fn sizes(status: &Value) -> Vec<u64> {
    let sizes = status["frontier"].as_object();
    sizes.map(|sizes| sizes.values().filter_map(Value::as_u64).collect()).unwrap_or_default()
}

fn certified_sizes(status: &Value) -> Vec<u64> {
    let sizes = status["certified"].as_object();
    sizes.map(|sizes| sizes.values().filter_map(Value::as_u64).collect()).unwrap_or_default()
}

fn final_sizes(status: &Value) -> bool {
    status["frontier"].is_object() && status["frontier"] == status["certified"]
}

fn row(node: &DemoNode, status: &Value) -> Value {
    json!({
        "operator": node.operator.as_str(),
        "frontier": status["frontier"],
        "certified": status["certified"],
        "state_id": status["state_id"],
    })
}

/// The nodes side by side, for people.
pub(super) fn table(rows: &Value) -> String {
    let mut text = format!("{:16} {:>9} {:>9}  state\n", "node", "entries", "final");
    for row in rows.as_array().into_iter().flatten() {
        let sum = |name: &str| row[name].as_object().map_or(0, |sizes| sizes.values().filter_map(Value::as_u64).sum());
        let state = row["state_id"].as_str().unwrap_or_default();
        let (entries, last): (u64, u64) = (sum("frontier"), sum("certified"));
        text += &format!(
            "{:16} {entries:>9} {last:>9}  {}…\n",
            row["operator"].as_str().unwrap_or_default(),
            &state[..16.min(state.len())]
        );
    }
    text
}
