//! The table of identities, home by home in the order of their ids.
use std::path::Path;

use fama_ledger::id::did;
use fama_ledger::join::{Join, LocatedIdentity};
use fama_ledger::rows::RowError;
use fama_node::store::{StoreError, View};

use super::cell::{Cell, Column, columns};
use super::table::TableFormat;
use super::{Unfinished, begin};
use crate::error::ReadError;

const COLUMNS: &[Column] = columns! {
    "identity": Text, "handle": Text, "did": Text, "home": Text, "name": Text, "registered": Time,
    "key": Text, "key_version": Int, "key_since": Time, "status": Text,
    "revoked": Time, "revocation_reason": Text, "revoked_by": Text,
    "karma": Int, "attestations": Int,
};

pub(super) fn write(
    join: &Join<'_, View<'_>>,
    dir: &Path,
    format: TableFormat,
) -> Result<(Unfinished, u64), ReadError> {
    let (unfinished, mut table) = begin(dir, "identities", format, COLUMNS)?;
    let mut done = Ok(());
    let each = join.each_identity(|found| {
        if done.is_ok() {
            done = row(join, &found).map_err(ReadError::damaged).and_then(|row| table.row(row));
        }
    });
    each.map_err(ReadError::damaged)?;
    done?;
    Ok((unfinished, table.finish()?))
}

fn row(join: &Join<'_, View<'_>>, found: &LocatedIdentity) -> Result<Vec<Cell>, RowError<StoreError>> {
    let status = join.key_status(found)?;
    let first = join.keys(found)?.first().map(|key| key.time);
    let karma = join.karma(found.id)?;
    let revoked = status.revoked.as_ref();
    let by = revoked.map(|revoked| revoked.operator.as_ref().unwrap_or(&found.home));
    Ok(vec![
        Cell::text(found.id),
        Cell::Text(format!("{}@{}", found.identity.name, found.home)),
        Cell::Text(did(&found.home, &found.id)),
        Cell::text(&found.home),
        Cell::text(&found.identity.name),
        Cell::time(first),
        Cell::text(status.current.key),
        Cell::number(status.version.into()),
        Cell::Time(status.current.time),
        Cell::text(if revoked.is_some() { "revoked" } else { "active" }),
        Cell::time(revoked.map(|revoked| revoked.time)),
        Cell::some(revoked.map(|revoked| revoked.reason)),
        Cell::some(by),
        Cell::Int(karma.sum),
        Cell::number(karma.count),
    ])
}
