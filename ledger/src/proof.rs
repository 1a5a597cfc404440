//! Proofs that an entry is in a log, which can be checked offline (c2sp.org/tlog-proof).
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use base64ct::{Base64, Encoding};
use ed25519_dalek::VerifyingKey;

use crate::adoption::AdoptionError;
use crate::checkpoint::{self, CheckpointError, Cosignature, Origin, SignedCheckpoint};
use crate::entry::EntryError;
use crate::id::Domain;
use crate::limits;
use crate::log::{self, Hash, PROOF_HASHES_MAX};
use crate::manifest::LogId;
use crate::signed_note::{NoteError, SignedNote, from_base64};

mod included;

pub use included::{CertifiedBy, Included};

/// Longest proof that is parsed, in bytes.
pub const PROOF_BYTES_MAX: usize = 2 * limits::CHECKPOINT_BYTES_MAX;

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";

/// Why a text is no proof, or its proof does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlogProofError {
    /// Longer than [`PROOF_BYTES_MAX`].
    #[error("proof is longer than {PROOF_BYTES_MAX} bytes")]
    TooLong,
    /// The lines before the note are not those of a proof.
    #[error("want the lines of a c2sp.org/tlog-proof@v1")]
    Form,
    /// The text after the path is no signed note.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The note is no checkpoint of a known log, signed by its owner.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The path does not lead from the entry to the checkpoint's root.
    #[error(transparent)]
    Path(#[from] log::TreeProofError),
    /// The carried entry does not decode, or its author did not sign it.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// The adoption after the entry is not one in this log.
    #[error(transparent)]
    Adoption(#[from] AdoptionError),
    /// Quorums cosigned the head, but of versions older than any that an uncut log can have now: their operators' keys may
    /// be retired. A newer proof of the same entry exists.
    #[error(
        "the proof's head of {log} is of the time of version {adopted}, and by now the log has adopted version {wanted}"
    )]
    Outdated {
        /// The log of the head.
        log: LogId,
        /// The version that the proof shows the log to have adopted.
        adopted: u32,
        /// The oldest version that a reader accepts.
        wanted: u32,
    },
    /// The head is neither the one at which a manifest cuts the log, nor smaller.
    #[error("the log {0} was cut, and this head is neither its end nor before it")]
    Cut(LogId),
}

impl TlogProofError {
    /// The stable code for answers, logs and metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLong => "proof_too_long",
            Self::Form => "proof_form",
            Self::Note(error) => error.code(),
            Self::Checkpoint(error) => error.code(),
            Self::Path(error) => error.code(),
            Self::Entry(error) => error.code(),
            Self::Adoption(error) => error.code(),
            Self::Outdated { .. } => "proof_outdated",
            Self::Cut(_) => "proof_cut",
        }
    }
}

/// The claim that an entry is in a log. Displays as a c2sp.org/tlog-proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlogProof {
    /// Unsigned extra data. In a self-contained proof: the encoded entry and, if the log adopted a version later than
    /// the one that introduced it, that [`Adoption`](crate::adoption::Adoption).
    pub extra: Option<Vec<u8>>,
    /// The entry's position in its log, from 0.
    pub index: u64,
    /// The inclusion proof from the leaf's sibling up: at most 64 hashes.
    pub path: Vec<Hash>,
    /// The head that the path leads to, with its signatures.
    pub checkpoint: SignedNote,
}

impl TlogProof {
    /// Checks that `entry`, in its encoded form, is in the log at this index, below a head that the log's owner signed.
    ///
    /// Returns the head and the cosignatures of the operators that `cosigner` knows. The caller decides whether these
    /// are a quorum. See [`checkpoint::read_note`] for the keys.
    ///
    /// # Errors
    /// [`TlogProofError`] if a signature or the path is invalid.
    pub fn verify(
        &self,
        entry: &[u8],
        owner: impl Fn(&Origin) -> Option<VerifyingKey>,
        cosigner: impl Fn(&Domain) -> Option<VerifyingKey>,
    ) -> Result<(SignedCheckpoint, Vec<Cosignature>), TlogProofError> {
        let (signed, cosignatures) = checkpoint::read_note(&self.checkpoint, owner, cosigner)?;
        log::verify_inclusion(log::leaf_hash(entry), self.index, &signed.checkpoint().head, &self.path)?;
        Ok((signed, cosignatures))
    }
}

