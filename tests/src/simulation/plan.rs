//! The course of a run: drawn from the seed before anything runs.
use fama_ledger::manifest::faults;

use super::chance::Chance;

/// Longest time for which a machine is down, in milliseconds.
const DOWN_MILLIS_MAX: u64 = 15_000;
/// By how much a clock goes wrong, in milliseconds: from a moment to hours.
const SKEWS: [i64; 7] = [-7_200_000, -40_000, -2_000, 5_000, 45_000, 600_000, 10_800_000];

/// The disk after a crash.
#[derive(Clone, Copy, Debug)]
pub(super) enum ReplacementDisk {
    /// The same disk: a plain restart.
    Same,
    /// The last backup, or an empty disk.
    Backup,
    Empty,
}

/// How far the clocks move at once, in minutes, where liars hold entries back: less than a silence.
const HELD_BACK_MINUTES: u64 = 50;
/// How often they move, in milliseconds: long enough for every node to hear the liars in between.
const HELD_BACK_EVERY_MILLIS: u64 = 1_500;
/// How often they move in all: for longer than liars hold entries back.
const HELD_BACK_LEAPS: u64 = 38;

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug)]
pub(super) enum Trouble {
    /// The power goes off, at once or during the write after `writes` others; it comes back `down` milliseconds
    /// later.
    Crash { node: usize, writes: Option<u64>, down: u64, disk: ReplacementDisk },
    /// A copy of the disk is kept as a backup.
    Backup { node: usize },
    /// A bit flips on disk. Once noticed, the disk is replaced.
    Damage { node: usize, choice: u64 },
    /// Nodes in `side`, one bit each, and those outside cannot reach each other; if `silent`, their connections stay
    /// open.
    Cut { side: u64, millis: u64, silent: bool },
    /// A node's messages arrive `by` milliseconds later.
    Slow { node: usize, by: u64, millis: u64 },
    /// A node answers no requests.
    Mute { node: usize, millis: u64 },
    /// Time passes in which nothing else happens: with a cut or with machines that are down, a long outage.
    Leap { minutes: u64 },
    /// A node's clock is wrong.
    Clock { node: usize, skew: i64, millis: u64 },
}

/// A version of the manifest, or something that pretends to be one.
#[derive(Clone, Copy, Debug)]
pub(super) enum ManifestChange {
    /// A change of the policy.
    Policy,
    /// The extra machine, numbered after the operators', becomes an operator's: it was a mirror, or is new.
    Join,
    /// An operator whose machine runs leaves, and its log ends.
    Leave { node: usize },
    /// An operator's log continues in a new generation, with another key.
    Renew { node: usize },
    /// An operator's machine is gone for good, and its log ends.
    EndDead { node: usize },
    /// The log of an operator that is proven to lie ends.
    EndLiar { node: usize },
    /// The log of an operator ends because it does not adopt the newest version, so that no other could follow.
    EndLagging { node: usize },
    /// A former version is shown again.
    Replay,
    /// Two valid texts of one version, which ends the run.
    Rival,
}

/// The course of a run.
#[derive(Debug)]
pub(super) struct RunPlan {
    pub(super) operators: usize,
    /// Whether the extra machine is there from the beginning, as a mirror.
    pub(super) mirror: bool,
    pub(super) liars: Vec<usize>,
    /// Lost messages, per thousand.
    pub(super) loss: u64,
    /// Duplicated gossip, per hundred.
    pub(super) doubled: u64,
    /// Longest delay of the one message in a hundred that is much delayed, in milliseconds.
    pub(super) delay_max: u64,
    /// When something goes wrong, in milliseconds, and what.
    pub(super) troubles: Vec<(u64, Trouble)>,
    /// The earliest time to prepare the next version, in milliseconds, and what it changes.
    pub(super) changes: Vec<(u64, ManifestChange)>,
    /// How many events agents want.
    pub(super) deeds: u64,
    /// When all troubles end, in milliseconds.
    pub(super) busy: u64,
    /// The liars are heard all the time, and hold entries back for more than a day.
    pub(super) held_back: bool,
}

impl RunPlan {
    pub(super) fn draw(seed: u64) -> Self {
        let mut chance = Chance::new(seed, 1);
        let operators = *chance.pick(&[4, 4, 4, 4, 4, 4, 1, 2, 3, 5, 7]);
        let f = faults(operators);
        let mut all: Vec<usize> = (0..operators).collect();
        let mut liars = Vec::new();
        for _ in 0..f {
            if chance.percent(50) {
                liars.push(all.remove(chance.index(all.len())));
            }
        }
        let mut plan = Self {
            operators,
            mirror: chance.percent(25),
            loss: *chance.pick(&[0, 0, 10, 50, 150]),
            doubled: *chance.pick(&[0, 5, 30]),
            delay_max: *chance.pick(&[50, 1_000, 25_000]),
            troubles: Vec::new(),
            changes: Vec::new(),
            deeds: chance.between(8, 20),
            busy: chance.between(8_000, 30_000),
            held_back: false,
            liars,
        };
        // An operator that lost its disk may forget what it signed, so it counts as a liar.
        let losses = match operators {
            1 => 0,
            2 | 3 => 1,
            _ => f - plan.liars.len(),
        };
        let losses = plan.draw_changes(&mut Chance::new(seed, 5), &all, losses);
        all.extend(plan.joins().then_some(operators));
        plan.draw_troubles(&mut chance, &all, losses);
        plan.draw_outage(&mut Chance::new(seed, 6), &all);
        if !plan.liars.is_empty() && Chance::new(seed, 7).percent(8) {
            plan.hold_back();
        }
        plan
    }

