//! Scores kept by difference: what an entry or a statement changes costs the same however much a subject has received.
//!
//! The kept karma of a subject is always the sum, over all providers, of what counts by the numbers that are *in force*
//! for the two. A change of a provider's sponsored numbers only marks it. Its subjects count by the numbers of before
//! until they are recounted, in the order of their ids: see [`ScoreUpdate::recount`].
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Bound;

use bincode::{Decode, Encode};

use super::{Join, Karma, Numbers, ReadResult};
use crate::fold::Effect;
use crate::id::IdentityId;
use crate::rows::Rows;

/// A provider's sponsored numbers before and after a change.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
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

/// What is kept of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct KeptScore {
    /// Its karma by the numbers in force.
    pub karma: Karma,
    /// Whether it is registered: an identity may have karma in logs that are ahead of its home's.
    pub listed: bool,
}

/// A provider whose subjects are being recounted, in the order of their ids.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Recount {
    /// The provider whose sponsored numbers changed.
    pub provider: IdentityId,
    /// From and to which numbers its subjects are recounted.
    pub numbers: NumbersChange,
    /// The last subject that was recounted; `None` at the beginning.
    pub after: Option<IdentityId>,
}

impl Recount {
    fn in_force(&self, subject: &IdentityId) -> &Numbers {
        let is_done = self.after.is_some_and(|after| *subject <= after);
        if is_done { &self.numbers.after } else { &self.numbers.before }
    }
}

/// Who is being recounted, and whose turn was last.
#[derive(Clone, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct Recounting {
    /// The provider that is being recounted.
    pub now: Option<Recount>,
    /// The provider that was recounted last: the marked ones take turns.
    pub last: Option<IdentityId>,
    /// How many providers are marked: without any, none is looked for.
    pub marked: u64,
}

impl Recounting {
    /// How many providers are marked or being recounted.
    #[must_use]
    pub fn lag(&self) -> u64 {
        self.marked.saturating_add(u64::from(self.now.is_some()))
    }
}

/// Where scores are kept. All reads are of one moment.
pub trait Scores {
    /// A failure of the storage.
    type Error;

    /// What is kept of a subject; `None` stands for the default.
    ///
    /// # Errors
    /// The storage's own error; also in every other method.
    fn score(&self, subject: &IdentityId) -> Result<Option<KeptScore>, Self::Error>;

    /// The sponsored numbers of a provider, as last set by [`ScoreUpdate::sponsor`]; `None` without any.
    ///
    /// # Errors
    /// The storage's.
    fn numbers(&self, provider: &IdentityId) -> Result<Option<Numbers>, Self::Error>;

    /// The numbers by which the subjects of a marked provider still count; `None` if it is not marked.
    ///
    /// # Errors
    /// The storage's.
    fn marked(&self, provider: &IdentityId) -> Result<Option<Numbers>, Self::Error>;

    /// The first marked provider after `after`, with the numbers by which its subjects still count.
    ///
    /// # Errors
    /// The storage's.
    fn next_marked(&self, after: Option<&IdentityId>) -> Result<Option<(IdentityId, Numbers)>, Self::Error>;

    /// Who is being recounted.
    ///
    /// # Errors
    /// The storage's.
    fn recounting(&self) -> Result<Recounting, Self::Error>;
}

/// A subject's kept score, and what is missing in it until providers have been recounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Score {
    karma: Karma,
    missing: Vec<(IdentityId, NumbersChange)>,
}

impl Score {
    /// Reads the kept score of a subject; `None` if more than `most` providers are marked or being recounted.
    ///
    /// # Errors
    /// The storage's.
    pub fn read<S: Scores>(scores: &S, subject: &IdentityId, most: usize) -> Result<Option<Self>, S::Error> {
        let (mut in_force, recounting) = (BTreeMap::new(), scores.recounting()?);
        if usize::try_from(recounting.lag()).is_ok_and(|lag| lag > most) {
            return Ok(None);
        }
        if let Some(recount) = &recounting.now {
            in_force.insert(recount.provider, recount.in_force(subject).clone());
        }
        let mut last = None;
        while recounting.marked > 0
            && let Some((provider, before)) = scores.next_marked(last.as_ref())?
        {
            // Who is being recounted may be marked once more: then the recount says what is in force.
            in_force.entry(provider).or_insert(before);
            last = Some(provider);
        }
        let mut missing = Vec::new();
        for (provider, before) in in_force {
            let after = scores.numbers(&provider)?.unwrap_or_default();
            if before != after {
                missing.push((provider, NumbersChange { before, after }));
            }
        }
        let karma = scores.score(subject)?.unwrap_or_default().karma;
        Ok(Some(Self { karma, missing }))
    }

