//! The journal: order, batches, bounds, time.

use super::*;
use crate::base::{id::NodeId, time::Duration};

fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).unwrap()
}

fn append(name: &str, number: u64, bytes: usize) -> Job {
    let append = Append {
        room: "r".into(),
        body: vec![0; bytes].into(),
        id: None,
        id_ttl: Duration::ZERO,
        keep: 1,
        linger: Duration::ZERO,
        wait: None,
        track: None,
    };
    Job::Append { tenant: tenant(name), from: ShardId(0), ticket: Ticket(number), append: Box::new(append), number }
}

fn read(name: &str, due: u64) -> Job {
    Job::Read { tenant: tenant(name), from: ShardId(0), ticket: Ticket(0), rooms: Vec::new(), due: Instant(due) }
}

fn pid(n: u8) -> Sid {
    Sid::new(NodeId(0), ShardId(0), &mut crate::base::chance::Chance::new([n; 32]))
}

fn save(n: u8, text: &str) -> Job {
    Job::Save {
        tenant: tenant("t"),
        from: ShardId(0),
        pid: pid(n),
        generation: 0,
        body: text.as_bytes().into(),
        until: Instant(0),
    }
}

fn shown(jobs: &[Job]) -> Vec<String> {
    let show = |job: &Job| match job {
        Job::Append { number, .. } => format!("append {number}"),
        Job::Read { .. } => "read".into(),
        Job::Save { body, .. } => format!("save {}", String::from_utf8_lossy(body)),
        Job::Forget { .. } => "forget".into(),
        Job::Claim { .. } => "claim".into(),
        Job::Place { .. } => "place".into(),
        Job::Void => "void".into(),
        other => format!("{other:?}"),
    };
    jobs.iter().map(show).collect()
}

/// A flight is over, and all of it is done or dropped.
fn land(journal: &mut Journal, flight: Flight, failed: Option<Instant>) {
    for job in journal.landed(flight) {
        journal.forget(&job);
    }
    journal.put_back(flight, Vec::new(), failed, [true; KNOWS_NONE.len()]);
}

/// The next batch, as if the store had taken it whole.
fn next(journal: &mut Journal) -> Vec<String> {
    let Some((flight, jobs, _)) = journal.take(Instant(0)) else { return Vec::new() };
    let batch = shown(jobs);
    land(journal, flight, None);
    batch
}

#[test]
fn one_flight_has_a_tenant_and_what_is_put_back_goes_first() {
    let mut journal = Journal::new(1 << 20);
    (1..=3).for_each(|n| journal.add(append("t", n, 0)).unwrap());
    let (flight, jobs, _) = journal.take(Instant(0)).unwrap();
    assert_eq!(shown(jobs), ["append 1", "append 2", "append 3"]);
    journal.add(append("t", 4, 0)).unwrap();
    assert!(journal.take(Instant(0)).is_none(), "it is under way");
    assert_eq!((journal.flying(), journal.events()), (vec![flight], 4));
    let mut jobs = journal.landed(flight);
    journal.forget(&jobs.remove(0));
    journal.put_back(flight, jobs, Some(Instant(50)), KNOWS_NONE);
    assert!(journal.is_failing());
    assert!(journal.take(Instant(49)).is_none());
    assert_eq!(journal.next_ready(), Some(Instant(50)));
    journal.add(append("u", 1, 0)).unwrap();
    assert_eq!(next(&mut journal), ["append 1"], "another tenant does not rest");
    journal.add_first(Job::Place { tenant: tenant("t"), stamp: 0 });
    let (flight, jobs, _) = journal.take(Instant(50)).unwrap();
    assert_eq!(shown(jobs), ["place", "append 2", "append 3", "append 4"]);
    assert_eq!(journal.failures(flight), 1);
    land(&mut journal, flight, None);
    assert!(journal.is_empty() && !journal.is_failing() && journal.events() == 0);
    journal.add(Job::Tell { tenant: tenant("t"), body: Box::default(), in_row: false }).unwrap();
    let flight = journal.take(Instant(0)).unwrap().0;
    land(&mut journal, flight, Some(Instant(90)));
    assert!(!journal.is_failing(), "what was dropped does not fail any more");
    assert_eq!((journal.events.bytes, journal.rest.bytes), (0, 0));
}

