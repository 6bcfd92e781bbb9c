//! A document as the store keeps it, for every node that writes to it.
//!
//! ```text
//! stored  0..8    epoch: its life                                                            big endian
//!         8..16   mark: drawn anew by each write, so that who writes can say what it has read    "
//!         16      version of this layout, 1
//!         17..21  CRC-32 (IEEE) of what follows                                              big endian
//!         21..    numbers as LEB128, texts with their length before them:
//!                 version, horizon, conflicts ever
//!                 fields: name, value, version, time and user of its stamp, writer, past: since, value
//!                 conflicts: number, time, user, base, writer, fields: name, value
//!                 receipts: key, version, conflict's number (may be missing: a byte 0 or 1 before it)
//! ```
//!
//! Invariants: what was read is a document that writes can go on from without a panic, whatever bytes it came from; a text that is JSON was
//! checked by the node that took it, and the checksum says that it is still that text; one document is always the same bytes but for its mark.

use super::{Conflict, Document, Field, Receipt, Stamp, Was};
use crate::base::{
    limit,
    time::{Instant, UnixMs},
};
use crate::shard::history::Epoch;
use crate::wire::envelope::{
    Broken, VERSION,
    field::{Reader, Writer},
};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Bytes that say which writing of a document this is: its epoch and mark.
pub const HEAD_BYTES: usize = 16;
/// Bytes before the fields.
const FIELDS_AT: usize = HEAD_BYTES + 1 + 4;
/// Versions and conflicts are counted within what doubles hold, and never come near it.
const NUMBER_MAX: u64 = 1 << 53;

/// What is compared: the beginning of what is kept, or nothing where nothing is.
pub fn head(stored: &[u8]) -> &[u8] {
    &stored[..stored.len().min(HEAD_BYTES)]
}

impl Document {
    pub fn encode(&self, mark: u64) -> Box<[u8]> {
        let mut out = Writer(Vec::with_capacity(FIELDS_AT + 64 + self.bytes + self.past_bytes));
        out.0.extend_from_slice(&self.epoch.0.to_be_bytes());
        out.0.extend_from_slice(&mark.to_be_bytes());
        out.byte(VERSION);
        out.0.extend_from_slice(&[0; 4]);
        out.number(self.version);
        out.number(self.horizon);
        out.number(self.conflicts_ever);
        out.list(self.fields.iter(), |out, (name, field)| {
            out.text(name);
            out.text(&field.value);
            out.number(field.version);
            write_stamp(out, &field.stamp);
            out.number(field.writer);
            out.list(field.past.iter(), |out, was| {
                out.number(was.since);
                out.text(&was.value);
            });
        });
        out.list(self.conflicts.iter(), |out, conflict| {
            out.number(conflict.number);
            write_stamp(out, &conflict.stamp);
            out.number(conflict.base);
            out.number(conflict.writer);
            out.list(conflict.fields.iter(), |out, (name, value)| {
                out.text(name);
                out.text(value);
            });
        });
        out.list(self.receipts.iter(), |out, receipt| {
            out.number(receipt.key);
            out.number(receipt.version);
            out.maybe(receipt.kept, Writer::number);
        });
        let mut bytes = out.0;
        let checksum = crc32fast::hash(&bytes[FIELDS_AT..]);
        bytes[FIELDS_AT - 4..FIELDS_AT].copy_from_slice(&checksum.to_be_bytes());
        bytes.into()
    }

