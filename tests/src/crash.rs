//! A node killed while it writes: what it gave a receipt for is there when it comes back, at the same index.
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fama_ledger::id::EventId;
use fama_ledger::proof::TlogProof;
use fama_node::config::Config;
use fama_node::network::client::Client;
use fama_node::network::wire::{Receipt, Submission, SubmitRequest, SubmitResult};
use fama_node::node;
use fama_tests::secret;

use crate::federation::{Net, addresses, eventually, multi};

const PORT: &str = "FAMA_TEST_CRASH_PORT";
const DATA: &str = "FAMA_TEST_CRASH_DATA";
const ROUNDS: u32 = 4;

/// This test binary again, as a node of its own.
struct Killed(Child);

impl Killed {
    fn spawn(net: &Net) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["crash::node_of_its_own", "--exact"])
            .env(PORT, net.ports[0].to_string())
            .env(DATA, net.data(0))
            // What it leaves behind goes with the federation's folder.
            .env("TMPDIR", net.dir.path())
            .stdout(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// No test but the node of [`a_killed_node_has_what_it_gave_receipts_for`], where that asks for one.
#[test]
fn node_of_its_own() {
    let (Ok(port), Some(data)) = (std::env::var(PORT), std::env::var_os(DATA)) else { return };
    multi(async {
        let net = Net::at(vec![port.parse().unwrap()]);
        let config = Config { data_dir: data.into(), ..net.config(0) };
        node::run(config, std::future::pending(), |_| {}).await.unwrap();
    });
}

async fn client(net: &Net) -> Client {
    eventually("the node answers", || async {
        let address = addresses(net.ports[0])[0].parse().unwrap();
        Client::connect(net.manifest.federation(), address).await.map_err(|error| error.to_string())
    })
    .await
}

async fn submit(client: &Client, submission: &Submission) -> Option<Receipt> {
    let request = SubmitRequest { forwarded: false, submissions: vec![submission.clone()] };
    match client.submit(request).await.ok()?.0.pop()? {
        SubmitResult::Accepted(receipt) => Some(receipt),
        SubmitResult::Refused(refusal) => {
            assert!(["not_ready", "busy", "stopping"].contains(&refusal.code.as_str()), "{refusal:?}");
            None
        }
    }
}

#[test]
fn a_killed_node_has_what_it_gave_receipts_for() {
    multi(async {
        let net = Net::new(1);
        let mut given: Vec<(EventId, Submission, u64)> = Vec::new();
        let (mut largest, mut tried) = (0, 0u8);
        for round in 0..ROUNDS {
            let node = Killed::spawn(&net);
            let writer = client(&net).await;
            let killer = tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(300 + u64::from(round) * 137)).await;
                drop(node);
            });
            while !killer.is_finished() {
                if u32::from(tried) >= (round + 1) * 50 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                }
                // A key of its own for each: what was cut off may be in the log, too.
                tried += 1;
                let (id, registration) = net.register(0, &format!("agent-{tried}"), &secret(tried));
                if let Some(receipt) = submit(&writer, &registration).await {
                    let proof: TlogProof = receipt.proof.parse().unwrap();
                    assert!(proof.index >= largest, "a log only grows");
                    largest = proof.index;
                    given.push((id, registration, receipt.index));
                }
            }
        }
        assert!(given.len() > ROUNDS as usize, "{} receipts", given.len());
        let _node = Killed::spawn(&net);
        let reader = client(&net).await;
        for (id, registration, index) in &given {
            let again = eventually("it writes again", || async {
                submit(&reader, registration).await.ok_or_else(|| "not yet".to_owned())
            })
            .await;
            assert_eq!((again.event, again.index, again.known), (*id, *index, true));
        }
    });
}
