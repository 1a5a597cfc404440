//! An operator that lies: it holds its keys, knows everything that others know, and sends whatever it likes.
use std::collections::BTreeMap;

use fama_ledger::checkpoint::{Checkpoint, Cosignature, Origin, SignedCheckpoint};
use fama_ledger::entry::{VerifiedEntry, VerifiedEvent};
use fama_ledger::event::{Action, RevokeReason};
use fama_ledger::id::{Domain, IdentityId, ManifestHash, StateRoot};
use fama_ledger::key::Curve;
use fama_ledger::log::{Head, MemoryTiles, Tree, leaf_hash, prove_consistency, root_at};
use fama_ledger::manifest::Manifest;
use fama_ledger::secret::SecretKey;
use fama_ledger::signed_note::{SignedNote, sign};
use fama_ledger::time::Millis;
use fama_node::store::View;
use fama_node::sync::said;
use fama_node::wire::{
    CosignedHead, EntryRange, Frontier, Gossip, LogFrontier, Refusal, Session, SignedHead, SyncRequest, SyncResponse,
};
use fama_tests::{DAY, MemoryReplica, event, governance_key, node_key, signed};

use super::chance::Chance;
use super::federation::{BEGINS, SimulatedFederation};

/// Ways in which a liar lies; several at once.
#[derive(Clone, Copy, Debug, Default)]
struct LiarTactics {
    forks: bool,
    invalid: bool,
    withholds: bool,
    wrong_sizes: bool,
    forges: bool,
    stale: bool,
    spoils: bool,
    wrong_time: bool,
    cosigns: bool,
    replays: bool,
    /// Fills its home with identities that attest to one victim, and others' logs with claims against them.
    floods: bool,
    times: LiarTimes,
}

/// The times that a liar gives its entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum LiarTimes {
    #[default]
    Honest,
    /// From the log's beginning on, a day later with each batch: every day has caps of its own.
    Past,
    /// Days ahead.
    Future,
    /// Always that of the log's beginning.
    Still,
    /// Honest ones, but after the first few batches it shows nothing for more than a day.
    HeldBack,
}

/// How much later each batch of a liar that fills the past is, in milliseconds: more than a day.
const PAST_STEP_MILLIS: u64 = 25 * 3_600_000;

/// For how long a liar that holds entries back shows only its first batches, in milliseconds.
const HELD_BACK_MILLIS: u64 = 28 * 3_600_000;
/// How many batches it shows until then.
const SHOWN_BATCHES: usize = 3;
/// How many identities a liar that floods registers in a batch, and how many claims it hands in at once.
const FLOOD_STEP: usize = 4;

/// One branch of the liar's log.
#[derive(Clone)]
struct LiarBranch {
    entries: Vec<Vec<u8>>,
    tree: Tree,
    tiles: MemoryTiles,
    heads: Vec<SignedCheckpoint>,
    /// The state of the branch, as long as its log is valid.
    replica: Option<MemoryReplica<'static>>,
}

pub(super) struct Liar {
    number: usize,
    federation: &'static SimulatedFederation,
    chance: Chance,
    ways: LiarTactics,
    branches: Vec<LiarBranch>,
    /// The branch that each node is shown.
    shown: Vec<usize>,
    /// Old frontiers of others.
    former: Vec<Vec<LogFrontier>>,
    made: u64,
    /// All liars, this one included.
    all: Vec<usize>,
    /// By how much its cosignatures are dated ahead, in milliseconds.
    ahead: u64,
    cosigned: BTreeMap<(usize, Head), Vec<Cosignature>>,
    /// The identities with which it floods, each with the number of its key, and how many claims it has handed in.
    crowd: Vec<(IdentityId, u64)>,
    claimed: usize,
}

/// Most old frontiers that are kept.
const FORMER_MAX: usize = 20;

impl LiarBranch {
    fn push(&mut self, entries: Vec<Vec<u8>>, origin: Origin, key: &SecretKey) {
        self.tiles.write(self.tree.append(entries.iter().map(|entry| leaf_hash(entry))));
        self.entries.extend(entries);
        self.heads.push(SignedCheckpoint::sign(Checkpoint { origin, head: self.tree.head() }, key.ed25519().unwrap()));
    }

