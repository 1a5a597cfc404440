//! Tables as Parquet files, in row groups of bounded size.
use std::fs::File;
use std::sync::Arc;

use fama_ledger::time::Millis;
use parquet::basic::Compression;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
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

    pub(super) fn finish(mut self) -> Result<(), ReadError> {
        if !self.rows.is_empty() {
            self.group()?;
        }
        self.out.close().map(|_| ()).map_err(failed)
    }
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
        ColumnKind::Text => {
            let (values, levels) = present(rows, at, |cell| match cell {
                Cell::Text(text) => Some(ByteArray::from(text.as_str())),
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
    use parquet::file::reader::{FileReader, SerializedFileReader};

    use super::*;
    use crate::export::cell::columns;

    const COLUMNS: &[Column] = columns! { "text": Text, "int": Int, "bool": Bool, "time": Time, "day": Day };

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
            ];
            table.row(if i % 5 == 0 { vec![Cell::Null; 5] } else { row }).unwrap();
        }
        table.finish().unwrap();
        let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
        let rows: Vec<String> = reader.get_row_iter(None).unwrap().map(|row| row.unwrap().to_string()).collect();
        assert_eq!((rows.len(), reader.num_row_groups()), (GROUP_ROWS + 3, 2));
        assert_eq!(rows[5], "{text: null, int: null, bool: null, time: null, day: null}");
        assert_eq!(
            rows[7],
            "{text: \"7é\", int: -7, bool: false, time: 2026-11-22 05:00:00.123 +00:00, day: 2026-11-22}"
        );
    }
}
