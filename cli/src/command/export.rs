//! `fama export`: writes a federation's whole history as tables.
use std::path::PathBuf;

use clap::ValueEnum;
use fama_reader::audit::{self, Hooks, PublicFiles};
use fama_reader::export::{EntryTable, TableFormat, Unfinished, join};
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

Writes a file each for entries, identities and attestations. Everything is audited while it is
written, as by `fama audit`; if anything is wrong, no table is left. In the text formats, equal
histories give equal bytes.";

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
}

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
    let trusted = settings::trusted(args.manifest.as_deref())?;
    let source: Vec<Box<dyn PublicFiles>> = vec![Box::new(PublicSource::open(&args.from)?)];
    files::create_folder(&args.to)?;
    let format = args.format.into();
    let mut entries = EntryTable::create(&args.to, format)?;
    let folder = AuditFolder::new(None, None)?;
    let bar = progress::bar(0, "auditing");
    let mut hooks = Hooks {
        progress: &mut |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        },
        watch: &mut |log, index, entry, outcome| entries.take(log, index, entry, outcome),
    };
    let audited = audit::run(&source, trusted.as_ref(), &folder.store(), &mut hooks);
    bar.finish_and_clear();
    let (report, store) = audited?;
    if !report.findings.is_empty() {
        return Err(failure(&report, shown(&report)));
    }
    let genesis = if trusted.is_some() { GenesisOrigin::Trusted } else { GenesisOrigin::Shown };
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
    let people = format!("{}{}", lines.collect::<String>(), people(&report, genesis));
    let tables: Vec<_> = written.iter().map(|(path, rows)| json!({"file": path, "rows": rows})).collect();
    terminal.answer(&json!({"tables": tables, "audit": shown(&report)}), people)
}
