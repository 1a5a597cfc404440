//! Loads ranges of rows from several peers at once. Each range is verified on its own and stored with what is missing.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use fama_ledger::log::Head;
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::snapshot::Offered;
use libp2p::PeerId;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::gather::{Choice, choose, covers};
use super::{StateSync, StateSyncError};
use crate::health::{BEHIND_MIN, StateSyncProgress};
use crate::network::Network;
use crate::store::{self, Part, Store};
use crate::wire::{ROWS_MAX, RowRange, SyncRequest, SyncResponse};

/// Most ranges that are fetched at once.
const FETCHES_MAX: usize = 8;
/// Most of these from one peer.
const FETCHES_PER_PEER_MAX: usize = 4;
/// A map with about this many rows or more is loaded in several stretches at once.
const SPLIT_ROWS: u64 = 2 * ROWS_MAX as u64;
/// Keys begin with a tag, mostly followed by a hash: the keys of each tag are split into this many stretches.
const SPLITS_PER_TAG: u8 = 4;
/// The largest tag whose keys are split.
const SPLIT_TAG_MAX: u8 = 12;
/// After how many requests in a row without rows a peer is no longer asked.
const SILENCES_MAX: u32 = 3;
/// How long to wait before peers are asked again.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest such wait while not everything is offered.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// After how long without rows an attempt is given up.
const STALLED: Duration = Duration::from_secs(60);

/// The loading of one log.
struct LogLoad {
    choice: Choice,
    stretches: Vec<Stretch>,
}

struct Stretch {
    part: Part,
    on_its_way: bool,
    done: bool,
}

/// The outcome of one request for rows.
struct Fetched {
    log: LogId,
    head: Head,
    stretch: usize,
    peer: PeerId,
    outcome: Result<ProvenRows, Failed>,
}

/// Verified rows of a stretch, and the key from which the rest follows; `None` if they are complete.
struct ProvenRows {
    rows: Vec<(Vec<u8>, Vec<u8>)>,
    next: Option<Vec<u8>>,
}

/// Why a range was not loaded.
enum Failed {
    /// The peer no longer has this state.
    Gone,
    /// The peer did not answer, or not now.
    Silent,
    /// The answer's proof is invalid, or it answers something else: a stable code.
    Lied(&'static str),
}

/// The loading of all logs, and the peers that are asked.
struct Loader {
    store: Arc<Store>,
    network: Network,
    logs: BTreeMap<LogId, LogLoad>,
    silent: BTreeMap<PeerId, u32>,
    liars: BTreeSet<PeerId>,
    fetches: JoinSet<Fetched>,
    asked: BTreeMap<PeerId, usize>,
    progress: StateSyncProgress,
}

impl LogLoad {
    fn new(choice: Choice, parts: Vec<Part>) -> Self {
        let stretches = parts.into_iter().map(|part| Stretch { part, on_its_way: false, done: false }).collect();
        Self { choice, stretches }
    }

    fn is_done(&self) -> bool {
        self.stretches.iter().all(|stretch| stretch.done)
    }

    fn parts(&self) -> Vec<Part> {
        self.stretches.iter().filter(|stretch| !stretch.done).map(|stretch| stretch.part.clone()).collect()
    }
}

/// The parts of a log to load: each map in one stretch, a large map in several.
fn parts(offered: &Offered) -> Vec<Part> {
    let mut parts = Vec::new();
    for (map, rows) in (0u16..).zip(&offered.rows) {
        let mut from = Vec::new();
        if *rows >= SPLIT_ROWS {
            for tag in 1..=SPLIT_TAG_MAX {
                for split in 0..SPLITS_PER_TAG {
                    let to = vec![tag, split * (u8::MAX / SPLITS_PER_TAG + 1)];
                    parts.push(Part { map, from: std::mem::replace(&mut from, to.clone()), to: Some(to) });
                }
            }
        }
        parts.push(Part { map, from, to: None });
    }
    parts
}

impl StateSync {
    /// Loads all logs, continuing where an earlier attempt ended. `None` if the node is not far behind, or stops.
    pub(super) async fn load(&mut self, held: Option<Arc<Store>>) -> Result<Option<Arc<Store>>, StateSyncError> {
        let Some((manifest, chosen)) = self.chosen().await? else { return Ok(None) };
        let store = match held {
            Some(store) if store.manifest().hash() == manifest.hash() => store,
            Some(store) => {
                // Begun under another version of the manifest: nothing of it can be used. A crash between the two
                // leaves no folder, or this one, and the next start decides again.
                store::close(store).await;
                self.delete().await;
                self.open(Arc::clone(&manifest)).await?
            }
            None => self.open(Arc::clone(&manifest)).await?,
        };
        let mut loader = Loader::new(Arc::clone(&store), self.bridge.network().clone());
        loader.begin(&manifest, chosen).await?;
        let started = Instant::now();
        tracing::info!(rows = loader.progress.rows_about, "loading a certified state");
        if !self.load_all(&manifest, &mut loader).await? {
            return Ok(None);
        }
        let all: Vec<Offered> = loader.logs.values().map(|log| Offered::clone(&log.choice.offered)).collect();
        // One synced write: before it the folder is a load to continue, after it a state that answers.
        store.finish_loading(&all)?;
        self.report(|quick| *quick = Some(loader.progress.clone()));
        let StateSyncProgress { rows, bytes, .. } = loader.progress;
        tracing::info!(rows, bytes, seconds = started.elapsed().as_secs_f64(), "loaded a certified state");
        Ok(Some(store))
    }

