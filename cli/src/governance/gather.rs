//! Collects from nodes what a draft needs: the chain of versions, stands, and evidence that a cut loses nothing final.
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use fama_ledger::cut::{ProposedCut, choose, find};
use fama_ledger::equivocation::Equivocation;
use fama_ledger::id::{Domain, StateRoot, TreeRoot};
use fama_ledger::limits::{CHAIN_BYTES_MAX, CHECKPOINT_BYTES_MAX};
use fama_ledger::log::{Hash, Head, verify_consistency};
use fama_ledger::manifest::{Cut, LogId, Manifest};
use fama_ledger::signed_note::SignedNote;
use fama_ledger::stand::VerifiedStand;
use serde_json::Value;

use super::evidence::{equivocation, hashes};
use super::{CutEvidence, list};
use crate::failure::Failure;
use crate::query::Query;

/// Most stands that are kept: one of each operator, with room for liars that gave two.
const STANDS_MAX: usize = 128;

/// The answers of all nodes, reduced to what is valid.
pub(crate) struct Gathered {
    /// The newest version that any node has, with all earlier ones.
    pub(crate) newest: Arc<Manifest>,
    /// Stands for the next version, each with its text.
    pub(crate) stands: Vec<(String, VerifiedStand)>,
    equivocations: Vec<Equivocation>,
    /// What each node says about the federation.
    answers: Vec<Value>,
    nodes: Vec<Query>,
}

impl Gathered {
    /// Asks all nodes; calls `unreachable` for each that does not answer.
    ///
    /// # Errors
    /// The last node's error if none answers; `chains_conflict`.
    pub(crate) fn ask(urls: &[String], mut unreachable: impl FnMut(&Failure)) -> Result<Self, Failure> {
        let (mut nodes, mut answers, mut last) = (Vec::new(), Vec::new(), None);
        let mut newest: Option<Arc<Manifest>> = None;
        for node in urls.iter().map(|url| Query::new(url)) {
            match ask_one(&node) {
                Ok((chain, answer)) => {
                    newest = Some(longer(newest, chain, node.base())?);
                    answers.push(answer);
                    nodes.push(node);
                }
                Err(failure) => {
                    unreachable(&failure);
                    last = Some(failure);
                }
            }
        }
        let Some(newest) = newest else {
            return Err(last.unwrap_or_else(|| Failure::new("no_node", "no node was named")));
        };
        let mut gathered = Self { newest, stands: Vec::new(), equivocations: Vec::new(), answers: Vec::new(), nodes };
        answers.iter().for_each(|answer| gathered.take(answer));
        gathered.answers = answers;
        Ok(gathered)
    }

    /// Keeps the valid stands and equivocations of an answer. The rest is dropped: its fault may not be the node's.
    fn take(&mut self, answer: &Value) {
        let next = self.newest.version().saturating_add(1);
        for text in answer["stands"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let Ok(stand) = VerifiedStand::read(text, &self.newest) else { continue };
            let known = self.stands.iter().any(|(_, other)| *other == stand);
            if stand.stand().version == next && !known && self.stands.len() < STANDS_MAX {
                self.stands.push((text.to_owned(), stand));
            }
        }
        for proof in answer["equivocations"].as_array().into_iter().flatten() {
            let Ok(proof) = equivocation(proof["encoded"].as_str().unwrap_or_default()) else { continue };
            if proof.verify(&self.newest).is_ok() {
                self.equivocations.push(proof);
            }
        }
    }

