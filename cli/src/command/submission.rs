//! The steps of every command that submits an event: show, sign, submit, check the receipt, wait.
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use fama_ledger::base64;
use fama_ledger::event::Action;
use fama_ledger::id::did;
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::proof::TlogProof;
use fama_ledger::secret::SecretKey;
use fama_node::wire::{Receipt, Submission};
use serde_json::{Value, json};

use crate::author::{self, EventDraft};
use crate::failure::Failure;
use crate::files;
use crate::progress;
use crate::query::Query;
use crate::submit::{self, Accepted, CertifiedSizes, NodeConnection};
use crate::terminal::{FieldList, Terminal};

/// Arguments of every command that submits an event.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Submission")]
pub(crate) struct SubmissionArgs {
    /// The federation's manifest, used to verify receipts
    #[arg(long, value_name = "FILE")]
    pub(crate) manifest: PathBuf,
    /// The key that signs (PKCS#8 PEM, mode 0600)
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// Node to submit to [default: those of the manifest, the home's first] (repeatable)
    #[arg(long, value_name = "MULTIADDR")]
    pub(crate) node: Vec<String>,
    /// Node to ask about handles, DIDs and key versions
    #[arg(long, value_name = "URL")]
    pub(crate) query: Option<String>,
    /// Wait until the event is in the log, or until it is final: cosigned by a quorum
    #[arg(long, value_enum, default_value_t = Wait::Accepted, value_name = "UNTIL")]
    pub(crate) wait: Wait,
    /// How long to wait for it to be final
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(..=86_400))]
    pub(crate) timeout: u64,
    /// Sign without confirmation
    #[arg(long)]
    pub(crate) yes: bool,
    /// Print text and signature, but send nothing
    #[arg(long, visible_alias = "print-only")]
    pub(crate) dry_run: bool,
}

/// The values of `--wait`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Wait {
    /// Durable in the log
    Accepted,
    /// Cosigned by a quorum; it can never be undone
    Final,
}

impl SubmissionArgs {
    /// Reads the manifest.
    ///
    /// # Errors
    /// As [`files::read_manifest`].
    pub(crate) fn manifest(&self) -> Result<Arc<Manifest>, Failure> {
        files::read_manifest(&self.manifest)
    }

    /// Reads the signing key.
    ///
    /// # Errors
    /// As [`files::read_key`].
    pub(crate) fn key(&self) -> Result<SecretKey, Failure> {
        files::read_key(&self.key)
    }

    /// The node to ask about identities, if one was named.
    #[must_use]
    pub(crate) fn query(&self) -> Option<Query> {
        self.query.as_deref().map(Query::new)
    }

    /// Shows the draft, asks for confirmation, signs, submits, checks the receipt and prints it. Gives `None` if nothing
    /// was sent.
    ///
    /// # Errors
    /// Why the event was not accepted, or `not_final`.
    pub(crate) fn finish(
        &self,
        terminal: &mut Terminal<'_>,
        manifest: &Manifest,
        draft: EventDraft<'_>,
    ) -> Result<Option<Accepted>, Failure> {
        let (text, signer) = (draft.event.text(), draft.signer.public());
        terminal.say(format!("This will be signed by {signer}:\n\n{}", author::shown(&text)));
        if let Some(note) = &draft.note {
            terminal.say(format!("with this note, which is not part of the event:\n\n{}", author::shown(note)));
        }
        if self.dry_run {
            let submission = draft.sign()?;
            return unsent(terminal, &submission).map(|()| None);
        }
        terminal.confirm("Sign and submit?", self.yes)?;
        let submission = draft.sign()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|error| Failure::new("runtime", error))?;
        runtime.block_on(self.submit(terminal, manifest, &submission)).map(Some)
    }

    async fn submit(
        &self,
        terminal: &mut Terminal<'_>,
        manifest: &Manifest,
        submission: &Submission,
    ) -> Result<Accepted, Failure> {
        let event = &submission.signed.event;
        let addresses = if self.node.is_empty() { submit::addresses(manifest, event) } else { self.node.clone() };
        let spinner = progress::spinner("submitting");
        let (connection, accepted) = submit::submit_to_any(manifest, &addresses, submission).await?;
        spinner.set_message("accepted; waiting for a quorum's cosignatures");
        let waited = self.wait(&connection, manifest, &accepted).await;
        let (certified, mut failure) = match waited {
            Ok(certified) => (certified, None),
            Err(failure) => (CertifiedSizes::default(), Some(failure)),
        };
        let mut receipt = receipt_json(&event.action, &accepted, manifest, &certified);
        let mut people = receipt_table(&event.action, &accepted, manifest, &certified);
        if submit::is_claim(manifest, event, &accepted.receipt.log) {
            spinner.set_message("the home did not take it; telling other operators");
            let (claims, wanted) = (self.claims(manifest, submission, &accepted).await, manifest.faults() + 1);
            receipt["claims"] = claims.iter().map(ToString::to_string).collect();
            receipt["claims_wanted"] = json!(wanted);
            let names = claims.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            people
                .0
                .push(("claimed", format!("in {} of the {wanted} logs that every reader sees: {names}", claims.len())));
            if claims.len() < wanted {
                let message = "its home did not take the revocation, and too few other logs have it";
                failure = failure.or_else(|| {
                    Some(Failure::new("too_few_claims", message).hint(
                        "readers who accept that logs are missing may not see it yet: submit it again in a moment",
                    ))
                });
            }
        }
        spinner.finish_and_clear();
        match failure {
            None => terminal.answer(&receipt, people).map(|()| accepted),
            Some(mut failure) => {
                terminal.say(people);
                failure.achieved = Some(("receipt", receipt));
                Err(failure)
            }
        }
    }

    /// The logs that have a revocation which its home did not take. Submits it to further operators until as many have
    /// it as lie at most and one: then every reader sees it who accepts a proof without the logs of those who lie.
    async fn claims(&self, manifest: &Manifest, submission: &Submission, accepted: &Accepted) -> BTreeSet<LogId> {
        let event = &submission.signed.event;
        let mut logs = BTreeSet::from([accepted.receipt.log.clone()]);
        for operator in manifest.operators() {
            if logs.len() > manifest.faults() || logs.iter().any(|log| !submit::is_claim(manifest, event, log)) {
                break;
            }
            if logs.contains(&operator.log()) || manifest.log_for(&event.action) == Some(operator.log()) {
                continue;
            }
            if let Ok((connection, more)) = submit::submit_to_any(manifest, &operator.addresses, submission).await
                && self.wait(&connection, manifest, &more).await.is_ok()
            {
                logs.insert(more.receipt.log);
            }
        }
        logs
    }

    /// How far the log is final, after waiting for the entry if the user asked for it.
    async fn wait(
        &self,
        connection: &NodeConnection<'_>,
        manifest: &Manifest,
        accepted: &Accepted,
    ) -> Result<CertifiedSizes, Failure> {
        if accepted.cosigned_by.len() >= manifest.quorum() {
            let sizes = accepted.cosigned_by.iter().map(|operator| (operator.clone(), accepted.head.size)).collect();
            return Ok(CertifiedSizes { size: accepted.head.size, sizes });
        }
        let timeout = match self.wait {
            Wait::Accepted => return Ok(CertifiedSizes::default()),
            Wait::Final => Duration::from_secs(self.timeout),
        };
        connection.wait_final(&accepted.receipt.log, accepted.receipt.index, timeout, |_| ()).await
    }
}

