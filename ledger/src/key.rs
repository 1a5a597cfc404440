//! Public keys and signatures on both curves: text form, PEM, and the one rule of verification.
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use bincode::{Decode, Encode};
use ed25519_dalek::VerifyingKey;
use k256::ecdsa;
use k256::elliptic_curve::group::Group;
use k256::elliptic_curve::ops::{Invert, MulByGeneratorVartime, Reduce};
use k256::elliptic_curve::point::{AffineCoordinates, DecompressPoint};
use k256::elliptic_curve::scalar::IsHigh;
use k256::elliptic_curve::sec1::ToSec1Point;
use k256::elliptic_curve::subtle::Choice;
use k256::elliptic_curve::zeroize::Zeroizing;
use k256::pkcs8::der::Decode as _;
use k256::pkcs8::der::pem::{self, LineEnding};
use k256::pkcs8::spki::{AlgorithmIdentifierRef, ObjectIdentifier, SubjectPublicKeyInfoRef};
use k256::{AffinePoint, FieldBytes, NonZeroScalar, ProjectivePoint, Scalar};
use sha2::{Digest, Sha256};

use crate::base64;
use crate::id::{self, Hex, KeyHash};

pub mod batch;
mod sum;

/// The two curves, each with its one signature scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Curve {
    /// ECDSA over SHA-256: the default for agents and services.
    Secp256k1,
    /// Pure Ed25519 (RFC 8032): required for operators, allowed for agents and services.
    Ed25519,
}

impl Curve {
    /// The curve's name: the part before the colon of a key's text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Secp256k1 => "secp256k1",
            Self::Ed25519 => "ed25519",
        }
    }
}

impl fmt::Display for Curve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Curve {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        [Self::Secp256k1, Self::Ed25519].into_iter().find(|curve| curve.as_str() == text).ok_or(KeyError::Text)
    }
}

/// Why a public or secret key was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text form is malformed.
    #[error("want secp256k1: and 66 lower-case hex digits, or ed25519: and 64")]
    Text,
    /// The bytes are not a compressed point on the curve.
    #[error("not a compressed point on the curve")]
    Point,
    /// An Ed25519 point whose y coordinate is not below 2²⁵⁵ − 19.
    #[error("not the canonical encoding of the point")]
    NotCanonical,
    /// An Ed25519 point of small order, for which one signature fits many messages.
    #[error("a point of small order")]
    Weak,
    /// Not exactly one PEM block of the expected kind.
    #[error(
        "want one PEM block, -----BEGIN PUBLIC KEY----- for a public or -----BEGIN PRIVATE KEY----- for a secret key"
    )]
    Pem,
    /// A secret key that only a passphrase opens.
    #[error("the key is encrypted with a passphrase")]
    Encrypted,
    /// A secret key in the format of OpenSSH.
    #[error("want a key as openssl writes it, not in the format of OpenSSH")]
    OpenSsh,
    /// The content of the PEM block is not what its label says.
    #[error("the PEM block holds no well-formed key")]
    Der,
    /// A key of another algorithm or curve, whose name is given.
    #[error("want a secp256k1 or Ed25519 key, not {0}")]
    Algorithm(&'static str),
    /// A secp256k1 secret that is zero or not below the order of the group.
    #[error("the secret is not a number from 1 to the group's order minus 1")]
    Scalar,
}

impl KeyError {
    /// A stable code for answers, logs and metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Text => "key_malformed",
            Self::Point => "key_not_on_curve",
            Self::NotCanonical => "key_not_canonical",
            Self::Weak => "key_weak",
            Self::Pem => "key_pem",
            Self::Encrypted => "key_encrypted",
            Self::OpenSsh => "key_openssh",
            Self::Der => "key_der",
            Self::Algorithm(_) => "key_algorithm",
            Self::Scalar => "key_out_of_range",
        }
    }
}

