//! The `fama` command against running nodes, as agents, services, operators and integrators use it.
use std::fs;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use fama_ledger::id::EventId;
use fama_tests::{governance_key, node_key};
use serde_json::Value;

use crate::federation::{LocalFederation, addresses, eventually, get, multi};

/// How long a command may take when no node answers.
const GIVING_UP: Duration = Duration::from_secs(15);
/// How many lines of a demonstration may be unread.
const LINES_MAX: usize = 64;

/// A user's folder with the manifest and the operators' keys, next to a running federation.
pub(crate) struct UserFolder<'a> {
    net: &'a LocalFederation,
    pub(crate) dir: PathBuf,
}

impl<'a> UserFolder<'a> {
    pub(crate) fn new(net: &'a LocalFederation) -> Self {
        let dir = net.dir.path().join("user");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("manifest.txt"), net.manifest.note().to_string()).unwrap();
        for i in 0..u8::try_from(net.nodes.len()).unwrap() {
            for (name, key) in [("node", node_key(i)), ("governance", governance_key(i)), ("next", node_key(10 + i))] {
                let path = dir.join(format!("{name}{i}.pem"));
                fs::write(&path, key.to_pem().as_bytes()).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            }
        }
        Self { net, dir }
    }

    /// The folder that an earlier one made.
    pub(crate) fn of(net: &'a LocalFederation) -> Self {
        Self { net, dir: net.dir.path().join("user") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Runs a command line in which `file:x` stands for `x` in the folder, and `query:i`, `admin:i` and `p2p:i` for a
    /// node's addresses.
    pub(crate) async fn run(&self, line: &str) -> (ExitCode, Value) {
        let word = |word: &str| match word.split_once(':') {
            Some(("file", name)) => self.dir.join(name).display().to_string(),
            Some(("query", i)) => {
                format!("http://{}", self.net.nodes[i.parse::<usize>().unwrap()].as_ref().unwrap().query)
            }
            Some(("admin", i)) => {
                format!("http://{}", self.net.nodes[i.parse::<usize>().unwrap()].as_ref().unwrap().admin)
            }
            Some(("p2p", i)) => addresses(self.net.ports[i.parse::<usize>().unwrap()])[0].clone(),
            _ => word.to_owned(),
        };
        let args: Vec<String> = ["--json"].into_iter().chain(line.split_whitespace()).map(word).collect();
        let home = self.dir.clone();
        let (code, out) = tokio::task::spawn_blocking(move || command(&home, &args)).await.unwrap();
        assert_eq!(out.lines().count(), 1, "one JSON object: {line}\n{out}");
        (code, serde_json::from_str(&out).unwrap())
    }

    pub(crate) async fn done(&self, line: &str) -> Value {
        let (code, answer) = self.run(line).await;
        assert_eq!(code, ExitCode::SUCCESS, "{line}\n{answer}");
        answer
    }

    /// Runs a command line that must be refused; returns the code. Every refusal comes soon and says what to do next.
    pub(crate) async fn refused(&self, line: &str) -> String {
        let begun = Instant::now();
        let (code, answer) = self.run(line).await;
        assert!(begun.elapsed() < GIVING_UP, "{line} took {:?}", begun.elapsed());
        assert_eq!(code, ExitCode::from(fama_cli::FAILED), "{line}\n{answer}");
        assert!(!answer["error"].as_str().unwrap().is_empty() && answer["hint"].is_string(), "{line}\n{answer}");
        answer["code"].as_str().unwrap().to_owned()
    }

    /// Submits an event and waits until it is final; returns the receipt.
    async fn final_receipt(&self, line: &str) -> Value {
        let receipt = self.done(&format!("{line} --manifest file:manifest.txt --yes --wait final")).await;
        has(&receipt, &["event", "kind", "log", "index", "time", "size", "known", "quorum", "proof"]);
        assert_eq!((&receipt["final"], &receipt["known"]), (&true.into(), &false.into()), "{receipt}");
        let cosigned = receipt["cosigned_by"].as_array().unwrap().len() as u64;
        assert!(cosigned >= receipt["quorum"].as_u64().unwrap(), "{receipt}");
        receipt
    }

    /// A sponsored service whose home is the second operator's.
    pub(crate) async fn service(&self, name: &str) {
        self.done(&format!("key new --out file:{name}.pem")).await;
        self.final_receipt(&format!("register {name}@beta.example --key file:{name}.pem --no-next")).await;
        for i in 0..2 {
            let what = format!("{name}@beta.example --service {name} --domain {name}.example");
            self.final_receipt(&format!("admit {what} --method dns --no-check --key file:node{i}.pem --query query:3"))
                .await;
        }
    }

    fn has_file(&self, name: &str) -> bool {
        self.dir.join(name).exists()
    }
}

/// Runs the program as a user whose home is this folder: its exit code and what it printed.
pub(crate) fn command(home: &Path, args: &[String]) -> (ExitCode, String) {
    let mut command = Command::new(program());
    let names = ["XDG_CONFIG_HOME", "XDG_STATE_HOME", "FAMA_MANIFEST", "FAMA_KEY", "FAMA_QUERY", "RUST_LOG"];
    for name in names {
        command.env_remove(name);
    }
    let output = command.args(args).env("HOME", home).stdin(Stdio::null()).output().unwrap();
    let code = output.status.code().unwrap_or_else(|| panic!("{args:?}: {}", output.status));
    (ExitCode::from(u8::try_from(code).unwrap()), String::from_utf8(output.stdout).unwrap())
}

/// Checks that an answer has these members.
fn has(answer: &Value, members: &[&str]) {
    for member in members {
        assert!(!answer[*member].is_null(), "{member} is missing in {answer}");
    }
}

const AGENT: &str = "swift-core-maps@alpha.example";

#[test]
fn an_agents_life_by_commands() {
    multi(async {
        let net = LocalFederation::running(4).await;
        let user = UserFolder::new(&net);
        let karma = |sum: i64| move |profile: &Value| profile["reputation"]["global_score"] == sum;

        has(&user.done("key new --out file:agent.pem").await, &["curve", "key", "hash", "public_key"]);
        let line = format!("register {AGENT} --bio swiftly --key file:agent.pem --node p2p:2");
        let registered = user.final_receipt(&line).await;
        has(&registered, &["identity", "handle", "did"]);
        assert_eq!((&registered["log"], &registered["handle"]), (&"alpha.example/1".into(), &AGENT.into()));
        assert!(user.has_file("agent.next.pem"), "a next key is committed to by default");

        user.service("judge").await;
        let attest =
            format!("attest {AGENT} --issuer judge@beta.example --key file:judge.pem --query query:0 --context code");
        let attested =
            user.final_receipt(&format!("{attest} --delta 4 --reason neat --ref https://judge.example/1")).await;
        user.final_receipt(&format!("{attest} --delta -1")).await;
        net.shows(AGENT, karma(3)).await;
        // A note may arrive after its event.
        net.shows(AGENT, |profile| {
            let recent = &profile["recent_attestations"];
            recent[0]["reason"].is_null() && recent[1]["reason"] == "neat"
        })
        .await;

        let attestation: EventId = attested["event"].as_str().unwrap().parse().unwrap();
        user.final_receipt(&format!("retract {attestation} --key file:judge.pem --query query:2")).await;
        net.shows(AGENT, karma(-1)).await;
        let event = user.done(&format!("event {attestation} --query query:2")).await;
        let counted = serde_json::json!({
            "event": attestation.to_string(), "number": 0, "retracted_by": 2, "effective": 4, "counts": false, "cap_left": 20,
        });
        assert_eq!(event["attestation"], counted, "{event}");
        let judge = user.done("agent judge@beta.example --query query:1").await;
        let sponsorship = &judge["sponsorship"];
        assert_eq!((&sponsorship["next_number"], &sponsorship["counts"]), (&3.into(), &true.into()), "{judge}");
        assert_eq!(sponsorship["services"][0]["sponsors"][1]["operator"], "beta.example", "{judge}");
        assert_eq!(sponsorship["today"]["attestations_left"], 249_998, "{judge}");
        assert!(user.done(&format!("agent {AGENT} --query query:1")).await["sponsorship"].is_null());
        // A dismissal from the retraction's number on would revive what was retracted.
        let query = net.nodes[1].as_ref().unwrap().query;
        let asked = "operator=beta.example&service=judge&domain=judge.example&dismiss_from=";
        let path = format!("/api/agent/judge@beta.example/sponsorship?{asked}");
        let effect = get(query, &format!("{path}2")).await["dismissal"].clone();
        let sums = |sum: i64, count: u64| serde_json::json!({"sum": sum, "count": count});
        assert_eq!((&effect["lost"], &effect["revived"]), (&sums(0, 0), &sums(4, 1)), "{effect}");
        let effect = get(query, &format!("{path}0")).await["dismissal"].clone();
        assert_eq!((&effect["lost"], &effect["revived"]), (&sums(-1, 1), &sums(0, 0)), "{effect}");
        let vague = "dismiss judge@beta.example --manifest file:manifest.txt --yes --query query:0";
        assert_eq!(user.refused(&format!("{vague} --key file:node1.pem")).await, "from_needed");
        assert_eq!(user.refused(&format!("{vague} --key file:node2.pem --from 0")).await, "not_sponsored");
        let dismiss = "dismiss judge@beta.example --from 0 --reason expired";
        user.final_receipt(&format!("{dismiss} --key file:node1.pem --query query:0")).await;
        net.shows(AGENT, karma(0)).await;
        let shown = get(net.nodes[3].as_ref().unwrap().query, &format!("/api/agent/{AGENT}")).await;
        assert_eq!(
            shown["recent_attestations"][0]["counts"], false,
            "an attestation that no longer counts says so: {shown}"
        );

        user.final_receipt(&format!("rotate {AGENT} --key file:agent.pem --query query:1")).await;
        assert!(["agent.v1.pem", "agent.pem", "agent.next.pem"].iter().all(|name| user.has_file(name)));
        net.shows(AGENT, |profile| profile["key_status"]["key_version"] == 2).await;
        let login = user.done(&format!("sign --key file:agent.pem --name {AGENT} --payload challenge")).await;
        let of = |member: &str| login[member].as_str().unwrap().to_owned();
        let (time, signature) = (of("timestamp"), of("signature"));
        let check = format!(
            "check-login --name {AGENT} --timestamp {time} --payload challenge --signature {signature} --query query:3"
        );
        assert_eq!(user.done(&check).await["verified"], true);
        assert_eq!(user.refused(&check.replace("challenge", "other")).await, "bad_signature");

        let line = format!("revoke {AGENT} --reason key_compromised --key file:agent.pem --query query:1 --node p2p:3");
        let revoked = user.final_receipt(&line).await;
        net.shows(AGENT, |profile| profile["key_status"]["is_revoked"] == true).await;
        assert_eq!(user.refused(&check).await, "revoked");
        let event = user.done(&format!("event {} --query query:2", revoked["event"].as_str().unwrap())).await;
        has(&event, &["id", "kind", "text", "signer", "signature", "positions", "receipt"]);
        user.final_receipt(&format!("rotate {AGENT} --key file:agent.pem --query query:1")).await;
        net.shows(AGENT, |profile| profile["key_status"]["is_revoked"] == false).await;

        has(&user.done(&format!("agent {AGENT} --final --query query:1")).await, &["identity", "reputation", "ledger"]);
        let board = user.done("leaderboard --limit 1 --query query:0").await;
        has(&board, &["timestamp", "service", "agents", "cursor"]);
        has(&user.done("status --query query:3").await, &["status", "operator", "frontier", "certified", "state_id"]);
        net.settled().await;
    });
}

/// A revocation that its home does not take is a claim, which a proof without that log hides: f + 1 logs have it before
/// the command calls it done.
#[test]
fn a_revocation_that_its_home_does_not_take_is_claimed_in_enough_logs() {
    multi(async {
        let mut net = LocalFederation::running(4).await;
        let user = UserFolder::new(&net);
        user.done("key new --out file:agent.pem").await;
        let registered = user.final_receipt(&format!("register {AGENT} --key file:agent.pem")).await;
        assert_eq!(registered["claims"], Value::Null);
        net.settled().await;
        let UserFolder { dir, .. } = user;
        net.stop(0).await;
        let user = UserFolder { net: &net, dir };
        let revoked = user.final_receipt(&format!("revoke {AGENT} --key file:agent.pem --query query:1")).await;
        let logs: Vec<&str> = revoked["claims"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert_eq!(
            (logs, &revoked["claims_wanted"]),
            (vec!["beta.example/1", "gamma.example/1"], &2.into()),
            "{revoked}"
        );
    });
}

/// One node's proof is valid for every reader who has the genesis, and every changed file is refused with a reason.
#[test]
fn any_nodes_proof_is_checked_with_the_genesis_alone() {
    multi(async {
        let net = LocalFederation::running(4).await;
        let user = UserFolder::new(&net);
        user.done("key new --out file:agent.pem").await;
        let registered = user.final_receipt(&format!("register {AGENT} --key file:agent.pem")).await;
        user.service("judge").await;
        let attest =
            format!("attest {AGENT} --issuer judge@beta.example --key file:judge.pem --query query:0 --delta 4");
        let attested = user.final_receipt(&attest).await;
        net.settled().await;
        let event = attested["event"].as_str().unwrap();
        let verify = |file: &str| format!("verify file:{file} --manifest file:manifest.txt");

        // The certificate of every log moves to its newest head; until then a proof may be one batch old.
        let proven = eventually("the karma is proven", || async {
            let _ = fs::remove_file(user.dir.join("agent.proof"));
            user.done(&format!("prove {AGENT} --query query:2 --out file:agent.proof")).await;
            let proven = user.done(&format!("{} --about {AGENT}", verify("agent.proof"))).await;
            if proven["agent"]["karma"]["sum"] == 4 { Ok(proven) } else { Err(proven.to_string()) }
        })
        .await;
        has(&proven, &["question", "age_seconds", "as_of", "federation", "manifest_version", "logs", "left_out"]);
        assert_eq!(proven["agent"]["status"], "active", "{proven}");
        eventually("the proof is a second old", || async {
            let proven = user.done(&verify("agent.proof")).await;
            if proven["age_seconds"].as_u64() > Some(0) { Ok(()) } else { Err(proven.to_string()) }
        })
        .await;
        let young = format!("{} --max-age 0 --missing 0", verify("agent.proof"));
        assert_eq!(user.refused(&young).await, "profile_left_out");
        assert_eq!(user.refused(&format!("{} --about judge@beta.example", verify("agent.proof"))).await, "other_proof");
        let nobody = user.done("prove nobody@alpha.example --query query:3 --manifest file:manifest.txt").await;
        assert_eq!(nobody["shows"]["found"], false, "{nobody}");

        let checked =
            user.done(&format!("prove {event} --query query:1 --manifest file:manifest.txt --out file:e.proof")).await;
        assert_eq!((&checked["kind"], &checked["shows"]["final"]), (&"event".into(), &Value::Bool(true)), "{checked}");
        assert_eq!(user.done(&verify("e.proof")).await["event"], event);
        fs::write(user.dir.join("receipt.json"), registered.to_string()).unwrap();
        let receipt = user.done(&format!("{} --owner-only", verify("receipt.json"))).await;
        assert_eq!(receipt["event"], registered["event"]);
        let id = registered["identity"].as_str().unwrap();
        assert_eq!(user.done(&format!("prove {id} --query query:0")).await["kind"], "profile");
        assert_eq!(user.done(&format!("prove {id} --event --query query:0")).await["kind"], "event");

        let text = fs::read_to_string(user.dir.join("agent.proof")).unwrap();
        fs::write(user.dir.join("bad.proof"), text.replace("\"question\": \"swift", "\"question\": \"shift")).unwrap();
        let code = user.refused(&verify("bad.proof")).await;
        assert!(code.starts_with("proof_") || code == "profile_rows", "{code}");
        fs::write(user.dir.join("bad.proof"), &text[1..]).unwrap();
        assert_eq!(user.refused(&verify("bad.proof")).await, "profile_form");
        let text = fs::read_to_string(user.dir.join("e.proof")).unwrap();
        fs::write(user.dir.join("bad.proof"), text.replace("\nindex ", "\nindex 1")).unwrap();
        assert!(user.refused(&verify("bad.proof")).await.starts_with("proof_"));
        let owner_only: String =
            text.split_inclusive('\n').filter(|line| !line.contains("— beta") && !line.contains("— gamma")).collect();
        fs::write(user.dir.join("owner.proof"), owner_only).unwrap();
        assert_eq!(user.refused(&verify("owner.proof")).await, "not_final");
        assert_eq!(user.done(&format!("{} --owner-only", verify("owner.proof"))).await["final"], false);
    });
}

impl UserFolder<'_> {
    /// Makes these operators stand still in a log, each at its own node; one that has just started is asked again until
    /// it has learned what it cosigned.
    pub(crate) async fn stand(&self, log: &str, operators: &[usize]) {
        for i in operators {
            let line = format!("federation stand --log {log} --admin admin:{i} --yes");
            eventually("a stand", || async {
                match self.run(&line).await {
                    (_, answer) if answer["code"] == "not_ready" => Err(answer.to_string()),
                    (code, answer) => {
                        assert_eq!(code, ExitCode::SUCCESS, "{line}\n{answer}");
                        Ok(())
                    }
                }
            })
            .await;
        }
    }

    /// Makes these operators agree with a draft and sign it, each at its own node; the first one's node publishes it.
    pub(crate) async fn carry(&self, draft: &str, operators: &[usize]) {
        for i in operators {
            let key = format!("--key file:node{i}.pem --query query:{i} --admin admin:{i} --yes");
            self.done(&format!("federation agree file:{draft}/draft.txt {key}")).await;
        }
        for i in operators {
            self.done(&format!("federation sign file:{draft}/draft.txt --key file:governance{i}.pem --yes")).await;
            // A cut needs a quorum of each version that the log had adopted: of the former one, the former key signs.
            if self.has_file(&format!("former{i}.pem")) {
                self.done(&format!("federation sign file:{draft}/draft.txt --key file:former{i}.pem --yes")).await;
            }
        }
        let shown = self.done(&format!("federation show file:{draft}/draft.txt")).await;
        assert_eq!(shown["progress"]["complete"], true, "{shown}");
        let first = operators[0];
        self.done(&format!("federation publish file:{draft}/draft.txt --admin admin:{first}")).await;
    }

    /// Waits until all running nodes use that version; returns what `federation show` prints.
    pub(crate) async fn uses(&self, version: u32) -> Value {
        let used = |status: &Value| status["manifest_version"] == version && status["waiting"].is_null();
        self.net.wait("the version is in use", used).await;
        let shown = self.done("federation show query:0").await;
        assert_eq!(shown["version"], version);
        shown
    }
}

/// From stands to the chain that every node holds: a rule changes, a dead operator leaves, and its home continues.
#[test]
fn operators_and_rules_change_by_commands() {
    multi(async {
        let mut net = LocalFederation::running(4).await;
        let user = UserFolder::new(&net);
        user.done("key new --out file:agent.pem").await;
        let heir = user.final_receipt("register heir@delta.example --key file:agent.pem --no-next --node p2p:3").await;
        user.service("judge").await;
        let gamma = format!("--governance gamma.example={}", user.dir.join("next2.pem").display());
        let line =
            format!("federation draft --from query:0 --from query:2 --policy daily_cap=30 {gamma} --out file:rule");
        let changes = user.done(&line).await["changes"].clone();
        let [new, old] = [node_key(12), governance_key(2)].map(|key| key.public());
        let key = format!("gamma.example has the governance key {new}, previously {old}");
        assert_eq!(changes, serde_json::json!([key, "daily_cap is 30, previously 25"]));
        user.carry("rule", &[3, 1, 2]).await;
        user.uses(2).await;
        // From now on the new key signs.
        fs::rename(user.dir.join("governance2.pem"), user.dir.join("former2.pem")).unwrap();
        fs::copy(user.dir.join("next2.pem"), user.dir.join("governance2.pem")).unwrap();
        net.settled().await;
        let UserFolder { dir, .. } = user;
        net.stop(3).await;

        let user = UserFolder { net: &net, dir };
        let remove = "federation draft --remove delta.example --successor beta.example --policy min_sponsors=1";
        let from = "--from query:0 --from query:1 --from query:2";
        user.stand("delta.example/1", &[0, 1]).await;
        assert_eq!(user.refused(&format!("{remove} {from} --out file:few")).await, "stands_missing");
        user.stand("delta.example/1", &[2]).await;
        let drafted = user.done(&format!("{remove} {from} --out file:gone")).await;
        let change = "the home delta.example passes from the log delta.example/1 to beta.example/1";
        assert!(drafted["changes"].as_array().unwrap().contains(&change.into()), "{drafted}");
        user.carry("gone", &[0, 1, 2]).await;
        let shown = user.uses(3).await;
        let cut = &shown["cuts"][0];
        assert_eq!((&cut["log"], &cut["adopted"]), (&"delta.example/1".into(), &2.into()), "{cut}");
        let chain = user.dir.join("chain.txt");
        let text = tokio::task::spawn_blocking({
            let url = format!("http://{}/api/federation/manifests", net.nodes[1].as_ref().unwrap().query);
            move || ureq::get(url).call().unwrap().body_mut().read_to_string().unwrap()
        });
        fs::write(&chain, text.await.unwrap()).unwrap();
        assert_eq!(user.done("federation show file:chain.txt").await["hash"], shown["hash"]);
        user.done("key new --out file:late.pem").await;
        // A client that holds nothing but the genesis: of version 1 only two of three operators are still there.
        let receipt = user.final_receipt("register late@delta.example --key file:late.pem --no-next").await;
        assert_eq!((&receipt["log"], &receipt["manifest_version"]), (&"beta.example/1".into(), &3.into()), "{receipt}");
        fs::write(user.dir.join("receipt.json"), receipt.to_string()).unwrap();
        let verified = user.done("verify file:receipt.json --manifest file:manifest.txt").await;
        assert_eq!((&verified["final"], &verified["manifest_version"]), (&true.into(), &3.into()), "{verified}");
        assert_eq!(user.done("federation show file:manifest.txt.chain").await["hash"], shown["hash"], "it is kept");
        let attest = "attest heir@delta.example --issuer judge@beta.example --delta 5 --key file:judge.pem";
        let attested = user.final_receipt(&format!("{attest} --query query:1")).await;
        assert_eq!(attested["log"], "beta.example/1", "{attested}");
        net.shows("heir@delta.example", |profile| profile["reputation"]["global_score"] == 5).await;
        let agent = user.done("agent heir@delta.example --query query:2").await;
        assert_eq!(
            (&agent["identity"]["dumbname"], &agent["ledger"]["final"]),
            (&"heir@delta.example".into(), &true.into())
        );
        let event = user.done(&format!("event {} --query query:0", heir["event"].as_str().unwrap())).await;
        assert_eq!(event["positions"][0]["final"], true, "{event}");
        assert!(
            event["receipt"].as_str().unwrap().contains("delta.example/1"),
            "a log that ended still proves: {event}"
        );
    });
}

/// A home that stands still may have the event that was forwarded to it: nobody is told that it was refused, and the same
/// event is submitted until its outcome is known.
#[test]
fn an_event_whose_outcome_is_unknown_is_kept_and_counts_once() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("demo").display().to_string();
    let mut demo = Demo::start(&["--data", &data]);
    let up = demo.phase("up", STORY);
    demo.phase("ready", STORY);
    let node = |i: usize| up["nodes"][i].clone();
    let manifest = dir.path().join("demo/manifest.txt").display().to_string();
    let run = |line: &str| {
        let args: Vec<String> = ["--json"].into_iter().chain(line.split_whitespace()).map(str::to_owned).collect();
        let (code, out) = command(dir.path(), &args);
        (code, serde_json::from_str::<Value>(&out).unwrap_or_else(|error| panic!("{error}: {line}\n{out}")))
    };
    let key = dir.path().join("agent.pem").display().to_string();
    assert_eq!(run(&format!("key new --out {key}")).0, ExitCode::SUCCESS);
    let signal = |name: &str| {
        let pid = node(0)["pid"].to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    };
    let other = node(1)["p2p"].as_str().unwrap().to_owned();
    let register =
        format!("register late@alpha.example --key {key} --no-next --yes --manifest {manifest} --node {other}");
    signal("-STOP");
    let (code, first) = run(&register);
    assert_eq!((code, &first["code"]), (ExitCode::from(fama_cli::UNDECIDED), &"outcome_unknown".into()), "{first}");
    assert!(first["hint"].as_str().unwrap().contains("fama resume"), "{first}");
    let (_, listed) = run("resume --list");
    let event = listed["events"][0]["event"].as_str().unwrap().to_owned();
    let (code, again) = run(&register);
    assert_eq!((code, &again["code"]), (ExitCode::from(fama_cli::UNDECIDED), &"outcome_unknown".into()), "{again}");
    let (_, listed) = run("resume --list");
    assert_eq!(listed["events"].as_array().unwrap().len(), 1, "nothing new was signed: {listed}");
    signal("-CONT");
    let deadline = Instant::now() + Duration::from_secs(60);
    let resumed = loop {
        let (code, resumed) = run("resume");
        if code == ExitCode::SUCCESS {
            break resumed;
        }
        assert_eq!(code, ExitCode::from(fama_cli::UNDECIDED), "{resumed}");
        assert!(Instant::now() < deadline, "{resumed}");
        std::thread::sleep(Duration::from_millis(200));
    };
    assert_eq!(resumed["events"][0]["receipt"]["event"], event.as_str(), "{resumed}");
    assert_eq!(run("resume").1["events"], serde_json::json!([]));
    let query = node(1)["query"].as_str().unwrap().to_owned();
    let shown = loop {
        let (code, shown) = run(&format!("event {event} --query {query}"));
        if code == ExitCode::SUCCESS {
            break shown;
        }
        assert!(Instant::now() < deadline, "{shown}");
    };
    assert_eq!(shown["positions"].as_array().unwrap().len(), 1, "{shown}");
    demo.end("-TERM");
}

