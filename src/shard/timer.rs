//! What comes with time: timers, each for one thing whose owner may be gone by then.

use super::room::RoomKey;
use super::session::SessionKey;
use super::socket::SocketKey;
use super::tenant::TenantKey;
use super::{Shard, app, gathering, io, verdict};
use crate::base::{
    id::{ConnKey, Sid},
    time::UnixMs,
};

/// What a timer is for. Its owner may be gone when it fires.
#[derive(Clone, Copy, Debug)]
pub enum Timer {
    /// The WebSocket that probes has to have taken over.
    Upgrade(SessionKey, ConnKey),
    Typing(RoomKey, SocketKey),
    SweepRoom(RoomKey),
    SweepTenant(TenantKey),
    Presence(gathering::Circle),
    /// Those whose sessions broke off are gone now.
    Grace(TenantKey),
    /// The agent of this own room has been away since then.
    Idle(RoomKey, UnixMs),
    Farewell(Sid),
    Delivery(u64),
    Task(app::TaskKey),
    Ticket(verdict::TicketKey),
    /// What was to be told of a tenant's documents has not come.
    Documents(TenantKey),
    /// What other nodes were told of this tenant's sessions has to be told again.
    Lease(TenantKey),
    /// What waited to be said of its users.
    Say(TenantKey),
    /// A place of its stream that somebody waits for has not been reached.
    Reach(TenantKey),
    /// Ephemeral events have waited for durable ones for too long.
    Behind(TenantKey),
    /// The next session of a drain.
    Leave,
}

impl Shard {
    /// Does what is due.
    pub(super) fn fire(&mut self) {
        let mut looks = std::mem::take(&mut self.due_looks);
        self.looks.expire(self.now.at, |key| looks.push(key));
        for key in looks.drain(..) {
            self.look(key);
        }
        self.due_looks = looks;
        let mut due = std::mem::take(&mut self.due);
        self.timers.expire(self.now.at, |timer| due.push(timer));
        for timer in due.drain(..) {
            match timer {
                Timer::Upgrade(key, conn) => self.upgrade_timeout(key, conn),
                Timer::Typing(room, socket) => self.typing_timer(room, socket),
                Timer::SweepRoom(room) => self.sweep_room(room),
                Timer::SweepTenant(tenant) => self.sweep_tenant(tenant),
                Timer::Presence(circle) => self.circles_due.push_back(circle),
                Timer::Grace(tenant) => self.end_graces(tenant),
                Timer::Idle(room, since) => self.idle(room, since),
                Timer::Task(key) => {
                    if let Some((socket, task)) = self.tasks.remove(key)
                        && self.sockets.contains(socket)
                    {
                        task(&mut app::Context::new(self, socket, None));
                        self.end_what_handlers_ended();
                    }
                }
                Timer::Farewell(sid) => self.end_farewell(sid),
                Timer::Delivery(number) => self.delivery_timer(number),
                Timer::Documents(tenant) => self.documents_timer(tenant),
                Timer::Lease(tenant) => self.lease_timer(tenant),
                Timer::Say(tenant) => self.say_timer(tenant),
                Timer::Reach(tenant) => self.reach_timer(tenant),
                Timer::Behind(tenant) => self.let_go(tenant),
                Timer::Leave => self.let_leave(),
                Timer::Ticket(ticket) => self.answered(ticket, io::Answer::Unavailable),
            }
        }
        self.due = due;
        self.tell_circles();
    }
}
