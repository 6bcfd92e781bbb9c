//! The way to Redis: found, checked, two connections open.
//!
//! ```text
//!  Sentinel  -> the master's address \
//!  one server ------------------------> is it a Cluster? no:  commands, pub/sub       (RESP3; PUBLISH and SUBSCRIBE)
//!                                            |
//!  Cluster's nodes --------------------------+--> its slots:  commands, pub/sub      (from Redis 7: SPUBLISH and SSUBSCRIBE)
//! ```
//!
//! Commands and pub/sub never share a connection: what is pushed would be taken for an answer.
//!
//! Invariants: everything ends in time; a link that broke is dropped whole and another one made, so that no subscription is there twice.

use super::foreign;
use super::{Settings, inlet::Inlet};
use crate::base::{chance::Chance, time::Duration};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, Pipeline,
    ProtocolVersion, PushInfo, PushKind, RedisConnectionInfo, RedisError, ServerErrorKind, TlsMode, Value,
    aio::MultiplexedConnection,
    cluster::ClusterClientBuilder,
    cluster_async::ClusterConnection,
    cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr},
    sentinel::{SentinelClient, SentinelNodeConnectionInfo, SentinelServerType},
};
use std::sync::Arc;
use tokio::{task::JoinSet, time::timeout};

/// How long a connection may take to be made.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// How long a batch may take; a link on which one takes longer is broken.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How long a ping may take, which waits for nothing.
const PING_MAX: Duration = Duration::from_secs(2);
/// Before the name of a channel that was heard because a pattern fits it: by its own name it may be heard as well.
pub const BY_PATTERN: u8 = 0;
/// How long until another attempt, at first and at most; each is by chance between nothing and twice the one before.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// The oldest version that has everything: exclusive ranges of streams.
const VERSION_MIN: (u32, u32) = (6, 2);
/// From here on a Cluster need not tell every node what is published.
const VERSION_SHARDED: u32 = 7;

/// Where Redis is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Servers {
    One(Server),
    /// Any of them tells the others.
    Cluster(Vec<Server>),
    Sentinel {
        sentinels: Vec<Server>,
        master: Box<str>,
        /// At Sentinel itself.
        login: Login,
    },
}

/// Without a password nobody logs in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Login {
    pub user: Option<Box<str>>,
    pub password: Option<Box<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub host: Box<str>,
    pub port: u16,
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("{0}")]
    Away(Box<str>),
    #[error("Redis {0} is too old: 6.2 is the oldest that will do")]
    Old(Box<str>),
    #[error("Redis refuses the user or the password: {0}")]
    Denied(Box<str>),
    #[error(
        "Redis is a Cluster, and fleet.recovery is on: redis.nodes has to say so, because all keys are in one slot then"
    )]
    Split,
}

impl From<RedisError> for Refusal {
    fn from(error: RedisError) -> Refusal {
        let text = error.to_string();
        match error.kind() {
            // In answer to HELLO, without a password or with a wrong one.
            _ if text.contains("NOAUTH") || text.contains("WRONGPASS") => Refusal::Denied(text.into()),
            ErrorKind::AuthenticationFailed => Refusal::Denied(error.to_string().into()),
            ErrorKind::RESP3NotSupported => Refusal::Old("before 6".into()),
            _ => Refusal::Away(error.to_string().into()),
        }
    }
}

/// By chance between nothing and the whole of it, so that nodes that lost Redis together do not come back together.
pub fn backoff(failures: u32, chance: &mut Chance) -> Duration {
    let most = BACKOFF.0.saturating_mul(1 << failures.min(6)).min(BACKOFF.1);
    Duration::from_micros(chance.below(most.as_micros() as u64 + 1))
}

pub struct Link {
    commands: Wire,
    channels: Wire,
    /// A batch is of one slot.
    pub is_cluster: bool,
    /// SPUBLISH and SSUBSCRIBE.
    pub is_sharded: bool,
    pub version: Box<str>,
}

