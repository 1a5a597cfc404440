//! An operator that lies: its node answers nobody, and forwards to another node as much as that takes.
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fama_ledger::checkpoint::{Checkpoint, SignedCheckpoint, note};
use fama_ledger::codec;
use fama_ledger::entry::VerifiedEntry;
use fama_ledger::event::{Action, RevokeReason};
use fama_ledger::id::EventId;
use fama_ledger::key::Curve;
use fama_ledger::log::{MemoryTiles, Tree, leaf_hash, prove_inclusion};
use fama_ledger::proof::TlogProof;
use fama_ledger::secret::SecretKey;
use fama_node::clock;
use fama_node::wire::{Recovered, Submission, SubmitRequest, SubmitResponse, SubmitResult};
use libp2p::Swarm;
use libp2p::futures::StreamExt;
use libp2p::identity::Keypair;
use libp2p::request_response::{self, Message, OutboundRequestId};
use libp2p::swarm::SwarmEvent;

use super::World;
use super::peers::{Hostile, HostileEvent, RawRequest, with_key};
use super::silent::{self, Silence};
use crate::federation::signed;

/// Submissions of one request: the most that it may have.
const EVENTS: usize = 256;
/// Claims of one request: few are verified soon, and then wait for the liar as long as many do.
const CLAIMS: usize = 32;
/// Identities that it registers in the attacked home and revokes.
const REVOKED: usize = 2_048;
/// How long it waits for the first answers when the attack is over.
const PATIENCE: Duration = Duration::from_secs(60);
/// Identities of its own home that it revokes at the attacked node.
const CLAIMED: usize = 2_048;

/// What an operator's node forwards. All is made before the attack, so that the attacker has nothing to do but send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum ForwardKind {
    /// Valid registrations in the attacked home, many more than may be forwarded.
    Registrations,
    /// Events with invalid signatures.
    Junk,
    /// Revocations of its own identities in the attacked home.
    Revocations,
    /// Revocations of identities of its own home, whose node does not answer, with receipts that show their keys.
    Claims,
}

impl ForwardKind {
    /// Requests that the operator's node keeps in flight. Together they fit on one connection; claims are the most,
    /// since the attacked node waits for the liar's answer to each.
    const fn in_flight(self) -> usize {
        match self {
            Self::Registrations | Self::Junk | Self::Revocations => 28,
            Self::Claims => 40,
        }
    }
}

/// Requests ready to be sent, by kind. The first of them take the places that a node has for one peer.
pub(super) struct Forwards {
    kinds: Vec<(ForwardKind, Vec<RawRequest>)>,
}

fn keys(count: usize) -> Vec<SecretKey> {
    let seed = |_| {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).unwrap();
        seed
    };
    (0..count).map(|i| SecretKey::from_seed(Curve::Ed25519, &seed(i)).unwrap()).collect()
}

fn revocation(world: &World, identity: EventId, key: &SecretKey) -> Submission {
    let (home, reason) = (world.home.clone(), RevokeReason::Unspecified);
    signed(world.event(Action::Revoke { home, identity, version: 1, key: key.public(), reason }), key)
}

fn requests(submissions: &[Submission], events: usize, forwarded: bool) -> Vec<RawRequest> {
    let request = |part: &[Submission]| {
        RawRequest::whole(&codec::encode(&SubmitRequest { forwarded, submissions: part.to_vec() }))
    };
    submissions.chunks(events).map(request).collect()
}

impl Forwards {
    /// Forwards of the operator of `liar` to the node of `world`.
    pub(super) fn new(world: &World, liar: &World, node_key: &SecretKey) -> Self {
        let own = keys(REVOKED);
        let own: Vec<_> =
            own.iter().enumerate().map(|(i, key)| (world.register(&format!("own-{i}"), key), key)).collect();
        let mut registrations: Vec<Submission> = own.iter().map(|((_, one), _)| one.clone()).collect();
        registrations.extend((0..4 * EVENTS).map(|i| world.registration(&format!("forwarded-{i}")).1));
        let mut junk = registrations[..EVENTS].to_vec();
        junk.iter_mut().for_each(|one| one.signed.event.nonce.0[0] ^= 1);
        let revocations: Vec<_> = own.iter().map(|((id, _), key)| revocation(world, *id, key)).collect();
        Self {
            kinds: vec![
                (ForwardKind::Claims, requests(&claims(liar, node_key), CLAIMS, false)),
                (ForwardKind::Registrations, requests(&registrations, EVENTS, true)),
                (ForwardKind::Junk, requests(&junk, EVENTS, true)),
                (ForwardKind::Revocations, requests(&revocations, EVENTS, true)),
            ],
        }
    }
}

