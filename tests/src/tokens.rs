//! Access tokens, assertions, delegations, calls and DPoP proofs, checked without a network: what passes and what does not.
use std::sync::Arc;

use fama_ledger::event::Scope;
use fama_ledger::frontier::{Frontier, FrontierError};
use fama_ledger::id::{EventId, did};
use fama_ledger::jose::{self, JoseKey};
use fama_ledger::key::{Curve, PublicKey};
use fama_ledger::manifest::Manifest;
use fama_ledger::profile::{Profile, ProfileAnswer};
use fama_ledger::secret::SecretKey;
use fama_ledger::signed_note::{SignedNote, sign};
use fama_ledger::token::{
    AccessToken, AgentCall, Assertion, Delegation, DpopProof, Expected, TokenError, issuer_of, jwk_set,
};
use fama_tests::{DOMAINS, MemoryReplica, genesis, governance_key, policy, secret};
use p256::ecdsa::signature::Signer as _;
use serde_json::{Value, json};

use crate::profile::{NOW, every_log, prove};

mod attacks;
mod vectors;

const PAYMENTS: &str = "https://payments.example/api";

fn token_key(i: u8) -> SecretKey {
    SecretKey::from_seed(Curve::Ed25519, &[240 + i; 32]).unwrap()
}

fn issuer(i: usize) -> String {
    format!("https://auth.{}", DOMAINS[i])
}

/// A federation of four; the first operator has two token keys, the second one, the others no issuer.
fn federation() -> Arc<Manifest> {
    let mut first = genesis(4, policy(4));
    for (i, keys) in [(0, vec![0, 1]), (1, vec![2])] {
        let keys = keys.into_iter().map(|key| token_key(key).ed25519().unwrap().verifying_key());
        first.operators[i].endpoints.issuer = Some(issuer(i));
        first.operators[i].endpoints.token_keys = keys.collect();
    }
    let text = first.text().unwrap();
    let line = |i: u8| sign(&text, DOMAINS[usize::from(i)], governance_key(i).ed25519().unwrap());
    let signatures = (0..4).map(line).collect();
    Arc::new(Manifest::parse(&SignedNote { text, signatures }.to_string()).unwrap())
}

fn scopes(words: &[&str]) -> Vec<Scope> {
    words.iter().map(|word| word.parse().unwrap()).collect()
}

/// A token of the first operator, issued now.
fn token() -> AccessToken {
    AccessToken {
        issuer: issuer(0),
        operator: DOMAINS[0].parse().unwrap(),
        subject: "did:agent:alpha.example:00000000000000000000000000000000".to_owned(),
        client_id: "swift@alpha.example".to_owned(),
        identity: EventId([0; 32]),
        audience: PAYMENTS.to_owned(),
        service: "did:agent:beta.example:11111111111111111111111111111111".to_owned(),
        scopes: scopes(&["read:payments", "pay"]),
        issued_at: NOW,
        expires: NOW + 300,
        id: "one".to_owned(),
        key_thumbprint: None,
        process: None,
        key_version: 2,
        karma: -3,
        as_of: "2026-11-22T05:00:00.000Z".to_owned(),
        frontier: "v1.AAAA".to_owned(),
    }
}

fn signing(key: u8) -> ed25519_dalek::SigningKey {
    token_key(key).ed25519().unwrap().clone()
}

fn check(text: &str, manifest: &Manifest, issuers: &[&str], now: u64) -> Result<AccessToken, TokenError> {
    AccessToken::check(text, &Expected { manifest, issuers, audience: PAYMENTS, now })
}

/// Claims signed by any key, as an attacker would put them together.
fn made(header: &Value, claims: &Value, key: &SecretKey) -> String {
    jose::sign(header, claims, |message| jose::signature_bytes(&key.sign(message)))
}

