//! From a request's head, and its body, to what is asked of the shard or answered at once.

use super::{
    answer,
    conn::World,
    route::{Route, route},
};
use crate::base::id::{ReplyTo, Sid};
use crate::shard::io::{Input, Open, Wire};
use crate::wire::{
    api,
    engine_io::HandshakeError,
    http::{self, BodyLength, CorsHeaders, Method, Reader, Request, Response},
};
use std::net::IpAddr;

/// What a request leaves behind for its answer.
#[derive(Default)]
pub struct Exchange {
    pub keep_alive: bool,
    pub head_only: bool,
    pub cors: Option<CorsHeaders>,
    /// For the 101.
    pub accept: Option<[u8; 28]>,
    pub protocol: Option<&'static str>,
    /// The answer comes soon, not with the next event.
    pub is_short: bool,
    body: Option<Body>,
}

struct Body {
    reader: Reader,
    bytes: Vec<u8>,
    goes_to: Goal,
    /// The client waits to be told to send it.
    expected: bool,
}

enum Goal {
    Post(Sid),
    Api(Box<Request>),
}

/// What follows from what was read.
pub enum Step {
    /// A body, or more of it, is to come.
    More,
    Ask(Input<'static>),
    Post {
        from: ReplyTo,
        sid: Sid,
        body: String,
    },
    Answer(Response),
    /// In Engine.IO's words, over an upgrade.
    Refuse(HandshakeError),
}

/// A request has a whole head.
pub fn begin(request: Request, address: IpAddr, admin: bool, from: ReplyTo, world: &World) -> (Exchange, Step) {
    let settings = world.settings;
    let has_body = !matches!(request.length, BodyLength::None | BodyLength::Length(0));
    let route = route(&request, settings, admin);
    let takes_body = matches!(route, Route::Post(_) | Route::Api);
    let mut exchange = Exchange {
        // A body nobody reads is not to be taken for the next request.
        keep_alive: request.keep_alive && (takes_body || !has_body) && request.upgrade.is_none(),
        head_only: request.method == Method::Head,
        cors: settings.cors.headers(request.origin.as_deref()),
        is_short: !matches!(route, Route::Open(_) | Route::Poll(_)),
        ..Exchange::default()
    };
    let step = match route {
        Route::Open(wire) => open(request, wire, address, from, &mut exchange, world),
        Route::Poll(sid) => Step::Ask(Input::Poll { from, sid }),
        Route::Post(_) if request.content_type.as_deref().is_some_and(is_binary) => {
            // The Node server takes only text from revision 4 clients.
            Step::Answer(closing(Response::empty(400)))
        }
        Route::Post(sid) => exchange.expect(&request, settings.limits.frame_bytes, Goal::Post(sid), from, world),
        Route::Api => exchange.expect(
            &request.clone(),
            settings.limits.http_body_bytes,
            Goal::Api(Box::new(request)),
            from,
            world,
        ),
        Route::Refuse(error) if request.upgrade.is_some() => Step::Refuse(error),
        Route::Refuse(error) => {
            tracing::debug!(%address, reason = %error, "refused: no Engine.IO handshake");
            Step::Answer(Response::json(error.status(), error.json().into_bytes()))
        }
        Route::Health(kind) => Step::Answer(answer::health(kind, world)),
        Route::Metrics => Step::Answer(answer::metrics(request.bearer.as_deref(), world)),
        Route::Demo => Step::Answer(answer::demo(settings)),
        Route::Preflight => Step::Answer(
            settings.cors.preflight(request.origin.as_deref(), request.access_control_request_headers.as_deref()),
        ),
        Route::UpgradeRequired => Step::Answer(http::Error::WebSocketVersion.response()),
        Route::MethodNotAllowed(allow) => Step::Answer(Response {
            allow: Some(allow),
            ..Response::error_json(405, "method_not_allowed", "the method is not allowed here")
        }),
        Route::NotFound => Step::Answer(answer::not_found()),
    };
    (exchange, step)
}

impl Exchange {
    /// Some of the body has come: how many bytes of `input` belong to it, and what follows.
    pub fn read(&mut self, input: &[u8], from: ReplyTo, world: &World) -> (usize, Step) {
        let Some(body) = &mut self.body else { return (input.len(), Step::Answer(closing(Response::empty(400)))) };
        body.expected = false;
        match body.reader.feed(input, &mut body.bytes) {
            Ok((used, false)) => (used, Step::More),
            Ok((used, true)) => (used, self.finish(from, world)),
            Err(error) => (input.len(), Step::Answer(error.response())),
        }
    }

