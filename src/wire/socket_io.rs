//! Socket.IO, revision 5: packets of a socket on a namespace, inside Engine.IO messages.
//!
//! ```text
//! packet = type [attachments "-"] [namespace ","] [id] [json]      then as many binary messages as there are attachments
//!
//! 0/chat,{"token":"x"}       CONNECT          2["hello",1]          EVENT             212["hello"]    EVENT that wants an ack
//! 1/chat,                    DISCONNECT       312["world"]          ACK of 12         4{"message":""} CONNECT_ERROR
//! 51-["a",{"_placeholder":true,"num":0}]      BINARY_EVENT          61-12[{"_placeholder":true,"num":0}]   BINARY_ACK
//! ```
//!
//! Invariants:
//! - [`decode`] takes the text of an Engine.IO message, without its `4`; the encoders write it *with* the `4`, ready for a text frame or a
//!   payload.
//! - A decoded packet is one the official parser (socket.io-parser 4.2.6) accepts too, and its payload is validated JSON of the right shape: an
//!   object or nothing (CONNECT), nothing (DISCONNECT), an array that begins with an event's name (EVENT), an array (ACK). It is forwarded
//!   byte for byte. Every placeholder in it names an attachment there is, or the official clients it is forwarded to would throw.
//! - Without attachments nothing is allocated; an idle [`Assembler`] is one pointer.
//!
//! Stricter than the official parser, each time where it leaves a socket in a state of no use: an EVENT or ACK without an array, attachments
//! without a number, ids above 2^64, blanks before the payload, and CONNECT_ERROR, which only servers send.
//! Source: <https://github.com/socketio/socket.io-protocol>.

mod attachment;
mod encode;

pub use attachment::{Assembled, Assembler};
pub use encode::{ack, binary_event, connect, connect_error, disconnect, event, placeholder};

use super::json;
use crate::base::limit::ATTACHMENTS_MAX;
use std::borrow::Cow;

/// Bytes of a namespace, its query left out. No profile can list a longer one, and an unknown one is echoed to its client.
pub const NAMESPACE_BYTES_MAX: usize = 256;

/// Names the client and server libraries keep for themselves; the official parser refuses them, and so would the clients we relay to.
pub const RESERVED_EVENTS: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

const ATTACHMENTS_BOUND: u8 = ATTACHMENTS_MAX as u8;
const _: () = assert!(ATTACHMENTS_MAX <= u8::MAX as usize);

/// What a packet is. Its number is the first digit on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Connect = 0,
    Disconnect = 1,
    Event = 2,
    Ack = 3,
    ConnectError = 4,
    BinaryEvent = 5,
    BinaryAck = 6,
}

impl Kind {
    /// Whether binary messages may follow.
    pub const fn is_binary(self) -> bool {
        matches!(self, Kind::BinaryEvent | Kind::BinaryAck)
    }

    fn of(digit: u8) -> Option<Kind> {
        Some(match digit {
            b'0' => Kind::Connect,
            b'1' => Kind::Disconnect,
            b'2' => Kind::Event,
            b'3' => Kind::Ack,
            b'4' => Kind::ConnectError,
            b'5' => Kind::BinaryEvent,
            b'6' => Kind::BinaryAck,
            _ => return None,
        })
    }
}

/// A packet of a client, borrowed from its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    pub kind: Kind,
    /// Begins with `/`, at most [`NAMESPACE_BYTES_MAX`]; a query (`/chat?x=1`, as older clients send) is left out.
    pub namespace: &'a str,
    /// The ack an EVENT asks for, or the one an ACK answers.
    pub id: Option<u64>,
    /// Binary messages that follow, at most [`ATTACHMENTS_MAX`].
    pub attachments: u8,
    /// Validated raw JSON without blanks around it, or nothing.
    pub payload: &'a str,
    /// An event's name, raw, as it stands in the payload; else nothing.
    pub name: &'a str,
}

