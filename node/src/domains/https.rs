//! One HTTPS request to an address that was checked, with bounds: no redirects, no proxy, no compression.
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use fama_ledger::id::Domain;
use futures::StreamExt;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::{LookupError, LookupSettings, PROOF_BYTES_MAX};

/// Timeout of connecting to one address, handshakes included.
const CONNECT_TIME: Duration = Duration::from_secs(4);
/// Most bytes of a response's head.
const HEAD_BYTES_MAX: usize = 16 << 10;

pub(super) struct WebClient {
    tls: TlsConnector,
    port: u16,
}

impl WebClient {
    pub(super) fn new(settings: &LookupSettings) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        // Those that this library cannot read are left out, as every client does.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        for der in &settings.roots {
            roots.add(CertificateDer::from(der.clone())).map_err(|error| format!("a certificate to trust: {error}"))?;
        }
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: TlsConnector::from(Arc::new(config)), port: settings.https_port })
    }

    /// The content of a file, from the first of the addresses that gives an answer.
    ///
    /// # Errors
    /// [`LookupError::Unproven`] if the file is not there, too long or elsewhere.
    pub(super) async fn get(&self, domain: &Domain, path: &str, addresses: &[IpAddr]) -> Result<Vec<u8>, LookupError> {
        let mut last = LookupError::Unreachable(format!("{domain} has no address"));
        for address in addresses {
            match self.get_from(domain, path, *address).await {
                Err(error @ LookupError::Unreachable(_)) => last = error,
                answered => return answered,
            }
        }
        Err(last)
    }

    async fn get_from(&self, domain: &Domain, path: &str, address: IpAddr) -> Result<Vec<u8>, LookupError> {
        let url = format!("https://{domain}{path}");
        let unreachable = |why: &dyn std::fmt::Display| LookupError::Unreachable(format!("{url} at {address}: {why}"));
        let name = ServerName::try_from(domain.as_str().to_owned()).map_err(|error| unreachable(&error))?;
        let connected = async {
            let stream = TcpStream::connect((address, self.port)).await?;
            self.tls.connect(name, stream).await
        };
        let connected = tokio::time::timeout(CONNECT_TIME, connected).await;
        let stream =
            connected.map_err(|_| unreachable(&"no connection in time"))?.map_err(|error| unreachable(&error))?;
        let mut client = http1::Builder::new();
        let (mut sender, connection) = client
            .max_buf_size(HEAD_BYTES_MAX)
            .handshake::<_, Body>(TokioIo::new(stream))
            .await
            .map_err(|error| unreachable(&error))?;
        // Ends with this request, whatever the server does.
        let mut tasks = JoinSet::new();
        tasks.spawn(connection);
        let host = if self.port == 443 { domain.to_string() } else { format!("{domain}:{}", self.port) };
        let request = Request::get(path)
            .header(header::HOST, host)
            .header(header::USER_AGENT, concat!("fama/", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT, "application/json")
            .body(Body::empty())
            .map_err(|error| unreachable(&error))?;
        let response = sender.send_request(request).await.map_err(|error| unreachable(&error))?;
        match response.status() {
            StatusCode::OK => {}
            status @ (StatusCode::NOT_FOUND | StatusCode::GONE) => {
                return Err(LookupError::Unproven(format!("{url}: {status}")));
            }
            status if status.is_redirection() => {
                let what = format!("{url}: {status}, and redirects are not followed: the file must be there");
                return Err(LookupError::Unproven(what));
            }
            status => return Err(unreachable(&status)),
        }
        let (mut bytes, mut chunks) = (Vec::new(), Body::new(response.into_body()).into_data_stream());
        while let Some(chunk) = chunks.next().await {
            bytes.extend_from_slice(&chunk.map_err(|error| unreachable(&error))?);
            if bytes.len() > PROOF_BYTES_MAX {
                return Err(LookupError::Unproven(format!("{url} is longer than {PROOF_BYTES_MAX} bytes")));
            }
        }
        Ok(bytes)
    }
}
