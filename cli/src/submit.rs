//! Submits events to a node over libp2p, and checks the proof in its answer.
//!
//! A client may hold an old version of the manifest: it follows the chain of versions that the node shows before it judges
//! the node's proofs.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fama_ledger::entry::SignedEvent;
use fama_ledger::event::{Action, Event};
use fama_ledger::fold::Void;
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::proof::{Included, TlogProof};
use fama_node::network::client::Client;
use fama_node::network::{Multiaddr, RequestError};
use fama_node::wire::{Receipt, Refusal, Submission, SubmitRequest, SubmitResult, SyncRequest, SyncResponse};
use futures::stream::{self, StreamExt};

use crate::chain;
use crate::failure::Failure;

/// Timeout of connecting to one address.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Delay between dialling one address and the next, which does not wait for the first to fail.
pub(crate) const STAGGER: Duration = Duration::from_millis(200);
/// Timeout of one request with its answer.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// An event that a log provably holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// The answer of the node.
    pub(crate) receipt: Receipt,
    /// What its proof shows: the entry, the head above it, and what makes that final.
    pub(crate) included: Included,
}

impl Accepted {
    /// Whether the proof shows that the entry can never be undone.
    #[must_use]
    pub(crate) const fn is_final(&self) -> bool {
        self.included.certified.is_some()
    }

    /// A newer receipt of the same event, which was as new or known as by this one.
    #[must_use]
    pub(crate) fn renewed(&self, newer: Self) -> Self {
        Self { receipt: Receipt { known: self.receipt.known, ..newer.receipt }, ..newer }
    }

    /// The proof including its entry, as `fama verify` reads it.
    #[must_use]
    pub(crate) fn proof(&self) -> String {
        let whole = |proof: TlogProof| TlogProof { extra: proof.extra.or(Some(self.receipt.entry.clone())), ..proof };
        self.receipt.proof.parse().map_or_else(|_| self.receipt.proof.clone(), |proof| whole(proof).to_string())
    }
}

