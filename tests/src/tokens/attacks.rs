//! The attacks on JWTs that RFC 8725 lists in its chapter 2, each by its number, and what stops it.
use base64ct::{Base64UrlUnpadded, Encoding as _};
use sha2::{Digest as _, Sha256};

use super::*;

fn part(value: &Value) -> String {
    Base64UrlUnpadded::encode_string(value.to_string().as_bytes())
}

fn with_signature(header: &Value, claims: &Value, signature: &[u8]) -> String {
    format!("{}.{}.{}", part(header), part(claims), Base64UrlUnpadded::encode_string(signature))
}

/// The claims of a good token, and the code with which a text is refused as one.
fn refused(text: &str) -> &'static str {
    let manifest = federation();
    check(text, &manifest, &[&issuer(0), &issuer(1)], NOW).unwrap_err().code()
}

fn good() -> Value {
    payload(&token().sign(federation().federation(), &signing(0)))
}

/// HMAC-SHA256 (RFC 2104) under the issuer's public key, which everybody knows.
fn hmac(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    let block = |with: u8| {
        let mut block = [with; 64];
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let inner = Sha256::new().chain_update(block(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(block(0x5c)).chain_update(inner).finalize().into()
}

#[test]
fn rfc_8725_2_1_a_weak_signature_or_none() {
    for algorithm in ["none", "None", "nOnE", "NONE", ""] {
        for signature in [&[][..], &[0; 64]] {
            let text = with_signature(&json!({"alg": algorithm, "typ": "at+jwt"}), &good(), signature);
            assert_eq!(refused(&text), "jws_algorithm", "{algorithm}");
        }
    }
    // A public key as the secret of a symmetric algorithm.
    let header = json!({"alg": "HS256", "typ": "at+jwt"});
    let public = token_key(0).ed25519().unwrap().verifying_key().to_bytes();
    let signature = hmac(&public, format!("{}.{}", part(&header), part(&good())).as_bytes());
    assert_eq!(refused(&with_signature(&header, &good(), &signature)), "jws_algorithm");
    // Zeros, which held for every message in some implementations of ECDSA.
    let zeros = with_signature(&json!({"alg": "EdDSA", "typ": "at+jwt"}), &good(), &[0; 64]);
    assert_eq!(refused(&zeros), "jws_signature");
    for (algorithm, key) in [("ES256K", JoseKey::Ledger(secret(2).public())), ("ES256", p256_jose(&p256_key()))] {
        let text = with_signature(&json!({"alg": algorithm}), &json!({}), &[0; 64]);
        let verified = jose::Jws::parse(&text).unwrap().verify(&key);
        assert_eq!(verified.unwrap_err().code(), "jws_signature", "{algorithm}");
    }
}

#[test]
fn rfc_8725_2_3_a_composition_of_encryption_and_signature() {
    let text = token().sign(federation().federation(), &signing(0));
    assert_eq!(refused(&format!("{text}.AAAA.AAAA")), "jws_form", "the five parts of an encrypted token");
    let nested = with_signature(&json!({"alg": "dir", "enc": "A128GCM", "cty": "JWT"}), &good(), &[7; 64]);
    assert_eq!(refused(&nested), "jws_type");
}

#[test]
fn rfc_8725_2_6_more_than_one_encoding_of_json() {
    let (header, key) = (json!({"alg": "EdDSA", "typ": "at+jwt"}), token_key(0));
    let text = good().to_string();
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let marked = [&[0xef, 0xbb, 0xbf], text.as_bytes()].concat();
    for claims in [utf16, marked, text.replacen('{', "{\"aud\":\"https://other.example\",", 1).into_bytes()] {
        let input = format!("{}.{}", part(&header), Base64UrlUnpadded::encode_string(&claims));
        let signature = jose::signature_bytes(&key.sign(input.as_bytes()));
        let text = format!("{input}.{}", Base64UrlUnpadded::encode_string(&signature));
        assert_eq!(refused(&text), "jws_form");
    }
}

#[test]
fn rfc_8725_2_7_a_token_for_somebody_else() {
    let id = federation().federation();
    let other = AccessToken { audience: "https://other.example".to_owned(), ..token() };
    assert_eq!(refused(&other.sign(id, &signing(0))), "token_audience");
    let both = with(good(), &[("aud", json!([PAYMENTS, "https://other.example"]))]);
    assert_eq!(refused(&made(&json!({"alg": "EdDSA", "typ": "at+jwt"}), &both, &token_key(0))), "token_claim");
    let issued = AccessToken { issuer: issuer(1), ..token() };
    assert_eq!(refused(&issued.sign(id, &signing(0))), "token_key", "a key counts for its own issuer only");
}

/// Everything that is signed for sign-in, offered to every reader: each takes its own kind and no other.
#[test]
fn rfc_8725_2_8_one_kind_of_token_for_another() {
    let (manifest, key, process) = (federation(), secret(2), p256_key());
    let (id, shown) = (manifest.federation(), profile(&manifest, 0));
    let agent = did(&shown.found.home, &shown.found.id);
    // One set of claims with which each kind would hold, so that only the type tells them apart.
    let claims = with(
        payload(&AccessToken { subject: agent.clone(), ..token() }.sign(id, &signing(0))),
        &[("iss", json!(agent)), ("jti", json!("once")), ("exp", json!(NOW + 60))],
    );
    let for_issuer = with(claims.clone(), &[("aud", json!(issuer(0)))]);
    let said = Delegation { subject: agent.clone(), ..delegation(p256_jose(&process)) }.sign(id, &key);
    let jwk = p256_jose(&process).to_jwk();
    let proof = json!({"htm": "POST", "htu": PAYMENTS, "iat": NOW, "jti": "p"});
    let offered = [
        ("access token", token().sign(id, &signing(0))),
        ("assertion", made(&json!({"alg": "ES256K", "typ": "JWT"}), &for_issuer, &key)),
        ("delegation", said),
        ("call", made(&json!({"alg": "ES256K", "typ": "fama-agent+jwt"}), &claims, &key)),
        ("proof", made_p256(&json!({"alg": "ES256", "typ": "dpop+jwt", "jwk": jwk}), &proof, &process)),
    ];
    for (kind, text) in &offered {
        let taken = [
            ("access token", check(text, &manifest, &[&issuer(0)], NOW).map(drop)),
            ("assertion", Assertion::parse(text, &issuer(0), NOW).map(drop)),
            ("delegation", Delegation::check(text, (&agent, &key.public()), id, NOW).map(drop)),
            ("call", AgentCall::check(text, &shown, id, PAYMENTS, NOW).map(drop)),
            ("proof", DpopProof::check(text, "POST", PAYMENTS, None, NOW).map(drop)),
        ];
        for (reader, result) in taken {
            assert_eq!(result.is_ok(), reader == *kind, "a reader of an {reader} got an {kind}: {result:?}");
        }
    }
}

#[test]
fn rfc_8725_2_9_a_header_that_makes_the_reader_fetch_or_look_up() {
    for (name, value) in [
        ("jku", json!("http://169.254.169.254/")),
        ("x5u", json!("file:///etc/passwd")),
        ("x5c", json!(["AA=="])),
        ("jwk", JoseKey::Ledger(token_key(0).public()).to_jwk()),
    ] {
        let mut header = json!({"alg": "EdDSA", "typ": "at+jwt"});
        header[name] = value;
        assert_eq!(refused(&made(&header, &good(), &token_key(0))), "jws_header", "{name}");
    }
    for id in ["../../../dev/null", "' OR 1=1 --", "\u{0}", &"k".repeat(5_000)] {
        let header = json!({"alg": "EdDSA", "typ": "at+jwt", "kid": id});
        assert_eq!(refused(&made(&header, &good(), &token_key(0))), "token_key", "an id is compared, and nothing else");
    }
}
