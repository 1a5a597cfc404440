//! What one text may say: bounds of the policy, the canonical form, addresses and token keys, protocols.
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use ed25519_dalek::SigningKey;

use super::*;
use crate::signed_note::sign;

const NAMES: [&str; 4] = ["a.example", "b.example", "c.example", "d.example"];

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn operator(i: u8) -> Operator {
    Operator {
        name: NAMES[usize::from(i)].parse().unwrap(),
        node_key: key(10 + i).verifying_key(),
        governance_key: key(20 + i).verifying_key(),
        generation: 1,
        begins: Millis::FIRST,
        addresses: vec!["/dns/a.example/tcp/4001".into(), "/ip4/127.0.0.1/tcp/4001".into()],
        endpoints: Endpoints::default(),
    }
}

fn content() -> Genesis {
    Genesis { name: "test".into(), policy: Policy::recommended(4), operators: (0..4).map(operator).collect() }
}

fn signed(text: &str, by: &[u8]) -> String {
    let signatures = by.iter().map(|i| sign(text, NAMES[usize::from(*i)], &key(20 + i))).collect();
    SignedNote { text: text.to_string(), signatures }.to_string()
}

fn parse(text: &str) -> Result<Manifest, ManifestError> {
    Manifest::parse(&signed(text, &[0, 1, 2, 3]))
}

fn genesis() -> Arc<Manifest> {
    Arc::new(parse(&content().text().unwrap()).unwrap())
}

/// The content with all that is optional.
fn full() -> Genesis {
    let mut content = content();
    for (i, operator) in (0..).zip(&mut content.operators) {
        let origin = |name: &str| Some(format!("https://{name}.{}", operator.name));
        let token_keys = (0..1 + i % 2).map(|n| key(100 + 10 * i + n).verifying_key()).collect();
        operator.endpoints =
            Endpoints { query: origin("query"), submit: origin("submit"), issuer: origin("issuer"), token_keys };
    }
    content
}

#[test]
fn the_policy_is_bounded() {
    const HOUR: u64 = 3_600_000;
    let check = |change: &dyn Fn(&mut Policy), valid: bool| {
        let mut content = content();
        change(&mut content.policy);
        assert_eq!(content.text().is_ok(), valid, "{:?}", content.policy);
    };
    for (lag, valid) in [(0, false), (HOUR - 1, false), (HOUR, true), (720 * HOUR, true), (720 * HOUR + 1, false)] {
        check(&|policy| policy.max_lag_ms = lag, valid);
    }
    for (beat, valid) in [(0, false), (999, false), (1_000, true), (600_000, true), (600_001, false)] {
        check(&|policy| policy.heartbeat_ms = beat, valid);
    }
}

/// Two readers of TOML may disagree about a text; about the canonical one they cannot.
#[test]
fn only_the_canonical_text_is_a_manifest() {
    let good = full().text().unwrap();
    assert_eq!(parse(&good).unwrap().note().text, good);
    let line = |from: &str, to: &str| {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good, "{from}");
        parse(&text)
    };
    for (from, to, at) in [
        ("version = 1\n", "version = 1 # the first\n", 3),
        ("version = 1\n", "version = 1\n\n", 5),
        ("version = 1\n", "version = 1\r\n", 3),
        ("version = 1\n", "version  = 1\n", 3),
        ("version = 1\n", "\"version\" = 1\n", 3),
        ("version = 1\n", "version = 1\nprotocol = 1\n", 4),
        ("version = 1\n", "version = 0x1\n", 3),
        ("max_age_ms = 259200000", "max_age_ms = 259_200_000", 15),
        ("name = \"test\"\nversion = 1\n", "version = 1\nname = \"test\"\n", 2),
        ("name = \"test\"", "name = 'test'", 2),
        ("name = \"test\"", "name = \"\\u0074est\"", 2),
        // Only TOML 1.1 knows this escape.
        ("name = \"test\"", "name = \"\\x74est\"", 2),
        ("name = \"test\"", "name = \"\"\"test\"\"\"", 2),
        ("[\"/dns", "[ \"/dns", 26),
        ("tcp/4001\"]", "tcp/4001\",]", 26),
    ] {
        match line(from, to) {
            Err(ManifestError::Canonical { line }) => assert_eq!(line, at, "{to:?}"),
            // A signed note refuses control characters, and the reader a form that it does not know.
            Err(ManifestError::Note(_) | ManifestError::Toml(_)) if to.contains(['\r', '\\']) => {}
            other => panic!("{to:?}: {other:?}"),
        }
    }
    assert!(matches!(parse(good.trim_end()), Err(ManifestError::Note(_))));
    assert_eq!(parse(&format!("{good}\n")).unwrap_err().code(), "manifest_canonical");
}

