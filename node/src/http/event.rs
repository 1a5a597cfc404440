//! `GET /api/event/{id}`: one event, where it stands, what became of it, and its receipt.
use std::cmp::Reverse;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use ed25519_dalek::VerifyingKey;
use fama_ledger::base64;
use fama_ledger::checkpoint::{self, Cosignature};
use fama_ledger::entry::Body;
use fama_ledger::id::{EventId, NoteHash};
use fama_ledger::log::{prove_inclusion, root_at};
use fama_ledger::manifest::LogId;
use fama_ledger::proof::TlogProof;
use fama_ledger::signed_note::SignedNote;
use serde::Serialize;

use super::moment::Moment;
use super::{ApiError, App};
use crate::network::wire::{NoteAnswer, SignedHead};
use crate::store::Position;

#[derive(Serialize)]
pub(super) struct Event {
    id: String,
    kind: &'static str,
    text: String,
    signer: String,
    signature: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    countersignature: Option<String>,
    positions: Vec<Stands>,
    note: Option<Note>,
    /// Proof for the first position, as a c2sp.org/tlog-proof.
    receipt: Option<String>,
}

/// Where an event stands.
#[derive(Serialize)]
struct Stands {
    log: String,
    index: u64,
    time: String,
    outcome: &'static str,
    r#final: bool,
}

#[derive(Serialize)]
struct Note {
    hash: String,
    text: Option<String>,
    redacted: bool,
    pending: bool,
}

pub(super) async fn event(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<Event>, ApiError> {
    let id: EventId = id.parse().map_err(|rule| ApiError::bad("bad_id", format!("id: {rule}")).with("field", "id"))?;
    read(&app, id).map(Json)
}

fn read(app: &App, id: EventId) -> Result<Event, ApiError> {
    let moment = Moment::open(app)?;
    let mut positions = moment.view.positions(&id)?;
    // Where it had its effect comes first; a foreign log may have it too, without effect.
    positions.sort_by_key(|position| position.void.is_some());
    let unknown = || ApiError::not_found("unknown_event", "no event of this id is known here");
    let first = positions.first().ok_or_else(unknown)?;
    let Body::Event(signed) = moment.entry(&first.log, first.index)?.1.body else {
        return Err(ApiError::internal("an index names an entry without event"));
    };
    let receipt = receipt(&moment, &first.log, first.index)?;
    let positions = positions.iter().map(|position| stands(&moment, position)).collect::<Result<_, _>>()?;
    Ok(Event {
        id: id.to_string(),
        kind: signed.event.action.kind().as_str(),
        text: signed.event.text(),
        signer: signed.signer.to_string(),
        signature: base64::encode(signed.signature.as_bytes()),
        countersignature: signed.countersignature.map(|signature| base64::encode(signature.as_bytes())),
        positions,
        note: signed.event.action.note().map(|hash| note(&moment, hash)).transpose()?,
        receipt,
    })
}

fn stands(moment: &Moment<'_>, position: &Position) -> Result<Stands, ApiError> {
    let Position { log, index, void } = position;
    Ok(Stands {
        log: log.to_string(),
        index: *index,
        time: moment.entry(log, *index)?.1.time.to_string(),
        outcome: void.map_or("applied", |void| void.code()),
        r#final: moment.is_final(log, *index),
    })
}

fn note(moment: &Moment<'_>, hash: NoteHash) -> Result<Note, ApiError> {
    let answer = moment.view.note(&hash)?;
    let (redacted, pending) = (answer == Some(NoteAnswer::Redacted), answer.is_none());
    let text = match answer {
        Some(NoteAnswer::Text(text)) => Some(text),
        _ => None,
    };
    Ok(Note { hash: format!("sha256:{hash}"), text, redacted, pending })
}

/// Proof that the entry is in the log; `None` until the node holds a signed head above it.
///
/// Leads to a head that a quorum cosigned if there is one, else to the newest.
fn receipt(moment: &Moment<'_>, log: &LogId, index: u64) -> Result<Option<String>, ApiError> {
    let mut heads = heads(moment, log, moment.record_of(log)?.state.size)?;
    heads.retain(|(signed, _)| signed.head.size > index);
    let quorum = moment.app.manifest.quorum();
    heads.sort_by_key(|(signed, cosigned)| Reverse((cosigned.len() >= quorum, signed.head.size)));
    let tiles = moment.view.tiles(log);
    for (signed, cosigned) in heads {
        if root_at(signed.head.size, &tiles)? == signed.head.root {
            let path = prove_inclusion(index, signed.head.size, &tiles)?;
            let checkpoint = checkpoint(moment, log, &signed, &cosigned)?;
            return Ok(checkpoint.map(|checkpoint| TlogProof { extra: None, index, path, checkpoint }.to_string()));
        }
    }
    Ok(None)
}

/// The signed heads of at most `size` entries that this node has, each with its cosignatures.
pub(super) fn heads(
    moment: &Moment<'_>,
    log: &LogId,
    size: u64,
) -> Result<Vec<(SignedHead, Vec<Cosignature>)>, ApiError> {
    let mut heads: Vec<(SignedHead, Vec<Cosignature>)> = Vec::new();
    let known = moment.view.newest(log)?.into_iter().map(|signed| (signed, None));
    let cosigned = moment.view.cosigned(log)?.into_iter().map(|one| (one.signed, Some(one.cosignature)));
    for (signed, cosignature) in known.chain(cosigned).filter(|(signed, _)| signed.head.size <= size) {
        match heads.iter_mut().find(|(other, _)| other.head == signed.head) {
            Some((_, cosignatures)) => cosignatures.extend(cosignature),
            None => heads.push((signed, cosignature.into_iter().collect())),
        }
    }
    Ok(heads)
}

/// The note of a head with these cosignatures, each with the node key that made it.
pub(super) fn checkpoint(
    moment: &Moment<'_>,
    log: &LogId,
    head: &SignedHead,
    cosignatures: &[Cosignature],
) -> Result<Option<SignedNote>, ApiError> {
    let manifest = &moment.app.manifest;
    let signed = head.verify(manifest, log).map_err(ApiError::internal)?;
    let Some(owner) = manifest.log(log) else { return Ok(None) };
    let holds = |one: &Cosignature, key: &VerifyingKey| one.verify(signed.checkpoint(), key).is_ok();
    let key = |one: &Cosignature| {
        let by = manifest.generations(&one.operator).find(|(_, key)| holds(one, key))?;
        Some((one.clone(), *by.1))
    };
    let cosigned: Vec<_> = cosignatures.iter().filter_map(key).collect();
    Ok(Some(checkpoint::note(&signed, &owner.node_key, &cosigned)))
}
