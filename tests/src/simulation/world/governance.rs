//! People who agree on versions of the manifest while everything else goes on.
use super::*;

/// How often they look, in milliseconds.
const GOVERN_MILLIS: u64 = 1_000;
/// How long after the last trouble they still wait for a proof that an operator lies, in milliseconds.
const PROOF_MILLIS_MAX: u64 = 20_000;

/// Within that time nodes hand in once more what a cut dropped, in milliseconds.
const AGAIN_MILLIS: u64 = 25_000;

/// What became of an event that was handed in once more.
enum Again {
    Asked(oneshot::Receiver<Vec<Answer>>),
    /// Its home knows why it does not take it.
    Refused,
}

/// What people know and do.
pub(super) struct Governance {
    /// The newest version that was published.
    pub(super) manifest: Arc<Manifest>,
    /// When, and what is still to come.
    changes: VecDeque<(u64, Change)>,
    /// Stands in the log that is to end, by node.
    stands: BTreeMap<usize, VerifiedStand>,
    asked: Vec<(usize, oneshot::Receiver<Result<String, Refusal>>)>,
    /// Machines that are not there: gone for good, or not yet.
    pub(super) dead: BTreeSet<usize>,
    /// Two texts of the newest version were shown.
    pub(super) rival: bool,
    /// When the last version was published, or people began with one that was not planned.
    pub(super) published: u64,
    /// Logs that are renewed as what was on a lost disk is lost.
    pub(super) mended: BTreeSet<usize>,
    /// Wishes at homes that passed on, once all are final.
    probes: Option<Vec<usize>>,
    /// Since when all is final.
    quiet: Option<u64>,
    /// Dropped events that were handed in once more, and what became of that.
    again: BTreeMap<EventId, Again>,
    /// Logs that nobody may ever cut.
    pub(super) split: u64,
}

impl Governance {
    pub(super) fn new(federation: &Federation, plan: &Plan) -> Self {
        Self {
            manifest: Arc::clone(&federation.manifest),
            changes: plan.changes.iter().copied().collect(),
            stands: BTreeMap::new(),
            asked: Vec::new(),
            dead: BTreeSet::from_iter((!plan.mirror).then_some(federation.len())),
            rival: false,
            published: 0,
            mended: BTreeSet::new(),
            probes: None,
            quiet: None,
            again: BTreeMap::new(),
            split: 0,
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.changes.is_empty()
    }
}

impl World {
    /// The node that carries a home now, or the log of an operator.
    pub(super) fn carrier(&self, event: &VerifiedEvent) -> Option<usize> {
        let log = self.governance.manifest.log_for(&event.event().action)?;
        Some(self.federation.owner(self.federation.log(&log)))
    }

    pub(super) fn govern(&mut self) -> Kept {
        self.after(GOVERN_MILLIS, Happening::Govern);
        self.hear_stands()?;
        if self.governance.rival || self.spread()? {
            return Ok(());
        }
        let Some((at, change)) = self.governance.changes.front().copied() else { return Ok(()) };
        if at > self.now {
            return Ok(());
        }
        match change {
            Change::Policy => {
                let mut draft = self.governance.manifest.draft();
                draft.policy.daily_cap += 1;
                self.publish_version(&draft)
            }
            Change::Join => self.join(),
            Change::Leave { node } if self.may_leave(node) => self.end_log(node),
            Change::Renew { node } if self.may_renew(node) => self.renew(node),
            Change::Leave { .. } | Change::Renew { .. } => {
                self.governance.changes.pop_front();
                Ok(())
            }
            Change::Replay => self.replay(),
            Change::Rival => self.show_two(),
            Change::EndDead { node } => {
                self.kill(node);
                self.end_log(node)
            }
            Change::EndLiar { node } => {
                let proven = honest_views(&self.nodes)
                    .iter()
                    .any(|view| view.equivocation(&self.federation.logs[node]).is_ok_and(|proof| proof.is_some()));
                let waits = self.calm.is_none_or(|calm| self.now < calm + PROOF_MILLIS_MAX);
                match proven {
                    true => self.end_log(node),
                    false if waits => Ok(()),
                    false => {
                        self.governance.changes.pop_front();
                        Ok(())
                    }
                }
            }
        }
    }

