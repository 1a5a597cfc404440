//! Canonical texts of events and notes: what one looks like, and every way to deviate from it.
use fama_ledger::event::{Event, Kind};
use fama_ledger::limits;
use fama_ledger::note::{Note, note_hash};
use fama_ledger::text::forbidden;
use fama_tests::secret;

const ID: &str = "1111111111111111111111111111111111111111111111111111111111111111";
const TAIL: &str = "created: 2026-11-22T05:00:00.000Z\nnonce: 5f2c9d01a7b3e844\n";

/// One text of each kind with all its optional fields.
fn examples() -> Vec<(Kind, String)> {
    let (key, other) = (secret(2).public(), secret(3).public());
    let hash = format!("sha256:{ID}");
    let bodies = [
        (
            Kind::Register,
            format!("home: alpha.example\nname: swift-core-maps\nkey: {key}\nnext: {hash}\nnote: {hash}\n"),
        ),
        (Kind::Rotate, format!("home: alpha.example\nidentity: {ID}\nversion: 2\nkey: {other}\nnext: {hash}\n")),
        (Kind::Revoke, format!("home: alpha.example\nidentity: {ID}\nversion: 1\nkey: {key}\nreason: superseded\n")),
        (
            Kind::Attest,
            format!("home: alpha.example\nissuer: {ID}\nsubject: {ID}\ndelta: -5\ncontext: code\nnote: {hash}\n"),
        ),
        (
            Kind::Retract,
            format!("home: alpha.example\nissuer: {ID}\nsubject: {ID}\nday: 2026-11-22\nattestation: {ID}\n"),
        ),
        (
            Kind::Admit,
            format!(
                "operator: alpha.example\nprovider: {ID}\nservice: ml_overflow.v2\ndomain: ml.example\nmethod: dns\nfrom: 0\n"
            ),
        ),
        (
            Kind::Dismiss,
            format!(
                "operator: alpha.example\nprovider: {ID}\nservice: s\ndomain: ml.example\nfrom: 7\nreason: expired\n"
            ),
        ),
        (
            Kind::Grant,
            format!(
                "home: alpha.example\nissuer: {ID}\nsubject: {ID}\nscope: read:payments\nexpires: 2026-12-31T23:59:59.999Z\nnote: {hash}\n"
            ),
        ),
        (
            Kind::Ungrant,
            format!("home: alpha.example\nissuer: {ID}\nsubject: {ID}\nscope: https://a.example/scope?x=[1]\n"),
        ),
        (Kind::Suspend, format!("operator: alpha.example\nidentity: {ID}\nreason: misconduct\n")),
        (Kind::Resume, format!("operator: alpha.example\nidentity: {ID}\n")),
    ];
    let head = format!("fama.event/1\nfederation: {ID}\n");
    bodies.map(|(kind, body)| (kind, format!("{head}kind: {kind}\n{body}{TAIL}"))).to_vec()
}

fn example(kind: Kind) -> String {
    examples().into_iter().find(|(k, _)| *k == kind).unwrap().1
}

fn code(text: impl AsRef<[u8]>) -> Result<(), (usize, &'static str)> {
    match Event::parse(text.as_ref()) {
        Ok(event) => {
            assert_eq!(event.text().as_bytes(), text.as_ref(), "one event, one text");
            Ok(())
        }
        Err(error) => Err((error.line, error.fault.code())),
    }
}

/// A text's lines, including the first, without their newlines.
fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

