//! Agents and the events that they want: registrations, keys, sponsors, karma.
use std::collections::{BTreeMap, BTreeSet};

use fama_ledger::entry::{SignedEvent, VerifiedEvent};
use fama_ledger::event::{Action, DismissReason, Event, Method, Nonce, RevokeReason, SuspendReason};
use fama_ledger::id::{EventId, IdentityId, KeyHash, NoteHash};
use fama_ledger::key::Curve;
use fama_ledger::manifest::Manifest;
use fama_ledger::note::{Note, note_hash};
use fama_ledger::secret::SecretKey;
use fama_ledger::time::Millis;
use fama_node::inbox::Submitted;

use super::chance::Chance;
use super::federation::SimulatedFederation;

/// The effect of a deed on its agent once it is acknowledged.
#[derive(Clone, Copy, Debug)]
enum DeedEffect {
    Registered,
    Rotated,
    Revoked,
    Admitted(usize),
    Dismissed(usize),
    Attested {
        subject: IdentityId,
        day: Millis,
    },
    Retracted,
    /// A grant, a suspension, or the end of one.
    Access,
}

/// An event that an agent or operator wants to have in a log.
pub(super) struct Deed {
    pub(super) event: VerifiedEvent,
    note: Option<(NoteHash, String)>,
    /// The operator that is asked to claim a revocation that its home does not accept.
    pub(super) elsewhere: Option<usize>,
    pub(super) tries: u32,
    /// Acknowledged, or abandoned.
    pub(super) over: bool,
    agent: usize,
    done: DeedEffect,
}

impl Deed {
    pub(super) fn submitted(&self) -> Submitted {
        Submitted { event: self.event.clone(), note: self.note.clone(), recovered: false, forwarder: None }
    }
}

struct LoadAgent {
    home: usize,
    identity: IdentityId,
    version: u32,
    /// Whether the current key committed to the next key.
    committed: bool,
    registered: bool,
    /// A change of key is under way, its outcome is unknown, or the key is dead.
    settled: bool,
    sponsors: BTreeSet<usize>,
    attested: Vec<(EventId, IdentityId, Millis)>,
}

/// All agents of a run.
pub(super) struct Load {
    federation: &'static SimulatedFederation,
    chance: Chance,
    /// Operators that don't lie: nothing is promised about the others' homes.
    homes: Vec<usize>,
    agents: Vec<LoadAgent>,
    nonce: u64,
    /// Honest operators of the newest version, with their logs.
    operators: BTreeMap<usize, usize>,
}

fn key(agent: usize, version: u32) -> SecretKey {
    let curve = if agent.is_multiple_of(4) { Curve::Secp256k1 } else { Curve::Ed25519 };
    let seed: Vec<u8> = [agent as u64 + 1, version.into()].iter().flat_map(|n| n.to_le_bytes()).collect();
    SecretKey::from_seed(curve, &seed.repeat(2).try_into().unwrap()).unwrap()
}

fn commitment(agent: usize, version: u32, committed: bool) -> Option<KeyHash> {
    committed.then(|| key(agent, version + 1).public().hash())
}

impl Load {
    pub(super) fn new(seed: u64, federation: &'static SimulatedFederation, homes: Vec<usize>) -> Self {
        let (operators, chance) = (homes.iter().map(|home| (*home, *home)).collect(), Chance::new(seed, 2));
        Self { federation, chance, homes, agents: Vec::new(), nonce: 0, operators }
    }

    /// Follows a new version: an operator that left sponsors nobody, and a new operator has a home.
    pub(super) fn follow(&mut self, manifest: &Manifest) {
        let newcomer = self.federation.len();
        let comes = manifest.operator(&self.federation.names[newcomer]).is_some();
        if comes && !self.homes.contains(&newcomer) {
            self.homes.push(newcomer);
        }
        let operator = |home: &usize| manifest.operator(&self.federation.names[*home]);
        let logs = self.homes.iter().filter_map(|home| Some((*home, self.federation.log(&operator(home)?.log()))));
        self.operators = logs.collect();
    }

    /// An identity of an honest operator's home.
    pub(super) fn registered(&self) -> Option<IdentityId> {
        self.agents.iter().find(|agent| agent.registered).map(|agent| agent.identity)
    }

