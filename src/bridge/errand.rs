//! What shards ask of a thread that does what is slow: the control plane, the backplane. One queue for all shards, because it has one reader.
//!
//! Invariants: bounded in number and, until the reader is [`done`](Errands::done) with them, in bytes; a shard is never blocked.

use crate::base::id::ShardId;
use crate::shard::{io::Ask, relay::Relay};
use atomic_waker::AtomicWaker;
use crossbeam_queue::ArrayQueue;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

/// What counts against a bound in bytes.
pub trait Weigh {
    fn bytes(&self) -> usize;
}

impl Weigh for Ask {
    fn bytes(&self) -> usize {
        Ask::bytes(self)
    }
}

impl Weigh for Relay {
    fn bytes(&self) -> usize {
        Relay::bytes(self)
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Asks in the queue.
    pub count: usize,
    /// Bytes in the queue and with the reader.
    pub bytes: usize,
}

pub struct Errands<T> {
    queue: ArrayQueue<(ShardId, T)>,
    waker: AtomicWaker,
    bounds: Bounds,
    bytes: AtomicUsize,
    /// Whether the reader can do now what it is asked: for who shows it. It is asked in any case, and answers.
    up: AtomicBool,
    /// What the reader counts, for who shows numbers: names without prefix, and values.
    names: &'static [&'static str],
    numbers: Box<[AtomicU64]>,
}

impl<T: Weigh> Errands<T> {
    pub fn new(names: &'static [&'static str], bounds: Bounds) -> Errands<T> {
        Errands {
            queue: ArrayQueue::new(bounds.count),
            waker: AtomicWaker::new(),
            bounds,
            bytes: AtomicUsize::new(0),
            up: AtomicBool::new(true),
            names,
            numbers: names.iter().map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Puts an ask into the queue and wakes its reader, or gives it back when there is no room.
    pub fn try_send(&self, from: ShardId, ask: T) -> Result<(), T> {
        let bytes = ask.bytes();
        // Counted first, so that two senders at the bound cannot both be let in.
        if self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > self.bounds.bytes {
            self.done(bytes);
            return Err(ask);
        }
        self.queue.push((from, ask)).map_err(|(_, ask)| {
            self.done(bytes);
            ask
        })?;
        self.waker.wake();
        Ok(())
    }

    /// The next ask; pending while there is none. For one reader.
    pub fn poll_next(&self, context: &mut Context<'_>) -> Poll<(ShardId, T)> {
        if let Some(next) = self.queue.pop() {
            return Poll::Ready(next);
        }
        // Registered before the second look: who sends after it wakes.
        self.waker.register(context.waker());
        self.queue.pop().map_or(Poll::Pending, Poll::Ready)
    }

    /// The next ask, if there is one now.
    pub fn try_next(&self) -> Option<(ShardId, T)> {
        self.queue.pop()
    }

    /// The reader holds so many bytes less.
    pub fn done(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes in the queue and with the reader.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    pub fn set_up(&self, up: bool) {
        self.up.store(up, Ordering::Relaxed);
    }

    /// Adds to one of the reader's numbers, by its place among the names.
    pub fn count(&self, number: usize) {
        self.add(number, 1);
    }

    pub fn add(&self, number: usize, by: usize) {
        self.numbers[number].fetch_add(by as u64, Ordering::Relaxed);
    }

    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.names.iter().zip(&self.numbers).map(|(name, number)| (*name, number.load(Ordering::Relaxed)))
    }
}

/// Bytes under way to one receiver: counted by who sends, given back when the message is dropped, wherever that is.
#[derive(Clone, Debug, Default)]
pub struct Meter(Arc<AtomicUsize>);

impl Meter {
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    pub fn load(&self, bytes: usize) -> Load {
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Load { meter: self.clone(), bytes }
    }
}

/// A message's bytes on a [`Meter`].
#[derive(Debug)]
pub struct Load {
    meter: Meter,
    bytes: usize,
}

impl Drop for Load {
    fn drop(&mut self) {
        self.meter.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    #[test]
    fn errands_are_bounded_by_number_and_by_bytes() {
        const BOUNDS: Bounds = Bounds { count: 64, bytes: 1 << 20 };
        let errands = Errands::new(&["a", "b"], BOUNDS);
        let ask = |bytes: usize| Ask::Notify { hook: 0, id: "".into(), body: "x".repeat(bytes).into() };
        let mut context = Context::from_waker(Waker::noop());
        assert!(errands.poll_next(&mut context).is_pending());
        let sent = (0..2 * BOUNDS.count).take_while(|_| errands.try_send(ShardId(1), ask(1)).is_ok()).count();
        assert_eq!(sent, BOUNDS.count);
        let mut taken = 0;
        while let Poll::Ready((from, ask)) = errands.poll_next(&mut context) {
            assert_eq!(from, ShardId(1));
            errands.done(ask.bytes());
            taken += 1;
        }
        assert_eq!((taken, errands.bytes()), (sent, 0), "what was refused counts for nothing");
        let half = BOUNDS.bytes / 2;
        assert!(errands.try_send(ShardId(0), ask(half)).is_ok());
        assert!(errands.try_send(ShardId(0), ask(half)).is_err(), "with its own size it is over the half");
        let Some((_, ask_of_half)) = errands.try_next() else { panic!("it was sent") };
        assert!(errands.try_send(ShardId(0), ask(half)).is_err(), "taken is not done");
        errands.done(ask_of_half.bytes());
        assert!(errands.try_send(ShardId(0), ask(half)).is_ok());
        errands.count(1);
        assert_eq!(errands.counts().collect::<Vec<_>>(), [("a", 0), ("b", 1)]);
        assert!(errands.is_up());
        errands.set_up(false);
        assert!(!errands.is_up());
    }

    #[test]
    fn a_load_is_given_back_when_it_is_dropped() {
        let meter = Meter::default();
        let (a, b) = (meter.load(3), meter.load(4));
        assert_eq!(meter.bytes(), 7);
        drop(a);
        assert_eq!(meter.bytes(), 4);
        drop(b);
        assert_eq!(meter.bytes(), 0);
    }
}
