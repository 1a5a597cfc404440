//! Signed heads of logs (c2sp.org/tlog-checkpoint) and their cosignatures (c2sp.org/tlog-cosignature).
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use base64ct::{Base64, Encoding};
use bincode::{Decode, Encode};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use crate::id::{Domain, FederationId, TreeRoot};
use crate::log::Head;
use crate::signed_note::{COSIGNATURE, ED25519, NoteSignature, SignedNote, from_base64, key_id};

/// Latest time of a cosignature, in seconds since 1970.
pub const SECONDS_MAX: u64 = (1 << 63) - 1;

/// Why a checkpoint, or a signature on it, was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The first line is not an origin.
    #[error("want an origin like fama/<64 hex>/<operator>/<generation>")]
    Origin,
    /// Not three lines of origin, size and root.
    #[error("want the three lines origin, size and base64 root")]
    Text,
    /// No key is known for this log.
    #[error("unknown log {0}")]
    UnknownOrigin(Origin),
    /// The log's owner did not sign.
    #[error("not signed by the owner of {0}")]
    Unsigned(Origin),
    /// A signature that names the owner's key is invalid.
    #[error("invalid signature by the owner of {0}")]
    Signature(Origin),
    /// A cosignature that names the key of a known operator is invalid.
    #[error("invalid cosignature by {0}")]
    Cosignature(Domain),
    /// Two cosignatures by one operator on one note.
    #[error("{0} cosigned twice")]
    Twice(Domain),
}

impl CheckpointError {
    /// A stable code for answers, logs and metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Origin => "checkpoint_origin",
            Self::Text => "checkpoint_text",
            Self::UnknownOrigin(_) => "checkpoint_unknown_origin",
            Self::Unsigned(_) => "checkpoint_unsigned",
            Self::Signature(_) => "checkpoint_signature",
            Self::Cosignature(_) => "checkpoint_cosignature",
            Self::Twice(_) => "checkpoint_cosigned_twice",
        }
    }
}

/// Reads a number in its canonical form: ASCII digits without leading zeros.
pub(crate) fn decimal<T: FromStr + ToString>(text: &str) -> Option<T> {
    text.parse().ok().filter(|number: &T| number.to_string() == text)
}

/// Names one log forever: no log of another federation, operator or generation has the same origin.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Origin {
    /// The federation that the log belongs to.
    pub federation: FederationId,
    /// The log's owner.
    pub operator: Domain,
    /// Which of the owner's logs, from 1; each has its own node key.
    pub generation: u32,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fama/{}/{}/{}", self.federation, self.operator, self.generation)
    }
}

impl FromStr for Origin {
    type Err = CheckpointError;
    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        parse_origin(text).ok_or(CheckpointError::Origin)
    }
}

fn parse_origin(text: &str) -> Option<Origin> {
    let (federation, rest) = text.strip_prefix("fama/")?.split_once('/')?;
    let (operator, generation) = rest.split_once('/')?;
    Some(Origin {
        federation: federation.parse().ok()?,
        operator: operator.parse().ok()?,
        generation: decimal(generation)?,
    })
}

/// A log and a head claimed for it. Not signed: see [`SignedCheckpoint`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Checkpoint {
    /// Names the log.
    pub origin: Origin,
    /// The head claimed for the log.
    pub head: Head,
}

impl Checkpoint {
    /// The signed text: origin, size and root, each on a line.
    #[must_use]
    pub fn text(&self) -> String {
        let root = Base64::encode_string(self.head.root.as_bytes());
        format!("{}\n{}\n{root}\n", self.origin, self.head.size)
    }
}

impl FromStr for Checkpoint {
    type Err = CheckpointError;
    /// Reads exactly what [`Checkpoint::text`] writes: extension lines are refused.
    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        let (origin, head) = text.split_once('\n').ok_or(CheckpointError::Text)?;
        let head = parse_head(head).ok_or(CheckpointError::Text)?;
        Ok(Self { origin: origin.parse()?, head })
    }
}

