//! The table of every entry, log by log in order.
use std::path::Path;

use fama_ledger::entry::{Body, Entry, SignedEvent, VerifiedBody, VerifiedEntry};
use fama_ledger::event::{Action, Scope};
use fama_ledger::fold::{Effect, Outcome};
use fama_ledger::id::{EventId, IdentityId, ManifestHash, StateRoot};
use fama_ledger::manifest::LogId;
use fama_ledger::time::Millis;

use super::cell::{Cell, Column, columns};
use super::table::{TableFile, TableFormat};
use super::{Unfinished, begin};
use crate::error::ReadError;

/// Columns of the table of entries; the first is the log, the second the index.
pub(super) const COLUMNS: &[Column] = columns! {
    "log": Text, "index": Int, "time": Time, "kind": Text, "outcome": Text,
    "event": Text, "created": Time, "signer": Text, "home": Text, "identity": Text, "name": Text,
    "version": Int, "key": Text, "next": Text, "reason": Text,
    "issuer": Text, "subject": Text, "delta": Int, "effective": Int, "number": Int, "context": Text, "note": Text,
    "day": Day, "attestation": Text, "scope": Text, "expires": Time,
    "operator": Text, "provider": Text, "service": Text, "domain": Text, "method": Text, "from_number": Int,
    "manifest": Text, "state_root": Text,
};

/// The table of entries, written while the audit folds them.
pub struct EntryTable {
    unfinished: Unfinished,
    table: TableFile,
    failed: Option<ReadError>,
}

impl EntryTable {
    /// Creates its file in `dir`.
    ///
    /// # Errors
    /// `file_exists`; `file` if the disk failed.
    pub fn create(dir: &Path, format: TableFormat) -> Result<Self, ReadError> {
        let (unfinished, table) = begin(dir, "entries", format, COLUMNS)?;
        Ok(Self { unfinished, table, failed: None })
    }

    /// Writes the next entry. An error is kept for [`EntryTable::finish`].
    pub fn take(&mut self, log: &LogId, index: u64, entry: &VerifiedEntry, outcome: Option<&Outcome>) {
        if self.failed.is_none() {
            self.failed = self.table.row(row(log, index, entry, outcome)).err();
        }
    }

    /// Flushes the file; gives it with its number of rows.
    ///
    /// # Errors
    /// `file` if the disk failed, now or in an earlier [`EntryTable::take`].
    pub fn finish(self) -> Result<(Unfinished, u64), ReadError> {
        match self.failed {
            Some(failure) => Err(failure),
            None => Ok((self.unfinished, self.table.finish()?)),
        }
    }
}

/// A row under construction; cells that are not set stay null.
struct Cells(Vec<Cell>);

impl Cells {
    fn begun(log: &LogId, index: u64, time: Millis, outcome: RowOutcome) -> Self {
        let mut cells = Self(vec![Cell::Null; COLUMNS.len()]);
        cells.text("log", log);
        cells.set("index", Cell::number(index));
        cells.set("time", Cell::Time(time));
        cells.set("outcome", Cell::some(outcome.code));
        cells.set("number", outcome.number.map_or(Cell::Null, Cell::number));
        cells.set("effective", outcome.effective.map_or(Cell::Null, |effective| Cell::Int(effective.into())));
        cells
    }

    fn set(&mut self, name: &str, cell: Cell) {
        if let Some(at) = COLUMNS.iter().position(|column| column.name == name) {
            self.0[at] = cell;
        }
    }

    fn text(&mut self, name: &str, value: impl ToString) {
        self.set(name, Cell::text(value));
    }
}

/// What happened to an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RowOutcome {
    /// `applied` or why not; `None` of an entry that is no event.
    pub(super) code: Option<&'static str>,
    /// Of an attestation or retraction that applied: its number among its provider's.
    pub(super) number: Option<u64>,
    /// Of an attestation that applied: what the day's cap left of its delta.
    pub(super) effective: Option<i32>,
}

impl RowOutcome {
    /// Code of what applied.
    pub(super) const APPLIED: &'static str = "applied";

    fn of(outcome: Option<&Outcome>) -> Self {
        let applied = Self { code: Some(Self::APPLIED), ..Self::default() };
        match outcome {
            None => Self::default(),
            Some(Err(void)) => Self { code: Some(void.code()), ..Self::default() },
            Some(Ok(Effect::Attested { number, effective, .. })) => {
                Self { number: Some(*number), effective: Some(*effective), ..applied }
            }
            Some(Ok(Effect::Retracted { retraction, .. })) => Self { number: Some(*retraction), ..applied },
            Some(Ok(_)) => applied,
        }
    }
}

