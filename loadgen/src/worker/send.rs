//! What is due: openings, publishes, requests, noise, leaving and storms.

use std::cmp::Reverse;
use std::mem;

use super::closed::{Flight, Flights};
use super::connection::{Pending, Step};
use super::{Load, Worker};
use crate::cadence::{Cadence, Turns};
use crate::clock::now_us;
use crate::dialect::{Names, Protocol, Template};
use crate::histogram::record;
use crate::payload::{Kind, Payload};

/// Closed-loop requests without any answer for this long are sent again.
const STALL_US: u64 = 5_000_000;

impl Load {
    pub(super) fn nothing() -> Load {
        Load {
            publish: None,
            publishes: None,
            requests: None,
            asking: None,
            noises: None,
            leaves: None,
            storm_us: None,
            flights: None,
            until_us: u64::MAX,
            closed_from_us: None,
            looked_us: 0,
            begun: false,
        }
    }
}

/// The closed loop of requests: so many are under way, over these connections in turn.
pub(super) struct Asking {
    pub under_way: u32,
    senders: Vec<usize>,
    next: usize,
    progress_us: u64,
}

impl Worker {
    pub(super) fn begin_load(&mut self, start_us: u64, from_us: u64, until_us: u64) {
        let scenario = self.plan.scenario.clone();
        let cadence = |rate: f64, participants: u32| Cadence { start_us, rate, participants: u64::from(participants) };
        let mine =
            |below: u32| -> Vec<u32> { self.numbers.iter().copied().take_while(|&number| number < below).collect() };
        let (publishing, sending) = (self.plan.publishing(), self.plan.sending());
        let mut load = Load { until_us, begun: true, ..Load::nothing() };
        if let Some(rate) = scenario.publish.and_then(|publish| publish.rate) {
            let cadence = cadence(rate, publishing);
            load.publish = Some(cadence);
            load.publishes = Some(Turns::new(cadence, mine(publishing), until_us));
        }
        if let Some(rate) = scenario.request.and_then(|request| request.rate) {
            load.requests = Some(Turns::new(cadence(rate, sending), mine(sending), until_us));
        }
        if let Some(noise) = scenario.noise {
            load.noises = Some(Turns::new(cadence(noise.rate, sending), mine(sending), until_us));
        }
        let leaving: Vec<u32> = self.leavers.iter().map(|(ordinal, _)| *ordinal).collect();
        let all_leaving = self.plan.leaving();
        if let Some(churn) = scenario.churn.filter(|_| all_leaving > 0) {
            load.leaves = Some(Turns::new(cadence(churn.rate, all_leaving), leaving, until_us));
        }
        load.storm_us = scenario.storm.map(|_| from_us);
        if let Some(in_flight) = scenario.request.and_then(|request| request.in_flight) {
            let senders = mine(sending);
            // Of all that are under way, as many as this process has of the senders.
            let before = |senders: u32| u64::from(in_flight) * u64::from(senders) / u64::from(sending.max(1));
            let share = match self.plan.processes {
                1 => u64::from(in_flight),
                _ => before(senders.len() as u32).max(1),
            };
            let senders: Vec<usize> = (0..senders.len()).collect();
            let under_way = if senders.is_empty() { 0 } else { share as u32 };
            load.asking = Some(Asking { under_way, senders, next: 0, progress_us: start_us });
        }
        if let Some(in_flight) = scenario.publish.and_then(|publish| publish.in_flight) {
            let is_here = |room: u32| self.numbers.binary_search(&room).is_ok();
            load.flights = Some(Flights::new(in_flight, self.plan.publishers, self.plan.rooms(), is_here));
        }
        if scenario.publish.is_some_and(|publish| publish.last) {
            // Not empty: that is how a delivery knows that it is asked.
            self.last.insert(0, Vec::new());
        }
        self.load = load;
        if start_us <= now_us() {
            self.begin_closed(now_us());
        } else {
            self.load.closed_from_us = Some(start_us);
        }
    }

    /// Sends the first events of the closed loops.
    fn begin_closed(&mut self, now: u64) {
        self.load.closed_from_us = None;
        for (room, place) in self.load.flights.as_ref().map(Flights::first).unwrap_or_default() {
            self.launch(room, place, now);
        }
        for _ in 0..self.load.asking.as_ref().map_or(0, |asking| asking.under_way) {
            self.ask_next(now);
        }
    }