#[derive(Clone)]
pub enum Wire {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// Finds Redis and connects. What its channels carry goes to `inlet`, as of this `generation`.
pub async fn connect(settings: Arc<Settings>, inlet: Arc<Inlet>, generation: u64) -> Result<Link, Refusal> {
    connect_hearing(&settings, Some((inlet, generation))).await
}

/// One connection more, for commands that wait: whatever else went over it would wait as well.
pub async fn connect_to_wait(settings: &Settings) -> Result<Wire, Refusal> {
    connect_hearing(settings, None).await.map(|link| link.commands)
}

/// To whom what channels carry goes, as of which generation.
type Ear = Option<(Arc<Inlet>, u64)>;

async fn connect_hearing(settings: &Settings, ear: Ear) -> Result<Link, Refusal> {
    let attempt = try_connect(settings, ear);
    timeout(2 * CONNECT_MAX, attempt).await.unwrap_or_else(|_| Err(Refusal::Away("no answer in time".into())))
}

async fn try_connect(settings: &Settings, ear: Ear) -> Result<Link, Refusal> {
    let client = match &settings.servers {
        Servers::Cluster(nodes) => return cluster(settings, nodes, ear).await,
        Servers::One(server) => Client::open(address(settings, server, redis_settings(settings))?)?,
        Servers::Sentinel { sentinels, master, login } => {
            let asked = sentinels.iter().map(|server| address(settings, server, logged_in(login)));
            let asked: Result<Vec<ConnectionInfo>, RedisError> = asked.collect();
            let mut node = SentinelNodeConnectionInfo::default().set_redis_connection_info(redis_settings(settings));
            if settings.is_secure {
                node = node.set_tls_mode(TlsMode::Secure);
            }
            SentinelClient::build(asked?, &**master, Some(node), SentinelServerType::Master)?.async_get_client().await?
        }
    };
    let mut commands = client.get_multiplexed_async_connection_with_config(&config()).await?;
    let about = About::of(commands.send_packed_command(redis::cmd("INFO").arg("server")).await?)?;
    let is_cluster = commands.send_packed_command(redis::cmd("INFO").arg("cluster")).await?;
    if text(&is_cluster).contains("cluster_enabled:1") {
        let Servers::One(server) = &settings.servers else {
            return Err(Refusal::Away("Sentinel names a node of a Cluster".into()));
        };
        if settings.fleet.as_ref().is_some_and(foreign::Fleet::recovers) {
            return Err(Refusal::Split);
        }
        return cluster(settings, std::slice::from_ref(server), ear).await;
    }
    let channels = match ear {
        Some((inlet, generation)) => {
            inlet.begin(generation);
            let config = config().set_push_sender(hear(inlet, generation));
            client.get_multiplexed_async_connection_with_config(&config).await?
        }
        None => commands.clone(),
    };
    Ok(Link {
        commands: Wire::One(commands),
        channels: Wire::One(channels),
        is_cluster: false,
        is_sharded: false,
        version: about.version,
    })
}

async fn cluster(settings: &Settings, nodes: &[Server], ear: Ear) -> Result<Link, Refusal> {
    let builder = || -> Result<ClusterClientBuilder, RedisError> {
        // A Cluster has one database.
        let info = redis_settings(settings).set_db(0);
        let nodes: Result<Vec<ConnectionInfo>, RedisError> =
            nodes.iter().map(|server| address(settings, server, info.clone())).collect();
        let mut builder = ClusterClientBuilder::new(nodes?)
            .use_protocol(ProtocolVersion::RESP3)
            .connection_timeout(CONNECT_MAX)
            .response_timeout(ANSWER_MAX)
            .overall_response_timeout(Some(ANSWER_MAX))
            // Moved slots are followed; what is refused for longer comes back here.
            .retries(4)
            .min_retry_wait(20)
            .max_retry_wait(200);
        if let Some(user) = &settings.login.user {
            builder = builder.username(user);
        }
        if let Some(password) = &settings.login.password {
            builder = builder.password(password);
        }
        if settings.is_secure {
            builder = builder.tls(TlsMode::Secure);
        }
        Ok(builder)
    };
    let mut commands = builder()?.build()?.get_async_connection().await?;
    let mut ask = redis::cmd("INFO");
    ask.arg("server");
    let any = RoutingInfo::SingleNode(SingleNodeRoutingInfo::Random);
    let about = About::of(commands.route_command(ask, any).await?)?;
    let channels = match ear {
        Some((inlet, generation)) => {
            inlet.begin(generation);
            builder()?.push_sender(hear(inlet, generation)).build()?.get_async_connection().await?
        }
        None => commands.clone(),
    };
    Ok(Link {
        commands: Wire::Cluster(commands),
        channels: Wire::Cluster(channels),
        is_cluster: true,
        is_sharded: about.major >= VERSION_SHARDED,
        version: about.version,
    })
}

fn redis_settings(settings: &Settings) -> RedisConnectionInfo {
    logged_in(&settings.login)
        .set_protocol(ProtocolVersion::RESP3)
        .set_lib_name("tenantcast", env!("CARGO_PKG_VERSION"))
        .set_db(settings.db.into())
}

fn logged_in(login: &Login) -> RedisConnectionInfo {
    let mut info = RedisConnectionInfo::default();
    if let Some(user) = &login.user {
        info = info.set_username(user);
    }
    if let Some(password) = &login.password {
        info = info.set_password(password);
    }
    info
}

fn address(settings: &Settings, server: &Server, redis: RedisConnectionInfo) -> Result<ConnectionInfo, RedisError> {
    let (host, port) = (String::from(&*server.host), server.port);
    let address = if settings.is_secure {
        ConnectionAddr::TcpTls { host: host.clone(), port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host.clone(), port)
    };
    Ok((host, port).into_connection_info()?.set_addr(address).set_redis_settings(redis))
}

fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT_MAX)).set_response_timeout(Some(ANSWER_MAX))
}

