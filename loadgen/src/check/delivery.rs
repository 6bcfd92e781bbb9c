//! The payload that is published, and the reader of what comes back.
//!
//! A member receives `42["load",<payload>,<meta>,"<recovery offset>"]`. The payload's fields stand in a fixed order, so the fast reader
//! takes them by position and looks only for `"offset":` and `"epoch":` in the meta (about 0.1 us); whatever it does not recognise goes
//! to the full reader, which also runs on a sample and must then agree with the fast one.

use memchr::memmem::Finder;
use serde_json::Value;

/// The event's type; a member's packet starts with [`PREFIX`].
pub const EVENT_TYPE: &str = "load";
/// How a delivery starts on the wire.
pub const PREFIX: &[u8] = b"42[\"load\",";

/// What a publisher writes: enough to check every delivery without remembering what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Index of the publisher's tenant.
    pub tenant: u32,
    /// Index of the room, over all tenants.
    pub room: u32,
    /// Index of the publisher.
    pub publisher: u32,
    /// How many the publisher had sent before.
    pub sequence: u32,
    /// When it should have been sent: microseconds of the monotonic clock, whatever the real time of sending.
    pub at_us: u64,
}

/// One event as a member received it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub payload: Payload,
    /// Position in the room's history.
    pub offset: u64,
    /// Hash of the epoch's JSON text: only its equality matters.
    pub epoch: u64,
}

impl Payload {
    /// Appends the JSON object, padded with `x` to `bytes` (it may be longer when `bytes` is too small for the fields).
    pub fn encode(&self, bytes: usize, out: &mut Vec<u8>) {
        let start = out.len();
        let mut number = |name: &[u8], value: u64| {
            out.extend_from_slice(name);
            out.extend_from_slice(value.to_string().as_bytes());
        };
        number(b"{\"t\":", self.tenant.into());
        number(b",\"r\":", self.room.into());
        number(b",\"p\":", self.publisher.into());
        number(b",\"s\":", self.sequence.into());
        number(b",\"at\":", self.at_us);
        out.extend_from_slice(b",\"pad\":\"");
        let end = start + bytes.saturating_sub(2);
        if out.len() < end {
            out.resize(end, b'x');
        }
        out.extend_from_slice(b"\"}");
    }
}

/// Reads deliveries; holds the prepared searches.
pub struct Reader {
    offset: Finder<'static>,
    epoch: Finder<'static>,
}

impl Reader {
    pub fn new() -> Reader {
        Reader { offset: Finder::new(b"\"offset\":"), epoch: Finder::new(b"\"epoch\":") }
    }

    /// Reads a delivery laid out as expected; `None` means "use [`read_fully`]", not "broken".
    pub fn read(&self, text: &[u8]) -> Option<Delivery> {
        let mut rest = text.strip_prefix(PREFIX)?;
        let tenant = number(&mut rest, b"{\"t\":")?;
        let room = number(&mut rest, b",\"r\":")?;
        let publisher = number(&mut rest, b",\"p\":")?;
        let sequence = number(&mut rest, b",\"s\":")?;
        let at_us = number(&mut rest, b",\"at\":")?;
        rest = rest.strip_prefix(b",\"pad\":\"")?;
        let pad = memchr::memchr(b'"', rest)?;
        let meta = rest[pad..].strip_prefix(b"\"},{")?;
        let mut offset = &meta[self.offset.find(meta)?..];
        let epoch = &meta[self.epoch.find(meta)? + b"\"epoch\":".len()..];
        let epoch = &epoch[..memchr::memchr2(b',', b'}', epoch)?];
        Some(Delivery {
            payload: Payload {
                tenant: tenant.try_into().ok()?,
                room: room.try_into().ok()?,
                publisher: publisher.try_into().ok()?,
                sequence: sequence.try_into().ok()?,
                at_us,
            },
            offset: number(&mut offset, b"\"offset\":")?,
            epoch: epoch_hash(epoch),
        })
    }
}