/// An open connection to a node, and the newest version of the manifest that it shows.
pub(crate) struct NodeConnection {
    /// The user's manifest, followed to the node's newest version.
    pub(crate) manifest: Arc<Manifest>,
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
/// answering may have forwarded the event, and one that answers with a proof that is none may lie: the next one gets the
/// same event, which no log takes twice. Addresses are dialled [`STAGGER`] apart, without waiting for earlier ones to
/// fail.
///
/// # Errors
/// The refusal of the log; `unreachable` if no node answers. Undecided if a node may have taken the event all the same.
pub(crate) async fn submit_to_any(
    manifest: &Arc<Manifest>,
    addresses: &[String],
    submission: &Submission,
) -> Result<(NodeConnection, Accepted), Failure> {
    let addresses: Vec<Multiaddr> = addresses.iter().map(|address| parse(address)).collect::<Result<_, _>>()?;
    let count = addresses.len().max(1);
    let connections = addresses.into_iter().zip(0..).map(|(address, before)| async move {
        tokio::time::sleep(STAGGER.saturating_mul(before)).await;
        (NodeConnection::open(manifest, address.clone()).await, address)
    });
    let mut connections = std::pin::pin!(stream::iter(connections).buffered(count));
    let (mut tried, mut maybe_taken) = (Vec::new(), false);
    while let Some((connection, address)) = connections.next().await {
        let failure = match connection {
            Err(failure) => failure,
            Ok(connection) => match connection.submit(submission).await {
                Ok(accepted) => return Ok((connection, accepted)),
                Err(NotAccepted::Refused(refusal)) => {
                    let open = maybe_taken || is_open(&refusal.code);
                    let failure = Failure::from(refusal);
                    return Err(if open { failure.hint(RESUME).undecided() } else { failure });
                }
                Err(NotAccepted::NotSent(failure)) => failure,
                Err(NotAccepted::Unproven(failure)) => {
                    maybe_taken = true;
                    failure
                }
            },
        };
        tried.push((address, failure));
    }
    let failure = nobody(&tried);
    // No usual hint of `unreachable`: what matters now is that the event may be in a log.
    Err(if maybe_taken { Failure::new("outcome_unknown", failure.message).hint(RESUME).undecided() } else { failure })
}

/// Whether a refusal with this code is a judgement on the event itself, by the log that takes it: the log does not have it.
#[must_use]
pub(crate) fn is_verdict(code: &str) -> bool {
    Void::ALL.iter().any(|void| void.code() == code)
        || matches!(code, "outside_window" | "not_sponsored" | "later_kind" | "wrong_note")
}

/// What a user does about an unknown outcome.
pub(crate) const RESUME: &str =
    "it may have been taken: `fama resume` submits the same event again, which never counts twice";
/// Whether a log may have the event all the same after a refusal with this code.
#[must_use]
pub(crate) fn is_open(code: &str) -> bool {
    matches!(code, "outcome_unknown" | "internal" | "stopping")
}

/// Why a node's answer does not show that a log has the event.
pub(crate) enum NotAccepted {
    /// Nothing was sent.
    NotSent(Failure),
    /// The node refused it.
    Refused(Refusal),
    /// No answer, or one that proves nothing: the node may have taken it.
    Unproven(Failure),
}

fn parse(address: &str) -> Result<Multiaddr, Failure> {
    address.parse().map_err(|_| {
        Failure::new("bad_address", format!("{address} is not a multiaddr"))
            .hint("want one like /ip4/127.0.0.1/tcp/4001 or /dns/fama.alpha.example/udp/4001/quic-v1")
    })
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

impl NodeConnection {
    /// Connects to a node at a multiaddress, and follows the manifest to the newest version that the node shows.
    ///
    /// # Errors
    /// `timeout`, or why there is no connection.
    pub(crate) async fn open(manifest: &Arc<Manifest>, address: Multiaddr) -> Result<Self, Failure> {
        let client = within(CONNECT_TIMEOUT, Client::connect(manifest.federation(), address)).await?;
        let followed = within(ANSWER_TIMEOUT, follow(&client, Arc::clone(manifest))).await;
        // Only a hint is lost: a proof that needs a newer version is not believed.
        Ok(Self { manifest: followed.unwrap_or_else(|_| Arc::clone(manifest)), client })
    }

    /// Connects to the first of these multiaddresses that answers, as [`NodeConnection::open`]. They are dialled
    /// [`STAGGER`] apart.
    ///
    /// # Errors
    /// `bad_address`, `unreachable`, `other_federation`.
    pub(crate) async fn open_any(manifest: &Arc<Manifest>, addresses: &[String]) -> Result<Self, Failure> {
        let addresses: Vec<Multiaddr> = addresses.iter().map(|address| parse(address)).collect::<Result<_, _>>()?;
        let count = addresses.len().max(1);
        let asked = addresses.into_iter().zip(0..).map(|(address, before)| async move {
            tokio::time::sleep(STAGGER.saturating_mul(before)).await;
            (Self::open(manifest, address.clone()).await, address)
        });
        let mut asked = std::pin::pin!(stream::iter(asked).buffered(count));
        let mut tried = Vec::new();
        while let Some((opened, address)) = asked.next().await {
            match opened {
                Ok(connection) => return Ok(connection),
                Err(failure) => tried.push((address, failure)),
            }
        }
        Err(nobody(&tried))
    }

    /// Submits several events in one request; the results are not checked.
    ///
    /// # Errors
    /// [`NotAccepted`], without [`NotAccepted::Refused`].
    pub(crate) async fn submit_all(&self, submissions: Vec<Submission>) -> Result<Vec<SubmitResult>, NotAccepted> {
        let request = SubmitRequest { forwarded: false, submissions };
        match tokio::time::timeout(ANSWER_TIMEOUT, self.client.submit(request)).await {
            Ok(Ok(response)) => Ok(response.0),
            Ok(Err(error @ (RequestError::NotConnected | RequestError::Unsent | RequestError::TooLong(_)))) => {
                Err(NotAccepted::NotSent(error.into()))
            }
            Ok(Err(error)) => Err(NotAccepted::Unproven(error.into())),
            Err(_) => Err(NotAccepted::Unproven(late(ANSWER_TIMEOUT))),
        }
    }

    /// Submits an event, and checks the proof in the answer.
    ///
    /// # Errors
    /// [`NotAccepted`].
    pub(crate) async fn submit(&self, submission: &Submission) -> Result<Accepted, NotAccepted> {
        match self.submit_all(vec![submission.clone()]).await?.into_iter().next() {
            Some(SubmitResult::Accepted(receipt)) => {
                check_receipt(&self.manifest, &submission.signed, receipt).map_err(NotAccepted::Unproven)
            }
            Some(SubmitResult::Refused(refusal)) => Err(NotAccepted::Refused(refusal)),
            None => Err(NotAccepted::Unproven(unproven("the node gave no answer to the submission"))),
        }
    }
}

/// The newest version of the manifest that a node shows, each step checked.
async fn follow(client: &Client, mut known: Arc<Manifest>) -> Result<Arc<Manifest>, RequestError> {
    loop {
        let from = known.version().saturating_add(1);
        let SyncResponse::Manifests(notes) = client.sync(SyncRequest::Manifests { from }).await? else {
            return Ok(known);
        };
        let newest = chain::extended(Arc::clone(&known), &notes);
        if newest.version() == known.version() {
            return Ok(known);
        }
        known = newest;
    }
}

/// The newest version of the manifest that the first node to answer shows; the given one if none answers.
pub(crate) async fn newest(manifest: &Arc<Manifest>, addresses: &[String]) -> Arc<Manifest> {
    let opened = NodeConnection::open_any(manifest, addresses).await;
    opened.map_or_else(|_| Arc::clone(manifest), |connection| connection.manifest)
}

/// Fails with `timeout` if the exchange takes too long.
async fn within<T, E: Into<Failure>>(
    timeout: Duration,
    exchange: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(timeout, exchange).await {
        Ok(result) => result.map_err(Into::into),
        Err(_) => Err(late(timeout)),
    }
}

fn late(timeout: Duration) -> Failure {
    Failure::new("timeout", format!("no answer within {} s", timeout.as_secs()))
}

/// The answer of a node shows nothing: the event may be in a log or not.
fn unproven(what: impl std::fmt::Display) -> Failure {
    Failure::new("receipt", format!("the answer is no proof: {what}"))
}

/// Checks that a receipt proves that the right log holds this event: the one that takes it by the newest version known
/// here or by an earlier one. A revocation counts in any log.
///
/// # Errors
/// `receipt` if it proves something else or nothing.
pub(crate) fn check_receipt(manifest: &Manifest, signed: &SignedEvent, receipt: Receipt) -> Result<Accepted, Failure> {
    let action = &signed.event.action;
    let takes = |version: &Manifest| version.log_for(action).as_ref() == Some(&receipt.log);
    if !matches!(action, Action::Revoke { .. }) && !manifest.versions().any(takes) {
        return Err(unproven(format!("it is about the log {}, where such an event has no effect", receipt.log)));
    }
    let proof: TlogProof = receipt.proof.parse().map_err(unproven)?;
    let carried = proof.extra.clone().unwrap_or_else(|| receipt.entry.clone());
    let included = proof.included(&carried, manifest).map_err(unproven)?;
    let same = included.entry.event().is_some_and(|held| held.event() == &signed.event);
    if !same || included.entry.bytes() != receipt.entry || receipt.event != signed.event.id() {
        return Err(unproven("it is about another event"));
    }
    if (&included.log, included.index) != (&receipt.log, receipt.index) {
        return Err(unproven("it is about another entry"));
    }
    Ok(Accepted { receipt, included })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::author::{self, EventDraft};
    use crate::federation::{FederationPlan, FirstPorts, OperatorPlan, create};
    use crate::files::{draw_key, read_key};
    use fama_ledger::checkpoint::{Checkpoint, Cosignature, SignedCheckpoint};
    use fama_ledger::codec;
    use fama_ledger::entry::{Body, Entry};
    use fama_ledger::key::Curve;
    use fama_ledger::log::{MemoryTiles, Tree, leaf_hash, prove_inclusion};
    use fama_ledger::manifest::Policy;
    use fama_ledger::public;
    use fama_ledger::secret::SecretKey;
    use fama_ledger::time::Millis;

    struct World {
        manifest: Arc<Manifest>,
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
            Self { manifest: Arc::new(created.manifest), keys }
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

        /// A receipt of log `i`, whose second entry is the event.
        fn receipt(&self, i: usize, signed: &SignedEvent) -> Receipt {
            self.cosigned(i, signed, &[])
        }

        /// The receipt with cosignatures of these operators.
        fn cosigned(&self, i: usize, signed: &SignedEvent, cosigners: &[usize]) -> Receipt {
            let entry = codec::encode(&Entry { time: Millis(5), body: Body::Event(signed.clone()) });
            let (mut tree, mut tiles) = (Tree::default(), MemoryTiles::default());
            tiles.write(tree.append([leaf_hash(b"first"), leaf_hash(&entry)]));
            let checkpoint = Checkpoint { origin: self.manifest.origin(&self.log(i)), head: tree.head() };
            let owner = SignedCheckpoint::sign(checkpoint, self.keys[i].ed25519().unwrap());
            let cosigned = cosigners.iter().map(|i| {
                let by = self.log(*i);
                let key = self.keys[*i].ed25519().unwrap();
                (by.clone(), Cosignature::sign(owner.checkpoint(), by.operator, key, 1))
            });
            let cosigned: Vec<_> = cosigned.collect();
            let cosigned = cosigned.iter().map(|(by, cosignature)| (by, cosignature));
            let note = public::checkpoint(&self.manifest, &self.log(i), &owner, cosigned).unwrap();
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
        assert_eq!((accepted.included.entry.time, accepted.included.head.size), (Millis(5), 2));
        assert!(!accepted.is_final());
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
        let world = World::new(4);
        let signed = world.submission();
        for (cosigners, wanted) in [(&[][..], false), (&[0, 1], false), (&[0, 1, 3], true)] {
            let receipt = world.cosigned(0, &signed, cosigners);
            let accepted = check_receipt(&world.manifest, &signed, receipt).unwrap();
            assert_eq!(accepted.is_final(), wanted, "{cosigners:?}");
            let proof: TlogProof = accepted.proof().parse().unwrap();
            let included = proof.included(&proof.extra.clone().unwrap(), &world.manifest).unwrap();
            assert_eq!(included, accepted.included, "`fama verify` reads the same");
        }
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