/// Revocations in the liar's home of identities that exist in no log, with receipts that its node key signs.
fn claims(liar: &World, node_key: &SecretKey) -> Vec<Submission> {
    let (federation, log) = (liar.manifest.federation(), liar.manifest.operator(&liar.home).unwrap().log());
    let keys = keys(CLAIMED);
    let made: Vec<_> = keys.iter().enumerate().map(|(i, key)| liar.register(&format!("claimed-{i}"), key)).collect();
    let entry = |one: &Submission| VerifiedEntry::of(clock::now(), one.signed.clone().verify(&federation).unwrap());
    let entries: Vec<Vec<u8>> = made.iter().map(|(_, one)| entry(one).into_bytes()).collect();
    let (mut tree, mut tiles) = (Tree::default(), MemoryTiles::default());
    tiles.write(tree.append(entries.iter().map(|entry| leaf_hash(entry))));
    let (owner, head) = (node_key.ed25519().unwrap(), tree.head());
    let head_signed = SignedCheckpoint::sign(Checkpoint { origin: liar.manifest.origin(&log), head }, owner);
    let checkpoint = note(&head_signed, &owner.verifying_key(), &[]);
    let claim = |(index, ((id, _), key)): (u64, (&(EventId, Submission), &SecretKey))| {
        let path = prove_inclusion(index, head.size, &tiles).unwrap();
        let proof = TlogProof { extra: None, index, path, checkpoint: checkpoint.clone() };
        let entry = entries[usize::try_from(index).unwrap()].clone();
        let recovered = Some(Recovered { entry, proof: proof.to_string() });
        Submission { recovered, ..revocation(liar, *id, key) }
    };
    (0..).zip(made.iter().zip(&keys)).map(claim).collect()
}

/// How often the attacked node answered, by kind and by the first result of an answer; `none` without an answer.
pub(super) type Answered = HashMap<(ForwardKind, String), u64>;

/// Forwards to one node until the attack is over, with the operator's own key. On a busy machine that may be before the first
/// answers: it lasts until each kind was answered, then.
pub(super) async fn flood(world: Arc<World>, forwards: Forwards, node_key: Keypair) -> Answered {
    let mut flood = Flood { forwards, sent: HashMap::new(), turns: HashMap::new(), answered: Answered::new() };
    let mut swarm = with_key(&world, node_key);
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
    let mut silence = Silence::new(silent::targets(&[Arc::clone(&world)]));
    let mut pulse = tokio::time::interval(Duration::from_millis(50));
    let mut until = Instant::now();
    while world.on() || (flood.kinds() < flood.forwards.kinds.len() && Instant::now() < until) {
        if world.on() {
            until = Instant::now() + PATIENCE;
        }
        tokio::select! {
            event = swarm.select_next_some() => {
                flood.on_event(&mut swarm, &event);
                silence.on_event(event);
            }
            _ = pulse.tick() => silence.dial(&mut swarm),
        }
    }
    flood.answered
}

struct Flood {
    forwards: Forwards,
    /// Requests in flight.
    sent: HashMap<OutboundRequestId, ForwardKind>,
    /// How many requests of each kind were sent.
    turns: HashMap<ForwardKind, usize>,
    answered: Answered,
}

impl Flood {
    /// Of how many kinds at least one was answered.
    fn kinds(&self) -> usize {
        self.answered.keys().map(|(kind, _)| *kind).collect::<BTreeSet<_>>().len()
    }

    fn on_event(&mut self, swarm: &mut Swarm<Hostile>, event: &SwarmEvent<HostileEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                for kind in self.forwards.kinds.iter().map(|(kind, _)| *kind).collect::<Vec<_>>() {
                    (0..kind.in_flight()).for_each(|_| self.send(swarm, *peer_id, kind));
                }
            }
            SwarmEvent::Behaviour(HostileEvent::Submit(request_response::Event::Message {
                peer,
                message: Message::Response { request_id, response },
                ..
            })) => self.again(swarm, *peer, request_id, first(response)),
            SwarmEvent::Behaviour(HostileEvent::Submit(request_response::Event::OutboundFailure {
                peer,
                request_id,
                ..
            })) => self.again(swarm, *peer, request_id, "none".to_owned()),
            _ => {}
        }
    }

    /// A request came to its end: the next of its kind follows at once, while the connection lasts.
    fn again(&mut self, swarm: &mut Swarm<Hostile>, to: libp2p::PeerId, request: &OutboundRequestId, result: String) {
        let Some(kind) = self.sent.remove(request) else { return };
        *self.answered.entry((kind, result)).or_default() += 1;
        if swarm.is_connected(&to) {
            self.send(swarm, to, kind);
        }
    }

    fn send(&mut self, swarm: &mut Swarm<Hostile>, to: libp2p::PeerId, kind: ForwardKind) {
        let (_, ready) = self.forwards.kinds.iter().find(|(one, _)| *one == kind).unwrap();
        let turn = self.turns.entry(kind).or_default();
        let request = ready[*turn % ready.len()].clone();
        *turn += 1;
        let id = swarm.behaviour_mut().submit.send_request(&to, request);
        self.sent.insert(id, kind);
    }
}

/// The first result of an answer: `accepted`, or the code of the refusal.
fn first(answer: &[u8]) -> String {
    let answer = answer.get(4..).unwrap_or_default();
    let results = codec::decode::<SubmitResponse>(answer, fama_node::wire::RESPONSE_BYTES_MAX);
    match results.ok().and_then(|SubmitResponse(results)| results.into_iter().next()) {
        Some(SubmitResult::Accepted(_)) => "accepted".to_owned(),
        Some(SubmitResult::Refused(refusal)) => refusal.code,
        None => "none".to_owned(),
    }
}
