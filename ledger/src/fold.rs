//! What one log means: each event is applied, or void with the first reason that fits.

use crate::entry::VerifiedEvent;
use crate::event::Action;
use crate::id::{Domain, IdentityId};
use crate::key::PublicKey;
use crate::limits;
use crate::manifest::{LogId, Manifest, Policy};
use crate::rows::{
    self, Changes, Claim, ClaimsRow, DayCounter, HomeRow, Identity, KeyOwner, KeyVersion, MapId, MapName, NameOwner,
    Overlay, Revocation, Row, RowError, Rows, Status, text_key,
};
use crate::time::Millis;

mod karma;
mod sponsor;

/// Why an event has no effect. The order is the protocol's: the first that fits is the outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, bincode::Encode, bincode::Decode)]
pub enum Void {
    /// This log does not carry the home, or belongs to another operator.
    NotHome,
    /// Created more than 10 minutes after the entry's time.
    Future,
    /// Created longer before the entry's time than the policy's `max_age`.
    Stale,
    /// The acting identity is not registered in its home.
    UnknownIdentity,
    /// Signed by a key that may not say this.
    NotAuthorized,
    /// The identity's key is revoked.
    Revoked,
    /// Not the version that comes next, or not the current one.
    WrongVersion,
    /// Another identity has this name.
    NameTaken,
    /// An identity of the home has or had this key.
    KeyInUse,
    /// Delta 0 or beyond the policy's `max_delta`.
    Delta,
    /// Issuer and subject are one.
    SelfAttestation,
    /// No such attestation.
    NotFound,
    /// It was said before.
    Duplicate,
    /// It was retracted before.
    AlreadyRetracted,
    /// A later statement on the same provider, service and domain was applied before.
    Superseded,
    /// Nothing is left of the day's cap.
    Cap,
    /// As many as a day allows were applied.
    Quota,
}

impl Void {
    /// Every reason in the protocol's order.
    pub const ALL: [Self; 17] = [
        Self::NotHome,
        Self::Future,
        Self::Stale,
        Self::UnknownIdentity,
        Self::NotAuthorized,
        Self::Revoked,
        Self::WrongVersion,
        Self::NameTaken,
        Self::KeyInUse,
        Self::Delta,
        Self::SelfAttestation,
        Self::NotFound,
        Self::Duplicate,
        Self::AlreadyRetracted,
        Self::Superseded,
        Self::Cap,
        Self::Quota,
    ];

    /// Stable code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NotHome => "not_home",
            Self::Future => "future",
            Self::Stale => "stale",
            Self::UnknownIdentity => "unknown_identity",
            Self::NotAuthorized => "not_authorized",
            Self::Revoked => "revoked",
            Self::WrongVersion => "wrong_version",
            Self::NameTaken => "name_taken",
            Self::KeyInUse => "key_in_use",
            Self::Delta => "delta",
            Self::SelfAttestation => "self",
            Self::NotFound => "not_found",
            Self::Duplicate => "duplicate",
            Self::AlreadyRetracted => "already_retracted",
            Self::Superseded => "superseded",
            Self::Cap => "cap",
            Self::Quota => "quota",
        }
    }
}

/// What an applied event changed, as far as the join and indexes need to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A new identity.
    Registered {
        /// It.
        identity: IdentityId,
    },
    /// A rotation, a revocation in the home, or a claim elsewhere.
    KeyChanged {
        /// Whose key.
        identity: IdentityId,
    },
    /// Karma given.
    Attested {
        /// Who got it.
        subject: IdentityId,
        /// Who gave it.
        provider: IdentityId,
        /// The provider's number of it.
        number: u64,
        /// What the cap left of its delta.
        effective: i32,
    },
    /// Karma taken back.
    Retracted {
        /// Who had got it.
        subject: IdentityId,
        /// Who had given it.
        provider: IdentityId,
        /// The attestation's number.
        number: u64,
        /// The retraction's own number.
        retraction: u64,
        /// What the attestation had counted.
        effective: i32,
    },
    /// An operator changed what it sponsors.
    Sponsored {
        /// Of whom.
        provider: IdentityId,
    },
}

impl Effect {
    /// The identity that the event is about: the subject of karma, the provider of a statement.
    #[must_use]
    pub const fn about(&self) -> IdentityId {
        match self {
            Self::Registered { identity } | Self::KeyChanged { identity } => *identity,
            Self::Attested { subject, .. } | Self::Retracted { subject, .. } => *subject,
            Self::Sponsored { provider } => *provider,
        }
    }
}

/// What became of an event.
pub type Outcome = Result<Effect, Void>;

/// Folds entries of one log over its rows. Changes are kept apart until taken with [`Fold::into_changes`].
pub struct Fold<'a, S> {
    manifest: &'a Manifest,
    log: &'a LogId,
    statements: MapId,
    claims: MapId,
    rows: Overlay<'a, S>,
}