fn row(log: &LogId, index: u64, entry: &VerifiedEntry, outcome: Option<&Outcome>) -> Vec<Cell> {
    let mut cells = Cells::begun(log, index, entry.time, RowOutcome::of(outcome));
    match &entry.body {
        VerifiedBody::Adopt { version, manifest } => adopt_cells(&mut cells, *version, manifest),
        VerifiedBody::State { root } => state_cells(&mut cells, root),
        VerifiedBody::Event(event) => event_cells(&mut cells, &event.id(), event.signed()),
    }
    cells.0
}

/// The row of an entry from the auditor's own store, whose signatures were verified before it was stored.
pub(super) fn stored_row(
    log: &LogId,
    index: u64,
    entry: &Entry,
    id: Option<&EventId>,
    outcome: RowOutcome,
) -> Vec<Cell> {
    let mut cells = Cells::begun(log, index, entry.time, outcome);
    match (&entry.body, id) {
        (Body::Adopt { version, manifest }, _) => adopt_cells(&mut cells, *version, manifest),
        (Body::State { root }, _) => state_cells(&mut cells, root),
        (Body::Event(signed), Some(id)) => event_cells(&mut cells, id, signed),
        (Body::Event(_), None) => {}
    }
    cells.0
}

fn adopt_cells(cells: &mut Cells, version: u32, manifest: &ManifestHash) {
    cells.text("kind", "adopt");
    cells.set("version", Cell::number(version.into()));
    cells.text("manifest", manifest);
}

fn state_cells(cells: &mut Cells, root: &StateRoot) {
    cells.text("kind", "state");
    cells.text("state_root", root);
}

fn granted(cells: &mut Cells, (issuer, subject): (&IdentityId, &IdentityId), scope: &Scope) {
    cells.text("issuer", issuer);
    cells.text("subject", subject);
    cells.text("scope", scope);
}

fn event_cells(cells: &mut Cells, id: &EventId, signed: &SignedEvent) {
    let action = &signed.event.action;
    cells.text("kind", action.kind());
    cells.text("event", id);
    cells.set("created", Cell::Time(signed.event.created));
    cells.text("signer", signed.signer);
    cells.set("note", Cell::some(action.note()));
    match action {
        Action::Admit { operator, provider, service, domain, from, .. }
        | Action::Dismiss { operator, provider, service, domain, from, .. } => {
            cells.text("operator", operator);
            cells.text("provider", provider);
            cells.text("service", service);
            cells.text("domain", domain);
            cells.set("from_number", Cell::number(*from));
        }
        Action::Suspend { operator, .. } | Action::Resume { operator, .. } => cells.text("operator", operator),
        _ => cells.text("home", action.place()),
    }
    match action {
        Action::Register { name, key, next, .. } => {
            cells.text("identity", id);
            cells.text("name", name);
            cells.text("key", key);
            cells.set("version", Cell::Int(1));
            cells.set("next", Cell::some(*next));
        }
        Action::Rotate { identity, version, key, next, .. } => {
            cells.text("identity", identity);
            cells.set("version", Cell::number((*version).into()));
            cells.text("key", key);
            cells.set("next", Cell::some(*next));
        }
        Action::Revoke { identity, version, key, reason, .. } => {
            cells.text("identity", identity);
            cells.set("version", Cell::number((*version).into()));
            cells.text("key", key);
            cells.text("reason", reason);
        }
        Action::Attest { issuer, subject, delta, context, .. } => {
            cells.text("issuer", issuer);
            cells.text("subject", subject);
            cells.set("delta", Cell::Int((*delta).into()));
            cells.set("context", Cell::some(context.as_ref()));
        }
        Action::Retract { issuer, subject, day, attestation, .. } => {
            cells.text("issuer", issuer);
            cells.text("subject", subject);
            cells.set("day", Cell::Day(*day));
            cells.text("attestation", attestation);
        }
        Action::Admit { method, .. } => cells.text("method", method),
        Action::Dismiss { reason, .. } => cells.text("reason", reason),
        Action::Grant { issuer, subject, scope, expires, .. } => {
            granted(cells, (issuer, subject), scope);
            cells.set("expires", expires.map_or(Cell::Null, Cell::Time));
        }
        Action::Ungrant { issuer, subject, scope, .. } => granted(cells, (issuer, subject), scope),
        Action::Suspend { identity, reason, .. } => {
            cells.text("identity", identity);
            cells.text("reason", reason);
        }
        Action::Resume { identity, .. } => cells.text("identity", identity),
    }
}