/// What a tenant has queued does not hold up another: each has its share of every flight.
#[test]
fn tenants_take_turns() {
    let mut journal = Journal::new(1 << 30);
    (0..10_000).for_each(|n| journal.add(append("hot", n, 0)).unwrap());
    (0..20).for_each(|n| journal.add(append("a", n, 0)).unwrap());
    journal.add(append("b", 0, 0)).unwrap();
    let (flight, jobs, _) = journal.take(Instant(0)).unwrap();
    let of = |jobs: &[Job], name: &str| jobs.iter().filter(|job| job.tenant() == Some(&tenant(name))).count();
    assert_eq!((of(jobs, "hot"), of(jobs, "a"), of(jobs, "b")), (BATCH_COMMANDS_MAX / 3, 20, 1));
    journal.add(append("c", 0, 0)).unwrap();
    assert_eq!(next(&mut journal), ["append 0"], "who comes later does not wait for what is under way");
    land(&mut journal, flight, None);
    // Many, and none of them waits for more than its turn.
    for name in 0..200 {
        (0..100).for_each(|n| journal.add(append(&format!("t{name}"), n, 0)).unwrap());
    }
    let mut served = BTreeSet::new();
    let mut flights = 0;
    while served.len() < 201 {
        let (flight, jobs, _) = journal.take(Instant(0)).unwrap();
        assert!(jobs.len() <= BATCH_COMMANDS_MAX);
        served.extend(jobs.iter().filter_map(|job| job.tenant().cloned()));
        land(&mut journal, flight, None);
        flights += 1;
    }
    assert!(flights <= 201 * SHARE_MIN / BATCH_COMMANDS_MAX + 2, "{flights}");
}

#[test]
fn a_batch_has_a_length_and_a_weight() {
    let mut journal = Journal::new(1 << 30);
    let count = BATCH_COMMANDS_MAX + 7;
    (0..count as u64).for_each(|n| journal.add(append("t", n, 0)).unwrap());
    assert_eq!((next(&mut journal).len(), next(&mut journal).len()), (BATCH_COMMANDS_MAX, 7));
    (0..3).for_each(|n| journal.add(append("t", n, BATCH_BYTES_MAX / 2)).unwrap());
    assert_eq!(
        [1, 1, 1],
        std::array::from_fn(|_| next(&mut journal).len()),
        "with what it costs besides, one is over the half"
    );
    journal.add(append("t", 9, 2 * BATCH_BYTES_MAX)).unwrap();
    assert_eq!(next(&mut journal), ["append 9"], "what is too heavy by itself goes alone");
}

#[test]
fn flights_are_of_many_tenants_or_of_one() {
    let mut journal = Journal::new(1 << 20);
    let fill = |journal: &mut Journal| {
        (0..40).for_each(|n| journal.add(append(&format!("t{}", n % 10), n, 0)).unwrap());
    };
    fill(&mut journal);
    assert_eq!((next(&mut journal).len(), journal.lanes.len()), (40, 0), "a tenant's lane goes with its last");
    fill(&mut journal);
    journal.group(true);
    let mut numbers: Vec<Vec<String>> = std::iter::repeat_with(|| next(&mut journal)).take(10).collect();
    numbers.sort();
    assert_eq!(numbers[0], ["append 0", "append 10", "append 20", "append 30"], "a tenant's order is kept");
    assert!(journal.lanes.is_empty() && journal.is_empty());
    assert!(journal.awake.is_empty() && journal.resting.is_empty() && journal.next_ready().is_none());
    // Elsewhere so many are under way at a time.
    journal.group(false);
    let flights = (0..9).map_while(|n| {
        journal.add(append(&format!("t{n}"), n, 0)).unwrap();
        journal.take(Instant(0)).map(|(flight, ..)| flight)
    });
    let flights: Vec<Flight> = flights.collect();
    assert_eq!((flights.len(), journal.next_ready()), (FLIGHTS_MAX, None));
    land(&mut journal, flights[0], None);
    assert_eq!(journal.next_ready(), Some(Instant::default()));
}

