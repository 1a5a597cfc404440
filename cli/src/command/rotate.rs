//! `fama rotate`
use std::path::{Path, PathBuf};

use fama_ledger::event::Action;
use fama_ledger::id::Domain;
use fama_ledger::secret::SecretKey;

use super::handing_in::HandingIn;
use crate::author::{self, Draft};
use crate::failure::Failure;
use crate::files;
use crate::identity::Identity;
use crate::terminal::Terminal;

/// Shown below the help.
pub const EXAMPLE: &str = "\
Example: the key committed to, agent.next.pem, becomes the key
  fama rotate swift-core-maps@alpha.example --manifest manifest.txt --key agent.pem \\
    --query http://127.0.0.1:8080

Afterwards agent.pem is the new key, agent.next.pem the one after it, agent.v1.pem the old one.
With --new FILE no file changes its name. A lost current key is no hindrance: --key still names its file.";

/// Options.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The identity: `name@home`, id or DID
    identity: String,
    /// The new key [default: KEY.next.pem beside the key]
    #[arg(long, value_name = "FILE")]
    new: Option<PathBuf>,
    /// The current version commits to no next key: the current key signs, the new one countersigns
    #[arg(long)]
    uncommitted: bool,
    /// Commit to no key after the new one
    #[arg(long)]
    no_next: bool,
    /// The identity's home, if no node is asked
    #[arg(long, value_name = "DOMAIN")]
    home: Option<Domain>,
    /// The version of the current key, if no node is asked
    #[arg(long, value_name = "N")]
    key_version: Option<u32>,
    #[command(flatten)]
    handing_in: HandingIn,
}

impl Args {
    fn new_path(&self) -> PathBuf {
        self.new.clone().unwrap_or_else(|| files::beside(&self.handing_in.key, "next"))
    }

    /// Where the key after the new one is kept until the rotation is done: a retry finds it again.
    fn after_path(&self, new: &Path, version: u32) -> PathBuf {
        files::beside(if self.new.is_some() { new } else { &self.handing_in.key }, &format!("next-of-v{version}"))
    }

    fn new_key(&self, path: &Path) -> Result<SecretKey, Failure> {
        if self.uncommitted {
            let old = self.handing_in.key()?;
            return files::read_or_create_key(path, old.public().curve()).map(|(key, _)| key);
        }
        let hint = "--new FILE names the key committed to; --uncommitted rotates to one that was not";
        files::read_key(path).map_err(|failure| failure.hint(hint))
    }

    fn after(&self, path: &Path, new: &SecretKey) -> Result<Option<SecretKey>, Failure> {
        if self.no_next {
            return Ok(None);
        }
        files::read_or_create_key(path, new.public().curve()).map(|(key, _)| Some(key))
    }

    /// Names the files anew, so that `key` is the current one again. Each step leaves every key in a file.
    fn settle(&self, version: u32, new: &Path, after: &Path, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let key = &self.handing_in.key;
        if self.new.is_some() {
            terminal.say(format!("The key is now {}.", new.display()));
        } else {
            if key.exists() {
                files::rename(key, &files::beside(key, &format!("v{}", version.saturating_sub(1))))?;
            }
            files::rename(new, key)?;
            terminal.say(format!("The key is now in {}.", key.display()));
        }
        if self.no_next {
            return Ok(());
        }
        let place = if self.new.is_some() { after.to_owned() } else { files::beside(key, "next") };
        if place != after {
            files::rename(after, &place)?;
        }
        terminal.say(format!("The next key is in {}: keep it apart from the key.", place.display()));
        Ok(())
    }
}

/// Does it.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let manifest = args.handing_in.manifest()?;
    let identity = Identity::find(&args.identity, args.handing_in.query().as_ref())?;
    let home = identity.home(args.home.as_ref())?;
    let version = identity.version(args.key_version)?.saturating_add(1);
    let new_path = args.new_path();
    let new = args.new_key(&new_path)?;
    let after_path = args.after_path(&new_path, version);
    let next = author::commitment(args.after(&after_path, &new)?.as_ref());
    let action = Action::Rotate { home, identity: identity.id, version, key: new.public(), next };
    let event = author::event(manifest.federation(), action)?;
    let old = if args.uncommitted { Some(args.handing_in.key()?) } else { None };
    let draft = match &old {
        Some(old) => Draft { countersigner: Some(&new), ..Draft::new(event, old) },
        None => Draft::new(event, &new),
    };
    match args.handing_in.finish(terminal, &manifest, draft) {
        Ok(None) => Ok(()),
        Ok(Some(_)) => args.settle(version, &new_path, &after_path, terminal),
        // In the log, so the new key is the identity's.
        Err(failure) if failure.achieved.is_some() => {
            args.settle(version, &new_path, &after_path, terminal)?;
            Err(failure)
        }
        Err(failure) => Err(failure),
    }
}
