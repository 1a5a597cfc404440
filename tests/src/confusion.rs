//! Nothing signed for one purpose can be read as if it were signed for another.
use fama_ledger::checkpoint::{Checkpoint, Origin};
use fama_ledger::event::{Action, EVENT_FORMAT, Event, Method};
use fama_ledger::id::EventId;
use fama_ledger::log::Head;
use fama_ledger::manifest::Policy;
use fama_ledger::manifest::{MANIFEST_FORMAT, Manifest};
use fama_ledger::note::{NOTE_FORMAT, Note};
use fama_ledger::signed_note::{SignedNote, sign};
use fama_ledger::stand::{STAND_FORMAT, Stand};
use fama_tests::{START, domain, event, federation, governance_key, log, node_key, secret, signed, signed_genesis};
use proptest::prelude::*;

/// One text of each kind of thing that is signed or committed to, with its kind.
fn signed_texts() -> Vec<(&'static str, String)> {
    let manifest = federation(1, |_| ());
    let key = secret(2);
    let register = Action::Register {
        home: domain("alpha.example"),
        name: "agent".parse().unwrap(),
        key: key.public(),
        next: None,
        note: None,
    };
    let admit = Action::Admit {
        operator: domain("alpha.example"),
        provider: EventId([1; 32]),
        service: "s".parse().unwrap(),
        domain: domain("s.example"),
        method: Method::Dns,
        from: 0,
    };
    let note = Note { bio: Some("I map.".to_owned()), ..Note::default() };
    let checkpoint = Checkpoint { origin: manifest.origin(&log(0)), head: Head::EMPTY };
    let stand = Stand {
        federation: manifest.federation(),
        version: 2,
        log: log(0),
        operator: domain("alpha.example"),
        head: Head::EMPTY,
    };
    vec![
        ("event", event(manifest.federation(), register, START, 1).text()),
        ("event", event(manifest.federation(), admit, START, 1).text()),
        ("note", note.text()),
        ("manifest", manifest.note().text.clone()),
        ("checkpoint", checkpoint.text()),
        ("cosignature", format!("cosignature/v1\ntime 1795323600\n{}", checkpoint.text())),
        ("stand", stand.text()),
    ]
}

/// Whether `text`, signed by everybody who could, is valid as a manifest.
fn is_manifest(text: &str) -> bool {
    let line = sign(text, "alpha.example", governance_key(0).ed25519().unwrap());
    Manifest::parse(&SignedNote { text: text.to_owned(), signatures: vec![line] }.to_string()).is_ok()
}

/// Whether `text` is something a cosigner signs: a fixed line, a time, a checkpoint.
fn is_cosigned(text: &str) -> bool {
    let rest = text.strip_prefix("cosignature/v1\ntime ").and_then(|rest| rest.split_once('\n'));
    rest.is_some_and(|(time, text)| time.parse::<u64>().is_ok() && text.parse::<Checkpoint>().is_ok())
}

/// The kinds of things that a text can be read as.
fn readings(text: &str) -> Vec<&'static str> {
    let readings = [
        ("event", Event::parse(text.as_bytes()).is_ok()),
        ("note", Note::parse(text.as_bytes()).is_ok()),
        ("manifest", is_manifest(text)),
        ("checkpoint", text.parse::<Checkpoint>().is_ok()),
        ("cosignature", is_cosigned(text)),
        ("stand", Stand::parse(text).is_ok()),
    ];
    readings.into_iter().filter(|(_, read)| *read).map(|(what, _)| what).collect()
}

#[test]
fn every_text_has_one_reading() {
    for (what, text) in signed_texts() {
        assert_eq!(readings(&text), [what], "{text}");
    }
}

#[test]
fn first_lines_differ() {
    let origin: Origin = federation(1, |_| ()).origin(&log(0));
    let manifest = format!("format = \"{MANIFEST_FORMAT}\"");
    let formats = [EVENT_FORMAT, NOTE_FORMAT, STAND_FORMAT, &manifest, &format!("{origin}"), "cosignature/v1"];
    for (i, one) in formats.iter().enumerate() {
        assert!(formats[i + 1..].iter().all(|other| !other.starts_with(*one) && !one.starts_with(other)), "{one}");
    }
}

/// Whether `text` can be MLAuth's `{dumbname}{timestamp}{payload}` for some name, time and payload: after only
/// letters, digits and hyphens, it would have to continue with a date.
fn could_be_login(text: &str) -> bool {
    let name_char = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-';
    let run = text.chars().take_while(name_char).count();
    let digits = text[..run].chars().rev().take_while(|c| c.is_ascii_digit() || *c == '-').count();
    // A timestamp's date would be in that run; it begins with a year, so the run would contain 4 digits.
    digits >= 4
}

