//! Rate limits of this node on submissions, besides the federation's rules: by address, peer and signing key.
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fama_ledger::event::Action;
use libp2p::PeerId;
use tokio::sync::watch;

use crate::config::LiveSettings;
use crate::wire::{Refusal, Submission};

/// The window of registration rates.
const HOUR: Duration = Duration::from_secs(3_600);
/// The window of rates by signing key and by forwarding peer.
const MINUTE: Duration = Duration::from_secs(60);
/// Most attestations and retractions of one identity a minute.
pub(crate) const IDENTITY_EVENTS_PER_MINUTE: u32 = 60_000;
/// Most registrations that one peer may forward a minute: a flood through one operator leaves room for the others.
pub(crate) const FORWARDED_REGISTRATIONS_PER_MINUTE: u32 = 6_000;
/// Most sources remembered of each kind. When full, ended windows are dropped; if there are none, the older half.
const SOURCES_MAX: usize = 65_536;

/// Counts events by source. Each source has its own window, which starts with its first event.
#[derive(Debug)]
pub(crate) struct Windows<K> {
    length: Duration,
    open: Mutex<BTreeMap<K, (Instant, u32)>>,
}

/// Rate limits with a fixed window per source.
#[derive(Debug)]
pub(crate) struct Admission {
    /// The rate of registrations of each address block, and the tokens that lift it; they may change while the node runs.
    live: watch::Receiver<Arc<LiveSettings>>,
    /// Registrations by address block: an IPv4 /24 or an IPv6 /48.
    blocks: Windows<[u8; 6]>,
    /// Registrations by peer, for peers without an address.
    strangers: Windows<PeerId>,
    /// Registrations by the operator's node that forwards them. The inbox bounds those of a day.
    forwarders: Windows<PeerId>,
    /// Attestations and retractions by the hash of the signing key. Separate from the others, because keys cost nothing
    /// to make up and could push out other sources.
    identities: Windows<[u8; 32]>,
}

/// Where a submission came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SubmissionOrigin {
    /// The peer that sent it.
    pub peer: PeerId,
    /// The peer's IP address, if the connection has one.
    pub address: Option<IpAddr>,
    /// Whether the peer is an operator's node that forwards the submission.
    pub forwarded: bool,
}

impl Admission {
    /// The settings' rate limits each address block, and each peer without an address.
    #[must_use]
    pub(crate) fn new(live: watch::Receiver<Arc<LiveSettings>>) -> Self {
        let (blocks, strangers) = (Windows::new(HOUR), Windows::new(HOUR));
        let (forwarders, identities) = (Windows::new(MINUTE), Windows::new(MINUTE));
        Self { live, blocks, strangers, forwarders, identities }
    }

    /// Checks a submission for another operator's log, which this node would only forward: the log's own node does not
    /// see the address that it comes from.
    ///
    /// # Errors
    /// As [`Admission::submission`].
    pub(crate) fn to_forward(&self, origin: &SubmissionOrigin, submission: &Submission) -> Result<(), Refusal> {
        match submission.signed.event.action {
            // Invitations are the other operator's.
            Action::Register { .. } if !origin.forwarded => self.registration(origin, None),
            _ => self.identity(submission),
        }
    }

    /// Checks a submission against the rate of its source and counts it. Its signature must be verified before.
    ///
    /// # Errors
    /// `rate` with the seconds until the window ends.
    pub(crate) fn submission(&self, origin: &SubmissionOrigin, submission: &Submission) -> Result<(), Refusal> {
        match submission.signed.event.action {
            Action::Register { .. } => self.registration(origin, submission.invite.as_deref()),
            _ => self.identity(submission),
        }
    }

    fn identity(&self, submission: &Submission) -> Result<(), Refusal> {
        match submission.signed.event.action {
            // By key and not by issuer: a stranger's events would use up the rate of the issuer that they name.
            Action::Attest { .. } | Action::Retract { .. } | Action::Grant { .. } => {
                self.identities.count(submission.signed.signer.hash().0, IDENTITY_EVENTS_PER_MINUTE)
            }
            _ => Ok(()),
        }
    }

