//! `GET /metrics`, `/healthz` and `/readyz` of the admin listener, for the operator's own programs.
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use fama_ledger::replica::WriteWarning;
use serde_json::json;

use super::moment::{Moment, operators_heard};
use super::{ApiError, App, Serving};
use crate::clock;

/// The operator vouches for the clock.
const ACCEPT_CLOCK: &str = WriteWarning::AcceptClock.code();

pub(super) async fn metrics(State(app): State<Arc<App>>) -> Result<impl IntoResponse, ApiError> {
    app.shared.metrics.set_health(&app.shared.health.read(), app.operator.as_ref(), app.started, clock::now());
    let (disk, free) = app.shared.store.disk_bytes();
    app.shared.metrics.takes(resident_bytes(), disk, free);
    let text = app.shared.metrics.encode().map_err(ApiError::internal)?;
    Ok(([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT), (header::CACHE_CONTROL, "no-store")], text))
}

/// Resident memory of this process, in bytes; `None` where the system does not tell.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1_024)
}

/// Liveness: 200 as long as the process answers. Checks nothing.
pub(super) async fn healthz() -> impl IntoResponse {
    ([(header::CACHE_CONTROL, "no-store")], Json(json!({"status": "ok"})))
}

/// Readiness: 200 if clients may be sent to this node, else 503 with the reasons: store, lag, faults, start.
pub(super) async fn readyz(State(app): State<Arc<App>>, Serving(shown): Serving) -> Response {
    let (reasons, warnings) = readiness(&app, &shown);
    if reasons.is_empty() {
        let ready = json!({"status": "ready", "warnings": warnings});
        return ([(header::CACHE_CONTROL, "no-store")], Json(ready)).into_response();
    }
    let message = format!("not ready: {}", reasons.join(", "));
    let error = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", message);
    error.with("reasons", reasons).with("warnings", warnings).into_response()
}

/// Why the node, which answers from `shown`, is not ready, if it isn't, and what its operator should look at.
pub(super) fn readiness(app: &App, shown: &App) -> (Vec<String>, Vec<&'static str>) {
    let mut reasons = reasons(app, shown);
    let health = app.shared.health.read();
    let mut warnings = health.warnings.clone();
    if !health.lost_domains.is_empty() {
        warnings.push("domain_lost");
    }
    match health.quick.as_ref().map(|quick| quick.phase) {
        Some("answering") => warnings.push("quick"),
        Some("disagrees") => warnings.push("quick_disagrees"),
        Some("loading") => reasons.push("loading".to_owned()),
        _ => {}
    }
    (reasons, warnings)
}

/// Why the node, which answers from `shown`, is not ready: stable words, with details after a colon.
pub(super) fn reasons(app: &App, shown: &App) -> Vec<String> {
    let now = clock::now();
    let mut reasons = Vec::new();
    match Moment::open(shown).and_then(|moment| moment.lags()) {
        Err(_) => reasons.push("store".to_owned()),
        Ok(true) => reasons.push("lagging".to_owned()),
        Ok(false) => {}
    }
    if operators_heard(app, now) < app.operators_needed() {
        reasons.push("too_few_operators_heard".to_owned());
    }
    let health = app.shared.health.read();
    let rollback = health.rollback.as_ref();
    reasons.extend(rollback.map(|now| format!("rollback: {}, {} entries left in {}", now.phase, now.left, now.log)));
    reasons.extend(health.waiting.map(|code| format!("waiting: {code}")));
    let wrong_clock = health.wrong_clock.filter(|code| health.waiting != Some(code));
    reasons.extend(wrong_clock.filter(|_| !health.warnings.contains(&ACCEPT_CLOCK)).map(str::to_owned));
    let faults = health.logs.iter().filter_map(|(log, known)| Some(format!("fault: {} in {log}", known.fault?)));
    reasons.extend(faults);
    reasons
}
