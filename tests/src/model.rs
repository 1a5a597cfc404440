//! An executable model of `adopt` and of cuts: one log, its operators, and every choice up to f of them may make.
//!
//! It has no keys, bytes or network. A liar is taken to have signed everything and to show of it what it likes,
//! so only the honest have state, and a message is "delayed" by the receiver's next step being another one.
//! Evidence that exists may be shown or withheld; what an operator knows of itself it cannot forget.
use std::collections::HashSet;

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
    /// L1: the honest who are there can sign a manifest that cuts the log.
    CanCut,
    /// L2: once a version holds, all that an honest owner signs can be certified.
    CertifiedAgain,
}

use Property::{CanCut, CertifiedAgain, NothingLost, OneBranch};
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

impl<'a> Model<'a> {
    fn new(scenario: &'a Scenario, rules: Rules) -> Self {
        let mut alike: Vec<(Vec<bool>, Vec<usize>)> = Vec::new();
        for op in members(scenario.everyone() & !scenario.liars) {
            let mut kind: Vec<bool> = scenario.sets.iter().map(|set| set & bit(op) != 0).collect();
            kind.extend([scenario.dead & bit(op) != 0, scenario.owner == op]);
            match alike.iter_mut().find(|(other, _)| *other == kind) {
                Some((_, ops)) => ops.push(op),
                None => alike.push((kind, vec![op])),
            }
        }
        Self { scenario, rules, alike: alike.into_iter().map(|(_, ops)| ops).collect() }
    }

    fn start(&self) -> State {
        let first = Op { lock: 0, held: 0, voted: 1, said: 0, signed: 0, stated: false, left: false };
        State { ops: vec![first; 16 - self.scenario.everyone().leading_zeros() as usize], agreed: None }
    }

    fn tree(&self) -> &Tree {
        &self.scenario.tree
    }

    fn honest(&self) -> impl Iterator<Item = usize> {
        members(self.scenario.everyone() & !self.scenario.liars)
    }

    /// The honest of whom `is` holds.
    fn who(&self, state: &State, is: impl Fn(&Op) -> bool) -> Set {
        self.honest().filter(|op| is(&state.ops[*op])).map(bit).sum()
    }

    fn has_quorum(&self, version: usize, who: Set) -> bool {
        let operators = self.scenario.sets[version];
        let q = quorum(count(operators)) - usize::from(!self.rules.has(Rule::QuorumWhole));
        count(operators & who) >= q
    }

    /// True if quorums bear `head`, of each version up to its adopt batch, given who bears a head.
    fn borne(&self, head: Head, bearers: impl Fn(Head) -> Set) -> bool {
        let tree = self.tree();
        let last = if self.rules.has(Rule::NewQuorumBeyond) { tree.governing(head) } else { 0 };
        let old = !self.rules.has(Rule::OldQuorumForAdopt)
            || tree.adopts_before(head).all(|adopt| self.has_quorum(tree.governing(adopt), bearers(adopt)));
        old && self.has_quorum(last, bearers(head))
    }

    /// True if the cosignatures that exist, with the liars' or without, certify `head`.
    fn certified(&self, state: &State, head: Head, liars: bool) -> bool {
        let liars = if liars { self.scenario.liars } else { 0 };
        self.borne(head, |at| liars | self.who(state, |op| op.voted & bit(at) != 0))
    }

    fn is_final(&self, state: &State, head: Head) -> bool {
        if !self.rules.has(Rule::TwoSteps) {
            return self.certified(state, head, true);
        }
        let holds = |op: &Op, at| self.tree().extends(usize::from(op.held), at);
        self.borne(head, |at| self.scenario.liars | self.who(state, |op| holds(op, at)))
    }

    /// The last version on the way to `cut` whose adoption is certified.
    fn certified_version(&self, state: &State, cut: Head, liars: bool) -> usize {
        let tree = self.tree();
        let adopts = members(tree.adopts & tree.below[cut]);
        adopts.take_while(|adopt| self.certified(state, *adopt, liars)).count()
    }

    /// True if `signers` are enough for `text`; `liars` says whether the liars' cosignatures are there as evidence.
    fn suffices(&self, state: &State, text: Text, signers: Set, liars: bool) -> bool {
        let lag = cut_of(text).is_none_or(|cut| {
            let (known, at) = (self.certified_version(state, cut, liars), self.tree().adopted(cut));
            let quorum = |version| self.has_quorum(version, signers);
            let whole = !self.rules.has(Rule::LagWhole) || (known..=at).all(quorum);
            let at_cut = !self.rules.has(Rule::LagAtCut) || quorum(at);
            whole && at_cut && (!self.rules.has(Rule::LagAtKnown) || (0..=known).any(quorum))
        });
        lag && self.has_quorum(self.scenario.valid - 1, signers)
    }

    fn holds(&self, state: &State, text: Text) -> bool {
        let signers = self.scenario.liars | self.who(state, |op| op.signed & bit(text) != 0);
        self.suffices(state, text, signers, true)
    }

    /// How many statements free an operator from a branch that begins under `version`.
    fn statements_needed(&self, version: usize) -> usize {
        let n = count(self.scenario.sets[version]);
        let f = if self.rules.has(Rule::Fifth) { (n + 1) / 5 } else { liars_max(n) };
        let outside = self.scenario.sets[version] & bit(self.scenario.owner) == 0;
        let more = usize::from(self.rules.has(Rule::OwnerAmongLiars) && outside);
        n - quorum(n) + f + more - usize::from(!self.rules.has(Rule::StatementsWhole))
    }

