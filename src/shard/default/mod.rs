//! What clients' events do: each operation that a profile can name, bound to the names it gives them. Each answers its acknowledgement; an
//! error is `{"ok":false,"code":..,"message":..}` and closes nothing.

mod act;
mod document;
mod history;
mod offline;
mod presence;
mod publish;
mod subscribe;

use super::app::{App, Args, Context, Namespace};
use super::refusal::Refusal;
use super::schema::Schema;
use crate::base::time::UnixMs;
use crate::profile::{Act, ClientEvent, DocumentAct, Profile, room::Access};
use crate::wire::{auth, json};
use serde::Deserialize;
use std::borrow::Cow;
use std::io::Write;
use std::rc::Rc;

/// What an acknowledgement carries, raw: what is nearly always the same is not copied.
type Acknowledged = Cow<'static, str>;

/// A profile's application in each of the namespaces named.
pub fn app<'a>(profile: Profile, namespaces: impl IntoIterator<Item = &'a str>) -> App {
    let profile = Rc::new(profile);
    let app = App::of(profile.clone());
    let app = if profile.presence.announce { app.announce_users() } else { app };
    namespaces.into_iter().fold(app, |app, name| app.namespace(name, |namespace| bind(namespace, &profile)))
}

/// The default profile's application.
pub fn default_app<'a>(namespaces: impl IntoIterator<Item = &'a str>) -> App {
    app(Profile::default(), namespaces)
}

fn bind(namespace: &mut Namespace, profile: &Rc<Profile>) {
    namespace.on_connect(connected);
    for (name, event) in &profile.client_events {
        let schema = event.schema.as_ref().map(|schema| Rc::new(Schema::compile(schema)));
        let (event, own) = (Rc::new(event.clone()), name.clone());
        let leaves = matches!(event.act, Act::Unsubscribe | Act::Leave { .. });
        let joins = matches!(event.act, Act::Subscribe | Act::Join { .. });
        namespace.on(name, move |socket, args| {
            if (leaves || joins) && socket.waits_for_turn(leaves) {
                let (event, own, schema) = (event.clone(), own.clone(), schema.clone());
                let array = format!("[{}]", args.raw());
                return socket.in_turn(leaves, move |socket| {
                    respond(socket, &own, &event, schema.as_deref(), Args::of_array(&array, &[]));
                });
            }
            respond(socket, &own, &event, schema.as_deref(), args);
        });
    }
}

/// Does what the profile says of one event, and answers it.
fn respond(socket: &mut Context<'_>, own: &str, event: &ClientEvent, schema: Option<&Schema>, args: Args<'_>) {
    match handle(socket, own, event, schema, args) {
        Ok(Some(answer)) => {
            if let Some(reply) = &event.reply {
                act::send(socket, reply, args);
            }
            socket.ack(&answer);
        }
        // Answered when what it waits for is here.
        Ok(None) => {}
        Err(refusal) => socket.refuse(&refusal),
    }
}

/// Does what the profile says of one event. None: it is answered later.
fn handle(
    socket: &mut Context<'_>,
    own: &str,
    event: &ClientEvent,
    schema: Option<&Schema>,
    args: Args<'_>,
) -> Result<Option<Acknowledged>, Refusal> {
    let rights = socket.identity();
    let has_role = event.roles.is_empty() || event.roles.iter().any(|role| rights.has_role(role));
    let has_permission =
        event.permissions.is_empty() || event.permissions.iter().any(|permission| rights.has_permission(permission));
    if !has_role || !has_permission {
        return Err(Refusal::Forbidden);
    }
    if let Some(schema) = schema {
        schema.check(args.first().unwrap_or("null"), "")?;
    }
    let named = |socket: &Context<'_>, room: &Option<_>| act::optional_room(socket, room.as_ref(), args);
    let answer = match &event.act {
        Act::Subscribe => return later(subscribe::subscribe(socket, args)),
        Act::Unsubscribe => subscribe::unsubscribe(socket, args).map(Cow::Owned),
        Act::Join { room } => {
            let room = act::room(socket, room, args)?;
            // It has answered, or will.
            return act::join(socket, own, room, event.reply.as_ref(), args).map(|()| None);
        }
        Act::Leave { room } => act::leave(socket, &act::room(socket, room, args)?).map(Cow::Owned),
        Act::Relay { room, event, data } => {
            let room = act::room(socket, room, args)?;
            act::relay(socket, &room, event.as_deref().unwrap_or(own), data.as_ref(), args)
        }
        Act::Publish { room: Some(room), kind: Some(kind), data } => {
            let (room, kind) = (act::room(socket, room, args)?, act::room(socket, kind, args)?);
            act::publish(socket, &room, &kind, data.as_ref(), args).map(Cow::Owned)
        }
        Act::Publish { .. } => publish::publish(socket, args).map(Cow::Owned),
        Act::History { room } => return later(history::history(socket, named(socket, room)?, args)),
        Act::Presence { room } => return later(presence::presence(socket, named(socket, room)?, args)),
        Act::Status => presence::status(socket, args),
        Act::Availability => presence::availability(socket, args),
        Act::Typing { room, start } => presence::typing(socket, named(socket, room)?, args, *start),
        Act::Received => offline::received(socket, args),
        Act::Read => offline::read(socket, args),
        Act::Document(act) => match act {
            DocumentAct::Update => return later(document::update(socket, event.reply.as_ref(), args)),
            DocumentAct::Open => return later(document::open(socket, own, event.reply.as_ref(), args)),
            DocumentAct::Get => return later(document::get(socket, event.reply.as_ref(), args)),
            DocumentAct::Close => document::close(socket, args),
            DocumentAct::Resolve => return later(document::resolve(socket, event.reply.as_ref(), args)),
        },
        Act::Authenticate => authenticate(socket, args).map(Cow::Owned),
        Act::Reply { event, data } => {
            act::reply(socket, event.as_deref().unwrap_or(own), data.as_ref(), args);
            Ok(ok())
        }
        Act::Enqueue { .. } => Err(Refusal::Unavailable("jobs_unavailable")),
        Act::Webhook { hook, data } => act::webhook(socket, own, *hook, data.as_ref(), args).map(Cow::Owned),
    };
    answer.map(Some)
}

