//! The papers are true: what they name exists, what they show is what the commands print, and they stay short.
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

mod blocks;
mod walk;
pub(crate) mod watching;

use blocks::{ShownBlock, ShownCommand};

/// The papers that a reader walks through, each from its beginning.
const WALKS: [&str; 5] = ["README.md", "docs/operating.md", "docs/using.md", "docs/integrating.md", "docs/auditing.md"];
/// All papers of this repository that are written for people, but `ledger/PROTOCOL.md`, which has its own tests.
const PAPERS: [&str; 13] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/operating.md",
    "docs/watching.md",
    "docs/using.md",
    "docs/integrating.md",
    "docs/auditing.md",
    "node/clients/python/README.md",
    "tests/README.md",
    "tests/auditor/README.md",
    "benches/README.md",
];
/// How many lines a paper may have.
const LINES_MAX: [(&str, usize); 4] =
    [("README.md", 170), ("ARCHITECTURE.md", 200), ("CONTRIBUTING.md", 60), ("tests/README.md", 10)];
/// How many blocks of all papers together may stay unrun.
const NOT_RUN_MAX: usize = 8;
/// Words that a native engineer would not write.
const WORDS_AVOIDED: [&str; 4] = ["anew", "beside", "for ever", "goes on"];

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The commands of the first block below a heading of a paper that can be run.
pub(crate) fn console_block(paper: &str, heading: &str) -> Vec<String> {
    let text = read(paper);
    let (_, section) = text.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("{paper}: {heading}"));
    let block = ShownBlock::all(section).into_iter().next().unwrap();
    block.commands.into_iter().map(|command| command.line).collect()
}

/// Every file of the workspace below `folder`, as a path from the root, without what cargo builds.
fn files() -> BTreeSet<String> {
    let (mut found, mut folders) = (BTreeSet::new(), vec![root()]);
    while let Some(folder) = folders.pop() {
        for file in fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                folders.extend(Some(path.clone()).filter(|_| !["target", ".git"].contains(&name)));
            }
            found.insert(path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned());
        }
    }
    found
}

/// All Rust sources of the workspace, one after the other.
fn sources() -> String {
    files().iter().filter(|name| name.ends_with(".rs")).map(|name| read(name)).collect()
}

/// The help of a command, empty if there is no such command.
fn help(command: &[&str]) -> String {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    fama_cli::run([&["fama"], command, &["--help"]].concat(), &mut out, &mut err);
    String::from_utf8(out).unwrap()
}

/// The command of a line, with its subcommand where it has some.
fn command<'a>(words: &[&'a str]) -> Vec<&'a str> {
    let nested = matches!(words.first(), Some(&"key" | &"federation" | &"webhook" | &"token"));
    words.iter().take(1 + usize::from(nested)).copied().collect()
}

#[test]
fn every_command_and_option_in_the_papers_exists() {
    let mut commands = BTreeSet::new();
    for paper in WALKS {
        let text = read(paper);
        let blocks = ShownBlock::all(&text);
        // What stands in a sentence between backticks is a command, too.
        let spoken =
            text.lines().filter(|line| !line.starts_with("```")).flat_map(|line| line.split('`').skip(1).step_by(2));
        let shown = blocks.iter().flat_map(|block| block.commands.iter().map(|command| command.line.as_str()));
        for line in shown.chain(spoken).flat_map(|line| line.split([';', '|', '&'])) {
            let line = line.trim_start().trim_start_matches("do ");
            let Some(line) = line.strip_prefix("fama ") else { continue };
            let words: Vec<&str> = line.split_whitespace().collect();
            if !words[0].starts_with(|first: char| first.is_ascii_lowercase()) {
                continue;
            }
            let name = command(&words);
            let help = help(&name);
            assert!(!help.is_empty(), "{paper}: fama {line}");
            for option in words.iter().filter(|word| word.starts_with("--")) {
                assert!(help.split_whitespace().any(|word| word == *option), "{paper}: {option} in: fama {line}");
            }
            commands.insert(name.join(" "));
        }
    }
    assert!(commands.len() > 25, "the papers show {commands:?}");
}

#[test]
fn every_invariant_names_a_test_that_exists() {
    let architecture = read("ARCHITECTURE.md");
    let (_, section) = architecture.split_once("\n## Invariants").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let sources = sources();
    let rows: Vec<&str> = section.lines().filter(|line| line.starts_with('|')).skip(2).collect();
    assert!(rows.len() > 30, "the invariants");
    for row in rows {
        let tests = row.trim_end_matches('|').rsplit('|').next().unwrap();
        let named: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "no test holds: {row}");
        for test in named {
            assert!(sources.contains(&format!("fn {test}(")), "no test {test}");
        }
    }
}

#[test]
fn metrics_in_config_exist() {
    let metrics = read("node/src/metrics.rs");
    for file in ["config/prometheus-rules.yml", "config/grafana.json"] {
        let text = read(file);
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let names: BTreeSet<&str> = words.filter(|word| word.starts_with("fama_")).collect();
        assert!(names.len() > 8, "{file} names metrics");
        for name in names {
            let name = name.trim_end_matches("_bucket");
            assert!(metrics.contains(&format!("\"{name}\"")), "{name} in {file}");
        }
    }
}

