//! Operators join, leave and change their keys; logs end and continue elsewhere.
use super::*;

impl World {
    /// A new operator joins, with a home of its own.
    pub(super) fn join(&mut self) -> CheckResult {
        let newcomer = self.federation.len();
        let operator = SimulatedFederation::operator(newcomer);
        let mut draft = self.draft();
        draft.homes.insert(operator.name.clone(), operator.log());
        draft.operators.push(operator);
        let before = self.governance.manifest.version();
        self.publish_version(&draft)?;
        if self.governance.manifest.version() == before {
            return Ok(());
        }
        if self.governance.dead.remove(&newcomer) {
            self.after(0, Happening::Start { node: newcomer });
        }
        Ok(())
    }

    /// Whether an operator is still one, and the federation without it withstands as many liars as at first.
    pub(super) fn may_leave(&self, node: usize) -> bool {
        let manifest = &self.governance.manifest;
        let (first, left) = (self.federation.manifest.faults(), faults(manifest.operators().len() - 1));
        !self.governance.dead.contains(&node)
            && manifest.operator(&self.federation.names[node]).is_some()
            && left >= first
    }

    pub(super) fn may_renew(&self, node: usize) -> bool {
        let operator = self.governance.manifest.operator(&self.federation.names[node]);
        !self.governance.dead.contains(&node) && operator.is_some_and(|operator| operator.generation == 1)
    }

    /// What was only on a lost disk is gone, so the log continues in a new generation. Returns whether people can
    /// arrange that.
    pub(in crate::simulation::world) fn mend(&mut self, log: usize) -> bool {
        let node = self.federation.owner(log);
        let may = self.governance.manifest.operators().len() >= 4 && self.may_renew(node);
        if !may || !self.governance.mended.insert(log) {
            return false;
        }
        self.say(&format!("people renew the log of n{node}"));
        self.governance.published = self.now;
        self.governance.changes.push_back((self.now, ManifestChange::Renew { node }));
        if self.plan.changes.is_empty() {
            self.after(0, Happening::Govern);
        }
        true
    }

    /// Ends an operator's log; another operator's log carries on its homes.
    pub(super) fn end_log(&mut self, node: usize) -> CheckResult {
        let Some(operator) = self.governance.manifest.operator(&self.federation.names[node]) else {
            self.governance.changes.pop_front();
            return Ok(());
        };
        let (log, Some(heir)) = (operator.log(), self.heir(node)) else { return Ok(()) };
        let Some(cut) = self.cut_log(&log, &heir)? else { return Ok(()) };
        let mut draft = self.draft();
        draft.operators.retain(|operator| operator.name != log.operator);
        draft.policy.min_sponsors = draft.policy.min_sponsors.min(draft.operators.len() as u32);
        self.publish_cut(draft, cut)
    }

    /// Another operator's log, whose operator is honest and not gone.
    fn heir(&self, node: usize) -> Option<LogId> {
        let draft = self.draft();
        let continues = |operator: &&Operator| {
            let other = self.federation.machine(&operator.name);
            other != node && self.is_honest(other) && !self.governance.dead.contains(&other)
        };
        draft.operators.iter().find(continues).map(Operator::log)
    }

    /// Ends an operator's log; its next generation, under its next key, carries on its homes.
    pub(super) fn renew(&mut self, node: usize) -> CheckResult {
        let [first, second] = self.federation.logs_of(node);
        let (log, successor) = (self.federation.logs[first].clone(), self.federation.logs[second].clone());
        let Some(cut) = self.cut_log(&log, &successor)? else { return Ok(()) };
        let mut draft = self.draft();
        for operator in draft.operators.iter_mut().filter(|operator| operator.name == log.operator) {
            operator.generation = 2;
            operator.node_key = self.federation.key(second).ed25519().unwrap().verifying_key();
        }
        self.publish_cut(draft, cut)
    }

    fn publish_cut(&mut self, mut draft: Draft, cut: Cut) -> CheckResult {
        let carriers = draft.homes.values_mut().filter(|carrier| **carrier == cut.log);
        carriers.for_each(|carrier| *carrier = cut.successor.clone());
        // The log that was to take over what another one leaves may end in the same version.
        let heirs = draft.cuts.iter_mut().filter(|earlier| earlier.successor == cut.log);
        heirs.for_each(|earlier| earlier.successor = cut.successor.clone());
        draft.cuts.push(cut);
        self.publish_version(&draft)
    }

    /// Collects stands and returns the cut as soon as enough operators may sign it.
    fn cut_log(&mut self, log: &LogId, successor: &LogId) -> Result<Option<Cut>, StopReason> {
        for stander in self.able() {
            // Operators that left count too: a log that lags behind is cut by the operators of its version.
            let counts = self.governance.manifest.generations(&self.federation.names[stander]).next().is_some();
            let owner = self.federation.machine(&log.operator) == stander;
            // Not every person is available at once.
            let away = self.fate.percent(30) || owner && self.planted == Some(Planted::DropsForGood);
            if counts && !away && !self.governance.stands.contains_key(&stander) {
                let (reply, stand) = oneshot::channel();
                self.give(stander, InboxInput::Stand { log: log.clone(), reply })?;
                self.governance.asked.push((stander, stand));
            }
        }
        self.hear_stands()?;
        let manifest = Arc::clone(&self.governance.manifest);
        if self.governance.stands.len() < SimulatedFederation::gate(&manifest) {
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

    /// From seven operators on, an owner that splits the honest evenly can never be cut: people give up once every
    /// honest operator has stated what it cosigned and, wherever the log ends, too few may sign.
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
            self.say(&format!("nobody can ever cut {}", cut.log));
            self.governance.stands.clear();
            self.governance.changes.pop_front();
            self.governance.split += 1;
        }
    }

    /// Where the log ends according to the stands, and how many honest operators may sign that.
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
}