    fn registration(&self, origin: &SubmissionOrigin, invite: Option<&str>) -> Result<(), Refusal> {
        let live = Arc::clone(&self.live.borrow());
        let most = live.admission.registrations_per_hour;
        if invite.is_some_and(|invite| live.admission.invites.iter().any(|one| one == invite)) {
            return Ok(());
        }
        if origin.forwarded {
            return self.forwarders.count(origin.peer, FORWARDED_REGISTRATIONS_PER_MINUTE);
        }
        match origin.address.map(block) {
            Some(Some(block)) => self.blocks.count(block, most),
            Some(None) => Ok(()),
            None => self.strangers.count(origin.peer, most),
        }
    }
}

impl<K: Ord> Windows<K> {
    pub(crate) const fn new(length: Duration) -> Self {
        Self { length, open: Mutex::new(BTreeMap::new()) }
    }

    pub(crate) fn count(&self, source: K, max: u32) -> Result<(), Refusal> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if open.len() >= SOURCES_MAX && !open.contains_key(&source) {
            make_room(&mut open, self.length, now);
        }
        let (since, count) = open.entry(source).or_insert((now, 0));
        if now.duration_since(*since) >= self.length {
            (*since, *count) = (now, 0);
        }
        if *count >= max {
            let left = self.length.saturating_sub(now.duration_since(*since)).as_secs() + 1;
            return Err(Refusal {
                code: "rate".into(),
                message: format!("more than {max} events in {} minutes from one source", self.length.as_secs() / 60),
                retry_after: u32::try_from(left).ok(),
            });
        }
        *count += 1;
        Ok(())
    }
}

fn make_room<K: Ord>(open: &mut BTreeMap<K, (Instant, u32)>, length: Duration, now: Instant) {
    open.retain(|_, (since, _)| now.duration_since(*since) < length);
    if open.len() >= SOURCES_MAX {
        let mut begun: Vec<Instant> = open.values().map(|(since, _)| *since).collect();
        let (_, middle, _) = begun.select_nth_unstable(SOURCES_MAX / 2);
        let middle = *middle;
        open.retain(|_, (since, _)| *since > middle);
    }
}

/// The peer that stands for all clients of an address block.
pub(crate) fn peer_of_block(address: Option<IpAddr>) -> PeerId {
    let of = address.map_or([0; 6], |address| block(address).unwrap_or([1; 6]));
    let digest = blake3::hash(&[b"fama submit listener".as_slice(), &of].concat());
    // Labelled as a SHA-256 multihash it is a valid peer id; nobody has the key of this one.
    let bytes = [&[0x12, 32], digest.as_bytes().as_slice()].concat();
    PeerId::from_bytes(&bytes).unwrap_or_else(|_| PeerId::random())
}

