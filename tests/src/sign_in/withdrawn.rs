//! How soon a token is refused after its agent's key was revoked, its use suspended or its grant taken back at another
//! operator: by a resource server that follows the stream of a third, and by introspection.
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc;

use super::*;
use crate::clients::{javascript, node};

/// Agents of each kind of withdrawal.
const OF_EACH: usize = 20;
/// How long any of them may take at all.
const PATIENCE: Duration = Duration::from_secs(30);

/// The 99th percentile.
fn p99(mut took: Vec<Duration>) -> Duration {
    took.sort();
    took[(took.len() - 1) * 99 / 100]
}

#[test]
#[allow(clippy::print_stdout, reason = "figures for those who ask for them")]
fn a_withdrawal_is_heard_within_two_seconds() {
    let Some(node) = node() else { return };
    multi(async {
        let world = world().await;
        let mut agents = BTreeMap::new();
        for i in 0..3 * OF_EACH {
            let key = SecretKey::from_seed(Curve::Ed25519, &[7, i as u8].repeat(16).try_into().unwrap()).unwrap();
            let (id, registration) = world.net.register(2, &format!("agent-{i}"), &key);
            world.net.accepted(2, registration).await;
            world.grant(id, "read", None).await;
            agents.insert(format!("agent-{i}"), (id, key));
        }
        world.net.settled().await;
        let mut bearers = json!({});
        for (name, (id, key)) in &agents {
            let text = assertion(key, &did(&domain(DOMAINS[2]), id), &issuer(0), &json!({}));
            let (status, answer) = world.token(0, &[("client_assertion", &text)]).await;
            assert_eq!(status, 200, "{answer}");
            bearers[name] = answer["access_token"].clone();
        }
        let query = world.net.nodes[2].as_ref().unwrap().query;
        let given = json!({
            "query": format!("http://{query}"), "genesis": world.net.manifest.note().to_string(),
            "issuers": [issuer(0)], "resource": PAYMENTS, "bearers": bearers,
        });
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("sign_in/resource.mjs");
        let mut server = javascript(&node);
        server.arg(script).env("FAMA_SIGN_IN", given.to_string()).stdout(Stdio::piped());
        let mut server = server.spawn().unwrap();
        let lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let (told, heard) = mpsc::sync_channel::<Value>(3 * OF_EACH + 1);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = told.send(serde_json::from_str(&line).unwrap());
            }
        });
        assert_eq!(heard.recv_timeout(PATIENCE).unwrap()["ready"], agents.len(), "all hold at first");

        // Each is said at the second operator, or by the second and the fourth.
        let (mut said, mut introspected) = (BTreeMap::new(), Vec::new());
        for (i, (name, (id, key))) in agents.iter().enumerate() {
            match i % 3 {
                0 => world.net.accepted(1, world.net.revoke(2, *id, key)).await.event,
                1 => {
                    world.suspend(3, *id, true).await;
                    world.suspend(1, *id, true).await
                }
                _ => {
                    let (home, issuer, scope) = (domain(DOMAINS[1]), world.service.0, "read".parse().unwrap());
                    let action = Action::Ungrant { home, issuer, subject: *id, scope };
                    world.net.accepted(1, signed(world.net.event(action), &world.service.1)).await.event
                }
            };
            let (begun, now) = (Instant::now(), clock::now());
            said.insert(name.clone(), now);
            let token = bearers[name].as_str().unwrap();
            while world.introspect(0, &world.service, 1, token).await.1["active"] != false {
                assert!(begun.elapsed() < PATIENCE, "{name}");
                // A service may ask 240 times a minute.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            introspected.push(begun.elapsed());
        }
        let mut followed = Vec::new();
        for _ in 0..agents.len() {
            let refused = heard.recv_timeout(PATIENCE).expect("a withdrawal is not heard of");
            assert_eq!((&refused["code"], &refused["status"]), (&json!("withdrawn"), &json!(401)), "{refused}");
            let said: Millis = said[refused["name"].as_str().unwrap()];
            followed.push(Duration::from_millis(refused["at"].as_u64().unwrap().saturating_sub(said.0)));
        }
        assert!(server.wait().unwrap().success());
        let (followed, introspected) = (p99(followed), p99(introspected));
        println!("refused, p99: {followed:?} by the stream, {introspected:?} by introspection");
        assert!(followed < HEARD && introspected < HEARD, "{followed:?} {introspected:?}");
    });
}
