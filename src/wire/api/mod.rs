//! The HTTP API of backends: requests in, a [`Call`] for the tenant's shard or an answer out.
//!
//! Invariants: no call leaves here without a bearer that was checked against the tenant of its path; every answer names one [`Error`]
//! by its code, and [`openapi`] documents every route and every code (its tests hold the two together).
//!
//! ```text
//! under /api/v1/tenants/{tenant}                       an API key (of this tenant, or of all), or a token of this tenant with the scope
//!   POST   events                                      publish
//!   GET    rooms                                       read or publish
//!   GET    rooms/{room}/history?limit&epoch&offset     read or publish
//!   GET    rooms/{room}/presence                       read or publish
//!   GET    users/{user}                                read or publish
//!   DELETE users/{user}                                admin
//!   GET    stats                                       read or publish
//!   GET    cache/{resource}/{id}                       read or publish       } 503 as long as
//!   DELETE cache/{resource}/{id}                       publish               } there is
//!   GET    jobs                                        read or publish       } no Redis
//!   POST   jobs                                        publish               }
//! GET /api/v1/openapi.json                             nothing
//! ```
//!
//! A path is split at its slashes first and its segments are decoded after that, so a room `a/b` is asked for as `rooms/a%2Fb`. HEAD is
//! answered like GET.
//! What is wrong is looked for in this order: path, method, bearer, content type, size, text, fields.

mod decode;
pub mod openapi;
#[cfg(test)]
mod tests;

pub use decode::{EVENT_KEYS, HISTORY_LIMIT_DEFAULT, RESERVED_TYPES};

use super::auth::{ApiAccess, ApiKeys, Keys, Policy, Reject, verify};
use super::http::{Method, Request, Response};
use super::json;
use crate::base::id::TenantId;
use crate::base::limit::{DELIVERY_RETRIES, DELIVERY_TIMEOUT_MS, PUBLISH_BATCH_MAX, TENANT_BYTES_MAX};
use crate::base::time::{Duration, UnixMs};
use smallvec::SmallVec;
use std::borrow::Cow;

/// Where every path of the API begins.
pub const PREFIX: &str = "/api/v1/";

/// One call under `/api/v1/tenants/{tenant}`, authorised and checked.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// `POST events`: all or nothing is checked, then published in order.
    Publish(Vec<Publish>),
    /// `GET rooms`
    Rooms,
    /// `GET rooms/{room}/history?limit=&epoch=&offset=`
    History { room: Box<str>, since: Option<(Box<str>, u64)>, limit: usize },
    /// `GET rooms/{room}/presence`
    Presence { room: Box<str> },
    /// `GET users/{user}`
    User { user: Box<str> },
    /// `DELETE users/{user}`: closes all its sessions with `kicked`.
    Kick { user: Box<str> },
    /// `GET stats`
    Stats,
}

/// One event to publish.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Publish {
    /// 1 to `EVENT_NAME_BYTES_MAX` bytes, printable, no spaces.
    pub id: Option<Box<str>>,
    /// The event's type: its name at the client. 1 to `EVENT_NAME_BYTES_MAX` bytes, no control characters, none of [`RESERVED_TYPES`].
    pub event: Box<str>,
    /// Absent for an event addressed to a user, an entity or the tenant.
    pub room: Option<Box<str>>,
    /// The user it is addressed to.
    pub user: Option<Box<str>>,
    /// `entity: {type, id}`: with a room the event's attribute, without one its address.
    pub entity: Option<(Box<str>, Box<str>)>,
    /// JSON, validated, as the producer wrote it (line feeds between its tokens included); `null` when absent.
    pub data: Box<str>,
    pub ephemeral: bool,
    /// Its receivers are to acknowledge it; never of an ephemeral event.
    pub ack: Option<Ack>,
    /// Only members with one of these roles; empty: any.
    pub to_roles: Vec<Box<str>>,
    /// Only members with one of these permissions; empty: any.
    pub to_permissions: Vec<Box<str>>,
}

/// How long receivers may take to acknowledge an event, and how often it is sent again to those who have not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    pub timeout_ms: u32,
    pub retries: u32,
}

impl Ack {
    /// `None`: out of bounds.
    pub fn new(timeout_ms: Option<u32>, retries: Option<u32>) -> Option<Ack> {
        let (usual, least, most) = DELIVERY_TIMEOUT_MS;
        let timeout_ms = timeout_ms.unwrap_or(usual);
        let retries = retries.unwrap_or(DELIVERY_RETRIES.0);
        ((least..=most).contains(&timeout_ms) && retries <= DELIVERY_RETRIES.1).then_some(Ack { timeout_ms, retries })
    }
}

