//! The turn: the one place where the shard is called.
//!
//! ```text
//!  read the clock once
//!  events of the ring -> accept, recv, decode -> inbox
//!  inbox, lanes, deadlines -> Shard::handle      in that order; bounded by the inbox's and the lanes' length
//!  Shard::end_turn
//!  outputs -> answers, closes, moves, parcels
//!  all writes in submissions of up to 256
//!  gauges out, lanes woken; sleep until something comes or a deadline is near
//! ```
//!
//! Invariants: nobody sees a turn half done; the inbox is empty at its end but for what its own writes brought up (then there is another
//! turn at once). The pump has its thread for itself: it sleeps in its ring, not in glommio's executor, and until the next deadline, however
//! far that is.

use super::{
    Plane, State,
    accept::Listener,
    answer,
    conn::Conn,
    count::{Count, in_row},
    freight::{Closing, Item},
    handoff::Moved,
    inbox::Inbox,
    mesh::{Control, Heard, Mesh, MeshMessage},
    pace::Pace,
    spill::{Full, Spill},
};
use crate::base::{
    id::{ConnKey, ReplyTo, ShardId},
    time::{Duration, Instant, Now},
};
use crate::shard::{
    Shard,
    count::Count as ShardCount,
    io::{Answer, Ask, Hangup, Input, Open, Output, Parcel, Relay, Report, Wire},
    neighbour::Errand,
    transit::Transit,
};
use crate::wire::http::Response;
use smallvec::SmallVec;
use std::{net::IpAddr, rc::Rc};

/// How often a draining shard looks whether the others have nobody left either.
const DRAIN_LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long connections that are being made may take when the ports are left to another process.
const HANDSHAKE_GRACE: Duration = Duration::from_millis(200);
/// How soon a full lane is tried again.
const RETRY_EVERY: Duration = Duration::from_millis(1);

/// How a shard's run ended, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ended {
    /// Every session and every answer was delivered.
    Drained,
    /// The drain's time was over before that.
    TimedOut,
    /// Told to stop at once.
    Stopped,
}

pub struct Pump {
    plane: Rc<Plane>,
    shard: Shard,
    mesh: Mesh,
    spill: Spill,
    outputs: Vec<Output>,
    drain_until: Option<Instant>,
    ended: Option<Ended>,
}

/// Takes turns until the shard is told to end.
pub fn run(plane: Rc<Plane>, mut state: State, shard: Shard) -> Ended {
    let waker = state.bell.waker();
    let mut pump = Pump::new(plane, shard);
    let mut pace = Pace::default();
    loop {
        let now = pump.turn(&mut state);
        pace.took(now.at, state.heard, state.counts.get(Count::Accepted));
        if let Some(ended) = pump.ended {
            state.end();
            return ended;
        }
        // Registered first: who sends after this look rings the bell.
        let (bridge, id) = (&pump.plane.bridge, pump.plane.id);
        bridge.register(id, &waker);
        if bridge.is_empty(id) && !state.has_work() {
            let rest = pump.rest(&state, now);
            state.ring.sleep(rest, pace.gather(pump.plane.settings.gather));
        }
    }
}

impl Pump {
    pub fn new(plane: Rc<Plane>, shard: Shard) -> Pump {
        let mesh = Mesh::new(plane.id, plane.bridge.shards());
        Pump { plane, shard, mesh, spill: Spill::default(), outputs: Vec::new(), drain_until: None, ended: None }
    }

    pub fn turn(&mut self, state: &mut State) -> Now {
        let plane = self.plane.clone();
        let now = plane.now();
        state.counts.up(Count::Turns);

        state.hear(&plane, now);
        // Before anything lands: a connection that does may take the place of one whose end the shard has yet to hear.
        self.hear_inbox(state, now);
        self.hear_lanes(state, now);
        if self.shard.next_deadline().is_some_and(|at| at <= now.at) {
            self.shard.handle(now, Input::Tick, &mut self.outputs);
        }
        self.expire(state, now);
        self.shard.end_turn(now, &mut self.outputs);
        self.write(state, now);

        self.look_at_drain(state, now);
        self.mesh.retry(&plane.bridge);
        self.spill.retry(plane.id, &plane.bridge);
        state.ship(&plane, &mut self.mesh);
        self.publish(state);
        self.mesh.wake(&plane.bridge);
        now
    }

