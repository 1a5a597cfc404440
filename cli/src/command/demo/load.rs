//! Loads ratings: people become identities, raters become providers, ratings become attestations.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fama_ledger::event::{Action, Method};
use fama_ledger::id::{Domain, EventId};
use fama_ledger::key::Curve;
use fama_ledger::secret::SecretKey;
use fama_node::network::client::Client;
use fama_node::wire::{SUBMISSIONS_MAX, Submission};
use futures::stream::{self, StreamExt, TryStreamExt};
use indicatif::ProgressBar;
use rayon::prelude::*;
use serde_json::{Value, json};

use super::cluster::Cluster;
use super::ratings::Rating;
use super::{print_step, submit};
use crate::author::{self, EventDraft};
use crate::failure::Failure;
use crate::files;
use crate::progress;
use crate::terminal::Terminal;

/// Requests in flight to one node.
const IN_FLIGHT: usize = 3;
/// The service as which all raters are admitted.
const SERVICE: &str = "ratings";
/// The domain of the service.
const SERVICE_DOMAIN: &str = "ratings.example";

/// A person in the ratings, with the node of its home.
struct Person {
    at: usize,
    home: Domain,
    key: SecretKey,
    id: EventId,
}

/// The measurements of one phase.
struct Phase {
    name: &'static str,
    events: usize,
    seconds: f64,
}

/// Loads everything in three phases; each needs the previous one to have reached every node.
pub(super) async fn load(
    cluster: &mut Cluster,
    clients: &[Client],
    ratings: &[Rating],
    terminal: &mut Terminal<'_>,
) -> Result<(), Failure> {
    let begun = Instant::now();
    let (mut people, registrations) = people(cluster, ratings)?;
    let sources: BTreeSet<u32> = ratings.iter().map(|rating| rating.source).collect();
    let mut phases = Vec::new();
    phases.push(send("identities", clients, registrations).await.map_err(loaded_before)?);
    let admissions = admissions(cluster, &people, &sources)?;
    phases.push(send("admissions", clients, admissions).await?);
    cluster.wait_until_final(Duration::from_secs(60)).await?;
    let attestations = attestations(cluster, &mut people, ratings)?;
    phases.push(send("attestations", clients, attestations).await?);
    let settled = Instant::now();
    cluster.wait_until_final(Duration::from_secs(60)).await?;
    report(terminal, &phases, settled.elapsed().as_secs_f64(), begun.elapsed().as_secs_f64())?;
    top_ten(cluster, terminal).await
}

/// Explains why ratings cannot be loaded twice: the keys of their people are not kept.
fn loaded_before(failure: Failure) -> Failure {
    if failure.code != "name_taken" {
        return failure;
    }
    Failure::new("loaded_before", "people of these ratings are already in this federation")
        .hint("leave out --ratings to continue with them, or name another folder")
}

/// Every person with a new key, and the registrations by node.
fn people(cluster: &Cluster, ratings: &[Rating]) -> Result<(BTreeMap<u32, Person>, Vec<Vec<Submission>>), Failure> {
    let ids: BTreeSet<u32> = ratings.iter().flat_map(|rating| [rating.source, rating.target]).collect();
    let ids: Vec<u32> = ids.into_iter().collect();
    let made: Vec<(u32, Person, Submission)> =
        ids.par_iter().map(|id| person(cluster, *id)).collect::<Result<_, _>>()?;
    let mut queues = queues(cluster);
    let mut people = BTreeMap::new();
    for (id, person, submission) in made {
        push(&mut queues, person.at, submission);
        people.insert(id, person);
    }
    Ok((people, queues))
}

fn person(cluster: &Cluster, id: u32) -> Result<(u32, Person, Submission), Failure> {
    let at = usize::try_from(id).unwrap_or_default() % cluster.nodes.len().max(1);
    let home = cluster.nodes.get(at).map(|node| node.operator.clone());
    let home = home.ok_or_else(|| Failure::new("internal", "no nodes"))?;
    let key = files::draw_key(Curve::Secp256k1)?;
    let name = format!("person-{id}").parse().map_err(|error| Failure::new("internal", error))?;
    let action = Action::Register { home: home.clone(), name, key: key.public(), next: None, note: None };
    let submission = EventDraft::new(author::event(cluster.federation(), action)?, &key).sign_unchecked();
    let person = Person { at, home, id: submission.signed.event.id(), key };
    Ok((id, person, submission))
}

