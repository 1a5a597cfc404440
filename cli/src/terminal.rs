//! The output of a command: answers on stdout, remarks on stderr.
use std::fmt::Display;
use std::io::{self, BufRead, IsTerminal, Write};
use std::process::ExitCode;

use serde_json::Value;

use crate::failure::Failure;

/// What a command is about to sign.
#[derive(Clone, Debug)]
pub(crate) struct ToSign {
    /// Exactly the text that is signed.
    pub(crate) text: String,
    /// The public key of the key that signs.
    pub(crate) signer: String,
    /// A note that goes along; of it, only the hash is signed.
    pub(crate) note: Option<String>,
}

/// Asks for consent elsewhere than at a terminal.
pub(crate) trait Consent {
    /// Blocks until somebody has decided.
    ///
    /// # Errors
    /// `not_confirmed` without consent.
    fn ask(&mut self, to_sign: ToSign) -> Result<(), Failure>;
}

/// The output streams of a command.
pub(crate) struct Terminal<'a> {
    /// Receives the answer: one JSON object, or text for people.
    pub(crate) out: &'a mut dyn Write,
    /// Receives remarks for people.
    pub(crate) err: &'a mut dyn Write,
    /// Whether answers are JSON.
    pub(crate) json: bool,
    /// Who consents to signatures, if not the user at the terminal.
    pub(crate) consent: Option<Box<dyn Consent>>,
}

impl Terminal<'_> {
    /// Prints the answer: `json` as one line with `--json`, else `people`.
    ///
    /// # Errors
    /// `output` if stdout is closed.
    pub(crate) fn answer(&mut self, json: &Value, people: impl Display) -> Result<(), Failure> {
        let written = if self.json { writeln!(self.out, "{json}") } else { writeln!(self.out, "{people}") };
        match written.and_then(|()| self.out.flush()) {
            // A reader that has seen enough, like `head`.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written.map_err(|error| Failure::new("output", error)),
        }
    }

    /// Prints a remark for people.
    pub(crate) fn say(&mut self, remark: impl Display) {
        // With stderr closed nobody wants remarks.
        let _ = writeln!(self.err, "{remark}");
    }

    /// Shows what will be signed, and asks for consent to sign it, unless `yes` gave it.
    ///
    /// # Errors
    /// As [`Terminal::confirm`].
    pub(crate) fn confirm_signing(&mut self, to_sign: ToSign, question: &str, yes: bool) -> Result<(), Failure> {
        if let Some(consent) = &mut self.consent {
            return consent.ask(to_sign);
        }
        self.show(&to_sign);
        self.confirm(question, yes)
    }

    /// Shows what will be signed.
    pub(crate) fn show(&mut self, ToSign { text, signer, note }: &ToSign) {
        self.say(format!("This will be signed by {signer}:\n\n{}", indented(text)));
        if let Some(note) = note {
            self.say(format!("with this note, which is not part of the event:\n\n{}", indented(note)));
        }
    }

    /// Asks for consent, unless `yes` gave it.
    ///
    /// # Errors
    /// `not_confirmed` without consent, or if stdin is no terminal.
    pub(crate) fn confirm(&mut self, question: &str, yes: bool) -> Result<(), Failure> {
        if yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            return Err(Failure::new("not_confirmed", "standard input is not a terminal, so nobody can confirm")
                .hint("consent with --yes"));
        }
        let _ = write!(self.err, "{question} [y/N] ");
        let _ = self.err.flush();
        let mut line = String::new();
        // Bounded: a terminal gives at most one line buffer of the system.
        let read = io::stdin().lock().read_line(&mut line);
        let consent = read.is_ok() && matches!(line.trim(), "y" | "Y" | "yes");
        if consent { Ok(()) } else { Err(Failure::new("not_confirmed", "nothing was signed or sent")) }
    }

    /// Prints why the command failed; gives its exit code.
    pub(crate) fn fail(&mut self, failure: &Failure) -> ExitCode {
        if self.json {
            let _ = writeln!(self.out, "{}", failure.json());
        } else if !failure.logged {
            let _ = writeln!(self.err, "{failure}");
        }
        ExitCode::from(if failure.undecided { crate::UNDECIDED } else { crate::FAILED })
    }
}

/// A text indented by two spaces.
#[must_use]
pub(crate) fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

/// Lines of `name  value` with aligned values. The further lines of a value are indented.
pub(crate) struct FieldList(pub(crate) Vec<(&'static str, String)>);

impl Display for FieldList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let width = self.0.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        for (i, (name, value)) in self.0.iter().enumerate() {
            let indented = value.trim_end().replace('\n', &format!("\n{:width$}  ", ""));
            write!(f, "{}{name:width$}  {indented}", if i == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}
