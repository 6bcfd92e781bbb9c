//! Section `redis`: where it is, and how much may wait for it.
//!
//! One of four ways says where: `url`; `host` and `port`; `nodes` of a Cluster, of which any tells the others; `sentinels` and the `master`'s
//! name there. A Cluster is also noticed by itself behind one address.

use super::{Secret, error::Error, raw::Raw};
use ::redis::{ConnectionAddr, ConnectionInfo};

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26_379;
const JOURNAL_BYTES: u64 = 64 << 20;

#[derive(Clone, Debug)]
pub struct Redis {
    /// `redis://` or `rediss://`; instead of host and port.
    pub url: Option<Secret>,
    pub host: String,
    pub port: u16,
    pub user: Option<String>,
    pub password: Option<Secret>,
    /// TLS: the URL says `rediss`.
    pub is_secure: bool,
    pub cache_db: u16,
    pub queue_db: u16,
    pub socket_db: u16,
    /// Before every name; nodes with the same one are one fleet.
    pub prefix: String,
    /// Some nodes of a Cluster; empty: there is one address, or Sentinel.
    pub nodes: Vec<Host>,
    pub sentinels: Vec<Host>,
    /// What Sentinel calls the master.
    pub master: Option<String>,
    /// At Sentinel itself, which knows no passwords of Redis.
    pub sentinel_user: Option<String>,
    pub sentinel_password: Option<Secret>,
    /// Bytes of durable events that may wait while Redis is away.
    pub journal_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    pub name: String,
    pub port: u16,
}

impl Host {
    /// `name`, `name:port`, `[v6]:port`.
    fn parse(text: &str, default: u16) -> Option<Host> {
        let text = text.trim();
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (name, rest) = rest.split_once(']')?;
                (name, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
            }
            None => text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port))),
        };
        let is_name = !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || "/@[]".contains(c));
        let port = port.map_or(Some(default), |port| port.parse().ok().filter(|port| *port != 0))?;
        is_name.then(|| Host { name: name.into(), port })
    }
}

pub fn load(raw: &Raw) -> Result<Option<Redis>, Error> {
    let url = raw.text("redis.url")?;
    let parsed = url.as_deref().map(|url| parse(raw, url)).transpose()?;
    let host = raw.text("redis.host")?;
    let small = |path, default: u16| raw.number(path, default.into(), 0..=65_535).map(|number| number as u16);
    let port = small("redis.port", PORT)?;
    let user = raw.text("redis.user")?;
    let password = raw.text("redis.password")?.map(Secret);
    let db = small("redis.db", parsed.as_ref().map_or(0, |parsed| parsed.db))?;
    let (cache_db, queue_db, socket_db) =
        (small("redis.cache_db", db)?, small("redis.queue_db", db)?, small("redis.ws_db", db)?);
    let hosts = |path, port| -> Result<Vec<Host>, Error> {
        let wrong = |entry| raw.error(path, format!("entry {entry}: must be `host` or `host:port`"));
        let list = raw.list(path)?.unwrap_or_default();
        list.iter().enumerate().map(|(at, text)| Host::parse(text, port).ok_or_else(|| wrong(at + 1))).collect()
    };
    let (nodes, sentinels) = (hosts("redis.nodes", PORT)?, hosts("redis.sentinels", SENTINEL_PORT)?);
    let master = raw.text("redis.master")?;
    if !nodes.is_empty() && !sentinels.is_empty() {
        return Err(raw.error("redis.sentinels", "redis.nodes is given too: a Cluster has no Sentinel"));
    }
    if master.is_none() && !sentinels.is_empty() {
        return Err(raw.error("redis.sentinels", "redis.master has to say what they call the master"));
    }
    if master.is_some() && sentinels.is_empty() {
        return Err(raw.error("redis.master", "redis.sentinels has to say where they are"));
    }
    let sentinel_user = raw.text("redis.sentinel_user")?;
    let sentinel_password = raw.text("redis.sentinel_password")?.map(Secret);
    for (path, is_given) in
        [("redis.sentinel_user", sentinel_user.is_some()), ("redis.sentinel_password", sentinel_password.is_some())]
    {
        if is_given && sentinels.is_empty() {
            return Err(raw.error(path, "redis.sentinels has to say where they are"));
        }
    }
    let prefix = raw.text("redis.prefix")?.unwrap_or_else(|| "tc".into());
    if prefix.len() > 64 || prefix.contains(|c: char| c == '{' || c == '}' || c.is_whitespace() || c.is_control()) {
        return Err(raw.error("redis.prefix", "must be 1 to 64 bytes without braces and spaces"));
    }
    let journal_bytes = raw.number("redis.journal_bytes", JOURNAL_BYTES, 1 << 20..=1 << 40)?;
    if url.is_none() && host.is_none() && nodes.is_empty() && sentinels.is_empty() {
        return Ok(None);
    }
    let (from_url, is_secure) = match parsed {
        Some(parsed) => (Some((parsed.host, parsed.port, parsed.user, parsed.password)), parsed.is_secure),
        None => (None, false),
    };
    let given = host.unwrap_or_else(|| "127.0.0.1".into());
    let (host, port, url_user, url_password) = from_url.unwrap_or((given, port, None, None));
    Ok(Some(Redis {
        url: url.map(Secret),
        host,
        port,
        user: user.or(url_user),
        password: password.or(url_password.map(Secret)),
        is_secure,
        cache_db,
        queue_db,
        socket_db,
        prefix,
        nodes,
        sentinels,
        master,
        sentinel_user,
        sentinel_password,
        journal_bytes,
    }))
}

