//! The `fama` command: run a node, take part in a federation, ask any node.
//!
//! In reading order:
//!
//! - The entry: [`run`] parses a command line and runs one of `command`'s files; `terminal` prints answers, `progress`
//!   shows that something is going on, [`failure`] is what a user reads when a command fails.
//! - Talking to nodes: `query` over HTTP, `submit` over libp2p, `bulk` many events at once, and `identity` to look up names.
//! - Making things: `author` builds and signs events, `login` login requests, `files` keeps keys and manifests, `chain` the
//!   versions of a manifest, `pending` what was submitted and not answered yet; `settings` is what need not be repeated, `host` checks
//!   addresses.
//! - Federations: [`federation`] creates one on disk, `governance` drafts and checks the next version.
//! - Workloads for the demonstration and the benches: [`synthetic`].
//! - Reading proofs: `proven`. Auditing, publishing and exporting is the crate `fama_reader`.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod command;
pub mod failure;
mod progress;
mod terminal;

mod identity;
mod query;
mod submit;

mod author;
mod bulk;
mod chain;
mod delivery;
mod files;
mod host;
mod login;
mod pending;
mod settings;
mod sponsor_request;

pub mod federation;
mod governance;

mod proven;

pub mod synthetic;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use serde_json::json;

use crate::command::Command;
use crate::failure::Failure;
use crate::terminal::Terminal;

const CA_HINT: &str = "want a file with certificates in PEM, -----BEGIN CERTIFICATE-----";
/// Exit code of a command that was refused or did not succeed.
pub const FAILED: u8 = 1;
/// Exit code of an invalid command line.
pub const USAGE: u8 = 2;
/// Exit code while the outcome is open: nothing was refused, and the same question may get another answer soon.
pub const UNDECIDED: u8 = 3;

/// Fama: a federated reputation ledger for agents
///
/// Operators run nodes, agents register keys, services attest karma, and any reader can verify it all.
#[derive(Parser)]
#[command(name = "fama", version, term_width = 100, max_term_width = 100, after_help = EXAMPLE)]
pub struct Cli {
    /// Print one JSON object on stdout, and everything meant for people on stderr
    #[arg(long, global = true)]
    json: bool,
    /// Trust the issuers of certificates in this PEM file, too
    #[arg(long, global = true, value_name = "FILE", help_heading = "HTTP")]
    ca: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLE: &str = "\
Example: an agent's first steps
  fama key new --out agent.pem
  fama register swift-core-maps@alpha.example --manifest manifest.txt --key agent.pem --wait final
  fama agent swift-core-maps@alpha.example --query http://127.0.0.1:8080

Exit codes: 0 done, 1 refused or failed, 2 not a valid command line,
  3 not decided yet: a submission whose outcome is not known (`fama resume`) or that is not
    final yet, a node that is not ready, a source that did not answer

`fama init` remembers federation and node, so that --manifest and --query need not be repeated.
FAMA_MANIFEST, FAMA_KEY and FAMA_QUERY say the same for one shell.";

/// Runs a command line, whose first word is the name of the program. Standard input is read only for confirmations.
pub fn run<I>(args: I, stdout: &mut dyn Write, stderr: &mut dyn Write) -> ExitCode
where
    I: IntoIterator<Item: Into<OsString> + Clone>,
{
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    let json = args.iter().any(|arg| arg == "--json");
    match Cli::try_parse_from(args) {
        Ok(cli) => {
            let mut terminal = Terminal { out: stdout, err: stderr, json: cli.json, consent: None };
            let trusted = fama_reader::http::trust(cli.ca.as_deref());
            let trusted = trusted.map_err(|reason| Failure::new("ca", format!("--ca: {reason}")).hint(CA_HINT));
            match trusted.and_then(|()| cli.command.run(&mut terminal)) {
                Ok(()) => ExitCode::SUCCESS,
                Err(failure) => terminal.fail(&failure.or_usual_hint()),
            }
        }
        Err(error) => usage(&error, json, stdout, stderr),
    }
}

/// Prints requested help to stdout, or to stderr what is wrong with the command line.
fn usage(error: &clap::Error, json: bool, stdout: &mut dyn Write, stderr: &mut dyn Write) -> ExitCode {
    let text = error.render().to_string();
    // A closed pipe is no error: its reader has seen enough.
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let _ = stdout.write_all(text.as_bytes());
        return ExitCode::SUCCESS;
    }
    if json {
        let message = text.trim().trim_start_matches("error: ");
        let _ = writeln!(stdout, "{}", json!({"error": message, "code": "usage"}));
    } else {
        let _ = stderr.write_all(text.as_bytes());
    }
    ExitCode::from(USAGE)
}
