//! Operators on several branches: which proofs show where the branches diverge, and which cuts are possible.
use super::*;
use crate::log::TreeProofError;

/// The author of a draft may leave out proofs: then less is shown, never more.
#[test]
fn what_is_not_proved_does_not_count() {
    let heads = [A, Some((2, 6)), Some((1, 8)), Some((3, 7))];
    let whole = || case(genesis(4), 1, &heads).proven();
    assert_eq!(whole().check(1), Ok(Ground::GivenUp));
    for (of, size) in [((1, 8), 4), ((2, 6), 4), ((2, 6), 5), ((3, 7), 5)] {
        let mut less = whole();
        less.extensions = without(&less.extensions, &head(of), size);
        assert_eq!(less.code(1), "cut_too_few_stands", "without {of:?} at {size}");
    }
    let mut less = whole();
    less.extensions = Extensions::default();
    assert_eq!((less.code(1), less.check(2)), ("cut_too_few_stands", Ok(Ground::Extends)));
    // Heads that the cut extends need no further proof, in case nobody holds the branch that is given up.
    let mut unheld = case(genesis(4), 1, &[A, Some((2, 6)), Some((1, 8)), Some((1, 7))]).proven();
    unheld.extensions = without(&without(&unheld.extensions, &head((2, 6)), 4), &head((2, 6)), 5);
    assert_eq!(unheld.check(1), Ok(Ground::GivenUp));
}

/// The rule against its meaning, for all heads of all branches: the cut has everything that `own` and `other` share.
#[test]
fn off_the_branch_shares_nothing_that_the_cut_lacks() {
    let heads: Vec<(u8, u64)> = (1..=5).flat_map(|seed| [1, 3, 4, 5, 6, 8].map(|size| (seed, size))).collect();
    let shared = |one: (u8, u64), other: (u8, u64)| {
        let same = |i: &u64| whose(one.0, *i) == whose(other.0, *i);
        (0..one.1.min(other.1)).take_while(same).count()
    };
    let mut seen = [0, 0];
    for (cut, own) in heads.iter().flat_map(|cut| heads.iter().map(move |own| (*cut, *own))) {
        if shared(cut, own) as u64 == own.1 {
            continue;
        }
        for other in &heads {
            let found = shown(cut, &[own, *other]).is_off_branch(&head(*other), &head(own), &head(cut));
            assert_eq!(
                found,
                shared(own, *other) <= shared(own, cut),
                "{other:?} off the branch of {own:?}, cut {cut:?}"
            );
            seen[usize::from(found)] += 1;
        }
    }
    assert!(seen.iter().all(|count| *count > 1_000), "{seen:?}");
}

/// The owner shows a separate branch to each honest operator, or to each pair of six.
#[test]
fn many_branches_are_cut_and_even_halves_never() {
    let signers = |cut: (u8, u64), heads: &[Option<(u8, u64)>]| {
        case_at(cut, genesis(heads.len()), 1, heads).proven().shown().signers().len()
    };
    let [b, c, d] = [Some((1, 8)), Some((2, 6)), Some((3, 7))];
    for cut in [(1, 8), (2, 6), (3, 7)] {
        assert_eq!(signers(cut, &[A, b, c, d]), 3, "{cut:?}");
        assert_eq!(signers(cut, &[A, b, b, c, c, d, d]), 6, "{cut:?}");
    }
    assert_eq!(signers((1, 8), &[A, b, c, A]), 1, "two made stands, and one of them may lie");
    assert_eq!(signers((1, 8), &[A, b, b, b, c, c, c]), 3, "either half may be certified with two liars");
    assert_eq!(signers((1, 8), &[A, b, b, c, c, d, A]), 3, "a second liar is silent: only one may give up");
    assert_eq!(signers((1, 8), &[A, b, b, b, b, c, c]), 6);
    assert_eq!(signers((1, 8), &[A, b, b, b, c, d, A]), 5);
    // Branches that part late: the cut must be on one of them, not on what parted from both before.
    let (late, later) = (Some((2, 8)), Some((4, 9)));
    assert_eq!(signers((1, 8), &[A, b, late, later]), 1);
    assert_eq!(signers((2, 8), &[A, b, late, later]), 3);
    assert_eq!(signers((4, 9), &[A, b, late, later]), 3);
}

