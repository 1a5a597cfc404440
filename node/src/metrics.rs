//! Metrics for Prometheus. Labels come only from this program's own enums, the manifest and the configuration.
use fama_ledger::id::Domain;
use fama_ledger::manifest::LogId;
use fama_ledger::replica::WriteWarning;
use fama_ledger::time::Millis;
use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder, exponential_buckets,
};

use crate::health::Snapshot;

/// From [`prometheus`]: two metrics have the same name, or a name is malformed.
pub(crate) type MetricsError = prometheus::Error;

/// All metrics of one node.
pub struct Metrics {
    registry: Registry,
    accepted: IntCounter,
    refused: IntCounterVec,
    signed_in: IntCounterVec,
    access_changed: IntCounterVec,
    batch_entries: Histogram,
    batch_seconds: Histogram,
    log_size: IntGaugeVec,
    log_certified: IntGaugeVec,
    log_newest: IntGaugeVec,
    log_fault: IntGaugeVec,
    heard: IntGaugeVec,
    log_unfinal: IntGaugeVec,
    start: IntGauge,
    ready: IntGauge,
    operators_heard: IntGauge,
    operators_needed: IntGauge,
    peers: IntGauge,
    gossip: IntCounterVec,
    sync_ranges: IntCounterVec,
    sync_bytes: IntCounterVec,
    forwarded: IntCounterVec,
    cosignatures: IntCounterVec,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    ranking_lag: IntGauge,
    memory: IntGauge,
    disk: IntGauge,
    disk_free: IntGauge,
    waiting: IntGauge,
    warnings: IntGaugeVec,
    quick: IntGauge,
    quick_rows: IntGauge,
    quick_bytes: IntGauge,
    scrub_bytes: IntCounter,
    scrub_last: IntGauge,
    backup_last: IntGauge,
    domains_lost: IntGauge,
    faults: IntCounterVec,
    webhooks: IntCounterVec,
}

/// The direction of a transfer, seen from this node.
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

/// How a gossip message was handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GossipOutcome {
    /// New, and forwarded to other peers.
    Accepted,
    /// Already known, or of no use to this node.
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

