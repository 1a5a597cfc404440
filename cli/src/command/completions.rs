//! `fama completions`: prints a shell completion script.
use clap::CommandFactory;
use clap_complete::Shell;

use crate::failure::Failure;
use crate::terminal::Terminal;

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Example:
  fama completions bash > ~/.local/share/bash-completion/completions/fama";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

/// Prints the script.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::Cli::command(), "fama", &mut script);
    terminal.out.write_all(&script).map_err(|error| Failure::new("output", error))
}
