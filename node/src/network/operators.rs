//! The operators' peer ids, shared by every part of the network.
use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

use fama_ledger::limits::OPERATORS_MAX;
use libp2p::PeerId;

/// A set of peer ids; all clones share one set.
#[derive(Clone, Default)]
pub(super) struct Operators(Arc<RwLock<HashSet<PeerId>>>);

impl Operators {
    pub(super) fn new(ids: HashSet<PeerId>) -> Self {
        Self(Arc::new(RwLock::new(ids)))
    }

    pub(super) fn set(&self, ids: HashSet<PeerId>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = ids;
    }

    pub(super) fn has(&self, peer: &PeerId) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(peer)
    }

    /// An upper bound on the number of operators, this node included; [`OPERATORS_MAX`] while none is known.
    pub(super) fn at_most(&self) -> usize {
        match self.0.read().unwrap_or_else(PoisonError::into_inner).len() {
            0 => OPERATORS_MAX,
            known => known + 1,
        }
    }
}
