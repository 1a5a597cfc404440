//! The configuration file, checked as a whole before the node starts.
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fama_ledger::id::Domain;
use fama_ledger::key::PublicKey;
use fama_ledger::limits::CHAIN_BYTES_MAX;
use fama_ledger::manifest::Manifest;
use fama_ledger::replica::Overrides;
use fama_ledger::secret::SecretKey;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use serde::Deserialize;
use toml::Spanned;

use crate::domains::LookupSettings;

mod access;
mod auth;
mod error;
mod files;
mod open_files;
mod storage;
#[cfg(test)]
mod tests;
mod webhook;

pub use access::{AccessSettings, AddressRange, PROXIES_MAX};
use auth::RawAuth;
pub use auth::{AUTH, AuthSettings, TOKEN_SECONDS};
pub use error::{At, ConfigError};
use files::read_bounded;
pub use files::{NO_TEXT, key_hint, mode_hint, unsafe_mode, without_habits};
pub use open_files::{CONNECTIONS_MAX, raise_limit};
pub use storage::StoreSettings;
use webhook::RawWebhook;
pub use webhook::{SECRET_PREFIX, WEBHOOKS_MAX, Webhook, WebhookSecret};

/// Every setting with its default and an explanation, as a file that loads.
pub const REFERENCE: &str = include_str!("../../config/node.toml");
/// Longest configuration file, in bytes.
pub const CONFIG_BYTES_MAX: usize = 64 << 10;
/// Longest key file, in bytes.
pub const KEY_BYTES_MAX: usize = 16 << 10;
/// Most libp2p addresses that a node listens on.
pub const LISTEN_MAX: usize = 16;
/// Shortest time from one look at a domain to the next, in seconds.
pub const DOMAINS_SECONDS_MIN: u64 = 3_600;
/// Most invitation tokens.
pub const INVITES_MAX: usize = 10_000;

/// A checked configuration. The files that it names were read, and the key matches the manifest.
#[derive(Clone, Debug)]
pub struct Config {
    /// The folder with the node's database.
    pub data_dir: PathBuf,
    /// The newest version in the manifest file, with its chain.
    pub manifest: Arc<Manifest>,
    /// The operator whose node this is; `None` for a mirror.
    pub operator: Option<Domain>,
    /// Ed25519. For an operator, the key of one of its logs in the manifest.
    pub node_key: Arc<SecretKey>,
    /// The key that replaces `node_key` with the version of the manifest that says so. The node cosigns with both as
    /// long as both are configured.
    pub next_node_key: Option<Arc<SecretKey>>,
    /// The home in which names without `@home` are looked up, if there is one.
    pub namespace: Option<Domain>,
    /// Peer-to-peer settings.
    pub network: NetworkSettings,
    /// The public, read-only HTTP listener.
    pub query: Listener,
    /// Its access log, and the proxies in front of it.
    pub access: AccessSettings,
    /// The HTTP listener that takes events in; off unless the configuration names it.
    pub submit: Listener,
    /// The HTTP listener at which agents sign in; off unless the configuration names it.
    pub auth: Option<AuthSettings>,
    /// The private HTTP listener.
    pub admin: Listener,
    /// Bounds on registrations in this node's log.
    pub admission: AdmissionSettings,
    /// What the node answers from while it is far behind.
    pub verify: Verify,
    /// How the database is checked for damage in the background.
    pub scrub: ScrubSettings,
    /// How the domains of sponsored services are looked at again.
    pub domains: DomainSettings,
    /// What the database takes.
    pub storage: StoreSettings,
    /// Level and format of log messages.
    pub log: LogSettings,
    /// Who is told what happens, over HTTP.
    pub webhooks: Vec<Webhook>,
    /// Checks that the operator overrides for this run. Not a setting: from options of `fama node`.
    pub overrides: Overrides,
}

/// The newest version of the manifest in a data folder.
pub enum StoredManifest {
    /// There is no database yet.
    Absent,
    /// The database is locked or damaged: whoever opens it next reports that, which says more than the configuration.
    Unreadable,
    /// With its chain.
    Newest(Arc<Manifest>),
}

/// `[network]`: peer-to-peer settings.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub struct NetworkSettings {
    /// Addresses to listen on, 1 to [`LISTEN_MAX`].
    pub listen: Vec<Multiaddr>,
}

/// An HTTP listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Whether the node opens it.
    pub enabled: bool,
    /// Address and port; port 0 lets the operating system choose.
    pub listen: SocketAddr,
}

