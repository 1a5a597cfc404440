//! A real node on a disk whose calls fail, one kind after the other: it stops, says why, and has lost nothing.
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use fama_ledger::id::EventId;
use fama_ledger::log::Head;
use fama_node::network::client::Client;
use fama_node::store::Store;
use fama_node::wire::{Receipt, SubmitRequest, SubmitResult, SyncRequest, SyncResponse};

use crate::cli::program;
use crate::crash::{SeededRandom, SoleOperator, empty_frontier};
use crate::federation::multi;

/// How many faults are injected, unless `FAMA_FAULTS` says otherwise.
const FAULTS: usize = CASES.len();
/// How long a node runs under load before the test gives up reaching the call that fails.
const REACHED: Duration = Duration::from_secs(1);
/// How long a node may run on after its disk failed.
const STOPPED: Duration = Duration::from_secs(20);

/// A disk that fails, in the terms of `faults/disk.c`; the failing call is drawn from the first `nth_max`.
struct FaultCase {
    call: &'static str,
    how: &'static str,
    often: &'static str,
    file: &'static str,
    nth_max: u64,
}

const fn case(
    call: &'static str,
    how: &'static str,
    often: &'static str,
    file: &'static str,
    nth_max: u64,
) -> FaultCase {
    FaultCase { call, how, often, file, nth_max }
}

/// Write-ahead log, tables, list of files, the name of the list, and the folder itself.
const CASES: [FaultCase; 30] = [
    case("write", "power", "once", ".log", 120),
    case("sync", "power", "once", ".log", 60),
    case("write", "power", "once", ".sst", 60),
    case("sync", "power", "once", "MANIFEST", 8),
    case("write", "eio", "once", ".log", 60),
    case("write", "eio", "on", ".log", 60),
    case("write", "short", "once", ".log", 60),
    case("write", "short", "on", ".log", 60),
    case("write", "nospace", "once", ".log", 60),
    case("write", "nospace", "on", ".log", 60),
    case("write", "happened", "once", ".log", 60),
    case("sync", "eio", "once", ".log", 30),
    case("sync", "lost", "once", ".log", 30),
    case("sync", "lost", "on", ".log", 30),
    case("sync", "happened", "once", ".log", 30),
    case("create", "nospace", "once", ".log", 1),
    case("write", "eio", "once", ".sst", 120),
    case("write", "short", "on", ".sst", 120),
    case("write", "nospace", "once", ".sst", 120),
    case("sync", "eio", "once", ".sst", 30),
    case("sync", "lost", "once", ".sst", 30),
    case("create", "nospace", "once", ".sst", 30),
    case("write", "eio", "once", "MANIFEST", 24),
    case("write", "short", "on", "MANIFEST", 24),
    case("sync", "lost", "once", "MANIFEST", 24),
    case("sync", "happened", "once", "MANIFEST", 24),
    case("write", "nospace", "once", ".dbtmp", 1),
    case("rename", "eio", "once", "CURRENT$", 1),
    case("rename", "happened", "once", "CURRENT$", 1),
    case("sync", "eio", "once", "/data$", 4),
];

/// What was seen of a log from outside, and must stay true.
#[derive(Default)]
struct Known {
    acknowledged: BTreeMap<EventId, Receipt>,
    head: Option<Head>,
    checked: u64,
}

impl Known {
    fn see(&mut self, head: Head) {
        if self.head.is_none_or(|known| known.size < head.size) {
            self.head = Some(head);
        }
    }
}

/// Compiles the library that injects the faults.
fn shim(dir: &Path) -> PathBuf {
    let (source, library) = (dir.join("disk.c"), dir.join("disk.so"));
    std::fs::write(&source, include_str!("faults/disk.c")).unwrap();
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let mut command = Command::new(compiler);
    command.args(["-shared", "-fPIC", "-O1", "-o"]).args([&library, &source]).args(["-ldl", "-lpthread"]);
    assert!(command.status().unwrap().success(), "{command:?}");
    library
}

/// What a node wrote to its log file after the first `from` bytes.
fn log_since(operator: &SoleOperator, from: u64) -> String {
    let bytes = std::fs::read(operator.log()).unwrap_or_default();
    String::from_utf8_lossy(&bytes[usize::try_from(from).unwrap().min(bytes.len())..]).into_owned()
}

fn length(operator: &SoleOperator) -> u64 {
    std::fs::metadata(operator.log()).map_or(0, |file| file.len())
}

fn fired(operator: &SoleOperator, from: u64) -> bool {
    log_since(operator, from).contains("fault: ")
}

