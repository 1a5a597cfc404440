//! People who agree on versions of the manifest while everything else goes on.
use super::*;

mod again;
mod members;

use again::Again;

/// How often they look, in milliseconds.
const GOVERN_MILLIS: u64 = 1_000;
/// How long after the last trouble they still wait for a proof that an operator lies, in milliseconds.
const PROOF_MILLIS_MAX: u64 = 20_000;

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
        self.give(node, InboxInput::Manifest { text, reply: None })
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

    /// What people wait for, and what nodes have of the log in question.
    pub(super) fn waits_for(&self, views: &[(usize, View<'_>)]) -> String {
        let (Change::EndDead { node } | Change::EndLiar { node } | Change::Leave { node } | Change::Renew { node }) =
            self.governance.changes[0].1
        else {
            return "a version is being prepared".into();
        };
        let operator = self.governance.manifest.operator(&self.federation.names[node]);
        let log = operator.map_or_else(|| self.federation.logs[node].clone(), Operator::log);
        let copies: Vec<String> = views.iter().map(|(node, view)| rest::held(*node, view, &log)).collect();
        format!("the end of {log} is being prepared: {}", copies.join("; "))
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
