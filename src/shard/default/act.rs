//! Operations whose room, event and data are templates of the profile.

use super::{Acknowledged, ok, open_room, text};
use crate::profile::{
    Emit,
    room::Access,
    template::{Shape, Template, lookup, quoted},
};
use crate::shard::app::{Args, Context};
use crate::shard::publish::Draft;
use crate::shard::refusal::Refusal;
use crate::wire::json;
use std::borrow::Cow;

/// What fills a hole, as raw JSON: whom the token names comes before anything the client says; a number is an argument, any other name a
/// member of the first one.
pub fn fill<'a>(socket: &Context<'_>, args: Args<'a>, path: &str) -> Option<Cow<'a, str>> {
    match path {
        "user" => Some(quoted(&socket.identity().user)),
        "tenant" => Some(quoted(socket.identity().tenant.as_str())),
        "sid" => Some(quoted(&socket.sid().to_string())),
        "time" => Some(quoted(&socket.now().unix.rfc3339().to_string())),
        "time_ms" => Some(Cow::Owned(socket.now().unix.0.to_string())),
        _ => {
            let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
            let value = match first.parse::<usize>() {
                Ok(nth) => {
                    let argument = args.iter().nth(nth)?;
                    rest.map_or(Some(argument), |rest| lookup(argument, rest))
                }
                Err(_) => lookup(args.first()?, path),
            };
            value.map(Cow::Borrowed)
        }
    }
}

/// A template's text: a room's name, an event's type.
pub fn room(socket: &Context<'_>, template: &Template, args: Args<'_>) -> Result<String, Refusal> {
    template.text(&|path| fill(socket, args, path)).map_err(|missing| Refusal::BadArgument(missing.to_string().into()))
}

pub fn optional_room(
    socket: &Context<'_>,
    template: Option<&Template>,
    args: Args<'_>,
) -> Result<Option<String>, Refusal> {
    template.map(|template| room(socket, template, args)).transpose()
}

pub fn shaped(socket: &Context<'_>, shape: Option<&Shape>, args: Args<'_>) -> String {
    match shape {
        Some(shape) => text(|out| shape.write(out, &|path| fill(socket, args, path))),
        None => args.raw().to_owned(),
    }
}

/// As [`shaped`], of what has one value: without a shape the first argument.
fn one(socket: &Context<'_>, shape: Option<&Shape>, args: Args<'_>) -> String {
    match shape {
        Some(_) => shaped(socket, shape, args),
        None => args.first().unwrap_or("null").to_owned(),
    }
}

/// Sends an event of the profile's to the socket itself.
pub fn send(socket: &mut Context<'_>, emit: &Emit, args: Args<'_>) {
    reply(socket, &emit.event, emit.data.as_ref(), args);
}

pub fn reply(socket: &mut Context<'_>, event: &str, data: Option<&Shape>, args: Args<'_>) {
    let data = shaped(socket, data, args);
    socket.emit(event, &data);
}

/// Joins a room, and answers: now, or when the application's backend has decided and the socket is kept in it.
pub fn join(
    socket: &mut Context<'_>,
    own: &str,
    room: String,
    reply: Option<&Emit>,
    args: Args<'_>,
) -> Result<(), Refusal> {
    let was_in = socket.is_in(&room);
    let reply = reply.map(|emit| (emit.event.clone(), shaped(socket, emit.data.as_ref(), args)));
    match socket.access(&room) {
        Access::Granted => {
            socket.join(&room)?;
            joined(socket, room, was_in, reply);
        }
        Access::AskBackend => {
            let name = room.clone();
            socket.begin_join();
            socket.join_authorized(&name, own, move |socket, outcome| {
                match outcome {
                    Ok(()) => joined(socket, room, was_in, reply),
                    Err(refusal) => {
                        socket.count_refused_room();
                        socket.refuse(&refusal);
                    }
                }
                socket.end_join();
            });
        }
        Access::Denied => {
            socket.count_refused_room();
            return Err(Refusal::Forbidden);
        }
    }
    Ok(())
}

/// Answers a join. Among nodes, one that could not be kept for the socket's coming back is undone.
fn joined(socket: &mut Context<'_>, room: String, was_in: bool, reply: Option<(Box<str>, String)>) {
    let answer = move |socket: &mut Context<'_>, kept: bool| {
        if !kept {
            socket.leave(&room);
            return socket.refuse(&Refusal::BackplaneUnavailable);
        }
        if let Some((event, data)) = reply {
            socket.emit(&event, &data);
        }
        socket.ack(&about(&room));
    };
    if !was_in && socket.is_kept() { socket.when_kept(answer) } else { answer(socket, true) }
}

pub fn leave(socket: &mut Context<'_>, room: &str) -> Result<String, Refusal> {
    socket.leave(room);
    Ok(about(room))
}

fn about(room: &str) -> String {
    text(|out| {
        out.extend_from_slice(b"{\"ok\":true,\"room\":");
        json::write_string(out, room);
        out.push(b'}');
    })
}

pub fn relay(
    socket: &mut Context<'_>,
    room: &str,
    event: &str,
    data: Option<&Shape>,
    args: Args<'_>,
) -> Result<Acknowledged, Refusal> {
    open_room(socket, room)?;
    let data = shaped(socket, data, args);
    socket.relay(room, event, &data);
    Ok(ok())
}

/// Tells a webhook of the profile what the client said; answered at once, with the id that the webhook gets.
pub fn webhook(
    socket: &mut Context<'_>,
    own: &str,
    hook: usize,
    data: Option<&Shape>,
    args: Args<'_>,
) -> Result<String, Refusal> {
    let data = one(socket, data, args);
    let id = socket.notify(hook, own, &data).ok_or(Refusal::Unavailable("webhook_unavailable"))?;
    Ok(format!("{{\"ok\":true,\"id\":\"{id}\"}}"))
}

pub fn publish(
    socket: &mut Context<'_>,
    room: &str,
    kind: &str,
    data: Option<&Shape>,
    args: Args<'_>,
) -> Result<String, Refusal> {
    if !socket.may_publish(room, kind) {
        socket.count_refused_publish();
        return Err(Refusal::Forbidden);
    }
    socket.check_room_name(room)?;
    let data = one(socket, data, args);
    let user = socket.identity().user.clone();
    let draft = Draft { event: kind, room, data: &data, user: Some(&user), ..Draft::default() };
    Ok(super::publish::answer(socket.publish(&draft)?))
}
