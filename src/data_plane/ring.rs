//! The shard's own io_uring: readiness of every socket, all writes of a turn in one system call, and the shard's sleep.
//!
//! glommio's streams make one system call for each read and write, arm a poll for each wait, need a task each, and its executor makes half a
//! dozen system calls each time it sleeps. Here a connection has one multishot poll for its whole life, a turn's writes are submitted
//! together, and sleeping is the call that also submits and hands over what has happened.
//!
//! ```text
//!  poll(key)       one multishot POLL: an event each time bytes come or the peer ends; nothing is read by the kernel for us, so a
//!                  connection can move to another shard at any time without a byte being lost
//!  poll_room(key)  one POLL: an event once a full socket takes bytes again
//!  retire(key)     the poll goes, then the descriptor is closed, both with the next submission
//!  write(..)       up to WRITES_MAX sends, done when `submit_writes` returns: MSG_DONTWAIT never waits and never needs another thread
//! ```
//!
//! Invariants: the bytes of a write are only read until [`Ring::submit_writes`] returns; an event of a connection that is gone names an old
//! generation and is dropped by whoever looks it up; when the completion queue overflows, a poll ends and its event says so
//! ([`Event::Input::rearm`]).

use crate::base::{id::ConnKey, slab::Key, time::Duration};
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use std::{io, os::fd::RawFd};

/// Sends submitted at once. Loopback's receive queue holds 1,000 packets (`netdev_max_backlog`): one submission must not fill it.
pub const WRITES_MAX: usize = 256;
/// Completions the queue holds: a burst of this many sockets that become readable needs no second look.
const COMPLETIONS_MAX: u32 = 16 * 1024;
const SUBMISSIONS_MAX: u32 = 1024;
/// Completions that come of one call, at least, if there are so many.
const HANDED_AT_ONCE: usize = 20;
/// Events of one turn; what is beyond is of the next.
const EVENTS_MAX: usize = 4096;
/// No deadline.
const FOREVER: Duration = Duration::from_secs(3600);
/// Events after which a gathering sleep ends before its time.
const GATHERED_MAX: usize = 32;

/// Kinds of operation, in the top three bits of what the kernel hands back.
const KIND_SHIFT: u32 = 61;
const INPUT: u64 = 0;
const ROOM: u64 = 1;
const LISTENER: u64 = 2;
const WRITE: u64 = 3;
const BELL: u64 = 4;
const QUIET: u64 = 5;
/// Bits of a generation that fit between kind and slot: a stale event is taken for a new one after 536 million connections in one slot
/// while it waits, which is a turn.
const GENERATION_MASK: u32 = (1 << 29) - 1;

pub struct Ring {
    ring: IoUring,
    /// Writes queued.
    writes: usize,
    /// Their results, by the order they were queued in.
    results: Box<[i32]>,
    /// Events that came while writes were submitted.
    events: Vec<Event>,
    bell: RawFd,
}

#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// A connection has something to read, or has ended.
    Input { slot: Slot, ended: bool, rearm: bool },
    /// A connection takes bytes again, or has failed.
    Room { slot: Slot },
    /// Somebody wants to connect to this listener.
    Listener { index: u32, rearm: bool },
}

/// A connection as an event names it.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    pub index: u32,
    generation: u32,
}

impl Slot {
    /// Whether the connection that is at the slot now is the one meant.
    pub fn is(self, key: ConnKey) -> bool {
        self.index == key.index() && self.generation == key.generation() & GENERATION_MASK
    }
}

