//! Verifies the signatures of many events at once, on all cores.
use std::sync::LazyLock;

use fama_ledger::entry::{EntryError, SignedEvent, VerifiedEntry, VerifiedEvent};
use fama_ledger::id::FederationId;
use rayon::prelude::*;

/// Fewest and most of what is verified in one piece: a small one saves less, and of a large one, one bad signature has more
/// verified again.
const PIECE_MIN: usize = 32;
const PIECE_MAX: usize = 4_096;

/// Makes the factors of the equations. Without randomness it would do, too: see `fama_ledger::key::batch`.
static SEED: LazyLock<[u8; 32]> = LazyLock::new(|| {
    let mut seed = [0; 32];
    if getrandom::fill(&mut seed).is_err() {
        tracing::warn!("the operating system gives no randomness");
    }
    seed
});

/// [`VerifiedEntry::decode`] of each.
#[must_use]
pub fn decode_all(entries: Vec<Vec<u8>>, federation: &FederationId) -> Vec<Result<VerifiedEntry, EntryError>> {
    in_pieces(entries, |piece| VerifiedEntry::decode_all(piece, federation, &SEED))
}

/// [`SignedEvent::verify`] of each.
#[must_use]
pub fn verify_all(events: Vec<SignedEvent>, federation: &FederationId) -> Vec<Result<VerifiedEvent, EntryError>> {
    in_pieces(events, |piece| SignedEvent::verify_all(piece, federation, &SEED))
}

fn in_pieces<T: Send, R: Send>(mut all: Vec<T>, verify: impl Fn(Vec<T>) -> Vec<R> + Send + Sync) -> Vec<R> {
    let size = all.len().div_ceil(rayon::current_num_threads()).clamp(PIECE_MIN, PIECE_MAX);
    if all.len() <= size {
        return verify(all);
    }
    let mut pieces = Vec::with_capacity(all.len().div_ceil(size));
    while all.len() > size {
        let rest = all.split_off(size);
        pieces.push(std::mem::replace(&mut all, rest));
    }
    pieces.push(all);
    pieces.into_par_iter().flat_map_iter(verify).collect()
}
