//! Submits many events, of which few are in memory at a time, with a journal from which an interrupted run continues.
//!
//! A line of the input becomes a signed event once. Its text is durable in the journal before it is sent, so that a run
//! after a crash submits the same text, which is the same event. Outcomes follow in the journal as they come.
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fama_ledger::manifest::{LogId, Manifest};
use fama_node::wire::{Refusal, SUBMISSIONS_MAX, Submission, SubmitResult};
use futures::stream::{self, StreamExt};
use indicatif::ProgressBar;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::chain;
use crate::failure::Failure;
use crate::files::SECRET_MODE;
use crate::pending::SubmissionText;
use crate::submit::{self, NodeConnection, NotAccepted};

/// Longest line of the input, in bytes: an event with its note.
const LINE_BYTES_MAX: usize = 16 << 10;
/// Longest line of a journal, in bytes.
const JOURNAL_LINE_BYTES_MAX: usize = 64 << 10;
/// Requests in flight at a time, each of at most [`SUBMISSIONS_MAX`] events.
const IN_FLIGHT: usize = 4;
/// Longest pause before an event is tried again.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How many refused lines are kept to be shown.
const REFUSED_SHOWN: usize = 20;

/// A line of the journal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JournalLine {
    /// The number of the input's line, from 1.
    line: u64,
    /// BLAKE3 of the input's line; with `submission` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    of: Option<String>,
    /// The signed event, before it is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    submission: Option<SubmissionText>,
    /// `accepted` or `refused`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outcome: Option<String>,
    /// The id of an accepted event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    event: Option<String>,
    /// The log that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    log: Option<String>,
    /// Its position there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    /// The same in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl JournalLine {
    const fn of(line: u64) -> Self {
        let (of, submission, outcome, event) = (None, None, None, None);
        Self { line, of, submission, outcome, event, log: None, index: None, code: None, error: None }
    }
}

/// The lines that are done: all below a number, and some beyond.
#[derive(Debug, Default)]
struct Done {
    below: u64,
    beyond: BTreeSet<u64>,
}

impl Done {
    fn has(&self, line: u64) -> bool {
        line < self.below || self.beyond.contains(&line)
    }

    fn add(&mut self, line: u64) {
        self.below = self.below.max(1);
        self.beyond.insert(line);
        while self.beyond.remove(&self.below) {
            self.below = self.below.saturating_add(1);
        }
    }
}

/// What an earlier run got done, and the file that this run appends to.
pub(crate) struct Journal {
    file: Option<File>,
    done: Done,
    /// Lines that an earlier run found refused.
    refused: u64,
    /// Of each line that is known, the first four bytes of its hash; 0 for others. Line 1 is first.
    hashes: Vec<u32>,
    /// Signed lines without an outcome: the hash of each line, and the event.
    signed: BTreeMap<u64, (String, SubmissionText)>,
}

impl Journal {
    /// No journal: an interrupted run cannot be continued.
    #[must_use]
    pub(crate) fn none() -> Self {
        Self { file: None, done: Done::default(), refused: 0, hashes: Vec::new(), signed: BTreeMap::new() }
    }

