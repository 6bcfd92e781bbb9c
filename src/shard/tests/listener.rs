//! Listeners: which run, what they do, and what they never do to the event they run for.

use super::*;
use crate::profile::template::{Shape, Template};
use crate::shard::io::Ask;
use crate::shard::listener::{Action, ListenerSettings};
use crate::wire::auth::Pattern;
use serde_json::{Value, json};

fn listener(name: &str, on: &[&str], when: &[(&str, Value)], actions: Vec<Action>) -> ListenerSettings {
    ListenerSettings {
        name: name.into(),
        on: on.iter().map(|pattern| Pattern::parse(pattern).unwrap()).collect(),
        when: when.iter().map(|(path, value)| ((*path).into(), value.clone())).collect(),
        actions,
    }
}

fn count(name: &str) -> Action {
    Action::Count { name: name.into() }
}

fn emit(event: &str, room: &str, data: Option<Value>, ephemeral: bool) -> Action {
    let data = data.map(|data| Shape::from(data).unwrap());
    Action::Emit { event: event.into(), room: Template::parse(room).unwrap(), data, ephemeral }
}

fn rig(listeners: Vec<ListenerSettings>) -> Rig {
    Rig::with(|settings| settings.listeners = listeners.into())
}

impl Rig {
    fn publish(&mut self, conn: ConnKey, event: &str, data: &str) {
        self.say(conn, &format!("42[\"publish\",{{\"room\":\"r\",\"type\":\"{event}\",\"data\":{data}}}]"));
    }

    fn api(&mut self, tenant: &str, call: Call) -> String {
        let tenant = TenantId::parse(tenant).unwrap();
        let from = ReplyTo { shard: ShardId(0), conn: ConnKey::new(999, 0) };
        self.input(Input::Call { from, tenant, call: Box::new(call) });
        self.responses.pop().unwrap().2
    }

    fn counters(&mut self, tenant: &str) -> Value {
        serde_json::from_str::<Value>(&self.api(tenant, Call::Stats)).unwrap()["counters"].clone()
    }
}