    fn hear_lanes(&mut self, state: &mut State, now: Now) {
        let bridge = self.plane.bridge.clone();
        bridge.drain_into(self.plane.id, |message| match message {
            MeshMessage::Parcel(parcel) => self.shard.handle(now, Input::Parcel(parcel), &mut self.outputs),
            MeshMessage::Reply { conn, response } => self.respond(state, conn, &response),
            MeshMessage::Handoff { transit, conns } => self.land(state, now, transit, *conns),
            MeshMessage::Heard(heard) => self.hear_remote(state, now, *heard),
            MeshMessage::Freight { from, freight, under_way: _ } => {
                state.unload(&self.plane, &mut self.shard, now, from, *freight, &mut self.outputs);
            }
            MeshMessage::Control(Control::Announce(announcement)) => {
                self.shard.handle(now, Input::Announce(announcement), &mut self.outputs);
            }
            MeshMessage::Control(Control::Drain { spread, timeout }) => self.drain(state, now, spread, timeout),
            MeshMessage::Control(Control::Stop) => self.ended = Some(Ended::Stopped),
            MeshMessage::Answered { ticket, answer } => {
                self.shard.handle(now, Input::Answered { ticket, answer }, &mut self.outputs);
            }
            MeshMessage::Reports { reports, load: _ } => {
                for report in reports {
                    self.shard.handle(now, Input::Report(report), &mut self.outputs);
                }
            }
        });
    }

    /// What connections that other shards lend have heard.
    fn hear_remote(&mut self, state: &mut State, now: Now, mut heard: Heard) {
        heard.inbox.drain(|input| {
            if let Input::Hangup { conn, .. } = &input {
                state.forget_remote(*conn);
            }
            self.shard.handle(now, input, &mut self.outputs);
        });
        for (conn, bytes) in heard.acknowledged {
            if state.acknowledged(conn, bytes) {
                self.shard.handle(now, Input::Writable { conn }, &mut self.outputs);
            }
        }
    }

    fn hear_inbox(&mut self, state: &mut State, now: Now) {
        if state.inbox.is_empty() {
            return;
        }
        let mut inbox: Inbox = std::mem::take(&mut state.inbox);
        inbox.drain(|input| self.shard.handle(now, input, &mut self.outputs));
        // Its arenas are used again.
        state.inbox = inbox;
    }

    /// Connections that took too long: to say what they want, or to read our last bytes.
    fn expire(&mut self, state: &mut State, now: Now) {
        for key in state.expired(now.at) {
            let world = self.plane.world(state.draining);
            let Some(conn) = state.conns.get_mut(key) else { continue };
            if !conn.phase.is_closing() && !conn.is_idle() {
                state.counts.up(Count::DeadlinesMissed);
            }
            if conn.expire(&world) {
                state.fail(key, Hangup::Failed);
            } else {
                state.flush.push(key);
            }
        }
    }

    /// Carries out the outputs and writes, until neither brings up the other.
    fn write(&mut self, state: &mut State, now: Now) {
        loop {
            for output in std::mem::take(&mut self.outputs) {
                self.carry_out(state, now, output);
            }
            while self.shard.has_dirty() {
                if let Some(key) = self.shard.next_dirty() {
                    state.gather(&mut self.shard, now, key, &mut self.outputs);
                }
            }
            for key in std::mem::take(&mut state.flush) {
                state.gather(&mut self.shard, now, key, &mut self.outputs);
            }
            state.complete(&mut self.shard, now, &mut self.outputs);
            if self.outputs.is_empty() && state.flush.is_empty() && !self.shard.has_dirty() {
                self.shard.end_writes(&mut self.outputs);
                if self.outputs.is_empty() {
                    return;
                }
            }
        }
    }

