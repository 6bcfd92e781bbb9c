//! Floor 3: everything two threads share. Lanes of messages, gauges, and sessions counted by address; nothing else of one shard can be
//! seen by another.
//!
//! ```text
//!              to shard 0            to shard 1
//! shard 0          -              lane (0 -> 1)        a lane: one bounded queue for each (sender, receiver), made
//! shard 1     lane (1 -> 0)            -               when it is first used; what one sender sends one receiver
//! main        lane (m -> 0)       lane (m -> 1)        arrives in order
//! control     lane (c -> 0)       lane (c -> 1)
//! backplane   lane (b -> 0)       lane (b -> 1)
//!               waker 0              waker 1           a waker: one for each receiver, used once a turn
//!
//! every shard -> errands -> control                    one queue for each reader, bounded by number and by bytes
//! every shard -> errands -> backplane
//! ```
//!
//! Invariants: a sender is never blocked (a full lane gives the message back); a message is never lost between `try_send` and
//! `drain_into`; a receiver that registered its waker and then found its lanes empty is woken by the next `wake` after a send.

mod errand;

pub use errand::{Bounds, Errands, Load, Meter, Weigh};

use crate::base::{
    address::prefix,
    chance::Map,
    id::ShardId,
    limit::MESH_LANE_MAX,
    time::{Duration, Instant},
};
use crate::shard::{io::Ask, relay::Relay};
use ahash::RandomState;
use atomic_waker::AtomicWaker;
use crossbeam_queue::ArrayQueue;
use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::Waker,
};

/// Who sends: a shard, the thread that started them, the control plane, or the backplane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    Shard(ShardId),
    Main,
    Control,
    Backplane,
}

/// What the threads of one process share. `T` is what crosses between shards; this floor does not look into it.
pub struct Bridge<T> {
    receivers: Box<[Receiver<T>]>,
    pub gauges: Gauges,
    pub addresses: Addresses,
    /// The way to the control plane, where there is one.
    pub control: Option<Arc<Errands<Ask>>>,
    /// The way to the backplane, where there is one.
    pub backplane: Option<Arc<Errands<Relay>>>,
}

struct Receiver<T> {
    /// By sender; the last three are main's, the control plane's and the backplane's. Made at the first send: most pairs of a large node never talk.
    lanes: Box<[OnceLock<ArrayQueue<T>>]>,
    waker: AtomicWaker,
}

impl<T> Bridge<T> {
    /// `numbers` is the length of a row of [`Gauges`].
    pub fn new(shards: u8, numbers: usize, addresses: Addresses) -> Bridge<T> {
        let senders = usize::from(shards) + 3;
        let receiver =
            || Receiver { lanes: (0..senders).map(|_| OnceLock::new()).collect(), waker: AtomicWaker::new() };
        let receivers = (0..shards).map(|_| receiver()).collect();
        Bridge { receivers, gauges: Gauges::new(shards, numbers), addresses, control: None, backplane: None }
    }

    pub fn shards(&self) -> u8 {
        self.receivers.len() as u8
    }

    /// Puts a message into a lane, or gives it back when the lane holds [`MESH_LANE_MAX`]. The receiver does not wake before
    /// [`wake`](Self::wake).
    pub fn try_send(&self, from: Sender, to: ShardId, message: T) -> Result<(), T> {
        let index = match from {
            Sender::Shard(shard) => shard.index(),
            Sender::Main => self.receivers.len(),
            Sender::Control => self.receivers.len() + 1,
            Sender::Backplane => self.receivers.len() + 2,
        };
        let lane = &self.receivers[to.index()].lanes[index];
        lane.get_or_init(|| ArrayQueue::new(MESH_LANE_MAX)).push(message)
    }

    /// Wakes the receiver if it sleeps: once for all messages of a turn, because waking a sleeping thread costs far more (40 us) than a
    /// message does (0.2 us).
    pub fn wake(&self, to: ShardId) {
        self.receivers[to.index()].waker.wake();
    }

    /// Hands over what waits for `shard`, each sender's messages in their order. Takes at most one lane's length from each sender, so
    /// that a turn ends while the senders keep sending.
    pub fn drain_into(&self, shard: ShardId, mut take: impl FnMut(T)) {
        for lane in &self.receivers[shard.index()].lanes {
            let Some(lane) = lane.get() else { continue };
            for _ in 0..lane.len() {
                let Some(message) = lane.pop() else { break };
                take(message);
            }
        }
    }

    /// Whether nothing waits for `shard`. Call [`register`](Self::register) first.
    pub fn is_empty(&self, shard: ShardId) -> bool {
        self.receivers[shard.index()].lanes.iter().all(|lane| lane.get().is_none_or(ArrayQueue::is_empty))
    }

    /// From now on a [`wake`](Self::wake) wakes this waker.
    pub fn register(&self, shard: ShardId, waker: &Waker) {
        self.receivers[shard.index()].waker.register(waker);
    }
}

/// A row of numbers for each shard, written by that shard once a turn and readable by every thread. The numbers of a row need not be of
/// one moment: they are for people and scrapers.
pub struct Gauges {
    rows: Box<[Row]>,
}

