//! Proof for anyone that a log's owner signed two heads, neither of which extends the other.
use alloc::vec::Vec;

use bincode::{Decode, Encode};

use crate::checkpoint::{Checkpoint, SignedCheckpoint};
use crate::id::TreeRoot;
use crate::log::{Hash, Head, PROOF_HASHES_MAX, TreeProofError, verify_consistency};
use crate::manifest::{LogId, Manifest};

/// Why two heads do not prove an equivocation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EquivocationError {
    /// No version of the manifest has the log.
    #[error("no version has the log {0}")]
    Log(LogId),
    /// The first head is the smaller one.
    #[error("the larger head has {larger} entries, the smaller one {smaller}")]
    Order {
        /// Size of the head that should be the larger one.
        larger: u64,
        /// Size of the other.
        smaller: u64,
    },
    /// The log's owner did not sign a head.
    #[error("the owner of {log} did not sign its head of {size} entries")]
    Signature {
        /// The log that the proof names.
        log: LogId,
        /// The head's size.
        size: u64,
    },
    /// The proof does not lead from the stated root to the larger head.
    #[error("{0}")]
    Proof(TreeProofError),
    /// The larger head extends the smaller one, or equals it.
    #[error("the larger head extends the smaller one")]
    Consistent,
}

impl EquivocationError {
    /// A stable code for answers, logs and metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Log(_) => "equivocation_log",
            Self::Order { .. } => "equivocation_order",
            Self::Signature { .. } => "equivocation_signature",
            Self::Proof(_) => "equivocation_proof",
            Self::Consistent => "equivocation_consistent",
        }
    }
}

/// Two heads that an owner signed for one log, with a proof that they conflict. Unverified until
/// [`Equivocation::verify`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Equivocation {
    /// The log in which its owner signed both heads.
    pub log: LogId,
    /// The larger head, or one of the two if their sizes are equal, and its owner's signature.
    pub larger: (Head, [u8; 64]),
    /// The other head and its owner's signature.
    pub smaller: (Head, [u8; 64]),
    /// The root of the larger head's tree at the smaller size; it differs from the smaller head's root.
    pub root: TreeRoot,
    /// RFC 6962 consistency proof from that root to the larger head; empty if the sizes are equal.
    pub proof: Vec<Hash>,
}

impl Equivocation {
    /// Most bytes in the encoding: lengths, a domain and [`PROOF_HASHES_MAX`] hashes.
    pub const BYTES_MAX: usize = 1_024 + 32 * PROOF_HASHES_MAX;

