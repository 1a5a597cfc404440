//! Delivers a signed event: submits it, checks the receipt, waits until it is final, has a revocation claimed; and keeps it
//! as pending until its outcome is known.
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use fama_ledger::event::Action;
use fama_ledger::id::did;
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::proof::CertifiedBy;
use fama_node::wire::Submission;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout_at};

use crate::chain;
use crate::failure::Failure;
use crate::pending::{Pending, PendingFolder, SubmissionText};
use crate::progress;
use crate::submit::{self, Accepted, NodeConnection, NotAccepted};
use crate::terminal::{FieldList, Terminal};

/// First pause before a node is asked again whether an event is final; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest of these pauses.
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// The values of `--wait`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Wait {
    /// Durable in the log
    Accepted,
    /// Cosigned by a quorum; it can never be undone
    Final,
}

/// How an event is to be delivered.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    /// The file of the manifest.
    pub(crate) path: PathBuf,
    /// The newest version known from it.
    pub(crate) manifest: Arc<Manifest>,
    /// The nodes to submit to, as multiaddresses; empty for those of the manifest.
    pub(crate) nodes: Vec<String>,
    /// What to wait for.
    pub(crate) wait: Wait,
    /// How long to wait for an accepted event to be final.
    pub(crate) timeout: Duration,
}

/// The receipt of a delivered event, for programs and for people.
pub(crate) struct Delivered {
    /// The answer of the node that took it.
    pub(crate) accepted: Accepted,
    /// As a JSON object.
    pub(crate) json: Value,
    /// As lines for people.
    pub(crate) people: FieldList,
}

impl Delivery {
    /// Delivers an event. It is pending from before it is sent until its outcome is known; where it cannot be kept, a
    /// remark says so.
    ///
    /// # Errors
    /// The refusal of the log. Undecided if the event may be in a log, or is in one and is not what was waited for yet.
    pub(crate) fn run(&self, terminal: &mut Terminal<'_>, submission: &Submission) -> Result<Delivered, Failure> {
        let (folder, id) = (PendingFolder::of_user(), submission.signed.event.id());
        // It was sent before: that it could not be sent now, or was not taken for a passing reason, says nothing of then.
        let before = folder.as_ref().is_some_and(|folder| folder.has(&id));
        let pending = Pending {
            submission: SubmissionText::of(submission)?,
            manifest: std::path::absolute(&self.path).unwrap_or_else(|_| self.path.clone()),
            nodes: self.nodes.clone(),
            until_final: self.wait == Wait::Final,
        };
        match folder.as_ref().map(|folder| folder.put(&id, &pending)) {
            Some(Ok(())) => {}
            Some(Err(failure)) => terminal.say(format!("Should this be interrupted, it is not remembered: {failure}")),
            None => terminal.say("Should this be interrupted, it is not remembered: HOME is not set."),
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|error| Failure::new("runtime", error))?;
        let delivered = runtime.block_on(self.deliver(terminal, submission)).map_err(|failure| {
            if before && !failure.undecided && !submit::is_verdict(&failure.code) {
                return failure.hint(submit::RESUME).undecided();
            }
            failure
        });
        // A program needs the id to say which event it resumes.
        let delivered = delivered.map_err(|failure| match failure.achieved {
            None if failure.undecided => failure.achieved("event", json!(id.to_string())),
            _ => failure,
        });
        let open = delivered.as_ref().is_err_and(|failure| failure.undecided);
        if let Some(folder) = folder.filter(|_| !open)
            && let Err(failure) = folder.remove(&id)
        {
            terminal.say(format!("`fama resume` will submit it once more, which changes nothing: {failure}"));
        }
        delivered
    }

    async fn deliver(&self, terminal: &mut Terminal<'_>, submission: &Submission) -> Result<Delivered, Failure> {
        let event = &submission.signed.event;
        let addresses =
            if self.nodes.is_empty() { submit::addresses(&self.manifest, event) } else { self.nodes.clone() };
        let spinner = progress::spinner("submitting");
        let (connection, accepted) = submit::submit_to_any(&self.manifest, &addresses, submission).await?;
        let manifest = Arc::clone(&connection.manifest);
        if manifest.version() > self.manifest.version() {
            chain::keep(&self.path, &manifest);
        }
        spinner.set_message("accepted; waiting for a quorum's cosignatures");
        let waiting = Waiting { addresses: &addresses, submission, deadline: Instant::now() + self.timeout };
        let accepted = match self.wait {
            Wait::Accepted => accepted,
            Wait::Final => waiting.until_final(connection, accepted).await,
        };
        let mut failure = (self.wait == Wait::Final && !accepted.is_final()).then(|| {
            let message = format!("in the log, but not final after {} s", self.timeout.as_secs());
            Failure::new("not_final", message)
                .hint("fewer than a quorum of operators cosigned it so far; `fama resume` asks again")
                .undecided()
        });
        let mut json = receipt_json(&event.action, &accepted, &manifest);
        let mut people = receipt_table(&event.action, &accepted, &manifest);
        if submit::is_claim(&manifest, event, &accepted.receipt.log) {
            spinner.set_message("the home did not take it; telling other operators");
            let claims = self.claims(&manifest, &waiting, &accepted).await;
            let wanted = manifest.faults() + 1;
            json["claims"] = claims.iter().map(ToString::to_string).collect();
            json["claims_wanted"] = json!(wanted);
            let names = claims.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let claimed = format!("in {} of the {wanted} logs that every reader sees: {names}", claims.len());
            people.0.push(("claimed", claimed));
            if claims.len() < wanted {
                let message = "its home did not take the revocation, and too few other logs have it";
                failure = failure.or_else(|| {
                    let hint = "readers who accept that logs are missing may not see it yet: `fama resume` tells \
                                further operators";
                    Some(Failure::new("too_few_claims", message).hint(hint).undecided())
                });
            }
        }
        spinner.finish_and_clear();
        match failure {
            None => Ok(Delivered { accepted, json, people }),
            Some(mut failure) => {
                terminal.say(people);
                failure = failure.achieved("receipt", json);
                Err(failure)
            }
        }
    }