    fn stated_none(&self, state: &State, cut: Head, lock: Head, liars: bool) -> bool {
        let branch = self.tree().branch(lock, cut);
        let newest = self.scenario.valid - 1;
        let version =
            if self.rules.has(Rule::VersionOfBranch) { self.tree().governing(branch).min(newest) } else { newest };
        let mut who = self.who(state, |op| op.said & bit(branch) != 0) | if liars { self.scenario.liars } else { 0 };
        if self.rules.has(Rule::OthersOnly) {
            who &= !bit(self.scenario.owner);
        }
        let proven = self.scenario.liars & bit(self.scenario.owner) != 0 || !self.rules.has(Rule::ProofToGiveUp);
        proven && count(who & self.scenario.sets[version]) >= self.statements_needed(version)
    }

    /// True if the operator may sign a cut at `cut`; `liars` as in [`Self::certified`], and for their statements.
    fn accepts(&self, state: &State, op: usize, cut: Head, liars: bool) -> bool {
        if self.rules.has(Rule::CutStands) && self.scenario.cut_before.is_some_and(|before| before != cut) {
            return false;
        }
        if !self.rules.has(Rule::CutExtends) {
            return true;
        }
        let (lock, held) = (usize::from(state.ops[op].lock), usize::from(state.ops[op].held));
        if self.rules.has(Rule::TwoSteps) {
            return self.tree().extends(cut, held);
        }
        let another = |head| self.tree().conflict(head, lock) && self.certified(state, head, liars);
        self.tree().extends(cut, lock) || self.tree().heads().any(another) || self.stated_none(state, cut, lock, liars)
    }

    fn accepts_text(&self, state: &State, op: usize, text: Text, liars: bool) -> bool {
        cut_of(text).is_none_or(|cut| self.accepts(state, op, cut, liars))
    }

    /// True if no cut that the operator signed ends before `head`.
    fn within_cuts(&self, op: &Op, head: Head) -> bool {
        let beyond = |text| cut_of(text).is_some_and(|cut| !self.tree().extends(cut, head));
        !self.rules.has(Rule::StopAtCut) || !members(op.signed).any(beyond)
    }

    /// True if the version that `head` adopts, if any, is there to be adopted.
    fn adoptable(&self, state: &State, head: Head) -> bool {
        let is_adopt = self.tree().adopts & bit(head) != 0;
        !is_adopt || self.tree().adopted(head) < self.scenario.valid || self.holds(state, UNCUT)
    }

    fn may_cosign(&self, state: &State, op: usize, head: Head) -> bool {
        let me = &state.ops[op];
        let next = if self.rules.has(Rule::CosignExtends) {
            self.tree().parent[head] == usize::from(me.lock) && head != 0
        } else {
            me.voted & bit(head) == 0
        };
        next && self.within_cuts(me, head) && self.adoptable(state, head)
    }

    fn may_hold(&self, state: &State, op: usize, head: Head) -> bool {
        let (me, held) = (&state.ops[op], usize::from(state.ops[op].held));
        let larger = head != held && self.tree().extends(head, held);
        self.rules.has(Rule::TwoSteps) && larger && self.within_cuts(me, head) && self.certified(state, head, true)
    }

    fn may_take(&self, state: &State, op: usize, head: Head) -> bool {
        self.tree().conflict(head, usize::from(state.ops[op].lock)) && self.certified(state, head, true)
    }

    fn may_agree(&self, state: &State, text: Text) -> bool {
        if !self.rules.has(Rule::AgreeFirst) || state.agreed.is_some() {
            return false;
        }
        let ready = |op: &usize| text == UNCUT || state.ops[*op].stated && self.accepts_text(state, *op, text, true);
        let agreeing: Set = self.honest().filter(ready).map(bit).sum();
        self.suffices(state, text, agreeing | self.scenario.liars, true)
    }

    fn may_sign(&self, state: &State, op: usize, text: Text) -> bool {
        let me = &state.ops[op];
        if self.scenario.dead & bit(op) != 0 || me.signed & bit(text) != 0 {
            return false;
        }
        if self.rules.has(Rule::OneText) && me.signed != 0 {
            return false;
        }
        match (self.rules.has(Rule::AgreeFirst), state.agreed) {
            (true, agreed) => agreed.map(usize::from) == Some(text),
            (false, _) => self.accepts_text(state, op, text, true),
        }
    }

    /// A removed operator may go once its version's duty is done: see [`Rule::AllGoOn`].
    fn may_leave(&self, state: &State, op: usize) -> bool {
        let Some(new) = self.scenario.sets.get(self.scenario.valid) else { return false };
        let bound = self.rules.has(Rule::AllGoOn) || state.ops[op].signed != 0;
        new & bit(op) == 0 && !bound && self.holds(state, UNCUT)
    }

    /// Every step possible in `state`.
    fn steps(&self, state: &State) -> Vec<Step> {
        let mut steps = Vec::new();
        for op in self.honest().filter(|op| !state.ops[*op].left) {
            self.steps_of(state, op, &mut steps);
        }
        steps.extend(members(self.scenario.texts).filter(|text| self.may_agree(state, *text)).map(Step::Agree));
        steps
    }

