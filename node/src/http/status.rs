//! `GET /api` and `GET /api/status`: what this service is, and its progress.
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;

use super::admin::readiness;
use super::moment::{Moment, operators_heard};
use super::verify::WINDOW_MILLIS;
use super::{ApiError, App, Serving};
use crate::clock;
use crate::health::{BEHIND_MIN, LogHealth, Snapshot, StateSyncProgress};

/// Paths by name: first those that MLAuth's clients use, under MLAuth's names, then the others.
const ENDPOINTS: [(&str, &str); 33] = [
    ("status", "/api/status"),
    ("agent", "/api/agent/{name@home | id | did}"),
    ("verify", "/api/verify"),
    ("leaderboard", "/api/leaderboard"),
    ("agents", "/api/agents"),
    ("agent_attestations", "/api/agent/{name@home | id | did}/attestations"),
    ("agent_did", "/api/agent/{name@home | id | did}/did.json"),
    ("agent_events", "/api/agent/{name@home | id | did}/events"),
    ("agent_karma", "/api/agent/{name@home | id | did}/karma"),
    ("agent_grants", "/api/agent/{name@home | id | did}/grants"),
    ("agent_keys", "/api/agent/{name@home | id | did}/keys"),
    ("agent_sponsorship", "/api/agent/{name@home | id | did}/sponsorship"),
    ("consistency", "/api/federation/consistency"),
    ("fama_js", "/fama.js"),
    ("key", "/api/key/{key | hash}"),
    ("manifests", "/api/federation/manifests"),
    ("openapi", "/api/openapi.json"),
    ("search", "/api/search"),
    ("service", "/api/service/{name@home | id | did | service}"),
    ("services", "/api/services"),
    ("skill", "/skill.md"),
    ("stream", "/api/stream"),
    ("agent_proof", "/api/agent/{name@home | id | did}/proof"),
    ("event", "/api/event/{id}"),
    ("event_proof", "/api/event/{id}/proof"),
    ("event_template", "/api/event/template"),
    ("federation", "/api/federation"),
    ("issuers", "/api/federation/issuers"),
    ("issuer_keys", "/api/federation/issuers/{operator}/jwks.json"),
    ("checkpoint", "/log/{operator}/{generation}/checkpoint"),
    ("policy", "/log/policy"),
    ("manifest", "/manifest/{version}"),
    ("note", "/note/{hash}"),
];

const SERVICE: &str = "fama";
/// Header of answers of a node that may not have the newest.
pub(super) const STALE: HeaderName = HeaderName::from_static("fama-stale");

#[derive(Serialize, JsonSchema)]
pub(super) struct IndexView {
    pub(super) service: &'static str,
    pub(super) description: &'static str,
    pub(super) federation: FederationName,
    pub(super) operator: Option<String>,
    pub(super) links: BTreeMap<&'static str, &'static str>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct FederationName {
    pub(super) id: String,
    pub(super) name: String,
}

fn federation(app: &App) -> FederationName {
    FederationName { id: app.shared.manifest.federation().to_string(), name: app.shared.manifest.name().to_owned() }
}

pub(super) async fn index(State(app): State<Arc<App>>) -> Json<IndexView> {
    Json(IndexView {
        service: SERVICE,
        description: "a federated reputation ledger for agents; reads as MLAuth does",
        federation: federation(&app),
        operator: app.operator.as_ref().map(ToString::to_string),
        links: ENDPOINTS.into(),
    })
}

#[derive(Serialize, JsonSchema)]
pub(super) struct StatusView {
    pub(super) status: &'static str,
    pub(super) service: &'static str,
    pub(super) protocol_version: &'static str,
    pub(super) algorithm: &'static str,
    pub(super) timestamp_format: &'static str,
    pub(super) timestamp_window_seconds: u64,
    pub(super) endpoints: BTreeMap<&'static str, &'static str>,
    pub(super) federation: FederationName,
    pub(super) manifest_version: u32,
    pub(super) node_version: &'static str,
    pub(super) operator: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) started_at: String,
    pub(super) frontier: BTreeMap<String, u64>,
    pub(super) certified: BTreeMap<String, u64>,
    pub(super) state_id: String,
    pub(super) operators: usize,
    pub(super) operators_heard: usize,
    pub(super) fresh: bool,
    /// Whether `/readyz` of the admin listener says so.
    pub(super) ready: bool,
    /// Why it is not ready: stable words, with details after a colon.
    pub(super) reasons: Vec<String>,
    pub(super) waiting: Option<&'static str>,
    pub(super) ranking_lag: usize,
    /// Domains of services that this operator sponsors and that no longer name them, with a stable code.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) lost_domains: BTreeMap<String, &'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) start: Option<StartView>,
}

