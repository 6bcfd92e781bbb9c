//! What crosses nodes: an event or a word about one, as the tenant's channel carries it and as the store keeps it.
//!
//! ```text
//! frame   0       version, 1
//!         1       0: told to the others    1: placed    2: announced: told to all, to who made it, too
//!                 3: noted by the store, see `presence.rs`    4: placed in a fleet's stream    5: told there
//!         2..10   epoch                       \
//!         10..18  sequence                     | of a placed one only, written by the store;
//!         18..26  the room's epoch             | big endian
//!         26..34  offset                      /
//!         ..      of one in a fleet's stream: the row's id that clients keep of it, two numbers
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
//! checked by the node that made the body; the checksum says that it is still that text.
//!
//! The smallest event, `e` into room `r` with data `1`, from origin 2, told:
//!
//! ```text
//! 01 00 | 00000016 crc32 | 01 0000000000000002 | 02 69 31  01 65  01 72  01 31  00  00  00  00
//!                                                id i1     event  room   data   time user entity audience
//! ```

pub mod field;
pub mod presence;
pub mod record;

use super::adapter::streams::Offset;
use crate::base::{id::Sid, time::UnixMs};
use field::{Reader, Writer};

pub const VERSION: u8 = 1;
/// Bytes before the body of a placed frame.
pub const PLACED_BYTES: usize = 34;
/// The second byte of a frame that has its row.
pub const IN_ROW: u8 = 4;
const TOLD_IN_ROW: u8 = 5;
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
    /// The row of a fleet's stream that clients keep of it.
    pub row: Option<Offset>,
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
    /// Its receivers are to acknowledge it. Behind all else, and not there where nobody is asked.
    pub asks: Option<Asks>,
}

/// What is asked of an event's receivers, of each node's by that node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asks {
    pub timeout_ms: u32,
    pub retries: u32,
    /// Its publisher's node counts who answers, and is told whom each node asks.
    pub counted: bool,
}

