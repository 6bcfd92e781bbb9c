//! Listeners: what is done when an event is published. On these types, where the data is so, do that.
//!
//! ```text
//!  publish -> history -> fan-out -> types of the event -> filters -> emit · count          in this turn, after the event
//!                                                                 -> webhook               Output::Ask, on the control plane
//!                                                                 -> enqueue · invalidate  counted as unavailable: no engine yet
//! ```
//!
//! Invariants: an event is with its members before a listener sees it, and nothing a listener does or fails to do changes its receipt; what a
//! listener emits runs no listeners, so nothing loops, and counts against no rate of the publisher. What is emitted is in the catalogue as any
//! other event; where that says of nobody who receives it, it reaches nobody whom the first event's audience keeps out. Typing, presence and
//! relays are not published, so nothing listens to them. Where there are no listeners a publish costs one comparison more; where there are,
//! one look into a map of at most [`LISTENER_TYPES_MAX`] types.
//!
//! Paths in templates and filters: `tenant`, `user`, `room`, `type`, `id`, `entity.type`, `entity.id`, `data`, `data.x.y`; anything else is
//! looked up in the data. The names come first, so no publisher's data stands in for a tenant.

use super::Shard;
use super::app::Context;
use super::count::Count;
use super::history::Audience;
use super::io::{Ask, Output};
use super::publish::Draft;
use super::tenant::{Receipt, TenantKey};
use crate::base::{
    chance::{Chance, Map, Set},
    id::TenantId,
    limit::LISTENER_TYPES_MAX,
};
use crate::profile::{
    self,
    catalogue::Entered,
    template::{Shape, Template, lookup, quoted},
};
use crate::wire::{auth::Pattern, json};
use serde_json::Value;
use std::borrow::Cow;
use std::io::Write;
use std::rc::Rc;
use ulid::Ulid;

#[derive(Clone, Debug)]
pub struct ListenerSettings {
    pub name: Box<str>,
    /// Types of events: one of these.
    pub on: Vec<Pattern>,
    /// Paths and what is there: all of these. An array stands for any of its elements; `null` also for what is missing.
    pub when: Vec<(Box<str>, Value)>,
    /// In this order.
    pub actions: Vec<Action>,
}

#[derive(Clone, Debug)]
pub enum Action {
    /// Publishes another event, without a user.
    Emit {
        event: Box<str>,
        room: Template,
        /// None: the event's own.
        data: Option<Shape>,
        /// Also where the catalogue does not say so.
        ephemeral: bool,
    },
    Enqueue {
        queue: Box<str>,
        job: Box<str>,
    },
    /// By its place among the control plane's hooks.
    Webhook {
        hook: u16,
    },
    Invalidate {
        resource: Box<str>,
        /// None: all of it.
        id: Option<Template>,
    },
    /// Adds one to a number of the tenant, which its `stats` show.
    Count {
        name: Box<str>,
    },
}

/// A profile's listener. A webhook keeps its place among the profile's.
impl From<&profile::Listener> for ListenerSettings {
    fn from(listener: &profile::Listener) -> ListenerSettings {
        let action = |action: &profile::Action| match action.clone() {
            profile::Action::Emit { event, room, data } => Action::Emit { event, room, data, ephemeral: false },
            profile::Action::Enqueue { queue, job, data: _ } => Action::Enqueue { queue, job },
            // As many webhooks as there are lines in a file: a place beyond is refused at start.
            profile::Action::Webhook(place) => Action::Webhook { hook: u16::try_from(place).unwrap_or(u16::MAX) },
            profile::Action::Invalidate { resource, id } => Action::Invalidate { resource, id },
            profile::Action::Count(name) => Action::Count { name },
        };
        ListenerSettings {
            name: listener.name.clone(),
            on: listener.on.to_vec(),
            when: listener.when.to_vec(),
            actions: listener.actions.iter().map(action).collect(),
        }
    }
}

pub struct Listeners {
    rows: Rc<[ListenerSettings]>,
    /// Names that are counted, each once.
    counters: Box<[Box<str>]>,
    /// Who listens to a type; none: nobody. Types are any text of a publisher, hence the bound.
    by_type: Map<Box<str>, Option<Rc<[u16]>>>,
    /// What the log was told: bounded by listeners and codes.
    said: Set<(u16, &'static str)>,
}

/// What a listener is run for.
struct Cause<'a> {
    tenant: Rc<TenantId>,
    draft: &'a Draft<'a>,
    receipt: &'a Receipt,
}

