//! Scores of all identities, kept by difference, so that an answer about the most attested agent costs what any costs.
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use fama_ledger::fold::Effect;
use fama_ledger::id::IdentityId;
use fama_ledger::join::{Join, Numbers, Ranking, Score};
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::rows::RowError;

use crate::store::{LogRecord, StoreError, Touch, View};

/// Most providers that one answer looks at because their sponsorship just changed or is not final. With more, it reads
/// all providers of its subject.
const OPEN_MAX: usize = 64;
/// Providers of a subject that are compared at once.
const PROVIDERS: usize = 4_096;

/// What the inbox keeps in memory about karma; written by the inbox alone.
#[derive(Default)]
pub struct Scores {
    /// Scores, and the leaderboard's order.
    pub ranking: Ranking,
    /// The sizes of the logs whose entries these scores contain.
    sizes: BTreeMap<LogId, u64>,
    /// Providers about which logs have statements that are not certified, with the index of the newest.
    open: BTreeMap<LogId, BTreeMap<IdentityId, u64>>,
    /// The certified sizes by which `open` was cleared since a statement came in.
    certified: BTreeMap<LogId, u64>,
}

/// What the scores say about a subject at the sizes of a reader's view.
pub struct Standing {
    /// The kept score; `None` if too many providers are still to be recounted.
    pub score: Option<Score>,
    /// The providers about which there are statements that are not final.
    pub open: Open,
}

/// Providers about which there are statements that are not final.
pub enum Open {
    /// At most 64.
    Few(Vec<IdentityId>),
    /// More than that: see [`has_open_provider`].
    Many,
    /// The scores are of another moment.
    Unknown,
}

impl Scores {
    /// Computes everything from the rows and indexes of a view.
    ///
    /// # Errors
    /// [`RowError`]: the disk failed or its content is damaged.
    pub fn rebuild(manifest: &Manifest, view: &View<'_>) -> Result<Self, RowError<StoreError>> {
        let mut scores = Self { ranking: Ranking::rebuild(&Join::new(manifest, view))?, ..Self::default() };
        let mut certified = BTreeMap::new();
        for log in manifest.logs().keys() {
            let record = view.log(log).map_err(RowError::Storage)?;
            let (size, end) = record.map_or((0, 0), |record| (record.state.size, record.certified));
            scores.sizes.insert(log.clone(), size);
            certified.insert(log, manifest.cut(log).map_or(end, |cut| cut.head.size));
        }
        let touched = view.all_touched(Touch::Sponsorship, &mut |provider, log, index| {
            if certified.get(log).is_none_or(|end| *end <= index) {
                scores.open.entry(log.clone()).or_default().insert(provider, index);
            }
        });
        touched.map_err(RowError::Storage)?;
        Ok(scores)
    }

    /// Applies the effects of a log's entries up to `size`, each with its entry's index, once they are durable.
    /// `sponsored` has the numbers of each provider that they make statements about.
    pub fn apply(
        &mut self,
        log: &LogId,
        size: u64,
        effects: &[(u64, Effect)],
        sponsored: BTreeMap<IdentityId, Numbers>,
    ) {
        for (index, effect) in effects {
            self.ranking.apply(effect);
            if let Effect::Sponsored { provider } = effect {
                self.open.entry(log.clone()).or_default().insert(*provider, *index);
                self.certified.remove(log);
            }
        }
        for (provider, numbers) in sponsored {
            self.ranking.sponsor(provider, numbers);
        }
        self.sizes.insert(log.clone(), size);
    }

    /// Forgets statements that are certified by now.
    pub fn certified(&mut self, log: &LogId, certified: u64) {
        let Some(open) = self.open.get_mut(log) else { return };
        if self.certified.insert(log.clone(), certified) == Some(certified) {
            return;
        }
        open.retain(|_, index| certified <= *index);
        if open.is_empty() {
            self.open.remove(log);
        }
    }

    /// Whether these scores are those of exactly these states of the operators' logs.
    #[must_use]
    pub fn are_of(&self, logs: &[LogRecord]) -> bool {
        logs.iter().all(|record| self.sizes.get(&record.state.log).copied().unwrap_or(0) == record.state.size)
    }

    /// What is kept about a subject; `None` if the reader's view is of another moment. `is_final` says of an entry
    /// whether it can no longer be undone.
    pub fn standing(
        &self,
        subject: &IdentityId,
        logs: &[LogRecord],
        is_final: impl Fn(&LogId, u64) -> bool,
    ) -> Option<Standing> {
        if !self.are_of(logs) {
            return None;
        }
        let score = self.ranking.score(subject, OPEN_MAX);
        let few = self.open.values().map(BTreeMap::len).sum::<usize>() <= OPEN_MAX;
        if !few {
            return Some(Standing { score, open: Open::Many });
        }
        let all = self.open.iter().flat_map(|(log, of)| of.iter().map(move |(provider, index)| (log, provider, index)));
        let open = all.filter(|(log, _, index)| !is_final(log, **index)).map(|(_, provider, _)| *provider);
        Some(Standing { score, open: Open::Few(open.collect()) })
    }

    /// Whether an answer would have to read all providers of its subject.
    #[must_use]
    pub fn are_crowded(&self) -> bool {
        self.ranking.lag() > OPEN_MAX || self.open.values().map(BTreeMap::len).sum::<usize>() > OPEN_MAX
    }

    fn is_open(&self, provider: &IdentityId, is_final: impl Fn(&LogId, u64) -> bool) -> bool {
        self.open.iter().any(|(log, of)| of.get(provider).is_some_and(|index| !is_final(log, *index)))
    }
}

/// Whether a provider of `subject` has a statement that is not final, by reading all its providers. `scores` are locked
/// for some providers at a time only.
///
/// # Errors
/// [`RowError`]: the disk failed or its content is damaged.
pub fn has_open_provider(
    scores: &std::sync::RwLock<Scores>,
    join: &Join<'_, View<'_>>,
    subject: IdentityId,
    is_final: impl Fn(&LogId, u64) -> bool,
) -> Result<bool, RowError<StoreError>> {
    let (mut some, mut open) = (Vec::new(), false);
    let look = |some: &mut Vec<IdentityId>| {
        let scores = scores.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        some.drain(..).any(|provider| scores.is_open(&provider, &is_final))
    };
    join.each_provider(subject, |provider| {
        some.push(provider);
        open = some.len() == PROVIDERS && look(&mut some);
        if open { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(open || look(&mut some))
}
