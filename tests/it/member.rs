//! A client of `/ws` in the room `r`, and what it says and hears there.

use crate::peer::Peer;
use crate::server::Server;

/// A member of `/ws` that has joined the room `r`.
pub fn member(server: &Server, token: &str) -> Peer {
    let mut peer = Peer::websocket(server.address, &format!("/ws?token={token}"));
    peer.send_frame(0x81, br#"{"event":"subscribe","data":{"rooms":["r"]},"id":1}"#);
    while !peer.next_text().contains(r#""ack":1"#) {}
    peer
}

/// Publishes `tick` with this data; the request has this number.
pub fn publish(peer: &mut Peer, id: usize, data: &str) {
    let text = format!(r#"{{"event":"publish","data":{{"room":"r","type":"tick","data":{data}}},"id":{id}}}"#);
    peer.send_frame(0x81, text.as_bytes());
}

/// The next event `tick`.
pub fn tick(peer: &mut Peer) -> String {
    loop {
        let text = peer.next_text();
        if text.starts_with(r#"{"event":"tick""#) {
            return text;
        }
    }
}
