//! Machines: they run, stop, start, and lose their disks.
use super::*;

impl World {
    /// Runs a step of a node's inbox, then everything that follows from it, and checks the result.
    pub(super) fn with(&mut self, node: usize, work: impl FnOnce(&mut Inbox) -> Result<(), Fatal>) -> CheckResult {
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
        if self.nodes[node].running.as_ref().is_some_and(|running| running.inbox.wants_reload()) {
            return self.reload(node);
        }
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

    /// Reloads from disk, as a node does within its process; input that waited for the inbox is lost, and so are some
    /// of its last commands.
    fn reload(&mut self, node: usize) -> CheckResult {
        let Some(mut former) = self.nodes[node].running.take() else { return Ok(()) };
        let mut commands = Vec::new();
        while let Ok(command) = former.commands.try_recv() {
            commands.extend((!matches!(command, InboxCommand::AskFrontier { .. })).then_some(command));
        }
        let (peers, began, key) = (std::mem::take(&mut former.peers), former.began(), self.nodes[node].key);
        drop(former);
        let clock = self.clock();
        let Self { nodes, checker, .. } = self;
        if let Err(fatal) = nodes[node].load(clock, began, |store| checker.reload(node, &store.view())) {
            self.say(&format!("n{node} fails to reload: {}", fatal.code()));
            return self.not_loaded(node, &fatal);
        }
        self.say(&format!("n{node} reloads"));
        if self.nodes[node].key != key {
            self.say(&format!("n{node} has another key"));
            (0..self.nodes.len()).for_each(|peer| self.unlink(node, peer));
        }
        let boot = self.nodes[node].boots;
        self.after(TICK_MILLIS, Happening::Tick { node, boot });
        self.observe(node)?;
        if self.network.percent(50) {
            commands.into_iter().try_for_each(|command| self.command(node, command))?;
        }
        let open: Vec<usize> = peers.into_keys().filter(|peer| self.link(node, *peer).is_some()).collect();
        open.into_iter().try_for_each(|peer| self.meet(node, peer))
    }

    /// The power went off while a node reloaded, or its disk is damaged.
    fn not_loaded(&mut self, node: usize, fatal: &Fatal) -> CheckResult {
        (0..self.nodes.len()).for_each(|peer| self.unlink(node, peer));
        if fatal.to_string().contains("the power") {
            let kept = self.fate.below(self.nodes[node].disk.unsynced() + 1);
            self.nodes[node].disk.crash(kept);
            self.nodes[node].fallen = None;
            self.after(1_000, Happening::Start { node });
            return Ok(());
        }
        if self.nodes[node].damaged {
            self.replace_damaged(node);
            return Ok(());
        }
        broken("a node reloads what it has", format!("n{node}: {fatal}"))
    }

    pub(super) fn give(&mut self, node: usize, input: InboxInput) -> CheckResult {
        self.with(node, |inbox| inbox.take(input))
    }

    pub(super) fn schedule_append(&mut self, node: usize) {
        let (now, boot) = (self.now, self.nodes[node].boots);
        let Some(running) = &mut self.nodes[node].running else { return };
        let Some(due) = running.inbox.append_due_in() else { return };
        if running.append_at.is_none_or(|at| at <= now) {
            let millis = u64::try_from(due.as_millis()).unwrap() + 1;
            running.append_at = Some(now + millis);
            self.after(millis, Happening::Append { node, boot });
        }
    }

    pub(super) fn observe(&mut self, node: usize) -> CheckResult {
        let SimulatedMachine { running: Some(running), disk, .. } = &self.nodes[node] else { return Ok(()) };
        let view = running.shared.store.view();
        let watched = Watched { node, view: &view, disk, boot: &running.boot };
        let seen = self.checker.observe(&watched, self.nodes[node].wall(self.clock()));
        self.judge(node, seen)
    }

    /// Only a damaged disk may be unreadable.
    pub(super) fn judge(&self, node: usize, kept: CheckResult) -> CheckResult {
        match kept {
            Err(StopReason::Unreadable(_)) if self.nodes[node].damaged => Ok(()),
            Err(StopReason::Unreadable(what)) => {
                broken("a disk that is not damaged can be read", format!("n{node}: {what}"))
            }
            kept => kept,
        }
    }

    /// A node stopped by itself; only its disk is a valid reason.
    pub(super) fn stopped(&mut self, node: usize, fatal: &Fatal) -> CheckResult {
        self.say(&format!("n{node} stops: {}", fatal.code()));
        let off = fatal.to_string().contains("the power");
        if self.nodes[node].damaged && !off {
            self.replace_damaged(node);
            return Ok(());
        }
        if !off {
            return broken("a node stops only for its disk", format!("n{node}: {fatal}"));
        }
        let (disk, down) = self.nodes[node].fallen.take().unwrap_or((ReplacementDisk::Same, 1_000));
        self.crash(node, down, disk);
        Ok(())
    }

    pub(super) fn crash(&mut self, node: usize, down: u64, disk: ReplacementDisk) {
        let Some(running) = self.nodes[node].running.take() else { return };
        drop(running);
        let kept = self.fate.below(self.nodes[node].disk.unsynced() + 1);
        self.nodes[node].disk.crash(kept);
        self.say(&format!("n{node} is down, {kept} unsynced writes kept"));
        for peer in 0..self.nodes.len() {
            self.unlink(node, peer);
        }
        if !matches!(disk, ReplacementDisk::Same) {
            self.lose_disk(node, disk);
        }
        let down = if self.calm.is_some() { 10 } else { down };
        if self.governance.dead.contains(&node) {
            return;
        }
        self.after(down, Happening::Start { node });
    }

    pub(super) fn replace_damaged(&mut self, node: usize) {
        self.nodes[node].damaged = false;
        if self.nodes[node].running.is_some() {
            self.crash(node, 500, ReplacementDisk::Empty);
        } else {
            self.lose_disk(node, ReplacementDisk::Empty);
            self.after(500, Happening::Start { node });
        }
    }

    pub(super) fn lose_disk(&mut self, node: usize, disk: ReplacementDisk) {
        let backup = self.nodes[node].backup.take().filter(|_| matches!(disk, ReplacementDisk::Backup));
        self.say(&format!("n{node} loses its disk, backup {}", backup.is_some()));
        self.nodes[node].disk = backup.unwrap_or_default();
        let running = |other: &SimulatedMachine| other.number != node;
        let mut stores: Vec<Store> = Vec::new();
        for other in self.nodes.iter().filter(|other| running(other) && self.is_honest(other.number)) {
            stores.extend(Store::open_simulated(&other.disk.synced(), &self.federation.manifest));
        }
        stores.extend(Store::open_simulated(&self.nodes[node].disk, &self.federation.manifest));
        let views: Vec<View<'_>> = stores.iter().map(Store::view).collect();
        self.checker.lose(node, &views);
    }

    pub(super) fn start(&mut self, node: usize) -> CheckResult {
        if self.nodes[node].running.is_some() || self.governance.dead.contains(&node) {
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
        if let Some(RunningNode { shared, .. }) = &self.nodes[node].running {
            self.judge(node, self.checker.receipts_hold(node, &shared.store.view()))?;
        }
        let boot = self.nodes[node].boots;
        self.after(TICK_MILLIS, Happening::Tick { node, boot });
        self.planted_at_start(node)?;
        self.with(node, |_| Ok(()))
    }

    /// What a node keeps about each identity's karma, completed by what is still missing in it, is the join's.
    pub(super) fn scores_hold(&self, node: usize) -> CheckResult {
        let Some(RunningNode { shared, .. }) = &self.nodes[node].running else { return Ok(()) };
        let view = shared.store.view();
        let join = Join::new(&shared.manifest, &view);
        let mut ids = Vec::new();
        let unreadable = |error: &dyn std::fmt::Display| StopReason::Unreadable(error.to_string());
        let mut hold = || {
            join.each_identity(|found| ids.push(found.id)).map_err(|error| unreadable(&error))?;
            if !view.has_scores().map_err(|error| unreadable(&error))? {
                return broken("a start completes the scores of a small folder", format!("n{node}"));
            }
            for id in &ids {
                let score = Score::read(&view, id, usize::MAX - 1).map_err(|error| unreadable(&error))?;
                let score = score.ok_or_else(|| unreadable(&"more providers than there are"))?;
                let kept = score.settle(*id, &join).map_err(|error| unreadable(&error))?;
                let karma = join.karma(*id).map_err(|error| unreadable(&error))?;
                if kept != karma {
                    return broken("kept scores are the join's", format!("n{node}: {id} has {kept:?}, not {karma:?}"));
                }
            }
            Ok(())
        };
        self.judge(node, hold())
    }

    /// Planted fault: the node believes that it asked everybody and that they have nothing.
    pub(super) fn planted_at_start(&mut self, node: usize) -> CheckResult {
        if self.planted != Some(Planted::GateOpensUnasked) || self.nodes[node].boots == 1 {
            return Ok(());
        }
        for other in (0..self.federation.len()).filter(|other| *other != node) {
            let (peer, operator) = (self.peer_id(other), Some(self.federation.names[other].clone()));
            let manifest = &self.federation.manifest;
            let (manifest, manifest_hash) = (manifest.version(), manifest.hash());
            let said =
                HeardFrontier { logs: Vec::new(), other: None, manifest, manifest_hash, equivocations: Vec::new() };
            self.with(node, |inbox| {
                inbox.take(InboxInput::PeerUp { peer, operator })?;
                inbox.take(InboxInput::Frontier { peer, said, ahead: 0 })?;
                inbox.take(InboxInput::PeerDown { peer })
            })?;
        }
        Ok(())
    }
}
