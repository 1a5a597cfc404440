//! Kept scores: karma by subject, the leaderboard's order, sponsored numbers by provider.
//!
//! Every [`Store::commit`] writes what its entries change of them in the same batch, so a view's scores are always those
//! of its rows. What was there before they were kept is taken in by steps, each one write: see [`ScoreProgress`].
use std::collections::BTreeSet;
use std::ops::ControlFlow;

use bincode::{Decode, Encode};
use fama_ledger::fold::{Effect, Outcome};
use fama_ledger::id::{Domain, EventId, IdentityId};
use fama_ledger::join::{Join, Karma, KeptScore, Numbers, Recounting, ScoreChanges, ScoreUpdate, Scores};
use fama_ledger::rows::{Overlay, ROW_BYTES_MAX, RowError};

use super::engine::{Walk, WriteBatch};
use super::keys::{self, Family};
use super::read::RECORD_BYTES_MAX;
use super::{Commit, Store, StoreError, View};

/// Longest stored numbers of a provider, and longest record of who is being recounted: with the numbers before and after.
const NUMBERS_BYTES_MAX: usize = 8 * ROW_BYTES_MAX;

/// How far the kept scores are with what was there before them. Without a record nothing was taken in yet.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ScoreProgress {
    /// The manifest version whose operators and policy decide which numbers count.
    pub version: u32,
    /// The next step.
    pub step: ScoreStep,
}

/// A step of taking in what was there before scores were kept.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ScoreStep {
    /// Lists identities, home by home: up to `after` in `home`, and all of the homes before it. `None`: of no home yet.
    List {
        /// The home, in the order of their names.
        home: Option<Domain>,
        /// Its last identity that is listed.
        after: Option<IdentityId>,
    },
    /// Sets the sponsored numbers of providers, up to `after`. Their subjects are recounted once all are set.
    Sponsor {
        /// The last provider whose numbers are set.
        after: Option<IdentityId>,
    },
    /// Everything was taken in.
    Done,
}

impl View<'_> {
    /// How far the kept scores are; `None`: not begun.
    ///
    /// # Errors
    /// [`StoreError`], here and below.
    pub fn score_progress(&self) -> Result<Option<ScoreProgress>, StoreError> {
        self.value(Family::Scores, &keys::score_progress(), RECORD_BYTES_MAX)
    }

    /// Whether the kept scores are complete, but for providers that are still to be recounted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn has_scores(&self) -> Result<bool, StoreError> {
        let progress = self.score_progress()?;
        let version = self.store().manifest().version();
        Ok(progress.is_some_and(|progress| progress.version == version && progress.step == ScoreStep::Done))
    }

    /// At most `limit` registered identities with their kept karma, all after `after`, a sum and an id: by descending
    /// karma, then by id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn ranked(
        &self,
        after: Option<(i64, IdentityId)>,
        limit: usize,
    ) -> Result<Vec<(IdentityId, Karma)>, StoreError> {
        let mut found = Vec::new();
        // The next key after a key is the key with a zero byte appended.
        let from = after.map(|(sum, id)| [keys::rank(sum, &id).as_slice(), &[0]].concat());
        self.walk(Family::Scores, Walk { from, ..Walk::of(keys::ranks()) }, &mut |key, _| {
            if found.len() >= limit {
                return Ok(ControlFlow::Break(()));
            }
            let id = key.last_chunk().map(|id| EventId(*id));
            let id = id.ok_or_else(|| self.broken(Family::Scores, &"a key without an id"))?;
            found.push((id, self.score(&id)?.unwrap_or_default().karma));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }

    /// Calls `each` with every subject and what is kept of it, in the order of their ids, until it breaks.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn each_score(&self, each: &mut dyn FnMut(IdentityId, KeptScore) -> ControlFlow<()>) -> Result<(), StoreError> {
        self.walk(Family::Scores, Walk { once: true, ..Walk::of(keys::scores()) }, &mut |key, value| {
            let id = key.last_chunk().map(|id| EventId(*id));
            let id = id.ok_or_else(|| self.broken(Family::Scores, &"a key without an id"))?;
            Ok(each(id, self.decode(Family::Scores, value, RECORD_BYTES_MAX)?))
        })
    }

    /// How many providers are marked or being recounted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn score_lag(&self) -> Result<u64, StoreError> {
        Ok(self.recounting()?.lag())
    }
}

impl Scores for View<'_> {
    type Error = StoreError;

    fn score(&self, subject: &IdentityId) -> Result<Option<KeptScore>, StoreError> {
        self.value(Family::Scores, &keys::score(subject), RECORD_BYTES_MAX)
    }

    fn numbers(&self, provider: &IdentityId) -> Result<Option<Numbers>, StoreError> {
        self.value(Family::Scores, &keys::numbers(provider), NUMBERS_BYTES_MAX)
    }

    fn marked(&self, provider: &IdentityId) -> Result<Option<Numbers>, StoreError> {
        self.value(Family::Scores, &keys::mark(provider), NUMBERS_BYTES_MAX)
    }

    fn next_marked(&self, after: Option<&IdentityId>) -> Result<Option<(IdentityId, Numbers)>, StoreError> {
        let mut found = None;
        let from = after.map(|after| [keys::mark(after).as_slice(), &[0]].concat());
        self.walk(Family::Scores, Walk { from, ..Walk::of(keys::marks()) }, &mut |key, value| {
            let id = key.last_chunk().map(|id| EventId(*id));
            let id = id.ok_or_else(|| self.broken(Family::Scores, &"a key without an id"))?;
            found = Some((id, self.decode(Family::Scores, value, NUMBERS_BYTES_MAX)?));
            Ok(ControlFlow::Break(()))
        })?;
        Ok(found)
    }

    fn recounting(&self) -> Result<Recounting, StoreError> {
        Ok(self.value(Family::Scores, &keys::recounting(), NUMBERS_BYTES_MAX)?.unwrap_or_default())
    }
}

