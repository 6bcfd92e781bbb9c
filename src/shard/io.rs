//! Every way into a shard and out of it. A shard is a function of [`Input`]s; the pump and the simulator are its two callers.
//!
//! ```text
//! a turn:   handle(now, input, &mut outputs)*           inputs in the order they came
//!           end_turn(now, &mut outputs)                 waiting long-polling requests are answered
//!           outputs                                     answers, closes, moves, parcels, in order
//!           next_dirty() -> pending(conn) -> wrote()    one write for each connection that has something
//!           end_writes(&mut outputs)                    what was not written waits; what is too much closes its session
//! ```

pub use super::relay::{Relay, Report};
pub use super::verdict::{Answer, TicketKey};

use super::transit::Transit;
use crate::base::{
    id::{ConnKey, ReplyTo, ShardId, Sid, TenantId},
    time::Duration,
};
use crate::wire::{api::Call, auth::Admission, http::Response};
use smallvec::SmallVec;
use std::net::IpAddr;

#[derive(Debug)]
pub enum Input<'a> {
    /// A request wants a session (or, as a probe, to become the WebSocket of one).
    Open(Box<Open>),
    /// One WebSocket message of a connection that was answered with [`Output::Upgrade`].
    Message { conn: ConnKey, message: Message<'a> },
    /// A long-polling GET. Waits until there is something to answer.
    Poll { from: ReplyTo, sid: Sid },
    /// A long-polling POST with its whole body.
    Post { from: ReplyTo, sid: Sid, body: &'a str },
    /// A request of the HTTP API, authorised already.
    Call { from: ReplyTo, tenant: TenantId, call: Box<Call> },
    /// The connection is gone, or its peer closed it: nothing can be written any more. Also sent for a connection that only waits for
    /// an answer. Not sent after [`Output::Close`] or [`Output::Handoff`].
    Hangup { conn: ConnKey, cause: Hangup },
    /// A connection that had not taken all bytes ([`Shard::wrote`](super::Shard::wrote)) takes more now.
    Writable { conn: ConnKey },
    /// Another shard moved a session or a connection here; `conns` are its connections under their new keys, in the order given.
    Arrive { transit: Box<Transit>, conns: SmallVec<[ConnKey; 2]> },
    /// Another shard passed on what belongs here.
    Parcel(Parcel),
    /// What became of [`Ask::Authorize`]. Its ticket may be gone by then.
    Answered { ticket: TicketKey, answer: Answer },
    /// What the backplane says. Only where the node is in a fleet.
    Report(Report),
    /// An ephemeral event for every session of every tenant on this shard.
    Announce(Announcement),
    /// Shut down: tell every session when it will be closed, and close them one after the other within `spread`.
    Drain { spread: Duration },
    /// Nothing but time: a deadline has come.
    Tick,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
    /// A WebSocket pong frame: the peer is alive.
    Pong,
}

/// Why a connection ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hangup {
    /// The peer closed it: end of file or a WebSocket close frame.
    Closed,
    /// Read or write failed: reset, timed out, no memory.
    Failed,
    /// The bytes are no HTTP, no WebSocket, or too long; the data plane has answered or closed as the protocol says.
    Broken,
}

/// What a connection wants to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// `/socket.io/?transport=polling`: a long-polling session.
    Polling,
    /// `/socket.io/?transport=websocket`: a WebSocket session.
    WebSocket,
    /// `/socket.io/?transport=websocket&sid=..`: the WebSocket that a long-polling session upgrades to.
    Probe(Sid),
    /// `/ws`: JSON text frames.
    Plain,
    /// `/events`: server-sent events.
    Events,
    /// `/engine.io/`: Engine.IO without Socket.IO, where the application has asked for it ([`App::engine`](super::app::App)).
    RawPolling,
    /// As `RawPolling`, over WebSocket.
    RawWebSocket,
    /// Any other path: WebSocket messages and nothing else, where the application has asked for it
    /// ([`App::websocket`](super::app::App::websocket)).
    Bare,
}

/// A request for a session, as its head had it.
#[derive(Clone, Debug)]
pub struct Open {
    pub from: ReplyTo,
    pub wire: Wire,
    /// From `Authorization`, the query or the subprotocol, in that order; not checked yet.
    pub token: Option<Box<str>>,
    pub address: IpAddr,
    /// What the token says, once a shard has checked it; a data plane leaves it empty.
    pub admission: Option<Box<Admission>>,
    /// Shards that have passed it on; a data plane says 0.
    pub hops: u8,
    /// Too many sessions from this address: CONNECT will be answered `too_many_connections`.
    pub crowded: bool,
    /// `/events`: the rooms of the query.
    pub rooms: Vec<Box<str>>,
    /// `/events`: the `Last-Event-ID` header or query parameter.
    pub last_event_id: Option<Box<str>>,
}