/// Of what may be answered later.
fn later(answer: Result<Option<String>, Refusal>) -> Result<Option<Acknowledged>, Refusal> {
    answer.map(|answer| answer.map(Cow::Owned))
}

fn ok() -> Acknowledged {
    Cow::Borrowed("{\"ok\":true}")
}

/// Reads an event's argument.
fn argument<'a, T: Deserialize<'a>>(args: Args<'a>, takes: &'static str) -> Result<T, Refusal> {
    serde_json::from_str(args.first().unwrap_or("null")).map_err(|_| Refusal::InvalidArgument(takes))
}

fn text(parts: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::with_capacity(128);
    parts(&mut out);
    // Made of texts only.
    String::from_utf8(out).unwrap_or_default()
}

fn write_list<'a>(out: &mut Vec<u8>, names: impl IntoIterator<Item = &'a str>) {
    out.push(b'[');
    for (nth, name) in names.into_iter().enumerate() {
        if nth > 0 {
            out.push(b',');
        }
        json::write_string(out, name);
    }
    out.push(b']');
}

/// The profile's greeting, or `connected {sid, tenant, user, rooms, epoch, offset, recovered}`; epoch and offset are those of the tenant's
/// room.
fn connected(socket: &mut Context<'_>) {
    if let Some(greeting) = &socket.profile().greeting {
        return act::send(socket, greeting, Args::none());
    }
    let tenant_room = socket.tenant_room();
    let place = socket.place(&tenant_room);
    let args = text(|out| {
        let _ = write!(out, "{{\"sid\":\"{}\",\"tenant\":", socket.sid());
        json::write_string(out, socket.identity().tenant.as_str());
        out.extend_from_slice(b",\"user\":");
        json::write_string(out, &socket.identity().user);
        out.extend_from_slice(b",\"rooms\":");
        write_list(out, socket.rooms());
        match place {
            Some((epoch, offset)) => drop(write!(out, ",\"epoch\":\"{epoch}\",\"offset\":{offset}")),
            None => out.extend_from_slice(b",\"epoch\":null,\"offset\":0"),
        }
        let _ = write!(out, ",\"recovered\":{}}}", socket.recovered());
    });
    socket.emit_first("connected", &args);
}

#[derive(Deserialize)]
struct InRoom<'a> {
    #[serde(borrow)]
    room: Cow<'a, str>,
}

/// What an event is about.
#[derive(Deserialize)]
struct Entity<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
}

/// The room that the profile has it about, or the one its argument names.
fn named_room<'a>(room: Option<String>, args: Args<'a>, takes: &'static str) -> Result<Cow<'a, str>, Refusal> {
    match room {
        Some(room) => Ok(room.into()),
        None => argument(args, takes).map(|InRoom { room }| room),
    }
}

/// A room the socket is in, or could join.
fn open_room(socket: &Context<'_>, room: &str) -> Result<(), Refusal> {
    if socket.is_in(room) || socket.access(room) == Access::Granted { Ok(()) } else { Err(Refusal::Forbidden) }
}

/// A fresh token for a session that has one: same tenant, same user.
fn authenticate(socket: &mut Context<'_>, args: Args<'_>) -> Result<String, Refusal> {
    let token = token(args)?;
    Ok(accepted(socket.authenticate(&token)?))
}

/// The token of an event that authenticates: the argument itself, or its member `token`.
pub(super) fn token(args: Args<'_>) -> Result<Cow<'_, str>, Refusal> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Argument<'a> {
        #[serde(borrow)]
        Token(Cow<'a, str>),
        Object {
            #[serde(borrow)]
            token: Cow<'a, str>,
        },
    }
    match argument(args, "authenticate takes a token")? {
        Argument::Token(token) | Argument::Object { token } => Ok(token),
    }
}

fn accepted(expires_at: Option<UnixMs>) -> String {
    match expires_at {
        Some(at) => format!("{{\"ok\":true,\"expiresAt\":\"{}\"}}", at.rfc3339()),
        None => "{\"ok\":true,\"expiresAt\":null}".to_owned(),
    }
}

/// Tells a socket that its late token was accepted.
pub(super) fn accept_late(socket: &mut Context<'_>) {
    let answer = accepted(socket.identity().expires_at);
    socket.ack(&answer);
    if let Some(accepted) = socket.profile().late.as_ref().and_then(|late| late.accepted.as_ref()) {
        act::send(socket, accepted, Args::none());
    }
}

impl From<auth::Reject> for Refusal {
    fn from(reject: auth::Reject) -> Refusal {
        Refusal::Token(reject)
    }
}