/// A node of one operator as a process of its own, whose log is JSON.
struct LoggingNode {
    child: Child,
    log: Receiver<String>,
}

impl LoggingNode {
    fn start(config: &Path) -> Self {
        let mut command = Command::new(program());
        command.args(["node", "--config"]).arg(config).env_remove("RUST_LOG");
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, log) = sync_channel(LINES_MAX);
        let stderr = child.stderr.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                if sender.send(line.unwrap()).is_err() {
                    return;
                }
            }
        });
        Self { child, log }
    }

    /// The next line with this message.
    fn line(&self, message: &str) -> Value {
        let deadline = Instant::now() + GIVING_UP;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.log.recv_timeout(left).unwrap_or_else(|error| panic!("no line {message:?}: {error}"));
            let line: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            if line["fields"]["message"] == message {
                return line;
            }
        }
    }

    fn hang_up(&self) {
        assert!(Command::new("kill").args(["-HUP", &self.child.id().to_string()]).status().unwrap().success());
    }
}

impl Drop for LoggingNode {
    fn drop(&mut self) {
        // An error: it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `systemctl reload` takes up what can change, says what, and refuses a broken file without harm. All of the log has the
/// configured format, also what keeps a node from starting.
#[test]
fn a_running_node_reads_its_configuration_again() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("one").display().to_string();
    let ports = crate::federation::free_ports(3);
    let new = ["federation", "new", "One", "alpha.example", "--out", &out].map(str::to_owned);
    assert_eq!(command(dir.path(), &new).0, ExitCode::SUCCESS);
    let config = dir.path().join("one/alpha.example/node.toml");
    let text = fs::read_to_string(&config).unwrap();
    let text = text.replace("4001", &ports[0].to_string()).replace("8080", &ports[1].to_string());
    let text = text.replace("9090", &ports[2].to_string()) + "\n[log]\nformat = \"json\"\n";
    fs::write(&config, &text).unwrap();
    let memory = |verify: &str| {
        let config = config.to_str().unwrap();
        let words = ["node", "--json", "--check", "--verify", verify, "--config", config].map(str::to_owned);
        let checked: Value = serde_json::from_str(&command(dir.path(), &words).1).unwrap();
        checked["memory_bytes"].as_u64().unwrap()
    };
    assert_eq!(memory("certified"), 2 * memory("full"), "a second state answers until the node's own copies are there");
    let node = LoggingNode::start(&config);
    let up = node.line("node is up");
    let query = format!("127.0.0.1:{}", ports[1]);
    assert_eq!(up["fields"]["query"], query.as_str(), "{up}");
    assert!(up["fields"]["p2p"].as_str().unwrap().contains(&ports[0].to_string()), "{up}");
    let second = LoggingNode::start(&config);
    assert!(second.log.recv_timeout(GIVING_UP).unwrap().contains("\"code\":\"address_in_use\""));
    assert!(second.log.recv_timeout(GIVING_UP).is_err(), "nothing but that line, and then the end");
    fs::write(&config, text.replace("[query]", "[admission]\nregistrations_per_hour = 7\n[query]\naccess_log = true"))
        .unwrap();
    node.hang_up();
    let read = node.line("configuration read again; all other settings need a restart");
    let fields = &read["fields"];
    assert_eq!((&fields["registrations_per_hour"], &fields["access_log"]), (&7.into(), &true.into()), "{read}");
    let get = || ureq::get(format!("http://{query}/api/status")).call().unwrap();
    get();
    assert_eq!(node.line("request")["fields"]["status"], 200);
    fs::write(&config, text.replace("[query]", "[query]\nnonsense = 1")).unwrap();
    node.hang_up();
    assert_eq!(node.line("the configuration is not taken up")["fields"]["code"], "config_toml");
    get();
    node.line("request");
    let text = text.replace("[query]", "[query]\naccess_log = true");
    fs::write(&config, text.replace("format = \"json\"", "format = \"json\"\nlevel = \"error\"")).unwrap();
    node.hang_up();
    // The node may answer often before it has read the file.
    let deadline = Instant::now() + GIVING_UP;
    loop {
        get();
        if node.log.recv_timeout(Duration::from_millis(500)).is_err() {
            break;
        }
        assert!(Instant::now() < deadline, "errors only, from now on");
    }
}

/// A node that can do nothing is not `ok`: health checks see it by the exit code, and people what it waits for.
#[test]
fn the_status_of_a_node_that_is_not_ready_fails() {
    multi(async {
        let mut net = LocalFederation::new(4);
        net.start(0).await;
        let user = UserFolder::new(&net);
        let (code, status) = user.run("status --query query:0").await;
        assert_eq!(code, ExitCode::from(fama_cli::UNDECIDED), "{status}");
        assert_eq!((&status["ready"], &status["code"]), (&false.into(), &"not_ready".into()), "{status}");
        let reasons = status["reasons"].as_array().unwrap();
        assert!(
            reasons.contains(&"too_few_operators_heard".into()) && reasons.contains(&"waiting: starting".into()),
            "{status}"
        );
        has(&status, &["operator", "frontier", "operators_heard", "hint"]);
        let UserFolder { dir, .. } = user;
        for i in 1..4 {
            net.start(i).await;
        }
        net.wait("all are ready", |status| status["ready"] == true).await;
        let user = UserFolder { net: &net, dir };
        assert_eq!(user.done("status --query query:0").await["reasons"], serde_json::json!([]));
    });
}

/// `fama init` asks a node once; from then on neither the manifest nor the node nor the key is repeated.
#[test]
fn what_init_remembers_is_not_repeated() {
    multi(async {
        let net = LocalFederation::running(1).await;
        let other = LocalFederation::running(1).await;
        let user = UserFolder::new(&net);
        user.done("key new --out file:agent.pem").await;
        let register = format!("register {AGENT} --no-next --yes --wait final");
        assert_eq!(user.refused(&register).await, "no_manifest");
        assert_eq!(user.refused("init query:0").await, "not_confirmed");
        assert_eq!(
            user.refused(&format!("init query:0 --federation {}", other.manifest.federation())).await,
            "other_federation"
        );
        let id = net.manifest.federation();
        let made = user.done(&format!("init query:0 --federation {id} --key file:agent.pem")).await;
        assert_eq!(made["federation"], id.to_string());
        assert_eq!(user.done(&register).await["final"], true);
        assert_eq!(user.done(&format!("agent {AGENT}")).await["identity"]["handle"], AGENT);
        assert_eq!(user.done(&format!("prove {AGENT}")).await["shows"]["found"], true, "it is verified, too");
        // Again, as after a move of the node: the federation is known, so nobody is asked.
        user.done("init query:0").await;
        let url = format!("http://{}", other.nodes[0].as_ref().unwrap().query);
        assert_eq!(user.refused(&format!("init {url}")).await, "not_confirmed", "another federation");
    });
}

#[test]
fn refusals_say_what_to_do_next() {
    multi(async {
        let mut net = LocalFederation::running(2).await;
        let other = LocalFederation::running(1).await;
        let refusals = async |user: &UserFolder<'_>| {
            user.done("key new --out file:agent.pem").await;
            user.final_receipt("register first@alpha.example --key file:agent.pem --no-next").await;
            user.done("key new --out file:other.pem").await;
            fs::copy(user.dir.join("other.pem"), user.dir.join("open.pem")).unwrap();
            fs::set_permissions(user.dir.join("open.pem"), fs::Permissions::from_mode(0o644)).unwrap();
            fs::write(user.dir.join("half.txt"), &net.manifest.note().to_string()[..200]).unwrap();
            fs::write(user.dir.join("bad.pem"), "garbage").unwrap();
            fs::write(user.dir.join("foreign.txt"), other.manifest.note().to_string()).unwrap();

            let register = "register second@alpha.example --yes --no-next";
            let with = |manifest: &str, key: &str| format!("{register} --manifest file:{manifest} --key file:{key}");
            let good = with("manifest.txt", "other.pem");
            let table = [
                (with("none.txt", "other.pem"), "file_not_found"),
                (with("half.txt", "other.pem"), "manifest_note"),
                (format!("{} --node p2p:0", with("foreign.txt", "other.pem")), "other_federation"),
                (with("manifest.txt", "none.pem"), "file_not_found"),
                (with("manifest.txt", "open.pem"), "key_permissions"),
                (with("manifest.txt", "bad.pem"), "key_pem"),
                (with("manifest.txt", "agent.pem"), "key_in_use"),
                (good.replace("second", "first"), "name_taken"),
                (good.replace("alpha", "nowhere"), "unknown_home"),
                (format!("{good} --node nonsense"), "bad_address"),
                (format!("{good} --node /ip4/127.0.0.1/tcp/1"), "unreachable"),
                (good.replace("--yes", ""), "not_confirmed"),
                ("agent nobody --query query:0".into(), "unknown_agent"),
                ("agent nobody --query http://127.0.0.1:1".into(), "unreachable"),
                ("agent nobody --query nonsense".into(), "bad_url"),
                (format!("event {} --query query:0", EventId([7; 32])), "unknown_event"),
                (
                    "attest first@alpha.example --issuer first@alpha.example --delta 6 --manifest file:manifest.txt \
                     --key file:agent.pem --query query:0 --yes"
                        .into(),
                    "delta",
                ),
                (
                    "rotate first@alpha.example --manifest file:manifest.txt --key file:agent.pem --query query:0 --yes".into(),
                    "file_not_found",
                ),
                ("key new --out file:agent.pem".into(), "file_exists"),
                ("node --config file:none.toml".into(), "config_unreadable"),
                ("demo --exit --ratings file:half.txt".into(), "ratings"),
            ];
            for (line, code) in table {
                let got = user.refused(&line).await;
                assert_eq!(got, code, "{line}");
            }
        };
        let user = UserFolder::new(&net);
        refusals(&user).await;
        let UserFolder { dir, .. } = user;
        net.stop(0).await;
        net.stop(1).await;
        let user = UserFolder { net: &net, dir };
        let late = "register late@alpha.example --yes --no-next --manifest file:manifest.txt --key file:other.pem";
        assert_eq!(user.refused(late).await, "unreachable", "with every node down");
    });
}

