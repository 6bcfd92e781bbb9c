//! What is sent, and what answers mean: ours, others', and none at all.

use super::*;
use crate::backplane::script::KNOWS_NONE;
use crate::base::id::{NodeId, Sid};
use crate::base::time::Duration;
use crate::shard::relay::{Act, Answer, Ticket, Wanted, queue};
use crate::wire::envelope::Origin;

fn tenant() -> TenantId {
    TenantId::parse("t").unwrap()
}

fn append(number: u64, id: Option<&str>) -> Job {
    let append = Append {
        room: "r".into(),
        body: (*b"body").into(),
        id: id.map(Box::from),
        id_ttl: Duration::from_secs(1),
        keep: 0,
        linger: Duration::ZERO,
        wait: None,
        track: None,
    };
    Job::Append { tenant: tenant(), from: ShardId(1), ticket: Ticket(number), append: Box::new(append), number }
}

fn read(afters: &[Option<u64>]) -> Job {
    let rooms = afters.iter().map(|&after| Wanted { room: "r".into(), after }).collect();
    Job::Read { tenant: tenant(), from: ShardId(1), ticket: Ticket(1), rooms, due: Instant(0) }
}

fn queue(reads: bool) -> Job {
    let act = match reads {
        true => queue::Act::Read { user: "u".into() },
        false => queue::Act::Done { epoch: Epoch(1), sequences: vec![1], told: None },
    };
    let act = Box::new(Act::Queue(act));
    Job::Share { tenant: tenant(), from: ShardId(1), ticket: Some(Ticket(1)), act, due: None }
}

fn claim() -> Job {
    let pid = Sid::new(NodeId(0), ShardId(0), &mut Chance::new([1; 32]));
    Job::Claim { tenant: tenant(), from: ShardId(1), ticket: Ticket(1), pid, number: 1, due: Instant(0) }
}

fn text(text: &str) -> Value {
    Value::BulkString(text.into())
}

fn list(values: &[&str]) -> Value {
    Value::Array(values.iter().map(|value| text(value)).collect())
}

fn error(line: &str) -> Value {
    redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).expect("an error's line")
}

