//! The rules for changes from one version to the next.
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Cut, KnownLog, LogId, Manifest, ManifestError, endpoints, text};
use crate::signed_note::SignedNote;

#[cfg(test)]
mod tests;

/// Reads the version after `previous` and checks its rules, not its signatures.
pub(super) fn follow(previous: &Arc<Manifest>, note: SignedNote, known: u32) -> Result<Manifest, ManifestError> {
    let content = text::read(&note.text, known)?;
    let text::ManifestContent { hash, federation, previous: before, name, version, protocol, .. } = content;
    let text::ManifestContent { policy, operators, homes, cuts, .. } = content;
    let wanted = previous.version.saturating_add(1);
    if version != wanted {
        return Err(ManifestError::Version { found: version, wanted });
    }
    let same = [
        ("federation", federation == Some(previous.federation)),
        ("previous", before == Some(previous.hash)),
        ("name", name == previous.name),
    ];
    if let Some((field, _)) = same.iter().find(|(_, same)| !same) {
        return Err(ManifestError::Previous { field });
    }
    let (records, logs) = (previous.records.clone(), previous.logs.clone());
    let (federation, previous_version) = (previous.federation, Some(Arc::clone(previous)));
    let mut next = Manifest {
        note,
        hash,
        federation,
        name,
        version,
        protocol,
        policy,
        operators,
        homes,
        records,
        logs,
        previous: previous_version,
    };
    for cut in cuts {
        end(&mut next, cut)?;
    }
    begin(&mut next)?;
    check_roles(&next)?;
    check_gone(&next, previous)?;
    check_homes(&next, previous)?;
    check_records(&next)?;
    endpoints::check_former_keys(&next)?;
    Ok(next)
}

fn broken<T>(rule: alloc::string::String) -> Result<T, ManifestError> {
    Err(ManifestError::Succession(rule))
}

/// Records a cut. A log can be cut only once.
fn end(next: &mut Manifest, cut: Cut) -> Result<(), ManifestError> {
    let version = next.version;
    let Some(known) = next.logs.get_mut(&cut.log) else { return broken(format!("no version has the log {}", cut.log)) };
    if known.cut.is_some() {
        return broken(format!("the log {} was cut before, and a cut is final", cut.log));
    }
    if cut.adopted != 0 && !(known.since..version).contains(&cut.adopted) {
        return broken(format!("the log {} cannot have adopted version {}", cut.log, cut.adopted));
    }
    for carrier in next.records.values_mut().filter(|carrier| **carrier == cut.log) {
        *carrier = cut.successor.clone();
    }
    known.cut = Some((version, cut));
    Ok(())
}

/// Records the logs that this version introduces: of new operators, and new generations of known operators.
fn begin(next: &mut Manifest) -> Result<(), ManifestError> {
    let used: BTreeSet<[u8; 32]> = next.logs.values().map(|known| known.node_key.to_bytes()).collect();
    for operator in &next.operators {
        let (log, node_key, begins) = (operator.log(), operator.node_key, operator.begins);
        match next.logs.get(&log) {
            Some(known) if known.cut.is_some() => {
                return broken(format!("the log {log} is cut; {} needs a new generation", operator.name));
            }
            Some(known) if known.node_key == node_key && known.begins == begins => {}
            Some(known) if known.node_key == node_key => {
                return broken(format!("the log {log} begins at {}, and continues: that stays", known.begins));
            }
            Some(_) => {
                return broken(format!("a new node key of {} needs a new generation of its log", operator.name));
            }
            None if used.contains(node_key.as_bytes()) => {
                return broken(format!("the log {log} needs a node key that no other log has or had"));
            }
            None => {
                next.records.entry(operator.name.clone()).or_insert_with(|| log.clone());
                next.logs.insert(log, KnownLog { node_key, since: next.version, begins, cut: None });
            }
        }
    }
    Ok(())
}

/// A key that ever was a governance key is no node key, and the reverse: one is kept offline, the other is not, and a
/// line of the one must never be taken for one of the other.
fn check_roles(next: &Manifest) -> Result<(), ManifestError> {
    let node: BTreeSet<[u8; 32]> = next.logs.values().map(|known| known.node_key.to_bytes()).collect();
    let mut governors = next.versions().flat_map(Manifest::operators);
    match governors.find(|operator| node.contains(operator.governance_key.as_bytes())) {
        Some(operator) => {
            broken(format!("a governance key of {} is or was a node key; no key is ever both", operator.name))
        }
        None => Ok(()),
    }
}

/// A log whose operator is gone, or has another generation, must be cut by the same version. An operator that is
/// gone cannot come back.
fn check_gone(next: &Manifest, previous: &Manifest) -> Result<(), ManifestError> {
    let current: BTreeSet<LogId> = next.operators.iter().map(super::Operator::log).collect();
    let lost = next.logs.iter().find(|(log, known)| known.cut.is_none() && !current.contains(*log));
    if let Some((log, _)) = lost {
        return broken(format!("no operator has the log {log} any more: cut it"));
    }
    let known = |name| previous.records.contains_key(name);
    let back =
        next.operators.iter().find(|operator| known(&operator.name) && previous.operator(&operator.name).is_none());
    match back {
        Some(operator) => {
            broken(format!("{} was an operator once; it cannot come back under this name", operator.name))
        }
        None => Ok(()),
    }
}

/// A home is never removed, and moves to another log only when its log is cut. A new home must come with the new
/// operator of its name.
fn check_homes(next: &Manifest, previous: &Manifest) -> Result<(), ManifestError> {
    for (home, carrier) in &previous.homes {
        match next.homes.get(home) {
            None => return broken(format!("the home {home} is missing; homes are never removed")),
            Some(now) if now != carrier && next.cut(carrier).is_none() => {
                return broken(format!("the home {home} leaves the log {carrier}, which is not cut"));
            }
            Some(_) => {}
        }
    }
    // Every operator's name is a home, so an operator whose name was not a home before is new, and so is its log.
    match next.homes.iter().find(|(home, carrier)| !previous.homes.contains_key(*home) && carrier.operator != **home) {
        Some((home, _)) => broken(format!("the new home {home} must be carried by the new log of its own operator")),
        None => Ok(()),
    }
}

/// Statements and claims must pass to a log that continues, those of a current operator to its own log.
fn check_records(next: &Manifest) -> Result<(), ManifestError> {
    for Cut { log, successor, .. } in next.cuts() {
        if next.log(successor).is_none_or(|known| known.cut.is_some()) {
            return broken(format!("{successor} cannot succeed {log}: it does not continue"));
        }
    }
    for (operator, carrier) in &next.records {
        if next.operator(operator).is_some_and(|current| current.log() != *carrier) {
            return broken(format!("the statements of {operator} must pass to its own new log"));
        }
    }
    Ok(())
}

/// The versions whose quorums must sign `manifest`, ascending.
pub(super) fn signing_versions(manifest: &Manifest) -> Vec<u32> {
    let Some(previous) = &manifest.previous else { return Vec::new() };
    let mut versions = BTreeSet::from([previous.version]);
    for cut in manifest.cuts() {
        // A log that never began counts as at the version that introduced it, whose quorum would certify its beginning.
        let since = manifest.log(&cut.log).map_or(1, |log| log.since);
        let adopted = cut.adopted.max(since);
        versions.extend([adopted, adopted.saturating_sub(1).max(since)]);
    }
    versions.into_iter().collect()
}
