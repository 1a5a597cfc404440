//! An HTTP client as people expect it of a command: it trusts whom the system trusts, and goes through the proxies that the
//! environment names.
use std::env;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{OnceLock, PoisonError, RwLock};
use std::time::Duration;

use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Proxy, ProxyProtocol};

/// Timeout of connecting, including handshakes.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Port of a proxy whose URL names none, as curl has it.
const PROXY_PORT: u16 = 1080;
/// Port of a proxy that speaks TLS and whose URL names none.
const TLS_PROXY_PORT: u16 = 443;
/// Certificates that the user named, trusted in addition to those of the system.
static NAMED: RwLock<Vec<Certificate<'static>>> = RwLock::new(Vec::new());

/// Trusts the certificates in a PEM file from now on, in addition to those of the system, for every client that is made later;
/// replaces those of an earlier call. `None` trusts the system's alone.
///
/// # Errors
/// Why the file is of no use.
pub fn trust(file: Option<&Path>) -> Result<(), String> {
    let named = match file {
        None => Vec::new(),
        Some(file) => {
            let read = rustls_native_certs::load_certs_from_paths(Some(file), None);
            if let Some(error) = read.errors.first() {
                return Err(error.to_string());
            }
            let certificates: Vec<_> = read.certs.iter().map(|one| Certificate::from_der(one).to_owned()).collect();
            if certificates.is_empty() {
                return Err("no certificate in PEM".to_owned());
            }
            certificates
        }
    };
    *NAMED.write().unwrap_or_else(PoisonError::into_inner) = named;
    Ok(())
}

/// The certificates that [`trust`] read last, as DER.
#[must_use]
pub fn trusted() -> Vec<Vec<u8>> {
    NAMED.read().unwrap_or_else(PoisonError::into_inner).iter().map(|one| one.der().to_vec()).collect()
}

/// Whom the system trusts: its store, or what `SSL_CERT_FILE` and `SSL_CERT_DIR` name instead.
struct SystemTrust {
    certificates: Vec<Certificate<'static>>,
    /// Why there are none although a variable names some.
    fault: Option<String>,
}

fn system() -> &'static SystemTrust {
    static SYSTEM: OnceLock<SystemTrust> = OnceLock::new();
    SYSTEM.get_or_init(|| {
        let read = rustls_native_certs::load_native_certs();
        let certificates: Vec<_> = read.certs.iter().map(|one| Certificate::from_der(one).to_owned()).collect();
        let named = ["SSL_CERT_FILE", "SSL_CERT_DIR"].into_iter().find(|name| variable(name).is_some());
        let why = || read.errors.first().map_or_else(|| "no certificates there".to_owned(), ToString::to_string);
        let fault = named.filter(|_| certificates.is_empty()).map(|name| format!("{name}: {}", why()));
        SystemTrust { certificates, fault }
    })
}

/// The roots to verify servers with. A machine without any, like a small container, gets those that come with this program.
fn roots() -> RootCerts {
    let (system, named) = (system(), NAMED.read().unwrap_or_else(PoisonError::into_inner).clone());
    if system.certificates.is_empty() && named.is_empty() && system.fault.is_none() {
        return RootCerts::WebPki;
    }
    system.certificates.iter().cloned().chain(named).into()
}

/// A proxy that an environment variable names.
#[derive(Clone, Debug, PartialEq, Eq)]
struct NamedProxy {
    variable: &'static str,
    url: String,
}

/// A variable that is set to something.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// The proxy for a URL, by curl's rules: that of its scheme, else `all_proxy`; lower case goes first, and `HTTP_PROXY` is
/// not read, because a web server may set it to what a client sends. A variable that is set to nothing means no proxy.
/// A host that `no_proxy` names is reached directly; no other is, not even this machine.
fn proxy_of(url: &str, variable: &dyn Fn(&str) -> Option<String>) -> Option<NamedProxy> {
    let (scheme, rest) = url.split_once("://")?;
    let names: &[&'static str] = if scheme.eq_ignore_ascii_case("https") {
        &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]
    } else {
        &["http_proxy", "all_proxy", "ALL_PROXY"]
    };
    let (name, url) = names.iter().find_map(|name| Some((*name, variable(name)?)))?;
    let except = variable("no_proxy").or_else(|| variable("NO_PROXY")).unwrap_or_default();
    let host = host_of(rest);
    (!url.trim().is_empty() && !excepted(host, &except))
        .then(|| NamedProxy { variable: name, url: url.trim().to_owned() })
}