    /// The next event that somebody wants, if one makes sense.
    pub(super) fn next(&mut self, now: Millis) -> Option<Deed> {
        let registered: Vec<usize> = (0..self.agents.len()).filter(|at| self.agents[*at].registered).collect();
        if registered.len() < 2 || self.chance.percent(15) {
            return Some(self.register(now));
        }
        let agent = *self.chance.pick(&registered);
        match self.chance.below(12) {
            0 | 1 if self.agents[agent].settled => Some(self.rotate(agent, now)),
            2 | 3 if self.agents[agent].settled => Some(self.revoke(agent, now)),
            4 | 5 => self.admit(registered[0], now),
            6 => self.dismiss(registered[0], now),
            7 | 8 => self.attest(registered[0], agent, now),
            10 => self.grant(registered[0], agent, now),
            11 => self.suspend(agent, now),
            _ => self.retract(registered[0], now),
        }
    }

    fn deed(&mut self, agent: usize, done: DeedEffect, now: Millis, action: Action, keys: &[&SecretKey]) -> Deed {
        self.nonce += 1;
        let federation = self.federation.manifest.federation();
        let event = Event { federation, action, created: now, nonce: Nonce(self.nonce.to_be_bytes()) };
        let text = event.text();
        let sign = |key: &&SecretKey| key.sign(text.as_bytes());
        let (signature, countersignature) = (sign(&keys[0]), keys.get(1).map(sign));
        let signed = SignedEvent { event, signer: keys[0].public(), signature, countersignature };
        let event = signed.verify(&federation).unwrap();
        Deed { event, note: None, elsewhere: None, tries: 0, over: false, agent, done }
    }

    fn register(&mut self, now: Millis) -> Deed {
        let home = *self.chance.pick(&self.homes);
        self.register_at(home, now)
    }

    pub(super) fn register_at(&mut self, home: usize, now: Millis) -> Deed {
        let agent = self.agents.len();
        let (key, committed) = (key(agent, 1), self.chance.percent(50));
        let text = Note { salt: [agent as u8; 32], bio: Some(format!("agent {agent}")), ..Note::default() }.text();
        let note = self.chance.percent(40).then(|| (note_hash(text.as_bytes()), text));
        let action = Action::Register {
            home: self.federation.names[home].clone(),
            name: format!("agent-{agent}").parse().unwrap(),
            key: key.public(),
            next: commitment(agent, 1, committed),
            note: note.as_ref().map(|(hash, _)| *hash),
        };
        let deed = Deed { note, ..self.deed(agent, DeedEffect::Registered, now, action, &[&key]) };
        let (sponsors, attested) = (BTreeSet::new(), Vec::new());
        let identity = deed.event.id();
        self.agents.push(LoadAgent {
            home,
            identity,
            version: 1,
            committed,
            registered: false,
            settled: true,
            sponsors,
            attested,
        });
        deed
    }

    fn rotate(&mut self, agent: usize, now: Millis) -> Deed {
        let &LoadAgent { home, identity, version, committed, .. } = &self.agents[agent];
        self.agents[agent].settled = false;
        let (old, new) = (key(agent, version), key(agent, version + 1));
        let action = Action::Rotate {
            home: self.federation.names[home].clone(),
            identity,
            version: version + 1,
            key: new.public(),
            next: commitment(agent, version + 1, committed),
        };
        let alone: &[&SecretKey] = &[&new];
        let keys = if committed { alone } else { &[&old, &new] };
        self.deed(agent, DeedEffect::Rotated, now, action, keys)
    }

    fn revoke(&mut self, agent: usize, now: Millis) -> Deed {
        let &LoadAgent { home, identity, version, .. } = &self.agents[agent];
        self.agents[agent].settled = false;
        let key = key(agent, version);
        let reason = RevokeReason::KeyCompromised;
        let action =
            Action::Revoke { home: self.federation.names[home].clone(), identity, version, key: key.public(), reason };
        let others: Vec<usize> = self.homes.iter().copied().filter(|other| *other != home).collect();
        let elsewhere = (!others.is_empty() && self.chance.percent(70)).then(|| *self.chance.pick(&others));
        Deed { elsewhere, ..self.deed(agent, DeedEffect::Revoked, now, action, &[&key]) }
    }

    fn admit(&mut self, agent: usize, now: Millis) -> Option<Deed> {
        let new: Vec<usize> =
            self.operators.keys().copied().filter(|one| !self.agents[agent].sponsors.contains(one)).collect();
        let operator = *new.get(self.chance.index(new.len().max(1)))?;
        let action = Action::Admit {
            operator: self.federation.names[operator].clone(),
            provider: self.agents[agent].identity,
            service: "service".parse().unwrap(),
            domain: "service.example".parse().unwrap(),
            method: Method::Manual,
            from: 0,
        };
        let key = self.federation.key(self.operators[&operator]);
        Some(self.deed(agent, DeedEffect::Admitted(operator), now, action, &[&key]))
    }

