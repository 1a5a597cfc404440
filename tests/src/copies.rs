//! Real nodes on copied data folders: two processes with one key, and old backups of one node, of most and of all.
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use fama_ledger::id::Domain;
use fama_ledger::log::Head;
use fama_ledger::manifest::LogId;
use fama_ledger::replica::Overrides;
use fama_node::clock;
use fama_node::config::{Config, NetworkSettings};
use fama_node::wire::{Frontier, SyncRequest, SyncResponse};
use fama_tests::{DOMAINS, secret};
use serde_json::{Value, json};

use crate::federation::{LocalFederation, LocalNode, addresses, copy, eventually, free_ports, get, multi};

/// The index in [`LocalFederation::ports`] of the port where the second process with the same key listens.
const SECOND: usize = 4;

impl LocalFederation {
    fn backup(&self, i: usize) -> PathBuf {
        self.dir.path().join(format!("{}.backup", DOMAINS[i]))
    }

    /// Copies the nodes' folders aside. The nodes must be stopped.
    fn back_up(&self, nodes: &[usize]) {
        for i in nodes {
            copy(&self.data(*i), &self.backup(*i));
        }
    }

    /// Puts the backups in place of the folders.
    fn put_back(&self, nodes: &[usize]) {
        for i in nodes {
            std::fs::remove_dir_all(self.data(*i)).unwrap();
            copy(&self.backup(*i), &self.data(*i));
        }
    }

    async fn stop_all(&mut self) {
        for i in 0..self.nodes.len() {
            self.stop(i).await;
        }
    }

    async fn all_write(&self) {
        self.wait("all write", |status| status["waiting"].is_null()).await;
    }

    /// Registers a name in each of the homes and waits until it is final everywhere.
    async fn register_in(&self, homes: &[usize], name: &str) {
        for home in homes {
            let seed = u8::try_from(2 + 2 * (name.len() + home)).unwrap();
            let (_, registration) = self.register(*home, name, &secret(seed));
            self.accepted(*home, registration).await;
        }
        self.settled().await;
    }

    async fn no_faults(&self) {
        for (_, query) in self.up() {
            let federation = get(query, "/api/federation").await;
            let logs = federation["logs"].as_array().unwrap();
            assert!(logs.iter().all(|log| log["fault"].is_null()), "{federation}");
        }
    }

    /// The size of the largest head that each operator cosigned in each log, as the `i`-th node knows it.
    async fn cosigned(&self, i: usize) -> BTreeMap<(LogId, Domain), Head> {
        let asked = Frontier::nothing(&self.manifest, clock::now());
        let answer = self.client(i).await.sync(SyncRequest::Frontier(asked)).await.unwrap();
        let SyncResponse::Frontier(frontier) = answer else { panic!("{answer:?}") };
        let of = |log: fama_node::wire::LogFrontier| {
            log.cosigned.into_iter().map(move |one| ((log.log.clone(), one.cosignature.operator), one.signed.head))
        };
        frontier.logs.into_iter().flat_map(of).collect()
    }
}