fn payload(text: &str) -> Value {
    use base64ct::{Base64UrlUnpadded, Encoding as _};
    serde_json::from_slice(&Base64UrlUnpadded::decode_vec(text.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

#[test]
fn an_access_token_is_its_own_issuers_word() {
    let (manifest, accepted) = (federation(), [issuer(0), issuer(1)]);
    let accepted: Vec<&str> = accepted.iter().map(String::as_str).collect();
    let id = manifest.federation();
    for (key, process, thumbprint) in [(0, None, None), (1, Some("worker-1"), Some("thumb"))] {
        let token = AccessToken {
            process: process.map(ToOwned::to_owned),
            key_thumbprint: thumbprint.map(ToOwned::to_owned),
            ..token()
        };
        let text = token.sign(id, &signing(key));
        assert_eq!(check(&text, &manifest, &accepted, NOW), Ok(token.clone()), "by either key");
        assert!(token.has_scope("pay") && !token.has_scope("read"));
        let code = |issuers: &[&str], now| check(&text, &manifest, issuers, now).unwrap_err().code();
        assert_eq!(code(&[], NOW), "token_issuer", "nothing is accepted by default");
        assert_eq!(code(&accepted[1..], NOW), "token_issuer");
        assert_eq!(code(&accepted, NOW + 300), "token_expired");
        assert_eq!(code(&accepted, NOW - 31), "token_early");
        assert!(
            check(&text, &manifest, &accepted, NOW - 30).is_ok()
                && check(&text, &manifest, &accepted, NOW + 299).is_ok()
        );
        let other =
            Expected { manifest: &manifest, issuers: &accepted, audience: "https://payments.example/api/", now: NOW };
        assert_eq!(AccessToken::check(&text, &other).unwrap_err().code(), "token_audience");
        assert!(text.contains('.') && !text.contains([':', '\n']), "told apart from all that these keys sign");
    }
    // The key of one issuer under the name of another, a key of nobody, and the key of a node.
    for (issuer, key) in [(issuer(1), signing(0)), (issuer(0), signing(2)), (issuer(0), signing(9))] {
        let text = AccessToken { issuer, ..token() }.sign(id, &key);
        assert_eq!(check(&text, &manifest, &accepted, NOW).unwrap_err(), TokenError::Key);
    }
    let text = AccessToken { issuer: "https://auth.gamma.example".to_owned(), ..token() }.sign(id, &signing(0));
    assert_eq!(check(&text, &manifest, &["https://auth.gamma.example"], NOW).unwrap_err(), TokenError::Key);
    let text = AccessToken { expires: NOW + 901, ..token() }.sign(id, &signing(0));
    assert_eq!(check(&text, &manifest, &accepted, NOW).unwrap_err().code(), "token_lifetime");
    let text = token().sign(fama_ledger::id::FederationId([1; 32]), &signing(0));
    assert_eq!(check(&text, &manifest, &accepted, NOW).unwrap_err(), TokenError::Federation);
}

#[test]
fn a_changed_token_is_none() {
    let manifest = federation();
    let (issuer, text) = (issuer(0), token().sign(manifest.federation(), &signing(0)));
    for at in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 1 << (at % 6);
        let Ok(changed) = String::from_utf8(bytes) else { continue };
        let result = check(&changed, &manifest, &[&issuer], NOW);
        assert!(result.is_err(), "byte {at}: {changed}");
    }
    let kid = |i| JoseKey::Ledger(token_key(i).public()).thumbprint();
    let mut claims = payload(&text);
    let good = json!({"alg": "EdDSA", "typ": "at+jwt", "kid": kid(0)});
    assert!(check(&made(&good, &claims, &token_key(0)), &manifest, &[&issuer], NOW).is_ok());
    for (header, code) in [
        (json!({"alg": "EdDSA", "typ": "JWT", "kid": kid(0)}), "jws_type"),
        (json!({"alg": "EdDSA", "kid": kid(0)}), "jws_type"),
        (json!({"alg": "none", "typ": "at+jwt", "kid": kid(0)}), "jws_algorithm"),
        (json!({"alg": "HS256", "typ": "at+jwt"}), "jws_algorithm"),
        (json!({"alg": "EdDSA", "typ": "at+jwt", "kid": kid(1)}), "jws_signature"),
        (json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "another"}), "token_key"),
        (json!({"alg": "EdDSA", "typ": "at+jwt", "crit": ["exp"]}), "jws_header"),
        (json!({"alg": "EdDSA", "typ": "at+jwt", "jku": "https://evil.example"}), "jws_header"),
    ] {
        let text = made(&header, &claims, &token_key(0));
        assert_eq!(check(&text, &manifest, &[&issuer], NOW).unwrap_err().code(), code, "{header}");
    }
    for name in ["iss", "sub", "client_id", "aud", "scope", "iat", "exp", "jti", "fama"] {
        let mut without = claims.clone();
        without.as_object_mut().unwrap().remove(name);
        let error = check(&made(&good, &without, &token_key(0)), &manifest, &[&issuer], NOW).unwrap_err();
        assert_eq!(error.code(), "token_claim", "{name}: {error}");
    }
    for (name, value) in [
        ("aud", json!([PAYMENTS])),
        ("scope", json!("")),
        ("scope", json!("pay  pay")),
        ("scope", json!("pay pay")),
        ("exp", json!((NOW + 300).to_string())),
        ("exp", json!(-1)),
        ("jti", json!("")),
        ("jti", json!("x".repeat(129))),
        ("cnf", json!({})),
        ("act", json!({"iss": "a"})),
    ] {
        let before = claims[name].take();
        claims[name] = value.clone();
        let error = check(&made(&good, &claims, &token_key(0)), &manifest, &[&issuer], NOW).unwrap_err();
        assert_eq!(error.code(), "token_claim", "{name}: {value}");
        match before {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            before => claims[name] = before,
        }
    }
}

