//! One federation that goes through everything its folds handle, then audited in Python from its public files.
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use fama_ledger::event::{Action, DismissReason, SuspendReason};
use fama_ledger::id::{EventId, NoteHash};
use fama_ledger::manifest::LogId;
use fama_ledger::note::{Note, note_hash};
use fama_ledger::secret::SecretKey;
use fama_node::config::Config;
use fama_node::store::Store;
use fama_node::wire::Submission;
use fama_tests::{DOMAINS, domain, node_key, secret};
use serde_json::{Value, json};

use super::audit;
use crate::federation::{LocalFederation, eventually, free_ports, get, multi, signed};
use crate::governance::{log, operator, signed as signed_draft};

/// A provider or agent with its key.
type Party = (EventId, SecretKey);

/// The identities of the story.
struct StoryIdentities {
    rated: Party,
    judge: Party,
    referee: Party,
    stolen: Party,
    mover: Party,
}

/// A registration with a bio, and a commitment to the next key.
fn register(
    net: &LocalFederation,
    home: usize,
    name: &str,
    key: &SecretKey,
    next: Option<&SecretKey>,
) -> (EventId, Submission) {
    let note = Note { salt: [3; 32], bio: Some("travels".into()), ..Note::default() }.text();
    let event = net.event(Action::Register {
        home: domain(DOMAINS[home]),
        name: name.parse().unwrap(),
        key: key.public(),
        next: next.map(|next| next.public().hash()),
        note: Some(note_hash(note.as_bytes())),
    });
    (event.id(), Submission { note: Some(note), ..signed(event, key) })
}

async fn cast(net: &LocalFederation) -> StoryIdentities {
    let (rated_key, stolen_key, mover_key) = (secret(2), secret(6), secret(9));
    let (rated, registration) = register(net, 0, "rated", &rated_key, None);
    net.accepted(1, registration).await;
    let (stolen, registration) = register(net, 3, "stolen", &stolen_key, None);
    net.accepted(3, registration).await;
    let (mover, registration) = register(net, 3, "mover", &mover_key, Some(&secret(10)));
    net.accepted(0, registration).await;
    let judge = net.provider(1, "judge", &secret(4)).await;
    let referee = net.provider(3, "referee", &secret(5)).await;
    StoryIdentities {
        rated: (rated, rated_key),
        judge: (judge, secret(4)),
        referee: (referee, secret(5)),
        stolen: (stolen, stolen_key),
        mover: (mover, mover_key),
    }
}

/// Attests until the day's cap cuts an attestation short and the next one is refused; then retracts one.
async fn rate(net: &LocalFederation, cast: &StoryIdentities) {
    let (rated, judge) = (cast.rated.0, (cast.judge.0, &cast.judge.1));
    let mut given = Vec::new();
    for delta in [5, -5, 5, 5, 3, 5] {
        let said = net.attest(1, judge, rated, delta);
        given.push((said.signed.event.id(), said.signed.event.created.day()));
        net.accepted(2, said).await;
    }
    assert_eq!(net.refused(1, net.attest(1, judge, rated, 1)).await, "cap");
    net.accepted(1, net.attest(1, judge, cast.mover.0, 4)).await;
    let (attestation, day) = given[2];
    let (home, issuer) = (domain(DOMAINS[1]), judge.0);
    let retract = net.event(Action::Retract { home, issuer, subject: rated, day, attestation });
    net.accepted(0, signed(retract, judge.1)).await;
}

/// One of the judge's two sponsors dismisses it from its third attestation on.
async fn dismiss(net: &LocalFederation, cast: &StoryIdentities) {
    let dismissal = net.event(Action::Dismiss {
        operator: domain(DOMAINS[0]),
        provider: cast.judge.0,
        service: "judge".parse().unwrap(),
        domain: domain("judge.example"),
        from: 3,
        reason: DismissReason::Misconduct,
    });
    net.accepted(0, signed(dismissal, &node_key(0))).await;
}

/// Operators suspend the one whose key was stolen; one takes it back. The judge lets the rated do something.
async fn restrict(net: &LocalFederation, cast: &StoryIdentities) {
    let (identity, reason) = (cast.stolen.0, SuspendReason::KeyCompromised);
    for i in [0, 1, 2] {
        let suspend = net.event(Action::Suspend { operator: domain(DOMAINS[i]), identity, reason });
        net.accepted(i, signed(suspend, &node_key(i as u8))).await;
    }
    let resume = net.event(Action::Resume { operator: domain(DOMAINS[1]), identity });
    net.accepted(1, signed(resume, &node_key(1))).await;
    for scope in ["read", "write"] {
        let (home, issuer, subject) = (domain(DOMAINS[1]), cast.judge.0, cast.rated.0);
        let scope = scope.parse().unwrap();
        let grant = net.event(Action::Grant { home, issuer, subject, scope, expires: None, note: None });
        net.accepted(2, signed(grant, &cast.judge.1)).await;
    }
    let (home, issuer, subject) = (domain(DOMAINS[1]), cast.judge.0, cast.rated.0);
    let ungrant = net.event(Action::Ungrant { home, issuer, subject, scope: "write".parse().unwrap() });
    net.accepted(3, signed(ungrant, &cast.judge.1)).await;
}

