//! The loop: one thread, one epoll instance, every connection a socket and two buffers that are normally empty.
//!
//! Invariants: the loop never blocks but in the poll; a publish leaves at its intended time or as soon after as the loop comes round, and is
//! never skipped; time is read once a read, so that a delivery's latency includes nothing that happens after its bytes arrived.
//! Reading is edge-triggered into one shared buffer: a read that does not fill it has emptied the socket, which saves the second call.

use std::io::{ErrorKind, Read, Write};
use std::mem;
use std::ops::ControlFlow;

use anyhow::{Context, Result, bail};
use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::delivery::{self, Payload, Reader};
use super::measured::Measured;
use super::scenario::{Scenario, Schedule, TokenIn};
use super::session::{self, Greeting, Occurrence, Phase};
use super::verify::{Outcome, Tally, Verifier};
use crate::clock::{Alarm, now_us};
use crate::dial::{dial, source};
use crate::frame::{self, Frame};
use crate::histogram::{count, record};
use crate::packet::{self, Answer};
use crate::target::Target;
use crate::token::Mint;
use crate::upgrade;
use crate::watch::Watch;

const ALARM: Token = Token(usize::MAX);
/// Ready sockets taken from the kernel at a time.
const EVENTS_MAX: usize = 1024;
/// The shared read buffer; also the longest frame a server may send.
const SCRATCH_BYTES: usize = 256 * 1024;
/// Unsent bytes of one connection; a server that reads less than this closes itself out.
const OUTBOX_BYTES_MAX: usize = 1 << 20;
/// Handshakes under way at once: below the usual backlog of 1024, above which SYNs are dropped and retried a second later.
const HANDSHAKES_MAX: u32 = 512;
/// Without any handshake completing for this long, the rest have failed.
const HANDSHAKE_STALL_US: u64 = 15_000_000;
const TICK_US: u64 = 100_000;
/// After everything is in: how long to look for duplicates.
const GRACE_US: u64 = 300_000;
/// Every how many deliveries one is parsed as JSON and compared.
const SAMPLE_EVERY: u64 = 1024;

pub struct Driver<'a> {
    scenario: &'a Scenario,
    target: Target,
    mint: Mint,
    poll: Poll,
    events: Events,
    alarm: Alarm,
    connections: Vec<Connection>,
    scratch: Vec<u8>,
    out: Vec<u8>,
    text: Vec<u8>,
    reader: Reader,
    verifier: Verifier,
    schedule: Option<Schedule>,
    next_publish: u64,
    /// Deliveries and acks of earlier publishes are not measured.
    measure_from_us: u64,
    handshakes: u32,
    closed: u32,
    deliveries: u64,
    mask: u32,
    measured: Measured,
}

struct Connection {
    stream: Option<TcpStream>,
    phase: Phase,
    opened_us: u64,
    /// The start of a frame whose end has not arrived.
    inbox: Vec<u8>,
    /// What the socket would not take.
    outbox: Vec<u8>,
}

struct Hello<'a> {
    scenario: &'a Scenario,
    mint: &'a Mint,
    connection: u32,
}

impl Greeting for Hello<'_> {
    fn auth_token(&self) -> Option<String> {
        (self.scenario.token_in == TokenIn::Auth).then(|| self.scenario.token(self.mint, self.connection))
    }

    fn room(&self) -> Option<String> {
        (self.scenario.rooms() > 0).then(|| self.scenario.room_name(self.scenario.room_of(self.connection)))
    }
}

