//! `fama verify`: checks a proof offline.
use std::path::{Path, PathBuf};

use fama_ledger::profile::PROFILE_BYTES_MAX;

use crate::failure::Failure;
use crate::files;
use crate::proven::{Accepted, VerifiedProof};
use crate::settings;
use crate::terminal::Terminal;

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Example: a node's answer about an agent, verified without trusting the node
  fama prove swift-core-maps@alpha.example --query https://any.example --out swift.proof
  fama verify swift.proof --manifest genesis.txt --about swift-core-maps@alpha.example";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A proof from `fama prove`, or the JSON answer of a command that submitted an event
    file: PathBuf,
    /// The federation's manifest; the genesis is enough [default: FAMA_MANIFEST, or that of `fama init`]
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Refuse a proof about anything but this agent or event, named as in `fama prove`
    #[arg(long, value_name = "WHAT")]
    about: Option<String>,
    /// Accept the signature of the log's owner alone, for a receipt that is not final yet
    #[arg(long)]
    owner_only: bool,
    #[command(flatten)]
    accepted: Accepted,
}

/// What must hold of a proof besides its signatures.
pub(super) struct Wanted<'a> {
    /// What it must be about; anything if `None`.
    pub(super) about: Option<&'a str>,
    /// Whether the signature of the log's owner is enough.
    pub(super) owner_only: bool,
    /// How old and how incomplete it may be.
    pub(super) accepted: Accepted,
}

/// Checks the proof in a file without a network.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let Args { about, owner_only, accepted, .. } = args;
    let text = files::read(&args.file, PROFILE_BYTES_MAX)?;
    let wanted = Wanted { about: about.as_deref(), owner_only: *owner_only, accepted: *accepted };
    check(&text, args.manifest.as_deref(), &wanted, terminal)
}

/// Checks a proof without a network, and shows what it proves.
pub(super) fn check(
    text: &str,
    manifest: Option<&Path>,
    wanted: &Wanted<'_>,
    terminal: &mut Terminal<'_>,
) -> Result<(), Failure> {
    let (_, manifest) = settings::manifest(manifest)?;
    let shown = VerifiedProof::read(text, &manifest, wanted.accepted)?;
    let about = shown.about();
    if let Some(wanted) = wanted.about.filter(|wanted| **wanted != about) {
        return Err(Failure::new("other_proof", format!("this proof is about {about}, not about {wanted}"))
            .hint("get the right one with `fama prove`"));
    }
    if !shown.is_certified() && !wanted.owner_only {
        return Err(Failure::new("not_final", "the log's owner signed for this event, but no quorum cosigned it")
            .hint(format!(
                "`fama prove {about}` gets a proof once it is final; --owner-only accepts the owner's signature alone"
            )));
    }
    terminal.answer(&shown.json(), shown.table())
}