/// Why a signature was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Signature and key are on different curves.
    #[error("signature and key are on different curves")]
    WrongCurve,
    /// ECDSA s above half the order: refused in the ledger, normalised by [`Signature::from_edge`].
    #[error("s is above half the group's order")]
    HighS,
    /// Not a signature: wrong length, bad DER, r or s zero or not below the order.
    #[error("not a signature of the key's curve")]
    Malformed,
    /// The signature is valid, but its recovery id is wrong.
    #[error("wrong recovery id")]
    RecoveryId,
    /// Not this key's signature of this message.
    #[error("the signature does not match key and message")]
    Mismatch,
    /// The key itself is invalid.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl SignatureError {
    /// A stable code for answers, logs and metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::WrongCurve => "signature_wrong_curve",
            Self::HighS => "signature_high_s",
            Self::Malformed => "signature_malformed",
            Self::RecoveryId => "signature_recovery_id",
            Self::Mismatch => "signature_mismatch",
            Self::Key(error) => error.code(),
        }
    }
}

/// A public key. A key decoded from bytes may be invalid until [`PublicKey::check`] or
/// [`PublicKey::verify`] succeeds; a key parsed from text or PEM is valid.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum PublicKey {
    /// Compressed SEC1 point: 02 or 03, then x big-endian.
    Secp256k1([u8; 33]),
    /// RFC 8032 encoding of the point.
    Ed25519([u8; 32]),
}

impl PublicKey {
    /// Which curve the key is on.
    #[must_use]
    pub const fn curve(&self) -> Curve {
        match self {
            Self::Secp256k1(_) => Curve::Secp256k1,
            Self::Ed25519(_) => Curve::Ed25519,
        }
    }

    /// The verifying key, if this is a valid Ed25519 key.
    #[must_use]
    pub fn ed25519(&self) -> Option<VerifyingKey> {
        match self {
            Self::Secp256k1(_) => None,
            Self::Ed25519(bytes) => ed25519_key(bytes).ok(),
        }
    }

    /// The encoded point: 33 bytes for secp256k1, 32 for Ed25519.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Secp256k1(bytes) => bytes,
            Self::Ed25519(bytes) => bytes,
        }
    }

    /// Checks that a decoded key may sign: a point on the curve, in its canonical encoding, neither
    /// the identity nor of small order.
    ///
    /// # Errors
    /// [`KeyError::Point`], [`KeyError::NotCanonical`] or [`KeyError::Weak`].
    pub fn check(&self) -> Result<(), KeyError> {
        match self {
            Self::Secp256k1(bytes) => secp256k1_point(bytes).map(drop),
            Self::Ed25519(bytes) => ed25519_key(bytes).map(drop),
        }
    }

    /// SHA-256 of the key's text without a newline: what the field `next: sha256:…` commits to.
    #[must_use]
    pub fn hash(&self) -> KeyHash {
        KeyHash(Sha256::digest(self.to_string()).into())
    }

    /// Checks the key, and that `signature` is its signature of `message`. Every node applies the same
    /// rule: ECDSA over SHA-256 with low s and the right recovery id, or Ed25519 `verify_strict`.
    ///
    /// # Errors
    /// [`SignatureError`]: the first reason found.
    pub fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), SignatureError> {
        match (self, signature) {
            (Self::Secp256k1(key), Signature::Secp256k1(bytes)) => verify_ecdsa(key, message, bytes),
            (Self::Ed25519(key), Signature::Ed25519(bytes)) => verify_ed25519(key, message, bytes),
            _ => Err(SignatureError::WrongCurve),
        }
    }

    /// Reads the one SPKI PEM block in a text; what lies outside of it, and blocks of other kinds, are ignored. A
    /// secp256k1 point may be compressed or uncompressed.
    ///
    /// # Errors
    /// [`KeyError`]; its variant `Algorithm` names the algorithm or curve of a well-formed key of another kind.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let mut keys = pem_blocks(text).filter(|block| block.label == "PUBLIC KEY");
        let (Some(key), None) = (keys.next(), keys.next()) else { return Err(KeyError::Pem) };
        let der = key.der()?;
        let spki = SubjectPublicKeyInfoRef::from_der(&der).map_err(|_| KeyError::Der)?;
        let point = spki.subject_public_key.as_bytes().ok_or(KeyError::Der)?;
        let key = match algorithm_curve(&spki.algorithm)? {
            Curve::Secp256k1 => compressed(point)?,
            Curve::Ed25519 => Self::Ed25519(point.try_into().map_err(|_| KeyError::Der)?),
        };
        key.check()?;
        Ok(key)
    }

    /// Writes the same SPKI PEM block as `openssl pkey -pubout`: secp256k1 points uncompressed,
    /// lines of 64 characters, a newline at the end.
    ///
    /// # Errors
    /// The errors of [`PublicKey::check`].
    pub fn to_pem(&self) -> Result<String, KeyError> {
        let der = match self {
            Self::Secp256k1(bytes) => {
                [SPKI_SECP256K1, secp256k1_point(bytes)?.to_sec1_point(false).as_bytes()].concat()
            }
            Self::Ed25519(bytes) => [SPKI_ED25519, ed25519_key(bytes)?.as_bytes()].concat(),
        };
        pem::encode_string("PUBLIC KEY", LineEnding::LF, &der).map_err(|_| KeyError::Pem)
    }
}

