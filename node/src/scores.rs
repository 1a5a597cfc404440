//! Scores of all identities, so that an answer about the most attested agent costs what any costs: what follows changes
//! of sponsorship, and which statements are not final.
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, ControlFlow};

use fama_ledger::id::{Domain, IdentityId};
use fama_ledger::join::{Join, ScoreUpdate};
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::rows::RowError;

use crate::store::{ScoreProgress, ScoreStep, Store, StoreError, Touch, View};

/// Most providers that one answer looks at because their sponsorship just changed or is not final. With more, it reads
/// all providers of its subject.
pub const OPEN_MAX: usize = 64;
/// Providers of a subject that are compared at once.
const PROVIDERS: usize = 4_096;
/// At most this many subjects are recounted, identities listed or providers looked at in one step.
const STEP: usize = 1_000;

type StepResult<T> = Result<T, RowError<StoreError>>;

/// Makes the next step of what is still to be done for the kept scores. Returns whether there may be more.
///
/// # Errors
/// [`RowError`]: the disk failed or its content is damaged.
pub fn step(store: &Store) -> StepResult<bool> {
    let manifest = store.manifest();
    let mut more = true;
    if !is_due(&store.view()).map_err(RowError::Storage)? {
        return Ok(false);
    }
    store.step_scores(|view, update| {
        let join = Join::new(manifest, view);
        let version = manifest.version();
        let now = view.score_progress().map_err(RowError::Storage)?;
        let step = match now {
            None => list(&join, update, None, None)?,
            Some(ScoreProgress { step: ScoreStep::List { home, after }, .. }) => {
                list(&join, update, home.as_ref(), after)?
            }
            Some(ScoreProgress { version: of, step: ScoreStep::Sponsor { after } }) => {
                sponsor(&join, update, after.filter(|_| of == version))?
            }
            // Other operators or another policy: other numbers count.
            Some(ScoreProgress { version: of, step: ScoreStep::Done }) if of != version => {
                ScoreStep::Sponsor { after: None }
            }
            Some(ScoreProgress { step: ScoreStep::Done, .. }) => {
                more = recount(&join, view, update)?;
                return Ok(None);
            }
        };
        Ok(Some(ScoreProgress { version, step }))
    })?;
    Ok(more)
}

/// Makes all steps that are left.
///
/// # Errors
/// Those of [`step`].
pub fn settle(store: &Store) -> StepResult<()> {
    while step(store)? {}
    Ok(())
}

/// Whether there is anything to do: usually not, and then nothing is written.
fn is_due(view: &View<'_>) -> Result<bool, StoreError> {
    Ok(!view.has_scores()? || view.score_lag()? > 0)
}

/// Lists the next identities, home by home.
fn list(
    join: &Join<'_, View<'_>>,
    update: &mut ScoreUpdate<'_, View<'_>>,
    home: Option<&Domain>,
    after: Option<IdentityId>,
) -> StepResult<ScoreStep> {
    let homes = join.manifest().homes();
    let first = home.map_or(Bound::Unbounded, Bound::Included);
    let (mut left, mut after) = (STEP, after);
    for home in homes.range::<Domain, _>((first, Bound::Unbounded)).map(|(home, _)| home) {
        let found = join.registered(home, after.take(), left)?;
        for id in &found {
            update.list(*id).map_err(RowError::Storage)?;
        }
        left = left.saturating_sub(found.len());
        if left == 0 {
            return Ok(ScoreStep::List { home: Some(home.clone()), after: found.last().copied() });
        }
    }
    Ok(ScoreStep::Sponsor { after: None })
}

/// Sets the numbers of the next providers.
fn sponsor(
    join: &Join<'_, View<'_>>,
    update: &mut ScoreUpdate<'_, View<'_>>,
    after: Option<IdentityId>,
) -> StepResult<ScoreStep> {
    let providers: BTreeSet<IdentityId> = join.stated(after, STEP)?;
    for provider in &providers {
        update.sponsor(*provider, join.sponsored(*provider)?).map_err(RowError::Storage)?;
    }
    let last = providers.last().copied().filter(|_| providers.len() == STEP);
    Ok(last.map_or(ScoreStep::Done, |last| ScoreStep::Sponsor { after: Some(last) }))
}