    fn steps_of(&self, state: &State, op: usize, steps: &mut Vec<Step>) {
        let me = &state.ops[op];
        let texts = members(self.scenario.texts);
        steps.extend(texts.filter(|text| self.may_sign(state, op, *text)).map(|text| Step::Sign(op, text)));
        if self.may_leave(state, op) {
            steps.push(Step::Leave(op));
        }
        let resumed = state.agreed.map(usize::from) == Some(UNCUT);
        if me.stated && self.rules.has(Rule::StatementsBind) && !resumed {
            return;
        }
        for head in self.tree().heads() {
            steps.extend(self.may_cosign(state, op, head).then_some(Step::Cosign(op, head)));
            steps.extend(self.may_hold(state, op, head).then_some(Step::Hold(op, head)));
            steps.extend(self.may_take(state, op, head).then_some(Step::TakeCertified(op, head)));
        }
        if !me.stated && self.scenario.texts & !1 != 0 && self.scenario.dead & bit(op) == 0 {
            steps.push(Step::StateNone(op));
        }
    }

    fn all_heads(&self) -> Set {
        bit(self.tree().parent.len()) - 1
    }

    fn apply(&self, state: &State, step: Step) -> State {
        let mut next = state.clone();
        match step {
            Step::Start => {}
            Step::Cosign(op, head) => {
                next.ops[op].lock = head as u8;
                next.ops[op].voted |= self.tree().below[head];
            }
            Step::TakeCertified(op, head) => next.ops[op].lock = head as u8,
            Step::Hold(op, head) => next.ops[op].held = head as u8,
            Step::StateNone(op) => self.state_none(&mut next.ops[op]),
            Step::Agree(text) => next.agreed = Some(text as u8),
            Step::Sign(op, text) => self.sign(&mut next.ops[op], text),
            Step::Leave(op) => next.ops[op].left = true,
        }
        next
    }

    /// Who gave up a head for the cut's sake may cosign up to the cut; with two steps it needs to no more.
    fn sign(&self, op: &mut Op, text: Text) {
        op.signed |= bit(text);
        let Some(cut) = cut_of(text) else { return };
        op.stated |= self.rules.has(Rule::TwoSteps);
        let shared = self.tree().below[cut] & self.tree().below[usize::from(op.lock)];
        op.lock = shared.ilog2() as u8;
    }

    fn state_none(&self, op: &mut Op) {
        op.said |= self.all_heads() & !op.voted;
        op.stated = true;
    }

    /// For each place in a state's normal form, the place its operator comes from.
    fn order(&self, state: &State) -> Vec<usize> {
        let mut order: Vec<usize> = (0..state.ops.len()).collect();
        for ops in &self.alike {
            let mut sorted = ops.clone();
            sorted.sort_by_key(|op| state.ops[*op]);
            ops.iter().zip(sorted).for_each(|(op, from)| order[*op] = from);
        }
        order
    }

    /// The same state for all ways to exchange operators that are alike.
    fn normal(&self, state: &State) -> State {
        State { ops: self.order(state).iter().map(|from| state.ops[*from]).collect(), agreed: state.agreed }
    }

    /// The steps in words, each operator under one number all along.
    fn story(&self, steps: &[Step]) -> String {
        let mut state = self.start();
        let mut names: Vec<usize> = (0..state.ops.len()).collect();
        let mut told = Vec::new();
        for step in steps {
            told.push(self.tell(*step, &names));
            let next = self.apply(&state, *step);
            names = self.order(&next).iter().map(|from| names[*from]).collect();
            state = self.normal(&next);
        }
        told.join("; ")
    }

    fn tell(&self, step: Step, names: &[usize]) -> String {
        let head = |head: Head| self.tree().names[head];
        let text = |text| cut_of(text).map_or("no cut".to_owned(), |cut| format!("a cut at {}", head(cut)));
        match step {
            Step::Start => String::new(),
            Step::Cosign(op, at) => format!("{} cosigns {}", names[op], head(at)),
            Step::TakeCertified(op, at) => format!("{} takes {}", names[op], head(at)),
            Step::Hold(op, at) => format!("{} holds {} certified", names[op], head(at)),
            Step::StateNone(op) => format!("{} states", names[op]),
            Step::Agree(what) => format!("agreed: {}", text(what)),
            Step::Sign(op, what) => format!("{} signs {}", names[op], text(what)),
            Step::Leave(op) => format!("{} leaves", names[op]),
        }
    }

    /// The first of the watched properties that `state` breaks.
    fn broken(&self, state: &State, watched: &[Property]) -> Option<Property> {
        watched.iter().copied().find(|property| match property {
            OneBranch => self.two_branches(state),
            NothingLost => self.something_lost(state),
            Property::OneText => members(self.scenario.texts).filter(|text| self.holds(state, *text)).count() > 1,
            CanCut => !self.can_cut(state),
            CertifiedAgain => !self.certified_again(state),
        })
    }

    fn two_branches(&self, state: &State) -> bool {
        let certified: Vec<Head> = self.tree().heads().filter(|head| self.certified(state, *head, true)).collect();
        certified.iter().any(|one| certified.iter().any(|other| self.tree().conflict(*one, *other)))
    }

