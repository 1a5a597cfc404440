//! Carries messages between network and inbox: requests out, answers and gossip in. Decides nothing.
//!
//! | message | from | to | carries |
//! |---|---|---|---|
//! | [`NetworkEvent`] | network | bridge | peers that connect and leave; their requests, submissions and gossip |
//! | `NetworkCommand` | [`Network`] | its swarm | requests, new operators: senders wait for room |
//! | `NetworkHint` | [`Network`] | its swarm | gossip, a [`GossipVerdict`], a penalty: lost when the queue is full |
//! | [`InboxInput`] | bridge, submit, http | inbox | everything that enters, with verified signatures |
//! | [`InboxCommand`] | inbox | bridge | requests to peers, gossip, events to submit again, penalties |
//! | [`SubmitOutcome`](crate::inbox::SubmitOutcome) | inbox | submit | the outcome of each submitted event |
//!
//! The inbox calls the ledger's replica directly: it reports what happened and performs the actions that come back.
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use fama_ledger::id::Domain;
use fama_ledger::note::note_hash;
use libp2p::PeerId;
use tokio::sync::{mpsc, watch};

use crate::clock;
use crate::health::Health;
use crate::inbox::{DecodedRange, InboxCommand, InboxInput};
use crate::metrics::{Direction, GossipOutcome};
use crate::network::{self, GossipVerdict, MessageId, Network, NetworkEvent, Reply, RequestError, peer_id};
use crate::shared::Shared;
use crate::submit::Submitter;
use crate::submit::permits::Permits;
use crate::sync::heard::{self, FrontierError, HeardFrontier};
use crate::sync::offered::Snapshots;
use crate::sync::said;
use crate::wire::{EntryRange, Frontier, NoteAnswer, Refusal, Session, SyncRequest, SyncResponse};

mod fetch;
mod gossip;
mod peers;

use fetch::Ahead;
use gossip::GossipRead;
use peers::ConnectedPeers;

/// Sync requests of all strangers together that are answered at once, those of one stranger, and those of one operator;
/// more are refused as busy. No node asks one peer more at once than the last number.
const ANSWERS: (usize, usize, usize) = (16, 8, 8);
/// Gossip messages of all strangers, one stranger and one operator that are verified at once; more are ignored.
const GOSSIP: (usize, usize, usize) = (8, 2, 4);

/// Carries messages. Each piece of work is a task of its own, and the number of tasks is bounded.
#[derive(Clone)]
pub(crate) struct Bridge {
    shared: Shared,
    network: Network,
    inputs: mpsc::Sender<InboxInput>,
    submitter: Arc<Submitter>,
    operators: Arc<BTreeMap<PeerId, Domain>>,
    answers: Arc<Permits>,
    snapshots: Arc<Snapshots>,
    gossip: Arc<Permits>,
    read: Arc<GossipRead>,
    ahead: Ahead,
    peers: Arc<ConnectedPeers>,
    /// The node's own health, if this bridge serves a second inbox besides the node's own.
    node: Option<Arc<Health>>,
    stopped: watch::Receiver<bool>,
}

fn operators(shared: &Shared) -> Arc<BTreeMap<PeerId, Domain>> {
    Arc::new(network::operators(&shared.manifest, shared.store.pending().map(|pending| &**pending)))
}

impl Bridge {
    /// The bridge of the node's own inbox, which takes `inputs`; `stopped` ends all work once it is true.
    #[must_use]
    pub(crate) fn new(
        shared: Shared,
        network: Network,
        inputs: mpsc::Sender<InboxInput>,
        submitter: Arc<Submitter>,
        stopped: watch::Receiver<bool>,
    ) -> Self {
        let operators = operators(&shared);
        let (answers, gossip) = (Permits::new(ANSWERS), Permits::new(GOSSIP));
        let snapshots = Arc::new(Snapshots::new(shared.clone()));
        let (ahead, read, peers, node) = (Ahead::default(), Arc::default(), Arc::default(), None);
        Self {
            shared,
            network,
            inputs,
            submitter,
            operators,
            answers,
            snapshots,
            gossip,
            read,
            ahead,
            peers,
            node,
            stopped,
        }
    }

    /// A bridge for a second inbox, which reads `shared` and takes `inputs`.
    #[must_use]
    pub(crate) fn following(&self, shared: Shared, inputs: mpsc::Sender<InboxInput>) -> Self {
        let (operators, node) = (operators(&shared), Some(Arc::clone(&self.shared.health)));
        let (ahead, read) = (Ahead::default(), Arc::default());
        Self { shared, inputs, operators, node, ahead, read, ..self.clone() }
    }

    /// The handle to the network that this bridge serves.
    #[must_use]
    pub(crate) const fn network(&self) -> &Network {
        &self.network
    }

