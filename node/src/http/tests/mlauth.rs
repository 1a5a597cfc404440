//! MLAuth's paths for writing.
use fama_ledger::entry::SignedEvent;

use super::*;

async fn post(world: &World, path: &str, body: &Value) -> Value {
    let answer = ask(world.query(), Method::POST, path, &[], &body.to_string()).await;
    assert_eq!((answer.status, problem(&answer).as_str()), (422, "sign_this"), "{}", answer.text);
    answer.json()
}

/// The text is an event that the ledger accepts once it is signed.
fn event(answer: &Value) -> Event {
    let text = answer["text"].as_str().unwrap();
    let event = Event::parse(text.as_bytes()).unwrap();
    assert_eq!(event.text(), text);
    assert_eq!(answer["post_to"], "http://127.0.0.1:8070/events");
    assert!(answer["how"].as_str().unwrap().contains("Fama-Signature"));
    if let Some(hash) = event.action.note() {
        assert_eq!(note_hash(answer["note"].as_str().unwrap().as_bytes()), hash, "the note goes along");
    }
    event
}

#[tokio::test]
async fn an_old_recipe_is_answered_with_the_text_to_sign() {
    let mut world = World::new(Some("alpha.example"));
    let (key, service) = (agent(1), agent(2));
    let id = world.register("alpha.example", "swift-core-maps", &key, None);
    let provider = world.register("alpha.example", "mloverflow", &service, None);
    world.admit(provider);
    let before = world.get("/api/status").await.json()["frontier"].clone();

    let new = agent(3);
    let body = json!({"public_key": pem(&new), "dumbname": "new-here", "bio": "what I do"});
    let registration = event(&post(&world, "/api/register", &body).await);
    let Action::Register { home, name, key: given, .. } = &registration.action else { panic!("{registration:?}") };
    assert_eq!((home.as_str(), name.as_str(), given), ("alpha.example", "new-here", &new.public()));
    let signature = new.sign(registration.text().as_bytes());
    let federation = registration.federation;
    SignedEvent { event: registration, signer: new.public(), signature, countersignature: None }
        .verify(&federation)
        .unwrap();
    let nameless = event(&post(&world, "/api/register", &json!({"public_key": pem(&new)})).await);
    let again = event(&post(&world, "/api/register", &json!({"public_key": pem(&new)})).await);
    let name = |event: &Event| match &event.action {
        Action::Register { name, .. } => name.clone(),
        _ => panic!("{event:?}"),
    };
    assert_eq!(name(&nameless), name(&again));

    let body = json!({"dumbname": "swift-core-maps", "timestamp": "x", "signature": "x", "new_public_key": pem(&new)});
    let Action::Rotate { identity, version, key: given, .. } =
        event(&post(&world, "/api/key/rotate", &body).await).action
    else {
        panic!()
    };
    assert_eq!((identity, version, given), (id, 2, new.public()));

    for (given, reason) in [("KEY_COMPROMISED", RevokeReason::KeyCompromised), ("WHATEVER", RevokeReason::Unspecified)]
    {
        let body =
            json!({"dumbname": "swift-core-maps@alpha.example", "timestamp": "x", "signature": "x", "reason": given});
        let revocation = event(&post(&world, "/api/key/revoke", &body).await);
        let Action::Revoke { identity, key: revoked, reason: found, .. } = revocation.action else { panic!() };
        assert_eq!((identity, revoked, found), (id, key.public(), reason));
    }

    let body = json!({"provider_name": "mloverflow", "agent_id": id.to_string(), "score_change": 5, "reason": "helped", "external_ref": "https://x.example/1", "signature": "x"});
    let Action::Attest { issuer, subject, delta, .. } = event(&post(&world, "/api/karma/attest", &body).await).action
    else {
        panic!()
    };
    assert_eq!((issuer, subject, delta), (provider, id, 5));

    let answer = ask(world.query(), Method::POST, "/api/services", &[], "{}").await;
    assert_eq!((answer.status, problem(&answer).as_str()), (422, "ask_operator"));
    assert_eq!(answer.json()["operators"][0]["operator"], "alpha.example");
    assert_eq!(world.get("/api/status").await.json()["frontier"], before, "nothing was written");
}

#[tokio::test]
async fn what_no_text_can_be_made_of_is_refused() {
    let world = World::new(Some("alpha.example"));
    for (path, body, status, code) in [
        ("register", json!([]), 400, "bad_json"),
        ("register", json!({}), 400, "missing_field"),
        ("register", json!({"public_key": "x"}), 400, "bad_key"),
        ("register", json!({"public_key": pem(&agent(1)), "dumbname": "No Name"}), 400, "bad_value"),
        (
            "register",
            json!({"public_key": pem(&agent(1)), "dumbname": "fine", "bio": "two\nlines"}),
            400,
            "forbidden_char",
        ),
        ("key/rotate", json!({"dumbname": "nobody", "new_public_key": pem(&agent(1))}), 404, "unknown_agent"),
        ("key/revoke", json!({"dumbname": 5}), 400, "bad_value"),
        ("karma/attest", json!({"agent_id": "nobody", "provider_name": "x", "score_change": 1}), 404, "unknown_agent"),
    ] {
        let answer = ask(world.query(), Method::POST, &format!("/api/{path}"), &[], &body.to_string()).await;
        assert_eq!((answer.status, problem(&answer).as_str()), (status, code), "{path} {body}: {}", answer.text);
    }
}
