//! Opening a database: checks that it belongs to this federation and that its logs are consistent.
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock};

use fama_ledger::codec;
use fama_ledger::id::FederationId;
use fama_ledger::log::{LogError, TILE_WIDTH, Tiles, leaf_hash, root_at};
use fama_ledger::manifest::{LogId, Manifest};
use rocksdb::{ColumnFamilyDescriptor, DB, Error, ErrorKind, Options};

use super::changed::ChangedSubjects;
use super::engine::Engine;
use super::keys::{self, Family, META_FEDERATION, META_FORMAT, log8};
use super::manifests::{MANIFEST_VALUE_BYTES_MAX, STANDS_LOST};
use super::salvage::{self, Salvaged};
use super::simulated::Disk;
use super::{FORMAT, LogRecord, REPAIR_ENDINGS, Store, StoreError, View, options, renewed};
use crate::config::StoreSettings;

/// Only the node's own user may read or change its files.
pub(super) const DIR_MODE: u32 = 0o700;
/// The file that RocksDB locks while it has the folder open.
const LOCK: &str = "LOCK";
/// Begin of the name of a file that is written to see that it can be.
const TRIAL: &str = "trial";
/// Longest value in `meta`, in bytes.
const META_BYTES_MAX: usize = 64;

pub(super) fn open(dir: &Path, manifest: &Arc<Manifest>, settings: &StoreSettings) -> Result<Store, StoreError> {
    check_repaired(dir)?;
    let engine = Engine::Rocks(open_bounded(dir, options::database, settings)?);
    checked(Store { settings: *settings, ..owned(engine, dir, manifest)? })
}

pub(super) fn open_alone(dir: &Path) -> Result<Store, StoreError> {
    if !is_there(dir) {
        return Err(StoreError::NoData { dir: dir.to_owned() });
    }
    let engine = Engine::Rocks(open_database(dir, options::database)?);
    let genesis = genesis(&engine, dir)?;
    let store = owned(engine, dir, &genesis)?;
    let rebuilds = store.view().needs_rebuild()?;
    if rebuilds { Err(StoreError::NeedsRebuild { dir: dir.to_owned() }) } else { checked(store) }
}

pub(super) fn open_read_only(dir: &Path) -> Result<Store, StoreError> {
    if !is_there(dir) {
        return Err(StoreError::NoData { dir: dir.to_owned() });
    }
    let opened = DB::open_cf_descriptors_read_only(
        &options::database(false),
        dir,
        options::families(&StoreSettings::default()),
        false,
    );
    let engine = Engine::Rocks(opened.map_err(|error| database_error(dir, &error))?);
    let genesis = genesis(&engine, dir)?;
    checked(owned(engine, dir, &genesis)?)
}

/// The genesis that is stored in a database.
fn genesis(engine: &Engine, dir: &Path) -> Result<Arc<Manifest>, StoreError> {
    let text = stored_genesis(engine).map_err(|error| database_error(dir, &error))?;
    let text = text.ok_or_else(|| StoreError::NoManifest { dir: dir.to_owned() })?;
    let genesis = Manifest::parse(&text).map_err(|error| database_error(dir, &format!("manifest 1: {error}")))?;
    Ok(Arc::new(genesis))
}

fn stored_genesis(engine: &Engine) -> Result<Option<String>, String> {
    let moment = engine.moment();
    let text = moment.get(Family::Manifests, &keys::manifest(1))?;
    let text = text.map(|text| codec::decode(&text, MANIFEST_VALUE_BYTES_MAX)).transpose();
    text.map_err(|error| error.to_string())
}

pub(super) fn open_unchecked(dir: &Path, manifest: &Arc<Manifest>) -> Result<Store, StoreError> {
    owned(Engine::Rocks(open_database(dir, options::database)?), dir, manifest)
}

pub(super) fn open_copy(dir: &Path, copy: &Path, manifest: &Arc<Manifest>) -> Result<Store, StoreError> {
    owned(Engine::Rocks(salvage::open_copy(dir, copy)?), dir, manifest)
}

