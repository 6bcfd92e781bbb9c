//! Presence, as stories: who comes, goes and says what, and what another one hears of it.

use super::*;
use crate::profile::template::Shape;
use crate::wire::auth::Pattern;
use serde_json::Value;
use std::collections::BTreeMap;

/// What happens; users are named, and each name is one connection.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A client of the user up to the `/` connects: `ann/2` is ann's second device.
    Come(&'static str),
    /// As `Come`, with the role `agent`.
    Agent(&'static str),
    /// It leaves its namespace, then its connection is closed, as the official client's `disconnect()` does.
    Bye(&'static str),
    /// Its connection is gone.
    Break(&'static str),
    Say(&'static str, &'static str),
    Kick(&'static str),
    Pass(u64),
    /// What eve has heard since she was last asked.
    Hear(&'static [&'static str]),
    /// The answer to eve's question begins so.
    Ask(&'static str, &'static str),
    /// What a backend is told of a user begins so.
    User(&'static str, &'static str),
}
use Step::*;

struct Story {
    rig: Rig,
    conns: BTreeMap<&'static str, ConnKey>,
}

impl Story {
    fn new(change: impl FnOnce(&mut Settings)) -> Story {
        // Nobody answers pings here.
        let quiet = |settings: &mut Settings| settings.ping_interval = Duration::from_secs(100_000);
        let rig = Rig::with(|settings| {
            quiet(settings);
            change(settings);
        });
        let mut story = Story { rig, conns: BTreeMap::new() };
        story.come("eve", &[]);
        story.rig.advance(Duration::from_millis(1500));
        story.hear();
        story
    }

    fn come(&mut self, who: &'static str, roles: &[String]) {
        let token = mint(
            &Mint {
                tenant: "acme",
                user: who.split('/').next().unwrap(),
                roles,
                ttl: Some(Duration::from_secs(3600)),
                ..Mint::default()
            },
            &self.rig.keys,
            &Policy::default(),
            self.rig.now.unix,
        );
        let conn = self.rig.open(Wire::WebSocket, Some(token.unwrap()));
        self.rig.say(conn, "40");
        self.conns.insert(who, conn);
    }

    /// What eve has heard: each event with its data, without times.
    fn hear(&mut self) -> Vec<String> {
        let conn = self.conns["eve"];
        let packets = self.rig.take(conn);
        packets.iter().filter_map(|packet| packet.strip_prefix("42")).filter_map(shown).collect()
    }

    fn go(&mut self, nth: usize, step: Step) {
        match step {
            Come(who) => self.come(who, &[]),
            Agent(who) => self.come(who, &["agent".to_owned()]),
            Bye(who) => {
                let conn = self.conns[who];
                self.rig.say(conn, "41");
                self.rig.input(Input::Hangup { conn, cause: Hangup::Closed });
            }
            Break(who) => self.rig.input(Input::Hangup { conn: self.conns[who], cause: Hangup::Failed }),
            Say(who, text) => self.rig.say(self.conns[who], text),
            Kick(user) => drop(self.call(Call::Kick { user: user.into() })),
            Pass(ms) => self.rig.advance(Duration::from_millis(ms)),
            Hear(want) => assert_eq!(self.hear(), want, "step {nth}"),
            Ask(question, want) => {
                let conn = self.conns["eve"];
                self.rig.say(conn, &format!("427{question}"));
                let packets = self.rig.take(conn);
                let answer = packets.iter().find_map(|packet| packet.strip_prefix("437")).unwrap();
                assert!(untimed(answer).starts_with(want), "step {nth}: {}", untimed(answer));
            }
            User(user, want) => {
                let answer = self.call(Call::User { user: user.into() });
                assert!(untimed(&answer).starts_with(want), "step {nth}: {answer}");
            }
        }
    }

    fn call(&mut self, call: Call) -> String {
        let from = ReplyTo { shard: ShardId(0), conn: ConnKey::new(999, 0) };
        self.rig.input(Input::Call { from, tenant: TenantId::parse("acme").unwrap(), call: Box::new(call) });
        self.rig.responses.pop().unwrap().2
    }
}

/// Times are `T`, as long as they are some.
fn untimed(json: &str) -> String {
    let mut out = String::new();
    let mut rest = json;
    while let Some(at) = rest.find("\"2023-") {
        out.push_str(&rest[..at]);
        out.push('T');
        rest = &rest[at + 26..];
    }
    out + rest
}

/// `name key=value ..` in the order of the keys, without times; of a list the users in it.
fn shown(packet: &str) -> Option<String> {
    let event: Value = serde_json::from_str(packet).unwrap();
    let name = event[0].as_str().unwrap().to_owned();
    if ["connected", "error"].contains(&&*name) {
        return None;
    }
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => {
            let users: Vec<&str> = list.iter().map(|entry| entry["user"].as_str().unwrap()).collect();
            format!("[{}]", users.join(" "))
        }
        other => other.to_string(),
    };
    let members = event[1].as_object().into_iter().flatten();
    let members = members.filter(|(key, _)| !["time", "lastSeen"].contains(&&***key));
    Some(members.fold(name, |out, (key, value)| format!("{out} {key}={}", text(value))))
}

fn check(change: impl FnOnce(&mut Settings), steps: &[Step]) {
    let mut story = Story::new(change);
    for (nth, step) in steps.iter().enumerate() {
        story.go(nth, *step);
    }
}

fn grace(seconds: u64) -> impl FnOnce(&mut Settings) {
    move |settings| settings.presence.grace = Duration::from_secs(seconds)
}

/// The first change is told at once, those soon after it in one go; who was away for a moment was not away.
#[test]
fn changes_are_gathered() {
    check(
        grace(0),
        &[
            Come("bob"),
            Hear(&["user:online status=online user=bob"]),
            Come("cat"),
            Say("cat", "421[\"status\",{\"status\":\"busy\"}]"),
            Break("bob"),
            Come("bob"),
            Come("dan"),
            Break("dan"),
            Hear(&[]),
            Pass(510),
            Hear(&["user:online status=busy user=cat"]),
            Pass(510),
            Say("cat", "1"),
            Hear(&["user:offline status=offline user=cat"]),
            Pass(510),
            Come("cat/2"),
            Hear(&["user:online status=online user=cat"]),
        ],
    );
}

#[test]
fn nothing_reaches_another_tenant() {
    let mut rig = Rig::with(|settings| settings.presence.grace = Duration::from_secs(1));
    let (ann, eve) = (rig.client("acme", "ann"), rig.client("globex", "eve"));
    rig.client("acme", "eve");
    rig.say(ann, "421[\"status\",{\"status\":\"away\"}]");
    rig.input(Input::Hangup { conn: ann, cause: Hangup::Failed });
    rig.advance(Duration::from_secs(5));
    let heard = rig.take(eve);
    assert!(heard.iter().all(|packet| !packet.contains("ann")), "{heard:?}");
    rig.say(eve, "421[\"presence\",{\"users\":[\"ann\",\"eve\"]}]");
    let answer = rig.take(eve).pop().unwrap();
    assert!(answer.contains("{\"user\":\"ann\",\"status\":\"offline\",\"since\":null,\"lastSeen\":null"), "{answer}");
    assert!(answer.contains("\"connections\":1}"), "{answer}");
}

/// Short breaks are hidden, with the status; who says goodbye or is kicked is gone at once.
#[test]
fn a_grace() {
    const ONLINE: &str = "user:online status=online user=bob";
    const OFFLINE: &str = "user:offline status=offline user=bob";
    let stories: [(&str, &[Step]); 7] = [
        (
            "back within it",
            &[Come("bob"), Pass(600), Break("bob"), Pass(4900), Come("bob"), Pass(9000), Hear(&[ONLINE])],
        ),
        (
            "its status is what it was",
            &[
                Come("bob"),
                Say("bob", "42[\"status\",{\"status\":\"busy\"}]"),
                Pass(600),
                Break("bob"),
                Pass(4000),
                Come("bob"),
                Pass(9000),
                Hear(&[ONLINE, "user:status status=busy user=bob"]),
                User("bob", "{\"user\":\"bob\",\"status\":\"busy\""),
            ],
        ),
        (
            "not back",
            &[
                Come("bob"),
                Pass(600),
                Break("bob"),
                Pass(4980),
                Hear(&[ONLINE]),
                Pass(40),
                Hear(&[OFFLINE]),
                Come("bob"),
                Pass(600),
                Hear(&[ONLINE]),
            ],
        ),
        ("a goodbye", &[Come("bob"), Pass(600), Bye("bob"), Hear(&[ONLINE, OFFLINE])]),
        ("a kick", &[Come("bob"), Pass(600), Kick("bob"), Hear(&[ONLINE, OFFLINE])]),
        (
            "several devices are one user",
            &[
                Come("bob"),
                Come("bob/2"),
                Pass(600),
                Break("bob"),
                Pass(9000),
                Hear(&[ONLINE]),
                Break("bob/2"),
                Pass(4000),
                Come("bob"),
                Break("bob"),
                Pass(4900),
                Hear(&[]),
                Pass(200),
                Hear(&[OFFLINE]),
            ],
        ),
        (
            "who hides is not seen to go",
            &[
                Come("bob"),
                Say("bob", "42[\"status\",{\"status\":\"offline\"}]"),
                Pass(600),
                Hear(&[ONLINE, "user:status status=offline user=bob"]),
                Break("bob"),
                Pass(9000),
                Hear(&[]),
            ],
        ),
    ];
    for (what, steps) in stories {
        println!("{what}");
        check(grace(5), steps);
    }
}

/// Within its grace a user is present, with no connection; then it is known when it was last seen, for a while.
#[test]
fn who_is_asked_for() {
    const BOB: &str = "[\"presence\",{\"users\":[\"bob\",\"nobody\"]}]";
    const ROOM: &str = "[\"presence\",{\"room\":\"tenant:acme\"}]";
    const NOBODY: &str =
        "{\"user\":\"nobody\",\"status\":\"offline\",\"since\":null,\"lastSeen\":null,\"connections\":0}";
    check(
        |settings| {
            settings.presence.grace = Duration::from_secs(5);
            settings.presence.last_seen_ttl = Duration::from_secs(100);
        },
        &[
            Ask(
                BOB,
                "[{\"ok\":true,\"users\":[{\"user\":\"bob\",\"status\":\"offline\",\"since\":null,\"lastSeen\":null,\"connections\":0}",
            ),
            Come("bob"),
            Say("bob", "42[\"subscribe\",{\"rooms\":[\"r\"]}]"),
            Ask(
                BOB,
                "[{\"ok\":true,\"users\":[{\"user\":\"bob\",\"status\":\"online\",\"since\":T,\"lastSeen\":T,\"connections\":1}",
            ),
            Break("bob"),
            Pass(1000),
            Ask(
                BOB,
                "[{\"ok\":true,\"users\":[{\"user\":\"bob\",\"status\":\"online\",\"since\":T,\"lastSeen\":T,\"connections\":0}",
            ),
            Ask(
                ROOM,
                "[{\"ok\":true,\"members\":[{\"user\":\"eve\",\"status\":\"online\",\"since\":T,\"lastSeen\":T,\"connections\":1},{\"user\":\"bob\",\"status\":\"online\",\"since\":T,\"lastSeen\":T,\"connections\":0}]}]",
            ),
            Ask("[\"presence\",{\"room\":\"r\"}]", "[{\"ok\":true,\"members\":[{\"user\":\"bob\","),
            User(
                "bob",
                "{\"user\":\"bob\",\"status\":\"online\",\"since\":T,\"lastSeen\":T,\"connections\":0,\"rooms\":[\"r\",\"tenant:acme\",\"user:bob\"]}",
            ),
            Pass(5000),
            Ask(
                BOB,
                "[{\"ok\":true,\"users\":[{\"user\":\"bob\",\"status\":\"offline\",\"since\":T,\"lastSeen\":T,\"connections\":0}",
            ),
            Ask(
                ROOM,
                "[{\"ok\":true,\"members\":[{\"user\":\"eve\",\"status\":\"online\",\"since\":T,\"lastSeen\":T,\"connections\":1}]}]",
            ),
            User(
                "bob",
                "{\"user\":\"bob\",\"status\":\"offline\",\"since\":T,\"lastSeen\":T,\"connections\":0,\"rooms\":[]}",
            ),
            Pass(140_000),
            User(
                "bob",
                "{\"user\":\"bob\",\"status\":\"offline\",\"since\":null,\"lastSeen\":null,\"connections\":0,\"rooms\":[]}",
            ),
            User("nobody", NOBODY.strip_suffix('}').unwrap()),
            Ask("[\"presence\",{\"room\":\"r\",\"users\":[]}]", "[{\"ok\":false,\"code\":\"invalid_argument\""),
            Ask("[\"presence\",{}]", "[{\"ok\":false,\"code\":\"invalid_argument\""),
        ],
    );
    let many: String = (0..101).map(|n| format!("\"u{n}\",")).collect();
    let mut story = Story::new(|_| {});
    let eve = story.conns["eve"];
    story.rig.say(eve, &format!("427[\"presence\",{{\"users\":[{}]}}]", many.trim_end_matches(',')));
    assert!(story.rig.take(eve)[0].contains("\"code\":\"too_many_items\""));
}

/// Last seen is the last sign of life, not when somebody noticed; who hides gives none.
#[test]
fn last_seen_is_the_last_sign_of_life() {
    let mut story = Story::new(|_| {});
    let of = |story: &mut Story| {
        let eve = story.conns["eve"];
        story.rig.say(eve, "427[\"presence\",{\"users\":[\"bob\"]}]");
        let answer = story.rig.take(eve).into_iter().find(|packet| packet.starts_with("437")).unwrap();
        field(&answer, "lastSeen").to_owned()
    };
    story.come("bob", &[]);
    story.rig.advance(Duration::from_secs(10));
    let bob = story.conns["bob"];
    story.rig.say(bob, "42[\"status\",{\"status\":\"away\"}]");
    let heard = story.rig.now.unix.rfc3339().to_string();
    story.rig.advance(Duration::from_secs(30));
    assert_eq!(of(&mut story), heard, "while it is there");
    story.rig.input(Input::Hangup { conn: bob, cause: Hangup::Failed });
    story.rig.advance(Duration::from_secs(30));
    assert_eq!(of(&mut story), heard, "when it is gone");
    story.come("bob", &[]);
    let bob = story.conns["bob"];
    story.rig.say(bob, "42[\"status\",{\"status\":\"offline\"}]");
    let hid = story.rig.now.unix.rfc3339().to_string();
    story.rig.advance(Duration::from_secs(30));
    story.rig.say(bob, "42[\"status\",{\"status\":\"offline\"}]");
    assert_eq!(of(&mut story), hid, "while it hides");
    story.rig.say(bob, "41");
    story.rig.input(Input::Hangup { conn: bob, cause: Hangup::Failed });
    assert_eq!(of(&mut story), hid, "when who hid is gone");
}

/// In a large circle one event tells of all, in its rhythm; in a larger one nobody is told.
#[test]
fn a_large_tenant() {
    let few = |over: u32, max: u32| {
        move |settings: &mut Settings| {
            (settings.presence.batch_over, settings.presence.announce_max) = (over, max);
            settings.presence.batch_every = Duration::from_secs(3);
            settings.presence.grace = Duration::ZERO;
        }
    };
    check(
        few(2, 1000),
        &[
            Come("bob"),
            Pass(600),
            Come("cat"),
            Hear(&["user:online status=online user=bob", "user:online status=online user=cat"]),
            Come("dan"),
            Come("fay"),
            Say("bob", "42[\"status\",{\"status\":\"away\"}]"),
            Bye("cat"),
            Pass(2980),
            Hear(&[]),
            Pass(40),
            Hear(&["presence:changes offline=[cat] online=[dan fay] status=[bob]"]),
            Bye("dan"),
            Pass(2980),
            Hear(&[]),
            Pass(40),
            Hear(&["presence:changes offline=[dan]"]),
            Come("dan"),
            Bye("dan"),
            Pass(4000),
            Hear(&[]),
        ],
    );
    check(
        few(0, 2),
        &[
            Come("bob"),
            Pass(4000),
            Come("cat"),
            Pass(4000),
            Come("dan"),
            Pass(4000),
            Hear(&["presence:changes online=[bob]"]),
        ],
    );
    check(few(100, 0), &[Come("bob"), Pass(4000), Hear(&[])]);
    check(
        |settings| settings.presence.tenant = None,
        &[
            Come("bob"),
            Pass(4000),
            Break("bob"),
            Pass(4000),
            Hear(&[]),
            User("bob", "{\"user\":\"bob\",\"status\":\"offline\",\"since\":T"),
        ],
    );
}

/// What is gathered is bounded, and so is what one event holds.
#[test]
fn a_storm_is_told_in_parts() {
    let mut story = Story::new(|settings| {
        settings.presence.batch_over = 0;
        settings.presence.announce_max = 10_000;
    });
    for n in 0..1200 {
        story.rig.client("acme", &format!("u{n}"));
    }
    story.rig.advance(Duration::from_millis(1100));
    let heard = story.hear();
    let counts: Vec<usize> = heard.iter().map(|event| event.matches(['[', ' ']).count() - 1).collect();
    assert_eq!(counts, [500, 500, 200]);
}

/// Events and data are an application's.
#[test]
fn an_applications_words() {
    let shape = |json: Value| Shape::from(json).unwrap();
    check(
        |settings| {
            let words = settings.presence.tenant.as_mut().unwrap();
            words.online = Some(Telling {
                event: "user:online".into(),
                data: Some(shape(serde_json::json!({ "userId": "{user}", "status": "{status}" }))),
            });
            words.offline = Some(Telling {
                event: "bye".into(),
                data: Some(shape(
                    serde_json::json!({ "who": "{tenant}/{user}", "seen": "{lastSeen}", "in": "{room}" }),
                )),
            });
            words.status = None;
            settings.presence.statuses = [Status::Online, Status::Away].into();
            settings.presence.grace = Duration::ZERO;
        },
        &[
            Come("bob"),
            Pass(600),
            Say("bob", "427[\"status\",{\"status\":\"away\"}]"),
            Pass(600),
            Hear(&["user:online status=online userId=bob"]),
            User("bob", "{\"user\":\"bob\",\"status\":\"away\""),
            Ask("[\"status\",{\"status\":\"busy\"}]", "[{\"ok\":false,\"code\":\"invalid_argument\""),
            Break("bob"),
            Pass(600),
            Hear(&["bye in=null seen=2023-11-14T22:13:22.100Z who=acme/bob"]),
        ],
    );
}

/// Rooms whose members are told who is in them: devices counted once, breaks hidden, in one event where they are many.
#[test]
fn who_is_in_a_room() {
    const IN_R: &str = "42[\"subscribe\",{\"rooms\":[\"r:1\",\"other\"]}]";
    const OUT_OF_R: &str = "42[\"unsubscribe\",{\"rooms\":[\"r:1\"]}]";
    const JOINED: &str = "room:joined room=r:1 status=online user=bob";
    const LEFT: &str = "room:left room=r:1 user=bob";
    let rooms = |batch_over: u32| {
        move |settings: &mut Settings| {
            settings.presence.tenant = None;
            let wording = Wording { status: Some(Telling::plain("room:status")), ..Wording::of_room() };
            settings.presence.rooms = [RoomPresence { pattern: Pattern::parse("r:*").unwrap(), wording }].into();
            settings.presence.grace = Duration::from_secs(5);
            settings.presence.batch_over = batch_over;
        }
    };
    let stories: [(&str, u32, &[Step]); 6] = [
        (
            "several devices",
            100,
            &[
                Say("eve", IN_R),
                Pass(600),
                Come("bob"),
                Come("bob/2"),
                Say("bob", IN_R),
                Hear(&[JOINED]),
                Say("bob/2", IN_R),
                Say("bob", OUT_OF_R),
                Pass(600),
                Hear(&[]),
                Say("bob/2", OUT_OF_R),
                Hear(&[LEFT]),
            ],
        ),
        (
            "a short break",
            100,
            &[
                Say("eve", IN_R),
                Pass(600),
                Come("bob"),
                Say("bob", IN_R),
                Break("bob"),
                Pass(4000),
                Come("bob"),
                Say("bob", IN_R),
                Pass(9000),
                Hear(&[JOINED]),
                Say("bob", "42[\"status\",{\"status\":\"busy\"}]"),
                Hear(&["room:status room=r:1 status=busy user=bob"]),
            ],
        ),
        (
            "back, but not in the room",
            100,
            &[
                Say("eve", IN_R),
                Pass(600),
                Come("bob"),
                Say("bob", IN_R),
                Break("bob"),
                Pass(4000),
                Come("bob"),
                Pass(900),
                Hear(&[JOINED]),
                Pass(200),
                Hear(&[LEFT]),
            ],
        ),
        (
            "one of two devices breaks off, then the other is kicked",
            100,
            &[
                Say("eve", IN_R),
                Pass(600),
                Come("bob"),
                Come("bob/2"),
                Say("bob", IN_R),
                Pass(600),
                Break("bob"),
                Kick("bob"),
                Hear(&[JOINED]),
                Pass(6000),
                Hear(&[LEFT]),
            ],
        ),
        (
            "goodbye",
            100,
            &[Say("eve", IN_R), Pass(600), Come("bob"), Say("bob", IN_R), Pass(600), Bye("bob"), Hear(&[JOINED, LEFT])],
        ),
        (
            "many",
            0,
            &[
                Say("eve", IN_R),
                Pass(600),
                Come("bob"),
                Come("cat"),
                Say("bob", IN_R),
                Say("cat", IN_R),
                Pass(1100),
                Hear(&["room:changes joined=[bob cat] room=r:1"]),
            ],
        ),
    ];
    for (what, batch_over, steps) in stories {
        println!("{what}");
        check(rooms(batch_over), steps);
    }
}

#[test]
fn availability_of_agents() {
    let settings = |settings: &mut Settings| {
        settings.presence.availability = Some(Availability {
            roles: ["agent".into()].into(),
            states: ["available", "busy", "offline", "auto", "lunch"].map(Into::into).into(),
            auto_offline: Some(Duration::from_secs(60)),
        });
        settings.presence.tenant.as_mut().unwrap().status = None;
    };
    const SAY: fn(&'static str) -> Step = |text| Say("bob", text);
    check(
        settings,
        &[
            Come("ann"),
            Agent("bob"),
            Pass(600),
            Hear(&[
                "user:online status=online user=ann",
                "user:online status=online user=bob",
                "agent:availability availability=available user=bob",
            ]),
            SAY("42[\"availability\",{\"status\":\"lunch\"}]"),
            Pass(600),
            Hear(&["agent:availability availability=lunch user=bob"]),
            Ask(
                "[\"presence\",{\"users\":[\"bob\",\"ann\"]}]",
                "[{\"ok\":true,\"users\":[{\"user\":\"bob\",\"status\":\"online\",\"since\":T,\"lastSeen\":T,\"connections\":1,\"availability\":\"lunch\"},{\"user\":\"ann\",\"status\":\"online\",\"since\":T,\"lastSeen\":T,\"connections\":1}]}]",
            ),
            // It is kept while the agent is away, and then it is not available.
            Bye("bob"),
            Pass(600),
            Hear(&["user:offline status=offline user=bob", "agent:availability availability=offline user=bob"]),
            Ask(
                "[\"presence\",{\"users\":[\"bob\"]}]",
                "[{\"ok\":true,\"users\":[{\"user\":\"bob\",\"status\":\"offline\",\"since\":T,\"lastSeen\":T,\"connections\":0,\"availability\":\"offline\"}]}]",
            ),
            Agent("bob"),
            Pass(600),
            Hear(&["user:online status=online user=bob", "agent:availability availability=lunch user=bob"]),
            // By its status, and offline once it has been away for long.
            SAY("42[\"availability\",{\"status\":\"auto\"}]"),
            Pass(600),
            SAY("42[\"status\",{\"status\":\"away\"}]"),
            Pass(600),
            Hear(&[
                "agent:availability availability=available user=bob",
                "agent:availability availability=away user=bob",
            ]),
            Pass(58_000),
            Hear(&[]),
            Pass(2000),
            Hear(&["agent:availability availability=offline user=bob"]),
            SAY("42[\"status\",{\"status\":\"online\"}]"),
            Pass(600),
            Hear(&["agent:availability availability=available user=bob"]),
            // Back before it was away for long: the timer that runs means nothing.
            SAY("42[\"status\",{\"status\":\"away\"}]"),
            Pass(30_000),
            SAY("42[\"status\",{\"status\":\"online\"}]"),
            Pass(5000),
            SAY("42[\"status\",{\"status\":\"away\"}]"),
            Pass(50_000),
            Hear(&[
                "agent:availability availability=away user=bob",
                "agent:availability availability=available user=bob",
                "agent:availability availability=away user=bob",
            ]),
            Ask("[\"availability\",{\"status\":\"busy\"}]", "[{\"ok\":false,\"code\":\"forbidden\""),
            Agent("eve"),
            Ask("[\"availability\",{\"status\":\"away\"}]", "[{\"ok\":false,\"code\":\"invalid_argument\""),
            Ask("[\"availability\",{\"status\":\"busy\"}]", "[{\"ok\":true}]"),
        ],
    );
    check(
        |_| {},
        &[
            Agent("eve"),
            Ask("[\"availability\",{\"status\":\"busy\"}]", "[{\"ok\":false,\"code\":\"availability_unavailable\""),
        ],
    );
}

/// However many come and go, what is remembered of them is bounded, and all of it is forgotten.
#[test]
fn what_is_remembered_is_bounded() {
    let mut rig = Rig::with(|settings| {
        settings.presence.grace = Duration::from_secs(1);
        settings.presence.last_seen_ttl = Duration::from_secs(50);
        settings.presence.announce_max = 0;
        settings.recovery = Duration::ZERO;
    });
    for round in 0..3 {
        let conns: Vec<_> = (0..500).map(|n| rig.client("acme", &format!("u{}", n % 50))).collect();
        for conn in conns {
            rig.input(Input::Hangup { conn, cause: Hangup::Failed });
        }
        rig.advance(Duration::from_secs(round));
    }
    let absences = |rig: &Rig| rig.shard.census().into_iter().find(|(name, _)| *name == "absences").unwrap().1;
    assert_eq!(absences(&rig), 50);
    rig.advance(Duration::from_secs(90));
    assert!(rig.shard.census().iter().all(|(_, count)| *count == 0), "{:?}", rig.shard.census());
}
