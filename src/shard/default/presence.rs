//! `presence`, `status`, `availability`, `typing:start` and `typing:stop`.

use super::{Acknowledged, act, argument, named_room, ok, open_room, text};
use crate::base::limit;
use crate::profile::{self, Emit, template::quoted};
use crate::shard::app::{Args, Context};
use crate::shard::refusal::Refusal;
use crate::shard::status::Status;
use crate::shard::typing::{Told, Words};
use crate::wire::json;
use serde::Deserialize;
use std::borrow::Cow;

/// Who is in a room (the profile's, or the one named), or how the users named are.
/// None: it is answered when the store has said.
pub fn presence(socket: &mut Context<'_>, room: Option<String>, args: Args<'_>) -> Result<Option<String>, Refusal> {
    const TAKES: &str = "presence takes {room} or {users}";
    #[derive(Default, Deserialize)]
    struct Argument<'a> {
        #[serde(borrow, default)]
        room: Option<Cow<'a, str>>,
        #[serde(borrow, default)]
        users: Option<Vec<Cow<'a, str>>>,
    }
    let named = match room {
        Some(room) => Argument { room: Some(room.into()), users: None },
        None => argument(args, TAKES)?,
    };
    match named {
        Argument { room: Some(room), users: None } => {
            open_room(socket, &room)?;
            if socket.is_among_nodes() {
                socket.presence_among_nodes(&room);
                return Ok(None);
            }
            Ok(Some(socket.presence(&room)))
        }
        Argument { room: None, users: Some(users) } => {
            if users.len() > limit::PRESENCE_QUERY_MAX {
                return Err(Refusal::TooManyItems);
            }
            if socket.is_among_nodes() {
                socket.presence_of_among_nodes(users.into_iter().map(|user| user.into()).collect());
                return Ok(None);
            }
            Ok(Some(socket.presence_of(&users)))
        }
        _ => Err(Refusal::InvalidArgument(TAKES)),
    }
}

#[derive(Deserialize)]
struct Said<'a> {
    #[serde(borrow)]
    status: Cow<'a, str>,
}

pub fn status(socket: &mut Context<'_>, args: Args<'_>) -> Result<Acknowledged, Refusal> {
    const TAKES: &str = "status takes {status}: online, away, busy or offline";
    let Said { status } = argument(args, TAKES)?;
    socket.set_status(Status::parse(&status).ok_or(Refusal::InvalidArgument(TAKES))?)?;
    Ok(ok())
}

/// An agent says what it is available for.
pub fn availability(socket: &mut Context<'_>, args: Args<'_>) -> Result<Acknowledged, Refusal> {
    let Said { status } = argument(args, "availability takes {status}")?;
    socket.set_availability(&status)?;
    Ok(ok())
}

pub fn typing(
    socket: &mut Context<'_>,
    room: Option<String>,
    args: Args<'_>,
    start: bool,
) -> Result<Acknowledged, Refusal> {
    let room = named_room(room, args, "typing takes {room}")?;
    let profile = socket.profile();
    let words = start.then(|| words(socket, &profile.typing, &room, args)).flatten();
    socket.set_typing(&room, start, words)?;
    Ok(ok())
}

/// The profile's own words, filled with what the client said; its stop's data is that of the start it ends. A profile that names a start and
/// no stop tells of starts alone.
fn words(socket: &Context<'_>, typing: &profile::Typing, room: &str, args: Args<'_>) -> Option<Words> {
    let told = |event: &str, emit: Option<&Emit>| {
        let data = text(|out| match emit.and_then(|emit| emit.data.as_ref()) {
            Some(shape) => shape.write(out, &|path| match path {
                "room" => Some(quoted(room)),
                _ => act::fill(socket, args, path),
            }),
            None => {
                out.extend_from_slice(b"{\"room\":");
                json::write_string(out, room);
                out.extend_from_slice(b",\"user\":");
                json::write_string(out, &socket.identity().user);
                out.push(b'}');
            }
        });
        Told { event: event.into(), data: data.into() }
    };
    let (start, stop) = (typing.start.as_ref(), typing.stop.as_ref());
    if start.is_none() && stop.is_none() {
        return None;
    }
    Some(Words {
        start: Some(told(start.map_or("typing:start", |emit| &emit.event), start)),
        stop: stop.map(|emit| told(&emit.event, Some(emit))),
    })
}
