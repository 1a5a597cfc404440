//! `fama federation`: found one, or show one.
use std::path::{Path, PathBuf};

use fama_ledger::id::Domain;
use fama_ledger::key::PublicKey;
use fama_ledger::manifest::{Manifest, Operator, Policy};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::federation::{self, Created, Plan, Ports, Seat};
use crate::files;
use crate::terminal::{Table, Terminal};

/// Shown below the help.
pub const EXAMPLE: &str = "\
Example:
  fama federation new Demo alpha.example beta.example gamma.example delta.example --out demo
  fama federation show demo/manifest.txt";

/// Options.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a federation: its manifest, and a folder for each operator
    ///
    /// Each folder has all that a node needs: manifest, node.toml, node.pem. It has governance.pem, too,
    /// which signs manifests only: take it away to a safe place. Nothing is overwritten.
    #[command(after_help = "\
Example: four operators on this machine, then on four
  fama federation new Demo alpha.example beta.example gamma.example delta.example --out demo
  fama federation new Real alpha.example beta.example gamma.example delta.example --out real \\
    --host fama.alpha.example --host fama.beta.example --host 203.0.113.7 --host 203.0.113.8")]
    New(New),
    /// Show a manifest, its rules and signatures checked
    #[command(after_help = "Example:\n  fama federation show demo/manifest.txt")]
    Show {
        /// The manifest
        file: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
struct New {
    /// The federation's name for people
    name: String,
    /// The operators: domains that name them and their homes for ever
    #[arg(required = true)]
    operators: Vec<Domain>,
    /// The folder to make everything in
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Address or DNS name of a node: none for this machine's loopback, one for all, or each its own
    #[arg(long)]
    host: Vec<String>,
    /// The first libp2p port; nodes of one machine count up
    #[arg(long, default_value_t = Ports::default().network, value_name = "PORT")]
    port: u16,
    /// The first port of the query listeners
    #[arg(long, default_value_t = Ports::default().query, value_name = "PORT")]
    query_port: u16,
    /// The first port of the admin listeners
    #[arg(long, default_value_t = Ports::default().admin, value_name = "PORT")]
    admin_port: u16,
    /// How many operators must sponsor a provider [default: as many as can lie, and one]
    #[arg(long, value_name = "N")]
    min_sponsors: Option<u32>,
}

impl New {
    fn plan(&self) -> Result<Plan, Failure> {
        let n = self.operators.len();
        let ports = Ports { network: self.port, query: self.query_port, admin: self.admin_port };
        if ![0, 1, n].contains(&self.host.len()) {
            return Err(Failure::new("hosts", format!("{} hosts for {n} operators", self.host.len()))
                .hint("give none, one for all, or one for each"));
        }
        let seats = self.operators.iter().enumerate().map(|(i, domain)| match self.host.as_slice() {
            [] => Seat::local(domain.clone(), i, ports),
            [host] => Seat::hosted(domain.clone(), host.clone(), i, ports),
            hosts => Seat::hosted(domain.clone(), hosts.get(i).cloned().unwrap_or_default(), 0, ports),
        });
        let mut policy = Policy::recommended(n);
        policy.min_sponsors = self.min_sponsors.unwrap_or(policy.min_sponsors);
        Ok(Plan { name: self.name.clone(), seats: seats.collect::<Result<_, _>>()?, policy })
    }
}

/// Does it.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    match &args.command {
        Command::New(new) => found(new, terminal),
        Command::Show { file } => {
            let manifest = files::read_manifest(file)?;
            terminal.answer(&manifest_json(&manifest), manifest_table(&manifest))
        }
    }
}

fn found(new: &New, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let created = federation::create(&new.plan()?, &new.out)?;
    if new.operators.len() < 4 {
        terminal.say("With fewer than 4 operators, one that lies can certify two histories.");
    }
    terminal.say("Each governance.pem signs manifests only: take it off the nodes' machines, to a safe place.");
    let path = |path: &Path| path.display().to_string();
    let mut json = manifest_json(&created.manifest);
    json["manifest"] = json!(path(&created.manifest_path));
    json["nodes"] = created.folders.iter().map(|(_, folder)| json!(path(&Created::config(folder)))).collect();
    let mut lines =
        vec![("federation", created.manifest.federation().to_string()), ("manifest", path(&created.manifest_path))];
    for (_, folder) in &created.folders {
        lines.push(("start", format!("fama node --config {}", path(&Created::config(folder)))));
    }
    terminal.answer(&json, Table(lines))
}

fn key(bytes: &[u8; 32]) -> String {
    PublicKey::Ed25519(*bytes).to_string()
}

fn manifest_json(manifest: &Manifest) -> Value {
    let operator = |operator: &Operator| {
        json!({
            "name": operator.name.as_str(), "generation": operator.generation, "addresses": operator.addresses,
            "node_key": key(operator.node_key.as_bytes()), "governance_key": key(operator.governance_key.as_bytes()),
        })
    };
    let homes: Vec<Value> =
        manifest.homes().iter().map(|(home, log)| json!({"name": home.as_str(), "log": log.to_string()})).collect();
    json!({
        "federation": manifest.federation().to_string(), "name": manifest.name(), "version": manifest.version(),
        "hash": manifest.hash().to_string(), "quorum": manifest.quorum(), "faults": manifest.faults(),
        "policy": serde_json::to_value(manifest.policy()).unwrap_or_default(),
        "operators": manifest.operators().iter().map(operator).collect::<Vec<_>>(), "homes": homes,
    })
}

fn manifest_table(manifest: &Manifest) -> Table {
    let n = manifest.operators().len();
    let mut lines = vec![
        ("name", manifest.name().to_owned()),
        ("federation", manifest.federation().to_string()),
        ("version", format!("{}, signed by all {n} operators", manifest.version())),
        ("quorum", format!("{} of {n}; {} may lie", manifest.quorum(), manifest.faults())),
        ("sponsors", format!("{} make a provider's karma count", manifest.policy().min_sponsors)),
    ];
    for operator in manifest.operators() {
        let key = key(operator.node_key.as_bytes());
        lines.push(("operator", format!("{}\n{key}\n{}", operator.log(), operator.addresses.join("\n"))));
    }
    Table(lines)
}
