//! How a server is spoken to: what a client says to join, to publish and to ask, and by what it knows the answers.
//!
//! A dialect is a table of templates, or the name of a preset that a table may start from. [`Dialect::compile`] checks it and makes it quick to
//! use. Deliveries need no template: the payload is found by its mark, wherever the server puts it.

mod template;

pub use template::{Names, Template};

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// What comes before a payload's frame: Engine.IO's message and Socket.IO's event.
const EVENT: &str = "42";

/// What a scenario or the command line asks for.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Choice {
    Preset(String),
    Table(Box<Table>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// Engine.IO 4 and Socket.IO 5 over WebSocket.
    #[serde(rename = "socket.io")]
    SocketIo,
    /// Text frames of the templates, nothing around them.
    #[serde(rename = "websocket")]
    WebSocket,
}

/// A dialect as it is written. What is not given comes from the preset.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Table {
    /// `tenantcast`, `socket.io` or `websocket`.
    pub preset: Option<String>,
    pub protocol: Option<Protocol>,
    /// Of the upgrade request. Socket.IO's `EIO` and `transport` are added.
    pub path: Option<String>,
    /// More of its query: `token={token}`.
    pub query: Option<String>,
    /// JSON of the CONNECT packet; empty: none.
    pub auth: Option<String>,
    /// Socket.IO's; `/` without.
    pub namespace: Option<String>,
    /// What `{token}` stands for; without it a JWT (HS256 with the secret) of the connection's user and tenant.
    pub token: Option<String>,
    /// Joins a room. Socket.IO: the JSON array of an event.
    pub join: Option<String>,
    /// Socket.IO: whether joining is acked. If not, an event that contains `join_answer` says so, or nothing does.
    pub join_acked: Option<bool>,
    /// What the answer must contain.
    pub join_answer: Option<String>,
    /// Goes to every member of the room, the publisher among them; contains `{payload}`.
    pub publish: Option<String>,
    /// What the ack of a publish must contain, where it is asked for.
    pub publish_answer: Option<String>,
    /// Name of the event that carries a delivery; empty: any.
    pub event: Option<String>,
    /// Is answered to its sender alone: by the ack (Socket.IO) or by a text that contains the payload (WebSocket).
    pub request: Option<String>,
    /// What that answer must contain. `{payload}`: the payload of the request.
    pub request_answer: Option<String>,
    /// Typing and its like, sent in turn; without: a publish whose deliveries are only counted.
    pub noise: Option<Vec<String>>,
}

/// A dialect ready for use.
pub struct Dialect {
    pub protocol: Protocol,
    /// Path and query of the upgrade.
    pub target: Template,
    pub auth: Option<Template>,
    /// `""`, or `/name,` as it stands in every packet of a namespace.
    pub namespace: String,
    pub token: Option<String>,
    pub join: Template,
    pub join_acked: bool,
    pub join_answer: Option<Vec<u8>>,
    pub publish: Template,
    pub publish_answer: Option<Vec<u8>>,
    pub event: Vec<u8>,
    /// How the text of a delivery begins: one comparison decides for nearly every frame. Empty: it may begin as it likes.
    pub delivery_start: Vec<u8>,
    pub request: Template,
    pub request_answer: Answer,
    pub noise: Vec<Template>,
    /// The ack packet's and the event packet's start: `43` and `42`, with the namespace.
    pub ack_start: Vec<u8>,
    pub event_start: Vec<u8>,
}

/// What makes an answer right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Any,
    Payload,
    Contains(Vec<u8>),
}

const PRESETS: [&str; 3] = ["tenantcast", "socket.io", "websocket"];

impl Choice {
    /// For reports.
    pub fn name(&self) -> String {
        match self {
            Choice::Preset(name) => name.clone(),
            Choice::Table(table) => match &table.preset {
                Some(preset) => format!("{preset}, adapted"),
                None => "own".to_owned(),
            },
        }
    }

