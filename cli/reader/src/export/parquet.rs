//! Tables as Parquet files, in row groups of bounded size.
use std::fs::File;
use std::sync::Arc;

use fama_ledger::time::Millis;
use parquet::basic::Compression;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

use super::cell::{Cell, Column, ColumnKind};
use crate::error::ReadError;

/// Rows in a group; a group is held in memory until it is written.
const GROUP_ROWS: usize = 16_384;

/// A Parquet file being written.
pub(super) struct Parquet {
    columns: &'static [Column],
    rows: Vec<Vec<Cell>>,
    out: SerializedFileWriter<File>,
}

fn failed(error: ParquetError) -> ReadError {
    ReadError::file(error)
}

/// The schema in Parquet's message syntax.
fn schema(columns: &[Column]) -> String {
    let field = |column: &Column| {
        let name = column.name;
        match column.kind {
            ColumnKind::Text => format!("optional binary {name} (UTF8);"),
            ColumnKind::Int => format!("optional int64 {name};"),
            ColumnKind::Bool => format!("optional boolean {name};"),
            ColumnKind::Time => format!("optional int64 {name} (TIMESTAMP(MILLIS,true));"),
            ColumnKind::Day => format!("optional int32 {name} (DATE);"),
            ColumnKind::Binary => format!("optional binary {name};"),
        }
    };
    format!("message fama {{ {} }}", columns.iter().map(field).collect::<Vec<_>>().join(" "))
}

/// The non-null values of a column, and for each row its definition level: 1 with a value, 0 for null.
fn present<T>(rows: &[Vec<Cell>], at: usize, value: impl Fn(&Cell) -> Option<T>) -> (Vec<T>, Vec<i16>) {
    let cells = rows.iter().map(|row| row.get(at).and_then(&value));
    let mut values = Vec::new();
    let levels = cells.map(|cell| {
        let level = i16::from(cell.is_some());
        values.extend(cell);
        level
    });
    let levels = levels.collect();
    (values, levels)
}

impl Parquet {
    pub(super) fn new(columns: &'static [Column], file: File) -> Result<Self, ReadError> {
        let schema = Arc::new(parse_message_type(&schema(columns)).map_err(failed)?);
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let out = SerializedFileWriter::new(file, schema, Arc::new(properties)).map_err(failed)?;
        Ok(Self { columns, rows: Vec::new(), out })
    }

    pub(super) fn row(&mut self, row: Vec<Cell>) -> Result<(), ReadError> {
        self.rows.push(row);
        if self.rows.len() < GROUP_ROWS { Ok(()) } else { self.group() }
    }

    fn group(&mut self) -> Result<(), ReadError> {
        let rows = std::mem::take(&mut self.rows);
        let mut group = self.out.next_row_group().map_err(failed)?;
        for (at, column) in self.columns.iter().enumerate() {
            write_column(&mut group, column.kind, &rows, at).map_err(failed)?;
        }
        group.close().map(|_| ()).map_err(failed)
    }

    /// Writes a note about the whole file next to its schema, where [`rows_and_note`] finds it.
    pub(super) fn note(&mut self, name: &str, value: &str) {
        self.out.append_key_value_metadata(KeyValue::new(name.to_owned(), value.to_owned()));
    }

    pub(super) fn finish(mut self) -> Result<(), ReadError> {
        if !self.rows.is_empty() {
            self.group()?;
        }
        self.out.close().map(|_| ()).map_err(failed)
    }
}

/// The number of rows of a finished file, and the value of its note `name` if it has one.
pub(super) fn rows_and_note(file: File, name: &str) -> Result<(u64, Option<String>), ReadError> {
    let reader = SerializedFileReader::new(file).map_err(failed)?;
    let about = reader.metadata().file_metadata();
    let notes = about.key_value_metadata().into_iter().flatten();
    let note = notes.filter(|note| note.key == name).find_map(|note| note.value.clone());
    Ok((u64::try_from(about.num_rows()).unwrap_or(0), note))
}

fn write_column(
    group: &mut SerializedRowGroupWriter<'_, File>,
    kind: ColumnKind,
    rows: &[Vec<Cell>],
    at: usize,
) -> Result<(), ParquetError> {
    let Some(mut column) = group.next_column()? else { return Ok(()) };
    let millis = |time: &Millis| i64::try_from(time.0).unwrap_or(i64::MAX);
    match kind {
        ColumnKind::Text | ColumnKind::Binary => {
            let (values, levels) = present(rows, at, |cell| match cell {
                Cell::Text(text) => Some(ByteArray::from(text.as_str())),
                Cell::Binary(bytes) => Some(ByteArray::from(bytes.clone())),
                _ => None,
            });
            column.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None)?;
        }
        ColumnKind::Int | ColumnKind::Time => {
            let (values, levels) = present(rows, at, |cell| match cell {
                Cell::Int(number) => Some(*number),
                Cell::Time(time) => Some(millis(time)),
                _ => None,
            });
            column.typed::<Int64Type>().write_batch(&values, Some(&levels), None)?;
        }
        ColumnKind::Day => {
            let (values, levels) = present(rows, at, |cell| match cell {
                Cell::Day(day) => i32::try_from(day.0).ok(),
                _ => None,
            });
            column.typed::<Int32Type>().write_batch(&values, Some(&levels), None)?;
        }
        ColumnKind::Bool => {
            let (values, levels) = present(rows, at, |cell| match cell {
                Cell::Bool(bool) => Some(*bool),
                _ => None,
            });
            column.typed::<BoolType>().write_batch(&values, Some(&levels), None)?;
        }
    }
    column.close()
}

#[cfg(test)]
mod tests {
    use fama_ledger::time::Day;

    use super::*;
    use crate::export::cell::columns;

    const COLUMNS: &[Column] =
        columns! { "text": Text, "int": Int, "bool": Bool, "time": Time, "day": Day, "bytes": Binary };

    #[test]
    fn rows_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("table.parquet");
        let mut table = Parquet::new(COLUMNS, File::create(&path).unwrap()).unwrap();
        let day = Day(20_779);
        for i in 0..GROUP_ROWS + 3 {
            let i = i64::try_from(i).unwrap();
            let time = Millis(1_795_323_600_123);
            let row = vec![
                Cell::text(format!("{i}é")),
                Cell::Int(-i),
                Cell::Bool(i % 2 == 0),
                Cell::Time(time),
                Cell::Day(day),
                Cell::Binary(vec![7; 3]),
            ];
            table.row(if i % 5 == 0 { vec![Cell::Null; 6] } else { row }).unwrap();
        }
        table.note("of", "a test");
        table.finish().unwrap();
        let (rows, note) = rows_and_note(File::open(&path).unwrap(), "of").unwrap();
        assert_eq!((rows, note.as_deref()), (GROUP_ROWS as u64 + 3, Some("a test")));
        let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
        let rows: Vec<String> = reader.get_row_iter(None).unwrap().map(|row| row.unwrap().to_string()).collect();
        assert_eq!((rows.len(), reader.num_row_groups()), (GROUP_ROWS + 3, 2));
        assert_eq!(rows[5], "{text: null, int: null, bool: null, time: null, day: null, bytes: null}");
        assert_eq!(
            rows[7],
            "{text: \"7é\", int: -7, bool: false, time: 2026-11-22 05:00:00.123 +00:00, day: 2026-11-22, bytes: [7, 7, 7]}"
        );
    }
}