/// The SPKI bytes before the 65 bytes of an uncompressed point (RFC 5480).
const SPKI_SECP256K1: &[u8] =
    b"\x30\x56\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x0a\x03\x42\x00";
/// The SPKI bytes before the 32 bytes of an Ed25519 key (RFC 8410).
const SPKI_ED25519: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.curve(), Hex(self.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}…", self.curve(), Hex(self.as_bytes().get(..5).unwrap_or_default()))
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (curve, hex) = text.split_once(':').ok_or(KeyError::Text)?;
        let key = match curve.parse()? {
            Curve::Secp256k1 => id::from_hex(hex).map(Self::Secp256k1),
            Curve::Ed25519 => id::from_hex(hex).map(Self::Ed25519),
        }
        .map_err(|_| KeyError::Text)?;
        key.check()?;
        Ok(key)
    }
}

/// A signature in the ledger's one form. [`PublicKey::verify`] checks it against a key and a message.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Signature {
    /// r (32 bytes, big-endian) ‖ low s (32) ‖ recovery id: bit 0 is set if R's y is odd, bit 1 if
    /// its x is not below the group's order.
    Secp256k1([u8; 65]),
    /// R (32 bytes) ‖ s (32), as in RFC 8032.
    Ed25519([u8; 64]),
}

impl Signature {
    /// Which curve the signature is on.
    #[must_use]
    pub const fn curve(&self) -> Curve {
        match self {
            Self::Secp256k1(_) => Curve::Secp256k1,
            Self::Ed25519(_) => Curve::Ed25519,
        }
    }

    /// The encoded signature: 65 bytes for secp256k1, 64 for Ed25519.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Secp256k1(bytes) => bytes,
            Self::Ed25519(bytes) => bytes,
        }
    }

    /// Reads, verifies and normalises a signature as agents send it. For secp256k1: DER (as
    /// `openssl dgst -sign` writes it), or r ‖ s with or without a 65th byte, s high or low. For
    /// Ed25519: the 64 bytes. The recovery id is computed, never taken from the input.
    ///
    /// # Errors
    /// [`SignatureError::Malformed`] if the bytes fit none of these forms,
    /// [`SignatureError::Mismatch`] if they are valid in none of the forms that they fit.
    pub fn from_edge(key: &PublicKey, message: &[u8], bytes: &[u8]) -> Result<Self, SignatureError> {
        match key {
            PublicKey::Secp256k1(key) => ecdsa_from_edge(key, message, bytes),
            PublicKey::Ed25519(_) => {
                let signature = Self::Ed25519(bytes.try_into().map_err(|_| SignatureError::Malformed)?);
                key.verify(message, &signature)?;
                Ok(signature)
            }
        }
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} signature {}…", self.curve(), Hex(self.as_bytes().get(..4).unwrap_or_default()))
    }
}

fn verify_ecdsa(key: &[u8; 33], message: &[u8], bytes: &[u8; 65]) -> Result<(), SignatureError> {
    let [rs @ .., claimed] = bytes;
    let (r, s) = ecdsa::Signature::from_slice(rs).map_err(|_| SignatureError::Malformed)?.split_scalars();
    if s.is_high().into() {
        return Err(SignatureError::HighS);
    }
    let id = recovery_id(&secp256k1_point(key)?, message, &r, &s).ok_or(SignatureError::Mismatch)?;
    if id == *claimed { Ok(()) } else { Err(SignatureError::RecoveryId) }
}

