//! `fama verify`
use std::path::PathBuf;

use fama_ledger::profile::PROFILE_BYTES_MAX;

use crate::failure::Failure;
use crate::files;
use crate::proven::Shown;
use crate::terminal::Terminal;

/// Shown below the help.
pub const EXAMPLE: &str = "\
Example: what a node says of an agent, checked without believing it
  fama prove swift-core-maps@alpha.example --query https://any.example --out swift.proof
  fama verify swift.proof --manifest genesis.txt --about swift-core-maps@alpha.example";

/// Options.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A proof that `fama prove` got, or the JSON answer of a command that handed an event in
    file: PathBuf,
    /// The federation's manifest: its genesis is enough
    #[arg(long, value_name = "FILE")]
    manifest: PathBuf,
    /// Refuse a proof about anything but this agent or event, as it was asked for
    #[arg(long, value_name = "WHAT")]
    about: Option<String>,
    /// Take the word of the log's owner where no quorum has cosigned: a receipt that is not final yet
    #[arg(long)]
    owner_only: bool,
}

/// Does it.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let manifest = files::read_manifest(&args.manifest)?;
    let text = files::read(&args.file, PROFILE_BYTES_MAX)?;
    let shown = Shown::read(&text, &manifest)?;
    let about = shown.about();
    if let Some(wanted) = args.about.as_ref().filter(|wanted| **wanted != about) {
        return Err(Failure::new("other_proof", format!("this proof is about {about}, not about {wanted}"))
            .hint("`fama prove` gets the one that you want"));
    }
    if !shown.is_certified() && !args.owner_only {
        return Err(Failure::new("not_final", "the log's owner signed for this event, but no quorum cosigned it")
            .hint(format!("`fama prove {about}` gets a proof once it is final; --owner-only takes the owner's word")));
    }
    terminal.answer(&shown.json(), shown.table())
}