    fn has(&self, head: Head) -> bool {
        head.size <= self.tree.size() && root_at(head.size, &self.tiles).is_ok_and(|root| root == head.root)
    }

    fn range(&self, from: u64, head: Head) -> EntryRange {
        let entries = self.entries[from as usize..head.size as usize].to_vec();
        EntryRange { first: from, entries, proof: Vec::new(), notes: Vec::new() }
    }
}

impl Liar {
    pub(super) fn new(seed: u64, number: usize, all: &[usize], federation: &'static SimulatedFederation) -> Self {
        let mut chance = Chance::new(seed, 100 + number as u64);
        let mut way = || chance.percent(40);
        let ways = LiarTactics {
            forks: way(),
            invalid: way(),
            withholds: way(),
            wrong_sizes: way(),
            forges: way(),
            stale: way(),
            spoils: way(),
            wrong_time: way(),
            cosigns: way(),
            replays: way(),
            floods: Chance::new(seed, 300 + number as u64).percent(30),
            times: *Chance::new(seed, 200 + number as u64).pick(&[
                LiarTimes::Honest,
                LiarTimes::Honest,
                LiarTimes::Past,
                LiarTimes::Future,
                LiarTimes::Still,
            ]),
        };
        let replica = MemoryReplica::new(&federation.manifest);
        let (tree, tiles) = (Tree::default(), MemoryTiles::default());
        let branch = LiarBranch { entries: Vec::new(), tree, tiles, heads: Vec::new(), replica: Some(replica) };
        let shown = vec![0; federation.len() + 1];
        let (former, cosigned) = (Vec::new(), BTreeMap::new());
        let branches = vec![branch];
        let ahead = *Chance::new(seed, 200 + number as u64).pick(&[0, 0, 45_000, 3_600_000]);
        Self {
            number,
            federation,
            chance,
            ways,
            branches,
            shown,
            former,
            made: 0,
            all: all.to_vec(),
            ahead,
            cosigned,
            crowd: Vec::new(),
            claimed: 0,
        }
    }

    /// Makes it sign two branches, so that its log has to be ended.
    pub(super) const fn must_fork(&mut self) {
        (self.ways.forks, self.ways.withholds) = (true, false);
    }

    /// Makes it show two histories, and cosign whatever any liar shows.
    pub(super) const fn must_split(&mut self) {
        (self.ways.forks, self.ways.cosigns) = (true, true);
        (self.ways.withholds, self.ways.invalid, self.ahead) = (false, false, 0);
        self.ways.times = LiarTimes::Honest;
    }

    /// Makes it fill days of the past, in one history that it shows to everybody.
    pub(super) const fn must_backdate(&mut self) {
        (self.ways.forks, self.ways.withholds, self.ways.invalid) = (false, false, false);
        self.ways.times = LiarTimes::Past;
    }

    /// Makes it date entries days ahead, in one history that it shows to everybody.
    pub(super) const fn must_run_ahead(&mut self) {
        self.must_backdate();
        self.ways.times = LiarTimes::Future;
    }

    /// Makes it flood, from one history that it shows to everybody.
    pub(super) const fn must_flood(&mut self) {
        self.must_backdate();
        (self.ways.floods, self.ways.times) = (true, LiarTimes::Honest);
    }

    /// Makes it answer everybody all the time, and show old entries after more than a day.
    pub(super) const fn must_hold_back(&mut self) {
        self.must_backdate();
        (self.ways.wrong_sizes, self.ways.forges, self.ways.stale) = (false, false, false);
        (self.ways.spoils, self.ways.wrong_time, self.ahead) = (false, false, 0);
        self.ways.times = LiarTimes::HeldBack;
    }