    fn carry_out(&mut self, state: &mut State, now: Now, output: Output) {
        match output {
            Output::Respond { to, response } => self.reply(state, to, response),
            Output::Upgrade { conn: key } => {
                if state.pass(key, |conn| Item::Upgrade { conn }) {
                    return;
                }
                if let Some(conn) = state.conns.get_mut(key) {
                    conn.upgrade();
                    state.flush.push(key);
                }
            }
            Output::Stream { conn: key } => {
                if state.pass(key, |conn| Item::Stream { conn }) {
                    return;
                }
                if let Some(conn) = state.conns.get_mut(key) {
                    conn.stream();
                    state.flush.push(key);
                }
            }
            Output::Close { conn: key, rest, number, text } => {
                if state.conns.get(key).is_some_and(Conn::is_remote) {
                    let closing = Box::new(Closing { rest, number, text });
                    state.pass_last(key, |conn| Item::Close { conn, closing });
                } else if let Some(conn) = state.conns.get_mut(key) {
                    conn.finish(&rest, number, text, now.at);
                    state.flush.push(key);
                }
            }
            Output::Handoff { to, transit, conns, lend } => self.hand_off(state, now, (to, lend), transit, &conns),
            Output::Send { to, parcel } => {
                if let Err(MeshMessage::Parcel(parcel)) =
                    self.mesh.send(&self.plane.bridge, to, MeshMessage::Parcel(parcel))
                {
                    self.refuse(state, parcel);
                }
            }
            Output::Ask(ask) => self.ask(state, now, ask),
            Output::Relay(relay) => {
                if let Some(report) = self.relay(state, relay) {
                    self.shard.handle(now, Input::Report(report), &mut self.outputs);
                }
            }
            Output::ListenerFailed { listener, code } => {
                tracing::warn!(%listener, code, "an action of a listener cannot be done; said once");
            }
            Output::Refused { address, code } => tracing::debug!(%address, code, "refused or closed"),
            Output::Release { address } => self.plane.bridge.addresses.release(address),
        }
    }

    /// Hands the backplane something, or answers it where that has no room.
    fn relay(&mut self, state: &mut State, relay: Relay) -> Option<Report> {
        match self.spill.send(self.plane.id, &self.plane.bridge, relay) {
            Ok(()) => None,
            Err(full) => {
                state.counts.up(Count::RelaysRefused);
                match full {
                    Full::Dropped => None,
                    Full::Answer(report) => Some(report),
                }
            }
        }
    }

    /// Hands the control plane something slow to do.
    fn ask(&mut self, state: &mut State, now: Now, ask: Ask) {
        let refused = match &self.plane.bridge.control {
            Some(errands) => errands.try_send(self.plane.id, ask).err(),
            None => Some(ask),
        };
        let Some(ask) = refused else { return };
        state.counts.up(Count::AsksRefused);
        match ask {
            Ask::Authorize { ticket, .. } => {
                let input = Input::Answered { ticket, answer: Answer::Unavailable };
                self.shard.handle(now, input, &mut self.outputs);
            }
            Ask::Notify { hook, .. } => {
                // Each time there are twice as many: a full lane must not fill the log too.
                let count = state.counts.get(Count::AsksRefused);
                if count.is_power_of_two() {
                    tracing::warn!(hook, count, "the control plane takes no more: a webhook's event is dropped");
                }
            }
        }
    }

    /// Takes an answer to the connection that waits for it, wherever that is.
    fn reply(&mut self, state: &mut State, to: ReplyTo, response: Response) {
        if to.shard == self.plane.id {
            return self.respond(state, to.conn, &response);
        }
        if to.is_elsewhere() {
            let errand = Errand::Answer { to, response: Box::new(response) };
            self.relay(state, Relay::Neighbour(Box::new(errand)));
            return;
        }
        let message = MeshMessage::Reply { conn: to.conn, response: Box::new(response) };
        if self.mesh.send(&self.plane.bridge, to.shard, message).is_err() {
            state.counts.up(Count::MeshRefused);
        }
    }

