//! The versions of the manifest that a client knows: its own file, and what it has learnt from nodes since.
//!
//! A user may hold nothing but the genesis. Each later version is signed by a quorum of the one before, so it may come
//! from any node; once checked it is kept in a file next to the user's, `manifest.txt.chain` for `manifest.txt`.
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fama_ledger::limits::CHAIN_BYTES_MAX;
use fama_ledger::manifest::Manifest;

use crate::failure::Failure;
use crate::files::{self, PUBLIC_MODE};

/// The file of the versions learnt from nodes.
#[must_use]
pub(crate) fn kept_at(path: &Path) -> PathBuf {
    files::with_ending(path, ".chain")
}

/// Reads a manifest, genesis or chain, and gives the newest version known from it.
///
/// # Errors
/// As [`files::read_manifest`]; `manifest_rival` if the kept versions contradict it.
pub(crate) fn read(path: &Path) -> Result<Arc<Manifest>, Failure> {
    let given = files::read_manifest(path)?;
    let place = kept_at(path);
    // Only a memory: without it, or if it is damaged, nodes are asked again.
    let kept = files::read(&place, CHAIN_BYTES_MAX).ok().and_then(|text| Manifest::parse_chain(&text).ok());
    let Some(kept) = kept.filter(|kept| kept.federation() == given.federation()) else { return Ok(given) };
    let both = given.version().min(kept.version());
    if given.at(both).map(Manifest::hash) != kept.at(both).map(Manifest::hash) {
        let message =
            format!("{} and {} hold two versions {both}, both signed by a quorum", path.display(), place.display());
        return Err(Failure::new("manifest_rival", message)
            .hint("tell the federation's operators: most of them signed two texts; then remove the wrong file"));
    }
    Ok(if kept.version() > given.version() { kept } else { given })
}

/// Keeps versions newer than those in the user's file. Where that cannot be written, nodes are asked again next time.
pub(crate) fn keep(path: &Path, newest: &Manifest) {
    let place = kept_at(path);
    // A name of its own for each process: two may learn the same version at the same time.
    let new = files::with_ending(&place, &format!(".{}", std::process::id()));
    let written = files::replace(&new, &newest.chain(), PUBLIC_MODE);
    if written.is_err() || std::fs::rename(&new, &place).is_err() {
        tracing::debug!(place = %place.display(), "cannot keep newer versions of the manifest");
        let _ = std::fs::remove_file(&new);
    }
}

/// The chain extended by what a node shows: signed notes, oldest first. What is no valid successor is ignored: it may be
/// a rival of the newest version, which nodes show last.
#[must_use]
pub(crate) fn extended(known: Arc<Manifest>, notes: &[String]) -> Arc<Manifest> {
    notes.iter().fold(known, |known, note| known.successor(note).map_or(known, Arc::new))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::federation::tests::{next_version, small_federation};

    #[test]
    fn what_nodes_show_is_checked_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let created = small_federation(dir.path(), 1);
        let path = &created.manifest_path;
        let genesis = read(path).unwrap();
        assert_eq!(genesis.version(), 1);
        let second = next_version(&created, &genesis, 1);
        let unsigned = next_version(&created, &genesis, 0);
        assert_eq!(extended(Arc::clone(&genesis), &[unsigned, "junk".to_owned()]).version(), 1);
        let newest = extended(Arc::clone(&genesis), &[second.clone(), second]);
        assert_eq!(newest.version(), 2);
        keep(path, &newest);
        assert_eq!(read(path).unwrap().version(), 2);
        std::fs::write(kept_at(path), "damaged").unwrap();
        assert_eq!(read(path).unwrap().version(), 1);
        // Another version 2, signed as well: somebody has to look at it.
        let rival = extended(Arc::clone(&genesis), &[next_version(&created, &genesis, 2)]);
        assert_eq!(rival.version(), 2);
        keep(path, &rival);
        std::fs::write(path, newest.chain()).unwrap();
        assert_eq!(read(path).unwrap_err().code, "manifest_rival");
        std::fs::remove_file(kept_at(path)).unwrap();
        assert_eq!(read(path).unwrap().version(), 2);
    }
}