fn parse_head(lines: &str) -> Option<Head> {
    let (size, root) = lines.strip_suffix('\n')?.split_once('\n')?;
    Some(Head { size: decimal(size)?, root: TreeRoot(from_base64(root)?.try_into().ok()?) })
}

/// A checkpoint with a signature of the log's owner that was verified or just made.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    signature: [u8; 64],
}

impl SignedCheckpoint {
    /// Signs as the log's owner. An owner must never sign two heads unless one extends the other.
    #[must_use]
    pub fn sign(checkpoint: Checkpoint, owner: &SigningKey) -> Self {
        let signature = owner.sign(checkpoint.text().as_bytes()).to_bytes();
        Self { checkpoint, signature }
    }

    /// Checks the signature of the log's owner.
    ///
    /// # Errors
    /// [`CheckpointError::Signature`] if it is invalid.
    pub fn verify(checkpoint: Checkpoint, signature: [u8; 64], owner: &VerifyingKey) -> Result<Self, CheckpointError> {
        match owner.verify_strict(checkpoint.text().as_bytes(), &Signature::from_bytes(&signature)) {
            Ok(()) => Ok(Self { checkpoint, signature }),
            Err(_) => Err(CheckpointError::Signature(checkpoint.origin)),
        }
    }

    /// The checkpoint that the owner signed.
    #[must_use]
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The owner's Ed25519 signature over the checkpoint's text.
    #[must_use]
    pub const fn signature(&self) -> &[u8; 64] {
        &self.signature
    }
}

impl fmt::Debug for SignedCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SignedCheckpoint").field(&self.checkpoint).finish()
    }
}

/// An operator's claim that, at a stated time, a checkpoint was the largest that the operator had seen
/// of the log, and consistent with all earlier ones. Unverified until [`Cosignature::verify`].
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Cosignature {
    /// The cosigner, whose domain is the key's name.
    pub operator: Domain,
    /// The stated time, in seconds since 1970, at most [`SECONDS_MAX`].
    pub seconds: u64,
    /// Ed25519 over time and checkpoint text. Does not cover the operator's name; the key identifies the operator.
    pub signature: [u8; 64],
}

fn cosigned_text(checkpoint: &Checkpoint, seconds: u64) -> String {
    format!("cosignature/v1\ntime {seconds}\n{}", checkpoint.text())
}

impl Cosignature {
    /// Cosigns a checkpoint; `seconds` is capped at [`SECONDS_MAX`].
    #[must_use]
    pub fn sign(checkpoint: &Checkpoint, operator: Domain, key: &SigningKey, seconds: u64) -> Self {
        let seconds = seconds.min(SECONDS_MAX);
        let signature = key.sign(cosigned_text(checkpoint, seconds).as_bytes()).to_bytes();
        Self { operator, seconds, signature }
    }

    /// Checks that `key`, which the caller knows to be the operator's, made this over `checkpoint`.
    ///
    /// # Errors
    /// [`CheckpointError::Cosignature`] if not.
    pub fn verify(&self, checkpoint: &Checkpoint, key: &VerifyingKey) -> Result<(), CheckpointError> {
        let (text, signature) = (cosigned_text(checkpoint, self.seconds), Signature::from_bytes(&self.signature));
        if self.seconds <= SECONDS_MAX && key.verify_strict(text.as_bytes(), &signature).is_ok() {
            Ok(())
        } else {
            Err(CheckpointError::Cosignature(self.operator.clone()))
        }
    }

    /// The signature line of this cosignature, which `key` made.
    fn line(&self, key: &VerifyingKey) -> NoteSignature {
        NoteSignature {
            name: self.operator.to_string(),
            key_id: key_id(self.operator.as_str(), COSIGNATURE, key.as_bytes()),
            bytes: [self.seconds.to_be_bytes().as_slice(), &self.signature].concat(),
        }
    }

    /// Reads the payload of a signature line, after the key id.
    fn from_line(operator: Domain, bytes: &[u8]) -> Option<Self> {
        let (seconds, signature) = bytes.split_first_chunk::<8>()?;
        Some(Self { operator, seconds: u64::from_be_bytes(*seconds), signature: signature.try_into().ok()? })
    }
}

