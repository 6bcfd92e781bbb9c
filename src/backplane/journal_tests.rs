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
    Job::Save { tenant: tenant("t"), from: ShardId(0), pid: pid(n), body: text.as_bytes().into(), until: Instant(0) }
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

/// The next batch, as if the store had taken it whole.
fn next(journal: &mut Journal) -> Vec<String> {
    let Some(key) = journal.ready(Instant(0)) else { return Vec::new() };
    let batch = shown(journal.take(&key).0);
    for job in journal.landed(&key) {
        journal.forget(&job);
    }
    journal.put_back(&key, Vec::new(), None, KNOWS_NONE.map(|_| true));
    batch
}

#[test]
fn one_batch_is_under_way_and_what_is_put_back_goes_first() {
    let mut journal = Journal::new(1 << 20);
    (1..=3).for_each(|n| journal.add(append("t", n, 0)).unwrap());
    let key = journal.ready(Instant(0)).unwrap();
    assert_eq!(shown(journal.take(&key).0), ["append 1", "append 2", "append 3"]);
    journal.add(append("t", 4, 0)).unwrap();
    assert_eq!(journal.ready(Instant(0)), None, "its batch is under way");
    assert_eq!((journal.flying(), journal.events()), (vec![key.clone()], 4));
    let mut jobs = journal.landed(&key);
    journal.forget(&jobs.remove(0));
    assert_eq!(journal.put_back(&key, jobs, Some(Instant(50)), KNOWS_NONE), 1);
    assert!(journal.is_failing());
    assert_eq!((journal.ready(Instant(49)), journal.next_ready()), (None, Some(Instant(50))));
    journal.add_first(Job::Place { tenant: tenant("t"), stamp: 0 });
    assert_eq!(journal.ready(Instant(50)), Some(key.clone()));
    assert_eq!(shown(journal.take(&key).0), ["place", "append 2", "append 3", "append 4"]);
    for job in journal.landed(&key) {
        journal.forget(&job);
    }
    journal.put_back(&key, Vec::new(), None, KNOWS_NONE.map(|_| true));
    assert!(journal.is_empty() && !journal.is_failing() && journal.events() == 0);
    journal.add(Job::Tell { tenant: tenant("t"), body: Box::default() }).unwrap();
    journal.take(&key);
    journal.landed(&key).iter().for_each(|job| journal.forget(job));
    journal.put_back(&key, Vec::new(), Some(Instant(90)), KNOWS_NONE);
    assert!(!journal.is_failing(), "what was dropped does not fail any more");
    assert_eq!((journal.event_bytes, journal.rest_bytes), (0, 0));
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
fn lanes_are_shares_of_the_tenants_or_tenants() {
    let mut journal = Journal::new(1 << 20);
    for n in 0..40 {
        journal.add(append(&format!("t{}", n % 10), n, 0)).unwrap();
    }
    assert_eq!(journal.lanes.len(), usize::from(LANES));
    journal.group(true);
    assert_eq!(journal.lanes.len(), 10);
    let mut numbers: Vec<Vec<String>> = std::iter::repeat_with(|| next(&mut journal)).take(10).collect();
    numbers.sort();
    assert_eq!(numbers[0], ["append 0", "append 10", "append 20", "append 30"], "a tenant's order is kept");
    assert!(journal.lanes.is_empty() && journal.is_empty(), "a tenant's lane goes with its last");
    assert!(journal.awake.is_empty() && journal.resting.is_empty() && journal.next_ready().is_none());
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
    let heavy = |n| Job::Tell { tenant: tenant("t"), body: vec![n; JOURNAL_REST_BYTES_MAX / 3].into() };
    let added = (0..9).take_while(|n| journal.add(heavy(*n)).is_ok()).count();
    assert_eq!(added, 2);
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
        assert_eq!(journal.rest_bytes, 0);
    }
    // What is under way is not changed any more, and goes before what came later when it is put back.
    let mut journal = Journal::new(0);
    journal.add(save(1, "a")).unwrap();
    let key = journal.ready(Instant(0)).unwrap();
    journal.take(&key);
    journal.add(save(1, "b")).unwrap();
    let jobs = journal.landed(&key);
    journal.put_back(&key, jobs, None, KNOWS_NONE);
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
    let key = journal.ready(Instant(0)).unwrap();
    assert_eq!(shown(journal.take(&key).0), ["append 1", "read"]);
    assert_eq!(journal.next_due(), Some(Instant(20)), "also while it is under way");
    journal.add(read("t", 30)).unwrap();
    let jobs = journal.landed(&key);
    journal.put_back(&key, jobs, None, KNOWS_NONE);
    assert_eq!(journal.next_due(), Some(Instant(20)), "and when it is put back");
    journal.take(&key);
    assert_eq!(shown(&journal.expire(Instant(25))), ["read"]);
    assert_eq!(shown(&journal.landed(&key)), ["append 1", "void", "read"], "the others keep their answers");
}
