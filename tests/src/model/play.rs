//! The rules at work: what is certified, what anybody may do, and which property is broken.
use super::*;

impl<'a> Model<'a> {
    pub(super) fn new(scenario: &'a Scenario, rules: Rules) -> Self {
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

    pub(super) fn start(&self) -> State {
        let first = Op { lock: 0, held: 0, voted: 1, said: 0, signed: 0, stated: false, left: false };
        State { ops: vec![first; 16 - self.scenario.everyone().leading_zeros() as usize], agreed: None }
    }

    pub(super) fn tree(&self) -> &Tree {
        &self.scenario.tree
    }

    pub(super) fn honest(&self) -> impl Iterator<Item = usize> {
        members(self.scenario.everyone() & !self.scenario.liars)
    }

    /// The honest of whom `is` holds.
    pub(super) fn who(&self, state: &State, is: impl Fn(&Op) -> bool) -> Set {
        self.honest().filter(|op| is(&state.ops[*op])).map(bit).sum()
    }

    pub(super) fn has_quorum(&self, version: usize, who: Set) -> bool {
        let operators = self.scenario.sets[version];
        let q = quorum(count(operators)) - usize::from(!self.rules.has(Rule::QuorumWhole));
        count(operators & who) >= q
    }

    /// True if quorums bear `head`, of each version up to its adopt batch, given who bears a head.
    pub(super) fn borne(&self, head: Head, bearers: impl Fn(Head) -> Set) -> bool {
        let tree = self.tree();
        let last = if self.rules.has(Rule::NewQuorumBeyond) { tree.governing(head) } else { 0 };
        let old = !self.rules.has(Rule::OldQuorumForAdopt)
            || tree.adopts_before(head).all(|adopt| self.has_quorum(tree.governing(adopt), bearers(adopt)));
        old && self.has_quorum(last, bearers(head))
    }

    /// True if the cosignatures that exist, with the liars' or without, certify `head`.
    pub(super) fn certified(&self, state: &State, head: Head, liars: bool) -> bool {
        let liars = if liars { self.scenario.liars } else { 0 };
        self.borne(head, |at| liars | self.who(state, |op| op.voted & bit(at) != 0))
    }

    pub(super) fn is_final(&self, state: &State, head: Head) -> bool {
        if !self.rules.has(Rule::TwoSteps) {
            return self.certified(state, head, true);
        }
        let holds = |op: &Op, at| self.tree().extends(usize::from(op.held), at);
        self.borne(head, |at| self.scenario.liars | self.who(state, |op| holds(op, at)))
    }

    /// The last version on the way to `cut` whose adoption is certified.
    pub(super) fn certified_version(&self, state: &State, cut: Head, liars: bool) -> usize {
        let tree = self.tree();
        let adopts = members(tree.adopts & tree.below[cut]);
        adopts.take_while(|adopt| self.certified(state, *adopt, liars)).count()
    }

    /// True if `signers` are enough for `text`; `liars` says whether the liars' cosignatures are there as evidence.
    pub(super) fn suffices(&self, state: &State, text: Text, signers: Set, liars: bool) -> bool {
        let lag = cut_of(text).is_none_or(|cut| {
            let (known, at) = (self.certified_version(state, cut, liars), self.tree().adopted(cut));
            let quorum = |version| self.has_quorum(version, signers);
            let whole = !self.rules.has(Rule::LagWhole) || (known..=at).all(quorum);
            let two = !self.rules.has(Rule::LagTwo) || (at.saturating_sub(1)..=at).all(quorum);
            let at_cut = two && (!self.rules.has(Rule::LagAtCut) || quorum(at));
            whole && at_cut && (!self.rules.has(Rule::LagAtKnown) || (0..=known).any(quorum))
        });
        lag && self.has_quorum(self.scenario.valid - 1, signers)
    }

    /// True if all versions adopted at `head`, or all but the last, are known to be.
    pub(super) fn one_ahead(&self, state: &State, head: Head, liars: bool) -> bool {
        !self.rules.has(Rule::OneAhead) || self.tree().adopted(head) <= self.certified_version(state, head, liars) + 1
    }

    pub(super) fn holds(&self, state: &State, text: Text) -> bool {
        let signers = self.scenario.liars | self.who(state, |op| op.signed & bit(text) != 0);
        self.suffices(state, text, signers, true)
    }

    /// How many statements free an operator from a branch that begins under `version`.
    pub(super) fn statements_needed(&self, version: usize) -> usize {
        let n = count(self.scenario.sets[version]);
        let f = if self.rules.has(Rule::Fifth) { (n + 1) / 5 } else { liars_max(n) };
        let outside = self.scenario.sets[version] & bit(self.scenario.owner) == 0;
        let more = usize::from(self.rules.has(Rule::OwnerAmongLiars) && outside);
        n - quorum(n) + f + more - usize::from(!self.rules.has(Rule::StatementsWhole))
    }

    pub(super) fn stated_none(&self, state: &State, cut: Head, lock: Head, liars: bool) -> bool {
        let branch = self.tree().branch(lock, cut);
        let newest = self.scenario.valid - 1;
        let version =
            if self.rules.has(Rule::VersionOfBranch) { self.tree().governing(branch).min(newest) } else { newest };
        let counts = |op: &Op| self.rules.has(Rule::AnyBranch) || self.tree().extends(cut, usize::from(op.lock));
        let mut who = self.who(state, |op| op.said & bit(branch) != 0 && counts(op));
        who |= if liars { self.scenario.liars } else { 0 };
        if self.rules.has(Rule::OthersOnly) {
            who &= !bit(self.scenario.owner);
        }
        let proven = self.scenario.liars & bit(self.scenario.owner) != 0 || !self.rules.has(Rule::ProofToGiveUp);
        proven && count(who & self.scenario.sets[version]) >= self.statements_needed(version)
    }

    /// True if the operator may sign a cut at `cut`; `liars` as in [`Self::certified`], and for their statements.
    pub(super) fn accepts(&self, state: &State, op: usize, cut: Head, liars: bool) -> bool {
        if self.rules.has(Rule::CutStands) && self.scenario.cut_before.is_some_and(|before| before != cut) {
            return false;
        }
        if !self.one_ahead(state, cut, liars) {
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

    pub(super) fn accepts_text(&self, state: &State, op: usize, text: Text, liars: bool) -> bool {
        cut_of(text).is_none_or(|cut| self.accepts(state, op, cut, liars))
    }

    /// True if no cut that the operator signed ends before `head`.
    pub(super) fn within_cuts(&self, op: &Op, head: Head) -> bool {
        let beyond = |text| cut_of(text).is_some_and(|cut| !self.tree().extends(cut, head));
        !self.rules.has(Rule::StopAtCut) || !members(op.signed).any(beyond)
    }

    /// True if the version that `head` adopts, if any, is there to be adopted.
    pub(super) fn adoptable(&self, state: &State, head: Head) -> bool {
        let is_adopt = self.tree().adopts & bit(head) != 0;
        !is_adopt || self.tree().adopted(head) < self.scenario.valid || self.holds(state, UNCUT)
    }

    pub(super) fn may_cosign(&self, state: &State, op: usize, head: Head) -> bool {
        let me = &state.ops[op];
        let next = if self.rules.has(Rule::CosignExtends) {
            self.tree().parent[head] == usize::from(me.lock) && head != 0
        } else {
            me.voted & bit(head) == 0
        };
        let waits = self.rules.has(Rule::WaitAtAdopt)
            && !self.tree().adopts_before(head).all(|adopt| self.certified(state, adopt, true));
        let next = next && !waits && self.one_ahead(state, head, true);
        next && self.within_cuts(me, head) && self.adoptable(state, head)
    }

    pub(super) fn may_hold(&self, state: &State, op: usize, head: Head) -> bool {
        let (me, held) = (&state.ops[op], usize::from(state.ops[op].held));
        let larger = head != held && self.tree().extends(head, held);
        self.rules.has(Rule::TwoSteps) && larger && self.within_cuts(me, head) && self.certified(state, head, true)
    }

    pub(super) fn may_take(&self, state: &State, op: usize, head: Head) -> bool {
        self.tree().conflict(head, usize::from(state.ops[op].lock)) && self.certified(state, head, true)
    }

    pub(super) fn may_agree(&self, state: &State, text: Text) -> bool {
        if !self.rules.has(Rule::AgreeFirst) || state.agreed.is_some() {
            return false;
        }
        let ready = |op: &usize| text == UNCUT || state.ops[*op].stated && self.accepts_text(state, *op, text, true);
        let agreeing: Set = self.honest().filter(ready).map(bit).sum();
        self.suffices(state, text, agreeing | self.scenario.liars, true)
    }

    pub(super) fn may_sign(&self, state: &State, op: usize, text: Text) -> bool {
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
    pub(super) fn may_leave(&self, state: &State, op: usize) -> bool {
        let Some(new) = self.scenario.sets.get(self.scenario.valid) else { return false };
        let bound = self.rules.has(Rule::AllGoOn) || state.ops[op].signed != 0;
        new & bit(op) == 0 && !bound && self.holds(state, UNCUT)
    }

    /// Every step possible in `state`.
    pub(super) fn steps(&self, state: &State) -> Vec<Step> {
        let mut steps = Vec::new();
        for op in self.honest().filter(|op| !state.ops[*op].left) {
            self.steps_of(state, op, &mut steps);
        }
        steps.extend(members(self.scenario.texts).filter(|text| self.may_agree(state, *text)).map(Step::Agree));
        steps
    }

    pub(super) fn steps_of(&self, state: &State, op: usize, steps: &mut Vec<Step>) {
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

    pub(super) fn all_heads(&self) -> Set {
        bit(self.tree().parent.len()) - 1
    }

    pub(super) fn apply(&self, state: &State, step: Step) -> State {
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
    pub(super) fn sign(&self, op: &mut Op, text: Text) {
        op.signed |= bit(text);
        let Some(cut) = cut_of(text) else { return };
        op.stated |= self.rules.has(Rule::TwoSteps);
        let shared = self.tree().below[cut] & self.tree().below[usize::from(op.lock)];
        op.lock = shared.ilog2() as u8;
    }

    pub(super) fn state_none(&self, op: &mut Op) {
        op.said |= self.all_heads() & !op.voted;
        op.stated = true;
    }

    /// For each place in a state's normal form, the place its operator comes from.
    pub(super) fn order(&self, state: &State) -> Vec<usize> {
        let mut order: Vec<usize> = (0..state.ops.len()).collect();
        for ops in &self.alike {
            let mut sorted = ops.clone();
            sorted.sort_by_key(|op| state.ops[*op]);
            ops.iter().zip(sorted).for_each(|(op, from)| order[*op] = from);
        }
        order
    }

    /// The same state for all ways to exchange operators that are alike.
    pub(super) fn normal(&self, state: &State) -> State {
        State { ops: self.order(state).iter().map(|from| state.ops[*from]).collect(), agreed: state.agreed }
    }

    /// The steps in words, each operator under one number all along.
    pub(super) fn story(&self, steps: &[Step]) -> String {
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

    pub(super) fn tell(&self, step: Step, names: &[usize]) -> String {
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
    pub(super) fn broken(&self, state: &State, watched: &[Property]) -> Option<Property> {
        watched.iter().copied().find(|property| match property {
            OneBranch => self.two_branches(state),
            NothingLost => self.something_lost(state),
            Property::OneText => members(self.scenario.texts).filter(|text| self.holds(state, *text)).count() > 1,
            CanCut => !self.can_cut(state),
            CertifiedAgain => !self.certified_again(state),
            ReadCertified => self.read(state).any(|head| !self.certified(state, head, true)),
            ReadKept => self.read_lost(state),
        })
    }

    pub(super) fn two_branches(&self, state: &State) -> bool {
        let certified: Vec<Head> = self.tree().heads().filter(|head| self.certified(state, *head, true)).collect();
        certified.iter().any(|one| certified.iter().any(|other| self.tree().conflict(*one, *other)))
    }

    pub(super) fn something_lost(&self, state: &State) -> bool {
        let cuts = members(self.scenario.texts & !1).filter(|text| self.holds(state, *text)).filter_map(cut_of);
        let kept: Vec<Head> = self.tree().heads().filter(|head| self.is_final(state, *head)).collect();
        cuts.into_iter()
            .any(|cut| kept.iter().chain(&self.scenario.cut_before).any(|head| !self.tree().extends(cut, *head)))
    }

    /// The heads that a reader takes who goes by one note: of the log's adopted version a quorum cosigned, and at the
    /// end of the adopt batch (with [`Rule::ReadBoth`]) one of the version before.
    pub(super) fn read(&self, state: &State) -> impl Iterator<Item = Head> {
        let both = self.rules.has(Rule::ReadBoth);
        self.tree().heads().filter(move |head| {
            let who = self.scenario.liars | self.who(state, |op| op.voted & bit(*head) != 0);
            let (adopted, before) = (self.tree().adopted(*head), self.tree().governing(*head));
            self.has_quorum(adopted, who) && (!both || self.has_quorum(before, who))
        })
    }

    pub(super) fn read_lost(&self, state: &State) -> bool {
        let cuts = members(self.scenario.texts & !1).filter(|text| self.holds(state, *text)).filter_map(cut_of);
        let read: Vec<Head> = self.read(state).collect();
        cuts.into_iter().any(|cut| read.iter().any(|head| !self.tree().extends(cut, *head)))
    }

    /// The honest who answer: neither dead nor gone.
    pub(super) fn present(&self, state: &State) -> Set {
        self.who(state, |op| !op.left) & !self.scenario.dead
    }

    /// True if, from here on without the liars, some cut can be signed (or the version holds without one).
    pub(super) fn can_cut(&self, state: &State) -> bool {
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

    pub(super) fn could_sign(&self, calm: &State, text: Text) -> bool {
        let would = |op: &usize| match calm.ops[*op].signed {
            0 => self.accepts_text(calm, *op, text, false),
            signed => signed & bit(text) != 0,
        };
        let signers: Set = members(self.present(calm)).filter(would).map(bit).sum();
        self.suffices(calm, text, signers, false)
    }

    /// True unless the new version holds, the owner is honest, and the present can't certify the last head.
    pub(super) fn certified_again(&self, state: &State) -> bool {
        let owner_lies = self.scenario.liars & bit(self.scenario.owner) != 0;
        if owner_lies || self.scenario.sets.len() == self.scenario.valid || !self.holds(state, UNCUT) {
            return true;
        }
        let last = self.tree().parent.len() - 1;
        self.borne(last, |at| self.present(state) | self.who(state, |op| op.voted & bit(at) != 0))
    }
}
