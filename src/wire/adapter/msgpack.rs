//! MessagePack as JavaScript's packers write it, into JSON with attachments, and back.
//!
//! ```text
//! notepack.io 3      Buffer: bin           ArrayBuffer, typed array: ext 0 (8, 16, 32)    Date: ext -1 (before 3: fixext 8 of type 0)
//!                    undefined: fixext 1 of type 0    integers: the shortest, beyond 32 bits uint 64 and int 64    others: float 64
//! @msgpack/msgpack   Buffer, typed array: bin         Date: ext -1     undefined: nil     integers beyond 2^53: float 64
//! ```
//!
//! Invariants: [`validate`] has seen the whole value before anything is made of it: whole, alone, of bounded depth, every extension known, every
//! map's key a text or a number. Reading allocates nothing for a length that is only claimed. JSON is at most 12 times as long (half of an empty
//! binary part, of which there are few), and written from a validated text, MessagePack is never longer than 5 times.

use super::Broken;
use crate::base::limit::{ATTACHMENTS_MAX, JSON_DEPTH_MAX};
use crate::wire::{json, socket_io};
use rmp::{Marker, encode};
use smallvec::SmallVec;

/// JavaScript counts to here exactly.
pub(super) const EXACT_MAX: f64 = (1u64 << 53) as f64;
/// Milliseconds from 1970 to the first and the last day that JavaScript knows.
const DATE_MAX: i64 = 8_640_000_000_000_000;

/// What begins somewhere: a whole value, or a list's length.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Item<'a> {
    Nil,
    Undefined,
    Bool(bool),
    Unsigned(u64),
    /// Below zero.
    Signed(i64),
    Float(f64),
    /// Most likely UTF-8.
    Text(&'a [u8]),
    Binary(&'a [u8]),
    /// Milliseconds since 1970; none: no date, as JavaScript has it.
    Date(Option<i64>),
    Array(u32),
    Map(u32),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8], Broken> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Broken::Length)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Broken> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Broken::Length)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, Broken> {
        self.array().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Result<u16, Broken> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, Broken> {
        self.array().map(u32::from_be_bytes)
    }

    /// The next value, or the head of the next list.
    pub(super) fn item(&mut self) -> Result<Item<'a>, Broken> {
        let signed = |number: i64| match u64::try_from(number) {
            Ok(number) => Item::Unsigned(number),
            Err(_) => Item::Signed(number),
        };
        Ok(match Marker::from_u8(self.u8()?) {
            Marker::Null => Item::Nil,
            Marker::True => Item::Bool(true),
            Marker::False => Item::Bool(false),
            Marker::FixPos(number) => Item::Unsigned(number.into()),
            Marker::FixNeg(number) => Item::Signed(number.into()),
            Marker::U8 => Item::Unsigned(self.u8()?.into()),
            Marker::U16 => Item::Unsigned(self.u16()?.into()),
            Marker::U32 => Item::Unsigned(self.u32()?.into()),
            Marker::U64 => Item::Unsigned(u64::from_be_bytes(self.array()?)),
            Marker::I8 => signed(i8::from_be_bytes(self.array()?).into()),
            Marker::I16 => signed(i16::from_be_bytes(self.array()?).into()),
            Marker::I32 => signed(i32::from_be_bytes(self.array()?).into()),
            Marker::I64 => signed(i64::from_be_bytes(self.array()?)),
            Marker::F32 => Item::Float(f32::from_be_bytes(self.array()?).into()),
            Marker::F64 => Item::Float(f64::from_be_bytes(self.array()?)),
            Marker::FixStr(count) => Item::Text(self.bytes(count.into())?),
            Marker::Str8 => self.u8().and_then(|count| self.bytes(count.into())).map(Item::Text)?,
            Marker::Str16 => self.u16().and_then(|count| self.bytes(count.into())).map(Item::Text)?,
            Marker::Str32 => self.u32().and_then(|count| self.bytes(count as usize)).map(Item::Text)?,
            Marker::Bin8 => self.u8().and_then(|count| self.bytes(count.into())).map(Item::Binary)?,
            Marker::Bin16 => self.u16().and_then(|count| self.bytes(count.into())).map(Item::Binary)?,
            Marker::Bin32 => self.u32().and_then(|count| self.bytes(count as usize)).map(Item::Binary)?,
            Marker::FixArray(count) => Item::Array(count.into()),
            Marker::Array16 => Item::Array(self.u16()?.into()),
            Marker::Array32 => Item::Array(self.u32()?),
            Marker::FixMap(count) => Item::Map(count.into()),
            Marker::Map16 => Item::Map(self.u16()?.into()),
            Marker::Map32 => Item::Map(self.u32()?),
            Marker::FixExt1 => self.fixed(1)?,
            Marker::FixExt2 => self.fixed(2)?,
            Marker::FixExt4 => self.fixed(4)?,
            Marker::FixExt8 => self.fixed(8)?,
            Marker::FixExt16 => self.fixed(16)?,
            Marker::Ext8 => self.u8().and_then(|count| self.extension(count.into()))?,
            Marker::Ext16 => self.u16().and_then(|count| self.extension(count.into()))?,
            Marker::Ext32 => self.u32().and_then(|count| self.extension(count as usize))?,
            Marker::Reserved => return Err(Broken::Syntax),
        })
    }

    /// An extension whose length is in its first byte. Of type 0, notepack has two: one byte is undefined, eight were a date before version 3.
    fn fixed(&mut self, count: usize) -> Result<Item<'a>, Broken> {
        let (kind, bytes) = (self.u8()? as i8, self.bytes(count)?);
        match (kind, bytes) {
            (0, [_]) => Ok(Item::Undefined),
            (0, &[a, b, c, d, e, f, g, h]) => Ok(Item::Date(in_range(i64::from_be_bytes([a, b, c, d, e, f, g, h])))),
            (-1, bytes) => timestamp(bytes),
            _ => Err(Broken::Kind),
        }
    }

    /// One with a length of its own: of type 0, an ArrayBuffer.
    fn extension(&mut self, count: usize) -> Result<Item<'a>, Broken> {
        let (kind, bytes) = (self.u8()? as i8, self.bytes(count)?);
        match kind {
            0 => Ok(Item::Binary(bytes)),
            -1 => timestamp(bytes),
            _ => Err(Broken::Kind),
        }
    }

    /// Passes a whole value, however deep it is.
    pub(super) fn skip(&mut self) -> Result<(), Broken> {
        let mut left = 1u64;
        while left > 0 {
            left -= 1;
            // Each round takes a byte at least, so that a length without a content ends it.
            left += match self.item()? {
                Item::Array(count) => count.into(),
                Item::Map(count) => 2 * u64::from(count),
                _ => 0,
            };
        }
        Ok(())
    }
}

