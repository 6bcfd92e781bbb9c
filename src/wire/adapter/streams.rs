//! `@socket.io/redis-streams-adapter`: its rows, its sessions, and `@socket.io/redis-streams-emitter`'s rows, which are the same.
//!
//! ```text
//! row         uid <uid>  nsp <namespace>  type <digits>  data <JSON object, or base64 of MessagePack>      data: see cluster
//! offset      the row's id, <ms>-<n>: appended to an event's arguments, given back by a client that returns
//! session     SET sio:session:<pid>  base64 of MessagePack {sid, pid, rooms, data}  PX, taken by who restores it
//! ours        a row of ours has `tenant` and `frame` besides, which Node passes over: the event as our nodes have it; a session of ours has
//!             `record`: the socket as our nodes keep it
//! ```
//!
//! Since 0.3 what is answered goes over channels ([`is_row`]); 0.2 writes all of it to the stream, and counts its nodes by their heartbeats.
//! A session is restored where its offset is still in the stream; missed are the rows after it that are broadcasts of its namespace and
//! whose audience [includes](super::Audience::includes) its rooms.

use super::value::Value;
use super::writer::Writer;
use super::{Broken, Message, What, cluster, id, names, namespace, required};
use crate::base::limit::{FLEET_ID_BYTES_MAX, FLEET_MESSAGE_BYTES_MAX};
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use std::borrow::Cow;

/// What sessions' keys begin with, unless told otherwise.
pub const SESSION_PREFIX: &str = "sio:session:";

/// As Node reads it: with padding or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A row of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    pub uid: &'a str,
    pub nsp: &'a str,
    pub kind: &'a str,
    pub data: Option<&'a str>,
}

impl<'a> Row<'a> {
    /// A row from its fields. None: it has no namespace, and is not for a fleet.
    pub fn of(fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Option<Result<Row<'a>, Broken>> {
        let (mut uid, mut nsp, mut kind, mut data) = (None, None, None, None);
        for (name, value) in fields {
            match name {
                b"uid" => uid = Some(value),
                b"nsp" => nsp = Some(value),
                b"type" => kind = Some(value),
                b"data" => data = Some(value),
                _ => {}
            }
        }
        let nsp = nsp.filter(|nsp| !nsp.is_empty())?;
        let text = |bytes: &'a [u8]| std::str::from_utf8(bytes).map_err(|_| Broken::Syntax);
        let row = || {
            Ok(Row {
                uid: text(uid.ok_or(Broken::Field)?)?,
                nsp: text(nsp)?,
                kind: text(kind.ok_or(Broken::Field)?)?,
                data: data.filter(|data| !data.is_empty()).map(text).transpose()?,
            })
        };
        Some(row())
    }
}

/// Reads a row; `buffer` holds its bytes where they were in base64.
pub fn decode<'a>(row: &Row<'a>, buffer: &'a mut Vec<u8>) -> Result<Message<'a>, Broken> {
    let nsp = namespace(Some(Cow::Borrowed(row.nsp)))?;
    if row.uid.len() > FLEET_ID_BYTES_MAX {
        return Err(Broken::Field);
    }
    let kind = row.kind.parse().map_err(|_| Broken::Kind)?;
    let data = match row.data {
        None => None,
        Some(json) if json.starts_with('{') => Some(Value::parse(json.as_bytes())?),
        Some(text) => Some(Value::parse_pack(unbase(text.as_bytes(), buffer)?)?),
    };
    let what = cluster::body(kind, data, &nsp)?;
    Ok(Message { nsp, from: Some(Cow::Borrowed(row.uid)), what })
}

/// Writes a message as a row's fields, in their order. None where this wire has no word for it.
pub fn encode(message: &Message<'_>) -> Option<Vec<(&'static str, Vec<u8>)>> {
    let kind = cluster::number(&message.what)?;
    let mut row = vec![
        ("uid", message.from.as_deref().unwrap_or("").into()),
        ("nsp", message.nsp.as_bytes().into()),
        ("type", kind.to_string().into_bytes()),
    ];
    if cluster::has_data(&message.what) {
        let packed = cluster::has_binary(&message.what);
        let mut out = if packed { Writer::packed() } else { Writer::json() };
        cluster::write_body(&mut out, &message.what);
        let data = out.done();
        row.push(("data", if packed { BASE64.encode(data).into_bytes() } else { data }));
    }
    Some(row)
}

