//! What waits to be written: this turn's frames once, and for each session a list of their u16 indices.
//!
//! ```text
//! frames   [ f0 | f1 | f2 | ... ]        encoded once, however many sessions get them
//! queues   session 7: turn [0, 2]        2 bytes a delivery, no allocation up to 6 a turn
//!          session 9: turn [0], backlog  a socket that was full keeps its frames here, up to `outbox_bytes`
//! ```
//!
//! Invariants: a frame once begun is written to its end; a queue's backlog holds at most `outbox_bytes` beyond what was granted to a
//! replay; ephemeral frames are dropped before anything else is.

use crate::wire::engine_io;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::rc::Rc;

/// Bytes handed to one write of a session that has a backlog.
const WRITE_BYTES_MAX: usize = 256 * 1024;
/// Bytes of one long-polling answer, beyond its first packet.
const POLL_BYTES_MAX: usize = 1_000_000;

/// One encoded message: a WebSocket header and its payload; long-polling uses the payload alone.
#[derive(Debug)]
pub struct Frame {
    bytes: Box<[u8]>,
    /// Length of the WebSocket header in front; 0 for server-sent events.
    header: u8,
    binary: bool,
}

impl Frame {
    pub fn text(payload: &[u8]) -> Frame {
        Frame::new(0x81, payload)
    }

    pub fn binary(payload: &[u8]) -> Frame {
        Frame { binary: true, ..Frame::new(0x82, payload) }
    }

    /// A WebSocket ping, for sessions without a heartbeat of their own.
    pub fn ping() -> Frame {
        Frame::new(0x89, b"")
    }

    /// Bytes as they are: a server-sent event.
    pub fn raw(payload: &[u8]) -> Frame {
        Frame { bytes: payload.into(), header: 0, binary: false }
    }

    /// RFC 6455 section 5.2; a server's frames are unmasked, so the same bytes go to every session.
    fn new(first: u8, payload: &[u8]) -> Frame {
        let mut header = SmallVec::<[u8; 10]>::from_slice(&[first]);
        match payload.len() {
            len @ 0..126 => header.push(len as u8),
            len @ 126..0x1_0000 => {
                header.push(126);
                header.extend_from_slice(&(len as u16).to_be_bytes());
            }
            len => {
                header.push(127);
                header.extend_from_slice(&(len as u64).to_be_bytes());
            }
        }
        // Of its exact size, so that it becomes a box as it is.
        Frame { header: header.len() as u8, bytes: [&*header, payload].concat().into(), binary: false }
    }

    pub fn payload(&self) -> &[u8] {
        &self.bytes[usize::from(self.header)..]
    }

    /// A packet as long-polling carries it, for a WebSocket.
    pub fn of_poll_packet(packet: &[u8]) -> Frame {
        match std::str::from_utf8(packet).map(engine_io::decode) {
            Ok(Ok(engine_io::Packet::Binary(bytes))) => Frame::binary(&bytes),
            _ => Frame::text(packet),
        }
    }

    /// Header and payload.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The packet as long-polling carries it.
    fn poll_packet(&self, out: &mut Vec<u8>) {
        match self.binary {
            true => engine_io::encode_base64(out, self.payload()),
            false => out.extend_from_slice(self.payload()),
        }
    }
}

#[derive(Clone)]
struct Waiting {
    frame: Rc<Frame>,
    ephemeral: bool,
}

/// What one session has waiting. Idle: 40 bytes, nothing on the heap.
#[derive(Default)]
pub struct Queue {
    turn: SmallVec<[u16; 8]>,
    backlog: Option<Box<Backlog>>,
    /// Bytes of the last answer to [`pending`](Outbox::pending): others may have come before it is known how many of them were taken.
    offered: u32,
    /// In the list of sessions to write this turn.
    listed: bool,
}

const _: () = assert!(size_of::<Queue>() <= 40, "one for each session");

