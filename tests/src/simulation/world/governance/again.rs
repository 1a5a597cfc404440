//! What a cut dropped: nodes hand it in again by themselves.
use super::*;

/// Within that time nodes hand in once more what a cut dropped, in milliseconds.
const AGAIN_MILLIS: u64 = 25_000;

/// What became of an event that was handed in once more.
pub(super) enum Again {
    Asked(oneshot::Receiver<Vec<SubmitOutcome>>),
    /// Its home was not ready.
    Later,
    /// Its home has it, or knows why it does not take it.
    Answered,
}

impl World {
    /// Whether what cuts dropped is in a log again, or does not fit any more: nodes hand it in by themselves.
    pub(in crate::simulation::world) fn dropped_are_back(&mut self) -> Result<bool, Stop> {
        for (event, again) in &mut self.governance.again {
            let Again::Asked(reply) = again else { continue };
            match reply.try_recv().ok().and_then(|mut answers| answers.pop()) {
                Some(SubmitOutcome::Taken { known: false, .. }) => {
                    return broken("what a cut drops is handed in again", event.to_string()).map(|()| false);
                }
                Some(SubmitOutcome::Refused(refusal)) if refusal.code == "not_ready" => *again = Again::Later,
                Some(_) => *again = Again::Answered,
                None => {}
            }
        }
        let Some(node) = self.able().first().copied() else { return Ok(false) };
        let Some(running) = &self.nodes[node].running else { return Ok(false) };
        let open = self.checker.not_back(&running.shared.store.view(), &self.governance.dead)?;
        if self.now < *self.governance.quiet.get_or_insert(self.now) + AGAIN_MILLIS && !open.is_empty() {
            return Ok(false);
        }
        let answered = |event: &EventId| matches!(self.governance.again.get(event), Some(Again::Answered));
        let missing: Vec<EventId> = open.into_iter().filter(|event| !answered(event)).collect();
        let over = missing.is_empty();
        let idle = |event: &EventId| !matches!(self.governance.again.get(event), Some(Again::Asked(_)));
        let to_ask: Vec<EventId> = missing.into_iter().filter(idle).collect();
        to_ask.into_iter().try_for_each(|event| self.hand_in_again(event))?;
        Ok(over)
    }

    fn hand_in_again(&mut self, event: EventId) -> Kept {
        let deed = self.deeds.iter().find(|deed| deed.event.id() == event).unwrap();
        let (submitted, Some(home)) = (deed.submitted(), self.carrier(&deed.event)) else {
            self.governance.again.insert(event, Again::Answered);
            return Ok(());
        };
        let (reply, answer) = oneshot::channel();
        self.say(&format!("n{home} is handed {event} once more"));
        self.governance.again.insert(event, Again::Asked(answer));
        self.give(home, InboxInput::Submit { events: vec![Submitted { recovered: true, ..submitted }], reply })
    }
}
