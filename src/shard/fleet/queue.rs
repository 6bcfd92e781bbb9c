//! What waits for users who are not there, among nodes. It is in the store from the moment it has its place, and taken out by the node that has
//! delivered it; what is here is a copy of what this node's sockets were given and have not acknowledged.
//!
//! ```text
//!  a socket is to come    -> its user's queue is read, and what arrives for it meanwhile is put behind; then it comes, and is given all of it
//!  an event is delivered  -> taken out          its user acknowledges it -> taken out
//!  a session ends silently -> what it was sent since it was last heard of waits again
//!  the store is away      -> the socket comes without; back, the events of its user's own room stop the stream until its queue is read and given
//! ```
//!
//! Invariants: what waits is given in the order of the tenant's sequence up to the place at which its socket came, and all beyond comes through
//! the stream; no copy outlives its user's sockets here, or the epoch its places are of.

use super::Needs;
use crate::base::limit::{DONE_BATCH_MAX, UNTOLD_MAX};
use crate::profile::catalogue::Entered;
use crate::shard::Shard;
use crate::shard::app::Context;
use crate::shard::count::Count;
use crate::shard::foreign::{Missed, Wanted};
use crate::shard::history::{Epoch, Event};
use crate::shard::offline::Acknowledge;
use crate::shard::publish::Draft;
use crate::shard::receipt::Told;
use crate::shard::relay::{
    Act, Answer, Unavailable,
    queue::{self, Entry, Track, Wait},
};
use crate::shard::room::RoomKey;
use crate::shard::socket::SocketKey;
use crate::shard::tenant::TenantKey;
use crate::shard::waiting::Waiting;
use crate::wire::envelope::{self, Body};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

/// Attempts to read a queue while the stream begins anew under it.
const TRIES: u8 = 3;

/// Of one tenant.
#[derive(Default)]
pub struct Queues {
    /// Users whose queues are being read for sockets that are to come: how often.
    coming: BTreeMap<Rc<str>, u32>,
    /// Events that wait no more; the store is told at the end of the turn.
    done: Vec<u64>,
    /// Sockets that came without what waits for their users.
    unread: BTreeSet<SocketKey>,
    /// One is coming so right now: it is given nothing before it can be given all.
    pub blind: bool,
    /// Own rooms whose events stop the stream until that is given; with the epoch in which it was asked, while it is.
    halted: BTreeMap<RoomKey, Option<Epoch>>,
    /// Receipts that the store could not say whom to tell, at most [`UNTOLD_MAX`].
    untold: VecDeque<Untold>,
    /// The store is away, and it will be said when it is back.
    pub cut: bool,
}

struct Untold {
    user: Box<str>,
    told: Told,
    ids: Vec<Box<str>>,
    rooms: Option<Vec<Box<str>>>,
    number: u64,
}

type Read = Box<dyn FnOnce(&mut Shard, bool, Option<Box<Missed>>)>;

impl Queues {
    pub fn is_idle(&self) -> bool {
        self.done.is_empty() && self.untold.is_empty()
    }

    pub fn stops(&self, room: RoomKey) -> bool {
        self.halted.contains_key(&room)
    }

    pub fn end(&mut self, room: RoomKey) {
        self.halted.remove(&room);
    }
}

impl Shard {
    fn queues(&mut self, tenant: TenantKey) -> &mut Queues {
        &mut self.tenants[tenant].stream.get_or_insert_default().queues
    }

    /// How a durable event waits for the user whose own room it is published to, where it does.
    pub(super) fn wait_of(&self, room: &str, event: &str) -> Option<Box<Wait>> {
        let user = self.owner_of(room)?;
        self.waits(event)?;
        Some(Box::new(self.wait_for(user)))
    }

    fn wait_for(&self, user: &str) -> Wait {
        Wait { user: user.into(), ttl: self.settings.offline.ttl, per_user: self.settings.offline.per_user }
    }

    /// Whom an event's receipts are told, where it has any.
    pub(super) fn track_of(&self, draft: &Draft<'_>, id: &str) -> Option<Box<Track>> {
        let sender = draft.user.filter(|_| self.wants_receipts(draft.event))?;
        Some(Box::new(Track { id: id.into(), sender: sender.into(), ttl: self.settings.receipts.ttl }))
    }

