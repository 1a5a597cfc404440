//! What the node counts, for Prometheus. Labels come from our own enums and the manifest only.
use fama_ledger::manifest::LogId;
use fama_ledger::replica::WriteWarning;
use fama_ledger::time::Millis;
use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder, exponential_buckets,
};

use crate::health::Snapshot;

/// What [`prometheus`] says if two metrics have one name or a name is malformed.
pub(crate) type MetricsError = prometheus::Error;

/// All metrics of one node.
pub struct Metrics {
    registry: Registry,
    accepted: IntCounter,
    refused: IntCounterVec,
    batch_entries: Histogram,
    batch_seconds: Histogram,
    log_size: IntGaugeVec,
    log_certified: IntGaugeVec,
    log_newest: IntGaugeVec,
    log_fault: IntGaugeVec,
    heard: IntGaugeVec,
    peers: IntGauge,
    gossip: IntCounterVec,
    sync_ranges: IntCounterVec,
    sync_bytes: IntCounterVec,
    forwarded: IntCounterVec,
    cosignatures: IntCounterVec,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    ranking_lag: IntGauge,
    waiting: IntGauge,
    warnings: IntGaugeVec,
    quick: IntGauge,
    quick_rows: IntGauge,
    quick_bytes: IntGauge,
    scrub_bytes: IntCounter,
    scrub_last: IntGauge,
    faults: IntCounterVec,
}

/// Which way something went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From a peer to this node.
    In,
    /// From this node to a peer.
    Out,
}

impl Direction {
    const fn as_str(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// What became of a gossip message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GossipOutcome {
    /// New and passed on.
    Accepted,
    /// Known, or not for us.
    Ignored,
    /// Invalid: the sender loses score.
    Rejected,
    /// Sent by this node.
    Published,
}

impl GossipOutcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Ignored => "ignored",
            Self::Rejected => "rejected",
            Self::Published => "published",
        }
    }
}

/// Makes metrics and registers them.
struct Maker<'a>(&'a Registry);

impl Maker<'_> {
    fn keep<C: Collector + Clone + 'static>(&self, metric: C) -> Result<C, MetricsError> {
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, MetricsError> {
        self.keep(IntCounter::new(name, help)?)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, MetricsError> {
        self.keep(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, MetricsError> {
        self.keep(IntGauge::new(name, help)?)
    }

    fn gauges(&self, name: &str, help: &str, label: &str) -> Result<IntGaugeVec, MetricsError> {
        self.keep(IntGaugeVec::new(Opts::new(name, help), &[label])?)
    }

    fn histogram(&self, name: &str, help: &str, buckets: Vec<f64>) -> Result<Histogram, MetricsError> {
        self.keep(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?)
    }

    fn histograms(&self, name: &str, help: &str, buckets: Vec<f64>, label: &str) -> Result<HistogramVec, MetricsError> {
        self.keep(HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), &[label])?)
    }
}