/// Rotates to the key that the registration committed to; that key alone signs.
fn rotate_as_committed(net: &LocalFederation, (identity, _): &Party, next: &SecretKey) -> Submission {
    let (home, key) = (domain(DOMAINS[3]), next.public());
    let event = net.event(Action::Rotate { home, identity: *identity, version: 2, key, next: None });
    signed(event, next)
}

async fn change_policy(net: &mut LocalFederation) {
    let mut draft = net.manifest.draft();
    draft.policy.max_delta = 3;
    net.publish(0, &signed_draft(&draft, &[1, 2, 3])).await;
    net.adopted().await;
}

/// The fourth operator is gone for good: the first takes over its home, and a fifth operator joins.
async fn succeed_the_dead(net: &mut LocalFederation) {
    for i in 0..3 {
        net.stand(i, &log(3, 1)).await;
    }
    let mut draft = net.manifest.draft();
    let ports = free_ports(1);
    draft.operators.remove(3);
    draft.operators.push(operator(4, "epsilon.example", &node_key(4), 1, ports[0]));
    draft.homes.insert(domain(DOMAINS[3]), log(0, 1));
    let epsilon = LogId { operator: domain("epsilon.example"), generation: 1 };
    draft.homes.insert(domain("epsilon.example"), epsilon);
    draft.cuts.push(net.cut(1, log(3, 1), log(0, 1)).await);
    net.publish(0, &signed_draft(&draft, &[0, 1, 2])).await;
    let mut config = net.config(0);
    config.data_dir = net.dir.path().join("epsilon.example");
    config.operator = Some(domain("epsilon.example"));
    config.node_key = Arc::new(node_key(4));
    config.network.listen =
        crate::federation::addresses(ports[0]).iter().map(|address| address.parse().unwrap()).collect();
    net.ports[3] = ports[0];
    net.start_with(3, config).await;
    net.adopted().await;
}

/// The first operator's node key changes: all that its log carries, including the dead operator's home, continues in
/// a
/// new log.
async fn change_node_key(net: &mut LocalFederation) {
    for i in 0..4 {
        net.stand(i, &log(0, 1)).await;
    }
    let mut draft = net.manifest.draft();
    let at = draft.operators.iter().position(|operator| operator.name == domain(DOMAINS[0])).unwrap();
    draft.operators[at] = operator(0, DOMAINS[0], &node_key(5), 2, net.ports[0]);
    for home in [DOMAINS[0], DOMAINS[3]] {
        draft.homes.insert(domain(home), log(0, 2));
    }
    draft.cuts.push(net.cut(1, log(0, 1), log(0, 2)).await);
    net.publish(2, &signed_draft(&draft, &[0, 1, 2])).await;
    net.adopted().await;
    net.wait("all may write", |status| status["fresh"] == true && status["waiting"].is_null()).await;
}

/// Drops the note that attestations share at one node.
async fn drop_note(net: &mut LocalFederation, i: usize) -> NoteHash {
    let note = Note { salt: [7; 32], reason: Some("well done".into()), ..Note::default() }.text();
    let hash = note_hash(note.as_bytes());
    net.stop(i).await;
    let store = Store::open(&net.data(i), &net.manifest.genesis()).unwrap();
    store.redact_note(&hash).unwrap();
    drop(store);
    net.start(i).await;
    hash
}

/// Writes the public files of a node into a folder, as an operator would.
async fn publish(net: &LocalFederation, i: usize, folder: &Path) {
    let query = format!("http://{}", net.nodes[i].as_ref().unwrap().query);
    let to = folder.display().to_string();
    let publish = move || {
        let args = ["fama", "publish", "--from", &query, "--to", &to, "--once"];
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = fama_cli::run(args, &mut out, &mut err);
        assert_eq!(code, ExitCode::SUCCESS, "{}{}", String::from_utf8_lossy(&out), String::from_utf8_lossy(&err));
    };
    tokio::task::spawn_blocking(publish).await.unwrap();
}

/// What a node shows of an identity, in the auditor's format.
fn shown(profile: &Value) -> Value {
    let status = &profile["key_status"];
    let by = |one: &Value| json!([one["operator"], one["reason"], one["since"]]);
    json!({
        "handle": profile["identity"]["handle"],
        "karma": profile["reputation"]["global_score"],
        "key_version": status["key_version"],
        "revoked": status["is_revoked"],
        "revoked_at": status["revoked_at"],
        "revocation_reason": status["revocation_reason"].as_str().map(str::to_lowercase),
        "suspended_by": status["suspended_by"].as_array().unwrap().iter().map(by).collect::<Vec<_>>(),
    })
}

