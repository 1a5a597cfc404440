//! Between machines: connections, delays, losses, requests and their answers.
use super::*;

impl World {
    /// Nothing cuts liars off.
    pub(super) fn is_cut(&self, a: usize, b: usize) -> bool {
        let honest = self.is_honest(a) && self.is_honest(b);
        honest && self.cuts.iter().any(|(side, until)| self.now < *until && (side >> a) & 1 != (side >> b) & 1)
    }

    pub(super) fn link(&self, a: usize, b: usize) -> Option<u64> {
        self.links.get(&(a.min(b), a.max(b))).copied()
    }

    pub(super) fn unlink(&mut self, a: usize, b: usize) {
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

    pub(super) fn is_there(&self, node: usize) -> bool {
        !self.is_honest(node) || self.nodes[node].running.is_some()
    }

    pub(super) fn sees(&self, node: usize, peer: usize) -> bool {
        self.nodes[node].running.as_ref().is_some_and(|running| running.peers.contains_key(&peer))
    }

    /// Machines that are not connected but can be may connect now.
    pub(super) fn dial(&mut self) -> CheckResult {
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

    /// The peer id that a machine has now.
    pub(super) fn peer_id(&self, machine: usize) -> PeerId {
        self.federation.peer_id(self.nodes[machine].key)
    }

    pub(super) fn meet(&mut self, node: usize, machine: usize) -> CheckResult {
        let peer = self.peer_id(machine);
        let Some(running) = &mut self.nodes[node].running else { return Ok(()) };
        running.peers.insert(machine, peer);
        let pending = running.shared.store.pending().map(|pending| &**pending);
        let operator = operators(&running.shared.manifest, pending).remove(&peer);
        self.give(node, InboxInput::PeerUp { peer, operator })
    }

    pub(super) fn lose_peer(&mut self, node: usize, machine: usize) -> CheckResult {
        if self.link(node, machine).is_some() {
            return Ok(()); // Under its new key it is back already.
        }
        let Some(running) = &mut self.nodes[node].running else { return Ok(()) };
        let Some(peer) = running.peers.remove(&machine) else { return Ok(()) };
        let asks: Vec<u64> = running.asks.iter().filter(|(_, (to, _))| *to == peer).map(|(ask, _)| *ask).collect();
        self.give(node, InboxInput::PeerDown { peer })?;
        asks.into_iter().try_for_each(|ask| self.close_ask(node, ask, None))
    }

    pub(super) fn delay(&mut self, from: usize) -> u64 {
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

    pub(super) fn send(&mut self, from: usize, to: usize, message: InFlight) {
        let Some(link) = self.link(from, to) else { return };
        let lost = self.calm.is_none() && self.network.below(1_000) < self.plan.loss;
        if self.is_cut(from, to) || lost {
            return;
        }
        let delay = self.delay(from);
        if let InFlight::Gossip(gossip) = &message
            && self.calm.is_none()
            && self.network.percent(self.plan.doubled)
        {
            let again = self.network.below(30_000);
            let message = Box::new(InFlight::Gossip(gossip.clone()));
            self.after(again, Happening::Arrive { from, to, link, message });
        }
        self.after(delay, Happening::Arrive { from, to, link, message: Box::new(message) });
    }

    pub(super) fn arrive(&mut self, from: usize, to: usize, link: u64, message: InFlight) -> CheckResult {
        if self.link(from, to) != Some(link) || self.is_cut(from, to) || !self.is_there(to) {
            return Ok(());
        }
        match message {
            InFlight::Request(ask, request) => self.asked(from, to, ask, &request),
            InFlight::Answer(ask, answer) => self.close_ask(to, ask, Some(answer)),
            InFlight::Gossip(gossip) => {
                let (clock, peer) = (self.clock(), self.peer_id(from));
                let Some(running) = self.nodes[to].at(clock) else { return Ok(()) };
                let heard = running.heard(peer, gossip);
                let Some(input) = heard else { return Ok(()) };
                self.say(&format!("n{to} hears {} from n{from}", name(&input)));
                self.planted_at_head(to, &input)?;
                self.give_entries(to, input)
            }
        }
    }

    /// Planted faults: the node cosigns a head that it only heard of, or a smaller one than before.
    pub(super) fn planted_at_head(&mut self, node: usize, input: &InboxInput) -> CheckResult {
        let name = &self.federation.names[node];
        let Some(running) = self.nodes[node].running.as_ref().filter(|_| self.nodes[node].operates) else {
            return Ok(());
        };
        let InboxInput::Head { signed, .. } = input else { return Ok(()) };
        let log = fama_ledger::replica::log_of(signed);
        let mut head = signed.checkpoint().head;
        match self.planted {
            Some(Planted::CosignsBlindly)
                if running.boot.heard.len() + 1 >= SimulatedFederation::gate(&running.shared.manifest) => {}
            Some(Planted::CosignsStanding) if self.checker.stands(node, &log) => {}
            Some(Planted::CosignsSmaller) if head.size > 2 => {
                let Ok(root) = root_at(2, &running.shared.store.view().tiles(&log)) else { return Ok(()) };
                head = Head { size: 2, root };
            }
            _ => return Ok(()),
        }
        let checkpoint = Checkpoint { origin: self.federation.manifest.origin(&log), head };
        let (key, seconds) = (self.federation.key(self.nodes[node].key), (START.0 + self.clock()) / 1_000);
        let cosignature = Cosignature::sign(&checkpoint, name.clone(), key.ed25519().unwrap(), seconds);
        let signed = SignedHead { head, ..SignedHead::of(signed) };
        let cosigned = CosignedHead { signed, cosignature };
        self.command(node, InboxCommand::Publish(Gossip::Cosignature { log, cosigned }))
    }

    pub(super) fn asked(&mut self, from: usize, to: usize, ask: u64, request: &SyncRequest) -> CheckResult {
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
            let SimulatedMachine { running: Some(running), disk, .. } = &self.nodes[to] else { return Ok(()) };
            let (view, shared) = (running.shared.store.view(), &running.shared);
            let answer = said::answer(&view, &shared.manifest, running.session(), now, request);
            if let Ok(SyncResponse::Frontier(frontier)) = &answer {
                let watched = Watched { node: to, view: &view, disk, boot: &running.boot };
                let told = self.checker.told(&watched, frontier);
                self.judge(to, told)?;
            }
            answer.ok()
        };
        self.send(to, from, InFlight::Answer(ask, answer));
        Ok(())
    }

    /// A request is answered or not.
    pub(super) fn close_ask(&mut self, node: usize, ask: u64, answer: Option<Option<SyncResponse>>) -> CheckResult {
        let (clock, federation) = (self.clock(), self.federation);
        let Some(running) = self.nodes[node].at(clock) else { return Ok(()) };
        let Some((from, about)) = running.asks.remove(&ask) else { return Ok(()) };
        let peer = federation.peer(&from);
        let answer = answer.flatten();
        let told = match &answer {
            Some(SyncResponse::Frontier(frontier)) => own_heads(federation, node, frontier),
            _ => Vec::new(),
        };
        let (answered, blamed) = running.answered(from, about, answer);
        let Some(mut input) = answered else { return Ok(()) };
        if let InboxInput::Frontier { ahead, said, .. } = &mut input {
            if self.planted == Some(Planted::DropsRenewals) {
                said.logs.iter_mut().for_each(|log| log.renewed.clear());
            }
            if self.planted == Some(Planted::BelievesAnyClock) {
                *ahead = 0;
            }
            if running.shared.manifest.operator(&federation.names[peer]).is_some() {
                running.boot.heard.insert(peer);
                running.boot.clocks.insert(peer, clock);
            }
            for (log, size) in told {
                let known = running.boot.told.entry(log).or_default();
                *known = size.max(*known);
            }
        }
        if let Some(code) = blamed {
            self.command(node, InboxCommand::Penalize { peer: from, code })?;
        }
        if self.planted == Some(Planted::DropsRevocations) && Planted::is_dropped(&input) {
            return Ok(());
        }
        self.say(&format!("n{node} gets {} from n{peer}", name(&input)));
        self.give_entries(node, input)
    }

    /// Gives a node what a peer sent. Planted fault: its clock is days ahead while it looks at entries.
    fn give_entries(&mut self, node: usize, input: InboxInput) -> CheckResult {
        let entries = matches!(input, InboxInput::Range { .. } | InboxInput::Head { range: Some(_), .. });
        if entries && self.planted == Some(Planted::StoresAhead) {
            self.nodes[node].ahead = 10 * DAY;
        }
        let given = self.give(node, input);
        self.nodes[node].ahead = 0;
        given
    }

    pub(super) fn command(&mut self, node: usize, command: InboxCommand) -> CheckResult {
        let federation = self.federation;
        match command {
            InboxCommand::AskFrontier { peer, ours } => {
                self.ask(node, peer, PendingRequest::Frontier, SyncRequest::Frontier(ours))
            }
            InboxCommand::Fetch { peer, log, from, head } => {
                self.say(&format!("n{node} asks n{} for {log} from {from} to {}", federation.peer(&peer), head.size));
                let request = SyncRequest::Entries { log: log.clone(), from, head };
                self.ask(node, peer, PendingRequest::Entries { log, head }, request)
            }
            InboxCommand::FetchNotes { peer, hashes } => {
                let Some(peer) = peer.or_else(|| self.somebody(node)) else { return Ok(()) };
                self.ask(node, peer, PendingRequest::Notes(hashes.clone()), SyncRequest::Notes(hashes))
            }
            InboxCommand::FetchManifests { peer, from } => {
                self.say(&format!("n{node} asks n{} for manifests from {from}", federation.peer(&peer)));
                self.ask(node, peer, PendingRequest::Manifests, SyncRequest::Manifests { from })
            }
            InboxCommand::Resubmit(_) if self.planted == Some(Planted::DropsForGood) => Ok(()),
            InboxCommand::Resubmit(submissions) => {
                submissions.into_iter().try_for_each(|submission| self.resubmit(node, submission))
            }
            InboxCommand::Publish(gossip) => self.publish(node, &gossip),
            InboxCommand::Penalize { peer, code } => {
                let peer = federation.peer(&peer);
                self.say(&format!("n{node} blames n{peer}: {code}"));
                if self.is_honest(peer) && self.liars.is_empty() && self.checker.forgetful.is_empty() {
                    return broken("nobody honest is blamed", format!("n{node} blames n{peer}: {code}"));
                }
                Ok(())
            }
        }
    }

    pub(super) fn somebody(&mut self, node: usize) -> Option<PeerId> {
        let running = self.nodes[node].running.as_ref()?;
        let operates = |machine: &usize| running.shared.manifest.operator(&self.federation.names[*machine]).is_some();
        let operators = running.peers.iter().filter(|(machine, _)| operates(machine));
        let operators: Vec<PeerId> = operators.map(|(_, peer)| *peer).collect();
        (!operators.is_empty()).then(|| *self.network.pick(&operators))
    }

    pub(super) fn ask(
        &mut self,
        node: usize,
        peer: PeerId,
        about: PendingRequest,
        request: SyncRequest,
    ) -> CheckResult {
        self.numbered += 1;
        let (ask, boot) = (self.numbered, self.nodes[node].boots);
        let logs = self.federation.logs.iter().filter(|log| self.governance.manifest.log(log).is_some()).count();
        let (most, machine) = (2 * (self.nodes.len() + logs) + 8, self.federation.peer(&peer));
        let Some(running) = &mut self.nodes[node].running else { return Ok(()) };
        let connected = running.peers.get(&machine) == Some(&peer);
        running.asks.insert(ask, (peer, about));
        if running.asks.len() > most {
            return broken("queues stay within their bounds", format!("n{node}: {} requests", running.asks.len()));
        }
        let patience = if connected { REQUEST_MILLIS } else { 1 };
        self.after(patience, Happening::GiveUp { node, boot, ask });
        if connected {
            self.send(node, machine, InFlight::Request(ask, request));
        }
        Ok(())
    }

    pub(super) fn publish(&mut self, node: usize, gossip: &Gossip) -> CheckResult {
        if let SimulatedMachine { running: Some(running), disk, .. } = &self.nodes[node] {
            let view = running.shared.store.view();
            let watched = Watched { node, view: &view, disk, boot: &running.boot };
            let told = self.checker.gossiped(&watched, gossip);
            self.judge(node, told)?;
        }
        for peer in 0..self.nodes.len() {
            if peer != node {
                self.send(node, peer, InFlight::Gossip(gossip.clone()));
            }
        }
        Ok(())
    }

    pub(super) fn turn(&mut self, number: usize) -> CheckResult {
        self.after(LIAR_MILLIS, Happening::Turn { liar: number });
        let now = Millis(START.0 + self.clock());
        let (mut said, mut claims) = (Vec::new(), Vec::new());
        let victim = self.load.registered();
        if let Some(liar) = self.liars.get_mut(&number) {
            liar.turn(now, victim);
            claims = liar.claims(now);
            let views = honest_views(&self.nodes);
            for to in (0..self.nodes.len()).filter(|to| *to != number) {
                said.extend(liar.gossip(to, &views, now).into_iter().map(|gossip| (to, gossip)));
            }
        }
        said.into_iter().for_each(|(to, gossip)| self.send(number, to, InFlight::Gossip(gossip)));
        self.hand_in(claims)
    }

    /// A liar submits claims to one and the same honest operator.
    fn hand_in(&mut self, claims: Vec<VerifiedEvent>) -> CheckResult {
        let takes = |node: &&SimulatedMachine| node.running.is_some() && node.operates;
        let Some(node) = self.nodes.iter().find(takes).filter(|_| !claims.is_empty()) else { return Ok(()) };
        let recovered = self.planted == Some(Planted::ClaimsUnseen);
        let events =
            claims.into_iter().map(|event| Submitted { event, note: None, recovered, forwarder: None }).collect();
        self.give(node.number, InboxInput::Submit { events, reply: oneshot::channel().0 })
    }
}

/// The sizes of a node's own logs, as its frontier gives them.
fn own_heads(federation: &SimulatedFederation, node: usize, frontier: &Frontier) -> Vec<(usize, u64)> {
    let logs = frontier.logs.iter().map(|log| (federation.log(&log.log), log.newest.as_ref()));
    let own = logs.filter(|(log, _)| federation.owner(*log) == node);
    own.map(|(log, newest)| (log, newest.map_or(0, |newest| newest.head.size))).collect()
}

const fn name(input: &InboxInput) -> &'static str {
    match input {
        InboxInput::PeerUp { .. } => "a peer",
        InboxInput::PeerDown { .. } => "the end of a peer",
        InboxInput::Frontier { .. } => "a frontier",
        InboxInput::Unanswered { .. } => "no frontier",
        InboxInput::Head { .. } => "a head",
        InboxInput::Cosigned(_) => "a cosignature",
        InboxInput::Range { .. } => "entries",
        InboxInput::RangeFailed { .. } => "no entries",
        InboxInput::Submit { .. } => "a submission",
        InboxInput::Stand { .. } => "a wish to stand",
        InboxInput::Agree { .. } => "a draft to agree to",
        InboxInput::Redact { .. } => "a note to drop",
        InboxInput::Manifest { .. } => "a manifest",
        InboxInput::Manifests { .. } => "manifests",
        InboxInput::Equivocation(_) => "a proof of two branches",
        InboxInput::AskAll => "a wish to ask",
        InboxInput::Notes(_) => "notes",
        InboxInput::Stop => "the end",
    }
}
