//! A log's state at a certified head, for a node that has none of its entries. The head proves the offer; the offer
//! proves the rows, which follow in ranges.
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use bincode::{Decode, Encode};

use crate::adoption::{self, Adoption, AdoptionError};
use crate::batch::{self, LogMaps};
use crate::checkpoint::{Checkpoint, CheckpointError, Cosignature, SignedCheckpoint};
use crate::codec;
use crate::entry::{Body, Entry};
use crate::id::StateRoot;
use crate::limits;
use crate::log::{self, Hash, Head, MemoryTiles, TILE_WIDTH, TileWrite, Tree};
use crate::manifest::{LogId, Manifest};
use crate::map::{StateMap, value_hash};
use crate::note_quorum::NoteReading;
use crate::replica::log_of;
use crate::rows::{LogRow, MapName, ROW_BYTES_MAX, row_key};
use crate::signed_note::{NoteError, SignedNote};

/// The number of tile levels in the largest tree.
const EDGE_LEVELS_MAX: usize = 8;

/// The state of a log at a head that a quorum cosigned on one note, without its rows.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Offer {
    /// The certified checkpoint: a signed note with the owner's signature and the cosignatures.
    pub checkpoint: String,
    /// The last entry below that head, encoded: the state entry with the state root.
    pub state: Vec<u8>,
    /// The inclusion proof of that entry under the head.
    pub path: Vec<Hash>,
    /// Name and root of each map, ordered by name.
    pub maps: Vec<(String, StateRoot)>,
    /// The encoded value of the log's own row, the only one of the map `log`.
    pub row: Vec<u8>,
    /// The hashes of the partial tiles at the tree's right edge, level by level. Appending entries needs them.
    pub edge: Vec<Vec<Hash>>,
    /// The adoption of the version that the row names; `None` if that version introduced the log.
    pub adopted: Option<Adoption>,
    /// The approximate number of rows of each map, in the order of `maps`. Not proven.
    pub rows: Vec<u64>,
}

/// Why an offer proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The checkpoint is no signed note.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The note is no checkpoint of a known log, or a signature is invalid.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The log was cut, so no entry will follow, or the manifest does not know it.
    #[error("log {0} was cut or is unknown")]
    Log(LogId),
    /// The log's own row does not decode, or is not the one in its map.
    #[error("the log's own row does not decode, or is not the one in its map")]
    Row,
    /// The offer does not show which version's quorum counts.
    #[error(transparent)]
    Adoption(#[from] AdoptionError),
    /// The log adopted a version of the manifest that the reader does not hold: nobody's fault.
    #[error("the log had adopted version {0}, which is not held")]
    Unheld(u32),
    /// The log had adopted a version older than any that an uncut log can have now: its operators' keys may be retired.
    #[error("the log had adopted version {adopted}; by now it has adopted version {wanted}")]
    Outdated {
        /// The version that the log had adopted at the head.
        adopted: u32,
        /// The oldest version that a reader accepts.
        wanted: u32,
    },
    /// Too few operators of the adopted version, or of an earlier one that also counts, cosigned the head.
    #[error("{found} operators cosigned the head, want {wanted}")]
    Quorum {
        /// The number of operators that cosigned.
        found: usize,
        /// The quorum of the version.
        wanted: usize,
    },
    /// The entry is no state entry, or is not the last one below the head.
    #[error("the state entry is not the last one below the head")]
    State,
    /// The maps are not those that the log carries, or do not lead to the state root.
    #[error("the maps do not lead to the state root")]
    Maps,
    /// The edge of the tree does not lead to the head.
    #[error("the edge of the tree does not lead to the head")]
    Edge,
}

impl SnapshotError {
    /// The stable code for answers, logs and metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Note(error) => error.code(),
            Self::Checkpoint(error) => error.code(),
            Self::Adoption(error) => error.code(),
            Self::Log(_) => "snapshot_log",
            Self::Row => "snapshot_row",
            Self::Unheld(_) => "snapshot_unheld",
            Self::Outdated { .. } => "snapshot_outdated",
            Self::Quorum { .. } => "snapshot_quorum",
            Self::State => "snapshot_state",
            Self::Maps => "snapshot_maps",
            Self::Edge => "snapshot_edge",
        }
    }
}

/// A verified offer, from [`Offer::verify`]. Every part except `rows` is proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    /// The head, signed by the log's owner.
    pub signed: SignedCheckpoint,
    /// Its cosignatures by operators of the adopted version, at least a quorum.
    pub cosignatures: Vec<Cosignature>,
    /// The state root at the head.
    pub state_root: StateRoot,
    /// The log's own row at the head.
    pub row: LogRow,
    /// The maps with their roots, ordered by name.
    pub maps: Vec<(MapName, StateRoot)>,
    /// The partial tiles at the tree's right edge.
    pub tiles: Vec<TileWrite>,
    /// The approximate number of rows of each map, in the order of `maps`. The sender may lie about it.
    pub rows: Vec<u64>,
}

impl Offered {
    /// The log of the head.
    #[must_use]
    pub fn log(&self) -> LogId {
        log_of(&self.signed)
    }

    /// The size and root of the certified head.
    #[must_use]
    pub const fn head(&self) -> Head {
        self.signed.checkpoint().head
    }
}