#[test]
fn origins() {
    let check = |origin: &str| {
        let mut content = content();
        content.operators[0].endpoints.query = Some(origin.into());
        content.text().and_then(|text| parse(&text)).map(|read| read.operators[0].endpoints.query.clone())
    };
    for good in [
        "https://a.example",
        "https://a.example:8443",
        "https://203.0.113.7",
        "https://localhost:1",
        "http://localhost",
        "http://127.0.0.1:8080",
        "http://[::1]:65535",
        "http://[::1]",
    ] {
        assert_eq!(check(good), Ok(Some(good.into())));
    }
    for bad in [
        "",
        "a.example",
        "https://",
        "https://a",
        "https://a.example/",
        "https://a.example/x",
        "https://a.example?x",
        "https://a.example#x",
        "https://x@a.example",
        "https://A.example",
        "HTTPS://a.example",
        "https://a.example:",
        "https://a.example:0",
        "https://a.example:0443",
        "https://a.example:443",
        "https://a.example:+44",
        "https://a.example:65536",
        "https://[2001:db8::1]",
        "http://127.0.0.1:80",
        "http://a.example",
        "http://10.0.0.1",
        "ftp://a.example",
    ] {
        assert_eq!(check(bad).unwrap_err().code(), "manifest_value", "{bad:?}");
    }
}

#[test]
fn token_keys_have_no_other_use() {
    let read = parse(&full().text().unwrap()).unwrap();
    assert_eq!(read.operators, full().operators);
    type Change = fn(&mut Vec<Operator>);
    let bad: [Change; 8] = [
        |all| all[0].endpoints.token_keys.clear(),
        |all| all[0].endpoints.issuer = None,
        |all| {
            all[0].endpoints.token_keys = vec![key(1).verifying_key(), key(2).verifying_key(), key(3).verifying_key()];
        },
        |all| all[1].endpoints.token_keys = vec![key(1).verifying_key(); 2],
        |all| all[0].endpoints.token_keys = vec![key(10).verifying_key()],
        |all| all[0].endpoints.token_keys = vec![key(21).verifying_key()],
        |all| all[0].endpoints.token_keys = all[1].endpoints.token_keys.clone(),
        |all| all[0].endpoints.issuer = all[1].endpoints.issuer.clone(),
    ];
    for (i, change) in bad.iter().enumerate() {
        let mut content = full();
        change(&mut content.operators);
        let refused = content.text().and_then(|text| parse(&text)).unwrap_err();
        assert_eq!(refused.code(), "manifest_value", "{i}: {refused}");
    }
    // In later versions: what was a key of another use stays one.
    let first = Arc::new(read);
    let after = |first: &Arc<Manifest>, change: Change| {
        let mut draft = first.draft();
        change(&mut draft.operators);
        first.unsigned_successor(SignedNote { text: draft.text().unwrap(), signatures: Vec::new() }).map(Arc::new)
    };
    let second = after(&first, |all| {
        all[0].governance_key = key(1).verifying_key();
        all[1].endpoints.token_keys = vec![key(2).verifying_key()];
    })
    .unwrap();
    let bad: [Change; 4] = [
        |all| all[0].endpoints.token_keys = vec![key(20).verifying_key()],
        |all| all[2].endpoints.token_keys = vec![key(20).verifying_key()],
        |all| all[1].governance_key = key(111).verifying_key(),
        |all| all[2].endpoints.token_keys = vec![key(110).verifying_key()],
    ];
    for (i, change) in bad.into_iter().enumerate() {
        assert_eq!(after(&second, change).unwrap_err().code(), "manifest_succession", "{i}");
    }
    after(&second, |all| all[1].endpoints.token_keys = vec![key(2).verifying_key(), key(3).verifying_key()]).unwrap();
    after(&second, |all| all[1].endpoints.token_keys = vec![key(110).verifying_key()]).unwrap();
}