pub(super) fn open_quick(dir: &Path, manifest: &Arc<Manifest>, settings: &StoreSettings) -> Result<Store, StoreError> {
    let engine = Engine::Rocks(open_bounded(dir, options::database, settings)?);
    let mut store = Store { settings: *settings, ..unowned(engine, dir, manifest) };
    if store.is_blank(&store.view())? {
        store.put_quick(manifest)?;
    }
    store.check_owner(&manifest.federation())?;
    if store.view().quick()?.is_none() {
        return Err(StoreError::Quick { dir: dir.to_owned() });
    }
    store.load_manifests(manifest)?;
    store.find_rollbacks()?;
    Ok(store)
}

pub(super) fn open_damaged(
    dir: &Path,
    copy: &Path,
    manifest: &Arc<Manifest>,
) -> Result<(Store, Vec<String>), StoreError> {
    let all = salvage::open_all(dir, copy)?;
    if !all.lacks_a_table() {
        return salvaged(all, dir, manifest);
    }
    drop(all);
    // If RocksDB's list of files is intact, opening by it keeps the good parts of that table too.
    match salvage::open_listed(dir, copy).and_then(|listed| salvaged(listed, dir, manifest)) {
        Err(StoreError::Database { .. }) => {}
        opened => return opened,
    }
    let (store, mut left_out) = salvaged(salvage::open_all(dir, copy)?, dir, manifest)?;
    left_out.push(STANDS_LOST.to_owned());
    Ok((store, left_out))
}

fn salvaged(found: Salvaged, dir: &Path, manifest: &Arc<Manifest>) -> Result<(Store, Vec<String>), StoreError> {
    let Salvaged { db, mut left_out } = found;
    let mut store = unowned(Engine::Rocks(db), dir, manifest);
    if store.is_blank(&store.view())? {
        return Err(database_error(dir, &"nothing in its files is readable"));
    }
    match store.check_owner(&manifest.federation()) {
        // The record of its federation may be the damaged part.
        Ok(()) | Err(StoreError::Database { .. }) => {}
        Err(error) => return Err(error),
    }
    left_out.extend(store.load_damaged_manifests(manifest)?);
    Ok((store, left_out))
}

pub(super) fn open_simulated(disk: Disk, manifest: &Arc<Manifest>) -> Result<Store, StoreError> {
    checked(owned(Engine::Simulated(disk), Path::new("a simulated disk"), manifest)?)
}

fn checked(store: Store) -> Result<Store, StoreError> {
    let view = store.view();
    if view.quick()?.is_some() {
        return Err(StoreError::Quick { dir: store.dir.clone() });
    }
    // While a log goes back, its record does not count its last entry.
    for log in store.logs.values() {
        if !view.is_rolled_back(log)? {
            check_log(&view, log)?;
        }
    }
    drop(view);
    Ok(store)
}

fn owned(engine: Engine, dir: &Path, manifest: &Arc<Manifest>) -> Result<Store, StoreError> {
    let mut store = unowned(engine, dir, manifest);
    store.check_owner(&manifest.federation())?;
    store.load_manifests(manifest)?;
    store.find_rollbacks()?;
    Ok(store)
}

/// A store with the logs of the configured versions. `load_manifests` sets the versions in use later.
fn unowned(engine: Engine, dir: &Path, manifest: &Arc<Manifest>) -> Store {
    let logs: BTreeMap<_, _> = manifest.logs().keys().map(|log| (log8(log), log.clone())).collect();
    let (manifest, pending, failed) = (Arc::clone(manifest), None, OnceLock::new());
    let (writing, checkpoints) = (Mutex::new(()), Mutex::new(()));
    let (rolls_back, interrupted) = (AtomicBool::new(false), AtomicBool::new(false));
    let renewed = renewed::RenewedHeads::default();
    let dir = dir.to_owned();
    let settings = StoreSettings::default();
    Store {
        engine,
        dir,
        manifest,
        pending,
        logs,
        settings,
        writing,
        checkpoints,
        failed,
        rolls_back,
        rollbacks_begun: AtomicU64::new(0),
        interrupted,
        renewed,
        changed: ChangedSubjects::default(),
    }
}

