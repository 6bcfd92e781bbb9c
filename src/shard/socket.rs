//! A socket: a session's place in one namespace, with the rooms it is in and the acknowledgements it owes.

use super::filter::Filter;
use super::room::{RoomKey, Variant};
use super::session::SessionKey;
use crate::base::id::Sid;
use std::rc::Rc;

crate::key!(
    /// A socket of this shard.
    SocketKey
);

pub struct Socket {
    pub session: SessionKey,
    pub sid: Sid,
    /// The secret with which it may come back.
    pub pid: Option<Sid>,
    /// Index into the application's namespaces.
    pub namespace: u8,
    pub variant: Variant,
    /// Rooms of its own that `leave` does not take: they come first in `seats`.
    pub automatic: u8,
    /// Rooms in which it is typing.
    pub typing: u8,
    pub seats: Vec<Seat>,
    /// The tenant's sequence when it connected.
    pub connected_at: u64,
    pub acks: Option<Box<Acks>>,
    /// What CONNECT carried, where the application wants it.
    pub auth: Option<Box<str>>,
}

/// A socket's place in a room.
#[derive(Clone)]
pub struct Seat {
    pub room: RoomKey,
    /// Its place in the room's members.
    pub index: u32,
    /// The tenant's sequence when it joined: nothing up to there was missed, whatever position it comes back with.
    pub joined_at: u64,
    pub filter: Option<Rc<Filter>>,
}

/// Acknowledgements a client owes.
#[derive(Default)]
pub struct Acks {
    pub next: u64,
    /// Oldest first, at most [`ACKS_PENDING_MAX`](crate::base::limit::ACKS_PENDING_MAX).
    pub pending: std::collections::VecDeque<(u64, super::app::OnAck)>,
}

impl Socket {
    pub fn seat(&self, room: RoomKey) -> Option<&Seat> {
        self.seats.iter().find(|seat| seat.room == room)
    }

    pub fn seat_mut(&mut self, room: RoomKey) -> Option<&mut Seat> {
        self.seats.iter_mut().find(|seat| seat.room == room)
    }
}