#[test]
fn what_waits_is_bounded() {
    let mut journal = Journal::new(10_000);
    let added = (0..1000).take_while(|n| journal.add(append("t", *n, 1000)).is_ok()).count();
    assert!((5..10).contains(&added), "{added}");
    assert!(journal.add(save(1, "x")).is_ok(), "another bound");
    while !next(&mut journal).is_empty() {}
    assert!(journal.add(append("t", 0, 90_000)).is_ok(), "there is room again, and alone it may be too heavy");
    assert!(journal.add(append("t", 0, 1)).is_err());
    let heavy = |n| Job::Tell { tenant: tenant("t"), body: vec![n; JOURNAL_REST_BYTES_MAX / 3].into(), in_row: false };
    let added = (0..9).take_while(|n| journal.add(heavy(*n)).is_ok()).count();
    assert_eq!(added, 2);
}

/// One tenant cannot take all the room there is.
#[test]
fn a_hot_tenant_leaves_room_for_others() {
    let mut journal = Journal::new(1_000_000);
    let fill = |journal: &mut Journal, name: &str| {
        (0..10_000).take_while(|n| journal.add(append(name, *n, 1000)).is_ok()).count()
    };
    let (hot, warm, late) = (fill(&mut journal, "hot"), fill(&mut journal, "warm"), fill(&mut journal, "late"));
    assert!((650..800).contains(&hot), "{hot}");
    assert!(warm > 100 && late > 20, "{warm} {late}");
    assert!(journal.add(append("hot", 0, 1)).is_err(), "it holds more than what is left allows");
}

#[test]
fn of_a_socket_only_the_newest_waits() {
    let claim = || Job::Claim {
        tenant: tenant("t"),
        from: ShardId(0),
        ticket: Ticket(0),
        pid: pid(1),
        number: 1,
        due: Instant(9),
    };
    let forget = || Job::Forget { tenant: tenant("t"), pid: pid(1), generation: 0 };
    for (jobs, expected) in [
        (vec![save(1, "a"), save(2, "b"), save(1, "c")], vec!["save c", "save b"]),
        (vec![save(1, "a"), forget()], vec!["forget"]),
        (vec![forget(), save(1, "a")], vec!["save a"]),
        (vec![save(1, "a"), claim(), save(1, "b")], vec!["save a", "claim", "save b"]),
        (vec![save(1, "a"), claim(), save(1, "b"), save(1, "c")], vec!["save a", "claim", "save c"]),
    ] {
        let mut journal = Journal::new(0);
        jobs.into_iter().for_each(|job| journal.add(job).unwrap());
        assert_eq!(next(&mut journal), expected);
        assert_eq!(journal.rest.bytes, 0);
    }
    // What is under way is not changed any more, and goes before what came later when it is put back.
    let mut journal = Journal::new(0);
    journal.add(save(1, "a")).unwrap();
    let flight = journal.take(Instant(0)).unwrap().0;
    journal.add(save(1, "b")).unwrap();
    let jobs = journal.landed(flight);
    journal.put_back(flight, jobs, None, KNOWS_NONE);
    assert_eq!(next(&mut journal), ["save a", "save b"]);
}

#[test]
fn what_is_answered_in_time_waits_no_longer() {
    let mut journal = Journal::new(1 << 20);
    journal.add(append("t", 1, 0)).unwrap();
    journal.add(read("t", 10)).unwrap();
    journal.add(read("t", 20)).unwrap();
    assert_eq!(journal.next_due(), Some(Instant(10)));
    assert_eq!(shown(&journal.expire(Instant(10))), ["read"]);
    let (flight, jobs, _) = journal.take(Instant(0)).unwrap();
    assert_eq!(shown(jobs), ["append 1", "read"]);
    assert_eq!(journal.next_due(), Some(Instant(20)), "also while it is under way");
    journal.add(read("t", 30)).unwrap();
    let jobs = journal.landed(flight);
    journal.put_back(flight, jobs, None, KNOWS_NONE);
    assert_eq!(journal.next_due(), Some(Instant(20)), "and when it is put back");
    let flight = journal.take(Instant(0)).unwrap().0;
    assert_eq!(shown(&journal.expire(Instant(25))), ["read"]);
    assert_eq!(shown(&journal.landed(flight)), ["append 1", "void", "read"], "the others keep their answers");
}
