//! A shard among nodes: what it asks of the backplane, and what it does with what it hears.
//!
//! ```text
//!  stream.rs     a tenant's stream as this node has heard it, in order and without a hole      Opened, Envelope, Read
//!  told.rs       what is said beside it                                                          Envelope
//!  head.rs       where rooms stand that this node has just begun to have, and what they had    Read
//!  wait.rs       what cannot go on before that is known
//!  append.rs     durable events on their way to their place                                    Appended
//!  comeback.rs   sockets that may come back to any node                                        Claimed
//!  session.rs    and to servers of another make
//!  rows.rs       the stream that is shared with those, where events are read from that         Envelope, Foreign, Missed
//!  behind.rs     what somebody says behind an event that has no place yet
//!  tally.rs      who has acknowledged an event                                                 Shared, Envelope
//!  queue.rs      what waits for users who are not there, and who is told of receipts           Shared
//!  address.rs    how many connections an address has                                           Shared
//!  document.rs   documents that several nodes write to                                         Shared, Envelope
//!  presence.rs   what the store is to know of this node's users, and what it says of all       Shared, Envelope
//!  roster.rs     who is there, asked                                                           Shared
//! ```
//!
//! Invariants: a durable event is delivered from the stream and from nothing else, in the order of the tenant's sequence, so that a place in
//! it says what a client has; a tenant's sequence here never passes an event of a room whose head is not known; nothing here waits: what has
//! to is a closure that [`when_ready`](Shard::when_ready) keeps. Without a fleet none of this is there.

mod address;
mod append;
mod behind;
mod comeback;
mod document;
mod head;
mod presence;
mod queue;
mod roster;
mod rows;
mod session;
mod stream;
mod tally;
mod told;
mod wait;

pub use append::Asking;
pub(super) use append::event_of;
pub use behind::Speaker;
pub(super) use rows::Row;
pub use stream::Stream;
pub use wait::Needs;

use super::foreign;
use super::io::Output;
use super::relay::{Act, Answer, Relay, Report, Ticket, Unavailable};
use super::room::RoomKey;
use super::socket::SocketKey;
use super::tenant::TenantKey;
use super::{Shard, Timer};
use crate::base::{
    id::{NodeId, Sid},
    limit::APPENDS_MAX,
    time::Duration,
};
use crate::wire::{
    adapter::streams::Offset,
    envelope::{Body, Origin},
};
use append::Pending;
use std::collections::BTreeMap;

/// What a shard is told of the fleet its node is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FleetSettings {
    /// Of this process, the same for all its shards.
    pub origin: Origin,
    /// How long what a node says of its sessions counts after it has fallen silent.
    pub lease: Duration,
    /// The backplane is told which rooms are here: servers of another make tell each room on a channel of its own.
    pub names_rooms: bool,
    /// Events come from the stream that is shared with servers of another make, and clients keep its rows.
    pub reads_rows: bool,
}

/// What this shard has asked.
pub struct Fleet {
    settings: FleetSettings,
    tickets: u64,
    jobs: BTreeMap<Ticket, Job>,
    /// Tenants that have something to do at the end of this turn.
    stirred: Vec<TenantKey>,
    addresses: address::Addresses,
    /// So far the shared stream has been read.
    row: Offset,
    /// Events of this shard whose receivers are to acknowledge them, as far as somebody waits for that, by the numbers of their timers.
    tallies: BTreeMap<u64, tally::Tally>,
    /// Of [`when_ready`](Shard::when_ready), over all tenants.
    waits: usize,
    /// The number of this node before it got another one.
    pub(super) number_before: Option<NodeId>,
    /// Sockets whose id does not say where they are: they came from elsewhere with it.
    pub(super) strays: BTreeMap<Sid, SocketKey>,
}

/// What goes on when something of what the nodes share was done or could not be.
type Shared = Box<dyn FnOnce(&mut Shard, Result<Answer, Unavailable>)>;

/// What an answer is for.
enum Job {
    Append(Box<Pending>),
    Heads {
        tenant: TenantKey,
        rooms: Vec<head::Asked>,
    },
    Repair {
        tenant: TenantKey,
    },
    Unread {
        tenant: TenantKey,
    },
    Claim {
        then: comeback::Taken,
    },
    Keep {
        tenant: TenantKey,
        thens: Vec<comeback::Kept>,
    },
    Share {
        tenant: TenantKey,
        then: Shared,
    },
    /// `known`: so far the tenant's stream was known when it was asked.
    Missed {
        tenant: TenantKey,
        known: u64,
        then: rows::Come,
    },
    Address {
        session: super::session::SessionKey,
    },
}

/// An answer to what a server of another make asks.
pub(super) fn relay_answer(ticket: Ticket, answer: foreign::Answer) -> Output {
    Output::Relay(Relay::Answer { ticket, answer: Box::new(answer) })
}

impl Fleet {
    pub fn new(settings: FleetSettings) -> Fleet {
        Fleet {
            settings,
            tickets: 0,
            jobs: BTreeMap::new(),
            stirred: Vec::new(),
            addresses: address::Addresses::default(),
            row: Offset::default(),
            tallies: BTreeMap::new(),
            waits: 0,
            number_before: None,
            strays: BTreeMap::new(),
        }
    }

