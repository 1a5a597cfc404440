//! The submit listener, as agents and services with HTTP alone use it.
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use fama_ledger::base64;
use fama_ledger::event::{Action, Event};
use fama_ledger::id::EventId;
use fama_ledger::key::Signature;
use fama_ledger::note::{Note, note_hash};
use fama_ledger::proof::TlogProof;
use fama_ledger::secret::SecretKey;
use fama_tests::{DOMAINS, domain, node_key, secret};
use serde_json::{Value, json};

use crate::conforms::fault;
use crate::federation::{LocalFederation, eventually, get, multi};

/// A request to a node, without the event's text: its parts and headers.
struct Sent<'a> {
    kind: &'a str,
    headers: &'a [(&'a str, &'a str)],
    body: Vec<u8>,
}

/// Posts to a listener; the status and the JSON of the answer, which the listener's OpenAPI document describes.
async fn post(address: SocketAddr, path: &str, sent: Sent<'_>) -> (u16, Value) {
    let mut request = ureq::http::Request::post(format!("http://{address}{path}")).header("content-type", sent.kind);
    for (name, value) in sent.headers {
        request = request.header(*name, *value);
    }
    let request = request.body(sent.body).unwrap();
    let route = path.split('?').next().unwrap_or_default().to_owned();
    let run = move || {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
        let mut answer = agent.run(request).unwrap();
        let (status, kind) = (answer.status().as_u16(), answer.body().mime_type().unwrap_or_default().to_owned());
        let json: Value = answer.body_mut().read_json().unwrap_or_default();
        let mut document = agent.get(format!("http://{address}/api/openapi.json")).call().unwrap();
        let document: Value = document.body_mut().read_json().unwrap();
        if document["paths"][&route]["post"].is_object() {
            assert_eq!(fault(&document, ("post", &route), (status, &kind, &json)), None, "{route}: {json}");
        }
        (status, json)
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

/// The signature without its recovery id, as most libraries write it, in base64.
fn signature(key: &SecretKey, text: &str) -> String {
    let signature = key.sign(text.as_bytes());
    let bytes = match &signature {
        Signature::Ed25519(bytes) => bytes.to_vec(),
        Signature::Secp256k1([rs @ .., _]) => rs.to_vec(),
    };
    base64::encode(&bytes)
}

/// A federation of `n`, whose nodes all take events over HTTP.
async fn running(n: u8) -> LocalFederation {
    let mut net = LocalFederation::new(n);
    for i in 0..usize::from(n) {
        let mut config = net.config(i);
        config.submit.enabled = true;
        net.start_with(i, config).await;
    }
    net.wait("all nodes hear the others", |status| status["fresh"] == true && status["waiting"].is_null()).await;
    net
}

async fn text(address: SocketAddr, text: &str, headers: &[(&str, &str)]) -> (u16, Value) {
    post(address, "/events", Sent { kind: "text/plain", headers, body: text.as_bytes().to_vec() }).await
}

#[test]
fn events_come_in_over_http_in_every_form() {
    multi(async {
        let net = running(4).await;
        let submit = |i: usize| net.nodes[i].as_ref().unwrap().submit;
        let key = secret(2);
        let (agent, registration) = net.register(0, "swift", &key);
        let event = registration.signed.event.text();
        let signed = signature(&key, &event);

        // At a node that is not the home's: it passes it on.
        let (status, receipt) = text(submit(1), &event, &[("fama-signature", &signed)]).await;
        assert_eq!((status, &receipt["event"]), (201, &json!(agent.to_string())), "{receipt}");
        assert_eq!((&receipt["handle"], &receipt["known"]), (&json!("swift@alpha.example"), &json!(false)));
        let waited = Sent {
            kind: "application/x-www-form-urlencoded",
            headers: &[("fama-signature", &signed)],
            body: event.clone().into_bytes(),
        };
        let (status, again) = post(submit(2), "/events?wait=final", waited).await;
        assert_eq!((status, &again["known"], &again["final"]), (200, &json!(true), &json!(true)), "{again}");
        assert_eq!(again["index"], receipt["index"], "the same text gets the same receipt");
        let proof: TlogProof = again["proof"].as_str().unwrap().parse().unwrap();
        let included = proof.included(&proof.extra.clone().unwrap(), &net.manifest).unwrap();
        assert!(included.certified.is_some(), "{again}");

        // An array: each item has the status that it would have had alone.
        let judge_key = secret(4);
        let (judge, judge_registration) = net.register(1, "judge", &judge_key);
        let item =
            |event: &Event, key: &SecretKey| json!({"text": event.text(), "signature": signature(key, &event.text())});
        let items = json!([
            item(&judge_registration.signed.event, &judge_key),
            item(&net.register(0, "swift", &secret(5)).1.signed.event, &secret(5)),
            {"text": "nonsense", "signature": "AAAA"},
        ]);
        let sent = Sent { kind: "application/json", headers: &[], body: items.to_string().into_bytes() };
        let (status, answers) = post(submit(1), "/events?wait=final", sent).await;
        let codes: Vec<(u64, &Value)> =
            answers.as_array().unwrap().iter().map(|one| (one["status"].as_u64().unwrap(), &one["code"])).collect();
        assert_eq!(status, 200, "{answers}");
        assert_eq!(codes, [(201, &Value::Null), (409, &json!("name_taken")), (400, &answers[2]["code"])], "{answers}");
        assert_eq!(answers[2]["line"], 1, "{answers}");

        // A service: not sponsored, then sponsored by two operators, whose statements come in over HTTP, too.
        let attestation = net.attest(1, (judge, &judge_key), agent, 5);
        let note = attestation.note.clone().unwrap();
        let attested = attestation.signed.event.text();
        let body = json!({"text": attested, "signature": signature(&judge_key, &attested), "note": note});
        let sent =
            || Sent { kind: "application/json; charset=utf-8", headers: &[], body: body.to_string().into_bytes() };
        let (status, refused) = post(submit(0), "/events", sent()).await;
        assert_eq!((status, &refused["code"]), (403, &json!("not_sponsored")), "{refused}");
        for i in 0..2 {
            let admit = net.admit(i, judge).signed.event.text();
            let signed = signature(&node_key(i), &admit);
            let (status, answer) = text(submit(3), &admit, &[("fama-signature", &signed)]).await;
            assert_eq!(status, 201, "{answer}");
        }
        net.settled().await;
        let (status, answer) = post(submit(0), "/events", sent()).await;
        assert_eq!(status, 201, "{answer}");
        net.shows("swift@alpha.example", |profile| {
            profile["reputation"]["global_score"] == 5 && profile["recent_attestations"][0]["reason"] == "well done"
        })
        .await;

        // A rotation that both keys sign, as a form with binary signatures: no shell has to escape anything.
        let rotation = net.rotate(0, (agent, 2), &[secret(2), secret(8)]).signed.event.text();
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            std::fs::write(dir.path().join(name), bytes).unwrap();
            format!("{name}=@{}", dir.path().join(name).display())
        };
        let raw = |key: &SecretKey| base64::decode_lenient(&signature(key, &rotation)).unwrap();
        let fields = [
            file("text", rotation.as_bytes()),
            file("signature", &raw(&secret(2))),
            file("countersignature", &raw(&secret(8))),
        ];
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-w", "\n%{http_code}"]).arg(format!("http://{}/events", submit(0)));
        for field in &fields {
            curl.args(["-F", field]).stdin(Stdio::null());
        }
        let answer = tokio::task::spawn_blocking(move || curl.output().unwrap()).await.unwrap();
        let answer = String::from_utf8(answer.stdout).unwrap();
        assert!(answer.ends_with("\n201"), "{answer}");
        net.settled().await;
        // A revocation, signed by the key that it revokes.
        let revocation = net.revoke_version(0, (agent, 2), &secret(8)).signed.event.text();
        let signed = signature(&secret(8), &revocation);
        let (status, answer) = text(submit(2), &revocation, &[("fama-signature", &signed)]).await;
        assert_eq!(status, 201, "{answer}");
        net.shows("swift@alpha.example", |profile| profile["key_status"]["is_revoked"] == true).await;
        net.settled().await;
    });
}

#[test]
fn what_is_wrong_with_an_event_is_said_in_words_and_by_status() {
    multi(async {
        let net = running(1).await;
        let node = net.nodes[0].as_ref().unwrap();
        let (submit, query) = (node.submit, node.query);
        let key = secret(2);
        let (_, registration) = net.register(0, "swift", &key);
        let event = registration.signed.event.text();
        let signed = signature(&key, &event);
        let right: &[(&str, &str)] = &[("fama-signature", &signed)];
        let other = signature(&secret(3), &event);
        let stale = {
            let mut stale = registration.signed.event.clone();
            stale.created.0 -= 3_600_000;
            stale.text()
        };
        let stale_signed = signature(&key, &stale);
        let unknown = net.attest(0, (EventId([9; 32]), &key), EventId([8; 32]), 1).signed.event.text();
        let foreign = event.replace(&net.manifest.federation().to_string(), &"ab".repeat(32));
        let nowhere = match &registration.signed.event.action {
            Action::Register { home, .. } => event.replace(home.as_str(), "nowhere.example"),
            _ => unreachable!(),
        };
        let nowhere_signed = signature(&key, &nowhere);
        let table: [(&str, &[(&str, &str)], u16, &str); 10] = [
            ("", right, 400, "missing_field"),
            (&event, &[], 400, "missing_field"),
            (&event, &[("fama-signature", "?")], 400, "bad_signature_form"),
            (&event, &[("fama-signature", &other)], 401, "bad_signature"),
            (&event[..event.len() - 1], right, 400, "no_newline"),
            (&foreign, right, 400, "wrong_federation"),
            (&stale, &[("fama-signature", &stale_signed)], 422, "outside_window"),
            (&unknown, right, 404, "unknown_identity"),
            (&nowhere, &[("fama-signature", &nowhere_signed)], 404, "unknown_home"),
            (&event, &[("fama-signature", &signed), ("fama-signer", "ed25519:zz")], 400, "key_malformed"),
        ];
        // The log's own first entries are no events.
        net.adopted().await;
        net.settled().await;
        let before = get(query, "/api/status").await["frontier"].clone();
        for (body, headers, status, code) in table {
            let (got, answer) = text(submit, body, headers).await;
            assert_eq!((got, answer["code"].as_str().unwrap()), (status, code), "{body}\n{answer}");
            assert!(answer["error"].is_string() && answer["title"].is_string(), "{answer}");
        }
        let array = |count: usize| vec![json!({"text": event, "signature": signed}); count];
        let many = Sent { kind: "application/json", headers: &[], body: json!(array(1_001)).to_string().into_bytes() };
        assert_eq!(post(submit, "/events", many).await.0, 400);
        // A body that is announced as too long is refused before it is sent.
        let refused = tokio::task::spawn_blocking(move || {
            let mut stream = std::net::TcpStream::connect(submit).unwrap();
            let head = format!("POST /events HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", (4 << 20) + 1);
            stream.write_all(head.as_bytes()).unwrap();
            let mut status = [0; 12];
            stream.read_exact(&mut status).unwrap();
            String::from_utf8_lossy(&status).into_owned()
        });
        assert_eq!(refused.await.unwrap(), "HTTP/1.1 413");
        // The query listener reads only, whatever it is sent.
        for path in ["/events", "/api/event", "/api/agent/swift@alpha.example", "/api/verify", "/"] {
            for method in ["POST", "PUT", "PATCH", "DELETE"] {
                let request = ureq::http::Request::builder()
                    .method(method)
                    .uri(format!("http://{query}{path}"))
                    .header("fama-signature", &signed)
                    .body(event.clone())
                    .unwrap();
                let sent = tokio::task::spawn_blocking(move || {
                    ureq::Agent::config_builder()
                        .http_status_as_error(false)
                        .build()
                        .new_agent()
                        .run(request)
                        .unwrap()
                        .status()
                });
                assert!(sent.await.unwrap().is_client_error(), "{method} {path}");
            }
        }
        assert_eq!(get(query, "/api/status").await["frontier"], before, "nothing of all that is in the ledger");
        let (status, _) = text(submit, &event, right).await;
        assert_eq!(status, 201, "and the event itself is as good as before");
    });
}

/// Symptom: an attestation that was sent without its note never showed its reason. Whoever sent it again, with the note,
/// was told that the event is known, and the note was thrown away.
#[test]
fn a_note_that_comes_later_is_taken_and_spreads() {
    multi(async {
        let net = running(2).await;
        let submit = |i: usize| net.nodes[i].as_ref().unwrap().submit;
        let judge_key = secret(4);
        let judge = net.provider(1, "judge", &judge_key).await;
        let (agent, registration) = net.register(0, "swift", &secret(2));
        net.accepted(0, registration).await;
        let other = Note { salt: [8; 32], reason: Some("not for everybody".to_owned()), ..Note::default() }.text();
        let (attested, home) = (net.attest(1, (judge, &judge_key), agent, 5), domain(DOMAINS[1]));
        let named = Some(note_hash(other.as_bytes()));
        let second = Action::Attest { home, issuer: judge, subject: agent, delta: 1, context: None, note: named };
        let (first, second) = (attested.signed.event.clone(), net.event(second));
        let send = async |i: usize, event: &Event, note: Option<&str>| {
            let signed = signature(&judge_key, &event.text());
            let body = json!({"text": event.text(), "signature": signed, "note": note}).to_string();
            post(submit(i), "/events", Sent { kind: "application/json", headers: &[], body: body.into_bytes() }).await
        };
        // The newest attestation of a profile: its reason, and whether it is redacted.
        let shown = |profile: &Value| {
            let newest = &profile["recent_attestations"][0];
            (newest["reason"].as_str().map(ToOwned::to_owned), newest["redacted"].as_bool().unwrap_or_default())
        };

        assert_eq!(send(1, &first, None).await.0, 201);
        net.settled().await;
        net.shows("swift@alpha.example", |profile| shown(profile) == (None, false)).await;
        let (status, answer) = send(0, &first, Some(&other)).await;
        assert_eq!((status, &answer["code"]), (400, &json!("wrong_note")), "{answer}");
        // At a node that is not the home's.
        let (status, answer) = send(0, &first, attested.note.as_deref()).await;
        assert_eq!((status, &answer["known"]), (200, &json!(true)), "{answer}");
        net.shows("swift@alpha.example", |profile| shown(profile) == (Some("well done".to_owned()), false)).await;

        // A node that has dropped a note does not take it back; others decide for themselves.
        assert_eq!(send(1, &second, None).await.0, 201);
        net.settled().await;
        let body = format!("sha256:{}", note_hash(other.as_bytes())).into_bytes();
        let dropped = Sent { kind: "application/octet-stream", headers: &[], body };
        assert_eq!(post(net.nodes[0].as_ref().unwrap().admin, "/note/redact", dropped).await.0, 200);
        for i in [0, 1] {
            assert_eq!(send(i, &second, Some(&other)).await.0, 200);
        }
        for (i, want) in [(1, (Some("not for everybody".to_owned()), false)), (0, (None, true))] {
            let query = net.nodes[i].as_ref().unwrap().query;
            eventually(&format!("the second note at {}", DOMAINS[i]), || async {
                let profile = get(query, "/api/agent/swift@alpha.example").await;
                if shown(&profile) == want { Ok(()) } else { Err(profile.to_string()) }
            })
            .await;
        }
    });
}
