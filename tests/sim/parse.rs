//! What a client reads, from bytes, with nothing of the server's: WebSocket frames, polling payloads, server-sent events, Socket.IO packets.
//!
//! Every function answers with an error instead of guessing: bytes that are not what a server may send fail the run.

use base64::engine::{Engine, general_purpose::STANDARD};
use serde_json::Value;

/// RFC 6455 frames of a server: whole, unmasked, in the shortest form.
#[derive(Default)]
pub struct Frames {
    buffer: Vec<u8>,
}

#[derive(Debug, PartialEq)]
pub enum Frame {
    Text(String),
    Binary(Vec<u8>),
    Ping,
}

impl Frames {
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Frame>, String> {
        self.buffer.extend_from_slice(bytes);
        let mut frames = Vec::new();
        loop {
            let b = &self.buffer;
            if b.len() < 2 {
                return Ok(frames);
            }
            if b[0] & 0xf0 != 0x80 || b[1] & 0x80 != 0 {
                return Err(format!("not a server's frame: {:02x} {:02x}", b[0], b[1]));
            }
            let (start, len) = match b[1] {
                126 if b.len() >= 4 => (4, usize::from(u16::from_be_bytes([b[2], b[3]]))),
                127 if b.len() >= 10 => (10, u64::from_be_bytes(b[2..10].try_into().map_err(|_| "length")?) as usize),
                126 | 127 => return Ok(frames),
                len => (2, usize::from(len)),
            };
            if (start == 4 && len < 126) || (start == 10 && len < 65_536) || len > 64 << 20 {
                return Err(format!("a frame of length {len} in the wrong form"));
            }
            if b.len() < start + len {
                return Ok(frames);
            }
            let payload = b[start..start + len].to_vec();
            frames.push(match b[0] & 0x0f {
                1 => Frame::Text(String::from_utf8(payload).map_err(|_| "a text frame that is no UTF-8")?),
                2 => Frame::Binary(payload),
                9 => Frame::Ping,
                opcode => return Err(format!("opcode {opcode}")),
            });
            self.buffer.drain(..start + len);
        }
    }

    /// No frame is half read: a connection may end here.
    pub fn is_whole(&self) -> bool {
        self.buffer.is_empty()
    }
}

/// One event of an event stream.
#[derive(Debug, Default, PartialEq)]
pub struct Sse {
    pub id: Option<String>,
    pub event: Option<String>,
    pub data: Option<String>,
}

#[derive(Default)]
pub struct Stream {
    buffer: String,
}

impl Stream {
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Sse>, String> {
        self.buffer.push_str(std::str::from_utf8(bytes).map_err(|_| "an event stream that is no UTF-8")?);
        let mut events = Vec::new();
        while let Some(end) = self.buffer.find("\n\n") {
            let block: String = self.buffer.drain(..end + 2).collect();
            let mut event = Sse::default();
            for line in block.lines().filter(|line| !line.is_empty() && !line.starts_with(':')) {
                let (field, value) = line.split_once(": ").ok_or_else(|| format!("a line {line:?}"))?;
                let slot = match field {
                    "id" => &mut event.id,
                    "event" => &mut event.event,
                    "data" => &mut event.data,
                    _ => return Err(format!("a field {field:?}")),
                };
                if slot.replace(value.to_owned()).is_some() {
                    return Err(format!("{field} twice in {block:?}"));
                }
            }
            events.push(event);
        }
        Ok(events)
    }
}

/// What a server says to a client, whatever it was carried by.
#[derive(Clone, Debug, PartialEq)]
pub enum Packet {
    Open(Value),
    Close,
    Ping,
    ProbePong,
    Noop,
    Connect {
        nsp: String,
        sid: String,
        pid: Option<String>,
    },
    ConnectError {
        nsp: String,
        data: Value,
    },
    Disconnect {
        nsp: String,
    },
    Event {
        nsp: String,
        name: String,
        args: Vec<Value>,
    },
    Ack {
        nsp: String,
        id: u64,
        args: Vec<Value>,
    },
    /// An event or an acknowledgement that is whole once so many binary messages have followed.
    Binary {
        attachments: usize,
        packet: Box<Packet>,
    },
    Attachment(Vec<u8>),
}

