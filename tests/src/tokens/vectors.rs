//! `tokens.json`: access tokens, delegations, calls and DPoP proofs for other implementations, and what each comes to.
//!
//! `FAMA_BLESS=1` rewrites the file. Every vector of the file is checked, and every member of a vector is used.
use base64ct::{Base64UrlUnpadded, Encoding as _};

use super::*;
use crate::vectors::{Vector, blessing, read, write};

const FILE: &str = "tokens.json";
/// The address of the request that the DPoP proofs are of.
const CALLED: &str = "https://payments.example/api/pay";
/// The example of an access token in RFC 9449, section 7.1.
const BOUND: &str = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";

/// Header and claims as they stand here, signed: what a serializer would not write.
fn raw(header: &str, claims: &str, key: &SecretKey) -> String {
    let part = |text: &str| Base64UrlUnpadded::encode_string(text.as_bytes());
    let input = format!("{}.{}", part(header), part(claims));
    let signature = jose::signature_bytes(&key.sign(input.as_bytes()));
    format!("{input}.{}", Base64UrlUnpadded::encode_string(&signature))
}

fn kid(i: u8) -> String {
    JoseKey::Ledger(token_key(i).public()).thumbprint()
}

fn good_header() -> Value {
    json!({"alg": "EdDSA", "typ": "at+jwt", "kid": kid(0)})
}

