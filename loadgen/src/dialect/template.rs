//! Texts with holes: `{room}`, `{tenant}`, `{user}`, `{token}`, `{payload}`. Split once, filled a hundred thousand times a second.

use crate::payload::Payload;

/// What the holes are filled with. A request without a hole for one does not need it.
pub struct Names<'a> {
    pub room: &'a str,
    pub tenant: &'a str,
    pub user: &'a str,
    pub token: &'a str,
    /// With its size in bytes.
    pub payload: Option<(Payload, usize)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Hole(Hole),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hole {
    Room,
    Tenant,
    User,
    Token,
    Payload,
}

const HOLES: [(&str, Hole); 5] = [
    ("room", Hole::Room),
    ("tenant", Hole::Tenant),
    ("user", Hole::User),
    ("token", Hole::Token),
    ("payload", Hole::Payload),
];

impl Template {
    /// JSON's braces are text: a hole is a brace, small letters, and a brace.
    pub fn parse(text: &str) -> Result<Template, String> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            let (before, after) = rest.split_at(at);
            plain.push_str(before);
            let letters = after[1..].bytes().take_while(u8::is_ascii_lowercase).count();
            let name = &after[1..=letters];
            if letters == 0 || after.as_bytes().get(letters + 1) != Some(&b'}') {
                plain.push('{');
                rest = &after[1..];
                continue;
            }
            let Some((_, hole)) = HOLES.iter().find(|(known, _)| *known == name) else {
                return Err(format!("{{{name}}} is none of {{room}} {{tenant}} {{user}} {{token}} {{payload}}"));
            };
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(Part::Hole(*hole));
            rest = &after[letters + 2..];
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Template { parts })
    }

    /// Whether it names a user, and whether a token: those are made when they are needed.
    pub fn names(&self) -> (bool, bool) {
        let has = |hole| self.parts.contains(&Part::Hole(hole));
        (has(Hole::User), has(Hole::Token))
    }

    pub fn fill(&self, names: &Names<'_>, out: &mut Vec<u8>) {
        for part in &self.parts {
            let text = match part {
                Part::Text(text) => text,
                Part::Hole(Hole::Room) => names.room,
                Part::Hole(Hole::Tenant) => names.tenant,
                Part::Hole(Hole::User) => names.user,
                Part::Hole(Hole::Token) => names.token,
                Part::Hole(Hole::Payload) => {
                    if let Some((payload, bytes)) = &names.payload {
                        payload.encode(*bytes, out);
                    }
                    continue;
                }
            };
            out.extend_from_slice(text.as_bytes());
        }
    }

    /// Whether it is the JSON array of a Socket.IO event once it is filled.
    pub fn is_event(&self) -> bool {
        let names = Names { room: "r", tenant: "t", user: "u", token: "k", payload: None };
        let mut text = Vec::new();
        self.fill(&names, &mut text);
        let array: Result<Vec<serde_json::Value>, _> = serde_json::from_slice(&text);
        array.is_ok_and(|array| array.first().is_some_and(serde_json::Value::is_string))
    }
}
