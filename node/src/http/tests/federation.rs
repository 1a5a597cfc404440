//! Status, governance, and consistency proofs between heads.
use super::*;

#[tokio::test]
async fn status_and_federation_show_the_nodes_progress() {
    let mut world = World::new(Some("alpha.example"));
    world.register("alpha.example", "swift-core-maps", &agent(1), None);
    world.cosign(&world.alpha);
    let status = world.get("/api/status").await.json();
    for (name, value) in [
        ("status", json!("ok")),
        ("algorithm", json!("ECDSA-secp256k1-SHA256")),
        ("timestamp_format", json!("ISO8601_UTC")),
        ("timestamp_window_seconds", json!(300)),
        ("operator", json!("alpha.example")),
        ("frontier", json!({"alpha.example": 4, "beta.example": 2})),
        ("certified", json!({"alpha.example": 4, "beta.example": 0})),
        ("operators_heard", json!(1)),
        ("fresh", json!(false)),
    ] {
        assert_eq!(status[name], value, "{name}");
    }
    world.app.shared.health.write().operators.get_mut(&domain("beta.example")).unwrap().heard = Some(clock::now());
    assert_eq!(world.get("/api/status").await.json()["fresh"], true);
    let beta = world.beta.id.clone();
    world.app.shared.health.write().logs.get_mut(&beta).unwrap().newest = 99;
    assert_eq!(world.get("/api/status").await.json()["fresh"], false);

    let federation = world.get("/api/federation").await.json();
    assert_eq!(
        federation["logs"][0]["cosignatures"][1],
        json!({
            "operator": "beta.example", "size": 4, "time": "2026-11-22T05:00:00.000Z",
        })
    );
    assert_eq!(federation["logs"][1]["lag"], 97);
    let text = federation["manifest"]["text"].as_str().unwrap();
    assert_eq!(Manifest::parse(text).unwrap().hash(), world.app.shared.manifest.hash());
    assert_eq!(world.get("/api").await.json()["federation"]["name"], "test");
    assert!(PublicKey::from_pem("").is_err());
}