/// `[admission]`: bounds on registrations.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub struct AdmissionSettings {
    /// From one address block: /24 for IPv4, /48 for IPv6.
    pub registrations_per_hour: u32,
    /// Tokens with which a registration is accepted beyond that rate; at most [`INVITES_MAX`].
    pub invites: Vec<String>,
}

/// `[scrub]`: the background check of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub struct ScrubSettings {
    /// Reading speed; 0 turns the scrub off.
    pub bytes_per_second: u64,
    /// From the end of one pass to the next, at least 1.
    pub pause_seconds: u64,
}

/// `[domains]`: how the domains of the services that the operator sponsors are looked at again.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub struct DomainSettings {
    /// From one look at a domain to the next, about: 0 turns it off, else at least [`DOMAINS_SECONDS_MIN`].
    pub every_seconds: u64,
    /// The DNS server to ask; `None` asks those of the system.
    pub resolver: Option<SocketAddr>,
    /// Whether web servers may have addresses that are not public.
    pub allow_private: bool,
    /// How long a domain must be silent to be lost. No setting, as the next two: tests have no day.
    #[serde(skip)]
    pub doubt: Duration,
    /// Port of web servers.
    #[serde(skip)]
    pub https_port: u16,
    /// Certificates to trust in addition to the system's, as DER.
    #[serde(skip)]
    pub roots: Vec<Vec<u8>>,
}

impl DomainSettings {
    /// How one domain is looked up.
    #[must_use]
    pub fn lookup(&self) -> LookupSettings {
        let Self { resolver, allow_private, https_port, roots, .. } = self.clone();
        LookupSettings { resolver, allow_private, https_port, roots }
    }
}

impl Default for DomainSettings {
    fn default() -> Self {
        let LookupSettings { resolver, allow_private, https_port, roots } = LookupSettings::default();
        let doubt = Duration::from_secs(86_400);
        Self { every_seconds: 86_400, resolver, allow_private, doubt, https_port, roots }
    }
}

/// What a node that is far behind answers from until it has verified every entry of its own copies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verify {
    /// From what it has verified itself so far.
    #[default]
    Full,
    /// From states that a quorum of operators certified.
    Certified,
}

impl Verify {
    /// The value as the configuration file spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Certified => "certified",
        }
    }
}

/// `[log]`: level and format of log messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub struct LogSettings {
    /// The least severe level that is logged.
    pub level: Level,
    /// Text for people or JSON for machines.
    pub format: LogFormat,
}

/// Severity of a log message, most severe first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are those of every logger")]
pub enum Level {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

impl Level {
    /// The level as the configuration file and `RUST_LOG` spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// The form of log messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line per message, for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

const fn loopback(port: u16) -> Listener {
    Listener { enabled: true, listen: SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, port)) }
}

/// The default of `[query]`.
pub const QUERY: Listener = loopback(8080);
/// The default of `[submit]`: off.
pub const SUBMIT: Listener = Listener { enabled: false, ..loopback(8070) };
/// The default of `[admin]`.
pub const ADMIN: Listener = loopback(9090);

impl Default for NetworkSettings {
    fn default() -> Self {
        let listen =
            ["/ip4/0.0.0.0/tcp/4001", "/ip4/0.0.0.0/udp/4001/quic-v1", "/ip6/::/tcp/4001", "/ip6/::/udp/4001/quic-v1"];
        Self { listen: listen.map(|address| address.parse().expect("a literal address parses")).to_vec() }
    }
}

impl Default for ScrubSettings {
    fn default() -> Self {
        Self { bytes_per_second: 4 << 20, pause_seconds: 3_600 }
    }
}

impl Default for AdmissionSettings {
    fn default() -> Self {
        Self { registrations_per_hour: 10, invites: Vec::new() }
    }
}