fn audited(one: &Value) -> Value {
    let mut said = one.clone();
    let handle = format!("{}@{}", one["name"].as_str().unwrap(), one["home"].as_str().unwrap());
    let members = said.as_object_mut().unwrap();
    members.retain(|name, _| !["id", "name", "home", "key", "grants"].contains(&name.as_str()));
    members.insert("handle".into(), handle.into());
    said
}

/// The auditor's output about every identity equals the nodes'.
async fn compare(net: &LocalFederation, said: &Value) {
    let identities = said["identities"].as_array().unwrap();
    for (_, query) in net.up() {
        let listed = get(query, "/api/leaderboard?limit=500").await;
        assert_eq!(listed["agents"].as_array().map(Vec::len), Some(identities.len()));
        for one in identities {
            let profile = get(query, &format!("/api/agent/{}", one["id"].as_str().unwrap())).await;
            assert_eq!(audited(one), shown(&profile), "{profile}");
        }
    }
}

#[test]
fn a_federation_that_went_through_everything_is_the_same_to_the_auditor() {
    multi(async {
        let mut net = LocalFederation::new(4);
        let first = Config { next_node_key: Some(Arc::new(node_key(5))), ..net.config(0) };
        net.start_with(0, first).await;
        for i in 1..4 {
            net.start(i).await;
        }
        net.wait("all may write", |status| status["fresh"] == true && status["waiting"].is_null()).await;
        let genesis = net.dir.path().join("genesis");
        std::fs::write(&genesis, net.manifest.note().to_string()).unwrap();

        let cast = cast(&net).await;
        rate(&net, &cast).await;
        restrict(&net, &cast).await;
        net.accepted(3, rotate_as_committed(&net, &cast.mover, &secret(10))).await;
        net.settled().await;
        change_policy(&mut net).await;
        assert_eq!(net.refused(1, net.attest(1, (cast.judge.0, &cast.judge.1), cast.stolen.0, 5)).await, "delta");
        dismiss(&net, &cast).await;
        net.settled().await;

        net.stop(3).await;
        let claimed = net.accepted(1, net.revoke(3, cast.stolen.0, &cast.stolen.1)).await;
        assert_eq!(claimed.log, log(1, 1), "a claim, where its home is down");
        net.settled().await;
        succeed_the_dead(&mut net).await;
        net.settled().await;
        change_node_key(&mut net).await;
        let keys = [secret(2), secret(12)];
        assert_eq!(net.accepted(3, net.rotate(0, (cast.rated.0, 2), &keys)).await.log, log(0, 2));
        let referee = (cast.referee.0, &cast.referee.1);
        let given = net.accepted(1, net.attest(3, referee, cast.stolen.0, -3)).await;
        assert_eq!(given.log, log(0, 2), "the home has passed on twice");
        drop_note(&mut net, 2).await;
        net.wait("all may write", |status| status["fresh"] == true && status["waiting"].is_null()).await;
        let state = net.settled().await;

        let (net, genesis) = (&net, genesis.as_path());
        let said = eventually("a certified head of every log", || async move {
            let folder = net.dir.path().join("public");
            publish(net, 2, &folder).await;
            let trusted = ["--manifest".as_ref(), genesis.as_os_str()];
            let said = tokio::task::block_in_place(|| audit(&[&folder], &trusted));
            if said["state_id"].is_string() { Ok(said) } else { Err(said.to_string()) }
        })
        .await;
        assert_eq!((&said["verdict"], &said["trusted"]), (&json!("ok"), &json!("file")));
        assert_eq!((said["manifest"]["in_use"].as_u64(), said["state_id"].as_str()), (Some(4), Some(state.as_str())));
        assert_eq!(said["logs"].as_array().unwrap().iter().filter(|log| log["cut"] == true).count(), 2);
        assert!(said["notes"]["present"].as_u64() < said["notes"]["named"].as_u64(), "{}", said["notes"]);
        assert!(said["outcomes"]["applied"].as_u64() > Some(20), "{}", said["outcomes"]);
        compare(net, &said).await;

        // Spark and DuckDB, over four versions, two cuts and a home that passed on twice.
        let chain = net.dir.path().join("chain");
        std::fs::write(&chain, net.manifest.chain()).unwrap();
        let folder = net.dir.path().join("public").display().to_string();
        let agreed = crate::audit::engines_agree(&folder, &chain, &net.dir.path().join("engines")).await;
        assert!(agreed.is_none_or(|(identities, attestations)| identities == 5 && attestations > 6), "{agreed:?}");

        // Straight from a node that still has the note.
        let query = format!("http://{}", net.nodes[1].as_ref().unwrap().query);
        let same = tokio::task::block_in_place(|| audit(&[Path::new(&query)], &[]));
        assert_eq!((&same["state_id"], &same["identities"]), (&said["state_id"], &said["identities"]));
        assert_eq!(same["notes"]["present"], same["notes"]["named"]);
    });
}
