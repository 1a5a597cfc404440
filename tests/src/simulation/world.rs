//! One run: a queue of happenings ordered by simulated time, the nodes, and the network between them.
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use fama_ledger::checkpoint::{Checkpoint, Cosignature, SignedCheckpoint};
use fama_ledger::entry::{VerifiedEntry, VerifiedEvent};
use fama_ledger::event::Action;
use fama_ledger::id::EventId;
use fama_ledger::join::{Join, Score};
use fama_ledger::log::{Head, root_at};
use fama_ledger::manifest::{Cut, Draft, LogId, Manifest, Operator, faults};
use fama_ledger::note::note_hash;
use fama_ledger::signed_note::{SignedNote, sign};
use fama_ledger::stand::VerifiedStand;
use fama_ledger::time::Millis;
use fama_node::inbox::{COMMANDS_MAX, Inbox, InboxCommand, InboxInput, SubmitOutcome, Submitted};
use fama_node::network::operators;
use fama_node::replay::Fatal;
use fama_node::store::{Store, View};
use fama_node::sync::heard::HeardFrontier;
use fama_node::sync::said;
use fama_node::wire::{CosignedHead, Frontier, Gossip, Refusal, SignedHead, Submission, SyncRequest, SyncResponse};
use fama_tests::{DAY, START, governance_key};
use libp2p::PeerId;
use tokio::sync::oneshot;

use self::governance::GovernanceState;
use super::chance::Chance;
use super::checker::{
    Acknowledged, CheckResult, PromiseChecker, StopReason, Watched, broken, claim_of, entry_time, is_certified_at, rest,
};
use super::cuts::Ending;
use super::federation::SimulatedFederation;
use super::liar::Liar;
use super::load::{Deed, Load};
use super::node::{PendingRequest, RunningNode, SimulatedMachine};
use super::plan::{ManifestChange, ReplacementDisk, RunPlan, Trouble};
use super::planted::Planted;

mod clients;
mod governance;
mod machines;
mod network;
mod troubles;

/// How often a node's inbox ticks, in milliseconds.
const TICK_MILLIS: u64 = 250;
/// How often, in ticks, a node's kept scores are compared with the join.
const SCORES_EVERY: u64 = 160;
/// How long a request may take, in milliseconds: the bound of the real network.
const REQUEST_MILLIS: u64 = 30_000;
/// How long a connection without a sign of life stays open, in milliseconds.
const SILENCE_MILLIS: u64 = 20_000;
/// How often nodes without a connection try to connect, in milliseconds.
const DIAL_MILLIS: u64 = 700;
/// How often a liar acts, in milliseconds.
const LIAR_MILLIS: u64 = 900;
/// How often a client submits an event at most.
const TRIES_MAX: u32 = 12;
/// All honest logs are final this long after the last trouble, in milliseconds: a peer that failed is asked again
/// after a minute, and a request is given up after half a minute.
const CALM_MILLIS_MAX: u64 = 180_000;

/// A message between two machines that has not arrived yet.
enum InFlight {
    Request(u64, SyncRequest),
    Answer(u64, Option<SyncResponse>),
    Gossip(Gossip),
}

enum Happening {
    Tick { node: usize, boot: u64 },
    Append { node: usize, boot: u64 },
    Arrive { from: usize, to: usize, link: u64, message: Box<InFlight> },
    GiveUp { node: usize, boot: u64, ask: u64 },
    Down { node: usize, boot: u64, peer: usize },
    Dial,
    Trouble(Trouble),
    Start { node: usize },
    ClockRight { node: usize },
    Deed,
    Submit(usize),
    Turn { liar: usize },
    Calm,
    Look,
    Govern,
}

/// What happened: the last lines as text for people, all of them as one hash.
pub(super) struct Trace {
    hasher: DefaultHasher,
    /// How many lines are kept.
    shown: usize,
    pub(super) last: VecDeque<String>,
}

