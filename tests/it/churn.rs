//! Thousands of connections that come and go leave nothing behind.

use crate::peer::{Peer, frame};
use crate::server::{Server, token, until};
use std::thread;

const CONNECTIONS: usize = 5000;
const THREADS: usize = 4;
/// Rounds of as many after the first, which warms the allocator up: what it holds in reserve may hide a leak for a while, not for long.
const ROUNDS: u64 = 4;
/// What they may add to the resident memory together: a fifth of a KiB a connection, a fraction of what one session holds. The peaks of a
/// round, which depend on how many connections were open at once, move it by 3,000.
const GROWTH_KIB: u64 = 4096;

#[test]
fn thousands_of_connections_leave_nothing() {
    let mut server = Server::start(&[
        ("TENANTCAST_LIMITS__CONNECTIONS_PER_USER", "0"),
        ("TENANTCAST_SOCKETIO__CONNECT_TIMEOUT_MS", "500"),
        ("TENANTCAST_SOCKETIO__RECOVERY_MS", "0"),
        ("WS_PING_INTERVAL", "500"),
        ("WS_PING_TIMEOUT", "500"),
    ]);
    let descriptors = server.descriptors();
    let tokens: Vec<String> = (0..THREADS).map(|nth| token(&format!("tenant-{nth}"), "ana")).collect();
    let settle = |server: &Server| {
        until("every session is over", || server.sessions() == 0);
        until("every descriptor is given back", || server.descriptors() <= descriptors);
    };
    let cold = server.rss_kib();
    churn(&server, &tokens);
    settle(&server);
    let warm = server.rss_kib();
    let after: Vec<u64> = (0..ROUNDS)
        .map(|_| {
            churn(&server, &tokens);
            settle(&server);
            server.rss_kib()
        })
        .collect();
    println!("KiB resident: {cold} at first, {warm} after {CONNECTIONS} connections, then {after:?}");
    let last = after.iter().rev().take(2).min().copied().unwrap_or_default();
    assert!(
        last <= warm + GROWTH_KIB,
        "{warm} KiB after {CONNECTIONS} connections, {last} KiB after {ROUNDS} times as many more"
    );
    server.assert_alive("churn");
}

fn churn(server: &Server, tokens: &[String]) {
    let address = server.address;
    thread::scope(|scope| {
        for token in tokens {
            scope.spawn(move || {
                for nth in 0..CONNECTIONS / THREADS {
                    match nth % 5 {
                        0 => Peer::socket_io(address, token).reset(),
                        1 => {
                            let mut peer = Peer::socket_io(address, token);
                            peer.send_frame(0x81, b"421[\"subscribe\",{\"rooms\":[\"churn\"]}]");
                            peer.send_frame(0x81, b"41");
                            peer.send(frame(0x88, &[3, 232]));
                        }
                        2 => drop(Peer::websocket(address, &format!("/ws?token={token}"))),
                        3 => {
                            let mut peer = Peer::connect(address);
                            peer.send("GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: t\r\n\r\n");
                            assert!(peer.read_answer().contains("pingInterval"));
                        }
                        _ => {
                            let mut peer = Peer::connect(address);
                            peer.send("GET /health HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
                            assert!(peer.read_to_end().contains("\"ok\""));
                        }
                    }
                }
            });
        }
    });
}
