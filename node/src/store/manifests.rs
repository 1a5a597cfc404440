//! Manifest versions, stands, proofs of equivocation, and the events of abandoned branches.
use std::ops::ControlFlow;
use std::sync::Arc;

use fama_ledger::adoption::Adopted;
use fama_ledger::equivocation::Equivocation;
use fama_ledger::id::EventId;
use fama_ledger::limits;
use fama_ledger::manifest::{LogId, Manifest, ManifestError};

use super::engine::{Walk, WriteBatch};
use super::keys::{self, Family, Log8, META_STANDS, META_USED, log8};
use super::read::ADOPTED_BYTES_MAX;
use super::{Store, StoreError, View};

/// Longest value of `manifests`, in bytes: a manifest and its length.
pub(super) const MANIFEST_VALUE_BYTES_MAX: usize = limits::MANIFEST_BYTES_MAX + 16;
/// Longest encoded stand, in bytes.
const STAND_BYTES_MAX: usize = 4_096;
/// Longest value of `dropped`, in bytes: a log, an entry and a proof.
const DROPPED_BYTES_MAX: usize = 512 + limits::ENTRY_BYTES_MAX + fama_ledger::proof::PROOF_BYTES_MAX;
/// Reported when both copies of the stands may be lost: what the operator has to do then.
pub(super) const STANDS_LOST: &str = "stands may be lost: if this operator signed a stand for the next version of the \
    manifest (`fama federation stand`), start its node only once that version is in use";
/// A signed statement of what this operator cosigned in a log that is about to be cut. It is binding: the operator
/// cosigns nothing more in that log until the next version is in use.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct StoredStand {
    /// The version that is being prepared; the stand is binding until it is in use.
    pub version: u32,
    /// The log that is about to be cut.
    pub log: LogId,
    /// The stand as a signed note.
    pub note: String,
    /// This operator agreed to a text of that version that cuts the log: its cosignature there is not renewed.
    pub agreed: bool,
}

/// An entry of an abandoned branch, with an event that is to be submitted again.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Dropped {
    /// The log that had the entry.
    pub log: LogId,
    /// The encoded entry; it has an event.
    pub entry: Vec<u8>,
    /// C2SP tlog-proof to a head signed by the log's owner, if one was known.
    pub proof: Option<String>,
}