fn joined(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

const OPTIONAL: [&str; 4] = ["next", "note", "context", "expires"];

fn name(line: &str) -> &str {
    line.split(':').next().unwrap()
}

#[test]
fn every_kind_round_trips() {
    for (kind, text) in examples() {
        assert_eq!(code(&text), Ok(()), "{text}");
        assert_eq!(Event::parse(text.as_bytes()).unwrap().action.kind(), kind);
    }
}

#[test]
fn optional_fields_may_be_left_out_others_not() {
    for (_, text) in examples() {
        let all = lines(&text);
        for at in 0..all.len() {
            let mut rest = all.clone();
            let gone = rest.remove(at);
            match code(joined(&rest)) {
                Ok(()) => assert!(OPTIONAL.contains(&name(&gone)), "accepted without {gone}"),
                Err(error) if at == 0 => assert_eq!(error, (1, "first_line")),
                Err(error) if at + 1 == all.len() => assert_eq!(error, (all.len(), "missing_field")),
                Err(error) => assert_eq!(error, (at + 1, "wrong_field"), "without {gone}"),
            }
        }
    }
}

#[test]
fn lines_have_one_order_and_stand_once() {
    for (_, text) in examples() {
        let all = lines(&text);
        for at in 1..all.len() {
            let mut twice = all.clone();
            twice.insert(at, all[at].clone());
            let want = if at + 1 == all.len() { "extra_line" } else { "wrong_field" };
            assert_eq!(code(joined(&twice)), Err((at + 2, want)), "{} twice", all[at]);
            for other in at + 1..all.len() {
                let mut swapped = all.clone();
                swapped.swap(at, other);
                assert!(code(joined(&swapped)).is_err(), "{} and {} swapped", all[at], all[other]);
            }
            let mut unknown = all.clone();
            unknown.insert(at, "colour: blue".to_owned());
            assert_eq!(code(joined(&unknown)), Err((at + 1, "wrong_field")));
        }
        for extra in ["colour: blue\n", "\n", " ", "nonce: 5f2c9d01a7b3e844\n"] {
            assert_eq!(code(format!("{text}{extra}")), Err((all.len() + 1, "extra_line")), "{extra:?} at the end");
        }
    }
}

#[test]
fn a_line_has_one_form() {
    for (_, text) in examples() {
        let all = lines(&text);
        for at in 1..all.len() {
            let (name, value) = all[at].split_once(": ").unwrap();
            let table = [
                (format!("{name}:{value}"), "no_colon"),
                (format!("{name}:"), "no_colon"),
                (format!("{name}: "), "empty_value"),
                (format!("{name}:  {value}"), "outer_space"),
                (format!("{name}: {value} "), "outer_space"),
                (format!("{name}: {value}\r"), "forbidden_character"),
                (format!("{name}: {value}\t"), "forbidden_character"),
                (format!("{name} : {value}"), "wrong_field"),
                (format!(" {name}: {value}"), "wrong_field"),
                (format!("{}: {value}", name.to_uppercase()), "wrong_field"),
                (format!("{name}= {value}"), "wrong_field"),
                (format!("\u{feff}{name}: {value}"), "wrong_field"),
                (String::new(), "wrong_field"),
            ];
            for (line, want) in table {
                let mut changed = all.clone();
                changed[at] = line.clone();
                assert_eq!(code(joined(&changed)), Err((at + 1, want)), "{line:?}");
            }
        }
        assert_eq!(code(text.trim_end()), Err((all.len(), "no_newline")));
        assert!(code(text.replace('\n', "\r\n")).is_err());
        assert_eq!(code(format!("\u{feff}{text}")), Err((1, "first_line")));
        assert_eq!(code(format!("\n{text}")), Err((1, "first_line")));
    }
}

fn forbidden_characters() -> Vec<char> {
    let listed = (0..0x20).chain(0x7f..0xa0).chain([0x61c, 0x200e, 0x200f, 0x2028, 0x2029]);
    let listed = listed.chain(0x202a..=0x202e).chain(0x2066..=0x2069).chain([0xfeff]);
    listed.map(|c| char::from_u32(c).unwrap()).collect()
}

#[test]
fn forbidden_characters_are_exactly_the_listed() {
    let listed = forbidden_characters();
    for c in '\0'..=char::MAX {
        assert_eq!(forbidden(c), listed.contains(&c), "U+{:04X}", c as u32);
    }
}

#[test]
fn no_value_holds_a_forbidden_character() {
    for (_, text) in examples() {
        let all = lines(&text);
        for at in 1..all.len() {
            let (name, value) = all[at].split_once(": ").unwrap();
            for c in forbidden_characters().into_iter().filter(|c| *c != '\n') {
                let (begin, end) = value.split_at(value.len() / 2);
                for value in [format!("{c}{value}"), format!("{begin}{c}{end}"), format!("{value}{c}")] {
                    let mut changed = all.clone();
                    changed[at] = format!("{name}: {value}");
                    assert_eq!(code(joined(&changed)), Err((at + 1, "forbidden_character")), "{changed:?}");
                }
            }
            let mut broken = all.clone();
            broken[at] = format!("{name}: {value}\n");
            assert!(code(joined(&broken)).is_err(), "a newline within {name}");
        }
    }
}

#[test]
fn not_utf8_names_the_line() {
    for (_, text) in examples() {
        for (at, byte) in text.bytes().enumerate() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if byte == b'\n' { 0xc0 } else { 0xff };
            let line = 1 + text[..at].matches('\n').count();
            assert_eq!(code(&bytes), Err((line, "not_utf8")));
        }
    }
}

