//! The logs' states at certified heads, offered to nodes that start from them and kept unchanged while those load.
//!
//! A request for offers pins a moment: a thread keeps a view of the database and, for each log, the state at its
//! certificate. The pin lasts while requests for its rows keep coming, up to ten minutes.
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fama_ledger::log::{Head, LogError, Tiles as _, prove_inclusion};
use fama_ledger::manifest::LogId;
use fama_ledger::map::KEY_BYTES_MAX;
use fama_ledger::public;
use fama_ledger::replica::Certificate;
use fama_ledger::rows::{LogRow, MapName, MapNodes, Rows as _, row_key};
use fama_ledger::snapshot::{self, Offer, edge_widths};

use crate::certified::{CertifiedRows, Front};
use crate::shared::Shared;
use crate::store::{StoreError, View};
use crate::wire::{ROWS_BYTES_SOFT, ROWS_MAX, Refusal, RowRange, SyncRequest, SyncResponse};

/// Moments pinned at once.
const PINS_MAX: usize = 2;
/// Age up to which a pinned moment is offered to further nodes although another one could be pinned.
const FRESH: Duration = Duration::from_secs(60);
/// Time without a request after which a pinned moment is released.
const IDLE: Duration = Duration::from_secs(30);
/// Longest time that a moment is pinned: meanwhile everything overwritten since stays on disk.
const LIFE: Duration = Duration::from_secs(600);
/// Requests waiting for one pinned moment.
const WAITING_MAX: usize = 16;
/// How long a request waits for its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

fn busy() -> Refusal {
    Refusal { retry_after: Some(1), ..Refusal::new("busy", "too many requests at once") }
}

/// The pinned moments of a node.
pub struct Snapshots {
    shared: Shared,
    pins: Mutex<Vec<Pin>>,
}

/// A pinned moment. Its thread ends soon after this is dropped.
struct Pin {
    begun: Instant,
    offers: Vec<Offer>,
    heads: BTreeMap<LogId, Head>,
    asks: SyncSender<RowRequest>,
    thread: JoinHandle<()>,
}

/// A request to a pinned moment, as in [`SyncRequest::Rows`].
struct RowRequest {
    log: LogId,
    map: u16,
    from: Vec<u8>,
    to: Option<Vec<u8>>,
    answer: SyncSender<Result<RowRange, Refusal>>,
}

/// What a pin's thread reports once the moment is pinned: the offers, and the head of each offered log.
type Begun = (Vec<Offer>, BTreeMap<LogId, Head>);

impl Snapshots {
    /// With no moment pinned yet.
    #[must_use]
    pub const fn new(shared: Shared) -> Self {
        Self { shared, pins: Mutex::new(Vec::new()) }
    }

    /// The answer to a request for offers or rows. Blocks while a moment is pinned or rows are read.
    pub fn answer(&self, request: &SyncRequest) -> SyncResponse {
        let answer = match request {
            SyncRequest::Offers => self.offers().map(SyncResponse::Offers),
            SyncRequest::Rows { log, head, map, from, to } => {
                self.rows((log, head), *map, from, to.as_deref()).map(SyncResponse::Rows)
            }
            _ => Err(Refusal::snapshot_gone()),
        };
        answer.unwrap_or_else(SyncResponse::Refused)
    }

    fn offers(&self) -> Result<Vec<Offer>, Refusal> {
        // Locked while a moment is being pinned, so that concurrent requests get the same moment.
        let mut pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        pins.retain(|pin| !pin.thread.is_finished());
        let fresh = pins.last().is_some_and(|pin| pin.begun.elapsed() < FRESH);
        if !fresh && pins.len() < PINS_MAX {
            pins.extend(self.pin()?);
        }
        Ok(pins.last().map(|pin| pin.offers.clone()).unwrap_or_default())
    }

    /// Pins this moment; `None` if no log has a certified state.
    fn pin(&self) -> Result<Option<Pin>, Refusal> {
        let (asks, asked) = sync_channel(WAITING_MAX);
        let (begin, begun) = sync_channel(1);
        let shared = self.shared.clone();
        let thread = std::thread::Builder::new().name("snapshot".into()).spawn(move || keep(&shared, &begin, &asked));
        let thread = thread.map_err(|error| {
            tracing::warn!(%error, "cannot start a thread for a snapshot");
            busy()
        })?;
        // The thread ends without a report if it has nothing to offer.
        let Ok((offers, heads)) = begun.recv_timeout(ANSWER_TIMEOUT) else { return Ok(None) };
        Ok((!offers.is_empty()).then(|| Pin { begun: Instant::now(), offers, heads, asks, thread }))
    }

    fn rows(
        &self,
        (log, head): (&LogId, &Head),
        map: u16,
        from: &[u8],
        to: Option<&[u8]>,
    ) -> Result<RowRange, Refusal> {
        // One byte more than a key: a key with a zero byte appended is the start of the rows after it.
        if from.len().max(to.map_or(0, <[u8]>::len)) > KEY_BYTES_MAX.saturating_add(1) {
            return Err(Refusal::new("bad_request", "the key is longer than any row's"));
        }
        let asks = {
            let pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
            let pin = pins.iter().rev().find(|pin| pin.heads.get(log) == Some(head));
            pin.map(|pin| pin.asks.clone()).ok_or_else(Refusal::snapshot_gone)?
        };
        let (answer, answered) = sync_channel(1);
        let ask = RowRequest { log: log.clone(), map, from: from.to_vec(), to: to.map(<[u8]>::to_vec), answer };
        asks.try_send(ask).map_err(|error| match error {
            TrySendError::Full(_) => busy(),
            TrySendError::Disconnected(_) => Refusal::snapshot_gone(),
        })?;
        answered.recv_timeout(ANSWER_TIMEOUT).unwrap_or_else(|_| Err(busy()))
    }
}

