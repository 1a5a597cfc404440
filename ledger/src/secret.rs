//! Secret keys on both curves: wiped from memory when dropped, written only as PEM.
use alloc::string::String;
use core::fmt;

use ed25519_dalek::Signer;
use ed25519_dalek::pkcs8::KeypairBytes;
use k256::elliptic_curve::zeroize::Zeroizing;
use k256::pkcs8::der::asn1::OctetStringRef;
use k256::pkcs8::der::pem::LineEnding;
use k256::pkcs8::der::{self, Decode, Header, Reader, SliceReader, TagMode, TagNumber};
use k256::pkcs8::spki::ObjectIdentifier;
use k256::pkcs8::{EncodePrivateKey, PrivateKeyInfoRef};

use crate::key::{self, Curve, KeyError, PublicKey, Signature};

/// A secret key, wiped from memory when dropped. Not `Clone`, so that copies stay few.
pub enum SecretKey {
    /// Signs with ECDSA over SHA-256, with nonces by RFC 6979.
    Secp256k1(k256::ecdsa::SigningKey),
    /// Signs with pure Ed25519 (RFC 8032).
    Ed25519(ed25519_dalek::SigningKey),
}

impl SecretKey {
    /// Makes a key from 32 secret random bytes, which the caller draws and wipes.
    ///
    /// # Errors
    /// [`KeyError::Scalar`] if a secp256k1 seed is zero or not below the group's order. This happens to
    /// one random seed in 2¹²⁷: draw another.
    pub fn from_seed(curve: Curve, seed: &[u8; 32]) -> Result<Self, KeyError> {
        match curve {
            Curve::Secp256k1 => {
                k256::ecdsa::SigningKey::from_slice(seed).map(Self::Secp256k1).map_err(|_| KeyError::Scalar)
            }
            Curve::Ed25519 => Ok(Self::Ed25519(ed25519_dalek::SigningKey::from_bytes(seed))),
        }
    }

    /// The public key of this secret; always valid.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        match self {
            Self::Secp256k1(key) => {
                let point = key.verifying_key().to_sec1_point(true);
                PublicKey::Secp256k1(point.as_bytes().try_into().expect("a compressed point has 33 bytes"))
            }
            Self::Ed25519(key) => PublicKey::Ed25519(key.verifying_key().to_bytes()),
        }
    }

    /// Signs a message, in the ledger's form. Deterministic: the same key and message always give the same signature.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Signature {
        match self {
            Self::Secp256k1(key) => {
                let (signature, id) = key.sign_recoverable(message);
                Signature::Secp256k1(key::with_recovery_id(&signature, id.to_byte()))
            }
            Self::Ed25519(key) => Signature::Ed25519(key.sign(message).to_bytes()),
        }
    }

    /// The Ed25519 key, for code that does not sign through [`SecretKey::sign`]; `None` for secp256k1.
    #[must_use]
    pub const fn ed25519(&self) -> Option<&ed25519_dalek::SigningKey> {
        match self {
            Self::Ed25519(key) => Some(key),
            Self::Secp256k1(_) => None,
        }
    }

    /// Writes the same unencrypted PKCS#8 PEM as `openssl pkcs8 -topk8 -nocrypt` and
    /// `openssl genpkey`, with a newline at the end; wiped when dropped.
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        match self {
            Self::Secp256k1(key) => k256::SecretKey::from(key.as_nonzero_scalar()).to_pkcs8_pem(LineEnding::LF),
            // Without the public key: older versions of OpenSSL read no other form.
            Self::Ed25519(key) => {
                KeypairBytes { secret_key: key.to_bytes(), public_key: None }.to_pkcs8_pem(LineEnding::LF)
            }
        }
        .expect("a key has a fixed length, which fits DER")
    }

    /// Reads an unencrypted PKCS#8 PEM block, or a SEC1 block as `openssl ecparam -genkey` writes it,
    /// with or without the EC PARAMETERS block before it. A public key inside must match the secret.
    ///
    /// # Errors
    /// [`KeyError`]; its variant `Algorithm` names the algorithm or curve of a key of another kind.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let text = without_parameters(text);
        if let Some(der) = key::pem_body(text, "PRIVATE KEY") {
            return from_pkcs8(&der);
        }
        let der = key::pem_body(text, "EC PRIVATE KEY").ok_or(KeyError::Pem)?;
        from_sec1(&der)
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {:?})", self.public())
    }
}

