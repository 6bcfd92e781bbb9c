//! What the parts of the server are told, from the configuration.

use super::{Error, machine::entropy};
use crate::base::{
    id::{NodeId, ShardId},
    time::Duration,
};
use crate::config::{self, Config};
use crate::data_plane;
use crate::shard::{self, app::App, history::Retention};
use crate::wire::{
    api::{Access, Bounds},
    auth::{Keys, Policy},
    http::Cors,
};

/// Of the data plane.
pub fn plane_settings(
    config: &Config,
    keys: Keys,
    app: &App,
    demo: Option<Box<[u8]>>,
) -> Result<data_plane::Settings, Error> {
    let limits = config.limits.clone();
    Ok(data_plane::Settings {
        takeover: config.server.takeover,
        socket_path: config.socket_io.path.trim_end_matches('/').into(),
        gather: config.server.gather,
        raw_engine: app.has_engine(),
        raw_websocket: app.has_websocket(),
        demo,
        cors: Cors::parse(&config.server.frontend.join(","))?,
        access: Access {
            api_keys: config.api_keys.clone(),
            keys: Some(keys),
            policy: config.auth.policy.clone(),
            bounds: Bounds {
                room_name_bytes: limits.room_name_bytes as usize,
                body_bytes: limits.http_body_bytes as usize,
            },
        },
        limits,
    })
}

/// Of every shard; which of them it is, who starts it says.
pub fn shard_settings(config: &Config, keys: Keys) -> Result<shard::Settings, Error> {
    let node = match config.server.node {
        Some(node) => node,
        None => NodeId(u16::from_be_bytes(entropy()?)),
    };
    let policy: Policy = config.auth.policy.clone();
    let retention = |kept: &config::Retention| Retention { events: kept.events, ttl: kept.ttl };
    Ok(shard::Settings {
        node,
        shard: ShardId(0),
        shards: config.server.shards,
        auth: Some(shard::Auth { keys, policy }),
        limits: config.limits.clone(),
        ping_interval: config.socket_io.ping_interval,
        ping_timeout: config.socket_io.ping_timeout,
        connect_timeout: config.socket_io.connect_timeout,
        auth_deadline: config.auth.deadline,
        recovery: config.socket_io.recovery.unwrap_or(Duration::ZERO),
        history: shard::HistorySettings {
            default: retention(&config.history.default),
            rooms: config.history.rooms.iter().map(|(pattern, kept)| (pattern.clone(), retention(kept))).collect(),
        },
        documents: shard::DocumentSettings::of(&config.profile),
        presence: shard::PresenceSettings::of(&config.profile.presence),
        typing: shard::TypingSettings::of(&config.profile.typing),
        offline: shard::offline::OfflineSettings::new(
            config.profile.offline.ttl.unwrap_or(config.offline_ttl),
            config.profile.offline.per_user.unwrap_or(config.offline_per_user),
            config.profile.offline.removed,
        ),
        receipts: shard::receipt::ReceiptSettings::default(),
        spread: config.server.spread.clone(),
        ..shard::Settings::new()
    })
}
