//! How operators settle on one text of a version before any of them signs it.
//!
//! In numbered attempts: each operator *approves* one text per attempt; after a quorum's approvals it *pledges* that
//! text in the same attempt; after a quorum's pledges of one attempt it signs. An operator that pledged approves
//! another text only when shown a quorum's approvals of that text in a later attempt than its own pledge.
//! (Tendermint's rounds work the same way.)
use std::collections::HashSet;

/// Attempts explored; the honest can always begin one more.
const ATTEMPTS: usize = 2;
const TEXTS: u8 = 2;

/// The conditions that an operator heeds; [`MENDED`] has all of them.
#[derive(Clone, Copy)]
pub(super) struct AgreementRules {
    /// Sign only after a quorum's pledges, not at once.
    pub(super) pledges_first: bool,
    /// Pledge only after a quorum's approvals.
    pub(super) approvals_first: bool,
    /// A pledge binds later approvals.
    pub(super) pledge_binds: bool,
    /// A quorum's approvals in a later attempt release a pledge.
    pub(super) approvals_release: bool,
}

pub(super) const MENDED: AgreementRules =
    AgreementRules { pledges_first: true, approvals_first: true, pledge_binds: true, approvals_release: true };

/// An honest operator; 0 means none, texts count from 1.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct AgreementOperator {
    approval: [u8; ATTEMPTS],
    pledge: [u8; ATTEMPTS],
    signed: u8,
}

impl AgreementOperator {
    /// The attempt that it has reached; it acts in no earlier one.
    fn attempt(&self) -> usize {
        (0..ATTEMPTS).rev().find(|at| self.approval[*at] != 0 || self.pledge[*at] != 0).unwrap_or(0)
    }

    fn last_pledge(&self) -> Option<(usize, u8)> {
        (0..ATTEMPTS).rev().map(|at| (at, self.pledge[at])).find(|(_, text)| *text != 0)
    }
}

struct AgreementModel {
    rules: AgreementRules,
    liars: usize,
    quorum: usize,
}

type AgreementState = Vec<AgreementOperator>;

impl AgreementModel {
    fn quorum_of(&self, state: &AgreementState, is: impl Fn(&AgreementOperator) -> bool) -> bool {
        state.iter().filter(|op| is(op)).count() + self.liars >= self.quorum
    }

    /// True if a quorum's approvals of `text` in an attempt between `from` and `to` can be shown. In the attempt that
    /// the honest begin alone, only approvals that one of them keeps with its pledge can be.
    fn released(&self, state: &AgreementState, from: usize, to: usize, text: u8) -> bool {
        let kept = |at: usize| to < ATTEMPTS || state.iter().any(|op| op.pledge[at] == text);
        let approvals = |at: usize| self.quorum_of(state, |op| op.approval[at] == text);
        self.rules.approvals_release && (from + 1..to).any(|at| approvals(at) && kept(at))
    }

    fn may_approve(&self, state: &AgreementState, op: &AgreementOperator, at: usize, text: u8) -> bool {
        let free = op.approval.get(at).is_none_or(|approval| *approval == 0) && at >= op.attempt();
        let bound = op.last_pledge().filter(|_| self.rules.pledge_binds);
        free && bound.is_none_or(|(from, pledged)| pledged == text || self.released(state, from, at, text))
    }

    fn may_pledge(&self, state: &AgreementState, op: &AgreementOperator, at: usize, text: u8) -> bool {
        let approvals = !self.rules.approvals_first || self.quorum_of(state, |other| other.approval[at] == text);
        approvals && op.pledge[at] == 0 && at >= op.attempt()
    }

    fn may_sign(&self, state: &AgreementState, op: &AgreementOperator, text: u8) -> bool {
        let pledged = |at| self.quorum_of(state, |other| other.pledge[at] == text);
        op.signed == 0 && (!self.rules.pledges_first || (0..ATTEMPTS).any(pledged))
    }

    fn next(&self, state: &AgreementState) -> Vec<AgreementState> {
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

    fn acts(&self, state: &AgreementState, op: &AgreementOperator, text: u8) -> Vec<AgreementOperator> {
        let mut acts = Vec::new();
        for at in 0..ATTEMPTS {
            let (mut approval, mut pledge) = (*op, *op);
            approval.approval[at] = text;
            pledge.pledge[at] = text;
            acts.extend(self.may_approve(state, op, at, text).then_some(approval));
            acts.extend(self.may_pledge(state, op, at, text).then_some(pledge));
        }
        acts.extend(self.may_sign(state, op, text).then_some(AgreementOperator { signed: text, ..*op }));
        acts
    }

    /// True if the honest alone can bring some text to a quorum, in an attempt after all that have begun.
    fn can_settle(&self, state: &AgreementState) -> bool {
        (1..=TEXTS).any(|text| {
            let would = |op: &&AgreementOperator| match op.signed {
                0 => !self.rules.pledges_first || self.may_approve(state, op, ATTEMPTS, text),
                signed => signed == text,
            };
            state.iter().filter(would).count() >= self.quorum
        })
    }
}

/// The number of states visited, and whether the honest can still settle on one text in each of them.
pub(super) fn settles(n: usize, rules: AgreementRules) -> (usize, bool) {
    let liars = super::liars_max(n);
    let model = AgreementModel { rules, liars, quorum: super::quorum(n) };
    let mut queue: Vec<AgreementState> = vec![vec![AgreementOperator::default(); n - liars]];
    let mut seen: HashSet<AgreementState> = queue.iter().cloned().collect();
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
