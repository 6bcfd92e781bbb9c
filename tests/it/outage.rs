//! What a Redis may do to a fleet: break, stop, come back with or without what it had, be full, refuse. Each event is there once, or who
//! published it is told that it is not.

use crate::fleet::{Fleet, JOURNAL_BYTES, Node, OverRedis, append, at, body, said, settings, tenant};
use crate::redis::Redis;
use crate::server::{API_KEY, Server, until};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};
use std::thread;
use tenantcast::backplane::{Error, Servers};
use tenantcast::base::chance::Chance;
use tenantcast::base::id::{NodeId, ShardId, Sid};
use tenantcast::base::time::Duration;
use tenantcast::shard::relay::{Append, Place, Relay, Report, Ticket, Unavailable};

fn one(redis: &Redis) -> Servers {
    Servers::One(at(redis.port))
}

fn over(redis: &Redis, nodes: usize) -> OverRedis<'_> {
    OverRedis::new(one(redis), nodes, vec![redis])
}

/// Between a node and its Redis: cuts a connection when something asked for has been asked, and its answer is on the way.
struct Proxy {
    port: u16,
    marker: Arc<Mutex<Option<Vec<u8>>>>,
}

impl Proxy {
    fn start(to: u16) -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let marker: Arc<Mutex<Option<Vec<u8>>>> = Arc::default();
        let armed = marker.clone();
        // Ends with the process: it holds nothing but its sockets.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)) else { continue };
                let cut = Arc::new(AtomicBool::new(false));
                let (armed, seen) = (armed.clone(), cut.clone());
                let (up, down) = (client.try_clone().expect("a socket"), server.try_clone().expect("a socket"));
                thread::spawn(move || {
                    pump(up, server, |bytes| {
                        let mut marker = armed.lock().expect("no panic");
                        let found = marker
                            .as_ref()
                            .is_some_and(|marker| bytes.windows(marker.len()).any(|window| window == &marker[..]));
                        if found {
                            *marker = None;
                            seen.store(true, Ordering::SeqCst);
                        }
                        true
                    });
                });
                thread::spawn(move || pump(down, client, |_| !cut.load(Ordering::SeqCst)));
            }
        });
        Proxy { port, marker }
    }

    /// The next connection that carries this to Redis is cut before it carries the answer.
    fn cut_after(&self, marker: &str) {
        *self.marker.lock().expect("no panic") = Some(marker.into());
    }

    fn has_cut(&self) -> bool {
        self.marker.lock().expect("no panic").is_none()
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, mut may_pass: impl FnMut(&[u8]) -> bool) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(count) = from.read(&mut buffer) {
        if count == 0 || !may_pass(&buffer[..count]) || to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

/// Everything a node hears until `count` answers to appends have come: places and results in order, texts, whether it was away.
#[derive(Default, Debug)]
struct Log {
    answers: Vec<(u64, Result<u64, Unavailable>)>,
    texts: Vec<String>,
    opened: Vec<Result<Place, Unavailable>>,
}

impl Log {
    fn hear(&mut self, node: &Node) {
        match node.hear() {
            Report::Appended { ticket, result } => {
                self.answers.push((ticket.0, result.map(|appended| appended.sequence)));
            }
            Report::Envelope { frame, .. } => self.texts.push(said(&frame).text),
            Report::Opened { place, .. } => self.opened.push(place),
            other => panic!("{other:?}"),
        }
    }
}

fn publish(node: &Node, name: &str, ticket: u64, append: Append) {
    node.ask(Relay::Append { tenant: tenant(name), ticket: Ticket(ticket), append: Box::new(append) });
}

fn texts_of(fleet: &mut dyn Fleet, node: usize, name: &str, room: &str) -> Vec<String> {
    let reading = fleet.read(node, name, &[(room, Some(0))]).expect("the store is there");
    reading.rooms[0].entries.iter().map(|entry| String::from_utf8_lossy(&entry.body[17..]).into_owned()).collect()
}

#[test]
fn a_broken_connection_loses_nothing_and_doubles_nothing() {
    let redis = Redis::start(&[]);
    let proxy = Proxy::start(redis.port);
    let mut fleet = over(&redis, 1);
    let node = Node::start(settings(Servers::One(at(proxy.port)), 9)).expect("it starts");
    let place = (&mut fleet as &mut dyn Fleet).open(0, "t");
    node.ask(Relay::Open { tenant: tenant("t") });
    let mut log = Log::default();
    while log.opened.is_empty() {
        log.hear(&node);
    }
    // Without an id, with one of the publisher's, and such that their room has forgotten them when they are asked for again.
    let kinds: [fn(Append) -> Append; 3] = [
        |append| append,
        |append| Append { id: Some(String::from_utf8_lossy(&append.body[17..]).into()), ..append },
        |append| Append { keep: 1, ..append },
    ];
    let mut expected = Vec::new();
    for round in 0..9 {
        let marker = format!("round {round} event 3");
        proxy.cut_after(&marker);
        for n in 0..6 {
            let text = format!("round {round} event {n}");
            let room = if n % 2 == 0 { "even" } else { "odd" };
            let append = kinds[round % 3](append(room, &text));
            publish(&node, "t", expected.len() as u64, append);
            expected.push(text);
        }
        until("it is cut", || proxy.has_cut());
    }
    while log.answers.len() < expected.len() {
        log.hear(&node);
    }
    let sequences: Vec<_> = (0..expected.len() as u64).map(|n| (n, Ok(n + 1))).collect();
    assert_eq!(log.answers, sequences, "each is answered once, in order, with its place");
    assert!(log.opened.len() > 1 && log.opened.iter().flatten().all(|opened| opened.epoch == place.epoch));
    let fleet: &mut dyn Fleet = &mut fleet;
    let heard: Vec<String> = expected.iter().map(|_| fleet.envelope(0).text).collect();
    assert_eq!(heard, expected, "another node has heard each once, in order");
    assert_eq!(fleet.open(0, "t").sequence, expected.len() as u64);
    assert!(node.count("backplane_batches_repeated_total") >= 1);
}

#[test]
fn a_claim_may_be_repeated_by_who_made_it() {
    let redis = Redis::start(&[]);
    let proxy = Proxy::start(redis.port);
    let node = Node::start(settings(Servers::One(at(proxy.port)), 9)).expect("it starts");
    let mut other = over(&redis, 1);
    let pid = Sid::new(NodeId(1), ShardId(0), &mut Chance::new([1; 32]));
    let body: Box<[u8]> = (*b"state").into();
    node.ask(Relay::Save { tenant: tenant("t"), pid, generation: 0, body, ttl: Duration::from_secs(60) });
    until("it is saved", || redis.ask(&["EXISTS", &format!("tc:{{t}}:p:{pid}")]) == "1");
    proxy.cut_after(&pid.to_string());
    node.ask(Relay::Claim { tenant: tenant("t"), pid, ticket: Ticket(5) });
    match node.hear() {
        Report::Claimed { ticket: Ticket(5), result: Ok(Some(body)) } => assert_eq!(&*body, b"state"),
        heard => panic!("{heard:?}"),
    }
    assert!(proxy.has_cut());
    assert_eq!((&mut other as &mut dyn Fleet).claim(0, "t", pid), None);
}

#[test]
fn redis_stops_and_returns_with_its_data() {
    let mut redis = Redis::start(&[]);
    let node = Node::start(settings(one(&redis), 1)).expect("it starts");
    node.ask(Relay::Open { tenant: tenant("t") });
    let mut log = Log::default();
    publish(&node, "t", 0, append("a", "before"));
    while log.answers.is_empty() || log.texts.is_empty() {
        log.hear(&node);
    }
    let place = log.opened[0].expect("it is there");
    assert!(node.errands.is_up());
    redis.kill();
    while log.opened.len() < 2 {
        log.hear(&node);
    }
    assert_eq!(log.opened[1], Err(Unavailable));
    assert!(!node.errands.is_up());
    // Opened while it is away: said at once. A word is lost and counted; questions are answered in time.
    node.ask(Relay::Open { tenant: tenant("u") });
    node.ask(Relay::Tell { tenant: tenant("t"), body: body(1, "word"), in_row: false });
    let began = node.now();
    node.ask(Relay::Read { tenant: tenant("t"), ticket: Ticket(1), rooms: Vec::new() });
    let pid = Sid::new(NodeId(1), ShardId(0), &mut Chance::new([1; 32]));
    node.ask(Relay::Claim { tenant: tenant("t"), pid, ticket: Ticket(2) });
    log.hear(&node);
    assert_eq!(log.opened[2], Err(Unavailable));
    for _ in 0..2 {
        match node.hear() {
            Report::Read { ticket: Ticket(1), result: Err(Unavailable) }
            | Report::Claimed { ticket: Ticket(2), result: Err(Unavailable) } => {}
            other => panic!("{other:?}"),
        }
    }
    let took = node.now().since(began);
    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(4), "{took:?}");
    assert_eq!(node.count("backplane_told_dropped_total"), 1);
    // The journal takes what it may, of one tenant four fifths of it, and refuses the rest at once.
    let big = "x".repeat(JOURNAL_BYTES / 6);
    (1..=6).for_each(|n| publish(&node, "t", n, append("a", &big)));
    while log.answers.len() < 3 {
        log.hear(&node);
    }
    assert_eq!(log.answers[1..], [(5, Err(Unavailable)), (6, Err(Unavailable))]);
    redis.run();
    while log.answers.len() < 7 || log.texts.len() < 5 {
        log.hear(&node);
    }
    assert_eq!(log.answers[3..], [(1, Ok(2)), (2, Ok(3)), (3, Ok(4)), (4, Ok(5))]);
    assert!(log.texts[1..].iter().all(|text| *text == big), "each came once");
    assert_eq!(
        log.opened[3..].iter().filter(|opened| **opened == Ok(place_at(place, 1))).count(),
        1,
        "{:?}",
        log.opened
    );
    until("it is up", || node.errands.is_up());
}

