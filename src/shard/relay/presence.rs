//! Who is there, over all nodes.
//!
//! Each node says of each of its users what it has of it, whole, in place of what it had said before; so what is said again changes nothing.
//! The store sees all nodes, and notes who came, went or changed to every node that hears the tenant
//! ([`envelope::presence`](crate::wire::envelope::presence)), the one that said it too. What a node has said counts for as long as its lease,
//! which all that it says renews; afterwards it is taken away by whoever comes by.

use crate::base::time::{Duration, UnixMs};
use crate::shard::status::{Choice, Duty, Standing, Status};
use crate::wire::envelope::Origin;

/// How a user is: one on all nodes, whichever said it last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stance {
    pub status: Status,
    pub choice: Choice,
    pub idle: bool,
    /// Of its status.
    pub since: UnixMs,
}

impl Stance {
    pub const BYTES: usize = 11;

    /// As the store keeps it: status, choice, idle, since.
    pub fn encode(&self) -> [u8; Stance::BYTES] {
        let status = Status::ALL.iter().position(|status| *status == self.status).unwrap_or(0) as u8;
        let choice = match self.choice {
            Choice::None => 0,
            Choice::Auto => 1,
            Choice::Fixed(Duty::Available) => 2,
            Choice::Fixed(Duty::Away) => 3,
            Choice::Fixed(Duty::Busy) => 4,
            Choice::Fixed(Duty::Offline) => 5,
            Choice::Fixed(Duty::State(nth)) => nth.saturating_add(6),
        };
        let mut bytes = [status, choice, u8::from(self.idle), 0, 0, 0, 0, 0, 0, 0, 0];
        bytes[3..].copy_from_slice(&self.since.0.to_be_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Option<Stance> {
        let ([status, choice, idle], since) = bytes.split_first_chunk()?;
        let since: [u8; 8] = since.try_into().ok()?;
        let choice = match choice {
            0 => Choice::None,
            1 => Choice::Auto,
            2 => Choice::Fixed(Duty::Available),
            3 => Choice::Fixed(Duty::Away),
            4 => Choice::Fixed(Duty::Busy),
            5 => Choice::Fixed(Duty::Offline),
            nth => Choice::Fixed(Duty::State(nth - 6)),
        };
        let status = *Status::ALL.get(usize::from(*status))?;
        Some(Stance { status, choice, idle: *idle == 1, since: UnixMs(u64::from_be_bytes(since)) })
    }

    pub fn standing(&self) -> Standing {
        Standing { status: self.status, duty: self.choice.duty(self.status, self.idle) }
    }
}

/// What a node has of one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// 0 within its grace.
    pub sessions: u32,
    pub seen: UnixMs,
    pub seats: Vec<Seat>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    pub room: Box<str>,
    /// 0 within the user's grace.
    pub sockets: u32,
    /// Its members are told who comes and goes.
    pub watched: bool,
}

#[derive(Clone, Debug)]
pub struct Change {
    pub user: Box<str>,
    /// None: it is not here any more.
    pub row: Option<Row>,
    /// How it is, unless another node has said so already.
    pub stance: Stance,
    /// It has said how it is: that counts.
    pub sets: bool,
    /// Those who are to know it do already, if the store has forgotten.
    pub known: bool,
    /// This node's own clients were told while the store was away.
    pub told: bool,
    /// Its last sign of life.
    pub seen: UnixMs,
}

/// How long something counts: the same on all nodes of a fleet.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// What a node has said, after it has fallen silent.
    pub valid: Duration,
    /// When a user who has gone was last seen; zero: that is not kept.
    pub remember: Duration,
}

/// What is done. Either also takes away what those nodes have said whose lease is over.
#[derive(Debug)]
pub enum Act {
    /// Renews a node's lease, and takes down the changes in their order.
    Say {
        origin: Origin,
        terms: Terms,
        changes: Vec<Change>,
    },
    Ask {
        terms: Terms,
        what: Question,
    },
}