/// Refuses to create a database where a repair was interrupted: the operator's log would start again from empty, as a
/// second branch.
fn check_repaired(dir: &Path) -> Result<(), StoreError> {
    if super::swap::is_interrupted(dir) {
        return Err(StoreError::HalfSwapped { dir: dir.to_owned() });
    }
    let (Some(name), false) = (dir.file_name(), dir.exists()) else { return Ok(()) };
    let name = name.to_string_lossy();
    let Ok(others) = fs::read_dir(folder_of(dir)) else { return Ok(()) };
    let mut others: Vec<_> = others.filter_map(|other| other.ok().map(|other| other.path())).collect();
    others.sort();
    let of = |ending: &str| {
        let begin = format!("{name}{ending}");
        others.iter().rfind(|other| other.file_name().is_some_and(|other| other.to_string_lossy().starts_with(&begin)))
    };
    match REPAIR_ENDINGS.iter().find_map(|ending| of(ending)) {
        Some(beside) => Err(StoreError::HalfRepaired { dir: dir.to_owned(), beside: beside.clone() }),
        None => Ok(()),
    }
}

/// Creates the folder durably; RocksDB syncs what it puts inside.
fn make(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir)?;
    fs::File::open(folder_of(dir))?.sync_all()
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

pub(super) fn database_error(dir: &Path, message: &impl ToString) -> StoreError {
    StoreError::Database { dir: dir.to_owned(), message: message.to_string() }
}

pub(super) fn open_database(dir: &Path, with: fn(bool) -> Options) -> Result<DB, StoreError> {
    open_bounded(dir, with, &StoreSettings::default())
}

fn open_bounded(dir: &Path, with: fn(bool) -> Options, settings: &StoreSettings) -> Result<DB, StoreError> {
    make(dir).map_err(|error| database_error(dir, &error))?;
    let (has_list, data) = content(dir).map_err(|error| database_error(dir, &error))?;
    // RocksDB by itself creates an empty database wherever the file CURRENT is missing.
    let mut options = with(!has_list && data.is_none());
    options::bound(&mut options, settings);
    let mut families = options::families(settings);
    if has_list {
        let found = DB::list_cf(&options, dir).map_err(|error| database_error(dir, &error))?;
        let foreign = found.into_iter().filter(|name| !Family::ALL.iter().any(|family| family.name() == name));
        // RocksDB opens a database only with all its families, also the unknown ones of another format.
        families.extend(foreign.map(|name| ColumnFamilyDescriptor::new(name, with(false))));
    } else if let Some(name) = data {
        return Err(database_error(dir, &format!("{name} exists, but the file CURRENT is missing")));
    }
    DB::open_cf_descriptors(&options, dir, families).map_err(|error| {
        if is_lock(&error) { StoreError::Locked { dir: dir.to_owned() } } else { database_error(dir, &error) }
    })
}

/// Whether another process has the folder open, or just had: before RocksDB takes its lock, it deletes its own old
/// logs, and fails if another process deleted one of them first.
fn is_lock(error: &Error) -> bool {
    let message: &str = error.as_ref();
    let is_log_gone = message.contains("/LOG.old.") && message.contains("No such file");
    error.kind() == ErrorKind::IOError && (message.contains("/LOCK: ") || is_log_gone)
}

/// Refuses a folder that another process has open, whatever its state.
pub(super) fn check_unused(dir: &Path) -> Result<(), StoreError> {
    let mut options = Options::default();
    // RocksDB takes the lock first, then fails on an existing database without opening it.
    options.set_error_if_exists(true);
    match DB::open(&options, dir) {
        Err(error) if is_lock(&error) => Err(StoreError::Locked { dir: dir.to_owned() }),
        // Opening it for real reports any other fault.
        _ => Ok(()),
    }
}

/// Tries that a node could use the folder: that it can be created and written, and that no repair of it was interrupted.
/// Leaves everything as it was. Returns whether another process has it open.
pub(super) fn try_folder(dir: &Path) -> Result<bool, StoreError> {
    check_repaired(dir)?;
    let failed = |error: io::Error| database_error(dir, &error);
    let missing: Vec<&Path> =
        dir.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists()).collect();
    let made = make(dir).and_then(|()| {
        let file = dir.join(format!("{TRIAL}.{}", std::process::id()));
        fs::write(&file, "written by `fama node --check`")?;
        fs::remove_file(file)
    });
    // Those that were made are empty. One that cannot be removed is one that the node would make.
    missing.iter().for_each(|folder| drop(fs::remove_dir(folder)));
    made.map_err(failed)?;
    let lock = match fs::OpenOptions::new().write(true).open(dir.join(LOCK)) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed(error)),
    };
    // The lock is this process's until the file is closed, at once.
    let locked = rustix::fs::fcntl_lock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive);
    Ok(locked.is_err())
}

