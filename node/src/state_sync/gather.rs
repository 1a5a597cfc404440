//! Asks peers, before anything is loaded, for versions of the manifest and for the certified states that they offer.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use fama_ledger::id::StateRoot;
use fama_ledger::limits::VERSIONS_MAX;
use fama_ledger::log::Head;
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::rows::MapName;
use fama_ledger::snapshot::{Offer, Offered, SnapshotError};
use libp2p::PeerId;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{StateSync, StateSyncError};
use crate::network::Network;
use crate::wire::{SyncRequest, SyncResponse};

/// Most peers that are asked for versions and offers.
const PEERS_MAX: usize = 8;
/// How long a peer may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// How much older a state that several peers offer may be than the newest one to be preferred to it, in milliseconds.
const OLDER_MILLIS_MAX: u64 = 60_000;

/// A verified offer of one log, and the peers that serve its rows.
#[derive(Clone)]
pub(super) struct Choice {
    pub(super) offer: Offer,
    pub(super) offered: Arc<Offered>,
    pub(super) sources: BTreeSet<PeerId>,
}

impl StateSync {
    /// The newest version that any peer has. Each version of its chain was checked.
    ///
    /// # Errors
    /// [`StateSyncError::Conflict`] if a peer has another valid text of that version.
    pub(super) async fn manifest(&self) -> Result<Arc<Manifest>, StateSyncError> {
        let held = self.shared.store.pending().unwrap_or_else(|| self.shared.store.manifest());
        let mut newest = Arc::clone(held);
        for peer in self.bridge.peers().into_iter().take(PEERS_MAX) {
            for _ in 0..VERSIONS_MAX {
                // From the newest version on, so that the answer includes its rivals.
                let request = SyncRequest::Manifests { from: newest.version().max(2) };
                let Some(SyncResponse::Manifests(texts)) = ask(self.bridge.network(), peer, request).await else {
                    break;
                };
                let before = newest.version();
                newest = follow(newest, &texts)?;
                if newest.version() == before {
                    break;
                }
            }
        }
        Ok(newest)
    }

    /// The verified offers of each peer. A peer with an invalid offer loses score.
    pub(super) async fn offers(&self, manifest: &Arc<Manifest>) -> Vec<(PeerId, Vec<(Offer, Offered)>)> {
        let mut asked = JoinSet::new();
        for peer in self.bridge.peers().into_iter().take(PEERS_MAX) {
            let (network, manifest) = (self.bridge.network().clone(), Arc::clone(manifest));
            asked.spawn(async move {
                let Some(SyncResponse::Offers(offers)) = ask(&network, peer, SyncRequest::Offers).await else {
                    return (peer, Vec::new());
                };
                let proved = tokio::task::spawn_blocking(move || prove(offers, &manifest)).await;
                let (proved, fault) = proved.unwrap_or_default();
                if let Some(error) = fault {
                    tracing::debug!(%peer, code = error.code(), %error, "offer refused");
                    network.penalize(peer, error.code());
                }
                (peer, proved)
            });
        }
        asked.join_all().await
    }
}

async fn ask(network: &Network, peer: PeerId, request: SyncRequest) -> Option<SyncResponse> {
    timeout(ANSWER_TIMEOUT, network.sync(peer, request)).await.ok()?.ok()
}

/// The newest of the versions that follow `newest`. Texts that don't follow it are skipped.
///
/// # Errors
/// [`StateSyncError::Conflict`] if a text is a valid rival.
fn follow(mut newest: Arc<Manifest>, texts: &[String]) -> Result<Arc<Manifest>, StateSyncError> {
    for text in texts {
        let rival = newest.previous().and_then(|previous| previous.successor(text).ok());
        if rival.is_some_and(|rival| rival.hash() != newest.hash()) {
            return Err(StateSyncError::Conflict(newest.version()));
        }
        if let Ok(next) = newest.successor(text) {
            newest = Arc::new(next);
        }
    }
    Ok(newest)
}

/// The valid offers, or none and the error of the first that is invalid.
fn prove(offers: Vec<Offer>, manifest: &Manifest) -> (Vec<(Offer, Offered)>, Option<SnapshotError>) {
    let mut proved = Vec::new();
    for offer in offers {
        match offer.verify(manifest) {
            Ok(offered) => proved.push((offer, offered)),
            // No fault: either side may lack the version of the manifest that begins or ends this log.
            Err(SnapshotError::Unheld(_) | SnapshotError::Log(_) | SnapshotError::Outdated { .. }) => {}
            Err(error) => return (Vec::new(), Some(error)),
        }
    }
    proved.dedup_by_key(|(_, offered)| offered.log());
    (proved, None)
}

/// For each log, the newest state that several peers offer, unless one peer offers a much newer one. All peers that
/// offer the chosen state become its sources.
pub(super) fn choose(all: Vec<(PeerId, Vec<(Offer, Offered)>)>) -> BTreeMap<LogId, Choice> {
    let mut states: BTreeMap<LogId, BTreeMap<(Head, StateRoot), Choice>> = BTreeMap::new();
    for (peer, offers) in all {
        for (offer, offered) in offers {
            let of_log = states.entry(offered.log()).or_default();
            let choice = of_log.entry((offered.head(), offered.state_root)).or_insert_with(|| Choice {
                offer,
                offered: Arc::new(offered),
                sources: BTreeSet::new(),
            });
            choice.sources.insert(peer);
        }
    }
    states.into_iter().filter_map(|(log, states)| Some((log, best(states.into_values())?))).collect()
}

fn best(states: impl Iterator<Item = Choice>) -> Option<Choice> {
    let states: Vec<Choice> = states.collect();
    let newest = states.iter().map(|state| state.offered.row.time.0).max()?;
    let recent = |state: &Choice| state.offered.row.time.0.saturating_add(OLDER_MILLIS_MAX) >= newest;
    let shared = |state: &Choice| state.sources.len() > 1;
    states.into_iter().filter(recent).max_by_key(|state| (shared(state), state.offered.head().size))
}

/// Checks that the offers of `chosen` carry every map that an answer may read.
///
/// # Errors
/// [`StateSyncError::Uncovered`] names what is missing.
pub(super) fn covers<'a>(
    manifest: &Manifest,
    chosen: impl Iterator<Item = &'a Offered> + Clone,
) -> Result<(), StateSyncError> {
    let missing = manifest.operators().iter().map(|operator| operator.log());
    let mut missing = missing.filter(|log| !chosen.clone().any(|offered| offered.log() == *log));
    if let Some(log) = missing.next() {
        return Err(StateSyncError::Uncovered(log.to_string()));
    }
    let homes = manifest.homes().keys().map(MapName::home);
    let statements = manifest.operators().iter().map(|operator| MapName::statements(&operator.name));
    let claims = manifest.records().keys().map(MapName::claims);
    let mut wanted = homes.chain(statements).chain(claims);
    let carried: BTreeSet<&MapName> = chosen.flat_map(|offered| offered.maps.iter().map(|(name, _)| name)).collect();
    match wanted.find(|name| !carried.contains(name)) {
        Some(name) => Err(StateSyncError::Uncovered(name.as_str().to_owned())),
        None => Ok(()),
    }
}
