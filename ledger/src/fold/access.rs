//! The fold of grants and suspensions: what a service lets agents do, and whose use operators speak against.
use super::{Effect, EntryPosition, Fold, FoldResult, Void, void_if};
use crate::entry::VerifiedEvent;
use crate::event::{Action, Scope, SuspendReason};
use crate::id::IdentityId;
use crate::limits;
use crate::rows::{self, Grant, Issuer, MapId, Rows, Suspended, Suspension, text_key};
use crate::time::Millis;

/// The fields of a grant or its withdrawal.
struct GrantParts<'a> {
    issuer: IdentityId,
    subject: IdentityId,
    scope: &'a Scope,
    expires: Option<Millis>,
    stands: bool,
}

fn grant_parts(action: &Action) -> GrantParts<'_> {
    match action {
        Action::Grant { issuer, subject, scope, expires, .. } => {
            GrantParts { issuer: *issuer, subject: *subject, scope, expires: *expires, stands: true }
        }
        Action::Ungrant { issuer, subject, scope, .. } => {
            GrantParts { issuer: *issuer, subject: *subject, scope, expires: None, stands: false }
        }
        _ => unreachable!("a grant or its withdrawal"),
    }
}

impl<S: Rows> Fold<'_, S> {
    /// The newest statement of an issuer about a subject and a scope counts, by `created`.
    ///
    /// The withdrawal of a grant that stands has no quota: no number of grants may keep a service from taking one back.
    /// A withdrawal without such a grant makes a row too, so that a grant created before it has no effect when it comes
    /// late; it counts like a grant.
    pub(super) fn grant(&mut self, home: MapId, event: &VerifiedEvent, at: EntryPosition) -> FoldResult<S> {
        let GrantParts { issuer, subject, scope, expires, stands } = grant_parts(&event.event().action);
        if let Some(void) = self.issuer_fault(home, issuer, event)? {
            return Ok(Err(void));
        }
        let (day, created) = (at.time.day(), event.event().created);
        let key = (issuer, subject, text_key(scope.as_str()));
        let known = self.get::<Grant>(home, &key)?;
        void_if!(known.as_ref().is_some_and(|known| created <= known.created), Superseded);
        let stood = known.as_ref().is_some_and(|known| known.stands);
        if stands || !stood {
            let prefix = rows::prefix::<Grant>(&(issuer, subject));
            let pair = rows::collect::<Grant, _>(&self.rows, home, &prefix, limits::SCOPES_PER_PAIR)?;
            void_if!(known.is_none() && pair.len() >= limits::SCOPES_PER_PAIR, Quota);
            let standing = pair.iter().filter(|(_, grant)| grant.stands).count();
            void_if!(stands && !stood && standing >= limits::GRANTS_PER_PAIR, Quota);
            let grants = self.get::<Issuer>(home, &issuer)?.unwrap_or_default().grants;
            void_if!(grants.on(day) >= self.policy().daily_grants, Quota);
            self.rows.put(home, &issuer, &Issuer { grants: grants.counted(day) });
        }
        self.rows.put(home, &key, &Grant { scope: scope.clone(), stands, expires, created });
        Ok(Ok(Effect::Granted { subject, issuer }))
    }

    /// Suspends `identity` for the `reason`, or takes that back if there is none. The newest statement counts, by
    /// `created`.
    pub(super) fn suspend(
        &mut self,
        identity: IdentityId,
        reason: Option<SuspendReason>,
        event: &VerifiedEvent,
        at: EntryPosition,
    ) -> FoldResult<S> {
        let (day, created) = (at.time.day(), event.event().created);
        let known = self.get::<Suspension>(self.statements, &identity)?;
        void_if!(known.is_some_and(|known| created <= known.created), Superseded);
        let counter = known.map(|known| known.statements).unwrap_or_default();
        void_if!(counter.on(day) >= limits::SUSPENSIONS_PER_DAY, Quota);
        let before = known.and_then(|known| known.standing);
        let since = before.map_or(at.time, |standing| standing.since);
        let standing = reason.map(|reason| Suspended { since, reason });
        let statements = counter.counted(day);
        self.rows.put(self.statements, &identity, &Suspension { standing, created, statements });
        Ok(Ok(Effect::Suspended { identity }))
    }
}