    fn kill(&mut self, node: usize) {
        if self.governance.dead.insert(node) {
            self.say(&format!("n{node} is gone for good"));
            self.crash(node, 0, Disk::Same);
        }
    }

    /// Nodes that run and can be trusted to hold what they were given.
    fn able(&self) -> Vec<usize> {
        let able = |node: &&Node| node.running.is_some() && !node.damaged;
        self.nodes.iter().filter(able).map(|node| node.number).collect()
    }

    fn held(&self, node: usize) -> u32 {
        let store = self.nodes[node].running.as_ref().map(|running| &running.shared.store);
        store.map_or(0, |store| store.pending().unwrap_or_else(|| store.manifest()).version())
    }

    /// Hands the newest version to somebody, if nobody has it; whether it had to.
    fn spread(&mut self) -> Result<bool, Stop> {
        let (able, manifest) = (self.able(), Arc::clone(&self.governance.manifest));
        if able.iter().any(|node| self.held(*node) >= manifest.version()) {
            return Ok(false);
        }
        if !able.is_empty() {
            let node = *self.fate.pick(&able);
            if let Some(next) = manifest.at(self.held(node) + 1) {
                self.show(node, next.note().to_string())?;
            }
        }
        Ok(true)
    }

    fn show(&mut self, node: usize, text: String) -> Kept {
        self.say(&format!("n{node} is shown a manifest"));
        self.give(node, Input::Manifest { text, reply: None })
    }

    /// The note of a draft, signed by those who are honest: also by who left, as a log that is behind is cut by
    /// the operators of its version.
    fn signed(&self, draft: &Draft) -> String {
        let text = draft.text().unwrap();
        let newest = &self.governance.manifest;
        let versions = (1..=newest.version()).filter_map(|version| newest.at(version));
        let names = versions.flat_map(|version| version.operators().iter().map(|operator| &operator.name));
        let numbers: BTreeSet<usize> = names.map(|name| self.federation.machine(name)).collect();
        let signs = |node: &usize| self.is_honest(*node) && !self.governance.dead.contains(node);
        let signers = numbers.into_iter().filter(signs);
        let line = |node: usize| {
            sign(&text, self.federation.names[node].as_str(), governance_key(node as u8).ed25519().unwrap())
        };
        SignedNote { signatures: signers.map(line).collect(), text: text.clone() }.to_string()
    }

    fn publish_version(&mut self, draft: &Draft) -> Kept {
        let note = self.signed(draft);
        let next = match self.governance.manifest.successor(&note) {
            Ok(next) => Arc::new(next),
            Err(error) => return broken("honest people can sign the next version", error.to_string()),
        };
        self.say(&format!("version {} is published", next.version()));
        self.checker.version(&next)?;
        self.governance.changes.pop_front();
        self.governance.stands.clear();
        self.governance.asked.clear();
        self.governance.published = self.now;
        self.load.follow(&next);
        self.governance.manifest = next;
        self.spread().map(|_| ())
    }

    /// An old version is shown again.
    fn replay(&mut self) -> Kept {
        self.governance.changes.pop_front();
        let able = self.able();
        if able.is_empty() {
            return Ok(());
        }
        let version = 1 + self.fate.below(u64::from(self.governance.manifest.version())) as u32;
        let text = self.governance.manifest.at(version).map(|old| old.note().to_string());
        let node = *self.fate.pick(&able);
        self.show(node, text.unwrap_or_default())
    }

