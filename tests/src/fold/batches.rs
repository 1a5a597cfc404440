//! Batches and the bytes of a day.
use super::*;

/// An adoption, or an event after it, as an owner would have to log them.
fn bodies(manifest: &Manifest) -> (VerifiedEntry, VerifiedEntry) {
    let adopt = VerifiedEntry::adopt(START, manifest.version(), manifest.hash());
    let key = secret(2);
    let event = signed(event(manifest.federation(), register(0, "agent", &key), START, 1), &key);
    (adopt, VerifiedEntry::of(START, event.verify(&manifest.federation()).unwrap()))
}

#[test]
fn invalid_batches_change_nothing() {
    let manifest = federation(1, |_| ());
    let (adopt, agent) = bodies(&manifest);
    let (state, zero) = (VerifiedEntry::state, StateRoot([0; 32]));
    let fresh = MemoryReplica::new(&manifest);
    let begun = MemoryReplica::adopted(&manifest);
    let before = VerifiedEntry::of(Millis(START.0 - 1), agent.event().unwrap().clone());
    let after = VerifiedEntry::of(later(1), agent.event().unwrap().clone());
    let other = |version, hash| VerifiedEntry::adopt(START, version, hash);
    let good = begun.complete(&log(0), vec![agent.clone()]);
    let table: Vec<(&str, &MemoryReplica<'_>, Vec<VerifiedEntry>, &str)> = vec![
        ("nothing", &begun, vec![], "batch_shape"),
        ("no state entry", &begun, vec![agent.clone()], "batch_shape"),
        ("a state entry alone", &begun, vec![state(START, zero)], "batch_shape"),
        ("a state entry within", &begun, vec![agent.clone(), state(START, zero), state(START, zero)], "batch_shape"),
        ("time back", &begun, vec![before, state(START, zero)], "time_back"),
        ("time back within", &begun, vec![after, agent.clone(), state(later(1), zero)], "time_back"),
        ("a state entry later", &begun, vec![agent.clone(), state(later(1), zero)], "time_back"),
        ("a state entry earlier", &begun, vec![agent.clone(), state(Millis(START.0 - 1), zero)], "time_back"),
        ("no adoption", &fresh, vec![agent.clone(), state(START, zero)], "adopt"),
        ("adoption not alone", &fresh, vec![adopt.clone(), agent.clone(), state(START, zero)], "adopt"),
        ("adoption twice", &fresh, vec![adopt.clone(), adopt.clone(), state(START, zero)], "adopt"),
        ("adoption again", &begun, vec![adopt.clone(), state(START, zero)], "adopt"),
        ("version 2", &fresh, vec![other(2, manifest.hash()), state(START, zero)], "adopt"),
        ("wrong hash", &fresh, vec![other(1, ManifestHash([1; 32])), state(START, zero)], "adopt"),
        ("wrong root", &begun, vec![agent, state(START, zero)], "state_root"),
        ("wrong root of the first", &fresh, vec![adopt, state(START, zero)], "state_root"),
    ];
    for (name, replica, entries, code) in table {
        let mut replica = replica.clone();
        let (rows, root) = (replica.rows.clone(), replica.logs[&log(0)].maps.state_root());
        match replica.take(&log(0), entries) {
            Err(ReplayError::Invalid(error)) => assert_eq!(error.code(), code, "{name}: {error}"),
            other => panic!("{name}: {other:?}"),
        }
        assert_eq!((&replica.rows, replica.logs[&log(0)].maps.state_root()), (&rows, root), "{name}");
        if replica.logs[&log(0)].tree.size() > 0 {
            assert!(replica.take(&log(0), good.clone()).is_ok(), "{name}: the good batch is still good");
        }
    }
}

#[test]
fn bytes_of_a_day_are_bounded() {
    let (adopt, agent) = bodies(&federation(1, |_| ()));
    let sum = (adopt.bytes().len() + agent.bytes().len()) as u64;
    let fits = |daily_bytes: u64| {
        let manifest = federation(1, |p: &mut Policy| p.daily_bytes = daily_bytes);
        let replica = MemoryReplica::adopted(&manifest);
        let (log, (_, agent)) = (log(0), bodies(&manifest));
        let mut batch = Batch::begin(&manifest, &log, &replica.rows, 2).unwrap();
        batch.replay(&agent).map(|_| ())
    };
    assert_eq!(fits(sum), Ok(()));
    assert_eq!(fits(sum - 1), Err(BatchError::Bytes { index: 2, max: sum - 1 }.into()));
}