/// In a terminal of 80 columns and 24 lines that `script` makes, as over ssh.
#[test]
fn top_shows_a_node_in_a_terminal() {
    multi(async {
        let net = LocalFederation::running(1).await;
        net.settled().await;
        let node = net.nodes[0].as_ref().unwrap();
        let (query, admin) = (node.query, node.admin);
        let seen = move || {
            let top = format!("{} top --query http://{query} --admin http://{admin} --every 1", program().display());
            let mut command = Command::new("script");
            command.args(["-qfec", &format!("stty rows 24 cols 80; exec {top}"), "/dev/null"]).env("TERM", "xterm");
            let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
            let mut child = child.unwrap();
            let (mut keys, mut out) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
            let (sender, written) = sync_channel(LINES_MAX);
            std::thread::spawn(move || {
                let mut some = [0; 4_096];
                while let Ok(count) = out.read(&mut some)
                    && count > 0
                    && sender.send(some[..count].to_vec()).is_ok()
                {}
            });
            let (mut all, deadline) = (Vec::new(), Instant::now() + Duration::from_secs(60));
            let mut until = |words: &[&str]| {
                // Only what changes on the screen is written, so words are looked for one by one.
                while !words.iter().all(|word| String::from_utf8_lossy(&all).contains(word)) {
                    let some = written.recv_timeout(deadline.saturating_duration_since(Instant::now()));
                    let said = String::from_utf8_lossy(&all).into_owned();
                    all.extend(some.unwrap_or_else(|error| panic!("no {words:?}: {error}: {said}")));
                }
            };
            until(&["alpha.example", "ready", "nothing:", "accepted", "memory", "MB", "OPERATOR"]);
            keys.write_all(b"?").unwrap();
            until(&["FINAL", "previous", "Ctrl-C"]);
            keys.write_all(b"?q").unwrap();
            assert!(child.wait().unwrap().success());
        };
        tokio::task::spawn_blocking(seen).await.unwrap();
        let args = ["--json", "top", "--query", &format!("http://{query}")].map(str::to_owned);
        let asked = move || command(Path::new("/nonexistent"), &args);
        let (code, text) = tokio::task::spawn_blocking(asked).await.unwrap();
        let shown: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((code, &shown["nodes"][0]["status"]["ready"]), (ExitCode::SUCCESS, &true.into()), "{text}");
    });
}

