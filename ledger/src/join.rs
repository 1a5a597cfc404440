//! The join of all logs: key status, sponsorship and karma. Reads rows, writes none.
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::cmp::Reverse;

use bincode::{Decode, Encode};

use crate::codec::{self, CodecError};
use crate::event::{RevokeReason, Service};
use crate::fold::Effect;
use crate::id::{Domain, IdentityId, KeyHash, ManifestHash, Name, StateId, StateRoot, TreeRoot};
use crate::limits;
use crate::log::Head;
use crate::manifest::{LogId, Manifest};
use crate::rows::{
    self, Attested, Claim, DayRow, Identity, Interval, KeyVersion, MapId, MapName, NameOwner, Provider, RowError, Rows,
    Statement, Tally, prefix, text_key,
};
use crate::time::{Day, Millis};

/// Most rows that one read collects: versions of one identity, or days of one provider and subject.
const COLLECT_MAX: usize = 1 << 20;

/// A set of a provider's numbers, as sorted, disjoint intervals.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Numbers(Vec<Interval>);

impl Numbers {
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
    pub(crate) fn identity_in(&self, home: &Domain, id: IdentityId) -> ReadResult<S, Option<LocatedIdentity>> {
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

    /// Every key version of an identity, oldest first.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn keys(&self, found: &LocatedIdentity) -> ReadResult<S, Vec<KeyVersion>> {
        let map = MapName::home(&found.home).id();
        let versions = rows::collect::<KeyVersion, S>(self.rows, map, &prefix::<KeyVersion>(&found.id), COLLECT_MAX)?;
        Ok(versions.into_iter().map(|(_, version)| version).collect())
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

    /// The numbers of a provider that each operator sponsors, ordered by service and domain.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn sponsorships(&self, provider: IdentityId) -> ReadResult<S, Vec<Sponsorship>> {
        let all = self.sponsors(provider, usize::MAX)?.into_iter();
        Ok(all.map(|((service, domain), sponsors)| Sponsorship { service, domain, sponsors }).collect())
    }

    /// The numbers of a provider that operators sponsor. Stops reading as soon as `enough` operators sponsor every
    /// number for one service and domain: then every number counts, in whatever order the operators were read.
    fn sponsors(&self, provider: IdentityId, enough: usize) -> ReadResult<S, Sponsors> {
        let (mut found, start) = (Sponsors::new(), prefix::<Statement>(&provider));
        let (mut first, mut then) = (Vec::new(), Vec::new());
        for statements in &self.statements {
            let likely = self.rows.is_likely(statements.1, &start).map_err(RowError::Storage)?;
            if likely { first.push(statements) } else { then.push(statements) }
        }
        for (operator, map) in first.into_iter().chain(then) {
            for (_, row) in rows::collect::<Statement, S>(self.rows, *map, &start, limits::TRIPLES_PER_PROVIDER)? {
                found.entry((row.service, row.domain)).or_default().push((operator.clone(), row.intervals));
            }
            let whole = |sponsors: &Vec<(Domain, Vec<Interval>)>| sponsors.iter().filter(|(_, of)| is_all(of)).count();
            if found.values().any(|sponsors| whole(sponsors) >= enough) {
                break;
            }
        }
        Ok(found)
    }

