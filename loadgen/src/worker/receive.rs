//! What a server says, frame by frame: on the way in, and once a connection is ready. Nearly every frame is a delivery, and that path is short.

use super::Worker;
use super::connection::{Pending, Step};
use crate::dialect::{Answer, Protocol};
use crate::histogram::{count, record};
use crate::ledger::Arrival;
use crate::packet;
use crate::payload::{self, Kind, Payload};
use crate::plan::Role;

/// Every how many deliveries one is looked at byte by byte.
const SAMPLE_EVERY: u64 = 1024;
/// The id that joining a room is acked with.
pub(super) const JOIN_ID: u32 = 0;

impl Worker {
    pub(super) fn on_upgraded(&mut self, index: usize, now: u64) {
        match self.dialect.protocol {
            Protocol::SocketIo => self.connections[index].step = Step::Opening,
            Protocol::WebSocket => self.enter(index, now),
        }
    }

    #[inline]
    pub(super) fn on_text(&mut self, index: usize, text: &[u8], now: u64) -> Result<(), String> {
        let start = &self.dialect.delivery_start;
        // An empty comparison is a call to memcmp nevertheless, and it was a twentieth of this process's time.
        if (start.is_empty() || text.starts_with(start))
            && let Some((payload, place)) = self.reader.read(text)
            && payload.kind == Kind::Publish
        {
            self.on_delivery(index, &payload, text, place, now);
            return Ok(());
        }
        self.on_other(index, text, now)
    }

    /// Everything that is not a delivery.
    fn on_other(&mut self, index: usize, text: &[u8], now: u64) -> Result<(), String> {
        match self.dialect.protocol {
            Protocol::SocketIo => self.on_packet(index, text, now),
            Protocol::WebSocket => self.on_raw(index, text, now),
        }
    }

    fn on_packet(&mut self, index: usize, text: &[u8], now: u64) -> Result<(), String> {
        if let Some(arguments) = text.strip_prefix(self.dialect.event_start.as_slice()) {
            return self.on_event(index, arguments, text, now);
        }
        if let Some(rest) = text.strip_prefix(self.dialect.ack_start.as_slice()) {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let id = std::str::from_utf8(&rest[..digits]).ok().and_then(|digits| digits.parse().ok());
            let Some(id) = id else { return Err("an ack without a number".to_owned()) };
            return self.on_ack(index, id, &rest[digits..], now);
        }
        let step = self.connections[index].step;
        match text {
            b"2" => self.say(index, |_, out| out.push(b'3')),
            b"6" => {}
            b"1" => return Err("closed by the server".to_owned()),
            [b'0', b'{', ..] if step == Step::Opening => {
                self.connections[index].step = Step::Joining;
                self.say(index, |worker, out| {
                    out.extend_from_slice(b"40");
                    out.extend_from_slice(worker.dialect.namespace.as_bytes());
                    if let Some(auth) = &worker.dialect.auth {
                        worker.fill(index, auth, None, out);
                    }
                });
            }
            [b'4', b'0', ..] if step == Step::Joining => self.enter(index, now),
            [b'4', b'1', ..] => return Err("disconnected by the server".to_owned()),
            [b'4', b'4', reason @ ..] => return Err(format!("refused: {}", short(reason))),
            _ => return Err(format!("{:?} while {step:?}", short(text))),
        }
        Ok(())
    }

    fn on_raw(&mut self, index: usize, text: &[u8], now: u64) -> Result<(), String> {
        if self.connections[index].step == Step::Entering {
            let joined = self.dialect.join_answer.as_ref().is_some_and(|answer| contains(text, answer));
            if joined {
                self.on_ready(index, now);
            }
            return Ok(());
        }
        self.on_event(index, text, text, now)
    }

    /// An event: its arguments, and the whole text they stand in.
    fn on_event(&mut self, index: usize, arguments: &[u8], text: &[u8], now: u64) -> Result<(), String> {
        if arguments.starts_with(&self.dialect.event)
            && let Some((payload, place)) = self.reader.read(text)
        {
            match payload.kind {
                Kind::Publish => self.on_delivery(index, &payload, text, place, now),
                Kind::Noise => self.meter.counts.other_received += 1,
                Kind::Request => self.on_answer(index, payload.sequence, text, now),
            }
            return Ok(());
        }
        self.meter.counts.other_received += 1;
        let step = self.connections[index].step;
        let tells = self.dialect.join_answer.as_ref().is_some_and(|answer| contains(text, answer));
        if tells && step == Step::Entering && !self.dialect.join_acked {
            self.on_ready(index, now);
            return Ok(());
        }
        let name = packet::event_name(arguments);
        if name == "error" {
            count(&mut self.outcome.failures, &format!("said: {}", short(arguments)));
        }
        count(&mut self.outcome.other_events, name);
        Ok(())
    }

