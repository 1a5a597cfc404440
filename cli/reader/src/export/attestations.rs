//! The table of applied attestations, by home, subject, provider, day and number.
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use fama_ledger::codec;
use fama_ledger::entry::{Body, Entry};
use fama_ledger::event::Action;
use fama_ledger::id::{Domain, EventId, IdentityId};
use fama_ledger::join::{Join, Numbers, Sponsorship};
use fama_ledger::limits::ENTRY_BYTES_MAX;
use fama_ledger::note::Note;
use fama_ledger::rows::{self, Attested, DayRow, MapName, Row as _, Rows as _};
use fama_ledger::time::Day;
use fama_node::store::View;
use fama_node::wire::NoteAnswer;

use super::cell::{Cell, Column, columns};
use super::table::{TableFile, TableFormat};
use super::{Unfinished, begin};
use crate::error::ReadError;

const COLUMNS: &[Column] = columns! {
    "event": Text, "log": Text, "index": Int, "time": Time, "home": Text,
    "subject": Text, "subject_handle": Text, "provider": Text, "provider_handle": Text, "services": Text,
    "day": Day, "number": Int, "delta": Int, "effective": Int, "context": Text,
    "counted": Bool, "why_not": Text, "retracted": Bool, "retraction": Int,
    "note": Text, "reason": Text, "reference": Text,
};
/// How many providers' sponsorships, and how many handles, are cached.
const KNOWN_MAX: usize = 4_096;

pub(super) fn write(
    view: &View<'_>,
    join: &Join<'_, View<'_>>,
    dir: &Path,
    format: TableFormat,
) -> Result<(Unfinished, u64), ReadError> {
    let (unfinished, table) = begin(dir, "attestations", format, COLUMNS)?;
    let mut writer = AttestationRows { view, join, table, sponsored: BTreeMap::new(), handles: BTreeMap::new() };
    for home in join.manifest().homes().keys() {
        writer.home(home)?;
    }
    Ok((unfinished, writer.table.finish()?))
}

struct AttestationRows<'a, 'v> {
    view: &'a View<'v>,
    join: &'a Join<'a, View<'v>>,
    table: TableFile,
    sponsored: BTreeMap<IdentityId, (Numbers, Vec<(String, Numbers)>)>,
    handles: BTreeMap<IdentityId, Option<String>>,
}

/// The key of a day's row: who attested to whom on which day.
struct Key {
    subject: IdentityId,
    provider: IdentityId,
    day: Day,
}

impl Key {
    fn parse(key: &[u8]) -> Option<Self> {
        let (subject, rest) = key.get(1..)?.split_first_chunk()?;
        let (provider, day) = rest.split_first_chunk()?;
        let day = Day(u32::from_be_bytes(day.try_into().ok()?));
        Some(Self { subject: EventId(*subject), provider: EventId(*provider), day })
    }
}