/// Whether a fleet since 0.3 writes it to its stream; the others go over channels, as MessagePack
/// ([`encode_packed`](super::cluster::encode_packed)).
pub fn is_row(what: &What<'_>) -> bool {
    match what {
        What::Broadcast { request, .. } => request.is_none(),
        What::ServerSideEmit { .. } | What::Fetch { .. } => false,
        what => !what.is_answer(),
    }
}

/// A socket that may come back, to any node.
#[derive(Clone, Debug, PartialEq)]
pub struct Session<'a> {
    pub sid: Cow<'a, str>,
    pub pid: Cow<'a, str>,
    pub rooms: Vec<Cow<'a, str>>,
    /// What the application keeps with it, MessagePack as it was written: it is given back as it came. Empty: nothing.
    pub data: Cow<'a, [u8]>,
    /// How a node of ours kept it; Node has none.
    pub record: Option<&'a [u8]>,
}

/// Reads a session's value; `buffer` holds its bytes.
pub fn decode_session<'a>(value: &[u8], buffer: &'a mut Vec<u8>) -> Result<Session<'a>, Broken> {
    let value = Value::parse_pack(unbase(value, buffer)?)?;
    let [sid, pid, rooms, data, record] = value.fields(["sid", "pid", "rooms", "data", "record"])?;
    Ok(Session {
        sid: required(id(sid))?,
        pid: required(id(pid))?,
        rooms: names(rooms)?,
        data: Cow::Borrowed(data.and_then(Value::packed).unwrap_or_default()),
        record: record.and_then(Value::binary),
    })
}

pub fn encode_session(session: &Session<'_>) -> Vec<u8> {
    let mut out = Writer::packed();
    out.object(4 + u32::from(session.record.is_some()), |out| {
        out.key("sid");
        out.text(&session.sid);
        out.key("pid");
        out.text(&session.pid);
        out.key("rooms");
        out.names(&session.rooms);
        out.key("data");
        match session.data.is_empty() {
            true => out.raw("{}", &[]),
            false => out.packed_value(&session.data),
        }
        if let Some(record) = session.record {
            out.key("record");
            out.binary(record);
        }
    });
    BASE64.encode(out.done()).into_bytes()
}

/// What an application of ours keeps with a socket, as a session's `data`.
pub fn pack(json: &str) -> Vec<u8> {
    let mut out = Writer::packed();
    out.raw(json, &[]);
    out.done()
}

/// A row's id, which a client keeps as the offset of what it has: `<ms>-<n>`. 0-0 is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Offset {
    pub ms: u64,
    pub nth: u64,
}

impl Offset {
    /// As a client gives it back. Anything else is no offset, and must not reach Redis.
    pub fn parse(text: &str) -> Option<Offset> {
        let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
            true => text.parse().ok(),
            false => None,
        };
        let (ms, nth) = text.split_once('-')?;
        Some(Offset { ms: number(ms)?, nth: number(nth)? })
    }

    pub fn is_first(self) -> bool {
        self == Offset::default()
    }
}

impl std::fmt::Display for Offset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.ms, self.nth)
    }
}

/// The stream of a namespace, of `count`.
///
/// Node's hash may be negative, and its nodes then write to `<name>--<n>`, which none of them reads; who reads by this name hears them.
pub fn stream(name: &str, count: u32, nsp: &str) -> String {
    if count <= 1 {
        return name.to_owned();
    }
    let hash = nsp.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(unit.into()));
    format!("{name}-{}", i64::from(hash) % i64::from(count))
}

/// What of a key its slot in a Cluster goes by.
///
/// Source: <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags>.
pub fn tag(key: &str) -> &str {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    tag.filter(|tag| !tag.is_empty()).unwrap_or(key)
}

fn unbase<'a>(text: &[u8], buffer: &'a mut Vec<u8>) -> Result<&'a [u8], Broken> {
    if text.len() / 4 * 3 > FLEET_MESSAGE_BYTES_MAX {
        return Err(Broken::Long);
    }
    buffer.clear();
    BASE64.decode_vec(text, buffer).map_err(|_| Broken::Syntax)?;
    Ok(buffer)
}