/// Who may call, and how much.
#[derive(Clone, Debug, Default)]
pub struct Access {
    pub api_keys: ApiKeys,
    /// Keys of service tokens; with none, only API keys open the API.
    pub keys: Option<Keys>,
    pub policy: Policy,
    pub bounds: Bounds,
}

/// The limits an operator sets that matter here; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// `limits.room_name_bytes`. Above: `invalid_event` or `invalid_parameter`.
    pub room_name_bytes: usize,
    /// `limits.http_body_bytes`. Above: `body_too_large`.
    pub body_bytes: usize,
}

/// Why a request is refused. The shard answers with the last ones.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the parameter `{name}` {message}")]
    Parameter { name: Box<str>, message: Cow<'static, str> },
    #[error("the body is not JSON: {0}")]
    Json(String),
    /// `pointer` (RFC 6901) names the value; empty for the whole body.
    #[error("{message}")]
    Event { pointer: String, message: Cow<'static, str> },
    #[error("{0}")]
    Token(#[from] Reject),
    #[error("the bearer belongs to another tenant")]
    WrongTenant,
    #[error("the token lacks the scope: {}", .0.join(" or "))]
    ScopeMissing(&'static [&'static str]),
    #[error("there is nothing at this path")]
    NotFound,
    #[error("the method is not one of: {allow}")]
    MethodNotAllowed { allow: String },
    #[error("the body is longer than {max} bytes")]
    BodyTooLarge { max: usize },
    #[error("a batch holds at most {PUBLISH_BATCH_MAX} events")]
    BatchTooLarge,
    #[error("the body must be application/json")]
    UnsupportedMediaType,
    #[error("too many events in this tenant")]
    RateLimited { retry_after: Duration },
    #[error("the cache needs Redis, and none is configured")]
    CacheUnavailable,
    #[error("jobs need Redis, and none is configured")]
    JobsUnavailable,
    #[error("too many are in the room to wait for their acknowledgements")]
    TooManyReceivers,
    #[error("too many events wait for their acknowledgements, try again")]
    TooManyDeliveries,
    #[error("the server is too busy, try again")]
    Busy,
    #[error("the server is shutting down, try again elsewhere")]
    Draining,
}

impl Error {
    fn parameter(name: &str, message: impl Into<Cow<'static, str>>) -> Error {
        // Answers stay short, whatever was asked.
        let name = if name.len() <= 64 { name } else { "(a long name)" };
        Error::Parameter { name: name.into(), message: message.into() }
    }

    /// The status of the answer and the code in it.
    pub const fn row(&self) -> (u16, &'static str) {
        match self {
            Error::Parameter { .. } => (400, "invalid_parameter"),
            Error::Json(_) => (400, "invalid_json"),
            Error::Event { .. } => (400, "invalid_event"),
            Error::Token(reject) => (401, reject.close().row().code),
            Error::WrongTenant => (403, "wrong_tenant"),
            Error::ScopeMissing(_) => (403, "scope_missing"),
            Error::NotFound => (404, "not_found"),
            Error::MethodNotAllowed { .. } => (405, "method_not_allowed"),
            Error::BodyTooLarge { .. } => (413, "body_too_large"),
            Error::BatchTooLarge => (413, "batch_too_large"),
            Error::UnsupportedMediaType => (415, "unsupported_media_type"),
            Error::RateLimited { .. } => (429, "rate_limited"),
            Error::CacheUnavailable => (503, "cache_unavailable"),
            Error::JobsUnavailable => (503, "jobs_unavailable"),
            Error::TooManyReceivers => (400, "too_many_receivers"),
            Error::TooManyDeliveries => (503, "too_many_deliveries"),
            Error::Busy => (503, "server_busy"),
            Error::Draining => (503, "server_draining"),
        }
    }

    /// `{"code", "message"}`; for an event also `"pointer"`; for a bearer also `"data": {"code"}`, as every other refused token is answered.
    fn body(&self) -> Vec<u8> {
        let (_, code) = self.row();
        let mut body = format!("{{\"code\":\"{code}\",\"message\":").into_bytes();
        json::write_string(&mut body, &self.to_string());
        match self {
            Error::Event { pointer, .. } => {
                body.extend_from_slice(b",\"pointer\":");
                json::write_string(&mut body, pointer);
            }
            Error::Token(_) => body.extend_from_slice(format!(",\"data\":{{\"code\":\"{code}\"}}").as_bytes()),
            _ => {}
        }
        body.push(b'}');
        body
    }

    /// The answer, with the header its status demands (RFC 9110 sections 10.2.1, 10.2.3 and 11.6.1).
    pub fn response(&self) -> Response {
        Response {
            no_store: true,
            extra: self.header().into_iter().collect(),
            ..Response::json(self.row().0, self.body())
        }
    }

    fn header(&self) -> Option<(&'static str, String)> {
        match self {
            Error::Token(Reject::Missing) => Some(("WWW-Authenticate", "Bearer".into())),
            Error::Token(_) => Some(("WWW-Authenticate", "Bearer error=\"invalid_token\"".into())),
            Error::ScopeMissing(_) => Some(("WWW-Authenticate", "Bearer error=\"insufficient_scope\"".into())),
            Error::MethodNotAllowed { allow } => Some(("Allow", allow.clone())),
            // Rounded up: a client that comes back on the second must not come too early.
            Error::RateLimited { retry_after } => {
                Some(("Retry-After", retry_after.as_millis().div_ceil(1000).max(1).to_string()))
            }
            Error::Busy | Error::Draining | Error::TooManyDeliveries => Some(("Retry-After", "1".into())),
            _ => None,
        }
    }
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Decoded {
    /// For the shard of this tenant, which answers.
    Call(TenantId, Call),
    /// `GET openapi.json`.
    OpenApi,
}

/// Whether a request is one of the API's.
pub fn is_api(path: &str) -> bool {
    path.starts_with(PREFIX)
}

/// One request with its whole body: the call it makes for the shard of its tenant, or the answer where that needs no shard.
pub fn decode(request: &Request, body: &[u8], access: &Access, now: UnixMs) -> Result<(TenantId, Call), Response> {
    match read(request, body, access, now) {
        Ok(Decoded::Call(tenant, call)) => Ok((tenant, call)),
        Ok(Decoded::OpenApi) => Err(Response::json(200, openapi::TEXT.as_bytes())),
        Err(error) => Err(error.response()),
    }
}

/// As [`decode`], before anything is an answer.
pub fn read(request: &Request, body: &[u8], access: &Access, now: UnixMs) -> Result<Decoded, Error> {
    // One more than the longest path has: a longer one matches none.
    let segments: Segments<'_> = request.segments().take(8).collect();
    match segments.iter().map(|segment| &**segment).collect::<SmallVec<[&str; 8]>>().as_slice() {
        ["api", "v1", "openapi.json"] => match request.method {
            Method::Get | Method::Head => Ok(Decoded::OpenApi),
            _ => Err(Error::MethodNotAllowed { allow: name(Method::Get).into() }),
        },
        ["api", "v1", "tenants", tenant, path @ ..] => {
            let route = route(request.method, path)?;
            // A name that no tenant can have is a path that leads nowhere.
            let tenant = TenantId::parse(tenant).ok_or(Error::NotFound)?;
            authorise(request.bearer.as_deref(), &tenant, route.scopes, access, now)?;
            let call = route.call(path, request, body, access.bounds)?;
            Ok(Decoded::Call(tenant, call))
        }
        _ => Err(Error::NotFound),
    }
}

/// The parts of a path, decoded.
type Segments<'a> = SmallVec<[Cow<'a, str>; 8]>;

/// One method of one path.
struct Route {
    method: Method,
    /// Below the tenant; a segment in braces is a parameter.
    path: &'static str,
    /// A token needs one of these.
    scopes: &'static [&'static str],
    endpoint: Endpoint,
}

