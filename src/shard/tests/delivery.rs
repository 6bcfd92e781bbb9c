//! Delivery with acknowledgement: who is asked, how often, and what the publisher is told.

use super::*;
use crate::wire::api::Ack;

const ACK: Ack = Ack { timeout_ms: 1000, retries: 2 };
/// A timeout is over, however the timer wheel rounds.
const LATE: Duration = Duration::from_millis(1010);

fn ask(rig: &mut Rig, room: &str, ack: Ack) -> Option<String> {
    let event = Publish {
        event: "alarm".into(),
        room: Some(room.into()),
        data: "1".into(),
        ack: Some(ack),
        ..Publish::default()
    };
    rig.call(Call::Publish(vec![event]));
    rig.responses.pop().map(|(_, status, body)| format!("{status} {}", &body[body.find(",\"acked").unwrap_or(0)..]))
}

/// The requests for an acknowledgement among packets: their numbers and how often they were made.
fn asked(packets: &[String]) -> Vec<(String, String)> {
    let request = |packet: &String| {
        let at = packet.find("[\"alarm\"")?;
        let attempt = packet.contains("\"attempt\"").then(|| field(packet, "attempt").to_owned());
        Some((packet[2..at].to_owned(), attempt.unwrap_or_else(|| "1".into())))
    };
    packets.iter().filter_map(request).collect()
}

fn member(rig: &mut Rig, user: &str) -> ConnKey {
    let conn = rig.client("acme", user);
    rig.say(conn, "421[\"subscribe\",{\"rooms\":[\"r\"]}]");
    rig.take(conn);
    conn
}

#[test]
fn the_publisher_is_told_when_all_have_answered() {
    let mut rig = Rig::new();
    let (a, b) = (member(&mut rig, "a"), member(&mut rig, "b"));
    let outsider = rig.client("acme", "c");
    let elsewhere = rig.client("globex", "a");
    rig.drop_all();
    assert_eq!(ask(&mut rig, "r", ACK), None, "it waits");
    let (of_a, of_b) = (rig.take(a), rig.take(b));
    let number = asked(&of_a)[0].0.clone();
    assert!(of_a[0].ends_with("}]"), "no position behind the envelope: {of_a:?}");
    assert_eq!(asked(&of_a), asked(&of_b), "all read the same frame");
    // Whoever was not asked cannot answer, whatever number it names.
    for conn in [outsider, elsewhere] {
        rig.say(conn, &format!("43{number}[]"));
    }
    rig.say(a, &format!("43{number}[]"));
    rig.say(a, &format!("43{number}[]"));
    assert!(rig.responses.is_empty());
    let id = field(&of_b[0], "id").to_owned();
    rig.say(b, &format!("42[\"received\",{{\"ids\":[\"{id}\"]}}]"));
    let (conn, status, body) = rig.responses.pop().unwrap();
    assert_eq!((conn, status), (ConnKey::new(999, 0), 202));
    assert!(body.starts_with(&format!("[{{\"id\":\"{id}\",\"epoch\":")), "{body}");
    assert!(body.ends_with(",\"offset\":1,\"acked\":[\"a\",\"b\"],\"missing\":[]}]"), "{body}");
    rig.advance(Duration::from_secs(10));
    assert_eq!((asked(&rig.take(a)), rig.responses.len()), (vec![], 0), "it is over");
    assert_eq!(rig.shard.census()[10], ("deliveries", 0));
}

#[test]
fn who_does_not_answer_is_asked_again_and_named() {
    let mut rig = Rig::new();
    let (a, b, b2) = (member(&mut rig, "a"), member(&mut rig, "b"), member(&mut rig, "b"));
    rig.drop_all();
    assert_eq!(ask(&mut rig, "r", ACK), None);
    let number = asked(&rig.take(a))[0].0.clone();
    rig.say(a, &format!("43{number}[]"));
    rig.advance(LATE);
    assert_eq!(asked(&rig.take(a)), []);
    assert_eq!(asked(&rig.take(b)), [(number.clone(), "1".into()), (number.clone(), "2".into())]);
    assert_eq!(asked(&rig.take(b2)).len(), 2, "on all its devices");
    // One goes and comes back: it is asked where it is now.
    rig.input(Input::Hangup { conn: b, cause: Hangup::Failed });
    let b3 = member(&mut rig, "b");
    rig.advance(LATE);
    assert_eq!(asked(&rig.take(b3)), [(number, "3".into())]);
    assert!(rig.responses.is_empty());
    rig.advance(LATE);
    let body = rig.responses.pop().unwrap().2;
    assert!(body.ends_with("\"acked\":[\"a\"],\"missing\":[\"b\"]}]"), "{body}");
    let of = [Count::DeliveriesAsked, Count::DeliveryRetries, Count::DeliveriesUnanswered];
    assert_eq!(of.map(|count| rig.shard.counts().get(count)), [1, 2, 1]);
}

#[test]
fn answers_at_once_where_nobody_is_to_wait_for() {
    let mut rig = Rig::new();
    assert_eq!(ask(&mut rig, "empty", ACK).unwrap(), "202 ,\"acked\":[],\"missing\":[]}]");
    assert_eq!(ask(&mut rig, "user:a", ACK).unwrap(), "202 ,\"acked\":[],\"missing\":[\"a\"]}]", "it is in the queue");
    assert_eq!(rig.shard.census()[9].1, 1);
}

