//! What cannot go on before something of the tenant's stream or rooms is here.
//!
//! Invariants: whoever waits goes on exactly once, in the order in which they began to wait where they need the same; nobody waits for what
//! only a store that is away could say; what waits looks for itself whether its session or socket is still there.

use super::Fleet;
use super::stream::State;
use crate::base::limit::{FLEET_WAITS_MAX, REACH_PATIENCE};
use crate::shard::app::Context;
use crate::shard::relay::Relay;
use crate::shard::room::RoomKey;
use crate::shard::tenant::TenantKey;
use crate::shard::{Shard, Timer};

/// What has to be here.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    /// Rooms whose head is known, and with `true` whose past is here.
    pub rooms: Vec<(Box<str>, bool)>,
    /// The stream has come as far as this.
    pub sequence: Option<u64>,
}

impl Needs {
    pub fn head(room: &str) -> Needs {
        Needs { rooms: vec![(room.into(), false)], sequence: None }
    }

    pub fn past(room: &str) -> Needs {
        Needs { rooms: vec![(room.into(), true)], sequence: None }
    }
}

pub struct Wait {
    pub needs: Needs,
    then: Box<dyn FnOnce(&mut Shard)>,
}

impl Shard {
    /// Does something once what it needs is here, or cannot be had: now where that is so, and always now without a fleet.
    pub(in crate::shard) fn when_ready(
        &mut self,
        tenant: TenantKey,
        needs: Needs,
        then: impl FnOnce(&mut Shard) + 'static,
    ) {
        if !self.is_fleet() {
            return then(self);
        }
        self.open_stream(tenant);
        if self.is_met(tenant, &needs) || self.fleet.as_ref().is_some_and(|fleet| fleet.waits >= FLEET_WAITS_MAX) {
            return then(self);
        }
        let here = self.tenants[tenant].sequence;
        if needs.sequence.is_some_and(|sequence| sequence > here) {
            // Where the stream stands is asked: what is missing here is read back then, and a place where nobody has been is found out.
            let tenant = (*self.tenants[tenant].id).clone();
            self.relay(Relay::Open { tenant });
        }
        self.wait(tenant, needs, then);
    }

    /// Does something once the stream has come to a place that the store has just named: what is up to there is on its way.
    pub(super) fn when_reached(&mut self, tenant: TenantKey, sequence: u64, then: impl FnOnce(&mut Shard) + 'static) {
        let needs = Needs { rooms: Vec::new(), sequence: Some(sequence) };
        if self.is_met(tenant, &needs) || self.fleet.as_ref().is_some_and(|fleet| fleet.waits >= FLEET_WAITS_MAX) {
            return then(self);
        }
        self.wait(tenant, needs, then);
    }

    fn wait(&mut self, tenant: TenantKey, needs: Needs, then: impl FnOnce(&mut Shard) + 'static) {
        if needs.sequence.is_some() {
            self.reach_later(tenant);
        }
        if let (Some(Fleet { waits, .. }), Some(stream)) =
            (self.fleet.as_deref_mut(), self.tenants[tenant].stream.as_mut())
        {
            *waits += 1;
            stream.waits.push(Wait { needs, then: Box::new(then) });
        }
        self.stir(tenant);
    }

    fn reach_later(&mut self, key: TenantKey) {
        if let Some(stream) = &mut self.tenants[key].stream
            && !std::mem::replace(&mut stream.reaching, true)
        {
            self.timers.arm(self.now.at + REACH_PATIENCE, Timer::Reach(key));
        }
    }

    /// Somebody has waited for a place of the stream: what was lost on the way, with nothing behind it, would not be missed for long. Where
    /// the stream stands is asked, and what is missing here is read back then.
    pub(in crate::shard) fn reach_timer(&mut self, key: TenantKey) {
        let Some(tenant) = self.tenants.get_mut(key) else { return };
        let (here, id) = (tenant.sequence, (*tenant.id).clone());
        let Some(stream) = &mut tenant.stream else { return };
        stream.reaching = false;
        if stream.waits.iter().any(|wait| wait.needs.sequence.is_some_and(|sequence| sequence > here)) {
            // Of one that is away or not open yet, it will be said.
            if stream.state == State::Live && !stream.away {
                self.relay(Relay::Open { tenant: id });
            }
            self.reach_later(key);
        }
    }

    /// Whoever has what it needs goes on.
    pub(super) fn go_on(&mut self, tenant: TenantKey) {
        let Some(stream) = &mut self.tenants[tenant].stream else { return };
        let mut waits = std::mem::take(&mut stream.waits);
        let mut ready = Vec::new();
        let mut still = Vec::with_capacity(waits.len());
        for wait in waits.drain(..) {
            if self.is_met(tenant, &wait.needs) { ready.push(wait.then) } else { still.push(wait) }
        }
        if let Some(stream) = &mut self.tenants[tenant].stream {
            stream.waits = still;
        }
        if let Some(fleet) = &mut self.fleet {
            fleet.waits -= ready.len();
        }
        for then in ready {
            then(self);
            self.end_what_handlers_ended();
        }
    }
}

impl Shard {
    /// Whether it is known where a room stands; always without a fleet.
    pub(in crate::shard) fn is_headed(&self, room: RoomKey) -> bool {
        let stream = self.tenants[self.rooms[room].tenant].stream.as_ref();
        stream.and_then(|stream| stream.cold.get(&room)).is_none_or(|cold| cold.headed)
    }

    /// Somebody was let into a room, and is told where it stands when that is known.
    pub(in crate::shard) fn owe_head(&mut self, room: RoomKey) {
        let tenant = self.rooms[room].tenant;
        let cold = self.tenants[tenant].stream.as_mut().and_then(|stream| stream.cold.get_mut(&room));
        if let Some(cold) = cold.filter(|cold| !cold.headed) {
            cold.owes = true;
        }
    }

    /// Whether a room's past is here; always without a fleet.
    pub(in crate::shard) fn has_past(&self, tenant: TenantKey, room: &str) -> bool {
        let room = self.tenants[tenant].rooms.get(room).map(|room| &self.rooms[*room]);
        !self.is_fleet() || room.and_then(|room| room.history.as_ref()).is_some_and(|history| history.is_filled())
    }
}

impl Context<'_> {
    /// Does something with this socket once rooms are here (each with its past, where `true` says so), if the socket is still there; it owes
    /// the acknowledgement that this context owed.
    pub(in crate::shard) fn when_ready(
        &mut self,
        rooms: Vec<(Box<str>, bool)>,
        then: impl FnOnce(&mut Context<'_>) + 'static,
    ) {
        let (socket, ack) = (self.socket, self.ack.take());
        let tenant = self.shard.tenant_of(socket);
        self.shard.when_ready(tenant, Needs { rooms, sequence: None }, move |shard| {
            if shard.sockets.contains(socket) {
                then(&mut Context::new(shard, socket, ack));
            }
        });
    }

    /// Whether rooms are here, each with its past where `true` says so, or cannot be had.
    pub(in crate::shard) fn is_ready(&mut self, rooms: &[(Box<str>, bool)]) -> bool {
        let tenant = self.shard.tenant_of(self.socket);
        !self.shard.is_fleet() || self.shard.is_met(tenant, &Needs { rooms: rooms.to_vec(), sequence: None })
    }
}
