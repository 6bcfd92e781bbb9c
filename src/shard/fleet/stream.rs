//! A tenant's stream as this node has heard it.
//!
//! ```text
//!              Open            Opened {place}                Opened {another epoch}
//!   closed -----------> opening -------------> live <--------------------------------.
//!                          |                    | '---> every socket is told `gap`, every room's head is asked again
//!                          '-- Unavailable --> adrift: sessions are let in, what is ephemeral is delivered; nothing durable is, until ..
//!                                               '-- Opened {place} --> as another epoch
//!
//!   live:  an envelope with the next sequence is applied; one that comes before its turn is held, and what is missing is read back
//! ```
//!
//! Invariants: `sequence` of the tenant rises by one with each event applied, or to where a reading said that nothing of this node's rooms was
//! in between; what is held is bounded, and what is dropped for it is read back; an event of a room whose head is not known stops the stream
//! until it is.

use super::{Job, Needs, behind::Behind, presence::Roll, queue::Queues, rows::Rows, wait::Wait};
use crate::base::{
    limit::{HELD_BYTES_MAX, HELD_MAX},
    time::Duration,
};
use crate::shard::count::Count;
use crate::shard::history::{Epoch, Gap, History};
use crate::shard::relay::{Place, Reading, Relay, Ticket, Unavailable, Wanted};
use crate::shard::room::RoomKey;
use crate::shard::socket::SocketKey;
use crate::shard::tenant::{Tenant, TenantKey};
use crate::shard::{Shard, Timer};
use crate::wire::{envelope, envelope::Body};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    #[default]
    Closed,
    Opening,
    Live,
    /// The store was away when it was opened.
    Adrift,
}

/// A room whose head is not known, or whose past is not here.
pub struct Cold {
    /// The tenant's sequence when the room came to be here: what came later comes through the stream.
    pub base: u64,
    /// The question that is under way: an answer to an earlier one is of an earlier time.
    pub asked: Option<Ticket>,
    /// Its past is wanted, too.
    pub fill: bool,
    /// Its head is known: only its past is not here.
    pub headed: bool,
    /// Somebody was let in and could not be told where it stands.
    pub owes: bool,
}

#[derive(Default)]
pub struct Stream {
    pub state: State,
    /// The store is away, as far as is known: what can only be answered by it is not waited for.
    pub away: bool,
    /// Frames that came before their turn, by sequence.
    held: BTreeMap<u64, Box<[u8]>>,
    held_bytes: usize,
    repairing: bool,
    /// It has turned out to be another stream, and where that stands is asked.
    asking_place: bool,
    /// Up to there what is not held was of no room of this node.
    whole_to: u64,
    pub cold: BTreeMap<RoomKey, Cold>,
    pub waits: Vec<Wait>,
    /// It is asked where the stream stands if what waits for a place of it goes on waiting.
    pub reaching: bool,
    /// Events of this node whose receivers are to acknowledge them, and their tallies, by id.
    pub asking: BTreeMap<Rc<str>, u64>,
    /// Events and users who have acknowledged them here; the other nodes are told at the end of the turn.
    pub acked: Vec<(Rc<str>, Rc<str>)>,
    /// What is on its way from here, and what is said behind it.
    pub behind: Behind,
    /// Answers that are waited for: places of this node's events, sockets that are claimed.
    pub owed: u32,
    /// Who waits to hear that its socket is kept as it is.
    pub keeping: Vec<super::comeback::Kept>,
    /// Sockets that are not kept as they are.
    pub unsaved: BTreeSet<SocketKey>,
    /// What waits for users.
    pub queues: Queues,
    /// Documents that somebody here has open, or asks about.
    pub documents: super::document::Desk,
    /// Who is here, as far as the store is to know.
    pub roll: Roll,
    /// What the rows of the shared stream have brought.
    pub rows: Rows,
    pub stirred: bool,
    pub leased: bool,
}

impl Stream {
    #[cfg(test)]
    pub fn describe(&self) -> String {
        let needs: Vec<_> = self.waits.iter().map(|wait| &wait.needs).collect();
        let cold: Vec<_> =
            self.cold.iter().map(|(room, cold)| (room, cold.base, cold.asked, cold.fill, cold.headed)).collect();
        format!(
            "{:?} away {} held {:?} repairing {} whole_to {} cold {cold:?} waits {needs:?}",
            self.state,
            self.away,
            self.held.keys().collect::<Vec<_>>(),
            self.repairing,
            self.whole_to
        )
    }

