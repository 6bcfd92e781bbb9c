//! What a report must say, from a run made up by hand.

use super::*;
use crate::plan::Plan;
use crate::process::Usage;
use crate::protocol::{Counts, Outcome, Window};
use crate::round::{Log, Marks, Sample};
use crate::scenario::load;
use crate::total::Total;

const SECOND: u64 = 1_000_000;
/// When the made-up run begins.
const START: u64 = 50 * SECOND;

/// Server: 7 MiB and no CPU when empty, then 10 MiB and half a core. Own: a quarter of a core. The machine: a whole one.
fn sample(at_us: u64, is_empty: bool) -> Sample {
    let since = at_us - START;
    let rss_bytes = if is_empty { 7 << 20 } else { 10 << 20 };
    let server = Usage { cpu_us: since / 2, user_us: since / 4, rss_bytes };
    Sample {
        at_us,
        server: Some(server),
        beside_us: None,
        own: Usage { cpu_us: since / 4, user_us: 0, rss_bytes: 3 << 20 },
        machine_us: since,
    }
}

/// 2 s of connecting 1,000 connections, 1 s of warm-up, 4 s of measuring 20,000 deliveries and 100 answers a second.
pub fn log(scenario: &str, sets: &[&str], outcome: Outcome) -> Log {
    let sets: Vec<String> = ["connections=1000"].iter().chain(sets).map(|set| (*set).to_owned()).collect();
    let scenario = load(scenario, None, &sets).unwrap();
    let plan = Plan::new(scenario, 2, 0xabc);
    let mut total = Total::new();
    for second in 0..7 {
        let phase = [Phase::Connect, Phase::Connect, Phase::Warmup, Phase::Measure][second.min(3) as usize];
        let mut window = Window {
            phase,
            start_us: START + second * SECOND,
            end_us: START + (second + 1) * SECOND,
            ..Window::default()
        };
        match phase {
            Phase::Connect => {
                window.counts.opened = 500;
                window.connect = vec![(2_000, 490), (9_000, 10)];
            }
            _ => {
                window.counts =
                    Counts { published: 200, deliveries: 20_000, requested: 100, answered: 100, ..Counts::default() };
                window.delivery = vec![(1_000, 19_000), (4_000, 900), (30_000, 100)];
                window.request = vec![(500, 99), (700, 1)];
                window.late = vec![(10, 300)];
            }
        }
        total.add(&[window]);
    }
    let at = |second: u64| sample(START + second * SECOND, second == 0);
    Log {
        plan,
        address: "127.0.0.1:7".to_owned(),
        pids: vec![42],
        total,
        samples: (0..8).map(at).collect(),
        marks: Marks { empty: at(0), connected: at(2), settled: at(2), from: at(3), until: at(7) },
        outcomes: vec![Outcome { ready: 1000, connect_us: 2 * SECOND, ..outcome }],
    }
}

/// What a run without a fault ends with.
pub fn faultless() -> Outcome {
    let tally = Tally {
        published: 1000,
        received: 100_000,
        expected: 100_000,
        requested: 500,
        answered: 500,
        ..Tally::default()
    };
    Outcome { tally, ..Outcome::default() }
}

pub fn report(outcome: Outcome) -> Report {
    gather(&log("fan-out-small", &["request.rate=100"], outcome))
}

#[test]
fn sums_and_costs() {
    let report = report(faultless());
    assert!(report.passed, "{report}");
    assert_eq!((report.connections.opened, report.connections.per_second), (1000, 500.0));
    let publishing = report.publishing.as_ref().unwrap();
    assert_eq!((publishing.deliveries, publishing.deliveries_per_second), (80_000, 20_000.0));
    assert_eq!((publishing.members_per_room_min, publishing.members_per_room_max), (10, 10));
    // The warm-up's values are in the timeline and not in the whole.
    assert_eq!((publishing.delivery.count, publishing.delivery.p50, publishing.delivery.p99), (80_000, 1_000, 4_001));
    assert_eq!(report.requests.as_ref().map(|requests| requests.per_second), Some(100.0));
    let server = report.server.as_ref().unwrap();
    assert_eq!((server.cpu_seconds, server.cpu_share, server.user_share), (2.0, 0.5, 0.25));
    assert_eq!((server.deliveries_per_cpu_second, server.requests_per_cpu_second), (Some(40_000.0), Some(200.0)));
    assert_eq!((server.cpu_us_per_connection, server.rss_per_connection_bytes), (1_000.0, (3 << 20) / 1000));
    assert_eq!((report.own.cpu_share, report.own.cpu_us_per_delivery), (0.25, Some(12.5)));
    assert_eq!(report.others_cpu_share, Some(0.25));
    assert_eq!(report.warnings, ["others on this machine used 0.2 cores meanwhile: repeat it when they do not"]);
    assert_eq!(report.timeline.len(), 7);
    for (second, at) in report.timeline.iter().zip(0..) {
        assert_eq!((second.at, second.seconds, second.server_cpu), (f64::from(at), 1.0, Some(0.5)), "{at}");
    }
    assert_eq!((report.timeline[2].delivery_p50, report.timeline[0].connect_p50), (1_000, 2_000));
    let curves: Vec<&str> = report.curves.iter().map(|curve| curve.name.as_str()).collect();
    assert_eq!(curves, ["delivery", "request", "connect"]);
}