impl fmt::Debug for Cosignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cosignature({} at {})", self.operator, self.seconds)
    }
}

/// The note of a signed head: the owner's line, then the cosigners' lines in the order given. Each
/// cosignature comes with the key that made it.
#[must_use]
pub fn note(
    signed: &SignedCheckpoint,
    owner: &VerifyingKey,
    cosignatures: &[(Cosignature, VerifyingKey)],
) -> SignedNote {
    let name = signed.checkpoint.origin.to_string();
    let key_id = key_id(&name, ED25519, owner.as_bytes());
    let mut signatures = Vec::from([NoteSignature { name, key_id, bytes: signed.signature.to_vec() }]);
    signatures.extend(cosignatures.iter().map(|(cosignature, key)| cosignature.line(key)));
    SignedNote { text: signed.checkpoint.text(), signatures }
}

/// Reads a signed head with at most one cosignature per operator, and verifies every signature by a
/// key that `owner` (for a log) or `cosigner` (for an operator) returns. Lines of other keys are
/// ignored.
///
/// # Errors
/// [`CheckpointError`] if the text is not a checkpoint, the owner is unknown or did not sign it, a
/// signature by a known key is invalid, or an operator cosigned twice.
pub fn read_note(
    note: &SignedNote,
    owner: impl Fn(&Origin) -> Option<VerifyingKey>,
    cosigner: impl Fn(&Domain) -> Option<VerifyingKey>,
) -> Result<(SignedCheckpoint, Vec<Cosignature>), CheckpointError> {
    let checkpoint: Checkpoint = note.text.parse()?;
    let key = owner(&checkpoint.origin).ok_or_else(|| CheckpointError::UnknownOrigin(checkpoint.origin.clone()))?;
    let signed = read_owner(note, &checkpoint, &key)?;
    let mut cosignatures: Vec<Cosignature> = Vec::new();
    for line in &note.signatures {
        let Ok(operator) = line.name.parse::<Domain>() else { continue };
        let Some(key) = cosigner(&operator).filter(|key| is_cosigned_by(line, key)) else { continue };
        let cosignature = read_cosignature(line, &operator, &signed.checkpoint, &key)?;
        if cosignatures.iter().any(|other| other.operator == cosignature.operator) {
            return Err(CheckpointError::Twice(cosignature.operator));
        }
        cosignatures.push(cosignature);
    }
    Ok((signed, cosignatures))
}

/// Verifies all lines of the owner's key; there must be at least one.
fn read_owner(
    note: &SignedNote,
    checkpoint: &Checkpoint,
    key: &VerifyingKey,
) -> Result<SignedCheckpoint, CheckpointError> {
    let name = checkpoint.origin.to_string();
    let mut signed = Err(CheckpointError::Unsigned(checkpoint.origin.clone()));
    for bytes in note.signatures_of(&name, key_id(&name, ED25519, key.as_bytes())) {
        let wrong = |_| CheckpointError::Signature(checkpoint.origin.clone());
        let signature = bytes.try_into().map_err(wrong)?;
        signed = Ok(SignedCheckpoint::verify(checkpoint.clone(), signature, key)?);
    }
    signed
}

/// Whether the line names this key as the one that cosigned.
pub(crate) fn is_cosigned_by(line: &NoteSignature, key: &VerifyingKey) -> bool {
    line.key_id == key_id(&line.name, COSIGNATURE, key.as_bytes())
}

