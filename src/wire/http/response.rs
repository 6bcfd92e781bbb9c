//! Responses to bytes.
//!
//! Every response that may have a body says its length, and all say whether the connection stays, so that any of them may be followed by the next request. There is no
//! `Date`: this floor has no clock.

use std::{borrow::Cow, io::Write};

use serde::Serialize;

use super::CorsHeaders;

const TEXT: &str = "text/plain; charset=UTF-8";
const HTML: &str = "text/html; charset=UTF-8";
const JSON: &str = "application/json";

/// An answer with a whole body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub content_type: Option<&'static str>,
    pub body: Cow<'static, [u8]>,
    /// `Retry-After`, in seconds.
    pub retry_after_s: Option<u32>,
    /// `Allow`: the methods a target knows, for 405.
    pub allow: Option<&'static str>,
    /// `Cache-Control: no-store`.
    pub no_store: bool,
    /// The connection ends with this answer, whatever the request asked for.
    pub close: bool,
    /// Further lines. Control characters in a value are left out.
    pub extra: Vec<(&'static str, String)>,
}

impl Response {
    pub fn new(status: u16, content_type: &'static str, body: impl Into<Cow<'static, [u8]>>) -> Response {
        Response { status, content_type: Some(content_type), body: body.into(), ..Response::default() }
    }

    pub fn empty(status: u16) -> Response {
        Response { status, ..Response::default() }
    }

    /// `text/plain; charset=UTF-8`, as a long-polling payload is sent.
    pub fn text(status: u16, body: impl Into<Cow<'static, str>>) -> Response {
        Response::new(status, TEXT, bytes(body.into()))
    }

    pub fn html(status: u16, body: impl Into<Cow<'static, str>>) -> Response {
        Response::new(status, HTML, bytes(body.into()))
    }

    /// A body that is JSON already.
    pub fn json(status: u16, body: impl Into<Cow<'static, [u8]>>) -> Response {
        Response::new(status, JSON, body)
    }

    /// `{"code":..,"message":..}`. The code is a name, or a number where Engine.IO wants one.
    pub fn error_json(status: u16, code: impl Serialize, message: &str) -> Response {
        #[derive(Serialize)]
        struct Body<'a, C> {
            code: C,
            message: &'a str,
        }
        // Names and numbers always serialise.
        Response::json(status, serde_json::to_vec(&Body { code, message }).unwrap_or_default())
    }

    /// Appends the response. `keep_alive` is the request's wish, `head_only` leaves the body of the answer to a HEAD out, `cors` is what
    /// [`super::Cors::headers`] says of the request's origin.
    pub fn encode(&self, keep_alive: bool, head_only: bool, cors: Option<&CorsHeaders>, out: &mut Vec<u8>) {
        out.reserve(256 + self.body.len());
        push_status(self.status, out);
        if let Some(content_type) = self.content_type {
            push_line("Content-Type", content_type, out);
            if [HTML, JSON].contains(&content_type) {
                push_line("X-Content-Type-Options", "nosniff", out);
            }
        }
        // RFC 9110 section 8.6: these have no body; a length is forbidden, or for 304 would be that of the body left out.
        let bodiless = self.status < 200 || [204, 304].contains(&self.status);
        if !bodiless {
            push_number("Content-Length", self.body.len(), out);
        }
        if self.no_store {
            push_line("Cache-Control", "no-store", out);
        }
        if let Some(allow) = self.allow {
            push_line("Allow", allow, out);
        }
        if let Some(seconds) = self.retry_after_s {
            push_number("Retry-After", seconds as usize, out);
        }
        for (name, value) in &self.extra {
            push_line(name, value, out);
        }
        if let Some(cors) = cors {
            cors.encode(out);
        }
        let connection = match (self.status, keep_alive && !self.close) {
            // RFC 9110 section 15.5.22: a 426 names what to upgrade to.
            (426, _) => "close, Upgrade\r\nUpgrade: websocket",
            (_, true) => "keep-alive",
            (_, false) => "close",
        };
        out.extend_from_slice(b"Connection: ");
        out.extend_from_slice(connection.as_bytes());
        out.extend_from_slice(b"\r\n\r\n");
        if !head_only && !bodiless {
            out.extend_from_slice(&self.body);
        }
    }
}