    /// Does everything whose time has come.
    pub(super) fn act(&mut self, now: u64) {
        if self.load.closed_from_us.is_some_and(|at| at <= now) {
            self.begin_closed(now);
        }
        while let Some((number, at)) = self.load.publishes.as_mut().and_then(|turns| turns.pop(now)) {
            self.publish(number, at);
        }
        while let Some((number, at)) = self.load.requests.as_mut().and_then(|turns| turns.pop(now)) {
            if let Ok(index) = self.numbers.binary_search(&number) {
                self.request(index, at);
            }
        }
        while let Some((number, at)) = self.load.noises.as_mut().and_then(|turns| turns.pop(now)) {
            if let Ok(index) = self.numbers.binary_search(&number) {
                self.make_noise(index, at);
            }
        }
        while let Some((ordinal, _)) = self.load.leaves.as_mut().and_then(|turns| turns.pop(now)) {
            if let Ok(at) = self.leavers.binary_search_by_key(&ordinal, |(ordinal, _)| *ordinal) {
                let away_us = self.plan.scenario.churn.map_or(0, |churn| churn.away_ms * 1000);
                self.leave(self.leavers[at].1, now + away_us);
            }
        }
        if let Some(at) = self.load.storm_us.filter(|&at| at <= now) {
            self.storm(at);
        }
        // After those who leave: some of them come back at once.
        while self.handshakes < self.plan.scenario.handshakes_max {
            let Some(&Reverse((due, index))) = self.openings.peek().filter(|Reverse((due, _))| *due <= now) else {
                break;
            };
            self.openings.pop();
            self.open(index, due);
        }
        self.look_for_stalls(now);
        self.due_us = self.next_due();
    }

    fn next_due(&self) -> u64 {
        let opening = self.openings.peek().map(|Reverse((due, _))| *due);
        let load = &self.load;
        let turns = [&load.publishes, &load.requests, &load.noises, &load.leaves];
        let turns = turns.into_iter().flatten().filter_map(Turns::next_us);
        // An opening that waits for a handshake to end is looked at when one has, or at the next tick.
        let opening = opening.filter(|_| self.handshakes < self.plan.scenario.handshakes_max);
        turns.chain(opening).chain(load.storm_us).chain(load.closed_from_us).min().unwrap_or(u64::MAX)
    }

    fn look_for_stalls(&mut self, now: u64) {
        self.give_up_stalled(now);
        if now >= self.load.until_us || now < self.load.looked_us + super::TICK_US {
            return;
        }
        self.load.looked_us = now;
        while let Some((room, place)) = self.load.flights.as_mut().and_then(|flights| flights.stalled(now)) {
            self.tally.stalled += 1;
            self.launch(room, place, now);
        }
        let stalled = |asking: &Asking| asking.under_way > 0 && now > asking.progress_us + STALL_US;
        if let Some(asking) = self.load.asking.as_mut().filter(|asking| stalled(asking)) {
            asking.progress_us = now;
            let again = asking.under_way;
            self.tally.stalled += u64::from(again);
            for _ in 0..again {
                self.ask_next(now);
            }
        }
    }

    /// Publishes as the connection of this number, which is a publisher's.
    fn publish(&mut self, number: u32, at_us: u64) -> Option<u32> {
        let index = self.numbers.binary_search(&number).ok()?;
        let connection = &self.connections[index];
        if connection.step != Step::Ready {
            self.tally.unsent += 1;
            return None;
        }
        let sequence = self.sent[number as usize];
        self.sent[number as usize] = sequence + 1;
        self.tally.published += 1;
        self.meter.counts.published += 1;
        let payload = self.payload(index, Kind::Publish, sequence, at_us);
        let ack = self.plan.scenario.publish.is_some_and(|publish| publish.ack)
            && self.dialect.protocol == Protocol::SocketIo;
        let id = ack.then(|| self.expect(index, false, at_us));
        self.event(index, id, payload, |worker| &worker.dialect.publish);
        self.late(at_us);
        Some(sequence)
    }

    fn request(&mut self, index: usize, at_us: u64) {
        if self.connections[index].step != Step::Ready {
            self.tally.unsent += 1;
            return;
        }
        self.tally.requested += 1;
        self.meter.counts.requested += 1;
        let id = self.expect(index, true, at_us);
        let payload = self.payload(index, Kind::Request, id, at_us);
        self.event(index, Some(id), payload, |worker| &worker.dialect.request);
        self.late(at_us);
    }

    fn make_noise(&mut self, index: usize, at_us: u64) {
        if self.connections[index].step != Step::Ready {
            self.tally.unsent += 1;
            return;
        }
        self.meter.counts.noise_sent += 1;
        // A sender's noises alternate: it begins to type, it stops.
        let nth = self.connections[index].noises;
        self.connections[index].noises = nth.wrapping_add(1);
        let payload = self.payload(index, Kind::Noise, nth, at_us);
        self.event(index, None, payload, |worker| {
            let noises = &worker.dialect.noise;
            noises.get(nth as usize % noises.len().max(1)).unwrap_or(&worker.dialect.publish)
        });
    }

