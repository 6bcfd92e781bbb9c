//! What a socket that comes back has missed of the fleet's stream: events of the nodes, and broadcasts of servers of another make, in the order
//! of its rows.
//!
//! Invariants: what is given is what it would have got had it been there, by its rooms, its filters and its rights; broadcasts that may be lost
//! are not among it: a client may have got them, and keeps no place of theirs.

use super::payload_bytes;
use crate::base::id::TenantId;
use crate::profile::catalogue::Entered;
use crate::shard::Shard;
use crate::shard::encode::Outgoing;
use crate::shard::fleet::event_of;
use crate::shard::history::{Audience, Event, Position, Token};
use crate::shard::identity::Identity;
use crate::shard::room;
use crate::shard::socket::SocketKey;
use crate::shard::tenant::{SavedSeat, TenantKey};
use crate::wire::{
    adapter::{self, Payload, streams::Offset},
    envelope::{Body, Frame},
    json,
};
use std::rc::Rc;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub namespace: Box<str>,
    /// The row that it has got last.
    pub after: Offset,
    /// The rooms it was in, as the fleet names them; its own id is one.
    pub rooms: Vec<Box<str>>,
}

#[derive(Debug)]
pub struct Missed {
    /// The tenant's epoch, and the sequence of its first event after the row asked for, whether it is among `past` or not; none: there is none.
    pub first: Option<(u64, u64)>,
    pub past: Vec<Past>,
}

#[derive(Debug)]
pub enum Past {
    /// A frame of [`envelope`](crate::wire::envelope) with its row.
    Placed(Box<[u8]>),
    Event {
        /// Those of the rooms asked for that are meant.
        rooms: Vec<Box<str>>,
        event: Box<str>,
        args: Payload<'static>,
        row: Offset,
    },
}

/// Something missed that is to be given.
pub enum Replay {
    Placed { sequence: u64, row: Option<Offset>, event: Rc<Event> },
    Event { event: Box<str>, args: Payload<'static>, row: Offset },
}

/// What the catalogue says of an event of another server.
pub struct Known {
    open: Event,
    /// For some alone; `true`: a user's own room has it all the same.
    narrow: Option<(bool, Event)>,
}

impl Wanted {
    pub fn bytes(&self) -> usize {
        size_of::<Wanted>() + self.namespace.len() + self.rooms.iter().map(|room| 16 + room.len()).sum::<usize>()
    }
}

impl Missed {
    pub fn bytes(&self) -> usize {
        size_of::<Missed>() + self.past.iter().map(Past::bytes).sum::<usize>()
    }
}

impl Past {
    pub fn bytes(&self) -> usize {
        size_of::<Past>()
            + match self {
                Past::Placed(frame) => frame.len(),
                Past::Event { rooms, event, args, .. } => {
                    rooms.iter().map(|room| 16 + room.len()).sum::<usize>() + event.len() + payload_bytes(args)
                }
            }
    }
}

impl Known {
    pub fn for_room(&self, shard: &Shard, room: &str) -> &Event {
        match &self.narrow {
            Some((true, _)) if shard.owner_of(room).is_some() => &self.open,
            Some((_, narrow)) => narrow,
            None => &self.open,
        }
    }
}

impl Shard {
    /// None: the catalogue refuses it.
    pub(super) fn known(&self, name: &str, args: &Payload<'_>) -> Option<Known> {
        let list = format!("[{}]", args.json);
        let first = json::elements(&list).next().unwrap_or("null");
        let entry = match self.app.profile.catalogue.of(name) {
            Entered::Refused => return None,
            Entered::Passed => None,
            // Where there are bytes, what stands for them fits no schema.
            Entered::Known(entry) if args.attachments.is_empty() && self.check_data(entry, first).is_err() => {
                return None;
            }
            Entered::Known(entry) => Some(entry),
        };
        let event = |audience| Event { name: name.into(), data: "".into(), meta: "".into(), entity: None, audience };
        let narrow = entry.filter(|entry| entry.is_for_some()).map(|entry| {
            let (roles, permissions) = (entry.receive_roles.clone(), entry.receive_permissions.clone());
            (entry.receive_own, event(Some(Box::new(Audience { roles, permissions, within: None }))))
        });
        Some(Known { open: event(None), narrow })
    }

    /// What of the rows a socket may have that was in these rooms; `since`: it has what came before in the tenant's stream.
    pub(in crate::shard) fn replays(
        &self,
        tenant: TenantKey,
        identity: &Identity,
        rooms: &[SavedSeat],
        since: u64,
        past: Vec<Past>,
    ) -> Vec<Replay> {
        let id: &TenantId = &self.tenants[tenant].id;
        let admits = |event: &Event| event.audience.as_ref().is_none_or(|audience| audience.admits(identity));
        let wants = |seat: &SavedSeat, event: &Event| seat.filter.as_ref().is_none_or(|filter| filter.wants(event));
        let replay = |past: Past| match past {
            Past::Placed(bytes) => {
                let Ok(Frame { place: Some(place), row, body }) = Frame::decode(&bytes) else { return None };
                let Ok((_, Body::Post(post))) = Body::decode(body) else { return None };
                let seat = rooms.iter().find(|seat| *seat.room == *post.room)?;
                let event = event_of(&post, Some(&place));
                let is_its = place.sequence > since.max(seat.joined_at) && wants(seat, &event) && admits(&event);
                is_its.then(|| Replay::Placed { sequence: place.sequence, row, event: Rc::new(event) })
            }
            Past::Event { rooms: meant, event, args, row } => {
                let known = self.known(&event, &args)?;
                let single = self.app.profile.claims.single_tenant.as_ref();
                let may = meant.iter().any(|name| {
                    let seat = adapter::address(name, single)
                        .filter(|(of, _)| of == id)
                        .and_then(|(_, name)| rooms.iter().find(|seat| *seat.room == *name));
                    match seat {
                        Some(seat) => {
                            let event = known.for_room(self, &seat.room);
                            wants(seat, event) && admits(event)
                        }
                        // By its own id.
                        None => adapter::socket(name).is_some() && admits(known.for_room(self, "")),
                    }
                });
                may.then_some(Replay::Event { event, args, row })
            }
        };
        past.into_iter().filter_map(replay).collect()
    }

    /// Writes what was missed to a socket, in its order. It may exceed its bound: it asked for it.
    pub(in crate::shard) fn replay_rows(&mut self, socket: SocketKey, replays: &[Replay]) {
        let Some(state) = self.sockets.get(socket) else { return };
        let (at, tenant) = (room::slot(state.session), self.tenant_of(socket));
        let (epoch, here) = (self.tenants[tenant].epoch, self.tenants[tenant].sequence);
        for replay in replays {
            match replay {
                Replay::Placed { sequence, row, event } => {
                    self.outbox.grant(at, event.bytes() + 128);
                    let token = row.map_or(Token::Unmoved, Token::Row);
                    let position = Some(Position { token, ..Position::new(epoch, *sequence) });
                    let wrapped = self.wrapped(event);
                    self.send_event(socket, &Outgoing { position, ..wrapped.outgoing(event) }, false);
                }
                Replay::Event { event, args, row } => {
                    self.outbox.grant(at, event.len() + payload_bytes(args) + 128);
                    let position = Some(Position { token: Token::Row(*row), ..Position::new(epoch, here) });
                    let attachments = &args.attachments;
                    let outgoing =
                        Outgoing { name: event, args: &args.json, position, attachments, ..Outgoing::default() };
                    self.send_event(socket, &outgoing, false);
                }
            }
        }
    }
}
