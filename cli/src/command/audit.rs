//! `fama audit`: verifies everything and trusts no source.
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fama_ledger::codec;
use fama_ledger::id::Hex;
use fama_ledger::manifest::Manifest;
use fama_ledger::time::Millis;
use fama_reader::audit::finding::{AuditFinding, LieKind};
use fama_reader::audit::{self, AuditFigures, AuditReport, Hooks, LogReport, PublicFiles};
use fama_reader::source::PublicSource;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::settings;
use crate::terminal::Terminal;
use crate::{files, progress};

mod watch;

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Examples:
  fama audit http://127.0.0.1:8080 --manifest manifest.txt
  fama audit https://a.example https://b.example/mirror --manifest manifest.txt --keep audit
  fama audit https://a.example --since audit
  fama audit https://a.example https://b.example --keep audit --watch

Reads every manifest, head, tile, entry and note that the sources show; checks each head's quorum,
each log's tree, every author's signature and every state root; recomputes the joined state.
A second source, or an earlier audit, reveals whether different readers are shown different
histories. Needs about twice as much disk space as it reads: in the system's temporary folder
(TMPDIR) without --keep. With --watch it keeps reading what is new until Ctrl-C, prints a line
whenever something changed, and each finding when it appears; a second Ctrl-C ends a round that
takes too long. Exit codes: 0 everything verified, 1 something is wrong, 3 a source did not
answer, and what could be read holds.";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A node's query address, a folder or bucket (s3://…) of published files, or a stopped node's data folder
    #[arg(required = true, value_name = "SOURCE")]
    sources: Vec<String>,
    /// The genesis to trust, or a chain of versions; without it, the genesis of the first source is used
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Keep the audit in this folder; run again with it to continue where it stopped
    #[arg(long, value_name = "DIR", conflicts_with = "since")]
    keep: Option<PathBuf>,
    /// Continue from the folder of an earlier audit: read only what is new, and check that nothing was rolled back
    #[arg(long, value_name = "DIR")]
    since: Option<PathBuf>,
    /// Keep following the sources: read what is new and compare their heads so often, in seconds
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "60",
          value_parser = clap::value_parser!(u32).range(1..=86_400))]
    watch: Option<u32>,
}

/// Runs the audit and writes proofs of equivocation into a kept folder.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let trusted = settings::trusted(args.manifest.as_deref())?;
    let sources = open(&args.sources)?;
    let folder = AuditFolder::new(args.keep.as_deref(), args.since.as_deref())?;
    if let Some(seconds) = args.watch {
        let genesis = GenesisOrigin::of(trusted.as_ref(), args.since.is_some());
        let watch = watch::Watch::new(&sources, trusted, &folder, genesis);
        return watch.run(Duration::from_secs(seconds.into()), terminal);
    }
    let bar = progress::bar(0, "auditing");
    let mut hooks = Hooks {
        progress: &mut |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        },
        watch: &mut |_, _, _, _| {},
    };
    let audited = audit::run(&sources, trusted.as_ref(), &folder.store(), &mut hooks);
    bar.finish_and_clear();
    let (report, _) = audited?;
    let mut shown = shown(&report);
    let genesis = GenesisOrigin::of(trusted.as_ref(), args.since.is_some());
    shown["genesis"] = genesis.as_str().into();
    let people = people(&report, genesis);
    if report.findings.is_empty() {
        return terminal.answer(&shown, people);
    }
    if !terminal.json {
        terminal.say(people);
    }
    for path in folder.keep_proofs(&report)? {
        terminal.say(format_args!("proof       {}", path.display()));
    }
    Err(failure(&report, shown))
}

/// Where the trusted genesis comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GenesisOrigin {
    /// From `--manifest`.
    Trusted,
    /// From the folder of an earlier audit.
    Earlier,
    /// From the first source itself, unverified.
    Shown,
}

