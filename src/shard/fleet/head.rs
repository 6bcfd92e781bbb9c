//! Where a room stands that this node has just begun to have, and what it had.
//!
//! A room comes to be on a node when somebody wants it there. From then on its events come through the stream; the event before the first of
//! them is its head, and is asked. Its past is asked when somebody wants that, too, and put in front of what has come since.

use super::Job;
use super::stream::Cold;
use crate::base::{
    limit::FLEET_LOOK_AFTER,
    time::{Instant, UnixMs},
};
use crate::shard::history::{Entry, Gap, History};
use crate::shard::relay::{Reading, Relay, RoomRead, Stored, Ticket, Unavailable, Wanted};
use crate::shard::room::RoomKey;
use crate::shard::tenant::{Tenant, TenantKey};
use crate::shard::{Shard, Timer};
use crate::wire::envelope::{self, Body};
use std::rc::Rc;

/// What was asked of one room.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    room: RoomKey,
    fill: bool,
}

impl Shard {
    /// Asks for what is to be known of a tenant's rooms, all of them at once.
    pub(super) fn ask_heads(&mut self, key: TenantKey) {
        let tenant = &mut self.tenants[key];
        let Some(stream) = tenant.stream.as_mut().filter(|stream| !stream.away) else { return };
        if stream.state != super::stream::State::Live {
            return;
        }
        let is_to_ask = |room: RoomKey, cold: &Cold, queues: &super::queue::Queues| {
            // One whose users are owed their queue first is asked after that.
            cold.asked.is_none() && !queues.stops(room)
        };
        if !stream.cold.iter().any(|(room, cold)| is_to_ask(*room, cold, &stream.queues)) {
            return;
        }
        let ticket = self.ticket(Job::Heads { tenant: key, rooms: Vec::new() });
        let tenant = &mut self.tenants[key];
        let Some(stream) = &mut tenant.stream else { return };
        let mut asked = Vec::new();
        let mut rooms = Vec::new();
        let super::stream::Stream { cold, queues, .. } = &mut **stream;
        for (room, cold) in cold.iter_mut().filter(|(room, cold)| is_to_ask(**room, cold, queues)) {
            let Some(state) = self.rooms.get(*room) else { continue };
            cold.asked = Some(ticket);
            asked.push(Asked { room: *room, fill: cold.fill });
            let after = if cold.fill { 0 } else { cold.base };
            rooms.push(Wanted { room: (*state.name).into(), after: Some(after) });
        }
        let tenant = (*tenant.id).clone();
        if let Some(Job::Heads { rooms, .. }) = self.fleet.as_mut().and_then(|fleet| fleet.jobs.get_mut(&ticket)) {
            *rooms = asked;
        }
        self.relay(Relay::Read { tenant, ticket, rooms });
    }

    pub(super) fn heads(
        &mut self,
        key: TenantKey,
        ticket: Ticket,
        asked: &[Asked],
        result: Result<Reading, Unavailable>,
    ) {
        let Some(Tenant { epoch, stream: Some(stream), .. }) = self.tenants.get_mut(key) else { return };
        let reading = match result {
            Ok(reading) if reading.place.epoch == *epoch => Some(reading),
            // Of a stream that is to begin anew: that is heard from elsewhere, and everything is asked again then.
            Ok(_) => None,
            Err(Unavailable) => {
                stream.away = true;
                // It may have been too slow only: then nobody says that it is back.
                self.ask_place(key);
                None
            }
        };
        match reading {
            None => {
                let Some(stream) = &mut self.tenants[key].stream else { return };
                for asked in asked {
                    if let Some(cold) = stream.cold.get_mut(&asked.room).filter(|cold| cold.asked == Some(ticket)) {
                        cold.asked = None;
                    }
                }
            }
            Some(reading) => {
                for (asked, read) in asked.iter().zip(reading.rooms) {
                    self.head(key, ticket, *asked, read);
                }
            }
        }
        self.stir(key);
        self.flow(key);
    }

    fn head(&mut self, key: TenantKey, ticket: Ticket, Asked { room, fill }: Asked, read: RoomRead) {
        let Some(stream) = &mut self.tenants[key].stream else { return };
        // The room may be gone, or have begun anew and be asked again.
        let Some(cold) = stream.cold.get_mut(&room).filter(|cold| cold.asked == Some(ticket)) else { return };
        cold.asked = None;
        if stream.queues.stops(room) {
            return;
        }
        let Cold { base, fill: wanted, headed, owes, .. } = *cold;
        cold.owes = false;
        if fill || !wanted {
            stream.cold.remove(&room);
        } else {
            // Its past was wanted after its head had been asked.
            cold.headed = true;
        }
        match headed {
            true => self.fill(key, room, read),
            false => self.begin_room(key, room, base, fill, read),
        }
        if owes {
            self.tell_gap(key, Some(room), Gap::Unavailable);
        }
    }