/// The text of a version after `first` that only a later program can read.
fn later_text(first: &Manifest) -> String {
    let draft = first.draft().text().unwrap();
    draft.replacen("version = 2\n", "version = 2\nprotocol = 2\n", 1).replacen(
        "[policy]\n",
        "[policy]\nnew_rule = 1\n",
        1,
    )
}

#[test]
fn a_version_of_a_later_protocol_is_told_from_an_invalid_one() {
    let first = genesis();
    let text = later_text(&first);
    let code = |text: &str, by: &[u8]| first.successor(&signed(text, by)).unwrap_err().code();
    let unknown = ManifestError::Protocol { version: 2, protocol: 2 };
    assert_eq!(first.successor(&signed(&text, &[0, 1, 2])), Err(unknown));
    // Anybody can write such a text: it counts only with a quorum, and in its place.
    assert_eq!(code(&text, &[]), "manifest_note");
    assert_eq!(code(&text, &[0, 1]), "manifest_quorum");
    assert_eq!(code(&signed(&text, &[0]).replace("— a.example", "— b.example"), &[]), "manifest_note");
    let forged = signed(&text, &[0, 1, 2]).replace("new_rule = 1", "new_rule = 2");
    assert_eq!(first.successor(&forged).unwrap_err().code(), "manifest_signature");
    let other = text.replace(&first.hash().to_string(), &first.hash().to_string().replace(['0', '1'], "2"));
    assert_eq!(code(&other, &[0, 1, 2]), "manifest_previous");
    assert_eq!(code(&text.replacen("version = 2", "version = 3", 1), &[0, 1, 2]), "manifest_version");
    assert_eq!(code(&text.replacen("protocol = 2", "protocol = 0", 1), &[0, 1, 2]), "manifest_value");
    // A program that knows the protocol, but not the rule, refuses it as usual.
    let note = SignedNote { text, signatures: Vec::new() };
    assert_eq!(succession::follow(&first, note, 2).unwrap_err().code(), "manifest_toml");
    let genesis = content().text().unwrap().replacen("version = 1\n", "version = 1\nprotocol = 2\n", 1);
    assert_eq!(parse(&genesis), Err(ManifestError::Protocol { version: 1, protocol: 2 }));
}

/// What a program that knows protocol 2 reads.
#[test]
fn a_protocol_stays_until_a_version_names_another() {
    let first = genesis();
    assert_eq!(first.protocol(), 1);
    let mut draft = first.draft();
    draft.protocol = 2;
    let follow = |first: &Arc<Manifest>, draft: &Draft| {
        let note = SignedNote { text: draft.text().unwrap(), signatures: Vec::new() };
        Arc::new(succession::follow(first, note, 2).unwrap())
    };
    let second = follow(&first, &draft);
    assert_eq!((second.protocol(), second.draft().protocol), (2, 2));
    assert_eq!(follow(&second, &second.draft()).protocol(), 2);
}

/// A change here makes stored outcomes unreadable.
#[test]
fn void_reasons_keep_their_numbers() {
    let numbers: BTreeSet<_> = crate::fold::Void::ALL
        .iter()
        .map(|void| (u32::from_le_bytes(crate::codec::encode(void).try_into().unwrap()), void.code()))
        .collect();
    let wanted = [
        "not_home",
        "future",
        "stale",
        "unknown_identity",
        "not_authorized",
        "revoked",
        "wrong_version",
        "name_taken",
        "key_in_use",
        "delta",
        "self",
        "not_found",
        "duplicate",
        "already_retracted",
        "superseded",
        "cap",
        "quota",
    ];
    assert_eq!(numbers, (0..).zip(wanted).collect());
}
