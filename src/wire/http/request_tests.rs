//! Tables of heads that are read and heads that are refused, and what cuts and mutations may not do.

use super::*;
use crate::base::chance::Chance;

const UPGRADE: &str = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: a\r\nUpgrade: WebSocket\r\n\
    Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Protocol: bearer\r\nSec-WebSocket-Protocol: abc.def.ghi\r\nOrigin: https://app\r\n\r\n";
const POST: &str = "POST /api/v1/tenants/a%20b/events HTTP/1.1\r\nHost: a:3000\r\nauthorization: bEARER  abc \r\n\
    Content-Length: 5\r\nContent-Type: application/json\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 5.6.7.8\r\n\
    Expect: 100-continue\r\nUser-Agent: caf\u{e9}\r\n\r\n";

fn whole(input: &str) -> Result<Request, Error> {
    decode(input.as_bytes()).map(|answer| answer.expect("the head is whole").0)
}

/// A valid head with these lines.
fn with(lines: &str) -> Result<Request, Error> {
    whole(&format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n"))
}

#[test]
fn a_post() {
    let request = whole(POST).unwrap();
    assert_eq!((request.method, &*request.path), (Method::Post, "/api/v1/tenants/a b/events"));
    assert_eq!(request.segments().collect::<Vec<_>>(), ["api", "v1", "tenants", "a b", "events"]);
    assert_eq!((request.length, request.keep_alive, request.expect_continue), (BodyLength::Length(5), true, true));
    assert_eq!(request.bearer.as_deref(), Some("abc"));
    assert_eq!(request.forwarded_for.as_deref(), Some("1.2.3.4, 5.6.7.8"));
    assert_eq!(request.host.as_deref(), Some("a:3000"));
    assert_eq!(request.content_type.as_deref(), Some("application/json"));
    assert_eq!(request.user_agent.as_deref(), Some("café"));
    assert_eq!((request.origin, request.upgrade), (None, None));
}

#[test]
fn an_upgrade() {
    let request = whole(UPGRADE).unwrap();
    assert_eq!(request.query().get("transport").as_deref(), Some("websocket"));
    assert_eq!(request.origin.as_deref(), Some("https://app"));
    let upgrade = request.upgrade.unwrap();
    assert_eq!(&upgrade.accept, b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(upgrade.protocols.as_deref(), Some("bearer, abc.def.ghi"));
}

#[test]
fn upgrades_that_are_none_or_broken() {
    const BAD_KEY: Error = Error::Malformed("Sec-WebSocket-Key is not 16 bytes in base64");
    for (from, to, expected) in [
        ("Connection: keep-alive, Upgrade", "Connection: keep-alive", Ok(false)),
        ("Upgrade: WebSocket", "Upgrade: h2c", Ok(false)),
        ("Upgrade: WebSocket", "Upgrade: h2c, websocket", Ok(true)),
        ("HTTP/1.1", "HTTP/1.0", Ok(false)),
        ("Version: 13", "Version: 8", Err(Error::WebSocketVersion)),
        ("Sec-WebSocket-Version: 13\r\n", "", Err(Error::WebSocketVersion)),
        ("Key: dGhlIHNhbXBsZSBub25jZQ==", "Key: dGhlIHNhbXBsZSBub25jZQ", Err(BAD_KEY)),
        ("Key: dGhlIHNhbXBsZSBub25jZQ==", "Key: dGhlIHNhbXBsZSBub25jZSE=", Err(BAD_KEY)),
        ("Key: dGhlIHNhbXBsZSBub25jZQ==", "Key: !!!!!!!!!!!!!!!!!!!!!!==", Err(BAD_KEY)),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", Err(BAD_KEY)),
        ("Version: 13", "Version: 13\r\nSec-WebSocket-Key: x", Err(Error::Malformed("Sec-WebSocket-Key is repeated"))),
        ("GET", "POST", Err(Error::Malformed("a WebSocket handshake is a GET without a body"))),
        (
            "Host: a",
            "Host: a\r\nContent-Length: 1",
            Err(Error::Malformed("a WebSocket handshake is a GET without a body")),
        ),
    ] {
        assert!(UPGRADE.contains(from));
        assert_eq!(whole(&UPGRADE.replacen(from, to, 1)).map(|request| request.upgrade.is_some()), expected, "{to}");
    }
}

#[test]
fn bodies_and_connections() {
    use BodyLength::{Chunked, Length, None};
    for (lines, expected) in [
        ("", (None, true)),
        ("Content-Length: 0\r\n", (Length(0), true)),
        ("Content-Length: 7\r\ncontent-length: 7\r\n", (Length(7), true)),
        ("Transfer-Encoding: Chunked\r\n", (Chunked, true)),
        ("Connection: x, CLOSE\r\n", (None, false)),
        ("Connection: keep-alive\r\n", (None, true)),
    ] {
        assert_eq!(with(lines).map(|request| (request.length, request.keep_alive)), Ok(expected), "{lines}");
    }
    assert!(!whole("GET / HTTP/1.0\r\n\r\n").unwrap().keep_alive);
    assert!(whole("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").unwrap().keep_alive);
}

#[test]
fn lines_that_are_refused() {
    for (lines, status) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", 400),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", 400),
        ("Content-Length: 5, 5\r\n", 400),
        ("Content-Length: +5\r\n", 400),
        ("Content-Length: -5\r\n", 400),
        ("Content-Length: 0x5\r\n", 400),
        ("Content-Length:\r\n", 400),
        ("Content-Length: 99999999999999999999\r\n", 413),
        ("Transfer-Encoding: gzip\r\n", 400),
        ("Transfer-Encoding: identity\r\n", 400),
        ("Transfer-Encoding: \x0bchunked\r\n", 400),
        ("Transfer-Encoding: gzip, chunked\r\n", 501),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400),
        ("A: b\r\n c\r\n", 400),
        (" A: b\r\n", 400),
        ("A : b\r\n", 400),
        ("A\r\n", 400),
        (": b\r\n", 400),
        ("A: b\nC: d\r\n", 400),
        ("A: b\rC: d\r\n", 400),
        ("A: b\0\r\n", 400),
        ("Host: b\r\n", 400),
        ("Authorization: Bearer a\r\nAuthorization: Bearer b\r\n", 400),
        ("Expect: tea\r\n", 417),
    ] {
        assert_eq!(with(lines).map_err(Error::status), Err(status), "{lines:?}");
    }
    assert_eq!(with(&"A: b\r\n".repeat(HEADERS_MAX - 1)).map(drop), Ok(()));
    assert_eq!(with(&"A: b\r\n".repeat(HEADERS_MAX)).map(drop), Err(Error::HeadTooLarge));
}

