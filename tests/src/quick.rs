//! Fresh nodes: from entries alone, and from certified states while they still fetch the entries.
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fama_ledger::checkpoint::Checkpoint;
use fama_ledger::key::Curve;
use fama_ledger::manifest::LogId;
use fama_ledger::secret::SecretKey;
use fama_ledger::signed_note::SignedNote;
use fama_node::config::{Config, NetworkSettings, Verify};
use fama_node::wire::{Refusal, RowRange, Submission, SubmitRequest, SubmitResult, SyncRequest, SyncResponse};
use fama_tests::{DOMAINS, domain, secret};
use serde_json::Value;

use crate::cli::program;
use crate::crash::SeededRandom;
use crate::federation::{LocalFederation, LocalNode, eventually, free_ports, get, multi};
use crate::governance;

mod forged;
mod stand_in;

use forged::{Forged, ForgeryKind, GHOST};
use stand_in::{AnswerFilter, StandIn};

/// Identities in the federations here, besides the few with a story: enough for a start from certified states.
const IDENTITIES: usize = 1_200;
/// The identities with a story; their home is the first operator's, except the last one's.
const AGENTS: [&str; 5] = ["praised", "rotated", "revoked", "retired", "judge"];

/// Four operators with some history, settled; returns the state id.
async fn loaded() -> (LocalFederation, String) {
    let net = LocalFederation::running(4).await;
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

async fn submit(net: &LocalFederation, through: usize, submissions: Vec<Submission>) {
    let client = net.client(through).await;
    for some in submissions.chunks(200) {
        let request = SubmitRequest { forwarded: false, submissions: some.to_vec() };
        for result in client.submit(request).await.unwrap().0 {
            assert!(matches!(result, SubmitResult::Accepted(_)), "{result:?}");
        }
    }
}

/// A node without a log, in a folder of its own.
fn mirror(net: &LocalFederation, verify: Verify) -> Config {
    let name = format!("mirror-{}", verify.as_str());
    let seed = if verify == Verify::Full { [98; 32] } else { [99; 32] };
    Config {
        data_dir: net.dir.path().join(name),
        operator: None,
        namespace: None,
        node_key: Arc::new(SecretKey::from_seed(Curve::Ed25519, &seed).unwrap()),
        network: NetworkSettings { listen: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()] },
        verify,
        ..net.config(0)
    }
}

fn quick_folder(config: &Config) -> PathBuf {
    let mut folder = config.data_dir.clone().into_os_string();
    folder.push(".quick");
    folder.into()
}

