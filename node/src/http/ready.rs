//! Ready-made answers: the JSON of profiles, kept until something changes that they were made of, and the states of the
//! logs, kept until the next write.
//!
//! A profile's body is made of rows and history of its subject, of statements about its providers, and of notes. Each of
//! these has a number in the view that grows with every change, so a body is right for exactly the views with its stamp.
use std::sync::{Arc, PoisonError, RwLock};

use fama_ledger::id::IdentityId;
use fama_ledger::manifest::LogId;
use moka::sync::Cache;

use super::ApiError;
use crate::store::{ChangeCounts, LogRecord, StoreError, Touch, View};

/// Memory for bodies of profiles, in bytes: some thousand.
const BODIES_BYTES: u64 = 16 << 20;
/// About what an entry of the cache takes besides the body, in bytes.
const ENTRY_BYTES: usize = 400;

/// What a profile's body is made of, as numbers that grow with each change.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    /// The newest entry of each log that changed rows or history of the subject.
    pub(super) touched: Vec<(LogId, u64)>,
    counts: ChangeCounts,
}

impl Stamp {
    pub(super) fn of(view: &View<'_>, subject: &IdentityId) -> Result<Self, StoreError> {
        Ok(Self { touched: view.touched(subject, Touch::Subject)?, counts: view.change_counts()? })
    }
}

/// The states of the operators' logs in a view, and whether its scores are complete.
pub(super) struct Logs {
    /// One per operator, in the manifest's order.
    pub(super) records: Vec<LogRecord>,
    pub(super) has_scores: bool,
}

/// The JSON of a profile's body, with its stamp.
type Body = Arc<(Stamp, Vec<u8>)>;

/// Ready-made answers of one app.
pub struct Ready {
    bodies: Cache<IdentityId, Body>,
    /// The states at the newest view, by the number of its last write.
    logs: RwLock<Option<(u64, Arc<Logs>)>>,
}

impl Default for Ready {
    fn default() -> Self {
        let weigh = |_: &IdentityId, body: &Body| u32::try_from(body.1.len() + ENTRY_BYTES).unwrap_or(u32::MAX);
        Self { bodies: Cache::builder().max_capacity(BODIES_BYTES).weigher(weigh).build(), logs: RwLock::default() }
    }
}

impl Ready {
    /// The body of a profile, if it is kept and still right.
    pub(super) fn body(&self, subject: &IdentityId, stamp: &Stamp) -> Option<Body> {
        self.bodies.get(subject).filter(|kept| kept.0 == *stamp)
    }

    /// Keeps the body of a profile.
    pub(super) fn keep(&self, subject: IdentityId, stamp: Stamp, json: Vec<u8>) -> Body {
        let body = Arc::new((stamp, json));
        self.bodies.insert(subject, Arc::clone(&body));
        body
    }

    /// The states of the logs in a view whose last write has this number; made by `make` if they are not kept.
    pub(super) fn logs(
        &self,
        write: Option<u64>,
        make: impl FnOnce() -> Result<Logs, ApiError>,
    ) -> Result<Arc<Logs>, ApiError> {
        if let Some(write) = write {
            let kept = self.logs.read().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, logs)) = kept.as_ref().filter(|(at, _)| *at == write) {
                return Ok(Arc::clone(logs));
            }
        }
        let logs = Arc::new(make()?);
        if let Some(write) = write {
            *self.logs.write().unwrap_or_else(PoisonError::into_inner) = Some((write, Arc::clone(&logs)));
        }
        Ok(logs)
    }
}