/// What a step changes of the kept scores.
type Stepped = Result<Option<ScoreProgress>, RowError<StoreError>>;

impl Store {
    /// Makes one step of what is still to be done for the kept scores, in one write. `step` gets a view and the update;
    /// it returns the new progress, or `None` where that stays. Not synced: a lost step is made again.
    ///
    /// # Errors
    /// Those of `step`, which wrote nothing then; [`StoreError`].
    pub fn step_scores(
        &self,
        step: impl FnOnce(&View<'_>, &mut ScoreUpdate<'_, View<'_>>) -> Stepped,
    ) -> Result<(), RowError<StoreError>> {
        let _writing = self.lock();
        let (view, mut batch) = (self.view(), self.batch());
        let mut update = ScoreUpdate::new(&view).map_err(RowError::Storage)?;
        let progress = step(&view, &mut update)?;
        Self::put_scores(&mut batch, &update.into_changes());
        if let Some(progress) = progress {
            Self::put(&mut batch, Family::Scores, &keys::score_progress(), &progress);
        }
        self.write(batch, false).map_err(RowError::Storage)
    }

    /// Adds what commits change of the kept scores to the batch that writes them. `view` is from before that write.
    pub(super) fn add_scores(
        &self,
        batch: &mut WriteBatch<'_>,
        view: &View<'_>,
        commits: &[Commit<'_>],
    ) -> Result<(), StoreError> {
        let outcomes = || commits.iter().flat_map(|commit| commit.outcomes);
        let Some(changes) = self.score_changes(view, commits, outcomes())? else { return Ok(()) };
        Self::put_scores(batch, &changes);
        Ok(())
    }

    fn score_changes<'o>(
        &self,
        view: &View<'_>,
        commits: &[Commit<'_>],
        outcomes: impl Iterator<Item = &'o Option<Outcome>>,
    ) -> Result<Option<ScoreChanges>, StoreError> {
        let mut effects = outcomes.filter_map(|outcome| outcome.as_ref()?.as_ref().ok()).peekable();
        if effects.peek().is_none() {
            return Ok(None);
        }
        let (mut update, mut stated) = (ScoreUpdate::new(view)?, BTreeSet::new());
        for effect in effects {
            update.apply(effect)?;
            if let Effect::Sponsored { provider } = effect {
                stated.insert(*provider);
            }
        }
        if !stated.is_empty() {
            let mut rows = Overlay::new(view);
            commits.iter().for_each(|commit| rows.absorb(commit.changes));
            let join = Join::new(&self.manifest, &rows);
            for provider in stated {
                let numbers = join.sponsored(provider).map_err(|error| match error {
                    RowError::Storage(error) => error,
                    broken => self.database(&broken),
                })?;
                update.sponsor(provider, numbers)?;
            }
        }
        Ok(Some(update.into_changes()))
    }

    fn put_scores(batch: &mut WriteBatch<'_>, changes: &ScoreChanges) {
        for (subject, (before, after)) in &changes.scores {
            // What was never counted and what no longer counts are stored the same.
            if *after == KeptScore::default() {
                batch.delete(Family::Scores, keys::score(subject));
            } else {
                Self::put(batch, Family::Scores, &keys::score(subject), after);
            }
            let rank = |score: &KeptScore| score.listed.then(|| keys::rank(score.karma.sum, subject));
            let (left, taken) = (rank(before), rank(after));
            if left != taken {
                left.into_iter().for_each(|key| batch.delete(Family::Scores, key));
                taken.into_iter().for_each(|key| batch.put(Family::Scores, key, []));
            }
        }
        for (provider, numbers) in &changes.numbers {
            if numbers.is_empty() {
                batch.delete(Family::Scores, keys::numbers(provider));
            } else {
                Self::put(batch, Family::Scores, &keys::numbers(provider), numbers);
            }
        }
        for (provider, marked) in &changes.marked {
            match marked {
                Some(marked) => Self::put(batch, Family::Scores, &keys::mark(provider), marked),
                None => batch.delete(Family::Scores, keys::mark(provider)),
            }
        }
        if let Some(recounting) = &changes.recounting {
            Self::put(batch, Family::Scores, &keys::recounting(), recounting);
        }
    }

    /// Forgets all kept scores, as if they had never been kept.
    #[cfg(test)]
    pub(crate) fn drop_scores(&self) {
        let mut batch = self.batch();
        Self::forget_scores(&mut batch);
        self.write(batch, false).unwrap();
    }

    /// Forgets all kept scores: they follow from rows that are about to go.
    pub(super) fn forget_scores(batch: &mut WriteBatch<'_>) {
        batch.delete_prefix(Family::Scores, &[]);
    }
}
