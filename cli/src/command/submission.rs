//! The steps of every command that submits an event: show, sign, deliver.
use std::path::PathBuf;
use std::time::Duration;

use fama_ledger::secret::SecretKey;
use fama_node::wire::Submission;

use crate::author::EventDraft;
use crate::chain;
use crate::delivery::{Delivery, Wait};
use crate::failure::Failure;
use crate::files;
use crate::pending::{PendingFolder, SubmissionText};
use crate::query::Query;
use crate::settings::{self, QueryArgs};
use crate::submit::{self, Accepted};
use crate::terminal::{FieldList, Terminal, ToSign};

/// Default of `--timeout`.
const FINAL_SECONDS: u64 = 60;

/// Arguments of every command that submits an event.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Submission")]
pub(crate) struct SubmissionArgs {
    /// The federation's manifest, used to verify receipts [default: FAMA_MANIFEST, or that of `fama init`]
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// The key that signs (PKCS#8 PEM, mode 0600) [default: FAMA_KEY, or that of `fama init`]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Node to submit to [default: those of the manifest, the home's first] (repeatable)
    #[arg(long, value_name = "MULTIADDR")]
    node: Vec<String>,
    /// Where handles, DIDs and key versions are looked up
    #[command(flatten)]
    query: QueryArgs,
    /// Wait until the event is in the log, or until it is final: cosigned by a quorum
    #[arg(long, value_enum, default_value_t = Wait::Accepted, value_name = "UNTIL")]
    wait: Wait,
    /// How long to wait for it to be final
    #[arg(long, value_name = "SECONDS", default_value_t = FINAL_SECONDS, value_parser = clap::value_parser!(u64).range(..=86_400))]
    timeout: u64,
    /// Sign without confirmation
    #[arg(long)]
    yes: bool,
    /// Print text and signature, but send nothing
    #[arg(long, visible_alias = "print-only")]
    dry_run: bool,
}

impl SubmissionArgs {
    /// The arguments of a submission with this key that waits for consent before it is signed.
    #[must_use]
    pub(super) fn to_confirm(key: PathBuf, manifest: Option<PathBuf>, node: Vec<String>, query: QueryArgs) -> Self {
        let (wait, timeout) = (Wait::Accepted, FINAL_SECONDS);
        Self { manifest, key: Some(key), node, query, wait, timeout, yes: false, dry_run: false }
    }

    /// The same, waiting until the event is final for at most `timeout` seconds.
    #[must_use]
    pub(super) fn until_final(self, timeout: u64) -> Self {
        Self { wait: Wait::Final, timeout, ..self }
    }

    /// Reads the manifest, and says how the event is to be delivered.
    ///
    /// # Errors
    /// As [`settings::manifest`].
    pub(crate) fn delivery(&self) -> Result<Delivery, Failure> {
        let (path, manifest) = settings::manifest(self.manifest.as_deref())?;
        let (nodes, timeout) = (self.node.clone(), Duration::from_secs(self.timeout));
        Ok(Delivery { path, manifest, nodes, wait: self.wait, timeout })
    }

    /// As [`SubmissionArgs::delivery`], with the newest version of the manifest that a node shows: for statements of
    /// operators, whose keys are in it. With `--dry-run`, and where no node answers, with the one at hand.
    ///
    /// # Errors
    /// As [`SubmissionArgs::delivery`].
    pub(crate) fn delivery_by_the_newest(&self) -> Result<Delivery, Failure> {
        let delivery = self.delivery()?;
        if self.dry_run {
            return Ok(delivery);
        }
        let all = || delivery.manifest.operators().iter().flat_map(|operator| operator.addresses.clone()).collect();
        let addresses: Vec<String> = if self.node.is_empty() { all() } else { self.node.clone() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::new("runtime", error))?;
        let manifest = runtime.block_on(submit::newest(&delivery.manifest, &addresses));
        if manifest.version() > delivery.manifest.version() {
            chain::keep(&delivery.path, &manifest);
        }
        Ok(Delivery { manifest, ..delivery })
    }

    /// The file of the signing key.
    ///
    /// # Errors
    /// As [`settings::key`].
    pub(crate) fn key_path(&self) -> Result<PathBuf, Failure> {
        settings::key(self.key.as_deref())
    }

    /// Reads the signing key.
    ///
    /// # Errors
    /// As [`SubmissionArgs::key_path`] and [`files::read_key`].
    pub(crate) fn key(&self) -> Result<SecretKey, Failure> {
        files::read_key(&self.key_path()?)
    }

    /// The node to ask about identities, if one is known.
    ///
    /// # Errors
    /// As [`QueryArgs::open_for`].
    pub(crate) fn query(&self, delivery: &Delivery) -> Result<Option<Query>, Failure> {
        self.query.open_for(&delivery.manifest)
    }

    /// Shows the draft, asks for confirmation, signs, delivers, and prints the receipt. If the same event is pending, it
    /// is that one which is delivered. Gives `None` if nothing was sent.
    ///
    /// # Errors
    /// As [`Delivery::run`].
    pub(crate) fn finish(
        &self,
        terminal: &mut Terminal<'_>,
        delivery: &Delivery,
        draft: EventDraft<'_>,
    ) -> Result<Option<Accepted>, Failure> {
        if !self.dry_run
            && let Some(folder) = PendingFolder::of_user()
            && let Some(submission) = folder.same(&draft.event)?
        {
            let event = &submission.signed.event;
            terminal.say(format!(
                "The same was signed {} and its outcome is not known: that event is submitted again, and nothing new \
                 is signed.\n`fama resume --forget {}` would drop it.\n",
                event.created,
                event.id()
            ));
            return deliver(terminal, delivery, &submission).map(Some);
        }
        let (text, signer) = (draft.event.text(), draft.signer.public().to_string());
        let to_sign = ToSign { text, signer, note: draft.note.clone() };
        if self.dry_run {
            terminal.show(&to_sign);
            return unsent(terminal, &draft.sign()?).map(|()| None);
        }
        terminal.confirm_signing(to_sign, "Sign and submit?", self.yes)?;
        deliver(terminal, delivery, &draft.sign()?).map(Some)
    }
}

fn deliver(terminal: &mut Terminal<'_>, delivery: &Delivery, submission: &Submission) -> Result<Accepted, Failure> {
    let delivered = delivery.run(terminal, submission)?;
    terminal.answer(&delivered.json, delivered.people)?;
    Ok(delivered.accepted)
}

/// Prints the signed event that was not sent.
fn unsent(terminal: &mut Terminal<'_>, submission: &Submission) -> Result<(), Failure> {
    let text = SubmissionText::of(submission)?;
    let json = serde_json::to_value(&text).map_err(|error| Failure::new("internal", error))?;
    let mut lines = vec![("event", submission.signed.event.id().to_string()), ("signature", text.signature)];
    lines.extend(text.countersignature.map(|second| ("countersignature", second)));
    terminal.answer(&json, format!("{}\n{}", text.text, FieldList(lines)))
}
