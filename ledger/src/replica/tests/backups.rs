//! Old backups of some or all disks, restored at random moments: no operator signs or cosigns a head that conflicts
//! with an earlier one of its own, as long as one of the operators that must answer still knows the earlier one.
use super::*;

/// What a disk holds of one log besides its entries.
#[derive(Clone, Default)]
pub(super) struct KeptCopy {
    pub(super) newest: Option<SignedCheckpoint>,
    pub(super) cosigned: BTreeMap<Domain, Cosigned>,
    pub(super) certificate: Option<Certificate>,
}

impl KeptCopy {
    pub(super) fn cosigned(&mut self, cosigned: Cosigned) {
        self.cosigned.insert(cosigned.cosignature.operator.clone(), cosigned);
    }

    fn heads(&self) -> impl Iterator<Item = Head> + '_ {
        let cosigned = self.cosigned.values().map(|one| &one.signed);
        self.newest.iter().chain(cosigned).map(|signed| signed.checkpoint().head)
    }
}

/// The content of a disk at some moment.
#[derive(Clone)]
struct Backup {
    branches: BTreeMap<LogId, OwnerBranch>,
    kept: BTreeMap<LogId, KeptCopy>,
}

/// The result of a run.
#[derive(Default)]
struct BackupFigures {
    restored: usize,
    /// Signed heads and cosignatures that a restored disk lacked although they still bound its operator.
    taken_back: usize,
    /// Logs whose owner signed a second branch, because too few operators still knew the first one.
    forked: usize,
}

struct BackupWorld {
    net: TestNet,
    /// The entries below each head that anybody signed; no two entries are equal.
    below: BTreeMap<TreeRoot, Vec<Hash>>,
    /// Every head that each owner ever signed.
    signed: Vec<Vec<Head>>,
    backups: Vec<Vec<Backup>>,
    entries: u64,
    figures: BackupFigures,
}

impl BackupWorld {
    fn new(n: usize, seed: u64) -> Self {
        let mut net = TestNet::new(n, seed, 8);
        net.connect();
        let empty = Backup { branches: BTreeMap::new(), kept: BTreeMap::new() };
        let (below, backups, figures) = (BTreeMap::new(), vec![vec![empty]; n], BackupFigures::default());
        Self { net, below, signed: vec![Vec::new(); n], backups, entries: 0, figures }
    }

    fn append(&mut self, at: Id) {
        if self.net.nodes[at].replica.may_write(self.net.now).is_err() {
            return;
        }
        let count = 1 + self.net.dice.roll(3);
        let fresh: Vec<Hash> = (0..count).map(|i| leaf_hash(&(self.entries + i).to_le_bytes())).collect();
        self.entries += count;
        let mut branch = self.net.nodes[at].disk.branch(&log(at));
        let head = branch.grow(&fresh);
        self.below.insert(head.root, branch.leaves.clone());
        self.net.nodes[at].disk.0.borrow_mut().insert(log(at), branch);
        self.net.appended(at, head);
        if !self.signed[at].iter().all(|before| self.extends(&head, before)) {
            // The owner was no longer bound by the lost heads. From here on no head extends all others.
            self.net.forked.insert(log(at));
        }
        self.signed[at].push(head);
    }

    fn back_up(&mut self, at: Id) {
        let node = &self.net.nodes[at];
        let backup = Backup { branches: node.disk.0.borrow().clone(), kept: node.kept.clone() };
        self.backups[at].push(backup);
    }

    fn extends(&self, head: &Head, earlier: &Head) -> bool {
        let (of, earlier) = (&self.below[&head.root], &self.below[&earlier.root]);
        of.get(..earlier.len()) == Some(earlier)
    }

    /// Whether a node's disk shows that the owner of `log` signed `head`.
    fn knows_head(&self, node: Id, log: &LogId, head: &Head) -> bool {
        let kept = self.net.nodes[node].kept.get(log);
        kept.is_some_and(|kept| kept.heads().any(|known| self.extends(&known, head)))
    }

    /// Whether a node's disk shows that `by` cosigned `head`.
    fn knows_cosigned(&self, node: Id, by: Id, log: &LogId, head: &Head) -> bool {
        let known = self.net.nodes[node].kept.get(log).and_then(|kept| kept.cosigned.get(&name(by)));
        known.is_some_and(|known| self.extends(&known.head(), head))
    }

    /// Whether enough operators know it for every starting node to learn of it.
    fn is_heard(&self, by: Id, knows: impl Fn(Id) -> bool) -> bool {
        let n = self.net.nodes.len();
        let want = if n == 3 { 2 } else { n - self.net.manifest.faults() };
        (0..n).filter(|node| *node != by && knows(*node)).count() > n - want
    }

