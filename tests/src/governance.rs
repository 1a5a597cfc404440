//! Versions of the manifest in running federations: operators leave and join, keys change, logs end.
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use fama_ledger::id::{EventId, StateRoot, TreeRoot};
use fama_ledger::log::Head;
use fama_ledger::manifest::{Cut, Draft, LogId, Manifest, Operator};
use fama_ledger::profile::{ProfileAnswer, ProfileProof, Required};
use fama_ledger::proof::{CertifiedBy, TlogProof};
use fama_ledger::replica::Overrides;
use fama_ledger::secret::SecretKey;
use fama_ledger::signed_note::{SignedNote, sign};
use fama_node::config::Config;
use fama_node::node;
use fama_node::replay::check::check;
use fama_node::store::Store;
use fama_tests::{DOMAINS, domain, governance_key, node_key, secret};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::audit::comes_to;
use crate::federation::{LocalFederation, addresses, copy, eventually, free_ports, get, multi};
use crate::publish::publishes;

/// How many nodes are stopped as they take up a version, until one had it.
const STOPS_TRIED: usize = 20;

pub(crate) fn log(i: usize, generation: u32) -> LogId {
    LogId { operator: domain(DOMAINS[i]), generation }
}

/// Sends a request to this node's admin listener, as its operator would.
pub(crate) async fn post(admin: SocketAddr, path: &str, body: String) -> (u16, Value) {
    try_post(admin, path, body).await.unwrap()
}

/// As [`post`], to a node that may stop.
async fn try_post(admin: SocketAddr, path: &str, body: String) -> Result<(u16, Value), ureq::Error> {
    let url = format!("http://{admin}{path}");
    let post = move || {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
        let sent = agent.post(&url).header("Content-Type", "application/octet-stream").send(body);
        let mut answer = sent?;
        Ok((answer.status().as_u16(), answer.body_mut().read_json()?))
    };
    tokio::task::spawn_blocking(post).await.unwrap()
}

/// The draft's note, signed by the governance keys of these operators.
pub(crate) fn signed(draft: &Draft, signers: &[u8]) -> String {
    let text = draft.text().unwrap();
    let line = |i: &u8| sign(&text, DOMAINS[usize::from(*i)], governance_key(*i).ed25519().unwrap());
    SignedNote { signatures: signers.iter().map(line).collect(), text }.to_string()
}

pub(crate) fn operator(i: usize, name: &str, node_key: &SecretKey, generation: u32, port: u16) -> Operator {
    Operator {
        name: domain(name),
        node_key: node_key.ed25519().unwrap().verifying_key(),
        governance_key: governance_key(u8::try_from(i).unwrap()).ed25519().unwrap().verifying_key(),
        generation,
        begins: fama_ledger::time::Millis::FIRST,
        addresses: addresses(port),
        endpoints: fama_ledger::manifest::Endpoints::default(),
    }
}

impl LocalFederation {
    fn admin(&self, i: usize) -> SocketAddr {
        self.nodes[i].as_ref().unwrap().admin
    }

    /// A cut of a log at the head that a node has.
    pub(crate) async fn cut(&self, i: usize, log: LogId, successor: LogId) -> Cut {
        let query = self.nodes[i].as_ref().unwrap().query;
        let path = format!("/api/federation/consistency?log={}%2F{}&from=0", log.operator, log.generation);
        let there = &get(query, &path).await["to"];
        let text = |name: &str| there[name].as_str().unwrap_or_else(|| panic!("{there}")).to_owned();
        let root: TreeRoot = text("root").parse().unwrap();
        let state_root: StateRoot = text("state_root").parse().unwrap();
        let head = Head { size: there["size"].as_u64().unwrap(), root };
        let adopted = u32::try_from(there["adopted"].as_u64().unwrap()).unwrap();
        Cut { log, head, state_root, adopted, successor }
    }

    pub(crate) async fn stand(&self, i: usize, log: &LogId) -> String {
        eventually("a stand", || async {
            match post(self.admin(i), "/federation/stand", log.to_string()).await {
                (200, answer) => Ok(answer["stand"].as_str().unwrap().to_owned()),
                (_, answer) => Err(answer.to_string()),
            }
        })
        .await
    }

