//! `fama federation show`: shows a manifest, a draft or a chain.
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fama_ledger::key::PublicKey;
use fama_ledger::limits::CHAIN_BYTES_MAX;
use fama_ledger::log::Head;
use fama_ledger::manifest::{Cut, Endpoints, Manifest, Operator};
use serde_json::{Value, json};

use super::dossier::{self, progress_json, progress_lines};
use crate::failure::Failure;
use crate::files;
use crate::governance::{CHAIN_FILE, SignedText, changes};
use crate::query::Query;
use crate::terminal::{FieldList, Terminal};

/// Examples that follow the help text.
pub(super) const EXAMPLE: &str = "\
Example: a manifest, a draft, and the chain that a node holds
  fama federation show demo/manifest.txt
  fama federation show next/draft.txt
  fama federation show http://127.0.0.1:8080";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A manifest, a chain of versions, a draft, or the URL of a node's query listener
    file: String,
    /// The chain of versions before a draft [default: chain.txt next to it]
    #[arg(long, value_name = "FILE")]
    chain: Option<PathBuf>,
}

/// Shows a manifest, a draft or the chain of a node.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    if args.file.starts_with("http://") || args.file.starts_with("https://") {
        let chain = fetch(&args.file)?;
        return whole(&chain, terminal);
    }
    let path = Path::new(&args.file);
    let chain = args.chain.clone().unwrap_or_else(|| path.with_file_name(CHAIN_FILE));
    if is_draft(path)? && chain != path {
        return draft(&SignedText::read(path)?, &dossier::chain(&chain)?, terminal);
    }
    let chain = files::read_manifest(path)?;
    whole(&chain, terminal)
}

fn fetch(url: &str) -> Result<Arc<Manifest>, Failure> {
    let chain = Query::new(url).get_text(&["federation", "manifests"], &[], CHAIN_BYTES_MAX)?;
    Manifest::parse_chain(&chain).map_err(|error| Failure::from(error).about(url))
}

/// Whether the first version in a file is not a genesis.
fn is_draft(path: &Path) -> Result<bool, Failure> {
    let text = files::read(path, CHAIN_BYTES_MAX)?;
    let version = text.lines().find_map(|line| line.strip_prefix("version = "));
    Ok(version.is_some_and(|version| version != "1"))
}

fn whole(manifest: &Manifest, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let mut json = manifest_json(manifest);
    let mut lines = manifest_lines(manifest);
    if let Some(previous) = manifest.previous() {
        json["progress"] = progress_json(previous, manifest)?;
        lines.extend(change_lines(previous, manifest));
        lines.extend(progress_lines(previous, manifest)?.into_iter().filter(|(name, _)| *name == "signed"));
    }
    terminal.answer(&json, FieldList(lines))
}

fn draft(signed_text: &SignedText, previous: &Arc<Manifest>, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let next = previous.unsigned_successor(signed_text.note.clone())?;
    let mut json = manifest_json(&next);
    json["progress"] = progress_json(previous, &next)?;
    let mut lines = manifest_lines(&next);
    lines.extend(change_lines(previous, &next));
    lines.extend(progress_lines(previous, &next)?);
    terminal.answer(&json, FieldList(lines))
}

fn change_lines(previous: &Manifest, next: &Manifest) -> Vec<(&'static str, String)> {
    changes(previous, next).into_iter().map(|change| ("change", change)).collect()
}

fn key(bytes: &[u8; 32]) -> String {
    PublicKey::Ed25519(*bytes).to_string()
}

fn cut_json((version, cut): &(u32, Cut)) -> Value {
    json!({
        "version": version, "log": cut.log.to_string(), "size": cut.head.size, "root": cut.head.root.to_string(),
        "state_root": cut.state_root.to_string(), "adopted": cut.adopted, "successor": cut.successor.to_string(),
    })
}

pub(super) fn manifest_json(manifest: &Manifest) -> Value {
    let operator = |operator: &Operator| {
        json!({
            "name": operator.name.as_str(), "generation": operator.generation, "addresses": operator.addresses,
            "begins": operator.begins.to_string(), "query": operator.endpoints.query,
            "submit": operator.endpoints.submit, "issuer": operator.endpoints.issuer,
            "token_keys": operator.endpoints.token_keys.iter().map(|one| key(one.as_bytes())).collect::<Vec<_>>(),
            "node_key": key(operator.node_key.as_bytes()), "governance_key": key(operator.governance_key.as_bytes()),
        })
    };
    let homes: Vec<Value> =
        manifest.homes().iter().map(|(home, log)| json!({"name": home.as_str(), "log": log.to_string()})).collect();
    let cuts = manifest.logs().values().filter_map(|known| known.cut.as_ref());
    json!({
        "federation": manifest.federation().to_string(), "name": manifest.name(), "version": manifest.version(),
        "protocol": manifest.protocol(), "hash": manifest.hash().to_string(), "quorum": manifest.quorum(), "faults": manifest.faults(),
        "policy": serde_json::to_value(manifest.policy()).unwrap_or_default(),
        "operators": manifest.operators().iter().map(operator).collect::<Vec<_>>(), "homes": homes,
        "cuts": cuts.map(cut_json).collect::<Vec<_>>(),
    })
}

fn manifest_lines(manifest: &Manifest) -> Vec<(&'static str, String)> {
    let n = manifest.operators().len();
    let version = match manifest.previous() {
        None => format!("1, signed by all {n} operators"),
        Some(previous) => format!("{}, after {}", manifest.version(), previous.hash()),
    };
    let mut lines = vec![
        ("name", manifest.name().to_owned()),
        ("federation", manifest.federation().to_string()),
        ("version", version),
        ("hash", manifest.hash().to_string()),
        ("quorum", format!("{} of {n}; {} may lie", manifest.quorum(), manifest.faults())),
        ("sponsors", format!("{} make a provider's karma count", manifest.policy().min_sponsors)),
    ];
    let policy = serde_json::to_value(manifest.policy()).unwrap_or_default();
    let policy: Vec<String> =
        policy.as_object().into_iter().flatten().map(|(name, value)| format!("{name} = {value}")).collect();
    lines.push(("policy", policy.join("\n")));
    for operator in manifest.operators() {
        let key = key(operator.node_key.as_bytes());
        let governance = self::key(operator.governance_key.as_bytes());
        let mut text = format!("{} begins {}\n{key}\ngovernance {governance}", operator.log(), operator.begins);
        let Endpoints { query, submit, issuer, token_keys } = &operator.endpoints;
        let named = [("query", query), ("submit", submit), ("issuer", issuer)];
        let named = named.into_iter().filter_map(|(what, origin)| Some(format!("{what} {}", origin.as_ref()?)));
        let tokens = token_keys.iter().map(|one| format!("token {}", self::key(one.as_bytes())));
        for line in operator.addresses.iter().cloned().chain(named).chain(tokens) {
            text.push('\n');
            text.push_str(&line);
        }
        lines.push(("operator", text));
    }
    for (version, cut) in manifest.logs().values().filter_map(|known| known.cut.as_ref()) {
        let at =
            if cut.head == Head::EMPTY { "before its first entry".to_owned() } else { format!("at {}", cut.head.size) };
        lines.push(("cut", format!("{} {at} by version {version}; {} continues it", cut.log, cut.successor)));
    }
    lines
}