    /// Frees operators that have not started from heads and cosignatures that too few operators still know.
    fn forget(&mut self) {
        for at in 0..self.net.nodes.len() {
            if self.net.nodes[at].replica.has_started() {
                continue;
            }
            let own = log(at);
            let mut taken_back = 0;
            let mut bound = |here: bool, heard: bool| {
                taken_back += usize::from(!here && heard);
                here || heard
            };
            let mut signed = self.net.nodes[at].signed.clone();
            signed.retain(|head| {
                bound(self.knows_head(at, &own, head), self.is_heard(at, |node| self.knows_head(node, &own, head)))
            });
            let mut given = self.net.nodes[at].given.clone();
            given.retain(|(log, head)| {
                let heard = self.is_heard(at, |node| self.knows_cosigned(node, at, log, head));
                bound(self.knows_cosigned(at, at, log, head), heard)
            });
            (self.net.nodes[at].signed, self.net.nodes[at].given) = (signed, given);
            self.figures.taken_back += taken_back;
        }
    }

    /// Forgets whatever no disk and no backup has.
    fn forget_for_good(&mut self) {
        for (at, log) in (0..self.net.nodes.len()).map(|at| (at, log(at))) {
            let mut signed = core::mem::take(&mut self.signed[at]);
            signed.retain(|head| (0..self.net.nodes.len()).any(|node| self.knows_head(node, &log, head)));
            self.signed[at] = signed;
        }
    }

    /// All of these nodes crash and restart from a backup, or from the disk that they had.
    fn put_back(&mut self, nodes: &[Id]) {
        for at in nodes.iter().copied() {
            let last = self.net.dice.roll(3) > 0;
            let pick = self.net.dice.roll(self.backups[at].len() as u64) as usize;
            let backup = if last { self.backups[at].last() } else { self.backups[at].get(pick) };
            let backup = backup.unwrap().clone();
            if nodes.len() == self.net.nodes.len() {
                self.backups[at] = vec![backup.clone()];
            }
            self.restart(at, backup);
            self.figures.restored += 1;
        }
        self.forget();
        if nodes.len() == self.net.nodes.len() {
            self.forget_for_good();
        }
        for at in nodes.iter().copied() {
            for peer in (0..self.net.nodes.len()).filter(|peer| *peer != at) {
                self.net.nodes[peer].replica.peer_down(at);
                let out = self.net.nodes[peer].replica.peer_up(at, Some(name(at)), self.net.now);
                self.net.perform(peer, out);
                let out = self.net.nodes[at].replica.peer_up(peer, Some(name(peer)), self.net.now);
                self.net.perform(at, out);
            }
        }
    }

    fn restart(&mut self, at: Id, backup: Backup) {
        self.net.sent.retain(|(_, to, _)| *to != at);
        let manifest = Arc::clone(&self.net.manifest);
        let node = &mut self.net.nodes[at];
        node.replica = Replica::new(Arc::clone(&manifest), Some(name(at)), Vec::from([log(at)]));
        (node.disk, node.kept) = (TestDisk(Rc::new(RefCell::new(backup.branches))), backup.kept);
        node.certified.clear();
        for of in (0..self.net.nodes.len()).map(log) {
            let node = &mut self.net.nodes[at];
            let (head, kept) = (node.disk.branch(&of).head(), node.kept.get(&of).cloned().unwrap_or_default());
            let (cosigned, certificate) = (kept.cosigned.into_values().collect(), kept.certificate);
            let out = node
                .replica
                .restore(
                    &of,
                    StoredLog {
                        base: 0,
                        head,
                        adopted: Vec::new(),
                        certified: 0,
                        newest: kept.newest,
                        cosigned,
                        certificate,
                    },
                    &node.disk,
                )
                .unwrap();
            self.net.perform(at, out);
        }
    }

    /// A period with appends, backups, and restarts of one, several or all nodes.
    fn live(&mut self, events: u64) {
        let n = self.net.nodes.len() as u64;
        for _ in 0..events {
            let millis = self.net.dice.roll(3_000);
            self.net.run(millis);
            match self.net.dice.roll(10) {
                0..=5 => (0..self.net.dice.roll(3)).for_each(|_| {
                    let at = self.net.dice.roll(n) as usize;
                    self.append(at);
                }),
                6..=7 => {
                    let at = self.net.dice.roll(n) as usize;
                    self.back_up(at);
                }
                8 => {
                    let at = self.net.dice.roll(n) as usize;
                    self.put_back(&[at]);
                }
                _ => {
                    let all: Vec<Id> = (0..n as usize).collect();
                    let some = all.iter().copied().filter(|_| self.net.dice.roll(2) == 0).collect();
                    let nodes: Vec<Id> = if self.net.dice.roll(4) == 0 { all } else { some };
                    self.put_back(&nodes);
                }
            }
        }
        self.figures.forked = self.net.forked.len();
    }
}

#[test]
fn a_thousand_old_backups_undo_nothing_that_the_answering_operators_know() {
    let mut most = 0;
    for (n, seeds) in [(2, 20), (3, 20), (4, 60), (7, 10)] {
        let mut all = BackupFigures::default();
        for seed in 0..seeds {
            let mut world = BackupWorld::new(n, seed + 1_000 * n as u64);
            world.live(80);
            all.restored += world.figures.restored;
            all.taken_back += world.figures.taken_back;
            all.forked += world.figures.forked;
        }
        let BackupFigures { restored, taken_back, forked } = all;
        assert!(taken_back > restored, "the runs were too tame: {taken_back} of {restored}");
        assert!(forked < n * seeds as usize / 4, "the runs were too wild: {forked}");
        most += restored;
    }
    assert!(most > 1_000, "{most}");
}
