//! Requests that are under way between this node and others: ours at them, theirs here.
//!
//! ```text
//!  ours     ask ---> lane of the node ---> [held]* ---> answer                     each of them ends: answered, or with an error
//!                      |                      |
//!                      | nobody hears it      | too long since it was held         400, as of a session nobody has
//!  theirs   heard ---> shard ----------> held, every few seconds ---> answer ---> lane of the node
//! ```
//!
//! Pure: what comes and what time it is are arguments; what is to be sent is [taken](Neighbours::take).
//!
//! Invariants: an ask of ours is answered once and in time, whatever is lost; a request of theirs is answered at most once; bounded in number
//! ([`NEIGHBOUR_REQUESTS_MAX`]) and in bytes ([`NEIGHBOUR_BYTES_MAX`]); lanes are there only while they have something.

use super::count::Count;
use crate::base::{
    id::{ConnKey, NodeId, ReplyTo, ShardId, Sid},
    limit::{
        BATCH_BYTES_MAX, BATCH_COMMANDS_MAX, NEIGHBOUR_BYTES_MAX, NEIGHBOUR_HELD_AFTER, NEIGHBOUR_HELD_EVERY,
        NEIGHBOUR_PATIENCE, NEIGHBOUR_REQUESTS_MAX,
    },
    slab::Slab,
    time::Instant,
};
use crate::shard::neighbour::{News, Request, unavailable, unknown};
use crate::wire::{
    http::Response,
    neighbour::{Message, Word, response},
};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

/// Numbers in one message.
const HELD_MAX: usize = 4096;

pub struct Neighbours {
    /// What this node calls itself.
    me: NodeId,
    shards: u8,
    /// Of the newest ask. It begins by chance, so that an answer to an earlier process with this number fits nothing.
    number: u64,
    asks: HashMap<u64, Asked>,
    numbers: HashMap<ReplyTo, u64>,
    dues: BTreeSet<(Instant, u64)>,
    waiting: Slab<ConnKey, Waiting>,
    keys: HashMap<(NodeId, u64), ConnKey>,
    /// When who asks is to be told that its request waits here.
    says: BTreeSet<(Instant, ConnKey)>,
    lanes: BTreeMap<u16, Lane>,
    bytes: usize,
    /// Of the bodies of requests that wait here.
    waiting_bytes: usize,
    /// By shard: it drains, and no GET of its clients may wait.
    releases: Vec<ShardId>,
}

/// A request of ours at another node.
struct Asked {
    to: ReplyTo,
    owner: NodeId,
    is_poll: bool,
    due: Instant,
}

/// A request of another node here.
struct Waiting {
    from: NodeId,
    number: u64,
    sid: Sid,
    says: Instant,
    /// Of its body.
    bytes: usize,
}

#[derive(Default)]
struct Lane {
    queue: VecDeque<Sent>,
    flying: Vec<Sent>,
}

/// A message on its way.
pub struct Sent {
    pub bytes: Box<[u8]>,
    about: About,
}

#[derive(Clone, Copy)]
enum About {
    Ask(u64),
    Held,
    Rest,
}

/// What follows.
#[derive(Debug)]
pub enum Step {
    Tell(ShardId, News),
    Count(Count),
}

impl Neighbours {
    pub fn new(me: NodeId, shards: u8, number: u64) -> Neighbours {
        Neighbours {
            me,
            shards,
            number: number >> 1,
            asks: HashMap::new(),
            numbers: HashMap::new(),
            dues: BTreeSet::new(),
            waiting: Slab::default(),
            keys: HashMap::new(),
            says: BTreeSet::new(),
            lanes: BTreeMap::new(),
            bytes: 0,
            waiting_bytes: 0,
            releases: Vec::new(),
        }
    }

    /// From now on it is another one. Nothing may be under way.
    pub fn renumber(&mut self, me: NodeId) {
        self.me = me;
    }

    /// A request of one of our clients.
    pub fn ask(&mut self, now: Instant, to: ReplyTo, sid: Sid, request: &Request, steps: &mut Vec<Step>) {
        steps.push(Step::Count(Count::NeighbourAsks));
        if self.asks.len() >= NEIGHBOUR_REQUESTS_MAX {
            return fail(to, unavailable(), steps);
        }
        self.number += 1;
        let number = self.number;
        let (owner, due) = (sid.node(), now + NEIGHBOUR_PATIENCE);
        let body = match request {
            Request::Poll => None,
            Request::Post(body) => Some(&**body),
        };
        if !self.push(owner, Word::Ask { number, sid, body }, About::Ask(number)) {
            return fail(to, unavailable(), steps);
        }
        let is_poll = body.is_none();
        self.asks.insert(number, Asked { to, owner, is_poll, due });
        self.numbers.insert(to, number);
        self.dues.insert((due, number));
        if is_poll && self.releases.contains(&to.shard) {
            self.push(owner, Word::Release { number }, About::Rest);
        }
    }

