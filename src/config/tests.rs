//! Configuration as tables: which source wins, what is refused and how it is said.

//! Configuration from files, environment and flags, and every error it can have.

use super::*;
use std::collections::BTreeSet;

const SECRET: &str = "a-shared-secret-of-the-tests-32-b";

/// The configuration of a file's text, an environment and flags. The file lies in `tests/keys` by name only.
fn load(
    file: Option<&str>,
    env: &[(&str, &str)],
    flags: &[(&'static str, &'static str, &str)],
) -> Result<Config, Error> {
    let env = Env::new(env.iter().map(|&(name, value)| (name.into(), value.into())));
    let mut raw = Raw::default();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keys/t.toml");
    if let Some(text) = file {
        raw.add_file(&path, text)?;
    }
    env.add_to(&mut raw)?;
    for &(flag, path, value) in flags {
        raw.add_text(key::find(path).unwrap(), value.into(), Origin::Flag(flag));
    }
    build(&raw, file.map(|_| &*path), &env)
}

fn with_env(env: &[(&str, &str)]) -> Result<Config, Error> {
    load(None, &[env, &[("JWT_SECRET", SECRET)]].concat(), &[])
}

fn with_file(text: &str) -> Result<Config, Error> {
    load(Some(text), &[("JWT_SECRET", SECRET)], &[])
}

#[test]
fn every_key_of_the_table_is_read() {
    let raw = Raw::default();
    build(&raw, None, &Env::new([])).unwrap();
    let known: BTreeSet<&str> = KEYS.iter().map(|key| key.path).collect();
    assert_eq!(*raw.read.borrow(), known);
}

#[test]
fn flag_before_environment_before_file_before_default() {
    let file = "[server]\nport = 1\n[auth]\nsecret = 'of the file, and long enough for this'";
    let flag: &[(&'static str, &'static str, &str)] = &[("--port", "server.port", "4")];
    for (file, env, flags, port) in [
        (None, &[][..], &[][..], 3000),
        (Some(file), &[], &[], 1),
        (Some(file), &[("PORT", "2")], &[], 2),
        (Some(file), &[("PORT", "")], &[], 1),
        (Some(file), &[("PORT", "2"), ("TENANTCAST_SERVER__PORT", "3")], &[], 3),
        (Some(file), &[("TENANTCAST_SERVER__PORT", "3")], flag, 4),
        (None, &[("PORT", " 2 ")], flag, 4),
    ] {
        assert_eq!(load(file, env, flags).unwrap().server.address.port(), port, "{env:?}");
    }
}

#[test]
fn the_defaults() {
    let config = with_env(&[]).unwrap();
    assert_eq!(config.mode, Mode::Production);
    assert_eq!(config.server.address.to_string(), "0.0.0.0:3000");
    assert_eq!(config.server.admin_address.to_string(), "127.0.0.1:3001");
    assert!(config.server.shards >= 1 && config.server.frontend.is_empty() && config.server.node.is_none());
    assert_eq!((&*config.server.log_level, &*config.profile.name), ("info", "default"));
    assert_eq!(config.auth.policy, Policy::default());
    assert_eq!(config.auth.deadline, Duration::from_secs(10));
    let socket_io = SocketIo {
        path: "/socket.io/".into(),
        namespaces: vec!["/".into()],
        ping_interval: Duration::from_secs(25),
        ping_timeout: Duration::from_secs(20),
        connect_timeout: Duration::from_secs(45),
        recovery: Some(Duration::from_secs(120)),
    };
    assert_eq!(config.socket_io, socket_io);
    let kept = Retention { events: 100, ttl: Duration::from_secs(300) };
    assert_eq!(config.history, History { default: kept, rooms: vec![] });
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.drain, Drain { timeout: Duration::from_secs(10), spread: Duration::from_secs(5), rate: 0 });
    assert!(config.server.spread.is_empty());
    assert!(config.redis.is_none() && config.api_keys.is_empty() && config.warnings.is_empty());
}

