//! What a home wants of the connections that one shard lends it: all of a turn in one message, in order.
//!
//! ```text
//! items   bind c7 | upgrade c7 | write c7 0..80 | write c9 0..80 | write c9 80..95 | close c4 ..
//! bytes   [ a frame | the end of another ]           a frame lies here once, however many connections get it
//! ```
//!
//! Invariant: bounded. [`Freight::is_full`] stops the home from putting more bytes in; what is not bytes is at most a few items for each
//! connection.

use crate::base::id::ConnKey;
use crate::wire::http::Response;

/// Bytes and writes after which connections wait for the next message.
const BYTES_MAX: usize = 4 * 1024 * 1024;
const ITEMS_MAX: usize = 64 * 1024;

#[derive(Default)]
pub struct Freight {
    pub items: Vec<Item>,
    pub bytes: Vec<u8>,
    /// What was packed last, of frames and of bytes put together.
    frame: Option<(Same, Span)>,
    joined: Option<(Same, Span)>,
}

/// One thing to do, for a connection under its lender's key.
#[derive(Debug)]
pub enum Item {
    /// The home knows it, as `home`.
    Bind {
        conn: ConnKey,
        home: ConnKey,
    },
    Upgrade {
        conn: ConnKey,
    },
    Stream {
        conn: ConnKey,
    },
    /// `whole`: the last byte ends a frame.
    Write {
        conn: ConnKey,
        span: Span,
        whole: bool,
    },
    /// The last thing the home wants of it.
    Answer {
        conn: ConnKey,
        response: Box<Response>,
    },
    /// The last thing the home wants of it.
    Close {
        conn: ConnKey,
        closing: Box<Closing>,
    },
}

const _: () = assert!(size_of::<Item>() <= 24, "one for each delivery");

impl Item {
    pub fn conn(&self) -> ConnKey {
        match self {
            Item::Bind { conn, .. }
            | Item::Upgrade { conn }
            | Item::Stream { conn }
            | Item::Write { conn, .. }
            | Item::Answer { conn, .. }
            | Item::Close { conn, .. } => *conn,
        }
    }
}

/// As [`Output::Close`](crate::shard::io::Output::Close).
#[derive(Debug)]
pub struct Closing {
    pub rest: Vec<u8>,
    pub number: u16,
    pub text: &'static str,
}

/// A range of a freight's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub start: u32,
    pub len: u32,
}

impl Span {
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..][..self.len as usize]
    }
}

/// Which bytes a write has: neighbours in a room mostly have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Same {
    Never,
    /// The frame at this address, until [`Freight::forget`].
    Frame(usize),
    /// The bytes that were put together as this one.
    Joined(u64),
}

impl Freight {
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.bytes.len() >= BYTES_MAX || self.items.len() >= ITEMS_MAX
    }

    pub fn push(&mut self, item: Item) {
        self.items.push(item);
    }

    pub fn write(&mut self, conn: ConnKey, bytes: &[u8], same: Same, whole: bool) {
        let packed = match same {
            Same::Never => &mut None,
            Same::Frame(_) => &mut self.frame,
            Same::Joined(_) => &mut self.joined,
        };
        let span = match *packed {
            Some((as_before, span)) if as_before == same && span.len as usize == bytes.len() => span,
            _ => {
                let span = Span { start: self.bytes.len() as u32, len: bytes.len() as u32 };
                self.bytes.extend_from_slice(bytes);
                *packed = Some((same, span));
                span
            }
        };
        debug_assert_eq!(span.of(&self.bytes), bytes, "what is taken for the same is the same");
        self.items.push(Item::Write { conn, span, whole });
    }

    /// Addresses of frames may mean others now.
    pub fn forget(&mut self) {
        self.frame = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::slab::Key;

    #[test]
    fn a_frame_is_packed_once_and_read_as_it_was_written() {
        let conn = |index| ConnKey::new(index, 0);
        let mut freight = Freight::default();
        assert!(freight.is_empty());
        for (index, text, same, whole) in [
            (0, "hello", Same::Frame(8), true),
            (1, "hello", Same::Frame(8), true),
            (2, "hellohow", Same::Joined(1), true),
            (3, "hello", Same::Frame(8), true),
            (4, "hellohow", Same::Joined(1), true),
            (4, "hell", Same::Never, false),
            (4, "o", Same::Never, true),
            // As long as another, and not the same.
            (5, "HELLO", Same::Frame(16), true),
            (6, "HELLOhow", Same::Joined(2), true),
        ] {
            freight.write(conn(index), text.as_bytes(), same, whole);
            let Some(Item::Write { conn: to, span, whole: ends }) = freight.items.last() else { panic!("a write") };
            assert_eq!((*to, span.of(&freight.bytes), *ends), (conn(index), text.as_bytes(), whole));
        }
        assert_eq!(freight.bytes, b"hellohellohowhelloHELLOHELLOhow");
        freight.forget();
        freight.write(conn(7), b"other", Same::Frame(16), true);
        assert!(freight.bytes.ends_with(b"other"), "an address means what is there now");
        assert!(!freight.is_full());
    }

    #[test]
    fn it_is_full_by_bytes_and_by_writes() {
        let mut bytes = Freight::default();
        let long = vec![b'x'; BYTES_MAX / 2];
        bytes.write(ConnKey::new(0, 0), &long, Same::Never, false);
        assert!(!bytes.is_full());
        bytes.write(ConnKey::new(0, 0), &long, Same::Never, true);
        assert!(bytes.is_full());
        let mut writes = Freight::default();
        for index in 0..ITEMS_MAX as u32 {
            assert!(!writes.is_full());
            writes.write(ConnKey::new(index, 0), b"x", Same::Joined(1), true);
        }
        assert!(writes.is_full() && writes.bytes == b"x");
    }
}