    /// Two valid texts of the next version, to two nodes.
    fn show_two(&mut self) -> Kept {
        let version = self.governance.manifest.version();
        let uses = |node: &usize| {
            let store = self.nodes[*node].running.as_ref().map(|running| &running.shared.store);
            store.is_some_and(|store| store.pending().is_none() && store.manifest().version() == version)
        };
        let ready: Vec<usize> = self.able().into_iter().filter(uses).collect();
        let [one, other, ..] = ready[..] else { return Ok(()) };
        let mut draft = self.governance.manifest.draft();
        for (node, cap) in [(one, 1), (other, 2)] {
            draft.policy.daily_cap += cap;
            self.show(node, self.signed(&draft))?;
        }
        self.governance.changes.clear();
        self.governance.published = self.now;
        self.governance.rival = true;
        Ok(())
    }

    /// A new operator comes, with a home of its own.
    fn join(&mut self) -> Kept {
        let newcomer = self.federation.len();
        let operator = Federation::operator(newcomer);
        let mut draft = self.governance.manifest.draft();
        draft.homes.insert(operator.name.clone(), operator.log());
        draft.operators.push(operator);
        self.publish_version(&draft)?;
        if self.governance.dead.remove(&newcomer) {
            self.after(0, Happening::Start { node: newcomer });
        }
        Ok(())
    }

    /// Whether an operator is one still, and those without it withstand as many liars as the first ones did.
    fn may_leave(&self, node: usize) -> bool {
        let manifest = &self.governance.manifest;
        let (first, left) = (self.federation.manifest.faults(), faults(manifest.operators().len() - 1));
        !self.governance.dead.contains(&node)
            && manifest.operator(&self.federation.names[node]).is_some()
            && left >= first
    }

    fn may_renew(&self, node: usize) -> bool {
        let operator = self.governance.manifest.operator(&self.federation.names[node]);
        !self.governance.dead.contains(&node) && operator.is_some_and(|operator| operator.generation == 1)
    }

    /// What was on a lost disk only is lost: its log goes on in a new generation. Whether people can do that.
    pub(super) fn mend(&mut self, log: usize) -> bool {
        let node = self.federation.owner(log);
        let may = self.governance.manifest.operators().len() >= 4 && self.may_renew(node);
        if !may || !self.governance.mended.insert(log) {
            return false;
        }
        self.say(&format!("people renew the log of n{node}"));
        self.governance.published = self.now;
        self.governance.changes.push_back((self.now, Change::Renew { node }));
        if self.plan.changes.is_empty() {
            self.after(0, Happening::Govern);
        }
        true
    }

    /// Ends an operator's log; another one's carries its homes on.
    fn end_log(&mut self, node: usize) -> Kept {
        let Some(operator) = self.governance.manifest.operator(&self.federation.names[node]) else {
            self.governance.changes.pop_front();
            return Ok(());
        };
        let (log, Some(heir)) = (operator.log(), self.heir(node)) else { return Ok(()) };
        let Some(cut) = self.cut_log(&log, &heir)? else { return Ok(()) };
        let mut draft = self.governance.manifest.draft();
        draft.operators.retain(|operator| operator.name != log.operator);
        draft.policy.min_sponsors = draft.policy.min_sponsors.min(draft.operators.len() as u32);
        self.publish_cut(draft, cut)
    }

    /// Another operator that is honest and there.
    fn heir(&self, node: usize) -> Option<LogId> {
        let goes_on = |operator: &&Operator| {
            let other = self.federation.machine(&operator.name);
            other != node && self.is_honest(other) && !self.governance.dead.contains(&other)
        };
        self.governance.manifest.operators().iter().find(goes_on).map(Operator::log)
    }

    /// Ends an operator's log; its next generation, under its next key, carries its homes on.
    fn renew(&mut self, node: usize) -> Kept {
        let [first, second] = self.federation.logs_of(node);
        let (log, successor) = (self.federation.logs[first].clone(), self.federation.logs[second].clone());
        let Some(cut) = self.cut_log(&log, &successor)? else { return Ok(()) };
        let mut draft = self.governance.manifest.draft();
        for operator in draft.operators.iter_mut().filter(|operator| operator.name == log.operator) {
            operator.generation = 2;
            operator.node_key = self.federation.key(second).ed25519().unwrap().verifying_key();
        }
        self.publish_cut(draft, cut)
    }