async fn reaches(node: &LocalNode, state: &str) {
    eventually("the mirror has all", || async {
        let status = get(node.query, "/api/status").await;
        let there = status["state_id"] == state && status["start"].is_null() && status["ranking_lag"] == 0;
        if there { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
}

/// The part of a profile that does not need the history.
fn core_of(mut profile: Value) -> Value {
    for list in ["recent_attestations", "recent_key_events"] {
        profile[list] = Value::Null;
    }
    profile["ledger"].as_object_mut().unwrap().remove("history");
    let identity = profile["identity"].as_object_mut().unwrap();
    identity.remove("dumbname");
    profile
}

/// Everything that is compared: profiles and the ranking.
async fn answers(query: SocketAddr) -> Vec<Value> {
    let mut all = Vec::new();
    for (name, home) in AGENTS.into_iter().zip([0, 0, 0, 0, 1]) {
        for ask in ["", "?final=1"] {
            all.push(core_of(get(query, &format!("/api/agent/{name}@{}{ask}", DOMAINS[home])).await));
        }
    }
    all.push(core_of(get(query, "/api/agent/many-1100@gamma.example").await));
    let ranking = get(query, "/api/leaderboard?limit=5").await;
    all.push(ranking["agents"].as_array().unwrap().iter().map(|agent| agent["global_karma"].clone()).collect());
    all
}

/// Compares one by one: a whole list would fill the screen.
fn same(answers: &[Value], truth: &[Value]) {
    assert_eq!(answers.len(), truth.len());
    for (answer, truth) in answers.iter().zip(truth) {
        assert_eq!(answer, truth);
    }
}

/// Stops all nodes of a federation and starts stand-ins in their place, each with its own behaviour.
async fn stand_ins(net: &mut LocalFederation, ways: [Arc<AnswerFilter>; 4]) -> Vec<StandIn> {
    let mut all = Vec::new();
    for (i, way) in ways.into_iter().enumerate() {
        net.stop(i).await;
        all.push(StandIn::start(net, i, way).await);
    }
    all
}

/// Refuses to send entries until `open` is set.
fn holds_entries(open: &Arc<AtomicBool>) -> Arc<AnswerFilter> {
    let open = Arc::clone(open);
    Arc::new(move |request, answer| match request {
        SyncRequest::Entries { .. } if !open.load(Ordering::Relaxed) => {
            Some(SyncResponse::Refused(Refusal::new("busy", "later")))
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
        let node = LocalNode::start(config.clone()).await;
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
        same(&answers(node.query).await, &truth);
        let ready = get(node.admin, "/readyz").await;
        assert_eq!(ready["warnings"], serde_json::json!(["quick"]), "{ready}");
        assert!(quick_folder(&config).exists());

        open.store(true, Ordering::Relaxed);
        reaches(&node, &state).await;
        same(&answers(node.query).await, &truth);
        let profile = get(node.query, "/api/agent/praised@alpha.example").await;
        assert!(profile["ledger"]["history"].is_null() && profile["recent_attestations"][0].is_object(), "{profile}");
        eventually("the quick state is gone", || async {
            if quick_folder(&config).exists() { Err("it is there".to_owned()) } else { Ok(()) }
        })
        .await;
        node.stop().await;
        stopped(standing).await;
    });
}

/// Sends no entries from before the certified states, so that a node's own copies stay empty.
fn only_news(bases: &Arc<Mutex<BTreeMap<LogId, u64>>>, open: &Arc<AtomicBool>) -> Arc<AnswerFilter> {
    let (bases, open) = (Arc::clone(bases), Arc::clone(open));
    Arc::new(move |request, answer| match (request, &answer) {
        (_, SyncResponse::Offers(offers)) => {
            let mut bases = bases.lock().unwrap();
            for offer in offers {
                let note = SignedNote::parse(offer.checkpoint.as_bytes(), 1 << 20).unwrap();
                let Checkpoint { origin, head } = note.text.parse().unwrap();
                let log = LogId { operator: origin.operator, generation: origin.generation };
                bases.entry(log).or_insert(head.size);
            }
            Some(answer)
        }
        (SyncRequest::Entries { log, from, .. }, _) => {
            let news = bases.lock().unwrap().get(log).is_some_and(|base| from >= base);
            let later = SyncResponse::Refused(Refusal::new("busy", "later"));
            Some(if news || open.load(Ordering::Relaxed) { answer } else { later })
        }
        _ => Some(answer),
    })
}

#[test]
fn what_is_said_after_the_certified_states_shows_too_also_after_a_restart() {
    multi(async {
        let (mut net, old) = loaded().await;
        let (open, bases) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let way = || only_news(&bases, &open);
        let standing = stand_ins(&mut net, [way(), way(), way(), way()]).await;
        let config = mirror(&net, Verify::Certified);
        let node = LocalNode::start(config.clone()).await;
        answers_by_now(&node, &old).await;
        node.stop().await;
        stopped(standing).await;

        net.start_all().await;
        let retired = get(net.nodes[0].as_ref().unwrap().query, "/api/agent/retired@alpha.example").await;
        let retired = retired["identity"]["agent_id"].as_str().unwrap().parse().unwrap();
        net.accepted(0, net.revoke(0, retired, &secret(12))).await;
        let (_, registration) = net.register(2, "newcomer", &secret(16));
        net.accepted(2, registration).await;
        let state = net.settled().await;
        let truth = answers(net.nodes[3].as_ref().unwrap().query).await;

        let standing = stand_ins(&mut net, [way(), way(), way(), way()]).await;
        let node = LocalNode::start(config.clone()).await;
        answers_by_now(&node, &state).await;
        same(&answers(node.query).await, &truth);
        let revoked = get(node.query, "/api/agent/retired@alpha.example").await;
        assert_eq!(revoked["key_status"]["is_revoked"], true, "{revoked}");
        assert_eq!(get(node.query, "/api/status").await["start"]["entries"], 0);
        assert_eq!(standing.iter().map(|one| one.asked.count("rows")).sum::<u64>(), 0, "nothing is loaded again");
        assert_eq!(get(node.query, "/api/agent/newcomer@gamma.example").await["ledger"]["history"], "loading");

        open.store(true, Ordering::Relaxed);
        reaches(&node, &state).await;
        same(&answers(node.query).await, &truth);
        node.stop().await;
        stopped(standing).await;
    });
}

/// Waits until the node answers from certified states and has this state id.
async fn answers_by_now(node: &LocalNode, state: &str) {
    eventually("it answers", || async {
        let status = get(node.query, "/api/status").await;
        let answering = status["start"]["quick"] == "answering" && status["ranking_lag"] == 0;
        let there = status["state_id"] == state && answering;
        if there { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
}

async fn stopped(standing: Vec<StandIn>) {
    for one in standing {
        one.stop().await;
    }
}

/// Holds entries back and changes the rows that it sends.
fn changes_rows(open: &Arc<AtomicBool>, lie: fn(&mut RowRange)) -> Arc<AnswerFilter> {
    let holds = holds_entries(open);
    Arc::new(move |request, answer| match holds(request, answer) {
        Some(SyncResponse::Rows(mut rows)) => {
            lie(&mut rows);
            Some(SyncResponse::Rows(rows))
        }
        answer => answer,
    })
}

/// Holds entries back and offers a state with one different map.
fn offers_another(open: &Arc<AtomicBool>) -> Arc<AnswerFilter> {
    let holds = holds_entries(open);
    Arc::new(move |request, answer| match holds(request, answer) {
        Some(SyncResponse::Offers(mut offers)) => {
            offers[0].maps[0].1.0[0] ^= 1;
            Some(SyncResponse::Offers(offers))
        }
        answer => answer,
    })
}

#[test]
fn rows_of_a_lying_peer_come_from_elsewhere() {
    multi(async {
        let (mut net, state) = loaded().await;
        let truth = answers(net.nodes[3].as_ref().unwrap().query).await;
        let open = Arc::new(AtomicBool::new(false));
        let changed = changes_rows(&open, |rows| {
            let last =
                rows.rows.pop().map_or((b"made up".to_vec(), vec![0]), |(key, value)| (key, [value, vec![0]].concat()));
            rows.rows.push(last);
        });
        let dropped = changes_rows(&open, |rows| {
            if rows.rows.pop().is_none() {
                rows.rows.push((b"made up".to_vec(), vec![0]));
            }
        });
        let ways = [changed, dropped, offers_another(&open), holds_entries(&open)];
        let standing = stand_ins(&mut net, ways).await;
        let node = LocalNode::start(mirror(&net, Verify::Certified)).await;
        answers_by_now(&node, &state).await;
        same(&answers(node.query).await, &truth);
        let asked: Vec<u64> = standing.iter().map(|one| one.asked.count("rows")).collect();
        assert!(asked[0] + asked[1] > 0, "a liar was asked: {asked:?}");
        assert!(asked[..2].iter().all(|asked| *asked <= 4) && asked[2] == 0 && asked[3] > 4, "{asked:?}");
        open.store(true, Ordering::Relaxed);
        reaches(&node, &state).await;
        node.stop().await;
        stopped(standing).await;
    });
}

/// A node that only has the genesis, in a federation that has lost an operator since.
#[test]
fn what_a_dead_operator_left_is_in_the_certified_states_of_who_took_it_over() {
    multi(async {
        let (mut net, _) = loaded().await;
        let (_, registration) = net.register(3, "passed-on", &secret(20));
        net.accepted(3, registration).await;
        net.settled().await;
        let genesis = Arc::clone(&net.manifest);
        net.stop(3).await;
        for i in 0..3 {
            net.stand(i, &governance::log(3, 1)).await;
        }
        let mut draft = net.manifest.draft();
        draft.operators.remove(3);
        draft.homes.insert(domain(DOMAINS[3]), governance::log(0, 1));
        draft.cuts.push(net.cut(1, governance::log(3, 1), governance::log(0, 1)).await);
        let note = governance::signed(&draft, &[0, 1, 2]);
        net.publish(0, &note).await;
        net.adopted().await;
        let state = net.settled().await;
        let query = net.nodes[2].as_ref().unwrap().query;
        let truth = (answers(query).await, core_of(get(query, "/api/agent/passed-on@delta.example").await));

        let open = Arc::new(AtomicBool::new(false));
        let mut standing = Vec::new();
        for i in 0..3 {
            net.stop(i).await;
            standing.push(StandIn::start(&net, i, holds_entries(&open)).await);
        }
        let config = Config { manifest: genesis, ..mirror(&net, Verify::Certified) };
        let node = LocalNode::start(config.clone()).await;
        answers_by_now(&node, &state).await;
        let status = get(node.query, "/api/status").await;
        assert_eq!((&status["manifest_version"], &status["start"]["entries"]), (&2.into(), &0.into()), "{status}");
        same(&answers(node.query).await, &truth.0);
        assert_eq!(core_of(get(node.query, "/api/agent/passed-on@delta.example").await), truth.1);

        open.store(true, Ordering::Relaxed);
        reaches(&node, &state).await;
        same(&answers(node.query).await, &truth.0);
        eventually("the quick state is gone", || async {
            if quick_folder(&config).exists() { Err("it is there".to_owned()) } else { Ok(()) }
        })
        .await;
        node.stop().await;
        stopped(standing).await;
    });
}

/// The configuration as a file, for a node process.
fn written(net: &LocalFederation, config: &Config, query: SocketAddr, admin: SocketAddr) -> PathBuf {
    let file = |name: &str, text: String| {
        let path = net.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    file("manifest.txt", net.manifest.chain());
    file("mirror.pem", config.node_key.to_pem().to_string());
    let data = config.data_dir.display();
    let text = format!(
        "data_dir = \"{data}\"\nmanifest = \"manifest.txt\"\nnode_key = \"mirror.pem\"\nverify = \"{}\"\n\
         [network]\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\n[query]\nlisten = \"{query}\"\n[admin]\nlisten = \"{admin}\"\n",
        config.verify.as_str()
    );
    file(&format!("{}.toml", config.verify.as_str()), text)
}

fn listeners() -> [SocketAddr; 2] {
    let ports = free_ports(2);
    [0, 1].map(|i| SocketAddr::from((Ipv4Addr::LOCALHOST, ports[i])))
}

fn spawn(config: &Path) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(config.with_extension("log")).unwrap();
    let mut command = Command::new(program());
    command.args(["node", "--config"]).arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().unwrap()
}

/// A quorum certified a state that the entries do not produce. The node shows it until its own copies have caught up,
/// then never again, and reports it everywhere it can.
#[test]
fn a_wrong_state_that_a_quorum_certified_is_told_and_shown_no_more() {
    multi(async {
        let (mut net, _) = loaded().await;
        let query = net.nodes[3].as_ref().unwrap().query;
        let truth = answers(query).await;
        for i in 0..4 {
            net.stop(i).await;
        }
        for lie in [ForgeryKind::State, ForgeryKind::Tree] {
            let (forged, open) = (Forged::of(&net, lie).await, Arc::new(AtomicBool::new(false)));
            let mut standing = Vec::new();
            for i in 0..4 {
                standing.push(StandIn::start(&net, i, forged.filter(&open)).await);
            }
            let [query, admin] = listeners();
            let config = mirror(&net, Verify::Certified);
            let config = Config { data_dir: config.data_dir.with_extension(format!("{lie:?}")), ..config };
            let file = written(&net, &config, query, admin);
            let mut child = spawn(&file);
            eventually("it answers from the forged state", || async {
                let status = try_get(query, "/api/status").await;
                if status["start"]["quick"] == "answering" { Ok(()) } else { Err(status.to_string()) }
            })
            .await;
            let ghost = format!("/api/agent/{GHOST}@{}", DOMAINS[3]);
            let seen = get(query, &ghost).await["identity"]["dumbname"].is_string();
            assert_eq!(seen, lie == ForgeryKind::State, "{lie:?}");
            assert_eq!(faults(admin).await, 0, "nothing is known yet");

            open.store(true, Ordering::Relaxed);
            eventually("it disagrees", || async {
                let status = get(query, "/api/status").await;
                if status["start"]["quick"] == "disagrees" { Ok(()) } else { Err(status.to_string()) }
            })
            .await;
            let ready = get(admin, "/readyz").await;
            assert!(ready["warnings"].as_array().unwrap().contains(&"quick_disagrees".into()), "{ready}");
            assert_eq!(faults(admin).await, 1);
            let said = std::fs::read_to_string(file.with_extension("log")).unwrap();
            assert_eq!(said.matches("a quorum certified a wrong state").count(), 1, "{said}");
            assert_eq!(get(query, &ghost).await["code"], "unknown_agent", "its own copies have no such name");
            eventually("the quick state is gone", || async {
                if quick_folder(&config).exists() { Err("it is there".to_owned()) } else { Ok(()) }
            })
            .await;
            eventually("its own copies are what is shown", || async {
                let profile = get(query, &format!("/api/agent/praised@{}", DOMAINS[0])).await;
                if core_of(profile.clone())["reputation"] == truth[0]["reputation"] {
                    Ok(())
                } else {
                    Err(profile.to_string())
                }
            })
            .await;
            let federation = get(query, "/api/federation").await;
            let logs = federation["logs"].as_array().unwrap();
            let fault = logs.iter().find(|log| log["operator"] == DOMAINS[3]).map(|log| log["fault"].clone());
            let wanted = if lie == ForgeryKind::State { "invalid_log".into() } else { Value::Null };
            assert_eq!(fault, Some(wanted), "{federation}");
            child.kill().unwrap();
            child.wait().unwrap();
            std::fs::remove_file(file.with_extension("log")).unwrap();
            stopped(standing).await;
        }
    });
}

/// How often the node counted a wrong state that a quorum certified.
async fn faults(admin: SocketAddr) -> u64 {
    let read = move || ureq::get(format!("http://{admin}/metrics")).call().unwrap().body_mut().read_to_string();
    let metrics = tokio::task::spawn_blocking(read).await.unwrap().unwrap();
    let line =
        metrics.lines().find(|line| line.starts_with("fama_node_faults_total") && line.contains("quick_disagrees"));
    line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

/// Slow enough for a kill to hit every stage.
fn slow(open: &Arc<AtomicBool>) -> Arc<AnswerFilter> {
    let holds = holds_entries(open);
    Arc::new(move |request, answer| {
        if matches!(request, SyncRequest::Rows { .. } | SyncRequest::Entries { .. }) {
            std::thread::sleep(Duration::from_millis(60));
        }
        holds(request, answer)
    })
}

#[test]
fn a_node_killed_at_any_moment_of_its_start_goes_on() {
    multi(async {
        let (mut net, state) = loaded().await;
        let open = Arc::new(AtomicBool::new(false));
        let standing = stand_ins(&mut net, [(); 4].map(|()| slow(&open))).await;
        let [query, admin] = listeners();
        let mut random = SeededRandom::begin();
        for verify in [Verify::Certified, Verify::Full] {
            open.store(verify == Verify::Full, Ordering::Relaxed);
            let config = mirror(&net, verify);
            let file = written(&net, &config, query, admin);
            for round in 0..10 {
                let mut child = spawn(&file);
                tokio::time::sleep(Duration::from_millis(50 + random.next() % 1_500)).await;
                child.kill().unwrap();
                child.wait().unwrap();
                if round == 6 {
                    open.store(true, Ordering::Relaxed);
                }
            }
            let mut child = spawn(&file);
            eventually("the node has all", || async {
                let status = try_get(query, "/api/status").await;
                let there = status["state_id"] == state.as_str() && status["start"].is_null();
                if there { Ok(()) } else { Err(status.to_string()) }
            })
            .await;
            child.kill().unwrap();
            child.wait().unwrap();
        }
        stopped(standing).await;
    });
}

/// What a node answers, or `None` while it does not answer.
async fn try_get(query: SocketAddr, path: &str) -> Value {
    let url = format!("http://{query}{path}");
    let get = move || ureq::get(&url).call().ok()?.body_mut().read_json().ok();
    tokio::task::spawn_blocking(get).await.unwrap().unwrap_or_default()
}

#[test]
fn fresh_nodes_join_a_loaded_federation_by_entries_and_from_certified_states() {
    multi(async {
        let (net, state) = loaded().await;
        let full = LocalNode::start(mirror(&net, Verify::Full)).await;
        let certified = LocalNode::start(mirror(&net, Verify::Certified)).await;
        reaches(&full, &state).await;
        reaches(&certified, &state).await;
        let truth = answers(net.nodes[3].as_ref().unwrap().query).await;
        for node in [&full, &certified] {
            same(&answers(node.query).await, &truth);
        }
        let (_, registration) = net.register(3, "latecomer", &secret(18));
        net.accepted(3, registration).await;
        let state = net.settled().await;
        reaches(&full, &state).await;
        reaches(&certified, &state).await;
        full.stop().await;
        certified.stop().await;
    });
}
