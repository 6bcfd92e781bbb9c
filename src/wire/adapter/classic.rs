//! `@socket.io/redis-adapter`'s classic wire, and `@socket.io/redis-emitter`'s, which is a part of it.
//!
//! ```text
//! broadcast   MessagePack   [uid, {type: 2, data: [event, ..args], nsp}, {rooms, except, flags}]
//! request     JSON          {uid, requestId?, type, opts?: {rooms, except}, rooms?, close?, data?}
//!             MessagePack   {uid, requestId, type: 7, packet, opts}                                  broadcast with acknowledgement
//! answer      JSON          {type?, requestId, sockets?, rooms?, data?, clientCount?}
//!             MessagePack   {type: 9, requestId, packet}                                             an acknowledgement
//!
//! 0 sids   1 rooms   2 join   3 leave   4 disconnect   5 fetch   6 server-side emit   7 broadcast   8 client count   9 acknowledgement
//! ```
//!
//! A fleet may have a packer of its own (option `parser`); one whose bytes are MessagePack or JSON is read as well.

use super::channel::Classic;
use super::value::Value;
use super::writer::Writer;
use super::{Audience, Broken, Message, What, audience, event, id, names, packet, payload, required, sockets};
use std::borrow::Cow;

/// Reads what came on a channel whose name says `on`.
pub fn decode<'a>(on: Classic<'a>, message: &'a [u8]) -> Result<Message<'a>, Broken> {
    let value = Value::parse(message)?;
    let (nsp, from, what) = match on {
        Classic::Broadcast { nsp, .. } => {
            let mut elements = value.elements()?;
            let mut next = || elements.next();
            let (from, said, opts) = (id(next())?, next(), next());
            let packet = packet(said, nsp, "/")?;
            (nsp, from, What::Broadcast { packet, to: audience(opts)?, request: None })
        }
        Classic::Request { nsp } => {
            let (from, what) = request(value, nsp)?;
            (nsp, from, what)
        }
        Classic::Response { nsp, .. } => (nsp, None, response(value)?),
    };
    Ok(Message { nsp: Cow::Borrowed(nsp), from, what })
}

fn request<'a>(value: Value<'a>, nsp: &str) -> Result<(Option<Cow<'a, str>>, What<'a>), Broken> {
    let [kind, uid, request, opts, rooms, close, data, said, sid, room] =
        value.fields(["type", "uid", "requestId", "opts", "rooms", "close", "data", "packet", "sid", "room"])?;
    let request = id(request);
    // Before version 8 a socket was named by its id, and who had it answered. Its id is a room too, of which it is the only member.
    let whom = || match (opts, sid) {
        (None, Some(sid)) => Ok(Audience { rooms: vec![sid.text().ok_or(Broken::Field)?], ..Audience::default() }),
        _ => audience(opts),
    };
    let which = || match (opts, room) {
        (None, Some(room)) => room.name().map(|room| vec![room]).ok_or(Broken::Field),
        _ => names(rooms),
    };
    let owed = |request: Result<Option<Cow<'a, str>>, Broken>| match opts {
        Some(_) => Ok(None),
        None => request,
    };
    let close = close.and_then(Value::truth).unwrap_or(false);
    let what = match kind.and_then(Value::number).ok_or(Broken::Field)? {
        0 => What::Sids { request: required(request)?, rooms: names(rooms)? },
        1 => What::Rooms { request: required(request)? },
        2 => What::Join { to: whom()?, rooms: which()?, request: owed(request)? },
        3 => What::Leave { to: whom()?, rooms: which()?, request: owed(request)? },
        4 => What::Disconnect { to: whom()?, close, request: owed(request)? },
        5 => What::Fetch { request: required(request)?, to: audience(opts)? },
        6 => What::ServerSideEmit { packet: event(data)?, request: request? },
        7 => {
            let packet = packet(said, nsp, "/")?;
            What::Broadcast { packet, to: audience(opts)?, request: Some(required(request)?) }
        }
        _ => return Err(Broken::Kind),
    };
    Ok((id(uid)?, what))
}