    /// Loads until no rows are missing; `false` if the node stops before that.
    async fn load_all(&mut self, manifest: &Arc<Manifest>, loader: &mut Loader) -> Result<bool, StateSyncError> {
        let mut heard = Instant::now();
        while !loader.is_done() {
            self.report(|quick| *quick = Some(loader.progress.clone()));
            if let Some(log) = loader.without_source().filter(|_| loader.fetches.is_empty()) {
                if heard.elapsed() > STALLED {
                    return Err(StateSyncError::NoSource(log));
                }
                if self.rest(PAUSE).await {
                    return Ok(false);
                }
                loader.find_sources(choose(self.offers(manifest).await)).await?;
            }
            loader.ask();
            let fetched = tokio::select! {
                _ = self.stopped.wait_for(|stopped| *stopped) => return Ok(false),
                fetched = loader.fetches.join_next() => fetched,
            };
            let fetched = fetched.transpose().map_err(|_| StateSyncError::Internal("a fetch panicked"))?;
            if let Some(fetched) = fetched
                && loader.take(fetched).await?
            {
                heard = Instant::now();
            }
        }
        Ok(true)
    }

    /// What to load, once peers offer all of it. `None` if the node is not far behind, or stops.
    async fn chosen(&mut self) -> Result<Option<(Arc<Manifest>, BTreeMap<LogId, Choice>)>, StateSyncError> {
        self.report(|quick| *quick = Some(StateSyncProgress { phase: "asking", ..StateSyncProgress::default() }));
        let (asked, mut pause) = (Instant::now(), PAUSE);
        loop {
            let manifest = self.manifest().await?;
            let chosen = choose(self.offers(&manifest).await);
            let held = |log: &LogId| self.shared.health.read().logs.get(log).map_or(0, |log| log.size);
            let behind: u64 =
                chosen.iter().map(|(log, choice)| choice.offered.head().size.saturating_sub(held(log))).sum();
            let heard = !chosen.is_empty() || asked.elapsed() > STALLED;
            if heard && behind < BEHIND_MIN && self.behind() < BEHIND_MIN {
                return Ok(None);
            }
            match covers(&manifest, chosen.values().map(|choice| &*choice.offered)) {
                Ok(()) => return Ok(Some((manifest, chosen))),
                Err(error) => tracing::debug!(%error, "peers do not offer everything yet"),
            }
            if self.rest(pause).await {
                return Ok(None);
            }
            // Peers connect one by one; once there are offers, what is still missing will take longer.
            if !chosen.is_empty() {
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}

impl Loader {
    fn new(store: Arc<Store>, network: Network) -> Self {
        Self {
            store,
            network,
            logs: BTreeMap::new(),
            silent: BTreeMap::new(),
            liars: BTreeSet::new(),
            fetches: JoinSet::new(),
            asked: BTreeMap::new(),
            progress: StateSyncProgress { phase: "loading", ..StateSyncProgress::default() },
        }
    }

    /// Continues what an earlier attempt left of each log, from any peer: one may still have that state. Other logs
    /// start from the beginning.
    async fn begin(&mut self, manifest: &Arc<Manifest>, chosen: BTreeMap<LogId, Choice>) -> Result<(), StateSyncError> {
        let everybody: BTreeSet<PeerId> = chosen.values().flat_map(|choice| choice.sources.iter().copied()).collect();
        for (log, choice) in chosen {
            let held = self.store.view().loading(&log)?;
            let held = held.and_then(|(offer, parts)| Some((offer.verify(manifest).ok()?, offer, parts)));
            match held {
                Some((offered, offer, parts)) => {
                    let choice = Choice { offer, offered: Arc::new(offered), sources: everybody.clone() };
                    self.logs.insert(log, LogLoad::new(choice, parts));
                }
                None => self.load_from_start(log, choice).await?,
            }
        }
        self.progress.rows_about = self.logs.values().flat_map(|log| &log.choice.offered.rows).sum();
        Ok(())
    }

    async fn load_from_start(&mut self, log: LogId, choice: Choice) -> Result<(), StateSyncError> {
        let parts = parts(&choice.offered);
        let (store, begun) = (Arc::clone(&self.store), (log.clone(), choice.clone(), parts.clone()));
        let write = move || {
            let (log, choice, parts) = begun;
            store.begin_loading(&log, (&choice.offer, &choice.offered), &parts)
        };
        tokio::task::spawn_blocking(write).await.map_err(|_| StateSyncError::Internal("a write panicked"))??;
        self.logs.insert(log, LogLoad::new(choice, parts));
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.logs.values().all(LogLoad::is_done)
    }

    /// A log that lacks rows and has no source left.
    fn without_source(&self) -> Option<LogId> {
        let mut found = self.logs.iter().filter(|(_, log)| !log.is_done() && log.choice.sources.is_empty());
        found.next().map(|(log, _)| log.clone())
    }

    /// Gives logs without a source new ones from `offers`. A log that is offered at another head only is loaded again
    /// from the beginning.
    async fn find_sources(&mut self, mut offers: BTreeMap<LogId, Choice>) -> Result<(), StateSyncError> {
        self.silent.clear();
        while let Some(log) = self.without_source() {
            let Some(mut choice) = offers.remove(&log) else { return Ok(()) };
            choice.sources.retain(|peer| !self.liars.contains(peer));
            if choice.sources.is_empty() {
                return Ok(());
            }
            match self.logs.get_mut(&log) {
                Some(known) if known.choice.offered.head() == choice.offered.head() => known.choice = choice,
                _ => self.load_from_start(log, choice).await?,
            }
        }
        Ok(())
    }

    /// Sends requests until [`FETCHES_MAX`] are under way or there is nothing to ask.
    fn ask(&mut self) {
        while self.fetches.len() < FETCHES_MAX {
            let Some((log, stretch, peer)) = self.next() else { return };
            let Some(known) = self.logs.get_mut(&log) else { return };
            let (network, offered) = (self.network.clone(), Arc::clone(&known.choice.offered));
            let Some(chosen) = known.stretches.get_mut(stretch) else { return };
            chosen.on_its_way = true;
            *self.asked.entry(peer).or_default() += 1;
            let part = chosen.part.clone();
            self.fetches.spawn(async move {
                let outcome = fetch(&network, peer, &log, Arc::clone(&offered), part).await;
                Fetched { head: offered.head(), log, stretch, peer, outcome }
            });
        }
    }

    /// The next stretch to ask for, and the source with the fewest requests under way.
    fn next(&self) -> Option<(LogId, usize, PeerId)> {
        let load = |peer: &PeerId| self.asked.get(peer).copied().unwrap_or_default();
        self.logs.iter().find_map(|(log, known)| {
            let stretch = known.stretches.iter().position(|stretch| !stretch.done && !stretch.on_its_way)?;
            let peer = known.choice.sources.iter().min_by_key(|peer| load(peer))?;
            (load(peer) < FETCHES_PER_PEER_MAX).then(|| (log.clone(), stretch, *peer))
        })
    }

    /// Handles the outcome of a request; `true` if rows were stored.
    async fn take(&mut self, fetched: Fetched) -> Result<bool, StateSyncError> {
        let Fetched { log, head, stretch, peer, outcome } = fetched;
        self.asked.entry(peer).and_modify(|asked| *asked = asked.saturating_sub(1));
        match outcome {
            Ok(range) => {
                self.silent.remove(&peer);
                return self.keep(&log, head, stretch, range).await;
            }
            Err(Failed::Lied(code)) => {
                tracing::warn!(%peer, %log, code, "a peer sent rows that are not the certified ones; others are asked instead");
                self.network.penalize(peer, code);
                self.liars.insert(peer);
                self.drop_source(peer, None);
            }
            Err(Failed::Gone) => self.drop_source(peer, Some(&log)),
            Err(Failed::Silent) => {
                let silences = self.silent.entry(peer).or_default();
                *silences += 1;
                if *silences >= SILENCES_MAX {
                    self.drop_source(peer, None);
                } else {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        let known = self.logs.get_mut(&log).filter(|known| known.choice.offered.head() == head);
        if let Some(stretch) = known.and_then(|known| known.stretches.get_mut(stretch)) {
            stretch.on_its_way = false;
        }
        Ok(false)
    }

    fn drop_source(&mut self, peer: PeerId, of: Option<&LogId>) {
        for (_, log) in self.logs.iter_mut().filter(|(log, _)| of.is_none_or(|of| of == *log)) {
            log.choice.sources.remove(&peer);
        }
    }

    async fn keep(
        &mut self,
        log: &LogId,
        head: Head,
        stretch: usize,
        range: ProvenRows,
    ) -> Result<bool, StateSyncError> {
        // Rows requested before the log was started again at another head are useless.
        let known = self.logs.get_mut(log).filter(|known| known.choice.offered.head() == head);
        let Some(known) = known else { return Ok(false) };
        let Some(of) = known.stretches.get_mut(stretch) else { return Ok(false) };
        (of.on_its_way, of.done) = (false, range.next.is_none());
        let map = known.choice.offered.maps.get(usize::from(of.part.map)).map(|(name, _)| name.id());
        of.part.from = range.next.unwrap_or_default();
        let Some(map) = map else { return Err(StateSyncError::Internal("a map that was not offered")) };
        self.progress.rows += range.rows.len() as u64;
        self.progress.bytes += range.rows.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum::<u64>();
        let (store, log, parts) = (Arc::clone(&self.store), log.clone(), known.parts());
        let write = tokio::task::spawn_blocking(move || store.put_rows(&log, map, &range.rows, &parts));
        write.await.map_err(|_| StateSyncError::Internal("a write panicked"))??;
        Ok(true)
    }
}

async fn fetch(
    network: &Network,
    peer: PeerId,
    log: &LogId,
    offered: Arc<Offered>,
    part: Part,
) -> Result<ProvenRows, Failed> {
    let Part { map, from, to } = part.clone();
    let request = SyncRequest::Rows { log: log.clone(), head: offered.head(), map, from, to };
    match network.sync(peer, request).await {
        Ok(SyncResponse::Rows(rows)) => {
            let proved = tokio::task::spawn_blocking(move || prove(&offered, &part, rows)).await;
            proved.unwrap_or(Err(Failed::Silent))
        }
        Ok(SyncResponse::Refused(refusal)) if refusal.code == "snapshot_gone" => Err(Failed::Gone),
        Ok(SyncResponse::Refused(_)) => Err(Failed::Silent),
        Ok(_) => Err(Failed::Lied("wrong_answer")),
        Err(error) => {
            tracing::debug!(%peer, %log, %error, "request for rows failed");
            Err(Failed::Silent)
        }
    }
}

/// The rows of a stretch, if their proof is valid.
fn prove(offered: &Offered, part: &Part, answer: RowRange) -> Result<ProvenRows, Failed> {
    let RowRange { mut rows, proof } = answer;
    let Some((_, root)) = offered.maps.get(usize::from(part.map)) else { return Err(Failed::Gone) };
    let ends = proof.verify(root, &part.from, &rows).map_err(|error| Failed::Lied(error.code()))?;
    let beyond = |key: &[u8]| part.to.as_deref().is_some_and(|to| key >= to);
    let Some((last, _)) = rows.last() else { return Ok(ProvenRows { rows, next: None }) };
    // No key lies between a key and the same key with a zero byte appended.
    let next = (!ends && !beyond(last)).then(|| [last.as_slice(), &[0]].concat());
    rows.retain(|(key, _)| !beyond(key));
    Ok(ProvenRows { rows, next })
}