/// Whether the folder has the file CURRENT, and the name of one table or write-ahead log in it.
fn content(dir: &Path) -> io::Result<(bool, Option<String>)> {
    let names = fs::read_dir(dir)?
        .map(|file| Ok(file?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<Vec<_>>>()?;
    let data = names.iter().find(|name| name.ends_with(".sst") || name.ends_with(".log"));
    Ok((names.iter().any(|name| name == "CURRENT"), data.cloned()))
}

/// Whether the folder holds any part of a database, damaged or not.
pub(super) fn is_there(dir: &Path) -> bool {
    content(dir).is_ok_and(|(has_list, data)| has_list || data.is_some())
}

impl Store {
    /// Writes format and federation into a new database; refuses a database with another format or federation.
    fn check_owner(&self, wanted: &FederationId) -> Result<(), StoreError> {
        let view = self.view();
        let Some(found) = view.value::<u32>(Family::Meta, META_FORMAT, META_BYTES_MAX)? else {
            return if self.is_blank(&view)? { self.put_owner(wanted) } else { Err(self.lost_owner()) };
        };
        if found != FORMAT {
            return Err(StoreError::Format { dir: self.dir.clone(), found, wanted: FORMAT });
        }
        let found = view.value::<FederationId>(Family::Meta, META_FEDERATION, META_BYTES_MAX)?;
        match found.ok_or_else(|| self.lost_owner())? {
            found if found == *wanted => Ok(()),
            found => Err(StoreError::Federation { dir: self.dir.clone(), found, wanted: *wanted }),
        }
    }

    fn is_blank(&self, view: &View<'_>) -> Result<bool, StoreError> {
        for family in Family::ALL {
            if view.any(family)? {
                return Ok(false);
            }
        }
        let foreign = self.engine.has_foreign().map_err(|error| self.database(&error))?;
        Ok(!foreign)
    }

    fn lost_owner(&self) -> StoreError {
        self.database(&"the database has data but no federation: it is not a node's, or it is damaged")
    }

    fn put_owner(&self, federation: &FederationId) -> Result<(), StoreError> {
        let mut batch = self.batch();
        batch.put(Family::Meta, META_FORMAT, codec::encode(&FORMAT));
        batch.put(Family::Meta, META_FEDERATION, codec::encode(federation));
        self.write(batch, true)?;
        // In a table of its own the federation survives the loss of the write-ahead log, which is then noticed.
        self.engine.flush(Family::Meta).map_err(|error| self.database(&error))
    }
}

/// Checks that a log's record, last entry and tree agree. Reads only a few blocks.
fn check_log(view: &View<'_>, log: &LogId) -> Result<(), StoreError> {
    let store = view.store();
    let last = view.last_entry(log)?;
    let Some(LogRecord { state, .. }) = view.log(log)? else {
        return match last {
            None => Ok(()),
            Some((index, _)) => {
                Err(store.inconsistent(log, &format!("entry {index} exists, but the log has no record")))
            }
        };
    };
    let Some((index, entry)) = last.filter(|(index, _)| index.checked_add(1) == Some(state.size)) else {
        return Err(store.inconsistent(log, &format!("the record counts {} entries, the last is another", state.size)));
    };
    let tiles = view.tiles(log);
    match root_at(state.size, &tiles) {
        Ok(root) if root == state.root => {}
        Ok(root) => return Err(store.inconsistent(log, &format!("tree root {root}, recorded {}", state.root))),
        Err(LogError::Tiles(error)) => return Err(error),
        Err(error) => return Err(store.inconsistent(log, &error)),
    }
    let width = TILE_WIDTH as u64;
    let leaves = tiles.tile(0, index / width)?;
    let leaf = usize::try_from(index % width).ok().and_then(|at| leaves.get(at));
    if leaf == Some(&leaf_hash(&entry)) {
        Ok(())
    } else {
        Err(store.inconsistent(log, &format!("entry {index} is not the one in the tree")))
    }
}