impl Metrics {
    /// Registers everything in `registry`.
    ///
    /// # Errors
    /// Only if `registry` has metrics of these names already.
    pub fn new(registry: Registry) -> Result<Self, MetricsError> {
        let make = Maker(&registry);
        let seconds = || exponential_buckets(0.000_25, 2.0, 16);
        Ok(Self {
            accepted: make.counter(
                "fama_inbox_accepted_total",
                "Events taken into this node's own log. Standing still under traffic means that nothing gets in.",
            )?,
            refused: make.counters(
                "fama_inbox_refused_total",
                "Submissions refused, by the code that the submitter got. A code that rises fast is a broken or hostile client; overloaded means that this node is too slow.",
                &["code"],
            )?,
            batch_entries: make.histogram(
                "fama_inbox_batch_entries",
                "Entries per batch, state entry included. Always near 4096 means that the log takes in all it can.",
                exponential_buckets(2.0, 2.0, 12)?,
            )?,
            batch_seconds: make.histogram(
                "fama_inbox_batch_seconds",
                "Seconds from a batch's first fold to its durable write. Above the policy's batch_ms the disk is too slow.",
                seconds()?,
            )?,
            log_size: make.gauges(
                "fama_log_entries",
                "Entries held of each log. Below fama_log_newest_entries for long means that this node lags.",
                "log",
            )?,
            log_certified: make.gauges(
                "fama_log_certified_entries",
                "Entries of each log below a head that a quorum cosigned. Behind fama_log_entries for long means that a quorum is missing.",
                "log",
            )?,
            log_newest: make.gauges(
                "fama_log_newest_entries",
                "Largest size of each log that its owner signed, as far as known.",
                "log",
            )?,
            log_fault: make.gauges(
                "fama_log_fault",
                "1 if this node cosigns the log no longer, because its owner broke a rule. People must look.",
                "log",
            )?,
            heard: make.gauges(
                "fama_operator_silent_seconds",
                "Seconds since an operator was heard last, -1 if never. Above 60 it counts as away.",
                "operator",
            )?,
            peers: make.gauge(
                "fama_network_peers",
                "Open connections to peers. 0 means that this node is cut off.",
            )?,
            gossip: make.counters(
                "fama_network_gossip_total",
                "Gossip messages by what became of them. Rejected ones are a faulty or hostile peer's.",
                &["outcome"],
            )?,
            sync_ranges: make.counters(
                "fama_sync_ranges_total",
                "Ranges of entries fetched from (in) and served to (out) peers. Fetching without end means that gossip does not arrive.",
                &["direction"],
            )?,
            sync_bytes: make.counters(
                "fama_sync_bytes_total",
                "Bytes of entries fetched from (in) and served to (out) peers.",
                &["direction"],
            )?,
            forwarded: make.counters(
                "fama_submit_forwarded_total",
                "Submissions passed on to the node of their home, by result. Failures mean that homes cannot be reached.",
                &["result"],
            )?,
            cosignatures: make.counters(
                "fama_network_cosignatures_total",
                "Cosignatures given (out) and received (in). Standing still while logs grow means that nothing becomes final.",
                &["direction"],
            )?,
            requests: make.counters(
                "fama_http_requests_total",
                "HTTP requests by route and status class. 5xx means that this node fails or is overloaded.",
                &["route", "status"],
            )?,
            request_seconds: make.histograms(
                "fama_http_request_seconds",
                "Seconds per HTTP request by route. Above 0.1 for single reads means that the disk or the processor is too busy.",
                seconds()?,
                "route",
            )?,
            ranking_lag: make.gauge(
                "fama_ranking_lag_providers",
                "Providers whose change of sponsorship the leaderboard has still to follow. Rising means that it is out of date.",
            )?,
            waiting: make.gauge(
                "fama_node_waiting",
                "1 while this node takes no events in (see /readyz for why). For more than a minute after the start people must look.",
            )?,
            warnings: make.gauges(
                "fama_node_warning",
                "1 while the node takes events in although its operator should look, by code: other_session (a copy of this node?), clock_ahead, clock_jumped, and the options assume_disk_current and accept_clock.",
                "code",
            )?,
            quick: make.gauge(
                "fama_quick_answering",
                "1 while questions are answered from certified states that this node has not verified entry by entry yet. Days at 1 mean that its own copies do not come along.",
            )?,
            quick_rows: make.gauge(
                "fama_quick_rows",
                "Rows of certified states loaded since the start, until the node's own copies are as far. Standing still below the whole means that nobody gives them.",
            )?,
            quick_bytes: make.gauge(
                "fama_quick_bytes",
                "Bytes of these rows. Rising slowly means slow peers or a slow line.",
            )?,
            scrub_bytes: make.counter(
                "fama_scrub_bytes_total",
                "Bytes that the scrub has read and found whole. Standing still means that it is off, or in its pause.",
            )?,
            scrub_last: make.gauge(
                "fama_scrub_last_pass_timestamp_seconds",
                "When the scrub last came to its end, in seconds since 1970; 0 if never. Weeks ago means that scrub.bytes_per_second is too low for the data.",
            )?,
            faults: make.counters(
                "fama_node_faults_total",
                "Rules broken by others or by this node's own disk, by code. Any at all: people must look.",
                &["code"],
            )?,
            registry,
        })
    }

    /// Counts events taken into the own log.
    pub fn accepted(&self, events: u64) {
        self.accepted.inc_by(events);
    }

    /// Counts a refused submission by its code, which is one of this program's own words.
    pub fn refused(&self, code: &'static str) {
        self.refused.with_label_values(&[code]).inc();
    }

    /// Counts a batch of the own log.
    pub fn batch(&self, entries: u64, seconds: f64) {
        #[expect(clippy::cast_precision_loss, reason = "a batch has at most some thousand entries")]
        self.batch_entries.observe(entries as f64);
        self.batch_seconds.observe(seconds);
    }

