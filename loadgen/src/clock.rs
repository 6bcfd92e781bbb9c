//! The one reader of the clock, and the timer that wakes the loop.
//!
//! Times are microseconds of `CLOCK_MONOTONIC`, the same for every process of one machine, so that an intended send time written by one
//! process may be subtracted by another. The timer is a `timerfd` and not the poll's timeout: that one is rounded up to a whole
//! millisecond, and every publish would then be measured up to a millisecond late.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::time::{ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

/// Microseconds of the machine's monotonic clock.
pub fn now_us() -> u64 {
    let time = rustix::time::clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1_000
}

/// Makes the poll return at a given microsecond. Registered edge-triggered, so that its expirations never have to be read.
pub struct Alarm {
    fd: OwnedFd,
    set_at: u64,
}

impl Alarm {
    pub fn new() -> io::Result<Alarm> {
        let fd =
            rustix::time::timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        Ok(Alarm { fd, set_at: 0 })
    }

    pub fn raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// It has fired: setting it to the same time again must fire it again.
    pub fn fired(&mut self) {
        self.set_at = 0;
    }

    /// Fires at `at_us`; a time that has passed fires at once. Setting the time it is set to is free.
    pub fn set(&mut self, at_us: u64) -> io::Result<()> {
        if self.set_at == at_us {
            return Ok(());
        }
        self.set_at = at_us;
        let value = Timespec { tv_sec: (at_us / 1_000_000) as i64, tv_nsec: (at_us % 1_000_000) as i64 * 1_000 };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        rustix::time::timerfd_settime(&self.fd, TimerfdTimerFlags::ABSTIME, &once)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::unix::SourceFd;
    use mio::{Events, Interest, Poll, Token};

    #[test]
    fn a_time_that_has_passed_fires_each_time_it_is_set() {
        let mut alarm = Alarm::new().unwrap();
        let mut poll = Poll::new().unwrap();
        poll.registry().register(&mut SourceFd(&alarm.raw_fd()), Token(0), Interest::READABLE).unwrap();
        let mut events = Events::with_capacity(4);
        let past = now_us() - 5;
        for _ in 0..3 {
            alarm.set(past).unwrap();
            poll.poll(&mut events, None).unwrap();
            assert!(!events.is_empty());
            alarm.fired();
        }
    }
}
