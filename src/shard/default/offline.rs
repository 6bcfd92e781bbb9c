//! `received` and `read`.

use super::{Acknowledged, argument, ok};
use crate::base::limit;
use crate::shard::app::{Args, Context};
use crate::shard::refusal::Refusal;
use serde::Deserialize;
use std::borrow::Cow;

#[derive(Deserialize)]
struct Argument<'a> {
    #[serde(borrow)]
    ids: Vec<Cow<'a, str>>,
}

impl Argument<'_> {
    /// In order, each once.
    fn sorted(&self) -> Result<Vec<&str>, Refusal> {
        if self.ids.len() > limit::RECEIVED_IDS_MAX {
            return Err(Refusal::TooManyItems);
        }
        let mut ids: Vec<&str> = self.ids.iter().map(|id| &**id).collect();
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }
}

/// Acknowledges events: what waited for this user waits no more, and whoever waits for it is told. Of an event that is unknown, or that
/// was acknowledged already, nothing is said: a client may repeat itself.
pub fn received(socket: &mut Context<'_>, args: Args<'_>) -> Result<Acknowledged, Refusal> {
    let argument: Argument<'_> = argument(args, "received takes {ids}")?;
    socket.received(&argument.sorted()?);
    Ok(taken(socket))
}

/// Answers now, or among nodes when the store does not keep for this user what it has acknowledged: who was told so does not get it again.
fn taken(socket: &mut Context<'_>) -> Acknowledged {
    if !socket.is_taken_later() {
        return ok();
    }
    socket.when_taken(|socket, taken| match taken {
        true => socket.ack(&ok()),
        false => socket.refuse(&Refusal::BackplaneUnavailable),
    });
    Acknowledged::default()
}

/// Tells the senders of these events that this user has read them, where they have receipts. What is read is received.
pub fn read(socket: &mut Context<'_>, args: Args<'_>) -> Result<Acknowledged, Refusal> {
    let argument: Argument<'_> = argument(args, "read takes {ids}")?;
    socket.read(&argument.sorted()?);
    Ok(taken(socket))
}