/// Replaces a field's value in an example.
fn with(kind: Kind, field: &str, value: &str) -> Result<(), (usize, &'static str)> {
    let changed: Vec<String> = lines(&example(kind))
        .into_iter()
        .map(|line| if name(&line) == field { format!("{field}: {value}") } else { line })
        .collect();
    assert_ne!(joined(&changed), String::new());
    code(joined(&changed))
}

fn good(kind: Kind, field: &str, values: &[&str]) {
    for value in values {
        assert_eq!(with(kind, field, value), Ok(()), "{field}: {value}");
    }
}

fn bad(kind: Kind, field: &str, values: &[&str]) {
    for value in values {
        let error = with(kind, field, value).expect_err(&format!("{field}: {value} was taken"));
        assert_eq!(error.1, "bad_value", "{field}: {value}");
    }
}

#[test]
fn integers_have_one_spelling_and_bounds() {
    let spellings = ["00", "01", "+1", "-0", "1.0", "1e3", "0x1", "1_000", "1,0", "-", "--1", "١", "1 0", "one"];
    for (kind, field) in [(Kind::Rotate, "version"), (Kind::Revoke, "version"), (Kind::Attest, "delta")] {
        bad(kind, field, &spellings);
    }
    bad(Kind::Admit, "from", &spellings);
    good(Kind::Rotate, "version", &["1", "2", "4294967295"]);
    bad(Kind::Rotate, "version", &["0", "-1", "4294967296", "18446744073709551616"]);
    good(Kind::Revoke, "version", &["1", "4294967295"]);
    bad(Kind::Revoke, "version", &["0"]);
    good(Kind::Attest, "delta", &["0", "-1", "2147483647", "-2147483648"]);
    bad(Kind::Attest, "delta", &["2147483648", "-2147483649", "99999999999999999999"]);
    for kind in [Kind::Admit, Kind::Dismiss] {
        good(kind, "from", &["0", "1", "9223372036854775807"]);
        bad(kind, "from", &["-1", "9223372036854775808", "18446744073709551615"]);
    }
}