impl Trace {
    fn say(&mut self, now: u64, what: &str) {
        let line = format!("{:>7}.{:03}  {what}", now / 1_000, now % 1_000);
        line.hash(&mut self.hasher);
        if self.last.len() == self.shown {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    /// The lines that are kept, each after a line break.
    pub(super) fn text(&self) -> String {
        self.last.iter().flat_map(|line| ["\n", line]).collect()
    }

    pub(super) fn hash(&self) -> u64 {
        self.hasher.finish()
    }
}

pub(super) struct World {
    federation: &'static SimulatedFederation,
    plan: RunPlan,
    planted: Option<Planted>,
    now: u64,
    /// By how much all clocks have been moved forward, in milliseconds.
    leapt: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    queued: u64,
    nodes: Vec<SimulatedMachine>,
    liars: BTreeMap<usize, Liar>,
    /// Open connections: the lower and higher machine number, and the connection's number.
    links: BTreeMap<(usize, usize), u64>,
    cuts: Vec<(u64, u64)>,
    slow: BTreeMap<usize, (u64, u64)>,
    mute: BTreeMap<usize, u64>,
    network: Chance,
    fate: Chance,
    checker: PromiseChecker,
    load: Load,
    governance: GovernanceState,
    deeds: Vec<Deed>,
    numbered: u64,
    calm: Option<u64>,
    pub(super) steps: u64,
    pub(super) trace: Trace,
}

impl World {
    pub(super) fn new(seed: u64, planted: Option<Planted>, shown: usize) -> Self {
        let mut plan = RunPlan::draw(seed);
        if let Some(planted) = planted {
            planted.adjust(&mut plan);
        }
        Self::of(seed, plan, planted, shown)
    }

    pub(super) fn of(seed: u64, plan: RunPlan, planted: Option<Planted>, shown: usize) -> Self {
        let federation = match planted {
            Some(Planted::CrowdsSubjects) => SimulatedFederation::crowded(plan.operators),
            _ => SimulatedFederation::of(plan.operators),
        };
        let honest: Vec<usize> = (0..plan.operators).filter(|node| !plan.liars.contains(node)).collect();
        let count = plan.operators + usize::from(plan.mirror || plan.joins());
        let liars = plan.liars.iter().map(|liar| (*liar, Liar::new(seed, *liar, &plan.liars, federation))).collect();
        let mut world = Self {
            federation,
            planted,
            now: 0,
            leapt: 0,
            queue: BTreeMap::new(),
            queued: 0,
            nodes: (0..count).map(|number| SimulatedMachine::new(number, federation)).collect(),
            liars,
            links: BTreeMap::new(),
            cuts: Vec::new(),
            slow: BTreeMap::new(),
            mute: BTreeMap::new(),
            network: Chance::new(seed, 3),
            fate: Chance::new(seed, 4),
            checker: PromiseChecker::new(federation, &plan),
            load: Load::new(seed, federation, honest),
            governance: GovernanceState::new(federation, &plan),
            deeds: Vec::new(),
            numbered: 0,
            calm: None,
            steps: 0,
            trace: Trace { hasher: DefaultHasher::new(), shown, last: VecDeque::new() },
            plan,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        let told: Vec<String> = self.liars.values().map(Liar::describe).collect();
        for (_, change) in &self.plan.changes {
            if let ManifestChange::EndLiar { node } = change
                && let Some(liar) = self.liars.get_mut(node)
            {
                liar.must_fork();
            }
        }
        if self.planted == Some(Planted::TooManyLiars) {
            self.liars.values_mut().for_each(Liar::must_split);
        }
        if self.plan.held_back {
            self.liars.values_mut().for_each(Liar::must_hold_back);
        }
        match self.planted {
            Some(Planted::CosignsLate) => self.liars.values_mut().for_each(Liar::must_backdate),
            Some(Planted::StoresAhead) => self.liars.values_mut().for_each(Liar::must_run_ahead),
            Some(Planted::CrowdsSubjects | Planted::ClaimsUnseen) => {
                self.liars.values_mut().for_each(Liar::must_flood);
            }
            Some(Planted::KeepsFuture) => self.nodes.iter_mut().for_each(|node| node.tolerates = 2 * 3_600_000),
            _ => {}
        }
        if matches!(self.planted, Some(Planted::CosignsLate | Planted::CosignsHeldBack)) {
            self.nodes.iter_mut().for_each(|node| node.overrides.accept_late = true);
        }
        let RunPlan { operators, mirror, troubles, changes, .. } = &self.plan;
        let course = format!("{operators} operators, mirror {mirror}, {troubles:?}, {changes:?}");
        self.say(&course);
        told.iter().for_each(|told| self.say(told));
        if self.plan.joins() {
            self.nodes[self.federation.len()].operates = true;
        }
        for node in 0..self.nodes.len() {
            if self.liars.contains_key(&node) {
                self.after(node as u64, Happening::Turn { liar: node });
            } else {
                if self.planted == Some(Planted::SyncIsALie) {
                    self.nodes[node].disk.lie_about_sync();
                }
                let first = self.fate.below(1_000);
                self.after(first, Happening::Start { node });
            }
        }
        for (at, trouble) in std::mem::take(&mut self.plan.troubles) {
            self.after(at, Happening::Trouble(trouble));
        }
        for _ in 0..self.plan.deeds {
            let at = self.fate.below(self.plan.busy);
            self.after(at, Happening::Deed);
        }
        if !self.plan.changes.is_empty() {
            self.after(0, Happening::Govern);
        }
        self.after(0, Happening::Dial);
        self.after(self.plan.busy, Happening::Calm);
    }

    /// Makes all liars cosign with times of the future.
    pub(super) fn date_ahead(&mut self) {
        self.liars.values_mut().for_each(Liar::must_date_ahead);
    }

    fn say(&mut self, what: &str) {
        self.trace.say(self.now, what);
    }

    /// Later versions that were published, logs that they ended, and logs that nobody can ever cut.
    pub(super) fn governed(&self) -> [u64; 3] {
        let versions = u64::from(self.governance.manifest.version()) - 1;
        [versions, self.checker.ended().count() as u64, self.governance.split]
    }

    pub(super) const fn time(&self) -> u64 {
        self.now
    }

    fn after(&mut self, millis: u64, happening: Happening) {
        self.queued += 1;
        self.queue.insert((self.now + millis, self.queued), happening);
    }

    /// The true time, which the machines' clocks follow, in milliseconds.
    const fn clock(&self) -> u64 {
        self.now + self.leapt
    }

    fn is_honest(&self, node: usize) -> bool {
        !self.liars.contains_key(&node)
    }

    /// Runs until all honest logs are final after the last trouble, or a promise is broken.
    pub(super) fn run(&mut self) -> CheckResult {
        loop {
            let Some(((at, _), happening)) = self.queue.pop_first() else { return Ok(()) };
            self.now = at;
            self.steps += 1;
            if matches!(happening, Happening::Look) {
                match self.look()? {
                    true => return Ok(()),
                    false => self.after(1_000, Happening::Look),
                }
            } else {
                self.happen(happening)?;
            }
        }
    }

    /// After a run: time passes without events, and `gone` has no machine any more. Then no certificate is old, and
    /// nothing from the future is kept.
    pub(super) fn rest(&mut self, millis: u64, gone: Option<usize>) -> CheckResult {
        gone.into_iter().for_each(|node| self.kill(node));
        let end = self.now + millis;
        while let Some(((at, _), happening)) = self.queue.pop_first().filter(|((at, _), _)| *at < end) {
            self.now = at;
            if !matches!(happening, Happening::Look) {
                self.happen(happening)?;
            }
        }
        self.checker.recent(&honest_views(&self.nodes), Millis(START.0 + self.clock()))
    }

    fn happen(&mut self, happening: Happening) -> CheckResult {
        match happening {
            Happening::Tick { node, boot } if self.is_up(node, boot) => {
                self.after(TICK_MILLIS, Happening::Tick { node, boot });
                self.with(node, Inbox::tick)?;
                if (self.now / TICK_MILLIS).is_multiple_of(SCORES_EVERY) { self.scores_hold(node) } else { Ok(()) }
            }
            Happening::Append { node, boot } if self.is_up(node, boot) => self.with(node, |_| Ok(())),
            Happening::Arrive { from, to, link, message } => self.arrive(from, to, link, *message),
            Happening::GiveUp { node, boot, ask } if self.is_up(node, boot) => self.close_ask(node, ask, None),
            Happening::Down { node, boot, peer } if self.is_up(node, boot) => self.lose_peer(node, peer),
            Happening::Dial => self.dial(),
            Happening::Trouble(trouble) => self.trouble(trouble),
            Happening::Start { node } => self.start(node),
            Happening::ClockRight { node } => {
                self.nodes[node].skew = 0;
                Ok(())
            }
            Happening::Deed => self.wish(),
            Happening::Submit(deed) => self.submit(deed),
            Happening::Turn { liar } => self.turn(liar),
            Happening::Calm => self.calm(),
            Happening::Govern => self.govern(),
            _ => Ok(()),
        }
    }

    fn is_up(&self, node: usize, boot: u64) -> bool {
        self.nodes[node].running.is_some() && self.nodes[node].boots == boot
    }
}

/// The stores of all running honest nodes: everything that a liar knows.
fn honest_views(nodes: &[SimulatedMachine]) -> Vec<View<'_>> {
    nodes
        .iter()
        .filter(|node| !node.damaged)
        .filter_map(|node| node.running.as_ref().map(|running| running.shared.store.view()))
        .collect()
}