#[test]
fn development_mode() {
    let loopback = "127.0.0.1:3000";
    for (file, env, address) in [
        (None, &[][..], Some(loopback)),
        (None, &[("HOST", "127.0.0.1")], Some(loopback)),
        (None, &[("HOST", "localhost")], Some(loopback)),
        (None, &[("HOST", "::1")], Some("[::1]:3000")),
        (None, &[("HOST", "")], Some(loopback)),
        (None, &[("HOST", "0.0.0.0")], None),
        (None, &[("HOST", "192.0.2.1")], None),
        (Some(""), &[], None),
        (Some("[server]\nhost = '127.0.0.1'"), &[], None),
    ] {
        match (load(file, env, &[]), address) {
            (Ok(config), Some(address)) => {
                assert!(config.is_development(), "{env:?}");
                assert_eq!(config.server.address.to_string(), address);
            }
            (Err(error), None) => {
                let text = error.to_string();
                assert!(text.contains("auth.secret: no key") && text.contains("JWT_SECRET"), "{text}");
                assert_eq!(text.contains("t.toml: auth.secret"), file.is_some(), "{text}");
            }
            (result, _) => panic!("{file:?} {env:?}: {result:?}"),
        }
    }
    // An empty secret was meant to be one.
    let error = load(None, &[("JWT_SECRET", "")], &[]).unwrap_err();
    assert_eq!(error.to_string(), "JWT_SECRET: auth.secret: is set, but empty");
    assert_eq!(with_env(&[]).unwrap().mode, Mode::Production);
}

