//! What liars and thieves try at the sign-in listener: operators that lie, and those attacks of RFC 9700 for which no
//! browser is redirected.
use super::*;

const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

impl World {
    fn own(&self) -> String {
        did(&domain(DOMAINS[0]), &self.agent.0)
    }

    fn code(&self, issuers: &[&str], token: &str) -> &'static str {
        let now = clock::now().0 / 1_000;
        let expected = Expected { manifest: &self.net.manifest, issuers, audience: PAYMENTS, now };
        AccessToken::check(token, &expected).map_or_else(|error| error.code(), |_| "ok")
    }
}

/// A request with headers; the status, the headers and the body of the answer.
async fn request(to: SocketAddr, path: &str, headers: &[(&'static str, String)], body: String) -> (u16, String, Value) {
    let (url, headers) = (format!("http://{to}{path}"), headers.to_vec());
    let sent = tokio::task::spawn_blocking(move || {
        let config = ureq::Agent::config_builder().http_status_as_error(false).max_redirects(0).build();
        let mut asked = config.new_agent().post(&url).content_type("application/x-www-form-urlencoded");
        for (name, value) in headers {
            asked = asked.header(name, value);
        }
        let mut answer = asked.send(body).unwrap();
        let told = format!("{:?}", answer.headers());
        (answer.status().as_u16(), told, answer.body_mut().read_json().unwrap_or_default())
    });
    sent.await.unwrap()
}

/// An operator that lies can sign whatever it likes, for those who accept it; nobody else is harmed.
#[test]
fn a_lying_issuer_harms_those_alone_who_accept_it() {
    multi(async {
        let world = world().await;
        let honest = world.token(0, &[]).await.1["access_token"].as_str().unwrap().to_owned();
        let token = world.check(0, &honest);
        let federation = world.net.manifest.federation();
        let (first, second) = (issuer(0), issuer(1));
        let forge = |changed: AccessToken| changed.sign(federation, token_key(0).ed25519().unwrap());
        // In the agent's name, a scope that the service never granted; in the name of somebody who never asked.
        let everything = forge(AccessToken { scopes: vec!["everything".parse().unwrap()], ..token.clone() });
        let (victim, subject) = (world.other.0, did(&domain(DOMAINS[1]), &world.other.0));
        let somebody = forge(AccessToken { identity: victim, subject, ..token.clone() });
        for lie in [&everything, &somebody] {
            assert_eq!(world.code(&[&first], lie), "ok", "offline, it is that operator's word");
            assert_eq!(world.code(&[&second], lie), "token_issuer", "who does not accept it is safe");
            // Nor does another node confirm it: what the ledger says decides there.
            for i in [0, 1] {
                let (status, answer) = world.introspect(i, &world.service, 1, lie).await;
                assert_eq!((status, answer), (200, json!({"active": false})), "{i}");
            }
        }
        // It cannot speak in another operator's name, nor longer than a token may.
        assert_eq!(
            world.code(&[&first, &second], &forge(AccessToken { issuer: second.clone(), ..token.clone() })),
            "token_key"
        );
        let expires = token.issued_at + 901;
        assert_eq!(world.code(&[&first], &forge(AccessToken { expires, ..token })), "token_lifetime");
    });
}

/// The operator of an agent's own home suspends it, alone: its own issuer refuses, and the agent signs in elsewhere.
#[test]
fn a_home_operator_alone_locks_nobody_out() {
    multi(async {
        let world = world().await;
        world.suspend(0, world.agent.0, true).await;
        world.net.settled().await;
        let (status, answer) = world.token(0, &[]).await;
        assert_eq!((status, &answer["code"]), (401, &json!("suspended")), "{answer}");
        let (status, answer) = world.token(1, &[]).await;
        assert_eq!(status, 200, "{answer}");
        let token = answer["access_token"].as_str().unwrap();
        assert_eq!(world.introspect(1, &world.service, 1, token).await.1["active"], true);
        let profile = get(world.net.nodes[2].as_ref().unwrap().query, "/api/agent/swift@alpha.example").await;
        assert_eq!(profile["key_status"]["is_suspended"], false, "one of four says so: {profile}");
        assert_eq!(profile["key_status"]["suspended_by"][0]["operator"], DOMAINS[0]);
    });
}

/// RFC 9700, section 4.4: what a client sends to one issuer is of no use at another.
#[test]
fn rfc_9700_4_4_mix_up() {
    multi(async {
        let world = world().await;
        for audience in [
            json!(issuer(1)),
            json!([issuer(0), issuer(1)]),
            json!([issuer(0)]),
            json!(format!("{}/", issuer(0))),
            json!(format!("{}/oauth/token", issuer(0))),
            json!(format!("http://{}", world.auth(0))),
        ] {
            let text = assertion(&world.agent.1, &world.own(), "", &json!({"aud": audience}));
            let (status, answer) = world.token(0, &[("client_assertion", &text)]).await;
            assert_eq!((status, &answer["error"]), (401, &json!("invalid_client")), "{audience}: {answer}");
        }
    });
}

/// RFC 9700, sections 2.4, 4.1, 4.11 and 4.14: nothing here redirects, asks for a password or outlives a token.
#[test]
fn rfc_9700_4_11_nothing_redirects_and_nothing_is_refreshed() {
    multi(async {
        let world = world().await;
        let url = format!(
            "http://{}/oauth/authorize?response_type=code&client_id=x&redirect_uri=https://evil.example",
            world.auth(0)
        );
        let (status, location) = tokio::task::spawn_blocking(move || {
            let config = ureq::Agent::config_builder().http_status_as_error(false).max_redirects(0).build();
            let answer = config.new_agent().get(&url).call().unwrap();
            (answer.status().as_u16(), answer.headers().get("location").cloned())
        })
        .await
        .unwrap();
        assert_eq!((status, location), (400, None));
        for grant in [
            "password",
            "authorization_code",
            "refresh_token",
            "implicit",
            "urn:ietf:params:oauth:grant-type:device_code",
        ] {
            let (status, answer) = world.token(0, &[("grant_type", grant), ("username", "x"), ("password", "x")]).await;
            assert_eq!((status, &answer["error"]), (400, &json!("unsupported_grant_type")), "{grant}");
        }
        let (_, answer) = world.token(0, &[]).await;
        let members: Vec<&String> = answer.as_object().unwrap().keys().collect();
        assert_eq!(members, ["access_token", "expires_in", "scope", "token_type"], "no refresh token");
    });
}

/// RFC 9700, section 4.13: what a proxy, or a client that pretends to be one, says changes neither name nor address.
#[test]
fn rfc_9700_4_13_a_header_changes_no_name() {
    multi(async {
        let world = world().await;
        let lies: Vec<(&'static str, String)> =
            ["x-forwarded-host", "x-forwarded-server", "x-original-host", "forwarded"]
                .map(|name| (name, "host=evil.example;proto=https".to_owned()))
                .to_vec();
        let url = format!("http://{}/.well-known/oauth-authorization-server", world.auth(0));
        let headers = lies.clone();
        let metadata: Value = tokio::task::spawn_blocking(move || {
            let asked = headers.into_iter().fold(ureq::get(&url), |asked, (name, value)| asked.header(name, value));
            asked.call().unwrap().body_mut().read_json().unwrap()
        })
        .await
        .unwrap();
        assert!(!metadata.to_string().contains("evil"), "{metadata}");
        assert_eq!(metadata["token_endpoint"], format!("{}/oauth/token", issuer(0)));
        // A client certificate or a user that a proxy would have checked is nobody here.
        let mut lies = lies;
        lies.extend([
            ("x-ssl-client-verify", "SUCCESS".to_owned()),
            ("x-remote-user", "swift@alpha.example".to_owned()),
        ]);
        let body = format!("grant_type=client_credentials&resource={PAYMENTS}&client_id=swift@alpha.example");
        let (status, _, answer) = request(world.auth(0), "/oauth/token", &lies, body).await;
        assert_eq!((status, &answer["code"]), (401, &json!("no_assertion")), "{answer}");
        // Nor is somebody who sends a secret.
        let basic = [("authorization", "Basic c3dpZnQ6c2VjcmV0".to_owned())];
        let body = format!("grant_type=client_credentials&resource={PAYMENTS}&client_secret=secret");
        let (status, headers, answer) = request(world.auth(0), "/oauth/token", &basic, body).await;
        assert_eq!((status, &answer["code"]), (401, &json!("no_assertion")), "{answer}");
        assert!(!headers.contains("www-authenticate"), "{headers}");
    });
}

/// RFC 9700, sections 4.2 and 4.3: what stands in an address is in logs and histories, so nothing is read from there.
#[test]
fn rfc_9700_4_3_nothing_is_read_from_an_address() {
    multi(async {
        let world = world().await;
        let text = assertion(&world.agent.1, &world.own(), &issuer(0), &json!({}));
        let query = format!(
            "grant_type=client_credentials&resource={PAYMENTS}&client_assertion_type={ASSERTION}\
             &client_assertion={text}"
        );
        let (status, headers, answer) =
            request(world.auth(0), &format!("/oauth/token?{query}"), &[], String::new()).await;
        assert_eq!((status, &answer["error"]), (400, &json!("invalid_request")), "{answer}");
        assert!(headers.contains("no-store"), "{headers}");
        // It was not used up either.
        assert_eq!(world.token(0, &[("client_assertion", &text)]).await.0, 200);
    });
}

/// RFC 9700, section 4.15: no client is taken for another identity, whatever it calls itself.
#[test]
fn rfc_9700_4_15_a_client_is_nobody_else() {
    multi(async {
        let world = world().await;
        let other = did(&domain(DOMAINS[1]), &world.other.0);
        for (name, code) in [
            (other.as_str(), "jws_algorithm"),
            ("other@beta.example", "jws_algorithm"),
            ("payments@beta.example", "jws_signature"),
            ("swift@beta.example", "unknown_agent"),
            ("did:agent:beta.example:00000000000000000000000000000000", "unknown_agent"),
            ("", "bad_name"),
        ] {
            let text = assertion(&world.agent.1, name, &issuer(0), &json!({}));
            let (status, answer) = world.token(0, &[("client_assertion", &text)]).await;
            assert_eq!((status, &answer["code"]), (401, &json!(code)), "{name}: {answer}");
        }
        let (_, answer) = world.token(0, &[]).await;
        assert_eq!(world.check(0, answer["access_token"].as_str().unwrap()).subject, world.own());
    });
}
