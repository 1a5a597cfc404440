//! Whether a domain names a provider of karma: looked up in DNS or at its web server, with bounds on time, bytes and
//! addresses. No rule of the ledger depends on it: what follows is for an operator to decide.
use std::net::SocketAddr;
use std::time::Duration;

use fama_ledger::event::Method;
use fama_ledger::id::{Domain, FederationId, IdentityId, did};
use serde_json::Value;

mod dns;
mod https;
#[cfg(test)]
mod tests;

use dns::Resolver;
pub use dns::is_public;
use https::WebClient;

/// Timeout of one look-up with everything in it.
const LOOKUP_TIME: Duration = Duration::from_secs(15);
/// Longest file that is read, in bytes.
pub const PROOF_BYTES_MAX: usize = 64 << 10;
/// Most entries of a file, or TXT records of a name, that are looked at.
const ENTRIES_MAX: usize = 256;
/// What a TXT record of Fama's begins with.
const TXT_VERSION: &str = "v=fama1";
/// Label below the domain at which the TXT record is.
const TXT_LABEL: &str = "_fama";
/// Files that may name a provider, and the member that does. The second is MLAuth's, which has members of its own.
const FILES: [(&str, &str); 2] =
    [("/.well-known/fama.json", "providers"), ("/.well-known/mlauth.json", "fama_providers")];

/// How domains are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupSettings {
    /// The DNS server to ask; `None` asks those of the system, `/etc/resolv.conf`.
    pub resolver: Option<SocketAddr>,
    /// Whether a web server may have an address that is not public, as in a try-out without internet.
    pub allow_private: bool,
    /// Port of the web server; other than 443 in tests only.
    pub https_port: u16,
    /// Certificates to trust in addition to the system's, as DER.
    pub roots: Vec<Vec<u8>>,
}

impl Default for LookupSettings {
    fn default() -> Self {
        Self { resolver: None, allow_private: false, https_port: 443, roots: Vec::new() }
    }
}

/// What a domain must say: that this identity gives karma for it in this federation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainClaim {
    /// The domain that the provider says it has.
    pub domain: Domain,
    /// A proof for one federation is none in another.
    pub federation: FederationId,
    /// Names of the provider, each of which will do: id, DID, handle.
    pub names: Vec<String>,
}

impl DomainClaim {
    /// A claim of the identity `provider`, which is also named by its DID and handle if they are known.
    #[must_use]
    pub fn new(
        domain: Domain,
        federation: FederationId,
        provider: &IdentityId,
        handle: Option<(&str, &Domain)>,
    ) -> Self {
        let mut names = vec![provider.to_string()];
        if let Some((name, home)) = handle {
            names.extend([did(home, provider), format!("{name}@{home}")]);
        }
        Self { domain, federation, names }
    }

    /// The domain name at which the TXT record is.
    #[must_use]
    pub fn txt_name(&self) -> String {
        format!("{TXT_LABEL}.{}", self.domain)
    }

    /// The text of the TXT record, with the first of the names.
    #[must_use]
    pub fn txt(&self) -> String {
        format!("{TXT_VERSION}; federation={}; provider={}", self.federation, self.name())
    }

    /// The URL of the file.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}{}", self.domain, FILES[0].0)
    }

    /// The content of the file, with the first of the names.
    #[must_use]
    pub fn file(&self) -> String {
        let federation = self.federation;
        format!("{{\"providers\": [{{\"federation\": \"{federation}\", \"provider\": \"{}\"}}]}}", self.name())
    }

    fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    fn is_met(&self, federation: &str, provider: &str) -> bool {
        federation == self.federation.to_string() && self.names.iter().any(|name| name == provider)
    }

    /// Whether a TXT record proves the claim: `v=fama1`, then `federation` and `provider`, each once and in any order,
    /// separated by semicolons. Other tags are for later.
    fn is_met_by_txt(&self, text: &str) -> bool {
        let mut tags = text.split(';').map(str::trim);
        if tags.next() != Some(TXT_VERSION) {
            return false;
        }
        let tags: Vec<(&str, &str)> = tags.filter_map(|tag| tag.split_once('=')).collect();
        let only = |name: &str| {
            let mut found = tags.iter().filter(|(tag, _)| *tag == name).map(|(_, value)| *value);
            found.next().filter(|_| found.next().is_none())
        };
        matches!((only("federation"), only("provider")), (Some(federation), Some(provider)) if self.is_met(federation, provider))
    }

    /// Whether a file proves the claim in this member, a list of objects with `federation` and `provider`.
    fn is_met_by_file(&self, bytes: &[u8], member: &str) -> bool {
        let file: Value = serde_json::from_slice(bytes).unwrap_or_default();
        let entries = file[member].as_array().into_iter().flatten().take(ENTRIES_MAX);
        let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        entries.into_iter().any(|entry| self.is_met(&text(entry, "federation"), &text(entry, "provider")))
    }
}

