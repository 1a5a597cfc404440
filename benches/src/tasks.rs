//! What nodes do as a whole: take events in, pass them on, answer. Each node is a process of its own, and all of them
//! share this machine's cores with those who ask.
//!
//! The limit of what cannot be done without checking a signature is L: signatures that libsecp256k1 checks one by one, on
//! all cores, with nothing else to do.
mod net;

use std::collections::BTreeMap;
use std::io::BufRead;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use fama_cli::synthetic::{SKEW, Shape, Workload};
use fama_ledger::entry::SignedEvent;
use fama_ledger::event::{Action, DismissReason, Method, RevokeReason};
use fama_ledger::id::{Domain, IdentityId};
use fama_ledger::key::Curve;
use fama_ledger::profile::{ProfileProof, Required};
use fama_ledger::secret::SecretKey;
use fama_node::clock;
use fama_tests::event;
use rayon::prelude::*;
use serde_json::Value;

use crate::grow::asking::{Connection, RunningNode};
use crate::grow::live::array;
use crate::grow::load::{Made, Signer, ranges, sign};
use crate::renewals::{domain, key};
use crate::report::Report;
use net::{Net, is_answering_meanwhile, sizes, until};

const SHAPE: Shape =
    Shape { events: 60_000, events_per_identity: 3, identities: 2_000, providers: 500, skew: SKEW, seed: 1 };
/// Events that come before the measured ones: all registrations and admissions, and changes of keys.
const BEFORE: u64 = 6_144;
/// Most events that are handed in at a time before.
const BATCH_BEFORE: u64 = 256;
/// Events handed in as arrays, and in each.
const IN_ARRAYS: u64 = 20_000;
const ARRAY: u64 = 250;
/// Clients that hand in arrays.
const SENDERS: usize = 4;
/// Events handed in one by one, by three clients with as many connections each as one may have.
const ALONE: u64 = 6_000;
const CLIENTS: u8 = 3;
const CONNECTIONS_EACH: usize = 16;
/// How long events come in while it is measured when they are final.
const FINAL_SECONDS: u64 = 10;
/// Revocations that somebody waits for.
const REVOKED: usize = 30;
const BETWEEN_REVOCATIONS: Duration = Duration::from_millis(200);
/// Providers that attest to one agent, and are dismissed then.
const ATTACKERS: usize = 1_000;
/// How often a proof is checked.
const PROOFS: u32 = 30;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// Adds a line for each task; `l` is L, a second.
pub(crate) fn run(report: &mut Report, l: f64) {
    let limit = ("L", l);
    let workload = Workload::new(SHAPE).unwrap();
    let (net, operator) = (Net::new(1), key(0));
    let signer = Signer::of(net.manifest.federation(), (domain(0), &operator), &workload, Made::AllAt(clock::now()));
    let mut home = net.start().pop().unwrap();
    net.submit(ranges(0..BEFORE, BATCH_BEFORE).map(|range| signed(&signer, range)));
    let arrays = BEFORE..BEFORE + IN_ARRAYS;
    let bodies = bodies(&signer, arrays.clone(), ARRAY);
    let (begun, cpu) = (Instant::now(), home.cpu());
    hand_in(&home, &bodies, SENDERS, None);
    let rate = |events: u64, begun: Instant| events as f64 / begun.elapsed().as_secs_f64();
    report.limited("events taken in, arrays over HTTP", rate(IN_ARRAYS, begun), limit);
    report.cpu(&cpu, &home.cpu(), IN_ARRAYS);
    let bodies = self::bodies(&signer, arrays.end..arrays.end + ALONE, 1);
    let (begun, cpu) = (Instant::now(), home.cpu());
    let handed = hand_in(&home, &bodies, usize::from(CLIENTS) * CONNECTIONS_EACH, None);
    report.limited("events taken in, one by one over HTTP", rate(ALONE, begun), limit);
    report.cpu(&cpu, &home.cpu(), ALONE);
    report.takes("  until a receipt is there", handed.iter().map(|one| one.answered).collect());

    let size = sizes(&mut Connection::open(home.query).unwrap()).0;
    for (i, verify) in [(1, "full"), (2, "certified")] {
        let begun = Instant::now();
        let mut mirror = net.spawn(i, verify);
        mirror.ready();
        let mut connection = Connection::open(mirror.query).unwrap();
        let agent = agent(0);
        // What it has verified itself answers about the first agents soon: that is not what `certified` promises.
        until("a mirror answers", PATIENCE, || match verify {
            "certified" => is_answering_meanwhile(&mut connection),
            _ => connection.get(&agent).is_ok(),
        });
        let answers = begun.elapsed();
        until("a mirror has all", PATIENCE, || sizes(&mut connection).0 >= size);
        report.limited(&format!("a new mirror, {verify}"), rate(size, begun), limit);
        report.cpu(&BTreeMap::new(), &mirror.cpu(), size);
        report.takes("  until it answers", vec![answers]);
        mirror.stop();
    }
    asked(report, &home, attacked(&net, &home));
    proofs(report, &net, &home);
    home = restarted(report, &net, home);
    home.stop();
    let begun = Instant::now();
    let read = net.audit(0);
    assert!(read >= size, "{read} of {size}");
    report.limited("fama audit of a data folder", rate(read, begun), limit);

    for (operators, per_second) in [(4, 1_000), (16, 100)] {
        until_final(report, &workload, operators, per_second);
    }
}

