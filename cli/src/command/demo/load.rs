//! Loads ratings, of a file or made up: people become identities, raters become providers, ratings become attestations.
//!
//! Events are signed as they are sent: what is in flight is in memory, not the file. So an event is never older than
//! the few minutes within which nodes accept it, however long the file is.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use fama_ledger::event::{Action, Method, RevokeReason};
use fama_ledger::id::{Domain, EventId, FederationId};
use fama_ledger::key::Curve;
use fama_ledger::secret::SecretKey;
use fama_node::network::client::Client;
use fama_node::wire::{SUBMISSIONS_MAX, Submission};
use futures::future::try_join_all;
use futures::stream::{self, StreamExt, TryStreamExt};
use indicatif::ProgressBar;
use rayon::prelude::*;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::cluster::Cluster;
use super::ratings::{self, Overview};
use super::{print_step, submit};
use crate::author::{self, EventDraft};
use crate::failure::Failure;
use crate::files;
use crate::progress::{self, ProgressLines};
use crate::synthetic::{Step, Workload};
use crate::terminal::Terminal;

/// Requests in flight to one node, and signed ones that wait for it.
const IN_FLIGHT: usize = 3;
/// Events that are signed at a time, on all cores.
const SIGNED_AT_ONCE: usize = 1_024;
/// The service as which all raters are admitted.
const SERVICE: &str = "ratings";
/// The domain of the service.
const SERVICE_DOMAIN: &str = "ratings.example";

/// What is loaded.
pub(super) enum Source {
    /// A file of ratings.
    File {
        /// Where it is; it is read again while its ratings are loaded.
        path: PathBuf,
        /// Its people.
        overview: Overview,
    },
    /// Ratings that are made up.
    Synthetic(Arc<Workload>),
}

/// Events, in order.
type Steps = Box<dyn Iterator<Item = Result<Step, Failure>> + Send>;

impl Source {
    /// Everybody, by number.
    fn people(&self) -> Vec<u32> {
        match self {
            Self::File { overview, .. } => overview.people.iter().copied().collect(),
            Self::Synthetic(workload) => (0..workload.shape().identities).collect(),
        }
    }

    /// Those who attest.
    fn raters(&self) -> Vec<u32> {
        match self {
            Self::File { overview, .. } => overview.sources.iter().copied().collect(),
            Self::Synthetic(workload) => (0..workload.providers()).collect(),
        }
    }

    /// A person's first key.
    fn key(&self, id: u32) -> Result<SecretKey, Failure> {
        match self {
            Self::File { .. } => files::draw_key(Curve::Secp256k1),
            Self::Synthetic(workload) => workload.key(id, 1).map_err(internal),
        }
    }

    /// All attestations, and their number.
    fn attestations(&self) -> Result<(u64, Steps), Failure> {
        match self {
            Self::File { path, overview } => {
                let attestation = |rating: ratings::Rating| Step::Attest {
                    issuer: rating.source,
                    subject: rating.target,
                    delta: rating.delta(),
                };
                Ok((overview.count, Box::new(ratings::open(path)?.map(move |rating| rating.map(attestation)))))
            }
            Self::Synthetic(workload) => Ok(chosen(workload, |step| matches!(step, Step::Attest { .. }))),
        }
    }

    /// All changes of keys, and their number; each person has at most one.
    fn changes(&self) -> (u64, Steps) {
        match self {
            Self::File { .. } => (0, Box::new(std::iter::empty())),
            Self::Synthetic(workload) => {
                chosen(workload, |step| matches!(step, Step::Rotate { .. } | Step::Revoke { .. }))
            }
        }
    }
}

/// The steps of a kind, and their number.
fn chosen(workload: &Arc<Workload>, wanted: fn(&Step) -> bool) -> (u64, Steps) {
    let steps =
        |workload: Arc<Workload>| (0..workload.shape().events).map(move |index| workload.step(index)).filter(wanted);
    let count = steps(Arc::clone(workload)).count() as u64;
    (count, Box::new(steps(Arc::clone(workload)).map(Ok)))
}

/// A person in the ratings, with the node of its home.
struct Person {
    at: usize,
    home: Domain,
    key: SecretKey,
    /// Known once the registration is made.
    id: OnceLock<EventId>,
}

impl Person {
    fn id(&self) -> Result<EventId, Failure> {
        self.id.get().copied().ok_or_else(unknown)
    }
}

/// The measurements of one phase.
struct Phase {
    name: &'static str,
    events: u64,
    seconds: f64,
}

/// What events are made of, for a thread of its own.
struct Makings {
    federation: FederationId,
    homes: Vec<Domain>,
    /// The operators' node keys, which sign statements.
    operators: Vec<SecretKey>,
    people: BTreeMap<u32, Person>,
}

