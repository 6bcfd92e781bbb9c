//! What reading and writing one message costs, against the libraries one would take from crates.io instead.
//!
//! Every group names its peers: socketioxide's own codec (`socketioxide-parser-common`), tungstenite's `WebSocketContext`, serde_json,
//! simd-json, sonic-rs. `ratio` is against tenantcast's row: above 1 the peer takes longer. A decoded event here is validated JSON whose
//! arguments stay raw, because a relayed event is passed on as it came; the peer has a row for its head alone (nothing validated) and one
//! with arguments as values, which is what its handlers are given.
//! Today (November 2026, an Intel Xeon): an event of 188 B decoded in 0.5 us (the peer 1.5), encoded in 25 ns (567), a frame read in 42 ns
//! (115), written in 13 ns (34), JSON validated in 203 ns (serde_json 263, sonic-rs 281, simd-json 342). Of the peers' only sonic-rs is ahead
//! anywhere: 0.87 of our time for a text that is one long string.

#[allow(dead_code, reason = "each bench uses its part")]
mod measure;

use measure::{Bench, Group};
use serde::de::IgnoredAny;
use simd_json::{Buffers, Tape};
use socketioxide_core::{
    Str,
    packet::{Packet, PacketData},
    parser::{Parse, ParserState},
};
use socketioxide_parser_common::CommonParser;
use std::hint::black_box;
use std::io::{Cursor, Read, Write};
use tenantcast::wire::{engine_io, json, socket_io, websocket};
use tungstenite::protocol::{
    Role, WebSocketConfig, WebSocketContext,
    frame::{
        Frame,
        coding::{Data, OpCode},
    },
};

/// An event whose text, from `["` to `]`, has about `bytes` bytes: objects and numbers, as applications send them.
fn arguments(bytes: usize) -> String {
    let mut text = String::from("[\"note\",{\"id\":4711,\"tags\":[\"a\",\"b\"],\"text\":\"");
    let mut rows = String::new();
    while text.len() + rows.len() + 60 < bytes {
        rows.push_str(",{\"at\":1700000000000,\"by\":\"ana\",\"done\":false,\"share\":0.25}");
    }
    text.push_str("hello there\",\"rows\":[null");
    text.push_str(&rows);
    text.push_str("]}]");
    text
}

/// A long message: text, with a line end here and there.
fn long_string(bytes: usize) -> String {
    let line = "It was a bright cold day in April, and the clocks were striking thirteen.\\n";
    format!("[\"note\",{{\"text\":\"{}\"}}]", line.repeat(bytes / line.len()))
}

fn main() {
    let bench = Bench::from_arguments();
    for bytes in [60, 190, 4096] {
        let text = arguments(bytes);
        let bytes = text.len();
        bench.group(&format!("decode an event of {bytes} B, asking for an ack"), "event", |group| decode(group, &text));
        bench.group(&format!("encode an event of {bytes} B to a frame"), "event", |group| encode(group, &text));
        bench.group(&format!("read a masked WebSocket text of {bytes} B"), "frame", |group| read(group, &text));
        bench.group(&format!("write a WebSocket text of {bytes} B"), "frame", |group| write(group, &text));
        bench.group(&format!("validate JSON of {bytes} B"), "text", |group| validate(group, &text));
    }
    let shapes = [
        ("objects and numbers", arguments(65_536)),
        ("one string", long_string(4096)),
        ("one string", long_string(65_536)),
    ];
    for (shape, text) in shapes {
        bench.group(&format!("validate JSON of {} B, {shape}", text.len()), "text", |group| validate(group, &text));
    }
}

fn decode(group: &mut Group<'_>, arguments: &str) {
    let text = format!("427{arguments}");
    let ours = text.clone();
    group.add("tenantcast", 1, move || {
        let Ok(engine_io::Packet::Message(message)) = engine_io::decode(black_box(&ours)) else { return };
        let packet = socket_io::decode(message).expect("a packet");
        assert!(packet.event().is_some());
        black_box(packet.arguments().map(str::len).sum::<usize>());
    });
    let theirs = Str::from(text[1..].to_owned());
    let (head, state) = (theirs.clone(), ParserState::default());
    group.add("socketioxide-parser-common, head alone", 1, move || {
        black_box(CommonParser.decode_str(&state, black_box(head.clone())).expect("a packet"));
    });
    let state = ParserState::default();
    group.add("socketioxide-parser-common, as values", 1, move || {
        let packet = CommonParser.decode_str(&state, black_box(theirs.clone())).expect("a packet");
        let PacketData::Event(mut value, _) = packet.inner else { return };
        assert!(CommonParser.read_event(&value).is_ok());
        let arguments: serde_json::Value = CommonParser.decode_value(&mut value, true).expect("its arguments");
        black_box(arguments);
    });
}

