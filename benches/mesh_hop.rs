//! What it costs to pass messages between two shards: a lane each way and one wake a turn.
//!
//! Two threads answer each other: one sends a burst through its lane and wakes the other, which drains it and sends one message back. A wake
//! of a sleeping thread is the system's and costs microseconds; a message costs nanoseconds: the more a turn puts into a lane, the less a
//! message costs. Time is the CPU's of both threads; `wall ns` is what the burst took, sleep and wake included.
//! Peer: `std::sync::mpsc`, bounded, whose every send looks for a sleeper. `ratio` is against a burst of one through a lane.
//! Today (November 2026): 4.0 us with one message a wake, 0.27 with 16, 0.04 with 256; the peer takes twice as long.

#[allow(dead_code, reason = "each bench uses its part")]
mod measure;

use measure::{Bench, Of};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
    mpsc::sync_channel,
};
use std::task::{Wake, Waker};
use std::thread::{JoinHandle, Thread};
use tenantcast::base::{
    chance::Chance,
    id::{NodeId, ShardId, Sid},
    limit::MESH_LANE_MAX,
};
use tenantcast::bridge::{Addresses, Bridge, Sender};
use tenantcast::data_plane::MeshMessage;
use tenantcast::shard::io::Parcel;

const BURSTS: [usize; 4] = [1, 16, 256, MESH_LANE_MAX];
const HERE: ShardId = ShardId(0);
const THERE: ShardId = ShardId(1);

fn main() {
    let bench = Bench::from_arguments();
    let sid = Sid::new(NodeId(0), HERE, &mut Chance::new([1; 32]));
    bench.group("bursts to another thread, one message back", "message", |group| {
        group.time_of(Of::Process);
        for burst in BURSTS {
            let mut pair = Pair::start(burst, sid);
            group.add(format!("lane, {burst} a wake"), burst, move || pair.burst());
        }
        for burst in BURSTS {
            let (send, receive) = sync_channel::<MeshMessage>(MESH_LANE_MAX);
            let (answer, answers) = sync_channel::<MeshMessage>(MESH_LANE_MAX);
            // It ends when `send` is dropped with the group.
            std::thread::spawn(move || {
                while let Ok(_first) = receive.recv() {
                    (1..burst).for_each(|_| drop(receive.recv()));
                    if answer.send(message(sid)).is_err() {
                        return;
                    }
                }
            });
            group.add(format!("std::sync::mpsc, {burst} a turn"), burst, move || {
                (0..burst).for_each(|_| send.send(message(sid)).expect("its thread listens"));
                drop(answers.recv());
            });
        }
    });
}

/// Nothing is allocated for it: what a burst costs is the lane's doing.
fn message(sid: Sid) -> MeshMessage {
    MeshMessage::Parcel(Parcel::Forget { sid })
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// This thread is one shard, another thread the other.
struct Pair {
    bridge: Arc<Bridge<MeshMessage>>,
    burst: usize,
    sid: Sid,
    waker: Waker,
    over: Arc<AtomicBool>,
    other: Option<JoinHandle<()>>,
}

impl Pair {
    fn start(burst: usize, sid: Sid) -> Pair {
        let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
        let bridge = Arc::new(Bridge::new(2, 1, Addresses::new(0, 0, hasher)));
        let over = Arc::new(AtomicBool::new(false));
        let (theirs, stop) = (bridge.clone(), over.clone());
        let other = std::thread::spawn(move || {
            let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
            while receive(&theirs, THERE, burst, &waker, &stop) {
                send(&theirs, THERE, HERE, 1, sid);
            }
        });
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        Pair { bridge, burst, sid, waker, over, other: Some(other) }
    }

    fn burst(&mut self) {
        send(&self.bridge, HERE, THERE, self.burst, self.sid);
        receive(&self.bridge, HERE, 1, &self.waker, &self.over);
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        self.bridge.wake(THERE);
        if let Some(other) = self.other.take() {
            let _ = other.join();
        }
    }
}

fn send(bridge: &Bridge<MeshMessage>, from: ShardId, to: ShardId, count: usize, sid: Sid) {
    for _ in 0..count {
        assert!(bridge.try_send(Sender::Shard(from), to, message(sid)).is_ok(), "a burst fits into a lane");
    }
    bridge.wake(to);
}

/// Sleeps until `count` messages have come; false when it is over.
fn receive(bridge: &Bridge<MeshMessage>, at: ShardId, count: usize, waker: &Waker, over: &AtomicBool) -> bool {
    let mut got = 0;
    while got < count {
        bridge.register(at, waker);
        if over.load(Ordering::Acquire) {
            return false;
        }
        if bridge.is_empty(at) {
            std::thread::park();
        }
        bridge.drain_into(at, |_| got += 1);
    }
    true
}
