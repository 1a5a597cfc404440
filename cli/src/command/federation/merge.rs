//! `fama federation merge`: joins the signatures of several copies of a draft.
use std::path::PathBuf;

use serde_json::json;

use crate::failure::Failure;
use crate::files::{self, PUBLIC_MODE};
use crate::governance::{SignedText, render};
use crate::terminal::{FieldList, Terminal};

/// Examples that follow the help text.
pub(super) const EXAMPLE: &str = "\
Example: two copies that were signed separately
  fama federation merge alpha/draft.txt beta/draft.txt --out draft.txt";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Copies of the same draft
    #[arg(required = true, num_args = 2..)]
    copies: Vec<PathBuf>,
    /// The file to create
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Joins the signature lines of all copies.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let mut joined = None;
    for path in &args.copies {
        let copy = SignedText::read(path)?.note;
        let Some(note) = &mut joined else {
            joined = Some(copy);
            continue;
        };
        if note.text != copy.text {
            return Err(Failure::new("texts_differ", format!("{} has another text", path.display()))
                .hint("signatures of different texts can't be joined: all must sign copies of the same draft"));
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
        FieldList(vec![("file", out), ("signatures", count.to_string())]),
    )
}
