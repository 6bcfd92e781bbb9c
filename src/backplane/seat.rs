//! This node's place among the others: its number, which no other has, and the channel where it hears them.
//!
//! ```text
//!            connected           it is ours            subscribed
//!   Away ---------------> Free ------------> Taken ---------------> Open      kept every third of its lease
//!     ^                    ^                                         |
//!     |                    +------ another has it: another number ---+
//!     +------ broke ------------------------------------------------ +
//! ```
//!
//! Invariants: what goes to other nodes goes only while they can answer; a number is heard only while it is ours.

use super::{
    count::Count,
    neighbour::{Neighbours, Step},
    run::{Core, Event},
};
use crate::base::{
    id::{NodeId, ShardId},
    time::{Duration, Instant},
};
use crate::shard::{
    neighbour::{Errand, News, unavailable},
    relay::Report,
};
use crate::wire::neighbour::Message;
use redis::{Pipeline, RedisError, Value};
use tokio::time::timeout;

/// How long a number stays a silent process'.
const LEASE: Duration = Duration::from_secs(30);
/// How soon it is tried again where the store would not say.
const RETRY: Duration = Duration::from_secs(1);
/// How long the end waits to give it back.
const PARTING_MAX: Duration = Duration::from_millis(500);

pub struct Seat {
    pub neighbours: Neighbours,
    number: NodeId,
    /// What the shards believe.
    told: NodeId,
    standing: Standing,
    /// When the number is to be taken, or its lease renewed.
    due: Instant,
    is_asking: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Away,
    Free,
    Taken,
    Open,
}

/// What a task has to say.
pub enum Ended {
    Claimed(Result<Vec<Value>, RedisError>),
    Subscribed(Result<Vec<bool>, RedisError>),
    Sent(NodeId, Result<Vec<Value>, RedisError>),
}

impl Seat {
    pub fn new(number: NodeId, shards: u8, chance: u64) -> Seat {
        Seat {
            neighbours: Neighbours::new(number, shards, chance),
            number,
            told: number,
            standing: Standing::Away,
            due: Instant::default(),
            is_asking: false,
        }
    }

    /// The link is new: the number has to be taken.
    pub fn begin(&mut self) {
        (self.standing, self.due, self.is_asking) = (Standing::Free, Instant::default(), false);
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        let due = (self.standing != Standing::Away && !self.is_asking).then_some(self.due);
        due.into_iter().chain(self.neighbours.next_deadline()).min()
    }
}

impl Core {
    /// A shard asks something about other nodes' requests.
    pub(super) fn errand(&mut self, from: ShardId, errand: Errand) {
        let (now, is_open) = (self.now(), self.seat.standing == Standing::Open);
        let mut steps = Vec::new();
        let neighbours = &mut self.seat.neighbours;
        match errand {
            Errand::Ask { to, sid, request } if is_open => neighbours.ask(now, to, sid, &request, &mut steps),
            Errand::Ask { to, .. } => {
                let response = Box::new(unavailable());
                steps.push(Step::Tell(to.shard, News::Answered { to, response }));
            }
            Errand::Left { to } => neighbours.left(to),
            Errand::Release => neighbours.release(from),
            Errand::Answer { to, response } => neighbours.answer(to, &response, &mut steps),
        }
        self.carry(steps);
    }

    /// Whether a channel is this node's own.
    pub(super) fn is_seat(&self, channel: &[u8]) -> bool {
        self.seat.standing != Standing::Away && self.keys.node(self.seat.number).as_bytes() == channel
    }

    /// Another node says something.
    pub(super) fn hear_neighbour(&mut self, frame: &[u8]) {
        let Ok(message) = Message::decode(frame) else {
            tracing::debug!("what came on this node's channel is not a node's");
            return self.count(Count::NeighbourFailed);
        };
        let (now, mut steps) = (self.now(), Vec::new());
        self.seat.neighbours.heard(now, message, &mut steps);
        self.carry(steps);
    }

    /// The link is gone.
    pub(super) fn lose_seat(&mut self) {
        let mut steps = Vec::new();
        self.seat.standing = Standing::Away;
        self.seat.neighbours.away(&mut steps);
        self.carry(steps);
    }

    /// The number's lease, the channel, and what goes out.
    pub(super) fn tend_seat(&mut self, now: Instant) {
        let mut steps = Vec::new();
        self.seat.neighbours.expire(now, &mut steps);
        self.carry(steps);
        let Some(link) = &self.link else { return };
        let generation = self.generation;
        let channel = self.keys.node(self.seat.number);
        if !self.seat.is_asking && self.seat.standing == Standing::Taken {
            let asked = link.channels().subscribe(vec![(channel, true)], link.is_sharded);
            self.seat.is_asking = true;
            self.tasks.spawn(async move { Event::Seat(generation, Ended::Subscribed(asked.await)) });
        } else if !self.seat.is_asking && self.seat.due <= now {
            let asked = link.commands().send(claim(&channel, &self.keys.origin(), LEASE), channel);
            self.seat.is_asking = true;
            self.tasks.spawn(async move { Event::Seat(generation, Ended::Claimed(asked.await)) });
        }
        if self.seat.standing != Standing::Open {
            return;
        }
        let publish = if link.is_sharded { "SPUBLISH" } else { "PUBLISH" };
        while let Some((node, messages)) = self.seat.neighbours.take() {
            let channel = self.keys.node(node);
            let mut pipeline = Pipeline::new();
            for message in messages {
                pipeline.cmd(publish).arg(&channel).arg(&message.bytes[..]);
            }
            let asked = link.commands().send(pipeline, channel);
            self.tasks.spawn(async move { Event::Seat(generation, Ended::Sent(node, asked.await)) });
        }
    }

