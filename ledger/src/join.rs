//! What all logs say together: key status, sponsorship, karma. Reads rows, writes none.
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

/// Most rows of one kind that a single read collects: versions of one identity, days of one provider and subject.
const COLLECT_MAX: usize = 1 << 20;

/// Sorted, disjoint sets of a provider's numbers.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Numbers(Vec<Interval>);

impl Numbers {
    /// Whether every number is in.
    #[must_use]
    pub fn is_all(&self) -> bool {
        is_all(&self.0)
    }

    /// Whether no number is in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `number` is in.
    #[must_use]
    pub fn contains(&self, number: u64) -> bool {
        self.0.iter().any(|i| i.start <= number && i.end.is_none_or(|end| number < end))
    }

    /// The intervals.
    #[must_use]
    pub fn intervals(&self) -> &[Interval] {
        &self.0
    }

    /// The numbers that at least `want` of the `sets` hold.
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

/// A service that operators sponsor a provider for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sponsorship {
    /// The service.
    pub service: Service,
    /// Its domain.
    pub domain: Domain,
    /// Each operator's sponsored numbers, in the operators' names' order.
    pub sponsors: Vec<(Domain, Vec<Interval>)>,
}

/// Karma: a sum of effective deltas and how many attestations it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Encode, Decode)]
pub struct Karma {
    /// Σ effective deltas.
    pub sum: i64,
    /// How many attestations that is.
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

/// Where an identity lives and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocatedIdentity {
    /// The identity.
    pub id: IdentityId,
    /// Its home.
    pub home: Domain,
    /// Its row there.
    pub identity: Identity,
}

/// A revocation of the current key, wherever it was said.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Revoked {
    /// The operator in whose log it was said first, by (operator, generation, index); `None`: in the home.
    pub operator: Option<Domain>,
    /// The claim's generation and index.
    pub place: Option<(u32, u64)>,
    /// The entry's time.
    pub time: Millis,
    /// Why.
    pub reason: RevokeReason,
}

/// What is known of an identity's current key.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct KeyStatus {
    /// Its version.
    pub version: u32,
    /// It.
    pub current: KeyVersion,
    /// Its revocation, if any.
    pub revoked: Option<Revoked>,
}

type ReadResult<S, T> = Result<T, RowError<<S as Rows>::Error>>;
/// By service and domain, each operator's sponsored numbers.
type Sponsors = BTreeMap<(Service, Domain), Vec<(Domain, Vec<Interval>)>>;

fn is_all(intervals: &[Interval]) -> bool {
    intervals == [Interval { start: 0, end: None }]
}

/// The numbers that at least `want` of the sponsors sponsor.
fn counted_by(sponsors: &[(Domain, Vec<Interval>)], want: usize) -> Numbers {
    let sets: Vec<&[Interval]> = sponsors.iter().map(|(_, intervals)| intervals.as_slice()).collect();
    Numbers::shared(&sets, want)
}

/// The join of all logs whose rows are `rows`.
pub struct Join<'a, S> {
    manifest: &'a Manifest,
    rows: &'a S,
    homes: Vec<(Domain, MapId)>,
    statements: Vec<(Domain, MapId)>,
    claims: Vec<(Domain, MapId)>,
}

impl<'a, S: Rows> Join<'a, S> {
    /// Over all homes and operators of `manifest`, and over the claims of those that are gone.
    #[must_use]
    pub fn new(manifest: &'a Manifest, rows: &'a S) -> Self {
        let homes = manifest.homes().keys().map(|home| (home.clone(), MapName::home(home).id())).collect();
        let mut operators: Vec<_> = manifest.operators().iter().map(|operator| operator.name.clone()).collect();
        operators.sort();
        let statements = operators.iter().map(|name| (name.clone(), MapName::statements(name).id())).collect();
        // A revocation counts whoever said it, and whether or not that operator is still there.
        let claims = manifest.records().keys().map(|name| (name.clone(), MapName::claims(name).id())).collect();
        Self { manifest, rows, homes, statements, claims }
    }

