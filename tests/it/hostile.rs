//! Peers that break the rules, stall, vanish or shout.

use crate::peer::{End, Peer, frame, upgrade};
use crate::server::{SOON, Server, token, until};
use std::time::{Duration, Instant};

#[test]
fn broken_requests_are_refused_and_closed() {
    let mut server = Server::start(&[]);
    let long = |count: usize| "x".repeat(count);
    let many: String = (0..200).map(|n| format!("X-{n}: y\r\n")).collect();
    let post = |more: &str| format!("POST /api/v1/tenants/t/events HTTP/1.1\r\nHost: t\r\n{more}");
    for (what, bytes, statuses) in [
        ("zeros", "\0\0\0\0\r\n\r\n".into(), &[400][..]),
        ("words", "hello, is there anybody?\r\n\r\n".into(), &[400]),
        ("two blanks", "GET  / HTTP/1.1\r\nHost: t\r\n\r\n".into(), &[400]),
        ("version 9", "GET / HTTP/9.9\r\nHost: t\r\n\r\n".into(), &[400, 505]),
        ("HTTP/2's preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), &[400, 505]),
        ("TLS", "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03\r\n\r\n".into(), &[400]),
        ("no colon", "GET / HTTP/1.1\r\nHost t\r\n\r\n".into(), &[400]),
        ("a blank before the colon", "GET / HTTP/1.1\r\nHost : t\r\n\r\n".into(), &[400]),
        ("a folded line", "GET / HTTP/1.1\r\nHost: t\r\n folded\r\n\r\n".into(), &[400]),
        ("a zero in a value", "GET / HTTP/1.1\r\nHost: t\0\r\n\r\n".into(), &[400]),
        ("a head without end", format!("GET /{} HTTP/1.1\r\n", long(40_000)), &[414, 431]),
        ("a long head", format!("GET / HTTP/1.1\r\nHost: t\r\nX: {}\r\n\r\n", long(40_000)), &[431]),
        ("many headers", format!("GET / HTTP/1.1\r\nHost: t\r\n{many}\r\n"), &[431]),
        ("a negative length", post("Content-Length: -1\r\n\r\n"), &[400]),
        ("a length in words", post("Content-Length: ten\r\n\r\n"), &[400]),
        ("a length over 64 bits", post("Content-Length: 99999999999999999999999\r\n\r\n"), &[400, 413]),
        ("a length over the limit", post("Content-Length: 4000000000\r\n\r\n"), &[401, 413]),
        ("two lengths", post("Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"), &[400]),
        ("a length and chunks", post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), &[400]),
        ("an unknown coding", post("Transfer-Encoding: gzip\r\n\r\n"), &[400, 501]),
        ("chunked, but not last", post("Transfer-Encoding: chunked, gzip\r\n\r\n"), &[400, 501]),
        ("a chunk without a size", post("Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n"), &[400]),
        ("a chunk of 2^64", post("Transfer-Encoding: chunked\r\n\r\nffffffffffffffff0\r\n"), &[400, 413]),
        ("a chunk without its end", post("Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n"), &[400]),
        ("an upgrade without a key", "GET /ws HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n".into(), &[400, 426]),
        ("an upgrade of version 8", upgrade("/ws").replace(": 13", ": 8"), &[400, 426]),
        ("an upgrade with a short key", upgrade("/ws").replace("dGhlIHNhbXBsZSBub25jZQ==", "abc"), &[400, 426]),
    ] {
        let mut peer = server.connect();
        peer.try_send(&bytes);
        peer.finish();
        let answer = peer.read_to_end();
        let status = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|status| status.parse::<u16>().ok());
        assert!(status.is_some_and(|status| statuses.contains(&status)), "{what}: {answer:?}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{what}: one answer, and no second request: {answer:?}");
        server.assert_alive(what);
    }
}

#[test]
fn broken_frames_are_answered_with_a_close_code() {
    broken_frames(&[]);
}

