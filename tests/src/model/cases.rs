//! Scenarios, and what holds in each or breaks without a rule.
use super::*;

const R: HeadIndex = 0;
const A1: HeadIndex = 1;
const A2: HeadIndex = 2;
/// Only in [`TWIG`]; in other shapes this number is another head.
const B1: HeadIndex = 2;
/// R – A1 – A2.
const LINE: Shape = (&[0, 0, 1], &["R", "A1", "A2"]);
/// R – A1 and R – B1.
const TWIG: Shape = (&[0, 0, 0], &["R", "A1", "B1"]);
/// R – A1 – A2 and R – B1.
const FORK: Shape = (&[0, 0, 1, 0], &["R", "A1", "A2", "B1"]);

/// R – A1, R – B1 and R – C1.
const FAN: Shape = (&[0, 0, 0, 0], &["R", "A1", "B1", "C1"]);
/// R – A1 and R – T, T – B1 and T – C1.
const LATE_FAN: Shape = (&[0, 0, 0, 2, 2], &["R", "A1", "T", "B1", "C1"]);
/// R – T, T – A1 and T – B1.
const LATE: Shape = (&[0, 0, 1, 1], &["R", "T", "A1", "B1"]);
/// R – A1 – A2 – A3, A1 – C2 and R – B1 – B2 – B3.
const DEEP: Shape = (&[0, 0, 1, 2, 1, 0, 5, 6], &["R", "A1", "A2", "A3", "C2", "B1", "B2", "B3"]);

/// The first rules, with their one gap closed that breaks safety at once.
const GUARDED: RuleSet = FIRST.with(&[Rule::StatementsBind]);

