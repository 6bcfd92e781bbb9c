//! What waits for users who are not there, over all nodes; and whose senders are told who has got it.
//!
//! ```text
//!  Append {wait}   an event waits for its user from the moment it has its place: which node has the user may be wrong for a dead node's lease
//!  Done            a socket has been sent it as it came, or its user has acknowledged it: it waits no more
//!  Keep            what a socket was sent it may not have got: it waits again
//!  Read            what waits for a user
//!  Tell            a user has got or read events: answered with the senders who are to hear of it, each of them once
//! ```

use super::{Place, Stored};
use crate::base::time::Duration;
use crate::shard::history::Epoch;
use crate::shard::receipt::Told;

/// For whom an event waits, how long, and how many of them do at most; the bounds in bytes are those of [`limit`](crate::base::limit).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    pub user: Box<str>,
    pub ttl: Duration,
    pub per_user: u32,
}

/// An event whose sender is told who has got it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    pub id: Box<str>,
    pub sender: Box<str>,
    pub ttl: Duration,
}

/// What is done.
#[derive(Debug)]
pub enum Act {
    Read {
        user: Box<str>,
    },
    /// Of another epoch than the store's, it is of no meaning and does nothing.
    Done {
        epoch: Epoch,
        sequences: Vec<u64>,
        /// A user has been told that so many of its events were dropped.
        told: Option<(Box<str>, u64)>,
    },
    /// Events of a room that is a user's own, as far as the room still keeps them. As [`Done`](Act::Done) of one epoch.
    Keep {
        epoch: Epoch,
        room: Box<str>,
        sequences: Vec<u64>,
        wait: Wait,
    },
    Tell {
        user: Box<str>,
        told: Told,
        ids: Vec<Box<str>>,
        /// Only of events of these rooms, where the user is; none: it was for this user.
        rooms: Option<Vec<Box<str>>>,
        /// Asked again by the same number, it is answered as the first time.
        number: u64,
    },
}

/// What came of it.
#[derive(Debug)]
pub enum Answer {
    Nothing,
    Waiting(Waiting),
    /// Ids of events and their senders.
    Tell(Vec<(Box<str>, Box<str>)>),
}

/// What waits for one user.
#[derive(Debug)]
pub struct Waiting {
    /// Where the tenant's stream stood; none: the store knows nothing of the tenant.
    pub place: Option<Place>,
    /// Dropped since the user was told.
    pub dropped: u64,
    /// Oldest first.
    pub entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub stored: Stored,
    pub room_epoch: Epoch,
    /// How long it waits yet.
    pub left: Duration,
    /// It was sent to a connection that may have been dead.
    pub in_doubt: bool,
}

impl Wait {
    pub fn bytes(&self) -> usize {
        size_of::<Wait>() + self.user.len()
    }
}

impl Track {
    pub fn bytes(&self) -> usize {
        size_of::<Track>() + self.id.len() + self.sender.len()
    }
}

fn texts(texts: &[Box<str>]) -> usize {
    texts.iter().map(|text| size_of::<Box<str>>() + text.len()).sum()
}

impl Act {
    /// What it weighs while it waits.
    pub fn bytes(&self) -> usize {
        match self {
            Act::Read { user } => user.len(),
            Act::Done { sequences, told, .. } => {
                size_of_val(&sequences[..]) + told.as_ref().map_or(0, |(user, _)| user.len())
            }
            Act::Keep { room, sequences, wait, .. } => room.len() + size_of_val(&sequences[..]) + wait.bytes(),
            Act::Tell { user, ids, rooms, .. } => user.len() + texts(ids) + rooms.as_deref().map_or(0, texts),
        }
    }
}

impl Answer {
    /// As [`Act::bytes`].
    pub fn bytes(&self) -> usize {
        match self {
            Answer::Nothing => 0,
            Answer::Waiting(waiting) => {
                waiting.entries.iter().map(|entry| size_of::<Entry>() + entry.stored.body.len()).sum()
            }
            Answer::Tell(news) => news.iter().map(|(id, sender)| id.len() + sender.len()).sum(),
        }
    }
}
