//! The backplane's start: from the configuration, connected to the shards.

use super::{Error, machine::entropy};
use crate::backplane::{self, Server, Servers, Settings};
use crate::base::{
    id::NodeId,
    limit::{RELAY_BYTES_MAX, RELAY_LANE_MAX},
    time::{Clock, Duration, Instant},
};
use crate::bridge::{Bounds, Bridge, Errands, Sender};
use crate::config::{Host, Redis};
use crate::data_plane::MeshMessage;
use crate::shard::relay::Relay;
use crate::wire::envelope::Origin;
use std::sync::Arc;

/// What a drain that took all its time leaves the backplane.
const GRACE: Duration = Duration::from_secs(1);

/// What a single process without Redis cannot do.
const NEED_REDIS: &[&str] =
    &["several nodes as one", "history and recovery across a restart", "jobs and queues", "the shared cache"];

/// What the start says of Redis: what is off without it, in development mode, and what does not use it yet.
pub fn said(with_redis: bool, in_development: bool) -> String {
    match with_redis {
        true => "redis    each node's own yet: limits by address\n".into(),
        false if in_development => NEED_REDIS.iter().map(|feature| format!("off without Redis: {feature}\n")).collect(),
        false => String::new(),
    }
}

/// What the backplane is told; `origin` is what this process' shards say of themselves.
pub fn settings(redis: &Redis, origin: Origin, node: NodeId) -> Settings {
    let server = |host: &Host| Server { host: host.name.as_str().into(), port: host.port };
    let servers = match &redis.master {
        Some(master) => Servers::Sentinel {
            sentinels: redis.sentinels.iter().map(server).collect(),
            master: master.as_str().into(),
        },
        None if redis.nodes.is_empty() => Servers::One(Server { host: redis.host.as_str().into(), port: redis.port }),
        None => Servers::Cluster(redis.nodes.iter().map(server).collect()),
    };
    Settings {
        servers,
        user: redis.user.as_deref().map(Box::from),
        password: redis.password.as_ref().map(|password| password.0.as_str().into()),
        db: redis.socket_db,
        is_secure: redis.is_secure,
        prefix: redis.prefix.as_str().into(),
        journal_bytes: usize::try_from(redis.journal_bytes).unwrap_or(usize::MAX),
        origin,
        node,
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
    let deliver = Box::new(move |shard, reports, load| {
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