#[test]
fn every_short_name() {
    type Shows = fn(&Config) -> String;
    fn redis(config: &Config) -> &Redis {
        config.redis.as_ref().unwrap()
    }
    let table: &[(&str, &str, Shows, &str)] = &[
        ("HOST", "192.0.2.1", |c| c.server.address.ip().to_string(), "192.0.2.1"),
        ("HOST", "[::]", |c| c.server.address.ip().to_string(), "::"),
        ("PORT", "0", |c| c.server.address.port().to_string(), "0"),
        ("ADMIN_PORT", "9", |c| c.server.admin_address.port().to_string(), "9"),
        ("JWT_AUDIENCE", "a, b", |c| c.auth.policy.audience.join("|"), "a|b"),
        ("JWT_ISSUER", "https://id/", |c| c.auth.policy.issuer.join("|"), "https://id/"),
        ("REDIS_URL", "rediss://u:p@h:1/2", |c| redis(c).url.clone().unwrap().0, "rediss://u:p@h:1/2"),
        ("REDIS_HOST", "other", |c| redis(c).host.clone(), "other"),
        ("REDIS_PORT", "7", |c| redis(c).port.to_string(), "7"),
        ("REDIS_PORT", "tcp://10.0.0.1:6379", |c| redis(c).port.to_string(), "6379"),
        ("REDIS_PASSWORD", "p,w", |c| redis(c).password.clone().unwrap().0, "p,w"),
        ("REDIS_DB", "5", |c| redis(c).cache_db.to_string(), "5"),
        ("REDIS_CACHE_DB", "2", |c| redis(c).cache_db.to_string(), "2"),
        ("REDIS_QUEUE_DB", "3", |c| redis(c).queue_db.to_string(), "3"),
        ("REDIS_WS_DB", "4", |c| redis(c).socket_db.to_string(), "4"),
        ("REDIS_URL", "rediss://u:p@h:1/2", |c| redis(c).socket_db.to_string(), "2"),
        ("REDIS_URL", "rediss://u:p%40@h:1/2", |c| redis(c).password.clone().unwrap().0, "p@"),
        (
            "REDIS_URL",
            "redis://h",
            |c| format!("{}:{} {}", redis(c).host, redis(c).port, redis(c).is_secure),
            "h:6379 false",
        ),
        ("TENANTCAST_REDIS__USER", "app", |c| redis(c).user.clone().unwrap(), "app"),
        ("TENANTCAST_REDIS__PREFIX", "app:rt", |c| redis(c).prefix.clone(), "app:rt"),
        ("TENANTCAST_REDIS__JOURNAL_BYTES", "2000000", |c| redis(c).journal_bytes.to_string(), "2000000"),
        ("TENANTCAST_REDIS__NODES", "a,b:7", |c| redis(c).nodes.iter().map(|h| h.port.to_string()).collect(), "63797"),
        ("CACHE_TTL", "60", |c| c.cache.ttl.as_secs().to_string(), "60"),
        ("CACHE_MAX_ITEMS", "7", |c| c.cache.items_max.to_string(), "7"),
        ("FRONTEND_URL", "https://App.example/x/, *", |c| c.server.frontend.join("|"), "https://app.example|*"),
        ("WS_PING_INTERVAL", "300", |c| c.socket_io.ping_interval.as_millis().to_string(), "300"),
        ("WS_PING_TIMEOUT", "200", |c| c.socket_io.ping_timeout.as_millis().to_string(), "200"),
        ("WS_MAX_CONNECTIONS_PER_IP", "10", |c| c.limits.connections_per_address.to_string(), "10"),
        ("WS_MESSAGE_QUEUE_TTL", "5", |c| c.offline_ttl.as_secs().to_string(), "5"),
        ("TENANTCAST_OFFLINE__PER_USER", "0", |c| c.offline_per_user.to_string(), "0"),
        ("WS_PRESENCE_TTL", "6", |c| c.presence_ttl.as_secs().to_string(), "6"),
        ("API_KEYS", "one,acme=two,", |c| c.api_keys.len().to_string(), "2"),
        ("SHARDS", "3", |c| c.server.shards.to_string(), "3"),
        ("TENANTCAST_SERVER__SPREAD", "acme, big-*", |c| format!("{:?}", c.server.spread), r#"["acme", "big-*"]"#),
        ("SENTRY_DSN", "https://k@s/1", |c| c.server.sentry_dsn.clone().unwrap().0, "https://k@s/1"),
        ("LOG_LEVEL", "DEBUG", |c| c.server.log_level.clone(), "debug"),
        ("LOG_LEVEL", "info,tenantcast::shard=trace", |c| c.server.log_level.clone(), "info,tenantcast::shard=trace"),
        ("PROFILE", "default", |c| c.profile.name.to_string(), "default"),
        ("TENANTCAST_LIMITS__FRAME_BYTES", "5", |c| c.limits.frame_bytes.to_string(), "5"),
        ("TENANTCAST_SERVER__TAKEOVER", "true", |c| c.server.takeover.to_string(), "true"),
        ("TENANTCAST_DRAIN__RATE", "200", |c| format!("{:?}", c.drain.spread(1000)), "5s"),
        ("TENANTCAST_SERVER__NODE", "65535", |c| format!("{:?}", c.server.node), "Some(NodeId(65535))"),
        ("TENANTCAST_SOCKETIO__NAMESPACES", "/,/chat", |c| c.socket_io.namespaces.join("|"), "/|/chat"),
        ("TENANTCAST_SOCKETIO__NAMESPACES", r#"["/", "/chat"]"#, |c| c.socket_io.namespaces.join("|"), "/|/chat"),
        ("TENANTCAST_SOCKETIO__RECOVERY_MS", "0", |c| format!("{:?}", c.socket_io.recovery), "None"),
        ("TENANTCAST_SOCKETIO__PATH", "/rt", |c| c.socket_io.path.clone(), "/rt/"),
        (
            "TENANTCAST_HISTORY__ROOMS",
            r#"[{pattern = "p:*", events = 7}]"#,
            |c| c.history.of("p:1").events.to_string(),
            "7",
        ),
        ("TENANTCAST_AUTH__TENANT_CLAIMS", "workspace", |c| c.auth.policy.tenant_claims.join("|"), "workspace"),
        ("TENANTCAST_FLEET__ADAPTER", "sharded", |c| format!("{:?}", c.fleet.adapter), "Sharded"),
        ("TENANTCAST_FLEET__SUBSCRIPTION_MODE", "static", |c| format!("{:?}", c.fleet.mode), "Static"),
        ("TENANTCAST_FLEET__KEY", "app", |c| format!("{} {}", c.fleet.key, c.fleet.stream), "app socket.io"),
        ("TENANTCAST_AUTH__LEEWAY_MS", "500", |c| c.auth.policy.leeway.as_millis().to_string(), "500"),
    ];
    for (name, value, shows, expected) in table {
        let host = if *name == "REDIS_HOST" { ("SHARDS", "1") } else { ("REDIS_HOST", "h") };
        let config = with_env(&[host, (name, value)]);
        let config = config.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(shows(&config), *expected, "{name}={value}");
    }
    // The rest of the names choose the key.
    let covered: BTreeSet<&str> = table.iter().map(|row| row.0).collect();
    let keys = ["JWT_SECRET", "JWT_PUBLIC_KEY_FILE", "JWKS_FILE", "JWKS_URL"];
    let short = KEYS.iter().filter_map(|key| key.env).filter(|name| !keys.contains(name));
    assert!(short.clone().all(|name| covered.contains(name)), "{:?}", short.collect::<Vec<_>>());
    // Every key has a long name that is understood.
    for key in KEYS {
        let env = Env::new([(variable(key).into(), "x".into())]);
        let mut raw = Raw::default();
        env.add_to(&mut raw).unwrap();
        assert!(raw.is_set(key.path), "{key:?}");
    }
}

#[test]
fn keys_come_from_one_place() {
    let keys = |name: &str| format!("{}/tests/keys/{name}", env!("CARGO_MANIFEST_DIR"));
    for (env, says) in [
        (&[("JWT_PUBLIC_KEY_FILE", keys("rsa.public.pem"))][..], "RS256"),
        (&[("JWT_PUBLIC_KEY_FILE", keys("ec.public.pem"))], "ES256"),
        (&[("JWT_PUBLIC_KEY_FILE", keys("ed.public.pem"))], "EdDSA"),
        (&[("JWKS_FILE", keys("jwks.json"))], "rsa-1"),
        (&[("JWT_SECRET", SECRET.into())], "HS256"),
        (&[("JWKS_URL", "https://id/jwks".into())], "JWKS_URL: auth.jwks_url: fetching keys needs the control plane"),
        (
            &[("JWT_SECRET", SECRET.into()), ("JWKS_FILE", keys("jwks.json"))],
            "JWKS_FILE: auth.jwks_file: auth.secret is given too",
        ),
        (&[("JWT_PUBLIC_KEY_FILE", keys("none.pem"))], "JWT_PUBLIC_KEY_FILE: auth.public_key_file: "),
        (&[("JWT_PUBLIC_KEY_FILE", keys("rsa.private.pem"))], "a private key"),
        (&[("JWKS_FILE", keys("rsa.public.pem"))], "JWKS_FILE: auth.jwks_file: not a JWK set"),
    ] {
        let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, &**value)).collect();
        let text = match load(None, &env, &[]) {
            Ok(config) => format!("{:?}", config.keys().unwrap()),
            Err(error) => error.to_string(),
        };
        assert!(text.contains(says), "{env:?}: {text}");
    }
    // A file's paths are relative to the file.
    let config = load(Some("[auth]\npublic_key_file = 'ed.public.pem'"), &[], &[]).unwrap();
    assert!(format!("{:?}", config.keys().unwrap()).contains("EdDSA"));
}

