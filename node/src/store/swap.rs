//! Replaces the files of a data folder by those of a rebuilt one inside of it, where the folder itself cannot be renamed: it
//! is a mount point, or nothing may be written next to it.
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Name, within a data folder, of the database that is to replace the one in the folder.
pub(super) const REBUILT: &str = "check.rebuilt";
/// Its name from when it is whole until its last file has moved. While it is there, no node may use the folder.
const MOVING: &str = "check.moving";
/// Begin of the names of folders with the damaged files.
const DAMAGED: &str = "damaged-";
/// End of the name of such a folder until the last damaged file is in it.
const PART: &str = ".part";
/// RocksDB's lock stays where it is.
const LOCK: &str = "LOCK";
/// Without this file RocksDB opens nothing.
const CURRENT: &str = "CURRENT";

/// Whether a swap was begun and not ended.
pub(super) fn is_interrupted(dir: &Path) -> bool {
    dir.join(MOVING).exists()
}

/// Puts the database in [`REBUILT`] in the place of the one in `dir`. Returns the folder, within `dir`, with what was there.
pub(super) fn swap(dir: &Path) -> io::Result<PathBuf> {
    // Left by a crash just before the line below that begins the swap: empty.
    parts(dir)?.iter().for_each(|part| drop(fs::remove_dir(part)));
    let unused = |n: &u32| !dir.join(format!("{DAMAGED}{n}")).exists();
    let number = (1..).find(unused).ok_or(io::ErrorKind::AlreadyExists)?;
    fs::create_dir(dir.join(format!("{DAMAGED}{number}{PART}")))?;
    // After a crash before this line everything is as it was, and after one from here on the swap is to be finished.
    fs::rename(dir.join(REBUILT), dir.join(MOVING))?;
    sync(dir)?;
    finish(dir)
}

/// Ends a swap that was begun, from wherever it got to.
pub(super) fn finish(dir: &Path) -> io::Result<PathBuf> {
    for part in parts(dir)? {
        // Until the folder has its final name, all files in `dir` are damaged ones.
        move_all(dir, &part)?;
        let whole = part.to_string_lossy().trim_end_matches(PART).to_owned();
        fs::rename(&part, whole)?;
        sync(dir)?;
    }
    move_all(&dir.join(MOVING), dir)?;
    fs::remove_dir_all(dir.join(MOVING))?;
    sync(dir)?;
    let mut kept = folders(dir)?;
    kept.sort_by_key(|folder| number(folder));
    kept.pop().ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Moves a database, its file CURRENT last, so that whatever a crash leaves does not open as a whole.
fn move_all(from: &Path, to: &Path) -> io::Result<()> {
    let mut files = Vec::new();
    for file in fs::read_dir(from)? {
        let file = file?;
        let name = file.file_name();
        if file.file_type()?.is_file() && name != LOCK {
            files.push(name);
        }
    }
    files.sort_by_key(|name| name == CURRENT);
    for name in files {
        if name == CURRENT {
            sync(to)?;
        }
        fs::rename(from.join(&name), to.join(&name))?;
    }
    sync(from)?;
    sync(to)
}

fn folders(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let paths = fs::read_dir(dir)?.map(|file| file.map(|file| file.path())).collect::<io::Result<Vec<_>>>()?;
    let damaged = |path: &PathBuf| {
        path.is_dir() && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(DAMAGED))
    };
    Ok(paths.into_iter().filter(damaged).collect())
}

fn parts(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = folders(dir)?;
    found.retain(|path| path.to_string_lossy().ends_with(PART));
    Ok(found)
}

fn number(folder: &Path) -> Option<u32> {
    folder.file_name()?.to_str()?.strip_prefix(DAMAGED)?.parse().ok()
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, names: &[&str], text: &str) {
        fs::create_dir_all(dir).unwrap();
        names.iter().for_each(|name| fs::write(dir.join(name), text).unwrap());
    }

    fn read(dir: &Path, name: &str) -> Option<String> {
        fs::read_to_string(dir.join(name)).ok()
    }

    const OLD: [&str; 4] = ["000001.sst", "000002.log", "CURRENT", "LOCK"];
    const NEW: [&str; 3] = ["000001.sst", "000009.log", "CURRENT"];

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &OLD, "old");
        write(&dir.path().join(REBUILT), &NEW, "new");
        dir
    }

    fn is_swapped(dir: &Path, kept: &Path) {
        assert!(!is_interrupted(dir));
        assert!(NEW.iter().all(|name| read(dir, name).as_deref() == Some("new")));
        assert!(OLD[..3].iter().all(|name| read(kept, name).as_deref() == Some("old")));
        assert_eq!((read(dir, "000002.log"), read(dir, "LOCK").as_deref()), (None, Some("old")));
    }

    #[test]
    fn what_was_there_is_kept() {
        let dir = folder();
        let kept = swap(dir.path()).unwrap();
        assert_eq!(kept, dir.path().join("damaged-1"));
        is_swapped(dir.path(), &kept);
        write(&dir.path().join(REBUILT), &NEW, "newer");
        assert_eq!(swap(dir.path()).unwrap(), dir.path().join("damaged-2"));
        assert_eq!(read(dir.path(), "CURRENT").as_deref(), Some("newer"));
    }

    /// After a crash at any rename, what is left does not open, or is the old database whole, and finishing ends the swap.
    #[test]
    fn a_swap_that_a_crash_cut_off_is_finished() {
        // How many files have moved: damaged ones, then rebuilt ones.
        for (damaged, renamed, rebuilt) in
            [(0, false, 0), (2, false, 0), (3, false, 0), (3, true, 0), (3, true, 2), (3, true, 3)]
        {
            let dir = folder();
            let part = dir.path().join("damaged-1.part");
            fs::create_dir(&part).unwrap();
            fs::rename(dir.path().join(REBUILT), dir.path().join(MOVING)).unwrap();
            for name in OLD.iter().take(damaged) {
                fs::rename(dir.path().join(name), part.join(name)).unwrap();
            }
            if renamed {
                fs::rename(&part, dir.path().join("damaged-1")).unwrap();
            }
            for name in NEW.iter().take(rebuilt) {
                fs::rename(dir.path().join(MOVING).join(name), dir.path().join(name)).unwrap();
            }
            assert!(is_interrupted(dir.path()));
            let kept = finish(dir.path()).unwrap();
            is_swapped(dir.path(), &kept);
        }
        let dir = folder();
        fs::create_dir(dir.path().join("damaged-1.part")).unwrap();
        assert!(!is_interrupted(dir.path()), "not begun");
        assert_eq!(swap(dir.path()).unwrap(), dir.path().join("damaged-1"));
    }
}