    /// Nobody waits for its answer any more.
    pub fn left(&mut self, to: ReplyTo) {
        if let Some(number) = self.numbers.get(&to).copied()
            && let Some(asked) = self.end(number)
        {
            self.push(asked.owner, Word::Left { number }, About::Rest);
        }
    }

    /// The GETs of this shard's clients are to be answered at once, from now on.
    pub fn release(&mut self, shard: ShardId) {
        self.releases.push(shard);
        let polls = self.asks.iter().filter(|(_, asked)| asked.is_poll && asked.to.shard == shard);
        for (owner, number) in polls.map(|(number, asked)| (asked.owner, *number)).collect::<Vec<_>>() {
            self.push(owner, Word::Release { number }, About::Rest);
        }
    }

    /// The answer to a request of another node, unless that has given it up.
    pub fn answer(&mut self, to: ReplyTo, response: &Response, steps: &mut Vec<Step>) {
        let Some(Waiting { from, number, .. }) = self.forget(to.conn) else { return };
        steps.push(Step::Count(Count::NeighbourAnswers));
        if !self.push(from, Word::answer(number, response), About::Rest) {
            // Who asked notices by itself.
            steps.push(Step::Count(Count::NeighbourFailed));
        }
    }

    /// What another node says.
    pub fn heard(&mut self, now: Instant, message: Message<'_>, steps: &mut Vec<Step>) {
        let from = message.from;
        match message.word {
            Word::Ask { number, sid, body } => self.asked(now, (from, number), sid, body, steps),
            Word::Left { number } => {
                let key = self.keys.get(&(from, number)).copied();
                self.abandon(key, steps);
            }
            Word::Release { number } => {
                if let Some(key) = self.keys.get(&(from, number))
                    && let Some(Waiting { sid, .. }) = self.waiting.get(*key)
                {
                    let news = News::Released { from: ReplyTo::elsewhere(*key), sid: *sid };
                    steps.push(Step::Tell(sid.shard(), news));
                }
            }
            Word::Answer { number, status, content_type, retry_after_s, body } => {
                if self.asks.get(&number).is_some_and(|asked| asked.owner == from)
                    && let Some(Asked { to, .. }) = self.end(number)
                {
                    let response = Box::new(response(status, content_type, retry_after_s, body.to_vec()));
                    steps.push(Step::Tell(to.shard, News::Answered { to, response }));
                }
            }
            Word::Held { numbers } => {
                let due = now + 3 * NEIGHBOUR_HELD_EVERY;
                for number in numbers {
                    let Some(asked) = self.asks.get_mut(&number).filter(|asked| asked.owner == from) else { continue };
                    // A POST is never held for long: it keeps its time.
                    if asked.is_poll {
                        self.dues.remove(&(asked.due, number));
                        asked.due = due;
                        self.dues.insert((due, number));
                    }
                }
            }
        }
    }

    fn asked(
        &mut self,
        now: Instant,
        (from, number): (NodeId, u64),
        sid: Sid,
        body: Option<&str>,
        steps: &mut Vec<Step>,
    ) {
        let bytes = body.map_or(0, str::len);
        let refused = if sid.node() != self.me || sid.shard().0 >= self.shards {
            Some(unknown())
        } else if self.waiting.len() >= NEIGHBOUR_REQUESTS_MAX || self.waiting_bytes + bytes > NEIGHBOUR_BYTES_MAX {
            Some(unavailable())
        } else {
            None
        };
        if let Some(response) = refused {
            self.push(from, Word::answer(number, &response), About::Rest);
            return;
        }
        if self.keys.contains_key(&(from, number)) {
            return;
        }
        let says = now + NEIGHBOUR_HELD_AFTER;
        let key = self.waiting.insert(Waiting { from, number, sid, says, bytes });
        self.waiting_bytes += bytes;
        self.keys.insert((from, number), key);
        self.says.insert((says, key));
        let request = body.map_or(Request::Poll, |body| Request::Post(body.into()));
        steps.push(Step::Tell(sid.shard(), News::Asked { from: ReplyTo::elsewhere(key), sid, request }));
    }

    /// What is over its time, and what is to be said again.
    pub fn expire(&mut self, now: Instant, steps: &mut Vec<Step>) {
        while let Some(&(due, number)) = self.dues.first()
            && due <= now
        {
            let Some(Asked { to, owner, .. }) = self.end(number) else { continue };
            fail(to, unknown(), steps);
            // Where it waits after all, its session must not believe in it.
            self.push(owner, Word::Left { number }, About::Rest);
        }
        let mut held: BTreeMap<u16, Vec<u64>> = BTreeMap::new();
        while let Some(&(at, key)) = self.says.first()
            && at <= now
        {
            self.says.remove(&(at, key));
            let Some(waiting) = self.waiting.get_mut(key) else { continue };
            waiting.says = now + NEIGHBOUR_HELD_EVERY;
            self.says.insert((waiting.says, key));
            held.entry(waiting.from.0).or_default().push(waiting.number);
        }
        for (node, numbers) in held {
            for numbers in numbers.chunks(HELD_MAX) {
                self.push(NodeId(node), Word::Held { numbers: numbers.to_vec() }, About::Held);
            }
        }
    }

