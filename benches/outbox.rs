//! What it costs to hand a turn's frames to sockets: one list of frame numbers a session, one write a session and turn.
//!
//! The number to watch is ns a delivery: the more events a turn brings to the same room, the fewer writes and the less each costs; the bytes
//! of neighbours with the same list are put together once. `memcpy` is what copying each delivery's bytes into a buffer of its session
//! costs without any bookkeeping: the least a server does that has a buffer a connection. Sockets that are full are the slow path: their
//! frames are kept by reference until they take more.
//! Today (November 2026): 20 ns a delivery with one event a turn, 6.8 with 4, 3.4 with 64; copying alone is 2.0. Full sockets: 31.

#[allow(dead_code, reason = "each bench uses its part")]
mod measure;
#[allow(dead_code, reason = "each bench uses its part")]
mod rig;

use measure::Bench;
use rig::{Rig, publish};
use tenantcast::base::{id::ConnKey, slab::Key};

const MEMBERS: usize = 1000;

fn main() {
    let bench = Bench::from_arguments();
    bench.group("a turn's events to a room of 1,000, every socket takes all", "delivery", |group| {
        for events in [1, 2, 4, 8, 16, 64] {
            let mut rig = Rig::new();
            let first = rig.members("acme", "room", MEMBERS);
            let text = publish("room", true);
            group.add(format!("{events} events a turn"), events * MEMBERS, move || {
                for _ in 0..events {
                    rig.say(first, &text);
                }
                rig.end_turn();
            });
        }
        let frame = [7u8; 124];
        let mut buffers = vec![Vec::new(); MEMBERS];
        group.add("memcpy of 124 B into a buffer a session", MEMBERS, move || {
            for buffer in &mut buffers {
                buffer.clear();
                buffer.extend_from_slice(std::hint::black_box(&frame));
            }
            std::hint::black_box(&buffers);
        });
    });
    bench.group("4 events a turn to rooms of 100, members in one to four rooms", "delivery", |group| {
        for rooms in [1, 2, 4] {
            let mut rig = Rig::new();
            let first = rig.members("acme", "room-0", 100);
            for (room, n) in (1..rooms).flat_map(|room| (0..100).map(move |n| (room, n))) {
                let conn = ConnKey::new(first.index() + n, 0);
                rig.say(conn, &format!("421[\"subscribe\",{{\"rooms\":[\"room-{room}\"]}}]"));
                rig.end_turn();
            }
            let texts: Vec<String> = (0..4).map(|n| publish(&format!("room-{}", n % rooms), true)).collect();
            group.add(format!("in {rooms}"), 400, move || {
                for text in &texts {
                    rig.say(first, text);
                }
                rig.end_turn();
            });
        }
    });
    bench.group("4 events to a room of 1,000 in four turns", "delivery", |group| {
        for (name, full) in [("every socket takes all", false), ("full for three turns, then everything at once", true)]
        {
            let mut rig = Rig::new();
            let first = rig.members("acme", "room", MEMBERS);
            let text = publish("room", true);
            group.add(name, 4 * MEMBERS, move || {
                for _ in 0..3 {
                    rig.say(first, &text);
                    rig.end_turn_taking(|_, pending| if full { 0 } else { pending.len() });
                }
                rig.say(first, &text);
                for n in 0..if full { MEMBERS as u32 } else { 0 } {
                    rig.writable(ConnKey::new(first.index() + n, 0));
                }
                rig.end_turn();
            });
        }
    });
}