/// Waits until a node's status gives this code as the reason why it waits.
async fn waits(query: SocketAddr, code: Value) {
    eventually(&format!("it waits for {code}"), || async {
        let status = get(query, "/api/status").await;
        if status["waiting"] == code { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
}

/// The first operator's node a second time, on its backup and on ports of its own.
fn second(net: &mut LocalFederation) -> Config {
    net.ports.extend(free_ports(1));
    let listen = addresses(net.ports[SECOND]).iter().map(|address| address.parse().unwrap()).collect();
    Config { data_dir: net.backup(0), network: NetworkSettings { listen }, ..net.config(0) }
}

/// A running federation with a backup of its first node.
async fn backed_up() -> LocalFederation {
    let mut net = LocalFederation::running(4).await;
    net.register_in(&[0], "first").await;
    net.stop(0).await;
    net.back_up(&[0]);
    net.start(0).await;
    net.all_write().await;
    net
}

#[test]
fn a_copy_beside_its_node_waits_until_that_ends_and_takes_over_what_it_wrote() {
    multi(async {
        let mut net = backed_up().await;
        let copy = LocalNode::start(second(&mut net)).await;
        waits(copy.query, json!("other_session")).await;
        net.register_in(&[0], "second-name").await;
        assert_eq!(net.refused(SECOND, net.register(0, "third-by-copy", &secret(90)).1).await, "not_ready");
        net.all_write().await;
        net.no_faults().await;

        net.stop(0).await;
        waits(copy.query, json!(null)).await;
        let (_, registration) = net.register(0, "third-by-copy", &secret(90));
        net.accepted(SECOND, registration).await;
        net.shows("third-by-copy@alpha.example", |profile| profile["ledger"]["final"] == true).await;
        net.start(0).await;
        waits(net.nodes[0].as_ref().unwrap().query, json!("other_session")).await;
        copy.stop().await;
        net.all_write().await;
        net.register_in(&[0], "fourth-is-long").await;
        for name in ["first", "second-name", "third-by-copy", "fourth-is-long"] {
            net.shows(&format!("{name}@alpha.example"), |profile| profile["ledger"]["final"] == true).await;
        }
        net.no_faults().await;
    });
}

#[test]
fn two_processes_that_both_write_both_stop() {
    multi(async {
        let mut net = backed_up().await;
        let overrides = Overrides { assume_disk_current: true, ..Overrides::default() };
        let copy = LocalNode::start(Config { overrides, ..second(&mut net) }).await;
        let node = net.nodes[0].as_ref().unwrap().query;
        waits(copy.query, json!("other_session")).await;
        waits(node, json!("other_session")).await;
        assert_eq!(net.refused(0, net.register(0, "nobody", &secret(90)).1).await, "not_ready");
        copy.stop().await;
        waits(node, json!(null)).await;
        net.register_in(&[0], "second-name").await;
        net.no_faults().await;
    });
}

#[test]
fn an_old_backup_waits_for_the_only_other_operator_unless_told_otherwise() {
    multi(async {
        let mut net = LocalFederation::running(2).await;
        net.register_in(&[0, 1], "first").await;
        net.stop_all().await;
        net.back_up(&[0]);
        net.start_all().await;
        net.register_in(&[0, 1], "second-name").await;
        net.stop_all().await;
        let current = net.dir.path().join("current");
        copy(&net.data(0), &current);
        net.put_back(&[0]);
        net.start(0).await;
        assert_eq!(net.refused(0, net.register(0, "too-early", &secret(90)).1).await, "not_ready");
        waits(net.nodes[0].as_ref().unwrap().query, json!("starting")).await;
        net.start(1).await;
        net.all_write().await;
        net.register_in(&[0, 1], "third-after-return").await;
        net.shows("second-name@alpha.example", |profile| profile["ledger"]["final"] == true).await;
        net.no_faults().await;

        net.stop_all().await;
        let overrides = Overrides { assume_disk_current: true, ..Overrides::default() };
        let alone = LocalNode::start(Config { overrides, ..net.config(0) }).await;
        waits(alone.query, json!(null)).await;
        let (_, registration) = net.register(0, "alone", &secret(92));
        net.accepted(0, registration).await;
        alone.stop().await;
        net.start_all().await;
        net.shows("alone@alpha.example", |profile| profile["ledger"]["final"] == true).await;
        net.no_faults().await;
    });
}

/// Three of four go back in time at once: the fourth has everything that they signed.
#[test]
fn old_backups_of_all_but_one_lose_nothing() {
    multi(async {
        let mut net = LocalFederation::running(4).await;
        net.register_in(&[0, 1, 2, 3], "first").await;
        net.stop_all().await;
        net.back_up(&[0, 1, 2]);
        net.start_all().await;
        net.register_in(&[0, 1, 2, 3], "second-name").await;
        let (state, cosigned) = (net.settled().await, net.cosigned(3).await);
        net.stop_all().await;
        net.put_back(&[0, 1, 2]);
        for i in [3, 0, 1, 2] {
            net.start(i).await;
        }
        eventually("all is back", || async {
            let now = net.settled().await;
            if now == state { Ok(()) } else { Err(now) }
        })
        .await;
        net.all_write().await;
        net.register_in(&[0, 1, 2, 3], "third-after-return").await;
        let after = net.cosigned(3).await;
        assert_eq!(after.len(), 16);
        assert!(cosigned.iter().all(|(of, head)| after[of].size > head.size), "{cosigned:?} {after:?}");
        for home in DOMAINS {
            net.shows(&format!("second-name@{home}"), |profile| profile["ledger"]["final"] == true).await;
        }
        net.no_faults().await;
    });
}

/// All go back in time at once: what came after is gone everywhere, so nothing can conflict with it. They agree,
/// continue, and accept again what they forgot.
#[test]
fn old_backups_of_all_forget_together() {
    multi(async {
        let mut net = LocalFederation::running(4).await;
        net.register_in(&[0, 1, 2, 3], "first").await;
        let state = net.settled().await;
        net.stop_all().await;
        net.back_up(&[0, 1, 2, 3]);
        net.start_all().await;
        let forgotten = net.register(0, "second-name", &secret(90)).1;
        net.accepted(0, forgotten.clone()).await;
        net.settled().await;
        net.stop_all().await;
        net.put_back(&[0, 1, 2, 3]);
        net.start_all().await;
        assert_eq!(net.settled().await, state);
        assert!(!net.accepted(1, forgotten).await.known);
        net.settled().await;
        net.shows("second-name@alpha.example", |profile| profile["ledger"]["final"] == true).await;
        net.no_faults().await;
    });
}
