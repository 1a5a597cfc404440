//! A table file in one of the formats.
use std::fs::File;

use super::cell::{Cell, Column};
use super::parquet::Parquet;
use super::text::{Csv, Jsonl};
use crate::error::ReadError;

/// The file format of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableFormat {
    /// One JSON object per line.
    Jsonl,
    /// RFC 4180 with a header; null is an empty field.
    Csv,
    /// Apache Parquet, compressed with Snappy.
    Parquet,
}

impl TableFormat {
    /// The extension of its files, without a dot.
    #[must_use]
    pub const fn ending(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
        }
    }
}

/// A table that is being written.
pub(super) struct TableFile {
    format: RowWriter,
    columns: &'static [Column],
    rows: u64,
}

enum RowWriter {
    Jsonl(Jsonl),
    Csv(Csv),
    Parquet(Box<Parquet>),
}

impl TableFile {
    /// Writes the header, if the format has one.
    ///
    /// # Errors
    /// `file` if the disk failed.
    pub(super) fn new(format: TableFormat, columns: &'static [Column], file: File) -> Result<Self, ReadError> {
        let format = match format {
            TableFormat::Jsonl => RowWriter::Jsonl(Jsonl::new(columns, file)),
            TableFormat::Csv => RowWriter::Csv(Csv::new(columns, file)?),
            TableFormat::Parquet => RowWriter::Parquet(Box::new(Parquet::new(columns, file)?)),
        };
        Ok(Self { format, columns, rows: 0 })
    }

    /// Writes a row: one cell for each column.
    ///
    /// # Errors
    /// `file` if the disk failed.
    ///
    /// # Panics
    /// If the row does not have one cell for each column: a bug of this program.
    pub(super) fn row(&mut self, row: Vec<Cell>) -> Result<(), ReadError> {
        assert_eq!(row.len(), self.columns.len(), "a row has one cell for each column");
        self.rows = self.rows.saturating_add(1);
        match &mut self.format {
            RowWriter::Jsonl(jsonl) => jsonl.row(&row),
            RowWriter::Csv(csv) => csv.row(&row),
            RowWriter::Parquet(parquet) => parquet.row(row),
        }
    }

    /// Flushes the file; gives the number of rows.
    ///
    /// # Errors
    /// `file` if the disk failed.
    pub(super) fn finish(self) -> Result<u64, ReadError> {
        match self.format {
            RowWriter::Jsonl(jsonl) => jsonl.finish()?,
            RowWriter::Csv(csv) => csv.finish()?,
            RowWriter::Parquet(parquet) => parquet.finish()?,
        }
        Ok(self.rows)
    }
}