    /// The logs that `next` would leave behind, by the answers of all nodes together. Right after a version came into use
    /// that may be all of them, for a round of cosignatures, which is waited for.
    pub(crate) fn behind<'a>(&mut self, next: &'a Manifest) -> Vec<&'a LogId> {
        let begun = Instant::now();
        loop {
            let mut left: Vec<&LogId> = next.must_have_adopted().collect();
            for answer in &self.answers {
                let behind = super::behind(next, answer);
                left.retain(|log| behind.contains(log));
            }
            if left.is_empty() || begun.elapsed() >= super::ADOPTION_WAIT {
                return left;
            }
            std::thread::sleep(super::ADOPTION_PAUSE);
            // A node that no longer answers has said what it had to say.
            self.answers.extend(self.nodes.iter().filter_map(|node| node.get(&["federation"], &[]).ok()));
        }
    }

    /// The cut of `log` to propose, and its evidence.
    ///
    /// # Errors
    /// `stands_missing`, `cut_unheld`.
    pub(crate) fn cut(&self, log: &LogId, successor: &LogId) -> Result<(Cut, CutEvidence), Failure> {
        let heads = self.heads(log)?;
        let mut branches = Branches { nodes: &self.nodes, log, holders: BTreeMap::new(), answers: BTreeMap::new() };
        let mut found: Vec<(Cut, CutEvidence)> = Vec::new();
        let mut candidate = |head: &Head| {
            let (state_root, adopted, evidence) = self.candidate(head, &heads, &mut branches)?;
            let (log, successor) = (log.clone(), successor.clone());
            Some((Cut { log, head: *head, state_root, adopted, successor }, evidence))
        };
        found.extend(heads.iter().filter_map(&mut candidate));
        let forks: BTreeSet<Head> = found.iter().flat_map(|(_, evidence)| evidence.extensions.forks()).collect();
        found.extend(forks.iter().filter(|fork| !heads.contains(fork)).filter_map(&mut candidate));
        let stands: Vec<VerifiedStand> = self.stands.iter().map(|(_, stand)| stand.clone()).collect();
        let shown: Vec<ProposedCut<'_>> =
            found.iter().map(|(cut, evidence)| self.shown(cut, evidence, &stands)).collect();
        let best = choose(&shown).map(|shown| shown.cut.clone());
        let best = best.and_then(|best| found.into_iter().find(|(cut, _)| *cut == best));
        best.ok_or_else(|| {
            Failure::new("cut_unheld", format!("none of the nodes asked holds all cosigned entries of the log {log}"))
                .hint("name more nodes with --from")
        })
    }

    fn shown<'a>(&'a self, cut: &'a Cut, evidence: &'a CutEvidence, stands: &'a [VerifiedStand]) -> ProposedCut<'a> {
        let CutEvidence { extensions, equivocation, checkpoint } = evidence;
        let (equivocation, checkpoint) = (equivocation.as_ref(), checkpoint.as_ref());
        ProposedCut { previous: &self.newest, cut, stands, extensions, equivocation, checkpoint }
    }

    /// The heads of the stands in `log`, without duplicates.
    fn heads(&self, log: &LogId) -> Result<Vec<Head>, Failure> {
        let stands = || self.stands.iter().map(|(_, stand)| stand.stand()).filter(|stand| stand.log == *log);
        let operators = self.newest.operators().iter().map(|operator| operator.name.clone());
        let (there, missing): (Vec<Domain>, Vec<Domain>) =
            operators.partition(|name| stands().any(|stand| stand.operator == *name));
        let wanted = stands_wanted(&self.newest);
        if there.len() < wanted {
            let message =
                format!("{} stands in the log {log}, {wanted} needed; missing: {}", there.len(), list(&missing));
            return Err(Failure::new("stands_missing", message)
                .hint(format!("each of them runs `fama federation stand --log {log}`; name their nodes with --from")));
        }
        let mut heads: Vec<Head> = stands().map(|stand| stand.head).collect();
        heads.sort_unstable();
        heads.dedup();
        Ok(heads)
    }

    /// State root, adopted version and evidence of a cut at `head`; `None` if no node holds that head.
    fn candidate(
        &self,
        head: &Head,
        heads: &[Head],
        branches: &mut Branches<'_>,
    ) -> Option<(StateRoot, u32, CutEvidence)> {
        let log = branches.log;
        let (state_root, adopted, checkpoint) = if *head == Head::EMPTY {
            (StateRoot([0; 32]), 0, None)
        } else {
            let copies = self.nodes.iter().filter_map(|node| CopyAtHead::ask(node, log, head).ok().flatten());
            let copies: Vec<CopyAtHead> = copies.filter(CopyAtHead::may_end).collect();
            let first = copies.first()?;
            (first.state_root, first.adopted, copies.iter().find_map(|copy| copy.checkpoint.clone()))
        };
        let equivocation = self.equivocations.iter().find(|proof| proof.log == *log).cloned();
        let Ok(extensions) = find(head, heads, &mut |head, size| Ok::<_, Infallible>(branches.ask(head, size)));
        Some((state_root, adopted, CutEvidence { extensions, equivocation, checkpoint }))
    }
}

/// The root of a head's tree at a smaller size, and the consistency proof.
type Prefix = (TreeRoot, Vec<Hash>);

/// The branches of a log as nodes show them. Caches answers, so no question is asked twice.
struct Branches<'a> {
    nodes: &'a [Query],
    log: &'a LogId,
    /// For each head, a node that holds it.
    holders: BTreeMap<Head, &'a Query>,
    answers: BTreeMap<(Head, u64), Option<Prefix>>,
}

