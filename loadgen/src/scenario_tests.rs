//! Scenario files, as tables.

use super::*;
use crate::dialect::Dialect;

#[test]
fn every_built_in_scenario_can_run() {
    for (name, text) in BUILT_IN {
        assert!(text.starts_with("# "), "{name} says what it is for");
        for dialect in [None, Some("socket.io"), Some("websocket")] {
            let scenario = load(name, dialect, &[]).unwrap();
            assert_eq!(scenario.name, *name);
            assert!(!scenario.about.is_empty());
            for processes in [1, 2, 5] {
                assert_eq!(scenario.validate(processes), Ok(()), "{name}");
            }
            Dialect::compile(&scenario.dialect.unwrap_or_default()).unwrap();
        }
    }
}

fn write(name: &str, text: &str) -> String {
    let path = std::env::temp_dir().join(format!("loadgen-{}-{name}.toml", std::process::id()));
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn errors_name_file_line_key_and_what_was_meant() {
    for (name, text, reason) in [
        ("key", "connections = 5\n\nconections = 7\n", ":3: unknown key `conections`, did you mean `connections`?"),
        ("nested", "[publish]\nrate = 5\ninflight = 4\n", ":3: unknown key `inflight`, did you mean `in_flight`?"),
        ("section", "[pubish]\nrate = 5\n", ":1: unknown key `pubish`, did you mean `publish`?"),
        ("dialect", "[dialect]\njon = ''\n", ":2: unknown key `jon`, did you mean `join`?"),
        ("far", "[noise]\nrate = 1\ncolour = 2\n", ":3: unknown key `colour`; there are: rate"),
        ("kind", "tenants = 1\nconnections = \"many\"\n", ":2: invalid type"),
        ("syntax", "[publish\n", ":1: "),
    ] {
        let path = write(name, text);
        let error = load(&path, None, &[]).unwrap_err().to_string();
        std::fs::remove_file(&path).unwrap();
        assert!(error.starts_with(&format!("{path}{reason}")), "{error}");
    }
    for (name, reason) in [
        ("fanout-small", "did you mean \"fan-out-small\"?"),
        ("xyzzy", "There are: idle, "),
        ("./no.toml", "reading ./no.toml"),
    ] {
        let error = load(name, None, &[]).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn settings_go_over_the_file() {
    let sets =
        ["connections=500", "phases.measure=0.5", "publish.in_flight=2", "dialect.event=note"].map(str::to_owned);
    let scenario = load("fan-out-small", Some("socket.io"), &sets).unwrap();
    assert_eq!((scenario.connections, scenario.phases.measure), (500, 0.5));
    assert_eq!(scenario.publish.map(|publish| (publish.rate, publish.in_flight)), Some((None, Some(2))));
    assert_eq!(scenario.phases.warmup, 2.0);
    let dialect = Dialect::compile(&scenario.dialect.unwrap()).unwrap();
    assert_eq!(dialect.event, b"[\"note\"");
    for (set, reason) in [
        ("conections=5", "--set conections=5: unknown key `conections`, did you mean `connections`?"),
        ("publish.rat=5", "--set publish.rat=5: unknown key `rat`, did you mean `rate`?"),
        ("connections=many", "--set connections=many: invalid type"),
        ("connections", "write KEY=VALUE"),
        ("connections.x=1", "connections is no table"),
    ] {
        let error = load("fan-out-small", None, &[set.to_owned()]).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn impossible_scenarios_are_refused() {
    for (sets, reason) in [
        (&["connections=0"][..], "at least 1"),
        (&["connections=99"], "cannot fill 100 rooms"),
        (&["payload_bytes=10"], "payload_bytes"),
        (&["connections=300000"], "raise sources"),
        (&["sources=251"], "at most 250"),
        (&["publish.rate=0"], "publish.rate must be"),
        (&["publish.in_flight=0"], "at least 1"),
        (&["publish.publishers_per_room=101"], "101 publishers in a room of 100"),
        (&["publish.in_flight=50", "publish.publishers_per_room=49"], "need as many publishers"),
        (&["slow.share=0.99"], "1 stay and read, and 2 publish"),
        (&["slow.share=2"], "a share is 0 to 1"),
        (&["churn.share=0.1", "storm.share=0.1"], "choose one"),
        (&["publish.last=true", "churn.share=0.1"], "publish.last needs members that stay"),
        (&["phases.measure=0"], "measure at least 0.1"),
        (&["rooms_per_tenant=0"], "publishing needs rooms"),
    ] {
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        let error = load("fan-out-small", None, &sets).unwrap().validate(1).unwrap_err();
        assert!(error.contains(reason), "{sets:?}: {error}");
    }
}

#[test]
fn places_in_a_room() {
    let sets = ["slow.share=0.1", "churn.share=0.25", "publish.rate=9000"].map(str::to_owned);
    let scenario = load("fan-out-small", None, &sets).unwrap();
    assert_eq!((scenario.groups(), scenario.publishers_per_room()), (100, 2));
    assert_eq!((scenario.slow_places(100), scenario.steady_places(100)), (10, 65));
    assert_eq!(load("saturate", None, &[]).unwrap().publishers_per_room(), 40);
}