    /// Opens a journal, which need not exist, and reads what an earlier run wrote. Half a line at its end, of a run that
    /// was killed, is cut off: its event was not sent yet.
    ///
    /// # Errors
    /// `journal` with the line that is none; the error of the file.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::new("journal", format!("{}: {error}", path.display()));
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(SECRET_MODE).open(path);
        let file = open.map_err(|error| failed(&error))?;
        let (mut done, mut signed, mut whole, mut number) = (Done::default(), BTreeMap::new(), 0u64, 0u64);
        let (mut refused, mut hashes) = (0u64, Vec::new());
        let mut reader = BufReader::new(&file);
        loop {
            let mut bytes = Vec::new();
            let limit = JOURNAL_LINE_BYTES_MAX as u64;
            let read = (&mut reader).take(limit).read_until(b'\n', &mut bytes).map_err(|error| failed(&error))?;
            if bytes.last() != Some(&b'\n') {
                if read as u64 == limit {
                    return Err(failed(&format!("line {}: too long", number + 1)));
                }
                break;
            }
            number += 1;
            let wrong = |error: serde_json::Error| {
                failed(&format!("line {number}: {error}")).hint("name another journal with --journal")
            };
            let line: JournalLine = serde_json::from_slice(&bytes).map_err(wrong)?;
            if let Some(of) = &line.of {
                remember(&mut hashes, line.line, of);
            }
            refused += u64::from(line.outcome.as_deref() == Some("refused"));
            match (line.of, line.submission) {
                (Some(of), Some(submission)) => drop(signed.insert(line.line, (of, submission))),
                _ => {
                    signed.remove(&line.line);
                    done.add(line.line);
                }
            }
            whole += read as u64;
        }
        drop(reader);
        let mut end = &file;
        file.set_len(whole).and_then(|()| end.seek(SeekFrom::End(0))).map_err(|error| failed(&error))?;
        Ok(Self { file: Some(file), done, refused, hashes, signed })
    }

    /// Whether a line may be the one that an earlier run read under this number.
    fn may_be(&self, line: u64, of: &str) -> bool {
        let at = usize::try_from(line.saturating_sub(1)).unwrap_or(usize::MAX);
        self.hashes.get(at).is_none_or(|known| *known == 0 || *known == short(of))
    }

    /// Appends lines, durable before this returns.
    fn append(&mut self, lines: &[JournalLine]) -> Result<(), Failure> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let failed = |error: &dyn std::fmt::Display| Failure::new("journal", format!("cannot write: {error}"));
        let mut text = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut text, line).map_err(|error| failed(&error))?;
            text.push(b'\n');
        }
        file.write_all(&text).and_then(|()| file.sync_data()).map_err(|error| failed(&error))
    }
}

/// The first four bytes of a hash in hex, never 0.
fn short(of: &str) -> u32 {
    of.get(..8).and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or_default().max(1)
}

fn remember(hashes: &mut Vec<u32>, line: u64, of: &str) {
    let Ok(at) = usize::try_from(line.saturating_sub(1)) else { return };
    // Lines come nearly in order: a journal that jumps is not believed with its memory.
    if at >= hashes.len() && at < hashes.len().saturating_add(1 << 20) {
        hashes.resize(at + 1, 0);
    }
    if let Some(slot) = hashes.get_mut(at) {
        *slot = short(of);
    }
}

/// The hash of a line, as journals have it.
fn hash_of(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

fn changed(line: u64) -> Failure {
    let message = format!("line {line} of the input is not the one that the journal knows");
    Failure::new("journal_mismatch", message)
        .hint("put corrected lines into a new file, or start over with another --journal")
}

/// Makes a signed event of a line of the input.
pub(crate) type Sign<'a> = dyn Fn(&str) -> Result<Submission, Failure> + Sync + Send + 'a;

/// Where and how to submit.
pub(crate) struct Bulk<'a> {
    /// The file of the manifest.
    pub(crate) path: &'a Path,
    /// The newest version known from it.
    pub(crate) manifest: Arc<Manifest>,
    /// Nodes to submit to, as multiaddresses; empty for those of the manifest.
    pub(crate) nodes: Vec<String>,
    /// How long an event is tried again that a node does not take for a passing reason.
    pub(crate) patience: Duration,
    /// Makes events of lines.
    pub(crate) sign: &'a Sign<'a>,
    /// Counts lines.
    pub(crate) bar: ProgressBar,
}

/// What came of all lines.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    /// Lines that an earlier run got done.
    pub(crate) before: u64,
    /// Of these, lines that were refused.
    pub(crate) refused_before: u64,
    /// Events that a log has, by a receipt that was checked.
    pub(crate) accepted: u64,
    /// Of these, events that the log had before.
    pub(crate) known: u64,
    /// Lines that are no events, and events that were refused.
    pub(crate) refused: u64,
    /// Events whose outcome is not known.
    pub(crate) undecided: u64,
    /// The first refused and undecided lines: number, code and reason.
    pub(crate) shown: Vec<(u64, String, String)>,
    /// An event of each log with the largest index.
    pub(crate) last: BTreeMap<LogId, (u64, Submission)>,
}

