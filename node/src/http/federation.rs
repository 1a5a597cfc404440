//! `GET /api/federation` and its manifests: the operators, their logs, and the progress of each.
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use ed25519_dalek::VerifyingKey;
use fama_ledger::id::Hex;
use fama_ledger::jose::JoseKey;
use fama_ledger::key::PublicKey;
use fama_ledger::rows::{self, LogRow, MapName};
use fama_ledger::time::Millis;
use fama_ledger::{codec, equivocation, manifest, token};
use schemars::JsonSchema;
use serde::Serialize;

use super::moment::Moment;
use super::{ApiError, App};
use crate::health;
use crate::public::heads;
use crate::store::LogRecord;

#[derive(Serialize, JsonSchema)]
pub(super) struct FederationView {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) manifest: ManifestView,
    pub(super) quorum: usize,
    pub(super) faults: usize,
    pub(super) operators: Vec<OperatorView>,
    pub(super) logs: Vec<LogView>,
    /// All versions, oldest first; `GET /api/federation/manifests` has their texts.
    pub(super) versions: Vec<VersionView>,
    /// This node's own stands, as signed notes: in these logs it cosigns nothing more until the next version holds.
    pub(super) stands: Vec<String>,
    pub(super) equivocations: Vec<EquivocationView>,
    pub(super) pending: Option<PendingView>,
    /// Conflicting texts of one version, as signed notes. While there are any, this node cosigns nothing more.
    pub(super) halted: Vec<String>,
    pub(super) state_id: String,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct VersionView {
    pub(super) version: u32,
    pub(super) hash: String,
}

/// A version that this node has but does not use yet.
#[derive(Serialize, JsonSchema)]
pub(super) struct PendingView {
    pub(super) version: u32,
    pub(super) hash: String,
    pub(super) text: String,
    pub(super) waits_for: String,
}

