//! `invalid.json`: inputs that are wrong on purpose, and the code of each refusal.
use super::*;

/// Each input is a good one with one change, next to the code that refuses it.
pub(super) fn invalid() -> Value {
    let mut all = Vec::new();
    let mut add = |what: &str, why: &str, input: String, code: &str| {
        all.push(json!({"type": format!("invalid {what}"), "why": why, "input": input, "code": code}));
    };
    let (_, time, said) = story().remove(3);
    let text = said.event.text();
    let changed = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    };
    for (why, input, code) in [
        ("another first line", changed("fama.event/1", "fama.event/2"), "first_line"),
        ("the last newline is missing", text.trim_end().to_owned(), "no_newline"),
        ("a line after the last", format!("{text}x: y\n"), "extra_line"),
        ("two fields swapped", changed("delta: 5\ncontext: code\n", "context: code\ndelta: 5\n"), "wrong_field"),
        ("ends after the kind", text[..text.find("home").unwrap()].to_owned(), "missing_field"),
        ("no space behind the colon", changed("delta: 5", "delta:5"), "no_colon"),
        ("an empty value", changed("code", ""), "empty_value"),
        ("a space at the end", changed("code", "code "), "outer_space"),
        ("a bidirectional control", changed("code", "co\u{202e}de"), "forbidden_character"),
        ("a plus before the number", changed("delta: 5", "delta: +5"), "bad_value"),
        ("a leading zero", changed("delta: 5", "delta: 05"), "bad_value"),
        ("a leap second", changed("05:00:03", "05:00:60"), "bad_value"),
        ("upper-case hex", changed("nonce: 0123456789abcd0", "nonce: 0123456789ABCD0"), "bad_value"),
        ("an unknown kind", changed("kind: attest", "kind: vouch"), "bad_value"),
        ("a dot at the end of the domain", changed("alpha.example", "alpha.example."), "bad_value"),
        ("longer than any event", format!("{text}{}", " ".repeat(limits::TEXT_BYTES_MAX)), "too_long"),
    ] {
        add("event", why, input, code);
    }
    for (why, input, code) in [
        ("no salt", "fama.note/1\nbio: b\n".to_owned(), "wrong_field"),
        ("a bio and a reason", format!("fama.note/1\nsalt: {}\nbio: b\nreason: r\n", hex([1; 32])), "extra_line"),
        (
            "a reason of 201 bytes",
            format!("fama.note/1\nsalt: {}\nreason: {}\n", hex([1; 32]), "r".repeat(201)),
            "bad_value",
        ),
        ("a line separator", format!("fama.note/1\nsalt: {}\nbio: a\u{2028}b\n", hex([1; 32])), "forbidden_character"),
    ] {
        add("note", why, input, code);
    }
    let entry = VerifiedEntry::of(time, said.clone().verify(&said.event.federation).unwrap()).into_bytes();
    let flipped = |at: usize, bit: u8| {
        let mut bytes = entry.clone();
        bytes[at] ^= bit;
        hex(bytes)
    };
    let encoded = |said: SignedEvent| {
        let body = fama_ledger::entry::Body::Event(said);
        hex(codec::encode(&fama_ledger::entry::Entry { time, body }))
    };
    let foreign = Event { federation: FederationId([1; 32]), ..said.event.clone() };
    let zero = Event {
        action: Action::Rotate {
            home: domain("alpha.example"),
            identity: EventId([1; 32]),
            version: 0,
            key: secret(2).public(),
            next: None,
        },
        ..said.event
    };
    let stolen = story().remove(0).2;
    let unsigned = SignedEvent { countersignature: None, ..story().remove(6).2 };
    let high = {
        let mut bytes: [u8; 65] = said.signature.as_bytes().try_into().unwrap();
        bytes[32] |= 0x80;
        SignedEvent { signature: fama_ledger::key::Signature::Secp256k1(bytes), ..said }
    };
    for (why, input, code) in [
        ("nothing", String::new(), "malformed_encoding"),
        ("cut short", hex(&entry[..entry.len() - 1]), "malformed_encoding"),
        ("a byte too many", hex([entry.as_slice(), &[0]].concat()), "not_canonical"),
        ("an unknown body", flipped(8, 0x80), "malformed_encoding"),
        ("an option that is neither 0 nor 1", flipped(entry.len() - 1, 2), "malformed_encoding"),
        ("another recovery id", flipped(entry.len() - 2, 1), "signature_recovery_id"),
        ("another r", flipped(entry.len() - 40, 1), "signature_mismatch"),
        ("longer than any entry", hex(vec![0; limits::ENTRY_BYTES_MAX + 1]), "too_long"),
        ("another federation", encoded(signed(foreign, &secret(2))), "wrong_federation"),
        ("a value that no text can have", encoded(signed(zero, &secret(2))), "malformed_field"),
        ("a registration of somebody else's key", encoded(signed(stolen.event, &secret(3))), "not_possessed"),
        ("a rotation without the new key's signature", encoded(unsigned), "countersignature"),
        ("a high s", encoded(high), "signature_high_s"),
    ] {
        add("entry", why, input, code);
    }
    invalid_notes(&mut add);
    invalid_batches(&mut add);
    Value::Array(all)
}

type Add<'a> = dyn FnMut(&str, &str, String, &str) + 'a;

