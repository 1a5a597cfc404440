//! Keys and signatures as other programs write them, and malformed ones that must be refused.
use super::*;
use crate::secret::SecretKey;
use proptest::prelude::*;
use std::vec;

const MESSAGE: &[u8] = b"fama test message";
/// Made by OpenSSL 3.0: `openssl pkey -pubout`, `openssl ec -pubout -conv_form compressed`.
const SECP256K1_PEM: &str = "-----BEGIN PUBLIC KEY-----
MFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAE2Bx97IWaA+IROpCnVI5QGXBu76vpzqdW
YZcxZlEVphIRnWmTke7LyMZaw9s/DbDtUgai5nr69pJ0tN2x1jCHlw==
-----END PUBLIC KEY-----
";
const SECP256K1_COMPRESSED_PEM: &str = "-----BEGIN PUBLIC KEY-----
MDYwEAYHKoZIzj0CAQYFK4EEAAoDIgAD2Bx97IWaA+IROpCnVI5QGXBu76vpzqdW
YZcxZlEVphI=
-----END PUBLIC KEY-----
";
const SECP256K1_TEXT: &str = "secp256k1:03d81c7dec859a03e2113a90a7548e5019706eefabe9cea756619731665115a612";
const ED25519_PEM: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAquLLSWzrosdCy90VlxbHaW7jxODLO6aj2uTYTvxNc3w=
-----END PUBLIC KEY-----
";
const ED25519_SIGNATURE: &str = "58d8366c1edc2ca739373d36a59167f46bb2e4c96fddd2a13159ed56a5529de4\
                                 9564718159e8d485620092626c0e82a8be3fc0c04923681887d41cbf41e33b0d";
/// `openssl dgst -sha256 -sign` of [`MESSAGE`]: DER of 70 to 72 bytes, s high or low, r short.
const ECDSA_DER: [&str; 5] = [
    "304502206d8ee26142411a02295f3edb386f4ece527998955125847500fa37c84fa0e8e3022100e81a8f2bd6a0391601e3d4872cf2d54a2d7c390251e0c6999908fa65ba3984ba",
    "3046022100e466ef3c3e9128b26aca7b766be937180bcb034f2a2589b904fafa90bae83fd0022100f8b70b8f9efdbed5646e53e90b8ff86764b38a6a5e6ed6beea95fb778b5143cb",
    "30440220502073b50773db95935b8407b3c85fa6bb8966d4f37eb235e0c9b5eb18e3b9120220406caa1b557a3fd2ec3f6354a4c60ca203c117ef41e87ff6759eec6859ba3fb9",
    "3045022100e4aa5cedc10f4e5644002a6d6f85ea6824b9badb91bef0d015e16b12047dd03402202e495820a88b395aa22be084ceae1a0adb32d570855937972c4838168d3b69da",
    "3044021f75341800601d96f3699e0604c9d4d4ad4056189f657392e20f3cf6860d6aa6022100ae2df4d2d293b8cc3248167572154ba2e8fcb6ff667016958f186d9be0b4a770",
];

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

fn secp256k1() -> PublicKey {
    PublicKey::from_pem(SECP256K1_PEM).unwrap()
}

fn ed25519() -> PublicKey {
    PublicKey::from_pem(ED25519_PEM).unwrap()
}

fn signed() -> [(PublicKey, Signature); 2] {
    [
        (secp256k1(), Signature::from_edge(&secp256k1(), MESSAGE, &hex(ECDSA_DER[0])).unwrap()),
        (ed25519(), Signature::from_edge(&ed25519(), MESSAGE, &hex(ED25519_SIGNATURE)).unwrap()),
    ]
}

#[test]
fn pem_as_openssl_writes_it() {
    assert_eq!(secp256k1().to_string(), SECP256K1_TEXT);
    assert_eq!(secp256k1().to_pem().unwrap(), SECP256K1_PEM);
    assert_eq!(ed25519().to_pem().unwrap(), ED25519_PEM);
    assert_eq!(PublicKey::from_pem(SECP256K1_COMPRESSED_PEM), Ok(secp256k1()));
}

#[test]
fn pem_in_any_white_space() {
    let one_line = ED25519_PEM.replace('\n', "");
    for text in [SECP256K1_PEM, SECP256K1_COMPRESSED_PEM, ED25519_PEM, &one_line] {
        let want = PublicKey::from_pem(text).unwrap();
        for dressed in [text.trim_end().to_string(), format!(" \r\n\t{text}\n\n "), text.replace('\n', "\r\n")] {
            assert_eq!(PublicKey::from_pem(&dressed), Ok(want), "{dressed:?}");
        }
    }
}

