//! The default profile: the client events of every application that has no profile of its own. Each answers its acknowledgement; an error
//! is `{"ok":false,"code":..,"message":..}` and closes nothing.

mod document;
mod history;
mod publish;
mod subscribe;

use super::app::{App, Args, Context, Namespace};
use super::refusal::Refusal;
use super::tenant::Status;
use crate::wire::{auth, json};
use serde::Deserialize;
use std::borrow::Cow;
use std::io::Write;

/// The default profile in each of the namespaces named.
pub fn app<'a>(namespaces: impl IntoIterator<Item = &'a str>) -> App {
    namespaces.into_iter().fold(App::new().announce_users(), |app, name| app.namespace(name, events))
}

fn events(namespace: &mut Namespace) {
    namespace
        .on_connect(connected)
        .on("subscribe", |socket, args| answer(socket, |socket| subscribe::subscribe(socket, args)))
        .on("unsubscribe", |socket, args| answer(socket, |socket| subscribe::unsubscribe(socket, args)))
        .on("publish", |socket, args| answer(socket, |socket| publish::publish(socket, args)))
        .on("history", |socket, args| answer(socket, |socket| history::history(socket, args)))
        .on("presence", |socket, args| answer(socket, |socket| presence(socket, args)))
        .on("status", |socket, args| answer(socket, |socket| status(socket, args)))
        .on("typing:start", |socket, args| answer(socket, |socket| typing(socket, args, true)))
        .on("typing:stop", |socket, args| answer(socket, |socket| typing(socket, args, false)))
        // Nothing waits to be acknowledged before there is an offline queue: what is received is done with.
        .on("received", |socket, _| answer(socket, |_| Ok(ok())))
        .on("document:open", |socket, args| answer(socket, |socket| document::open(socket, args)))
        .on("document:close", |socket, args| answer(socket, |socket| document::close(socket, args)))
        .on("document:get", |socket, args| answer(socket, |socket| document::get(socket, args)))
        .on("document:update", |socket, args| answer(socket, |socket| document::update(socket, args)))
        .on("conflict:resolve", |socket, args| answer(socket, |socket| document::resolve(socket, args)))
        .on("authenticate", |socket, args| answer(socket, |socket| authenticate(socket, args)));
}

/// Acknowledges with the handler's answer, or refuses.
fn answer(socket: &mut Context<'_>, handle: impl FnOnce(&mut Context<'_>) -> Result<String, Refusal>) {
    match handle(socket) {
        Ok(answer) => socket.ack(&answer),
        Err(refusal) => socket.refuse(&refusal),
    }
}

fn ok() -> String {
    "{\"ok\":true}".to_owned()
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

/// `connected {sid, tenant, user, rooms, epoch, offset, recovered}`; epoch and offset are those of the tenant's room.
fn connected(socket: &mut Context<'_>) {
    let tenant_room = format!("tenant:{}", socket.identity().tenant);
    let Some((epoch, offset)) = socket.place(&tenant_room) else { return };
    let args = text(|out| {
        let _ = write!(out, "{{\"sid\":\"{}\",\"tenant\":", socket.sid());
        json::write_string(out, socket.identity().tenant.as_str());
        out.extend_from_slice(b",\"user\":");
        json::write_string(out, &socket.identity().user);
        out.extend_from_slice(b",\"rooms\":");
        write_list(out, socket.rooms());
        let _ = write!(out, ",\"epoch\":\"{epoch}\",\"offset\":{offset},\"recovered\":{}}}", socket.recovered());
    });
    socket.emit("connected", &args);
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

/// A room the socket is in, or could join.
fn open_room(socket: &Context<'_>, room: &str) -> Result<(), Refusal> {
    if socket.is_in(room) || socket.identity().may_join(room) { Ok(()) } else { Err(Refusal::Forbidden) }
}

fn presence(socket: &mut Context<'_>, args: Args<'_>) -> Result<String, Refusal> {
    let InRoom { room } = argument(args, "presence takes {room}")?;
    open_room(socket, &room)?;
    Ok(socket.presence(&room))
}

fn status(socket: &mut Context<'_>, args: Args<'_>) -> Result<String, Refusal> {
    const TAKES: &str = "status takes {status}: online, away, busy or offline";
    #[derive(Deserialize)]
    struct Argument<'a> {
        #[serde(borrow)]
        status: Cow<'a, str>,
    }
    let Argument { status } = argument(args, TAKES)?;
    socket.set_status(Status::parse(&status).ok_or(Refusal::InvalidArgument(TAKES))?);
    Ok(ok())
}

fn typing(socket: &mut Context<'_>, args: Args<'_>, start: bool) -> Result<String, Refusal> {
    let InRoom { room } = argument(args, "typing takes {room}")?;
    if !socket.is_in(&room) {
        return Err(Refusal::NotMember);
    }
    socket.set_typing(&room, start);
    Ok(ok())
}

/// A fresh token for a session that has one: same tenant, same user.
fn authenticate(socket: &mut Context<'_>, args: Args<'_>) -> Result<String, Refusal> {
    const TAKES: &str = "authenticate takes a token";
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
    let token = match argument(args, TAKES)? {
        Argument::Token(token) | Argument::Object { token } => token,
    };
    let expires_at = socket.authenticate(&token)?;
    Ok(match expires_at {
        Some(at) => format!("{{\"ok\":true,\"expiresAt\":\"{}\"}}", at.rfc3339()),
        None => "{\"ok\":true,\"expiresAt\":null}".to_owned(),
    })
}

impl From<auth::Reject> for Refusal {
    fn from(reject: auth::Reject) -> Refusal {
        Refusal::Token(reject)
    }
}
