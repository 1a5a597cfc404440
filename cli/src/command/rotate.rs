//! `fama rotate`: replaces the key of an identity.
use std::path::{Path, PathBuf};

use fama_ledger::event::Action;
use fama_ledger::id::Domain;
use fama_ledger::secret::SecretKey;

use super::submission::SubmissionArgs;
use crate::author::{self, EventDraft};
use crate::failure::Failure;
use crate::files;
use crate::identity::ResolvedIdentity;
use crate::terminal::Terminal;
use serde_json::json;

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Example: agent.next.pem, which the identity committed to, becomes its key
  fama rotate swift-core-maps@alpha.example --manifest manifest.txt --key agent.pem \\
    --query http://127.0.0.1:8080

Afterwards agent.pem is the new key, agent.next.pem the one after it, agent.v1.pem the old one.
With --new FILE, no file is renamed. If the current key is lost, this works, too: --key still names
its file.";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The identity: `name@home`, id or DID
    pub(super) identity: String,
    /// The new key [default: KEY.next.pem next to the key]
    #[arg(long, value_name = "FILE")]
    pub(super) new: Option<PathBuf>,
    /// For an identity that committed to no next key: the current key signs, the new one countersigns
    #[arg(long)]
    pub(super) uncommitted: bool,
    /// Commit to no key after the new one
    #[arg(long)]
    pub(super) no_next: bool,
    /// The identity's home, if no node is asked
    #[arg(long, value_name = "DOMAIN")]
    pub(super) home: Option<Domain>,
    /// The version of the current key, if no node is asked
    #[arg(long, value_name = "N")]
    pub(super) key_version: Option<u32>,
    #[command(flatten)]
    pub(super) submission: SubmissionArgs,
}

impl Args {
    fn new_path(&self, key: &Path) -> PathBuf {
        self.new.clone().unwrap_or_else(|| files::with_word(key, "next"))
    }

    /// File of the key after the new one until the rotation is done, so that a retry uses the same key.
    fn after_path(&self, key: &Path, new: &Path, version: u32) -> PathBuf {
        files::with_word(if self.new.is_some() { new } else { key }, &format!("next-of-v{version}"))
    }

    fn new_key(&self, path: &Path) -> Result<SecretKey, Failure> {
        if self.uncommitted {
            let old = self.submission.key()?;
            return files::read_or_create_key(path, old.public().curve()).map(|(key, _)| key);
        }
        let hint = "--new FILE names the key that was committed to; --uncommitted rotates to any other key";
        files::read_key(path).map_err(|failure| failure.hint(hint))
    }

    fn after(&self, path: &Path, new: &SecretKey) -> Result<Option<SecretKey>, Failure> {
        if self.no_next {
            return Ok(None);
        }
        files::read_or_create_key(path, new.public().curve()).map(|(key, _)| Some(key))
    }

    /// Renames the files so that `key` is the current one again. A crash between two steps loses no key: each is always
    /// in some file.
    fn settle(&self, version: u32, new: &Path, after: &Path, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let key = &self.submission.key_path()?;
        if self.new.is_some() {
            terminal.say(format!("The key is now {}.", new.display()));
        } else {
            if key.exists() {
                files::rename(key, &files::with_word(key, &format!("v{}", version.saturating_sub(1))))?;
            }
            files::rename(new, key)?;
            terminal.say(format!("The key is now in {}.", key.display()));
        }
        if self.no_next {
            return Ok(());
        }
        let place = if self.new.is_some() { after.to_owned() } else { files::with_word(key, "next") };
        if place != after {
            files::rename(after, &place)?;
        }
        terminal.say(format!("The next key is in {}: keep it apart from the current key.", place.display()));
        Ok(())
    }
}

/// Submits the rotation, and renames the key files once a log has it.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let delivery = args.submission.delivery()?;
    let manifest = &delivery.manifest;
    let identity = ResolvedIdentity::find(&args.identity, args.submission.query(&delivery)?.as_ref())?;
    let home = identity.home(args.home.as_ref())?;
    let key_path = args.submission.key_path()?;
    let new_path = args.new_path(&key_path);
    let current = identity.version(args.key_version)?;
    let new = args.new_key(&new_path)?;
    if identity.key.as_ref() == Some(&new.public()) {
        // An earlier try ended before it knew.
        args.settle(current, &new_path, &args.after_path(&key_path, &new_path, current), terminal)?;
        let json = json!({
            "kind": "rotate", "identity": identity.id.to_string(), "key_version": current, "known": true,
            "key": new.public().to_string(),
        });
        return terminal.answer(&json, format!("the identity had this key already, as version {current}"));
    }
    let version = current.saturating_add(1);
    let after_path = args.after_path(&key_path, &new_path, version);
    let next = author::commitment(args.after(&after_path, &new)?.as_ref());
    let action = Action::Rotate { home, identity: identity.id, version, key: new.public(), next };
    let event = author::event(manifest.federation(), action)?;
    let old = if args.uncommitted { Some(args.submission.key()?) } else { None };
    let draft = match &old {
        Some(old) => EventDraft { countersigner: Some(&new), ..EventDraft::new(event, old) },
        None => EventDraft::new(event, &new),
    };
    match args.submission.finish(terminal, &delivery, draft) {
        Ok(None) => Ok(()),
        Ok(Some(_)) => args.settle(version, &new_path, &after_path, terminal),
        // The rotation is in the log, so the new key is in force although the wait failed.
        Err(failure) if failure.achieved.is_some() => {
            args.settle(version, &new_path, &after_path, terminal)?;
            Err(failure)
        }
        Err(failure) => Err(failure),
    }
}