/// The vectors of access tokens.
fn access_tokens(manifest: &Manifest) -> Vec<Value> {
    let (id, text) = (manifest.federation(), token().sign(manifest.federation(), &signing(0)));
    let claims = payload(&text);
    let all = [issuer(0), issuer(1)];
    let mut made_up: Vec<(String, String, Value)> = Vec::new();
    let mut add = |name: &str, text: String, more: Value| made_up.push((name.to_owned(), text, more));
    let by = |header: &Value, claims: &Value| made(header, claims, &token_key(0));

    add("by the first key", text.clone(), json!({}));
    let bound =
        AccessToken { process: Some("worker-1".to_owned()), key_thumbprint: Some("thumb".to_owned()), ..token() };
    add("by the second key, of a process and bound to a key", bound.sign(id, &signing(1)), json!({}));
    add("without a key id", by(&json!({"alg": "EdDSA", "typ": "at+jwt"}), &claims), json!({}));
    add(
        "with the type as a media type and the algorithm's newer name",
        by(&json!({"alg": "Ed25519", "typ": "Application/AT+JWT"}), &claims),
        json!({}),
    );
    add("at its last second", text.clone(), json!({"now": NOW + 299}));
    add("thirty seconds early", text.clone(), json!({"now": NOW - 30}));
    add("thirty-one seconds early", text.clone(), json!({"now": NOW - 31}));
    add("ended", text.clone(), json!({"now": NOW + 300}));
    add("with no issuer accepted", text.clone(), json!({"issuers": []}));
    add("with another issuer accepted", text.clone(), json!({"issuers": [all[1]]}));
    add("for a name that only begins the same", text.clone(), json!({"audience": "https://payments.example/api/"}));
    for (name, issuer, key) in [
        ("by one operator's key under another's name", &all[1], 0),
        ("by another operator's key", &all[0], 2),
        ("by nobody's key", &all[0], 9),
    ] {
        add(name, AccessToken { issuer: issuer.clone(), ..token() }.sign(id, &signing(key)), json!({}));
    }
    let nobody = "https://auth.gamma.example";
    let text_of = |token: AccessToken| token.sign(id, &signing(0));
    add(
        "of an issuer that no operator has",
        text_of(AccessToken { issuer: nobody.to_owned(), ..token() }),
        json!({"issuers": [nobody]}),
    );
    add("that lasts too long", text_of(AccessToken { expires: NOW + 901, ..token() }), json!({}));
    add("that lasts as long as it may", text_of(AccessToken { expires: NOW + 900, ..token() }), json!({}));
    add("of another federation", token().sign(fama_ledger::id::FederationId([1; 32]), &signing(0)), json!({}));
    for (name, header) in [
        ("of the type of any JWT", json!({"alg": "EdDSA", "typ": "JWT", "kid": kid(0)})),
        ("without a type", json!({"alg": "EdDSA", "kid": kid(0)})),
        ("without a signature's algorithm", json!({"alg": "none", "typ": "at+jwt"})),
        ("with a symmetric algorithm", json!({"alg": "HS256", "typ": "at+jwt"})),
        ("with another curve's algorithm", json!({"alg": "ES256K", "typ": "at+jwt"})),
        ("with the id of the issuer's other key", json!({"alg": "EdDSA", "typ": "at+jwt", "kid": kid(1)})),
        ("with the id of no key", json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "another"})),
        ("with a key id that is no text", json!({"alg": "EdDSA", "typ": "at+jwt", "kid": 7})),
        ("with critical extensions", json!({"alg": "EdDSA", "typ": "at+jwt", "crit": ["exp"]})),
        ("with an unencoded payload", json!({"alg": "EdDSA", "typ": "at+jwt", "b64": false})),
        ("with an address for keys", json!({"alg": "EdDSA", "typ": "at+jwt", "jku": "https://evil.example"})),
        ("with a certificate's address", json!({"alg": "EdDSA", "typ": "at+jwt", "x5u": "https://evil.example"})),
        (
            "with a key of its own",
            json!({"alg": "EdDSA", "typ": "at+jwt", "jwk": JoseKey::Ledger(token_key(0).public()).to_jwk()}),
        ),
    ] {
        add(name, by(&header, &claims), json!({}));
    }
    for name in ["iss", "sub", "client_id", "aud", "scope", "iat", "exp", "jti", "fama"] {
        add(&format!("without {name}"), by(&good_header(), &with(claims.clone(), &[(name, Value::Null)])), json!({}));
    }
    for name in ["federation", "identity", "service", "key_version", "karma", "as_of", "frontier"] {
        let fama = with(claims["fama"].clone(), &[(name, Value::Null)]);
        let text = by(&good_header(), &with(claims.clone(), &[("fama", fama)]));
        add(&format!("without {name} in fama"), text, json!({}));
    }
    for (what, name, value) in [
        ("an audience in a list", "aud", json!([PAYMENTS])),
        ("an empty scope", "scope", json!("")),
        ("two spaces between scopes", "scope", json!("pay  pay2")),
        ("a scope twice", "scope", json!("pay pay")),
        ("a scope with a quotation mark", "scope", json!("pay\"")),
        ("sixty-five scopes", "scope", json!((0..65).map(|i| format!("s{i}")).collect::<Vec<_>>().join(" "))),
        ("sixty-four scopes", "scope", json!((0..64).map(|i| format!("s{i}")).collect::<Vec<_>>().join(" "))),
        ("a scope of 65 bytes", "scope", json!("x".repeat(65))),
        ("a time as a text", "exp", json!((NOW + 300).to_string())),
        ("a time before 1970", "exp", json!(-1)),
        ("an end before the beginning", "exp", json!(NOW - 1)),
        ("the largest time", "exp", json!(u64::MAX)),
        ("an empty jti", "jti", json!("")),
        ("a jti of 129 bytes", "jti", json!("x".repeat(129))),
        ("a jti of 128 bytes in 64 letters", "jti", json!("é".repeat(64))),
        ("a jti of 130 bytes in 65 letters", "jti", json!("é".repeat(65))),
        ("a confirmation without a thumbprint", "cnf", json!({})),
        ("a confirmation that is no object", "cnf", json!("x")),
        ("an actor without a name", "act", json!({"iss": "a"})),
        ("claims that nobody knows", "more", json!({"deep": [1, {"a": [true, null]}]})),
    ] {
        add(what, by(&good_header(), &with(claims.clone(), &[(name, value)])), json!({}));
    }
    for (what, name, value) in [
        ("an identity that is no id", "identity", json!("00")),
        ("a version of 33 bits", "key_version", json!(1_u64 << 32)),
        ("the smallest karma", "karma", json!(i64::MIN)),
        ("a karma beyond 64 bits", "karma", json!(u64::MAX)),
    ] {
        let fama = with(claims["fama"].clone(), &[(name, value)]);
        add(what, by(&good_header(), &with(claims.clone(), &[("fama", fama)])), json!({}));
    }
    malformed(&text, &claims, &mut add);
    let one = |(name, text, more): (String, String, Value)| {
        let issuers = more.get("issuers").cloned().unwrap_or_else(|| json!(all));
        let audience = more.get("audience").cloned().unwrap_or_else(|| json!(PAYMENTS));
        let now = more.get("now").cloned().unwrap_or_else(|| json!(NOW));
        let given = json!({"name": name, "token": text, "issuers": issuers, "audience": audience, "now": now});
        vector("access token", given, |v| access_token(manifest, v))
    };
    made_up.into_iter().map(one).collect()
}