impl Ring {
    pub fn new() -> io::Result<Ring> {
        // Completions are made when this thread asks for them: no event interrupts a turn or wakes the shard before its time. Kernels before
        // 6.1 lack that and do with less.
        let mut builder = IoUring::builder();
        builder.setup_cqsize(COMPLETIONS_MAX).setup_clamp().setup_submit_all();
        let plain = builder.clone();
        builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
        let ring = match builder.build(SUBMISSIONS_MAX) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => plain.build(SUBMISSIONS_MAX)?,
            built => built?,
        };
        Ok(Ring { ring, writes: 0, results: [0; WRITES_MAX].into(), events: Vec::new(), bell: -1 })
    }

    /// Ends a [`sleep`](Self::sleep) whenever the bell is rung.
    pub fn poll_bell(&mut self, fd: RawFd) {
        self.bell = fd;
        let poll = opcode::PollAdd::new(types::Fd(fd), libc::POLLIN as u32).multi(true);
        self.push(poll.build().user_data(BELL << KIND_SHIFT));
    }

    /// Reports whenever bytes come to the connection, or its peer ends.
    pub fn poll(&mut self, key: ConnKey, fd: RawFd) {
        let flags = (libc::POLLIN | libc::POLLRDHUP) as u32;
        self.push(opcode::PollAdd::new(types::Fd(fd), flags).multi(true).build().user_data(data(INPUT, key)));
    }

    /// Reports once when the connection takes bytes.
    pub fn poll_room(&mut self, key: ConnKey, fd: RawFd) {
        self.push(opcode::PollAdd::new(types::Fd(fd), libc::POLLOUT as u32).build().user_data(data(ROOM, key)));
    }

    pub fn poll_listener(&mut self, index: u32, fd: RawFd) {
        let poll = opcode::PollAdd::new(types::Fd(fd), libc::POLLIN as u32).multi(true);
        self.push(poll.build().user_data(LISTENER << KIND_SHIFT | u64::from(index)));
    }

    /// Reports nothing of this connection any more.
    pub fn forget(&mut self, key: ConnKey, blocked: bool) {
        self.cancel(data(INPUT, key));
        if blocked {
            self.cancel(data(ROOM, key));
        }
    }

    pub fn forget_listener(&mut self, index: u32) {
        self.cancel(LISTENER << KIND_SHIFT | u64::from(index));
    }

    /// Closes a descriptor after what was said of it before: a poll that still stands would keep the socket open.
    pub fn close(&mut self, fd: RawFd) {
        self.push(opcode::Close::new(types::Fd(fd)).build().user_data(QUIET << KIND_SHIFT));
    }

    /// Whether another write fits before [`submit_writes`](Self::submit_writes).
    pub fn is_full(&self) -> bool {
        self.writes == WRITES_MAX
    }

    /// Queues a send; its result stands at the position it was queued at.
    ///
    // SAFETY: what the caller has to keep to stands below.
    /// # Safety
    /// `bytes` stay where they are, unchanged, until [`submit_writes`](Self::submit_writes) returns.
    pub unsafe fn write(&mut self, fd: RawFd, bytes: *const [u8]) {
        const FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        debug_assert!(self.writes < WRITES_MAX);
        let send = opcode::Send::new(types::Fd(fd), bytes.cast(), bytes.len().min(u32::MAX as usize) as u32);
        self.results[self.writes] = -libc::EIO;
        self.push(send.flags(FLAGS).build().user_data(WRITE << KIND_SHIFT | self.writes as u64));
        self.writes += 1;
    }

    /// Submits what was queued. Afterwards `results` holds, for each write, the bytes taken or a negative error number.
    pub fn submit_writes(&mut self, results: &mut Vec<i32>) {
        let count = std::mem::take(&mut self.writes);
        let mut left = count;
        // One round, unless the kernel had no memory for a request: then what it did not take is submitted again.
        while left > 0 {
            self.submit();
            left -= self.collect().min(left);
        }
        results.clear();
        results.extend_from_slice(&self.results[..count]);
    }

    /// Submits what was queued and takes what has happened into `events`.
    pub fn turn(&mut self, events: &mut Vec<Event>) {
        if self.wants_submit() {
            self.submit();
        }
        self.collect();
        // Since 6.13 the kernel makes at most 20 completions at a time.
        let mut before = 0;
        while self.events.len() >= before + HANDED_AT_ONCE && self.events.len() < EVENTS_MAX {
            before = self.events.len();
            self.enter(1, types::SubmitArgs::new().timespec(&types::Timespec::new()));
            self.collect();
        }
        events.append(&mut self.events);
    }

    /// Submits what was queued and sleeps until something happens, at most so long; `None`: however long it takes. What happens within
    /// `gather` from now is gathered, unless it is [`GATHERED_MAX`] events before: a shard that was idle for longer wakes at the first
    /// event, one that is busy takes a turn for many (kernels before 6.12 do not gather).
    pub fn sleep(&mut self, at_most: Option<Duration>, gather: Duration) {
        let at_most = types::Timespec::from(at_most.unwrap_or(FOREVER));
        let args = types::SubmitArgs::new().timespec(&at_most);
        if gather.is_zero() || !self.ring.params().is_feature_min_timeout() {
            self.enter(1, args);
        } else {
            self.enter(GATHERED_MAX, args.min_wait_usec(gather.as_micros() as u32));
        }
    }

    fn enter(&self, events: usize, args: types::SubmitArgs<'_, '_>) {
        let Err(error) = self.ring.submitter().submit_with_args(events, &args) else { return };
        match error.raw_os_error() {
            // Time is over; a signal; or completions to be taken first, which the next turn does.
            Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => {}
            _ => panic!("io_uring does not wait: {error}"),
        }
    }

    /// Whether something has happened, or something waits to be submitted.
    pub fn has_work(&mut self) -> bool {
        self.wants_submit() || !self.events.is_empty() || !self.ring.completion().is_empty()
    }

    fn wants_submit(&mut self) -> bool {
        let queue = self.ring.submission();
        !queue.is_empty() || queue.taskrun() || queue.cq_overflow()
    }

    /// # Panics
    /// When the kernel takes no submissions at all: a shard without its ring has nothing to serve. No peer can bring that about.
    fn submit(&mut self) {
        loop {
            match self.ring.submit() {
                Ok(_) => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The kernel wants its completions taken first, or has no memory at this moment.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EAGAIN)) => {
                    self.collect();
                }
                Err(error) => panic!("io_uring takes no submissions: {error}"),
            }
        }
    }

    /// Ends a poll. POLL_REMOVE would not do: it gives up (`EALREADY`) on one whose event has just come, which then stands for ever and keeps
    /// a socket open that was closed here.
    fn cancel(&mut self, of: u64) {
        self.push(opcode::AsyncCancel::new(of).build().user_data(QUIET << KIND_SHIFT));
    }

    fn push(&mut self, entry: squeue::Entry) {
        // SAFETY: polls, removals and closes name descriptors only; the bytes of a send are its caller's to keep.
        while unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.submit();
        }
    }

    /// Takes completions; how many of them were writes.
    fn collect(&mut self) -> usize {
        let (mut writes, mut rearm_bell) = (0, false);
        for entry in self.ring.completion() {
            let (data, result) = (entry.user_data(), entry.result());
            let slot = Slot { index: data as u32, generation: (data >> 32) as u32 & GENERATION_MASK };
            let rearm = !cqueue::more(entry.flags());
            match data >> KIND_SHIFT {
                WRITE => {
                    self.results[data as u32 as usize] = result;
                    writes += 1;
                }
                // Told to forget it.
                _ if result == -libc::ECANCELED => {}
                INPUT => {
                    const ENDED: i32 = (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) as i32;
                    let ended = result < 0 || result & ENDED != 0;
                    self.events.push(Event::Input { slot, ended, rearm });
                }
                ROOM => self.events.push(Event::Room { slot }),
                BELL if rearm => rearm_bell = true,
                LISTENER => self.events.push(Event::Listener { index: data as u32, rearm }),
                _ => {}
            }
        }
        if rearm_bell {
            self.poll_bell(self.bell);
        }
        writes
    }
}

fn data(kind: u64, key: ConnKey) -> u64 {
    kind << KIND_SHIFT | u64::from(key.generation() & GENERATION_MASK) << 32 | u64::from(key.index())
}
