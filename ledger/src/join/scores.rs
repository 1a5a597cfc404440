//! Identities ranked by karma, kept by difference: a score is summed once, when a node starts.
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::cmp::Reverse;

use super::{Join, Karma, Numbers, ReadResult};
use crate::fold::Effect;
use crate::id::{EventId, IdentityId};
use crate::rows::{self, RowError, Rows, Tally};

/// A provider's sponsored numbers before and after a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumbersChange {
    /// The numbers before.
    pub before: Numbers,
    /// The numbers after.
    pub after: Numbers,
}

/// What counts of one provider's karma for a subject, before and after a change of the provider's sponsored numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KarmaChange {
    /// The identity whose karma changes.
    pub subject: IdentityId,
    /// What counted before.
    pub before: Karma,
    /// What counts after.
    pub after: Karma,
}

impl KarmaChange {
    fn applied_to(&self, karma: Karma) -> Karma {
        karma.minus(self.before).plus(self.after)
    }
}

/// A provider whose subjects are being recounted, in the order of their ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recount {
    /// The provider whose sponsored numbers changed.
    pub provider: IdentityId,
    /// From and to which numbers its subjects are recounted.
    pub numbers: NumbersChange,
    /// The last subject that was recounted; `None` at the beginning.
    pub after: Option<IdentityId>,
}

/// A subject's kept score, and what is missing in it until providers have been recounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Score {
    karma: Karma,
    missing: Vec<(IdentityId, NumbersChange)>,
}

impl Score {
    /// The karma of `subject`, equal to [`Join::karma`]. Reads only the providers that are missing.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn settle<S: Rows>(self, subject: IdentityId, join: &Join<'_, S>) -> ReadResult<S, Karma> {
        let mut karma = self.karma;
        for (provider, numbers) in &self.missing {
            for change in join.recounted(*provider, &[subject], numbers)? {
                karma = change.applied_to(karma);
            }
        }
        Ok(karma)
    }
}

/// Identities ranked by karma, changed by difference with each entry; computed from the rows only by
/// [`Ranking::rebuild`].
///
/// A change of sponsorship only marks the provider. Its subjects count by the numbers of before until the caller has
/// recounted them: see [`Ranking::recount`]. Always, a subject's score is the sum over all providers of what counts by
/// the numbers that are in force for the two.
#[derive(Clone, Debug, Default)]
pub struct Ranking {
    scores: BTreeMap<IdentityId, (Karma, bool)>,
    order: BTreeSet<(Reverse<i64>, IdentityId)>,
    /// The sponsored numbers of every provider that has some.
    numbers: BTreeMap<IdentityId, Numbers>,
    /// Marked providers, with the numbers by which their subjects still count.
    marked: BTreeMap<IdentityId, Numbers>,
    recount: Option<Recount>,
    /// The provider that was recounted last: the marked ones take turns.
    last: Option<IdentityId>,
}

impl Ranking {
    /// Applies the effect of an applied entry. A statement changes nothing here: see [`Ranking::sponsor`].
    pub fn apply(&mut self, effect: &Effect) {
        match effect {
            Effect::Registered { identity } => self.register(*identity),
            Effect::Attested { subject, provider, number, effective } => {
                if self.counts(*provider, *subject, *number) {
                    let one = Karma { sum: (*effective).into(), count: 1 };
                    self.change(*subject, |karma| karma.plus(one));
                }
            }
            Effect::Retracted { subject, provider, number, retraction, effective } => {
                if self.counts(*provider, *subject, *number) && self.counts(*provider, *subject, *retraction) {
                    let one = Karma { sum: (*effective).into(), count: 1 };
                    self.change(*subject, |karma| karma.minus(one));
                }
            }
            Effect::KeyChanged { .. } | Effect::Claimed { .. } | Effect::Sponsored { .. } => {}
        }
    }

    /// Sets the sponsored numbers of a provider to those that [`Join::sponsored`] gives after a statement about it.
    /// Marks it unless they are the numbers by which its subjects count.
    pub fn sponsor(&mut self, provider: IdentityId, numbers: Numbers) {
        let known = self.numbers.remove(&provider).unwrap_or_default();
        if self.marked.get(&provider) == Some(&numbers) {
            self.marked.remove(&provider);
        } else if known != numbers {
            self.marked.entry(provider).or_insert(known);
        }
        if !numbers.is_empty() {
            self.numbers.insert(provider, numbers);
        }
    }

    /// The sponsored numbers of a provider; `None` without any.
    #[must_use]
    pub fn numbers(&self, provider: &IdentityId) -> Option<&Numbers> {
        self.numbers.get(provider)
    }

    fn counts(&self, provider: IdentityId, subject: IdentityId, number: u64) -> bool {
        self.in_force(&provider, &subject).is_some_and(|numbers| numbers.contains(number))
    }

    /// The numbers by which the provider's karma for `subject` counts now.
    fn in_force(&self, provider: &IdentityId, subject: &IdentityId) -> Option<&Numbers> {
        match &self.recount {
            Some(recount) if recount.provider == *provider => {
                let done = recount.after.is_some_and(|after| *subject <= after);
                Some(if done { &recount.numbers.after } else { &recount.numbers.before })
            }
            _ => self.marked.get(provider).or_else(|| self.numbers.get(provider)),
        }
    }

    fn register(&mut self, identity: IdentityId) {
        let (karma, listed) = self.scores.entry(identity).or_default();
        *listed = true;
        self.order.insert((Reverse(karma.sum), identity));
    }

    fn change(&mut self, subject: IdentityId, change: impl FnOnce(Karma) -> Karma) {
        let (karma, listed) = self.scores.entry(subject).or_default();
        let before = core::mem::replace(karma, change(*karma));
        if *listed && before.sum != karma.sum {
            self.order.remove(&(Reverse(before.sum), subject));
            self.order.insert((Reverse(karma.sum), subject));
        }
    }