impl GenesisOrigin {
    pub(super) const fn of(trusted: Option<&Arc<Manifest>>, continues: bool) -> Self {
        match (trusted, continues) {
            (Some(_), _) => Self::Trusted,
            (None, true) => Self::Earlier,
            (None, false) => Self::Shown,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Trusted => "trusted",
            Self::Earlier => "earlier_audit",
            Self::Shown => "source",
        }
    }
}

/// Opens every source.
pub(super) fn open(names: &[String]) -> Result<Vec<Box<dyn PublicFiles>>, Failure> {
    let open = |name: &String| Ok(Box::new(PublicSource::open(name)?) as Box<dyn PublicFiles>);
    names.iter().map(open).collect()
}

/// Name of the store in an audit's folder.
const STORE: &str = "store";

/// The folder of an audit, kept or deleted afterwards.
pub(super) enum AuditFolder {
    Kept(PathBuf),
    Temporary(tempfile::TempDir),
}

impl AuditFolder {
    pub(super) fn new(keep: Option<&Path>, since: Option<&Path>) -> Result<Self, Failure> {
        if let Some(since) = since.filter(|since| !since.join(STORE).is_dir()) {
            let failure = Failure::new("no_audit", format!("{} holds no audit", since.display()));
            return Err(failure.hint("`fama audit … --keep DIR` makes one"));
        }
        let Some(dir) = keep.or(since) else {
            return tempfile::tempdir().map(Self::Temporary).map_err(|error| Failure::new("file", error));
        };
        if dir.join("CURRENT").exists() {
            let failure = Failure::new("node_data", format!("{} is a node's data folder", dir.display()));
            return Err(failure.hint("an audit needs a folder of its own"));
        }
        files::create_folder(dir)?;
        Ok(Self::Kept(dir.to_owned()))
    }

    pub(super) fn store(&self) -> PathBuf {
        match self {
            Self::Kept(dir) => dir.join(STORE),
            Self::Temporary(dir) => dir.path().join(STORE),
        }
    }

    /// Writes proofs of equivocation into a kept folder; gives their paths.
    fn keep_proofs(&self, report: &AuditReport) -> Result<Vec<PathBuf>, Failure> {
        let Self::Kept(dir) = self else { return Ok(Vec::new()) };
        let mut written = Vec::new();
        for proof in report.findings.iter().filter_map(|finding| finding.proof.as_ref()) {
            let path = dir.join(format!("equivocation-{}-{}.hex", proof.log.operator, proof.log.generation));
            files::replace(&path, &format!("{}\n", Hex(&codec::encode(proof.as_ref()))), 0o644)?;
            written.push(path);
        }
        Ok(written)
    }
}

/// The report as a JSON object.
pub(super) fn shown(report: &AuditReport) -> Value {
    let AuditFigures { entries, events, void, signatures, notes, files, bytes, seconds, bare_rate, .. } =
        &report.figures;
    json!({
        "ok": report.findings.is_empty(), "verdict": verdict(report),
        "federation": report.federation.to_string(),
        "manifest_version": report.version,
        "state_id": report.state_id.to_string(),
        "logs": report.logs.iter().map(log).collect::<Vec<_>>(),
        "identities": report.identities,
        "karma": report.karma,
        "entries": entries, "events": events, "void": void,
        "notes": {"checked": notes.checked, "missing": notes.missing},
        "signatures": signatures, "seconds": seconds, "signatures_per_second": report.figures.rate(),
        "bare_signatures_per_second": bare_rate, "files": files, "bytes": bytes,
        "findings": report.findings.iter().map(AuditFinding::json).collect::<Vec<_>>(),
    })
}

/// `verified`, `incomplete` or `does_not_hold`.
fn verdict(report: &AuditReport) -> &'static str {
    match report.findings.len() {
        0 => "verified",
        _ if is_only_silence(report) => "incomplete",
        _ => "does_not_hold",
    }
}