/// The host of what follows a URL's scheme, without brackets.
fn host_of(rest: &str) -> &str {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    match host.strip_prefix('[') {
        Some(ip) => ip.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    }
}

/// Whether `no_proxy` names this host: by an asterisk alone, by its name or a domain above it, by its address, or by a
/// block of addresses (CIDR).
fn excepted(host: &str, list: &str) -> bool {
    if list.trim() == "*" {
        return true;
    }
    let tokens = list.split([',', ' ', '\t']).filter(|token| !token.is_empty());
    let plain = |text: &str| text.trim_end_matches('.').to_ascii_lowercase();
    match host.parse::<IpAddr>() {
        Ok(ip) => tokens.into_iter().any(|token| holds_ip(token, ip)),
        Err(_) => {
            let host = plain(host);
            tokens.into_iter().any(|token| {
                let name = plain(token.strip_prefix('.').unwrap_or(token));
                let above = host.strip_suffix(&name).is_some_and(|before| before.is_empty() || before.ends_with('.'));
                !name.is_empty() && above
            })
        }
    }
}

fn holds_ip(token: &str, ip: IpAddr) -> bool {
    let (block, bits) = token.split_once('/').map_or((token, None), |(block, bits)| (block, Some(bits)));
    let block = block.strip_prefix('[').and_then(|block| block.strip_suffix(']')).unwrap_or(block);
    let (Ok(block), Ok(bits)) = (block.parse::<IpAddr>(), bits.map(str::parse::<u32>).transpose()) else {
        return false;
    };
    let same = |a: u128, b: u128, of: u32| {
        let bits = bits.unwrap_or(of);
        bits <= of && (a ^ b).checked_shr(of.saturating_sub(bits)).unwrap_or(0) == 0
    };
    match (block, ip) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(a.to_bits().into(), b.to_bits().into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128),
        _ => false,
    }
}

impl NamedProxy {
    fn parse(&self) -> Result<Proxy, String> {
        let wrong = || format!("{}: want a URL like http://proxy.example:3128", self.variable);
        let read = Proxy::new(&self.url).map_err(|_| wrong())?;
        let port = match (read.uri().port_u16(), read.protocol()) {
            (Some(port), _) => port,
            (None, ProxyProtocol::Https) => TLS_PROXY_PORT,
            (None, _) => PROXY_PORT,
        };
        let mut proxy = Proxy::builder(read.protocol()).host(read.host()).port(port);
        if let Some(name) = read.username() {
            proxy = proxy.username(name);
        }
        if let Some(password) = read.password() {
            proxy = proxy.password(password);
        }
        proxy.build().map_err(|_| wrong())
    }
}

/// A client for one server.
#[derive(Clone, Debug)]
pub struct HttpClient {
    agent: ureq::Agent,
    /// The proxy as people are told it: without user and password, with its variable.
    proxy: Option<String>,
    /// Why no request can be made: the proxy is malformed.
    fault: Option<String>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoAnswer {
    /// Whose fault it is.
    pub kind: NoAnswerKind,
    /// One sentence, without the URL.
    pub reason: String,
}

/// At whom an attempt to get an answer failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswerKind {
    /// The URL cannot be used.
    Url,
    /// The server's certificate; with what to do about it.
    Certificate(&'static str),
    /// The server does not speak TLS as it should.
    Tls,
    /// The proxy that the environment names.
    Proxy,
    /// The server.
    Server,
}

impl HttpClient {
    /// A client for the server of this URL. Nothing is connected before the first request.
    #[must_use]
    pub fn new(url: &str, timeout: Duration, idle_max: usize) -> Self {
        Self::through(proxy_of(url, &|name| env::var(name).ok()).as_ref(), timeout, idle_max)
    }

    /// A client for a server that this program started on this machine: no proxy is asked.
    #[must_use]
    pub fn direct(timeout: Duration, idle_max: usize) -> Self {
        Self::through(None, timeout, idle_max)
    }