/// Waits until the process has ended; `None` if it has not within this time.
async fn ended(child: &mut Child, within: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + within;
    loop {
        match child.try_wait().unwrap() {
            None if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(5)).await,
            status => return status,
        }
    }
}

/// Collects the heads that the node shows until the load may end: the fault was not met for long enough, or was met
/// and the node must stop without any further writes (`quiet`).
async fn watch(operator: &SoleOperator, client: &Client, from: u64, quiet: bool, heads: &mut Vec<Head>) {
    let (begun, deadline) = (Instant::now(), Instant::now() + STOPPED);
    while Instant::now() < deadline {
        let Ok(SyncResponse::Frontier(frontier)) =
            client.sync(SyncRequest::Frontier(empty_frontier(&operator.manifest))).await
        else {
            return;
        };
        heads.extend(frontier.logs[0].newest.as_ref().map(|signed| signed.head));
        match fired(operator, from) {
            true if quiet => return,
            false if begun.elapsed() > REACHED => return,
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

/// Whether and when a failing disk stopped its node, and how the node ended.
enum FaultOutcome {
    AtStart(ExitStatus),
    Running(ExitStatus),
    Never,
}

/// Runs a node with a disk that will fail.
async fn failing(
    operator: &SoleOperator,
    environment: &[(&str, &OsStr)],
    (round, quiet): (u64, bool),
    known: &mut Known,
) -> FaultOutcome {
    let (from, mut heads, mut up) = (length(operator), Vec::new(), false);
    let mut child = operator.spawn_with(environment);
    if let Ok(client) = operator.connect_or_end(&mut child).await {
        up = true;
        if let Ok(watcher) = operator.connect_or_end(&mut child).await {
            let load = operator.load(client, round, &mut known.acknowledged);
            tokio::select! {
                () = load => {}
                () = watch(operator, &watcher, from, quiet, &mut heads) => {}
            }
        }
    }
    heads.into_iter().for_each(|head| known.see(head));
    let met = fired(operator, from);
    let status = if met { ended(&mut child, STOPPED).await } else { None };
    if status.is_none() {
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!met, "the node kept running after its disk had failed: {}", log_since(operator, from));
    }
    match status {
        Some(status) if up => FaultOutcome::Running(status),
        Some(status) => FaultOutcome::AtStart(status),
        None => FaultOutcome::Never,
    }
}

/// The node ended by itself and named the folder and what to do; without power it just ended.
fn stopped(operator: &SoleOperator, from: u64, status: ExitStatus) {
    let text = log_since(operator, from);
    if text.contains(" power ") {
        return assert_eq!(status.code(), None, "{text}");
    }
    assert_eq!(status.code(), Some(1), "{text}");
    let folder = operator.config.parent().unwrap().join("data");
    let told = text.lines().any(|line| {
        line.contains(folder.to_str().unwrap()) && line.contains("check disk, free space") && line.contains("error")
    });
    assert!(told, "no clear message: {text}");
}

/// Starts the node on a sound disk: everything is there, and it accepts new events.
async fn recovers(operator: &SoleOperator, round: u64, known: &mut Known) {
    let mut child = operator.spawn();
    let client = operator.connect(&mut child).await;
    operator.has(&client, &known.acknowledged, known.checked).await;
    let submissions = vec![operator.registration(round, u64::MAX)];
    let answer = client.submit(SubmitRequest { forwarded: false, submissions }).await.unwrap().0.remove(0);
    let SubmitResult::Accepted(receipt) = answer else { panic!("{answer:?}") };
    let extends = SyncRequest::Entries {
        log: receipt.log.clone(),
        from: known.head.map_or(0, |head| head.size - 1),
        head: known.head.unwrap_or_else(|| operator.check(&receipt)),
    };
    let answer = client.sync(extends).await.unwrap();
    assert!(matches!(answer, SyncResponse::Entries(_)), "a head that was shown is not one of this log: {answer:?}");
    known.see(operator.check(&receipt));
    known.checked = receipt.index;
    known.acknowledged.insert(receipt.event, receipt);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
#[allow(clippy::print_stdout, reason = "the figures of a long run")]
fn a_failing_disk_stops_the_node_and_loses_nothing() {
    let faults = std::env::var("FAMA_FAULTS").map_or(FAULTS, |count| count.parse().unwrap());
    let mut random = SeededRandom::begin();
    let dir = tempfile::tempdir().unwrap();
    let library = shim(dir.path());
    multi(async {
        let (mut operator, mut known, mut events) = (SoleOperator::new(), Known::default(), 0);
        let mut met = BTreeMap::<(&str, &str, &str), [u32; 3]>::new();
        for round in 0..faults {
            let case = &CASES[round % CASES.len()];
            // Sometimes a new folder, otherwise one that already holds a lot.
            let new = random.next().is_multiple_of(3);
            if new {
                (operator, known) = (SoleOperator::new(), Known::default());
            }
            let nth = if new { 1 + random.next() % case.nth_max.min(3) } else { 1 + random.next() % case.nth_max };
            let fault = format!("{} {} {nth} {} {}", case.call, case.how, case.often, case.file);
            println!("{round}: {fault}");
            let environment = [("LD_PRELOAD", library.as_os_str()), ("FAMA_FAULT", OsStr::new(&fault))];
            let (from, quiet) = (length(&operator), random.next().is_multiple_of(2));
            let figures = met.entry((case.call, case.how, case.file)).or_default();
            let acknowledged = known.acknowledged.len();
            match failing(&operator, &environment, (2 * round as u64, quiet), &mut known).await {
                FaultOutcome::Never => figures[2] += 1,
                FaultOutcome::AtStart(status) => {
                    stopped(&operator, from, status);
                    figures[0] += 1;
                }
                FaultOutcome::Running(status) => {
                    stopped(&operator, from, status);
                    figures[1] += 1;
                }
            }
            recovers(&operator, 2 * round as u64 + 1, &mut known).await;
            events += known.acknowledged.len() - acknowledged;
        }
        for ((call, how, file), [start, running, never]) in &met {
            println!(
                "{call} {how} {file}: stopped the node {start} times at its start, {running} later; {never} not met"
            );
        }
        let stopped: u32 = met.values().map(|[start, running, _]| start + running).sum();
        println!("{faults} faults, {stopped} met, {events} acknowledged events");
        assert!(stopped as usize > faults / 2, "too few faults were met: {stopped} of {faults}");
    });
}

/// Faults of the calls that a repair makes, with folder names as those calls have them.
const REPAIR_CASES: [FaultCase; 8] = [
    case("write", "nospace", "on", "/data.copied/", 4),
    case("create", "nospace", "once", "/data.copied/", 2),
    case("rename", "eio", "once", "/data.damaged-1$", 1),
    case("rename", "eio", "once", "/data$", 1),
    case("sync", "eio", "once", "/alpha.example$", 1),
    case("sync", "lost", "once", "/data.rebuilt/", 20),
    case("write", "short", "on", "/data.rebuilt/", 20),
    case("create", "nospace", "once", "/data.rebuilt/", 12),
];

/// Damage that a check finds and a node can live with: a head with a wrong signature.
fn damage_signature(operator: &SoleOperator) {
    let data = operator.config.parent().unwrap().join("data");
    let (store, log) = (Store::open(&data, &operator.manifest).unwrap(), operator.manifest.operators()[0].log());
    let mut signed = store.view().newest(&log).unwrap().unwrap();
    signed.signature[0] ^= 1;
    store.put_newest(&log, &signed).unwrap();
}

/// A failed repair leaves a folder on which the node starts with everything in it. A repair whose fault came after
/// its last sync has not failed.
#[test]
fn a_repair_on_a_failing_disk_loses_nothing() {
    let mut random = SeededRandom::begin();
    let dir = tempfile::tempdir().unwrap();
    let library = shim(dir.path());
    multi(async {
        let mut failed = 0;
        for case in &REPAIR_CASES {
            let (operator, mut known) = (SoleOperator::new(), Known::default());
            recovers(&operator, 0, &mut known).await;
            damage_signature(&operator);
            let nth = 1 + random.next() % case.nth_max;
            let fault = format!("{} {} {nth} {} {}", case.call, case.how, case.often, case.file);
            let mut command = Command::new(program());
            command.args(["check", "--repair", "--config"]).arg(&operator.config);
            command.envs([("LD_PRELOAD", library.as_os_str()), ("FAMA_FAULT", OsStr::new(&fault))]);
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(said.contains("fault: "), "{fault}: {said}");
            if output.status.success() {
                let again = Command::new(program()).args(["check", "--config"]).arg(&operator.config).output().unwrap();
                assert!(again.status.success(), "{fault}: {said}{}", String::from_utf8_lossy(&again.stderr));
            } else {
                failed += 1;
                assert!(said.contains("error: ") && output.status.code() == Some(1), "{fault}: {said}");
            }
            recovers(&operator, 1, &mut known).await;
        }
        assert!(failed >= REPAIR_CASES.len() - 1, "{failed} repairs failed");
    });
}