/// Admits every rater by as many operators as the policy needs, spread over all of them.
fn admissions(
    cluster: &Cluster,
    people: &BTreeMap<u32, Person>,
    sources: &BTreeSet<u32>,
) -> Result<Vec<Vec<Submission>>, Failure> {
    let sponsors = usize::try_from(cluster.manifest.policy().min_sponsors).unwrap_or(usize::MAX);
    let mut queues = queues(cluster);
    for (at, node) in cluster.nodes.iter().enumerate() {
        let key = files::read_key(&node.dir.join(crate::federation::NODE_KEY_FILE))?;
        let count = cluster.nodes.len();
        let mine =
            people.iter().filter(|(id, person)| sources.contains(id) && (at + count - person.at) % count < sponsors);
        let mine: Vec<EventId> = mine.map(|(_, person)| person.id).collect();
        let signed: Vec<Submission> = mine
            .par_iter()
            .map(|provider| {
                let action = Action::Admit {
                    operator: node.operator.clone(),
                    provider: *provider,
                    service: SERVICE.parse().map_err(|error| Failure::new("internal", error))?,
                    domain: SERVICE_DOMAIN.parse().map_err(|error| Failure::new("internal", error))?,
                    method: Method::Manual,
                    from: 0,
                };
                Ok(EventDraft::new(author::event(cluster.federation(), action)?, &key).sign_unchecked())
            })
            .collect::<Result<_, Failure>>()?;
        signed.into_iter().for_each(|submission| push(&mut queues, at, submission));
    }
    Ok(queues)
}

fn attestations(
    cluster: &Cluster,
    people: &mut BTreeMap<u32, Person>,
    ratings: &[Rating],
) -> Result<Vec<Vec<Submission>>, Failure> {
    let people = &*people;
    let signed: Vec<(usize, Submission)> = ratings
        .par_iter()
        .map(|rating| {
            let (Some(source), Some(target)) = (people.get(&rating.source), people.get(&rating.target)) else {
                return Err(Failure::new("internal", "everybody was registered"));
            };
            let (home, issuer, subject) = (source.home.clone(), source.id, target.id);
            let action = Action::Attest { home, issuer, subject, delta: rating.delta(), context: None, note: None };
            Ok((source.at, EventDraft::new(author::event(cluster.federation(), action)?, &source.key).sign_unchecked()))
        })
        .collect::<Result<_, Failure>>()?;
    let mut queues = queues(cluster);
    signed.into_iter().for_each(|(at, submission)| push(&mut queues, at, submission));
    Ok(queues)
}

fn queues(cluster: &Cluster) -> Vec<Vec<Submission>> {
    cluster.nodes.iter().map(|_| Vec::new()).collect()
}

fn push(queues: &mut [Vec<Submission>], at: usize, submission: Submission) {
    if let Some(queue) = queues.get_mut(at) {
        queue.push(submission);
    }
}

/// Submits each queue to its node, all nodes at the same time, with [`IN_FLIGHT`] requests each.
async fn send(name: &'static str, clients: &[Client], queues: Vec<Vec<Submission>>) -> Result<Phase, Failure> {
    let begun = Instant::now();
    let events = queues.iter().map(Vec::len).sum();
    let bar = Arc::new(progress::bar(events as u64, name));
    let queues = clients.iter().zip(queues).map(|(client, queue)| send_queue(client, queue, Arc::clone(&bar)));
    let done = futures::future::try_join_all(queues).await;
    bar.finish_and_clear();
    done.map(|_| Phase { name, events, seconds: begun.elapsed().as_secs_f64() })
}

async fn send_queue(client: &Client, queue: Vec<Submission>, bar: Arc<ProgressBar>) -> Result<(), Failure> {
    let requests: Vec<Vec<Submission>> = queue.chunks(SUBMISSIONS_MAX).map(<[Submission]>::to_vec).collect();
    let sent = stream::iter(requests).map(|request| submit(client, request)).buffered(IN_FLIGHT);
    sent.try_for_each(|count| {
        bar.inc(count as u64);
        std::future::ready(Ok(()))
    })
    .await
}

fn report(terminal: &mut Terminal<'_>, phases: &[Phase], settling: f64, all: f64) -> Result<(), Failure> {
    let mut text = String::from("Loaded over libp2p; every signature was made and checked:\n\n");
    for Phase { name, events, seconds } in phases {
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = *events as f64 / seconds.max(0.001);
        text += &format!("  {events:>7} {name:14} {seconds:6.1} s  {rate:7.0} per second\n");
    }
    text += &format!("\nAll final on all nodes {settling:.1} s later; {all:.1} s in total.\n");
    let rows: Vec<Value> = phases
        .iter()
        .map(|phase| json!({"what": phase.name, "events": phase.events, "seconds": phase.seconds}))
        .collect();
    print_step(terminal, &json!({"phase": "loaded", "steps": rows, "settled_seconds": settling, "seconds": all}), &text)
}

async fn top_ten(cluster: &Cluster, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let board = cluster.get(0, &["leaderboard"], &[("limit", "10".to_owned())]).await?;
    let mut text = String::from("The ten agents with the most karma:\n\n");
    for agent in board["agents"].as_array().into_iter().flatten() {
        let name = agent["dumbname"].as_str().unwrap_or_default();
        text += &format!("  {:>6}  {name} ({} attestations)\n", agent["global_karma"], agent["attestation_count"]);
    }
    print_step(terminal, &json!({"phase": "leaderboard", "agents": board["agents"]}), &text)
}
