//! `fama federation operator`: prepares the folder of a new operator.
use std::path::PathBuf;

use fama_ledger::id::Domain;
use serde_json::json;

use crate::failure::Failure;
use crate::federation::{self, FirstPorts, OPERATOR_FILE, OperatorPlan};
use crate::host::Host;
use crate::terminal::{FieldList, Terminal};

/// Examples that follow the help text.
pub(super) const EXAMPLE: &str = "\
Example: epsilon.example is to join
  fama federation operator epsilon.example --host fama.epsilon.example --out epsilon
  fama federation draft --from http://127.0.0.1:8080 --add epsilon/operator.toml --out next
Its node starts once manifest.txt in its folder is the chain of all versions:
  curl http://127.0.0.1:8080/api/federation/manifests > epsilon/manifest.txt";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The domain that names it and its home forever
    name: Domain,
    /// The folder to create
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// IP address or DNS name of its node [default: loopback on this machine]
    #[arg(long)]
    host: Option<Host>,
    /// Its libp2p port
    #[arg(long, default_value_t = FirstPorts::default().network, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// The port of its query listener
    #[arg(long, default_value_t = FirstPorts::default().query, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    query_port: u16,
    /// The port of its admin listener
    #[arg(long, default_value_t = FirstPorts::default().admin, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    admin_port: u16,
}

/// Writes the folder of an operator that is to join.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let ports = FirstPorts { network: args.port, query: args.query_port, admin: args.admin_port };
    let operator = match &args.host {
        Some(host) => OperatorPlan::hosted(args.name.clone(), host, 0, ports)?,
        None => OperatorPlan::local(args.name.clone(), 0, ports)?,
    };
    let operator = federation::join(&operator, &args.out)?;
    terminal.say("governance.pem signs manifests only: move it off the node's machine, to a safe place.");
    let file = args.out.join(OPERATOR_FILE).display().to_string();
    terminal.answer(
        &json!({"operator": operator.name.as_str(), "file": file}),
        FieldList(vec![("operator", operator.name.to_string()), ("hand on", file)]),
    )
}