    /// The provider whose subjects are to be recounted next; `None` if no provider is marked.
    ///
    /// The caller passes the subjects after [`Recount::after`] to [`Join::recounted`], in the order of their ids, and
    /// what that returns to [`Ranking::recounted`], from rows that lack no effect applied here and have no other.
    pub fn recount(&mut self) -> Option<&Recount> {
        if self.recount.is_none() {
            let next = |last| (core::ops::Bound::Excluded(last), core::ops::Bound::Unbounded);
            let turn = self.last.and_then(|last| self.marked.range(next(last)).next());
            let provider = *turn.or_else(|| self.marked.first_key_value())?.0;
            let before = self.marked.remove(&provider)?;
            let after = self.numbers.get(&provider).cloned().unwrap_or_default();
            self.recount = Some(Recount { provider, numbers: NumbersChange { before, after }, after: None });
        }
        self.recount.as_ref()
    }

    /// Takes recounted subjects up to `last`; `None`: that was all of them.
    pub fn recounted(&mut self, changes: &[KarmaChange], last: Option<IdentityId>) {
        for change in changes {
            self.change(change.subject, |karma| change.applied_to(karma));
        }
        match (&mut self.recount, last) {
            (Some(recount), Some(last)) => recount.after = Some(last),
            (recount, _) => self.last = recount.take().map(|done| done.provider),
        }
    }

    /// How many providers are marked or being recounted.
    #[must_use]
    pub fn lag(&self) -> usize {
        self.marked.len().saturating_add(usize::from(self.recount.is_some()))
    }

    /// The kept score of a subject; `None` if more than `most` providers are marked.
    #[must_use]
    pub fn score(&self, subject: &IdentityId, most: usize) -> Option<Score> {
        if self.lag() > most {
            return None;
        }
        let karma = self.scores.get(subject).copied().unwrap_or_default().0;
        let recounting = self.recount.iter().map(|recount| &recount.provider);
        let open: BTreeSet<&IdentityId> = self.marked.keys().chain(recounting).collect();
        let numbers = |numbers: Option<&Numbers>| numbers.cloned().unwrap_or_default();
        let missing = open.into_iter().map(|provider| {
            let before = numbers(self.in_force(provider, subject));
            (*provider, NumbersChange { before, after: numbers(self.numbers.get(provider)) })
        });
        Some(Score { karma, missing: missing.filter(|(_, change)| change.before != change.after).collect() })
    }

    /// Registered identities after `after`, a sum and an id: by descending karma, then by id.
    pub fn from(&self, after: Option<(i64, IdentityId)>) -> impl Iterator<Item = (IdentityId, Karma)> + '_ {
        let start =
            after.map_or(core::ops::Bound::Unbounded, |(sum, id)| core::ops::Bound::Excluded((Reverse(sum), id)));
        let range = self.order.range((start, core::ops::Bound::Unbounded));
        range.map(|(_, id)| (*id, self.scores.get(id).copied().unwrap_or_default().0))
    }

    /// How many identities are registered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether no identity is registered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Computes the ranking from the rows: at start, and to check the incremental updates. Reads the sponsors of each
    /// provider once.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn rebuild<S: Rows>(join: &Join<'_, S>) -> ReadResult<S, Self> {
        let mut ranking = Self::default();
        for provider in join.stated()? {
            ranking.numbers.extend(Some(join.sponsored(provider)?).filter(|n| !n.is_empty()).map(|n| (provider, n)));
        }
        for (_, map) in &join.homes {
            let mut broken = Ok(());
            let tag = [<Tally as rows::Row>::TAG];
            let scanned = join.rows.scan(*map, &tag, &mut |key, value| {
                let ids = key.get(1..33).zip(key.get(33..65));
                let ids = ids.and_then(|(s, p)| Some((s.try_into().ok()?, p.try_into().ok()?)));
                let Some((subject, provider)) = ids else { return core::ops::ControlFlow::Continue(()) };
                let pair = (EventId(subject), EventId(provider));
                let Some(numbers) = ranking.numbers.get(&pair.1) else { return core::ops::ControlFlow::Continue(()) };
                broken = rows::decode_row(value)
                    .and_then(|tally| join.counted_at(*map, pair, &tally, numbers))
                    .map(|karma| ranking.change(pair.0, |sum| sum.plus(karma)));
                if broken.is_err() { core::ops::ControlFlow::Break(()) } else { core::ops::ControlFlow::Continue(()) }
            });
            scanned.map_err(RowError::Storage)?;
            broken?;
        }
        join.each_identity(|found| ranking.register(found.id))?;
        Ok(ranking)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Interval;
    use alloc::vec;

    #[test]
    fn statements_that_change_nothing_mark_nothing() {
        let (provider, all) = (EventId([1; 32]), Numbers(vec![Interval { start: 0, end: None }]));
        let mut ranking = Ranking::default();
        ranking.sponsor(provider, Numbers::default());
        assert_eq!(ranking.lag(), 0);
        ranking.sponsor(provider, all.clone());
        assert_eq!(ranking.lag(), 1);
        assert_eq!(ranking.recount().map(|recount| recount.provider), Some(provider));
        ranking.recounted(&[], None);
        assert_eq!((ranking.lag(), ranking.recount()), (0, None));
        ranking.sponsor(provider, all.clone());
        assert_eq!(ranking.lag(), 0, "as before");
        ranking.sponsor(provider, Numbers::default());
        ranking.sponsor(provider, all);
        assert_eq!(ranking.lag(), 0, "changed and changed back");
    }
}
