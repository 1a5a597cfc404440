//! `fama key`: makes and shows key files.
use std::path::PathBuf;

use fama_ledger::key::{Curve, PublicKey};
use serde_json::json;

use crate::failure::Failure;
use crate::files;
use crate::terminal::{FieldList, Terminal};

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Example:
  fama key new --out agent.pem
  fama key show agent.pem";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, clap::Subcommand)]
enum KeyCommand {
    /// Make a key
    ///
    /// Only its owner can read the file (mode 0600, unencrypted PKCS#8 PEM). Nothing is overwritten.
    #[command(after_help = "Example:\n  fama key new --out agent.pem\n  openssl pkey -in agent.pem -pubout")]
    New {
        /// The file to create
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// ECDSA over secp256k1, usual for agents [default]
        #[arg(long, conflicts_with = "ed25519")]
        secp256k1: bool,
        /// Ed25519, required for nodes and allowed for all
        #[arg(long)]
        ed25519: bool,
    },
    /// Show the public part of a key
    ///
    /// Prints it as PEM and as events name it, and its hash, to which the `next:` of an event commits.
    #[command(after_help = "Example:\n  fama key show agent.pem")]
    Show {
        /// A secret or public key in PEM
        file: PathBuf,
    },
}

/// Makes or shows a key.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    match &args.command {
        KeyCommand::New { out, ed25519, .. } => {
            let curve = if *ed25519 { Curve::Ed25519 } else { Curve::Secp256k1 };
            let key = files::create_key(out, curve)?;
            terminal
                .say(format!("The secret key is in {} and nowhere else: keep a copy in a safe place.", out.display()));
            show(terminal, &key.public())
        }
        KeyCommand::Show { file } => show(terminal, &files::read_public(file)?),
    }
}

fn show(terminal: &mut Terminal<'_>, key: &PublicKey) -> Result<(), Failure> {
    let (pem, text, hash) = (key.to_pem()?, key.to_string(), format!("sha256:{}", key.hash()));
    let json = json!({"curve": key.curve().as_str(), "key": text, "hash": hash, "public_key": pem});
    terminal.answer(&json, FieldList(vec![("key", text), ("hash", hash), ("pem", pem)]))
}