/// A note counts 1,024 bytes in addition to its entry; the next day starts at 0; state entries are not counted.
#[test]
fn what_counts_as_bytes() {
    let manifest = federation(1, |_| ());
    let mut w = World::new(&manifest);
    let key = secret(2);
    let mut action = register(0, "agent", &key);
    if let Action::Register { note, .. } = &mut action {
        *note = Some(fama_ledger::id::NoteHash([7; 32]));
    }
    let bytes = |w: &World<'_>, time| Batch::begin(&manifest, &log(0), &w.replica.rows, 9).unwrap().bytes_on(time);
    let begun = bytes(&w, START);
    let said = w.signed(action, START, &key).verify(&manifest.federation()).unwrap();
    let entry = VerifiedEntry::of(START, said);
    let length = entry.bytes().len() as u64;
    w.replica.append(&log(0), vec![entry]);
    assert_eq!(bytes(&w, START), begun + length + limits::NOTE_QUOTA_BYTES);
    assert_eq!(bytes(&w, START.plus(DAY)), 0);
    let entry = VerifiedEntry::adopt(START, 1, manifest.hash());
    assert_eq!(begun, entry.bytes().len() as u64);
}

/// Symptom: a full batch refused an event but kept its effects, and no mirror could recompute the owner's next state
/// root. Cause: the fold ran before the check for room. Here a mirror must accept
/// the batch with the state root that the owner computed after a refusal.
#[test]
fn an_event_without_room_leaves_no_effect() {
    let (adopt, agent) = bodies(&federation(1, |_| ()));
    let room = (adopt.bytes().len() + agent.bytes().len()) as u64;
    let manifest = federation(1, |p| p.daily_bytes = room);
    let mut replica = MemoryReplica::adopted(&manifest);
    let (_, agent) = bodies(&manifest);
    let key = secret(4);
    let second = signed(event(manifest.federation(), register(0, "second", &key), START, 2), &key);
    let log = log(0);
    let mut batch = Batch::begin(&manifest, &log, &replica.rows, 2).unwrap();
    let (entry, _) = batch.admit(agent.event().unwrap().clone(), START).unwrap().unwrap();
    let refused = batch.admit(second.verify(&manifest.federation()).unwrap(), START);
    assert!(matches!(refused, Err(ReplayError::Invalid(BatchError::Bytes { index: 3, .. }))), "{refused:?}");
    let folded = batch.finish(&mut replica.logs[&log].maps.clone()).unwrap();
    let state = VerifiedEntry::state(folded.time, folded.state_root);
    assert!(replica.take(&log, vec![entry, state]).is_ok());
}

#[test]
fn a_log_that_has_not_adopted_admits_nothing() {
    let manifest = federation(1, |_| ());
    let (_, agent) = bodies(&manifest);
    let (log, rows) = (log(0), fama_ledger::rows::MemoryRows::default());
    let mut batch = Batch::begin(&manifest, &log, &rows, 0).unwrap();
    let refused = batch.admit(agent.event().unwrap().clone(), START);
    assert!(matches!(refused, Err(ReplayError::Invalid(BatchError::Adopt { index: 0 }))));
    batch.adopt(1, manifest.hash(), START).unwrap();
    let refused = batch.admit(agent.event().unwrap().clone(), START);
    assert!(matches!(refused, Err(ReplayError::Invalid(BatchError::Adopt { index: 1 }))));
    assert!(batch.finish(&mut LogMaps::load(&manifest, &log, &rows).unwrap()).is_ok());
}

#[test]
fn a_batch_holds_4096_entries() {
    let manifest = federation(1, |_| ());
    let replica = MemoryReplica::adopted(&manifest);
    let (_, agent) = bodies(&manifest);
    let log = log(0);
    let mut batch = Batch::begin(&manifest, &log, &replica.rows, 2).unwrap();
    for _ in 0..limits::BATCH_ENTRIES_MAX {
        batch.replay(&agent).unwrap();
    }
    assert_eq!(batch.replay(&agent), Err(BatchError::Shape.into()));
}

#[test]
fn entries_of_a_batch_see_one_another() {
    let manifest = federation(1, |_| ());
    let mut replica = MemoryReplica::adopted(&manifest);
    let key = secret(2);
    let said = signed(event(manifest.federation(), register(0, "agent", &key), START, 1), &key);
    let agent = said.event.id();
    let given = signed(event(manifest.federation(), attest(0, agent, id(9), 3), START, 2), &key);
    let entries =
        [said.clone(), said, given].map(|e| VerifiedEntry::of(START, e.verify(&manifest.federation()).unwrap()));
    let outcomes = replica.append(&log(0), entries.to_vec());
    assert_eq!(outcomes[1], Some(Err(Void::NameTaken)));
    assert!(outcomes[0].as_ref().unwrap().is_ok() && outcomes[2].as_ref().unwrap().is_ok());
    let identity = read::<Identity, _>(&replica.rows, MapName::home(&home(0)).id(), &agent).unwrap().unwrap();
    assert_eq!(identity.version, 1);
    // The updated maps equal those built from a scan of the rows.
    let rebuilt = LogMaps::load(&manifest, &log(0), &replica.rows).unwrap();
    assert_eq!(rebuilt.state_root(), replica.logs[&log(0)].state_root);
    let mut rows = 0;
    replica
        .rows
        .scan(MapName::home(&home(0)).id(), &[], &mut |_, _| {
            rows += 1;
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(rows, 9, "identity, version, name, key, provider, tally, subject, day and home");
}
