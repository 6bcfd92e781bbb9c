//! Two shards in one thread, their turns taken by hand: what happens while one of them takes none.

use super::super::{
    Settings,
    bell::Bell,
    count::{Count, ROW},
    pump::Pump,
    ring::Ring,
};
use super::*;
use crate::base::{
    id::TenantId,
    limit::Limits,
    slab::Key,
    time::{Clock, Instant, UnixMs},
};
use crate::bridge::{Addresses, Bridge};
use crate::data_plane::conn::Conn;
use crate::shard::{Auth, default_app};
use crate::wire::auth::{Keys, Mint, Pattern, Policy, mint};
use crate::wire::websocket::{Opcode, encode_masked};
use std::{
    io::{ErrorKind, Read, Write as _},
    os::{fd::IntoRawFd, unix::net::UnixStream},
    rc::Rc,
};

const LENDER: usize = 0;
const HOME: usize = 1;
/// Turns of both after which what can happen has happened.
const ENOUGH: usize = 20_000;

struct Still;

impl Clock for Still {
    fn now(&self) -> Now {
        Now { at: Instant(1_000_000), unix: UnixMs(1_700_000_000_000) }
    }
}

struct Place {
    pump: Pump,
    state: State,
}

impl Place {
    fn turn(&mut self) {
        self.pump.turn(&mut self.state);
    }
}

/// The two shards, and a token of a tenant that lives on the second and is spread.
struct Two {
    places: [Place; 2],
    token: String,
}

impl Two {
    fn new() -> Two {
        let bridge = Arc::new(Bridge::new(2, ROW, Addresses::new(0, 0, ahash::RandomState::with_seeds(1, 2, 3, 4))));
        let keys = Keys::from_secret(b"0123456789abcdef0123456789abcdef").unwrap();
        let limits = Limits { events_per_second: 0, outbox_bytes: 16 << 20, ..Limits::default() };
        let places = [LENDER, HOME].map(|index| {
            let id = ShardId(index as u8);
            let settings = crate::shard::Settings {
                shard: id,
                shards: 2,
                auth: Some(Auth { keys: keys.clone(), policy: Policy::default() }),
                limits: limits.clone(),
                spread: [Pattern::parse("big-*").unwrap()].into(),
                ..crate::shard::Settings::new()
            };
            let settings_of_plane = Settings { limits: limits.clone(), ..Settings::for_tests() };
            let plane =
                Plane { id, settings: Arc::new(settings_of_plane), bridge: bridge.clone(), clock: Arc::new(Still) };
            let shard = Shard::new(settings, default_app(["/"]), [index as u8; 32]);
            let state = State::new(Ring::new().unwrap(), Bell::new().unwrap(), 2);
            Place { pump: Pump::new(Rc::new(plane), shard), state }
        });
        let tenant = (0..).map(|n| format!("big-{n}")).find(|name| {
            let tenant = TenantId::parse(name).unwrap();
            tenant.home(2).index() == HOME
        });
        let mint_of = Mint {
            tenant: &tenant.unwrap(),
            user: "ana",
            roles: &[],
            permissions: &["publish".to_owned()],
            rooms: &[],
            scope: &[],
            ttl: None,
        };
        let token = mint(&mint_of, &keys, &Policy::default(), Still.now().unix).unwrap();
        Two { places, token }
    }

    fn turns(&mut self) {
        self.places.iter_mut().for_each(Place::turn);
    }