impl AttestationRows<'_, '_> {
    fn home(&mut self, home: &Domain) -> Result<(), ReadError> {
        let mut done = Ok(());
        let (view, map) = (self.view, MapName::home(home).id());
        let scanned = view.scan(map, &[DayRow::TAG], &mut |key, value| {
            done = self.day(home, key, value);
            if done.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        scanned.map_err(ReadError::damaged)?;
        done
    }

    fn day(&mut self, home: &Domain, key: &[u8], value: &[u8]) -> Result<(), ReadError> {
        let key = Key::parse(key).ok_or_else(|| ReadError::damaged("not the key of a day"))?;
        let rows: DayRow = rows::decode_row::<_, std::convert::Infallible>(value).map_err(ReadError::damaged)?;
        rows.0.iter().try_for_each(|attested| {
            let row = self.row(home, &key, attested)?;
            self.table.row(row)
        })
    }

    fn row(&mut self, home: &Domain, key: &Key, attested: &Attested) -> Result<Vec<Cell>, ReadError> {
        let positions = self.view.positions(&attested.event).map_err(ReadError::damaged)?;
        let position = positions.into_iter().find(|position| position.void.is_none());
        let position = position.ok_or_else(|| ReadError::damaged("an attestation without its entry"))?;
        let entry = self.view.entry(&position.log, position.index);
        let bytes = entry.map_err(ReadError::damaged)?.unwrap_or_default();
        let entry: Entry = codec::decode(&bytes, ENTRY_BYTES_MAX).map_err(ReadError::damaged)?;
        let Entry { time, body: Body::Event(signed) } = entry else {
            return Err(ReadError::damaged("an attestation that is no event"));
        };
        let Action::Attest { delta, context, note, .. } = signed.event.action else {
            return Err(ReadError::damaged("an attestation that is none"));
        };
        let text = note.map(|note| self.view.note(&note)).transpose().map_err(ReadError::damaged)?.flatten();
        let note_text = match text {
            Some(NoteAnswer::Text(text)) => Note::parse(text.as_bytes()).ok(),
            _ => None,
        };
        let (numbers, services) = self.sponsored(key.provider)?;
        let counted = attested.counted(&numbers).count > 0;
        let why_not = if numbers.contains(attested.number) { "retracted" } else { "not_sponsored" };
        let sponsored = services.iter().filter(|(_, numbers)| numbers.contains(attested.number));
        let services: Vec<&str> = sponsored.map(|(service, _)| service.as_str()).collect();
        Ok(vec![
            Cell::text(attested.event),
            Cell::text(&position.log),
            Cell::number(position.index),
            Cell::Time(time),
            Cell::text(home),
            Cell::text(key.subject),
            Cell::some(self.handle(key.subject)?),
            Cell::text(key.provider),
            Cell::some(self.handle(key.provider)?),
            Cell::some(Some(services.join(" ")).filter(|services| !services.is_empty())),
            Cell::Day(key.day),
            Cell::number(attested.number),
            Cell::Int(delta.into()),
            Cell::Int(attested.effective.into()),
            Cell::some(context),
            Cell::Bool(counted),
            if counted { Cell::Null } else { Cell::text(why_not) },
            Cell::Bool(attested.retraction.is_some()),
            attested.retraction.map_or(Cell::Null, Cell::number),
            Cell::some(note),
            Cell::some(note_text.as_ref().and_then(|note| note.reason.as_ref())),
            Cell::some(note_text.as_ref().and_then(|note| note.reference.as_ref())),
        ])
    }

    /// The numbers of a provider's attestations that count, in all and for each sponsored service.
    fn sponsored(&mut self, provider: IdentityId) -> Result<(Numbers, Vec<(String, Numbers)>), ReadError> {
        if self.sponsored.len() >= KNOWN_MAX {
            self.sponsored.clear();
        }
        if let Some(known) = self.sponsored.get(&provider) {
            return Ok(known.clone());
        }
        let want = usize::try_from(self.join.manifest().policy().min_sponsors).unwrap_or(usize::MAX);
        let numbers = self.join.sponsored(provider).map_err(ReadError::damaged)?;
        let services = self.join.sponsorships(provider).map_err(ReadError::damaged)?;
        let service = |one: &Sponsorship| (format!("{}/{}", one.domain, one.service), one.numbers(want));
        let found = (numbers, services.iter().map(service).collect::<Vec<_>>());
        self.sponsored.insert(provider, found.clone());
        Ok(found)
    }

    fn handle(&mut self, id: IdentityId) -> Result<Option<String>, ReadError> {
        if self.handles.len() >= KNOWN_MAX {
            self.handles.clear();
        }
        if let Some(known) = self.handles.get(&id) {
            return Ok(known.clone());
        }
        let found = self.join.identity(id).map_err(ReadError::damaged)?;
        let handle = found.map(|found| format!("{}@{}", found.identity.name, found.home));
        self.handles.insert(id, handle.clone());
        Ok(handle)
    }
}
