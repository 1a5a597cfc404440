//! What an honest node sends to others: one branch, no smaller head, and only what is durable.
use fama_ledger::checkpoint::Checkpoint;
use fama_ledger::equivocation::Equivocation;
use fama_node::wire::{CosignedHead, Frontier, Gossip};

use super::*;

impl PromiseChecker {
    /// Checks a frontier that an honest node sends.
    pub(in crate::simulation) fn told(&mut self, watched: &Watched<'_>, frontier: &Frontier) -> CheckResult {
        for log in &frontier.logs {
            let i = self.federation.log(&log.log);
            if let Some(newest) = &log.newest {
                self.told_head(watched, i, newest.head)?;
            }
            for cosigned in &log.cosigned {
                self.told_cosigned(watched, i, cosigned)?;
            }
        }
        Ok(())
    }

    /// Checks a message that an honest node gossips.
    pub(in crate::simulation) fn gossiped(&mut self, watched: &Watched<'_>, gossip: &Gossip) -> CheckResult {
        match gossip {
            Gossip::Head { log, signed, .. } => self.told_head(watched, self.federation.log(log), signed.head),
            Gossip::Cosignature { log, cosigned } => self.told_cosigned(watched, self.federation.log(log), cosigned),
            Gossip::Equivocation(proof) => self.told_proof(watched, proof),
        }
    }

    /// No honest operator is proven to have two branches, unless it lost a disk.
    fn told_proof(&self, watched: &Watched<'_>, proof: &Equivocation) -> CheckResult {
        let log = self.federation.log(&proof.log);
        let may = !self.honest(log) || self.forgotten.contains(&log);
        must(may, "nobody honest is proven to lie", || format!("n{}: {}", watched.node, proof.log))
    }

    pub(in crate::simulation) fn told_head(&mut self, watched: &Watched<'_>, log: usize, head: Head) -> CheckResult {
        if !self.honest(log) || !self.heads.insert((log, head.size, head.root)) {
            return Ok(());
        }
        self.told[log] = self.told[log].max(head.size);
        if self.hidden(log) && head.size > self.truths[log].tree.size() {
            return Ok(());
        }
        if self.federation.owner(log) == watched.node {
            self.what_is_told_is_durable(watched, log, |view, id| Ok(size_of(view.log(id)?.as_ref()) >= head.size))?;
        }
        must(self.truths[log].root_at(head.size) == Some(head.root), "one branch is signed", || {
            format!("n{} tells of another root of {} at {}", watched.node, self.federation.logs[log], head.size)
        })
    }

    /// An honest operator cosigns one branch only, never a smaller head, and only what is durable on its disk.
    pub(in crate::simulation) fn told_cosigned(
        &mut self,
        watched: &Watched<'_>,
        log: usize,
        cosigned: &CosignedHead,
    ) -> CheckResult {
        let operator = self.federation.machine(&cosigned.cosignature.operator);
        let (head, id) = (cosigned.signed.head, &self.federation.logs[log]);
        if self.liars.contains(&operator) {
            return Ok(());
        }
        if operator == watched.node {
            let by = self.cosigner(id, cosigned);
            let newest = self.newest.insert((by, log), head.size).unwrap_or_default();
            let smaller = head.size < newest && !self.forgetful.contains(&operator);
            must(!smaller, "no smaller head is cosigned", || {
                format!("n{operator}: {id} {newest}, then {}", head.size)
            })?;
        }
        if !self.cosigned.entry((operator, log)).or_default().insert((head.size, head.root)) {
            return Ok(());
        }
        if operator == watched.node {
            self.stands_still(watched, log, head)?;
        }
        if operator == watched.node && head.size > watched.boot.cosigned.get(&log).copied().unwrap_or_default() {
            self.enough_were_heard(watched)?;
        }
        if operator == watched.node {
            let name = &self.federation.names[operator];
            self.what_is_told_is_durable(watched, log, |view, id| {
                let mine = view.cosigned(id)?.into_iter().filter(|one| one.cosignature.operator == *name);
                let said = mine.into_iter().any(|mine| mine.signed.head.size >= head.size);
                Ok(said && size_of(view.log(id)?.as_ref()) >= head.size)
            })?;
        }
        if self.hidden(log) && head.size > self.truths[log].tree.size() {
            return Ok(());
        }
        if self.honest(log) {
            return must(self.truths[log].root_at(head.size) == Some(head.root), "one branch is cosigned", || {
                format!("n{operator}: {id} at {}", head.size)
            });
        }
        if operator != watched.node || self.forgetful.contains(&operator) {
            return Ok(());
        }
        let tiles = watched.view.tiles(id);
        for (size, root) in &self.cosigned[&(operator, log)] {
            must(root_at(*size, &tiles)? == *root, "one branch is cosigned", || {
                format!("n{operator}: {id} at {size}")
            })?;
        }
        Ok(())
    }

    /// The log whose key cosigned: a cosignature names its operator but not which of the operator's keys made it.
    fn cosigner(&self, log: &LogId, cosigned: &CosignedHead) -> usize {
        let (manifest, operator) = (&self.newest_version, &cosigned.cosignature.operator);
        let checkpoint = Checkpoint { origin: manifest.origin(log), head: cosigned.signed.head };
        let mut keys = manifest.generations(operator);
        let by = keys.find(|(_, key)| cosigned.cosignature.verify(&checkpoint, key).is_ok());
        by.map_or_else(|| self.federation.machine(operator), |(by, _)| self.federation.log(by))
    }

    /// Durable before sent: after the worst crash at this moment it would still be there. Checked for one in four.
    fn what_is_told_is_durable(
        &mut self,
        watched: &Watched<'_>,
        log: usize,
        is_there: impl Fn(&View<'_>, &LogId) -> Result<bool, StoreError>,
    ) -> CheckResult {
        self.tellings += 1;
        if !self.tellings.is_multiple_of(4) {
            return Ok(());
        }
        let (left, id) = (watched.disk.synced(), &self.federation.logs[log]);
        let left = Store::open_simulated(&left, &self.federation.manifest)?;
        let found = is_there(&left.view(), id)?;
        must(found, "what is told is durable", || format!("n{}: {id}", watched.node))
    }
}