fn encode(jobs: &[Job], knows: Known) -> (Vec<String>, Batch) {
    let (keys, scripts) = (Keys::new("tc", Origin(255)), Scripts::default());
    let encoder = Encoder {
        keys: &keys,
        scripts: &scripts,
        outward: None,
        sharded: true,
        now: Instant(0),
        chance: &mut Chance::new([1; 32]),
        seen: &|_| Some(Place { epoch: Epoch(7), sequence: 5 }),
        knows,
    };
    let batch = encoder.encode(jobs);
    let show = |cmd: &Cmd| {
        let args = cmd.args_iter().map(|arg| match arg {
            redis::Arg::Simple(bytes) if bytes.len() > 60 || bytes.len() == 40 => "..".into(),
            redis::Arg::Simple(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            _ => "?".into(),
        });
        args.collect::<Vec<_>>().join(" ")
    };
    (batch.pipeline.cmd_iter().map(show).collect(), batch)
}

#[test]
fn a_scripts_first_use_carries_its_text_and_an_append_names_the_one_before() {
    let (commands, batch) = encode(&[append(3, None), append(4, Some("x")), Job::Void, claim()], KNOWS_NONE);
    let mut knows = KNOWS_NONE;
    (knows[Name::Append as usize], knows[Name::Claim as usize]) = (true, true);
    assert_eq!((batch.commands, batch.knows, &*batch.key), (vec![1, 1, 0, 1], knows, "tc:{t}"));
    assert!(commands[0].starts_with("EVAL .. 4 tc:{t}:m tc:{t}:z tc:{t}:h:r tc:{t}:r:ff "), "{}", commands[0]);
    assert!(commands[0].contains(" 7 5 ff 3  r body 1 1 1000 "), "{}", commands[0]);
    assert!(
        commands[1].starts_with("EVALSHA .. 5 tc:{t}:m tc:{t}:z tc:{t}:h:r tc:{t}:r:ff tc:{t}:i:x "),
        "{}",
        commands[1]
    );
    assert!(commands[1].contains(" ff 4 3 r body ") && commands[1].contains(" SPUBLISH "), "{}", commands[1]);
    assert!(commands[2].starts_with("EVAL .. 2 tc:{t}:p:"), "{}", commands[2]);
    // The places of a batch are kept from its first on that has no receipt of its own.
    let jobs = [append(5, Some("x")), append(6, None), append(7, None)];
    let (commands, _) = encode(&jobs, [true; KNOWS_NONE.len()]);
    assert!(commands.iter().all(|command| command.starts_with("EVALSHA ")));
    let keeps = |command: &String| command.contains(" SPUBLISH 3600000 ");
    assert_eq!(commands.iter().map(keeps).collect::<Vec<_>>(), [false, true, false]);
    let (commands, batch) = encode(&[read(&[None, Some(9)])], [true; KNOWS_NONE.len()]);
    assert_eq!(batch.commands, [6]);
    assert_eq!(commands[5], format!("XREVRANGE tc:{{t}}:h:r + (9-{} COUNT {READ_EVENTS_MAX}", u64::MAX));
}

#[test]
fn refusals() {
    for (line, again) in [
        ("OOM command not allowed when used memory > 'maxmemory'.", Some("OOM")),
        ("READONLY You can't write against a read only replica.", Some("READONLY")),
        ("MISCONF Redis is configured to save RDB snapshots", Some("MISCONF")),
        ("LOADING Redis is loading the dataset in memory", Some("LOADING")),
        ("CLUSTERDOWN Hash slot not served", Some("CLUSTERDOWN")),
        ("MASTERDOWN Link with MASTER is down", Some("MASTERDOWN")),
        ("NOSCRIPT No matching script.", Some("NOSCRIPT")),
        ("BUSY Redis is busy running a script.", Some("BUSY")),
        // Within a script, before Redis 7.
        ("ERR Error running script (call to f_1): @user_script:1: -OOM command not allowed when used", Some("OOM")),
        (
            "ERR Error running script (call to f_1): @user_script:1: @user_script: 1: -READONLY You can't",
            Some("READONLY"),
        ),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", None),
        ("NOPERM this user has no permissions to run the 'xadd' command", None),
        ("ERR unknown command 'FLOOM x'", None),
        ("ERR", None),
    ] {
        match (decode(&append(1, None), vec![error(line)]), again) {
            (Fate::Again(code), Some(expected)) => assert_eq!(&*code, expected, "{line}"),
            (Fate::Failed(_), None) => {}
            (fate, _) => panic!("{line}: {fate:?}"),
        }
    }
    assert!(PASSING.iter().all(|(code, says)| advice(code) == *says && !says.is_empty()));
}

#[test]
fn answers_are_read() {
    let place = list(&["9", "4", "0", "2"]);
    let entry = |id: &str, epoch: &str, body: &str| {
        Value::Array(vec![text(id), list(&["e", epoch, "b", body, "t", "77", "other", "x"])])
    };
    let head = |entry: Value| Value::Array(vec![entry]);
    let values = vec![
        place,
        // Has events after what is asked for.
        head(entry("4-3", "9", "c")),
        Value::Double(4.0),
        Value::Array(vec![entry("4-3", "9", "c"), entry("3-2", "9", "b"), entry("2-1", "9", "a")]),
        // What is left of it is from before a loss.
        head(entry("2-8", "9", "old")),
        text("2"),
        // Never had any.
        Value::Array(Vec::new()),
        Value::Nil,
    ];
    let Fate::Done(Done::Answer { from: ShardId(1), report: Report::Read { result: Ok(reading), .. } }) =
        decode(&read(&[Some(0), None, None]), values)
    else {
        panic!("a reading");
    };
    let rooms: Vec<(u64, u64, u64, Vec<u64>)> = reading
        .rooms
        .iter()
        .map(|room| {
            (room.epoch.0, room.offset, room.sequence, room.entries.iter().map(|entry| entry.sequence).collect())
        })
        .collect();
    assert_eq!(rooms, [(9, 3, 4, vec![3, 4]), (11, 0, 2, vec![]), (9, 0, 0, vec![])]);
    assert_eq!((&*reading.rooms[0].entries[0].body, reading.rooms[0].entries[0].at), (&b"b"[..], UnixMs(77)));
    assert!(matches!(decode(&append(1, None), vec![Value::Array(Vec::new())]), Fate::Again(code) if &*code == BEHIND));
    assert!(matches!(
        decode(&append(1, None), vec![list(&["4", "9", "3", "1"])]),
        Fate::Done(Done::Answer {
            report: Report::Appended { result: Ok(Appended { known: true, offset: 3, .. }), .. },
            ..
        })
    ));
    let check = Job::Check { tenant: tenant(), stamp: 3 };
    let nothing = Value::Array(vec![Value::Nil, Value::Nil]);
    assert!(matches!(decode(&check, vec![nothing]), Fate::Done(Done::Stands { place: None, stamp: 3, .. })));
}

/// An append that waits names the keys of the queues, and one that nobody chose an id for the tenant's hash in place of a receipt.
#[test]
fn what_waits_is_appended_and_read() {
    let wait = queue::Wait { user: "a%\0".into(), ttl: Duration::from_secs(5), per_user: 7 };
    let Job::Append { tenant, from, ticket, append, number } = append(1, None) else { panic!("an append") };
    let append = Box::new(Append { wait: Some(wait.into()), ..*append });
    let (commands, _) = encode(&[Job::Append { tenant, from, ticket, append, number }], [true; KNOWS_NONE.len()]);
    let keys =
        "10 tc:{t}:m tc:{t}:z tc:{t}:h:r tc:{t}:r:ff tc:{t}:m tc:{t}:qb tc:{t}:qu tc:{t}:qa tc:{t}:qr tc:{t}:qt ";
    assert!(commands[0].contains(keys), "{}", commands[0]);
    assert!(commands[0].ends_with(" a%25%00 5000 7 8388608 67108864 256 "), "{}", commands[0]);
    let (commands, _) = encode(&[queue(true)], [true; KNOWS_NONE.len()]);
    assert_eq!(commands, ["EVALSHA .. 4 tc:{t}:m tc:{t}:qb tc:{t}:qu tc:{t}:qa read u"]);
    let entry = |until: u64, length: u16| {
        let numbers = [9, 3, 70, until].map(u64::to_be_bytes).concat();
        let length = length.to_be_bytes();
        Value::BulkString([&numbers[..], &[1], &[0; 4], &length, b"u", b"body"].concat())
    };
    let answer = |entry: Value| Value::Array(vec![text("9"), text("5"), text("2"), text("100"), text("4"), entry]);
    let read = |value| match decode(&queue(true), vec![value]) {
        Fate::Done(Done::Answer { report: Report::Shared { result: Ok(Answer::Queue(answer)), .. }, .. }) => {
            let queue::Answer::Waiting(waiting) = answer else { panic!("another answer") };
            assert_eq!((waiting.place, waiting.dropped), (Some(Place { epoch: Epoch(9), sequence: 5 }), 2));
            let shown = |entry: &queue::Entry| {
                assert!(entry.in_doubt && entry.left == Duration::from_millis(50));
                (entry.stored.sequence, entry.stored.offset, entry.stored.at.0, entry.stored.body.clone())
            };
            Some(waiting.entries.iter().map(shown).collect::<Vec<_>>())
        }
        _ => None,
    };
    assert_eq!(read(answer(entry(150, 1))), Some(vec![(4, 3, 70, (*b"body").into())]));
    assert_eq!(read(answer(entry(100, 1))), Some(vec![]), "its time is over");
    assert_eq!(read(answer(entry(150, 6))), None, "it ends within its user's name");
    assert_eq!(read(answer(text("short"))), None);
}

/// Whoever else writes to these keys, and whatever answers in Redis' place.
#[test]
fn what_is_no_answer_is_a_refusal_and_no_panic() {
    let strange = [
        Value::Nil,
        Value::Okay,
        Value::Int(-1),
        Value::Double(f64::NAN),
        Value::Boolean(true),
        text(""),
        text("-"),
        text("99999999999999999999"),
        Value::BulkString(vec![0xff; 3]),
        Value::Array(vec![Value::Nil]),
        list(&["1", "2"]),
        list(&["x", "y", "z", "0"]),
        Value::Array(vec![Value::Array(vec![text("1-1")])]),
        Value::Array(vec![Value::Array(vec![text("1"), list(&["e", "1"])])]),
        Value::Array(vec![Value::Array(vec![text("1-1"), list(&["e"])])]),
        Value::Map(vec![(text("a"), text("b"))]),
    ];
    let place = Job::Place { tenant: tenant(), stamp: 0 };
    let jobs = [append(1, None), read(&[Some(0)]), read(&[]), claim(), place, queue(true), queue(false)];
    for job in &jobs {
        assert!(matches!(decode(job, Vec::new()), Fate::Failed(_)), "{job:?}");
        for value in &strange {
            for count in 1..5 {
                let fate = decode(job, vec![value.clone(); count]);
                let is_claim = matches!((job, value), (Job::Claim { .. }, Value::Nil | Value::BulkString(_)));
                assert!(is_claim || !matches!(fate, Fate::Done(_)), "{job:?} {value:?}: {fate:?}");
            }
        }
    }
    let head = list(&["9", "4", "0", "2"]);
    for value in strange {
        decode(&read(&[Some(0)]), vec![head.clone(), value.clone(), value.clone(), value]);
    }
}