fn response(value: Value<'_>) -> Result<What<'_>, Broken> {
    let [kind, request, list, rooms, data, count, said] =
        value.fields(["type", "requestId", "sockets", "rooms", "data", "clientCount", "packet"])?;
    let request = required(id(request))?;
    match kind.and_then(Value::number) {
        Some(6) => return Ok(What::ServerSideEmitted { request, answer: payload(data)? }),
        Some(8) => {
            let count = count.and_then(Value::number).ok_or(Broken::Field)?;
            return Ok(What::ClientCount { request, count });
        }
        Some(9) => return Ok(What::Ack { request, answer: payload(said)? }),
        _ => {}
    }
    if let Some(list) = list {
        let are_ids = list.elements()?.next().is_some_and(|first| first.text().is_some());
        return Ok(match are_ids {
            true => What::SidsFound { request, sids: names(Some(list))? },
            false => What::Fetched { request, sockets: sockets(list)? },
        });
    }
    Ok(match rooms {
        Some(rooms) if rooms.is_list() => What::RoomsFound { request, rooms: names(Some(rooms))? },
        _ => What::Done { request },
    })
}

/// Writes a message; none where this wire has no word for it. Where it is published, [`Names::classic_channel`](super::Names::classic_channel)
/// says. Bytes in what the wire writes as JSON (sockets' data, what servers emit to each other) stay placeholders.
pub fn encode(message: &Message<'_>) -> Option<Vec<u8>> {
    let uid = message.from.as_deref().unwrap_or("");
    let mut out = match &message.what {
        What::Broadcast { .. } | What::Ack { .. } => Writer::packed(),
        _ => Writer::json(),
    };
    match &message.what {
        What::Broadcast { packet, to, request: None } => out.list(3, |out| {
            out.text(uid);
            out.packet(packet, Some(&message.nsp));
            out.audience(to, true);
        }),
        What::Broadcast { packet, to, request: Some(request) } => out.object(5, |out| {
            asked(out, uid, Some(request), 7);
            out.key("packet");
            out.packet(packet, Some(&message.nsp));
            out.key("opts");
            out.audience(to, true);
        }),
        What::Join { to, rooms, .. } => out.object(4, |out| {
            asked(out, uid, None, 2);
            out.key("opts");
            out.audience(to, false);
            out.key("rooms");
            out.names(rooms);
        }),
        What::Leave { to, rooms, .. } => out.object(4, |out| {
            asked(out, uid, None, 3);
            out.key("opts");
            out.audience(to, false);
            out.key("rooms");
            out.names(rooms);
        }),
        What::Disconnect { to, close, .. } => out.object(4, |out| {
            asked(out, uid, None, 4);
            out.key("opts");
            out.audience(to, false);
            out.key("close");
            out.truth(*close);
        }),
        What::Fetch { request, to } => out.object(4, |out| {
            asked(out, uid, Some(request), 5);
            out.key("opts");
            out.audience(to, false);
        }),
        What::ServerSideEmit { packet, request } => out.object(3 + u32::from(request.is_some()), |out| {
            asked(out, uid, request.as_deref(), 6);
            out.key("data");
            out.event(packet);
        }),
        What::Sids { request, rooms } => out.object(4, |out| {
            asked(out, uid, Some(request), 0);
            out.key("rooms");
            out.names(rooms);
        }),
        What::Rooms { request } => out.object(3, |out| asked(out, uid, Some(request), 1)),
        What::ClientCount { request, count } => out.object(3, |out| {
            answered(out, Some(8), request);
            out.key("clientCount");
            out.number(*count);
        }),
        What::Ack { request, answer } => out.object(2 + u32::from(!answer.json.is_empty()), |out| {
            answered(out, Some(9), request);
            if !answer.json.is_empty() {
                out.key("packet");
                out.payload(answer);
            }
        }),
        What::ServerSideEmitted { request, answer } => out.object(2 + u32::from(!answer.json.is_empty()), |out| {
            answered(out, Some(6), request);
            if !answer.json.is_empty() {
                out.key("data");
                out.payload(answer);
            }
        }),
        What::Done { request } => out.object(1, |out| answered(out, None, request)),
        What::Fetched { request, sockets } => out.object(2, |out| {
            answered(out, None, request);
            out.key("sockets");
            out.sockets(sockets);
        }),
        What::SidsFound { request, sids } => out.object(2, |out| {
            answered(out, None, request);
            out.key("sockets");
            out.names(sids);
        }),
        What::RoomsFound { request, rooms } => out.object(2, |out| {
            answered(out, None, request);
            out.key("rooms");
            out.names(rooms);
        }),
        What::Greeting | What::Heartbeat | What::Close => return None,
    }
    Some(out.done())
}

/// `uid, requestId?, type`.
fn asked(out: &mut Writer, uid: &str, request: Option<&str>, kind: u64) {
    out.key("uid");
    out.text(uid);
    if let Some(request) = request {
        out.key("requestId");
        out.text(request);
    }
    out.key("type");
    out.number(kind);
}

/// `type?, requestId`.
fn answered(out: &mut Writer, kind: Option<u64>, request: &str) {
    if let Some(kind) = kind {
        out.key("type");
        out.number(kind);
    }
    out.key("requestId");
    out.text(request);
}
