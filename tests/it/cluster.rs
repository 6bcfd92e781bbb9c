//! Redis as a Cluster, and behind Sentinel: the same guarantees, and what happens when a server of several fails.

use crate::fleet::{Fleet, Node, OverRedis, append, at, said, settings, tenant};
use crate::redis::{Redis, free_port};
use crate::server::until;
use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use tenantcast::backplane::{Login, Servers};
use tenantcast::shard::relay::{Place, Relay, Report, Ticket, Unavailable};

/// Three masters without replicas, each with a third of the slots.
fn cluster() -> Vec<Redis> {
    let masters: Vec<Redis> = (0..3)
        .map(|_| {
            Redis::start(&[
                "--cluster-enabled",
                "yes",
                "--cluster-node-timeout",
                "2000",
                "--cluster-require-full-coverage",
                "no",
            ])
        })
        .collect();
    let thirds = [(0, 5460), (5461, 10_922), (10_923, 16_383)];
    for (master, (first, last)) in masters.iter().zip(thirds) {
        let slots: Vec<String> = (first..=last).map(|slot| slot.to_string()).collect();
        let mut command = vec!["CLUSTER", "ADDSLOTS"];
        command.extend(slots.iter().map(String::as_str));
        assert_eq!(master.ask(&command), "OK");
    }
    for master in &masters[1..] {
        assert_eq!(master.ask(&["CLUSTER", "MEET", "127.0.0.1", &masters[0].port.to_string()]), "OK");
    }
    until("the Cluster is one", || {
        masters.iter().all(|master| {
            let info = master.ask(&["CLUSTER", "INFO"]);
            info.contains("cluster_state:ok")
                && info.contains("cluster_known_nodes:3")
                && info.contains("cluster_slots_ok:16384")
        })
    });
    masters
}

#[test]
fn a_cluster_keeps_the_guarantees() {
    let masters = cluster();
    // One address: that it is a Cluster is noticed. Then several.
    for servers in
        [Servers::One(at(masters[1].port)), Servers::Cluster(masters.iter().map(|master| at(master.port)).collect())]
    {
        crate::backplane::check(|| Box::new(OverRedis::new(servers.clone(), 2, masters.iter().collect())));
        masters.iter().for_each(|master| drop(master.ask(&["FLUSHALL"])));
    }
}

/// Tenants of each master, by name.
fn tenants_of(masters: &[Redis]) -> Vec<String> {
    let master_of = |name: &str| {
        let slot: usize = masters[0].ask(&["CLUSTER", "KEYSLOT", &format!("tc:{{{name}}}")]).parse().expect("a slot");
        (slot / 5461).min(2)
    };
    let names: Vec<String> = (0..100).map(|n| format!("t{n}")).collect();
    (0..3).map(|nth| names.iter().find(|name| master_of(name) == nth).expect("one of a hundred").clone()).collect()
}