/// The address block that is counted as one source; `None` for loopback, which is exempt.
pub(crate) fn block(address: IpAddr) -> Option<[u8; 6]> {
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
    use crate::config::AdmissionSettings;
    use fama_ledger::entry::SignedEvent;
    use fama_ledger::event::{Event, Nonce};
    use fama_ledger::id::{EventId, FederationId};
    use fama_ledger::key::Curve;
    use fama_ledger::secret::SecretKey;
    use fama_ledger::time::Millis;

    /// Settings of this rate and these invitations, and what changes them.
    fn admission(registrations_per_hour: u32, invites: &[&str]) -> (Admission, watch::Sender<Arc<LiveSettings>>) {
        let (sender, live) = watch::channel(live(registrations_per_hour, invites));
        (Admission::new(live), sender)
    }

    fn live(registrations_per_hour: u32, invites: &[&str]) -> Arc<LiveSettings> {
        let invites = invites.iter().map(ToString::to_string).collect();
        Arc::new(LiveSettings {
            admission: AdmissionSettings { registrations_per_hour, invites },
            ..LiveSettings::default()
        })
    }

    #[test]
    fn rates_and_invitations_change_while_the_node_runs() {
        let (admission, sender) = admission(1, &["old"]);
        let from = SubmissionOrigin { peer: PeerId::random(), address: "203.0.113.1".parse().ok(), forwarded: false };
        let taken = |invite| admission.registration(&from, invite).is_ok();
        assert!(taken(None) && !taken(None) && taken(Some("old")) && !taken(Some("new")));
        sender.send(live(2, &["new"])).unwrap();
        assert!(taken(None) && !taken(None) && !taken(Some("old")) && taken(Some("new")));
    }

    fn attestation(issuer: u8, seed: u8) -> Submission {
        let key = SecretKey::from_seed(Curve::Ed25519, &[seed; 32]).unwrap();
        let (home, issuer, subject) = ("alpha.example".parse().unwrap(), EventId([issuer; 32]), EventId([0; 32]));
        let action = Action::Attest { home, issuer, subject, delta: 1, context: None, note: None };
        let event = Event { federation: FederationId([1; 32]), action, created: Millis(0), nonce: Nonce([0; 8]) };
        let signature = key.sign(event.text().as_bytes());
        let signed = SignedEvent { event, signer: key.public(), signature, countersignature: None };
        Submission { signed, note: None, invite: None, recovered: None }
    }

    fn registration(seed: u8) -> Submission {
        let key = SecretKey::from_seed(Curve::Ed25519, &[seed; 32]).unwrap();
        let (home, name) = ("alpha.example".parse().unwrap(), "agent".parse().unwrap());
        let action = Action::Register { home, name, key: key.public(), next: None, note: None };
        let event = Event { federation: FederationId([1; 32]), action, created: Millis(0), nonce: Nonce([0; 8]) };
        let signature = key.sign(event.text().as_bytes());
        let signed = SignedEvent { event, signer: key.public(), signature, countersignature: None };
        Submission { signed, note: None, invite: None, recovered: None }
    }

    /// Symptom: any stranger could use up a service's rate. Cause: events were counted by the issuer that they name.
    #[test]
    fn nobody_uses_up_the_rate_of_another() {
        let admission = admission(1, &[]).0;
        let from = SubmissionOrigin { peer: PeerId::random(), address: None, forwarded: false };
        let (stranger, service) = (attestation(7, 1), attestation(7, 2));
        let refused = (0..=IDENTITY_EVENTS_PER_MINUTE).find_map(|_| admission.submission(&from, &stranger).err());
        assert_eq!(refused.unwrap().code, "rate");
        assert!(admission.submission(&from, &service).is_ok());
        // The same at a node that would pass the events on.
        assert_eq!(admission.to_forward(&from, &stranger).unwrap_err().code, "rate");
        assert!(admission.to_forward(&from, &service).is_ok());
    }

    #[test]
    fn registrations_are_counted_per_block() {
        let admission = admission(2, &["token"]).0;
        let from = |address: &str| SubmissionOrigin {
            peer: PeerId::random(),
            address: address.parse().ok(),
            forwarded: false,
        };
        let taken = |address: &str| admission.registration(&from(address), None).is_ok();
        assert!(taken("203.0.113.1") && taken("203.0.113.77"));
        assert_eq!(admission.registration(&from("203.0.113.9"), None).unwrap_err().code, "rate");
        assert!(taken("203.0.112.9"), "another /24");
        let other = registration(3);
        assert_eq!(admission.to_forward(&from("203.0.113.8"), &other).unwrap_err().code, "rate");
        assert!(admission.to_forward(&from("203.0.112.8"), &other).is_ok());
        let forwarder = SubmissionOrigin { forwarded: true, ..from("203.0.113.9") };
        let forwards = |_| admission.registration(&forwarder, None).is_ok();
        assert!((0..FORWARDED_REGISTRATIONS_PER_MINUTE).all(forwards), "no block's rate");
        assert_eq!(admission.registration(&forwarder, None).unwrap_err().code, "rate");
        assert!(admission.registration(&SubmissionOrigin { peer: PeerId::random(), ..forwarder }, None).is_ok());
        assert!(admission.registration(&from("203.0.113.9"), Some("token")).is_ok());
        assert!(admission.registration(&from("203.0.113.9"), Some("guess")).is_err());
        assert!((0..100).all(|_| taken("127.0.0.1") && taken("::1")), "loopback is exempt");
        for i in 0..=SOURCES_MAX {
            let mut invented = [0; 32];
            invented[..8].copy_from_slice(&i.to_be_bytes());
            assert!(admission.identities.count(invented, IDENTITY_EVENTS_PER_MINUTE).is_ok());
        }
        assert!(!taken("203.0.113.9"), "invented identities clear nobody's count");
        assert!(admission.identities.open.lock().unwrap().len() <= SOURCES_MAX, "memory is bounded");
        assert!(taken("2001:db8:1::1") && taken("2001:db8:1:ffff::1") && !taken("2001:db8:1::2"));
    }
}
