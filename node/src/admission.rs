//! What this node takes of whom, beyond the federation's rules: its operator's own choice.
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use libp2p::PeerId;

use crate::network::wire::Refusal;

/// The window of registration rates.
const HOUR: Duration = Duration::from_secs(3_600);
/// The window of an identity's rate and of a forwarding peer's share.
const MINUTE: Duration = Duration::from_secs(60);
/// Most attestations and retractions of one identity a minute.
pub const IDENTITY_EVENTS_PER_MINUTE: u32 = 60_000;
/// Most registrations that one peer may pass on a minute: a flood through one operator leaves room for the others.
pub const FORWARDED_REGISTRATIONS_PER_MINUTE: u32 = 6_000;
/// Most sources remembered at once; when full, the oldest windows go.
const SOURCES_MAX: usize = 65_536;

/// Who is counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    /// The first three bytes of an IPv4 address or six of an IPv6 address: /24, /48.
    Block([u8; 6]),
    Forwarder(Vec<u8>),
    Identity([u8; 32]),
}

/// Rates within fixed windows.
#[derive(Debug)]
pub struct Admission {
    registrations_per_hour: u32,
    invites: BTreeSet<String>,
    windows: Mutex<BTreeMap<Source, (Instant, u32)>>,
}

/// Where a submission came from.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// The peer that sent it.
    pub peer: PeerId,
    /// Its address, if the transport tells.
    pub address: Option<IpAddr>,
    /// Whether the peer is a node that passed it on.
    pub forwarded: bool,
}

impl Admission {
    /// `invites` are tokens that lift the rate of registrations.
    #[must_use]
    pub fn new(registrations_per_hour: u32, invites: impl IntoIterator<Item = String>) -> Self {
        let invites = invites.into_iter().collect();
        Self { registrations_per_hour, invites, windows: Mutex::new(BTreeMap::new()) }
    }

    /// Whether a registration from there is taken now; counts it.
    ///
    /// # Errors
    /// `rate` with the seconds until the window ends.
    pub fn registration(&self, origin: &Origin, invite: Option<&str>) -> Result<(), Refusal> {
        if invite.is_some_and(|invite| self.invites.contains(invite)) {
            return Ok(());
        }
        if origin.forwarded {
            let forwarder = Source::Forwarder(origin.peer.to_bytes());
            return self.count(forwarder, MINUTE, FORWARDED_REGISTRATIONS_PER_MINUTE);
        }
        match origin.address.map(block) {
            Some(Some(block)) => self.count(Source::Block(block), HOUR, self.registrations_per_hour),
            Some(None) => Ok(()),
            None => self.count(Source::Forwarder(origin.peer.to_bytes()), HOUR, self.registrations_per_hour),
        }
    }

    /// Whether another attestation or retraction of an identity is taken now; counts it.
    ///
    /// # Errors
    /// `rate` with the seconds until the window ends.
    pub fn identity(&self, identity: [u8; 32]) -> Result<(), Refusal> {
        self.count(Source::Identity(identity), MINUTE, IDENTITY_EVENTS_PER_MINUTE)
    }

    fn count(&self, source: Source, window: Duration, max: u32) -> Result<(), Refusal> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if windows.len() >= SOURCES_MAX && !windows.contains_key(&source) {
            windows.retain(|_, (since, _)| now.duration_since(*since) < MINUTE);
            if windows.len() >= SOURCES_MAX {
                windows.pop_first();
            }
        }
        let (since, count) = windows.entry(source).or_insert((now, 0));
        if now.duration_since(*since) >= window {
            (*since, *count) = (now, 0);
        }
        if *count >= max {
            let left = window.saturating_sub(now.duration_since(*since)).as_secs() + 1;
            return Err(Refusal {
                code: "rate".into(),
                message: format!("more than {max} of these in {} minutes from there", window.as_secs() / 60),
                retry_after: u32::try_from(left).ok(),
            });
        }
        *count += 1;
        Ok(())
    }
}

/// The address block that counts as one; `None` for loopback, which is exempt.
fn block(address: IpAddr) -> Option<[u8; 6]> {
    match address.to_canonical() {
        address if address.is_loopback() => None,
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            Some([4, a, b, c, 0, 0])
        }
        IpAddr::V6(address) => {
            let [a, b, c, d, e, f, ..] = address.octets();
            Some([a, b, c, d, e, f])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registrations_are_counted_per_block() {
        let admission = Admission::new(2, ["token".to_owned()]);
        let from = |address: &str| Origin { peer: PeerId::random(), address: address.parse().ok(), forwarded: false };
        let taken = |address: &str| admission.registration(&from(address), None).is_ok();
        assert!(taken("203.0.113.1") && taken("203.0.113.77"));
        assert_eq!(admission.registration(&from("203.0.113.9"), None).unwrap_err().code, "rate");
        assert!(taken("203.0.112.9"), "another /24");
        assert!(admission.registration(&from("203.0.113.9"), Some("token")).is_ok());
        assert!(admission.registration(&from("203.0.113.9"), Some("guess")).is_err());
        assert!((0..100).all(|_| taken("127.0.0.1") && taken("::1")), "loopback is exempt");
        assert!(taken("2001:db8:1::1") && taken("2001:db8:1:ffff::1") && !taken("2001:db8:1::2"));
    }
}
