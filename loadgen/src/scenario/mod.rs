//! What a run does, as a value: who connects, who publishes and asks how often, who misbehaves, in which phases. Read from TOML (`file`).
//!
//! Everything is open loop (a rate, with intended times) unless it has an `in_flight`: then it is a closed loop, which finds out how much a server
//! can do and says little about its latency.

mod file;

pub use file::{BUILT_IN, load};

use serde::{Deserialize, Serialize};

use crate::dialect::Choice;

/// Connections of one source address: the ephemeral ports of one (source, destination) pair, less a margin.
const CONNECTIONS_PER_SOURCE_MAX: u32 = 28_000;
/// Events a second one connection may send where the scenario does not say how many publish: half of tenantcast's default limit, so that a burst after
/// a pause is no flood.
const PER_CONNECTION_MAX: f64 = 50.0;
/// Publishers of a room in a closed loop: each event in flight passes from one to the next, so that none is held to the server's rate limit.
const CLOSED_PUBLISHERS: u32 = 40;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    pub name: String,
    pub about: String,
    pub connections: u32,
    pub tenants: u32,
    /// 0: nobody joins a room.
    pub rooms_per_tenant: u32,
    /// Of each payload; at least 53.
    pub payload_bytes: usize,
    /// Connections opened a second.
    pub connect_rate: f64,
    /// Handshakes a process has under way at once: a usual backlog is 511 or more, and what does not fit is dropped and tried again a second later.
    pub handshakes_max: u32,
    /// Loopback addresses connected from, by each process.
    pub sources: u8,
    pub phases: Phases,
    pub publish: Option<Publish>,
    pub request: Option<Request>,
    pub noise: Option<Noise>,
    pub churn: Option<Churn>,
    pub storm: Option<Storm>,
    pub slow: Option<Slow>,
    pub checks: Checks,
    /// A preset's name or a table; the command line's goes before it.
    pub dialect: Option<Choice>,
}

/// Seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Phases {
    /// Between the last connection and the load: the server's memory is read at its end.
    pub settle: f64,
    /// Load that is verified and not measured.
    pub warmup: f64,
    pub measure: f64,
    /// At most, for the last answers and deliveries.
    pub drain: f64,
}

/// Events to rooms, received and verified by every member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Publish {
    /// A second, over all rooms.
    pub rate: Option<f64>,
    /// Closed loop instead: events under way in each room; the next leaves when the publisher has received its own.
    pub in_flight: Option<u32>,
    /// Members of each room that publish, in turn. Without it: enough for at most 50 events a second each.
    pub publishers_per_room: Option<u32>,
    /// Ask for an acknowledgement of each.
    pub ack: bool,
    /// Measure from a publish to its last delivery.
    pub last: bool,
}

/// Events answered to their sender alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Request {
    /// A second, over all connections that do not churn.
    pub rate: Option<f64>,
    /// Closed loop instead: requests under way over all; the next leaves when one was answered.
    pub in_flight: Option<u32>,
}

/// Ephemeral events to rooms, such as typing: sent and counted, not verified.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Noise {
    /// A second, over all rooms.
    pub rate: f64,
}

/// Connections that leave and come back, one by one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Churn {
    /// Leaves a second, over all.
    pub rate: f64,
    /// Share of each room that does so; never its publishers.
    pub share: f64,
    /// Milliseconds away.
    pub away_ms: u64,
}

/// Connections that all leave at once and come back.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Storm {
    /// Share of each room; never its publishers.
    pub share: f64,
    /// Of coming back, a second.
    pub rate: f64,
    /// Seconds from one storm to the next, the first when measuring begins; 0: that one only.
    pub every: f64,
}

/// Connections that join and then do not read.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Slow {
    /// Share of each room; never its publishers.
    pub share: f64,
    /// Of their sockets: what the kernel takes before the server notices.
    pub receive_buffer_bytes: usize,
}

