//! A federation whose nodes are processes of their own, with what they need in a temporary folder.
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use fama_cli::synthetic;
use fama_ledger::entry::SignedEvent;
use fama_ledger::manifest::{Endpoints, Manifest, Policy};
use fama_node::network::client::Client;
use fama_node::wire::{Submission, SubmitRequest, SubmitResult};
use serde_json::Value;

use crate::grow::asking::{Connection, RunningNode};
use crate::renewals::{addresses, domain, key, manifest, ports};

/// Nodes beyond the operators': mirrors.
const MIRRORS: usize = 2;
/// Ports of a node: for peers, queries, submissions and its operator.
const PORTS: usize = 4;

pub(super) struct Net {
    pub(super) manifest: Arc<Manifest>,
    operators: usize,
    ports: Vec<u16>,
    dir: tempfile::TempDir,
}

impl Net {
    /// So many operators, none of them running yet. One sponsor is enough, and no daily limit is reached.
    pub(super) fn new(operators: usize) -> Self {
        let (ports, dir) = (ports(PORTS * (operators + MIRRORS)), tempfile::tempdir().unwrap());
        let own: Vec<u16> = ports.iter().copied().step_by(PORTS).take(operators).collect();
        let policy = Policy { min_sponsors: 1, ..synthetic::policy(operators) };
        let manifest = Arc::new(manifest(&own, policy, |_| Endpoints::default()));
        fs::write(dir.path().join("manifest.txt"), manifest.note().to_string()).unwrap();
        Self { manifest, operators, ports, dir }
    }

    /// The folder of the data of node `i`.
    pub(super) fn data(&self, i: usize) -> PathBuf {
        self.dir.path().join(format!("data-{i}"))
    }

    /// Starts a node, without waiting for it: that of operator `i`, or, after those, a mirror.
    pub(super) fn spawn(&self, i: usize, verify: &str) -> RunningNode {
        let [p2p, query, submit, admin] = self.ports[PORTS * i..][..PORTS].try_into().unwrap();
        let own = if i < self.operators { format!("operator = \"{}\"\n", domain(i)) } else { String::new() };
        let text = format!(
            "data_dir = \"data-{i}\"\nmanifest = \"manifest.txt\"\nnode_key = \"node-{i}.pem\"\nverify = \"{verify}\"\n{own}\
             [network]\nlisten = [\"/ip4/127.0.0.1/tcp/{p2p}\", \"/ip4/127.0.0.1/udp/{p2p}/quic-v1\"]\n\
             [query]\nlisten = \"127.0.0.1:{query}\"\nrequests_per_second = 0\n\
             trusted_proxies = [\"127.0.0.1\"]\n\
             [submit]\nlisten = \"127.0.0.1:{submit}\"\n\
             [admin]\nlisten = \"127.0.0.1:{admin}\"\n[scrub]\nbytes_per_second = 0\n[domains]\nevery_seconds = 0\n"
        );
        let at = |name: String| self.dir.path().join(name);
        fs::write(at(format!("node-{i}.toml")), text).unwrap();
        let pem = at(format!("node-{i}.pem"));
        if !pem.exists() {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(pem).unwrap();
            file.write_all(key(i).to_pem().as_bytes()).unwrap();
        }
        RunningNode::spawn(&at(format!("node-{i}.toml")), &at(format!("node-{i}.log")), (query, submit))
    }

    /// Starts the nodes of all operators, and waits until they are ready.
    pub(super) fn start(&self) -> Vec<RunningNode> {
        let mut nodes: Vec<_> = (0..self.operators).map(|i| self.spawn(i, "full")).collect();
        nodes.iter_mut().for_each(RunningNode::ready);
        nodes
    }

    /// Hands in events that build on one another, in their order, at the first operator's node.
    pub(super) fn submit(&self, batches: impl Iterator<Item = Vec<SignedEvent>>) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let address = addresses(self.ports[0])[0].parse().unwrap();
            let client = Client::connect(self.manifest.federation(), address).await.unwrap();
            for batch in batches {
                let whole = |signed| Submission { signed, note: None, invite: None, recovered: None };
                let submissions = batch.into_iter().map(whole).collect();
                let answer = client.submit(SubmitRequest { forwarded: false, submissions }).await.unwrap();
                assert!(answer.0.iter().all(|one| matches!(one, SubmitResult::Accepted(_))), "{answer:?}");
            }
            client.close().await;
        });
    }

    /// Audits the data folder of a node that has been stopped. How many entries it read.
    pub(super) fn audit(&self, i: usize) -> u64 {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["audit", "--json", "--manifest"]).arg(self.dir.path().join("manifest.txt")).arg(self.data(i));
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        entries(&serde_json::from_str::<Value>(&said).unwrap())
    }
}

/// The entries that an audit's report names, of all logs.
fn entries(report: &Value) -> u64 {
    report["logs"].as_array().unwrap().iter().map(|log| log["size"].as_u64().unwrap()).sum()
}

/// How many entries of the first log a node has, and has certified.
pub(super) fn sizes(connection: &mut Connection) -> (u64, u64) {
    let status: Value = serde_json::from_slice(&connection.get("/api/status").unwrap()).unwrap();
    let size = |name: &str| {
        let first = |(log, size): (&String, &Value)| log.starts_with("op-0.").then(|| size.as_u64()).flatten();
        status[name].as_object().and_then(|logs| logs.iter().find_map(first)).unwrap_or(0)
    };
    (size("frontier"), size("certified"))
}

/// Whether a node answers from certified states while it makes its own copies.
pub(super) fn is_answering_meanwhile(connection: &mut Connection) -> bool {
    let status: Value = serde_json::from_slice(&connection.get("/api/status").unwrap()).unwrap();
    status["start"]["quick"] == "answering"
}

/// Waits until something is so.
pub(super) fn until(what: &str, longest: Duration, mut is_so: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < longest, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
