//! `fama audit`: redo everything, believe nobody.
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use fama_ledger::codec;
use fama_ledger::id::Hex;
use fama_ledger::time::Millis;
use fama_reader::audit::finding::AuditFinding;
use fama_reader::audit::{self, AuditFigures, AuditReport, Hooks, LogReport, PublicFiles};
use fama_reader::source::PublicSource;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::terminal::Terminal;
use crate::{files, progress};

/// Shown below the help.
pub const EXAMPLE: &str = "\
Examples:
  fama audit http://127.0.0.1:8080 --manifest manifest.txt
  fama audit https://a.example https://b.example/mirror --manifest manifest.txt --keep audit
  fama audit https://a.example --since audit

Reads every manifest, head, tile, entry and note that the sources show; checks each head's quorum, each log's tree,
every author's signature and every state root; folds and joins it all. Two sources, or an earlier audit, show
whether everybody is told the same. It needs about twice as much disk as it reads, in the system's temporary folder
(TMPDIR) without --keep. Exit codes: 0 all holds, 1 it does not.";

/// Options.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A node's query address, a folder or bucket (s3://…) of published files, or a stopped node's data folder
    #[arg(required = true, value_name = "SOURCE")]
    sources: Vec<String>,
    /// The genesis to trust, or a chain of versions; without it the first source's own is taken
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Keep what was audited in this folder; run again with it to go on where it stopped
    #[arg(long, value_name = "DIR", conflicts_with = "since")]
    keep: Option<PathBuf>,
    /// Go on from the folder of an earlier audit: read only what is new, and check that nothing was taken back
    #[arg(long, value_name = "DIR")]
    since: Option<PathBuf>,
}

/// Does it.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let trusted = args.manifest.as_deref().map(files::read_manifest).transpose()?;
    let sources = open(&args.sources)?;
    let place = Place::new(args.keep.as_deref(), args.since.as_deref())?;
    let bar = progress::bar(0, "auditing");
    let mut hooks = Hooks {
        progress: &mut |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        },
        watch: &mut |_, _, _, _| {},
    };
    let audited = audit::run(&sources, trusted.as_ref(), &place.store(), &mut hooks);
    bar.finish_and_clear();
    let (report, _) = audited?;
    let mut shown = shown(&report);
    let genesis = match (&trusted, &args.since) {
        (Some(_), _) => Genesis::Trusted,
        (None, Some(_)) => Genesis::Earlier,
        (None, None) => Genesis::Shown,
    };
    shown["genesis"] = genesis.as_str().into();
    let people = people(&report, genesis);
    if report.findings.is_empty() {
        return terminal.answer(&shown, people);
    }
    if !terminal.json {
        terminal.say(people);
    }
    for path in place.keep_proofs(&report)? {
        terminal.say(format_args!("proof       {}", path.display()));
    }
    Err(failure(&report, shown))
}

/// Whose word the genesis is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Genesis {
    /// `--manifest`.
    Trusted,
    /// That of the earlier audit.
    Earlier,
    /// The source's own.
    Shown,
}

impl Genesis {
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

/// What an audit's folder holds.
const STORE: &str = "store";

/// Where an audit works: a folder that stays, or one that is gone afterwards.
pub(super) enum Place {
    Kept(PathBuf),
    Temporary(tempfile::TempDir),
}

impl Place {
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

    /// Writes proofs against owners into a folder that stays; gives the files.
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

/// All of it for a machine.
pub(super) fn shown(report: &AuditReport) -> Value {
    let AuditFigures { entries, events, void, signatures, notes, files, bytes, seconds, bare_rate, .. } =
        &report.figures;
    json!({
        "ok": report.findings.is_empty(),
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

/// What a person reads.
pub(super) fn people(report: &AuditReport, genesis: Genesis) -> String {
    let mut text = String::new();
    let figures = &report.figures;
    let mut line = |name: &str, value: String| {
        // A String takes all that is written to it.
        let _ = writeln!(text, "{name:<12}{value}");
    };
    line("federation", format!("{}, version {} of its manifest", report.federation, report.version));
    match genesis {
        Genesis::Trusted => {}
        Genesis::Earlier => line("", "its genesis is that of the earlier audit".to_owned()),
        Genesis::Shown => line("", "THE SOURCE'S OWN WORD: --manifest FILE says which federation you mean".to_owned()),
    }
    for log in &report.logs {
        let when = match (log.cut, log.certified_at) {
            (true, _) => "ended by a manifest".to_owned(),
            (false, Some(seconds)) => format!("certified {}", time(seconds)),
            (false, None) if log.state.size == 0 => "not begun, as far as is shown".to_owned(),
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
    line("notes", format!("{} as entries name them, {} not there", figures.notes.checked, figures.notes.missing));
    line("identities", format!("{}, with karma {} together", report.identities, report.karma));
    line("state", report.state_id.to_string());
    line("read", format!("{} files, {:.1} MB", figures.files, megabytes(figures.bytes)));
    let bare = figures.bare_rate;
    line(
        "took",
        format!(
            "{:.1} s for {} signatures: {:.0} a second; bare checks: {bare:.0} a second",
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
            0 => "all holds".to_owned(),
            found => format!("DOES NOT HOLD: {found} found; what else is said here is of what could be read"),
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

pub(super) fn failure(report: &AuditReport, shown: Value) -> Failure {
    let first = report.findings.first().map_or_else(String::new, ToString::to_string);
    let more = report.findings.len().saturating_sub(1);
    let message = if more == 0 { first } else { format!("{first}; and {more} more") };
    let proved = report.findings.iter().any(|finding| finding.proof.is_some());
    let hint = if proved {
        "keep the output of --json: `equivocation` in it convinces every node and operator"
    } else {
        "audit another source: is it who serves, or who signed?"
    };
    let mut failure = Failure::new("audit_failed", message).hint(hint);
    failure.achieved = Some(("report", shown));
    failure
}
