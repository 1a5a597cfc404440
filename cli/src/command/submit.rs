//! `fama submit`: submits many events.
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fama_ledger::event::{Action, Context};
use fama_ledger::id::{Domain, EventId, IdentityId};
use fama_ledger::note::Note;
use fama_ledger::secret::SecretKey;
use fama_ledger::time::{Day, Millis};
use fama_node::wire::Submission;
use serde::Deserialize;
use serde_json::json;

use crate::author::{self, EventDraft};
use crate::bulk::{Bulk, Journal, Summary};
use crate::delivery::{Delivery, Wait};
use crate::failure::Failure;
use crate::files;
use crate::identity::ResolvedIdentity;
use crate::pending::SubmissionText;
use crate::progress::{self, ProgressLines};
use crate::query::Query;
use crate::settings::{self, QueryArgs};
use crate::terminal::{FieldList, Terminal};

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Example: a day's karma from a file; then the same file again, if the run was interrupted
  fama submit today.jsonl --issuer mloverflow@beta.example --manifest manifest.txt --key service.pem

Each line is a JSON object: an event to sign with --key
  {\"kind\":\"attest\",\"subject\":\"swift@alpha.example\",\"delta\":5,\"context\":\"code\",\"reason\":\"…\"}
  {\"kind\":\"retract\",\"attestation\":\"ID\",\"subject\":\"ID\",\"day\":\"2026-11-28\"}
  {\"kind\":\"grant\",\"subject\":\"swift@alpha.example\",\"scope\":\"read:payments\",\"expires\":\"2026-12-31T23:59:59.000Z\"}
  {\"kind\":\"ungrant\",\"subject\":\"swift@alpha.example\",\"scope\":\"read:payments\"}
or one that was signed elsewhere, in the form that --dry-run --json of any command prints
  {\"text\":\"fama.event/1\\n…\",\"signer\":\"ed25519:…\",\"signature\":\"base64\",\"note\":\"…\"}

FILE.journal has the outcome of every line. A run with the same journal continues: what was signed
is not signed again, and an event counts once however often it is sent. Ids are faster than names,
which a node is asked for; whether an id exists is not checked. Lines must not build on one another.
Exit codes: 0 all accepted, 1 some were refused, 3 some are undecided.";

/// Subjects whose ids are remembered.
const NAMES_MAX: usize = 100_000;

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// JSON lines; `-` reads standard input
    file: PathBuf,
    /// The identity that attests, retracts and grants: `name@home`, id or DID
    #[arg(long, value_name = "IDENTITY")]
    issuer: Option<String>,
    /// The issuer's home, if no node is asked
    #[arg(long, value_name = "DOMAIN")]
    home: Option<Domain>,
    /// Where outcomes are written down, and what to continue from [default: FILE.journal; none for standard input]
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// The federation's manifest, used to verify receipts [default: FAMA_MANIFEST, or that of `fama init`]
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// The key that signs (PKCS#8 PEM, mode 0600) [default: FAMA_KEY, or that of `fama init`]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Node to submit to [default: those of the manifest, each event's home first] (repeatable)
    #[arg(long, value_name = "MULTIADDR")]
    node: Vec<String>,
    #[command(flatten)]
    query: QueryArgs,
    /// Wait until the events are in their logs, or until the last of each log is final, and so all before it
    #[arg(long, value_enum, default_value_t = Wait::Accepted, value_name = "UNTIL")]
    wait: Wait,
    /// How long an event is tried again that a node does not take now, and how long to wait until all are final
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(..=86_400))]
    timeout: u64,
}

/// A line of the input.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Signed(SubmissionText),
    Event(EventLine),
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
enum EventLine {
    Attest {
        subject: String,
        delta: i32,
        #[serde(default)]
        context: Option<String>,
        #[serde(default)]
        reason: Option<String>,
        #[serde(default, rename = "ref")]
        reference: Option<String>,
    },
    Retract {
        attestation: String,
        subject: String,
        day: String,
    },
    Grant {
        subject: String,
        scope: String,
        #[serde(default)]
        expires: Option<String>,
        #[serde(default)]
        reason: Option<String>,
    },
    Ungrant {
        subject: String,
        scope: String,
    },
}

/// What turns lines into signed events.
struct Signer<'a> {
    delivery: &'a Delivery,
    key: Option<SecretKey>,
    issuer: Option<(IdentityId, Domain)>,
    query: Option<Query>,
    names: Mutex<HashMap<String, IdentityId>>,
}

/// Reads, signs and submits all lines.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let (path, manifest) = settings::manifest(args.manifest.as_deref())?;
    let timeout = Duration::from_secs(args.timeout);
    let delivery = Delivery { path, manifest, nodes: args.node.clone(), wait: args.wait, timeout };
    let query = args.query.open_for(&delivery.manifest)?;
    let issuer = args.issuer.as_ref().map(|issuer| {
        let found = ResolvedIdentity::find(issuer, query.as_ref())?;
        Ok::<_, Failure>((found.id, found.home(args.home.as_ref())?))
    });
    // Events that were signed elsewhere need no key.
    let key = match settings::key(args.key.as_deref()) {
        Ok(path) => Some(files::read_key(&path)?),
        Err(failure) if failure.code == "no_key" => None,
        Err(failure) => return Err(failure),
    };
    let signer = Signer { delivery: &delivery, key, issuer: issuer.transpose()?, query, names: Mutex::default() };
    let from_stdin = args.file.as_os_str() == "-";
    let place = args.journal.clone().or_else(|| (!from_stdin).then(|| files::with_ending(&args.file, ".journal")));
    let journal = place.as_deref().map_or_else(|| Ok(Journal::none()), Journal::open)?;
    if place.is_none() {
        terminal.say(
            "No journal: if this is interrupted, sending the input again signs it again. --journal FILE avoids that.",
        );
    }
    let input: Box<dyn Read + Send> = if from_stdin { Box::new(io::stdin()) } else { Box::new(open(&args.file)?) };
    let lines = if from_stdin { 0 } else { count_lines(&args.file)? };
    let bulk = Bulk {
        path: &delivery.path,
        manifest: delivery.manifest.clone(),
        nodes: delivery.nodes.clone(),
        patience: timeout,
        sign: &|line| signer.sign(line),
        bar: progress::bar(lines, "submitting"),
    };
    let told = ProgressLines::of(&bulk.bar);
    let begun = std::time::Instant::now();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new("runtime", error))?;
    let summary = runtime.block_on(bulk.run(input, journal));
    drop(told);
    bulk.bar.finish_and_clear();
    drop(runtime);
    let summary = summary?;
    let seconds = begun.elapsed().as_secs_f64();
    let is_final = match args.wait {
        Wait::Accepted => None,
        Wait::Final => Some(finals(&delivery, &summary, terminal)),
    };
    answer(&summary, (is_final, seconds, place), terminal)
}