/// The file as parsed, with the positions that later errors name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    data_dir: PathBuf,
    manifest: Spanned<PathBuf>,
    node_key: Spanned<PathBuf>,
    next_node_key: Option<Spanned<PathBuf>>,
    #[serde(default)]
    group_readable_keys: bool,
    operator: Option<Spanned<String>>,
    namespace: Option<Spanned<String>>,
    #[serde(default = "spanned_default")]
    network: Spanned<NetworkSettings>,
    #[serde(default)]
    query: RawQuery,
    #[serde(default)]
    admin: RawListener,
    submit: Option<RawListener>,
    auth: Option<RawAuth>,
    #[serde(default = "spanned_default")]
    admission: Spanned<AdmissionSettings>,
    #[serde(default)]
    verify: Verify,
    #[serde(default = "spanned_default")]
    scrub: Spanned<ScrubSettings>,
    #[serde(default = "spanned_default")]
    domains: Spanned<DomainSettings>,
    #[serde(default = "spanned_default")]
    storage: Spanned<StoreSettings>,
    #[serde(default)]
    log: LogSettings,
    #[serde(default)]
    webhooks: Vec<Spanned<RawWebhook>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
struct RawListener {
    enabled: Option<bool>,
    listen: Option<Spanned<SocketAddr>>,
}

/// `[query]`: a listener that may be public.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
struct RawQuery {
    enabled: Option<bool>,
    listen: Option<Spanned<SocketAddr>>,
    access_log: bool,
    trusted_proxies: Option<Spanned<Vec<AddressRange>>>,
    requests_per_second: Option<u32>,
}

impl RawQuery {
    fn split(self) -> (Listener, AccessSettings) {
        let listener = self.listener().or(QUERY);
        let trusted_proxies = self.trusted_proxies.map(Spanned::into_inner).unwrap_or_default();
        let requests_per_second = self.requests_per_second.unwrap_or(AccessSettings::default().requests_per_second);
        (listener, AccessSettings { log: self.access_log, trusted_proxies, requests_per_second })
    }

    fn listener(&self) -> RawListener {
        RawListener { enabled: self.enabled, listen: self.listen.clone() }
    }
}

impl RawListener {
    fn or(&self, default: Listener) -> Listener {
        let listen = self.listen.as_ref().map_or(default.listen, |listen| *listen.get_ref());
        Listener { enabled: self.enabled.unwrap_or(default.enabled), listen }
    }
}

/// What a listener takes of the machine: `true` for TCP, and where.
#[derive(Clone, Copy)]
struct Taken {
    tcp: bool,
    at: SocketAddr,
    /// Whether it takes the same port of IPv4 if it stands for all addresses of IPv6.
    both: bool,
}

impl Taken {
    /// What a libp2p address takes; `None` for one that no node listens on, and for a name.
    fn of(address: &Multiaddr) -> Option<Self> {
        let mut parts = address.iter();
        let ip = match parts.next()? {
            Protocol::Ip4(ip) => IpAddr::V4(ip),
            Protocol::Ip6(ip) => IpAddr::V6(ip),
            _ => return None,
        };
        let (tcp, port) = match parts.next()? {
            Protocol::Tcp(port) => (true, port),
            Protocol::Udp(port) => (false, port),
            _ => return None,
        };
        Some(Self { tcp, at: SocketAddr::new(ip, port), both: false })
    }

    /// Whether the two cannot be had at once. Port 0 stands for any free one.
    fn clashes(&self, other: &Self) -> bool {
        let covers = |all: &Self, one: &Self| {
            all.at.ip().is_unspecified() && (all.both && all.at.is_ipv6() || all.at.is_ipv4() == one.at.is_ipv4())
        };
        let (here, there) = (self.at.port(), other.at.port());
        let shared = self.at.ip() == other.at.ip() || covers(self, other) || covers(other, self);
        self.tcp == other.tcp && here == there && here > 0 && shared
    }
}

/// Whether the internet may reach a listener there: not one of this machine or of a private network.
fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        // 100.64.0.0/10 is for networks of providers and overlays.
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            !(ip.is_loopback() || ip.is_private() || ip.is_link_local() || (a == 100 && b & 0xc0 == 64))
        }
        IpAddr::V6(ip) => !(ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local()),
    }
}

fn spanned_default<T: Default>() -> Spanned<T> {
    Spanned::new(0..0, T::default())
}

/// The text of a configuration file, with which errors name a line.
struct ConfigText<'a> {
    file: &'a Path,
    text: &'a str,
}

