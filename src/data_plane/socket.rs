//! The shell around a connection: its task, which reads and waits, and [`flush`], with which the pump writes.
//!
//! The pump writes with one `sendmsg` a turn, straight from the shard's buffer. A socket that does not take everything is *blocked*: up to
//! [`CARRY_BYTES`] of what is left are moved into `conn.out`, the task waits until the socket has taken them, and the shard hears
//! [`Input::Writable`]. (glommio can only wait for room by writing, so the task needs some bytes of its own.)
//!
//! Invariant: bytes leave in order. `conn.out` goes before the shard's bytes; control frames are put between the shard's frames only.

use super::{
    Plane, State,
    conn::{Conn, Phase},
    count::Count,
};
use crate::base::{buffer::Buffer, id::ConnKey, time::Now};
use crate::shard::{
    Shard,
    io::{Hangup, Input, Output},
};
use futures_io::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;
use std::{
    future::Future,
    io,
    os::fd::RawFd,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

/// Bytes of the shard's that a blocked connection holds itself.
const CARRY_BYTES: usize = 4096;
/// Reads of one connection before others get their turn.
const READS_AT_ONCE: usize = 8;

/// Starts the task of a connection. It ends when the connection's entry is gone, and closes the socket then. The task runs at once: the
/// caller holds no borrow of the plane's state.
pub fn spawn(plane: Rc<Plane>, stream: TcpStream, key: ConnKey) {
    glommio::spawn_local(Task { plane, stream, key }).detach();
}

/// Written out because an `async` block would hold the stream twice: 288 bytes instead of these.
struct Task {
    plane: Rc<Plane>,
    stream: TcpStream,
    key: ConnKey,
}

const _: () = assert!(size_of::<Task>() <= 136, "an idle connection is its entry, its task and its stream");

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let task = &mut *self;
        task.plane.poll(task.key, &mut task.stream, cx)
    }
}

impl Plane {
    /// Moves one connection on as far as it goes. Ready: its entry is gone.
    fn poll(&self, key: ConnKey, stream: &mut TcpStream, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let Some(conn) = state.conns.get_mut(key) else { return Poll::Ready(()) };
        if conn.waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            conn.waker = Some(cx.waker().clone());
        }
        for reads in 0.. {
            let Some(conn) = state.conns.get_mut(key) else { break };
            if conn.blocked {
                match write(conn, stream, cx) {
                    Ok(true) => {
                        if conn.known {
                            state.inbox.push(Input::Writable { conn: key });
                        }
                        state.flush.push(key);
                    }
                    Ok(false) => {}
                    Err(_) => {
                        self.fail(state, key, Hangup::Failed);
                        break;
                    }
                }
            }
            let Some(conn) = state.conns.get_mut(key) else { break };
            if conn.resumes() {
                self.feed(state, key, &mut []);
                continue;
            }
            if !conn.reads() {
                break;
            }
            if state.inbox.is_full() {
                state.parked.push(key);
                break;
            }
            if reads == READS_AT_ONCE {
                cx.waker().wake_by_ref();
                break;
            }
            let mut scratch = self.scratch.borrow_mut();
            match Pin::new(&mut *stream).poll_read(cx, &mut scratch) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => {
                    self.end_of_file(state, key);
                    break;
                }
                Poll::Ready(Ok(bytes)) => {
                    state.counts.add(Count::BytesIn, bytes);
                    self.feed(state, key, &mut scratch[..bytes]);
                }
                Poll::Ready(Err(_)) => {
                    self.fail(state, key, Hangup::Failed);
                    break;
                }
            }
        }
        if !state.inbox.is_empty() || !state.flush.is_empty() {
            self.wake_pump();
        }
        if state.conns.contains(key) { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Decodes what was read, or what an earlier read left.
    fn feed(&self, state: &mut State, key: ConnKey, bytes: &mut [u8]) {
        let Some(conn) = state.conns.get_mut(key) else { return };
        conn.feed(key, bytes, &self.world(state.draining), &mut state.inbox, &mut state.counts);
        if conn.owes() {
            state.flush.push(key);
        }
        state.arm(key);
    }

    fn end_of_file(&self, state: &mut State, key: ConnKey) {
        let Some(conn) = state.conns.get_mut(key) else { return };
        if conn.outlives_end_of_file() {
            conn.ended = true;
            return;
        }
        let cause = if conn.phase.is_body() { Hangup::Broken } else { Hangup::Closed };
        self.fail(state, key, cause);
    }

    /// The connection is gone: the shard hears of it if it knows it.
    pub fn fail(&self, state: &mut State, key: ConnKey, cause: Hangup) {
        let Some(conn) = state.remove(key) else { return };
        if conn.known {
            state.inbox.push(Input::Hangup { conn: key, cause });
        }
        self.wake_pump();
    }
}

