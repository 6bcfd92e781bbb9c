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
    pub extras: Option<Box<Extras>>,
}

const _: () = assert!(size_of::<Socket>() <= 88, "nearly every session has one");

/// A socket's place in a room.
#[derive(Clone)]
pub struct Seat {
    pub room: RoomKey,
    /// Its place in the room's members.
    pub index: u32,
    /// How far the tenant's sequence had come since `connected_at` when it joined. One farther than 2^32 counts as that: it may then be
    /// given events from before it joined, but misses none.
    joined_after: u32,
    pub filter: Option<Rc<Filter>>,
}

const _: () = assert!(size_of::<Seat>() <= 24, "a typical socket has three");

/// What few sockets have.
#[derive(Default)]
pub struct Extras {
    pub acks: Acks,
    pub given: super::offline::Given,
    /// What CONNECT carried, where the application wants it.
    pub auth: Option<Box<str>>,
    /// How often it has come back, among nodes.
    pub generation: u32,
    /// What the application of a server of another make keeps with it, as it was written there.
    pub data: Option<Box<[u8]>>,
    /// Joins that are under way, and what waits for them.
    pub turns: Option<Box<super::turn::Turns>>,
}

/// Acknowledgements a client owes.
#[derive(Default)]
pub struct Acks {
    pub next: u64,
    /// Oldest first, at most [`ACKS_PENDING_MAX`](crate::base::limit::ACKS_PENDING_MAX).
    pub pending: std::collections::VecDeque<(u64, super::app::OnAck)>,
}

impl Socket {
    /// Takes a seat at `index` of a room's members, at this place of the tenant's sequence.
    pub fn sit(&mut self, room: RoomKey, index: u32, joined_at: u64, filter: Option<Rc<Filter>>) {
        if self.seats.len() < 4 {
            // Most sockets sit in three rooms for good.
            self.seats.reserve_exact(1);
        }
        let joined_after = u32::try_from(joined_at.saturating_sub(self.connected_at)).unwrap_or(u32::MAX);
        self.seats.push(Seat { room, index, joined_after, filter });
    }

    /// The tenant's stream has begun anew: it joined all its rooms then.
    pub fn begin_at(&mut self, sequence: u64) {
        self.connected_at = sequence;
        self.seats.iter_mut().for_each(|seat| seat.joined_after = 0);
    }

    /// The tenant's sequence when it joined: nothing up to there was missed, whatever position it comes back with.
    pub fn joined_at(&self, seat: &Seat) -> u64 {
        self.connected_at + u64::from(seat.joined_after)
    }

    pub fn seat(&self, room: RoomKey) -> Option<&Seat> {
        self.seats.iter().find(|seat| seat.room == room)
    }

    pub fn seat_mut(&mut self, room: RoomKey) -> Option<&mut Seat> {
        self.seats.iter_mut().find(|seat| seat.room == room)
    }
}