    /// A client of `/ws` that connects to this shard and is a member of the room `r`.
    fn client(&mut self, at: usize) -> Client {
        let (ours, stream) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        stream.set_nonblocking(true).unwrap();
        let state = &mut self.places[at].state;
        let fd = ours.into_raw_fd();
        let mut conn = Conn::new(fd, "10.0.0.1".parse().unwrap(), false);
        conn.readable = true;
        let key = state.conns.insert(conn);
        state.ring.poll(key, fd);
        state.ready.push(key);
        let mut client = Client { stream, bytes: Vec::new() };
        let head = format!(
            "GET /ws?token={} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            self.token
        );
        assert!(client.write(head.as_bytes()));
        let end = |bytes: &[u8]| bytes.windows(4).position(|four| four == b"\r\n\r\n");
        while end(&client.bytes).is_none() {
            self.turns();
            client.read();
        }
        let head: Vec<u8> = client.bytes.drain(..end(&client.bytes).unwrap() + 4).collect();
        assert!(head.starts_with(b"HTTP/1.1 101 "));
        assert!(client.say(r#"{"event":"subscribe","data":{"rooms":["r"]},"id":0}"#));
        for _ in 0..ENOUGH {
            self.turns();
            if client.frames().iter().any(|frame| frame.contains(r#""ack":0"#)) {
                return client;
            }
        }
        panic!("no answer");
    }
}

struct Client {
    stream: UnixStream,
    /// Read and not taken.
    bytes: Vec<u8>,
}

impl Client {
    /// All of it or nothing.
    fn write(&mut self, bytes: &[u8]) -> bool {
        match self.stream.write(bytes) {
            Ok(count) => {
                assert_eq!(count, bytes.len(), "small enough not to be torn");
                true
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                false
            }
        }
    }

    fn say(&mut self, text: &str) -> bool {
        let mut frame = Vec::new();
        encode_masked(Opcode::Text, true, [1, 2, 3, 4], text.as_bytes(), &mut frame);
        self.write(&frame)
    }

    fn read(&mut self) {
        let mut bytes = [0; 65536];
        while let Ok(count @ 1..) = self.stream.read(&mut bytes) {
            self.bytes.extend_from_slice(&bytes[..count]);
        }
    }

    /// The frames that have come whole.
    fn frames(&mut self) -> Vec<String> {
        self.read();
        let mut frames = Vec::new();
        let mut at = 0;
        while let Some(rest) = self.bytes.get(at..).filter(|rest| rest.len() >= 4) {
            let (start, len) = match rest[1] {
                126 => (4, usize::from(u16::from_be_bytes([rest[2], rest[3]]))),
                127 => panic!("no frame here is as long"),
                len => (2, usize::from(len)),
            };
            let Some(payload) = rest.get(start..start + len) else { break };
            frames.push(String::from_utf8(payload.to_vec()).unwrap());
            at += start + len;
        }
        self.bytes.drain(..at);
        frames
    }
}

/// What follows `"data":` in the events of the room.
fn ticks(frames: &[String]) -> Vec<usize> {
    let data = frames.iter().filter_map(|frame| frame.strip_prefix(r#"{"event":"tick","data":["#));
    data.map(|rest| rest.split(',').next().unwrap().parse().unwrap()).collect()
}

#[test]
fn a_lender_that_is_behind_misses_nothing() {
    const EVENTS: usize = 4000;
    let mut two = Two::new();
    let (mut lent, mut local) = (two.client(LENDER), two.client(HOME));
    assert_eq!((two.places[LENDER].state.loans.lent, two.places[HOME].state.loans.remote), (1, 1));
    let pad = "x".repeat(600);
    let mut heard = Vec::new();
    for n in 0..EVENTS {
        assert!(local.say(&format!(
            r#"{{"event":"publish","data":{{"room":"r","type":"tick","data":[{n},"{pad}"]}},"id":{}}}"#,
            n + 1
        )));
        if n % 5 == 0 {
            two.places[HOME].turn();
            heard.extend(ticks(&local.frames()));
        }
    }
    let home = &two.places[HOME].state;
    assert!(home.loans.wait() && home.counts.get(Count::LoansPutOff) > 0, "the lender took no turn");
    assert!(Arc::strong_count(&home.loans.peers[LENDER].freight_under_way) <= BATCHES_MAX + 1);
    assert!(home.loans.peers[LENDER].freight.bytes.len() <= crate::data_plane::window::WINDOW_BYTES);
    let mut got = Vec::new();
    for _ in 0..ENOUGH {
        two.turns();
        heard.extend(ticks(&local.frames()));
        got.extend(ticks(&lent.frames()));
        if got.len() >= EVENTS {
            break;
        }
    }
    assert_eq!(got, (0..EVENTS).collect::<Vec<_>>());
    assert_eq!(heard, got);
    assert!(!two.places[HOME].state.loans.wait());
}

#[test]
fn a_home_that_is_behind_makes_its_lender_stop_reading() {
    let mut two = Two::new();
    let mut lent = two.client(LENDER);
    let pad = "x".repeat(900);
    let ask = |n: usize| format!(r#"{{"event":"unsubscribe","data":{{"rooms":["none"],"pad":"{pad}"}},"id":{n}}}"#);
    let (mut asked, mut refused) = (1, 0);
    while refused < 10 {
        if lent.say(&ask(asked)) {
            asked += 1;
            refused = 0;
        } else {
            two.places[LENDER].turn();
            refused += 1;
        }
        assert!(asked < 100_000, "nobody takes these, and still they are read");
    }
    let lender = &two.places[LENDER].state;
    assert_eq!(lender.loans.peers[HOME].paused.len(), 1);
    assert!(lender.ready.is_empty() && lender.loans.wait(), "it waits without spinning");
    let mut answers = Vec::new();
    for _ in 0..ENOUGH {
        two.turns();
        let frames = lent.frames();
        let acks = frames.iter().filter_map(|frame| frame.strip_prefix(r#"{"ack":"#));
        answers.extend(acks.map(|rest| rest.split(',').next().unwrap().parse::<usize>().unwrap()));
        if answers.len() + 1 >= asked {
            break;
        }
    }
    assert_eq!(answers, (1..asked).collect::<Vec<_>>());
}

#[test]
fn both_ends_of_a_loan_forget_it() {
    for closes in [false, true] {
        let mut two = Two::new();
        let mut lent = two.client(LENDER);
        let keys: Vec<ConnKey> = two.places[HOME].state.conns.keys().collect();
        assert_eq!(keys.len(), 1);
        if closes {
            // A close frame is answered by the lender, with its code.
            let mut frame = Vec::new();
            encode_masked(Opcode::Close, true, [1, 2, 3, 4], &[3, 232], &mut frame);
            assert!(lent.write(&frame));
            two.turns();
            lent.read();
            assert_eq!(lent.bytes, [0x88, 2, 3, 232]);
        }
        drop(lent);
        for _ in 0..10 {
            two.turns();
        }
        for place in &two.places {
            let loans = &place.state.loans;
            assert_eq!((loans.lent, loans.remote, place.state.conns.len()), (0, 0, 0));
        }
        // What comes late for it finds nothing.
        let late = Item::Write { conn: ConnKey::new(0, 0), span: Span { start: 0, len: 0 }, whole: true };
        two.places[HOME].state.loans.peer(ShardId(LENDER as u8)).freight.push(late);
        let bind = Item::Bind { conn: ConnKey::new(0, 0), home: keys[0] };
        two.places[HOME].state.loans.peer(ShardId(LENDER as u8)).freight.push(bind);
        for _ in 0..4 {
            two.turns();
        }
        assert!(two.places.iter().all(|place| place.state.conns.is_empty() && !place.state.loans.wait()));
    }
}