/// What looks like a path of this repository: with a slash, or a Rust file; `{a,b}` stands for both.
fn paths(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_-./{},*".contains(c);
    let words = text.split(|c: char| !is_part(c)).map(|word| word.trim_end_matches(['.', ',']));
    let mut found = BTreeSet::new();
    for word in words {
        let first = word.split('/').next().unwrap();
        let inside = word.contains('/') && FOLDERS.contains(&first);
        if !inside && !word.ends_with(".rs") {
            continue;
        }
        match word.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?))) {
            Some((before, (parts, behind))) => {
                found.extend(parts.split(',').map(|part| format!("{before}{part}{behind}")));
            }
            None => drop(found.insert(word.trim_end_matches(['*', '/']).to_owned())),
        }
    }
    found
}

/// What paths in the papers begin with: the folders of this repository, and those of `node/src`.
const FOLDERS: [&str; 20] = [
    "ledger",
    "node",
    "cli",
    "tests",
    "benches",
    "config",
    "docs",
    ".cargo",
    ".ci",
    "store",
    "network",
    "sync",
    "inbox",
    "submit",
    "http",
    "bridge",
    "state_sync",
    "replay",
    "reader",
    "command",
];

#[test]
fn every_file_that_the_map_names_exists() {
    let files = files();
    for paper in ["ARCHITECTURE.md", "CONTRIBUTING.md", "tests/README.md"] {
        let paths = paths(&read(paper));
        assert!(!paths.is_empty(), "{paper} names files");
        for path in paths {
            let (file, inner) = (format!("/{path}.rs"), format!("/{path}"));
            let there = |name: &String| *name == path || name.ends_with(&inner) || name.ends_with(&file);
            assert!(files.iter().any(there), "{paper} names {path}");
        }
    }
}

#[test]
fn every_type_that_the_map_names_exists() {
    let (architecture, sources) = (read("ARCHITECTURE.md"), sources());
    let spans = architecture.split('`').skip(1).step_by(2).filter_map(|span| span.split("::").next());
    let is_type = |name: &&str| {
        let word =
            name.chars().all(char::is_alphanumeric) && name.starts_with(|first: char| first.is_ascii_uppercase());
        word && name.contains(|c: char| c.is_ascii_lowercase())
    };
    let types: BTreeSet<&str> = spans.filter(is_type).collect();
    assert!(types.len() > 10, "{types:?}");
    for name in types {
        let there = ["enum", "struct"].iter().any(|kind| {
            let declared = format!("{kind} {name}");
            sources.split(&declared).skip(1).any(|rest| rest.starts_with([' ', '<', '(', ';']))
        });
        assert!(there, "there is no {name}");
    }
}

#[test]
fn papers_are_short_plain_and_linked() {
    for (paper, max) in LINES_MAX {
        let lines = read(paper).lines().count();
        assert!(lines <= max, "{paper} has {lines} lines, at most {max} wanted");
    }
    for paper in PAPERS {
        let text = read(paper);
        for (at, line) in text.lines().enumerate() {
            let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join(" ").to_lowercase();
            let words: Vec<&str> = prose.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty()).collect();
            let prose = format!(" {} ", words.join(" "));
            let avoided = WORDS_AVOIDED.iter().find(|avoided| prose.contains(&format!(" {avoided} ")));
            assert_eq!(avoided, None, "{paper}:{}", at + 1);
        }
        let folder = root().join(paper).parent().unwrap().to_owned();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
            if link.starts_with("https://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { root().join(paper) } else { folder.join(file) };
            assert!(target.exists(), "{paper} links to {link}");
            let headings = || fs::read_to_string(&target).unwrap();
            assert!(anchor.is_empty() || headings().lines().any(|line| heading(line) == anchor), "{paper}: {link}");
        }
    }
}

/// A heading as an anchor is made of it, empty if the line is none.
fn heading(line: &str) -> String {
    let Some(text) = line.strip_prefix('#').map(|rest| rest.trim_start_matches('#')) else { return String::new() };
    let kept =
        text.trim().to_lowercase().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>();
    kept.replace(' ', "-")
}

#[test]
fn few_blocks_are_not_run_and_each_says_why() {
    let mut left_out = Vec::new();
    for paper in WALKS {
        let text = read(paper);
        for block in ShownBlock::all(&text) {
            if let Some(reason) = &block.not_run {
                assert!(reason.len() >= 10, "{paper}: why is this not run?\n{}", block.text);
                left_out.push(format!("{paper}: {reason}"));
            } else {
                assert_eq!(block.language, "console", "{paper}: mark it with why it is not run:\n{}", block.text);
                assert!(!block.commands.is_empty(), "{paper}: a block without a command:\n{}", block.text);
            }
        }
    }
    assert!(left_out.len() <= NOT_RUN_MAX, "{left_out:#?}");
}
