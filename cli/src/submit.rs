//! Submits events to a node over libp2p, and checks the proof in its answer.
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fama_ledger::codec;
use fama_ledger::entry::{Body, Entry, SignedEvent};
use fama_ledger::event::{Action, Event};
use fama_ledger::id::{Domain, TreeRoot};
use fama_ledger::limits::ENTRY_BYTES_MAX;
use fama_ledger::log::Head;
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::proof::TlogProof;
use fama_ledger::time::Millis;
use fama_node::clock;
use fama_node::network::Multiaddr;
use fama_node::network::client::Client;
use fama_node::wire::{
    Frontier, LogFrontier, Receipt, Submission, SubmitRequest, SubmitResult, SyncRequest, SyncResponse,
};
use futures::stream::{self, StreamExt};

use crate::failure::Failure;

/// Timeout of connecting to one address.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Delay between dialling one address and the next, which does not wait for the first to fail.
pub(crate) const STAGGER: Duration = Duration::from_millis(200);
/// Timeout of one request with its answer.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause between two questions to a node whether an entry is final.
pub(crate) const POLL: Duration = Duration::from_millis(250);

/// An event that a log provably holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// The answer of the node.
    pub(crate) receipt: Receipt,
    /// Time of the entry in its log.
    pub(crate) time: Millis,
    /// The head of the proof, signed by the log's owner.
    pub(crate) head: Head,
    /// The operators that cosigned that head.
    pub(crate) cosigned_by: Vec<Domain>,
}

/// How much of a log is final, by the cosignatures of its operators.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CertifiedSizes {
    /// Entries below this index are final.
    pub(crate) size: u64,
    /// The largest size that each operator cosigned.
    pub(crate) sizes: BTreeMap<Domain, u64>,
}

/// An open connection to a node.
pub(crate) struct NodeConnection<'a> {
    manifest: &'a Manifest,
    client: Client,
}

/// The addresses to submit an event to, best first: those of the operator whose log takes it, then the others'. QUIC
/// comes last, because a closed UDP port gives no answer.
#[must_use]
pub(crate) fn addresses(manifest: &Manifest, event: &Event) -> Vec<String> {
    let home = manifest.log_for(&event.action).map(|log| log.operator);
    let (mut first, mut others) = (Vec::new(), Vec::new());
    for operator in manifest.operators() {
        let list = if Some(&operator.name) == home.as_ref() { &mut first } else { &mut others };
        list.extend(operator.addresses.iter().cloned());
    }
    first.append(&mut others);
    first.sort_by_key(|address| address.contains("/quic"));
    first
}

/// Whether a revocation in this log is only a claim: the log is not that of the identity's home.
#[must_use]
pub(crate) fn is_claim(manifest: &Manifest, event: &Event, log: &LogId) -> bool {
    matches!(&event.action, Action::Revoke { .. }) && manifest.log_for(&event.action).as_ref() != Some(log)
}

/// Submits to the first of these multiaddresses that answers, and checks the proof in the answer. A node that stops
/// answering may have forwarded the event; the next one gets the same event, which no log takes twice. Addresses are
/// dialled [`STAGGER`] apart, without waiting for earlier ones to fail.
///
/// # Errors
/// The refusal of the log; `receipt` if the proof is invalid; `unreachable` if no node answers.
pub(crate) async fn submit_to_any<'a>(
    manifest: &'a Manifest,
    addresses: &[String],
    submission: &Submission,
) -> Result<(NodeConnection<'a>, Accepted), Failure> {
    let addresses: Vec<Multiaddr> = addresses.iter().map(|address| parse(address)).collect::<Result<_, _>>()?;
    let count = addresses.len().max(1);
    let connections = addresses.into_iter().zip(0..).map(|(address, before)| async move {
        tokio::time::sleep(STAGGER.saturating_mul(before)).await;
        (NodeConnection::open(manifest, address.clone()).await, address)
    });
    let mut connections = std::pin::pin!(stream::iter(connections).buffered(count));
    let mut tried = Vec::new();
    while let Some((connection, address)) = connections.next().await {
        match ask(connection, submission).await {
            Ok((connection, result)) => {
                return connection.judge(submission, result).map(|accepted| (connection, accepted));
            }
            Err(failure) => tried.push((address, failure)),
        }
    }
    Err(nobody(&tried))
}