#[test]
fn request_lines() {
    for (line, expected) in [
        ("GET / HTTP/1.1", Ok("/")),
        ("DELETE http://b/a HTTP/1.1", Ok("/a")),
        ("OPTIONS * HTTP/1.1", Ok("*")),
        ("GET /%E2%9C%93?%ff HTTP/1.1", Ok("/✓")),
        ("GET /a%2Fb HTTP/1.1", Ok("/a/b")),
        ("GET /%zz HTTP/1.1", Ok("/%zz")),
        ("GET /%ff HTTP/1.1", Err(400)),
        ("GET /%00 HTTP/1.1", Err(400)),
        ("GET /%0d%0a HTTP/1.1", Err(400)),
        ("GET a HTTP/1.1", Err(400)),
        ("GET /\x01 HTTP/1.1", Err(400)),
        ("GET  / HTTP/1.1", Err(400)),
        ("GET / / HTTP/1.1", Err(505)),
        ("GE(T / HTTP/1.1", Err(400)),
        ("GET /", Err(400)),
        ("GET / HTTP/0.9", Err(505)),
        ("GET / HTTP/2.0", Err(505)),
        ("PRI * HTTP/2.0", Err(505)),
        ("GET / HTTP/1.2", Err(505)),
        ("get / HTTP/1.1", Err(501)),
        ("BREW / HTTP/1.1", Err(501)),
        ("TRACE / HTTP/1.1", Err(405)),
        ("CONNECT a:443 HTTP/1.1", Err(405)),
    ] {
        let answer = whole(&format!("{line}\r\nHost: a\r\n\r\n")).map_err(Error::status);
        assert_eq!(answer.map(|request| request.path.into_string()), expected.map(str::to_owned), "{line:?}");
    }
    assert_eq!(whole("GET / HTTP/1.1\r\n\r\n"), Err(Error::Malformed("no Host")));
    assert_eq!(whole("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().host.as_deref(), Some("b"));
    let slash = whole("GET /rooms/a%2Fb%252F/ HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(slash.segments().collect::<Vec<_>>(), ["rooms", "a/b%2F", ""]);
    // The first byte of a TLS handshake is refused, not waited for.
    assert_eq!(decode(b"\x16\x03\x01").map_err(Error::status), Err(400));
}

#[test]
fn other_lines() {
    for (line, expected) in [
        ("Bearer abc", Some("abc")),
        ("bearer\u{20}\u{20}abc", Some("abc")),
        ("Bearer", None),
        ("Basic abc", None),
        ("abc", None),
    ] {
        assert_eq!(with(&format!("Authorization: {line}\r\n")).unwrap().bearer.as_deref(), expected, "{line}");
    }
    let lines = "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: x-a\r\nLast-Event-ID: 7\r\n";
    let request = whole(&format!("OPTIONS / HTTP/1.1\r\nHost: a\r\n{lines}If-None-Match: \"e\"\r\n\r\n")).unwrap();
    assert!(request.is_preflight && !with(lines).unwrap().is_preflight);
    assert_eq!(request.access_control_request_headers.as_deref(), Some("x-a"));
    assert_eq!((request.last_event_id.as_deref(), request.if_none_match.as_deref()), (Some("7"), Some("\"e\"")));
    let latin = decode(b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: \xe9\r\n\r\n").unwrap().unwrap().0;
    assert_eq!(latin.user_agent.as_deref(), Some("\u{fffd}"));
}

#[test]
fn sizes() {
    let head = |filler: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "x".repeat(filler));
    let frame = head(0).len();
    let exact = head(HEAD_BYTES_MAX - frame);
    assert_eq!(decode(exact.as_bytes()).unwrap().unwrap().1, HEAD_BYTES_MAX);
    assert_eq!(decode(&exact.as_bytes()[..HEAD_BYTES_MAX - 1]), Ok(None));
    assert_eq!(decode(head(HEAD_BYTES_MAX - frame + 1).as_bytes()), Err(Error::HeadTooLarge));
    assert_eq!(decode(format!("GET /{}", "x".repeat(HEAD_BYTES_MAX)).as_bytes()), Err(Error::TargetTooLong));
}

#[test]
fn every_prefix_wants_more_and_what_follows_changes_nothing() {
    for head in [UPGRADE, POST] {
        for cut in 0..head.len() {
            assert_eq!(decode(&head.as_bytes()[..cut]), Ok(None), "{cut}");
        }
        let alone = decode(head.as_bytes()).unwrap().unwrap();
        assert_eq!(alone.1, head.len());
        for rest in ["GET / HTTP/1.1\r\n", "\0", " ", "\n"] {
            assert_eq!(decode(format!("{head}{rest}").as_bytes()).unwrap().as_ref(), Some(&alone));
        }
    }
}

#[test]
fn mutations_never_panic_and_an_answer_on_a_prefix_is_final() {
    let chance = &mut Chance::new([3; 32]);
    let (mut read, mut refused) = (0, 0);
    for round in 0..1500 {
        let mut head = [UPGRADE, POST][round % 2].as_bytes().to_vec();
        for _ in 0..=chance.below(3) {
            let at = chance.below(head.len() as u64) as usize;
            let special = b"\r\n\0 :,%/\xff\x80";
            match chance.below(4) {
                0 => head[at] = chance.u64() as u8,
                1 => head[at] = special[chance.below(special.len() as u64) as usize],
                2 => drop(head.remove(at)),
                _ => head.insert(at, special[chance.below(special.len() as u64) as usize]),
            }
        }
        let all = decode(&head);
        for cut in 0..head.len() {
            match decode(&head[..cut]) {
                Ok(None) => {}
                // Whole or broken, more bytes do not change it.
                answer => assert_eq!(answer, all),
            }
        }
        read += usize::from(matches!(all, Ok(Some(_))));
        refused += usize::from(all.is_err());
    }
    assert!(read > 100 && refused > 100, "{read} {refused}");
}
