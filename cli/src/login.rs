//! MLAuth-style login requests: how an agent signs one, and how a service checks it.
use fama_ledger::base64;
use fama_ledger::id::{Handle, Name};
use fama_ledger::key::{PublicKey, Signature};
use fama_ledger::secret::SecretKey;
use fama_ledger::time::Millis;
use fama_node::http::FORBIDDEN_LOGINS;

use crate::author::edge_bytes;
use crate::failure::Failure;

/// Largest difference between a request's time and the verifier's clock, in milliseconds.
pub(crate) const WINDOW_MILLIS: u64 = 300_000;
/// Longest payload, in bytes.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// A login request. Its three texts are signed, joined without a separator.
#[derive(Clone, Debug)]
pub(crate) struct LoginRequest {
    /// Name or handle of the agent.
    pub(crate) dumbname: String,
    /// RFC 3339 in UTC, with or without milliseconds; signed as given.
    pub(crate) timestamp: String,
    /// Chosen by the service, usually a challenge.
    pub(crate) payload: String,
}

impl LoginRequest {
    /// The bytes that are signed.
    ///
    /// # Errors
    /// `bad_name`, `bad_timestamp`, `payload_too_long`; `dangerous_payload` if the payload could be taken for an order
    /// about the key.
    pub(crate) fn message(&self) -> Result<String, Failure> {
        if self.dumbname.parse::<Name>().is_err() {
            self.dumbname.parse::<Handle>().map_err(|error| Failure::new("bad_name", error).about(&self.dumbname))?;
        }
        self.time()?;
        if self.payload.len() > PAYLOAD_BYTES_MAX {
            return Err(Failure::new("payload_too_long", format!("at most {PAYLOAD_BYTES_MAX} bytes")));
        }
        if FORBIDDEN_LOGINS.iter().any(|begin| self.payload.starts_with(begin)) {
            let message = "this payload is an order about your key or another signed text, not a login";
            return Err(Failure::new("dangerous_payload", message)
                .hint("the service that asked you to sign this may be after your identity"));
        }
        Ok([self.dumbname.as_str(), &self.timestamp, &self.payload].concat())
    }

    /// Parses the timestamp.
    ///
    /// # Errors
    /// `bad_timestamp` for anything but strict RFC 3339 with `Z`.
    pub(crate) fn time(&self) -> Result<Millis, Failure> {
        let whole = self.timestamp.strip_suffix('Z').filter(|text| text.len() == 19);
        let text = whole.map_or_else(|| self.timestamp.clone(), |whole| format!("{whole}.000Z"));
        text.parse().map_err(|error| Failure::new("bad_timestamp", error).about(&self.timestamp))
    }

    /// Signs the request; gives base64 of DER for secp256k1, of 64 bytes for Ed25519.
    ///
    /// # Errors
    /// As [`LoginRequest::message`].
    pub(crate) fn sign(&self, key: &SecretKey) -> Result<String, Failure> {
        Ok(base64::encode(&edge_bytes(&key.sign(self.message()?.as_bytes()))?))
    }

    /// Checks a signature, and that `now` is within the window, if one is given.
    ///
    /// # Errors
    /// `expired`; as [`LoginRequest::message`] and [`Signature::from_edge`].
    pub(crate) fn verify(&self, key: &PublicKey, signature: &str, now: Option<Millis>) -> Result<(), Failure> {
        let message = self.message()?;
        let bytes = base64::decode_lenient(signature)
            .ok_or_else(|| Failure::new("signature_malformed", "the signature is not base64"))?;
        Signature::from_edge(key, message.as_bytes(), &bytes)?;
        let Some(now) = now else { return Ok(()) };
        if self.time()?.0.abs_diff(now.0) > WINDOW_MILLIS {
            let message = format!("{} is more than {} s from now", self.timestamp, WINDOW_MILLIS / 1_000);
            return Err(
                Failure::new("expired", message).hint("the signature itself is valid; --any-time ignores its age")
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fama_ledger::key::Curve;

    fn request(dumbname: &str, timestamp: &str, payload: &str) -> LoginRequest {
        LoginRequest { dumbname: dumbname.into(), timestamp: timestamp.into(), payload: payload.into() }
    }

    #[test]
    fn only_logins_are_signed() {
        let time = "2026-11-22T05:00:00Z";
        let table = [
            ("swift-core-maps", time, "hello", ""),
            ("swift@alpha.example", "2026-11-22T05:00:00.000Z", "", ""),
            ("Swift", time, "hello", "bad_name"),
            ("swift", "2026-11-22 05:00:00Z", "hello", "bad_timestamp"),
            ("swift", "2026-11-22T05:00:00+00:00", "hello", "bad_timestamp"),
            ("swift", "2026-11-22T05:00:00.0Z", "hello", "bad_timestamp"),
            ("swift", time, "ROTATE_KEY:x", "dangerous_payload"),
            ("swift", time, "cosignature/v1", "dangerous_payload"),
            ("swift", time, "REVOKE_KEY:x", "dangerous_payload"),
            ("swift", time, "fama.event/1\n", "dangerous_payload"),
        ];
        for (name, time, payload, code) in table {
            let result = request(name, time, payload).message();
            assert_eq!(result.as_ref().err().map_or("", |failure| &failure.code), code, "{name} {time} {payload}");
        }
    }

    #[test]
    fn signatures() {
        let now: Millis = "2026-11-22T05:05:00.000Z".parse().unwrap();
        let request = request("swift", "2026-11-22T05:00:00Z", "hello");
        for curve in [Curve::Secp256k1, Curve::Ed25519] {
            let key = SecretKey::from_seed(curve, &[7; 32]).unwrap();
            let signature = request.sign(&key).unwrap();
            let check = |request: &LoginRequest, signature: &str, now| {
                request.verify(&key.public(), signature, now).err().map_or(String::new(), |failure| failure.code)
            };
            assert_eq!(check(&request, &signature, Some(now)), "");
            assert_eq!(check(&request, &signature, Some(now.plus(1))), "expired");
            assert_eq!(check(&request, &signature, None), "");
            assert_eq!(check(&request, "?", None), "signature_malformed");
            let other = LoginRequest { payload: "hullo".into(), ..request.clone() };
            assert_eq!(check(&other, &signature, None), "signature_mismatch");
        }
    }
}
