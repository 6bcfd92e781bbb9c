//! The application: namespaces, and what each does with an event. The default profile goes through the same door as an embedding program.
//!
//! Handlers run on the shard, one at a time, and must not block: what they do to sockets takes effect in this turn. An `App` is built once
//! a shard, on its own thread, so a handler may hold what is not `Send`.
//!
//! ```
//! use tenantcast::shard::app::App;
//! let app = App::new().namespace("/", |echo| {
//!     echo.on_connect(|socket| socket.emit("hello", "1,\"two\""));
//!     echo.on("message", |socket, args| socket.emit("message-back", args.raw()));
//!     echo.on("ask", |socket, args| socket.ack(args.raw()));
//! });
//! # drop(app);
//! ```
//!
//! Arguments are raw JSON: a client's bytes are validated once and passed on as they came.

use super::delivery::Then;
use super::encode::Outgoing;
use super::fleet::Speaker;
use super::identity::Identity;
use super::io::Message;
use super::publish::Draft;
use super::refusal::Refusal;
use super::schema::Schema;
use super::session::{Kind, SessionKey};
use super::socket::SocketKey;
use super::tenant::Receipt;
use super::{Shard, Timer};
use crate::base::{
    chance::Map,
    id::Sid,
    time::{Duration, Now},
};
use crate::profile::Profile;
use crate::wire::{close::Close, json, socket_io::Packet};
use std::rc::Rc;

