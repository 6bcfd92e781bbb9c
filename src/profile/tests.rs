//! Every built-in profile is right, and every kind of fault is said with its line, its key, its reason and the name that was meant.

use super::{Act, Profile, builtin::BUILTIN, file::Delivery};

/// A profile that is right, for a fault to be added to.
const PLAIN: &str = "name = \"p\"\nabout = \"a\"\n";

#[test]
fn built_in_profiles() {
    for (name, text) in BUILTIN {
        let profile = Profile::parse(text).unwrap_or_else(|error| panic!("{name}, line {}: {error}", error.line));
        assert_eq!(*profile.name, **name);
        assert!(!profile.about.is_empty(), "{name}");
    }
}

/// What each application is known by; the whole of it is shown by its own client's test.
#[test]
fn what_the_applications_are() {
    type Case = (&'static str, Delivery, [&'static str; 2], bool, [usize; 3]);
    let cases: [Case; 6] = [
        // name, delivery, the tenant's and the user's room, late token; events, queues, listeners
        ("default", Delivery::Named, ["tenant:t", "user:u"], false, [0, 0, 0]),
        ("travel-umroh", Delivery::Event, ["tenant:t", "user:u"], false, [25, 4, 6]),
        ("support-desk", Delivery::Named, ["account:t", "user:u"], false, [19, 1, 12]),
        ("project-hub", Delivery::Message, ["org:t", "user:u"], true, [4, 5, 3]),
        ("whatsapp-crm", Delivery::Named, ["team:t", "user:u"], false, [24, 0, 0]),
        ("construction-erp", Delivery::Named, ["company_t", "user_u"], false, [17, 0, 0]),
    ];
    for (name, delivery, rooms, late, counts) in cases {
        let profile = Profile::parse(super::builtin::text(name).unwrap_or_default()).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(profile.delivery, delivery, "{name}");
        assert_eq!([profile.rooms.tenant_room("t"), profile.rooms.user_room("u")], rooms, "{name}");
        assert_eq!(profile.late.is_some(), late, "{name}");
        let found = [profile.catalogue.entries().count(), profile.queues.len(), profile.listeners.len()];
        assert_eq!(found, counts, "{name}");
        // A client of each can have its token's end put off.
        assert!(profile.client_events.values().any(|event| matches!(event.act, Act::Authenticate)), "{name}");
    }
}