impl Cause<'_> {
    /// The raw JSON at a path.
    fn raw(&self, path: &str) -> Option<Cow<'_, str>> {
        let entity = self.draft.entity;
        match path {
            "tenant" => Some(quoted(self.tenant.as_str())),
            "user" => self.draft.user.map(quoted),
            "room" => Some(quoted(self.draft.room)),
            "type" => Some(quoted(self.draft.event)),
            "id" => Some(quoted(&self.receipt.id)),
            "entity.type" => entity.map(|(kind, _)| quoted(kind)),
            "entity.id" => entity.map(|(_, id)| quoted(id)),
            "data" => Some(Cow::Borrowed(self.draft.data)),
            path => lookup(self.draft.data, path.strip_prefix("data.").unwrap_or(path)).map(Cow::Borrowed),
        }
    }

    fn fits(&self, listener: &ListenerSettings) -> bool {
        listener.when.iter().all(|(path, value)| is(self.raw(path).as_deref().unwrap_or("null"), value))
    }
}

/// Whether raw JSON is a value, or one of an array's.
fn is(raw: &str, value: &Value) -> bool {
    match value {
        Value::Array(values) => values.iter().any(|value| !value.is_array() && is(raw, value)),
        Value::String(text) => json::string(raw).is_some_and(|raw| raw == **text),
        // As numbers: a profile's 1 is a publisher's 1.0.
        Value::Number(number) => raw.parse::<f64>().is_ok_and(|raw| Some(raw) == number.as_f64()),
        Value::Null => raw == "null",
        Value::Bool(is) => raw == if *is { "true" } else { "false" },
        Value::Object(_) => serde_json::from_str::<Value>(raw).is_ok_and(|raw| raw == *value),
    }
}

impl Listeners {
    pub fn new(settings: &[ListenerSettings], chance: &mut Chance) -> Listeners {
        let mut counters: Vec<Box<str>> = Vec::new();
        for action in settings.iter().flat_map(|listener| &listener.actions) {
            if let Action::Count { name } = action
                && !counters.contains(name)
            {
                counters.push(name.clone());
            }
        }
        let hasher = chance.hasher();
        Listeners {
            rows: settings.into(),
            counters: counters.into(),
            by_type: Map::with_hasher(hasher.clone()),
            said: Set::with_hasher(hasher),
        }
    }

    /// Who listens to a type.
    fn of(&mut self, event: &str) -> Option<Rc<[u16]>> {
        if self.rows.is_empty() {
            return None;
        }
        if let Some(known) = self.by_type.get(event) {
            return known.clone();
        }
        let listens = |row: &ListenerSettings| row.on.iter().any(|pattern| pattern.matches(event));
        let places: Rc<[u16]> = (0..).zip(&*self.rows).filter(|(_, row)| listens(row)).map(|(nth, _)| nth).collect();
        let places = (!places.is_empty()).then_some(places);
        if self.by_type.len() >= LISTENER_TYPES_MAX {
            self.by_type.clear();
        }
        self.by_type.insert(event.into(), places.clone());
        places
    }

    /// `,"counters":{..}`, where anything is counted.
    pub fn write_counters(&self, counted: &[u64], out: &mut Vec<u8>) {
        if self.counters.is_empty() {
            return;
        }
        out.extend_from_slice(b",\"counters\":{");
        for (nth, name) in self.counters.iter().enumerate() {
            if nth > 0 {
                out.push(b',');
            }
            json::write_string(out, name);
            let _ = write!(out, ":{}", counted.get(nth).copied().unwrap_or(0));
        }
        out.push(b'}');
    }
}

impl Shard {
    /// Whether anybody listens to a type.
    pub(super) fn listens(&mut self, event: &str) -> bool {
        self.listeners.of(event).is_some()
    }

    /// Does what listeners do for an event that has been published.
    pub(super) fn run_listeners(&mut self, tenant: TenantKey, draft: &Draft<'_>, receipt: &Receipt) {
        let Some(places) = self.listeners.of(draft.event) else { return };
        let rows = self.listeners.rows.clone();
        let cause = Cause { tenant: self.tenants[tenant].id.clone(), draft, receipt };
        for &place in &*places {
            let listener = &rows[usize::from(place)];
            if !cause.fits(listener) {
                continue;
            }
            self.counts.up(Count::ListenersRun);
            for action in &listener.actions {
                if let Err(code) = self.act(tenant, &cause, action) {
                    self.counts.up(Count::ListenerActionsFailed);
                    if self.listeners.said.insert((place, code)) {
                        self.out.push(Output::ListenerFailed { listener: listener.name.clone(), code });
                    }
                }
            }
        }
    }