/// Reads a delivery as JSON and checks what the fast reader passes over: the meta's type and room. The error says what is wrong with it.
pub fn read_fully(text: &[u8], room_name: &str) -> Result<Delivery, String> {
    let json = text.strip_prefix(b"42").ok_or("not an event")?;
    let arguments: Vec<Value> = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let [event, data, meta, ..] = arguments.as_slice() else { return Err("an event without meta".to_owned()) };
    if event != EVENT_TYPE || meta["type"] != EVENT_TYPE {
        return Err(format!("event {event} of type {}", meta["type"]));
    }
    if meta["room"] != room_name {
        return Err(format!("meta.room is {}, the member subscribed to {room_name:?}", meta["room"]));
    }
    let field = |object: &Value, name: &str| object[name].as_u64().ok_or_else(|| format!("no number {name}"));
    let small = |name: &str| field(data, name).and_then(|n| n.try_into().map_err(|_| format!("{name} is {n}")));
    let payload = Payload {
        tenant: small("t")?,
        room: small("r")?,
        publisher: small("p")?,
        sequence: small("s")?,
        at_us: field(data, "at")?,
    };
    let epoch = meta.get("epoch").ok_or("no epoch")?.to_string();
    Ok(Delivery { payload, offset: field(meta, "offset")?, epoch: epoch_hash(epoch.as_bytes()) })
}

/// FNV-1a of an epoch's JSON text. The server under test is not an attacker of this table: nothing is looked up by it.
pub fn epoch_hash(json: &[u8]) -> u64 {
    json.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// Takes `name` and the digits after it off the front of `rest`.
fn number(rest: &mut &[u8], name: &[u8]) -> Option<u64> {
    let after = rest.strip_prefix(name)?;
    let digits = after.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 || digits > 19 {
        return None;
    }
    *rest = &after[digits..];
    after[..digits].iter().try_fold(0u64, |n, digit| n.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAYLOAD: Payload = Payload { tenant: 3, room: 14, publisher: 15, sequence: 92, at_us: 6_535_897_932 };

    fn text(meta: &str) -> Vec<u8> {
        let mut text = PREFIX.to_vec();
        PAYLOAD.encode(100, &mut text);
        text.extend_from_slice(meta.as_bytes());
        text
    }

    #[test]
    fn payloads_have_the_asked_size() {
        for (asked, expected) in [(100, 100), (64, 64), (57, 57), (10, 53), (1000, 1000)] {
            let mut out = b"before".to_vec();
            PAYLOAD.encode(asked, &mut out);
            assert_eq!(out.len() - 6, expected, "{}", String::from_utf8_lossy(&out));
            serde_json::from_slice::<Value>(&out[6..]).unwrap();
        }
    }

    #[test]
    fn both_readers_agree_on_every_order_of_the_meta() {
        let epoch = epoch_hash(b"\"e1\"");
        let expected = Delivery { payload: PAYLOAD, offset: 8, epoch };
        for meta in [
            r#",{"id":"01","type":"load","room":"r","time":"t","epoch":"e1","offset":8},"8"]"#,
            r#",{"offset":8,"epoch":"e1","room":"r","type":"load"}]"#,
        ] {
            let text = text(meta);
            assert_eq!(Reader::new().read(&text), Some(expected), "{meta}");
            assert_eq!(read_fully(&text, "r"), Ok(expected), "{meta}");
        }
    }

    #[test]
    fn the_full_reader_takes_what_the_fast_one_declines() {
        let spaced = br#"42["load", {"at": 5, "t": 1, "r": 2, "p": 3, "s": 4}, {"type":"load","room":"r","epoch":7,"offset":9}]"#;
        assert_eq!(Reader::new().read(spaced), None);
        let payload = Payload { tenant: 1, room: 2, publisher: 3, sequence: 4, at_us: 5 };
        assert_eq!(read_fully(spaced, "r"), Ok(Delivery { payload, offset: 9, epoch: epoch_hash(b"7") }));
    }

    #[test]
    fn broken_deliveries_are_named() {
        for (meta, reason) in [
            (r#",{"type":"load","room":"other","epoch":"e","offset":8}]"#, "meta.room"),
            (r#",{"type":"other","room":"r","epoch":"e","offset":8}]"#, "of type"),
            (r#",{"type":"load","room":"r","epoch":"e"}]"#, "no number offset"),
            (r#",{"type":"load","room":"r","offset":8}]"#, "no epoch"),
            ("]", "without meta"),
            (",{", "EOF"),
        ] {
            let error = read_fully(&text(meta), "r").unwrap_err();
            assert!(error.contains(reason), "{meta}: {error}");
        }
    }
}