fn place_at(place: Place, sequence: u64) -> Place {
    Place { sequence, ..place }
}

#[test]
fn redis_returns_empty() {
    let mut redis = Redis::start(&[]);
    let node = Node::start(settings(one(&redis), 1)).expect("it starts");
    node.ask(Relay::Open { tenant: tenant("t") });
    publish(&node, "t", 0, append("a", "lost"));
    let mut log = Log::default();
    while log.answers.is_empty() || log.texts.is_empty() {
        log.hear(&node);
    }
    redis.kill();
    redis.empty();
    publish(&node, "t", 1, append("a", "first"));
    redis.run();
    while log.answers.len() < 2 || log.texts.len() < 2 {
        log.hear(&node);
    }
    let places: Vec<Place> = log.opened.iter().copied().flatten().collect();
    assert_eq!(places.len(), 2, "{:?}", log.opened);
    assert_ne!(places[0].epoch, places[1].epoch, "a new life");
    assert_eq!((places[1].sequence, log.answers[1]), (0, (1, Ok(1))));
}

/// A promoted replica was behind, or the newest writes had not reached the disk: what others have seen is gone.
#[test]
fn redis_loses_its_newest() {
    let redis = Redis::start(&[]);
    let mut fleet = over(&redis, 1);
    let fleet: &mut dyn Fleet = &mut fleet;
    let place = fleet.open(0, "t");
    for n in 1..=4 {
        fleet.append(0, "t", n, append("a", &n.to_string()));
        fleet.appended(0);
    }
    redis.ask(&["HSET", "tc:{t}:m", "s", "2"]);
    fleet.append(0, "t", 5, append("a", "new"));
    let (appended, heard) = fleet.appended(0);
    assert_eq!((appended.sequence, appended.offset), (3, 1), "the room begins anew");
    assert_ne!(appended.room_epoch, place.epoch);
    assert_ne!(heard.place.map(|place| place.0), Some(place.epoch.0), "and so does the tenant");
    assert_eq!(texts_of(fleet, 0, "t", "a"), ["new"]);
    // The same is found by who only asks where it stands.
    redis.ask(&["HSET", "tc:{t}:m", "s", "1"]);
    let again = fleet.open(0, "t");
    assert_ne!(Some(again.epoch.0), heard.place.map(|place| place.0));
    let reading = fleet.read(0, "t", &[("a", Some(0)), ("b", None)]).expect("it is there");
    assert_eq!(
        (reading.rooms[0].offset, reading.rooms[0].entries.len()),
        (1, 1),
        "what is left is from before the loss"
    );
}

