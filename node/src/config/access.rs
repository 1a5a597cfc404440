//! Who asked: the access log of the query listener, and the proxies in front of it.
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::Deserialize;

/// How many requests a second an address block may send, unless the configuration says otherwise.
const REQUESTS_PER_SECOND: u32 = 2_000;
/// Most ranges of trusted proxies.
pub const PROXIES_MAX: usize = 64;

/// Of `[query]`: what is logged of a request, and whose word on its client counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessSettings {
    /// Whether each request gets a line in the node's log.
    pub log: bool,
    /// Where proxies connect from whose `X-Forwarded-For` names the client; at most [`PROXIES_MAX`].
    pub trusted_proxies: Vec<AddressRange>,
    /// Requests that an address block may send a second to the query listener; 0: any number.
    pub requests_per_second: u32,
}

impl Default for AccessSettings {
    fn default() -> Self {
        Self { log: false, trusted_proxies: Vec::new(), requests_per_second: REQUESTS_PER_SECOND }
    }
}

/// All addresses that begin with the same bits; displays and parses as `10.0.0.0/8`, or as one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct AddressRange {
    first: IpAddr,
    bits: u8,
}

impl AddressRange {
    /// Whether the address is in the range. An IPv4 address inside IPv6 counts as that IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.first, address.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                let shift = 32_u32.saturating_sub(self.bits.into());
                (first.to_bits() ^ address.to_bits()).checked_shr(shift).unwrap_or(0) == 0
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                let shift = 128_u32.saturating_sub(self.bits.into());
                (first.to_bits() ^ address.to_bits()).checked_shr(shift).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl FromStr for AddressRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || format!("want an address, or a range like 10.0.0.0/8 or fd00::/8, not {text:?}");
        let (first, bits) = match text.split_once('/') {
            Some((first, bits)) => (first, Some(bits)),
            None => (text, None),
        };
        let first: IpAddr = first.parse().map_err(|_| wanted())?;
        let most = if first.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= most).ok_or_else(wanted)?,
        };
        Ok(Self { first, bits })
    }
}

impl TryFrom<String> for AddressRange {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl AccessSettings {
    /// The address of the client that sent a request: `peer`, unless that is a trusted proxy. Then it is the last
    /// address of `forwarded`, the values of `X-Forwarded-For` in their order, that no trusted proxy has. What a client
    /// wrote there itself stands before that, and is not read.
    #[must_use]
    pub fn client<'a>(&self, peer: IpAddr, forwarded: impl DoubleEndedIterator<Item = &'a str>) -> IpAddr {
        let trusted = |address| self.trusted_proxies.iter().any(|range| range.contains(address));
        let mut client = peer.to_canonical();
        for hop in forwarded.rev().flat_map(|value| value.rsplit(',')) {
            if !trusted(client) {
                break;
            }
            // A proxy that hides the address, or writes what is none, is the last that is known.
            let Some(address) = address(hop.trim()) else { break };
            client = address.to_canonical();
        }
        client
    }
}

/// An address, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(ranges: &[&str]) -> AccessSettings {
        let trusted_proxies = ranges.iter().map(|range| range.parse().unwrap()).collect();
        AccessSettings { trusted_proxies, ..AccessSettings::default() }
    }

    #[test]
    fn ranges() {
        let table = [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.1.2.3/8", "10.9.9.9", true),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.6", false),
            ("192.0.2.7", "::ffff:192.0.2.7", true),
            ("0.0.0.0/0", "203.0.113.1", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "2001:db8::1", true),
            ("fd00::/8", "fdff::1", true),
            ("fd00::/8", "fe80::1", false),
            ("::1", "::1", true),
        ];
        for (range, address, inside) in table {
            let range: AddressRange = range.parse().unwrap();
            assert_eq!(range.contains(address.parse().unwrap()), inside, "{range:?} {address}");
        }
        for wrong in ["", "10.0.0.0/33", "10.0.0.0/-1", "::/129", "proxy.example", "10.0.0.0/8/8", "10.0.0/8"] {
            assert!(wrong.parse::<AddressRange>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_a_trusted_proxy_says_who_the_client_is() {
        let loopback: &[&str] = &["127.0.0.0/8", "::1"];
        let chain: &[&str] = &["127.0.0.1", "10.0.0.0/8"];
        let table: [(&[&str], &str, &[&str], &str); 11] = [
            (&[], "127.0.0.1", &["203.0.113.9"], "127.0.0.1"),
            (loopback, "198.51.100.1", &["203.0.113.9"], "198.51.100.1"),
            (loopback, "127.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            (loopback, "::ffff:127.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            (loopback, "::1", &["[2001:db8::5]:4711"], "2001:db8::5"),
            (loopback, "127.0.0.1", &[], "127.0.0.1"),
            // What the client wrote itself stands to the left of what the proxy added.
            (loopback, "127.0.0.1", &["10.9.9.9, 203.0.113.9"], "203.0.113.9"),
            (loopback, "127.0.0.1", &["10.9.9.9", "203.0.113.9"], "203.0.113.9"),
            (chain, "127.0.0.1", &["203.0.113.9, 10.0.0.2"], "203.0.113.9"),
            (chain, "127.0.0.1", &["unknown, 10.0.0.2"], "10.0.0.2"),
            (chain, "127.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ];
        for (ranges, peer, forwarded, client) in table {
            let found = settings(ranges).client(peer.parse().unwrap(), forwarded.iter().copied());
            assert_eq!(found, client.parse::<IpAddr>().unwrap(), "{ranges:?} {peer} {forwarded:?}");
        }
    }
}
