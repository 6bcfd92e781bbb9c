//! A connection without a socket: conversations cut into any pieces mean the same.

use super::*;
use crate::base::{
    chance::Chance,
    id::ReplyTo,
    slab::Key,
    time::{Duration, Instant, UnixMs},
};
use crate::bridge::Addresses;
use crate::data_plane::count::ROW;
use crate::shard::io::Wire;
use crate::wire::websocket::encode_masked;
use std::cell::Cell;

const HANDSHAKE: &str = "Host: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const SID: &str = "AAAAAAAAAAAAAAAAAAAA";

struct Hand(Cell<u64>);

impl Clock for Hand {
    fn now(&self) -> Now {
        Now { at: Instant(self.0.get()), unix: UnixMs(0) }
    }
}

/// A connection with a peer, a shard and a socket that are all made of this struct.
struct Bench {
    conn: Conn,
    inbox: Inbox,
    counts: PlaneCounts,
    settings: Settings,
    bridge: Bridge<MeshMessage>,
    clock: Hand,
    heard: Vec<String>,
    written: Vec<u8>,
}

impl Bench {
    fn new() -> Bench {
        let settings = Settings::for_tests();
        let mut conn = Conn::new(-1, "::ffff:10.0.0.1".parse().unwrap(), false);
        conn.deadline = settings.handshake_deadline(Instant(0));
        let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
        Bench {
            conn,
            inbox: Inbox::default(),
            counts: PlaneCounts::default(),
            settings,
            bridge: Bridge::new(1, ROW, Addresses::new(0, 0, hasher)),
            clock: Hand(Cell::new(0)),
            heard: Vec::new(),
            written: Vec::new(),
        }
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Conn, &World, &mut Inbox, &mut PlaneCounts) -> T) -> T {
        let world = World {
            shard: ShardId(0),
            settings: &self.settings,
            bridge: &self.bridge,
            clock: &self.clock,
            draining: false,
        };
        act(&mut self.conn, &world, &mut self.inbox, &mut self.counts)
    }

    fn feed(&mut self, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        let key = ConnKey::new(0, 0);
        self.with(|conn, world, inbox, counts| conn.feed(key, &mut bytes, world, inbox, counts));
    }

    /// As the pump would: inputs are heard and answered, what is owed is written, what was left is decoded.
    fn turn(&mut self) {
        loop {
            let mut inbox = std::mem::take(&mut self.inbox);
            let mut answers = Vec::new();
            inbox.drain(|input| {
                self.heard.push(match &input {
                    Input::Open(open) => {
                        format!("open {:?} {} {:?} {:?}", open.wire, open.address, open.token, open.rooms)
                    }
                    Input::Message { message, .. } => format!("{message:?}"),
                    Input::Post { body, .. } => format!("post {body}"),
                    other => format!("{other:?}"),
                });
                answers.push(match input {
                    Input::Open(open) if open.wire == Wire::Events => "stream",
                    Input::Open(_) => "upgrade",
                    Input::Poll { .. } | Input::Post { .. } | Input::Call { .. } => "ok",
                    _ => "",
                });
            });
            for answer in answers {
                self.with(|conn, world, _, _| match answer {
                    "upgrade" => conn.upgrade(),
                    "stream" => conn.stream(),
                    "ok" => conn.respond(&Response::text(200, "ok"), world),
                    _ => {}
                });
            }
            self.conn.append_control();
            self.written.append(&mut self.conn.out);
            self.conn.inside_frame = false;
            if !self.conn.resumes() {
                return;
            }
            self.feed(&[]);
        }
    }

    fn play(pieces: &[&[u8]]) -> Bench {
        let mut bench = Bench::new();
        for piece in pieces {
            bench.feed(piece);
            bench.turn();
        }
        bench
    }
}

fn frame(opcode: Opcode, fin: bool, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_masked(opcode, fin, [1, 2, 3, 4], payload, &mut out);
    out
}

fn polling(method: &str, more: &str, body: &str) -> Vec<u8> {
    format!("{method} /socket.io/?EIO=4&transport=polling&sid={SID} HTTP/1.1\r\nHost: a\r\n{more}\r\n{body}")
        .into_bytes()
}