    /// Goes on when what waits for a user is here, or (`false`) cannot be had: at once where nothing ever waits.
    pub(super) fn with_queue(&mut self, key: TenantKey, user: &str, then: impl FnOnce(&mut Shard, bool) + 'static) {
        self.with_queue_and(key, user, None, |shard, is_read, _| then(shard, is_read));
    }

    /// As [`with_queue`](Self::with_queue), and when what somebody missed is here, too, and nothing of what follows it has been delivered.
    pub(super) fn with_queue_and(
        &mut self,
        key: TenantKey,
        user: &str,
        wanted: Option<Wanted>,
        then: impl FnOnce(&mut Shard, bool, Option<Box<Missed>>) + 'static,
    ) {
        if self.settings.offline.per_user == 0 {
            return self.when_missed(key, wanted, Box::new(|shard, missed| then(shard, true, missed)));
        }
        self.ask_queue(key, user.into(), TRIES, wanted, Box::new(then));
    }

    /// From when the room's head is known every event of it is seen here.
    fn ask_queue(&mut self, key: TenantKey, user: Rc<str>, tries: u8, wanted: Option<Wanted>, then: Read) {
        let own = self.own_room_name(&user);
        self.when_ready(key, Needs::head(&own), move |shard| {
            let room = shard.room_or_new(key, &own);
            shard.look_at_later(room);
            let epoch = shard.tenants[key].epoch;
            let stream = shard.tenants[key].stream.get_or_insert_default();
            if stream.is_given_up() || tries == 0 {
                return then(shard, false, None);
            }
            *stream.queues.coming.entry(user.clone()).or_default() += 1;
            shard.read_queue(key, &user.clone(), move |shard, result| {
                let asked = wanted.clone();
                // It comes where the queue was read, or later: what other nodes had delivered by then does not come again.
                let to = result.as_ref().ok().and_then(|waiting| waiting.place).map_or(0, |place| place.sequence);
                let come = move |shard: &mut Shard, missed| {
                    shard.came(key, &user);
                    match result {
                        Ok(waiting) if shard.is_of(key, epoch, &waiting) && shard.rooms.contains(room) => {
                            shard.fill_queue(key, &user, waiting);
                            then(shard, true, missed);
                        }
                        Ok(_) => return shard.ask_queue(key, user, tries - 1, wanted, then),
                        Err(Unavailable) => then(shard, false, missed),
                    }
                    shard.release_queue(key, &user);
                };
                shard.when_reached(key, to, move |shard| shard.when_missed(key, asked, Box::new(come)));
            });
        });
    }

    fn came(&mut self, key: TenantKey, user: &str) {
        let coming = &mut self.queues(key).coming;
        if let Some(count) = coming.get_mut(user) {
            *count -= 1;
            if *count == 0 {
                coming.remove(user);
            }
        }
    }

    fn read_queue(
        &mut self,
        key: TenantKey,
        user: &str,
        then: impl FnOnce(&mut Shard, Result<queue::Waiting, Unavailable>) + 'static,
    ) {
        // What was delivered before does not wait any more.
        self.tell_done(key);
        let act = Act::Queue(queue::Act::Read { user: user.into() });
        self.share_then(key, act, move |shard, result| {
            let result = match result {
                Ok(Answer::Queue(queue::Answer::Waiting(waiting))) => Ok(waiting),
                _ => Err(Unavailable),
            };
            then(shard, result);
        });
    }

    /// Whether what was read is of the stream as it was when it was asked, and as it is.
    fn is_of(&self, key: TenantKey, asked: Epoch, waiting: &queue::Waiting) -> bool {
        let epoch = self.tenants[key].epoch;
        asked == epoch && waiting.place.is_some_and(|place| place.epoch == epoch)
    }

    /// The copy of a user's queue is as the store's up to where this node's stream is.
    fn fill_queue(&mut self, key: TenantKey, user: &str, read: queue::Waiting) {
        let (here, whole_to) = (self.tenants[key].sequence, read.place.map_or(0, |place| place.sequence));
        let entries: Vec<Waiting> = read
            .entries
            .iter()
            .filter(|entry| entry.stored.sequence <= here)
            .filter_map(|entry| self.waiting_of(entry))
            .collect();
        let per_user = self.settings.offline.per_user;
        let offline = self.tenants[key].offline.get_or_insert_default();
        let is_read = |sequence: u64| entries.binary_search_by_key(&sequence, |waiting| waiting.sequence).is_ok();
        // What another node's sockets have acknowledged.
        offline.take(user, |waiting| waiting.sequence <= whole_to && !is_read(waiting.sequence));
        for waiting in entries {
            offline.keep(user, waiting, per_user);
        }
        offline.set_dropped(user, read.dropped);
        if offline.is_empty() {
            self.tenants[key].offline = None;
        }
    }

