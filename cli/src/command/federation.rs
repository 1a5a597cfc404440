//! `fama federation`: creates a federation, shows it, and prepares its next version.
mod agree;
mod dossier;
mod draft;
mod merge;
mod operator;
mod publish;
mod show;
mod sign;
mod stand;

use std::path::{Path, PathBuf};

use fama_ledger::id::Domain;
use fama_ledger::manifest::Policy;
use serde_json::json;

use crate::failure::Failure;
use crate::federation::{self, Created, FederationPlan, FirstPorts, OperatorPlan};
use crate::host::Host;
use crate::terminal::{FieldList, Terminal};

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Example:
  fama federation new Demo alpha.example beta.example gamma.example delta.example --out demo
  fama federation show demo/manifest.txt

The next version is first agreed on, then signed with governance keys that are kept offline:
  fama federation draft --from http://127.0.0.1:8080 --policy daily_cap=30 --out next
  fama federation agree next/draft.txt --key node.pem      each operator, on its node's machine
  fama federation sign next/draft.txt --key governance.pem each operator, offline
  fama federation publish next/draft.txt
If a log is to be cut, all operators first run `fama federation stand`. A version whose signatures
are split between two texts is lost: agree first.";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: FederationCommand,
}

#[derive(Debug, clap::Subcommand)]
enum FederationCommand {
    /// Make a federation: its manifest, and a folder for each operator
    ///
    /// Each folder has what a node needs: manifest, node.toml, node.pem. It also has governance.pem, which
    /// signs manifests only: move it to a safe place. Nothing is overwritten.
    #[command(after_help = "\
Example: four operators on this machine, then on four
  fama federation new Demo alpha.example beta.example gamma.example delta.example --out demo
  fama federation new Real alpha.example beta.example gamma.example delta.example --out real \\
    --host fama.alpha.example --host fama.beta.example --host 203.0.113.7 --host 203.0.113.8
One whose first operator issues tokens, so that agents sign in there:
  fama federation new Demo alpha.example --out demo --issuer alpha.example=http://127.0.0.1:8060")]
    New(NewArgs),
    /// Show a manifest or a draft: content, changes, signatures, and which are missing
    #[command(after_help = show::EXAMPLE)]
    Show(show::Args),
    /// Make the folder of an operator that is to join
    ///
    /// It has the keys and node.toml of its node, and operator.toml for the draft of the next version.
    #[command(after_help = operator::EXAMPLE)]
    Operator(operator::Args),
    /// Freeze a log: your node cosigns nothing more in it until the next version is adopted
    ///
    /// This is durable and cannot be undone. Use it only for a log that is to be cut. Your own log, once frozen,
    /// accepts no more entries.
    #[command(after_help = stand::EXAMPLE)]
    Stand(stand::Args),
    /// Draft the next version
    ///
    /// Writes draft.txt, chain.txt (all earlier versions) and, if a log is cut, evidence.json, which shows signers
    /// that nothing final is lost. An operator that leaves or gets a new node key has its log cut; its home passes
    /// to another log.
    #[command(after_help = draft::EXAMPLE)]
    Draft(draft::Args),
    /// Approve a draft as an operator, with the node key
    ///
    /// Governance keys sign only after a quorum agreed on one text: a version whose signatures are split between
    /// two texts is lost. Cuts are compared with the copy of your own node.
    #[command(after_help = agree::EXAMPLE)]
    Agree(agree::Args),
    /// Sign a draft with a governance key, offline
    ///
    /// Checks the text, the approvals of a quorum and the evidence for every cut. Records the text next to the key
    /// before it signs: on this machine, no key signs two texts of one version.
    #[command(after_help = sign::EXAMPLE)]
    Sign(sign::Args),
    /// Join the signatures of several copies of a draft
    #[command(after_help = merge::EXAMPLE)]
    Merge(merge::Args),
    /// Submit a signed version to your own node, which passes it on
    #[command(after_help = publish::EXAMPLE)]
    Publish(publish::Args),
}

