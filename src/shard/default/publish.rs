//! `publish`.

use super::{Entity, argument, text};
use crate::base::limit;
use crate::shard::app::{Args, Context};
use crate::shard::publish::{Draft, write_receipt};
use crate::shard::refusal::Refusal;
use crate::shard::tenant::Receipt;
use crate::wire::{api::Ack, socket_io::RESERVED_EVENTS};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

#[derive(Deserialize)]
struct Argument<'a> {
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    room: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    event: Cow<'a, str>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(default)]
    ephemeral: bool,
    #[serde(borrow, default)]
    entity: Option<Entity<'a>>,
    #[serde(default)]
    ack: Option<AckArgument>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AckArgument {
    #[serde(default)]
    timeout_ms: Option<u32>,
    #[serde(default)]
    retries: Option<u32>,
}

pub fn publish(socket: &mut Context<'_>, args: Args<'_>) -> Result<String, Refusal> {
    let argument: Argument<'_> = argument(
        args,
        "publish takes {id?, room, type, data, ephemeral?, entity?: {type, id}, ack?: {timeoutMs?, retries?}}",
    )?;
    if !is_event_name(&argument.event) {
        return Err(Refusal::InvalidArgument(
            "type is 1 to 256 bytes, without control characters, and no reserved name",
        ));
    }
    if argument.id.as_deref().is_some_and(|id| id.is_empty() || id.len() > limit::EVENT_NAME_BYTES_MAX) {
        return Err(Refusal::InvalidArgument("id is 1 to 256 bytes"));
    }
    if !socket.may_publish(&argument.room, &argument.event) {
        socket.count_refused_publish();
        return Err(Refusal::Forbidden);
    }
    socket.check_room_name(&argument.room)?;
    let user = socket.identity().user.clone();
    let draft = Draft {
        id: argument.id.as_deref(),
        event: &argument.event,
        room: &argument.room,
        entity: argument.entity.as_ref().map(|entity| (&*entity.kind, &*entity.id)),
        data: argument.data.map_or("null", RawValue::get),
        ephemeral: argument.ephemeral,
        user: Some(&user),
        audience: None,
    };
    if let Some(AckArgument { timeout_ms, retries }) = argument.ack {
        let ack = Ack::new(timeout_ms, retries).filter(|_| !argument.ephemeral).ok_or(Refusal::InvalidArgument(
            "ack takes {timeoutMs?: 100 to 20000, retries?: 0 to 5}, and no ephemeral event",
        ))?;
        // Without an answer now, it comes when the receivers have given theirs.
        return Ok(socket.publish_asking(&draft, ack)?.unwrap_or_default());
    }
    Ok(answer(socket.publish(&draft)?))
}

/// What a publisher is answered; nothing where it is answered when the event has its place.
pub(super) fn answer(receipt: Option<Receipt>) -> String {
    let Some(receipt) = receipt else { return String::new() };
    text(|out| {
        out.extend_from_slice(b"{\"ok\":true,");
        write_receipt(&receipt, out);
        out.push(b'}');
    })
}

/// A name clients can listen to.
fn is_event_name(name: &str) -> bool {
    (1..=limit::EVENT_NAME_BYTES_MAX).contains(&name.len())
        && !name.chars().any(char::is_control)
        && !RESERVED_EVENTS.contains(&name)
}