    /// Says how far a log is.
    pub fn log(&self, log: &LogId, size: u64, certified: u64, newest: u64, fault: bool) {
        let label = log.to_string();
        self.log_size.with_label_values(&[&label]).set(gauge(size));
        self.log_certified.with_label_values(&[&label]).set(gauge(certified));
        self.log_newest.with_label_values(&[&label]).set(gauge(newest));
        self.log_fault.with_label_values(&[&label]).set(i64::from(fault));
    }

    /// Counts a gossip message.
    pub fn gossip(&self, outcome: GossipOutcome) {
        self.gossip.with_label_values(&[outcome.as_str()]).inc();
    }

    /// Counts a range of entries with its bytes.
    pub fn range(&self, direction: Direction, bytes: u64) {
        self.sync_ranges.with_label_values(&[direction.as_str()]).inc();
        self.sync_bytes.with_label_values(&[direction.as_str()]).inc_by(bytes);
    }

    /// Counts cosignatures.
    pub fn cosignatures(&self, direction: Direction, count: u64) {
        self.cosignatures.with_label_values(&[direction.as_str()]).inc_by(count);
    }

    /// Counts a submission passed on to another node: answered, whatever the answer, or not.
    pub fn forwarded(&self, answered: bool) {
        self.forwarded.with_label_values(&[if answered { "answered" } else { "unreachable" }]).inc();
    }

    /// Counts a broken rule by its code, which is one of this program's own words.
    pub fn fault(&self, code: &'static str) {
        self.faults.with_label_values(&[code]).inc();
    }

    /// Counts what the scrub has read.
    pub fn scrubbing(&self, bytes: u64) {
        self.scrub_bytes.inc_by(bytes);
    }

    /// Says that the scrub has read everything once more.
    pub fn scrubbed(&self, now: Millis) {
        self.scrub_last.set(gauge(now.0 / 1_000));
    }

    /// Counts an HTTP request; `route` is the pattern of the path, never the path.
    pub fn request(&self, route: &str, status: u16, seconds: f64) {
        let class = match status {
            0..=199 => "1xx",
            200..=299 => "2xx",
            300..=399 => "3xx",
            400..=499 => "4xx",
            _ => "5xx",
        };
        self.requests.with_label_values(&[route, class]).inc();
        self.request_seconds.with_label_values(&[route]).observe(seconds);
    }

    /// Sets everything that [`crate::health::Health`] says, as of `now`.
    pub fn set_health(&self, health: &Snapshot, now: Millis) {
        for (log, known) in &health.logs {
            self.log(log, known.size, known.certified, known.newest.max(known.size), known.fault.is_some());
        }
        for (name, operator) in &health.operators {
            let silent = operator.heard.map_or(-1, |heard| gauge(now.0.saturating_sub(heard.0) / 1_000));
            self.heard.with_label_values(&[name.as_str()]).set(silent);
        }
        self.peers.set(i64::try_from(health.peers).unwrap_or(i64::MAX));
        self.ranking_lag.set(i64::try_from(health.ranking_lag).unwrap_or(i64::MAX));
        self.waiting.set(i64::from(health.waiting.is_some()));
        let quick = health.quick.as_ref();
        self.quick.set(i64::from(quick.is_some_and(|quick| quick.phase == "answering")));
        self.quick_rows.set(quick.map_or(0, |quick| gauge(quick.rows)));
        self.quick_bytes.set(quick.map_or(0, |quick| gauge(quick.bytes)));
        for code in WriteWarning::ALL.map(WriteWarning::code) {
            self.warnings.with_label_values(&[code]).set(i64::from(health.warnings.contains(&code)));
        }
    }

    /// Everything in Prometheus' text format.
    ///
    /// # Errors
    /// Never for metrics of this program.
    pub fn encode(&self) -> Result<String, MetricsError> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_registered_once_and_encodes() {
        let registry = Registry::new();
        let metrics = Metrics::new(registry.clone()).unwrap();
        metrics.accepted(2);
        metrics.refused("name_taken");
        metrics.batch(3, 0.001);
        metrics.request("/api/status", 200, 0.001);
        metrics.request("/api/status", 503, 0.001);
        let text = metrics.encode().unwrap();
        for line in [
            "fama_inbox_accepted_total 2",
            "fama_inbox_refused_total{code=\"name_taken\"} 1",
            "fama_http_requests_total{route=\"/api/status\",status=\"5xx\"} 1",
            "fama_inbox_batch_entries_count 1",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
        assert!(Metrics::new(registry).is_err());
    }
}
