//! Known bugs, planted around the nodes: each must be caught, or the simulation checks nothing.
use fama_ledger::event::Kind;
use fama_ledger::manifest::faults;
use fama_node::inbox::InboxInput;

use super::plan::{ManifestChange, ReplacementDisk, RunPlan, Trouble};

/// A bug that is planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Planted {
    /// Writes are reported as synced although they are not.
    SyncIsALie,
    /// A restarted node believes that it asked everybody.
    GateOpensUnasked,
    /// An operator cosigns each head that it hears of, whether or not it has the entries.
    CosignsBlindly,
    /// An operator cosigns a smaller head than before.
    CosignsSmaller,
    /// A receipt is given before its entry is written.
    AnswersFirst,
    /// Entries with a revocation are lost on their way to the inbox.
    DropsRevocations,
    /// A node takes everybody's clock for its own.
    BelievesAnyClock,
    /// A flipped bit is read without an error.
    FlipsUnnoticed,
    /// One more operator lies than the federation withstands.
    TooManyLiars,
    /// A node that stands still in a log cosigns it anyway.
    CosignsStanding,
    /// A log is cut without regard to what was cosigned.
    CutsBlindly,
    /// A version is approved although a log has not adopted the one before.
    LeavesBehind,
    /// Nobody submits again what a cut dropped.
    DropsForGood,
    /// Nodes cosign entries however late they arrive.
    CosignsLate,
    /// Nodes cosign entries that an owner which they hear all the time held back.
    CosignsHeldBack,
    /// Nodes store entries whatever their times.
    StoresAhead,
    /// A home gives a subject any number of new providers a day.
    CrowdsSubjects,
    /// A claim against a version that nobody has seen is taken as if a receipt showed it.
    ClaimsUnseen,
    /// Renewed cosignatures are lost on their way to the inbox. Only a quiet run shows it.
    DropsRenewals,
    /// Cosignatures with times of the future are kept. Only a quiet run shows it.
    KeepsFuture,
}

impl Planted {
    pub(super) const ALL: [Self; 18] = [
        Self::SyncIsALie,
        Self::GateOpensUnasked,
        Self::CosignsBlindly,
        Self::CosignsSmaller,
        Self::AnswersFirst,
        Self::DropsRevocations,
        Self::BelievesAnyClock,
        Self::FlipsUnnoticed,
        Self::TooManyLiars,
        Self::CosignsStanding,
        Self::CutsBlindly,
        Self::LeavesBehind,
        Self::DropsForGood,
        Self::CosignsLate,
        Self::CosignsHeldBack,
        Self::StoresAhead,
        Self::CrowdsSubjects,
        Self::ClaimsUnseen,
    ];

    /// The promise that the bug breaks.
    pub(super) const fn breaks(self) -> &'static str {
        match self {
            Self::SyncIsALie | Self::CosignsBlindly => "what is told is durable",
            Self::GateOpensUnasked => "nothing is signed before enough operators answered",
            Self::CosignsSmaller => "no smaller head is cosigned",
            Self::AnswersFirst => "an acknowledged event is never lost",
            Self::DropsRevocations => "when the troubles end, everything honest becomes final",
            Self::BelievesAnyClock => "a node whose clock is ahead accepts nothing",
            Self::FlipsUnnoticed => "equal frontiers, equal states",
            Self::CosignsStanding => "a node that stands still cosigns nothing more",
            Self::CutsBlindly => "no cut takes back what is final",
            Self::LeavesBehind => "no version leaves a log behind",
            Self::DropsForGood => "what a cut drops is submitted again",
            Self::CosignsLate => "a liar fills no days of the past",
            Self::TooManyLiars => "certified heads extend one another",
            Self::CosignsHeldBack => "nobody vouches for what was held back",
            Self::StoresAhead => "nothing is stored ahead of time",
            Self::CrowdsSubjects => "one home crowds no subject",
            Self::ClaimsUnseen => "claims are against keys that their home had",
            Self::DropsRenewals => "certificates stay recent",
            Self::KeepsFuture => "nothing from the future is kept",
        }
    }

    /// Changes a run so that the bug has an occasion to show.
    pub(super) fn adjust(self, plan: &mut RunPlan) {
        let middle = plan.busy / 2;
        let trouble = match self {
            Self::CosignsHeldBack if plan.operators >= 4 => {
                plan.liars = vec![0];
                plan.hold_back();
                return;
            }
            Self::CosignsLate | Self::StoresAhead | Self::CrowdsSubjects | Self::ClaimsUnseen
                if plan.operators >= 4 =>
            {
                plan.liars = vec![0];
                plan.troubles.clear();
                plan.changes.clear();
                return;
            }
            Self::GateOpensUnasked => Trouble::Crash { node: 0, writes: None, down: 500, disk: ReplacementDisk::Same },
            Self::FlipsUnnoticed => Trouble::Damage { node: 0, choice: plan.busy },
            Self::BelievesAnyClock => Trouble::Clock { node: 0, skew: 7_200_000, millis: plan.busy },
            Self::TooManyLiars if plan.operators >= 4 => {
                plan.liars = (0..=faults(plan.operators)).collect();
                plan.troubles.clear();
                Trouble::Cut { side: 1 << (plan.operators - 1), millis: plan.busy, silent: false }
            }
            // An operator is away while versions are made.
            Self::LeavesBehind if plan.operators >= 4 => {
                plan.liars.clear();
                plan.troubles.clear();
                plan.changes = (0..3).map(|i| (middle + i, ManifestChange::Policy)).collect();
                Trouble::Cut { side: 1, millis: plan.busy, silent: false }
            }
            Self::DropsForGood if plan.operators >= 4 => {
                plan.liars.clear();
                plan.troubles.clear();
                plan.changes = vec![(middle, ManifestChange::Renew { node: 0 })];
                Trouble::Cut { side: 1, millis: plan.busy, silent: false }
            }
            _ => return,
        };
        plan.troubles.push((middle, trouble));
    }

    pub(super) fn is_dropped(input: &InboxInput) -> bool {
        let InboxInput::Range { range, .. } = input else { return false };
        let events = range.entries.iter().filter_map(|entry| entry.event());
        events.into_iter().any(|event| event.event().action.kind() == Kind::Revoke)
    }
}
