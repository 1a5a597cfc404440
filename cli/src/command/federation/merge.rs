//! `fama federation merge`
use std::path::PathBuf;

use serde_json::json;

use crate::failure::Failure;
use crate::files::{self, PUBLIC_MODE};
use crate::governance::{Paper, render};
use crate::terminal::{Table, Terminal};

/// Shown below the help.
pub(super) const EXAMPLE: &str = "\
Example: what two people signed apart
  fama federation merge alpha/draft.txt beta/draft.txt --out draft.txt";

/// Options.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Copies of one draft
    #[arg(required = true, num_args = 2..)]
    copies: Vec<PathBuf>,
    /// The file to make
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Does it.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let mut joined = None;
    for path in &args.copies {
        let copy = Paper::read(path)?.note;
        let Some(note) = &mut joined else {
            joined = Some(copy);
            continue;
        };
        if note.text != copy.text {
            return Err(Failure::new("texts_differ", format!("{} is another text", path.display()))
                .hint("signatures of two texts can't be joined: all must sign copies of one draft"));
        }
        for line in copy.signatures {
            if !note.signatures.contains(&line) {
                note.signatures.push(line);
            }
        }
    }
    let note = joined.ok_or_else(|| Failure::new("usage", "no copies"))?;
    files::create(&args.out, &render(&note), PUBLIC_MODE)?;
    let (out, count) = (args.out.display().to_string(), note.signatures.len());
    terminal.answer(
        &json!({"file": out, "signatures": count}),
        Table(vec![("file", out), ("signatures", count.to_string())]),
    )
}