    /// Checks that the log's owner signed both heads and that they conflict.
    ///
    /// # Errors
    /// [`EquivocationError`]: the heads prove nothing.
    pub fn verify(&self, manifest: &Manifest) -> Result<(), EquivocationError> {
        let ((larger, _), (smaller, _)) = (&self.larger, &self.smaller);
        if larger.size < smaller.size {
            return Err(EquivocationError::Order { larger: larger.size, smaller: smaller.size });
        }
        let known = manifest.log(&self.log).ok_or_else(|| EquivocationError::Log(self.log.clone()))?;
        for (head, signature) in [&self.larger, &self.smaller] {
            let checkpoint = Checkpoint { origin: manifest.origin(&self.log), head: *head };
            SignedCheckpoint::verify(checkpoint, *signature, &known.node_key)
                .map_err(|_| EquivocationError::Signature { log: self.log.clone(), size: head.size })?;
        }
        let below = Head { size: smaller.size, root: self.root };
        verify_consistency(&below, larger, &self.proof).map_err(EquivocationError::Proof)?;
        if self.root == smaller.root { Err(EquivocationError::Consistent) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::{String, ToString};
    use alloc::vec;

    use ed25519_dalek::SigningKey;

    use crate::codec;
    use crate::log::{MemoryTiles, Tree, leaf_hash, prove_consistency, root_at};
    use crate::manifest::{Genesis, Operator, Policy};
    use crate::signed_note::{SignedNote, sign};

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn log() -> LogId {
        LogId { operator: "alpha.example".parse().unwrap(), generation: 1 }
    }

    fn manifest(name: &str) -> Manifest {
        let operator = Operator {
            name: log().operator,
            node_key: key(1).verifying_key(),
            governance_key: key(2).verifying_key(),
            generation: 1,
            begins: crate::time::Millis::FIRST,
            addresses: Vec::new(),
            endpoints: crate::manifest::Endpoints::default(),
        };
        let genesis = Genesis { name: String::from(name), policy: Policy::recommended(1), operators: vec![operator] };
        let text = genesis.text().unwrap();
        let signatures = vec![sign(&text, "alpha.example", &key(2))];
        Manifest::parse(&SignedNote { text, signatures }.to_string()).unwrap()
    }

    fn branch(seed: u8, size: u64) -> (Head, MemoryTiles) {
        let (mut tree, mut tiles) = (Tree::default(), MemoryTiles::default());
        tiles.write(tree.append((0..size).map(|i| leaf_hash(&[&[seed][..], &i.to_le_bytes()].concat()))));
        (tree.head(), tiles)
    }

    fn signed(head: Head, key: &SigningKey) -> (Head, [u8; 64]) {
        let checkpoint = Checkpoint { origin: manifest("test").origin(&log()), head };
        (head, *SignedCheckpoint::sign(checkpoint, key).signature())
    }

    /// Heads of two branches, `larger` and `smaller` entries long.
    fn equivocation(larger: u64, smaller: u64) -> Equivocation {
        let ((head, tiles), (other, _)) = (branch(1, larger), branch(2, smaller));
        Equivocation {
            log: log(),
            larger: signed(head, &key(1)),
            smaller: signed(other, &key(1)),
            root: root_at(smaller, &tiles).unwrap(),
            proof: prove_consistency(smaller, larger, &tiles).unwrap(),
        }
    }

    #[test]
    fn two_branches_are_proved_at_any_sizes() {
        let manifest = manifest("test");
        for larger in 1..40 {
            for smaller in 1..=larger {
                assert_eq!(equivocation(larger, smaller).verify(&manifest), Ok(()), "{larger} {smaller}");
            }
        }
        let (largest, _) = branch(1, 300);
        assert_eq!(equivocation(300, 7).larger.0, largest);
    }

    #[test]
    fn whatever_proves_nothing_is_refused() {
        let good = || equivocation(11, 6);
        let check = |found: &Equivocation, expect: &EquivocationError| {
            assert_eq!(found.verify(&manifest("test")), Err(expect.clone()), "{found:?}");
        };
        let unsigned = |size| EquivocationError::Signature { log: log(), size };
        let other = LogId { generation: 2, ..log() };
        check(&Equivocation { log: other.clone(), ..good() }, &EquivocationError::Log(other));
        let turned = Equivocation { larger: good().smaller, smaller: good().larger, ..good() };
        check(&turned, &EquivocationError::Order { larger: 6, smaller: 11 });
        check(&Equivocation { larger: signed(good().larger.0, &key(3)), ..good() }, &unsigned(11));
        check(&Equivocation { smaller: signed(good().smaller.0, &key(3)), ..good() }, &unsigned(6));
        assert_eq!(good().verify(&manifest("other")), Err(unsigned(11)), "another federation's heads");
        check(&Equivocation { root: TreeRoot([7; 32]), ..good() }, &EquivocationError::Proof(TreeProofError::Root));
        check(&Equivocation { root: good().smaller.0.root, ..good() }, &EquivocationError::Proof(TreeProofError::Root));
        let length = EquivocationError::Proof(TreeProofError::Length);
        check(&Equivocation { proof: Vec::new(), ..good() }, &length);
        check(&Equivocation { proof: vec![[7; 32]; PROOF_HASHES_MAX + 1], ..good() }, &length);
        check(&Equivocation { proof: vec![[7; 32]], ..equivocation(6, 6) }, &length);
        let (_, tiles) = branch(1, 11);
        let earlier = Head { size: 6, root: root_at(6, &tiles).unwrap() };
        check(&Equivocation { smaller: signed(earlier, &key(1)), ..good() }, &EquivocationError::Consistent);
        check(
            &Equivocation { smaller: good().larger, root: good().larger.0.root, proof: vec![], ..good() },
            &EquivocationError::Consistent,
        );
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let (manifest, bytes) = (manifest("test"), codec::encode(&equivocation(11, 6)));
        let read = |bytes: &[u8]| codec::decode::<Equivocation>(bytes, Equivocation::BYTES_MAX);
        assert_eq!(read(&bytes), Ok(equivocation(11, 6)));
        for at in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[at / 8] ^= 1 << (at % 8);
            assert!(!read(&bad).is_ok_and(|found| found.verify(&manifest).is_ok()), "bit {at}");
        }
        assert!(read(&[&bytes[..], &[0]].concat()).is_err());
    }

    #[test]
    fn the_longest_fits_its_bound() {
        let operator = [&["a".repeat(63).as_str(); 3].join("."), ".", &"b".repeat(61)].concat().parse().unwrap();
        let longest = Equivocation {
            log: LogId { operator, generation: u32::MAX },
            proof: vec![[0xff; 32]; PROOF_HASHES_MAX],
            ..equivocation(2, 1)
        };
        let bytes = codec::encode(&longest);
        assert_eq!(codec::decode(&bytes, Equivocation::BYTES_MAX), Ok(longest));
    }
}
