//! What nobody may read in a log.

use crate::peer::{Peer, upgrade};
use crate::server::{API_KEY, SECRET, Server, token};

#[test]
fn no_log_holds_a_token_or_a_key() {
    let mut server = Server::start(&[("LOG_LEVEL", "trace")]);
    let good = token("acme", "ana");
    // As long and as secret as the good one, but signed wrong, and one that is none at all.
    let wrong = format!("{}AAAA", &good[..good.len() - 4]);
    let other = "nobody-may-read-this-one-either";
    for token in [&*good, &wrong, other] {
        Peer::websocket(server.address, &format!("/ws?token={token}")).finish();
        let mut header = server.connect();
        header.send(upgrade("/ws").replace("Host: t", &format!("Host: t\r\nAuthorization: Bearer {token}")));
        header.read_head();
        let mut protocol = server.connect();
        protocol
            .send(upgrade("/ws").replace("Host: t", &format!("Host: t\r\nSec-WebSocket-Protocol: bearer, {token}")));
        protocol.read_head();
        let mut socket_io =
            Peer::websocket(server.address, &format!("/socket.io/?EIO=4&transport=websocket&token={token}"));
        socket_io.send_frame(0x81, format!("40{{\"token\":\"{token}\"}}").as_bytes());
        socket_io.send_frame(0x81, format!("421[\"authenticate\",\"{token}\"]").as_bytes());
        socket_io.next_text();
        socket_io.next_text();
        let mut events = server.connect();
        events.send(format!("GET /events?token={token} HTTP/1.1\r\nHost: t\r\n\r\n"));
        events.read_head();
        for key in [token, API_KEY] {
            let mut api = server.connect();
            let body = "{\"type\":\"a\"";
            api.send(format!(
                "POST /api/v1/tenants/acme/events HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            ));
            api.read_to_end();
        }
        // A request that is broken after its token.
        let mut broken = server.connect();
        broken.send(format!("GET /ws?token={token} HTTP/1.1\r\nAuthorization: Bearer {token}\r\nbroken\r\n\r\n"));
        broken.read_to_end();
    }
    server.assert_alive("tokens in every place");
    let said = server.said();
    assert!(!said.is_empty(), "a trace that says nothing proves nothing");
    for secret in [&*good, &wrong, other, API_KEY, SECRET, good.rsplit('.').next().expect("a signature")] {
        assert!(!said.contains(secret), "the log holds `{secret}`");
    }
}