fn log(log: &LogReport) -> Value {
    json!({
        "log": log.state.log.to_string(), "size": log.state.size, "root": log.state.root.to_string(),
        "state_root": log.state.state_root.to_string(), "adopted": log.adopted, "cut": log.cut, "new": log.new,
        "certified_at": log.certified_at.map(time),
    })
}

fn time(seconds: u64) -> String {
    Millis(seconds.saturating_mul(1_000)).to_string()
}

/// The report as lines for people.
pub(super) fn people(report: &AuditReport, genesis: GenesisOrigin) -> String {
    let mut text = String::new();
    let figures = &report.figures;
    let mut line = |name: &str, value: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<12}{value}");
    };
    line("federation", format!("{}, version {} of its manifest", report.federation, report.version));
    match genesis {
        GenesisOrigin::Trusted => {}
        GenesisOrigin::Earlier => line("", "its genesis is that of the earlier audit".to_owned()),
        GenesisOrigin::Shown => line(
            "",
            "ITS GENESIS IS THE SOURCE'S OWN CLAIM: name the federation you mean with --manifest FILE".to_owned(),
        ),
    }
    for log in &report.logs {
        let when = match (log.cut, log.certified_at) {
            (true, _) => "ended by the manifest".to_owned(),
            (false, Some(seconds)) => format!("certified {}", time(seconds)),
            (false, None) if log.state.size == 0 => "no entries shown".to_owned(),
            (false, None) => "NOT CERTIFIED".to_owned(),
        };
        line(
            "log",
            format!("{:<24} {:>9} entries, {:>9} new; {when}", log.state.log.to_string(), log.state.size, log.new),
        );
    }
    line("events", counts(&figures.events));
    if !figures.void.is_empty() {
        line("void", counts(&figures.void));
    }
    line("notes", format!("{} match their entries, {} missing", figures.notes.checked, figures.notes.missing));
    line("identities", format!("{}, with a total karma of {}", report.identities, report.karma));
    line("state", report.state_id.to_string());
    line("read", format!("{} files, {:.1} MB", figures.files, megabytes(figures.bytes)));
    let bare = figures.bare_rate;
    line(
        "took",
        format!(
            "{:.1} s for {} signatures: {:.0} per second; signature checks alone: {bare:.0} per second",
            figures.seconds,
            figures.signatures,
            figures.rate()
        ),
    );
    for finding in &report.findings {
        line("FOUND", finding.to_string());
    }
    line(
        "verdict",
        match report.findings.len() {
            0 => "everything verified".to_owned(),
            _ if is_only_silence(report) => {
                "INCOMPLETE: what could be read holds, but not all of it could be read".to_owned()
            }
            found => format!("DOES NOT HOLD: {found} found; the other figures cover what could be read"),
        },
    );
    text.trim_end().to_owned()
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn counts(counts: &std::collections::BTreeMap<&'static str, u64>) -> String {
    if counts.is_empty() {
        return "none".to_owned();
    }
    counts.iter().map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
}

/// Whether nothing was found but sources that do not answer: that is no lie.
fn is_only_silence(report: &AuditReport) -> bool {
    !report.findings.is_empty() && report.findings.iter().all(|one| one.lie == LieKind::Unreachable)
}

pub(super) fn failure(report: &AuditReport, shown: Value) -> Failure {
    let first = report.findings.first().map_or_else(String::new, ToString::to_string);
    let more = report.findings.len().saturating_sub(1);
    let message = if more == 0 { first } else { format!("{first}; and {more} more") };
    let proved = report.findings.iter().any(|finding| finding.proof.is_some());
    let hint = if proved {
        "keep the output of --json: its `equivocation` convinces every node and operator"
    } else {
        "audit another source, to learn whether the server or the signer is at fault"
    };
    let mut failure = if is_only_silence(report) {
        Failure::new("audit_incomplete", message)
            .hint("a source that cannot be read is no liar: audit again when it answers, or leave it out")
            .undecided()
    } else {
        Failure::new("audit_failed", message).hint(hint)
    };
    failure = failure.achieved("report", shown);
    failure
}
