//! Pages of history, explained karma, keys over time, services, search, DID documents.
use fama_ledger::id::Hex;

use super::*;

/// A service with one sponsor of two that are wanted, unless `sponsored`, and three agents.
struct Stage {
    world: World,
    service: SecretKey,
    provider: IdentityId,
    agents: Vec<IdentityId>,
}

fn stage() -> Stage {
    let mut world = World::new(Some("alpha.example"));
    let service = agent(2);
    let provider = world.register("alpha.example", "mloverflow", &service, None);
    world.admit(provider);
    let register = |seed: u8| world.register("alpha.example", &format!("agent-{seed}"), &agent(seed), Some("a bio"));
    let agents = [11, 12, 13].map(register).to_vec();
    Stage { world, service, provider, agents }
}

fn array(json: &Value, name: &str) -> Vec<Value> {
    json[name].as_array().unwrap_or_else(|| panic!("no {name} in {json}")).clone()
}

#[tokio::test]
async fn attestations_come_in_pages_and_say_why_they_count() {
    let Stage { mut world, service, provider, agents } = stage();
    let by = (&service, provider);
    let first = world.attest(by, agents[0], 5, None);
    let second = world.attest(by, agents[0], 3, None);
    world.retract(by, agents[0], first);
    world.attest(by, agents[1], 1, None);
    world.rank();
    let path = format!("/api/agent/{}/attestations", agents[0]);
    let all = world.get(&path).await.json();
    let shown: Vec<_> =
        array(&all, "attestations").iter().map(|one| (one["event"].clone(), one["status"].clone())).collect();
    assert_eq!(shown, [(json!(second.to_string()), json!("counts")), (json!(first.to_string()), json!("retracted"))]);
    assert!(all.get("cursor").is_none());
    let one = &array(&all, "attestations")[1];
    assert_eq!((&one["number"], &one["retracted_by"], &one["capped"]), (&json!(0), &json!(2), &json!(false)));
    assert_eq!((&one["provider_id"], &one["log"]), (&json!(provider.to_string()), &json!("alpha.example/1")));

    let mut found = Vec::new();
    let mut page = world.get(&format!("{path}?limit=1")).await.json();
    for _ in 0..10 {
        found.extend(array(&page, "attestations"));
        let Some(cursor) = page.get("cursor").and_then(Value::as_str).map(str::to_owned) else { break };
        page = world.get(&format!("{path}?limit=1&cursor={cursor}")).await.json();
    }
    assert_eq!(found, array(&all, "attestations"), "page by page the same");

    let given = world.get(&format!("/api/agent/{provider}/attestations?given=1&with=agent-12")).await.json();
    let given = array(&given, "attestations");
    assert_eq!((given.len(), &given[0]["subject"]), (1, &json!("agent-12@alpha.example")));
    for (context, count) in [("code", 2), ("text", 0), ("", 0)] {
        let of = world.get(&format!("{path}?context={context}")).await.json();
        assert_eq!(array(&of, "attestations").len(), count, "{context}");
    }
    for (query, code) in
        [("cursor=1-2-x", "bad_cursor"), ("cursor=01-2-alpha.example/1", "bad_cursor"), ("with=no!", "bad_name")]
    {
        let answer = world.get(&format!("{path}?{query}")).await;
        assert_eq!((answer.status, problem(&answer).as_str()), (400, code), "{query}");
    }
}

