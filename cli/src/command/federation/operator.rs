//! `fama federation operator`
use std::path::PathBuf;

use fama_ledger::id::Domain;
use serde_json::json;

use crate::failure::Failure;
use crate::federation::{self, OPERATOR_FILE, Ports, Seat};
use crate::terminal::{Table, Terminal};

/// Shown below the help.
pub(super) const EXAMPLE: &str = "\
Example: epsilon.example is to join
  fama federation operator epsilon.example --host fama.epsilon.example --out epsilon
  fama federation draft --from http://127.0.0.1:8080 --add epsilon/operator.toml --out next
Its node starts when manifest.txt in its folder is the chain of all versions:
  curl http://127.0.0.1:8080/api/federation/manifests > epsilon/manifest.txt";

/// Options.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The domain that names it and its home for ever
    name: Domain,
    /// The folder to make
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Address or DNS name of its node [default: this machine's loopback]
    #[arg(long)]
    host: Option<String>,
    /// Its libp2p port
    #[arg(long, default_value_t = Ports::default().network, value_name = "PORT")]
    port: u16,
    /// The port of its query listener
    #[arg(long, default_value_t = Ports::default().query, value_name = "PORT")]
    query_port: u16,
    /// The port of its admin listener
    #[arg(long, default_value_t = Ports::default().admin, value_name = "PORT")]
    admin_port: u16,
}

/// Does it.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let ports = Ports { network: args.port, query: args.query_port, admin: args.admin_port };
    let seat = match &args.host {
        Some(host) => Seat::hosted(args.name.clone(), host.clone(), 0, ports)?,
        None => Seat::local(args.name.clone(), 0, ports)?,
    };
    let operator = federation::join(&seat, &args.out)?;
    terminal.say("governance.pem signs manifests only: take it off the node's machine, to a safe place.");
    let file = args.out.join(OPERATOR_FILE).display().to_string();
    terminal.answer(
        &json!({"operator": operator.name.as_str(), "file": file}),
        Table(vec![("operator", operator.name.to_string()), ("hand on", file)]),
    )
}
