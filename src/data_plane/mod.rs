//! Floor 4: the data plane, the only I/O of the data path. It turns bytes into the shard's inputs and its outputs into bytes, and decides
//! nothing else.
//!
//! ```text
//!  the shard's ring --- events: readable, takes bytes again, wants to connect
//!        |
//!      pump:   accept, recv -> conn.feed -> inbox
//!              lanes, inbox -> Shard::handle -> outputs
//!              one submission with the writes of up to 256 connections
//!              handoff, mesh -> lanes of other shards
//!              loan, remote  -> sockets that one shard has and another uses, where a tenant is spread
//! ```
//!
//! Invariants: the pump owns the shard and every connection by value, and there is no other task: nothing is shared and nothing is cancelled
//! (glommio leaks cancelled tasks); a descriptor is closed after its entry was removed, so nothing is ever written to a descriptor that means
//! another connection.

mod accept;
mod answer;
mod bell;
mod conn;
pub mod count;
mod freight;
mod handoff;
mod inbox;
mod loan;
mod mesh;
mod pace;
mod pump;
mod remote;
mod request;
mod ring;
mod route;
mod socket;
mod spill;
mod window;

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
use accept::Listener;
use bell::Bell;
use conn::{Conn, World};
use count::PlaneCounts;
use inbox::Inbox;
use loan::Loans;
use ring::{Event, Ring, Slot};
use socket::Batch;
use std::{io, net::TcpListener, rc::Rc, sync::Arc};

/// What the data plane is told at start; the same for every shard.
pub struct Settings {
    pub limits: Limits,
    /// Where Socket.IO is, without a slash at the end: `/socket.io`.
    pub socket_path: Box<str>,
    /// Turns of a busy shard begin at least so far apart, further where most of what it does is opening connections: what happens meanwhile is
    /// taken in one. Zero: a turn for each event.
    pub gather: Duration,
    /// Another process listens on the same ports, or will: a drain leaves them at once.
    pub takeover: bool,
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
            gather: Duration::ZERO,
            takeover: false,
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

/// Runs one shard until it is told to stop or has drained; the thread is its own until then. `ready` hears when it accepts, or why it cannot.
pub fn run(start: Start, ready: impl FnOnce(io::Result<()>)) -> Ended {
    let plane = Plane { id: start.id, settings: start.settings, bridge: start.bridge, clock: start.clock };
    let (ring, bell) = match Ring::new().and_then(|ring| Ok((ring, Bell::new()?))) {
        Ok(made) => made,
        Err(error) => {
            ready(Err(error));
            return Ended::Stopped;
        }
    };
    let mut state = State::new(ring, bell, plane.bridge.shards());
    state.listen(Listener::new(start.public, false));
    if let Some(admin) = start.admin {
        state.listen(Listener::new(admin, true));
    }
    ready(Ok(()));
    pump::run(Rc::new(plane), state, start.shard)
}

/// Bytes read at once. One buffer a shard: an idle connection has none.
const SCRATCH_BYTES: usize = 64 * 1024;

/// What a shard's data plane is told once.
struct Plane {
    id: ShardId,
    settings: Arc<Settings>,
    bridge: Arc<Bridge<MeshMessage>>,
    clock: Arc<dyn Clock + Send + Sync>,
}

/// What it does with that.
struct State {
    ring: Ring,
    /// Rung by other threads.
    bell: Arc<Bell>,
    conns: Slab<ConnKey, Conn>,
    listeners: Vec<Option<Listener>>,
    inbox: Inbox,
    /// Connections to look at in the next turn: they have been read in part, or may go on now.
    ready: Vec<ConnKey>,
    /// Connections with something to write that the shard does not know of.
    flush: Vec<ConnKey>,
    batch: Batch,
    loans: Loans,
    scratch: Box<[u8]>,
    events: Vec<Event>,
    /// Events of this turn.
    heard: usize,
    deadlines: Wheel<ConnKey>,
    counts: PlaneCounts,
    draining: bool,
    /// When a drain leaves the ports, once that is known.
    leaves_at: Option<Instant>,
    /// The public port accepts nobody any more.
    shut: bool,
    /// Nobody has to come back here any more.
    closed: bool,
}

impl Plane {
    fn now(&self) -> Now {
        self.clock.now()
    }

    fn world(&self, draining: bool) -> World<'_> {
        World { shard: self.id, settings: &self.settings, bridge: &self.bridge, clock: &*self.clock, draining }
    }
}

impl State {
    fn new(mut ring: Ring, bell: Arc<Bell>, shards: u8) -> State {
        ring.poll_bell(bell.as_raw_fd());
        State {
            ring,
            bell,
            conns: Slab::default(),
            listeners: Vec::new(),
            inbox: Inbox::default(),
            ready: Vec::new(),
            flush: Vec::new(),
            batch: Batch::default(),
            loans: Loans::new(shards),
            scratch: vec![0; SCRATCH_BYTES].into(),
            events: Vec::new(),
            heard: 0,
            deadlines: Wheel::default(),
            counts: PlaneCounts::default(),
            draining: false,
            leaves_at: None,
            shut: false,
            closed: false,
        }
    }

    /// Hears what has happened: accepts and reads, as far as the inbox has room.
    fn hear(&mut self, plane: &Plane, now: Now) {
        let ready = std::mem::take(&mut self.ready);
        let mut events = std::mem::take(&mut self.events);
        self.ring.turn(&mut events);
        self.heard = events.len();
        for &key in &ready {
            self.attend(plane, key);
        }
        for event in events.drain(..) {
            match event {
                Event::Input { slot, ended, rearm } => {
                    let Some(key) = self.meant(slot) else { continue };
                    let Some(conn) = self.conns.get_mut(key) else { continue };
                    conn.readable = true;
                    conn.peer_ended |= ended;
                    if rearm {
                        self.ring.poll(key, conn.fd);
                    }
                    self.attend(plane, key);
                }
                Event::Room { slot } => {
                    if let Some(key) = self.meant(slot) {
                        self.unblock(key);
                    }
                }
                Event::Listener { index, rearm } => self.knocked(index, rearm),
            }
        }
        self.events = events;
        self.accept(plane, now);
        // Those just accepted; what is not ready for more is put back.
        for key in std::mem::take(&mut self.ready) {
            self.attend(plane, key);
        }
    }

    /// The connection an event is about; none when it is gone.
    fn meant(&self, slot: Slot) -> Option<ConnKey> {
        self.conns.key_at(slot.index).filter(|&key| slot.is(key))
    }

    /// Whether another turn has something to do at once.
    fn has_work(&mut self) -> bool {
        !self.inbox.is_empty() || !self.flush.is_empty() || !self.ready.is_empty() || self.ring.has_work()
    }

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
}
