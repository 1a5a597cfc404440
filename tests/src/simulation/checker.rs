//! What must hold, checked from outside: every message of an honest node, and its disk after each step.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fama_ledger::event::Action;
use fama_ledger::id::{EventId, IdentityId, TreeRoot};
use fama_ledger::log::{Head, LogError, MemoryTiles, Tree, leaf_hash, root_at};
use fama_ledger::manifest::{Cut, LogId, Manifest};
use fama_ledger::stand::Stand;
use fama_ledger::time::{Day, Millis};
use fama_node::store::simulated::Disk;
use fama_node::store::{LogRecord, Store, StoreError, View};

use super::federation::SimulatedFederation;
use super::plan::RunPlan;
use fama_tests::{DAY, START};

pub(super) mod rest;
mod telling;

/// More than any machine's clock is wrong in a run, in milliseconds.
const CLOCKS_WRONG_MILLIS: u64 = 4 * 3_600_000;
/// More than passes between the first sight of entries and their cosignature while liars are heard, in milliseconds.
const JUDGED_MILLIS_MAX: u64 = 2 * 3_600_000;

/// Why a run ends early.
#[derive(Debug)]
pub(super) enum StopReason {
    /// A promise is broken.
    Broken { promise: &'static str, what: String },
    /// A disk gave an error, which is right only if it is damaged.
    Unreadable(String),
    /// More went wrong than any promise covers.
    Beyond(&'static str),
}

pub(super) type CheckResult = Result<(), StopReason>;

impl From<StoreError> for StopReason {
    fn from(error: StoreError) -> Self {
        Self::Unreadable(error.to_string())
    }
}

impl From<LogError<StoreError>> for StopReason {
    fn from(error: LogError<StoreError>) -> Self {
        match error {
            LogError::Tiles(error) => error.into(),
            error => Self::Unreadable(error.to_string()),
        }
    }
}

pub(super) fn broken(promise: &'static str, what: impl Into<String>) -> CheckResult {
    Err(StopReason::Broken { promise, what: what.into() })
}

fn must(holds: bool, promise: &'static str, what: impl FnOnce() -> String) -> CheckResult {
    if holds { Ok(()) } else { broken(promise, what()) }
}

/// An event for which a client holds a receipt.
pub(super) struct Acknowledged {
    pub(super) event: EventId,
    pub(super) log: usize,
    pub(super) index: u64,
    pub(super) entry: Vec<u8>,
    /// If it is a claim: the identity whose key it revoked, and the key's version.
    pub(super) claim: Option<(IdentityId, u32)>,
}

/// What a node had when it started, and what it has heard since.
#[derive(Default)]
pub(super) struct Boot {
    /// The sizes of its own logs: a head that a crash left unsigned is signed at once.
    own: BTreeMap<usize, u64>,
    /// The size up to which it had cosigned, by log.
    cosigned: BTreeMap<usize, u64>,
    /// Operators whose frontier it processed.
    pub(super) heard: BTreeSet<usize>,
    /// When it processed each operator's last frontier.
    pub(super) clocks: BTreeMap<usize, u64>,
    /// The largest heads of its own logs that others sent it.
    pub(super) told: BTreeMap<usize, u64>,
}

/// A log as it was first seen: an honest owner's as signed, a liar's as certified.
#[derive(Default)]
struct Truth {
    tree: Tree,
    tiles: MemoryTiles,
}

impl Truth {
    fn root_at(&self, size: u64) -> Option<TreeRoot> {
        root_at(size, &self.tiles).ok().filter(|_| size <= self.tree.size())
    }

    /// Appends `entries`.
    fn grow(&mut self, entries: &[Vec<u8>]) {
        let writes = self.tree.append(entries.iter().map(|entry| leaf_hash(entry)));
        self.tiles.write(writes);
    }
}

/// An honest node, as far as the checks need to see it.
pub(super) struct Watched<'a> {
    pub(super) node: usize,
    pub(super) view: &'a View<'a>,
    pub(super) disk: &'a Disk,
    pub(super) boot: &'a Boot,
}

pub(super) struct PromiseChecker {
    federation: &'static SimulatedFederation,
    /// Machines of liars.
    liars: BTreeSet<usize>,
    /// Operators whose disk was lost.
    pub(super) forgetful: BTreeSet<usize>,
    /// Logs whose owner's disk was lost.
    forgotten: BTreeSet<usize>,
    /// Machines whose disk is or was damaged: what they signed is seen on other nodes only.
    pub(super) hidden: BTreeSet<usize>,
    truths: Vec<Truth>,
    /// The largest head of each log that was sent to anybody.
    told: Vec<u64>,
    /// The state of each log on each disk when last seen: its size and certified size.
    seen: BTreeMap<(usize, usize), (u64, u64)>,
    heads: BTreeSet<(usize, u64, TreeRoot)>,
    /// The heads that an operator cosigned, by operator and log.
    cosigned: BTreeMap<(usize, usize), BTreeSet<(u64, TreeRoot)>>,
    /// The newest cosigned size that an operator itself sent, by the key's log and the log.
    newest: BTreeMap<(usize, usize), u64>,
    pub(super) acknowledged: Vec<Acknowledged>,
    /// Acknowledged events past the end of their log, and the honest nodes that had them.
    dropped: BTreeMap<EventId, BTreeSet<usize>>,
    tellings: u64,
    /// The newest version that was published.
    newest_version: Arc<Manifest>,
    /// The largest certified size of each log.
    finals: Vec<u64>,
    /// Each log's certificate on each disk when last seen: its size, and how many cosigned it.
    certificates: BTreeMap<(usize, usize), (u64, usize)>,
    /// Days of liars' logs that were certified long after they were over, by log; empty if days pass in this run.
    late_days: BTreeMap<usize, BTreeSet<Day>>,
    /// Whether hours pass in which nobody hears anybody.
    leaps: bool,
    /// Whether days pass in which everybody hears the liars, which hold entries back.
    held_back: bool,
    /// The sizes that an operator cosigned in liars' logs that hold entries back, by operator and log.
    vouched: BTreeMap<(usize, usize), u64>,
    /// By operator and log: the version for which it stands still, and the size at which it does.
    stands: BTreeMap<(usize, usize), (u32, u64)>,
}

fn size_of(record: Option<&LogRecord>) -> u64 {
    record.map_or(0, |record| record.state.size)
}

impl PromiseChecker {
    pub(super) fn new(federation: &'static SimulatedFederation, plan: &RunPlan) -> Self {
        Self {
            federation,
            liars: plan.liars.iter().copied().collect(),
            late_days: BTreeMap::new(),
            leaps: plan.leaps(),
            held_back: plan.held_back,
            vouched: BTreeMap::new(),
            forgetful: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            hidden: BTreeSet::new(),
            told: vec![0; federation.logs.len()],
            truths: federation.logs.iter().map(|_| Truth::default()).collect(),
            seen: BTreeMap::new(),
            heads: BTreeSet::new(),
            cosigned: BTreeMap::new(),
            newest: BTreeMap::new(),
            acknowledged: Vec::new(),
            dropped: BTreeMap::new(),
            tellings: 0,
            newest_version: Arc::clone(&federation.manifest),
            finals: vec![0; federation.logs.len()],
            certificates: BTreeMap::new(),
            stands: BTreeMap::new(),
        }
    }