#[derive(Clone, Copy)]
enum Endpoint {
    Publish,
    Rooms,
    History,
    Presence,
    User,
    Kick,
    Stats,
    Cache,
    Jobs,
}

const READ: &[&str] = &["read", "publish"];
const PUBLISH: &[&str] = &["publish"];
const ADMIN: &[&str] = &["admin"];

const ROUTES: &[Route] = &[
    Route { method: Method::Post, path: "events", scopes: PUBLISH, endpoint: Endpoint::Publish },
    Route { method: Method::Get, path: "rooms", scopes: READ, endpoint: Endpoint::Rooms },
    Route { method: Method::Get, path: "rooms/{room}/history", scopes: READ, endpoint: Endpoint::History },
    Route { method: Method::Get, path: "rooms/{room}/presence", scopes: READ, endpoint: Endpoint::Presence },
    Route { method: Method::Get, path: "users/{user}", scopes: READ, endpoint: Endpoint::User },
    Route { method: Method::Delete, path: "users/{user}", scopes: ADMIN, endpoint: Endpoint::Kick },
    Route { method: Method::Get, path: "stats", scopes: READ, endpoint: Endpoint::Stats },
    Route { method: Method::Get, path: "cache/{resource}/{id}", scopes: READ, endpoint: Endpoint::Cache },
    Route { method: Method::Delete, path: "cache/{resource}/{id}", scopes: PUBLISH, endpoint: Endpoint::Cache },
    Route { method: Method::Get, path: "jobs", scopes: READ, endpoint: Endpoint::Jobs },
    Route { method: Method::Post, path: "jobs", scopes: PUBLISH, endpoint: Endpoint::Jobs },
];

