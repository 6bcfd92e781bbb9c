//! What a fleet's servers ask, and what this shard answers: its own part, at once or as its clients acknowledge.

use super::{Answer, Whom};
use crate::base::{
    limit::{FLEET_ROOMS_MAX, FLEET_SOCKETS_MAX},
    time::UnixMs,
};
use crate::shard::Shard;
use crate::shard::app::OnAck;
use crate::shard::encode;
use crate::shard::fleet::relay_answer;
use crate::shard::relay::Ticket;
use crate::shard::socket::SocketKey;

use crate::wire::adapter::{self, Payload};
use std::borrow::Cow;

/// A client has acknowledged what a server of the fleet sent it.
pub(super) fn on_ack(ticket: Ticket) -> OnAck {
    Box::new(move |context, args| {
        let json = args.first().unwrap_or("").to_owned();
        let answer = Payload { json: Cow::Owned(json), attachments: args.attachments().to_vec() };
        context.shard.answer_foreign(ticket, Answer::Ack(answer));
    })
}

impl Shard {
    pub(super) fn answer_foreign(&mut self, ticket: Ticket, answer: Answer) {
        self.out.push(relay_answer(ticket, answer));
    }

    pub(super) fn foreign_fetch(&mut self, to: &Whom, ticket: Ticket) {
        let meant = self.meant(to, &|_, _, _| true);
        let sockets =
            meant.into_values().flatten().take(FLEET_SOCKETS_MAX).map(|socket| self.described(socket)).collect();
        self.answer_foreign(ticket, Answer::Sockets(sockets));
    }

    /// A socket as the fleet lists it.
    fn described(&self, socket: SocketKey) -> adapter::Socket<'static> {
        let state = &self.sockets[socket];
        let session = &self.sessions[state.session];
        let identity = self.identity(socket);
        let sid = state.sid.to_string();
        let rooms = state.seats.iter().map(|seat| self.fleet_name(&identity.tenant, &self.rooms[seat.room].name));
        let rooms = [Cow::Owned(sid.clone())].into_iter().chain(rooms.map(Cow::Owned)).collect();
        // It had until then to join a namespace.
        let since = session.connect_by.since(self.now.at);
        let age = self.settings.connect_timeout.as_millis().saturating_sub(since.as_millis());
        let late = self.now.at.since(session.connect_by).as_millis();
        let issued = UnixMs(self.now.unix.0.saturating_sub((age + late) as u64));
        adapter::Socket {
            id: Cow::Owned(sid),
            handshake: Cow::Owned(adapter::handshake(&session.address.to_string(), issued, false)),
            rooms,
            data: Payload::json(self.data_of(socket)),
        }
    }

    pub(in crate::shard) fn fleet_name(&self, tenant: &crate::base::id::TenantId, room: &str) -> String {
        adapter::room_name(tenant, room, self.app.profile.claims.single_tenant.as_ref()).into_owned()
    }

    pub(super) fn foreign_rooms(&mut self, namespace: &str, ticket: Ticket) {
        let index = self.app.names.iter().position(|name| **name == *namespace);
        let variant = index.map(|index| encode::variant_of(index as u8));
        let rooms = self.rooms.iter().filter(|(_, room)| room.variants().any(|other| Some(other) == variant));
        let names = rooms.map(|(_, room)| self.fleet_name(&self.tenants[room.tenant].id, &room.name).into());
        let names = names.take(FLEET_ROOMS_MAX).collect();
        self.answer_foreign(ticket, Answer::Rooms(names));
    }
}