    fn dismiss(&mut self, agent: usize, now: Millis) -> Option<Deed> {
        let sponsors: Vec<usize> = self.agents[agent].sponsors.iter().copied().collect();
        let sponsors: Vec<usize> = sponsors.into_iter().filter(|one| self.operators.contains_key(one)).collect();
        let operator = *sponsors.get(self.chance.index(sponsors.len().max(1)))?;
        let action = Action::Dismiss {
            operator: self.federation.names[operator].clone(),
            provider: self.agents[agent].identity,
            service: "service".parse().unwrap(),
            domain: "service.example".parse().unwrap(),
            from: self.chance.below(3),
            reason: DismissReason::Unspecified,
        };
        let key = self.federation.key(self.operators[&operator]);
        Some(self.deed(agent, DeedEffect::Dismissed(operator), now, action, &[&key]))
    }

    fn attest(&mut self, agent: usize, subject: usize, now: Millis) -> Option<Deed> {
        let (provider, subject) = (&self.agents[agent], self.agents[subject].identity);
        let enough = provider.sponsors.len() >= self.federation.manifest.policy().min_sponsors as usize;
        if !enough || !provider.settled || provider.identity == subject {
            return None;
        }
        let (home, issuer, key) = (provider.home, provider.identity, key(agent, provider.version));
        let (domain, delta) = (self.federation.names[home].clone(), self.chance.between(1, 5) as i32);
        let action = Action::Attest { home: domain, issuer, subject, delta, context: None, note: None };
        Some(self.deed(agent, DeedEffect::Attested { subject, day: now }, now, action, &[&key]))
    }

    fn grant(&mut self, agent: usize, subject: usize, now: Millis) -> Option<Deed> {
        let (service, subject) = (&self.agents[agent], self.agents[subject].identity);
        if !service.settled {
            return None;
        }
        let (home, issuer, key) =
            (self.federation.names[service.home].clone(), service.identity, key(agent, service.version));
        let scope = "read".parse().unwrap();
        let action = if self.chance.percent(70) {
            Action::Grant { home, issuer, subject, scope, expires: None, note: None }
        } else {
            Action::Ungrant { home, issuer, subject, scope }
        };
        Some(self.deed(agent, DeedEffect::Access, now, action, &[&key]))
    }

    fn suspend(&mut self, agent: usize, now: Millis) -> Option<Deed> {
        let operators: Vec<usize> = self.operators.keys().copied().collect();
        let operator = *operators.get(self.chance.index(operators.len().max(1)))?;
        let (name, identity) = (self.federation.names[operator].clone(), self.agents[agent].identity);
        let action = if self.chance.percent(60) {
            Action::Suspend { operator: name, identity, reason: SuspendReason::Misconduct }
        } else {
            Action::Resume { operator: name, identity }
        };
        let key = self.federation.key(self.operators[&operator]);
        Some(self.deed(agent, DeedEffect::Access, now, action, &[&key]))
    }

    fn retract(&mut self, agent: usize, now: Millis) -> Option<Deed> {
        let provider = &mut self.agents[agent];
        if !provider.settled {
            return None;
        }
        let (attestation, subject, day) = provider.attested.pop()?;
        let (home, issuer, key) = (provider.home, provider.identity, key(agent, provider.version));
        let domain = self.federation.names[home].clone();
        let action = Action::Retract { home: domain, issuer, subject, day: day.day(), attestation };
        Some(self.deed(agent, DeedEffect::Retracted, now, action, &[&key]))
    }

    /// Records that the deed is in its log.
    pub(super) fn acknowledged(&mut self, deed: &Deed) {
        let agent = &mut self.agents[deed.agent];
        match deed.done {
            DeedEffect::Registered => agent.registered = true,
            DeedEffect::Rotated => {
                agent.version += 1;
                agent.settled = true;
            }
            DeedEffect::Admitted(operator) => {
                agent.sponsors.insert(operator);
            }
            DeedEffect::Dismissed(operator) => {
                agent.sponsors.remove(&operator);
            }
            DeedEffect::Attested { subject, day } => agent.attested.push((deed.event.id(), subject, day)),
            DeedEffect::Revoked | DeedEffect::Retracted | DeedEffect::Access => {}
        }
    }
}
