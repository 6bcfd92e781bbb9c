//! A child process: one thread, one epoll instance, its share of the connections. It does what its leader orders and tells what it sees.
//!
//! Invariants: the loop never blocks but in the poll (and, for moments, in telling the leader); what is due leaves at its intended time or as
//! soon after as the loop comes round; time is read once a read, so that a delivery's latency includes nothing that happens after its bytes
//! arrived; a delivery allocates nothing and is not parsed beyond what its verification needs.

mod closed;
mod connection;
mod meter;
mod receive;
mod send;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io::{ErrorKind, Write};
use std::mem;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use self::closed::Flights;
use self::connection::{Connection, Step};
use self::meter::Meter;
use self::send::Asking;
use crate::cadence::{Cadence, Turns};
use crate::clock::{Alarm, now_us};
use crate::dialect::Dialect;
use crate::ledger::Ledger;
use crate::payload::Reader;
use crate::plan::{Plan, Role};
use crate::process::{pin, reserve_files};
use crate::protocol::{Lines, News, Order, Outcome, Phase, Setup, Tally, line};
use crate::target::Target;
use crate::token::{Mint, unix_seconds};

const ALARM: Token = Token(usize::MAX);
const LEADER: Token = Token(usize::MAX - 1);
/// Ready sockets taken from the kernel at a time.
const EVENTS_MAX: usize = 1024;
/// The shared read buffer: a saturated server's hundred frames come in one read, and it still fits the second-level cache.
const SCRATCH_BYTES: usize = 64 * 1024;
const TICK_US: u64 = 100_000;
/// After everything is in: how long to look for duplicates.
const GRACE_US: u64 = 300_000;
/// Files besides the connections.
const FILES_SPARE: u64 = 32;
/// Without any handshake completing for this long, the rest have failed.
const HANDSHAKE_STALL_US: u64 = 15_000_000;

struct Worker {
    plan: Plan,
    dialect: Dialect,
    /// The server's nodes.
    targets: Vec<Target>,
    mint: Option<Mint>,
    process: u32,
    poll: Poll,
    events: Events,
    alarm: Alarm,
    orders: Lines,
    /// The connections of this process, by their number over all processes; ascending.
    numbers: Vec<u32>,
    connections: Vec<Connection>,
    /// Connections that leave and come back: (ordinal over all processes, index here).
    leavers: Vec<(u32, usize)>,
    room_names: Vec<String>,
    tenant_names: Vec<String>,
    scratch: Vec<u8>,
    text: Vec<u8>,
    out: Vec<u8>,
    reader: Reader,
    ledger: Ledger,
    meter: Meter,
    outcome: Outcome,
    tally: Tally,
    mask: u32,
    /// Deliveries so far: every thousandth is looked at in full.
    seen: u64,
    /// When to open which connection.
    openings: BinaryHeap<Reverse<(u64, usize)>>,
    handshakes: u32,
    /// Connections of the first opening that are neither ready nor failed.
    opening: u32,
    progress_us: u64,
    connect_start_us: u64,
    load: Load,
    /// Count of each publisher, by its number.
    sent: Vec<u32>,
    /// (deliveries, intended time, time of the last), by publisher and sequence; only where the last one is asked for.
    last: BTreeMap<u32, Vec<(u32, u64, u64)>>,
    /// Nothing is due before.
    due_us: u64,
    state: State,
    /// It polls without sleeping.
    busy_poll: bool,
}

/// What is sent from when to when.
struct Load {
    publish: Option<Cadence>,
    publishes: Option<Turns>,
    requests: Option<Turns>,
    asking: Option<Asking>,
    noises: Option<Turns>,
    leaves: Option<Turns>,
    storm_us: Option<u64>,
    flights: Option<Flights>,
    until_us: u64,
    /// When the closed loops begin, if they have not.
    closed_from_us: Option<u64>,
    /// When stalls were last looked for.
    looked_us: u64,
    begun: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Opening,
    Loading,
    /// Until this time at most.
    Draining(u64),
    /// Everything is in; duplicates may still come until this time.
    Grace(u64),
    Done,
}

/// The whole life of a child. Its errors go to the leader, which says them.
pub fn main() -> Result<()> {
    let result = Worker::start().and_then(|mut worker| worker.run());
    if let Err(error) = &result {
        let _ = std::io::stdout().write_all(&line(&News::Failed(format!("{error:#}"))));
    }
    result
}

fn tell(news: &News) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(&line(news)).and_then(|()| out.flush()).context("the leader is gone")
}