impl View<'_> {
    fn manifest_text(&self, version: u32) -> Result<Option<String>, StoreError> {
        self.value(Family::Manifests, &keys::manifest(version), MANIFEST_VALUE_BYTES_MAX)
    }

    /// The version in use; `None` while it is the genesis.
    fn used(&self) -> Result<Option<u32>, StoreError> {
        self.value(Family::Meta, META_USED, 4)
    }

    /// The newest version that a log adopted in this store; it was in use then.
    fn newest_adopted(&self) -> Result<Option<u32>, StoreError> {
        let mut newest = None;
        self.walk(Family::Logs, Walk::of([]), &mut |key, value| {
            if keys::is_adopted(key) {
                let adopted: Vec<Adopted> = self.decode(Family::Logs, value, ADOPTED_BYTES_MAX)?;
                newest = newest.max(adopted.last().map(|last| last.version));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(newest)
    }

    /// The version that follows `chain`, if it is stored.
    fn version_after(&self, chain: &Arc<Manifest>) -> Result<Option<Manifest>, StoreError> {
        let version = chain.version().saturating_add(1);
        let wrong = |error| self.store().database(&format!("manifest {version}: {error}"));
        match self.manifest_text(version)?.map(|text| chain.successor(&text)) {
            None | Some(Err(ManifestError::Protocol { .. })) => Ok(None),
            Some(next) => next.map(Some).map_err(wrong),
        }
    }

    /// The text of the version after `newest`, if it is stored and of a protocol that this program does not know. A
    /// program that knows it finds it as pending.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn later_manifest(&self, newest: &Arc<Manifest>) -> Result<Option<String>, StoreError> {
        let text = self.manifest_text(newest.version().saturating_add(1))?;
        Ok(text.filter(|text| matches!(newest.successor(text), Err(ManifestError::Protocol { .. }))))
    }

    /// Another valid text of the version in use or of the next one, if this node received one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn rival_manifest(&self) -> Result<Option<String>, StoreError> {
        self.value(Family::Manifests, &keys::rival_manifest(), MANIFEST_VALUE_BYTES_MAX)
    }

    /// This operator's stands in logs that are about to be cut.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn stands(&self) -> Result<Vec<StoredStand>, StoreError> {
        let mut found = Vec::new();
        self.walk(Family::Manifests, Walk::of(keys::stands()), &mut |_, value| {
            found.push(self.decode(Family::Manifests, value, STAND_BYTES_MAX)?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }

    /// The proof that the owner of `log` signed two branches, if there is one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn equivocation(&self, log: &LogId) -> Result<Option<Equivocation>, StoreError> {
        self.value(Family::Heads, &keys::equivocation(log), Equivocation::BYTES_MAX)
    }

    /// Entries of abandoned branches whose events are to be submitted again: at most `count`, from the event id `from`
    /// on, in the order of event ids.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn dropped(&self, from: EventId, count: usize) -> Result<Vec<(EventId, Dropped)>, StoreError> {
        let (mut found, from) = (Vec::new(), Some(from.0.to_vec()));
        self.walk(Family::Dropped, Walk { from, ..Walk::of([]) }, &mut |key, value| {
            let id = key.try_into().map(EventId).map_err(|_| self.store().database(&"a dropped event has no id"))?;
            found.push((id, self.decode(Family::Dropped, value, DROPPED_BYTES_MAX)?));
            Ok(if found.len() < count { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        Ok(found)
    }
}

/// Copies each stand from whichever of its two copies is readable. Returns a line of text for each unreadable family.
fn take_stands(view: &View<'_>, batch: &mut WriteBatch<'_>) -> Vec<String> {
    let mut unreadable = Vec::new();
    for (family, below) in [(Family::Meta, META_STANDS.to_vec()), (Family::Manifests, keys::stands())] {
        let walked = view.walk(family, Walk::of(below), &mut |key, value| {
            if let Some(log) = key.last_chunk::<{ size_of::<Log8>() }>() {
                batch.put(Family::Manifests, keys::stand(*log), value);
                batch.put(Family::Meta, keys::stand_copy(*log), value);
            }
            Ok(ControlFlow::Continue(()))
        });
        unreadable.extend(walked.err().map(|error| format!("stands in {}: {error}", family.name())));
    }
    if unreadable.len() == 2 {
        unreadable.push(STANDS_LOST.to_owned());
    }
    unreadable
}

impl Store {
    /// The version in use, with all versions before it.
    #[must_use]
    pub const fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// The next version, if it is held; it is used once every log that it cuts has reached its end.
    #[must_use]
    pub const fn pending(&self) -> Option<&Arc<Manifest>> {
        self.pending.as_ref()
    }

    /// Loads the stored versions. `configured` has the same genesis; versions that it has beyond the stored ones are
    /// stored too.
    pub(super) fn load_manifests(&mut self, configured: &Arc<Manifest>) -> Result<(), StoreError> {
        let used = self.view().used()?.unwrap_or(1);
        self.load_versions(configured, used, &mut Err)
    }

    /// Like [`Store::load_manifests`], for a damaged database. Texts that cannot be read are taken from the
    /// configuration, and the version in use is at least the newest that a log adopted. Returns a line of text for
    /// everything that could not be read.
    pub(super) fn load_damaged_manifests(&mut self, configured: &Arc<Manifest>) -> Result<Vec<String>, StoreError> {
        let mut unreadable = Vec::new();
        let used = {
            let mut read = |found: Result<Option<u32>, StoreError>| {
                found.unwrap_or_else(|error| {
                    unreadable.push(format!("the version of the manifest in use: {error}"));
                    None
                })
            };
            let view = self.view();
            let (noted, adopted) = (read(view.used()).unwrap_or(1), read(view.newest_adopted()).unwrap_or(1));
            if noted < adopted {
                let line = format!("which version of the manifest is in use: took {adopted}, because a log adopted it");
                unreadable.push(line);
            }
            noted.max(adopted)
        };
        self.load_versions(configured, used, &mut |error| {
            unreadable.push(error.to_string());
            Ok(())
        })?;
        Ok(unreadable)
    }

    /// `unreadable` decides whether a stored text that cannot be read ends the loading.
    fn load_versions(
        &mut self,
        configured: &Arc<Manifest>,
        used: u32,
        unreadable: &mut dyn FnMut(StoreError) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let view = View::new(self);
        let mut batch = self.batch();
        let mut chain = configured.genesis();
        let mut pending = None;
        // Only `open_alone` reads the stored genesis: a node takes it from its configuration.
        let first =
            view.has(Family::Manifests, &keys::manifest(1)).or_else(|error| unreadable(error).map(|()| false))?;
        if !first {
            Self::put(&mut batch, Family::Manifests, &keys::manifest(1), &chain.note().to_string());
        }
        while pending.is_none() {
            let version = chain.version().saturating_add(1);
            let stored = match view.version_after(&chain) {
                Err(error) => unreadable(error).map(|()| None)?,
                Ok(stored) => stored,
            };
            let next = match (stored, configured.at(version)) {
                (Some(stored), Some(ours)) if stored.hash() != ours.hash() => {
                    return Err(StoreError::Manifest { dir: self.dir.clone(), version });
                }
                (Some(stored), _) => stored,
                (None, Some(ours)) => {
                    Self::put(&mut batch, Family::Manifests, &keys::manifest(version), &ours.note().to_string());
                    ours.clone()
                }
                (None, None) if version <= used => {
                    return Err(StoreError::ManifestLost { dir: self.dir.clone(), version });
                }
                (None, None) => break,
            };
            let next = Arc::new(next);
            if version <= used { chain = next } else { pending = Some(next) }
        }
        batch.write(true).map_err(|error| self.database(&error))?;
        drop(view);
        self.logs = chain.logs().keys().map(|log| (log8(log), log.clone())).collect();
        (self.manifest, self.pending) = (chain, pending);
        Ok(())
    }

    /// Copies from another store what cannot be derived from entries: versions, stands, proofs, and events to be
    /// submitted again. This store must be empty. Returns a line of text for everything that could not be read.
    ///
    /// # Errors
    /// [`StoreError`] of this store.
    pub fn take_governance(&mut self, from: &Self) -> Result<Vec<String>, StoreError> {
        let (view, mut batch, mut unreadable) = (from.view(), self.batch(), Vec::new());
        unreadable.extend(take_stands(&view, &mut batch));
        for (family, below) in [(Family::Manifests, keys::rival_manifest()), (Family::Dropped, Vec::new())] {
            let walked = view.walk(family, Walk::of(below), &mut |key, value| {
                batch.put(family, key, value);
                Ok(ControlFlow::Continue(()))
            });
            unreadable.extend(walked.err().map(|error| format!("{}: {error}", family.name())));
        }
        for log in from.manifest.logs().keys() {
            match view.equivocation(log) {
                Ok(Some(proof)) => Self::put(&mut batch, Family::Heads, &keys::equivocation(log), &proof),
                Ok(None) => {}
                Err(error) => unreadable.push(format!("proofs against the owner of {log}: {error}")),
            }
            match view.lateness(log) {
                Ok(Some(lateness)) => Self::put(&mut batch, Family::Heads, &keys::lateness(log), &lateness),
                Ok(None) => {}
                Err(error) => unreadable.push(format!("when entries of {log} arrived: {error}")),
            }
        }
        // The versions as parsed, so that an invalid text is not copied.
        for version in from.manifest.versions().chain(from.pending.as_deref()).filter(|one| one.version() > 1) {
            Self::put(&mut batch, Family::Manifests, &keys::manifest(version.version()), &version.note().to_string());
        }
        Self::put(&mut batch, Family::Meta, META_USED, &from.manifest.version());
        batch.write(true).map_err(|error| self.database(&error))?;
        drop(view);
        self.load_manifests(&Arc::clone(&from.manifest))?;
        Ok(unreadable)
    }

    /// Stores the next version; the caller has verified it. Synced.
    ///
    /// # Errors
    /// [`StoreError`]; stop the node.
    pub fn put_manifest(&self, manifest: &Manifest) -> Result<(), StoreError> {
        let mut batch = self.batch();
        Self::put(&mut batch, Family::Manifests, &keys::manifest(manifest.version()), &manifest.note().to_string());
        self.write(batch, true)
    }

    /// Stores the text of the next version, which this program cannot read; the caller has verified who signed it.
    /// Synced.
    ///
    /// # Errors
    /// [`StoreError`]; stop the node.
    pub fn put_later_manifest(&self, version: u32, text: &str) -> Result<(), StoreError> {
        let mut batch = self.batch();
        Self::put(&mut batch, Family::Manifests, &keys::manifest(version), &text.to_owned());
        self.write(batch, true)
    }

    /// Uses the pending version from the next opening on. Deletes the stands that were binding until then, and a
    /// rival text: if the version before had two valid texts, this version follows the chosen one. Synced.
    ///
    /// # Errors
    /// [`StoreError`]; stop the node.
    pub fn use_manifest(&self, version: u32) -> Result<(), StoreError> {
        let mut batch = self.batch();
        Self::put(&mut batch, Family::Meta, META_USED, &version);
        // In the same write as the switch: a stand must neither outlive its version nor end before it.
        for stand in self.view().stands()?.iter().filter(|stand| stand.version <= version) {
            batch.delete(Family::Manifests, keys::stand(log8(&stand.log)));
            batch.delete(Family::Meta, keys::stand_copy(log8(&stand.log)));
        }
        batch.delete(Family::Manifests, keys::rival_manifest());
        self.write(batch, true)
    }

    /// Stores another valid text of a version that is held: the operators must choose one. Synced.
    ///
    /// # Errors
    /// [`StoreError`]; stop the node.
    pub fn put_rival_manifest(&self, text: &str) -> Result<(), StoreError> {
        let mut batch = self.batch();
        Self::put(&mut batch, Family::Manifests, &keys::rival_manifest(), &text.to_owned());
        self.write(batch, true)
    }

    /// Stores a stand twice, in separate files, because no peer could return it. Synced, because it is binding once it
    /// is published.
    ///
    /// # Errors
    /// [`StoreError`]; stop the node.
    pub fn put_stand(&self, stand: &StoredStand) -> Result<(), StoreError> {
        let (mut batch, log) = (self.batch(), log8(&stand.log));
        Self::put(&mut batch, Family::Manifests, &keys::stand(log), stand);
        Self::put(&mut batch, Family::Meta, &keys::stand_copy(log), stand);
        self.write(batch, true)?;
        // Synced above, in the one write-ahead log. Flushed, each copy is in a table of its own: one damaged file
        // leaves the other. A crash in between leaves both in the log, from which the next opening writes them.
        let flushed = [Family::Manifests, Family::Meta].iter().try_for_each(|family| self.engine.flush(*family));
        flushed.map_err(|error| self.database(&error))
    }

    /// Stores a proof of equivocation. Synced.
    ///
    /// # Errors
    /// [`StoreError`]; stop the node.
    pub fn put_equivocation(&self, proof: &Equivocation) -> Result<(), StoreError> {
        let mut batch = self.batch();
        Self::put(&mut batch, Family::Heads, &keys::equivocation(&proof.log), proof);
        self.write(batch, true)
    }

    /// Forgets dropped events that were applied again, or that no log can accept any more. Synced.
    ///
    /// # Errors
    /// [`StoreError`]; stop the node.
    pub fn forget_dropped(&self, events: &[EventId]) -> Result<(), StoreError> {
        let mut batch = self.batch();
        events.iter().for_each(|event| batch.delete(Family::Dropped, event.0));
        self.write(batch, true)
    }
}
