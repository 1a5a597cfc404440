//! JSON Web Signatures (RFC 7515) in the compact form, and the keys that make them: as much as tokens need, and no more.
//!
//! The signature's algorithm is decided by the key, never by the header alone: `ES256K` (RFC 8812) for secp256k1, `EdDSA`
//! or `Ed25519` (RFC 8037, RFC 9864) for Ed25519, `ES256` (RFC 7518) for P-256, which no identity has: only runtime keys
//! and DPoP proofs. Refused in every header are `none`, algorithms with a shared secret, and the members by which a
//! sender would choose the key or the rules: `jku`, `x5u`, `x5c`, `jwk` (but in DPoP proofs), `crit`, `b64`; in every
//! object members that are there twice (RFC 8725).
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use base64ct::{Base64UrlUnpadded, Encoding};
use k256::elliptic_curve::sec1::ToSec1Point as _;
use p256::ecdsa::signature::Verifier as _;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::key::{PublicKey, Signature, SignatureError};

/// Longest compact JWS that is read, in bytes: an assertion with a delegation in it.
pub const JWS_BYTES_MAX: usize = 16_384;
/// Members of a header by which a sender would say how to check what it sends.
const HEADER_REFUSED: [&str; 8] = ["b64", "crit", "jku", "jwk", "x5c", "x5t", "x5t#S256", "x5u"];

/// Why a JWS was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoseError {
    /// Longer than [`JWS_BYTES_MAX`].
    #[error("more than {JWS_BYTES_MAX} bytes")]
    TooLong,
    /// Not three parts of canonical base64url with JSON objects in the first two.
    #[error("not a compact JWS: {0}")]
    Form(&'static str),
    /// The header has a member by which the sender chooses the key or the rules.
    #[error("the header has the member {0}")]
    Header(&'static str),
    /// The header's `typ` is another one than this kind of token has.
    #[error("the type is {found:?}, not {wanted:?}")]
    Type {
        /// The type in the header; empty if there is none.
        found: String,
        /// The type that is wanted.
        wanted: &'static str,
    },
    /// The header's `alg` is not one that the key has.
    #[error("the algorithm {found:?} is not one of a key of {key}")]
    Algorithm {
        /// The algorithm in the header.
        found: String,
        /// The curve of the key.
        key: &'static str,
    },
    /// A JWK that is no public key of a known curve.
    #[error("not a JWK of a public key on Ed25519, P-256 or secp256k1: {0}")]
    Key(&'static str),
    /// The signature does not hold.
    #[error("the signature does not hold")]
    Signature,
}

impl JoseError {
    /// The stable code for answers, logs and metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLong => "jws_too_long",
            Self::Form(_) => "jws_form",
            Self::Header(_) => "jws_header",
            Self::Type { .. } => "jws_type",
            Self::Algorithm { .. } => "jws_algorithm",
            Self::Key(_) => "jws_key",
            Self::Signature => "jws_signature",
        }
    }
}

/// A public key that can sign a JWS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JoseKey {
    /// The key of an identity or an operator, or a runtime key on Ed25519.
    Ledger(PublicKey),
    /// A compressed point on P-256: a runtime key, or the key of a DPoP proof.
    P256([u8; 33]),
}

impl From<PublicKey> for JoseKey {
    fn from(key: PublicKey) -> Self {
        Self::Ledger(key)
    }
}

