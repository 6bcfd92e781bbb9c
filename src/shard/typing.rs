//! Typing: told to the others in a room, and over by itself when its start is not repeated.
//!
//! Invariant: a socket types in at most [`limit::TYPING_ROOMS_MAX`] rooms, all of which it sits in, and counts them.

use super::app::Context;
use super::encode::Outgoing;
use super::refusal::Refusal;
use super::room::{Room, RoomKey};
use super::socket::SocketKey;
use super::wording::Telling;
use super::{Shard, Timer};
use crate::base::{limit, time::Instant};
use crate::profile::template::quoted;
use crate::wire::json;

/// Somebody who types in a room.
pub struct Typing {
    until: Instant,
    /// When its start was last told.
    told: Instant,
    /// What tells of its end, where that is not the application's usual.
    stop: Option<Box<Words>>,
}

/// How one socket's typing is told, where an operation has its own words. `None`: it is not told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    pub start: Option<Told>,
    pub stop: Option<Told>,
}

/// An event with its data, raw JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub event: Box<str>,
    pub data: Box<str>,
}

impl Shard {
    /// A socket types in a room it sits in. Told at the first start, and as the settings have it where it is repeated.
    pub(super) fn start_typing(
        &mut self,
        room: RoomKey,
        socket: SocketKey,
        words: Option<Words>,
    ) -> Result<(), Refusal> {
        let long =
            |told: &Option<Told>| told.as_ref().is_some_and(|told| told.data.len() > limit::TYPING_DATA_BYTES_MAX);
        if words.as_ref().is_some_and(|words| long(&words.start) || long(&words.stop)) {
            return Err(Refusal::InvalidArgument("what is told of typing has at most 1024 bytes"));
        }
        let (now, settings) = (self.now.at, &self.settings.typing);
        let until = now + settings.ttl;
        match self.typing.get_mut(&(room, socket)) {
            Some(typing) => {
                typing.until = until;
                if settings.repeat_every.is_none_or(|every| typing.told + every > now) {
                    return Ok(());
                }
                typing.told = now;
            }
            None if self.sockets[socket].typing >= limit::TYPING_ROOMS_MAX => return Err(Refusal::TooManyItems),
            None => {
                self.sockets[socket].typing += 1;
                self.timers.arm(until, Timer::Typing(room, socket));
                let stop = words.clone().map(|words| Box::new(Words { start: None, ..words }));
                self.typing.insert((room, socket), Typing { until, told: now, stop });
            }
        }
        match words {
            Some(words) => self.tell_typing(room, socket, words.start),
            None => {
                let start = self.settings.typing.start.clone();
                self.tell_typing_as_usual(room, socket, &start);
            }
        }
        Ok(())
    }

    pub(super) fn stop_typing(&mut self, room: RoomKey, socket: SocketKey) {
        let Some(typing) = self.typing.remove(&(room, socket)) else { return };
        self.sockets[socket].typing -= 1;
        match typing.stop {
            Some(words) => self.tell_typing(room, socket, words.stop),
            None => {
                if let Some(stop) = self.settings.typing.stop.clone() {
                    self.tell_typing_as_usual(room, socket, &stop);
                }
            }
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
            Some(typing) if typing.until > self.now.at => self.timers.arm(typing.until, Timer::Typing(room, socket)),
            Some(_) => self.stop_typing(room, socket),
            None => {}
        }
    }

    fn tell_typing(&mut self, room: RoomKey, socket: SocketKey, told: Option<Told>) {
        if let Some(Told { event, data }) = told {
            let outgoing = Outgoing { name: &event, args: &data, ..Outgoing::default() };
            let Room { tenant, name, .. } = &self.rooms[room];
            let (tenant, name) = (*tenant, name.clone());
            self.emit_everywhere(tenant, &name, &outgoing, Some(socket));
        }
    }

    fn tell_typing_as_usual(&mut self, room: RoomKey, socket: SocketKey, telling: &Telling) {
        let name = self.rooms[room].name.clone();
        let mut args = Vec::with_capacity(64);
        let identity = self.identity(socket);
        match &telling.data {
            Some(shape) => shape.write(&mut args, &|path| match path {
                "room" => Some(quoted(&name)),
                "user" => Some(quoted(&identity.user)),
                "tenant" => Some(quoted(identity.tenant.as_str())),
                _ => None,
            }),
            None => {
                args.extend_from_slice(b"{\"room\":");
                json::write_string(&mut args, &name);
                args.extend_from_slice(b",\"user\":");
                json::write_string(&mut args, &identity.user);
                args.push(b'}');
            }
        }
        let args = String::from_utf8(args).unwrap_or_default();
        let outgoing = Outgoing { name: &telling.event, args: &args, ..Outgoing::default() };
        let tenant = self.rooms[room].tenant;
        self.emit_everywhere(tenant, &name, &outgoing, Some(socket));
    }
}

impl Context<'_> {
    /// Types, or stops, in a room this socket sits in. `words`: an operation's own, told of this start and of the end that belongs to it,
    /// whatever ends it; `None`: the application's usual.
    pub(in crate::shard) fn set_typing(
        &mut self,
        room: &str,
        start: bool,
        words: Option<Words>,
    ) -> Result<(), Refusal> {
        let Some(room) = self.shard.room_key(self.socket, room) else { return Err(Refusal::NotMember) };
        if self.shard.sockets[self.socket].seat(room).is_none() {
            return Err(Refusal::NotMember);
        }
        match start {
            true => self.shard.start_typing(room, self.socket, words),
            false => {
                self.shard.stop_typing(room, self.socket);
                Ok(())
            }
        }
    }
}