    pub fn decode(bytes: &[u8], now: Instant) -> Result<Document, Broken> {
        let (head, fields) = bytes.split_at_checked(FIELDS_AT).ok_or(Broken::Length)?;
        let number = |bytes: &[u8]| bytes.iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
        if head[HEAD_BYTES] != VERSION {
            return Err(Broken::Version);
        }
        if u64::from(crc32fast::hash(fields)) != number(&head[HEAD_BYTES + 1..]) {
            return Err(Broken::Checksum);
        }
        let mut reader = Reader(fields);
        let mut document = Document::new(Epoch(number(&head[..8])), read_count(&mut reader)?, [], now);
        document.horizon = read_up_to(&mut reader, document.version)?;
        document.conflicts_ever = read_count(&mut reader)?;
        for (name, field) in reader.list(|reader| read_field(reader, document.version))? {
            let past: usize = field.past.iter().map(|was| was.value.len() + size_of::<Was>()).sum();
            document.bytes += name.len() + field.value.len();
            document.past_bytes += past;
            if document.fields.insert(name, field).is_some() {
                return Err(Broken::Field);
            }
        }
        document.conflicts = reader.list(|reader| read_conflict(reader, document.conflicts_ever))?;
        let proposed = document.conflicts.iter().flat_map(|conflict| &conflict.fields);
        document.bytes += proposed.map(|(name, value)| name.len() + value.len()).sum::<usize>();
        document.receipts = reader.list(read_receipt)?.into();
        reader.end()?;
        let is_bounded = document.conflicts.len() <= limit::DOCUMENT_CONFLICTS_MAX
            && document.receipts.len() <= limit::DOCUMENT_RECEIPTS_MAX;
        if is_bounded { Ok(document) } else { Err(Broken::Field) }
    }
}

fn write_stamp(out: &mut Writer, stamp: &Stamp) {
    out.number(stamp.at.0);
    out.text(&stamp.user);
}

fn read_up_to(reader: &mut Reader<'_>, most: u64) -> Result<u64, Broken> {
    Some(reader.number()?).filter(|number| *number <= most).ok_or(Broken::Field)
}

fn read_count(reader: &mut Reader<'_>) -> Result<u64, Broken> {
    read_up_to(reader, NUMBER_MAX)
}

fn read_text(reader: &mut Reader<'_>) -> Result<Rc<str>, Broken> {
    reader.text().map(Rc::from)
}

fn read_stamp(reader: &mut Reader<'_>) -> Result<Stamp, Broken> {
    Ok(Stamp { at: UnixMs(read_count(reader)?), user: read_text(reader)? })
}

fn read_field(reader: &mut Reader<'_>, newest: u64) -> Result<(Rc<str>, Field), Broken> {
    let (name, value) = (read_text(reader)?, read_text(reader)?);
    let version = read_up_to(reader, newest)?;
    let (stamp, writer) = (read_stamp(reader)?, reader.number()?);
    let past = reader.list(|reader| Ok(Was { since: read_up_to(reader, version)?, value: read_text(reader)? }))?;
    let rises = past.windows(2).all(|two| two[0].since < two[1].since);
    if !rises || past.last().is_some_and(|last| last.since >= version) {
        return Err(Broken::Field);
    }
    Ok((name, Field { value, version, stamp, writer, past: past.into() }))
}

fn read_conflict(reader: &mut Reader<'_>, ever: u64) -> Result<Conflict, Broken> {
    let number = read_up_to(reader, ever)?;
    let (stamp, base, writer) = (read_stamp(reader)?, read_count(reader)?, reader.number()?);
    let fields = reader.list(|reader| Ok((read_text(reader)?, read_text(reader)?)))?;
    let count = fields.len();
    let fields: BTreeMap<Rc<str>, Rc<str>> = fields.into_iter().collect();
    if fields.is_empty() || fields.len() != count {
        return Err(Broken::Field);
    }
    Ok(Conflict { number, stamp, base, fields, writer })
}