    #[inline]
    fn on_delivery(&mut self, index: usize, payload: &Payload, text: &[u8], place: usize, now: u64) {
        let connection = &self.connections[index];
        // On the way in what comes is a surplus: everything after the answer to joining is owed.
        if connection.step != Step::Ready {
            return;
        }
        if payload.run != self.plan.run || payload.room != connection.room || payload.place >= self.plan.publishers {
            return self.on_stranger(index, payload);
        }
        match self.ledger.take(connection.base + payload.place as usize, payload.sequence) {
            Arrival::InOrder => {}
            arrival => {
                if !self.on_disorder(index, payload, arrival) {
                    return;
                }
            }
        }
        self.tally.received += 1;
        self.meter.delivered(now, payload.at_us);
        self.seen += 1;
        if self.seen.is_multiple_of(SAMPLE_EVERY) {
            self.examine(index, payload, text, place);
        }
        if payload.place == self.connections[index].place && self.load.flights.is_some() {
            self.on_landed(payload, now);
        }
        if !self.last.is_empty() {
            self.on_last(payload, now);
        }
    }

    #[cold]
    fn on_stranger(&mut self, index: usize, payload: &Payload) {
        let (run, room) = (self.plan.run, self.connections[index].room);
        let is_foreign = payload.run == run && self.plan.tenant(payload.room) != self.plan.tenant(room);
        let is_known = payload.run == run && payload.room == room;
        let (fault, name) = match (is_foreign, is_known) {
            (true, _) => (&mut self.tally.foreign, "of another tenant"),
            (_, true) => (&mut self.tally.unknown, "of nobody who publishes"),
            _ => (&mut self.tally.misrouted, "of another room"),
        };
        *fault += 1;
        let member = self.numbers[index];
        self.tally.example(|| format!("connection {member} of room {room} received {payload:?}: {name}"));
    }

    /// Whether it still counts as received.
    #[cold]
    fn on_disorder(&mut self, index: usize, payload: &Payload, arrival: Arrival) -> bool {
        let fault = match arrival {
            Arrival::Again => &mut self.tally.duplicate,
            Arrival::Unknown => &mut self.tally.unknown,
            _ => &mut self.tally.out_of_order,
        };
        *fault += 1;
        let member = self.numbers[index];
        self.tally.example(|| format!("connection {member} received {payload:?}: {arrival:?}"));
        arrival == Arrival::Late
    }

    #[cold]
    fn examine(&mut self, index: usize, payload: &Payload, text: &[u8], place: usize) {
        let bytes = self.plan.scenario.payload_bytes;
        let json = text.strip_prefix(self.dialect.event_start.as_slice()).unwrap_or(text);
        let is_json = self.dialect.protocol == Protocol::WebSocket
            || serde_json::from_slice::<Vec<serde::de::IgnoredAny>>(json).is_ok();
        if !is_json || !payload::is_intact(payload, text, place, bytes) {
            self.tally.malformed += 1;
            let member = self.numbers[index];
            self.tally.example(|| format!("connection {member} received {payload:?} in {:?}", short(text)));
        }
    }

    #[cold]
    fn on_last(&mut self, payload: &Payload, now: u64) {
        let publisher = self.plan.connection(payload.room, payload.place);
        if !self.meter.is_measured(payload.at_us) {
            return;
        }
        let publishes = self.last.entry(publisher).or_default();
        let sequence = payload.sequence as usize;
        if publishes.len() <= sequence {
            publishes.resize(sequence + 1, (0, 0, 0));
        }
        let (count, at, last) = &mut publishes[sequence];
        (*count, *at, *last) = (*count + 1, payload.at_us, now);
    }

