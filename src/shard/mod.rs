//! Floor 2: the shard, a pure state machine that owns tenants, sessions and rooms.
//!
//! Architecture invariant: a shard knows no clock, no entropy, no socket and no other thread. What it does follows from its settings, its
//! seed and its [inputs](io::Input), so a simulator that feeds it the same again sees the same again. The pump owns it by value.
//!
//! This file holds the state and the turn; what an input means stands in the file of its noun.

mod absence;
pub mod app;
mod bucket;
mod call;
pub mod count;
mod deadline;
mod default;
mod delivery;
pub mod document;
mod drain;
mod encode;
mod ending;
mod engine;
mod farewell;
mod filter;
pub mod fleet;
pub mod foreign;
mod gathering;
pub mod history;
pub mod identity;
pub mod io;
mod late;
mod link;
pub mod listener;
mod membership;
mod moving;
mod namespace;
pub mod neighbour;
pub mod offline;
pub mod outbox;
mod plain;
mod presence;
mod publish;
pub mod receipt;
mod recovery;
pub mod refusal;
pub mod relay;
mod room;
mod roster;
mod schema;
mod session;
mod socket;
mod status;
mod tenant;
mod timer;
pub mod transit;
mod turn;
mod typing;
pub mod verdict;
mod waiting;
mod watch;
mod wording;

pub use default::{app as profile_app, default_app};
pub use document::DocumentSettings;
pub use history::HistorySettings;
pub use status::Status;
pub use wording::{Availability, PresenceSettings, RoomPresence, Telling, TypingSettings, Wording};

use crate::base::{
    buffer::Buffer,
    chance::{Chance, Map},
    id::{ConnKey, NodeId, ShardId, Sid, TenantId},
    limit::Limits,
    slab::{Key, Slab},
    time::{Duration, Instant, Now},
    wheel::Wheel,
};
use crate::wire::auth::{Keys, Policy};
use app::App;
use count::{Count, Counts};
use delivery::Deliveries;
use io::{Input, Message, Output, Parcel};
use link::{Link, Role};
use offline::OfflineSettings;
use outbox::{Outbox, Pending};
use receipt::ReceiptSettings;
use room::{Room, RoomKey};
use session::{Session, SessionKey, Transport};
use socket::{Socket, SocketKey};
use std::collections::VecDeque;
use std::rc::Rc;
use tenant::{Tenant, TenantKey};
use timer::Timer;

/// What a shard is told at start.
#[derive(Clone)]
pub struct Settings {
    pub node: NodeId,
    pub shard: ShardId,
    /// Shards of this node.
    pub shards: u8,
    /// How tokens are checked; `None`: everyone is welcome, as one tenant `default`.
    pub auth: Option<Auth>,
    pub limits: Limits,
    pub ping_interval: Duration,
    pub ping_timeout: Duration,
    /// From the handshake to the first namespace joined.
    pub connect_timeout: Duration,
    /// From CONNECT to the token, where the profile lets it come late.
    pub auth_deadline: Duration,
    /// How long a disconnected socket may come back; zero: recovery is off.
    pub recovery: Duration,
    pub history: HistorySettings,
    pub documents: DocumentSettings,
    pub presence: PresenceSettings,
    pub typing: TypingSettings,
    pub offline: OfflineSettings,
    pub receipts: ReceiptSettings,
    /// Tenants whose connections stay on the shards that accepted them; all else of such a tenant is on its home, as any other's.
    pub spread: Box<[crate::wire::auth::Pattern]>,
    /// How answers of the application's backend are waited for and kept; `None`: whoever needs one is refused.
    pub verdicts: Option<verdict::VerdictSettings>,
    /// What is done when an event is published.
    pub listeners: Box<[listener::ListenerSettings]>,
    /// The fleet this node is one of; `None`: it is alone.
    pub fleet: Option<fleet::FleetSettings>,
    /// By their place in the profile: their place in the control plane's settings; none where nobody says whom to call.
    pub webhooks: Box<[Option<u16>]>,
}

impl Settings {
    /// The Node server's defaults, for one shard.
    pub fn new() -> Settings {
        Settings {
            node: NodeId(0),
            shard: ShardId(0),
            shards: 1,
            auth: None,
            limits: Limits::default(),
            ping_interval: Duration::from_millis(25_000),
            ping_timeout: Duration::from_millis(20_000),
            connect_timeout: Duration::from_millis(45_000),
            auth_deadline: Duration::from_secs(10),
            recovery: Duration::from_secs(120),
            history: HistorySettings::default(),
            documents: DocumentSettings::default(),
            presence: PresenceSettings::default(),
            typing: TypingSettings::default(),
            offline: OfflineSettings::default(),
            receipts: ReceiptSettings::default(),
            spread: Box::default(),
            verdicts: None,
            listeners: Box::default(),
            webhooks: Box::default(),
            fleet: None,
        }
    }

