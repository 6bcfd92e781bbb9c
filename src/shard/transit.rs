//! A session on its way from one shard to another: everything it is, as values that may cross threads.

use super::bucket::Bucket;
use super::io::Open;
use super::late::LateConnect;
use super::session::Beat;
use crate::base::{
    id::{ReplyTo, Sid},
    time::Instant,
};
use crate::wire::auth::Admission;
use std::net::IpAddr;

#[derive(Debug)]
pub enum Transit {
    /// A WebSocket or event stream whose token, in the request's head, names a tenant of the other shard (or, as a probe, a session
    /// there). Not answered yet. Its connection is the first.
    Opening(Box<Open>),
    /// A session whose token came in CONNECT.
    Session(Box<Traveller>),
}

/// A session without tenant and sockets: it moves before it is admitted, and only then.
#[derive(Debug)]
pub struct Traveller {
    pub sid: Sid,
    /// Its WebSocket is the first connection.
    pub websocket: bool,
    /// Long-polling: the GET that waits.
    pub waiting: Option<ReplyTo>,
    /// Long-polling: a WebSocket probes; it is the first connection.
    pub probe: bool,
    pub probed: bool,
    pub beat: Beat,
    pub bucket: Bucket,
    pub address: IpAddr,
    pub crowded: bool,
    pub last_heard: Instant,
    /// Bytes its WebSocket has not taken yet.
    pub unsent: Vec<u8>,
    /// Long-polling: packets (binary or text) not fetched yet.
    pub packets: Vec<(bool, Box<[u8]>)>,
    /// The CONNECT that moves it, its token accepted.
    pub namespace: Box<str>,
    pub payload: Box<str>,
    pub admission: Box<Admission>,
    /// Its token came after CONNECT.
    pub late: Option<LateConnect>,
    /// What came for it while it was leaving.
    pub later: Vec<Later>,
}

impl Traveller {
    /// Who waits for an answer from the session: told 503 where it cannot be moved.
    pub fn waits(&self) -> impl Iterator<Item = ReplyTo> {
        let later = self.later.iter().filter_map(|later| match later {
            Later::Poll(from) | Later::Post(from, _) => Some(*from),
            Later::Text(_) | Later::Binary(_) | Later::Pong | Later::ProbeText(_) | Later::Abandon(_) => None,
        });
        self.waiting.into_iter().chain(later)
    }
}

#[derive(Debug)]
pub enum Later {
    Text(Box<str>),
    Binary(Box<[u8]>),
    Pong,
    /// From the WebSocket that probes.
    ProbeText(Box<str>),
    Poll(ReplyTo),
    Post(ReplyTo, Box<str>),
    Abandon(ReplyTo),
}