pub type Handler = Box<dyn Fn(&mut Context<'_>, Args<'_>)>;
pub type Hook = Box<dyn Fn(&mut Context<'_>)>;
/// What is done with a client's acknowledgement.
pub type OnAck = Box<dyn FnOnce(&mut Context<'_>, Args<'_>)>;
/// What is done later.
pub type Task = Box<dyn FnOnce(&mut Context<'_>)>;
pub type RawHandler = Box<dyn Fn(&mut RawSession<'_>, Message<'_>)>;

/// By event.
pub(super) struct Handlers(Map<Box<str>, Handler>);

impl Default for Handlers {
    fn default() -> Handlers {
        // Its keys are the program's, so nobody can choose them to collide.
        Handlers(Map::with_hasher(ahash::RandomState::with_seeds(1, 2, 3, 4)))
    }
}

impl Handlers {
    pub(super) fn get(&self, event: &str) -> Option<&Handler> {
        self.0.get(event)
    }
}

pub struct App {
    pub(super) names: Vec<Box<str>>,
    pub(super) namespaces: Vec<Namespace>,
    pub(super) engine: Option<RawHandler>,
    pub(super) websocket: Option<RawHandler>,
    pub(super) announces_users: bool,
    /// Its rooms, its catalogue, its words.
    pub(super) profile: Rc<Profile>,
    /// Of the catalogue's entries, by their index.
    pub(super) schemas: Box<[Option<Schema>]>,
}

impl Default for App {
    fn default() -> App {
        App::of(Rc::new(Profile::default()))
    }
}

#[derive(Default)]
pub struct Namespace {
    pub(super) on_connect: Option<Hook>,
    pub(super) on_disconnect: Option<Hook>,
    pub(super) handlers: Handlers,
    pub(super) keeps_auth: bool,
}

impl App {
    /// With the default profile's rooms, and no events: those are the program's.
    pub fn new() -> App {
        App::default()
    }

    /// With a profile's rooms and catalogue; its client events are bound by [`profile_app`](super::profile_app).
    pub fn of(profile: Rc<Profile>) -> App {
        let schemas = profile.catalogue.entries().map(|(_, entry)| entry.schema.as_ref().map(Schema::compile));
        App {
            names: Vec::new(),
            namespaces: Vec::new(),
            engine: None,
            websocket: None,
            announces_users: false,
            schemas: schemas.collect(),
            profile,
        }
    }

    /// Adds a namespace (its name begins with `/`), or adds to it. At most 250.
    pub fn namespace(mut self, name: &str, build: impl FnOnce(&mut Namespace)) -> App {
        let index = self.names.iter().position(|known| **known == *name).unwrap_or_else(|| {
            assert!(self.names.len() < 250, "a variant of a frame is one byte");
            self.names.push(name.into());
            self.namespaces.push(Namespace::default());
            self.names.len() - 1
        });
        build(&mut self.namespaces[index]);
        self
    }

    /// Serves Engine.IO without Socket.IO at `/engine.io/`.
    pub fn engine(mut self, handler: impl Fn(&mut RawSession<'_>, Message<'_>) + 'static) -> App {
        self.engine = Some(Box::new(handler));
        self
    }

    /// Serves WebSocket messages without any protocol in them, at every path that is nothing else.
    pub fn websocket(mut self, handler: impl Fn(&mut RawSession<'_>, Message<'_>) + 'static) -> App {
        self.websocket = Some(Box::new(handler));
        self
    }

    /// Tells a tenant's sockets of its users' coming and going: `user:online`, `user:offline`, `user:status`.
    pub fn announce_users(mut self) -> App {
        self.announces_users = true;
        self
    }

    pub fn has_engine(&self) -> bool {
        self.engine.is_some()
    }

    pub fn has_websocket(&self) -> bool {
        self.websocket.is_some()
    }
}

impl Namespace {
    /// A socket has joined and was told so.
    pub fn on_connect(&mut self, hook: impl Fn(&mut Context<'_>) + 'static) -> &mut Self {
        self.on_connect = Some(Box::new(hook));
        self
    }

    /// A socket is about to leave its rooms and end.
    pub fn on_disconnect(&mut self, hook: impl Fn(&mut Context<'_>) + 'static) -> &mut Self {
        self.on_disconnect = Some(Box::new(hook));
        self
    }

    /// What an event of a client does. A later handler of the same event replaces the earlier one.
    pub fn on(&mut self, event: &str, handler: impl Fn(&mut Context<'_>, Args<'_>) + 'static) -> &mut Self {
        self.handlers.0.insert(event.into(), Box::new(handler));
        self
    }

    /// Keeps what CONNECT carried for [`Context::auth`]; costs its bytes for each socket.
    pub fn keep_auth(&mut self) -> &mut Self {
        self.keeps_auth = true;
        self
    }
}

/// The arguments of an event or an acknowledgement.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    text: &'a str,
    form: Form<'a>,
    attachments: &'a [Vec<u8>],
}

/// Where the arguments are in their text.
#[derive(Clone, Copy)]
enum Form<'a> {
    /// Elements of an array, behind this one.
    Behind(&'a str),
    /// The elements of an array.
    Array,
    /// The text is the one argument; none, where it is empty.
    Value,
}

impl<'a> Args<'a> {
    pub(super) fn of_event(packet: &Packet<'a>, attachments: &'a [Vec<u8>]) -> Args<'a> {
        Args { text: packet.payload, form: Form::Behind(packet.name), attachments }
    }

    pub(super) fn of_array(array: &'a str, attachments: &'a [Vec<u8>]) -> Args<'a> {
        Args { text: array, form: Form::Array, attachments }
    }

    /// None, where an event has none.
    pub(super) fn none() -> Args<'static> {
        Args::of_value("")
    }

    /// One argument, from `/ws`.
    pub(super) fn of_value(value: &'a str) -> Args<'a> {
        Args { text: value, form: Form::Value, attachments: &[] }
    }

    /// Each argument as raw JSON.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let (single, elements) = match self.form {
            Form::Behind(name) => (None, json::elements_behind(self.text, name)),
            Form::Array => (None, json::elements(self.text)),
            Form::Value => (Some(self.text).filter(|text| !text.is_empty()), json::elements("")),
        };
        single.into_iter().chain(elements)
    }

    pub fn first(&self) -> Option<&'a str> {
        self.iter().next()
    }

    /// All arguments, joined by commas as they came: what [`Context::emit`] and [`Context::ack`] take.
    pub fn raw(&self) -> &'a str {
        let Some(first) = self.first() else { return "" };
        if matches!(self.form, Form::Value) {
            return first;
        }
        let start = first.as_ptr() as usize - self.text.as_ptr() as usize;
        let end = self.text.rfind(']').unwrap_or(start);
        self.text.get(start..end).unwrap_or("")
    }

    /// The binary parts; the arguments hold `{"_placeholder":true,"num":n}` for them.
    pub fn attachments(&self) -> &'a [Vec<u8>] {
        self.attachments
    }
}

