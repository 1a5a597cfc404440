//! In which log's state each map is to be read.
use alloc::collections::BTreeMap;

use crate::id::Domain;
use crate::manifest::{LogId, Manifest};
use crate::rows::{MapId, MapName};

/// What a version says of who carries whose rows.
type Carried = fn(&Manifest) -> &BTreeMap<Domain, LogId>;

/// The log whose state has each map that the newest version reads, when every log is where it has adopted the
/// version that `adopted` says (0: it has not begun): a map stays with the log that was cut until the one that it
/// passes to has adopted that. A map that no log has yet is missing here, and empty.
#[must_use]
pub fn carriers(manifest: &Manifest, adopted: &impl Fn(&LogId) -> u32) -> BTreeMap<MapId, LogId> {
    let mut found = BTreeMap::new();
    let mut add = |map: MapName, name: &Domain, carried: Carried| {
        found.extend(carrier(manifest, name, carried, adopted).map(|log| (map.id(), log.clone())));
    };
    for home in manifest.homes().keys() {
        add(MapName::home(home), home, Manifest::homes);
    }
    for operator in manifest.records().keys() {
        add(MapName::statements(operator), operator, Manifest::records);
        add(MapName::claims(operator), operator, Manifest::records);
    }
    for log in manifest.logs().keys().filter(|log| manifest.cut(log).is_none()) {
        found.insert(MapName::log(log).id(), log.clone());
    }
    found
}

/// The newest of a map's carriers that has come to carry it.
fn carrier<'a>(
    manifest: &'a Manifest,
    name: &Domain,
    carried: Carried,
    adopted: &impl Fn(&LogId) -> u32,
) -> Option<&'a LogId> {
    let mut last = None;
    for version in manifest.versions() {
        let Some(log) = carried(version).get(name).filter(|log| last != Some(*log)) else { continue };
        last = Some(log);
        if manifest.at(adopted(log)).and_then(|taken| carried(taken).get(name)) == Some(log) {
            return Some(log);
        }
    }
    None
}
