//! From what a run left behind to its report: sums, rates, costs.

use hdrhistogram::Histogram;

use super::{Connections, Curve, NoiseCount, OwnCost, Publishing, Report, Requests, Second, ServerCost};
use crate::histogram::{Percentiles, histogram};
use crate::machine::Machine;
use crate::process::Usage;
use crate::protocol::{Outcome, Phase, Tally};
use crate::round::{Log, Sample};
use crate::token::unix_seconds;

/// A sample this near to a second's end is the one taken for it.
const NEAR_US: u64 = 200_000;

pub fn gather(log: &Log) -> Report {
    let scenario = &log.plan.scenario;
    let total = &log.total;
    let mut tally = Tally::default();
    for outcome in &log.outcomes {
        tally.add(&outcome.tally);
    }
    let sum = |of: fn(&Outcome) -> u64| log.outcomes.iter().map(of).sum::<u64>();
    let maps = |of: fn(&Outcome) -> &std::collections::BTreeMap<String, u64>| {
        let mut all = std::collections::BTreeMap::new();
        for (name, count) in log.outcomes.iter().flat_map(of) {
            *all.entry(name.clone()).or_insert(0) += count;
        }
        all
    };
    let seconds = (log.marks.until.at_us - log.marks.from.at_us) as f64 / 1e6;
    let opened = sum(|outcome| outcome.ready.into()) as u32;
    let connect_seconds = log.outcomes.iter().map(|outcome| outcome.connect_us).max().unwrap_or(0) as f64 / 1e6;
    let last = scenario.publish.filter(|publish| publish.last).map(|_| last(log));
    let rooms = log.plan.rooms();
    let connections = Connections {
        asked: scenario.connections,
        opened,
        closed_early: sum(|outcome| outcome.closed_early),
        slow: (0..rooms).map(|room| scenario.slow_places(log.plan.members(room))).sum(),
        slow_closed: sum(|outcome| outcome.slow_closed),
        left: total.counts.left,
        came_back: total.reconnect.len(),
        seconds: connect_seconds,
        per_second: f64::from(opened) / connect_seconds.max(1e-6),
        latency: Percentiles::of(&total.connect),
        reconnect: Percentiles::of(&total.reconnect),
    };
    let publishing = scenario.publish.map(|publish| Publishing {
        rooms,
        publishers: log.plan.publishing(),
        members_per_room_min: log.plan.members(rooms - 1),
        members_per_room_max: log.plan.members(0),
        seconds,
        published: total.measured.published,
        deliveries: total.measured.deliveries,
        deliveries_per_second: total.measured.deliveries as f64 / seconds,
        delivery: Percentiles::of(&total.delivery),
        last: last.as_ref().map(Percentiles::of),
        ack: publish.ack.then(|| Percentiles::of(&total.publish_ack)),
    });
    let requests = scenario.request.map(|_| Requests {
        seconds,
        answered: total.measured.answered,
        per_second: total.measured.answered as f64 / seconds,
        latency: Percentiles::of(&total.request),
    });
    let curves = [
        ("delivery", Some(&total.delivery)),
        ("last delivery", last.as_ref()),
        ("request", Some(&total.request)),
        ("ack of a publish", Some(&total.publish_ack)),
        ("connect", Some(&total.connect)),
        ("reconnect", Some(&total.reconnect)),
    ];
    let curves = curves.into_iter().filter_map(|(name, histogram)| curve(name, histogram?)).collect();
    let noise = NoiseCount { sent: total.counts.noise_sent, received: total.counts.other_received };
    let own_us = log.marks.until.own.cpu_us.saturating_sub(log.marks.from.own.cpu_us);
    let own_us = own_us.saturating_sub(total.measured.idle_us);
    let report = Report {
        scenario: scenario.clone(),
        dialect: scenario.dialect.clone().unwrap_or_default().name(),
        address: log.address.clone(),
        processes: log.plan.processes,
        machine: Machine::here(),
        ended: unix_seconds().unwrap_or(0),
        connections,
        publishing,
        requests,
        noise: scenario.noise.map(|_| noise),
        tally,
        failures: maps(|outcome| &outcome.failures),
        refusals: maps(|outcome| &outcome.refusals),
        other_events: maps(|outcome| &outcome.other_events),
        server: server(log, opened, seconds),
        beside_cpu_share: beside_us(log).map(|us| us as f64 / 1e6 / seconds),
        own: OwnCost {
            cpu_share: own_us as f64 / 1e6 / seconds,
            cpu_us_per_delivery: per(own_us as f64, total.measured.deliveries),
            busy_poll: total.counts.idle_us > 0,
            rss_bytes: log.marks.until.own.rss_bytes,
            late: Percentiles::of(&total.late),
        },
        others_cpu_share: others(log, seconds),
        curves,
        timeline: timeline(log),
        checks: Vec::new(),
        warnings: Vec::new(),
        passed: false,
    };
    report.judge()
}