    /// The time that it gives to what it appends at `now`.
    fn time(&mut self, at: usize, now: Millis) -> Millis {
        let last = self.branches[at].entries.last().map(|entry| super::checker::entry_time(entry));
        match self.ways.times {
            LiarTimes::Honest | LiarTimes::HeldBack => now,
            LiarTimes::Past => last.map_or(BEGINS, |last| last.plus(PAST_STEP_MILLIS)).min(now),
            LiarTimes::Future => now.plus(DAY * self.chance.below(5)),
            LiarTimes::Still => BEGINS,
        }
    }

    /// Makes it cosign everything with times of the future.
    pub(super) const fn must_date_ahead(&mut self) {
        (self.ways.cosigns, self.ways.withholds, self.ahead) = (true, false, 3_600_000);
    }

    pub(super) fn describe(&self) -> String {
        format!("n{} lies: {:?}", self.number, self.ways)
    }

    fn log(&self) -> &'static fama_ledger::manifest::LogId {
        &self.federation.logs[self.number]
    }

    /// Appends to its own log, honestly or not. `victim` is somebody's identity in another home.
    pub(super) fn turn(&mut self, now: Millis, victim: Option<IdentityId>) {
        let at = self.chance.index(self.branches.len());
        if self.ways.forks && self.branches.len() < 3 && self.chance.percent(25) {
            self.branches.push(self.branches[at].clone());
            for node in 0..self.shown.len() {
                self.shown[node] = self.chance.index(self.branches.len());
            }
        }
        if self.ways.forks && self.chance.percent(10) {
            let node = self.chance.index(self.shown.len());
            self.shown[node] = self.chance.index(self.branches.len());
        }
        if self.branches[at].replica.is_some() && self.branches[at].entries.len() < 60 {
            self.grow(at, now, victim);
        }
    }

    /// The next of its claims: each identity's key again and again, and versions that nobody has seen.
    pub(super) fn claims(&mut self, now: Millis) -> Vec<VerifiedEvent> {
        let known = self.crowd.len().saturating_sub(2 * FLOOD_STEP);
        let mut claims = Vec::new();
        for _ in 0..FLOOD_STEP.min(known) {
            let (identity, made) = self.crowd[self.claimed % known];
            let key = self.key(made);
            self.claimed += 1;
            for version in [1, self.claimed as u32 + 1] {
                let (home, key, by) = (self.home(), key.public(), &key);
                let reason = RevokeReason::Superseded;
                claims.push(self.signs(Action::Revoke { home, identity, version, key, reason }, by, now));
            }
        }
        claims
    }

    /// An event of somebody in its home.
    fn signs(&mut self, action: Action, key: &SecretKey, now: Millis) -> VerifiedEvent {
        self.made += 1;
        let federation = self.federation.manifest.federation();
        signed(event(federation, action, now, self.made), key).verify(&federation).unwrap()
    }

    fn home(&self) -> Domain {
        self.federation.names[self.number].clone()
    }

    /// A key that nobody else has, by its number.
    fn key(&self, made: u64) -> SecretKey {
        let mut seed = [9; 32];
        seed[..8].copy_from_slice(&(made * 8 + self.number as u64).to_le_bytes());
        SecretKey::from_seed(Curve::Ed25519, &seed).unwrap()
    }

    /// Identities without sponsors, each of which attests to the victim at once.
    fn crowd(&mut self, time: Millis, now: Millis, victim: IdentityId) -> Vec<VerifiedEntry> {
        let mut said = Vec::new();
        for _ in 0..FLOOD_STEP {
            self.made += 1;
            let (made, home) = (self.made, self.home());
            let (key, name) = (self.key(made), format!("crowd-{made}").parse().unwrap());
            let register = Action::Register { home: home.clone(), name, key: key.public(), next: None, note: None };
            let register = self.signs(register, &key, now);
            let issuer = register.id();
            let attest = Action::Attest { home, issuer, subject: victim, delta: 1, context: None, note: None };
            let attest = self.signs(attest, &key, now);
            said.extend([register, attest].map(|event| VerifiedEntry::of(time, event)));
            self.crowd.push((issuer, made));
        }
        said
    }

    /// A batch: void events are valid in it, other faults are not.
    fn grow(&mut self, at: usize, now: Millis, victim: Option<IdentityId>) {
        let log = self.log();
        let now = self.time(at, now);
        let said = self.said(at, now, victim);
        let replica = self.branches[at].replica.as_ref().unwrap();
        let mut batch = replica.complete(log, said);
        let mut bytes: Vec<Vec<u8>> = batch.iter().map(|entry| entry.bytes().to_vec()).collect();
        if self.ways.invalid && !self.branches[at].entries.is_empty() && self.chance.percent(15) {
            self.branches[at].replica = None;
            let count = bytes.len();
            match self.chance.below(4) {
                0 => bytes[count - 1] = VerifiedEntry::state(now, StateRoot([7; 32])).into_bytes(),
                1 => bytes.truncate(count - 1),
                2 => bytes[0].truncate(40),
                _ => {
                    let middle = bytes[0].len() - 20;
                    bytes[0][middle] ^= 1;
                }
            }
        } else {
            let replica = self.branches[at].replica.as_mut().unwrap();
            replica.take(log, std::mem::take(&mut batch)).unwrap();
        }
        let origin = self.federation.manifest.origin(log);
        self.branches[at].push(bytes, origin, &node_key(self.number as u8));
    }

    fn said(&mut self, at: usize, now: Millis, victim: Option<IdentityId>) -> Vec<VerifiedEntry> {
        let manifest = &self.federation.manifest;
        let branch = &self.branches[at];
        let Some(last) = branch.entries.last() else {
            return vec![VerifiedEntry::adopt(now, manifest.version(), manifest.hash())];
        };
        let time = now.max(super::checker::entry_time(last));
        if let Some(victim) = victim.filter(|_| self.ways.floods) {
            return self.crowd(time, now, victim);
        }
        self.made += 1;
        let key = self.key(self.made);
        // The same name twice: the second registration is void.
        let name = format!("liar-{}", self.made / 2).parse().unwrap();
        let action = Action::Register { home: self.home(), name, key: key.public(), next: None, note: None };
        let said = signed(event(manifest.federation(), action, now, self.made), &key);
        vec![VerifiedEntry::of(time, said.verify(&manifest.federation()).unwrap())]
    }

    /// The heads of its own log that it shows to a node at `now`.
    fn shown_heads(&self, to: usize, now: Millis) -> &[SignedCheckpoint] {
        let LiarBranch { entries, heads, .. } = &self.branches[self.shown[to]];
        let begun = entries.first().map(|first| super::checker::entry_time(first));
        let waits = begun.is_some_and(|begun| now < begun.plus(HELD_BACK_MILLIS));
        let shown = if waits && self.ways.times == LiarTimes::HeldBack { SHOWN_BATCHES } else { usize::MAX };
        &heads[..heads.len().min(shown)]
    }

    /// Its gossip about its own log, and about cosignatures of others.
    pub(super) fn gossip(&mut self, to: usize, views: &[View<'_>], now: Millis) -> Vec<Gossip> {
        let mut out = Vec::new();
        let (branch, heads) = (&self.branches[self.shown[to]], self.shown_heads(to, now));
        if let Some(signed) = heads.last().filter(|_| !self.ways.withholds) {
            let first = heads.iter().rev().nth(1).map_or(0, |before| before.checkpoint().head.size);
            let entries = branch.range(first, signed.checkpoint().head).entries;
            let (log, signed) = (self.log().clone(), SignedHead::of(signed));
            out.push(Gossip::Head { log, signed: signed.clone(), first, entries, notes: Vec::new() });
            let cosigned = self.cosigned_by_all(self.number, &signed, now);
            out.extend(cosigned.into_iter().map(|one| Gossip::Cosignature { log: self.log().clone(), cosigned: one }));
        }
        if (self.ways.stale || self.ways.forges) && self.chance.percent(30) {
            for log in self.logs(to, views, now) {
                let cosigned = log.cosigned.into_iter().filter(|_| self.chance.percent(20));
                out.extend(cosigned.map(|cosigned| Gossip::Cosignature { log: log.log.clone(), cosigned }));
            }
        }
        out
    }

    /// The logs that it claims to have.
    fn logs(&mut self, to: usize, views: &[View<'_>], now: Millis) -> Vec<LogFrontier> {
        let knows = (!views.is_empty()).then(|| &views[self.chance.index(views.len())]);
        let known =
            knows.map(|view| said::frontier(view, view.store().manifest(), Session::default(), now).unwrap().logs);
        let mut logs = known.unwrap_or_default();
        if self.former.len() < FORMER_MAX {
            self.former.push(logs.clone());
        }
        if self.ways.stale && self.chance.percent(50) {
            logs.clone_from(&self.former[self.chance.index(self.former.len())]);
        }
        logs.iter_mut().for_each(|log| self.distort(to, log, views, now));
        logs
    }

    fn distort(&mut self, to: usize, log: &mut LogFrontier, views: &[View<'_>], now: Millis) {
        let i = self.federation.log(&log.log);
        if i == self.number {
            let (branch, head) = (&self.branches[self.shown[to]], self.shown_heads(to, now).last());
            let all = views.iter().flat_map(|view| view.cosigned(&log.log).unwrap());
            log.cosigned = all.filter(|one| branch.has(one.signed.head)).collect();
            (log.size, log.newest) = (head.map_or(0, |head| head.checkpoint().head.size), head.map(SignedHead::of));
        }
        if let Some(newest) = log.newest.clone() {
            // Whichever branch it is on, its own or another liar's.
            let cosigned = self.cosigned_by_all(i, &newest, now);
            log.cosigned.retain(|one| cosigned.iter().all(|own| own.cosignature.operator != one.cosignature.operator));
            log.cosigned.extend(cosigned);
        }
        if self.ways.withholds && self.chance.percent(50) {
            log.cosigned.clear();
            log.newest = None;
        }
        if self.ways.wrong_sizes && self.chance.percent(50) {
            log.size = *self.chance.pick(&[0, 1, log.size + 1, log.size + 100, u64::MAX]);
        }
        if self.ways.forges && self.chance.percent(20) {
            self.forge(log);
        }
    }

    /// All liars' cosignatures of a head: liars share their keys.
    fn cosigned_by_all(&mut self, log: usize, signed: &SignedHead, now: Millis) -> Vec<CosignedHead> {
        if !self.ways.cosigns {
            return Vec::new();
        }
        let seconds = (now.0 + self.ahead) / 1_000;
        let made = self.cosigned.entry((log, signed.head)).or_insert_with(|| {
            let origin = self.federation.manifest.origin(&self.federation.logs[log]);
            let checkpoint = Checkpoint { origin, head: signed.head };
            let cosign = |liar: &usize| {
                let (name, key) = (self.federation.names[*liar].clone(), node_key(*liar as u8));
                Cosignature::sign(&checkpoint, name, key.ed25519().unwrap(), seconds)
            };
            self.all.iter().map(cosign).collect()
        });
        made.iter().map(|one| CosignedHead { signed: signed.clone(), cosignature: one.clone() }).collect()
    }

    /// Changes signatures so that they do not verify, or belong to another operator.
    fn forge(&mut self, log: &mut LogFrontier) {
        if let Some(one) = log.cosigned.first_mut() {
            one.cosignature.operator = self.chance.pick(&self.federation.names).clone();
            one.cosignature.seconds += 1;
        }
        if let Some(newest) = log.newest.as_mut().filter(|_| self.chance.percent(50)) {
            newest.head.size += 2;
        }
    }

    /// The answer to a node's request; `views` are those of honest nodes.
    pub(super) fn answer(
        &mut self,
        to: usize,
        request: &SyncRequest,
        views: &[View<'_>],
        now: Millis,
    ) -> Option<SyncResponse> {
        match request {
            SyncRequest::Frontier(_) => {
                let wrong = self.ways.wrong_time && self.chance.percent(50);
                let time = if wrong { Millis(self.chance.next() >> self.chance.below(64)) } else { now };
                let logs = self.logs(to, views, now);
                // As if another machine used the asker's key.
                let other = wrong.then(|| Session { id: [0xee; 16], writes: self.chance.percent(50) });
                let session = Session { id: [0xff; 16], writes: true };
                let (manifest, manifest_hash) = self.version(views);
                Some(SyncResponse::Frontier(Frontier { time, session, other, manifest, manifest_hash, logs }))
            }
            SyncRequest::Entries { log, from, head } if log == self.log() => {
                let branch = self.branches.iter().find(|branch| branch.has(*head) && *from < head.size)?;
                let range = branch.range(*from, *head);
                Some(self.spoil(range, *head))
            }
            SyncRequest::Manifests { .. } if self.ways.replays => Some(SyncResponse::Manifests(self.manifests(views))),
            SyncRequest::Notes(_) if self.ways.withholds => Some(SyncResponse::Notes(Vec::new())),
            _ if views.is_empty() => Some(SyncResponse::Refused(Refusal::new("not_here", "no"))),
            request => {
                let view = &views[self.chance.index(views.len())];
                let answer = said::answer(view, view.store().manifest(), Session::default(), now, request).unwrap();
                match (answer, request) {
                    (SyncResponse::Entries(range), SyncRequest::Entries { head, .. }) => Some(self.spoil(range, *head)),
                    (answer, _) => Some(answer),
                }
            }
        }
    }

    /// The version that it claims to hold.
    fn version(&mut self, views: &[View<'_>]) -> (u32, ManifestHash) {
        let held = newest(self.federation, views);
        match self.chance.below(3) {
            0 if self.ways.replays => (held.version() + 1, ManifestHash([8; 32])),
            1 if self.ways.replays => (held.version(), ManifestHash([8; 32])),
            _ => (held.version(), held.hash()),
        }
    }

    /// Versions that are old, in the wrong order, its own, or malformed.
    fn manifests(&mut self, views: &[View<'_>]) -> Vec<String> {
        let held = newest(self.federation, views);
        let text = |version: u32| held.at(version).map(|manifest| manifest.note().to_string());
        match self.chance.below(4) {
            0 => Vec::from_iter(text(1)),
            1 => (1..=held.version()).rev().filter_map(text).collect(),
            2 => {
                let mut draft = held.draft();
                draft.policy.daily_cap += 7;
                let text = draft.text().unwrap();
                let line = |liar: &usize| {
                    let key = governance_key(*liar as u8);
                    sign(&text, self.federation.names[*liar].as_str(), key.ed25519().unwrap())
                };
                vec![SignedNote { signatures: self.all.iter().map(line).collect(), text: text.clone() }.to_string()]
            }
            _ => vec!["format = \"fama.manifest/1\"\n".into(); 3],
        }
    }

    fn spoil(&mut self, mut range: EntryRange, head: Head) -> SyncResponse {
        if !self.ways.spoils || self.chance.percent(30) || range.entries.is_empty() {
            return SyncResponse::Entries(range);
        }
        match self.chance.below(5) {
            0 => range.entries.clear(),
            1 => range.first += 1,
            2 => range.proof.push([3; 32]),
            3 => {
                let entry = self.chance.index(range.entries.len());
                let byte = self.chance.index(range.entries[entry].len());
                range.entries[entry][byte] ^= 4;
            }
            _ => {
                // Cut off where no batch ends, with a proof that verifies.
                let keep = self.chance.index(range.entries.len()) as u64;
                range.entries.truncate(keep as usize);
                let branch = self.branches.iter().find(|branch| branch.has(head));
                let proof =
                    branch.and_then(|branch| prove_consistency(range.first + keep, head.size, &branch.tiles).ok());
                range.proof = proof.unwrap_or_default();
            }
        }
        SyncResponse::Entries(range)
    }
}

/// The newest version that an honest node uses.
fn newest<'a>(federation: &'a SimulatedFederation, views: &'a [View<'_>]) -> &'a Manifest {
    views.first().map_or(&federation.manifest, |view| view.store().manifest())
}