/// The timestamp extension: 32, 64 or 96 bits of seconds and nanoseconds.
fn timestamp(bytes: &[u8]) -> Result<Item<'static>, Broken> {
    let (seconds, nanoseconds) = match *bytes {
        [a, b, c, d] => (i64::from(u32::from_be_bytes([a, b, c, d])), 0),
        [a, b, c, d, e, f, g, h] => {
            let both = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
            ((both & ((1 << 34) - 1)) as i64, both >> 34)
        }
        [a, b, c, d, e, f, g, h, i, j, k, l] => {
            let nanoseconds = u32::from_be_bytes([a, b, c, d]);
            (i64::from_be_bytes([e, f, g, h, i, j, k, l]), nanoseconds.into())
        }
        _ => return Err(Broken::Kind),
    };
    let ms = seconds.checked_mul(1000).and_then(|ms| ms.checked_add_unsigned(nanoseconds / 1_000_000));
    Ok(Item::Date(ms.and_then(in_range)))
}

fn in_range(ms: i64) -> Option<i64> {
    (-DATE_MAX..=DATE_MAX).contains(&ms).then_some(ms)
}

/// Whether this is one value, as the invariants have it, and nothing else.
pub(super) fn validate(message: &[u8]) -> Result<(), Broken> {
    struct Level {
        left: u64,
        map: bool,
    }
    let mut reader = Reader::new(message);
    let mut levels: SmallVec<[Level; 16]> = SmallVec::new();
    loop {
        let item = reader.item()?;
        if let Some(level) = levels.last_mut() {
            let key = level.map && level.left % 2 == 0;
            level.left -= 1;
            if key && !matches!(item, Item::Text(_) | Item::Unsigned(_) | Item::Signed(_)) {
                return Err(Broken::Field);
            }
        }
        if let Item::Array(count) | Item::Map(count) = item {
            if levels.len() == JSON_DEPTH_MAX {
                return Err(Broken::Deep);
            }
            let map = matches!(item, Item::Map(_));
            levels.push(Level { left: u64::from(count) << u32::from(map), map });
        }
        while levels.last().is_some_and(|level| level.left == 0) {
            levels.pop();
        }
        if levels.is_empty() {
            return if reader.rest.is_empty() { Ok(()) } else { Err(Broken::Length) };
        }
    }
}