impl ConfigText<'_> {
    fn at(&self, offset: usize) -> At {
        let before = self.text.as_bytes().iter().take(offset);
        At { file: self.file.to_owned(), line: before.filter(|c| **c == b'\n').count() + 1 }
    }

    fn of<T>(&self, spanned: &Spanned<T>) -> At {
        self.at(spanned.span().start)
    }

    fn refuse<R, T>(
        &self,
        spanned: &Spanned<T>,
        setting: &'static str,
        rule: impl fmt::Display,
    ) -> Result<R, ConfigError> {
        Err(ConfigError::Value { at: self.of(spanned), setting, rule: rule.to_string() })
    }

    fn parse(&self) -> Result<ConfigFile, ConfigError> {
        toml::from_str(self.text).map_err(|error| ConfigError::Toml {
            at: self.at(error.span().map_or(0, |span| span.start)),
            message: error.message().replace('\n', "; "),
        })
    }

    fn domain(&self, setting: &'static str, value: Option<&Spanned<String>>) -> Result<Option<Domain>, ConfigError> {
        let Some(value) = value else { return Ok(None) };
        value.get_ref().parse().map(Some).or_else(|rule| self.refuse(value, setting, rule))
    }

    fn path(&self, path: &Path) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("")).join(path)
    }

    /// Reads a file that a setting names.
    fn read(&self, setting: &'static str, path: &Spanned<PathBuf>, max: usize) -> Result<String, ConfigError> {
        let full = self.path(path.get_ref());
        let failed = |error| ConfigError::File { at: self.of(path), setting, path: full.clone(), error };
        read_bounded(&full, max).map_err(failed)
    }

    /// The genesis, or a chain of versions that begins with it.
    fn manifest(&self, raw: &ConfigFile) -> Result<Arc<Manifest>, ConfigError> {
        let text = self.read("manifest", &raw.manifest, CHAIN_BYTES_MAX)?;
        Manifest::parse_chain(&text).map_err(|error| ConfigError::Manifest {
            at: self.of(&raw.manifest),
            path: self.path(raw.manifest.get_ref()),
            error,
        })
    }

    fn key(&self, field: &'static str, file: &Spanned<PathBuf>, by_group: bool) -> Result<SecretKey, ConfigError> {
        let (at, path) = (self.of(file), self.path(file.get_ref()));
        let text = self.read(field, file, KEY_BYTES_MAX)?;
        if let Some(mode) = unsafe_mode(&path, by_group) {
            return Err(ConfigError::Permissions { at, path, mode });
        }
        match SecretKey::from_pem(&text) {
            Ok(key) if key.ed25519().is_none() => Err(ConfigError::KeyAlgorithm { at, path }),
            Ok(key) => Ok(key),
            Err(error) => Err(ConfigError::Key { at, path, error }),
        }
    }

    /// Checks that the manifest has the operator, and the key as the key of one of its logs; for a mirror, that the
    /// key is not an operator's.
    fn check_key(
        &self,
        raw: &ConfigFile,
        operator: Option<&Domain>,
        manifest: &Manifest,
        found: PublicKey,
    ) -> Result<(), ConfigError> {
        let mut logs = manifest.logs().iter();
        let owner = logs.find(|(_, known)| known.node_key.as_bytes() == found.as_bytes()).map(|(log, _)| &log.operator);
        let wanted = match (operator, owner) {
            (None, None) => return Ok(()),
            (None, Some(owner)) => format!("that is the key of operator {owner}, and `operator` is not set"),
            (Some(name), Some(owner)) if owner == name => return Ok(()),
            (Some(name), _) => match manifest.operator(name) {
                None => return Err(self.unknown(raw, name, manifest)),
                Some(wanted) => {
                    format!("the manifest has {} for {name}", PublicKey::Ed25519(wanted.node_key.to_bytes()))
                }
            },
        };
        let path = self.path(raw.node_key.get_ref());
        Err(ConfigError::WrongKey { at: self.of(&raw.node_key), path, found, wanted })
    }

    fn unknown(&self, raw: &ConfigFile, operator: &Domain, manifest: &Manifest) -> ConfigError {
        let known: Vec<&str> = manifest.operators().iter().map(|operator| operator.name.as_str()).collect();
        let at = raw.operator.as_ref().map_or_else(|| self.at(0), |operator| self.of(operator));
        ConfigError::Operator { at, operator: operator.clone(), known: known.join(", ") }
    }

    fn namespace(
        &self,
        raw: &ConfigFile,
        operator: Option<&Domain>,
        manifest: &Manifest,
    ) -> Result<Option<Domain>, ConfigError> {
        let namespace = self.domain("namespace", raw.namespace.as_ref())?;
        match (&raw.namespace, namespace) {
            (Some(setting), Some(home)) if !manifest.homes().contains_key(&home) => {
                self.refuse(setting, "namespace", format!("the manifest has no home {home}"))
            }
            (_, namespace) => Ok(namespace.or_else(|| operator.cloned())),
        }
    }

    fn check_bounds(&self, raw: &ConfigFile) -> Result<(), ConfigError> {
        if !(1..=LISTEN_MAX).contains(&raw.network.get_ref().listen.len()) {
            return self.refuse(&raw.network, "network.listen", format!("want 1 to {LISTEN_MAX} addresses"));
        }
        let proxies = raw.query.trusted_proxies.as_ref();
        if let Some(proxies) = proxies.filter(|proxies| proxies.get_ref().len() > PROXIES_MAX) {
            return self.refuse(proxies, "query.trusted_proxies", format!("at most {PROXIES_MAX}"));
        }
        self.check_ports(raw)?;
        if raw.scrub.get_ref().pause_seconds == 0 {
            return self.refuse(&raw.scrub, "scrub.pause_seconds", "at least 1");
        }
        if (1..DOMAINS_SECONDS_MIN).contains(&raw.domains.get_ref().every_seconds) {
            let rule = format!("0, or at least {DOMAINS_SECONDS_MIN}");
            return self.refuse(&raw.domains, "domains.every_seconds", rule);
        }
        if let Some((setting, rule)) = raw.storage.get_ref().fault() {
            return self.refuse(&raw.storage, setting, rule);
        }
        if raw.admission.get_ref().invites.len() > INVITES_MAX {
            return self.refuse(&raw.admission, "admission.invites", format!("at most {INVITES_MAX}"));
        }
        Ok(())
    }
}