fn parse(address: &str) -> Result<Multiaddr, Failure> {
    address.parse().map_err(|_| {
        Failure::new("bad_address", format!("{address} is not a multiaddr"))
            .hint("want one like /ip4/127.0.0.1/tcp/4001 or /dns/fama.alpha.example/udp/4001/quic-v1")
    })
}

async fn ask<'a>(
    connection: Result<NodeConnection<'a>, Failure>,
    submission: &Submission,
) -> Result<(NodeConnection<'a>, Option<SubmitResult>), Failure> {
    let connection = connection?;
    let request = SubmitRequest { forwarded: false, submissions: vec![submission.clone()] };
    let response = within(ANSWER_TIMEOUT, connection.client.submit(request)).await?;
    Ok((connection, response.0.into_iter().next()))
}

/// Why no address worked: `other_federation` if all nodes belong to another one, else `unreachable`.
fn nobody(tried: &[(Multiaddr, Failure)]) -> Failure {
    let mut reasons: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (address, failure) in tried {
        reasons.entry(&failure.message).or_default().push(address.to_string());
    }
    let reasons: Vec<String> =
        reasons.iter().map(|(reason, addresses)| format!("{}: {reason}", addresses.join(", "))).collect();
    let message = if reasons.is_empty() { "no address to try".to_owned() } else { reasons.join("; ") };
    match tried.first() {
        Some((_, first)) if first.code == "other_federation" && tried.iter().all(|(_, one)| one.code == first.code) => {
            Failure::new(first.code.clone(), message)
        }
        _ => Failure::new("unreachable", message).hint("is the node running? --node MULTIADDR names another one"),
    }
}

impl<'a> NodeConnection<'a> {
    /// Connects to a node at a multiaddress.
    ///
    /// # Errors
    /// `timeout`, or why there is no connection.
    pub(crate) async fn open(manifest: &'a Manifest, address: Multiaddr) -> Result<Self, Failure> {
        let client = within(CONNECT_TIMEOUT, Client::connect(manifest.federation(), address)).await?;
        Ok(Self { manifest, client })
    }

    fn judge(&self, submission: &Submission, result: Option<SubmitResult>) -> Result<Accepted, Failure> {
        match result {
            Some(SubmitResult::Accepted(receipt)) => check_receipt(self.manifest, &submission.signed, receipt),
            Some(SubmitResult::Refused(refusal)) => Err(refusal.into()),
            None => Err(Failure::new("receipt", "the node gave no answer to the submission")),
        }
    }

    /// How far a log is final, by signatures that are verified here.
    ///
    /// # Errors
    /// `equivocation`; why the node does not answer.
    pub(crate) async fn certified(&self, log: &LogId) -> Result<CertifiedSizes, Failure> {
        // An empty frontier: the node answers with everything it has.
        let nothing = Frontier::nothing(self.manifest, clock::now());
        match within(ANSWER_TIMEOUT, self.client.sync(SyncRequest::Frontier(nothing))).await? {
            SyncResponse::Frontier(frontier) => {
                let found = frontier.logs.iter().find(|frontier| frontier.log == *log);
                found.map_or(Ok(CertifiedSizes::default()), |frontier| certified(self.manifest, frontier))
            }
            SyncResponse::Refused(refusal) => Err(refusal.into()),
            _ => Err(Failure::new("wrong_answer", "the node answered another question")),
        }
    }