/// What a peer says, what the shard hears of it, and how often each text is in the answer.
type Conversation = (Vec<u8>, Vec<String>, Vec<(&'static str, usize)>);

fn conversations() -> Vec<Conversation> {
    use Opcode::*;
    let poll = "Poll { from: ReplyTo { shard: ShardId(0), conn: ConnKey { index: 0, generation: 0 } }, sid: AAAAAAAAAAAAAAAAAAAA }";
    let heard = |inputs: &[&str]| inputs.iter().map(|input| input.to_string()).collect();
    let upgrade = |target: &str| format!("GET {target} HTTP/1.1\r\n{HANDSHAKE}").into_bytes();
    vec![
        (
            [
                b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
                polling("POST", "Content-Length: 5\r\n", "h\u{e4}ll"),
                polling("POST", "Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"),
                polling("GET", "", ""),
                polling("POST", "Content-Type: application/octet-stream\r\nContent-Length: 1\r\n", "x"),
                polling("GET", "", ""),
            ]
            .concat(),
            heard(&["post h\u{e4}ll", "post abcde", poll]),
            // The refused one ends the connection.
            vec![("HTTP/1.1 200 ", 4), ("HTTP/1.1 400 ", 1)],
        ),
        (
            [
                upgrade("/ws?token=abc"),
                frame(Text, true, b"one"),
                frame(Ping, true, b"ping"),
                frame(Text, false, "\u{1f600}".as_bytes().split_at(2).0),
                frame(Continuation, true, "\u{1f600}".as_bytes().split_at(2).1),
                frame(Pong, true, b""),
                frame(Binary, true, &[7; 300]),
                frame(Close, true, &[3, 233, b'b']),
                frame(Text, true, b"too late"),
            ]
            .concat(),
            heard(&[
                "open Plain 10.0.0.1 Some(\"abc\") []",
                "Text(\"one\")",
                "Text(\"\u{1f600}\")",
                "Pong",
                &format!("Binary({:?})", [7; 300]),
                "Hangup { conn: ConnKey { index: 0, generation: 0 }, cause: Closed }",
            ]),
            vec![("HTTP/1.1 101 ", 1), ("ping", 1)],
        ),
        (
            [upgrade("/socket.io/?EIO=4&transport=websocket"), frame(Text, true, b"\xff")].concat(),
            heard(&[
                "open WebSocket 10.0.0.1 None []",
                "Hangup { conn: ConnKey { index: 0, generation: 0 }, cause: Broken }",
            ]),
            vec![("HTTP/1.1 101 ", 1)],
        ),
        (
            upgrade("/socket.io/?EIO=3&transport=websocket"),
            Vec::new(),
            vec![("HTTP/1.1 400 ", 1), ("Unsupported protocol version", 1), ("text/html", 1)],
        ),
        (
            b"GET /events?rooms=a,b&token=t HTTP/1.1\r\nHost: a\r\n\r\nwhatever it says\r\n\r\n".to_vec(),
            heard(&["open Events 10.0.0.1 Some(\"t\") [\"a\", \"b\"]"]),
            vec![("HTTP/1.1 200 ", 1), ("text/event-stream", 1)],
        ),
        (b"nonsense\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), Vec::new(), vec![("HTTP/1.1 400 ", 1)]),
        (polling("POST", "Content-Length: 1000001\r\n", "x"), Vec::new(), vec![("HTTP/1.1 413 ", 1)]),
        (
            polling("POST", "Content-Length: 2\r\n", "\u{e4}")
                .iter()
                .map(|&b| if b == 0xa4 { b'x' } else { b })
                .collect(),
            Vec::new(),
            vec![("HTTP/1.1 400 ", 1)],
        ),
        (
            polling("POST", "Expect: 100-continue\r\nContent-Length: 1\r\n", "x"),
            heard(&["post x"]),
            vec![("HTTP/1.1 200 ", 1)],
        ),
    ]
}

#[test]
fn pieces_do_not_matter() {
    let mut chance = Chance::new([9; 32]);
    for (bytes, heard, answers) in conversations() {
        let mut plays = vec![vec![&bytes[..]], bytes.chunks(1).collect()];
        for _ in 0..60 {
            let (mut rest, mut pieces) = (&bytes[..], Vec::new());
            while !rest.is_empty() {
                let (piece, later) = rest.split_at((1 + chance.below(60) as usize).min(rest.len()));
                pieces.push(piece);
                rest = later;
            }
            plays.push(pieces);
        }
        for pieces in plays {
            let bench = Bench::play(&pieces);
            let start = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]);
            assert_eq!(bench.heard, heard, "{start}");
            let written = String::from_utf8_lossy(&bench.written);
            for (text, count) in &answers {
                assert_eq!(written.matches(*text).count(), *count, "{text} in {written}");
            }
            assert!(bench.conn.unread.is_empty() && bench.conn.exchange.is_none(), "nothing is kept: {start}");
        }
    }
}

#[test]
fn a_token_is_taken_from_three_places_in_order() {
    for (query, lines, expected, protocol) in [
        ("", "", "None", false),
        ("?token=q", "Authorization: Bearer h\r\n", "Some(\"h\")", false),
        ("?token=q", "Sec-WebSocket-Protocol: bearer, p\r\n", "Some(\"q\")", true),
        ("", "Sec-WebSocket-Protocol: bearer, p\r\n", "Some(\"p\")", true),
        ("", "Sec-WebSocket-Protocol: chat\r\n", "None", false),
        ("", "Sec-WebSocket-Protocol: bearer\r\n", "None", true),
    ] {
        let head = format!("GET /ws{query} HTTP/1.1\r\n{lines}{HANDSHAKE}");
        let bench = Bench::play(&[head.as_bytes()]);
        assert_eq!(bench.heard, [format!("open Plain 10.0.0.1 {expected} []")]);
        let written = String::from_utf8(bench.written).unwrap();
        assert_eq!(written.contains("Sec-WebSocket-Protocol: bearer\r\n"), protocol, "{lines}");
    }
}

#[test]
fn a_flood_of_pings_is_answered_with_the_latest() {
    let mut bench = Bench::play(&[format!("GET /ws HTTP/1.1\r\n{HANDSHAKE}").as_bytes()]);
    bench.written.clear();
    for n in 0..1000u32 {
        bench.feed(&frame(Opcode::Ping, true, &n.to_be_bytes()));
        assert!(bench.conn.control.len() <= CONTROL_MAX && !bench.conn.control.is_empty());
    }
    bench.turn();
    let mut last = Vec::new();
    websocket::encode(Opcode::Pong, &999u32.to_be_bytes(), &mut last);
    assert!(bench.written.ends_with(&last) && bench.written.len() <= CONTROL_MAX);
}

#[test]
fn a_slow_request_does_not_put_its_deadline_off() {
    let mut bench = Bench::new();
    let deadline = bench.conn.deadline;
    assert_ne!(deadline, Instant::NEVER);
    for (at, byte) in
        b"POST /api/v1/tenants/t/events HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n12345".iter().enumerate()
    {
        bench.clock.0.set(at as u64 * 1_000_000);
        bench.feed(&[*byte]);
        assert_eq!(bench.conn.deadline, deadline);
    }
    let dropped = bench.with(|conn, world, _, _| conn.expire(world));
    bench.turn();
    assert!(!dropped && bench.written.starts_with(b"HTTP/1.1 408 ") && bench.conn.phase.is_closing());

    // The second request's time begins with its first byte; the pause before it is longer.
    let mut bench = Bench::play(&[b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"]);
    assert_eq!(bench.conn.deadline, Instant(0) + KEEP_ALIVE_IDLE);
    bench.clock.0.set(60_000_000);
    for byte in b"GET /hea" {
        bench.feed(&[*byte]);
        assert_eq!(bench.conn.deadline, Instant(60_000_000) + Duration::from_secs(10));
        bench.clock.0.set(bench.clock.0.get() + 1);
    }
    // Nobody is told anything where nothing was asked.
    let mut silent = Bench::new();
    assert!(silent.with(|conn, world, _, _| conn.expire(world)) && silent.conn.out.is_empty());
}

#[test]
fn what_waits_is_bounded() {
    let mut bench = Bench::new();
    bench.feed(&polling("GET", "", ""));
    let mut fed = 0;
    while bench.conn.reads() {
        bench.feed(&[b'x'; 1000]);
        fed += 1000;
    }
    assert!(fed >= UNREAD_MAX && bench.conn.unread.len() < UNREAD_MAX + 1000);
    bench.turn();
    assert!(bench.conn.phase.is_closing() && bench.conn.unread.is_empty(), "it was no request");
}

#[test]
fn the_shard_ends_a_connection() {
    let mut bench = Bench::play(&[format!("GET /ws HTTP/1.1\r\n{HANDSHAKE}").as_bytes()]);
    bench.written.clear();
    bench.conn.finish(b"rest", 4410, "kicked", Instant(0));
    bench.feed(&frame(Opcode::Text, true, b"too late"));
    bench.turn();
    assert_eq!(bench.written, b"rest\x88\x08\x11\x3akicked");
    assert_eq!(bench.conn.deadline, Instant(0) + CLOSE_LINGER);
    assert!(!bench.conn.known && bench.heard.len() == 1);
}

#[test]
fn who_still_reads_after_its_end_of_file() {
    for (request, outlives) in [
        (&b""[..], false),
        (b"GET /hea", false),
        (&polling("GET", "", ""), false),
        (&polling("POST", "Content-Length: 1\r\n", "x"), true),
        (b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n", true),
        (b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n", false),
    ] {
        let mut bench = Bench::new();
        bench.feed(request);
        assert_eq!(bench.conn.outlives_end_of_file(), outlives, "{}", String::from_utf8_lossy(request));
    }
}

#[test]
fn answers_go_where_they_belong() {
    let from = ReplyTo { shard: ShardId(0), conn: ConnKey::new(0, 0) };
    let mut bench = Bench::new();
    bench.feed(&polling("GET", "", ""));
    bench.inbox.drain(|input| assert!(matches!(input, Input::Poll { from: to, .. } if to == from)));
    bench.with(|conn, world, _, _| {
        conn.respond(&Response::text(200, "a"), world);
        // A second one is for nobody.
        conn.respond(&Response::text(200, "b"), world);
    });
    assert_eq!(String::from_utf8_lossy(&bench.conn.out).matches("HTTP/1.1").count(), 1);
}
