//! Looks up the identity behind a handle, an id or a DID.
use fama_ledger::id::{Domain, FederationId, Handle, IdentityId, Name};
use fama_ledger::key::PublicKey;
use fama_node::domains::DomainClaim;
use serde_json::Value;

use crate::failure::Failure;
use crate::query::Query;

/// An identity as a node describes it, or its id alone. The node is trusted here: what it reports appears in the text
/// that the user is asked to sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResolvedIdentity {
    /// Stays the same through all changes of key.
    pub(crate) id: IdentityId,
    /// Its name in its home; `None` if no node was asked.
    pub(crate) name: Option<Name>,
    /// Home of the identity; `None` if no node was asked.
    pub(crate) home: Option<Domain>,
    /// Version of the current key; `None` if no node was asked.
    pub(crate) version: Option<u32>,
    /// Current key; `None` if no node was asked.
    pub(crate) key: Option<PublicKey>,
    /// Whether that key is revoked; `false` if no node was asked.
    pub(crate) revoked: bool,
}

impl ResolvedIdentity {
    /// Finds an identity. Without a node to ask, only an id will do.
    ///
    /// # Errors
    /// `query_needed`, or the error of the node.
    pub(crate) fn find(text: &str, query: Option<&Query>) -> Result<Self, Failure> {
        match (query, text.parse()) {
            (Some(query), _) => {
                Self::read(&query.get(&["agent", text], &[])?).ok_or_else(|| malformed(text))?.meant(text)
            }
            (None, Ok(id)) => Ok(Self { id, name: None, home: None, version: None, key: None, revoked: false }),
            (None, Err(_)) => {
                Err(Failure::new("query_needed", format!("no node is asked, and {text} is not an id of 64 hex digits"))
                    .hint("--query URL names a node that knows handles and DIDs"))
            }
        }
    }

    /// Reads the answer about an agent.
    fn read(profile: &Value) -> Option<Self> {
        let identity = &profile["identity"];
        let handle: Option<Handle> = identity["handle"].as_str().and_then(|text| text.parse().ok());
        Some(Self {
            id: identity["agent_id"].as_str()?.parse().ok()?,
            name: handle.as_ref().map(|handle| handle.name.clone()),
            home: handle.map(|handle| handle.home),
            version: identity["key_version"].as_u64().and_then(|version| version.try_into().ok()),
            revoked: profile["key_status"]["is_revoked"] == true,
            key: identity["public_key"].as_str().and_then(|pem| PublicKey::from_pem(pem).ok()),
        })
    }

    /// Checks that the answer is about the id that was asked for.
    fn meant(self, text: &str) -> Result<Self, Failure> {
        match text.parse::<IdentityId>() {
            Ok(id) if id != self.id => Err(Failure::new("wrong_answer", format!("the node answered with {}", self.id))),
            _ => Ok(self),
        }
    }

    /// What a domain must say so that it names this identity in a federation.
    #[must_use]
    pub(crate) fn claim(&self, domain: Domain, federation: FederationId) -> DomainClaim {
        let handle = self.name.as_ref().zip(self.home.as_ref()).map(|(name, home)| (name.as_str(), home));
        DomainClaim::new(domain, federation, &self.id, handle)
    }

    /// The given home, else the one that the node reports.
    ///
    /// # Errors
    /// `home_needed` if there is neither.
    pub(crate) fn home(&self, given: Option<&Domain>) -> Result<Domain, Failure> {
        given.or(self.home.as_ref()).cloned().ok_or_else(|| {
            Failure::new("home_needed", format!("the home of {} is not known", self.id))
                .hint("state it with --home DOMAIN, or ask a node with --query URL")
        })
    }

    /// The given version of the current key, else the one that the node reports.
    ///
    /// # Errors
    /// `version_needed` if there is neither.
    pub(crate) fn version(&self, given: Option<u32>) -> Result<u32, Failure> {
        given.or(self.version).ok_or_else(|| {
            Failure::new("version_needed", format!("the version of the key of {} is not known", self.id))
                .hint("state it with --key-version N, or ask a node with --query URL")
        })
    }
}

fn malformed(text: &str) -> Failure {
    Failure::new("no_node", format!("the answer about {text} is not a profile"))
        .hint("is that the query address of a node?")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn profiles() {
        let id = "ab".repeat(32);
        let profile = json!({"identity": {"agent_id": id, "handle": "swift@alpha.example", "key_version": 3}});
        let identity = ResolvedIdentity::read(&profile).unwrap();
        assert_eq!(identity.home(None).unwrap().as_str(), "alpha.example");
        assert_eq!((identity.version(None).unwrap(), identity.version(Some(2)).unwrap()), (3, 2));
        assert!(identity.clone().meant("swift@alpha.example").is_ok() && identity.clone().meant(&id).is_ok());
        assert_eq!(identity.meant(&"cd".repeat(32)).unwrap_err().code, "wrong_answer");
        assert_eq!(ResolvedIdentity::read(&json!({"identity": {}})), None);
    }

    #[test]
    fn without_a_node() {
        let identity = ResolvedIdentity::find(&"ab".repeat(32), None).unwrap();
        assert_eq!(identity.home(None).unwrap_err().code, "home_needed");
        assert_eq!(identity.version(None).unwrap_err().code, "version_needed");
        assert_eq!(ResolvedIdentity::find("swift@alpha.example", None).unwrap_err().code, "query_needed");
    }
}
