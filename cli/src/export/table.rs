//! Rows of named, typed columns, in whichever format.
use std::fs::File;

use fama_ledger::time::{Day, Millis};

use super::parquet::Parquet;
use super::text::{Csv, Jsonl};
use crate::failure::Failure;

/// How tables are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One JSON object a line
    Jsonl,
    /// RFC 4180, with a header; an absent value is empty
    Csv,
    /// Apache Parquet, compressed with Snappy
    Parquet,
}

impl Format {
    /// What file names end with.
    #[must_use]
    pub const fn ending(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
        }
    }
}

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8.
    Text,
    /// 64 bits, signed.
    Int,
    /// True or false.
    Bool,
    /// Milliseconds since 1970, UTC; RFC 3339 in the text formats.
    Time,
    /// A UTC day; `YYYY-MM-DD` in the text formats.
    Day,
}

/// A column. Every value may be absent.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
}

/// One value; of its column's kind, or absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Absent.
    Null,
    /// [`Kind::Text`].
    Text(String),
    /// [`Kind::Int`].
    Int(i64),
    /// [`Kind::Bool`].
    Bool(bool),
    /// [`Kind::Time`].
    Time(Millis),
    /// [`Kind::Day`].
    Day(Day),
}

impl Cell {
    /// As text.
    #[expect(clippy::needless_pass_by_value, reason = "called with literals and values alike")]
    pub fn text(value: impl ToString) -> Self {
        Self::Text(value.to_string())
    }

    /// As text, or absent.
    pub fn some(value: Option<impl ToString>) -> Self {
        value.map_or(Self::Null, Self::text)
    }

    /// A number of the ledger; those beyond 63 bits, which nothing reaches, stand at the largest.
    #[must_use]
    pub fn number(value: u64) -> Self {
        Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }

    /// A time, or absent.
    #[must_use]
    pub fn time(value: Option<Millis>) -> Self {
        value.map_or(Self::Null, Self::Time)
    }
}

/// A table being written.
pub struct Table {
    format: Writer,
    columns: &'static [Column],
    rows: u64,
}

enum Writer {
    Jsonl(Jsonl),
    Csv(Csv),
    Parquet(Box<Parquet>),
}

impl Table {
    /// Begins one.
    ///
    /// # Errors
    /// The disk failed.
    pub fn new(format: Format, columns: &'static [Column], file: File) -> Result<Self, Failure> {
        let format = match format {
            Format::Jsonl => Writer::Jsonl(Jsonl::new(columns, file)),
            Format::Csv => Writer::Csv(Csv::new(columns, file)?),
            Format::Parquet => Writer::Parquet(Box::new(Parquet::new(columns, file)?)),
        };
        Ok(Self { format, columns, rows: 0 })
    }

    /// Adds a row: one cell for each column.
    ///
    /// # Errors
    /// The disk failed.
    ///
    /// # Panics
    /// If the row has another number of cells than there are columns: a mistake of this program.
    pub fn row(&mut self, row: Vec<Cell>) -> Result<(), Failure> {
        assert_eq!(row.len(), self.columns.len(), "a row has one cell for each column");
        self.rows = self.rows.saturating_add(1);
        match &mut self.format {
            Writer::Jsonl(jsonl) => jsonl.row(&row),
            Writer::Csv(csv) => csv.row(&row),
            Writer::Parquet(parquet) => parquet.row(row),
        }
    }

    /// Writes what is left; gives the number of rows.
    ///
    /// # Errors
    /// The disk failed.
    pub fn finish(self) -> Result<u64, Failure> {
        match self.format {
            Writer::Jsonl(jsonl) => jsonl.finish()?,
            Writer::Csv(csv) => csv.finish()?,
            Writer::Parquet(parquet) => parquet.finish()?,
        }
        Ok(self.rows)
    }
}

/// Declares a list of columns.
macro_rules! columns {
    ($($name:literal: $kind:ident),* $(,)?) => {
        &[$($crate::export::Column { name: $name, kind: $crate::export::Kind::$kind }),*]
    };
}
pub(super) use columns;