    /// One action, or the code of why it cannot be done.
    fn act(&mut self, tenant: TenantKey, cause: &Cause<'_>, action: &Action) -> Result<(), &'static str> {
        let raw = |path: &str| cause.raw(path);
        match action {
            Action::Emit { event, room, data, ephemeral } => {
                let room = room.text(&raw).map_err(|_| "value_missing")?;
                self.check_room_name(&room).map_err(|refusal| refusal.code())?;
                let data = match data {
                    Some(shape) => {
                        let mut out = Vec::with_capacity(128);
                        shape.write(&mut out, &raw);
                        // Made of texts only.
                        Cow::Owned(String::from_utf8(out).unwrap_or_default())
                    }
                    None => Cow::Borrowed(cause.draft.data),
                };
                let app = self.app.clone();
                let entry = match app.profile.catalogue.of(event) {
                    Entered::Refused => return Err("unknown_type"),
                    Entered::Passed => None,
                    Entered::Known(entry) => Some(entry),
                };
                if let Some(entry) = entry {
                    self.check_data(entry, &data).map_err(|refusal| refusal.code())?;
                }
                let audience = entry.filter(|entry| entry.is_for_some()).map(|entry| {
                    let (roles, permissions) = (entry.receive_roles.clone(), entry.receive_permissions.clone());
                    Box::new(Audience { roles, permissions, within: None })
                });
                let draft = Draft {
                    event,
                    room: &room,
                    data: &data,
                    ephemeral: *ephemeral || entry.is_some_and(|entry| entry.ephemeral),
                    audience: audience.or_else(|| cause.draft.audience.clone()),
                    ..Draft::default()
                };
                self.publish_now(tenant, &draft, None);
            }
            Action::Webhook { hook } => {
                let id = Ulid::from_parts(self.now.unix.0, self.chance.u128()).to_string().into();
                self.out.push(Output::Ask(Ask::Notify { hook: *hook, id, body: self.notice(cause) }));
            }
            Action::Count { name } => {
                let Some(place) = self.listeners.counters.iter().position(|counter| counter == name) else {
                    return Ok(());
                };
                let counted = &mut self.tenants[tenant].counters;
                if counted.len() <= place {
                    counted.resize(place + 1, 0);
                }
                counted[place] += 1;
            }
            Action::Enqueue { queue: _, job: _ } => {
                self.counts.up(Count::JobsUnavailable);
                return Err("jobs_unavailable");
            }
            Action::Invalidate { resource: _, id: _ } => {
                self.counts.up(Count::CacheUnavailable);
                return Err("cache_unavailable");
            }
        }
        Ok(())
    }

    /// What a webhook is told: the envelope, and whose it is.
    fn notice(&self, cause: &Cause<'_>) -> Box<str> {
        let meta = self.meta(cause.draft, cause.receipt);
        let members = meta.strip_prefix('{').and_then(|meta| meta.strip_suffix('}')).unwrap_or_default();
        format!("{{\"tenant\":{},{members},\"data\":{}}}", quoted(cause.tenant.as_str()), cause.draft.data).into()
    }
}

impl Context<'_> {
    /// Tells a webhook, by its place in the profile, of this client's event; its id. None: nobody says whom to call.
    pub(super) fn notify(&mut self, hook: usize, event: &str, data: &str) -> Option<Box<str>> {
        let hook = self.shard.settings.webhooks.get(hook).copied().flatten()?;
        let id: Box<str> = Ulid::from_parts(self.shard.now.unix.0, self.shard.chance.u128()).to_string().into();
        let identity = self.identity();
        let (tenant, user) = (quoted(identity.tenant.as_str()), quoted(&identity.user));
        let time = self.shard.now.unix.rfc3339();
        let body = format!(
            "{{\"tenant\":{tenant},\"id\":\"{id}\",\"type\":{},\"user\":{user},\"time\":\"{time}\",\"data\":{data}}}",
            quoted(event)
        );
        self.shard.out.push(Output::Ask(Ask::Notify { hook, id: id.clone(), body: body.into() }));
        Some(id)
    }
}
