//! The fold of admissions and dismissals: which of a provider's numbers an operator sponsors.
use alloc::vec::Vec;

use super::{Effect, EntryPosition, Fold, FoldResult, Void, void_if};
use crate::entry::VerifiedEvent;
use crate::event::{Action, Service};
use crate::id::{Domain, IdentityId};
use crate::limits;
use crate::rows::{self, DayCounter, Interval, Rows, Statement, text_key};

/// The fields of an admission or a dismissal.
struct StatementParts<'a> {
    provider: IdentityId,
    service: &'a Service,
    domain: &'a Domain,
    from: u64,
    admit: bool,
}

fn statement_parts(action: &Action) -> StatementParts<'_> {
    match action {
        Action::Admit { provider, service, domain, from, .. } => {
            StatementParts { provider: *provider, service, domain, from: *from, admit: true }
        }
        Action::Dismiss { provider, service, domain, from, .. } => {
            StatementParts { provider: *provider, service, domain, from: *from, admit: false }
        }
        _ => unreachable!("a statement"),
    }
}

impl<S: Rows> Fold<'_, S> {
    pub(super) fn sponsor(&mut self, event: &VerifiedEvent, at: EntryPosition) -> FoldResult<S> {
        let StatementParts { provider, service, domain, from, admit } = statement_parts(&event.event().action);
        let (day, created) = (at.time.day(), event.event().created);
        let key = (provider, text_key(service.as_str()), text_key(domain.as_str()));
        let known = self.get::<Statement>(self.statements, &key)?;
        void_if!(known.as_ref().is_some_and(|known| created <= known.created), Superseded);
        void_if!(known.is_none() && self.triples(provider)? >= limits::TRIPLES_PER_PROVIDER, Quota);
        let (intervals, counter) = known.map_or((Vec::new(), DayCounter::default()), |k| (k.intervals, k.statements));
        let allowed = limits::STATEMENTS_PER_DAY.saturating_sub(u32::from(admit));
        void_if!(counter.on(day) >= allowed, Quota);
        let intervals = if admit { with(&intervals, from) } else { without(&intervals, from) };
        void_if!(intervals.len() > limits::INTERVALS_PER_TRIPLE, Quota);

        let (service, domain, statements) = (service.clone(), domain.clone(), counter.counted(day));
        self.rows.put(self.statements, &key, &Statement { service, domain, intervals, created, statements });
        Ok(Ok(Effect::Sponsored { provider }))
    }

    /// How many (service, domain) pairs of `provider` this operator has ever made a statement about.
    fn triples(&self, provider: IdentityId) -> FoldResult<S, usize> {
        let prefix = rows::prefix::<Statement>(&provider);
        let found = rows::collect::<Statement, _>(&self.rows, self.statements, &prefix, limits::TRIPLES_PER_PROVIDER)?;
        Ok(found.len())
    }
}

/// The union of `intervals` and [from, ∞).
fn with(intervals: &[Interval], from: u64) -> Vec<Interval> {
    let mut start = from;
    let mut left: Vec<_> = intervals.iter().filter(|interval| interval.start < from).copied().collect();
    if let Some(last) = left.pop_if(|last| last.end.is_none_or(|end| end >= from)) {
        start = last.start;
    }
    left.push(Interval { start, end: None });
    left
}

/// `intervals` without [from, ∞).
fn without(intervals: &[Interval], from: u64) -> Vec<Interval> {
    let cut = |interval: &Interval| Interval {
        start: interval.start,
        end: Some(interval.end.map_or(from, |end| end.min(from))),
    };
    intervals.iter().filter(|interval| interval.start < from).map(cut).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn intervals() {
        let of = |pairs: &[(u64, u64)]| -> Vec<Interval> {
            pairs.iter().map(|(start, end)| Interval { start: *start, end: (*end != 0).then_some(*end) }).collect()
        };
        let admit = |before: &[(u64, u64)], from, after: &[(u64, u64)]| assert_eq!(with(&of(before), from), of(after));
        admit(&[], 0, &[(0, 0)]);
        admit(&[(0, 0)], 5, &[(0, 0)]);
        admit(&[(0, 3)], 5, &[(0, 3), (5, 0)]);
        admit(&[(0, 3)], 3, &[(0, 0)]);
        admit(&[(0, 3), (5, 7)], 6, &[(0, 3), (5, 0)]);
        admit(&[(2, 3), (5, 0)], 1, &[(1, 0)]);
        let dismiss =
            |before: &[(u64, u64)], from, after: &[(u64, u64)]| assert_eq!(without(&of(before), from), of(after));
        dismiss(&[], 0, &[]);
        dismiss(&[(0, 0)], 0, &[]);
        dismiss(&[(0, 0)], 4, &[(0, 4)]);
        dismiss(&[(0, 3), (5, 0)], 4, &[(0, 3)]);
        dismiss(&[(0, 3), (5, 0)], 2, &[(0, 2)]);
        assert_eq!(vec![Interval { start: 0, end: None }], with(&[], 0));
    }
}
