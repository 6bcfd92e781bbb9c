//! What is written, when a socket or a poll does not take it all: each frame whole, and what waits within its bound.

use super::*;

/// The socket took two bytes of `3probe` and no more: whatever ends the connection now, the frame is written to its end.
#[test]
fn a_probe_is_answered_whole() {
    type End = fn(&mut Rig, Sid, ConnKey, &mut Vec<Output>);
    fn kick(rig: &mut Rig, _: Sid, _: ConnKey, outputs: &mut Vec<Output>) {
        let from = ReplyTo { shard: ShardId(0), conn: ConnKey::new(999, 0) };
        let call = Box::new(Call::Kick { user: "a".into() });
        rig.shard.handle(rig.now, Input::Call { from, tenant: TenantId::parse("acme").unwrap(), call }, outputs);
    }
    let ends: [(&str, u16, End); 5] = [
        ("kicked while it probes", 4410, |rig, sid, probe, outputs| {
            kick(rig, sid, probe, outputs);
            rig.shard.handle(rig.now, Input::Message { conn: probe, message: Message::Text("5") }, outputs);
        }),
        ("kicked once it has taken over", 4410, |rig, sid, probe, outputs| {
            rig.shard.handle(rig.now, Input::Message { conn: probe, message: Message::Text("5") }, outputs);
            kick(rig, sid, probe, outputs);
        }),
        ("left over its other transport", 1000, |rig, sid, _, outputs| {
            let from = ReplyTo { shard: ShardId(0), conn: ConnKey::new(0, 0) };
            rig.shard.handle(rig.now, Input::Post { from, sid, body: "1" }, outputs);
        }),
        ("it says what no probe says", 1002, |rig, _, probe, outputs| {
            rig.shard.handle(rig.now, Input::Message { conn: probe, message: Message::Text("x") }, outputs);
        }),
        ("it takes too long", 1000, |rig, _, _, outputs| {
            rig.now = rig.now.later(crate::base::limit::UPGRADE_TIMEOUT);
            rig.shard.handle(rig.now, Input::Tick, outputs);
        }),
    ];
    for (how, number, end) in ends {
        let mut rig = Rig::new();
        let poll = rig.open(Wire::Polling, None);
        let sid = Sid::parse(field(&rig.responses.remove(0).2, "sid")).unwrap();
        let body = format!("40{{\"token\":\"{}\"}}", rig.token("acme", "a"));
        rig.input(Input::Post { from: ReplyTo { shard: ShardId(0), conn: poll }, sid, body: &body });
        let probe = rig.open(Wire::Probe(sid), None);
        let mut outputs = Vec::new();
        let message = Message::Text("2probe");
        rig.shard.handle(rig.now, Input::Message { conn: probe, message }, &mut outputs);
        rig.shard.end_turn(rig.now, &mut outputs);
        while let Some(conn) = rig.shard.next_dirty() {
            assert_eq!((conn, rig.shard.pending(conn)), (probe, &b"\x81\x063probe"[..]), "{how}");
            rig.shard.wrote(rig.now, conn, 2, &mut outputs);
        }
        rig.shard.end_writes(&mut outputs);
        end(&mut rig, sid, probe, &mut outputs);
        rig.shard.end_turn(rig.now, &mut outputs);
        let closed = outputs.iter().find_map(|output| match output {
            Output::Close { conn, rest, number, .. } if *conn == probe => Some((&**rest, *number)),
            _ => None,
        });
        let (rest, told) = closed.unwrap_or_else(|| panic!("{how}: {outputs:?}"));
        assert!(rest.starts_with(b"3probe") && told == number, "{how}: {told}, {rest:?}");
    }
}

/// What one answer to a poll has no room for is held to the bound in the same turn.
#[test]
fn what_a_poll_leaves_is_within_the_bound() {
    let mut rig = Rig::with(|settings| settings.limits.outbox_bytes = 20_000);
    let a = rig.client("acme", "a");
    let open = rig.open(Wire::Polling, Some(rig.token("acme", "b")));
    let sid = Sid::parse(field(&rig.responses.remove(0).2, "sid")).unwrap();
    let from = ReplyTo { shard: ShardId(0), conn: open };
    rig.input(Input::Post { from, sid, body: "40" });
    rig.input(Input::Poll { from, sid });
    rig.input(Input::Poll { from, sid });
    rig.responses.clear();
    let text =
        format!("42[\"publish\",{{\"room\":\"user:b\",\"type\":\"note\",\"data\":\"{}\"}}]", "x".repeat(500_000));
    let mut outputs = Vec::new();
    for _ in 0..4 {
        rig.shard.handle(rig.now, Input::Message { conn: a, message: Message::Text(&text) }, &mut outputs);
    }
    rig.turn(outputs);
    assert!(rig.shard.backlog_bytes_max() <= 20_000, "{} bytes wait", rig.shard.backlog_bytes_max());
    let (_, status, body) = rig.responses.remove(0);
    assert!(status == 200 && body.matches("42[\"note\"").count() == 2, "it got what one answer holds: {status}");
    assert_eq!(rig.shard.counts.get(Count::Farewells), 1, "and is told the next time that it is closed");
}

