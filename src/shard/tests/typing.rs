//! Typing: told once, over by itself, in an application's words, within its bounds.

use super::*;
use crate::profile::template::Shape;
use crate::shard::typing::{Told, Words};

/// A listener and a typist in one room.
fn pair(change: impl FnOnce(&mut Settings)) -> (Rig, ConnKey, ConnKey) {
    let mut rig = Rig::with(|settings| {
        // Nobody answers pings here.
        settings.ping_interval = Duration::from_secs(100_000);
        change(settings);
    });
    let (listener, typist) = (rig.client("acme", "ann"), rig.client("acme", "bob"));
    for conn in [listener, typist] {
        rig.say(conn, "42[\"subscribe\",{\"rooms\":[\"r\"]}]");
    }
    rig.advance(TOLD);
    rig.drop_all();
    (rig, listener, typist)
}

const START: &str = "42[\"typing:start\",{\"room\":\"r\"}]";
const STOP: &str = "42[\"typing:stop\",{\"room\":\"r\"}]";

#[test]
fn a_start_lasts_and_is_repeated() {
    const STARTS: &str = "42[\"typing:start\",{\"room\":\"r\",\"user\":\"bob\"}]";
    const STOPS: &str = "42[\"typing:stop\",{\"room\":\"r\",\"user\":\"bob\"}]";
    let second = Some(Duration::from_secs(1));
    // Milliseconds between starts, how many, whether it then stops by itself; what is heard.
    for (repeat, apart, times, stops, want) in [
        (None, 100, 1, true, vec![STARTS, STOPS]),
        (None, 5000, 4, true, vec![STARTS, STOPS]),
        (None, 100, 2, false, vec![STARTS, STOPS]),
        (None, 6100, 2, true, vec![STARTS, STOPS, STARTS, STOPS]),
        (second, 100, 21, true, vec![STARTS, STARTS, STARTS, STOPS]),
        (second, 2000, 3, false, vec![STARTS, STARTS, STARTS, STOPS]),
    ] {
        let (mut rig, listener, typist) = pair(|settings| settings.typing.repeat_every = repeat);
        for _ in 0..times {
            rig.say(typist, START);
            rig.advance(Duration::from_millis(apart));
        }
        if stops {
            rig.advance(Duration::from_millis(6100));
        } else {
            rig.say(typist, STOP);
            rig.say(typist, STOP);
        }
        assert_eq!(rig.take(listener), want, "{repeat:?} {apart} {times}");
        assert!(rig.take(typist).iter().all(|packet| !packet.contains("typing")), "the others only");
    }
}

#[test]
fn an_applications_words() {
    let shape = Shape::from(serde_json::json!({ "userId": "{user}" })).unwrap();
    let (mut rig, listener, typist) = pair(|settings| {
        settings.typing.start = Telling { event: "conversation:typing".into(), data: Some(shape) };
        settings.typing.stop = None;
        settings.typing.ttl = Duration::from_secs(2);
    });
    rig.say(typist, START);
    rig.advance(Duration::from_secs(3));
    assert_eq!(rig.take(listener), ["42[\"conversation:typing\",{\"userId\":\"bob\"}]"]);
    assert!(rig.shard.typing.is_empty());
}

/// An operation's own words: the end that comes by itself has those of its start.
#[test]
fn an_operations_words() {
    let app = App::new().namespace("/", |namespace| {
        namespace.on("type", |socket, args| {
            let _ = socket.join("r");
            let told = |event: &str| Some(Told { event: event.into(), data: args.raw().into() });
            let words = Words { start: told("starts"), stop: told("stops") };
            let answer = socket.set_typing("r", true, Some(words));
            socket.ack(&format!("{}", answer.is_ok()));
        });
    });
    let mut rig = Rig::of(app, |_| {});
    let [listener, typist] = ["ann", "bob"].map(|user| {
        let conn = rig.open(Wire::WebSocket, Some(rig.token("acme", user)));
        rig.say(conn, "40");
        conn
    });
    rig.say(listener, "42[\"type\",0]");
    rig.advance(Duration::from_secs(7));
    rig.drop_all();
    rig.say(typist, "421[\"type\",{\"contactId\":7}]");
    assert_eq!(rig.take(typist), ["431[true]"]);
    rig.advance(Duration::from_secs(7));
    assert_eq!(rig.take(listener), ["42[\"starts\",{\"contactId\":7}]", "42[\"stops\",{\"contactId\":7}]"]);
    rig.say(typist, &format!("421[\"type\",\"{}\"]", "x".repeat(2000)));
    assert_eq!(rig.take(typist), ["431[false]"], "what is kept of it is bounded");
}