#[test]
fn a_drain_has_a_spread_or_a_rate_and_time_left_after_it() {
    for (text, sessions, expected) in [
        ("[drain]", 7, Ok(5_000)),
        ("[drain]\nspread_ms = 9000", 7, Ok(8_000)),
        ("[drain]\nrate = 100", 0, Ok(0)),
        ("[drain]\nrate = 100", 250, Ok(2_500)),
        ("[drain]\nrate = 100\ntimeout_ms = 60000", 1_000_000, Ok(48_000)),
        ("[drain]\nrate = 100\nspread_ms = 1", 7, Err("drain.rate: drain.spread_ms is given too")),
        ("[drain]\nrate = -1", 7, Err("drain.rate: must be")),
    ] {
        let text = format!("[auth]\nsecret = '{SECRET}'\n{text}");
        match (load(Some(&text), &[], &[]), expected) {
            (Ok(config), Ok(ms)) => assert_eq!(config.drain.spread(sessions), Duration::from_millis(ms), "{text}"),
            (Err(error), Err(says)) => assert!(error.to_string().contains(says), "{error}"),
            (loaded, _) => panic!("{text}: {:?}", loaded.map(|config| config.drain)),
        }
    }
}

#[test]
fn unknown_keys_are_named_with_the_nearest() {
    for (text, says) in [
        ("[server]\nspred = ['a']", "t.toml:2: unknown key `server.spred`, did you mean `server.spread`?"),
        ("[server]\nprot = 1", "t.toml:2: unknown key `server.prot`, did you mean `server.port`?"),
        ("\n\n[sever]\nport = 1", "t.toml:3: unknown key `sever`, did you mean `server`?"),
        ("port = 1", "t.toml:1: unknown key `port`, did you mean `server.port`?"),
        (
            "[limits]\nconnections_per_ip = 1",
            "unknown key `limits.connections_per_ip`, did you mean `limits.connections_per_",
        ),
        ("[auth]\n\nsecrets = 'x'", "t.toml:3: unknown key `auth.secrets`, did you mean `auth.secret`?"),
        ("[server.tls]\ncert = 'x'", "unknown key `server.tls`"),
        ("[colours]\nred = 1", "t.toml:1: unknown key `colours`"),
        (
            "[[history.rooms]]\npattern = 'a'\n[[history.rooms]]\npattern = 'b'\nevent = 5",
            "t.toml:5: unknown key `history.rooms[1].event`, did you mean `events`?",
        ),
        ("[server]\nport = 1\nport = 2", "t.toml:3: not TOML: duplicate key"),
        ("[server", "t.toml:1: not TOML"),
    ] {
        let error = with_file(text).unwrap_err().to_string();
        assert!(error.contains(says), "{text:?}: {error}");
    }
    for (name, value, says) in [
        ("TENANTCAST_SERVER__PROT", "1", Some("unknown variable, did you mean `TENANTCAST_SERVER__PORT`?")),
        ("TENANTCAST_SERVER_PORT", "1", Some("unknown variable, did you mean `TENANTCAST_SERVER__PORT`?")),
        ("TENANTCAST_COLOUR", "1", Some("TENANTCAST_COLOUR: unknown variable")),
        // What Kubernetes sets for services called `tenantcast` and `tenantcast-admin`.
        ("TENANTCAST_SERVICE_HOST", "10.0.0.1", None),
        ("TENANTCAST_SERVICE_PORT_HTTP", "3000", None),
        ("TENANTCAST_PORT", "tcp://10.0.0.1:3000", None),
        ("TENANTCAST_ADMIN_PORT_3001_TCP_ADDR", "10.0.0.1", None),
        ("TENANTCAST_CONFIG", "elsewhere.toml", None),
    ] {
        match (with_env(&[(name, value)]), says) {
            (Ok(_), None) => {}
            (Err(error), Some(says)) => assert!(error.to_string().contains(says), "{name}: {error}"),
            (result, _) => panic!("{name}: {result:?}"),
        }
    }
}

