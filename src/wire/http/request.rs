//! Request heads: bytes to the few lines a server needs.
//!
//! httparse finds the lines; what it leaves open and RFC 9112 does not is decided here: one Host, one meaning of the length, carriage returns
//! before every line feed. A WebSocket handshake is checked whole (RFC 6455 section 4.2.1), so that an [`Upgrade`] is one that can be answered.

use std::{borrow::Cow, mem::MaybeUninit};

use base64::{Engine, engine::general_purpose::STANDARD};
use tungstenite::handshake::derive_accept_key;

use super::{Error, Query, target};
use crate::base::limit::{HEAD_BYTES_MAX, HEADERS_MAX};

/// Every method this server knows, as a header names them.
pub(super) const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

/// How the end of a request's body is found (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyLength {
    #[default]
    None,
    Length(u64),
    Chunked,
}

/// A valid WebSocket handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// The `Sec-WebSocket-Accept` to answer with.
    pub accept: [u8; 28],
    /// `Sec-WebSocket-Protocol`: what the client offers, separated by commas.
    pub protocols: Option<Box<str>>,
}

/// A request head. Texts that are not UTF-8 have U+FFFD in the place of the bytes that are wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: Method,
    /// Percent-decoded, without control characters. Where a part may hold an escaped slash, ask [`Request::segments`].
    pub path: Box<str>,
    /// As sent, if anything was escaped.
    raw_path: Option<Box<str>>,
    /// As sent, without `?`; read it with [`Request::query`].
    pub query: Box<str>,
    /// HTTP/1.1; otherwise HTTP/1.0.
    pub version11: bool,
    /// Whether the client wants the connection to stay.
    pub keep_alive: bool,
    pub length: BodyLength,
    /// The client waits for [`super::response::go_ahead`] before it sends its body.
    pub expect_continue: bool,
    pub upgrade: Option<Upgrade>,
    /// Of the target, or else of the Host line.
    pub host: Option<Box<str>>,
    pub origin: Option<Box<str>>,
    /// The token of `Authorization: Bearer`; other schemes are as if nothing was sent.
    pub bearer: Option<Box<str>>,
    pub content_type: Option<Box<str>>,
    pub last_event_id: Option<Box<str>>,
    pub if_none_match: Option<Box<str>>,
    /// `X-Forwarded-For`, all lines in order. Only to be believed of a trusted proxy.
    pub forwarded_for: Option<Box<str>>,
    pub user_agent: Option<Box<str>>,
    /// `Access-Control-Request-Method` was sent: with OPTIONS, this is a preflight.
    pub is_preflight: bool,
    pub access_control_request_headers: Option<Box<str>>,
}

impl Request {
    pub fn query(&self) -> Query<'_> {
        Query(&self.query)
    }

    /// The path as it was sent.
    pub fn raw_path(&self) -> &str {
        self.raw_path.as_deref().unwrap_or(&self.path)
    }

    /// The parts of the path between slashes, each decoded on its own: `/a/b%2Fc` is `a`, `b/c`. A slash at the end gives an empty part.
    pub fn segments(&self) -> impl Iterator<Item = Cow<'_, str>> {
        // `decode` took the whole path, and its parts are cut at slashes, so each of them decodes.
        let raw = self.raw_path();
        raw.strip_prefix('/').unwrap_or(raw).split('/').map(|part| target::decode(part).unwrap_or_default())
    }
}

