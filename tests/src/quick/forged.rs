//! A short log whose owner and a quorum lie: they certify a state that its entries do not produce.
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fama_ledger::batch::{LogMaps, state_root};
use fama_ledger::checkpoint::{self, Checkpoint, Cosignature, SignedCheckpoint};
use fama_ledger::codec;
use fama_ledger::entry::{Entry, VerifiedEntry};
use fama_ledger::id::EventId;
use fama_ledger::log::{Head, MemoryTiles, Tree, leaf_hash, prove_inclusion};
use fama_ledger::manifest::LogId;
use fama_ledger::map::{StateMap, Whole, value_hash};
use fama_ledger::rows::{
    DayCounter, Identity, KeyVersion, LogRow, MapName, NameOwner, Row, Rows as _, Status, row_key, text_key,
};
use fama_ledger::snapshot::Offer;
use fama_ledger::time::Millis;
use fama_node::store::{self, Store};
use fama_node::wire::{CosignedHead, EntryRange, Refusal, RowRange, SignedHead, SyncRequest, SyncResponse};
use fama_tests::{DOMAINS, START, domain, node_key, secret};

use super::stand_in::AnswerFilter;
use crate::federation::LocalFederation;
use crate::governance;

/// The name of an identity that only the forged state has.
pub(super) const GHOST: &str = "ghost";

/// The part of the certified head that contradicts the owner's entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ForgeryKind {
    /// The tree: it is not the tree of the entries that the owner sends.
    Tree,
    /// The state: the tree is that of the entries, but their last state root is that of maps with one more identity.
    State,
}

type MapRows = BTreeMap<Vec<u8>, Vec<u8>>;

/// Everything that a stand-in sends about the log.
pub(super) struct Forged {
    lie: ForgeryKind,
    log: LogId,
    cosigned: Vec<CosignedHead>,
    offer: Offer,
    entries: Vec<Vec<u8>>,
    maps: Vec<(MapRows, StateMap)>,
}

impl Forged {
    /// Forges the log of the last operator; all nodes must be stopped.
    pub(super) async fn of(net: &LocalFederation, lie: ForgeryKind) -> Arc<Self> {
        let (log, manifest) = (governance::log(3, 1), &net.manifest);
        let store = Arc::new(Store::open(&net.data(0), manifest).unwrap());
        let mut entries = store.view().entries(&log, 0, usize::MAX, usize::MAX).unwrap();
        let names = LogMaps::names(manifest, &log);
        let mut rows: Vec<MapRows> = names.iter().map(|name| scanned(&store, name)).collect();
        store::close(store).await;
        let home = names.iter().position(|name| *name == MapName::home(&log.operator)).unwrap();
        if lie == ForgeryKind::State {
            add_ghost(&mut rows[home]);
        }
        let map = |rows: &MapRows| StateMap::from_sorted(rows.iter().map(|(key, value)| (key, value_hash(value))));
        let maps: Vec<_> =
            rows.into_iter().map(|rows| (map(&rows).unwrap(), rows)).map(|(map, rows)| (rows, map)).collect();
        let roots: Vec<_> =
            names.iter().zip(&maps).map(|(name, (_, map))| (name.as_str().to_owned(), map.root())).collect();
        let root = state_root(roots.iter().map(|(name, root)| (name.as_str(), *root)));
        let last = entries.pop().unwrap();
        let Entry { time, .. } = codec::decode(&last, last.len()).unwrap();
        entries.push(VerifiedEntry::state(time, root).bytes().to_vec());
        assert_eq!(
            entries.last() == Some(&last),
            lie == ForgeryKind::Tree,
            "the honest root is that of the honest maps"
        );
        let mut leaves: Vec<_> = entries.iter().map(|entry| leaf_hash(entry)).collect();
        leaves[0][0] ^= u8::from(lie == ForgeryKind::Tree);
        let (mut tree, mut tiles) = (Tree::default(), MemoryTiles::default());
        tiles.write(tree.append(leaves.clone()));
        let (head, owner) = (tree.head(), node_key(3).ed25519().unwrap().clone());
        let signed = SignedCheckpoint::sign(Checkpoint { origin: manifest.origin(&log), head }, &owner);
        let cosign = |i: u8| {
            let key = node_key(i).ed25519().unwrap().clone();
            let seconds = START.0 / 1_000;
            (
                Cosignature::sign(signed.checkpoint(), domain(DOMAINS[usize::from(i)]), &key, seconds),
                key.verifying_key(),
            )
        };
        let by: Vec<_> = (0..3).map(cosign).collect();
        let log_map = names.iter().position(|name| *name == MapName::log(&log)).unwrap();
        let offer = Offer {
            checkpoint: checkpoint::note(&signed, &owner.verifying_key(), &by).to_string(),
            state: entries.last().unwrap().clone(),
            path: prove_inclusion(head.size - 1, head.size, &tiles).unwrap(),
            row: maps[log_map].0[&row_key::<LogRow>(&())].clone(),
            edge: vec![leaves],
            adopted: None,
            rows: maps.iter().map(|(rows, _)| rows.len() as u64).collect(),
            maps: roots,
        };
        offer.verify(manifest).expect("nothing in it tells the lie");
        let signed = SignedHead::of(&signed);
        let cosigned = by.into_iter().map(|(cosignature, _)| CosignedHead { signed: signed.clone(), cosignature });
        Arc::new(Self { lie, log, cosigned: cosigned.collect(), offer, entries, maps })
    }