/// The thread of a pin: keeps a view of this moment and answers requests until they stop.
fn keep(shared: &Shared, begin: &SyncSender<Begun>, asked: &Receiver<RowRequest>) {
    let view = shared.store.view();
    let made = shared.certified.state(&view).and_then(|state| {
        let Some(state) = state else { return Ok(None) };
        let offers = state.fronts.iter().map(|(log, front)| offer(shared, &view, (log, front), &state));
        Ok(Some((offers.collect::<Result<Vec<_>, _>>()?, state)))
    });
    let (offers, state) = match made {
        Ok(Some(made)) => made,
        // A write came in between: the asker's next request finds it completed.
        Ok(None) => return,
        Err(error) => {
            tracing::error!(%error, "cannot make a snapshot");
            return;
        }
    };
    let heads = state.fronts.iter().map(|(log, front)| (log.clone(), front.certificate.head())).collect();
    if begin.send((offers, heads)).is_ok() {
        serve(&state, asked);
    }
}

fn serve(state: &CertifiedRows<'_>, asked: &Receiver<RowRequest>) {
    let begun = Instant::now();
    while begun.elapsed() < LIFE {
        let left = LIFE.saturating_sub(begun.elapsed()).min(IDLE);
        // Either no request came in time, or the pin was dropped.
        let Ok(ask) = asked.recv_timeout(left) else { return };
        let front = state.fronts.get(&ask.log);
        let rows = front.map_or_else(|| Err(Refusal::snapshot_gone()), |front| rows(state, front, &ask));
        // The asker may have given up.
        let _ = ask.answer.try_send(rows);
    }
}

fn offer(
    shared: &Shared,
    view: &View<'_>,
    (log, front): (&LogId, &Front),
    state: &CertifiedRows<'_>,
) -> Result<Offer, StoreError> {
    let size = front.certificate.head().size;
    let broken = |what: &str| shared.store.database(&format!("log {log}: {what}"));
    let Certificate { signed, cosignatures } = &*front.certificate;
    let checkpoint = public::checkpoint(&shared.manifest, log, signed, cosignatures);
    let checkpoint = checkpoint.ok_or_else(|| broken("its certificate has no note"))?.to_string();
    let last = size.saturating_sub(1);
    let entry = view.entry(log, last)?.ok_or_else(|| broken("the last entry is missing"))?;
    let tiles = view.tiles(log);
    let unproved = |error| match error {
        LogError::Tiles(error) => error,
        other => broken(&other.to_string()),
    };
    let path = prove_inclusion(last, size, &tiles).map_err(unproved)?;
    let adopted = view.adoption(log, size).map_err(unproved)?;
    let mut edge = Vec::new();
    for (level, width) in (0u8..).zip(edge_widths(size)) {
        let index = size.unbounded_shr(8 * (u32::from(level) + 1));
        let hashes = if width == 0 { Vec::new() } else { tiles.tile(level, index)? };
        edge.push(hashes.get(..width).ok_or_else(|| broken("a tile is too short"))?.to_vec());
    }
    let row = state.get(MapName::log(log).id(), &row_key::<LogRow>(&()))?;
    let row = row.ok_or_else(|| broken("its own row is missing"))?;
    let (maps, rows) = (snapshot::list(&front.maps), front.maps.iter().map(|(_, _, map)| map.len() as u64));
    Ok(Offer { checkpoint, state: entry, path, maps, row, edge, rows: rows.collect(), adopted })
}

/// Rows of a map as they were at the front's head, with the proof that none is missing between them.
fn rows(state: &CertifiedRows<'_>, front: &Front, ask: &RowRequest) -> Result<RowRange, Refusal> {
    let (name, id, map) = front.maps.iter().nth(ask.map.into()).ok_or_else(Refusal::snapshot_gone)?;
    let internal = || Refusal::new("internal", "this node's disk has a problem");
    let (mut rows, mut bytes) = (Vec::new(), 0usize);
    let read = state.rows_from(id, &ask.from, &mut |key, value| {
        bytes = bytes.saturating_add(key.len()).saturating_add(value.len());
        rows.push((key.to_vec(), value.to_vec()));
        let ends = ask.to.as_deref().is_some_and(|to| key >= to);
        let full = ends || rows.len() >= ROWS_MAX || bytes >= ROWS_BYTES_SOFT;
        if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    if let Err(error) = read {
        tracing::error!(%error, "rows of a snapshot could not be read");
        return Err(internal());
    }
    let proof = map.prove_range(&ask.from, rows.last().map(|(key, _)| key.as_slice()), &MapNodes(id, state));
    match proof {
        Ok(proof) if proof.verify(&map.root(), &ask.from, &rows).is_ok() => Ok(RowRange { rows, proof }),
        _ => {
            tracing::error!(log = %ask.log, map = name, "rows of a snapshot do not match their map");
            Err(internal())
        }
    }
}