/// Conditions of the verdict besides correctness; without a value not asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Checks {
    pub delivery_p99_ms: Option<f64>,
    pub last_p99_ms: Option<f64>,
    pub request_p99_ms: Option<f64>,
    pub connect_p99_ms: Option<f64>,
    /// Growth of the server's memory from the first quarter of measuring to the last.
    pub rss_growth_percent: Option<f64>,
}

impl Default for Scenario {
    fn default() -> Scenario {
        Scenario {
            name: String::new(),
            about: String::new(),
            connections: 1000,
            tenants: 1,
            rooms_per_tenant: 0,
            payload_bytes: 100,
            connect_rate: 2000.0,
            handshakes_max: 500,
            sources: 8,
            phases: Phases::default(),
            publish: None,
            request: None,
            noise: None,
            churn: None,
            storm: None,
            slow: None,
            checks: Checks::default(),
            dialect: None,
        }
    }
}

impl Default for Phases {
    fn default() -> Phases {
        Phases { settle: 2.0, warmup: 2.0, measure: 20.0, drain: 10.0 }
    }
}

impl Default for Churn {
    fn default() -> Churn {
        Churn { rate: 100.0, share: 0.2, away_ms: 100 }
    }
}

impl Default for Storm {
    fn default() -> Storm {
        Storm { share: 1.0, rate: 5000.0, every: 0.0 }
    }
}

impl Default for Slow {
    fn default() -> Slow {
        Slow { share: 0.02, receive_buffer_bytes: 4096 }
    }
}

impl Scenario {
    /// Says what cannot be run by this many processes.
    pub fn validate(&self, processes: u32) -> Result<(), String> {
        let wrong = |what: &str| Err(what.to_owned());
        let rooms = u64::from(self.tenants) * u64::from(self.rooms_per_tenant);
        if self.connections == 0 || self.tenants == 0 || self.handshakes_max == 0 || self.sources == 0 {
            return wrong("connections, tenants, handshakes_max and sources must be at least 1");
        }
        if u64::from(self.connections) < rooms.max(self.tenants.into()) {
            let (count, what) = if rooms > 0 { (rooms, "rooms") } else { (self.tenants.into(), "tenants") };
            return Err(format!("{} connections cannot fill {count} {what}", self.connections));
        }
        if u32::from(self.sources) * processes > 250 {
            return wrong("sources times processes must be at most 250: there are that many loopback addresses to use");
        }
        if self.connections.div_ceil(u32::from(self.sources) * processes) > CONNECTIONS_PER_SOURCE_MAX {
            return Err(format!("at most {CONNECTIONS_PER_SOURCE_MAX} connections from each address: raise sources"));
        }
        if self.payload_bytes < crate::payload::BYTES_MIN || self.payload_bytes > 200_000 {
            return Err(format!("payload_bytes must be {} to 200,000", crate::payload::BYTES_MIN));
        }
        let Phases { settle, warmup, measure, drain } = self.phases;
        if [settle, warmup, drain].iter().any(|seconds| !(0.0..=1e6).contains(seconds))
            || !(0.1..=1e7).contains(&measure)
        {
            return wrong("phases are seconds, measure at least 0.1");
        }
        let rates = [
            ("connect_rate", Some(self.connect_rate)),
            ("publish.rate", self.publish.and_then(|publish| publish.rate)),
            ("request.rate", self.request.and_then(|request| request.rate)),
            ("noise.rate", self.noise.map(|noise| noise.rate)),
            ("churn.rate", self.churn.map(|churn| churn.rate)),
            ("storm.rate", self.storm.map(|storm| storm.rate)),
        ];
        if let Some((name, _)) = rates.iter().find(|(_, rate)| rate.is_some_and(|rate| !(0.01..=1e7).contains(&rate))) {
            return Err(format!("{name} must be 0.01 to 10,000,000 a second"));
        }
        if let Some(publish) = self.publish {
            one_of("publish", publish.rate.is_some(), publish.in_flight)?;
        }
        if let Some(request) = self.request {
            one_of("request", request.rate.is_some(), request.in_flight)?;
        }
        if rooms == 0 && (self.publish.is_some() || self.noise.is_some()) {
            return wrong("publishing needs rooms: set rooms_per_tenant");
        }
        if self.churn.is_some() && self.storm.is_some() {
            return wrong("churn and storm in one scenario are not measured apart: choose one");
        }
        let shares = [
            self.churn.map(|churn| churn.share),
            self.storm.map(|storm| storm.share),
            self.slow.map(|slow| slow.share),
        ];
        if shares.iter().flatten().any(|share| !(0.0..=1.0).contains(share)) {
            return wrong("a share is 0 to 1");
        }
        if self.publish.is_some_and(|publish| publish.last && publish.in_flight.is_some()) {
            return wrong("publish.last is measured at a rate, not in a closed loop");
        }
        if self.publish.is_some_and(|publish| publish.last) && (self.churn.is_some() || self.storm.is_some()) {
            return wrong("publish.last needs members that stay: no churn, no storm");
        }
        self.validate_room()
    }