/// A table `[submit]` turns the listener on, unless it says otherwise.
fn submit_listener(raw: Option<&RawListener>) -> Listener {
    raw.map_or(SUBMIT, |raw| raw.or(Listener { enabled: true, ..SUBMIT }))
}

impl ConfigText<'_> {
    /// Refuses two listeners on one port: the node would fail to start, with an error about one of them.
    fn check_ports(&self, raw: &ConfigFile) -> Result<(), ConfigError> {
        let mut taken: Vec<(String, Taken)> = Vec::new();
        for address in &raw.network.get_ref().listen {
            let Some(here) = Taken::of(address) else { continue };
            if let Some((other, _)) = taken.iter().find(|(_, there)| here.clashes(there)) {
                return self.refuse(&raw.network, "network.listen", format!("{address} is also taken by {other}"));
            }
            taken.push((format!("network.listen {address}"), here));
        }
        let (query, none) = (raw.query.listener(), RawListener::default());
        let submit = raw.submit.as_ref().unwrap_or(&none);
        for (setting, listener, of) in [
            ("query.listen", query.listen.as_ref(), query.or(QUERY)),
            ("submit.listen", submit.listen.as_ref(), submit_listener(raw.submit.as_ref())),
            (
                "auth.listen",
                raw.auth.as_ref().and_then(|auth| auth.listen.as_ref()),
                RawAuth::listener(raw.auth.as_ref()),
            ),
            ("admin.listen", raw.admin.listen.as_ref(), raw.admin.or(ADMIN)),
        ] {
            let here = Taken { tcp: true, at: of.listen, both: true };
            if !of.enabled {
                continue;
            }
            if let Some((other, _)) = taken.iter().find(|(_, there)| here.clashes(there)) {
                let at = listener.map_or_else(|| self.at(0), |listen| self.of(listen));
                let rule = format!("{} is also taken by {other}", of.listen);
                return Err(ConfigError::Value { at, setting, rule });
            }
            taken.push((format!("{setting} {}", of.listen), here));
        }
        Ok(())
    }
}

impl Config {
    /// Reads a configuration file and the files that it names, and checks everything that can be checked before the
    /// node starts. Opens no socket and writes nothing.
    ///
    /// # Errors
    /// [`ConfigError`], which names the file and, where there is one, the line.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::load_with(path, |_, _| StoredManifest::Absent)
    }

    /// What the operator should look at, though the node starts.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let admin = self.admin.listen;
        let public = self.admin.enabled && is_public(admin.ip());
        let place = if admin.ip().is_unspecified() { "all addresses of this machine" } else { "a public address" };
        let warning = || {
            format!(
                "admin.listen {admin} is {place}: whoever reaches it can read metrics and freeze logs; want a loopback or \
                 private address, or a firewall before it"
            )
        };
        public.then(warning).into_iter().chain(self.unnamed_token_key()).chain(self.too_few_files()).collect()
    }

    /// As [`Config::load`]. If the operator, the key or the namespace does not fit the manifest in the file, the newest
    /// version that `newest` finds in the data folder counts: a node takes up later versions by itself.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load_with(
        path: &Path,
        newest: impl FnOnce(&Path, &Arc<Manifest>) -> StoredManifest,
    ) -> Result<Self, ConfigError> {
        let unreadable = |error| ConfigError::Unreadable { path: path.to_owned(), error };
        let text = read_bounded(path, CONFIG_BYTES_MAX).map_err(unreadable)?;
        ConfigText { file: path, text: &text }.load(newest)
    }
}

