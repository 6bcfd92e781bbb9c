//! What a page must hold.

use super::*;
use crate::compare;
use crate::report::tests::{faultless, report};

/// Tags that are opened are closed, in order.
fn assert_whole(page: &str) {
    let mut open: Vec<&str> = Vec::new();
    for tag in page.split('<').skip(1) {
        let end = tag.find('>').unwrap_or_else(|| panic!("<{tag}"));
        let (inside, name) = (&tag[..end], tag[..end].split([' ', '\n']).next().unwrap());
        if let Some(name) = name.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "at </{name}>");
        } else if !inside.ends_with('/') && !["!doctype", "meta"].contains(&name) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

/// Nothing comes from elsewhere, and nothing runs.
fn assert_alone(page: &str) {
    for banned in ["<script", "<link", "<img", "src=", "url(", "@import", "href="] {
        assert!(!page.contains(banned), "{banned}");
    }
}

#[test]
fn a_report() {
    let mut report = report(faultless());
    report.warnings.push("a <b>warning</b>".to_owned());
    let page = of_report(&report);
    assert_whole(&page);
    assert_alone(&page);
    for part in [
        "<title>loadgen: fan-out-small</title>",
        "<span class=\"verdict passed\">passed</span>",
        "prefers-color-scheme: dark",
        "a &lt;b&gt;warning&lt;/b&gt;",
        ">Latency by percentile<",
        ">Latency over time<",
        ">Throughput over time<",
        ">Processor time<",
        ">Memory of the server<",
        "role=\"img\" aria-label=\"Latency by percentile. How long",
        "delivery, p99: 4",
        "<th scope=\"row\">lost</th><td>0</td><td>0</td><td class=\"passed\">passed</td>",
        "rooms_per_tenant = 10",
        &crate::machine::Machine::here().kernel,
        "server&#39;s CPU",
    ] {
        let part = part.replace("&#39;", "'");
        assert!(page.contains(&part), "no {part:?}");
    }
    assert!(!page.contains("NaN"));
}

#[test]
fn a_report_that_failed() {
    let mut outcome = faultless();
    outcome.tally.lost = 7;
    outcome.tally.example(|| "connection 3 never received 5".to_owned());
    let page = of_report(&report(outcome));
    assert_whole(&page);
    for part in [
        "<span class=\"verdict failed\">failed</span>",
        "<td>7</td><td class=\"failed\">failed</td>",
        "connection 3 never received 5",
    ] {
        assert!(page.contains(part), "no {part:?}");
    }
}

#[test]
fn a_comparison() {
    let round = || [report(faultless()), report(faultless())];
    let mut rounds = vec![round(), round(), round()];
    for (round, share) in rounds.iter_mut().zip([2.0, 3.0, 4.0]) {
        let publishing = round[1].publishing.as_mut().unwrap();
        publishing.deliveries_per_second /= share;
        // A CPU time that only one side knows is not compared.
        round[1].server = None;
    }
    let comparison = compare::of(rounds);
    let row = &comparison.rows[0];
    assert_eq!((row.name, row.sides[0].median), ("deliveries a second", 20_000.0));
    assert_eq!(row.ratio.map(|ratio| (ratio.median, ratio.min, ratio.max)), Some((3.0, 2.0, 4.0)));
    assert!(comparison.rows.iter().all(|row| row.name != "deliveries a CPU second"));
    let text = comparison.to_string();
    assert!(text.contains("3.00 (2.00-4.00) A\n"), "{text}");
    let page = of_comparison(&comparison);
    assert_whole(&page);
    assert_alone(&page);
    for part in [
        "Medians of 3 rounds in turns",
        "<td>3.00</td><td>2.00 – 4.00</td>",
        ">A delivery<",
        ">B delivery<",
        "B, second by second",
    ] {
        assert!(page.contains(part), "no {part:?}");
    }
}

#[test]
fn moments() {
    for (seconds, text) in
        [(0, "1970-01-01 00:00"), (951_782_400, "2000-02-29 00:00"), (1_795_263_540, "2026-11-21 12:19")]
    {
        assert_eq!(moment(seconds), text);
    }
}