fn encode(group: &mut Group<'_>, arguments: &str) {
    let data = &arguments["[\"note\",".len()..arguments.len() - 1];
    let (mut packet, mut frame, ours) = (Vec::new(), Vec::new(), data.to_owned());
    group.add("tenantcast, from raw JSON", 1, move || {
        packet.clear();
        frame.clear();
        socket_io::event(&mut packet, "/", None, |out| {
            out.extend_from_slice(b"\"note\",");
            out.extend_from_slice(black_box(&ours).as_bytes());
        });
        websocket::encode(websocket::Opcode::Text, &packet, &mut frame);
        black_box(&frame);
    });
    let value: serde_json::Value = serde_json::from_str(data).expect("JSON");
    let mut frame = Vec::new();
    group.add("socketioxide-parser-common and tungstenite", 1, move || {
        frame.clear();
        let value = CommonParser.encode_value(black_box(&value), Some("note")).expect("JSON");
        let socketioxide_core::Value::Str(text, _) = CommonParser.encode(Packet::event("/", value)) else { return };
        let message = format!("4{}", text.as_str());
        Frame::message(message, OpCode::Data(Data::Text), true).format(&mut frame).expect("memory");
        black_box(&frame);
    });
}

/// A socket in memory: reads what was put in, forgets what is written.
struct Memory(Cursor<Vec<u8>>);

impl Read for Memory {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(out)
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Frames in one read, as a busy client's come.
const FRAMES: usize = 16;

fn read(group: &mut Group<'_>, payload: &str) {
    let mut frame = Vec::new();
    websocket::encode_masked(websocket::Opcode::Text, true, [1, 2, 3, 4], payload.as_bytes(), &mut frame);
    let input = frame.repeat(FRAMES);
    let (ours, mut scratch, mut decoder) = (input.clone(), Vec::new(), websocket::Decoder::default());
    group.add("tenantcast", FRAMES, move || {
        // What the kernel's copy into the shard's one buffer is.
        scratch.clear();
        scratch.extend_from_slice(black_box(&ours));
        let mut at = 0;
        while let Ok(Some((event, used))) = decoder.decode(&mut scratch[at..], 1_000_000) {
            black_box(event);
            at += used;
        }
        assert_eq!(at, scratch.len());
    });
    for (name, buffer) in
        [("tungstenite's context, 4 KiB buffer", 4096), ("tungstenite's context, default buffer", 131_072)]
    {
        let config = WebSocketConfig::default().read_buffer_size(buffer);
        let mut context = WebSocketContext::new(Role::Server, Some(config));
        let mut memory = Memory(Cursor::new(input.clone()));
        group.add(name, FRAMES, move || {
            memory.0.set_position(0);
            for _ in 0..FRAMES {
                black_box(context.read(&mut memory).expect("a message"));
            }
        });
    }
}

fn write(group: &mut Group<'_>, payload: &str) {
    let (ours, mut out) = (payload.to_owned(), Vec::new());
    group.add("tenantcast", 1, move || {
        out.clear();
        websocket::encode(websocket::Opcode::Text, black_box(&ours).as_bytes(), &mut out);
        black_box(&out);
    });
    let payload = tungstenite::Utf8Bytes::from(payload);
    let (theirs, mut out) = (payload.clone(), Vec::new());
    group.add("tungstenite's frame", 1, move || {
        out.clear();
        let frame = Frame::message(black_box(&theirs).clone(), OpCode::Data(Data::Text), true);
        frame.format(&mut out).expect("memory");
        black_box(&out);
    });
    let mut context = WebSocketContext::new(Role::Server, Some(WebSocketConfig::default().write_buffer_size(0)));
    let mut memory = Memory(Cursor::default());
    group.add("tungstenite's context", 1, move || {
        let message = tungstenite::Message::Text(black_box(&payload).clone());
        context.write(&mut memory, message).expect("memory");
    });
}

fn validate(group: &mut Group<'_>, text: &str) {
    let own = text.to_owned();
    group.add("tenantcast", 1, move || {
        assert!(json::validate(black_box(&own)));
    });
    let own = text.to_owned();
    group.add("serde_json, any value ignored", 1, move || {
        assert!(serde_json::from_str::<IgnoredAny>(black_box(&own)).is_ok());
    });
    let (own, mut copy, mut buffers) = (text.to_owned(), Vec::new(), Buffers::default());
    let mut kept = Tape(Vec::new());
    group.add("simd-json, tape and buffers reused", 1, move || {
        copy.clear();
        copy.extend_from_slice(black_box(&own).as_bytes());
        let mut tape = Tape(std::mem::take(&mut kept.0));
        assert!(simd_json::fill_tape(&mut copy, &mut buffers, &mut tape).is_ok());
        kept = tape.reset();
    });
    let own = text.to_owned();
    group.add("sonic-rs, any value ignored", 1, move || {
        assert!(sonic_rs::from_str::<IgnoredAny>(black_box(&own)).is_ok());
    });
    let own = text.to_owned();
    group.add("sonic-rs, arguments as raw slices", 1, move || {
        assert!(sonic_rs::to_array_iter(black_box(own.as_str())).all(|element| element.is_ok()));
    });
}