fn per(cost: f64, count: u64) -> Option<f64> {
    (count > 0).then(|| cost / count as f64)
}

fn server(log: &Log, opened: u32, seconds: f64) -> Option<ServerCost> {
    let marks = &log.marks;
    let [empty, connected, settled, from, until] =
        [marks.empty, marks.connected, marks.settled, marks.from, marks.until].map(|sample| sample.server);
    let (empty, connected, settled, from, until) = (empty?, connected?, settled?, from?, until?);
    let measured = &log.total.measured;
    let opened = u64::from(opened.max(1));
    let cpu_us = until.cpu_us.saturating_sub(from.cpu_us);
    let cpu_seconds = cpu_us as f64 / 1e6;
    let rate = |count: u64| (count > 0 && cpu_us > 0).then(|| count as f64 / cpu_seconds);
    let while_measuring: Vec<u64> = log
        .samples
        .iter()
        .filter(|sample| sample.at_us >= marks.from.at_us && sample.at_us <= marks.until.at_us)
        .filter_map(|sample| Some(sample.server?.rss_bytes))
        .collect();
    Some(ServerCost {
        pids: log.pids.clone(),
        rss_start_bytes: empty.rss_bytes,
        rss_idle_bytes: settled.rss_bytes,
        rss_end_bytes: until.rss_bytes,
        rss_max_bytes: log.samples.iter().filter_map(|sample| Some(sample.server?.rss_bytes)).max().unwrap_or(0),
        rss_per_connection_bytes: settled.rss_bytes.saturating_sub(empty.rss_bytes) / opened,
        cpu_us_per_connection: connected.cpu_us.saturating_sub(empty.cpu_us) as f64 / opened as f64,
        cpu_seconds,
        cpu_share: cpu_seconds / seconds,
        user_share: until.user_us.saturating_sub(from.user_us) as f64 / 1e6 / seconds,
        deliveries_per_cpu_second: rate(measured.deliveries),
        requests_per_cpu_second: rate(measured.answered),
        cpu_us_per_reconnect: log.plan.scenario.storm.and_then(|_| per(cpu_us as f64, measured.opened)),
        rss_growth_percent: growth(&while_measuring),
    })
}

/// CPU time of what is beside the server, while measuring.
fn beside_us(log: &Log) -> Option<u64> {
    Some(log.marks.until.beside_us?.saturating_sub(log.marks.from.beside_us?))
}

/// Cores used by processes that are neither the server, nor what is beside it, nor the load.
fn others(log: &Log, seconds: f64) -> Option<f64> {
    let (from, until) = (log.marks.from, log.marks.until);
    let server = until.server?.cpu_us.saturating_sub(from.server?.cpu_us);
    let own = until.own.cpu_us.saturating_sub(from.own.cpu_us);
    let all = until.machine_us.saturating_sub(from.machine_us);
    Some(all.saturating_sub(server + own + beside_us(log).unwrap_or(0)) as f64 / 1e6 / seconds)
}

/// Per cent, from the mean of the first quarter to that of the last.
fn growth(values: &[u64]) -> f64 {
    let quarter = values.len().div_ceil(4);
    if quarter == 0 {
        return 0.0;
    }
    let mean = |part: &[u64]| part.iter().sum::<u64>() as f64 / part.len() as f64;
    (mean(&values[values.len() - quarter..]) / mean(&values[..quarter]) - 1.0) * 100.0
}