/// Whether the last event of each log is final, and with it all before it.
fn finals(delivery: &Delivery, summary: &Summary, terminal: &mut Terminal<'_>) -> bool {
    let spinner = progress::spinner("waiting until all are final");
    let all = summary.last.values().all(|(_, submission)| match delivery.run(terminal, submission) {
        Ok(delivered) => delivered.accepted.is_final(),
        Err(failure) => {
            terminal.say(failure);
            false
        }
    });
    spinner.finish_and_clear();
    all
}

fn answer(
    summary: &Summary,
    (is_final, seconds, place): (Option<bool>, f64, Option<PathBuf>),
    terminal: &mut Terminal<'_>,
) -> Result<(), Failure> {
    let Summary { before, refused_before, accepted, known, refused, undecided, shown, .. } = summary;
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = *accepted as f64 / seconds.max(0.001);
    let place = place.map(|place| place.display().to_string());
    let first: Vec<_> =
        shown.iter().map(|(line, code, error)| json!({"line": line, "code": code, "error": error})).collect();
    let json = json!({
        "accepted": accepted, "known": known, "refused": refused, "undecided": undecided, "done_before": before, "refused_before": refused_before,
        "final": is_final, "seconds": seconds, "journal": place, "first": first,
    });
    let mut lines = vec![("accepted", format!("{accepted}, {rate:.0} per second"))];
    if *known > 0 {
        lines.push(("known", format!("{known} of them were in their logs before")));
    }
    if *before > 0 {
        lines.push(("done before", format!("{before}, of which {refused_before} were refused")));
    }
    lines.push(("refused", refused.to_string()));
    lines.push(("undecided", undecided.to_string()));
    let more = refused.saturating_add(*undecided).saturating_sub(shown.len() as u64);
    lines.extend(shown.iter().map(|(line, code, error)| ("line", format!("{line}: {error} ({code})"))));
    if more > 0 {
        lines.push(("", format!("and {more} more: see the journal")));
    }
    if let Some(is_final) = is_final {
        lines.push(("final", if is_final { "yes" } else { "not yet" }.to_owned()));
    }
    lines.extend(place.map(|place| ("outcomes", place)));
    let failure = if *undecided == 0 && is_final == Some(false) {
        Failure::new("not_final", "all accepted events are in their logs, but not all are final yet")
            .hint("the same command again waits on: it continues with the journal")
            .undecided()
    } else if *undecided > 0 {
        Failure::new("outcome_unknown", format!("{undecided} events are undecided, {refused} were refused"))
            .hint("run the same command again: it continues with the journal")
            .undecided()
    } else if refused.saturating_add(*refused_before) > 0 {
        let all = refused.saturating_add(*refused_before);
        Failure::new("refused", format!("{all} lines were refused"))
            .hint("the journal has the reasons; put corrected lines into a new file")
    } else {
        return terminal.answer(&json, FieldList(lines));
    };
    if !terminal.json {
        terminal.say(FieldList(lines));
    }
    Err(Failure { achieved: Some(Box::new(json)), ..failure })
}

