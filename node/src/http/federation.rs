//! `GET /api/federation`: who the operators are and how far each log is.
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use fama_ledger::key::PublicKey;
use fama_ledger::manifest;
use fama_ledger::time::Millis;
use serde::Serialize;

use super::moment::Moment;
use super::{ApiError, App};
use crate::store::LogRecord;

#[derive(Serialize)]
pub(super) struct Federation {
    id: String,
    name: String,
    manifest: Manifest,
    quorum: usize,
    faults: usize,
    operators: Vec<Operator>,
    logs: Vec<Log>,
    state_id: String,
}

#[derive(Serialize)]
struct Manifest {
    version: u32,
    hash: String,
    policy: manifest::Policy,
    /// The signed note as it is handed from node to node.
    text: String,
}

#[derive(Serialize)]
struct Operator {
    name: String,
    node_key: String,
    governance_key: String,
    generation: u32,
    addresses: Vec<String>,
    last_heard: Option<String>,
    connected: bool,
    homes: Vec<String>,
}

#[derive(Serialize)]
struct Log {
    log: String,
    operator: String,
    generation: u32,
    size: u64,
    root: String,
    state_root: String,
    certified: u64,
    newest_known: u64,
    lag: u64,
    fault: Option<&'static str>,
    cosignatures: Vec<Cosignature>,
}

#[derive(Serialize)]
struct Cosignature {
    operator: String,
    size: u64,
    time: String,
}

pub(super) async fn federation(State(app): State<Arc<App>>) -> Result<Json<Federation>, ApiError> {
    let moment = Moment::open(&app)?;
    let manifest = &app.manifest;
    Ok(Json(Federation {
        id: manifest.federation().to_string(),
        name: manifest.name().to_owned(),
        manifest: Manifest {
            version: manifest.version(),
            hash: manifest.hash().to_string(),
            policy: *manifest.policy(),
            text: manifest.note().to_string(),
        },
        quorum: manifest.quorum(),
        faults: manifest.faults(),
        operators: manifest.operators().iter().map(|one| operator(&app, one)).collect(),
        logs: moment.logs.iter().map(|record| log(&moment, record)).collect::<Result<_, _>>()?,
        state_id: moment.state_id().to_string(),
    }))
}

fn operator(app: &App, operator: &manifest::Operator) -> Operator {
    let known = app.health.read().operators.get(&operator.name).cloned().unwrap_or_default();
    let key = |key: &[u8; 32]| PublicKey::Ed25519(*key).to_string();
    Operator {
        name: operator.name.to_string(),
        node_key: key(operator.node_key.as_bytes()),
        governance_key: key(operator.governance_key.as_bytes()),
        generation: operator.generation,
        addresses: operator.addresses.clone(),
        last_heard: known.heard.map(|time| time.to_string()),
        connected: known.connected || app.operator.as_ref() == Some(&operator.name),
        homes: app.manifest.homes_of(&operator.log()).map(ToString::to_string).collect(),
    }
}

fn log(moment: &Moment<'_>, record: &LogRecord) -> Result<Log, ApiError> {
    let state = &record.state;
    let newest = moment.newest(&state.log)?.max(state.size);
    let cosigned = moment.view.cosigned(&state.log)?.into_iter().map(|one| Cosignature {
        operator: one.cosignature.operator.to_string(),
        size: one.signed.head.size,
        time: Millis(one.cosignature.seconds.saturating_mul(1_000)).to_string(),
    });
    Ok(Log {
        log: state.log.to_string(),
        operator: state.log.operator.to_string(),
        generation: state.log.generation,
        size: state.size,
        root: state.root.to_string(),
        state_root: state.state_root.to_string(),
        certified: record.certified,
        newest_known: newest,
        lag: newest.saturating_sub(state.size),
        fault: moment.app.health.read().logs.get(&state.log).and_then(|known| known.fault),
        cosignatures: cosigned.collect(),
    })
}
