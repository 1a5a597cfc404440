//! What the benchmarks of the ledger work on.
use std::sync::Arc;

use fama_ledger::batch::LogMaps;
use fama_ledger::entry::{SignedEvent, VerifiedEntry, VerifiedEvent};
use fama_ledger::event::Action;
use fama_ledger::id::IdentityId;
use fama_ledger::key::Curve;
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::rows::MemoryRows;
use fama_ledger::secret::SecretKey;
use fama_tests::{DOMAINS, MemoryReplica, START, domain, event, federation, log, signed};

/// A provider, subjects, and a batch of so many attestations to log after their registrations.
pub(crate) struct World {
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) log: LogId,
    pub(crate) rows: MemoryRows,
    pub(crate) maps: LogMaps,
    pub(crate) size: u64,
    pub(crate) signed: Vec<SignedEvent>,
    pub(crate) batch: Vec<VerifiedEntry>,
    /// The state before each batch.
    pub(crate) before: Vec<Vec<VerifiedEntry>>,
}

impl World {
    pub(crate) fn new(curve: Curve, batch: u32) -> Self {
        let manifest = Arc::new(federation(1, |policy| {
            (policy.daily_registrations, policy.daily_attestations) = (batch * 2, batch * 2);
        }));
        let log = log(0);
        let mut replica = MemoryReplica::adopted(&manifest);
        let key = |seed: u32| SecretKey::from_seed(curve, blake3::hash(&seed.to_le_bytes()).as_bytes()).unwrap();
        let registration = |seed: u32| {
            let (home, name) = (domain(DOMAINS[0]), format!("person-{seed}").parse().unwrap());
            let action = Action::Register { home, name, key: key(seed).public(), next: None, note: None };
            check(&manifest, signed(event(manifest.federation(), action, START, seed.into()), &key(seed)))
        };
        let people: Vec<VerifiedEvent> = (0..=batch).map(registration).collect();
        let ids: Vec<IdentityId> = people.iter().map(VerifiedEvent::id).collect();
        assert!(replica.admit(&log, START, people).iter().all(Result::is_ok));
        let attestation = |subject: u32| {
            let (home, issuer) = (domain(DOMAINS[0]), ids[0]);
            let subject = ids[subject as usize];
            let action = Action::Attest { home, issuer, subject, delta: 3, context: None, note: None };
            signed(event(manifest.federation(), action, START, subject.0[0].into()), &key(0))
        };
        let signed: Vec<SignedEvent> = (1..=batch).map(attestation).collect();
        let entries = signed.iter().map(|signed| VerifiedEntry::of(START, check(&manifest, signed.clone())));
        let batch = replica.complete(&log, entries.collect());
        let mirror = &replica.logs[&log];
        let before = mirror.entries.split_inclusive(VerifiedEntry::is_state).map(<[_]>::to_vec).collect();
        let (maps, size) = (mirror.maps.clone(), mirror.tree.size());
        let rows = replica.rows.clone();
        Self { log, rows, maps, size, signed, batch, before, manifest }
    }
}

pub(crate) fn check(manifest: &Manifest, signed: SignedEvent) -> VerifiedEvent {
    signed.verify(&manifest.federation()).unwrap()
}