/// Creates metrics and registers each.
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
    /// Registers all metrics in `registry`.
    ///
    /// # Errors
    /// Only if `registry` already has a metric of one of these names.
    pub fn new(registry: Registry) -> Result<Self, MetricsError> {
        let make = Maker(&registry);
        let seconds = || exponential_buckets(0.000_25, 2.0, 16);
        Ok(Self {
            accepted: make.counter(
                "fama_inbox_accepted_total",
                "Events accepted into this node's own log. No increase under traffic means that nothing is accepted.",
            )?,
            access_changed: make.counters(
                "fama_inbox_access_total",
                "Grants, ungrants, suspensions and their ends accepted into this node's own log, by kind. The log has a line for each.",
                &["kind"],
            )?,
            refused: make.counters(
                "fama_inbox_refused_total",
                "Submissions refused, by the code that the submitter got. A code that rises fast means a broken or hostile client; overloaded means that this node is too slow.",
                &["code"],
            )?,
            signed_in: make.counters(
                "fama_sign_in_total",
                "Requests to the sign-in listener, by what was asked and the code of the answer. A code other than ok that rises fast means a broken or hostile client; not_fresh means that this node issues nothing.",
                &["code", "what"],
            )?,
            batch_entries: make.histogram(
                "fama_inbox_batch_entries",
                "Entries per batch, state entry included. Always near 4096 means that the log is at its capacity.",
                exponential_buckets(2.0, 2.0, 12)?,
            )?,
            batch_seconds: make.histogram(
                "fama_inbox_batch_seconds",
                "Seconds from a batch's first fold to its durable write. Above the policy's batch_ms means that the disk is too slow.",
                seconds()?,
            )?,
            log_size: make.gauges(
                "fama_log_entries",
                "Entries of each log in this node's copy. Below fama_log_newest_entries for long means that this node lags.",
                "log",
            )?,
            log_certified: make.gauges(
                "fama_log_certified_entries",
                "Entries of each log below a head that a quorum cosigned. Below fama_log_entries for long means that a quorum is missing.",
                "log",
            )?,
            log_newest: make.gauges(
                "fama_log_newest_entries",
                "Largest size of each log known to be signed by its owner. Above fama_log_entries for long means that this node lags.",
                "log",
            )?,
            log_fault: make.gauges(
                "fama_log_fault",
                "1 if this node no longer cosigns the log, because its owner broke a rule. An operator must investigate.",
                "log",
            )?,
            heard: make.gauges(
                "fama_operator_silent_seconds",
                "Seconds since the last message from each other operator, or since the start of this process if none came yet. Above 60 the operator counts as away.",
                "operator",
            )?,
            log_unfinal: make.gauges(
                "fama_log_unfinal_seconds",
                "Seconds since an entry of the log last became final, while others wait to; 0 if none waits. Above 60 means that a quorum of operators is missing.",
                "log",
            )?,
            start: make.gauge(
                "fama_node_start_timestamp_seconds",
                "When this process started, in seconds since 1970. A change means that the node was restarted.",
            )?,
            ready: make.gauge(
                "fama_node_ready",
                "1 while /readyz answers 200. 0 for minutes means that clients should use another node; /readyz and the log say why.",
            )?,
            operators_heard: make.gauge(
                "fama_operators_heard",
                "Operators heard in the last minute, this node's own included. Below fama_operators_needed nothing new becomes final here.",
            )?,
            operators_needed: make.gauge(
                "fama_operators_needed",
                "How many operators must be heard for this node to be ready: n - f.",
            )?,
            peers: make.gauge(
                "fama_network_peers",
                "Open connections to peers. 0 means that this node is cut off.",
            )?,
            gossip: make.counters(
                "fama_network_gossip_total",
                "Gossip messages by how they were handled. Rejected ones come from a faulty or hostile peer.",
                &["outcome"],
            )?,
            sync_ranges: make.counters(
                "fama_sync_ranges_total",
                "Ranges of entries fetched from (in) and served to (out) peers. Constant fetching means that gossip does not arrive.",
                &["direction"],
            )?,
            sync_bytes: make.counters(
                "fama_sync_bytes_total",
                "Bytes of entries fetched from (in) and served to (out) peers. In far above the growth of the logs means that entries are fetched more than once.",
                &["direction"],
            )?,
            forwarded: make.counters(
                "fama_submit_forwarded_total",
                "Submissions forwarded to the node of their home, by result. unreachable means that no answer came.",
                &["result"],
            )?,
            cosignatures: make.counters(
                "fama_network_cosignatures_total",
                "Cosignatures given (out) and received (in). No increase while logs grow means that nothing becomes final.",
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
                "Providers whose sponsorship changed and whose subjects the leaderboard has not updated yet; at least 1 while scores are added up after a rewind or under another policy. Rising means that the leaderboard is out of date.",
            )?,
            memory: make.gauge(
                "process_resident_memory_bytes",
                "Resident memory of the process. Rising for days means a leak; the settings of `[storage]` bound what the database takes.",
            )?,
            disk: make.gauge(
                "fama_store_bytes",
                "Bytes of the files in the data folder.",
            )?,
            disk_free: make.gauge(
                "fama_store_free_bytes",
                "Bytes that are free where the data folder is. Less than `fama_store_bytes` means that a large compaction, a repair or a backup may find no room.",
            )?,
            waiting: make.gauge(
                "fama_node_waiting",
                "1 while this node accepts no events (see /readyz for why). Longer than a minute after the start means that an operator must investigate.",
            )?,
            warnings: make.gauges(
                "fama_node_warning",
                "1 while the node accepts events although its operator should investigate, by code: other_session (a copy of this node?), clock_ahead, clock_behind, clock_jumped, and the options assume_disk_current, accept_clock and accept_late.",
                "code",
            )?,
            quick: make.gauge(
                "fama_quick_answering",
                "1 while queries are answered from certified states that this node has not verified entry by entry yet. 1 for days means that its own copies do not catch up.",
            )?,
            quick_rows: make.gauge(
                "fama_quick_rows",
                "Rows of certified states loaded since the start; 0 again once the node's own copies have caught up. No increase before all are loaded means that no peer serves them.",
            )?,
            quick_bytes: make.gauge(
                "fama_quick_bytes",
                "Bytes of the rows that fama_quick_rows counts. Rising slowly means slow peers or a slow connection.",
            )?,
            scrub_bytes: make.counter(
                "fama_scrub_bytes_total",
                "Bytes that the scrub has read and found intact. No increase means that it is off or pausing.",
            )?,
            scrub_last: make.gauge(
                "fama_scrub_last_pass_timestamp_seconds",
                "When the scrub last completed a pass, in seconds since 1970; 0 if never. Weeks ago means that scrub.bytes_per_second is too low for the data.",
            )?,
            backup_last: make.gauge(
                "fama_backup_last_timestamp_seconds",
                "When `fama backup` last finished a backup of this running node, in seconds since 1970; 0 if none since the start. Days ago means that backups fail, or no longer run.",
            )?,
            domains_lost: make.gauge(
                "fama_domains_lost",
                "Domains of services that this operator sponsors and that no longer name them. Above 0 means that the operator should talk to the service or dismiss it; the log says which.",
            )?,
            faults: make.counters(
                "fama_node_faults_total",
                "Rules broken by others or by this node's own disk, by code. Any increase means that an operator must investigate.",
                &["code"],
            )?,
            webhooks: make.counters(
                "fama_webhook_deliveries_total",
                "Attempts to deliver an event to a webhook, by the webhook's name and outcome: delivered, failed, or given_up after half an hour of failures. given_up means that somebody misses an event until `fama webhook replay`.",
                &["outcome", "webhook"],
            )?,
            registry,
        })
    }

    /// Counts events accepted into this node's own log.
    pub fn accepted(&self, events: u64) {
        self.accepted.inc_by(events);
    }

    /// Counts an accepted event that changes what an identity may do.
    pub fn access_changed(&self, kind: &'static str) {
        self.access_changed.with_label_values(&[kind]).inc();
    }

    /// Counts a refused submission by its code, which never comes from outside this program.
    pub fn refused(&self, code: &'static str) {
        self.refused.with_label_values(&[code]).inc();
    }

    /// Counts a batch of this node's own log; `seconds` from its first fold to its durable write.
    pub fn batch(&self, entries: u64, seconds: f64) {
        #[expect(clippy::cast_precision_loss, reason = "a batch has at most some thousand entries")]
        self.batch_entries.observe(entries as f64);
        self.batch_seconds.observe(seconds);
    }

    /// Sets the gauges of a log; `size`, `certified` and `newest` in entries.
    pub fn log(&self, log: &LogId, size: u64, certified: u64, newest: u64, fault: bool) {
        let label = log.to_string();
        self.log_size.with_label_values(&[&label]).set(gauge(size));
        self.log_certified.with_label_values(&[&label]).set(gauge(certified));
        self.log_newest.with_label_values(&[&label]).set(gauge(newest));
        self.log_fault.with_label_values(&[&label]).set(i64::from(fault));
    }

    /// Counts a gossip message by how it was handled.
    pub fn gossip(&self, outcome: GossipOutcome) {
        self.gossip.with_label_values(&[outcome.as_str()]).inc();
    }

    /// Counts a range of entries, and its size in bytes.
    pub fn range(&self, direction: Direction, bytes: u64) {
        self.sync_ranges.with_label_values(&[direction.as_str()]).inc();
        self.sync_bytes.with_label_values(&[direction.as_str()]).inc_by(bytes);
    }

    /// Counts cosignatures given ([`Direction::Out`]) or received.
    pub fn cosignatures(&self, direction: Direction, count: u64) {
        self.cosignatures.with_label_values(&[direction.as_str()]).inc_by(count);
    }

    /// Counts a request to the sign-in listener by its code, which never comes from outside this program.
    pub fn signed_in(&self, what: &'static str, code: &str) {
        self.signed_in.with_label_values(&[code, what]).inc();
    }

    /// Counts a submission forwarded to another node; `answered` whatever the answer says.
    pub fn forwarded(&self, answered: bool) {
        self.forwarded.with_label_values(&[if answered { "answered" } else { "unreachable" }]).inc();
    }

    /// Counts a broken rule by its code, which never comes from outside this program.
    pub fn fault(&self, code: &'static str) {
        self.faults.with_label_values(&[code]).inc();
    }

    /// Counts an attempt to deliver an event to a webhook, whose name is from the configuration.
    pub fn webhook(&self, name: &str, outcome: &'static str) {
        self.webhooks.with_label_values(&[outcome, name]).inc();
    }

    /// Shows a webhook before anything was delivered to it.
    pub fn webhook_begins(&self, name: &str) {
        for outcome in ["delivered", "failed", "given_up"] {
            self.webhooks.with_label_values(&[outcome, name]);
        }
    }

    /// Counts bytes that the scrub has read and found intact.
    pub fn scrubbing(&self, bytes: u64) {
        self.scrub_bytes.inc_by(bytes);
    }

    /// Records that the scrub completed a pass at `now`.
    pub fn scrubbed(&self, now: Millis) {
        self.scrub_last.set(gauge(now.0 / 1_000));
    }

    /// Records that a backup was finished at `now`.
    pub fn backed_up(&self, now: Millis) {
        self.backup_last.set(gauge(now.0 / 1_000));
    }

    /// Counts an HTTP request. `route` is the pattern of the path, never the path itself, which a client chooses.
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

    /// Sets every gauge that shows [`crate::health::Health`], as of `now`.
    pub fn set_health(&self, health: &Snapshot, own: Option<&Domain>, started: Millis, now: Millis) {
        let seconds_since = |time: Millis| gauge(now.0.saturating_sub(time.0) / 1_000);
        for (log, known) in &health.logs {
            self.log(log, known.size, known.certified, known.newest.max(known.size), known.fault.is_some());
            let unfinal = health.unfinal_since.get(log).map_or(0, |since| seconds_since(*since));
            self.log_unfinal.with_label_values(&[&log.to_string()]).set(unfinal);
        }
        for (name, operator) in health.operators.iter().filter(|(name, _)| own != Some(name)) {
            let silent = seconds_since(operator.heard.unwrap_or(started));
            self.heard.with_label_values(&[name.as_str()]).set(silent);
        }
        self.start.set(gauge(started.0 / 1_000));
        self.peers.set(i64::try_from(health.peers).unwrap_or(i64::MAX));
        self.ranking_lag.set(i64::try_from(health.ranking_lag).unwrap_or(i64::MAX));
        self.domains_lost.set(gauge(health.lost_domains.len() as u64));
        self.waiting.set(i64::from(health.waiting.is_some()));
        let quick = health.quick.as_ref();
        self.quick.set(i64::from(quick.is_some_and(|quick| quick.phase == "answering")));
        self.quick_rows.set(quick.map_or(0, |quick| gauge(quick.rows)));
        self.quick_bytes.set(quick.map_or(0, |quick| gauge(quick.bytes)));
        for code in WriteWarning::ALL.map(WriteWarning::code) {
            self.warnings.with_label_values(&[code]).set(i64::from(health.warnings.contains(&code)));
        }
    }

    /// Sets what the process takes, each in bytes; `None` is left as it is.
    pub fn takes(&self, memory: Option<u64>, disk: Option<u64>, disk_free: Option<u64>) {
        for (metric, bytes) in [(&self.memory, memory), (&self.disk, disk), (&self.disk_free, disk_free)] {
            if let Some(bytes) = bytes {
                metric.set(gauge(bytes));
            }
        }
    }

    /// Sets whether `/readyz` answers 200, how many operators are heard, and how many must be.
    pub fn ready(&self, ready: bool, heard: usize, needed: usize) {
        self.ready.set(i64::from(ready));
        self.operators_heard.set(gauge(heard as u64));
        self.operators_needed.set(gauge(needed as u64));
    }

    /// Everything in Prometheus' text format.
    ///
    /// # Errors
    /// Never, for the metrics of this program.
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
