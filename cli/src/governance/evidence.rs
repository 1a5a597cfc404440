//! The evidence file of a draft: it shows signers that they may sign the draft's cuts.
use std::collections::BTreeMap;
use std::path::Path;

use fama_ledger::codec;
use fama_ledger::cut::{Extensions, ProposedCut};
use fama_ledger::equivocation::Equivocation;
use fama_ledger::id::{Hex, from_hex};
use fama_ledger::limits::CHECKPOINT_BYTES_MAX;
use fama_ledger::log::{Hash, Head, PROOF_HASHES_MAX};
use fama_ledger::manifest::{Cut, LogId, Manifest};
use fama_ledger::signed_note::SignedNote;
use fama_ledger::stand::VerifiedStand;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::files;

/// The `format` member of the file.
const FORMAT: &str = "fama.evidence/1";
/// Longest evidence file, in bytes.
const EVIDENCE_BYTES_MAX: usize = 16 << 20;

/// The evidence for one cut, besides the stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct CutEvidence {
    /// Proofs of which heads extend which.
    pub(crate) extensions: Extensions,
    /// Proof that the owner signed two branches.
    pub(crate) equivocation: Option<Equivocation>,
    /// The cut's head with its cosignatures.
    pub(crate) checkpoint: Option<SignedNote>,
}

/// The evidence for all cuts of a draft.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    stands: Vec<VerifiedStand>,
    texts: Vec<String>,
    cuts: BTreeMap<LogId, CutEvidence>,
    /// The extensions of a cut without evidence.
    nothing: Extensions,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEvidence {
    format: String,
    /// Texts of signed notes.
    stands: Vec<String>,
    cuts: Vec<RawCutEvidence>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCutEvidence {
    log: String,
    extensions: Vec<RawExtension>,
    /// Hex, as a node shows it.
    equivocation: Option<String>,
    /// A signed note.
    checkpoint: Option<String>,
}

/// A proof that one head extends another.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawExtension {
    head: RawHead,
    smaller: RawHead,
    /// RFC 6962 consistency proof, in hex.
    proof: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHead {
    size: u64,
    root: String,
}

impl Evidence {
    /// Evidence of the stands alone, without any cut.
    #[must_use]
    pub(crate) fn new(stands: Vec<(String, VerifiedStand)>) -> Self {
        let (texts, stands) = stands.into_iter().unzip();
        Self { stands, texts, ..Self::default() }
    }

    /// Adds the evidence for a cut.
    pub(crate) fn add(&mut self, log: LogId, evidence: CutEvidence) {
        self.cuts.insert(log, evidence);
    }

    /// The input of the ledger's rule for `cut`.
    #[must_use]
    pub(crate) fn shown<'a>(&'a self, previous: &'a Manifest, cut: &'a Cut) -> ProposedCut<'a> {
        let found = self.cuts.get(&cut.log);
        ProposedCut {
            previous,
            cut,
            stands: &self.stands,
            extensions: found.map_or(&self.nothing, |found| &found.extensions),
            equivocation: found.and_then(|found| found.equivocation.as_ref()),
            checkpoint: found.and_then(|found| found.checkpoint.as_ref()),
        }
    }

    /// The content of the file.
    #[must_use]
    pub(crate) fn json(&self) -> String {
        let head = |head: &Head| RawHead { size: head.size, root: head.root.to_string() };
        let extension = |(larger, smaller, proof): (&Head, Head, &[Hash])| RawExtension {
            head: head(larger),
            smaller: head(&smaller),
            proof: proof.iter().map(|hash| Hex(hash).to_string()).collect(),
        };
        let cuts = self.cuts.iter().map(|(log, cut)| RawCutEvidence {
            log: log.to_string(),
            extensions: cut.extensions.iter().map(extension).collect(),
            equivocation: cut.equivocation.as_ref().map(|proof| Hex(&codec::encode(proof)).to_string()),
            checkpoint: cut.checkpoint.as_ref().map(ToString::to_string),
        });
        let raw = RawEvidence { format: FORMAT.to_owned(), stands: self.texts.clone(), cuts: cuts.collect() };
        let mut text = serde_json::to_string_pretty(&raw).expect("texts and numbers can be written");
        text.push('\n');
        text
    }

    /// Reads a file, and verifies the signatures of its stands with the version before the draft.
    ///
    /// # Errors
    /// The error of the file; `bad_evidence`; the rule that a stand breaks.
    pub(crate) fn read(path: &Path, previous: &Manifest) -> Result<Self, Failure> {
        let text = files::read(path, EVIDENCE_BYTES_MAX)
            .map_err(|failure| failure.hint("a draft that cuts a log comes with its evidence: --evidence FILE"))?;
        Self::parse(&text, previous).map_err(|failure| failure.about(path.display()))
    }

    fn parse(text: &str, previous: &Manifest) -> Result<Self, Failure> {
        let raw: RawEvidence = serde_json::from_str(text).map_err(bad)?;
        if raw.format != FORMAT {
            return Err(bad(format!("the format is not {FORMAT}")));
        }
        let stand = |text: String| VerifiedStand::read(&text, previous).map(|stand| (text, stand));
        let mut evidence = Self::new(raw.stands.into_iter().map(stand).collect::<Result<_, _>>()?);
        for cut in raw.cuts {
            let log: LogId = cut.log.parse().map_err(bad)?;
            evidence.add(log, cut.read()?);
        }
        Ok(evidence)
    }
}