#[test]
fn pem_of_other_kinds_is_refused_by_name() {
    let pem = |body: &str| format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n");
    let algorithm = KeyError::Algorithm;
    let table = [
        (
            "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEvYdUtdBG/QxJxxerudQOPe+8OpeJEiTohPLbyV24AK5J7nWoj9ByQZ1mjXvtC+VPDTy27Gx0oYrGcQpCosL9ag==",
            algorithm("P-256"),
        ),
        (
            "MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEu4+pqeQq5QRKQSvT0N8CtdMTJaF/DemI3NWTYkcgIlq/gccFFPKdDkVam6qB9daUdBimsmtrXV/CbPCyU1SbyGKpFI/aP14HioWof1pNBJZhRtA2xfItE6HZ37+W1PNq",
            algorithm("P-384"),
        ),
        ("MCowBQYDK2VuAyEAYMtegBBJAwOBcuBxjOJdmQyiWC1bIFUROfn7PB5CkkI=", algorithm("X25519")),
        (
            "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDFBr1y/aoCNAjaJsX1J8zG6QqnDWqYODj5NPFnvs2ayEw5HCY+CPyWP3EfKmieofsgBAtkgPtUUY5IGLto7uxpupjHefWOH3AEqzeuqitEmEpsg7J3LAVm+9pX7gS6/U6JCOtQx6uwjuqGzx7DOslFXMaf8zOiqpQQKld7Fz97EwIDAQAB",
            algorithm("RSA"),
        ),
        (
            "MIIBMzCB7AYHKoZIzj0CATCB4AIBATAsBgcqhkjOPQEBAiEA/////////////////////////////////////v///C8wRAQgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAEIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAHBEEEeb5mfvncu6xVoGKVzocLBwKb/NstzijZWfKBWxb4F5hIOtp3JqPEZV2k+/wOEQio/Re0SKaFVBmcR9CP+xDUuAIhAP////////////////////66rtzmr0igO7/SXozQNkFBAgEBA0IABNgcfeyFmgPiETqQp1SOUBlwbu+r6c6nVmGXMWZRFaYSEZ1pk5Huy8jGWsPbPw2w7VIGouZ6+vaSdLTdsdYwh5c=",
            algorithm("explicit curve parameters"),
        ),
        ("", KeyError::Der),
        ("AAAA", KeyError::Der),
        ("%", KeyError::Pem),
    ];
    for (body, want) in table {
        assert_eq!(PublicKey::from_pem(&pem(body)), Err(want), "{body}");
    }
    let among = format!("key of an agent:\n{}{ED25519_PEM}", ED25519_PEM.replace("PUBLIC", "PRIVATE"));
    assert_eq!(PublicKey::from_pem(&among), Ok(ed25519()), "what lies around it is ignored");
    let twice = format!("{ED25519_PEM}{ED25519_PEM}");
    for text in ["", "-----BEGIN PUBLIC KEY-----", &twice, &ED25519_PEM.replace("PUBLIC", "PRIVATE")] {
        assert_eq!(PublicKey::from_pem(text), Err(KeyError::Pem), "{text}");
    }
}

#[test]
fn texts() {
    for key in [secp256k1(), ed25519()] {
        let text = key.to_string();
        assert_eq!(text.parse(), Ok(key));
        let bare = &text[..text.len() - 2];
        let shouted = text.to_uppercase();
        for wrong in [bare, &shouted, &text.replace(':', ""), &format!("{text} "), &format!("{text}00"), ":", ""] {
            assert_eq!(wrong.parse::<PublicKey>(), Err(KeyError::Text), "{wrong:?}");
        }
    }
    assert_eq!(secp256k1().hash(), KeyHash(Sha256::digest(SECP256K1_TEXT).into()));
    assert_eq!(format!("{:?} {:?}", secp256k1(), ed25519()), "secp256k1:03d81c7dec… ed25519:aae2cb496c…");
}