fn open(path: &PathBuf) -> Result<File, Failure> {
    File::open(path).map_err(|error| Failure::new("input", format!("{}: {error}", path.display())))
}

/// The number of lines, for the progress bar.
fn count_lines(path: &PathBuf) -> Result<u64, Failure> {
    let (mut file, mut buffer, mut lines) = (open(path)?, vec![0; 1 << 16], 0u64);
    loop {
        let read =
            file.read(&mut buffer).map_err(|error| Failure::new("input", format!("{}: {error}", path.display())))?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { return Ok(lines) };
        lines += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
    }
}

impl Signer<'_> {
    /// The signed event of a line.
    fn sign(&self, line: &str) -> Result<Submission, Failure> {
        let wrong = |error: &dyn std::fmt::Display| Failure::new("line", format!("not an event in JSON: {error}"));
        let value: serde_json::Value = serde_json::from_str(line).map_err(|error| wrong(&error))?;
        // Told apart here, so that an error is that of the form that was meant.
        let line = if value.get("kind").is_some() {
            serde_json::from_value(value).map(Line::Event)
        } else {
            serde_json::from_value(value).map(Line::Signed)
        };
        let event = match line.map_err(|error| wrong(&error))? {
            Line::Signed(text) => return text.read(),
            Line::Event(event) => event,
        };
        let key = self.key.as_ref().ok_or_else(|| Failure::new("no_key", "no key to sign with: --key FILE"))?;
        let missing = || Failure::new("no_issuer", "which identity says so? --issuer IDENTITY");
        let (issuer, home) = self.issuer.clone().ok_or_else(missing)?;
        let (action, text) = match event {
            EventLine::Attest { subject, delta, context, reason, reference } => {
                let subject = self.id_of(&subject)?;
                let context =
                    context.map(|context| context.parse::<Context>()).transpose().map_err(|error| wrong(&error))?;
                let (text, note) = author::note(Note { reason, reference, ..Note::default() })?;
                (Action::Attest { home, issuer, subject, delta, context, note }, text)
            }
            EventLine::Retract { attestation, subject, day } => {
                let attestation: EventId = attestation.parse().map_err(|error| wrong(&error))?;
                let day: Day = day.parse().map_err(|error| wrong(&error))?;
                (Action::Retract { home, issuer, subject: self.id_of(&subject)?, day, attestation }, None)
            }
            EventLine::Grant { subject, scope, expires, reason } => {
                let subject = self.id_of(&subject)?;
                let scope = scope.parse().map_err(|error| wrong(&error))?;
                let expires = expires.map(|expires| expires.parse::<Millis>()).transpose();
                let expires = expires.map_err(|error| wrong(&error))?;
                let (text, note) = author::note(Note { reason, ..Note::default() })?;
                (Action::Grant { home, issuer, subject, scope, expires, note }, text)
            }
            EventLine::Ungrant { subject, scope } => {
                let scope = scope.parse().map_err(|error| wrong(&error))?;
                (Action::Ungrant { home, issuer, subject: self.id_of(&subject)?, scope }, None)
            }
        };
        let event = author::event(self.delivery.manifest.federation(), action)?;
        // The node verifies it, and its own word is checked: signing it is enough here.
        Ok(EventDraft { note: text, ..EventDraft::new(event, key) }.sign_unchecked())
    }

    /// The id of an identity; names are asked for once.
    fn id_of(&self, name: &str) -> Result<IdentityId, Failure> {
        if let Ok(id) = name.parse() {
            return Ok(id);
        }
        if let Some(id) = self.names.lock().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Ok(*id);
        }
        let id = ResolvedIdentity::find(name, self.query.as_ref())?.id;
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= NAMES_MAX {
            names.clear();
        }
        names.insert(name.to_owned(), id);
        Ok(id)
    }
}