    /// Answers that are waited for, and what waits for them.
    pub fn waiting(&self) -> usize {
        self.jobs.len() + self.waits + self.tallies.len()
    }

    /// Publishers that wait for acknowledgements.
    pub fn tallied(&self) -> usize {
        self.tallies.len()
    }
}

impl Shard {
    #[cfg(test)]
    pub(crate) fn describe_streams(&self) -> Vec<String> {
        let of = |(_, tenant): (_, &super::tenant::Tenant)| {
            let stream = tenant.stream.as_ref().map(|stream| stream.describe());
            format!("{:?} {} {stream:?}", tenant.epoch, tenant.sequence)
        };
        self.tenants.iter().map(of).collect()
    }

    /// Events whose publishers wait for acknowledgements.
    #[cfg(test)]
    pub(crate) fn describe_asked(&self) -> usize {
        self.fleet.as_ref().map_or(0, |fleet| fleet.tallied())
    }

    /// Users and their sessions, rooms and their members.
    #[cfg(test)]
    pub(crate) fn describe_presence(&self) -> [BTreeMap<String, u32>; 2] {
        let mut counts = [BTreeMap::new(), BTreeMap::new()];
        for identity in self.sessions.iter().filter_map(|(_, session)| session.identity.as_ref()) {
            *counts[0].entry(identity.user.to_string()).or_default() += 1;
        }
        for (_, room) in self.rooms.iter().filter(|(_, room)| !room.members.is_empty()) {
            *counts[1].entry(room.name.to_string()).or_default() += room.members.len() as u32;
        }
        counts
    }

    pub(super) fn is_fleet(&self) -> bool {
        self.fleet.is_some()
    }

    pub(super) fn origin(&self) -> Origin {
        self.fleet.as_ref().map_or(Origin(0), |fleet| fleet.settings.origin)
    }

    fn relay(&mut self, relay: Relay) {
        self.out.push(Output::Relay(relay));
    }

    /// A ticket whose answer is for `job`. Only in a fleet.
    fn ticket(&mut self, job: Job) -> Ticket {
        let Some(fleet) = &mut self.fleet else { return Ticket(0) };
        fleet.tickets += 1;
        let ticket = Ticket(fleet.tickets);
        fleet.jobs.insert(ticket, job);
        ticket
    }

    fn job(&mut self, ticket: Ticket) -> Option<Job> {
        self.fleet.as_mut()?.jobs.remove(&ticket)
    }

    /// The tenant is looked at again at the end of the turn.
    fn stir(&mut self, tenant: TenantKey) {
        let Some(fleet) = &mut self.fleet else { return };
        if let Some(stream) = &mut self.tenants[tenant].stream
            && !std::mem::replace(&mut stream.stirred, true)
        {
            fleet.stirred.push(tenant);
        }
    }

    pub(super) fn report(&mut self, report: Report) {
        match report {
            Report::Opened { tenant, place } => {
                if let Some(key) = self.tenant_keys.get(&tenant).copied() {
                    let is_there = place.is_ok();
                    self.opened(key, place);
                    if is_there {
                        self.check_documents(key);
                    }
                }
            }
            Report::Envelope { tenant, frame } => {
                if let Some(key) = self.tenant_keys.get(&tenant).copied() {
                    self.envelope(key, frame);
                }
            }
            Report::Appended { ticket, result } => {
                if let Some(Job::Append(pending)) = self.job(ticket) {
                    self.appended(*pending, result);
                }
            }
            Report::Read { ticket, result } => match self.job(ticket) {
                Some(Job::Heads { tenant, rooms }) => self.heads(tenant, ticket, &rooms, result),
                Some(Job::Repair { tenant }) => self.repaired(tenant, result),
                Some(Job::Unread { tenant }) => self.stands_unread(tenant, ticket, result),
                Some(Job::Keep { tenant, thens }) => self.kept(tenant, thens, result.is_ok()),
                _ => {}
            },
            Report::Claimed { ticket, result } => {
                if let Some(Job::Claim { then }) = self.job(ticket) {
                    then(self, result.unwrap_or_default());
                    self.end_what_handlers_ended();
                }
            }
            Report::Neighbour(news) => self.hear_neighbour(*news),
            Report::Foreign(foreign) => self.foreign(*foreign),
            Report::Missed { ticket, result } => self.missed_came(ticket, result),
            Report::Replaced { tenant, pid } => {
                if let Some(key) = self.tenant_keys.get(&tenant).copied() {
                    self.replaced_elsewhere(key, pid);
                }
            }
            Report::Shared { ticket, result } => match self.job(ticket) {
                Some(Job::Share { tenant, then }) => self.shared(tenant, then, result),
                Some(Job::Address { session }) => self.address_held(session, result),
                _ => {}
            },
        }
    }