    pub(crate) async fn publish(&mut self, i: usize, note: &str) {
        let (status, answer) = post(self.admin(i), "/federation/manifest", note.to_owned()).await;
        assert_eq!(status, 200, "{answer}");
        self.manifest = Arc::new(self.manifest.successor(note).unwrap());
    }

    /// Waits until every running node uses the newest version and every log that continues, and whose node runs, has
    /// adopted it.
    pub(crate) async fn adopted(&self) {
        let version = self.manifest.version();
        self.wait("the new version is in use", |status| status["manifest_version"] == version).await;
        for (i, query) in self.up() {
            eventually(&format!("all logs adopted version {version}, at {}", DOMAINS[i.min(3)]), || async {
                let federation = get(query, "/api/federation").await;
                let logs = federation["logs"].as_array().cloned().unwrap_or_default();
                let away = |log: &&Value| (0..4).any(|i| log["operator"] == DOMAINS[i] && self.nodes[i].is_none());
                let live = logs.iter().filter(|log| log["cut"].is_null() && !away(log));
                let behind: Vec<String> =
                    live.filter(|log| log["adopted"] != version).map(ToString::to_string).collect();
                if behind.is_empty() && !logs.is_empty() { Ok(()) } else { Err(behind.join("\n")) }
            })
            .await;
        }
    }
}

