//! The control plane's start: checked against who calls it, connected to the shards.

use super::{Error, machine::entropy};
use crate::base::time::Clock;
use crate::bridge::{Bridge, Errands, Sender};
use crate::control_plane;
use crate::data_plane::MeshMessage;
use crate::shard::listener::{Action, ListenerSettings};
use std::sync::Arc;

/// Every webhook that a listener calls is there.
pub fn check_webhooks(listeners: &[ListenerSettings], hooks: usize) -> Result<(), Error> {
    for listener in listeners {
        for action in &listener.actions {
            if let Action::Webhook { hook } = action
                && usize::from(*hook) >= hooks
            {
                return Err(Error::NoWebhook { listener: listener.name.clone(), hook: *hook });
            }
        }
    }
    Ok(())
}

/// The control plane, and the bridge with a way to it.
pub fn start_control(
    settings: control_plane::Settings,
    bridge: Bridge<MeshMessage>,
    clock: Arc<dyn Clock + Send + Sync>,
) -> Result<(Arc<Bridge<MeshMessage>>, control_plane::Handle), Error> {
    let errands = Arc::new(Errands::new(control_plane::names()));
    let bridge = Arc::new(bridge.with_control(errands.clone()));
    let answers = bridge.clone();
    let deliver = Box::new(move |shard, ticket, answer| {
        let sent = answers.try_send(Sender::Control, shard, MeshMessage::Answered { ticket, answer });
        answers.wake(shard);
        sent.is_ok()
    });
    let start = control_plane::Start { errands, clock, deliver, seed: entropy()? };
    Ok((bridge, control_plane::start(settings, start)?))
}
