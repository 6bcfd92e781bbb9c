//! Who is where, as arithmetic: any process can say of any connection which room it is in and which process has it. Nothing is stored.
//!
//! Connection `c` is in room `c % rooms` at place `c / rooms`; room `r` is of tenant `r % tenants`. So neighbours in time are in different rooms
//! and tenants, and the publishers, the first places of every room, are the first connections. Every tenant's rooms have the same names, so that a
//! leak between tenants has a way to happen. Within a room come first those who publish, then those who stay, those who leave, and last those who
//! do not read.
//!
//! A room belongs to one process, so that all its members are verified against each other where they are; where there are fewer rooms than
//! processes, every room is spread over all of them.

use crate::scenario::Scenario;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Reads and stays; publishes if its place is below the publishers.
    Steady,
    Leaving,
    Slow,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub scenario: Scenario,
    pub processes: u32,
    /// The run's name: in the names of rooms and users, so that runs on one server do not meet.
    pub run: u32,
    rooms: u32,
    /// Publishers of each room.
    pub publishers: u32,
}

impl Plan {
    pub fn new(scenario: Scenario, processes: u32, run: u32) -> Plan {
        let (rooms, publishers) = (scenario.groups(), scenario.publishers_per_room());
        Plan { scenario, processes, run, rooms, publishers }
    }

    /// Rooms; a tenant without rooms counts as one.
    pub fn rooms(&self) -> u32 {
        self.rooms
    }

    pub fn room(&self, connection: u32) -> u32 {
        connection % self.rooms
    }

    pub fn place(&self, connection: u32) -> u32 {
        connection / self.rooms
    }

    pub fn connection(&self, room: u32, place: u32) -> u32 {
        place * self.rooms + room
    }

    pub fn tenant(&self, room: u32) -> u32 {
        room % self.scenario.tenants
    }

    pub fn members(&self, room: u32) -> u32 {
        (self.scenario.connections - room).div_ceil(self.rooms)
    }

    pub fn room_name(&self, room: u32) -> String {
        format!("load-{:08x}-{}", self.run, room / self.scenario.tenants)
    }

    pub fn tenant_name(&self, room: u32) -> String {
        format!("tenant-{}", self.tenant(room))
    }

    pub fn user_name(&self, connection: u32) -> String {
        format!("user-{:08x}-{connection}", self.run)
    }

    pub fn role(&self, connection: u32) -> Role {
        let members = self.members(self.room(connection));
        let place = self.place(connection);
        if place >= members - self.scenario.slow_places(members) {
            Role::Slow
        } else if place >= self.scenario.steady_places(members) {
            Role::Leaving
        } else {
            Role::Steady
        }
    }

    /// Members of a room that must receive everything.
    pub fn steady(&self, room: u32) -> u32 {
        self.scenario.steady_places(self.members(room))
    }

    /// Connections that leave and come back, over all rooms.
    pub fn leaving(&self) -> u32 {
        let of = |room| self.members(room) - self.steady(room) - self.scenario.slow_places(self.members(room));
        (0..self.rooms).map(of).sum()
    }

    /// Which process a connection belongs to.
    pub fn process(&self, connection: u32) -> u32 {
        let room = self.room(connection);
        if self.rooms >= self.processes {
            room % self.processes
        } else {
            let members = u64::from(self.members(room));
            (u64::from(self.place(connection)) * u64::from(self.processes) / members) as u32
        }
    }

    /// Which of so many nodes a connection goes to: every room is spread over them in equal parts, those who publish at the first.
    pub fn node(&self, connection: u32, nodes: usize) -> usize {
        let members = self.members(self.room(connection)) as usize;
        self.place(connection) as usize * nodes / members
    }

    /// The connections of a process, ascending.
    pub fn share(&self, process: u32) -> Vec<u32> {
        (0..self.scenario.connections).filter(|&connection| self.process(connection) == process).collect()
    }

    /// Publishers of all rooms: the connections below this number.
    pub fn publishing(&self) -> u32 {
        self.publishers * self.rooms
    }

    /// How many connections send requests and noise: the first ones, as many of each room as stay in the smallest.
    pub fn sending(&self) -> u32 {
        self.scenario.steady_places(self.scenario.connections / self.rooms) * self.rooms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::load;

    fn plan(sets: &[&str], processes: u32) -> Plan {
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        let scenario = load("fan-out-small", None, &sets).unwrap();
        assert_eq!(scenario.validate(processes), Ok(()));
        Plan::new(scenario, processes, 0xabc)
    }

    #[test]
    fn everyone_is_somewhere_once() {
        for (sets, processes) in [
            (&[][..], 1),
            (&["connections=403", "tenants=5", "rooms_per_tenant=3", "slow.share=0.1", "churn.share=0.2"], 2),
            (&["connections=1000", "tenants=1", "rooms_per_tenant=1"], 3),
            (&["connections=1001", "tenants=2", "rooms_per_tenant=1"], 4),
        ] {
            let plan = plan(sets, processes);
            let total = plan.scenario.connections;
            let mut shares: Vec<u32> = (0..processes).flat_map(|process| plan.share(process)).collect();
            shares.sort_unstable();
            assert_eq!(shares, (0..total).collect::<Vec<_>>());
            let largest = (0..processes).map(|process| plan.share(process).len() as u32).max().unwrap();
            assert!(largest <= total.div_ceil(processes) + plan.members(0), "{largest} of {total}");
            let mut members = vec![0; plan.rooms() as usize];
            for connection in 0..total {
                let (room, place) = (plan.room(connection), plan.place(connection));
                assert_eq!(plan.connection(room, place), connection);
                assert!(place < plan.members(room));
                members[room as usize] += 1;
                if connection < plan.publishing().max(plan.sending()) {
                    assert_eq!(plan.role(connection), Role::Steady, "{connection}");
                }
            }
            for (room, &count) in members.iter().enumerate() {
                assert_eq!(plan.members(room as u32), count);
                let steady = (0..count).filter(|&place| plan.role(plan.connection(room as u32, place)) == Role::Steady);
                assert_eq!(steady.count() as u32, plan.steady(room as u32));
            }
            // All publishers of a room are in one process: events in flight pass between them.
            for room in 0..plan.rooms() {
                let process = plan.process(plan.connection(room, 0));
                assert!((0..plan.publishers).all(|place| plan.process(plan.connection(room, place)) == process));
            }
        }
    }

    #[test]
    fn rooms_are_spread_over_nodes() {
        let plan = plan(&["connections=1000", "tenants=5", "rooms_per_tenant=2"], 2);
        for room in 0..plan.rooms() {
            let of = |place| plan.node(plan.connection(room, place), 2);
            let (first, second): (Vec<u32>, Vec<u32>) = (0..plan.members(room)).partition(|&place| of(place) == 0);
            assert_eq!((first.len(), second.len()), (50, 50));
            assert!((0..plan.publishers).all(|place| first.contains(&place)));
        }
        assert!((0..1000).all(|connection| plan.node(connection, 1) == 0));
    }

    #[test]
    fn tenants_have_rooms_of_the_same_names() {
        let plan = plan(&[], 1);
        let names = |tenant: u32| -> Vec<String> {
            (0..plan.rooms()).filter(|&room| plan.tenant(room) == tenant).map(|room| plan.room_name(room)).collect()
        };
        assert_eq!(names(0), names(9));
        assert_eq!(names(0).len(), 10);
        assert_eq!(
            (plan.room_name(10), plan.user_name(3)),
            ("load-00000abc-1".to_owned(), "user-00000abc-3".to_owned())
        );
    }
}