#[derive(Debug)]
pub enum Output {
    /// The whole answer to a request; `to` may be on another shard.
    Respond { to: ReplyTo, response: Response },
    /// Answer the upgrade with 101; what follows are WebSocket frames. Comes before anything is written to `conn`.
    Upgrade { conn: ConnKey },
    /// Answer 200 `text/event-stream`; what follows is its body.
    Stream { conn: ConnKey },
    /// Write `rest`, then the WebSocket close frame (where the connection speaks WebSocket), then close. The shard has forgotten `conn`.
    Close { conn: ConnKey, rest: Vec<u8>, number: u16, text: &'static str },
    /// Move the connections, with bytes read but not decoded, to another shard and hand it `transit`. The shard has forgotten them.
    /// `lend`: their tenant is spread, so the sockets may stay where they are and be read and written there for the other shard.
    Handoff { to: ShardId, transit: Box<Transit>, conns: SmallVec<[ConnKey; 2]>, lend: bool },
    /// Pass a parcel to another shard. When the mesh is full: a parcel that waits for an answer is answered 503, others wait in the spill.
    Send { to: ShardId, parcel: Parcel },
    /// Something slow, for the control plane. Where that cannot take it, [`Ask::Authorize`] is answered [`Answer::Unavailable`] at once, and
    /// [`Ask::Notify`] is dropped and counted.
    Ask(Ask),
    /// Something for the backplane. Where it cannot take it, what is answered is answered [`Unavailable`](super::relay::Unavailable) at once, a
    /// [`Relay::Tell`] and a [`Relay::Answer`] are dropped and counted, and everything else waits for room. Only where the node is in a fleet.
    Relay(Relay),
    /// For the log: an action of a listener could not be done; said once for each listener and code.
    ListenerFailed { listener: Box<str>, code: &'static str },
    /// For the log: somebody was refused or closed, by code; never with a token or a text of theirs.
    Refused { address: IpAddr, code: &'static str },
    /// The session that counted against this address is over.
    Release { address: IpAddr },
}

/// What a shard asks of the control plane. It goes on meanwhile: nothing here is waited for.
#[derive(Debug)]
pub enum Ask {
    /// Whether a join is permitted, as the application's backend sees it: answered with [`Input::Answered`]. `question` is the JSON that the
    /// backend is sent.
    Authorize { ticket: TicketKey, question: Box<str> },
    /// Tell a webhook, by its place in the settings, of an event. `id` is the same for every attempt; `body` is JSON.
    Notify { hook: u16, id: Box<str>, body: Box<str> },
}

impl Ask {
    /// What it counts against [`CONTROL_BYTES_MAX`](crate::base::limit::CONTROL_BYTES_MAX).
    pub fn bytes(&self) -> usize {
        size_of::<Ask>()
            + match self {
                Ask::Authorize { question, .. } => question.len(),
                Ask::Notify { id, body, .. } => id.len() + body.len(),
            }
    }
}

/// What one shard passes to another besides sessions.
#[derive(Debug)]
pub enum Parcel {
    /// A long-polling or event-stream handshake whose tenant lives there.
    Open(Box<Open>),
    Poll {
        from: ReplyTo,
        sid: Sid,
    },
    Post {
        from: ReplyTo,
        sid: Sid,
        body: Box<str>,
    },
    Call {
        from: ReplyTo,
        tenant: TenantId,
        call: Box<Call>,
    },
    /// A waiting request's connection is gone.
    Abandon {
        from: ReplyTo,
        sid: Sid,
    },
    /// A waiting GET is to be answered at once, with nothing if need be.
    Release {
        from: ReplyTo,
        sid: Sid,
    },
    /// A session that moved from there to here has ended: forget where it went.
    Forget {
        sid: Sid,
    },
}

impl Parcel {
    /// Who waits for an answer to this.
    pub fn waits(&self) -> Option<ReplyTo> {
        match self {
            Parcel::Open(open) => Some(open.from),
            Parcel::Poll { from, .. } | Parcel::Post { from, .. } | Parcel::Call { from, .. } => Some(*from),
            Parcel::Abandon { .. } | Parcel::Release { .. } | Parcel::Forget { .. } => None,
        }
    }
}

/// An ephemeral event for everyone.
#[derive(Clone, Debug)]
pub struct Announcement {
    pub event: Box<str>,
    /// JSON, validated.
    pub data: Box<str>,
}