/// Writes validated values as JSON, one after the other, joined by commas.
pub(super) struct ToJson<'a> {
    reader: Reader<'a>,
    out: Vec<u8>,
    attachments: Vec<Vec<u8>>,
}

impl<'a> ToJson<'a> {
    pub(super) fn new(reader: Reader<'a>) -> ToJson<'a> {
        ToJson { reader, out: Vec::new(), attachments: Vec::new() }
    }

    /// The next value.
    pub(super) fn value(&mut self) -> Result<(), Broken> {
        if !self.out.is_empty() {
            self.out.push(b',');
        }
        self.write(0).map(drop)
    }

    pub(super) fn done(self) -> Result<(String, Vec<Vec<u8>>), Broken> {
        // What was written is UTF-8; the check costs less than a word on why it may be left out.
        Ok((String::from_utf8(self.out).map_err(|_| Broken::Syntax)?, self.attachments))
    }

    /// Whether there was a value: in place of undefined stands `null`, which a map takes back.
    fn write(&mut self, depth: usize) -> Result<bool, Broken> {
        if depth > JSON_DEPTH_MAX {
            return Err(Broken::Deep);
        }
        match self.reader.item()? {
            Item::Nil | Item::Date(None) => self.out.extend_from_slice(b"null"),
            Item::Undefined => {
                self.out.extend_from_slice(b"null");
                return Ok(false);
            }
            Item::Bool(true) => self.out.extend_from_slice(b"true"),
            Item::Bool(false) => self.out.extend_from_slice(b"false"),
            Item::Unsigned(number) => json::write_number(&mut self.out, number),
            Item::Signed(number) => write_signed(&mut self.out, number),
            Item::Float(number) => write_float(&mut self.out, number),
            Item::Text(text) => json::write_string(&mut self.out, &String::from_utf8_lossy(text)),
            Item::Date(Some(ms)) => write_date(&mut self.out, ms),
            Item::Binary(bytes) => {
                if self.attachments.len() == ATTACHMENTS_MAX {
                    return Err(Broken::Attachments);
                }
                socket_io::placeholder(&mut self.out, self.attachments.len());
                self.attachments.push(bytes.to_vec());
            }
            Item::Array(count) => {
                self.out.push(b'[');
                for nth in 0..count {
                    if nth > 0 {
                        self.out.push(b',');
                    }
                    self.write(depth + 1)?;
                }
                self.out.push(b']');
            }
            Item::Map(count) => {
                self.out.push(b'{');
                let start = self.out.len();
                for _ in 0..count {
                    let before = self.out.len();
                    if before > start {
                        self.out.push(b',');
                    }
                    match self.reader.item()? {
                        Item::Text(key) => json::write_string(&mut self.out, &String::from_utf8_lossy(key)),
                        Item::Unsigned(key) => json::write_string(&mut self.out, &key.to_string()),
                        Item::Signed(key) => json::write_string(&mut self.out, &key.to_string()),
                        _ => return Err(Broken::Field),
                    }
                    self.out.push(b':');
                    if !self.write(depth + 1)? {
                        self.out.truncate(before);
                    }
                }
                self.out.push(b'}');
            }
        }
        Ok(true)
    }
}

fn write_signed(out: &mut Vec<u8>, number: i64) {
    // Writing to a vector cannot fail.
    let _ = serde_json::to_writer(out, &number);
}

fn write_float(out: &mut Vec<u8>, number: f64) {
    if number.fract() == 0.0 && number.abs() <= EXACT_MAX {
        write_signed(out, number as i64);
    } else {
        // What is not finite becomes null, as in JavaScript.
        let _ = serde_json::to_writer(out, &number);
    }
}

/// `Date.prototype.toISOString`: years beyond four digits have a sign and six.
fn write_date(out: &mut Vec<u8>, ms: i64) {
    use std::io::Write;
    let (days, ms) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    // Days since 0000-03-01, in eras of 400 years (146,097 days), whose years begin in March so that the leap day is their last.
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let _ = match year {
        0..=9999 => write!(out, "\"{year:04}"),
        _ => write!(out, "\"{}{:06}", if year < 0 { '-' } else { '+' }, year.abs()),
    };
    let (seconds, ms) = (ms / 1000, ms % 1000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let _ = write!(out, "-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{ms:03}Z\"");
}

/// A list of a JSON text: its length, and the attachment that stands in its place where it is a placeholder.
struct List {
    count: u32,
    attachment: Option<usize>,
}

/// What is known of a list while its values go by.
struct Level {
    list: usize,
    object: bool,
    key: Key,
    placeholder: bool,
    number: Option<usize>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Key {
    #[default]
    Awaited,
    Placeholder,
    Number,
    Other,
}

/// Appends a validated JSON text as MessagePack, with bytes for the placeholders that name one of `attachments`.
///
/// Twice through the text, whatever its depth: a list's length stands before it, so the lists are counted first.
pub(super) fn write(out: &mut Vec<u8>, text: &str, attachments: &[Vec<u8>]) {
    let lists = count(text, attachments.len());
    let mut tokens = json::tokens(text);
    let mut at = 0;
    while let Some(token) = tokens.next() {
        match token {
            json::Token::Open(bracket) => {
                let Some(list) = lists.get(at) else { return };
                at += 1;
                if let Some(bytes) = list.attachment.and_then(|number| attachments.get(number)) {
                    let _ = encode::write_bin(out, bytes);
                    let mut depth = 1usize;
                    while depth > 0 {
                        match tokens.next() {
                            Some(json::Token::Open(_)) => (at, depth) = (at + 1, depth + 1),
                            Some(json::Token::Close(_)) => depth -= 1,
                            Some(_) => {}
                            None => return,
                        }
                    }
                } else if bracket == b'{' {
                    let _ = encode::write_map_len(out, list.count / 2);
                } else {
                    let _ = encode::write_array_len(out, list.count);
                }
            }
            json::Token::Close(_) => {}
            json::Token::String(raw) => {
                let _ = encode::write_str(out, &json::string(raw).unwrap_or_default());
            }
            json::Token::Scalar(raw) => write_scalar(out, raw),
        }
    }
}

fn write_scalar(out: &mut Vec<u8>, raw: &str) {
    let exact = |number: i64| number.unsigned_abs() <= 1 << 53;
    let _ = match (raw, raw.parse::<i64>()) {
        ("true", _) => encode::write_bool(out, true).is_ok(),
        ("false", _) => encode::write_bool(out, false).is_ok(),
        (_, Ok(number)) if exact(number) => encode::write_sint(out, number).is_ok(),
        _ => match raw.parse::<f64>() {
            // The same number, however it is written.
            Ok(number) if number.fract() == 0.0 && number.abs() <= EXACT_MAX => {
                encode::write_sint(out, number as i64).is_ok()
            }
            Ok(number) => encode::write_f64(out, number).is_ok(),
            Err(_) => encode::write_nil(out).is_ok(),
        },
    };
}

fn count(text: &str, attachments: usize) -> Vec<List> {
    let (mut lists, mut levels) = (Vec::<List>::new(), SmallVec::<[Level; 16]>::new());
    for token in json::tokens(text) {
        if let json::Token::Close(_) = token {
            if let Some(level) = levels.pop()
                && level.placeholder
            {
                lists[level.list].attachment = level.number.filter(|number| *number < attachments);
            }
            continue;
        }
        if let Some(level) = levels.last_mut() {
            let list = &mut lists[level.list];
            list.count = list.count.saturating_add(1);
            if level.object && attachments > 0 {
                level.see(token);
            }
        }
        if let json::Token::Open(bracket) = token {
            let list = lists.len();
            lists.push(List { count: 0, attachment: None });
            let object = bracket == b'{';
            levels.push(Level { list, object, key: Key::Awaited, placeholder: false, number: None });
        }
    }
    lists
}

impl Level {
    /// A key or its value: clients read a placeholder by these two members, whatever else is there.
    fn see(&mut self, token: json::Token<'_>) {
        let scalar = if let json::Token::Scalar(raw) = token { raw } else { "" };
        self.key = match self.key {
            Key::Awaited => match token {
                json::Token::String(raw) => match json::string(raw).as_deref() {
                    Some("_placeholder") => Key::Placeholder,
                    Some("num") => Key::Number,
                    _ => Key::Other,
                },
                _ => Key::Other,
            },
            Key::Placeholder => {
                self.placeholder = scalar == "true";
                Key::Awaited
            }
            Key::Number => {
                self.number = scalar.parse().ok();
                Key::Awaited
            }
            Key::Other => Key::Awaited,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to_json(bytes: &[u8]) -> Result<(String, Vec<Vec<u8>>), Broken> {
        validate(bytes)?;
        let mut json = ToJson::new(Reader::new(bytes));
        json.value()?;
        json.done()
    }

    #[test]
    fn values_become_what_json_stringify_makes_of_them() {
        let table: &[(&[u8], &str)] = &[
            (b"\xc0", "null"),
            (b"\xc3", "true"),
            (b"\x7f", "127"),
            (b"\xe0", "-32"),
            (b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", "18446744073709551615"),
            (b"\xd3\x80\0\0\0\0\0\0\0", "-9223372036854775808"),
            (b"\xd0\x05", "5"),
            (b"\xca\x3f\xc0\0\0", "1.5"),
            (b"\xcb\x40\x14\0\0\0\0\0\0", "5"),
            (b"\xcb\x80\0\0\0\0\0\0\0", "0"),
            (b"\xcb\x7f\xf0\0\0\0\0\0\0", "null"),
            (b"\xcb\x7f\xf8\0\0\0\0\0\0", "null"),
            (b"\xa2\xc3\xa9", "\"é\""),
            (b"\xa1\xff", "\"\u{fffd}\""),
            (b"\xa2\"\n", r#""\"\n""#),
            (b"\xd4\0\0", "null"),
            (b"\x92\xd4\0\0\x01", "[null,1]"),
            (b"\x83\xa1a\xd4\0\0\xa1b\x01\xa1c\xd4\0\0", r#"{"b":1}"#),
            (b"\x81\x07\xc0", r#"{"7":null}"#),
            // Dates: fixext 8 of type 0 (notepack 2), timestamps of 32, 64, 96 bits.
            (b"\xd7\0\0\0\x01\x8b\xcf\xe5\x68\x7b", "\"2023-11-14T22:13:20.123Z\""),
            (b"\xd6\xff\0\0\0\0", "\"1970-01-01T00:00:00.000Z\""),
            (b"\xd7\xff\x1d\x53\x53\x00\x65\x53\xf1\x00", "\"2023-11-14T22:13:20.123Z\""),
            (b"\xc7\x0c\xff\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", "\"1969-12-31T23:59:59.000Z\""),
            (b"\xd7\0\x00\x1e\xb2\x08\xc2\xdc\x00\x00", "\"+275760-09-13T00:00:00.000Z\""),
            (b"\xd7\0\x00\x1e\xb2\x08\xc2\xdc\x00\x01", "null"),
            (b"\xd7\0\xff\xe1\x4d\xf7\x3d\x24\x00\x00", "\"-271821-04-20T00:00:00.000Z\""),
            (b"\xc7\x0c\xff\0\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", "null"),
        ];
        for (bytes, want) in table {
            assert_eq!(to_json(bytes), Ok(((*want).to_owned(), vec![])), "{bytes:02x?}");
        }
        let (text, attachments) = to_json(b"\x93\xc4\x02\x01\x02\x81\xa1a\xc7\x01\0\x03\xc5\0\0").unwrap();
        let one = |number| format!("{{\"_placeholder\":true,\"num\":{number}}}");
        assert_eq!(text, format!("[{},{{\"a\":{}}},{}]", one(0), one(1), one(2)));
        assert_eq!(attachments, [vec![1, 2], vec![3], vec![]]);
    }

    #[test]
    fn what_is_not_one_value_is_refused() {
        let deep = |depth: usize| [vec![0x91; depth], vec![0xc0]].concat();
        assert!(to_json(&deep(JSON_DEPTH_MAX)).is_ok());
        let eleven = [&[0x9b][..], &[0xc4, 0].repeat(11)].concat();
        let table: &[(&[u8], Broken)] = &[
            (b"", Broken::Length),
            (b"\xc1", Broken::Syntax),
            (b"\x01\x02", Broken::Length),
            (b"\x91", Broken::Length),
            (b"\xdd\xff\xff\xff\xff", Broken::Length),
            (b"\xdf\xff\xff\xff\xff\xa0", Broken::Length),
            (b"\xdb\xff\xff\xff\xff", Broken::Length),
            (b"\xc6\xff\xff\xff\xff", Broken::Length),
            (b"\xc9\xff\xff\xff\xff\0", Broken::Length),
            (b"\xa2a", Broken::Length),
            (b"\xcf\0", Broken::Length),
            (b"\x81\xc0\x01", Broken::Field),
            (b"\x81\x90\x01", Broken::Field),
            (b"\xd4\x05\0", Broken::Kind),
            (b"\xd5\0\0\0", Broken::Kind),
            (b"\xc7\x01\x05\0", Broken::Kind),
            (b"\xc7\x03\xff\0\0\0", Broken::Kind),
            (&deep(JSON_DEPTH_MAX + 1), Broken::Deep),
            (&deep(100_000), Broken::Deep),
            (&eleven, Broken::Attachments),
        ];
        for (bytes, want) in table {
            assert_eq!(to_json(bytes), Err(*want), "{:02x?}", &bytes[..bytes.len().min(16)]);
        }
    }

    #[test]
    fn json_becomes_the_shortest_messagepack() {
        let table: &[(&str, &[u8])] = &[
            ("null", b"\xc0"),
            ("true", b"\xc3"),
            ("127", b"\x7f"),
            ("128", b"\xcc\x80"),
            ("65536", b"\xce\0\x01\0\0"),
            ("9007199254740992", b"\xcf\0\x20\0\0\0\0\0\0"),
            ("9007199254740994", b"\xcb\x43\x40\0\0\0\0\0\x01"),
            ("1e3", b"\xcd\x03\xe8"),
            ("-0", b"\0"),
            ("-32", b"\xe0"),
            ("-129", b"\xd1\xff\x7f"),
            ("-4294967297", b"\xd3\xff\xff\xff\xfe\xff\xff\xff\xff"),
            ("1.5", b"\xcb\x3f\xf8\0\0\0\0\0\0"),
            ("1e999", b"\xcb\x7f\xf0\0\0\0\0\0\0"),
            (r#" [ "a\n" , {"k":[{}]} , [] ]"#, b"\x93\xa2a\n\x81\xa1k\x91\x80\x90"),
            (r#"["\ud83d"]"#, b"\x91\xa3\xef\xbf\xbd"),
            // Placeholders: with more members, out of range, not true.
            (r#"{"_placeholder":true,"num":0}"#, b"\xc4\x02\x01\x02"),
            (r#"[{"num":1,"x":{"_placeholder":[]},"\u005fplaceholder":true},7]"#, b"\x92\xc4\0\x07"),
            (r#"{"_placeholder":true,"num":2}"#, b"\x82\xac_placeholder\xc3\xa3num\x02"),
            (r#"{"_placeholder":false,"num":0}"#, b"\x82\xac_placeholder\xc2\xa3num\0"),
            (r#"["_placeholder",true,"num",0]"#, b"\x94\xac_placeholder\xc3\xa3num\0"),
        ];
        for (text, want) in table {
            let mut out = Vec::new();
            write(&mut out, text, &[vec![1, 2], vec![]]);
            assert_eq!(out, *want, "{text}");
        }
        let mut out = Vec::new();
        write(&mut out, r#"{"_placeholder":true,"num":0}"#, &[]);
        assert_eq!(out, b"\x82\xac_placeholder\xc3\xa3num\0", "without attachments nothing stands for one");
    }
}