impl fmt::Display for TlogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{FIRST_LINE}")?;
        self.extra.iter().try_for_each(|extra| writeln!(f, "extra {}", Base64::encode_string(extra)))?;
        writeln!(f, "index {}", self.index)?;
        self.path.iter().try_for_each(|hash| writeln!(f, "{}", Base64::encode_string(hash)))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

impl FromStr for TlogProof {
    type Err = TlogProofError;
    /// Parses exactly the displayed form.
    fn from_str(text: &str) -> Result<Self, TlogProofError> {
        if text.len() > PROOF_BYTES_MAX {
            return Err(TlogProofError::TooLong);
        }
        let (lines, note) = text.split_once("\n\n").ok_or(TlogProofError::Form)?;
        let (extra, index, path) = parse_lines(lines).ok_or(TlogProofError::Form)?;
        let checkpoint = SignedNote::parse(note.as_bytes(), limits::CHECKPOINT_BYTES_MAX)?;
        Ok(Self { extra, index, path, checkpoint })
    }
}

fn parse_lines(lines: &str) -> Option<(Option<Vec<u8>>, u64, Vec<Hash>)> {
    let mut lines = lines.split('\n').peekable();
    lines.next().filter(|line| *line == FIRST_LINE)?;
    let extra = lines.next_if(|line| line.starts_with("extra "));
    let extra =
        extra.map(|line| from_base64(line.strip_prefix("extra ")?)).map_or(Some(None), |read| read.map(Some))?;
    let index = checkpoint::decimal(lines.next()?.strip_prefix("index ")?)?;
    // Reading one hash more than allowed is enough to notice that there are too many.
    let path: Vec<Hash> = lines
        .take(PROOF_HASHES_MAX.saturating_add(1))
        .map(|line| from_base64(line)?.try_into().ok())
        .collect::<Option<_>>()?;
    (path.len() <= PROOF_HASHES_MAX).then_some((extra, index, path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{MemoryTiles, Tree, TreeProofError, leaf_hash, prove_inclusion};
    use alloc::format;
    use alloc::string::{String, ToString};
    use ed25519_dalek::SigningKey;

    /// Made with Python's hashlib and cryptography. The log's entries are the 64-bit little-endian numbers from 0
    /// to 999; the proof is for entry 997.
    const PROOF: &str = "\
c2sp.org/tlog-proof@v1
index 997
A6JM0nOK08iCUG5AWx2DGhzLIdQzwBU4KTxni7KMOJw=
VL6nINSejZm9eYvN4Mrr85vcVzgZ4/OCOcI2mNDDG1M=
QfX2T1a6DzsgVPuB1qqvf450vS4YMb7/CMjLWItRefo=
u8D0x9Nqh+vkkp7YnJBbcj3KoUDc6Sf9JYpSM2ieb4c=
x1n3XTYsQNzbWyN/thdCLF7lydK2uU/5EmwCfimmE4o=
6lZv0coJ14ghGZgRQihb48NRHjArEW7Kx6EymV7v2r0=
telWHYNUty3FYiPhlXbl+8Q6L9Enrt9OS2UR6kOiCGE=
A+mJaiHh9025TC79stWZxwhl6tVpJKmHf88w2ZzjvO8=

fama/1111111111111111111111111111111111111111111111111111111111111111/alpha.example/3
1000
Lq0Jj5QhWYONs38TgAPEG6LNxsBNQjZsUwAnsdtrf3U=

— fama/1111111111111111111111111111111111111111111111111111111111111111/alpha.example/3 Ej6IZqQGsxvQbmm2+aov5XWCeFnRyIl/NmoPivJY/supevbrVmCcVbRwJd1jwWnOhawTR7B5r4Hya3oUPnsUi8f0/AE=
— beta.example zimJYQAAAABrAnbQh2kDTJ0hrR59xC+eQjWfJiX9+sTE196CHEcuPZsWcfAaKLpL8D4reNTUJK4vfQos94LOAyWQlGftusJLo5GwBQ==
";

    fn verify(proof: &TlogProof, entry: u64) -> Result<usize, TlogProofError> {
        let key = |seed| SigningKey::from_bytes(&[seed; 32]).verifying_key();
        let cosigner = |domain: &Domain| (domain.as_str() == "beta.example").then(|| key(8));
        let (signed, cosignatures) = proof.verify(&entry.to_le_bytes(), |_| Some(key(7)), cosigner)?;
        assert_eq!(signed.checkpoint().head.size, 1_000);
        Ok(cosignatures.len())
    }

    #[test]
    fn proof_of_another_implementation() {
        let proof: TlogProof = PROOF.parse().unwrap();
        assert_eq!(proof.to_string(), PROOF);
        assert_eq!(verify(&proof, 997), Ok(1));
        assert_eq!(verify(&proof, 998), Err(TlogProofError::Path(TreeProofError::Root)));
        let mut tiles = MemoryTiles::default();
        tiles.write(Tree::default().append((0..1_000u64).map(|i| leaf_hash(&i.to_le_bytes()))));
        assert_eq!(prove_inclusion(997, 1_000, &tiles).as_ref(), Ok(&proof.path));
    }

    #[test]
    fn the_extra_line_is_kept() {
        let text = PROOF.replacen("index", "extra aGk=\nindex", 1);
        let proof = text.parse::<TlogProof>().unwrap();
        assert_eq!((proof.extra.as_deref(), proof.to_string()), (Some(b"hi".as_slice()), text));
        assert_eq!(verify(&proof, 997), Ok(1), "the extra line is unsigned and changes nothing");
    }

    #[test]
    fn only_proofs_are_read() {
        let check = |text: String| assert_eq!(text.parse::<TlogProof>(), Err(TlogProofError::Form), "{text}");
        for (from, to) in [
            ("v1", "v2"),
            ("c2sp", " c2sp"),
            ("index 997", "index 0997"),
            ("index 997", "index -1"),
            ("index 997", "index"),
            ("index 997\n", ""),
            ("index", "extra ?\nindex"),
            ("index", "extra aGk=\nextra aGk=\nindex"),
            ("index 997", "index 997\nextra aGk="),
            ("OJw=\n", "OJw= \n"),
            ("OJw=\n", "OJx=\n"),
            ("OJw=\n", "\n"),
            ("OJw=\n", "OJw=\r\n"),
        ] {
            check(PROOF.replacen(from, to, 1));
        }
        check(String::new());
        let hash = "A6JM0nOK08iCUG5AWx2DGhzLIdQzwBU4KTxni7KMOJw=\n";
        check(PROOF.replacen(hash, &hash.repeat(64 - 7 + 1), 1));
        assert!(PROOF.replacen(hash, &hash.repeat(64 - 7), 1).parse::<TlogProof>().is_ok());
        let long = format!("{PROOF}{}", "— x AAAAAAA=\n".repeat(PROOF_BYTES_MAX / 8));
        assert_eq!(long.parse::<TlogProof>(), Err(TlogProofError::TooLong));
        let early = PROOF.replacen("index 997\n", "index 997\n\n", 1).parse::<TlogProof>().unwrap();
        assert_eq!(verify(&early, 997), Err(TlogProofError::Checkpoint(CheckpointError::Text)));
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        // Without the cosigner's line: a flip in its name or key id would turn it into a line by an unknown key.
        let (proof, _) = PROOF.split_once("— beta").unwrap();
        for at in 0..proof.len() * 8 {
            let mut bytes = proof.as_bytes().to_vec();
            bytes[at / 8] ^= 1 << (at % 8);
            let Ok(text) = String::from_utf8(bytes) else { continue };
            let read: Result<TlogProof, _> = text.parse();
            assert!(read.and_then(|proof| verify(&proof, 997)).is_err(), "bit {at}");
        }
    }
}
