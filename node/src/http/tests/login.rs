//! Logins: the spellings that are accepted, and the reasons for refusal.
use super::*;

/// A login as a client of MLAuth sends it.
fn login(key: &SecretKey, dumbname: &str, timestamp: &str, message: &str) -> Value {
    let signature = key.sign(format!("{dumbname}{timestamp}{message}").as_bytes());
    let der = ecdsa::Signature::from_slice(&signature.as_bytes()[..64]).unwrap().to_der();
    json!({"dumbname": dumbname, "timestamp": timestamp, "message": message, "signature": base64::encode(der.as_bytes())})
}

/// Every encoding of an ECDSA signature that clients send: DER and r ‖ s, low and high s.
fn spellings(key: &SecretKey, signed: &str) -> Vec<Vec<u8>> {
    let signature = key.sign(signed.as_bytes());
    let low = ecdsa::Signature::from_slice(&signature.as_bytes()[..64]).unwrap();
    let (r, s) = low.split_scalars();
    let high = ecdsa::Signature::from_scalars(r.to_bytes(), (-*s).to_bytes()).unwrap();
    [low, high].iter().flat_map(|one| [one.to_der().as_bytes().to_vec(), one.to_bytes().to_vec()]).collect()
}

#[tokio::test]
async fn a_login_is_verified_in_every_spelling() {
    let mut world = World::new(Some("alpha.example"));
    let key = agent(1);
    let id = world.register("alpha.example", "swift-core-maps", &key, None);
    let millis = clock::now().to_string();
    let seconds = format!("{}Z", millis.split_once('.').unwrap().0);
    let expect = json!({
        "verified": true, "handle": "swift-core-maps@alpha.example", "agent_id": id.to_string(), "key_version": 1,
        "fresh": false, "attestation": "Verified via MLAuth Protocol 1.0",
    });
    for dumbname in ["swift-core-maps", "swift-core-maps@alpha.example"] {
        for timestamp in [&millis, &seconds] {
            for bytes in spellings(&key, &format!("{dumbname}{timestamp}hello")) {
                let standard = base64::encode(&bytes);
                let url = standard.replace('+', "-").replace('/', "_");
                let wrapped = format!("{}\n{}\n", &standard[..64], &standard[64..]);
                let bare = standard.trim_end_matches('=').to_owned();
                let url_bare = url.trim_end_matches('=').to_owned();
                for signature in [standard, url, wrapped, bare, url_bare] {
                    let body = json!({"dumbname": dumbname, "timestamp": timestamp, "signature": signature, "message": "hello"});
                    let answer = world.verify(&body).await;
                    let mut expect = expect.clone();
                    expect["dumbname"] = dumbname.into();
                    assert_eq!((answer.status, answer.json()), (200, expect), "as it was sent: {body}");
                    assert_eq!(answer.header("cache-control"), "no-store");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_login_is_refused_for_one_reason() {
    let mut world = World::new(Some("alpha.example"));
    let (key, revoked) = (agent(1), agent(2));
    world.register("alpha.example", "swift-core-maps", &key, None);
    let id = world.register("alpha.example", "stolen-key", &revoked, None);
    world.revoke("beta.example", &revoked, id);
    let now = clock::now();
    let stamp = now.to_string();
    let good = login(&key, "swift-core-maps", &stamp, "hello");
    let with = |name: &str, value: Value| {
        let mut body = good.clone();
        body[name] = value;
        body
    };
    let without = |name: &str| {
        let mut body = good.clone();
        body.as_object_mut().unwrap().remove(name);
        body
    };
    let at = |millis: u64| login(&key, "swift-core-maps", &Millis(millis).to_string(), "hello");
    let says = |message: &str| login(&key, "swift-core-maps", &stamp, message);
    let stamped = |stamp: &str| login(&key, "swift-core-maps", stamp, "hello");
    assert_eq!(world.verify(&good).await.status, 200);
    assert_eq!(world.verify(&says("")).await.status, 200);
    assert_eq!(world.verify(&at(now.0 - 299_000)).await.status, 200);
    for (body, status, code) in [
        (without("dumbname"), 400, "missing_dumbname"),
        (without("timestamp"), 400, "missing_timestamp"),
        (without("signature"), 400, "missing_signature"),
        (without("message"), 400, "missing_message"),
        (with("message", json!(5)), 400, "bad_message"),
        (json!([]), 400, "bad_json"),
        (with("signature", json!("????")), 400, "bad_signature_form"),
        (with("signature", json!("")), 400, "bad_signature_form"),
        (with("signature", json!("aGVsbG8=")), 400, "bad_signature_form"),
        (with("message", json!("other")), 401, "bad_signature"),
        (login(&agent(9), "swift-core-maps", &stamp, "hello"), 401, "bad_signature"),
        (at(now.0 - 310_000), 401, "expired"),
        (at(now.0 + 310_000), 401, "expired"),
        (login(&revoked, "stolen-key", &stamp, "hello"), 401, "revoked"),
        (login(&key, "nobody", &stamp, "hello"), 404, "unknown_agent"),
        (login(&key, "swift-core-maps@beta.example", &stamp, "hello"), 404, "unknown_agent"),
        (stamped(&stamp.replace('Z', "+00:00")), 400, "bad_timestamp"),
        (stamped(&stamp.replace('T', " ")), 400, "bad_timestamp"),
        (stamped(&stamp.replace('Z', "z")), 400, "bad_timestamp"),
        (stamped(&stamp.replace('Z', "000Z")), 400, "bad_timestamp"),
        (stamped("2026-02-30T00:00:00Z"), 400, "bad_timestamp"),
        (stamped("1795323600"), 400, "bad_timestamp"),
        (says("ROTATE_KEY:-----BEGIN"), 400, "forbidden_message"),
        (says("REVOKE_KEY:x"), 400, "forbidden_message"),
        (says("fama.event/1\nfederation: 00"), 400, "forbidden_message"),
        (says("format = \"fama.manifest/1\"\n"), 400, "forbidden_message"),
        (says("fama/00/alpha.example/1\n"), 400, "forbidden_message"),
        (says("cosignature/v1\ntime 1"), 400, "forbidden_message"),
    ] {
        let answer = world.verify(&body).await;
        assert_eq!((answer.status, problem(&answer).as_str()), (status, code), "{body}");
    }
    let long = world.verify(&says(&"x".repeat(64 << 10))).await;
    assert_eq!((long.status, problem(&long).as_str()), (413, "body_too_large"));
    let announced = Body::from_stream(futures::stream::repeat_with(|| Ok::<_, std::io::Error>("x".repeat(1 << 10))));
    let endless = Request::post("/api/verify").body(announced).unwrap();
    assert_eq!(world.query().oneshot(endless).await.unwrap().status(), 413);
}