    fn respond(&mut self, state: &mut State, key: ConnKey, response: &Response) {
        let world = self.plane.world(state.draining);
        if state.pass_last(key, |conn| Item::Answer { conn, response: Box::new(response.clone()) }) {
            return;
        }
        if let Some(conn) = state.conns.get_mut(key) {
            conn.respond(response, &world);
            state.flush.push(key);
        }
    }

    fn hand_off(
        &mut self,
        state: &mut State,
        now: Now,
        (to, lend): (ShardId, bool),
        mut transit: Box<Transit>,
        conns: &[ConnKey],
    ) {
        for &key in conns {
            if !state.conns.get(key).is_some_and(Conn::is_remote) {
                continue;
            }
            let unsent = match &mut *transit {
                Transit::Session(traveller) => std::mem::take(&mut traveller.unsent),
                Transit::Opening(_) => Vec::new(),
            };
            state.give_back(key, unsent);
        }
        let mut moved = SmallVec::new();
        let whole = conns.iter().all(|&key| {
            let conn = if lend { state.lend(&self.plane, key, to) } else { state.release(key).map(Moved::pack) };
            conn.map(|conn| moved.push(conn)).is_some()
        });
        let message = MeshMessage::Handoff { transit, conns: Box::new(moved) };
        let refused = if whole { self.mesh.send(&self.plane.bridge, to, message).err() } else { Some(message) };
        // Dropped, the connections close, and their clients come back.
        if let Some(MeshMessage::Handoff { transit, .. }) = refused {
            state.counts.up(Count::MeshRefused);
            for &key in conns {
                state.remove(key);
            }
            if let Some(address) = counted(&transit) {
                self.plane.bridge.addresses.release(address);
            }
            if let Transit::Session(traveller) = *transit {
                for waiting in traveller.waits() {
                    self.reply(state, waiting, answer::unavailable());
                }
                // The shard it left is told to forget where it went.
                let forget = Input::Parcel(Parcel::Forget { sid: traveller.sid });
                self.shard.handle(now, forget, &mut self.outputs);
            }
        } else {
            state.counts.up(Count::HandoffsOut);
        }
    }

    fn land(&mut self, state: &mut State, now: Now, transit: Box<Transit>, moved: SmallVec<[Moved; 2]>) {
        state.counts.up(Count::HandoffsIn);
        let conns = moved
            .into_iter()
            .map(|moved| {
                let conn = match moved {
                    Moved::Whole(whole) => whole.unpack(),
                    Moved::Lent(reference) => return state.borrow(&reference),
                };
                let (fd, owes, blocked) = (conn.fd, conn.owes(), conn.blocked);
                let key = state.conns.insert(conn);
                state.arm(key);
                state.ring.poll(key, fd);
                if blocked {
                    state.ring.poll_room(key, fd);
                }
                state.ready.push(key);
                // It may have been answered in the turn in which it left: a probe's 101.
                if owes {
                    state.flush.push(key);
                }
                key
            })
            .collect();
        self.shard.handle(now, Input::Arrive { transit, conns }, &mut self.outputs);
    }

    /// The mesh is full: whoever waits is told so.
    fn refuse(&mut self, state: &mut State, parcel: Parcel) {
        state.counts.up(Count::MeshRefused);
        if let Parcel::Open(open) = &parcel
            && let Some(address) = counted_open(open)
        {
            self.plane.bridge.addresses.release(address);
        }
        if let Some(to) = parcel.waits() {
            self.reply(state, to, answer::unavailable());
        }
    }

    fn drain(&mut self, state: &mut State, now: Now, spread: Duration, timeout: Duration) {
        if self.drain_until.is_some() {
            return;
        }
        self.drain_until = Some(now.at + timeout);
        state.draining = true;
        self.shard.handle(now, Input::Drain { spread }, &mut self.outputs);
    }