/// Recounts the next subjects of providers whose sponsored numbers changed. Returns whether there are more.
fn recount(join: &Join<'_, View<'_>>, view: &View<'_>, update: &mut ScoreUpdate<'_, View<'_>>) -> StepResult<bool> {
    let mut left = STEP;
    while left > 0 {
        let Some(recount) = update.recount().map_err(RowError::Storage)? else { return Ok(false) };
        let subjects = view.subjects_of(&recount.provider, recount.after.as_ref(), left).map_err(RowError::Storage)?;
        let changes = join.recounted(recount.provider, &subjects, &recount.numbers)?;
        let last = subjects.last().copied().filter(|_| subjects.len() == left);
        update.recounted(&changes, last).map_err(RowError::Storage)?;
        left = left.saturating_sub(subjects.len().max(1));
    }
    Ok(true)
}

/// Providers about which logs have statements that are not certified, with the index of the newest. In memory, written by
/// the inbox alone: a statement is here before its entry can be read.
#[derive(Default)]
pub struct OpenStatements {
    /// Whether what was there at the start was read.
    is_read: bool,
    open: BTreeMap<LogId, BTreeMap<IdentityId, u64>>,
    /// The certified sizes by which `open` was cleared since a statement came in.
    certified: BTreeMap<LogId, u64>,
}

/// Providers about which there are statements that are not final.
pub enum Open {
    /// At most [`OPEN_MAX`].
    Few(Vec<IdentityId>),
    /// More than that: see [`has_open_provider`].
    Many,
    /// They were not read yet.
    Unknown,
}

impl OpenStatements {
    /// Reads the statements that are not certified.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn read(manifest: &Manifest, view: &View<'_>) -> Result<Self, StoreError> {
        let (mut all, mut certified) = (Self { is_read: true, ..Self::default() }, BTreeMap::new());
        for log in manifest.logs().keys() {
            let end = view.log(log)?.map_or(0, |record| record.certified);
            certified.insert(log, manifest.cut(log).map_or(end, |cut| cut.head.size));
        }
        view.all_touched(Touch::Sponsorship, &mut |provider, log, index| {
            if certified.get(log).is_none_or(|end| *end <= index) {
                all.add(log, provider, index);
            }
        })?;
        Ok(all)
    }

    /// Adds a statement that is about to be written.
    pub fn add(&mut self, log: &LogId, provider: IdentityId, index: u64) {
        self.open.entry(log.clone()).or_default().insert(provider, index);
        self.certified.remove(log);
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

    /// The providers with statements that are not final. `is_final` says of an entry whether it can no longer be undone.
    #[must_use]
    pub fn open(&self, is_final: impl Fn(&LogId, u64) -> bool) -> Open {
        if !self.is_read {
            return Open::Unknown;
        }
        if self.open.values().map(BTreeMap::len).sum::<usize>() > OPEN_MAX {
            return Open::Many;
        }
        let all = self.open.iter().flat_map(|(log, of)| of.iter().map(move |(provider, index)| (log, provider, index)));
        let open = all.filter(|(log, _, index)| !is_final(log, **index)).map(|(_, provider, _)| *provider);
        Open::Few(open.collect())
    }

    fn is_open(&self, provider: &IdentityId, is_final: impl Fn(&LogId, u64) -> bool) -> bool {
        self.open.iter().any(|(log, of)| of.get(provider).is_some_and(|index| !is_final(log, *index)))
    }
}

/// Whether a provider of `subject` has a statement that is not final, by reading all its providers. `statements` are
/// locked for some providers at a time only.
///
/// # Errors
/// [`RowError`]: the disk failed or its content is damaged.
pub fn has_open_provider(
    statements: &std::sync::RwLock<OpenStatements>,
    join: &Join<'_, View<'_>>,
    subject: IdentityId,
    is_final: impl Fn(&LogId, u64) -> bool,
) -> StepResult<bool> {
    let (mut some, mut open) = (Vec::new(), false);
    let look = |some: &mut Vec<IdentityId>| {
        let statements = statements.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        some.drain(..).any(|provider| statements.is_open(&provider, &is_final))
    };
    join.each_provider(subject, |provider| {
        some.push(provider);
        open = some.len() == PROVIDERS && look(&mut some);
        if open { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(open || look(&mut some))
}
