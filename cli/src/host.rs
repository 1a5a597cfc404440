//! Hosts and ports that other nodes are to reach, checked before they are signed into a manifest.
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use fama_node::network::{Multiaddr, Protocol};

/// Where a node is reached: what follows `--host`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Host {
    /// An address of the machine.
    Ip(IpAddr),
    /// A DNS name, in lower case and without a dot at its end.
    Name(String),
}

/// Longest DNS name, in bytes.
const NAME_BYTES_MAX: usize = 253;
/// Longest part of a DNS name between two dots, in bytes.
const LABEL_BYTES_MAX: usize = 63;
const WANT: &str = "want an IP address or a DNS name, without scheme, port and brackets";

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return reachable(ip).map(Self::Ip);
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let label = |label: &str| {
            (1..=LABEL_BYTES_MAX).contains(&label.len())
                && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // Programs read a last part of digits as the end of an IPv4 address.
        let number = |label: &str| label.bytes().all(|c| c.is_ascii_digit()) || label.starts_with("0x");
        let ok = name.len() <= NAME_BYTES_MAX && name.split('.').all(label) && !name.rsplit('.').take(1).any(number);
        if ok { Ok(Self::Name(name.to_ascii_lowercase())) } else { Err(WANT.to_owned()) }
    }
}

/// Refuses addresses at which no other node finds anybody.
fn reachable(ip: IpAddr) -> Result<IpAddr, String> {
    if ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::from([255; 4]) {
        return Err(format!("{ip} is no address at which others reach a node"));
    }
    Ok(ip)
}

impl Host {
    /// As the front of a multiaddress.
    pub(crate) fn multiaddress(&self) -> String {
        match self {
            Self::Ip(IpAddr::V4(ip)) => format!("/ip4/{ip}"),
            Self::Ip(IpAddr::V6(ip)) => format!("/ip6/{ip}"),
            Self::Name(name) => format!("/dns/{name}"),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Checks that other nodes can dial this multiaddress: a host and a port, over TCP or QUIC.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check_multiaddress(text: &str) -> Result<(), String> {
    let want = || "want /ip4|ip6|dns/HOST/tcp/PORT or …/udp/PORT/quic-v1".to_owned();
    let address: Multiaddr = text.parse().map_err(|_| want())?;
    let parts: Vec<Protocol<'_>> = address.iter().collect();
    match parts.first() {
        Some(Protocol::Ip4(ip)) => drop(reachable((*ip).into())?),
        Some(Protocol::Ip6(ip)) => drop(reachable((*ip).into())?),
        Some(Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name)) => match name.parse()? {
            Host::Name(_) => {}
            Host::Ip(ip) => return Err(format!("{ip} is an IP address, no DNS name")),
        },
        _ => return Err(want()),
    }
    match parts.get(1..) {
        Some([Protocol::Tcp(port)] | [Protocol::Udp(port), Protocol::QuicV1]) if *port > 0 => Ok(()),
        Some([Protocol::Tcp(_)] | [Protocol::Udp(_), Protocol::QuicV1]) => Err("nobody can dial port 0".to_owned()),
        _ => Err(want()),
    }
}

/// A multiaddress that other nodes can dial, as an argument.
#[derive(Clone, Debug)]
pub(crate) struct Address(pub(crate) String);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        check_multiaddress(text).map(|()| Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Symptom: hosts that are neither an address nor a name were signed into the genesis, which nobody can change
    /// afterwards without a federation that works.
    #[test]
    fn a_host_is_an_address_or_a_name() {
        for (text, want) in [
            ("203.0.113.7", "/ip4/203.0.113.7"),
            ("::1", "/ip6/::1"),
            ("2001:DB8::7", "/ip6/2001:db8::7"),
            ("n.example", "/dns/n.example"),
            ("N.Example.", "/dns/n.example"),
            ("localhost", "/dns/localhost"),
            ("my_node", "/dns/my_node"),
            ("xn--bcher-kva.example", "/dns/xn--bcher-kva.example"),
            ("7.example", "/dns/7.example"),
        ] {
            assert_eq!(text.parse::<Host>().map(|host| host.multiaddress()), Ok(want.to_owned()), "{text}");
        }
        let long = format!("{}.example", "a".repeat(64));
        for text in [
            "",
            ".",
            " ",
            "[::1]",
            "https://a.example",
            "a.example:4001",
            "a.example/",
            "a..example",
            "-a.example",
            "a-.example",
            ".a.example",
            "a b.example",
            "bücher.example",
            "256.1.1.1",
            "1.2.3",
            "127.1",
            "7",
            "fe80::1%eth0",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
            "a.0x7f",
            "user@a.example",
            &long,
        ] {
            assert!(text.parse::<Host>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_can_be_dialed() {
        for text in [
            "/ip4/203.0.113.7/tcp/4001",
            "/ip6/2001:db8::7/udp/4001/quic-v1",
            "/dns/n.example/tcp/1",
            "/dns4/n.example/tcp/4001",
            "/dns6/n.example/tcp/4001",
        ] {
            assert_eq!(check_multiaddress(text), Ok(()), "{text}");
        }
        for text in [
            "",
            "203.0.113.7:4001",
            "https://a.example",
            "/ip4/203.0.113.7",
            "/ip4/203.0.113.7/tcp/0",
            "/ip4/0.0.0.0/tcp/4001",
            "/ip6/::/tcp/4001",
            "/ip4/203.0.113.7/udp/4001",
            "/ip4/203.0.113.7/tcp/4001/ws",
            "/ip4/203.0.113.7/udp/0/quic-v1",
            "/dns/https:/tcp/4001",
            "/dns/[::1]/tcp/4001",
            "/dns/203.0.113.7/tcp/4001",
            "/unix/a",
        ] {
            assert!(check_multiaddress(text).is_err(), "{text}");
        }
    }
}
