//! The backplane's start: from the configuration, connected to the shards.

use super::{Error, machine::entropy};
use crate::backplane::{
    self, Login, Server, Servers, Settings,
    foreign::{Adapter, Fleet},
};
use crate::base::{
    id::NodeId,
    limit::{RELAY_BYTES_MAX, RELAY_LANE_MAX},
    time::{Clock, Duration, Instant},
};
use crate::bridge::{Bounds, Bridge, Errands, Sender};
use crate::config::{self, Config, Host, Redis, Secret};
use crate::data_plane::MeshMessage;
use crate::shard::{fleet::FleetSettings, relay::Relay};
use crate::wire::{adapter::Mode, envelope::Origin};
use std::sync::Arc;

/// What a drain that took all its time leaves the backplane.
const GRACE: Duration = Duration::from_secs(1);

/// What a single process without Redis cannot do.
const NEED_REDIS: &[&str] =
    &["several nodes as one", "history and recovery across a restart", "jobs and queues", "the shared cache"];

/// What the start says of Redis: what is off without it.
pub fn said(config: &Config) -> String {
    if config.redis.is_some() {
        return String::new();
    }
    // In production nobody is told each time what is not wanted, but a profile's channels are.
    let is_listed = config.is_development();
    let mut out: String =
        NEED_REDIS.iter().filter(|_| is_listed).map(|feature| format!("off without Redis: {feature}\n")).collect();
    let channels: Vec<&str> = config.profile.channel_names().collect();
    if !channels.is_empty() {
        out.push_str(&format!("off without Redis: the profile's channels {}\n", channels.join(", ")));
    }
    out
}

/// What the backplane is told; `origin` is what this process' shards say of themselves.
pub fn settings(config: &Config, redis: &Redis, origin: Origin, node: NodeId) -> Settings {
    let server = |host: &Host| Server { host: host.name.as_str().into(), port: host.port };
    let servers = match &redis.master {
        Some(master) => Servers::Sentinel {
            sentinels: redis.sentinels.iter().map(server).collect(),
            master: master.as_str().into(),
            login: login(redis.sentinel_user.as_deref(), redis.sentinel_password.as_ref()),
        },
        None if redis.nodes.is_empty() => Servers::One(Server { host: redis.host.as_str().into(), port: redis.port }),
        None => Servers::Cluster(redis.nodes.iter().map(server).collect()),
    };
    Settings {
        servers,
        login: login(redis.user.as_deref(), redis.password.as_ref()),
        db: redis.socket_db,
        is_secure: redis.is_secure,
        prefix: redis.prefix.as_str().into(),
        journal_bytes: usize::try_from(redis.journal_bytes).unwrap_or(usize::MAX),
        origin,
        node,
        fleet: Some(fleet(config)),
    }
}

fn login(user: Option<&str>, password: Option<&Secret>) -> Login {
    Login { user: user.map(Box::from), password: password.map(|Secret(password)| password.as_str().into()) }
}

/// What shards are told of the fleet; none: there is none.
pub fn fleet_settings(config: &Config, origin: Origin) -> Option<FleetSettings> {
    let names_rooms = config.fleet.adapter == config::Adapter::Sharded && config.fleet.mode != Mode::Static;
    let reads_rows = config.fleet.recovery;
    config.redis.as_ref().map(|_| FleetSettings { origin, lease: config.presence_ttl, names_rooms, reads_rows })
}

fn fleet(config: &Config) -> Fleet {
    let config::Fleet { adapter, key, stream, mode, session_prefix, recovery } = &config.fleet;
    Fleet {
        adapter: match adapter {
            config::Adapter::Off => Adapter::Off,
            config::Adapter::Emitter => Adapter::Emitter,
            config::Adapter::Classic => Adapter::Classic,
            config::Adapter::Sharded => Adapter::Sharded(*mode),
            config::Adapter::Streams => Adapter::Streams,
        },
        key: key.as_str().into(),
        stream: stream.as_str().into(),
        session_prefix: recovery.then(|| session_prefix.as_str().into()),
        namespaces: config.socket_io.namespaces.iter().map(|name| name.as_str().into()).collect(),
        profile: Arc::new(config.profile.clone()),
    }
}

/// When the backplane ends at the latest, once the shards have: sockets that a drain's last moment saved get a moment more, because their clients
/// are on their way to other nodes.
pub fn end_at(drain_until: Option<&Instant>, now: Instant) -> Instant {
    drain_until.map_or(Instant::default(), |until| (*until).max(now + GRACE))
}

/// The way to it, to be put into the bridge.
pub fn errands() -> Arc<Errands<Relay>> {
    Arc::new(Errands::new(backplane::names(), Bounds { count: RELAY_LANE_MAX, bytes: RELAY_BYTES_MAX }))
}

/// Starts the thread that reads `errands` and reports to the bridge's shards.
pub fn start(
    settings: Settings,
    errands: Arc<Errands<Relay>>,
    bridge: &Arc<Bridge<MeshMessage>>,
    clock: Arc<dyn Clock + Send + Sync>,
) -> Result<backplane::Handle, Error> {
    let lanes = bridge.clone();
    let deliver = Arc::new(move |shard, reports, load| {
        let sent = lanes.try_send(Sender::Backplane, shard, MeshMessage::Reports { reports, load });
        lanes.wake(shard);
        match sent {
            Err(MeshMessage::Reports { reports, .. }) => Err(reports),
            _ => Ok(()),
        }
    });
    let start = backplane::Start { errands, clock, deliver, shards: bridge.shards(), seed: entropy()? };
    Ok(backplane::start(settings, start)?)
}
