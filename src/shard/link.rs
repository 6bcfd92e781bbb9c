//! What each connection is to its shard, by the connection's slot.
//!
//! Invariant: a key of an earlier connection in the same slot finds nothing.

use super::Shard;
use super::session::SessionKey;
use crate::base::{
    buffer::Buffer,
    id::{ConnKey, Sid},
    slab::Key,
};

/// A connection as the shard sees it.
#[derive(Clone, Debug, Default)]
pub(super) struct Link {
    pub generation: u32,
    pub role: Role,
    /// Bytes for a connection that is not its session's transport (yet): the answer to a probe.
    pub bytes: Buffer,
}

const _: () = assert!(size_of::<Link>() <= 32, "one for each connection of the data plane");

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Role {
    #[default]
    None,
    /// The transport of a session.
    Session(SessionKey),
    /// Wants to become it.
    Probe(SessionKey),
    /// Carries a long-polling request for a session, here or on another shard.
    Request(Sid),
    /// Asks for a session that cannot begin yet.
    Waiting,
    /// The WebSocket that a long-polling session was upgrading to when the server closed it.
    Parting(Sid),
    /// Its session leaves this turn: index into `leaving`, and which of its connections this is.
    Leaving(u32, u8),
}

impl Shard {
    pub(super) fn link(&self, conn: ConnKey) -> Option<&Link> {
        self.links.get(conn.index() as usize).filter(|link| link.generation == conn.generation())
    }

    pub(super) fn link_mut(&mut self, conn: ConnKey) -> Option<&mut Link> {
        self.links.get_mut(conn.index() as usize).filter(|link| link.generation == conn.generation())
    }

    pub(super) fn set_role(&mut self, conn: ConnKey, role: Role) {
        let index = conn.index() as usize;
        if self.links.len() <= index {
            self.links.resize_with(index + 1, Link::default);
        }
        let link = &mut self.links[index];
        if link.generation != conn.generation() {
            *link = Link { generation: conn.generation(), ..Link::default() };
        }
        link.role = role;
    }
}
