//! Offers of a certified state: an honest one is accepted, and no false one is.
use fama_ledger::adoption::Adoption;
use fama_ledger::checkpoint::{self, Checkpoint, Cosignature, SignedCheckpoint};
use fama_ledger::codec;
use fama_ledger::entry::VerifiedEntry;
use fama_ledger::log::{Tiles as _, prove_inclusion};
use fama_ledger::manifest::Manifest;
use fama_ledger::rows::{LogRow, MapName, Rows as _, row_key};
use fama_ledger::snapshot::{self, Offer, edge_widths};
use fama_tests::{DOMAINS, MemoryReplica, SECOND, START, adoption, domain, federation, later_version, log, node_key};

/// The first operator's mirror's offer, its head cosigned by the operators `by`.
pub(crate) fn offer(manifest: &Manifest, replica: &MemoryReplica<'_>, by: &[usize]) -> Offer {
    let (key, of) = (|i: usize| node_key(i as u8).ed25519().unwrap().clone(), log(0));
    let mirror = &replica.logs[&of];
    let head = mirror.tree.head();
    let signed = SignedCheckpoint::sign(Checkpoint { origin: manifest.origin(&of), head }, &key(0));
    let cosign = |i: &usize| {
        let operator = domain(DOMAINS[*i]);
        let cosignature = Cosignature::sign(signed.checkpoint(), operator, &key(*i), START.0 / SECOND);
        (cosignature, key(*i).verifying_key())
    };
    let cosigned: Vec<_> = by.iter().map(cosign).collect();
    let edge = (0u8..).zip(edge_widths(head.size)).map(|(level, width)| {
        let tile = mirror.tiles.tile(level, head.size >> (8 * (u32::from(level) + 1))).unwrap();
        tile[..width].to_vec()
    });
    Offer {
        checkpoint: checkpoint::note(&signed, &key(0).verifying_key(), &cosigned).to_string(),
        state: mirror.entries.last().unwrap().bytes().to_vec(),
        path: prove_inclusion(head.size - 1, head.size, &mirror.tiles).unwrap(),
        maps: snapshot::list(&mirror.maps),
        row: replica.rows.get(MapName::log(&of).id(), &row_key::<LogRow>(&())).unwrap().unwrap(),
        edge: edge.collect(),
        adopted: adoption(mirror),
        rows: mirror.maps.iter().map(|(_, _, map)| map.len() as u64).collect(),
    }
}

/// A log long enough for two levels of tiles, and an odd one.
fn grown(manifest: &Manifest) -> MemoryReplica<'_> {
    let mut replica = MemoryReplica::adopted(manifest);
    for seed in 2..132 {
        replica.register(0, &format!("agent-{seed}"), seed);
    }
    replica
}

#[test]
fn an_offer_proves_itself() {
    let manifest = federation(4, |_| ());
    let replica = grown(&manifest);
    let offered = offer(&manifest, &replica, &[0, 2, 3]).verify(&manifest).unwrap();
    let mirror = &replica.logs[&log(0)];
    assert_eq!((offered.log(), offered.head()), (log(0), mirror.tree.head()));
    assert!(offered.head().size > 256 && offered.tiles.len() == 2, "{:?}", offered.head());
    assert_eq!(offered.state_root, mirror.state_root);
    assert_eq!((offered.row.version, offered.cosignatures.len()), (1, 3));
    let maps: Vec<_> = mirror.maps.iter().map(|(name, id, map)| (name.to_owned(), id, map.root())).collect();
    let proved = offered.maps.iter().map(|(name, root)| (name.as_str().to_owned(), name.id(), *root));
    assert_eq!(proved.collect::<Vec<_>>(), maps);
}