impl<'a> Packet<'a> {
    /// The event's name; none if the packet is no event. A number for a name is given as it is written.
    pub fn event(&self) -> Option<Cow<'a, str>> {
        if !matches!(self.kind, Kind::Event | Kind::BinaryEvent) {
            return None;
        }
        json::string(self.name).or(Some(Cow::Borrowed(self.name)))
    }

    /// The raw arguments of an event (its name left out) or of an ack.
    pub fn arguments(&self) -> json::Elements<'a> {
        match self.kind {
            Kind::Event | Kind::BinaryEvent => json::elements_behind(self.payload, self.name),
            _ => json::elements(self.payload),
        }
    }
}

/// What is wrong with what a client sent. Each closes its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("unknown packet type")]
    UnknownType,
    #[error("illegal attachments")]
    IllegalAttachments,
    #[error("too many attachments")]
    TooManyAttachments,
    #[error("the namespace is too long")]
    NamespaceTooLong,
    #[error("the acknowledgement id is too large")]
    IdTooLarge,
    #[error("invalid payload")]
    InvalidPayload,
    #[error("the event's name is reserved")]
    ReservedEvent,
    #[error("got plaintext data when reconstructing a packet")]
    TextBetweenAttachments,
    #[error("got binary data when not reconstructing a packet")]
    UnexpectedBinary,
    #[error("the packet and its attachments are too large")]
    TooLarge,
}

/// Reads the text of an Engine.IO message, its `4` left out.
pub fn decode<'a>(text: &'a str) -> Result<Packet<'a>, Error> {
    let kind = text.bytes().next().and_then(Kind::of).ok_or(Error::UnknownType)?;
    if kind == Kind::ConnectError {
        return Err(Error::UnknownType);
    }
    let rest = &text[1..];
    let (attachments, rest) = if kind.is_binary() { decode_attachments(rest)? } else { (0, rest) };
    let (namespace, rest) = decode_namespace(rest)?;
    let (id, rest) = decode_id(rest)?;
    let payload = rest.trim_end_matches([' ', '\t', '\n', '\r']);
    let name = check_payload(kind, payload)?;
    if kind.is_binary() {
        attachment::check_placeholders(payload, attachments)?;
    }
    Ok(Packet { kind, namespace, id, attachments, payload, name })
}

/// Whether each placeholder in validated JSON, or in several values joined by commas, names one of the attachments.
pub(super) fn has_its_attachments(json: &str, attachments: usize) -> bool {
    u8::try_from(attachments).is_ok_and(|count| attachment::check_placeholders(json, count).is_ok())
}

fn decode_attachments(text: &str) -> Result<(u8, &str), Error> {
    let (digits, rest) = split_digits(text);
    let rest = rest.strip_prefix('-').filter(|_| !digits.is_empty()).ok_or(Error::IllegalAttachments)?;
    match digits.parse::<u8>() {
        Ok(count) if count <= ATTACHMENTS_BOUND => Ok((count, rest)),
        // Digits fail to parse only when they are too many.
        _ => Err(Error::TooManyAttachments),
    }
}

fn decode_namespace(text: &str) -> Result<(&str, &str), Error> {
    if !text.starts_with('/') {
        return Ok(("/", text));
    }
    let (full, rest) = text.split_once(',').unwrap_or((text, ""));
    let namespace = full.split_once('?').map_or(full, |(namespace, _query)| namespace);
    if namespace.len() > NAMESPACE_BYTES_MAX {
        return Err(Error::NamespaceTooLong);
    }
    Ok((namespace, rest))
}

