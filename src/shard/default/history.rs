//! `history`.

use super::subscribe::Since;
use super::{argument, open_room};
use crate::base::limit;
use crate::shard::app::{Args, Context};
use crate::shard::history::Epoch;
use crate::shard::refusal::Refusal;
use serde::Deserialize;
use std::borrow::Cow;

/// An epoch nobody gave out: of no history there is, since epochs have 48 bits.
const NO_PLACE: (Epoch, u64) = (Epoch(u64::MAX), 0);

#[derive(Deserialize)]
struct Argument<'a> {
    #[serde(borrow, default)]
    room: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    since: Option<Since<'a>>,
    #[serde(default)]
    limit: Option<u64>,
}

/// What a room remembers: the newest events, or those after a position; of the tenant's own room where none is named.
pub fn history(socket: &mut Context<'_>, room: Option<String>, args: Args<'_>) -> Result<Option<String>, Refusal> {
    const TAKES: &str = "history takes {room?, since?: {epoch, offset}, limit?}";
    let argument = match args.first() {
        None => Argument { room: None, since: None, limit: None },
        Some(_) => argument(args, TAKES)?,
    };
    let room = room.map(Cow::from).or(argument.room).unwrap_or_else(|| socket.tenant_room().into());
    open_room(socket, &room)?;
    let since = argument.since.map(|since| since.place().unwrap_or(NO_PLACE));
    let limit = argument.limit.unwrap_or(limit::HISTORY_PAGE_MAX as u64).min(limit::HISTORY_PAGE_MAX as u64);
    let limit = limit as usize;
    let needs = vec![(Box::from(&*room), true)];
    if socket.is_ready(&needs) {
        return listed(socket, &room, since, limit).map(Some);
    }
    let room: Box<str> = (*room).into();
    socket.when_ready(needs, move |socket| match listed(socket, &room, since, limit) {
        Ok(answer) => socket.ack(&answer),
        Err(refusal) => socket.refuse(&refusal),
    });
    Ok(None)
}

fn listed(socket: &mut Context<'_>, room: &str, since: Option<(Epoch, u64)>, limit: usize) -> Result<String, Refusal> {
    if !socket.has_past(room) {
        return Err(Refusal::BackplaneUnavailable);
    }
    Ok(socket.history(room, since, limit))
}
