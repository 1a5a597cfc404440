//! How operators settle on one text of a version before any of them signs it.
//!
//! In numbered attempts: a *word* for one text per attempt; given a quorum's words, a *pledge* in the same attempt;
//! given a quorum's pledges of one attempt, the signature. Who pledged gives its word for another text only when
//! shown a quorum's words for that text in a later attempt than its own pledge. (So do Tendermint's rounds.)
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
