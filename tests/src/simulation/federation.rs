//! Who takes part: the same keys and manifests in every run, made once per process.
use std::sync::{Arc, OnceLock};

use fama_ledger::id::Domain;
use fama_ledger::manifest::{Genesis, LogId, Manifest, Operator, Policy};
use fama_ledger::signed_note::{SignedNote, sign};
use fama_node::network::peer_id;
use fama_tests::{domain, governance_key, node_key};
use libp2p::PeerId;

/// The largest federation.
pub(super) const OPERATORS_MAX: usize = 7;
const NAMES: [&str; OPERATORS_MAX] = [
    "alpha.example",
    "beta.example",
    "gamma.example",
    "delta.example",
    "epsilon.example",
    "zeta.example",
    "eta.example",
];

/// A federation; operators, logs and peers by number, a mirror's behind the operators'.
pub(super) struct Federation {
    pub(super) manifest: Arc<Manifest>,
    pub(super) names: Vec<Domain>,
    pub(super) logs: Vec<LogId>,
    pub(super) peers: Vec<PeerId>,
}

impl Federation {
    pub(super) fn of(n: usize) -> &'static Self {
        static ALL: [OnceLock<Federation>; OPERATORS_MAX + 1] = [const { OnceLock::new() }; OPERATORS_MAX + 1];
        ALL[n].get_or_init(|| Self::new(n))
    }

    fn new(n: usize) -> Self {
        let operator = |i: usize| Operator {
            name: domain(NAMES[i]),
            node_key: node_key(i as u8).ed25519().unwrap().verifying_key(),
            governance_key: governance_key(i as u8).ed25519().unwrap().verifying_key(),
            generation: 1,
            addresses: Vec::new(),
        };
        let operators: Vec<_> = (0..n).map(operator).collect();
        let names = operators.iter().map(|operator| operator.name.clone()).collect();
        let logs = operators.iter().map(Operator::log).collect();
        let key = |i: usize| peer_id(&node_key(i as u8).ed25519().unwrap().verifying_key());
        let text = Genesis { name: "simulated".into(), policy: Policy::recommended(n), operators }.text().unwrap();
        let line = |i: usize| sign(&text, NAMES[i], governance_key(i as u8).ed25519().unwrap());
        let signatures = (0..n).map(line).collect();
        let manifest = Manifest::parse(&SignedNote { text: text.clone(), signatures }.to_string()).unwrap();
        Self { manifest: Arc::new(manifest), names, logs, peers: (0..=n).map(key).collect() }
    }

    pub(super) fn len(&self) -> usize {
        self.logs.len()
    }

    pub(super) fn peer(&self, peer: &PeerId) -> usize {
        self.peers.iter().position(|known| known == peer).unwrap()
    }

    pub(super) fn log(&self, log: &LogId) -> usize {
        self.logs.iter().position(|known| known == log).unwrap()
    }

    /// How many operators must have answered a starting one, itself counted.
    pub(super) fn gate(manifest: &Manifest) -> usize {
        let n = manifest.operators().len();
        if n == 3 { 2 } else { n - manifest.faults() }
    }
}
