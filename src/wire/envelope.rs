//! What crosses nodes: an event or a word about one, as the tenant's channel carries it and as the store keeps it.
//!
//! ```text
//! frame   0       version, 1
//!         1       0: told        1: placed
//!         2..10   epoch                       \
//!         10..18  sequence                     | of a placed one only, written by the store;
//!         18..26  the room's epoch             | big endian
//!         26..34  offset                      /
//!         ..      body
//!
//! body    0..4    length of all that follows the checksum     big endian
//!         4..8    CRC-32 (IEEE) of the same
//!         8       kind, see [`Body`]
//!         9..17   origin: which process made it               big endian
//!         ..      the kind's fields in their order: texts and bytes with their length before them, numbers and lengths as LEB128;
//!                 what may be missing has a byte 0 or 1 before it
//! ```
//!
//! Nothing of another version is read: nodes of one fleet are of one version, or the older ones are drained first. A text that is JSON was
//! checked by who made it, and is checked again here: what the store was given by a stranger must not become a client's frame.

use crate::base::{id::Sid, time::UnixMs};

pub const VERSION: u8 = 1;
/// Bytes before the body of a placed frame.
pub const PLACED_BYTES: usize = 34;
/// The longest body there is: an event's data is a frame's at most, and everything else is bounded by it.
pub const BODY_BYTES_MAX: usize = 16 << 20;

/// What cannot be read, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("it is of another version")]
    Version,
    #[error("it ends early, or goes on")]
    Length,
    #[error("its checksum is another")]
    Checksum,
    #[error("its kind is unknown")]
    Kind,
    #[error("a field is not what it should be")]
    Field,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub epoch: u64,
    pub sequence: u64,
    pub room_epoch: u64,
    pub offset: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub place: Option<Place>,
    /// Not looked at yet.
    pub body: &'a [u8],
}

/// Who may receive an event: somebody with one of these roles and one of these permissions, in every layer; an empty list asks for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layer<'a> {
    pub roles: Vec<&'a str>,
    pub permissions: Vec<&'a str>,
}

/// An event that was published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Post<'a> {
    pub id: &'a str,
    pub event: &'a str,
    pub room: &'a str,
    /// JSON.
    pub data: &'a str,
    pub time: UnixMs,
    pub user: Option<&'a str>,
    pub entity: Option<(&'a str, &'a str)>,
    /// Outermost first; none: everybody.
    pub audience: Vec<Layer<'a>>,
}

/// What one node tells the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// 1. Placed: durable. Told: ephemeral.
    Post(Post<'a>),
    /// 2. An event for a room's members, with no envelope: typing, relays, who came and went. `args` is JSON, several values joined by commas.
    Emit { room: &'a str, event: &'a str, args: &'a str, ephemeral: bool, except: Option<Sid> },
    /// 3. The socket with this private id has come back to another node.
    Replaced { pid: Sid },
    /// 4. Close every session of a user.
    Kick { user: &'a str },
}

/// One process of the fleet, told from all others and from its own earlier lives: drawn at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin(pub u64);

impl<'a> Frame<'a> {
    pub fn decode(bytes: &'a [u8]) -> Result<Frame<'a>, Broken> {
        match bytes {
            [VERSION, 0, body @ ..] => Ok(Frame { place: None, body }),
            [VERSION, 1, rest @ ..] => {
                let (place, body) = rest.split_at_checked(PLACED_BYTES - 2).ok_or(Broken::Length)?;
                let number = |nth: usize| {
                    place[nth * 8..nth * 8 + 8].iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte))
                };
                let place = Place { epoch: number(0), sequence: number(1), room_epoch: number(2), offset: number(3) };
                Ok(Frame { place: Some(place), body })
            }
            [VERSION, ..] | [] => Err(Broken::Length),
            _ => Err(Broken::Version),
        }
    }
}

/// A frame that is told.
pub fn told(body: &[u8]) -> Vec<u8> {
    [&[VERSION, 0], body].concat()
}

/// A frame with its place: what the store's script writes.
pub fn placed(place: Place, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(PLACED_BYTES + body.len());
    out.extend_from_slice(&[VERSION, 1]);
    for number in [place.epoch, place.sequence, place.room_epoch, place.offset] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    out.extend_from_slice(body);
    out
}
