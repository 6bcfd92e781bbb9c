//! A message's value, whichever of the two languages it is written in.
//!
//! Invariants: a [`Value`] comes from [`Value::parse`], which has gone through all of it once; what it gives away borrows from the message but
//! for what has to be written anew. `null` and undefined are no fields.

use super::msgpack::{self, Item, Reader};
use super::{Broken, Payload};
use crate::base::limit::FLEET_MESSAGE_BYTES_MAX;
use crate::wire::{json, socket_io};
use std::borrow::Cow;

#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    /// Validated.
    Json(&'a str),
    /// Begins with the value; something may follow it.
    Pack(&'a [u8]),
}

impl<'a> Value<'a> {
    /// Node servers tell the two by the first byte. No message is a number, which is what a bracket is in MessagePack.
    pub(super) fn parse(message: &'a [u8]) -> Result<Value<'a>, Broken> {
        if message.len() > FLEET_MESSAGE_BYTES_MAX {
            return Err(Broken::Long);
        }
        if let Some(b'{' | b'[') = message.first() {
            let text = std::str::from_utf8(message).map_err(|_| Broken::Syntax)?;
            return if json::validate(text) { Ok(Value::Json(text)) } else { Err(Broken::Syntax) };
        }
        Value::parse_pack(message)
    }

    /// What can only be MessagePack.
    pub(super) fn parse_pack(message: &'a [u8]) -> Result<Value<'a>, Broken> {
        if message.len() > FLEET_MESSAGE_BYTES_MAX {
            return Err(Broken::Long);
        }
        msgpack::validate(message)?;
        Ok(Value::Pack(message))
    }

    /// The members with these names; of one that comes twice the last counts, as in JavaScript.
    pub(super) fn fields<const N: usize>(self, names: [&str; N]) -> Result<[Option<Value<'a>>; N], Broken> {
        let mut found = [None; N];
        let mut put = |key: &str, value: Value<'a>| {
            if let Some(nth) = names.iter().position(|name| *name == key) {
                found[nth] = (!value.is_nothing()).then_some(value);
            }
        };
        match self {
            Value::Json(text) => {
                if !text.starts_with('{') {
                    return Err(Broken::Field);
                }
                for (key, value) in json::members(text) {
                    if let Some(key) = json::string(key) {
                        put(&key, Value::Json(value));
                    }
                }
            }
            Value::Pack(bytes) => {
                let mut reader = Reader::new(bytes);
                let Item::Map(count) = reader.item()? else { return Err(Broken::Field) };
                for _ in 0..count {
                    let key = reader.item()?;
                    let value = Value::Pack(reader.rest());
                    reader.skip()?;
                    if let Item::Text(key) = key
                        && let Ok(key) = std::str::from_utf8(key)
                    {
                        put(key, value);
                    }
                }
            }
        }
        Ok(found)
    }

    pub(super) fn elements(self) -> Result<Elements<'a>, Broken> {
        match self {
            Value::Json(text) if text.starts_with('[') => Ok(Elements::Json(json::elements(text))),
            Value::Json(_) => Err(Broken::Field),
            Value::Pack(bytes) => {
                let mut reader = Reader::new(bytes);
                let Item::Array(left) = reader.item()? else { return Err(Broken::Field) };
                Ok(Elements::Pack { left, reader })
            }
        }
    }

    pub(super) fn text(self) -> Option<Cow<'a, str>> {
        match self {
            Value::Json(raw) => json::string(raw),
            Value::Pack(bytes) => match Reader::new(bytes).item() {
                Ok(Item::Text(text)) => Some(String::from_utf8_lossy(text)),
                _ => None,
            },
        }
    }

    /// A text, or the digits of a whole number.
    pub(super) fn name(self) -> Option<Cow<'a, str>> {
        self.text().or_else(|| match self {
            Value::Json(raw) => raw.parse::<i64>().is_ok().then_some(Cow::Borrowed(raw)),
            Value::Pack(bytes) => match Reader::new(bytes).item() {
                Ok(Item::Unsigned(number)) => Some(Cow::Owned(number.to_string())),
                Ok(Item::Signed(number)) => Some(Cow::Owned(number.to_string())),
                _ => None,
            },
        })
    }

    /// A whole number.
    pub(super) fn number(self) -> Option<u64> {
        match self {
            Value::Json(raw) => raw.parse().ok(),
            Value::Pack(bytes) => match Reader::new(bytes).item() {
                Ok(Item::Unsigned(number)) => Some(number),
                // What some packers make of every number beyond 32 bits.
                Ok(Item::Float(number)) if number.fract() == 0.0 && (0.0..=msgpack::EXACT_MAX).contains(&number) => {
                    Some(number as u64)
                }
                _ => None,
            },
        }
    }

    /// The bytes of a value of MessagePack, and nothing that follows it.
    pub(super) fn packed(self) -> Option<&'a [u8]> {
        let Value::Pack(bytes) = self else { return None };
        let mut reader = Reader::new(bytes);
        reader.skip().ok()?;
        bytes.get(..bytes.len() - reader.rest().len())
    }

    pub(super) fn binary(self) -> Option<&'a [u8]> {
        let Value::Pack(bytes) = self else { return None };
        match Reader::new(bytes).item() {
            Ok(Item::Binary(bytes)) => Some(bytes),
            _ => None,
        }
    }

    pub(super) fn truth(self) -> Option<bool> {
        match self {
            Value::Json("true") => Some(true),
            Value::Json("false") => Some(false),
            Value::Json(_) => None,
            Value::Pack(bytes) => match Reader::new(bytes).item() {
                Ok(Item::Bool(truth)) => Some(truth),
                _ => None,
            },
        }
    }

    /// The value as JSON with its attachments.
    pub(super) fn payload(self) -> Result<Payload<'a>, Broken> {
        match self {
            Value::Json(raw) => Ok(Payload::json(raw)),
            Value::Pack(bytes) => {
                let mut json = msgpack::ToJson::new(Reader::new(bytes));
                json.value()?;
                checked(json)
            }
        }
    }

    /// The elements of a list after the first, joined by commas.
    pub(super) fn tail(self) -> Result<Payload<'a>, Broken> {
        match self {
            Value::Json(raw) => {
                let mut elements = json::elements(raw).skip(1);
                let Some(first) = elements.next() else { return Ok(Payload::default()) };
                let last = elements.last().unwrap_or(first);
                // Slices of one text, so there is one from where the first begins to where the last ends.
                let start = first.as_ptr() as usize - raw.as_ptr() as usize;
                let end = last.as_ptr() as usize - raw.as_ptr() as usize + last.len();
                raw.get(start..end).map(Payload::json).ok_or(Broken::Field)
            }
            Value::Pack(bytes) => {
                let mut reader = Reader::new(bytes);
                let Item::Array(count) = reader.item()? else { return Err(Broken::Field) };
                reader.skip()?;
                let mut json = msgpack::ToJson::new(reader);
                for _ in 1..count {
                    json.value()?;
                }
                checked(json)
            }
        }
    }

    pub(super) fn is_list(self) -> bool {
        self.elements().is_ok()
    }

    fn is_nothing(self) -> bool {
        match self {
            Value::Json(raw) => raw == "null",
            Value::Pack(bytes) => matches!(Reader::new(bytes).item(), Ok(Item::Nil | Item::Undefined)),
        }
    }
}

/// A stranger may have written a placeholder of its own among the true ones, and official clients throw on one that names nothing.
fn checked<'a>(json: msgpack::ToJson<'_>) -> Result<Payload<'a>, Broken> {
    let (text, attachments) = json.done()?;
    let is_right = attachments.is_empty() || socket_io::has_its_attachments(&text, attachments.len());
    if is_right { Ok(Payload { json: Cow::Owned(text), attachments }) } else { Err(Broken::Attachments) }
}

pub(super) enum Elements<'a> {
    Json(json::Elements<'a>),
    Pack { left: u32, reader: Reader<'a> },
}

impl<'a> Iterator for Elements<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        match self {
            Elements::Json(elements) => elements.next().map(Value::Json),
            Elements::Pack { left, reader } => {
                *left = left.checked_sub(1)?;
                let value = Value::Pack(reader.rest());
                reader.skip().ok()?;
                Some(value)
            }
        }
    }
}
