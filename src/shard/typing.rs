//! Typing: told to the others in a room, and over by itself when its start is not repeated.

use super::app::Context;
use super::room::RoomKey;
use super::socket::SocketKey;
use super::{Shard, Timer};
use crate::base::limit;
use crate::wire::json;

impl Shard {
    pub(super) fn start_typing(&mut self, room: RoomKey, socket: SocketKey) {
        let until = self.now.at + limit::TYPING_TTL;
        if self.typing.insert((room, socket), until).is_none() {
            self.sockets[socket].typing += 1;
            self.timers.arm(until, Timer::Typing(room, socket));
            self.tell_typing(room, socket, "typing:start");
        }
    }

    pub(super) fn stop_typing(&mut self, room: RoomKey, socket: SocketKey) {
        if self.typing.remove(&(room, socket)).is_some() {
            self.sockets[socket].typing -= 1;
            self.tell_typing(room, socket, "typing:stop");
        }
    }

    pub(super) fn stop_typing_everywhere(&mut self, socket: SocketKey) {
        if self.sockets[socket].typing > 0 {
            for seat in self.sockets[socket].seats.clone() {
                self.stop_typing(seat.room, socket);
            }
        }
    }

    pub(super) fn typing_timer(&mut self, room: RoomKey, socket: SocketKey) {
        match self.typing.get(&(room, socket)) {
            Some(until) if *until > self.now.at => self.timers.arm(*until, Timer::Typing(room, socket)),
            Some(_) => self.stop_typing(room, socket),
            None => {}
        }
    }

    fn tell_typing(&mut self, room: RoomKey, socket: SocketKey, event: &str) {
        let mut args = b"{\"room\":".to_vec();
        let name = self.rooms[room].name.clone();
        json::write_string(&mut args, &name);
        args.extend_from_slice(b",\"user\":");
        json::write_string(&mut args, &self.identity(socket).user);
        args.push(b'}');
        Context::new(self, socket, None).relay(&name, event, &String::from_utf8_lossy(&args));
    }
}
