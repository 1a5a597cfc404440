//! An owner that shows each honest operator a different branch, with real nodes: it is proven, its log is cut by
//! commands, and its home gets a successor.
use fama_ledger::log::Head;
use fama_ledger::replica::Overrides;
use fama_node::config::Config;
use fama_tests::{DOMAINS, secret};
use serde_json::Value;

use crate::cli::UserFolder;
use crate::federation::{LocalFederation, copy, eventually, get, multi};

/// The index of the equivocating operator.
const OWNER: usize = 3;
/// The equivocator's log.
const LOG: &str = "delta.example/1";

impl LocalFederation {
    /// The operator confirms that its disk holds everything that it signed.
    fn alone(&self, i: usize) -> Config {
        Config { overrides: Overrides { assume_disk_current: true, ..Overrides::default() }, ..self.config(i) }
    }

    /// A node's view of the owner's log.
    async fn owners_log(&self, i: usize) -> Value {
        let shown = get(self.nodes[i].as_ref().unwrap().query, "/api/federation").await;
        let logs = shown["logs"].as_array().into_iter().flatten();
        logs.into_iter().find(|log| log["log"] == LOG).cloned().unwrap_or_default()
    }

    /// On a copy of its folder, the owner registers a name that it shows to this one operator only, who cosigns it.
    pub(crate) async fn shows_to(&mut self, i: usize, folder: &std::path::Path) -> Head {
        let _ = std::fs::remove_dir_all(self.data(OWNER));
        copy(folder, &self.data(OWNER));
        self.start_with(OWNER, self.alone(OWNER)).await;
        self.start_with(i, self.alone(i)).await;
        self.wait("both write", |status| status["waiting"].is_null()).await;
        let (_, registration) = self.register(OWNER, &format!("only-on-{i}"), &secret(10 + 2 * i as u8));
        let receipt = self.accepted(OWNER, registration).await;
        let head = eventually("it cosigns", || async {
            let log = self.owners_log(i).await;
            let cosignatures = log["cosignatures"].as_array().into_iter().flatten();
            let own = cosignatures.into_iter().find(|one| one["operator"] == DOMAINS[i]);
            let size = own.map_or(0, |own| own["size"].as_u64().unwrap());
            let root = log["root"].as_str().unwrap_or_default().parse();
            match root {
                Ok(root) if size > receipt.index && log["size"] == size => Ok(Head { size, root }),
                _ => Err(log.to_string()),
            }
        })
        .await;
        self.stop(i).await;
        self.stop(OWNER).await;
        head
    }
}

#[test]
fn an_owner_with_a_branch_for_each_operator_is_cut_and_succeeded() {
    multi(async {
        let mut net = LocalFederation::running(4).await;
        let (_, registration) = net.register(OWNER, "on-all-branches", &secret(2));
        net.accepted(OWNER, registration).await;
        net.settled().await;
        for i in 0..4 {
            net.stop(i).await;
        }
        let before = net.dir.path().join("before");
        copy(&net.data(OWNER), &before);
        let mut heads = Vec::new();
        for i in 0..3 {
            heads.push(net.shows_to(i, &before).await);
        }
        heads.sort_unstable();
        heads.dedup();
        assert_eq!(heads.len(), 3, "three branches");

        for i in 0..3 {
            net.start(i).await;
        }
        for i in 0..3 {
            eventually("the proof is everywhere", || async {
                let log = net.owners_log(i).await;
                if log["fault"] == "equivocation" { Ok(()) } else { Err(log.to_string()) }
            })
            .await;
        }
        let user = UserFolder::new(&net);
        user.stand(LOG, &[0, 1, 2]).await;
        let from = "--from query:0 --from query:1 --from query:2";
        let line = format!("federation draft {from} --remove delta.example --successor alpha.example");
        user.done(&format!("{line} --policy min_sponsors=1 --out file:cut")).await;
        user.carry("cut", &[0, 1, 2]).await;
        let shown = user.uses(2).await;
        let cut = &shown["cuts"][0];
        assert!(heads.iter().any(|head| cut["root"] == head.root.to_string()), "on one of the branches: {cut}");
        for name in ["on-all-branches", "only-on-0", "only-on-1", "only-on-2"] {
            net.shows(&format!("{name}@delta.example"), |profile| profile["ledger"]["final"] == true).await;
        }
        net.settled().await;
        let (_, late) = net.register(OWNER, "after-all-that", &secret(30));
        let receipt = net.accepted(1, late).await;
        assert_eq!(receipt.log.operator.as_str(), DOMAINS[0], "the home continues");
        net.settled().await;
    });
}