/// What is no JWS at all, or of a form that two readers may read differently.
fn malformed(text: &str, claims: &Value, add: &mut impl FnMut(&str, String, Value)) {
    let (input, signature) = text.rsplit_once('.').unwrap();
    let (header, body) = input.split_once('.').unwrap();
    let (plain_header, plain) = (good_header().to_string(), claims.to_string());
    let raw_claims = |claims: &str| raw(&plain_header, claims, &token_key(0));
    let last = |with: char| format!("{}{with}", &text[..text.len() - 1]);
    for (name, text) in [
        ("nothing", String::new()),
        ("two parts", input.to_owned()),
        ("four parts", format!("{text}.{signature}")),
        ("no signature", format!("{input}.")),
        ("a signature of 63 bytes", format!("{input}.{}", Base64UrlUnpadded::encode_string(&[7; 63]))),
        ("padding", format!("{text}==")),
        ("a space before", format!(" {text}")),
        ("a line end behind", format!("{text}\n")),
        ("the alphabet with + and /", format!("{input}.{}", "+".repeat(86))),
        ("bits behind the signature's end", last('_')),
        ("an array for a header", format!("{}.{body}.{signature}", Base64UrlUnpadded::encode_string(b"[]"))),
        ("a header of bytes that are no text", format!("{}.{body}.{signature}", "_w")),
        ("claims that are no object", format!("{header}.{}.{signature}", Base64UrlUnpadded::encode_string(b"null"))),
        ("more than 16,384 bytes", format!("{}{}", text, "A".repeat(16_384))),
        ("a claim twice", raw_claims(&plain.replacen('{', "{\"aud\":\"https://other.example\",", 1))),
        ("a claim twice, once with an escaped letter", raw_claims(&plain.replacen('{', "{\"\\u0061ud\":\"x\",", 1))),
        ("a member twice within a claim", raw_claims(&plain.replacen('{', "{\"more\":{\"a\":1,\"a\":2},", 1))),
        ("a member twice within a list", raw_claims(&plain.replacen('{', "{\"more\":[{\"a\":1,\"a\":2}],", 1))),
        ("a fraction", raw_claims(&plain.replacen('{', "{\"more\":0.5,", 1))),
        ("a whole number as a fraction", raw_claims(&plain.replacen('{', "{\"more\":1.0,", 1))),
        ("an exponent", raw_claims(&plain.replacen('{', "{\"more\":1e3,", 1))),
        ("minus zero", raw_claims(&plain.replacen('{', "{\"more\":-0,", 1))),
        ("a number of 65 bits", raw_claims(&plain.replacen('{', "{\"more\":18446744073709551616,", 1))),
        ("the largest number of 64 bits", raw_claims(&plain.replacen('{', "{\"more\":18446744073709551615,", 1))),
        ("the smallest number of 64 bits", raw_claims(&plain.replacen('{', "{\"more\":-9223372036854775808,", 1))),
        ("a number below those of 64 bits", raw_claims(&plain.replacen('{', "{\"more\":-9223372036854775809,", 1))),
        ("half a pair of surrogates", raw_claims(&plain.replacen('{', "{\"more\":\"\\ud800\",", 1))),
        ("a pair of surrogates", raw_claims(&plain.replacen('{', "{\"more\":\"\\ud83d\\ude00\",", 1))),
        ("white space between members", raw_claims(&plain.replace(',', " ,\t\r\n"))),
        ("white space of another kind", raw_claims(&plain.replace(',', ",\u{a0}"))),
        ("something behind the claims", raw_claims(&format!("{plain}{{}}"))),
        ("a comma too many", raw_claims(&plain.replacen('}', ",}", 1))),
        ("a control character in a text", raw_claims(&plain.replacen('{', "{\"more\":\"\u{1}\",", 1))),
        (
            "a hundred lists in one another",
            raw_claims(&plain.replacen('{', &format!("{{\"more\":{}{},", "[".repeat(100), "]".repeat(100)), 1)),
        ),
        (
            "two hundred lists in one another",
            raw_claims(&plain.replacen('{', &format!("{{\"more\":{}{},", "[".repeat(200), "]".repeat(200)), 1)),
        ),
        (
            "a member of the header twice",
            raw(&plain_header.replacen('{', "{\"alg\":\"EdDSA\",", 1), &plain, &token_key(0)),
        ),
    ] {
        add(name, text, json!({}));
    }
}