/// On cache lines of its own (128: x86 fetches lines in pairs), so that writing does not slow the neighbour.
#[repr(align(128))]
struct Row {
    numbers: Box<[AtomicU64]>,
}

impl Gauges {
    fn new(shards: u8, numbers: usize) -> Gauges {
        // Rounded up to whole lines: the boxes themselves must not share one.
        let row = || Row { numbers: (0..numbers.next_multiple_of(16)).map(|_| AtomicU64::new(0)).collect() };
        Gauges { rows: (0..shards).map(|_| row()).collect() }
    }

    /// Stores the numbers of a shard.
    pub fn publish(&self, shard: ShardId, numbers: impl IntoIterator<Item = u64>) {
        for (slot, number) in self.rows[shard.index()].numbers.iter().zip(numbers) {
            // Only its own shard writes, so a plain look avoids dirtying a line that other threads read.
            if slot.load(Ordering::Relaxed) != number {
                slot.store(number, Ordering::Relaxed);
            }
        }
    }

    pub fn get(&self, shard: ShardId, number: usize) -> u64 {
        self.rows[shard.index()].numbers[number].load(Ordering::Relaxed)
    }

    /// One number over all shards.
    pub fn sum(&self, number: usize) -> u64 {
        self.rows.iter().map(|row| row.numbers[number].load(Ordering::Relaxed)).sum()
    }

    pub fn shards(&self) -> impl Iterator<Item = ShardId> + '_ {
        (0..self.rows.len()).map(|index| ShardId(index as u8))
    }
}

/// Sessions and new connections by address, exact over all shards.
///
/// The one lock of the server: a limit for an address is a promise about the whole node, and connections of one address land on any
/// shard. It is held for one look into a map, only when a session opens or closes, and not at all when no limit is set.
pub struct Addresses {
    /// 0: no limit.
    sessions_max: u32,
    /// New connections in a second, and at once; 0: no limit.
    handshakes_per_second: u32,
    hasher: RandomState,
    slices: [Mutex<Slice>; 16],
}

struct Slice {
    rows: Map<IpAddr, Address>,
    /// Rows left by the last sweep: the next one comes when there are twice as many.
    swept: usize,
}

struct Address {
    sessions: u32,
    /// Thousandths of a handshake.
    tokens: u64,
    filled: Instant,
}

impl Addresses {
    pub fn new(sessions_max: u32, handshakes_per_second: u32, hasher: RandomState) -> Addresses {
        let slices = std::array::from_fn(|_| Mutex::new(Slice { rows: Map::with_hasher(hasher.clone()), swept: 64 }));
        Addresses { sessions_max, handshakes_per_second, hasher, slices }
    }

    /// Whether one more connection from this address is within its rate; counts it.
    pub fn try_connect(&self, address: IpAddr, now: Instant) -> bool {
        if self.handshakes_per_second == 0 {
            return true;
        }
        let full = u64::from(self.handshakes_per_second) * 1000;
        let key = prefix(address);
        let mut slice = self.slice(key);
        slice.sweep(full, now);
        let row = slice.rows.entry(key).or_insert(Address { sessions: 0, tokens: full, filled: now });
        row.fill(full, now);
        let allowed = row.tokens >= 1000;
        if allowed {
            row.tokens -= 1000;
        }
        allowed
    }

    /// Counts one more session of this address. False: there are as many as may be, and it was not counted.
    pub fn try_open(&self, address: IpAddr, now: Instant) -> bool {
        if self.sessions_max == 0 {
            return true;
        }
        let key = prefix(address);
        let tokens = u64::from(self.handshakes_per_second) * 1000;
        let mut slice = self.slice(key);
        let row = slice.rows.entry(key).or_insert(Address { sessions: 0, tokens, filled: now });
        let allowed = row.sessions < self.sessions_max;
        if allowed {
            row.sessions += 1;
        }
        allowed
    }

    /// A session that [`try_open`](Self::try_open) counted is over.
    pub fn release(&self, address: IpAddr) {
        if self.sessions_max == 0 {
            return;
        }
        let key = prefix(address);
        let mut slice = self.slice(key);
        if let Some(row) = slice.rows.get_mut(&key) {
            debug_assert!(row.sessions > 0, "each session is released once");
            row.sessions = row.sessions.saturating_sub(1);
            // With a rate to keep, the row stays until its bucket is full again.
            if row.sessions == 0 && self.handshakes_per_second == 0 {
                slice.rows.remove(&key);
            }
        }
    }

