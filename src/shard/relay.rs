//! What a shard asks of the backplane, and what it hears: the only way one node knows of another.
//!
//! ```text
//!  Open    ------------------>  the tenant's channel is heard from now on
//!          <------------------  Opened: where its stream stands; said again whenever something may have been missed since
//!  Append  ------------------>  one script: place given, stored, published
//!          <------------------  Appended: to the shard that asked
//!          <------------------  Envelope: to every node that hears the channel, the asking one too; fan-out is from this alone
//!  Tell    ------------------>  published, not stored
//!          <------------------  Envelope: to every other node
//!  Read    ------------------>  where rooms stand, and what they have after a place
//!          <------------------  Read
//!  Save, Forget ------------->  a socket that may come back to any node
//!  Claim   ------------------>  it has come here
//!          <------------------  Claimed
//!          <------------------  Replaced: what was to be kept of a socket has come back elsewhere
//!  Share   ------------------>  what the nodes share beside the stream: one script, see the modules below
//!          <------------------  Shared, where it was given a ticket
//!  Close   ------------------>  the channel is not heard any more
//!  Missed  ------------------>  rows of the fleet's stream that a socket has missed: where the nodes read their events from that
//!          <------------------  Missed: between the rows it ends with and the ones that follow
//!  Neighbour <-------------->  requests for sessions of other nodes: see neighbour.rs
//!          <------------------  Foreign: what servers of other makes, and emitters, want of this shard's sockets
//!  Answer  ------------------>  to what they asked
//! ```
//!
//! Guarantees of a backplane (`backplane/` keeps them, one suite checks its implementations):
//!
//! 1. What is asked for one tenant is done in the order it was asked. An [`Append`](Relay::Append) is done once, whatever breaks meanwhile, or
//!    answered with an error before anything of it is stored.
//! 2. A tenant's sequence rises by one with each append within an epoch, and a room's offset by one within its own epoch. An epoch that was
//!    lost (the store is empty) never comes back.
//! 3. After `Opened {epoch, sequence}` every envelope with a greater sequence of that epoch comes, in order, or another `Opened` does: then
//!    something may be missing, and the shard reads it back.
//! 4. A `Read` sees all that was appended before it was asked. What it reads may have grown meanwhile: entries beyond the `sequence` it names
//!    are not whole.
//! 5. Nothing is waited for for ever: everything that is answered is answered, with [`Unavailable`] where the store is away.

pub mod address;
pub mod document;
pub mod presence;
pub mod queue;

use crate::base::{
    id::{Sid, TenantId},
    time::{Duration, UnixMs},
};
use crate::shard::foreign::{self, Foreign};
use crate::shard::history::Epoch;
use crate::shard::neighbour::{Errand, News};

/// An answer's way back to who asked: chosen by the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What a shard asks.
#[derive(Debug)]
pub enum Relay {
    Open {
        tenant: TenantId,
    },
    Close {
        tenant: TenantId,
    },
    Append {
        tenant: TenantId,
        ticket: Ticket,
        append: Box<Append>,
    },
    /// A body of [`envelope`](crate::wire::envelope) for every other node that hears the tenant. Lost where the store is away. `in_row`: where the
    /// nodes read their events from the fleet's stream it goes there, too, behind what was appended before.
    Tell {
        tenant: TenantId,
        body: Box<[u8]>,
        in_row: bool,
    },
    Read {
        tenant: TenantId,
        ticket: Ticket,
        rooms: Vec<Wanted>,
    },
    /// Keeps a socket for `ttl` from now, in place of what was kept of it: unless that has come back more often than `generation`, by the first
    /// four bytes of its [record](crate::wire::envelope::record), or was claimed meanwhile. A node that still believes in an old connection
    /// changes nothing, and is told. Who has claimed it says one more than the record has, also where it gives it back as it was.
    Save {
        tenant: TenantId,
        pid: Sid,
        generation: u32,
        body: Box<[u8]>,
        ttl: Duration,
    },
    /// Keeps sockets for `ttl` from now, as they are.
    Refresh {
        tenant: TenantId,
        pids: Vec<Sid>,
        ttl: Duration,
    },
    /// Forgets a socket, unless what is kept has come back more often than `generation`.
    Forget {
        tenant: TenantId,
        pid: Sid,
        generation: u32,
    },
    /// Takes a socket: whoever asks next finds nothing, and only who has taken it keeps it again.
    Claim {
        tenant: TenantId,
        pid: Sid,
        ticket: Ticket,
    },
    /// Of requests that cross nodes.
    Neighbour(Box<Errand>),
    /// A room has come to be on this node, or is no more: for servers of another make, where the backplane wants to know.
    Room {
        tenant: TenantId,
        room: Box<str>,
        is_here: bool,
    },
    /// What somebody who comes back has missed of the fleet's stream. Only where the nodes read that.
    Missed {
        tenant: TenantId,
        ticket: Ticket,
        wanted: Box<foreign::Wanted>,
    },
    /// To a question of [`Report::Foreign`], by the ticket it came with. Lost where the way is full: who asked is answered in time without it.
    Answer {
        ticket: Ticket,
        answer: Box<foreign::Answer>,
    },
    /// Changes or asks what the nodes share of a tenant. With a ticket it is answered in time; without, it waits for the store as what is kept
    /// of sockets does, and is dropped where that is too much.
    Share {
        tenant: TenantId,
        ticket: Option<Ticket>,
        act: Box<Act>,
    },
}

