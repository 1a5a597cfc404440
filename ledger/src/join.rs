//! The join of all logs: key status, sponsorship and karma. Reads rows, writes none.
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::ops::ControlFlow;

use bincode::{Decode, Encode};

use crate::codec::{self, CodecError};
use crate::event::{RevokeReason, Scope, Service};
use crate::id::{Domain, IdentityId, KeyHash, ManifestHash, Name, StateId, StateRoot, TreeRoot};
use crate::limits;
use crate::log::Head;
use crate::manifest::{LogId, Manifest};
use crate::rows::{
    self, Attested, Claim, DayRow, Grant, Identity, Interval, KeyVersion, MapId, MapName, NameOwner, Provider,
    RowError, Rows, Statement, StoredRows, Suspended, Suspension, Tally, prefix, text_key,
};
use crate::time::{Day, Millis};

mod scores;

pub use scores::{
    KarmaChange, KeptScore, MemoryScores, NumbersChange, Recount, Recounting, Score, ScoreChanges, ScoreUpdate, Scores,
};

/// Most rows that one read collects: versions of one identity, or days of one provider and subject.
const COLLECT_MAX: usize = 1 << 20;

/// A set of a provider's numbers, as sorted, disjoint intervals.
#[derive(Clone, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct Numbers(Vec<Interval>);

impl Numbers {
    /// The empty set.
    pub(crate) const NONE: &'static Self = &Self(Vec::new());

    /// Whether the set contains every number.
    #[must_use]
    pub fn is_all(&self) -> bool {
        is_all(&self.0)
    }

    /// Whether the set contains no number.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the set contains `number`.
    #[must_use]
    pub fn contains(&self, number: u64) -> bool {
        self.0.iter().any(|i| i.start <= number && i.end.is_none_or(|end| number < end))
    }

    /// The intervals: sorted, disjoint, not touching.
    #[must_use]
    pub fn intervals(&self) -> &[Interval] {
        &self.0
    }

    /// The numbers that `want` operators sponsor for the same one of these services: those that count.
    #[must_use]
    pub fn of_any(services: &[Sponsorship], want: usize) -> Self {
        let services: Vec<Self> = services.iter().map(|one| one.numbers(want)).collect();
        let sets: Vec<&[Interval]> = services.iter().map(Self::intervals).collect();
        Self::shared(&sets, 1)
    }

    /// The numbers that at least `want` of the `sets` contain.
    fn shared(sets: &[&[Interval]], want: usize) -> Self {
        let mut steps: BTreeMap<u64, i64> = BTreeMap::new();
        for interval in sets.iter().copied().flatten() {
            let up = steps.entry(interval.start).or_default();
            *up = up.saturating_add(1);
            if let Some(end) = interval.end {
                let down = steps.entry(end).or_default();
                *down = down.saturating_sub(1);
            }
        }
        Self::above(&steps, i64::try_from(want).unwrap_or(i64::MAX))
    }

    /// The numbers where the running sum of `steps` is at least `want`.
    fn above(steps: &BTreeMap<u64, i64>, want: i64) -> Self {
        let (mut level, mut open, mut found) = (0i64, None, Vec::new());
        for (at, step) in steps {
            level = level.saturating_add(*step);
            match open {
                None if level >= want => open = Some(*at),
                Some(start) if level < want => {
                    found.push(Interval { start, end: Some(*at) });
                    open = None;
                }
                _ => {}
            }
        }
        found.extend(open.map(|start| Interval { start, end: None }));
        Self(found)
    }
}

/// A service for which operators sponsor a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sponsorship {
    /// The service that the provider is sponsored for.
    pub service: Service,
    /// The domain of the service.
    pub domain: Domain,
    /// The numbers that each operator sponsors, usually ordered by the operators' names.
    pub sponsors: Vec<(Domain, Vec<Interval>)>,
}

/// Karma: a sum of effective deltas and the number of attestations in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Encode, Decode)]
pub struct Karma {
    /// The sum of the effective deltas.
    pub sum: i64,
    /// The number of attestations in the sum.
    pub count: u64,
}

impl Karma {
    pub(crate) const fn plus(self, other: Self) -> Self {
        Self { sum: self.sum.saturating_add(other.sum), count: self.count.saturating_add(other.count) }
    }

    const fn minus(self, other: Self) -> Self {
        Self { sum: self.sum.saturating_sub(other.sum), count: self.count.saturating_sub(other.count) }
    }
}

