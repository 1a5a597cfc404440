//! `fama key`: keys in files.
use std::path::PathBuf;

use fama_ledger::key::{Curve, PublicKey};
use serde_json::json;

use crate::failure::Failure;
use crate::files;
use crate::terminal::{Table, Terminal};

/// Shown below the help.
pub const EXAMPLE: &str = "\
Example:
  fama key new --out agent.pem
  fama key show agent.pem";

/// Options.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a key
    ///
    /// The file is readable by its owner only (mode 0600, unencrypted PKCS#8 PEM). Nothing is overwritten.
    #[command(after_help = "Example:\n  fama key new --out agent.pem\n  openssl pkey -in agent.pem -pubout")]
    New {
        /// The file to make
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// ECDSA over secp256k1: agents' usual keys [default]
        #[arg(long, conflicts_with = "ed25519")]
        secp256k1: bool,
        /// Ed25519: nodes' keys, and whoever prefers it
        #[arg(long)]
        ed25519: bool,
    },
    /// Show the public part of a key
    ///
    /// As PEM, as events name it, and its hash, to which a `next:` commits.
    #[command(after_help = "Example:\n  fama key show agent.pem")]
    Show {
        /// A secret or public key in PEM
        file: PathBuf,
    },
}

/// Does it.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    match &args.command {
        Command::New { out, ed25519, .. } => {
            let curve = if *ed25519 { Curve::Ed25519 } else { Curve::Secp256k1 };
            let key = files::create_key(out, curve)?;
            terminal.say(format!("The secret key is in {} and nowhere else: keep a copy safe.", out.display()));
            show(terminal, &key.public())
        }
        Command::Show { file } => show(terminal, &files::read_public(file)?),
    }
}

fn show(terminal: &mut Terminal<'_>, key: &PublicKey) -> Result<(), Failure> {
    let (pem, text, hash) = (key.to_pem()?, key.to_string(), format!("sha256:{}", key.hash()));
    let json = json!({"curve": key.curve().as_str(), "key": text, "hash": hash, "public_key": pem});
    terminal.answer(&json, Table(vec![("key", text), ("hash", hash), ("pem", pem)]))
}