    fn spreads(&self, tenant: &TenantId) -> bool {
        self.spread.iter().any(|pattern| pattern.matches(tenant.as_str()))
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings::new()
    }
}

#[derive(Clone)]
pub struct Auth {
    pub keys: Keys,
    pub policy: Policy,
}

/// Where a long-polling session is.
#[derive(Debug)]
enum Place {
    Here(SessionKey),
    Leaving(usize),
    /// And whether its tenant is spread.
    Moved(ShardId, bool),
    /// Closed by the server, which has last words for it.
    Farewell(farewell::Farewell),
}

pub struct Shard {
    settings: Settings,
    app: Rc<App>,
    now: Now,
    out: Vec<Output>,
    chance: Chance,
    text: Vec<u8>,
    /// By slot of the data plane's connections.
    links: Vec<Link>,
    sessions: Slab<SessionKey, Session>,
    /// Long-polling sessions by id.
    sids: Map<Sid, Place>,
    sockets: Slab<SocketKey, Socket>,
    tenants: Slab<TenantKey, Tenant>,
    tenant_keys: Map<TenantId, TenantKey>,
    rooms: Slab<RoomKey, Room>,
    /// As in `settings`, to be held while the shard changes.
    presence: Rc<PresenceSettings>,
    typing: Map<(RoomKey, SocketKey), typing::Typing>,
    /// By room, of rooms that have a rule.
    watches: Map<RoomKey, Box<watch::Watch>>,
    /// For each session the nearest of its deadlines: a wheel of their own, because an entry is half as large.
    looks: Wheel<SessionKey>,
    timers: Wheel<Timer>,
    due: Vec<Timer>,
    /// Circles to be told what was gathered, as soon as a turn has room for it.
    circles_due: VecDeque<gathering::Circle>,
    due_looks: Vec<SessionKey>,
    tasks: Slab<app::TaskKey, (SocketKey, app::Task)>,
    verdicts: verdict::Verdicts,
    listeners: listener::Listeners,
    fleet: Option<Box<fleet::Fleet>>,
    outbox: Outbox,
    deliveries: Deliveries,
    /// Whose event is being published.
    speaker: Option<fleet::Speaker>,
    leaving: Vec<moving::Leaving>,
    /// Connections to write this turn.
    writes: Vec<ConnKey>,
    counts: Counts,
    /// Sockets that a handler has ended: they are there until it returns.
    endings: Vec<(SocketKey, Option<crate::wire::close::Close>)>,
    /// The packet at hand is over its connection's rate: it is answered `rate_limited`.
    over_rate: Option<Duration>,
    draining: bool,
    leavers: drain::Leavers,
}

impl Shard {
    /// One shard of a node. `seed` is all the chance it will ever have.
    pub fn new(settings: Settings, app: App, seed: [u8; 32]) -> Shard {
        let mut chance = Chance::new(seed);
        Shard {
            app: Rc::new(app),
            now: Now::default(),
            out: Vec::new(),
            text: Vec::new(),
            links: Vec::new(),
            sessions: Slab::default(),
            sids: Map::with_hasher(chance.hasher()),
            sockets: Slab::default(),
            tenants: Slab::default(),
            tenant_keys: Map::with_hasher(chance.hasher()),
            rooms: Slab::default(),
            presence: Rc::new(settings.presence.clone()),
            typing: Map::with_hasher(chance.hasher()),
            watches: Map::with_hasher(chance.hasher()),
            looks: Wheel::default(),
            timers: Wheel::default(),
            due: Vec::new(),
            circles_due: VecDeque::new(),
            due_looks: Vec::new(),
            tasks: Slab::default(),
            verdicts: verdict::Verdicts::new(settings.verdicts.as_ref(), &mut chance),
            listeners: listener::Listeners::new(&settings.listeners, &mut chance),
            fleet: settings.fleet.map(|settings| Box::new(fleet::Fleet::new(settings))),
            outbox: Outbox::default(),
            deliveries: Deliveries::default(),
            speaker: None,
            leaving: Vec::new(),
            writes: Vec::new(),
            counts: Counts::default(),
            over_rate: None,
            endings: Vec::new(),
            draining: false,
            leavers: drain::Leavers::default(),
            settings,
            chance,
        }
    }