struct Parsed {
    host: String,
    port: u16,
    user: Option<String>,
    password: Option<String>,
    is_secure: bool,
    db: u16,
}

/// Never with the URL in an error: it holds a password.
fn parse(raw: &Raw, url: &str) -> Result<Parsed, Error> {
    let path = "redis.url";
    if !url.starts_with("redis://") && !url.starts_with("rediss://") {
        return Err(raw.error(path, "must start with redis:// or rediss://"));
    }
    let wrong = || raw.error(path, "must be redis://[user[:password]@]host[:port][/db], or the same with rediss://");
    let info: ConnectionInfo = url.parse().map_err(|_| wrong())?;
    let (host, port, is_secure) = match info.addr() {
        ConnectionAddr::Tcp(host, port) => (host.clone(), *port, false),
        ConnectionAddr::TcpTls { insecure: true, .. } => {
            return Err(
                raw.error(path, "`#insecure` is not served: a certificate that is not checked protects nothing")
            );
        }
        ConnectionAddr::TcpTls { host, port, .. } => (host.clone(), *port, true),
        _ => return Err(wrong()),
    };
    let redis = info.redis_settings();
    let db = u16::try_from(redis.db()).map_err(|_| wrong())?;
    let owned = |text: Option<&str>| text.map(str::to_owned);
    Ok(Parsed { host, port, user: owned(redis.username()), password: owned(redis.password()), is_secure, db })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for (text, expected) in [
            ("a", Some(("a", 7))),
            (" a.example:1 ", Some(("a.example", 1))),
            ("10.0.0.1:65535", Some(("10.0.0.1", 65_535))),
            ("[::1]", Some(("::1", 7))),
            ("[::1]:9", Some(("::1", 9))),
            ("", None),
            (":1", None),
            ("a:", None),
            ("a:0", None),
            ("a:65536", None),
            ("::1", None),
            ("[::1", None),
            ("[::1]9", None),
            ("redis://a:1", None),
            ("u:p@a:1", None),
        ] {
            let host = Host::parse(text, 7);
            assert_eq!(host.as_ref().map(|host| (&*host.name, host.port)), expected, "{text}");
        }
    }
}
