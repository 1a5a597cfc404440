//! DNS: TXT records, and addresses of which only public ones are connected to.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use fama_ledger::id::Domain;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};

use super::{ENTRIES_MAX, LookupError, LookupSettings};

/// Timeout of one question to one server.
const QUESTION_TIME: Duration = Duration::from_secs(3);
/// How often a server is asked in all.
const ATTEMPTS: usize = 2;
/// Most addresses of a name that are tried.
const ADDRESSES_MAX: usize = 4;

pub(super) struct Resolver {
    resolver: TokioResolver,
    allow_private: bool,
}

impl Resolver {
    pub(super) fn new(settings: &LookupSettings) -> Result<Self, String> {
        let failed = |error: NetError| format!("DNS: {error}");
        let mut builder = match settings.resolver {
            None => TokioResolver::builder_tokio().map_err(failed)?,
            Some(server) => {
                let mut connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
                connections.iter_mut().for_each(|connection| connection.port = server.port());
                let server = NameServerConfig::new(server.ip(), true, connections.into());
                let config = ResolverConfig::from_name_servers(vec![server]);
                TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            }
        };
        let options = builder.options_mut();
        options.timeout = QUESTION_TIME;
        options.attempts = ATTEMPTS;
        // An answer that is looked for again must come from the domain again.
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        Ok(Self { resolver: builder.build().map_err(failed)?, allow_private: settings.allow_private })
    }

    /// The TXT records of a name, each with its strings joined.
    pub(super) async fn texts(&self, name: &str) -> Result<Vec<String>, LookupError> {
        // With the dot at the end, no search list of the system is tried.
        let found = self.resolver.lookup(format!("{name}."), RecordType::TXT).await;
        let found = found.map_err(|error| explain(name, &error))?;
        let texts = found.answers().iter().filter_map(|record| match &record.data {
            RData::TXT(txt) => Some(String::from_utf8_lossy(&txt.txt_data.concat()).into_owned()),
            _ => None,
        });
        Ok(texts.take(ENTRIES_MAX).collect())
    }

    /// The addresses of a domain that may be connected to.
    pub(super) async fn public_addresses(&self, domain: &Domain) -> Result<Vec<IpAddr>, LookupError> {
        let found = self.resolver.lookup_ip(format!("{domain}.")).await;
        let found = found.map_err(|error| explain(domain.as_str(), &error))?;
        let public = found.iter().filter(|address| self.allow_private || is_public(address));
        let public: Vec<IpAddr> = public.take(ADDRESSES_MAX).collect();
        if public.is_empty() { Err(LookupError::Private(domain.clone())) } else { Ok(public) }
    }
}

fn explain(name: &str, error: &NetError) -> LookupError {
    if error.is_nx_domain() || error.is_no_records_found() {
        return LookupError::Unproven(format!("DNS has no such records at {name}"));
    }
    LookupError::Unreachable(format!("DNS, {name}: {error}"))
}

/// Whether an address is one of the public internet: not this machine's, not a private network's, none that is reserved.
#[must_use]
pub fn is_public(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(*address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// By IANA's registry of special-purpose addresses.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        || address.is_documentation();
    let reserved = match address.octets() {
        [0 | 240..=255, ..] | [192, 0, 0, _] | [192, 88, 99, _] => true,
        // Shared by the customers of a carrier; benchmarks.
        [100, second, ..] => (64..128).contains(&second),
        [198, second, ..] => second == 18 || second == 19,
        _ => false,
    };
    !special && !reserved
}

/// Only what is handed out as global unicast, without ranges that wrap or stand for other addresses.
fn is_public_v6(address: &Ipv6Addr) -> bool {
    match address.segments() {
        // NAT64 for networks without IPv4: as public as the address in it.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            is_public_v4(Ipv4Addr::new(a, b, c, d))
        }
        // Teredo and other protocol assignments, documentation, 6to4, documentation.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x2002, ..] | [0x3fff, 0..=0xfff, ..] => false,
        [first, ..] => (0x2000..0x4000).contains(&first),
    }
}
