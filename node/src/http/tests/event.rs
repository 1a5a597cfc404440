//! Receipts and templates.
use super::*;

#[tokio::test]
async fn an_event_comes_with_a_receipt_that_holds() {
    let mut world = World::new(Some("alpha.example"));
    let key = agent(1);
    let id = world.register("alpha.example", "swift-core-maps", &key, Some("maps things"));
    let path = format!("/api/event/{id}");
    assert_eq!(world.get(&path).await.json()["receipt"], Value::Null);
    world.cosign(&world.alpha);
    // Newer entries without a signed head don't hide the older signed head.
    world.register("alpha.example", "other-agent", &agent(2), None);
    let event = world.get(&path).await.json();
    assert_eq!(event["kind"], "register");
    assert_eq!(event["signer"], key.public().to_string());
    let text = event["text"].as_str().unwrap();
    assert_eq!(Event::parse(text.as_bytes()).unwrap().id(), id);
    let position = json!([{
        "log": "alpha.example/1", "index": 2, "time": "2026-11-22T05:00:01.000Z", "outcome": "applied", "final": true,
    }]);
    assert_eq!(event["positions"], position);
    assert!(event["note"]["text"].as_str().unwrap().contains("bio: maps things\n"));
    let proof: TlogProof = event["receipt"].as_str().unwrap().parse().unwrap();
    let entry = world.app.shared.store.view().entry(&world.alpha.id, 2).unwrap().unwrap();
    let node_key = |name: &Domain| world.app.shared.manifest.operator(name).map(|operator| operator.node_key);
    let (_, cosignatures) = proof.verify(&entry, |origin| node_key(&origin.operator), node_key).unwrap();
    assert_eq!((proof.index, cosignatures.len()), (2, 2));

    world.app.shared.store.redact_note(&note(&Note { bio: Some("maps things".into()), ..Note::default() }).0).unwrap();
    let event = world.get(&path).await.json();
    assert_eq!((&event["note"]["text"], &event["note"]["redacted"]), (&Value::Null, &json!(true)));
    let profile = world.profile("swift-core-maps").await;
    assert_eq!((&profile["identity"]["bio"], &profile["identity"]["bio_redacted"]), (&Value::Null, &json!(true)));
    for (path, status, code) in [("00", 400, "bad_id"), (&*"0".repeat(64), 404, "unknown_event")] {
        let answer = world.get(&format!("/api/event/{path}")).await;
        assert_eq!((answer.status, problem(&answer).as_str()), (status, code), "{path}");
    }
}

/// Names and values of a query string, not escaped.
type Pairs<'a> = &'a [(&'a str, &'a str)];

/// The query string of these pairs, with everything but letters and digits escaped.
fn form(pairs: Pairs<'_>) -> String {
    let escape = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
    pairs.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect::<Vec<_>>().join("&")
}

