//! The shell around a connection: reads what its socket has, and gathers what is to be written into one submission.
//!
//! ```text
//!  event -> attend: recv into the shard's one scratch buffer -> conn.feed -> inbox
//!  dirty -> gather: a pointer to a frame of this turn, or a copy in the arena where bytes must be put together
//!        -> complete: one system call for up to 256 connections, then every result is told to connection and shard
//! ```
//!
//! A socket that does not take everything is *blocked* until it takes bytes again; the shard keeps what is left and hears
//! [`Input::Writable`].
//!
//! Invariants: bytes leave in order: `conn.out` goes before the shard's bytes, and control frames are put between the shard's frames only.
//! A connection is in a batch once, and between gathering and completing a batch nothing it points at is touched.

use super::{
    Plane, State,
    conn::{Conn, Phase},
    count::Count,
    freight::Span,
    loan::{Lent, Tie},
};
use crate::base::{buffer::Buffer, id::ConnKey, time::Now};
use crate::shard::{
    Shard,
    io::{Hangup, Input, Output},
    outbox::Pending,
};
use std::{io, ops::Range, os::fd::RawFd};

/// Reads of one connection before others get their turn.
const READS_AT_ONCE: usize = 8;
/// Bytes put together for one batch; a single larger write has a batch for itself.
const ARENA_BYTES: usize = 256 * 1024;

/// The writes of one submission.
#[derive(Default)]
pub struct Batch {
    writes: Vec<Write>,
    results: Vec<i32>,
    arena: Vec<u8>,
    /// Where the bytes that were put together last lie in the arena: neighbours in a room mostly get the same.
    joined: Option<Range<usize>>,
    /// Times that the shard has put bytes together.
    joins: u64,
}

pub struct Write {
    pub key: ConnKey,
    /// Bytes of the connection's own, then of the shard's.
    pub own: usize,
    pub theirs: usize,
    /// Where they lie in the freight being unloaded, if they are of another shard.
    pub span: Option<Span>,
}

impl Batch {
    pub fn push(&mut self, write: Write) {
        self.writes.push(write);
    }

    /// Which of the bytes the shard puts together a remote connection gets. Others than before: those in the arena are not the last ones.
    pub fn joined(&mut self, again: bool) -> u64 {
        if !again {
            self.joins += 1;
            self.joined = None;
        }
        self.joins
    }
}

impl State {
    /// Reads and decodes a connection as far as it goes now.
    pub fn attend(&mut self, plane: &Plane, key: ConnKey) {
        for reads in 0.. {
            let Some(conn) = self.conns.get_mut(key) else { return };
            if conn.is_deaf() {
                return;
            }
            if conn.resumes() {
                self.feed(plane, key, 0);
                continue;
            }
            if !conn.readable || !conn.reads() {
                return;
            }
            if conn.tie.is_some() && self.is_paused(key) {
                return;
            }
            let Some(conn) = self.conns.get_mut(key) else { return };
            if self.inbox.is_full() || reads == READS_AT_ONCE {
                self.ready.push(key);
                return;
            }
            match receive(conn.fd, &mut self.scratch) {
                Ok(0) => return self.end_of_file(key),
                Ok(bytes) => {
                    // A short read has emptied the socket; whatever comes now is another event.
                    conn.readable = bytes == self.scratch.len() || conn.peer_ended;
                    self.counts.add(Count::BytesIn, bytes);
                    self.feed(plane, key, bytes);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    conn.readable = false;
                    return;
                }
                Err(_) => return self.fail(key, Hangup::Failed),
            }
        }
    }

