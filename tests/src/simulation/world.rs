//! One run: a queue of happenings by simulated time, the nodes, the network between them.
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use fama_ledger::checkpoint::{Checkpoint, Cosignature, SignedCheckpoint};
use fama_ledger::entry::{VerifiedEntry, VerifiedEvent};
use fama_ledger::event::Action;
use fama_ledger::id::EventId;
use fama_ledger::join::Join;
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
use fama_tests::{START, governance_key};
use libp2p::PeerId;
use tokio::sync::oneshot;

use self::governance::Governance;
use super::chance::Chance;
use super::checker::{Acknowledged, Checker, Kept, Stop, Watched, broken, claim_of, entry_time, rest};
use super::cuts::Ending;
use super::federation::Federation;
use super::liar::Liar;
use super::load::{Deed, Load};
use super::node::{Ask, Node, Running};
use super::plan::{Change, Disk, Plan, Trouble};
use super::planted::Planted;

mod clients;
mod governance;
mod machines;
mod network;
mod troubles;

/// How often a node looks at the time, in milliseconds.
const TICK_MILLIS: u64 = 250;
/// How long a request may take, in milliseconds: the network's bound.
const REQUEST_MILLIS: u64 = 30_000;
/// How long a connection without a sign of life stays open, in milliseconds.
const SILENCE_MILLIS: u64 = 20_000;
/// How often those that are not connected try, in milliseconds.
const DIAL_MILLIS: u64 = 700;
/// How often a liar does something, in milliseconds.
const LIAR_MILLIS: u64 = 900;
/// How often a client tries, at most.
const TRIES_MAX: u32 = 12;
/// Within that time after the last trouble everything honest is final, in milliseconds: a peer that failed is
/// asked again after a minute, a request is given up after half of one.
const CALM_MILLIS_MAX: u64 = 180_000;

/// A message on its way.
enum Message {
    Request(u64, SyncRequest),
    Answer(u64, Option<SyncResponse>),
    Gossip(Gossip),
}

enum Happening {
    Tick { node: usize, boot: u64 },
    Append { node: usize, boot: u64 },
    Arrive { from: usize, to: usize, link: u64, message: Box<Message> },
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

/// What happened, in words: the last of them for people, all of them as a number.
pub(super) struct Trace {
    hasher: DefaultHasher,
    /// How many are kept.
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

    pub(super) fn hash(&self) -> u64 {
        self.hasher.finish()
    }
}

pub(super) struct World {
    federation: &'static Federation,
    plan: Plan,
    planted: Option<Planted>,
    now: u64,
    /// By how much all clocks leapt, in milliseconds.
    leapt: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    queued: u64,
    nodes: Vec<Node>,
    liars: BTreeMap<usize, Liar>,
    /// Open connections: lower and higher number, and which one it is.
    links: BTreeMap<(usize, usize), u64>,
    cuts: Vec<(u64, u64)>,
    slow: BTreeMap<usize, (u64, u64)>,
    mute: BTreeMap<usize, u64>,
    network: Chance,
    fate: Chance,
    checker: Checker,
    load: Load,
    governance: Governance,
    deeds: Vec<Deed>,
    numbered: u64,
    calm: Option<u64>,
    pub(super) steps: u64,
    pub(super) trace: Trace,
}

impl World {
    pub(super) fn new(seed: u64, planted: Option<Planted>, shown: usize) -> Self {
        let mut plan = Plan::draw(seed);
        let federation = Federation::of(plan.operators);
        if let Some(planted) = planted {
            planted.bend(&mut plan);
        }
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
            nodes: (0..count).map(|number| Node::new(number, federation)).collect(),
            liars,
            links: BTreeMap::new(),
            cuts: Vec::new(),
            slow: BTreeMap::new(),
            mute: BTreeMap::new(),
            network: Chance::new(seed, 3),
            fate: Chance::new(seed, 4),
            checker: Checker::new(federation, &plan.liars),
            load: Load::new(seed, federation, honest),
            governance: Governance::new(federation, &plan),
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
            if let Change::EndLiar { node } = change
                && let Some(liar) = self.liars.get_mut(node)
            {
                liar.must_fork();
            }
        }
        let Plan { operators, mirror, troubles, changes, .. } = &self.plan;
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

    fn say(&mut self, what: &str) {
        self.trace.say(self.now, what);
    }

    /// Later versions that were published, logs that these ended, and logs that nobody may ever cut.
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

    /// True time of the machines: what their clocks go by.
    const fn clock(&self) -> u64 {
        self.now + self.leapt
    }

    fn is_honest(&self, node: usize) -> bool {
        !self.liars.contains_key(&node)
    }

    /// Runs until all is final after the last trouble, or a promise is broken.
    pub(super) fn run(&mut self) -> Kept {
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

    fn happen(&mut self, happening: Happening) -> Kept {
        match happening {
            Happening::Tick { node, boot } if self.is_up(node, boot) => {
                self.after(TICK_MILLIS, Happening::Tick { node, boot });
                self.with(node, Inbox::tick)
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

/// What the honest who run have: all that a liar knows.
fn honest_views(nodes: &[Node]) -> Vec<View<'_>> {
    nodes
        .iter()
        .filter(|node| !node.damaged)
        .filter_map(|node| node.running.as_ref().map(|running| running.shared.store.view()))
        .collect()
}
