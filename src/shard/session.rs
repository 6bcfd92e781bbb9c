//! A session: one client's life, over any transport.
//!
//! ```text
//!            Open                    CONNECT, token accepted            last DISCONNECT, close, timeout
//!   (none) --------> pending -----------------------------> admitted ----------------------------------> (none)
//!                      |   ^                                   |
//!        home is another shard: Handoff, Arrive            polling: probe, upgrade to WebSocket
//! ```
//!
//! Invariants: before `admitted` a session has no tenant, no socket and gets nothing but its handshake; tenant and user never change
//! afterwards.

use super::bucket::Bucket;
use super::identity::Identity;
use super::socket::SocketKey;
use super::tenant::TenantKey;
use crate::base::{
    id::{ConnKey, ReplyTo, Sid},
    time::Instant,
};
use crate::wire::{
    auth::{Admission, Reject},
    socket_io::Assembler,
};
use smallvec::SmallVec;
use std::net::IpAddr;

crate::key!(
    /// A session of this shard.
    SessionKey
);

pub struct Session {
    pub sid: Sid,
    pub kind: Kind,
    pub transport: Transport,
    pub beat: Beat,
    pub bucket: Bucket,
    pub address: IpAddr,
    /// Over its address's limit: CONNECT is refused.
    pub crowded: bool,
    pub last_heard: Instant,
    /// It has to have joined a namespace by then.
    pub connect_by: Instant,
    /// When its timer fires.
    pub armed: Instant,
    /// It was told that its token is about to expire.
    pub told_expiring: bool,
    pub tenant: Option<TenantKey>,
    pub identity: Option<Box<Identity>>,
    /// Until it is admitted.
    pub early: Option<Box<Early>>,
    pub sockets: SmallVec<[SocketKey; 1]>,
    pub assembler: Assembler,
}

const _: () = assert!(size_of::<Session>() <= 152, "one for each connection");

/// What is known of a session before it is admitted.
#[derive(Clone, Debug)]
pub enum Early {
    /// What the token of the request's head said.
    Head(Result<Admission, Reject>),
    /// CONNECT had no token, and was answered with this id: the token may come later.
    Awaited { namespace: u8, sid: Sid },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Engine.IO with Socket.IO in it.
    SocketIo,
    /// Engine.IO alone.
    Raw,
    /// WebSocket alone.
    Bare,
    /// `/ws`
    Plain,
    /// `/events`
    Events,
}

#[derive(Clone, Debug)]
pub enum Transport {
    WebSocket(ConnKey),
    Polling(Box<Polling>),
    /// Server-sent events: written, never read.
    Stream(ConnKey),
}

#[derive(Clone, Debug, Default)]
pub struct Polling {
    /// The GET that waits for something to answer.
    pub waiting: Option<ReplyTo>,
    /// The WebSocket that wants to take over.
    pub probe: Option<ConnKey>,
    /// It has asked `2probe`, and polls are answered at once so that the client can pause them.
    pub probed: bool,
}

/// The heartbeat: what is next, and when. One word: the top bit says whether a pong is awaited, the others when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat(u64);

impl Beat {
    const PONG: u64 = 1 << 63;

    /// A ping goes out then.
    pub fn ping(at: Instant) -> Beat {
        Beat(at.0.min(Beat::PONG - 1))
    }

    /// The pong has to come by then.
    pub fn pong(at: Instant) -> Beat {
        Beat(Beat::ping(at).0 | Beat::PONG)
    }

    pub fn at(self) -> Instant {
        Instant(self.0 & !Beat::PONG)
    }

    pub fn waits_for_pong(self) -> bool {
        self.0 & Beat::PONG != 0
    }
}

/// Why a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The server closes it, for a reason from the table.
    Close(crate::wire::close::Close),
    /// Its connection is gone.
    Gone,
    /// Its connection has failed: what was sent last may not have arrived.
    Lost,
    /// The peer said so: an Engine.IO close packet.
    Left,
    PingTimeout,
    /// No CONNECT in time, or the last namespace was left.
    Idle,
    /// A client that only spoke Engine.IO, or could not.
    Broken,
}

impl End {
    /// Whether its sockets are kept for a while, to be recovered: as the Node server, which keeps them for transport errors and closes, ping
    /// timeouts and its own shutdown.
    pub fn recoverable(self) -> bool {
        match self {
            End::Close(close) => close.row().retry,
            End::Gone | End::Lost | End::Left | End::PingTimeout => true,
            End::Idle | End::Broken => false,
        }
    }

    /// Whether the peer may not have got what was sent to it since it was last heard of.
    pub fn is_silent(self) -> bool {
        matches!(self, End::Lost | End::PingTimeout | End::Close(crate::wire::close::Close::SlowConsumer))
    }
}
