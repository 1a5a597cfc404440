//! What the README and the files in config/ name must exist.
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

/// All Rust sources of the workspace, one after the other.
fn sources() -> String {
    let (mut text, mut folders) = (String::new(), ["ledger", "node", "cli", "tests"].map(|f| root().join(f)).to_vec());
    while let Some(folder) = folders.pop() {
        for file in fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    text
}

/// The help of a command, empty if there is no such command.
fn help(command: &[&str]) -> String {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    fama_cli::run([&["fama"], command, &["--help"]].concat(), &mut out, &mut err);
    String::from_utf8(out).unwrap()
}

/// The command of a line, with its subcommand where it has some.
fn command<'a>(words: &[&'a str]) -> Vec<&'a str> {
    let nested = matches!(words.first(), Some(&"key" | &"federation"));
    words.iter().take(1 + usize::from(nested)).copied().collect()
}

#[test]
fn what_the_readme_names_exists() {
    let readme = read("README.md");
    let lines = readme.lines().filter_map(|line| line.strip_prefix("$ fama "));
    let mut commands = 0;
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        let help = help(&command(&words));
        assert!(!help.is_empty(), "fama {line}");
        for option in words.iter().filter(|word| word.starts_with("--")) {
            assert!(help.split_whitespace().any(|word| word == *option), "{option} in: fama {line}");
        }
        commands += 1;
    }
    assert!(commands > 8, "the README shows commands");

    let (_, section) = readme.split_once("## What must hold").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let sources = sources();
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
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