    /// Waits until the entry at `index` of `log` is final; calls `progress` after each poll.
    ///
    /// # Errors
    /// `not_final` after `timeout`.
    pub(crate) async fn wait_final(
        &self,
        log: &LogId,
        index: u64,
        timeout: Duration,
        mut progress: impl FnMut(&CertifiedSizes),
    ) -> Result<CertifiedSizes, Failure> {
        let deadline = Instant::now() + timeout;
        loop {
            let certified = self.certified(log).await?;
            progress(&certified);
            if certified.size > index {
                return Ok(certified);
            }
            if Instant::now() + POLL > deadline {
                let message = format!("in the log, but not final after {} s", timeout.as_secs());
                return Err(Failure::new("not_final", message)
                    .hint("fewer than a quorum of operators cosigned it so far; check later with `fama event ID`"));
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Fails with `timeout` if the exchange takes too long.
async fn within<T, E: Into<Failure>>(
    timeout: Duration,
    exchange: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(timeout, exchange).await {
        Ok(result) => result.map_err(Into::into),
        Err(_) => Err(Failure::new("timeout", format!("no answer within {} s", timeout.as_secs()))),
    }
}

fn unproven(what: impl std::fmt::Display) -> Failure {
    Failure::new("receipt", what).hint("the node's answer proves nothing: use another one with --node")
}

/// Checks that a receipt proves that the right log holds this event. A revocation counts in any log.
///
/// # Errors
/// `receipt` if it proves something else or nothing.
pub(crate) fn check_receipt(manifest: &Manifest, signed: &SignedEvent, receipt: Receipt) -> Result<Accepted, Failure> {
    let home = manifest.log_for(&signed.event.action);
    if home.as_ref() != Some(&receipt.log) && !matches!(signed.event.action, Action::Revoke { .. }) {
        return Err(unproven(format!("it is in the log {}, where it has no effect", receipt.log)));
    }
    let entry: Entry = codec::decode(&receipt.entry, ENTRY_BYTES_MAX).map_err(unproven)?;
    let same = matches!(&entry.body, Body::Event(held) if held.event == signed.event);
    if !same || receipt.event != signed.event.id() {
        return Err(unproven("it is about another event"));
    }
    let (head, cosigned_by) = check_proof(manifest, &receipt)?;
    Ok(Accepted { time: entry.time, head, cosigned_by, receipt })
}

/// Verifies the proof of a receipt with the manifest's keys; gives the proven head and its cosigners.
fn check_proof(manifest: &Manifest, receipt: &Receipt) -> Result<(Head, Vec<Domain>), Failure> {
    let proof: TlogProof = receipt.proof.parse().map_err(unproven)?;
    let origin = manifest.origin(&receipt.log);
    let owner = manifest.operator(&receipt.log.operator).filter(|owner| owner.log() == receipt.log);
    let (signed, cosignatures) = proof
        .verify(
            &receipt.entry,
            |named| owner.filter(|_| *named == origin).map(|owner| owner.node_key),
            |name| manifest.operator(name).map(|operator| operator.node_key),
        )
        .map_err(unproven)?;
    if proof.index != receipt.index {
        return Err(unproven("the proof is about another entry"));
    }
    let cosigned_by = cosignatures.into_iter().map(|cosignature| cosignature.operator).collect();
    Ok((signed.checkpoint().head, cosigned_by))
}

/// The size that a quorum cosigned, by the cosignatures that a node shows. Invalid signatures are ignored.
///
/// That the cosigned heads extend each other is left to the cosigners. Only two different heads of the same size are
/// noticed here.
///
/// # Errors
/// `equivocation` if the owner signed two heads of the same size.
pub(crate) fn certified(manifest: &Manifest, frontier: &LogFrontier) -> Result<CertifiedSizes, Failure> {
    let (mut sizes, mut roots): (BTreeMap<Domain, u64>, BTreeMap<u64, TreeRoot>) = Default::default();
    for cosigned in &frontier.cosigned {
        let Some(operator) = manifest.operator(&cosigned.cosignature.operator) else { continue };
        let Ok(signed) = cosigned.signed.verify(manifest, &frontier.log) else { continue };
        if cosigned.cosignature.verify(signed.checkpoint(), &operator.node_key).is_err() {
            continue;
        }
        let head = signed.checkpoint().head;
        if *roots.entry(head.size).or_insert(head.root) != head.root {
            let message = format!("{} signed two heads of size {}", frontier.log, head.size);
            return Err(Failure::new("equivocation", message).hint("tell the federation's operators"));
        }
        let size = sizes.entry(operator.name.clone()).or_default();
        *size = head.size.max(*size);
    }
    let mut sorted: Vec<u64> = sizes.values().copied().collect();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    let size = sorted.get(manifest.quorum().saturating_sub(1)).copied().unwrap_or_default();
    Ok(CertifiedSizes { size, sizes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::author::{self, EventDraft};
    use crate::federation::{FederationPlan, FirstPorts, OperatorPlan, create};
    use crate::files::{draw_key, read_key};
    use fama_ledger::checkpoint::{self, Checkpoint, Cosignature, SignedCheckpoint};
    use fama_ledger::key::Curve;
    use fama_ledger::log::{MemoryTiles, Tree, leaf_hash, prove_inclusion};
    use fama_ledger::manifest::Policy;
    use fama_ledger::secret::SecretKey;
    use fama_node::wire::{CosignedHead, SignedHead};

    struct World {
        manifest: Manifest,
        keys: Vec<SecretKey>,
    }

    impl World {
        fn new(n: usize) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let operator =
                |i| OperatorPlan::local(format!("op{i}.example").parse().unwrap(), i, FirstPorts::default()).unwrap();
            let plan = FederationPlan {
                name: "T".to_owned(),
                operators: (0..n).map(operator).collect(),
                policy: Policy::recommended(n),
            };
            let created = create(&plan, dir.path()).unwrap();
            let keys = created.folders.iter().map(|(_, folder)| read_key(&folder.join("node.pem")).unwrap()).collect();
            Self { manifest: created.manifest, keys }
        }

        fn log(&self, i: usize) -> LogId {
            self.manifest.operators()[i].log()
        }

        fn submission(&self) -> SignedEvent {
            let key = draw_key(Curve::Secp256k1).unwrap();
            let (home, name) = (self.log(0).operator, "swift".parse().unwrap());
            let action = Action::Register { home, name, key: key.public(), next: None, note: None };
            let event = author::event(self.manifest.federation(), action).unwrap();
            EventDraft::new(event, &key).sign().unwrap().signed
        }

        fn head(&self, i: usize, size: u64, root: u8) -> SignedCheckpoint {
            let head = Head { size, root: TreeRoot([root; 32]) };
            let checkpoint = Checkpoint { origin: self.manifest.origin(&self.log(i)), head };
            SignedCheckpoint::sign(checkpoint, self.keys[i].ed25519().unwrap())
        }

        /// The head of log 0 of this size, cosigned by operator `i`.
        fn cosigned(&self, i: usize, size: u64, root: u8) -> CosignedHead {
            let signed = self.head(0, size, root);
            let key = self.keys[i].ed25519().unwrap();
            let cosignature = Cosignature::sign(signed.checkpoint(), self.log(i).operator, key, 1);
            CosignedHead { signed: SignedHead::of(&signed), cosignature }
        }

        /// A receipt of log `i`, whose second entry is the event.
        fn receipt(&self, i: usize, signed: &SignedEvent) -> Receipt {
            let entry = codec::encode(&Entry { time: Millis(5), body: Body::Event(signed.clone()) });
            let (mut tree, mut tiles) = (Tree::default(), MemoryTiles::default());
            tiles.write(tree.append([leaf_hash(b"first"), leaf_hash(&entry)]));
            let checkpoint = Checkpoint { origin: self.manifest.origin(&self.log(i)), head: tree.head() };
            let owner = SignedCheckpoint::sign(checkpoint, self.keys[i].ed25519().unwrap());
            let note = checkpoint::note(&owner, &self.manifest.operators()[i].node_key, &[]);
            let proof =
                TlogProof { extra: None, index: 1, path: prove_inclusion(1, 2, &tiles).unwrap(), checkpoint: note };
            let log = self.log(i);
            Receipt { event: signed.event.id(), log, index: 1, known: false, entry, proof: proof.to_string() }
        }
    }

    #[test]
    fn a_receipt_proves_one_event_in_its_log() {
        let (world, stranger) = (World::new(2), World::new(2));
        let (signed, other) = (world.submission(), world.submission());
        let good = world.receipt(0, &signed);
        let accepted = check_receipt(&world.manifest, &signed, good.clone()).unwrap();
        assert_eq!((accepted.time, accepted.head.size), (Millis(5), 2));
        let bad = [
            world.receipt(1, &signed),
            world.receipt(0, &other),
            stranger.receipt(0, &signed),
            Receipt { entry: world.receipt(0, &other).entry, ..good.clone() },
            Receipt { proof: world.receipt(0, &other).proof, ..good.clone() },
            Receipt { proof: world.receipt(1, &signed).proof, ..good.clone() },
            Receipt { index: 0, ..good.clone() },
            Receipt { event: other.event.id(), ..good.clone() },
            Receipt { entry: Vec::new(), ..good.clone() },
            Receipt { proof: String::new(), ..good },
        ];
        for receipt in bad {
            assert_eq!(check_receipt(&world.manifest, &signed, receipt).unwrap_err().code, "receipt");
        }
    }

    #[test]
    fn final_is_what_a_quorum_cosigned() {
        let (world, stranger) = (World::new(4), World::new(4));
        let size = |cosigned: Vec<CosignedHead>| {
            let frontier = LogFrontier {
                log: world.log(0),
                size: 99,
                newest: None,
                cosigned,
                equivocation: None,
                certificate: None,
            };
            certified(&world.manifest, &frontier).map(|certified| certified.size).map_err(|failure| failure.code)
        };
        let by = |i, n| world.cosigned(i, n, u8::try_from(n).unwrap());
        assert_eq!(size(vec![]), Ok(0));
        assert_eq!(size(vec![by(0, 9), by(1, 9)]), Ok(0));
        assert_eq!(size(vec![by(0, 9), by(1, 9), by(1, 9)]), Ok(0), "an operator counts once");
        assert_eq!(size(vec![by(0, 9), by(1, 7), by(2, 5)]), Ok(5));
        assert_eq!(size(vec![by(0, 9), by(1, 7), by(2, 5), by(3, 8)]), Ok(7));
        assert_eq!(size(vec![by(0, 9), by(1, 7), stranger.cosigned(2, 5, 5)]), Ok(0), "another federation's keys");
        let mut forged = by(2, 9);
        forged.cosignature.operator = world.log(3).operator;
        assert_eq!(size(vec![by(0, 9), by(1, 7), forged]), Ok(0), "another operator's name");
        assert_eq!(size(vec![by(0, 9), world.cosigned(1, 9, 8)]), Err("equivocation".to_owned()));
    }

    #[test]
    fn the_home_is_asked_first() {
        let world = World::new(3);
        let event = world.submission().event;
        let all = addresses(&world.manifest, &event);
        let ends: Vec<&str> = all.iter().map(|address| address.trim_start_matches("/ip4/127.0.0.1/")).collect();
        let [quic_0, quic_1, quic_2] = ["udp/4001/quic-v1", "udp/4002/quic-v1", "udp/4003/quic-v1"];
        assert_eq!(ends, ["tcp/4001", "tcp/4002", "tcp/4003", quic_0, quic_1, quic_2]);
    }

    #[tokio::test]
    async fn nobody_there() {
        let world = World::new(1);
        assert_eq!(parse("nonsense").err().unwrap().code, "bad_address");
        let submission = Submission { signed: world.submission(), note: None, invite: None, recovered: None };
        for addresses in [vec!["/ip4/127.0.0.1/tcp/1".to_owned()], vec![]] {
            let failure = submit_to_any(&world.manifest, &addresses, &submission).await.err().unwrap();
            assert_eq!(failure.code, "unreachable");
        }
    }
}