    fn publish_cut(&mut self, mut draft: Draft, cut: Cut) -> Kept {
        let carriers = draft.homes.values_mut().filter(|carrier| **carrier == cut.log);
        carriers.for_each(|carrier| *carrier = cut.successor.clone());
        draft.cuts.push(cut);
        self.publish_version(&draft)
    }

    /// Collects stands; where the log ends, as soon as enough may sign it.
    fn cut_log(&mut self, log: &LogId, successor: &LogId) -> Result<Option<Cut>, Stop> {
        for stander in self.able() {
            // Also who left: a log that is behind is cut by the operators of its version.
            let counts = self.governance.manifest.generations(&self.federation.names[stander]).next().is_some();
            if counts && !self.governance.stands.contains_key(&stander) {
                let (reply, stand) = oneshot::channel();
                self.give(stander, Input::Stand { log: log.clone(), reply })?;
                self.governance.asked.push((stander, stand));
            }
        }
        self.hear_stands()?;
        let manifest = Arc::clone(&self.governance.manifest);
        if self.governance.stands.len() < Federation::gate(&manifest) {
            return Ok(None);
        }
        let Some((cut, signers)) = self.cut_of(log, successor) else { return Ok(None) };
        self.say(&format!("{} of {signers} may sign a cut of {log} at {}", manifest.quorum(), cut.head.size));
        if signers < manifest.quorum() && self.planted != Some(Planted::CutsBlindly) {
            self.give_up(&cut, signers);
            return Ok(None);
        }
        Ok(Some(cut))
    }

    /// From seven operators on, an owner that splits the honest evenly cannot be cut, for ever: people give up
    /// once all of them have said what they cosigned and too few stand on any branch.
    fn give_up(&mut self, cut: &Cut, standing: usize) {
        let manifest = &self.governance.manifest;
        let speaks = |node: &usize| self.is_honest(*node) && !self.governance.dead.contains(node);
        let operators = manifest.operators().iter().map(|operator| &operator.name);
        let numbers = operators.map(|name| self.federation.names.iter().position(|known| known == name).unwrap());
        let all_said = numbers.filter(speaks).all(|node| self.governance.stands.contains_key(&node));
        let too_few = |version: u32| {
            let Some(version) = manifest.at(version).filter(|version| version.operators().len() >= 7) else {
                return false;
            };
            let outside = usize::from(version.operator(&cut.log.operator).is_none());
            standing < version.operators().len() - version.quorum() + version.faults() + outside
        };
        if all_said && (too_few(cut.adopted) || too_few(cut.adopted.saturating_sub(1))) {
            self.say(&format!("nobody may ever cut {}", cut.log));
            self.governance.stands.clear();
            self.governance.changes.pop_front();
            self.governance.split += 1;
        }
    }

    fn hear_stands(&mut self) -> Kept {
        let next = self.governance.manifest.version() + 1;
        for (node, mut reply) in std::mem::take(&mut self.governance.asked) {
            let note = match reply.try_recv() {
                Ok(Ok(note)) => note,
                Ok(Err(refusal)) => {
                    self.say(&format!("n{node} does not stand: {}", refusal.code));
                    continue;
                }
                Err(_) => continue,
            };
            let manifest = &self.governance.manifest;
            let mut former = (1..manifest.version()).filter_map(|version| manifest.at(version));
            let stand = match VerifiedStand::read(&note, manifest) {
                Ok(stand) => stand,
                // By the key that an operator had before: it is behind.
                Err(_) if former.any(|old| VerifiedStand::read(&note, old).is_ok()) => continue,
                Err(error) => return broken("an honest stand holds", format!("n{node}: {error}")),
            };
            let said = stand.stand();
            if said.version == next {
                let text = format!("n{node} stands in {} at {}", said.log, said.head.size);
                self.checker.stood(node, said);
                self.governance.stands.insert(node, stand);
                self.say(&text);
            }
        }
        Ok(())
    }

