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

    /// RFC 3339 with `Z` or an offset: `2026-11-21T15:17:00.123+07:00`. None before 1970.
    pub fn parse_rfc3339(text: &str) -> Option<UnixMs> {
        let (local, ahead_minutes) = match text.strip_suffix(['Z', 'z']) {
            Some(local) => (local, 0),
            None => {
                let (local, offset) = text.split_at_checked(text.len().checked_sub(6)?)?;
                let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?;
                let hours: i64 = digits(offset.get(1..3)?)?;
                let minutes: i64 = digits(offset.get(4..6)?)?;
                let ahead = match (&offset[..1], &offset[3..4], hours < 24 && minutes < 60) {
                    ("+", ":", true) => hours * 60 + minutes,
                    ("-", ":", true) => -(hours * 60 + minutes),
                    _ => return None,
                };
                (local, ahead)
            }
        };
        let time = humantime::parse_rfc3339(&format!("{local}Z")).ok()?;
        let ms = time.duration_since(std::time::UNIX_EPOCH).ok()?.as_millis() as u64;
        ms.checked_add_signed(-ahead_minutes * 60_000).map(UnixMs)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        let at = UnixMs(1_700_000_000_123);
        for (text, want) in [
            ("2023-11-14T22:13:20.123Z", Some(at)),
            ("2023-11-15T05:13:20.123+07:00", Some(at)),
            ("2023-11-14T18:43:20.123-03:30", Some(at)),
            ("1970-01-01T00:00:00Z", Some(UnixMs(0))),
            ("1970-01-01T00:00:00+01:00", None),
            ("1969-12-31T23:59:59Z", None),
            ("2023-11-14T22:13:20.123", None),
            ("2023-11-14T22:13:20.123+0700", None),
            ("2023-11-14T22:13:20.123+07:60", None),
            ("2023-11-14T22:13:20.123++7:00", None),
            ("2023-11-14T22:13:20é+07:00", None),
            ("é:00", None),
            ("Z", None),
            ("", None),
        ] {
            assert_eq!(UnixMs::parse_rfc3339(text), want, "{text}");
        }
        assert_eq!(UnixMs::parse_rfc3339(&at.rfc3339().to_string()), Some(at));
    }
}