fn decode_id(text: &str) -> Result<(Option<u64>, &str), Error> {
    let (digits, rest) = split_digits(text);
    if digits.is_empty() {
        return Ok((None, rest));
    }
    digits.parse().map(|id| (Some(id), rest)).map_err(|_| Error::IdTooLarge)
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

/// Whether the payload is as it has to be; an event's name, raw.
fn check_payload(kind: Kind, payload: &str) -> Result<&str, Error> {
    let opening = match kind {
        Kind::Connect | Kind::Disconnect if payload.is_empty() => return Ok(""),
        Kind::Disconnect | Kind::ConnectError => return Err(Error::InvalidPayload),
        Kind::Connect => '{',
        Kind::Event | Kind::Ack | Kind::BinaryEvent | Kind::BinaryAck => '[',
    };
    if !payload.starts_with(opening) || !json::validate(payload) {
        return Err(Error::InvalidPayload);
    }
    if !matches!(kind, Kind::Event | Kind::BinaryEvent) {
        return Ok("");
    }
    let name = json::elements(payload).next().ok_or(Error::InvalidPayload)?;
    match name.as_bytes().first() {
        Some(b'-' | b'0'..=b'9') => Ok(name),
        Some(b'"') => {
            let text = json::string(name).ok_or(Error::InvalidPayload)?;
            if RESERVED_EVENTS.contains(&text.as_ref()) { Err(Error::ReservedEvent) } else { Ok(name) }
        }
        _ => Err(Error::InvalidPayload),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::chance::Chance;
    use crate::wire::engine_io;

    fn packet<'a>(kind: Kind, namespace: &'a str, id: Option<u64>, attachments: u8, payload: &'a str) -> Packet<'a> {
        let event = matches!(kind, Kind::Event | Kind::BinaryEvent);
        let name = if event { json::elements(payload).next().unwrap_or_default() } else { "" };
        Packet { kind, namespace, id, attachments, payload, name }
    }

    const ONE: &str = r#"["a",{"_placeholder":true,"num":0}]"#;

    #[test]
    fn packets() {
        let table = [
            ("0", packet(Kind::Connect, "/", None, 0, "")),
            (r#"0{"token":"123"}"#, packet(Kind::Connect, "/", None, 0, r#"{"token":"123"}"#)),
            ("0/custom,", packet(Kind::Connect, "/custom", None, 0, "")),
            ("0/custom", packet(Kind::Connect, "/custom", None, 0, "")),
            ("0/custom?x=1&y=/,{}", packet(Kind::Connect, "/custom", None, 0, "{}")),
            ("1", packet(Kind::Disconnect, "/", None, 0, "")),
            ("1/custom,", packet(Kind::Disconnect, "/custom", None, 0, "")),
            (r#"2["hello",1]"#, packet(Kind::Event, "/", None, 0, r#"["hello",1]"#)),
            ("2[\"é\"]\n", packet(Kind::Event, "/", None, 0, "[\"é\"]")),
            ("2[7]", packet(Kind::Event, "/", None, 0, "[7]")),
            ("2[-1.5]", packet(Kind::Event, "/", None, 0, "[-1.5]")),
            (r#"2["\ud83d"]"#, packet(Kind::Event, "/", None, 0, r#"["\ud83d"]"#)),
            (r#"2["Connect"]"#, packet(Kind::Event, "/", None, 0, r#"["Connect"]"#)),
            (r#"2/,["x"]"#, packet(Kind::Event, "/", None, 0, r#"["x"]"#)),
            (r#"2/admin,456["x"]"#, packet(Kind::Event, "/admin", Some(456), 0, r#"["x"]"#)),
            (r#"20["x"]"#, packet(Kind::Event, "/", Some(0), 0, r#"["x"]"#)),
            (r#"218446744073709551615["x"]"#, packet(Kind::Event, "/", Some(u64::MAX), 0, r#"["x"]"#)),
            ("3/admin,456[]", packet(Kind::Ack, "/admin", Some(456), 0, "[]")),
            ("312[null]", packet(Kind::Ack, "/", Some(12), 0, "[null]")),
            ("51-[\"a\",{\"_placeholder\":true,\"num\":0}]", packet(Kind::BinaryEvent, "/", None, 1, ONE)),
            ("510-/b,7[\"a\",{\"_placeholder\":true,\"num\":0}]", packet(Kind::BinaryEvent, "/b", Some(7), 10, ONE)),
            ("50-[\"a\"]", packet(Kind::BinaryEvent, "/", None, 0, "[\"a\"]")),
            ("61-15[{\"_placeholder\":true,\"num\":0}]", {
                packet(Kind::BinaryAck, "/", Some(15), 1, r#"[{"_placeholder":true,"num":0}]"#)
            }),
        ];
        for (text, want) in table {
            assert_eq!(decode(text), Ok(want), "{text:?}");
        }
    }

    #[test]
    fn refusals() {
        use Error::*;
        let long = format!("0/{}", "n".repeat(NAMESPACE_BYTES_MAX));
        let deep = format!("2[\"x\",{}{}]", "[".repeat(200), "]".repeat(200));
        let mut table = vec![
            ("", UnknownType),
            ("abc", UnknownType),
            ("7", UnknownType),
            ("é", UnknownType),
            ("4{\"message\":\"\"}", UnknownType),
            ("0[]", InvalidPayload),
            ("0\"x\"", InvalidPayload),
            ("0null", InvalidPayload),
            ("0{", InvalidPayload),
            ("0{}x", InvalidPayload),
            ("1[]", InvalidPayload),
            ("1{}", InvalidPayload),
            ("2", InvalidPayload),
            ("2{}", InvalidPayload),
            ("2[]", InvalidPayload),
            ("2[ ]", InvalidPayload),
            ("2/x", InvalidPayload),
            ("2[null]", InvalidPayload),
            ("2[true,1]", InvalidPayload),
            ("2[{}]", InvalidPayload),
            ("2[[\"x\"]]", InvalidPayload),
            ("2abc[\"x\"]", InvalidPayload),
            ("2[\"x\"", InvalidPayload),
            ("2[\"x\",]", InvalidPayload),
            ("2-1[\"x\"]", InvalidPayload),
            ("2 [\"x\"]", InvalidPayload),
            ("21.5[\"x\"]", InvalidPayload),
            ("2[\"x\"][\"y\"]", InvalidPayload),
            (&deep, InvalidPayload),
            ("3", InvalidPayload),
            ("31", InvalidPayload),
            ("31{}", InvalidPayload),
            ("218446744073709551616[\"x\"]", IdTooLarge),
            ("399999999999999999999999[]", IdTooLarge),
            ("2[\"\\u0063onnect\"]", ReservedEvent),
            ("50-[\"connect\"]", ReservedEvent),
            ("5[\"x\"]", IllegalAttachments),
            ("5-[\"x\"]", IllegalAttachments),
            ("51[\"x\"]", IllegalAttachments),
            ("5-1-[\"x\"]", IllegalAttachments),
            ("51.0-[\"x\"]", IllegalAttachments),
            ("5", IllegalAttachments),
            ("61", IllegalAttachments),
            ("511-[\"x\"]", TooManyAttachments),
            ("599999999999-[\"x\"]", TooManyAttachments),
            ("50-[\"a\",{\"_placeholder\":true,\"num\":0}]", IllegalAttachments),
            ("51-[\"a\",{\"_placeholder\":true,\"num\":1}]", IllegalAttachments),
            (&long, NamespaceTooLong),
        ];
        let reserved: Vec<String> = RESERVED_EVENTS.iter().map(|name| format!("2[\"{name}\"]")).collect();
        table.extend(reserved.iter().map(|text| (text.as_str(), ReservedEvent)));
        for (text, want) in table {
            assert_eq!(decode(text), Err(want), "{text:?}");
        }
    }

    #[test]
    fn names_and_arguments() {
        let table: [(&str, Option<&str>, &[&str]); 5] = [
            (r#"2["a\n", {"b":[1, 2]} ,"c,"]"#, Some("a\n"), &[r#"{"b":[1, 2]}"#, r#""c,""#]),
            ("2[7,null]", Some("7"), &["null"]),
            ("2[\"x\"]", Some("x"), &[]),
            ("31[\"x\",1]", None, &["\"x\"", "1"]),
            ("0{}", None, &[]),
        ];
        for (text, name, arguments) in table {
            let packet = decode(text).unwrap();
            assert_eq!((packet.event().as_deref(), packet.arguments().collect::<Vec<_>>()), (name, arguments.to_vec()));
        }
    }

    #[test]
    fn what_is_written_is_read_back_and_broken_packets_are_an_answer() {
        const NAMESPACES: [&str; 4] = ["/", "/a", "/é", "/x/y"];
        const CHARS: &[u8] = b"0123456789-/,[]{}\"\\?ab_: \x1e\xff";
        let mut chance = Chance::new([5; 32]);
        let mut refused = 0;
        for _ in 0..5000 {
            let namespace = NAMESPACES[chance.below(4) as usize];
            let id = (chance.below(2) == 0).then(|| chance.u64() >> chance.below(64));
            let (count, kind) = (chance.below(3) as usize, chance.below(4));
            let mut array = b"[".to_vec();
            json::write_string(&mut array, ["x", "\"", "é\n"][chance.below(3) as usize]);
            (0..count).for_each(|number| {
                array.push(b',');
                placeholder(&mut array, number);
            });
            let payload = String::from_utf8([array.as_slice(), b"]"].concat()).unwrap();
            let args = |out: &mut Vec<u8>| out.extend_from_slice(&array[1..]);
            let attachments = count as u8;
            let mut out = Vec::new();
            let want = match kind {
                0 => {
                    binary_event(&mut out, namespace, id, count, args);
                    packet(
                        if count == 0 { Kind::Event } else { Kind::BinaryEvent },
                        namespace,
                        id,
                        attachments,
                        &payload,
                    )
                }
                1 => {
                    ack(&mut out, namespace, id.unwrap_or(1), std::str::from_utf8(&array[1..]).unwrap(), count);
                    let kind = if count == 0 { Kind::Ack } else { Kind::BinaryAck };
                    packet(kind, namespace, id.or(Some(1)), attachments, &payload)
                }
                2 => {
                    event(&mut out, namespace, id, args);
                    packet(Kind::Event, namespace, id, 0, &payload)
                }
                _ => {
                    disconnect(&mut out, namespace);
                    packet(Kind::Disconnect, namespace, None, 0, "")
                }
            };
            let text = String::from_utf8(out.clone()).unwrap();
            let Ok(engine_io::Packet::Message(message)) = engine_io::decode(&text) else { panic!("{text}") };
            assert_eq!(decode(message), Ok(want), "{text}");

            out.remove(0);
            for _ in 0..=chance.below(3) {
                let (at, new) =
                    (chance.below(out.len() as u64) as usize, CHARS[chance.below(CHARS.len() as u64) as usize]);
                match chance.below(3) {
                    0 => out[at] = new,
                    1 => out.insert(at, new),
                    _ => out.truncate(at.max(1)),
                }
            }
            let broken = String::from_utf8_lossy(&out);
            match decode(&broken) {
                Err(_) => refused += 1,
                Ok(packet) => {
                    assert!(packet.namespace.starts_with('/') && packet.attachments <= ATTACHMENTS_BOUND, "{broken}");
                    assert!(
                        packet.payload.is_empty() || serde_json::from_str::<serde_json::Value>(packet.payload).is_ok()
                    );
                    assert_eq!(
                        packet.event().is_some(),
                        matches!(packet.kind, Kind::Event | Kind::BinaryEvent),
                        "{broken}"
                    );
                }
            }
        }
        assert!((1000..5000).contains(&refused), "mutations are neither all fatal nor all harmless: {refused}");
    }
}
