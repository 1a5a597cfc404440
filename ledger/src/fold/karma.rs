//! The fold of attestations and retractions.
use super::{Effect, EntryPosition, Fold, FoldResult, Void, void_if};
use crate::entry::VerifiedEvent;
use crate::event::Action;
use crate::id::IdentityId;
use crate::rows::{Attested, DayRow, Identity, MapId, Provider, Rows, Status, SubjectRow, Tally};
use crate::time::Day;

impl<S: Rows> Fold<'_, S> {
    /// Why `issuer` may not issue this event, if it may not: unknown, signed by another key, or revoked.
    pub(super) fn issuer_fault(
        &self,
        home: MapId,
        issuer: IdentityId,
        event: &VerifiedEvent,
    ) -> FoldResult<S, Option<Void>> {
        let Some(identity) = self.get::<Identity>(home, &issuer)? else { return Ok(Some(Void::UnknownIdentity)) };
        if self.current_key(home, issuer, &identity)?.key != event.signed().signer {
            return Ok(Some(Void::NotAuthorized));
        }
        Ok((identity.status == Status::Revoked).then_some(Void::Revoked))
    }

    pub(super) fn attest(&mut self, home: MapId, event: &VerifiedEvent, at: EntryPosition) -> FoldResult<S> {
        let Action::Attest { issuer, subject, delta, .. } = &event.event().action else {
            unreachable!("an attestation")
        };
        let (issuer, subject, policy) = (*issuer, *subject, self.policy());
        if let Some(void) = self.issuer_fault(home, issuer, event)? {
            return Ok(Err(void));
        }
        void_if!(*delta == 0 || delta.unsigned_abs() > policy.max_delta, Delta);
        void_if!(issuer == subject, SelfAttestation);
        let day_key = (subject, issuer, event.event().created.day());
        let mut row = self.get::<DayRow>(home, &day_key)?.unwrap_or_default();
        void_if!(row.0.iter().any(|attested| attested.event == event.id()), Duplicate);
        let effective = effective(*delta, &row, policy.daily_cap);
        void_if!(effective == 0, Cap);
        let provider = self.get::<Provider>(home, &issuer)?.unwrap_or_default();
        void_if!(provider.attestations.on(at.time.day()) >= policy.daily_attestations, Quota);
        if self.get::<Tally>(home, &(subject, issuer))?.is_none() {
            let providers = self.get::<SubjectRow>(home, &subject)?.unwrap_or_default().providers;
            void_if!(providers.on(at.time.day()) >= policy.daily_new_providers, Quota);
            self.rows.put(home, &subject, &SubjectRow { providers: providers.counted(at.time.day()) });
        }

        let number = provider.next;
        row.0.push(Attested { number, event: event.id(), effective, retraction: None });
        self.rows.put(home, &day_key, &row);
        let attestations = provider.attestations.counted(at.time.day());
        self.rows.put(home, &issuer, &Provider { next: number.saturating_add(1), attestations, ..provider });
        self.tally(home, subject, issuer, |tally| Tally {
            sum: tally.sum.saturating_add(effective.into()),
            count: tally.count.saturating_add(1),
            ..tally
        })?;
        Ok(Ok(Effect::Attested { subject, provider: issuer, number, effective }))
    }

    pub(super) fn retract(&mut self, home: MapId, event: &VerifiedEvent, at: EntryPosition) -> FoldResult<S> {
        let Action::Retract { issuer, subject, day, attestation, .. } = &event.event().action else {
            unreachable!("a retraction")
        };
        let (issuer, subject) = (*issuer, *subject);
        if let Some(void) = self.issuer_fault(home, issuer, event)? {
            return Ok(Err(void));
        }
        let day_key: (IdentityId, IdentityId, Day) = (subject, issuer, *day);
        let mut row = self.get::<DayRow>(home, &day_key)?.unwrap_or_default();
        let found = row.0.iter_mut().find(|attested| attested.event == *attestation);
        let Some(attested) = found else { return Ok(Err(Void::NotFound)) };
        void_if!(attested.retraction.is_some(), AlreadyRetracted);
        let provider = self.get::<Provider>(home, &issuer)?.unwrap_or_default();
        void_if!(provider.retractions.on(at.time.day()) >= self.policy().daily_retractions, Quota);

        let retraction = provider.next;
        attested.retraction = Some(retraction);
        let (number, effective) = (attested.number, attested.effective);
        self.rows.put(home, &day_key, &row);
        let retractions = provider.retractions.counted(at.time.day());
        self.rows.put(home, &issuer, &Provider { next: retraction.saturating_add(1), retractions, ..provider });
        self.tally(home, subject, issuer, |tally| Tally {
            retracted_sum: tally.retracted_sum.saturating_add(effective.into()),
            retracted_count: tally.retracted_count.saturating_add(1),
            ..tally
        })?;
        Ok(Ok(Effect::Retracted { subject, provider: issuer, number, retraction, effective }))
    }

    fn tally(
        &mut self,
        home: MapId,
        subject: IdentityId,
        provider: IdentityId,
        change: impl Fn(Tally) -> Tally,
    ) -> FoldResult<S, ()> {
        let tally = self.get::<Tally>(home, &(subject, provider))?.unwrap_or_default();
        self.rows.put(home, &(subject, provider), &change(tally));
        Ok(())
    }
}

/// sign(delta) · min(|delta|, cap − used), where `used` is Σ |effective delta| of the day, retracted ones included.
fn effective(delta: i32, day: &DayRow, cap: u32) -> i32 {
    let used = day.0.iter().fold(0u32, |used, attested| used.saturating_add(attested.effective.unsigned_abs()));
    let left = i32::try_from(cap.saturating_sub(used).min(delta.unsigned_abs())).unwrap_or(i32::MAX);
    if delta < 0 { left.saturating_neg() } else { left }
}
