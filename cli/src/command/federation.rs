//! `fama federation`: found one, show one, and go on to its next version.
mod agree;
mod desk;
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
use crate::federation::{self, Created, Plan, Ports, Seat};
use crate::terminal::{Table, Terminal};

/// Shown below the help.
pub const EXAMPLE: &str = "\
Example:
  fama federation new Demo alpha.example beta.example gamma.example delta.example --out demo
  fama federation show demo/manifest.txt

The next version, agreed on first, then signed with governance keys that are kept offline:
  fama federation draft --from http://127.0.0.1:8080 --policy daily_cap=30 --out next
  fama federation agree next/draft.txt --key node.pem      each operator, on its node's machine
  fama federation sign next/draft.txt --key governance.pem each operator, offline
  fama federation publish next/draft.txt
Where a log is to end, all run `fama federation stand` before. A version whose signatures have split
between two texts cannot be saved: agree first.";

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
    /// Show a manifest or a draft: what it says, what it changes, who signed, who is missing
    #[command(after_help = show::EXAMPLE)]
    Show(show::Args),
    /// Make the folder of an operator that is to join
    ///
    /// It has the keys and node.toml of its node, and operator.toml for those who draft the next version.
    #[command(after_help = operator::EXAMPLE)]
    Operator(operator::Args),
    /// Tell one's own node to cosign nothing more in a log until the next version holds
    ///
    /// Durable and binding: there is no way back. Only for a log that is to be cut; in one's own log, nothing
    /// more is taken in.
    #[command(after_help = stand::EXAMPLE)]
    Stand(stand::Args),
    /// Draft the next version
    ///
    /// Writes draft.txt, chain.txt (the versions before) and, if a log is cut, evidence.json, which shows signers
    /// that nothing final is lost. Whoever leaves, or has a new node key, has its log cut; its home passes on.
    #[command(after_help = draft::EXAMPLE)]
    Draft(draft::Args),
    /// Give an operator's word for a draft, with its node key
    ///
    /// Nobody signs with a governance key before a quorum agreed on one text: a version whose signatures have
    /// split between two texts cannot be saved. Cuts are compared with the node's own copy.
    #[command(after_help = agree::EXAMPLE)]
    Agree(agree::Args),
    /// Sign a draft with a governance key; needs no node and no network
    ///
    /// Checks the text, the words of a quorum and the evidence for every cut, and notes the text beside the key
    /// before it signs: no key signs two texts of one version on this machine.
    #[command(after_help = sign::EXAMPLE)]
    Sign(sign::Args),
    /// Join the signatures of copies of one draft
    #[command(after_help = merge::EXAMPLE)]
    Merge(merge::Args),
    /// Hand a signed version to one's own node, which passes it on
    #[command(after_help = publish::EXAMPLE)]
    Publish(publish::Args),
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
        Command::Show(args) => show::run(args, terminal),
        Command::Operator(args) => operator::run(args, terminal),
        Command::Stand(args) => stand::run(args, terminal),
        Command::Draft(args) => draft::run(args, terminal),
        Command::Agree(args) => agree::run(args, terminal),
        Command::Sign(args) => sign::run(args, terminal),
        Command::Merge(args) => merge::run(args, terminal),
        Command::Publish(args) => publish::run(args, terminal),
    }
}

fn found(new: &New, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let created = federation::create(&new.plan()?, &new.out)?;
    if new.operators.len() < 4 {
        terminal.say("With fewer than 4 operators, one that lies can certify two histories.");
    }
    terminal.say("Each governance.pem signs manifests only: take it off the nodes' machines, to a safe place.");
    let path = |path: &Path| path.display().to_string();
    let mut json = show::manifest_json(&created.manifest);
    json["manifest"] = json!(path(&created.manifest_path));
    json["nodes"] = created.folders.iter().map(|(_, folder)| json!(path(&Created::config(folder)))).collect();
    let mut lines =
        vec![("federation", created.manifest.federation().to_string()), ("manifest", path(&created.manifest_path))];
    for (_, folder) in &created.folders {
        lines.push(("start", format!("fama node --config {}", path(&Created::config(folder)))));
    }
    terminal.answer(&json, Table(lines))
}
