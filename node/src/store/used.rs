//! What was used and must not be used again before it ends: assertions, challenges, and tokens that were revoked.
use std::ops::ControlFlow;

use super::engine::Walk;
use super::keys::{self, Family};
use super::{Store, StoreError};

/// A hash of what was used, by whom and for what.
pub type UsedKey = [u8; 32];

impl Store {
    /// Everything that is kept, with the time from which on it may be forgotten, in seconds since 1970.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn used(&self) -> Result<Vec<(UsedKey, u64)>, StoreError> {
        let (view, mut found) = (self.view(), Vec::new());
        view.walk(Family::Used, Walk::of([]), &mut |key, value| {
            let broken = || view.broken(Family::Used, &"not a key and a time");
            let key = key.try_into().map_err(|_| broken())?;
            let ends = value.try_into().map(u64::from_be_bytes).map_err(|_| broken())?;
            found.push((key, ends));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }

    /// Keeps what was used, and forgets what has ended. On disk when it returns: what was used once is used, also after a
    /// crash. Callers may write at the same time; the database syncs them together.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put_used(&self, used: &UsedKey, ends: u64, ended: &[UsedKey]) -> Result<(), StoreError> {
        let mut batch = self.batch();
        ended.iter().for_each(|key| batch.delete(Family::Used, keys::used(key)));
        batch.put(Family::Used, keys::used(used), ends.to_be_bytes());
        self.write(batch, true)
    }
}
