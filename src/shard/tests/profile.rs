//! What a profile changes: a token that comes late, rooms and events under an application's own names.

use super::*;
use crate::profile::Profile;

impl Rig {
    /// A shard with this profile's application in `/`.
    fn with_profile(text: &str, change: impl FnOnce(&mut Settings)) -> Rig {
        let profile = Profile::parse(text).unwrap_or_else(|error| panic!("{error}"));
        Rig::of(profile_app(profile, ["/"]), change)
    }
}

const LATE: &str = r#"
name = "late"
about = "-"
[auth]
late = true
accepted = { event = "authenticated", data = { userId = "{user}" } }
refused = { event = "authentication_failed" }
[connection]
tenant_room = "org:{tenant}"
greeting = { event = "welcome", data = { rooms = 0 } }
delivery = "message"
[client_events]
authenticate = { do = "authenticate" }
join_project = { do = "join", room = "project:{0}" }
leave_project = { do = "leave", room = "project:{0}" }
post = { do = "publish", room = "project:{project}", type = "post", data = { text = "{text}", by = "{user}" } }
note = { do = "relay", room = "project:{0}", event = "noted", data = { user = "{user}", text = "{1}" } }
ping = { do = "reply", event = "pong", data = { time = "{time}" } }
"#;

#[test]
fn a_late_token() {
    let mut rig = Rig::with_profile(LATE, |_| {});
    let a = rig.open(Wire::WebSocket, None);
    rig.take(a);
    rig.say(a, "40");
    let connected = rig.take(a);
    assert!(connected.len() == 1 && connected[0].starts_with("40{\"sid\""), "{connected:?}");
    let sid = field(&connected[0], "sid").to_owned();
    rig.say(a, "421[\"join_project\",\"7\"]");
    assert!(rig.take(a)[0].starts_with("431[{\"ok\":false,\"code\":\"token_missing\""), "nothing before the token");
    rig.say(a, "42[\"authenticate\",\"no token\"]");
    let refused = rig.take(a);
    assert_eq!((&*refused[0], &*refused[1]), ("42[\"authentication_failed\"]", "41"));
    rig.say(a, "40");
    let again = rig.take(a);
    assert_ne!(field(&again[0], "sid"), sid);
    let token = rig.token("acme", "ann");
    rig.say(a, &format!("427[\"authenticate\",\"{token}\"]"));
    let accepted = rig.take(a);
    assert!(accepted[0].starts_with("437[{\"ok\":true,\"expiresAt\":\""), "{accepted:?}");
    assert_eq!(accepted[1..3], ["42[\"authenticated\",{\"userId\":\"ann\"}]", "42[\"welcome\",{\"rooms\":0}]"]);
    rig.say(a, "428[\"join_project\",\"7\"]");
    assert_eq!(rig.take(a).last().map(|text| &**text), Some("438[{\"ok\":true,\"room\":\"project:7\"}]"));
    // Nobody waits for ever, and nobody stays.
    let b = rig.open(Wire::WebSocket, None);
    rig.say(b, "40");
    rig.take(b);
    rig.advance(Duration::from_secs(11));
    let told = rig.take(b);
    assert!(told[0].starts_with("42[\"error\",{\"code\":\"auth_timeout\"") && told[1] == "41", "{told:?}");
    assert_eq!(rig.closed, [(b, 4408)]);
}

#[test]
fn events_under_their_own_names() {
    let greeted = LATE.lines().filter(|line| !line.starts_with("greeting")).collect::<Vec<_>>().join("\n");
    let mut rig = Rig::with_profile(&greeted, |_| {});
    let (a, b) = (rig.client("acme", "ann"), rig.client("acme", "bob"));
    for conn in [a, b] {
        rig.say(conn, "42[\"join_project\",7]");
    }
    rig.advance(TOLD);
    rig.take(a);
    rig.take(b);
    rig.say(a, "421[\"post\",{\"project\":7,\"text\":\"hi\",\"user\":\"mallory\"}]");
    let told = rig.take(b).remove(0);
    assert!(
        told.starts_with("42[\"message\",{\"type\":\"post\",\"data\":{\"by\":\"ann\",\"text\":\"hi\"}},{\"id\""),
        "{told}"
    );
    rig.take(a);
    rig.say(a, "42[\"note\",\"7\",\"psst\"]");
    assert_eq!(rig.take(b), ["42[\"noted\",{\"text\":\"psst\",\"user\":\"ann\"}]"]);
    assert_eq!(rig.take(a), [""; 0]);
    for (said, code) in [
        ("423[\"post\",{\"text\":\"hi\"}]", "\"code\":\"invalid_argument\",\"message\":\"project is missing\""),
        ("423[\"note\"]", "\"code\":\"invalid_argument\",\"message\":\"0 is missing\""),
        (
            "423[\"join_project\",{}]",
            "\"code\":\"invalid_argument\",\"message\":\"0 is neither a string nor a number\"",
        ),
        ("423[\"subscribe\",{}]", "\"code\":\"unknown_event\""),
    ] {
        rig.say(a, said);
        let answer = rig.take(a).remove(0);
        assert!(answer.starts_with("433[{\"ok\":false,") && answer.contains(code), "{said}: {answer}");
    }
    rig.say(a, "42[\"ping\"]");
    assert!(rig.take(a)[0].starts_with("42[\"pong\",{\"time\":\"2023-"));
}