/// A line on its way.
struct Item {
    line: u64,
    submission: Submission,
}

/// What became of an item.
enum Outcome {
    Accepted { log: LogId, index: u64, known: bool },
    Refused(Failure),
    Undecided(Failure),
}

struct Shared {
    journal: Journal,
    summary: Summary,
    connections: BTreeMap<LogId, Arc<NodeConnection>>,
    manifest: Arc<Manifest>,
}

impl Bulk<'_> {
    /// Submits all lines of the input that are not done yet.
    ///
    /// # Errors
    /// `input`, `journal`; refused and undecided events are in the summary.
    pub(crate) async fn run(&self, input: impl Read + Send + 'static, journal: Journal) -> Result<Summary, Failure> {
        let (sender, lines) = tokio::sync::mpsc::channel::<Result<Vec<(u64, String)>, Failure>>(IN_FLIGHT);
        // It ends with the input, or when nobody receives its lines any more.
        std::thread::spawn(move || read_lines(input, &sender));
        let summary = Summary { refused_before: journal.refused, ..Summary::default() };
        let shared = Shared { journal, summary, connections: BTreeMap::new(), manifest: Arc::clone(&self.manifest) };
        let shared = Mutex::new(shared);
        {
            let chunks = stream::unfold(lines, |mut lines| async move { Some((lines.recv().await?, lines)) });
            let sent = chunks.map(|chunk| self.chunk(&shared, chunk)).buffered(IN_FLIGHT);
            let mut sent = std::pin::pin!(sent);
            while let Some(done) = sent.next().await {
                done?;
            }
        }
        Ok(shared.into_inner().unwrap_or_else(PoisonError::into_inner).summary)
    }

    /// Signs a chunk of lines, writes them down, and submits them.
    async fn chunk(&self, shared: &Mutex<Shared>, chunk: Result<Vec<(u64, String)>, Failure>) -> Result<(), Failure> {
        let chunk = chunk?;
        let items = tokio::task::block_in_place(|| self.signed(shared, chunk))?;
        let mut left = items;
        let (deadline, mut pause) = (Instant::now() + self.patience, Duration::from_millis(250));
        loop {
            let again = self.submit(shared, left).await?;
            if again.is_empty() {
                return Ok(());
            }
            let wait = again
                .iter()
                .filter_map(|(_, after, _)| *after)
                .max()
                .unwrap_or(pause)
                .clamp(pause, PAUSE_MAX.max(pause));
            if Instant::now() + wait > deadline {
                let open = again.into_iter().map(|(item, _, failure)| (item, Outcome::Undecided(failure)));
                return record(shared, open.collect(), &self.bar);
            }
            tokio::time::sleep(wait).await;
            pause = pause.saturating_mul(2).min(PAUSE_MAX);
            left = again.into_iter().map(|(item, _, _)| item).collect();
        }
    }

    /// The items of a chunk's lines that are not done; those signed now are in the journal.
    fn signed(&self, shared: &Mutex<Shared>, chunk: Vec<(u64, String)>) -> Result<Vec<Item>, Failure> {
        let (mut todo, mut before) = (Vec::new(), 0u64);
        {
            let mut shared = lock(shared);
            for (line, text) in chunk {
                if shared.journal.done.has(line) && !shared.journal.may_be(line, &hash_of(&text)) {
                    return Err(changed(line));
                }
                if shared.journal.done.has(line) || text.trim().is_empty() {
                    before += u64::from(!text.trim().is_empty());
                    self.bar.inc(1);
                } else {
                    let signed = shared.journal.signed.remove(&line);
                    todo.push((line, text, signed));
                }
            }
            shared.summary.before += before;
        }
        let signed: Vec<_> = todo
            .into_par_iter()
            .map(|(line, text, earlier)| {
                let of = hash_of(&text);
                match earlier {
                    Some((hash, _)) if hash != of => Err(changed(line)),
                    Some((_, submission)) => Ok((line, of, None, submission.read())),
                    None => {
                        let made = (self.sign)(&text);
                        let written = made.as_ref().ok().map(SubmissionText::of).transpose()?;
                        let written = written.map(|submission| JournalLine {
                            of: Some(of.clone()),
                            submission: Some(submission),
                            ..JournalLine::of(line)
                        });
                        Ok((line, of, written, made))
                    }
                }
            })
            .collect::<Result<_, Failure>>()?;
        let (mut written, mut items, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        for (line, of, journaled, made) in signed {
            written.extend(journaled);
            match made {
                Ok(submission) => items.push(Item { line, submission }),
                Err(failure) => refused.push((line, of, failure)),
            }
        }
        lock(shared).journal.append(&written)?;
        for (line, of, failure) in refused {
            refuse(shared, line, Some(of), &failure)?;
            self.bar.inc(1);
        }
        Ok(items)
    }

    /// Submits items, grouped by log; gives those to try again, with the pause that the node wants and the reason.
    async fn submit(
        &self,
        shared: &Mutex<Shared>,
        items: Vec<Item>,
    ) -> Result<Vec<(Item, Option<Duration>, Failure)>, Failure> {
        let manifest = Arc::clone(&lock(shared).manifest);
        let (mut groups, mut done, mut again) = (BTreeMap::<LogId, Vec<Item>>::new(), Vec::new(), Vec::new());
        for item in items {
            match manifest.log_for(&item.submission.signed.event.action) {
                Some(log) => groups.entry(log).or_default().push(item),
                None => {
                    let place = item.submission.signed.event.action.place().to_string();
                    let failure = Failure::new("unknown_home", format!("no log of this federation carries {place}"));
                    done.push((item, Outcome::Refused(failure)));
                }
            }
        }
        for (log, group) in groups {
            let connection = match self.connection(shared, &log, &group).await {
                Ok(connection) => connection,
                Err(failure) => {
                    again.extend(group.into_iter().map(|item| (item, None, failure.clone())));
                    continue;
                }
            };
            let submissions = group.iter().map(|item| item.submission.clone()).collect();
            let results = match connection.submit_all(submissions).await {
                Ok(results) => results,
                Err(NotAccepted::NotSent(failure) | NotAccepted::Unproven(failure)) => {
                    lock(shared).connections.remove(&log);
                    again.extend(group.into_iter().map(|item| (item, None, failure.clone())));
                    continue;
                }
                Err(NotAccepted::Refused(refusal)) => {
                    let failure = Failure::from(refusal);
                    again.extend(group.into_iter().map(|item| (item, None, failure.clone())));
                    continue;
                }
            };
            let judged = tokio::task::block_in_place(|| judged(&connection.manifest, group, results));
            for (item, result) in judged {
                match result {
                    Ok(outcome) => done.push((item, outcome)),
                    Err((after, failure)) => again.push((item, after, failure)),
                }
            }
        }
        record(shared, done, &self.bar)?;
        Ok(again)
    }

    /// The connection to the node that takes the events of this log.
    async fn connection(
        &self,
        shared: &Mutex<Shared>,
        log: &LogId,
        group: &[Item],
    ) -> Result<Arc<NodeConnection>, Failure> {
        let (held, manifest) = {
            let shared = lock(shared);
            (shared.connections.get(log).cloned(), Arc::clone(&shared.manifest))
        };
        if let Some(connection) = held {
            return Ok(connection);
        }
        let event = group.first().map(|item| &item.submission.signed.event);
        let addresses = match event {
            Some(event) if self.nodes.is_empty() => submit::addresses(&manifest, event),
            _ => self.nodes.clone(),
        };
        let connection = Arc::new(NodeConnection::open_any(&manifest, &addresses).await?);
        let mut shared = lock(shared);
        if connection.manifest.version() > shared.manifest.version() {
            chain::keep(self.path, &connection.manifest);
            shared.manifest = Arc::clone(&connection.manifest);
        }
        shared.connections.insert(log.clone(), Arc::clone(&connection));
        Ok(connection)
    }
}

