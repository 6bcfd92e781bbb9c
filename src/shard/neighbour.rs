//! Long-polling requests that came to a node which does not have their session: the node that has it answers.
//!
//! ```text
//! where it came                               where the session is
//! poll, post: the id names another node
//!   Errand::Ask ----------------------------> News::Asked: as if it had come here, but for where its answer goes
//!               <---------------------------- Errand::Answer
//!   News::Answered -> the connection
//! the connection is gone
//!   Errand::Left ---------------------------> News::Left
//! this node drains
//!   Errand::Release ------------------------> News::Released: a waiting GET is answered at once, and its client polls somewhere else
//! ```
//!
//! Invariants: who has the session does not know the connection, and who has the connection does not know the session; every Ask is answered, by
//! the owner or with an error in time, so that a message which is lost on the way ends as an error at its client, which then comes back to what
//! it missed. A WebSocket is not handed on: its upgrade is refused, and the client stays with long-polling.

use super::Shard;
use super::io::{Output, Parcel};
use super::relay::Relay;
use super::session::Transport;
use super::{Place, Role};
use crate::base::id::{NodeId, ReplyTo, Sid};
use crate::wire::{engine_io, http::Response};

/// What a shard asks about requests that cross nodes.
#[derive(Debug)]
pub enum Errand {
    /// A request for a session of the node that its id names.
    Ask { to: ReplyTo, sid: Sid, request: Request },
    /// Nobody waits for its answer any more.
    Left { to: ReplyTo },
    /// All GETs of this shard that wait at other nodes, and those that will, are to be answered at once.
    Release,
    /// The answer to a request of another node.
    Answer { to: ReplyTo, response: Box<Response> },
}

#[derive(Debug)]
pub enum Request {
    Poll,
    Post(Box<str>),
}

/// What a shard hears of them.
#[derive(Debug)]
pub enum News {
    /// `from` is no connection: see [`ReplyTo::is_elsewhere`].
    Asked {
        from: ReplyTo,
        sid: Sid,
        request: Request,
    },
    Left {
        from: ReplyTo,
        sid: Sid,
    },
    Released {
        from: ReplyTo,
        sid: Sid,
    },
    Answered {
        to: ReplyTo,
        response: Box<Response>,
    },
    /// This node has another number now: session ids that begin now name it.
    Numbered(NodeId),
}

impl Request {
    pub fn bytes(&self) -> usize {
        match self {
            Request::Poll => 0,
            Request::Post(body) => body.len(),
        }
    }
}

impl Errand {
    pub fn bytes(&self) -> usize {
        size_of::<Errand>()
            + match self {
                Errand::Ask { request, .. } => request.bytes(),
                Errand::Answer { response, .. } => size_of::<Response>() + response.body.len(),
                Errand::Left { .. } | Errand::Release => 0,
            }
    }
}

impl News {
    pub fn bytes(&self) -> usize {
        size_of::<News>()
            + match self {
                News::Asked { request, .. } => request.bytes(),
                News::Answered { response, .. } => size_of::<Response>() + response.body.len(),
                News::Left { .. } | News::Released { .. } | News::Numbered(_) => 0,
            }
    }
}

/// What a request is told whose session cannot be reached now.
pub fn unavailable() -> Response {
    let message = "the node that has the session cannot be reached";
    Response { retry_after_s: Some(1), no_store: true, ..Response::error_json(503, "backplane_unavailable", message) }
}

/// What a request is told whose session nobody has.
pub fn unknown() -> Response {
    let error = engine_io::HandshakeError::UnknownSid;
    Response { no_store: true, ..Response::json(error.status(), error.json().into_bytes()) }
}

impl Shard {
    /// Whether a session that is not here may be another node's.
    pub(super) fn is_elsewhere(&self, sid: Sid) -> bool {
        self.is_fleet() && sid.node() != self.settings.node
    }

    pub(super) fn errand(&mut self, errand: Errand) {
        self.out.push(Output::Relay(Relay::Neighbour(Box::new(errand))));
    }

    pub(super) fn hear_neighbour(&mut self, news: News) {
        match news {
            News::Asked { from, sid, request: Request::Poll } => self.poll(from, sid, false),
            News::Asked { from, sid, request: Request::Post(body) } => self.post(from, sid, &body, false),
            News::Left { from, sid } => self.abandon(from, sid, false),
            News::Released { from, sid } => self.release_poll(from, sid),
            News::Answered { to, response } => {
                // It waits, or its connection is gone and the data plane knows.
                debug_assert!(self.link(to.conn).is_none_or(|link| matches!(link.role, Role::Request(_) | Role::None)));
                self.out.push(Output::Respond { to, response: *response });
            }
            News::Numbered(node) => self.renumber(node),
        }
    }

    /// A GET that waits for a session is answered with nothing: its client polls again.
    pub(super) fn release_poll(&mut self, from: ReplyTo, sid: Sid) {
        match self.sids.get(&sid) {
            Some(Place::Here(key)) => {
                let key = *key;
                if let Transport::Polling(polling) = &mut self.sessions[key].transport
                    && polling.waiting == Some(from)
                {
                    polling.waiting = None;
                    self.answer_poll(from, engine_io::NOOP.into());
                }
            }
            Some(Place::Moved(to, _)) => self.out.push(Output::Send { to: *to, parcel: Parcel::Release { from, sid } }),
            // It is answered as soon as it has arrived, or was.
            Some(Place::Leaving(_) | Place::Farewell(_)) | None => {}
        }
    }

    fn renumber(&mut self, node: NodeId) {
        let before = std::mem::replace(&mut self.settings.node, node);
        if let Some(fleet) = &mut self.fleet
            && before != node
        {
            fleet.number_before = Some(before);
        }
    }

    /// Whether this node has given out this session id.
    pub(super) fn is_own(&self, sid: Sid) -> bool {
        let before = self.fleet.as_ref().and_then(|fleet| fleet.number_before);
        sid.node() == self.settings.node || Some(sid.node()) == before
    }
}