pub(super) fn invalid_notes(add: &mut Add<'_>) {
    let good = manifest().note().to_string();
    for (why, input, code) in [
        ("no signature", manifest().note().text.clone(), "manifest_note"),
        ("a changed rule", good.replacen("daily_cap = 25", "daily_cap = 26", 1), "manifest_signature"),
        ("a format of the future", good.replacen("manifest/1", "manifest/2", 1), "manifest_format"),
        ("an unknown key", good.replacen("[policy]", "colour = \"blue\"\n[policy]", 1), "manifest_toml"),
        ("a comment", good.replacen("version = 1\n", "version = 1 # one\n", 1), "manifest_canonical"),
        ("a string of another form", good.replacen("\"test\"", "'test'", 1), "manifest_canonical"),
        (
            "the protocol of all that name none",
            good.replacen("version = 1\n", "version = 1\nprotocol = 1\n", 1),
            "manifest_canonical",
        ),
        (
            "a protocol of the future",
            good.replacen("version = 1\n", "version = 1\nprotocol = 2\n", 1),
            "manifest_protocol",
        ),
        (
            "a lag of less than an hour",
            good.replacen("max_lag_ms = 86400000", "max_lag_ms = 3599999", 1),
            "manifest_value",
        ),
        (
            "a heartbeat of more than ten minutes",
            good.replacen("heartbeat_ms = 30000", "heartbeat_ms = 600001", 1),
            "manifest_value",
        ),
        (
            "a log that begins at no time",
            good.replacen("begins = \"2026-11-22", "begins = \"2026-11-31", 1),
            "manifest_value",
        ),
        (
            "a path in an origin",
            good.replacen("tcp/4001\"]\n", "tcp/4001\"]\nquery = \"https://alpha.example/\"\n", 1),
            "manifest_value",
        ),
        (
            "http beyond the loopback",
            good.replacen("tcp/4001\"]\n", "tcp/4001\"]\nquery = \"http://alpha.example\"\n", 1),
            "manifest_value",
        ),
        (
            "an issuer without a token key",
            good.replacen("tcp/4001\"]\n", "tcp/4001\"]\nissuer = \"https://alpha.example\"\n", 1),
            "manifest_value",
        ),
        ("a cap above 1000", good.replacen("daily_cap = 25", "daily_cap = 1001", 1), "manifest_value"),
        ("no sponsors", good.replacen("min_sponsors = 1", "min_sponsors = 0", 1), "manifest_value"),
        ("a later version without the one before it", good.replacen("version = 1", "version = 2", 1), "manifest_value"),
    ] {
        add("manifest", why, input, code);
    }
    let all = checkpoints();
    let (note, proof) = (all[0]["note"].as_str().unwrap(), all[1]["proof"].as_str().unwrap());
    let stranger = note.replacen("alpha.example/1\n", "alpha.example/2\n", 1);
    for (why, input, code) in [
        ("a size with a leading zero", note.replacen('\n', "\n0", 1), "checkpoint_text"),
        ("another size", note.replacen('\n', "\n1", 1), "checkpoint_signature"),
        ("an unknown generation", stranger, "checkpoint_unknown_origin"),
        ("no line of the owner", note.replacen("\n— fama", "\n— gama", 1), "checkpoint_unsigned"),
        ("no empty line", note.replacen("\n\n", "\n", 1), "note_form"),
        ("a carriage return", note.replacen('\n', "\r\n", 1), "note_text"),
        ("no base64", note.replacen("beta.example ", "beta.example ?", 1), "note_signature_line"),
        (
            "a cosignature twice",
            format!("{note}{}\n", note.trim_end().rsplit('\n').next().unwrap()),
            "checkpoint_cosigned_twice",
        ),
    ] {
        add("checkpoint", why, input, code);
    }
    for (why, input, code) in [
        ("another version", proof.replacen("@v1", "@v2", 1), "proof_form"),
        ("another index", proof.replacen("index 2", "index 3", 1), "proof_root"),
        ("an index behind the end", proof.replacen("index 2", "index 99", 1), "proof_range"),
        (
            "a hash too few",
            proof.split_inclusive('\n').enumerate().filter(|(i, _)| *i != 2).map(|(_, l)| l).collect(),
            "proof_length",
        ),
    ] {
        add("proof", why, input, code);
    }
}

/// Batches after the first one (adoption and its state entry) of the first log, entries joined with commas.
pub(super) fn invalid_batches(add: &mut Add<'_>) {
    let manifest = manifest();
    let (_, time, said) = story().remove(0);
    let good = VerifiedEntry::of(time, said.verify(&manifest.federation()).unwrap());
    let early = VerifiedEntry::of(Millis(START.0 - 1), good.event().unwrap().clone());
    let (state, zero) = (VerifiedEntry::state, StateRoot([0; 32]));
    let adopt = VerifiedEntry::adopt(time, 1, manifest.hash());
    for (why, entries, code) in [
        ("no state entry", vec![&good], "batch_shape"),
        ("a state entry alone", vec![&state(START, zero)], "batch_shape"),
        ("before the entry before it", vec![&early, &state(START, zero)], "time_back"),
        ("a state entry of another time", vec![&good, &state(time.plus(1), zero)], "time_back"),
        ("a version adopted again", vec![&adopt, &state(time, zero)], "adopt"),
        ("a wrong state root", vec![&good, &state(time, zero)], "state_root"),
    ] {
        let entries: Vec<String> = entries.iter().map(|entry| hex(entry.bytes())).collect();
        add("batch", why, entries.join(","), code);
    }
}