fn lock<'a>(shared: &'a Mutex<Shared>) -> std::sync::MutexGuard<'a, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

type Judged = Result<Outcome, (Option<Duration>, Failure)>;

/// Checks the receipts of a request, on all cores. What has no result, or a receipt that proves nothing, is tried again.
fn judged(manifest: &Manifest, group: Vec<Item>, results: Vec<SubmitResult>) -> Vec<(Item, Judged)> {
    let missing = || SubmitResult::Refused(Refusal::new("internal", "the node gave no answer to the submission"));
    let results = results.into_iter().map(Some).chain(std::iter::repeat_with(|| None));
    let pairs: Vec<_> = group.into_iter().zip(results).collect();
    pairs
        .into_par_iter()
        .map(|(item, result)| {
            let judged = match result.unwrap_or_else(missing) {
                SubmitResult::Accepted(receipt) => {
                    let known = receipt.known;
                    let checked = submit::check_receipt(manifest, &item.submission.signed, receipt);
                    checked.map_err(|failure| (None, failure)).map(|accepted| Outcome::Accepted {
                        log: accepted.receipt.log,
                        index: accepted.receipt.index,
                        known,
                    })
                }
                SubmitResult::Refused(refusal) => {
                    let open = submit::is_open(&refusal.code);
                    let after = refusal.retry_after.map(|seconds| Duration::from_secs(seconds.into()));
                    let failure = Failure::from(refusal);
                    if open || after.is_some_and(|after| after <= Duration::from_secs(60)) {
                        Err((after, failure))
                    } else {
                        Ok(Outcome::Refused(failure))
                    }
                }
            };
            (item, judged)
        })
        .collect()
}