impl Worker {
    /// Waits for the setup and gets ready.
    fn start() -> Result<Worker> {
        let mut orders = Lines::default();
        let setup = loop {
            read_leader(&mut orders)?;
            match orders.take::<Order>() {
                Some(Ok(Order::Setup(setup))) => break *setup,
                Some(Ok(order)) => bail!("{order:?} before the setup"),
                Some(Err(error)) => bail!("{error}"),
                None => {}
            }
        };
        let Setup { scenario, processes, process, run, authorities, secret, cpus, busy_poll } = setup;
        pin(&cpus)?;
        let dialect = Dialect::compile(&scenario.dialect.clone().unwrap_or_default()).map_err(anyhow::Error::msg)?;
        let mint = secret.map(|secret| Ok::<_, anyhow::Error>(Mint::new(&secret, unix_seconds()?))).transpose()?;
        let plan = Plan::new(scenario, processes, run);
        let numbers = plan.share(process);
        reserve_files(numbers.len() as u64 + FILES_SPARE)?;
        let publishers = plan.publishers as usize;
        let connections = numbers
            .iter()
            .enumerate()
            .map(|(index, &number)| Connection::new(&plan, number, index * publishers))
            .collect();
        let all = 0..plan.scenario.connections;
        let leaving = all.filter(|&connection| plan.role(connection) == Role::Leaving).enumerate();
        let leavers = leaving
            .filter_map(|(ordinal, number)| Some((ordinal as u32, numbers.binary_search(&number).ok()?)))
            .collect();
        let poll = Poll::new().context("epoll")?;
        let alarm = Alarm::new().context("timerfd")?;
        poll.registry().register(&mut SourceFd(&alarm.raw_fd()), ALARM, Interest::READABLE)?;
        rustix::io::ioctl_fionbio(rustix::stdio::stdin(), true).context("stdin")?;
        poll.registry().register(&mut SourceFd(&0), LEADER, Interest::READABLE).context("stdin")?;
        tell(&News::Ready)?;
        Ok(Worker {
            room_names: (0..plan.rooms()).map(|room| plan.room_name(room)).collect(),
            tenant_names: (0..plan.rooms()).map(|room| plan.tenant_name(room)).collect(),
            ledger: Ledger::new(numbers.len() * publishers),
            sent: vec![0; plan.publishing() as usize],
            targets: authorities.iter().map(|authority| Target::of(authority)).collect::<Result<_>>()?,
            plan,
            dialect,
            mint,
            process,
            poll,
            events: Events::with_capacity(EVENTS_MAX),
            alarm,
            orders,
            numbers,
            connections,
            leavers,
            scratch: vec![0; SCRATCH_BYTES],
            text: Vec::new(),
            out: Vec::new(),
            reader: Reader::new(),
            meter: Meter::new(),
            outcome: Outcome::default(),
            tally: Tally::default(),
            mask: 0x9e37_79b9 ^ process,
            seen: 0,
            openings: BinaryHeap::new(),
            handshakes: 0,
            opening: 0,
            progress_us: 0,
            connect_start_us: 0,
            load: Load::nothing(),
            last: BTreeMap::new(),
            due_us: 0,
            state: State::Waiting,
            busy_poll,
        })
    }

    fn run(&mut self) -> Result<()> {
        while self.state != State::Done {
            let now = now_us();
            self.act(now);
            self.advance(now)?;
            let until = self.due_us.min(now + TICK_US).min(self.meter.end_us());
            self.turn(now, until)?;
            while let Some(order) = self.orders.take::<Order>() {
                self.obey(order.map_err(anyhow::Error::msg)?)?;
            }
        }
        Ok(())
    }

    fn obey(&mut self, order: Order) -> Result<()> {
        match order {
            Order::Setup(_) => bail!("a second setup"),
            Order::Connect { start_us } => {
                let rate = self.plan.scenario.connect_rate;
                let cadence = Cadence { start_us, rate, participants: u64::from(self.plan.scenario.connections) };
                for (index, &number) in self.numbers.iter().enumerate() {
                    self.openings.push(Reverse((cadence.at_us(u64::from(number)), index)));
                }
                (self.opening, self.connect_start_us, self.progress_us) =
                    (self.numbers.len() as u32, start_us, start_us);
                self.meter.begin(Phase::Connect, start_us);
                self.state = State::Opening;
            }
            Order::Load { start_us, from_us, until_us } => {
                self.meter.load(start_us, from_us, until_us);
                self.begin_load(start_us, from_us, until_us);
                self.state = State::Loading;
            }
            Order::Drain { sent, until_us } => {
                if sent.len() != self.sent.len() {
                    bail!("{} publishers, not {}", sent.len(), self.sent.len());
                }
                self.sent = sent;
                self.state = State::Draining(until_us);
            }
        }
        self.due_us = 0;
        Ok(())
    }

    /// Ends what has ended.
    fn advance(&mut self, now: u64) -> Result<()> {
        while let Some(window) = self.meter.roll(now) {
            tell(&News::Window(Box::new(window)))?;
        }
        let state = self.state;
        match state {
            State::Opening if self.opening == 0 => {
                if self.outcome.ready == 0 {
                    let reason = self.outcome.failures.keys().next().map_or("", String::as_str);
                    let nodes: Vec<&str> = self.targets.iter().map(|target| target.authority.as_str()).collect();
                    bail!("no connection to {} could be opened: {reason}", nodes.join(", "));
                }
                self.state = State::Waiting;
                tell(&News::Opened)?;
            }
            State::Loading if now >= self.load.until_us => {
                self.state = State::Waiting;
                let first = |(publisher, &count): (usize, &u32)| (count > 0).then_some((publisher as u32, count));
                tell(&News::Sent(self.sent.iter().enumerate().filter_map(first).collect()))?;
            }
            State::Draining(until) if now >= until || self.looks_settled(now) => {
                self.state = State::Grace(now + if now >= until { 0 } else { GRACE_US });
            }
            State::Grace(until) if now >= until => {
                if let Some(window) = self.meter.finish(now) {
                    tell(&News::Window(Box::new(window)))?;
                }
                let outcome = self.finish();
                tell(&News::Result(Box::new(outcome)))?;
                self.state = State::Done;
            }
            _ => {}
        }
        Ok(())
    }

