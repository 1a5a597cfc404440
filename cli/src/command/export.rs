//! `fama export`: writes a federation's whole history as tables.
use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueEnum;
use fama_ledger::join::LogState;
use fama_ledger::manifest::Manifest;
use fama_node::store::Store;
use fama_reader::audit::{self, AuditReport, EntryWatch, Hooks, PublicFiles};
use fama_reader::export::{self, ENTRIES_FOLDER, EntryTable, RANGE_ENTRIES, TableFormat, Unfinished, join};
use fama_reader::source::PublicSource;
use serde_json::json;

use super::audit::{AuditFolder, GenesisOrigin, failure, people, shown};
use crate::failure::Failure;
use crate::settings;
use crate::terminal::Terminal;
use crate::{files, progress};

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Examples:
  fama export --from http://127.0.0.1:8080 --manifest manifest.txt --format parquet --to tables
  fama export --from published --format csv --to tables
  fama export --from https://node.alpha.example --format parquet --ranges --to lake

Writes a file each for entries, identities and attestations. Everything is audited while it is
written, as by `fama audit`; if anything is wrong, no table is left. In the text formats, equal
histories give equal bytes.

With --ranges it writes the entries alone, each with its bytes, for engines that read many files:
DIR/entries/log=LOG/generation=N/FIRST-LAST.parquet, 262,144 indexes in a file. Run again with the
same DIR, it audits and adds what is new: only the last file of a log is ever replaced, at once.
DIR/_audit keeps the audit, some four times as large as the files; without it all is audited again.";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A node's query address, a folder or bucket (s3://…) of published files, or a stopped node's data folder
    #[arg(long, value_name = "SOURCE")]
    from: String,
    /// The genesis to trust, or a chain of versions; without it the source's own is taken
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// The format of the tables
    #[arg(long)]
    format: FormatArg,
    /// The folder to write them to
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Write the entries with their bytes, in files by log and range of indexes; a later export adds to them
    #[arg(long)]
    ranges: bool,
}

/// The folder of the audit behind files by range. Spark and Hive read nothing whose name begins with `_`.
const AUDIT_FOLDER: &str = "_audit";

/// The values of `--format`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatArg {
    /// One JSON object per line
    Jsonl,
    /// RFC 4180 with a header; missing values are empty
    Csv,
    /// Apache Parquet, compressed with Snappy
    Parquet,
}

impl From<FormatArg> for TableFormat {
    fn from(format: FormatArg) -> Self {
        match format {
            FormatArg::Jsonl => Self::Jsonl,
            FormatArg::Csv => Self::Csv,
            FormatArg::Parquet => Self::Parquet,
        }
    }
}

/// Audits the source while it writes the tables; keeps them only if everything verified.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    if args.ranges {
        return ranges(args, terminal);
    }
    let trusted = settings::trusted(args.manifest.as_deref())?;
    files::create_folder(&args.to)?;
    let format = args.format.into();
    let mut entries = EntryTable::create(&args.to, format)?;
    let folder = AuditFolder::new(None, None)?;
    let (report, store) = audited(args, trusted.as_ref(), &folder, &mut |log, index, entry, outcome| {
        entries.take(log, index, entry, outcome);
    })?;
    let spinner = progress::spinner("writing identities and attestations");
    let joined = join(&store, &args.to, format);
    spinner.finish_and_clear();
    let tables: Vec<(Unfinished, u64)> =
        std::iter::once(entries.finish()).chain(joined?.into_iter().map(Ok)).collect::<Result<_, _>>()?;
    let mut written = Vec::new();
    for (table, rows) in tables {
        written.push((table.finish()?, rows));
    }
    let lines = written.iter().map(|(path, rows)| format!("table       {}: {rows} rows\n", path.display()));
    let genesis = GenesisOrigin::of(trusted.as_ref(), false);
    let people = format!("{}{}", lines.collect::<String>(), people(&report, genesis));
    let tables: Vec<_> = written.iter().map(|(path, rows)| json!({"file": path, "rows": rows})).collect();
    terminal.answer(&json!({"tables": tables, "audit": shown(&report)}), people)
}

/// Audits the source. A report with findings is a failure.
fn audited(
    args: &Args,
    trusted: Option<&Arc<Manifest>>,
    folder: &AuditFolder,
    watch: &mut EntryWatch<'_>,
) -> Result<(AuditReport, Store), Failure> {
    let source: Vec<Box<dyn PublicFiles>> = vec![Box::new(PublicSource::open(&args.from)?)];
    let bar = progress::bar(0, "auditing");
    let mut hooks = Hooks {
        progress: &mut |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        },
        watch,
    };
    let audited = audit::run(&source, trusted, &folder.store(), &mut hooks);
    bar.finish_and_clear();
    let (report, store) = audited?;
    if report.findings.is_empty() { Ok((report, store)) } else { Err(failure(&report, shown(&report))) }
}

/// Continues the audit that is kept in the folder, then writes the files that are not there yet.
fn ranges(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    if !matches!(args.format, FormatArg::Parquet) {
        let failure = Failure::new("format", "files by range are Parquet only");
        return Err(failure.hint("--format parquet --ranges; or leave --ranges out"));
    }
    let trusted = settings::trusted(args.manifest.as_deref())?;
    files::create_folder(&args.to)?;
    let kept = args.to.join(AUDIT_FOLDER);
    let genesis = GenesisOrigin::of(trusted.as_ref(), kept.exists());
    let folder = AuditFolder::new(Some(&kept), None)?;
    let (report, store) = audited(args, trusted.as_ref(), &folder, &mut |_, _, _, _| {})?;
    let logs: Vec<LogState> = report.logs.iter().map(|log| log.state.clone()).collect();
    let bar = progress::bar(0, "writing entries");
    let written = export::ranges(&store, &logs, &args.to, RANGE_ENTRIES, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let (written, folder) = (written?, args.to.join(ENTRIES_FOLDER));
    let files: u64 = written.iter().map(|log| log.written).sum();
    let (all, entries) = written.iter().fold((0u64, 0u64), |(files, entries), log| {
        (files.saturating_add(log.files), entries.saturating_add(log.entries))
    });
    let line = format!("files       {}: {entries} entries in {all} files, {files} of them new\n", folder.display());
    let logs = written.iter().map(
        |log| json!({"log": log.log.to_string(), "entries": log.entries, "files": log.files, "written": log.written}),
    );
    let shown = json!({"folder": folder, "logs": logs.collect::<Vec<_>>(), "audit": shown(&report)});
    terminal.answer(&shown, format!("{line}{}", people(&report, genesis)))
}
