//! No line of a node's log has anything that a reader could sign in with, whatever is asked and whatever goes wrong.
use std::io;
use std::sync::Mutex;

use tracing_subscriber::EnvFilter;

use super::*;

/// What the program logs at its most talkative, in memory.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Captured {
    fn start() -> Self {
        let captured = Self::default();
        let writer = captured.clone();
        // Other crates' lowest levels tell of every packet; what they say of headers and bodies is in `debug`.
        let filter = EnvFilter::new("trace,libp2p=debug,yamux=info,multistream_select=info,quinn=info,rustls=debug");
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || writer.clone()).try_init().unwrap();
        captured
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

/// The last part of a JWS, without which the rest proves nothing.
fn last_part(jws: &str) -> String {
    jws.rsplit('.').next().unwrap().to_owned()
}

#[test]
fn no_log_line_has_a_secret() {
    let log = Captured::start();
    multi(async {
        let world = world().await;
        let (auth, own) = (world.auth(0), did(&domain(DOMAINS[0]), &world.agent.0));
        let mut secrets = Vec::new();

        // Tokens by assertion, asked about and revoked; assertions that are refused.
        let token = world.token(0, &[]).await.1["access_token"].as_str().unwrap().to_owned();
        assert_eq!(world.introspect(0, &world.service, 1, &token).await.1["active"], true);
        secrets.push(last_part(&token));
        for (key, audience) in [(&world.agent.1, issuer(0)), (&world.agent.1, issuer(1)), (&secret(4), issuer(0))] {
            let text = assertion(key, &own, &audience, &json!({}));
            secrets.push(last_part(&text));
            for changes in
                [&[("client_assertion", text.as_str())][..], &[("client_assertion", &text), ("scope", &text)]]
            {
                world.token(0, changes).await;
            }
            let pairs = [
                ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
                ("client_assertion", text.as_str()),
                ("token", token.as_str()),
            ];
            form(auth, "/oauth/introspect", &pairs).await;
            form(auth, "/oauth/revoke", &pairs).await;
        }
        let text = assertion(&world.agent.1, &own, &issuer(0), &json!({}));
        let pairs = [
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", text.as_str()),
            ("token", token.as_str()),
        ];
        assert_eq!(form(auth, "/oauth/revoke", &pairs).await.0, 200);
        secrets.push(last_part(&text));
        // Where a careless client may put them.
        world.token(0, &[("client_assertion", &token), ("client_id", &token), ("resource", &token)]).await;
        for name in ["token", "resource", "grant_type", "client_assertion_type"] {
            form(auth, &format!("/oauth/{token}"), &[(name, &token)]).await;
            form(auth, "/oauth/token", &[(name, &token)]).await;
        }

        // A process, and a challenge.
        let process = token_key(7);
        let now = clock::now().0 / 1_000;
        let delegation = Delegation {
            subject: own.clone(),
            process: "worker-1".parse().unwrap(),
            key: JoseKey::Ledger(process.public()),
            scopes: None,
            resources: None,
            issued_at: now,
            expires: now + 120,
            id: random(),
        };
        let said = delegation.sign(world.net.manifest.federation(), &world.agent.1);
        let within = assertion(&process, &own, &issuer(0), &json!({"fama_delegation": said}));
        let (status, answer) = world.token(0, &[("client_assertion", &within)]).await;
        assert_eq!(status, 200, "{answer}");
        secrets.extend([last_part(&within), last_part(answer["access_token"].as_str().unwrap())]);
        let question = json!({"identity": "swift@alpha.example", "resource": PAYMENTS});
        let (_, challenge) = post(auth, "/v1/challenge", question).await;
        let login = challenge["text"].as_str().unwrap().to_owned();
        let signed = signature(&world.agent.1, &login);
        for text in [&login, "nonsense", &token] {
            let (_, answer) = post(auth, "/v1/token", json!({"text": text, "signature": signed})).await;
            secrets.extend(answer["access_token"].as_str().map(last_part));
            post(auth, "/v1/verify", json!({"token": text})).await;
        }
        secrets.push(login.lines().find_map(|line| line.strip_prefix("challenge: ")).unwrap().to_owned());
        secrets.push(signed);

        // The keys of the nodes, of the issuer and of the agent.
        for key in [node_key(0), node_key(3), token_key(0), secret(2)] {
            let pem = key.to_pem();
            let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
            secrets.push(body[body.len() - 24..].to_owned());
        }
        for key in [node_key(0), token_key(0)] {
            let seed = key.ed25519().unwrap().to_bytes();
            secrets.extend([fama_ledger::id::Hex(&seed).to_string(), base64::encode(&seed)]);
        }

        let told = log.text();
        for (what, least) in [
            ("access was changed", 2),
            ("a token was issued", 3),
            ("a sign-in was refused", 10),
            ("a token was revoked", 1),
        ] {
            assert!(told.matches(what).count() >= least, "{what}");
        }
        assert!(secrets.len() > 15 && secrets.iter().all(|secret| secret.len() >= 24), "{secrets:?}");
        for secret in secrets {
            let line = told.lines().find(|line| line.contains(&secret));
            assert_eq!(line, None, "{secret}");
        }
    });
}