#[test]
fn only_proved_extensions_are_kept() {
    let (one, other) = (CutBranch::new(1), CutBranch::new(2));
    let wrong = Err(ExtensionError::Proof(TreeProofError::Root));
    let (root, proof) = one.proof(8, 5);
    let smaller = Head { size: 5, root };
    let mut found = Extensions::default();
    assert_eq!(found.add(&other.at(8), &smaller, proof.clone()), wrong);
    assert_eq!(found.add(&one.at(8), &other.at(5), proof.clone()), wrong);
    assert_eq!(found.add(&one.at(8), &Head { size: 0, root }, Vec::new()), wrong);
    assert_eq!(found.add(&smaller, &one.at(8), proof.clone()), Err(ExtensionError::Proof(TreeProofError::Range)));
    let changed: Vec<Hash> = proof.iter().map(|hash| hash.map(|byte| byte ^ 1)).collect();
    assert_eq!(found.add(&one.at(8), &smaller, changed), wrong);
    assert_eq!((found.iter().count(), found.extends(&one.at(8), &smaller)), (0, false));
    assert_eq!(found.add(&one.at(8), &smaller, proof.clone()), Ok(()));
    assert_eq!(found.iter().collect::<Vec<_>>(), [(&one.at(8), smaller, &proof[..])]);
    assert!(found.extends(&one.at(8), &smaller) && !found.extends(&one.at(8), &other.at(5)));
    assert!(!found.extends(&one.at(9), &smaller) && !found.extends(&smaller, &one.at(8)));
}

#[test]
fn so_many_extensions_and_no_more() {
    let (mut tree, mut tiles) = (Tree::default(), MemoryTiles::default());
    let size = EXTENSIONS_MAX as u64 + 2;
    tiles.write(tree.append((0..size).map(|i| leaf_hash(&i.to_le_bytes()))));
    let mut found = Extensions::default();
    let mut add = |smaller| {
        let proof = prove_consistency(smaller, size, &tiles).unwrap();
        found.add(&tree.head(), &Head { size: smaller, root: root_at(smaller, &tiles).unwrap() }, proof)
    };
    assert!((1..size - 1).all(|smaller| add(smaller).is_ok()));
    assert_eq!((add(size - 1), add(1)), (Err(ExtensionError::TooMany), Ok(())));
}

/// g, a liar like the owner, is alone on a branch that nobody else has ever seen.
#[test]
fn the_proposed_cut_is_one_that_an_honest_operator_holds() {
    let [b, c] = [Some((1, 8)), Some((2, 6))];
    let heads = [A, b, b, c, c, Some((3, 5)), Some((3, 12))];
    let at = |cut| case_at(cut, genesis(7), 1, &heads).proven();
    let (held, alone) = (at((1, 8)), at((3, 12)));
    assert_eq!((held.shown().signers().len(), alone.shown().signers().len()), (6, 6));
    assert_eq!(choose(&[held.shown(), alone.shown()]).unwrap().cut.head, head((1, 8)));
    // If each of five has its own branch and a sixth is silent, all hold the head where the branches diverge.
    let heads = [A, b, c, Some((3, 5)), Some((6, 7)), Some((7, 6)), A];
    let at = |cut| case_at(cut, genesis(7), 1, &heads).proven();
    let (one, fork) = (at((1, 8)), at((1, 4)));
    assert_eq!(one.extensions.forks().into_iter().collect::<Vec<_>>(), [head((1, 4))]);
    assert_eq!((one.shown().signers().len(), fork.shown().signers().len()), (5, 5));
    assert_eq!(choose(&[one.shown(), fork.shown()]).unwrap().cut.head, head((1, 4)));
    let heads = [A, b, b, c, c, Some((3, 5)), Some((3, 12))];
    let twice = case_at((3, 5), genesis(7), 1, &heads);
    assert!(twice.shown().is_held(), "one cosigned beyond it");
    assert!(case_at((1, 0), genesis(7), 1, &heads).shown().is_held(), "an empty log has no entries to hold");
}