/// Progress of a node that is making its own copies.
#[derive(Serialize, JsonSchema)]
pub(super) struct StartView {
    /// Entries that the node fetched and verified itself.
    pub(super) entries: u64,
    /// Entries known to exist.
    pub(super) entries_of: u64,
    pub(super) entries_per_second: u64,
    /// `asking`, `loading` or `answering` from a certified state; `disagrees` if that state is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) quick: Option<&'static str>,
    pub(super) rows: u64,
    pub(super) rows_about: u64,
    pub(super) bytes: u64,
}

impl StartView {
    /// `None` if the node is not far behind and has no quick state.
    fn of(health: &Snapshot) -> Option<Self> {
        let sum = |of: fn(&LogHealth) -> u64| health.logs.values().map(of).sum::<u64>();
        let (entries, entries_of) = (sum(|log| log.size), sum(|log| log.newest.max(log.size)));
        let quick = health.quick.clone();
        (quick.is_some() || entries_of.saturating_sub(entries) >= BEHIND_MIN).then(|| {
            let StateSyncProgress { rows, rows_about, bytes, .. } = quick.clone().unwrap_or_default();
            let (entries_per_second, quick) = (health.entries_per_second, quick.map(|quick| quick.phase));
            Self { entries, entries_of, entries_per_second, quick, rows, rows_about, bytes }
        })
    }
}

pub(super) async fn status(State(own): State<Arc<App>>, Serving(app): Serving) -> Result<Json<StatusView>, ApiError> {
    read(&own, &Moment::open(&app)?).map(Json)
}

/// `own`: of the node's own copies; the moment: of what answers now.
pub(super) fn read(own: &App, moment: &Moment<'_>) -> Result<StatusView, ApiError> {
    let app = moment.app;
    let (waiting, start, lost_domains) = {
        let health = own.shared.health.read();
        let lost = health.lost_domains.iter().map(|(domain, code)| (domain.to_string(), *code));
        (health.waiting, StartView::of(&health), lost.collect())
    };
    let now = clock::now();
    let ranking_lag = app.shared.health.read().ranking_lag;
    let (reasons, _) = readiness(own, app);
    Ok(StatusView {
        status: "ok",
        service: SERVICE,
        protocol_version: "1.0",
        algorithm: "ECDSA-secp256k1-SHA256",
        timestamp_format: "ISO8601_UTC",
        timestamp_window_seconds: WINDOW_MILLIS / 1_000,
        endpoints: ENDPOINTS.into(),
        federation: federation(app),
        manifest_version: app.shared.manifest.version(),
        node_version: env!("CARGO_PKG_VERSION"),
        operator: app.operator.as_ref().map(ToString::to_string),
        namespace: app.namespace.as_ref().map(ToString::to_string),
        started_at: app.started.to_string(),
        frontier: moment.frontier(),
        certified: moment.certified(),
        state_id: moment.state_id().to_string(),
        operators: app.shared.manifest.operators().len(),
        operators_heard: operators_heard(app, now),
        fresh: moment.is_fresh(now)?,
        ready: reasons.is_empty(),
        reasons,
        waiting,
        ranking_lag,
        lost_domains,
        start,
    })
}

/// Says in every answer that may change, if this node may not have the newest: too few operators answer, it lacks
/// entries, or the certificates of more logs than may have lying owners are old.
pub(super) async fn tell_if_stale(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let changes = !response.headers().contains_key(header::CACHE_CONTROL);
    if changes && !is_live(&Serving::of(&app).0) {
        response.headers_mut().insert(STALE, HeaderValue::from_static("true"));
    }
    response
}

/// Whether this node hears enough operators, has all entries known to exist, and enough recent certificates.
pub(super) fn is_live(app: &App) -> bool {
    let (manifest, heard) = (&app.shared.manifest, operators_heard(app, clock::now()));
    let health = app.shared.health.read();
    let mut logs = health.logs.iter().filter(|(log, _)| manifest.cut(log).is_none());
    let whole = logs.all(|(_, log)| log.newest <= log.size);
    let enough = heard >= manifest.operators().len().saturating_sub(manifest.faults());
    whole && enough && health.old_logs <= manifest.faults()
}