/// Writes outcomes down and counts them. What is undecided stays signed in the journal.
fn record(shared: &Mutex<Shared>, done: Vec<(Item, Outcome)>, bar: &ProgressBar) -> Result<(), Failure> {
    let count = done.len() as u64;
    let (mut lines, mut refused) = (Vec::new(), Vec::new());
    {
        let mut guard = lock(shared);
        let summary = &mut guard.summary;
        for (item, outcome) in done {
            match outcome {
                Outcome::Accepted { log, index, known } => {
                    summary.accepted += 1;
                    summary.known += u64::from(known);
                    lines.push(JournalLine {
                        outcome: Some("accepted".to_owned()),
                        event: Some(item.submission.signed.event.id().to_string()),
                        log: Some(log.to_string()),
                        index: Some(index),
                        ..JournalLine::of(item.line)
                    });
                    let last = summary.last.get(&log).is_none_or(|(largest, _)| *largest < index);
                    if last {
                        summary.last.insert(log, (index, item.submission));
                    }
                }
                Outcome::Refused(failure) => refused.push((item.line, failure)),
                Outcome::Undecided(failure) => {
                    summary.undecided += 1;
                    if summary.shown.len() < REFUSED_SHOWN {
                        summary.shown.push((item.line, failure.code, failure.message));
                    }
                }
            }
        }
        guard.journal.append(&lines)?;
    }
    for (line, failure) in refused {
        refuse(shared, line, None, &failure)?;
    }
    bar.inc(count);
    Ok(())
}

fn refuse(shared: &Mutex<Shared>, line: u64, of: Option<String>, failure: &Failure) -> Result<(), Failure> {
    let mut shared = lock(shared);
    shared.summary.refused += 1;
    if shared.summary.shown.len() < REFUSED_SHOWN {
        shared.summary.shown.push((line, failure.code.clone(), failure.message.clone()));
    }
    let (code, error) = (Some(failure.code.clone()), Some(failure.message.clone()));
    shared.journal.append(&[JournalLine {
        of,
        outcome: Some("refused".to_owned()),
        code,
        error,
        ..JournalLine::of(line)
    }])
}