#[test]
fn the_store_is_full_and_then_is_not() {
    let redis = Redis::start(&[]);
    let node = Node::start(settings(one(&redis), 1)).expect("it starts");
    node.ask(Relay::Open { tenant: tenant("t") });
    let mut log = Log::default();
    log.hear(&node);
    redis.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    (0..3).for_each(|n| publish(&node, "t", n, append("a", &n.to_string())));
    until("it is degraded", || !node.errands.is_up());
    node.ask(Relay::Read { tenant: tenant("t"), ticket: Ticket(1), rooms: Vec::new() });
    assert!(matches!(node.hear(), Report::Read { result: Err(Unavailable), .. }), "it would be without what waits");
    redis.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    while log.answers.len() < 3 || log.texts.len() < 3 {
        log.hear(&node);
    }
    assert_eq!(log.answers, [(0, Ok(1)), (1, Ok(2)), (2, Ok(3))]);
    assert_eq!((log.texts, log.opened.len()), (vec!["0".into(), "1".into(), "2".into()], 1));
    until("it is up", || node.errands.is_up());
}

#[test]
fn scripts_are_forgotten_and_subscriptions_are_ended() {
    let redis = Redis::start(&[]);
    let mut fleet = over(&redis, 2);
    let fleet: &mut dyn Fleet = &mut fleet;
    fleet.open(0, "t");
    for n in 1..=3 {
        redis.ask(&["SCRIPT", "FLUSH"]);
        fleet.append(0, "t", n, append("a", &n.to_string()));
        assert_eq!(fleet.appended(0).0.sequence, n);
    }
    redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    assert_eq!(fleet.opened(0), Err(Unavailable));
    let place = fleet.opened(0).expect("it is there");
    assert_eq!(place.sequence, 3);
    fleet.append(1, "t", 4, append("a", "4"));
    assert_eq!(fleet.envelope(0).text, "4");
}

