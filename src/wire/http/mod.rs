//! HTTP/1.1 (RFC 9112) without I/O: bytes to [`Request`] heads and bodies, [`Response`]s to bytes.
//!
//! ```text
//!  bytes -> request::decode -> Request -> upgrade?  -> switching_protocols, then wire::websocket
//!                                      -> body?     -> body::Reader -> Vec<u8>
//!                                      -> Response::encode -> bytes
//! ```
//! Invariants:
//! - A head takes at most `HEAD_BYTES_MAX` bytes and `HEADERS_MAX` lines, a body at most the bound its reader was given.
//! - Where two readers of one request could disagree about its length (both lengths, repeated ones, folded lines, bare line feeds, unknown
//!   codings) it is refused: a proxy in front of this server never shares a connection between users who see each other's bytes.
//! - No text of a peer can add a line to a response.

pub mod body;
pub mod cors;
pub mod query;
pub mod request;
pub mod response;
mod target;

pub use body::Reader;
pub use cors::{Cors, CorsHeaders};
pub use query::Query;
pub use request::{BodyLength, Method, Request, Upgrade, decode};
pub use response::{Response, event_stream, refuse_upgrade, switching_protocols};

/// Why a request cannot be read. The connection is over after any of these: what follows cannot be told from the rest of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Malformed(&'static str),
    #[error("method is not allowed")]
    MethodNotAllowed,
    #[error("body is too large")]
    BodyTooLarge,
    #[error("request target is too long")]
    TargetTooLong,
    #[error("expectation cannot be met")]
    ExpectationFailed,
    #[error("only WebSocket version 13 is spoken")]
    WebSocketVersion,
    #[error("request head is too large")]
    HeadTooLarge,
    #[error("method or transfer coding is not known")]
    NotImplemented,
    #[error("HTTP version is not supported")]
    Version,
}

impl Error {
    /// The status to answer with (RFC 9110 section 15).
    pub fn status(self) -> u16 {
        match self {
            Error::Malformed(_) => 400,
            Error::MethodNotAllowed => 405,
            Error::BodyTooLarge => 413,
            Error::TargetTooLong => 414,
            Error::ExpectationFailed => 417,
            Error::WebSocketVersion => 426,
            Error::HeadTooLarge => 431,
            Error::NotImplemented => 501,
            Error::Version => 505,
        }
    }

    /// The name of this error in an answer.
    pub fn code(self) -> &'static str {
        match self {
            Error::Malformed(_) => "bad_request",
            Error::MethodNotAllowed => "method_not_allowed",
            Error::BodyTooLarge => "body_too_large",
            Error::TargetTooLong => "target_too_long",
            Error::ExpectationFailed => "expectation_failed",
            Error::WebSocketVersion => "websocket_version",
            Error::HeadTooLarge => "head_too_large",
            Error::NotImplemented => "not_implemented",
            Error::Version => "http_version",
        }
    }

    /// The answer, with the lines its status demands. It closes the connection.
    pub fn response(self) -> Response {
        let mut response = Response::error_json(self.status(), self.code(), &self.to_string());
        response.close = true;
        match self {
            Error::MethodNotAllowed => response.allow = Some(request::METHODS),
            // RFC 6455 section 4.4.
            Error::WebSocketVersion => response.extra.push(("Sec-WebSocket-Version", "13".into())),
            _ => {}
        }
        response
    }
}