/// Reads lines in chunks of one request each. Ends when nobody receives any more.
fn read_lines(input: impl Read, sender: &tokio::sync::mpsc::Sender<Result<Vec<(u64, String)>, Failure>>) {
    let (mut reader, mut number, mut chunk) = (BufReader::new(input), 0u64, Vec::new());
    loop {
        let mut bytes = Vec::new();
        let read = (&mut reader).take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut bytes);
        let failure = match read {
            Err(error) => Some(Failure::new("input", error)),
            Ok(_) if bytes.len() > LINE_BYTES_MAX => {
                Some(Failure::new("input", format!("line {} has more than {LINE_BYTES_MAX} bytes", number + 1)))
            }
            Ok(0) => {
                if !chunk.is_empty() {
                    // Nobody to tell if the receiver is gone.
                    let _ = sender.blocking_send(Ok(chunk));
                }
                return;
            }
            Ok(_) => None,
        };
        number += 1;
        let text = match (failure, String::from_utf8(bytes)) {
            (Some(failure), _) => Err(failure),
            (None, Err(_)) => Err(Failure::new("input", format!("line {number} is not UTF-8"))),
            (None, Ok(text)) => Ok(text.trim_start_matches('\u{feff}').trim_end().to_owned()),
        };
        match text {
            Ok(text) => chunk.push((number, text)),
            Err(failure) => {
                let _ = sender.blocking_send(Err(failure));
                return;
            }
        }
        if chunk.len() >= SUBMISSIONS_MAX && sender.blocking_send(Ok(std::mem::take(&mut chunk))).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_is_read_back_up_to_its_last_whole_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut journal = Journal::open(&path).unwrap();
        let signed = |line| JournalLine {
            of: Some(format!("hash of {line}")),
            submission: Some(SubmissionText {
                event: None,
                text: "text".into(),
                signer: "signer".into(),
                signature: "signature".into(),
                countersignature: None,
                note: None,
                invite: None,
                recovered: None,
            }),
            ..JournalLine::of(line)
        };
        journal.append(&[signed(1), signed(2), signed(3)]).unwrap();
        journal.append(&[JournalLine { outcome: Some("accepted".into()), ..JournalLine::of(2) }]).unwrap();
        journal.append(&[JournalLine { outcome: Some("refused".into()), ..JournalLine::of(1) }]).unwrap();
        drop(journal);
        let length = std::fs::metadata(&path).unwrap().len();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"line\":3,\"outc").unwrap();
        let mut again = Journal::open(&path).unwrap();
        assert!(again.done.has(1) && again.done.has(2) && !again.done.has(3));
        assert_eq!(again.done.below, 3, "what is done without a gap needs no memory");
        assert_eq!(again.signed.keys().copied().collect::<Vec<_>>(), [3]);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), length, "half a line is cut off");
        assert_eq!(again.refused, 1);
        assert!(again.may_be(4, "anything") && !again.may_be(2, &"f".repeat(64)), "a line that was changed is noticed");
        again.append(&[JournalLine { outcome: Some("accepted".into()), ..JournalLine::of(3) }]).unwrap();
        assert_eq!(Journal::open(&path).unwrap().done.below, 4);
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"not a line\n").unwrap();
        assert_eq!(Journal::open(&path).err().unwrap().code, "journal");
    }

    #[test]
    fn the_input_is_read_in_bounded_chunks() {
        let (sender, mut chunks) = tokio::sync::mpsc::channel(8);
        let lines: String = (0..300).map(|i| format!("{{\"line\":{i}}}\r\n")).collect();
        read_lines(format!("\u{feff}{lines}last").as_bytes(), &sender);
        let first = chunks.try_recv().unwrap().unwrap();
        assert_eq!((first.len(), first[0].1.as_str()), (SUBMISSIONS_MAX, "{\"line\":0}"));
        assert_eq!(chunks.try_recv().unwrap().unwrap().last().unwrap(), &(301, "last".to_owned()));
        read_lines(&vec![b'x'; LINE_BYTES_MAX + 1][..], &sender);
        assert_eq!(chunks.try_recv().unwrap().unwrap_err().code, "input");
    }
}