/// One of four is gone for good: the others end its log, its home passes on with everything in it, and another
/// operator takes its place.
#[test]
fn a_dead_operators_home_passes_on_and_a_new_operator_comes() {
    multi(async {
        let mut net = LocalFederation::running(4).await;
        let (agent_key, judge_key) = (secret(2), secret(4));
        let (agent, registration) = net.register(3, "passed-on", &agent_key);
        net.accepted(0, registration).await;
        let judge = net.provider(3, "judge", &judge_key).await;
        let attestation = net.attest(3, (judge, &judge_key), agent, 5);
        let attested = net.accepted(1, attestation.clone()).await;
        let (stolen, registration) = net.register(3, "stolen-key", &secret(12));
        net.accepted(3, registration).await;
        net.accepted(3, net.revoke(3, stolen, &secret(12))).await;
        let state = net.settled().await;
        let url = |net: &LocalFederation, i: usize| format!("http://{}", net.nodes[i].as_ref().unwrap().query);
        let kept = net.dir.path().join("kept").display().to_string();
        comes_to(&[&url(&net, 0), "--keep", &kept], &state).await;
        publishes(&net).await;
        net.stop(3).await;

        for i in 0..3 {
            assert!(net.stand(i, &log(3, 1)).await.starts_with("fama.stand/1\n"));
        }
        let mut draft = net.manifest.draft();
        let ports = free_ports(1);
        draft.operators.remove(3);
        draft.operators.push(operator(4, "epsilon.example", &node_key(4), 1, ports[0]));
        draft.homes.insert(domain(DOMAINS[3]), log(0, 1));
        let epsilon = LogId { operator: domain("epsilon.example"), generation: 1 };
        draft.homes.insert(domain("epsilon.example"), epsilon);
        draft.cuts.push(net.cut(1, log(3, 1), log(0, 1)).await);
        let note = signed(&draft, &[0, 1, 2]);
        let (status, answer) = post(net.admin(0), "/federation/manifest", signed(&draft, &[0, 1])).await;
        assert_eq!((status, &answer["code"]), (409, &Value::from("manifest_quorum")), "{answer}");
        net.publish(0, &note).await;

        let mut config = net.config(0);
        config.data_dir = net.dir.path().join("epsilon.example");
        config.operator = Some(domain("epsilon.example"));
        config.node_key = Arc::new(node_key(4));
        config.network.listen = addresses(ports[0]).iter().map(|address| address.parse().unwrap()).collect();
        net.ports[3] = ports[0];
        net.start_with(3, config).await;
        net.adopted().await;
        net.settled().await;

        let shown = |profile: &Value| profile["reputation"]["global_score"] == 5 && profile["ledger"]["final"] == true;
        net.shows("passed-on@delta.example", shown).await;
        // Also what the log that ended revoked is as final as ever.
        net.shows("stolen-key@delta.example", |profile| profile["key_status"]["revocation_final"] == true).await;
        let query = net.nodes[2].as_ref().unwrap().query;
        let event = get(query, &format!("/api/event/{}", attested.event)).await;
        assert_eq!(event["positions"][0]["log"], "delta.example/1", "{event}");

        let same = net.accepted(1, attestation).await;
        assert_eq!((same.known, &same.log, same.index), (true, &attested.log, attested.index), "in the log that ended");
        let again = net.register(3, "passed-on", &secret(9)).1;
        assert_eq!(net.refused(1, again).await, "name_taken", "a name stays taken");
        let keys = [secret(2), secret(8)];
        let rotated = net.accepted(1, net.rotate(3, (agent, 2), &keys)).await;
        assert_eq!(rotated.log, log(0, 1), "the successor writes for the home");
        let more = net.accepted(2, net.attest(3, (judge, &judge_key), agent, 4)).await;
        assert_eq!(more.log, log(0, 1), "a provider keeps its number and its sponsors");
        let (_, newcomer) = net.register(3, "newcomer", &secret(11));
        net.accepted(3, newcomer).await;
        let state = net.settled().await;
        net.shows("passed-on@delta.example", |profile| {
            profile["reputation"]["global_score"] == 9 && profile["key_status"]["key_version"] == 2
        })
        .await;
        for i in [0, 2] {
            let path = "/api/agent/passed-on@delta.example/proof";
            let proof = get(net.nodes[i].as_ref().unwrap().query, path).await.to_string();
            let parsed = proof.parse::<ProfileProof>().unwrap_or_else(|error| panic!("{error}: {proof}"));
            let proven = parsed.verify(&net.manifest.genesis(), &now(&parsed)).unwrap();
            let ProfileAnswer::Found(profile) = proven.answer else { panic!("{proof}") };
            assert_eq!((profile.karma.sum, profile.version, proven.logs.len()), (9, 2, 4));
        }

        let audited = comes_to(&[&url(&net, 0), "--since", &kept], &state).await;
        assert_eq!((&audited["karma"], &audited["manifest_version"]), (&9.into(), &2.into()), "across the succession");
        let fresh = comes_to(&[&url(&net, 2), &url(&net, 3)], &state).await;
        assert_eq!(fresh["logs"].as_array().unwrap().iter().filter(|log| log["cut"] == true).count(), 1);
        net.stop(1).await;
        let beside = net.dir.path().join("beside");
        let original = Store::open_unchecked(&net.data(1), &net.manifest.genesis()).unwrap();
        let mut rebuilt = Store::open(&beside, &net.manifest.genesis()).unwrap();
        assert_eq!(rebuilt.take_governance(&original).unwrap(), Vec::<String>::new());
        let report = check(&original, &rebuilt, original.manifest(), &mut |_, _| {}).unwrap();
        assert_eq!((report.findings, report.logs.len()), (vec![], 5), "all of it follows from the entries");
        publishes(&net).await;
    });
}

