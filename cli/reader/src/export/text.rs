//! Tables as lines of text. Equal tables give equal bytes.
use std::fs::File;
use std::io::{BufWriter, Write};

use fama_ledger::id::Hex;
use fama_ledger::time::Millis;

use super::cell::{Cell, Column};
use crate::error::ReadError;

/// A day, in milliseconds.
const DAY_MILLIS: u64 = 86_400_000;

fn failed(error: std::io::Error) -> ReadError {
    ReadError::file(error)
}

/// The text of a cell; `None` for null.
fn text(cell: &Cell) -> Option<String> {
    Some(match cell {
        Cell::Null => return None,
        Cell::Text(text) => text.clone(),
        Cell::Int(number) => number.to_string(),
        Cell::Bool(bool) => bool.to_string(),
        Cell::Time(time) => time.to_string(),
        Cell::Day(day) => Millis(u64::from(day.0).saturating_mul(DAY_MILLIS)).to_string().chars().take(10).collect(),
        Cell::Binary(bytes) => Hex(bytes).to_string(),
    })
}

/// One JSON object per line, with `null` for missing values.
pub(super) struct Jsonl {
    columns: &'static [Column],
    out: BufWriter<File>,
}

impl Jsonl {
    pub(super) fn new(columns: &'static [Column], file: File) -> Self {
        Self { columns, out: BufWriter::new(file) }
    }

    pub(super) fn row(&mut self, row: &[Cell]) -> Result<(), ReadError> {
        let value = |cell: &Cell| match (cell, text(cell)) {
            (_, None) => "null".to_owned(),
            (Cell::Int(_) | Cell::Bool(_), Some(text)) => text,
            (_, Some(text)) => serde_json::Value::from(text).to_string(),
        };
        let members = self.columns.iter().zip(row).map(|(column, cell)| format!("\"{}\":{}", column.name, value(cell)));
        writeln!(self.out, "{{{}}}", members.collect::<Vec<_>>().join(",")).map_err(failed)
    }

    pub(super) fn finish(mut self) -> Result<(), ReadError> {
        self.out.flush().map_err(failed)
    }
}

/// RFC 4180, but lines end with a newline alone.
pub(super) struct Csv {
    out: BufWriter<File>,
}

impl Csv {
    pub(super) fn new(columns: &'static [Column], file: File) -> Result<Self, ReadError> {
        let mut out = BufWriter::new(file);
        let names: Vec<&str> = columns.iter().map(|column| column.name).collect();
        writeln!(out, "{}", names.join(",")).map_err(failed)?;
        Ok(Self { out })
    }

    pub(super) fn row(&mut self, row: &[Cell]) -> Result<(), ReadError> {
        let fields: Vec<String> = row.iter().map(|cell| text(cell).map_or_else(String::new, quoted)).collect();
        writeln!(self.out, "{}", fields.join(",")).map_err(failed)
    }

    pub(super) fn finish(mut self) -> Result<(), ReadError> {
        self.out.flush().map_err(failed)
    }
}

fn quoted(text: String) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::cell::columns;
    use crate::export::table::{TableFile, TableFormat};
    use fama_ledger::time::Day;

    const COLUMNS: &[Column] =
        columns! { "text": Text, "int": Int, "bool": Bool, "time": Time, "day": Day, "bytes": Binary };

    #[test]
    fn every_cell_has_one_text() {
        let rows = [
            vec![
                Cell::text("a,\"b\"\u{2028}é"),
                Cell::Int(-5),
                Cell::Bool(true),
                Cell::Time(Millis(1_795_323_600_123)),
                Cell::Day(Day(20_779)),
                Cell::Binary(vec![0, 255]),
            ],
            vec![Cell::Null; 6],
        ];
        let written = |format: TableFormat| {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("table");
            let mut table = TableFile::new(format, COLUMNS, File::create(&path).unwrap()).unwrap();
            rows.iter().for_each(|row| table.row(row.clone()).unwrap());
            assert_eq!(table.finish().unwrap(), 2);
            std::fs::read_to_string(path).unwrap()
        };
        assert_eq!(
            written(TableFormat::Csv),
            "text,int,bool,time,day,bytes\n\"a,\"\"b\"\"\u{2028}é\",-5,true,2026-11-22T05:00:00.123Z,2026-11-22,00ff\n,,,,,\n"
        );
        assert_eq!(
            written(TableFormat::Jsonl),
            "{\"text\":\"a,\\\"b\\\"\u{2028}é\",\"int\":-5,\"bool\":true,\"time\":\"2026-11-22T05:00:00.123Z\",\"day\":\"2026-11-22\",\"bytes\":\"00ff\"}\n\
             {\"text\":null,\"int\":null,\"bool\":null,\"time\":null,\"day\":null,\"bytes\":null}\n"
        );
    }
}
