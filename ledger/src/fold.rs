//! The fold of one log: each event is applied, or is void for the first reason that matches.

use crate::entry::VerifiedEvent;
use crate::event::Action;
use crate::id::{Domain, IdentityId};
use crate::key::PublicKey;
use crate::limits;
use crate::manifest::{LogId, Manifest, Policy};
use crate::rows::{
    self, Changes, Claim, DayCounter, HomeRow, Identity, KeyOwner, KeyVersion, MapId, MapName, NameOwner, Overlay,
    Revocation, Row, RowError, Rows, Status, text_key,
};
use crate::time::Millis;

mod access;
mod karma;
mod sponsor;

/// Why an event has no effect. The protocol fixes the order: the first reason that matches is the outcome. A node stores
/// the numbers: a reason keeps its own wherever it stands, and a new one takes the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, bincode::Encode, bincode::Decode)]
pub enum Void {
    /// This log does not carry the home, or belongs to an operator other than the one that the event names.
    NotHome = 0,
    /// Created more than 10 minutes after the entry's time.
    Future = 1,
    /// Created longer before the entry's time than the policy's `max_age_ms` allows.
    Stale = 2,
    /// The acting identity is not registered in its home.
    UnknownIdentity = 3,
    /// Signed by a key that is not authorized for this action.
    NotAuthorized = 4,
    /// The identity's key is revoked.
    Revoked = 5,
    /// A rotation to a version other than the next one, or a revocation of a version other than the current one.
    WrongVersion = 6,
    /// An identity of the home already has this name, or an id with the same first 16 bytes.
    NameTaken = 7,
    /// An identity of the home already has this key or had it earlier.
    KeyInUse = 8,
    /// The delta is 0 or exceeds the policy's `max_delta`.
    Delta = 9,
    /// Issuer and subject are the same identity.
    SelfAttestation = 10,
    /// The attestation to be retracted does not exist.
    NotFound = 11,
    /// The same attestation or claim was already applied.
    Duplicate = 12,
    /// The attestation was already retracted.
    AlreadyRetracted = 13,
    /// A statement about the same thing, not created earlier, was already applied.
    Superseded = 14,
    /// The day's cap for this provider and subject is used up.
    Cap = 15,
    /// A limit on what is applied per day, or on the size of a provider's statements, is reached.
    Quota = 16,
}

impl Void {
    /// Every reason, in the order in which the protocol checks them.
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

    /// The stable code for answers, logs and metrics.
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

/// What an applied event changed, for the join and the indexes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// An identity was registered.
    Registered {
        /// The new identity.
        identity: IdentityId,
    },
    /// A rotation or revocation in the home.
    KeyChanged {
        /// The identity whose key it is.
        identity: IdentityId,
    },
    /// A revocation whose home another log carries was recorded. Anybody can sign one about any key.
    Claimed {
        /// The identity that the claim is about.
        identity: IdentityId,
    },
    /// A provider attested karma to a subject.
    Attested {
        /// The identity that received the karma.
        subject: IdentityId,
        /// The identity that issued the attestation.
        provider: IdentityId,
        /// The attestation's number in the provider's sequence.
        number: u64,
        /// The effective delta: what the day's cap left of the delta.
        effective: i32,
    },
    /// A provider retracted an attestation.
    Retracted {
        /// The identity that had received the karma.
        subject: IdentityId,
        /// The identity that had issued the attestation.
        provider: IdentityId,
        /// The attestation's number in the provider's sequence.
        number: u64,
        /// The retraction's number in the same sequence.
        retraction: u64,
        /// The effective delta of the attestation.
        effective: i32,
    },
    /// An operator changed which of a provider's numbers it sponsors.
    Sponsored {
        /// The provider that the statement is about.
        provider: IdentityId,
    },
    /// A service let an agent do something there, or no longer.
    Granted {
        /// The agent that the grant is about.
        subject: IdentityId,
        /// The service.
        issuer: IdentityId,
    },
    /// An operator suspended an identity, or took that back.
    Suspended {
        /// The identity that the statement is about.
        identity: IdentityId,
    },
}

impl Effect {
    /// The identity that the event is about: the subject of karma, the provider of a statement.
    #[must_use]
    pub const fn about(&self) -> IdentityId {
        match self {
            Self::Registered { identity }
            | Self::KeyChanged { identity }
            | Self::Claimed { identity }
            | Self::Suspended { identity } => *identity,
            Self::Attested { subject, .. } | Self::Retracted { subject, .. } | Self::Granted { subject, .. } => {
                *subject
            }
            Self::Sponsored { provider } => *provider,
        }
    }
}

/// An event's outcome: its effect, or why it is void.
pub type Outcome = Result<Effect, Void>;

/// Folds entries of one log over its rows. The rows stay as they are; [`Fold::into_changes`] returns the changes.
pub struct Fold<'a, S> {
    manifest: &'a Manifest,
    log: &'a LogId,
    statements: MapId,
    claims: MapId,
    rows: Overlay<'a, S>,
}

