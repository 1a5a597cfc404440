//! Remembers next to a governance key which texts it signed, so that it signs one text per version only.
use std::path::{Path, PathBuf};

use fama_ledger::manifest::Manifest;

use crate::failure::Failure;
use crate::files::{self, SECRET_MODE};

/// Longest record, in bytes: a hash and a newline.
const RECORD_BYTES_MAX: usize = 65;
/// How many digits of the federation's id are in the file name.
const DIGITS: usize = 16;

/// The file next to a key that records a version: `governance.pem.signed.<federation>.<version>`.
fn record_path(key: &Path, next: &Manifest) -> PathBuf {
    let federation: String = next.federation().to_string().chars().take(DIGITS).collect();
    files::with_ending(key, &format!(".signed.{federation}.{}", next.version()))
}

/// Records durably that `key` is about to sign `next`. Called before signing: a crash in between leaves a record without
/// a signature, which permits signing the same text again.
///
/// # Errors
/// `second_text`: the key signed another text of this version.
pub(crate) fn record(key: &Path, next: &Manifest) -> Result<(), Failure> {
    let (path, line) = (record_path(key, next), format!("{}\n", next.hash()));
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
        .hint("two signed texts can make a version impossible forever: continue with the first one"))
}
