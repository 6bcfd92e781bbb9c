//! From what is written to what is meant: every name that is referred to exists, every template and pattern parses, every operation has what
//! it needs and nothing it has no use for.

mod client_event;
mod job;

use crate::base::{id::TenantId, limit, time::Duration};
use crate::profile::catalogue::{Catalogue, Entry};
use crate::profile::error::Error;
use crate::profile::file::{self, File};
use crate::profile::lines::{Lines, quoted};
use crate::profile::nearest::nearest;
use crate::profile::rank::Ranked;
use crate::profile::room::{Affix, OWN_START_MIN, RoomPattern, RoomRules, Rule};
use crate::profile::template::{Shape, Template};
use crate::profile::{
    Act, Action, Availability, Claims, ClientEvent, Document, Emit, Late, Listener, Offline, Presence, Profile,
    RoleRooms, Typing,
};
use crate::wire::{auth::Pattern, socket_io::RESERVED_EVENTS};
use serde_json::Value;
use std::collections::BTreeMap;

type Checked<T> = Result<T, Error>;

/// Names of an automatic room's holes.
const OWN: &[&str] = &["tenant", "user"];

pub fn profile(file: File, lines: &Lines) -> Checked<Profile> {
    let check = Check { lines };
    check.name("name", &file.name)?;
    let hooks: Vec<&str> = file.webhooks.keys().map(String::as_str).collect();
    let rooms = check.rooms(&file)?;
    let templates = |key: &str, texts: &[String]| {
        let each = texts.iter().enumerate();
        each.map(|(index, text)| check.own_template(&format!("{key}[{index}]"), text, OWN)).collect::<Checked<_>>()
    };
    let automatic = templates("connection.rooms", &file.connection.rooms)?;
    let by_role = file.connection.role_rooms.iter().map(|(role, texts)| {
        let rooms = templates(&format!("connection.role_rooms.{}", quoted(role)), texts)?;
        Ok(RoleRooms { role: role.as_str().into(), rooms })
    });
    let by_role = by_role.collect::<Checked<_>>()?;
    let client_events = file.client_events.iter().map(|(name, event)| {
        let key = format!("client_events.{}", quoted(name));
        check.event_name(&key, name)?;
        Ok((name.as_str().into(), check.client_event(&key, event, &file, &hooks)?))
    });
    let client_events: BTreeMap<Box<str>, ClientEvent> = client_events.collect::<Checked<_>>()?;
    let has_late = client_events.values().any(|event| matches!(event.act, Act::Authenticate));
    if file.auth.late && !has_late {
        return Err(check.error("auth.late", "no client event does `authenticate`, so no token could come late"));
    }
    let catalogue = check.catalogue(&file)?;
    let listeners = file.listeners.iter().map(|(name, listener)| check.listener(name, listener, &file, &hooks));
    let listeners = listeners.collect::<Checked<_>>()?;
    let documents = file.documents.iter().map(|(pattern, document)| check.document(pattern, document));
    let documents = Ranked::new(documents.collect::<Checked<Vec<_>>>()?);
    let channels = file.channels.iter().map(|(name, channel)| check.channel(name, channel, &file));
    let channels = channels.collect::<Checked<_>>()?;
    check.addresses(&file)?;
    check.limits(&file)?;
    check.jobs(&file)?;
    Ok(Profile {
        name: file.name.into(),
        about: file.about.into(),
        claims: check.claims(&file.claims)?,
        late: match file.auth.late {
            false => None,
            true => Some(Late {
                accepted: check.emit("auth.accepted", file.auth.accepted.as_ref())?,
                refused: check.emit("auth.refused", file.auth.refused.as_ref())?,
            }),
        },
        namespaces: check.namespaces(&file.connection.namespaces)?,
        rooms,
        automatic,
        by_role,
        greeting: check.emit("connection.greeting", file.connection.greeting.as_ref())?,
        delivery: file.connection.delivery,
        client_events,
        catalogue,
        limits: file.limits.into_iter().map(|(name, number)| (name.into(), number)).collect(),
        ping_interval_ms: check.number("heartbeat.interval_ms", file.heartbeat.interval_ms, 100, 3_600_000)?,
        ping_timeout_ms: check.number("heartbeat.timeout_ms", file.heartbeat.timeout_ms, 100, 3_600_000)?,
        history: check.history("history", file.history)?,
        presence: check.presence(file.presence)?,
        typing: Typing {
            ttl: check.number("typing.ttl_ms", file.typing.ttl_ms, 100, 600_000)?.map(Duration::from_millis),
            start: check.emit("typing.start", file.typing.start.as_ref())?,
            stop: check.emit("typing.stop", file.typing.stop.as_ref())?,
        },
        offline: Offline {
            enabled: file.offline.enabled.unwrap_or(true),
            ttl: check.number("offline.ttl_s", file.offline.ttl_s, 1, 366 * 86_400)?.map(Duration::from_secs),
            per_user: file.offline.per_user,
            removed: file.offline.removed,
        },
        documents,
        backend: file.backend,
        webhooks: file.webhooks.into_iter().map(|(name, hook)| (name.into(), hook)).collect(),
        listeners,
        queues: file.queues,
        schedules: file.schedules,
        cache: file.cache,
        channels,
    })
}