    /// No other node can be reached: everything ends.
    pub fn away(&mut self, steps: &mut Vec<Step>) {
        for number in self.asks.keys().copied().collect::<Vec<_>>() {
            if let Some(Asked { to, .. }) = self.end(number) {
                fail(to, unavailable(), steps);
            }
        }
        for key in self.keys.values().copied().collect::<Vec<_>>() {
            self.abandon(Some(key), steps);
        }
        self.lanes.clear();
        self.bytes = 0;
    }

    /// The next messages for a node that none are on their way to.
    pub fn take(&mut self) -> Option<(NodeId, &[Sent])> {
        let (node, lane) = self.lanes.iter_mut().find(|(_, lane)| lane.flying.is_empty())?;
        let mut bytes = 0;
        while let Some(next) = lane.queue.front()
            && lane.flying.len() < BATCH_COMMANDS_MAX
            && (lane.flying.is_empty() || bytes + next.bytes.len() <= BATCH_BYTES_MAX)
        {
            bytes += next.bytes.len();
            lane.flying.extend(lane.queue.pop_front());
        }
        Some((NodeId(*node), &lane.flying))
    }

    /// What became of the messages on their way to a node: of each, whether somebody heard it; `None`: nobody knows.
    pub fn landed(&mut self, node: NodeId, heard: impl Iterator<Item = Option<bool>>, steps: &mut Vec<Step>) {
        let Some(lane) = self.lanes.get_mut(&node.0) else { return };
        let sent = std::mem::take(&mut lane.flying);
        if lane.queue.is_empty() {
            self.lanes.remove(&node.0);
        }
        self.bytes = self.bytes.saturating_sub(sent.iter().map(Sent::weight).sum());
        for (sent, heard) in sent.into_iter().zip(heard.chain(std::iter::repeat(None))) {
            let response = match heard {
                Some(true) => continue,
                Some(false) => unknown(),
                None => unavailable(),
            };
            steps.push(Step::Count(Count::NeighbourFailed));
            match sent.about {
                About::Ask(number) => {
                    if let Some(Asked { to, .. }) = self.end(number) {
                        fail(to, response, steps);
                    }
                }
                // Who asked is gone, and with it whoever waited there.
                About::Held if heard == Some(false) => {
                    let of = |((from, _), key): (&(NodeId, u64), &ConnKey)| (*from == node).then_some(*key);
                    for key in self.keys.iter().filter_map(of).collect::<Vec<_>>() {
                        self.abandon(Some(key), steps);
                    }
                }
                About::Held | About::Rest => {}
            }
        }
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        let due = self.dues.first().map(|(at, _)| *at);
        due.into_iter().chain(self.says.first().map(|(at, _)| *at)).min()
    }

    /// Nothing is to be sent, or on its way.
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// An ask of ours is over.
    fn end(&mut self, number: u64) -> Option<Asked> {
        let asked = self.asks.remove(&number)?;
        self.numbers.remove(&asked.to);
        self.dues.remove(&(asked.due, number));
        Some(asked)
    }

    /// A request of theirs is over.
    fn forget(&mut self, key: ConnKey) -> Option<Waiting> {
        let waiting = self.waiting.remove(key)?;
        self.keys.remove(&(waiting.from, waiting.number));
        self.says.remove(&(waiting.says, key));
        self.waiting_bytes -= waiting.bytes;
        Some(waiting)
    }

    /// Nobody waits any more for a request of theirs.
    fn abandon(&mut self, key: Option<ConnKey>, steps: &mut Vec<Step>) {
        if let Some(key) = key
            && let Some(Waiting { sid, .. }) = self.forget(key)
        {
            steps.push(Step::Tell(sid.shard(), News::Left { from: ReplyTo::elsewhere(key), sid }));
        }
    }

    fn push(&mut self, to: NodeId, word: Word<'_>, about: About) -> bool {
        let bytes = Message { from: self.me, word }.encode().into_boxed_slice();
        let sent = Sent { bytes, about };
        let has_room = self.bytes + sent.weight() <= NEIGHBOUR_BYTES_MAX;
        if has_room {
            self.bytes += sent.weight();
            self.lanes.entry(to.0).or_default().queue.push_back(sent);
        }
        has_room
    }
}

impl Sent {
    fn weight(&self) -> usize {
        size_of::<Sent>() + self.bytes.len()
    }
}

fn fail(to: ReplyTo, response: Response, steps: &mut Vec<Step>) {
    steps.push(Step::Tell(to.shard, News::Answered { to, response: Box::new(response) }));
}

#[cfg(test)]
#[path = "neighbour_tests.rs"]
mod tests;
