//! What the servers of an existing Socket.IO fleet write to Redis, and what emitters do: read into one set of values, and written from them.
//!
//! ```text
//!                      carried by                             as
//!  classic             PUBLISH                                MessagePack tuple [uid, packet, opts]; JSON or MessagePack requests, answers
//!  sharded             SPUBLISH                               ClusterMessage {uid, nsp, type, data}: JSON, MessagePack where it has binary
//!  streams 0.3         XADD; PUBLISH for what is answered     row uid, nsp, type, data: JSON or base64(MessagePack); MessagePack
//!  streams 0.2         XADD                                   rows alone
//!  redis-emitter       as classic, uid "emitter"
//!  streams-emitter     as streams 0.2, uid "emitter"
//! ```
//!
//! Invariants:
//! - Whatever stands on a channel or in a stream was written by somebody: it is read without a panic, with bounded depth, into at most a
//!   constant multiple of its size, or refused with a [`Broken`]. A refused message reaches nobody.
//! - What comes out as JSON is valid JSON of at most [`JSON_DEPTH_MAX`](crate::base::limit::JSON_DEPTH_MAX) levels, and each placeholder in a
//!   [`Payload`] with attachments names one of them: both may be sent to clients as they are.
//! - Only what is addressed reaches a tenant, see [`address`].
//!
//! ## Rooms and tenants
//!
//! A fleet knows rooms; a room of a tenant is `<tenant>/<room>` to it: `io.to("acme/project:7").emit(..)`. A profile with
//! `claims.single_tenant` may leave the tenant out, and what stands before a slash is then a tenant only if it is that one. A room that is a
//! socket's id reaches that socket. Nothing else reaches anybody: not a room without a tenant, and not what is said to a whole namespace
//! (`io.emit(..)`), which on a Node server is everybody of every tenant. Where there is one tenant it is everybody. Who means all of a tenant
//! says so, by the room every socket of it is in: `io.to("acme/tenant:acme")`.
//!
//! ## Binary
//!
//! JSON has no bytes. A value's binary parts stand beside it, in the order in which they were found, and `{"_placeholder":true,"num":0}` stands
//! for the first: as Socket.IO's own packets have it. What else JSON has no word for becomes what `JSON.stringify` makes of it: a date its ISO
//! text, an undefined member nothing, NaN null.

pub mod channel;
pub mod classic;
pub mod cluster;
mod msgpack;
pub mod reach;
pub mod streams;
#[cfg(test)]
mod tests;
mod value;
mod writer;

pub use channel::{Mode, Names};
pub use reach::{Part, Reach};

use super::json;
use super::socket_io::{self, NAMESPACE_BYTES_MAX};
use crate::base::id::{Sid, TenantId};
use crate::base::limit::{FLEET_ID_BYTES_MAX, FLEET_ROOMS_MAX, FLEET_SOCKETS_MAX};
use crate::base::time::UnixMs;
use std::borrow::Cow;
use value::Value;

/// The uid of every emitter: it hears no answers.
pub const EMITTER: &str = "emitter";

/// How long Node servers wait for an answer, unless told otherwise; what is answered later is not heard.
pub const ANSWER_MS: u64 = 5000;

/// What cannot be read, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("it is longer than is read")]
    Long,
    #[error("it ends early, or goes on")]
    Length,
    #[error("it is neither JSON nor MessagePack")]
    Syntax,
    #[error("it nests too deep")]
    Deep,
    #[error("it is of no kind that is known")]
    Kind,
    #[error("a field is missing, or is not what it should be")]
    Field,
    #[error("it is of another namespace than its channel")]
    Namespace,
    #[error("it names too many rooms or sockets")]
    Many,
    #[error("it has too many binary parts, or names one that is not there")]
    Attachments,
    #[error("clients and servers keep the event's name for themselves")]
    Reserved,
}

