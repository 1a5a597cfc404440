//! What a cut dropped: nodes submit it again by themselves.
use super::*;

/// Nodes submit what a cut dropped again within this time, in milliseconds.
const RESUBMIT_MILLIS_MAX: u64 = 25_000;

/// The state of an event that the simulation itself submits again, to see whether nodes should have.
pub(super) enum Resubmission {
    Asked(oneshot::Receiver<Vec<SubmitOutcome>>),
    /// Its home was not ready; to be asked again.
    Later,
    /// Its home already has it, or has a reason to refuse it.
    Answered,
}

impl World {
    /// Whether everything that cuts dropped is in a log again or no longer fits; nodes must have submitted it by
    /// themselves.
    pub(in crate::simulation::world) fn dropped_are_back(&mut self) -> Result<bool, StopReason> {
        for (event, again) in &mut self.governance.again {
            let Resubmission::Asked(reply) = again else { continue };
            match reply.try_recv().ok().and_then(|mut answers| answers.pop()) {
                Some(SubmitOutcome::Taken { known: false, .. }) => {
                    return broken("what a cut drops is submitted again", event.to_string()).map(|()| false);
                }
                Some(SubmitOutcome::Refused(refusal)) if refusal.code == "not_ready" => *again = Resubmission::Later,
                Some(_) => *again = Resubmission::Answered,
                None => {}
            }
        }
        let Some(node) = self.able().first().copied() else { return Ok(false) };
        let Some(running) = &self.nodes[node].running else { return Ok(false) };
        let open = self.checker.not_back(&running.shared.store.view(), &self.governance.dead)?;
        if self.now < *self.governance.quiet.get_or_insert(self.now) + RESUBMIT_MILLIS_MAX && !open.is_empty() {
            return Ok(false);
        }
        let answered = |event: &EventId| matches!(self.governance.again.get(event), Some(Resubmission::Answered));
        let missing: Vec<EventId> = open.into_iter().filter(|event| !answered(event)).collect();
        let over = missing.is_empty();
        let idle = |event: &EventId| !matches!(self.governance.again.get(event), Some(Resubmission::Asked(_)));
        let to_ask: Vec<EventId> = missing.into_iter().filter(idle).collect();
        to_ask.into_iter().try_for_each(|event| self.submit_again(event))?;
        Ok(over)
    }

    fn submit_again(&mut self, event: EventId) -> CheckResult {
        let deed = self.deeds.iter().find(|deed| deed.event.id() == event).unwrap();
        let (submitted, Some(home)) = (deed.submitted(), self.carrier(&deed.event)) else {
            self.governance.again.insert(event, Resubmission::Answered);
            return Ok(());
        };
        let (reply, answer) = oneshot::channel();
        self.say(&format!("n{home} gets {event} again"));
        self.governance.again.insert(event, Resubmission::Asked(answer));
        self.give(home, InboxInput::Submit { events: vec![Submitted { recovered: true, ..submitted }], reply })
    }
}