#[test]
fn a_redis_that_hangs_is_away() {
    let redis = Redis::start(&[]);
    let node = Node::start(settings(one(&redis), 1)).expect("it starts");
    node.ask(Relay::Open { tenant: tenant("t") });
    let mut log = Log::default();
    log.hear(&node);
    redis.signal("-STOP");
    // It is in the socket's buffer, and will be carried out; and is sent again on the next connection.
    publish(&node, "t", 0, append("a", "once"));
    until("it is noticed", || !node.errands.is_up());
    redis.signal("-CONT");
    while log.answers.is_empty() || log.opened.len() < 3 {
        log.hear(&node);
    }
    assert_eq!(log.answers, [(0, Ok(1))]);
    let mut fleet = over(&redis, 1);
    assert_eq!(texts_of(&mut fleet, 0, "t", "a"), ["once"]);
}

#[test]
fn a_node_starts_without_redis_and_ends_with_all_it_was_asked() {
    let mut redis = Redis::prepare(&[]);
    let mut node = Node::start(settings(one(&redis), 1)).expect("it starts all the same");
    assert!(!node.errands.is_up());
    node.ask(Relay::Open { tenant: tenant("t") });
    assert!(matches!(node.hear(), Report::Opened { place: Err(Unavailable), .. }));
    publish(&node, "t", 0, append("a", "waits"));
    redis.run();
    assert!(matches!(node.hear(), Report::Opened { place: Ok(Place { sequence: 0, .. }), .. }));
    let mut log = Log::default();
    while log.answers.is_empty() {
        log.hear(&node);
    }
    assert!(node.errands.is_up());
    for n in 1..=500 {
        publish(&node, "t", n, Append { keep: 1000, ..append("a", &n.to_string()) });
    }
    node.finish(Duration::from_secs(10));
    assert_eq!(redis.ask(&["XLEN", "tc:{t}:h:a"]), "501");
}

/// What one tenant has queued while Redis was away leaves in turns with what others have, and takes no room from them.
#[test]
fn a_calm_tenant_does_not_wait_for_a_hot_one() {
    let mut redis = Redis::prepare(&[]);
    let mut settings = settings(one(&redis), 1);
    settings.journal_bytes = 1_000_000;
    let node = Node::start(settings).expect("it starts all the same");
    let mut hot = 0;
    // Until it has as much as it may.
    let mut refused = false;
    while !refused {
        (0..1000).for_each(|n| publish(&node, "hot", hot + n, append("a", "hot")));
        hot += 1000;
        // What cannot fit is refused when all before it was looked at.
        publish(&node, "hot", u64::MAX, append("a", &"x".repeat(2_000_000)));
        loop {
            match node.hear() {
                Report::Appended { ticket: Ticket(u64::MAX), result } => break assert!(result.is_err()),
                Report::Appended { result, .. } => refused |= result.is_err(),
                other => panic!("{other:?}"),
            }
        }
    }
    publish(&node, "calm", 1_000_000, append("a", "calm"));
    redis.run();
    let mut before = 0;
    loop {
        match node.hear() {
            Report::Appended { ticket: Ticket(1_000_000), result } => break assert!(result.is_ok(), "there was room"),
            Report::Appended { result, .. } => before += u64::from(result.is_ok()),
            other => panic!("{other:?}"),
        }
    }
    println!("{before} of about {hot} before it");
    assert!(hot > 3_000 && before < 600, "it went with one of the first flights");
}