#[derive(Default)]
struct Backlog {
    frames: VecDeque<Waiting>,
    /// Bytes of `frames`, with those of the first that were written already.
    bytes: usize,
    /// How much of the first frame was written.
    sent: usize,
    /// Bytes that may wait beyond the bound: a replay was granted them.
    granted: usize,
    /// The connection took less than it was given: nothing is written until it says that it takes more.
    full: bool,
}

/// A frame of this turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameIndex(u16);

impl FrameIndex {
    /// Stands where no frame is: nobody reads that variant.
    pub const NONE: FrameIndex = FrameIndex(u16::MAX);
}

/// Bytes to write, and how long they stay where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pending<'a> {
    /// A frame of this turn: it stays until the turn's writes end.
    Frame(&'a [u8]),
    /// Put together: it stays until bytes are asked for again. `again`: it is what the last such answer was.
    Joined { bytes: &'a [u8], again: bool },
}

impl<'a> Pending<'a> {
    pub const NONE: Pending<'static> = Pending::Frame(&[]);

    pub fn bytes(self) -> &'a [u8] {
        match self {
            Pending::Frame(bytes) | Pending::Joined { bytes, .. } => bytes,
        }
    }
}

/// A session is over its bound, even without its ephemeral frames.
#[derive(Debug, PartialEq, Eq)]
pub struct Overflow;

#[derive(Default)]
pub struct Outbox {
    frames: Vec<Waiting>,
    /// By slot of the session slab.
    queues: Vec<Queue>,
    /// Slots with something to write, in the order they got it.
    dirty: Vec<u32>,
    /// Slots taken from that list this turn: whatever of theirs is not written by its end has to be kept.
    taken: Vec<u32>,
    /// The bytes of the last write that had to be put together, and the frames they are of: neighbours in a room mostly have the same list.
    joined: Vec<u8>,
    joined_of: SmallVec<[u16; 8]>,
    /// Ephemeral frames dropped since it was last asked.
    dropped: u64,
    delivered: u64,
}

impl Outbox {
    /// Makes a frame of this turn. Every index given out is valid until [`end_turn`](Self::end_turn).
    pub fn frame(&mut self, frame: Frame, ephemeral: bool) -> FrameIndex {
        if self.frames.len() == usize::from(u16::MAX) {
            self.make_room();
        }
        self.frames.push(Waiting { frame: Rc::new(frame), ephemeral });
        FrameIndex((self.frames.len() - 1) as u16)
    }

    /// Whether `more` frames can be made without moving the queues' lists: a fan-out asks before it makes its frames.
    pub fn reserve(&mut self, more: usize) {
        if self.frames.len() + more > usize::from(u16::MAX) {
            self.make_room();
        }
    }

    /// 65,535 frames in one turn: move every list into its backlog and begin a new table.
    fn make_room(&mut self) {
        self.absorb_all();
        self.frames.clear();
        self.joined_of.clear();
    }

    /// Moves every list of this turn into its backlog: the frames it names are about to go.
    fn absorb_all(&mut self) {
        for position in 0..self.dirty.len() {
            self.absorb(self.dirty[position]);
        }
        for position in 0..self.taken.len() {
            self.absorb(self.taken[position]);
        }
    }

    /// Gives a frame of this turn to a session. The one line a delivery costs.
    #[inline]
    pub fn push(&mut self, slot: u32, frame: FrameIndex) {
        let queue = &mut self.queues[slot as usize];
        queue.turn.push(frame.0);
        self.delivered += 1;
        if !queue.listed {
            queue.listed = true;
            self.dirty.push(slot);
        }
    }

    /// A new session's queue.
    pub fn open(&mut self, slot: u32) {
        if self.queues.len() <= slot as usize {
            self.queues.resize_with(slot as usize + 1, Queue::default);
        }
        let listed = self.queues[slot as usize].listed;
        self.queues[slot as usize] = Queue { listed, ..Queue::default() };
    }