#[test]
fn types_and_filters() {
    let rows = [
        ("all", vec!["*"], vec![]),
        ("paid", vec!["payment.*", "refund"], vec![]),
        ("high", vec!["ticket"], vec![("priority", json!("high"))]),
        ("both", vec!["ticket"], vec![("data.priority", json!("high")), ("n", json!(1))]),
        ("some", vec!["ticket"], vec![("priority", json!(["low", "high", 3]))]),
        ("deep", vec!["ticket"], vec![("by.id", json!(7))]),
        ("none", vec!["ticket"], vec![("gone", json!(null))]),
        ("yes", vec!["ticket"], vec![("ok", json!(true))]),
        ("object", vec!["ticket"], vec![("by", json!({"id": 7}))]),
        ("who", vec!["ticket"], vec![("user", json!("a")), ("room", json!("r")), ("type", json!("ticket"))]),
        ("tenant", vec!["ticket"], vec![("tenant", json!("acme"))]),
    ];
    let listeners = rows.iter().map(|(name, on, when)| listener(name, on, when, vec![count(name)])).collect();
    let table: &[(&str, &str, &[&str])] = &[
        ("payment.received", "{}", &["all", "paid"]),
        ("payment", "{}", &["all"]),
        ("refund", "null", &["all", "paid"]),
        ("ticket", "{\"gone\":0}", &["all", "tenant", "who"]),
        ("ticket", "\"high\"", &["all", "none", "tenant", "who"]),
        ("ticket", r#"{"priority":"h\u0069gh","gone":1}"#, &["all", "high", "some", "tenant", "who"]),
        (
            "ticket",
            r#"{"priority":"high","n":1.0,"gone":null}"#,
            &["all", "both", "high", "none", "some", "tenant", "who"],
        ),
        ("ticket", r#"{"priority":3,"n":2,"gone":1}"#, &["all", "some", "tenant", "who"]),
        ("ticket", r#"{"by":{"id":7},"ok":true,"gone":1}"#, &["all", "deep", "object", "tenant", "who", "yes"]),
        ("ticket", r#"{"by":{"id":"7"},"ok":"true","gone":1}"#, &["all", "tenant", "who"]),
        // A publisher's data stands in for nobody.
        ("ticket", r#"{"tenant":"globex","user":"b","gone":1}"#, &["all", "tenant", "who"]),
    ];
    let mut rig = rig(listeners);
    let a = rig.client("acme", "a");
    let zero = rig.counters("acme");
    assert_eq!(zero.as_object().unwrap().len(), rows.len());
    let mut before = zero;
    for (event, data, want) in table {
        // Twice: who listens is looked up, then known.
        for _ in 0..2 {
            rig.publish(a, event, data);
            let now = rig.counters("acme");
            let rose: Vec<&str> = now
                .as_object()
                .unwrap()
                .iter()
                .filter(|(name, n)| before[*name] != **n)
                .map(|(name, _)| &**name)
                .collect();
            let mut want = want.to_vec();
            want.sort_unstable();
            let mut rose_sorted = rose.clone();
            rose_sorted.sort_unstable();
            assert_eq!(rose_sorted, want, "{event} {data}");
            before = now;
        }
    }
    assert!(
        rig.counters("globex").as_object().unwrap().values().all(|n| n == 0),
        "another tenant's numbers are its own"
    );
}

#[test]
fn what_is_emitted() {
    let mut rig = rig(vec![
        listener(
            "new",
            &["ticket", "made"],
            &[],
            vec![
                emit(
                    "made",
                    "user:{assignee}",
                    Some(json!({"for": "{data.id}", "by": "{user}", "t": "{tenant}/{room}"})),
                    false,
                ),
                emit("copy", "copies", None, true),
                count("runs"),
            ],
        ),
        listener("loop", &["*"], &[], vec![count("any")]),
    ]);
    let (a, b) = (rig.client("acme", "a"), rig.client("acme", "b"));
    rig.say(b, "421[\"subscribe\",{\"rooms\":[\"copies\",\"r\"]}]");
    rig.drop_all();
    rig.publish(a, "ticket", "{\"assignee\":\"b\",\"id\":[1]}");
    let got: Vec<String> = rig.take(b);
    assert_eq!(got.len(), 3, "{got:?}");
    assert!(got[0].starts_with("42[\"ticket\",{\"assignee\""), "the event itself is first: {got:?}");
    let made: Value = serde_json::from_str(got[1].strip_prefix("42").unwrap()).unwrap();
    assert_eq!((&made[0], &made[1]), (&json!("made"), &json!({"for": [1], "by": "a", "t": "acme/r"})));
    assert_eq!((&made[2]["room"], &made[2]["offset"], &made[2]["user"]), (&json!("user:b"), &json!(1), &Value::Null));
    assert_eq!(got[2], "42[\"copy\",{\"assignee\":\"b\",\"id\":[1]}]");
    assert_eq!(rig.counters("acme"), json!({"runs": 1, "any": 1}), "what is emitted runs nobody, though it fits");
    // A retry is the same event and does nothing again; an ephemeral event is an event.
    for _ in 0..3 {
        rig.say(a, "42[\"publish\",{\"id\":\"x\",\"room\":\"r\",\"type\":\"other\"}]");
    }
    assert_eq!(rig.counters("acme")["any"], 2);
    rig.say(a, "42[\"publish\",{\"room\":\"r\",\"type\":\"other\",\"ephemeral\":true}]");
    rig.say(a, "42[\"typing:start\",{\"room\":\"user:a\"}]");
    rig.say(a, "42[\"status\",{\"status\":\"away\"}]");
    rig.advance(Duration::from_secs(8));
    assert_eq!(rig.counters("acme")["any"], 3, "neither typing nor presence is published");
    // The API's events too.
    let event = Publish { event: "other".into(), room: Some("r".into()), data: "1".into(), ..empty() };
    rig.api("acme", Call::Publish(vec![event]));
    assert_eq!(rig.counters("acme")["any"], 4);
}

fn empty() -> Publish {
    Publish {
        id: None,
        event: "".into(),
        room: None,
        user: None,
        entity: None,
        data: "null".into(),
        ephemeral: false,
        to_roles: Vec::new(),
        to_permissions: Vec::new(),
        ack: None,
    }
}

/// What only admins may see is not shown to others by way of a copy.
#[test]
fn an_audience_goes_with_the_copy() {
    let mut rig = rig(vec![listener("copy", &["secret"], &[], vec![emit("copied", "user:a", None, false)])]);
    let a = rig.client("acme", "a");
    let event = Publish { event: "secret".into(), room: Some("r".into()), to_roles: vec!["admin".into()], ..empty() };
    rig.api("acme", Call::Publish(vec![event]));
    assert_eq!(rig.take(a), Vec::<String>::new());
}

#[test]
fn the_publishers_rate_is_not_used_up() {
    let mut rig = Rig::with(|settings| {
        settings.limits.tenant_events_per_second = 2;
        let actions = (0..5).map(|_| emit("more", "r", None, false)).collect();
        settings.listeners = vec![listener("five", &["one"], &[], actions)].into();
    });
    let a = rig.client("acme", "a");
    rig.say(a, "421[\"subscribe\",{\"rooms\":[\"r\"]}]");
    rig.drop_all();
    rig.publish(a, "one", "1");
    rig.publish(a, "one", "1");
    rig.say(a, "427[\"publish\",{\"room\":\"r\",\"type\":\"one\"}]");
    let got = rig.take(a);
    assert_eq!(got.iter().filter(|packet| packet.starts_with("42[\"more\"")).count(), 10, "{got:?}");
    assert!(got.last().unwrap().contains("rate_limited"), "the third is one too many, as without listeners: {got:?}");
}

#[test]
fn webhooks_are_asked_for() {
    let mut rig =
        rig(vec![listener("hook", &["ticket"], &[], vec![Action::Webhook { hook: 3 }, Action::Webhook { hook: 4 }])]);
    let a = rig.client("acme", "a");
    rig.publish(a, "ticket", "{ \"n\": 1 }");
    rig.say(a, "42[\"publish\",{\"room\":\"r\",\"type\":\"ticket\",\"ephemeral\":true,\"entity\":{\"type\":\"t\",\"id\":\"1\"}}]");
    let asks = std::mem::take(&mut rig.asks);
    let told: Vec<(u16, Value)> = asks
        .iter()
        .map(|ask| match ask {
            Ask::Notify { hook, body, .. } => (*hook, serde_json::from_str(body).unwrap()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told.iter().map(|(hook, _)| *hook).collect::<Vec<_>>(), [3, 4, 3, 4]);
    let (durable, ephemeral) = (&told[0].1, &told[2].1);
    assert_eq!(durable["data"], json!({"n": 1}));
    for (name, value) in [("tenant", "acme"), ("type", "ticket"), ("room", "r"), ("user", "a")] {
        assert_eq!((&durable[name], &ephemeral[name]), (&json!(value), &json!(value)), "{name}");
    }
    assert_eq!((&durable["offset"], &ephemeral["offset"]), (&json!(1), &Value::Null));
    assert_eq!((&ephemeral["entity"]["id"], &ephemeral["data"]), (&json!("1"), &Value::Null));
    assert_eq!(durable["id"].as_str().unwrap().len(), 26);
    let mut ids: Vec<&str> = asks.iter().map(|ask| if let Ask::Notify { id, .. } = ask { &**id } else { "" }).collect();
    ids.dedup();
    assert!(ids.len() == 4 && ids.iter().all(|id| id.len() == 26), "each has its own: {ids:?}");
}

/// The event is delivered and acknowledged whatever becomes of the actions, and the other actions are done.
#[test]
fn a_listener_that_fails_holds_up_nothing() {
    let mut rig = rig(vec![listener(
        "bad",
        &["ticket"],
        &[],
        vec![
            Action::Enqueue { queue: "q".into(), job: "j".into() },
            Action::Invalidate { resource: "c".into(), id: None },
            emit("a", "user:{gone}", None, false),
            emit("b", "user:{object}", None, false),
            emit("c", "{long}", None, false),
            count("done"),
        ],
    )]);
    let a = rig.client("acme", "a");
    let long = "x".repeat(300);
    for _ in 0..2 {
        rig.say(a, &format!("421[\"publish\",{{\"room\":\"user:a\",\"type\":\"ticket\",\"data\":{{\"object\":{{}},\"long\":\"{long}\"}}}}]"));
        let got = rig.take(a);
        assert!(
            got.len() == 2 && got[0].starts_with("42[\"ticket\"") && got[1].starts_with("431[{\"ok\":true"),
            "{got:?}"
        );
    }
    assert_eq!(rig.counters("acme"), json!({"done": 2}));
    let failed: Vec<(&str, &str)> = rig.failed.iter().map(|(listener, code)| (&**listener, *code)).collect();
    let want = ["jobs_unavailable", "cache_unavailable", "value_missing", "room_name_too_long"];
    assert_eq!(failed, want.map(|code| ("bad", code)), "each is said once");
    let counted = |count| rig.shard.counts.get(count);
    assert_eq!(counted(Count::ListenerActionsFailed), 10);
    assert_eq!((counted(Count::JobsUnavailable), counted(Count::CacheUnavailable)), (2, 2));
}