    /// Whether a log's owner is honest.
    fn honest(&self, log: usize) -> bool {
        !self.liars.contains(&self.federation.owner(log))
    }

    /// Whether a log's owner has, or had, a damaged disk.
    fn hidden(&self, log: usize) -> bool {
        self.hidden.contains(&self.federation.owner(log))
    }

    /// Honest owners' logs that the newest version knows.
    pub(super) fn honest_logs(&self) -> impl Iterator<Item = usize> + '_ {
        let logs = self.federation.logs.iter().enumerate();
        logs.filter(|(log, id)| self.honest(*log) && self.newest_version.log(id).is_some()).map(|(log, _)| log)
    }

    /// Logs that were cut, with their cuts.
    pub(super) fn ended(&self) -> impl Iterator<Item = (usize, &Cut)> + '_ {
        let logs = self.federation.logs.iter().enumerate();
        logs.filter_map(|(i, log)| Some((i, self.newest_version.cut(log)?)))
    }

    /// A version is published: no cut takes back what is final. Entries past a cut that were not final are dropped.
    pub(super) fn version(&mut self, manifest: &Arc<Manifest>) -> CheckResult {
        for cut in manifest.cuts() {
            let log = self.federation.log(&cut.log);
            let (known, truth) = (self.finals[log], &self.truths[log]);
            let kept = known <= cut.head.size && (known == 0 || truth.root_at(known).is_some());
            must(kept, "no cut takes back what is final", || format!("{} at {}: {known}", cut.log, cut.head.size))?;
        }
        self.newest_version = Arc::clone(manifest);
        std::mem::take(&mut self.acknowledged).into_iter().for_each(|one| self.acknowledge(one));
        Ok(())
    }

    /// A version that was published leaves no log behind that continues: some honest node has it certified at the
    /// version before, or a proof against its owner.
    pub(super) fn leaves_nothing_behind(&self, next: &Manifest, views: &[View<'_>]) -> CheckResult {
        for log in next.must_have_adopted() {
            let kept = views.iter().any(|view| is_certified_at(view, log, next.version() - 1));
            must(kept, "no version leaves a log behind", || format!("{log} is behind version {}", next.version()))?;
        }
        Ok(())
    }

    /// Records that an honest operator stands still.
    pub(super) fn stood(&mut self, node: usize, stand: &Stand) {
        let log = self.federation.log(&stand.log);
        self.stands.insert((node, log), (stand.version, stand.head.size));
    }

    pub(super) fn stands(&self, node: usize, log: &LogId) -> bool {
        self.stands.contains_key(&(node, self.federation.log(log)))
    }

    pub(super) fn is_acknowledged(&self, event: &EventId) -> bool {
        self.acknowledged.iter().any(|one| one.event == *event)
    }

    /// A node that stands still in a log cosigns nothing more there until the version for which it stands is valid.
    fn stands_still(&self, watched: &Watched<'_>, log: usize, head: Head) -> CheckResult {
        let Some((version, size)) = self.stands.get(&(watched.node, log)) else { return Ok(()) };
        let over = watched.view.store().manifest().version() >= *version
            && self.newest_version.cut(&self.federation.logs[log]).is_none();
        let still = over || head.size <= *size || self.forgetful.contains(&watched.node);
        must(still, "a node that stands still cosigns nothing more", || {
            format!("n{}: {} at {}, stood at {size}", watched.node, self.federation.logs[log], head.size)
        })
    }

    /// A node starts on what is on its disk.
    pub(super) fn boot(&mut self, node: usize, view: &View<'_>) -> Result<Boot, StoreError> {
        self.seen.retain(|(seen, _), _| *seen != node);
        self.certificates.retain(|(seen, _), _| *seen != node);
        self.reload(node, view)
    }

    /// A node reloads from its disk: nothing on it is gone.
    pub(super) fn reload(&self, node: usize, view: &View<'_>) -> Result<Boot, StoreError> {
        let mut boot = Boot::default();
        for (i, log) in self.federation.logs.iter().enumerate() {
            if self.federation.owner(i) == node {
                boot.own.insert(i, size_of(view.log(log)?.as_ref()));
            }
            let cosigned = view.cosigned(log)?.into_iter();
            let own = cosigned.filter(|one| one.cosignature.operator == self.federation.names[node]);
            let largest = own.map(|one| one.signed.head.size).max();
            boot.cosigned.extend(largest.map(|size| (i, size)));
        }
        Ok(boot)
    }

    /// Checks what is on a node's disk after each step.
    pub(super) fn observe(&mut self, watched: &Watched<'_>, now: Millis) -> CheckResult {
        for (i, log) in self.federation.logs.iter().enumerate() {
            let record = watched.view.log(log)?;
            if self.federation.owner(i) == watched.node {
                self.one_branch_is_signed(watched, i)?;
            }
            // Until it is replayed it reads as empty, then as a log that grows; afterwards it must be what it was before.
            if watched.view.is_rolled_back(log)? {
                continue;
            }
            let known = self.seen.get(&(watched.node, i)).copied().unwrap_or_default();
            let (size, now_certified) = record.as_ref().map_or((0, 0), |record| (record.state.size, record.certified));
            let store = watched.view.store();
            let end = store.pending().unwrap_or_else(|| store.manifest()).cut(log).map(|cut| cut.head.size);
            let stays = if self.honest(i) { known.0.min(end.unwrap_or(known.0)) } else { known.1 };
            must(size >= stays && now_certified >= known.1, "a copy goes back to what is certified at most", || {
                format!("n{}: {log} had {known:?}, has {size}, certified {now_certified}", watched.node)
            })?;
            let Some(LogRecord { state, certified, .. }) = record else { continue };
            self.seen.insert((watched.node, i), (state.size, certified));
            // After a rollback the owner's head may be known from cosignatures only.
            let cosigned = watched.view.cosigned(log)?.into_iter().map(|one| one.signed.head.size).max();
            let signed = watched.view.newest(log)?.map_or(0, |newest| newest.head.size).max(cosigned.unwrap_or(0));
            let left = end.is_some() || !self.honest(i) && state.size <= certified;
            self.liars_fill_no_past(watched, i, certified)?;
            self.what_was_held_back_is_late(watched, i, now)?;
            self.finals[i] = self.finals[i].max(certified);
            let grew = known.0 > 0 && state.size > known.0 && self.federation.owner(i) != watched.node;
            must(!grew || !is_ahead(watched.view, log, state.size, now)?, "nothing is stored ahead of time", || {
                format!("n{}: {log} at {}", watched.node, state.size)
            })?;
            must(signed >= state.size || left, "entries are kept with a head above them", || {
                format!("n{}: {} of {log}, the largest head is {signed}", watched.node, state.size)
            })?;
            if known.0 != state.size && self.honest(i) {
                self.a_copy_is_the_owners(watched, i, state.head())?;
            }
            if known.1 != certified {
                self.what_is_certified_is_one_branch(watched, i, certified)?;
            }
            self.a_certificate_is_a_quorums(watched, i)?;
        }
        Ok(())
    }

    /// A liar gains one window of late entries for each silence that an honest node saw: the one before it was first
    /// heard.
    fn liars_fill_no_past(&mut self, watched: &Watched<'_>, log: usize, certified: u64) -> CheckResult {
        let known = self.finals[log];
        if self.honest(log) || self.leaps || certified <= known {
            return Ok(());
        }
        let entries =
            watched.view.entries(&self.federation.logs[log], known, (certified - known) as usize, usize::MAX)?;
        let events = entries.iter().filter(|entry| fama_ledger::entry::event_id(entry).is_some());
        let late = events.map(|entry| entry_time(entry)).filter(|time| time.plus(DAY + CLOCKS_WRONG_MILLIS) < START);
        let days = self.late_days.entry(log).or_default();
        days.extend(late.map(Millis::day));
        let honest = self.federation.len() - self.liars.len();
        // Each window touches two days.
        must(days.len() <= 2 * honest, "a liar fills no days of the past", || {
            format!("{}: {days:?}", self.federation.logs[log])
        })
    }

    /// An operator that hears a liar all the time vouches for none of its entries that are old when they are shown.
    fn what_was_held_back_is_late(&mut self, watched: &Watched<'_>, log: usize, now: Millis) -> CheckResult {
        if !self.held_back || self.honest(log) {
            return Ok(());
        }
        let (id, name) = (&self.federation.logs[log], &self.federation.names[watched.node]);
        let own = watched.view.cosigned(id)?.into_iter().filter(|one| one.cosignature.operator == *name);
        let size = own.map(|one| one.signed.head.size).max().unwrap_or_default();
        let known = self.vouched.insert((watched.node, log), size).unwrap_or_default();
        if size <= known {
            return Ok(());
        }
        let entries = watched.view.entries(id, known, (size - known) as usize, usize::MAX)?;
        let mut events = entries.iter().filter(|entry| fama_ledger::entry::event_id(entry).is_some());
        let late = events.find(|entry| entry_time(entry).plus(DAY + JUDGED_MILLIS_MAX) < now);
        must(late.is_none(), "nobody vouches for what was held back", || {
            format!("n{}: {id} from {known} to {size}", watched.node)
        })
    }

    /// A certificate was cosigned by a quorum of the version adopted there, is final, and never gets smaller.
    fn a_certificate_is_a_quorums(&mut self, watched: &Watched<'_>, log: usize) -> CheckResult {
        let (id, view) = (&self.federation.logs[log], watched.view);
        let (Some(found), Some(record)) = (view.certificate(id)?, view.log(id)?) else { return Ok(()) };
        let (head, now) = (found.signed.head, (found.signed.head.size, found.cosignatures.len()));
        let known = self.certificates.insert((watched.node, log), now).unwrap_or_default();
        if known == now {
            return Ok(());
        }
        let there = record.adopted.iter().rev().find(|adopted| adopted.size <= head.size);
        // When the newest version has two texts, the checker knows only one of them.
        let version = there.and_then(|adopted| view.store().manifest().at(adopted.version));
        let quorum = version.is_some_and(|version| {
            let signed = |log: &LogId| found.cosignatures.iter().any(|(by, _)| by == log);
            version.operators().iter().filter(|operator| signed(&operator.log())).count() >= version.quorum()
        });
        let last = head.size <= record.certified && self.truths[log].root_at(head.size) == Some(head.root);
        must(quorum && last && now >= known, "a certificate is a quorum's, of what is final", || {
            format!("n{}: {id} {known:?}, then {now:?}, certified {}", watched.node, record.certified)
        })
    }

    /// An honest operator never signs two heads of which neither extends the other, and signs none before enough
    /// others told it what it had signed.
    fn one_branch_is_signed(&mut self, watched: &Watched<'_>, own: usize) -> CheckResult {
        let log = &self.federation.logs[own];
        let Some(newest) = watched.view.newest(log)? else { return Ok(()) };
        let (head, truth) = (newest.head, &mut self.truths[own]);
        let (known, told) = (truth.tree.size(), self.told[own]);
        let heard = watched.boot.told.get(&own).copied().unwrap_or_default();
        let forgot = self.forgotten.contains(&own) && heard < told.max(known);
        if head.size > known {
            let held = watched.view.entries(log, known, (head.size - known) as usize, usize::MAX)?;
            truth.grow(&held);
        }
        if head.size > known && head.size > watched.boot.own.get(&own).copied().unwrap_or_default() {
            self.enough_were_heard(watched)?;
            if forgot && head.size != told {
                return Err(StopReason::Beyond("a disk was lost, and no node that answered knew what was on it"));
            }
        }
        if self.truths[own].root_at(head.size) == Some(head.root) {
            return Ok(());
        }
        if forgot {
            return Err(StopReason::Beyond("a disk was lost, and no node that answered knew what was on it"));
        }
        broken("one branch is signed", format!("{log}: two roots at {}", head.size))
    }

    fn enough_were_heard(&self, watched: &Watched<'_>) -> CheckResult {
        let heard = watched.boot.heard.iter().filter(|heard| **heard != watched.node).count() + 1;
        let gate = SimulatedFederation::gate(watched.view.store().manifest());
        must(heard >= gate, "nothing is signed before enough operators answered", || {
            format!("n{}: {heard} of {gate}", watched.node)
        })
    }

    /// A node's copy of an honest log is what its owner signed.
    fn a_copy_is_the_owners(&mut self, watched: &Watched<'_>, log: usize, head: Head) -> CheckResult {
        let known = self.truths[log].tree.size();
        if self.hidden(log) && head.size > known {
            let count = (head.size - known) as usize;
            let held = watched.view.entries(&self.federation.logs[log], known, count, usize::MAX)?;
            self.truths[log].grow(&held);
        }
        let same = self.truths[log].root_at(head.size) == Some(head.root);
        must(same, "an honest log is the same everywhere", || {
            format!("n{}: {} at {}", watched.node, self.federation.logs[log], head.size)
        })
    }

    /// Certified heads of one log always extend one another.
    fn what_is_certified_is_one_branch(&mut self, watched: &Watched<'_>, log: usize, certified: u64) -> CheckResult {
        let (id, truth) = (&self.federation.logs[log], &mut self.truths[log]);
        let root = root_at(certified, &watched.view.tiles(id))?;
        let known = truth.tree.size();
        if certified > known {
            let below = root_at(known, &watched.view.tiles(id))?;
            must(known == 0 || truth.root_at(known) == Some(below), "certified heads extend one another", || {
                format!("n{}: {id} at {certified}, known to {known}", watched.node)
            })?;
            let count = (certified - known) as usize;
            truth.grow(&watched.view.entries(id, known, count, usize::MAX)?);
        }
        must(truth.root_at(certified) == Some(root), "certified heads extend one another", || {
            format!("n{}: {id} at {certified}", watched.node)
        })
    }

    /// Records a receipt that a client got.
    pub(super) fn acknowledge(&mut self, one: Acknowledged) {
        let cut = self.newest_version.cut(&self.federation.logs[one.log]);
        if cut.is_none_or(|cut| one.index < cut.head.size) {
            self.acknowledged.push(one);
            return;
        }
        let copies = self.seen.iter().filter(|((_, log), (size, _))| *log == one.log && *size > one.index);
        let held = copies.map(|((node, _), _)| *node).chain([self.federation.owner(one.log)]);
        self.dropped.insert(one.event, held.collect());
    }

    /// Dropped events of which a node that is not in `gone` has a copy, and that no log has applied again.
    pub(super) fn not_back(&self, view: &View<'_>, gone: &BTreeSet<usize>) -> Result<Vec<EventId>, StoreError> {
        let has = |node: &usize| !gone.contains(node) && !self.forgetful.contains(node) && !self.hidden.contains(node);
        let mut open = Vec::new();
        for (event, _) in self.dropped.iter().filter(|(_, held)| held.iter().any(has)) {
            let applied = view.positions(event)?.iter().any(|position| position.void.is_none());
            open.extend((!applied).then_some(*event));
        }
        Ok(open)
    }

    /// A disk is lost: whatever neither another node nor a backup has of its log is lost with it.
    pub(super) fn lose(&mut self, node: usize, others: &[View<'_>]) {
        let known = |log: &usize| self.newest_version.log(&self.federation.logs[*log]).is_some();
        let logs: Vec<usize> = self.federation.logs_of(node).into_iter().filter(known).collect();
        for log in logs {
            let id = &self.federation.logs[log];
            let held = others.iter().map(|view| size_of(view.log(id).ok().flatten().as_ref())).max();
            self.acknowledged.retain(|one| one.log != log || one.index < held.unwrap_or_default());
            self.forgotten.insert(log);
            self.forgetful.insert(node);
        }
    }

    /// An acknowledged event is never lost: the owner has it after each start.
    pub(super) fn receipts_hold(&self, node: usize, view: &View<'_>) -> CheckResult {
        for log in self.federation.logs_of(node).into_iter().filter(|log| !self.forgotten.contains(log)) {
            let id = &self.federation.logs[log];
            // What a log that is being rolled back keeps counts: until that is done it reads as empty.
            let size = view.size_after_rollback(id)?.unwrap_or(size_of(view.log(id)?.as_ref()));
            let lost = self.acknowledged.iter().find(|one| one.log == log && one.index >= size);
            if let Some(lost) = lost {
                let what = format!("{} at {}", lost.event, lost.index);
                return broken("an acknowledged event is never lost", what);
            }
        }
        Ok(())
    }
}

/// The identity and version of the key that an event revokes, if it revokes one.
pub(super) fn claim_of(action: &Action) -> Option<(IdentityId, u32)> {
    match action {
        Action::Revoke { identity, version, .. } => Some((*identity, *version)),
        _ => None,
    }
}

/// The time of an encoded entry.
/// Whether the last entry of a copy is more than a minute ahead of the node's clock.
fn is_ahead(view: &View<'_>, log: &LogId, size: u64, now: Millis) -> Result<bool, StoreError> {
    let last = view.entries(log, size.saturating_sub(1), 1, usize::MAX)?.pop();
    Ok(last.is_some_and(|last| entry_time(&last) > now.plus(60_000)))
}

pub(super) fn entry_time(entry: &[u8]) -> Millis {
    Millis(u64::from_le_bytes(entry[..8].try_into().unwrap()))
}

/// Whether a node has a note that certifies `log` at or beyond its adoption of `version`, or knows that its owner signed
/// two branches.
pub(super) fn is_certified_at(view: &View<'_>, log: &LogId, version: u32) -> bool {
    let (record, certificate) = (view.log(log).unwrap(), view.certificate(log).unwrap());
    let at = |size| record.is_some_and(|record| record.adopted_at(size) >= version);
    certificate.is_some_and(|certificate| at(certificate.signed.head.size)) || view.equivocation(log).unwrap().is_some()
}