/// Prints the signed event that was not sent.
fn unsent(terminal: &mut Terminal<'_>, submission: &Submission) -> Result<(), Failure> {
    let signed = &submission.signed;
    let signature = base64::encode(&author::edge_bytes(&signed.signature)?);
    let second = signed.countersignature.as_ref().map(author::edge_bytes).transpose()?;
    let second = second.map(|bytes| base64::encode(&bytes));
    let json = json!({
        "event": signed.event.id().to_string(), "text": signed.event.text(), "signer": signed.signer.to_string(),
        "signature": signature, "countersignature": second, "note": submission.note, "invite": submission.invite,
    });
    let mut lines = vec![("event", signed.event.id().to_string()), ("signature", signature)];
    lines.extend(second.map(|second| ("countersignature", second)));
    let people = format!("{}\n{}", signed.event.text(), FieldList(lines));
    terminal.answer(&json, people)
}

fn receipt_json(action: &Action, accepted: &Accepted, manifest: &Manifest, certified: &CertifiedSizes) -> Value {
    let Accepted { receipt, time, head, .. } = accepted;
    let is_final = certified.size > receipt.index;
    let cosigned: Vec<&str> =
        certified.sizes.iter().filter(|(_, size)| **size > receipt.index).map(|(o, _)| o.as_str()).collect();
    let mut json = json!({
        "event": receipt.event.to_string(), "kind": action.kind().as_str(), "log": receipt.log.to_string(),
        "index": receipt.index, "time": time.to_string(), "size": head.size, "known": receipt.known,
        "final": is_final, "cosigned_by": cosigned, "quorum": manifest.quorum(), "proof": carrying(receipt),
    });
    if let Action::Register { home, name, .. } = action {
        json["identity"] = json!(receipt.event.to_string());
        json["handle"] = json!(format!("{name}@{home}"));
        json["did"] = json!(did(home, &receipt.event));
    }
    json
}

/// The proof including its entry, as `fama verify` reads it.
fn carrying(receipt: &Receipt) -> String {
    let carry = |proof: TlogProof| TlogProof { extra: Some(receipt.entry.clone()), ..proof }.to_string();
    receipt.proof.parse().map_or_else(|_| receipt.proof.clone(), carry)
}

fn receipt_table(action: &Action, accepted: &Accepted, manifest: &Manifest, certified: &CertifiedSizes) -> FieldList {
    let Accepted { receipt, time, .. } = accepted;
    let known = if receipt.known { " (it was there before)" } else { "" };
    let mut lines = vec![
        ("accepted", format!("{}{known}", receipt.event)),
        ("where", format!("log {}, entry {}, {time}", receipt.log, receipt.index)),
        ("proof", format!("checked: the owner of {} signed for it", receipt.log)),
    ];
    let cosigned = certified.sizes.values().filter(|size| **size > receipt.index).count();
    lines.push(if certified.size > receipt.index {
        ("final", format!("yes: {cosigned} of {} operators cosigned it", manifest.operators().len()))
    } else {
        ("final", format!("not yet: {} operators must cosign it", manifest.quorum()))
    });
    if let Action::Register { home, name, .. } = action {
        lines.push(("identity", receipt.event.to_string()));
        lines.push(("handle", format!("{name}@{home}")));
        lines.push(("did", did(home, &receipt.event)));
    }
    FieldList(lines)
}