/// What one server of a fleet, or an emitter, says to the others.
#[derive(Clone, Debug, PartialEq)]
pub struct Message<'a> {
    /// Begins with `/`.
    pub nsp: Cow<'a, str>,
    /// Who wrote it; none where the wire does not say: classic answers, and what an emitter has sockets do. Our own is to be dropped.
    pub from: Option<Cow<'a, str>>,
    pub what: What<'a>,
}

/// A request's id, chosen by who asks; what answers it has the same.
pub type Request<'a> = Cow<'a, str>;

#[derive(Clone, Debug, PartialEq)]
pub enum What<'a> {
    /// An event for clients. With a request, each node answers how many sockets got it, and then what each of them acknowledged.
    Broadcast {
        packet: Packet<'a>,
        to: Audience<'a>,
        request: Option<Request<'a>>,
    },
    ClientCount {
        request: Request<'a>,
        count: u64,
    },
    /// One client's acknowledgement: its first argument.
    Ack {
        request: Request<'a>,
        answer: Payload<'a>,
    },
    /// The sockets join rooms. With a request (of classic adapters before 8), the node that has the socket answers `Done`.
    Join {
        to: Audience<'a>,
        rooms: Vec<Cow<'a, str>>,
        request: Option<Request<'a>>,
    },
    Leave {
        to: Audience<'a>,
        rooms: Vec<Cow<'a, str>>,
        request: Option<Request<'a>>,
    },
    /// The sockets leave the namespace; with `close`, their connections end.
    Disconnect {
        to: Audience<'a>,
        close: bool,
        request: Option<Request<'a>>,
    },
    Done {
        request: Request<'a>,
    },
    Fetch {
        request: Request<'a>,
        to: Audience<'a>,
    },
    /// The answer to `Fetch`; also to `Sids`, where there are none: then the wire does not tell the two apart.
    Fetched {
        request: Request<'a>,
        sockets: Vec<Socket<'a>>,
    },
    /// An event for the servers' own code. With a request, each answers.
    ServerSideEmit {
        packet: Packet<'a>,
        request: Option<Request<'a>>,
    },
    ServerSideEmitted {
        request: Request<'a>,
        answer: Payload<'a>,
    },
    /// Classic alone: the ids of the sockets in any of these rooms, or of all.
    Sids {
        request: Request<'a>,
        rooms: Vec<Cow<'a, str>>,
    },
    SidsFound {
        request: Request<'a>,
        sids: Vec<Cow<'a, str>>,
    },
    /// Classic alone: every room there is.
    Rooms {
        request: Request<'a>,
    },
    RoomsFound {
        request: Request<'a>,
        rooms: Vec<Cow<'a, str>>,
    },
    /// Streams 0.2 alone: a node that has come; each other answers with a heartbeat.
    Greeting,
    Heartbeat,
    /// Streams 0.2 alone: it goes, and answers nothing any more.
    Close,
}

/// Whom something is for: the sockets in any of the rooms, or all of the namespace where there are none, that are in none of `except`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Audience<'a> {
    pub rooms: Vec<Cow<'a, str>>,
    pub except: Vec<Cow<'a, str>>,
    pub flags: Flags,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// It may be lost.
    pub volatile: bool,
    pub compress: Option<bool>,
    /// How long the asker waits for acknowledgements.
    pub timeout_ms: Option<u64>,
}

/// An event.
#[derive(Clone, Debug, PartialEq)]
pub struct Packet<'a> {
    pub event: Cow<'a, str>,
    /// Its arguments, joined by commas; empty where it has none.
    pub args: Payload<'a>,
}

/// JSON, and the bytes that its placeholders stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payload<'a> {
    /// Empty: there is no value, which JavaScript calls undefined.
    pub json: Cow<'a, str>,
    pub attachments: Vec<Vec<u8>>,
}

