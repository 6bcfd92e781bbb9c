//! Engine.IO, revision 4 (`EIO=4`): a session over one WebSocket or over HTTP long-polling.
//!
//! ```text
//! packet    = type [text]                  type: 0 open 1 close 2 ping 3 pong 4 message 5 upgrade 6 noop
//!           | "b" base64                   a binary message where only text can be sent (long-polling)
//! payload   = packet *(%x1e packet)        the body of a long-polling request or answer
//! WebSocket : a text frame is a packet, a binary frame is a binary message as it is
//!
//! 0{"sid":"lv_VI97HAXpY6yYWAAAC","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}
//! ```
//!
//! Invariants: decoding borrows and allocates nothing but the bytes of a base64 message; [`payload`] ends after its first broken packet, as
//! the Node server does. Source: <https://github.com/socketio/engine.io-protocol>; wording and order of keys are the Node server's.

use super::json;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use base64::engine::{DecodePaddingMode, Engine};
use std::borrow::Cow;

/// Between the packets of a long-polling body: the record separator.
pub const SEPARATOR: u8 = 0x1e;
/// The server's heartbeat.
pub const PING: &str = "2";
/// Answer to a client's `2probe`.
pub const PONG_PROBE: &str = "3probe";
/// What a client's probe of a WebSocket says.
pub const PROBE: &str = "probe";
/// Ends a session.
pub const CLOSE: &str = "1";
/// Answers a poll that has nothing to bring, so that it ends.
pub const NOOP: &str = "6";
/// First byte of a message in a text frame or in a payload.
pub const MESSAGE: u8 = b'4';

/// Node reads base64 with or without its padding, and so do we.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// One packet. Which of them a client may send, and when, is the session's to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    Open(&'a str),
    Close,
    Ping(&'a str),
    Pong(&'a str),
    /// Usually a Socket.IO packet: see [`socket_io::decode`](super::socket_io::decode).
    Message(&'a str),
    /// A binary message that came as text.
    Binary(Cow<'a, [u8]>),
    Upgrade,
    Noop,
}

/// What is wrong with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("an empty packet")]
    Empty,
    #[error("unknown packet type")]
    UnknownType,
    #[error("a binary message is not base64")]
    Base64,
}

/// Reads one packet: a WebSocket's text frame, or one of a payload.
///
/// Text behind close, upgrade and noop is ignored, as the Node server does.
pub fn decode(text: &str) -> Result<Packet<'_>, Error> {
    let kind = text.chars().next().ok_or(Error::Empty)?;
    let rest = &text[kind.len_utf8()..];
    Ok(match kind {
        '0' => Packet::Open(rest),
        '1' => Packet::Close,
        '2' => Packet::Ping(rest),
        '3' => Packet::Pong(rest),
        '4' => Packet::Message(rest),
        '5' => Packet::Upgrade,
        '6' => Packet::Noop,
        'b' => Packet::Binary(LENIENT.decode(rest).map_err(|_| Error::Base64)?.into()),
        _ => return Err(Error::UnknownType),
    })
}

/// Reads the body of a long-polling request. The iterator ends after the first error.
pub fn payload(body: &str) -> impl Iterator<Item = Result<Packet<'_>, Error>> {
    let mut broken = false;
    body.split(char::from(SEPARATOR)).map_while(move |text| {
        let packet = (!broken).then(|| decode(text))?;
        broken = packet.is_err();
        Some(packet)
    })
}

/// Appends a binary message in the form of long-polling: `b` and base64.
pub fn encode_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'b');
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = STANDARD.encode_slice(bytes, &mut out[start..]);
    debug_assert_eq!(written.ok(), Some(out.len() - start), "the room is exactly what base64 needs");
}

/// What the server says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake<'a> {
    /// 20 characters of base64url.
    pub sid: &'a str,
    /// Whether the client may try a WebSocket: true over long-polling, false over a WebSocket.
    pub upgrades: bool,
    pub ping_interval_ms: u32,
    pub ping_timeout_ms: u32,
    /// Bytes of the largest message or payload the server reads.
    pub max_payload: u32,
}

impl Handshake<'_> {
    /// Appends the open packet, its keys in the Node server's order.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"0{\"sid\":");
        json::write_string(out, self.sid);
        let upgrades = if self.upgrades { "[\"websocket\"]" } else { "[]" };
        out.extend_from_slice(b",\"upgrades\":");
        out.extend_from_slice(upgrades.as_bytes());
        let numbers = [
            (",\"pingInterval\":", self.ping_interval_ms),
            (",\"pingTimeout\":", self.ping_timeout_ms),
            (",\"maxPayload\":", self.max_payload),
        ];
        for (key, number) in numbers {
            out.extend_from_slice(key.as_bytes());
            json::write_number(out, number.into());
        }
        out.push(b'}');
    }
}

/// Why a request is no handshake and belongs to no session: an HTTP answer of [`status`](HandshakeError::status) with
/// [`json`](HandshakeError::json) as `application/json`. Where an upgrade to WebSocket was asked, the Node server answers 400 with
/// [`message`](HandshakeError::message) as `text/html` and `Connection: close`, whatever the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.message())]
pub enum HandshakeError {
    UnknownTransport = 0,
    UnknownSid = 1,
    /// The first request of a session must be a GET.
    BadHandshakeMethod = 2,
    /// Also: polling on a session that has upgraded, `transport=websocket` without an upgrade.
    BadRequest = 3,
    Forbidden = 4,
    UnsupportedProtocolVersion = 5,
}

impl HandshakeError {
    pub const ALL: [HandshakeError; 6] = [
        HandshakeError::UnknownTransport,
        HandshakeError::UnknownSid,
        HandshakeError::BadHandshakeMethod,
        HandshakeError::BadRequest,
        HandshakeError::Forbidden,
        HandshakeError::UnsupportedProtocolVersion,
    ];