#[test]
fn times_and_days() {
    let time = |date: &str| format!("{date}T05:00:00.000Z");
    let (dates, no_dates) = (
        ["2020-01-01", "2024-02-29", "2100-02-28", "2400-02-29", "9999-12-31", "2026-12-31"],
        [
            "2019-12-31",
            "10000-01-01",
            "0000-01-01",
            "2023-02-29",
            "2100-02-29",
            "2026-04-31",
            "2026-00-01",
            "2026-13-01",
            "2026-01-00",
            "2026-01-32",
            "2026-1-01",
            "26-01-01",
            "2026/01/01",
            "20260101",
            "+2026-01-01",
            "-2026-01-01",
            "2026-01-01Z",
            "２026-01-01",
        ],
    );
    good(Kind::Retract, "day", &dates);
    bad(Kind::Retract, "day", &no_dates);
    for kind in Kind::ALL {
        dates.iter().for_each(|date| good(*kind, "created", &[&time(date)]));
        no_dates.iter().for_each(|date| bad(*kind, "created", &[&time(date)]));
    }
    good(Kind::Admit, "created", &["2026-11-22T00:00:00.000Z", "2026-11-22T23:59:59.999Z"]);
    bad(
        Kind::Admit,
        "created",
        &[
            "2026-11-22T24:00:00.000Z",
            "2026-11-22T23:60:00.000Z",
            "2026-11-22T23:59:60.000Z",
            "2026-11-22T05:00:00Z",
            "2026-11-22T05:00:00.00Z",
            "2026-11-22T05:00:00.0000Z",
            "2026-11-22T05:00:00,000Z",
            "2026-11-22T05:00:00.000",
            "2026-11-22T05:00:00.000z",
            "2026-11-22t05:00:00.000Z",
            "2026-11-22 05:00:00.000Z",
            "2026-11-22T05:00:00.000+00:00",
            "2026-11-22T5:00:00.000Z",
            "2026-11-22",
            "1795323600000",
        ],
    );
}

#[test]
fn words_and_names() {
    good(Kind::Revoke, "reason", &["key_compromised", "superseded", "retired", "unspecified"]);
    bad(Kind::Revoke, "reason", &["KEY_COMPROMISED", "misconduct", "expired", "other"]);
    good(Kind::Dismiss, "reason", &["misconduct", "key_compromised", "expired", "unspecified"]);
    bad(Kind::Dismiss, "reason", &["superseded", "retired", "Expired"]);
    good(Kind::Suspend, "reason", &["misconduct", "key_compromised", "unspecified"]);
    bad(Kind::Suspend, "reason", &["expired", "superseded", "Misconduct"]);
    good(Kind::Grant, "expires", &["2020-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z"]);
    bad(Kind::Grant, "expires", &["2026-12-31", "never", "0"]);
    good(Kind::Admit, "method", &["dns", "https", "manual"]);
    bad(Kind::Admit, "method", &["DNS", "http", "none"]);
    bad(Kind::Admit, "kind", &["adopt", "state", "Register", "register2", "vouch"]);
    let label = "a".repeat(63);
    let longest = format!("{label}.{label}.{label}.{}", "a".repeat(61));
    assert_eq!(longest.len(), limits::DOMAIN_BYTES_MAX);
    let domains = ["a.b", "xn--bcher-kva.example", "1.2", "a-b.c--d.e", &longest];
    let no_domains = [
        "example",
        "Alpha.example",
        "alpha.example.",
        ".example",
        "a..b",
        "-a.b",
        "a-.b",
        "a_b.c",
        "bücher.example",
        &format!("{label}a.b"),
        &format!("{longest}a"),
        "a.b/",
        "a.b:1",
        "a b.c",
    ];
    for (kind, field) in
        [(Kind::Register, "home"), (Kind::Retract, "home"), (Kind::Admit, "operator"), (Kind::Dismiss, "domain")]
    {
        good(kind, field, &domains);
        bad(kind, field, &no_domains);
    }
    good(Kind::Register, "name", &["abc", "a-b", "0-0", "a1-2b-c", &"a".repeat(limits::NAME_BYTES_MAX)]);
    bad(
        Kind::Register,
        "name",
        &["ab", &"a".repeat(limits::NAME_BYTES_MAX + 1), "Abc", "-abc", "abc-", "a--b", "a_b", "a.b", "a b", "äbc"],
    );
    for (kind, field, max) in
        [(Kind::Admit, "service", limits::SERVICE_BYTES_MAX), (Kind::Attest, "context", limits::CONTEXT_BYTES_MAX)]
    {
        good(kind, field, &["a", ".", "_-.", "a.b_c-1", &"a".repeat(max)]);
        bad(kind, field, &[&"a".repeat(max + 1), "A", "a b", "a/b", "a:b", "é", "a,b"]);
    }
    let longest = "a".repeat(limits::SCOPE_BYTES_MAX);
    good(Kind::Grant, "scope", &["a", "Read", "read:payments", "!#[]^_`{|}~", &longest]);
    bad(Kind::Ungrant, "scope", &[&format!("{longest}a"), "a b", "a\"b", "a\\b", "é"]);
}