    /// The karma of `subject`, equal to [`Join::karma`]. Reads only the providers that are missing.
    ///
    /// # Errors
    /// [`crate::rows::RowError`].
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

/// What an update changes of the kept scores: the new values, without those that stayed the same.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ScoreChanges {
    /// Of subjects, before and after.
    pub scores: BTreeMap<IdentityId, (KeptScore, KeptScore)>,
    /// The sponsored numbers of providers.
    pub numbers: BTreeMap<IdentityId, Numbers>,
    /// The numbers by which subjects of providers still count; `None`: the provider is no longer marked.
    pub marked: BTreeMap<IdentityId, Option<Numbers>>,
    /// Who is being recounted.
    pub recounting: Option<Recounting>,
}

#[derive(Clone, Default, PartialEq, Eq)]
struct ProviderNumbers {
    numbers: Numbers,
    marked: Option<Numbers>,
}

/// Kept scores with the changes of one write, which reads what it needs once.
pub struct ScoreUpdate<'a, S> {
    stored: &'a S,
    /// Subjects and providers that were read: as stored, and as they are now.
    subjects: BTreeMap<IdentityId, (KeptScore, KeptScore)>,
    providers: BTreeMap<IdentityId, (ProviderNumbers, ProviderNumbers)>,
    recounting: (Recounting, Recounting),
}

