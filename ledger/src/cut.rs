//! Which operators may sign the cut of a log: the rule that protects final entries, whatever a draft proposes.
use alloc::vec::Vec;

mod extensions;

pub use extensions::{EXTENSIONS_MAX, ExtensionError, Extensions, RootSource, find};

use crate::equivocation::{Equivocation, EquivocationError};
use crate::id::Domain;
use crate::log::Head;
use crate::manifest::{Cut, LogId, Manifest};
use crate::note_quorum::NoteReading;
use crate::signed_note::SignedNote;
use crate::stand::{Stand, VerifiedStand};

/// A cut with the evidence that is shown for it.
#[derive(Clone, Copy, Debug)]
pub struct ProposedCut<'a> {
    /// The version before the one that cuts.
    pub previous: &'a Manifest,
    /// The cut that is proposed.
    pub cut: &'a Cut,
    /// Stands of operators; those in other logs or for other versions are ignored.
    pub stands: &'a [VerifiedStand],
    /// Proofs of which stand heads the cut extends, and where the others diverge from it and from each other.
    pub extensions: &'a Extensions,
    /// Proof that the log's owner signed two branches.
    pub equivocation: Option<&'a Equivocation>,
    /// The cut's head as a signed note, with cosignatures.
    pub checkpoint: Option<&'a SignedNote>,
}

/// The reason why an operator may sign a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// The cut equals or extends the largest head that the operator cosigned.
    Extends,
    /// A quorum cosigned the cut's head.
    Certified,
    /// So many other operators cosigned nothing on the branch that this operator gives up that the branch cannot be
    /// certified.
    GivenUp,
}

/// Why an operator may not sign a cut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CutError {
    /// The evidence lacks the operator's own stand.
    #[error("no stand of {operator} in {log} for this version")]
    NoStand {
        /// The operator that wants to sign.
        operator: Domain,
        /// The log that the cut ends.
        log: LogId,
    },
    /// Two different stands of one operator in the log: the operator lies, or its disk lost one.
    #[error("two different stands of {operator} in {log}")]
    TwoStands {
        /// The operator that signed both.
        operator: Domain,
        /// The log that the cut ends.
        log: LogId,
    },
    /// The cut does not extend what the operator cosigned, and nothing allows the operator to give that up.
    #[error("{operator} cosigned {log} up to {cosigned} entries, which a cut at {cut} does not extend")]
    Conflict {
        /// The operator that wants to sign.
        operator: Domain,
        /// The log that the cut ends.
        log: LogId,
        /// Size of the largest head that the operator cosigned.
        cosigned: u64,
        /// Size of the cut.
        cut: u64,
    },
    /// The proof that the owner signed two branches is invalid.
    #[error("invalid proof of an equivocation in {log}: {error}")]
    Equivocation {
        /// The log that the cut ends.
        log: LogId,
        /// Why the proof was refused.
        error: EquivocationError,
    },
    /// Too few operators are shown to have cosigned nothing on the branch to be given up.
    #[error(
        "{found} operators of version {version} are shown to have cosigned nothing on the branch of {log} that is given up, {wanted} must"
    )]
    TooFewStands {
        /// The log that the cut ends.
        log: LogId,
        /// The version whose operators count.
        version: u32,
        /// How many operators other than the owner cosigned nothing there.
        found: usize,
        /// How many are needed.
        wanted: usize,
    },
}

impl CutError {
    /// A stable code for answers, logs and metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoStand { .. } => "cut_no_stand",
            Self::TwoStands { .. } => "cut_two_stands",
            Self::Conflict { .. } => "cut_conflict",
            Self::Equivocation { .. } => "cut_equivocation",
            Self::TooFewStands { .. } => "cut_too_few_stands",
        }
    }
}

