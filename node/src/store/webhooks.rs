//! How far each webhook was told, and what could not be delivered.
use bincode::{Decode, Encode};
use fama_ledger::manifest::LogId;
use fama_ledger::time::Millis;

use super::engine::{Walk, WriteBatch};
use super::keys::{self, Family};
use super::{Store, StoreError, View};

/// Longest value of the family, in bytes.
const VALUE_BYTES_MAX: usize = 1 << 20;
/// Most undelivered events that are kept of a webhook; beyond, the oldest go.
pub const DEAD_MAX: usize = 1_000;

/// How far a webhook was told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct WebhookCursor {
    /// Up to which size each log was told.
    pub sizes: Vec<(LogId, u64)>,
    /// Events delivered since the webhook exists.
    pub delivered: u64,
    /// The number of the next dead letter.
    pub next_dead: u64,
}

/// An event that a webhook did not take.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct DeadLetter {
    /// The id of the message.
    pub id: String,
    /// The body that was sent.
    pub body: String,
    /// When it was given up.
    pub time: Millis,
    /// Why, in words.
    pub error: String,
}

impl View<'_> {
    /// How far a webhook was told; `None` for a new one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn webhook(&self, name: &str) -> Result<Option<WebhookCursor>, StoreError> {
        self.value(Family::Webhooks, &keys::webhook(name), VALUE_BYTES_MAX)
    }

    /// At most `limit` dead letters of a webhook with their numbers, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn dead_letters(&self, name: &str, limit: usize) -> Result<Vec<(u64, DeadLetter)>, StoreError> {
        let mut found = Vec::new();
        self.walk(Family::Webhooks, Walk::of(keys::dead_letters(name)), &mut |key, value| {
            if found.len() >= limit {
                return Ok(std::ops::ControlFlow::Break(()));
            }
            let number = key.last_chunk().map(|number| u64::from_be_bytes(*number));
            let number = number.ok_or_else(|| self.broken(Family::Webhooks, &"a key without a number"))?;
            found.push((number, self.decode(Family::Webhooks, value, VALUE_BYTES_MAX)?));
            Ok(std::ops::ControlFlow::Continue(()))
        })?;
        Ok(found)
    }
}

impl Store {
    /// Keeps how far a webhook was told, and an event that it did not take. Not synced: after a crash some events are
    /// told again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put_webhook(
        &self,
        name: &str,
        cursor: &WebhookCursor,
        dead: Option<&DeadLetter>,
    ) -> Result<WebhookCursor, StoreError> {
        let _writing = self.lock();
        let (view, mut batch, mut cursor) = (self.view(), self.batch(), cursor.clone());
        // What was on its way when a log was rolled back must not bring the cursor beyond what is left.
        for (log, size) in &mut cursor.sizes {
            *size = view.size_after_rollback(log)?.map_or(*size, |left| left.min(*size));
        }
        if let Some(dead) = dead {
            Self::put(&mut batch, Family::Webhooks, &keys::dead_letter(name, cursor.next_dead), dead);
            cursor.next_dead = cursor.next_dead.saturating_add(1);
            let known = view.dead_letters(name, DEAD_MAX)?;
            if let [(oldest, _), ..] = known.as_slice()
                && known.len() == DEAD_MAX
            {
                batch.delete(Family::Webhooks, keys::dead_letter(name, *oldest));
            }
        }
        Self::put(&mut batch, Family::Webhooks, &keys::webhook(name), &cursor);
        self.write(batch, false)?;
        Ok(cursor)
    }

    /// Takes every webhook back to what is left of a log, so that it is told what comes instead of the rest.
    pub(super) fn rewind_webhooks(
        batch: &mut WriteBatch<'_>,
        view: &View<'_>,
        log: &LogId,
        left: u64,
    ) -> Result<(), StoreError> {
        view.walk(Family::Webhooks, Walk::of([]), &mut |key, value| {
            // A name has no zero byte; the byte after the one behind it tells cursors from dead letters.
            let end = key.iter().position(|byte| *byte == 0).unwrap_or(key.len());
            if key.get(end..) != Some(&[0, 0]) {
                return Ok(std::ops::ControlFlow::Continue(()));
            }
            let mut cursor: WebhookCursor = view.decode(Family::Webhooks, value, VALUE_BYTES_MAX)?;
            for (_, size) in cursor.sizes.iter_mut().filter(|(of, size)| of == log && *size > left) {
                *size = left;
            }
            Self::put(batch, Family::Webhooks, key, &cursor);
            Ok(std::ops::ControlFlow::Continue(()))
        })
    }

    /// Forgets a dead letter: it was delivered after all.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn forget_dead_letter(&self, name: &str, number: u64) -> Result<(), StoreError> {
        let mut batch = self.batch();
        batch.delete(Family::Webhooks, keys::dead_letter(name, number));
        self.write(batch, false)
    }
}