    /// The manifest whose homes, operators and policy this reads by.
    #[must_use]
    pub const fn manifest(&self) -> &'a Manifest {
        self.manifest
    }

    /// The identity with this id, in whichever home.
    ///
    /// # Errors
    /// [`RowError`], as for everything here.
    pub fn identity(&self, id: IdentityId) -> ReadResult<S, Option<LocatedIdentity>> {
        for (home, map) in &self.homes {
            if let Some(identity) = rows::read::<Identity, S>(self.rows, *map, &id)? {
                return Ok(Some(LocatedIdentity { id, home: home.clone(), identity }));
            }
        }
        Ok(None)
    }

    /// The identity with this id in `home`, as [`Join::identity`] finds it there.
    ///
    /// # Errors
    /// [`RowError`].
    pub(crate) fn identity_in(&self, home: &Domain, id: IdentityId) -> ReadResult<S, Option<LocatedIdentity>> {
        let identity = rows::read::<Identity, S>(self.rows, MapName::home(home).id(), &id)?;
        Ok(identity.map(|identity| LocatedIdentity { id, home: home.clone(), identity }))
    }

    /// The identity of that name in `home`.
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

    /// The identity whose id in `home` begins with `digits` (lower-case hex, at least 32 of them).
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

    /// The current key and whether it holds: the home's word, then every log's valid claims.
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

    /// Whether a revocation of `key` signed by `signer` fits the chain that the home has.
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

    /// Who sponsors what of a provider, by service and domain.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn sponsorships(&self, provider: IdentityId) -> ReadResult<S, Vec<Sponsorship>> {
        let all = self.sponsors(provider, usize::MAX)?.into_iter();
        Ok(all.map(|((service, domain), sponsors)| Sponsorship { service, domain, sponsors }).collect())
    }

    /// What the operators sponsor of a provider, in their names' order, up to the one with whom `enough` of them
    /// sponsor every number of a service. In whichever order they are asked, those numbers are all.
    fn sponsors(&self, provider: IdentityId, enough: usize) -> ReadResult<S, Sponsors> {
        let (mut found, start) = (Sponsors::new(), prefix::<Statement>(&provider));
        let (mut first, mut then) = (Vec::new(), Vec::new());
        for statements in &self.statements {
            let likely = self.rows.is_likely(statements.1, &start).map_err(RowError::Storage)?;
            if likely { first.push(statements) } else { then.push(statements) }
        }
        for (operator, map) in first.into_iter().chain(then) {
            for (_, said) in rows::collect::<Statement, S>(self.rows, *map, &start, limits::TRIPLES_PER_PROVIDER)? {
                found.entry((said.service, said.domain)).or_default().push((operator.clone(), said.intervals));
            }
            let whole = |sponsors: &Vec<(Domain, Vec<Interval>)>| sponsors.iter().filter(|(_, of)| is_all(of)).count();
            if found.values().any(|sponsors| whole(sponsors) >= enough) {
                break;
            }
        }
        Ok(found)
    }

    /// The provider's numbers that count: `min_sponsors` operators sponsor them for one service and domain.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn sponsored(&self, provider: IdentityId) -> ReadResult<S, Numbers> {
        let want = usize::try_from(self.manifest.policy().min_sponsors).unwrap_or(usize::MAX);
        // Once all numbers count, what is left to read changes nothing, and need not be proven to a stranger.
        let services: Vec<Numbers> =
            self.sponsors(provider, want)?.values().map(|sponsors| counted_by(sponsors, want)).collect();
        let sets: Vec<&[Interval]> = services.iter().map(Numbers::intervals).collect();
        Ok(Numbers::shared(&sets, 1))
    }

    /// The number of the provider's next attestation.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn next_number(&self, home: &Domain, provider: IdentityId) -> ReadResult<S, u64> {
        let row = rows::read::<Provider, S>(self.rows, MapName::home(home).id(), &provider)?;
        Ok(row.unwrap_or_default().next)
    }

    /// What of each provider's karma for a subject counts, in the providers' order; 0 where nothing does.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn karma_by_provider(&self, subject: IdentityId) -> ReadResult<S, Vec<(IdentityId, Karma)>> {
        let mut found = Vec::new();
        self.each_tally(subject, |provider, karma| found.push((provider, karma)))?;
        found.sort_unstable();
        Ok(found)
    }

    /// Shows what of each provider's karma for a subject counts, home by home; keeps none of it.
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

    /// A subject's karma.
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

    /// The row of one attestation.
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

    /// Every identity of the federation, home by home, in the order of ids; stops when `each` says so.
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

    /// Everything the join says, in one canonical order: two nodes with equal frontiers give equal bytes.
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
    /// What of it counts where `numbers` are sponsored: a retraction too only at a sponsored number.
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
    /// The log.
    pub log: LogId,
    /// Entries.
    pub size: u64,
    /// Root of the tree over them; of no entries, SHA-256 of nothing.
    pub root: TreeRoot,
    /// The recomputed state root; of no entries, 32 zero bytes.
    pub state_root: StateRoot,
}

impl LogState {
    /// The head.
    #[must_use]
    pub const fn head(&self) -> Head {
        Head { size: self.size, root: self.root }
    }
}

/// BLAKE3 of the strict codec of the manifest's hash and the logs, sorted by their encodings.
#[must_use]
pub fn state_id(manifest: ManifestHash, logs: &[LogState]) -> StateId {
    let mut encoded: Vec<(Vec<u8>, &LogState)> = logs.iter().map(|log| (codec::encode(log), log)).collect();
    encoded.sort_by(|a, b| a.0.cmp(&b.0));
    let logs: Vec<LogState> = encoded.into_iter().map(|(_, log)| log.clone()).collect();
    StateId(*blake3::hash(&codec::encode(&(manifest, logs))).as_bytes())
}

/// Who has most karma: kept up with each entry, never recomputed from the past in the normal way.
///
/// A change of sponsorship only marks a provider; the scores of its subjects follow through
/// [`Ranking::set`], until then they are as before.
#[derive(Clone, Debug, Default)]
pub struct Ranking {
    scores: BTreeMap<IdentityId, (Karma, bool)>,
    order: BTreeSet<(Reverse<i64>, IdentityId)>,
    numbers: BTreeMap<IdentityId, Numbers>,
    stale: BTreeSet<IdentityId>,
}

impl Ranking {
    /// Takes the effect of an applied entry in; `rows` are those after it.
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

    /// The numbers by which a provider's effects are counted now: the former ones while it is marked.
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

    /// Puts a recomputed score in the place of what was kept.
    pub fn set(&mut self, subject: IdentityId, karma: Karma) {
        self.change(subject, |_| karma);
    }

    /// A provider whose sponsorship changed since its subjects' scores were computed.
    #[must_use]
    pub fn marked(&self) -> Option<IdentityId> {
        self.stale.first().copied()
    }

    /// Takes the mark off; from now on effects count by the numbers of `join`.
    ///
    /// The caller recomputes all its subjects with [`Ranking::set`] from the same rows.
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

    /// Registered identities by karma descending, then id, behind `after`.
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

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Computes everything from rows: at start, and to check the incremental way.
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
    /// Revoked anywhere, as far as known.
    #[must_use]
    pub const fn is_revoked(&self) -> bool {
        self.revoked.is_some()
    }
}