#[test]
fn a_set_has_the_keys_of_one_operator() {
    let manifest = federation();
    let set = jwk_set(issuer_of(&manifest, &issuer(0)).unwrap());
    let keys = set["keys"].as_array().unwrap();
    let kids: Vec<String> = (0..2).map(|i| JoseKey::Ledger(token_key(i).public()).thumbprint()).collect();
    assert_eq!(keys.iter().map(|key| key["kid"].as_str().unwrap()).collect::<Vec<_>>(), kids);
    for key in keys {
        assert_eq!((&key["use"], &key["alg"], &key["crv"]), (&json!("sig"), &json!("EdDSA"), &json!("Ed25519")));
        assert!(key.get("d").is_none());
    }
    assert!(issuer_of(&manifest, "https://auth.gamma.example").is_none());
}

const DID: &str = "did:agent:alpha.example:00000000000000000000000000000000";

/// The claims of a good assertion.
fn asserted() -> Value {
    json!({"iss": DID, "sub": DID, "aud": issuer(0), "jti": "once", "iat": NOW, "exp": NOW + 60})
}

fn with(mut claims: Value, changes: &[(&str, Value)]) -> Value {
    for (name, value) in changes {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(*name)),
            value => claims[*name] = value.clone(),
        }
    }
    claims
}

