//! Which logs a rollback concerns.
use fama_ledger::id::{StateRoot, TreeRoot};
use fama_ledger::manifest::Cut;

use super::super::rollback::connected;
use super::*;

#[test]
fn a_rollback_concerns_only_logs_that_maps_passed_between() {
    let names = ["alpha.example", "beta.example", "gamma.example", "delta.example"];
    let governance = |i: usize| key(40 + u8::try_from(i).unwrap());
    let operator = |i: usize| Operator {
        name: domain(names[i]),
        node_key: key(30 + u8::try_from(i).unwrap()).ed25519().unwrap().verifying_key(),
        governance_key: governance(i).ed25519().unwrap().verifying_key(),
        generation: 1,
        begins: fama_ledger::time::Millis::FIRST,
        addresses: Vec::new(),
        endpoints: fama_ledger::manifest::Endpoints::default(),
    };
    let genesis =
        Genesis { name: "test".to_owned(), policy: Policy::recommended(4), operators: (0..4).map(operator).collect() };
    let signed = |text: String| {
        let signatures = (0..4).map(|i| signed_note::sign(&text, names[i], governance(i).ed25519().unwrap())).collect();
        SignedNote { text, signatures }.to_string()
    };
    let first = Arc::new(Manifest::parse(&signed(genesis.text().unwrap())).unwrap());
    let log = |i: usize| LogId { operator: domain(names[i]), generation: 1 };
    for i in 0..4 {
        assert_eq!(connected(&first, &log(i)), [log(i)].into());
    }
    // The last operator leaves: its home and its records pass to the second one's log.
    let mut draft = first.draft();
    draft.operators.retain(|operator| operator.name != domain(names[3]));
    let head = Head { size: 8, root: TreeRoot([1; 32]) };
    let cut = Cut { log: log(3), head, state_root: StateRoot([2; 32]), adopted: 1, successor: log(1) };
    draft.cuts.push(cut);
    draft.homes.insert(domain(names[3]), log(1));
    draft.policy = Policy::recommended(3);
    let second = first.successor(&signed(draft.text().unwrap())).unwrap();
    for i in [1, 3] {
        assert_eq!(connected(&second, &log(i)), [log(1), log(3)].into());
    }
    for i in [0, 2] {
        assert_eq!(connected(&second, &log(i)), [log(i)].into());
    }
}
