//! What the leading process and its children tell each other: a line of JSON each, over the children's stdin and stdout.
//!
//! ```text
//! leader                          child
//! Setup        ->
//!              <-  Ready
//! Connect      ->                 opens its share, joins rooms
//!              <-  Opened
//! Load         ->                 publishes and asks until the given time
//!              <-  Sent           how many each of its publishers sent
//! Drain        ->                 what all publishers sent, hence what must still arrive
//!              <-  Result         and ends
//! ```
//! A `Window` comes every second all the while. A child whose stdin ends has lost its leader and ends too.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::histogram::Sparse;
use crate::scenario::Scenario;

/// Leader to child.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Order {
    Setup(Box<Setup>),
    /// Times are microseconds of the monotonic clock, which all processes of a machine share.
    Connect {
        start_us: u64,
    },
    Load {
        start_us: u64,
        from_us: u64,
        until_us: u64,
    },
    /// Count of each publisher, all processes together.
    Drain {
        sent: Vec<u32>,
        until_us: u64,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    pub scenario: Scenario,
    pub processes: u32,
    pub process: u32,
    pub run: u32,
    /// `host:port` of each node.
    pub authorities: Vec<String>,
    pub secret: Option<String>,
    /// Cores to stay on; empty: any.
    pub cpus: Vec<usize>,
    /// Poll without sleeping.
    pub busy_poll: bool,
}

/// Child to leader.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum News {
    Ready,
    Opened,
    Window(Box<Window>),
    /// (publisher, count)
    Sent(Vec<(u32, u32)>),
    Result(Box<Outcome>),
    Failed(String),
}

/// A part of a run, in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    #[default]
    Connect,
    Warmup,
    Measure,
    Drain,
}

/// What happened in about a second.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Window {
    pub phase: Phase,
    /// Seconds since the phase began.
    pub index: u32,
    pub start_us: u64,
    pub end_us: u64,
    pub counts: Counts,
    /// Microseconds, by the intended time.
    pub connect: Sparse,
    pub reconnect: Sparse,
    pub delivery: Sparse,
    pub publish_ack: Sparse,
    pub request: Sparse,
    pub late: Sparse,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Connections that got ready, those that came back included.
    pub opened: u64,
    pub published: u64,
    pub deliveries: u64,
    pub requested: u64,
    pub answered: u64,
    pub noise_sent: u64,
    /// Deliveries of noise, and events that are not the load's.
    pub other_received: u64,
    pub received_bytes: u64,
    pub left: u64,
    /// Polling while nothing came: only with `busy_poll`.
    pub idle_us: u64,
}

/// What a child knows at the end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub ready: u32,
    pub closed_early: u64,
    /// Connections that did not read and were closed for it.
    pub slow_closed: u64,
    /// Of the first connection's attempt to the last one's getting ready.
    pub connect_us: u64,
    pub tally: Tally,
    /// Why connections were not opened or were closed.
    pub failures: BTreeMap<String, u64>,
    pub refusals: BTreeMap<String, u64>,
    pub other_events: BTreeMap<String, u64>,
    /// For each publish that was measured to its last delivery: publisher, sequence, deliveries, intended time, time of the last.
    pub last: Vec<(u32, u32, u32, u64, u64)>,
}

/// The counts of a run. All but the first seven are faults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub published: u64,
    /// Of those, where acks are asked for.
    pub acked: u64,
    /// Deliveries there should have been at members that read.
    pub expected: u64,
    /// Deliveries there were, each member's first of each publish.
    pub received: u64,
    pub requested: u64,
    pub answered: u64,
    /// Closed-loop events given up after seconds without progress, so that another could leave.
    pub stalled: u64,
    /// Could not be sent, the connection being closed.
    pub unsent: u64,
    pub refused: u64,
    pub unacked: u64,
    pub unanswered: u64,
    pub lost: u64,
    pub duplicate: u64,
    pub out_of_order: u64,
    /// Of another tenant.
    pub foreign: u64,
    /// Of another room of the tenant, or of another run.
    pub misrouted: u64,
    pub malformed: u64,
    /// Fits nothing that was sent.
    pub unknown: u64,
    /// The first few faults in words.
    pub examples: Vec<String>,
}

/// Faults described in words, of each process; the rest are only counted.
const EXAMPLES_MAX: usize = 12;

impl Tally {
    pub fn example(&mut self, text: impl FnOnce() -> String) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(text());
        }
    }

    pub fn faults(&self) -> [(&'static str, u64); 12] {
        [
            ("stalled", self.stalled),
            ("unsent", self.unsent),
            ("refused", self.refused),
            ("unacked", self.unacked),
            ("unanswered", self.unanswered),
            ("lost", self.lost),
            ("duplicate", self.duplicate),
            ("out of order", self.out_of_order),
            ("foreign tenant", self.foreign),
            ("misrouted", self.misrouted),
            ("malformed", self.malformed),
            ("unknown", self.unknown),
        ]
    }

    pub fn add(&mut self, other: &Tally) {
        let Tally { published, acked, expected, received, requested, answered, stalled, unsent, refused, .. } = other;
        let Tally {
            unacked, unanswered, lost, duplicate, out_of_order, foreign, misrouted, malformed, unknown, ..
        } = other;
        for (sum, count) in [
            (&mut self.published, published),
            (&mut self.acked, acked),
            (&mut self.expected, expected),
            (&mut self.received, received),
            (&mut self.requested, requested),
            (&mut self.answered, answered),
            (&mut self.stalled, stalled),
            (&mut self.unsent, unsent),
            (&mut self.refused, refused),
            (&mut self.unacked, unacked),
            (&mut self.unanswered, unanswered),
            (&mut self.lost, lost),
            (&mut self.duplicate, duplicate),
            (&mut self.out_of_order, out_of_order),
            (&mut self.foreign, foreign),
            (&mut self.misrouted, misrouted),
            (&mut self.malformed, malformed),
            (&mut self.unknown, unknown),
        ] {
            *sum += count;
        }
        for example in &other.examples {
            self.example(|| example.clone());
        }
    }
}