    /// Whether its tokens must be signed with the server's key.
    pub fn needs_secret(&self) -> bool {
        let full = self.resolved();
        full.is_ok_and(|table| table.token.is_none() && table.preset.as_deref() == Some("tenantcast"))
    }

    /// The table with the preset's values where it has none.
    fn resolved(&self) -> Result<Table, String> {
        let (preset, own) = match self {
            Choice::Preset(name) => (Some(name.as_str()), Table::default()),
            Choice::Table(table) => (table.preset.as_deref(), (**table).clone()),
        };
        let base = match preset {
            Some(name) => preset_table(name)?,
            None => Table::default(),
        };
        Ok(Table {
            preset: own.preset.or(base.preset),
            protocol: own.protocol.or(base.protocol),
            path: own.path.or(base.path),
            query: own.query.or(base.query),
            auth: own.auth.or(base.auth),
            namespace: own.namespace.or(base.namespace),
            token: own.token.or(base.token),
            join: own.join.or(base.join),
            join_acked: own.join_acked.or(base.join_acked),
            join_answer: own.join_answer.or(base.join_answer),
            publish: own.publish.or(base.publish),
            publish_answer: own.publish_answer.or(base.publish_answer),
            event: own.event.or(base.event),
            request: own.request.or(base.request),
            request_answer: own.request_answer.or(base.request_answer),
            noise: own.noise.or(base.noise),
        })
    }
}

impl Default for Choice {
    fn default() -> Choice {
        Choice::Preset(PRESETS[0].to_owned())
    }
}