impl<'a> Driver<'a> {
    pub fn new(scenario: &'a Scenario, target: Target, mint: Mint) -> Result<Driver<'a>> {
        let poll = Poll::new().context("epoll")?;
        let alarm = Alarm::new().context("timerfd")?;
        poll.registry().register(&mut SourceFd(&alarm.raw_fd()), ALARM, Interest::READABLE)?;
        let idle =
            || Connection { stream: None, phase: Phase::Closed, opened_us: 0, inbox: Vec::new(), outbox: Vec::new() };
        Ok(Driver {
            scenario,
            target,
            mint,
            poll,
            events: Events::with_capacity(EVENTS_MAX),
            alarm,
            connections: (0..scenario.connections).map(|_| idle()).collect(),
            scratch: vec![0; SCRATCH_BYTES],
            out: Vec::new(),
            text: Vec::new(),
            reader: Reader::new(),
            verifier: Verifier::new(&scenario.plan()),
            schedule: None,
            next_publish: 0,
            measure_from_us: 0,
            handshakes: 0,
            closed: 0,
            deliveries: 0,
            mask: 0x9e37_79b9,
            measured: Measured::new(),
        })
    }

    /// Opens every connection at the scenario's rate, up to its room. Those that fail are counted; none at all is an error.
    pub fn connect(&mut self, watch: &mut Watch) -> Result<()> {
        let count = self.scenario.connections;
        let start = now_us();
        let (mut next, mut progress, mut progress_at) = (0, 0, start);
        while self.measured.ready + self.closed < count {
            let now = now_us();
            let due = |index: u32| start + u64::from(index) * 1_000_000 / self.scenario.connect_rate;
            let mut wake = now + TICK_US;
            while next < count && self.handshakes < HANDSHAKES_MAX {
                if due(next) > now {
                    wake = wake.min(due(next));
                    break;
                }
                self.open(next, now);
                next += 1;
            }
            self.turn(wake)?;
            if progress != self.measured.ready + self.closed {
                (progress, progress_at) = (self.measured.ready + self.closed, now);
            } else if now > progress_at + HANDSHAKE_STALL_US && self.handshakes > 0 {
                for index in 0..self.connections.len() {
                    if !matches!(self.connections[index].phase, Phase::Ready | Phase::Closed) {
                        let reason = format!("no answer while {:?}", self.connections[index].phase);
                        self.close(index, &reason);
                    }
                }
            }
            watch.tick(u64::from(self.measured.ready))?;
        }
        self.measured.connect_us = now_us() - start;
        if self.measured.ready == 0 {
            let reason = self.measured.failures.keys().next().map_or("", String::as_str);
            bail!("no connection to {} could be opened: {reason}", self.target.address);
        }
        Ok(())
    }

    /// Keeps the connections open, answering heartbeats.
    pub fn hold(&mut self, seconds: u64, watch: &mut Watch) -> Result<()> {
        let start = now_us();
        let end = start + seconds * 1_000_000;
        while now_us() < end {
            self.turn(end.min(now_us() + TICK_US))?;
            watch.tick((now_us() - start) / 1_000_000)?;
        }
        Ok(())
    }

    /// Publishes the whole schedule.
    pub fn publish(&mut self, watch: &mut Watch) -> Result<()> {
        let scenario = self.scenario;
        let start_us = now_us() + 10_000;
        let count = scenario.rate * (scenario.warmup + scenario.seconds);
        let schedule = Schedule { start_us, rate: scenario.rate, publishers: u64::from(scenario.publishers()), count };
        self.measure_from_us = start_us + scenario.warmup * 1_000_000;
        self.schedule = Some(schedule);
        while self.next_publish < count {
            self.publish_due(now_us());
            self.turn(schedule.at_us(self.next_publish).min(now_us() + TICK_US))?;
            watch.tick(self.next_publish)?;
        }
        Ok(())
    }

    /// Waits until everything is answered and delivered, at most the scenario's drain time, then a little for duplicates.
    pub fn drain(&mut self, watch: &mut Watch) -> Result<()> {
        let end = now_us() + self.scenario.drain_seconds * 1_000_000;
        while !self.verifier.is_settled() && now_us() < end {
            self.turn(end.min(now_us() + TICK_US))?;
            watch.tick(self.verifier.tally().received)?;
        }
        let grace = now_us() + GRACE_US;
        while now_us() < grace {
            self.turn(grace)?;
        }
        Ok(())
    }

    pub fn tally(&self) -> &Tally {
        self.verifier.tally()
    }

    pub fn finish(self) -> (Measured, Tally) {
        (self.measured, self.verifier.finish())
    }

    /// Waits for something to happen, at most until `until_us`, and handles it.
    fn turn(&mut self, until_us: u64) -> Result<()> {
        self.alarm.set(until_us).context("timerfd")?;
        match self.poll.poll(&mut self.events, None) {
            // A signal; whoever called looks at what it asked for.
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            outcome => outcome.context("epoll")?,
        }
        let events = mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            if event.token() == ALARM {
                self.alarm.fired();
                continue;
            }
            let index = event.token().0;
            if event.is_writable() {
                self.on_writable(index);
            }
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                let now = self.on_readable(index);
                self.publish_due(now);
            }
        }
        self.events = events;
        Ok(())
    }

    fn open(&mut self, index: u32, now: u64) {
        self.handshakes += 1;
        let connection = &mut self.connections[index as usize];
        connection.phase = Phase::Connecting;
        connection.opened_us = now;
        match dial(self.target.address, source(self.target.address, 0, index, self.scenario.sources), None) {
            Ok(stream) => {
                let stream = connection.stream.insert(stream);
                let interest = Interest::READABLE | Interest::WRITABLE;
                if let Err(error) = self.poll.registry().register(stream, Token(index as usize), interest) {
                    self.close(index as usize, &format!("epoll: {error}"));
                }
            }
            Err(error) => self.close(index as usize, &format!("connect: {error}")),
        }
    }

    fn on_writable(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        let Some(stream) = connection.stream.as_mut() else { return };
        if connection.phase == Phase::Connecting {
            match stream.take_error() {
                Ok(None) if stream.peer_addr().is_ok() => {}
                Ok(None) => return,
                Ok(Some(error)) | Err(error) => return self.close(index, &format!("connect: {error}")),
            }
            connection.phase = Phase::Upgrading;
            let token = match self.scenario.token_in {
                // A JWT is base64url and dots: nothing in it needs escaping.
                TokenIn::Query => format!("&token={}", self.scenario.token(&self.mint, index as u32)),
                TokenIn::Auth => String::new(),
            };
            let path = format!("/socket.io/?EIO=4&transport=websocket{token}");
            let request = upgrade::request(&self.target.authority, &path);
            return self.send(index, &request);
        }
        if !connection.outbox.is_empty() {
            let waiting = mem::take(&mut connection.outbox);
            self.send(index, &waiting);
        }
    }

    /// Reads and handles all there is; returns the time of the last read.
    fn on_readable(&mut self, index: usize) -> u64 {
        let mut scratch = mem::take(&mut self.scratch);
        let mut now = now_us();
        loop {
            let connection = &mut self.connections[index];
            let Some(stream) = connection.stream.as_mut() else { break };
            // A partial frame goes back in front of its rest. It is always shorter than the buffer: see the end of this loop.
            let held = connection.inbox.len();
            let read = match stream.read(&mut scratch[held..]) {
                Ok(0) => {
                    self.close(index, "closed by the server without a word");
                    break;
                }
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    self.close(index, &format!("read: {error}"));
                    break;
                }
            };
            now = now_us();
            let drained = read < scratch.len() - held;
            let bytes = &mut scratch[..held + read];
            bytes[..held].copy_from_slice(&connection.inbox);
            match self.on_bytes(index, bytes, now) {
                Ok(used) if bytes.len() - used >= SCRATCH_BYTES => self.close(index, "a frame above the read buffer"),
                Ok(used) => keep(&mut self.connections[index].inbox, &bytes[used..]),
                Err(reason) => self.close(index, &reason),
            }
            if drained {
                break;
            }
        }
        self.scratch = scratch;
        now
    }

    /// Handles every whole frame; returns how many bytes they took.
    fn on_bytes(&mut self, index: usize, bytes: &[u8], now: u64) -> Result<usize, String> {
        let mut used = 0;
        if self.connections[index].phase == Phase::Upgrading {
            match upgrade::answer(bytes)? {
                Some(head) => used = head,
                None => return Ok(0),
            }
            self.connections[index].phase = Phase::Opening;
        }
        while let Some((frame, taken)) =
            frame::decode(&bytes[used..], SCRATCH_BYTES / 2).map_err(|error| error.to_string())?
        {
            used += taken;
            match frame {
                Frame::Text(text) if text.starts_with(delivery::PREFIX) => self.on_delivery(index, text, now),
                frame => {
                    if self.on_frame(index, frame, now)?.is_break() {
                        break;
                    }
                }
            }
        }
        Ok(used)
    }

    /// Anything but a delivery. Breaks if the connection is gone, with nothing more to read from its bytes.
    fn on_frame(&mut self, index: usize, frame: Frame<'_>, now: u64) -> Result<ControlFlow<()>, String> {
        let mut out = mem::take(&mut self.out);
        out.clear();
        let mask = self.next_mask();
        let hello = Hello { scenario: self.scenario, mint: &self.mint, connection: index as u32 };
        let occurrence = session::handle(&mut self.connections[index].phase, frame, &hello, mask, &mut out);
        if !out.is_empty() {
            self.send(index, &out);
        }
        self.out = out;
        match occurrence? {
            Occurrence::Nothing => {}
            Occurrence::Ready => {
                self.handshakes -= 1;
                self.measured.ready += 1;
                record(&mut self.measured.connect, now, self.connections[index].opened_us);
            }
            Occurrence::Ack(id, arguments) => self.on_ack(index, id, arguments, now)?,
            Occurrence::Event(json) => {
                let name = packet::event_name(json);
                if name == "error" {
                    count(&mut self.measured.failures, &String::from_utf8_lossy(&json[..json.len().min(80)]));
                }
                count(&mut self.measured.other_events, name);
            }
        }
        // A failed `send` closed it.
        Ok(if self.connections[index].stream.is_some() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    }

    fn on_ack(&mut self, index: usize, id: u64, arguments: &[u8], now: u64) -> Result<(), String> {
        let answer = Answer::decode(arguments).map_err(|error| format!("ack of a publish: {error}"))?;
        // The id 0 was the subscription's; it wraps into a sequence nobody sent, which the verifier reports.
        let sequence = id.wrapping_sub(1);
        if let (true, Some(offset), Some(epoch)) = (answer.ok, answer.offset, answer.epoch) {
            let known = self.verifier.acked(index, sequence, offset, delivery::epoch_hash(epoch.get().as_bytes()));
            if let (true, Some(schedule)) = (known, self.schedule) {
                let at = schedule.at_of(index as u32, sequence as u32);
                if at >= self.measure_from_us {
                    record(&mut self.measured.ack, now, at);
                }
            }
            return Ok(());
        }
        let reason = if answer.ok { "accepted without offset or epoch".to_owned() } else { answer.reason() };
        self.verifier.refused(index, sequence);
        count(&mut self.measured.refusals, &reason);
        Ok(())
    }

    fn on_delivery(&mut self, index: usize, text: &[u8], now: u64) {
        let Some(schedule) = self.schedule else {
            return self.verifier.malformed(index, "a delivery before anything was published");
        };
        let fast = self.reader.read(text);
        self.deliveries += 1;
        self.measured.slow_reads += u64::from(fast.is_none());
        let delivery = match fast {
            Some(delivery) if !self.deliveries.is_multiple_of(SAMPLE_EVERY) => delivery,
            _ => {
                let room = self.scenario.room_name(self.scenario.room_of(index as u32));
                match delivery::read_fully(text, &room) {
                    Ok(full) if fast.is_none_or(|fast| fast == full) => full,
                    Ok(full) => {
                        return self.verifier.malformed(index, &format!("read as {fast:?} and as {full:?}"));
                    }
                    Err(reason) => return self.verifier.malformed(index, &reason),
                }
            }
        };
        if self.verifier.delivered(index, &delivery) == Outcome::Fault {
            return;
        }
        let at = schedule.at_of(delivery.payload.publisher, delivery.payload.sequence);
        if at != delivery.payload.at_us {
            self.verifier.malformed(index, &format!("{:?} should have been sent at {at}", delivery.payload));
        } else if at >= self.measure_from_us {
            record(&mut self.measured.delivery, now, at);
        }
    }

    /// Sends every publish whose time has come.
    fn publish_due(&mut self, now: u64) {
        let Some(schedule) = self.schedule else { return };
        while self.next_publish < schedule.count && schedule.at_us(self.next_publish) <= now {
            let at_us = schedule.at_us(self.next_publish);
            let publisher = schedule.publisher(self.next_publish);
            self.next_publish += 1;
            let sequence = self.verifier.published(publisher);
            if self.connections[publisher].phase != Phase::Ready {
                self.verifier.unsent(publisher);
                continue;
            }
            let room = self.scenario.room_of(publisher as u32);
            let tenant = self.scenario.tenant_of(publisher as u32);
            let mut text = mem::take(&mut self.text);
            text.clear();
            let name = self.scenario.room_name(room);
            let kind = delivery::EVENT_TYPE;
            let ack = sequence + 1;
            let _ = write!(text, "42{ack}[\"publish\",{{\"room\":\"{name}\",\"type\":\"{kind}\",\"data\":");
            let payload = Payload { tenant, room, publisher: publisher as u32, sequence, at_us };
            payload.encode(self.scenario.payload_bytes, &mut text);
            text.extend_from_slice(b"}]");
            let mut out = mem::take(&mut self.out);
            out.clear();
            frame::encode_text(&text, self.next_mask(), &mut out);
            record(&mut self.measured.late, now_us(), at_us);
            self.send(publisher, &out);
            (self.text, self.out) = (text, out);
        }
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

    fn close(&mut self, index: usize, reason: &str) {
        let connection = &mut self.connections[index];
        match connection.phase {
            Phase::Closed => return,
            Phase::Ready => self.measured.closed_early += 1,
            _ => {
                self.handshakes -= 1;
                self.closed += 1;
            }
        }
        connection.phase = Phase::Closed;
        connection.inbox = Vec::new();
        connection.outbox = Vec::new();
        if let Some(mut stream) = connection.stream.take() {
            let _ = self.poll.registry().deregister(&mut stream);
        }
        count(&mut self.measured.failures, reason);
    }

    /// Masks exist to keep a script in a browser from choosing bytes on the wire (RFC 6455, 10.3); any sequence that varies will do here.
    fn next_mask(&mut self) -> [u8; 4] {
        self.mask ^= self.mask << 13;
        self.mask ^= self.mask >> 17;
        self.mask ^= self.mask << 5;
        self.mask.to_le_bytes()
    }
}

/// Replaces what is kept, giving memory back once nothing is.
fn keep(inbox: &mut Vec<u8>, rest: &[u8]) {
    if rest.is_empty() {
        if inbox.capacity() > 0 {
            *inbox = Vec::new();
        }
    } else {
        inbox.clear();
        inbox.extend_from_slice(rest);
    }
}