#[test]
fn invalid_keys() {
    let field = "fffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f";
    let ones = "ff".repeat(30);
    let zeros = "00".repeat(30);
    let x = &SECP256K1_TEXT[12..];
    let table = vec![
        (format!("secp256k1:02{zeros}0005"), KeyError::Point),
        (format!("secp256k1:02{zeros}0000"), KeyError::Point),
        (format!("secp256k1:02{field}"), KeyError::Point),
        (format!("secp256k1:00{x}"), KeyError::Point),
        (format!("secp256k1:04{x}"), KeyError::Point),
        (format!("secp256k1:05{x}"), KeyError::Point),
        (format!("ed25519:02{zeros}00"), KeyError::Point),
        (format!("ed25519:01{zeros}00"), KeyError::Weak),
        (format!("ed25519:01{zeros}80"), KeyError::Weak),
        (format!("ed25519:00{zeros}00"), KeyError::Weak),
        (format!("ed25519:00{zeros}80"), KeyError::Weak),
        (format!("ed25519:ec{ones}7f"), KeyError::Weak),
        (format!("ed25519:ec{ones}ff"), KeyError::Weak),
        ("ed25519:26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05".into(), KeyError::Weak),
        ("ed25519:26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85".into(), KeyError::Weak),
        ("ed25519:c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a".into(), KeyError::Weak),
        ("ed25519:c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa".into(), KeyError::Weak),
        (format!("ed25519:ed{ones}7f"), KeyError::NotCanonical),
        (format!("ed25519:ee{ones}7f"), KeyError::NotCanonical),
        (format!("ed25519:f0{ones}ff"), KeyError::NotCanonical),
        (format!("ed25519:ff{ones}ff"), KeyError::NotCanonical),
    ];
    for (text, want) in table {
        assert_eq!(text.parse::<PublicKey>(), Err(want), "{text}");
    }
    let weak = PublicKey::Ed25519([0; 32]);
    let zero = Signature::Ed25519([0; 64]);
    assert_eq!(weak.verify(MESSAGE, &zero), Err(SignatureError::Key(KeyError::Weak)));
}

#[test]
fn openssl_signatures_come_in() {
    for der in ECDSA_DER {
        let der = hex(der);
        let signature = Signature::from_edge(&secp256k1(), MESSAGE, &der).unwrap();
        secp256k1().verify(MESSAGE, &signature).unwrap();
        let raw = ecdsa::Signature::from_der(&der).unwrap();
        let padded = [raw.to_bytes().as_slice(), &[27]].concat();
        for form in [raw.to_bytes().as_slice(), &padded, signature.as_bytes()] {
            assert_eq!(Signature::from_edge(&secp256k1(), MESSAGE, form), Ok(signature));
        }
        let known = ecdsa::RecoveryId::trial_recovery_from_msg(
            &ecdsa::VerifyingKey::from_sec1_bytes(secp256k1().as_bytes()).unwrap(),
            MESSAGE,
            &raw.normalize_s(),
        );
        assert_eq!(signature.as_bytes()[64], known.unwrap().to_byte());
    }
}

#[test]
fn high_s_is_for_the_edge_only() {
    let high = ecdsa::Signature::from_der(&hex(ECDSA_DER[0])).unwrap();
    for id in 0..4 {
        let signature = Signature::Secp256k1(with_recovery_id(&high, id));
        assert_eq!(secp256k1().verify(MESSAGE, &signature), Err(SignatureError::HighS));
    }
}

#[test]
fn any_other_recovery_id_is_refused() {
    let (key, Signature::Secp256k1(good)) = signed()[0] else { panic!("secp256k1 comes first") };
    for id in (0..=255).filter(|id| *id != good[64]) {
        let mut bytes = good;
        bytes[64] = id;
        assert_eq!(key.verify(MESSAGE, &Signature::Secp256k1(bytes)), Err(SignatureError::RecoveryId));
    }
}

/// R's x is above the order once in 2¹²⁸ signatures, so the key is computed from the signature.
#[test]
fn x_above_the_order() {
    let mut made = 0;
    for small in 1..40u64 {
        let (r, s) = (Scalar::from(small), Scalar::from(7u64));
        let signature = ecdsa::Signature::from_scalars(r, s).unwrap();
        for id in [2, 3] {
            let recovery = ecdsa::RecoveryId::from_byte(id).unwrap();
            let Ok(key) = ecdsa::VerifyingKey::recover_from_msg(MESSAGE, &signature, recovery) else { continue };
            let key = PublicKey::Secp256k1(key.to_sec1_point(true).as_bytes().try_into().unwrap());
            let signature = Signature::Secp256k1(with_recovery_id(&signature, id));
            key.verify(MESSAGE, &signature).unwrap();
            assert_eq!(Signature::from_edge(&key, MESSAGE, &signature.as_bytes()[..64]), Ok(signature));
            made += 1;
        }
    }
    assert!(made > 10, "{made}");
}

