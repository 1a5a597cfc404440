//! Joins the manifest versions that the sources show into the one chain that the audit trusts.
use std::sync::Arc;

use fama_ledger::limits::VERSIONS_MAX;
use fama_ledger::manifest::{Manifest, ManifestError};
use fama_ledger::public::Path;

use super::finding::{AuditFinding, AuditResult, LieKind};
use super::{PublicFiles, read};

/// The chain that the sources agree on.
pub(super) struct Chain {
    /// Its newest version.
    pub(super) newest: Arc<Manifest>,
    /// The newest version that each source shows; `None` if it does not belong to this chain.
    pub(super) versions: Vec<Option<u32>>,
}

/// Reads the versions of every source up to the first missing one, and joins those that extend `trusted`, or the
/// genesis of the first source that has one. `None` if there is no genesis at all.
pub(super) fn chain(
    sources: &[&dyn PublicFiles],
    trusted: Option<&Arc<Manifest>>,
    findings: &mut Vec<AuditFinding>,
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

/// Adds a finding for each source that lacks versions up to `held`, which an earlier audit saw or which are trusted.
pub(super) fn rolled_back(sources: &[&dyn PublicFiles], chain: &Chain, held: u32, findings: &mut Vec<AuditFinding>) {
    for (files, version) in sources.iter().zip(&chain.versions) {
        if let Some(version) = version.filter(|version| *version < held) {
            let what = format!("it shows version {version} of the manifest as the newest; version {held} is known");
            findings.push(*AuditFinding::new(LieKind::Rollback, what).code("manifest_rollback").by(files.name()));
        }
    }
}

/// The longer of two chains, if it begins with the shorter one.
fn join(known: &Arc<Manifest>, shown: &Arc<Manifest>) -> AuditResult<Arc<Manifest>> {
    if known.federation() != shown.federation() {
        let what = format!("its genesis is that of the federation {}, not {}", shown.federation(), known.federation());
        return Err(AuditFinding::new(LieKind::Manifest, what).code("other_federation"));
    }
    let (longer, shorter) = if known.version() < shown.version() { (shown, known) } else { (known, shown) };
    let mut both = shorter.versions().filter_map(|ours| longer.at(ours.version()).map(|theirs| (ours, theirs)));
    match both.find(|(ours, theirs)| ours.hash() != theirs.hash()) {
        None => Ok(Arc::clone(longer)),
        // Versions are compared from the newest down: the first difference may be older than the one found.
        Some((ours, _)) => {
            let what = format!("it shows another valid text of version {} or of one before it", ours.version());
            Err(AuditFinding::new(LieKind::SplitView, what).code("manifests_conflict"))
        }
    }
}

/// The chain of one source, up to the first version that is missing or invalid.
fn shown(files: &dyn PublicFiles, findings: &mut Vec<AuditFinding>) -> Option<Arc<Manifest>> {
    let mut newest = None;
    for version in 1..=u32::try_from(VERSIONS_MAX).unwrap_or(u32::MAX) {
        match next(files, newest.as_ref(), version) {
            Ok(Some(next)) => newest = Some(Arc::new(next)),
            Ok(None) if version == 1 => {
                let what = "no manifest/1: these are no public files of a federation";
                findings.push(*AuditFinding::new(LieKind::Unavailable, what).code("no_manifest").by(files.name()));
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

fn next(files: &dyn PublicFiles, newest: Option<&Arc<Manifest>>, version: u32) -> AuditResult<Option<Manifest>> {
    let Some(bytes) = read(files, &Path::Manifest(version))? else { return Ok(None) };
    let text = String::from_utf8(bytes).map_err(|_| refused(version, &ManifestError::Note("not UTF-8".to_owned())))?;
    let parsed = newest.map_or_else(|| Manifest::parse(&text), |newest| newest.successor(&text));
    parsed.map(Some).map_err(|error| refused(version, &error))
}

fn refused(version: u32, error: &ManifestError) -> Box<AuditFinding> {
    AuditFinding::new(LieKind::Manifest, format!("manifest/{version}: {error}")).code(error.code())
}
