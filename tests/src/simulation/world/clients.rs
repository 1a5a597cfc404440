//! Clients that submit events, and the answers that they get.
use super::*;

impl World {
    pub(super) fn wish(&mut self) -> CheckResult {
        let now = Millis(START.0 + self.clock());
        if let Some(deed) = self.load.next(now) {
            self.deeds.push(deed);
            let late = self.fate.below(50);
            self.after(late, Happening::Submit(self.deeds.len() - 1));
        }
        Ok(())
    }

    /// Submits an event at its home; a revocation, after two tries, elsewhere.
    pub(super) fn submit(&mut self, number: usize) -> CheckResult {
        let deed = &mut self.deeds[number];
        if deed.over {
            return Ok(());
        }
        deed.tries += 1;
        let (elsewhere, tries) = (deed.elsewhere, deed.tries);
        let event = deed.event.clone();
        let Some(home) = self.carrier(&event) else { return Ok(()) };
        let again = self.fate.between(500, 3_000);
        if tries < TRIES_MAX {
            self.after(again, Happening::Submit(number));
        }
        let unreachable = self.calm.is_none() && (self.fate.percent(10) || elsewhere.is_some() && tries <= 4);
        match elsewhere.filter(|_| tries > 2 && unreachable) {
            Some(other) if self.fits(other, number) => self.submit_to(other, number),
            None if !unreachable => self.submit_to(home, number),
            _ => Ok(()),
        }
    }

    /// Whether a revocation fits according to a node's copy of the home.
    pub(super) fn fits(&self, node: usize, number: usize) -> bool {
        let Some(running) = &self.nodes[node].running else { return false };
        let event = &self.deeds[number].event;
        let Action::Revoke { identity, version, key, .. } = &event.event().action else { return false };
        let (view, signer) = (running.shared.store.view(), event.signed().signer.hash());
        let join = Join::new(&running.shared.manifest, &view);
        let found = join.identity(*identity).ok().flatten();
        found.is_some_and(|found| join.fits_chain(&found, *version, key.hash(), signer).unwrap_or(false))
    }

    pub(super) fn submit_to(&mut self, node: usize, number: usize) -> CheckResult {
        let Some(running) = &mut self.nodes[node].running else { return Ok(()) };
        let (reply, answer) = oneshot::channel();
        running.replies.push((number, answer));
        self.say(&format!("n{node} gets {}", self.deeds[number].event.event().action.kind()));
        let events = vec![self.deeds[number].submitted()];
        if self.planted == Some(Planted::AnswersFirst) {
            self.answer_first(node, number);
        }
        self.give(node, InboxInput::Submit { events, reply })
    }

    /// Submits an event of an abandoned branch at the log that carries its home now.
    pub(super) fn resubmit(&mut self, node: usize, submission: Submission) -> CheckResult {
        let Some(running) = &self.nodes[node].running else { return Ok(()) };
        let manifest = &running.shared.manifest;
        let place = submission.signed.event.action.place();
        let Some(log) = manifest.homes().get(place) else { return Ok(()) };
        let home = self.federation.owner(self.federation.log(log));
        let Ok(event) = submission.signed.verify(&manifest.federation()) else { return Ok(()) };
        if !self.is_honest(home) || (home != node && self.link(node, home).is_none()) {
            return Ok(());
        }
        self.say(&format!("n{node} submits to n{home} what a branch had: {}", event.event().action.kind()));
        let note = submission.note.map(|text| (note_hash(text.as_bytes()), text));
        let events = vec![Submitted { event, note, recovered: submission.recovered.is_some(), forwarder: None }];
        self.give(home, InboxInput::Submit { events, reply: oneshot::channel().0 })
    }

    /// Planted fault: the receipt comes before the entry is durable.
    pub(super) fn answer_first(&mut self, node: usize, number: usize) {
        let SimulatedMachine { running: Some(running), .. } = &self.nodes[node] else { return };
        let log = self.nodes[node].key;
        let record = running.shared.store.view().log(&self.federation.logs[log]);
        let Ok(Some(record)) = record else { return };
        let (event, index) = (self.deeds[number].event.clone(), record.state.size);
        let entry = VerifiedEntry::of(self.nodes[node].wall(self.clock()), event.clone()).into_bytes();
        let event = event.id();
        self.checker.acknowledge(Acknowledged { event, log, index, entry, claim: None });
    }