    /// Where the log ends by what was shown, and how many of the honest may sign it.
    fn cut_of(&self, log: &LogId, successor: &LogId) -> Option<(Cut, usize)> {
        let manifest = &self.governance.manifest;
        let stands: Vec<VerifiedStand> = self.governance.stands.values().cloned().collect();
        let views = honest_views(&self.nodes);
        let ending = Ending { previous: manifest, log, successor, stands: &stands, views: &views };
        if self.planted == Some(Planted::CutsBlindly) {
            return ending.smallest().map(|cut| (cut, 0));
        }
        ending.choose().map(|(cut, signers)| (cut, signers.len()))
    }

    /// Homes that passed on take events in: asked for once, when all else is final.
    pub(super) fn probe(&mut self) -> bool {
        if self.governance.probes.is_none() {
            let now = Millis(START.0 + self.clock());
            let ended: BTreeSet<usize> = self.checker.ended().map(|(log, _)| self.federation.owner(log)).collect();
            let mut probes = Vec::new();
            for home in ended {
                self.deeds.push(self.load.register_at(home, now));
                probes.push(self.deeds.len() - 1);
                self.after(0, Happening::Submit(self.deeds.len() - 1));
            }
            self.governance.probes = Some(probes);
        }
        let probes = self.governance.probes.iter().flatten();
        probes.into_iter().all(|probe| self.checker.is_acknowledged(&self.deeds[*probe].event.id()))
    }

    /// Whether what cuts dropped is in a log again, or does not fit any more: nodes hand it in by themselves.
    pub(super) fn dropped_are_back(&mut self) -> Result<bool, Stop> {
        let Some(node) = self.able().first().copied() else { return Ok(false) };
        let Some(running) = &self.nodes[node].running else { return Ok(false) };
        let open = self.checker.not_back(&running.shared.store.view(), &self.governance.dead)?;
        if self.now < *self.governance.quiet.get_or_insert(self.now) + AGAIN_MILLIS && !open.is_empty() {
            return Ok(false);
        }
        let mut over = true;
        for event in open {
            over &= match self.governance.again.remove(&event) {
                Some(Again::Refused) => self.refused(event),
                Some(Again::Asked(mut reply)) => match reply.try_recv().ok().and_then(|mut answers| answers.pop()) {
                    Some(Answer::Taken { known: false, .. }) => {
                        return broken("what a cut drops is handed in again", event.to_string()).map(|()| false);
                    }
                    Some(Answer::Refused(refusal)) if refusal.code != "not_ready" => self.refused(event),
                    Some(Answer::Unsponsored) => self.refused(event),
                    _ => self.hand_in_again(event)?,
                },
                None => self.hand_in_again(event)?,
            };
        }
        Ok(over)
    }

    fn refused(&mut self, event: EventId) -> bool {
        self.governance.again.insert(event, Again::Refused);
        true
    }

    fn hand_in_again(&mut self, event: EventId) -> Result<bool, Stop> {
        let deed = self.deeds.iter().find(|deed| deed.event.id() == event).unwrap();
        let (submitted, Some(home)) = (deed.submitted(), self.carrier(&deed.event)) else { return Ok(true) };
        let (reply, answer) = oneshot::channel();
        self.say(&format!("n{home} is handed {event} once more"));
        self.governance.again.insert(event, Again::Asked(answer));
        self.give(home, Input::Submit { events: vec![Submitted { recovered: true, ..submitted }], reply })?;
        Ok(false)
    }

    /// Whether all who run saw that two texts are valid.
    pub(super) fn all_halted(&self) -> bool {
        let halted = |node: &Node| {
            let running = node.running.as_ref();
            running.is_some_and(|running| running.shared.health.read().waiting == Some("manifests_conflict"))
        };
        let operates = |node: &usize| self.governance.manifest.operator(&self.federation.names[*node]).is_some();
        let there = |node: &usize| operates(node) && self.is_honest(*node) && !self.governance.dead.contains(node);
        (0..self.nodes.len()).filter(there).all(|node| halted(&self.nodes[node]))
    }
}
