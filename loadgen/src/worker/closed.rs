//! The closed loop of publishing: in each room some events are under way, and when its publisher has received its own, the next one's turn comes.
//!
//! Event `f` of a room passes over the publishers at the places `f`, `f + in_flight`, `f + 2 in_flight` and so on, so no publisher ever has two.

/// Without progress for this long an event is given up, so that a lost delivery does not stop the load.
const STALL_US: u64 = 5_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flight {
    pub place: u32,
    pub sequence: u32,
    pub sent_us: u64,
}

pub struct Flights {
    in_flight: u32,
    publishers: u32,
    /// By room; empty for those of other processes.
    rooms: Vec<Vec<Flight>>,
}

impl Flights {
    pub fn new(in_flight: u32, publishers: u32, rooms: u32, is_here: impl Fn(u32) -> bool) -> Flights {
        let flight = |place| Flight { place, sequence: u32::MAX, sent_us: 0 };
        let of = |room| if is_here(room) { (0..in_flight).map(flight).collect() } else { Vec::new() };
        Flights { in_flight, publishers, rooms: (0..rooms).map(of).collect() }
    }

    /// Who begins: (room, place).
    pub fn first(&self) -> Vec<(u32, u32)> {
        let of = |(room, flights): (usize, &Vec<Flight>)| {
            flights.iter().map(move |flight| (room as u32, flight.place)).collect::<Vec<_>>()
        };
        self.rooms.iter().enumerate().flat_map(of).collect()
    }

    pub fn sent(&mut self, room: u32, flight: Flight) {
        let slot = (flight.place % self.in_flight) as usize;
        self.rooms[room as usize][slot] = flight;
    }

    /// The publisher received its own event; whose turn it is now, if that event was under way.
    pub fn landed(&mut self, room: u32, place: u32, sequence: u32) -> Option<u32> {
        let flight = self.rooms[room as usize].get((place % self.in_flight) as usize)?;
        (flight.place == place && flight.sequence == sequence).then(|| self.after(place))
    }

    /// An event that is overdue, given up: its room and whose turn it is.
    pub fn stalled(&mut self, now: u64) -> Option<(u32, u32)> {
        for (room, flights) in self.rooms.iter().enumerate() {
            let overdue = flights.iter().find(|flight| flight.sent_us > 0 && now > flight.sent_us + STALL_US);
            if let Some(flight) = overdue {
                return Some((room as u32, self.after(flight.place)));
            }
        }
        None
    }

    fn after(&self, place: u32) -> u32 {
        let next = place + self.in_flight;
        if next < self.publishers { next } else { place % self.in_flight }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_pass_from_publisher_to_publisher() {
        let mut flights = Flights::new(2, 5, 3, |room| room != 1);
        assert_eq!(flights.first(), [(0, 0), (0, 1), (2, 0), (2, 1)]);
        let mut passed = Vec::new();
        let mut place = 1;
        for sequence in 0..4 {
            flights.sent(2, Flight { place, sequence, sent_us: 7 });
            assert_eq!(flights.landed(2, place, sequence + 1), None, "an event of before");
            assert_eq!(flights.landed(2, place + 2, sequence), None, "another's");
            place = flights.landed(2, place, sequence).unwrap();
            passed.push(place);
        }
        assert_eq!(passed, [3, 1, 3, 1]);
        assert_eq!(flights.landed(1, 0, 0), None, "a room of another process");
        assert_eq!(flights.stalled(7 + STALL_US), None);
        assert_eq!(flights.stalled(8 + STALL_US), Some((2, 1)));
    }
}