    /// Puts bytes in front that another shard could not write: they may begin in the middle of a frame, so they are one that was begun.
    pub fn resume(&mut self, slot: u32, unsent: &[u8]) {
        let bytes: Box<[u8]> = [b"\0", unsent].concat().into();
        let backlog = self.queues[slot as usize].backlog.get_or_insert_default();
        debug_assert!(backlog.frames.is_empty(), "a session that has just arrived");
        backlog.bytes = bytes.len();
        backlog.sent = 1;
        backlog
            .frames
            .push_back(Waiting { frame: Rc::new(Frame { bytes, header: 0, binary: false }), ephemeral: false });
        self.list(slot);
    }

    /// Forgets what waits for a session.
    pub fn close(&mut self, slot: u32) {
        self.open(slot);
    }

    /// Lets `bytes` more wait for a session than its bound: they are history it asked for.
    pub fn grant(&mut self, slot: u32, bytes: usize) {
        self.queues[slot as usize].backlog.get_or_insert_default().granted += bytes;
    }

    /// The connection takes bytes again.
    pub fn writable(&mut self, slot: u32) {
        let queue = &mut self.queues[slot as usize];
        if let Some(backlog) = &mut queue.backlog {
            backlog.full = false;
        }
        self.list(slot);
    }

    /// Puts a session on the list to write, whether or not it got something this turn.
    pub fn list(&mut self, slot: u32) {
        let queue = &mut self.queues[slot as usize];
        let waits = !queue.turn.is_empty() || queue.backlog.is_some();
        if waits && !queue.listed {
            queue.listed = true;
            self.dirty.push(slot);
        }
    }

    pub fn is_empty(&self, slot: u32) -> bool {
        let queue = &self.queues[slot as usize];
        queue.turn.is_empty() && queue.backlog.as_ref().is_none_or(|backlog| backlog.frames.is_empty())
    }

    /// Bytes waiting from earlier turns.
    pub fn backlog_bytes(&self, slot: u32) -> usize {
        self.queues[slot as usize].backlog.as_ref().map_or(0, |backlog| backlog.bytes - backlog.sent)
    }

    /// Bytes waiting over all sessions.
    pub fn bytes(&self) -> usize {
        (0..self.queues.len() as u32).map(|slot| self.backlog_bytes(slot)).sum()
    }

    /// The most bytes that wait for one session, those granted to a replay not counted.
    pub fn excess_max(&self) -> usize {
        let backlogs = self.queues.iter().filter_map(|queue| queue.backlog.as_ref());
        backlogs.map(|backlog| (backlog.bytes - backlog.sent).saturating_sub(backlog.granted)).max().unwrap_or(0)
    }

    pub fn has_backlog(&self, slot: u32) -> bool {
        self.queues[slot as usize].backlog.is_some()
    }

    /// Whether the connection has said that it takes nothing now.
    pub fn is_full(&self, slot: u32) -> bool {
        self.queues[slot as usize].backlog.as_ref().is_some_and(|backlog| backlog.full)
    }

    /// The slots to write, each once; the caller gives the vector back with [`recycle`](Self::recycle).
    pub fn take_dirty(&mut self) -> Vec<u32> {
        let dirty = std::mem::take(&mut self.dirty);
        for slot in &dirty {
            self.queues[*slot as usize].listed = false;
        }
        self.taken.extend_from_slice(&dirty);
        dirty
    }

    pub fn recycle(&mut self, mut dirty: Vec<u32>) {
        dirty.clear();
        if self.dirty.is_empty() {
            self.dirty = dirty;
        }
    }

