//! The participants: the same keys and manifests in every run, made once per process.
use std::sync::{Arc, OnceLock};

use fama_ledger::id::Domain;
use fama_ledger::manifest::{Genesis, LogId, Manifest, Operator, Policy};
use fama_ledger::secret::SecretKey;
use fama_ledger::signed_note::{SignedNote, sign};
use fama_ledger::time::Millis;
use fama_node::network::peer_id;
use fama_tests::{DAY, START, domain, governance_key, node_key};
use libp2p::PeerId;

/// Operators in the largest federation at the start.
pub(super) const OPERATORS_MAX: usize = 7;
const NAMES: [&str; OPERATORS_MAX + 1] = [
    "alpha.example",
    "beta.example",
    "gamma.example",
    "delta.example",
    "epsilon.example",
    "zeta.example",
    "eta.example",
    "theta.example",
];
/// The node keys of second generations are numbered from here on, after all machines' first ones.
const SECOND_KEYS: usize = 10;

/// The policy's bounds on what a liar can put on others, small enough to be reached in a run.
pub(super) const DAILY_NEW_PROVIDERS: u32 = 4;
pub(super) const DAILY_BYTES: u64 = 180_000;

/// When the logs of the genesis begin: long before a run, so that there is a past to fill.
pub(super) const BEGINS: Millis = Millis(START.0 - 40 * DAY);

/// All possible participants. Machines are numbered: those of the first operators, then one that is a mirror or
/// becomes an operator's later. Logs are numbered: the first generations of all machines, then their second ones.
pub(super) struct SimulatedFederation {
    pub(super) manifest: Arc<Manifest>,
    /// By machine.
    pub(super) names: Vec<Domain>,
    pub(super) logs: Vec<LogId>,
    /// By log: a machine's second node key comes with its second generation.
    peers: Vec<PeerId>,
}

impl SimulatedFederation {
    pub(super) fn of(n: usize) -> &'static Self {
        static ALL: [OnceLock<SimulatedFederation>; OPERATORS_MAX + 1] = [const { OnceLock::new() }; OPERATORS_MAX + 1];
        ALL[n].get_or_init(|| Self::new(n, DAILY_NEW_PROVIDERS))
    }

    /// Planted fault: a federation whose homes give a subject any number of providers a day.
    pub(super) fn crowded(n: usize) -> &'static Self {
        static ALL: [OnceLock<SimulatedFederation>; OPERATORS_MAX + 1] = [const { OnceLock::new() }; OPERATORS_MAX + 1];
        ALL[n].get_or_init(|| Self::new(n, u32::MAX))
    }

    fn new(n: usize, daily_new_providers: u32) -> Self {
        let operators: Vec<_> = (0..n).map(Self::operator).collect();
        let names: Vec<Domain> = (0..=n).map(|i| domain(NAMES[i])).collect();
        let generation = |generation| names.iter().map(move |name| LogId { operator: name.clone(), generation });
        let logs: Vec<LogId> = generation(1).chain(generation(2)).collect();
        let policy = Policy { daily_new_providers, daily_bytes: DAILY_BYTES, ..Policy::recommended(n) };
        let text = Genesis { name: "simulated".into(), policy, operators }.text().unwrap();
        let line = |i: usize| sign(&text, NAMES[i], governance_key(i as u8).ed25519().unwrap());
        let signatures = (0..n).map(line).collect();
        let manifest = Manifest::parse(&SignedNote { text: text.clone(), signatures }.to_string()).unwrap();
        let mut federation = Self { manifest: Arc::new(manifest), names, logs, peers: Vec::new() };
        let key = |log: usize| peer_id(&federation.key(log).ed25519().unwrap().verifying_key());
        federation.peers = (0..federation.logs.len()).map(key).collect();
        federation
    }

    /// The operator of a machine, in its first generation.
    pub(super) fn operator(machine: usize) -> Operator {
        Operator {
            name: domain(NAMES[machine]),
            node_key: node_key(machine as u8).ed25519().unwrap().verifying_key(),
            governance_key: governance_key(machine as u8).ed25519().unwrap().verifying_key(),
            generation: 1,
            begins: BEGINS,
            addresses: Vec::new(),
            endpoints: fama_ledger::manifest::Endpoints::default(),
        }
    }

    /// The number of operators at the start, which is also the number of the extra machine.
    pub(super) fn len(&self) -> usize {
        self.names.len() - 1
    }

    /// The machine of a peer, under any of its keys.
    pub(super) fn peer(&self, peer: &PeerId) -> usize {
        self.owner(self.peers.iter().position(|known| known == peer).unwrap())
    }

    /// The peer id of a machine while it uses the key of a log.
    pub(super) fn peer_id(&self, log: usize) -> PeerId {
        self.peers[log]
    }

    /// The machine of an operator.
    pub(super) fn machine(&self, name: &Domain) -> usize {
        self.names.iter().position(|known| known == name).unwrap()
    }

    pub(super) fn log(&self, log: &LogId) -> usize {
        self.logs.iter().position(|known| known == log).unwrap()
    }

    /// The machine that has the key of a log.
    pub(super) fn owner(&self, log: usize) -> usize {
        log % self.names.len()
    }

    /// Both logs that a machine may have.
    pub(super) fn logs_of(&self, machine: usize) -> [usize; 2] {
        [machine, machine + self.names.len()]
    }

    /// The node key of a log.
    pub(super) fn key(&self, log: usize) -> SecretKey {
        let second = if log < self.names.len() { 0 } else { SECOND_KEYS };
        node_key((self.owner(log) + second) as u8)
    }

    /// How many operators must have answered a node that starts, including itself.
    pub(super) fn gate(manifest: &Manifest) -> usize {
        let n = manifest.operators().len();
        if n == 3 { 2 } else { n - manifest.faults() }
    }
}