    fn through(named: Option<&NamedProxy>, timeout: Duration, idle_max: usize) -> Self {
        let parsed = named.map(NamedProxy::parse).transpose();
        let (proxy, fault) = match parsed {
            Ok(proxy) => (proxy, None),
            Err(fault) => (None, Some(fault)),
        };
        let shown = |proxy: &Proxy| {
            let variable = named.map_or("", |named| named.variable);
            let scheme = proxy.protocol().to_string().to_ascii_lowercase();
            format!("{scheme}://{}:{} ({variable})", proxy.host(), proxy.port())
        };
        let shown = proxy.as_ref().map(shown);
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(timeout))
            .timeout_connect(Some(CONNECT_TIME))
            .http_status_as_error(false)
            .max_idle_connections(idle_max)
            .max_idle_connections_per_host(idle_max)
            .user_agent(concat!("fama/", env!("CARGO_PKG_VERSION")))
            .tls_config(TlsConfig::builder().root_certs(roots()).build())
            .proxy(proxy)
            .build();
        Self { agent: config.new_agent(), proxy: shown, fault }
    }

    /// To make requests with.
    ///
    /// # Errors
    /// The proxy that the environment names is malformed.
    pub fn agent(&self) -> Result<&ureq::Agent, NoAnswer> {
        match &self.fault {
            None => Ok(&self.agent),
            Some(fault) => Err(NoAnswer { kind: NoAnswerKind::Proxy, reason: fault.clone() }),
        }
    }

    /// What an error of a request means.
    #[must_use]
    pub fn explain(&self, error: &ureq::Error) -> NoAnswer {
        let reason = error.to_string();
        let kind = match error {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => NoAnswerKind::Url,
            ureq::Error::ConnectProxyFailed(_) => NoAnswerKind::Proxy,
            _ if reason.contains(INVALID_CERTIFICATE) => NoAnswerKind::Certificate(certificate_hint(&reason)),
            ureq::Error::Rustls(_) | ureq::Error::Tls(_) => NoAnswerKind::Tls,
            _ if reason.contains("corrupt message") => NoAnswerKind::Tls,
            _ if self.proxy.is_some() && is_connecting(error) => NoAnswerKind::Proxy,
            _ => NoAnswerKind::Server,
        };
        let reason = match (&self.proxy, kind) {
            (_, NoAnswerKind::Url) | (None, _) => reason,
            (Some(proxy), NoAnswerKind::Proxy) => format!("the proxy {proxy}: {reason}"),
            (Some(proxy), _) => format!("{reason} (through the proxy {proxy})"),
        };
        let reason = match (kind, &system().fault) {
            (NoAnswerKind::Certificate(_), Some(fault)) => format!("{reason}; {fault}"),
            _ => reason,
        };
        NoAnswer { kind, reason }
    }
}

/// Whether the request did not even get a connection.
fn is_connecting(error: &ureq::Error) -> bool {
    use std::io::ErrorKind::{AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkUnreachable, TimedOut};
    match error {
        ureq::Error::Io(error) => matches!(
            error.kind(),
            AddrNotAvailable | ConnectionRefused | HostUnreachable | NetworkUnreachable | TimedOut
        ),
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => true,
        ureq::Error::Timeout(of) => matches!(of, ureq::Timeout::Connect | ureq::Timeout::Resolve),
        _ => false,
    }
}

/// How rustls begins to say what is wrong with a certificate; its errors come wrapped in several ways.
pub(crate) const INVALID_CERTIFICATE: &str = "invalid peer certificate";

/// What to do about a certificate that is not accepted for this reason.
pub(crate) fn certificate_hint(reason: &str) -> &'static str {
    if reason.contains("UnknownIssuer") {
        "--ca FILE, SSL_CERT_FILE or the system's store must have the certificate of its issuer"
    } else if reason.contains("NotValidForName") || reason.contains("not valid for name") {
        "the server's certificate is for another name: use that name in the URL"
    } else if reason.contains("xpired") || reason.contains("NotValidYet") || reason.contains("not valid yet") {
        "is this machine's clock right? else the server needs a new certificate"
    } else if reason.contains("CaUsedAsEndEntity") {
        "the server shows the certificate of an issuer as its own: it needs one with CA:FALSE"
    } else {
        "the server needs another certificate"
    }
}

/// What to do about the failure that a text of [`HttpClient::explain`] tells of, if it is a certificate's or a proxy's.
#[must_use]
pub fn hint_of(text: &str) -> Option<&'static str> {
    if text.contains(INVALID_CERTIFICATE) {
        return Some(certificate_hint(text));
    }
    (text.contains(": the proxy ") || text.contains("_proxy: want")).then_some(PROXY_HINT)
}