/// Loads everything in phases; each needs the previous one to have reached every node. Keys change last, so that events
/// may overtake each other on their way within a phase.
pub(super) async fn load(
    cluster: &mut Cluster,
    clients: &[Client],
    source: &Source,
    terminal: &mut Terminal<'_>,
) -> Result<(), Failure> {
    let begun = Instant::now();
    let makings = Arc::new(makings(cluster, source)?);
    let mut phases = Vec::new();
    let (with, ids) = (Arc::clone(&makings), source.people());
    let registered =
        send("identities", clients, ids.len() as u64, ids.into_iter().map(Ok), move |id| registration(&with, id));
    phases.push(registered.await.map_err(loaded_before)?);
    let sponsors = usize::try_from(cluster.manifest.policy().min_sponsors).unwrap_or(usize::MAX);
    let (with, count) = (Arc::clone(&makings), cluster.nodes.len());
    let pairs = source.raters().into_iter().flat_map(|id| {
        // Spread over all operators: a rater's home is the first of its sponsors.
        let at = with.people.get(&id).map_or(0, |person| person.at);
        (0..sponsors.min(count)).map(move |i| Ok((id, (at + i) % count)))
    });
    let pairs: Vec<Result<(u32, usize), Failure>> = pairs.collect();
    let with = Arc::clone(&makings);
    let admitted =
        send("admissions", clients, pairs.len() as u64, pairs.into_iter(), move |(id, at)| admission(&with, id, at));
    phases.push(admitted.await?);
    cluster.wait_until_final(Duration::from_secs(60)).await?;
    let (with, (count, steps)) = (Arc::clone(&makings), source.attestations()?);
    phases.push(send("attestations", clients, count, steps, move |step| attestation(&with, step)).await?);
    let (count, steps) = source.changes();
    if let (1.., Source::Synthetic(workload)) = (count, source) {
        let (with, workload) = (Arc::clone(&makings), Arc::clone(workload));
        let change = move |step| change(&with, &workload, step);
        phases.push(send("key changes", clients, count, steps, change).await?);
    }
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
        .hint("leave out --ratings or --synthetic to continue with them, or name another folder")
}

/// Makes a key for every person.
fn makings(cluster: &Cluster, source: &Source) -> Result<Makings, Failure> {
    let federation = cluster.federation();
    let homes: Vec<Domain> = cluster.nodes.iter().map(|node| node.operator.clone()).collect();
    let people = source.people().into_par_iter().map(|id| Ok((id, person(&homes, id, source.key(id)?)?)));
    let people = people.collect::<Result<Vec<_>, Failure>>()?.into_iter().collect();
    let key = |dir: &Path| files::read_key(&dir.join(crate::federation::NODE_KEY_FILE));
    let operators = cluster.nodes.iter().map(|node| key(&node.dir)).collect::<Result<_, _>>()?;
    Ok(Makings { federation, homes, operators, people })
}

fn person(homes: &[Domain], id: u32, key: SecretKey) -> Result<Person, Failure> {
    let at = usize::try_from(id).unwrap_or_default() % homes.len().max(1);
    let home = homes.get(at).cloned().ok_or_else(|| Failure::new("internal", "no nodes"))?;
    Ok(Person { at, home, key, id: OnceLock::new() })
}

fn internal(error: impl std::fmt::Display) -> Failure {
    Failure::new("internal", error)
}

fn unknown() -> Failure {
    Failure::new("internal", "everybody was registered")
}

fn registration(with: &Makings, id: u32) -> Result<(usize, Submission), Failure> {
    let person = with.people.get(&id).ok_or_else(unknown)?;
    let (home, key) = (person.home.clone(), person.key.public());
    let name = format!("person-{id}").parse().map_err(|error| Failure::new("internal", error))?;
    let event = author::event(with.federation, Action::Register { home, name, key, next: None, note: None })?;
    person.id.set(event.id()).map_err(|_| unknown())?;
    Ok((person.at, EventDraft::new(event, &person.key).sign_unchecked()))
}

fn admission(with: &Makings, id: u32, at: usize) -> Result<(usize, Submission), Failure> {
    let (Some(person), Some(operator), Some(key)) = (with.people.get(&id), with.homes.get(at), with.operators.get(at))
    else {
        return Err(unknown());
    };
    let action = Action::Admit {
        operator: operator.clone(),
        provider: person.id()?,
        service: SERVICE.parse().map_err(|error| Failure::new("internal", error))?,
        domain: SERVICE_DOMAIN.parse().map_err(|error| Failure::new("internal", error))?,
        method: Method::Manual,
        from: 0,
    };
    Ok((at, EventDraft::new(author::event(with.federation, action)?, key).sign_unchecked()))
}