/// With Q = −(z/r)·G the sum is the identity for every s.
#[test]
#[allow(clippy::arithmetic_side_effects)]
fn identity_is_no_signature() {
    let z = Scalar::reduce(&Sha256::digest(MESSAGE));
    let point = (ProjectivePoint::GENERATOR * -z).to_affine();
    let key = PublicKey::Secp256k1(point.to_sec1_point(true).as_bytes().try_into().unwrap());
    let one = ecdsa::Signature::from_scalars(Scalar::ONE, Scalar::ONE).unwrap();
    let signature = Signature::Secp256k1(with_recovery_id(&one, 0));
    assert_eq!(key.verify(MESSAGE, &signature), Err(SignatureError::Mismatch));
}

#[test]
fn out_of_range_scalars() {
    let order = hex("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141");
    let (zero, one) = ([0; 32], [1; 32]);
    for (r, s) in [(&zero[..], &one[..]), (&one, &zero), (&order, &one), (&one, &order)] {
        let bytes: [u8; 65] = [r, s, &[0]].concat().try_into().unwrap();
        let signature = Signature::Secp256k1(bytes);
        assert_eq!(secp256k1().verify(MESSAGE, &signature), Err(SignatureError::Malformed));
        assert_eq!(Signature::from_edge(&secp256k1(), MESSAGE, &bytes), Err(SignatureError::Malformed));
    }
}

#[test]
fn forms_that_are_none() {
    let der = hex(ECDSA_DER[2]);
    let mut negative = der.clone();
    negative[4] |= 0x80;
    let long_length = [&[0x30, 0x81], &der[1..]].concat();
    let trailing = [&der[..], &[0]].concat();
    for bytes in [
        &[][..],
        &[0x30],
        &[0x30, 0],
        &der[..69],
        &trailing,
        &long_length,
        &negative,
        &[1; 63],
        &[1; 66],
        &[0x30; 5000],
    ] {
        assert_eq!(Signature::from_edge(&secp256k1(), MESSAGE, bytes), Err(SignatureError::Malformed), "{bytes:?}");
    }
    for bytes in [&[][..], &[1; 63], &[1; 65]] {
        assert_eq!(Signature::from_edge(&ed25519(), MESSAGE, bytes), Err(SignatureError::Malformed));
    }
}

/// DER of 64 or 65 bytes is not mistaken for r ‖ s. The keys are computed from the signatures.
#[test]
fn short_der_is_der() {
    for (r_zeros, s_zeros, want_len) in [(3, 3, 64), (3, 2, 65), (5, 0, 65), (1, 5, 64)] {
        let part = |zeros: usize| [vec![0; zeros], vec![0x55; 32 - zeros]].concat();
        let raw = on_curve(&[part(r_zeros), part(s_zeros)].concat());
        check_der(&raw, want_len);
    }
}

/// r ‖ s that begins like DER, or is DER from end to end, is still valid as r ‖ s.
#[test]
fn compact_that_looks_like_der() {
    let number = [&[0x02, 0x1d][..], &[0x11; 29]].concat();
    let der = [&[0x30, 0x3e][..], &number, &number].concat();
    let begins = [&[0x30, 0x3e][..], &[0x11; 62]].concat();
    for (bytes, is_der) in [(der, true), (begins, false)] {
        let raw = on_curve(&bytes);
        assert_eq!(ecdsa_der(&raw.to_bytes()).is_some(), is_der);
        let want = Signature::Secp256k1(with_recovery_id(&raw, 0));
        assert_eq!(Signature::from_edge(&recovered(&raw).unwrap(), MESSAGE, &raw.to_bytes()), Ok(want));
    }
}

/// The signature r ‖ s with the last byte of r changed until R is a point.
fn on_curve(bytes: &[u8]) -> ecdsa::Signature {
    let with_last = |last| {
        let mut bytes = bytes.to_vec();
        bytes[31] = last;
        ecdsa::Signature::from_slice(&bytes).unwrap()
    };
    (1..=127).map(with_last).find(|raw| recovered(raw).is_some()).unwrap()
}

fn recovered(raw: &ecdsa::Signature) -> Option<PublicKey> {
    let id = ecdsa::RecoveryId::from_byte(0).unwrap();
    let key = ecdsa::VerifyingKey::recover_from_msg(MESSAGE, raw, id).ok()?;
    Some(PublicKey::Secp256k1(key.to_sec1_point(true).as_bytes().try_into().unwrap()))
}

