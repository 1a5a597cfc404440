//! PROTOCOL.md names every code and bound that the sources have, and none that they don't.
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use fama_ledger::fold::Void;
use fama_ledger::{cut, limits, log, map, profile, proof, rows, signed_note};
use fama_node::wire;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn document() -> String {
    std::fs::read_to_string(root().join("ledger/PROTOCOL.md")).unwrap()
}

/// The rows of all tables below the heading that ends with `title`, up to the next heading.
fn table(title: &str) -> Vec<Vec<String>> {
    let text = document();
    let below = text.split_once(&format!(" {title}\n")).unwrap_or_else(|| panic!("no heading {title}")).1;
    let section = below.split("\n#").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| row.trim_end_matches(" |").split(" | ").map(|cell| cell.trim_matches('`').to_owned()).collect())
        .collect()
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

/// Fails if a name stands in the first column twice: a map or a set would hide it.
fn unique(rows: Vec<Vec<String>>) -> Vec<Vec<String>> {
    let names: BTreeSet<&String> = rows.iter().map(|row| &row[0]).collect();
    assert_eq!(names.len(), rows.len(), "a name stands twice in a table: {rows:?}");
    rows
}

#[test]
fn codes_are_those_of_the_document() {
    let voids: Vec<String> = unique(table("Void reasons")).into_iter().map(|row| row[0].clone()).collect();
    let want: Vec<&str> = Void::ALL.iter().map(|void| void.code()).collect();
    assert_eq!(voids, want, "in the order in which they are tried");
    let mut named: BTreeSet<String> = unique(table("Error codes")).into_iter().map(|row| row[0].clone()).collect();
    assert!(named.len() > 60);
    named.extend(voids);
    assert_eq!(named, codes());
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
            NOTE_QUOTA_BYTES YEAR_MIN YEAR_MAX
        }
        wire {
            REQUEST_BYTES_MAX RESPONSE_BYTES_MAX ENTRIES_BYTES_SOFT GOSSIP_BYTES_MAX GOSSIP_ENTRIES_BYTES_MAX
            SUBMISSIONS_MAX NOTES_MAX MANIFESTS_MAX FORMER_COSIGNERS_MAX ROWS_MAX ROWS_BYTES_SOFT
        }
        signed_note { SIGNATURES_MAX }
        proof { PROOF_BYTES_MAX }
        profile { PROFILE_BYTES_MAX }
        log { SIZE_MAX PROOF_HASHES_MAX }
        cut { EXTENSIONS_MAX }
        map { KEY_BYTES_MAX PREFIXES_MAX MAP_PROOF_BYTES_MAX RANGE_PROOF_BYTES_MAX }
        rows { ROW_BYTES_MAX }
    }
}

#[test]
fn bounds_are_those_of_the_document() {
    let named: BTreeMap<String, u64> =
        unique(table("Bounds")).into_iter().map(|row| (row[0].clone(), row[1].parse().unwrap())).collect();
    let want: BTreeMap<String, u64> = bounds().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    assert_eq!(named, want);
    for (file, count) in [("ledger/src/limits.rs", 27), ("node/src/wire.rs", 11)] {
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
    assert_eq!(kinds.len(), 7, "{kinds:?}");
}

/// The anchor of a heading in rendered Markdown.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | ' '));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The lines of the document outside code blocks.
fn prose(document: &str) -> Vec<&str> {
    document.split("```").step_by(2).flat_map(str::lines).collect()
}

#[test]
fn every_chapter_is_in_the_contents_and_every_link_leads_somewhere() {
    let document = document();
    let prose = prose(&document);
    let titles = |level: &'static str| prose.iter().filter_map(move |line| line.strip_prefix(level));
    let chapters: Vec<&str> = titles("## ").collect();
    let headings: Vec<&str> = chapters.iter().copied().chain(titles("### ")).collect();
    assert!(chapters.len() > 15);
    let anchors: BTreeSet<String> = headings.iter().map(|heading| anchor(heading)).collect();
    assert_eq!(anchors.len(), headings.len(), "two headings have one anchor");
    let links: BTreeSet<&str> = document.split("](#").skip(1).map(|rest| rest.split(')').next().unwrap()).collect();
    for link in &links {
        assert!(anchors.contains(*link), "no heading for #{link}");
    }
    let contents = document.split_once("\n## Contents\n").unwrap().1.split("\n## ").next().unwrap();
    for heading in chapters.iter().filter(|heading| **heading != "Contents") {
        assert!(contents.contains(&format!("[{heading}](#{})", anchor(heading))), "{heading} is not in the contents");
    }
}

#[test]
fn no_line_outside_tables_is_long() {
    for line in document().lines().filter(|line| !line.starts_with('|')) {
        assert!(line.chars().count() <= 160, "{line}");
    }
}

/// A glossary explains words that the rest of the document uses.
#[test]
fn every_word_of_the_glossary_is_used() {
    let document = document();
    let (before, glossary) = document.split_once("\n## Glossary\n").unwrap();
    let (glossary, after) = glossary.split_once("\n## ").unwrap();
    let text = format!("{before}{after}").to_lowercase();
    let rows: Vec<&str> = glossary.lines().filter_map(|line| line.strip_prefix("| ")).skip(1).collect();
    assert!(rows.len() > 30);
    for row in rows {
        for word in row.split(" | ").next().unwrap().split(", ") {
            assert!(text.contains(&word.to_lowercase()), "the glossary explains {word}, which nothing uses");
        }
    }
}