#[tokio::test]
async fn events_are_all_that_is_recorded() {
    let Stage { mut world, service, provider, agents } = stage();
    let attestation = world.attest((&service, provider), agents[0], 5, None);
    let claim = world.revoke("beta.example", &agent(11), agents[0]);
    world.rank();
    let all = world.get(&format!("/api/agent/{}/events", agents[0])).await.json();
    let kinds: BTreeSet<_> = array(&all, "events").iter().map(|one| one["kind"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kinds, ["attest", "register", "revoke"].map(str::to_owned).into());
    let ids: BTreeSet<_> = array(&all, "events").iter().map(|one| one["event"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, [attestation, claim, agents[0]].map(|id| id.to_string()).into());
    let page = world.get(&format!("/api/agent/{}/events?limit=2", agents[0])).await.json();
    let rest =
        world.get(&format!("/api/agent/{}/events?cursor={}", agents[0], page["cursor"].as_str().unwrap())).await.json();
    assert_eq!([array(&page, "events"), array(&rest, "events")].concat(), array(&all, "events"));
}

#[tokio::test]
async fn karma_is_explained_and_weighed() {
    let Stage { mut world, service, provider, agents } = stage();
    let by = (&service, provider);
    let first = world.attest(by, agents[0], 5, None);
    world.attest(by, agents[0], 3, None);
    world.retract(by, agents[0], first);
    // A provider that nobody sponsors.
    let stranger = agent(3);
    let unsponsored = world.register("alpha.example", "stranger", &stranger, None);
    world.attest((&stranger, unsponsored), agents[0], 4, None);
    world.rank();
    let karma = world.get(&format!("/api/agent/{}/karma", agents[0])).await.json();
    assert_eq!((&karma["score"], &karma["attestation_count"]), (&json!(3), &json!(1)));
    assert!(karma.get("view").is_none());
    let of = |id: IdentityId| {
        array(&karma, "providers").into_iter().find(|one| one["provider_id"] == id.to_string()).unwrap()
    };
    let sum = |sum: i64, count: u64| json!({"sum": sum, "count": count});
    let known = of(provider);
    assert_eq!([&known["given"], &known["counts"], &known["retracted"]], [&sum(8, 2), &sum(3, 1), &sum(5, 1)]);
    assert_eq!([&of(unsponsored)["counts"], &of(unsponsored)["not_sponsored"]], [&sum(0, 0), &sum(4, 1)]);
    let profile = world.profile(&agents[0].to_string()).await;
    assert_eq!(profile["reputation"]["global_score"], 3, "the profile says the same");

    let view = async |query: &str| {
        let answer = world.get(&format!("/api/agent/{}/karma?{query}", agents[0])).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()["view"].clone()
    };
    // Signed on 2026-11-22.
    assert_eq!(view("as_of=2026-11-22").await["micropoints"], 3_000_000);
    assert_eq!(view("as_of=2026-12-22&half_life=30").await["micropoints"], 1_500_000);
    assert_eq!(view("as_of=2026-11-21").await["attestation_count"], 0, "not signed yet");
    assert_eq!(view("since=2026-11-23").await["score"], 0);
    assert_eq!(view("context=code").await["score"], 3);
    assert_eq!(view("context=text").await["score"], 0);
    assert_eq!(view("provider_share_max=50").await["micropoints"], 1_500_000);
    let more = world.get(&format!("/api/agent/{}/karma?days=1&contexts=1", agents[0])).await.json();
    assert_eq!(more["days"], json!([{"day": "2026-11-22", "sum": 3, "count": 1}]));
    let contexts = |id: IdentityId| {
        let of = array(&more, "providers").into_iter().find(|one| one["provider_id"] == id.to_string()).unwrap();
        of["contexts"].clone()
    };
    assert_eq!(contexts(provider), json!([{"context": "code", "sum": 3, "count": 1}]));
    assert_eq!(contexts(unsponsored), json!([]), "what does not count has no share of a context");
    assert!(more.get("view").is_none());
    let both =
        world.get(&format!("/api/agent/{}/karma?contexts=1&half_life=30&as_of=2026-12-22", agents[0])).await.json();
    assert_eq!(both["view"]["micropoints"], 1_500_000, "a weight without a context");
    for query in ["half_life=0", "half_life=x", "provider_share_max=101", "since=yesterday", "as_of=2026-13-01"] {
        let answer = world.get(&format!("/api/agent/{}/karma?{query}", agents[0])).await;
        assert_eq!((answer.status, problem(&answer).as_str()), (400, "bad_parameter"), "{query}");
    }
}

#[tokio::test]
async fn keys_are_known_by_version_time_key_and_hash() {
    let Stage { mut world, agents, .. } = stage();
    let (old, new) = (agent(11), agent(77));
    let action = Action::Rotate {
        home: domain("alpha.example"),
        identity: agents[0],
        version: 2,
        key: new.public(),
        next: None,
    };
    let event = Event {
        federation: world.app.shared.manifest.federation(),
        action,
        created: Millis(NOW),
        nonce: Nonce([9; 8]),
    };
    let text = event.text();
    let (signature, countersignature) = (old.sign(text.as_bytes()), Some(new.sign(text.as_bytes())));
    let federation = event.federation;
    let signed = SignedEvent { event, signer: old.public(), signature, countersignature }.verify(&federation).unwrap();
    world.take("alpha.example", signed, &[]);
    world.rank();
    let keys = world.get(&format!("/api/agent/{}/keys", agents[0])).await.json();
    let keys = array(&keys, "keys");
    assert_eq!((keys.len(), &keys[0]["version"], &keys[1]["version"]), (2, &json!(2), &json!(1)));
    assert_eq!((&keys[1]["until"], &keys[0]["until"]), (&keys[0]["from"], &Value::Null));
    assert_eq!(keys[1]["key"], old.public().to_string());

    for given in [
        old.public().to_string(),
        Hex(&old.public().hash().0).to_string(),
        format!("sha256:{}", Hex(&old.public().hash().0)),
    ] {
        let owner = world.get(&format!("/api/key/{given}")).await.json();
        assert_eq!(
            (&owner["agent_id"], &owner["current"], &owner["version"]),
            (&json!(agents[0].to_string()), &json!(false), &json!(1))
        );
    }
    assert_eq!(world.get(&format!("/api/key/{}", new.public())).await.json()["current"], true);
    for (given, status, code) in
        [(agent(99).public().to_string(), 404, "unknown_key"), ("xyz".to_owned(), 400, "bad_key")]
    {
        let answer = world.get(&format!("/api/key/{given}")).await;
        assert_eq!((answer.status, problem(&answer).as_str()), (status, code), "{given}");
    }

    let at = async |time: &str| world.get(&format!("/api/agent/agent-11?at={time}")).await.json()["key_at"].clone();
    let (first, second) = (keys[1]["from"].as_str().unwrap(), keys[0]["from"].as_str().unwrap());
    assert_eq!(at("2020-01-01T00:00:00Z").await["status"], "none");
    assert_eq!((&at(first).await["status"], &at(first).await["key"]["version"]), (&json!("in_force"), &json!(1)));
    assert_eq!(at(second).await["key"]["version"], 2);
    world.revoke("beta.example", &new, agents[0]);
    let answer = world.get("/api/agent/agent-11?at=yesterday").await;
    assert_eq!((answer.status, problem(&answer).as_str()), (400, "bad_parameter"));
}

/// Nine versions: pages and moments read only the versions that they show, and say what the whole list says.
#[tokio::test]
async fn each_version_of_a_key_is_found_by_page_and_by_time() {
    let Stage { mut world, agents, .. } = stage();
    let (home, federation) = (domain("alpha.example"), world.app.shared.manifest.federation());
    let mut current = agent(11);
    for version in 2..=9u8 {
        let new = agent(100 + version);
        let action = Action::Rotate {
            home: home.clone(),
            identity: agents[0],
            version: version.into(),
            key: new.public(),
            next: None,
        };
        let event = Event { federation, action, created: Millis(NOW), nonce: Nonce([version; 8]) };
        let (signature, countersignature) =
            (current.sign(event.text().as_bytes()), Some(new.sign(event.text().as_bytes())));
        let signed = SignedEvent { event, signer: current.public(), signature, countersignature };
        world.take("alpha.example", signed.verify(&federation).unwrap(), &[]);
        current = new;
    }
    world.rank();
    let all = array(&world.get("/api/agent/agent-11/keys").await.json(), "keys");
    let versions: Vec<u64> = all.iter().map(|key| key["version"].as_u64().unwrap()).collect();
    assert_eq!(versions, (1..=9).rev().collect::<Vec<_>>());
    for pair in all.windows(2) {
        assert_eq!(pair[1]["until"], pair[0]["from"]);
    }
    for limit in 1..=9 {
        let (mut paged, mut path) = (Vec::new(), format!("/api/agent/agent-11/keys?limit={limit}"));
        loop {
            let page = world.get(&path).await.json();
            paged.extend(array(&page, "keys"));
            let Some(cursor) = page["cursor"].as_str() else { break };
            path = format!("/api/agent/agent-11/keys?limit={limit}&cursor={cursor}");
        }
        assert_eq!(paged, all, "{limit}");
    }
    for key in &all {
        let from: Millis = key["from"].as_str().unwrap().parse().unwrap();
        let version = key["version"].as_u64().unwrap();
        for (time, want) in [(from.0 - 1, version - 1), (from.0, version), (from.0 + 1, version)] {
            let at = world.get(&format!("/api/agent/agent-11?at={}", Millis(time))).await.json()["key_at"].clone();
            assert_eq!(at["key"]["version"].as_u64().unwrap_or_default(), want, "{time}: {at}");
        }
        let owner = world.get(&format!("/api/key/{}", key["key"].as_str().unwrap())).await.json();
        assert_eq!((&owner["version"], &owner["until"]), (&key["version"], &key["until"]));
    }
}

/// The services are read again after an operator's statement, and after nothing else.
#[tokio::test]
async fn the_services_are_read_only_when_an_operator_says_something() {
    let Stage { mut world, service, provider, agents } = stage();
    let (app, list) = (Arc::clone(&world.app), |app: &App| app.services.of(app).unwrap());
    let first = list(&app);
    world.attest((&service, provider), agents[0], 5, None);
    world.register("alpha.example", "new-here", &agent(55), None);
    assert!(Arc::ptr_eq(&first, &list(&app)), "nothing was said about a service");
    let other = world.register("alpha.example", "overflow-two", &agent(5), None);
    world.admit(other);
    assert_eq!((first.len(), list(&app).len()), (1, 2));
    // An operator that dismisses from a later number still sponsors until then.
    let dismiss = Action::Dismiss {
        operator: domain("alpha.example"),
        provider,
        service: "mloverflow".parse().unwrap(),
        domain: domain("mloverflow.example"),
        from: 2,
        reason: fama_ledger::event::DismissReason::Expired,
    };
    let dismiss = Event { created: Millis(NOW + 1), ..world.signed(&operator_key(10), dismiss).event().clone() };
    let signature = operator_key(10).sign(dismiss.text().as_bytes());
    let signed = SignedEvent { event: dismiss, signer: operator_key(10).public(), signature, countersignature: None };
    let federation = world.app.shared.manifest.federation();
    world.take("alpha.example", signed.verify(&federation).unwrap(), &[]);
    let sponsors = async |world: &World| {
        let shown = array(&world.get("/api/services").await.json(), "services");
        let of = shown.into_iter().find(|one| one["provider_id"] == provider.to_string()).unwrap();
        array(&of, "sponsors").len()
    };
    assert_eq!(sponsors(&world).await, 1, "its second number is still sponsored");
    world.attest((&service, provider), agents[0], 1, None);
    assert_eq!(sponsors(&world).await, 0, "the third is not, though nobody said anything since");
}

#[tokio::test]
async fn a_revoked_key_was_in_force_before() {
    let Stage { mut world, agents, .. } = stage();
    world.beta.now = world.alpha.now + 60_000;
    world.revoke("beta.example", &agent(12), agents[1]);
    world.rank();
    let keys = world.get("/api/agent/agent-12/keys").await.json();
    let revoked = array(&keys, "keys")[0]["revoked"].clone();
    assert_eq!((&revoked["reason"], &revoked["recorded_by"]), (&json!("KEY_COMPROMISED"), &json!("beta.example")));
    let at = async |time: String| {
        world.get(&format!("/api/agent/agent-12?at={time}")).await.json()["key_at"]["status"].clone()
    };
    let time: Millis = revoked["at"].as_str().unwrap().parse().unwrap();
    assert_eq!(at(time.to_string()).await, "revoked");
    assert_eq!(at(Millis(time.0 - 1).to_string()).await, "in_force");
}

#[tokio::test]
async fn many_agents_are_asked_for_at_once() {
    let Stage { world, agents, .. } = stage();
    world.rank();
    let ask_for = async |body: Value| ask(world.query(), Method::POST, "/api/agents", &[], &body.to_string()).await;
    let answer = ask_for(json!({"agents": ["agent-11", "nobody", agents[1].to_string(), "A B"]})).await;
    assert_eq!(answer.status, 200);
    let all = array(&answer.json(), "agents");
    assert_eq!(all[0], world.profile("agent-11").await);
    assert_eq!((&all[1]["code"], &all[1]["status"]), (&json!("unknown_agent"), &json!(404)));
    assert_eq!(all[2]["identity"]["handle"], "agent-12@alpha.example");
    assert_eq!(all[3]["code"], "bad_name");
    let many = ask_for(json!({"agents": vec!["agent-11"; 101]})).await;
    assert_eq!((many.status, problem(&many).as_str()), (400, "too_many"));
    for body in ["", "[]", "{}", "{\"agents\":\"x\"}"] {
        let answer = ask(world.query(), Method::POST, "/api/agents", &[], body).await;
        assert_eq!((answer.status, problem(&answer).as_str()), (400, "bad_json"), "{body}");
    }
}

#[tokio::test]
async fn services_are_listed_and_found() {
    let Stage { mut world, service, provider, agents } = stage();
    world.attest((&service, provider), agents[0], 5, None);
    world.rank();
    let list = world.get("/api/services").await.json();
    let services = array(&list, "services");
    assert_eq!(
        (services.len(), &services[0]["service"], &services[0]["domain"]),
        (1, &json!("mloverflow"), &json!("mloverflow.example"))
    );
    let sponsor = &services[0]["sponsors"][0];
    assert_eq!((&sponsor["operator"], &sponsor["method"]), (&json!("alpha.example"), &json!("manual")));
    for x in ["mloverflow", "mloverflow@alpha.example", &provider.to_string()] {
        let one = world.get(&format!("/api/service/{x}")).await.json();
        assert_eq!((&one["provider_id"], &one["made"]), (&json!(provider.to_string()), &json!(1)), "{x}");
        let subject = &array(&one, "subjects")[0];
        assert_eq!((&subject["handle"], &subject["given"]), (&json!("agent-11@alpha.example"), &json!(1)));
    }
    let answer = world.get("/api/service/nothing-like-it").await;
    assert_eq!((answer.status, problem(&answer).as_str()), (404, "unknown_service"));
    // A second service of another provider under the same name: the name alone no longer says which.
    let other = world.register("alpha.example", "overflow-two", &agent(5), None);
    world.admit(other);
    let names = array(&world.get("/api/services").await.json(), "services");
    assert_eq!(names.len(), 2, "the list follows what operators say");
    let first = world.get("/api/services?limit=1").await.json();
    let second = world.get(&format!("/api/services?limit=1&cursor={}", first["cursor"].as_str().unwrap())).await.json();
    assert_eq!([array(&first, "services"), array(&second, "services")].concat(), names);
}

#[tokio::test]
async fn a_search_finds_what_begins_with_the_query() {
    let Stage { world, provider, agents, .. } = stage();
    let find = async |q: &str| {
        let answer = world.get(&format!("/api/search?q={q}")).await;
        assert_eq!(answer.status, 200, "{q}: {}", answer.text);
        let found = array(&answer.json(), "results");
        found
            .iter()
            .map(|one| (one["matched"].as_str().unwrap().to_owned(), one["handle"].as_str().unwrap().to_owned()))
            .collect::<Vec<_>>()
    };
    let names = |matched: &str, names: &[&str]| {
        names.iter().map(|name| (matched.to_owned(), format!("{name}@alpha.example"))).collect::<Vec<_>>()
    };
    assert_eq!(find("agent-1").await, names("handle", &["agent-11", "agent-12", "agent-13"]));
    assert_eq!(find("AGENT-12").await, names("handle", &["agent-12"]));
    assert_eq!(find("agent-12@al").await, names("handle", &["agent-12"]));
    assert_eq!(find("agent-1@alpha").await, names("handle", &[]));
    assert_eq!(find("agent-12@beta").await, names("handle", &[]));
    let id = agents[0].to_string();
    assert_eq!(find(&id[..9]).await, names("id", &["agent-11"]));
    assert_eq!(find(&format!("did:agent:alpha.example:{}", &id[..7])).await, names("did", &["agent-11"]));
    let key = agent(13).public();
    assert_eq!(find(&key.to_string()[..20]).await, names("key", &["agent-13"]));
    assert_eq!(
        find(&format!("sha256:{}", &Hex(&key.hash().0).to_string()[..11])).await,
        names("key_hash", &["agent-13"])
    );
    assert_eq!(find("mloverflow.ex").await, names("domain", &["mloverflow"]));
    let both = find("mlover").await;
    assert_eq!(both, [names("handle", &["mloverflow"]), names("service", &["mloverflow"])].concat());
    assert_eq!(find("nothing").await, []);
    assert_eq!(find("%00").await, []);
    let cut = world.get("/api/search?q=agent&limit=2").await.json();
    assert_eq!((array(&cut, "results").len(), &cut["more"]), (2, &json!(true)));
    for q in ["", "%20", &"x".repeat(401)] {
        let answer = world.get(&format!("/api/search?q={q}")).await;
        assert_eq!((answer.status, problem(&answer).as_str()), (400, "bad_query"));
    }
    let _ = provider;
}

#[tokio::test]
async fn a_did_document_has_the_key_in_force() {
    let Stage { mut world, agents, .. } = stage();
    let answer = world.get("/api/agent/agent-11/did.json").await;
    assert_eq!(answer.header("content-type"), "application/did+ld+json");
    let document = answer.json();
    let did = format!("did:agent:alpha.example:{}", &agents[0].to_string()[..32]);
    assert_eq!(document["id"], did);
    let method = &document["verificationMethod"][0];
    assert_eq!((&method["type"], &method["controller"]), (&json!("Multikey"), &json!(did)));
    assert!(method["publicKeyMultibase"].as_str().unwrap().starts_with("zQ3s"), "secp256k1 keys begin so");
    assert_eq!(document["authentication"], json!([method["id"]]));
    world.revoke("beta.example", &agent(11), agents[0]);
    let revoked = world.get("/api/agent/agent-11/did.json").await.json();
    assert_eq!((&revoked["authentication"], &revoked["assertionMethod"]), (&json!([]), &json!([])));
    assert!(revoked["verificationMethod"][0]["revoked"].is_string());
    let answer = world.get("/.well-known/did.json").await;
    assert_eq!((answer.status, problem(&answer).as_str()), (404, "no_did"), "the manifest names no query origin");
}

#[tokio::test]
async fn a_profile_keeps_its_tag_while_others_events_come_in() {
    let Stage { mut world, service, provider, agents } = stage();
    world.rank();
    let before = world.get("/api/agent/agent-11").await;
    world.attest((&service, provider), agents[1], 1, None);
    world.rank();
    let after = world.get("/api/agent/agent-11").await;
    assert_ne!(before.text, after.text, "the frontier moved");
    assert_eq!(before.header("etag"), after.header("etag"));
    let known = [("if-none-match", before.header("etag"))];
    let unchanged = ask(world.query(), Method::GET, "/api/agent/agent-11", &known, "").await;
    assert_eq!((unchanged.status, unchanged.text.as_str()), (304, ""));
    let frontier: Value = serde_json::from_str(unchanged.header("fama-frontier")).unwrap();
    assert_eq!(frontier, after.json()["ledger"]["frontier"]);
    assert_eq!(unchanged.header("fama-state-id"), after.json()["ledger"]["state_id"]);
    world.attest((&service, provider), agents[0], 1, None);
    world.rank();
    let changed = ask(world.query(), Method::GET, "/api/agent/agent-11", &known, "").await;
    assert_eq!(changed.status, 200);
}

#[tokio::test]
async fn a_leaderboard_may_be_of_one_home() {
    let Stage { mut world, .. } = stage();
    for seed in 31..34 {
        world.register("beta.example", &format!("beta-{seed}"), &agent(seed), None);
    }
    world.rank();
    let handles = |page: &Value| {
        array(page, "agents").iter().map(|one| one["handle"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let all = handles(&world.get("/api/leaderboard").await.json());
    let of_beta: Vec<String> = all.iter().filter(|handle| handle.ends_with("@beta.example")).cloned().collect();
    assert_eq!((all.len(), of_beta.len()), (7, 3));
    let page = world.get("/api/leaderboard?home=beta.example").await.json();
    assert_eq!((handles(&page), page.get("cursor")), (of_beta.clone(), None));
    let (mut found, mut cursor) = (Vec::new(), String::new());
    for _ in 0..10 {
        let page = world.get(&format!("/api/leaderboard?home=beta.example&limit=1{cursor}")).await.json();
        found.extend(handles(&page));
        let Some(next) = page.get("cursor").and_then(Value::as_str) else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(found, of_beta, "page by page the same");
    let answer = world.get("/api/leaderboard?home=no!").await;
    assert_eq!((answer.status, problem(&answer).as_str()), (400, "bad_parameter"));
}

#[tokio::test]
async fn a_slash_at_the_end_is_ignored() {
    let Stage { world, .. } = stage();
    world.rank();
    assert_eq!(world.get("/api/agent/agent-11/").await.text, world.get("/api/agent/agent-11").await.text);
    assert_eq!(world.get("/api/").await.status, 200);
}