/// A node changes to its next key by itself; its old log ends where it stood still and continues in a new one.
#[test]
fn a_node_key_is_rotated_while_all_run() {
    multi(async {
        let mut net = LocalFederation::new(4);
        let next = node_key(5);
        for i in 0..4 {
            let mut config = net.config(i);
            config.next_node_key = (i == 1).then(|| Arc::new(node_key(5)));
            net.start_with(i, config).await;
        }
        net.wait("all may write", |status| status["fresh"] == true && status["waiting"].is_null()).await;
        let key = secret(2);
        let (agent, registration) = net.register(1, "stays-here", &key);
        net.accepted(0, registration).await;
        net.settled().await;
        publishes(&net).await;
        net.stop(2).await;
        for i in [0, 1, 3] {
            net.stand(i, &log(1, 1)).await;
        }
        let (_, late) = net.register(1, "too-late", &secret(3));
        assert_eq!(net.refused(1, late.clone()).await, "not_ready", "a node that stands still accepts nothing");

        let mut draft = net.manifest.draft();
        draft.operators[1] = operator(1, DOMAINS[1], &next, 2, net.ports[1]);
        draft.homes.insert(domain(DOMAINS[1]), log(1, 2));
        draft.cuts.push(net.cut(0, log(1, 1), log(1, 2)).await);
        net.publish(3, &signed(&draft, &[0, 2, 3])).await;
        net.adopted().await;
        net.settled().await;
        net.accepted(0, net.register(0, "meanwhile", &secret(5)).1).await;
        // A node that was offline knows neither the version nor the key that cosigned what it missed.
        net.start(2).await;
        net.adopted().await;
        net.wait("all may write", |status| status["fresh"] == true && status["waiting"].is_null()).await;
        let receipt = net.accepted(3, late).await;
        assert_eq!(receipt.log, log(1, 2));
        net.accepted(0, net.rotate(1, (agent, 2), &[key, secret(8)])).await;
        net.settled().await;

        for i in 0..4 {
            net.stop(i).await;
        }
        for i in 0..4 {
            let mut config = net.config(i);
            config.next_node_key = (i == 1).then(|| Arc::new(node_key(5)));
            net.start_with(i, config).await;
        }
        net.settled().await;
        net.shows("too-late@beta.example", |profile| profile["ledger"]["final"] == true).await;
        publishes(&net).await;
    });
}

/// Two valid texts of one version: no node continues until people have chosen.
#[test]
fn conflicting_manifests_stop_all_cosigning() {
    multi(async {
        let mut net = LocalFederation::running(4).await;
        let mut draft = net.manifest.draft();
        draft.policy.max_delta = 4;
        let one = signed(&draft, &[0, 1, 2, 3]);
        draft.policy.max_delta = 3;
        let other = signed(&draft, &[0, 1, 2, 3]);
        net.publish(0, &one).await;
        net.adopted().await;
        let (status, answer) = post(net.admin(3), "/federation/manifest", other).await;
        assert_eq!(status, 200, "{answer}");
        net.wait("all stop", |status| status["waiting"] == "manifests_conflict").await;
        let (_, registration) = net.register(0, "nobody", &secret(5));
        assert_eq!(net.refused(0, registration).await, "not_ready");
        let shown = get(net.nodes[1].as_ref().unwrap().query, "/api/federation").await;
        assert_eq!(shown["halted"].as_array().map(Vec::len), Some(1), "{shown}");
    });
}

/// A version that only changes the policy applies to each log from its adoption on.
#[test]
fn another_policy_is_adopted_while_all_run() {
    multi(async {
        let mut net = LocalFederation::running(4).await;
        let (agent_key, judge_key) = (secret(2), secret(4));
        let (agent, registration) = net.register(0, "rated", &agent_key);
        net.accepted(0, registration).await;
        let judge = net.provider(1, "judge", &judge_key).await;
        net.accepted(3, net.attest(1, (judge, &judge_key), agent, 5)).await;
        let mut draft = net.manifest.draft();
        draft.policy.max_delta = 3;
        net.publish(0, &signed(&draft, &[1, 2, 3])).await;
        net.adopted().await;
        net.settled().await;
        assert_eq!(net.refused(2, net.attest(1, (judge, &judge_key), agent, 5)).await, "delta");
        net.accepted(2, net.attest(1, (judge, &judge_key), agent, -3)).await;
        net.settled().await;
        net.shows("rated@alpha.example", |profile| profile["reputation"]["global_score"] == 2).await;
        proves(&net, agent).await;

        // While a node is offline one version comes into use. The next, which people signed all the same, waits at all
        // nodes until that one's log has adopted the first; then every log adopts both, one after the other.
        net.stop(3).await;
        let mut draft = net.manifest.draft();
        draft.policy.daily_cap = 30;
        net.publish(1, &signed(&draft, &[0, 1, 2])).await;
        net.wait("in use", |status| status["manifest_version"] == 3).await;
        let mut draft = net.manifest.draft();
        draft.policy.daily_cap = 40;
        net.publish(1, &signed(&draft, &[0, 1, 2])).await;
        for (i, query) in net.up() {
            eventually("the version after it waits", || async {
                let federation = get(query, "/api/federation").await;
                let waits = federation["pending"]["waits_for"] == "certified adoptions of version 3 in delta.example/1";
                let delta =
                    federation["logs"].as_array().into_iter().flatten().find(|log| log["log"] == "delta.example/1");
                let shown = delta.is_some_and(|log| log["certified_version"] == 2);
                let held = federation["manifest"]["version"] == 3;
                if waits && shown && held { Ok(()) } else { Err(format!("{i}: {}", federation["pending"])) }
            })
            .await;
        }
        net.start(3).await;
        net.adopted().await;
        net.settled().await;
        assert!(Manifest::parse(&net.manifest.at(1).unwrap().note().to_string()).is_ok());
    });
}

