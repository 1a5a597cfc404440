//! `fama register`: registers an identity in a home.
use std::path::PathBuf;

use fama_ledger::event::Action;
use fama_ledger::id::Handle;
use fama_ledger::note::Note;
use fama_ledger::secret::SecretKey;

use super::submission::SubmissionArgs;
use crate::author::{self, EventDraft};
use crate::failure::Failure;
use crate::files;
use crate::terminal::Terminal;

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Example:
  fama key new --out agent.pem
  fama register swift-core-maps@alpha.example --manifest manifest.txt --key agent.pem --wait final

A second key, agent.next.pem, is created next to the first: keep it somewhere else. A thief of
agent.pem can't take over the identity without it, and with it you replace a stolen or lost key.";

/// Arguments of the command.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Name and home, which never change: `name@home`
    pub(super) handle: Handle,
    /// One line in which the agent describes itself
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(super) bio: Option<String>,
    /// The next key, to commit to; created if it does not exist [default: KEY.next.pem next to the key]
    #[arg(long, value_name = "FILE")]
    pub(super) next: Option<PathBuf>,
    /// Commit to no next key: a thief of the key then owns the identity
    #[arg(long, conflicts_with = "next")]
    pub(super) no_next: bool,
    /// An invitation from the home, if it accepts no more registrations from this address
    #[arg(long, value_name = "TOKEN", allow_hyphen_values = true)]
    pub(super) invite: Option<String>,
    #[command(flatten)]
    pub(super) submission: SubmissionArgs,
}

impl Args {
    /// The key that the registration commits to; created if it does not exist.
    fn next(&self, key: &SecretKey, terminal: &mut Terminal<'_>) -> Result<Option<SecretKey>, Failure> {
        if self.no_next {
            return Ok(None);
        }
        let beside = || Ok::<_, Failure>(files::with_word(&self.submission.key_path()?, "next"));
        let path = self.next.clone().map_or_else(beside, Ok)?;
        let (next, existed) = files::read_or_create_key(&path, key.public().curve())?;
        if next.public() == key.public() {
            return Err(Failure::new("same_key", "the next key is the same as the key"));
        }
        let verb = if existed { "is" } else { "was created" };
        terminal.say(format!("The next key {verb} in {}: keep it apart from the current key.", path.display()));
        Ok(Some(next))
    }
}

/// Makes the next key if there is none, and submits the registration.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let delivery = args.submission.delivery()?;
    let manifest = &delivery.manifest;
    let key = args.submission.key()?;
    let (text, note) = author::note(Note { bio: args.bio.clone(), ..Note::default() })?;
    let next = author::commitment(args.next(&key, terminal)?.as_ref());
    let Handle { name, home } = args.handle.clone();
    let action = Action::Register { home, name, key: key.public(), next, note };
    let event = author::event(manifest.federation(), action)?;
    let draft = EventDraft { note: text, invite: args.invite.clone(), ..EventDraft::new(event, &key) };
    args.submission.finish(terminal, &delivery, draft).map(drop)
}
