//! Two nodes' tables, with messages carried by hand.

use super::*;
use crate::base::{chance::Chance, slab::Key, time::Duration};

/// Node 0 has the clients, node 1 the sessions.
struct Pair {
    nodes: [Neighbours; 2],
    now: Instant,
    /// What shards were told, by node.
    told: [Vec<News>; 2],
    sid: Sid,
}

fn at(index: u32) -> ReplyTo {
    ReplyTo { shard: ShardId(0), conn: ConnKey::new(index, 0) }
}

fn text(body: &'static str) -> Response {
    Response { no_store: true, ..Response::text(200, body) }
}

impl Pair {
    fn new() -> Pair {
        let node = |nth: u16| Neighbours::new(NodeId(nth), 1, 1000 * u64::from(nth));
        Pair {
            nodes: [node(0), node(1)],
            now: Instant(1_000_000),
            told: [Vec::new(), Vec::new()],
            sid: Sid::new(NodeId(1), ShardId(0), &mut Chance::new([1; 32])),
        }
    }

    fn with(&mut self, node: usize, change: impl FnOnce(&mut Neighbours, Instant, &mut Vec<Step>)) {
        let mut steps = Vec::new();
        change(&mut self.nodes[node], self.now, &mut steps);
        self.told[node].extend(steps.into_iter().filter_map(|step| match step {
            Step::Tell(_, news) => Some(news),
            Step::Count(_) => None,
        }));
    }

    fn ask(&mut self, index: u32, request: Request) {
        let sid = self.sid;
        self.with(0, |node, now, steps| node.ask(now, at(index), sid, &request, steps));
    }

    /// What a node has to say is heard by the other one, or by nobody.
    fn carry(&mut self, from: usize, heard: bool) -> usize {
        let mut count = 0;
        while let Some((to, sent)) = self.nodes[from].take() {
            let messages: Vec<Box<[u8]>> = sent.iter().map(|sent| sent.bytes.clone()).collect();
            count += messages.len();
            self.with(from, |node, _, steps| {
                node.landed(to, messages.iter().map(|_| Some(heard)), steps);
            });
            for message in messages.iter().filter(|_| heard) {
                let message = Message::decode(message).expect("a message");
                self.with(1 - from, |node, now, steps| node.heard(now, message, steps));
            }
        }
        count
    }

    fn later(&mut self, by: Duration) {
        self.now = self.now + by;
        for node in 0..2 {
            self.with(node, |node, now, steps| node.expire(now, steps));
        }
    }

    fn asked(&mut self) -> ReplyTo {
        match self.told[1].remove(0) {
            News::Asked { from, .. } => from,
            other => panic!("{other:?}"),
        }
    }

    fn answer(&mut self, to: ReplyTo, body: &'static str) {
        self.with(1, |node, _, steps| node.answer(to, &text(body), steps));
    }

    fn answers(&mut self) -> Vec<(u32, Response)> {
        let of = |news| match news {
            News::Answered { to, response } => (to.conn.index(), *response),
            other => panic!("{other:?}"),
        };
        std::mem::take(&mut self.told[0]).into_iter().map(of).collect()
    }

    /// Nothing is left of anything.
    fn is_empty(&self) -> bool {
        let is_empty = |node: &Neighbours| {
            let maps = node.asks.len() + node.numbers.len() + node.dues.len() + node.keys.len() + node.says.len();
            maps + node.waiting.len() + node.lanes.len() + node.bytes + node.waiting_bytes == 0
                && node.next_deadline().is_none()
        };
        self.nodes.iter().all(is_empty)
    }
}

#[test]
fn a_request_is_answered_by_the_owner_and_once() {
    let mut pair = Pair::new();
    pair.ask(1, Request::Poll);
    pair.ask(2, Request::Post("4hi".into()));
    assert_eq!(pair.carry(0, true), 2);
    let (poll, post) = (pair.asked(), pair.asked());
    for to in [post, post, poll] {
        pair.answer(to, "ok");
    }
    assert_eq!(pair.carry(1, true), 2);
    assert_eq!(pair.answers(), [(2, text("ok")), (1, text("ok"))]);
    assert!(pair.is_empty());
}

#[test]
fn whom_nobody_hears_is_nobody() {
    let mut pair = Pair::new();
    pair.ask(1, Request::Poll);
    pair.carry(0, false);
    assert_eq!(pair.answers(), [(1, unknown())]);
    assert!(pair.is_empty());
}

#[test]
fn a_silent_owner_is_not_waited_for() {
    // Whether the request arrives, and what its client hears when.
    for (request, arrives, patience) in [
        (Request::Poll, false, NEIGHBOUR_PATIENCE),
        (Request::Post("4x".into()), false, NEIGHBOUR_PATIENCE),
        (Request::Post("4x".into()), true, NEIGHBOUR_PATIENCE),
        (Request::Poll, true, NEIGHBOUR_HELD_AFTER + 3 * NEIGHBOUR_HELD_EVERY),
    ] {
        let mut pair = Pair::new();
        pair.ask(1, request);
        if arrives {
            pair.carry(0, true);
            pair.asked();
            pair.later(NEIGHBOUR_HELD_AFTER);
            assert_eq!(pair.carry(1, true), 1, "it is held");
        } else {
            // It is lost on the way.
            pair.nodes[0].take();
            pair.with(0, |node, _, steps| node.landed(NodeId(1), std::iter::once(Some(true)), steps));
        }
        let moment = Duration::from_millis(1);
        let began = Instant(1_000_000);
        pair.nodes[1].says.clear();
        pair.later((began + patience).since(pair.now).saturating_sub(moment));
        assert_eq!(pair.answers(), []);
        pair.later(moment);
        assert_eq!(pair.answers(), [(1, unknown())]);
        // The owner is told, and its session does not believe in a client that has been sent away.
        pair.carry(0, true);
        if arrives {
            assert!(matches!(pair.told[1][..], [News::Left { .. }]), "{:?}", pair.told[1]);
        }
        assert!(pair.is_empty());
    }
}