    /// A room's history begins at what came last before the stream brought its events here.
    fn begin_room(&mut self, key: TenantKey, room: RoomKey, base: u64, filled: bool, read: RoomRead) {
        let lost = self.lost_before(key, &read);
        let place = |entry: &Stored| envelope::Place {
            epoch: 0,
            sequence: entry.sequence,
            room_epoch: read.epoch.0,
            offset: entry.offset,
        };
        let later = read.entries.partition_point(|entry| entry.sequence <= base);
        let top = read.entries.get(later).map_or(read.offset, |entry| entry.offset - 1);
        self.rooms[room].epoch = read.epoch;
        let mut history = History::headed(read.epoch, top, read.sequence.min(base));
        if filled {
            let entries = read.entries[..later].iter().filter_map(|entry| self.entry(entry, &place(entry)));
            history.fill(entries.collect(), lost);
        }
        let keep = self.settings.history.of(&self.rooms[room].name);
        history.expire(self.now.at, keep);
        self.rooms[room].history = Some(Box::new(history));
        // A reading of other rooms may have said meanwhile that nothing of this node's is in between: these are.
        let (here, epoch) = (self.tenants[key].sequence, self.tenants[key].epoch.0);
        let rows = self.reads_rows();
        for entry in &read.entries[later..] {
            let heard = self.tenants[key].stream.as_ref().map_or(0, |stream| stream.rows.heard);
            if rows && entry.sequence > here.max(heard) {
                // Its row brings it, in the order of the rows.
            } else if entry.sequence > here {
                let frame = envelope::placed(envelope::Place { epoch, ..place(entry) }, &entry.body);
                if let Some(stream) = &mut self.tenants[key].stream {
                    stream.hold(entry.sequence, frame.into());
                }
            } else if let Ok((_, Body::Post(post))) = Body::decode(&entry.body) {
                self.land(key, room, &place(entry), &post, Some(here));
            }
        }
    }

    /// A room's past, in front of what has come since.
    fn fill(&mut self, key: TenantKey, room: RoomKey, read: RoomRead) {
        let lost = self.lost_before(key, &read);
        let state = &self.rooms[room];
        let (epoch, first) = (state.epoch, state.history.as_ref().map_or(1, |history| history.first_offset()));
        let place = |entry: &Stored| envelope::Place {
            epoch: 0,
            sequence: entry.sequence,
            room_epoch: read.epoch.0,
            offset: entry.offset,
        };
        let past: Vec<Entry> = match read.epoch == epoch {
            true => {
                let older = read.entries.iter().filter(|entry| entry.offset < first);
                older.filter_map(|entry| self.entry(entry, &place(entry))).collect()
            }
            // It was forgotten by all meanwhile: what is here is all there is.
            false => Vec::new(),
        };
        let keep = self.settings.history.of(&self.rooms[room].name);
        let now = self.now.at;
        let state = &mut self.rooms[room];
        let history = state.history_mut();
        history.fill(past, lost);
        history.expire(now, keep);
    }

    /// The sequence up to which a room's events may be lost, when all it has was read.
    fn lost_before(&self, key: TenantKey, read: &RoomRead) -> u64 {
        match read.entries.first() {
            // Its epoch says up to where its earlier lives went.
            Some(first) if first.offset == 1 => {
                read.epoch.0.wrapping_sub(self.tenants[key].epoch.0).min(first.sequence - 1)
            }
            Some(first) => first.sequence - 1,
            None => read.sequence,
        }
    }

    fn entry(&self, stored: &Stored, place: &envelope::Place) -> Option<Entry> {
        let Ok((_, Body::Post(post))) = Body::decode(&stored.body) else { return None };
        let event = Rc::new(super::append::event_of(&post, Some(place)));
        Some(Entry { offset: stored.offset, sequence: stored.sequence, at: self.instant_of(stored.at), event })
    }

    /// When something was, on this process's clock; not before it began.
    fn instant_of(&self, at: UnixMs) -> Instant {
        let ago = self.now.unix.0.saturating_sub(at.0);
        Instant(self.now.at.0.saturating_sub(ago.saturating_mul(1000)))
    }

    /// A room that nobody may ever join is looked at again.
    pub(super) fn look_at_later(&mut self, room: RoomKey) {
        let state = &mut self.rooms[room];
        if !state.sweeping {
            state.sweeping = true;
            self.timers.arm(self.now.at + FLEET_LOOK_AFTER, Timer::SweepRoom(room));
        }
    }
}
