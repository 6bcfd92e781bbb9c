//! Which request is for whom: a pure function of a request's head.
//!
//! What Engine.IO refuses, and in which order it looks, is the Node server's `verify` (engine.io 6.6, `server.ts`): transport, session,
//! method, upgrade, protocol version. Whether a session id is known is the shard's to say.

use super::Settings;
use crate::base::id::Sid;
use crate::shard::io::Wire;
use crate::wire::{
    api,
    engine_io::HandshakeError,
    http::{Method, Request},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// A new session, or the probe of one; over a WebSocket where the wire is one.
    Open(Wire),
    Poll(Sid),
    Post(Sid),
    /// Not for Engine.IO, in its own words.
    Refuse(HandshakeError),
    Api,
    Health(Health),
    Metrics,
    Demo,
    Preflight,
    /// `/ws` without an upgrade.
    UpgradeRequired,
    MethodNotAllowed(&'static str),
    NotFound,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Process,
    Live,
    Ready,
    WebSocket,
}

/// Where a request that came in on the public port goes, or with `admin` on the admin port.
pub fn route(request: &Request, settings: &Settings, admin: bool) -> Route {
    let path = &*request.path;
    let reads = matches!(request.method, Method::Get | Method::Head);
    let get = |route| if reads { route } else { Route::MethodNotAllowed("GET, HEAD") };
    match path {
        "/health" => return get(Route::Health(Health::Process)),
        "/health/live" => return get(Route::Health(Health::Live)),
        "/health/ready" => return get(Route::Health(Health::Ready)),
        "/health/websocket" => return get(Route::Health(Health::WebSocket)),
        "/metrics" if admin => return get(Route::Metrics),
        _ if admin => return Route::NotFound,
        _ => {}
    }
    if request.is_preflight {
        return Route::Preflight;
    }
    if is_under(path, &settings.socket_path) {
        return engine(request, false);
    }
    if settings.raw_engine && is_under(path, "/engine.io") {
        return engine(request, true);
    }
    match path {
        "/ws" if request.upgrade.is_some() => Route::Open(Wire::Plain),
        "/ws" => Route::UpgradeRequired,
        "/events" if request.method == Method::Get => Route::Open(Wire::Events),
        "/events" => Route::MethodNotAllowed("GET"),
        "/" | "/demo" if settings.demo.is_some() => get(Route::Demo),
        _ if path.starts_with(api::PREFIX) => Route::Api,
        _ if settings.raw_websocket && request.upgrade.is_some() => Route::Open(Wire::Bare),
        _ => Route::NotFound,
    }
}

/// The Node server takes everything that begins with its path; the slash at the end may be left out here.
fn is_under(path: &str, base: &str) -> bool {
    path.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn engine(request: &Request, raw: bool) -> Route {
    let query = request.query();
    let upgrade = request.upgrade.is_some();
    let websocket = match query.get("transport").as_deref() {
        Some("polling") => false,
        Some("websocket") => true,
        _ => return Route::Refuse(HandshakeError::UnknownTransport),
    };
    if let Some(sid) = query.get("sid").filter(|sid| !sid.is_empty()) {
        let Some(sid) = Sid::parse(&sid) else { return Route::Refuse(HandshakeError::UnknownSid) };
        return match (websocket, upgrade, request.method) {
            (true, true, _) => Route::Open(Wire::Probe(sid)),
            (false, false, Method::Get) => Route::Poll(sid),
            (false, false, Method::Post) => Route::Post(sid),
            (false, false, _) => Route::MethodNotAllowed("GET, POST"),
            (true, false, _) | (false, true, _) => Route::Refuse(HandshakeError::BadRequest),
        };
    }
    if request.method != Method::Get {
        return Route::Refuse(HandshakeError::BadHandshakeMethod);
    }
    // The Node server lets a polling handshake with an upgrade through its checks and then drops the socket.
    if websocket != upgrade {
        return Route::Refuse(HandshakeError::BadRequest);
    }
    if query.get("EIO").as_deref() != Some("4") {
        return Route::Refuse(HandshakeError::UnsupportedProtocolVersion);
    }
    Route::Open(match (websocket, raw) {
        (false, false) => Wire::Polling,
        (true, false) => Wire::WebSocket,
        (false, true) => Wire::RawPolling,
        (true, true) => Wire::RawWebSocket,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http;

    const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    fn check(settings: &Settings, admin: bool, line: &str, expected: Route) {
        let (line, upgrade) = line.strip_suffix(" +upgrade").map_or((line, ""), |line| (line, UPGRADE));
        let preflight = if line.starts_with("OPTIONS") { "Access-Control-Request-Method: GET\r\n" } else { "" };
        let head = format!("{line} HTTP/1.1\r\nHost: a\r\n{upgrade}{preflight}\r\n");
        let (request, _) = http::decode(head.as_bytes()).expect(line).expect(line);
        assert_eq!(route(&request, settings, admin), expected, "{line}");
    }

    #[test]
    fn where_requests_go() {
        use HandshakeError::*;
        let sid = Sid::parse("AAAAAAAAAAAAAAAAAAAA").unwrap();
        let settings = Settings { demo: Some(b"<html>".as_slice().into()), raw_engine: true, ..Settings::for_tests() };
        for (line, expected) in [
            ("GET /socket.io/?EIO=4&transport=polling", Route::Open(Wire::Polling)),
            ("GET /socket.io?EIO=4&transport=polling&t=abc", Route::Open(Wire::Polling)),
            ("GET /socket.io/x?EIO=4&transport=polling", Route::Open(Wire::Polling)),
            ("GET /socket.io/?EIO=4&transport=websocket +upgrade", Route::Open(Wire::WebSocket)),
            (
                "GET /socket.io/?EIO=4&transport=websocket&sid=AAAAAAAAAAAAAAAAAAAA +upgrade",
                Route::Open(Wire::Probe(sid)),
            ),
            ("GET /socket.io/?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAAAAAA", Route::Poll(sid)),
            ("GET /socket.io/?EIO=4&transport=polling&sid=", Route::Open(Wire::Polling)),
            ("POST /socket.io/?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAAAAAA", Route::Post(sid)),
            ("PUT /socket.io/?transport=polling&sid=AAAAAAAAAAAAAAAAAAAA", Route::MethodNotAllowed("GET, POST")),
            ("GET /socket.io/?EIO=4&transport=websocket&sid=AAAAAAAAAAAAAAAAAAAA", Route::Refuse(BadRequest)),
            ("GET /socket.io/?EIO=4&transport=polling +upgrade", Route::Refuse(BadRequest)),
            ("GET /socket.io/?EIO=4&transport=websocket", Route::Refuse(BadRequest)),
            ("GET /socket.io/?EIO=4&transport=webtransport", Route::Refuse(UnknownTransport)),
            ("GET /socket.io/?EIO=4", Route::Refuse(UnknownTransport)),
            ("GET /socket.io/", Route::Refuse(UnknownTransport)),
            ("GET /socket.io/?EIO=4&transport=polling&sid=tooshort", Route::Refuse(UnknownSid)),
            ("POST /socket.io/?EIO=4&transport=polling&sid=tooshort", Route::Refuse(UnknownSid)),
            ("POST /socket.io/?EIO=4&transport=polling", Route::Refuse(BadHandshakeMethod)),
            ("HEAD /socket.io/?EIO=4&transport=polling", Route::Refuse(BadHandshakeMethod)),
            ("GET /socket.io/?EIO=3&transport=polling", Route::Refuse(UnsupportedProtocolVersion)),
            ("GET /socket.io/?transport=websocket +upgrade", Route::Refuse(UnsupportedProtocolVersion)),
            ("GET /socket.iox/?EIO=4&transport=polling", Route::NotFound),
            ("OPTIONS /socket.io/?EIO=4&transport=polling", Route::Preflight),
            ("GET /engine.io/?EIO=4&transport=polling", Route::Open(Wire::RawPolling)),
            ("GET /engine.io/?EIO=4&transport=websocket +upgrade", Route::Open(Wire::RawWebSocket)),
            ("GET /ws +upgrade", Route::Open(Wire::Plain)),
            ("GET /ws?token=x +upgrade", Route::Open(Wire::Plain)),
            ("GET /ws", Route::UpgradeRequired),
            ("GET /events?rooms=a,b", Route::Open(Wire::Events)),
            ("POST /events", Route::MethodNotAllowed("GET")),
            ("POST /api/v1/tenants/t/events", Route::Api),
            ("DELETE /api/v1/x", Route::Api),
            ("GET /api/v2/x", Route::NotFound),
            ("GET /health", Route::Health(Health::Process)),
            ("HEAD /health/live", Route::Health(Health::Live)),
            ("GET /health/ready", Route::Health(Health::Ready)),
            ("GET /health/websocket", Route::Health(Health::WebSocket)),
            ("POST /health", Route::MethodNotAllowed("GET, HEAD")),
            ("GET /metrics", Route::NotFound),
            ("GET /", Route::Demo),
            ("GET /demo", Route::Demo),
            ("GET /other", Route::NotFound),
        ] {
            check(&settings, false, line, expected);
        }
        for (line, expected) in [
            ("GET /metrics", Route::Metrics),
            ("GET /health/ready", Route::Health(Health::Ready)),
            ("GET /socket.io/?EIO=4&transport=polling", Route::NotFound),
            ("GET /", Route::NotFound),
        ] {
            check(&settings, true, line, expected);
        }
        let bare = Settings::for_tests();
        check(&bare, false, "GET /", Route::NotFound);
        check(&bare, false, "GET /engine.io/?EIO=4&transport=polling", Route::NotFound);
    }
}
