//! Joins that the application's backend decides: asked once, remembered for a while, and refused when it does not answer.
//!
//! ```text
//!  join -> known? ------------------------------------------------------------> then(Ok or Err), in this turn
//!            | no            Output::Ask(Authorize)      Input::Answered
//!          ticket: waiters ------------------------> ... --------------> then(..) for every waiter whose socket is still there
//!            |                                                 ^
//!            +-- Timer::Ticket: nobody answered: Unavailable --+
//! ```
//!
//! Invariants: whoever asks is answered exactly once, or its socket is gone; an answer counts only for the question it was given to, which
//! has the tenant, the user, all its rights, the room and the event in it, so fresh rights are a fresh question; without an answer nobody
//! joins. Same questions share a ticket. Waiters are bounded, by shard and by socket.

use super::app::Context;
use super::count::Count;
use super::io::{Ask, Output};
use super::refusal::Refusal;
use super::socket::SocketKey;
use super::{Shard, Timer};
use crate::base::{
    chance::{Chance, Map},
    limit::{VERDICT_TTL_MAX, VERDICT_WAITS_MAX, VERDICT_WAITS_PER_SOCKET_MAX},
    lru::Lru,
    slab::Slab,
    time::{Duration, Instant},
};
use crate::wire::json;
use std::rc::Rc;

/// How a shard deals with the backend's answers. Who and where the backend is, the control plane knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerdictSettings {
    /// After so long without an answer the join is refused. Longer than the control plane's own patience, which answers with a reason.
    pub timeout: Duration,
    /// How long a permission counts where the answer does not say.
    pub allowed_for: Duration,
    /// The same of a refusal: short, because who is refused asks again when something has changed.
    pub denied_for: Duration,
    /// Answers a shard remembers; beyond, those not asked for the longest are forgotten.
    pub known_max: u32,
}

impl Default for VerdictSettings {
    fn default() -> VerdictSettings {
        VerdictSettings {
            timeout: Duration::from_secs(6),
            allowed_for: Duration::from_secs(60),
            denied_for: Duration::from_secs(5),
            known_max: 10_000,
        }
    }
}

crate::key!(
    /// A question to the backend that is not answered yet.
    TicketKey
);

/// What the backend says. `ttl`: how long that counts, where it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Allowed {
        ttl: Option<Duration>,
    },
    Denied {
        ttl: Option<Duration>,
    },
    /// Nothing that could be understood, in time.
    Unavailable,
}