fn agent(number: u32) -> String {
    format!("/api/agent/person-{number}@{}", domain(0))
}

fn signed(signer: &Signer<'_>, range: std::ops::Range<u64>) -> Vec<SignedEvent> {
    range.into_par_iter().map(|index| signer.sign(index)).collect()
}

/// Requests with so many events each.
fn bodies(signer: &Signer<'_>, range: std::ops::Range<u64>, each: u64) -> Vec<String> {
    signed(signer, range).chunks(usize::try_from(each).unwrap()).map(array).collect()
}

/// What became of a request.
struct HandedIn {
    /// When it was due, and how long after that its answer came.
    due: Instant,
    answered: Duration,
    /// The place of its last event in the log.
    index: u64,
}

/// Hands in requests over so many connections, each after the answer to the one before or, with an interval, at its time.
fn hand_in(node: &RunningNode, bodies: &[String], connections: usize, every: Option<Duration>) -> Vec<HandedIn> {
    let begun = Instant::now();
    let sender = |number: usize| {
        let client = u8::try_from(number / CONNECTIONS_EACH).unwrap();
        let mut connection = Connection::open(node.submit).unwrap().of_client(client);
        let mut done = Vec::new();
        for (at, body) in bodies.iter().enumerate().skip(number).step_by(connections) {
            let due = every.map_or_else(Instant::now, |every| begun + every * u32::try_from(at).unwrap());
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let answer: Vec<Value> = serde_json::from_slice(&connection.submit(body).unwrap()).unwrap();
            assert!(answer.iter().all(|one| one["status"] == 201), "{answer:?}");
            let index = answer.iter().map(|one| one["index"].as_u64().unwrap()).max().unwrap();
            done.push(HandedIn { due, answered: due.elapsed(), index });
        }
        done
    };
    std::thread::scope(|scope| {
        let senders: Vec<_> = (0..connections).map(|number| scope.spawn(move || sender(number))).collect();
        senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect()
    })
}

/// Registrations of so many newcomers, each with its key.
fn newcomers(net: &Net, name: &str, count: usize) -> Vec<(SignedEvent, SecretKey)> {
    let newcomer = |i: usize| {
        let own = SecretKey::from_seed(Curve::Ed25519, blake3::hash(format!("{name}-{i}").as_bytes()).as_bytes());
        let (own, home, name) = (own.unwrap(), domain(0), format!("{name}-{i}").parse().unwrap());
        let action = Action::Register { home, name, key: own.public(), next: None, note: None };
        (sign(event(net.manifest.federation(), action, clock::now(), i as u64), &own, None), own)
    };
    (0..count).map(newcomer).collect()
}