#[test]
fn what_works_beside_the_server_is_told_and_is_nobody_else() {
    let mut log = log("fan-out-small", &[], faultless());
    (log.marks.from.beside_us, log.marks.until.beside_us) = (Some(SECOND), Some(SECOND + SECOND / 2));
    let report = gather(&log);
    assert_eq!((report.beside_cpu_share, report.others_cpu_share), (Some(0.125), Some(0.125)));
    assert_eq!(report.warnings, Vec::<String>::new());
    assert!(report.to_string().contains("beside it    12.5 % of a core"), "{report}");
}

#[test]
fn every_fault_fails() {
    let faults = faultless().tally.faults();
    for (name, _) in faults {
        let mut outcome = faultless();
        let tally = &mut outcome.tally;
        let field = match name {
            "stalled" => &mut tally.stalled,
            "unsent" => &mut tally.unsent,
            "refused" => &mut tally.refused,
            "unacked" => &mut tally.unacked,
            "unanswered" => &mut tally.unanswered,
            "lost" => &mut tally.lost,
            "duplicate" => &mut tally.duplicate,
            "out of order" => &mut tally.out_of_order,
            "foreign tenant" => &mut tally.foreign,
            "misrouted" => &mut tally.misrouted,
            "malformed" => &mut tally.malformed,
            "unknown" => &mut tally.unknown,
            other => panic!("{other} has no row here"),
        };
        *field = 3;
        let report = report(outcome);
        assert!(!report.passed, "{name}");
        assert!(report.to_string().contains(&format!("FAILED {name}: 3, wanted 0")), "{report}");
    }
    let mut outcome = faultless();
    outcome.tally.received -= 1;
    assert!(report(outcome).to_string().contains("FAILED deliveries: 99999, wanted 100000"));
    let silent = Outcome { tally: Tally::default(), ..Outcome::default() };
    assert!(!report(silent).passed, "nothing received is not everything received");
}

#[test]
fn limits_are_asked_where_they_are_set() {
    for (sets, failed) in [
        (&["checks.delivery_p99_ms=4.5"][..], None),
        (&["checks.delivery_p99_ms=4"], Some("delivery p99: 4.00 ms, wanted < 4 ms")),
        (&["checks.connect_p99_ms=5"], Some("connect p99: 9.01 ms, wanted < 5 ms")),
        (&["checks.request_p99_ms=5"], Some("request p99: 0.00 ms, wanted < 5 ms")),
        (&["checks.rss_growth_percent=1"], None),
        (&["connections=999"], Some("connections opened: 1000, wanted 999")),
    ] {
        let report = gather(&log("fan-out-small", sets, faultless()));
        let text = report.to_string();
        match failed {
            None => assert!(report.passed, "{text}"),
            Some(failed) => assert!(text.contains(&format!("FAILED {failed}")), "{text}"),
        }
    }
}

#[test]
fn the_last_delivery_is_the_last_of_all_processes() {
    // Ten members a room; publisher 3 is in room 3. One publish is whole, one lacks a member.
    let last = |count, at| (3, if at < 600 { 0 } else { 1 }, count, 100, at);
    let first = Outcome { last: vec![last(4, 500), last(4, 900)], ..faultless() };
    let mut log = log("fan-out-small", &["publish.last=true"], first);
    log.outcomes.push(Outcome { last: vec![last(6, 300), last(5, 800)], ..Outcome::default() });
    let last = gather(&log).publishing.unwrap().last.unwrap();
    assert_eq!((last.count, last.max), (1, 400));
}

#[test]
fn polling_while_nothing_comes_is_no_work() {
    let mut log = log("fan-out-small", &[], faultless());
    // Of the quarter of a core that was used in the four seconds of measuring.
    let idle = Window {
        phase: Phase::Measure,
        start_us: START + 5 * SECOND,
        end_us: START + 6 * SECOND,
        counts: Counts { idle_us: SECOND / 5, ..Counts::default() },
        ..Window::default()
    };
    log.total.add(&[idle]);
    let report = gather(&log);
    assert!((report.own.cpu_share - 0.2).abs() < 1e-9, "{}", report.own.cpu_share);
    assert!(
        report
            .to_string()
            .contains("20 % of a core in 2 processes (polling without sleeping), 10.00 us CPU a delivery")
    );
}

#[test]
fn what_a_reader_looks_for_is_in_the_text() {
    // Columns stand where their widths put them.
    let text = report(faultless()).to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "fan-out-small: Rooms of 100",
        "server 127.0.0.1:7 (tenantcast)",
        "1000 of 1000 opened in 2.00 s (500/s), 0 closed early",
        "100 with 10 members each, 200 publishers",
        "80000 of 800 publishes in 4.00 s (20000/s)",
        "faults none in 100500 verified",
        "delivery, from the intended time 1.00 1.00 4.00",
        "40000 deliveries a CPU second, 200 requests a CPU second",
        "1000.0 us CPU to open",
        "loadgen 25 % of a core in 2 processes, 12.50 us CPU a delivery",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
}
