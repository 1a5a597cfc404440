//! What all logs mean together, in cases where the order of logs, operators or claims could matter.
use fama_ledger::event::{Action, Method, RevokeReason};
use fama_ledger::id::{EventId, ManifestHash, StateRoot, TreeRoot};
use fama_ledger::join::{Join, LogState, state_id};
use fama_ledger::log::Head;
use fama_ledger::manifest::Cut;
use fama_tests::{
    DOMAINS, MemoryReplica, START, domain, event, federation, later_version, log, node_key, secret, signed,
};

fn admit(replica: &mut MemoryReplica<'_>, i: usize, provider: EventId, service: &str) {
    let action = Action::Admit {
        operator: domain(DOMAINS[i]),
        provider,
        service: service.parse().unwrap(),
        domain: domain("s.example"),
        method: Method::Https,
        from: 0,
    };
    let said = event(replica.manifest.federation(), action, START, 1);
    replica.append_event(&log(i), START, signed(said, &node_key(i as u8))).unwrap();
}

fn attest(replica: &mut MemoryReplica<'_>, issuer: EventId, subject: EventId, delta: i32, nonce: u64) {
    let action = Action::Attest { home: domain(DOMAINS[0]), issuer, subject, delta, context: None, note: None };
    let said = event(replica.manifest.federation(), action, START, nonce);
    replica.append_event(&log(0), START, signed(said, &secret(2))).unwrap();
}

#[test]
fn the_state_id_does_not_depend_on_the_lists_order() {
    let state =
        |i: usize, size| LogState { log: log(i), size, root: TreeRoot([i as u8; 32]), state_root: StateRoot([9; 32]) };
    let hash = ManifestHash([1; 32]);
    let id = state_id(hash, &[state(0, 1), state(1, 2), state(2, 3)]);
    assert_eq!(state_id(hash, &[state(2, 3), state(0, 1), state(1, 2)]), id);
    assert_ne!(state_id(hash, &[state(0, 1), state(1, 2), state(2, 4)]), id);
    assert_ne!(state_id(ManifestHash([2; 32]), &[state(0, 1), state(1, 2), state(2, 3)]), id);
    let manifest = federation(1, |_| ());
    let empty = LogState { log: log(0), size: 0, root: Head::EMPTY.root, state_root: StateRoot([0; 32]) };
    assert_eq!(MemoryReplica::new(&manifest).state_id(), state_id(manifest.hash(), &[empty]));
}

#[test]
fn identities_are_found_by_id_name_and_did() {
    let manifest = federation(2, |_| ());
    let mut replica = MemoryReplica::adopted(&manifest);
    let (one, two) = (replica.register(0, "same-name", 2), replica.register(1, "same-name", 4));
    let join = replica.join();
    for (i, id) in [(0, one), (1, two)] {
        let home = domain(DOMAINS[i]);
        let found = join.identity(id).unwrap().unwrap();
        assert_eq!((found.id, &found.home), (id, &home));
        assert_eq!(join.named(&"same-name".parse().unwrap(), &home), Ok(Some(id)));
        assert_eq!(join.with_prefix(&home, &id.0[..16].try_into().unwrap()), Ok(Some(id)));
        assert_eq!(join.keys(&found).unwrap().len(), 1);
        let key = secret(2 + 2 * i as u8).public().hash();
        assert_eq!(join.fits_chain(&found, 1, key, key), Ok(true));
        assert_eq!(join.fits_chain(&found, 2, key, key), Ok(false));
        assert_eq!(join.fits_chain(&found, 1, key, secret(9).public().hash()), Ok(false));
    }
    assert_eq!(join.named(&"same-name".parse().unwrap(), &domain("nowhere.example")), Ok(None));
    assert_eq!(join.with_prefix(&domain(DOMAINS[1]), &one.0[..16].try_into().unwrap()), Ok(None));
    assert_eq!(join.identity(EventId([0; 32])), Ok(None));
}

