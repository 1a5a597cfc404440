//! One run: a queue of happenings by simulated time, the nodes, the network between them.
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use fama_ledger::checkpoint::{Checkpoint, Cosignature, SignedCheckpoint};
use fama_ledger::entry::VerifiedEntry;
use fama_ledger::event::Action;
use fama_ledger::join::Join;
use fama_ledger::log::{Head, root_at};
use fama_ledger::time::Millis;
use fama_node::inbox::{Answer, COMMANDS_MAX, Command, Fatal, Input};
use fama_node::network::wire::{CosignedHead, Frontier, Gossip, SignedHead, SyncRequest, SyncResponse};
use fama_node::news::Said;
use fama_node::store::{Store, View};
use fama_node::sync;
use fama_tests::{START, node_key};
use tokio::sync::oneshot;

use super::chance::Chance;
use super::checker::{Acknowledged, Checker, Kept, Stop, Watched, broken, claim_of, entry_time};
use super::federation::Federation;
use super::liar::Liar;
use super::load::{Deed, Load};
use super::node::{Ask, Node, Running};
use super::plan::{Disk, Plan, Trouble};
use super::planted::Planted;

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
    Arrive { from: usize, to: usize, link: u64, message: Message },
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
        let count = plan.operators + usize::from(plan.mirror);
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
        let course =
            format!("{} operators, mirror {}, {:?}", self.plan.operators, self.plan.mirror, self.plan.troubles);
        self.say(&course);
        told.iter().for_each(|told| self.say(told));
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
        self.after(0, Happening::Dial);
        self.after(self.plan.busy, Happening::Calm);
    }

    fn say(&mut self, what: &str) {
        self.trace.say(self.now, what);
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
                self.with(node, fama_node::inbox::Inbox::tick)
            }
            Happening::Append { node, boot } if self.is_up(node, boot) => self.with(node, |_| Ok(())),
            Happening::Arrive { from, to, link, message } => self.arrive(from, to, link, message),
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
            _ => Ok(()),
        }
    }

    fn is_up(&self, node: usize, boot: u64) -> bool {
        self.nodes[node].running.is_some() && self.nodes[node].boots == boot
    }

    // Nodes.

    /// Lets a node's inbox work, then does what follows from it, and looks at what it did.
    fn with(&mut self, node: usize, work: impl FnOnce(&mut fama_node::inbox::Inbox) -> Result<(), Fatal>) -> Kept {
        let clock = self.clock();
        let Some(running) = self.nodes[node].at(clock) else { return Ok(()) };
        let done = work(&mut running.inbox).and_then(|()| match running.inbox.append_due_in() {
            Some(due) if due.is_zero() => running.inbox.append(),
            _ => Ok(()),
        });
        if let Err(fatal) = done {
            return self.stopped(node, &fatal);
        }
        self.schedule_append(node);
        self.observe(node)?;
        self.answer_clients(node)?;
        let mut commands = Vec::new();
        if let Some(running) = &mut self.nodes[node].running {
            while let Ok(command) = running.commands.try_recv() {
                commands.push(command);
            }
        }
        if commands.len() >= COMMANDS_MAX {
            return broken("queues stay within their bounds", format!("n{node}: {} commands", commands.len()));
        }
        commands.into_iter().try_for_each(|command| self.command(node, command))
    }

    fn give(&mut self, node: usize, input: Input) -> Kept {
        self.with(node, |inbox| inbox.take(input))
    }

    fn schedule_append(&mut self, node: usize) {
        let (now, boot) = (self.now, self.nodes[node].boots);
        let Some(running) = &mut self.nodes[node].running else { return };
        let due = running.inbox.append_due_in().map(|due| now + u64::try_from(due.as_millis()).unwrap() + 1);
        if due.is_some() && running.append_at.is_none_or(|at| at <= now) {
            running.append_at = due;
            self.after(due.unwrap() - now, Happening::Append { node, boot });
        }
    }

    fn observe(&mut self, node: usize) -> Kept {
        let Node { running: Some(running), disk, .. } = &self.nodes[node] else { return Ok(()) };
        let view = running.shared.store.view();
        let seen = self.checker.observe(&Watched { node, view: &view, disk, boot: &running.boot });
        self.judge(node, seen)
    }

    /// A damaged disk may be unreadable, no other.
    fn judge(&self, node: usize, kept: Kept) -> Kept {
        match kept {
            Err(Stop::Unreadable(_)) if self.nodes[node].damaged => Ok(()),
            Err(Stop::Unreadable(what)) => broken("a disk that is not damaged can be read", format!("n{node}: {what}")),
            kept => kept,
        }
    }

    /// A node stopped by itself: its disk had better be the reason.
    fn stopped(&mut self, node: usize, fatal: &Fatal) -> Kept {
        self.say(&format!("n{node} stops: {}", fatal.code()));
        let off = fatal.to_string().contains("the power");
        if self.nodes[node].damaged && !off {
            self.replace_damaged(node);
            return Ok(());
        }
        if !off {
            return broken("a node stops only for its disk", format!("n{node}: {fatal}"));
        }
        let (disk, down) = self.nodes[node].fallen.take().unwrap_or((Disk::Same, 1_000));
        self.crash(node, down, disk);
        Ok(())
    }

    fn crash(&mut self, node: usize, down: u64, disk: Disk) {
        let Some(running) = self.nodes[node].running.take() else { return };
        drop(running);
        let kept = self.fate.below(self.nodes[node].disk.unsynced() + 1);
        self.nodes[node].disk.crash(kept);
        self.say(&format!("n{node} is down, {kept} unsynced writes kept"));
        for peer in 0..self.nodes.len() {
            self.unlink(node, peer);
        }
        if !matches!(disk, Disk::Same) {
            self.lose_disk(node, disk);
        }
        let down = if self.calm.is_some() { 10 } else { down };
        self.after(down, Happening::Start { node });
    }

    fn replace_damaged(&mut self, node: usize) {
        self.nodes[node].damaged = false;
        if self.nodes[node].running.is_some() {
            self.crash(node, 500, Disk::Empty);
        } else {
            self.lose_disk(node, Disk::Empty);
            self.after(500, Happening::Start { node });
        }
    }

    fn lose_disk(&mut self, node: usize, disk: Disk) {
        let backup = self.nodes[node].backup.take().filter(|_| matches!(disk, Disk::Backup));
        self.say(&format!("n{node} loses its disk, backup {}", backup.is_some()));
        self.nodes[node].disk = backup.unwrap_or_default();
        let running = |other: &Node| other.number != node;
        let mut stores: Vec<Store> = Vec::new();
        for other in self.nodes.iter().filter(|other| running(other) && self.is_honest(other.number)) {
            stores.extend(Store::open_simulated(&other.disk.synced(), &self.federation.manifest));
        }
        stores.extend(Store::open_simulated(&self.nodes[node].disk, &self.federation.manifest));
        let views: Vec<View<'_>> = stores.iter().map(Store::view).collect();
        if node < self.federation.len() {
            self.checker.lose(node, &views);
        }
    }

    fn start(&mut self, node: usize) -> Kept {
        if self.nodes[node].running.is_some() {
            return Ok(());
        }
        let clock = self.clock();
        let Self { nodes, checker, .. } = self;
        if let Err(fatal) = nodes[node].start(clock, |store| checker.boot(node, &store.view())) {
            self.say(&format!("n{node} does not start: {}", fatal.code()));
            if fatal.to_string().contains("the power") {
                self.nodes[node].disk.crash(0);
                self.after(1_000, Happening::Start { node });
                return Ok(());
            }
            if self.nodes[node].damaged {
                self.replace_damaged(node);
                return Ok(());
            }
            return broken("a node starts on what a crash left", format!("n{node}: {fatal}"));
        }
        self.say(&format!("n{node} starts"));
        if let Some(Running { shared, .. }) = &self.nodes[node].running
            && node < self.federation.len()
        {
            self.judge(node, self.checker.receipts_hold(node, &shared.store.view()))?;
        }
        let boot = self.nodes[node].boots;
        self.after(TICK_MILLIS, Happening::Tick { node, boot });
        self.planted_at_start(node)?;
        self.with(node, |_| Ok(()))
    }

    /// The fault planted: the node believes that it asked everybody, and that they have nothing.
    fn planted_at_start(&mut self, node: usize) -> Kept {
        if self.planted != Some(Planted::GateOpensUnasked) || self.nodes[node].boots == 1 {
            return Ok(());
        }
        for other in (0..self.federation.len()).filter(|other| *other != node) {
            let (peer, operator) = (self.federation.peers[other], Some(self.federation.names[other].clone()));
            let said = Said { logs: Vec::new(), other: None };
            self.with(node, |inbox| {
                inbox.take(Input::PeerUp { peer, operator })?;
                inbox.take(Input::Frontier { peer, said, ahead: 0 })?;
                inbox.take(Input::PeerDown { peer })
            })?;
        }
        Ok(())
    }

    // The network.

    /// Liars are everywhere: nothing cuts them off.
    fn is_cut(&self, a: usize, b: usize) -> bool {
        let honest = self.is_honest(a) && self.is_honest(b);
        honest && self.cuts.iter().any(|(side, until)| self.now < *until && (side >> a) & 1 != (side >> b) & 1)
    }

    fn link(&self, a: usize, b: usize) -> Option<u64> {
        self.links.get(&(a.min(b), a.max(b))).copied()
    }

    fn unlink(&mut self, a: usize, b: usize) {
        if self.links.remove(&(a.min(b), a.max(b))).is_none() {
            return;
        }
        for (node, peer) in [(a, b), (b, a)] {
            if self.nodes[node].running.is_some() {
                let (late, boot) = (self.network.below(2_000), self.nodes[node].boots);
                self.after(late, Happening::Down { node, boot, peer });
            }
        }
    }

    fn is_there(&self, node: usize) -> bool {
        !self.is_honest(node) || self.nodes[node].running.is_some()
    }

    fn sees(&self, node: usize, peer: usize) -> bool {
        self.nodes[node].running.as_ref().is_some_and(|running| running.peers.contains(&peer))
    }

    /// Whoever is not connected and can be, may be now.
    fn dial(&mut self) -> Kept {
        self.after(DIAL_MILLIS, Happening::Dial);
        for b in 0..self.nodes.len() {
            for a in 0..b {
                let possible = self.is_there(a) && self.is_there(b) && !self.is_cut(a, b) && self.link(a, b).is_none();
                let over = !self.sees(a, b) && !self.sees(b, a);
                if possible && over && (self.calm.is_some() || self.network.percent(60)) {
                    self.numbered += 1;
                    self.links.insert((a, b), self.numbered);
                    self.meet(a, b)?;
                    self.meet(b, a)?;
                }
            }
        }
        Ok(())
    }

    fn meet(&mut self, node: usize, peer: usize) -> Kept {
        let Some(running) = &mut self.nodes[node].running else { return Ok(()) };
        running.peers.insert(peer);
        let operator = self.federation.names.get(peer).cloned();
        self.give(node, Input::PeerUp { peer: self.federation.peers[peer], operator })
    }

    fn lose_peer(&mut self, node: usize, peer: usize) -> Kept {
        let Some(running) = &mut self.nodes[node].running else { return Ok(()) };
        if !running.peers.remove(&peer) {
            return Ok(());
        }
        let asks: Vec<u64> = running.asks.iter().filter(|(_, (to, _))| *to == peer).map(|(ask, _)| *ask).collect();
        self.give(node, Input::PeerDown { peer: self.federation.peers[peer] })?;
        asks.into_iter().try_for_each(|ask| self.close_ask(node, ask, None))
    }

    fn delay(&mut self, from: usize) -> u64 {
        if self.calm.is_some() {
            return self.network.between(1, 40);
        }
        let slow = self.slow.get(&from).filter(|(until, _)| self.now < *until).map_or(0, |(_, by)| *by);
        let usual = match self.network.below(100) {
            0 => self.network.below(self.plan.delay_max),
            1..=10 => self.network.below(1_000.min(self.plan.delay_max)),
            _ => self.network.between(1, 40),
        };
        slow + usual
    }

    fn send(&mut self, from: usize, to: usize, message: Message) {
        let Some(link) = self.link(from, to) else { return };
        let lost = self.calm.is_none() && self.network.below(1_000) < self.plan.loss;
        if self.is_cut(from, to) || lost {
            return;
        }
        let delay = self.delay(from);
        if let Message::Gossip(gossip) = &message
            && self.calm.is_none()
            && self.network.percent(self.plan.doubled)
        {
            let again = self.network.below(30_000);
            let message = Message::Gossip(gossip.clone());
            self.after(again, Happening::Arrive { from, to, link, message });
        }
        self.after(delay, Happening::Arrive { from, to, link, message });
    }

    fn arrive(&mut self, from: usize, to: usize, link: u64, message: Message) -> Kept {
        if self.link(from, to) != Some(link) || self.is_cut(from, to) || !self.is_there(to) {
            return Ok(());
        }
        match message {
            Message::Request(ask, request) => self.asked(from, to, ask, &request),
            Message::Answer(ask, answer) => self.close_ask(to, ask, Some(answer)),
            Message::Gossip(gossip) => {
                let clock = self.clock();
                let federation = self.federation;
                let Some(running) = self.nodes[to].at(clock) else { return Ok(()) };
                let heard = running.heard(federation, from, gossip);
                let Some(input) = heard else { return Ok(()) };
                self.say(&format!("n{to} hears {} from n{from}", name(&input)));
                self.planted_at_head(to, &input)?;
                self.give(to, input)
            }
        }
    }

    /// The faults planted: the node cosigns what it hears of, or once more something smaller.
    fn planted_at_head(&mut self, node: usize, input: &Input) -> Kept {
        let Some(name) = self.federation.names.get(node) else { return Ok(()) };
        let Some(running) = &self.nodes[node].running else { return Ok(()) };
        let Input::Head { signed, .. } = input else { return Ok(()) };
        let log = fama_ledger::replica::log_of(signed);
        let mut head = signed.checkpoint().head;
        match self.planted {
            Some(Planted::CosignsBlindly) if running.boot.heard.len() + 1 >= self.federation.gate() => {}
            Some(Planted::CosignsSmaller) if head.size > 2 => {
                let Ok(root) = root_at(2, &running.shared.store.view().tiles(&log)) else { return Ok(()) };
                head = Head { size: 2, root };
            }
            _ => return Ok(()),
        }
        let checkpoint = Checkpoint { origin: self.federation.manifest.origin(&log), head };
        let (key, seconds) = (node_key(node as u8), (START.0 + self.clock()) / 1_000);
        let cosignature = Cosignature::sign(&checkpoint, name.clone(), key.ed25519().unwrap(), seconds);
        let signed = SignedHead { head, ..SignedHead::of(signed) };
        let cosigned = CosignedHead { signed, cosignature };
        self.command(node, Command::Publish(Gossip::Cosignature { log, cosigned }))
    }

    fn asked(&mut self, from: usize, to: usize, ask: u64, request: &SyncRequest) -> Kept {
        if self.mute.get(&to).is_some_and(|until| self.now < *until) {
            return Ok(());
        }
        let wall = Millis(START.0 + self.clock());
        let answer = if let Some(liar) = self.liars.get_mut(&to) {
            let views = honest_views(&self.nodes);
            liar.answer(from, request, &views, wall)
        } else {
            let clock = self.clock();
            let now = self.nodes[to].wall(clock);
            let Node { running: Some(running), disk, .. } = &self.nodes[to] else { return Ok(()) };
            let (view, shared) = (running.shared.store.view(), &running.shared);
            let answer = sync::answer(&view, &shared.manifest, running.session(), now, request);
            if let Ok(SyncResponse::Frontier(frontier)) = &answer {
                let watched = Watched { node: to, view: &view, disk, boot: &running.boot };
                let told = self.checker.told(&watched, frontier);
                self.judge(to, told)?;
            }
            answer.ok()
        };
        self.send(to, from, Message::Answer(ask, answer));
        Ok(())
    }

    /// A request is answered, or not.
    fn close_ask(&mut self, node: usize, ask: u64, answer: Option<Option<SyncResponse>>) -> Kept {
        let (clock, federation) = (self.clock(), self.federation);
        let Some(running) = self.nodes[node].at(clock) else { return Ok(()) };
        let Some((peer, about)) = running.asks.remove(&ask) else { return Ok(()) };
        let answer = answer.flatten();
        let told = match &answer {
            Some(SyncResponse::Frontier(frontier)) => own_head(federation, node, frontier),
            _ => 0,
        };
        let mut blamed = None;
        let answered = running.answered(federation, peer, about, answer).unwrap_or_else(|(code, input)| {
            blamed = Some(code);
            Some(input)
        });
        let Some(mut input) = answered else { return Ok(()) };
        if let Input::Frontier { ahead, .. } = &mut input {
            if self.planted == Some(Planted::BelievesAnyClock) {
                *ahead = 0;
            }
            if peer < federation.len() {
                running.boot.heard.insert(peer);
                running.boot.clocks.insert(peer, clock);
            }
            running.boot.told = running.boot.told.max(told);
        }
        if let Some(code) = blamed {
            self.command(node, Command::Penalize { peer: federation.peers[peer], code })?;
        }
        if self.planted == Some(Planted::DropsRevocations) && Planted::is_dropped(&input) {
            return Ok(());
        }
        self.say(&format!("n{node} gets {} from n{peer}", name(&input)));
        self.give(node, input)
    }

    fn command(&mut self, node: usize, command: Command) -> Kept {
        let federation = self.federation;
        match command {
            Command::AskFrontier { peer, ours } => {
                let Node { running: Some(running), disk, .. } = &self.nodes[node] else { return Ok(()) };
                let view = running.shared.store.view();
                let told = self.checker.told(&Watched { node, view: &view, disk, boot: &running.boot }, &ours);
                self.judge(node, told)?;
                drop(view);
                self.ask(node, federation.peer(&peer), Ask::Frontier, SyncRequest::Frontier(ours))
            }
            Command::Fetch { peer, log, from, head } => {
                self.say(&format!("n{node} asks n{} for {log} from {from} to {}", federation.peer(&peer), head.size));
                let request = SyncRequest::Entries { log: log.clone(), from, head };
                self.ask(node, federation.peer(&peer), Ask::Entries { log, head }, request)
            }
            Command::FetchNotes { peer, hashes } => {
                let known = peer.map(|peer| federation.peer(&peer)).or_else(|| self.somebody(node));
                let Some(peer) = known else { return Ok(()) };
                self.ask(node, peer, Ask::Notes(hashes.clone()), SyncRequest::Notes(hashes))
            }
            Command::Publish(gossip) => self.publish(node, gossip),
            Command::Penalize { peer, code } => {
                let peer = federation.peer(&peer);
                self.say(&format!("n{node} blames n{peer}: {code}"));
                if self.is_honest(peer) && self.liars.is_empty() && self.checker.forgetful.is_empty() {
                    return broken("nobody honest is blamed", format!("n{node} blames n{peer}: {code}"));
                }
                Ok(())
            }
        }
    }

    fn somebody(&mut self, node: usize) -> Option<usize> {
        let peers = &self.nodes[node].running.as_ref()?.peers;
        let operators: Vec<usize> = peers.iter().copied().filter(|peer| *peer < self.federation.len()).collect();
        (!operators.is_empty()).then(|| *self.network.pick(&operators))
    }

    fn ask(&mut self, node: usize, peer: usize, about: Ask, request: SyncRequest) -> Kept {
        self.numbered += 1;
        let (ask, boot) = (self.numbered, self.nodes[node].boots);
        let most = 2 * (self.nodes.len() + self.federation.len()) + 8;
        let connected = self.sees(node, peer);
        let Some(running) = &mut self.nodes[node].running else { return Ok(()) };
        running.asks.insert(ask, (peer, about));
        if running.asks.len() > most {
            return broken("queues stay within their bounds", format!("n{node}: {} requests", running.asks.len()));
        }
        let patience = if connected { REQUEST_MILLIS } else { 1 };
        self.after(patience, Happening::GiveUp { node, boot, ask });
        self.send(node, peer, Message::Request(ask, request));
        Ok(())
    }

    fn publish(&mut self, node: usize, gossip: Gossip) -> Kept {
        if let Node { running: Some(running), disk, .. } = &self.nodes[node] {
            let view = running.shared.store.view();
            let watched = Watched { node, view: &view, disk, boot: &running.boot };
            let told = self.checker.gossiped(&watched, &gossip);
            self.judge(node, told)?;
        }
        for peer in 0..self.nodes.len() {
            if peer != node {
                self.send(node, peer, Message::Gossip(gossip.clone()));
            }
        }
        Ok(())
    }

    fn turn(&mut self, number: usize) -> Kept {
        self.after(LIAR_MILLIS, Happening::Turn { liar: number });
        let now = Millis(START.0 + self.clock());
        let mut said = Vec::new();
        if let Some(liar) = self.liars.get_mut(&number) {
            liar.turn(now);
            let views = honest_views(&self.nodes);
            for to in (0..self.nodes.len()).filter(|to| *to != number) {
                said.extend(liar.gossip(to, &views, now).into_iter().map(|gossip| (to, gossip)));
            }
        }
        said.into_iter().for_each(|(to, gossip)| self.send(number, to, Message::Gossip(gossip)));
        Ok(())
    }

    // Clients.

    fn wish(&mut self) -> Kept {
        let now = Millis(START.0 + self.clock());
        if let Some(deed) = self.load.next(now) {
            self.deeds.push(deed);
            let late = self.fate.below(50);
            self.after(late, Happening::Submit(self.deeds.len() - 1));
        }
        Ok(())
    }

    /// Hands an event in at its home; a revocation, after two tries, elsewhere.
    fn submit(&mut self, number: usize) -> Kept {
        let deed = &mut self.deeds[number];
        if deed.over {
            return Ok(());
        }
        deed.tries += 1;
        let (home, elsewhere, tries) = (deed.home, deed.elsewhere, deed.tries);
        let again = self.fate.between(500, 3_000);
        if tries < TRIES_MAX {
            self.after(again, Happening::Submit(number));
        }
        let unreachable = self.calm.is_none() && (self.fate.percent(10) || elsewhere.is_some() && tries <= 4);
        match elsewhere.filter(|_| tries > 2 && unreachable) {
            Some(other) if self.fits(other, number) => self.hand_in(other, number),
            None if !unreachable => self.hand_in(home, number),
            _ => Ok(()),
        }
    }

    /// Whether an operator's copy of the home says that a revocation fits.
    fn fits(&self, node: usize, number: usize) -> bool {
        let Some(running) = &self.nodes[node].running else { return false };
        let event = &self.deeds[number].event;
        let Action::Revoke { identity, version, key, .. } = &event.event().action else { return false };
        let (view, signer) = (running.shared.store.view(), event.signed().signer.hash());
        let join = Join::new(&self.federation.manifest, &view);
        let found = join.identity(*identity).ok().flatten();
        found.is_some_and(|found| join.fits_chain(&found, *version, key.hash(), signer).unwrap_or(false))
    }

    fn hand_in(&mut self, node: usize, number: usize) -> Kept {
        let Some(running) = &mut self.nodes[node].running else { return Ok(()) };
        let (reply, answer) = oneshot::channel();
        running.replies.push((number, answer));
        self.say(&format!("n{node} is handed {}", self.deeds[number].event.event().action.kind()));
        let events = vec![self.deeds[number].submitted()];
        if self.planted == Some(Planted::AnswersFirst) {
            self.answer_first(node, number);
        }
        self.give(node, Input::Submit { events, reply })
    }

    /// The fault planted: the receipt comes before the entry is durable.
    fn answer_first(&mut self, node: usize, number: usize) {
        let Node { running: Some(running), .. } = &self.nodes[node] else { return };
        let record = running.shared.store.view().log(&self.federation.logs[node]);
        let Ok(Some(record)) = record else { return };
        let (event, index) = (self.deeds[number].event.clone(), record.state.size);
        let entry = VerifiedEntry::of(self.nodes[node].wall(self.clock()), event.clone()).into_bytes();
        let event = event.id();
        self.checker.acknowledge(Acknowledged { event, log: node, index, entry, claim: None });
    }

    fn answer_clients(&mut self, node: usize) -> Kept {
        let Some(running) = &mut self.nodes[node].running else { return Ok(()) };
        let mut answered = Vec::new();
        running.replies.retain_mut(|(deed, reply)| match reply.try_recv() {
            Ok(mut answers) => {
                answered.push((*deed, answers.pop().unwrap()));
                false
            }
            Err(oneshot::error::TryRecvError::Empty) => true,
            Err(oneshot::error::TryRecvError::Closed) => false,
        });
        answered.into_iter().try_for_each(|(deed, answer)| self.client_hears(node, deed, answer))
    }

    fn client_hears(&mut self, node: usize, number: usize, answer: Answer) -> Kept {
        let lost = self.calm.is_none() && self.fate.percent(5);
        match answer {
            _ if self.deeds[number].over || lost => Ok(()),
            Answer::Taken { index, entry, signed, known } => self.receipt(node, number, index, entry, &signed, known),
            Answer::Unsponsored => {
                self.say(&format!("n{node} knows no sponsor"));
                self.give(node, Input::AskAll)
            }
            Answer::Refused(refusal) => {
                self.say(&format!("n{node} refuses: {}", refusal.code));
                let passing = matches!(refusal.code.as_str(), "not_ready" | "outside_window");
                self.deeds[number].over = !passing && self.deeds[number].elsewhere.is_none();
                Ok(())
            }
        }
    }

    fn receipt(
        &mut self,
        node: usize,
        number: usize,
        index: u64,
        entry: Vec<u8>,
        signed: &SignedCheckpoint,
        known: bool,
    ) -> Kept {
        let (head, time) = (signed.checkpoint().head, entry_time(&entry));
        self.say(&format!("n{node} took entry {index}, known {known}"));
        let Node { running: Some(running), disk, .. } = &self.nodes[node] else { return Ok(()) };
        let view = running.shared.store.view();
        let watched = Watched { node, view: &view, disk, boot: &running.boot };
        let told = self.checker.told_head(&watched, node, head);
        self.judge(node, told)?;
        if !known {
            self.the_clock_was_right(running, node, time)?;
        }
        let deed = &mut self.deeds[number];
        deed.over = true;
        let claim = claim_of(&deed.event.event().action).filter(|_| deed.home != node);
        let event = deed.event.id();
        self.checker.acknowledge(Acknowledged { event, log: node, index, entry, claim });
        self.load.acknowledged(&self.deeds[number]);
        Ok(())
    }

    /// Nothing is taken in by a clock that is far ahead of those heard lately, if there are enough.
    fn the_clock_was_right(&self, running: &Running, node: usize, time: Millis) -> Kept {
        let clock = self.clock();
        let fresh = running.boot.clocks.iter().filter(|(peer, at)| {
            clock - **at < 55_000
                && **at > self.nodes[node].skewed
                && self.is_honest(**peer)
                && self.nodes[**peer].skew.abs() < 1_000
        });
        let ahead = self.nodes[node].skew > 60_000 && time.0 > START.0 + clock + 60_000;
        if ahead && self.liars.is_empty() && fresh.count() >= 2 && self.wrong_clocks() == 1 {
            return broken("a clock that is ahead takes nothing in", format!("n{node}: {time}"));
        }
        Ok(())
    }

    fn wrong_clocks(&self) -> usize {
        self.nodes.iter().filter(|node| node.skew != 0).count()
    }

    // Troubles.

    fn trouble(&mut self, trouble: Trouble) -> Kept {
        if self.calm.is_some() {
            return Ok(());
        }
        self.say(&format!("{trouble:?}"));
        match trouble {
            Trouble::Crash { node, writes: None, down, disk } => self.crash(node, down, disk),
            Trouble::Crash { node, writes: Some(writes), down, disk } => {
                self.nodes[node].fallen = Some((disk, down));
                self.nodes[node].disk.power_off_after(writes);
            }
            Trouble::Backup { node } => self.nodes[node].backup = Some(self.nodes[node].disk.synced()),
            Trouble::Damage { node, choice } if self.planted == Some(Planted::FlipsUnnoticed) => {
                self.nodes[node].disk.flip_unnoticed(choice);
            }
            Trouble::Damage { node, choice } => {
                self.nodes[node].damaged |= self.nodes[node].disk.damage(choice);
                self.checker.hidden.insert(node);
            }
            Trouble::Cut { side, millis, silent } => self.cut(side, millis, silent),
            Trouble::Slow { node, by, millis } => {
                self.slow.insert(node, (self.now + millis, by));
            }
            Trouble::Mute { node, millis } => {
                self.mute.insert(node, self.now + millis);
            }
            Trouble::Clock { node, skew, millis } => {
                self.nodes[node].skew = skew;
                self.nodes[node].skewed = self.clock();
                self.after(millis, Happening::ClockRight { node });
            }
        }
        Ok(())
    }

    fn cut(&mut self, side: u64, millis: u64, silent: bool) {
        self.cuts.push((side, self.now + millis));
        if silent && millis < SILENCE_MILLIS {
            return;
        }
        for b in 0..self.nodes.len() {
            for a in 0..b {
                if self.is_cut(a, b) {
                    self.unlink(a, b);
                }
            }
        }
    }

    /// All troubles end: the network delivers, machines run, clocks are right.
    fn calm(&mut self) -> Kept {
        self.say("all troubles end");
        self.calm = Some(self.now);
        self.cuts.clear();
        self.mute.clear();
        for node in 0..self.nodes.len() {
            self.nodes[node].skew = 0;
            self.nodes[node].disk.power_on();
            if self.nodes[node].damaged {
                self.replace_damaged(node);
            } else if self.is_honest(node) {
                self.after(node as u64, Happening::Start { node });
            }
        }
        self.after(1_000, Happening::Look);
        Ok(())
    }

    /// With fewer than three clocks, only a person can say that the own one, which jumped, is right.
    fn waits_for_a_person(&self, node: usize) -> bool {
        let Some(running) = &self.nodes[node].running else { return false };
        self.federation.len() < 3 && running.shared.health.read().waiting == Some("clock_jumped")
    }

    /// Entries that were made by a clock ahead are waited for: for everybody, the time passes in one leap.
    fn leap(&mut self) {
        let views = honest_views(&self.nodes);
        let mut newest = 0;
        for log in self.checker.honest_logs() {
            let id = &self.federation.logs[log];
            for view in &views {
                let size = view.log(id).ok().flatten().map_or(0, |record| record.state.size);
                let last = size.checked_sub(1).and_then(|last| view.entries(id, last, 1, usize::MAX).ok()?.pop());
                newest = newest.max(last.map_or(0, |entry| entry_time(&entry).0));
            }
        }
        drop(views);
        self.leapt += newest.saturating_sub(START.0 + self.clock() + 30_000);
    }

    /// Whether everything honest is final; then what remains is checked.
    fn look(&mut self) -> Result<bool, Stop> {
        self.leap();
        for node in 0..self.nodes.len() {
            if self.waits_for_a_person(node) {
                self.crash(node, 500, Disk::Same);
            }
        }
        let calm = self.calm.unwrap_or_default();
        let honest: BTreeSet<usize> = (0..self.nodes.len()).filter(|node| self.is_honest(*node)).collect();
        let running = self
            .nodes
            .iter()
            .filter(|node| !node.damaged)
            .filter_map(|node| node.running.as_ref().map(|running| (node.number, running)));
        let stores: Vec<(usize, &Store)> = running
            .filter(|(node, _)| honest.contains(node))
            .map(|(node, running)| (node, &*running.shared.store))
            .collect();
        let views: Vec<(usize, View<'_>)> = stores.iter().map(|(node, store)| (*node, store.view())).collect();
        let missing = match views.len() == honest.len() {
            true => self.checker.missing(&views),
            false => Some("a node is down".to_owned()),
        };
        match missing {
            None => {
                let stores: Vec<&Store> = stores.iter().map(|(_, store)| *store).collect();
                self.checker.end(&views, &stores)?;
                Ok(true)
            }
            Some(_) if self.now > calm + CALM_MILLIS_MAX && self.checker.lost_for_ever(&views) => Err(Stop::Beyond),
            Some(missing) if self.now > calm + CALM_MILLIS_MAX => {
                broken("when the troubles end, everything honest becomes final", missing).map(|()| false)
            }
            Some(_) => Ok(false),
        }
    }
}

/// The size of a node's own head in a frontier.
fn own_head(federation: &Federation, node: usize, frontier: &Frontier) -> u64 {
    let own = frontier.logs.iter().find(|log| federation.logs.get(node) == Some(&log.log));
    own.and_then(|own| own.newest.as_ref()).map_or(0, |newest| newest.head.size)
}

/// What the honest who run have: all that a liar knows.
fn honest_views(nodes: &[Node]) -> Vec<View<'_>> {
    nodes
        .iter()
        .filter(|node| !node.damaged)
        .filter_map(|node| node.running.as_ref().map(|running| running.shared.store.view()))
        .collect()
}

const fn name(input: &Input) -> &'static str {
    match input {
        Input::PeerUp { .. } => "a peer",
        Input::PeerDown { .. } => "the end of a peer",
        Input::Frontier { .. } => "a frontier",
        Input::Unanswered { .. } => "no frontier",
        Input::Head { .. } => "a head",
        Input::Cosigned(_) => "a cosignature",
        Input::Range { .. } => "entries",
        Input::RangeFailed { .. } => "no entries",
        Input::Submit { .. } => "a submission",
        Input::AskAll => "a wish to ask",
        Input::Notes(_) => "notes",
        Input::Stop => "the end",
    }
}