#[test]
fn assertions() {
    let (manifest, key) = (federation(), secret(2));
    let read = |header: &Value, claims: &Value, now| {
        let assertion = Assertion::parse(&made(header, claims, &key), &issuer(0), now)?;
        assert_eq!(assertion.subject, DID);
        let delegation = assertion.check((DID, &key.public()), manifest.federation(), None, now)?;
        assert_eq!(delegation, None);
        Ok::<_, TokenError>((assertion.id, assertion.ends))
    };
    let header = json!({"alg": "ES256K"});
    for typ in [json!(null), json!("JWT"), json!("jwt"), json!("client-authentication+jwt")] {
        let header = with(header.clone(), &[("typ", typ)]);
        assert_eq!(read(&header, &asserted(), NOW), Ok(("once".to_owned(), NOW + 90)));
    }
    let good = |changes: &[(&str, Value)], ends: u64| {
        assert_eq!(read(&header, &with(asserted(), changes), NOW).unwrap().1, ends, "{changes:?}");
    };
    // An hour, as Authlib does: it is used up after five minutes. Five minutes ahead without `iat`, as MCP clients do.
    good(&[("exp", json!(NOW + 3_600))], NOW + 330);
    good(&[("iat", json!(NOW - 329)), ("exp", json!(NOW + 60))], NOW + 1);
    good(&[("iat", json!(null)), ("exp", json!(NOW + 300))], NOW + 330);
    good(&[("iat", json!(null)), ("exp", json!(NOW + 330))], NOW + 360);
    good(&[("exp", json!(NOW - 29))], NOW + 1);
    good(&[("iat", json!(NOW + 30)), ("exp", json!(NOW + 60)), ("nbf", json!(NOW + 30))], NOW + 90);
    let bad = |changes: &[(&str, Value)], code: &str| {
        let error = read(&header, &with(asserted(), changes), NOW).unwrap_err();
        assert_eq!(error.code(), code, "{changes:?}: {error}");
    };
    bad(&[("aud", json!([issuer(0)]))], "token_claim");
    bad(&[("aud", json!(format!("{}/oauth/token", issuer(0))))], "token_audience");
    bad(&[("aud", json!(issuer(1)))], "token_audience");
    bad(&[("aud", json!(null))], "token_claim");
    bad(&[("iss", json!("did:agent:alpha.example:1"))], "token_identity");
    bad(&[("jti", json!(null))], "token_claim");
    bad(&[("exp", json!(null))], "token_claim");
    bad(&[("exp", json!(NOW + 3_601))], "token_lifetime");
    bad(&[("iat", json!(NOW - 330)), ("exp", json!(NOW + 60))], "token_expired");
    bad(&[("iat", json!(null)), ("exp", json!(NOW + 331))], "token_lifetime");
    bad(&[("iat", json!(NOW + 31)), ("exp", json!(NOW + 60))], "token_early");
    bad(&[("nbf", json!(NOW + 31))], "token_early");
    bad(&[("exp", json!(NOW - 30)), ("iat", json!(NOW - 60))], "token_expired");
    bad(&[("exp", json!(60.5))], "jws_form");
    for (header, code) in [
        (json!({"alg": "ES256K", "typ": "at+jwt"}), "jws_type"),
        (json!({"alg": "ES256K", "typ": "fama-delegation+jwt"}), "jws_type"),
        (json!({"alg": "ES256K", "typ": "dpop+jwt"}), "jws_type"),
        (json!({"alg": "none"}), "jws_algorithm"),
        (json!({"alg": "EdDSA"}), "jws_algorithm"),
    ] {
        assert_eq!(read(&header, &asserted(), NOW).unwrap_err().code(), code, "{header}");
    }
    // By another key.
    let text = made(&header, &asserted(), &secret(3));
    let assertion = Assertion::parse(&text, &issuer(0), NOW).unwrap();
    let checked = assertion.check((DID, &key.public()), manifest.federation(), None, NOW);
    assert_eq!(checked.unwrap_err().code(), "jws_signature");
}

fn p256_key() -> p256::ecdsa::SigningKey {
    p256::ecdsa::SigningKey::from_slice(&[9; 32]).unwrap()
}

fn p256_jose(key: &p256::ecdsa::SigningKey) -> JoseKey {
    use p256::elliptic_curve::sec1::ToSec1Point as _;
    let point = p256::PublicKey::from(key.verifying_key()).to_sec1_point(true);
    JoseKey::P256(point.as_bytes().try_into().unwrap())
}

fn made_p256(header: &Value, claims: &Value, key: &p256::ecdsa::SigningKey) -> String {
    jose::sign(header, claims, |message| {
        let signature: p256::ecdsa::Signature = key.sign(message);
        signature.to_bytes().into()
    })
}

fn delegation(key: JoseKey) -> Delegation {
    Delegation {
        subject: DID.to_owned(),
        process: "worker-1".parse().unwrap(),
        key,
        scopes: Some(scopes(&["read:payments"])),
        resources: Some(vec![PAYMENTS.to_owned()]),
        issued_at: NOW,
        expires: NOW + 3_600,
        id: "d".to_owned(),
    }
}

/// The issuer, and the identity with its key, of [`examples`].
pub(crate) const ISSUER: &str = "https://auth.alpha.example";

pub(crate) fn identity() -> (String, PublicKey) {
    (DID.to_owned(), secret(2).public())
}