/// What happens once it is known whether a socket may.
pub type Then = Box<dyn FnOnce(&mut Context<'_>, Result<(), Refusal>)>;

pub struct Verdicts {
    known: Lru<Known>,
    tickets: Slab<TicketKey, Ticket>,
    /// By question.
    open: Map<Rc<str>, TicketKey>,
    /// How often each socket waits.
    waits: Map<SocketKey, u32>,
    waiting: usize,
}

struct Known {
    allowed: bool,
    until: Instant,
}

struct Ticket {
    question: Rc<str>,
    waiters: Vec<Waiter>,
}

struct Waiter {
    socket: SocketKey,
    /// The acknowledgement that is owed.
    ack: Option<u64>,
    then: Then,
}

impl Verdicts {
    pub fn new(settings: Option<&VerdictSettings>, chance: &mut Chance) -> Verdicts {
        let hasher = chance.hasher();
        Verdicts {
            known: Lru::new(settings.map_or(0, |settings| settings.known_max), hasher.clone()),
            tickets: Slab::default(),
            open: Map::with_hasher(hasher.clone()),
            waits: Map::with_hasher(hasher),
            waiting: 0,
        }
    }

    /// Joins that wait for an answer.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether one more of a socket's joins may wait.
    fn has_room(&self, socket: SocketKey) -> Result<(), Refusal> {
        if self.waits.get(&socket).is_some_and(|waits| *waits >= VERDICT_WAITS_PER_SOCKET_MAX) {
            Err(Refusal::TooManyItems)
        } else if self.waiting >= VERDICT_WAITS_MAX {
            Err(Refusal::BackendUnavailable)
        } else {
            Ok(())
        }
    }

    fn wait(&mut self, ticket: TicketKey, waiter: Waiter) {
        *self.waits.entry(waiter.socket).or_default() += 1;
        self.waiting += 1;
        self.tickets[ticket].waiters.push(waiter);
    }

    fn done(&mut self, socket: SocketKey) {
        self.waiting -= 1;
        if let Some(waits) = self.waits.get_mut(&socket) {
            *waits -= 1;
            if *waits == 0 {
                self.waits.remove(&socket);
            }
        }
    }
}

impl Shard {
    /// Whether the backend lets this socket join `room` for the client's `event`: `then` hears it, in this turn where that is known.
    fn authorize(&mut self, socket: SocketKey, ack: Option<u64>, room: &str, event: &str, then: Then) {
        let Some(settings) = &self.settings.verdicts else {
            self.counts.up(Count::VerdictsUnavailable);
            return then(&mut Context::new(self, socket, ack), Err(Refusal::BackendUnavailable));
        };
        let timeout = settings.timeout;
        let question = self.question(socket, room, event);
        let now = self.now.at;
        if let Some(known) = self.verdicts.known.get(&question).filter(|known| now < known.until) {
            let verdict = if known.allowed { Ok(()) } else { Err(Refusal::Denied) };
            self.counts.up(Count::VerdictsShared);
            return self.hear(socket, ack, then, verdict);
        }
        if let Err(refusal) = self.verdicts.has_room(socket) {
            return self.hear(socket, ack, then, Err(refusal));
        }
        let ticket = match self.verdicts.open.get(&*question) {
            Some(ticket) => {
                self.counts.up(Count::VerdictsShared);
                *ticket
            }
            None => {
                let question: Rc<str> = question.into();
                let ticket = Ticket { question: question.clone(), waiters: Vec::with_capacity(1) };
                let ticket = self.verdicts.tickets.insert(ticket);
                self.verdicts.open.insert(question.clone(), ticket);
                self.timers.arm(now + timeout, Timer::Ticket(ticket));
                self.counts.up(Count::VerdictsAsked);
                self.out.push(Output::Ask(Ask::Authorize { ticket, question: (&*question).into() }));
                ticket
            }
        };
        self.verdicts.wait(ticket, Waiter { socket, ack, then });
    }

    /// What the backend is asked, and what its answer is remembered by.
    fn question(&self, socket: SocketKey, room: &str, event: &str) -> String {
        let identity = self.identity(socket);
        let mut out = Vec::with_capacity(192);
        let mut text = |name: &str, value: &str| {
            out.extend_from_slice(name.as_bytes());
            json::write_string(&mut out, value);
        };
        text("{\"tenant\":", identity.tenant.as_str());
        text(",\"user\":", &identity.user);
        text(",\"room\":", room);
        text(",\"event\":", event);
        for (name, list) in [(",\"roles\":[", &identity.roles), (",\"permissions\":[", &identity.permissions)] {
            out.extend_from_slice(name.as_bytes());
            for (nth, value) in list.iter().enumerate() {
                if nth > 0 {
                    out.push(b',');
                }
                json::write_string(&mut out, value);
            }
            out.push(b']');
        }
        out.push(b'}');
        // Made of texts only.
        String::from_utf8(out).unwrap_or_default()
    }

    /// The answer to a ticket, or that none came; one that was answered before is gone.
    pub(super) fn answered(&mut self, ticket: TicketKey, answer: Answer) {
        let Some(Ticket { question, waiters }) = self.verdicts.tickets.remove(ticket) else { return };
        self.verdicts.open.remove(&question);
        let settings = self.settings.verdicts.clone().unwrap_or_default();
        let (verdict, ttl) = match answer {
            Answer::Allowed { ttl } => (Ok(()), Some(ttl.unwrap_or(settings.allowed_for))),
            Answer::Denied { ttl } => (Err(Refusal::Denied), Some(ttl.unwrap_or(settings.denied_for))),
            // Not remembered: the next one may reach it.
            Answer::Unavailable => (Err(Refusal::BackendUnavailable), None),
        };
        if let Some(ttl) = ttl.filter(|ttl| !ttl.is_zero()) {
            let until = self.now.at + ttl.min(VERDICT_TTL_MAX);
            self.verdicts.known.insert(question, Known { allowed: verdict.is_ok(), until });
        }
        for Waiter { socket, ack, then } in waiters {
            self.verdicts.done(socket);
            if self.sockets.contains(socket) {
                self.hear(socket, ack, then, verdict.clone());
                self.end_what_handlers_ended();
            }
        }
    }

    fn hear(&mut self, socket: SocketKey, ack: Option<u64>, then: Then, verdict: Result<(), Refusal>) {
        match verdict {
            Err(Refusal::Denied) => self.counts.up(Count::VerdictsDenied),
            Err(_) => self.counts.up(Count::VerdictsUnavailable),
            Ok(()) => {}
        }
        then(&mut Context::new(self, socket, ack), verdict);
    }
}

impl Context<'_> {
    /// Asks the application's backend whether this socket may join `room`, for the client's event `event`. `then` is called exactly once, if
    /// the socket is still there: now where the answer is known, else when it comes; it owes the acknowledgement that this context owed.
    pub fn authorize(
        &mut self,
        room: &str,
        event: &str,
        then: impl FnOnce(&mut Context<'_>, Result<(), Refusal>) + 'static,
    ) {
        let ack = self.ack.take();
        self.shard.authorize(self.socket, ack, room, event, Box::new(then));
    }

    /// Joins a room if the application's backend lets it, see [`authorize`](Self::authorize). Nobody is asked about a room the socket is in.
    pub fn join_authorized(
        &mut self,
        room: &str,
        event: &str,
        then: impl FnOnce(&mut Context<'_>, Result<(), Refusal>) + 'static,
    ) {
        // The backend decides who, not what a name is.
        let checked = self.shard.check_room_name(room);
        if checked.is_err() || self.is_in(room) {
            return then(self, checked);
        }
        let name: Box<str> = room.into();
        self.authorize(room, event, move |socket, verdict| {
            let joined = verdict.and_then(|()| socket.join(&name));
            then(socket, joined);
        });
    }
}