    fn slice(&self, key: IpAddr) -> MutexGuard<'_, Slice> {
        let index = self.hasher.hash_one(key) as usize % self.slices.len();
        // A poisoned lock cannot be seen: a shard's panic ends the process.
        self.slices[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slice {
    /// Forgets addresses that nothing is known about any more; amortised, so that memory follows the addresses of the last second.
    fn sweep(&mut self, full: u64, now: Instant) {
        if self.rows.len() < 2 * self.swept {
            return;
        }
        self.rows.retain(|_, row| {
            row.fill(full, now);
            row.sessions > 0 || row.tokens < full
        });
        self.swept = self.rows.len().max(64);
    }
}

impl Address {
    fn fill(&mut self, full: u64, now: Instant) {
        // `full` is one second's worth; a clock reading of another shard may be a little older than the row.
        let since = now.since(self.filled).min(Duration::from_secs(1)).as_micros() as u64;
        let add = full * since / 1_000_000;
        if add > 0 {
            self.tokens = (self.tokens + add).min(full);
            self.filled = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(sessions: u32, rate: u32) -> Addresses {
        Addresses::new(sessions, rate, RandomState::with_seeds(1, 2, 3, 4))
    }

    #[test]
    fn a_lane_keeps_order_and_gives_back_what_does_not_fit() {
        let bridge: Bridge<usize> = Bridge::new(2, 3, addresses(0, 0));
        let (here, there) = (Sender::Shard(ShardId(0)), ShardId(1));
        for n in 0..MESH_LANE_MAX {
            assert_eq!(bridge.try_send(here, there, n), Ok(()));
        }
        assert_eq!(bridge.try_send(here, there, 7), Err(7), "full");
        assert_eq!(bridge.try_send(Sender::Main, there, 9), Ok(()), "another lane is not");
        assert!(bridge.is_empty(ShardId(0)) && !bridge.is_empty(there));
        let mut got = Vec::new();
        bridge.drain_into(there, |n| got.push(n));
        assert_eq!(got, (0..MESH_LANE_MAX).chain([9]).collect::<Vec<_>>());
        assert!(bridge.is_empty(there));
    }

    /// A receiver that looks after it registered never sleeps on a message.
    #[test]
    fn no_message_is_slept_on() {
        struct Unpark(std::thread::Thread);
        impl std::task::Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        const MESSAGES: usize = 50_000;
        let bridge: Arc<Bridge<usize>> = Arc::new(Bridge::new(1, 1, addresses(0, 0)));
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let sender = {
            let bridge = bridge.clone();
            std::thread::spawn(move || {
                for n in 0..MESSAGES {
                    while bridge.try_send(Sender::Main, ShardId(0), n).is_err() {
                        std::thread::yield_now();
                    }
                    bridge.wake(ShardId(0));
                }
            })
        };
        let mut next = 0;
        while next < MESSAGES {
            bridge.register(ShardId(0), &waker);
            if bridge.is_empty(ShardId(0)) {
                std::thread::park();
            }
            bridge.drain_into(ShardId(0), |n| {
                assert_eq!(n, next);
                next += 1;
            });
        }
        sender.join().unwrap();
    }

    #[test]
    fn gauges_are_summed_over_shards() {
        let bridge: Bridge<()> = Bridge::new(3, 2, addresses(0, 0));
        for shard in 0..3 {
            bridge.gauges.publish(ShardId(shard), [u64::from(shard), 10]);
        }
        assert_eq!((bridge.gauges.sum(0), bridge.gauges.sum(1), bridge.gauges.get(ShardId(2), 0)), (3, 30, 2));
    }

    #[test]
    fn an_address_has_so_many_sessions_and_no_more() {
        let addresses = addresses(2, 0);
        let (a, b) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let now = Instant(0);
        assert!(addresses.try_open(a, now) && addresses.try_open(a, now) && !addresses.try_open(a, now));
        assert!(addresses.try_open(b, now), "another address");
        assert!(!addresses.try_open("::ffff:10.0.0.1".parse().unwrap(), now), "the same in IPv6 clothes");
        addresses.release(a);
        assert!(addresses.try_open(a, now) && !addresses.try_open(a, now));
        addresses.release(a);
        addresses.release(a);
        addresses.release(b);
        assert!(addresses.slices.iter().all(|slice| slice.lock().unwrap().rows.is_empty()), "nothing is kept");
        let (near, far) = ("2001:db8::1".parse().unwrap(), "2001:db8:0:1::1".parse().unwrap());
        assert!(addresses.try_open(near, now) && addresses.try_open("2001:db8::2".parse().unwrap(), now));
        assert!(!addresses.try_open(near, now), "one /64 is one address");
        assert!(addresses.try_open(far, now));
    }

    #[test]
    fn new_connections_keep_a_rate() {
        let addresses = addresses(0, 10);
        let a = "10.0.0.1".parse().unwrap();
        let count = |at: u64| (0..50).filter(|_| addresses.try_connect(a, Instant(at))).count();
        assert_eq!(count(0), 10, "a second's worth at once");
        assert_eq!(count(50_000), 0);
        assert_eq!(count(150_000), 1);
        assert_eq!(count(10_000_000), 10);
        assert_eq!(count(9_999_999), 0, "a reading of the past refills nothing");
    }

    #[test]
    fn memory_follows_the_addresses_of_the_last_second() {
        let addresses = addresses(0, 5);
        for n in 0..200_000u32 {
            addresses.try_connect(IpAddr::V4(n.into()), Instant(u64::from(n) * 1000));
        }
        let rows: usize = addresses.slices.iter().map(|slice| slice.lock().unwrap().rows.len()).sum();
        assert!(rows <= 16 * 2 * 128 + 1000, "{rows}");
    }
}
