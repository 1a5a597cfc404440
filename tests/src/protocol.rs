//! PROTOCOL.md names every code and bound that the sources have once, and none that they don't; and it reads well:
//! contents, glossary and line length.
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use fama_ledger::fold::Void;
use fama_ledger::{cut, jose, limits, log, map, profile, proof, public, rows, signed_note, token};
use fama_node::wire;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn document() -> String {
    std::fs::read_to_string(root().join("ledger/PROTOCOL.md")).unwrap()
}

/// The text before the chapter with this title, the chapter, and the text after it.
fn chapter<'t>(text: &'t str, title: &str) -> (&'t str, &'t str, &'t str) {
    let heading = format!("\n## {title}\n");
    let (before, below) = text.split_once(&heading).unwrap_or_else(|| panic!("no chapter {title}"));
    assert!(!below.contains(&heading), "two chapters {title}");
    let (chapter, after) = below.split_at(below.find("\n## ").unwrap_or(below.len()));
    (before, chapter, after)
}

/// The cells of all rows of a chapter's tables whose first cell is code.
fn table(title: &str) -> Vec<Vec<String>> {
    let text = document();
    let rows = chapter(&text, title).1.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| row.trim_end_matches(" |").split(" | ").map(|cell| cell.trim_matches('`').to_owned()).collect())
        .collect()
}

/// The items as a set; fails if one is there twice.
fn unique(items: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    for item in items {
        assert!(!seen.contains(&item), "{item} is listed twice");
        seen.insert(item);
    }
    seen
}

fn folder(path: &Path, found: &mut Vec<String>) {
    for file in std::fs::read_dir(path).unwrap() {
        let path = file.unwrap().path();
        if path.is_dir() {
            folder(&path, found);
        } else {
            let text = std::fs::read_to_string(path).unwrap();
            found.push(text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned());
        }
    }
}

/// The words that stand in the functions called `code` of the ledger.
fn codes() -> BTreeSet<String> {
    let mut texts = Vec::new();
    folder(&root().join("ledger/src"), &mut texts);
    let mut found = BTreeSet::new();
    for text in texts {
        for function in text.split("pub const fn code(").skip(1) {
            let body = function.split("\n    }").next().unwrap();
            let words = body.split("=> \"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned());
            found.extend(words);
        }
    }
    found
}

#[test]
fn codes_are_those_of_the_document() {
    let voids: Vec<String> = table("Void reasons").into_iter().map(|row| row[0].clone()).collect();
    let want: Vec<&str> = Void::ALL.iter().map(|void| void.code()).collect();
    assert_eq!(voids, want, "in the order in which they are tried");
    let errors: Vec<String> = table("Error codes").into_iter().map(|row| row[0].clone()).collect();
    assert!(errors.len() > 60);
    assert_eq!(unique(errors.into_iter().chain(voids)), codes());
}

/// Every bound of the protocol, by name.
fn bounds() -> BTreeMap<&'static str, u64> {
    macro_rules! of {
        ($($module:ident { $($name:ident)* })*) => { BTreeMap::from([$($((stringify!($name), $module::$name as u64),)*)*]) };
    }
    of! {
        limits {
            DOMAIN_BYTES_MAX NAME_BYTES_MIN NAME_BYTES_MAX SERVICE_BYTES_MAX CONTEXT_BYTES_MAX TEXT_BYTES_MAX
            NOTE_BYTES_MAX REASON_BYTES_MAX REF_BYTES_MAX ENTRY_BYTES_MAX BATCH_ENTRIES_MAX OPERATORS_MAX
            ADDRESSES_MAX MANIFEST_BYTES_MAX VERSIONS_MAX CHAIN_BYTES_MAX
            CHECKPOINT_BYTES_MAX SUBMIT_SKEW_MILLIS_MAX FUTURE_MILLIS_MAX
            HEAD_SKEW_MILLIS_MAX ROTATIONS_PER_DAY STATEMENTS_PER_DAY TRIPLES_PER_PROVIDER INTERVALS_PER_TRIPLE
            NOTE_QUOTA_BYTES YEAR_MIN YEAR_MAX TOKEN_KEYS_MAX
            SCOPE_BYTES_MAX GRANTS_PER_PAIR SCOPES_PER_PAIR SUSPENSIONS_PER_DAY
        }
        wire {
            REQUEST_BYTES_MAX RESPONSE_BYTES_MAX ENTRIES_BYTES_SOFT GOSSIP_BYTES_MAX GOSSIP_ENTRIES_BYTES_MAX
            GOSSIP_NOTES_BYTES_MAX RANGE_NOTES_BYTES_MAX
            SUBMISSIONS_MAX NOTES_MAX MANIFESTS_MAX FORMER_COSIGNERS_MAX ROWS_MAX ROWS_BYTES_SOFT
        }
        signed_note { SIGNATURES_MAX }
        proof { PROOF_BYTES_MAX }
        profile { PROFILE_BYTES_MAX PROFILE_UNPACKED_BYTES_MAX GRANTED_BY_MAX }
        jose { JWS_BYTES_MAX }
        token { JTI_BYTES_MAX LOGIN_BYTES_MAX SCOPES_MAX SKEW_SECONDS TOKEN_SECONDS_MAX DELEGATION_SECONDS_MAX }
        log { SIZE_MAX PROOF_HASHES_MAX }
        cut { EXTENSIONS_MAX }
        map { KEY_BYTES_MAX PREFIXES_MAX MAP_PROOF_BYTES_MAX RANGE_PROOF_BYTES_MAX }
        public { DROPPED_NOTES_MAX }
        rows { ROW_BYTES_MAX }
    }
}

