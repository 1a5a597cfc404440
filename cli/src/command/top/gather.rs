//! What `fama top` asks for, and the rates that follow from two answers.
use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::{Value, json};

use crate::failure::Failure;
use crate::query::{ANSWER_BYTES_MAX, Query};

/// A metric with its labels as Prometheus writes them, without braces.
type Metric = (String, String);

/// What a node showed.
#[derive(Clone, Debug)]
pub(super) struct NodeSeen {
    /// Where it was asked.
    pub(super) address: String,
    /// The answer of `/api/status`, or why there is none.
    pub(super) status: Result<Value, String>,
    /// What its admin listener showed; `None` if that was not asked.
    pub(super) admin: Option<Result<AdminSeen, String>>,
    /// How many entries a log grew by, a second, since the last time.
    pub(super) growth: BTreeMap<String, f64>,
}

impl Default for NodeSeen {
    fn default() -> Self {
        Self { address: String::new(), status: Err("not asked yet".to_owned()), admin: None, growth: BTreeMap::new() }
    }
}

/// What an admin listener showed.
#[derive(Clone, Debug, Default)]
pub(super) struct AdminSeen {
    metrics: BTreeMap<Metric, f64>,
    /// By how much counters grew, a second, since the last time.
    rates: BTreeMap<Metric, f64>,
}

impl AdminSeen {
    /// The value of a metric without labels.
    pub(super) fn value(&self, name: &str) -> Option<f64> {
        self.metrics.get(&(name.to_owned(), String::new())).copied()
    }

    /// The sum of a metric over all labels, a second.
    pub(super) fn rate(&self, name: &str) -> f64 {
        self.rates.iter().filter(|((of, _), _)| of == name).map(|(_, rate)| rate).sum()
    }

    /// The values of a metric that has one label, by that label.
    pub(super) fn by_label(&self, name: &str) -> Vec<(&str, f64)> {
        let all = self.metrics.iter().filter(|((of, _), _)| of == name);
        all.map(|((_, labels), value)| (labels.split('"').nth(1).unwrap_or_default(), *value)).collect()
    }
}

impl NodeSeen {
    pub(super) fn json(&self) -> Value {
        let admin = self.admin.as_ref().map(|admin| match admin {
            Ok(seen) => {
                let name = |(name, labels): &Metric| {
                    if labels.is_empty() { name.clone() } else { format!("{name}{{{labels}}}") }
                };
                json!(seen.metrics.iter().map(|(metric, value)| (name(metric), *value)).collect::<BTreeMap<_, _>>())
            }
            Err(why) => json!({"error": why}),
        });
        match &self.status {
            Ok(status) => json!({"address": self.address, "status": status, "metrics": admin}),
            Err(why) => json!({"address": self.address, "error": why, "metrics": admin}),
        }
    }
}

/// Asks nodes, and remembers what they said the last time.
pub(super) struct Gatherer {
    nodes: Vec<Query>,
    admin: Option<Query>,
    last: Vec<NodeSeen>,
    at: Option<Instant>,
}

impl Gatherer {
    pub(super) const fn new(nodes: Vec<Query>, admin: Option<Query>) -> Self {
        Self { nodes, admin, last: Vec::new(), at: None }
    }

    /// Asks all nodes at once.
    pub(super) fn gather(&mut self) -> Vec<NodeSeen> {
        let begun = Instant::now();
        let seconds = self.at.replace(begun).map_or(0.0, |before| begun.duration_since(before).as_secs_f64());
        let mut seen: Vec<NodeSeen> = std::thread::scope(|scope| {
            let admin = self.admin.as_ref().map(|admin| scope.spawn(|| metrics(admin)));
            let asked: Vec<_> = self.nodes.iter().map(|node| scope.spawn(|| node.get(&["status"], &[]))).collect();
            let answers = asked.into_iter().zip(&self.nodes).map(|(asked, node)| {
                let status = asked.join().unwrap_or_else(|_| Err(Failure::new("internal", "asking failed")));
                NodeSeen {
                    address: node.base().to_owned(),
                    status: status.map_err(|why| why.message),
                    ..NodeSeen::default()
                }
            });
            let mut all: Vec<NodeSeen> = answers.collect();
            if let (Some(first), Some(admin)) = (all.first_mut(), admin) {
                first.admin = Some(admin.join().unwrap_or_else(|_| Err("asking failed".to_owned())));
            }
            all
        });
        for (now, before) in seen.iter_mut().zip(&self.last) {
            now.compare(before, seconds);
        }
        self.last.clone_from(&seen);
        seen
    }
}

impl NodeSeen {
    /// Computes what grew since `before`, so many seconds ago.
    fn compare(&mut self, before: &Self, seconds: f64) {
        if seconds <= 0.0 {
            return;
        }
        if let (Ok(now), Ok(before)) = (&self.status, &before.status) {
            for (log, size) in now["frontier"].as_object().into_iter().flatten() {
                let grown = size.as_f64().zip(before["frontier"][log].as_f64()).map(|(now, before)| now - before);
                self.growth.insert(log.clone(), grown.unwrap_or_default().max(0.0) / seconds);
            }
        }
        if let (Some(Ok(now)), Some(Ok(before))) = (&mut self.admin, &before.admin) {
            let grown = now.metrics.iter().filter_map(|(metric, value)| {
                // A counter that is smaller than before began again with its node.
                Some((metric.clone(), (value - before.metrics.get(metric)?).max(0.0) / seconds))
            });
            now.rates = grown.collect();
        }
    }
}

fn metrics(admin: &Query) -> Result<AdminSeen, String> {
    let max = usize::try_from(ANSWER_BYTES_MAX).unwrap_or(usize::MAX);
    let text = admin.get_text(&["metrics"], &[], max).map_err(|why| why.message)?;
    Ok(AdminSeen { metrics: parse(&text), rates: BTreeMap::new() })
}

/// Reads Prometheus' text format; what is no sample is skipped.
fn parse(text: &str) -> BTreeMap<Metric, f64> {
    let sample = |line: &str| {
        let (metric, value) = line.rsplit_once(' ').filter(|_| !line.starts_with('#'))?;
        let (name, labels) = match metric.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}')?),
            None => (metric, ""),
        };
        Some(((name.to_owned(), labels.to_owned()), value.parse().ok()?))
    };
    text.lines().filter_map(sample).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_and_rates_follow_from_two() {
        let text = "# HELP a b\na 5\nb{code=\"name_taken\"} 2\nb{code=\"x\"} 1\nnonsense\n";
        let seen = |text: &str| NodeSeen {
            status: Ok(json!({"frontier": {"a.example": 20}})),
            admin: Some(Ok(AdminSeen { metrics: parse(text), rates: BTreeMap::new() })),
            ..NodeSeen::default()
        };
        let before = NodeSeen { status: Ok(json!({"frontier": {"a.example": 10}})), ..seen("a 1\nb{code=\"x\"} 9") };
        let mut now = seen(text);
        now.compare(&before, 2.0);
        assert_eq!(now.growth["a.example"], 5.0);
        let admin = now.admin.unwrap().unwrap();
        assert_eq!((admin.value("a"), admin.rate("a"), admin.rate("b")), (Some(5.0), 2.0, 0.0));
        assert_eq!(admin.by_label("b"), [("name_taken", 2.0), ("x", 1.0)]);
    }
}