fn verify_ed25519(key: &[u8; 32], message: &[u8], bytes: &[u8; 64]) -> Result<(), SignatureError> {
    let signature = ed25519_dalek::Signature::from_bytes(bytes);
    ed25519_key(key)?.verify_strict(message, &signature).map_err(|_| SignatureError::Mismatch)
}

/// The recovery id of a valid signature; `None` if it is invalid. SEC 1, 4.1.4: R = z/s·G + r/s·Q
/// must be a point whose x is r modulo the order. Variable time: nothing here is secret.
#[allow(clippy::arithmetic_side_effects)] // field arithmetic, which cannot overflow
fn recovery_id(key: &AffinePoint, message: &[u8], r: &NonZeroScalar, s: &NonZeroScalar) -> Option<u8> {
    let z = Scalar::reduce(&Sha256::digest(message));
    let (r, s_inverse) = (**r, *s.invert_vartime());
    let (u1, u2) = (z * s_inverse, r * s_inverse);
    let point = ProjectivePoint::mul_by_generator_and_mul_add_vartime(&u1, &u2, &(*key).into());
    if point.is_identity().into() {
        return None;
    }
    let point = point.to_affine();
    let x = point.x();
    let x_reduced = u8::from(x != r.to_bytes());
    (Scalar::reduce(&x) == r).then(|| (x_reduced << 1) | u8::from(bool::from(point.y_is_odd())))
}

/// A DER signature can be 64 or 65 bytes long, and r ‖ s can look like DER: the form in which the
/// signature is valid is the one that was meant.
fn ecdsa_from_edge(key: &[u8; 33], message: &[u8], bytes: &[u8]) -> Result<Signature, SignatureError> {
    let key = secp256k1_point(key)?;
    let forms = [ecdsa_der(bytes), ecdsa_compact(bytes)];
    if forms.iter().all(Option::is_none) {
        return Err(SignatureError::Malformed);
    }
    forms.iter().flatten().find_map(|form| complete(&key, message, form)).ok_or(SignatureError::Mismatch)
}

fn ecdsa_der(bytes: &[u8]) -> Option<ecdsa::Signature> {
    (8..=72).contains(&bytes.len()).then(|| ecdsa::Signature::from_der(bytes).ok())?
}

fn ecdsa_compact(bytes: &[u8]) -> Option<ecdsa::Signature> {
    let (rs, rest) = bytes.split_at_checked(64)?;
    (rest.len() <= 1).then(|| ecdsa::Signature::from_slice(rs).ok())?
}

/// The ledger's form of a valid signature; `None` if it is invalid.
fn complete(key: &AffinePoint, message: &[u8], signature: &ecdsa::Signature) -> Option<Signature> {
    let signature = signature.normalize_s();
    let (r, s) = signature.split_scalars();
    let id = recovery_id(key, message, &r, &s)?;
    Some(Signature::Secp256k1(with_recovery_id(&signature, id)))
}

/// The 65 bytes r ‖ s ‖ id.
pub(crate) fn with_recovery_id(signature: &ecdsa::Signature, id: u8) -> [u8; 65] {
    let mut bytes = [id; 65];
    let [rs @ .., _] = &mut bytes;
    rs.copy_from_slice(&signature.to_bytes());
    bytes
}

/// Decompresses a point. The identity has no compressed encoding, so it never results.
fn secp256k1_point(bytes: &[u8; 33]) -> Result<AffinePoint, KeyError> {
    let [tag, x @ ..] = bytes;
    let odd = match tag {
        2 => Choice::from(0),
        3 => Choice::from(1),
        _ => return Err(KeyError::Point),
    };
    AffinePoint::decompress(&FieldBytes::from(*x), odd).into_option().ok_or(KeyError::Point)
}

/// The key of a compressed (33 bytes) or uncompressed (65 bytes) SEC1 point.
fn compressed(point: &[u8]) -> Result<PublicKey, KeyError> {
    if !matches!((point.first(), point.len()), (Some(2 | 3), 33) | (Some(4), 65)) {
        return Err(KeyError::Point);
    }
    let key = k256::PublicKey::from_sec1_bytes(point).map_err(|_| KeyError::Point)?;
    key.to_sec1_point(true).as_bytes().try_into().map(PublicKey::Secp256k1).map_err(|_| KeyError::Point)
}