/// An entry's place: what an event's effect may depend on besides the rows.
#[derive(Clone, Copy, Debug)]
pub struct EntryPosition {
    /// The entry's time.
    pub time: Millis,
    /// The entry's index in its log.
    pub index: u64,
}

type FoldResult<S, T = Outcome> = Result<T, RowError<<S as Rows>::Error>>;

/// Returns the void reason from the function around it.
macro_rules! void_if {
    ($condition:expr, $reason:ident) => {
        if $condition {
            return Ok(Err(Void::$reason));
        }
    };
}
use void_if;

impl<'a, S: Rows> Fold<'a, S> {
    /// Begins with the rows that the log's earlier entries left.
    pub fn new(manifest: &'a Manifest, log: &'a LogId, base: &'a S) -> Self {
        let statements = MapName::statements(&log.operator).id();
        let claims = MapName::claims(&log.operator).id();
        Self { manifest, log, statements, claims, rows: Overlay::new(base) }
    }

    /// Applies an event, or says why it is void; a void event changes no row.
    ///
    /// # Errors
    /// [`RowError`]: the storage failed or is broken, nothing is known of the event.
    pub fn apply(&mut self, event: &VerifiedEvent, at: EntryPosition) -> FoldResult<S> {
        let created = event.event().created;
        match &event.event().action {
            Action::Revoke { home, .. } => match self.carried(home) {
                Some(home) => self.revoke(home, event, at),
                None => self.claim(event, at),
            },
            Action::Admit { operator, .. } | Action::Dismiss { operator, .. } => {
                void_if!(*operator != self.log.operator, NotHome);
                match self.untimely(created, at.time) {
                    Some(void) => Ok(Err(void)),
                    None => self.state(event, at),
                }
            }
            action => {
                let Some(home) = self.carried(action.place()) else { return Ok(Err(Void::NotHome)) };
                match self.untimely(created, at.time) {
                    Some(void) => Ok(Err(void)),
                    None => self.act(home, event, at),
                }
            }
        }
    }

    /// The changed rows.
    pub fn into_changes(self) -> Changes {
        self.rows.into_changes()
    }

