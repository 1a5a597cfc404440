//! The memory of what was used: whole in memory, and on disk before an answer shows that something was used.
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fama_ledger::id::IdentityId;

use crate::store::{Store, StoreError, UsedKey};

/// Most that is remembered. Full, nothing more is accepted; nothing is forgotten early.
const USED_MAX: usize = 400_000;
/// How much one identity may have of it: an identity's own rate is below.
const USED_OF_ONE_MAX: usize = 2_000;
/// Half of it is for identities that have no more than this: those that use much do not take it from those that use little.
const USED_OF_FEW_MAX: usize = 8;
/// How many that have ended are forgotten with each that is new.
const FORGET_MAX: usize = 8;

/// What becomes of something that shall be used once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// It was not used before, and is now.
    First,
    /// It was used before.
    Again,
    /// There is no room to remember it.
    Full,
}

/// What is used, and until when it must be remembered.
pub(super) struct UsedOnce {
    store: Arc<Store>,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    ends: HashMap<UsedKey, (u64, Option<IdentityId>)>,
    by_end: BTreeSet<(u64, UsedKey)>,
    of_one: HashMap<IdentityId, u32>,
}

impl Memory {
    fn add(&mut self, key: UsedKey, ends: u64, by: Option<IdentityId>) {
        self.ends.insert(key, (ends, by));
        self.by_end.insert((ends, key));
        if let Some(by) = by {
            *self.of_one.entry(by).or_default() += 1;
        }
    }

    /// Whether one more of this identity may be remembered.
    fn has_room(&self, by: IdentityId) -> bool {
        let used = self.of_one.get(&by).map_or(0, |count| *count as usize);
        let most = if self.ends.len() < USED_MAX / 2 { USED_OF_ONE_MAX } else { USED_OF_FEW_MAX };
        used < most && self.ends.len() < USED_MAX
    }

    /// Forgets some that have ended.
    fn forget(&mut self, now: u64) -> Vec<UsedKey> {
        let ended: Vec<_> = self.by_end.iter().take_while(|(ends, _)| *ends <= now).take(FORGET_MAX).copied().collect();
        for (ends, key) in &ended {
            self.by_end.remove(&(*ends, *key));
            let Some((_, Some(by))) = self.ends.remove(key) else { continue };
            if let Some(count) = self.of_one.get_mut(&by) {
                *count -= 1;
                if *count == 0 {
                    self.of_one.remove(&by);
                }
            }
        }
        ended.into_iter().map(|(_, key)| key).collect()
    }
}

impl UsedOnce {
    /// Reads what the disk remembers.
    pub(super) fn open(store: Arc<Store>) -> Result<Self, StoreError> {
        let mut memory = Memory::default();
        // Whose they are is not on disk: they end within minutes.
        store.used()?.into_iter().for_each(|(key, ends)| memory.add(key, ends, None));
        Ok(Self { store, memory: Mutex::new(memory) })
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Uses `what` up, which must be remembered until `ends`. `kind` keeps the names of different things apart.
    pub(super) fn once(
        &self,
        (kind, by): (&str, IdentityId),
        what: &str,
        ends: u64,
        now: u64,
    ) -> Result<Use, StoreError> {
        let key = key(kind, &by, what);
        let ended = {
            let mut memory = self.lock();
            let ended = memory.forget(now);
            // Also if it has ended and is only not forgotten yet.
            if memory.ends.contains_key(&key) {
                return Ok(Use::Again);
            }
            if !memory.has_room(by) {
                return Ok(Use::Full);
            }
            memory.add(key, ends, Some(by));
            ended
        };
        // Outside the lock, so that the database syncs several together. A second use meanwhile finds it in the memory.
        self.store.put_used(&key, ends, &ended)?;
        Ok(Use::First)
    }

    /// Whether `what` was used and is still remembered.
    pub(super) fn is_used(&self, (kind, by): (&str, IdentityId), what: &str, now: u64) -> bool {
        self.lock().ends.get(&key(kind, &by, what)).is_some_and(|(ends, _)| *ends > now)
    }
}

fn key(kind: &str, by: &IdentityId, what: &str) -> UsedKey {
    let mut hasher = blake3::Hasher::new();
    hasher.update(kind.as_bytes()).update(&[0]).update(&by.0).update(what.as_bytes());
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use fama_ledger::id::EventId;

    use super::*;
    use crate::http::tests::manifest;

    #[test]
    fn what_was_used_is_used_also_after_a_restart() {
        let (dir, manifest) = (tempfile::tempdir().unwrap(), manifest());
        let (one, two) = (EventId([1; 32]), EventId([2; 32]));
        let open = || UsedOnce::open(Arc::new(Store::open(dir.path(), &manifest).unwrap())).unwrap();
        let used = open();
        assert_eq!(used.once(("jti", one), "a", 100, 50).unwrap(), Use::First);
        assert_eq!(used.once(("jti", one), "a", 100, 50).unwrap(), Use::Again);
        assert_eq!(used.once(("jti", two), "a", 100, 50).unwrap(), Use::First, "another identity's");
        assert_eq!(used.once(("challenge", one), "a", 100, 50).unwrap(), Use::First, "another kind's");
        drop(used);
        let used = open();
        assert_eq!(used.once(("jti", one), "a", 100, 99).unwrap(), Use::Again);
        assert!(used.is_used(("jti", two), "a", 99) && !used.is_used(("jti", two), "b", 99));
        // From its end on it is refused for its time, and forgotten here.
        assert_eq!(used.once(("jti", one), "b", 200, 100).unwrap(), Use::First);
        assert_eq!(used.lock().ends.len(), 1);
        drop(used);
        assert_eq!(open().lock().ends.len(), 1, "on disk too");
    }

    #[test]
    fn one_identity_does_not_use_it_up() {
        let (dir, manifest) = (tempfile::tempdir().unwrap(), manifest());
        let used = UsedOnce::open(Arc::new(Store::open(dir.path(), &manifest).unwrap())).unwrap();
        let (one, two) = (EventId([1; 32]), EventId([2; 32]));
        for i in 0..USED_OF_ONE_MAX {
            used.lock().add(key("jti", &one, &i.to_string()), 100, Some(one));
        }
        assert_eq!(used.once(("jti", one), "more", 100, 50).unwrap(), Use::Full);
        assert_eq!(used.once(("jti", two), "more", 100, 50).unwrap(), Use::First);
        assert_eq!(used.once(("jti", one), "more", 300, 100).unwrap(), Use::First, "there is room again");
    }

    #[test]
    fn many_identities_do_not_use_it_up() {
        let (mut memory, name) = (Memory::default(), |i: u32| EventId(*blake3::hash(&i.to_be_bytes()).as_bytes()));
        for i in 0..5_000 {
            for n in 0..USED_OF_ONE_MAX {
                if !memory.has_room(name(i)) {
                    break;
                }
                memory.add(key("jti", &name(i), &n.to_string()), 100, Some(name(i)));
            }
        }
        assert!(memory.ends.len() > USED_MAX / 2 && memory.ends.len() < USED_MAX * 6 / 10, "{}", memory.ends.len());
        assert!((0..100).all(|i| memory.has_room(name(10_000 + i))));
    }
}