/// The path of an agent to whom many attested, none of whom counts any more.
fn attacked(net: &Net, home: &RunningNode) -> String {
    let mut attackers = newcomers(net, "attacker", ATTACKERS + 1);
    let registrations: Vec<_> = attackers.iter().map(|(registration, _)| registration.clone()).collect();
    let (victim, _) = attackers.pop().unwrap();
    let made = |action, own: &SecretKey| sign(event(net.manifest.federation(), action, clock::now(), 0), own, None);
    let state = |of: &dyn Fn(Domain, IdentityId) -> Action| -> Vec<SignedEvent> {
        attackers.iter().map(|(attacker, _)| made(of(domain(0), attacker.event.id()), &key(0))).collect()
    };
    let service = || ("ratings".parse().unwrap(), "ratings.example".parse().unwrap());
    let admitted = state(&|operator, provider| {
        let (service, domain) = service();
        Action::Admit { operator, provider, service, domain, method: Method::Manual, from: 0 }
    });
    let attest = |(attacker, own): &(SignedEvent, SecretKey)| {
        let (home, issuer, subject) = (domain(0), attacker.event.id(), victim.event.id());
        made(Action::Attest { home, issuer, subject, delta: -5, context: None, note: None }, own)
    };
    let attested: Vec<_> = attackers.iter().map(attest).collect();
    let dismissed = state(&|operator, provider| {
        let (service, domain) = service();
        Action::Dismiss { operator, provider, service, domain, from: 0, reason: DismissReason::Misconduct }
    });
    let chunk = usize::try_from(BATCH_BEFORE).unwrap();
    for events in [registrations, admitted, attested, dismissed] {
        net.submit(events.chunks(chunk).map(<[_]>::to_vec));
    }
    let (path, mut connection) = (format!("/api/agent/{}", victim.event.id()), Connection::open(home.query).unwrap());
    until("nothing counts any more", PATIENCE, || {
        let shown: Value = serde_json::from_slice(&connection.get(&path).unwrap()).unwrap();
        shown["reputation"]["attestation_count"] == 0
    });
    path
}

/// Reads, next to an answer that is always the same.
fn asked(report: &mut Report, home: &RunningNode, attacked: String) {
    let rate = |paths: &[String]| home.ask(paths)["per_second"].as_f64().unwrap();
    let fixed = ("a fixed answer", rate(&["/api".to_owned()]));
    let typical: Vec<String> = (0..1_000).map(|i| agent(SHAPE.providers + i)).collect();
    report.limited("GET /api/agent, typical", rate(&typical), fixed);
    report.limited("GET /api/agent, most attested", rate(&[agent(0)]), fixed);
    report.limited(&format!("GET /api/agent, attacked by {ATTACKERS}"), rate(&[attacked]), fixed);
    report.limited("GET /api/leaderboard", rate(&["/api/leaderboard".to_owned()]), fixed);
    let proofs: Vec<String> = typical.iter().take(100).map(|path| format!("{path}/proof")).collect();
    report.limited("GET a profile's proof", rate(&proofs), fixed);
}

/// Checking what a node proves.
fn proofs(report: &mut Report, net: &Net, home: &RunningNode) {
    let mut connection = Connection::open(home.query).unwrap();
    let mut check = |number: u32| {
        let text = String::from_utf8(connection.get(&format!("{}/proof", agent(number))).unwrap()).unwrap();
        let begun = Instant::now();
        let proof: ProfileProof = text.parse().unwrap();
        let (question, now) = (proof.question.clone(), clock::now().0 / 1_000);
        proof.verify(&net.manifest, &Required { question, max_age_seconds: 3_600, missing_max: 0, now }).unwrap();
        begun.elapsed()
    };
    let typical = (0..PROOFS).map(|i| check(SHAPE.providers + i)).collect();
    report.takes("a profile's proof checked, typical", typical);
    report.takes("a profile's proof checked, most attested", (0..PROOFS).map(|_| check(0)).collect());
}

/// How long a node takes to start with its folder, after a kill.
fn restarted(report: &mut Report, net: &Net, home: RunningNode) -> RunningNode {
    drop(home);
    let begun = Instant::now();
    let mut home = net.spawn(0, "full");
    home.ready();
    report.takes("a start after kill -9", vec![begun.elapsed()]);
    home
}