/// Why a look-up proved nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// The domain answered, and does not name the provider.
    #[error("{0}")]
    Unproven(String),
    /// There was no answer, or none that says anything; this may pass.
    #[error("{0}")]
    Unreachable(String),
    /// The domain has no public address, and others are not asked.
    #[error("{0} has no public address: nothing there is asked")]
    Private(Domain),
}

impl LookupError {
    /// Stable snake_case code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unproven(_) => "domain_unproven",
            Self::Unreachable(_) => "domain_unreachable",
            Self::Private(_) => "domain_private",
        }
    }
}

/// Looks up domains. Nothing is kept from one look-up to the next.
pub struct DomainLookup {
    resolver: Resolver,
    web: WebClient,
}

impl DomainLookup {
    /// Needs a tokio runtime, and calls need the same one.
    ///
    /// # Errors
    /// As text: the system's DNS settings, or a certificate, cannot be read.
    pub fn new(settings: &LookupSettings) -> Result<Self, String> {
        Ok(Self { resolver: Resolver::new(settings)?, web: WebClient::new(settings)? })
    }

    /// Looks for the proof of a claim; returns where it is.
    ///
    /// # Errors
    /// [`LookupError`]; [`LookupError::Unreachable`] after 15 seconds.
    pub async fn find(&self, claim: &DomainClaim, method: Method) -> Result<String, LookupError> {
        let found = async {
            match method {
                Method::Dns => self.find_txt(claim).await,
                Method::Https => self.find_file(claim).await,
                Method::Manual => Err(LookupError::Unproven("there is nothing to look up for `manual`".to_owned())),
            }
        };
        let late = |_| LookupError::Unreachable(format!("{}: no answer in {LOOKUP_TIME:?}", claim.domain));
        tokio::time::timeout(LOOKUP_TIME, found).await.unwrap_or_else(|elapsed| Err(late(elapsed)))
    }

    async fn find_txt(&self, claim: &DomainClaim) -> Result<String, LookupError> {
        let name = claim.txt_name();
        let texts = self.resolver.texts(&name).await?;
        if texts.iter().any(|text| claim.is_met_by_txt(text)) {
            return Ok(format!("the TXT record at {name}"));
        }
        Err(LookupError::Unproven(format!("{} TXT records at {name}, none with {}", texts.len(), claim.txt())))
    }

    async fn find_file(&self, claim: &DomainClaim) -> Result<String, LookupError> {
        let addresses = self.resolver.public_addresses(&claim.domain).await?;
        let mut first = None;
        for (path, member) in FILES {
            match self.web.get(&claim.domain, path, &addresses).await {
                Ok(bytes) if claim.is_met_by_file(&bytes, member) => {
                    return Ok(format!("https://{}{path}", claim.domain));
                }
                Ok(_) => {
                    let what = format!("https://{}{path} does not name it for this federation", claim.domain);
                    first.get_or_insert(LookupError::Unproven(what));
                }
                Err(error @ LookupError::Unproven(_)) => drop(first.get_or_insert(error)),
                // The first file is ours: what the second one's server says counts only if it proves.
                Err(error) => return Err(first.unwrap_or(error)),
            }
        }
        Err(first.unwrap_or_else(|| LookupError::Unproven(format!("{} does not name it", claim.domain))))
    }
}