    pub(super) fn seat_ended(&mut self, ended: Ended) {
        let is_cluster = self.link.as_ref().is_some_and(|link| link.is_cluster);
        let error = match ended {
            Ended::Claimed(Ok(values)) => return self.claimed(values.first()),
            Ended::Subscribed(Ok(confirmed)) => return self.seat_subscribed(confirmed == [true]),
            Ended::Sent(node, Ok(values)) => return self.sent(node, &values),
            Ended::Claimed(Err(error)) | Ended::Subscribed(Err(error)) => {
                (self.seat.is_asking, self.seat.due) = (false, self.now() + RETRY);
                error
            }
            Ended::Sent(node, Err(error)) => {
                self.sent(node, &[]);
                error
            }
        };
        if is_cluster {
            self.say("CLUSTER", &error.to_string());
        } else {
            self.broke(&error.to_string());
        }
    }

    fn claimed(&mut self, answer: Option<&Value>) {
        self.seat.is_asking = false;
        let now = self.now();
        match answer {
            Some(Value::Int(0)) => return self.move_seat(),
            Some(Value::Int(_)) => self.seat.due = now + LEASE / 3,
            other => {
                // Full, or read-only: two nodes with one number are very unlikely, and nodes that do not hear each other are of less use.
                if let Some(Value::ServerError(error)) = other {
                    self.say(error.code(), "a node's number cannot be taken");
                }
                self.seat.due = now + 5 * RETRY;
            }
        }
        if self.seat.standing == Standing::Free {
            self.seat.standing = Standing::Taken;
        }
    }

    /// Another process has our number.
    fn move_seat(&mut self) {
        let number = NodeId(self.chance.below(1 << 16) as u16);
        tracing::info!(
            taken = self.seat.number.0,
            number = number.0,
            "another process of the fleet has this node's number"
        );
        if self.seat.standing == Standing::Open {
            // Its lease had ended: the link is made anew, so that nothing is under way.
            self.broke("another process has this node's number");
        } else {
            (self.seat.standing, self.seat.due) = (Standing::Free, Instant::default());
        }
        self.seat.number = number;
        self.seat.neighbours.renumber(number);
    }

    fn seat_subscribed(&mut self, confirmed: bool) {
        self.seat.is_asking = false;
        if !confirmed {
            self.say("SUBSCRIBE", "a node's channel cannot be subscribed");
            // Taken anew, and then subscribed.
            (self.seat.standing, self.seat.due) = (Standing::Free, self.now() + RETRY);
        } else if self.seat.standing == Standing::Taken {
            self.seat.standing = Standing::Open;
        }
        let number = self.seat.number;
        if self.seat.told != number {
            self.seat.told = number;
            for shard in 0..self.start.shards {
                self.tell(ShardId(shard), None, Report::Neighbour(Box::new(News::Numbered(number))));
            }
        }
        if let Some(first) = self.first.take() {
            let _ = first.send(Ok(number));
        }
    }

    /// What was published: to how many, of each.
    fn sent(&mut self, node: NodeId, values: &[Value]) {
        // An old Cluster says only how many hear it at the same node of Redis.
        let counts = self.link.as_ref().is_some_and(|link| !link.is_cluster || link.is_sharded);
        if let Some(Value::ServerError(error)) = values.iter().find(|value| matches!(value, Value::ServerError(_))) {
            let (code, details) = (error.code().to_owned(), error.details().unwrap_or_default().to_owned());
            self.say(&code, &details);
        }
        let heard = values.iter().map(|value| match value {
            Value::Int(0) if counts => Some(false),
            Value::Int(_) => Some(true),
            _ => None,
        });
        let mut steps = Vec::new();
        self.seat.neighbours.landed(node, heard, &mut steps);
        self.carry(steps);
    }

    fn carry(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Tell(shard, news) => self.tell(shard, None, Report::Neighbour(Box::new(news))),
                Step::Count(count) => self.count(count),
            }
        }
    }

    /// The process ends: its number is free.
    pub(super) async fn leave_seat(&mut self) {
        let Some(link) = self.link.as_ref().filter(|_| self.seat.standing != Standing::Away) else { return };
        let channel = self.keys.node(self.seat.number);
        let asked = link.commands().send(claim(&channel, &self.keys.origin(), Duration::ZERO), channel);
        // Otherwise its lease ends.
        let _ = timeout(PARTING_MAX, asked).await;
    }
}

fn claim(key: &str, origin: &str, lease: Duration) -> Pipeline {
    let mut pipeline = Pipeline::new();
    // Asked a few times a minute: its text costs nothing.
    pipeline.cmd("EVAL").arg(include_str!("lua/seat.lua")).arg(1).arg(key).arg(origin).arg(lease.as_millis() as u64);
    pipeline
}
