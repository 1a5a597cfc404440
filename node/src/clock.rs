//! Clocks. No other module reads the machine's wall clock.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fama_ledger::time::Millis;

/// Milliseconds since 1970 by this machine's clock; 0 for a clock before that.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now() -> Millis {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
}

/// The clocks that a node uses: the machine's, or simulated ones.
#[derive(Clone, Debug)]
pub struct Clock(ClockSource);

#[derive(Clone, Debug)]
enum ClockSource {
    Machine { origin: Instant },
    Simulated(Arc<Simulated>),
}

impl Clock {
    /// The machine's clocks. Monotonic time starts at zero now.
    #[must_use]
    pub fn machine() -> Self {
        Self(ClockSource::Machine { origin: Instant::now() })
    }

    /// Clocks that a test sets.
    #[doc(hidden)]
    #[must_use]
    pub const fn simulated(clock: Arc<Simulated>) -> Self {
        Self(ClockSource::Simulated(clock))
    }

    /// Wall-clock time, which may jump forwards and backwards.
    #[must_use]
    pub fn now(&self) -> Millis {
        match &self.0 {
            ClockSource::Machine { .. } => now(),
            ClockSource::Simulated(clock) => Millis(clock.wall_millis.load(Ordering::Relaxed)),
        }
    }

    /// Time since this clock was created; never decreases.
    #[must_use]
    pub fn monotonic(&self) -> Duration {
        match &self.0 {
            ClockSource::Machine { origin } => origin.elapsed(),
            ClockSource::Simulated(clock) => Duration::from_millis(clock.monotonic_millis.load(Ordering::Relaxed)),
        }
    }

    /// Time since the machine booted, sleep included. The wall clock is checked against it.
    #[must_use]
    pub fn since_boot(&self) -> Duration {
        match &self.0 {
            ClockSource::Machine { .. } => since_boot(),
            ClockSource::Simulated(_) => self.monotonic(),
        }
    }
}

/// `CLOCK_BOOTTIME`, which keeps running while the machine sleeps; monotonic time on systems without it.
fn since_boot() -> Duration {
    #[cfg(target_os = "linux")]
    let clock = rustix::time::ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let clock = rustix::time::ClockId::Monotonic;
    Duration::try_from(rustix::time::clock_gettime(clock)).unwrap_or_default()
}

/// Clocks that stand still until a test sets them.
#[doc(hidden)]
#[derive(Debug, Default)]
pub struct Simulated {
    wall_millis: AtomicU64,
    monotonic_millis: AtomicU64,
}

impl Simulated {
    /// Sets both clocks: milliseconds since 1970, and milliseconds since an arbitrary start.
    pub fn set(&self, wall: Millis, monotonic_millis: u64) {
        self.wall_millis.store(wall.0, Ordering::Relaxed);
        self.monotonic_millis.store(monotonic_millis, Ordering::Relaxed);
    }
}