#[test]
fn what_will_not_do_is_refused_at_the_start() {
    let redis = Redis::start(&["--requirepass", "secret"]);
    let refused = Node::start(settings(one(&redis), 1)).err();
    assert!(matches!(&refused, Some(Error::Refused(why)) if why.contains("password")), "{refused:?}");
    let password = |text: &str| Some(text.into());
    let mut with = settings(one(&redis), 1);
    with.login.password = password("wrong");
    let refused = Node::start(with.clone()).err();
    assert!(matches!(&refused, Some(Error::Refused(why)) if !why.contains("wrong\"")), "{refused:?}");
    with.login.password = password("secret");
    with.db = 3;
    let node = Node::start(with).expect("it starts");
    node.ask(Relay::Open { tenant: tenant("t") });
    assert!(matches!(node.hear(), Report::Opened { place: Ok(_), .. }));
}

#[test]
fn many_tenants_are_subscribed_again() {
    const TENANTS: usize = 3000;
    let redis = Redis::start(&[]);
    let node = Node::start(settings(one(&redis), 1)).expect("it starts");
    let opened = |wanted: usize| {
        let mut there = 0;
        while there < wanted {
            match node.hear() {
                Report::Opened { place, .. } => there += usize::from(place.is_ok()),
                other => panic!("{other:?}"),
            }
        }
    };
    for n in 0..TENANTS {
        node.ask(Relay::Open { tenant: tenant(&format!("t{n}")) });
    }
    opened(TENANTS);
    let began = node.now();
    redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    opened(TENANTS);
    println!("{TENANTS} tenants are back after {:?}", node.now().since(began));
    assert_eq!(redis.ask(&["PUBSUB", "NUMSUB", "tc:{t7}"]), "tc:{t7}\n1");
}