    fn something_lost(&self, state: &State) -> bool {
        let cuts = members(self.scenario.texts & !1).filter(|text| self.holds(state, *text)).filter_map(cut_of);
        let kept: Vec<Head> = self.tree().heads().filter(|head| self.is_final(state, *head)).collect();
        cuts.into_iter()
            .any(|cut| kept.iter().chain(&self.scenario.cut_before).any(|head| !self.tree().extends(cut, *head)))
    }

    /// The honest who answer: neither dead nor gone.
    fn present(&self, state: &State) -> Set {
        self.who(state, |op| !op.left) & !self.scenario.dead
    }

    /// True if, from here on without the liars, some cut can be signed (or the version holds without one).
    fn can_cut(&self, state: &State) -> bool {
        let mut calm = state.clone();
        members(self.present(state)).for_each(|op| self.state_none(&mut calm.ops[op]));
        let texts = self.scenario.texts;
        if texts & !1 == 0 || members(texts).any(|text| self.holds(state, text)) {
            return true;
        }
        match (self.rules.has(Rule::AgreeFirst), state.agreed) {
            (true, Some(text)) => self.suffices(&calm, usize::from(text), self.present(state), true),
            _ => members(texts & !1).any(|text| self.could_sign(&calm, text)),
        }
    }

    fn could_sign(&self, calm: &State, text: Text) -> bool {
        let would = |op: &usize| match calm.ops[*op].signed {
            0 => self.accepts_text(calm, *op, text, false),
            signed => signed & bit(text) != 0,
        };
        let signers: Set = members(self.present(calm)).filter(would).map(bit).sum();
        self.suffices(calm, text, signers, false)
    }

    /// True unless the new version holds, the owner is honest, and the present can't certify the last head.
    fn certified_again(&self, state: &State) -> bool {
        let owner_lies = self.scenario.liars & bit(self.scenario.owner) != 0;
        if owner_lies || self.scenario.sets.len() == self.scenario.valid || !self.holds(state, UNCUT) {
            return true;
        }
        let last = self.tree().parent.len() - 1;
        self.borne(last, |at| self.present(state) | self.who(state, |op| op.voted & bit(at) != 0))
    }
}

impl Scenario {
    fn everyone(&self) -> Set {
        self.sets.iter().fold(0, |all, set| all | set)
    }
}

/// What an exploration found. `first` is a shortest way to a state that breaks a property.
struct Found {
    states: usize,
    broken: usize,
    first: Option<(Property, String)>,
    whole: bool,
}

impl Found {
    fn property(&self) -> Option<Property> {
        self.first.as_ref().map(|(property, _)| *property)
    }
}

/// So many states an exploration visits before it ends without a claim to be whole.
const STATES_MAX: usize = 400_000;

/// Explores all states breadth first; stops at the first broken one unless `whole`.
fn explore(scenario: &Scenario, rules: Rules, watched: &[Property], whole: bool) -> Found {
    let model = Model::new(scenario, rules);
    let mut seen = HashSet::from([model.start()]);
    let mut queue = vec![(model.start(), 0, Step::Start)];
    let mut found = Found { states: 0, broken: 0, first: None, whole: true };
    while let Some((state, ..)) = queue.get(found.states).cloned() {
        if let Some(property) = model.broken(&state, watched) {
            found.broken += 1;
            found.first.get_or_insert_with(|| (property, model.story(&steps_to(&queue, found.states))));
            if !whole {
                return found;
            }
        }
        for step in model.steps(&state) {
            let next = model.normal(&model.apply(&state, step));
            if seen.insert(next.clone()) {
                queue.push((next, found.states, step));
            }
        }
        found.states += 1;
        if found.states == STATES_MAX {
            return Found { whole: false, ..found };
        }
    }
    found
}

fn steps_to(queue: &[(State, usize, Step)], mut at: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    while at > 0 {
        steps.push(queue[at].2);
        at = queue[at].1;
    }
    steps.reverse();
    steps
}

/// Goes `walks` random ways of at most `steps_max` steps from the start. One seed, one run.
fn wander(scenario: &Scenario, rules: Rules, watched: &[Property], walks: usize, mut seed: u64) -> Found {
    const STEPS_MAX: usize = 60;
    let model = Model::new(scenario, rules);
    let mut found = Found { states: 0, broken: 0, first: None, whole: false };
    for _ in 0..walks {
        let mut state = model.start();
        let mut taken = Vec::new();
        while taken.len() < STEPS_MAX && found.first.is_none() {
            found.states += 1;
            if let Some(property) = model.broken(&state, watched) {
                found.broken += 1;
                found.first = Some((property, model.story(&taken)));
            }
            let steps = model.steps(&state);
            let Some(step) = steps.get(draw(&mut seed, steps.len())) else { break };
            taken.push(*step);
            state = model.normal(&model.apply(&state, *step));
        }
    }
    found
}

/// A number below `bound`, or 0 (xorshift64).
fn draw(seed: &mut u64, bound: usize) -> usize {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    (*seed % bound.max(1) as u64) as usize
}

/// How operators settle on one text of a version before any of them signs it.
///
/// In numbered attempts: a *word* for one text per attempt; given a quorum's words, a *pledge* in the same attempt;
/// given a quorum's pledges of one attempt, the signature. Who pledged gives its word for another text only when
/// shown a quorum's words for that text in a later attempt than its own pledge. (So do Tendermint's rounds.)
mod agreement {
    use std::collections::HashSet;