    /// Nothing is waited for.
    pub fn is_idle(&self) -> bool {
        self.waits.is_empty()
            && self.keeping.is_empty()
            && self.owed == 0
            && self.asking.is_empty()
            && self.acked.is_empty()
            && self.queues.is_idle()
            && self.roll.is_empty()
            && self.rows.is_idle()
    }

    pub fn is_settled(&self) -> bool {
        self.state == State::Live || self.is_given_up()
    }

    /// What needs the store is not waited for.
    pub fn is_given_up(&self) -> bool {
        self.away || self.state == State::Adrift
    }

    /// What has been heard of it is applied, or will be.
    pub fn is_heard(&self) -> bool {
        !self.away && matches!(self.state, State::Opening | State::Live)
    }

    pub fn begin(&mut self, room: RoomKey, base: u64) {
        self.cold.insert(room, Cold { base, asked: None, fill: false, headed: false, owes: false });
    }

    pub fn end(&mut self, room: RoomKey) {
        self.cold.remove(&room);
    }

    pub fn hold(&mut self, sequence: u64, frame: Box<[u8]>) {
        if self.held.len() >= HELD_MAX || self.held_bytes + frame.len() > HELD_BYTES_MAX {
            // The newest goes: it is read back, as what is missing is.
            return;
        }
        if frame.get(1) != Some(&envelope::IN_ROW) && self.held.contains_key(&sequence) {
            // What came first may have its row.
            return;
        }
        self.held_bytes += frame.len();
        if let Some(before) = self.held.insert(sequence, frame) {
            self.held_bytes -= before.len();
        }
    }

    fn hold_only(&mut self, epoch: Epoch) {
        let is_of = |frame: &[u8]| {
            let place = envelope::Frame::decode(frame).ok().and_then(|frame| frame.place);
            place.is_some_and(|place| place.epoch == epoch.0)
        };
        self.held.retain(|_, frame| is_of(frame));
        self.held_bytes = self.held.values().map(|frame| frame.len()).sum();
    }

    fn take_held(&mut self, sequence: u64) -> Option<Box<[u8]>> {
        let frame = self.held.remove(&sequence)?;
        self.held_bytes -= frame.len();
        Some(frame)
    }
}

impl Shard {
    /// Hears a tenant's channel from now on. Only in a fleet.
    pub(in crate::shard) fn open_stream(&mut self, tenant: TenantKey) {
        let id = (*self.tenants[tenant].id).clone();
        let stream = self.tenants[tenant].stream.get_or_insert_default();
        if stream.state == State::Closed {
            stream.state = State::Opening;
            self.relay(Relay::Open { tenant: id });
        }
    }

    /// Nobody of a tenant is here, and nobody waits: its channel is not heard any more. What is remembered of it stays.
    pub(in crate::shard) fn rest_stream(&mut self, key: TenantKey) {
        let tenant = &mut self.tenants[key];
        let Some(stream) = tenant.stream.as_mut().filter(|_| tenant.sessions == 0) else { return };
        if stream.state != State::Closed && stream.is_idle() {
            let cold = std::mem::take(&mut stream.cold);
            let (stirred, leased) = (stream.stirred, stream.leased);
            **stream = Stream { cold, stirred, leased, ..Stream::default() };
            let tenant = (*tenant.id).clone();
            self.relay(Relay::Close { tenant });
        }
    }

    /// The tenant is forgotten.
    pub(in crate::shard) fn close_stream(&mut self, tenant: &Tenant) {
        if tenant.stream.as_ref().is_some_and(|stream| stream.state != State::Closed) {
            self.relay(Relay::Close { tenant: (*tenant.id).clone() });
        }
    }

    pub(super) fn opened(&mut self, key: TenantKey, place: Result<Place, Unavailable>) {
        let tenant = &mut self.tenants[key];
        let Some(stream) = &mut tenant.stream else { return };
        let (state, epoch) = (stream.state, tenant.epoch);
        if state == State::Closed {
            return;
        }
        self.stir(key);
        let Some(stream) = &mut self.tenants[key].stream else { return };
        stream.asking_place = false;
        let Ok(place) = place else {
            stream.away = true;
            stream.queues.cut = true;
            if state == State::Opening {
                stream.state = State::Adrift;
            }
            self.flow_behind(key);
            return self.let_go(key);
        };
        let was_away = std::mem::replace(&mut stream.away, false);
        stream.queues.cut = false;
        if was_away || state != State::Live || place.epoch != epoch {
            self.say_all(key);
        }
        let Some(stream) = &mut self.tenants[key].stream else { return };
        match state {
            State::Opening => {
                stream.state = State::Live;
                self.begin_epoch(key, place);
                self.read_unread(key);
                self.flow(key);
            }
            State::Live if place.epoch == epoch => {
                self.read_unread(key);
                if place.sequence > self.tenants[key].sequence {
                    self.flow(key);
                }
                // What is on its way is not missing; what has not come by the next time is. What is read from the shared stream comes.
                if !self.reads_rows() {
                    self.catch_up(key, place.sequence);
                }
            }
            State::Live | State::Adrift => {
                stream.state = State::Live;
                self.begin_epoch(key, place);
                self.tell_gap(key, None, Gap::EpochChanged);
                self.read_unread(key);
                self.flow(key);
            }
            State::Closed => {}
        }
        if self.tenants.contains(key) {
            self.ask_unread(key);
            self.unmet_sequences(key, place.sequence);
            self.ask_untold(key);
        }
    }

