//! Engine.IO and Socket.IO packets of the default namespace, as a client reads them off text frames.
//!
//! Only the kind is looked at; JSON stays a borrowed slice, because nearly every packet is a delivery and those have their own reader
//! (`delivery.rs`).

use serde::Deserialize;
use serde_json::value::RawValue;

/// A packet of the server. Kinds: Engine.IO protocol, "Packet encoding"; Socket.IO protocol, "Packet types".
#[derive(Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// `0{...}`: the Engine.IO session is open.
    Open,
    /// `2`: answered with `3`.
    Ping,
    /// `6`.
    Noop,
    /// `1` or `41`: the server ends the session.
    Close,
    /// `40{...}`: the namespace is joined.
    Connect,
    /// `44{...}`: the namespace is refused; the JSON says why.
    ConnectError(&'a [u8]),
    /// `42[...]`: an event; the JSON array.
    Event(&'a [u8]),
    /// `43<id>[...]`: an ack; the JSON array.
    Ack { id: u64, arguments: &'a [u8] },
}

/// A text frame that is no packet of this protocol.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a Socket.IO packet: {0}")]
pub struct PacketError(String);

/// Reads one text frame.
pub fn decode(text: &[u8]) -> Result<Packet<'_>, PacketError> {
    match text {
        [b'2'] => Ok(Packet::Ping),
        [b'6'] => Ok(Packet::Noop),
        [b'1'] => Ok(Packet::Close),
        [b'0', b'{', ..] => Ok(Packet::Open),
        [b'4', b'0', ..] => Ok(Packet::Connect),
        [b'4', b'1', ..] => Ok(Packet::Close),
        [b'4', b'2', json @ ..] if json.first() == Some(&b'[') => Ok(Packet::Event(json)),
        [b'4', b'4', json @ ..] => Ok(Packet::ConnectError(json)),
        [b'4', b'3', rest @ ..] => {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let id = std::str::from_utf8(&rest[..digits]).ok().and_then(|digits| digits.parse().ok());
            match (id, &rest[digits..]) {
                (Some(id), arguments) if arguments.first() == Some(&b'[') => Ok(Packet::Ack { id, arguments }),
                _ => Err(error(text)),
            }
        }
        _ => Err(error(text)),
    }
}

/// The name of an event, for those that are only counted.
pub fn event_name(json: &[u8]) -> &str {
    let mut parts = json.split(|byte| *byte == b'"');
    parts.nth(1).and_then(|name| std::str::from_utf8(name).ok()).unwrap_or("?")
}

/// What a server answers to `subscribe` and `publish`.
#[derive(Debug, Deserialize)]
pub struct Answer<'a> {
    pub ok: bool,
    pub code: Option<String>,
    pub message: Option<String>,
    pub offset: Option<u64>,
    /// Compared as text: whether it is a number or a string is the server's business.
    #[serde(borrow)]
    pub epoch: Option<&'a RawValue>,
    #[serde(borrow)]
    pub denied: Option<Vec<&'a RawValue>>,
}

impl<'a> Answer<'a> {
    /// Reads the arguments of an ack; further arguments are not expected.
    pub fn decode(arguments: &'a [u8]) -> Result<Answer<'a>, serde_json::Error> {
        serde_json::from_slice::<(Answer<'a>,)>(arguments).map(|(answer,)| answer)
    }

    /// Why the server said no, short enough to be a key of a table.
    pub fn reason(&self) -> String {
        self.code.clone().or_else(|| self.message.clone()).unwrap_or_else(|| "no code".to_owned())
    }
}

fn error(text: &[u8]) -> PacketError {
    PacketError(String::from_utf8_lossy(&text[..text.len().min(60)]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets() {
        let table: &[(&str, Option<Packet<'_>>)] = &[
            ("0{\"sid\":\"x\"}", Some(Packet::Open)),
            ("2", Some(Packet::Ping)),
            ("6", Some(Packet::Noop)),
            ("1", Some(Packet::Close)),
            ("41", Some(Packet::Close)),
            ("40{\"sid\":\"x\"}", Some(Packet::Connect)),
            ("44{\"message\":\"no\"}", Some(Packet::ConnectError(b"{\"message\":\"no\"}"))),
            ("42[\"a\",1]", Some(Packet::Event(b"[\"a\",1]"))),
            ("4317[{}]", Some(Packet::Ack { id: 17, arguments: b"[{}]" })),
            ("43[{}]", None),
            ("4399999999999999999999[]", None),
            ("43", None),
            ("4317", None),
            ("42{}", None),
            ("", None),
            ("2probe", None),
            ("5", None),
        ];
        for (text, expected) in table {
            assert_eq!(decode(text.as_bytes()).ok().as_ref(), expected.as_ref(), "{text}");
        }
    }

    #[test]
    fn answers() {
        let yes = Answer::decode(br#"[{"ok":true,"id":"01","epoch":"e7","offset":12}]"#).unwrap();
        assert_eq!((yes.ok, yes.offset, yes.epoch.map(|epoch| epoch.get())), (true, Some(12), Some("\"e7\"")));
        let no = Answer::decode(br#"[{"ok":false,"code":"rate_limited","message":"slow down"}]"#).unwrap();
        assert_eq!((no.ok, no.reason().as_str()), (false, "rate_limited"));
        assert!(Answer::decode(b"[]").is_err());
        assert_eq!(event_name(br#"["connected",{}]"#), "connected");
        assert_eq!(event_name(b"[7]"), "?");
    }
}
