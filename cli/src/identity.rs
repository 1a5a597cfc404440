//! Whom a person means by a handle, an id or a DID.
use fama_ledger::id::{Domain, Handle, IdentityId};
use fama_ledger::key::PublicKey;
use serde_json::Value;

use crate::failure::Failure;
use crate::query::Query;

/// An identity as a node describes it, or as far as an id alone says. A node is believed here; the
/// text that is signed shows what it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The id.
    pub id: IdentityId,
    /// Its home.
    pub home: Option<Domain>,
    /// The version of its current key.
    pub version: Option<u32>,
    /// Its current key.
    pub key: Option<PublicKey>,
}

impl Identity {
    /// Finds an identity: any form with a node to ask, an id without.
    ///
    /// # Errors
    /// `query_needed`, or what the node answered.
    pub fn find(text: &str, query: Option<&Query>) -> Result<Self, Failure> {
        match (query, text.parse()) {
            (Some(query), _) => {
                Self::read(&query.get(&["agent", text], &[])?).ok_or_else(|| malformed(text))?.meant(text)
            }
            (None, Ok(id)) => Ok(Self { id, home: None, version: None, key: None }),
            (None, Err(_)) => Err(Failure::new("query_needed", format!("{text} is not an id of 64 hex digits"))
                .hint("--query URL names a node that knows handles and DIDs")),
        }
    }

    /// Reads a profile.
    fn read(profile: &Value) -> Option<Self> {
        let identity = &profile["identity"];
        let handle: Option<Handle> = identity["handle"].as_str().and_then(|text| text.parse().ok());
        Some(Self {
            id: identity["agent_id"].as_str()?.parse().ok()?,
            home: handle.map(|handle| handle.home),
            version: identity["key_version"].as_u64().and_then(|version| version.try_into().ok()),
            key: identity["public_key"].as_str().and_then(|pem| PublicKey::from_pem(pem).ok()),
        })
    }

    /// Checks that a node answered with the identity whose id was asked for, not another.
    fn meant(self, text: &str) -> Result<Self, Failure> {
        match text.parse::<IdentityId>() {
            Ok(id) if id != self.id => Err(Failure::new("wrong_answer", format!("the node answered with {}", self.id))),
            _ => Ok(self),
        }
    }

    /// The home: as given, or as the node said.
    ///
    /// # Errors
    /// `home_needed` if neither is there.
    pub fn home(&self, given: Option<&Domain>) -> Result<Domain, Failure> {
        given.or(self.home.as_ref()).cloned().ok_or_else(|| {
            Failure::new("home_needed", format!("the home of {} is not known", self.id))
                .hint("--home DOMAIN says it, --query URL asks a node")
        })
    }

    /// The version of the current key: as given, or as the node said.
    ///
    /// # Errors
    /// `version_needed` if neither is there.
    pub fn version(&self, given: Option<u32>) -> Result<u32, Failure> {
        given.or(self.version).ok_or_else(|| {
            Failure::new("version_needed", format!("the version of the key of {} is not known", self.id))
                .hint("--key-version N says it, --query URL asks a node")
        })
    }
}

fn malformed(text: &str) -> Failure {
    Failure::new("no_node", format!("the answer about {text} is no profile"))
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
        let identity = Identity::read(&profile).unwrap();
        assert_eq!(identity.home(None).unwrap().as_str(), "alpha.example");
        assert_eq!((identity.version(None).unwrap(), identity.version(Some(2)).unwrap()), (3, 2));
        assert!(identity.clone().meant("swift@alpha.example").is_ok() && identity.clone().meant(&id).is_ok());
        assert_eq!(identity.meant(&"cd".repeat(32)).unwrap_err().code, "wrong_answer");
        assert_eq!(Identity::read(&json!({"identity": {}})), None);
    }

    #[test]
    fn without_a_node() {
        let identity = Identity::find(&"ab".repeat(32), None).unwrap();
        assert_eq!(identity.home(None).unwrap_err().code, "home_needed");
        assert_eq!(identity.version(None).unwrap_err().code, "version_needed");
        assert_eq!(Identity::find("swift@alpha.example", None).unwrap_err().code, "query_needed");
    }
}