    /// Attempts explored; the honest may always begin one more.
    const ATTEMPTS: usize = 2;
    const TEXTS: u8 = 2;

    /// What an operator heeds; all of it in [`MENDED`].
    #[derive(Clone, Copy)]
    pub(super) struct Rules {
        /// Sign on a quorum's pledges, not at once.
        pub(super) pledges_first: bool,
        /// Pledge on a quorum's words only.
        pub(super) words_first: bool,
        /// A pledge binds later words.
        pub(super) pledge_binds: bool,
        /// A pledge is loosed by a quorum's words of a later attempt.
        pub(super) words_loose: bool,
    }

    pub(super) const MENDED: Rules =
        Rules { pledges_first: true, words_first: true, pledge_binds: true, words_loose: true };

    /// An honest operator; 0 is none, texts count from 1.
    #[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
    struct Op {
        word: [u8; ATTEMPTS],
        pledge: [u8; ATTEMPTS],
        signed: u8,
    }

    impl Op {
        /// The attempt it has reached: it acts in no earlier one.
        fn attempt(&self) -> usize {
            (0..ATTEMPTS).rev().find(|at| self.word[*at] != 0 || self.pledge[*at] != 0).unwrap_or(0)
        }

        fn last_pledge(&self) -> Option<(usize, u8)> {
            (0..ATTEMPTS).rev().map(|at| (at, self.pledge[at])).find(|(_, text)| *text != 0)
        }
    }

    struct Model {
        rules: Rules,
        liars: usize,
        quorum: usize,
    }

    type State = Vec<Op>;

    impl Model {
        fn quorum_of(&self, state: &State, is: impl Fn(&Op) -> bool) -> bool {
            state.iter().filter(|op| is(op)).count() + self.liars >= self.quorum
        }

        /// True if a quorum's words for `text` in an attempt between `from` and `to` can be shown. In the attempt
        /// that the honest begin alone, only those that one of them keeps with its pledge.
        fn loosed(&self, state: &State, from: usize, to: usize, text: u8) -> bool {
            let kept = |at: usize| to < ATTEMPTS || state.iter().any(|op| op.pledge[at] == text);
            let words = |at: usize| self.quorum_of(state, |op| op.word[at] == text);
            self.rules.words_loose && (from + 1..to).any(|at| words(at) && kept(at))
        }

        fn may_word(&self, state: &State, op: &Op, at: usize, text: u8) -> bool {
            let free = op.word.get(at).is_none_or(|word| *word == 0) && at >= op.attempt();
            let bound = op.last_pledge().filter(|_| self.rules.pledge_binds);
            free && bound.is_none_or(|(from, pledged)| pledged == text || self.loosed(state, from, at, text))
        }

        fn may_pledge(&self, state: &State, op: &Op, at: usize, text: u8) -> bool {
            let words = !self.rules.words_first || self.quorum_of(state, |other| other.word[at] == text);
            words && op.pledge[at] == 0 && at >= op.attempt()
        }

        fn may_sign(&self, state: &State, op: &Op, text: u8) -> bool {
            let pledged = |at| self.quorum_of(state, |other| other.pledge[at] == text);
            op.signed == 0 && (!self.rules.pledges_first || (0..ATTEMPTS).any(pledged))
        }

        fn next(&self, state: &State) -> Vec<State> {
            let mut all = Vec::new();
            for (index, op) in state.iter().enumerate() {
                for text in 1..=TEXTS {
                    all.extend(self.acts(state, op, text).into_iter().map(|after| {
                        let mut next = state.clone();
                        next[index] = after;
                        next.sort_unstable();
                        next
                    }));
                }
            }
            all
        }

        fn acts(&self, state: &State, op: &Op, text: u8) -> Vec<Op> {
            let mut acts = Vec::new();
            for at in 0..ATTEMPTS {
                let (mut word, mut pledge) = (*op, *op);
                word.word[at] = text;
                pledge.pledge[at] = text;
                acts.extend(self.may_word(state, op, at, text).then_some(word));
                acts.extend(self.may_pledge(state, op, at, text).then_some(pledge));
            }
            acts.extend(self.may_sign(state, op, text).then_some(Op { signed: text, ..*op }));
            acts
        }

        /// True if the honest alone can bring some text to a quorum, in an attempt after all that began.
        fn can_settle(&self, state: &State) -> bool {
            (1..=TEXTS).any(|text| {
                let would = |op: &&Op| match op.signed {
                    0 => !self.rules.pledges_first || self.may_word(state, op, ATTEMPTS, text),
                    signed => signed == text,
                };
                state.iter().filter(would).count() >= self.quorum
            })
        }
    }

    /// The states visited, and whether in each of them the honest can still settle on one text.
    pub(super) fn settles(n: usize, rules: Rules) -> (usize, bool) {
        let liars = super::liars_max(n);
        let model = Model { rules, liars, quorum: super::quorum(n) };
        let mut queue: Vec<State> = vec![vec![Op::default(); n - liars]];
        let mut seen: HashSet<State> = queue.iter().cloned().collect();
        let mut at = 0;
        while let Some(state) = queue.get(at).cloned() {
            at += 1;
            if !model.can_settle(&state) {
                return (at, false);
            }
            queue.extend(model.next(&state).into_iter().filter(|next| seen.insert(next.clone())));
        }
        (at, true)
    }
}

