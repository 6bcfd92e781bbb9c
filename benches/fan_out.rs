//! What one publish costs: the whole turn of a shard from the decoded message to bytes handed to each member's socket, without the socket.
//!
//! The number to watch is ns a member: it must not grow with the members of the room, and the ns a publish must not grow with the other
//! rooms, tenants and connections of the shard. Both groups have the smallest case first; `ratio` is against it.
//! The last group shows what a second shard at work costs the first: nothing is shared, so nothing but the machine's own memory.
//! Today (November 2026): 20 ns a member from 1,000 members up, 28 at 100, 110 at 10; 2.9 us a publish to a room of 100, whatever is
//! beside it.

#[allow(dead_code, reason = "each bench uses its part")]
mod measure;
#[allow(dead_code, reason = "each bench uses its part")]
mod rig;

use measure::{Bench, Of};
use rig::{Rig, publish};
use std::sync::mpsc::channel;

/// Publishes of each shard in one go of the last group.
const AT_ONCE: usize = 500;

fn main() {
    let bench = Bench::from_arguments();
    for (kind, ephemeral) in [("ephemeral", true), ("durable: kept, numbered", false)] {
        bench.group(&format!("one publish of 100 B to a room, {kind}"), "member", |group| {
            for members in [10, 100, 1000, 10_000] {
                let mut rig = Rig::new();
                let first = rig.members("acme", "room", members);
                let text = publish("room", ephemeral);
                group.add(format!("{members} members"), members, move || {
                    rig.say(first, &text);
                    rig.end_turn();
                });
            }
        });
    }
    bench.group("one publish of 100 B to a room of 100", "publish", |group| {
        type Neighbours = fn(&mut Rig);
        let rows: [(&str, Neighbours); 5] = [
            ("alone", |_| {}),
            ("beside 10,000 members of another room", |rig| {
                rig.members("acme", "other", 10_000);
            }),
            ("beside 10,000 other rooms", |rig| {
                for n in 0..10_000 {
                    rig.members("acme", &format!("other-{n}"), 1);
                }
            }),
            ("beside 10,000 connections of other tenants", |rig| {
                for n in 0..50 {
                    rig.members(&format!("globex-{n}"), "room", 200);
                }
            }),
            ("beside 10,000 other tenants", |rig| {
                for n in 0..10_000 {
                    rig.members(&format!("globex-{n}"), "room", 1);
                }
            }),
        ];
        for (name, neighbours) in rows {
            let mut rig = Rig::new();
            let first = rig.members("acme", "room", 100);
            neighbours(&mut rig);
            let text = publish("room", true);
            group.add(name, 1, move || {
                rig.say(first, &text);
                rig.end_turn();
            });
        }
    });
    bench.group("publishes of 100 B to rooms of 100, CPU time of all threads", "publish", |group| {
        group.time_of(Of::Process);
        let mut work = busy_shard();
        group.add("one shard", 2 * AT_ONCE, move || {
            work();
            work();
        });
        let mut work = busy_shard();
        let (start, started) = channel::<()>();
        let (done, ended) = channel::<()>();
        // It ends when `start` is dropped with the group.
        std::thread::spawn(move || {
            let mut work = busy_shard();
            while started.recv().is_ok() {
                work();
                if done.send(()).is_err() {
                    return;
                }
            }
        });
        group.add("two shards, each on a thread", 2 * AT_ONCE, move || {
            start.send(()).expect("its thread listens");
            work();
            ended.recv().expect("its thread answers");
        });
    });
}

fn busy_shard() -> impl FnMut() {
    let mut rig = Rig::new();
    let first = rig.members("acme", "room", 100);
    let text = publish("room", false);
    move || {
        for _ in 0..AT_ONCE {
            rig.say(first, &text);
            rig.end_turn();
        }
    }
}