#[test]
fn ids_keys_and_hashes() {
    let (upper, short, long) = (ID.replace('1', "A"), &ID[1..], format!("{ID}1"));
    let wrong = [upper.as_str(), short, long.as_str(), "0x11", &ID.replacen('1', "g", 1)];
    for (kind, field) in [
        (Kind::Rotate, "identity"),
        (Kind::Attest, "issuer"),
        (Kind::Attest, "subject"),
        (Kind::Retract, "attestation"),
        (Kind::Admit, "provider"),
        (Kind::Grant, "issuer"),
        (Kind::Ungrant, "subject"),
        (Kind::Suspend, "identity"),
        (Kind::Admit, "federation"),
    ] {
        bad(kind, field, &wrong);
    }
    bad(Kind::Admit, "nonce", &["5F2c9d01a7b3e844", "5f2c9d01a7b3e84", "5f2c9d01a7b3e8440", "0", ID]);
    for (kind, field) in
        [(Kind::Register, "next"), (Kind::Register, "note"), (Kind::Attest, "note"), (Kind::Rotate, "next")]
    {
        good(kind, field, &[&format!("sha256:{ID}")]);
        let prefixed: Vec<String> = wrong.iter().map(|hex| format!("sha256:{hex}")).collect();
        bad(kind, field, &prefixed.iter().map(String::as_str).collect::<Vec<_>>());
        bad(kind, field, &[ID, &format!("SHA256:{ID}"), &format!("sha256: {ID}"), &format!("blake3:{ID}"), "sha256:"]);
    }
    let (k1, ed) = (secret(2).public().to_string(), secret(3).public().to_string());
    let (k1_hex, ed_hex) = (&k1["secp256k1:".len()..], &ed["ed25519:".len()..]);
    good(Kind::Register, "key", &[&k1, &ed]);
    let bad_keys = [
        k1_hex.to_owned(),
        format!("ed25519:{k1_hex}"),
        format!("secp256k1:{ed_hex}"),
        format!("p256:{k1_hex}"),
        format!("Ed25519:{ed_hex}"),
        format!("ed25519:{}", ed_hex.to_uppercase()),
        format!("secp256k1:04{}", &k1_hex[2..]),
        format!("secp256k1:05{}", &k1_hex[2..]),
        format!("secp256k1:02{}", "f".repeat(64)),
        format!("secp256k1:02{}", "0".repeat(63) + "5"),
        format!("ed25519:{}", "0".repeat(64)),
        format!("ed25519:01{}", "0".repeat(62)),
        format!("ed25519:{}7f", "ed".to_owned() + &"ff".repeat(30)),
        format!("ed25519:{}", "02".to_owned() + &"0".repeat(62)),
        format!("ed25519:{ed_hex} "),
    ];
    for key in &bad_keys {
        let error = with(Kind::Register, "key", key).expect_err(key);
        assert!(matches!(error.1, "bad_value" | "outer_space"), "{key}");
    }
}

#[test]
fn texts_are_bounded() {
    let long = format!("{}{}", example(Kind::Admit), "x".repeat(limits::TEXT_BYTES_MAX));
    assert_eq!(code(long), Err((1, "too_long")));
    let label = "a".repeat(63);
    let longest = format!("{label}.{label}.{label}.{}", "a".repeat(61));
    let text = example(Kind::Dismiss)
        .replace("alpha.example", &longest)
        .replace("ml.example", &longest)
        .replace("service: s", &format!("service: {}", "s".repeat(64)))
        .replace("expired", "key_compromised")
        .replace("from: 7", "from: 9223372036854775807");
    assert_eq!(code(&text), Ok(()));
    assert!(text.len() < limits::TEXT_BYTES_MAX / 2, "{} bytes: every valid event has room", text.len());
}