impl<'a, S: Scores> ScoreUpdate<'a, S> {
    /// An update without changes.
    ///
    /// # Errors
    /// The storage's; also in every other method.
    pub fn new(stored: &'a S) -> Result<Self, S::Error> {
        let recounting = stored.recounting()?;
        let (subjects, providers) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { stored, subjects, providers, recounting: (recounting.clone(), recounting) })
    }

    /// Applies the effect of an applied entry. A statement changes nothing here: see [`ScoreUpdate::sponsor`].
    ///
    /// # Errors
    /// The storage's.
    pub fn apply(&mut self, effect: &Effect) -> Result<(), S::Error> {
        match effect {
            Effect::Registered { identity } => self.list(*identity),
            Effect::Attested { subject, provider, number, effective } => {
                if self.in_force(provider, subject)?.contains(*number) {
                    let one = Karma { sum: (*effective).into(), count: 1 };
                    self.change(*subject, |karma| karma.plus(one))?;
                }
                Ok(())
            }
            Effect::Retracted { subject, provider, number, retraction, effective } => {
                let numbers = self.in_force(provider, subject)?;
                if numbers.contains(*number) && numbers.contains(*retraction) {
                    let one = Karma { sum: (*effective).into(), count: 1 };
                    self.change(*subject, |karma| karma.minus(one))?;
                }
                Ok(())
            }
            Effect::KeyChanged { .. }
            | Effect::Claimed { .. }
            | Effect::Sponsored { .. }
            | Effect::Granted { .. }
            | Effect::Suspended { .. } => Ok(()),
        }
    }

    /// Sets the sponsored numbers of a provider to those that [`Join::sponsored`] gives once the rows have a statement
    /// about it. Marks it unless they are the numbers by which its subjects count.
    ///
    /// # Errors
    /// The storage's.
    pub fn sponsor(&mut self, provider: IdentityId, numbers: Numbers) -> Result<(), S::Error> {
        let of = self.provider(&provider)?;
        let known = core::mem::replace(&mut of.numbers, numbers);
        if of.marked.as_ref() == Some(&of.numbers) {
            of.marked = None;
        } else if known != of.numbers {
            of.marked.get_or_insert(known);
        }
        Ok(())
    }

    /// Lists a registered identity.
    ///
    /// # Errors
    /// The storage's.
    pub fn list(&mut self, identity: IdentityId) -> Result<(), S::Error> {
        self.subject(identity)?.listed = true;
        Ok(())
    }

    /// The provider whose subjects are to be recounted next; `None` if no provider is marked.
    ///
    /// The caller passes the subjects after [`Recount::after`] to [`Join::recounted`], in the order of their ids, and
    /// what that returns to [`ScoreUpdate::recounted`], from rows that lack no effect applied here and have no other.
    ///
    /// # Errors
    /// The storage's.
    pub fn recount(&mut self) -> Result<Option<Recount>, S::Error> {
        if self.recounting.1.now.is_none() {
            let last = self.recounting.1.last;
            let turn = match last {
                Some(_) => self.next_marked(last)?,
                None => None,
            };
            let next = turn.map_or_else(|| self.next_marked(None), |turn| Ok(Some(turn)))?;
            let Some((provider, before)) = next else { return Ok(None) };
            let of = self.provider(&provider)?;
            of.marked = None;
            let after = of.numbers.clone();
            self.recounting.1.now = Some(Recount { provider, numbers: NumbersChange { before, after }, after: None });
        }
        Ok(self.recounting.1.now.clone())
    }

    /// Takes recounted subjects up to `last`; `None`: that was all of them.
    ///
    /// # Errors
    /// The storage's.
    pub fn recounted(&mut self, changes: &[KarmaChange], last: Option<IdentityId>) -> Result<(), S::Error> {
        for change in changes {
            self.change(change.subject, |karma| change.applied_to(karma))?;
        }
        let recounting = &mut self.recounting.1;
        match (&mut recounting.now, last) {
            (Some(recount), Some(last)) => recount.after = Some(last),
            (now, _) => recounting.last = now.take().map(|done| done.provider),
        }
        Ok(())
    }

    /// What the update changes.
    #[must_use]
    pub fn into_changes(self) -> ScoreChanges {
        let mut changes = ScoreChanges::default();
        changes.scores.extend(self.subjects.into_iter().filter(|(_, (stored, now))| stored != now));
        let (before, mut after) = self.recounting;
        for (provider, (stored, now)) in self.providers {
            let (left, taken) = (u64::from(stored.marked.is_some()), u64::from(now.marked.is_some()));
            after.marked = after.marked.saturating_add(taken).saturating_sub(left);
            if stored.numbers != now.numbers {
                changes.numbers.insert(provider, now.numbers);
            }
            if stored.marked != now.marked {
                changes.marked.insert(provider, now.marked);
            }
        }
        changes.recounting = (before != after).then_some(after);
        changes
    }

    /// The numbers by which the provider's karma for `subject` counts now.
    fn in_force(&mut self, provider: &IdentityId, subject: &IdentityId) -> Result<&Numbers, S::Error> {
        self.provider(provider)?;
        Ok(match (&self.recounting.1.now, self.providers.get(provider)) {
            (Some(recount), _) if recount.provider == *provider => recount.in_force(subject),
            (_, Some((_, now))) => now.marked.as_ref().unwrap_or(&now.numbers),
            (_, None) => Numbers::NONE,
        })
    }

    /// Whether any provider is stored as marked.
    const fn any_marked(&self) -> bool {
        self.recounting.0.marked > 0
    }

    fn provider(&mut self, provider: &IdentityId) -> Result<&mut ProviderNumbers, S::Error> {
        if !self.providers.contains_key(provider) {
            let marked = if self.any_marked() { self.stored.marked(provider)? } else { None };
            let read = ProviderNumbers { numbers: self.stored.numbers(provider)?.unwrap_or_default(), marked };
            self.providers.insert(*provider, (read.clone(), read));
        }
        Ok(&mut self.providers.entry(*provider).or_default().1)
    }

    fn subject(&mut self, subject: IdentityId) -> Result<&mut KeptScore, S::Error> {
        if !self.subjects.contains_key(&subject) {
            let read = self.stored.score(&subject)?.unwrap_or_default();
            self.subjects.insert(subject, (read, read));
        }
        Ok(&mut self.subjects.entry(subject).or_default().1)
    }

    fn change(&mut self, subject: IdentityId, change: impl FnOnce(Karma) -> Karma) -> Result<(), S::Error> {
        let score = self.subject(subject)?;
        score.karma = change(score.karma);
        Ok(())
    }

    /// The first marked provider after `after`, as they are marked now.
    fn next_marked(&self, after: Option<IdentityId>) -> Result<Option<(IdentityId, Numbers)>, S::Error> {
        let range = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let changed =
            self.providers.range(range).find_map(|(id, (_, now))| now.marked.clone().map(|marked| (*id, marked)));
        let (mut stored, mut at) = (None, after);
        while self.any_marked()
            && let Some((id, numbers)) = self.stored.next_marked(at.as_ref())?
        {
            if !self.providers.contains_key(&id) {
                stored = Some((id, numbers));
                break;
            }
            at = Some(id);
        }
        Ok(match (changed, stored) {
            (Some(changed), Some(stored)) => Some(if changed.0 < stored.0 { changed } else { stored }),
            (changed, stored) => changed.or(stored),
        })
    }
}