    /// Moves this turn's frames of a session behind its backlog, and holds it to `bytes_max`: ephemeral frames go first.
    pub fn hold(&mut self, slot: u32, bytes_max: usize) -> Result<(), Overflow> {
        self.absorb(slot);
        let Some(backlog) = &mut self.queues[slot as usize].backlog else { return Ok(()) };
        let bound = bytes_max.saturating_add(backlog.granted);
        if bytes_max == 0 || backlog.bytes - backlog.sent <= bound {
            return Ok(());
        }
        let begun = backlog.sent > 0;
        let before = backlog.frames.len();
        let mut position = 0;
        backlog.frames.retain(|waiting| {
            let keep = !waiting.ephemeral || (begun && position == 0);
            position += 1;
            keep
        });
        self.dropped += (before - backlog.frames.len()) as u64;
        backlog.bytes = backlog.frames.iter().map(|waiting| waiting.frame.bytes.len()).sum();
        if backlog.bytes - backlog.sent <= bound { Ok(()) } else { Err(Overflow) }
    }

    fn absorb(&mut self, slot: u32) {
        let queue = &mut self.queues[slot as usize];
        if queue.turn.is_empty() {
            return;
        }
        let backlog = queue.backlog.get_or_insert_default();
        for index in std::mem::take(&mut queue.turn) {
            let waiting = self.frames[usize::from(index)].clone();
            backlog.bytes += waiting.frame.bytes.len();
            backlog.frames.push_back(waiting);
        }
    }