/// A connection that its data plane does not write to, because its own bytes are in the way, is held to the bound at the end of the turn.
#[test]
fn what_is_not_written_is_within_the_bound() {
    let mut rig = Rig::with(|settings| settings.limits.outbox_bytes = 4096);
    let (a, b) = (rig.client("acme", "a"), rig.client("acme", "b"));
    rig.drop_all();
    let text = format!("42[\"publish\",{{\"room\":\"user:b\",\"type\":\"note\",\"data\":\"{}\"}}]", "x".repeat(500));
    let mut outputs = Vec::new();
    for _ in 0..40 {
        rig.shard.handle(rig.now, Input::Message { conn: a, message: Message::Text(&text) }, &mut outputs);
    }
    rig.shard.end_turn(rig.now, &mut outputs);
    while let Some(conn) = rig.shard.next_dirty() {
        let len = rig.shard.pending(conn).len();
        if conn != b {
            rig.shard.wrote(rig.now, conn, len, &mut outputs);
        }
    }
    rig.shard.end_writes(&mut outputs);
    assert!(rig.shard.backlog_bytes_max() <= 4096, "{} bytes wait", rig.shard.backlog_bytes_max());
    let closed = outputs.iter().any(|output| matches!(output, Output::Close { conn, number: 4508, .. } if *conn == b));
    assert!(closed, "{outputs:?}");
    assert!(rig.shard.next_deadline().is_some_and(|at| at <= rig.now.at + TOLD), "others are to hear of it");
}

/// The pump asks for many connections' bytes and then writes them all: what one gets meanwhile, because another is closed, was not
/// offered, and that it was not taken does not make the connection full.
#[test]
fn what_was_not_offered_is_not_refused() {
    let mut rig = Rig::with(|settings| settings.limits.outbox_bytes = 4096);
    let (a, b) = (rig.client("acme", "a"), rig.client("acme", "b"));
    for conn in [a, b] {
        rig.say(conn, "42[\"subscribe\",{\"rooms\":[\"r\"]}]");
    }
    rig.say(b, "42[\"typing:start\",{\"room\":\"r\"}]");
    rig.advance(TOLD);
    rig.drop_all();
    let pad = "x".repeat(500);
    let text = format!("42[\"publish\",{{\"room\":\"tenant:acme\",\"type\":\"note\",\"data\":\"{pad}\"}}]");
    let mut outputs = Vec::new();
    for _ in 0..20 {
        rig.shard.handle(rig.now, Input::Message { conn: a, message: Message::Text(&text) }, &mut outputs);
    }
    rig.shard.end_turn(rig.now, &mut outputs);
    let mut offered = Vec::new();
    while let Some(conn) = rig.shard.next_dirty() {
        offered.push((conn, rig.shard.pending(conn).len()));
    }
    offered.sort_by_key(|(conn, _)| *conn != b);
    for (conn, len) in offered {
        rig.shard.wrote(rig.now, conn, if conn == b { 1 } else { len }, &mut outputs);
    }
    rig.shard.end_writes(&mut outputs);
    assert!(outputs.iter().any(|output| matches!(output, Output::Close { conn, number: 4508, .. } if *conn == b)));
    assert!(rig.shard.next_deadline().is_some_and(|at| at <= rig.now.at), "there is something to write");
    rig.input(Input::Tick);
    let packets = rig.take(a);
    assert!(packets.len() == 1 && packets[0].starts_with("42[\"typing:stop\""), "{packets:?}");
}

#[test]
fn a_slow_reader_is_closed_and_may_come_back() {
    let mut rig = Rig::with(|settings| settings.limits.outbox_bytes = 4096);
    let (a, b) = (rig.client("acme", "a"), rig.client("acme", "b"));
    rig.say(b, "421[\"subscribe\",{\"rooms\":[\"r\"]}]");
    rig.drop_all();
    // From here on b's socket takes one byte, then nothing.
    let pad = "x".repeat(500);
    let mut took = 1;
    let mut closed = None;
    for n in 0..40 {
        let mut outputs = Vec::new();
        let text = format!("42[\"publish\",{{\"room\":\"r\",\"type\":\"note\",\"data\":\"{n}{pad}\"}}]");
        rig.shard.handle(rig.now, Input::Message { conn: a, message: Message::Text(&text) }, &mut outputs);
        rig.shard.end_turn(rig.now, &mut outputs);
        while let Some(conn) = rig.shard.next_dirty() {
            let len = rig.shard.pending(conn).len();
            let take = if conn == b { std::mem::take(&mut took) } else { len };
            rig.shard.wrote(rig.now, conn, take, &mut outputs);
        }
        rig.shard.end_writes(&mut outputs);
        closed = closed.or(outputs.iter().find_map(|output| match output {
            Output::Close { conn, rest, number, .. } if *conn == b => Some((n, rest.len(), *number)),
            _ => None,
        }));
    }
    let (n, rest, number) = closed.expect("closed for being slow");
    assert_eq!(number, 4508);
    assert!((4..12).contains(&n), "at its bound, not before: {n}");
    assert!(rest > 500 && rest < 1000, "the frame that was begun is finished: {rest}");
}