#[test]
fn bad_values_are_named_with_place_key_and_reason() {
    for (text, says) in [
        ("[server]\nport = 70000", "t.toml:2: server.port: must be a whole number from 0 to 65535"),
        ("[server]\nport = -1", "server.port: must be a whole number"),
        ("[server]\nport = '3000'", "server.port: must be a whole number"),
        ("[server]\nhost = 1", "server.host: must be a string, not an integer"),
        ("[server]\nport = 3001", "server.port: the public and the admin port are both 3001"),
        ("[server]\nspread = ['a', '']", "t.toml:2: server.spread: entry 2: a pattern cannot be empty"),
        ("[server]\nspread = 1", "server.spread: must be a list of strings"),
        ("[socketio]\nnamespaces = ['chat']", "socketio.namespaces: must be 1 to 32 names"),
        ("[socketio]\nnamespaces = []", "socketio.namespaces: must be 1 to 32 names"),
        ("[socketio]\nnamespaces = [1]", "socketio.namespaces: must be a list of strings"),
        ("[socketio]\npath = 'rt'", "socketio.path: must start with a slash"),
        ("[socketio]\nrecovery_ms = 300001", "socketio.recovery_ms: must be a whole number from 0 to 300000"),
        ("[auth]\nuser_claims = []", "auth.user_claims: must hold at least one name"),
        ("[history]\nrooms = 1", "history.rooms: must be a list of tables"),
        ("[[history.rooms]]\nevents = 1", "t.toml:1: history.rooms[0].pattern: must be a string"),
        ("[[history.rooms]]\npattern = ''", "t.toml:2: history.rooms[0].pattern: a pattern cannot be empty"),
        ("[[history.rooms]]\npattern = 'a'\nttl_ms = -1", "t.toml:3: history.rooms[0].ttl_ms: must be a whole number"),
        ("[limits]\nevents_burst = 4294967296", "limits.events_burst: must be a whole number from 0 to 4294967295"),
        ("[api]\nkeys = ['a', 'acme=']", "t.toml:2: api.keys: entry 2 has no key"),
        (
            "[redis]\nhost = 'r'\n[fleet]\nrecovery = true",
            "t.toml:4: fleet.recovery: only the streams adapter keeps what was missed",
        ),
        (
            "[redis]\nnodes = ['r']\n[fleet]\nadapter = 'streams'\nrecovery = true",
            "t.toml:5: fleet.recovery: with redis.nodes it needs the hash tag of fleet.stream",
        ),
        (
            "[redis]\nnodes = ['r']\n[fleet]\nadapter = 'streams'\nrecovery = true\nstream = '{a}b'\nsession_prefix = '{b}'",
            "t.toml:7: fleet.session_prefix: with redis.nodes",
        ),
        (
            "[redis]\nnodes = ['r']\n[fleet]\nadapter = 'streams'\nrecovery = true\nsession_prefix = 'socket.io'",
            "session_prefix = \"{socket.io}sio:session:\", as sessionKeyPrefix of the Node servers",
        ),
        ("server = 1", "unknown key `server`"),
    ] {
        let error = with_file(text).unwrap_err().to_string();
        assert!(error.contains(says), "{text:?}: {error}");
    }
    for (name, value, says) in [
        ("PORT", "abc", "PORT: server.port: must be a whole number from 0 to 65535"),
        ("HOST", "example.com", "HOST: server.host: must be an IP address or `localhost`"),
        ("SHARDS", "256", "SHARDS: server.shards: must be a whole number from 0 to 255"),
        ("WS_PING_INTERVAL", "25s", "WS_PING_INTERVAL: socketio.ping_interval_ms: must be a whole number"),
        ("CACHE_TTL", "0", "CACHE_TTL: cache.ttl_s: must be a whole number from 1"),
        ("REDIS_URL", "http://h", "REDIS_URL: redis.url: must start with redis://"),
        ("REDIS_URL", "redis://h:x", "REDIS_URL: redis.url: must be redis://[user"),
        ("REDIS_URL", "rediss://h#insecure", "REDIS_URL: redis.url: `#insecure` is not served"),
        ("TENANTCAST_REDIS__PREFIX", "a{b", "TENANTCAST_REDIS__PREFIX: redis.prefix: must be 1 to 64 bytes"),
        ("TENANTCAST_REDIS__NODES", "a,b:", "TENANTCAST_REDIS__NODES: redis.nodes: entry 2: must be `host`"),
        ("TENANTCAST_REDIS__SENTINELS", "a", "TENANTCAST_REDIS__SENTINELS: redis.sentinels: redis.master has to"),
        ("TENANTCAST_REDIS__MASTER", "a", "TENANTCAST_REDIS__MASTER: redis.master: redis.sentinels has to"),
        (
            "TENANTCAST_REDIS__SENTINEL_USER",
            "a",
            "TENANTCAST_REDIS__SENTINEL_USER: redis.sentinel_user: redis.sentinels has to",
        ),
        (
            "TENANTCAST_REDIS__SENTINEL_PASSWORD",
            "a",
            "TENANTCAST_REDIS__SENTINEL_PASSWORD: redis.sentinel_password: redis.sentinels has to",
        ),
        (
            "TENANTCAST_FLEET__ADAPTER",
            "clasic",
            "TENANTCAST_FLEET__ADAPTER: fleet.adapter: must be one of emitter, classic, sharded, streams, off; did you mean `classic`?",
        ),
        ("TENANTCAST_FLEET__ADAPTER", "classic", "TENANTCAST_FLEET__ADAPTER: fleet.adapter: a fleet meets in Redis"),
        ("REDIS_DB", "-1", "REDIS_DB: redis.db: must be a whole number"),
        ("FRONTEND_URL", "example.com", "FRONTEND_URL: server.frontend_url: must be `*` or addresses"),
        ("FRONTEND_URL", "ftp://example.com", "FRONTEND_URL: server.frontend_url: must be"),
        ("LOG_LEVEL", "infoo", "LOG_LEVEL: server.log_level: must be off"),
        ("PROFILE", "defautl", "PROFILE: server.profile: no such profile, did you mean `default`?; built in: default"),
        ("API_KEYS", "a,sha256:12", "API_KEYS: api.keys: entry 2: `sha256:`"),
        ("ADMIN_PORT", "3000", "ADMIN_PORT: server.admin_port: the public and the admin port are both 3000"),
        ("TENANTCAST_HISTORY__ROOMS", "[{", "TENANTCAST_HISTORY__ROOMS: history.rooms: not TOML"),
        ("JWT_AUDIENCE", ",", "JWT_AUDIENCE: auth.audience: must hold at least one name"),
    ] {
        let error = with_env(&[(name, value)]).unwrap_err().to_string();
        assert!(error.starts_with(says), "{name}={value}: {error}");
    }
    let error = load(None, &[("JWT_SECRET", SECRET)], &[("--port", "server.port", "x")]).unwrap_err().to_string();
    assert!(error.starts_with("--port: server.port: "), "{error}");
    let missing = Sources { file: Some("/nonexistent/t.toml".into()), flags: vec![], env: Env::new([]) };
    assert!(Config::load(&missing).unwrap_err().to_string().starts_with("/nonexistent/t.toml: cannot be read: "));
}