/// How long events take until a quorum has certified them, and a revocation until another node tells of it.
fn until_final(report: &mut Report, workload: &Workload, operators: usize, per_second: u64) {
    let (net, operator) = (Net::new(operators), key(0));
    let signer = Signer::of(net.manifest.federation(), (domain(0), &operator), workload, Made::AllAt(clock::now()));
    let nodes = net.start();
    net.submit(ranges(0..BEFORE, BATCH_BEFORE).map(|range| signed(&signer, range)));
    until("all nodes have all", PATIENCE, || {
        nodes.iter().all(|node| {
            let (has, certified) = sizes(&mut Connection::open(node.query).unwrap());
            has > BEFORE && has == certified
        })
    });
    let each = per_second / 10;
    let bodies = bodies(&signer, BEFORE..BEFORE + FINAL_SECONDS * per_second, each);
    let looking = Connection::open(nodes[operators - 1].query).unwrap();
    let (told, end) = mpsc::sync_channel(1);
    let (handed, seen) = std::thread::scope(|scope| {
        let looker = scope.spawn(move || certified(looking, &end));
        let handed = hand_in(&nodes[0], &bodies, SENDERS, Some(Duration::from_millis(100)));
        told.send(handed.iter().map(|one| one.index).max().unwrap()).unwrap();
        (handed, looker.join().unwrap())
    });
    let last = |one: &HandedIn| seen.iter().find(|(size, _)| *size > one.index).unwrap().1 - one.due;
    let lasted = handed.iter().map(last).collect();
    report.takes(&format!("until final at another of {operators} nodes, {per_second}/s"), lasted);
    let slowest = handed.iter().map(|one| one.answered).max().unwrap();
    assert!(
        slowest < Duration::from_secs(FINAL_SECONDS / 2),
        "the node does not take {per_second} a second: {slowest:?}"
    );
    if operators == 4 {
        report.takes("a revocation until another node streams it", revoked(&net, &nodes));
    }
}

/// Sizes of the certified log, each when it was first seen, until the entry is among them that `end` gives at last.
fn certified(mut connection: Connection, end: &mpsc::Receiver<u64>) -> Vec<(u64, Instant)> {
    let (mut seen, mut last): (Vec<(u64, Instant)>, _) = (Vec::new(), None);
    until("all is final", PATIENCE, || {
        let now = sizes(&mut connection).1;
        if seen.last().is_none_or(|(size, _)| now > *size) {
            seen.push((now, Instant::now()));
        }
        last = last.or_else(|| end.try_recv().ok());
        last.is_some_and(|last| now > last)
    });
    seen
}

/// Revokes keys at the first node, and waits for each at the stream of the last.
fn revoked(net: &Net, nodes: &[RunningNode]) -> Vec<Duration> {
    let (told, heard) = mpsc::sync_channel(REVOKED);
    let mut stream = Connection::open(nodes[nodes.len() - 1].query).unwrap().stream("/api/stream?kind=key").unwrap();
    std::thread::spawn(move || {
        let mut line = String::new();
        while stream.read_line(&mut line).is_ok_and(|read| read > 0) {
            if line.starts_with("event: key") && told.send(Instant::now()).is_err() {
                return;
            }
            line.clear();
        }
    });
    let federation = net.manifest.federation();
    let (registrations, keys): (Vec<_>, Vec<_>) = newcomers(net, "leaver", REVOKED).into_iter().unzip();
    let ids: Vec<_> = registrations.iter().map(|signed| signed.event.id()).collect();
    net.submit(std::iter::once(registrations));
    let mut connection = Connection::open(nodes[0].submit).unwrap();
    let revoke = |(own, identity): (SecretKey, IdentityId)| {
        let (home, key, reason) = (domain(0), own.public(), RevokeReason::Retired);
        let action = Action::Revoke { home, identity, version: 1, key, reason };
        let body = array(&[sign(event(federation, action, clock::now(), 0), &own, None)]);
        let begun = Instant::now();
        let answer: Value = serde_json::from_slice(&connection.submit(&body).unwrap()).unwrap();
        assert_eq!(answer[0]["status"], 201, "{answer}");
        let heard = heard.recv_timeout(PATIENCE).unwrap() - begun;
        std::thread::sleep(BETWEEN_REVOCATIONS);
        heard
    };
    keys.into_iter().zip(ids).map(revoke).collect()
}
