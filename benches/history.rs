//! What keeping events costs a publish, and what giving the missed ones back costs.
//!
//! `append` is the ring alone; a publish also makes the event's id, time and envelope, which is the difference between a durable and an
//! ephemeral one. Recovery is a number for each event replayed: it must not grow with what is replayed, nor with what was kept before it.
//! Today (November 2026): append 10 ns; a publish to a room of one 0.87 us ephemeral, 1.19 durable; an event replayed 0.12-0.15 us.

#[allow(dead_code, reason = "each bench uses its part")]
mod measure;
#[allow(dead_code, reason = "each bench uses its part")]
mod rig;

use measure::Bench;
use rig::{Rig, publish};
use std::hint::black_box;
use std::rc::Rc;
use tenantcast::base::time::{Duration, Instant};
use tenantcast::shard::history::{Epoch, Event, History, Retention};

const KEEP: Retention = Retention { events: 100, ttl: Duration::from_secs(300) };

fn event() -> Rc<Event> {
    let data = format!("{{\"text\":\"{}\"}}", "x".repeat(89)).into();
    Rc::new(Event { name: "note".into(), data, meta: "{}".into(), entity: None, audience: None })
}

fn filled(events: u64) -> History {
    let mut history = History::new(Epoch(1));
    for sequence in 1..=events {
        history.append(Instant(sequence), sequence, event(), KEEP);
    }
    history
}

fn main() {
    let bench = Bench::from_arguments();
    bench.group("append to a full ring of 100", "event", |group| {
        let (mut history, kept, mut sequence) = (filled(100), event(), 100);
        group.add("History::append, the event made before", 1, move || {
            sequence += 1;
            black_box(history.append(Instant(sequence), sequence, kept.clone(), KEEP));
        });
        for (name, ephemeral) in [("publish, ephemeral, room of one", true), ("publish, durable, room of one", false)] {
            let mut rig = Rig::new();
            let member = rig.member("acme", "ana", "room");
            let text = publish("room", ephemeral);
            group.add(name, 1, move || {
                rig.say(member, &text);
                rig.end_turn();
            });
        }
    });
    bench.group("recover from the ring, by offset", "event", |group| {
        for missed in [1, 10, 100] {
            let history = filled(1000);
            group.add(format!("History::recover, {missed} missed"), missed as usize, move || {
                let recovered = history.recover(black_box(Epoch(1)), 1000 - missed);
                black_box(recovered.map(|entries| entries.map(|entry| entry.offset).sum::<u64>()).ok());
            });
        }
    });
    bench.group("recover as a client does, 100 missed", "event", |group| {
        let mut rig = Rig::new();
        let member = rig.member("acme", "ana", "room");
        rig.listen(member);
        let position = positions(&mut rig, member);
        let text = format!("421[\"subscribe\",{{\"rooms\":[\"room\"],\"since\":{position}}}]");
        group.add("subscribe with since", 100, move || {
            rig.say(member, &text);
            rig.end_turn();
        });
        let mut rig = Rig::new();
        let member = rig.member("acme", "ana", "room");
        rig.listen(member);
        let position = positions(&mut rig, member);
        let text = format!("421[\"history\",{{\"room\":\"room\",\"since\":{position}}}]");
        group.add("history, in its acknowledgement", 100, move || {
            rig.say(member, &text);
            rig.end_turn();
        });
        let mut rig = Rig::new();
        let writer = rig.member("acme", "ben", "room");
        let reader = rig.open();
        rig.listen(reader);
        let token = rig.token("acme", "ana");
        rig.say(reader, &format!("40{{\"token\":\"{token}\"}}"));
        rig.end_turn();
        let pid = field(&rig.heard(reader), "pid").to_owned();
        rig.say(reader, "421[\"subscribe\",{\"rooms\":[\"room\"]}]");
        rig.end_turn();
        rig.say(writer, &publish("room", false));
        rig.end_turn();
        // The position is the last argument of every event.
        let offset = rig.heard(reader).rsplit('"').nth(1).unwrap_or_default().to_owned();
        for _ in 0..99 {
            rig.say(writer, &publish("room", false));
            rig.end_turn();
        }
        let text = format!("40{{\"token\":\"{token}\",\"pid\":\"{pid}\",\"offset\":\"{offset}\"}}");
        group.add("Socket.IO's own recovery, token verified", 99, move || {
            rig.hang_up(reader);
            rig.open_as(reader);
            rig.say(reader, &text);
            let bytes = rig.end_turn();
            assert!(bytes > 99 * 100, "{bytes} bytes are not what was missed");
        });
    });
}

/// Publishes 101 events to `room`; the position after the first as `since` wants it.
fn positions(rig: &mut Rig, member: tenantcast::base::id::ConnKey) -> String {
    for _ in 0..101 {
        rig.say(member, &publish("room", false));
        rig.end_turn();
    }
    let epoch = field(&rig.heard(member), "epoch").to_owned();
    format!("{{\"epoch\":\"{epoch}\",\"offset\":1}}")
}

/// The text of a field of the first object that has it.
fn field<'a>(text: &'a str, name: &str) -> &'a str {
    let after = text.split_once(&format!("\"{name}\":\"")).map_or("", |(_, after)| after);
    after.split_once('"').map_or("", |(value, _)| value)
}