/// What a running node takes up when its configuration is read again.
#[derive(Clone, Debug, Default)]
pub struct LiveSettings {
    /// The least severe level that is logged.
    pub level: Level,
    /// The access log, and the proxies in front of the query listener.
    pub access: AccessSettings,
    /// Bounds on registrations, and invitations.
    pub admission: AdmissionSettings,
    /// Who is told what happens, over HTTP.
    pub webhooks: Vec<Webhook>,
}

impl LiveSettings {
    /// Reads them from a configuration file whose other settings are only checked for form.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |error| ConfigError::Unreadable { path: path.to_owned(), error };
        let text = read_bounded(path, CONFIG_BYTES_MAX).map_err(unreadable)?;
        let text = ConfigText { file: path, text: &text };
        let raw = text.parse()?;
        text.check_bounds(&raw)?;
        let webhooks = text.webhooks(&raw)?;
        let (_, access) = raw.query.split();
        Ok(Self { level: raw.log.level, access, admission: raw.admission.into_inner(), webhooks })
    }
}

impl LogSettings {
    /// Those of a configuration file that may have any other fault; the default if these have one.
    #[must_use]
    pub fn of_file(path: &Path) -> Self {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct OnlyLog {
            log: LogSettings,
        }
        let text = read_bounded(path, CONFIG_BYTES_MAX).unwrap_or_default();
        toml::from_str::<OnlyLog>(&text).unwrap_or_default().log
    }
}

impl Config {
    /// The part that a running node can change.
    #[must_use]
    pub fn live(&self) -> LiveSettings {
        let (access, admission) = (self.access.clone(), self.admission.clone());
        LiveSettings { level: self.log.level, access, admission, webhooks: self.webhooks.clone() }
    }
}

impl ConfigText<'_> {
    fn load(&self, newest: impl FnOnce(&Path, &Arc<Manifest>) -> StoredManifest) -> Result<Config, ConfigError> {
        let raw = self.parse()?;
        self.check_bounds(&raw)?;
        let operator = self.domain("operator", raw.operator.as_ref())?;
        let manifest = self.manifest(&raw)?;
        let key = |field, file| self.key(field, file, raw.group_readable_keys);
        let node_key = key("node_key", &raw.node_key)?;
        let next_node_key = raw.next_node_key.as_ref().map(|file| key("next_node_key", file)).transpose()?;
        let data_dir = self.path(&raw.data_dir);
        let fits = |manifest: &Manifest| {
            self.check_key(&raw, operator.as_ref(), manifest, node_key.public())?;
            self.namespace(&raw, operator.as_ref(), manifest)
        };
        let namespace = match fits(&manifest) {
            Ok(namespace) => namespace,
            Err(error) => match newest(&data_dir, &manifest) {
                StoredManifest::Absent => return Err(error),
                StoredManifest::Newest(newest) => fits(&newest)?,
                StoredManifest::Unreadable => {
                    self.domain("namespace", raw.namespace.as_ref())?.or_else(|| operator.clone())
                }
            },
        };
        let (webhooks, auth) = (self.webhooks(&raw)?, self.auth(&raw)?);
        let (query, access) = raw.query.split();
        Ok(Config {
            data_dir,
            manifest,
            operator,
            node_key: Arc::new(node_key),
            next_node_key: next_node_key.map(Arc::new),
            namespace,
            network: raw.network.into_inner(),
            query,
            access,
            submit: submit_listener(raw.submit.as_ref()),
            auth,
            admin: raw.admin.or(ADMIN),
            admission: raw.admission.into_inner(),
            verify: raw.verify,
            scrub: raw.scrub.into_inner(),
            domains: raw.domains.into_inner(),
            storage: raw.storage.into_inner(),
            log: raw.log,
            webhooks,
            overrides: Overrides::default(),
        })
    }
}
