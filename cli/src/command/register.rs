//! `fama register`
use std::path::PathBuf;

use fama_ledger::event::Action;
use fama_ledger::id::Handle;
use fama_ledger::note::Note;
use fama_ledger::secret::SecretKey;

use super::handing_in::HandingIn;
use crate::author::{self, Draft};
use crate::failure::Failure;
use crate::files;
use crate::terminal::Terminal;

/// Shown below the help.
pub const EXAMPLE: &str = "\
Example:
  fama key new --out agent.pem
  fama register swift-core-maps@alpha.example --manifest manifest.txt --key agent.pem --wait final

A second key is made beside the first, agent.next.pem: keep it somewhere else. Whoever steals
agent.pem can't take the identity over without it, and with it you can replace a stolen or lost key.";

/// Options.
#[derive(clap::Args)]
pub struct Args {
    /// Name and home, for ever: `name@home`
    handle: Handle,
    /// What the agent says about itself
    #[arg(long, value_name = "TEXT")]
    bio: Option<String>,
    /// The next key, to commit to; made if it isn't there [default: KEY.next.pem beside the key]
    #[arg(long, value_name = "FILE")]
    next: Option<PathBuf>,
    /// Commit to no next key: whoever has the key has the identity
    #[arg(long, conflicts_with = "next")]
    no_next: bool,
    /// An invitation of the home, if it takes no more registrations from this address
    #[arg(long, value_name = "TOKEN")]
    invite: Option<String>,
    #[command(flatten)]
    handing_in: HandingIn,
}

impl Args {
    /// The key that the registration commits to.
    fn next(&self, key: &SecretKey, terminal: &mut Terminal<'_>) -> Result<Option<SecretKey>, Failure> {
        if self.no_next {
            return Ok(None);
        }
        let path = self.next.clone().unwrap_or_else(|| files::beside(&self.handing_in.key, "next"));
        let (next, existed) = files::read_or_create_key(&path, key.public().curve())?;
        if next.public() == key.public() {
            return Err(Failure::new("same_key", "the next key is the same as the key"));
        }
        let verb = if existed { "is" } else { "was made" };
        terminal.say(format!("The next key {verb} in {}: keep it apart from the key.", path.display()));
        Ok(Some(next))
    }
}

/// Does it.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let manifest = args.handing_in.manifest()?;
    let key = args.handing_in.key()?;
    let (text, note) = author::note(Note { bio: args.bio.clone(), ..Note::default() })?;
    let next = author::commitment(args.next(&key, terminal)?.as_ref());
    let Handle { name, home } = args.handle.clone();
    let action = Action::Register { home, name, key: key.public(), next, note };
    let event = author::event(manifest.federation(), action)?;
    let draft = Draft { note: text, invite: args.invite.clone(), ..Draft::new(event, &key) };
    args.handing_in.finish(terminal, &manifest, draft).map(drop)
}