fn delegations(manifest: &Manifest) -> Vec<Value> {
    let (id, process, own) = (manifest.federation(), JoseKey::Ledger(token_key(7).public()), secret(2));
    let said = |delegation: Delegation, key: &SecretKey| delegation.sign(id, key);
    let wide = Delegation { scopes: None, resources: None, ..delegation(process) };
    let text = said(delegation(process), &own);
    let claims = payload(&text);
    let header = json!({"alg": "ES256K", "typ": "fama-delegation+jwt"});
    let by = |changes: &[(&str, Value)]| made(&header, &with(claims.clone(), changes), &own);
    let cnf = |jwk: Value| json!({"jwk": jwk});
    let rsa = json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"});
    let secret_jwk = with(process.to_jwk(), &[("d", json!("x"))]);
    let off = with(p256_jose(&p256_key()).to_jwk(), &[("y", json!(Base64UrlUnpadded::encode_string(&[1; 32])))]);
    let small = json!({"kty": "OKP", "crv": "Ed25519", "x": Base64UrlUnpadded::encode_string(&[0; 32])});
    let mut all = Vec::new();
    for (name, text, key, now) in [
        ("to a key on Ed25519", text.clone(), own.public(), NOW),
        ("to a key on P-256", said(delegation(p256_jose(&p256_key())), &own), own.public(), NOW),
        ("of everything, by an Ed25519 key", said(wide, &secret(4)), secret(4).public(), NOW),
        ("by another key", text.clone(), secret(4).public(), NOW),
        ("ended", text, own.public(), NOW + 3_600),
        ("for a day", by(&[("exp", json!(NOW + 86_400))]), own.public(), NOW),
        ("for more than a day", by(&[("exp", json!(NOW + 86_401))]), own.public(), NOW),
        ("of another identity", by(&[("iss", json!("did:agent:alpha.example:1"))]), own.public(), NOW),
        ("for another audience", by(&[("aud", json!("urn:fama:00"))]), own.public(), NOW),
        ("to a process with a capital letter", by(&[("sub", json!("Worker"))]), own.public(), NOW),
        ("without a key", by(&[("cnf", json!({}))]), own.public(), NOW),
        ("to a key on secp256k1", by(&[("cnf", cnf(JoseKey::Ledger(own.public()).to_jwk()))]), own.public(), NOW),
        ("to a key of another kind", by(&[("cnf", cnf(rsa))]), own.public(), NOW),
        ("with a secret key", by(&[("cnf", cnf(secret_jwk))]), own.public(), NOW),
        ("to a point off its curve", by(&[("cnf", cnf(off))]), own.public(), NOW),
        ("to a point of small order", by(&[("cnf", cnf(small))]), own.public(), NOW),
        ("for no resources", by(&[("resources", json!([]))]), own.public(), NOW),
        ("for a resource that is no text", by(&[("resources", json!([7]))]), own.public(), NOW),
        (
            "for seventeen resources",
            by(&[("resources", json!((0..17).map(|i| format!("https://{i}.example")).collect::<Vec<_>>()))]),
            own.public(),
            NOW,
        ),
        ("of another type", made(&json!({"alg": "ES256K", "typ": "JWT"}), &claims, &own), own.public(), NOW),
    ] {
        let given = json!({"name": name, "token": text, "did": DID, "key": key.to_string(), "now": now});
        all.push(vector("delegation", given, |v| checked_delegation(manifest, v)));
    }
    all
}