    /// Tells a client that waits for it to send its body.
    pub fn go_ahead(&mut self, out: &mut Vec<u8>) {
        if let Some(body) = &mut self.body
            && std::mem::take(&mut body.expected)
        {
            http::response::go_ahead(out);
        }
    }

    fn expect(&mut self, request: &Request, bytes_max: u32, goes_to: Goal, from: ReplyTo, world: &World) -> Step {
        let bytes_max = if bytes_max == 0 { usize::MAX } else { bytes_max as usize };
        let reader = match Reader::new(request.length, bytes_max) {
            Ok(reader) => reader,
            Err(error) => return Step::Answer(error.response()),
        };
        let done = reader.is_done();
        self.body = Some(Body { reader, bytes: Vec::new(), goes_to, expected: request.expect_continue });
        if done { self.finish(from, world) } else { Step::More }
    }

    fn finish(&mut self, from: ReplyTo, world: &World) -> Step {
        let Some(Body { bytes, goes_to, .. }) = self.body.take() else { return Step::More };
        match goes_to {
            Goal::Post(sid) => match String::from_utf8(bytes) {
                Ok(body) => Step::Post { from, sid, body },
                Err(_) => Step::Answer(Response::empty(400)),
            },
            Goal::Api(request) => {
                let call = api::decode(&request, &bytes, &world.settings.access, world.now().unix);
                match call {
                    Ok((tenant, call)) => Step::Ask(Input::Call { from, tenant, call: Box::new(call) }),
                    Err(response) => Step::Answer(response),
                }
            }
        }
    }
}

fn open(request: Request, wire: Wire, address: IpAddr, from: ReplyTo, exchange: &mut Exchange, world: &World) -> Step {
    let query = request.query();
    let upgrade = request.upgrade.as_ref();
    exchange.accept = upgrade.map(|upgrade| upgrade.accept);
    let protocols = upgrade.and_then(|upgrade| upgrade.protocols.as_deref());
    let offered = protocols.and_then(offered_token);
    if protocols.is_some_and(|protocols| protocols.split(',').any(|name| name.trim() == "bearer")) {
        // Browsers drop a connection whose answer names none of the protocols they offered.
        exchange.protocol = Some("bearer");
    }
    let query_token = query.get("token").filter(|token| !token.is_empty());
    let token = request.bearer.clone().or(query_token.map(|token| token.as_ref().into())).or(offered.map(Box::from));
    let events = wire == Wire::Events;
    let rooms = match query.get("rooms").filter(|_| events) {
        Some(rooms) => rooms.split(',').filter(|room| !room.is_empty()).map(Box::from).collect(),
        None => Vec::new(),
    };
    let last_event_id = request.last_event_id.clone().or_else(|| {
        ["lastEventId", "last-event-id"].iter().find_map(|name| query.get(name)).map(|id| id.as_ref().into())
    });
    // A probe belongs to a session that was counted when it opened.
    let counts = !matches!(wire, Wire::Probe(_));
    let crowded = counts && !world.bridge.addresses.try_open(address, world.now().at);
    Step::Ask(Input::Open(Box::new(Open {
        from,
        wire,
        token,
        admission: None,
        hops: 0,
        address,
        crowded,
        rooms,
        last_event_id: last_event_id.filter(|_| events),
    })))
}

/// `Sec-WebSocket-Protocol: bearer, <token>`: how a page, which cannot set other headers, sends a token outside of the address.
fn offered_token(protocols: &str) -> Option<&str> {
    let mut names = protocols.split(',').map(str::trim);
    names.find(|name| *name == "bearer")?;
    names.next().filter(|token| !token.is_empty())
}

fn is_binary(content_type: &str) -> bool {
    content_type.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/octet-stream"))
}

fn closing(response: Response) -> Response {
    Response { close: true, ..response }
}