#[tokio::test]
async fn the_federations_governance_is_shown() {
    let world = World::new(Some("alpha.example"));
    let chain = world.get("/api/federation/manifests").await;
    assert!(chain.header("content-type").starts_with("text/plain"), "{}", chain.header("content-type"));
    assert_eq!(Manifest::parse_chain(&chain.text).unwrap().hash(), world.app.shared.manifest.hash());

    let federation = world.get("/api/federation").await.json();
    assert_eq!(federation["versions"], json!([{"version": 1, "hash": world.app.shared.manifest.hash().to_string()}]));
    for (name, value) in [("since", json!(1)), ("adopted", json!(1)), ("cut", json!(null))] {
        assert_eq!(federation["logs"][1][name], value, "{name}");
    }
    for (name, value) in
        [("stands", json!([])), ("equivocations", json!([])), ("pending", json!(null)), ("halted", json!([]))]
    {
        assert_eq!(federation[name], value, "{name}");
    }
    let head = |seed| (Head { size: 7, root: TreeRoot([seed; 32]) }, [seed; 64]);
    let proof = Equivocation {
        log: world.beta.id.clone(),
        larger: head(1),
        smaller: head(2),
        root: TreeRoot([1; 32]),
        proof: Vec::new(),
    };
    let hash = ManifestHash([3; 32]);
    world.app.shared.health.write().governance = Governance {
        stands: vec!["stand".to_owned()],
        equivocations: vec![proof.clone()],
        pending: Some(PendingManifest { version: 2, hash, text: "text".to_owned(), waits_for: "entries".to_owned() }),
        halted: vec!["one".to_owned(), "other".to_owned()],
    };
    let federation = world.get("/api/federation").await.json();
    assert_eq!(federation["stands"], json!(["stand"]));
    assert_eq!(federation["halted"], json!(["one", "other"]));
    assert_eq!(
        federation["pending"],
        json!({"version": 2, "hash": hash.to_string(), "text": "text", "waits_for": "entries"})
    );
    let shown = &federation["equivocations"][0];
    assert_eq!((&shown["log"], &shown["smaller"]["size"]), (&json!("beta.example/1"), &json!(7)));
    let bytes = hex(shown["encoded"].as_str().unwrap());
    assert_eq!(codec::decode(&bytes, Equivocation::BYTES_MAX), Ok(proof));
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[tokio::test]
async fn one_head_extends_another() {
    let mut world = World::new(Some("alpha.example"));
    let small = world.alpha.tree.head();
    world.register("alpha.example", "swift-core-maps", &agent(1), None);
    world.register("alpha.example", "mloverflow", &agent(2), None);
    world.cosign(&world.alpha);
    let head = world.alpha.tree.head();
    let answer = world.get("/api/federation/consistency?log=alpha.example/1&from=2").await.json();
    assert_eq!(answer["from"], json!({"size": 2, "root": small.root.to_string()}));
    let state_root = world.alpha.maps.state_root().to_string();
    let to = json!({
        "size": 6, "root": head.root.to_string(), "state_root": state_root, "adopted": 1, "uncertified_adoptions": 0,
    });
    assert_eq!(answer["to"], to);
    let uncosigned = world.get("/api/federation/consistency?log=beta.example/1").await.json();
    assert_eq!((&uncosigned["to"]["size"], &uncosigned["to"]["uncertified_adoptions"]), (&json!(2), &json!(1)));
    let below = world.get("/api/federation/consistency?log=beta.example/1&to=1").await.json();
    assert_eq!(below["to"]["uncertified_adoptions"], json!(0));
    let proof: Vec<[u8; 32]> =
        answer["proof"].as_array().unwrap().iter().map(|one| hex(one.as_str().unwrap()).try_into().unwrap()).collect();
    assert_eq!(verify_consistency(&small, &head, &proof), Ok(()));
    let note = SignedNote::parse(answer["checkpoint"].as_str().unwrap().as_bytes(), 4_096).unwrap();
    let manifest = &world.app.shared.manifest;
    let owner = |_: &_| Some(manifest.operators()[0].node_key);
    let (signed, cosigned) =
        read_note(&note, owner, |name| manifest.operator(name).map(|operator| operator.node_key)).unwrap();
    assert_eq!((signed.checkpoint().head, cosigned.len()), (head, 2));

    let between = world.get("/api/federation/consistency?log=alpha.example/1&from=0&to=3").await.json();
    assert_eq!((&between["to"]["state_root"], &between["to"]["adopted"]), (&json!(null), &json!(null)));
    assert_eq!(between["checkpoint"], json!(null));
    let before = world.get("/api/federation/consistency?log=alpha.example/1&to=2").await.json();
    assert_eq!((&before["to"]["adopted"], &before["from"]["size"]), (&json!(1), &json!(0)));
    let nothing = world.get("/api/federation/consistency?log=alpha.example/1&to=0").await.json();
    assert_eq!(nothing["to"]["root"], Head::EMPTY.root.to_string());
    for (query, status, code) in [
        ("", 400, "bad_log"),
        ("?log=alpha.example", 400, "bad_log"),
        ("?log=alpha.example/01", 400, "bad_log"),
        ("?log=alpha.example/2", 404, "unknown_log"),
        ("?log=alpha.example/1&from=7", 400, "bad_size"),
        ("?log=alpha.example/1&to=7", 400, "bad_size"),
        ("?log=alpha.example/1&from=5&to=4", 400, "bad_size"),
        ("?log=alpha.example/1&to=x", 400, "bad_size"),
    ] {
        let answer = world.get(&format!("/api/federation/consistency{query}")).await;
        assert_eq!((answer.status, problem(&answer).as_str()), (status, code), "{query}");
    }
}

/// An inbox that accepts stands in the log of alpha.example and the manifest `good`, and refuses the rest.
fn inbox() -> mpsc::Sender<InboxInput> {
    let (inputs, mut taken) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(input) = taken.recv().await {
            match input {
                InboxInput::Stand { log, reply } if log.operator == domain("alpha.example") => {
                    reply.send(Ok(log.to_string())).unwrap();
                }
                InboxInput::Stand { reply, .. } => reply.send(Err(Refusal::new("unknown_log", "no such log"))).unwrap(),
                InboxInput::Agree { text, reply } => {
                    let refused = || Refusal::new("manifest_toml", "no draft");
                    reply.send(if text == "good" { Ok(()) } else { Err(refused()) }).unwrap();
                }
                InboxInput::Manifest { text, reply } => {
                    let later = Refusal { retry_after: Some(7), ..Refusal::new("not_ready", "later") };
                    reply.unwrap().send(if text == "good" { Ok(()) } else { Err(later) }).unwrap();
                }
                other => panic!("{other:?}"),
            }
        }
    });
    inputs
}