/// What is done with what the nodes share of a tenant.
#[derive(Debug)]
pub enum Act {
    Presence(presence::Act),
    Queue(queue::Act),
    Document(document::Act),
    /// Of an address, in a tenant's place.
    Address(address::Act),
}

/// What came of it.
#[derive(Debug)]
pub enum Answer {
    Presence(presence::Answer),
    Queue(queue::Answer),
    Document(document::Answer),
    Address(address::Answer),
}

impl Act {
    /// What it weighs while it waits.
    pub fn bytes(&self) -> usize {
        size_of::<Act>()
            + match self {
                Act::Presence(act) => act.bytes(),
                Act::Queue(act) => act.bytes(),
                Act::Document(act) => act.bytes(),
                Act::Address(act) => act.bytes(),
            }
    }
}

impl Answer {
    /// As [`Act::bytes`].
    pub fn bytes(&self) -> usize {
        match self {
            Answer::Presence(answer) => answer.bytes(),
            Answer::Queue(answer) => answer.bytes(),
            Answer::Document(answer) => answer.bytes(),
            Answer::Address(answer) => answer.bytes(),
        }
    }
}

/// A durable event that is to get its place.
#[derive(Debug)]
pub struct Append {
    pub room: Box<str>,
    /// A body of [`envelope`](crate::wire::envelope).
    pub body: Box<[u8]>,
    /// The publisher's own id for it: published again within `id_ttl`, it is the event of the first time.
    pub id: Option<Box<str>>,
    pub id_ttl: Duration,
    /// Events the room keeps.
    pub keep: u32,
    /// How long the room is kept after its last event: at least as long as somebody may ask for its events or its offset.
    pub linger: Duration,
    /// It waits for the user whose own room this is.
    pub wait: Option<Box<queue::Wait>>,
    /// Its sender is told who has got it.
    pub track: Option<Box<queue::Track>>,
}

/// A room, and what is wanted of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub room: Box<str>,
    /// The events after this place of the tenant's stream; `None`: only where it stands.
    pub after: Option<u64>,
}

/// The store is away, or the journal of what waits for it is full: `backplane_unavailable`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the backplane is not available")]
pub struct Unavailable;

/// What a shard hears.
#[derive(Debug)]
pub enum Report {
    /// Where a tenant's stream stands, or that it cannot be known now: then it comes when the store is back.
    Opened {
        tenant: TenantId,
        place: Result<Place, Unavailable>,
    },
    /// A frame of [`envelope`](crate::wire::envelope), as the channel carried it.
    Envelope {
        tenant: TenantId,
        frame: Box<[u8]>,
    },
    Appended {
        ticket: Ticket,
        result: Result<Appended, Unavailable>,
    },
    Read {
        ticket: Ticket,
        result: Result<Reading, Unavailable>,
    },
    Claimed {
        ticket: Ticket,
        result: Result<Option<Box<[u8]>>, Unavailable>,
    },
    Neighbour(Box<News>),
    Foreign(Box<Foreign>),
    /// Up to the row before the next [`Envelope`](Report::Envelope) or [`Foreign`](Report::Foreign) event.
    Missed {
        ticket: Ticket,
        result: Result<Box<foreign::Missed>, Unavailable>,
    },
    /// A [`Save`](Relay::Save) was not done: the socket has come back elsewhere. Comes before the answer of what was asked after it.
    Replaced {
        tenant: TenantId,
        pid: Sid,
    },
    Shared {
        ticket: Ticket,
        result: Result<Answer, Unavailable>,
    },
}

/// A tenant's stream: its life, and its newest event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub epoch: Epoch,
    pub sequence: u64,
}

/// An event's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    pub sequence: u64,
    pub room_epoch: Epoch,
    pub offset: u64,
    /// It is the event of an earlier publish with the same id.
    pub known: bool,
}

