//! Columns and their values, in no format yet.
use fama_ledger::time::{Day, Millis};

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ColumnKind {
    /// UTF-8 text.
    Text,
    /// A signed 64-bit integer.
    Int,
    /// `true` or `false` in the text formats.
    Bool,
    /// Milliseconds since 1970, UTC; RFC 3339 in the text formats.
    Time,
    /// A UTC day; `YYYY-MM-DD` in the text formats.
    Day,
    /// Bytes; lower-case hex in the text formats.
    Binary,
}

/// A named, typed column. Any of its values may be null.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    /// Header of the column, and its key in JSON.
    pub(super) name: &'static str,
    /// Type of all its values that are not null.
    pub(super) kind: ColumnKind,
}

/// One value: null or of its column's kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    /// No value: empty in CSV, `null` in JSON.
    Null,
    /// [`ColumnKind::Text`].
    Text(String),
    /// [`ColumnKind::Int`].
    Int(i64),
    /// [`ColumnKind::Bool`].
    Bool(bool),
    /// [`ColumnKind::Time`].
    Time(Millis),
    /// [`ColumnKind::Day`].
    Day(Day),
    /// [`ColumnKind::Binary`].
    Binary(Vec<u8>),
}

impl Cell {
    /// The value's `Display` form.
    #[expect(clippy::needless_pass_by_value, reason = "called with literals and values alike")]
    pub(super) fn text(value: impl ToString) -> Self {
        Self::Text(value.to_string())
    }

    /// The value's `Display` form, or null.
    pub(super) fn some(value: Option<impl ToString>) -> Self {
        value.map_or(Self::Null, Self::text)
    }

    /// A number of the ledger. Values beyond 63 bits, which no ledger reaches, become [`i64::MAX`].
    #[must_use]
    pub(super) fn number(value: u64) -> Self {
        Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }

    /// A time, or null.
    #[must_use]
    pub(super) fn time(value: Option<Millis>) -> Self {
        value.map_or(Self::Null, Self::Time)
    }
}

/// Declares a list of columns: `columns! { "name": Kind, … }`.
macro_rules! columns {
    ($($name:literal: $kind:ident),* $(,)?) => {
        &[$($crate::export::cell::Column { name: $name, kind: $crate::export::cell::ColumnKind::$kind }),*]
    };
}
pub(super) use columns;