    fn waiting_of(&self, entry: &Entry) -> Option<Waiting> {
        let Ok((_, Body::Post(post))) = Body::decode(&entry.stored.body) else { return None };
        let (sequence, offset) = (entry.stored.sequence, entry.stored.offset);
        let place = envelope::Place { epoch: 0, sequence, room_epoch: entry.room_epoch.0, offset };
        Some(Waiting {
            sequence,
            id: post.id.into(),
            event: Rc::new(super::append::event_of(&post, Some(&place))),
            until: self.now.at + entry.left,
            acknowledge: self.waits(post.event).unwrap_or(Acknowledge::Received),
            in_doubt: entry.in_doubt,
        })
    }

    /// A socket is to come without what waits for its user.
    pub(super) fn begin_blind(&mut self, key: TenantKey) {
        self.queues(key).blind = true;
    }

    /// It has come, the newest of its session, or has not been let in.
    pub(super) fn end_blind(&mut self, key: TenantKey, socket: Option<SocketKey>) {
        if !self.tenants.contains(key) {
            return;
        }
        self.queues(key).blind = false;
        let Some(socket) = socket else { return };
        let own = self.own_room(key, &self.identity(socket).user.clone());
        let queues = self.queues(key);
        queues.unread.insert(socket);
        if let Some(room) = own.filter(|_| queues.cut) {
            queues.halted.entry(room).or_insert(None);
        }
    }

    /// Asks for what the sockets that came while the store was away were not given.
    pub(super) fn read_unread(&mut self, key: TenantKey) {
        let Shard { tenants, sockets, .. } = self;
        let Some(stream) = tenants[key].stream.as_mut().filter(|stream| !stream.queues.unread.is_empty()) else {
            return;
        };
        stream.queues.unread.retain(|socket| sockets.contains(*socket));
        if stream.state != super::stream::State::Live || stream.queues.cut {
            return;
        }
        let sockets: Vec<SocketKey> = stream.queues.unread.iter().copied().collect();
        let users: BTreeSet<Rc<str>> =
            sockets.into_iter().map(|socket| Rc::from(&*self.identity(socket).user)).collect();
        let epoch = self.tenants[key].epoch;
        for user in users {
            let Some(room) = self.own_room(key, &user) else { continue };
            let halted = &mut self.queues(key).halted;
            if halted.get(&room).is_some_and(Option::is_some) {
                continue;
            }
            halted.insert(room, Some(epoch));
            self.read_queue(key, &user.clone(), move |shard, result| {
                shard.unread_read(key, room, &user, epoch, result)
            });
        }
    }

    fn unread_read(
        &mut self,
        key: TenantKey,
        room: RoomKey,
        user: &Rc<str>,
        asked: Epoch,
        result: Result<queue::Waiting, Unavailable>,
    ) {
        let is_there = self.rooms.contains(room);
        match result {
            Ok(waiting) if self.is_of(key, asked, &waiting) => {
                self.queues(key).halted.remove(&room);
                self.give_unread(key, room, user, waiting);
            }
            Ok(_) if is_there => {
                self.queues(key).halted.insert(room, None);
                if asked == self.tenants[key].epoch {
                    // It has become another stream: where that stands is about to be known.
                    self.ask_place(key);
                } else {
                    self.read_unread(key);
                }
            }
            Err(Unavailable) if is_there && self.queues(key).cut => drop(self.queues(key).halted.insert(room, None)),
            _ => drop(self.queues(key).halted.remove(&room)),
        }
        self.tend_halted(key);
        self.flow(key);
        self.release_queue(key, user);
    }

