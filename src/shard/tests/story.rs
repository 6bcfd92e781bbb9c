//! Stories: who comes, goes and says what, and what another one, eve, hears of it. A story is a list of steps.

use super::*;
use serde_json::Value;
use std::collections::BTreeMap;

/// What happens; users are named, and each name is one connection.
#[derive(Clone, Copy, Debug)]
pub enum Step {
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

pub struct Story {
    pub rig: Rig,
    pub conns: BTreeMap<&'static str, ConnKey>,
}

impl Story {
    pub fn new(change: impl FnOnce(&mut Settings)) -> Story {
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

    pub fn come(&mut self, who: &'static str, roles: &[String]) {
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
    pub fn hear(&mut self) -> Vec<String> {
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

pub fn check(change: impl FnOnce(&mut Settings), steps: &[Step]) {
    let mut story = Story::new(change);
    for (nth, step) in steps.iter().enumerate() {
        story.go(nth, *step);
    }
}

pub fn grace(seconds: u64) -> impl FnOnce(&mut Settings) {
    move |settings| settings.presence.grace = Duration::from_secs(seconds)
}