#[test]
fn a_catalogue() {
    let mut rig = Rig::with_profile(
        r#"
name = "catalogue"
about = "-"
unknown_events = "refuse"
[client_events]
publish = { do = "publish" }
[events."payment.*"]
receive_roles = ["admin"]
publish = "backend"
[events."payment.received"]
schema = { type = "object", required = ["amount"], properties = { amount = { type = "number" } } }
[events.typed]
ephemeral = true
publish_roles = ["writer"]
"#,
        |_| {},
    );
    let a = rig.client("acme", "ann");
    rig.advance(TOLD);
    rig.take(a);
    let room = "\"room\":\"user:ann\"";
    for (event, answer) in [
        (format!("{{{room},\"type\":\"payment.confirmed\",\"data\":1}}"), "forbidden"),
        (format!("{{{room},\"type\":\"payment.received\",\"data\":{{\"amount\":\"1\"}}}}"), "invalid_data"),
        (format!("{{{room},\"type\":\"other\"}}"), "unknown_type"),
        (format!("{{{room},\"type\":\"typed\"}}"), "forbidden"),
        (format!("{{{room},\"type\":\"payment.received\",\"data\":{{\"amount\":1}}}}"), "\"ok\":true"),
    ] {
        rig.say(a, &format!("421[\"publish\",{event}]"));
        let answers = rig.take(a);
        assert!(answers.last().is_some_and(|text| text.contains(answer)), "{event}: {answers:?}");
    }
    // The backend's, for admins alone: nothing of it reaches her.
    let tenant = TenantId::parse("acme").unwrap();
    for (event, data, status, says) in [
        ("payment.confirmed", "1", 202, "\"offset\":"),
        ("payment.received", "{\"amount\":[]}", 400, "\"pointer\":\"/data/amount\""),
        ("other", "1", 400, "unknown_type"),
    ] {
        let from = ReplyTo { shard: ShardId(0), conn: ConnKey::new(99, 0) };
        let publish =
            Publish { event: event.into(), room: Some("user:ann".into()), data: data.into(), ..Publish::default() };
        rig.input(Input::Call { from, tenant: tenant.clone(), call: Box::new(Call::Publish(vec![publish])) });
        let (_, found, body) = rig.responses.remove(0);
        assert!(found == status && body.contains(says), "{event}: {found} {body}");
    }
    assert_eq!(rig.take(a), [""; 0]);
}

const ASKING: &str = r#"
name = "asking"
about = "-"
[backend]
url = "https://app.example"
secret_env = "SECRET"
[webhooks.crm]
url = "https://crm.example"
secret_env = "SECRET"
[webhooks.nowhere]
url = "{env:NOWHERE}"
secret_env = "SECRET"
[rooms."project:*"]
join = "backend"
[client_events]
subscribe = { do = "subscribe" }
join = { do = "join", room = "project:{0}", reply = { event = "joined", data = { project = "{0}" } } }
report = { do = "webhook", webhook = "crm", data = { text = "{0}" } }
lost = { do = "webhook", webhook = "nowhere" }
"#;

#[test]
fn the_backend_decides_and_a_webhook_is_told() {
    let mut rig = Rig::with_profile(ASKING, |settings| {
        settings.verdicts = Some(crate::shard::verdict::VerdictSettings::default());
        settings.webhooks = Box::new([Some(0), None]);
    });
    let a = rig.client("acme", "ann");
    rig.advance(TOLD);
    rig.take(a);
    let asked = |rig: &mut Rig| match std::mem::take(&mut rig.asks).pop() {
        Some(io::Ask::Authorize { ticket, question }) => (ticket, question),
        other => panic!("{other:?}"),
    };
    rig.say(a, "421[\"join\",7]");
    assert_eq!(rig.take(a), [""; 0], "not before the backend has answered");
    let (ticket, question) = asked(&mut rig);
    assert!(question.contains("\"room\":\"project:7\"") && question.contains("\"user\":\"ann\""), "{question}");
    rig.input(Input::Answered { ticket, answer: io::Answer::Allowed { ttl: None } });
    assert_eq!(rig.take(a), ["42[\"joined\",{\"project\":7}]", "431[{\"ok\":true,\"room\":\"project:7\"}]"]);
    // Of several rooms one after the other, and the answer when all is known.
    rig.say(a, "422[\"subscribe\",{\"rooms\":[\"project:8\",\"lobby\",\"project:9\",\"project:7\"]}]");
    for (room, answer) in
        [("project:9", io::Answer::Denied { ttl: None }), ("project:8", io::Answer::Allowed { ttl: None })]
    {
        let (ticket, question) = asked(&mut rig);
        assert!(question.contains(room), "{question}");
        rig.input(Input::Answered { ticket, answer });
    }
    let answer = rig.take(a).remove(0);
    let says = "\"rooms\":[\"project:8\",\"lobby\",\"project:7\"],\"denied\":[{\"room\":\"project:9\",\"code\":\"forbidden\"}]";
    assert!(answer.contains(says), "{answer}");
    rig.say(a, "423[\"join\",10]");
    let (ticket, _) = asked(&mut rig);
    rig.input(Input::Answered { ticket, answer: io::Answer::Unavailable });
    assert!(rig.take(a)[0].contains("backend_unavailable"));
    // Webhooks.
    rig.say(a, "424[\"report\",\"hello\"]");
    assert!(rig.take(a)[0].starts_with("434[{\"ok\":true,\"id\":\""));
    match std::mem::take(&mut rig.asks).pop() {
        Some(io::Ask::Notify { hook: 0, body, .. }) => {
            assert!(
                body.starts_with("{\"tenant\":\"acme\",\"id\":\"") && body.ends_with("\"data\":{\"text\":\"hello\"}}"),
                "{body}"
            );
        }
        other => panic!("{other:?}"),
    }
    rig.say(a, "425[\"lost\",1]");
    assert!(rig.take(a)[0].contains("webhook_unavailable"));
}
