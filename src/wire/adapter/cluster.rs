//! `ClusterMessage`, the one message of the sharded adapter and of the streams adapter.
//!
//! ```text
//! {type, data, uid, nsp}      JSON, or MessagePack where it has binary
//!
//!  1 greeting   2 heartbeat   13 close             no data
//!  3 broadcast                                     {packet: {type: 2, data: [event, ..args]}, requestId?, opts: {rooms, except, flags}}
//!  4 join   5 leave                                {opts, rooms}
//!  6 disconnect                                    {opts, close}
//!  7 fetch                8 fetched                {opts, requestId}         {requestId, sockets}
//!  9 server-side emit    10 its answer             {requestId?, packet}      {requestId, packet}
//! 11 client count        12 acknowledgement        {requestId, clientCount}  {requestId, packet}
//! ```

use super::value::Value;
use super::writer::Writer;
use super::{
    Broken, Message, Payload, What, audience, event, id, names, namespace, packet, payload, required, sockets,
};
use std::borrow::Cow;

/// Reads what came on a channel.
pub fn decode<'a>(message: &'a [u8]) -> Result<Message<'a>, Broken> {
    let [kind, data, uid, nsp] = Value::parse(message)?.fields(["type", "data", "uid", "nsp"])?;
    let nsp = namespace(nsp.and_then(Value::text))?;
    let kind = kind.and_then(Value::number).ok_or(Broken::Field)?;
    let what = body(kind, data, &nsp)?;
    Ok(Message { nsp, from: Some(required(id(uid))?), what })
}

/// Reads a message's data.
pub(super) fn body<'a>(kind: u64, data: Option<Value<'a>>, nsp: &str) -> Result<What<'a>, Broken> {
    match kind {
        1 => return Ok(What::Greeting),
        2 => return Ok(What::Heartbeat),
        13 => return Ok(What::Close),
        3..=12 => {}
        _ => return Err(Broken::Kind),
    }
    let [opts, said, request, rooms, close, list, count] = data.ok_or(Broken::Field)?.fields([
        "opts",
        "packet",
        "requestId",
        "rooms",
        "close",
        "sockets",
        "clientCount",
    ])?;
    let request = id(request);
    Ok(match kind {
        3 => What::Broadcast { packet: packet(said, nsp, nsp)?, to: audience(opts)?, request: request? },
        4 => What::Join { to: audience(opts)?, rooms: names(rooms)?, request: None },
        5 => What::Leave { to: audience(opts)?, rooms: names(rooms)?, request: None },
        6 => {
            let close = close.and_then(Value::truth).unwrap_or(false);
            What::Disconnect { to: audience(opts)?, close, request: None }
        }
        7 => What::Fetch { request: required(request)?, to: audience(opts)? },
        8 => What::Fetched { request: required(request)?, sockets: sockets(list.ok_or(Broken::Field)?)? },
        9 => What::ServerSideEmit { packet: event(said)?, request: request? },
        10 => What::ServerSideEmitted { request: required(request)?, answer: payload(said)? },
        11 => {
            let count = count.and_then(Value::number).ok_or(Broken::Field)?;
            What::ClientCount { request: required(request)?, count }
        }
        12 => What::Ack { request: required(request)?, answer: payload(said)? },
        _ => return Err(Broken::Kind),
    })
}

/// Writes a message for a sharded fleet's channel: JSON, or MessagePack where it has binary parts. None where this wire has no word for it.
pub fn encode(message: &Message<'_>) -> Option<Vec<u8>> {
    write(message, if has_binary(&message.what) { Writer::packed() } else { Writer::json() })
}

/// Writes a message for a streams fleet's channel, where nothing but MessagePack is read.
pub fn encode_packed(message: &Message<'_>) -> Option<Vec<u8>> {
    write(message, Writer::packed())
}

