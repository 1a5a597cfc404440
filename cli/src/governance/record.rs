//! What a governance key signed on this machine: one text per version, whatever its owner is asked for.
use std::path::{Path, PathBuf};

use fama_ledger::manifest::Manifest;

use crate::failure::Failure;
use crate::files::{self, SECRET_MODE};

/// Longest record, in bytes: a hash and a newline.
const RECORD_BYTES_MAX: usize = 65;
/// How many digits of the federation's id are in a record's name.
const DIGITS: usize = 16;

/// The record of a version beside a key: `governance.pem.signed.<federation>.<version>`.
fn beside(key: &Path, next: &Manifest) -> PathBuf {
    let federation: String = next.federation().to_string().chars().take(DIGITS).collect();
    files::with_ending(key, &format!(".signed.{federation}.{}", next.version()))
}

/// Notes, durably, that `key` is about to sign `next`. To be done before the signature is made.
///
/// # Errors
/// `second_text`: it signed another text of this version.
pub fn record(key: &Path, next: &Manifest) -> Result<(), Failure> {
    let (path, line) = (beside(key, next), format!("{}\n", next.hash()));
    match files::create_whole(&path, &line, SECRET_MODE) {
        Err(failure) if failure.code == "file_exists" => {}
        other => return other,
    }
    let known = files::read(&path, RECORD_BYTES_MAX)?;
    if *known == line {
        return Ok(());
    }
    let message = format!("this key signed another text of version {}: {}", next.version(), known.trim());
    Err(Failure::new("second_text", message)
        .hint("two signed texts of one version can end it for ever: go on with the first one"))
}
