//! A socket as the store keeps it, so that it may come back to any node: who it is, what it was in, and where it began to read.
//!
//! ```text
//! record  0..4  generation: how often it has come back           big endian
//!         4     version, 1; then fields: sid (15 bytes), user, namespace, how many of its rooms are automatic, the tenant's epoch, the sequence at
//!         which it connected, rooms: name, the sequence at which it joined, filter: event types, entities; and where another server's
//!         application keeps something with it, that
//! ```

use super::field::{Reader, Writer};
use super::{Broken, VERSION};
use crate::base::id::Sid;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub generation: u32,
    pub sid: Sid,
    pub user: &'a str,
    pub namespace: &'a str,
    /// How many of `seats`, from the first, it is in by itself.
    pub automatic: u8,
    pub epoch: u64,
    pub connected_at: u64,
    pub seats: Vec<Seat<'a>>,
    /// What the application of a server of another make keeps with it: as it was written.
    pub data: Option<&'a [u8]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat<'a> {
    pub room: &'a str,
    pub joined_at: u64,
    pub filter: Option<Wants<'a>>,
}

/// What a socket wants of a room: event types with `*` and `?`, and entities by type and id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wants<'a> {
    pub types: Vec<&'a str>,
    pub entities: Vec<(&'a str, &'a str)>,
}

/// In the place of how often it has come back: it is kept in the form of servers of another make, which follows. No record has come back so often.
pub const FOREIGN: u32 = u32::MAX;

/// How often the socket has come back that a record is of; 0 of what is none.
pub fn generation(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

impl<'a> Record<'a> {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer(Vec::with_capacity(96 + self.seats.len() * 32));
        out.0.extend_from_slice(&self.generation.to_be_bytes());
        out.byte(VERSION);
        out.0.extend_from_slice(self.sid.as_bytes());
        out.text(self.user);
        out.text(self.namespace);
        out.byte(self.automatic);
        out.number(self.epoch);
        out.number(self.connected_at);
        out.list(self.seats.iter(), |out, seat| {
            out.text(seat.room);
            out.number(seat.joined_at);
            out.maybe(seat.filter.as_ref(), |out, wants| {
                out.list(wants.types.iter(), |out, kind| out.text(kind));
                out.list(wants.entities.iter(), |out, (kind, id)| {
                    out.text(kind);
                    out.text(id);
                });
            });
        });
        if let Some(data) = self.data {
            out.bytes(data);
        }
        out.0
    }

    pub fn decode(bytes: &'a [u8]) -> Result<Record<'a>, Broken> {
        let mut reader = Reader(bytes);
        let generation = generation(reader.take(4)?);
        if reader.byte()? != VERSION {
            return Err(Broken::Version);
        }
        let mut record = Record {
            generation,
            sid: super::read_sid(&mut reader)?,
            user: reader.text()?,
            namespace: reader.text()?,
            automatic: reader.byte()?,
            epoch: reader.number()?,
            connected_at: reader.number()?,
            seats: reader.list(|reader| {
                Ok(Seat {
                    room: reader.text()?,
                    joined_at: reader.number()?,
                    filter: reader.maybe(|reader| {
                        let types = reader.list(Reader::text)?;
                        Ok(Wants { types, entities: reader.list(|reader| Ok((reader.text()?, reader.text()?)))? })
                    })?,
                })
            })?,
            data: None,
        };
        if !reader.0.is_empty() {
            record.data = Some(reader.bytes()?);
        }
        reader.end()?;
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{
        chance::Chance,
        id::{NodeId, ShardId},
    };

    #[test]
    fn a_record_reads_back() {
        let sid = Sid::new(NodeId(7), ShardId(1), &mut Chance::new([3; 32]));
        let record = Record {
            generation: 3,
            sid,
            user: "u",
            namespace: "/chat",
            automatic: 2,
            epoch: 1 << 47,
            connected_at: 300,
            seats: vec![
                Seat { room: "tenant:t", joined_at: 300, filter: None },
                Seat {
                    room: "r",
                    joined_at: 301,
                    filter: Some(Wants { types: vec!["a.*"], entities: vec![("project", "7")] }),
                },
            ],
            data: None,
        };
        let with_data = Record { data: Some(b"\x80"), ..record.clone() };
        assert_eq!(Record::decode(&with_data.encode()), Ok(with_data.clone()));
        let bytes = record.encode();
        assert_eq!(Record::decode(&bytes), Ok(record));
        for cut in 0..bytes.len() {
            assert!(Record::decode(&bytes[..cut]).is_err(), "{cut}");
        }
        assert_eq!(Record::decode(&[&bytes[..], &[1]].concat()), Err(Broken::Length));
    }
}
