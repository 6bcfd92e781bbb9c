//! One connection: opened when due, its bytes read and written, closed with a reason that is counted.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::mem;

use mio::net::TcpStream;
use mio::{Interest, Token};

use super::Worker;
use crate::clock::now_us;
use crate::dial::{dial, source};
use crate::frame::{self, Frame};
use crate::histogram::count;
use crate::plan::{Plan, Role};
use crate::target::Target;
use crate::upgrade;

/// Unsent bytes of one connection; a server that reads less than this closes itself out.
const OUTBOX_BYTES_MAX: usize = 1 << 20;
/// The longest frame a server may send.
const FRAME_BYTES_MAX: usize = 8 << 20;

/// ```text
/// Idle --due--> Connecting --writable--> Upgrading --101--> Opening --0{}--> Joining --40--> Entering --joined--> Ready
///                                            `----------- raw WebSocket ----------------------^
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Idle,
    Connecting,
    Upgrading,
    Opening,
    Joining,
    Entering,
    Ready,
    Closed,
}

/// What an answer is awaited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    pub id: u32,
    pub request: bool,
    pub at_us: u64,
}

pub struct Connection {
    pub stream: Option<TcpStream>,
    pub step: Step,
    pub role: Role,
    pub room: u32,
    pub place: u32,
    /// Its first stream in the ledger.
    pub base: usize,
    /// When it should have begun to connect.
    pub due_us: u64,
    /// It has been ready before.
    pub was_ready: bool,
    /// Of the next event with an answer. 0 is joining.
    pub next_id: u32,
    pub pending: VecDeque<Pending>,
    /// Noises it has made.
    pub noises: u32,
    /// The start of a frame whose end has not arrived.
    inbox: Vec<u8>,
    /// What the socket would not take.
    outbox: Vec<u8>,
}

impl Connection {
    pub fn new(plan: &Plan, number: u32, base: usize) -> Connection {
        Connection {
            stream: None,
            step: Step::Idle,
            role: plan.role(number),
            room: plan.room(number),
            place: plan.place(number),
            base,
            due_us: 0,
            was_ready: false,
            next_id: 1,
            pending: VecDeque::new(),
            noises: 0,
            inbox: Vec::new(),
            outbox: Vec::new(),
        }
    }
}

impl Worker {
    fn target(&self, index: usize) -> &Target {
        &self.targets[self.plan.node(self.numbers[index], self.targets.len())]
    }

    pub(super) fn open(&mut self, index: usize, due_us: u64) {
        self.handshakes += 1;
        let scenario = &self.plan.scenario;
        let sources = u32::from(scenario.sources);
        // Each process has its own addresses, so that no two compete for a port.
        let address = self.target(index).address;
        let source = source(address, self.process * sources, index as u32, scenario.sources);
        let connection = &mut self.connections[index];
        connection.step = Step::Connecting;
        connection.due_us = due_us;
        let buffer = scenario.slow.filter(|_| connection.role == Role::Slow).map(|slow| slow.receive_buffer_bytes);
        match dial(address, source, buffer) {
            Ok(stream) => {
                let stream = connection.stream.insert(stream);
                let interest = Interest::READABLE | Interest::WRITABLE;
                if let Err(error) = self.poll.registry().register(stream, Token(index), interest) {
                    self.close(index, &format!("epoll: {error}"));
                }
            }
            Err(error) => self.close(index, &format!("connect: {error}")),
        }
    }

    pub(super) fn on_writable(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        let Some(stream) = connection.stream.as_mut() else { return };
        if connection.step == Step::Connecting {
            match stream.take_error() {
                Ok(None) if stream.peer_addr().is_ok() => {}
                Ok(None) => return,
                Ok(Some(error)) | Err(error) => return self.close(index, &format!("connect: {error}")),
            }
            connection.step = Step::Upgrading;
            let mut target = Vec::new();
            self.fill(index, &self.dialect.target, None, &mut target);
            let request = upgrade::request(&self.target(index).authority, &String::from_utf8_lossy(&target));
            return self.send(index, &request);
        }
        if !connection.outbox.is_empty() {
            let waiting = mem::take(&mut connection.outbox);
            self.send(index, &waiting);
        }
    }