fn ed25519_key(bytes: &[u8; 32]) -> Result<VerifyingKey, KeyError> {
    if !ed25519_y_below_p(bytes) {
        return Err(KeyError::NotCanonical);
    }
    let key = VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::Point)?;
    if key.is_weak() { Err(KeyError::Weak) } else { Ok(key) }
}

/// Whether y, little-endian below the sign bit, is below p = 2²⁵⁵ − 19. The other non-canonical
/// encodings, with x = 0 and the sign bit set, are points of small order and refused as such.
fn ed25519_y_below_p(bytes: &[u8; 32]) -> bool {
    let [least, middle @ .., most] = bytes;
    *least < 0xed || (most & 0x7f) != 0x7f || middle.iter().any(|byte| *byte != 0xff)
}

/// A PEM block.
pub(crate) struct PemBlock<'a> {
    /// What it says that it holds, like `PUBLIC KEY`.
    pub(crate) label: &'a str,
    /// Base64 with any white space; before it, in old formats, headers.
    pub(crate) body: &'a str,
}

impl PemBlock<'_> {
    /// The decoded content; wiped when dropped.
    pub(crate) fn der(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        base64::decode_lenient(self.body).map(Zeroizing::new).ok_or(KeyError::Pem)
    }
}

/// The PEM blocks of a text. Like OpenSSL, it takes one to begin only where nothing but white space, or a byte order mark,
/// is before it on its line, and ignores what lies between blocks: people and programs write there what a key is for.
pub(crate) fn pem_blocks(text: &str) -> impl Iterator<Item = PemBlock<'_>> {
    let mut rest = text;
    core::iter::from_fn(move || {
        let begin = rest.match_indices("-----BEGIN ").find(|(at, _)| {
            let before = rest.get(..*at).unwrap_or_default();
            let line = before.rsplit('\n').next().unwrap_or_default();
            line.chars().all(|c| c.is_whitespace() || c == '\u{feff}')
        });
        let (_, inside) = rest.split_at_checked(begin?.0)?;
        let (label, inside) = inside.strip_prefix("-----BEGIN ")?.split_once("-----")?;
        let (body, after) = inside.split_once(&format!("-----END {label}-----"))?;
        rest = after;
        Some(PemBlock { label, body })
    })
}

const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// What a key says that describes its curve instead of naming it.
pub const EXPLICIT: &str = "explicit curve parameters";
pub(crate) const SECP256K1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.10");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// The curve that an SPKI or PKCS#8 header names.
pub(crate) fn algorithm_curve(algorithm: &AlgorithmIdentifierRef<'_>) -> Result<Curve, KeyError> {
    match (algorithm.oid, algorithm.parameters) {
        (ED25519, None) => Ok(Curve::Ed25519),
        (ED25519, Some(_)) | (EC_PUBLIC_KEY, None) => Err(KeyError::Der),
        (EC_PUBLIC_KEY, Some(curve)) => match curve.decode_as::<ObjectIdentifier>() {
            Ok(SECP256K1) => Ok(Curve::Secp256k1),
            Ok(oid) => Err(KeyError::Algorithm(algorithm_name(&oid))),
            Err(_) => Err(KeyError::Algorithm(EXPLICIT)),
        },
        (oid, _) => Err(KeyError::Algorithm(algorithm_name(&oid))),
    }
}

/// The name of an unsupported algorithm or curve, if it is one that people are likely to try.
pub(crate) fn algorithm_name(oid: &ObjectIdentifier) -> &'static str {
    const NAMES: [(ObjectIdentifier, &str); 9] = [
        (ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7"), "P-256"),
        (ObjectIdentifier::new_unwrap("1.3.132.0.34"), "P-384"),
        (ObjectIdentifier::new_unwrap("1.3.132.0.35"), "P-521"),
        (ObjectIdentifier::new_unwrap("1.3.101.110"), "X25519"),
        (ObjectIdentifier::new_unwrap("1.3.101.111"), "X448"),
        (ObjectIdentifier::new_unwrap("1.3.101.113"), "Ed448"),
        (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1"), "RSA"),
        (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10"), "RSA-PSS"),
        (ObjectIdentifier::new_unwrap("1.2.840.10040.4.1"), "DSA"),
    ];
    NAMES.iter().find(|(known, _)| known == oid).map_or("one of an unknown algorithm", |(_, name)| name)
}

#[cfg(test)]
mod tests;