#[tokio::test]
async fn only_the_operators_own_programs_decide() {
    let world = World::new(Some("alpha.example"));
    let bytes = ("content-type", "application/octet-stream");
    let inputs = inbox();
    let post = async |path: &str, headers: &[(&str, &str)], body: &str| {
        let router = crate::http::admin(Arc::clone(&world.app), inputs.clone(), Arc::default());
        ask(router, Method::POST, path, headers, body).await
    };
    let stand = post("/federation/stand", &[bytes], "alpha.example/1\n").await;
    assert_eq!((stand.status, &stand.json()["stand"]), (200, &json!("alpha.example/1")));
    assert_eq!(post("/federation/manifest", &[bytes], "good").await.status, 200);
    assert_eq!(post("/federation/agree", &[bytes], "good").await.json()["agreed"], true);
    let later = post("/federation/manifest", &[bytes], "bad").await;
    assert_eq!((later.status, later.header("retry-after")), (503, "7"));
    let long = "x".repeat(131_073);
    let plain = ("content-type", "text/plain");
    let (json, page) = (("content-type", "application/json"), ("origin", "http://127.0.0.1:9090"));
    for (path, headers, body, status, code) in [
        ("/federation/stand", vec![bytes], "beta.example/1", 409, "unknown_log"),
        ("/federation/stand", vec![bytes], "alpha.example", 400, "bad_log"),
        ("/federation/stand", vec![bytes], &long, 413, "body_too_large"),
        ("/federation/manifest", vec![bytes], &long, 413, "body_too_large"),
        ("/federation/agree", vec![bytes], "bad", 409, "manifest_toml"),
        ("/federation/agree", vec![bytes], &long, 413, "body_too_large"),
        ("/federation/agree", vec![bytes, page], "good", 403, "from_a_web_page"),
        ("/federation/stand", vec![], "alpha.example/1", 415, "content_type"),
        ("/federation/stand", vec![plain], "alpha.example/1", 415, "content_type"),
        ("/federation/manifest", vec![json], "good", 415, "content_type"),
        ("/federation/manifest", vec![bytes, page], "good", 403, "from_a_web_page"),
        ("/federation/stand", vec![bytes, ("origin", "null")], "alpha.example/1", 403, "from_a_web_page"),
        ("/backup", vec![bytes, page], "", 403, "from_a_web_page"),
        ("/backup", vec![], "", 415, "content_type"),
        ("/backup/end", vec![bytes, page], "made", 403, "from_a_web_page"),
        ("/backup/end", vec![bytes], "/etc", 400, "bad_outcome"),
    ] {
        let answer = post(path, &headers, body).await;
        assert_eq!((answer.status, problem(&answer).as_str()), (status, code), "{path} {headers:?}");
    }
    let nobody = crate::http::admin(Arc::clone(&world.app), mpsc::channel(1).0, Arc::default());
    let gone = ask(nobody, Method::POST, "/federation/stand", &[bytes], "alpha.example/1").await;
    assert_eq!(gone.status, 503);
    for path in
        ["/federation/stand", "/federation/manifest", "/api/federation/stand", "/api/federation/manifest", "/backup"]
    {
        let answer = ask(world.query(), Method::POST, path, &[bytes], "alpha.example/1").await;
        assert_eq!((answer.status, problem(&answer).as_str()), (404, "no_such_route"), "{path}");
    }
}

/// A second request replaces the first one's checkpoint: one that a killed command left is in nobody's way.
#[tokio::test]
async fn a_checkpoint_lies_in_the_data_folder_and_goes_again() {
    let world = World::new(Some("alpha.example"));
    let post = async |path: &str, body: &str| {
        let router = crate::http::admin(Arc::clone(&world.app), mpsc::channel(1).0, Arc::default());
        ask(router, Method::POST, path, &[("content-type", "application/octet-stream")], body).await
    };
    let folder = |answer: &HttpAnswer| std::path::PathBuf::from(answer.json()["folder"].as_str().unwrap());
    let first = post("/backup", "").await;
    assert_eq!(first.status, 200);
    let store = crate::store::Store::open_read_only(&folder(&first)).unwrap();
    assert_eq!(store.manifest().federation(), world.app.shared.manifest.federation());
    drop(store);
    std::fs::write(folder(&first).join("left-over"), "").unwrap();
    let second = post("/backup", "").await;
    assert_eq!(folder(&second), folder(&first));
    assert!(!folder(&second).join("left-over").exists());
    assert_eq!(post("/backup/end", "failed").await.status, 200);
    assert!(!folder(&second).exists());
    assert_eq!(post("/backup/end", "made").await.status, 200, "there was none any more");
    let metrics = world.app.shared.metrics.encode().unwrap();
    let last = metrics.lines().find(|line| line.starts_with("fama_backup_last_timestamp_seconds ")).unwrap();
    assert!(!last.ends_with(" 0"), "{last}");
}

#[tokio::test]
async fn each_issuers_keys_are_shown_apart() {
    let world = World::new(None);
    let shown = world.get("/api/federation/issuers").await.json();
    let issuers = shown["issuers"].as_array().unwrap();
    assert_eq!((issuers.len(), &issuers[0]["operator"]), (1, &json!("alpha.example")), "beta.example issues nothing");
    assert_eq!(issuers[0]["issuer"], "https://auth.alpha.example");
    let path = issuers[0]["jwks"].as_str().unwrap();
    let answer = world.get(path).await;
    assert_eq!(answer.header("content-type"), "application/jwk-set+json");
    let keys = answer.json();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 1);
    assert_eq!(keys["keys"][0]["kid"], issuers[0]["kids"][0]);
    for path in ["/api/federation/issuers/beta.example/jwks.json", "/api/federation/issuers/no.example/jwks.json"] {
        let answer = world.get(path).await;
        assert_eq!((answer.status, &answer.json()["code"]), (404, &json!("unknown_issuer")), "{path}");
    }
}