pub fn broken_frames(more: &[(&str, &str)]) {
    let mut server = Server::start(more);
    let token = token("acme", "ana");
    let huge = |first: u8, length: u64| [&[first, 0xff][..], &length.to_be_bytes(), &[1, 2, 3, 4]].concat();
    let unmasked = |text: &str| [&[0x81, text.len() as u8], text.as_bytes()].concat();
    for (what, bytes, codes) in [
        ("an unmasked frame", unmasked("{}"), &[1002][..]),
        ("reserved bits", frame(0xf1, b"{}"), &[1002]),
        ("an unknown opcode", frame(0x83, b"{}"), &[1002]),
        ("an unknown control opcode", frame(0x8b, b""), &[1002]),
        ("a long ping", frame(0x89, &[0; 126]), &[1002]),
        ("a ping in parts", frame(0x09, b"a"), &[1002]),
        ("a continuation of nothing", frame(0x80, b"a"), &[1002]),
        ("a text within a text", [frame(0x01, b"a"), frame(0x81, b"b")].concat(), &[1002]),
        ("a text that is no UTF-8", frame(0x81, &[0xff, 0xfe]), &[1007]),
        ("a text cut within a character", frame(0x81, &[0xe2, 0x82]), &[1007]),
        ("2^40 bytes announced", huge(0x81, 1 << 40), &[1009]),
        ("2^63 bytes announced", huge(0x82, 1 << 63), &[1002, 1009]),
        ("one byte over the limit", huge(0x81, 1_000_001), &[1009]),
        ("a close of one byte", frame(0x88, &[3]), &[1002]),
        ("a close with code 1005", frame(0x88, &[3, 237]), &[1002]),
        ("a close with code 999", frame(0x88, &[3, 231]), &[1002]),
        ("garbage", (0u8..=255).rev().cycle().take(4096).collect(), &[1002, 1007, 1009]),
    ] {
        for target in [format!("/ws?token={token}"), "/socket.io/?EIO=4&transport=websocket".into()] {
            let mut peer = Peer::websocket(server.address, &target);
            peer.try_send(&bytes);
            let end = peer.end();
            assert!(matches!(end, End::Code(code) if codes.contains(&code)), "{what} on {target}: {end:?}");
        }
        server.assert_alive(what);
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "how long it takes is what is asked")]
fn whoever_dawdles_is_closed() {
    let mut server = Server::start(&[("TENANTCAST_LIMITS__HANDSHAKE_MS", "300")]);
    let head = "GET /health HTTP/1.1\r\nHost: t\r\nX: ";
    for (what, start) in [
        ("nothing", ""),
        ("half a head", head),
        ("half a body", "POST /api/v1/tenants/t/events HTTP/1.1\r\nHost: t\r\nContent-Length: 100\r\n\r\n{"),
        (
            "half a chunk",
            "POST /api/v1/tenants/t/events HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        ),
    ] {
        let mut peer = server.connect();
        peer.send(start);
        let began = Instant::now();
        let answer = peer.read_to_end();
        assert!(began.elapsed() < SOON / 2, "{what}: {:?}", began.elapsed());
        assert!(answer.is_empty() || answer.contains(" 408 ") || answer.contains(" 401 "), "{what}: {answer}");
        server.assert_alive(what);
    }
    // A byte now and then does not buy time: the whole head counts.
    let mut peer = server.connect();
    peer.send(head);
    let began = Instant::now();
    while !peer.is_closed_within(Duration::from_millis(40)) {
        assert!(began.elapsed() < SOON / 2, "a byte every 40 ms keeps it open");
        peer.try_send("y");
    }
    server.assert_alive("a slow head");
    // Who has said all is not asked again.
    let mut peer = Peer::socket_io(server.address, &token("acme", "ana"));
    assert_eq!(peer.end_within(Duration::from_millis(900)), None, "a session is not a handshake");
}

#[test]
fn a_reset_in_any_state_leaves_nothing() {
    resets(&[]);
}

pub fn resets(more: &[(&str, &str)]) {
    let env = [
        ("WS_PING_INTERVAL", "300"),
        ("WS_PING_TIMEOUT", "300"),
        ("TENANTCAST_LIMITS__HANDSHAKE_MS", "1000"),
        ("TENANTCAST_LIMITS__CONNECTIONS_PER_USER", "0"),
    ];
    let mut server = Server::start(&[&env, more].concat());
    let token = token("acme", "ana");
    let (address, plain) = (server.address, format!("/ws?token={token}"));
    let engine = "/socket.io/?EIO=4&transport=websocket";
    let polling = |peer: &mut Peer| {
        peer.send("GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: t\r\n\r\n");
        let answer = peer.read_answer();
        let (_, sid) = answer.split_once("\"sid\":\"").expect("a sid");
        format!("/socket.io/?EIO=4&transport=polling&sid={}", &sid[..20])
    };
    let connect = |peer: &mut Peer| {
        let target = polling(peer);
        let body = format!("40{{\"token\":\"{token}\"}}");
        peer.send(format!("POST {target} HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        assert!(peer.read_answer().ends_with("ok"));
        target
    };
    drop(Peer::socket_io(address, &token));
    until("the first session is over", || server.sessions() == 0);
    let descriptors = server.descriptors();
    type State<'a> = (&'a str, &'a dyn Fn() -> Peer);
    let states: [State<'_>; 13] = [
        ("connected", &|| Peer::connect(address)),
        ("half a head", &|| {
            let mut peer = Peer::connect(address);
            peer.send("GET /ws HTTP/1.1\r\nHo");
            peer
        }),
        ("a request unanswered", &|| {
            let mut peer = Peer::connect(address);
            peer.send("GET /health HTTP/1.1\r\nHost: t\r\n\r\n");
            peer
        }),
        ("an upgrade unanswered", &|| {
            let mut peer = Peer::connect(address);
            peer.send(upgrade(&plain));
            peer
        }),
        ("an upgrade and its first frames", &|| {
            let mut peer = Peer::connect(address);
            peer.send(
                [upgrade(engine).into_bytes(), frame(0x81, format!("40{{\"token\":\"{token}\"}}").as_bytes())].concat(),
            );
            peer
        }),
        ("a WebSocket, no namespace", &|| Peer::websocket(address, engine)),
        ("a member", &|| Peer::socket_io(address, &token)),
        ("half a frame", &|| {
            let mut peer = Peer::socket_io(address, &token);
            peer.send(&frame(0x81, &[b'x'; 5000])[..100]);
            peer
        }),
        ("attachments due", &|| {
            let mut peer = Peer::socket_io(address, &token);
            peer.send_frame(
                0x81,
                b"452-[\"publish\",{\"_placeholder\":true,\"num\":0},{\"_placeholder\":true,\"num\":1}]",
            );
            peer.send_frame(0x82, b"one");
            peer
        }),
        ("an answer unread", &|| {
            let mut peer = Peer::socket_io(address, &token);
            peer.send_frame(0x81, b"421[\"history\",{}]");
            peer
        }),
        ("a polling session", &|| {
            let mut peer = Peer::connect(address);
            polling(&mut peer);
            peer
        }),
        ("a polling member that waits", &|| {
            let mut peer = Peer::connect(address);
            let target = connect(&mut peer);
            peer.send(format!("GET {target} HTTP/1.1\r\nHost: t\r\n\r\n"));
            peer
        }),
        ("a stream", &|| {
            let mut peer = Peer::connect(address);
            peer.send(format!("GET /events?rooms=a&token={token} HTTP/1.1\r\nHost: t\r\n\r\n"));
            assert!(peer.read_head().contains(" 200 "));
            peer
        }),
    ];
    for (what, state) in states {
        for nth in 0..20 {
            let peer = state();
            match nth % 2 {
                0 => peer.reset(),
                _ => drop(peer),
            }
        }
        server.assert_alive(what);
        until(&format!("{what}: every session is over"), || server.sessions() == 0);
        until(&format!("{what}: every descriptor is given back"), || server.descriptors() <= descriptors);
    }
    until("only who asks is connected", || server.connections() <= 1);
}

#[test]
fn members_that_leave_at_once_are_all_missed() {
    leaving_at_once(&[]);
}

pub fn leaving_at_once(more: &[(&str, &str)]) {
    let mut server = Server::start(&[&[("TENANTCAST_LIMITS__CONNECTIONS_PER_USER", "0")], more].concat());
    let address = server.address;
    // Several at a time, so that one takes the place of another that has just ended.
    std::thread::scope(|scope| {
        for nth in 0..8 {
            scope.spawn(move || {
                let token = token(&format!("tenant-{}", nth % 2), "ana");
                for round in 0..150 {
                    let peer = match nth / 2 {
                        0 => Peer::socket_io(address, &token),
                        1 => Peer::websocket(address, &format!("/ws?token={token}")),
                        _ => {
                            let mut peer = Peer::connect(address);
                            peer.send(format!("GET /events?rooms=a&token={token} HTTP/1.1\r\nHost: t\r\n\r\n"));
                            assert!(peer.read_head().contains(" 200 "));
                            peer
                        }
                    };
                    match round % 2 {
                        0 => peer.reset(),
                        _ => drop(peer),
                    }
                }
            });
        }
    });
    // No ping is due for long: only the ends themselves can have told the server.
    until("every session is over", || server.sessions() == 0);
    server.assert_alive("leaving at once");
}

#[test]
fn whoever_falls_silent_is_let_go() {
    silence(&[]);
}

pub fn silence(more: &[(&str, &str)]) {
    let mut server = Server::start(&[&[("WS_PING_INTERVAL", "200"), ("WS_PING_TIMEOUT", "200")], more].concat());
    let token = token("acme", "ana");
    // Open, and never a word again: as a peer whose network is gone.
    let silent: Vec<Peer> = (0..20).map(|_| Peer::socket_io(server.address, &token)).collect();
    let plain: Vec<Peer> = (0..20).map(|_| Peer::websocket(server.address, &format!("/ws?token={token}"))).collect();
    until("all are let go", || server.sessions() == 0);
    for mut peer in silent.into_iter().chain(plain) {
        assert!(peer.is_closed_within(SOON), "its connection is closed too");
    }
    server.assert_alive("silence");
}

#[test]
fn floods_are_bounded() {
    floods(&[]);
}

pub fn floods(more: &[(&str, &str)]) {
    let mut server = Server::start(more);
    let token = token("acme", "ana");
    let (before, descriptors) = (server.rss_kib(), server.descriptors());
    let publish = frame(
        0x81,
        format!("42[\"publish\",{{\"room\":\"r\",\"type\":\"x\",\"data\":\"{}\"}}]", "y".repeat(2000)).as_bytes(),
    );
    let empty = frame(0x81, b"3");
    let ping = frame(0x89, b"are you there");
    for (what, bytes, ends) in [
        ("events", publish.repeat(50), true),
        ("pongs", empty.repeat(1000), true),
        // Nothing says how many pings a peer may send; but their answers pile up where they are not read.
        ("pings that nobody reads the answers of", ping.repeat(1000), false),
    ] {
        let mut peer = Peer::socket_io(server.address, &token);
        let ended = (0..400).any(|_| !peer.try_send(&bytes));
        if ends {
            assert!(ended || peer.is_closed_within(SOON), "{what}: 400 times {} bytes and still there", bytes.len());
        }
        drop(peer);
        server.assert_alive(what);
    }
    // Requests without end on one connection, no answer read.
    let mut peer = server.connect();
    peer.stream.set_write_timeout(Some(Duration::from_secs(2))).expect("a live socket");
    let requests = "GET /health HTTP/1.1\r\nHost: t\r\n\r\n".repeat(1000);
    let _ = (0..300).all(|_| peer.try_send(&requests));
    server.assert_alive("requests without end");
    peer.reset();
    until("every descriptor is given back", || server.descriptors() <= descriptors);
    let grown = server.rss_kib().saturating_sub(before);
    assert!(grown < 40_000, "{grown} KiB more than before");
}
