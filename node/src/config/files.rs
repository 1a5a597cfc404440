//! Files that a configuration names: how they are read, and who may read a secret one.
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use fama_ledger::key::{EXPLICIT, KeyError};

/// The text of a file, without [habits](without_habits). An error if it is longer than `max` bytes.
pub(super) fn read_bounded(path: &Path, max: usize) -> io::Result<String> {
    let mut text = String::new();
    let bound = u64::try_from(max).unwrap_or(u64::MAX);
    File::open(path)?.take(bound.saturating_add(1)).read_to_string(&mut text)?;
    if text.len() > max {
        return Err(io::Error::other(format!("longer than {max} bytes")));
    }
    Ok(without_habits(&text).unwrap_or(text))
}

/// The text without what some editors and version control add to files, if there is any of it: a byte order mark at the
/// beginning, and a carriage return before each newline. No format of ours has either; a key is read with them.
#[must_use]
pub fn without_habits(text: &str) -> Option<String> {
    let bare = text.strip_prefix('\u{feff}').unwrap_or(text);
    let has = bare.len() < text.len() || bare.contains("\r\n");
    (has && !text.contains("PRIVATE KEY")).then(|| bare.replace("\r\n", "\n"))
}

/// The variable with the folder in which systemd hands files out to a service (`LoadCredential=`).
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";
/// What may be done about a file that is no text.
pub const NO_TEXT: &str = "want a text file; `openssl pkey -in FILE -out NEW` writes a key in binary form as PEM";

/// The permission bits of a secret file that more may read or change than should; `None` if they are in order.
///
/// Nobody but the owner may access it, with one exception: a group may read it (0440, 0640) where that is how the file
/// reaches the process, so that nobody who runs it could change the mode. That is so below `$CREDENTIALS_DIRECTORY`; if
/// root owns the file and the process is not root's, as with an orchestrator's mounted secret; and if `by_group`, a
/// setting of the operator's, says it.
#[must_use]
pub fn unsafe_mode(path: &Path, by_group: bool) -> Option<u32> {
    let file = fs::metadata(path).ok()?;
    let mode = file.mode() & 0o7777;
    let handed_out = || {
        let folder = std::env::var_os(CREDENTIALS).filter(|folder| !folder.is_empty());
        let (folder, path) = (folder.and_then(|folder| fs::canonicalize(folder).ok()), fs::canonicalize(path).ok());
        folder.zip(path).is_some_and(|(folder, path)| path.starts_with(folder))
            || (file.uid() == 0 && !rustix::process::geteuid().is_root())
    };
    let safe = mode & 0o077 == 0 || (mode & 0o037 == 0 && (by_group || handed_out()));
    (!safe).then_some(mode)
}

/// What to do about such a mode. `setting`: whether the configuration of a node names the file.
#[must_use]
pub fn mode_hint(path: &Path, mode: u32, setting: bool) -> String {
    let path = path.display();
    match (mode & 0o037 == 0, setting) {
        (true, true) => format!(
            "chmod 600 {path}; or group_readable_keys = true, if it is handed out to a group that only the node is in"
        ),
        (false, true) => format!("chmod 600 {path}; where it is mounted, give it mode 0400, or 0440 and its own group"),
        (_, false) => format!("chmod 600 {path}"),
    }
}

/// What to do about a key that is not refused for what it is, but for how it is written.
#[must_use]
pub fn key_hint(error: &KeyError) -> Option<&'static str> {
    match error {
        KeyError::Encrypted => {
            Some("`openssl pkey -in FILE -out NEW` asks for the passphrase and writes it without one")
        }
        KeyError::OpenSsh => Some(
            "`ssh-keygen -p -m PKCS8 -f COPY` rewrites a copy of it (an Ed25519 key: since OpenSSH 9.6); or make one with \
             `fama key new`",
        ),
        KeyError::Algorithm(EXPLICIT) => {
            Some("`openssl ec -in FILE -param_enc named_curve -out NEW` writes it with the name of its curve")
        }
        _ => None,
    }
}
