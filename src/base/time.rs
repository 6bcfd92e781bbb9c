//! Time as values. Nothing here reads a clock: `boot.rs` does, once a turn, and hands the reading down as [`Now`].

use std::ops::{Add, Sub};
pub use std::time::Duration;

/// Microseconds since the process started; monotonic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(pub u64);

impl Instant {
    /// Later than any other: no deadline.
    pub const NEVER: Instant = Instant(u64::MAX);

    pub fn since(self, earlier: Instant) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;
    fn add(self, by: Duration) -> Instant {
        Instant(self.0.saturating_add(by.as_micros() as u64))
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;
    fn sub(self, by: Duration) -> Instant {
        Instant(self.0.saturating_sub(by.as_micros() as u64))
    }
}

/// Milliseconds since 1970-01-01T00:00:00Z, as the wall clock has them: for people, tokens and event ids, never for timers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixMs(pub u64);

impl UnixMs {
    pub fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// RFC 3339 in UTC with milliseconds: `2026-11-21T08:17:00.123Z`.
    pub fn rfc3339(self) -> impl std::fmt::Display {
        humantime::format_rfc3339_millis(std::time::UNIX_EPOCH + Duration::from_millis(self.0))
    }
}

/// One reading of both clocks, taken once a turn: every input of a turn happens at the same time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    pub at: Instant,
    pub unix: UnixMs,
}

impl Now {
    /// This reading moved on by `by`: how a simulator's clock runs.
    pub fn later(self, by: Duration) -> Now {
        Now { at: self.at + by, unix: UnixMs(self.unix.0 + by.as_millis() as u64) }
    }
}

/// The seam through which the shell reads time; the implementation that asks the system lives in `boot.rs`.
pub trait Clock {
    fn now(&self) -> Now;
}