    /// Decodes the first `bytes` of the scratch buffer, behind what earlier reads left.
    fn feed(&mut self, plane: &Plane, key: ConnKey, bytes: usize) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let home = conn.home();
        let (name, inbox) = match home {
            Some((home, name)) => (name, self.loans.inbox(home)),
            None => (key, &mut self.inbox),
        };
        conn.feed(name, &mut self.scratch[..bytes], &plane.world(self.draining), inbox, &mut self.counts);
        if conn.owes() {
            self.flush.push(key);
        }
        if home.is_some() && conn.phase.is_closing() {
            self.untie(key);
        }
        self.arm(key);
    }

    fn end_of_file(&mut self, key: ConnKey) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if conn.outlives_end_of_file() {
            conn.ended = true;
            return;
        }
        let cause = if conn.phase.is_body() { Hangup::Broken } else { Hangup::Closed };
        self.fail(key, cause);
    }

    /// The connection is gone: the shard hears of it if it knows it.
    pub fn fail(&mut self, key: ConnKey, cause: Hangup) {
        let Some(conn) = self.remove(key) else { return };
        match conn.tie.as_deref() {
            None if conn.known => self.inbox.push(Input::Hangup { conn: key, cause }),
            // A home that does not know it yet is told when it asks.
            Some(Tie::Lent(Lent { home, key: Some(there), .. })) => {
                self.loans.inbox(*home).push(Input::Hangup { conn: *there, cause });
            }
            _ => {}
        }
    }

    /// A blocked connection takes bytes again.
    pub fn unblock(&mut self, key: ConnKey) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        conn.blocked = false;
        // The home of a lent one hears of room by what is acknowledged.
        if conn.known && (conn.tie.is_none() || conn.is_remote()) {
            self.inbox.push(Input::Writable { conn: key });
        }
        self.flush.push(key);
    }

    /// Puts what the connection owes into the batch, its own bytes before the shard's. A closing connection that owes nothing any more ends.
    pub fn gather(&mut self, shard: &mut Shard, now: Now, key: ConnKey, outputs: &mut Vec<Output>) {
        self.arm(key);
        let Some(conn) = self.conns.get_mut(key) else { return };
        if conn.is_remote() {
            return self.gather_remote(shard, key);
        }
        if conn.blocked || conn.writing {
            return;
        }
        if !conn.inside_frame {
            conn.append_control();
        }
        let pending =
            if conn.takes_shard_bytes() && conn.tie.is_none() { shard.pending_write(key) } else { Pending::NONE };
        if matches!(pending, Pending::Joined { again: false, .. }) {
            self.batch.joins += 1;
        }
        let (own, theirs) = (conn.out.len(), pending.bytes().len());
        if own + theirs == 0 {
            return if conn.phase.is_closing() { self.linger(key) } else { self.settle(key) };
        }
        let batch = &mut self.batch;
        let stays = match pending {
            Pending::Frame(_) => true,
            Pending::Joined { again, .. } => again && batch.joined.is_some(),
        };
        let copies = if theirs > 0 && (own > 0 || !stays) { own + theirs } else { 0 };
        if self.ring.is_full() || (copies > 0 && batch.arena.len() + copies > batch.arena.capacity()) {
            // The bytes are the same when they are asked for again.
            self.complete(shard, now, outputs);
            self.batch.arena.reserve(copies.max(ARENA_BYTES));
            return self.gather(shard, now, key, outputs);
        }
        let bytes: &[u8] = match pending {
            Pending::Frame(bytes) if own == 0 => bytes,
            Pending::Joined { .. } if own == 0 && stays => &batch.arena[batch.joined.clone().unwrap_or_default()],
            _ if theirs == 0 => &conn.out,
            pending => {
                let start = batch.arena.len();
                batch.arena.extend_from_slice(&conn.out);
                batch.arena.extend_from_slice(pending.bytes());
                if matches!(pending, Pending::Joined { .. }) {
                    batch.joined = (own == 0).then_some(start..batch.arena.len());
                }
                &batch.arena[start..]
            }
        };
        conn.writing = true;
        // SAFETY: the bytes stay until `complete`: a frame of this turn is the shard's until its turn ends, and `pending_write`, all that is
        // asked of it meanwhile, frees none; `conn.out` is not touched while `writing` is set; the arena grows only when it is empty.
        unsafe { self.ring.write(conn.fd, bytes) };
        batch.writes.push(Write { key, own, theirs, span: None });
    }

    /// Writes the batch and says what became of it.
    pub fn complete(&mut self, shard: &mut Shard, now: Now, outputs: &mut Vec<Output>) {
        if self.batch.writes.is_empty() {
            return self.tell_taken(shard, now, outputs);
        }
        let mut writes = std::mem::take(&mut self.batch.writes);
        let mut results = std::mem::take(&mut self.batch.results);
        self.ring.submit_writes(&mut results);
        for (write, &result) in writes.iter().zip(&results) {
            self.wrote(shard, now, write, result, outputs);
        }
        writes.clear();
        self.batch.writes = writes;
        self.batch.results = results;
        self.batch.joined = None;
        self.batch.arena.clear();
        self.batch.arena.shrink_to(2 * ARENA_BYTES);
        self.tell_taken(shard, now, outputs);
    }

    fn wrote(&mut self, shard: &mut Shard, now: Now, write: &Write, result: i32, outputs: &mut Vec<Output>) {
        let key = write.key;
        let Some(conn) = self.conns.get_mut(key) else { return };
        conn.writing = false;
        let sent = match result {
            0.. => result as usize,
            _ if -result == libc::EAGAIN || -result == libc::EINTR => 0,
            _ => return self.fail(key, Hangup::Failed),
        };
        self.counts.add(Count::BytesOut, sent);
        let of_theirs = sent.saturating_sub(write.own);
        if let Some(span) = write.span {
            // Another shard's bytes: what the socket has no room for is kept here.
            conn.out.append_slice(&span.of(&self.loans.unloading)[sent..]);
        } else if sent < write.own {
            conn.out.drain(..sent);
        } else if write.own > 0 {
            conn.out = Buffer::default();
        }
        let lent = conn.tie.is_some();
        if !lent {
            conn.inside_frame = of_theirs < write.theirs && (of_theirs > 0 || conn.inside_frame);
        }
        if sent < write.own + write.theirs {
            self.counts.up(Count::WritesShort);
            conn.blocked = true;
            self.ring.poll_room(key, conn.fd);
        } else if conn.phase.is_closing() || conn.owes() {
            self.flush.push(key);
        } else {
            self.settle(key);
        }
        if lent {
            self.acknowledge(key);
        } else if write.theirs > 0 {
            shard.wrote(now, key, of_theirs, outputs);
        }
    }

    /// All is written: what was read meanwhile may go on.
    fn settle(&mut self, key: ConnKey) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        // Of a lent one its home says where a frame ends.
        conn.inside_frame &= conn.tie.is_some();
        // It said so while its answer was on its way, and has it now.
        if conn.ended {
            return self.fail(key, Hangup::Closed);
        }
        if conn.has_unread() || conn.readable {
            self.ready.push(key);
        }
    }

    /// All is written: says so to the peer and waits for its end of file, or the deadline that stands. A close right away would reset the
    /// connection if the peer was still sending, and take our last bytes with it.
    fn linger(&mut self, key: ConnKey) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if matches!(conn.phase, Phase::Lingering) {
            return;
        }
        // SAFETY: a system call on a descriptor that is open as long as its entry is there.
        let failed = unsafe { libc::shutdown(conn.fd, libc::SHUT_WR) } != 0;
        conn.phase = Phase::Lingering;
        if failed || conn.ended {
            self.fail(key, Hangup::Closed);
        } else if conn.readable {
            self.ready.push(key);
        }
    }

    /// Forgets a connection and closes its socket with the next submission.
    pub fn remove(&mut self, key: ConnKey) -> Option<Conn> {
        let conn = self.conns.remove(key)?;
        if let Some(tie) = conn.tie.as_deref() {
            self.loans.untied(tie);
        }
        if !conn.is_remote() {
            self.ring.forget(key, conn.blocked);
            self.ring.close(conn.fd);
        }
        Some(conn)
    }

    /// Closes everything, so that nothing stays behind in an embedding program.
    pub fn end(&mut self) {
        for key in self.conns.keys().collect::<Vec<_>>() {
            self.remove(key);
        }
        for index in 0..self.listeners.len() {
            self.close_listener(index);
        }
        self.ring.turn(&mut self.events);
    }

    /// Forgets a connection that goes elsewhere with its socket.
    pub fn release(&mut self, key: ConnKey) -> Option<Conn> {
        let conn = self.conns.remove(key)?;
        self.ring.forget(key, conn.blocked);
        Some(conn)
    }
}

/// Reads what the socket has without waiting.
fn receive(fd: RawFd, into: &mut [u8]) -> io::Result<usize> {
    loop {
        // SAFETY: the pointer and the length are a slice's, which is ours alone.
        let received = unsafe { libc::recv(fd, into.as_mut_ptr().cast(), into.len(), libc::MSG_DONTWAIT) };
        if received >= 0 {
            return Ok(received as usize);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
