//! One operator of four lies: its node answers nobody and floods another with what it forwards. With it come many silent
//! peers, and clients that ask for long answers and hang up. The other three serve honest authors and readers, and come
//! back when they are killed.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fama_cli::federation::OperatorPlan;
use fama_ledger::event::{Action, Event, Method};
use fama_ledger::id::EventId;
use fama_ledger::key::Curve;
use fama_ledger::secret::SecretKey;
use fama_node::wire::{Submission, SubmitRequest, SubmitResult};
use libp2p::identity::Keypair;

use super::forwards::{self, Answered, Forwards};
use super::{
    HONEST_MIN, HonestTraffic, NodeProcess, PATIENCE, RESIDENT_KIB_MAX, World, afterwards, alone, apart, clients, fill,
    no_errors, operators, ready, say, silent, spawn, start, worst,
};
use crate::federation::{multi, signed};

/// Operators whose nodes run; the last one lies.
const HONEST: usize = 3;
/// The most attested agent: how many services attest to it, and how often each.
const SERVICES: usize = 40;
const ATTESTATIONS: usize = 25;
const POPULAR: &str = "popular@alpha.example";
/// What no honest author, reader or operator waits for under attack: about ten times what a busy machine of two cores
/// needs, on which the attackers run too.
const LATE: Duration = Duration::from_secs(15);

fn node_key(folder: &Path) -> SecretKey {
    SecretKey::from_pem(&std::fs::read_to_string(folder.join("node.pem")).unwrap()).unwrap()
}

fn agent_key(seed: u8) -> SecretKey {
    SecretKey::from_seed(Curve::Ed25519, &[seed; 32]).unwrap()
}

/// Has many services, sponsored by two operators, attest to one agent.
async fn popular(worlds: &[Arc<World>], sponsors: &[SecretKey]) {
    let world = &worlds[0];
    let (subject, registration) = world.register("popular", &agent_key(1));
    let keys: Vec<SecretKey> = (0..SERVICES).map(|i| agent_key(2 + u8::try_from(i).unwrap())).collect();
    let services = keys.iter().enumerate().map(|(i, key)| world.register(&format!("service-{i}"), key));
    let (ids, mut registrations): (Vec<EventId>, Vec<Submission>) = services.unzip();
    registrations.push(registration);
    taken(world, registrations).await;
    for (at, sponsor) in worlds.iter().zip(sponsors) {
        let admission = |(i, provider): (usize, &EventId)| {
            let service = format!("service-{i}").parse().unwrap();
            let domain = format!("service-{i}.example").parse().unwrap();
            let (operator, provider, method) = (at.home.clone(), *provider, Method::Manual);
            at.event(Action::Admit { operator, provider, service, domain, method, from: 0 })
        };
        let admissions: Vec<Event> = ids.iter().enumerate().map(admission).collect();
        let last = admissions.last().unwrap().id();
        taken(at, admissions.into_iter().map(|event| signed(event, sponsor)).collect()).await;
        world.is_final(last).await;
    }
    for (issuer, key) in ids.into_iter().zip(&keys) {
        let attestation = |_| {
            let home = world.home.clone();
            signed(world.event(Action::Attest { home, issuer, subject, delta: 1, context: None, note: None }), key)
        };
        taken(world, (0..ATTESTATIONS).map(attestation).collect()).await;
    }
}

/// Submits to the node of a world, before the attack.
async fn taken(world: &World, submissions: Vec<Submission>) {
    let client = world.client().await.unwrap();
    let answer = client.submit(SubmitRequest { forwarded: false, submissions }).await.unwrap();
    client.close().await;
    for result in answer.0 {
        assert!(matches!(result, SubmitResult::Accepted(_)), "{result:?}");
    }
}

/// Registers through node `at`, in one home after the other.
async fn author(worlds: Vec<Arc<World>>, at: usize) -> HonestTraffic {
    let (mut honest, mut client, world) = (HonestTraffic::default(), None, &worlds[at]);
    while Instant::now() < world.ends || honest.receipts.len() < HONEST_MIN {
        let count = honest.receipts.len();
        if count % 8 == 7 {
            client = None;
        }
        let (id, submission) = worlds[(at + count) % worlds.len()].registration(&format!("honest-{at}-{count}"));
        honest.receipts.push(world.accepted(&mut client, &submission).await);
        honest.finals.push(world.is_final(id).await);
    }
    honest
}

