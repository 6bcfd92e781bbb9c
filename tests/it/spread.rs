//! A tenant whose connections are spread over the shards has the same guarantees as any other.
//!
//! With two shards about half of the connections of each test are lent; the kernel says which. A test has so many that each shard has some.

use crate::hostile;
use crate::member::{member, publish, tick};
use crate::peer::{End, Peer};
use crate::server::{API_KEY, Server, token, until};
use std::thread;

const SPREAD: (&str, &str) = ("TENANTCAST_SERVER__SPREAD", "acme,tenant-*");
/// Members of a room.
const MEMBERS: usize = 16;

fn start(more: &[(&str, &str)]) -> Server {
    Server::start(&[&[SPREAD, ("TENANTCAST_LIMITS__CONNECTIONS_PER_USER", "0")], more].concat())
}

fn ask(server: &Server, method: &str, rest: &str) -> String {
    let mut peer = server.connect();
    peer.send(format!(
        "{method} /api/v1/tenants/acme/{rest} HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {API_KEY}\r\nConnection: close\r\n\r\n"
    ));
    peer.read_to_end()
}

#[test]
fn every_event_comes_once_and_in_order() {
    const EVENTS: usize = 2000;
    let mut server = start(&[("TENANTCAST_LIMITS__EVENTS_PER_SECOND", "0")]);
    let token = token("acme", "ana");
    let mut members: Vec<Peer> = (0..MEMBERS).map(|_| member(&server, &token)).collect();
    let mut publisher = member(&server, &token);
    thread::scope(|scope| {
        for peer in &mut members {
            scope.spawn(move || {
                for n in 0..EVENTS {
                    let event = tick(peer);
                    assert!(event.contains(&format!(r#""data":{n},"#)), "{n} was to come: {event}");
                    assert!(event.contains(&format!(r#""offset":{}"#, n + 1)), "{event}");
                }
            });
        }
        for n in 0..EVENTS {
            publish(&mut publisher, n + 2, &n.to_string());
        }
    });
    server.assert_alive("many events");
}

#[test]
fn a_long_message_arrives_whole_at_readers_of_any_pace() {
    const LENGTH: usize = 16 << 20;
    let room = (20 << 20).to_string();
    let mut server = start(&[
        ("TENANTCAST_LIMITS__FRAME_BYTES", &room),
        ("TENANTCAST_LIMITS__OUTBOX_BYTES", &room),
        ("TENANTCAST_LIMITS__EVENTS_PER_SECOND", "0"),
    ]);
    let token = token("acme", "ana");
    let mut members: Vec<Peer> = (0..6).map(|_| member(&server, &token)).collect();
    let mut publisher = member(&server, &token);
    publish(&mut publisher, 2, &format!("\"{}\"", "#".repeat(LENGTH)));
    publish(&mut publisher, 3, "\"short\"");
    for peer in &mut members {
        // The others wait with theirs until it is their turn: their sockets are full.
        let long = tick(peer);
        assert_eq!(long.bytes().filter(|byte| *byte == b'#').count(), LENGTH);
        let short = tick(peer);
        assert!(short.contains("\"short\""), "{short}");
    }
    server.assert_alive("16 MiB");
}

#[test]
fn who_does_not_read_is_closed_and_nobody_else() {
    let mut server =
        start(&[("TENANTCAST_LIMITS__OUTBOX_BYTES", "100000"), ("TENANTCAST_LIMITS__EVENTS_PER_SECOND", "0")]);
    let token = token("acme", "ana");
    let mut slow: Vec<Peer> = (0..MEMBERS).map(|_| member(&server, &token)).collect();
    let mut quick = member(&server, &token);
    let mut publisher = member(&server, &token);
    let data = format!("\"{}\"", "y".repeat(20_000));
    let mut count = 0;
    // Loopback's buffers hold a few megabytes for each of them.
    until("the slow ones are closed", || {
        for _ in 0..20 {
            publish(&mut publisher, count + 2, &data);
            count += 1;
            let event = tick(&mut quick);
            assert!(event.contains(&format!(r#""offset":{count}"#)), "{count}: {}", &event[event.len() - 200..]);
            tick(&mut publisher);
        }
        server.sessions() == 2
    });
    for peer in &mut slow {
        // Everything whole up to the close frame.
        assert_eq!(peer.end(), End::Code(4508));
    }
    server.assert_alive("slow readers");
}

#[test]
fn a_kick_reaches_every_connection() {
    let mut server = start(&[]);
    let (ana, ben) = (token("acme", "ana"), token("acme", "ben"));
    let mut kicked: Vec<Peer> = (0..MEMBERS).map(|_| member(&server, &ana)).collect();
    let mut stays = member(&server, &ben);
    let answer = ask(&server, "DELETE", "users/ana");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    for peer in &mut kicked {
        assert_eq!(peer.end(), End::Code(4410));
    }
    publish(&mut stays, 2, "1");
    tick(&mut stays);
    until("only the other is left", || server.sessions() == 1);
    server.assert_alive("a kick");
}

#[test]
fn sessions_of_an_address_are_counted_once() {
    let mut server = start(&[("WS_MAX_CONNECTIONS_PER_IP", "8")]);
    let token = token("acme", "ana");
    for round in 0..5 {
        let mut peers: Vec<Peer> = (0..8).map(|_| member(&server, &token)).collect();
        let mut more = Peer::websocket(server.address, &format!("/ws?token={token}"));
        assert_eq!(more.end(), End::Code(4429), "round {round}");
        for (nth, peer) in peers.drain(..).enumerate() {
            if nth % 2 == 0 { peer.reset() } else { drop(peer) }
        }
        until("all are gone", || server.sessions() == 0);
    }
    server.assert_alive("the address's bound");
}

/// A session whose first token is refused may come with another tenant's. It cannot move a second time without its socket: it is closed, and
/// comes back.
#[test]
fn a_second_tenant_on_one_connection_is_told_to_come_back() {
    let mut server = start(&[("TENANTCAST_LIMITS__CONNECTIONS_PER_TENANT", "1")]);
    let tenants: Vec<String> = (0..8).map(|n| format!("tenant-{n}")).collect();
    let tokens: Vec<String> = tenants.iter().map(|tenant| token(tenant, "ana")).collect();
    // Every tenant is full.
    let mut first: Vec<Peer> = tokens.iter().map(|token| Peer::socket_io(server.address, token)).collect();
    for (one, other) in tokens.iter().zip(tokens.iter().rev()) {
        for _ in 0..4 {
            let mut peer = Peer::websocket(server.address, "/socket.io/?EIO=4&transport=websocket");
            for token in [one, other] {
                peer.send_frame(0x81, format!("40{{\"token\":\"{token}\"}}").as_bytes());
            }
            // Refused twice, or refused and closed; never left alone.
            let mut refused = 0;
            while let Some((first, payload)) = peer.next_frame() {
                if first == 0x88 {
                    break;
                }
                refused += usize::from(payload.starts_with(b"44"));
                if refused == 2 {
                    break;
                }
            }
            assert!(refused >= 1, "the first answer came");
        }
    }
    for peer in &mut first {
        peer.send_frame(0x81, b"421[\"presence\",{\"room\":\"r\"}]");
        while !peer.next_text().starts_with("431") {}
    }
    until("only the first of each are left", || server.sessions() == 8);
    server.assert_alive("second tenants");
}

#[test]
fn peers_that_break_the_rules() {
    hostile::broken_frames(&[SPREAD]);
}

#[test]
fn resets_in_any_state() {
    hostile::resets(&[SPREAD]);
}

#[test]
fn leaving_at_once() {
    hostile::leaving_at_once(&[SPREAD]);
}

#[test]
fn silence() {
    hostile::silence(&[SPREAD]);
}

#[test]
fn floods() {
    hostile::floods(&[SPREAD]);
}

/// A drain delivers what was published before it, wherever the socket is.
#[test]
fn a_drain_loses_nothing() {
    let mut server = start(&[("TENANTCAST_LIMITS__EVENTS_PER_SECOND", "0"), ("TENANTCAST_DRAIN__SPREAD_MS", "0")]);
    let token = token("acme", "ana");
    let mut members: Vec<Peer> = (0..MEMBERS).map(|_| member(&server, &token)).collect();
    let mut publisher = member(&server, &token);
    const EVENTS: usize = 300;
    for n in 0..EVENTS {
        publish(&mut publisher, n + 2, &format!("\"{n}{}\"", "z".repeat(1000)));
    }
    for _ in 0..EVENTS {
        tick(&mut publisher);
    }
    server.terminate();
    for peer in &mut members {
        for n in 0..EVENTS {
            let event = tick(peer);
            assert!(event.contains(&format!(r#""data":"{n}z"#)), "{n} was to come: {}", &event[..60]);
        }
        assert_eq!(peer.end(), End::Code(4503));
    }
    drop((members, publisher));
    assert_eq!(server.exit_code(), Some(0));
}
