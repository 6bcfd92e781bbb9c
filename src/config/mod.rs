//! From flags, environment and file to one validated [`Config`]; floors below see only the small structs made from it.
//!
//! Precedence: flag > environment > file (TOML) > default. Invariants: every value of a `Config` is within its range, and every error says
//! where the value was given, which key it is, and why it will not do. Values of secrets appear in no error and no Debug output.
//!
//! **Development mode** is on when nothing says otherwise: no key to verify tokens with is configured, no file is given, and `HOST` is not
//! set or is a loopback address. The server then listens on loopback and makes its own key ([`development`]). In every other case a
//! missing key is an error.
//!
//! A path in the file is relative to the file; one in the environment or on the command line to the working directory.

pub mod development;
mod env;
mod error;
mod fleet;
mod key;
mod profile;
mod raw;
mod redis;
#[cfg(test)]
mod tests;

pub use env::{CONFIG, Env, variable};
pub use error::{Error, Origin};
pub use fleet::{Adapter, Fleet};
pub use key::{KEYS, Key};
pub use redis::{Host, Redis};

use crate::base::id::NodeId;
use crate::base::limit::{Limits, NAMESPACES_PER_SESSION_MAX, ROOM_LINGER, SHARDS_MAX};
use crate::base::time::Duration;
use crate::profile::{Profile, file};
use crate::wire::auth::{ApiKeys, Keys, Pattern, Policy, SECRET_BYTES_ADVISED};
use raw::{Raw, out_of};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// What a configuration is made from, besides its file.
#[derive(Default)]
pub struct Sources {
    /// `--config`; without it [`CONFIG`] of the environment.
    pub file: Option<PathBuf>,
    /// Flags that were given: name as written, path of its key, value.
    pub flags: Vec<(&'static str, &'static str, String)>,
    pub env: Env,
}

#[derive(Clone, Debug)]
pub struct Config {
    pub mode: Mode,
    pub server: Server,
    pub auth: Auth,
    pub api_keys: ApiKeys,
    /// The application.
    pub profile: Profile,
    pub socket_io: SocketIo,
    pub history: History,
    pub limits: Limits,
    pub drain: Drain,
    /// How long a user stays present without a sign of life from its node.
    pub presence_ttl: Duration,
    /// How long an event waits for an offline user.
    pub offline_ttl: Duration,
    /// Events that wait for one user; 0: none.
    pub offline_per_user: u32,
    pub cache: Cache,
    /// `None`: everything lives in memory.
    pub redis: Option<Redis>,
    /// Of no meaning without it.
    pub fleet: Fleet,
    /// What is allowed and unwise, one line each, for the log.
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The directory the key is kept in: see [`development`].
    Development(PathBuf),
    Production,
}

#[derive(Clone, Debug)]
pub struct Server {
    /// The public address. Port 0: the system chooses.
    pub address: SocketAddr,
    pub admin_address: SocketAddr,
    /// 1 to [`SHARDS_MAX`]. Default: the processors this process may use.
    pub shards: u8,
    /// Tenants whose connections stay on the shards that accepted them: too big for one core.
    pub spread: Box<[Pattern]>,
    /// How far apart a busy shard's turns are at least: it answers so much later and wakes so much less often. Zero: a turn for each event.
    pub gather: Duration,
    /// Origins a browser may come from (`FRONTEND_URL`), without a path; `*` is any. Empty: only pages of the server's own origin.
    pub frontend: Box<[Box<str>]>,
    /// `None`: drawn at start.
    pub node: Option<NodeId>,
    /// The ports may be another process' that is about to drain, and the next one may take them over from this one.
    pub takeover: bool,
    /// A level, or directives as `info,tenantcast::shard=debug`.
    pub log_level: String,
    pub sentry_dsn: Option<Secret>,
}

#[derive(Clone, Debug)]
pub struct Auth {
    pub policy: Policy,
    /// How long a socket may stay without a token where a profile allows a late one.
    pub deadline: Duration,
    /// `None` in development mode, where the key is made at first use: ask [`Config::keys`].
    keys: Option<Keys>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketIo {
    /// Starts and ends with a slash.
    pub path: String,
    pub namespaces: Vec<String>,
    pub ping_interval: Duration,
    pub ping_timeout: Duration,
    pub connect_timeout: Duration,
    /// How long a disconnected session can come back to what it missed. `None`: recovery is off.
    pub recovery: Option<Duration>,
}

/// How much of a room is kept: the first matching rule counts, then the default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    pub default: Retention,
    pub rooms: Vec<(Pattern, Retention)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    pub events: u32,
    pub ttl: Duration,
}