/// Valid texts of each kind, in the federation of the fuzz targets.
pub(crate) fn examples() -> Vec<String> {
    let (own, process, id) = (secret(2), p256_key(), fama_tests::federation(2, |_| ()).federation());
    let said = delegation(JoseKey::Ledger(token_key(7).public())).sign(id, &own);
    let dpop = json!({"alg": "ES256", "typ": "dpop+jwt", "jwk": p256_jose(&process).to_jwk()});
    let proof = json!({"htm": "POST", "htu": ISSUER, "iat": NOW, "jti": "p"});
    let assertion = with(asserted(), &[("fama_delegation", json!(said))]);
    vec![
        made(&json!({"alg": "ES256K", "typ": "JWT"}), &asserted(), &own),
        made(&json!({"alg": "EdDSA"}), &assertion, &token_key(7)),
        said,
        made_p256(&dpop, &proof, &process),
    ]
}

#[test]
fn a_process_acts_by_a_delegation() {
    let manifest = federation();
    let (id, own, process) = (manifest.federation(), secret(2), p256_key());
    for (key, identity) in [(p256_jose(&process), &own), (JoseKey::Ledger(token_key(7).public()), &secret(4))] {
        let text = delegation(key).sign(id, identity);
        let checked = Delegation::check(&text, (DID, &identity.public()), id, NOW);
        assert_eq!(checked, Ok(delegation(key)), "by a key of either curve, for a key of either");
    }
    let said = delegation(p256_jose(&process)).sign(id, &own);
    let signed = |claims: &Value| made_p256(&json!({"alg": "ES256"}), claims, &process);
    let read = |text: &str, beside: Option<&str>| {
        Assertion::parse(text, &issuer(0), NOW)?.check((DID, &own.public()), id, beside, NOW)
    };
    let within = signed(&with(asserted(), &[("fama_delegation", json!(said))]));
    assert_eq!(read(&within, None), Ok(Some(delegation(p256_jose(&process)))));
    assert_eq!(read(&signed(&asserted()), Some(&said)), Ok(Some(delegation(p256_jose(&process)))));
    assert_eq!(read(&within, Some(&said)).unwrap_err().code(), "token_claim", "one is enough");
    assert_eq!(read(&signed(&asserted()), None).unwrap_err().code(), "jws_algorithm", "no identity has such a key");
    let by_identity = made(&json!({"alg": "ES256K"}), &with(asserted(), &[("fama_delegation", json!(said))]), &own);
    assert_eq!(read(&by_identity, None).unwrap_err().code(), "jws_algorithm", "the process's key must sign");

    let code = |change: &dyn Fn(&mut Delegation), now| {
        let mut changed = delegation(p256_jose(&process));
        change(&mut changed);
        Delegation::check(&changed.sign(id, &own), (DID, &own.public()), id, now).map_err(|error| error.code())
    };
    assert_eq!(code(&|_| (), NOW + 3_600).unwrap_err(), "token_expired");
    assert_eq!(code(&|one| one.expires = NOW + 86_401, NOW).unwrap_err(), "token_lifetime");
    assert!(code(&|one| one.expires = NOW + 86_400, NOW).is_ok());
    assert_eq!(code(&|one| one.subject = "did:agent:alpha.example:1".to_owned(), NOW).unwrap_err(), "token_identity");
    assert_eq!(code(&|one| one.key = JoseKey::Ledger(own.public()), NOW).unwrap_err(), "jws_key");
    assert_eq!(code(&|one| one.resources = Some(Vec::new()), NOW).unwrap_err(), "token_claim");
    assert!(code(&|one| (one.resources, one.scopes) = (None, None), NOW).is_ok());
    // Of another federation, by another key, and what is no delegation.
    let other = fama_ledger::id::FederationId([1; 32]);
    let checked = Delegation::check(&said, (DID, &own.public()), other, NOW);
    assert_eq!(checked.unwrap_err().code(), "token_audience");
    let checked = Delegation::check(&said, (DID, &secret(4).public()), id, NOW);
    assert_eq!(checked.unwrap_err().code(), "jws_signature");
    let wrong = made(&json!({"alg": "ES256K", "typ": "JWT"}), &payload(&said), &own);
    assert_eq!(Delegation::check(&wrong, (DID, &own.public()), id, NOW).unwrap_err().code(), "jws_type");
    assert_eq!(Assertion::parse(&said, &issuer(0), NOW).unwrap_err().code(), "jws_type", "never an assertion");
    assert!(delegation(p256_jose(&process)).expect_resource("https://other.example").is_err());
}