#[tokio::test]
async fn templates_are_canonical_texts() {
    let mut world = World::new(Some("alpha.example"));
    let key = agent(1);
    let here = world.register("alpha.example", "swift-core-maps", &key, None).to_string();
    let there = world.register("beta.example", "far-away", &agent(2), None).to_string();
    let did = format!("did:agent:beta.example:{}", &there[..32]);
    let (pem, new) = (pem(&agent(3)), agent(3).public().to_string());
    let (day, zero) = ("2026-11-22", "0".repeat(64));
    let template = async |pairs: Pairs<'_>| world.get(&format!("/api/event/template?{}", form(pairs))).await;
    let table: [(Pairs<'_>, Kind, &[String]); 11] = [
        (
            &[("kind", "register"), ("name", "new-agent"), ("key", &pem)],
            Kind::Register,
            &["home: alpha.example".into(), "name: new-agent".into(), format!("key: {new}")],
        ),
        (
            &[("kind", "rotate"), ("identity", "swift-core-maps"), ("key", pem.trim_end())],
            Kind::Rotate,
            &["home: alpha.example".into(), format!("identity: {here}"), "version: 2".into(), format!("key: {new}")],
        ),
        (
            &[("kind", "revoke"), ("identity", &did), ("reason", "retired")],
            Kind::Revoke,
            &[
                "home: beta.example".into(),
                format!("identity: {there}"),
                "version: 1".into(),
                format!("key: {}", agent(2).public()),
                "reason: retired".into(),
            ],
        ),
        (
            &[("kind", "attest"), ("issuer", "far-away@beta.example"), ("subject", "swift-core-maps"), ("delta", "-3")],
            Kind::Attest,
            &["home: beta.example".into(), format!("issuer: {there}"), format!("subject: {here}"), "delta: -3".into()],
        ),
        (
            &[("kind", "retract"), ("issuer", &here), ("subject", &zero), ("day", day), ("attestation", &zero)],
            Kind::Retract,
            &["home: alpha.example".into(), format!("issuer: {here}"), format!("subject: {zero}")],
        ),
        (
            &[
                ("kind", "admit"),
                ("provider", "swift-core-maps"),
                ("service", "s"),
                ("domain", "s.example"),
                ("method", "dns"),
                ("from", "0"),
            ],
            Kind::Admit,
            &["operator: alpha.example".into(), format!("provider: {here}")],
        ),
        (
            &[
                ("kind", "dismiss"),
                ("provider", &here),
                ("service", "s"),
                ("domain", "s.example"),
                ("reason", "expired"),
                ("from", "7"),
            ],
            Kind::Dismiss,
            &["from: 7".into(), "reason: expired".into()],
        ),
        (
            &[
                ("kind", "grant"),
                ("issuer", "far-away@beta.example"),
                ("subject", "swift-core-maps"),
                ("scope", "read:x"),
            ],
            Kind::Grant,
            &[
                "home: beta.example".into(),
                format!("issuer: {there}"),
                format!("subject: {here}"),
                "scope: read:x".into(),
            ],
        ),
        (
            &[("kind", "ungrant"), ("issuer", &here), ("subject", &zero), ("scope", "read:x")],
            Kind::Ungrant,
            &["home: alpha.example".into(), format!("issuer: {here}"), format!("subject: {zero}")],
        ),
        (
            &[("kind", "suspend"), ("identity", "swift-core-maps"), ("reason", "misconduct")],
            Kind::Suspend,
            &["operator: alpha.example".into(), format!("identity: {here}")],
        ),
        (
            &[("kind", "resume"), ("identity", &here)],
            Kind::Resume,
            &["operator: alpha.example".into(), format!("identity: {here}")],
        ),
    ];
    for (pairs, kind, lines) in table {
        let answer = template(pairs).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
        let event = Event::parse(answer.text.as_bytes()).unwrap();
        assert_eq!((event.action.kind(), event.federation), (kind, world.app.shared.manifest.federation()));
        assert!(clock::now().0.abs_diff(event.created.0) < 60_000);
        for line in lines {
            assert!(answer.text.lines().any(|other| other == line), "{line}\n{}", answer.text);
        }
    }
    let long = "x".repeat(64);
    let bad: [(Pairs<'_>, u16, &str, &str); 10] = [
        (&[], 400, "missing_field", "kind"),
        (&[("kind", "adopt")], 400, "bad_value", "kind"),
        (&[("kind", "register"), ("name", "new-agent")], 400, "missing_field", "key"),
        (&[("kind", "register"), ("name", "New"), ("key", &pem)], 400, "bad_value", "name"),
        (&[("kind", "register"), ("name", "a\nkey: b"), ("key", &pem)], 400, "forbidden_character", "name"),
        (&[("kind", "register"), ("name", "new-agent"), ("key", "-----BEGIN x")], 400, "key_pem", "key"),
        (&[("kind", "register"), ("delta", "1")], 400, "unknown_parameter", "delta"),
        (&[("kind", "rotate"), ("identity", "nobody"), ("key", &pem)], 404, "unknown_agent", "identity"),
        (&[("kind", "attest"), ("issuer", &here), ("subject", &here), ("delta", "01")], 400, "bad_value", "delta"),
        (
            &[("kind", "attest"), ("issuer", &here), ("subject", &here), ("delta", "1"), ("context", &long)],
            400,
            "bad_value",
            "context",
        ),
    ];
    for (pairs, status, code, field) in bad {
        let answer = template(pairs).await;
        assert_eq!((answer.status, problem(&answer).as_str()), (status, code), "{}", answer.text);
        assert_eq!(answer.json()["field"], field, "{}", answer.text);
    }
}
