//! The simulator: shards under a network that cannot be relied on, with clients that behave as the official one does, in virtual time.
//!
//! A run follows from its seed. When something is wrong it prints the seed, what was on, and the command that runs it again:
//!
//! ```text
//! SIM_SEED=17 cargo test --test sim -- seeds          one run
//! SIM_RUNS=1000 SIM_FROM=5000 cargo test --test sim -- seeds
//! ```

mod act;
mod attachment;
mod away;
mod check;
mod client;
mod document;
mod model;
mod parse;
mod roster;
mod swarm;
mod tamper;
mod world;

use client::{Client, Kind, Seat};
use swarm::{Swarm, stream};
use tamper::Tamper;
use tenantcast::base::time::Duration;
use world::World;

/// Runs in a set nobody chose: about half a minute of one core in the dev profile.
const RUNS: u64 = 100;

struct Outcome {
    violation: Option<String>,
    hash: u64,
    world: World,
}

fn populate(world: &mut World) {
    let mut chance = stream(world.swarm.seed, 6);
    let total: u64 = world.swarm.kinds.iter().sum();
    for c in 0..world.swarm.clients {
        let tenant = c % world.swarm.tenants;
        let user = format!("t{tenant}.u{}", chance.below(1 + world.swarm.clients as u64 / 4));
        let mut at = chance.below(total);
        let mut kind = Kind::WebSocket;
        for (nth, weight) in world.swarm.kinds.iter().enumerate() {
            if at < *weight {
                kind = [Kind::WebSocket, Kind::Polling, Kind::Plain, Kind::Events][nth];
                break;
            }
            at -= weight;
        }
        let mut client = Client {
            name: format!("client {c} {user}"),
            tenant,
            user,
            role: act::ROLES[chance.below(2) as usize],
            kind: Some(kind),
            nsp: if matches!(kind, Kind::Plain | Kind::Events) || chance.below(3) > 0 { "/" } else { "/chat" },
            hostile: chance.below(100) < world.swarm.hostile,
            ..Client::default()
        };
        // It is in these by itself, from CONNECT on: before the greeting that says so.
        for room in [format!("tenant:t{tenant}"), format!("user:{}", client.user)] {
            client.rooms.insert(room, Seat::default());
        }
        if kind == Kind::Events {
            for room in act::ROOMS.iter().filter(|room| **room != "f0" && chance.below(2) == 0) {
                client.rooms.insert((*room).to_owned(), Seat::default());
            }
        }
        world.clients.push(client);
        let after = chance.below(5000);
        world.wake_client(c, after);
    }
}

fn run(swarm: Swarm, tamper: Option<Tamper>) -> Outcome {
    let active = Duration::from_secs(swarm.active_s);
    let (ping, drain) = (swarm.ping_s, swarm.drain);
    let mut world = World::new(swarm);
    world.tamper = tamper;
    populate(&mut world);
    world.run(active);
    world.become_calm();
    // Long enough for heartbeats to end, for clients to come back, for the last half-open line to be given up.
    world.run(Duration::from_secs(30));
    world.forget_what_was_heard();
    world.run(Duration::from_secs(100 + 3 * ping));
    world.show_up();
    world.run(Duration::from_secs(15));
    if world.violation.is_none() {
        world.check_rest();
    }
    if world.violation.is_none() {
        world.check_heard();
        world.check_grace();
        world.check_away();
    }
    if drain {
        world.drain();
    }
    world.everybody_leaves();
    world.run(Duration::from_secs(8000));
    if world.violation.is_none() {
        world.check_empty();
    }
    Outcome { violation: world.violation.clone(), hash: world.hash, world }
}

fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn seeds() {
    let seeds = match env("SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => env("SIM_FROM").unwrap_or(0)..env("SIM_FROM").unwrap_or(0) + env("SIM_RUNS").unwrap_or(RUNS),
    };
    let mut total = [0u64; 14];
    let mut failures = Vec::new();
    for seed in seeds {
        let swarm = Swarm::draw(seed);
        let outcome = run(swarm.clone(), None);
        let model = &outcome.world.model;
        let numbers = [
            outcome.world.steps,
            model.events() as u64,
            model.acknowledged,
            model.delivered,
            model.recovered,
            model.not_recovered,
            model.moved,
            model.upgraded,
            model.slow,
            model.announced,
            model.mirrored,
            model.written,
            model.disputes,
            model.graces,
            model.away.given,
        ];
        total.iter_mut().zip(numbers).for_each(|(total, number)| *total += number);
        if outcome.world.steps > 3_000_000 {
            eprintln!("seed {seed}: {} steps", outcome.world.steps);
        }
        if let Some(what) = outcome.violation {
            let what = &what[..what.floor_char_boundary(1500)];
            failures.push(format!(
                "seed {seed}, {what}\n  {swarm:?}\n  again: SIM_SEED={seed} cargo test --test sim -- seeds\n"
            ));
        }
    }
    let names = [
        "steps",
        "events",
        "acknowledged",
        "delivered",
        "recovered",
        "not recovered",
        "moved",
        "upgraded",
        "slow",
        "announced",
        "mirrored",
        "documents written",
        "disputes",
        "graces",
        "given late",
    ];
    eprintln!("{:?}", names.iter().zip(total).collect::<Vec<_>>());
    assert!(failures.is_empty(), "{} seeds fail:\n{}", failures.len(), failures.join("\n"));
    if env("SIM_SEED").is_none() && env("SIM_RUNS").is_none() {
        assert!(total.iter().all(|number| *number > 0), "something never happened: {total:?}");
    }
}

#[test]
fn one_seed_is_one_run() {
    for seed in [3, 11] {
        let hashes = [(); 2].map(|()| run(Swarm::draw(seed), None).hash);
        assert_eq!(hashes[0], hashes[1], "seed {seed}");
    }
    assert_ne!(run(Swarm::calm(1), None).hash, run(Swarm::calm(2), None).hash);
}

#[test]
fn the_checker_can_fail() {
    let calm = run(Swarm::calm(1), None);
    assert_eq!(calm.violation, None, "nothing is wrong without a fault");
    for (fault, says) in [
        (Tamper::Drop, "has read to"),
        (Tamper::Duplicate, "has read to"),
        (Tamper::Swap, "has read to"),
        (Tamper::OtherTenant, "of tenant"),
        (Tamper::BeforeToken, "has shown no token"),
        (Tamper::StrangeAck, "never asked"),
        (Tamper::Attachment, "and hears"),
        (Tamper::Announcement, "or twice"),
        (Tamper::Document, "after version"),
        (Tamper::Farewell, "did not hear, once"),
        (Tamper::Roster, "is told of"),
    ] {
        // Not in every world is there what a fault is of: one whose going can be noticed, as its user has no other device.
        let violation = (1..=4).find_map(|seed| run(Swarm::calm(seed), Some(fault.clone())).violation);
        assert!(violation.as_ref().is_some_and(|what| what.contains(says)), "{fault:?}: {violation:?}");
    }
}
