//! The only place that reads the wall clock.
use std::time::{SystemTime, UNIX_EPOCH};

use fama_ledger::time::Millis;

/// Milliseconds since 1970 by this machine's clock; 0 for a clock before that.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now() -> Millis {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
}