    /// Spawns work that is dropped when the node stops or reloads: nothing is left then that wants its result.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut stopped = self.stopped.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => {}
                () = work => {}
            }
        });
    }

    /// Performs the inbox's commands until the inbox is gone. Never waits for the inbox itself.
    pub(crate) async fn commands(self, mut commands: mpsc::Receiver<InboxCommand>) {
        while let Some(command) = commands.recv().await {
            match command {
                InboxCommand::Publish(gossip) => {
                    self.shared.metrics.gossip(GossipOutcome::Published);
                    self.network.publish(gossip);
                }
                InboxCommand::Penalize { peer, code } => self.network.penalize(peer, code),
                InboxCommand::AskFrontier { peer, mut ours } => {
                    let this = self.clone();
                    if let Some(node) = &self.node {
                        // Peers see both inboxes as one process, which must not look as if it were starting again.
                        ours.session.writes = node.read().writes;
                    }
                    self.spawn(async move { this.ask_frontier(peer, ours).await });
                }
                InboxCommand::Fetch { peer, log, from, head } => {
                    let this = self.clone();
                    self.spawn(async move { this.fetch(peer, log, from, head).await });
                }
                InboxCommand::FetchManifests { peer, from } => {
                    let this = self.clone();
                    self.spawn(async move { this.fetch_manifests(peer, from).await });
                }
                InboxCommand::Resubmit(submissions) => {
                    let submitter = Arc::clone(&self.submitter);
                    self.spawn(async move { submitter.resubmit(submissions).await });
                }
                InboxCommand::FetchNotes { peer, hashes } => {
                    let this = self.clone();
                    self.spawn(async move { this.fetch_notes(peer, hashes).await });
                }
            }
        }
    }

    /// Passes input to the inbox. If the inbox is closed, the node is stopping and the input is dropped.
    async fn input(&self, input: InboxInput) {
        let _ = self.inputs.send(input).await;
    }

    async fn ask_frontier(self, peer: PeerId, ours: Frontier) {
        let answer = self.network.frontier(peer, ours).await;
        if !matches!(answer, Err(RequestError::Unsent)) {
            self.network.answered(peer, answer.is_ok());
        }
        match answer {
            Ok(SyncResponse::Frontier(frontier)) => {
                self.heard(peer);
                // Measured here, not by the inbox: a wait in its queue would make the peer's clock look slow.
                let ahead = i128::from(frontier.time.0) - i128::from(clock::now().0);
                let ahead = i64::try_from(ahead).unwrap_or(i64::MAX);
                let input = match self.verify(frontier).await {
                    Some(Ok(said)) => InboxInput::Frontier { peer, said, ahead },
                    Some(Err(FrontierError::Sender(code))) => {
                        self.network.penalize(peer, code);
                        InboxInput::Unanswered { peer }
                    }
                    Some(Err(error @ FrontierError::Store(_))) => {
                        tracing::error!(%error, "cannot read the store to compare a frontier");
                        InboxInput::Unanswered { peer }
                    }
                    None => InboxInput::Unanswered { peer },
                };
                self.input(input).await;
            }
            // A flood by others may have made it refuse: that is not its fault.
            Ok(SyncResponse::Refused(refusal)) => {
                tracing::debug!(%peer, code = refusal.code, "no frontier");
                self.input(InboxInput::Unanswered { peer }).await;
            }
            Ok(_) => {
                self.network.penalize(peer, "wrong_answer");
                self.input(InboxInput::Unanswered { peer }).await;
            }
            Err(error) => {
                tracing::debug!(%peer, %error, "no frontier");
                self.input(InboxInput::Unanswered { peer }).await;
            }
        }
    }

    /// Verifies on a blocking thread: a long frontier has thousands of signatures, which would hold up the inbox.
    async fn verify(&self, frontier: Frontier) -> Option<Result<HeardFrontier, FrontierError>> {
        let shared = self.shared.clone();
        let work = move || heard::frontier(&shared.store.view(), &shared.manifest, frontier, shared.clock.now());
        tokio::task::spawn_blocking(work).await.ok()
    }

    fn heard(&self, peer: PeerId) {
        let Some(operator) = self.operator(peer) else { return };
        if let Some(known) = self.shared.health.write().operators.get_mut(&operator) {
            known.heard = Some(clock::now());
        }
    }

    fn is_operator(&self, peer: &PeerId) -> bool {
        self.operators.contains_key(peer)
    }

    fn operator(&self, peer: PeerId) -> Option<Domain> {
        self.operators.get(&peer).cloned()
    }

    /// A connected operator, a different one every five seconds, so that a later request reaches another.
    fn some_operator(&self) -> Option<PeerId> {
        let health = self.shared.health.read();
        let operators = self.shared.manifest.operators().iter();
        let mut connected = operators.filter(|o| health.operators.get(&o.name).is_some_and(|known| known.connected));
        let count = connected.clone().count();
        let turn = usize::try_from(clock::now().0 / 5_000).unwrap_or_default().checked_rem(count)?;
        connected.nth(turn).map(|operator| peer_id(&operator.node_key))
    }

    async fn fetch_manifests(self, peer: PeerId, from: u32) {
        let answer = self.network.sync(peer, SyncRequest::Manifests { from }).await;
        if let Ok(SyncResponse::Manifests(texts)) = answer {
            self.input(InboxInput::Manifests { peer, texts }).await;
        }
    }

    async fn decode(&self, range: EntryRange) -> Option<DecodedRange> {
        let federation = self.shared.manifest.federation();
        tokio::task::spawn_blocking(move || DecodedRange::new(range, &federation)).await.ok()
    }

    async fn fetch_notes(self, peer: Option<PeerId>, hashes: Vec<fama_ledger::id::NoteHash>) {
        let Some(peer) = peer.or_else(|| self.some_operator()) else { return };
        let Ok(SyncResponse::Notes(notes)) = self.network.sync(peer, SyncRequest::Notes(hashes.clone())).await else {
            return;
        };
        let mut texts = Vec::new();
        for (hash, note) in notes {
            let NoteAnswer::Text(text) = note else { continue };
            if !hashes.contains(&hash) || note_hash(text.as_bytes()) != hash {
                self.network.penalize(peer, "wrong_note");
                return;
            }
            texts.push((hash, text));
        }
        if !texts.is_empty() {
            self.input(InboxInput::Notes(texts)).await;
        }
    }

    /// Handles the network's events until the network is gone or the node stops. Returns the receiver of events, for
    /// the next bridge.
    pub(crate) async fn events(self, mut events: mpsc::Receiver<NetworkEvent>) -> mpsc::Receiver<NetworkEvent> {
        let mut stopped = self.stopped.clone();
        loop {
            let event = tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => return events,
                event = events.recv() => event,
            };
            let Some(event) = event else { return events };
            match event {
                NetworkEvent::PeerUp { peer } => self.peer(peer, true).await,
                NetworkEvent::PeerDown { peer } => self.peer(peer, false).await,
                NetworkEvent::Sync { peer, request, other, reply } => self.answer(peer, request, other, reply),
                NetworkEvent::Submit { peer, address, request, reply } => {
                    let submitter = Arc::clone(&self.submitter);
                    self.spawn(async move { reply.send(submitter.submit(peer, address, request).await) });
                }
                NetworkEvent::Gossip { peer, id, gossip } => match self.gossip.take(peer, self.is_operator(&peer)) {
                    None => self.judge(id, peer, GossipVerdict::Ignore),
                    Some(permit) => {
                        let this = self.clone();
                        self.spawn(async move {
                            let verdict = this.take_gossip(peer, gossip).await;
                            this.judge(id, peer, verdict);
                            drop(permit);
                        });
                    }
                },
            }
        }
    }

    fn judge(&self, id: MessageId, peer: PeerId, verdict: GossipVerdict) {
        self.shared.metrics.gossip(match verdict {
            GossipVerdict::Accept => GossipOutcome::Accepted,
            GossipVerdict::Ignore => GossipOutcome::Ignored,
            GossipVerdict::Reject => GossipOutcome::Rejected,
        });
        self.network.verdict(id, peer, verdict);
    }

    async fn peer(&self, peer: PeerId, up: bool) {
        let operator = self.operator(peer);
        self.note(peer, up);
        {
            let mut health = self.shared.health.write();
            health.peers = if up { health.peers + 1 } else { health.peers.saturating_sub(1) };
            if let Some(known) = operator.as_ref().and_then(|operator| health.operators.get_mut(operator)) {
                known.connected = up;
            }
        }
        self.input(if up { InboxInput::PeerUp { peer, operator } } else { InboxInput::PeerDown { peer } }).await;
    }

    fn answer(&self, peer: PeerId, request: SyncRequest, other: Option<Session>, reply: Reply<SyncResponse>) {
        let Some(permit) = self.answers.take(peer, self.is_operator(&peer)) else {
            reply.send(SyncResponse::Refused(Refusal::new("busy", "too many requests at once")));
            return;
        };
        let (shared, snapshots) = (self.shared.clone(), Arc::clone(&self.snapshots));
        tokio::task::spawn_blocking(move || {
            if matches!(request, SyncRequest::Offers | SyncRequest::Rows { .. }) {
                reply.send(snapshots.answer(&request));
                return drop(permit);
            }
            let session = Session { id: shared.session, writes: shared.health.read().writes };
            let (view, now) = (shared.store.view(), shared.clock.now());
            let mut answer = said::answer(&view, &shared.manifest, session, now, &request);
            drop(view);
            if let Ok(SyncResponse::Frontier(frontier)) = &mut answer {
                frontier.other = other;
            }
            if let Ok(SyncResponse::Entries(range)) = &answer {
                shared.metrics.range(Direction::Out, range.entries.iter().map(|entry| entry.len() as u64).sum());
            }
            reply.send(answer.unwrap_or_else(|error| {
                tracing::error!(%peer, %error, "a request could not be answered");
                SyncResponse::Refused(Refusal::new("internal", "this node's disk has a problem"))
            }));
            drop(permit);
        });
    }
}