impl RawCutEvidence {
    fn read(self) -> Result<CutEvidence, Failure> {
        let checkpoint = |text: String| SignedNote::parse(text.as_bytes(), CHECKPOINT_BYTES_MAX);
        let mut extensions = Extensions::default();
        self.extensions.into_iter().try_for_each(|one| one.read_into(&mut extensions))?;
        Ok(CutEvidence {
            extensions,
            equivocation: self.equivocation.map(|hex| equivocation(&hex)).transpose()?,
            checkpoint: self.checkpoint.map(checkpoint).transpose().map_err(bad)?,
        })
    }
}

impl RawExtension {
    fn read_into(self, extensions: &mut Extensions) -> Result<(), Failure> {
        let Self { head, smaller, proof } = self;
        let (size, from) = (head.size, smaller.size);
        let about = |error| bad(format!("that {size} entries extend {from}: {error}"));
        extensions.add(&head.read()?, &smaller.read()?, hashes(&proof)?).map_err(about)
    }
}

impl RawHead {
    fn read(self) -> Result<Head, Failure> {
        Ok(Head { size: self.size, root: self.root.parse().map_err(bad)? })
    }
}

/// Parses hashes in hex.
///
/// # Errors
/// `bad_evidence`.
pub(super) fn hashes(texts: &[String]) -> Result<Vec<Hash>, Failure> {
    if texts.len() > PROOF_HASHES_MAX {
        return Err(bad(format!("a proof of {} hashes", texts.len())));
    }
    texts.iter().map(|text| from_hex(text).map_err(bad)).collect()
}

/// Parses an equivocation as a node shows it, without verifying it.
///
/// # Errors
/// `bad_evidence`.
pub(super) fn equivocation(hex: &str) -> Result<Equivocation, Failure> {
    if hex.len() > 2 * Equivocation::BYTES_MAX {
        return Err(bad("an equivocation that is too long"));
    }
    let pairs: Vec<&[u8]> = hex.as_bytes().chunks(2).collect();
    let byte = |pair: &&[u8]| std::str::from_utf8(pair).ok().and_then(|pair| from_hex::<1>(pair).ok());
    let bytes: Option<Vec<u8>> = pairs.iter().map(|pair| byte(pair).map(|[byte]| byte)).collect();
    let bytes = bytes.ok_or_else(|| bad("an equivocation that is not hex"))?;
    codec::decode(&bytes, Equivocation::BYTES_MAX).map_err(bad)
}

pub(super) fn bad(what: impl std::fmt::Display) -> Failure {
    Failure::new("bad_evidence", what)
}