    fn look_at_drain(&mut self, state: &mut State, now: Now) {
        let Some(until) = self.drain_until else { return };
        let bridge = self.plane.bridge.clone();
        let sum = |number| bridge.gauges.sum(number);
        let all = u64::from(bridge.shards());
        let stay = sum(ShardCount::Farewells as usize) + sum(ShardCount::Leavers as usize);
        let is_over = sum(in_row(Count::Draining)) == all && stay == 0;
        self.look_at_ports(state, now, is_over);
        if !state.closed && is_over {
            state.closed = true;
            // Not before: a client may be sending its next poll on one of them.
            let idle = |(key, conn): (ConnKey, &Conn)| (conn.is_idle() && !conn.admin).then_some(key);
            for key in state.conns.iter().filter_map(idle).collect::<Vec<_>>() {
                state.fail(key, Hangup::Closed);
            }
        }
        let drained = state.closed
            && state.shut
            && self.shard.is_empty()
            && self.mesh.spilled() == 0
            && self.spill.is_empty()
            && !state.loans.wait()
            && state.conns.iter().all(|(_, conn)| conn.admin);
        state.counts.set(Count::Drained, usize::from(drained));
        // Others may still want something of this shard: all end together. The admin port tells how far they are.
        if drained && sum(in_row(Count::Drained)) == all {
            self.ended = self.ended.or(Some(Ended::Drained));
        } else if now.at >= until {
            self.ended = self.ended.or(Some(Ended::TimedOut));
        }
    }

    /// Leaves the ports as soon as nobody has to find this process there: at once where others take who comes, and answer for it who polls;
    /// without them when all is over, because a long-polling client between two requests comes with a new connection to hear that it is.
    /// Who comes for a new session meanwhile is refused.
    fn look_at_ports(&mut self, state: &mut State, now: Now, is_over: bool) {
        let Plane { bridge, settings, .. } = &*self.plane;
        if state.shut {
            return;
        }
        if state.leaves_at.is_none() {
            if settings.takeover {
                state.put_off();
                state.leaves_at = Some(now.at + HANDSHAKE_GRACE);
            } else if is_over || bridge.backplane.as_ref().is_some_and(|lane| lane.is_up()) {
                state.leaves_at = Some(now.at);
            }
        }
        if state.leaves_at.is_some_and(|at| at <= now.at) {
            state.shut = true;
            state.close_ports(&self.plane, now, settings.takeover);
        }
    }

    fn publish(&mut self, state: &mut State) {
        state.counts.set(Count::Connections, state.conns.len() - state.loans.remote);
        state.counts.set(Count::ConnectionsLent, state.loans.lent);
        state.counts.set(Count::Draining, usize::from(state.draining));
        state.counts.set(Count::MeshSpilled, self.mesh.spilled());
        self.plane.bridge.gauges.publish(self.plane.id, self.shard.counts().values().chain(state.counts.values()));
    }

    /// How long there is nothing to do.
    fn rest(&self, state: &State, now: Now) -> Option<Duration> {
        // What other shards do shows in the gauges, and nobody rings for that.
        let looks = self.drain_until.is_some().then_some(now.at + DRAIN_LOOK_EVERY);
        let puts_off = self.mesh.spilled() > 0 || !self.spill.is_empty() || state.loans.wait();
        let retries = puts_off.then_some(now.at + RETRY_EVERY);
        let accepts = state.listeners.iter().flatten().filter_map(Listener::deadline);
        let deadlines = [self.shard.next_deadline(), state.deadlines.next_deadline(), self.drain_until, looks, retries];
        deadlines.into_iter().flatten().chain(accepts).min().map(|at| at.since(now.at))
    }
}

/// The address whose session count this session on the move is part of.
fn counted(transit: &Transit) -> Option<IpAddr> {
    match transit {
        Transit::Opening(open) => counted_open(open),
        Transit::Session(traveller) => (!traveller.crowded).then_some(traveller.address),
    }
}

fn counted_open(open: &Open) -> Option<IpAddr> {
    let counted = !open.crowded && !matches!(open.wire, Wire::Probe(_));
    counted.then_some(open.address)
}
