//! `governance.json`: three versions of a manifest and the logs that live through them.
//!
//! Version 2 changes a rule and adds an operator. Version 3 cuts the logs of delta, which is gone and whose successor
//! is alpha, and of beta, which continues in a second log. Types of vectors:
//!
//! - `chain`: a chain file, and what each version of it says. Everything below is checked against it.
//! - `log`: entries, to be replayed in the file's order, with the outcomes of each batch, the versions that they
//!   adopt (each with the size after its batch), head and state root. Then `row`, every row of all logs, and `state`:
//!   what is known once all logs are replayed, as in `logs.json`.
//! - `invalid chain`: a note that, after the first `behind` versions, makes a chain file that is refused with that
//!   code.
//! - `invalid batch`: entries after the first `behind` of a log above; `unheld` is not a fault: the log waits for a
//!   version.
//! - `stand`, `invalid stand`: a note, checked against version `held`.
//! - `equivocation`, `invalid equivocation`: an encoded proof.
mod chains;
mod proofs;
mod story;

use std::sync::Arc;

use fama_ledger::batch::ReplayError;
use fama_ledger::entry::VerifiedEntry;
use fama_ledger::equivocation::Equivocation;
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::stand::VerifiedStand;
use fama_ledger::{batch::Replayed, codec};
use fama_tests::MemoryReplica;
use serde_json::{Value, json};

use super::{Vector, blessing, hex, read, strings, unhex, write};

const FILE: &str = "governance.json";

fn made() -> Value {
    let third = story::versions();
    let mut all = vec![chain(&third)];
    all.extend(story::logs(&third));
    all.extend(chains::invalid());
    all.extend(story::invalid_batches(&third));
    all.extend(proofs::stands(&third));
    all.extend(proofs::equivocations(&third));
    Value::Array(all)
}

/// The content of one version, as the `chain` vectors list it.
fn version_content(manifest: &Manifest) -> Value {
    let pairs = |map: &std::collections::BTreeMap<_, LogId>| -> Value {
        map.iter().map(|(name, log): (&fama_ledger::id::Domain, _)| json!([name.as_str(), log.to_string()])).collect()
    };
    let signers = manifest.signers().unwrap();
    let signers = signers.iter().map(|one| json!([one.version, one.wanted, one.signed.len()]));
    let mut cuts: Vec<String> = manifest.cuts().map(|cut| cut.log.to_string()).collect();
    cuts.sort();
    json!({
        "version": manifest.version(), "hash": manifest.hash().to_string(),
        "quorum": manifest.quorum(), "faults": manifest.faults(), "homes": pairs(manifest.homes()),
        "records": pairs(manifest.records()), "cuts": cuts, "signers": signers.collect::<Vec<_>>(),
    })
}

fn chain(newest: &Manifest) -> Value {
    let mut versions: Vec<Value> = newest.versions().map(version_content).collect();
    versions.reverse();
    json!({
        "type": "chain", "chain": newest.chain(), "federation": newest.federation().to_string(), "versions": versions,
    })
}

fn outcomes(replayed: &[Replayed]) -> Vec<Vec<&'static str>> {
    replayed.iter().map(|batch| batch.outcomes.iter().map(super::outcome).collect()).collect()
}

#[test]
fn the_governance_file_is_what_the_code_makes() {
    let made = made();
    if blessing() {
        write(FILE, &made);
    }
    assert!(read(FILE) == *made.as_array().unwrap(), "{FILE} differs; FAMA_BLESS=1 rewrites it");
}

fn check_chain(v: &mut Vector) -> Arc<Manifest> {
    let newest = Manifest::parse_chain(&v.text("chain")).unwrap();
    assert_eq!(newest.federation().to_string(), v.text("federation"));
    let versions = v.take("versions");
    let versions = versions.as_array().unwrap();
    assert_eq!(versions.len() as u32, newest.version());
    for (version, wanted) in (1..).zip(versions) {
        assert_eq!(version_content(newest.at(version).unwrap()), *wanted);
    }
    newest
}

fn check_invalid_chain(v: &mut Vector, newest: &Manifest) -> &'static str {
    let before = newest.at(v.number("behind") as u32).map(Manifest::chain).unwrap_or_default();
    Manifest::parse_chain(&[before, v.text("note")].concat()).unwrap_err().code()
}

fn log_of(v: &mut Vector) -> LogId {
    LogId { operator: v.text("operator").parse().unwrap(), generation: v.number("generation") as u32 }
}

fn decoded(manifest: &Manifest, entries: &Value) -> Vec<VerifiedEntry> {
    let decode = |entry| VerifiedEntry::decode(unhex(entry), &manifest.federation()).unwrap();
    strings(entries).into_iter().map(decode).collect()
}

