//! People who agree on versions of the manifest while everything else continues.
use super::*;

mod members;
mod resubmission;

use resubmission::Resubmission;

/// How often people act, in milliseconds.
const GOVERN_MILLIS: u64 = 1_000;
/// How long after the last trouble people still wait for a proof that an operator lies, in milliseconds.
const PROOF_MILLIS_MAX: u64 = 20_000;
/// How long after the last trouble or version people wait for honest owners to adopt that version, in milliseconds: a
/// peer that failed is asked again after a minute.
const ADOPTION_MILLIS_MAX: u64 = 90_000;
/// How long after a version people wait for an operator that lies to adopt it, in milliseconds.
const LAG_MILLIS_MAX: u64 = 8_000;

/// What people know and plan.
pub(super) struct GovernanceState {
    /// The newest version that was published.
    pub(super) manifest: Arc<Manifest>,
    /// The changes still to come, each with its earliest time.
    changes: VecDeque<(u64, ManifestChange)>,
    /// Stands in the log that is to end, by node.
    stands: BTreeMap<usize, VerifiedStand>,
    asked: Vec<(usize, oneshot::Receiver<Result<String, Refusal>>)>,
    /// The next version with a cut that waits for another one: both logs lag behind, and end together.
    held: Option<Draft>,
    /// Operators that lie and whose logs people began to end because they lag behind.
    lagging: BTreeSet<usize>,
    /// Machines that are absent: gone for good, or not there yet.
    pub(super) dead: BTreeSet<usize>,
    /// Two texts of the newest version were published.
    pub(super) rival: bool,
    /// When the last version was published, or people began an unplanned one.
    pub(super) published: u64,
    /// Logs that are renewed because entries were lost with a disk.
    pub(super) mended: BTreeSet<usize>,
    /// Events submitted at homes that passed on, once everything is final.
    probes: Option<Vec<usize>>,
    /// Since when everything is final.
    quiet: Option<u64>,
    /// Dropped events that the simulation submitted again, and their state.
    again: BTreeMap<EventId, Resubmission>,
    /// How many logs nobody can ever cut.
    pub(super) split: u64,
}