/// What a connection does with what it is pushed: called on its task, so it only puts it aside.
fn hear(inlet: Arc<Inlet>, generation: u64) -> impl Fn(PushInfo) -> Result<(), ()> + Send + Sync + 'static {
    move |push| {
        match push.kind {
            PushKind::Message | PushKind::SMessage => {
                let mut data = push.data.into_iter();
                if let (Some(Value::BulkString(channel)), Some(Value::BulkString(frame))) = (data.next(), data.next()) {
                    inlet.frame(generation, channel, frame);
                }
            }
            PushKind::PMessage => {
                let mut data = push.data.into_iter().skip(1);
                if let (Some(Value::BulkString(channel)), Some(Value::BulkString(frame))) = (data.next(), data.next()) {
                    inlet.frame(generation, [&[BY_PATTERN], &channel[..]].concat(), frame);
                }
            }
            // Of a node that gave the slot away, or of one we asked: who asked ignores it.
            PushKind::SUnsubscribe => {
                if let Some(Value::BulkString(channel)) = push.data.into_iter().next() {
                    inlet.ended(generation, channel);
                }
            }
            PushKind::Disconnection => inlet.broken(generation),
            _ => {}
        }
        Ok(())
    }
}

impl Link {
    pub fn commands(&self) -> Wire {
        self.commands.clone()
    }

    pub fn channels(&self) -> Wire {
        self.channels.clone()
    }
}

impl Wire {
    /// Sends a batch whose keys are all in the slot of `key`. An error means that nobody knows what was done.
    pub async fn send(mut self, pipeline: Pipeline, key: String) -> Result<Vec<Value>, RedisError> {
        let count = pipeline.len();
        match &mut self {
            Wire::One(connection) => connection.send_packed_commands(&pipeline, 0, count).await,
            Wire::Cluster(connection) => {
                let route = SingleNodeRoutingInfo::SpecificNode(Route::with_key(key, SlotAddr::Master));
                connection.route_pipeline(pipeline, 0, count, route).await
            }
        }
    }

    /// Subscribes and unsubscribes, in order; answers which were confirmed.
    pub async fn subscribe(self, changes: Vec<(String, bool)>, sharded: bool) -> Result<Vec<bool>, RedisError> {
        let name = |subscribe| match (subscribe, sharded) {
            (true, false) => "SUBSCRIBE",
            (false, false) => "UNSUBSCRIBE",
            (true, true) => "SSUBSCRIBE",
            (false, true) => "SUNSUBSCRIBE",
        };
        self.listen(changes.into_iter().map(|(channel, subscribe)| (name(subscribe), channel)).collect()).await
    }

