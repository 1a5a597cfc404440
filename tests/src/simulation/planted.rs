//! Known bugs, planted around the nodes: each must be caught, or the simulation checks nothing.
use fama_ledger::event::Kind;
use fama_ledger::manifest::faults;
use fama_node::inbox::InboxInput;

use super::plan::{Change, Disk, Plan, Trouble};

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Planted {
    /// Writes are reported as synced that are not.
    SyncIsALie,
    /// A restarted node believes that it asked everybody.
    GateOpensUnasked,
    /// An operator cosigns each head that it hears of, whatever it has.
    CosignsBlindly,
    /// An operator cosigns a smaller head than it did before.
    CosignsSmaller,
    /// A receipt is given before its entry is written.
    AnswersFirst,
    /// Entries with a revocation get lost on their way to the inbox.
    DropsRevocations,
    /// A node takes everybody's clock for its own.
    BelievesAnyClock,
    /// A flipped bit is read as if nothing were.
    FlipsUnnoticed,
    /// One operator more lies than the federation withstands.
    TooManyLiars,
    /// Who stands still in a log cosigns it all the same.
    CosignsStanding,
    /// A log is cut without a look at what was cosigned.
    CutsBlindly,
    /// Nobody hands in again what a cut dropped.
    DropsForGood,
}

impl Planted {
    pub(super) const ALL: [Self; 12] = [
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
        Self::DropsForGood,
    ];

    /// The promise that it breaks.
    pub(super) const fn breaks(self) -> &'static str {
        match self {
            Self::SyncIsALie | Self::CosignsBlindly => "what is told is durable",
            Self::GateOpensUnasked => "nothing is signed before enough operators answered",
            Self::CosignsSmaller => "no smaller head is cosigned",
            Self::AnswersFirst => "an acknowledged event is never lost",
            Self::DropsRevocations => "when the troubles end, everything honest becomes final",
            Self::BelievesAnyClock => "a clock that is ahead takes nothing in",
            Self::FlipsUnnoticed => "equal frontiers, equal states",
            Self::CosignsStanding => "who stands still cosigns nothing more",
            Self::CutsBlindly => "no cut takes back what is final",
            Self::DropsForGood => "what a cut drops is handed in again",
            Self::TooManyLiars => "certified heads extend one another",
        }
    }

    /// Makes sure that there is an occasion to be wrong.
    pub(super) fn bend(self, plan: &mut Plan) {
        let middle = plan.busy / 2;
        let trouble = match self {
            Self::GateOpensUnasked => Trouble::Crash { node: 0, writes: None, down: 500, disk: Disk::Same },
            Self::FlipsUnnoticed => Trouble::Damage { node: 0, choice: plan.busy },
            Self::BelievesAnyClock => Trouble::Clock { node: 0, skew: 7_200_000, millis: plan.busy },
            Self::TooManyLiars if plan.operators >= 4 => {
                plan.liars = (0..=faults(plan.operators)).collect();
                plan.troubles.clear();
                Trouble::Cut { side: 1 << (plan.operators - 1), millis: plan.busy, silent: false }
            }
            Self::DropsForGood if plan.operators >= 4 => {
                plan.liars.clear();
                plan.troubles.clear();
                plan.changes = vec![(middle, Change::Renew { node: 0 })];
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
