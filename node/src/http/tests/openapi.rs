//! The OpenAPI document, held to what the node answers.
use super::conforms::fault;
use super::*;

#[tokio::test]
async fn every_answer_has_the_form_that_the_document_says() {
    let mut world = World::new(Some("alpha.example"));
    let (service, key) = (agent(2), agent(1));
    let provider = world.register("alpha.example", "mloverflow", &service, None);
    world.admit(provider);
    let id = world.register("alpha.example", "swift-core-maps", &key, Some("a bio"));
    let attestation = world.attest((&service, provider), id, 5, None);
    world.revoke("beta.example", &agent(1), id);
    for log in [&world.alpha, &world.beta] {
        world.cosign(log);
    }
    world.rank();
    let document = world.get("/api/openapi.json").await.json();
    assert_eq!(document["openapi"], "3.1.0");
    let mut left: BTreeSet<(String, String)> = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        left.extend(methods.as_object().unwrap().keys().map(|method| (method.clone(), path.clone())));
    }
    let hash = fama_ledger::id::Hex(&key.public().hash().0).to_string();
    let get = [
        ("/api", "/api".to_owned()),
        ("/api/status", "/api/status".to_owned()),
        ("/api/agent/{x}", format!("/api/agent/{id}")),
        ("/api/agent/{x}", format!("/api/agent/{id}?at=2027-01-01T00:00:00Z")),
        ("/api/agent/{x}/attestations", format!("/api/agent/{id}/attestations")),
        ("/api/agent/{x}/events", format!("/api/agent/{id}/events")),
        ("/api/agent/{x}/grants", "/api/agent/swift-core-maps/grants".to_owned()),
        ("/api/agent/{x}/keys", format!("/api/agent/{id}/keys")),
        ("/api/agent/{x}/karma", format!("/api/agent/{id}/karma?half_life=30")),
        ("/api/agent/{x}/sponsorship", format!("/api/agent/{provider}/sponsorship")),
        ("/api/agent/{x}/did.json", format!("/api/agent/{id}/did.json")),
        ("/api/agent/{x}/proof", format!("/api/agent/{id}/proof")),
        ("/api/key/{key}", format!("/api/key/{hash}")),
        ("/api/search", "/api/search?q=m".to_owned()),
        ("/api/leaderboard", "/api/leaderboard?limit=1".to_owned()),
        ("/api/services", "/api/services".to_owned()),
        ("/api/service/{x}", "/api/service/mloverflow".to_owned()),
        ("/api/event/{id}", format!("/api/event/{attestation}")),
        ("/api/event/{id}/proof", format!("/api/event/{attestation}/proof")),
        ("/api/event/template", "/api/event/template?kind=revoke&identity=swift-core-maps&reason=retired".to_owned()),
        ("/api/federation", "/api/federation".to_owned()),
        ("/api/federation/issuers", "/api/federation/issuers".to_owned()),
        ("/api/federation/issuers/{operator}/jwks.json", "/api/federation/issuers/alpha.example/jwks.json".to_owned()),
        ("/api/federation/manifests", "/api/federation/manifests".to_owned()),
        ("/api/federation/consistency", "/api/federation/consistency?log=alpha.example/1".to_owned()),
        ("/log/{file}", "/log/policy".to_owned()),
        ("/manifest/{version}", "/manifest/1".to_owned()),
        ("/note/{hash}", "/note/0".to_owned()),
        ("/.well-known/did.json", "/.well-known/did.json".to_owned()),
        ("/skill.md", "/skill.md".to_owned()),
        ("/fama.js", "/fama.js".to_owned()),
        ("/api/stream", "/api/stream?kind=none".to_owned()),
        ("/api/openapi.json", "/api/openapi.json".to_owned()),
    ];
    let post = [
        ("/api/agents", json!({"agents": ["swift-core-maps", "nobody"]})),
        ("/api/verify", json!({})),
        ("/api/register", json!({"public_key": pem(&agent(9))})),
        ("/api/key/rotate", json!({})),
        ("/api/key/revoke", json!({"dumbname": "swift-core-maps"})),
        ("/api/karma/attest", json!({})),
        ("/api/services", json!({})),
    ];
    let get = get.map(|(path, asked)| (Method::GET, path, asked, String::new()));
    let post = post.map(|(path, body)| (Method::POST, path, path.to_owned(), body.to_string()));
    for (method, path, asked, body) in get.into_iter().chain(post) {
        let name = method.as_str().to_ascii_lowercase();
        left.remove(&(name.clone(), path.to_owned()));
        let answer = ask(world.query(), method, &asked, &[], &body).await;
        is_in(&document, (&name, path), &answer);
    }
    assert_eq!(left, BTreeSet::new(), "routes that nothing here asks for");
}

/// Checks that the document has this answer of the route, by status, content type and form.
fn is_in(document: &Value, route: (&str, &str), answer: &HttpAnswer) {
    let kind = answer.header("content-type").split(';').next().unwrap_or_default().to_owned();
    let json = if kind.ends_with("json") { answer.json() } else { Value::Null };
    assert_eq!(fault(document, route, (answer.status, &kind, &json)), None, "{route:?}: {}", answer.text);
}

#[tokio::test]
async fn the_index_and_the_document_name_the_same_paths() {
    let world = World::new(Some("alpha.example"));
    let document = world.get("/api/openapi.json").await.json();
    let paths: BTreeSet<String> = document["paths"].as_object().unwrap().keys().cloned().collect();
    // Two links with examples of what goes in, and the pieces of `/log/`.
    let plain = |link: &str| {
        let mut out = String::new();
        for part in link.split('/').skip(1) {
            out.push('/');
            out.push_str(if part.starts_with('{') { "{}" } else { part });
        }
        out
    };
    let known: BTreeSet<String> = paths.iter().map(|path| plain(path)).collect();
    let index = world.get("/api").await.json();
    for (name, link) in index["links"].as_object().unwrap() {
        let link = plain(link.as_str().unwrap());
        assert!(known.contains(&link) || link.starts_with("/log/"), "{name}: {link}");
    }
}
