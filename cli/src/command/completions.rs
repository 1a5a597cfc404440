//! `fama completions`
use clap::CommandFactory;
use clap_complete::Shell;

use crate::failure::Failure;
use crate::terminal::Terminal;

/// Shown below the help.
pub const EXAMPLE: &str = "\
Example:
  fama completions bash > ~/.local/share/bash-completion/completions/fama";

/// Options.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    shell: Shell,
}

/// Does it.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::Cli::command(), "fama", &mut script);
    terminal.out.write_all(&script).map_err(|error| Failure::new("output", error))
}