    /// The logs that have a revocation which its home did not take. Submits it to further operators until as many have
    /// it as lie at most and one: then every reader sees it who accepts a proof without the logs of those who lie.
    async fn claims(&self, manifest: &Arc<Manifest>, waiting: &Waiting<'_>, accepted: &Accepted) -> BTreeSet<LogId> {
        let event = &waiting.submission.signed.event;
        let mut logs = BTreeSet::from([accepted.receipt.log.clone()]);
        for operator in manifest.operators() {
            if logs.len() > manifest.faults() || logs.iter().any(|log| !submit::is_claim(manifest, event, log)) {
                break;
            }
            if logs.contains(&operator.log()) || manifest.log_for(&event.action) == Some(operator.log()) {
                continue;
            }
            let asked = submit::submit_to_any(manifest, &operator.addresses, waiting.submission).await;
            let Ok((connection, more)) = asked else { continue };
            let more = match self.wait {
                Wait::Accepted => more,
                Wait::Final => waiting.until_final(connection, more).await,
            };
            if self.wait == Wait::Accepted || more.is_final() {
                logs.insert(more.receipt.log);
            }
        }
        logs
    }
}

/// Waits for an accepted event to be final: the same text again gets the same place in the log, and the proof of it that
/// the node has by then.
struct Waiting<'a> {
    addresses: &'a [String],
    submission: &'a Submission,
    deadline: Instant,
}

impl Waiting<'_> {
    /// The newest valid receipt when it is final or the time is up.
    async fn until_final(&self, mut connection: NodeConnection, mut accepted: Accepted) -> Accepted {
        let mut pause = FIRST_PAUSE;
        while !accepted.is_final() && Instant::now() + pause < self.deadline {
            sleep(pause).await;
            pause = pause.saturating_mul(2).min(LAST_PAUSE);
            match timeout_at(self.deadline, connection.submit(self.submission)).await {
                Ok(Ok(newer)) => accepted = accepted.renewed(newer),
                // The receipt at hand stays valid whatever the node says now.
                Ok(Err(NotAccepted::Refused(_))) | Err(_) => {}
                Ok(Err(NotAccepted::NotSent(_) | NotAccepted::Unproven(_))) => {
                    let again = submit::submit_to_any(&connection.manifest, self.addresses, self.submission);
                    if let Ok(Ok((other, newer))) = timeout_at(self.deadline, again).await {
                        (connection, accepted) = (other, accepted.renewed(newer));
                    }
                }
            }
        }
        accepted
    }
}

fn receipt_json(action: &Action, accepted: &Accepted, manifest: &Manifest) -> Value {
    let Accepted { receipt, included } = accepted;
    let mut json = json!({
        "event": receipt.event.to_string(), "kind": action.kind().as_str(), "log": receipt.log.to_string(),
        "index": receipt.index, "time": included.entry.time.to_string(), "size": included.head.size,
        "known": receipt.known, "final": accepted.is_final(), "cosigned_by": cosigners(accepted),
        "quorum": manifest.quorum(), "manifest_version": manifest.version(), "proof": accepted.proof(),
    });
    if let Action::Register { home, name, .. } = action {
        json["identity"] = json!(receipt.event.to_string());
        json["handle"] = json!(format!("{name}@{home}"));
        json["did"] = json!(did(home, &receipt.event));
    }
    json
}

fn receipt_table(action: &Action, accepted: &Accepted, manifest: &Manifest) -> FieldList {
    let Accepted { receipt, included } = accepted;
    let known = if receipt.known { " (it was there before)" } else { "" };
    let mut lines = vec![
        ("accepted", format!("{}{known}", receipt.event)),
        ("where", format!("log {}, entry {}, {}", receipt.log, receipt.index, included.entry.time)),
        ("proof", format!("checked: the owner of {} signed for it", receipt.log)),
    ];
    lines.push(match &included.certified {
        Some(CertifiedBy::Cosigned { version, by }) => {
            let all = manifest.at(*version).map_or(0, |version| version.operators().len());
            ("final", format!("yes: {} of {all} operators cosigned it", by.len()))
        }
        Some(CertifiedBy::Cut) => ("final", "yes: it is below the end at which the manifest cuts the log".to_owned()),
        None => ("final", format!("not yet: {} operators must cosign it", manifest.quorum())),
    });
    if let Action::Register { home, name, .. } = action {
        lines.push(("identity", receipt.event.to_string()));
        lines.push(("handle", format!("{name}@{home}")));
        lines.push(("did", did(home, &receipt.event)));
    }
    FieldList(lines)
}

/// The operators whose cosignatures make the entry final; none if it is not, or if a manifest cuts its log.
fn cosigners(accepted: &Accepted) -> Vec<&str> {
    match &accepted.included.certified {
        Some(CertifiedBy::Cosigned { by, .. }) => by.iter().map(|(operator, _)| operator.as_str()).collect(),
        Some(CertifiedBy::Cut) | None => Vec::new(),
    }
}