/// A call is checked with what a proof shows of its agent: here, that alone is given.
fn agent_calls(manifest: &Arc<Manifest>) -> Vec<Value> {
    let (id, shown, key, process) = (manifest.federation(), profile(manifest, 0), secret(2), p256_key());
    let agent = did(&shown.found.home, &shown.found.id);
    let claims = json!({"iss": agent, "aud": PAYMENTS, "jti": "once", "iat": NOW, "exp": NOW + 60});
    let header = json!({"alg": "ES256K", "typ": "fama-agent+jwt"});
    let by = |changes: &[(&str, Value)]| made(&header, &with(claims.clone(), changes), &key);
    let said = |resources: Option<Vec<String>>| {
        Delegation { subject: agent.clone(), resources, ..delegation(p256_jose(&process)) }.sign(id, &key)
    };
    let by_process = |resources| {
        let claims = with(claims.clone(), &[("fama_delegation", json!(said(resources)))]);
        made_p256(&json!({"alg": "ES256", "typ": "fama-agent+jwt"}), &claims, &process)
    };
    let mut all = Vec::new();
    for (name, text, status, suspension, now) in [
        ("a call", by(&[]), "active", "none", NOW),
        ("ended", by(&[]), "active", "none", NOW + 60),
        ("of more than a minute", by(&[("exp", json!(NOW + 61))]), "active", "none", NOW),
        ("without a beginning", by(&[("iat", Value::Null)]), "active", "none", NOW),
        ("for another service", by(&[("aud", json!("https://other.example"))]), "active", "none", NOW),
        ("of another agent", by(&[("iss", json!(DID))]), "active", "none", NOW),
        ("of another type", made(&json!({"alg": "ES256K", "typ": "JWT"}), &claims, &key), "active", "none", NOW),
        ("by another key", made(&header, &claims, &secret(3)), "active", "none", NOW),
        ("of a key that may be revoked", by(&[]), "not_known_revoked", "none", NOW),
        ("of a suspended agent", by(&[]), "active", "holds", NOW),
        ("of an agent that may be suspended", by(&[]), "active", "not_known", NOW),
        ("by a process", by_process(None), "active", "none", NOW),
        ("by a process, where it may", by_process(Some(vec![PAYMENTS.to_owned()])), "active", "none", NOW),
        (
            "by a process, where it may not",
            by_process(Some(vec!["https://other.example".to_owned()])),
            "active",
            "none",
            NOW,
        ),
        (
            "by the identity's key with a delegation",
            by(&[("fama_delegation", json!(said(None)))]),
            "active",
            "none",
            NOW,
        ),
        ("with a delegation that is no text", by(&[("fama_delegation", json!(7))]), "active", "none", NOW),
    ] {
        let agent = json!({"did": agent, "key": key.public().to_string(), "status": status, "suspension": suspension});
        let given = json!({"name": name, "token": text, "agent": agent, "audience": PAYMENTS, "now": now});
        all.push(vector("agent call", given, |v| agent_call(manifest, &shown, v)));
    }
    all
}