/// Writes a blocked connection's own bytes. True: all of them are written and it is not blocked any more.
fn write(conn: &mut Conn, stream: &mut TcpStream, cx: &mut Context<'_>) -> io::Result<bool> {
    let mut at = 0;
    while at < conn.out.len() {
        match Pin::new(&mut *stream).poll_write(cx, &conn.out[at..]) {
            Poll::Ready(result) => at += result?,
            Poll::Pending => {
                conn.out.drain(..at);
                return Ok(false);
            }
        }
    }
    conn.out = Buffer::default();
    conn.blocked = false;
    Ok(true)
}

/// Writes what the connection owes: its own bytes, then the shard's. Ends a closing connection that owes nothing any more.
pub fn flush(plane: &Plane, state: &mut State, shard: &mut Shard, now: Now, key: ConnKey, outputs: &mut Vec<Output>) {
    state.arm(key);
    loop {
        let Some(conn) = state.conns.get_mut(key) else { return };
        if conn.blocked {
            return;
        }
        if !conn.inside_frame {
            conn.append_control();
        }
        let pending: &[u8] = if conn.takes_shard_bytes() { shard.pending(key) } else { &[] };
        let (own, theirs) = (conn.out.len(), pending.len());
        if own + theirs == 0 {
            if !conn.phase.is_closing() {
                conn.settle();
                return;
            }
            return linger(plane, state, key);
        }
        let sent = match send(conn.fd, &conn.out, pending) {
            Ok(sent) => sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(_) => {
                plane.fail(state, key, Hangup::Failed);
                return;
            }
        };
        state.counts.add(Count::BytesOut, sent);
        let mut of_theirs = sent.saturating_sub(own);
        if sent < own {
            conn.out.drain(..sent);
        } else {
            conn.out = Buffer::default();
        }
        if sent < own + theirs {
            state.counts.up(Count::WritesShort);
            conn.blocked = true;
            if conn.out.is_empty() {
                let carry = (theirs - of_theirs).min(CARRY_BYTES);
                conn.out.append_slice(&pending[of_theirs..of_theirs + carry]);
                of_theirs += carry;
            }
            conn.wake();
        }
        conn.inside_frame = of_theirs < theirs;
        if theirs > 0 {
            shard.wrote(now, key, of_theirs, outputs);
        }
    }
}

/// All is written: says so to the peer and waits for its end of file, or the deadline that stands. A close right away would reset the
/// connection if the peer was still sending, and take our last bytes with it.
fn linger(plane: &Plane, state: &mut State, key: ConnKey) {
    let Some(conn) = state.conns.get_mut(key) else { return };
    if matches!(conn.phase, Phase::Lingering) {
        return;
    }
    // SAFETY: a system call on a descriptor that its task holds open as long as the entry is there.
    let failed = unsafe { libc::shutdown(conn.fd, libc::SHUT_WR) } != 0;
    conn.phase = Phase::Lingering;
    if failed || conn.ended {
        plane.fail(state, key, Hangup::Closed);
    } else {
        conn.wake();
    }
}

/// One system call for both parts; sends what the socket takes without waiting.
fn send(fd: RawFd, first: &[u8], second: &[u8]) -> io::Result<usize> {
    const FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    loop {
        let sent = if first.is_empty() || second.is_empty() {
            let bytes = if first.is_empty() { second } else { first };
            // SAFETY: the pointer and the length are a slice's, which is only read.
            unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), FLAGS) }
        } else {
            let part = |bytes: &[u8]| libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
            let mut parts = [part(first), part(second)];
            // SAFETY: all zeroes is a message header without address and control data.
            let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
            message.msg_iov = parts.as_mut_ptr();
            message.msg_iovlen = parts.len() as _;
            // SAFETY: the header names two slices that live until the call returns and are only read.
            unsafe { libc::sendmsg(fd, &message, FLAGS) }
        };
        if sent >= 0 {
            return Ok(sent as usize);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