    /// Reads until the socket is empty. The time it was read at.
    pub(super) fn on_readable(&mut self, index: usize, is_closing: bool) -> u64 {
        let mut scratch = mem::take(&mut self.scratch);
        let mut now = 0;
        loop {
            let connection = &mut self.connections[index];
            if connection.role == Role::Slow && connection.step == Step::Ready {
                // It does not read, so all it can learn is that the server has given it up.
                if is_closing {
                    self.outcome.slow_closed += 1;
                    self.forget(index);
                }
                break;
            }
            let Some(stream) = connection.stream.as_mut() else { break };
            match stream.read(&mut scratch) {
                Ok(0) => {
                    self.close(index, "closed without a close frame");
                    break;
                }
                Ok(length) => {
                    now = now_us();
                    self.meter.counts.received_bytes += length as u64;
                    if let Err(reason) = self.on_bytes(index, &scratch[..length], now) {
                        self.close(index, &reason);
                        break;
                    }
                    // An edge-triggered read that does not fill the buffer has emptied the socket, which saves the second call.
                    if length < scratch.len() && !is_closing {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.close(index, &format!("read: {error}"));
                    break;
                }
            }
        }
        self.scratch = scratch;
        if now == 0 { now_us() } else { now }
    }

    fn on_bytes(&mut self, index: usize, bytes: &[u8], now: u64) -> Result<(), String> {
        if self.connections[index].inbox.is_empty() {
            let used = self.on_frames(index, bytes, now)?;
            if used < bytes.len() {
                self.connections[index].inbox.extend_from_slice(&bytes[used..]);
            }
            return Ok(());
        }
        let mut inbox = mem::take(&mut self.connections[index].inbox);
        inbox.extend_from_slice(bytes);
        let used = self.on_frames(index, &inbox, now)?;
        inbox.drain(..used);
        // Most of the time nothing is kept, and then no memory is.
        if !inbox.is_empty() {
            self.connections[index].inbox = inbox;
        }
        Ok(())
    }

    /// Handles whole frames; how many bytes they were.
    fn on_frames(&mut self, index: usize, bytes: &[u8], now: u64) -> Result<usize, String> {
        let mut used = 0;
        if self.connections[index].step == Step::Upgrading {
            match upgrade::answer(bytes)? {
                None => return Ok(0),
                Some(head) => {
                    used = head;
                    self.on_upgraded(index, now);
                }
            }
        }
        while let Some((frame, length)) =
            frame::decode(&bytes[used..], FRAME_BYTES_MAX).map_err(|error| error.to_string())?
        {
            used += length;
            match frame {
                Frame::Text(text) => self.on_text(index, text, now)?,
                Frame::Ping(payload) => {
                    let mut out = Vec::new();
                    frame::encode_pong(payload, self.next_mask(), &mut out);
                    self.send(index, &out);
                }
                Frame::Pong => {}
                Frame::Binary(_) => self.meter.counts.other_received += 1,
                Frame::Close(code) => return Err(format!("closed by the server: {code}")),
            }
            // A failed `send`, a close packet, or its turn to leave.
            if self.connections[index].stream.is_none() {
                return Ok(bytes.len());
            }
        }
        Ok(used)
    }

    /// Sends `self.text` as one frame.
    pub(super) fn send_text(&mut self, index: usize) {
        let mut out = mem::take(&mut self.out);
        out.clear();
        let mask = self.next_mask();
        frame::encode_text(&self.text, mask, &mut out);
        self.send(index, &out);
        self.out = out;
    }

    /// Writes what the socket takes and keeps the rest for when it is writable.
    fn send(&mut self, index: usize, mut bytes: &[u8]) {
        let connection = &mut self.connections[index];
        let Some(stream) = connection.stream.as_mut() else { return };
        while connection.outbox.is_empty() && !bytes.is_empty() {
            match stream.write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return self.close(index, &format!("write: {error}")),
            }
        }
        connection.outbox.extend_from_slice(bytes);
        if connection.outbox.len() > OUTBOX_BYTES_MAX {
            self.close(index, "the server does not read");
        }
    }

    /// Ends a connection that should not have ended.
    pub(super) fn close(&mut self, index: usize, reason: &str) {
        let connection = &self.connections[index];
        match connection.step {
            Step::Closed | Step::Idle => return,
            Step::Ready if connection.role == Role::Slow => self.outcome.slow_closed += 1,
            Step::Ready => self.outcome.closed_early += 1,
            _ => {
                self.handshakes -= 1;
                if connection.was_ready {
                    self.outcome.closed_early += 1;
                } else {
                    self.opening -= 1;
                }
            }
        }
        self.forget(index);
        count(&mut self.outcome.failures, reason);
    }

    /// Drops the socket and what belongs to it.
    pub(super) fn forget(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        connection.step = Step::Closed;
        connection.inbox = Vec::new();
        connection.outbox = Vec::new();
        if let Some(mut stream) = connection.stream.take() {
            let _ = self.poll.registry().deregister(&mut stream);
        }
    }

    /// Handshakes that got no answer for long will get none.
    pub(super) fn give_up_stalled(&mut self, now: u64) {
        if self.handshakes == 0 || now < self.progress_us + super::HANDSHAKE_STALL_US {
            return;
        }
        self.progress_us = now;
        for index in 0..self.connections.len() {
            let step = self.connections[index].step;
            if !matches!(step, Step::Idle | Step::Ready | Step::Closed) {
                self.close(index, &format!("no answer while {step:?}"));
            }
        }
    }

    /// Masks exist to keep a script in a browser from choosing bytes on the wire (RFC 6455, 10.3); any sequence that varies will do here.
    fn next_mask(&mut self) -> [u8; 4] {
        self.mask ^= self.mask << 13;
        self.mask ^= self.mask >> 17;
        self.mask ^= self.mask << 5;
        self.mask.to_le_bytes()
    }
}
