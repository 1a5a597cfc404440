//! The signed note at the path `checkpoint`: a head with as many cosignatures as fit.
use alloc::string::ToString;
use alloc::vec::Vec;

use ed25519_dalek::VerifyingKey;

use crate::checkpoint::{self, Cosignature, SignedCheckpoint};
use crate::limits::CHECKPOINT_BYTES_MAX;
use crate::manifest::{LogId, Manifest};
use crate::signed_note::SignedNote;

/// The note of a head of `log` with its cosignatures, each by the node key of the given generation.
///
/// Cosignatures by keys of logs that were not cut come first; those that do not fit into [`CHECKPOINT_BYTES_MAX`]
/// are left out. `None` if the manifest does not know the log.
#[must_use]
pub fn checkpoint<'a>(
    manifest: &Manifest,
    log: &LogId,
    signed: &SignedCheckpoint,
    cosignatures: impl IntoIterator<Item = (&'a LogId, &'a Cosignature)>,
) -> Option<SignedNote> {
    let owner = manifest.log(log)?.node_key;
    let mut found: Vec<(bool, Cosignature, VerifyingKey)> = Vec::new();
    for (by, cosignature) in cosignatures {
        let known = manifest.log(by).filter(|_| by.operator == cosignature.operator);
        found.extend(known.map(|known| (known.cut.is_some(), cosignature.clone(), known.node_key)));
    }
    found.sort_by_key(|(cut, ..)| *cut);
    let mut found: Vec<_> = found.into_iter().map(|(_, cosignature, key)| (cosignature, key)).collect();
    loop {
        let note = checkpoint::note(signed, &owner, &found);
        if note.to_string().len() <= CHECKPOINT_BYTES_MAX || found.pop().is_none() {
            return Some(note);
        }
    }
}