    fn head(&self) -> Head {
        self.cosigned[0].signed.head
    }

    /// Refuses to send entries of any log until `open` is set.
    pub(super) fn filter(self: &Arc<Self>, open: &Arc<AtomicBool>) -> Arc<AnswerFilter> {
        let (forged, open) = (Arc::clone(self), Arc::clone(open));
        Arc::new(move |request, answer| match request {
            SyncRequest::Entries { .. } if !open.load(Ordering::Relaxed) => {
                Some(SyncResponse::Refused(Refusal::new("busy", "later")))
            }
            _ => Some(forged.answer(request, answer)),
        })
    }

    fn answer(&self, request: &SyncRequest, honest: SyncResponse) -> SyncResponse {
        match (request, honest) {
            (_, SyncResponse::Frontier(mut frontier)) => {
                for told in frontier.logs.iter_mut().filter(|told| told.log == self.log) {
                    match self.lie {
                        // Cosignatures of others on it would give the quick state away at once.
                        ForgeryKind::Tree => told.cosigned.clear(),
                        ForgeryKind::State => {
                            told.newest = Some(self.cosigned[0].signed.clone());
                            told.cosigned.clone_from(&self.cosigned);
                        }
                    }
                }
                SyncResponse::Frontier(frontier)
            }
            (_, SyncResponse::Offers(mut offers)) => {
                let origin = format!("/{}/{}\n", self.log.operator, self.log.generation);
                let offer = offers.iter_mut().find(|offer| offer.checkpoint.contains(&origin)).unwrap();
                *offer = self.offer.clone();
                SyncResponse::Offers(offers)
            }
            (SyncRequest::Rows { log, head, map, from, .. }, _) if *log == self.log && *head == self.head() => {
                let (rows, map) = &self.maps[usize::from(*map)];
                let rows: Vec<_> =
                    rows.range(from.clone()..).map(|(key, value)| (key.clone(), value.clone())).collect();
                let proof = map.prove_range(from, rows.last().map(|(key, _)| key.as_slice()), &Whole).unwrap();
                SyncResponse::Rows(RowRange { rows, proof })
            }
            (SyncRequest::Entries { log, from, head }, _) if *log == self.log && *head == self.head() => {
                let entries = self.entries[*from as usize..].to_vec();
                SyncResponse::Entries(EntryRange { first: *from, entries, proof: Vec::new(), notes: Vec::new() })
            }
            (_, honest) => honest,
        }
    }
}

fn scanned(store: &Store, name: &MapName) -> MapRows {
    let mut rows = MapRows::new();
    let mut add = |key: &[u8], value: &[u8]| {
        rows.insert(key.to_vec(), value.to_vec());
        ControlFlow::Continue(())
    };
    store.view().scan(name.id(), &[], &mut add).unwrap();
    rows
}

fn add_ghost(home: &mut MapRows) {
    fn put<R: Row>(home: &mut MapRows, key: &R::Key, row: &R) {
        home.insert(row_key::<R>(key), codec::encode(row));
    }
    let (id, counter) = (EventId([9; 32]), DayCounter { day: 0, count: 0 });
    let name = GHOST.parse().unwrap();
    put(home, &id, &Identity { name, version: 1, status: Status::Active, rotations: counter });
    put(home, &text_key(GHOST), &NameOwner(id));
    let version = KeyVersion { key: secret(22).public(), time: Millis(START.0), next: None, revoked: None };
    put(home, &(id, 1), &version);
}
