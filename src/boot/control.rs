//! The control plane's start: checked against who calls it, connected to the shards.

use super::{Error, machine::entropy};
use crate::base::{
    limit::{CONTROL_BYTES_MAX, CONTROL_LANE_MAX},
    time::{Clock, Duration},
};
use crate::bridge::{Bounds, Bridge, Errands, Sender};
use crate::control_plane::{self, BackendSettings, HookSettings, Secret};
use crate::data_plane::MeshMessage;
use crate::profile::Profile;
use crate::shard::{
    io::Ask,
    listener::{Action, ListenerSettings},
};
use std::sync::Arc;

/// Whom a profile calls.
#[derive(Default)]
pub struct Calls {
    pub control: control_plane::Settings,
    pub listeners: Box<[ListenerSettings]>,
    /// As [`shard::Settings::webhooks`](crate::shard::Settings::webhooks).
    pub webhooks: Box<[Option<u16>]>,
    /// What is not called because the environment does not say where it is, or with which secret: one line each.
    pub missing: Vec<String>,
}

/// Whom a profile's listeners, events and rooms call.
pub fn calls(profile: &Profile, variable: impl Fn(&str) -> Option<String>) -> Calls {
    let mut missing = Vec::new();
    let mut endpoint = |what: String, url: &str, secret_env: &str| -> Option<(String, Secret)> {
        let named = url.strip_prefix("{env:").and_then(|rest| rest.strip_suffix('}'));
        let url = match named {
            Some(name) => variable(name).ok_or(name),
            None => Ok(url.to_owned()),
        };
        let secret = variable(secret_env).ok_or(secret_env);
        match (url, secret) {
            (Ok(url), Ok(secret)) => match Secret::parse(&secret) {
                Ok(secret) => Some((url, secret)),
                Err(error) => {
                    missing.push(format!("{what} is not called: {secret_env}: {error}"));
                    None
                }
            },
            (Err(name), _) | (_, Err(name)) => {
                missing.push(format!("{what} is not called: the environment has no {name}"));
                None
            }
        }
    };
    let mut hooks = Vec::new();
    let mut places: Vec<Option<u16>> = Vec::new();
    for (name, hook) in &profile.webhooks {
        let known = endpoint(format!("webhook {name}"), &hook.url, &hook.secret_env);
        places.push(known.and_then(|(url, secret)| {
            let usual = HookSettings::new(name, &url, secret);
            hooks.push(HookSettings {
                timeout: hook.timeout_ms.map_or(usual.timeout, Duration::from_millis),
                attempts: hook.attempts.unwrap_or(5),
                at_once: hook.at_once.unwrap_or(usual.at_once),
                ..usual
            });
            u16::try_from(hooks.len() - 1).ok()
        }));
    }
    let backend = profile.backend.as_ref().and_then(|backend| {
        let (url, secret) = endpoint("backend".into(), &backend.url, &backend.secret_env)?;
        let usual = BackendSettings::new(&url, secret);
        Some(BackendSettings {
            timeout: Duration::from_millis(backend.timeout_ms.unwrap_or(2_000)),
            cache_ttl: backend.cache_ttl_s.map_or(usual.cache_ttl, Duration::from_secs),
            ..usual
        })
    });
    let mut listeners: Vec<ListenerSettings> = profile.listeners.iter().map(ListenerSettings::from).collect();
    for listener in &mut listeners {
        // By their place in the profile until here.
        listener.actions.retain_mut(|action| match action {
            Action::Webhook { hook } => {
                let place = places.get(usize::from(*hook)).copied().flatten();
                *hook = place.unwrap_or(*hook);
                place.is_some()
            }
            _ => true,
        });
    }
    let control = control_plane::Settings { hooks, backend };
    Calls { control, listeners: listeners.into(), webhooks: places.into(), missing }
}

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

/// The way to the control plane, to be put into the bridge.
pub fn errands() -> Arc<Errands<Ask>> {
    let bounds = Bounds { count: CONTROL_LANE_MAX, bytes: CONTROL_BYTES_MAX };
    Arc::new(Errands::new(control_plane::names(), bounds))
}

/// Starts the thread that reads `errands` and answers to the bridge's shards.
pub fn start_control(
    settings: control_plane::Settings,
    errands: Arc<Errands<Ask>>,
    bridge: &Arc<Bridge<MeshMessage>>,
    clock: Arc<dyn Clock + Send + Sync>,
) -> Result<control_plane::Handle, Error> {
    let answers = bridge.clone();
    let deliver = Box::new(move |shard, ticket, answer| {
        let sent = answers.try_send(Sender::Control, shard, MeshMessage::Answered { ticket, answer });
        answers.wake(shard);
        sent.is_ok()
    });
    let start = control_plane::Start { errands, clock, deliver, seed: entropy()? };
    Ok(control_plane::start(settings, start)?)
}
