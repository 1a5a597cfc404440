//! How a service asks operators to sponsor it: a request signed with its key, and the proof that it has its domain.
use fama_ledger::base64;
use fama_ledger::event::{Method, Service};
use fama_ledger::id::{Domain, FederationId, IdentityId};
use fama_ledger::key::{PublicKey, Signature};
use fama_ledger::secret::SecretKey;
use fama_ledger::text::forbidden;
use fama_ledger::time::Millis;
use fama_node::domains::DomainClaim;
use serde::{Deserialize, Serialize};

use crate::author::edge_bytes;
use crate::failure::Failure;

/// First line of the text that is signed.
const FORMAT: &str = "fama.request/1";
/// Longest contact, in bytes.
const CONTACT_BYTES_MAX: usize = 200;
/// Longest request file, in bytes.
pub(crate) const REQUEST_BYTES_MAX: usize = 8 << 10;
/// A request for sponsorship, as its file has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SponsorRequest {
    /// [`FORMAT`].
    format: String,
    federation: String,
    provider: String,
    service: String,
    domain: String,
    method: String,
    /// Where operators can ask: an address of mail or the web; may be empty.
    contact: String,
    created: String,
    /// The provider's key.
    signer: String,
    /// Base64, as in event submissions.
    signature: String,
}

/// The values of a request that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Requested {
    /// The federation whose operators are asked.
    pub(crate) federation: FederationId,
    /// The identity that wants to give karma.
    pub(crate) provider: IdentityId,
    /// The service that it is.
    pub(crate) service: Service,
    /// The service's domain.
    pub(crate) domain: Domain,
    /// How the domain can be checked.
    pub(crate) method: Method,
    /// Where operators can ask.
    pub(crate) contact: String,
    /// When it was made.
    pub(crate) created: Millis,
    /// The key that signed it: whether it is the provider's current one is for the ledger to say.
    pub(crate) signer: PublicKey,
}

impl Requested {
    fn text(&self) -> String {
        let Self { federation, provider, service, domain, method, contact, created, .. } = self;
        format!(
            "{FORMAT}\nfederation: {federation}\nprovider: {provider}\nservice: {service}\ndomain: {domain}\nmethod: {}\n\
             contact: {contact}\ncreated: {created}\n",
            method.as_str()
        )
    }

    /// Signs the request.
    ///
    /// # Errors
    /// `contact`.
    pub(crate) fn sign(&self, key: &SecretKey) -> Result<SponsorRequest, Failure> {
        check_contact(&self.contact)?;
        let signature = base64::encode(&edge_bytes(&key.sign(self.text().as_bytes()))?);
        Ok(SponsorRequest {
            format: FORMAT.to_owned(),
            federation: self.federation.to_string(),
            provider: self.provider.to_string(),
            service: self.service.to_string(),
            domain: self.domain.to_string(),
            method: self.method.as_str().to_owned(),
            contact: self.contact.clone(),
            created: self.created.to_string(),
            signer: self.signer.to_string(),
            signature,
        })
    }
}

fn check_contact(contact: &str) -> Result<(), Failure> {
    if contact.len() > CONTACT_BYTES_MAX || contact.chars().any(forbidden) {
        return Err(Failure::new("contact", format!("want one line of at most {CONTACT_BYTES_MAX} bytes")));
    }
    Ok(())
}

impl SponsorRequest {
    /// Checks form and signature.
    ///
    /// # Errors
    /// `request` with what is malformed; the fault of the signature.
    pub(crate) fn read(text: &str) -> Result<Requested, Failure> {
        let wrong = |what: &str| Failure::new("request", format!("{what}: malformed")).hint("`fama request` makes one");
        let request: Self = serde_json::from_str(text).map_err(|error| wrong("the request").about(error))?;
        if request.format != FORMAT {
            return Err(wrong("format"));
        }
        check_contact(&request.contact)?;
        let requested = Requested {
            federation: request.federation.parse().map_err(|_| wrong("federation"))?,
            provider: request.provider.parse().map_err(|_| wrong("provider"))?,
            service: request.service.parse().map_err(|_| wrong("service"))?,
            domain: request.domain.parse().map_err(|_| wrong("domain"))?,
            method: request.method.parse().map_err(|_| wrong("method"))?,
            contact: request.contact,
            created: request.created.parse().map_err(|_| wrong("created"))?,
            signer: request.signer.parse().map_err(|_| wrong("signer"))?,
        };
        let signature = base64::decode_lenient(&request.signature).ok_or_else(|| wrong("signature"))?;
        Signature::from_edge(&requested.signer, requested.text().as_bytes(), &signature)?;
        Ok(requested)
    }
}

/// What the owner of a domain publishes to show that a provider is its own, for people.
#[must_use]
pub(crate) fn proof_wanted(method: Method, claim: &DomainClaim) -> String {
    match method {
        Method::Dns => format!("a TXT record at {} with the text {}", claim.txt_name(), claim.txt()),
        Method::Https => format!("{} at {}", claim.file(), claim.url()),
        Method::Manual => format!("what you agree on with the owner of {}", claim.domain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::draw_key;
    use fama_ledger::key::Curve;

    fn requested(key: &SecretKey) -> Requested {
        Requested {
            federation: FederationId([1; 32]),
            provider: fama_ledger::id::EventId([2; 32]),
            service: "judge".parse().unwrap(),
            domain: "judge.example".parse().unwrap(),
            method: Method::Https,
            contact: "ops@judge.example".into(),
            created: Millis(1_700_000_000_000),
            signer: key.public(),
        }
    }

    #[test]
    fn a_request_holds_for_what_was_signed_only() {
        let key = draw_key(Curve::Secp256k1).unwrap();
        let wanted = requested(&key);
        let request = wanted.sign(&key).unwrap();
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(SponsorRequest::read(&text).unwrap(), wanted);
        for (from, to) in [("judge.example", "other.example"), ("https", "dns"), ("ops@", "eve@"), ("2023", "2024")] {
            let failure = SponsorRequest::read(&text.replace(from, to)).unwrap_err();
            assert_eq!(failure.code, "signature_mismatch", "{from}");
        }
        assert_eq!(SponsorRequest::read("{}").unwrap_err().code, "request");
        let long = Requested { contact: "x".repeat(201), ..wanted };
        assert_eq!(long.sign(&key).unwrap_err().code, "contact");
    }
}