/// What one node tells the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// 1. Placed: durable. Told: ephemeral.
    Post(Post<'a>),
    /// 2. An event for a room's members, with no envelope: typing, relays, who came and went. `args` is JSON, several values joined by commas.
    Emit { room: &'a str, event: &'a str, args: &'a str, ephemeral: bool, except: Option<Sid> },
    /// 3. The socket with this private id has come back to another node, and so often now: an earlier life of it is over.
    Replaced { pid: Sid, generation: u32 },
    /// 4. Close every session of a user.
    Kick { user: &'a str },
    /// 5. Announced: a document has been written to.
    Edition(Edition<'a>),
    /// 6. The users on this node whom an event was for: those it waits for, and those who cannot answer.
    Receivers { id: &'a str, waiting: Vec<&'a str>, missing: Vec<&'a str> },
    /// 7. Users who have acknowledged an event.
    Acked { id: &'a str, users: Vec<&'a str> },
}

/// What the members of a document's room are told of one write, in the order of the document's versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edition<'a> {
    pub document: &'a str,
    pub room: &'a str,
    /// The document's life.
    pub epoch: u64,
    /// Of this write, and of no other.
    pub mark: u64,
    /// The version it follows; none: the life begins with `version`.
    pub before: Option<u64>,
    pub version: u64,
    pub words: Vec<Word<'a>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Word<'a> {
    pub event: &'a str,
    /// JSON, several values joined by commas.
    pub args: &'a str,
    /// Not for who has written.
    pub others: bool,
}

/// One process of the fleet, told from all others and from its own earlier lives: drawn at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin(pub u64);

impl<'a> Frame<'a> {
    pub fn decode(bytes: &'a [u8]) -> Result<Frame<'a>, Broken> {
        match bytes {
            [VERSION, 0 | 2, body @ ..] => Ok(Frame { place: None, row: None, body }),
            [VERSION, kind @ (1 | IN_ROW), rest @ ..] => {
                let has_row = *kind == IN_ROW;
                let bytes = PLACED_BYTES - 2 + if has_row { 16 } else { 0 };
                let (place, body) = rest.split_at_checked(bytes).ok_or(Broken::Length)?;
                let number = |nth: usize| {
                    place[nth * 8..nth * 8 + 8].iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte))
                };
                let row = has_row.then(|| Offset { ms: number(4), nth: number(5) });
                let place = Place { epoch: number(0), sequence: number(1), room_epoch: number(2), offset: number(3) };
                Ok(Frame { place: Some(place), row, body })
            }
            [VERSION, TOLD_IN_ROW, rest @ ..] => {
                let (row, body) = rest.split_first_chunk::<16>().ok_or(Broken::Length)?;
                let row = u128::from_be_bytes(*row);
                Ok(Frame { place: None, row: Some(Offset { ms: (row >> 64) as u64, nth: row as u64 }), body })
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

/// A frame that is announced.
pub fn announced(body: &[u8]) -> Vec<u8> {
    [&[VERSION, 2], body].concat()
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

/// A frame that is placed or told, as a row of a fleet's stream carried it.
pub fn in_row(frame: &[u8], row: Offset) -> Option<Vec<u8>> {
    let (ms, nth) = (row.ms.to_be_bytes(), row.nth.to_be_bytes());
    if let [VERSION, 0, body @ ..] = frame {
        return Some([&[VERSION, TOLD_IN_ROW], &ms[..], &nth, body].concat());
    }
    let ([VERSION, 1, place @ ..], body) = frame.split_at_checked(PLACED_BYTES)? else { return None };
    Some([&[VERSION, IN_ROW], place, &ms, &nth, body].concat())
}

/// Bytes before a body's fields.
const HEAD_BYTES: usize = 17;

impl<'a> Body<'a> {
    pub fn encode(&self, origin: Origin) -> Box<[u8]> {
        let mut out = Writer(Vec::with_capacity(192));
        out.0.resize(8, 0);
        out.byte(self.kind());
        out.0.extend_from_slice(&origin.0.to_be_bytes());
        match self {
            Body::Post(post) => post.write(&mut out),
            Body::Emit { room, event, args, ephemeral, except } => {
                out.text(room);
                out.text(event);
                out.text(args);
                out.byte(u8::from(*ephemeral));
                out.maybe(*except, |out, sid| out.0.extend_from_slice(sid.as_bytes()));
            }
            Body::Replaced { pid, generation } => {
                out.0.extend_from_slice(pid.as_bytes());
                out.number((*generation).into());
            }
            Body::Kick { user } => out.text(user),
            Body::Edition(edition) => edition.write(&mut out),
            Body::Receivers { id, waiting, missing } => {
                out.text(id);
                out.list(waiting.iter(), |out, user| out.text(user));
                out.list(missing.iter(), |out, user| out.text(user));
            }
            Body::Acked { id, users } => {
                out.text(id);
                out.list(users.iter(), |out, user| out.text(user));
            }
        }
        let mut bytes = out.0;
        let length = u32::try_from(bytes.len() - 8).unwrap_or(u32::MAX);
        let checksum = crc32fast::hash(&bytes[8..]);
        bytes[..4].copy_from_slice(&length.to_be_bytes());
        bytes[4..8].copy_from_slice(&checksum.to_be_bytes());
        bytes.into()
    }

    pub fn decode(bytes: &'a [u8]) -> Result<(Origin, Body<'a>), Broken> {
        let word = |at: usize| bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map(u32::from_be_bytes);
        let (length, checksum) = word(0).zip(word(4)).ok_or(Broken::Length)?;
        let rest = &bytes[8..];
        if rest.len() != length as usize || rest.len() > BODY_BYTES_MAX || rest.len() < HEAD_BYTES - 8 {
            return Err(Broken::Length);
        }
        if crc32fast::hash(rest) != checksum {
            return Err(Broken::Checksum);
        }
        let mut reader = Reader(rest);
        let kind = reader.byte()?;
        let origin = Origin(reader.take(8)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)));
        let body = match kind {
            1 => Body::Post(Post::read(&mut reader)?),
            2 => Body::Emit {
                room: reader.text()?,
                event: reader.text()?,
                args: reader.text()?,
                ephemeral: reader.flag()?,
                except: reader.maybe(read_sid)?,
            },
            3 => Body::Replaced {
                pid: read_sid(&mut reader)?,
                generation: u32::try_from(reader.number()?).map_err(|_| Broken::Field)?,
            },
            4 => Body::Kick { user: reader.text()? },
            5 => Body::Edition(Edition::read(&mut reader)?),
            6 => Body::Receivers {
                id: reader.text()?,
                waiting: reader.list(Reader::text)?,
                missing: reader.list(Reader::text)?,
            },
            7 => Body::Acked { id: reader.text()?, users: reader.list(Reader::text)? },
            _ => return Err(Broken::Kind),
        };
        reader.end()?;
        Ok((origin, body))
    }

    fn kind(&self) -> u8 {
        match self {
            Body::Post(_) => 1,
            Body::Emit { .. } => 2,
            Body::Replaced { .. } => 3,
            Body::Kick { .. } => 4,
            Body::Edition(_) => 5,
            Body::Receivers { .. } => 6,
            Body::Acked { .. } => 7,
        }
    }
}

impl<'a> Post<'a> {
    fn write(&self, out: &mut Writer) {
        out.text(self.id);
        out.text(self.event);
        out.text(self.room);
        out.text(self.data);
        out.number(self.time.0);
        out.maybe(self.user, Writer::text);
        out.maybe(self.entity, |out, (kind, id)| {
            out.text(kind);
            out.text(id);
        });
        out.list(self.audience.iter(), |out, layer| {
            out.list(layer.roles.iter(), |out, role| out.text(role));
            out.list(layer.permissions.iter(), |out, permission| out.text(permission));
        });
        if let Some(Asks { timeout_ms, retries, counted }) = self.asks {
            out.number(timeout_ms.into());
            out.number(retries.into());
            out.byte(u8::from(counted));
        }
    }

    fn read(reader: &mut Reader<'a>) -> Result<Post<'a>, Broken> {
        Ok(Post {
            id: reader.text()?,
            event: reader.text()?,
            room: reader.text()?,
            data: reader.text()?,
            time: UnixMs(reader.number()?),
            user: reader.maybe(Reader::text)?,
            entity: reader.maybe(|reader| Ok((reader.text()?, reader.text()?)))?,
            audience: reader.list(|reader| {
                Ok(Layer { roles: reader.list(Reader::text)?, permissions: reader.list(Reader::text)? })
            })?,
            asks: if reader.0.is_empty() { None } else { Some(Asks::read(reader)?) },
        })
    }
}

impl Asks {
    fn read(reader: &mut Reader<'_>) -> Result<Asks, Broken> {
        let mut number = || u32::try_from(reader.number()?).map_err(|_| Broken::Field);
        Ok(Asks { timeout_ms: number()?, retries: number()?, counted: reader.flag()? })
    }
}

impl<'a> Edition<'a> {
    fn write(&self, out: &mut Writer) {
        out.text(self.document);
        out.text(self.room);
        out.number(self.epoch);
        out.number(self.mark);
        out.maybe(self.before, Writer::number);
        out.number(self.version);
        out.list(self.words.iter(), |out, word| {
            out.text(word.event);
            out.text(word.args);
            out.byte(u8::from(word.others));
        });
    }

    fn read(reader: &mut Reader<'a>) -> Result<Edition<'a>, Broken> {
        Ok(Edition {
            document: reader.text()?,
            room: reader.text()?,
            epoch: reader.number()?,
            mark: reader.number()?,
            before: reader.maybe(Reader::number)?,
            version: reader.number()?,
            words: reader
                .list(|reader| Ok(Word { event: reader.text()?, args: reader.text()?, others: reader.flag()? }))?,
        })
    }
}

fn read_sid(reader: &mut Reader<'_>) -> Result<Sid, Broken> {
    Sid::from_bytes(reader.take(15)?).ok_or(Broken::Field)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{
        chance::Chance,
        id::{NodeId, ShardId},
    };

    #[test]
    fn bodies_and_frames_read_back() {
        let sid = Sid::new(NodeId(7), ShardId(1), &mut Chance::new([3; 32]));
        let post = Post {
            id: "01",
            event: "payment.received",
            room: "project:7",
            data: "{\"a\":1}",
            time: UnixMs(1_763_700_000_123),
            user: Some("u"),
            entity: Some(("project", "7")),
            audience: vec![Layer { roles: vec!["admin"], permissions: vec![] }, Layer::default()],
            asks: None,
        };
        let asks = Some(Asks { timeout_ms: 5000, retries: 2, counted: true });
        for body in [
            Body::Post(Post { asks, ..post.clone() }),
            Body::Post(post),
            Body::Post(Post::default()),
            Body::Emit { room: "r", event: "typing:start", args: "1,2", ephemeral: true, except: Some(sid) },
            Body::Emit { room: "", event: "", args: "", ephemeral: false, except: None },
            Body::Replaced { pid: sid, generation: 1 << 31 },
            Body::Kick { user: "u" },
            Body::Edition(Edition {
                document: "d",
                room: "document:d",
                epoch: 1 << 40,
                mark: 1 << 60,
                before: Some(4),
                version: 5,
                words: vec![Word { event: "document:updated", args: "{}", others: true }, Word::default()],
            }),
            Body::Edition(Edition::default()),
            Body::Receivers { id: "i", waiting: vec!["u", "v"], missing: vec![""] },
            Body::Acked { id: "", users: vec!["u"] },
        ] {
            let bytes = body.encode(Origin(u64::MAX - 1));
            assert_eq!(Body::decode(&bytes), Ok((Origin(u64::MAX - 1), body.clone())));
            for cut in 0..bytes.len() {
                assert!(Body::decode(&bytes[..cut]).is_err());
            }
            let mut other = bytes.to_vec();
            other[9] ^= 1;
            assert_eq!(Body::decode(&other), Err(Broken::Checksum));
            let place = Place { epoch: 1 << 47, sequence: 5, room_epoch: (1 << 47) + 3, offset: 2 };
            let frame = placed(place, &bytes);
            assert_eq!(Frame::decode(&frame), Ok(Frame { place: Some(place), row: None, body: &bytes }));
            let frame = told(&bytes);
            assert_eq!(Frame::decode(&frame), Ok(Frame { place: None, row: None, body: &bytes }));
            assert_eq!(Frame::decode(&announced(&bytes)), Ok(Frame { place: None, row: None, body: &bytes }));
        }
        assert_eq!(Frame::decode(&[2, 0, 1]), Err(Broken::Version));
        assert_eq!(Frame::decode(&[1, 1, 1]), Err(Broken::Length));
    }

    #[test]
    fn the_example_is_what_is_written() {
        let post = Post { id: "i1", event: "e", room: "r", data: "1", ..Post::default() };
        let bytes = told(&Body::Post(post).encode(Origin(2)));
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(&hex[..12], "010000000016");
        assert_eq!(&hex[20..], "01000000000000000202693101650172013100000000");
    }
}