const R: Head = 0;
const A1: Head = 1;
/// In [`TWIG`].
const B1: Head = 2;
/// R – A1 – A2.
const LINE: Shape = (&[0, 0, 1], &["R", "A1", "A2"]);
/// R – A1 and R – B1.
const TWIG: Shape = (&[0, 0, 0], &["R", "A1", "B1"]);
/// R – A1 – A2 and R – B1.
const FORK: Shape = (&[0, 0, 1, 0], &["R", "A1", "A2", "B1"]);

/// R – T, T – A1 and T – B1.
const LATE: Shape = (&[0, 0, 1, 1], &["R", "T", "A1", "B1"]);
/// R – A1 – A2 – A3, A1 – C2 and R – B1 – B2 – B3.
const DEEP: Shape = (&[0, 0, 1, 2, 1, 0, 5, 6], &["R", "A1", "A2", "A3", "C2", "B1", "B2", "B3"]);

/// The first rules and the one gap of theirs that breaks safety at once closed.
const GUARDED: Rules = FIRST.with(&[Rule::StatementsBind]);

/// Operator 0 owns the log; all of `sets` hold already, and the next version may cut anywhere.
fn scenario(sets: &[&[usize]], liars: &[usize], shape: Shape, adopts: &[Head]) -> Scenario {
    Scenario {
        tree: Tree::new(shape, adopts),
        sets: sets.iter().map(|operators| set(operators)).collect(),
        valid: sets.len(),
        owner: 0,
        liars: set(liars),
        dead: 0,
        texts: (bit(shape.0.len()) - 1) << 1,
        cut_before: None,
    }
}

fn one_version(n: usize, liars: &[usize], shape: Shape) -> Scenario {
    let all: Vec<usize> = (0..n).collect();
    scenario(&[&all], liars, shape, &[])
}

/// The last of `sets` is the operators of the contested version, which the log may adopt when it holds.
fn contested(mut scenario: Scenario, texts: Set) -> Scenario {
    scenario.valid -= 1;
    scenario.texts = texts;
    scenario
}

fn with_cuts(mut scenario: Scenario, cuts: &[Head]) -> Scenario {
    scenario.texts = cuts.iter().map(|cut| bit(cut + 1)).sum();
    scenario
}

/// Asserts that every reachable state keeps the watched properties; gives the number of states.
fn holds(scenario: &Scenario, rules: Rules, watched: &[Property]) -> usize {
    let found = explore(scenario, rules, watched, false);
    assert_eq!(found.first, None, "of sets {:?}", scenario.sets);
    assert!(found.whole, "too large to explore whole: {:?}", scenario.sets);
    found.states
}

/// Asserts that a shortest way to a broken state is `story`.
fn breaks(scenario: &Scenario, rules: Rules, watched: &[Property], property: Property, story: &str) {
    let found = explore(scenario, rules, watched, false);
    assert_eq!(found.first, Some((property, story.to_owned())));
}

/// The log is at version 1 or, on branch A, 2; operator 1 is replaced by 4 in version 2; version 3 may cut at A1.
fn lagging() -> Scenario {
    with_cuts(scenario(&[&[0, 1, 2, 3], &[0, 2, 3, 4]], &[0], FORK, &[A1]), &[A1])
}

/// On branch A two versions have passed that the log did not adopt, or only one of them; version 4 may cut at A1.
fn lagging_twice() -> Scenario {
    let sets: &[&[usize]] = &[&[0, 1, 2, 3], &[0, 2, 3, 4], &[0, 3, 4, 5]];
    with_cuts(scenario(sets, &[0], LINE, &[A1]), &[A1])
}

/// Version 2, adopted at T, has the owner no more but leaves its log uncut; 4 is version 2's liar.
fn owner_removed() -> Scenario {
    scenario(&[&[0, 1, 2, 3], &[1, 2, 3, 4]], &[0, 4], LATE, &[A1])
}

fn cut_before() -> Scenario {
    Scenario { cut_before: Some(A1), ..one_version(4, &[0], TWIG) }
}

/// Version 2 replaces operator 1 by 4; 2 owns the log, is honest, and adopts it at A1.
fn replaced() -> Scenario {
    let sets = scenario(&[&[0, 1, 2, 3], &[0, 2, 3, 4]], &[0], LINE, &[A1]);
    Scenario { owner: 2, ..contested(sets, bit(UNCUT)) }
}

/// The owner is honest and dead; another lies.
fn owner_dead() -> Scenario {
    Scenario { dead: bit(0), ..one_version(4, &[1], LINE) }
}

/// Half of version 1 is replaced in version 2; the fork lies under version 1.
fn half_replaced() -> Scenario {
    with_cuts(scenario(&[&[0, 1, 2, 3], &[0, 1, 4, 5]], &[0], TWIG, &[]), &[R])
}

/// A certificate was lost when who had stated "I cosigned none" cosigned afterwards: the statement had freed
/// operator 2 of its head, and the head was certified a moment later.
#[test]
fn a_statement_must_bind() {
    let story = "1 signs a cut at R; 2 cosigns A1; 3 states; 1 states; 3 cosigns A1; 2 signs a cut at R";
    breaks(&one_version(4, &[0], FORK), FIRST, SAFE, NothingLost, story);
    holds(&one_version(4, &[0], FORK), GUARDED, SAFE);
}

