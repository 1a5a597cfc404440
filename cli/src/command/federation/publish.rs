//! `fama federation publish`: submits a signed version to one's own node.
use std::path::PathBuf;

use serde_json::json;

use crate::failure::Failure;
use crate::governance::{SignedText, render};
use crate::query::{self, Query};
use crate::terminal::{FieldList, Terminal};

/// Examples that follow the help text.
pub(super) const EXAMPLE: &str = "\
Example:
  fama federation publish next/draft.txt --admin http://127.0.0.1:9090";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The signed version
    file: PathBuf,
    /// The admin listener of your own node
    #[arg(long, value_name = "URL", default_value = query::ADMIN)]
    admin: String,
}

/// Submits a signed version to the operator's own node.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let signed_text = SignedText::read(&args.file)?;
    let answer = Query::admin(&args.admin).post_text(&["federation", "manifest"], &render(&signed_text.note));
    answer.map_err(|failure| failure.hint_if_unreachable("--admin URL names the admin listener of your own node"))?;
    terminal.answer(
        &json!({"published": args.file.display().to_string()}),
        FieldList(vec![
            ("published", "the node passes it on to all others".to_owned()),
            ("follow", "fama federation show URL".to_owned()),
        ]),
    )
}