struct Check<'a> {
    lines: &'a Lines,
}

impl Check<'_> {
    fn error(&self, key: &str, reason: impl Into<String>) -> Error {
        Error { line: self.lines.line(key), key: key.into(), reason: reason.into() }
    }

    /// The error of a name that refers to nothing.
    fn unknown<'a>(&self, key: &str, what: &str, name: &str, known: impl Iterator<Item = &'a str> + Clone) -> Error {
        let hint = match nearest(name, known.clone()) {
            Some(meant) => format!(", did you mean `{meant}`?"),
            None => match known.collect::<Vec<_>>()[..] {
                [] => ": there is none".to_owned(),
                ref all => format!(": there are {}", all.join(", ")),
            },
        };
        self.error(key, format!("no {what} is called `{name}`{hint}"))
    }

    fn name(&self, key: &str, name: &str) -> Checked<()> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        match (1..=64).contains(&name.len()) && name.bytes().all(fits) {
            true => Ok(()),
            false => Err(self.error(key, "must be 1 to 64 letters, digits, `-` or `_`")),
        }
    }

    fn event_name(&self, key: &str, name: &str) -> Checked<()> {
        if !(1..=limit::EVENT_NAME_BYTES_MAX).contains(&name.len()) || name.chars().any(char::is_control) {
            return Err(self.error(key, "an event's name is 1 to 256 bytes, without control characters"));
        }
        if RESERVED_EVENTS.contains(&name) {
            return Err(self.error(key, format!("`{name}` is one of Socket.IO's own events")));
        }
        Ok(())
    }

    fn number(&self, key: &str, number: Option<u64>, least: u64, most: u64) -> Checked<Option<u64>> {
        match number {
            Some(number) if !(least..=most).contains(&number) => {
                Err(self.error(key, format!("must be a whole number from {least} to {most}")))
            }
            number => Ok(number),
        }
    }

    fn pattern(&self, key: &str, text: &str) -> Checked<Pattern> {
        Pattern::parse(text).map_err(|error| self.error(key, error.to_string()))
    }

    fn patterns(&self, key: &str, texts: &[String]) -> Checked<Box<[Pattern]>> {
        texts.iter().enumerate().map(|(index, text)| self.pattern(&format!("{key}[{index}]"), text)).collect()
    }

    fn template(&self, key: &str, text: &str) -> Checked<Template> {
        match Template::parse(text) {
            Ok(template) if template.literal() != Some("") => Ok(template),
            Ok(_) => Err(self.error(key, "is set, but empty")),
            Err(error) => Err(self.error(key, error.to_string())),
        }
    }

    /// A template that may have these holes only.
    fn own_template(&self, key: &str, text: &str, holes: &[&str]) -> Checked<Template> {
        let template = self.template(key, text)?;
        if let Some(path) = template.paths().find(|path| !holes.contains(path)) {
            return Err(self.error(key, format!("nothing fills `{{{path}}}` here, only {}", braced(holes))));
        }
        Ok(template)
    }

    fn shape(&self, key: &str, value: Option<&Value>) -> Checked<Option<Shape>> {
        value.map(|value| Shape::from(value.clone()).map_err(|error| self.error(key, error.to_string()))).transpose()
    }

    fn emit(&self, key: &str, emit: Option<&file::Emit>) -> Checked<Option<Emit>> {
        let Some(emit) = emit else { return Ok(None) };
        self.event_name(&format!("{key}.event"), &emit.event)?;
        let data = self.shape(&format!("{key}.data"), emit.data.as_ref())?;
        Ok(Some(Emit { event: emit.event.as_str().into(), data }))
    }

    fn history(&self, key: &str, history: Option<file::History>) -> Checked<Option<file::History>> {
        let Some(kept) = history else { return Ok(None) };
        self.number(&format!("{key}.events"), Some(kept.events.into()), 0, 1_000_000)?;
        self.number(&format!("{key}.ttl_s"), Some(kept.ttl_s), 1, 366 * 86_400)?;
        Ok(history)
    }

    fn claims(&self, claims: &file::Claims) -> Checked<Claims> {
        let names = |key: &str, names: &Option<Vec<String>>| match names {
            Some(names) if names.is_empty() || names.iter().any(String::is_empty) => {
                Err(self.error(key, "must name at least one claim, and no empty one"))
            }
            names => Ok(names.iter().flatten().map(|name| name.as_str().into()).collect()),
        };
        let key = "claims.single_tenant";
        let single_tenant = match &claims.single_tenant {
            Some(_) if claims.tenant.is_some() => {
                return Err(self.error(key, "claims.tenant is given too: either there are tenants, or there is one"));
            }
            Some(tenant) => Some(TenantId::parse(tenant).ok_or_else(|| self.error(key, "is no name of a tenant"))?),
            None => None,
        };
        Ok(Claims {
            user: names("claims.user", &claims.user)?,
            tenant: names("claims.tenant", &claims.tenant)?,
            roles: names("claims.roles", &claims.roles)?,
            single_tenant,
        })
    }

    fn namespaces(&self, names: &[String]) -> Checked<Box<[Box<str>]>> {
        let key = "connection.namespaces";
        if names.is_empty() || names.len() > limit::NAMESPACES_PER_SESSION_MAX {
            let reason = format!("must be 1 to {} namespaces", limit::NAMESPACES_PER_SESSION_MAX);
            return Err(self.error(key, reason));
        }
        let checked = names.iter().enumerate().map(|(index, name)| {
            let fits = name.starts_with('/') && !name.contains(',') && !name.chars().any(char::is_control);
            match fits && !names[..index].contains(name) {
                true => Ok(name.as_str().into()),
                false => {
                    Err(self.error(&format!("{key}[{index}]"), "must begin with `/`, have no comma, and come once"))
                }
            }
        });
        checked.collect()
    }

    fn rooms(&self, file: &File) -> Checked<RoomRules> {
        let own = |key: &str, text: &str, hole: &str| {
            let reason =
                format!("must be two letters or more, then `{hole}` once, then what you like without wildcards");
            Affix::parse(text, hole).ok_or_else(|| self.error(key, reason))
        };
        let connection = &file.connection;
        let tenant_room = own("connection.tenant_room", &connection.tenant_room, "{tenant}")?;
        let user_room = own("connection.user_room", &connection.user_room, "{user}")?;
        let rules = file.rooms.iter().map(|(pattern, room)| {
            let key = format!("rooms.{}", quoted(pattern));
            let shaped = RoomPattern::new(pattern);
            self.pattern(&key, &shaped.for_all())?;
            self.own_template(&key, pattern, OWN)?;
            if shaped.is_personal() && shaped.literal_start().len() < OWN_START_MIN {
                return Err(self.error(&key, "must begin with two letters or more before its first hole"));
            }
            if room.join == file::Join::Backend && file.backend.is_none() {
                return Err(self.error(&format!("{key}.join"), "there is no table `backend` that says whom to ask"));
            }
            Ok(Rule {
                pattern: shaped,
                join: room.join,
                roles: boxed(&room.roles),
                permissions: boxed(&room.permissions),
                history: self.history(&format!("{key}.history"), room.history)?,
            })
        });
        Ok(RoomRules::new(tenant_room, user_room, &connection.rooms, rules.collect::<Checked<Vec<_>>>()?))
    }

    /// A JSON Schema: that it is an object; what it says is checked where it is compiled.
    fn schema(&self, key: &str, schema: Option<&Value>) -> Checked<Option<Value>> {
        match schema {
            None => Ok(None),
            Some(Value::Object(_) | Value::Bool(_)) => {
                match jsonschema::validator_for(schema.unwrap_or(&Value::Null)) {
                    Ok(_) => Ok(schema.cloned()),
                    Err(error) => Err(self.error(key, format!("is no JSON Schema: {error}"))),
                }
            }
            Some(_) => Err(self.error(key, "must be a JSON Schema: a table")),
        }
    }

    fn hook(&self, key: &str, name: &str, hooks: &[&str]) -> Checked<usize> {
        let found = hooks.iter().position(|hook| *hook == name);
        found.ok_or_else(|| self.unknown(key, "webhook", name, hooks.iter().copied()))
    }

    fn catalogue(&self, file: &File) -> Checked<Catalogue> {
        let mut entries = Vec::new();
        for (index, (pattern, event)) in file.events.iter().enumerate() {
            let key = format!("events.{}", quoted(pattern));
            let parsed = self.pattern(&key, pattern)?;
            self.event_name(&key, pattern)?;
            if event.ephemeral && event.offline == Some(true) {
                return Err(self.error(&format!("{key}.offline"), "an ephemeral event is not kept, and cannot wait"));
            }
            if let Some(acknowledge) = event.acknowledge {
                let key = format!("{key}.acknowledge");
                self.number(&format!("{key}.timeout_ms"), Some(acknowledge.timeout_ms), 10, 600_000)?;
                self.number(&format!("{key}.retries"), Some(acknowledge.retries.into()), 0, 100)?;
            }
            let entry = Entry {
                index,
                ephemeral: event.ephemeral,
                receive_roles: boxed(&event.receive_roles),
                receive_permissions: boxed(&event.receive_permissions),
                receive_own: event.receive_own,
                publish: event.publish,
                publish_roles: boxed(&event.publish_roles),
                publish_permissions: boxed(&event.publish_permissions),
                schema: self.schema(&format!("{key}.schema"), event.schema.as_ref())?,
                offline: event.offline,
                receipts: event.receipts,
                acknowledge: event.acknowledge,
            };
            entries.push((parsed, entry));
        }
        Ok(Catalogue::new(Ranked::new(entries), file.unknown_events))
    }

    fn presence(&self, presence: file::Presence) -> Checked<Presence> {
        let availability = match &presence.availability {
            None => None,
            Some(availability) => {
                if availability.states.is_empty() {
                    return Err(self.error("presence.availability.states", "must name at least one"));
                }
                Some(Availability {
                    roles: boxed(&availability.roles),
                    states: boxed(&availability.states),
                    changed: self.emit("presence.availability.changed", availability.changed.as_ref())?,
                })
            }
        };
        let grace = self.number("presence.grace_ms", presence.grace_ms, 0, 3_600_000)?;
        let kept = self.number("presence.last_seen_ttl_s", presence.last_seen_ttl_s, 1, 366 * 86_400)?;
        Ok(Presence {
            announce: presence.announce,
            online: self.emit("presence.online", presence.online.as_ref())?,
            offline: self.emit("presence.offline", presence.offline.as_ref())?,
            status: self.emit("presence.status", presence.status.as_ref())?,
            grace: grace.map(Duration::from_millis),
            batch_over: presence.batch_over,
            last_seen_ttl: kept.map(Duration::from_secs),
            rooms: self.patterns("presence.rooms", &presence.rooms)?,
            availability,
        })
    }

    fn document(&self, pattern: &str, document: &file::Document) -> Checked<(Pattern, Document)> {
        let key = format!("documents.{}", quoted(pattern));
        let room = document.room.as_deref().unwrap_or("document:{document}");
        let updated = document.updated.as_deref().unwrap_or("document:updated");
        self.event_name(&format!("{key}.updated"), updated)?;
        let room = self.own_template(&format!("{key}.room"), room, &["document"])?;
        if !room.paths().any(|path| path == "document") {
            return Err(self.error(&format!("{key}.room"), "must have `{document}` in it: each document has its own"));
        }
        let document = Document { strategy: document.strategy, room, updated: updated.into() };
        Ok((self.pattern(&key, pattern)?, document))
    }

    fn listener(&self, name: &str, listener: &file::Listener, file: &File, hooks: &[&str]) -> Checked<Listener> {
        let key = format!("listeners.{}", quoted(name));
        if listener.on.is_empty() {
            return Err(self.error(&format!("{key}.on"), "must name at least one pattern of event types"));
        }
        let when = listener.when.iter().map(|(path, value)| match crate::profile::template::is_path(path) {
            true => Ok((path.as_str().into(), value.clone())),
            false => Err(self.error(&format!("{key}.when.{}", quoted(path)), "must be names joined by dots")),
        });
        let actions = listener.actions.iter().enumerate();
        let actions = actions.map(|(index, action)| self.action(&format!("{key}.do[{index}]"), action, file, hooks));
        Ok(Listener {
            name: name.into(),
            on: self.patterns(&format!("{key}.on"), &listener.on)?,
            when: when.collect::<Checked<_>>()?,
            actions: actions.collect::<Checked<_>>()?,
        })
    }

    fn action(&self, key: &str, action: &file::Action, file: &File, hooks: &[&str]) -> Checked<Action> {
        let at = |name: &str| format!("{key}.{name}");
        let kinds = [
            ("emit", action.emit.is_some(), &["room", "data"][..]),
            ("enqueue", action.enqueue.is_some(), &["job", "data"][..]),
            ("webhook", action.webhook.is_some(), &[][..]),
            ("invalidate", action.invalidate.is_some(), &["id"][..]),
            ("count", action.count.is_some(), &[][..]),
        ];
        let mut given = kinds.iter().filter(|(_, is_given, _)| *is_given);
        let (Some((kind, _, uses)), None) = (given.next(), given.next()) else {
            return Err(self.error(key, "must be one of emit, enqueue, webhook, invalidate, count"));
        };
        let more = [
            ("room", action.room.is_some()),
            ("job", action.job.is_some()),
            ("id", action.id.is_some()),
            ("data", action.data.is_some()),
        ];
        if let Some((name, _)) = more.iter().find(|(name, is_given)| *is_given && !uses.contains(name)) {
            return Err(self.error(&at(name), format!("`{kind}` has no use for it")));
        }
        let need = |name: &str, value: &Option<String>| match value {
            Some(value) => Ok(value.clone()),
            None => Err(self.error(key, format!("`{kind}` needs `{name}`"))),
        };
        let data = self.shape(&at("data"), action.data.as_ref())?;
        if let Some(event) = &action.emit {
            self.event_name(&at("emit"), event)?;
            let room = self.template(&at("room"), &need("room", &action.room)?)?;
            return Ok(Action::Emit { event: event.as_str().into(), room, data });
        }
        if let Some(queue) = &action.enqueue {
            let job = need("job", &action.job)?;
            self.job(&at("enqueue"), queue, &at("job"), &job, file)?;
            return Ok(Action::Enqueue { queue: queue.as_str().into(), job: job.into(), data });
        }
        if let Some(hook) = &action.webhook {
            return Ok(Action::Webhook(self.hook(&at("webhook"), hook, hooks)?));
        }
        if let Some(resource) = &action.invalidate {
            if !file.cache.contains_key(resource) {
                let known = file.cache.keys().map(String::as_str);
                return Err(self.unknown(&at("invalidate"), "cache resource", resource, known));
            }
            let id = action.id.as_deref().map(|text| self.template(&at("id"), text)).transpose()?;
            return Ok(Action::Invalidate { resource: resource.as_str().into(), id });
        }
        let name = need("count", &action.count)?;
        self.name(&at("count"), &name)?;
        Ok(Action::Count(name.into()))
    }

    fn limits(&self, file: &File) -> Checked<()> {
        let mut limits = limit::Limits::default();
        let known = limits.each().map(|(name, _, max)| (name, max));
        for (name, number) in &file.limits {
            let key = format!("limits.{}", quoted(name));
            match known.iter().find(|(known, _)| known == name) {
                Some((_, max)) => self.number(&key, Some(*number), 0, *max)?,
                None => return Err(self.unknown(&key, "limit", name, known.iter().map(|(name, _)| *name))),
            };
        }
        Ok(())
    }
}

fn boxed(texts: &[String]) -> Box<[Box<str>]> {
    texts.iter().map(|text| text.as_str().into()).collect()
}

fn braced(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{{{name}}}`")).collect::<Vec<_>>().join(" and ")
}