#[test]
fn a_master_that_fails_holds_up_its_own_tenants_only() {
    let mut masters = cluster();
    let names = tenants_of(&masters);
    let seeds = Servers::Cluster(masters.iter().map(|master| at(master.port)).collect());
    let node = Node::start(settings(seeds, 1)).expect("it starts");
    let publish = |nth: usize, ticket| {
        let append = Box::new(append("a", "event"));
        node.ask(Relay::Append { tenant: tenant(&names[nth]), ticket: Ticket(ticket), append });
    };
    for name in &names {
        node.ask(Relay::Open { tenant: tenant(name) });
    }
    let mut opened = 0;
    while opened < 3 {
        opened += usize::from(matches!(node.hear(), Report::Opened { place: Ok(_), .. }));
    }
    masters[2].kill();
    // The others go on, with a short pause. What they missed in it is said by where their streams stand.
    let (mut answers, mut heard, mut is_told) = (Vec::new(), BTreeSet::new(), false);
    (0..3).for_each(|nth| publish(nth, nth as u64));
    while answers.len() < 2 || heard.len() < 2 || !is_told {
        match node.hear() {
            Report::Appended { ticket, result } => answers.push((ticket.0, result.map(|appended| appended.sequence))),
            Report::Envelope { tenant, .. } | Report::Opened { tenant, place: Ok(Place { sequence: 1, .. }) } => {
                heard.insert(tenant);
            }
            Report::Opened { tenant, place: Err(Unavailable) } => is_told |= tenant.as_str() == names[2],
            Report::Opened { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    answers.sort_unstable_by_key(|(ticket, _)| *ticket);
    assert_eq!(answers, [(0, Ok(1)), (1, Ok(1))]);
    masters[2].run();
    while answers.len() < 3 {
        if let Report::Appended { ticket, result } = node.hear() {
            answers.push((ticket.0, result.map(|appended| appended.sequence)));
        }
    }
    assert_eq!(answers[2], (2, Ok(1)), "what waited has its place");
    let connected = node.count("backplane_connected_total");
    assert!(connected <= 4, "{connected} links were made: the failing slot must not disturb the others");
}

/// Ended when dropped.
struct Sentinel(Child);

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn sentinel_names_the_next_master() {
    let mut master = Redis::start(&[]);
    let replica = Redis::start(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
    until("the replica follows", || replica.ask(&["INFO", "replication"]).contains("master_link_status:up"));
    let port = free_port();
    let directory = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("sentinel-{port}"));
    std::fs::create_dir_all(&directory).expect("a directory");
    let file = directory.join("sentinel.conf");
    let text = format!(
        "bind 127.0.0.1\nport {port}\nlogfile {0}/sentinel.log\ndir {0}\nsentinel monitor main 127.0.0.1 {1} 1\n\
         sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 2000\n\
         user default on nopass -@all +sentinel|replicas\nuser node on >secret ~* &* +@all\n",
        directory.display(),
        master.port
    );
    std::fs::write(&file, text).expect("a file");
    let child = Command::new("redis-server").arg(&file).arg("--sentinel").stdout(Stdio::null()).spawn();
    let _sentinel = Sentinel(child.expect("it starts"));
    let asks = |what: &[&str]| Redis::ask_at(port, what).unwrap_or_default();
    until("Sentinel knows both", || asks(&["SENTINEL", "replicas", "main"]).contains(&replica.port.to_string()));
    let login = Login { user: Some("node".into()), password: Some("secret".into()) };
    let servers = Servers::Sentinel { sentinels: vec![at(port)], master: "main".into(), login };
    let mut fleet = OverRedis::new(servers, 1, Vec::new());
    let fleet: &mut dyn Fleet = &mut fleet;
    let place = fleet.open(0, "t");
    fleet.append(0, "t", 1, append("a", "before"));
    fleet.appended(0);
    until("the replica has it", || replica.ask(&["HGET", "tc:{t}:m", "s"]) == "1");
    master.kill();
    fleet.append(0, "t", 2, append("a", "after"));
    let (mut opened, mut answer) = (Vec::new(), None);
    while answer.is_none() {
        match fleet.hear(0) {
            Report::Opened { place, .. } => opened.push(place),
            Report::Appended { result, .. } => answer = Some(result.map(|appended| appended.sequence)),
            Report::Envelope { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((answer, opened), (Some(Ok(2)), vec![Err(Unavailable), Ok(Place { sequence: 1, ..place })]));
    let _ = std::fs::remove_dir_all(directory);
}

/// A replica of one master: it takes over, and does not know the scripts.
#[test]
fn a_replica_takes_over() {
    let mut masters = cluster();
    let names = tenants_of(&masters);
    let port = masters[0].port.to_string();
    let replica = Redis::start(&["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"]);
    assert_eq!(replica.ask(&["CLUSTER", "MEET", "127.0.0.1", &port]), "OK");
    until("it is one of them", || replica.ask(&["CLUSTER", "INFO"]).contains("cluster_known_nodes:4"));
    let id = masters[2].ask(&["CLUSTER", "MYID"]);
    until("it may follow", || replica.ask(&["CLUSTER", "REPLICATE", &id]) == "OK");
    until("it follows", || replica.ask(&["INFO", "replication"]).contains("master_link_status:up"));
    let seeds = Servers::Cluster(masters.iter().map(|master| at(master.port)).collect());
    let mut fleet = OverRedis::new(seeds, 2, Vec::new());
    let fleet: &mut dyn Fleet = &mut fleet;
    let name = names[2].as_str();
    let place = fleet.open(0, name);
    fleet.open(1, name);
    for n in 1..=5 {
        fleet.append(0, name, n, append("a", "before"));
        fleet.appended(0);
        fleet.envelope(1);
    }
    // What it does not have would be a loss: a new epoch. Both say how far they are.
    let stands = |redis: &Redis| {
        let info = redis.ask(&["INFO", "replication"]);
        info.lines().find_map(|line| line.strip_prefix("master_repl_offset:").map(str::to_owned))
    };
    until("the replica has it all", || stands(&masters[2]) == stands(&replica));
    masters[2].kill();
    (6..=9).for_each(|n| fleet.append(0, name, n, append("a", "after")));
    let mut answers = Vec::new();
    while answers.len() < 4 {
        match fleet.hear(0) {
            Report::Appended { ticket, result } => answers.push((ticket.0, result.map(|appended| appended.offset))),
            Report::Envelope { .. } | Report::Opened { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(answers, [(6, Ok(6)), (7, Ok(7)), (8, Ok(8)), (9, Ok(9))]);
    // The other node has all of it: by its channel, or by where the stream stands.
    let mut last = 5;
    while last < 9 {
        match fleet.hear(1) {
            Report::Envelope { frame, .. } => last = last.max(said(&frame).place.expect("placed").1),
            Report::Opened { place: Ok(opened), .. } => {
                assert_eq!(opened.epoch, place.epoch);
                last = last.max(opened.sequence);
            }
            Report::Opened { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}