fn route(method: Method, path: &[&str]) -> Result<&'static Route, Error> {
    let method = if method == Method::Head { Method::Get } else { method };
    let here = || ROUTES.iter().filter(|route| route.matches(path));
    if let Some(route) = here().find(|route| route.method == method) {
        return Ok(route);
    }
    match here().map(|route| name(route.method)).collect::<Vec<_>>() {
        methods if methods.is_empty() => Err(Error::NotFound),
        methods => Err(Error::MethodNotAllowed { allow: methods.join(", ") }),
    }
}

/// A route's method in an `Allow` line.
fn name(method: Method) -> &'static str {
    match method {
        Method::Get | Method::Head => "GET, HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Patch => "PATCH",
        Method::Delete => "DELETE",
        Method::Options => "OPTIONS",
    }
}

impl Route {
    fn matches(&self, path: &[&str]) -> bool {
        let mut own = self.path.split('/');
        let fits = |segment: &&str| match own.next() {
            Some(own) if own.starts_with('{') => !segment.is_empty(),
            Some(own) => own == *segment,
            None => false,
        };
        path.iter().all(fits) && own.next().is_none()
    }

    fn call(&self, path: &[&str], request: &Request, body: &[u8], bounds: Bounds) -> Result<Call, Error> {
        // Every path with a parameter has its first one there.
        let named = path.get(1).copied().unwrap_or_default();
        let room = || parameter("room", named, bounds.room_name_bytes);
        let user = || parameter("user", named, TENANT_BYTES_MAX);
        if let Endpoint::History = self.endpoint {
            let room = room()?;
            let (since, limit) = decode::history(request.query())?;
            return Ok(Call::History { room, since, limit });
        }
        decode::no_parameters(request.query())?;
        match self.endpoint {
            Endpoint::Publish => {
                if !request.content_type.as_deref().is_some_and(is_json) {
                    return Err(Error::UnsupportedMediaType);
                }
                decode::publish(body, bounds).map(Call::Publish)
            }
            Endpoint::Rooms => Ok(Call::Rooms),
            Endpoint::History => unreachable!("answered above"),
            Endpoint::Presence => Ok(Call::Presence { room: room()? }),
            Endpoint::User => Ok(Call::User { user: user()? }),
            Endpoint::Kick => Ok(Call::Kick { user: user()? }),
            Endpoint::Stats => Ok(Call::Stats),
            Endpoint::Cache => Err(Error::CacheUnavailable),
            Endpoint::Jobs => Err(Error::JobsUnavailable),
        }
    }
}

fn parameter(name: &str, text: &str, max: usize) -> Result<Box<str>, Error> {
    if max != 0 && text.len() > max {
        return Err(Error::parameter(name, format!("must not be longer than {max} bytes")));
    }
    Ok(text.into())
}

/// `application/json`, with any parameters (RFC 8259 section 11: it has none, and they change nothing).
fn is_json(content_type: &str) -> bool {
    content_type.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// An API key is looked for first: it opens everything in its tenant. Everything else is a token, which opens what its scopes say.
fn authorise(
    bearer: Option<&str>,
    tenant: &TenantId,
    scopes: &'static [&'static str],
    access: &Access,
    now: UnixMs,
) -> Result<(), Error> {
    let bearer = bearer.filter(|bearer| !bearer.is_empty()).ok_or(Reject::Missing)?;
    match access.api_keys.check(bearer, tenant) {
        ApiAccess::Granted => return Ok(()),
        ApiAccess::WrongTenant => return Err(Error::WrongTenant),
        ApiAccess::Unknown => {}
    }
    let keys = access.keys.as_ref().ok_or(Reject::Invalid)?;
    let admission = verify(bearer, keys, &access.policy, now)?;
    if admission.tenant != *tenant {
        return Err(Error::WrongTenant);
    }
    if !scopes.iter().any(|scope| admission.has_scope(scope)) {
        return Err(Error::ScopeMissing(scopes));
    }
    Ok(())
}
