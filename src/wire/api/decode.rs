//! The body of a publish and the query of a history, as values.
//!
//! Invariants: an event's `data` is the producer's own text, byte for byte (never parsed into a value and written again, so big integers,
//! key order and duplicate keys arrive as they were sent); nothing is guessed: an unknown key, a `null` where a name belongs, or a list of
//! nobody is refused, because each of them is a typing error that would otherwise send an event to the wrong people.
//!
//! Where an event is refused, its JSON pointer (RFC 6901) is put together from the inside out on the error path only.

use super::{Ack, Bounds, Error, Publish};
use crate::base::limit::{
    DELIVERY_RETRIES, DELIVERY_TIMEOUT_MS, EVENT_NAME_BYTES_MAX, HISTORY_PAGE_MAX, JSON_DEPTH_MAX, PUBLISH_BATCH_MAX,
    SUBSCRIBE_ITEMS_MAX, TENANT_BYTES_MAX,
};
use crate::wire::http::Query;
use crate::wire::json;
use serde::de::IgnoredAny;
use std::{borrow::Cow, fmt};

/// Names the official Socket.IO clients refuse to emit or fire by themselves: a listener could not tell such an event from the real thing.
pub const RESERVED_TYPES: &[&str] =
    &["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// Keys of one event.
pub const EVENT_KEYS: &[&str] = &["id", "type", "room", "user", "entity", "data", "ephemeral", "ack", "to"];
const ENTITY_KEYS: &[&str] = &["type", "id"];
const ACK_KEYS: &[&str] = &["timeoutMs", "retries"];
const TO_KEYS: &[&str] = &["roles", "permissions"];

/// Events of a history answer when the caller does not say: what a room keeps by default.
pub const HISTORY_LIMIT_DEFAULT: usize = 100;

/// One event, or an array of 1 to [`PUBLISH_BATCH_MAX`].
pub(super) fn publish(body: &[u8], bounds: Bounds) -> Result<Vec<Publish>, Error> {
    if bounds.body_bytes != 0 && body.len() > bounds.body_bytes {
        return Err(Error::BodyTooLarge { max: bounds.body_bytes });
    }
    let text = std::str::from_utf8(body)
        .map_err(|error| Error::Json(format!("the text is not UTF-8 after byte {}", error.valid_up_to())))?;
    check(text)?;
    let text = text.trim_ascii();
    match Kind::of(text) {
        Kind::Object => Ok(vec![event(text, bounds)?]),
        Kind::Array => {
            // Counted first: 413 is the answer to a long batch, whatever is in it.
            let count = json::elements(text).take(PUBLISH_BATCH_MAX + 1).count();
            if count == 0 {
                return Err(Fault::here("must hold at least one event").into());
            }
            if count > PUBLISH_BATCH_MAX {
                return Err(Error::BatchTooLarge);
            }
            let events = json::elements(text).enumerate();
            Ok(events.map(|(at, raw)| event(raw, bounds).map_err(|fault| fault.under(at))).collect::<Result<_, _>>()?)
        }
        Kind::Other => Err(Fault::here("must be an event or an array of events").into()),
    }
}

/// A position in a room's history: epoch and offset.
type Since = (Box<str>, u64);

/// `limit`, `epoch` and `offset` of a history request; both of the last two or neither.
pub(super) fn history(query: Query<'_>) -> Result<(Option<Since>, usize), Error> {
    let (mut limit, mut epoch, mut offset) = (None, None, None);
    for (name, value) in query.iter() {
        let twice = match &*name {
            "limit" => limit.replace(number("limit", &value)?).is_some(),
            "epoch" => epoch.replace(Box::from(value)).is_some(),
            "offset" => offset.replace(number("offset", &value)?).is_some(),
            _ => return Err(Error::parameter(&name, "is not known here")),
        };
        if twice {
            return Err(Error::parameter(&name, "is given twice"));
        }
    }
    let limit = match limit {
        None => HISTORY_LIMIT_DEFAULT,
        Some(limit) => usize::try_from(limit)
            .ok()
            .filter(|limit| (1..=HISTORY_PAGE_MAX).contains(limit))
            .ok_or_else(|| Error::parameter("limit", format!("must be 1 to {HISTORY_PAGE_MAX}")))?,
    };
    let since = match (epoch, offset) {
        (None, None) => None,
        (Some(epoch), Some(offset)) if !str::is_empty(&epoch) => Some((epoch, offset)),
        (Some(_), Some(_)) => return Err(Error::parameter("epoch", "must not be empty")),
        (Some(_), None) => return Err(Error::parameter("offset", "is missing: `epoch` needs it")),
        (None, Some(_)) => return Err(Error::parameter("epoch", "is missing: `offset` needs it")),
    };
    Ok((since, limit))
}

/// For the requests that take no parameters.
pub(super) fn no_parameters(query: Query<'_>) -> Result<(), Error> {
    match query.iter().next() {
        None => Ok(()),
        Some((name, _)) => Err(Error::parameter(&name, "is not known here")),
    }
}

fn number(name: &str, text: &str) -> Result<u64, Error> {
    text.parse().map_err(|_| Error::parameter(name, "must be a whole number, 0 or above"))
}

/// What is wrong with a value, and where, seen from the value being read.
#[derive(Debug)]
struct Fault {
    pointer: String,
    message: Cow<'static, str>,
}

impl Fault {
    fn here(message: impl Into<Cow<'static, str>>) -> Fault {
        Fault { pointer: String::new(), message: message.into() }
    }

    fn at(step: impl fmt::Display, message: impl Into<Cow<'static, str>>) -> Fault {
        Fault::here(message).under(step)
    }

    /// The same fault, seen from one level up.
    fn under(self, step: impl fmt::Display) -> Fault {
        Fault { pointer: format!("/{step}{}", self.pointer), message: self.message }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Error {
        Error::Event { pointer: fault.pointer, message: fault.message }
    }
}

fn event(raw: &str, bounds: Bounds) -> Result<Publish, Fault> {
    let mut event = Publish { data: "null".into(), ..Publish::default() };
    let (mut named, mut room, mut user) = (false, None, None);
    for (key, value) in object(raw, EVENT_KEYS)? {
        let found = match key {
            "id" => id(value).map(|id| event.id = Some(id)),
            "type" => kind(value).map(|kind| {
                named = true;
                event.event = kind;
            }),
            "room" => name(value, bounds.room_name_bytes).map(|name| room = Some(name)),
            "user" => name(value, TENANT_BYTES_MAX).map(|name| user = Some(name)),
            "entity" => entity(value).map(|entity| event.entity = Some(entity)),
            "data" => {
                event.data = value.into();
                Ok(())
            }
            "ephemeral" => match value {
                "true" | "false" => {
                    event.ephemeral = value == "true";
                    Ok(())
                }
                _ => Err(Fault::here("must be true or false")),
            },
            "ack" => ack(value).map(|ack| event.ack = Some(ack)),
            "to" => to(value, &mut event),
            _ => unreachable!("object() refuses other keys"),
        };
        found.map_err(|fault| fault.under(key))?;
    }
    if !named {
        return Err(Fault::at("type", "is missing"));
    }
    if event.ack.is_some() && event.ephemeral {
        return Err(Fault::at("ack", "`ephemeral` and `ack` exclude each other"));
    }
    match (room, user, &event.entity) {
        (Some(_), Some(_), _) => return Err(Fault::at("user", "`room` and `user` exclude each other")),
        (None, Some(_), Some(_)) => return Err(Fault::at("entity", "`user` and `entity` exclude each other")),
        (Some(room), None, _) => event.room = Some(room),
        (None, Some(user), None) => event.user = Some(user),
        (None, None, _) => {}
    }
    Ok(event)
}

fn id(value: &str) -> Result<Box<str>, Fault> {
    let id = name(value, EVENT_NAME_BYTES_MAX)?;
    if id.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(Fault::here("must be printable, without spaces"));
    }
    Ok(id)
}

fn kind(value: &str) -> Result<Box<str>, Fault> {
    let kind = name(value, EVENT_NAME_BYTES_MAX)?;
    if kind.chars().any(char::is_control) {
        // It becomes a line of a server-sent event.
        return Err(Fault::here("must not hold control characters"));
    }
    if RESERVED_TYPES.contains(&&*kind) {
        return Err(Fault::here("is a reserved name of Socket.IO"));
    }
    Ok(kind)
}

fn entity(value: &str) -> Result<(Box<str>, Box<str>), Fault> {
    let (mut kind, mut id) = (None, None);
    for (key, value) in object(value, ENTITY_KEYS)? {
        let text = name(value, EVENT_NAME_BYTES_MAX).map_err(|fault| fault.under(key))?;
        match key {
            "type" => kind = Some(text),
            _ => id = Some(text),
        }
    }
    let kind = kind.ok_or_else(|| Fault::at("type", "is missing"))?;
    Ok((kind, id.ok_or_else(|| Fault::at("id", "is missing"))?))
}

fn ack(value: &str) -> Result<Ack, Fault> {
    let (mut timeout_ms, mut retries) = (None, None);
    for (key, value) in object(value, ACK_KEYS)? {
        let (number, range) = match key {
            "timeoutMs" => (&mut timeout_ms, DELIVERY_TIMEOUT_MS.1..=DELIVERY_TIMEOUT_MS.2),
            _ => (&mut retries, 0..=DELIVERY_RETRIES.1),
        };
        let given = value.parse().ok().filter(|given| range.contains(given));
        *number =
            Some(given.ok_or_else(|| {
                Fault::at(key, format!("must be a whole number, {} to {}", range.start(), range.end()))
            })?);
    }
    Ack::new(timeout_ms, retries).ok_or_else(|| Fault::here("is out of bounds"))
}

fn to(value: &str, event: &mut Publish) -> Result<(), Fault> {
    let fields = object(value, TO_KEYS)?;
    if fields.is_empty() {
        return Err(Fault::here("must name roles or permissions; leave it out to reach every member"));
    }
    for (key, value) in fields {
        let list = names(value).map_err(|fault| fault.under(key))?;
        match key {
            "roles" => event.to_roles = list,
            _ => event.to_permissions = list,
        }
    }
    Ok(())
}

fn names(value: &str) -> Result<Vec<Box<str>>, Fault> {
    if Kind::of(value) != Kind::Array {
        return Err(Fault::here("must be an array of strings"));
    }
    let mut names = Vec::new();
    for (at, item) in json::elements(value).enumerate() {
        if at == SUBSCRIBE_ITEMS_MAX {
            return Err(Fault::here(format!("must hold at most {SUBSCRIBE_ITEMS_MAX} strings")));
        }
        names.push(name(item, EVENT_NAME_BYTES_MAX).map_err(|fault| fault.under(at))?);
    }
    if names.is_empty() {
        // An empty list is what a producer's filter that found nobody looks like. It must not become a message to everybody.
        return Err(Fault::here("must not be empty; leave it out to reach every member"));
    }
    Ok(names)
}

/// A string of 1 to `max` bytes; 0 is no upper bound.
fn name(value: &str, max: usize) -> Result<Box<str>, Fault> {
    let text = json::string(value).ok_or_else(|| Fault::here("must be a string"))?;
    if text.is_empty() {
        return Err(Fault::here("must not be empty"));
    }
    if max != 0 && text.len() > max {
        return Err(Fault::here(format!("must not be longer than {max} bytes")));
    }
    Ok(text.into())
}

/// The fields of an object, each of them known and given once, in the order of the text.
fn object<'a>(raw: &'a str, known: &[&'static str]) -> Result<Vec<(&'static str, &'a str)>, Fault> {
    if Kind::of(raw) != Kind::Object {
        return Err(Fault::here("must be an object"));
    }
    let mut fields: Vec<(&'static str, &'a str)> = Vec::with_capacity(known.len());
    for (key, value) in json::members(raw) {
        let key = json::string(key).unwrap_or_default();
        let Some(key) = known.iter().copied().find(|name| *name == key) else {
            let message = format!("is not known; the keys are {}", known.join(", "));
            // The pointer is part of the answer: a key of a megabyte is not sent back.
            let named = key.len() <= EVENT_NAME_BYTES_MAX;
            return Err(if named { Fault::at(escape(&key), message) } else { Fault::here(format!("a key {message}")) });
        };
        if fields.iter().any(|(earlier, _)| *earlier == key) {
            return Err(Fault::at(key, "is given twice"));
        }
        fields.push((key, value));
    }
    Ok(fields)
}

/// A reference token of a JSON pointer (RFC 6901 section 3).
fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// One pass over the whole text before anything is sliced from it.
fn check(text: &str) -> Result<(), Error> {
    if json::validate(text) {
        return Ok(());
    }
    // Only here is it of interest where the fault is.
    Err(Error::Json(match serde_json::from_str::<IgnoredAny>(text) {
        Err(error) => error.to_string(),
        Ok(_) => format!("arrays and objects nest deeper than {JSON_DEPTH_MAX} levels"),
    }))
}

#[derive(PartialEq, Eq)]
enum Kind {
    Object,
    Array,
    Other,
}

impl Kind {
    fn of(raw: &str) -> Kind {
        match raw.as_bytes().first() {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            _ => Kind::Other,
        }
    }
}