    /// As [`subscribe`](Self::subscribe), by the commands' names. One command a channel: the answer to one with several is several.
    pub async fn listen(mut self, changes: Vec<(&'static str, String)>) -> Result<Vec<bool>, RedisError> {
        match &mut self {
            Wire::One(_) => {
                let mut pipeline = redis::pipe();
                for (name, channel) in &changes {
                    pipeline.cmd(name).arg(channel);
                }
                let values = self.send(pipeline, String::new()).await?;
                Ok(values.iter().map(|value| !matches!(value, Value::ServerError(_))).collect())
            }
            Wire::Cluster(connection) => {
                let mut tasks = JoinSet::new();
                let mut confirmed = vec![false; changes.len()];
                for (nth, (name, channel)) in changes.into_iter().enumerate() {
                    let mut connection = connection.clone();
                    tasks.spawn(async move {
                        let route = SingleNodeRoutingInfo::SpecificNode(Route::with_key(&channel, SlotAddr::Master));
                        let mut cmd = redis::cmd(name);
                        cmd.arg(&channel);
                        let answer = connection.route_command(cmd, RoutingInfo::SingleNode(route)).await;
                        (nth, answer.is_ok_and(|value| !matches!(value, Value::ServerError(_))))
                    });
                }
                while let Some(ended) = tasks.join_next().await {
                    if let Ok((nth, is_ok)) = ended {
                        confirmed[nth] = is_ok;
                    }
                }
                Ok(confirmed)
            }
        }
    }

    /// Whether it answers. A Cluster's node that does not is noticed by who uses it.
    pub async fn ping(mut self) -> bool {
        match &mut self {
            Wire::One(connection) => {
                let ping = redis::cmd("PING");
                let answer = timeout(PING_MAX, connection.send_packed_command(&ping)).await;
                // One that is loading its data, or refuses, is there.
                answer.is_ok_and(|answer| answer.is_ok())
            }
            Wire::Cluster(_) => true,
        }
    }
}

struct About {
    version: Box<str>,
    major: u32,
}

impl About {
    /// What `INFO server` says. Valkey says which Redis it is like.
    fn of(info: Value) -> Result<About, Refusal> {
        if let Value::ServerError(error) = &info {
            return match error.kind() {
                // Whoever may not ask is taken at its word.
                Some(ServerErrorKind::NoPerm) => Ok(About { version: "unknown".into(), major: VERSION_SHARDED }),
                _ if matches!(error.code(), "NOAUTH" | "WRONGPASS") => Err(Refusal::Denied(error.to_string().into())),
                _ => Err(Refusal::Away(error.to_string().into())),
            };
        }
        let text = text(&info);
        let version = text.lines().find_map(|line| line.trim().strip_prefix("redis_version:"));
        let Some(version) = version else { return Err(Refusal::Away("INFO does not say a version".into())) };
        let mut numbers = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if (major, minor) < VERSION_MIN {
            return Err(Refusal::Old(version.into()));
        }
        Ok(About { version: version.into(), major })
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => text.clone(),
        _ => String::new(),
    }
}

/// Cryptography for `rediss://`: the one that is here already. Without a choice the first secure connection would panic.
pub fn choose_cryptography() {
    // An embedding program may have chosen.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (info, expected) in [
            ("# Server\r\nredis_version:7.2.4\r\n", Some((7, "7.2.4"))),
            ("redis_version:6.2.0\n", Some((6, "6.2.0"))),
            ("server_name:valkey\r\nvalkey_version:9.1.0\r\nredis_version:7.2.4\r\n", Some((7, "7.2.4"))),
            ("redis_version:255.255.255", Some((255, "255.255.255"))),
            ("redis_version:6.0.16", None),
            ("redis_version:5.0.7", None),
            ("redis_version:", None),
            ("", None),
        ] {
            let about = About::of(Value::BulkString(info.into()));
            assert_eq!(
                about
                    .ok()
                    .map(|about| (about.major, about.version.into_string()))
                    .as_ref()
                    .map(|(major, version)| (*major, &**version)),
                expected,
                "{info}"
            );
        }
    }
}
