//! Every built-in scenario, small and short, against one tenantcast: everything arrives, and the report has what the scenario is about.

use serde_json::Value;

use crate::{Server, loadgen, run};

fn assert_passed(scenario: &str, (code, report): (Option<i32>, Value), counted: &[&str]) {
    let failed = report["checks"].as_array().expect("checks").iter().filter(|check| check["passed"] == false);
    let failed: Vec<String> = failed.map(Value::to_string).collect();
    let examples = &report["tally"]["examples"];
    assert!(
        code == Some(0) && failed.is_empty(),
        "{scenario}: exit {code:?}, {failed:?} {examples} {}",
        report["failures"]
    );
    for pointer in counted {
        let value = report.pointer(pointer).and_then(Value::as_f64);
        assert!(value.is_some_and(|value| value > 0.0), "{scenario}: {pointer} is {value:?}");
    }
}

#[test]
fn built_in_scenarios_pass_on_tenantcast() {
    let server = Server::start();
    let pid = server.pid();
    for (scenario, sets, counted) in [
        ("idle", &[][..], &["/connections/opened", "/connections/latency/p50", "/server/rss_idle_bytes"][..]),
        ("connect-storm", &[], &["/connections/opened", "/server/cpu_us_per_connection"]),
        ("reconnect-storm", &[], &["/connections/left", "/connections/came_back", "/connections/reconnect/p99"]),
        (
            "fan-out-small",
            &["rooms_per_tenant=3", "publish.rate=100"],
            &["/publishing/deliveries", "/publishing/delivery/p99"],
        ),
        ("fan-out-large", &["tenants=1", "publish.rate=40"], &["/publishing/last/count", "/publishing/deliveries"]),
        ("saturate", &[], &["/publishing/deliveries", "/server/deliveries_per_cpu_second"]),
        ("chat", &["rooms_per_tenant=3", "request.rate=300"], &["/requests/answered", "/requests/latency/p99"]),
        ("saturate-acks", &["request.in_flight=5"], &["/requests/answered", "/server/requests_per_cpu_second"]),
        (
            "typing-noise",
            &["rooms_per_tenant=3", "publish.rate=60", "noise.rate=200"],
            &["/noise/sent", "/noise/received"],
        ),
        (
            "presence-churn",
            &["publish.rate=60", "churn.rate=40", "churn.away_ms=20"],
            &["/connections/came_back", "/publishing/deliveries"],
        ),
        (
            "slow-consumers",
            &["publish.rate=60", "rooms_per_tenant=1", "slow.share=0.1"],
            &["/connections/slow", "/publishing/deliveries"],
        ),
        (
            "mixed",
            &[
                "rooms_per_tenant=2",
                "publish.rate=60",
                "request.rate=100",
                "noise.rate=100",
                "churn.rate=20",
                "churn.away_ms=20",
                "slow.share=0.1",
            ],
            &[
                "/publishing/ack/count",
                "/requests/answered",
                "/noise/sent",
                "/connections/came_back",
                "/connections/slow",
            ],
        ),
        (
            "soak",
            &["rooms_per_tenant=2", "publish.rate=60", "churn.away_ms=20", "checks.rss_growth_percent=1000"],
            &["/tally/acked", "/connections/latency/p50"],
        ),
    ] {
        assert_passed(scenario, run(scenario, &server.url, &["--server-pid", &pid], sets), counted);
    }
    let (_, listed, _) = loadgen(&["scenarios"]);
    assert_eq!(listed.lines().count(), 13, "each of them is in the table above:\n{listed}");
}

#[test]
fn processes_share_the_load() {
    let server = Server::start();
    for (scenario, sets, processes) in [
        // More rooms than processes: each room in one. One room: over all.
        (
            "fan-out-small",
            &["rooms_per_tenant=3", "publish.rate=100", "churn.share=0.2", "churn.rate=20", "churn.away_ms=20"][..],
            "2",
        ),
        ("fan-out-large", &["tenants=1", "publish.rate=40"], "3"),
        ("saturate", &["tenants=1", "rooms_per_tenant=1"], "2"),
        ("saturate-acks", &["request.in_flight=5"], "2"),
    ] {
        let outcome = run(scenario, &server.url, &["--processes", processes], sets);
        assert_eq!(outcome.1["connections"]["opened"], 60, "{scenario}");
        assert_passed(scenario, outcome, &["/connections/latency/p50"]);
    }
}