impl GovernanceState {
    pub(super) fn new(federation: &SimulatedFederation, plan: &RunPlan) -> Self {
        Self {
            manifest: Arc::clone(&federation.manifest),
            changes: plan.changes.iter().copied().collect(),
            stands: BTreeMap::new(),
            asked: Vec::new(),
            held: None,
            lagging: BTreeSet::new(),
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
    /// The machine whose log takes the event now: that of its home, or of its operator.
    pub(super) fn carrier(&self, event: &VerifiedEvent) -> Option<usize> {
        let log = self.governance.manifest.log_for(&event.event().action)?;
        Some(self.federation.owner(self.federation.log(&log)))
    }

    pub(super) fn govern(&mut self) -> CheckResult {
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
            ManifestChange::Policy => {
                let mut draft = self.draft();
                draft.policy.daily_cap += 1;
                self.publish_version(&draft)
            }
            ManifestChange::Join => self.join(),
            ManifestChange::Leave { node } if self.may_leave(node) => self.end_log(node),
            ManifestChange::Renew { node } if self.may_renew(node) => self.renew(node),
            ManifestChange::Leave { .. } | ManifestChange::Renew { .. } => {
                self.governance.changes.pop_front();
                Ok(())
            }
            ManifestChange::EndLagging { node } => self.end_log(node),
            ManifestChange::Replay => self.replay(),
            ManifestChange::Rival => self.show_two(),
            ManifestChange::EndDead { node } => {
                self.kill(node);
                self.end_log(node)
            }
            ManifestChange::EndLiar { node } => {
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

    pub(super) fn kill(&mut self, node: usize) {
        if self.governance.dead.insert(node) {
            self.say(&format!("n{node} is gone for good"));
            self.crash(node, 0, ReplacementDisk::Same);
        }
    }

    /// Running nodes that are sure to keep what they are given.
    fn able(&self) -> Vec<usize> {
        let able = |node: &&SimulatedMachine| node.running.is_some() && !node.damaged;
        self.nodes.iter().filter(able).map(|node| node.number).collect()
    }

    fn held(&self, node: usize) -> u32 {
        let store = self.nodes[node].running.as_ref().map(|running| &running.shared.store);
        store.map_or(0, |store| store.pending().unwrap_or_else(|| store.manifest()).version())
    }

    /// Gives the newest version to a node if none has it; returns whether that was necessary.
    fn spread(&mut self) -> Result<bool, StopReason> {
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

    fn show(&mut self, node: usize, text: String) -> CheckResult {
        self.say(&format!("n{node} is shown a manifest"));
        self.give(node, InboxInput::Manifest { text, reply: None })
    }

    /// The note of a draft, signed by all honest operators, including those that left, because a log that lags behind
    /// is cut by the operators of its version.
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

    fn publish_version(&mut self, draft: &Draft) -> CheckResult {
        let note = self.signed(draft);
        let next = match self.governance.manifest.successor(&note) {
            Ok(next) => Arc::new(next),
            Err(error) => return broken("honest people can sign the next version", error.to_string()),
        };
        let behind = self.behind(&next);
        if !behind.is_empty() && self.planted != Some(Planted::LeavesBehind) {
            return self.wait_for(&behind, draft);
        }
        self.say(&format!("version {} is published", next.version()));
        self.checker.version(&next)?;
        self.checker.leaves_nothing_behind(&next, &honest_views(&self.nodes))?;
        self.governance.changes.pop_front();
        self.governance.stands.clear();
        self.governance.asked.clear();
        self.governance.held = None;
        self.governance.published = self.now;
        self.load.follow(&next);
        self.governance.manifest = next;
        self.spread().map(|_| ())
    }

    /// The logs that keep honest operators from approving the next version: too few of their nodes have a note that
    /// certifies the log's adoption of the newest one. Operators that lie approve everything.
    fn behind(&self, next: &Manifest) -> Vec<LogId> {
        let newest = &self.governance.manifest;
        let views = honest_views(&self.nodes);
        let approve = |log: &LogId| {
            let there = |view: &&View<'_>| is_certified_at(view, log, newest.version());
            views.iter().filter(there).count() >= (newest.quorum() - newest.faults()).min(views.len().max(1))
        };
        next.must_have_adopted().filter(|log| !approve(log)).cloned().collect()
    }

    /// The next version as far as it is prepared.
    fn draft(&self) -> Draft {
        self.governance.held.clone().unwrap_or_else(|| self.governance.manifest.draft())
    }

    /// People wait for a log that lags behind, and end it first, or in the same version, if they are about to anyway. In
    /// the end they give the change up.
    fn wait_for(&mut self, behind: &[LogId], draft: &Draft) -> CheckResult {
        let ends = |change: &ManifestChange| match change {
            ManifestChange::EndDead { node } | ManifestChange::Renew { node } => {
                behind.iter().any(|log| self.federation.names[*node] == log.operator)
            }
            _ => false,
        };
        let since = self.calm.map(|calm| calm.max(self.governance.published));
        let waits = since.is_none_or(|since| self.now < since + ADOPTION_MILLIS_MAX);
        let first = self.governance.changes.iter().position(|(_, change)| ends(change)).filter(|at| *at > 0);
        // The stands so far are in another log.
        match first {
            Some(at) if waits => {
                let ends_next = self.governance.changes.remove(at);
                if !draft.cuts.is_empty() {
                    self.governance.changes.pop_front();
                    self.governance.held = Some(draft.clone());
                }
                self.governance.changes.extend(ends_next);
                self.governance.changes.rotate_right(1);
                self.governance.stands.clear();
                self.governance.asked.clear();
            }
            None if self.end_lagging(behind, draft) || waits => {}
            // Nodes stand still in a log that cannot end, because one that lags behind cannot end either.
            _ if !draft.cuts.is_empty() => {
                self.tell_copies(behind);
                return Err(StopReason::Beyond("nodes stand in a log that cannot end, since another one lags behind"));
            }
            _ => {
                self.say(&format!("people give up a version: {behind:?} lag behind"));
                self.governance.changes.pop_front();
                self.governance.stands.clear();
                self.governance.held = None;
            }
        }
        Ok(())
    }

    /// What each node has of these logs.
    fn tell_copies(&mut self, logs: &[LogId]) {
        let mut copies = Vec::new();
        for (node, running) in self.nodes.iter().filter_map(|node| Some((node.number, node.running.as_ref()?))) {
            let view = running.shared.store.view();
            copies.extend(logs.iter().map(|log| format!("of {log}, {}", rest::held(node, &view, log))));
        }
        copies.iter().for_each(|copy| self.say(copy));
    }

    /// An operator that lies may never adopt a version, and nobody waits for it forever: its log ends, too.
    /// Returns whether people begin to end it.
    fn end_lagging(&mut self, behind: &[LogId], draft: &Draft) -> bool {
        let lies = |log: &LogId| Some(self.federation.machine(&log.operator)).filter(|node| !self.is_honest(*node));
        let patient = self.now < self.governance.published + LAG_MILLIS_MAX;
        let untried = |node: &usize| !self.governance.lagging.contains(node);
        let Some(node) = behind.iter().filter_map(lies).find(untried).filter(|_| !patient) else { return false };
        self.governance.lagging.insert(node);
        if !draft.cuts.is_empty() {
            self.governance.changes.pop_front();
            self.governance.held = Some(draft.clone());
        }
        self.say(&format!("people end the log of n{node}, which does not adopt the newest version"));
        self.governance.changes.push_front((self.now, ManifestChange::EndLagging { node }));
        self.governance.stands.clear();
        self.governance.asked.clear();
        true
    }

    /// Shows a node an old version again.
    fn replay(&mut self) -> CheckResult {
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

    /// Shows two nodes two different valid texts of the next version.
    fn show_two(&mut self) -> CheckResult {
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

    fn hear_stands(&mut self) -> CheckResult {
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
                // Signed by a key that the operator had before: the node lags behind.
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

    /// Whether homes that passed on accept events: submits one at each, once everything else is final.
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

    /// What people are waiting for, and what nodes have of the log in question.
    pub(super) fn waits_for(&self, views: &[(usize, View<'_>)]) -> String {
        let (ManifestChange::EndDead { node }
        | ManifestChange::EndLiar { node }
        | ManifestChange::EndLagging { node }
        | ManifestChange::Leave { node }
        | ManifestChange::Renew { node }) = self.governance.changes[0].1
        else {
            return "a version is being prepared".into();
        };
        let operator = self.governance.manifest.operator(&self.federation.names[node]);
        let log = operator.map_or_else(|| self.federation.logs[node].clone(), Operator::log);
        let copies: Vec<String> = views.iter().map(|(node, view)| rest::held(*node, view, &log)).collect();
        format!("the end of {log} is being prepared: {}", copies.join("; "))
    }

    /// Whether all honest operators' nodes have seen that two texts are valid.
    pub(super) fn all_halted(&self) -> bool {
        let halted = |node: &SimulatedMachine| {
            let running = node.running.as_ref();
            running.is_some_and(|running| running.shared.health.read().waiting == Some("manifests_conflict"))
        };
        let operates = |node: &usize| self.governance.manifest.operator(&self.federation.names[*node]).is_some();
        let there = |node: &usize| operates(node) && self.is_honest(*node) && !self.governance.dead.contains(node);
        (0..self.nodes.len()).filter(there).all(|node| halted(&self.nodes[node]))
    }
}
