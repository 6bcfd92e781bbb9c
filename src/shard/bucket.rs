//! Token buckets: so many at once, so many a second after that.

use crate::base::time::{Duration, Instant};

/// Starts full. 12 bytes, so that every session can have one.
#[derive(Clone, Copy, Debug)]
#[repr(C, packed(4))]
pub struct Bucket {
    /// Milliseconds since the process started; wraps after 49 days, which costs one bucket one refill.
    at_ms: u32,
    /// Thousandths of a token; negative is debt.
    level: i64,
}

const _: () = assert!(size_of::<Bucket>() == 12, "every session has one");

/// How a bucket answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Granted,
    /// Empty: refused, come back after this long.
    Refused(Duration),
    /// Asked again and again while empty, a whole burst over: a flood.
    Flood,
}

impl Bucket {
    pub fn new(now: Instant, burst: u32) -> Bucket {
        Bucket { at_ms: ms(now), level: i64::from(burst) * 1000 }
    }

    /// Takes `count` tokens. `rate` is a second's worth, 0 means no limit. What is refused is owed, so that a flood shows.
    pub fn take(&mut self, now: Instant, count: u32, rate: u32, burst: u32) -> Verdict {
        if rate == 0 {
            return Verdict::Granted;
        }
        let full = i64::from(burst.max(1)) * 1000;
        let passed = ms(now).wrapping_sub(self.at_ms);
        self.at_ms = ms(now);
        self.level = (self.level + i64::from(passed) * i64::from(rate)).min(full) - i64::from(count) * 1000;
        if self.level >= 0 {
            Verdict::Granted
        } else if self.level <= -full {
            self.level = -full;
            Verdict::Flood
        } else {
            Verdict::Refused(Duration::from_millis((-self.level).unsigned_abs().div_ceil(u64::from(rate))))
        }
    }
}

impl Bucket {
    /// Whether nobody could tell it from a new one.
    pub fn is_full(&self, now: Instant, rate: u32, burst: u32) -> bool {
        let passed = ms(now).wrapping_sub(self.at_ms);
        rate == 0 || self.level + i64::from(passed) * i64::from(rate) >= i64::from(burst.max(1)) * 1000
    }
}

fn ms(now: Instant) -> u32 {
    (now.0 / 1000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_grants_its_burst_then_its_rate() {
        let mut bucket = Bucket::new(Instant(0), 5);
        let mut at = |ms: u64| bucket.take(Instant(ms * 1000), 1, 10, 5);
        for _ in 0..5 {
            assert_eq!(at(0), Verdict::Granted);
        }
        assert_eq!(at(0), Verdict::Refused(Duration::from_millis(100)));
        assert_eq!(at(200), Verdict::Granted, "200 ms paid the debt and one more");
        assert_eq!(at(250), Verdict::Refused(Duration::from_millis(50)));
        for _ in 0..4 {
            assert!(matches!(at(250), Verdict::Refused(_) | Verdict::Flood));
        }
        assert_eq!(at(250), Verdict::Flood);
        assert_eq!(at(60_000), Verdict::Granted, "a minute later all is forgiven");
    }

    #[test]
    fn no_rate_is_no_limit() {
        let mut bucket = Bucket::new(Instant(0), 0);
        assert!((0..1000).all(|_| bucket.take(Instant(0), 9, 0, 0) == Verdict::Granted));
    }
}
