//! Reads of a node while events come in over HTTP, on a copy of the folder.
use std::time::{Duration, Instant};

use fama_cli::synthetic::{Shape, Step, Workload};
use fama_ledger::base64;
use fama_ledger::entry::SignedEvent;
use fama_node::clock;
use rayon::prelude::*;
use serde_json::{Value, json};

use super::asking::{Connection, RunningNode, spread};
use super::costs::typical;
use super::folder::Folder;
use super::load::{Made, Signer};

/// Events a second that come in, each signed by its author.
const EVENTS_PER_SECOND: usize = 1_000;
/// How many are handed in at a time: as many as come in a tenth of a second.
const BATCH: usize = 100;
/// How long they come in before anything is measured: a node that has just started has none of the rows that events need
/// in memory.
const WARM_UP_SECONDS: u32 = 5;
/// How long they come in while it is.
const SECONDS: u32 = 20;
/// Connections that hand them in, in turn.
const SENDERS: usize = 4;
/// Connections that ask, in turn. With few, what is measured is the queue at each client: one answer that is late delays
/// all that are due behind it.
const ASKERS: usize = 32;
/// Of so many questions of a connection one is for a text that never changes: what it waits for, any answer waits for, since
/// node and clients share the cores.
const FIXED_EVERY: usize = 8;
const FIXED: &str = "/api";

/// Asks for typical agents, and now and then for a fixed text, at half the rate that the node reached without writes,
/// `saturated` a second, while attestations come in. A request is late from the time at which it was due. That rate is
/// one of answers given before, so all are asked for once before it begins.
pub(super) fn reads(folder: &Folder, shape: &Shape, saturated: f64) -> Value {
    let batches = signed(folder, shape);
    let copy = folder.copy(&folder.path.with_extension("live"));
    let (node, _) = RunningNode::start(&copy);
    let (_, paths) = typical(shape);
    node.ask_once(&paths);
    let pause = Duration::from_secs_f64(2.0 * ASKERS as f64 / saturated);
    let begun = Instant::now();
    let measured = begun + Duration::from_secs(WARM_UP_SECONDS.into());
    let end = measured + Duration::from_secs(SECONDS.into());
    let asker = |number: usize| {
        let (mut connection, mut agents, mut fixed) = (Connection::open(node.query).unwrap(), Vec::new(), Vec::new());
        let own = paths.iter().cycle().skip(number * paths.len() / ASKERS).enumerate();
        let mut due = begun + pause.mul_f64(number as f64 / ASKERS as f64);
        for (at, path) in own.take_while(|_| Instant::now() < end) {
            let (path, times) = if at % FIXED_EVERY == 0 { (FIXED, &mut fixed) } else { (&**path, &mut agents) };
            wait(due);
            connection.get(path).unwrap();
            times.extend((due > measured).then(|| due.elapsed()));
            due += pause;
        }
        (agents, fixed)
    };
    let sender = |number: usize| {
        let (mut connection, mut times) = (Connection::open(node.submit).unwrap(), Vec::new());
        for (at, batch) in batches.iter().enumerate().skip(number).step_by(SENDERS) {
            let due = begun + Duration::from_secs_f64((at * BATCH) as f64 / EVENTS_PER_SECOND as f64);
            wait(due);
            let answer: Vec<Value> = serde_json::from_slice(&connection.submit(batch).unwrap()).unwrap();
            assert!(answer.len() == BATCH && answer.iter().all(|one| one["status"] == 201), "{answer:?}");
            times.extend((due > measured).then(|| due.elapsed()));
        }
        times
    };
    let ((agents, fixed), receipts, seconds) = std::thread::scope(|scope| {
        let askers: Vec<_> = (0..ASKERS).map(|number| scope.spawn(move || asker(number))).collect();
        let senders: Vec<_> = (0..SENDERS).map(|number| scope.spawn(move || sender(number))).collect();
        let receipts: Vec<Duration> = senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect();
        let seconds = begun.elapsed().as_secs_f64();
        let (agents, fixed): (Vec<_>, Vec<_>) = askers.into_iter().map(|asker| asker.join().unwrap()).unzip();
        ((agents.concat(), fixed.concat()), receipts, seconds)
    });
    node.stop();
    std::fs::remove_dir_all(&copy.path).unwrap();
    let mut taken = spread(receipts, seconds);
    taken["per_second"] = ((batches.len() * BATCH) as f64 / seconds).round().into();
    let [reads, fixed] = [agents, fixed].map(|times| spread(times, f64::from(SECONDS)));
    json!({"asked_per_second": (saturated / 2.0).round(), "reads": reads, "fixed": fixed, "events": taken})
}

fn wait(due: Instant) {
    std::thread::sleep(due.saturating_duration_since(Instant::now()));
}

/// Attestations made now: those that would come next in the workload, among identities that are there.
fn signed(folder: &Folder, shape: &Shape) -> Vec<String> {
    let count = EVENTS_PER_SECOND * (WARM_UP_SECONDS + SECONDS) as usize;
    let longer = Shape { events: shape.events + 10 * count as u64, ..*shape };
    let longer = Workload::new(Shape { identities: fama_cli::synthetic::IDENTITIES_MAX, ..longer }).unwrap();
    let mut signer = Signer::new(folder, &longer);
    signer.made = Made::At(clock::now());
    let (then, there) = (shape.events, |identity: u32| longer.registered_at(identity) < shape.events);
    // Whose sponsor and key are those of the folder, too.
    let among = |index: &u64| match longer.step(*index) {
        Step::Attest { issuer, subject, .. } => {
            let same_key = longer.version_at(issuer, *index) == longer.version_at(issuer, then);
            there(issuer + 2) && there(subject) && same_key
        }
        _ => false,
    };
    let indexes: Vec<u64> = (then..longer.shape().events).filter(among).take(count).collect();
    let events: Vec<SignedEvent> = indexes.into_par_iter().map(|index| signer.sign(index)).collect();
    events.chunks(BATCH).map(array).collect()
}

/// Events as the body of a request.
pub(crate) fn array(events: &[SignedEvent]) -> String {
    let one = |signed: &SignedEvent| {
        // Without the recovery id, which has no place in it.
        let signature = base64::encode(&signed.signature.as_bytes()[..64]);
        json!({"text": signed.event.text(), "signature": signature})
    };
    Value::from_iter(events.iter().map(one)).to_string()
}
