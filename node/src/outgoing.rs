//! HTTP requests that a node makes to addresses that its operator names: only to public addresses unless allowed,
//! within bounds of time and size, and never on to where an answer redirects.
use std::sync::OnceLock;
use std::time::Duration;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

use crate::domains::is_public;

/// How long one request may take, with its answer.
const TIME_MAX: Duration = Duration::from_secs(15);
/// Idle connections that are kept open.
const IDLE_MAX: usize = 2;

/// A client for one address that an operator named.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing(ureq::Agent);

impl Outgoing {
    /// With `private`, it also goes to this machine, to private networks and to link-local addresses.
    pub(crate) fn new(private: bool) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(TIME_MAX))
            .http_status_as_error(false)
            // A redirect could lead into the operator's own network; it is a failure like any other status.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_idle_connections(IDLE_MAX)
            .max_idle_connections_per_host(IDLE_MAX)
            .user_agent(concat!("fama/", env!("CARGO_PKG_VERSION")))
            .tls_config(TlsConfig::builder().root_certs(roots()).build())
            .proxy(None)
            .build();
        let resolver = PublicResolver { private, inner: DefaultResolver::default() };
        Self(ureq::Agent::with_parts(config, DefaultConnector::default(), resolver))
    }

    /// Posts a body; the status of the answer, whose body is not read.
    ///
    /// # Errors
    /// In words, why there was no answer.
    pub(crate) fn post(&self, url: &str, headers: &[(&str, String)], body: &[u8]) -> Result<u16, String> {
        let mut request = self.0.post(url);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        request.send(body).map(|answer| answer.status().as_u16()).map_err(|error| error.to_string())
    }
}

/// Whom the system trusts; on a machine without any certificates, those that come with this program.
fn roots() -> RootCerts {
    static SYSTEM: OnceLock<Vec<Certificate<'static>>> = OnceLock::new();
    let system = SYSTEM.get_or_init(|| {
        let read = rustls_native_certs::load_native_certs();
        read.certs.iter().map(|one| Certificate::from_der(one).to_owned()).collect()
    });
    if system.is_empty() { RootCerts::WebPki } else { system.iter().cloned().into() }
}

/// Looks a name up, and refuses it if any of its addresses is not public. What was looked up is what is connected to, so
/// a name that changes its addresses in between gains nothing.
#[derive(Debug)]
struct PublicResolver {
    private: bool,
    inner: DefaultResolver,
}

impl Resolver for PublicResolver {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.inner.resolve(uri, config, timeout)?;
        match found.iter().find(|address| !self.private && !is_public(&address.ip())) {
            None => Ok(found),
            Some(address) => {
                let message = format!("{} is no public address; `allow_private` allows it", address.ip());
                Err(ureq::Error::Io(std::io::Error::new(std::io::ErrorKind::PermissionDenied, message)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_address_is_refused_after_it_was_looked_up() {
        let refused = Outgoing::new(false).post("http://localhost:9/", &[], b"").expect_err("loopback");
        assert!(refused.contains("no public address"), "{refused}");
        let failed = Outgoing::new(true).post("http://127.0.0.1:9/", &[], b"").expect_err("nobody listens on discard");
        assert!(!failed.contains("no public address"), "{failed}");
    }
}
