//! Fresh nodes: by entries alone, and from certified states while they fetch them.
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fama_ledger::key::Curve;
use fama_ledger::secret::SecretKey;
use fama_node::config::{Config, Network, Verify};
use fama_node::network::wire::{Submission, SubmitRequest, SubmitResult, SyncRequest, SyncResponse};
use fama_tests::{DOMAINS, secret};
use serde_json::Value;

use crate::federation::{Net, Running, eventually, get, multi};

mod stand_in;

use stand_in::{StandIn, Way};

/// How many identities the federations here have beside a few with a story: enough for a quick state.
const IDENTITIES: usize = 1_200;
/// Whom the stories are about, each at home at the first operator but the last.
const AGENTS: [&str; 5] = ["praised", "rotated", "revoked", "retired", "judge"];

/// Four operators with some history, settled; gives the state id.
async fn loaded() -> (Net, String) {
    let net = Net::running(4).await;
    let judge_key = secret(4);
    let judge = net.provider(1, "judge", &judge_key).await;
    let mut agents = Vec::new();
    for (name, seed) in AGENTS.into_iter().zip([6, 8, 10, 12]) {
        let (agent, registration) = net.register(0, name, &secret(seed));
        net.accepted(0, registration).await;
        agents.push(agent);
    }
    for (agent, delta) in [(agents[0], 5), (agents[0], -2), (agents[1], 3), (agents[2], 1)] {
        net.accepted(1, net.attest(1, (judge, &judge_key), agent, delta)).await;
    }
    net.accepted(0, net.rotate(0, (agents[1], 2), &[secret(8), secret(14)])).await;
    net.accepted(0, net.revoke(0, agents[2], &secret(10))).await;
    for (home, part) in [(0, 0..IDENTITIES / 2), (2, IDENTITIES / 2..IDENTITIES)] {
        let many = part.map(|i| {
            let mut seed = [7; 32];
            seed[..8].copy_from_slice(&i.to_le_bytes());
            net.register(home, &format!("many-{i}"), &SecretKey::from_seed(Curve::Ed25519, &seed).unwrap()).1
        });
        submit(&net, home, many.collect()).await;
    }
    let state = net.settled().await;
    (net, state)
}

async fn submit(net: &Net, through: usize, submissions: Vec<Submission>) {
    let client = net.client(through).await;
    for some in submissions.chunks(200) {
        let request = SubmitRequest { forwarded: false, submissions: some.to_vec() };
        for result in client.submit(request).await.unwrap().0 {
            assert!(matches!(result, SubmitResult::Accepted(_)), "{result:?}");
        }
    }
}

/// A node without a log, in a folder of its own.
fn mirror(net: &Net, verify: Verify) -> Config {
    let name = format!("mirror-{}", verify.as_str());
    let seed = if verify == Verify::Full { [98; 32] } else { [99; 32] };
    Config {
        data_dir: net.dir.path().join(name),
        operator: None,
        namespace: None,
        node_key: Arc::new(SecretKey::from_seed(Curve::Ed25519, &seed).unwrap()),
        network: Network { listen: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()] },
        verify,
        ..net.config(0)
    }
}

fn quick_folder(config: &Config) -> PathBuf {
    let mut folder = config.data_dir.clone().into_os_string();
    folder.push(".quick");
    folder.into()
}

async fn reaches(node: &Running, state: &str) {
    eventually("the mirror has all", || async {
        let status = get(node.query, "/api/status").await;
        let there = status["state_id"] == state && status["start"].is_null();
        if there { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
}

/// What a profile says that does not need the history.
fn core_of(mut profile: Value) -> Value {
    for list in ["recent_attestations", "recent_key_events"] {
        profile[list] = Value::Null;
    }
    profile["ledger"].as_object_mut().unwrap().remove("history");
    let identity = profile["identity"].as_object_mut().unwrap();
    identity.remove("dumbname");
    profile
}

/// Everything that is compared: profiles, the ranking.
async fn answers(query: std::net::SocketAddr) -> Vec<Value> {
    let mut all = Vec::new();
    for (name, home) in AGENTS.into_iter().zip([0, 0, 0, 0, 1]) {
        for ask in ["", "?final=1"] {
            all.push(core_of(get(query, &format!("/api/agent/{name}@{}{ask}", DOMAINS[home])).await));
        }
    }
    all.push(core_of(get(query, "/api/agent/many-1100@gamma.example").await));
    let ranking = get(query, "/api/leaderboard?limit=500").await;
    all.push(ranking["agents"].as_array().unwrap().iter().map(|agent| agent["global_karma"].clone()).collect());
    all
}

/// Stand-ins for all nodes of a federation, which are stopped; one way each.
async fn stand_ins(net: &mut Net, ways: [Arc<Way>; 4]) -> Vec<StandIn> {
    let mut all = Vec::new();
    for (i, way) in ways.into_iter().enumerate() {
        net.stop(i).await;
        all.push(StandIn::start(net, i, way).await);
    }
    all
}

fn honest() -> Arc<Way> {
    Arc::new(|_, answer| Some(answer))
}

/// Gives no entries before `open`.
fn holds_entries(open: &Arc<AtomicBool>) -> Arc<Way> {
    let open = Arc::clone(open);
    Arc::new(move |request, answer| match request {
        SyncRequest::Entries { .. } if !open.load(Ordering::Relaxed) => {
            Some(SyncResponse::Refused(fama_node::network::wire::Refusal::new("busy", "later")))
        }
        _ => Some(answer),
    })
}

#[test]
fn a_node_without_entries_answers_as_all_others_from_certified_states() {
    multi(async {
        let (mut net, state) = loaded().await;
        let truth = answers(net.nodes[3].as_ref().unwrap().query).await;
        let open = Arc::new(AtomicBool::new(false));
        let standing = stand_ins(&mut net, [(); 4].map(|()| holds_entries(&open))).await;
        let config = mirror(&net, Verify::Certified);
        let node = Running::start(config.clone()).await;
        let profile = eventually("it answers", || async {
            let profile = get(node.query, "/api/agent/praised@alpha.example").await;
            if profile["ledger"]["history"] == "loading" { Ok(profile) } else { Err(profile.to_string()) }
        })
        .await;
        assert_eq!(profile["recent_attestations"], Value::Array(Vec::new()));
        let status = get(node.query, "/api/status").await;
        assert_eq!((&status["state_id"], &status["start"]["quick"]), (&state.clone().into(), &"answering".into()));
        assert_eq!(status["start"]["entries"], 0);
        assert!(status["start"]["rows"].as_u64().unwrap() > 4 * IDENTITIES as u64, "{status}");
        assert_eq!(answers(node.query).await, truth);
        let ready = get(node.admin, "/readyz").await;
        assert_eq!(ready["warnings"], serde_json::json!(["quick"]), "{ready}");
        assert!(quick_folder(&config).exists());

        open.store(true, Ordering::Relaxed);
        reaches(&node, &state).await;
        assert_eq!(answers(node.query).await, truth);
        let profile = get(node.query, "/api/agent/praised@alpha.example").await;
        assert!(profile["ledger"]["history"].is_null() && profile["recent_attestations"][0].is_object(), "{profile}");
        eventually("the quick state is gone", || async {
            if quick_folder(&config).exists() { Err("it is there".to_owned()) } else { Ok(()) }
        })
        .await;
        node.stop().await;
        for one in standing {
            one.stop().await;
        }
    });
}
