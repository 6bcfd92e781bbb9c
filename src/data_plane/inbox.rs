//! What a shard's connections have heard since its last turn, in the order they heard it.
//!
//! Messages are copied into two arenas (text stays known to be UTF-8) and entries name ranges of them, so a message costs no allocation.
//!
//! Invariant: bounded. [`Inbox::is_full`] stops the connections from reading, so a turn takes at most [`ENTRIES_MAX`] entries or
//! [`BYTES_MAX`] bytes and what one more read of each arena's last writer holds. All of it is taken in one turn: a connection that moves
//! away at a turn's end has nothing left here.

use crate::base::id::{ConnKey, ReplyTo, Sid};
use crate::shard::io::{Input, Message};

/// Entries after which connections wait for the next turn: at 1 us each a turn stays within a few milliseconds.
pub const ENTRIES_MAX: usize = 4096;
/// Bytes after which connections wait for the next turn.
pub const BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of an arena that are kept for the next turn.
const KEPT_BYTES: usize = 256 * 1024;

#[derive(Default)]
pub struct Inbox {
    entries: Vec<Entry>,
    text: String,
    binary: Vec<u8>,
}

enum Entry {
    /// The end of its text in the arena; it begins where the one before ends.
    Text {
        conn: ConnKey,
        end: usize,
    },
    Binary {
        conn: ConnKey,
        end: usize,
    },
    Post {
        from: ReplyTo,
        sid: Sid,
        end: usize,
    },
    Input(Input<'static>),
}

impl Inbox {
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.entries.len() >= ENTRIES_MAX || self.text.len() + self.binary.len() >= BYTES_MAX
    }

    pub fn text(&mut self, conn: ConnKey, text: &str) {
        self.text.push_str(text);
        self.entries.push(Entry::Text { conn, end: self.text.len() });
    }

    pub fn binary(&mut self, conn: ConnKey, bytes: &[u8]) {
        self.binary.extend_from_slice(bytes);
        self.entries.push(Entry::Binary { conn, end: self.binary.len() });
    }

    pub fn post(&mut self, from: ReplyTo, sid: Sid, body: &str) {
        self.text.push_str(body);
        self.entries.push(Entry::Post { from, sid, end: self.text.len() });
    }

    pub fn push(&mut self, input: Input<'static>) {
        self.entries.push(Entry::Input(input));
    }

    /// Hands over everything, in order, and is empty then.
    pub fn drain(&mut self, mut take: impl FnMut(Input<'_>)) {
        let (mut text_at, mut binary_at) = (0, 0);
        for entry in self.entries.drain(..) {
            match entry {
                Entry::Text { conn, end } => {
                    take(Input::Message { conn, message: Message::Text(&self.text[text_at..end]) });
                    text_at = end;
                }
                Entry::Binary { conn, end } => {
                    take(Input::Message { conn, message: Message::Binary(&self.binary[binary_at..end]) });
                    binary_at = end;
                }
                Entry::Post { from, sid, end } => {
                    take(Input::Post { from, sid, body: &self.text[text_at..end] });
                    text_at = end;
                }
                Entry::Input(input) => take(input),
            }
        }
        self.text.clear();
        self.text.shrink_to(KEPT_BYTES);
        self.binary.clear();
        self.binary.shrink_to(KEPT_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{id::ShardId, slab::Key};
    use crate::shard::io::Hangup;

    #[test]
    fn what_comes_out_is_what_went_in() {
        let (a, b) = (ConnKey::new(1, 0), ConnKey::new(2, 0));
        let sid = Sid::parse("01234567890123456789").unwrap();
        let mut inbox = Inbox::default();
        for _ in 0..2 {
            inbox.text(a, "eins");
            inbox.binary(b, &[1, 2]);
            inbox.text(b, "");
            inbox.post(ReplyTo { shard: ShardId(0), conn: a }, sid, "zwei é");
            inbox.binary(a, &[]);
            inbox.push(Input::Hangup { conn: b, cause: Hangup::Closed });
            inbox.binary(a, &[3]);
            inbox.text(a, "drei");
            let mut got = Vec::new();
            inbox.drain(|input| {
                got.push(match input {
                    Input::Message { conn, message: Message::Text(text) } => format!("{} {text}", conn.index()),
                    Input::Message { conn, message: Message::Binary(bytes) } => format!("{} {bytes:?}", conn.index()),
                    Input::Post { body, .. } => format!("post {body}"),
                    Input::Hangup { conn, .. } => format!("{} gone", conn.index()),
                    other => panic!("{other:?}"),
                });
            });
            assert_eq!(got, ["1 eins", "2 [1, 2]", "2 ", "post zwei é", "1 []", "2 gone", "1 [3]", "1 drei"]);
            assert!(inbox.is_empty() && !inbox.is_full());
        }
    }
}