/// Two honest operators signed different texts of a version; with the fourth silent none can get a quorum, ever.
/// No lie is needed: the owner may just be dead, and the two have heard of different heads of its log.
#[test]
fn signing_before_agreeing_ends_the_manifest() {
    let story = "1 signs a cut at R; 2 signs a cut at A1";
    let dead = Scenario { dead: bit(0), ..one_version(4, &[], LINE) };
    for scenario in [&dead, &one_version(4, &[0], FORK)] {
        breaks(scenario, GUARDED, &[CanCut], CanCut, story);
        breaks(scenario, MENDED.without(Rule::AgreeFirst), ALL, CanCut, story);
        holds(scenario, ONE_STEP, ALL);
        holds(scenario, MENDED, ALL);
    }
}

/// "The version the log is at" was read off the branch that the signers saw, or off what they knew certified:
/// either loses a certificate that another version's quorum gave.
#[test]
fn a_lagging_log_is_cut_by_every_version_it_may_be_at() {
    let whole = GUARDED.without(Rule::LagAtCut).with(&[Rule::LagWhole]);
    let known = GUARDED.without(Rule::LagAtCut).with(&[Rule::LagAtKnown]);
    let story = "1 cosigns B1; 2 signs a cut at A1; 3 cosigns B1; 4 signs a cut at A1";
    breaks(&lagging(), GUARDED, SAFE, NothingLost, story);
    assert_eq!(explore(&lagging_twice(), known, SAFE, false).property(), Some(NothingLost));
    holds(&lagging(), whole, SAFE);
    holds(&lagging_twice(), whole, SAFE);
}

/// An owner that is no operator of the branch's version is not one of that version's f liars.
#[test]
fn a_removed_owner_must_be_cut() {
    assert_eq!(explore(&owner_removed(), GUARDED, SAFE, false).property(), Some(NothingLost));
    holds(&owner_removed(), ONE_STEP, SAFE);
    holds(&owner_removed(), MENDED, ALL);
}

/// Who never cosigned in a log could sign another cut of it in a later version.
#[test]
fn a_cut_must_stand() {
    breaks(&cut_before(), GUARDED, SAFE, NothingLost, "1 signs a cut at R; 2 signs a cut at R");
    holds(&cut_before(), ONE_STEP, SAFE);
}

/// A liar's signature made the quorum for version 2, operator 1 had not signed and went: the old quorum was gone.
#[test]
fn all_old_operators_must_go_on() {
    let story = "2 signs no cut; 3 signs no cut; 1 leaves";
    breaks(&replaced(), FIRST, ALL, CertifiedAgain, story);
    holds(&replaced(), ONE_STEP, ALL);
    holds(&replaced(), MENDED, ALL);
}

/// With one round of cosignatures an owner that splits the honest of seven in equal parts stops its log for ever
/// (one round needs n ≥ 5f − 1 and q = n − f at least). Asking for fewer statements frees the log, and loses
/// certificates to a second liar.
#[test]
fn one_step_stops_seven() {
    let stuck = |liars, story: &str| {
        let found = explore(&one_version(7, liars, FORK), ONE_STEP, &[CanCut], true);
        assert_eq!(found.first, Some((CanCut, story.to_owned())));
        holds(&one_version(7, liars, FORK), ONE_STEP, SAFE);
        (found.states, found.broken)
    };
    let thrice = "1 cosigns A1; 2 cosigns A1; 3 cosigns A1; 4 cosigns B1; 5 cosigns B1; 6 cosigns B1";
    assert_eq!(stuck(&[0], thrice), (59_093, 80));
    assert_eq!(stuck(&[0, 1], "2 cosigns A1; 3 cosigns A1; 4 cosigns B1; 5 cosigns B1"), (32_266, 400));
    let fifth = ONE_STEP.with(&[Rule::Fifth]);
    holds(&one_version(7, &[0], FORK), fifth, ALL);
    assert_eq!(explore(&one_version(7, &[0, 1], FORK), fifth, ALL, false).property(), Some(NothingLost));
}