    /// Waits for something to happen, at most until `until_us`, and handles it.
    fn turn(&mut self, now: u64, until_us: u64) -> Result<()> {
        let wait = self.busy_poll.then_some(Duration::ZERO);
        if !self.busy_poll {
            self.alarm.set(until_us).context("timerfd")?;
        }
        match self.poll.poll(&mut self.events, wait) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            outcome => outcome.context("epoll")?,
        }
        if self.busy_poll && self.events.is_empty() {
            self.meter.counts.idle_us += now_us() - now;
        }
        let events = mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            match event.token() {
                ALARM => self.alarm.fired(),
                LEADER => read_leader(&mut self.orders)?,
                Token(index) => {
                    if event.is_writable() {
                        self.on_writable(index);
                    }
                    if event.is_readable() || event.is_read_closed() || event.is_error() {
                        let now = self.on_readable(index, event.is_read_closed());
                        if now >= self.due_us {
                            self.act(now);
                        }
                    }
                }
            }
        }
        self.events = events;
        Ok(())
    }

    /// As [`Worker::is_settled`], asked now and then: it goes through every stream.
    fn looks_settled(&mut self, now: u64) -> bool {
        let is_time = now >= self.load.looked_us + TICK_US / 5;
        if is_time {
            self.load.looked_us = now;
        }
        is_time && self.is_settled()
    }

    /// Every publish has reached everyone and every request is answered: waiting longer can only show a duplicate.
    fn is_settled(&self) -> bool {
        let waiting = |connection: &Connection| connection.step == Step::Ready && !connection.pending.is_empty();
        let away = self.handshakes > 0 || !self.openings.is_empty();
        !away
            && !self.connections.iter().any(waiting)
            && self.streams().all(|(_, stream, sent)| self.ledger.lost(stream, sent) == 0)
    }

    /// Every stream that is verified: its member, the stream, and what its publisher sent.
    fn streams(&self) -> impl Iterator<Item = (usize, usize, u32)> + '_ {
        let publishers = self.plan.publishers;
        let verified = |connection: &Connection| match connection.role {
            Role::Steady => connection.was_ready,
            Role::Leaving => connection.step == Step::Ready,
            Role::Slow => false,
        };
        self.connections.iter().enumerate().filter(move |(_, connection)| verified(connection)).flat_map(
            move |(index, connection)| {
                let of = move |place: u32| {
                    let publisher = self.plan.connection(connection.room, place);
                    (index, connection.base + place as usize, self.sent[publisher as usize])
                };
                (0..publishers).map(of)
            },
        )
    }

    /// Counts what is missing, and says it.
    fn finish(&mut self) -> Outcome {
        let mut tally = mem::take(&mut self.tally);
        let mut lost = 0;
        for (index, stream, sent) in self.streams() {
            let missing = self.ledger.lost(stream, sent);
            lost += missing;
            if missing > 0 {
                let (member, first) = (self.numbers[index], self.ledger.first_lost(stream));
                let place = stream - self.connections[index].base;
                tally.example(|| {
                    format!(
                        "connection {member} never received {first} of its room's publisher {place} ({missing} lost)"
                    )
                });
            }
            tally.unknown += u64::from(self.ledger.exceeds(stream, sent));
        }
        tally.lost = lost;
        tally.expected = tally.received + lost;
        for connection in &self.connections {
            for pending in &connection.pending {
                match pending.request {
                    true => tally.unanswered += 1,
                    false => tally.unacked += 1,
                }
            }
        }
        let mut outcome = mem::take(&mut self.outcome);
        for (publisher, publishes) in &self.last {
            let measured = publishes.iter().enumerate().filter(|(_, (count, ..))| *count > 0);
            outcome
                .last
                .extend(measured.map(|(sequence, &(count, at, last))| (*publisher, sequence as u32, count, at, last)));
        }
        Outcome { tally, ..outcome }
    }
}

/// Takes what the leader has written; the end of it ends this process.
fn read_leader(orders: &mut Lines) -> Result<()> {
    let mut bytes = [0; 4096];
    loop {
        match rustix::io::read(rustix::stdio::stdin(), &mut bytes) {
            Ok(0) => bail!("the leader is gone"),
            Ok(count) => {
                orders.push(&bytes[..count]);
                if count < bytes.len() {
                    return Ok(());
                }
            }
            Err(rustix::io::Errno::AGAIN) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("stdin"),
        }
    }
}