fn without_parameters(text: &str) -> &str {
    let text = text.trim_start();
    let rest = text.strip_prefix("-----BEGIN EC PARAMETERS-----");
    rest.and_then(|rest| rest.split_once("-----END EC PARAMETERS-----")).map_or(text, |(_, rest)| rest)
}

fn from_pkcs8(der: &[u8]) -> Result<SecretKey, KeyError> {
    let info = PrivateKeyInfoRef::from_der(der).map_err(|_| KeyError::Der)?;
    match key::algorithm_curve(&info.algorithm)? {
        Curve::Secp256k1 => from_sec1(info.private_key.as_bytes()),
        Curve::Ed25519 => ed25519_dalek::SigningKey::try_from(info).map(SecretKey::Ed25519).map_err(|_| KeyError::Der),
    }
}

fn from_sec1(der: &[u8]) -> Result<SecretKey, KeyError> {
    let key = k256::SecretKey::from_sec1_der(der).map_err(|_| sec1_fault(der))?;
    Ok(SecretKey::Secp256k1(key.into()))
}

/// Why an `ECPrivateKey` was refused: it names another curve, or is malformed.
fn sec1_fault(der: &[u8]) -> KeyError {
    match sec1_curve(der) {
        Ok(Some(curve)) if curve != key::SECP256K1 => KeyError::Algorithm(key::algorithm_name(&curve)),
        _ => KeyError::Der,
    }
}