/// A node that changes to another version is told to stop at the very moment at which its inbox has ended for it.
#[test]
fn a_stop_during_a_reload_is_a_stop() {
    multi(async {
        for _ in 0..STOPS_TRIED {
            if stops_at_a_reload().await {
                return;
            }
        }
        panic!("no node had the version before it stopped");
    });
}

/// Stops a node as it takes up a version. `false` if it stopped before: something else made it look at its stop.
async fn stops_at_a_reload() -> bool {
    let net = LocalFederation::new(1);
    let (told, addresses) = oneshot::channel();
    let published = Arc::new(AtomicBool::new(false));
    // Nobody wakes this: the node looks at it when something else happens to it, which is the end of its inbox.
    let seen = Arc::clone(&published);
    let stop = async move {
        poll_fn(|_| if seen.load(Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending }).await;
    };
    let running = tokio::spawn(node::run(net.config(0), stop, |up| drop(told.send(up.clone()))));
    let admin = addresses.await.unwrap().admin.unwrap();
    let mut draft = net.manifest.draft();
    draft.policy.max_delta = 4;
    // Until the node has looked for the last time on its own.
    tokio::time::sleep(Duration::from_millis(100)).await;
    published.store(true, Ordering::SeqCst);
    let posted = try_post(admin, "/federation/manifest", signed(&draft, &[0])).await;
    let ended = tokio::time::timeout(Duration::from_secs(30), running).await;
    ended.expect("the node runs on").expect("the node panicked").unwrap();
    let store = Store::open(&net.data(0), &net.manifest).unwrap();
    let has_it = store.manifest().version() == 2 || store.pending().is_some();
    if has_it {
        assert_eq!(posted.unwrap().0, 200, "the version is taken, and answered before the end");
    }
    has_it
}

/// Wants every log, as of the last ten minutes.
fn now(proof: &ProfileProof) -> Required {
    let now = fama_node::clock::now().0 / 1_000;
    Required { question: proof.question.clone(), max_age_seconds: 600, missing_max: 0, now }
}

/// Every node's proofs show what counts under version 2, to a reader who holds the genesis or, for an event,
/// that version.
async fn proves(net: &LocalFederation, agent: EventId) {
    let genesis = Arc::new(Manifest::parse(&net.manifest.at(1).unwrap().note().to_string()).unwrap());
    for (_, query) in net.up() {
        let profile = text(query, &format!("/api/agent/{agent}/proof")).await;
        let parsed = profile.parse::<ProfileProof>().unwrap();
        let proven = parsed.verify(&genesis, &now(&parsed)).unwrap();
        assert!(proven.logs.iter().all(|log| log.adopted == 2), "{:?}", proven.logs);
        let proof: TlogProof = text(query, &format!("/api/event/{agent}/proof")).await.parse().unwrap();
        let extra = proof.extra.clone().unwrap();
        let included = proof.included(&extra, &net.manifest).unwrap();
        assert!(matches!(included.certified, Some(CertifiedBy::Cosigned { version: 2, .. })), "{included:?}");
        assert!(extra.len() > included.entry.bytes().len(), "the adoption is part of the proof");
    }
}