/// The model can fail: without any one rule, some property breaks.
#[test]
fn every_rule_is_needed() {
    let whole = GUARDED.without(Rule::LagAtCut).with(&[Rule::LagWhole]);
    let four = one_version(4, &[0], FORK);
    let seven = one_version(7, &[0], TWIG);
    let table: &[(Rule, Rules, &Scenario, Property)] = &[
        (Rule::QuorumWhole, GUARDED, &four, Property::OneText),
        (Rule::CosignExtends, GUARDED, &four, OneBranch),
        (Rule::OneText, GUARDED, &four, Property::OneText),
        (Rule::CutExtends, GUARDED, &four, NothingLost),
        (Rule::StopAtCut, GUARDED, &four, NothingLost),
        (Rule::StatementsWhole, GUARDED, &four, NothingLost),
        (Rule::OthersOnly, GUARDED, &four, NothingLost),
        (Rule::StatementsBind, GUARDED, &four, NothingLost),
        (Rule::LagAtCut, GUARDED, &lagging(), NothingLost),
        (Rule::ProofToGiveUp, whole, &owner_dead(), NothingLost),
        (Rule::VersionOfBranch, whole, &half_replaced(), NothingLost),
        (Rule::OldQuorumForAdopt, whole, &lagging(), OneBranch),
        (Rule::NewQuorumBeyond, whole, &lagging(), NothingLost),
        (Rule::LagWhole, whole, &lagging(), NothingLost),
        (Rule::CutStands, ONE_STEP, &cut_before(), NothingLost),
        (Rule::AgreeFirst, ONE_STEP, &four, CanCut),
        (Rule::AllGoOn, ONE_STEP, &replaced(), CertifiedAgain),
        (Rule::QuorumWhole, MENDED, &four, OneBranch),
        (Rule::CosignExtends, MENDED, &four, OneBranch),
        (Rule::CutExtends, MENDED, &four, NothingLost),
        (Rule::StatementsBind, MENDED, &four, OneBranch),
        (Rule::CutStands, MENDED, &cut_before(), NothingLost),
        (Rule::AgreeFirst, MENDED, &four, CanCut),
        (Rule::AllGoOn, MENDED, &replaced(), CertifiedAgain),
        (Rule::TwoSteps, MENDED, &seven, CanCut),
    ];
    for (rule, rules, scenario, property) in table {
        let found = explore(scenario, rules.without(*rule), ALL_BUT_CUT, false).property();
        let found = found.or_else(|| explore(scenario, rules.without(*rule), ALL, false).property());
        assert_eq!(found, Some(*property), "without {rule:?}");
    }
    for (rules, scenario) in [(whole, &owner_dead()), (whole, &half_replaced())] {
        holds(scenario, rules, SAFE);
    }
}

/// All that f liars can do to a fork of few heads.
#[test]
fn mended_rules_hold_for_every_fork() {
    for n in [4, 5, 6, 7] {
        holds(&one_version(n, &[0], TWIG), MENDED, ALL);
    }
    holds(&one_version(7, &[0, 1], TWIG), MENDED, ALL);
    holds(&one_version(4, &[0], FORK), MENDED, ALL);
    for n in [4, 5, 6] {
        holds(&one_version(n, &[0], FORK), ONE_STEP, ALL);
    }
    holds(&one_version(4, &[0], DEEP), ONE_STEP, ALL);
}

/// One operator more, one less, one for another: while the log lags behind, and while it adopts.
#[test]
fn mended_rules_hold_while_operators_change() {
    let changes: [[&[usize]; 2]; 3] =
        [[&[0, 1, 2, 3], &[0, 1, 2, 3, 4]], [&[0, 1, 2, 3, 4], &[0, 1, 2, 3]], [&[0, 1, 2, 3], &[0, 2, 3, 4]]];
    for sets in &changes {
        let lagging = scenario(sets, &[0], TWIG, &[A1]);
        let adopting = contested(scenario(sets, &[0], FORK, &[A1]), bit(UNCUT));
        let honest_owner = Scenario { owner: 2, ..contested(scenario(sets, &[0], LINE, &[A1]), bit(UNCUT)) };
        for rules in [ONE_STEP, MENDED] {
            holds(&lagging, rules, ALL);
            holds(&adopting, rules, ALL);
            holds(&honest_owner, rules, ALL);
        }
    }
    let cut_or_not = contested(scenario(&changes[1], &[0], TWIG, &[A1]), bit(UNCUT) | bit(A1 + 1) | bit(B1 + 1));
    holds(&cut_or_not, ONE_STEP, ALL);
    holds(&cut_or_not, MENDED, ALL);
}

/// Seven operators, deep forks and changing operators: random ways, which also find what the first rules lose.
#[test]
fn mended_rules_hold_on_random_ways() {
    let first: &[usize] = &[0, 1, 2, 3, 4, 5, 6];
    let second: [&[usize]; 3] = [&[0, 1, 2, 3, 4, 5, 6, 7], &[0, 1, 3, 4, 5, 6], &[0, 1, 3, 4, 5, 6, 7]];
    let mut scenarios = vec![one_version(7, &[0, 1], DEEP), one_version(4, &[0], DEEP)];
    for sets in second {
        let liars: &[usize] = if sets.len() < 7 { &[0] } else { &[0, 1] };
        scenarios.push(scenario(&[first, sets], liars, DEEP, &[A1]));
        scenarios.push(contested(scenario(&[first, sets], liars, DEEP, &[A1]), bit(DEEP.0.len() + 1) - 1));
    }
    for (seed, scenario) in (1..).zip(&scenarios) {
        assert_eq!(wander(scenario, MENDED, ALL, 1_000, seed).first, None, "seed {seed}");
        assert_eq!(wander(scenario, ONE_STEP, SAFE, 1_000, seed).first, None, "seed {seed}");
    }
    assert_eq!(wander(&scenarios[0], FIRST, SAFE, 20_000, 7).property(), Some(NothingLost));
}

/// Operators always come to one text, and not without any of the agreement's rules.
#[test]
fn agreement_settles() {
    use agreement::{MENDED, Rules, settles};
    assert!(settles(4, MENDED).1);
    for broken in [
        Rules { pledges_first: false, ..MENDED },
        Rules { words_first: false, ..MENDED },
        Rules { pledge_binds: false, ..MENDED },
        Rules { words_loose: false, ..MENDED },
    ] {
        assert!(!settles(4, broken).1);
    }
}