impl JoseKey {
    /// Reads a JWK (RFC 7517, RFC 8037, RFC 8812). Members other than those of the key are ignored, but a secret one.
    ///
    /// # Errors
    /// [`JoseError::Key`].
    pub fn from_jwk(jwk: &Value) -> Result<Self, JoseError> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        if jwk.get("d").is_some() || jwk.get("k").is_some() {
            return Err(JoseError::Key("it has a secret"));
        }
        let part = |name: &'static str| {
            let bytes = text(name).and_then(|text| Base64UrlUnpadded::decode_vec(text).ok());
            let bytes = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
            bytes.ok_or(JoseError::Key("its numbers are not 32 bytes of base64url each"))
        };
        let point = || -> Result<Vec<u8>, JoseError> { Ok([&[4][..], &part("x")?, &part("y")?].concat()) };
        let off = |_| JoseError::Key("the point is not on the curve");
        match (text("kty"), text("crv")) {
            (Some("OKP"), Some("Ed25519")) => {
                let key = PublicKey::Ed25519(part("x")?);
                key.check().map_err(|_| JoseError::Key("not a sound point on Ed25519"))?;
                Ok(Self::Ledger(key))
            }
            (Some("EC"), Some("P-256")) => {
                let point = p256::PublicKey::from_sec1_bytes(&point()?).map_err(off)?;
                Ok(Self::P256(compressed(point.to_sec1_point(true).as_bytes())?))
            }
            (Some("EC"), Some("secp256k1")) => {
                let point = k256::PublicKey::from_sec1_bytes(&point()?).map_err(off)?;
                let key = PublicKey::Secp256k1(compressed(point.to_sec1_point(true).as_bytes())?);
                Ok(Self::Ledger(key))
            }
            _ => Err(JoseError::Key("another type of key")),
        }
    }

    /// As a JWK with no members but those of the key.
    #[must_use]
    pub fn to_jwk(&self) -> Value {
        let object = |pairs: &[(&str, String)]| {
            Value::Object(pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone().into())).collect())
        };
        let point = |curve: &str, uncompressed: Option<Vec<u8>>| {
            let bytes = uncompressed.unwrap_or_default();
            let half = |from: usize| {
                let part = bytes.get(from..from.saturating_add(32)).unwrap_or_default();
                Base64UrlUnpadded::encode_string(part)
            };
            object(&[("crv", curve.to_owned()), ("kty", "EC".to_owned()), ("x", half(1)), ("y", half(33))])
        };
        match self {
            Self::Ledger(PublicKey::Ed25519(bytes)) => {
                let x = Base64UrlUnpadded::encode_string(bytes);
                object(&[("crv", "Ed25519".to_owned()), ("kty", "OKP".to_owned()), ("x", x)])
            }
            Self::Ledger(PublicKey::Secp256k1(bytes)) => {
                let key = k256::PublicKey::from_sec1_bytes(bytes).ok();
                point("secp256k1", key.map(|key| key.to_sec1_point(false).as_bytes().to_vec()))
            }
            Self::P256(bytes) => {
                let key = p256::PublicKey::from_sec1_bytes(bytes).ok();
                point("P-256", key.map(|key| key.to_sec1_point(false).as_bytes().to_vec()))
            }
        }
    }

    /// The JWK thumbprint of RFC 7638 over SHA-256, as base64url.
    #[must_use]
    pub fn thumbprint(&self) -> String {
        // The members of `to_jwk` are those that the RFC requires, and a map writes them in the order of their names.
        Base64UrlUnpadded::encode_string(&Sha256::digest(self.to_jwk().to_string().as_bytes()))
    }

    /// The curve's name.
    #[must_use]
    pub const fn curve(&self) -> &'static str {
        match self {
            Self::Ledger(PublicKey::Secp256k1(_)) => "secp256k1",
            Self::Ledger(PublicKey::Ed25519(_)) => "Ed25519",
            Self::P256(_) => "P-256",
        }
    }

    /// The algorithms with which this key signs, the preferred one first.
    #[must_use]
    pub const fn algorithms(&self) -> &'static [&'static str] {
        match self {
            Self::Ledger(PublicKey::Secp256k1(_)) => &["ES256K"],
            Self::Ledger(PublicKey::Ed25519(_)) => &["EdDSA", "Ed25519"],
            Self::P256(_) => &["ES256"],
        }
    }

    /// Verifies 64 bytes: r ‖ s with s high or low, or an Ed25519 signature.
    fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), JoseError> {
        // Other lengths have no meaning here: not the DER that the edges of the ledger accept.
        let signature: &[u8; 64] = signature.try_into().map_err(|_| JoseError::Signature)?;
        let holds = match self {
            Self::Ledger(key) => Signature::from_edge(key, message, signature).map(|_| ()),
            Self::P256(point) => p256::ecdsa::VerifyingKey::from_sec1_bytes(point)
                .and_then(|key| key.verify(message, &p256::ecdsa::Signature::from_slice(signature)?))
                .map_err(|_| SignatureError::Mismatch),
        };
        holds.map_err(|_| JoseError::Signature)
    }
}

fn compressed(bytes: &[u8]) -> Result<[u8; 33], JoseError> {
    bytes.try_into().map_err(|_| JoseError::Key("the point is not on the curve"))
}

/// A JWS of which nothing is verified but its form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jws {
    header: Map<String, Value>,
    claims: Map<String, Value>,
    /// What is signed: header and claims as they came.
    input: String,
    signature: Vec<u8>,
}

impl Jws {
    /// Parses the compact form.
    ///
    /// # Errors
    /// [`JoseError`]: it is too long or not of this form, or its header has members that no header here may have.
    pub fn parse(text: &str) -> Result<Self, JoseError> {
        Self::with_key(text).and_then(|(jws, key)| match key {
            None => Ok(jws),
            Some(_) => Err(JoseError::Header("jwk")),
        })
    }

