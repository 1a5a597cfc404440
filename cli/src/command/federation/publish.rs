//! `fama federation publish`
use std::path::PathBuf;

use serde_json::json;

use crate::failure::Failure;
use crate::governance::{Paper, render};
use crate::query::{self, Query};
use crate::terminal::{Table, Terminal};

/// Shown below the help.
pub(super) const EXAMPLE: &str = "\
Example:
  fama federation publish next/draft.txt --admin http://127.0.0.1:9090";

/// Options.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The signed version
    file: PathBuf,
    /// The own node's admin listener
    #[arg(long, value_name = "URL", default_value = query::ADMIN)]
    admin: String,
}

/// Does it.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let paper = Paper::read(&args.file)?;
    let answer = Query::admin(&args.admin).post_text(&["federation", "manifest"], &render(&paper.note));
    answer.map_err(|failure| failure.or_hint("--admin URL names the own node's admin listener"))?;
    terminal.answer(
        &json!({"published": args.file.display().to_string()}),
        Table(vec![
            ("published", "the node passes it on to all".to_owned()),
            ("follow", "fama federation show URL".to_owned()),
        ]),
    )
}