    /// Takes one input; appends what follows from it.
    pub fn handle(&mut self, now: Now, input: Input<'_>, outputs: &mut Vec<Output>) {
        self.now = now;
        match input {
            Input::Open(open) => self.open(*open),
            Input::Message { conn, message } => self.message(conn, message),
            Input::Poll { from, sid } => self.poll(from, sid, true),
            Input::Post { from, sid, body } => self.post(from, sid, body, true),
            Input::Call { from, tenant, call } => self.call(from, &tenant, *call),
            Input::Hangup { conn, cause } => self.hangup(conn, cause),
            Input::Writable { conn } => self.writable(conn),
            Input::Arrive { transit, conns } => self.arrive(*transit, &conns),
            Input::Parcel(parcel) => self.parcel(parcel),
            Input::Answered { ticket, answer } => self.answered(ticket, answer),
            Input::Report(report) => self.report(report),
            Input::Announce(announcement) => self.announce_all(&announcement),
            Input::Drain { spread } => self.drain(spread),
            Input::Tick => {}
        }
        self.end_what_handlers_ended();
        outputs.append(&mut self.out);
    }

    fn parcel(&mut self, parcel: Parcel) {
        match parcel {
            Parcel::Open(open) => self.open(*open),
            Parcel::Poll { from, sid } => self.poll(from, sid, false),
            Parcel::Post { from, sid, body } => self.post(from, sid, &body, false),
            Parcel::Call { from, tenant, call } => self.call(from, &tenant, *call),
            Parcel::Abandon { from, sid } => self.abandon(from, sid, false),
            Parcel::Release { from, sid } => self.release_poll(from, sid),
            Parcel::Forget { sid } => {
                if let Some(Place::Moved(to, _)) = self.sids.get(&sid) {
                    // Where a refused CONNECT was followed by another tenant's, the way has more than one step.
                    self.out.push(Output::Send { to: *to, parcel: Parcel::Forget { sid } });
                    self.sids.remove(&sid);
                }
            }
        }
    }

    /// Ends the turn: fires what is due, answers waiting long-polling requests, moves sessions on, and lists what is to be written.
    pub fn end_turn(&mut self, now: Now, outputs: &mut Vec<Output>) {
        self.now = now;
        self.fire();
        self.end_fleet_turn();
        let bound = self.settings.limits.outbox_bytes as usize;
        // Closing a slow session tells others that its user is gone, which fills more queues: until there are none.
        loop {
            let dirty = self.outbox.take_dirty();
            if dirty.is_empty() {
                break;
            }
            for &slot in &dirty {
                let Some(key) = self.sessions.key_at(slot) else { continue };
                match &mut self.sessions[key].transport {
                    Transport::Polling(polling) => {
                        if let Some(to) = polling.waiting.take() {
                            match self.outbox.take_poll(slot) {
                                Some(body) => self.answer_poll(to, body),
                                None => polling.waiting = Some(to),
                            }
                        }
                        // Also what one answer has no room for.
                        if self.outbox.hold(slot, bound).is_err() {
                            self.close(key, crate::wire::close::Close::SlowConsumer);
                        }
                    }
                    Transport::WebSocket(conn) | Transport::Stream(conn) => {
                        let conn = *conn;
                        if self.outbox.has_backlog(slot) && self.outbox.hold(slot, bound).is_err() {
                            self.close(key, crate::wire::close::Close::SlowConsumer);
                        } else if !self.outbox.is_full(slot) {
                            self.writes.push(conn);
                        }
                    }
                }
            }
            self.outbox.recycle(dirty);
        }
        self.depart();
        self.count();
        outputs.append(&mut self.out);
    }

    /// Whether a connection has bytes to write in this turn.
    pub fn has_dirty(&self) -> bool {
        !self.writes.is_empty()
    }

    /// A connection that has bytes to write, each once a turn.
    pub fn next_dirty(&mut self) -> Option<ConnKey> {
        self.writes.pop()
    }

    /// Ends the turn's writes: what was not written waits, within its bound.
    pub fn end_writes(&mut self, outputs: &mut Vec<Output>) {
        let bound = self.settings.limits.outbox_bytes as usize;
        // Closing one session tells others, whose frames are of this turn too.
        loop {
            let over = self.outbox.end_turn(bound);
            if over.is_empty() {
                break;
            }
            for key in over.into_iter().filter_map(|slot| self.sessions.key_at(slot)).collect::<Vec<_>>() {
                self.close(key, crate::wire::close::Close::SlowConsumer);
            }
        }
        outputs.append(&mut self.out);
    }

    /// The bytes waiting for `conn`, ready for its socket; empty when there are none.
    pub fn pending(&mut self, conn: ConnKey) -> &[u8] {
        self.pending_write(conn).bytes()
    }

