//! Fetches entries for the inbox: while the inbox folds one range of a log, the next is fetched and verified.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use fama_ledger::log::Head;
use fama_ledger::manifest::LogId;
use libp2p::PeerId;
use tokio::task::JoinHandle;

use super::Bridge;
use crate::inbox::{DecodedRange, InboxInput};
use crate::wire::{EntryRange, SyncRequest, SyncResponse};

/// Ranges fetched ahead at once, each of a different log.
const AHEAD_MAX: usize = 8;

/// Ranges that the inbox has not asked for yet, at most one per log.
#[derive(Clone, Default)]
pub(super) struct Ahead(Arc<Mutex<BTreeMap<LogId, Next>>>);

/// The range after the one last passed to the inbox; fetching stops when this is dropped.
struct Next {
    peer: PeerId,
    from: u64,
    head: Head,
    range: JoinHandle<Option<DecodedRange>>,
}

impl Drop for Next {
    fn drop(&mut self) {
        self.range.abort();
    }
}

impl Ahead {
    /// Takes the range fetched ahead for a log, whether or not it is the one wanted now.
    fn take(&self, log: &LogId) -> Option<Next> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(log)
    }

    fn put(&self, log: LogId, next: impl FnOnce() -> Next) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() < AHEAD_MAX {
            all.insert(log, next());
        }
    }
}

impl Bridge {
    /// Passes the inbox the entries that it asks for, and begins to fetch the next ones.
    pub(super) async fn fetch(self, peer: PeerId, log: LogId, from: u64, head: Head) {
        let next = self.ahead.take(&log).filter(|next| next.peer == peer && next.from == from);
        let found = match next {
            // It may be proved to an earlier head than the one asked for now; the owner signed that head too.
            Some(mut next) => (&mut next.range).await.ok().flatten().map(|range| (next.head, range)),
            None => None,
        };
        let found = match found {
            Some((head, range)) => {
                self.fetch_ahead(peer, &log, range.first.saturating_add(range.leaves.len() as u64), head);
                Some((head, range))
            }
            None => self.fetch_now(peer, &log, from, head).await.map(|range| (head, range)),
        };
        self.input(match found {
            Some((head, range)) => InboxInput::Range { peer, log, head, range },
            None => InboxInput::RangeFailed { peer, log },
        })
        .await;
    }

    async fn fetch_now(&self, peer: PeerId, log: &LogId, from: u64, head: Head) -> Option<DecodedRange> {
        let range = self.ask_entries(peer, log, from, head).await?;
        self.fetch_ahead(peer, log, range.first.saturating_add(range.entries.len() as u64), head);
        self.decode(range).await
    }

    async fn ask_entries(&self, peer: PeerId, log: &LogId, from: u64, head: Head) -> Option<EntryRange> {
        match self.network.sync(peer, SyncRequest::Entries { log: log.clone(), from, head }).await {
            Ok(SyncResponse::Entries(range)) => Some(range),
            Ok(_) => None,
            Err(error) => {
                tracing::debug!(%peer, %log, %error, "no entries");
                None
            }
        }
    }

    fn fetch_ahead(&self, peer: PeerId, log: &LogId, from: u64, head: Head) {
        if from >= head.size {
            return;
        }
        self.ahead.put(log.clone(), || {
            let (this, log, mut stopped) = (self.clone(), log.clone(), self.stopped.clone());
            let work = async move {
                let range = this.ask_entries(peer, &log, from, head).await?;
                this.decode(range).await
            };
            let range = tokio::spawn(async move {
                tokio::select! {
                    _ = stopped.wait_for(|stopped| *stopped) => None,
                    range = work => range,
                }
            });
            Next { peer, from, head, range }
        });
    }
}