/// A socket types in so many rooms at a time, and in none that it does not sit in.
#[test]
fn its_bounds() {
    let (mut rig, _, typist) = pair(|_| {});
    let rooms: Vec<String> = (0..200).map(|n| format!("\"r{n}\"")).collect();
    rig.say(typist, &format!("42[\"subscribe\",{{\"rooms\":[{}]}}]", rooms.join(",")));
    rig.drop_all();
    for room in &rooms {
        rig.say(typist, &format!("421[\"typing:start\",{{\"room\":{room}}}]"));
    }
    let answers = rig.take(typist);
    let started = answers.iter().filter(|answer| answer.contains("\"ok\":true")).count();
    assert_eq!(started, usize::from(limit::TYPING_ROOMS_MAX));
    assert!(answers[100].contains("too_many_items"), "{}", answers[100]);
    rig.say(typist, "421[\"typing:start\",{\"room\":\"elsewhere\"}]");
    assert!(rig.take(typist)[0].contains("not_member"));
    rig.input(Input::Hangup { conn: typist, cause: Hangup::Failed });
    assert!(rig.shard.typing.is_empty());
    rig.advance(Duration::from_secs(60));
}

/// A profile's words, filled with what the client said; one that names no stop tells of none.
#[test]
fn a_profiles_words() {
    let base = "name = \"mine\"\nabout = \"typing\"\n[client_events]\nt = { do = \"typing\", action = \"start\", room = \"c:{contactId}\" }\n\
                s = { do = \"typing\", action = \"stop\", room = \"c:{contactId}\" }\nsubscribe = { do = \"subscribe\" }\n";
    let starts = "[typing]\nstart = { event = \"conversation:typing\", data = { userId = \"{user}\" } }\n";
    let both = "[typing]\nstart = { event = \"typing:start\", data = { contactId = \"{contactId}\", userId = \"{user}\" } }\n\
                stop = { event = \"typing:stop\", data = { contactId = \"{contactId}\", in = \"{room}\" } }\n";
    for (words, want) in [
        (
            "",
            &[
                "42[\"typing:start\",{\"room\":\"c:7\",\"user\":\"bob\"}]",
                "42[\"typing:stop\",{\"room\":\"c:7\",\"user\":\"bob\"}]",
            ][..],
        ),
        (starts, &["42[\"conversation:typing\",{\"userId\":\"bob\"}]"]),
        (
            both,
            &[
                "42[\"typing:start\",{\"contactId\":7,\"userId\":\"bob\"}]",
                "42[\"typing:stop\",{\"contactId\":7,\"in\":\"c:7\"}]",
            ],
        ),
    ] {
        let profile = crate::profile::Profile::parse(&format!("{base}{words}")).unwrap();
        let typing = TypingSettings::of(&profile.typing);
        let mut rig = Rig::of(profile_app(profile, ["/"]), |settings| settings.typing = typing);
        let [listener, typist] = ["ann", "bob"].map(|user| {
            let conn = rig.open(Wire::WebSocket, Some(rig.token("acme", user)));
            rig.say(conn, "40");
            rig.say(conn, "42[\"subscribe\",{\"rooms\":[\"c:7\"]}]");
            conn
        });
        rig.advance(TOLD);
        rig.drop_all();
        for (event, ends) in [("s", false), ("t", true)] {
            rig.say(typist, "42[\"t\",{\"contactId\":7}]");
            rig.say(typist, &format!("42[\"{event}\",{{\"contactId\":7}}]"));
            if ends {
                rig.advance(Duration::from_secs(7));
            }
            assert_eq!(rig.take(listener), want, "{words}");
        }
    }
}
