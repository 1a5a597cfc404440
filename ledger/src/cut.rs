//! Who may sign the cut of a log: the rule that keeps what is final, whatever a draft's author wants.
use alloc::vec::Vec;

mod extensions;

pub use extensions::{EXTENSIONS_MAX, ExtensionError, Extensions, RootSource, find};

use crate::equivocation::{Equivocation, EquivocationError};
use crate::id::Domain;
use crate::log::Head;
use crate::manifest::{Cut, LogId, Manifest};
use crate::note_quorum::NoteQuorum;
use crate::signed_note::SignedNote;
use crate::stand::{Stand, VerifiedStand};

/// What is shown for one cut.
#[derive(Clone, Copy, Debug)]
pub struct ProposedCut<'a> {
    /// The version before the one that cuts.
    pub previous: &'a Manifest,
    /// The cut.
    pub cut: &'a Cut,
    /// Stands; those of other logs and versions count for nothing.
    pub stands: &'a [VerifiedStand],
    /// Which of the heads in the stands the cut extends, and where the others part from it and from one another.
    pub extensions: &'a Extensions,
    /// That the log's owner signed two branches.
    pub equivocation: Option<&'a Equivocation>,
    /// The cut's head as a signed note, with cosignatures.
    pub checkpoint: Option<&'a SignedNote>,
}

/// Why an operator may sign a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// The cut equals or extends the largest head that the operator cosigned.
    Extends,
    /// A quorum cosigned the cut's head.
    Certified,
    /// So many others cosigned nothing on the branch that the operator gives up that it is certified nowhere.
    GivenUp,
}

/// Why an operator may not sign a cut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CutError {
    /// The operator's own stand is not among what is shown.
    #[error("no stand of {operator} in {log} for this version")]
    NoStand {
        /// Who wants to sign.
        operator: Domain,
        /// The log.
        log: LogId,
    },
    /// Two different stands of one operator in the log: it lies, or its disk lost one.
    #[error("two different stands of {operator} in {log}")]
    TwoStands {
        /// Whose.
        operator: Domain,
        /// The log.
        log: LogId,
    },
    /// The cut does not extend what the operator cosigned, and nothing lets it give that up.
    #[error("{operator} cosigned {log} up to {cosigned} entries, which a cut at {cut} does not extend")]
    Conflict {
        /// Who wants to sign.
        operator: Domain,
        /// The log.
        log: LogId,
        /// Size of the largest head that it cosigned.
        cosigned: u64,
        /// Size of the cut.
        cut: u64,
    },
    /// What should prove that the owner signed two branches does not.
    #[error("no equivocation of {log}: {error}")]
    Equivocation {
        /// The log.
        log: LogId,
        /// Why not.
        error: EquivocationError,
    },
    /// Too few operators show that they cosigned nothing on the branch to be given up.
    #[error(
        "{found} operators of version {version} are shown to have cosigned nothing on the branch of {log} that is given up, {wanted} must"
    )]
    TooFewStands {
        /// The log.
        log: LogId,
        /// Whose operators count.
        version: u32,
        /// How many others than the owner cosigned nothing there.
        found: usize,
        /// How many must.
        wanted: usize,
    },
}

impl CutError {
    /// Stable code.
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
    /// [`CutError`]: what is missing or wrong.
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

    /// The operators of the version before who may sign, in its order.
    #[must_use]
    pub fn signers(&self) -> Vec<&Domain> {
        let names = self.previous.operators().iter().map(|operator| &operator.name);
        names.filter(|name| self.check(name).is_ok()).collect()
    }

    /// The operator's stand in this log for the version that is prepared.
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

    /// The versions under which a branch may begin that conflicts with the cut: the one adopted there and, as
    /// that adoption may not be certified yet, the one before it.
    fn versions(&self) -> Vec<u32> {
        let since = self.previous.log(&self.cut.log).map_or(1, |known| known.since);
        let mut versions = Vec::from([self.cut.adopted.saturating_sub(1).max(since), self.cut.adopted.max(since)]);
        versions.dedup();
        versions
    }

    /// Whether so many others than the owner are beside the branch of `own` that a quorum of `version` cosigned
    /// nothing there that the cut lacks, at most f of them lying, the owner being one.
    fn check_stands(&self, version: u32, own: &Head) -> Result<(), CutError> {
        let beside = |head: &Head| self.extensions.is_beside(head, own, &self.cut.head);
        let found = self.others(version, beside).count();
        let wanted = self.previous.at(version).map_or(usize::MAX, |version| wanted(version, &self.cut.log.operator));
        if found < wanted {
            return Err(CutError::TooFewStands { log: self.cut.log.clone(), version, found, wanted });
        }
        Ok(())
    }

    /// The operators of `version` other than the owner of whose stands `is` holds.
    fn others(&self, version: u32, is: impl Fn(&Head) -> bool) -> impl Iterator<Item = &Domain> {
        let operators = self.previous.at(version).map_or(&[][..], Manifest::operators);
        let names = operators.iter().map(|operator| &operator.name).filter(|name| **name != self.cut.log.operator);
        names.filter(move |name| matches!(self.stand_of(name), Ok(Some(stand)) if is(&stand.head)))
    }

    /// Whether an honest operator surely cosigned the cut, or more of its branch: else perhaps nobody can show its
    /// entries. It knew that all adoptions up to there are certified, or all but the last.
    #[must_use]
    pub fn is_held(&self) -> bool {
        let cut = &self.cut.head;
        let holders = self.others(self.previous.version(), |head| self.extensions.extends(head, cut)).count();
        holders >= honest(self.previous, &self.cut.log.operator)
    }

    /// Whether quorums of all versions that count cosigned the cut's head.
    fn is_certified(&self) -> bool {
        let Some(note) = self.checkpoint else { return false };
        self.versions().into_iter().all(|version| self.cosigned_under(note, version) == Some(true))
    }

    fn cosigned_under(&self, note: &SignedNote, version: u32) -> Option<bool> {
        // A note that cannot be read certifies nothing.
        let quorum = NoteQuorum::read(note, &self.cut.log, self.previous, self.previous.at(version)?).ok()?;
        Some(quorum.signed.checkpoint().head == self.cut.head && quorum.is_reached())
    }
}

/// Of how many operators other than `owner`, who lies, one is honest.
#[must_use]
pub fn honest(version: &Manifest, owner: &Domain) -> usize {
    version.faults().saturating_add(usize::from(version.operator(owner).is_none()))
}

/// How many others than `owner` must have cosigned nothing on a branch before it is given up, if `version` governs it:
/// n − q + f, and one more if the owner, who lies, is not among its operators.
fn wanted(version: &Manifest, owner: &Domain) -> usize {
    let n = version.operators().len();
    n.saturating_sub(version.quorum()).saturating_add(honest(version, owner))
}

/// The cut to propose: the one that most operators may sign; of those, one that an honest operator surely holds; of
/// those the largest.
#[must_use]
pub fn choose<'s, 'a>(candidates: &'s [ProposedCut<'a>]) -> Option<&'s ProposedCut<'a>> {
    candidates.iter().max_by_key(|shown| (shown.signers().len(), shown.is_held(), shown.cut.head))
}

#[cfg(test)]
mod tests;