/// Appends the 101 that ends the handshake of a WebSocket (RFC 6455 section 4.2.2). `protocol` is one the client offered.
pub fn switching_protocols(out: &mut Vec<u8>, accept: &[u8; 28], protocol: Option<&str>) {
    push_status(101, out);
    out.extend_from_slice(b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ");
    out.extend_from_slice(accept);
    out.extend_from_slice(b"\r\n");
    if let Some(protocol) = protocol {
        push_line("Sec-WebSocket-Protocol", protocol, out);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the head of a stream of server-sent events (HTML standard, section 9.2). It has no length: the stream ends with the connection.
pub fn event_stream(out: &mut Vec<u8>, cors: Option<&CorsHeaders>) {
    push_status(200, out);
    push_line("Content-Type", "text/event-stream", out);
    push_line("Cache-Control", "no-cache", out);
    // nginx would otherwise collect events before it passes them on.
    push_line("X-Accel-Buffering", "no", out);
    if let Some(cors) = cors {
        cors.encode(out);
    }
    push_line("Connection", "close", out);
    out.extend_from_slice(b"\r\n");
}

/// Appends the refusal of an upgrade as Engine.IO's Node server writes it: always 400, the message as body. The connection ends.
pub fn refuse_upgrade(out: &mut Vec<u8>, message: &str) {
    push_status(400, out);
    push_line("Connection", "close", out);
    push_line("Content-type", "text/html", out);
    push_number("Content-Length", message.len(), out);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(message.as_bytes());
}

/// Appends the go-ahead for a body that was announced with `Expect: 100-continue`.
pub fn go_ahead(out: &mut Vec<u8>) {
    push_status(100, out);
    out.extend_from_slice(b"\r\n");
}

/// Appends a header's value without the control characters that would end its line.
pub(super) fn push_value(value: &str, out: &mut Vec<u8>) {
    out.extend(value.bytes().filter(|byte| !byte.is_ascii_control()));
}

fn push_line(name: &str, value: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    push_value(value, out);
    out.extend_from_slice(b"\r\n");
}

fn push_number(name: &str, number: usize, out: &mut Vec<u8>) {
    // A `Vec` takes every write.
    let _ = write!(out, "{name}: {number}\r\n");
}

fn push_status(status: u16, out: &mut Vec<u8>) {
    let _ = write!(out, "HTTP/1.1 {status} {}\r\n", reason(status));
}

fn bytes(text: Cow<'static, str>) -> Cow<'static, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        // RFC 9112 section 4: the reason may be empty, and clients ignore it.
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Cors, Error};
    use super::*;

    fn encode(response: &Response, keep_alive: bool, head_only: bool) -> String {
        let mut out = Vec::new();
        response.encode(keep_alive, head_only, None, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn responses() {
        let close =
            Response { close: true, retry_after_s: Some(3), ..Response::error_json(429, "rate_limited", "a\"b") };
        let injected = Response { extra: vec![("ETag", "x\r\nSet-Cookie: y\0".into())], ..Response::empty(304) };
        let poll = Response { no_store: true, ..Response::text(200, "2") };
        let table: &[(&Response, bool, bool, &str)] = &[
            (
                &poll,
                true,
                false,
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=UTF-8\r\nContent-Length: 1\r\nCache-Control: no-store\r\nConnection: keep-alive\r\n\r\n2",
            ),
            (
                &poll,
                false,
                true,
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=UTF-8\r\nContent-Length: 1\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n",
            ),
            (
                &close,
                true,
                false,
                "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\nContent-Length: 40\r\nRetry-After: 3\r\nConnection: close\r\n\r\n{\"code\":\"rate_limited\",\"message\":\"a\\\"b\"}",
            ),
            (&Response::empty(204), true, false, "HTTP/1.1 204 No Content\r\nConnection: keep-alive\r\n\r\n"),
            (
                &Response::empty(404),
                true,
                false,
                "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n",
            ),
            (
                &injected,
                true,
                false,
                "HTTP/1.1 304 Not Modified\r\nETag: xSet-Cookie: y\r\nConnection: keep-alive\r\n\r\n",
            ),
        ];
        for (response, keep_alive, head_only, expected) in table {
            assert_eq!(encode(response, *keep_alive, *head_only), *expected);
        }
        assert_eq!(
            Response::error_json(400, 1, "Session ID unknown").body,
            br#"{"code":1,"message":"Session ID unknown"}"#.as_slice()
        );
    }

    #[test]
    fn errors_answer_with_the_lines_of_their_status() {
        for (error, status, line) in [
            (Error::Malformed("bad \"x\""), "400 Bad Request", r#"{"code":"bad_request","message":"bad \"x\""}"#),
            (Error::MethodNotAllowed, "405 Method Not Allowed", "\r\nAllow: GET, "),
            (Error::WebSocketVersion, "426 Upgrade Required", "\r\nSec-WebSocket-Version: 13\r\n"),
            (
                Error::WebSocketVersion,
                "426 Upgrade Required",
                "\r\nConnection: close, Upgrade\r\nUpgrade: websocket\r\n",
            ),
            (Error::HeadTooLarge, "431 ", "\r\nConnection: close\r\n"),
        ] {
            let text = encode(&error.response(), true, false);
            assert!(text.starts_with(&format!("HTTP/1.1 {status}")) && text.contains(line), "{text}");
        }
    }

    #[test]
    fn heads_without_a_response() {
        let text = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            write(&mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            text(&|out| switching_protocols(out, b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", Some("bearer"))),
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: bearer\r\n\r\n"
        );
        assert_eq!(
            text(&|out| event_stream(out, Cors::Any.headers(Some("https://a")).as_ref())),
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nX-Accel-Buffering: no\r\nAccess-Control-Allow-Origin: *\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(
            text(&|out| refuse_upgrade(out, "Transport unknown")),
            "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-type: text/html\r\nContent-Length: 17\r\n\r\nTransport unknown"
        );
        assert_eq!(text(&go_ahead), "HTTP/1.1 100 Continue\r\n\r\n");
    }
}
