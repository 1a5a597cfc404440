//! Where answers and remarks go.
use std::fmt::Display;
use std::io::{self, BufRead, IsTerminal, Write};
use std::process::ExitCode;

use serde_json::Value;

use crate::failure::Failure;

/// The two streams of a command.
pub struct Terminal<'a> {
    /// Answers: one JSON object, or text for a person.
    pub out: &'a mut dyn Write,
    /// Remarks for a person.
    pub err: &'a mut dyn Write,
    /// Whether answers are JSON.
    pub json: bool,
}

impl Terminal<'_> {
    /// Gives the command's answer.
    ///
    /// # Errors
    /// `output` if nobody reads any more.
    pub fn answer(&mut self, json: &Value, people: impl Display) -> Result<(), Failure> {
        let written = if self.json { writeln!(self.out, "{json}") } else { writeln!(self.out, "{people}") };
        written.and_then(|()| self.out.flush()).map_err(|error| Failure::new("output", error))
    }

    /// Tells a person something beside the answer.
    pub fn say(&mut self, remark: impl Display) {
        // Whoever closed this stream did not want to be told.
        let _ = writeln!(self.err, "{remark}");
    }

    /// Asks for consent, unless `yes` gave it.
    ///
    /// # Errors
    /// `not_confirmed` without consent, or without a person to ask.
    pub fn confirm(&mut self, question: &str, yes: bool) -> Result<(), Failure> {
        if yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            return Err(Failure::new("not_confirmed", "there is nobody to ask").hint("consent with --yes"));
        }
        let _ = write!(self.err, "{question} [y/N] ");
        let _ = self.err.flush();
        let mut line = String::new();
        // A person types a few characters; a line is as long as the system's line buffer at most.
        let read = io::stdin().lock().read_line(&mut line);
        let consent = read.is_ok() && matches!(line.trim(), "y" | "Y" | "yes");
        if consent { Ok(()) } else { Err(Failure::new("not_confirmed", "nothing was signed or sent")) }
    }

    /// Tells why the command failed.
    pub fn fail(&mut self, failure: &Failure) -> ExitCode {
        if self.json {
            let _ = writeln!(self.out, "{}", failure.json());
        } else {
            let _ = writeln!(self.err, "{failure}");
        }
        ExitCode::from(crate::FAILED)
    }
}

/// Lines of `name  value`, the values in one column. Values of several lines are indented.
pub struct Table(pub Vec<(&'static str, String)>);

impl Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let width = self.0.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        for (i, (name, value)) in self.0.iter().enumerate() {
            let indented = value.trim_end().replace('\n', &format!("\n{:width$}  ", ""));
            write!(f, "{}{name:width$}  {indented}", if i == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}