/// The verified cosignature of a line of the operator's `key`.
pub(crate) fn read_cosignature(
    line: &NoteSignature,
    operator: &Domain,
    checkpoint: &Checkpoint,
    key: &VerifyingKey,
) -> Result<Cosignature, CheckpointError> {
    let cosignature = Cosignature::from_line(operator.clone(), &line.bytes)
        .ok_or_else(|| CheckpointError::Cosignature(operator.clone()))?;
    cosignature.verify(checkpoint, key)?;
    Ok(cosignature)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with Python's hashlib and cryptography: 1,000 leaves, keys of 32 times 7 and 8.
    const NOTE: &str = "\
fama/1111111111111111111111111111111111111111111111111111111111111111/alpha.example/3
1000
Lq0Jj5QhWYONs38TgAPEG6LNxsBNQjZsUwAnsdtrf3U=

— fama/1111111111111111111111111111111111111111111111111111111111111111/alpha.example/3 Ej6IZqQGsxvQbmm2+aov5XWCeFnRyIl/NmoPivJY/supevbrVmCcVbRwJd1jwWnOhawTR7B5r4Hya3oUPnsUi8f0/AE=
— beta.example zimJYQAAAABrAnbQh2kDTJ0hrR59xC+eQjWfJiX9+sTE196CHEcuPZsWcfAaKLpL8D4reNTUJK4vfQos94LOAyWQlGftusJLo5GwBQ==
— alpha.example /6LjOgAAAABrAnbRzF8CV7kO/Tv7NqD8+I/mMV/SQUhhMnE4QfSnBfGy+g/xZ7/B/C0Xu80VfSoJVQjQsDw6MKm52KRX6+Z9qzAIDA==
";

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn checkpoint() -> Checkpoint {
        let root = "2ead098f942159838db37f138003c41ba2cdc6c04d42366c530027b1db6b7f75".parse().unwrap();
        let operator = "alpha.example".parse().unwrap();
        let origin = Origin { federation: FederationId([0x11; 32]), operator, generation: 3 };
        Checkpoint { origin, head: Head { size: 1_000, root } }
    }

    fn cosigner(operator: &Domain) -> Option<VerifyingKey> {
        match operator.as_str() {
            "alpha.example" => Some(key(7).verifying_key()),
            "beta.example" => Some(key(8).verifying_key()),
            _ => None,
        }
    }

    fn read(note: &SignedNote) -> Result<(SignedCheckpoint, Vec<Cosignature>), CheckpointError> {
        read_note(note, |origin| (*origin == checkpoint().origin).then(|| key(7).verifying_key()), cosigner)
    }

    fn golden() -> SignedNote {
        SignedNote::parse(NOTE.as_bytes(), 4_096).unwrap()
    }

    #[test]
    fn note_of_another_implementation() {
        let signed = SignedCheckpoint::sign(checkpoint(), &key(7));
        let cosign = |operator: &str, seed, seconds| {
            let cosignature = Cosignature::sign(&checkpoint(), operator.parse().unwrap(), &key(seed), seconds);
            (cosignature, key(seed).verifying_key())
        };
        let cosigned = [cosign("beta.example", 8, 1_795_323_600), cosign("alpha.example", 7, 1_795_323_601)];
        assert_eq!(note(&signed, &key(7).verifying_key(), &cosigned).to_string(), NOTE);
        let cosignatures = cosigned.map(|(cosignature, _)| cosignature).to_vec();
        assert_eq!(read(&golden()), Ok((signed, cosignatures)));
    }

    #[test]
    fn texts() {
        assert_eq!(checkpoint().text().parse(), Ok(checkpoint()));
        let check = |from: &str, to: &str, expect: CheckpointError| {
            let text = checkpoint().text().replacen(from, to, 1);
            assert_eq!(text.parse::<Checkpoint>(), Err(expect), "{text:?}");
        };
        for (from, to) in [
            ("1000", "01000"),
            ("1000", "+1000"),
            ("1000", "-1"),
            ("1000", ""),
            ("1000", "18446744073709551616"),
            ("1000\n", ""),
            ("1000\n", "1000 \n"),
            ("f3U=\n", "f3U="),
            ("f3U=\n", "f3U=\nmore\n"),
            ("f3U=\n", "f3U=\n\n"),
            ("f3U=", "f3V="),
            ("f3U=", "f3U"),
            ("Lq0Jj", "Lq0J"),
            ("Lq0J", ""),
        ] {
            check(from, to, CheckpointError::Text);
        }
        for (from, to) in [
            ("fama/", "rumor/"),
            ("/3", "/03"),
            ("/3", "/4294967296"),
            ("/3", "/"),
            ("/3", ""),
            ("/3", "/3/"),
            ("alpha", "Alpha"),
            ("11/", "1/"),
        ] {
            check(from, to, CheckpointError::Origin);
        }
        assert_eq!("".parse::<Checkpoint>(), Err(CheckpointError::Text));
    }

    #[test]
    fn every_signature_of_a_known_key_must_hold() {
        let origin = checkpoint().origin;
        let beta: Domain = "beta.example".parse().unwrap();
        let check = |change: &dyn Fn(&mut SignedNote), expect: Result<usize, CheckpointError>| {
            let mut note = golden();
            change(&mut note);
            assert_eq!(read(&note).map(|(_, cosignatures)| cosignatures.len()), expect, "{note}");
        };
        check(&|note| note.signatures.reverse(), Ok(2));
        check(&|note| note.signatures.truncate(1), Ok(0));
        check(&|note| note.signatures[1].key_id = [0; 4], Ok(1));
        check(&|note| note.signatures[1].name = "gamma.example".into(), Ok(1));
        check(&|note| note.signatures[1].name = "no domain".into(), Ok(1));
        check(&|note| drop(note.signatures.remove(0)), Err(CheckpointError::Unsigned(origin.clone())));
        check(&|note| note.signatures[0].key_id = [0; 4], Err(CheckpointError::Unsigned(origin.clone())));
        check(&|note| note.signatures[0].bytes[0] ^= 1, Err(CheckpointError::Signature(origin.clone())));
        check(&|note| note.signatures[0].bytes.push(0), Err(CheckpointError::Signature(origin.clone())));
        check(&|note| note.text = note.text.replace("1000", "1001"), Err(CheckpointError::Signature(origin.clone())));
        check(&|note| note.signatures[1].bytes[7] ^= 1, Err(CheckpointError::Cosignature(beta.clone())));
        check(&|note| note.signatures[1].bytes[71] ^= 1, Err(CheckpointError::Cosignature(beta.clone())));
        check(&|note| note.signatures[1].bytes.truncate(7), Err(CheckpointError::Cosignature(beta.clone())));
        check(&|note| note.signatures.push(note.signatures[1].clone()), Err(CheckpointError::Twice(beta)));
        let other = Origin { generation: 4, ..origin };
        let unknown = Err(CheckpointError::UnknownOrigin(other));
        check(&|note| note.text = note.text.replace("/3", "/4"), unknown);
    }

    #[test]
    fn times_of_cosignatures_are_bounded() {
        let cosign = |seconds| Cosignature::sign(&checkpoint(), "beta.example".parse().unwrap(), &key(8), seconds);
        assert_eq!(cosign(u64::MAX).seconds, SECONDS_MAX);
        assert_eq!(cosign(u64::MAX).verify(&checkpoint(), &key(8).verifying_key()), Ok(()));
        let (late, beta) = (SECONDS_MAX + 1, "beta.example".parse::<Domain>().unwrap());
        let signature = key(8).sign(cosigned_text(&checkpoint(), late).as_bytes()).to_bytes();
        let cosignature = Cosignature { operator: beta.clone(), seconds: late, signature };
        let refused = Err(CheckpointError::Cosignature(beta));
        assert_eq!(cosignature.verify(&checkpoint(), &key(8).verifying_key()), refused);
    }

    #[test]
    fn a_head_is_no_cosignature_nor_the_reverse() {
        let signed = SignedCheckpoint::sign(checkpoint(), &key(7));
        let cosignature = Cosignature::sign(&checkpoint(), "alpha.example".parse().unwrap(), &key(7), 5);
        let crossed = Cosignature { signature: *signed.signature(), ..cosignature.clone() };
        assert!(crossed.verify(&checkpoint(), &key(7).verifying_key()).is_err());
        assert!(SignedCheckpoint::verify(checkpoint(), cosignature.signature, &key(7).verifying_key()).is_err());
    }
}