/// Two signed heads of one log that don't extend each other.
#[derive(Serialize, JsonSchema)]
pub(super) struct EquivocationView {
    pub(super) log: String,
    pub(super) larger: HeadView,
    pub(super) smaller: HeadView,
    /// The whole proof in the ledger's encoding, as hex.
    pub(super) encoded: String,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct HeadView {
    pub(super) size: u64,
    pub(super) root: String,
}

/// The head at which a log ends forever.
#[derive(Serialize, JsonSchema)]
pub(super) struct CutView {
    pub(super) version: u32,
    pub(super) size: u64,
    pub(super) root: String,
    pub(super) state_root: String,
    pub(super) adopted: u32,
    pub(super) successor: String,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct ManifestView {
    pub(super) version: u32,
    pub(super) hash: String,
    #[schemars(with = "std::collections::BTreeMap<String, u64>")]
    pub(super) policy: manifest::Policy,
    /// The signed note, as nodes exchange it.
    pub(super) text: String,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct OperatorView {
    pub(super) name: String,
    pub(super) node_key: String,
    pub(super) governance_key: String,
    pub(super) generation: u32,
    /// The time from which its log may have entries.
    pub(super) begins: String,
    pub(super) addresses: Vec<String>,
    pub(super) query: Option<String>,
    pub(super) submit: Option<String>,
    pub(super) issuer: Option<String>,
    pub(super) token_keys: Vec<String>,
    pub(super) last_heard: Option<String>,
    pub(super) connected: bool,
    pub(super) homes: Vec<String>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct LogView {
    pub(super) log: String,
    pub(super) operator: String,
    pub(super) generation: u32,
    pub(super) size: u64,
    pub(super) root: String,
    pub(super) state_root: String,
    pub(super) certified: u64,
    pub(super) newest_known: u64,
    pub(super) lag: u64,
    pub(super) fault: Option<&'static str>,
    /// The version that introduced the log.
    pub(super) since: u32,
    /// The version that the log has adopted; 0 before its first entry.
    pub(super) adopted: u32,
    /// The newest version whose adoption one note with a quorum certifies; before that, the one that introduced the log.
    pub(super) certified_version: u32,
    pub(super) cut: Option<CutView>,
    pub(super) cosignatures: Vec<CosignatureView>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct CosignatureView {
    pub(super) operator: String,
    pub(super) size: u64,
    pub(super) time: String,
}

pub(super) async fn federation(State(app): State<Arc<App>>) -> Result<Json<FederationView>, ApiError> {
    read(&Moment::open(&app)?).map(Json)
}

pub(super) fn read(moment: &Moment<'_>) -> Result<FederationView, ApiError> {
    let manifest = &moment.app.shared.manifest;
    let governance = moment.app.shared.health.read().governance.clone();
    Ok(FederationView {
        id: manifest.federation().to_string(),
        name: manifest.name().to_owned(),
        manifest: ManifestView {
            version: manifest.version(),
            hash: manifest.hash().to_string(),
            policy: *manifest.policy(),
            text: manifest.note().to_string(),
        },
        quorum: manifest.quorum(),
        faults: manifest.faults(),
        operators: manifest.operators().iter().map(|one| operator(moment.app, one)).collect(),
        logs: logs(moment)?,
        versions: versions(manifest),
        stands: governance.stands,
        equivocations: governance.equivocations.iter().map(equivocation).collect(),
        pending: governance.pending.map(pending),
        halted: governance.halted,
        state_id: moment.state_id().to_string(),
    })
}

/// The chain of versions, genesis first, as concatenated signed notes.
/// The answer of `GET /api/federation/issuers`.
#[derive(Serialize, JsonSchema)]
pub(super) struct IssuersView {
    pub(super) federation: String,
    pub(super) manifest_version: u32,
    /// In the manifest's order; operators that issue no tokens are not among them.
    pub(super) issuers: Vec<IssuerView>,
}

/// An operator that issues tokens. A key counts for tokens of its own issuer only: there is no set of all keys.
#[derive(Serialize, JsonSchema)]
pub(super) struct IssuerView {
    pub(super) operator: String,
    /// The `iss` of its tokens.
    pub(super) issuer: String,
    /// Where its keys are shown as a JWK set.
    pub(super) jwks: String,
    /// JWK thumbprints (RFC 7638): the `kid` of its tokens.
    pub(super) kids: Vec<String>,
}

pub(super) async fn issuers(State(app): State<Arc<App>>) -> Json<IssuersView> {
    let manifest = &app.shared.manifest;
    let issuer = |operator: &manifest::Operator| {
        let kid = |key: &VerifyingKey| JoseKey::Ledger(PublicKey::Ed25519(key.to_bytes())).thumbprint();
        Some(IssuerView {
            operator: operator.name.to_string(),
            issuer: operator.endpoints.issuer.clone()?,
            jwks: format!("/api/federation/issuers/{}/jwks.json", operator.name),
            kids: operator.endpoints.token_keys.iter().map(kid).collect(),
        })
    };
    Json(IssuersView {
        federation: manifest.federation().to_string(),
        manifest_version: manifest.version(),
        issuers: manifest.operators().iter().filter_map(issuer).collect(),
    })
}

pub(super) async fn jwks(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Response, ApiError> {
    let mut operators = app.shared.manifest.operators().iter();
    let operator = operators.find(|operator| operator.name.as_str() == name && operator.endpoints.issuer.is_some());
    let unknown = || ApiError::not_found("unknown_issuer", format!("{name} is no operator that issues tokens"));
    let set = token::jwk_set(operator.ok_or_else(unknown)?);
    Ok(([(header::CONTENT_TYPE, "application/jwk-set+json")], set.to_string()).into_response())
}

pub(super) async fn manifests(State(app): State<Arc<App>>) -> String {
    app.shared.manifest.chain()
}

fn versions(manifest: &manifest::Manifest) -> Vec<VersionView> {
    let one = |one: &manifest::Manifest| VersionView { version: one.version(), hash: one.hash().to_string() };
    let mut versions: Vec<VersionView> = manifest.versions().map(one).collect();
    versions.reverse();
    versions
}

fn pending(pending: health::PendingManifest) -> PendingView {
    let health::PendingManifest { version, hash, text, waits_for } = pending;
    PendingView { version, hash: hash.to_string(), text, waits_for }
}

fn equivocation(proof: &equivocation::Equivocation) -> EquivocationView {
    let head = |head: &fama_ledger::log::Head| HeadView { size: head.size, root: head.root.to_string() };
    EquivocationView {
        log: proof.log.to_string(),
        larger: head(&proof.larger.0),
        smaller: head(&proof.smaller.0),
        encoded: Hex(&codec::encode(proof)).to_string(),
    }
}

/// The operators' logs in the manifest's order, then the logs that were cut.
fn logs(moment: &Moment<'_>) -> Result<Vec<LogView>, ApiError> {
    let mut logs = moment.logs().iter().map(|record| log(moment, record)).collect::<Result<Vec<_>, _>>()?;
    for name in moment.app.shared.manifest.logs().keys().filter(|name| moment.record(name).is_none()) {
        logs.push(log(moment, &moment.record_of(name)?)?);
    }
    Ok(logs)
}

fn cut((version, cut): &(u32, manifest::Cut)) -> CutView {
    CutView {
        version: *version,
        size: cut.head.size,
        root: cut.head.root.to_string(),
        state_root: cut.state_root.to_string(),
        adopted: cut.adopted,
        successor: cut.successor.to_string(),
    }
}

fn operator(app: &App, operator: &manifest::Operator) -> OperatorView {
    let known = app.shared.health.read().operators.get(&operator.name).cloned().unwrap_or_default();
    let key = |key: &[u8; 32]| PublicKey::Ed25519(*key).to_string();
    let endpoints = operator.endpoints.clone();
    OperatorView {
        name: operator.name.to_string(),
        node_key: key(operator.node_key.as_bytes()),
        governance_key: key(operator.governance_key.as_bytes()),
        generation: operator.generation,
        begins: operator.begins.to_string(),
        addresses: operator.addresses.clone(),
        query: endpoints.query,
        submit: endpoints.submit,
        issuer: endpoints.issuer,
        token_keys: endpoints.token_keys.iter().map(|token| key(token.as_bytes())).collect(),
        last_heard: known.heard.map(|time| time.to_string()),
        connected: known.connected || app.operator.as_ref() == Some(&operator.name),
        homes: app.shared.manifest.homes_of(&operator.log()).map(ToString::to_string).collect(),
    }
}

fn log(moment: &Moment<'_>, record: &LogRecord) -> Result<LogView, ApiError> {
    let state = &record.state;
    let newest = moment.newest(&state.log)?.max(state.size);
    let cosigned = moment.view.cosigned(&state.log)?.into_iter().map(|one| CosignatureView {
        operator: one.cosignature.operator.to_string(),
        size: one.signed.head.size,
        time: Millis(one.cosignature.seconds.saturating_mul(1_000)).to_string(),
    });
    let known = moment.app.shared.manifest.log(&state.log);
    let row = rows::read::<LogRow, _>(&moment.view, MapName::log(&state.log).id(), &())?;
    let certificate = heads::certificate(&moment.view, &state.log)?;
    let certified_version = certificate.map_or(0, |held| record.adopted_at(held.signed.head.size));
    let since = known.map_or(0, |known| known.since);
    Ok(LogView {
        since,
        certified_version: certified_version.max(since),
        adopted: row.map_or(0, |row| row.version),
        cut: known.and_then(|known| known.cut.as_ref()).map(cut),
        log: state.log.to_string(),
        operator: state.log.operator.to_string(),
        generation: state.log.generation,
        size: state.size,
        root: state.root.to_string(),
        state_root: state.state_root.to_string(),
        certified: record.certified,
        newest_known: newest,
        lag: newest.saturating_sub(state.size),
        fault: moment.app.shared.health.read().logs.get(&state.log).and_then(|known| known.fault),
        cosignatures: cosigned.collect(),
    })
}