#[test]
fn a_subject_that_registers_later_has_its_karma() {
    let manifest = federation(2, |_| ());
    let mut replica = MemoryReplica::adopted(&manifest);
    let issuer = replica.register(0, "issuer", 2);
    admit(&mut replica, 0, issuer, "s");
    let key = secret(4);
    let action = Action::Register {
        home: domain(DOMAINS[1]),
        name: "late".parse().unwrap(),
        key: key.public(),
        next: None,
        note: None,
    };
    let said = event(manifest.federation(), action, START, 1);
    let late = said.id();
    attest(&mut replica, issuer, late, 4, 2);
    let listed = |replica: &MemoryReplica<'_>| {
        let mut all = Vec::new();
        replica.join().each_identity(|found| all.push(found.id)).unwrap();
        all
    };
    assert_eq!(listed(&replica), [issuer], "not listed before it is registered");
    replica.append_event(&log(1), START, signed(said, &key)).unwrap();
    assert!(listed(&replica).contains(&late));
    assert_eq!(replica.join().karma(late).unwrap().sum, 4);
}

/// A provider kept its karma after its only sponsor had left: nobody looked at it again under the new version.
#[test]
fn who_was_sponsored_by_one_who_left_is_looked_at_again() {
    let manifest = federation(4, |policy| policy.min_sponsors = 1);
    let mut replica = MemoryReplica::adopted(&manifest);
    let issuer = replica.register(0, "issuer", 2);
    admit(&mut replica, 3, issuer, "s");
    assert!(replica.join().sponsored(issuer).unwrap().is_all());
    let last = &replica.logs[&log(3)];
    let (head, state_root) = (last.tree.head(), last.state_root);
    let next = later_version(&manifest, |draft| {
        draft.operators.remove(3);
        draft.homes.insert(domain(DOMAINS[3]), log(0));
        draft.cuts.push(Cut { log: log(3), head, state_root, adopted: 1, successor: log(0) });
    });
    let join = Join::new(&next, &replica.rows);
    assert!(join.sponsored(issuer).unwrap().is_empty());
    assert_eq!(join.stated(None, 9).unwrap(), [issuer].into());
    assert_eq!(join.stated(Some(issuer), 9).unwrap(), [].into());
}

#[test]
fn sponsors_stand_in_their_names_order_whatever_came_first() {
    let manifest = federation(4, |_| ());
    let mut dumps = Vec::new();
    for order in [[0, 1, 2, 3], [3, 1, 0, 2]] {
        let mut replica = MemoryReplica::adopted(&manifest);
        let issuer = replica.register(0, "issuer", 2);
        for i in order {
            admit(&mut replica, i, issuer, "s");
        }
        let sponsors = replica.join().sponsorships(issuer).unwrap().remove(0).sponsors;
        let names: Vec<String> = sponsors.iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(names, ["alpha.example", "beta.example", "delta.example", "gamma.example"]);
        assert!(replica.join().sponsored(issuer).unwrap().is_all());
        dumps.push((replica.join().dump().unwrap(), replica.state_id()));
    }
    assert_eq!(dumps[0], dumps[1]);
}

/// A revocation that names the wrong home is still a valid statement of the key's owner.
#[test]
fn a_claim_counts_whatever_home_it_names() {
    let manifest = federation(2, |_| ());
    let mut replica = MemoryReplica::adopted(&manifest);
    let (agent, key) = (replica.register(0, "agent", 2), secret(2));
    let action = Action::Revoke {
        home: domain("elsewhere.example"),
        identity: agent,
        version: 1,
        key: key.public(),
        reason: RevokeReason::Retired,
    };
    let said = event(manifest.federation(), action, START, 1);
    replica.append_event(&log(0), START, signed(said, &key)).unwrap();
    let found = replica.join().identity(agent).unwrap().unwrap();
    let revoked = replica.join().key_status(&found).unwrap().revoked.unwrap();
    assert_eq!((revoked.operator, revoked.reason), (Some(domain(DOMAINS[0])), RevokeReason::Retired));
}
