//! Ready-made answers: the JSON of profiles, kept until something changes that they were made of, and the states of the
//! logs, kept until the next write.
//!
//! A profile's body is made of rows and history of its subject, of statements about its providers, and of notes. Each of
//! these has a number in the view that grows with every change, so a body is right for exactly the views with its stamp.
//! Mostly not even the stamp is read: the store knows which subjects changed lately.
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use axum::http::HeaderValue;
use axum::response::Response;
use fama_ledger::id::{IdentityId, StateId};
use fama_ledger::join::LocatedIdentity;
use fama_ledger::manifest::LogId;
use moka::sync::Cache;

use super::view::LedgerView;
use super::{ApiError, answer};
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
    pub(super) state_id: StateId,
}

/// A profile as it is kept: whom it is about, and the JSON of its body.
pub(super) struct KeptProfile {
    pub(super) found: LocatedIdentity,
    pub(super) stamp: Stamp,
    /// The number of the last write of a view for which this is right.
    write: Option<u64>,
    json: Vec<u8>,
    /// Entity tags: of the profile that is not final, and of the final one.
    tags: [OnceLock<HeaderValue>; 2],
}

impl KeptProfile {
    /// A profile that was made from this view.
    pub(super) fn new(view: &View<'_>, found: LocatedIdentity, stamp: Stamp, json: Vec<u8>) -> Self {
        Self { found, stamp, write: view.write_number(), json, tags: Default::default() }
    }

    /// The answer, with the ledger of the view in which it is given.
    pub(super) fn answer(&self, ledger: &LedgerView) -> Result<Response, ApiError> {
        let [open, last] = &self.tags;
        let kept = if ledger.r#final { last } else { open };
        let tag = match kept.get() {
            Some(tag) => tag.clone(),
            None => {
                let tag = answer::tag(&self.json, ledger)?;
                kept.get_or_init(|| tag).clone()
            }
        };
        answer::of(&self.json, tag, ledger)
    }
}

/// Ready-made answers of one app.
pub struct Ready {
    /// By what was asked for, which says whom it is about.
    profiles: Cache<String, Arc<KeptProfile>>,
    /// The states at the newest view, by the number of its last write.
    logs: RwLock<Option<(u64, Arc<Logs>)>>,
}

impl Default for Ready {
    fn default() -> Self {
        let weigh = |x: &String, kept: &Arc<KeptProfile>| {
            u32::try_from(x.len() + kept.json.len() + ENTRY_BYTES).unwrap_or(u32::MAX)
        };
        Self { profiles: Cache::builder().max_capacity(BODIES_BYTES).weigher(weigh).build(), logs: RwLock::default() }
    }
}

impl Ready {
    /// The profile of `x` in this view, if it is kept and nothing about it changed; `None` also if that is not known.
    pub(super) fn profile(&self, view: &View<'_>, x: &str) -> Option<Arc<KeptProfile>> {
        let kept = self.profiles.get(x)?;
        let is_right = kept.write.is_some_and(|write| view.is_unchanged_since(&kept.found.id, write));
        is_right.then_some(kept)
    }

    /// The profile of `x`, whom `found` names in this view, if it is kept with the same stamp.
    pub(super) fn stamped(
        &self,
        view: &View<'_>,
        x: &str,
        (found, stamp): (&LocatedIdentity, &Stamp),
    ) -> Option<Arc<KeptProfile>> {
        let kept = self.profiles.get(x).filter(|kept| kept.found == *found && kept.stamp == *stamp)?;
        let KeptProfile { json, tags, .. } = &*kept;
        let (write, json, tags) = (view.write_number(), json.clone(), tags.clone());
        Some(self.keep(x, KeptProfile { found: found.clone(), stamp: stamp.clone(), write, json, tags }))
    }

    /// Keeps the profile of `x`.
    pub(super) fn keep(&self, x: &str, profile: KeptProfile) -> Arc<KeptProfile> {
        let profile = Arc::new(profile);
        self.profiles.insert(x.to_owned(), Arc::clone(&profile));
        profile
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