async fn text(query: SocketAddr, path: &str) -> String {
    let url = format!("http://{query}{path}");
    eventually("a proof", || async {
        let url = url.clone();
        let read = move || {
            ureq::get(&url)
                .call()
                .map_err(|error| error.to_string())?
                .body_mut()
                .read_to_string()
                .map_err(|error| error.to_string())
        };
        tokio::task::spawn_blocking(read).await.unwrap()
    })
    .await
}

/// An owner signs two branches. It is proven and shown everywhere, nodes on the branch that no quorum has leave it, a
/// manifest ends the log where it is final, and events of the other branch are submitted again.
#[test]
fn an_owner_with_two_branches_is_proven_cut_and_succeeded() {
    multi(async {
        let mut net = LocalFederation::running(4).await;
        let liar = |net: &LocalFederation, alone: bool| {
            let overrides = Overrides { assume_disk_current: alone, ..Overrides::default() };
            Config { next_node_key: Some(Arc::new(node_key(5))), overrides, ..net.config(3) }
        };
        let (_, registration) = net.register(3, "on-both-branches", &secret(2));
        net.accepted(3, registration).await;
        net.settled().await;
        publishes(&net).await;
        net.stop(3).await;
        let before = net.dir.path().join("before");
        copy(&net.data(3), &before);

        net.stop(2).await;
        net.start_with(3, liar(&net, false)).await;
        net.wait("a quorum writes", |status| status["waiting"].is_null()).await;
        let (kept, registration) = net.register(3, "on-the-certified-branch", &secret(4));
        net.accepted(3, registration).await;
        net.settled().await;
        for i in [3, 0, 1] {
            net.stop(i).await;
        }

        std::fs::remove_dir_all(net.data(3)).unwrap();
        std::fs::rename(&before, net.data(3)).unwrap();
        net.start_with(3, liar(&net, true)).await;
        net.wait("it writes alone", |status| status["waiting"].is_null()).await;
        let (_, registration) = net.register(3, "on-the-other-branch", &secret(6));
        let acknowledged = net.accepted(3, registration).await;
        net.start(2).await;
        net.shows("on-the-other-branch@delta.example", |profile| profile["identity"].is_object()).await;

        for i in [0, 1] {
            net.start(i).await;
        }
        for (i, query) in net.up() {
            eventually(&format!("the proof, at {}", DOMAINS[i]), || async {
                let shown = get(query, "/api/federation").await;
                let log = shown["logs"].as_array().and_then(|logs| logs.iter().find(|l| l["log"] == "delta.example/1"));
                let faulty = log.is_some_and(|log| log["fault"] == "equivocation");
                let proven = shown["equivocations"].as_array().is_some_and(|proofs| proofs.len() == 1);
                if faulty && proven { Ok(()) } else { Err(shown.to_string()) }
            })
            .await;
        }
        net.shows("on-the-certified-branch@delta.example", |profile| profile["identity"].is_object()).await;

        let (ended, next) = (log(3, 1), log(3, 2));
        for i in 0..3 {
            net.stand(i, &ended).await;
        }
        let mut draft = net.manifest.draft();
        draft.operators[3] = operator(3, DOMAINS[3], &node_key(5), 2, net.ports[3]);
        draft.homes.insert(domain(DOMAINS[3]), next.clone());
        draft.cuts.push(net.cut(0, ended, next.clone()).await);
        net.publish(0, &signed(&draft, &[0, 1, 2])).await;
        net.adopted().await;
        net.shows("on-the-other-branch@delta.example", |profile| profile["ledger"]["final"] == true).await;
        net.settled().await;
        for (_, query) in net.up() {
            let event = get(query, &format!("/api/event/{kept}")).await;
            assert_eq!(event["positions"][0]["log"], "delta.example/1", "{event}");
            let event = get(query, &format!("/api/event/{}", acknowledged.event)).await;
            assert_eq!(event["positions"][0]["log"], "delta.example/2", "{event}");
        }
        publishes(&net).await;
    });
}
