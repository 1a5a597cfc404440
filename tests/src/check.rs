//! A data folder, changed behind the node's back: the check says so, and repairs it.
use std::fs;
use std::path::{Path, PathBuf};

use fama_ledger::manifest::Manifest;
use fama_node::inbox::check::{Report, check};
use fama_node::store::{Store, StoreError};
use fama_tests::secret;

use crate::federation::{Net, copy, eventually, multi};

/// How many single bits are flipped, one at a time, unless `FAMA_FLIPS` says otherwise.
const FLIPS: u64 = 150;

fn checked(data: &Path, manifest: &Manifest) -> Result<Report, StoreError> {
    let rebuilt = tempfile::tempdir().unwrap();
    let original = Store::open_unchecked(data, manifest)?;
    let rebuilt = Store::open(rebuilt.path(), manifest).unwrap();
    Ok(check(&original, &rebuilt, manifest, &mut |_, _| {}).unwrap())
}

/// A federation that has done a little of everything, stopped; its second node's folder.
async fn used() -> (Net, PathBuf) {
    let mut net = Net::running(2).await;
    let (agent_key, judge_key) = (secret(2), secret(4));
    let (agent, registration) = net.register(0, "checked", &agent_key);
    net.accepted(0, registration).await;
    let judge = net.provider(1, "judge", &judge_key).await;
    net.accepted(1, net.attest(1, (judge, &judge_key), agent, 3)).await;
    net.accepted(0, net.revoke(0, agent, &agent_key)).await;
    net.settled().await;
    eventually("the note arrives", || async {
        let query = net.nodes[1].as_ref().unwrap().query;
        let profile = crate::federation::get(query, "/api/agent/checked@alpha.example").await;
        if profile["recent_attestations"][0]["reason"] == "well done" { Ok(()) } else { Err(profile.to_string()) }
    })
    .await;
    net.stop(0).await;
    net.stop(1).await;
    let data = net.data(1);
    (net, data)
}

/// Everything that is compared, as one node holds it.
fn same(data: &Path, manifest: &Manifest) -> bool {
    checked(data, manifest)
        .is_ok_and(|report| report.findings.is_empty() && report.logs.iter().all(|(_, size)| *size > 2))
}

#[test]
fn a_folder_is_what_its_entries_make() {
    multi(async {
        let (net, data) = used().await;
        let report = checked(&data, &net.manifest).unwrap();
        assert_eq!(report.findings, []);
        assert!(report.logs.iter().all(|(_, size)| *size > 2), "{report:?}");
    });
}

/// A flipped bit is either refused by the database or found by the check, or changes nothing that is
/// kept (the logs of the database itself, and bytes that no file's reader looks at).
#[test]
#[allow(clippy::print_stdout, reason = "the figures of a long run")]
fn every_flipped_bit_is_refused_found_or_without_effect() {
    multi(async {
        let (net, data) = used().await;
        // Once more through the database, so that its files hold tables and not only a write-ahead log.
        drop(Store::open(&data, &net.manifest).unwrap());
        assert!(same(&data, &net.manifest));
        let whole = checked(&data, &net.manifest).unwrap();
        let flips = std::env::var("FAMA_FLIPS").map_or(FLIPS, |flips| flips.parse().unwrap());
        let files: Vec<PathBuf> = fs::read_dir(&data).unwrap().map(|file| file.unwrap().path()).collect();
        let tables: Vec<&PathBuf> = files.iter().filter(|file| file.extension().is_some_and(|e| e == "sst")).collect();
        assert!(!tables.is_empty(), "{files:?}");
        let (mut refused, mut found, mut harmless) = (0, 0, 0);
        for flip in 0..flips {
            let broken = tempfile::tempdir().unwrap();
            copy(&data, broken.path());
            let file = broken.path().join(tables[flip as usize % tables.len()].file_name().unwrap());
            let mut bytes = fs::read(&file).unwrap();
            // Spread over the file by the golden ratio: no two flips are near.
            let at = (flip.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20) as usize % bytes.len();
            bytes[at] ^= 1 << (flip % 8);
            fs::write(&file, bytes).unwrap();
            match checked(broken.path(), &net.manifest) {
                Err(_) => refused += 1,
                Ok(report) if !report.findings.is_empty() => found += 1,
                Ok(report) => {
                    assert_eq!(report, whole, "flip {flip} lost entries and nobody noticed");
                    harmless += 1;
                }
            }
        }
        println!("{flips} flips: {refused} refused, {found} found, {harmless} without effect");
        assert!(refused + found > harmless, "{refused} refused, {found} found, {harmless} without effect");
    });
}

#[test]
fn a_rebuilt_folder_is_the_same_and_takes_its_place() {
    multi(async {
        let (mut net, data) = used().await;
        let rebuilt = data.with_extension("rebuilt");
        let original = Store::open_unchecked(&data, &net.manifest).unwrap();
        let empty = Store::open(&rebuilt, &net.manifest).unwrap();
        let report = check(&original, &empty, &net.manifest, &mut |_, _| {}).unwrap();
        assert_eq!(report.findings, []);
        assert_eq!(original.differences(&empty).unwrap(), Vec::<String>::new(), "the rebuilt folder is the same");
        drop((original, empty));
        fs::remove_dir_all(&data).unwrap();
        fs::rename(&rebuilt, &data).unwrap();
        net.start(0).await;
        net.start(1).await;
        net.wait("both write again", |status| status["waiting"].is_null()).await;
        let (_, registration) = net.register(1, "after-repair", &secret(6));
        net.accepted(0, registration).await;
        net.settled().await;
    });
}