impl Branches<'_> {
    fn ask(&mut self, head: &Head, size: u64) -> Option<Prefix> {
        if let Some(known) = self.answers.get(&(*head, size)) {
            return known.clone();
        }
        let mut nodes = self.holders.get(head).copied().into_iter().chain(self.nodes);
        let found = nodes.find_map(|node| Some((node, prefix(node, self.log, head, size)?)));
        if let Some((node, _)) = &found {
            self.holders.insert(*head, *node);
        }
        let found = found.map(|(_, prefix)| prefix);
        self.answers.insert((*head, size), found.clone());
        found
    }
}

/// Asks a node for the root at `size` below `head`; `None` if it holds another branch or its proof is invalid.
fn prefix(node: &Query, log: &LogId, head: &Head, size: u64) -> Option<Prefix> {
    let answer = node.get(&["federation", "consistency"], &parameters(log, size, head.size)).ok()?;
    let root: TreeRoot = answer["from"]["root"].as_str()?.parse().ok()?;
    let proof: Vec<String> = serde_json::from_value(answer["proof"].clone()).ok()?;
    let proof = hashes(&proof).ok()?;
    verify_consistency(&Head { size, root }, head, &proof).ok()?;
    Some((root, proof))
}

/// How many operators must have frozen a log before its cut is drafted: all but the faulty ones, which may be silent.
/// Of three operators, one may be.
fn stands_wanted(newest: &Manifest) -> usize {
    let n = newest.operators().len();
    n.saturating_sub(newest.faults().max(usize::from(n == 3)))
}

fn ask_one(node: &Query) -> Result<(Arc<Manifest>, Value), Failure> {
    let chain = node.get_text(&["federation", "manifests"], &[], CHAIN_BYTES_MAX)?;
    let chain = Manifest::parse_chain(&chain).map_err(|error| Failure::from(error).about(node.base()))?;
    Ok((chain, node.get(&["federation"], &[])?))
}

/// The longer of two chains, one of which must begin with the other.
fn longer(one: Option<Arc<Manifest>>, other: Arc<Manifest>, node: &str) -> Result<Arc<Manifest>, Failure> {
    let Some(one) = one else { return Ok(other) };
    let (long, short) = if one.version() >= other.version() { (one, other) } else { (other, one) };
    if long.at(short.version()).is_none_or(|same| same.hash() != short.hash()) {
        let message = format!("{node} and the nodes before it hold different texts of version {}", short.version());
        return Err(Failure::new("chains_conflict", message).hint(
            "do they belong to the same federation? if so, its operators signed two texts, and people must choose",
        ));
    }
    Ok(long)
}

fn parameters(log: &LogId, from: u64, to: u64) -> [(&'static str, String); 3] {
    [("log", log.to_string()), ("from", from.to_string()), ("to", to.to_string())]
}

/// A node's copy of a log at a head, as the node reports it.
pub(crate) struct CopyAtHead {
    /// The state root at the head.
    pub(crate) state_root: StateRoot,
    /// The manifest version adopted at the head.
    pub(crate) adopted: u32,
    /// Adoptions below the head that the node does not know to be certified.
    uncertified_adoptions: u64,
    checkpoint: Option<SignedNote>,
}

impl CopyAtHead {
    /// Reads an answer about `head`; `None` if the node has another branch, or no state at that size.
    fn read(answer: &Value, head: &Head) -> Option<Self> {
        let to = &answer["to"];
        if to["size"] != head.size || to["root"] != head.root.to_string() {
            return None;
        }
        let checkpoint = answer["checkpoint"].as_str();
        Some(Self {
            state_root: to["state_root"].as_str()?.parse().ok()?,
            adopted: u32::try_from(to["adopted"].as_u64()?).ok()?,
            uncertified_adoptions: to["uncertified_adoptions"].as_u64()?,
            checkpoint: checkpoint.and_then(|note| SignedNote::parse(note.as_bytes(), CHECKPOINT_BYTES_MAX).ok()),
        })
    }

    /// Whether a cut may be at this head. If so, a conflicting branch starts under one of the last two adopted versions,
    /// because no honest operator cosigns more than one adoption beyond its newest certificate.
    #[must_use]
    pub(crate) const fn may_end(&self) -> bool {
        self.uncertified_adoptions <= 1
    }

    /// Asks a node about a head of a log.
    ///
    /// # Errors
    /// The error of the node.
    pub(crate) fn ask(node: &Query, log: &LogId, head: &Head) -> Result<Option<Self>, Failure> {
        let answer = node.get(&["federation", "consistency"], &parameters(log, head.size, head.size))?;
        Ok(Self::read(&answer, head))
    }
}