/// Operator 0 owns the log; all versions in `sets` are valid already, and the next version may cut at any head.
fn scenario(sets: &[&[usize]], liars: &[usize], shape: Shape, adopts: &[HeadIndex]) -> Scenario {
    Scenario {
        tree: HeadTree::new(shape, adopts),
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

/// The last of `sets` holds the operators of the contested version, which the log may adopt once it is valid.
fn contested(mut scenario: Scenario, texts: Set) -> Scenario {
    scenario.valid -= 1;
    scenario.texts = texts;
    scenario
}

fn with_cuts(mut scenario: Scenario, cuts: &[HeadIndex]) -> Scenario {
    scenario.texts = cuts.iter().map(|cut| bit(cut + 1)).sum();
    scenario
}

/// Asserts that every reachable state keeps the watched properties; returns the number of states.
fn holds(scenario: &Scenario, rules: RuleSet, watched: &[Property]) -> usize {
    let found = explore(scenario, rules, watched, false);
    assert_eq!(found.first, None, "of sets {:?}", scenario.sets);
    assert!(found.whole, "too large to explore whole: {:?}", scenario.sets);
    found.states
}

/// Asserts that a shortest way to a broken state is `story`.
fn breaks(scenario: &Scenario, rules: RuleSet, watched: &[Property], property: Property, story: &str) {
    let found = explore(scenario, rules, watched, false);
    assert_eq!(found.first, Some((property, story.to_owned())));
}

/// The log is at version 1 or, on branch A, 2; operator 1 is replaced by 4 in version 2; version 3 may cut at A1.
fn lagging() -> Scenario {
    with_cuts(scenario(&[&[0, 1, 2, 3], &[0, 2, 3, 4]], &[0], FORK, &[A1]), &[A1])
}

/// On branch A the log has missed two versions, or only one of them; version 4 may cut at A1.
fn lagging_twice() -> Scenario {
    let sets: &[&[usize]] = &[&[0, 1, 2, 3], &[0, 2, 3, 4], &[0, 3, 4, 5]];
    with_cuts(scenario(sets, &[0], LINE, &[A1]), &[A1])
}

/// Version 2, adopted at T, no longer has the owner but leaves its log uncut; operator 4 is version 2's liar.
fn owner_removed() -> Scenario {
    scenario(&[&[0, 1, 2, 3], &[1, 2, 3, 4]], &[0, 4], LATE, &[A1])
}

fn cut_before() -> Scenario {
    Scenario { cut_before: Some(A1), ..one_version(4, &[0], TWIG) }
}

/// Version 2 replaces operator 1 by 4; operator 2 owns the log, is honest, and adopts version 2 at A1.
fn replaced() -> Scenario {
    let sets = scenario(&[&[0, 1, 2, 3], &[0, 2, 3, 4]], &[0], LINE, &[A1]);
    Scenario { owner: 2, ..contested(sets, bit(UNCUT)) }
}

/// The owner is honest and dead; another operator lies.
fn owner_dead() -> Scenario {
    Scenario { dead: bit(0), ..one_version(4, &[1], LINE) }
}

/// Half of version 1 is replaced in version 2; the fork is from version 1's time.
fn half_replaced() -> Scenario {
    with_cuts(scenario(&[&[0, 1, 2, 3], &[0, 1, 4, 5]], &[0], TWIG, &[]), &[R])
}

/// Symptom: a certificate was lost. Cause: an operator that had stated "I cosigned none" cosigned afterwards; its
/// statement had freed operator 2 of its head, and that head was certified a moment later. The shortest such story
/// must be found without the rule and no story with it.
#[test]
fn a_statement_must_bind() {
    let story = "1 signs a cut at R; 2 cosigns A1; 3 states; 1 states; 3 cosigns A1; 2 signs a cut at R";
    breaks(&one_version(4, &[0], FORK), FIRST, SAFE, NothingLost, story);
    holds(&one_version(4, &[0], FORK), GUARDED, SAFE);
}

/// Symptom: a version could never be signed. Cause: two honest operators signed different texts of it, and with the
/// fourth silent neither text can get a quorum. No lie is needed: the owner may just be dead, and the two have heard
/// of different heads of its log. Both scenarios must get stuck without the agreement and never with it.
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

/// Symptom: a certificate that another version's quorum gave was lost. Cause: "the version the log is at" was read
/// off the branch that the signers saw, or off what they knew to be certified. Each of these two rules must lose one
/// here.
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

/// Symptom: a certificate of the previous version on another branch was lost. Cause: a liar stood at a head that
/// adopts two versions, neither of them certified, and quorums of those two signed its cut. The same scenario must be
/// safe once cuts are at most one adoption ahead.
#[test]
fn a_cut_is_at_most_one_adoption_ahead() {
    let two = GUARDED.without(Rule::LagAtCut).with(&[Rule::LagTwo]);
    let sets: &[&[usize]] = &[&[0, 1, 2, 3], &[0, 2, 3, 4], &[0, 2, 3, 4]];
    let twice = with_cuts(scenario(sets, &[0], FORK, &[A1, A2]), &[A2]);
    assert_eq!(explore(&twice, two, SAFE, false).property(), Some(NothingLost));
    for scenario in [&twice, &lagging(), &lagging_twice()] {
        holds(scenario, two.with(&[Rule::OneAhead]), SAFE);
    }
}

/// Symptom: a final head was lost. Cause: an owner that is no operator of the branch's version is not one of that
/// version's f liars, so one statement too few freed an operator. The scenario has exactly that owner.
#[test]
fn a_removed_owner_must_be_cut() {
    assert_eq!(explore(&owner_removed(), GUARDED, SAFE, false).property(), Some(NothingLost));
    holds(&owner_removed(), ONE_STEP, SAFE);
    holds(&owner_removed(), MENDED, ALL);
}

/// Symptom: a final head was lost. Cause: an operator that never cosigned in a log could sign a different cut of it
/// in a later version. The scenario begins with the log cut.
#[test]
fn a_cut_must_stand() {
    breaks(&cut_before(), GUARDED, SAFE, NothingLost, "1 signs a cut at R; 2 signs a cut at R");
    holds(&cut_before(), ONE_STEP, SAFE);
}

/// Symptom: nothing could be certified any more. Cause: a liar's signature completed the quorum for version 2;
/// operator 1 had not signed and left, so the old version had no quorum. The shortest such story must be found under
/// the first rules only.
#[test]
fn all_old_operators_must_go_on() {
    let story = "2 signs no cut; 3 signs no cut; 1 leaves";
    breaks(&replaced(), FIRST, ALL, CertifiedAgain, story);
    holds(&replaced(), ONE_STEP, ALL);
    holds(&replaced(), MENDED, ALL);
}

/// Symptom: a reader took A2 by a quorum of the version adopted there, and a cut undid it. Cause: operators 1 and 2
/// of the version before had not been shown the adoption. Four operators, of whom the owner lies, are replaced by
/// three others: each of the two rules is needed to keep what was read.
#[test]
fn one_note_is_enough_because_cosigners_wait_at_an_adoption() {
    let fork = 3;
    let exchanged = || scenario(&[&[0, 1, 2, 3], &[0, 4, 5, 6]], &[0], FORK, &[A1]);
    let cut = with_cuts(exchanged(), &[fork]);
    let story = "1 states; 2 states; 4 cosigns A1; 5 cosigns A1; 6 states; 5 cosigns A2; 4 cosigns A2; 4 states; \
                 agreed: a cut at B1; 3 signs a cut at B1; 2 signs a cut at B1; 6 signs a cut at B1; \
                 5 signs a cut at B1";
    let hasty = ONE_STEP.without(Rule::WaitAtAdopt);
    breaks(&cut, hasty, &[ReadKept], ReadKept, story);
    assert_eq!(explore(&cut, ONE_STEP.without(Rule::ReadBoth), &[ReadKept], false).property(), Some(ReadKept));
    holds(&cut, ONE_STEP, &[OneBranch, NothingLost, ReadCertified, ReadKept]);
    // The new version's operators are a subset of the old one's: enough for its own quorum, too few for the old
    // one's.
    let shrunk = with_cuts(scenario(&[&[0, 1, 2, 3, 4, 5, 6], &[0, 1, 2, 3]], &[0], FORK, &[A1]), &[fork]);
    assert_eq!(explore(&shrunk, hasty, &[ReadKept], false).property(), Some(ReadKept));
    holds(&shrunk, ONE_STEP, &[OneBranch, NothingLost, ReadCertified, ReadKept]);
}

/// With one round of cosignatures, an owner that splits the honest of seven in equal parts stops its log forever (one
/// round needs at least n ≥ 5f − 1 and q = n − f). Asking for fewer statements frees the log, but a second liar can
/// then undo certificates.
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

/// An owner may show each honest operator a different branch.
#[test]
fn a_branch_of_its_own_for_each_of_four_is_cut() {
    for n in [4, 5, 6] {
        holds(&one_version(n, &[0], FAN), ONE_STEP, ALL);
    }
    holds(&one_version(4, &[0], LATE_FAN), ONE_STEP, ALL);
    let story = "1 cosigns A1; 2 cosigns B1; 3 cosigns C1";
    breaks(&one_version(4, &[0], FAN), ONE_STEP.without(Rule::AnyBranch), ALL, CanCut, story);
}

/// The number of ways in which the honest of `n` can stand on three branches, or before these, so that the log can't
/// be cut once all of them say so: those where two branches have `group` of them each.
fn ways_to_stop(n: usize, liars: &[usize], group: usize) -> usize {
    let scenario = one_version(n, liars, FAN);
    let model = CutModel::new(&scenario, ONE_STEP);
    let honest: Vec<usize> = model.honest().collect();
    let heads = |ways: usize| (0..honest.len() as u32).map(move |at| ways / 4_usize.pow(at) % 4);
    let stops = |ways: &usize| {
        let (mut state, mut groups) = (model.start(), [0; 4]);
        for (op, head) in honest.iter().zip(heads(*ways)) {
            groups[head] += 1;
            if head != R {
                assert!(model.may_cosign(&state, *op, head));
                state = model.apply(&state, ModelStep::Cosign(*op, head));
            }
        }
        let even = groups[1..].iter().filter(|size| **size >= group).count() > 1;
        assert_eq!(model.can_cut(&state), !even, "{groups:?} of {n}");
        even
    };
    (0..4_usize.pow(honest.len() as u32)).filter(stops).count()
}

/// A lone lying owner stops seven operators by showing two branches to three of them each, and stops no smaller
/// federation. With a silent second liar, two on each branch are enough.
#[test]
fn only_even_splits_of_seven_stop_a_log() {
    const NEVER: usize = 7;
    for n in [4, 5, 6] {
        assert_eq!(ways_to_stop(n, &[0], NEVER), 0);
    }
    assert_eq!((ways_to_stop(7, &[0], 3), ways_to_stop(7, &[0, 1], 2)), (60, 240));
}

/// The model can fail: some property breaks without any one rule.
#[test]
fn every_rule_is_needed() {
    let whole = GUARDED.without(Rule::LagAtCut).with(&[Rule::LagWhole]);
    let four = one_version(4, &[0], FORK);
    let seven = one_version(7, &[0], TWIG);
    let table: &[(Rule, RuleSet, &Scenario, Property)] = &[
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
        // R is also a log that never began: the version that brought it signs its cut, too.
        (Rule::LagWhole, whole, &half_replaced(), NothingLost),
        (Rule::AgreeFirst, ONE_STEP, &four, CanCut),
        (Rule::AnyBranch, ONE_STEP, &one_version(4, &[0], FAN), CanCut),
        (Rule::AllKeepCosigning, ONE_STEP, &replaced(), CertifiedAgain),
        (Rule::QuorumWhole, MENDED, &four, OneBranch),
        (Rule::CosignExtends, MENDED, &four, OneBranch),
        (Rule::CutExtends, MENDED, &four, NothingLost),
        (Rule::StatementsBind, MENDED, &four, OneBranch),
        (Rule::CutStands, MENDED, &cut_before(), NothingLost),
        (Rule::AgreeFirst, MENDED, &four, CanCut),
        (Rule::AllKeepCosigning, MENDED, &replaced(), CertifiedAgain),
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

/// Everything that f liars can do to a fork of few heads.
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

/// One operator joins, leaves or is replaced, while the log lags behind and while it adopts.
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

/// Seven operators, deep forks and changing operators: random walks, which also find what the first rules lose.
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

/// Operators always settle on one text, and do not without any one of the agreement's rules.
#[test]
fn agreement_settles() {
    use agreement::{AgreementRules, MENDED, settles};
    assert!(settles(4, MENDED).1);
    for broken in [
        AgreementRules { pledges_first: false, ..MENDED },
        AgreementRules { approvals_first: false, ..MENDED },
        AgreementRules { pledge_binds: false, ..MENDED },
        AgreementRules { approvals_release: false, ..MENDED },
    ] {
        assert!(!settles(4, broken).1);
    }
}