fn note(body: &str) -> Result<Note, &'static str> {
    let text = format!("fama.note/1\nsalt: {ID}\n{body}");
    let note = Note::parse(text.as_bytes()).map_err(|error| error.fault.code())?;
    assert_eq!(note.text(), text, "one note, one text");
    assert!(note.check().is_ok());
    Ok(note)
}

#[test]
fn notes() {
    let bounds = |reason: usize, reference: usize| {
        note(&format!("reason: {}\nref: {}\n", "r".repeat(reason), "f".repeat(reference)))
    };
    for body in
        ["", "bio: 我喜欢 maps.\n", "reason: good work\n", "ref: https://x.example/?a=b c\n", "reason: a\nref: b\n"]
    {
        assert!(note(body).is_ok(), "{body}");
    }
    assert!(bounds(200, 512).is_ok());
    assert_eq!(bounds(201, 1), Err("bad_value"));
    assert_eq!(bounds(1, 513), Err("bad_value"));
    let table = [
        ("reason: a\nbio: b\n", "extra_line"),
        ("bio: b\nreason: a\n", "extra_line"),
        ("bio: b\nref: a\n", "extra_line"),
        ("ref: a\nreason: b\n", "extra_line"),
        ("bio: a\nbio: b\n", "extra_line"),
        ("bio: \n", "empty_value"),
        ("bio:\n", "no_colon"),
        ("bio:  a\n", "outer_space"),
        ("bio: a \n", "outer_space"),
        ("bio: a", "no_newline"),
        ("colour: blue\n", "extra_line"),
        ("\n", "extra_line"),
    ];
    for (body, want) in table {
        assert_eq!(note(body), Err(want), "{body:?}");
    }
    assert_eq!(note(&format!("bio: {}\n", "b".repeat(limits::NOTE_BYTES_MAX))), Err("too_long"));
    for c in forbidden_characters().into_iter().filter(|c| *c != '\n') {
        for field in ["bio", "reason", "ref"] {
            assert_eq!(note(&format!("{field}: a{c}b\n")), Err("forbidden_character"), "U+{:04X}", c as u32);
        }
    }
    // Neighbours of the forbidden characters, and look-alikes, stay as they are.
    for c in
        ['\u{a0}', '\u{61b}', '\u{200d}', '\u{2010}', '\u{2027}', '\u{202f}', '\u{2065}', '\u{206a}', '\u{fefe}', '👍']
    {
        assert!(note(&format!("bio: a{c}b\n")).is_ok(), "U+{:04X}", c as u32);
    }
    let (composed, decomposed) = ("bio: \u{e9}\n", "bio: e\u{301}\n");
    assert_ne!(note_hash(composed.as_bytes()), note_hash(decomposed.as_bytes()));
    assert!(note(composed).is_ok() && note(decomposed).is_ok());
}

#[test]
fn salts() {
    for (salt, want) in [(ID.replace('1', "A"), "bad_value"), (ID[1..].to_owned(), "bad_value")] {
        let error = Note::parse(format!("fama.note/1\nsalt: {salt}\n").as_bytes()).unwrap_err();
        assert_eq!(error.fault.code(), want);
    }
    assert_eq!(Note::parse(b"fama.note/1\n").unwrap_err().fault.code(), "missing_field");
    assert_eq!(Note::parse(b"fama.note/1\nbio: b\n").unwrap_err().fault.code(), "wrong_field");
}

#[test]
fn a_note_made_in_memory_is_checked_like_a_text() {
    let bio = |bio: &str| Note { bio: Some(bio.to_owned()), ..Note::default() }.check().map_err(|e| e.fault.code());
    assert_eq!(bio("fine"), Ok(()));
    assert_eq!(bio("a\nreason: b"), Err("forbidden_character"));
    assert_eq!(bio(""), Err("empty_value"));
    assert_eq!(bio(&"b".repeat(1_024)), Err("too_long"));
    let both = Note { bio: Some("b".to_owned()), reason: Some("r".to_owned()), ..Note::default() };
    assert_eq!(both.check().map_err(|e| e.fault.code()), Err("extra_line"));
}