#[derive(Debug, clap::Args)]
struct NewArgs {
    /// The display name of the federation
    name: String,
    /// The operators: domains that name them and their homes forever
    #[arg(required = true)]
    operators: Vec<Domain>,
    /// The folder to create everything in
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// IP address or DNS name of the nodes: none for loopback on this machine, one for all nodes, or one for each
    #[arg(long)]
    host: Vec<Host>,
    /// The first libp2p port; further nodes on a machine count up from it
    #[arg(long, default_value_t = FirstPorts::default().network, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// The first port of the query listeners
    #[arg(long, default_value_t = FirstPorts::default().query, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    query_port: u16,
    /// The first port of the admin listeners
    #[arg(long, default_value_t = FirstPorts::default().admin, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    admin_port: u16,
    /// How many operators must sponsor a provider [default: f + 1]
    #[arg(long, value_name = "N")]
    min_sponsors: Option<u32>,
    /// The issuer of an operator's tokens: https:// and a host, or http:// and a port of this machine. It gets a token
    /// key, and its node signs agents in
    #[arg(long, value_name = "NAME=URL", value_parser = draft::pair::<Domain, String>)]
    issuer: Vec<(Domain, String)>,
}

impl NewArgs {
    fn plan(&self) -> Result<FederationPlan, Failure> {
        let n = self.operators.len();
        let ports = FirstPorts { network: self.port, query: self.query_port, admin: self.admin_port };
        if ![0, 1, n].contains(&self.host.len()) {
            return Err(Failure::new("hosts", format!("{} hosts for {n} operators", self.host.len()))
                .hint("give no host, one for all nodes, or one for each"));
        }
        let operators = self.operators.iter().enumerate().map(|(i, domain)| match self.host.as_slice() {
            [] => OperatorPlan::local(domain.clone(), i, ports),
            hosts @ [only, ..] => {
                let host = hosts.get(i).unwrap_or(only);
                // How many of the nodes before it run on the same machine.
                let before = if hosts.len() == 1 { i } else { hosts.iter().take(i).filter(|one| *one == host).count() };
                OperatorPlan::hosted(domain.clone(), host, before, ports)
            }
        });
        let mut operators = operators.collect::<Result<Vec<_>, _>>()?;
        for (name, origin) in &self.issuer {
            let operator = operators.iter_mut().find(|operator| operator.domain == *name).ok_or_else(|| {
                Failure::new("unknown_operator", format!("--issuer: {name} is no operator"))
                    .hint("name one of those above")
            })?;
            operator.endpoints.issuer = Some(origin.clone());
        }
        let mut policy = Policy::recommended(n);
        policy.min_sponsors = self.min_sponsors.unwrap_or(policy.min_sponsors);
        Ok(FederationPlan { name: self.name.clone(), operators, policy })
    }
}

/// Runs one of the governance commands.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    match &args.command {
        FederationCommand::New(new) => create(new, terminal),
        FederationCommand::Show(args) => show::run(args, terminal),
        FederationCommand::Operator(args) => operator::run(args, terminal),
        FederationCommand::Stand(args) => stand::run(args, terminal),
        FederationCommand::Draft(args) => draft::run(args, terminal),
        FederationCommand::Agree(args) => agree::run(args, terminal),
        FederationCommand::Sign(args) => sign::run(args, terminal),
        FederationCommand::Merge(args) => merge::run(args, terminal),
        FederationCommand::Publish(args) => publish::run(args, terminal),
    }
}

fn create(new: &NewArgs, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let created = federation::create(&new.plan()?, &new.out)?;
    if new.operators.len() < 4 {
        terminal.say("With fewer than 4 operators, a single liar can certify two histories.");
    }
    terminal.say("Each governance.pem signs manifests only: move it off the nodes' machines, to a safe place.");
    let path = |path: &Path| path.display().to_string();
    let mut json = show::manifest_json(&created.manifest);
    json["manifest"] = json!(path(&created.manifest_path));
    json["nodes"] = created.folders.iter().map(|(_, folder)| json!(path(&Created::config(folder)))).collect();
    let mut lines =
        vec![("federation", created.manifest.federation().to_string()), ("manifest", path(&created.manifest_path))];
    for (_, folder) in &created.folders {
        lines.push(("start", format!("fama node --config {}", path(&Created::config(folder)))));
    }
    terminal.answer(&json, FieldList(lines))
}