    fn give_unread(&mut self, key: TenantKey, room: RoomKey, user: &str, waiting: queue::Waiting) {
        if !self.rooms.contains(room) {
            return;
        }
        self.fill_queue(key, user, waiting);
        let queue = self.tenants[key].offline.as_ref().and_then(|offline| offline.of(user));
        let all: Vec<Waiting> = queue.into_iter().flat_map(|queue| &queue.waiting).cloned().collect();
        let sockets: Vec<SocketKey> = self.sockets_of_owner(room, user).collect();
        for socket in sockets {
            if self.queues(key).unread.remove(&socket) {
                let came_at = self.sockets[socket].connected_at;
                let due = all.iter().filter(|waiting| waiting.sequence <= came_at).cloned().collect();
                self.give(socket, due, None);
            }
        }
    }

    /// An event of the stream is in its room, or would be: if its user is there it waits no more.
    pub(super) fn queue_landed(
        &mut self,
        key: TenantKey,
        room: RoomKey,
        event: &Rc<Event>,
        (sequence, id): (u64, &str),
        number: Option<u64>,
    ) {
        let name = self.rooms[room].name.clone();
        let Some(user) = self.owner_of(&name) else { return };
        let Some(acknowledge) = self.waits(&event.name) else { return };
        if self.sockets_of_owner(room, user).any(|socket| self.sockets[socket].connected_at < sequence) {
            // One that is asked for its acknowledgement waits until it is given.
            if number.is_none_or(|number| !self.deliveries.waits_for(number, user)) {
                self.done(key, [sequence]);
            }
        } else if self.queues(key).coming.contains_key(user) {
            let until = self.now.at + self.settings.offline.ttl;
            let waiting =
                Waiting { sequence, id: id.into(), event: event.clone(), until, acknowledge, in_doubt: false };
            let per_user = self.settings.offline.per_user;
            self.tenants[key].offline.get_or_insert_default().keep(user, waiting, per_user);
        }
    }

    /// Events wait no more.
    pub(in crate::shard) fn done(&mut self, key: TenantKey, sequences: impl IntoIterator<Item = u64>) {
        self.queues(key).done.extend(sequences);
        self.stir(key);
    }

    pub(super) fn tell_done(&mut self, key: TenantKey) {
        let Some(stream) = self.tenants[key].stream.as_mut().filter(|stream| !stream.queues.done.is_empty()) else {
            return;
        };
        let (done, epoch) = (std::mem::take(&mut stream.queues.done), self.tenants[key].epoch);
        for sequences in done.chunks(DONE_BATCH_MAX) {
            let act = queue::Act::Done { epoch, sequences: sequences.into(), told: None };
            self.share(key, Act::Queue(act));
        }
    }

    /// A user has been told how many of its events were dropped.
    pub(in crate::shard) fn told_dropped(&mut self, key: TenantKey, user: &str, dropped: u64) {
        let told = Some((user.into(), dropped));
        let act = queue::Act::Done { epoch: self.tenants[key].epoch, sequences: Vec::new(), told };
        self.share(key, Act::Queue(act));
    }

    /// What a user was sent it may not have got: it waits again.
    pub(in crate::shard) fn keep_again(&mut self, key: TenantKey, user: &str, sequences: Vec<u64>) {
        if sequences.is_empty() {
            return;
        }
        // In the order in which it happened.
        self.tell_done(key);
        self.counts.add(Count::OfflineKept, sequences.len() as u64);
        let (room, wait) = (self.own_room_name(user).into(), self.wait_for(user));
        let act = queue::Act::Keep { epoch: self.tenants[key].epoch, room, sequences, wait };
        self.share(key, Act::Queue(act));
    }

    /// A session of a user has ended.
    pub(in crate::shard) fn queue_left(&mut self, key: TenantKey, user: &str) {
        if !self.is_fleet() || !self.tenants.contains(key) {
            return;
        }
        self.tend_halted(key);
        self.release_queue(key, user);
    }

    /// Rooms stop the stream only for sockets that are there.
    fn tend_halted(&mut self, key: TenantKey) {
        let Shard { tenants, sockets, .. } = self;
        let Some(stream) = &mut tenants[key].stream else { return };
        if stream.queues.halted.is_empty() {
            return;
        }
        stream.queues.unread.retain(|socket| sockets.contains(*socket));
        let unread: Vec<SocketKey> = stream.queues.unread.iter().copied().collect();
        let owed: BTreeSet<RoomKey> =
            unread.into_iter().filter_map(|socket| self.own_room(key, &self.identity(socket).user)).collect();
        let halted = &mut self.queues(key).halted;
        let before = halted.len();
        // One that is asked goes on when it is answered.
        halted.retain(|room, asked| asked.is_some() || owed.contains(room));
        if halted.len() < before {
            self.stir(key);
        }
    }

