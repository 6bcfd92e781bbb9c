//! What a request costs that is answered to its sender: an event of a client, decoded, carried out, acknowledged and handed to its socket.
//!
//! The number to watch is ns a request with 5,000 connections taking turns: what is touched is found cold, as a busy server finds it.
//! `status` is what loadgen's chat asks for; who says it again as it was changes nothing.

#[allow(dead_code, reason = "each bench uses its part")]
mod measure;
#[allow(dead_code, reason = "each bench uses its part")]
mod rig;

use measure::Bench;
use rig::Rig;
use tenantcast::base::{id::ConnKey, slab::Key};

/// Requests of one turn.
const AT_ONCE: usize = 4;

fn main() {
    let bench = Bench::from_arguments();
    bench.group("a request acknowledged, 4 a turn", "request", |group| {
        for (tenants, members) in [(1, 1), (1, 100), (50, 100)] {
            let mut rig = Rig::new();
            let mut conns: Vec<ConnKey> = Vec::new();
            for tenant in 0..tenants {
                let first = rig.members(&format!("tenant-{tenant}"), "room", members);
                conns.extend((0..members as u32).map(|n| ConnKey::new(first.index() + n, 0)));
            }
            // Neighbours in the list are far apart in memory.
            let stride = conns.len() / 2 + usize::from(conns.len() > 2) * 77;
            let (mut at, mut id) = (0, 0);
            let text = "[\"status\",{\"status\":\"online\"}]";
            let name = format!("status, {} connections in {tenants} tenants", conns.len());
            group.add(name, AT_ONCE, move || {
                for _ in 0..AT_ONCE {
                    at = (at + stride) % conns.len();
                    id = (id + 1) % 1000;
                    rig.say(conns[at], &format!("42{id}{text}"));
                }
                rig.end_turn();
            });
        }
    });
}
