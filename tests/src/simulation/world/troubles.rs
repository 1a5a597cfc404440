//! What goes wrong, and how it ends.
use super::*;

impl World {
    pub(super) fn trouble(&mut self, trouble: Trouble) -> CheckResult {
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
            Trouble::Leap { minutes } => self.leapt += minutes * 60_000,
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

    pub(super) fn cut(&mut self, side: u64, millis: u64, silent: bool) {
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
    pub(super) fn calm(&mut self) -> CheckResult {
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

    /// With fewer than three clocks, only a person can decide that a node's own clock, which jumped, is right.
    pub(super) fn waits_for_a_person(&self, node: usize) -> bool {
        let Some(running) = &self.nodes[node].running else { return false };
        self.governance.manifest.operators().len() < 3 && running.shared.health.read().waiting == Some("clock_jumped")
    }

    /// Entries with a time in the future, made by a clock ahead, have to be waited for: moves all clocks forward in
    /// one leap.
    pub(super) fn leap(&mut self) {
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

    /// Whether everything honest is final; then checks what must hold at the end.
    pub(super) fn look(&mut self) -> Result<bool, StopReason> {
        self.leap();
        for node in 0..self.nodes.len() {
            if self.waits_for_a_person(node) {
                self.crash(node, 500, ReplacementDisk::Same);
            }
        }
        let calm = self.calm.unwrap_or_default();
        if self.governance.rival && self.all_halted() {
            return Ok(true);
        }
        let there = |node: &usize| self.is_honest(*node) && !self.governance.dead.contains(node);
        let honest: BTreeSet<usize> = (0..self.nodes.len()).filter(there).collect();
        let begun = calm.max(self.governance.published);
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
            _ if self.governance.is_busy() => Some(self.waits_for(&views)),
            _ if self.governance.rival => Some("not all know that two texts are valid".to_owned()),
            true => self.checker.missing(&views),
            false => Some("a node is down".to_owned()),
        };
        match missing {
            None => {
                let stores: Vec<&Store> = stores.iter().map(|(_, store)| *store).collect();
                self.checker.end(&views, &stores)?;
                honest.iter().try_for_each(|node| self.scores_hold(*node))?;
                drop(views);
                let probed = self.probe() && self.dropped_are_back()?;
                if !probed && self.now > begun + CALM_MILLIS_MAX {
                    return broken("a home that passed on accepts events", "").map(|()| false);
                }
                Ok(probed)
            }
            Some(missing) if self.now > begun + CALM_MILLIS_MAX => {
                let lost = self.checker.lost_forever(&views);
                drop(views);
                match lost {
                    Some(log) if self.mend(log) => Ok(false),
                    Some(log) if !self.governance.mended.contains(&log) => {
                        Err(StopReason::Beyond("a disk was lost, and its log has no operator that could renew it"))
                    }
                    _ => broken("when the troubles end, everything honest becomes final", missing).map(|()| false),
                }
            }
            Some(_) => Ok(false),
        }
    }
}
