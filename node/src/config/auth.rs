//! `[auth]`: the sign-in listener.
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use fama_ledger::key::PublicKey;
use fama_ledger::manifest::Operator;
use fama_ledger::secret::SecretKey;
use fama_ledger::token::TOKEN_SECONDS_MAX;
use serde::Deserialize;
use toml::Spanned;

use super::{Config, ConfigError, ConfigFile, ConfigText, Listener, loopback};

/// The default of `[auth]`: off.
pub const AUTH: Listener = Listener { enabled: false, ..loopback(8060) };
/// How long tokens last, in seconds, unless the configuration says otherwise.
pub const TOKEN_SECONDS: u64 = 300;
/// The shortest that they may last, in seconds.
const TOKEN_SECONDS_MIN: u64 = 60;

/// The sign-in listener of a node.
#[derive(Clone, Debug)]
pub struct AuthSettings {
    /// Where it listens.
    pub listener: Listener,
    /// The key that signs tokens, one of an operator's in the manifest. It need not be that of the node's operator.
    pub token_key: Arc<SecretKey>,
    /// How long tokens last, in seconds.
    pub token_seconds: u64,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct RawAuth {
    enabled: Option<bool>,
    pub(super) listen: Option<Spanned<SocketAddr>>,
    token_key: Option<Spanned<PathBuf>>,
    token_seconds: Option<Spanned<u64>>,
}

impl RawAuth {
    /// A table `[auth]` turns the listener on, unless it says otherwise.
    pub(super) fn listener(raw: Option<&Self>) -> Listener {
        raw.map_or(AUTH, |raw| {
            let listen = raw.listen.as_ref().map_or(AUTH.listen, |listen| *listen.get_ref());
            Listener { enabled: raw.enabled.unwrap_or(true), listen }
        })
    }
}

impl Config {
    /// A warning if no operator of the manifest has the token key: nothing is issued with it.
    pub(super) fn unnamed_token_key(&self) -> Option<String> {
        let key = self.auth.as_ref()?.token_key.public();
        let names = |operator: &Operator| {
            operator.endpoints.token_keys.iter().any(|named| PublicKey::Ed25519(named.to_bytes()) == key)
        };
        let named = self.manifest.operators().iter().any(names);
        let version = self.manifest.version();
        (!named).then(|| {
            format!(
                "version {version} of the manifest names no token key {key}: the sign-in listener issues nothing until \
                 one does"
            )
        })
    }
}

impl ConfigText<'_> {
    /// The sign-in listener with its key; `None` if it is off.
    pub(super) fn auth(&self, raw: &ConfigFile) -> Result<Option<AuthSettings>, ConfigError> {
        let (Some(table), listener) = (&raw.auth, RawAuth::listener(raw.auth.as_ref())) else { return Ok(None) };
        if let Some(seconds) = &table.token_seconds
            && !(TOKEN_SECONDS_MIN..=TOKEN_SECONDS_MAX).contains(seconds.get_ref())
        {
            let rule = format!("want {TOKEN_SECONDS_MIN} to {TOKEN_SECONDS_MAX}");
            return self.refuse(seconds, "auth.token_seconds", rule);
        }
        if !listener.enabled {
            return Ok(None);
        }
        let Some(file) = &table.token_key else {
            let rule = "want the file of a token key that the manifest names".to_owned();
            return Err(ConfigError::Value { at: self.at(0), setting: "auth.token_key", rule });
        };
        let token_key = Arc::new(self.key("auth.token_key", file, raw.group_readable_keys)?);
        let token_seconds = table.token_seconds.as_ref().map_or(TOKEN_SECONDS, |seconds| *seconds.get_ref());
        Ok(Some(AuthSettings { listener, token_key, token_seconds }))
    }
}
