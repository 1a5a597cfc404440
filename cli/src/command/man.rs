//! `fama man`: writes the man pages of all commands.
use std::path::PathBuf;

use clap::CommandFactory;

use crate::failure::Failure;
use crate::terminal::Terminal;

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Example:
  fama man --out target/package/man";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder for the pages, which must exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Writes `fama.1`, `fama-key.1`, `fama-key-new.1` and so on.
pub(super) fn run(args: &Args, _: &mut Terminal<'_>) -> Result<(), Failure> {
    clap_mangen::generate_to(crate::Cli::command(), &args.out)
        .map_err(|error| Failure::new("output", format!("{}: {error}", args.out.display())))
}