crate::key!(
    /// A task of the application that waits for its time.
    TaskKey
);

/// A socket, as a handler has it.
pub struct Context<'a> {
    pub(super) shard: &'a mut Shard,
    pub(super) socket: SocketKey,
    /// The acknowledgement that is owed.
    pub(super) ack: Option<u64>,
    /// Of a greeting: the socket is an earlier one, with all it missed.
    pub(super) recovered: bool,
}

impl<'a> Context<'a> {
    pub(super) fn new(shard: &'a mut Shard, socket: SocketKey, ack: Option<u64>) -> Context<'a> {
        Context { shard, socket, ack, recovered: false }
    }

    pub fn now(&self) -> Now {
        self.shard.now
    }

    pub fn sid(&self) -> Sid {
        self.shard.sockets[self.socket].sid
    }

    pub fn identity(&self) -> &Identity {
        self.shard.identity(self.socket)
    }

    /// In `on_connect`: whether this is an earlier socket, back with its rooms and all it missed.
    pub fn recovered(&self) -> bool {
        self.recovered
    }

    /// What CONNECT carried, raw; `{}` where it carried nothing or [`Namespace::keep_auth`] was not asked for.
    pub fn auth(&self) -> &str {
        self.shard.sockets[self.socket].extras.as_ref().and_then(|extras| extras.auth.as_deref()).unwrap_or("{}")
    }

    /// Sends an event to this socket. `args` is raw JSON, several arguments joined by commas.
    pub fn emit(&mut self, event: &str, args: &str) {
        self.shard.send_event(self.socket, &Outgoing { name: event, args, ..Outgoing::default() }, false);
    }

    /// As [`emit`](Self::emit), of the first that a client gets: it has all there is, unless something waits for its user.
    pub fn emit_first(&mut self, event: &str, args: &str) {
        let position = self.shard.position_at_first(self.socket).filter(|_| !self.recovered);
        self.shard.send_event(self.socket, &Outgoing { name: event, args, position, ..Outgoing::default() }, false);
    }

    /// As [`emit`](Self::emit), with binary parts for the placeholders in `args`; `/ws` and `/events` get `args` alone.
    pub fn emit_binary(&mut self, event: &str, args: &str, attachments: &[Vec<u8>]) {
        self.shard.send_event(self.socket, &Outgoing { name: event, args, attachments, ..Outgoing::default() }, false);
    }

    /// As [`emit`](Self::emit), and asks for an acknowledgement. At most 64 may be owed; the oldest is dropped beyond.
    pub fn emit_with_ack(&mut self, event: &str, args: &str, then: impl FnOnce(&mut Context<'_>, Args<'_>) + 'static) {
        self.shard.send_with_ack(self.socket, event, args, Box::new(then));
    }

    /// Whether the client asked for an acknowledgement that it has not got yet.
    pub fn wants_ack(&self) -> bool {
        self.ack.is_some()
    }

    /// Answers the event. The first answer counts; nothing happens where none was asked for.
    pub fn ack(&mut self, args: &str) {
        self.ack_binary(args, &[]);
    }

    pub fn ack_binary(&mut self, args: &str, attachments: &[Vec<u8>]) {
        if let Some(id) = self.ack.take() {
            self.shard.send_ack(self.socket, id, args, attachments);
        }
    }

    /// Answers with a refusal: the ack where one was asked for, an `error` event otherwise.
    pub fn refuse(&mut self, refusal: &Refusal) {
        if self.wants_ack() {
            let mut args = Vec::new();
            refusal.write(&mut args);
            self.ack(&String::from_utf8_lossy(&args));
        } else {
            self.shard.say_error(self.socket, refusal.code(), refusal.message());
        }
    }

    /// Joins a room of this socket's tenant; permissions are the caller's business.
    pub fn join(&mut self, room: &str) -> Result<(), Refusal> {
        self.shard.join(self.socket, room, None).map(drop)
    }

    pub fn leave(&mut self, room: &str) {
        self.shard.leave_room(self.socket, room);
    }

    pub fn is_in(&self, room: &str) -> bool {
        self.shard.room_key(self.socket, room).is_some_and(|room| self.shard.sockets[self.socket].seat(room).is_some())
    }

    /// The rooms this socket is in.
    pub fn rooms(&self) -> impl Iterator<Item = &str> {
        self.shard.sockets[self.socket].seats.iter().map(|seat| &*self.shard.rooms[seat.room].name)
    }

    /// Sends an event, not stored, to all members of a room of this tenant but this socket.
    pub fn relay(&mut self, room: &str, event: &str, args: &str) {
        let tenant = self.shard.tenant_of(self.socket);
        let outgoing = Outgoing { name: event, args, ..Outgoing::default() };
        self.shard.emit_everywhere(tenant, room, &outgoing, Some(self.socket));
    }

    /// Publishes to a room of this tenant, as the catalogue has it; permissions are the caller's business. None: among nodes a durable event
    /// gets its place later, and this event is acknowledged then, with `{ok, id, epoch, offset}`.
    pub fn publish(&mut self, draft: &Draft<'_>) -> Result<Option<Receipt>, Refusal> {
        let tenant = self.shard.tenant_of(self.socket);
        let then = self.ack.map_or(Then::Nobody, |ack| Then::Client(self.socket, ack));
        let receipt = self.speak(|shard| shard.publish(tenant, draft, then))?;
        if receipt.is_none() {
            self.ack = None;
        }
        Ok(receipt)
    }

    /// What is published meanwhile is of this socket.
    pub(super) fn speak<T>(&mut self, publish: impl FnOnce(&mut Shard) -> T) -> T {
        let speaker = Speaker::Socket(self.socket);
        self.shard.speak(speaker, publish)
    }

    /// Does something after a while (8 ms late at most), if this socket is still there then.
    pub fn after(&mut self, wait: Duration, task: impl FnOnce(&mut Context<'_>) + 'static) {
        let key = self.shard.tasks.insert((self.socket, Box::new(task)));
        self.shard.timers.arm(self.shard.now.at + wait, Timer::Task(key));
    }

    /// Leaves the namespace when the handler returns; the client does not come back by itself.
    pub fn disconnect(&mut self) {
        self.shard.endings.push((self.socket, None));
    }

    /// Closes the whole session when the handler returns.
    pub fn close(&mut self, close: Close) {
        self.shard.endings.push((self.socket, Some(close)));
    }
}

/// An Engine.IO session without Socket.IO, or a WebSocket with nothing in it.
pub struct RawSession<'a> {
    pub(super) shard: &'a mut Shard,
    pub(super) key: SessionKey,
}

impl RawSession<'_> {
    pub fn send(&mut self, message: Message<'_>) {
        let bare = self.shard.sessions[self.key].kind == Kind::Bare;
        match message {
            Message::Text(text) if bare => self.shard.send_text(self.key, text.as_bytes(), false),
            Message::Text(text) => {
                let mut packet = Vec::with_capacity(text.len() + 1);
                packet.push(b'4');
                packet.extend_from_slice(text.as_bytes());
                self.shard.send_text(self.key, &packet, false);
            }
            Message::Binary(bytes) => self.shard.send_binary(self.key, bytes),
            Message::Pong => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_what_came() {
        for (array, want, raw) in [
            (r#"["e"]"#, vec![], ""),
            (r#"["e",1]"#, vec!["1"], "1"),
            (r#"[ "e" , {"a":[1,2]} , "x]" ]"#, vec![r#"{"a":[1,2]}"#, r#""x]""#], r#"{"a":[1,2]} , "x]" "#),
        ] {
            let packet = format!("2{array}");
            let args = Args::of_event(&crate::wire::socket_io::decode(&packet).unwrap(), &[]);
            assert_eq!(args.iter().collect::<Vec<_>>(), want);
            assert_eq!(args.raw(), raw);
        }
        assert_eq!(Args::of_array("[1,2]", &[]).raw(), "1,2");
        assert_eq!(Args::of_array("[]", &[]).raw(), "");
        assert_eq!(Args::of_value("[1,2]").raw(), "[1,2]");
        assert_eq!(Args::of_value("").first(), None);
    }
}