    /// Makes it a run in which nothing goes wrong and more than a day passes, and in which nobody is silent.
    pub(super) fn hold_back(&mut self) {
        self.mirror |= self.joins();
        self.changes.clear();
        let leap = |i: u64| (i * HELD_BACK_EVERY_MILLIS, Trouble::Leap { minutes: HELD_BACK_MINUTES });
        self.troubles = (2..2 + HELD_BACK_LEAPS).map(leap).collect();
        self.busy = (HELD_BACK_LEAPS + 4) * HELD_BACK_EVERY_MILLIS;
        (self.held_back, self.loss, self.doubled, self.delay_max) = (true, 0, 0, 50);
    }

    /// A federation of four in which nothing goes wrong, except that these operators lie.
    pub(super) fn quiet(seed: u64, liars: &[usize]) -> Self {
        let (liars, troubles, changes) = (liars.to_vec(), Vec::new(), Vec::new());
        let drawn = Self::draw(seed);
        Self { operators: 4, mirror: false, liars, loss: 0, doubled: 0, delay_max: 50, troubles, changes, ..drawn }
    }

    /// Draws the versions to come; returns how many disks may still be lost. A machine that is gone for good counts
    /// as a liar. A federation of fewer than four operators grows.
    fn draw_changes(&mut self, chance: &mut Chance, honest: &[usize], losses: usize) -> usize {
        if !chance.percent(50) {
            return losses;
        }
        let mut changes: Vec<ManifestChange> = (0..chance.below(3)).map(|_| ManifestChange::Policy).collect();
        changes.extend(chance.percent(40).then_some(ManifestChange::Join));
        changes.extend(chance.percent(40).then(|| ManifestChange::Renew { node: *chance.pick(honest) }));
        if self.operators < 4 {
            self.changes = changes.into_iter().map(|change| (chance.below(self.busy), change)).collect();
            self.changes.sort_by_key(|(at, _)| *at);
            return 0;
        }
        changes.extend(chance.percent(25).then(|| ManifestChange::Leave { node: *chance.pick(honest) }));
        changes.extend(chance.percent(30).then_some(ManifestChange::Replay));
        let dead = losses > 0 && chance.percent(70);
        if dead {
            changes.push(ManifestChange::EndDead { node: *chance.pick(honest) });
        }
        if let Some(node) = self.liars.first().filter(|_| chance.percent(80)) {
            changes.push(ManifestChange::EndLiar { node: *node });
        }
        let rival = chance.percent(6);
        self.changes = changes.into_iter().map(|change| (chance.below(self.busy), change)).collect();
        self.changes.sort_by_key(|(at, _)| *at);
        self.changes.extend(rival.then_some((self.busy, ManifestChange::Rival)));
        losses - usize::from(dead)
    }

    /// Whether the extra machine becomes an operator's.
    pub(super) fn joins(&self) -> bool {
        self.changes.iter().any(|(_, change)| matches!(change, ManifestChange::Join))
    }

    /// In some runs, some honest machines are cut off or down for up to a week, while the others run.
    fn draw_outage(&mut self, chance: &mut Chance, honest: &[usize]) {
        if !chance.percent(20) {
            return;
        }
        let (from, millis) = (chance.below(self.busy), chance.between(2_000, 15_000));
        let cut = chance.percent(60);
        if cut {
            let silent = chance.percent(30);
            self.troubles.push((from, Trouble::Cut { side: chance.next(), millis, silent }));
        }
        if !cut || chance.percent(30) {
            for node in honest.iter().filter(|_| chance.percent(50)) {
                let crash = Trouble::Crash { node: *node, writes: None, down: millis, disk: ReplacementDisk::Same };
                self.troubles.push((from, crash));
            }
        }
        for _ in 0..chance.between(1, 3) {
            let hours = *chance.pick(&[2, 5, 11, 26, 96, 170]);
            self.troubles.push((from + chance.below(millis), Trouble::Leap { minutes: 60 * hours }));
        }
        self.troubles.sort_by_key(|(at, _)| *at);
    }

    /// Whether days pass.
    pub(super) fn leaps(&self) -> bool {
        self.troubles.iter().any(|(_, trouble)| matches!(trouble, Trouble::Leap { .. }))
    }

    fn draw_troubles(&mut self, chance: &mut Chance, honest: &[usize], mut losses: usize) {
        for _ in 0..chance.below(7) {
            let (at, node, millis) = (chance.below(self.busy), *chance.pick(honest), chance.between(500, 20_000));
            let down = chance.between(100, DOWN_MILLIS_MAX);
            let trouble = match chance.below(8) {
                0..=2 => {
                    let writes = chance.percent(70).then(|| chance.below(30));
                    let disk = match losses {
                        1.. if chance.percent(30) => *chance.pick(&[ReplacementDisk::Backup, ReplacementDisk::Empty]),
                        _ => ReplacementDisk::Same,
                    };
                    if !matches!(disk, ReplacementDisk::Same) {
                        losses -= 1;
                        self.troubles.push((chance.below(at + 1), Trouble::Backup { node }));
                    }
                    Trouble::Crash { node, writes, down, disk }
                }
                3 if losses > 0 => {
                    losses -= 1;
                    Trouble::Damage { node, choice: chance.next() }
                }
                3 | 4 => Trouble::Cut { side: chance.next(), millis, silent: chance.percent(50) },
                5 => Trouble::Slow { node, by: chance.between(100, 20_000), millis },
                6 => Trouble::Mute { node, millis },
                _ => Trouble::Clock { node, skew: *chance.pick(&SKEWS), millis },
            };
            self.troubles.push((at, trouble));
        }
        self.troubles.sort_by_key(|(at, _)| *at);
    }
}
