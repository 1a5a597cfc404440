//! What a draft needs of nodes: the chain of versions, stands, and what shows that a cut extends what was cosigned.
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;

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

/// Most stands of one log that are looked at: one of each operator, and those of liars who gave two.
const STANDS_MAX: usize = 128;

/// What nodes answered.
pub struct Gathered {
    /// The newest version that any of them has, with all before it.
    pub newest: Arc<Manifest>,
    /// Stands for the next version, as texts too.
    pub stands: Vec<(String, VerifiedStand)>,
    equivocations: Vec<Equivocation>,
    nodes: Vec<Query>,
}

impl Gathered {
    /// Asks all nodes; `unreachable` is told of those that do not answer.
    ///
    /// # Errors
    /// If none answers, or two follow different versions.
    pub fn ask(urls: &[String], mut unreachable: impl FnMut(&Failure)) -> Result<Self, Failure> {
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
        let mut gathered = Self { newest, stands: Vec::new(), equivocations: Vec::new(), nodes };
        answers.iter().for_each(|answer| gathered.take(answer));
        Ok(gathered)
    }

    /// Keeps what of a node's answer holds for the next version; the rest is no use, whosever fault it is.
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

    /// The cut of `log` to propose, and what shows it.
    ///
    /// # Errors
    /// `stands_missing`, `cut_unheld`.
    pub fn cut(&self, log: &LogId, successor: &LogId) -> Result<(Cut, CutEvidence), Failure> {
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
            Failure::new("cut_unheld", format!("none of the nodes asked holds the log {log} as far as it was cosigned"))
                .hint("name more nodes with --from")
        })
    }

    fn shown<'a>(&'a self, cut: &'a Cut, evidence: &'a CutEvidence, stands: &'a [VerifiedStand]) -> ProposedCut<'a> {
        let CutEvidence { extensions, equivocation, checkpoint } = evidence;
        let (equivocation, checkpoint) = (equivocation.as_ref(), checkpoint.as_ref());
        ProposedCut { previous: &self.newest, cut, stands, extensions, equivocation, checkpoint }
    }

    /// The heads of the stands in `log`, each once.
    fn heads(&self, log: &LogId) -> Result<Vec<Head>, Failure> {
        let stands = || self.stands.iter().map(|(_, stand)| stand.stand()).filter(|stand| stand.log == *log);
        let operators = self.newest.operators().iter().map(|operator| operator.name.clone());
        let (there, missing): (Vec<Domain>, Vec<Domain>) =
            operators.partition(|name| stands().any(|stand| stand.operator == *name));
        let wanted = stands_wanted(&self.newest);
        if there.len() < wanted {
            let message =
                format!("{} stands in the log {log}, {wanted} wanted; missing: {}", there.len(), list(&missing));
            return Err(Failure::new("stands_missing", message)
                .hint(format!("each of them runs `fama federation stand --log {log}`; --from names their nodes")));
        }
        let mut heads: Vec<Head> = stands().map(|stand| stand.head).collect();
        heads.sort_unstable();
        heads.dedup();
        Ok(heads)
    }

    /// What nodes say of a cut at `head`; `None` if none of them holds the log that far.
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
            let places = self.nodes.iter().filter_map(|node| Place::ask(node, log, head).ok().flatten());
            let places: Vec<Place> = places.filter(Place::may_end).collect();
            let first = places.first()?;
            (first.state_root, first.adopted, places.iter().find_map(|place| place.checkpoint.clone()))
        };
        let equivocation = self.equivocations.iter().find(|proof| proof.log == *log).cloned();
        let Ok(extensions) = find(head, heads, &mut |head, size| Ok::<_, Infallible>(branches.ask(head, size)));
        Some((state_root, adopted, CutEvidence { extensions, equivocation, checkpoint }))
    }
}

/// The root of a head's tree at a smaller size, and the consistency proof.
type Prefix = (TreeRoot, Vec<Hash>);

/// The branches of a log, as nodes show them; each is asked once for the same.
struct Branches<'a> {
    nodes: &'a [Query],
    log: &'a LogId,
    /// A node that holds a head.
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

/// What a node shows of a head that it holds; `None` if it holds another branch, or proves nothing.
fn prefix(node: &Query, log: &LogId, head: &Head, size: u64) -> Option<Prefix> {
    let answer = node.get(&["federation", "consistency"], &parameters(log, size, head.size)).ok()?;
    let root: TreeRoot = answer["from"]["root"].as_str()?.parse().ok()?;
    let proof: Vec<String> = serde_json::from_value(answer["proof"].clone()).ok()?;
    let proof = hashes(&proof).ok()?;
    verify_consistency(&Head { size, root }, head, &proof).ok()?;
    Some((root, proof))
}

/// How many operators of the newest version must stand still in a log before its cut is drafted: all but those
/// that may be silent. With three, one may.
fn stands_wanted(newest: &Manifest) -> usize {
    let n = newest.operators().len();
    n.saturating_sub(newest.faults().max(usize::from(n == 3)))
}

fn ask_one(node: &Query) -> Result<(Arc<Manifest>, Value), Failure> {
    let chain = node.get_text(&["federation", "manifests"], CHAIN_BYTES_MAX)?;
    let chain = Manifest::parse_chain(&chain).map_err(|error| Failure::from(error).about(node.base()))?;
    Ok((chain, node.get(&["federation"], &[])?))
}

/// The longer of two chains of which one begins with the other.
fn longer(one: Option<Arc<Manifest>>, other: Arc<Manifest>, node: &str) -> Result<Arc<Manifest>, Failure> {
    let Some(one) = one else { return Ok(other) };
    let (long, short) = if one.version() >= other.version() { (one, other) } else { (other, one) };
    if long.at(short.version()).is_none_or(|same| same.hash() != short.hash()) {
        let message = format!("{node} and the nodes before it hold different texts of version {}", short.version());
        return Err(Failure::new("chains_conflict", message)
            .hint("are they of one federation? if so, its operators signed two texts, and people must choose"));
    }
    Ok(long)
}

fn parameters(log: &LogId, from: u64, to: u64) -> [(&'static str, String); 3] {
    [("log", log.to_string()), ("from", from.to_string()), ("to", to.to_string())]
}

/// What a node says of its copy at a head.
pub struct Place {
    /// The state root there.
    pub state_root: StateRoot,
    /// The version adopted there.
    pub adopted: u32,
    /// How many adoptions up to there this node does not know to be certified.
    uncertified_adoptions: u64,
    checkpoint: Option<SignedNote>,
}

impl Place {
    /// Reads an answer about `head`; `None` if the node's copy is another one there, or has no state there.
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

    /// Whether a cut may be here: a branch that conflicts with it then begins under one of the two versions that were
    /// adopted last. No honest operator cosigns what is more than one adoption ahead of its certificates.
    #[must_use]
    pub const fn may_end(&self) -> bool {
        self.uncertified_adoptions <= 1
    }

    /// Asks a node about a head of a log.
    ///
    /// # Errors
    /// What the node answered.
    pub fn ask(node: &Query, log: &LogId, head: &Head) -> Result<Option<Self>, Failure> {
        let answer = node.get(&["federation", "consistency"], &parameters(log, head.size, head.size))?;
        Ok(Self::read(&answer, head))
    }
}
