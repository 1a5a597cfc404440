//! Where a log is to end: what nodes that stand still show, and which operators may sign it.
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;

use fama_ledger::checkpoint;
use fama_ledger::cut::{Extensions, ProposedCut, choose, find};
use fama_ledger::entry::{VerifiedBody, VerifiedEntry};
use fama_ledger::equivocation::Equivocation;
use fama_ledger::id::{Domain, StateRoot};
use fama_ledger::log::{Head, prove_consistency, root_at};
use fama_ledger::manifest::{Cut, LogId, Manifest};
use fama_ledger::signed_note::SignedNote;
use fama_ledger::stand::VerifiedStand;
use fama_node::store::View;

/// What nodes hold in support of a cut at one head.
struct Candidate {
    cut: Cut,
    extensions: Extensions,
    checkpoint: Option<SignedNote>,
}

/// The log to be ended, and all stands and stores that count for it.
pub(super) struct Ending<'a> {
    pub(super) previous: &'a Arc<Manifest>,
    pub(super) log: &'a LogId,
    pub(super) successor: &'a LogId,
    pub(super) stands: &'a [VerifiedStand],
    pub(super) views: &'a [View<'a>],
}

impl Ending<'_> {
    /// The cut to propose, and who may sign it; `None` while no node holds what was cosigned.
    pub(super) fn choose(&self) -> Option<(Cut, Vec<Domain>)> {
        let candidates = self.candidates();
        let equivocation = self.equivocation();
        let shown: Vec<ProposedCut<'_>> = candidates.iter().map(|one| self.shown(one, equivocation.as_ref())).collect();
        choose(&shown).map(|best| (best.cut.clone(), best.signers().into_iter().cloned().collect()))
    }

    /// Planted fault: the smallest of all cuts, whoever may sign it.
    pub(super) fn smallest(&self) -> Option<Cut> {
        let (log, successor) = (self.log.clone(), self.successor.clone());
        Some(Cut { log, head: Head::EMPTY, state_root: StateRoot([0; 32]), adopted: 0, successor })
    }

    fn shown<'a>(&'a self, candidate: &'a Candidate, equivocation: Option<&'a Equivocation>) -> ProposedCut<'a> {
        let Candidate { cut, extensions, checkpoint } = candidate;
        let checkpoint = checkpoint.as_ref();
        ProposedCut { previous: self.previous, cut, stands: self.stands, extensions, equivocation, checkpoint }
    }

    pub(super) fn equivocation(&self) -> Option<Equivocation> {
        self.views.iter().find_map(|view| view.equivocation(self.log).unwrap())
    }

    fn candidates(&self) -> Vec<Candidate> {
        let mut heads: Vec<Head> = self.stands.iter().map(|stand| stand.stand().head).collect();
        heads.sort_unstable();
        heads.dedup();
        let mut found: Vec<Candidate> = heads.iter().filter_map(|head| self.candidate(head, &heads)).collect();
        let forks: BTreeSet<Head> = found.iter().flat_map(|one| one.extensions.forks()).collect();
        found.extend(forks.iter().filter(|fork| !heads.contains(fork)).filter_map(|fork| self.candidate(fork, &heads)));
        found
    }

    fn candidate(&self, head: &Head, heads: &[Head]) -> Option<Candidate> {
        let (log, successor) = (self.log.clone(), self.successor.clone());
        let extensions = self.extensions(head, heads);
        if *head == Head::EMPTY {
            let cut = Cut { log, head: *head, state_root: StateRoot([0; 32]), adopted: 0, successor };
            return Some(Candidate { cut, extensions, checkpoint: None });
        }
        let view = self.views.iter().find(|view| self.holds(view, head) && self.may_end(view, head))?;
        let record = view.log(self.log).unwrap()?;
        let last = record.adopted.iter().rev().find(|adopted| adopted.size <= head.size)?.version;
        let state_root = self.state_root(view, head)?;
        let cut = Cut { log, head: *head, state_root, adopted: last, successor };
        Some(Candidate { cut, extensions, checkpoint: self.checkpoint(head) })
    }

    fn extensions(&self, cut: &Head, heads: &[Head]) -> Extensions {
        let mut ask = |head: &Head, size: u64| {
            let view = self.views.iter().find(|view| self.holds(view, head));
            let tiles = view.map(|view| view.tiles(self.log));
            let shown = tiles
                .map(|tiles| (root_at(size, &tiles).unwrap(), prove_consistency(size, head.size, &tiles).unwrap()));
            Ok::<_, Infallible>(shown)
        };
        let Ok(found) = find(cut, heads, &mut ask);
        found
    }

    /// Whether a node knows that all adoptions up to `head`, or all but one, are certified.
    fn may_end(&self, view: &View<'_>, head: &Head) -> bool {
        let record = view.log(self.log).unwrap();
        record.is_some_and(|record| {
            let there = record.adopted.iter().filter(|adopted| adopted.size <= head.size);
            there.filter(|adopted| adopted.size > record.certified).count() <= 1
        })
    }

    fn holds(&self, view: &View<'_>, head: &Head) -> bool {
        let size = view.log(self.log).unwrap().map_or(0, |record| record.state.size);
        head.size <= size && root_at(head.size, &view.tiles(self.log)).is_ok_and(|root| root == head.root)
    }

    fn state_root(&self, view: &View<'_>, head: &Head) -> Option<StateRoot> {
        let last = view.entries(self.log, head.size - 1, 1, usize::MAX).unwrap().pop()?;
        match VerifiedEntry::decode(last, &self.previous.federation()).ok()?.body {
            VerifiedBody::State { root } => Some(root),
            _ => None,
        }
    }

    /// The head with all cosignatures of it that any node has.
    fn checkpoint(&self, head: &Head) -> Option<SignedNote> {
        let all = self.views.iter().flat_map(|view| view.cosigned(self.log).unwrap());
        let mut on: Vec<_> = all.filter(|one| one.signed.head == *head).collect();
        on.sort_by(|a, b| a.cosignature.operator.cmp(&b.cosignature.operator));
        on.dedup_by(|a, b| a.cosignature.operator == b.cosignature.operator);
        let signed = on.first()?.signed.verify(self.previous, self.log).ok()?;
        let key = |name: &Domain| Some(self.previous.operator(name)?.node_key);
        let lines: Vec<_> =
            on.iter().filter_map(|one| Some((one.cosignature.clone(), key(&one.cosignature.operator)?))).collect();
        Some(checkpoint::note(&signed, &self.previous.log(self.log)?.node_key, &lines))
    }
}