fn attestation(with: &Makings, step: Step) -> Result<(usize, Submission), Failure> {
    let Step::Attest { issuer, subject, delta } = step else { return Err(unknown()) };
    let (Some(source), Some(target)) = (with.people.get(&issuer), with.people.get(&subject)) else {
        return Err(unknown());
    };
    let (home, issuer, subject) = (source.home.clone(), source.id()?, target.id()?);
    let action = Action::Attest { home, issuer, subject, delta, context: None, note: None };
    Ok((source.at, EventDraft::new(author::event(with.federation, action)?, &source.key).sign_unchecked()))
}

fn change(with: &Makings, workload: &Workload, step: Step) -> Result<(usize, Submission), Failure> {
    let (Step::Rotate { identity } | Step::Revoke { identity }) = step else { return Err(unknown()) };
    let person = with.people.get(&identity).ok_or_else(unknown)?;
    let (home, id) = (person.home.clone(), person.id()?);
    if matches!(step, Step::Revoke { .. }) {
        let (key, reason) = (person.key.public(), RevokeReason::Retired);
        let action = Action::Revoke { home, identity: id, version: 1, key, reason };
        return Ok((person.at, EventDraft::new(author::event(with.federation, action)?, &person.key).sign_unchecked()));
    }
    let new = workload.key(identity, 2).map_err(internal)?;
    let action = Action::Rotate { home, identity: id, version: 2, key: new.public(), next: None };
    let draft = EventDraft::new(author::event(with.federation, action)?, &person.key);
    Ok((person.at, EventDraft { countersigner: Some(&new), ..draft }.sign_unchecked()))
}

/// Signs items one after the other and submits each to its node, all nodes at the same time, with [`IN_FLIGHT`] requests
/// each. Signing waits for the slowest node.
async fn send<T: Send + 'static>(
    name: &'static str,
    clients: &[Client],
    count: u64,
    items: impl Iterator<Item = Result<T, Failure>> + Send + 'static,
    sign: impl Fn(T) -> Result<(usize, Submission), Failure> + Send + Sync + 'static,
) -> Result<Phase, Failure> {
    let begun = Instant::now();
    let bar = progress::bar(count, name);
    let lines = ProgressLines::of(&bar);
    let (senders, queues): (Vec<_>, Vec<_>) = clients.iter().map(|_| mpsc::channel(IN_FLIGHT)).unzip();
    let signing = tokio::task::spawn_blocking(move || sign_all(items, &sign, &senders));
    let queues = clients.iter().zip(queues).map(|(client, queue)| send_queue(client, queue, bar.clone()));
    let sent = try_join_all(queues).await;
    drop(lines);
    bar.finish_and_clear();
    // Where a node refuses, that is the reason; signing then ends because its queue is gone.
    sent?;
    let events = signing.await.map_err(|error| Failure::new("internal", error))??;
    Ok(Phase { name, events, seconds: begun.elapsed().as_secs_f64() })
}

/// Signs all items, in their order, on all cores; gives their number. Ends early when a queue is gone.
fn sign_all<T: Send>(
    mut items: impl Iterator<Item = Result<T, Failure>>,
    sign: &(impl Fn(T) -> Result<(usize, Submission), Failure> + Sync),
    senders: &[mpsc::Sender<Vec<Submission>>],
) -> Result<u64, Failure> {
    let (mut waiting, mut count) = (vec![Vec::new(); senders.len()], 0u64);
    loop {
        let some = items.by_ref().take(SIGNED_AT_ONCE).collect::<Result<Vec<T>, Failure>>()?;
        let ended = some.is_empty();
        let signed = some.into_par_iter().map(sign).collect::<Result<Vec<_>, Failure>>()?;
        count = count.saturating_add(signed.len() as u64);
        for (at, submission) in signed {
            waiting.get_mut(at).ok_or_else(unknown)?.push(submission);
        }
        for (queue, sender) in waiting.iter_mut().zip(senders) {
            while queue.len() >= SUBMISSIONS_MAX || ended && !queue.is_empty() {
                let rest = queue.split_off(queue.len().min(SUBMISSIONS_MAX));
                if sender.blocking_send(std::mem::replace(queue, rest)).is_err() {
                    return Ok(count);
                }
            }
        }
        if ended {
            return Ok(count);
        }
    }
}

async fn send_queue(
    client: &Client,
    mut queue: mpsc::Receiver<Vec<Submission>>,
    bar: ProgressBar,
) -> Result<(), Failure> {
    let requests = stream::poll_fn(move |context| queue.poll_recv(context));
    let sent = requests.map(|request| submit(client, request)).buffered(IN_FLIGHT);
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
