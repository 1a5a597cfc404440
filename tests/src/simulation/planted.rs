//! Known bugs, planted around the nodes: each must be caught, or the simulation checks nothing.
use fama_ledger::event::Kind;
use fama_node::inbox::Input;

use super::plan::{Disk, Plan, Trouble};

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
}

impl Planted {
    pub(super) const ALL: [Self; 8] = [
        Self::SyncIsALie,
        Self::GateOpensUnasked,
        Self::CosignsBlindly,
        Self::CosignsSmaller,
        Self::AnswersFirst,
        Self::DropsRevocations,
        Self::BelievesAnyClock,
        Self::FlipsUnnoticed,
    ];

    /// Makes sure that there is an occasion to be wrong.
    pub(super) fn bend(self, plan: &mut Plan) {
        let middle = plan.busy / 2;
        let trouble = match self {
            Self::GateOpensUnasked => Trouble::Crash { node: 0, writes: None, down: 500, disk: Disk::Same },
            Self::FlipsUnnoticed => Trouble::Damage { node: 0, choice: plan.busy },
            Self::BelievesAnyClock => Trouble::Clock { node: 0, skew: 7_200_000, millis: plan.busy },
            _ => return,
        };
        plan.troubles.push((middle, trouble));
    }

    pub(super) fn is_dropped(input: &Input) -> bool {
        let Input::Range { range, .. } = input else { return false };
        let events = range.entries.iter().filter_map(|entry| entry.event());
        events.into_iter().any(|event| event.event().action.kind() == Kind::Revoke)
    }
}