/// Reads the request head at the start of `input`: the request and how many bytes its head took, or `None` if it is not whole yet. The body,
/// if [`Request::length`] announces one, follows.
///
/// # Errors
/// Any of [`Error`]'s but `BodyTooLarge` for heads; it stands here for a length that no number of ours holds.
pub fn decode(input: &[u8]) -> Result<Option<(Request, usize)>, Error> {
    let window = input.get(..HEAD_BYTES_MAX).unwrap_or(input);
    let mut lines = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut []);
    let used = match head.parse_with_uninit_headers(window, &mut lines).map_err(refuse)? {
        httparse::Status::Complete(used) => used,
        httparse::Status::Partial if window.len() < HEAD_BYTES_MAX => return Ok(None),
        httparse::Status::Partial if memchr::memchr(b'\n', window).is_none() => return Err(Error::TargetTooLong),
        httparse::Status::Partial => return Err(Error::HeadTooLarge),
    };
    // httparse takes a line feed alone for the end of a line; a proxy may not.
    let bare = |at: usize| at.checked_sub(1).and_then(|before| window.get(before)) != Some(&b'\r');
    if memchr::memchr_iter(b'\n', window.get(..used).unwrap_or(window)).any(bare) {
        return Err(Error::Malformed("line feed without a carriage return"));
    }
    // All three are there in a complete head.
    let (Some(method), Some(text), Some(version)) = (head.method, head.path, head.version) else { return Ok(None) };
    let method = method_named(method)?;
    let target = target::split(method, text)?;
    let path = target::decode(target.raw_path)?;

    let mut lines = Lines::default();
    for line in head.headers.iter() {
        lines.take(line.name, line.value)?;
    }
    let version11 = version == 1;
    let length = lines.length(version11)?;
    let upgrade = lines.upgrade(method, version11, length)?;
    if version11 && lines.host.is_none() {
        return Err(Error::Malformed("no Host"));
    }
    let request = Request {
        method,
        raw_path: (path != target.raw_path).then(|| target.raw_path.into()),
        path: path.into(),
        query: target.query.into(),
        version11,
        keep_alive: if version11 { !lines.close } else { lines.keep_alive && !lines.close },
        length,
        expect_continue: lines.expect_continue
            && version11
            && !matches!(length, BodyLength::None | BodyLength::Length(0)),
        upgrade,
        host: target.authority.map(Box::from).or(lines.host.map(text_of)),
        origin: lines.origin.map(text_of),
        bearer: lines.authorization.and_then(bearer),
        content_type: lines.content_type.map(text_of),
        last_event_id: lines.last_event_id.map(text_of),
        if_none_match: lines.if_none_match.map(text_of),
        forwarded_for: lines.forwarded_for.map(String::into_boxed_str),
        user_agent: lines.user_agent.map(text_of),
        is_preflight: lines.request_method && method == Method::Options,
        access_control_request_headers: lines.request_headers.map(text_of),
    };
    Ok(Some((request, used)))
}

/// The lines a server needs, still as bytes.
#[derive(Default)]
struct Lines<'a> {
    host: Option<&'a [u8]>,
    content_length: Option<&'a [u8]>,
    transfer_encoding: Option<&'a [u8]>,
    authorization: Option<&'a [u8]>,
    key: Option<&'a [u8]>,
    key_version: Option<&'a [u8]>,
    protocols: Option<String>,
    forwarded_for: Option<String>,
    origin: Option<&'a [u8]>,
    content_type: Option<&'a [u8]>,
    last_event_id: Option<&'a [u8]>,
    if_none_match: Option<&'a [u8]>,
    user_agent: Option<&'a [u8]>,
    request_headers: Option<&'a [u8]>,
    request_method: bool,
    close: bool,
    keep_alive: bool,
    connection_upgrade: bool,
    websocket: bool,
    expect_continue: bool,
}

impl<'a> Lines<'a> {
    fn take(&mut self, name: &str, value: &'a [u8]) -> Result<(), Error> {
        // The longest name that is known has 30 bytes.
        let mut lower = [0; 32];
        let Some(lower) = lower.get_mut(..name.len()) else { return Ok(()) };
        lower.copy_from_slice(name.as_bytes());
        lower.make_ascii_lowercase();
        match &*lower {
            b"host" => {
                if value.iter().any(|byte| !byte.is_ascii_graphic() || b"/?#@\\,".contains(byte)) {
                    return Err(Error::Malformed("Host is not a host"));
                }
                once(&mut self.host, value, "more than one Host")?;
            }
            b"content-length" if self.content_length.is_none_or(|known| known == value) => {
                self.content_length = Some(value)
            }
            b"content-length" => return Err(Error::Malformed("Content-Length is repeated")),
            b"transfer-encoding" => once(&mut self.transfer_encoding, value, "Transfer-Encoding is repeated")?,
            b"authorization" => once(&mut self.authorization, value, "Authorization is repeated")?,
            b"sec-websocket-key" => once(&mut self.key, value, "Sec-WebSocket-Key is repeated")?,
            b"sec-websocket-version" => once(&mut self.key_version, value, "Sec-WebSocket-Version is repeated")?,
            b"connection" => {
                self.close |= names(value, b"close");
                self.keep_alive |= names(value, b"keep-alive");
                self.connection_upgrade |= names(value, b"upgrade");
            }
            b"upgrade" => self.websocket |= names(value, b"websocket"),
            b"expect" if value.eq_ignore_ascii_case(b"100-continue") => self.expect_continue = true,
            b"expect" => return Err(Error::ExpectationFailed),
            b"sec-websocket-protocol" => join(&mut self.protocols, value),
            b"x-forwarded-for" => join(&mut self.forwarded_for, value),
            b"access-control-request-method" => self.request_method = true,
            b"origin" => first(&mut self.origin, value),
            b"content-type" => first(&mut self.content_type, value),
            b"last-event-id" => first(&mut self.last_event_id, value),
            b"if-none-match" => first(&mut self.if_none_match, value),
            b"user-agent" => first(&mut self.user_agent, value),
            b"access-control-request-headers" => first(&mut self.request_headers, value),
            _ => {}
        }
        Ok(())
    }