fn check_log(v: &mut Vector, replica: &mut MemoryReplica<'_>) {
    let log = log_of(v);
    replica.begin(&log);
    let entries = decoded(replica.manifest, &v.take("entries"));
    let replayed = replica.deliver(&log, 0, &entries);
    let wanted = v.take("outcomes");
    let wanted: Vec<Vec<&str>> = wanted.as_array().unwrap().iter().map(strings).collect();
    assert_eq!(outcomes(&replayed), wanted, "{log}");
    assert_eq!(story::adopted(&entries), v.take("adopted"), "{log}");
    let mirror = &replica.logs[&log];
    let head = mirror.tree.head();
    assert_eq!((head.size, head.root.to_string()), (v.number("size"), v.text("root")), "{log}");
    assert_eq!(mirror.state_root.to_string(), v.text("state_root"), "{log}");
    if let Some(cut) = replica.manifest.cut(&log) {
        assert_eq!((cut.head, cut.state_root), (head, mirror.state_root), "{log} ends here");
    }
}

fn check_state(v: &mut Vector, replica: &MemoryReplica<'_>) {
    assert_eq!(replica.logs.len(), replica.manifest.logs().len(), "every log is there");
    assert_eq!(v.text("state_id"), replica.state_id().to_string());
    assert_eq!(v.bytes("dump"), replica.join().dump().unwrap());
}

fn check_batch(v: &mut Vector, replica: &MemoryReplica<'_>) -> &'static str {
    let (log, behind) = (log_of(v), v.number("behind") as usize);
    let before = replica.logs[&log].entries[..behind].to_vec();
    let mut alone = story::without(replica, &log);
    alone.begin(&log);
    alone.deliver(&log, 0, &before);
    assert_eq!(alone.head(&log).size, behind as u64);
    match alone.take(&log, decoded(replica.manifest, &v.take("entries"))) {
        Err(ReplayError::Invalid(error)) => error.code(),
        Err(ReplayError::Unheld(_)) => "unheld",
        other => panic!("{log}: {other:?}"),
    }
}

fn check_stand(v: &mut Vector, newest: &Manifest) -> Result<(), &'static str> {
    let held = newest.at(v.number("held") as u32).unwrap();
    let stand = VerifiedStand::read(&v.text("note"), held).map_err(|error| error.code())?;
    let stand = stand.stand();
    assert_eq!((u64::from(stand.version), stand.log.to_string()), (v.number("version"), v.text("log")));
    assert_eq!((stand.operator.to_string(), stand.head.size), (v.text("operator"), v.number("size")));
    assert_eq!(stand.head.root.to_string(), v.text("root"));
    Ok(())
}

fn check_equivocation(v: &mut Vector, newest: &Manifest) -> Result<(), &'static str> {
    let bytes = v.bytes("proof");
    let proof: Equivocation = codec::decode(&bytes, Equivocation::BYTES_MAX).map_err(|error| error.code())?;
    proof.verify(newest).map_err(|error| error.code())?;
    let sizes = (proof.larger.0.size, proof.smaller.0.size);
    assert_eq!((proof.log.to_string(), sizes), (v.text("log"), (v.number("larger"), v.number("smaller"))));
    Ok(())
}

#[test]
fn every_governance_vector_holds() {
    let mut vectors = read(FILE).into_iter().map(Vector::of).peekable();
    let mut first = vectors.next().unwrap();
    assert_eq!(first.text("type"), "chain");
    let newest = check_chain(&mut first);
    first.close();
    let mut replica = MemoryReplica::new(&newest);
    replica.logs.clear();
    let (mut rows, mut counts) = (0, std::collections::BTreeMap::new());
    for mut v in vectors {
        let kind = v.text("type");
        let (why, code) =
            if kind.starts_with("invalid") { (v.text("why"), v.text("code")) } else { Default::default() };
        let found = match kind.trim_start_matches("invalid ") {
            "log" => {
                check_log(&mut v, &mut replica);
                Ok(())
            }
            "row" => {
                super::check_row(&mut v, &replica);
                rows += 1;
                Ok(())
            }
            "state" => {
                check_state(&mut v, &replica);
                Ok(())
            }
            "chain" => Err(check_invalid_chain(&mut v, &newest)),
            "batch" => Err(check_batch(&mut v, &replica)),
            "stand" => check_stand(&mut v, &newest),
            "equivocation" => check_equivocation(&mut v, &newest),
            other => panic!("no check for {other}"),
        };
        let wanted = if code.is_empty() { Ok(()) } else { Err(code.as_str()) };
        assert_eq!(found, wanted, "{kind}: {why}");
        *counts.entry(kind).or_insert(0) += 1;
        v.close();
    }
    assert_eq!(rows, replica.rows.iter().count(), "a row is missing");
    counts.retain(|kind, _| kind != "row");
    let all = [("equivocation", 2), ("log", 6), ("stand", 5), ("state", 1)];
    let invalid = [("batch", 15), ("chain", 46), ("equivocation", 10), ("stand", 10)];
    let all = all.map(|(kind, count)| (kind.to_owned(), count)).into_iter();
    let all = all.chain(invalid.map(|(kind, count)| (format!("invalid {kind}"), count)));
    assert_eq!(counts, all.collect());
}

/// Hex of each entry.
fn hexes(entries: &[VerifiedEntry]) -> Vec<String> {
    entries.iter().map(|entry| hex(entry.bytes())).collect()
}