/// A profile of an agent with key 2, shown by a proof; `suspended` by that many of four operators, of whom two are enough.
fn profile(manifest: &Arc<Manifest>, suspended: usize) -> Profile {
    let mut replica = MemoryReplica::adopted(manifest);
    let id = replica.register(0, "swift", 2);
    for (i, operator) in DOMAINS.iter().enumerate().take(suspended) {
        let action = fama_ledger::event::Action::Suspend {
            operator: operator.parse().unwrap(),
            identity: id,
            reason: fama_ledger::event::SuspendReason::Misconduct,
        };
        let event = fama_tests::event(manifest.federation(), action, fama_tests::START, 900 + i as u64);
        let said = fama_tests::signed(event, &fama_tests::node_key(i as u8));
        replica.append_event(&fama_tests::log(i), fama_tests::START, said).unwrap();
    }
    let proof = prove(manifest, &replica, &id.to_string()).unwrap();
    match proof.verify(manifest, &every_log(&proof)).unwrap().answer {
        ProfileAnswer::Found(profile) => *profile,
        ProfileAnswer::Absent => unreachable!("it was registered"),
    }
}

#[test]
fn a_service_checks_calls_without_an_issuer() {
    let manifest = federation();
    let (id, shown, key) = (manifest.federation(), profile(&manifest, 1), secret(2));
    let agent = did(&shown.found.home, &shown.found.id);
    let claims = json!({"iss": agent, "aud": PAYMENTS, "jti": "once", "iat": NOW, "exp": NOW + 60});
    let header = json!({"alg": "ES256K", "typ": "fama-agent+jwt"});
    let text = made(&header, &claims, &key);
    assert_eq!(AgentCall::subject_of(&text).unwrap(), agent);
    let call = AgentCall::check(&text, &shown, id, PAYMENTS, NOW).unwrap();
    assert_eq!((call.subject.as_str(), call.id.as_str(), call.expires), (agent.as_str(), "once", NOW + 60));
    let code = |header: &Value, claims: &Value, profile: &Profile, now| {
        AgentCall::check(&made(header, claims, &key), profile, id, PAYMENTS, now).unwrap_err().code()
    };
    assert_eq!(code(&header, &claims, &shown, NOW + 60), "token_expired");
    assert_eq!(code(&header, &with(claims.clone(), &[("exp", json!(NOW + 61))]), &shown, NOW), "token_lifetime");
    assert_eq!(
        code(&header, &with(claims.clone(), &[("aud", json!("https://other.example"))]), &shown, NOW),
        "token_audience"
    );
    assert_eq!(code(&header, &with(claims.clone(), &[("iss", json!(DID))]), &shown, NOW), "token_identity");
    assert_eq!(code(&header, &with(claims.clone(), &[("iat", json!(null))]), &shown, NOW), "token_claim");
    assert_eq!(code(&json!({"alg": "ES256K", "typ": "JWT"}), &claims, &shown, NOW), "jws_type");
    assert_eq!(code(&header, &claims, &profile(&manifest, 2), NOW), "token_not_in_force");
    let mut revoked = shown.clone();
    revoked.status = fama_ledger::profile::ProvenStatus::NotKnownRevoked;
    assert_eq!(code(&header, &claims, &revoked, NOW), "token_not_in_force");

    // A process, and where it may not.
    let process = p256_key();
    let of = |resources: Option<Vec<String>>| {
        let said = Delegation { subject: agent.clone(), resources, ..delegation(p256_jose(&process)) }.sign(id, &key);
        let claims = with(claims.clone(), &[("fama_delegation", json!(said))]);
        let text = made_p256(&json!({"alg": "ES256", "typ": "fama-agent+jwt"}), &claims, &process);
        AgentCall::check(&text, &shown, id, PAYMENTS, NOW).map(|call| call.delegation.unwrap().process.to_string())
    };
    assert_eq!(of(None), Ok("worker-1".to_owned()));
    assert_eq!(of(Some(vec![PAYMENTS.to_owned()])), Ok("worker-1".to_owned()));
    assert_eq!(of(Some(vec!["https://other.example".to_owned()])).unwrap_err().code(), "token_resource");
}

