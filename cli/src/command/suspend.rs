//! `fama suspend`: speaks against an identity's use, as an operator.
use fama_ledger::event::{Action, SuspendReason};

use super::admit::operator_of;
use super::submission::SubmissionArgs;
use crate::author::{self, EventDraft};
use crate::failure::Failure;
use crate::identity::ResolvedIdentity;
use crate::terminal::Terminal;

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Example:
  fama suspend swift-core-maps@alpha.example --reason key_compromised --manifest manifest.txt \\
    --key beta.example/node.pem --query http://127.0.0.1:8080

It binds the sign-in of this operator at once, and that of every operator once as many suspend the
identity as must sponsor a provider (min_sponsors). It touches neither key nor karma, and hinders no
rotation and no revocation. `fama unsuspend` takes it back.";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The identity: `name@home`, id or DID
    identity: String,
    /// misconduct, key_compromised or unspecified
    #[arg(long, default_value = "unspecified")]
    reason: SuspendReason,
    #[command(flatten)]
    submission: SubmissionArgs,
}

/// Submits the suspension, after it told what it changes.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let delivery = args.submission.delivery_by_the_newest()?;
    let manifest = &delivery.manifest;
    let key = args.submission.key()?;
    let operator = operator_of(manifest, &key.public())?;
    let query = args.submission.query(&delivery)?;
    let identity = ResolvedIdentity::find(&args.identity, query.as_ref())?.id;
    if let Some(query) = &query {
        let shown = query.get(&["agent", &identity.to_string()], &[])?;
        let others = shown["key_status"]["suspended_by"].as_array().into_iter().flatten();
        let others = others.filter(|one| one["operator"] != operator.as_str()).count();
        let wanted = manifest.policy().sponsors_wanted();
        terminal.say(if others >= wanted {
            format!("{others} other operators suspend it: it holds everywhere already.")
        } else if others.saturating_add(1) >= wanted {
            "With this one it holds everywhere: no operator signs the identity in.".to_owned()
        } else {
            let missing = wanted.saturating_sub(others).saturating_sub(1);
            format!(
                "It binds only the sign-in of {operator}: {missing} more must suspend it so that it holds everywhere."
            )
        });
    }
    let event = author::event(manifest.federation(), Action::Suspend { operator, identity, reason: args.reason })?;
    args.submission.finish(terminal, &delivery, EventDraft::new(event, &key)).map(drop)
}
