//! `[[webhooks]]`: who is told what happens, over HTTP.
use std::fmt;
use std::path::PathBuf;

use fama_ledger::base64;
use serde::Deserialize;

use super::{ConfigError, ConfigFile, ConfigText, KEY_BYTES_MAX, read_bounded, unsafe_mode};

/// Most webhooks of a node.
pub const WEBHOOKS_MAX: usize = 32;
/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 32;
/// Fewest and most bytes of a secret (Standard Webhooks).
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Prefix of the text of a secret (Standard Webhooks).
pub const SECRET_PREFIX: &str = "whsec_";

/// A webhook, with its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Its name on this node: letters, digits, `-` and `_`.
    pub name: String,
    /// `https://…`, or `http://…` to a private address.
    pub url: String,
    /// Signs what is sent.
    pub secret: WebhookSecret,
    /// Which events: their names on `/api/stream`, without `checkpoint`; empty: all of these.
    pub kinds: Vec<String>,
    /// Only what is about these agents; handles, ids or DIDs. Empty: no filter; so for the two below.
    pub agents: Vec<String>,
    /// Only what these providers gave.
    pub providers: Vec<String>,
    /// Only what is about agents of these homes.
    pub homes: Vec<String>,
    /// Whether it may be on this machine or in a private network.
    pub allow_private: bool,
}

/// The bytes of a secret; never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(Vec<u8>);

impl WebhookSecret {
    /// Reads `whsec_` and 24 to 64 bytes in base64.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = base64::decode_lenient(text.trim().strip_prefix(SECRET_PREFIX)?)?;
        SECRET_BYTES.contains(&bytes.len()).then_some(Self(bytes))
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(…)")
    }
}

/// As the file has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawWebhook {
    pub(super) name: String,
    pub(super) url: String,
    pub(super) secret_file: PathBuf,
    #[serde(default)]
    pub(super) kinds: Vec<String>,
    #[serde(default)]
    pub(super) agents: Vec<String>,
    #[serde(default)]
    pub(super) providers: Vec<String>,
    #[serde(default)]
    pub(super) homes: Vec<String>,
    #[serde(default)]
    pub(super) allow_private: bool,
}

impl RawWebhook {
    /// The rule that a value breaks.
    pub(super) fn check(&self) -> Result<(), String> {
        let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
        if !(1..=NAME_BYTES_MAX).contains(&self.name.len()) || !self.name.bytes().all(plain) {
            return Err(format!("name: want 1 to {NAME_BYTES_MAX} letters, digits, - and _"));
        }
        let rest = self.url.strip_prefix("https://");
        let rest = rest.or_else(|| self.url.strip_prefix("http://").filter(|_| self.allow_private));
        if rest.is_none_or(|rest| rest.is_empty() || rest.starts_with('/') || rest.contains('@')) {
            return Err("url: want https://…, or http://… with allow_private = true, without a password".to_owned());
        }
        let known = |kind: &String| ["key", "karma", "access", "registration"].contains(&kind.as_str());
        if !self.kinds.iter().all(known) {
            return Err("kinds: want some of key, karma, access and registration".to_owned());
        }
        if let Some(wrong) = self.homes.iter().find(|home| home.parse::<fama_ledger::id::Domain>().is_err()) {
            return Err(format!("homes: {wrong} is no home"));
        }
        Ok(())
    }
}

impl ConfigText<'_> {
    /// The webhooks, with their secrets.
    pub(super) fn webhooks(&self, raw: &ConfigFile) -> Result<Vec<Webhook>, ConfigError> {
        let mut found: Vec<Webhook> = Vec::new();
        for one in &raw.webhooks {
            let refuse = |rule: String| self.refuse(one, "webhooks", rule);
            if found.len() >= WEBHOOKS_MAX {
                return refuse(format!("at most {WEBHOOKS_MAX}"));
            }
            let of = one.get_ref();
            if let Err(rule) = of.check() {
                return refuse(rule);
            }
            if found.iter().any(|known| known.name == of.name) {
                return refuse(format!("there are two of the name {}", of.name));
            }
            let (at, path) = (self.of(one), self.path(&of.secret_file));
            let text = read_bounded(&path, KEY_BYTES_MAX).map_err(|error| ConfigError::File {
                at: at.clone(),
                setting: "webhooks.secret_file",
                path: path.clone(),
                error,
            })?;
            if let Some(mode) = unsafe_mode(&path, raw.group_readable_keys) {
                return Err(ConfigError::Permissions { at, path, mode });
            }
            let Some(secret) = WebhookSecret::parse(&text) else {
                return refuse(format!("{}: want {SECRET_PREFIX} and 24 to 64 bytes in base64", path.display()));
            };
            let RawWebhook { name, url, kinds, agents, providers, homes, allow_private, .. } = of.clone();
            found.push(Webhook { name, url, secret, kinds, agents, providers, homes, allow_private });
        }
        Ok(found)
    }
}
