//! One value with everything that all parts of a node above the store use.
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, RwLock};

use fama_ledger::manifest::Manifest;
use prometheus::Registry;

use crate::certified::CertifiedStates;
use crate::clock::Clock;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::scores::OpenStatements;
use crate::store::Store;

/// What the parts of a node share. Only the inbox writes it, except that others also update health and metrics.
#[derive(Clone)]
pub struct Shared {
    /// The version of the manifest in use.
    pub manifest: Arc<Manifest>,
    /// The database, which this process alone has open.
    pub store: Arc<Store>,
    /// Statements about providers that are not final.
    pub open: Arc<RwLock<OpenStatements>>,
    /// Raised after each change of what operators state about providers.
    pub statements: Arc<AtomicU64>,
    /// The state of this node, its peers and the logs, as shown to people.
    pub health: Arc<Health>,
    /// Certified states of the logs, from which proofs are made.
    pub certified: Arc<CertifiedStates>,
    /// All metrics, in a registry of their own.
    pub metrics: Arc<Metrics>,
    /// The machine's clocks, or simulated ones.
    pub clock: Clock,
    /// Identifies this run of the process: 16 random bytes.
    pub session: [u8; 16],
}

impl Shared {
    /// For a node that has received nothing yet; what is open is empty until the inbox reads it.
    ///
    /// # Panics
    /// Never: the metrics' registry is new, so no name is taken.
    #[must_use]
    pub fn new(store: Store, clock: Clock, session: [u8; 16]) -> Self {
        Self::with(Arc::new(store), clock, session)
    }

    /// Like [`Shared::new`], for a store that others hold too.
    ///
    /// # Panics
    /// Never, like [`Shared::new`].
    #[must_use]
    pub fn with(store: Arc<Store>, clock: Clock, session: [u8; 16]) -> Self {
        let manifest = Arc::clone(store.manifest());
        Self {
            health: Arc::new(Health::new(&manifest)),
            open: Arc::default(),
            statements: Arc::default(),
            certified: Arc::default(),
            metrics: Arc::new(Metrics::new(Registry::new()).expect("each name is registered once")),
            store,
            clock,
            session,
            manifest,
        }
    }
}
