//! The HTTP addresses that an operator may name, and the keys of the tokens that it issues.
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use ed25519_dalek::VerifyingKey;

use super::{Manifest, ManifestError, Operator, value};
use crate::id::Domain;
use crate::key::PublicKey;
use crate::limits;

/// Where people and programs reach an operator over HTTP, and which keys sign its tokens.
///
/// Addresses are hints: what a reader proves does not depend on who sent it, so a wrong one harms nobody's proof.
/// A token, however, is its issuer's word alone: a service accepts it only from an issuer that it chose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// Origin of its query listener, like `https://fama.alpha.example`.
    pub query: Option<String>,
    /// Origin at which it takes submissions over HTTP.
    pub submit: Option<String>,
    /// The `iss` of its tokens, an origin of its own; present if and only if there are token keys.
    pub issuer: Option<String>,
    /// One or two keys: the first signs tokens, all of them verify.
    pub token_keys: Vec<VerifyingKey>,
}

impl Endpoints {
    /// Checks the rules that do not depend on other operators.
    pub(super) fn check(&self) -> Result<(), ManifestError> {
        let named = [("query", &self.query), ("submit", &self.submit), ("issuer", &self.issuer)];
        for (field, origin) in named {
            if origin.as_ref().is_some_and(|origin| !is_origin(origin)) {
                return value(field, "want https://host or https://host:port; http on loopback only");
            }
        }
        if self.token_keys.len() > limits::TOKEN_KEYS_MAX || self.issuer.is_some() == self.token_keys.is_empty() {
            return value("token_keys", "want one or two with an issuer, and none without");
        }
        Ok(())
    }
}

/// Whether this is an origin as its serialization has it: `https://`, a domain or a name of the loopback, and a port
/// unless it is the scheme's own. `http://` is for the loopback only.
fn is_origin(text: &str) -> bool {
    let (rest, default) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(rest), _) => (rest, "443"),
        (None, Some(rest)) => (rest, "80"),
        (None, None) => return false,
    };
    let (host, port) = match rest.rsplit_once(':') {
        // The colons of an address in brackets.
        Some((_, port)) if port.ends_with(']') => (rest, None),
        Some((host, port)) => (host, Some(port)),
        None => (rest, None),
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|number| number > 0 && format!("{number}") == port);
    let loopback = ["localhost", "127.0.0.1", "[::1]"].contains(&host);
    port.is_none_or(|port| is_port(port) && port != default)
        && (loopback || (default == "443" && host.parse::<Domain>().is_ok()))
}

/// An issuer and a key belong to one operator, and each key has one use.
pub(super) fn check_distinct(operators: &[Operator]) -> Result<(), ManifestError> {
    let issuers = operators.iter().filter_map(|operator| operator.endpoints.issuer.as_ref());
    let distinct: BTreeSet<_> = issuers.clone().collect();
    if distinct.len() != issuers.count() {
        return value("issuer", "all issuers must differ");
    }
    let keys = operators.iter().flat_map(uses).map(|(key, _)| key);
    let distinct: BTreeSet<_> = keys.clone().collect();
    if distinct.len() != keys.count() {
        return value("operators", "all keys must differ");
    }
    Ok(())
}

/// The keys of an operator; those that sign its tokens come with its name.
fn uses(operator: &Operator) -> impl Iterator<Item = ([u8; 32], Option<&Domain>)> + Clone {
    let tokens = operator.endpoints.token_keys.iter().map(|key| (key.to_bytes(), Some(&operator.name)));
    [&operator.node_key, &operator.governance_key].map(|key| (key.to_bytes(), None)).into_iter().chain(tokens)
}

/// A token key of `next` was never a key of another use, and no other key was ever a token key.
pub(super) fn check_former_keys(next: &Manifest) -> Result<(), ManifestError> {
    let Some(previous) = &next.previous else { return Ok(()) };
    let before: BTreeSet<_> = previous.operators.iter().flat_map(uses).collect();
    let fresh: BTreeMap<_, _> = next.operators.iter().flat_map(uses).filter(|one| !before.contains(one)).collect();
    // Few versions bring a key. Those that bring none were checked with the versions before them.
    if fresh.is_empty() {
        return Ok(());
    }
    for (key, used) in previous.versions().flat_map(|version| version.operators.iter().flat_map(uses)) {
        if fresh.get(&key).is_some_and(|now| *now != used) {
            let key = PublicKey::Ed25519(key);
            return Err(ManifestError::Succession(format!(
                "{key} had another use before: tokens need keys of their own"
            )));
        }
    }
    Ok(())
}