    /// The bytes to write for a session now.
    pub fn pending(&mut self, slot: u32) -> Pending<'_> {
        if self.queues[slot as usize].backlog.is_some() {
            self.absorb(slot);
            let backlog = self.queues[slot as usize].backlog.as_ref().expect("looked at above");
            self.joined_of.clear();
            self.joined.clear();
            if backlog.full {
                return Pending::NONE;
            }
            let mut skip = backlog.sent;
            // A long frame goes in many pieces to a connection that takes little at a time: it is not copied for each of them.
            let rest = backlog.frames.front().map_or(0, |first| first.frame.bytes.len() - skip);
            if rest >= WRITE_BYTES_MAX {
                let queue = &mut self.queues[slot as usize];
                queue.offered = rest as u32;
                let first = queue.backlog.as_ref().and_then(|backlog| backlog.frames.front());
                return Pending::Joined { bytes: first.map_or(&[], |first| &first.frame.bytes[skip..]), again: false };
            }
            for waiting in &backlog.frames {
                self.joined.extend_from_slice(&waiting.frame.bytes[skip..]);
                skip = 0;
                if self.joined.len() >= WRITE_BYTES_MAX {
                    break;
                }
            }
            self.queues[slot as usize].offered = self.joined.len() as u32;
            return Pending::Joined { bytes: &self.joined, again: false };
        }
        let queue = &mut self.queues[slot as usize];
        match queue.turn.as_slice() {
            [] => Pending::NONE,
            [one] => {
                let bytes = &self.frames[usize::from(*one)].frame.bytes;
                queue.offered = bytes.len() as u32;
                Pending::Frame(bytes)
            }
            many => {
                let again = self.joined_of.as_slice() == many;
                if !again {
                    self.joined.clear();
                    for index in many {
                        self.joined.extend_from_slice(&self.frames[usize::from(*index)].frame.bytes);
                    }
                    self.joined_of = SmallVec::from_slice(many);
                }
                queue.offered = self.joined.len() as u32;
                Pending::Joined { bytes: &self.joined, again }
            }
        }
    }

    /// The next bytes put together are not those of the last time.
    pub fn forget_joined(&mut self) {
        self.joined_of.clear();
    }

    /// The connection took `taken` bytes of what [`pending`](Self::pending) gave.
    pub fn wrote(&mut self, slot: u32, taken: usize) {
        let queue = &mut self.queues[slot as usize];
        if queue.backlog.is_none() {
            let all: usize = queue.turn.iter().map(|index| self.frames[usize::from(*index)].frame.bytes.len()).sum();
            if taken >= all {
                // A list that had to go to the heap in a busy turn does not stay there: an idle session has nothing on it.
                queue.turn = SmallVec::new();
                return;
            }
            self.absorb(slot);
        }
        let queue = &mut self.queues[slot as usize];
        let Some(backlog) = &mut queue.backlog else { return };
        backlog.sent += taken;
        while let Some(first) = backlog.frames.front() {
            let len = first.frame.bytes.len();
            if backlog.sent < len {
                break;
            }
            backlog.sent -= len;
            backlog.bytes -= len;
            backlog.frames.pop_front();
        }
        if backlog.frames.is_empty() {
            queue.backlog = None;
        } else if taken < queue.offered as usize {
            backlog.full = true;
        } else {
            // More than one write's worth, or something has come meanwhile: go on in the next turn.
            self.list(slot);
        }
    }

    /// Takes packets for one long-polling answer, joined by the record separator.
    pub fn take_poll(&mut self, slot: u32) -> Option<Vec<u8>> {
        self.absorb(slot);
        let queue = &mut self.queues[slot as usize];
        let backlog = queue.backlog.as_mut()?;
        let mut body = Vec::new();
        while let Some(waiting) = backlog.frames.pop_front() {
            backlog.bytes -= waiting.frame.bytes.len();
            if !body.is_empty() {
                body.push(0x1e);
            }
            waiting.frame.poll_packet(&mut body);
            if body.len() >= POLL_BYTES_MAX {
                break;
            }
        }
        if backlog.frames.is_empty() {
            queue.backlog = None;
        }
        (!body.is_empty()).then_some(body)
    }

    /// Everything that waits for a session, as bytes for its socket: it closes or moves.
    pub fn take_bytes(&mut self, slot: u32) -> Vec<u8> {
        self.absorb(slot);
        let Some(backlog) = self.queues[slot as usize].backlog.take() else { return Vec::new() };
        let mut bytes = Vec::with_capacity(backlog.bytes - backlog.sent);
        let mut skip = backlog.sent;
        for waiting in backlog.frames {
            bytes.extend_from_slice(&waiting.frame.bytes[skip..]);
            skip = 0;
        }
        bytes
    }

    /// The rest of a frame that was begun, and nothing else: the session is closed for being slow.
    pub fn take_begun(&mut self, slot: u32) -> Vec<u8> {
        self.absorb(slot);
        let Some(backlog) = self.queues[slot as usize].backlog.take() else { return Vec::new() };
        match backlog.frames.front() {
            Some(first) if backlog.sent > 0 => first.frame.bytes[backlog.sent..].to_vec(),
            _ => Vec::new(),
        }
    }

    /// Everything that waits for a long-polling session, packet by packet: it moves.
    pub fn take_packets(&mut self, slot: u32) -> Vec<(bool, Box<[u8]>)> {
        self.absorb(slot);
        let Some(backlog) = self.queues[slot as usize].backlog.take() else { return Vec::new() };
        backlog.frames.iter().map(|waiting| (waiting.frame.binary, waiting.frame.payload().into())).collect()
    }

    /// Ends the turn, after every write: indices given out are void. Queues whose connection was not written keep theirs as a backlog,
    /// held to `bytes_max`; the slots it gives back are over it.
    pub fn end_turn(&mut self, bytes_max: usize) -> Vec<u32> {
        let mut over = Vec::new();
        for position in 0..self.taken.len() + self.dirty.len() {
            let slot = *self.taken.get(position).unwrap_or_else(|| &self.dirty[position - self.taken.len()]);
            if !self.queues[slot as usize].turn.is_empty() && self.hold(slot, bytes_max).is_err() {
                over.push(slot);
            }
        }
        self.taken.clear();
        self.frames.clear();
        self.joined_of.clear();
        if self.joined.capacity() > 4 * WRITE_BYTES_MAX {
            self.joined = Vec::new();
        }
        over
    }

    /// Whether somebody has got something since the slots to write were [taken](Self::take_dirty).
    pub fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// (delivered, dropped) since last asked.
    pub fn take_counts(&mut self) -> (u64, u64) {
        (std::mem::take(&mut self.delivered), std::mem::take(&mut self.dropped))
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