#[test]
fn a_dpop_proof_is_for_one_request() {
    let key = p256_key();
    let jwk = p256_jose(&key).to_jwk();
    let header = json!({"alg": "ES256", "typ": "dpop+jwt", "jwk": jwk});
    let claims = json!({"htm": "POST", "htu": "https://auth.alpha.example/oauth/token", "iat": NOW, "jti": "p"});
    let uri = "https://auth.alpha.example/oauth/token?x=1";
    let text = made_p256(&header, &claims, &key);
    let proof = DpopProof::check(&text, "POST", uri, None, NOW).unwrap();
    assert_eq!(proof.key_thumbprint, p256_jose(&key).thumbprint());
    let code = |header: &Value, claims: &Value, token: Option<&str>, now| {
        DpopProof::check(&made_p256(header, claims, &key), "POST", uri, token, now).unwrap_err().code()
    };
    for (name, value) in [("htm", json!("GET")), ("htu", json!("https://auth.alpha.example/"))] {
        assert_eq!(code(&header, &with(claims.clone(), &[(name, value)]), None, NOW), "token_dpop");
    }
    assert_eq!(code(&header, &claims, None, NOW + 60), "token_expired");
    assert_eq!(code(&header, &claims, None, NOW - 31), "token_early");
    assert_eq!(code(&header, &claims, Some("token"), NOW), "token_claim", "no `ath`");
    assert_eq!(code(&header, &with(claims.clone(), &[("ath", json!("x"))]), Some("token"), NOW), "token_dpop");
    // The example of RFC 9449, section 7.1: the hash of its access token.
    let token = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";
    let hashed = with(claims.clone(), &[("ath", json!("fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo"))]);
    assert!(DpopProof::check(&made_p256(&header, &hashed, &key), "POST", uri, Some(token), NOW).is_ok());
    let other = JoseKey::Ledger(token_key(5).public()).to_jwk();
    assert_eq!(code(&with(header.clone(), &[("jwk", other)]), &claims, None, NOW), "jws_algorithm");
    assert_eq!(code(&with(header.clone(), &[("jwk", json!(null))]), &claims, None, NOW), "jws_key");
    assert_eq!(code(&with(header, &[("typ", json!("JWT"))]), &claims, None, NOW), "jws_type");
    let secp = secret(2);
    let header = json!({"alg": "ES256K", "typ": "dpop+jwt", "jwk": JoseKey::Ledger(secp.public()).to_jwk()});
    let checked = DpopProof::check(&made(&header, &claims, &secp), "POST", uri, None, NOW);
    assert_eq!(checked.unwrap_err().code(), "jws_key");
}

#[test]
fn a_frontier_is_read_as_it_was_written() {
    let manifest = federation();
    let logs: Vec<_> = manifest.logs().keys().cloned().collect();
    let sizes = [1, 0, (1 << 63) - 1, 300];
    let frontier: Frontier = logs.iter().cloned().zip(sizes).collect();
    let text = frontier.text(&manifest);
    assert!(text.starts_with("1.") && text.len() == 2 + 18, "{text}");
    assert_eq!(Frontier::parse(&text, &manifest), Ok(frontier.clone()));
    assert_eq!(Frontier::parse(&Frontier::default().text(&manifest), &manifest).unwrap().of(&logs[3]), 0);
    let mut further = frontier.clone();
    further.set(&logs[1], 5);
    assert_eq!(
        (further.is_beyond(&frontier), frontier.is_beyond(&further), frontier.behind(&further)),
        (true, false, 5)
    );
    assert_eq!(Frontier::parse(&text.replacen("1.", "2.", 1), &manifest), Err(FrontierError::LaterVersion(2)));
    // No version, too few sizes, too many, one that has no end, one of 64 bits, padding.
    for text in [
        "01.AAAAAA",
        "+1.AAAAAA",
        "",
        "1",
        "1.",
        "x.AAAAAA",
        "0.AAAAAA",
        "1.AAAA",
        "1.AAAAAAA",
        "1.AAAAgA",
        "1.gICAgICAgICAAQAAAA",
        "1.AAAAAA==",
    ] {
        assert_eq!(Frontier::parse(text, &manifest), Err(FrontierError::Malformed), "{text}");
    }
}