    /// Nobody of a user is here any more, nor about to be: neither is the copy of its queue.
    fn release_queue(&mut self, key: TenantKey, user: &str) {
        let Some(tenant) = self.tenants.get(key) else { return };
        let is_coming = tenant.stream.as_ref().is_some_and(|stream| stream.queues.coming.contains_key(user));
        if tenant.offline.is_none() || is_coming {
            return;
        }
        let room = self.own_room(key, user);
        if room.is_some_and(|room| self.sockets_of_owner(room, user).next().is_some()) {
            return;
        }
        let Some(offline) = &mut self.tenants[key].offline else { return };
        offline.take(user, |_| true);
        if offline.is_empty() {
            self.tenants[key].offline = None;
        }
    }

    /// Whether any event has receipts.
    fn has_receipts(&self) -> bool {
        let catalogue = &self.app.profile.catalogue;
        !self.settings.receipts.types.is_empty() || catalogue.has_receipts()
    }

    /// Whether the sender of such an event is told who has got it.
    pub(in crate::shard) fn wants_receipts(&self, event: &str) -> bool {
        let catalogue = &self.app.profile.catalogue;
        let entered = || matches!(catalogue.of(event), Entered::Known(entry) if entry.receipts);
        self.settings.receipts.wants(event) || (!catalogue.is_empty() && entered())
    }

    /// A user has got or read events. `rooms`: only those of these count; none: they were for this user.
    pub(in crate::shard) fn tell_receipts(
        &mut self,
        key: TenantKey,
        user: &str,
        told: Told,
        ids: Vec<Box<str>>,
        rooms: Option<Vec<Box<str>>>,
    ) {
        if self.has_receipts() && !ids.is_empty() {
            let number = self.chance.u64() >> 16;
            self.ask_senders(key, Untold { user: user.into(), told, ids, rooms, number });
        }
    }

    fn ask_senders(&mut self, key: TenantKey, untold: Untold) {
        let Untold { user, told, ids, rooms, number } = &untold;
        let (user, ids, rooms) = (user.clone(), ids.clone(), rooms.clone());
        let act = Act::Queue(queue::Act::Tell { user, told: *told, ids, rooms, number: *number });
        self.share_then(key, act, move |shard, result| match result {
            Ok(Answer::Queue(queue::Answer::Tell(news))) => {
                for (id, sender) in news {
                    shard.publish_receipt(key, &sender, &untold.user, &id, untold.told);
                }
            }
            Ok(_) => {}
            Err(Unavailable) => {
                let untolds = &mut shard.queues(key).untold;
                if untolds.len() < UNTOLD_MAX {
                    untolds.push_back(untold);
                }
            }
        });
    }

    /// The store is back: whom it could not name it is asked for again.
    pub(super) fn ask_untold(&mut self, key: TenantKey) {
        let Some(stream) = &mut self.tenants[key].stream else { return };
        for untold in std::mem::take(&mut stream.queues.untold) {
            self.ask_senders(key, untold);
        }
    }

    /// Whether what was acknowledged has still to be taken out of the store.
    fn owes_done(&self, key: TenantKey) -> bool {
        self.tenants[key].stream.as_ref().is_some_and(|stream| !stream.queues.done.is_empty())
    }

    /// The stream begins anew: places of before mean nothing.
    pub(super) fn forget_queues(&mut self, key: TenantKey) {
        self.tenants[key].offline = None;
        self.queues(key).done.clear();
    }
}

impl Context<'_> {
    /// Whether this socket's acknowledgements are with the store only later, and it is to be told.
    pub(in crate::shard) fn is_taken_later(&self) -> bool {
        self.wants_ack() && self.shard.is_fleet() && self.shard.owes_done(self.shard.tenant_of(self.socket))
    }

    /// Does something once what was acknowledged is taken out of the store, or could not be; else as [`when_kept`](Self::when_kept).
    pub(in crate::shard) fn when_taken(&mut self, then: impl FnOnce(&mut Context<'_>, bool) + 'static) {
        self.when_answered(then);
    }
}
