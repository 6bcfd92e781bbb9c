//! A server that does one thing wrong: the run fails, and says which.

use crate::peer::{self, Wrong};
use crate::run;

/// Forty connections in two tenants of two rooms, ten in each.
const SETS: [&str; 8] = [
    "connections=40",
    "rooms_per_tenant=2",
    "publish.rate=60",
    "publish.publishers_per_room=1",
    "request.rate=60",
    "phases.warmup=0",
    "phases.drain=1",
    "connect_rate=500",
];

#[test]
fn what_a_server_does_wrong_is_named() {
    let threads: Vec<_> = [
        (Wrong::Nothing, &[][..]),
        (Wrong::Lost, &["lost"]),
        (Wrong::LostLast, &["lost"]),
        (Wrong::Twice, &["duplicate"]),
        (Wrong::Swapped, &["out_of_order"]),
        (Wrong::OtherTenant, &["foreign"]),
        (Wrong::OtherRoom, &["misrouted"]),
        (Wrong::Invented, &["unknown"]),
        (Wrong::Unanswered, &["unanswered"]),
        (Wrong::AnotherAnswer, &["refused"]),
        (Wrong::ThrownOut, &["lost"]),
    ]
    .into_iter()
    .map(|(wrong, faults)| std::thread::spawn(move || check(wrong, faults)))
    .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

fn check(wrong: Wrong, expected: &[&str]) {
    let url = peer::start(wrong);
    let (code, report) = run("fan-out-small", &url, &["--dialect", "websocket"], &SETS);
    let tally = report["tally"].as_object().expect("a tally");
    let counts = ["published", "acked", "expected", "received", "requested", "answered", "examples"];
    let faults = tally.iter().filter(|(name, count)| !counts.contains(&name.as_str()) && **count != 0);
    // Who was thrown out may have had something to ask.
    let faults = faults.filter(|(name, _)| wrong != Wrong::ThrownOut || *name != "unsent");
    let faults: Vec<&str> = faults.map(|(name, _)| name.as_str()).collect();
    let mut wanted = expected.to_vec();
    wanted.sort_unstable();
    assert_eq!(faults, wanted, "{wrong:?}: {tally:?}");
    assert_eq!(code, Some(i32::from(!expected.is_empty())), "{wrong:?}");
    let said = report["tally"]["examples"].as_array().is_some_and(|examples| !examples.is_empty());
    let silent = matches!(wrong, Wrong::Nothing | Wrong::Unanswered | Wrong::AnotherAnswer);
    assert_eq!(said, !silent, "{wrong:?}: a fault is described: {tally:?}");
    let early = report["connections"]["closed_early"] != 0;
    assert_eq!(early, wrong == Wrong::ThrownOut, "{wrong:?}: {}", report["failures"]);
}

#[test]
fn a_member_that_came_back_and_was_forgotten_is_noticed() {
    let sets = ["publish.rate=100", "request.rate=10", "churn.share=0.4", "churn.rate=20", "churn.away_ms=10"];
    let sets: Vec<&str> = SETS.into_iter().chain(sets).collect();
    for (wrong, passes) in [(Wrong::Nothing, true), (Wrong::Forgotten, false)] {
        let url = peer::start(wrong);
        let (code, report) = run("fan-out-small", &url, &["--dialect", "websocket"], &sets);
        assert_eq!(code == Some(0), passes, "{wrong:?}: {} {}", report["tally"], report["failures"]);
        assert_eq!(report["tally"]["lost"] == 0, passes, "{wrong:?}: {}", report["tally"]);
    }
}

#[test]
fn noise_is_a_publish_where_a_dialect_has_no_word_for_it() {
    let url = peer::start(Wrong::Nothing);
    let sets = ["connections=40", "rooms_per_tenant=2", "publish.rate=60", "noise.rate=100"];
    let (code, report) = run("typing-noise", &url, &["--dialect", "websocket"], &sets);
    assert_eq!(code, Some(0), "{}", report["checks"]);
    // Ten members of the room have it, but for what was under way at the end; nobody takes it for a publish.
    let [sent, received] = ["sent", "received"].map(|name| report["noise"][name].as_u64().expect("a count"));
    assert!(sent > 0 && received > 0 && received <= sent * 10, "{sent} {received}");
}