impl Offer {
    /// Verifies every part: a quorum of the version that the log adopted cosigned the head; the state entry is the last
    /// entry below it; the maps lead to that entry's root; the log's own row, which names the version, is in its map.
    ///
    /// # Errors
    /// [`SnapshotError`]: the sender is at fault, except for [`SnapshotError::Unheld`], and for [`SnapshotError::Log`] and
    /// [`SnapshotError::Outdated`] if the sender does not hold the reader's version yet.
    pub fn verify(&self, manifest: &Manifest) -> Result<Offered, SnapshotError> {
        let row: LogRow = codec::decode(&self.row, ROW_BYTES_MAX).map_err(|_| SnapshotError::Row)?;
        let adopted = manifest.at(row.version).ok_or(SnapshotError::Unheld(row.version))?;
        let (signed, cosignatures) = self.certificate(manifest, adopted)?;
        let (log, head) = (log_of(&signed), signed.checkpoint().head);
        let state_root = self.state_root(&head)?;
        let maps = self.proved_maps(adopted, &log, state_root)?;
        Ok(Offered { tiles: self.tiles(&head)?, rows: self.rows.clone(), signed, cosignatures, state_root, row, maps })
    }

    fn certificate(
        &self,
        manifest: &Manifest,
        adopted: &Manifest,
    ) -> Result<(SignedCheckpoint, Vec<Cosignature>), SnapshotError> {
        let note = SignedNote::parse(self.checkpoint.as_bytes(), limits::CHECKPOINT_BYTES_MAX)?;
        let Checkpoint { origin, .. } = note.text.parse()?;
        let log = LogId { operator: origin.operator, generation: origin.generation };
        let mut reading = NoteReading::of(&note, &log, manifest)?;
        let Some(known) = manifest.log(&log).filter(|known| known.cut.is_none()) else {
            return Err(SnapshotError::Log(log));
        };
        let wanted = manifest.adopted_min(&log);
        if adopted.version() < wanted {
            return Err(SnapshotError::Outdated { adopted: adopted.version(), wanted });
        }
        let head = &reading.signed().checkpoint().head;
        let versions = adoption::certifying_at(manifest, known.since, adopted, head, self.adopted.as_ref())?;
        // As in a profile proof: the versions that the log's own row and the offered adoption name.
        if let Some(short) = reading.first_short(&versions)? {
            return Err(SnapshotError::Quorum { found: short.found(), wanted: short.wanted });
        }
        let quorum = reading.quorum(adopted)?;
        Ok((quorum.signed, quorum.cosignatures))
    }

    fn state_root(&self, head: &Head) -> Result<StateRoot, SnapshotError> {
        let entry = codec::decode(&self.state, limits::ENTRY_BYTES_MAX).map_err(|_| SnapshotError::State)?;
        let Entry { body: Body::State { root }, .. } = entry else { return Err(SnapshotError::State) };
        let index = head.size.checked_sub(1).ok_or(SnapshotError::State)?;
        let included = log::verify_inclusion(log::leaf_hash(&self.state), index, head, &self.path);
        included.map(|()| root).map_err(|_| SnapshotError::State)
    }

    fn proved_maps(
        &self,
        adopted: &Manifest,
        log: &LogId,
        state_root: StateRoot,
    ) -> Result<Vec<(MapName, StateRoot)>, SnapshotError> {
        let names = LogMaps::names(adopted, log);
        let given = self.maps.iter().map(|(name, root)| (name.as_str(), *root));
        let same = names.iter().map(MapName::as_str).eq(given.clone().map(|(name, _)| name));
        if !same || self.rows.len() != names.len() || batch::state_root(given) != state_root {
            return Err(SnapshotError::Maps);
        }
        let own = StateMap::from_sorted([(row_key::<LogRow>(&()), value_hash(&self.row))]);
        let own = own.map_err(|_| SnapshotError::Row)?.root();
        let maps: Vec<_> = names.into_iter().zip(self.maps.iter().map(|(_, root)| *root)).collect();
        let itself = MapName::log(log);
        match maps.iter().find(|(name, _)| *name == itself) {
            Some((_, root)) if *root == own => Ok(maps),
            _ => Err(SnapshotError::Row),
        }
    }

    /// Requires exactly the right number of hashes in each level, so that the head's root covers all of them.
    fn tiles(&self, head: &Head) -> Result<Vec<TileWrite>, SnapshotError> {
        let widths = edge_widths(head.size);
        if !widths.iter().copied().eq(self.edge.iter().map(Vec::len)) {
            return Err(SnapshotError::Edge);
        }
        let mut tiles = Vec::new();
        for (level, hashes) in (0u8..).zip(&self.edge).filter(|(_, hashes)| !hashes.is_empty()) {
            let height = u32::from(level).saturating_add(1).saturating_mul(8);
            tiles.push(TileWrite { level, index: head.size.unbounded_shr(height), hashes: hashes.clone() });
        }
        let mut stored = MemoryTiles::default();
        stored.write(tiles.clone());
        let tree = Tree::load(head.size, &stored).map_err(|_| SnapshotError::Edge)?;
        if tree.head() == *head { Ok(tiles) } else { Err(SnapshotError::Edge) }
    }
}

/// How many hashes the partial tile of each level has in a tree of `size` leaves, from level 0 up.
#[must_use]
pub fn edge_widths(size: u64) -> Vec<usize> {
    let mut widths = Vec::new();
    let mut hashes = size;
    while hashes > 0 && widths.len() < EDGE_LEVELS_MAX {
        let [width, ..] = hashes.to_le_bytes();
        widths.push(usize::from(width));
        hashes = hashes.unbounded_shr(TILE_WIDTH.trailing_zeros());
    }
    widths
}

/// The names and roots of the maps, as an offer lists them.
#[must_use]
pub fn list(maps: &LogMaps) -> Vec<(String, StateRoot)> {
    maps.iter().map(|(name, _, map)| (name.to_string(), map.root())).collect()
}
