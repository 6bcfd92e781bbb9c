//! Thousands of connections that come and go leave nothing behind.

use crate::peer::{Peer, frame};
use crate::server::{Server, token, until};
use std::thread;

const CONNECTIONS: usize = 5000;
const THREADS: usize = 4;
/// What the second half may add to the resident memory, in KiB: the allocator's own unrest, 0.8 KiB a connection. A leak of one session's
/// state each would be above it.
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
    churn(&server, &tokens);
    settle(&server);
    let warm = server.rss_kib();
    churn(&server, &tokens);
    settle(&server);
    let grown = server.rss_kib().saturating_sub(warm);
    println!("{CONNECTIONS} connections after {CONNECTIONS}: {warm} KiB + {grown} KiB");
    assert!(
        grown <= GROWTH_KIB,
        "{warm} KiB after the first {CONNECTIONS} connections, {grown} KiB more after as many again"
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