impl ProposedCut<'_> {
    /// Whether `operator` may sign the cut, and on what ground.
    ///
    /// # Errors
    /// [`CutError`]: the evidence that is missing or wrong.
    pub fn check(&self, operator: &Domain) -> Result<Ground, CutError> {
        let (log, cut) = (self.cut.log.clone(), self.cut.head.size);
        let Some(own) = self.stand_of(operator)? else {
            return Err(CutError::NoStand { operator: operator.clone(), log });
        };
        if self.extends(&own.head) {
            return Ok(Ground::Extends);
        }
        if self.is_certified() && self.extensions.part(&own.head, &self.cut.head) {
            return Ok(Ground::Certified);
        }
        let Some(equivocation) = self.equivocation.filter(|proof| proof.log == log) else {
            return Err(CutError::Conflict { operator: operator.clone(), log, cosigned: own.head.size, cut });
        };
        equivocation.verify(self.previous).map_err(|error| CutError::Equivocation { log, error })?;
        self.versions().into_iter().try_for_each(|version| self.check_stands(version, &own.head))?;
        Ok(Ground::GivenUp)
    }

    /// The operators of the version before that may sign, in its order.
    #[must_use]
    pub fn signers(&self) -> Vec<&Domain> {
        let names = self.previous.operators().iter().map(|operator| &operator.name);
        names.filter(|name| self.check(name).is_ok()).collect()
    }

    /// The operator's stand in this log for the version in preparation.
    fn stand_of(&self, operator: &Domain) -> Result<Option<&Stand>, CutError> {
        let version = self.previous.version().saturating_add(1);
        let ours =
            |stand: &&Stand| stand.operator == *operator && stand.log == self.cut.log && stand.version == version;
        let mut found = self.stands.iter().map(VerifiedStand::stand).filter(ours);
        let first = found.next();
        if found.any(|other| Some(other) != first) {
            return Err(CutError::TwoStands { operator: operator.clone(), log: self.cut.log.clone() });
        }
        Ok(first)
    }

    /// Whether the cut is shown to equal or extend `head`.
    fn extends(&self, head: &Head) -> bool {
        self.extensions.extends(&self.cut.head, head)
    }

    /// The versions under which a branch that conflicts with the cut may begin: the one adopted at the cut and,
    /// because that adoption may not be certified yet, the one before it.
    fn versions(&self) -> Vec<u32> {
        let since = self.previous.log(&self.cut.log).map_or(1, |known| known.since);
        let mut versions = Vec::from([self.cut.adopted.saturating_sub(1).max(since), self.cut.adopted.max(since)]);
        versions.dedup();
        versions
    }

    /// Checks that so many operators other than the owner are off the branch of `own` that no quorum of `version`
    /// can have cosigned anything on it that the cut lacks, even if f operators lie, the owner among them.
    fn check_stands(&self, version: u32, own: &Head) -> Result<(), CutError> {
        let off_branch = |head: &Head| self.extensions.is_off_branch(head, own, &self.cut.head);
        let found = self.others(version, off_branch).count();
        let wanted = self.previous.at(version).map_or(usize::MAX, |version| wanted(version, &self.cut.log.operator));
        if found < wanted {
            return Err(CutError::TooFewStands { log: self.cut.log.clone(), version, found, wanted });
        }
        Ok(())
    }

    /// The operators of `version`, other than the owner, whose stand has a head for which `is` holds.
    fn others(&self, version: u32, is: impl Fn(&Head) -> bool) -> impl Iterator<Item = &Domain> {
        let operators = self.previous.at(version).map_or(&[][..], Manifest::operators);
        let names = operators.iter().map(|operator| &operator.name).filter(|name| **name != self.cut.log.operator);
        names.filter(move |name| matches!(self.stand_of(name), Ok(Some(stand)) if is(&stand.head)))
    }

    /// Whether an honest operator must have cosigned the cut or a larger head on its branch; otherwise perhaps
    /// nobody has its entries. That operator knew that all adoptions up to the cut, or all but the last, are
    /// certified.
    #[must_use]
    pub fn is_held(&self) -> bool {
        let cut = &self.cut.head;
        let holders = self.others(self.previous.version(), |head| self.extensions.extends(head, cut)).count();
        holders >= honest(self.previous, &self.cut.log.operator)
    }

    /// Whether a quorum of each of [`Self::versions`] cosigned the cut's head.
    fn is_certified(&self) -> bool {
        // A note that cannot be read certifies nothing.
        let reading = self.checkpoint.and_then(|note| NoteReading::of(note, &self.cut.log, self.previous).ok());
        let Some(mut reading) = reading.filter(|reading| reading.signed().checkpoint().head == self.cut.head) else {
            return false;
        };
        self.versions().into_iter().all(|version| {
            let quorum = self.previous.at(version).and_then(|version| reading.quorum(version).ok());
            quorum.is_some_and(|quorum| quorum.is_reached())
        })
    }
}

/// How many operators other than the lying `owner` are sure to include an honest one.
#[must_use]
pub fn honest(version: &Manifest, owner: &Domain) -> usize {
    version.faults().saturating_add(usize::from(version.operator(owner).is_none()))
}

/// How many operators of `version` other than `owner` must have cosigned nothing on a branch before it is given up:
/// n − q + f, and one more if the owner, which lies, is not among them.
fn wanted(version: &Manifest, owner: &Domain) -> usize {
    let n = version.operators().len();
    n.saturating_sub(version.quorum()).saturating_add(honest(version, owner))
}

/// The cut to propose: one that the most operators may sign; among those, one that an honest operator must hold;
/// among those, the largest.
#[must_use]
pub fn choose<'s, 'a>(candidates: &'s [ProposedCut<'a>]) -> Option<&'s ProposedCut<'a>> {
    candidates.iter().max_by_key(|shown| (shown.signers().len(), shown.is_held(), shown.cut.head))
}

#[cfg(test)]
mod tests;