    pub(crate) const fn rows(&mut self) -> &mut Overlay<'a, S> {
        &mut self.rows
    }

    fn act(&mut self, home: MapId, event: &VerifiedEvent, at: EntryPosition) -> FoldResult<S> {
        match &event.event().action {
            Action::Register { .. } => self.register(home, event, at),
            Action::Rotate { .. } => self.rotate(home, event, at),
            Action::Attest { .. } => self.attest(home, event, at),
            Action::Retract { .. } => self.retract(home, event, at),
            Action::Revoke { .. } | Action::Admit { .. } | Action::Dismiss { .. } => {
                unreachable!("apply sends these elsewhere")
            }
        }
    }

    const fn policy(&self) -> &'a Policy {
        self.manifest.policy()
    }

    /// The map of `home`, if this log carries it.
    fn carried(&self, home: &Domain) -> Option<MapId> {
        (self.manifest.homes().get(home) == Some(self.log)).then(|| MapName::home(home).id())
    }

    const fn untimely(&self, created: Millis, time: Millis) -> Option<Void> {
        if created.0 > time.plus(limits::FUTURE_MILLIS_MAX).0 {
            Some(Void::Future)
        } else if created.plus(self.policy().max_age_ms).0 < time.0 {
            Some(Void::Stale)
        } else {
            None
        }
    }

    fn get<R: Row>(&self, map: MapId, key: &R::Key) -> FoldResult<S, Option<R>> {
        rows::read(&self.rows, map, key)
    }

    /// The key that `identity` has now; an identity without it was never written.
    fn current_key(&self, home: MapId, id: IdentityId, identity: &Identity) -> FoldResult<S, KeyVersion> {
        let version = self.get::<KeyVersion>(home, &(id, identity.version))?;
        version.ok_or(RowError::Broken(crate::codec::CodecError::Malformed))
    }

    fn key_in_use(&self, home: MapId, key: &PublicKey) -> FoldResult<S, bool> {
        Ok(self.get::<KeyOwner>(home, &text_key(&alloc::format!("{key}")))?.is_some())
    }

    fn put_key(&mut self, home: MapId, id: IdentityId, version: u32, row: &KeyVersion) {
        self.rows.put(home, &text_key(&alloc::format!("{}", row.key)), &KeyOwner(id));
        self.rows.put(home, &(id, version), row);
    }

    fn register(&mut self, home: MapId, event: &VerifiedEvent, at: EntryPosition) -> FoldResult<S> {
        let Action::Register { name, key, next, .. } = &event.event().action else { unreachable!("a registration") };
        let (identity, day) = (event.id(), at.time.day());
        void_if!(self.get::<NameOwner>(home, &text_key(name.as_str()))?.is_some(), NameTaken);
        void_if!(self.key_in_use(home, key)?, KeyInUse);
        let counter = self.get::<HomeRow>(home, &())?.unwrap_or_default().registrations;
        void_if!(counter.on(day) >= self.policy().daily_registrations, Quota);
        self.rows.put(home, &(), &HomeRow { registrations: counter.counted(day) });
        self.rows.put(home, &text_key(name.as_str()), &NameOwner(identity));
        self.put_key(home, identity, 1, &KeyVersion { key: *key, time: at.time, next: *next, revoked: None });
        let rotations = DayCounter::default();
        let row = Identity { name: name.clone(), version: 1, status: Status::Active, rotations };
        self.rows.put(home, &identity, &row);
        Ok(Ok(Effect::Registered { identity }))
    }

    fn rotate(&mut self, home: MapId, event: &VerifiedEvent, at: EntryPosition) -> FoldResult<S> {
        let Action::Rotate { identity: id, version, key, next, .. } = &event.event().action else {
            unreachable!("a rotation")
        };
        let Some(identity) = self.get::<Identity>(home, id)? else { return Ok(Err(Void::UnknownIdentity)) };
        let current = self.current_key(home, *id, &identity)?;
        let signer = event.signed().signer;
        let authorized = |row: &KeyVersion| match row.next {
            Some(next) => signer == *key && key.hash() == next,
            None => signer == row.key,
        };
        // Who might have made this rotation once, such as one said twice, meets its version.
        let formerly = || self.get::<KeyVersion>(home, &(*id, version.saturating_sub(1)));
        void_if!(!authorized(&current) && !formerly()?.is_some_and(|row| authorized(&row)), NotAuthorized);
        void_if!(current.next.is_none() && identity.status == Status::Revoked, Revoked);
        void_if!(identity.version.checked_add(1) != Some(*version), WrongVersion);
        void_if!(self.key_in_use(home, key)?, KeyInUse);
        void_if!(identity.rotations.on(at.time.day()) >= limits::ROTATIONS_PER_DAY, Quota);
        self.put_key(home, *id, *version, &KeyVersion { key: *key, time: at.time, next: *next, revoked: None });
        let rotations = identity.rotations.counted(at.time.day());
        self.rows.put(home, id, &Identity { version: *version, status: Status::Active, rotations, ..identity });
        Ok(Ok(Effect::KeyChanged { identity: *id }))
    }

    fn revoke(&mut self, home: MapId, event: &VerifiedEvent, at: EntryPosition) -> FoldResult<S> {
        let Action::Revoke { identity: id, version, key, reason, .. } = &event.event().action else {
            unreachable!("a revocation")
        };
        let Some(identity) = self.get::<Identity>(home, id)? else { return Ok(Err(Void::UnknownIdentity)) };
        let named = self.get::<KeyVersion>(home, &(*id, *version))?;
        let signer = event.signed().signer;
        let authorized = |row: &KeyVersion| row.key == *key && (signer == *key || row.next == Some(signer.hash()));
        void_if!(named.as_ref().is_some_and(|row| !authorized(row)), NotAuthorized);
        void_if!(identity.status == Status::Revoked, Revoked);
        let Some(row) = named.filter(|_| identity.version == *version) else { return Ok(Err(Void::WrongVersion)) };
        let revoked = Some(Revocation { time: at.time, reason: *reason });
        self.rows.put(home, &(*id, *version), &KeyVersion { revoked, ..row });
        self.rows.put(home, id, &Identity { status: Status::Revoked, ..identity });
        Ok(Ok(Effect::KeyChanged { identity: *id }))
    }

    /// A revocation whose home another log carries: recorded, and judged by the join.
    fn claim(&mut self, event: &VerifiedEvent, at: EntryPosition) -> FoldResult<S> {
        let Action::Revoke { identity, version, key, reason, .. } = &event.event().action else {
            unreachable!("a revocation")
        };
        let row_key = (*identity, *version, key.hash(), event.signed().signer.hash());
        void_if!(self.get::<Claim>(self.claims, &row_key)?.is_some(), Duplicate);
        let counter = self.get::<ClaimsRow>(self.claims, &())?.unwrap_or_default().claims;
        void_if!(counter.on(at.time.day()) >= self.policy().daily_claims, Quota);
        self.rows.put(self.claims, &(), &ClaimsRow { claims: counter.counted(at.time.day()) });
        let claim = Claim { reason: *reason, time: at.time, generation: self.log.generation, index: at.index };
        self.rows.put(self.claims, &row_key, &claim);
        Ok(Ok(Effect::KeyChanged { identity: *identity }))
    }
}