impl<'a> Payload<'a> {
    pub fn json(json: impl Into<Cow<'a, str>>) -> Payload<'a> {
        Payload { json: json.into(), attachments: Vec::new() }
    }
}

/// A socket, as `fetchSockets` lists it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Socket<'a> {
    pub id: Cow<'a, str>,
    /// A JSON object: headers, time, address, xdomain, secure, issued, url, query, auth.
    pub handshake: Cow<'a, str>,
    pub rooms: Vec<Cow<'a, str>>,
    /// What the application keeps with it; `{}` where nothing.
    pub data: Payload<'a>,
}

/// The tenant and the room that a fleet's room means; none: nobody is reached by it.
pub fn address<'a>(room: &'a str, single_tenant: Option<&TenantId>) -> Option<(TenantId, &'a str)> {
    let (tenant, name) = match (single_tenant, room.split_once('/')) {
        (Some(single), Some((tenant, name))) if tenant == single.as_str() => (single.clone(), name),
        (Some(single), _) => (single.clone(), room),
        (None, Some((tenant, name))) => (TenantId::parse(tenant)?, name),
        (None, None) => return None,
    };
    (!name.is_empty()).then_some((tenant, name))
}

/// The socket that a fleet's room may mean: `<sid>` or `<tenant>/<sid>`. Ours says which node and shard it is of; whose tenant, the shard knows.
/// Any 20 characters of base64url are an id: there may be no such socket, and a room may have that name.
pub fn socket(room: &str) -> Option<Sid> {
    Sid::parse(room.rsplit_once('/').map_or(room, |(_, sid)| sid))
}

/// What a fleet calls a room of ours: what [`address`] finds it by.
pub fn room_name<'a>(tenant: &TenantId, room: &'a str, single_tenant: Option<&TenantId>) -> Cow<'a, str> {
    match single_tenant {
        // A room whose name begins like an address of its own tenant is addressed in full, or it would be another.
        Some(single) if single == tenant && address(room, single_tenant).is_some_and(|(_, name)| name == room) => {
            Cow::Borrowed(room)
        }
        _ => Cow::Owned(format!("{tenant}/{room}")),
    }
}

impl Audience<'_> {
    /// Whether it is for a whole namespace.
    pub fn is_everybody(&self) -> bool {
        self.rooms.is_empty()
    }

    /// Whether a socket in `rooms` is meant: for packets that a session missed. The rooms are the fleet's names.
    pub fn includes<S: AsRef<str>>(&self, rooms: &[S]) -> bool {
        let is_in = |list: &[Cow<'_, str>]| list.iter().any(|room| rooms.iter().any(|mine| mine.as_ref() == room));
        (self.rooms.is_empty() || is_in(&self.rooms)) && !is_in(&self.except)
    }
}

/// What `fetchSockets` tells of how one of our sockets came. Headers, query and auth stay here: tokens are in them.
pub fn handshake(address: &str, issued: UnixMs, secure: bool) -> String {
    let mut out = b"{\"headers\":{},\"time\":".to_vec();
    json::write_string(&mut out, &issued.rfc3339().to_string());
    out.extend_from_slice(b",\"address\":");
    json::write_string(&mut out, address);
    out.extend_from_slice(b",\"xdomain\":false,\"secure\":");
    out.extend_from_slice(if secure { b"true" } else { b"false" });
    out.extend_from_slice(b",\"issued\":");
    json::write_number(&mut out, issued.0);
    out.extend_from_slice(b",\"url\":\"/socket.io/\",\"query\":{},\"auth\":{}}");
    String::from_utf8(out).unwrap_or_default()
}

/// Reads `opts {rooms, except, flags}`; the classic adapter's requests have no flags, and old emitters no `except`.
fn audience<'a>(opts: Option<Value<'a>>) -> Result<Audience<'a>, Broken> {
    let [rooms, except, flags] = opts.ok_or(Broken::Field)?.fields(["rooms", "except", "flags"])?;
    let mut audience = Audience { rooms: names(rooms)?, except: names(except)?, flags: Flags::default() };
    if let Some(flags) = flags {
        let [volatile, compress, timeout] = flags.fields(["volatile", "compress", "timeout"])?;
        audience.flags = Flags {
            volatile: volatile.and_then(Value::truth).unwrap_or(false),
            compress: compress.and_then(Value::truth),
            timeout_ms: timeout.and_then(Value::number),
        };
    }
    Ok(audience)
}

