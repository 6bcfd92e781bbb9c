//! What an application tells of its users, to whom, how often and in which words: plain values that a profile fills.
//!
//! Whatever is set here, nothing about a user reaches another tenant: a circle that is told is a room, and a room is of one tenant.

use super::status::Status;
use crate::base::{limit, time::Duration};
use crate::profile::{self, Emit, template::Shape};
use crate::wire::auth::{Pattern, Rights};

/// One event, by its name and the shape of its data.
///
/// The holes of a shape: `user`, `status`, `time`, `tenant`, `room` (where a room is told), `availability` (of an agent), `lastSeen` (of who
/// has gone). Without a shape the data is `{user, status, time}`, with `lastSeen` where the user has gone, `availability` in place of
/// `status` where that has changed, and `room` first where a room is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telling {
    pub event: Box<str>,
    pub data: Option<Shape>,
}

impl Telling {
    /// As a profile has it, or the usual.
    fn of(emit: Option<&Emit>, usual: &str) -> Telling {
        Telling { event: emit.map_or(usual, |emit| &emit.event).into(), data: emit.and_then(|emit| emit.data.clone()) }
    }

    /// An event with the usual data.
    pub fn plain(event: &str) -> Telling {
        Telling { event: event.into(), data: None }
    }
}

/// The events of one circle; what is `None` is not told there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wording {
    /// A user has come: its first device in the tenant, or its first socket in the room.
    pub online: Option<Telling>,
    /// A user has gone: its last device, or its last socket in the room.
    pub offline: Option<Telling>,
    pub status: Option<Telling>,
    pub availability: Option<Telling>,
    /// In a large circle one event for all that was gathered: `{online: [..], offline: [..], status: [..], availability: [..]}`, in a room `room`,
    /// and `joined` and `left` for the first two; lists that are empty are left out, entries are the single events' data. `None`: nothing is
    /// told in a large circle.
    pub changes: Option<Box<str>>,
}

impl Wording {
    /// `user:online`, `user:offline`, `user:status`, `agent:availability`; `presence:changes`.
    pub fn of_tenant() -> Wording {
        Wording {
            online: Some(Telling::plain("user:online")),
            offline: Some(Telling::plain("user:offline")),
            status: Some(Telling::plain("user:status")),
            availability: Some(Telling::plain("agent:availability")),
            changes: Some("presence:changes".into()),
        }
    }

    /// `room:joined`, `room:left`; `room:changes`.
    pub fn of_room() -> Wording {
        Wording {
            online: Some(Telling::plain("room:joined")),
            offline: Some(Telling::plain("room:left")),
            status: None,
            availability: None,
            changes: Some("room:changes".into()),
        }
    }
}

/// Rooms whose members are told who is in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomPresence {
    pub pattern: Pattern,
    pub wording: Wording,
}

/// How presence works for an application.
#[derive(Clone, Debug)]
pub struct PresenceSettings {
    /// How long a user whose last connection broke off is still present: back within it, nobody is told anything and its status is what it
    /// was. Who says goodbye (leaves its namespaces) or is closed by the server has none. Zero: everyone is gone at once.
    pub grace: Duration,
    /// How long it is known when a user who is gone was last seen, and what an agent had chosen.
    pub last_seen_ttl: Duration,
    /// What a user may say of itself.
    pub statuses: Box<[Status]>,
    /// What everybody in the tenant is told; `None`: nothing.
    pub tenant: Option<Wording>,
    /// The first pattern that fits a room's name decides what its members are told of each other; at most 255 count.
    pub rooms: Box<[RoomPresence]>,
    /// A circle of at most `batch_over` sockets is told so often at most: the first change at once, what follows gathered.
    pub every: Duration,
    /// Above so many sockets a circle gets one event for all that was gathered.
    pub batch_over: u32,
    /// How long it is gathered there, from the first change on.
    pub batch_every: Duration,
    /// Above so many sockets nobody is told, and clients ask. What n users' coming costs rises with n * n: at 1,000 sockets that all come
    /// within a minute it is some 40 MB in all, at 10,000 a hundred times that.
    pub announce_max: u32,
    pub availability: Option<Availability>,
}

