//! `fama federation draft`: drafts the next version of the manifest.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fama_ledger::id::Domain;
use fama_ledger::limits::MANIFEST_BYTES_MAX;
use fama_ledger::manifest::{Manifest, ManifestError, Operator};
use fama_ledger::signed_note::SignedNote;
use serde_json::json;

use super::dossier::progress_json;
use crate::failure::Failure;
use crate::files::{self, PUBLIC_MODE};
use crate::governance::{
    CHAIN_FILE, DRAFT_FILE, EVIDENCE_FILE, EndpointChanges, Evidence, Gathered, VersionPlan, changes, check_behind,
    list,
};
use crate::host::{self, Address};
use crate::progress;
use crate::query;
use crate::terminal::{FieldList, Terminal};

/// Examples that follow the help text.
pub(super) const EXAMPLE: &str = "\
Example: a new rule, a new governance key, a new operator, a new node key, an operator that leaves
  fama federation draft --from http://127.0.0.1:8080 --policy daily_cap=30 --out next
  fama federation draft --from http://127.0.0.1:8080 --governance beta.example=new.pem --out next
  fama federation draft --from http://127.0.0.1:8080 --add epsilon/operator.toml --out next
  fama federation draft --from http://127.0.0.1:8080 --from https://fama.gamma.example \\
    --rotate beta.example=new-node.pem --out next
  fama federation draft --from http://127.0.0.1:8080 --remove delta.example \\
    --successor alpha.example --out next
For the last two, all operators run `fama federation stand` first.
An operator with a new node key names it as next_node_key in node.toml and restarts its node.";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Nodes to ask for the earlier versions and for stands
    #[arg(long, value_name = "URL", default_value = query::DEFAULT)]
    from: Vec<String>,
    /// The operator.toml of an operator that joins
    #[arg(long, value_name = "FILE")]
    add: Vec<PathBuf>,
    /// An operator that leaves forever; its log is cut
    #[arg(long, value_name = "NAME")]
    remove: Vec<Domain>,
    /// The operator that takes over the homes of those that leave
    #[arg(long, value_name = "NAME")]
    successor: Option<Domain>,
    /// A new node key of an operator: its log is cut, and a new generation continues it
    #[arg(long, value_name = "NAME=FILE", value_parser = pair::<Domain, PathBuf>)]
    rotate: Vec<(Domain, PathBuf)>,
    /// A new governance key of an operator, which signs from the version after this one on
    #[arg(long, value_name = "NAME=FILE", value_parser = pair::<Domain, PathBuf>)]
    governance: Vec<(Domain, PathBuf)>,
    /// An address of an operator; replaces all its previous ones
    #[arg(long, value_name = "NAME=MULTIADDR", value_parser = pair::<Domain, Address>)]
    address: Vec<(Domain, Address)>,
    /// The origin of an operator's query listener, like https://fama.alpha.example; NAME= removes it
    #[arg(long, value_name = "NAME=URL", value_parser = pair::<Domain, String>)]
    query: Vec<(Domain, String)>,
    /// The origin at which an operator takes submissions over HTTP
    #[arg(long, value_name = "NAME=URL", value_parser = pair::<Domain, String>)]
    submit: Vec<(Domain, String)>,
    /// The issuer of an operator's tokens, with --token-key; NAME= removes both
    #[arg(long, value_name = "NAME=URL", value_parser = pair::<Domain, String>)]
    issuer: Vec<(Domain, String)>,
    /// A key of an operator's tokens; replaces all previous ones. The first of at most two signs
    #[arg(long, value_name = "NAME=FILE", value_parser = pair::<Domain, PathBuf>)]
    token_key: Vec<(Domain, PathBuf)>,
    /// A policy rule: max_delta, daily_cap, min_sponsors, …
    #[arg(long, value_name = "RULE=NUMBER", value_parser = pair::<String, String>)]
    policy: Vec<(String, String)>,
    /// The folder to create draft.txt, chain.txt and evidence.json in
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(super) fn pair<A, B>(text: &str) -> Result<(A, B), String>
where
    A: std::str::FromStr<Err: std::fmt::Display>,
    B: std::str::FromStr<Err: std::fmt::Display>,
{
    let (name, value) = text.split_once('=').ok_or("want a name, = and a value")?;
    Ok((
        name.parse().map_err(|error: A::Err| error.to_string())?,
        value.parse().map_err(|error: B::Err| error.to_string())?,
    ))
}