fn dpop_proofs() -> Vec<Value> {
    let key = p256_key();
    let header = json!({"alg": "ES256", "typ": "dpop+jwt", "jwk": p256_jose(&key).to_jwk()});
    let ath = "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo";
    let claims = json!({"htm": "POST", "htu": CALLED, "iat": NOW, "jti": "p"});
    let by = |changes: &[(&str, Value)]| made_p256(&header, &with(claims.clone(), changes), &key);
    let headed = |changes: &[(&str, Value)]| made_p256(&with(header.clone(), changes), &claims, &key);
    let ed = token_key(7);
    let ed_jwk = JoseKey::Ledger(ed.public()).to_jwk();
    let ed_header = json!({"alg": "EdDSA", "typ": "dpop+jwt", "jwk": ed_jwk});
    let (none, bound) = (Value::Null, json!(BOUND));
    let mut all = Vec::new();
    for (name, text, token, now) in [
        ("by a key on P-256", by(&[]), &none, NOW),
        ("by a key on Ed25519", made(&ed_header, &claims, &ed), &none, NOW),
        ("with a token, the example of RFC 9449", by(&[("ath", json!(ath))]), &bound, NOW),
        ("with a token that it does not name", by(&[]), &bound, NOW),
        ("with another token", by(&[("ath", json!("x"))]), &bound, NOW),
        ("of an address with a query", by(&[("htu", json!(format!("{CALLED}?a=1#b")))]), &none, NOW),
        ("of another address", by(&[("htu", json!("https://payments.example/"))]), &none, NOW),
        ("of another method", by(&[("htm", json!("GET"))]), &none, NOW),
        ("ended", by(&[]), &none, NOW + 60),
        ("at its last second", by(&[]), &none, NOW + 59),
        ("early", by(&[]), &none, NOW - 31),
        ("without a name", by(&[("jti", Value::Null)]), &none, NOW),
        ("with another key's algorithm", headed(&[("jwk", ed_jwk)]), &none, NOW),
        ("without a key", headed(&[("jwk", Value::Null)]), &none, NOW),
        ("of another type", headed(&[("typ", json!("JWT"))]), &none, NOW),
        (
            "by a key on secp256k1",
            made(
                &json!({"alg": "ES256K", "typ": "dpop+jwt", "jwk": JoseKey::Ledger(secret(2).public()).to_jwk()}),
                &claims,
                &secret(2),
            ),
            &none,
            NOW,
        ),
    ] {
        let given = json!({"name": name, "proof": text, "method": "POST", "uri": CALLED, "token": token, "now": now});
        all.push(vector("dpop proof", given, dpop_proof));
    }
    all
}

/// A vector: what is given, and what the code makes of it.
fn vector(kind: &str, given: Value, check: impl Fn(&mut Vector) -> Result<Value, TokenError>) -> Value {
    let found = check(&mut Vector::of(given.clone()));
    let (name, value) = match found {
        Ok(value) => ("ok", value),
        Err(error) => ("error", json!(error.code())),
    };
    with(given, &[("type", json!(kind)), (name, value)])
}

fn access_token(manifest: &Manifest, v: &mut Vector) -> Result<Value, TokenError> {
    let (_, text, audience, now) = (v.text("name"), v.text("token"), v.text("audience"), v.number("now"));
    let issuers: Vec<String> = serde_json::from_value(v.take("issuers")).unwrap();
    let issuers: Vec<&str> = issuers.iter().map(String::as_str).collect();
    let expected = Expected { manifest, issuers: &issuers, audience: &audience, now };
    let token = AccessToken::check(&text, &expected)?;
    let scopes: Vec<&str> = token.scopes.iter().map(Scope::as_str).collect();
    Ok(json!({
        "issuer": token.issuer, "operator": token.operator.as_str(), "subject": token.subject,
        "client_id": token.client_id, "identity": token.identity.to_string(), "audience": token.audience,
        "service": token.service, "scopes": scopes, "issued_at": token.issued_at, "expires": token.expires,
        "id": token.id, "key_thumbprint": token.key_thumbprint, "process": token.process,
        "key_version": token.key_version, "karma": token.karma, "as_of": token.as_of, "frontier": token.frontier,
    }))
}

fn shown_delegation(delegation: &Delegation) -> Value {
    let scopes = delegation.scopes.as_ref().map(|all| all.iter().map(Scope::as_str).collect::<Vec<_>>());
    json!({
        "subject": delegation.subject, "process": delegation.process.as_str(), "key": delegation.key.to_jwk(),
        "scopes": scopes, "resources": delegation.resources, "issued_at": delegation.issued_at,
        "expires": delegation.expires, "id": delegation.id,
    })
}

fn checked_delegation(manifest: &Manifest, v: &mut Vector) -> Result<Value, TokenError> {
    let (_, text, agent, now) = (v.text("name"), v.text("token"), v.text("did"), v.number("now"));
    let key: PublicKey = v.text("key").parse().unwrap();
    Delegation::check(&text, (&agent, &key), manifest.federation(), now).map(|one| shown_delegation(&one))
}

