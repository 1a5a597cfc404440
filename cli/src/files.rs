//! Key files, which only their owner may read and nothing overwrites, and manifests.
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fama_ledger::key::{Curve, PublicKey};
use fama_ledger::limits::CHAIN_BYTES_MAX;
use fama_ledger::manifest::Manifest;
use fama_ledger::secret::SecretKey;
use fama_node::config::{self, KEY_BYTES_MAX};
use k256::elliptic_curve::zeroize::Zeroizing;

use crate::failure::Failure;

/// Permission bits of secret files: readable by the owner only.
pub(crate) const SECRET_MODE: u32 = 0o600;
/// Permission bits of public files.
pub(crate) const PUBLIC_MODE: u32 = 0o644;

fn failed(path: &Path, error: &io::Error) -> Failure {
    let code = match error.kind() {
        io::ErrorKind::AlreadyExists => "file_exists",
        io::ErrorKind::NotFound => "file_not_found",
        io::ErrorKind::PermissionDenied => "file_permission",
        _ => "file",
    };
    let failure = Failure::new(code, format!("{}: {error}", path.display()));
    match code {
        "file_exists" => failure.hint("nothing is overwritten: choose another name, or move that file away"),
        _ if error.kind() == io::ErrorKind::InvalidData => failure.hint(config::NO_TEXT),
        _ => failure,
    }
}

/// Creates a file, durable before this returns. On an error, it does not exist.
///
/// # Errors
/// `file_exists`, or the system's error.
pub(crate) fn create(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = opened.map_err(|error| failed(path, &error))?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).and_then(|()| sync_folder(path));
    written.map_err(|error| {
        // Half a file would block the next try. If it cannot be removed, that try names it.
        let _ = fs::remove_file(path);
        failed(path, &error)
    })
}

/// Makes the directory entry of `path` durable.
///
/// # Errors
/// The system's error.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// Replaces the content of a file atomically; durable before this returns.
///
/// # Errors
/// The system's error.
pub(crate) fn replace(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let new = with_ending(path, ".new");
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        sync_folder(path)
    };
    write().map_err(|error| failed(path, &error))
}

/// Creates a file with its whole content atomically; durable before this returns. Of two processes that do this at
/// the same time, one gets `file_exists` and finds the other's whole content.
///
/// # Errors
/// `file_exists`, or the system's error.
pub(crate) fn create_whole(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let new = with_ending(path, &format!(".{}.new", std::process::id()));
    replace(&new, text, mode)?;
    let linked = fs::hard_link(&new, path);
    fs::remove_file(&new).map_err(|error| failed(&new, &error))?;
    linked.and_then(|()| sync_folder(path)).map_err(|error| failed(path, &error))
}

/// The path with `ending` appended to the file name.
#[must_use]
pub(crate) fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().map_or_else(OsString::new, OsString::from);
    name.push(ending);
    path.with_file_name(name)
}

/// Creates a folder and its parents; an existing folder is no error.
///
/// # Errors
/// The system's error.
pub(crate) fn create_folder(path: &Path) -> Result<(), Failure> {
    fs::create_dir_all(path).and_then(|()| sync_folder(path)).map_err(|error| failed(path, &error))
}

/// Renames a file; the new name must not exist.
///
/// # Errors
/// `file_exists`, or the system's error.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), Failure> {
    fs::hard_link(from, to).map_err(|error| failed(to, &error))?;
    // The new name is durable before the old one goes: a crash in between leaves both.
    sync_folder(to).map_err(|error| failed(to, &error))?;
    fs::remove_file(from).map_err(|error| failed(from, &error))
}

/// Reads a text of at most `max` bytes. It may be a secret, so dropping it wipes the memory.
///
/// # Errors
/// `file_too_long`, or the system's error.
pub(crate) fn read(path: &Path, max: usize) -> Result<Zeroizing<String>, Failure> {
    // Full capacity at once: a reallocation would leave an unwiped copy.
    let mut text = Zeroizing::new(String::with_capacity(max.saturating_add(1)));
    let bound = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    let result = File::open(path).and_then(|file| file.take(bound).read_to_string(&mut text));
    result.map_err(|error| failed(path, &error))?;
    if text.len() > max {
        return Err(Failure::new("file_too_long", format!("{}: longer than {max} bytes", path.display())));
    }
    Ok(config::without_habits(&text).map_or(text, Zeroizing::new))
}

/// Reads a chain of manifests, or the genesis alone, and gives its newest version.
///
/// # Errors
/// The error of the file, or the rule that the manifest breaks.
pub(crate) fn read_manifest(path: &Path) -> Result<Arc<Manifest>, Failure> {
    let hint = "get the federation's manifest from one of its operators";
    let text = read(path, CHAIN_BYTES_MAX).map_err(|failure| failure.hint(hint))?;
    Manifest::parse_chain(&text).map_err(|error| Failure::from(error).about(path.display()).hint(hint))
}

/// Generates a key.
///
/// # Errors
/// `randomness` if the system gives none.
pub(crate) fn draw_key(curve: Curve) -> Result<SecretKey, Failure> {
    let mut seed = Zeroizing::new([0; 32]);
    loop {
        fill(seed.as_mut())?;
        // Fails for one seed in 2^127.
        if let Ok(key) = SecretKey::from_seed(curve, &seed) {
            return Ok(key);
        }
    }
}

