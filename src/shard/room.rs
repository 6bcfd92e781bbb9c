//! A room: its members and its history. Fan-out, the hot loop, is a free function over plain slices.

use super::history::{Epoch, Event, History};
use super::outbox::{FrameIndex, Outbox};
use super::session::{Session, SessionKey};
use super::socket::{Socket, SocketKey};
use super::tenant::{TenantKey, User};
use crate::base::{
    slab::{Key, Slab},
    time::Instant,
};
use smallvec::SmallVec;
use std::rc::Rc;

crate::key!(
    /// A room of this shard.
    RoomKey
);

/// Which encoding of an event a member reads: an index into the shard's table of (format, namespace).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Variant(pub u8);

/// A socket in a room. 16 bytes: a fan-out reads these and nothing else of a member.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    pub socket: SocketKey,
    /// Slot of its session's queue.
    pub slot: u32,
    pub variant: Variant,
    /// It has a filter, which only the slow path asks.
    pub narrowed: bool,
}

pub struct Room {
    pub tenant: TenantKey,
    pub name: Rc<str>,
    pub epoch: Epoch,
    /// Sequence up to which events of an earlier room of this name may be lost.
    pub lost: u64,
    pub members: SmallVec<[Member; 1]>,
    /// Members with a filter.
    pub narrowed: u32,
    /// What all members read, where `mixed` is none: so it is in most rooms.
    only: Variant,
    /// How many members read each variant.
    #[expect(clippy::box_collection, reason = "few rooms have one: 8 bytes instead of 24")]
    mixed: Option<Box<Vec<(Variant, u32)>>>,
    pub history: Option<Box<History>>,
    /// Of a user's own room `user:<name>`: the user, while it has sessions. The room stays as long.
    pub user: Option<User>,
    /// A timer for it runs.
    pub sweeping: bool,
    /// Which rule has its members told who is in it, counted from 1; 0: none.
    pub rule: u8,
    /// Since when it has no members.
    pub empty_since: Instant,
}

const _: () = assert!(size_of::<Room>() <= 120, "every user has one");

impl Room {
    pub fn new(tenant: TenantKey, name: Rc<str>, epoch: Epoch, lost: u64, now: Instant) -> Room {
        Room {
            tenant,
            name,
            epoch,
            lost,
            members: SmallVec::new(),
            narrowed: 0,
            only: Variant::default(),
            mixed: None,
            history: None,
            user: None,
            sweeping: false,
            rule: 0,
            empty_since: now,
        }
    }

    /// Adds a member; its place in `members`.
    pub fn add(&mut self, member: Member) -> u32 {
        self.count_in(member.variant);
        self.narrowed += u32::from(member.narrowed);
        self.members.push(member);
        (self.members.len() - 1) as u32
    }

    /// Removes the member at `index`; the last one takes its place and is returned, so that its seat can be told.
    pub fn remove(&mut self, index: u32, now: Instant) -> Option<Member> {
        let gone = self.members.swap_remove(index as usize);
        self.narrowed -= u32::from(gone.narrowed);
        self.count_out(gone.variant);
        if self.members.is_empty() {
            self.members = SmallVec::new();
            self.empty_since = now;
        }
        self.members.get(index as usize).copied()
    }

    /// Nobody is in it, and it is nobody's own.
    pub fn is_vacant(&self) -> bool {
        self.members.is_empty() && self.user.is_none()
    }

    /// Counts a variant in, before its member is.
    fn count_in(&mut self, variant: Variant) {
        let before = self.members.len() as u32;
        if let Some(mixed) = &mut self.mixed {
            match mixed.iter_mut().find(|(known, _)| *known == variant) {
                Some((_, count)) => *count += 1,
                None => mixed.push((variant, 1)),
            }
        } else if before == 0 {
            self.only = variant;
        } else if variant != self.only {
            self.mixed = Some(Box::new(vec![(self.only, before), (variant, 1)]));
        }
    }

    fn count_out(&mut self, variant: Variant) {
        let Some(mixed) = &mut self.mixed else { return };
        let Some(at) = mixed.iter().position(|(known, _)| *known == variant) else { return };
        mixed[at].1 -= 1;
        if mixed[at].1 == 0 {
            mixed.swap_remove(at);
        }
        if let [(only, _)] = mixed[..] {
            self.only = only;
            self.mixed = None;
        }
    }

    /// The variants its members read, each once: an event is encoded for these.
    pub fn variants(&self) -> impl Iterator<Item = Variant> {
        let one = (!self.members.is_empty() && self.mixed.is_none()).then_some(self.only);
        one.into_iter().chain(self.mixed.iter().flat_map(|mixed| mixed.iter().map(|(variant, _)| *variant)))
    }

    pub fn top(&self) -> u64 {
        self.history.as_ref().map_or(0, |history| history.top())
    }

    pub fn history_mut(&mut self) -> &mut History {
        self.history.get_or_insert_with(|| Box::new(History::new(self.epoch)))
    }
}

/// Gives each member its encoding of one event. No branch, no allocation, no look at anything but the slices: about 4 ns a member.
///
/// `frames` is indexed by variant and holds one for every variant among the members.
pub fn fan_out(members: &[Member], frames: &[FrameIndex], outbox: &mut Outbox) {
    for member in members {
        outbox.push(member.slot, frames[usize::from(member.variant.0)]);
    }
}

/// As [`fan_out`], but asks `wants` for each member first.
pub fn fan_out_some(
    members: &[Member],
    frames: &[FrameIndex],
    outbox: &mut Outbox,
    mut wants: impl FnMut(&Member) -> bool,
) {
    for member in members {
        if wants(member) {
            outbox.push(member.slot, frames[usize::from(member.variant.0)]);
        }
    }
}

/// Whether an event is for a member: by its filter, and by the event's audience.
pub fn wants(
    sockets: &Slab<SocketKey, Socket>,
    sessions: &Slab<SessionKey, Session>,
    room: RoomKey,
    member: &Member,
    event: &Event,
) -> bool {
    let socket = &sockets[member.socket];
    let filter = || socket.seat(room).and_then(|seat| seat.filter.as_ref());
    (!member.narrowed || filter().is_none_or(|filter| filter.wants(event)))
        && event.audience.as_ref().is_none_or(|audience| {
            sessions[socket.session].identity.as_ref().is_some_and(|identity| audience.admits(identity))
        })
}

/// Slot of a session's queue.
pub fn slot(session: impl Key) -> u32 {
    session.index()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However members come and go, the variants are those of who is there.
    #[test]
    fn variants_are_those_of_its_members() {
        let mut chance = crate::base::chance::Chance::new([5; 32]);
        let mut room = Room::new(TenantKey::new(0, 0), "r".into(), Epoch(1), 0, Instant(0));
        for n in 0..2000 {
            if room.members.is_empty() || chance.below(9) < 4 + u64::from(n % 50 < 25) {
                let variant = Variant(chance.below(3) as u8);
                room.add(Member { socket: SocketKey::new(n, 0), slot: n, variant, narrowed: false });
            } else {
                room.remove(chance.below(room.members.len() as u64) as u32, Instant(0));
            }
            let mut want: Vec<Variant> = room.members.iter().map(|member| member.variant).collect();
            let mut have: Vec<Variant> = room.variants().collect();
            want.sort();
            want.dedup();
            have.sort();
            assert_eq!(have, want, "after {n}");
        }
    }
}