#[test]
fn a_load_that_never_sleeps() {
    let server = Server::start();
    let outcome = run("chat", &server.url, &["--busy-poll"], &["request.rate=200"]);
    assert_eq!(outcome.1["own"]["busy_poll"], true);
    assert_passed("chat", outcome, &["/requests/answered"]);
}

#[test]
fn several_nodes_are_one_server() {
    // One that is named twice is a fleet of two to the load.
    let server = Server::start();
    let (urls, pid) = (format!("{0},{0}", server.url), server.pid());
    let args = ["--server-pid", &pid, "--beside-pid", &pid];
    let outcome = run("fan-out-small", &urls, &args, &["rooms_per_tenant=3", "publish.rate=100"]);
    assert_eq!(outcome.1["address"], urls.replace("http://", ""));
    assert!(outcome.1["beside_cpu_share"].is_number(), "{}", outcome.1["beside_cpu_share"]);
    assert_passed("fan-out-small", outcome, &["/publishing/deliveries", "/tally/received"]);
}

#[test]
fn two_servers_in_turns() {
    let server = Server::start();
    let page = std::env::temp_dir().join(format!("loadgen-compare-{}.html", std::process::id()));
    let mut args = vec!["run", "fan-out-small", "--rounds", "2", "--json", "-", "--html", page.to_str().expect("text")];
    args.extend(["--compare", &server.url, &server.url, "--dialect", "tenantcast,tenantcast"]);
    let pids = format!("{0},{0}", server.pid());
    args.extend(["--server-pid", &pids]);
    for set in [
        "connections=40",
        "rooms_per_tenant=1",
        "tenants=2",
        "publish.rate=40",
        "phases.settle=0",
        "phases.warmup=0",
        "phases.measure=0.4",
    ] {
        args.extend(["--set", set]);
    }
    let (code, stdout, stderr) = loadgen(&args);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    let comparison: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(comparison["rounds"].as_array().map(Vec::len), Some(2));
    let rows = comparison["rows"].as_array().expect("rows");
    assert!(
        rows.iter().any(|row| row["name"] == "deliveries a CPU second" && row["ratio"]["median"].is_f64()),
        "{rows:?}"
    );
    let order: Vec<&str> = stderr.lines().filter_map(|line| line.split_once(", ")?.1.split(':').next()).collect();
    assert_eq!(order, ["A", "B", "A", "B"], "{stderr}");
    let html = std::fs::read_to_string(&page).expect("the page");
    std::fs::remove_file(&page).expect("it is there");
    assert!(html.starts_with("<!doctype html>") && html.contains("Medians of 2 rounds"));
}

#[test]
fn what_cannot_run_is_said() {
    for (args, reason) in [
        (&["run", "fan-out"][..], "no scenario is called \"fan-out\""),
        (&["run", "idle", "--set", "conections=5"], "unknown key `conections`, did you mean `connections`?"),
        (&["run", "idle", "--set", "connections=5"], "5 connections cannot fill 50 tenants"),
        (&["run", "idle", "--dialect", "soket.io", "--url", "http://127.0.0.1:1"], "no dialect is called \"soket.io\""),
        (&["run", "idle", "--cpus", "x", "--url", "http://127.0.0.1:1"], "is no core"),
        (&["run", "idle", "--cpus", "0", "--processes", "2", "--busy-poll"], "2 processes need a core each"),
        (&["run", "idle", "--url", "https://127.0.0.1:1"], "does not start with http://"),
        (
            &["run", "idle", "--set", "connections=50", "--url", "http://127.0.0.1:1"],
            "no connection to 127.0.0.1:1 could be opened: connect: ",
        ),
        (&["scenarios", "chatt"], "did you mean \"chat\"?"),
    ] {
        let (code, stdout, stderr) = loadgen(args);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{args:?}: {stderr}");
        assert!(stderr.contains(reason), "{args:?}: {stderr}");
    }
}