#[derive(Debug)]
pub enum Question {
    /// Who is in a room: at most `count` of them.
    Room {
        room: Box<str>,
        count: usize,
    },
    Users(Vec<Box<str>>),
    /// The nodes on which sockets are in a room: at most `count` places are looked at, with more it is all nodes.
    Nodes {
        room: Box<str>,
        count: usize,
    },
    /// The rooms that have members: at most `count` of them.
    Rooms {
        count: usize,
    },
    Totals,
}

/// What came of it.
#[derive(Debug)]
pub enum Answer {
    Said {
        /// Of each change.
        users: Vec<Said>,
        /// Sessions of the tenant on all nodes.
        sessions: u32,
        /// There is more to take away of nodes whose lease is over.
        more: bool,
    },
    /// One for each node that a user is on, those of one user together; and how many there are.
    Room {
        members: Vec<Member>,
        count: usize,
    },
    /// In the order they were asked for.
    Users(Vec<Found>),
    Nodes(Vec<Origin>),
    /// Names and sockets; and how many rooms there are.
    Rooms {
        rooms: Vec<(Box<str>, u32)>,
        count: usize,
    },
    Totals(Totals),
}

/// What the store had of a user before, and has now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// How the user is; of one that was nowhere, as it was when it left, if that is known.
    pub stance: Option<Stance>,
    /// It was there before, or still is.
    pub there: bool,
    pub sessions: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub user: Box<str>,
    pub stance: Stance,
    pub seen: UnixMs,
    pub sockets: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub there: bool,
    pub stance: Option<Stance>,
    pub sessions: u32,
    pub seen: Option<UnixMs>,
    pub rooms: Vec<Box<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    pub sessions: u32,
    pub users: u32,
    pub rooms: u32,
}

impl Act {
    /// What it weighs while it waits.
    pub fn bytes(&self) -> usize {
        let seats = |row: &Row| row.seats.iter().map(|seat| size_of::<Seat>() + seat.room.len()).sum::<usize>();
        let change = |change: &Change| size_of::<Change>() + change.user.len() + change.row.as_ref().map_or(0, seats);
        match self {
            Act::Say { changes, .. } => changes.iter().map(change).sum(),
            Act::Ask { what: Question::Room { room, .. } | Question::Nodes { room, .. }, .. } => room.len(),
            Act::Ask { what: Question::Users(users), .. } => {
                users.iter().map(|user| size_of_val(user) + user.len()).sum()
            }
            Act::Ask { what: Question::Rooms { .. } | Question::Totals, .. } => 0,
        }
    }
}

impl Answer {
    /// As [`Act::bytes`].
    pub fn bytes(&self) -> usize {
        let found = |found: &Found| size_of::<Found>() + found.rooms.iter().map(|room| room.len() + 16).sum::<usize>();
        match self {
            Answer::Said { users, .. } => size_of_val(&users[..]),
            Answer::Room { members, .. } => members.iter().map(|member| size_of::<Member>() + member.user.len()).sum(),
            Answer::Users(users) => users.iter().map(found).sum(),
            Answer::Rooms { rooms, .. } => rooms.iter().map(|(room, _)| room.len() + 24).sum(),
            Answer::Nodes(nodes) => size_of_val(&nodes[..]),
            Answer::Totals(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stance_reads_back() {
        let duties = [Duty::Available, Duty::Away, Duty::Busy, Duty::Offline, Duty::State(0), Duty::State(200)];
        let choices = duties.map(Choice::Fixed).into_iter().chain([Choice::None, Choice::Auto]);
        for (nth, choice) in choices.enumerate() {
            let status = Status::ALL[nth % 4];
            let stance = Stance { status, choice, idle: nth % 2 == 0, since: UnixMs(1_763_700_000_123) };
            let bytes = stance.encode();
            assert_eq!(Stance::decode(&bytes), Some(stance));
            assert_eq!(Stance::decode(&bytes[..Stance::BYTES - 1]), None);
        }
        assert_eq!(Stance::decode(&[9; Stance::BYTES]), None, "no such status");
    }
}