/// Grants of one issuer that stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantedPage {
    /// Subjects and what they may do, ordered by subject and hash of the scope.
    pub grants: Vec<(IdentityId, Grant)>,
    /// The subject after which the next page begins; `None` if this is the last.
    pub after: Option<IdentityId>,
}

/// An identity and the home that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocatedIdentity {
    /// The id of the identity.
    pub id: IdentityId,
    /// The home in which it is registered.
    pub home: Domain,
    /// Its row in that home.
    pub identity: Identity,
}

/// A revocation of the current key, in its home or as a claim in another log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Revoked {
    /// The operator whose log has the claim, the least by (operator, generation, index); `None`: revoked in the home.
    pub operator: Option<Domain>,
    /// The generation of that log and the index of the claim's entry; `None`: revoked in the home.
    pub place: Option<(u32, u64)>,
    /// The time of the revocation's entry.
    pub time: Millis,
    /// The reason that the revocation gives.
    pub reason: RevokeReason,
}

/// An identity's current key, and whether it is revoked.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct KeyStatus {
    /// The version of the current key.
    pub version: u32,
    /// The row of the current key in its home.
    pub current: KeyVersion,
    /// The revocation of the current key, if any.
    pub revoked: Option<Revoked>,
}

type ReadResult<S, T> = Result<T, RowError<<S as Rows>::Error>>;
/// The numbers that each operator sponsors, by service and domain.
type Sponsors = BTreeMap<(Service, Domain), Vec<(Domain, Vec<Interval>)>>;

/// The identity that a row of this kind is about; `None` for rows of other kinds.
fn id_of<R: rows::Row>(key: &[u8]) -> Option<IdentityId> {
    key.strip_prefix(&[R::TAG]).and_then(|rest| rest.first_chunk()).map(|id| crate::id::EventId(*id))
}

/// Where the rows of a kind begin that are about the identities after `after`: behind every row about that one, since no
/// key has more than 64 bytes after an id.
fn after_id<R: rows::Row>(after: Option<IdentityId>) -> Vec<u8> {
    let mut from = alloc::vec![R::TAG];
    if let Some(after) = after {
        from.extend(after.0);
        from.extend([u8::MAX; 65]);
    }
    from
}

fn is_all(intervals: &[Interval]) -> bool {
    intervals == [Interval { start: 0, end: None }]
}

/// The numbers that at least `want` of the operators sponsor.
fn counted_by(sponsors: &[(Domain, Vec<Interval>)], want: usize) -> Numbers {
    let sets: Vec<&[Interval]> = sponsors.iter().map(|(_, intervals)| intervals.as_slice()).collect();
    Numbers::shared(&sets, want)
}

/// The join of all logs over their rows.
pub struct Join<'a, S> {
    manifest: &'a Manifest,
    rows: &'a S,
    homes: Vec<(Domain, MapId)>,
    statements: Vec<(Domain, MapId)>,
    claims: Vec<(Domain, MapId)>,
}

impl<'a, S: Rows> Join<'a, S> {
    /// Joins all homes and operators of `manifest`, and the claims of former operators.
    #[must_use]
    pub fn new(manifest: &'a Manifest, rows: &'a S) -> Self {
        let homes = manifest.homes().keys().map(|home| (home.clone(), MapName::home(home).id())).collect();
        let mut operators: Vec<_> = manifest.operators().iter().map(|operator| operator.name.clone()).collect();
        operators.sort();
        let statements = operators.iter().map(|name| (name.clone(), MapName::statements(name).id())).collect();
        // A claim counts whichever operator recorded it, also if that operator has left the federation.
        let claims = manifest.records().keys().map(|name| (name.clone(), MapName::claims(name).id())).collect();
        Self { manifest, rows, homes, statements, claims }
    }