/// What to do about a failing proxy.
pub const PROXY_HINT: &str = "is the proxy right? no_proxy=HOST names hosts, domains or blocks to reach without it";
/// What to do about a server that does not speak TLS.
pub const TLS_HINT: &str = "does the server speak TLS there? else the URL begins with http://";

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of curl's own tests, and those of its manual.
    #[test]
    fn hosts_without_a_proxy() {
        let table = [
            ("node.example", "", false),
            ("node.example", "*", true),
            ("node.example", " * ", true),
            ("node.example", "node.example", true),
            ("NODE.example.", "node.EXAMPLE", true),
            ("node.example", "example", true),
            ("node.example", ".example", true),
            ("node.example", "ode.example", false),
            ("node.example", "other.example, node.example", true),
            ("node.example", "other.example node.example", true),
            ("node.example", "a.node.example", false),
            ("node.example", ".", false),
            ("localhost", "localhost", true),
            ("127.0.0.1", "localhost", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.0/8", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("127.0.0.1", "127.0.0.0/33", false),
            ("127.0.0.1", "127.0.0.0/x", false),
            ("10.1.2.3", "192.168.0.0/16,10.0.0.0/8", true),
            ("11.1.2.3", "10.0.0.0/8", false),
            ("11.1.2.3", "0.0.0.0/0", true),
            ("192.168.1.7", "192.168.1.0/29", true),
            ("192.168.1.8", "192.168.1.0/29", false),
            ("127.0.0.1", "0.0.1", false),
            ("::1", "::1", true),
            ("::1", "[::1]", true),
            ("2001:db8::7", "2001:db8::/32", true),
            ("2001:db9::7", "2001:db8::/32", false),
            ("2001:db9::7", "::/0", true),
            ("::1", "127.0.0.0/8", false),
        ];
        for (host, list, want) in table {
            assert_eq!(excepted(host, list), want, "{host} in {list:?}");
        }
    }

    #[test]
    fn a_proxy_by_scheme() {
        let of = |url: &str, variables: &[(&str, &str)]| {
            let get =
                |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
            proxy_of(url, &get).map(|proxy| proxy.variable)
        };
        let (plain, tls) = ("http://127.0.0.1:8080", "https://node.example/x");
        assert_eq!(of(plain, &[("https_proxy", "http://p")]), None, "of another scheme");
        assert_eq!(of(plain, &[("HTTP_PROXY", "http://p")]), None, "a web server may set it");
        assert_eq!(of(plain, &[("http_proxy", "http://p")]), Some("http_proxy"), "this machine, too, as curl does");
        assert_eq!(of(plain, &[("http_proxy", "p"), ("NO_PROXY", "127.0.0.0/8")]), None);
        assert_eq!(of(plain, &[("http_proxy", "p"), ("no_proxy", "x"), ("NO_PROXY", "*")]), Some("http_proxy"));
        assert_eq!(of(plain, &[("all_proxy", "p")]), Some("all_proxy"));
        assert_eq!(of(plain, &[("http_proxy", ""), ("all_proxy", "p")]), None, "set to nothing: no proxy");
        assert_eq!(of(tls, &[("HTTPS_PROXY", "p"), ("ALL_PROXY", "q")]), Some("HTTPS_PROXY"));
        assert_eq!(of("HTTPS://user@[::1]:1/", &[("https_proxy", "p"), ("no_proxy", "::1")]), None);
        assert_eq!(of(tls, &[]), None);
    }

    #[test]
    fn a_proxys_url() {
        let parse = |url: &str| {
            let parsed = NamedProxy { variable: "http_proxy", url: url.to_owned() }.parse();
            parsed.map(|proxy| format!("{} {} {} {:?}", proxy.protocol(), proxy.host(), proxy.port(), proxy.username()))
        };
        assert_eq!(parse("http://p.example:3128").unwrap(), "HTTP p.example 3128 None");
        assert_eq!(parse("p.example").unwrap(), "HTTP p.example 1080 None");
        assert_eq!(parse("https://a%40b:c@p.example/").unwrap(), "HTTPS p.example 443 Some(\"a@b\")");
        assert_eq!(parse("socks5h://p.example").unwrap(), "SOCKS5 p.example 1080 None".replace("SOCKS5", "SOCKS5h"));
        for wrong in ["ftp://p", "http://", "a b", "http://[::1"] {
            assert!(parse(wrong).unwrap_err().contains("http_proxy"), "{wrong}");
        }
    }
}