    /// Changes what the nodes share of a tenant. Only in a fleet.
    pub(super) fn share(&mut self, tenant: TenantKey, act: Act) {
        let tenant = (*self.tenants[tenant].id).clone();
        self.relay(Relay::Share { tenant, ticket: None, act: Box::new(act) });
    }

    /// As [`share`](Self::share), and goes on with what came of it, if the tenant is still here: it stays until then. Where this shard waits
    /// for too much, as if the store were away.
    pub(super) fn share_then(
        &mut self,
        key: TenantKey,
        act: Act,
        then: impl FnOnce(&mut Shard, Result<Answer, Unavailable>) + 'static,
    ) {
        if self.fleet.as_ref().is_none_or(|fleet| fleet.jobs.len() >= APPENDS_MAX) {
            return then(self, Err(Unavailable));
        }
        self.tenants[key].stream.get_or_insert_default().owed += 1;
        let ticket = Some(self.ticket(Job::Share { tenant: key, then: Box::new(then) }));
        let tenant = (*self.tenants[key].id).clone();
        self.relay(Relay::Share { tenant, ticket, act: Box::new(act) });
    }

    fn shared(&mut self, key: TenantKey, then: Shared, result: Result<Answer, Unavailable>) {
        let Some(tenant) = self.tenants.get_mut(key) else { return };
        if let Some(stream) = &mut tenant.stream {
            stream.owed -= 1;
        }
        then(self, result);
        self.end_what_handlers_ended();
        if self.tenants.contains(key) {
            self.stir(key);
            self.tend_tenant(key);
        }
    }

    /// Does what waited for this turn's news, and asks what it has brought up.
    pub(super) fn end_fleet_turn(&mut self) {
        while let Some(tenant) = self.fleet.as_mut().and_then(|fleet| fleet.stirred.pop()) {
            let Some(stream) = self.tenants.get_mut(tenant).and_then(|tenant| tenant.stream.as_mut()) else { continue };
            stream.stirred = false;
            self.flow(tenant);
            if self.tenants.contains(tenant) {
                self.go_on(tenant);
            }
            if self.tenants.contains(tenant) {
                self.ask_heads(tenant);
                self.tell_done(tenant);
                self.tell_acked(tenant);
                // Before who joins is answered: who was let in is counted wherever it is asked who is there.
                self.say_presence(tenant);
                self.save_sockets(tenant);
                self.ask_kept(tenant);
                self.tend_tenant(tenant);
            }
        }
    }

    /// Tells every other node that has this tenant.
    pub(super) fn tell_others(&mut self, tenant: TenantKey, body: &Body<'_>) {
        if self.is_fleet() {
            let body = body.encode(self.origin());
            let tenant = (*self.tenants[tenant].id).clone();
            self.relay(Relay::Tell { tenant, body, in_row: false });
        }
    }

    /// A room has come to be on this node: where it stands has to be asked.
    pub(super) fn room_begins(&mut self, tenant: TenantKey, room: RoomKey) {
        if self.is_fleet() {
            let name = self.rooms[room].name.clone();
            self.name_room(tenant, &name, true);
            let base = self.tenants[tenant].sequence;
            if let Some(stream) = &mut self.tenants[tenant].stream {
                stream.begin(room, base);
            }
            self.stir(tenant);
        }
    }

    fn name_room(&mut self, tenant: TenantKey, room: &str, is_here: bool) {
        if self.fleet.as_ref().is_some_and(|fleet| fleet.settings.names_rooms) {
            let tenant = (*self.tenants[tenant].id).clone();
            self.relay(Relay::Room { tenant, room: room.into(), is_here });
        }
    }

    /// A room is forgotten.
    pub(super) fn room_ends(&mut self, tenant: TenantKey, room: RoomKey, name: &str) {
        self.name_room(tenant, name, false);
        if let Some(stream) = &mut self.tenants[tenant].stream {
            stream.end(room);
            stream.queues.end(room);
            // What waited for it has to see that it is gone.
            self.stir(tenant);
        }
    }

    pub(super) fn lease_timer(&mut self, key: TenantKey) {
        let Some(fleet) = &self.fleet else { return };
        let every = fleet.settings.lease / 3;
        let Some(tenant) = self.tenants.get(key) else { return };
        if tenant.sessions > 0 {
            self.refresh_sockets(key);
            self.read_unread(key);
            self.keep_documents(key);
            self.keep_addresses(every / 2);
        }
        if self.renew_presence(key) || self.tenants[key].sessions > 0 {
            self.timers.arm(self.now.at + every, Timer::Lease(key));
        } else if let Some(stream) = &mut self.tenants[key].stream {
            stream.leased = false;
            self.stir(key);
        }
    }

    /// Sees to it that what is said of this tenant's sessions goes on to count.
    pub(super) fn begin_lease(&mut self, tenant: TenantKey) {
        let Some(fleet) = &self.fleet else { return };
        if let Some(stream) = &mut self.tenants[tenant].stream
            && !std::mem::replace(&mut stream.leased, true)
        {
            self.timers.arm(self.now.at + fleet.settings.lease / 3, Timer::Lease(tenant));
        }
    }
}