    /// The tenant's stream begins, or begins anew: nothing that was known of places counts.
    fn begin_epoch(&mut self, key: TenantKey, place: Place) {
        self.forget_flying(key);
        let tenant = &mut self.tenants[key];
        (tenant.epoch, tenant.sequence, tenant.lost) = (place.epoch, place.sequence, 0);
        let rooms: Vec<RoomKey> = tenant.rooms.values().copied().collect();
        let Some(stream) = &mut tenant.stream else { return };
        // What was heard of it while its place was asked comes after it.
        stream.hold_only(place.epoch);
        stream.repairing = false;
        stream.whole_to = 0;
        let heard = stream.held.keys().next_back().copied().unwrap_or(0);
        for room in &rooms {
            let (fill, owes) = stream.cold.get(room).map_or((false, false), |cold| (cold.fill, cold.owes));
            stream.cold.insert(*room, Cold { base: place.sequence, asked: None, fill, headed: false, owes });
        }
        for room in rooms {
            let room = &mut self.rooms[room];
            (room.history, room.lost) = (None, 0);
        }
        self.rows_begin(key, place.sequence, heard);
        self.forget_queues(key);
        for socket in self.sockets_of(key) {
            let state = &mut self.sockets[socket];
            state.begin_at(place.sequence);
            if let Some(extras) = &mut state.extras {
                extras.given = Default::default();
            }
            self.unsaved(socket);
        }
    }

    /// All sockets of a tenant.
    pub(super) fn sockets_of(&self, key: TenantKey) -> Vec<SocketKey> {
        let room = self.tenant_room(key);
        room.map_or(Vec::new(), |room| self.rooms[room].members.iter().map(|member| member.socket).collect())
    }

    pub(super) fn envelope(&mut self, key: TenantKey, bytes: Box<[u8]>) {
        if let Some(entries) = envelope::presence::noted(&bytes) {
            return self.noted(key, entries);
        }
        let Ok(frame) = envelope::Frame::decode(&bytes) else { return self.counts.up(Count::EnvelopesBroken) };
        let Some(place) = frame.place else {
            return match frame.row {
                Some(_) => self.word_in_row(key, bytes),
                None => self.told(key, frame.body),
            };
        };
        if let Some(row) = frame.row {
            let tenant = &self.tenants[key];
            match tenant.stream.as_ref().map(|stream| stream.state) {
                Some(State::Opening) => self.came_placed(key, place.sequence, row),
                Some(State::Live) if tenant.epoch.0 == place.epoch => self.came_placed(key, place.sequence, row),
                _ => self.read_to(row),
            }
        }
        let Tenant { epoch, sequence, stream: Some(stream), .. } = &mut self.tenants[key] else { return };
        match stream.state {
            // Its place is not known yet, and this may be after it.
            State::Opening => stream.hold(place.sequence, bytes),
            State::Live if epoch.0 != place.epoch => self.ask_place(key),
            // As nearly all are: nothing is held, and this is next.
            State::Live if place.sequence == *sequence + 1 && stream.held.is_empty() && stream.rows.is_idle() => {
                let epoch = *epoch;
                if self.apply(key, epoch, &bytes) {
                    self.stir(key);
                } else if let Some(stream) = &mut self.tenants[key].stream {
                    stream.hold(place.sequence, bytes);
                }
            }
            State::Live if place.sequence > *sequence => {
                stream.hold(place.sequence, bytes);
                self.flow(key);
            }
            State::Live | State::Adrift | State::Closed => {}
        }
    }

    /// The stream is another one than was known: where it stands is asked, once.
    pub(super) fn ask_place(&mut self, key: TenantKey) {
        let tenant = &mut self.tenants[key];
        if let Some(stream) = &mut tenant.stream
            && !std::mem::replace(&mut stream.asking_place, true)
        {
            let tenant = (*tenant.id).clone();
            self.relay(Relay::Open { tenant });
        }
    }

