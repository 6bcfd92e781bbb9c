//! What a run does, as a value: who connects, who is in which room, who publishes when. No I/O and no chance but the run's name.
//!
//! Invariants: every room has members, spread evenly; publisher `p` is connection `p` and publishes to its own room; publish `i` belongs to
//! publisher `i % publishers`, so that its intended time follows from (publisher, sequence) and is never stored.

use super::verify::Plan;
use crate::token::Mint;

/// Events a second one connection may publish: half of the default server's limit (100), so that a burst after a pause is no flood.
const PUBLISHES_PER_CONNECTION_MAX: u64 = 50;
/// Publishers of a room where the rate does not ask for more: two, so that their interleaving is tested.
const PUBLISHERS_PER_ROOM_MIN: u64 = 2;
/// Connections of one source address: the ephemeral ports of one (source, destination) pair, less a margin.
const CONNECTIONS_PER_SOURCE_MAX: u32 = 28_000;

/// Where the token goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenIn {
    /// `?token=` of the handshake.
    Query,
    /// `auth.token` of the CONNECT packet.
    Auth,
}

#[derive(Clone, Debug, serde::Serialize)]
pub struct Scenario {
    /// Distinguishes this run's users and rooms from those of earlier runs on the same server.
    pub run: String,
    pub connections: u32,
    pub tenants: u32,
    /// 0: nobody subscribes or publishes.
    pub rooms_per_tenant: u32,
    /// Publishes a second, over all rooms.
    pub rate: u64,
    /// Measured seconds of publishing.
    pub seconds: u64,
    /// Seconds of publishing before; checked, not measured.
    pub warmup: u64,
    /// Bytes of an event's data.
    pub payload_bytes: usize,
    /// Connections opened a second.
    pub connect_rate: u64,
    /// Loopback addresses connected from, 127.0.0.2 and up.
    pub sources: u8,
    pub token_in: TokenIn,
    /// Milliseconds the delivery p99 must stay under.
    pub p99_ms: f64,
    /// Seconds to wait for answers and deliveries once publishing has ended.
    pub drain_seconds: u64,
}

impl Scenario {
    /// Says what cannot be run.
    pub fn validate(&self) -> Result<(), String> {
        let rooms = self.tenants as u64 * u64::from(self.rooms_per_tenant);
        if self.connections == 0 || self.tenants == 0 || self.connect_rate == 0 || self.sources == 0 {
            return Err("connections, tenants, connect-rate and sources must be at least 1".to_owned());
        }
        if u64::from(self.connections) < rooms.max(self.tenants.into()) {
            return Err(format!("{} connections cannot fill {rooms} rooms", self.connections));
        }
        if self.connections.div_ceil(self.sources.into()) > CONNECTIONS_PER_SOURCE_MAX {
            return Err(format!("at most {CONNECTIONS_PER_SOURCE_MAX} connections a source address: raise --sources"));
        }
        if rooms > 0 && (self.rate == 0 || self.rate > 1_000_000 || self.seconds == 0) {
            return Err("rate must be 1 to 1,000,000 a second, seconds at least 1".to_owned());
        }
        let publishers = u64::from(self.publishers());
        if rooms > 0 && self.rate > publishers * PUBLISHES_PER_CONNECTION_MAX {
            let at_most = publishers * PUBLISHES_PER_CONNECTION_MAX;
            return Err(format!("{publishers} publishers may send {at_most} events a second, not {}", self.rate));
        }
        Ok(())
    }

    pub fn tenant_of(&self, connection: u32) -> u32 {
        connection % self.tenants
    }

    /// Index of the connection's room over all tenants. Every tenant's rooms have the same names, so a leak between tenants has a way to happen.
    pub fn room_of(&self, connection: u32) -> u32 {
        let turn = connection / self.tenants;
        self.tenant_of(connection) * self.rooms_per_tenant + turn % self.rooms_per_tenant.max(1)
    }

    pub fn room_name(&self, room: u32) -> String {
        format!("room:{}-{}", self.run, room % self.rooms_per_tenant.max(1))
    }

    pub fn tenant_name(&self, tenant: u32) -> String {
        format!("tenant-{tenant}")
    }

    pub fn user_name(&self, connection: u32) -> String {
        format!("user-{}-{connection}", self.run)
    }

    pub fn token(&self, mint: &Mint, connection: u32) -> String {
        mint.token(&self.user_name(connection), &self.tenant_name(self.tenant_of(connection)))
    }

    pub fn rooms(&self) -> u32 {
        self.tenants * self.rooms_per_tenant
    }