/// The program itself, because the demonstration starts its nodes as processes of their own.
///
/// Cargo builds it with the tests of the whole workspace, because the command's package has tests that run it.
pub(crate) fn program() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let program = tests.parent().and_then(Path::parent).unwrap().join("fama");
    assert!(program.is_file(), "{} is not there: cargo build --release -p fama-cli", program.display());
    program
}

/// A running demonstration; dropping it kills it, and its nodes with it.
pub(crate) struct Demo {
    child: Child,
    lines: Receiver<String>,
    /// When it was started.
    pub(crate) begun: Instant,
}

impl Demo {
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut command = Command::new(program());
        command.args(["demo", "--json"]).args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let lines = lines(child.stdout.take().unwrap());
        Self { child, lines, begun: Instant::now() }
    }

    /// Waits for the line of this phase, which must come within `timeout`.
    pub(crate) fn phase(&self, phase: &str, timeout: Duration) -> Value {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line =
                self.lines.recv_timeout(left).unwrap_or_else(|error| panic!("no line of phase {phase}: {error}"));
            let line: Value = serde_json::from_str(&line).unwrap();
            assert!(line["code"].is_null(), "{line}");
            if line["phase"] == phase {
                return line;
            }
        }
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn end(&mut self, signal: &str) -> ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        self.child.wait().unwrap()
    }

    /// The last output when it ends by itself.
    fn last_words(&mut self) -> (ExitStatus, Value) {
        let last = self.lines.iter().last().unwrap();
        (self.child.wait().unwrap(), serde_json::from_str(&last).unwrap())
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines that a program prints.
pub(crate) fn lines(stdout: ChildStdout) -> Receiver<String> {
    let (sender, lines) = sync_channel(LINES_MAX);
    std::thread::spawn(move || {
        BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    lines
}

const STORY: Duration = Duration::from_secs(90);

#[test]
fn the_demo_keeps_its_data_and_stops_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data").display().to_string();
    let mut demo = Demo::start(&["--operators", "3", "--data", &data]);
    let ready = demo.phase("ready", STORY);
    let members = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(members(&ready), ["federation", "nodes", "phase"]);
    let nodes = ready["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 3);
    assert!(nodes.iter().all(|node| members(node) == ["operator", "p2p", "query"]), "{ready}");
    assert!(demo.end("-TERM").success());
    assert_eq!(demo.end_of_nodes(nodes), 0, "its nodes ended with it");

    let mut again = Demo::start(&["--data", &data, "--exit"]);
    let known = again.phase("ready", STORY);
    assert_eq!((&known["federation"], &known["nodes"]), (&ready["federation"], &ready["nodes"]));
    assert!(again.child.wait().unwrap().success());

    let (status, error) = Demo::start(&["--data", &data, "--operators", "4"]).last_words();
    assert_eq!((status.code(), &error["code"]), (Some(1), &"other_count".into()), "{error}");
}

#[test]
fn the_demo_says_when_a_node_dies() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data").display().to_string();
    let mut demo = Demo::start(&["--operators", "1", "--data", &data]);
    let ready = demo.phase("ready", STORY);
    // The port is taken, so a second demonstration on the same folder cannot start.
    let (status, error) = Demo::start(&["--data", &data]).last_words();
    assert_eq!((status.code(), &error["code"]), (Some(1), &"node_ended".into()), "{error}");
    assert!(error["error"].as_str().unwrap().contains("address_in_use"), "{error}");
    assert!(demo.end("-INT").success());
    assert_eq!(demo.end_of_nodes(ready["nodes"].as_array().unwrap()), 0);
}

#[test]
fn nodes_end_with_a_demo_that_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data").display().to_string();
    let mut demo = Demo::start(&["--operators", "2", "--data", &data]);
    let ready = demo.phase("ready", STORY);
    assert!(!demo.end("-KILL").success());
    let deadline = Instant::now() + GIVING_UP;
    while demo.end_of_nodes(ready["nodes"].as_array().unwrap()) > 0 {
        assert!(Instant::now() < deadline, "nodes outlive the demonstration");
        std::thread::sleep(Duration::from_millis(50));
    }
}

impl Demo {
    /// How many of these nodes still answer.
    fn end_of_nodes(&self, nodes: &[Value]) -> usize {
        let answers = |node: &&Value| {
            let address = node["query"].as_str().unwrap().strip_prefix("http://").unwrap().to_owned();
            std::net::TcpStream::connect(address).is_ok()
        };
        nodes.iter().filter(answers).count()
    }
}
