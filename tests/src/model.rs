//! An executable model of `adopt` and of cuts: one log, its operators, and every choice up to f of them may make.
//!
//! It has no keys, bytes or network. A liar is taken to have signed everything and to show any part of it, so only
//! honest operators have state, and a "delayed" message is one whose receiver takes another step first. Evidence that
//! exists may be shown or withheld; an operator cannot forget what it knows of itself.
mod agreement;
mod cases;
mod explore;
mod play;

use std::collections::HashSet;

use explore::{explore, wander};

/// A head by its number in a [`HeadTree`]; a head's parent has a smaller number, and 0 is the log's first entry.
type HeadIndex = usize;
/// A set of operators, versions or heads, one bit each.
type Set = u16;
/// A manifest text of the contested version: 0 leaves the log uncut, h + 1 cuts it at head h.
type TextIndex = usize;
/// Each head's parent, and each head's name.
type Shape = (&'static [HeadIndex], &'static [&'static str]);

const UNCUT: TextIndex = 0;

/// What honest operators do, and what makes a head certified or a manifest valid. Dropping a rule is a mutation.
#[derive(Clone, Copy, Debug)]
enum Rule {
    /// A quorum is ⌊(n+f)/2⌋ + 1, not one less.
    QuorumWhole,
    /// An operator cosigns only what extends its last cosigned head.
    CosignExtends,
    /// An operator signs one manifest text per version.
    OneText,
    /// A cut equals or extends what its signer cosigned or, with [`Rule::TwoSteps`], what it holds certified.
    CutExtends,
    /// An operator that signed a cut never cosigns, nor holds, beyond it.
    StopAtCut,
    /// An adopt is certified by the version before it.
    OldQuorumForAdopt,
    /// What follows an adopt is certified by the adopted version.
    NewQuorumBeyond,
    /// A cosigned head is given up only to n − q + f statements, not one less.
    StatementsWhole,
    /// A statement counts whatever branch its operator is on, not only on the cut's branch.
    AnyBranch,
    /// The equivocator's own statement does not count.
    OthersOnly,
    /// Statements free an operator only if the owner is a proven equivocator.
    ProofToGiveUp,
    /// n, q, f and the statements are those of the version that the branch begins under, not of the newest version.
    VersionOfBranch,
    /// The cut of a lagging log is signed by a quorum of the version adopted at the cut.
    LagAtCut,
    /// The cut of a lagging log is signed by a quorum of a version that the signers know to be certified as adopted.
    LagAtKnown,
    /// It is signed by a quorum of every version from the last one with a certified adoption up to the one adopted at
    /// the cut.
    LagWhole,
    /// It is signed by quorums of the version adopted at the cut and of the one before; a manifest alone shows both.
    LagTwo,
    /// Nobody cosigns, nor signs a cut at, a head more than one adoption ahead of its certificates.
    OneAhead,
    /// An operator that states "I cosigned none" on a branch cosigns no more until a manifest is valid.
    StatementsBind,
    /// One more statement is needed from a version that does not have the equivocator as an operator.
    OwnerAmongLiars,
    /// A cut stands unchanged in all later versions.
    CutStands,
    /// A text is signed only after a quorum, each member standing still, agreed on it; see [`agreement`].
    AgreeFirst,
    /// A head is final once a quorum holds it certified, and only what an operator holds certified binds its cuts.
    TwoSteps,
    /// The number of statements has g = ⌊(n+1)/5⌋ in place of f.
    Fifth,
    /// All operators of the old version keep cosigning, not only those that signed the new one.
    AllKeepCosigning,
    /// Nobody cosigns beyond an adopt batch that is not yet certified.
    WaitAtAdopt,
    /// A reader of one note of the end of an adopt batch also needs a quorum of the version before it.
    ReadBoth,
}

#[derive(Clone, Copy)]
struct RuleSet(u32);

impl RuleSet {
    const fn of(rules: &[Rule]) -> Self {
        let mut bits = 0;
        let mut i = 0;
        while i < rules.len() {
            bits |= 1 << rules[i] as u32;
            i += 1;
        }
        Self(bits)
    }

    const fn with(self, rules: &[Rule]) -> Self {
        Self(self.0 | Self::of(rules).0)
    }

    const fn without(self, rule: Rule) -> Self {
        Self(self.0 & !(1 << rule as u32))
    }

    const fn has(self, rule: Rule) -> bool {
        self.0 & 1 << rule as u32 != 0
    }
}

/// The rules as they were first written.
const FIRST: RuleSet = RuleSet::of(&[
    Rule::QuorumWhole,
    Rule::CosignExtends,
    Rule::OneText,
    Rule::CutExtends,
    Rule::StopAtCut,
    Rule::OldQuorumForAdopt,
    Rule::NewQuorumBeyond,
    Rule::StatementsWhole,
    Rule::AnyBranch,
    Rule::OthersOnly,
    Rule::ProofToGiveUp,
    Rule::VersionOfBranch,
    Rule::LagAtCut,
]);

/// The first rules without their gaps, but with one round of cosignatures: always safe, live up to n = 6.
const ONE_STEP: RuleSet = FIRST.without(Rule::LagAtCut).with(&[
    Rule::LagWhole,
    Rule::StatementsBind,
    Rule::OwnerAmongLiars,
    Rule::CutStands,
    Rule::AgreeFirst,
    Rule::AllKeepCosigning,
    Rule::WaitAtAdopt,
    Rule::ReadBoth,
]);

/// The rules that keep every promise with f liars.
const MENDED: RuleSet = ONE_STEP.with(&[Rule::TwoSteps]);

/// The heads that an owner signs, as a tree, and which of them end an adopt batch.
struct HeadTree {
    parent: &'static [HeadIndex],
    names: &'static [&'static str],
    /// For each head: itself and every head that it extends.
    below: Vec<Set>,
    adopts: Set,
}

impl HeadTree {
    fn new((parent, names): Shape, adopts: &[HeadIndex]) -> Self {
        let mut below: Vec<Set> = vec![1];
        for (head, up) in parent.iter().enumerate().skip(1) {
            below.push(below[*up] | bit(head));
        }
        Self { parent, names, below, adopts: set(adopts) }
    }

    fn heads(&self) -> std::ops::Range<HeadIndex> {
        0..self.parent.len()
    }

    /// True if `head` is `other` or extends it.
    fn extends(&self, head: HeadIndex, other: HeadIndex) -> bool {
        self.below[head] & bit(other) != 0
    }

    fn conflict(&self, one: HeadIndex, other: HeadIndex) -> bool {
        !self.extends(one, other) && !self.extends(other, one)
    }

    /// The version adopted at `head`, counted from 0.
    fn adopted(&self, head: HeadIndex) -> usize {
        count(self.adopts & self.below[head])
    }

    /// The version whose quorum certifies `head`: an adoption is certified by the version before it.
    fn governing(&self, head: HeadIndex) -> usize {
        count(self.adopts & self.below[head] & !bit(head))
    }

    /// The first head on the way to `head` that `cut` does not include.
    fn branch(&self, head: HeadIndex, cut: HeadIndex) -> HeadIndex {
        (self.below[head] & !self.below[cut]).trailing_zeros() as HeadIndex
    }

    /// The adopt batches on the way to `head`, without `head` itself.
    fn adopts_before(&self, head: HeadIndex) -> impl Iterator<Item = HeadIndex> {
        members(self.adopts & self.below[head] & !bit(head))
    }
}

/// Everything that is fixed in one exploration.
struct Scenario {
    tree: HeadTree,
    /// The operators of each version; one more than `valid` are those of the contested version.
    sets: Vec<Set>,
    /// How many versions are valid at first; the contested version is the next.
    valid: usize,
    owner: usize,
    liars: Set,
    /// Honest operators that may have cosigned and are silent forever.
    dead: Set,
    /// The texts of the contested version that may be drafted.
    texts: Set,
    /// A cut that the newest valid version already has.
    cut_before: Option<HeadIndex>,
}

/// An honest operator. `voted` holds each head together with all that it extends, as a cosignature vouches for those.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
struct ModelOperator {
    lock: u8,
    held: u8,
    voted: Set,
    /// The heads at and beyond which it stated "I cosigned none".
    denied: Set,
    signed: Set,
    stated: bool,
    left: bool,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct ModelState {
    ops: Vec<ModelOperator>,
    agreed: Option<u8>,
}

/// One step of an honest operator or, for `Agree`, of a quorum.
#[derive(Clone, Copy, Debug)]
enum ModelStep {
    Start,
    Cosign(usize, HeadIndex),
    TakeCertified(usize, HeadIndex),
    Hold(usize, HeadIndex),
    StateNone(usize),
    Agree(TextIndex),
    Sign(usize, TextIndex),
    Leave(usize),
}

/// What must hold in every state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Property {
    /// S1: certified heads of a log never conflict.
    OneBranch,
    /// S2: every valid cut includes everything final, and what an earlier cut kept.
    NothingLost,
    /// S3: one valid text per version.
    OneText,
    /// S4: a head that a reader takes by one note of it is certified.
    ReadCertified,
    /// Every valid cut includes everything that such a reader takes; follows from S2 and S4.
    ReadKept,
    /// L1: the honest operators present can sign a manifest that cuts the log.
    CanCut,
    /// L2: once a version is valid, everything that an honest owner signs can be certified.
    CertifiedAgain,
}

use Property::{CanCut, CertifiedAgain, NothingLost, OneBranch, ReadCertified, ReadKept};
const SAFE: &[Property] = &[OneBranch, NothingLost, Property::OneText];
const ALL_BUT_CUT: &[Property] = &[OneBranch, NothingLost, Property::OneText, CertifiedAgain];
const ALL: &[Property] = &[OneBranch, NothingLost, Property::OneText, CanCut, CertifiedAgain];

fn bit(member: usize) -> Set {
    1 << member
}

fn set(members: &[usize]) -> Set {
    members.iter().map(|member| bit(*member)).sum()
}

fn count(set: Set) -> usize {
    set.count_ones() as usize
}

fn members(set: Set) -> impl Iterator<Item = usize> {
    let mut left = set;
    std::iter::from_fn(move || {
        let next = left;
        left &= left.wrapping_sub(1);
        (next != 0).then(|| next.trailing_zeros() as usize)
    })
}

fn cut_of(text: TextIndex) -> Option<HeadIndex> {
    text.checked_sub(1)
}

fn liars_max(n: usize) -> usize {
    (n - 1) / 3
}

fn quorum(n: usize) -> usize {
    (n + liars_max(n)) / 2 + 1
}

/// A scenario under a set of rules: the possible steps of a state, and the property that it breaks.
struct CutModel<'a> {
    scenario: &'a Scenario,
    rules: RuleSet,
    /// Honest operators that nothing tells apart; states that differ only by exchanging them count once.
    alike: Vec<Vec<usize>>,
}

impl Scenario {
    fn everyone(&self) -> Set {
        self.sets.iter().fold(0, |all, set| all | set)
    }
}
