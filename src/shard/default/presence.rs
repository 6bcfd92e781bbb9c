//! `presence`, `status`, `availability`, `typing:start` and `typing:stop`.

use super::{argument, ok, open_room};
use crate::shard::app::{Args, Context};
use crate::shard::refusal::Refusal;
use crate::shard::status::Status;
use serde::Deserialize;
use std::borrow::Cow;

/// Who is in a room, or how the users named are.
pub fn presence(socket: &mut Context<'_>, args: Args<'_>) -> Result<String, Refusal> {
    const TAKES: &str = "presence takes {room} or {users}";
    #[derive(Deserialize)]
    struct Argument<'a> {
        #[serde(borrow, default)]
        room: Option<Cow<'a, str>>,
        #[serde(borrow, default)]
        users: Option<Vec<Cow<'a, str>>>,
    }
    match argument(args, TAKES)? {
        Argument { room: Some(room), users: None } => {
            open_room(socket, &room)?;
            Ok(socket.presence(&room))
        }
        Argument { room: None, users: Some(users) } => socket.presence_of(&users),
        _ => Err(Refusal::InvalidArgument(TAKES)),
    }
}

#[derive(Deserialize)]
struct Said<'a> {
    #[serde(borrow)]
    status: Cow<'a, str>,
}

pub fn status(socket: &mut Context<'_>, args: Args<'_>) -> Result<String, Refusal> {
    const TAKES: &str = "status takes {status}: online, away, busy or offline";
    let Said { status } = argument(args, TAKES)?;
    socket.set_status(Status::parse(&status).ok_or(Refusal::InvalidArgument(TAKES))?)?;
    Ok(ok())
}

/// An agent says what it is available for.
pub fn availability(socket: &mut Context<'_>, args: Args<'_>) -> Result<String, Refusal> {
    let Said { status } = argument(args, "availability takes {status}")?;
    socket.set_availability(&status)?;
    Ok(ok())
}

pub fn typing(socket: &mut Context<'_>, args: Args<'_>, start: bool) -> Result<String, Refusal> {
    #[derive(Deserialize)]
    struct Argument<'a> {
        #[serde(borrow)]
        room: Cow<'a, str>,
    }
    let Argument { room } = argument(args, "typing takes {room}")?;
    socket.set_typing(&room, start, None)?;
    Ok(ok())
}