    pub(super) fn answer_clients(&mut self, node: usize) -> CheckResult {
        let Some(running) = &mut self.nodes[node].running else { return Ok(()) };
        let mut answered = Vec::new();
        running.replies.retain_mut(|(deed, reply)| match reply.try_recv() {
            Ok(mut answers) => {
                answered.push((*deed, answers.pop().unwrap()));
                false
            }
            Err(oneshot::error::TryRecvError::Empty) => true,
            Err(oneshot::error::TryRecvError::Closed) => false,
        });
        answered.into_iter().try_for_each(|(deed, answer)| self.client_hears(node, deed, answer))
    }

    pub(super) fn client_hears(&mut self, node: usize, number: usize, answer: SubmitOutcome) -> CheckResult {
        let lost = self.calm.is_none() && self.fate.percent(5);
        match answer {
            _ if self.deeds[number].over || lost => Ok(()),
            SubmitOutcome::Taken { index, entry, signed, known } => {
                self.receipt(node, number, index, entry, &signed, known)
            }
            SubmitOutcome::Unsponsored => {
                self.say(&format!("n{node} knows no sponsor"));
                self.give(node, InboxInput::AskAll)
            }
            SubmitOutcome::Refused(refusal) => {
                self.say(&format!("n{node} refuses: {}", refusal.code));
                if matches!(refusal.code.as_str(), "daily_bytes" | "quota") {
                    return broken("no flood shuts the honest out", format!("n{node}: {}", refusal.message));
                }
                let passing =
                    matches!(refusal.code.as_str(), "not_ready" | "outside_window" | "not_home" | "uncertified");
                self.deeds[number].over = !passing && self.deeds[number].elsewhere.is_none();
                Ok(())
            }
        }
    }

    pub(super) fn receipt(
        &mut self,
        node: usize,
        number: usize,
        index: u64,
        entry: Vec<u8>,
        signed: &SignedCheckpoint,
        known: bool,
    ) -> CheckResult {
        let (head, time) = (signed.checkpoint().head, entry_time(&entry));
        let log = self.federation.log(&fama_ledger::replica::log_of(signed));
        self.say(&format!("n{node} took entry {index}, known {known}"));
        let SimulatedMachine { running: Some(running), disk, .. } = &self.nodes[node] else { return Ok(()) };
        let view = running.shared.store.view();
        let watched = Watched { node, view: &view, disk, boot: &running.boot };
        let told = self.checker.told_head(&watched, log, head);
        self.judge(node, told)?;
        if !known {
            self.the_clock_was_right(running, node, time)?;
        }
        let elsewhere = self.carrier(&self.deeds[number].event) != Some(node);
        let deed = &mut self.deeds[number];
        deed.over = true;
        let claim = claim_of(&deed.event.event().action).filter(|_| elsewhere);
        let event = deed.event.id();
        self.checker.acknowledge(Acknowledged { event, log, index, entry, claim });
        self.load.acknowledged(&self.deeds[number]);
        Ok(())
    }

    /// A node whose clock is far ahead of enough recently heard clocks must not accept anything.
    pub(super) fn the_clock_was_right(&self, running: &RunningNode, node: usize, time: Millis) -> CheckResult {
        let clock = self.clock();
        let fresh = running.boot.clocks.iter().filter(|(peer, at)| {
            clock - **at < 55_000
                && **at > self.nodes[node].skewed
                && self.is_honest(**peer)
                && self.nodes[**peer].skew.abs() < 1_000
        });
        let ahead = self.nodes[node].skew > 60_000 && time.0 > START.0 + clock + 60_000;
        if ahead && self.liars.is_empty() && fresh.count() >= 2 && self.wrong_clocks() == 1 {
            return broken("a node whose clock is ahead accepts nothing", format!("n{node}: {time}"));
        }
        Ok(())
    }

    pub(super) fn wrong_clocks(&self) -> usize {
        self.nodes.iter().filter(|node| node.skew != 0).count()
    }
}