/// The profile that the README writes from nothing.
#[test]
fn tutorial() {
    const README: &str = include_str!("../../README.md");
    let text = README.split("```toml\n").find(|text| text.starts_with("name = \"courier\"")).unwrap_or_default();
    let profile =
        Profile::parse(text.split("```").next().unwrap_or_default()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((profile.client_events.len(), profile.catalogue.entries().count(), profile.listeners.len()), (3, 2, 1));
}

/// Text after [`PLAIN`], then line, key and reason.
#[test]
fn faults() {
    let cases: &[(&str, usize, &str, &str)] = &[
        // The text, its keys and their types.
        ("[connection\n", 3, "", "not TOML: "),
        ("colour = 1\n", 3, "colour", "unknown key `colour`"),
        ("[conection]\n", 3, "conection", "unknown key `conection`, did you mean `connection`?"),
        (
            "[connection]\ndelivry = \"named\"\n",
            4,
            "connection.delivry",
            "unknown key `delivry`, did you mean `delivery`?",
        ),
        ("[connection]\ndelivery = \"name\"\n", 4, "connection.delivery", "cannot be `name`, did you mean `named`?"),
        ("[client_events]\nx = { do = \"jion\" }\n", 4, "client_events.x.do", "cannot be `jion`, did you mean `join`?"),
        (
            "[heartbeat]\ninterval_ms = \"soon\"\n",
            4,
            "heartbeat.interval_ms",
            "invalid type: string \"soon\", expected u64",
        ),
        // Names.
        (
            "[client_events]\ndisconnect = { do = \"status\" }\n",
            4,
            "client_events.disconnect",
            "`disconnect` is one of Socket.IO's own events",
        ),
        ("[events]\n\"\" = {}\n", 4, "events.\"\"", "a pattern cannot be empty"),
        ("[events]\nconnect = {}\n", 4, "events.connect", "`connect` is one of Socket.IO's own events"),
        (
            "[connection]\nnamespaces = [\"chat\"]\n",
            4,
            "connection.namespaces[0]",
            "must begin with `/`, have no comma, and come once",
        ),
        ("[connection]\nnamespaces = []\n", 4, "connection.namespaces", "must be 1 to 32 namespaces"),
        ("[claims]\nuser = []\n", 4, "claims.user", "must name at least one claim, and no empty one"),
        (
            "[claims]\ntenant = [\"org\"]\nsingle_tenant = \"one\"\n",
            5,
            "claims.single_tenant",
            "claims.tenant is given too: either there are tenants, or there is one",
        ),
        // Rooms.
        (
            "[connection]\nuser_room = \"{user}\"\n",
            4,
            "connection.user_room",
            "must be two letters or more, then `{user}` once, then what you like without wildcards",
        ),
        (
            "[connection]\nrooms = [\"org:{org}\"]\n",
            4,
            "connection.rooms[0]",
            "nothing fills `{org}` here, only `{tenant}` and `{user}`",
        ),
        (
            "[connection.role_rooms]\nagent = [\"agents\", \"{x\"]\n",
            4,
            "connection.role_rooms.agent[1]",
            "`{x` opens a hole that is not closed; `{{` is a brace itself",
        ),
        (
            "[rooms]\n\"{user}:x\" = {}\n",
            4,
            "rooms.\"{user}:x\"",
            "must begin with two letters or more before its first hole",
        ),
        (
            "[rooms]\n\"project:*\" = { join = \"backend\" }\n",
            4,
            "rooms.\"project:*\".join",
            "there is no table `backend` that says whom to ask",
        ),
        (
            "[rooms.\"x:*\"]\nhistory = { events = 1, ttl_s = 0 }\n",
            4,
            "rooms.\"x:*\".history.ttl_s",
            "must be a whole number from 1 to 31622400",
        ),
        // Client events.
        ("[client_events]\nx = { do = \"join\" }\n", 4, "client_events.x", "`join` needs `room`, a template"),
        (
            "[client_events]\nx = { do = \"status\", room = \"a\" }\n",
            4,
            "client_events.x.room",
            "`status` has no use for it",
        ),
        ("[client_events]\nx = { do = \"join\", room = \"\" }\n", 4, "client_events.x.room", "is set, but empty"),
        (
            "[client_events]\nx = { do = \"join\", room = \"a}\" }\n",
            4,
            "client_events.x.room",
            "`a}` has a `}` that closes nothing; `}}` is a brace itself",
        ),
        (
            "[client_events]\nx = { do = \"publish\", room = \"a\" }\n",
            4,
            "client_events.x",
            "`publish` has both `room` and `type`, or the client chooses both",
        ),
        ("[client_events]\nx = { do = \"typing\" }\n", 4, "client_events.x", "`typing` needs `action`"),
        (
            "[client_events]\nx = { do = \"typing\", action = \"strat\" }\n",
            4,
            "client_events.x.action",
            "no action is called `strat`, did you mean `start`?",
        ),
        (
            "[client_events]\nx = { do = \"document\", action = \"delete\" }\n",
            4,
            "client_events.x.action",
            "no action is called `delete`: there are update, open, get, close, resolve",
        ),
        (
            "[client_events]\nx = { do = \"enqueue\", queue = \"mail\", job = \"send\" }\n",
            4,
            "client_events.x.queue",
            "no queue is called `mail`: there is none",
        ),
        (
            "[client_events]\nx = { do = \"webhook\", webhook = \"crm\" }\n",
            4,
            "client_events.x.webhook",
            "no webhook is called `crm`: there is none",
        ),
        (
            "[client_events]\nx = { do = \"status\", schema = 3 }\n",
            4,
            "client_events.x.schema",
            "must be a JSON Schema: a table",
        ),
        (
            "[client_events]\nx = { do = \"status\", reply = { event = \"error\", data = \"{\" } }\n",
            4,
            "client_events.x.reply.data",
            "`{` opens a hole that is not closed; `{{` is a brace itself",
        ),
        ("[auth]\nlate = true\n", 4, "auth.late", "no client event does `authenticate`, so no token could come late"),
        // The catalogue.
        ("[events]\nx = { schema = { type = \"objct\" } }\n", 4, "events.x.schema", "is no JSON Schema: "),
        (
            "[events]\nx = { ephemeral = true, offline = true }\n",
            4,
            "events.x.offline",
            "an ephemeral event is not kept, and cannot wait",
        ),
        (
            "[events]\nx = { acknowledge = { timeout_ms = 1, retries = 2 } }\n",
            4,
            "events.x.acknowledge.timeout_ms",
            "must be a whole number from 10 to 600000",
        ),
        // Presence, typing, offline queue, documents.
        ("[presence]\ngrace_ms = 3_600_001\n", 4, "presence.grace_ms", "must be a whole number from 0 to 3600000"),
        (
            "[presence.availability]\nroles = []\nstates = []\n",
            5,
            "presence.availability.states",
            "must name at least one",
        ),
        (
            "[presence]\nonline = { event = \"connect\" }\n",
            4,
            "presence.online.event",
            "`connect` is one of Socket.IO's own events",
        ),
        ("[typing]\nttl_ms = 1\n", 4, "typing.ttl_ms", "must be a whole number from 100 to 600000"),
        ("[offline]\nttl_s = 0\n", 4, "offline.ttl_s", "must be a whole number from 1 to 31622400"),
        (
            "[documents]\n\"*\" = { room = \"all\" }\n",
            4,
            "documents.\"*\".room",
            "must have `{document}` in it: each document has its own",
        ),
        ("[documents]\n\"*\" = { strategy = \"last\" }\n", 4, "documents.\"*\".strategy", "cannot be `last`"),
        // Listeners and what they do.
        ("[listeners.l]\non = []\ndo = []\n", 4, "listeners.l.on", "must name at least one pattern of event types"),
        (
            "[listeners.l]\non = [\"x\"]\ndo = [{ count = \"a\", webhook = \"b\" }]\n",
            5,
            "listeners.l.do[0]",
            "must be one of emit, enqueue, webhook, invalidate, count",
        ),
        (
            "[listeners.l]\non = [\"x\"]\ndo = [{ count = \"a\", room = \"b\" }]\n",
            5,
            "listeners.l.do[0].room",
            "`count` has no use for it",
        ),
        ("[listeners.l]\non = [\"x\"]\ndo = [{ emit = \"a\" }]\n", 5, "listeners.l.do[0]", "`emit` needs `room`"),
        (
            "[listeners.l]\non = [\"x\"]\nwhen = { \"a..b\" = 1 }\ndo = []\n",
            5,
            "listeners.l.when.\"a..b\"",
            "must be names joined by dots",
        ),
        (
            "[cache.package]\nttl_s = 1\n[listeners.l]\non = [\"x\"]\ndo = [{ invalidate = \"packge\" }]\n",
            7,
            "listeners.l.do[0].invalidate",
            "no cache resource is called `packge`, did you mean `package`?",
        ),
        (
            "[queues.email]\njobs = [\"send\"]\n[listeners.l]\non = [\"x\"]\ndo = [{ enqueue = \"email\", job = \"sned\" }]\n",
            7,
            "listeners.l.do[0].job",
            "no job of the queue is called `sned`, did you mean `send`?",
        ),
        (
            "[listeners.l]\non = [\"x\"]\ndo = [{ count = \"a b\" }]\n",
            5,
            "listeners.l.do[0].count",
            "must be 1 to 64 letters, digits, `-` or `_`",
        ),
        // Queues, schedules, cache, channels.
        ("[queues.q]\nconcurrency = 0\n", 4, "queues.q.concurrency", "must be a whole number from 1 to 10000"),
        (
            "[queues.q]\ndead_letter = \"ded\"\n[queues.dead]\n",
            4,
            "queues.q.dead_letter",
            "no queue is called `ded`, did you mean `dead`?",
        ),
        (
            "[queues.q]\n[schedules.s]\nqueue = \"q\"\njob = \"j\"\ncron = \"0 24 * * *\"\n",
            7,
            "schedules.s.cron",
            "the hour is `24`: must be numbers from 0 to 23, `*`, lists, ranges or steps",
        ),
        (
            "[queues.q]\n[schedules.s]\nqueue = \"q\"\njob = \"j\"\ncron = \"daily\"\n",
            7,
            "schedules.s.cron",
            "must have five fields: minute, hour, day of month, month, day of week",
        ),
        (
            "[queues.q]\n[schedules.s]\nqueue = \"q\"\njob = \"j\"\n",
            4,
            "schedules.s",
            "has `cron`, or `every_s` of at least 1: one of the two",
        ),
        ("[cache.c]\nttl_s = 0\n", 4, "cache.c.ttl_s", "must be a whole number from 1 to 31622400"),
        (
            "[cache.c]\nttl_s = 1\nkey = \"c:{id}\"\n",
            5,
            "cache.c.key",
            "must have `{tenant}` in it: tenants share nothing",
        ),
        (
            "[channels.c]\ntype = \"x\"\ntenant = \"{t}\"\n",
            3,
            "channels.c",
            "goes to a `user` or to a `room`: one of the two",
        ),
        (
            "[channels.c]\ntype = \"x\"\nuser = \"{u}\"\n",
            3,
            "channels.c",
            "needs `tenant`, a template over the message, or `claims.single_tenant`",
        ),
        // Whom requests go to, and limits.
        ("[webhooks.w]\nurl = \"http://x\"\n", 3, "webhooks.w", "missing field `secret_env`"),
        ("[client_events]\nx = { room = \"a\" }\n", 4, "client_events.x", "missing field `do`"),
        (
            "[webhooks.w]\nurl = \"ftp://x\"\nsecret_env = \"S\"\n",
            4,
            "webhooks.w.url",
            "must be an http:// or https:// address, or {env:NAME}",
        ),
        (
            "[backend]\nurl = \"http://x\"\nsecret_env = \"S\"\ntimeout_ms = 1\n",
            6,
            "backend.timeout_ms",
            "must be a whole number from 10 to 60000",
        ),
        (
            "[limits]\nframe_byte = 1\n",
            4,
            "limits.frame_byte",
            "no limit is called `frame_byte`, did you mean `frame_bytes`?",
        ),
    ];
    for (text, line, key, reason) in cases {
        match Profile::parse(&format!("{PLAIN}{text}")) {
            Ok(_) => panic!("accepted:\n{text}"),
            Err(error) => {
                assert_eq!((error.line, &*error.key), (*line, *key), "{text}{error}");
                // Another crate's words may follow a colon.
                let matches =
                    if reason.ends_with(": ") { error.reason.starts_with(reason) } else { error.reason == *reason };
                assert!(matches, "{text}says: {}\nwant: {reason}", error.reason);
            }
        }
    }
    for (text, key, reason) in [
        ("about = \"a\"\n", "profile", "missing field `name`"),
        ("name = \"a b\"\nabout = \"a\"\n", "name", "must be 1 to 64 letters, digits, `-` or `_`"),
    ] {
        let error = Profile::parse(text).map(drop).unwrap_err();
        assert_eq!((&*error.key, &*error.reason), (key, reason));
    }
}

/// What is shipped for editors is what the types say; `tenantcast profiles schema` prints it.
#[test]
fn the_schema_is_that_of_the_types() {
    let shipped = include_str!("profile.schema.json");
    assert!(
        Profile::schema().trim() == shipped.trim(),
        "cargo run -- profiles schema > src/profile/profile.schema.json"
    );
    let validator = jsonschema::validator_for(&serde_json::from_str(shipped).unwrap()).unwrap();
    for (name, text) in BUILTIN {
        let profile: serde_json::Value = toml::from_str(text).unwrap();
        assert_eq!(validator.validate(&profile).map_err(|error| error.to_string()), Ok(()), "{name}");
    }
}