    /// The manifest whose homes, operators and policy the join uses.
    #[must_use]
    pub const fn manifest(&self) -> &'a Manifest {
        self.manifest
    }

    /// The identity with this id, in any home.
    ///
    /// # Errors
    /// [`RowError`]: the storage failed or is broken. The same holds for every method of the join.
    pub fn identity(&self, id: IdentityId) -> ReadResult<S, Option<LocatedIdentity>> {
        for (home, map) in &self.homes {
            if let Some(identity) = rows::read::<Identity, S>(self.rows, *map, &id)? {
                return Ok(Some(LocatedIdentity { id, home: home.clone(), identity }));
            }
        }
        Ok(None)
    }

    /// The identity with this id in `home`; unlike [`Join::identity`], reads no other home.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn identity_in(&self, home: &Domain, id: IdentityId) -> ReadResult<S, Option<LocatedIdentity>> {
        let identity = rows::read::<Identity, S>(self.rows, MapName::home(home).id(), &id)?;
        Ok(identity.map(|identity| LocatedIdentity { id, home: home.clone(), identity }))
    }

    /// The identity named `name` in `home`.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn named(&self, name: &Name, home: &Domain) -> ReadResult<S, Option<IdentityId>> {
        if !self.manifest.homes().contains_key(home) {
            return Ok(None);
        }
        let owner = rows::read::<NameOwner, S>(self.rows, MapName::home(home).id(), &text_key(name.as_str()))?;
        Ok(owner.map(|NameOwner(id)| id))
    }

    /// The identity in `home` whose id begins with these 16 bytes; the first one if there are several.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn with_prefix(&self, home: &Domain, digits: &[u8; 16]) -> ReadResult<S, Option<IdentityId>> {
        if !self.manifest.homes().contains_key(home) {
            return Ok(None);
        }
        let mut start = alloc::vec![<Identity as rows::Row>::TAG];
        start.extend_from_slice(digits);
        let found = rows::collect::<Identity, S>(self.rows, MapName::home(home).id(), &start, 1)?;
        Ok(found.into_iter().next().and_then(|(rest, _)| {
            let mut id = digits.to_vec();
            id.extend(rest);
            <[u8; 32]>::try_from(id).ok().map(crate::id::EventId)
        }))
    }

    /// At most `max` identities whose id begins with these hex digits, in homes that begin with `home`, home by home.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn with_digits(&self, digits: &str, home: Option<&str>, max: usize) -> ReadResult<S, Vec<LocatedIdentity>> {
        let mut found = Vec::new();
        // Whole bytes are the beginning of a row's key; a last single digit is compared.
        let even = digits.get(..digits.len() & !1).unwrap_or_default();
        let byte = |at: usize| even.get(at..at.saturating_add(2)).and_then(|two| u8::from_str_radix(two, 16).ok());
        let Some(bytes) = (0..even.len()).step_by(2).map(byte).collect::<Option<Vec<u8>>>() else { return Ok(found) };
        let tag = <Identity as rows::Row>::TAG;
        let start = [&[tag], bytes.as_slice()].concat();
        for (name, map) in self.homes.iter().filter(|(name, _)| home.is_none_or(|home| name.as_str().starts_with(home)))
        {
            if found.len() >= max {
                break;
            }
            let mut result = Ok(());
            let scanned = self.rows.scan(*map, &start, &mut |key, value| {
                let id = key.get(1..).and_then(|id| <[u8; 32]>::try_from(id).ok()).map(crate::id::EventId);
                let row = rows::decode_row::<Identity, S::Error>(value);
                match (id, row) {
                    (Some(id), Ok(identity)) if alloc::format!("{id}").starts_with(digits) => {
                        found.push(LocatedIdentity { id, home: name.clone(), identity });
                    }
                    (Some(_), Ok(_)) => {}
                    (_, Err(error)) => result = Err(error),
                    (None, _) => result = Err(RowError::Broken(CodecError::Malformed)),
                }
                if result.is_err() || found.len() >= max { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            scanned.map_err(RowError::Storage)?;
            result?;
        }
        Ok(found)
    }

    /// Every key version of an identity, oldest first.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn keys(&self, found: &LocatedIdentity) -> ReadResult<S, Vec<KeyVersion>> {
        let map = MapName::home(&found.home).id();
        let versions = rows::collect::<KeyVersion, S>(self.rows, map, &prefix::<KeyVersion>(&found.id), COLLECT_MAX)?;
        Ok(versions.into_iter().map(|(_, version)| version).collect())
    }

    /// One version of an identity's key; `None` if there is none of this number.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn key_version(&self, found: &LocatedIdentity, version: u32) -> ReadResult<S, Option<KeyVersion>> {
        rows::read::<KeyVersion, S>(self.rows, MapName::home(&found.home).id(), &(found.id, version))
    }

    /// The current key and its revocation: the one in the home if there is one, otherwise the first valid claim.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn key_status(&self, found: &LocatedIdentity) -> ReadResult<S, KeyStatus> {
        let map = MapName::home(&found.home).id();
        let version = found.identity.version;
        let current = rows::read::<KeyVersion, S>(self.rows, map, &(found.id, version))?;
        let current = current.ok_or(RowError::Broken(CodecError::Malformed))?;
        let at_home = current.revoked.map(|r| Revoked { operator: None, place: None, time: r.time, reason: r.reason });
        let revoked = match at_home {
            Some(revoked) => Some(revoked),
            None => self.claimed(found.id, version, &current)?,
        };
        Ok(KeyStatus { version, current, revoked })
    }

    /// The valid claim against `current` that is least by (operator, generation, index).
    fn claimed(&self, id: IdentityId, version: u32, current: &KeyVersion) -> ReadResult<S, Option<Revoked>> {
        let key = current.key.hash();
        for (operator, map) in &self.claims {
            let signers = [Some(key), current.next];
            let mut best: Option<Claim> = None;
            for signer in signers.into_iter().flatten() {
                let claim = rows::read::<Claim, S>(self.rows, *map, &(id, version, key, signer))?;
                best = best.into_iter().chain(claim).min_by_key(|claim| (claim.generation, claim.index));
            }
            if let Some(claim) = best {
                let place = Some((claim.generation, claim.index));
                return Ok(Some(Revoked {
                    operator: Some(operator.clone()),
                    place,
                    time: claim.time,
                    reason: claim.reason,
                }));
            }
        }
        Ok(None)
    }

    /// The claims against one version of an identity's keys that count: those signed by that key or by the committed
    /// one. For each operator and signer the first. Claims that do not count are not read.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn claims(&self, found: &LocatedIdentity, version: u32) -> ReadResult<S, Vec<(LogId, Claim)>> {
        let map = MapName::home(&found.home).id();
        let Some(row) = rows::read::<KeyVersion, S>(self.rows, map, &(found.id, version))? else {
            return Ok(Vec::new());
        };
        let (key, mut all) = (row.key.hash(), Vec::new());
        for (operator, map) in &self.claims {
            for signer in [Some(key), row.next].into_iter().flatten() {
                let claim = rows::read::<Claim, S>(self.rows, *map, &(found.id, version, key, signer))?;
                let log = |claim: &Claim| LogId { operator: operator.clone(), generation: claim.generation };
                all.extend(claim.map(|claim| (log(&claim), claim)));
            }
        }
        Ok(all)
    }

    /// Whether a claim against `key`, signed by `signer`, matches the home's key of that version or its commitment.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn fits_chain(
        &self,
        found: &LocatedIdentity,
        version: u32,
        key: KeyHash,
        signer: KeyHash,
    ) -> ReadResult<S, bool> {
        let map = MapName::home(&found.home).id();
        let row = rows::read::<KeyVersion, S>(self.rows, map, &(found.id, version))?;
        Ok(row.is_some_and(|row| row.key.hash() == key && (signer == key || row.next == Some(signer))))
    }

    /// The operators of the manifest whose suspension of the identity stands, by name.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn suspended_by(&self, identity: IdentityId) -> ReadResult<S, Vec<(Domain, Suspended)>> {
        let mut found = Vec::new();
        for (operator, map) in &self.statements {
            let row = rows::read::<Suspension, S>(self.rows, *map, &identity)?;
            found.extend(row.and_then(|row| row.standing).map(|standing| (operator.clone(), standing)));
        }
        Ok(found)
    }

    /// Whether a suspension of the identity holds: that of as many operators as the policy wants.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn is_suspended(&self, identity: IdentityId) -> ReadResult<S, bool> {
        Ok(self.suspended_by(identity)?.len() >= self.manifest.policy().sponsors_wanted())
    }

    /// The grants of `issuer` to `subject` that stand, at most [`limits::GRANTS_PER_PAIR`], ordered by the hash of their
    /// scope. Whether they have ended, and whether the issuer's key is in force, is for the caller to see.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn grants(&self, issuer: &LocatedIdentity, subject: IdentityId) -> ReadResult<S, Vec<Grant>> {
        let (map, pair) = (MapName::home(&issuer.home).id(), prefix::<Grant>(&(issuer.id, subject)));
        let all = rows::collect::<Grant, S>(self.rows, map, &pair, limits::SCOPES_PER_PAIR)?;
        Ok(all.into_iter().map(|(_, grant)| grant).filter(|grant| grant.stands).collect())
    }

    /// What `issuer` said last about `subject` and `scope`.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn grant(&self, issuer: &LocatedIdentity, subject: IdentityId, scope: &Scope) -> ReadResult<S, Option<Grant>> {
        let key = (issuer.id, subject, text_key(scope.as_str()));
        rows::read::<Grant, S>(self.rows, MapName::home(&issuer.home).id(), &key)
    }

    /// At most `limit` grants of `issuer` that stand, with their subjects, ordered by subject and hash of the scope, all
    /// after the subject `after`. Reads at most [`limits::SCOPES_PER_PAIR`] rows a subject, and `rows_max` in all; says
    /// which subject it read last if there may be more.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn granted(
        &self,
        issuer: &LocatedIdentity,
        after: Option<IdentityId>,
        limit: usize,
        rows_max: usize,
    ) -> ReadResult<S, GrantedPage>
    where
        S: StoredRows,
    {
        let mut page = GrantedPage { grants: Vec::new(), after: None };
        let (mut read, mut last, mut broken) = (0usize, None, Ok(()));
        let own = prefix::<Grant>(&issuer.id);
        let mut from = own.clone();
        if let Some(after) = after {
            from.extend(after.0);
            from.extend([u8::MAX; 33]);
        }
        let scanned = self.rows.scan_from(MapName::home(&issuer.home).id(), 0, &from, &mut |key, value| {
            let subject = key.strip_prefix(own.as_slice()).and_then(|rest| rest.first_chunk());
            let Some(subject) = subject.map(|id| crate::id::EventId(*id)) else { return ControlFlow::Break(()) };
            // A page ends between two subjects.
            if last.is_some_and(|last| last != subject) && (page.grants.len() >= limit || read >= rows_max) {
                page.after = last;
                return ControlFlow::Break(());
            }
            (last, read) = (Some(subject), read.saturating_add(1));
            match rows::decode_row::<Grant, S::Error>(value) {
                Ok(grant) if grant.stands => page.grants.push((subject, grant)),
                Ok(_) => {}
                Err(error) => broken = Err(error),
            }
            if broken.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        scanned.map_err(RowError::Storage)?;
        broken.map(|()| page)
    }

    /// The numbers of a provider that each operator sponsors, ordered by service and domain.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn sponsorships(&self, provider: IdentityId) -> ReadResult<S, Vec<Sponsorship>> {
        let all = self.sponsors(provider, None)?.into_iter();
        Ok(all.map(|((service, domain), sponsors)| Sponsorship { service, domain, sponsors }).collect())
    }

    /// The numbers of a provider that operators sponsor. Stops reading as soon as `enough` operators sponsor every
    /// number for one service and domain: then every number counts, in whatever order the operators were read. And as
    /// soon as so many cannot sponsor any number any more, whatever the other operators said: then none counts.
    fn sponsors(&self, provider: IdentityId, enough: Option<usize>) -> ReadResult<S, Sponsors> {
        let (mut found, start) = (Sponsors::new(), prefix::<Statement>(&provider));
        let (mut first, mut then) = (Vec::new(), Vec::new());
        for statements in &self.statements {
            let likely = self.rows.is_likely(statements.1, &start).map_err(RowError::Storage)?;
            if likely { first.push(statements) } else { then.push(statements) }
        }
        let mut unread = self.statements.len();
        for (operator, map) in first.into_iter().chain(then) {
            unread = unread.saturating_sub(1);
            for (_, row) in rows::collect::<Statement, S>(self.rows, *map, &start, limits::TRIPLES_PER_PROVIDER)? {
                found.entry((row.service, row.domain)).or_default().push((operator.clone(), row.intervals));
            }
            let whole = |sponsors: &Vec<(Domain, Vec<Interval>)>| sponsors.iter().filter(|(_, of)| is_all(of)).count();
            let Some(enough) = enough else { continue };
            let most = found.values().map(Vec::len).max().unwrap_or_default();
            if most.saturating_add(unread) < enough || found.values().any(|sponsors| whole(sponsors) >= enough) {
                break;
            }
        }
        Ok(found)
    }

    /// At most `limit` providers about which an operator ever made a statement, in the order of their ids, all after
    /// `after`. Also those whose only sponsors have left the federation.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn stated(&self, after: Option<IdentityId>, limit: usize) -> ReadResult<S, BTreeSet<IdentityId>>
    where
        S: StoredRows,
    {
        let from = after_id::<Statement>(after);
        let mut all = BTreeSet::new();
        for operator in self.manifest.records().keys() {
            let mut found = BTreeSet::new();
            let scanned = self.rows.scan_from(MapName::statements(operator).id(), 0, &from, &mut |key, _| {
                let id = id_of::<Statement>(key).filter(|id| found.len() < limit || found.contains(id));
                id.map_or(ControlFlow::Break(()), |id| {
                    found.insert(id);
                    ControlFlow::Continue(())
                })
            });
            scanned.map_err(RowError::Storage)?;
            all.extend(found);
        }
        // Each map has its first ones, so the first ones of all are among them.
        Ok(all.into_iter().take(limit).collect())
    }

    /// At most `limit` identities that are registered in `home`, in the order of their ids, all after `after`.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn registered(&self, home: &Domain, after: Option<IdentityId>, limit: usize) -> ReadResult<S, Vec<IdentityId>>
    where
        S: StoredRows,
    {
        let mut found = Vec::new();
        let from = after_id::<Identity>(after);
        let scanned = self.rows.scan_from(MapName::home(home).id(), 0, &from, &mut |key, _| {
            let id = id_of::<Identity>(key).filter(|_| found.len() < limit);
            id.map_or(ControlFlow::Break(()), |id| {
                found.push(id);
                ControlFlow::Continue(())
            })
        });
        scanned.map_err(RowError::Storage)?;
        Ok(found)
    }

    /// The provider's numbers that count: those that `min_sponsors` operators sponsor for the same service and domain.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn sponsored(&self, provider: IdentityId) -> ReadResult<S, Numbers> {
        let want = self.manifest.policy().sponsors_wanted();
        // Once all numbers count, further rows change nothing, and a proof need not contain them.
        let services: Vec<Numbers> =
            self.sponsors(provider, Some(want))?.values().map(|sponsors| counted_by(sponsors, want)).collect();
        let sets: Vec<&[Interval]> = services.iter().map(Numbers::intervals).collect();
        Ok(Numbers::shared(&sets, 1))
    }

    /// The number of the provider's next attestation or retraction.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn next_number(&self, home: &Domain, provider: IdentityId) -> ReadResult<S, u64> {
        let row = rows::read::<Provider, S>(self.rows, MapName::home(home).id(), &provider)?;
        Ok(row.unwrap_or_default().next)
    }

    /// What an identity's home counts of its attestations and retractions; nothing if it made none.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn provider(&self, found: &LocatedIdentity) -> ReadResult<S, Provider> {
        let row = rows::read::<Provider, S>(self.rows, MapName::home(&found.home).id(), &found.id)?;
        Ok(row.unwrap_or_default())
    }

    /// All that a provider ever attested to a subject, retracted or not, day by day.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn attestations(&self, provider: &LocatedIdentity, subject: IdentityId) -> ReadResult<S, Vec<Attested>> {
        let (map, start) = (MapName::home(&provider.home).id(), prefix::<DayRow>(&(subject, provider.id)));
        let days = rows::collect::<DayRow, S>(self.rows, map, &start, COLLECT_MAX)?;
        Ok(days.into_iter().flat_map(|(_, day)| day.0).collect())
    }

    /// The part of each provider's karma for a subject that counts, ordered by provider; 0 if nothing counts.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn karma_by_provider(&self, subject: IdentityId) -> ReadResult<S, Vec<(IdentityId, Karma)>> {
        let mut found = Vec::new();
        self.each_tally(subject, |provider, karma| found.push((provider, karma)))?;
        found.sort_unstable();
        Ok(found)
    }

    /// Calls `each` with the part of each provider's karma for a subject that counts, home by home; collects nothing.
    fn each_tally(&self, subject: IdentityId, mut each: impl FnMut(IdentityId, Karma)) -> ReadResult<S, ()> {
        let start = prefix::<Tally>(&subject);
        for (_, map) in &self.homes {
            let mut result = Ok(());
            let scanned = self.rows.scan(*map, &start, &mut |key, value| {
                let provider = key.get(start.len()..).and_then(|rest| rest.try_into().ok()).map(crate::id::EventId);
                result = provider.ok_or(RowError::Broken(CodecError::Malformed)).and_then(|provider| {
                    let tally = rows::decode_row::<Tally, S::Error>(value)?;
                    each(provider, self.counted(*map, subject, provider, &tally)?);
                    Ok(())
                });
                if result.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            scanned.map_err(RowError::Storage)?;
            result?;
        }
        Ok(())
    }

    /// A subject's karma: the sum over all providers of what counts.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn karma(&self, subject: IdentityId) -> ReadResult<S, Karma> {
        let mut all = Karma::default();
        self.each_tally(subject, |_, one| all = all.plus(one))?;
        Ok(all)
    }

    fn counted(&self, map: MapId, subject: IdentityId, provider: IdentityId, tally: &Tally) -> ReadResult<S, Karma> {
        let numbers = self.sponsored(provider)?;
        self.counted_at(map, (subject, provider), tally, &numbers)
    }

    /// What of a provider's karma for a subject counts if `numbers` are sponsored.
    fn counted_at(
        &self,
        map: MapId,
        (subject, provider): (IdentityId, IdentityId),
        tally: &Tally,
        numbers: &Numbers,
    ) -> ReadResult<S, Karma> {
        if numbers.is_empty() {
            return Ok(Karma::default());
        }
        if numbers.is_all() {
            let retracted = Karma { sum: tally.retracted_sum, count: tally.retracted_count };
            return Ok(Karma { sum: tally.sum, count: tally.count }.minus(retracted));
        }
        let days = rows::collect::<DayRow, S>(self.rows, map, &prefix::<DayRow>(&(subject, provider)), COLLECT_MAX)?;
        let rows = days.iter().flat_map(|(_, day)| &day.0);
        Ok(rows.fold(Karma::default(), |all, attested| all.plus(attested.counted(numbers))))
    }

    /// By how much the karma of each of `subjects` changes if the sponsored numbers of `provider` change; without
    /// those where it stays.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn recounted(
        &self,
        provider: IdentityId,
        subjects: &[IdentityId],
        numbers: &NumbersChange,
    ) -> ReadResult<S, Vec<KarmaChange>> {
        let mut changes = Vec::new();
        // Only identities give karma, and all that one gives is in its home.
        let Some(found) = self.identity(provider)? else { return Ok(changes) };
        let map = MapName::home(&found.home).id();
        for subject in subjects {
            let Some(tally) = rows::read::<Tally, S>(self.rows, map, &(*subject, provider))? else { continue };
            let pair = (*subject, provider);
            let before = self.counted_at(map, pair, &tally, &numbers.before)?;
            let after = self.counted_at(map, pair, &tally, &numbers.after)?;
            if before != after {
                changes.push(KarmaChange { subject: *subject, before, after });
            }
        }
        Ok(changes)
    }

    /// Calls `each` with every provider that ever gave karma to `subject`, until it breaks.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn each_provider(
        &self,
        subject: IdentityId,
        mut each: impl FnMut(IdentityId) -> ControlFlow<()>,
    ) -> ReadResult<S, ()> {
        let start = prefix::<Tally>(&subject);
        for (_, map) in &self.homes {
            let mut stopped = false;
            let scanned = self.rows.scan(*map, &start, &mut |key, _| {
                let provider = key.get(start.len()..).and_then(|rest| rest.try_into().ok()).map(crate::id::EventId);
                let next = provider.map_or(ControlFlow::Continue(()), &mut each);
                stopped = next.is_break();
                next
            });
            scanned.map_err(RowError::Storage)?;
            if stopped {
                break;
            }
        }
        Ok(())
    }

    /// Calls `each` with everything that a subject ever received, by provider and by the UTC day of `created`, home by
    /// home, until it breaks. With `provider`, only what that one gave.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn each_day(
        &self,
        subject: IdentityId,
        provider: Option<&LocatedIdentity>,
        mut each: impl FnMut(IdentityId, Day, &[Attested]) -> ControlFlow<()>,
    ) -> ReadResult<S, ()> {
        let subjects = prefix::<DayRow>(&subject);
        let start = provider.map_or_else(|| subjects.clone(), |one| prefix::<DayRow>(&(subject, one.id)));
        let homes = self.homes.iter().filter(|(home, _)| provider.is_none_or(|one| one.home == *home));
        for (_, map) in homes {
            let (mut result, mut stopped) = (Ok(()), false);
            let scanned = self.rows.scan(*map, &start, &mut |key, value| {
                let rest = key.get(subjects.len()..).unwrap_or_default();
                let Some((provider, day)) = rest.split_first_chunk::<32>().filter(|(_, day)| day.len() == 4) else {
                    result = Err(RowError::Broken(CodecError::Malformed));
                    return ControlFlow::Break(());
                };
                let day = day.iter().fold(0u32, |day, byte| (day << 8) | u32::from(*byte));
                match rows::decode_row::<DayRow, S::Error>(value) {
                    Ok(row) => {
                        let next = each(crate::id::EventId(*provider), Day(day), &row.0);
                        stopped = next.is_break();
                        next
                    }
                    Err(error) => {
                        result = Err(error);
                        ControlFlow::Break(())
                    }
                }
            });
            scanned.map_err(RowError::Storage)?;
            result?;
            if stopped {
                break;
            }
        }
        Ok(())
    }

    /// One attestation of the day row of (subject, provider, day).
    ///
    /// # Errors
    /// [`RowError`].
    pub fn attested(
        &self,
        home: &Domain,
        (subject, provider, day): (IdentityId, IdentityId, Day),
        event: crate::id::EventId,
    ) -> ReadResult<S, Option<Attested>> {
        let row = self.day(home, (subject, provider, day))?;
        Ok(row.into_iter().find(|attested| attested.event == event))
    }

    /// All that a provider attested to a subject on a day, by the `created` of the events.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn day(&self, home: &Domain, key: (IdentityId, IdentityId, Day)) -> ReadResult<S, Vec<Attested>> {
        let row = rows::read::<DayRow, S>(self.rows, MapName::home(home).id(), &key)?;
        Ok(row.unwrap_or_default().0)
    }

    /// Calls `each` with every identity of the federation, home by home, ordered by id within a home.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn each_identity(&self, mut each: impl FnMut(LocatedIdentity)) -> ReadResult<S, ()> {
        for (home, map) in &self.homes {
            let mut broken = Ok(());
            let tag = [<Identity as rows::Row>::TAG];
            let scanned = self.rows.scan(*map, &tag, &mut |key, value| {
                let id = key.get(1..).and_then(|id| <[u8; 32]>::try_from(id).ok());
                match (id, rows::decode_row::<Identity, S::Error>(value)) {
                    (Some(id), Ok(identity)) => {
                        each(LocatedIdentity { id: crate::id::EventId(id), home: home.clone(), identity });
                    }
                    (_, Err(error)) => broken = Err(error),
                    (None, _) => broken = Err(RowError::Broken(CodecError::Malformed)),
                }
                if broken.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            scanned.map_err(RowError::Storage)?;
            broken?;
        }
        Ok(())
    }

    /// Everything that the join derives, in one canonical order: two nodes with equal frontiers return equal bytes.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn dump(&self) -> ReadResult<S, Vec<u8>> {
        let mut all = Vec::new();
        self.each_identity(|found| all.push(found))?;
        let mut out = Vec::new();
        for found in all {
            let status = self.key_status(&found)?;
            let karma = self.karma_by_provider(found.id)?;
            let numbers = self.sponsored(found.id)?.0;
            let who = (found.id, found.home.clone(), found.identity.clone());
            out.extend(codec::encode(&(who, self.keys(&found)?, status, karma, numbers)));
        }
        Ok(out)
    }
}