    fn length(&self, version11: bool) -> Result<BodyLength, Error> {
        match (self.content_length, self.transfer_encoding) {
            (None, None) => Ok(BodyLength::None),
            (Some(_), Some(_)) => Err(Error::Malformed("both Content-Length and Transfer-Encoding")),
            (Some(digits), None) => {
                if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
                    return Err(Error::Malformed("Content-Length is not a number"));
                }
                let number = str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
                number.map(BodyLength::Length).ok_or(Error::BodyTooLarge)
            }
            (None, Some(_)) if !version11 => Err(Error::Malformed("Transfer-Encoding in HTTP/1.0")),
            (None, Some(coding)) if coding.eq_ignore_ascii_case(b"chunked") => Ok(BodyLength::Chunked),
            // A list may end in chunked and so have an end, but its other codings are not known here.
            (None, Some(coding)) if names(coding, b"chunked") => Err(Error::NotImplemented),
            (None, Some(_)) => Err(Error::Malformed("Transfer-Encoding without an end")),
        }
    }

    /// `None` where no WebSocket is asked for: also if a proxy took the Connection line away, or in HTTP/1.0 (RFC 9110 section 7.8).
    fn upgrade(&self, method: Method, version11: bool, length: BodyLength) -> Result<Option<Upgrade>, Error> {
        if !(self.websocket && self.connection_upgrade && version11) {
            return Ok(None);
        }
        if method != Method::Get || !matches!(length, BodyLength::None | BodyLength::Length(0)) {
            return Err(Error::Malformed("a WebSocket handshake is a GET without a body"));
        }
        if self.key_version != Some(b"13") {
            return Err(Error::WebSocketVersion);
        }
        let key = self.key.filter(|key| key.len() == 24 && STANDARD.decode_slice(key, &mut [0; 18]) == Ok(16));
        let key = key.ok_or(Error::Malformed("Sec-WebSocket-Key is not 16 bytes in base64"))?;
        let accept = derive_accept_key(key).into_bytes();
        // SHA-1 has 20 bytes, in base64 always 28.
        let accept = accept.try_into().map_err(|_| Error::Malformed("Sec-WebSocket-Key"))?;
        Ok(Some(Upgrade { accept, protocols: self.protocols.as_deref().map(Box::from) }))
    }
}

fn refuse(error: httparse::Error) -> Error {
    match error {
        httparse::Error::Version => Error::Version,
        httparse::Error::TooManyHeaders => Error::HeadTooLarge,
        httparse::Error::HeaderName => Error::Malformed("broken header name"),
        httparse::Error::HeaderValue => Error::Malformed("broken header value"),
        httparse::Error::NewLine => Error::Malformed("broken line end"),
        httparse::Error::Status | httparse::Error::Token => Error::Malformed("broken request line"),
    }
}

fn method_named(name: &str) -> Result<Method, Error> {
    Ok(match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "PATCH" => Method::Patch,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        // Known to RFC 9110, allowed nowhere here.
        "TRACE" | "CONNECT" => return Err(Error::MethodNotAllowed),
        _ => return Err(Error::NotImplemented),
    })
}

/// RFC 6750 section 2.1; the scheme's case does not matter (RFC 9110 section 11.1).
fn bearer(value: &[u8]) -> Option<Box<str>> {
    let text = String::from_utf8_lossy(value);
    let (scheme, token) = text.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.into())
}

/// Whether a comma-separated list names `token`, in whatever case.
fn names(list: &[u8], token: &[u8]) -> bool {
    list.split(|byte| *byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(token))
}

fn once<'a>(slot: &mut Option<&'a [u8]>, value: &'a [u8], repeated: &'static str) -> Result<(), Error> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Error::Malformed(repeated)),
    }
}

fn first<'a>(slot: &mut Option<&'a [u8]>, value: &'a [u8]) {
    slot.get_or_insert(value);
}

/// Lines of a list mean the same as one line with commas (RFC 9110 section 5.3).
fn join(slot: &mut Option<String>, value: &[u8]) {
    let list = slot.get_or_insert_default();
    if !list.is_empty() {
        list.push_str(", ");
    }
    list.push_str(&String::from_utf8_lossy(value));
}

fn text_of(value: &[u8]) -> Box<str> {
    String::from_utf8_lossy(value).into()
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