fn agent_call(manifest: &Manifest, shown: &Profile, v: &mut Vector) -> Result<Value, TokenError> {
    use fama_ledger::profile::{ProvenStatus, ProvenSuspension};
    let (_, text, audience, now) = (v.text("name"), v.text("token"), v.text("audience"), v.number("now"));
    let mut agent = Vector::of(v.take("agent"));
    let mut profile = shown.clone();
    profile.status = match agent.text("status").as_str() {
        "active" => ProvenStatus::Active,
        "not_known_revoked" => ProvenStatus::NotKnownRevoked,
        other => panic!("the status {other}"),
    };
    profile.suspension = match agent.text("suspension").as_str() {
        "none" => ProvenSuspension::None,
        "holds" => ProvenSuspension::Holds,
        "not_known" => ProvenSuspension::NotKnown,
        other => panic!("the suspension {other}"),
    };
    assert_eq!(agent.text("did"), did(&profile.found.home, &profile.found.id));
    assert_eq!(agent.text("key"), profile.current.key.to_string());
    agent.close();
    let call = AgentCall::check(&text, &profile, manifest.federation(), &audience, now)?;
    let delegation = call.delegation.as_ref().map(shown_delegation);
    Ok(json!({"subject": call.subject, "id": call.id, "expires": call.expires, "delegation": delegation}))
}

fn dpop_proof(v: &mut Vector) -> Result<Value, TokenError> {
    let (_, text, method, uri, now) =
        (v.text("name"), v.text("proof"), v.text("method"), v.text("uri"), v.number("now"));
    let token = v.take("token");
    let proof = DpopProof::check(&text, &method, &uri, token.as_str(), now)?;
    Ok(json!({"key_thumbprint": proof.key_thumbprint, "id": proof.id, "ends": proof.ends}))
}

#[test]
fn the_file_is_what_the_code_makes_and_every_vector_of_it_holds() {
    let manifest = federation();
    let mut all = vec![json!({"type": "federation", "manifest": manifest.note().to_string()})];
    all.extend(access_tokens(&manifest));
    all.extend([delegations(&manifest), agent_calls(&manifest), dpop_proofs()].concat());
    let made = Value::Array(all);
    if blessing() {
        write(FILE, &made);
    }
    let file = read(FILE);
    assert!(file == *made.as_array().unwrap(), "{FILE} differs; FAMA_BLESS=1 rewrites it");

    let shown = profile(&manifest, 0);
    let (mut passed, mut refused) = (0, std::collections::BTreeSet::new());
    for vector in file {
        let mut v = Vector::of(vector.clone());
        let found = match v.text("type").as_str() {
            "federation" => {
                assert_eq!(Manifest::parse(&v.text("manifest")).unwrap().federation(), manifest.federation());
                v.close();
                continue;
            }
            "access token" => access_token(&manifest, &mut v),
            "delegation" => checked_delegation(&manifest, &mut v),
            "agent call" => agent_call(&manifest, &shown, &mut v),
            "dpop proof" => dpop_proof(&mut v),
            other => panic!("a vector of the kind {other}"),
        };
        match found {
            Ok(found) => {
                assert_eq!(v.take("ok"), found, "{vector}");
                passed += 1;
            }
            Err(error) => {
                assert_eq!(v.text("error"), error.code(), "{vector}");
                refused.insert(error.code());
            }
        }
        v.close();
    }
    assert!(passed >= 20, "{passed}");
    let codes = [
        "jws_algorithm",
        "jws_form",
        "jws_header",
        "jws_key",
        "jws_signature",
        "jws_too_long",
        "jws_type",
        "token_audience",
        "token_claim",
        "token_dpop",
        "token_early",
        "token_expired",
        "token_federation",
        "token_identity",
        "token_issuer",
        "token_key",
        "token_lifetime",
        "token_not_in_force",
        "token_resource",
    ];
    assert_eq!(refused, codes.into(), "every refusal has a vector");
}