impl Args {
    fn plan(&self) -> Result<VersionPlan, Failure> {
        let operator = |path: &PathBuf| -> Result<Operator, Failure> {
            let text = files::read(path, MANIFEST_BYTES_MAX)?;
            let read = Operator::from_toml(&text);
            let operator = read.map_err(|error: ManifestError| Failure::from(error).about(path.display()))?;
            for address in &operator.addresses {
                let checked = host::check_multiaddress(address);
                checked.map_err(|fault| Failure::new("address", format!("{}: {address}: {fault}", path.display())))?;
            }
            Ok(operator)
        };
        let read_key = |(name, path): &(Domain, PathBuf)| Ok((name.clone(), files::read_public(path)?));
        let mut addresses: BTreeMap<Domain, Vec<String>> = BTreeMap::new();
        for (name, address) in &self.address {
            addresses.entry(name.clone()).or_default().push(address.0.clone());
        }
        let mut endpoints: BTreeMap<Domain, EndpointChanges> = BTreeMap::new();
        for (name, origin) in &self.query {
            endpoints.entry(name.clone()).or_default().query = Some(origin.clone());
        }
        for (name, origin) in &self.submit {
            endpoints.entry(name.clone()).or_default().submit = Some(origin.clone());
        }
        for (name, origin) in &self.issuer {
            endpoints.entry(name.clone()).or_default().issuer = Some(origin.clone());
        }
        for (name, path) in &self.token_key {
            endpoints.entry(name.clone()).or_default().token_keys.push(files::read_public(path)?);
        }
        Ok(VersionPlan {
            add: self.add.iter().map(operator).collect::<Result<_, _>>()?,
            remove: self.remove.clone(),
            rotate: self.rotate.iter().map(read_key).collect::<Result<_, Failure>>()?,
            governance: self.governance.iter().map(read_key).collect::<Result<_, Failure>>()?,
            addresses,
            endpoints,
            policy: self.policy.clone(),
            successor: self.successor.clone(),
        })
    }
}

/// Gathers freezes and evidence from nodes and writes the draft.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let plan = args.plan()?;
    let mut gathered = Gathered::ask(&args.from, |failure| terminal.say(failure))?;
    let (mut cuts, mut shown) = (Vec::new(), Vec::new());
    for (log, successor) in plan.ends(&gathered.newest)? {
        let spinner = progress::spinner(format!("comparing the nodes' copies of {log}"));
        let found = gathered.cut(&log, &successor);
        spinner.finish_and_clear();
        let (cut, evidence) = found?;
        shown.push((log, evidence));
        cuts.push(cut);
    }
    let mut evidence = Evidence::new(std::mem::take(&mut gathered.stands));
    shown.into_iter().for_each(|(log, cut)| evidence.add(log, cut));
    let note = SignedNote { text: plan.draft(&gathered.newest, cuts)?.text()?, signatures: Vec::new() };
    let next = gathered.newest.unsigned_successor(note)?;
    if changes(&gathered.newest, &next).is_empty() {
        return Err(Failure::new("no_change", "this draft would change nothing").hint("see --help for what can change"));
    }
    // Nobody can agree yet, but may soon.
    let behind = check_behind(&next, &gathered.behind(&next));
    behind.err().into_iter().for_each(|failure| terminal.say(failure));
    check_signable(&gathered.newest, &next, &evidence)?;
    recommend(&next, terminal);
    write(args, &gathered.newest, &next, &evidence, terminal)
}

/// Checks that in every quorum that must sign, enough operators may: else the draft is useless.
fn check_signable(newest: &Manifest, next: &Manifest, evidence: &Evidence) -> Result<(), Failure> {
    for signers in next.signers()? {
        let operators = newest.at(signers.version).map_or(&[][..], Manifest::operators);
        let (mut able, mut reasons) = (0_usize, Vec::new());
        for operator in operators {
            match crate::governance::grounds(newest, next, evidence, &operator.name) {
                Ok(_) => able = able.saturating_add(1),
                Err(error) => reasons.push(error.to_string()),
            }
        }
        if able < signers.wanted {
            let (wanted, version) = (signers.wanted, signers.version);
            let message = format!(
                "only {able} operators of version {version} may sign this, {wanted} are needed: {}",
                reasons.join("; ")
            );
            return Err(Failure::new("cut_unsignable", message)
                .hint("get more stands, or ask nodes with more evidence: --from URL"));
        }
    }
    Ok(())
}

fn recommend(next: &Manifest, terminal: &mut Terminal<'_>) {
    let (has, wanted) = (next.policy().min_sponsors, next.faults().saturating_add(1));
    if usize::try_from(has).is_ok_and(|has| has < wanted) {
        terminal.say(format!(
            "{} operators may lie, but {has} make a provider's karma count; recommended: --policy min_sponsors={wanted}",
            next.faults()
        ));
    }
}

fn write(
    args: &Args,
    newest: &Manifest,
    next: &Manifest,
    evidence: &Evidence,
    terminal: &mut Terminal<'_>,
) -> Result<(), Failure> {
    let path = |name: &str| args.out.join(name);
    files::create_folder(&args.out)?;
    files::create(&path(DRAFT_FILE), &next.note().text, PUBLIC_MODE)?;
    files::create(&path(CHAIN_FILE), &newest.chain(), PUBLIC_MODE)?;
    let cuts = next.cuts().next().is_some();
    if cuts {
        files::create(&path(EVIDENCE_FILE), &evidence.json(), PUBLIC_MODE)?;
    }
    let shown = |path: &Path| path.display().to_string();
    let mut json = progress_json(newest, next)?;
    json["draft"] = json!(shown(&path(DRAFT_FILE)));
    json["chain"] = json!(shown(&path(CHAIN_FILE)));
    json["evidence"] = if cuts { json!(shown(&path(EVIDENCE_FILE))) } else { json!(null) };
    let names: Vec<Domain> = newest.operators().iter().map(|operator| operator.name.clone()).collect();
    let mut lines = vec![("draft", shown(&path(DRAFT_FILE))), ("hash", next.hash().to_string())];
    lines.extend(changes(newest, next).into_iter().map(|change| ("change", change)));
    lines.push(("agree", format!("{} of {}", newest.quorum(), list(&names))));
    terminal.answer(&json, FieldList(lines))
}