fn preset_table(name: &str) -> Result<Table, String> {
    let text = |text: &str| Some(text.to_owned());
    let given = match name {
        "tenantcast" => Table {
            protocol: Some(Protocol::SocketIo),
            path: text("/socket.io/"),
            auth: text(r#"{"token":"{token}"}"#),
            join: text(r#"["subscribe",{"rooms":["{room}"]}]"#),
            join_answer: text(r#""denied":[]"#),
            publish: text(r#"["publish",{"room":"{room}","type":"load","data":"{payload}"}]"#),
            publish_answer: text(r#""ok":true"#),
            event: text("load"),
            request: text(r#"["status",{"status":"online"}]"#),
            request_answer: text(r#""ok":true"#),
            noise: Some(vec![
                r#"["typing:start",{"room":"{room}"}]"#.to_owned(),
                r#"["typing:stop",{"room":"{room}"}]"#.to_owned(),
            ]),
            ..Table::default()
        },
        // The tenant goes into the room's name: such a server knows none, and the load's tenants have rooms of the same names.
        "socket.io" => Table {
            protocol: Some(Protocol::SocketIo),
            path: text("/socket.io/"),
            auth: text(r#"{"token":"{token}"}"#),
            join: text(r#"["join","{tenant}:{room}"]"#),
            publish: text(r#"["publish",{"room":"{tenant}:{room}","data":"{payload}"}]"#),
            event: text("event"),
            request: text(r#"["echo","{payload}"]"#),
            request_answer: text("{payload}"),
            ..Table::default()
        },
        "websocket" => Table {
            protocol: Some(Protocol::WebSocket),
            path: text("/"),
            join: text("join {tenant}:{room}"),
            join_answer: text("joined"),
            publish: text("pub {tenant}:{room} {payload}"),
            request: text("echo {payload}"),
            request_answer: text("{payload}"),
            ..Table::default()
        },
        _ => {
            return Err(format!(
                "no dialect is called {name:?}; there are {}, or give a .toml file",
                PRESETS.join(", ")
            ));
        }
    };
    Ok(Table { preset: Some(name.to_owned()), ..given })
}

impl Dialect {
    /// Checks a choice and makes it quick to use.
    pub fn compile(choice: &Choice) -> Result<Dialect, String> {
        let table = choice.resolved()?;
        let protocol =
            table.protocol.ok_or("dialect.protocol is missing: \"socket.io\" or \"websocket\", or a preset")?;
        let socket_io = protocol == Protocol::SocketIo;
        let wanted = |key: &str, text: Option<String>, needs: &[&str]| {
            let text = text.ok_or_else(|| format!("dialect.{key} is missing"))?;
            let packet = (socket_io && key != "path").then_some(key);
            let template = Template::parse(&text).map_err(|reason| format!("dialect.{key}: {reason}"))?;
            if let Some(name) = needs.iter().find(|name| !text.contains(**name)) {
                return Err(format!("dialect.{key} must contain {name}"));
            }
            match packet {
                Some(key) => template.is_event().then_some(template).ok_or(format!(
                    "dialect.{key} must be a JSON array that begins with the event's name, such as [\"{key}\",\"{{room}}\"]"
                )),
                None => Ok(template),
            }
        };
        let join = wanted("join", table.join, &["{room}"])?;
        let publish = wanted("publish", table.publish, &["{room}", "{payload}"])?;
        let request_text = table.request.clone();
        let request = wanted("request", table.request, &[])?;
        let request_answer = match table.request_answer.as_deref() {
            None | Some("") => Answer::Any,
            Some("{payload}") => Answer::Payload,
            Some(text) => Answer::Contains(text.as_bytes().to_vec()),
        };
        let has_payload = request_text.is_some_and(|text| text.contains("{payload}"));
        if !has_payload && (request_answer == Answer::Payload || !socket_io) {
            return Err("dialect.request must contain {payload}: the answer is known by it".to_owned());
        }
        let noise = table.noise.unwrap_or_default().into_iter();
        let noise = noise.map(|text| wanted("noise", Some(text), &[])).collect::<Result<Vec<_>, _>>()?;
        let mut target = table.path.unwrap_or_else(|| "/".to_owned());
        let mut query: Vec<String> = Vec::new();
        if socket_io {
            query.push("EIO=4&transport=websocket".to_owned());
        }
        query.extend(table.query.filter(|query| !query.is_empty()));
        if !query.is_empty() {
            target = format!("{target}{}{}", if target.contains('?') { '&' } else { '?' }, query.join("&"));
        }
        let auth = table.auth.filter(|auth| !auth.is_empty());
        let auth = auth.map(|auth| Template::parse(&auth).map_err(|reason| format!("dialect.auth: {reason}")));
        let namespace = match table.namespace.as_deref() {
            None | Some("/" | "") => String::new(),
            Some(name) if name.starts_with('/') && socket_io => format!("{name},"),
            Some(_) => return Err("dialect.namespace begins with / and is Socket.IO's".to_owned()),
        };
        let bytes = |text: Option<String>| text.filter(|text| !text.is_empty()).map(String::into_bytes);
        let event_start = format!("{EVENT}{namespace}").into_bytes();
        let event = match bytes(table.event) {
            Some(name) if socket_io => [b"[\"".as_slice(), &name, b"\""].concat(),
            _ => Vec::new(),
        };
        Ok(Dialect {
            delivery_start: if socket_io { [event_start.as_slice(), &event].concat() } else { Vec::new() },
            protocol,
            target: Template::parse(&target).map_err(|reason| format!("dialect.path: {reason}"))?,
            auth: auth.transpose()?,
            ack_start: format!("43{namespace}").into_bytes(),
            event_start,
            namespace,
            token: table.token,
            join,
            join_acked: socket_io && table.join_acked.unwrap_or(true),
            join_answer: bytes(table.join_answer),
            publish,
            publish_answer: bytes(table.publish_answer),
            event,
            request,
            request_answer,
            noise,
        })
    }
}

impl<'de> Deserialize<'de> for Choice {
    /// Not derived: an untagged enum would lose the line of an unknown key.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Choice, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Choice;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "a preset's name or a table")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Choice, E> {
                Ok(Choice::Preset(name.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Choice, A::Error> {
                Table::deserialize(MapAccessDeserializer::new(map)).map(|table| Choice::Table(Box::new(table)))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
#[path = "../dialect_tests.rs"]
mod tests;
