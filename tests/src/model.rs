//! An executable model of `adopt` and of cuts: one log, its operators, and every choice up to f of them may make.
//!
//! It has no keys, bytes or network. A liar is taken to have signed everything and to show of it what it likes,
//! so only the honest have state, and a message is "delayed" by the receiver's next step being another one.
//! Evidence that exists may be shown or withheld; what an operator knows of itself it cannot forget.
mod agreement;
mod cases;
mod explore;
mod play;

use std::collections::HashSet;

use explore::{explore, wander};

/// A head by its number in a [`Tree`]; a head's parent has a smaller number, and 0 is the log's first entry.
type Head = usize;
/// A set of operators, versions or heads, one bit each.
type Set = u16;
/// A manifest text of the contested version: 0 leaves the log uncut, h + 1 cuts it at head h.
type Text = usize;
/// Each head's parent, and each head's name.
type Shape = (&'static [Head], &'static [&'static str]);

const UNCUT: Text = 0;

/// What honest operators do, and what makes a head certified or a manifest valid. Dropping one is a mutation.
#[derive(Clone, Copy, Debug)]
enum Rule {
    /// A quorum is ⌊(n+f)/2⌋ + 1 and not one less.
    QuorumWhole,
    /// An operator cosigns only what extends its last cosigned head.
    CosignExtends,
    /// An operator signs one manifest text per version.
    OneText,
    /// A cut equals or extends what its signer cosigned, or (with [`Rule::TwoSteps`]) holds certified.
    CutExtends,
    /// Who signed a cut never cosigns, nor holds, beyond it.
    StopAtCut,
    /// An adopt is certified by the version before it.
    OldQuorumForAdopt,
    /// What follows an adopt is certified by the adopted version.
    NewQuorumBeyond,
    /// A cosigned head is given up only to n − q + f statements and not one less.
    StatementsWhole,
    /// A statement counts whatever branch its operator is on, not on the cut's alone.
    AnyBranch,
    /// The equivocator's own statement does not count.
    OthersOnly,
    /// Statements free nobody unless the owner is proven an equivocator.
    ProofToGiveUp,
    /// n, q, f and the statements are those of the version that the branch begins under, not of the newest one.
    VersionOfBranch,
    /// The cut of a lagging log is signed by a quorum of the version adopted at the cut.
    LagAtCut,
    /// The cut of a lagging log is signed by a quorum of a version whose adoption the signers know certified.
    LagAtKnown,
    /// It is signed by a quorum of every version from the last one certified adopted, up to the one adopted at the cut.
    LagWhole,
    /// It is signed by quorums of the version adopted at the cut and of the one before, which a manifest alone shows.
    LagTwo,
    /// Nobody cosigns, nor signs a cut at, what is more than one adoption ahead of its certificates.
    OneAhead,
    /// Who states that it cosigned none on a branch cosigns no more until a manifest holds.
    StatementsBind,
    /// One statement more is needed from a version of which the equivocator is no operator.
    OwnerAmongLiars,
    /// A cut stands unchanged in all later versions.
    CutStands,
    /// A text is signed only after a quorum, each standing still, agreed on it; see [`agreement`].
    AgreeFirst,
    /// Final is what a quorum holds certified, and only what one holds certified binds its cuts.
    TwoSteps,
    /// g = ⌊(n+1)/5⌋ takes the place of f in the number of statements.
    Fifth,
    /// All operators of the old version go on cosigning, not only those that signed the new one.
    AllGoOn,
    /// Nobody cosigns beyond an adopt batch that is not certified.
    WaitAtAdopt,
    /// Who goes by one note of the end of an adopt batch wants a quorum of the version before it too.
    ReadBoth,
}

#[derive(Clone, Copy)]
struct Rules(u32);

impl Rules {
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
const FIRST: Rules = Rules::of(&[
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

/// The first rules without their gaps, but with one round of cosignatures: safe always, live up to n = 6.
const ONE_STEP: Rules = FIRST.without(Rule::LagAtCut).with(&[
    Rule::LagWhole,
    Rule::StatementsBind,
    Rule::OwnerAmongLiars,
    Rule::CutStands,
    Rule::AgreeFirst,
    Rule::AllGoOn,
    Rule::WaitAtAdopt,
    Rule::ReadBoth,
]);

/// The rules that keep every promise with f liars.
const MENDED: Rules = ONE_STEP.with(&[Rule::TwoSteps]);

/// The heads that an owner signs, as a tree, and which of them end an adopt batch.
struct Tree {
    parent: &'static [Head],
    names: &'static [&'static str],
    /// For each head, itself and all that it extends.
    below: Vec<Set>,
    adopts: Set,
}

impl Tree {
    fn new((parent, names): Shape, adopts: &[Head]) -> Self {
        let mut below: Vec<Set> = vec![1];
        for (head, up) in parent.iter().enumerate().skip(1) {
            below.push(below[*up] | bit(head));
        }
        Self { parent, names, below, adopts: set(adopts) }
    }

    fn heads(&self) -> std::ops::Range<Head> {
        0..self.parent.len()
    }

    /// True if `head` is `other` or extends it.
    fn extends(&self, head: Head, other: Head) -> bool {
        self.below[head] & bit(other) != 0
    }

    fn conflict(&self, one: Head, other: Head) -> bool {
        !self.extends(one, other) && !self.extends(other, one)
    }

    /// The version adopted at `head`, counted from 0.
    fn adopted(&self, head: Head) -> usize {
        count(self.adopts & self.below[head])
    }

    /// The version whose quorum certifies `head`: an adopt is certified by the one before it.
    fn governing(&self, head: Head) -> usize {
        count(self.adopts & self.below[head] & !bit(head))
    }

    /// The first head on the way to `head` that `cut` does not have.
    fn branch(&self, head: Head, cut: Head) -> Head {
        (self.below[head] & !self.below[cut]).trailing_zeros() as Head
    }

    /// The adopt batches on the way to `head` that lie before it.
    fn adopts_before(&self, head: Head) -> impl Iterator<Item = Head> {
        members(self.adopts & self.below[head] & !bit(head))
    }
}

/// What is fixed in one exploration.
struct Scenario {
    tree: Tree,
    /// The operators of each version; if there is one more than `valid`, the contested version's.
    sets: Vec<Set>,
    /// How many versions are valid at first; the contested version is the next.
    valid: usize,
    owner: usize,
    liars: Set,
    /// Honest, may have cosigned, and silent for ever.
    dead: Set,
    /// The texts of the contested version that may be drafted.
    texts: Set,
    /// A cut that the newest valid version has already.
    cut_before: Option<Head>,
}

/// An honest operator. `voted` has with each head all that it extends, as a cosignature vouches for those.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
struct Op {
    lock: u8,
    held: u8,
    voted: Set,
    /// The heads at and beyond which it stated that it cosigned none.
    said: Set,
    signed: Set,
    stated: bool,
    left: bool,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct State {
    ops: Vec<Op>,
    agreed: Option<u8>,
}

/// One step of an honest operator, or (agree) of a quorum.
#[derive(Clone, Copy, Debug)]
enum Step {
    Start,
    Cosign(usize, Head),
    TakeCertified(usize, Head),
    Hold(usize, Head),
    StateNone(usize),
    Agree(Text),
    Sign(usize, Text),
    Leave(usize),
}

/// What must hold in every state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Property {
    /// S1: certified heads of a log never conflict.
    OneBranch,
    /// S2: every valid cut has all that is final, and what an earlier cut kept.
    NothingLost,
    /// S3: one valid text per version.
    OneText,
    /// S4: what a reader takes, who goes by one note of a head, is certified.
    ReadCertified,
    /// Every valid cut has all that such a reader takes; follows from S2 and S4.
    ReadKept,
    /// L1: the honest who are there can sign a manifest that cuts the log.
    CanCut,
    /// L2: once a version holds, all that an honest owner signs can be certified.
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

fn cut_of(text: Text) -> Option<Head> {
    text.checked_sub(1)
}

fn liars_max(n: usize) -> usize {
    (n - 1) / 3
}

fn quorum(n: usize) -> usize {
    (n + liars_max(n)) / 2 + 1
}

/// A scenario under a set of rules: who may do what in a state, and what is wrong with it.
struct Model<'a> {
    scenario: &'a Scenario,
    rules: Rules,
    /// Honest operators that nothing tells apart; states are taken up to exchanging them.
    alike: Vec<Vec<usize>>,
}

impl Scenario {
    fn everyone(&self) -> Set {
        self.sets.iter().fold(0, |all, set| all | set)
    }
}