#[test]
fn no_text_of_ours_is_a_login() {
    for (what, text) in signed_texts() {
        assert!(!could_be_login(&text), "{what}: {text}");
    }
    assert!(could_be_login("swift-core-maps2026-11-22T05:00:00.000Zhello"));
    assert!(could_be_login("a20261122T050000Z"));
}

/// In MLAuth a service chooses the message that an agent signs, after the agent's name and a time.
fn logins(payload: &str) -> Vec<String> {
    let names = [
        "fama",
        "fama-event",
        "f",
        "0",
        "-",
        "fama-stand",
        "cosignature",
        "format",
        "e",
        "1",
        "salt",
        "swift-core-maps",
    ];
    let times = [
        "2026-11-22T05:00:00.000Z",
        "2026-11-22T05:00:00Z",
        "20261122T050000Z",
        "2026-11-22",
        "+002026-11-22T05:00:00.000Z",
        "-000001-01-01T00:00:00Z",
    ];
    names.iter().flat_map(|name| times.iter().map(move |time| format!("{name}{time}{payload}"))).collect()
}

#[test]
fn no_login_is_a_text_of_ours() {
    let takeover = format!("ROTATE_KEY:{}", secret(4).public());
    let payloads = signed_texts().into_iter().map(|(_, text)| text);
    let cut = signed_texts().into_iter().flat_map(|(_, text)| {
        let at = text.find('\n').unwrap();
        [text[at..].to_owned(), text[1..].to_owned(), format!("\n{text}")]
    });
    for payload in payloads.chain(cut).chain([takeover, String::new(), ".event/1\n".to_owned(), "/1\n".to_owned()]) {
        for login in logins(&payload) {
            assert_eq!(readings(&login), [] as [&str; 0], "{login}");
        }
    }
}

#[test]
fn an_operators_signatures_do_not_pass_for_one_another() {
    // One key signs heads, cosignatures and statements; a signature for one of them is not valid for another.
    let manifest = federation(1, |_| ());
    let key = node_key(0);
    let texts = signed_texts();
    for (i, (_, text)) in texts.iter().enumerate() {
        let signature = key.sign(text.as_bytes());
        for (j, (_, other)) in texts.iter().enumerate() {
            assert_eq!(key.public().verify(other.as_bytes(), &signature).is_ok(), i == j);
        }
    }
    // A manifest with other rules is not valid with the first one's signatures.
    let mut other = Policy::recommended(1);
    other.daily_cap = 30;
    let forged = SignedNote { signatures: manifest.note().signatures.clone(), ..signed_genesis(1, other) };
    assert_eq!(Manifest::parse(&forged.to_string()).unwrap_err().code(), "manifest_signature");
}

#[test]
fn an_event_counts_in_its_own_federation_only() {
    let (mine, other) = (federation(1, |_| ()), federation(2, |_| ()));
    let key = secret(2);
    let (_, text) = signed_texts().remove(0);
    let event = Event::parse(text.as_bytes()).unwrap();
    assert!(signed(event.clone(), &key).verify(&mine.federation()).is_ok());
    assert_eq!(signed(event, &key).verify(&other.federation()).unwrap_err().code(), "wrong_federation");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn random_logins(
        name in "[a-z0-9-]{1,40}",
        year in 0u32..10_000, month in 1u32..13, day in 1u32..29, millis in proptest::bool::ANY,
        which in 0usize..7, skip in 0usize..40, junk in "\\PC{0,40}",
    ) {
        let time = format!("{year:04}-{month:02}-{day:02}T05:00:00{}Z", if millis { ".000" } else { "" });
        let (_, text) = signed_texts().remove(which);
        let rest = text.get(skip..).unwrap_or_default();
        for payload in [rest.to_owned(), junk.clone(), format!("{junk}\n{text}"), format!("{rest}{junk}")] {
            let login = format!("{name}{time}{payload}");
            prop_assert!(readings(&login).is_empty(), "{login}");
        }
        // The formats' own names do not help as a name either.
        let named = ["fama", &time, &text].concat();
        prop_assert!(readings(&named).is_empty());
    }

    /// A text that is read as an event or note is read as nothing else.
    #[test]
    fn splices_have_at_most_one_reading(a in 0usize..7, b in 0usize..7, cut in 0usize..600, from in 0usize..600) {
        let texts = signed_texts();
        let (head, tail) = (&texts[a].1, &texts[b].1);
        let spliced = format!("{}{}", head.get(..cut).unwrap_or(head), tail.get(from..).unwrap_or_default());
        prop_assert!(readings(&spliced).len() <= 1, "{spliced}");
    }
}