fn read_receipt(reader: &mut Reader<'_>) -> Result<Receipt, Broken> {
    Ok(Receipt { key: reader.number()?, version: read_count(reader)?, kept: reader.maybe(read_count)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::chance::Chance;
    use crate::shard::document::{DocumentRule, Strategy, Update};

    /// A document after some writes, one of each kind.
    fn written(strategy: Strategy, chance: &mut Chance) -> (Document, DocumentRule) {
        let rule =
            DocumentRule { strategy, bytes_max: 300, fields_max: 5, versions_kept: 8, ..DocumentRule::default() };
        let mut document = Document::new(Epoch(7), 40, [("t", "\"x\"")], Instant(0));
        for key in 0..60 {
            let base = document.version() - chance.below(4).min(document.version() - document.horizon);
            let (name, value) =
                (format!("f{}", chance.below(6)), format!("\"{}\"", "é".repeat(chance.below(20) as usize)));
            let stamp = Stamp { at: UnixMs(key), user: "u".into() };
            let fields = vec![(name.as_str().into(), value.as_str())];
            let update = Update { base, epoch: None, fields, stamp, writer: chance.below(3), key };
            // A refusal changes nothing.
            let _ = document.update(&rule, &update);
        }
        (document, rule)
    }

    #[test]
    fn a_document_reads_back_and_goes_on() {
        let mut chance = Chance::new([9; 32]);
        for round in 0..50 {
            let strategy = [Strategy::LastWriteWins, Strategy::Reject, Strategy::Manual][round % 3];
            let (mut document, rule) = written(strategy, &mut chance);
            let bytes = document.encode(5);
            assert_eq!(head(&bytes), [0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 5]);
            let mut again = Document::decode(&bytes, Instant(0)).expect("what was written");
            assert_eq!(
                (again.bytes, again.past_bytes, again.weight()),
                (document.bytes, document.past_bytes, document.weight())
            );
            assert_eq!(again.encode(5), bytes);
            for cut in 0..bytes.len() {
                assert!(Document::decode(&bytes[..cut], Instant(0)).is_err());
            }
            // Whatever comes next is the same for both.
            let (base, stamp) = (document.horizon, Stamp { at: UnixMs(99), user: "v".into() });
            let update = Update { base, epoch: None, fields: vec![("f1".into(), "1")], stamp, writer: 9, key: 999 };
            let (one, other) = (document.update(&rule, &update), again.update(&rule, &update));
            assert_eq!(format!("{one:?}"), format!("{other:?}"));
            assert_eq!(document.encode(6), again.encode(6));
        }
    }

    #[test]
    fn what_no_node_writes_is_refused() {
        let (document, _) = written(Strategy::Manual, &mut Chance::new([2; 32]));
        let bytes = document.encode(1);
        let mut other = bytes.to_vec();
        other[HEAD_BYTES] = 2;
        assert_eq!(Document::decode(&other, Instant(0)).map(drop), Err(Broken::Version));
        let mut other = bytes.to_vec();
        other[FIELDS_AT] ^= 1;
        assert_eq!(Document::decode(&other, Instant(0)).map(drop), Err(Broken::Checksum));
        let sealed = |fields: &[u8]| {
            let mut bytes = vec![0; HEAD_BYTES];
            bytes.push(VERSION);
            bytes.extend_from_slice(&crc32fast::hash(fields).to_be_bytes());
            bytes.extend_from_slice(fields);
            Document::decode(&bytes, Instant(0)).map(|document| document.version())
        };
        assert_eq!(sealed(&[3, 1, 0, 0, 0, 0]), Ok(3));
        for (fields, want) in [
            (&[1, 3, 0, 0, 0, 0][..], Broken::Field),
            (&[3, 1, 0, 1, 1, b'a', 1, b'1', 4, 0, 0, 0, 0, 0, 0], Broken::Field),
            (&[3, 1, 0, 2, 1, b'a', 1, b'1', 2, 0, 0, 0, 0, 1, b'a', 1, b'1', 2, 0, 0, 0, 0, 0, 0], Broken::Field),
            (&[3, 1, 0, 1, 1, b'a', 1, b'1', 2, 0, 0, 0, 1, 2, 1, b'0', 0, 0], Broken::Field),
            (&[3, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0], Broken::Field),
            (&[3, 1, 0, 0, 0, 0, 0], Broken::Length),
        ] {
            assert_eq!(sealed(fields), Err(want), "{fields:?}");
        }
    }
}
