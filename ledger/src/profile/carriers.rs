//! Which log's state contains each map.
use alloc::collections::BTreeMap;

use crate::id::Domain;
use crate::manifest::{LogId, Manifest};
use crate::rows::{MapId, MapName};

/// A version's assignment of homes or of operators' records to logs.
type Carried = fn(&Manifest) -> &BTreeMap<Domain, LogId>;

/// The log whose state contains each map that the newest version reads. `adopted` gives the version that each log has
/// adopted; 0 if the log has no entry yet.
///
/// A map stays with a log that was cut until its new log has adopted the version that assigns the map to it. A map
/// that no log has yet is empty, and missing from the result.
#[must_use]
pub fn carriers(manifest: &Manifest, adopted: &impl Fn(&LogId) -> u32) -> BTreeMap<MapId, LogId> {
    carried(manifest, &|log| Some(adopted(log))).into_iter().map(|(map, log)| (map.id(), log.clone())).collect()
}

/// The maps that the newest version reads, each with the log whose state contains it, or with the log that is left out
/// and may contain it: that for which `adopted` gives `None`. Such a map is never read from an earlier log.
pub(super) fn carried<'a>(
    manifest: &'a Manifest,
    adopted: &impl Fn(&LogId) -> Option<u32>,
) -> BTreeMap<MapName, &'a LogId> {
    let mut found = BTreeMap::new();
    let mut add = |map: MapName, name: &Domain, carried: Carried| {
        found.extend(carrier(manifest, name, carried, adopted).map(|log| (map, log)));
    };
    for home in manifest.homes().keys() {
        add(MapName::home(home), home, Manifest::homes);
    }
    for operator in manifest.records().keys() {
        add(MapName::statements(operator), operator, Manifest::records);
        add(MapName::claims(operator), operator, Manifest::records);
    }
    for log in manifest.logs().keys().filter(|log| manifest.cut(log).is_none()) {
        found.insert(MapName::log(log), log);
    }
    found
}

/// The newest of a map's assigned logs that is left out, or has adopted a version that assigns the map to it.
fn carrier<'a>(
    manifest: &'a Manifest,
    name: &Domain,
    carried: Carried,
    adopted: &impl Fn(&LogId) -> Option<u32>,
) -> Option<&'a LogId> {
    let mut last = None;
    for version in manifest.versions() {
        let Some(log) = carried(version).get(name).filter(|log| last != Some(*log)) else { continue };
        last = Some(log);
        let Some(adopted) = adopted(log) else { return Some(log) };
        if manifest.at(adopted).and_then(|taken| carried(taken).get(name)) == Some(log) {
            return Some(log);
        }
    }
    None
}
