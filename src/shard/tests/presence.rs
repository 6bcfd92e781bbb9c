//! Presence: who is there, who was, and what the tenant is told of it.

use super::story::Step::{self, *};
use super::story::{Story, check, grace};
use super::*;

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
