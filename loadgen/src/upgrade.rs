//! The HTTP request that becomes a WebSocket (RFC 6455, section 4), and the reader of its answer. Pure: bytes in, bytes out.

use tungstenite::handshake::derive_accept_key;

/// One key for all: it keeps caches from answering, and there are none on loopback.
const KEY: &str = "dGVuYW50Y2FzdCBsb2FkZw==";
const HEADERS_MAX: usize = 64;

/// The request that opens the WebSocket. `target` is path and query.
pub fn request(authority: &str, target: &str) -> Vec<u8> {
    format!(
        "GET {target} HTTP/1.1\r\nHost: {authority}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    )
    .into_bytes()
}

/// Reads the answer to the upgrade; the bytes it took, or `None` when more are needed.
pub fn answer(bytes: &[u8]) -> Result<Option<usize>, String> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let used = match response.parse(bytes).map_err(|error| format!("upgrade: {error}"))? {
        httparse::Status::Complete(used) => used,
        httparse::Status::Partial => return Ok(None),
    };
    if response.code != Some(101) {
        let body = String::from_utf8_lossy(&bytes[used..bytes.len().min(used + 120)]);
        return Err(format!("upgrade refused: {} {body}", response.code.unwrap_or(0)).trim_end().to_owned());
    }
    let accept = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("sec-websocket-accept"));
    if accept.map(|header| header.value) != Some(derive_accept_key(KEY.as_bytes()).as_bytes()) {
        return Err("upgrade: wrong Sec-WebSocket-Accept".to_owned());
    }
    Ok(Some(used))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let accept = derive_accept_key(KEY.as_bytes());
        let head =
            format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nsec-websocket-accept: {accept}\r\n\r\n");
        assert_eq!(answer(format!("{head}\x01\x02").as_bytes()), Ok(Some(head.len())));
        assert_eq!(answer(&head.as_bytes()[..30]), Ok(None));
        for (head, reason) in [
            ("HTTP/1.1 101 x\r\nSec-WebSocket-Accept: x\r\n\r\n", "upgrade: wrong"),
            ("HTTP/1.1 400 Bad Request\r\n\r\n{\"code\":3}", "upgrade refused: 400 {\"code\":3}"),
            ("SSH-2.0\r\n\r\n", "upgrade: "),
        ] {
            let error = answer(head.as_bytes()).unwrap_err();
            assert!(error.starts_with(reason), "{error}");
        }
        let request = String::from_utf8(request("h:1", "/ws?token=t.o.k")).unwrap();
        assert!(request.starts_with("GET /ws?token=t.o.k HTTP/1.1\r\nHost: h:1\r\n"), "{request}");
    }
}
