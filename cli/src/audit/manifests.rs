//! The versions of the manifest that sources show, and the one chain that is audited by.
use std::sync::Arc;

use fama_ledger::limits::VERSIONS_MAX;
use fama_ledger::manifest::{Manifest, ManifestError};
use fama_ledger::public::Path;

use super::finding::{Finding, Found, Lie};
use super::{Files, read};

/// What all sources that belong together show.
pub(super) struct Chain {
    /// The newest version that holds.
    pub(super) newest: Arc<Manifest>,
    /// The newest version of each source; `None`: nothing of it can be used.
    pub(super) versions: Vec<Option<u32>>,
}

/// Reads every source's versions up to the first that is missing, and joins them behind `trusted`, or behind the
/// genesis of the first source that has one.
pub(super) fn chain(
    sources: &[&dyn Files],
    trusted: Option<&Arc<Manifest>>,
    findings: &mut Vec<Finding>,
) -> Option<Chain> {
    let shown: Vec<Option<Arc<Manifest>>> = sources.iter().map(|files| shown(*files, findings)).collect();
    let first = trusted.or_else(|| shown.iter().flatten().next())?;
    let mut newest = Arc::clone(first);
    let mut versions = Vec::new();
    for (files, shown) in sources.iter().zip(&shown) {
        let joined = shown.as_ref().map(|shown| join(&newest, shown).map_err(|finding| finding.by(files.name())));
        match joined {
            Some(Ok(longer)) => {
                versions.push(shown.as_ref().map(|shown| shown.version()));
                newest = longer;
            }
            Some(Err(finding)) => {
                versions.push(None);
                findings.push(*finding);
            }
            None => versions.push(None),
        }
    }
    Some(Chain { newest, versions })
}

/// Says which sources lack versions that a former audit saw, or that are trusted.
pub(super) fn rolled_back(sources: &[&dyn Files], chain: &Chain, held: u32, findings: &mut Vec<Finding>) {
    for (files, version) in sources.iter().zip(&chain.versions) {
        if let Some(version) = version.filter(|version| *version < held) {
            let what = format!("it shows version {version} of the manifest as the newest; version {held} is known");
            findings.push(*Finding::new(Lie::Rollback, what).code("manifest_rollback").by(files.name()));
        }
    }
}

/// The longer of two chains, if the other is its beginning.
fn join(known: &Arc<Manifest>, shown: &Arc<Manifest>) -> Found<Arc<Manifest>> {
    if known.federation() != shown.federation() {
        let what = format!("its genesis is that of the federation {}, not {}", shown.federation(), known.federation());
        return Err(Finding::new(Lie::Manifest, what).code("other_federation"));
    }
    let (longer, shorter) = if known.version() < shown.version() { (shown, known) } else { (known, shown) };
    let mut both = shorter.versions().filter_map(|ours| longer.at(ours.version()).map(|theirs| (ours, theirs)));
    match both.find(|(ours, theirs)| ours.hash() != theirs.hash()) {
        None => Ok(Arc::clone(longer)),
        // The newest that differ come first; the oldest is where people must choose.
        Some((ours, _)) => {
            let what = format!("it shows another valid text of version {} or of one before it", ours.version());
            Err(Finding::new(Lie::SplitView, what).code("manifests_conflict"))
        }
    }
}

/// The versions of one source, up to the first that is missing or does not hold.
fn shown(files: &dyn Files, findings: &mut Vec<Finding>) -> Option<Arc<Manifest>> {
    let mut newest = None;
    for version in 1..=u32::try_from(VERSIONS_MAX).unwrap_or(u32::MAX) {
        match next(files, newest.as_ref(), version) {
            Ok(Some(next)) => newest = Some(Arc::new(next)),
            Ok(None) if version == 1 => {
                let what = "no manifest/1: these are no public files of a federation";
                findings.push(*Finding::new(Lie::Unavailable, what).code("no_manifest").by(files.name()));
                return None;
            }
            Ok(None) => break,
            Err(finding) => {
                findings.push(*finding.by(files.name()));
                break;
            }
        }
    }
    newest
}

fn next(files: &dyn Files, newest: Option<&Arc<Manifest>>, version: u32) -> Found<Option<Manifest>> {
    let Some(bytes) = read(files, &Path::Manifest(version))? else { return Ok(None) };
    let text = String::from_utf8(bytes).map_err(|_| refused(version, &ManifestError::Note("not UTF-8".to_owned())))?;
    let parsed = newest.map_or_else(|| Manifest::parse(&text), |newest| newest.successor(&text));
    parsed.map(Some).map_err(|error| refused(version, &error))
}

fn refused(version: u32, error: &ManifestError) -> Box<Finding> {
    Finding::new(Lie::Manifest, format!("manifest/{version}: {error}")).code(error.code())
}