#[test]
fn spreading_over_one_shard_is_said_to_be_of_no_use() {
    for (shards, spread, warns) in [("1", "acme", true), ("2", "acme", false), ("1", "", false)] {
        let config = with_env(&[("SHARDS", shards), ("TENANTCAST_SERVER__SPREAD", spread)]).unwrap();
        let warned = config.warnings.iter().any(|warning| warning.starts_with("server.spread: "));
        assert_eq!(warned, warns, "{shards} {spread}");
    }
}

#[test]
fn history_rules_count_in_their_order() {
    let text = "[history]\nevents = 10\n[[history.rooms]]\npattern = 'chat:*'\nevents = 500\n[[history.rooms]]\npattern = '*'\nttl_ms = 1000";
    let history = with_file(text).unwrap().history;
    let kept = |events, ms| Retention { events, ttl: Duration::from_millis(ms) };
    assert_eq!(history.of("chat:1"), kept(500, 300_000));
    assert_eq!(history.of("other"), kept(10, 1000));
}

#[test]
fn secrets_are_not_printed() {
    let env = [
        ("JWT_SECRET", "hush-jwt"),
        ("API_KEYS", "hush-api,acme=hush-too"),
        ("REDIS_URL", "redis://:hush-url@h"),
        ("REDIS_PASSWORD", "hush-redis"),
        ("SENTRY_DSN", "https://hush@s/1"),
    ];
    let config = load(None, &env, &[]).unwrap();
    assert!(!format!("{config:?}").contains("hush"), "{config:?}");
    assert!(config.warnings.iter().any(|warning| warning.starts_with("auth.secret: shorter than 32 bytes")));
    for key in KEYS.iter().filter(|key| key.secret) {
        let (section, name) = key.path.split_once('.').unwrap();
        let error = with_file(&format!("[{section}]\n{name} = {{ hush = 1 }}"));
        // JWT_SECRET is given too, and wins over a wrong one in the file.
        assert_eq!(error.is_ok(), key.path == "auth.secret", "{key:?}");
        assert!(!error.is_err_and(|error| error.to_string().contains("hush")), "{key:?}");
    }
}
