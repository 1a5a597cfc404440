//! The chain file: the signed notes of all versions in one text, genesis first.
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{MANIFEST_FORMAT, Manifest, ManifestError};
use crate::limits;

impl Manifest {
    /// Reads and verifies a chain of versions, signed notes one after another, genesis first.
    ///
    /// # Errors
    /// [`ManifestError`]: why the genesis was refused, or in [`ManifestError::InChain`] which later version and why.
    pub fn parse_chain(text: &str) -> Result<Arc<Self>, ManifestError> {
        let mut notes = chain_notes(text);
        let mut newest = Arc::new(Self::parse(notes.next().unwrap_or_default())?);
        for note in notes {
            if usize::try_from(newest.version).unwrap_or(usize::MAX) >= limits::VERSIONS_MAX {
                return Err(ManifestError::ChainTooLong);
            }
            let next = newest.successor(note);
            newest = Arc::new(next.map_err(|error| ManifestError::InChain {
                version: newest.version.saturating_add(1),
                error: Box::new(error),
            })?);
        }
        Ok(newest)
    }

    /// All versions up to this one as signed notes, genesis first: the input of [`Manifest::parse_chain`].
    #[must_use]
    pub fn chain(&self) -> String {
        let mut notes: Vec<String> = self.versions().map(|version| version.note.to_string()).collect();
        notes.reverse();
        notes.concat()
    }
}

/// Splits a chain before each line that is a manifest's first line.
fn chain_notes(text: &str) -> impl Iterator<Item = &str> {
    let first = format!("\nformat = \"{MANIFEST_FORMAT}\"\n");
    let mut rest = Some(text);
    core::iter::from_fn(move || {
        let text = rest?;
        let Some(at) = text.find(&first) else { return rest.take() };
        let (note, after) = text.split_at(at.saturating_add(1));
        rest = Some(after);
        Some(note)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    use ed25519_dalek::SigningKey;

    use crate::manifest::{Genesis, Operator, Policy};
    use crate::signed_note::{SignedNote, sign};

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn signed(text: String) -> String {
        let signatures = vec![sign(&text, "alpha.example", &key(2))];
        SignedNote { text, signatures }.to_string()
    }

    fn genesis() -> String {
        let operator = Operator {
            name: "alpha.example".parse().unwrap(),
            node_key: key(1).verifying_key(),
            governance_key: key(2).verifying_key(),
            generation: 1,
            begins: crate::time::Millis::FIRST,
            addresses: Vec::new(),
            endpoints: crate::manifest::Endpoints::default(),
        };
        let genesis = Genesis { name: "test".into(), policy: Policy::recommended(1), operators: vec![operator] };
        signed(genesis.text().unwrap())
    }

    /// The note of the version after `newest`.
    fn next(newest: &Manifest) -> String {
        let mut draft = newest.draft();
        draft.policy.daily_bytes += 1;
        signed(draft.text().unwrap())
    }

    #[test]
    fn a_chain_reads_back() {
        let mut chain = genesis();
        for version in 1..6 {
            let newest = Manifest::parse_chain(&chain).unwrap();
            assert_eq!((newest.version(), newest.versions().count()), (version, version as usize));
            assert_eq!(newest.chain(), chain);
            chain.push_str(&next(&newest));
        }
    }

    #[test]
    fn what_is_no_chain_is_refused() {
        let first = genesis();
        let second = next(&Manifest::parse(&first).unwrap());
        let third = next(&Manifest::parse_chain(&[&*first, &second].concat()).unwrap());
        let code = |parts: &[&str]| Manifest::parse_chain(&parts.concat()).unwrap_err().code();
        assert_eq!(code(&[]), "manifest_note");
        assert_eq!(code(&[&second]), "manifest_version");
        assert_eq!(code(&[&first, &third]), "manifest_version");
        assert_eq!(code(&[&first, &first]), "manifest_version");
        assert_eq!(code(&["\n", &first]), "manifest_note");
        assert_eq!(code(&[&first, "\n", &second]), "manifest_note");
        assert_eq!(code(&[&first, "x"]), "manifest_note");
        let unsigned = second.replace("— alpha.example", "— beta.example");
        let error = Manifest::parse_chain(&[&*first, &unsigned].concat()).unwrap_err();
        assert_eq!(error.to_string(), "version 2: 0 operators of version 1 signed, 1 must");
        assert_eq!(error.code(), "manifest_quorum");
    }

    #[test]
    fn a_chain_is_bounded() {
        let mut newest = Arc::new(Manifest::parse(&genesis()).unwrap());
        while newest.version() < 1_000 {
            newest = Arc::new(newest.successor(&next(&newest)).unwrap());
        }
        let chain = newest.chain();
        assert_eq!(Manifest::parse_chain(&chain).unwrap().version(), 1_000);
        let longer = [chain, next(&newest)].concat();
        assert_eq!(Manifest::parse_chain(&longer), Err(ManifestError::ChainTooLong));
    }
}