/// The time and index of an entry: an event's effect depends on nothing else besides the rows.
#[derive(Clone, Copy, Debug)]
pub struct EntryPosition {
    /// The time of the entry.
    pub time: Millis,
    /// The index of the entry in its log, from 0.
    pub index: u64,
}

/// How many of its identity's first bytes a DID shows.
const DID_BYTES: usize = 16;

type FoldResult<S, T = Outcome> = Result<T, RowError<<S as Rows>::Error>>;

/// Returns the void reason from the surrounding function if the condition holds.
macro_rules! void_if {
    ($condition:expr, $reason:ident) => {
        if $condition {
            return Ok(Err(Void::$reason));
        }
    };
}
use void_if;

impl<'a, S: Rows> Fold<'a, S> {
    /// Starts from `base`, the rows after the log's earlier entries.
    pub fn new(manifest: &'a Manifest, log: &'a LogId, base: &'a S) -> Self {
        let statements = MapName::statements(&log.operator).id();
        let claims = MapName::claims(&log.operator).id();
        Self { manifest, log, statements, claims, rows: Overlay::new(base) }
    }

    /// Applies an event, or returns why it is void; a void event changes no row.
    ///
    /// # Errors
    /// [`RowError`]: the storage failed or is broken; the outcome of the event is unknown.
    pub fn apply(&mut self, event: &VerifiedEvent, at: EntryPosition) -> FoldResult<S> {
        let created = event.event().created;
        match &event.event().action {
            Action::Revoke { home, .. } => match self.carried(home) {
                Some(home) => self.revoke(home, event, at),
                None => self.claim(event, at),
            },
            Action::Admit { operator, .. }
            | Action::Dismiss { operator, .. }
            | Action::Suspend { operator, .. }
            | Action::Resume { operator, .. } => {
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

    /// The rows changed by all events applied so far, and the rows that were read, as they were before.
    pub fn into_changes(self) -> (Changes, Changes) {
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
            Action::Grant { .. } | Action::Ungrant { .. } => self.grant(home, event, at),
            Action::Revoke { .. }
            | Action::Admit { .. }
            | Action::Dismiss { .. }
            | Action::Suspend { .. }
            | Action::Resume { .. } => unreachable!("apply sends these elsewhere"),
        }
    }

    /// An operator's statement, about a provider or about an identity's use.
    fn state(&mut self, event: &VerifiedEvent, at: EntryPosition) -> FoldResult<S> {
        let owner = self.manifest.operator(&self.log.operator);
        let node_key = owner.map(|owner| PublicKey::Ed25519(owner.node_key.to_bytes()));
        void_if!(node_key != Some(event.signed().signer), NotAuthorized);
        match &event.event().action {
            Action::Suspend { identity, reason, .. } => self.suspend(*identity, Some(*reason), event, at),
            Action::Resume { identity, .. } => self.suspend(*identity, None, event, at),
            _ => self.sponsor(event, at),
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

    /// The current key of `identity`. Its row must exist: the fold never writes an identity without it.
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

    /// Whether an identity of the home has the same DID as `id` would have: the same first 16 bytes.
    fn did_in_use(&self, home: MapId, id: IdentityId) -> FoldResult<S, bool> {
        let mut prefix = rows::prefix::<Identity>(&id);
        prefix.truncate(1 + DID_BYTES);
        let mut found = false;
        let each = &mut |_: &[u8], _: &[u8]| {
            found = true;
            core::ops::ControlFlow::Break(())
        };
        self.rows.scan(home, &prefix, each).map_err(RowError::Storage)?;
        Ok(found)
    }

    fn register(&mut self, home: MapId, event: &VerifiedEvent, at: EntryPosition) -> FoldResult<S> {
        let Action::Register { name, key, next, .. } = &event.event().action else { unreachable!("a registration") };
        let (identity, day) = (event.id(), at.time.day());
        void_if!(self.get::<NameOwner>(home, &text_key(name.as_str()))?.is_some(), NameTaken);
        void_if!(self.did_in_use(home, identity)?, NameTaken);
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
        // A signer authorized at the version before `version`, as in a repeated rotation, gets `WrongVersion` instead.
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

    /// Records a revocation whose home another log carries; the join decides whether it counts.
    ///
    /// No count bounds a day's claims, only the log's bytes: whoever may record claims could use a count up, and shut
    /// out the one claim that counts.
    fn claim(&mut self, event: &VerifiedEvent, at: EntryPosition) -> FoldResult<S> {
        let Action::Revoke { identity, version, key, reason, .. } = &event.event().action else {
            unreachable!("a revocation")
        };
        let row_key = (*identity, *version, key.hash(), event.signed().signer.hash());
        void_if!(self.get::<Claim>(self.claims, &row_key)?.is_some(), Duplicate);
        let claim = Claim { reason: *reason, time: at.time, generation: self.log.generation, index: at.index };
        self.rows.put(self.claims, &row_key, &claim);
        Ok(Ok(Effect::Claimed { identity: *identity }))
    }
}