/// An Engine.IO packet with a Socket.IO packet in it, where it is a message.
pub fn engine(text: &str) -> Result<Packet, String> {
    let bad = |what: &str| format!("{what}: {}", &text[..text.len().min(200)]);
    let json = |text: &str| serde_json::from_str::<Value>(text).map_err(|error| format!("{error} in {text:?}"));
    Ok(match text.as_bytes() {
        [b'0', ..] => Packet::Open(json(&text[1..])?),
        [b'1'] => Packet::Close,
        [b'2'] => Packet::Ping,
        b"3probe" => Packet::ProbePong,
        [b'6'] => Packet::Noop,
        [b'b', ..] => Packet::Attachment(STANDARD.decode(&text[1..]).map_err(|error| bad(&error.to_string()))?),
        [b'4', kind @ (b'5' | b'6'), ..] => {
            let (count, rest) = text[2..].split_once('-').ok_or_else(|| bad("how many attachments"))?;
            let attachments =
                count.parse().ok().filter(|count| *count > 0).ok_or_else(|| bad("how many attachments"))?;
            let packet = Box::new(engine(&format!("4{}{rest}", char::from(kind - 3)))?);
            Packet::Binary { attachments, packet }
        }
        [b'4', kind, ..] => {
            let mut rest = &text[2..];
            let mut nsp = "/";
            if rest.starts_with('/') {
                let end = rest.find(',').ok_or_else(|| bad("a namespace without end"))?;
                (nsp, rest) = (&rest[..end], &rest[end + 1..]);
            }
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let id: Option<u64> = rest[..digits].parse().ok();
            rest = &rest[digits..];
            let nsp = nsp.to_owned();
            match (kind, id) {
                (b'0', None) => {
                    let body = json(rest)?;
                    let text = |name: &str| body[name].as_str().map(str::to_owned);
                    Packet::Connect { nsp, sid: text("sid").ok_or_else(|| bad("no sid"))?, pid: text("pid") }
                }
                (b'1', None) if rest.is_empty() => Packet::Disconnect { nsp },
                (b'2', _) => {
                    let Value::Array(mut args) = json(rest)? else { return Err(bad("an event is an array")) };
                    let name = args.first().and_then(Value::as_str).ok_or_else(|| bad("no name"))?.to_owned();
                    args.remove(0);
                    Packet::Event { nsp, name, args }
                }
                (b'3', Some(id)) => {
                    let Value::Array(args) = json(rest)? else { return Err(bad("an acknowledgement is an array")) };
                    Packet::Ack { nsp, id, args }
                }
                (b'4', None) => Packet::ConnectError { nsp, data: json(rest)? },
                _ => return Err(bad("no Socket.IO packet of a server")),
            }
        }
        _ => return Err(bad("no Engine.IO packet of a server")),
    })
}

/// `/ws`, and the data of a server-sent event.
pub fn plain(text: &str) -> Result<Packet, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("{error} in {text:?}"))?;
    let nsp = "/".to_owned();
    if let Some(id) = value["ack"].as_u64() {
        return Ok(Packet::Ack { nsp, id, args: vec![value["data"].clone()] });
    }
    let name = value["event"].as_str().ok_or_else(|| format!("neither event nor ack: {text}"))?.to_owned();
    let mut args = vec![value["data"].clone()];
    if !value["meta"].is_null() {
        args.push(value["meta"].clone());
    }
    Ok(Packet::Event { nsp, name, args })
}

#[test]
fn the_parser_takes_bytes_as_they_come_and_refuses_others() {
    let mut frames = Frames::default();
    assert_eq!(frames.push(b"\x81\x01"), Ok(vec![]));
    assert!(!frames.is_whole());
    assert_eq!(
        frames.push(b"2\x89\x00\x82\x01x"),
        Ok(vec![Frame::Text("2".into()), Frame::Ping, Frame::Binary(b"x".to_vec())])
    );
    assert!(frames.is_whole());
    for bad in [&b"\x01\x01a"[..], b"\x81\x81....", b"\x81\x7e\x00\x01a", b"\x8f\x00", b"\x81\x01\xff"] {
        assert!(Frames::default().push(bad).is_err(), "{bad:?}");
    }
    let mut stream = Stream::default();
    assert_eq!(stream.push(b": open\n\nid: 1-2\nevent: e\ndata: {"), Ok(vec![Sse::default()]));
    assert!(matches!(&stream.push(b"}\n\n").as_deref(), Ok([Sse { data: Some(data), .. }]) if data == "{}"));
    assert!(Stream::default().push(b"data:1\n\n").is_err() && Stream::default().push(b"data: 1\ndata: 2\n\n").is_err());
    assert!(matches!(engine("42/chat,7[\"e\",1]"), Ok(Packet::Event { nsp, .. }) if nsp == "/chat"));
    assert!(matches!(engine("431[{}]"), Ok(Packet::Ack { id: 1, .. })));
    assert!(matches!(
        engine("461-/chat,3[1]"),
        Ok(Packet::Binary { attachments: 1, packet }) if matches!(*packet, Packet::Ack { id: 3, .. })
    ));
    assert_eq!(engine("bAQI="), Ok(Packet::Attachment(vec![1, 2])));
    for bad in ["", "5", "2probe", "41x", "42{}", "43[]", "7", "40", "450-[\"e\"]", "45[\"e\"]", "461-[1]", "bx"] {
        assert!(engine(bad).is_err(), "{bad:?}");
    }
    assert!(plain("{}").is_err() && plain("{\"ack\":1,\"data\":null}").is_ok());
}
