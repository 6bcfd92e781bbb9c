//! Circles: large ones, rooms that are watched, an application's words, agents.

use super::story::Step::{self, *};
use super::story::{Story, check};
use super::*;
use crate::profile::template::Shape;
use crate::wire::auth::Pattern;
use serde_json::Value;

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
    // It becomes large while who came is gathered.
    check(
        |settings| {
            settings.presence.batch_over = 3;
            settings.presence.batch_every = Duration::from_secs(3);
        },
        &[
            Come("bob"),
            Come("cat"),
            Come("dan"),
            Come("fay"),
            Pass(2980),
            Hear(&["user:online status=online user=bob"]),
            Pass(40),
            Hear(&["presence:changes online=[cat dan fay]"]),
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

/// A circle that was just told of many is told again later, one that was told of few as soon as ever.
#[test]
fn where_many_come_it_is_told_less_often() {
    let margin = Duration::from_millis(20);
    for (over, rhythm) in [(0, Duration::from_secs(1)), (10_000, Duration::from_millis(500))] {
        for (many, pauses) in [(1, 1), (19, 1), (20, 2), (49, 4), (50, 5), (200, 5)] {
            let mut story = Story::new(|settings| {
                (settings.presence.batch_over, settings.presence.announce_max) = (over, 10_000);
            });
            // Of a small circle the first is told by itself, at once.
            for n in 0..many + usize::from(over > 0) {
                story.rig.client("acme", &format!("u{n}"));
            }
            story.rig.advance(rhythm + margin);
            assert!(!story.hear().is_empty());
            story.rig.client("acme", "late");
            story.rig.advance(rhythm * pauses - margin * 2);
            assert!(story.hear().is_empty(), "{many} of {over}");
            // Up to half as long again, by chance, where it is not the usual.
            let apart = if pauses > 1 { rhythm * pauses / 2 } else { Duration::ZERO };
            story.rig.advance(apart + margin * 2);
            assert_eq!(story.hear().len(), 1, "{many} of {over}");
        }
    }
}

/// Many tenants that are due at once are told in turns of bounded length, in the order they became due, and each is told.
#[test]
fn many_tenants_are_told_in_turns() {
    const TENANTS: usize = 60;
    let mut rig = Rig::with(|settings| settings.ping_interval = Duration::from_secs(100_000));
    let mut first = Vec::new();
    for tenant in 0..TENANTS {
        let conns: Vec<ConnKey> = (0..50).map(|user| rig.client(&format!("t{tenant}"), &format!("u{user}"))).collect();
        first.push(conns[0]);
    }
    rig.advance(Duration::from_secs(5));
    first.iter().for_each(|conn| drop(rig.take(*conn)));
    // Each tells the first change at once, and gathers the second: now all are due within the same tick.
    for change in ["away", "busy"] {
        for conn in &first {
            rig.say(*conn, &format!("42[\"status\",{{\"status\":\"{change}\"}}]"));
        }
    }
    first.iter().for_each(|conn| drop(rig.take(*conn)));
    let mut told = Vec::new();
    let end = rig.now.at + Duration::from_secs(1);
    while let Some(deadline) = rig.shard.next_deadline().filter(|deadline| *deadline <= end) {
        rig.now = rig.now.later(deadline.since(rig.now.at));
        rig.input(Input::Tick);
        let heard = first.iter().filter(|conn| rig.take(**conn).iter().any(|packet| packet.contains("busy"))).count();
        if heard > 0 {
            told.push((rig.now.at, heard));
        }
    }
    assert_eq!(told.iter().map(|(_, heard)| heard).sum::<usize>(), TENANTS);
    // 5 tenants of 50 are as many members as one turn tells; the next turn comes at once.
    assert!(told.iter().all(|(at, heard)| *heard == 5 && *at == told[0].0), "{told:?}");
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