    /// Parses a JWS that brings its own key in `jwk`, as DPoP proofs do. It proves only that who made it has that key.
    ///
    /// # Errors
    /// As [`Jws::parse`]; [`JoseError::Key`] without a sound key.
    pub fn parse_with_key(text: &str) -> Result<(Self, JoseKey), JoseError> {
        let (jws, key) = Self::with_key(text)?;
        let key = key.ok_or(JoseError::Key("the header has none"))?;
        Ok((jws, JoseKey::from_jwk(&key)?))
    }

    fn with_key(text: &str) -> Result<(Self, Option<Value>), JoseError> {
        if text.len() > JWS_BYTES_MAX {
            return Err(JoseError::TooLong);
        }
        let (input, signature) = text.rsplit_once('.').ok_or(JoseError::Form("want three parts"))?;
        let (header, claims) = input.split_once('.').ok_or(JoseError::Form("want three parts"))?;
        let decode = |part: &str| Base64UrlUnpadded::decode_vec(part).map_err(|_| JoseError::Form("not base64url"));
        let object = |part: &str| {
            let StrictObject(object) = serde_json::from_slice(&decode(part)?)
                .map_err(|_| JoseError::Form("not a JSON object, a member twice, or a fraction"))?;
            Ok(object)
        };
        let mut header: Map<String, Value> = object(header)?;
        let key = header.remove("jwk");
        if let Some(refused) = HEADER_REFUSED.iter().find(|name| header.contains_key(**name)) {
            return Err(JoseError::Header(refused));
        }
        let (claims, signature) = (object(claims)?, decode(signature)?);
        Ok((Self { header, claims, input: input.to_owned(), signature }, key))
    }

    /// Verifies the signature by `key`, by an algorithm that the key has.
    ///
    /// # Errors
    /// [`JoseError::Algorithm`], [`JoseError::Signature`].
    pub fn verify(&self, key: &JoseKey) -> Result<(), JoseError> {
        let algorithm = self.header.get("alg").and_then(Value::as_str).unwrap_or_default();
        if !key.algorithms().contains(&algorithm) {
            return Err(JoseError::Algorithm { found: algorithm.to_owned(), key: key.curve() });
        }
        key.verify(self.input.as_bytes(), &self.signature)
    }

    /// Refuses another type than this; without regard to case, and with or without `application/` (RFC 7515).
    ///
    /// # Errors
    /// [`JoseError::Type`].
    pub fn expect_type(&self, wanted: &'static str) -> Result<(), JoseError> {
        let found = self.token_type().unwrap_or_default();
        if found == wanted { Ok(()) } else { Err(JoseError::Type { found, wanted }) }
    }

    /// The header's `typ`, lower-case and without `application/`; `None` if it is absent.
    #[must_use]
    pub fn token_type(&self) -> Option<String> {
        let found = self.header.get("typ")?.as_str().unwrap_or("?").to_ascii_lowercase();
        Some(found.strip_prefix("application/").map_or_else(|| found.clone(), ToOwned::to_owned))
    }

    /// The header's `kid`, if it is a text.
    #[must_use]
    pub fn key_id(&self) -> Option<&str> {
        self.header.get("kid")?.as_str()
    }

    /// The claims.
    #[must_use]
    pub const fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }
}

/// Signs claims: `header` has `alg` and `typ`, `sign` gives the 64 bytes of a signature over its argument.
pub fn sign(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> [u8; 64]) -> String {
    let part = |value: &Value| Base64UrlUnpadded::encode_string(value.to_string().as_bytes());
    let input = format!("{}.{}", part(header), part(claims));
    let signature = Base64UrlUnpadded::encode_string(&sign(input.as_bytes()));
    format!("{input}.{signature}")
}

/// The 64 bytes of a JWS that a signature of the ledger has.
#[must_use]
pub fn signature_bytes(signature: &Signature) -> [u8; 64] {
    match signature {
        Signature::Secp256k1([rs @ .., _]) | Signature::Ed25519(rs) => *rs,
    }
}

/// A JSON object in which no object has a member twice, and all numbers are whole.
struct StrictObject(Map<String, Value>);

impl<'de> Deserialize<'de> for StrictObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(StrictMap).map(Self)
    }
}

struct StrictMap;

impl<'de> Visitor<'de> for StrictMap {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut members = Map::new();
        while let Some((name, StrictValue(value))) = access.next_entry::<String, StrictValue>()? {
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("a member twice"));
            }
        }
        Ok(members)
    }
}

struct StrictValue(Value);

impl<'de> Deserialize<'de> for StrictValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue).map(Self)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(StrictValue(value)) = access.next_element()? {
            all.push(value);
        }
        Ok(all.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<Value, A::Error> {
        StrictMap.visit_map(access).map(Value::Object)
    }
}

#[cfg(test)]
mod tests;