/// What was read: where the tenant's stream stood before the rooms were read, and the rooms in the order they were asked for.
#[derive(Debug)]
pub struct Reading {
    pub place: Place,
    pub rooms: Vec<RoomRead>,
}

#[derive(Debug)]
pub struct RoomRead {
    pub epoch: Epoch,
    /// Offset and sequence of its newest event; 0 before the first.
    pub offset: u64,
    pub sequence: u64,
    /// Oldest first. Where the oldest has not the offset after the place asked for, the ones between are lost.
    pub entries: Vec<Stored>,
}

/// An event as it is stored.
#[derive(Clone, Debug)]
pub struct Stored {
    pub sequence: u64,
    pub offset: u64,
    /// When it was appended, by the store's clock.
    pub at: UnixMs,
    pub body: Box<[u8]>,
}

impl Append {
    /// What it weighs while it waits.
    pub fn bytes(&self) -> usize {
        size_of::<Append>()
            + self.room.len()
            + self.body.len()
            + self.id.as_ref().map_or(0, |id| id.len())
            + self.wait.as_ref().map_or(0, |wait| wait.bytes())
            + self.track.as_ref().map_or(0, |track| track.bytes())
    }
}

impl Wanted {
    /// As [`Append::bytes`].
    pub fn bytes(&self) -> usize {
        size_of::<Wanted>() + self.room.len()
    }
}

impl Relay {
    /// The tenant it is about, where it is about one.
    pub fn tenant(&self) -> Option<&TenantId> {
        match self {
            Relay::Neighbour(_) | Relay::Answer { .. } => None,
            Relay::Open { tenant }
            | Relay::Close { tenant }
            | Relay::Append { tenant, .. }
            | Relay::Tell { tenant, .. }
            | Relay::Read { tenant, .. }
            | Relay::Save { tenant, .. }
            | Relay::Refresh { tenant, .. }
            | Relay::Forget { tenant, .. }
            | Relay::Room { tenant, .. }
            | Relay::Claim { tenant, .. }
            | Relay::Missed { tenant, .. }
            | Relay::Share { tenant, .. } => Some(tenant),
        }
    }

    /// What it counts against the bound of the way to the backplane.
    pub fn bytes(&self) -> usize {
        size_of::<Relay>()
            + self.tenant().map_or(0, |tenant| tenant.as_str().len())
            + match self {
                Relay::Answer { answer, .. } => answer.bytes(),
                Relay::Room { room, .. } => room.len(),
                Relay::Append { append, .. } => append.bytes(),
                Relay::Tell { body, .. } | Relay::Save { body, .. } => body.len(),
                Relay::Read { rooms, .. } => rooms.iter().map(Wanted::bytes).sum::<usize>(),
                Relay::Refresh { pids, .. } => size_of_val(&pids[..]),
                Relay::Neighbour(errand) => errand.bytes(),
                Relay::Share { act, .. } => act.bytes(),
                Relay::Missed { wanted, .. } => wanted.bytes(),
                Relay::Open { .. } | Relay::Close { .. } | Relay::Forget { .. } | Relay::Claim { .. } => 0,
            }
    }
}

impl Report {
    /// The tenant it is about, where it is about one; an answer goes to the shard that asked.
    pub fn tenant(&self) -> Option<&TenantId> {
        match self {
            Report::Opened { tenant, .. } | Report::Envelope { tenant, .. } | Report::Replaced { tenant, .. } => {
                Some(tenant)
            }
            Report::Appended { .. }
            | Report::Read { .. }
            | Report::Claimed { .. }
            | Report::Shared { .. }
            | Report::Missed { .. }
            | Report::Neighbour(_)
            | Report::Foreign(_) => None,
        }
    }

    /// What it counts against the bound of the way to a shard.
    pub fn bytes(&self) -> usize {
        size_of::<Report>()
            + match self {
                Report::Envelope { frame, .. } => frame.len(),
                Report::Read { result: Ok(reading), .. } => reading
                    .rooms
                    .iter()
                    .flat_map(|room| &room.entries)
                    .map(|entry| size_of::<Stored>() + entry.body.len())
                    .sum(),
                Report::Claimed { result: Ok(Some(body)), .. } => body.len(),
                Report::Shared { result: Ok(answer), .. } => answer.bytes(),
                Report::Neighbour(news) => news.bytes(),
                Report::Foreign(foreign) => foreign.bytes(),
                Report::Missed { result: Ok(missed), .. } => missed.bytes(),
                Report::Opened { .. }
                | Report::Appended { .. }
                | Report::Read { .. }
                | Report::Claimed { .. }
                | Report::Replaced { .. }
                | Report::Missed { .. }
                | Report::Shared { .. } => 0,
            }
    }
}
