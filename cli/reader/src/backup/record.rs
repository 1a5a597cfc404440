//! What a backup says about itself.
use serde_json::{Value, json};

/// Version of the form of a record.
const RECORD_FORMAT: u64 = 1;
/// Longest record, in bytes: some 100,000 files.
pub(super) const RECORD_BYTES_MAX: u64 = 16 << 20;
/// Longest name of a file, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// One backup: what the database held, and its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupRecord {
    /// Its time without punctuation; names it.
    pub id: String,
    /// When it was made.
    pub time: String,
    /// The federation's id.
    pub federation: String,
    /// The federation's name.
    pub name: String,
    /// How many operators the federation had.
    pub operators: usize,
    /// Whose node it was; `None` for a mirror.
    pub operator: Option<String>,
    /// The version of the manifest in use.
    pub version: u32,
    /// The storage format.
    pub format: u32,
    /// The version of the program that made it.
    pub software: String,
    /// Every log that has entries.
    pub logs: Vec<BackedUpLog>,
    /// Every file of the database.
    pub files: Vec<BackedUpFile>,
}

/// A log as a backup has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackedUpLog {
    /// Operator and generation.
    pub log: String,
    /// Its entries.
    pub entries: u64,
    /// The root of its tree.
    pub root: String,
    /// How many entries were final.
    pub certified: u64,
}

/// A file of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackedUpFile {
    /// Its name in the data folder.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// BLAKE3 of its content, in hex.
    pub hash: String,
}

impl BackupRecord {
    /// Whose node it is a backup of, for people and to compare.
    pub(super) fn node(&self) -> String {
        format!("{} in {} {}", self.operator.as_deref().unwrap_or("a mirror"), self.name, self.federation)
    }

    /// The size of all its files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.bytes))
    }

    pub(super) fn json(&self) -> Value {
        let log = |log: &BackedUpLog| json!({"log": log.log, "entries": log.entries, "root": log.root, "certified": log.certified});
        let file = |file: &BackedUpFile| json!({"name": file.name, "bytes": file.bytes, "blake3": file.hash});
        json!({
            "record": RECORD_FORMAT, "id": self.id, "time": self.time, "federation": self.federation,
            "name": self.name, "operators": self.operators, "operator": self.operator, "version": self.version,
            "format": self.format, "software": self.software,
            "logs": self.logs.iter().map(log).collect::<Vec<_>>(),
            "files": self.files.iter().map(file).collect::<Vec<_>>(),
        })
    }

    /// Reads the record of the backup `id`. Whoever can write where it lies can have written it: its names are
    /// names of files in one folder and of none outside.
    pub(super) fn parse(id: &str, value: &Value) -> Result<Self, String> {
        if value["record"] != RECORD_FORMAT {
            return Err("written by another version of this program".to_owned());
        }
        let log = |log: &Value| -> Result<BackedUpLog, String> {
            let (entries, certified) = (number(log, "entries")?, number(log, "certified")?);
            Ok(BackedUpLog { log: text(log, "log")?, entries, root: text(log, "root")?, certified })
        };
        let file = |file: &Value| -> Result<BackedUpFile, String> {
            let (name, hash) = (text(file, "name")?, text(file, "blake3")?);
            let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
            if name.len() > NAME_BYTES_MAX || name.starts_with('.') || name.is_empty() || !name.bytes().all(plain) {
                return Err(format!("{name:?} is no name of a database file"));
            }
            if blake3::Hash::from_hex(&hash).map(|parsed| parsed.to_hex().as_str() != hash).unwrap_or(true) {
                return Err(format!("the hash of {name} is malformed"));
            }
            Ok(BackedUpFile { name, bytes: number(file, "bytes")?, hash })
        };
        let record = Self {
            id: id.to_owned(),
            time: text(value, "time")?,
            federation: text(value, "federation")?,
            name: text(value, "name")?,
            operators: small(value, "operators")?.try_into().unwrap_or(usize::MAX),
            operator: value["operator"].as_str().map(str::to_owned),
            version: small(value, "version")?,
            format: small(value, "format")?,
            software: text(value, "software")?,
            logs: list(value, "logs")?.iter().map(log).collect::<Result<_, _>>()?,
            files: list(value, "files")?.iter().map(file).collect::<Result<_, _>>()?,
        };
        if value["id"] != id {
            return Err(format!("says that it is {}", value["id"]));
        }
        Ok(record)
    }
}

fn text(value: &Value, name: &str) -> Result<String, String> {
    value[name].as_str().map(str::to_owned).ok_or_else(|| format!("{name} is missing or no text"))
}

fn number(value: &Value, name: &str) -> Result<u64, String> {
    value[name].as_u64().ok_or_else(|| format!("{name} is missing or no number"))
}

fn small(value: &Value, name: &str) -> Result<u32, String> {
    number(value, name)?.try_into().map_err(|_| format!("{name} is too large"))
}

fn list<'v>(value: &'v Value, name: &str) -> Result<&'v Vec<Value>, String> {
    value[name].as_array().ok_or_else(|| format!("{name} is missing or no list"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> BackupRecord {
        BackupRecord {
            id: "20261128T191333000Z".into(),
            time: "2026-11-28T19:13:33.000Z".into(),
            federation: "f".into(),
            name: "Demo".into(),
            operators: 4,
            operator: Some("alpha.example".into()),
            version: 2,
            format: 2,
            software: "0.1.0".into(),
            logs: vec![BackedUpLog { log: "alpha.example/1".into(), entries: 7, root: "r".into(), certified: 5 }],
            files: vec![BackedUpFile { name: "000012.sst".into(), bytes: 3, hash: "0a".repeat(32) }],
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_names_no_file_outside() {
        let (whole, id) = (record(), record().id);
        assert_eq!(BackupRecord::parse(&id, &whole.json()).unwrap(), whole);
        for name in ["../x.sst", "/etc/passwd", "a/b", "", ".", "..", ".hidden", "a\\b", &"x".repeat(65)] {
            let mut record = record();
            record.files[0].name = name.to_owned();
            assert!(BackupRecord::parse(&id, &record.json()).is_err(), "{name}");
        }
        for hash in ["", "0A", "../../x", &"0A".repeat(32), &"0a".repeat(33)] {
            let mut record = record();
            record.files[0].hash = hash.to_owned();
            assert!(BackupRecord::parse(&id, &record.json()).is_err(), "{hash}");
        }
        assert!(BackupRecord::parse("another", &whole.json()).is_err(), "it was renamed");
        for member in ["record", "time", "federation", "version", "logs", "files"] {
            let mut value = whole.json();
            value.as_object_mut().unwrap().remove(member);
            assert!(BackupRecord::parse(&id, &value).is_err(), "{member}");
        }
    }
}