impl History {
    pub fn of(&self, room: &str) -> Retention {
        self.rooms.iter().find(|(pattern, _)| pattern.matches(room)).map_or(self.default, |&(_, retention)| retention)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// How long sockets may take to leave.
    pub timeout: Duration,
    /// Sessions are closed one after the other within this.
    pub spread: Duration,
    /// Sessions closed in a second, in place of `spread`; 0: none is set.
    pub rate: u32,
}

impl Drain {
    /// How long closing so many sessions takes. The last fifth of the drain's time is for what is owed to them.
    pub fn spread(&self, sessions: u64) -> Duration {
        let spread = match self.rate {
            0 => self.spread,
            rate => Duration::from_millis(sessions.saturating_mul(1000) / u64::from(rate)),
        };
        spread.min(self.timeout * 4 / 5)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cache {
    pub ttl: Duration,
    pub items_max: u64,
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl Config {
    /// Reads the file, lays environment and flags over it, checks everything. The only other files read are those that hold keys.
    pub fn load(sources: &Sources) -> Result<Config, Error> {
        let file = sources.file.clone().or_else(|| sources.env.get(CONFIG).map(PathBuf::from));
        let mut raw = Raw::default();
        if let Some(path) = &file {
            raw.add_file(path, &read(path)?)?;
        }
        sources.env.add_to(&mut raw)?;
        for (flag, path, value) in &sources.flags {
            if let Some(key) = key::find(path) {
                raw.add_text(key, value.clone(), Origin::Flag(flag));
            }
        }
        build(&raw, file.as_deref(), &sources.env)
    }

    /// The keys tokens are verified with. In development mode the key is read, and made where there is none yet.
    pub fn keys(&self) -> Result<Keys, Error> {
        match (&self.auth.keys, &self.mode) {
            (Some(keys), _) => Ok(keys.clone()),
            (None, Mode::Development(directory)) => {
                let secret = development::secret(directory)?;
                Keys::from_secret(secret.0.as_bytes()).map_err(|error| missing_key(&error.to_string()))
            }
            (None, Mode::Production) => Err(missing_key("no key to verify tokens with")),
        }
    }

    pub fn is_development(&self) -> bool {
        matches!(self.mode, Mode::Development(_))
    }
}

fn build(raw: &Raw, file: Option<&Path>, env: &Env) -> Result<Config, Error> {
    let mut warnings = Vec::new();
    let keys = keys(raw)?;
    let host = address(raw, "server.host")?;
    let development = keys.is_none() && file.is_none() && host.is_none_or(|host| host.is_loopback());
    if keys.is_none() && !development {
        return Err(match (file, host) {
            (Some(path), _) => {
                let origin = Origin::File { path: path.into(), line: 0 };
                Error::Value { origin, key: "auth.secret".into(), reason: no_key("no key to verify tokens with") }
            }
            (None, Some(host)) => {
                missing_key(&format!("no key to verify tokens with, and development mode does not listen on {host}"))
            }
            (None, None) => missing_key("no key to verify tokens with"),
        });
    }
    if let Some(keys) = &keys {
        if keys.has_short_secret() {
            warnings.push(format!(
                "auth.secret: shorter than {SECRET_BYTES_ADVISED} bytes, it can be guessed from one token"
            ));
        }
        warnings.extend(keys.skipped().iter().map(|skipped| format!("auth.jwks_file: not used: {skipped}")));
    }
    let profile = profile::load(raw)?;
    let redis = redis::load(raw)?;
    let fleet = fleet::load(raw, redis.as_ref())?;
    if redis.is_none() && ["redis.port", "redis.password", "redis.db"].iter().any(|path| raw.is_set(path)) {
        warnings.push("redis: not used, because neither redis.url nor redis.host is given".into());
    }
    let server = server(raw, host, development)?;
    if server.shards == 1 && !server.spread.is_empty() {
        warnings.push("server.spread: of no use with one shard".into());
    }
    let mode = if development { Mode::Development(development::directory(env)) } else { Mode::Production };
    Ok(Config {
        server,
        auth: Auth {
            policy: policy(raw, &profile)?,
            deadline: ms(raw, "auth.deadline_ms", 10_000, 100, 600_000)?,
            keys,
        },
        api_keys: api_keys(raw)?,
        socket_io: socket_io(raw, &profile)?,
        history: history(raw, &profile)?,
        limits: limits(raw, &profile)?,
        drain: drain(raw)?,
        presence_ttl: seconds(raw, "presence.ttl_s", 60)?,
        offline_ttl: seconds(raw, "offline.ttl_s", 86_400)?,
        offline_per_user: raw.number("offline.per_user", 1000, 0..=100_000)? as u32,
        cache: Cache {
            ttl: seconds(raw, "cache.ttl_s", 300)?,
            items_max: raw.number("cache.max_items", 10_000, 1..=100_000_000)?,
        },
        redis,
        fleet,
        profile,
        mode,
        warnings,
    })
}

fn drain(raw: &Raw) -> Result<Drain, Error> {
    if raw.is_set("drain.rate") && raw.is_set("drain.spread_ms") {
        return Err(
            raw.error("drain.rate", "drain.spread_ms is given too: one of them says how fast sessions are closed")
        );
    }
    Ok(Drain {
        timeout: ms(raw, "drain.timeout_ms", 10_000, 0, 600_000)?,
        spread: ms(raw, "drain.spread_ms", 5_000, 0, 600_000)?,
        rate: raw.number("drain.rate", 0, 0..=10_000_000)? as u32,
    })
}

fn missing_key(why: &str) -> Error {
    Error::Missing { key: "auth.secret", reason: no_key(why) }
}

fn no_key(why: &str) -> String {
    let keys = "secret, public_key_file, jwks_file in section [auth]";
    format!("{why}: set JWT_SECRET, JWT_PUBLIC_KEY_FILE or JWKS_FILE, or one of {keys}")
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|error| Error::Unreadable { path: path.into(), error })
}

fn keys(raw: &Raw) -> Result<Option<Keys>, Error> {
    if raw.is_set("auth.jwks_url") {
        raw.text("auth.jwks_url")?;
        return Err(
            raw.error("auth.jwks_url", "fetching keys needs the control plane: not available yet, use auth.jwks_file")
        );
    }
    let sources = ["auth.secret", "auth.public_key_file", "auth.jwks_file"];
    let mut given = sources.into_iter().filter(|path| raw.is_set(path));
    let Some(path) = given.next() else { return Ok(None) };
    if let Some(second) = given.next() {
        return Err(raw.error(second, format!("{path} is given too: several keys go into one JWKS file")));
    }
    let text = raw.text(path)?.unwrap_or_default();
    let keys = if path == "auth.secret" {
        Keys::from_secret(text.as_bytes())
    } else {
        let file = match raw.origin(path) {
            Some(Origin::File { path, .. }) => path.parent().unwrap_or(Path::new("")).join(&text),
            _ => PathBuf::from(&text),
        };
        let content = std::fs::read_to_string(&file)
            .map_err(|error| raw.error(path, format!("{} cannot be read: {error}", file.display())))?;
        if path == "auth.jwks_file" { Keys::from_jwks(&content) } else { Keys::from_public_pem(&content) }
    };
    keys.map(Some).map_err(|error| raw.error(path, error.to_string()))
}

fn address(raw: &Raw, path: &'static str) -> Result<Option<IpAddr>, Error> {
    match raw.text(path)?.as_deref().map(str::trim) {
        None => Ok(None),
        Some("localhost") => Ok(Some(Ipv4Addr::LOCALHOST.into())),
        Some(text) => {
            let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
            bare.parse().map(Some).map_err(|_| raw.error(path, "must be an IP address or `localhost`"))
        }
    }
}

fn server(raw: &Raw, host: Option<IpAddr>, development: bool) -> Result<Server, Error> {
    let default = if development { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
    let host = host.unwrap_or(default.into());
    let admin_host = address(raw, "server.admin_host")?.unwrap_or(Ipv4Addr::LOCALHOST.into());
    let port = raw.number("server.port", 3000, 0..=65_535)? as u16;
    let admin_port = raw.number("server.admin_port", 3001, 0..=65_535)? as u16;
    if port == admin_port && port != 0 {
        let path = if raw.is_set("server.admin_port") { "server.admin_port" } else { "server.port" };
        return Err(raw.error(path, format!("the public and the admin port are both {port}")));
    }
    let gather = Duration::from_micros(raw.number("server.gather_us", 200, 0..=10_000)?);
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(usize::from(SHARDS_MAX)) as u64);
    let shards = match raw.number("server.shards", 0, 0..=u64::from(SHARDS_MAX))? {
        0 => cores,
        shards => shards,
    };
    let node =
        if raw.is_set("server.node") { Some(NodeId(raw.number("server.node", 0, 0..=65_535)? as u16)) } else { None };
    Ok(Server {
        address: SocketAddr::new(host, port),
        admin_address: SocketAddr::new(admin_host, admin_port),
        shards: shards as u8,
        spread: spread(raw)?,
        gather,
        frontend: frontend(raw)?,
        node,
        takeover: raw.flag("server.takeover", false)?,
        log_level: log_level(raw)?,
        sentry_dsn: raw.text("server.sentry_dsn")?.map(Secret),
    })
}

fn spread(raw: &Raw) -> Result<Box<[Pattern]>, Error> {
    let path = "server.spread";
    let patterns = raw.list(path)?.unwrap_or_default();
    let parsed = patterns.iter().enumerate().map(|(index, text)| {
        Pattern::parse(text).map_err(|error| raw.error(path, format!("entry {}: {error}", index + 1)))
    });
    parsed.collect()
}

/// Origins (RFC 6454): users write whole addresses, of which scheme, host and port count.
fn frontend(raw: &Raw) -> Result<Box<[Box<str>]>, Error> {
    let path = "server.frontend_url";
    let wrong = || raw.error(path, "must be `*` or addresses that start with http:// or https://");
    raw.list(path)?
        .unwrap_or_default()
        .iter()
        .map(|url| {
            if url == "*" {
                return Ok(Box::from("*"));
            }
            let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
            let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
            if !matches!(scheme, "http" | "https") || host.is_empty() || host.contains(char::is_whitespace) {
                return Err(wrong());
            }
            Ok(format!("{scheme}://{}", host.to_ascii_lowercase()).into())
        })
        .collect()
}

fn log_level(raw: &Raw) -> Result<String, Error> {
    let path = "server.log_level";
    let Some(text) = raw.text(path)? else { return Ok("info".into()) };
    let text = text.trim();
    let level = text.to_ascii_lowercase();
    if ["off", "error", "warn", "info", "debug", "trace"].contains(&level.as_str()) {
        return Ok(level);
    }
    // A single unknown word would be taken for a module's name, and everything else fall silent.
    let directives = text.contains(['=', ',']) && tracing_subscriber::EnvFilter::try_new(text).is_ok();
    if directives {
        Ok(text.into())
    } else {
        Err(raw.error(path, "must be off, error, warn, info, debug, trace or directives"))
    }
}

fn policy(raw: &Raw, profile: &Profile) -> Result<Policy, Error> {
    let default = Policy::default();
    let claims = &profile.claims;
    let or = |given: &[Box<str>], default: Box<[Box<str>]>| if given.is_empty() { default } else { given.into() };
    let names = |path| -> Result<Option<Box<[Box<str>]>>, Error> {
        match raw.list(path)? {
            Some(list) if list.is_empty() || list.iter().any(|name| name.is_empty()) => {
                Err(raw.error(path, "must hold at least one name, and no empty one"))
            }
            list => Ok(list.map(|list| list.into_iter().map(Box::from).collect())),
        }
    };
    Ok(Policy {
        audience: names("auth.audience")?.unwrap_or_default(),
        issuer: names("auth.issuer")?.unwrap_or_default(),
        user_claims: names("auth.user_claims")?.unwrap_or_else(|| or(&claims.user, default.user_claims)),
        tenant_claims: names("auth.tenant_claims")?.unwrap_or_else(|| or(&claims.tenant, default.tenant_claims)),
        role_claims: or(&claims.roles, default.role_claims),
        single_tenant: claims.single_tenant.clone(),
        leeway: ms(raw, "auth.leeway_ms", 0, 0, 300_000)?,
    })
}

fn api_keys(raw: &Raw) -> Result<ApiKeys, Error> {
    let entries = raw.list("api.keys")?.unwrap_or_default();
    ApiKeys::parse(entries.iter().map(String::as_str)).map_err(|error| raw.error("api.keys", error.to_string()))
}

fn socket_io(raw: &Raw, profile: &Profile) -> Result<SocketIo, Error> {
    let mut path = raw.text("socketio.path")?.unwrap_or_else(|| "/socket.io/".into());
    if !path.starts_with('/') || path.contains(|c: char| c == '?' || c == '#' || c.is_whitespace()) {
        return Err(raw.error("socketio.path", "must start with a slash and hold no `?`, `#` or space"));
    }
    if !path.ends_with('/') {
        path.push('/');
    }
    let namespaces = raw.list("socketio.namespaces")?;
    let namespaces = namespaces.unwrap_or_else(|| profile.namespaces.iter().map(|name| name.to_string()).collect());
    // The wire ends a namespace's name at a comma, and the client splits a query off at `?`.
    let plain = |name: &String| name.starts_with('/') && name.len() <= 256 && !name.contains([',', '?']);
    if namespaces.is_empty() || namespaces.len() > NAMESPACES_PER_SESSION_MAX || !namespaces.iter().all(plain) {
        let reason = format!(
            "must be 1 to {NAMESPACES_PER_SESSION_MAX} names of at most 256 bytes that start with a slash and hold no comma or `?`"
        );
        return Err(raw.error("socketio.namespaces", reason));
    }
    let recovery = ms(raw, "socketio.recovery_ms", 120_000, 0, ROOM_LINGER.as_millis() as u64)?;
    Ok(SocketIo {
        path,
        namespaces,
        ping_interval: ms(raw, "socketio.ping_interval_ms", profile.ping_interval_ms.unwrap_or(25_000), 50, 3_600_000)?,
        ping_timeout: ms(raw, "socketio.ping_timeout_ms", profile.ping_timeout_ms.unwrap_or(20_000), 50, 3_600_000)?,
        connect_timeout: ms(raw, "socketio.connect_timeout_ms", 45_000, 50, 600_000)?,
        recovery: (!recovery.is_zero()).then_some(recovery),
    })
}

const HISTORY_EVENTS_MAX: u64 = 100_000;
const HISTORY_TTL_MS_MAX: u64 = 86_400_000;

fn history(raw: &Raw, profile: &Profile) -> Result<History, Error> {
    let kept = profile.history.unwrap_or(file::History { events: 100, ttl_s: 300 });
    let default = Retention {
        events: raw.number("history.events", kept.events.into(), 0..=HISTORY_EVENTS_MAX)? as u32,
        ttl: ms(raw, "history.ttl_ms", kept.ttl_s * 1000, 0, HISTORY_TTL_MS_MAX)?,
    };
    let path = "history.rooms";
    let mut rooms = Vec::new();
    for (index, table) in raw.tables(path, &["pattern", "events", "ttl_ms"])?.iter().enumerate() {
        let number = |name: &str, default: u64, max: u64| match table.get(name) {
            None => Ok(default),
            Some(value) => value
                .as_integer()
                .and_then(|number| u64::try_from(number).ok())
                .filter(|&number| number <= max)
                .ok_or_else(|| raw.error_in(path, index, name, out_of(&(0..=max)))),
        };
        let pattern = table.get("pattern").and_then(toml::Value::as_str);
        let pattern = pattern.ok_or_else(|| raw.error_in(path, index, "pattern", "must be a string"))?;
        let pattern =
            Pattern::parse(pattern).map_err(|error| raw.error_in(path, index, "pattern", error.to_string()))?;
        let events = number("events", default.events.into(), HISTORY_EVENTS_MAX)? as u32;
        let ttl = Duration::from_millis(number("ttl_ms", default.ttl.as_millis() as u64, HISTORY_TTL_MS_MAX)?);
        rooms.push((pattern, Retention { events, ttl }));
    }
    // The operator's rules come first.
    rooms.extend(profile.rooms.rules().filter_map(|rule| {
        let kept = rule.history?;
        let pattern = Pattern::parse(&rule.pattern.for_all()).ok()?;
        Some((pattern, Retention { events: kept.events, ttl: Duration::from_secs(kept.ttl_s) }))
    }));
    Ok(History { default, rooms })
}

fn limits(raw: &Raw, profile: &Profile) -> Result<Limits, Error> {
    let mut limits = Limits::default();
    for (name, value, max) in limits.each() {
        let key = KEYS.iter().find(|key| key.section() == "limits" && key.name() == name);
        let Some(key) = key else { continue };
        let default = profile.limits.get(name).copied().unwrap_or((*value).into());
        *value = raw.number(key.path, default, 0..=max)? as u32;
    }
    Ok(limits)
}

fn ms(raw: &Raw, path: &'static str, default: u64, min: u64, max: u64) -> Result<Duration, Error> {
    raw.number(path, default, min..=max).map(Duration::from_millis)
}

fn seconds(raw: &Raw, path: &'static str, default: u64) -> Result<Duration, Error> {
    raw.number(path, default, 1..=31_536_000).map(Duration::from_secs)
}