    /// The provider's numbers that count: those that `min_sponsors` operators sponsor for the same service and domain.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn sponsored(&self, provider: IdentityId) -> ReadResult<S, Numbers> {
        let want = usize::try_from(self.manifest.policy().min_sponsors).unwrap_or(usize::MAX);
        // Once all numbers count, further rows change nothing, and a proof need not contain them.
        let services: Vec<Numbers> =
            self.sponsors(provider, want)?.values().map(|sponsors| counted_by(sponsors, want)).collect();
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
                if result.is_err() { core::ops::ControlFlow::Break(()) } else { core::ops::ControlFlow::Continue(()) }
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
        if numbers.is_empty() {
            return Ok(Karma::default());
        }
        if numbers.is_all() {
            let retracted = Karma { sum: tally.retracted_sum, count: tally.retracted_count };
            return Ok(Karma { sum: tally.sum, count: tally.count }.minus(retracted));
        }
        let days = rows::collect::<DayRow, S>(self.rows, map, &prefix::<DayRow>(&(subject, provider)), COLLECT_MAX)?;
        let rows = days.iter().flat_map(|(_, day)| &day.0);
        Ok(rows.fold(Karma::default(), |all, attested| all.plus(attested.counted(&numbers))))
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
        let row = rows::read::<DayRow, S>(self.rows, MapName::home(home).id(), &(subject, provider, day))?;
        Ok(row.and_then(|row| row.0.into_iter().find(|attested| attested.event == event)))
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
                if broken.is_err() { core::ops::ControlFlow::Break(()) } else { core::ops::ControlFlow::Continue(()) }
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

/// Identities ranked by karma, updated with each entry; recomputed from the rows only by [`Ranking::rebuild`].
///
/// A change of sponsorship only marks the provider as stale. The scores of its subjects stay as they are until
/// the caller recomputes them with [`Ranking::set`].
#[derive(Clone, Debug, Default)]
pub struct Ranking {
    scores: BTreeMap<IdentityId, (Karma, bool)>,
    order: BTreeSet<(Reverse<i64>, IdentityId)>,
    numbers: BTreeMap<IdentityId, Numbers>,
    stale: BTreeSet<IdentityId>,
}

impl Ranking {
    /// Applies the effect of an applied entry; `join` reads the rows after that entry.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn apply<S: Rows>(&mut self, effect: &Effect, join: &Join<'_, S>) -> ReadResult<S, ()> {
        match effect {
            Effect::Registered { identity } => self.register(*identity),
            Effect::KeyChanged { .. } => {}
            Effect::Attested { subject, provider, number, effective } => {
                if self.numbers_of(*provider, join)?.contains(*number) {
                    let one = Karma { sum: (*effective).into(), count: 1 };
                    self.change(*subject, |karma| karma.plus(one));
                }
            }
            Effect::Retracted { subject, provider, number, retraction, effective } => {
                let numbers = self.numbers_of(*provider, join)?;
                if numbers.contains(*number) && numbers.contains(*retraction) {
                    let one = Karma { sum: (*effective).into(), count: 1 };
                    self.change(*subject, |karma| karma.minus(one));
                }
            }
            Effect::Sponsored { provider } => {
                self.stale.insert(*provider);
            }
        }
        Ok(())
    }

    /// The numbers by which a provider's effects count now: while the provider is marked, those before the change.
    fn numbers_of<S: Rows>(&mut self, provider: IdentityId, join: &Join<'_, S>) -> ReadResult<S, &Numbers> {
        if !self.numbers.contains_key(&provider) {
            let numbers = if self.stale.contains(&provider) { Numbers::default() } else { join.sponsored(provider)? };
            self.numbers.insert(provider, numbers);
        }
        Ok(self.numbers.entry(provider).or_default())
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

    /// Replaces the score of `subject` by a recomputed one.
    pub fn set(&mut self, subject: IdentityId, karma: Karma) {
        self.change(subject, |_| karma);
    }

    /// A marked provider: its sponsorship changed since the scores of its subjects were computed.
    #[must_use]
    pub fn marked(&self) -> Option<IdentityId> {
        self.stale.first().copied()
    }

    /// Removes the mark of `provider`; from now on its effects count by the numbers that `join` gives.
    ///
    /// The caller must recompute all subjects of the provider with [`Ranking::set`], from the same rows.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn unmark<S: Rows>(&mut self, provider: IdentityId, join: &Join<'_, S>) -> ReadResult<S, ()> {
        self.numbers.insert(provider, join.sponsored(provider)?);
        self.stale.remove(&provider);
        Ok(())
    }

    /// How many providers are marked.
    #[must_use]
    pub fn lag(&self) -> usize {
        self.stale.len()
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

    /// Computes the ranking from the rows: at start, and to check the incremental updates.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn rebuild<S: Rows>(join: &Join<'_, S>) -> ReadResult<S, Self> {
        let mut ranking = Self::default();
        for (_, map) in &join.homes {
            let mut broken = Ok(());
            let tag = [<Tally as rows::Row>::TAG];
            let scanned = join.rows.scan(*map, &tag, &mut |key, value| {
                let ids = key.get(1..33).zip(key.get(33..65));
                let ids = ids.and_then(|(s, p)| Some((s.try_into().ok()?, p.try_into().ok()?)));
                let Some((subject, provider)) = ids else { return core::ops::ControlFlow::Continue(()) };
                let (subject, provider) = (crate::id::EventId(subject), crate::id::EventId(provider));
                broken = rows::decode_row(value)
                    .and_then(|tally| join.counted(*map, subject, provider, &tally))
                    .map(|karma| ranking.change(subject, |sum| sum.plus(karma)));
                if broken.is_err() { core::ops::ControlFlow::Break(()) } else { core::ops::ControlFlow::Continue(()) }
            });
            scanned.map_err(RowError::Storage)?;
            broken?;
        }
        join.each_identity(|found| ranking.register(found.id))?;
        Ok(ranking)
    }
}

impl KeyStatus {
    /// Whether the key is revoked in its home or by a valid claim.
    #[must_use]
    pub const fn is_revoked(&self) -> bool {
        self.revoked.is_some()
    }
}