/// The whole process: it says how it is, and ends well.
#[test]
fn health_says_whether_redis_is_there() {
    let mut redis = Redis::prepare(&[]);
    let port = redis.port.to_string();
    let mut server = Server::start(&[("REDIS_HOST", "127.0.0.1"), ("REDIS_PORT", &port), ("API_KEYS", API_KEY)]);
    let ask = |path: &str| {
        let mut peer = server.connect();
        peer.send(format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"));
        peer.read_to_end()
    };
    let says = |health: &str, redis: &str| {
        ["/health", "/health/ready", "/health/websocket"].iter().all(|path| {
            let answer = ask(path);
            answer.starts_with("HTTP/1.1 200 ")
                && answer.contains(&format!("\"status\":\"{health}\""))
                && answer.contains(&format!("\"redis\":{{\"status\":\"{redis}\"}}"))
        })
    };
    assert!(says("degraded", "away"));
    redis.run();
    until("it is there", || says("ok", "up"));
    redis.kill();
    until("it is away", || says("degraded", "away"));
    server.terminate();
    assert_eq!(server.exit_code(), Some(0), "{}", server.said());
    assert!(server.said().contains("Redis is away"), "{}", server.said());
}

/// Three nodes publish while their connections are cut at any moment, before and behind Redis.
#[test]
fn whatever_breaks_each_event_is_there_once_in_its_order() {
    const EVENTS: usize = 400;
    let redis = Redis::start(&[]);
    let proxies: Vec<Proxy> = (0..3).map(|_| Proxy::start(redis.port)).collect();
    let nodes: Vec<Node> = proxies
        .iter()
        .enumerate()
        .map(|(nth, proxy)| Node::start(settings(Servers::One(at(proxy.port)), nth as u64 + 1)).expect("it starts"))
        .collect();
    let mut chance = Chance::new([9; 32]);
    let mut logs: Vec<Log> = nodes.iter().map(|_| Log::default()).collect();
    for (node, log) in nodes.iter().zip(&mut logs) {
        node.ask(Relay::Open { tenant: tenant("t") });
        log.hear(node);
    }
    for n in 0..EVENTS {
        for (nth, node) in nodes.iter().enumerate() {
            let text = format!("{nth}.{n}");
            let room = ["a", "b", "c"][chance.below(3) as usize];
            let id = (chance.below(2) == 0).then(|| text.as_str().into());
            publish(node, "t", n as u64, Append { id, keep: 10_000, ..append(room, &text) });
            match chance.below(40) {
                0 => proxies[nth].cut_after(&text),
                1 => drop(redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"])),
                2 => drop(redis.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])),
                // Time for a batch.
                3..10 => {
                    let wanted = logs[nth].answers.len() + 1;
                    while logs[nth].answers.len() < wanted && logs[nth].answers.len() <= n {
                        logs[nth].hear(node);
                    }
                }
                _ => {}
            }
        }
    }
    for (node, log) in nodes.iter().zip(&mut logs) {
        while log.answers.len() < EVENTS {
            log.hear(node);
        }
        let tickets: Vec<u64> = log.answers.iter().map(|(ticket, _)| *ticket).collect();
        assert_eq!(tickets, (0..EVENTS as u64).collect::<Vec<_>>(), "each is answered once, in order");
    }
    let mut fleet = over(&redis, 1);
    let fleet: &mut dyn Fleet = &mut fleet;
    let reading = fleet.read(0, "t", &[("a", Some(0)), ("b", Some(0)), ("c", Some(0))]).expect("the store is there");
    let mut stored = Vec::new();
    for room in &reading.rooms {
        for (nth, entry) in room.entries.iter().enumerate() {
            assert_eq!(entry.offset, nth as u64 + 1, "offsets rise by one");
            stored.push((entry.sequence, String::from_utf8_lossy(&entry.body[17..]).into_owned()));
        }
    }
    stored.sort();
    let sequences: Vec<u64> = stored.iter().map(|(sequence, _)| *sequence).collect();
    assert_eq!(
        sequences,
        (1..=3 * EVENTS as u64).collect::<Vec<_>>(),
        "sequences rise by one, and nothing is there twice"
    );
    for (nth, log) in logs.iter().enumerate() {
        let prefix = format!("{nth}.");
        let mine: Vec<(u64, usize)> = stored
            .iter()
            .filter_map(|(sequence, text)| Some((*sequence, text.strip_prefix(&prefix)?.parse().ok()?)))
            .collect();
        assert_eq!(mine.iter().map(|(_, n)| *n).collect::<Vec<_>>(), (0..EVENTS).collect::<Vec<_>>(), "in its order");
        let places: Vec<_> = mine.iter().map(|(sequence, n)| (*n as u64, Ok(*sequence))).collect();
        assert_eq!(log.answers, places, "each answer says the place it has");
    }
    let sum = |name: &str| nodes.iter().map(|node| node.count(name)).sum::<u64>();
    let (links, repeated) = (sum("backplane_connected_total"), sum("backplane_batches_repeated_total"));
    println!("{} events, {links} links, {repeated} batches sent again", 3 * EVENTS);
    assert!(links > 10 && repeated > 0, "something broke");
}

/// With the certificates that the environment says, and with the cryptography that is chosen at the start: without a choice it would panic.
#[test]
fn redis_is_reached_over_tls() {
    let keys = |name: &str| format!("{}/tests/keys/{name}", env!("CARGO_MANIFEST_DIR"));
    let (ca, cert, private) = (keys("redis.ca.pem"), keys("redis.cert.pem"), keys("redis.private.pem"));
    let port = crate::redis::free_port().to_string();
    let tls = ["--tls-port", &port, "--tls-auth-clients", "no", "--tls-ca-cert-file", &ca];
    let _redis = Redis::start(&[&tls[..], &["--tls-cert-file", &cert, "--tls-key-file", &private]].concat());
    let url = format!("rediss://localhost:{port}");
    let answer = |server: &Server| {
        let mut peer = server.connect();
        peer.send("GET /health HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
        peer.read_to_end()
    };
    let server = Server::start(&[("REDIS_URL", &url), ("SSL_CERT_FILE", &ca)]);
    until("it is there", || answer(&server).contains("\"redis\":{\"status\":\"up\"}"));
    // Nobody vouches for it: it is as good as away.
    let server = Server::start(&[("REDIS_URL", &url), ("SSL_CERT_FILE", &keys("rsa.public.pem"))]);
    assert!(answer(&server).contains("\"redis\":{\"status\":\"away\"}"));
}
