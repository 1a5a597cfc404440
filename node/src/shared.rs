//! What every part of a node above the store reads or writes, in one value.
use std::sync::{Arc, RwLock};

use fama_ledger::join::Ranking;
use fama_ledger::manifest::Manifest;
use prometheus::Registry;

use crate::certified::CertifiedStates;
use crate::clock::Clock;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::store::Store;

/// What the parts of a node share. The inbox writes it; all others only read, but for health and metrics.
#[derive(Clone)]
pub struct Shared {
    /// The federation.
    pub manifest: Arc<Manifest>,
    /// The disk.
    pub store: Arc<Store>,
    /// Who has most karma.
    pub ranking: Arc<RwLock<Ranking>>,
    /// What the node knows of itself and of others.
    pub health: Arc<Health>,
    /// The states of logs that strangers can be shown.
    pub certified: Arc<CertifiedStates>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What time it is.
    pub clock: Clock,
    /// Drawn at random when this process started.
    pub session: [u8; 16],
}

impl Shared {
    /// Of a node that has heard nothing yet.
    ///
    /// # Panics
    /// Never: the metrics are the first in a registry of their own.
    #[must_use]
    pub fn new(store: Store, clock: Clock, session: [u8; 16]) -> Self {
        Self::with(Arc::new(store), clock, session)
    }

    /// As [`Shared::new`], of a store that others hold too.
    ///
    /// # Panics
    /// Never, as [`Shared::new`].
    #[must_use]
    pub fn with(store: Arc<Store>, clock: Clock, session: [u8; 16]) -> Self {
        let manifest = Arc::clone(store.manifest());
        Self {
            health: Arc::new(Health::new(&manifest)),
            ranking: Arc::new(RwLock::new(Ranking::default())),
            certified: Arc::default(),
            metrics: Arc::new(Metrics::new(Registry::new()).expect("each name is registered once")),
            store,
            clock,
            session,
            manifest,
        }
    }
}