/// Fills `bytes` with random bytes from the system.
///
/// # Errors
/// `randomness` if the system gives none.
pub(crate) fn fill(bytes: &mut [u8]) -> Result<(), Failure> {
    getrandom::fill(bytes).map_err(|error| Failure::new("randomness", error))
}

/// Generates a key and stores it in a new file that only its owner can read.
///
/// # Errors
/// As [`create`] and [`draw_key`].
pub(crate) fn create_key(path: &Path, curve: Curve) -> Result<SecretKey, Failure> {
    let key = draw_key(curve)?;
    create(path, &key.to_pem(), SECRET_MODE)?;
    Ok(key)
}

/// Reads a secret key from a PEM file.
///
/// # Errors
/// `key_permissions` if others can read the file, too; the error of the file or the key.
pub(crate) fn read_key(path: &Path) -> Result<SecretKey, Failure> {
    let text = read(path, KEY_BYTES_MAX).map_err(|failure| match failure.hint {
        Some(_) => failure,
        None => failure.hint("`fama key new --out FILE` makes a key"),
    })?;
    // Checked before the mode: a public key may be readable by everyone.
    if !text.contains("PRIVATE KEY-----") {
        let failure = Failure::new("key_pem", "no secret key in PEM").about(path.display());
        return Err(failure.hint("`fama key new --out FILE` makes one"));
    }
    private(path, "key")?;
    SecretKey::from_pem(&text).map_err(|error| Failure::from(error).about(path.display()))
}

/// Reads a text of at most `max` bytes that only its owner can read.
///
/// # Errors
/// `key_permissions` if others can read the file, too; as [`read`].
pub(crate) fn read_secret(path: &Path, max: usize) -> Result<Zeroizing<String>, Failure> {
    private(path, "secret")?;
    read(path, max)
}

/// Refuses a file that others can read.
fn private(path: &Path, what: &str) -> Result<(), Failure> {
    let Some(mode) = config::unsafe_mode(path, false) else { return Ok(()) };
    let message = format!("{}: others can read this {what} (mode {mode:04o})", path.display());
    Err(Failure::new("key_permissions", message).hint(config::mode_hint(path, mode, false)))
}

/// Reads a key, or generates it if the file does not exist; also gives whether it existed.
///
/// # Errors
/// As [`read_key`] and [`create_key`].
pub(crate) fn read_or_create_key(path: &Path, curve: Curve) -> Result<(SecretKey, bool), Failure> {
    if path.exists() { Ok((read_key(path)?, true)) } else { Ok((create_key(path, curve)?, false)) }
}

/// Reads a public key from a PEM file, public or secret.
///
/// # Errors
/// The error of the file or the key.
pub(crate) fn read_public(path: &Path) -> Result<PublicKey, Failure> {
    let text = read(path, KEY_BYTES_MAX)?;
    let key = if text.contains("PRIVATE KEY-----") {
        SecretKey::from_pem(&text).map(|key| key.public())
    } else {
        PublicKey::from_pem(&text)
    };
    key.map_err(|error| Failure::from(error).about(path.display()))
}

/// The path with a word before its extension: `agent.pem` and `next` give `agent.next.pem`.
#[must_use]
pub(crate) fn with_word(path: &Path, word: &str) -> PathBuf {
    let mut name = path.file_stem().map_or_else(OsString::new, OsString::from);
    name.push(format!(".{word}"));
    if let Some(ending) = path.extension() {
        name.push(".");
        name.push(ending);
    }
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn names_with_a_word() {
        for (path, want) in [("a/agent.pem", "a/agent.next.pem"), ("agent", "agent.next"), ("a.b.pem", "a.b.next.pem")]
        {
            assert_eq!(with_word(Path::new(path), "next"), Path::new(want));
        }
    }

    #[test]
    fn keys_are_private_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.pem");
        let key = create_key(&path, Curve::Secp256k1).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, SECRET_MODE);
        assert_eq!(create_key(&path, Curve::Ed25519).unwrap_err().code, "file_exists");
        assert_eq!(read_key(&path).unwrap().public(), key.public());
        assert_eq!(read_public(&path).unwrap(), key.public());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(read_key(&path).unwrap_err().code, "key_permissions");
        let other = dir.path().join("other.pem");
        fs::write(&other, "x").unwrap();
        assert_eq!(rename(&path, &other).unwrap_err().code, "file_exists");
        assert!(path.exists());
    }

    #[test]
    fn texts_of_other_systems() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("text");
        for (written, want) in [("a\r\nb\r\n", "a\nb\n"), ("\u{feff}a\n", "a\n"), ("a\rb", "a\rb"), ("", "")] {
            fs::write(&path, written).unwrap();
            assert_eq!(read(&path, 20).unwrap().as_str(), want, "{written:?}");
        }
    }

    #[test]
    fn reading_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("long");
        fs::write(&path, "x".repeat(11)).unwrap();
        assert_eq!(read(&path, 11).unwrap().len(), 11);
        assert_eq!(read(&path, 10).unwrap_err().code, "file_too_long");
    }
}