    fn on_ack(&mut self, index: usize, id: u32, arguments: &[u8], now: u64) -> Result<(), String> {
        let connection = &self.connections[index];
        if id == JOIN_ID && connection.step == Step::Entering {
            let denied = self.dialect.join_answer.as_ref().is_some_and(|answer| !contains(arguments, answer));
            if denied {
                return Err(format!("joining refused: {}", short(arguments)));
            }
            self.on_ready(index, now);
            return Ok(());
        }
        self.on_answer(index, id, arguments, now);
        Ok(())
    }

    fn on_answer(&mut self, index: usize, id: u32, text: &[u8], now: u64) {
        let pending = &mut self.connections[index].pending;
        // Answers come in the order of the requests, nearly always.
        let position = match pending.front() {
            Some(first) if first.id == id => Some(0),
            _ => pending.iter().position(|pending| pending.id == id),
        };
        let Some(Pending { request, at_us, .. }) = position.and_then(|position| pending.remove(position)) else {
            self.tally.unknown += 1;
            let member = self.numbers[index];
            self.tally
                .example(|| format!("connection {member} received an answer to {id}, not asked or answered before"));
            return;
        };
        let is_right = match (request, &self.dialect.request_answer) {
            (true, Answer::Any) => true,
            (true, Answer::Contains(part)) => contains(text, part),
            (true, Answer::Payload) => {
                let connection = &self.connections[index];
                let is_mine = |payload: &Payload| {
                    let of = (payload.run, payload.room, payload.place, payload.sequence);
                    payload.kind == Kind::Request && of == (self.plan.run, connection.room, connection.place, id)
                };
                self.reader.read(text).is_some_and(|(payload, _)| is_mine(&payload))
            }
            (false, _) => self.dialect.publish_answer.as_ref().is_none_or(|part| contains(text, part)),
        };
        if !is_right {
            self.tally.refused += 1;
            count(&mut self.outcome.refusals, &short(text));
        } else if request {
            self.tally.answered += 1;
            self.meter.counts.answered += 1;
            if self.meter.is_measured(at_us) {
                record(&mut self.meter.request, now, at_us);
            }
        } else {
            self.tally.acked += 1;
            if self.meter.is_measured(at_us) {
                record(&mut self.meter.publish_ack, now, at_us);
            }
        }
        if request {
            self.on_request_done(now);
        }
    }

    /// Joins the room, or is ready where there is none.
    fn enter(&mut self, index: usize, now: u64) {
        if self.plan.scenario.rooms_per_tenant == 0 {
            return self.on_ready(index, now);
        }
        self.connections[index].step = Step::Entering;
        self.say(index, |worker, out| {
            if worker.dialect.protocol == Protocol::SocketIo {
                out.extend_from_slice(&worker.dialect.event_start);
                if worker.dialect.join_acked {
                    out.extend_from_slice(JOIN_ID.to_string().as_bytes());
                }
            }
            worker.fill(index, &worker.dialect.join, None, out);
        });
        if !self.dialect.join_acked
            && self.dialect.join_answer.is_none()
            && self.connections[index].step == Step::Entering
        {
            self.on_ready(index, now);
        }
    }

    fn on_ready(&mut self, index: usize, now: u64) {
        self.handshakes -= 1;
        self.progress_us = now;
        self.meter.counts.opened += 1;
        let connection = &mut self.connections[index];
        connection.step = Step::Ready;
        let came_back = std::mem::replace(&mut connection.was_ready, true);
        let due_us = connection.due_us;
        if came_back {
            record(&mut self.meter.reconnect, now, due_us);
        } else {
            self.opening -= 1;
            self.outcome.ready += 1;
            self.outcome.connect_us = now.saturating_sub(self.connect_start_us);
            record(&mut self.meter.connect, now, due_us);
        }
        if self.load.begun && self.connections[index].role != Role::Slow {
            self.open_streams(index, now);
        }
    }

    /// From now on it must receive everything that is published from now on.
    fn open_streams(&mut self, index: usize, now: u64) {
        let Some(cadence) = self.load.publish else { return };
        let connection = &self.connections[index];
        for place in 0..self.plan.publishers {
            let publisher = self.plan.connection(connection.room, place);
            let due = cadence.first_after(u64::from(publisher), now);
            self.ledger.open(connection.base + place as usize, due as u32);
        }
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(text, part).is_some()
}

fn short(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(80)]).into_owned()
}
