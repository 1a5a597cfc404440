//! `GET /api/event/{id}`: an event, its positions in logs, its outcome there, and a receipt.
use std::cmp::Reverse;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use fama_ledger::base64;
use fama_ledger::entry::Body;
use fama_ledger::event::{Action, Event};
use fama_ledger::id::{EventId, NoteHash};
use fama_ledger::log::prove_inclusion;
use fama_ledger::manifest::LogId;
use fama_ledger::proof::TlogProof;
use schemars::JsonSchema;
use serde::Serialize;

use super::moment::Moment;
use super::{ApiError, App};
use crate::public::{heads, inclusion};
use crate::store::Position;
use crate::wire::NoteAnswer;

#[derive(Serialize, JsonSchema)]
pub(super) struct EventView {
    pub(super) id: String,
    pub(super) kind: &'static str,
    pub(super) text: String,
    pub(super) signer: String,
    pub(super) signature: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) countersignature: Option<String>,
    pub(super) positions: Vec<PositionView>,
    /// For an applied attestation, or a retraction: of the attestation that it takes back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) attestation: Option<CountedView>,
    pub(super) note: Option<NoteView>,
    /// Inclusion proof for the first position, as a c2sp.org/tlog-proof.
    pub(super) receipt: Option<String>,
}

/// What an attestation counts for.
#[derive(Serialize, JsonSchema)]
pub(super) struct CountedView {
    pub(super) event: String,
    /// Its number in the provider's sequence of attestations and retractions.
    pub(super) number: u64,
    /// The number of its retraction in the same sequence.
    pub(super) retracted_by: Option<u64>,
    /// What the day's cap left of its delta.
    pub(super) effective: i32,
    /// Whether it counts now: its number is sponsored, and its retraction's is not.
    pub(super) counts: bool,
    /// What the cap of its day leaves to further attestations of this provider to this subject, up or down.
    pub(super) cap_left: u32,
}

/// The position of an event in a log.
#[derive(Serialize, JsonSchema)]
pub(super) struct PositionView {
    pub(super) log: String,
    pub(super) index: u64,
    pub(super) time: String,
    pub(super) outcome: &'static str,
    pub(super) r#final: bool,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct NoteView {
    pub(super) hash: String,
    pub(super) text: Option<String>,
    pub(super) redacted: bool,
    pub(super) pending: bool,
}

pub(super) async fn event(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<EventView>, ApiError> {
    let id: EventId = id.parse().map_err(|rule| ApiError::bad("bad_id", format!("id: {rule}")).with("field", "id"))?;
    read(&Moment::open(&app)?, id).map(Json)
}

pub(super) fn read(moment: &Moment<'_>, id: EventId) -> Result<EventView, ApiError> {
    let mut positions = moment.view.positions(&id)?;
    // The position where the event took effect comes first; other logs may have it too, without effect.
    positions.sort_by_key(|position| position.void.is_some());
    let unknown = || moment.unknown("unknown_event", "no event of this id is known here");
    let first = positions.first().ok_or_else(unknown)?;
    let Body::Event(signed) = moment.entry(&first.log, first.index)?.1.body else {
        return Err(ApiError::internal("an index names an entry without an event"));
    };
    let receipt = receipt(moment, &first.log, first.index)?;
    let positions = positions.iter().map(|position| position_view(moment, position)).collect::<Result<_, _>>()?;
    Ok(EventView {
        id: id.to_string(),
        kind: signed.event.action.kind().as_str(),
        text: signed.event.text(),
        signer: signed.signer.to_string(),
        signature: base64::encode(signed.signature.as_bytes()),
        countersignature: signed.countersignature.map(|signature| base64::encode(signature.as_bytes())),
        positions,
        attestation: counted(moment, &signed.event)?,
        note: signed.event.action.note().map(|hash| note(moment, hash)).transpose()?,
        receipt,
    })
}

/// What the attestation that an event makes or takes back counts for; `None` if it has no such row, for example if it was
/// void.
fn counted(moment: &Moment<'_>, event: &Event) -> Result<Option<CountedView>, ApiError> {
    let (home, key, id) = match &event.action {
        Action::Attest { home, issuer, subject, .. } => (home, (*subject, *issuer, event.created.day()), event.id()),
        Action::Retract { home, issuer, subject, day, attestation } => (home, (*subject, *issuer, *day), *attestation),
        _ => return Ok(None),
    };
    let day = moment.join().day(home, key)?;
    let Some(row) = day.iter().find(|row| row.event == id) else { return Ok(None) };
    let used = day.iter().fold(0u32, |used, row| used.saturating_add(row.effective.unsigned_abs()));
    Ok(Some(CountedView {
        event: id.to_string(),
        number: row.number,
        retracted_by: row.retraction,
        effective: row.effective,
        counts: row.counted(&moment.sponsored(key.1)?).count > 0,
        cap_left: moment.app.shared.manifest.policy().daily_cap.saturating_sub(used),
    }))
}

fn position_view(moment: &Moment<'_>, position: &Position) -> Result<PositionView, ApiError> {
    let Position { log, index, void } = position;
    Ok(PositionView {
        log: log.to_string(),
        index: *index,
        time: moment.entry(log, *index)?.1.time.to_string(),
        outcome: void.map_or("applied", |void| void.code()),
        r#final: moment.is_final(log, *index),
    })
}

fn note(moment: &Moment<'_>, hash: NoteHash) -> Result<NoteView, ApiError> {
    let answer = moment.view.note(&hash)?;
    let (redacted, pending) = (answer == Some(NoteAnswer::Redacted), answer.is_none());
    let text = match answer {
        Some(NoteAnswer::Text(text)) => Some(text),
        _ => None,
    };
    Ok(NoteView { hash: format!("sha256:{hash}"), text, redacted, pending })
}

/// Proof that the entry is in the log, under its certificate if that covers the entry, else under the owner's newest
/// head. `None` until the node has a signed head above the entry.
fn receipt(moment: &Moment<'_>, log: &LogId, index: u64) -> Result<Option<String>, ApiError> {
    if let Some(proof) = inclusion::certified(&moment.view, &moment.app.shared.manifest, log, index)? {
        return Ok(Some(proof.to_string()));
    }
    let mut found = heads::all(&moment.view, log, moment.record_of(log)?.state.size)?;
    found.retain(|held| held.signed.head.size > index);
    found.sort_by_key(|held| Reverse(held.signed.head.size));
    let Some(held) = heads::first_on_branch(&moment.view, log, found)? else { return Ok(None) };
    let path = prove_inclusion(index, held.signed.head.size, &moment.view.tiles(log))?;
    let checkpoint = held.note(&moment.app.shared.manifest, log).map_err(ApiError::internal)?;
    Ok(checkpoint.map(|checkpoint| TlogProof { extra: None, index, path, checkpoint }.to_string()))
}