impl Counts {
    pub fn add(&mut self, other: &Counts) {
        let Counts { opened, published, deliveries, requested, answered, .. } = other;
        let Counts { noise_sent, other_received, received_bytes, left, idle_us, .. } = other;
        for (sum, count) in [
            (&mut self.opened, opened),
            (&mut self.published, published),
            (&mut self.deliveries, deliveries),
            (&mut self.requested, requested),
            (&mut self.answered, answered),
            (&mut self.noise_sent, noise_sent),
            (&mut self.other_received, other_received),
            (&mut self.idle_us, idle_us),
            (&mut self.received_bytes, received_bytes),
            (&mut self.left, left),
        ] {
            *sum += count;
        }
    }
}

/// One message as its line, with the line's end.
pub fn line(message: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).expect("these are numbers, texts and maps with texts as keys");
    line.push(b'\n');
    line
}

/// Takes the lines out of bytes as they come; a message may arrive in pieces.
#[derive(Default)]
pub struct Lines {
    bytes: Vec<u8>,
}

impl Lines {
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next message, or what is wrong with it.
    pub fn take<T: serde::de::DeserializeOwned>(&mut self) -> Option<Result<T, String>> {
        let end = memchr::memchr(b'\n', &self.bytes)?;
        let line: Vec<u8> = self.bytes.drain(..=end).collect();
        let message = serde_json::from_slice(&line);
        Some(message.map_err(|error| format!("{error} in {}", String::from_utf8_lossy(&line[..line.len().min(200)]))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_any_cut() {
        let scenario = crate::scenario::load("mixed", Some("socket.io"), &["phases.measure=0.25".to_owned()]).unwrap();
        let setup = Setup {
            scenario,
            processes: 3,
            process: 2,
            run: 7,
            authorities: vec!["h:1".to_owned(), "h:2".to_owned()],
            secret: Some("s\n\"".to_owned()),
            cpus: vec![0, 2],
            busy_poll: true,
        };
        let orders = [
            Order::Setup(Box::new(setup)),
            Order::Connect { start_us: u64::MAX },
            Order::Load { start_us: 1, from_us: 2, until_us: 3 },
            Order::Drain { sent: vec![4, 5], until_us: 6 },
        ];
        let window = Window { phase: Phase::Measure, delivery: vec![(1, 2), (300, 4)], ..Window::default() };
        let mut tally = Tally { lost: 3, ..Tally::default() };
        tally.example(|| "member 1: a\nb".to_owned());
        let outcome = Outcome { tally, last: vec![(1, 2, 3, 4, 5)], ..Outcome::default() };
        let news = [
            News::Ready,
            News::Window(Box::new(window)),
            News::Sent(vec![(0, 9)]),
            News::Result(Box::new(outcome)),
            News::Failed("no".to_owned()),
        ];
        for size in [1, 7, 100_000] {
            let (mut lines, mut got) = (Lines::default(), Vec::new());
            let bytes: Vec<u8> = orders.iter().flat_map(line).collect();
            for piece in bytes.chunks(size) {
                lines.push(piece);
                got.extend(std::iter::from_fn(|| lines.take::<Order>()));
            }
            assert_eq!(got.into_iter().collect::<Result<Vec<_>, _>>().unwrap(), orders);
            let (mut lines, mut got) = (Lines::default(), Vec::new());
            let bytes: Vec<u8> = news.iter().flat_map(line).collect();
            for piece in bytes.chunks(size) {
                lines.push(piece);
                got.extend(std::iter::from_fn(|| lines.take::<News>()));
            }
            assert_eq!(got.into_iter().collect::<Result<Vec<_>, _>>().unwrap(), news);
        }
        let mut lines = Lines::default();
        lines.push(b"nonsense\n");
        assert!(lines.take::<Order>().unwrap().unwrap_err().ends_with("in nonsense\n"));
    }

    #[test]
    fn sums_leave_nothing_out() {
        // Through JSON, so that a field that is added to the type and forgotten in `add` is found.
        let ones = |value: serde_json::Value| -> serde_json::Value {
            let object = value.as_object().unwrap();
            object
                .iter()
                .map(|(name, value)| (name.clone(), if value.is_number() { 1.into() } else { value.clone() }))
                .collect()
        };
        let mut counts: Counts =
            serde_json::from_value(ones(serde_json::to_value(Counts::default()).unwrap())).unwrap();
        let one = counts;
        counts.add(&one);
        for (name, value) in serde_json::to_value(counts).unwrap().as_object().unwrap() {
            assert_eq!(value, 2, "{name}");
        }
        let one: Tally = serde_json::from_value(ones(serde_json::to_value(Tally::default()).unwrap())).unwrap();
        let mut tally = one.clone();
        tally.add(&one);
        for (name, value) in serde_json::to_value(tally).unwrap().as_object().unwrap() {
            assert!(value == 2 || name == "examples", "{name}");
        }
    }
}