    fn late(&mut self, at_us: u64) {
        if self.meter.is_measured(at_us) {
            record(&mut self.meter.late, now_us(), at_us);
        }
    }

    fn payload(&self, index: usize, kind: Kind, sequence: u32, at_us: u64) -> Payload {
        let connection = &self.connections[index];
        Payload { kind, run: self.plan.run, room: connection.room, place: connection.place, sequence, at_us }
    }

    /// An answer is awaited from now on; its id.
    fn expect(&mut self, index: usize, request: bool, at_us: u64) -> u32 {
        let connection = &mut self.connections[index];
        let id = connection.next_id;
        connection.next_id += 1;
        connection.pending.push_back(Pending { id, request, at_us });
        id
    }

    fn event(&mut self, index: usize, id: Option<u32>, payload: Payload, template: impl Fn(&Worker) -> &Template) {
        self.say(index, |worker, out| {
            if worker.dialect.protocol == Protocol::SocketIo {
                out.extend_from_slice(&worker.dialect.event_start);
                if let Some(id) = id {
                    out.extend_from_slice(id.to_string().as_bytes());
                }
            }
            worker.fill(index, template(worker), Some(payload), out);
        });
    }

    /// Sends one text.
    pub(super) fn say(&mut self, index: usize, write: impl FnOnce(&Worker, &mut Vec<u8>)) {
        let mut text = mem::take(&mut self.text);
        text.clear();
        write(self, &mut text);
        self.text = text;
        self.send_text(index);
    }

    pub(super) fn fill(&self, index: usize, template: &Template, payload: Option<Payload>, out: &mut Vec<u8>) {
        let room = self.connections[index].room as usize;
        let (is_user, is_token) = template.names();
        let user = if is_user || is_token { self.plan.user_name(self.numbers[index]) } else { String::new() };
        let tenant = &self.tenant_names[room];
        let token = match (&self.dialect.token, &self.mint) {
            _ if !is_token => String::new(),
            (Some(token), _) => token.clone(),
            (None, Some(mint)) => mint.token(&user, tenant),
            (None, None) => "none".to_owned(),
        };
        let payload = payload.map(|payload| (payload, self.plan.scenario.payload_bytes));
        let room = &self.room_names[room];
        template.fill(&Names { room, tenant, user: &user, token: &token, payload }, out);
    }

    /// Sends a closed-loop event.
    fn launch(&mut self, room: u32, place: u32, now: u64) {
        let number = self.plan.connection(room, place);
        let sequence = self.publish(number, now);
        if let Some(flights) = &mut self.load.flights {
            // Not sent: looked at again when it is overdue.
            flights.sent(room, Flight { place, sequence: sequence.unwrap_or(u32::MAX), sent_us: now });
        }
    }

    pub(super) fn on_landed(&mut self, payload: &Payload, now: u64) {
        let next = self
            .load
            .flights
            .as_mut()
            .and_then(|flights| flights.landed(payload.room, payload.place, payload.sequence));
        if let Some(place) = next.filter(|_| now < self.load.until_us) {
            self.launch(payload.room, place, now_us());
        }
    }

    fn ask_next(&mut self, now: u64) {
        let Some(asking) = &mut self.load.asking else { return };
        let Some(&index) = asking.senders.get(asking.next) else { return };
        asking.next = (asking.next + 1) % asking.senders.len();
        self.request(index, now);
    }

    pub(super) fn on_request_done(&mut self, now: u64) {
        let Some(asking) = &mut self.load.asking else { return };
        asking.progress_us = now;
        if now < self.load.until_us {
            self.ask_next(now_us());
        }
    }

    /// A connection goes away, to come back at `back_us`.
    fn leave(&mut self, index: usize, back_us: u64) {
        let connection = &mut self.connections[index];
        if connection.step == Step::Ready {
            connection.pending.clear();
            self.meter.counts.left += 1;
            self.forget(index);
            self.openings.push(Reverse((back_us, index)));
        }
    }

    fn storm(&mut self, at_us: u64) {
        let Some(storm) = self.plan.scenario.storm else { return };
        let cadence =
            Cadence { start_us: at_us, rate: storm.rate, participants: u64::from(self.plan.leaving().max(1)) };
        for (ordinal, index) in self.leavers.clone() {
            self.leave(index, cadence.at_us(u64::from(ordinal)));
        }
        let next = at_us + (storm.every * 1e6) as u64;
        self.load.storm_us = (storm.every > 0.0 && next < self.load.until_us).then_some(next);
    }
}
