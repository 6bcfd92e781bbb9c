//! Floor 4: the data plane, the only I/O of the data path. It turns bytes into the shard's inputs and its outputs into bytes, and decides
//! nothing else.
//!
//! ```text
//!  accept --- a task for each connection --------.          one pump a shard
//!             bytes -> conn.feed -> inbox  ------+------>   lanes, inbox -> Shard::handle -> outputs
//!             waits for room to write  <---------+-------   one send for each connection that has something
//!                                                '------>   handoff, mesh -> lanes of other shards
//! ```
//!
//! Invariants: the pump owns the shard by value, everyone else only appends to the inbox; nobody holds a borrow of [`State`] across an
//! await; no task is ever cancelled (glommio leaks it): tasks end by themselves when their connection's entry is gone; a descriptor is
//! closed after its entry was removed, so nothing is ever written to a descriptor that means another connection.

mod accept;
mod answer;
mod conn;
pub mod count;
mod handoff;
mod inbox;
mod mesh;
mod pump;
mod request;
mod route;
mod socket;

pub use accept::{listen, probe};
pub use handoff::Moved;
pub use mesh::{Control, MeshMessage};
pub use pump::Ended;

use crate::base::{
    id::{ConnKey, ShardId},
    limit::Limits,
    slab::Slab,
    time::{Clock, Duration, Instant, Now},
    wheel::Wheel,
};
use crate::bridge::Bridge;
use crate::shard::Shard;
use crate::wire::{api::Access, http::Cors};
use conn::{Conn, World};
use count::PlaneCounts;
use inbox::Inbox;
use std::{
    cell::{Cell, RefCell},
    net::TcpListener,
    rc::Rc,
    sync::Arc,
    task::Waker,
};

/// What the data plane is told at start; the same for every shard.
pub struct Settings {
    pub limits: Limits,
    /// Where Socket.IO is, without a slash at the end: `/socket.io`.
    pub socket_path: Box<str>,
    /// Whether `/engine.io/` is served: Engine.IO without Socket.IO.
    pub raw_engine: bool,
    /// Whether any other path takes WebSockets with no protocol in them.
    pub raw_websocket: bool,
    /// HTML at `/` and `/demo`; 404 without.
    pub demo: Option<Box<[u8]>>,
    pub cors: Cors,
    /// Who may use `/api/v1` and `/metrics`.
    pub access: Access,
}

impl Settings {
    /// When a request that begins now must be whole.
    fn handshake_deadline(&self, now: Instant) -> Instant {
        match self.limits.handshake_ms {
            0 => Instant::NEVER,
            ms => now + Duration::from_millis(ms.into()),
        }
    }

    #[cfg(test)]
    fn for_tests() -> Settings {
        Settings {
            limits: Limits::default(),
            socket_path: "/socket.io".into(),
            raw_engine: false,
            raw_websocket: false,
            demo: None,
            cors: Cors::Off,
            access: Default::default(),
        }
    }
}

/// What one shard's thread needs to start.
pub struct Start {
    pub id: ShardId,
    pub shard: Shard,
    pub settings: Arc<Settings>,
    pub bridge: Arc<Bridge<MeshMessage>>,
    pub clock: Arc<dyn Clock + Send + Sync>,
    pub public: TcpListener,
    /// The admin port's, on one shard.
    pub admin: Option<TcpListener>,
}

/// Runs one shard until it is told to stop or has drained. Call inside a glommio executor; `ready` is called when it accepts.
pub async fn run(start: Start, ready: impl FnOnce()) -> Ended {
    let plane = Rc::new(Plane {
        id: start.id,
        settings: start.settings,
        bridge: start.bridge,
        clock: start.clock,
        state: RefCell::default(),
        scratch: RefCell::new(vec![0; SCRATCH_BYTES].into()),
        pump: Cell::new(None),
    });
    accept::spawn(plane.clone(), start.public, false);
    if let Some(admin) = start.admin {
        accept::spawn(plane.clone(), admin, true);
    }
    ready();
    pump::run(plane, start.shard).await
}

/// Bytes read at once. One buffer a shard: an idle connection has none.
const SCRATCH_BYTES: usize = 64 * 1024;

/// One shard's data plane, as its tasks share it.
struct Plane {
    id: ShardId,
    settings: Arc<Settings>,
    bridge: Arc<Bridge<MeshMessage>>,
    clock: Arc<dyn Clock + Send + Sync>,
    state: RefCell<State>,
    scratch: RefCell<Box<[u8]>>,
    /// The sleeping pump's waker; none while it is awake or about to be.
    pump: Cell<Option<Waker>>,
}

#[derive(Default)]
struct State {
    conns: Slab<ConnKey, Conn>,
    inbox: Inbox,
    /// Connections with something to write that the shard does not know of.
    flush: Vec<ConnKey>,
    /// Connections that stopped reading because the inbox was full.
    parked: Vec<ConnKey>,
    deadlines: Wheel<ConnKey>,
    counts: PlaneCounts,
    draining: bool,
    /// The public port accepts nobody any more.
    closed: bool,
    /// The shard's run is over.
    ending: bool,
    /// Accepting tasks, to be told that it is over.
    acceptors: Vec<Waker>,
}

impl Plane {
    fn now(&self) -> Now {
        self.clock.now()
    }

    fn world(&self, draining: bool) -> World<'_> {
        World { shard: self.id, settings: &self.settings, bridge: &self.bridge, clock: &*self.clock, draining }
    }

    /// Has the pump take a turn soon; once is enough however often it is called.
    fn wake_pump(&self) {
        if let Some(waker) = self.pump.take() {
            waker.wake();
        }
    }
}

impl State {
    /// Makes sure the wheel looks at this connection when its deadline comes. A connection is in the wheel once, or a few times where a
    /// nearer deadline came after a farther one.
    fn arm(&mut self, key: ConnKey) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if conn.deadline < conn.armed {
            conn.armed = conn.deadline;
            self.deadlines.arm(conn.deadline, key);
        }
    }

    /// Connections whose deadline has passed.
    fn expired(&mut self, now: Instant) -> Vec<ConnKey> {
        let mut fired = Vec::new();
        self.deadlines.expire(now, |key| fired.push(key));
        fired.retain(|&key| {
            let Some(conn) = self.conns.get_mut(key) else { return false };
            if conn.armed <= now {
                conn.armed = Instant::NEVER;
            }
            let due = conn.deadline <= now;
            if !due {
                // It was put off since it was armed.
                self.arm(key);
            }
            due
        });
        fired
    }

    /// Forgets a connection; its task ends and closes the socket.
    fn remove(&mut self, key: ConnKey) -> Option<Conn> {
        let mut conn = self.conns.remove(key)?;
        if let Some(waker) = conn.waker.take() {
            waker.wake();
        }
        Some(conn)
    }
}
