//! The system's clocks. Everything else is told what time it is.

use crate::base::time::{Clock, Instant, Now, UnixMs};

/// Reads the system's clocks: the only place that does.
pub struct SystemClock {
    started: std::time::Instant,
}

impl SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one reader of the clock")]
    pub fn new() -> SystemClock {
        SystemClock { started: std::time::Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        Now { at: Instant(self.started.elapsed().as_micros() as u64), unix: unix_now() }
    }
}

/// The wall clock. One before 1970 is taken for 1970.
#[expect(clippy::disallowed_methods, reason = "the one reader of the clock")]
pub fn unix_now() -> UnixMs {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    UnixMs(since.map_or(0, |since| since.as_millis() as u64))
}