impl Default for PresenceSettings {
    fn default() -> PresenceSettings {
        PresenceSettings {
            // As long as a page takes to load again.
            grace: Duration::from_secs(2),
            last_seen_ttl: Duration::from_secs(3600),
            statuses: Status::ALL.into(),
            tenant: Some(Wording::of_tenant()),
            rooms: Box::default(),
            every: limit::PRESENCE_EVERY,
            batch_over: 100,
            batch_every: Duration::from_secs(1),
            announce_max: 1000,
            availability: None,
        }
    }
}

impl PresenceSettings {
    /// As a profile has it; what it leaves open is the default.
    pub fn of(profile: &profile::Presence) -> PresenceSettings {
        let default = PresenceSettings::default();
        let changed = profile.availability.as_ref().and_then(|known| known.changed.as_ref());
        let tenant = Wording {
            online: Some(Telling::of(profile.online.as_ref(), "user:online")),
            offline: Some(Telling::of(profile.offline.as_ref(), "user:offline")),
            status: Some(Telling::of(profile.status.as_ref(), "user:status")),
            availability: Some(Telling::of(changed, "agent:availability")),
            ..Wording::of_tenant()
        };
        let rooms = profile.rooms.iter().cloned();
        PresenceSettings {
            grace: profile.grace.unwrap_or(default.grace),
            last_seen_ttl: profile.last_seen_ttl.unwrap_or(default.last_seen_ttl),
            tenant: profile.announce.then_some(tenant),
            rooms: rooms.map(|pattern| RoomPresence { pattern, wording: Wording::of_room() }).collect(),
            batch_over: profile.batch_over.unwrap_or(default.batch_over),
            availability: profile.availability.as_ref().map(|known| Availability {
                roles: known.roles.clone(),
                states: known.states.clone(),
                auto_offline: None,
            }),
            ..default
        }
    }

    /// Whether these rights make an agent.
    pub fn is_agent(&self, rights: &Rights) -> bool {
        self.availability.as_ref().is_some_and(|known| known.roles.iter().any(|role| rights.has_role(role)))
    }

    /// The rule of a room of this name, counted from 1; 0: there is none.
    pub fn rule(&self, room: &str) -> u8 {
        let nth = self.rooms.iter().take(usize::from(u8::MAX)).position(|rule| rule.pattern.matches(room));
        nth.map_or(0, |nth| nth as u8 + 1)
    }
}

/// Availability of agents: a second word beside the status, kept while they are away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Availability {
    /// Who has one: users with one of these roles.
    pub roles: Box<[Box<str>]>,
    /// What an agent may choose, at most 255. `auto`, which is also what an agent begins with, follows its status: online is `available`,
    /// away `away`, busy `busy`, offline `offline`.
    pub states: Box<[Box<str>]>,
    /// An agent that has been away for so long counts as `offline` until it is back.
    pub auto_offline: Option<Duration>,
}

/// How typing works for an application.
#[derive(Clone, Debug)]
pub struct TypingSettings {
    /// How long a start lasts without another.
    pub ttl: Duration,
    /// A start that is repeated is told again so often at most; `None`: never, only the first is told.
    pub repeat_every: Option<Duration>,
    pub start: Telling,
    /// `None`: only starts are told.
    pub stop: Option<Telling>,
}

impl TypingSettings {
    /// As a profile has it. Its words are filled by the operation, which knows what the client said.
    pub fn of(profile: &profile::Typing) -> TypingSettings {
        let default = TypingSettings::default();
        // Who is told of starts alone forgets them by itself, and has to hear that they go on.
        let starts_only = profile.start.is_some() && profile.stop.is_none();
        TypingSettings {
            ttl: profile.ttl.unwrap_or(default.ttl),
            repeat_every: starts_only.then_some(Duration::from_secs(1)),
            ..default
        }
    }
}

impl Default for TypingSettings {
    /// `typing:start` and `typing:stop` with `{room, user}`; the holes of a shape are `room`, `user`, `tenant`.
    fn default() -> TypingSettings {
        TypingSettings {
            ttl: limit::TYPING_TTL,
            repeat_every: None,
            start: Telling::plain("typing:start"),
            stop: Some(Telling::plain("typing:stop")),
        }
    }
}