#[test]
fn an_offer_that_lies_is_refused_with_the_reason() {
    let manifest = federation(4, |_| ());
    let replica = grown(&manifest);
    let check = |what: &str, code: &str, lie: &dyn Fn(&mut Offer)| {
        let mut offer = offer(&manifest, &replica, &[0, 1, 2]);
        lie(&mut offer);
        assert_eq!(offer.verify(&manifest).map_err(|error| error.code()).unwrap_err(), code, "{what}");
    };
    let mirror = &replica.logs[&log(0)];
    check("too few cosigners", "snapshot_quorum", &|o| *o = offer(&manifest, &replica, &[0, 1]));
    check("an owner of another federation", "checkpoint_unknown_origin", &|o| {
        o.checkpoint = o.checkpoint.replace(&manifest.federation().to_string(), &"1".repeat(64));
    });
    check("an earlier state entry", "snapshot_state", &|o| o.state = mirror.entries[1].bytes().to_vec());
    check("another entry", "snapshot_state", &|o| o.state = mirror.entries[2].bytes().to_vec());
    check("a map that is another", "snapshot_maps", &|o| o.maps[0].1.0[7] ^= 1);
    check("a map that is left out", "snapshot_maps", &|o| drop(o.maps.remove(1)));
    check("maps in another order", "snapshot_maps", &|o| o.maps.swap(0, 1));
    check("a version that nobody holds", "snapshot_unheld", &|o| o.row[0] = 2);
    check("a row that is not the log's", "snapshot_row", &|o| *o.row.last_mut().unwrap() ^= 1);
    check("another edge", "snapshot_edge", &|o| o.edge[0][3][5] ^= 1);
    check("a longer edge", "snapshot_edge", &|o| o.edge.push(Vec::new()));
    check("a shorter edge", "snapshot_edge", &|o| o.edge[0].truncate(3));
    check("hints for maps that are not there", "snapshot_maps", &|o| o.rows.push(0));
}

/// At the end of a batch that adopts a version, both versions' operators count; after it, only the later version's.
#[test]
fn an_offer_under_a_later_version_shows_its_adoption() {
    let first = federation(4, |_| ());
    let second = later_version(&first, |_| ());
    let mut replica = MemoryReplica { manifest: &second, ..MemoryReplica::adopted(&first) };
    replica.append(&log(0), vec![VerifiedEntry::adopt(START, 2, second.hash())]);
    let told = |offer: Offer| offer.verify(&second).map(|offered| offered.row.version).map_err(|error| error.code());
    assert_eq!(told(offer(&second, &replica, &[0, 1, 2])), Ok(2));
    replica.register(0, "beyond", 2);
    let good = || offer(&second, &replica, &[0, 1, 2]);
    assert_eq!(told(good()), Ok(2));
    assert_eq!(told(Offer { adopted: None, ..good() }), Err("adoption_missing"));
    let earlier = |index: usize| {
        let mirror = &replica.logs[&log(0)];
        let path = prove_inclusion(index as u64, mirror.tree.size(), &mirror.tiles).unwrap();
        Some(Adoption { index: index as u64, entry: mirror.entries[index].bytes().to_vec(), path })
    };
    assert_eq!(told(Offer { adopted: earlier(0), ..good() }), Err("adoption_entry"));
    let fresh = MemoryReplica::adopted(&first);
    let superfluous = Offer { adopted: good().adopted, ..offer(&first, &fresh, &[0, 1, 2]) };
    assert_eq!(superfluous.verify(&first).map_err(|error| error.code()), Err("adoption_superfluous"));
}

#[test]
fn any_flipped_byte_of_an_offer_is_refused() {
    let manifest = federation(4, |_| ());
    let mut replica = MemoryReplica::adopted(&manifest);
    replica.register(0, "somebody", 2);
    let bytes = codec::encode(&offer(&manifest, &replica, &[0, 1, 2]));
    // The offer ends with row counts, which nothing signs.
    let hints = 8 * replica.logs[&log(0)].maps.iter().count();
    for at in 0..bytes.len() - hints {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x01;
        let Ok(offer) = codec::decode::<Offer>(&flipped, bytes.len() + 1) else { continue };
        assert!(offer.verify(&manifest).is_err(), "byte {at}");
    }
    assert!(codec::decode::<Offer>(&bytes, bytes.len()).unwrap().verify(&manifest).is_ok());
}
