//! Secret keys on both curves: wiped from memory when dropped, written only as PEM.
use alloc::string::String;
use core::fmt;

use ed25519_dalek::Signer;
use ed25519_dalek::pkcs8::KeypairBytes;
use k256::elliptic_curve::zeroize::Zeroizing;
use k256::pkcs8::der::asn1::{OctetStringRef, SequenceRef};
use k256::pkcs8::der::pem::LineEnding;
use k256::pkcs8::der::{self, Decode, DecodeValue, FixedTag, Header, Reader, SliceReader, TagMode, TagNumber};
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

    /// Reads the one secret key in a text: an unencrypted PKCS#8 PEM block, or a SEC1 block as `openssl ecparam -genkey`
    /// writes it. What lies outside of it, and blocks of other kinds, such as curve parameters or a certificate, are
    /// ignored. A public key inside must match the secret.
    ///
    /// # Errors
    /// [`KeyError`]; its variant `Algorithm` names the algorithm or curve of a key of another kind.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let mut keys = key::pem_blocks(text).filter(|block| block.label.ends_with("PRIVATE KEY"));
        let (Some(key), None) = (keys.next(), keys.next()) else { return Err(KeyError::Pem) };
        match key.label {
            // The headers of a traditional key: its content is no DER.
            _ if key.body.contains(",ENCRYPTED") => Err(KeyError::Encrypted),
            "PRIVATE KEY" => from_pkcs8(&key.der()?),
            "EC PRIVATE KEY" => from_sec1(&key.der()?),
            "ENCRYPTED PRIVATE KEY" => Err(KeyError::Encrypted),
            "OPENSSH PRIVATE KEY" => Err(KeyError::OpenSsh),
            "RSA PRIVATE KEY" => Err(KeyError::Algorithm("RSA")),
            "DSA PRIVATE KEY" => Err(KeyError::Algorithm("DSA")),
            _ => Err(KeyError::Pem),
        }
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {:?})", self.public())
    }
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

/// Why an `ECPrivateKey` was refused: it names another curve, describes one instead of naming it, or is malformed.
fn sec1_fault(der: &[u8]) -> KeyError {
    match sec1_parameters::<ObjectIdentifier>(der) {
        Ok(Some(curve)) if curve != key::SECP256K1 => KeyError::Algorithm(key::algorithm_name(&curve)),
        Ok(_) => KeyError::Der,
        Err(_) => match sec1_parameters::<&SequenceRef>(der) {
            Ok(Some(_)) => KeyError::Algorithm(key::EXPLICIT),
            _ => KeyError::Der,
        },
    }
}

/// The `parameters [0]` of an `ECPrivateKey` (RFC 5915): the name of its curve, or a sequence of all its numbers.
fn sec1_parameters<'a, T: DecodeValue<'a, Error = der::Error> + FixedTag + 'a>(
    der: &'a [u8],
) -> der::Result<Option<T>> {
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

    /// `openssl ecparam -name secp256k1 -genkey -noout -param_enc explicit`.
    const EXPLICIT_PEM: &str = "-----BEGIN EC PRIVATE KEY-----
MIIBUQIBAQQgHzZ95EilWXjeaPFBbrjnMulepZkSs6TgN3jeH6Nl9+SggeMwgeAC
AQEwLAYHKoZIzj0BAQIhAP////////////////////////////////////7///wv
MEQEIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABCAAAAAAAAAAAAAA
AAAAAAAAAAAAAAAAAAAAAAAAAAAABwRBBHm+Zn753LusVaBilc6HCwcCm/zbLc4o
2VnygVsW+BeYSDradyajxGVdpPv8DhEIqP0XtEimhVQZnEfQj/sQ1LgCIQD/////
///////////////+uq7c5q9IoDu/0l6M0DZBQQIBAaFEA0IABJQopN76nEoJ2uQ5
ctaBZ4JlQIh14jx2M/CUEVQMMu9fksU9FJERMstcf3i+fPMaLxfmsMHEoVB2Rek7
bNo4W+g=
-----END EC PRIVATE KEY-----
";
    /// `openssl ec -aes128`.
    const TRADITIONAL_ENCRYPTED_PEM: &str = "-----BEGIN EC PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-128-CBC,A1219A77FB6E5A24258218EA17E66975

1mp9RVJT+Mx0bJ7ulAWdjqMM38jM/5c7y0zx/7082ziO2zY8rYbh48ZTKdeb9To5
tSbPzIzS8ntMoJP/td6zT0MtNPWzTXhcmTx5xOHaQXzPyq8+2KFhC9C/m97yLlA4
TRGETAQbfd5m7aWO6ToP6ZEMibjB6/b4PYLSwlToai0=
-----END EC PRIVATE KEY-----
";

    /// Symptom: a key with a comment above it, or a certificate next to it, was refused, where OpenSSL reads it.
    #[test]
    fn what_lies_around_a_key_is_ignored() {
        let certificate = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        let public = SecretKey::from_pem(ED25519_PEM).unwrap().public().to_pem().unwrap();
        for text in [
            format!("# my key\n{ED25519_PEM}"),
            format!("\u{feff}{ED25519_PEM}"),
            format!("{ED25519_PEM}{certificate}"),
            format!("{certificate}{ED25519_PEM}{certificate}"),
            format!("{public}{ED25519_PEM}"),
            format!("Bag Attributes\r\n    localKeyID: 01\r\n{}", ED25519_PEM.replace('\n', "\r\n")),
            format!("# not this -----BEGIN PRIVATE KEY-----\n{ED25519_PEM}"),
        ] {
            assert_eq!(SecretKey::from_pem(&text).unwrap().public().to_string(), ED25519_TEXT, "{text}");
        }
        for two in [format!("{ED25519_PEM}{SECP256K1_PEM}"), format!("{ED25519_PEM}{TRADITIONAL_ENCRYPTED_PEM}")] {
            assert_eq!(SecretKey::from_pem(&two).unwrap_err(), KeyError::Pem, "whose key is meant?");
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
            (&ED25519_PEM.replace("PRIVATE", "ENCRYPTED PRIVATE"), KeyError::Encrypted),
            (TRADITIONAL_ENCRYPTED_PEM, KeyError::Encrypted),
            (&TRADITIONAL_ENCRYPTED_PEM.replace("EC PRIVATE", "RSA PRIVATE"), KeyError::Encrypted),
            (&ED25519_PEM.replace("PRIVATE", "OPENSSH PRIVATE"), KeyError::OpenSsh),
            (&ED25519_PEM.replace("PRIVATE", "RSA PRIVATE"), KeyError::Algorithm("RSA")),
            (&ED25519_PEM.replace("PRIVATE", "ANY PRIVATE"), KeyError::Pem),
            (EXPLICIT_PEM, KeyError::Algorithm("explicit curve parameters")),
            ("-----BEGIN PRIVATE KEY-----", KeyError::Pem),
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