fn write(message: &Message<'_>, mut out: Writer) -> Option<Vec<u8>> {
    let kind = number(&message.what)?;
    let has_data = has_data(&message.what);
    out.object(3 + u32::from(has_data), |out| {
        out.key("type");
        out.number(kind);
        if has_data {
            out.key("data");
            write_body(out, &message.what);
        }
        out.key("uid");
        out.text(message.from.as_deref().unwrap_or(""));
        out.key("nsp");
        out.text(&message.nsp);
    });
    Some(out.done())
}

/// A message's number.
pub(super) fn number(what: &What<'_>) -> Option<u64> {
    Some(match what {
        What::Greeting => 1,
        What::Heartbeat => 2,
        What::Broadcast { .. } => 3,
        What::Join { .. } => 4,
        What::Leave { .. } => 5,
        What::Disconnect { .. } => 6,
        What::Fetch { .. } => 7,
        What::Fetched { .. } => 8,
        What::ServerSideEmit { .. } => 9,
        What::ServerSideEmitted { .. } => 10,
        What::ClientCount { .. } => 11,
        What::Ack { .. } => 12,
        What::Close => 13,
        What::Done { .. }
        | What::Sids { .. }
        | What::SidsFound { .. }
        | What::Rooms { .. }
        | What::RoomsFound { .. } => {
            return None;
        }
    })
}

pub(super) fn has_data(what: &What<'_>) -> bool {
    !matches!(what, What::Greeting | What::Heartbeat | What::Close)
}

pub(super) fn has_binary(what: &What<'_>) -> bool {
    let has = |payload: &Payload<'_>| !payload.attachments.is_empty();
    match what {
        What::Broadcast { packet, .. } | What::ServerSideEmit { packet, .. } => has(&packet.args),
        What::ServerSideEmitted { answer, .. } | What::Ack { answer, .. } => has(answer),
        What::Fetched { sockets, .. } => sockets.iter().any(|socket| has(&socket.data)),
        _ => false,
    }
}

/// Writes a message's data, where it has any.
pub(super) fn write_body(out: &mut Writer, what: &What<'_>) {
    let asked = |out: &mut Writer, request: &Cow<'_, str>| {
        out.key("requestId");
        out.text(request);
    };
    let said = |out: &mut Writer, request: &Cow<'_, str>, answer: &Payload<'_>| {
        // An undefined answer is no member.
        out.object(1 + u32::from(!answer.json.is_empty()), |out| {
            asked(out, request);
            if !answer.json.is_empty() {
                out.key("packet");
                out.payload(answer);
            }
        });
    };
    match what {
        What::Broadcast { packet, to, request } => out.object(2 + u32::from(request.is_some()), |out| {
            out.key("packet");
            out.packet(packet, None);
            if let Some(request) = request {
                asked(out, request);
            }
            out.key("opts");
            out.audience(to, true);
        }),
        What::Join { to, rooms, .. } | What::Leave { to, rooms, .. } => out.object(2, |out| {
            out.key("opts");
            out.audience(to, true);
            out.key("rooms");
            out.names(rooms);
        }),
        What::Disconnect { to, close, .. } => out.object(2, |out| {
            out.key("opts");
            out.audience(to, true);
            out.key("close");
            out.truth(*close);
        }),
        What::Fetch { request, to } => out.object(2, |out| {
            out.key("opts");
            out.audience(to, true);
            asked(out, request);
        }),
        What::Fetched { request, sockets } => out.object(2, |out| {
            asked(out, request);
            out.key("sockets");
            out.sockets(sockets);
        }),
        What::ServerSideEmit { packet, request } => out.object(1 + u32::from(request.is_some()), |out| {
            if let Some(request) = request {
                asked(out, request);
            }
            out.key("packet");
            out.event(packet);
        }),
        What::ServerSideEmitted { request, answer } | What::Ack { request, answer } => said(out, request, answer),
        What::ClientCount { request, count } => out.object(2, |out| {
            asked(out, request);
            out.key("clientCount");
            out.number(*count);
        }),
        What::Greeting
        | What::Heartbeat
        | What::Close
        | What::Done { .. }
        | What::Sids { .. }
        | What::SidsFound { .. }
        | What::Rooms { .. }
        | What::RoomsFound { .. } => {}
    }
}
