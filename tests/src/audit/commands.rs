//! `fama audit` and `fama export` as users run them, against folders and running nodes.
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fama_ledger::codec;
use fama_ledger::equivocation::Equivocation;
use fama_tests::{federation, log, secret};
use serde_json::Value;
use tempfile::TempDir;

use super::served::{branches, story};
use crate::cli::{lines, program};
use crate::federation::{LocalFederation, eventually, multi};
use crate::vectors::unhex;

/// Runs a command line with `--json`; returns whether it succeeded, and its output.
pub(crate) async fn command(args: Vec<String>) -> (bool, Value) {
    let run = move || {
        let args: Vec<String> = ["--json".to_owned()].into_iter().chain(args).collect();
        let (code, out) = crate::cli::command(std::path::Path::new("/nonexistent"), &args);
        (code == std::process::ExitCode::SUCCESS, serde_json::from_str(&out).unwrap())
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

/// Audits until the report has the state id `state`: then a certified head covers everything that the nodes have.
pub(crate) async fn comes_to(args: &[&str], state: &str) -> Value {
    eventually("an audit comes to the nodes' state", || async {
        let args = ["audit"].iter().chain(args).map(ToString::to_string).collect();
        match command(args).await {
            (true, report) if report["state_id"] == state => Ok(report),
            (_, report) => Err(report.to_string()),
        }
    })
    .await
}

#[test]
fn a_proof_against_an_owner_is_kept_and_no_table_of_a_lie() {
    multi(async {
        let manifest = federation(4, |_| {});
        let story = story(&manifest);
        let (one, two) = branches(&story, story.logs()[&log(0)].len() - 51);
        let dir = TempDir::new().unwrap();
        let path = |name: &str| dir.path().join(name);
        let sources = [("one", &one), ("two", &two)].map(|(name, logs)| story.folder_of(name, logs).write(&path(name)));
        let kept = path("kept").display().to_string();
        let args = ["audit", &sources[0], &sources[1], "--keep", &kept].map(str::to_owned);
        let (done, said) = command(args.to_vec()).await;
        assert_eq!((done, &said["code"]), (false, &"audit_failed".into()), "{said}");
        assert_eq!(said["report"]["findings"][0]["lie"], "split_view", "{said}");
        let proof = std::fs::read_to_string(path("kept/equivocation-alpha.example-1.hex")).unwrap();
        assert_eq!(said["report"]["findings"][0]["equivocation"], proof.trim());
        let bytes = unhex(proof.trim());
        let proof: Equivocation = codec::decode(&bytes, Equivocation::BYTES_MAX).unwrap();
        assert_eq!(proof.verify(&manifest), Ok(()));

        let mut changed = story.folder("changed");
        changed.rewrite("log/alpha.example/1/tile/entries/001", |entries| entries[3][70] ^= 1);
        let (changed, tables) = (changed.write(&path("changed")), path("tables").display().to_string());
        let args = ["export", "--from", &changed, "--format", "csv", "--to", &tables].map(str::to_owned);
        let (done, said) = command(args.to_vec()).await;
        assert_eq!((done, &said["code"]), (false, &"audit_failed".into()), "{said}");
        assert_eq!(std::fs::read_dir(&tables).unwrap().count(), 0, "nothing is left");
        let args = ["export", "--from", &sources[0], "--format", "csv", "--to", &tables].map(str::to_owned);
        let (done, said) = command(args.to_vec()).await;
        assert_eq!((done, said["tables"].as_array().map(Vec::len)), (true, Some(3)), "{said}");
        let (done, said) = command(args.to_vec()).await;
        assert_eq!((done, &said["code"]), (false, &"file_exists".into()), "{said}");
    });
}

#[test]
fn running_nodes_and_stopped_ones_are_audited() {
    multi(async {
        let mut net = LocalFederation::running(4).await;
        let (agent_key, judge_key) = (secret(2), secret(4));
        let (agent, registration) = net.register(0, "audited", &agent_key);
        net.accepted(0, registration).await;
        let judge = net.provider(1, "judge", &judge_key).await;
        net.accepted(3, net.attest(1, (judge, &judge_key), agent, 5)).await;
        let state = net.settled().await;
        let path = |name: &str| net.dir.path().join(name).display().to_string();
        let (manifest, kept) = (path("manifest.txt"), path("kept"));
        std::fs::write(&manifest, net.manifest.note().to_string()).unwrap();
        let urls: Vec<String> = net.up().map(|(_, query)| format!("http://{query}")).collect();
        let report = comes_to(&[&urls[0], &urls[3], "--manifest", &manifest, "--keep", &kept], &state).await;
        assert_eq!(
            (&report["karma"], &report["identities"], &report["genesis"]),
            (&5.into(), &2.into(), &"trusted".into())
        );
        let again = comes_to(&[&urls[1], "--since", &kept], &state).await;
        assert_eq!((&again["entries"], &again["genesis"]), (&0.into(), &"earlier_audit".into()));
        let data = net.data(2).display().to_string();
        net.stop(2).await;
        comes_to(&[&data], &state).await;
        // A source that does not answer shows no lie: what the others show holds, and nobody is accused.
        let args = ["--json", "audit", &urls[0], &urls[2], "--manifest", &manifest].map(str::to_owned);
        let silent =
            tokio::task::spawn_blocking(move || crate::cli::command(std::path::Path::new("/nonexistent"), &args));
        let (code, report) = silent.await.unwrap();
        assert_eq!(code, std::process::ExitCode::from(fama_cli::UNDECIDED), "{report}");
        let report: Value = serde_json::from_str(&report).unwrap();
        assert_eq!(
            (&report["code"], &report["report"]["verdict"]),
            (&"audit_incomplete".into(), &"incomplete".into()),
            "{report}"
        );
        assert_eq!(report["report"]["state_id"], state.as_str(), "{report}");
        let (done, refused) = command(vec!["audit".into(), urls[0].clone(), "--keep".into(), data]).await;
        assert_eq!((done, &refused["code"]), (false, &"node_data".into()));
        let (done, refused) = command(vec!["audit".into(), urls[0].clone(), "--since".into(), manifest]).await;
        assert_eq!((done, &refused["code"]), (false, &"no_audit".into()));
    });
}

#[test]
fn a_watching_audit_says_when_sources_part_and_when_they_agree_again() {
    let manifest = federation(4, |_| {});
    let story = story(&manifest);
    let (one, two) = branches(&story, story.logs()[&log(0)].len() - 51);
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name);
    let (honest, parted) = (story.folder_of("a", &one), story.folder_of("b", &two));
    let sources = ["a", "b"].map(|name| honest.write(&path(name)));
    let mut command = Command::new(program());
    command.args(["--json", "audit", &sources[0], &sources[1], "--watch", "1", "--keep"]).arg(path("kept"));
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let said = lines(child.stdout.take().unwrap());
    let until = |what: &str, fits: &dyn Fn(&Value) -> bool| {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let line = said.recv_timeout(deadline.saturating_duration_since(Instant::now()));
            let line: Value = serde_json::from_str(&line.unwrap_or_else(|error| panic!("{what}: {error}"))).unwrap();
            if fits(&line) {
                return line;
            }
        }
    };
    let verified = |line: &Value| line["verdict"] == "verified";
    let first = until("both hold", &verified);
    assert_eq!((&first["genesis"], first["entries"].as_u64() > Some(0)), (&"source".into(), true), "{first}");
    let next = until("a round with nothing new", &|_| true);
    assert_eq!((&next["entries"], &next["state_id"]), (&0.into(), &first["state_id"]), "{next}");
    parted.write(&path("b"));
    until("they part", &|line| {
        line["findings"].as_array().is_some_and(|found| found.iter().any(|one| one["lie"] == "split_view"))
    });
    assert!(path("kept/equivocation-alpha.example-1.hex").is_file());
    honest.write(&path("b"));
    until("they agree again", &verified);
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    until("what was seen decides how it ends", &|line| line["code"] == "audit_failed");
    assert_eq!(child.wait().unwrap().code(), Some(1));
}