/// Reads the most attested agent's profile.
async fn reader(world: Arc<World>) -> HonestTraffic {
    let mut honest = HonestTraffic::default();
    while Instant::now() < world.ends || honest.answers.len() < HONEST_MIN {
        let begun = Instant::now();
        loop {
            match clients::get(world.query, &format!("/api/agent/{POPULAR}")).await {
                Ok(profile) if profile["reputation"].is_object() => break,
                other => assert!(begun.elapsed() < PATIENCE, "no answer in {PATIENCE:?}: {other:?}"),
            }
        }
        honest.answers.push(begun.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    honest
}

/// Ends a node with this signal and starts it again; returns how long it takes from then until `/readyz` is 200.
async fn restarted(node: &mut NodeProcess, of: &(OperatorPlan, PathBuf), signal: &str) -> Duration {
    let kill = Command::new("kill").args([signal, &node.child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    node.child.wait().unwrap();
    let begun = Instant::now();
    *node = start(of);
    loop {
        match clients::get(node.admin, "/readyz").await {
            Ok(answer) if answer["status"] == "ready" => return begun.elapsed(),
            other => assert!(begun.elapsed() < PATIENCE, "not ready in {PATIENCE:?}: {other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The middle one, the one that 99 of 100 do not exceed, and the longest, in milliseconds.
fn spread(all: &[Duration]) -> String {
    let mut sorted = all.to_vec();
    sorted.sort_unstable();
    let at = |percent: usize| sorted[(sorted.len() - 1) * percent / 100].as_millis();
    format!("{:>4} of {:>6} {:>6} {:>6} ms", all.len(), at(50), at(99), at(100))
}

fn tell(what: &str, traffic: &[(HonestTraffic, HonestTraffic)]) {
    for (at, (author, reader)) in traffic.iter().enumerate() {
        let node = fama_tests::DOMAINS[at];
        say(format!("{what} {node:14} receipts {}", spread(&author.receipts)));
        say(format!("{what} {node:14} final    {}", spread(&author.finals)));
        say(format!("{what} {node:14} profiles {}", spread(&reader.answers)));
    }
}

/// Authors and readers at every honest node, until the time is over.
async fn honest(worlds: &[Arc<World>]) -> Vec<(HonestTraffic, HonestTraffic)> {
    let begin =
        |(at, world): (usize, &Arc<World>)| (apart(author(worlds.to_vec(), at)), apart(reader(Arc::clone(world))));
    let mut traffic = Vec::new();
    for (author, reader) in worlds.iter().enumerate().map(begin).collect::<Vec<_>>() {
        traffic.push((author.await.unwrap(), reader.await.unwrap()));
    }
    traffic
}

#[test]
fn an_operator_that_lies_and_silent_peers_hold_up_nobody() {
    let _alone = alone();
    multi(async {
        let (_dir, manifest, folders) = operators(4);
        let mut nodes = spawn(&folders[..HONEST]);
        for node in &nodes {
            ready(node.query).await;
        }
        let again = || folders[..HONEST].iter().map(|of| Arc::new(World::new(&manifest, of))).collect::<Vec<_>>();
        let worlds = again();
        fill(&worlds[0]).await;
        let sponsors: Vec<SecretKey> = folders[..2].iter().map(|(_, folder)| node_key(folder)).collect();
        popular(&worlds, &sponsors).await;
        let quiet = restarted(&mut nodes[0], &folders[0], "-TERM").await;
        for node in &nodes {
            ready(node.query).await;
        }

        let liar_key = node_key(&folders[HONEST].1);
        let forwards = Forwards::new(&worlds[0], &World::new(&manifest, &folders[HONEST]), &liar_key);
        let worlds = again();
        let mut seed = liar_key.ed25519().unwrap().to_bytes();
        let identity = Keypair::ed25519_from_bytes(&mut seed).unwrap();
        let flood = tokio::spawn(forwards::flood(Arc::clone(&worlds[0]), forwards, identity));
        let silent = tokio::spawn(silent::peers(worlds.clone()));
        let leaving = worlds.iter().map(|world| tokio::spawn(clients::hangs_up(Arc::clone(world), POPULAR)));
        let leaving: Vec<_> = leaving.collect();
        let traffic = honest(&worlds).await;
        let back = restarted(&mut nodes[0], &folders[0], "-TERM").await;
        worlds.iter().for_each(|world| world.over.store(true, Ordering::Relaxed));

        let during = nodes.iter().map(|node| node.memory("VmHWM")).collect::<Vec<_>>();
        let (answered, unanswered) = (flood.await.unwrap(), silent.await.unwrap());
        say(format!("{} silent peers left {unanswered} requests unanswered", silent::count()));
        struck(&answered);
        let mut left = 0;
        for clients in leaving {
            left += clients.await.unwrap();
        }
        say(format!("clients that hang up: {left}; peak {during:?} KiB"));
        tell("median, 99%, longest:", &traffic);
        say(format!("ready after a start: {quiet:?} in quiet, {back:?} under attack"));
        assert!(unanswered > 0 && left > 0, "attacks that never struck");
        for (author, reader) in &traffic {
            let longest = [&author.receipts, &author.finals, &reader.answers].map(|all| worst(all));
            assert!(longest.iter().all(|longest| *longest < LATE), "receipts, final events, profiles: {longest:?}");
        }
        assert!(back < LATE, "{back:?}");
        assert!(during.iter().all(|peak| *peak < RESIDENT_KIB_MAX), "{during:?} KiB");
        afterwards(&worlds[0], &nodes).await;
        folders[..HONEST].iter().for_each(|(_, folder)| no_errors(folder));
        if super::seconds() >= silent::LONG {
            after_a_kill(&worlds, &mut nodes[0], &folders[0]).await;
        }
    });
}

/// Nodes find out that connections to a killed node are dead when nothing answers there, also if it is back at once.
async fn after_a_kill(worlds: &[Arc<World>], node: &mut NodeProcess, of: &(OperatorPlan, PathBuf)) {
    let ready = restarted(node, of, "-KILL").await;
    let begun = Instant::now();
    let (id, submission) = worlds[0].registration("after-a-kill");
    worlds[1].accepted(&mut None, &submission).await;
    worlds[1].is_final(id).await;
    say(format!("ready after a kill: {ready:?}; what another node sends there then is final in {:?}", begun.elapsed()));
}

/// Prints what the attacked node answered to the lying operator; each kind was answered.
fn struck(answered: &Answered) {
    let mut kinds: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for ((kind, result), count) in answered {
        kinds.entry(format!("{kind:?}")).or_default().push(format!("{result} {count}"));
    }
    assert_eq!(kinds.len(), 4, "forwards that never struck: {kinds:?}");
    for (kind, mut results) in kinds {
        results.sort();
        say(format!("forwards: {kind}: {}", results.join(", ")));
    }
}
