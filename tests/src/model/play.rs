//! The rules applied: what is certified, what each operator may do, and which property is broken.
use super::*;

impl<'a> CutModel<'a> {
    pub(super) fn new(scenario: &'a Scenario, rules: RuleSet) -> Self {
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

    pub(super) fn start(&self) -> ModelState {
        let first = ModelOperator { lock: 0, held: 0, voted: 1, denied: 0, signed: 0, stated: false, left: false };
        ModelState { ops: vec![first; 16 - self.scenario.everyone().leading_zeros() as usize], agreed: None }
    }

    pub(super) fn tree(&self) -> &HeadTree {
        &self.scenario.tree
    }

    pub(super) fn honest(&self) -> impl Iterator<Item = usize> {
        members(self.scenario.everyone() & !self.scenario.liars)
    }

    /// The honest operators for which `is` holds.
    pub(super) fn who(&self, state: &ModelState, is: impl Fn(&ModelOperator) -> bool) -> Set {
        self.honest().filter(|op| is(&state.ops[*op])).map(bit).sum()
    }

    pub(super) fn has_quorum(&self, version: usize, who: Set) -> bool {
        let operators = self.scenario.sets[version];
        let q = quorum(count(operators)) - usize::from(!self.rules.has(Rule::QuorumWhole));
        count(operators & who) >= q
    }

    /// True if quorums bear `head`: that of its own version, and for each adopt batch before it that of the version
    /// up to there. `bearers` says who bears a head.
    pub(super) fn borne(&self, head: HeadIndex, bearers: impl Fn(HeadIndex) -> Set) -> bool {
        let tree = self.tree();
        let last = if self.rules.has(Rule::NewQuorumBeyond) { tree.governing(head) } else { 0 };
        let old = !self.rules.has(Rule::OldQuorumForAdopt)
            || tree.adopts_before(head).all(|adopt| self.has_quorum(tree.governing(adopt), bearers(adopt)));
        old && self.has_quorum(last, bearers(head))
    }

    /// True if the existing cosignatures, with or without the liars', certify `head`.
    pub(super) fn certified(&self, state: &ModelState, head: HeadIndex, liars: bool) -> bool {
        let liars = if liars { self.scenario.liars } else { 0 };
        self.borne(head, |at| liars | self.who(state, |op| op.voted & bit(at) != 0))
    }

    pub(super) fn is_final(&self, state: &ModelState, head: HeadIndex) -> bool {
        if !self.rules.has(Rule::TwoSteps) {
            return self.certified(state, head, true);
        }
        let holds = |op: &ModelOperator, at| self.tree().extends(usize::from(op.held), at);
        self.borne(head, |at| self.scenario.liars | self.who(state, |op| holds(op, at)))
    }

    /// The last version on the way to `cut` whose adoption is certified.
    pub(super) fn certified_version(&self, state: &ModelState, cut: HeadIndex, liars: bool) -> usize {
        let tree = self.tree();
        let adopts = members(tree.adopts & tree.below[cut]);
        adopts.take_while(|adopt| self.certified(state, *adopt, liars)).count()
    }

    /// True if `signers` are enough for `text`; `liars` says whether the liars' cosignatures are available as
    /// evidence.
    pub(super) fn suffices(&self, state: &ModelState, text: TextIndex, signers: Set, liars: bool) -> bool {
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

    /// True if all versions adopted at `head`, or all but the last, are known to be certified.
    pub(super) fn one_ahead(&self, state: &ModelState, head: HeadIndex, liars: bool) -> bool {
        !self.rules.has(Rule::OneAhead) || self.tree().adopted(head) <= self.certified_version(state, head, liars) + 1
    }

    pub(super) fn holds(&self, state: &ModelState, text: TextIndex) -> bool {
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

    pub(super) fn stated_none(&self, state: &ModelState, cut: HeadIndex, lock: HeadIndex, liars: bool) -> bool {
        let branch = self.tree().branch(lock, cut);
        let newest = self.scenario.valid - 1;
        let version =
            if self.rules.has(Rule::VersionOfBranch) { self.tree().governing(branch).min(newest) } else { newest };
        let counts =
            |op: &ModelOperator| self.rules.has(Rule::AnyBranch) || self.tree().extends(cut, usize::from(op.lock));
        let mut who = self.who(state, |op| op.denied & bit(branch) != 0 && counts(op));
        who |= if liars { self.scenario.liars } else { 0 };
        if self.rules.has(Rule::OthersOnly) {
            who &= !bit(self.scenario.owner);
        }
        let proven = self.scenario.liars & bit(self.scenario.owner) != 0 || !self.rules.has(Rule::ProofToGiveUp);
        proven && count(who & self.scenario.sets[version]) >= self.statements_needed(version)
    }

    /// True if the operator may sign a cut at `cut`; `liars` as in [`Self::certified`], and also for the liars'
    /// statements.
    pub(super) fn accepts(&self, state: &ModelState, op: usize, cut: HeadIndex, liars: bool) -> bool {
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

    pub(super) fn accepts_text(&self, state: &ModelState, op: usize, text: TextIndex, liars: bool) -> bool {
        cut_of(text).is_none_or(|cut| self.accepts(state, op, cut, liars))
    }

    /// True if no cut that the operator signed ends before `head`.
    pub(super) fn within_cuts(&self, op: &ModelOperator, head: HeadIndex) -> bool {
        let beyond = |text| cut_of(text).is_some_and(|cut| !self.tree().extends(cut, head));
        !self.rules.has(Rule::StopAtCut) || !members(op.signed).any(beyond)
    }

    /// True if the version that `head` adopts, if any, is valid.
    pub(super) fn adoptable(&self, state: &ModelState, head: HeadIndex) -> bool {
        let is_adopt = self.tree().adopts & bit(head) != 0;
        !is_adopt || self.tree().adopted(head) < self.scenario.valid || self.holds(state, UNCUT)
    }

    pub(super) fn may_cosign(&self, state: &ModelState, op: usize, head: HeadIndex) -> bool {
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

    pub(super) fn may_hold(&self, state: &ModelState, op: usize, head: HeadIndex) -> bool {
        let (me, held) = (&state.ops[op], usize::from(state.ops[op].held));
        let larger = head != held && self.tree().extends(head, held);
        self.rules.has(Rule::TwoSteps) && larger && self.within_cuts(me, head) && self.certified(state, head, true)
    }

    pub(super) fn may_take(&self, state: &ModelState, op: usize, head: HeadIndex) -> bool {
        self.tree().conflict(head, usize::from(state.ops[op].lock)) && self.certified(state, head, true)
    }

    pub(super) fn may_agree(&self, state: &ModelState, text: TextIndex) -> bool {
        if !self.rules.has(Rule::AgreeFirst) || state.agreed.is_some() {
            return false;
        }
        let ready = |op: &usize| text == UNCUT || state.ops[*op].stated && self.accepts_text(state, *op, text, true);
        let agreeing: Set = self.honest().filter(ready).map(bit).sum();
        self.suffices(state, text, agreeing | self.scenario.liars, true)
    }

    pub(super) fn may_sign(&self, state: &ModelState, op: usize, text: TextIndex) -> bool {
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

    /// A removed operator may leave once its version's duty is done: see [`Rule::AllKeepCosigning`].
    pub(super) fn may_leave(&self, state: &ModelState, op: usize) -> bool {
        let Some(new) = self.scenario.sets.get(self.scenario.valid) else { return false };
        let bound = self.rules.has(Rule::AllKeepCosigning) || state.ops[op].signed != 0;
        new & bit(op) == 0 && !bound && self.holds(state, UNCUT)
    }

    /// Every step possible in `state`.
    pub(super) fn steps(&self, state: &ModelState) -> Vec<ModelStep> {
        let mut steps = Vec::new();
        for op in self.honest().filter(|op| !state.ops[*op].left) {
            self.steps_of(state, op, &mut steps);
        }
        steps.extend(members(self.scenario.texts).filter(|text| self.may_agree(state, *text)).map(ModelStep::Agree));
        steps
    }

    pub(super) fn steps_of(&self, state: &ModelState, op: usize, steps: &mut Vec<ModelStep>) {
        let me = &state.ops[op];
        let texts = members(self.scenario.texts);
        steps.extend(texts.filter(|text| self.may_sign(state, op, *text)).map(|text| ModelStep::Sign(op, text)));
        if self.may_leave(state, op) {
            steps.push(ModelStep::Leave(op));
        }
        let resumed = state.agreed.map(usize::from) == Some(UNCUT);
        if me.stated && self.rules.has(Rule::StatementsBind) && !resumed {
            return;
        }
        for head in self.tree().heads() {
            steps.extend(self.may_cosign(state, op, head).then_some(ModelStep::Cosign(op, head)));
            steps.extend(self.may_hold(state, op, head).then_some(ModelStep::Hold(op, head)));
            steps.extend(self.may_take(state, op, head).then_some(ModelStep::TakeCertified(op, head)));
        }
        if !me.stated && self.scenario.texts & !1 != 0 && self.scenario.dead & bit(op) == 0 {
            steps.push(ModelStep::StateNone(op));
        }
    }

    pub(super) fn all_heads(&self) -> Set {
        bit(self.tree().parent.len()) - 1
    }

    pub(super) fn apply(&self, state: &ModelState, step: ModelStep) -> ModelState {
        let mut next = state.clone();
        match step {
            ModelStep::Start => {}
            ModelStep::Cosign(op, head) => {
                next.ops[op].lock = head as u8;
                next.ops[op].voted |= self.tree().below[head];
            }
            ModelStep::TakeCertified(op, head) => next.ops[op].lock = head as u8,
            ModelStep::Hold(op, head) => next.ops[op].held = head as u8,
            ModelStep::StateNone(op) => self.state_none(&mut next.ops[op]),
            ModelStep::Agree(text) => next.agreed = Some(text as u8),
            ModelStep::Sign(op, text) => self.sign(&mut next.ops[op], text),
            ModelStep::Leave(op) => next.ops[op].left = true,
        }
        next
    }

    /// An operator that gave up a head for the cut may cosign up to the cut; with two steps it no longer needs to.
    pub(super) fn sign(&self, op: &mut ModelOperator, text: TextIndex) {
        op.signed |= bit(text);
        let Some(cut) = cut_of(text) else { return };
        op.stated |= self.rules.has(Rule::TwoSteps);
        let shared = self.tree().below[cut] & self.tree().below[usize::from(op.lock)];
        op.lock = shared.ilog2() as u8;
    }

    pub(super) fn state_none(&self, op: &mut ModelOperator) {
        op.denied |= self.all_heads() & !op.voted;
        op.stated = true;
    }

    /// For each place in a state's normal form, the place that its operator comes from.
    pub(super) fn order(&self, state: &ModelState) -> Vec<usize> {
        let mut order: Vec<usize> = (0..state.ops.len()).collect();
        for ops in &self.alike {
            let mut sorted = ops.clone();
            sorted.sort_by_key(|op| state.ops[*op]);
            ops.iter().zip(sorted).for_each(|(op, from)| order[*op] = from);
        }
        order
    }

    /// The same state for all ways to exchange operators that nothing tells apart.
    pub(super) fn normal(&self, state: &ModelState) -> ModelState {
        ModelState { ops: self.order(state).iter().map(|from| state.ops[*from]).collect(), agreed: state.agreed }
    }

    /// The steps in words; each operator keeps one number throughout.
    pub(super) fn story(&self, steps: &[ModelStep]) -> String {
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

    pub(super) fn tell(&self, step: ModelStep, names: &[usize]) -> String {
        let head = |head: HeadIndex| self.tree().names[head];
        let text = |text| cut_of(text).map_or("no cut".to_owned(), |cut| format!("a cut at {}", head(cut)));
        match step {
            ModelStep::Start => String::new(),
            ModelStep::Cosign(op, at) => format!("{} cosigns {}", names[op], head(at)),
            ModelStep::TakeCertified(op, at) => format!("{} takes {}", names[op], head(at)),
            ModelStep::Hold(op, at) => format!("{} holds {} certified", names[op], head(at)),
            ModelStep::StateNone(op) => format!("{} states", names[op]),
            ModelStep::Agree(what) => format!("agreed: {}", text(what)),
            ModelStep::Sign(op, what) => format!("{} signs {}", names[op], text(what)),
            ModelStep::Leave(op) => format!("{} leaves", names[op]),
        }
    }

    /// The first of the watched properties that `state` breaks.
    pub(super) fn broken(&self, state: &ModelState, watched: &[Property]) -> Option<Property> {
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

    pub(super) fn two_branches(&self, state: &ModelState) -> bool {
        let certified: Vec<HeadIndex> = self.tree().heads().filter(|head| self.certified(state, *head, true)).collect();
        certified.iter().any(|one| certified.iter().any(|other| self.tree().conflict(*one, *other)))
    }

    pub(super) fn something_lost(&self, state: &ModelState) -> bool {
        let cuts = members(self.scenario.texts & !1).filter(|text| self.holds(state, *text)).filter_map(cut_of);
        let kept: Vec<HeadIndex> = self.tree().heads().filter(|head| self.is_final(state, *head)).collect();
        cuts.into_iter()
            .any(|cut| kept.iter().chain(&self.scenario.cut_before).any(|head| !self.tree().extends(cut, *head)))
    }

    /// The heads that a reader of one note takes: a quorum of the log's adopted version cosigned them, and at the end
    /// of the adopt batch (with [`Rule::ReadBoth`]) also a quorum of the version before.
    pub(super) fn read(&self, state: &ModelState) -> impl Iterator<Item = HeadIndex> {
        let both = self.rules.has(Rule::ReadBoth);
        self.tree().heads().filter(move |head| {
            let who = self.scenario.liars | self.who(state, |op| op.voted & bit(*head) != 0);
            let (adopted, before) = (self.tree().adopted(*head), self.tree().governing(*head));
            self.has_quorum(adopted, who) && (!both || self.has_quorum(before, who))
        })
    }

    pub(super) fn read_lost(&self, state: &ModelState) -> bool {
        let cuts = members(self.scenario.texts & !1).filter(|text| self.holds(state, *text)).filter_map(cut_of);
        let read: Vec<HeadIndex> = self.read(state).collect();
        cuts.into_iter().any(|cut| read.iter().any(|head| !self.tree().extends(cut, *head)))
    }

    /// The honest operators that still answer: neither dead nor gone.
    pub(super) fn present(&self, state: &ModelState) -> Set {
        self.who(state, |op| !op.left) & !self.scenario.dead
    }

    /// True if some cut can be signed from here on without the liars, or the version is valid without one.
    pub(super) fn can_cut(&self, state: &ModelState) -> bool {
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

    pub(super) fn could_sign(&self, calm: &ModelState, text: TextIndex) -> bool {
        let would = |op: &usize| match calm.ops[*op].signed {
            0 => self.accepts_text(calm, *op, text, false),
            signed => signed & bit(text) != 0,
        };
        let signers: Set = members(self.present(calm)).filter(would).map(bit).sum();
        self.suffices(calm, text, signers, false)
    }

    /// True unless the new version is valid, the owner is honest, and the operators present can't certify the last
    /// head.
    pub(super) fn certified_again(&self, state: &ModelState) -> bool {
        let owner_lies = self.scenario.liars & bit(self.scenario.owner) != 0;
        if owner_lies || self.scenario.sets.len() == self.scenario.valid || !self.holds(state, UNCUT) {
            return true;
        }
        let last = self.tree().parent.len() - 1;
        self.borne(last, |at| self.present(state) | self.who(state, |op| op.voted & bit(at) != 0))
    }
}