    /// Applies what is held, as far as it goes on from where the stream stands.
    pub(super) fn flow(&mut self, key: TenantKey) {
        loop {
            self.flow_behind(key);
            let Some(tenant) = self.tenants.get_mut(key) else { return };
            let (epoch, next) = (tenant.epoch, tenant.sequence + 1);
            let Some(stream) = tenant.stream.as_mut().filter(|stream| stream.state == State::Live) else { return };
            let first = stream.held.keys().next().copied();
            match first {
                Some(first) if first < next => drop(stream.take_held(first)),
                Some(first) if first == next || first <= stream.whole_to => {
                    if first > next {
                        tenant.sequence = first - 1;
                        stream.rows.known = tenant.sequence;
                    }
                    let Some(bytes) = stream.take_held(first) else { return };
                    if !self.apply(key, epoch, &bytes) {
                        // Its room's head is not known yet.
                        if let Some(stream) = &mut self.tenants[key].stream {
                            stream.hold(first, bytes);
                        }
                        return;
                    }
                    self.stir(key);
                }
                _ => {
                    if stream.whole_to >= next {
                        tenant.sequence = stream.whole_to;
                        stream.rows.known = tenant.sequence;
                        self.stir(key);
                    } else if let Some(first) = first {
                        self.catch_up(key, first);
                        return;
                    } else if stream.rows.heard >= next {
                        let heard = stream.rows.heard;
                        self.catch_up(key, heard);
                        return;
                    } else {
                        return;
                    }
                }
            }
        }
    }

    /// Applies the next event of the stream; false if that cannot be done now.
    fn apply(&mut self, key: TenantKey, epoch: Epoch, bytes: &[u8]) -> bool {
        let Ok(envelope::Frame { place: Some(place), row, body }) = envelope::Frame::decode(bytes) else { return true };
        // One of an earlier life was held while the stream began anew.
        if place.epoch != epoch.0 {
            return true;
        }
        let post = match Body::decode(body) {
            Ok((_, Body::Post(post))) => post,
            // It has a place, and whoever counts offsets finds the hole.
            Ok(_) | Err(_) => {
                self.counts.up(Count::EnvelopesBroken);
                self.tenants[key].sequence = place.sequence;
                return true;
            }
        };
        let tenant = &self.tenants[key];
        let room = tenant.rooms.get(post.room).copied();
        let is_cold =
            |room| tenant.stream.as_ref().and_then(|stream| stream.cold.get(&room)).is_some_and(|cold| !cold.headed);
        let is_stopped = |room| tenant.stream.as_ref().is_some_and(|stream| stream.queues.stops(room)) || is_cold(room);
        if room.is_some_and(is_stopped) {
            return false;
        }
        let tenant = &mut self.tenants[key];
        tenant.sequence = place.sequence;
        if let Some(stream) = &mut tenant.stream {
            stream.rows.landing = row;
            if row.is_none() {
                stream.rows.known = place.sequence;
            }
        }
        if let Some(row) = row {
            self.came_in_row(key, row);
        }
        match room {
            Some(room) => self.land(key, room, &place, &post, None),
            None => self.nobody_asked(key, &post),
        }
        self.landed(key, post.id);
        true
    }

    /// Reads back what is missing up to `sequence`, unless that is under way.
    fn catch_up(&mut self, key: TenantKey, sequence: u64) {
        let tenant = &mut self.tenants[key];
        let after = tenant.sequence;
        let Some(stream) = tenant.stream.as_mut().filter(|stream| !stream.repairing && sequence > after) else {
            return;
        };
        if stream.held.contains_key(&(after + 1)) {
            // Nothing is missing: a room's head is waited for.
            return;
        }
        stream.repairing = true;
        let wanted = |room: &Rc<str>| Wanted { room: (**room).into(), after: Some(after) };
        let rooms: Vec<Wanted> = tenant.rooms.keys().map(wanted).collect();
        let tenant = (*tenant.id).clone();
        self.counts.up(Count::StreamRepairs);
        let ticket = self.ticket(Job::Repair { tenant: key });
        self.relay(Relay::Read { tenant, ticket, rooms });
    }