    /// The smallest room must hold everyone it should.
    fn validate_room(&self) -> Result<(), String> {
        let members = self.connections / self.groups();
        let publishers = self.publishers_per_room();
        if publishers > members {
            return Err(format!("{publishers} publishers in a room of {members} members"));
        }
        let in_flight = self.publish.and_then(|publish| publish.in_flight).unwrap_or(0);
        if in_flight > publishers {
            return Err(format!("{in_flight} events in flight need as many publishers in each room, not {publishers}"));
        }
        if self.publish.is_some_and(|publish| publish.publishers_per_room == Some(0)) {
            return Err("publish.publishers_per_room must be at least 1".to_owned());
        }
        let steady = self.steady_places(members);
        if steady < publishers {
            return Err(format!("of {members} members in a room {steady} stay and read, and {publishers} publish"));
        }
        if steady == 0 && (self.request.is_some() || self.noise.is_some()) {
            return Err("nobody stays to send: lower the share of churn, storm or slow".to_owned());
        }
        Ok(())
    }

    /// Whether all of it is at a rate, so that latencies mean something.
    pub fn is_open(&self) -> bool {
        let publish = self.publish.and_then(|publish| publish.in_flight);
        publish.or(self.request.and_then(|request| request.in_flight)).is_none()
    }

    /// Rooms; or tenants, where there are none.
    pub fn groups(&self) -> u32 {
        self.tenants * self.rooms_per_tenant.max(1)
    }

    /// How many members of each room publish: its first ones.
    pub fn publishers_per_room(&self) -> u32 {
        let Some(publish) = self.publish else { return 0 };
        let members = self.connections / self.groups();
        match (publish.publishers_per_room, publish.rate) {
            (Some(publishers), _) => publishers,
            // Two where one would do, so that their interleaving is tested.
            (None, Some(rate)) => {
                ((rate / f64::from(self.groups()) / PER_CONNECTION_MAX).ceil() as u32).max(2).min(members)
            }
            (None, None) => CLOSED_PUBLISHERS.max(publish.in_flight.unwrap_or(0)).min(members),
        }
    }

    /// Of so many members of a room, those who do not read: its last ones.
    pub fn slow_places(&self, members: u32) -> u32 {
        part(members, self.slow.map_or(0.0, |slow| slow.share))
    }

    /// Of so many members of a room, those who neither leave nor stop reading: its first ones.
    pub fn steady_places(&self, members: u32) -> u32 {
        let leaving = self.churn.map(|churn| churn.share).or(self.storm.map(|storm| storm.share)).unwrap_or(0.0);
        (members - self.slow_places(members)).saturating_sub(part(members, leaving))
    }
}

fn part(members: u32, share: f64) -> u32 {
    (f64::from(members) * share).round() as u32
}

fn one_of(what: &str, rate: bool, in_flight: Option<u32>) -> Result<(), String> {
    match (rate, in_flight) {
        (true, None) | (false, Some(1..)) => Ok(()),
        (_, Some(0)) => Err(format!("{what}.in_flight must be at least 1")),
        _ => Err(format!("{what} takes either rate or in_flight")),
    }
}

#[cfg(test)]
#[path = "../scenario_tests.rs"]
mod tests;