/// The time from each measured publish to the last of its deliveries, whichever process had it. One that is not complete is counted as lost elsewhere.
fn last(log: &Log) -> Histogram<u64> {
    let mut publishes = std::collections::BTreeMap::new();
    for &(publisher, sequence, count, at, last) in log.outcomes.iter().flat_map(|outcome| &outcome.last) {
        let (all, _, latest) = publishes.entry((publisher, sequence)).or_insert((0, at, 0));
        (*all, *latest) = (*all + count, last.max(*latest));
    }
    let mut times = histogram();
    for ((publisher, _), (count, at, last)) in publishes {
        if count == log.plan.steady(log.plan.room(publisher)) {
            times.saturating_record(last.saturating_sub(at));
        }
    }
    times
}

/// Points even in the number of nines, which is how a tail is looked at.
fn curve(name: &str, histogram: &Histogram<u64>) -> Option<Curve> {
    if histogram.is_empty() {
        return None;
    }
    // No further than there are values: the last point is the greatest of them.
    let nines = (histogram.len() as f64).log10().clamp(0.5, 6.0);
    let steps = (nines * 20.0) as u32;
    let quantile = |step: u32| 1.0 - 10f64.powf(-f64::from(step) / 20.0);
    let points = (0..=steps).map(|step| (quantile(step), histogram.value_at_quantile(quantile(step))));
    Some(Curve { name: name.to_owned(), points: points.collect() })
}

fn timeline(log: &Log) -> Vec<Second> {
    let Some(first) = log.total.seconds.first().map(|second| second.start_us) else { return Vec::new() };
    let near = |at_us: u64| -> Option<&Sample> {
        let place = log.samples.partition_point(|sample| sample.at_us < at_us);
        let around = log.samples[place.saturating_sub(1)..(place + 1).min(log.samples.len())].iter();
        around.filter(|sample| sample.at_us.abs_diff(at_us) < NEAR_US).min_by_key(|sample| sample.at_us.abs_diff(at_us))
    };
    let share =
        |before: &Usage, after: &Usage, us: u64| after.cpu_us.saturating_sub(before.cpu_us) as f64 / us.max(1) as f64;
    let line = |second: &crate::total::Second| {
        let ends = near(second.start_us)
            .zip(near(second.end_us))
            .filter(|(before, after)| after.at_us > before.at_us + NEAR_US / 2);
        let server =
            ends.and_then(|(before, after)| Some(share(&before.server?, &after.server?, after.at_us - before.at_us)));
        Second {
            phase: second.phase,
            at: (second.start_us - first) as f64 / 1e6,
            seconds: (second.end_us.saturating_sub(second.start_us)) as f64 / 1e6,
            opened: second.counts.opened,
            published: second.counts.published,
            deliveries: second.counts.deliveries,
            answered: second.counts.answered,
            other_received: second.counts.other_received,
            received_bytes: second.counts.received_bytes,
            delivery_p50: second.delivery.p50,
            delivery_p99: second.delivery.p99,
            request_p50: second.request.p50,
            request_p99: second.request.p99,
            connect_p50: second.connect.p50,
            connect_p99: second.connect.p99,
            server_cpu: server,
            server_rss_bytes: near(second.end_us).and_then(|sample| Some(sample.server?.rss_bytes)),
            own_cpu: ends.map(|(before, after)| {
                let us = after.at_us - before.at_us;
                (share(&before.own, &after.own, us) - second.counts.idle_us as f64 / us.max(1) as f64).max(0.0)
            }),
        }
    };
    // The drain's last piece is as long as it took: a rate over it would say nothing.
    log.total.seconds.iter().filter(|second| second.phase < Phase::Drain).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_growth() {
        for (values, percent) in [
            (&[][..], 0.0),
            (&[100], 0.0),
            (&[100, 100, 150, 110], 10.0),
            (&[100, 100, 900, 900, 900, 900, 50, 50], -50.0),
        ] {
            assert!((growth(values) - percent).abs() < 1e-9, "{values:?}: {}", growth(values));
        }
    }

    #[test]
    fn curves_end_at_the_greatest_value() {
        let mut times = histogram();
        assert!(curve("x", &times).is_none());
        for value in 1..=1000 {
            times.record(value).unwrap();
        }
        let curve = curve("x", &times).unwrap();
        assert_eq!(curve.points[0], (0.0, 1));
        assert_eq!(curve.points.len(), 61);
        let (quantile, value) = curve.points[60];
        assert!((quantile - 0.999).abs() < 1e-9 && value == 999, "{quantile} {value}");
    }
}