fn check_der(raw: &ecdsa::Signature, want_len: usize) {
    let (key, der) = (recovered(raw).unwrap(), raw.to_der());
    let want = Signature::Secp256k1(with_recovery_id(raw, 0));
    assert_eq!(der.as_bytes().len(), want_len);
    assert_eq!(Signature::from_edge(&key, MESSAGE, der.as_bytes()), Ok(want));
    assert_eq!(Signature::from_edge(&key, MESSAGE, &raw.to_bytes()), Ok(want));
}

#[test]
fn curves_are_not_mixed() {
    let [(one, of_one), (other, of_other)] = signed();
    assert_eq!(one.verify(MESSAGE, &of_other), Err(SignatureError::WrongCurve));
    assert_eq!(other.verify(MESSAGE, &of_one), Err(SignatureError::WrongCurve));
}

#[test]
fn any_flipped_bit_is_refused() {
    for (key, signature) in signed() {
        key.verify(MESSAGE, &signature).unwrap();
        for (byte, bit) in (0..MESSAGE.len()).flat_map(|byte| (0..8).map(move |bit| (byte, bit))) {
            let mut message = MESSAGE.to_vec();
            message[byte] ^= 1 << bit;
            assert_eq!(key.verify(&message, &signature), Err(SignatureError::Mismatch));
        }
        for (byte, bit) in (0..signature.as_bytes().len()).flat_map(|byte| (0..8).map(move |bit| (byte, bit))) {
            assert!(key.verify(MESSAGE, &flipped(signature, byte, bit)).is_err(), "{byte} {bit}");
        }
        for (byte, bit) in (0..key.as_bytes().len()).flat_map(|byte| (0..8).map(move |bit| (byte, bit))) {
            let mut wrong = key;
            match &mut wrong {
                PublicKey::Secp256k1(bytes) => bytes[byte] ^= 1 << bit,
                PublicKey::Ed25519(bytes) => bytes[byte] ^= 1 << bit,
            }
            assert!(wrong.verify(MESSAGE, &signature).is_err(), "{byte} {bit}");
        }
    }
}

fn flipped(mut signature: Signature, byte: usize, bit: u8) -> Signature {
    match &mut signature {
        Signature::Secp256k1(bytes) => bytes[byte] ^= 1 << bit,
        Signature::Ed25519(bytes) => bytes[byte] ^= 1 << bit,
    }
    signature
}

#[test]
fn codes_are_distinct() {
    let codes = [
        SignatureError::WrongCurve.code(),
        SignatureError::HighS.code(),
        SignatureError::Malformed.code(),
        SignatureError::RecoveryId.code(),
        SignatureError::Mismatch.code(),
        SignatureError::Key(KeyError::Text).code(),
        KeyError::Point.code(),
        KeyError::NotCanonical.code(),
        KeyError::Weak.code(),
        KeyError::Pem.code(),
        KeyError::Der.code(),
        KeyError::Algorithm("").code(),
        KeyError::Scalar.code(),
    ];
    assert_eq!(codes.iter().collect::<std::collections::BTreeSet<_>>().len(), codes.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_is_signed_holds(seed: [u8; 32], message: Vec<u8>) {
        for curve in [Curve::Secp256k1, Curve::Ed25519] {
            let Ok(secret) = SecretKey::from_seed(curve, &seed) else { continue };
            let (key, signature) = (secret.public(), secret.sign(&message));
            prop_assert_eq!(key.verify(&message, &signature), Ok(()));
            prop_assert_eq!(Signature::from_edge(&key, &message, signature.as_bytes()), Ok(signature));
            prop_assert_eq!(key.to_string().parse(), Ok(key));
            prop_assert_eq!(PublicKey::from_pem(&key.to_pem().unwrap()), Ok(key));
        }
    }

    #[test]
    fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100), array: [u8; 33], text in ".*") {
        let pem = format!("-----BEGIN PUBLIC KEY-----{}-----END PUBLIC KEY-----", base64::encode(&bytes));
        let _ = (PublicKey::from_pem(&pem), PublicKey::from_pem(&text), text.parse::<PublicKey>());
        let _ = (PublicKey::Secp256k1(array).check(), SecretKey::from_pem(&pem.replace("PUBLIC", "PRIVATE")));
        for key in [secp256k1(), ed25519()] {
            prop_assert!(Signature::from_edge(&key, MESSAGE, &bytes).is_err());
        }
    }
}