impl Sponsorship {
    /// The numbers that at least `want` operators sponsor for this service and domain.
    #[must_use]
    pub fn numbers(&self, want: usize) -> Numbers {
        counted_by(&self.sponsors, want)
    }
}

impl Attested {
    /// The karma of this attestation if `numbers` are sponsored. Its retraction too counts only at a sponsored number.
    #[must_use]
    pub fn counted(&self, numbers: &Numbers) -> Karma {
        let retracted = self.retraction.is_some_and(|number| numbers.contains(number));
        if numbers.contains(self.number) && !retracted {
            Karma { sum: self.effective.into(), count: 1 }
        } else {
            Karma::default()
        }
    }
}

/// One log's part of the state id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct LogState {
    /// The log that this is the state of.
    pub log: LogId,
    /// The number of its entries.
    pub size: u64,
    /// The root of the tree over its entries; without entries, the SHA-256 of no bytes.
    pub root: TreeRoot,
    /// The recomputed state root; without entries, 32 zero bytes.
    pub state_root: StateRoot,
}

impl LogState {
    /// The size and root, as a head.
    #[must_use]
    pub const fn head(&self) -> Head {
        Head { size: self.size, root: self.root }
    }
}

/// BLAKE3 of the strict encoding of the manifest's hash and the logs, which are sorted by their encodings.
#[must_use]
pub fn state_id(manifest: ManifestHash, logs: &[LogState]) -> StateId {
    let mut encoded: Vec<(Vec<u8>, &LogState)> = logs.iter().map(|log| (codec::encode(log), log)).collect();
    encoded.sort_by(|a, b| a.0.cmp(&b.0));
    let logs: Vec<LogState> = encoded.into_iter().map(|(_, log)| log.clone()).collect();
    StateId(*blake3::hash(&codec::encode(&(manifest, logs))).as_bytes())
}

impl KeyStatus {
    /// Whether the key is revoked in its home or by a valid claim.
    #[must_use]
    pub const fn is_revoked(&self) -> bool {
        self.revoked.is_some()
    }
}