/// Scores in memory: for tests and simulations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryScores {
    scores: BTreeMap<IdentityId, KeptScore>,
    numbers: BTreeMap<IdentityId, Numbers>,
    marked: BTreeMap<IdentityId, Numbers>,
    recounting: Recounting,
}

impl MemoryScores {
    /// Applies changes.
    pub fn apply(&mut self, changes: ScoreChanges) {
        self.scores.extend(changes.scores.into_iter().map(|(subject, (_, now))| (subject, now)));
        self.numbers.extend(changes.numbers);
        for (provider, marked) in changes.marked {
            match marked {
                Some(marked) => drop(self.marked.insert(provider, marked)),
                None => drop(self.marked.remove(&provider)),
            }
        }
        self.recounting = changes.recounting.unwrap_or_else(|| core::mem::take(&mut self.recounting));
    }

    /// All registered identities with their kept karma, in the order of their ids.
    pub fn listed(&self) -> impl Iterator<Item = (IdentityId, Karma)> + '_ {
        self.scores.iter().filter(|(_, score)| score.listed).map(|(id, score)| (*id, score.karma))
    }
}

impl Scores for MemoryScores {
    type Error = core::convert::Infallible;

    fn score(&self, subject: &IdentityId) -> Result<Option<KeptScore>, Self::Error> {
        Ok(self.scores.get(subject).copied())
    }

    fn numbers(&self, provider: &IdentityId) -> Result<Option<Numbers>, Self::Error> {
        Ok(self.numbers.get(provider).cloned())
    }

    fn marked(&self, provider: &IdentityId) -> Result<Option<Numbers>, Self::Error> {
        Ok(self.marked.get(provider).cloned())
    }

    fn next_marked(&self, after: Option<&IdentityId>) -> Result<Option<(IdentityId, Numbers)>, Self::Error> {
        let range = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        Ok(self.marked.range::<IdentityId, _>(range).next().map(|(id, marked)| (*id, marked.clone())))
    }

    fn recounting(&self) -> Result<Recounting, Self::Error> {
        Ok(self.recounting.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::EventId;
    use crate::rows::Interval;
    use alloc::vec;

    fn update(scores: &mut MemoryScores, change: impl FnOnce(&mut ScoreUpdate<'_, MemoryScores>)) {
        let stored = scores.clone();
        let Ok(mut update) = ScoreUpdate::new(&stored);
        change(&mut update);
        scores.apply(update.into_changes());
    }

    #[test]
    fn statements_that_change_nothing_mark_nothing() {
        let (provider, all) = (EventId([1; 32]), Numbers(vec![Interval { start: 0, end: None }]));
        let mut scores = MemoryScores::default();
        let mut sponsor = |numbers: &Numbers, marked: usize| {
            update(&mut scores, |update| update.sponsor(provider, numbers.clone()).unwrap());
            assert_eq!(scores.marked.len(), marked);
            scores.clone()
        };
        sponsor(&Numbers::default(), 0);
        let mut scores = sponsor(&all, 1);
        update(&mut scores, |update| {
            assert_eq!(update.recount().unwrap().map(|recount| recount.provider), Some(provider));
            update.recounted(&[], None).unwrap();
            assert_eq!(update.recount(), Ok(None));
        });
        let mut sponsor = |numbers: &Numbers, marked: usize| {
            update(&mut scores, |update| update.sponsor(provider, numbers.clone()).unwrap());
            assert_eq!(scores.marked.len(), marked);
        };
        sponsor(&all, 0);
        sponsor(&Numbers::default(), 1);
        sponsor(&all, 0);
    }

    #[test]
    fn marked_providers_take_turns_also_within_one_update() {
        let all = Numbers(vec![Interval { start: 0, end: None }]);
        let (mut scores, mut turns) = (MemoryScores::default(), Vec::new());
        update(&mut scores, |update| {
            for provider in [3, 1] {
                update.sponsor(EventId([provider; 32]), all.clone()).unwrap();
            }
        });
        update(&mut scores, |update| {
            turns.extend(update.recount().unwrap().map(|recount| recount.provider.0[0]));
            update.recounted(&[], None).unwrap();
            update.sponsor(EventId([1; 32]), Numbers::default()).unwrap();
            update.sponsor(EventId([2; 32]), all.clone()).unwrap();
            while let Some(recount) = update.recount().unwrap() {
                turns.push(recount.provider.0[0]);
                update.recounted(&[], None).unwrap();
            }
        });
        assert_eq!(turns, [1, 2, 3, 1]);
        assert!(scores.marked.is_empty() && scores.recounting.now.is_none());
    }
}
