use alloc::format;
use alloc::string::ToString;
use std::string::String;

use serde_json::json;

use super::*;
use crate::key::Curve;
use crate::secret::SecretKey;

fn base64url(text: &str) -> String {
    Base64UrlUnpadded::encode_string(text.as_bytes())
}

/// A JWS with these texts as header and claims, signed by `key`.
fn made(header: &str, claims: &str, key: &SecretKey) -> String {
    let input = format!("{}.{}", base64url(header), base64url(claims));
    let signature = signature_bytes(&key.sign(input.as_bytes()));
    format!("{input}.{}", Base64UrlUnpadded::encode_string(&signature))
}

fn secret(curve: Curve) -> SecretKey {
    SecretKey::from_seed(curve, &[7; 32]).unwrap()
}

/// RFC 8037, appendices A.2 to A.4.
#[test]
fn ed25519_as_in_its_rfc() {
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    let key = JoseKey::from_jwk(&jwk).unwrap();
    assert_eq!(key.to_jwk(), jwk);
    assert_eq!(key.thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    let input = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let signature = Base64UrlUnpadded::decode_vec(signature).unwrap();
    assert_eq!(key.verify(input.as_bytes(), &signature), Ok(()));
    assert_eq!(key.verify(b"another", &signature), Err(JoseError::Signature));
}

/// RFC 7515, appendix A.3.
#[test]
fn p256_as_in_its_rfc() {
    let jwk = json!({
        "kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    });
    let key = JoseKey::from_jwk(&jwk).unwrap();
    assert_eq!(key.to_jwk(), jwk);
    let text = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9p\
        c19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    let jws = Jws::parse(text).unwrap();
    assert_eq!(jws.claims().get("iss"), Some(&json!("joe")));
    assert_eq!(jws.verify(&key), Ok(()));
}

/// What RFC 9449 shows as its thumbprint, in `cnf` of section 6.1, of the key in section 4.1.
#[test]
fn a_thumbprint_as_in_an_rfc() {
    let jwk = json!({
        "kty": "EC", "x": "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs",
        "y": "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA", "crv": "P-256",
    });
    assert_eq!(JoseKey::from_jwk(&jwk).unwrap().thumbprint(), "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
}

#[test]
fn the_key_decides_the_algorithm() {
    let (secp, ed) = (secret(Curve::Secp256k1), secret(Curve::Ed25519));
    let of = |algorithm: &str, key: &SecretKey| {
        let jws = Jws::parse(&made(&format!(r#"{{"alg":"{algorithm}"}}"#), "{}", key)).unwrap();
        jws.verify(&JoseKey::Ledger(key.public()))
    };
    assert_eq!(of("ES256K", &secp), Ok(()));
    assert_eq!(of("EdDSA", &ed), Ok(()));
    assert_eq!(of("Ed25519", &ed), Ok(()));
    for wrong in ["none", "None", "HS256", "ES256", "EdDSA", "es256k", "RS256", ""] {
        assert!(matches!(of(wrong, &secp), Err(JoseError::Algorithm { .. })), "{wrong}");
    }
    for wrong in ["none", "HS512", "ES256", "ES256K", "Ed448"] {
        assert!(matches!(of(wrong, &ed), Err(JoseError::Algorithm { .. })), "{wrong}");
    }
    let jws = Jws::parse(&made("{}", "{}", &ed)).unwrap();
    assert!(matches!(jws.verify(&JoseKey::Ledger(ed.public())), Err(JoseError::Algorithm { .. })), "no algorithm");
    let jws = Jws::parse(&made(r#"{"alg":["EdDSA"]}"#, "{}", &ed)).unwrap();
    assert!(matches!(jws.verify(&JoseKey::Ledger(ed.public())), Err(JoseError::Algorithm { .. })), "no text");
}

/// Foreign libraries make both; other encodings of a signature are none here.
#[test]
fn s_may_be_high_or_low() {
    let key = secret(Curve::Secp256k1);
    let text = made(r#"{"alg":"ES256K"}"#, "{}", &key);
    let (input, signature) = text.rsplit_once('.').unwrap();
    let bytes = Base64UrlUnpadded::decode_vec(signature).unwrap();
    let low = k256::ecdsa::Signature::from_slice(&bytes).unwrap();
    let (r, s) = low.split_scalars();
    let high = k256::ecdsa::Signature::from_scalars(r, -*s).unwrap();
    let of = |bytes: &[u8]| {
        let text = format!("{input}.{}", Base64UrlUnpadded::encode_string(bytes));
        Jws::parse(&text).unwrap().verify(&JoseKey::Ledger(key.public()))
    };
    assert_eq!(of(&low.to_bytes()), Ok(()));
    assert_eq!(of(&high.to_bytes()), Ok(()));
    assert_eq!(of(low.to_der().as_bytes()), Err(JoseError::Signature));
    assert_eq!(of(&[&low.to_bytes()[..], &[0]].concat()), Err(JoseError::Signature));
    assert_eq!(of(&[]), Err(JoseError::Signature));
}

#[test]
fn what_a_header_may_not_have() {
    let key = secret(Curve::Ed25519);
    let of = |header: &str| Jws::parse(&made(header, "{}", &key));
    for name in HEADER_REFUSED.iter().filter(|name| **name != "jwk") {
        assert_eq!(of(&format!(r#"{{"alg":"EdDSA","{name}":true}}"#)), Err(JoseError::Header(name)));
    }
    let jwk = JoseKey::Ledger(key.public()).to_jwk();
    let with_key = made(&format!(r#"{{"alg":"EdDSA","jwk":{jwk}}}"#), "{}", &key);
    assert_eq!(Jws::parse(&with_key), Err(JoseError::Header("jwk")));
    let (jws, own) = Jws::parse_with_key(&with_key).unwrap();
    assert_eq!((jws.verify(&own), own), (Ok(()), JoseKey::Ledger(key.public())));
    assert!(matches!(Jws::parse_with_key(&made(r#"{"alg":"EdDSA"}"#, "{}", &key)), Err(JoseError::Key(_))));
}

#[test]
fn types_are_media_types() {
    let key = secret(Curve::Ed25519);
    let of = |typ: &str| Jws::parse(&made(&format!(r#"{{"alg":"EdDSA","typ":{typ}}}"#), "{}", &key)).unwrap();
    for good in [r#""at+jwt""#, r#""AT+JWT""#, r#""application/at+jwt""#, r#""Application/AT+jwt""#] {
        assert_eq!(of(good).expect_type("at+jwt"), Ok(()), "{good}");
    }
    for bad in
        [r#""jwt""#, r#""""#, "null", "1", r#"["at+jwt"]"#, r#""application/application/at+jwt""#, r#"" at+jwt""#]
    {
        assert!(matches!(of(bad).expect_type("at+jwt"), Err(JoseError::Type { .. })), "{bad}");
    }
    assert_eq!(Jws::parse(&made(r#"{"alg":"EdDSA"}"#, "{}", &key)).unwrap().token_type(), None);
}

#[test]
fn every_text_has_one_form() {
    let key = secret(Curve::Ed25519);
    let good = made(r#"{"alg":"EdDSA"}"#, r#"{"a":{"b":[1,-1,null,true,"x"]}}"#, &key);
    let jws = Jws::parse(&good).unwrap();
    assert_eq!(jws.claims().get("a"), Some(&json!({"b": [1, -1, null, true, "x"]})));
    let parts: std::vec::Vec<&str> = good.split('.').collect();
    let [header, claims, signature] = parts[..] else { unreachable!() };
    let (again, deep) = (base64url(r#"{"a":1,"a":1}"#), base64url(r#"{"a":[{"b":1,"b":2}]}"#));
    let nested = base64url(&format!("{{\"a\":{}{}}}", "[".repeat(2_000), "]".repeat(2_000)));
    // The last character has bits that no byte has.
    let loose = format!("{}{}", &signature[..signature.len() - 1], if signature.ends_with('A') { 'B' } else { 'A' });
    for bad in [
        String::new(),
        "..".to_string(),
        format!("{header}.{claims}"),
        format!("{header}.{claims}.{signature}."),
        format!("{header}.{claims}.{signature}.{signature}"),
        format!("{header}.{claims}=.{signature}"),
        format!(" {good}"),
        format!("{good}\n"),
        good.replace('.', " ."),
        format!("{header}.{again}.{signature}"),
        format!("{header}.{deep}.{signature}"),
        format!("{header}.{nested}.{signature}"),
        format!("{}.{claims}.{signature}", base64url(r#"{"alg":"EdDSA","alg":"none"}"#)),
        format!("{}.{claims}.{signature}", base64url("[]")),
        format!("{header}.{}.{signature}", base64url("{} {}")),
        format!("{header}.{}.{signature}", base64url("{")),
        format!("{header}.{}.{signature}", base64url(r#"{"exp":1.5}"#)),
    ] {
        assert!(matches!(Jws::parse(&bad), Err(JoseError::Form(_))), "{bad}");
    }
    match Jws::parse(&format!("{header}.{claims}.{loose}")) {
        Err(JoseError::Form(_)) => {}
        other => assert_eq!(other.unwrap().verify(&JoseKey::Ledger(key.public())), Err(JoseError::Signature)),
    }
    let long = made(r#"{"alg":"EdDSA"}"#, &format!(r#"{{"a":"{}"}}"#, "x".repeat(JWS_BYTES_MAX)), &key);
    assert_eq!(Jws::parse(&long), Err(JoseError::TooLong));
}

#[test]
fn keys_that_are_none() {
    let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    let zero = Base64UrlUnpadded::encode_string(&[0; 32]);
    let point = ["f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"];
    for bad in [
        json!({}),
        json!(null),
        json!({"kty": "oct", "k": "AAAA"}),
        json!({"kty": "RSA", "n": x, "e": "AQAB"}),
        json!({"kty": "OKP", "crv": "X25519", "x": x}),
        json!({"kty": "OKP", "crv": "Ed25519"}),
        json!({"kty": "OKP", "crv": "Ed25519", "x": &x[1..]}),
        json!({"kty": "OKP", "crv": "Ed25519", "x": format!("{x}=")}),
        json!({"kty": "OKP", "crv": "Ed25519", "x": x, "d": x}),
        // The neutral element of Ed25519, and points that are on no curve.
        json!({"kty": "OKP", "crv": "Ed25519", "x": Base64UrlUnpadded::encode_string(&[&[1][..], &[0; 31]].concat())}),
        json!({"kty": "EC", "crv": "P-256", "x": zero, "y": zero}),
        json!({"kty": "EC", "crv": "P-256", "x": point[1], "y": point[0]}),
        json!({"kty": "EC", "crv": "secp256k1", "x": point[0], "y": point[1]}),
        json!({"kty": "EC", "crv": "P-384", "x": point[0], "y": point[1]}),
    ] {
        assert!(matches!(JoseKey::from_jwk(&bad), Err(JoseError::Key(_))), "{bad}");
    }
    let key = JoseKey::Ledger(secret(Curve::Secp256k1).public());
    assert_eq!(JoseKey::from_jwk(&key.to_jwk()), Ok(key));
}