    /// [`pending`](Self::pending), with how long the bytes stay. Asking for other connections' bytes moves none that stay.
    pub fn pending_write(&mut self, conn: ConnKey) -> Pending<'_> {
        let Some(link) = self.links.get(conn.index() as usize).filter(|link| link.generation == conn.generation())
        else {
            return Pending::NONE;
        };
        if !link.bytes.is_empty() {
            self.outbox.forget_joined();
            return Pending::Joined { bytes: &self.links[conn.index() as usize].bytes, again: false };
        }
        match link.role {
            Role::Session(key) => self.outbox.pending(key.index()),
            _ => Pending::NONE,
        }
    }

    /// The socket took `bytes` of what [`pending`](Self::pending) gave. Less than all: the connection is full, and the shard waits for
    /// [`Input::Writable`].
    pub fn wrote(&mut self, now: Now, conn: ConnKey, bytes: usize, outputs: &mut Vec<Output>) {
        self.now = now;
        let Some(link) = self.link_mut(conn) else { return };
        if !link.bytes.is_empty() {
            link.bytes.drain(..bytes);
            if link.bytes.is_empty() {
                link.bytes = Buffer::default();
                if let Role::Session(key) = link.role
                    && !self.outbox.is_empty(key.index())
                {
                    self.writes.push(conn);
                }
            }
            return;
        }
        if let Role::Session(key) = link.role {
            self.outbox.wrote(key.index(), bytes);
            if self.outbox.hold(key.index(), self.settings.limits.outbox_bytes as usize).is_err() {
                self.close(key, crate::wire::close::Close::SlowConsumer);
                outputs.append(&mut self.out);
            }
        }
    }

    fn writable(&mut self, conn: ConnKey) {
        let Some(link) = self.link_mut(conn) else { return };
        if !link.bytes.is_empty() {
            self.writes.push(conn);
        } else if let Role::Session(key) = link.role {
            self.outbox.writable(key.index());
        }
    }

    /// When to send [`Input::Tick`] if nothing else comes: at once where a session that was closed as it was written has told others, or
    /// where more circles are due than one turn tells.
    pub fn next_deadline(&self) -> Option<Instant> {
        let at_once = (self.outbox.has_dirty() || !self.circles_due.is_empty()).then_some(self.now.at);
        at_once.into_iter().chain(self.looks.next_deadline()).chain(self.timers.next_deadline()).min()
    }

    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Nobody is left: a drained shard may stop.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.leaving.is_empty() && self.counts.get(Count::Farewells) == 0
    }

    /// What the shard holds, by name: all zero once everybody has left and time has passed.
    pub fn census(&self) -> [(&'static str, usize); 15] {
        [
            ("sessions", self.sessions.len()),
            ("sockets", self.sockets.len()),
            ("tenants", self.tenants.len() + self.tenant_keys.len()),
            ("rooms", self.rooms.len()),
            ("session ids", self.sids.len()),
            ("typing", self.typing.len()),
            ("watches", self.watches.len()),
            ("absences", self.tenants.iter().map(|(_, tenant)| tenant.absences.len()).sum()),
            ("leaving", self.leaving.len()),
            ("events for who is away", self.tenants.iter().map(|(_, tenant)| tenant.waiting()).sum()),
            ("deliveries", self.deliveries.len()),
            ("joins that wait", self.verdicts.waiting() + self.fleet.as_ref().map_or(0, |fleet| fleet.waiting())),
            ("timers", self.timers.len() + self.looks.len()),
            ("unsent bytes", self.outbox.bytes() + self.links.iter().map(|link| link.bytes.len()).sum::<usize>()),
            ("documents", self.counts.get(Count::Documents) as usize),
        ]
    }

    /// The most bytes that wait for one session beyond the history it asked for: at most `limits.outbox_bytes` between turns.
    pub fn backlog_bytes_max(&self) -> usize {
        self.outbox.excess_max()
    }

    fn count(&mut self) {
        let (delivered, dropped) = self.outbox.take_counts();
        self.counts.add(Count::Delivered, delivered);
        self.counts.add(Count::Dropped, dropped);
        self.counts.set(Count::Tenants, self.tenants.len());
        self.counts.set(Count::Rooms, self.rooms.len());
        self.counts.set(Count::Leavers, self.leavers.len());
    }

    fn message(&mut self, conn: ConnKey, message: Message<'_>) {
        let Some(link) = self.link(conn) else { return };
        match link.role {
            Role::Session(key) => self.session_message(key, message),
            Role::Probe(key) => self.probe_message(key, conn, message),
            Role::Parting(sid) => self.parting_message(sid, conn, message),
            Role::Leaving(index, nth) => self.leaving[index as usize].message(nth, message),
            Role::None | Role::Request(_) | Role::Waiting => {}
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
