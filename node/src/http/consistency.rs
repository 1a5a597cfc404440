//! `GET /api/federation/consistency`: proof that a log's head extends an earlier one, and the log's state there.
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use fama_ledger::codec;
use fama_ledger::entry::{Body, Entry};
use fama_ledger::id::{Hex, StateRoot};
use fama_ledger::limits;
use fama_ledger::log::{Head, prove_consistency, root_at};
use fama_ledger::manifest::LogId;
use fama_ledger::rows::{self, LogRow, MapName};
use schemars::JsonSchema;
use serde::Serialize;

use super::input::Params;
use super::layers::Place;
use super::moment::Moment;
use super::{ApiError, App};
use crate::public::heads;
use crate::store::LogRecord;

/// Most entries above a head that are searched for later adoptions.
const ENTRIES_ABOVE_MAX: u64 = 16_384;
/// Bytes of entries that are read at once.
const ENTRIES_BYTES: usize = 1 << 20;

#[derive(Serialize, JsonSchema)]
pub(super) struct Consistency {
    log: String,
    from: From,
    to: To,
    /// RFC 6962 consistency proof: hashes in hex.
    proof: Vec<String>,
    /// The owner's signed head at `to` as a note, with the cosignatures that this node has; `None` without such a head.
    checkpoint: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct From {
    size: u64,
    root: String,
}

#[derive(Serialize, JsonSchema)]
struct To {
    size: u64,
    root: String,
    /// `None` if no batch ends at `size`.
    state_root: Option<String>,
    /// The manifest version adopted at `size`; `None` if no batch ends there, or more than [`ENTRIES_ABOVE_MAX`]
    /// entries follow.
    adopted: Option<u32>,
    /// How many versions adopted up to `size` are not known to this node to be certified by a quorum.
    uncertified_adoptions: usize,
}

pub(super) async fn consistency(
    State(app): State<Arc<App>>,
    place: Place,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<Consistency>, ApiError> {
    let params = Params::new(pairs, &["log", "from", "to"])?;
    let log = params.get("log").unwrap_or_default().parse();
    let log: LogId = log.map_err(|error| ApiError::bad("bad_log", error).with("field", "log"))?;
    let (from, to) = (size(&params, "from")?.unwrap_or(0), size(&params, "to")?);
    place.read(move || read(&app, &log, from, to)).await.map(Json)
}

fn size(params: &Params, name: &'static str) -> Result<Option<u64>, ApiError> {
    let number = |text: &str| text.parse().map_err(|_| ApiError::bad("bad_size", "want a size").with("field", name));
    params.get(name).map(number).transpose()
}

fn read(app: &App, log: &LogId, from: u64, to: Option<u64>) -> Result<Consistency, ApiError> {
    let moment = Moment::open(app)?;
    if app.shared.manifest.log(log).is_none() {
        return Err(ApiError::not_found("unknown_log", format!("no version of the manifest has the log {log}")));
    }
    let record = moment.view.log(log)?;
    let held = record.as_ref().map_or(0, |record| record.state.size);
    let to = to.unwrap_or(held);
    if from > to || to > held {
        let message = format!("this node's copy has {held} entries; want from ≤ to ≤ {held}");
        return Err(ApiError::bad("bad_size", message).with("size", held));
    }
    let tiles = moment.view.tiles(log);
    let (old, new) = (root_at(from, &tiles)?, root_at(to, &tiles)?);
    let state_root = state_root(&moment, log, to)?;
    let adopted = if state_root.is_some() { adopted(&moment, log, to, held)? } else { None };
    let uncertified_adoptions = record.map_or(0, |record| uncertified(&record, to));
    Ok(Consistency {
        log: log.to_string(),
        from: From { size: from, root: old.to_string() },
        to: To {
            size: to,
            root: new.to_string(),
            state_root: state_root.map(|root| root.to_string()),
            adopted,
            uncertified_adoptions,
        },
        proof: prove_consistency(from, to, &tiles)?.iter().map(|hash| Hex(hash).to_string()).collect(),
        checkpoint: checkpoint(&moment, log, Head { size: to, root: new })?,
    })
}

/// The state root in the last entry below `size`; `None` if that entry does not end a batch.
fn state_root(moment: &Moment<'_>, log: &LogId, size: u64) -> Result<Option<StateRoot>, ApiError> {
    let Some(last) = size.checked_sub(1) else { return Ok(None) };
    Ok(match moment.entry(log, last)?.1.body {
        Body::State { root } => Some(root),
        _ => None,
    })
}

/// The manifest version adopted at `size`: the current one minus the number of adoptions since. No version is ever
/// skipped.
fn adopted(moment: &Moment<'_>, log: &LogId, size: u64, held: u64) -> Result<Option<u32>, ApiError> {
    if held.saturating_sub(size) > ENTRIES_ABOVE_MAX {
        return Ok(None);
    }
    let row = rows::read::<LogRow, _>(&moment.view, MapName::log(log).id(), &())?;
    let mut version = row.map_or(0, |row| row.version);
    let mut next = size;
    while next < held {
        let entries = moment.view.entries(log, next, limits::BATCH_ENTRIES_MAX, ENTRIES_BYTES)?;
        for bytes in &entries {
            let entry: Entry = codec::decode(bytes, limits::ENTRY_BYTES_MAX)?;
            version = version.saturating_sub(u32::from(matches!(entry.body, Body::Adopt { .. })));
        }
        next = next.saturating_add(entries.len().max(1) as u64);
    }
    Ok(Some(version))
}

fn uncertified(record: &LogRecord, size: u64) -> usize {
    record.adopted.iter().filter(|adopted| record.certified < adopted.size && adopted.size <= size).count()
}

fn checkpoint(moment: &Moment<'_>, log: &LogId, head: Head) -> Result<Option<String>, ApiError> {
    let found = heads::all(&moment.view, log, head.size)?.into_iter().find(|held| held.signed.head == head);
    let Some(held) = found else { return Ok(None) };
    let note = held.note(&moment.app.shared.manifest, log).map_err(ApiError::internal)?;
    Ok(note.map(|note| note.to_string()))
}
