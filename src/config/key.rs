//! Every key of the configuration: its section and name in the file, and the environment name its users already have, if there is one.
//!
//! The tables are the one place a key is declared. Reading a key that is not here is a bug ([`super::raw::Raw`] asserts), a key here that
//! nobody reads fails a test, and both files and the environment are checked against them.

/// One key: `section.name`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// `section.name`; in the environment `TENANTCAST_SECTION__NAME`.
    pub path: &'static str,
    /// Its short environment name (contract: section "One binary").
    pub env: Option<&'static str>,
    /// Its value is never printed.
    pub secret: bool,
}

const fn key(path: &'static str) -> Key {
    Key { path, env: None, secret: false }
}

impl Key {
    const fn env(self, name: &'static str) -> Key {
        Key { env: Some(name), ..self }
    }

    const fn secret(self) -> Key {
        Key { secret: true, ..self }
    }

    /// Within its section.
    pub fn name(&self) -> &'static str {
        self.path.split_once('.').map_or(self.path, |(_, name)| name)
    }

    pub fn section(&self) -> &'static str {
        self.path.split_once('.').map_or("", |(section, _)| section)
    }
}

pub const KEYS: &[Key] = &[
    key("server.host").env("HOST"),
    key("server.port").env("PORT"),
    key("server.admin_host"),
    key("server.admin_port").env("ADMIN_PORT"),
    key("server.shards").env("SHARDS"),
    key("server.spread"),
    key("server.gather_us"),
    key("server.frontend_url").env("FRONTEND_URL"),
    key("server.node"),
    key("server.takeover"),
    key("server.log_level").env("LOG_LEVEL"),
    key("server.profile").env("PROFILE"),
    key("server.sentry_dsn").env("SENTRY_DSN").secret(),
    key("auth.secret").env("JWT_SECRET").secret(),
    key("auth.public_key_file").env("JWT_PUBLIC_KEY_FILE"),
    key("auth.jwks_file").env("JWKS_FILE"),
    key("auth.jwks_url").env("JWKS_URL"),
    key("auth.audience").env("JWT_AUDIENCE"),
    key("auth.issuer").env("JWT_ISSUER"),
    key("auth.user_claims"),
    key("auth.tenant_claims"),
    key("auth.deadline_ms"),
    key("auth.leeway_ms"),
    key("api.keys").env("API_KEYS").secret(),
    key("socketio.path"),
    key("socketio.namespaces"),
    key("socketio.ping_interval_ms").env("WS_PING_INTERVAL"),
    key("socketio.ping_timeout_ms").env("WS_PING_TIMEOUT"),
    key("socketio.connect_timeout_ms"),
    key("socketio.recovery_ms"),
    key("history.events"),
    key("history.ttl_ms"),
    key("history.rooms"),
    key("limits.connections_per_address").env("WS_MAX_CONNECTIONS_PER_IP"),
    key("limits.connections_per_user"),
    key("limits.connections_per_tenant"),
    key("limits.handshakes_per_second_per_address"),
    key("limits.handshake_ms"),
    key("limits.frame_bytes"),
    key("limits.rooms_per_session"),
    key("limits.room_name_bytes"),
    key("limits.events_per_second"),
    key("limits.events_burst"),
    key("limits.tenant_events_per_second"),
    key("limits.outbox_bytes"),
    key("limits.http_body_bytes"),
    key("drain.timeout_ms"),
    key("drain.spread_ms"),
    key("drain.rate"),
    key("presence.ttl_s").env("WS_PRESENCE_TTL"),
    key("offline.ttl_s").env("WS_MESSAGE_QUEUE_TTL"),
    key("offline.per_user"),
    key("cache.ttl_s").env("CACHE_TTL"),
    key("cache.max_items").env("CACHE_MAX_ITEMS"),
    key("redis.url").env("REDIS_URL").secret(),
    key("redis.host").env("REDIS_HOST"),
    key("redis.port").env("REDIS_PORT"),
    key("redis.password").env("REDIS_PASSWORD").secret(),
    key("redis.db").env("REDIS_DB"),
    key("redis.cache_db").env("REDIS_CACHE_DB"),
    key("redis.queue_db").env("REDIS_QUEUE_DB"),
    key("redis.ws_db").env("REDIS_WS_DB"),
    key("redis.user"),
    key("redis.prefix"),
    key("redis.nodes"),
    key("redis.sentinels"),
    key("redis.master"),
    key("redis.sentinel_user"),
    key("redis.sentinel_password").secret(),
    key("redis.journal_bytes"),
    key("fleet.adapter"),
    key("fleet.key"),
    key("fleet.stream"),
    key("fleet.recovery"),
    key("fleet.session_prefix"),
    key("fleet.subscription_mode"),
];

pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_names_are_unique() {
        for (index, a) in KEYS.iter().enumerate() {
            assert!(!a.section().is_empty());
            for b in &KEYS[index + 1..] {
                assert!(a.path != b.path && (a.env.is_none() || a.env != b.env), "{a:?} {b:?}");
            }
        }
    }
}