#[test]
fn a_poll_waits_as_long_as_its_owner_says_so() {
    let mut pair = Pair::new();
    pair.ask(1, Request::Poll);
    pair.carry(0, true);
    let from = pair.asked();
    for _ in 0..100 {
        pair.later(Duration::from_secs(1));
        pair.carry(1, true);
    }
    assert_eq!(pair.answers(), []);
    pair.answer(from, "2");
    pair.carry(1, true);
    assert_eq!(pair.answers(), [(1, text("2"))]);
    assert!(pair.is_empty());
}

#[test]
fn a_client_or_its_node_that_goes_is_given_up() {
    let mut pair = Pair::new();
    for index in 1..=3 {
        pair.ask(index, Request::Poll);
    }
    pair.carry(0, true);
    let waits = [pair.asked(), pair.asked(), pair.asked()];
    pair.nodes[0].left(at(2));
    pair.nodes[0].left(at(2));
    pair.carry(0, true);
    let left = |pair: &mut Pair| -> Vec<ReplyTo> {
        let of = |news| if let News::Left { from, .. } = news { from } else { panic!("{news:?}") };
        std::mem::take(&mut pair.told[1]).into_iter().map(of).collect()
    };
    assert_eq!(left(&mut pair), [waits[1]]);
    pair.answer(waits[1], "4late");
    assert_eq!(pair.carry(1, true), 0);
    // The node is killed: nobody hears that they are held.
    pair.later(NEIGHBOUR_HELD_AFTER);
    pair.carry(1, false);
    let mut gone = left(&mut pair);
    gone.sort_by_key(|to| to.conn);
    assert_eq!(gone, [waits[0], waits[2]]);
    let mut steps = Vec::new();
    pair.nodes[0].away(&mut steps);
    assert!(pair.is_empty());
}

#[test]
fn a_node_that_drains_has_nobody_wait() {
    let mut pair = Pair::new();
    pair.ask(1, Request::Poll);
    pair.carry(0, true);
    let first = pair.asked();
    pair.nodes[0].release(ShardId(0));
    pair.ask(2, Request::Poll);
    pair.ask(3, Request::Post("4x".into()));
    pair.carry(0, true);
    let News::Released { from, .. } = pair.told[1].remove(0) else { panic!("released") };
    assert_eq!(from, first);
    let second = pair.asked();
    let News::Released { from, .. } = pair.told[1].remove(0) else { panic!("released") };
    assert_eq!(from, second);
    pair.asked();
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut pair = Pair::new();
    let long = "x".repeat(NEIGHBOUR_BYTES_MAX / 2);
    for index in 1..=2 {
        pair.ask(index, Request::Post(long.as_str().into()));
    }
    assert_eq!(pair.answers(), [(2, unavailable())]);
    pair.carry(0, true);
    let mut pair = Pair::new();
    for index in 0..=NEIGHBOUR_REQUESTS_MAX as u32 {
        pair.ask(index, Request::Poll);
    }
    assert_eq!(pair.answers(), [(NEIGHBOUR_REQUESTS_MAX as u32, unavailable())]);
    // Without the others nothing is left waiting.
    pair.with(0, |node, _, steps| node.away(steps));
    assert_eq!(pair.answers().len(), NEIGHBOUR_REQUESTS_MAX);
    assert!(pair.is_empty());
}

#[test]
fn what_strangers_say_changes_nothing() {
    let mut pair = Pair::new();
    pair.ask(1, Request::Poll);
    pair.carry(0, true);
    pair.asked();
    let number = *pair.nodes[0].asks.keys().next().expect("one");
    let response = text("4evil");
    for (from, number) in [(2, number), (1, number + 1), (1, 0)] {
        let words = [Word::answer(number, &response), Word::Held { numbers: vec![number] }, Word::Left { number }];
        for word in words.into_iter().chain([Word::Release { number }]) {
            let message = Message { from: NodeId(from), word };
            pair.with(0, |node, now, steps| node.heard(now, message.clone(), steps));
            if from == 2 {
                pair.with(1, |node, now, steps| node.heard(now, message, steps));
            }
        }
    }
    assert_eq!((pair.answers(), pair.told[1].len()), (vec![], 0));
    // A session of nobody here, or of a shard that is not there.
    for sid in [
        Sid::new(NodeId(7), ShardId(0), &mut Chance::new([2; 32])),
        Sid::new(NodeId(1), ShardId(9), &mut Chance::new([2; 32])),
    ] {
        let message = Message { from: NodeId(0), word: Word::Ask { number: 5, sid, body: None } };
        pair.with(1, |node, now, steps| node.heard(now, message, steps));
        assert_eq!((pair.told[1].len(), pair.carry(1, true)), (0, 1), "refused at once");
    }
}