    /// The number clients see.
    pub const fn code(self) -> u8 {
        self as u8
    }

    pub const fn message(self) -> &'static str {
        match self {
            HandshakeError::UnknownTransport => "Transport unknown",
            HandshakeError::UnknownSid => "Session ID unknown",
            HandshakeError::BadHandshakeMethod => "Bad handshake method",
            HandshakeError::BadRequest => "Bad request",
            HandshakeError::Forbidden => "Forbidden",
            HandshakeError::UnsupportedProtocolVersion => "Unsupported protocol version",
        }
    }

    /// The HTTP status.
    pub const fn status(self) -> u16 {
        match self {
            HandshakeError::Forbidden => 403,
            _ => 400,
        }
    }

    /// The HTTP body.
    pub fn json(self) -> String {
        format!("{{\"code\":{},\"message\":\"{}\"}}", self.code(), self.message())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::chance::Chance;

    #[test]
    fn packets() {
        let binary = |bytes: &'static [u8]| Ok(Packet::Binary(Cow::Borrowed(bytes)));
        let table = [
            ("0{}", Ok(Packet::Open("{}"))),
            ("1", Ok(Packet::Close)),
            ("1x", Ok(Packet::Close)),
            ("2", Ok(Packet::Ping(""))),
            ("2probe", Ok(Packet::Ping(PROBE))),
            ("3", Ok(Packet::Pong(""))),
            ("3probe", Ok(Packet::Pong(PROBE))),
            ("4", Ok(Packet::Message(""))),
            ("42[\"é\"]", Ok(Packet::Message("2[\"é\"]"))),
            ("5", Ok(Packet::Upgrade)),
            ("6", Ok(Packet::Noop)),
            ("b", binary(b"")),
            ("bAQIDBA==", binary(&[1, 2, 3, 4])),
            ("bAQIDBA", binary(&[1, 2, 3, 4])),
            ("bAQ-", Err(Error::Base64)),
            ("b\u{e9}", Err(Error::Base64)),
            ("", Err(Error::Empty)),
            ("7", Err(Error::UnknownType)),
            ("abc", Err(Error::UnknownType)),
            ("\u{e9}", Err(Error::UnknownType)),
            (" 4", Err(Error::UnknownType)),
        ];
        for (text, want) in table {
            assert_eq!(decode(text), want, "{text:?}");
        }
    }

    #[test]
    fn payloads_end_at_their_first_error() {
        let message = |text| Ok(Packet::Message(text));
        let table: [(&str, Vec<Result<Packet<'_>, Error>>); 6] = [
            ("4a", vec![message("a")]),
            ("4a\u{1e}2\u{1e}4€", vec![message("a"), Ok(Packet::Ping("")), message("€")]),
            ("4a\u{1e}bAQIDBA==", vec![message("a"), Ok(Packet::Binary(vec![1, 2, 3, 4].into()))]),
            ("", vec![Err(Error::Empty)]),
            ("4a\u{1e}", vec![message("a"), Err(Error::Empty)]),
            ("4a\u{1e}abc\u{1e}4b", vec![message("a"), Err(Error::UnknownType)]),
        ];
        for (body, want) in table {
            assert_eq!(payload(body).collect::<Vec<_>>(), want, "{body:?}");
        }
    }

    #[test]
    fn the_open_packet_is_nodes() {
        let mut handshake = Handshake {
            sid: "lv_VI97HAXpY6yYWAAAC",
            upgrades: true,
            ping_interval_ms: 25_000,
            ping_timeout_ms: 20_000,
            max_payload: 1_000_000,
        };
        let rest = "\"pingInterval\":25000,\"pingTimeout\":20000,\"maxPayload\":1000000}";
        for (upgrades, list) in [(true, "[\"websocket\"]"), (false, "[]")] {
            handshake.upgrades = upgrades;
            let mut out = b"6\x1e".to_vec();
            handshake.encode(&mut out);
            let want = format!("6\x1e0{{\"sid\":\"lv_VI97HAXpY6yYWAAAC\",\"upgrades\":{list},{rest}");
            assert_eq!(String::from_utf8(out).unwrap(), want);
        }
    }

    #[test]
    fn handshake_errors_are_nodes() {
        let table = [
            (400, r#"{"code":0,"message":"Transport unknown"}"#),
            (400, r#"{"code":1,"message":"Session ID unknown"}"#),
            (400, r#"{"code":2,"message":"Bad handshake method"}"#),
            (400, r#"{"code":3,"message":"Bad request"}"#),
            (403, r#"{"code":4,"message":"Forbidden"}"#),
            (400, r#"{"code":5,"message":"Unsupported protocol version"}"#),
        ];
        for (error, want) in HandshakeError::ALL.into_iter().zip(table) {
            assert_eq!((error.status(), error.json().as_str()), want);
            assert_eq!(error.to_string(), error.message());
        }
    }

    #[test]
    fn binary_messages_are_read_back_and_noise_is_an_answer() {
        let mut chance = Chance::new([3; 32]);
        for _ in 0..2000 {
            let mut bytes = vec![0; chance.below(40) as usize];
            chance.fill(&mut bytes);
            let mut out = Vec::new();
            encode_base64(&mut out, &bytes);
            let text = String::from_utf8(out).unwrap();
            assert_eq!(decode(&text), Ok(Packet::Binary(bytes.clone().into())));
            // A cut anywhere, or anything at all, is a packet or an error.
            let cut = &text[..chance.below(text.len() as u64 + 1) as usize];
            let noise = String::from_utf8_lossy(&bytes);
            let packets = payload(cut).chain(payload(&noise)).count();
            assert!(packets >= 2);
        }
    }
}