#[test]
fn bounds_are_those_of_the_document() {
    let rows = table("Bounds");
    unique(rows.iter().map(|row| row[0].clone()));
    let named: BTreeMap<String, u64> = rows.into_iter().map(|row| (row[0].clone(), row[1].parse().unwrap())).collect();
    let want: BTreeMap<String, u64> = bounds().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    assert_eq!(named, want);
    for (file, count) in [("ledger/src/limits.rs", 32), ("node/src/wire.rs", 13)] {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        let consts: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("pub const ")?.split(':').next()).collect();
        assert_eq!(consts.len(), count, "{file}");
        assert!(consts.iter().all(|name| want.contains_key(*name)), "{file} has a bound that is not named");
    }
}

/// Each example's lines, joined, are the entry of a vector.
#[test]
fn worked_examples_are_vectors() {
    let text = std::fs::read_to_string(root().join("tests/vectors/events.json")).unwrap();
    let vectors: serde_json::Value = serde_json::from_str(&text).unwrap();
    let entries: BTreeMap<&str, &str> = vectors
        .as_array()
        .unwrap()
        .iter()
        .map(|vector| (vector["entry"].as_str().unwrap(), vector["kind"].as_str().unwrap()))
        .collect();
    let document = document();
    let kinds: BTreeSet<&str> = document
        .split("```hex\n")
        .skip(1)
        .map(|block| {
            let lines = block.split("```").next().unwrap().lines();
            let joined: String = lines.map(|line| line.split("  ").next().unwrap()).collect();
            *entries.get(joined.as_str()).unwrap_or_else(|| panic!("no vector has {joined}"))
        })
        .collect();
    assert_eq!(kinds.len(), 11, "{kinds:?}");
}

/// The anchor that GitHub makes of a heading.
fn anchor(title: &str) -> String {
    let kept = title.to_lowercase();
    kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>().replace(' ', "-")
}

#[test]
fn contents_list_every_chapter_and_links_lead_to_headings() {
    let text = document();
    let chapters = text.lines().filter_map(|line| line.strip_prefix("## ")).filter(|title| *title != "Contents");
    let want: Vec<String> = chapters.map(|title| format!("- [{title}](#{})", anchor(title))).collect();
    let listed: Vec<&str> = chapter(&text, "Contents").1.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(listed, want, "in their order");

    let headings: BTreeSet<String> = unique(
        text.lines().filter(|line| line.starts_with('#')).map(|line| anchor(line.trim_start_matches('#').trim_start())),
    );
    for link in text.split("](#").skip(1).map(|rest| rest.split(')').next().unwrap()) {
        assert!(headings.contains(link), "no heading for the link #{link}");
    }
}

#[test]
fn glossary_defines_words_that_the_text_uses() {
    let text = document();
    let (before, glossary, after) = chapter(&text, "Glossary");
    let rest = format!("{before}{after}").to_lowercase();
    let rows = glossary.lines().filter_map(|line| line.strip_prefix("| "));
    let terms: Vec<String> = rows.skip(1).map(|row| row.split(" | ").next().unwrap().to_owned()).collect();
    assert!(terms.len() > 60);
    for term in unique(terms) {
        let begins_a_word = |(at, _): (usize, &str)| !rest[..at].ends_with(char::is_alphanumeric);
        assert!(rest.match_indices(&term.to_lowercase()).any(begins_a_word), "the text does not use {term}");
    }
}

#[test]
fn lines_outside_tables_and_code_are_short() {
    const CHARACTERS_MAX: usize = 160;
    let mut code = false;
    for (number, line) in (1..).zip(document().lines()) {
        code ^= line.starts_with("```");
        let short = code || line.starts_with('|') || line.chars().count() <= CHARACTERS_MAX;
        assert!(short, "line {number} has more than {CHARACTERS_MAX} characters: {line}");
    }
}