/// The curve that an `ECPrivateKey` names in its `parameters [0]` (RFC 5915).
fn sec1_curve(der: &[u8]) -> der::Result<Option<ObjectIdentifier>> {
    let mut reader = SliceReader::new(der)?;
    Header::decode(&mut reader)?;
    u8::decode(&mut reader)?;
    <&OctetStringRef>::decode(&mut reader)?;
    reader.context_specific(TagNumber(0), TagMode::Explicit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::ToString;
    use proptest::prelude::*;

    /// Made by OpenSSL 3.0: `openssl pkcs8 -topk8 -nocrypt`, `openssl ecparam -name secp256k1 -genkey`,
    /// `openssl genpkey -algorithm ed25519`.
    const SECP256K1_PEM: &str = "-----BEGIN PRIVATE KEY-----
MIGEAgEAMBAGByqGSM49AgEGBSuBBAAKBG0wawIBAQQgrFabekuNBIKB5i2fInrV
vSQJ9fmLx55kxw3HYVESASihRANCAATYHH3shZoD4hE6kKdUjlAZcG7vq+nOp1Zh
lzFmURWmEhGdaZOR7svIxlrD2z8NsO1SBqLmevr2knS03bHWMIeX
-----END PRIVATE KEY-----
";
    const SEC1_PEM: &str = "-----BEGIN EC PARAMETERS-----
BgUrgQQACg==
-----END EC PARAMETERS-----
-----BEGIN EC PRIVATE KEY-----
MHQCAQEEIKxWm3pLjQSCgeYtnyJ61b0kCfX5i8eeZMcNx2FREgEooAcGBSuBBAAK
oUQDQgAE2Bx97IWaA+IROpCnVI5QGXBu76vpzqdWYZcxZlEVphIRnWmTke7LyMZa
w9s/DbDtUgai5nr69pJ0tN2x1jCHlw==
-----END EC PRIVATE KEY-----
";
    const ED25519_PEM: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEILpitk0p1ejfuQbLcsCEKnI+d3Fs9LVl+XlX908FSyVF
-----END PRIVATE KEY-----
";
    const P256_PEM: &str = "-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIF5ZepD+DOzHay+O8bZi/7us+YeFMwthL60VxUUHx53RoAoGCCqGSM49
AwEHoUQDQgAEvYdUtdBG/QxJxxerudQOPe+8OpeJEiTohPLbyV24AK5J7nWoj9By
QZ1mjXvtC+VPDTy27Gx0oYrGcQpCosL9ag==
-----END EC PRIVATE KEY-----
";
    const SECP256K1_TEXT: &str = "secp256k1:03d81c7dec859a03e2113a90a7548e5019706eefabe9cea756619731665115a612";
    const ED25519_TEXT: &str = "ed25519:aae2cb496ceba2c742cbdd159716c7696ee3c4e0cb3ba6a3dae4d84efc4d737c";

    #[test]
    fn pem_as_openssl_writes_it() {
        let bare = &SEC1_PEM[SEC1_PEM.find("-----BEGIN EC PRIVATE").unwrap()..];
        let table = [
            (SECP256K1_PEM, SECP256K1_TEXT, SECP256K1_PEM),
            (SEC1_PEM, SECP256K1_TEXT, SECP256K1_PEM),
            (bare, SECP256K1_TEXT, SECP256K1_PEM),
            (ED25519_PEM, ED25519_TEXT, ED25519_PEM),
        ];
        for (pem, public, written) in table {
            for dressed in [pem.to_string(), format!("\n {}", pem.trim_end()), pem.replace('\n', "\r\n")] {
                let secret = SecretKey::from_pem(&dressed).unwrap();
                assert_eq!(secret.public().to_string(), public);
                assert_eq!(*secret.to_pem(), written);
            }
        }
    }

    #[test]
    fn other_pem_is_refused() {
        let stranger = SEC1_PEM.replace("oUQDQgAE2Bx97IWaA", "oUQDQgAE2Bx97IWaB");
        let table = [
            (P256_PEM, KeyError::Algorithm("P-256")),
            (&stranger, KeyError::Der),
            (&ED25519_PEM.replace("K2Vw", "K2Vu"), KeyError::Algorithm("X25519")),
            (&ED25519_PEM.replace("PRIVATE", "PUBLIC"), KeyError::Pem),
            (&ED25519_PEM.replace("PRIVATE", "ENCRYPTED PRIVATE"), KeyError::Pem),
            ("-----BEGIN EC PARAMETERS-----", KeyError::Pem),
            ("", KeyError::Pem),
        ];
        for (pem, want) in table {
            assert_eq!(SecretKey::from_pem(pem).unwrap_err(), want, "{pem}");
        }
    }

    #[test]
    fn seeds_out_of_range() {
        let order: [u8; 32] =
            crate::id::from_hex("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141").unwrap();
        for seed in [[0; 32], [255; 32], order] {
            assert_eq!(SecretKey::from_seed(Curve::Secp256k1, &seed).unwrap_err(), KeyError::Scalar);
            assert!(SecretKey::from_seed(Curve::Ed25519, &seed).is_ok());
        }
    }

    /// The well-known secp256k1 vector of RFC 6979 with key 1: nonce and low s match other implementations.
    #[test]
    fn rfc_6979() {
        let mut seed = [0; 32];
        seed[31] = 1;
        let signature = SecretKey::from_seed(Curve::Secp256k1, &seed).unwrap().sign(b"Satoshi Nakamoto");
        let want = "934b1ea10a4b3c1757e2b0c017d0b6143ce3c9a7e6a4a49860d7a6ab210ee3d8\
                    2442ce9d2b916064108014783e923ec36b49743e2ffa1c4496f01a512aafd9e5";
        assert_eq!(crate::id::Hex(&signature.as_bytes()[..64]).to_string(), want);
    }

    #[test]
    fn debug_shows_no_secret() {
        let secret = SecretKey::from_pem(ED25519_PEM).unwrap();
        assert_eq!(format!("{secret:?}"), "SecretKey(of ed25519:aae2cb496c…)");
        assert!(secret.ed25519().is_some() && SecretKey::from_pem(SEC1_PEM).unwrap().ed25519().is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn pem_comes_back(seed: [u8; 32]) {
            for curve in [Curve::Secp256k1, Curve::Ed25519] {
                let Ok(secret) = SecretKey::from_seed(curve, &seed) else { continue };
                let again = SecretKey::from_pem(&secret.to_pem()).unwrap();
                prop_assert_eq!(again.public(), secret.public());
                prop_assert_eq!(again.sign(b"m"), secret.sign(b"m"));
            }
        }
    }
}
