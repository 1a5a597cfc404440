//! `docs/watching.md` has every metric, every alert, and log lines that exist.
use std::collections::{BTreeMap, BTreeSet};

use super::{read, sources};

const PAPER: &str = "docs/watching.md";
/// Series that a node shows only once something has happened that a calm federation need not see, or with a listener that
/// few nodes have (the operators' paper shows it).
const RARE: [&str; 4] =
    ["fama_node_faults_total", "fama_submit_forwarded_total", "fama_sign_in_total", "fama_inbox_access_total"];

/// A metric: its kind, its labels, and what it says of itself.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MetricRow {
    name: String,
    kind: String,
    labels: Vec<String>,
}

/// The cells of the tables' rows below a heading.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let text = read(PAPER);
    let below = |level: &str| {
        let (_, section) = text.split_once(&format!("\n{level} {heading}\n"))?;
        section.split("\n## ").next()?.split(&format!("\n{level} ")).next()
    };
    let section = below("##").or_else(|| below("###")).unwrap_or_else(|| panic!("{heading}"));
    let lines = section.lines().filter(|line| line.starts_with("| `"));
    lines.map(|line| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect()).collect()
}

fn plain(cell: &str) -> String {
    cell.replace('`', "")
}

fn paper() -> BTreeMap<MetricRow, String> {
    let row = |cells: Vec<String>| {
        assert_eq!(cells.len(), 5, "{cells:?}");
        let labels = cells[2].split('`').skip(1).step_by(2).map(str::to_owned).collect();
        (MetricRow { name: plain(&cells[0]), kind: cells[1].clone(), labels }, cells[4].clone())
    };
    rows("Metrics").into_iter().map(row).collect()
}

/// What the program registers.
fn registered() -> BTreeMap<MetricRow, String> {
    let source = read("node/src/metrics.rs");
    let (_, source) = source.split_once("pub fn new(registry").unwrap();
    let (source, _) = source.split_once("\n    }\n").unwrap();
    let made = source.split(" make.").skip(1).filter_map(|call| call.split_once('('));
    made.map(|(kind, arguments)| {
        let mut strings = arguments.split('"').skip(1).step_by(2).map(str::to_owned);
        let (name, help) = (strings.next().unwrap(), strings.next().unwrap());
        let kind = kind.trim_end_matches('s').to_owned();
        (MetricRow { name, kind, labels: strings.collect() }, help)
    })
    .collect()
}

/// What a node's `/metrics` shows.
pub(crate) fn live(text: &str) -> BTreeSet<MetricRow> {
    let kinds = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    kinds
        .map(|(name, kind)| {
            let series = text.lines().find(|line| {
                let after = line.strip_prefix(name).map(|rest| rest.trim_start_matches("_bucket"));
                after.is_some_and(|rest| rest.starts_with(['{', ' ']))
            });
            let labels = series.unwrap_or_else(|| panic!("{name}")).split("=\"");
            let mut labels: Vec<String> =
                labels.map(|part| part.rsplit(['{', ',']).next().unwrap().to_owned()).collect();
            labels.pop();
            labels.retain(|label| label != "le");
            MetricRow { name: name.to_owned(), kind: kind.to_owned(), labels }
        })
        .collect()
}

/// What running nodes show is in the paper, and the reverse.
pub(crate) fn are_in_the_paper(live: &BTreeSet<MetricRow>) {
    let paper: BTreeSet<MetricRow> = paper().into_keys().collect();
    let unknown: Vec<_> = live.difference(&paper).collect();
    assert!(unknown.is_empty(), "not in {PAPER}: {unknown:?}");
    let unseen = paper.difference(live).filter(|row| !RARE.contains(&row.name.as_str()));
    let unseen: Vec<_> = unseen.collect();
    assert!(unseen.is_empty(), "no node shows {unseen:?}");
}

#[test]
fn the_paper_has_every_metric() {
    let (paper, registered) = (paper(), registered());
    assert!(registered.len() > 25, "{registered:?}");
    assert_eq!(paper, registered);
}

#[test]
fn the_paper_has_every_alert_and_what_to_do() {
    let rules = read("config/prometheus-rules.yml");
    let field = |rule: &str, name: &str| {
        let line = rule.lines().find_map(|line| line.trim_start().strip_prefix(name));
        line.unwrap_or_default().trim().trim_matches('"').to_owned()
    };
    let rule = |rule: &str| {
        let severity = field(rule, "labels:").replace("{ severity: ", "").replace(" }", "");
        (rule.lines().next().unwrap().trim().to_owned(), severity, field(rule, "what_to_do:"))
    };
    let rules: BTreeSet<_> = rules.split("- alert:").skip(1).map(rule).collect();
    assert!(rules.len() > 12 && rules.iter().all(|(_, severity, todo)| !severity.is_empty() && !todo.is_empty()));
    let told = rows("Alerts").into_iter().map(|cells| (plain(&cells[0]), cells[1].clone(), cells[3].clone()));
    assert_eq!(told.collect::<BTreeSet<_>>(), rules);
}

/// The literals in the arguments of a call, which begins behind its opening parenthesis.
fn literals(call: &str) -> Vec<String> {
    let (mut found, mut depth, mut text, mut skipped) = (Vec::new(), 1, None::<String>, false);
    for c in call.chars() {
        match (&mut text, c) {
            (Some(_), '\\') => skipped = true,
            (Some(_), '"') if !skipped => found.extend(text.take()),
            (Some(text), _) => {
                text.push(c);
                skipped = false;
            }
            (None, '"') => text = Some(String::new()),
            (None, '(') => depth += 1,
            (None, ')') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    found
}

/// The messages of all log lines of a level, `{}` and what is in it as `…`.
fn messages(sources: &str, level: &str) -> BTreeSet<String> {
    let begin = format!("tracing::{level}!(");
    let mut found = BTreeSet::new();
    for literal in sources.split(&begin).skip(1).flat_map(literals) {
        let (mut text, mut rest) = (String::new(), literal.as_str());
        while let Some((before, after)) = rest.split_once('{') {
            text = text + before + "…";
            rest = after.split_once('}').map_or("", |(_, rest)| rest);
        }
        let message = (text + rest).split_whitespace().collect::<Vec<_>>().join(" ");
        if message.contains(char::is_alphabetic) {
            found.insert(message);
        }
    }
    found
}

#[test]
fn the_log_lines_in_the_paper_exist() {
    let sources = sources();
    for (heading, level) in [("Errors", "error"), ("Warnings", "warn"), ("Information", "info")] {
        let (messages, rows) = (messages(&sources, level), rows(heading));
        assert!(rows.len() >= 5, "{heading}");
        for cells in rows {
            let message = plain(&cells[0]);
            assert!(messages.contains(&message), "no {level} line says: {message}");
        }
    }
}

/// An operator finds every error that a node logs.
#[test]
fn the_paper_has_every_error_that_a_node_logs() {
    let files = super::files();
    let node = files.iter().filter(|name| name.starts_with("node/src/") && name.ends_with(".rs"));
    let node: String = node.map(|name| read(name)).collect();
    let told: BTreeSet<String> = rows("Errors").iter().map(|cells| plain(&cells[0])).collect();
    let missing: Vec<String> = messages(&node, "error").difference(&told).cloned().collect();
    assert!(missing.is_empty(), "not in {PAPER}: {missing:#?}");
}