/// Reads a list of rooms; a number is its digits, as Socket.IO has it where it names a channel. No list is an empty one.
fn names<'a>(list: Option<Value<'a>>) -> Result<Vec<Cow<'a, str>>, Broken> {
    let Some(list) = list else { return Ok(Vec::new()) };
    let mut out = Vec::new();
    for element in list.elements()? {
        if out.len() == FLEET_ROOMS_MAX {
            return Err(Broken::Many);
        }
        out.push(element.name().ok_or(Broken::Field)?);
    }
    Ok(out)
}

/// Reads `{type, data, nsp}`, an event for clients of the namespace; without a namespace it is of `default`.
fn packet<'a>(packet: Option<Value<'a>>, nsp: &str, default: &str) -> Result<Packet<'a>, Broken> {
    let [kind, data, of] = packet.ok_or(Broken::Field)?.fields(["type", "data", "nsp"])?;
    if of.and_then(Value::text).as_deref().unwrap_or(default) != nsp {
        return Err(Broken::Namespace);
    }
    // EVENT, and what emitters of before 2019 called an event with binary parts. Nothing else is for more than one client.
    match kind.and_then(Value::number) {
        Some(2 | 5) => {}
        _ => return Err(Broken::Kind),
    }
    let packet = event(data)?;
    match socket_io::RESERVED_EVENTS.contains(&&*packet.event) {
        true => Err(Broken::Reserved),
        false => Ok(packet),
    }
}

/// Reads `[event, ...args]`.
fn event<'a>(list: Option<Value<'a>>) -> Result<Packet<'a>, Broken> {
    let list = list.ok_or(Broken::Field)?;
    let event = list.elements()?.next().and_then(Value::name).ok_or(Broken::Field)?;
    Ok(Packet { event, args: list.tail()? })
}

/// Reads the sockets that a server lists.
fn sockets<'a>(list: Value<'a>) -> Result<Vec<Socket<'a>>, Broken> {
    let mut out = Vec::new();
    for element in list.elements()? {
        if out.len() == FLEET_SOCKETS_MAX {
            return Err(Broken::Many);
        }
        let [id, handshake, rooms, data] = element.fields(["id", "handshake", "rooms", "data"])?;
        let handshake = handshake.map(Value::payload).transpose()?.unwrap_or_else(|| Payload::json("{}"));
        if !handshake.attachments.is_empty() {
            return Err(Broken::Attachments);
        }
        out.push(Socket {
            id: id.and_then(Value::name).ok_or(Broken::Field)?,
            handshake: handshake.json,
            rooms: names(rooms)?,
            data: data.map(Value::payload).transpose()?.unwrap_or_else(|| Payload::json("{}")),
        });
    }
    Ok(out)
}

fn payload<'a>(value: Option<Value<'a>>) -> Result<Payload<'a>, Broken> {
    value.map_or_else(|| Ok(Payload::default()), Value::payload)
}

/// Reads the id of a node or of a request.
fn id<'a>(value: Option<Value<'a>>) -> Result<Option<Cow<'a, str>>, Broken> {
    let Some(value) = value else { return Ok(None) };
    value.name().filter(|id| id.len() <= FLEET_ID_BYTES_MAX).map(Some).ok_or(Broken::Field)
}

fn required<T>(value: Result<Option<T>, Broken>) -> Result<T, Broken> {
    value?.ok_or(Broken::Field)
}

fn namespace(nsp: Option<Cow<'_, str>>) -> Result<Cow<'_, str>, Broken> {
    nsp.filter(|nsp| nsp.starts_with('/') && nsp.len() <= NAMESPACE_BYTES_MAX).ok_or(Broken::Field)
}