/// To whom it was addressed and who did not answer finds it in the queue, also when it was there.
#[test]
fn an_unanswered_event_waits() {
    let mut rig = Rig::new();
    let a = rig.client("acme", "a");
    assert_eq!(ask(&mut rig, "user:a", Ack { retries: 0, ..ACK }), None);
    rig.advance(LATE);
    assert!(rig.responses.pop().unwrap().2.ends_with("\"missing\":[\"a\"]}]"));
    rig.input(Input::Hangup { conn: a, cause: Hangup::Closed });
    let again = rig.connect("acme", "a").1;
    assert!(again[3].starts_with("42[\"alarm\",1,") && again[3].contains("\"queued\":true"), "{again:?}");
}

#[test]
fn a_client_waits_for_its_acknowledgement() {
    let mut rig = Rig::new();
    let (a, b) = (member(&mut rig, "a"), member(&mut rig, "b"));
    rig.drop_all();
    rig.say(
        a,
        "427[\"publish\",{\"room\":\"r\",\"type\":\"alarm\",\"data\":1,\"ack\":{\"timeoutMs\":1000,\"retries\":0}}]",
    );
    let own = rig.take(a);
    assert_eq!((own.len(), asked(&own).len()), (1, 1), "its own event, and no answer yet: {own:?}");
    let number = asked(&rig.take(b))[0].0.clone();
    rig.say(b, &format!("43{number}[]"));
    rig.advance(LATE);
    let answer = rig.take(a).into_iter().find(|packet| packet.starts_with("437[")).unwrap();
    assert!(answer.starts_with("437[{\"ok\":true,\"id\":"), "{answer}");
    assert!(answer.ends_with("\"acked\":[\"b\"],\"missing\":[\"a\"]}]"), "{answer}");
    for (ack, ephemeral) in [("{\"timeoutMs\":99}", false), ("{\"retries\":6}", false), ("{}", true), ("1", false)] {
        rig.say(
            a,
            &format!("428[\"publish\",{{\"room\":\"r\",\"type\":\"alarm\",\"ack\":{ack},\"ephemeral\":{ephemeral}}}]"),
        );
        assert!(rig.take(a)[0].contains("invalid_argument"), "{ack} {ephemeral}");
    }
    // The publisher is gone before anybody answers: nobody is told, nothing breaks.
    rig.say(a, "427[\"publish\",{\"room\":\"r\",\"type\":\"alarm\",\"data\":1,\"ack\":{}}]");
    rig.input(Input::Hangup { conn: a, cause: Hangup::Closed });
    rig.advance(Duration::from_secs(60));
    assert_eq!(rig.shard.census()[10].1, 0);
}

#[test]
fn an_answer_for_many_events_and_a_repeated_one() {
    let mut rig = Rig::new();
    let a = member(&mut rig, "a");
    rig.drop_all();
    let event = |id: &str, ack| Publish {
        id: Some(id.into()),
        event: "alarm".into(),
        room: Some("r".into()),
        data: "1".into(),
        ack,
        ..Publish::default()
    };
    let events = vec![event("x", Some(ACK)), event("y", None), event("z", Some(ACK)), event("x", Some(ACK))];
    rig.call(Call::Publish(events));
    let numbers: Vec<String> = asked(&rig.take(a)).into_iter().map(|(number, _)| number).collect();
    assert_eq!(numbers.len(), 3);
    rig.say(a, &format!("43{}[]", numbers[2]));
    assert!(rig.responses.is_empty());
    rig.say(a, &format!("43{}[]", numbers[0]));
    let body = rig.responses.pop().unwrap().2;
    let parts: Vec<&str> = body.split("},{").collect();
    assert_eq!(parts.len(), 4, "{body}");
    for (part, (id, told)) in parts.iter().zip([("x", true), ("y", false), ("z", true), ("x", false)]) {
        assert!(part.contains(&format!("\"id\":\"{id}\"")) && part.contains("\"acked\":[\"a\"]") == told, "{part}");
    }
}

#[test]
fn a_room_that_is_too_large_is_refused_before_anything_is_published() {
    let mut rig = Rig::with(|settings| settings.limits.connections_per_user = 0);
    let conns: Vec<_> = (0..=limit::DELIVERY_MEMBERS_MAX).map(|_| member(&mut rig, "a")).collect();
    rig.drop_all();
    let refused = ask(&mut rig, "r", ACK).unwrap();
    assert!(refused.starts_with("400 ") && refused.contains("\"code\":\"too_many_receivers\""), "{refused}");
    assert_eq!(rig.take(conns[0]), [""; 0]);
}

#[test]
fn shutting_down_ends_the_waiting() {
    let mut rig = Rig::new();
    let _a = member(&mut rig, "a");
    assert_eq!(ask(&mut rig, "r", ACK), None);
    rig.input(Input::Drain { spread: Duration::from_secs(1) });
    assert!(rig.responses.pop().unwrap().2.ends_with("\"acked\":[],\"missing\":[\"a\"]}]"));
}