    pub(super) fn repaired(&mut self, key: TenantKey, result: Result<Reading, Unavailable>) {
        let Some(tenant) = self.tenants.get_mut(key) else { return };
        let Some(stream) = tenant.stream.as_mut().filter(|stream| stream.repairing) else { return };
        stream.repairing = false;
        // Away, or too slow: it goes on when it is known where the stream stands.
        let Ok(reading) = result else { return self.ask_place(key) };
        if reading.place.epoch != tenant.epoch {
            return self.ask_place(key);
        }
        let after = tenant.sequence;
        let epoch = tenant.epoch.0;
        // What a row brings comes by it: only what is missing before the first that is here was lost.
        let to = match self.fleet.as_ref().is_some_and(|fleet| fleet.settings.reads_rows) {
            true => {
                let first = stream.held.keys().next().copied().unwrap_or(stream.rows.heard + 1);
                reading.place.sequence.min(first.saturating_sub(1))
            }
            false => reading.place.sequence,
        };
        for read in &reading.rooms {
            for entry in &read.entries {
                // Beyond it, other rooms were not read as far.
                if entry.sequence > after && entry.sequence <= to {
                    let place = envelope::Place {
                        epoch,
                        sequence: entry.sequence,
                        room_epoch: read.epoch.0,
                        offset: entry.offset,
                    };
                    stream.hold(entry.sequence, envelope::placed(place, &entry.body).into());
                }
            }
        }
        stream.whole_to = stream.whole_to.max(to);
        self.flow(key);
    }

    /// An event of the stream, into its room; `late`: see [`deliver_placed`](Self::deliver_placed).
    pub(super) fn land(
        &mut self,
        key: TenantKey,
        room: RoomKey,
        place: &envelope::Place,
        post: &envelope::Post<'_>,
        late: Option<u64>,
    ) {
        let keep = self.settings.history.of(post.room);
        let state = &mut self.rooms[room];
        let mut hole = false;
        if state.epoch.0 != place.room_epoch {
            // The room was forgotten by all, and has come to be again.
            state.epoch = Epoch(place.room_epoch);
            hole = place.offset > 1;
            state.history = Some(Box::new(History::headed(state.epoch, place.offset - 1, place.sequence - 1)));
        }
        let top = state.top();
        if place.offset <= top {
            return;
        }
        if place.offset > top + 1 {
            hole = true;
            state.history = Some(Box::new(History::headed(state.epoch, place.offset - 1, place.sequence - 1)));
        }
        let event = Rc::new(super::append::event_of(post, Some(place)));
        let state = &mut self.rooms[room];
        if state.history_mut().newest_sequence() >= place.sequence {
            debug_assert!(false, "a room's offsets and the tenant's sequence rise together");
            return;
        }
        state.history_mut().append(self.now.at, place.sequence, event.clone(), keep);
        if !state.sweeping {
            state.sweeping = true;
            self.timers.arm(self.now.at + keep.ttl + Duration::from_millis(10), Timer::SweepRoom(room));
        }
        if hole {
            self.tell_gap(key, Some(room), Gap::Expired);
        }
        self.counts.up(Count::EnvelopesApplied);
        self.deliver_placed(key, room, &event, place, post, late);
    }

    /// A client waits to come back to a place of this stream that it does not have.
    fn unmet_sequences(&mut self, key: TenantKey, sequence: u64) {
        let Some(stream) = &mut self.tenants[key].stream else { return };
        for wait in &mut stream.waits {
            if wait.needs.sequence.is_some_and(|wanted| wanted > sequence) {
                // Nobody has been there.
                wait.needs.sequence = None;
            }
            if std::mem::take(&mut wait.needs.current) {
                wait.needs.sequence = Some(sequence);
            }
        }
    }

    /// Whether what is needed is here; what is not, and can be, is asked.
    pub(super) fn is_met(&mut self, key: TenantKey, needs: &Needs) -> bool {
        let Some(stream) = &self.tenants[key].stream else { return true };
        if stream.is_given_up() {
            return true;
        }
        if stream.state != State::Live {
            return false;
        }
        let mut met = !needs.current && needs.sequence.is_none_or(|sequence| self.tenants[key].sequence >= sequence);
        for (name, fill) in &needs.rooms {
            let room = self.room_or_new(key, name);
            self.look_at_later(room);
            let Some(stream) = &mut self.tenants[key].stream else { return true };
            let filled = self.rooms[room].history.as_ref().is_some_and(|history| history.is_filled());
            match stream.cold.get_mut(&room) {
                Some(cold) if *fill && !cold.fill => {
                    // Where its head is asked already, its past is asked then.
                    cold.fill = true;
                    met = false;
                }
                Some(cold) => met &= cold.headed && !*fill,
                None if *fill && !filled => {
                    stream.cold.insert(room, Cold { base: 0, asked: None, fill: true, headed: true, owes: false });
                    met = false;
                }
                None => {}
            }
        }
        met
    }
}