    /// Members of the smallest and of the largest room.
    pub fn members_per_room(&self) -> (u32, u32) {
        if self.rooms() == 0 {
            (0, 0)
        } else {
            (self.connections / self.rooms(), self.connections.div_ceil(self.rooms()))
        }
    }

    /// How many connections publish. They are the first ones: connections `0..rooms` are one of each room (see `room_of`), the next `rooms`
    /// another one of each, and so on; neighbours in time publish to different rooms.
    pub fn publishers(&self) -> u32 {
        let rooms = u64::from(self.rooms());
        if rooms == 0 {
            return 0;
        }
        let per_room = self.rate.div_ceil(rooms * PUBLISHES_PER_CONNECTION_MAX).max(PUBLISHERS_PER_ROOM_MIN);
        u64::from(self.connections).min(per_room * rooms) as u32
    }

    pub fn plan(&self) -> Plan {
        let member_rooms = match self.rooms() {
            0 => Vec::new(),
            _ => (0..self.connections).map(|connection| self.room_of(connection)).collect(),
        };
        Plan {
            room_tenants: (0..self.rooms()).map(|room| room / self.rooms_per_tenant).collect(),
            member_rooms,
            publisher_members: (0..self.publishers()).collect(),
        }
    }
}

/// When which publisher sends: fixed before the first publish, whatever the server does.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// Intended time of the first publish, microseconds.
    pub start_us: u64,
    /// Publishes a second.
    pub rate: u64,
    pub publishers: u64,
    /// Publishes in all, warm-up included.
    pub count: u64,
}

impl Schedule {
    pub fn at_us(&self, index: u64) -> u64 {
        self.start_us + index * 1_000_000 / self.rate
    }

    pub fn publisher(&self, index: u64) -> usize {
        (index % self.publishers) as usize
    }

    /// The intended time of a publisher's publish.
    pub fn at_of(&self, publisher: u32, sequence: u32) -> u64 {
        self.at_us(u64::from(sequence) * self.publishers + u64::from(publisher))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(connections: u32, tenants: u32, rooms_per_tenant: u32, rate: u64) -> Scenario {
        Scenario {
            run: "r".to_owned(),
            connections,
            tenants,
            rooms_per_tenant,
            rate,
            seconds: 20,
            warmup: 2,
            payload_bytes: 100,
            connect_rate: 2000,
            sources: 8,
            token_in: TokenIn::Auth,
            p99_ms: 50.0,
            drain_seconds: 10,
        }
    }

    #[test]
    fn rooms_are_even_and_every_publisher_is_a_member() {
        for (connections, tenants, per_tenant, rate, publishers) in
            [(10_000, 50, 4, 1000, 400), (200, 50, 4, 1000, 200), (403, 5, 3, 3000, 60), (10_000, 50, 4, 60_000, 1200)]
        {
            let scenario = scenario(connections, tenants, per_tenant, rate);
            assert_eq!(scenario.validate(), Ok(()));
            let plan = scenario.plan();
            let mut members = vec![0; scenario.rooms() as usize];
            for (connection, &room) in plan.member_rooms.iter().enumerate() {
                members[room as usize] += 1;
                assert_eq!(plan.room_tenants[room as usize], scenario.tenant_of(connection as u32));
            }
            let (min, max) = scenario.members_per_room();
            assert!(members.iter().all(|&count| count == min || count == max), "{members:?}");
            assert_eq!(plan.publisher_members.len(), publishers);
            let first_rooms: std::collections::BTreeSet<u32> = plan.publisher_members[..members.len()]
                .iter()
                .map(|&member| plan.member_rooms[member as usize])
                .collect();
            assert_eq!(first_rooms.len(), members.len());
        }
    }

    #[test]
    fn impossible_scenarios_are_refused() {
        for (scenario, reason) in [
            (scenario(0, 1, 1, 1), "at least 1"),
            (scenario(199, 50, 4, 1000), "cannot fill"),
            (scenario(200, 50, 4, 20_000), "may send 10000"),
            (scenario(300_000, 50, 4, 1000), "--sources"),
            (scenario(200, 50, 4, 0), "rate must"),
        ] {
            assert!(scenario.validate().unwrap_err().contains(reason));
        }
        assert_eq!(scenario(10, 1, 0, 0).validate(), Ok(()));
    }

    #[test]
    fn the_schedule_is_fixed() {
        let schedule = Schedule { start_us: 1_000, rate: 3_000, publishers: 7, count: 100 };
        for index in 0..100 {
            let (publisher, sequence) = (schedule.publisher(index), index / 7);
            assert_eq!(schedule.at_of(publisher as u32, sequence as u32), schedule.at_us(index));
        }
        assert_eq!(schedule.at_us(3_000), 1_001_000);
    }
}
