//! Questions of a fleet's servers that this node's shards are answering.
//!
//! Invariants: each question is answered once, when all its shards have or when its time is over, with what has come until then; there are at
//! most [`FLEET_QUESTIONS_MAX`].

use crate::base::{
    limit::{FLEET_ANSWER_MAX, FLEET_QUESTIONS_MAX},
    time::{Duration, Instant},
};
use crate::shard::foreign::Answer;
use crate::shard::relay::Ticket;
use crate::wire::adapter::{Message, Payload, Socket, What};
use std::{borrow::Cow, collections::BTreeMap};

/// Over which wire something came, and its answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    Classic,
    Sharded,
    Streams,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// How many sockets get an event; then what each of them acknowledges, for as long as the asker waits.
    Event {
        waits: Duration,
    },
    Sockets,
    /// The sockets' ids alone.
    Sids,
    Rooms,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    pub via: Via,
    pub nsp: Box<str>,
    pub uid: Box<str>,
    pub request: Box<str>,
}

struct Question {
    asker: Asker,
    kind: Kind,
    /// Shards that have not answered.
    waits: u8,
    count: u64,
    sockets: Vec<Socket<'static>>,
    rooms: Vec<Box<str>>,
    /// When it is answered at the latest; of an event that is answered, until when it hears acknowledgements.
    due: Instant,
    is_answered: bool,
}

#[derive(Default)]
pub struct Questions {
    open: BTreeMap<Ticket, Question>,
    tickets: u64,
}

impl Questions {
    /// A question that so many shards are asked. None: there are too many, or nobody to ask, and `out` has its answer.
    pub fn open(
        &mut self,
        asker: Asker,
        kind: Kind,
        shards: usize,
        now: Instant,
        out: &mut Vec<Said>,
    ) -> Option<Ticket> {
        let mut question = Question {
            asker,
            kind,
            waits: shards.min(usize::from(u8::MAX)) as u8,
            count: 0,
            sockets: Vec::new(),
            rooms: Vec::new(),
            due: now + FLEET_ANSWER_MAX,
            is_answered: false,
        };
        if shards == 0 || self.open.len() >= FLEET_QUESTIONS_MAX {
            out.push(question.said());
            return None;
        }
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.open.insert(ticket, question);
        Some(ticket)
    }

    /// A shard answers.
    pub fn answered(&mut self, ticket: Ticket, answer: Answer, now: Instant, out: &mut Vec<Said>) {
        let Some(question) = self.open.get_mut(&ticket) else { return };
        match answer {
            Answer::Ack(answer) => return out.push(question.acknowledged(answer)),
            Answer::Count(count) => question.count += count,
            Answer::Sockets(sockets) => question.sockets.extend(sockets),
            Answer::Rooms(rooms) => question.rooms.extend(rooms),
        }
        question.waits = question.waits.saturating_sub(1);
        if question.waits == 0 && !question.is_answered {
            self.end(ticket, now, out);
        }
    }

    /// Answers those whose time is over.
    pub fn expire(&mut self, now: Instant, out: &mut Vec<Said>) {
        let due: Vec<Ticket> = self.open.iter().filter(|(_, q)| q.due <= now).map(|(ticket, _)| *ticket).collect();
        due.into_iter().for_each(|ticket| self.end(ticket, now, out));
    }

    pub fn next_due(&self) -> Option<Instant> {
        self.open.values().map(|question| question.due).min()
    }

    pub fn clear(&mut self) {
        self.open.clear();
    }

    fn end(&mut self, ticket: Ticket, now: Instant, out: &mut Vec<Said>) {
        let Some(question) = self.open.get_mut(&ticket) else { return };
        let waits = match question.kind {
            Kind::Event { waits } if !question.is_answered => Some(waits),
            _ => None,
        };
        if !std::mem::replace(&mut question.is_answered, true) {
            out.push(question.said());
        }
        match waits.filter(|_| question.count > 0) {
            Some(waits) => question.due = now + waits,
            None => drop(self.open.remove(&ticket)),
        }
    }
}

/// An answer, and to whom.
#[derive(Debug)]
pub struct Said {
    pub via: Via,
    pub to: Box<str>,
    pub message: Message<'static>,
}

impl Asker {
    pub fn said(&self, what: What<'static>) -> Said {
        let message = Message { nsp: Cow::Owned(self.nsp.to_string()), from: None, what };
        Said { via: self.via, to: self.uid.clone(), message }
    }

    pub fn request(&self) -> Cow<'static, str> {
        Cow::Owned(self.request.to_string())
    }
}

impl Question {
    fn said(&mut self) -> Said {
        let request = self.asker.request();
        let names = |list: Vec<Box<str>>| list.into_iter().map(|name| Cow::Owned(String::from(name))).collect();
        let sockets = std::mem::take(&mut self.sockets);
        self.asker.said(match self.kind {
            Kind::Event { .. } => What::ClientCount { request, count: self.count },
            Kind::Sockets => What::Fetched { request, sockets },
            Kind::Sids => What::SidsFound { request, sids: sockets.into_iter().map(|socket| socket.id).collect() },
            Kind::Rooms => What::RoomsFound { request, rooms: names(std::mem::take(&mut self.rooms)) },
        })
    }

    fn acknowledged(&self, answer: Payload<'static>) -> Said {
        self.asker.said(What::Ack { request: self.asker.request(), answer })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker() -> Asker {
        Asker { via: Via::Classic, nsp: "/".into(), uid: "u".into(), request: "r".into() }
    }

    fn at(ms: u64) -> Instant {
        Instant::default() + Duration::from_millis(ms)
    }

    fn shown(out: &mut Vec<Said>) -> Vec<String> {
        out.drain(..)
            .map(|said| match said.message.what {
                What::ClientCount { count, .. } => format!("count {count}"),
                What::Ack { answer, .. } => format!("ack {}", answer.json),
                What::Fetched { sockets, .. } => format!("sockets {}", sockets.len()),
                What::RoomsFound { rooms, .. } => format!("rooms {}", rooms.join("+")),
                what => format!("{what:?}"),
            })
            .collect()
    }

    #[test]
    fn it_is_answered_once_by_all_or_in_time() {
        let (mut questions, mut out) = (Questions::default(), Vec::new());
        let rooms = |names: &[&str]| Answer::Rooms(names.iter().map(|name| Box::from(*name)).collect());
        let ticket = questions.open(asker(), Kind::Rooms, 2, at(0), &mut out).unwrap();
        questions.answered(ticket, rooms(&["a"]), at(1), &mut out);
        assert!(out.is_empty());
        questions.answered(ticket, rooms(&["b"]), at(2), &mut out);
        assert_eq!(shown(&mut out), ["rooms a+b"]);
        // One shard is too slow.
        let ticket = questions.open(asker(), Kind::Rooms, 2, at(0), &mut out).unwrap();
        questions.answered(ticket, rooms(&["a"]), at(1), &mut out);
        questions.expire(at(2999), &mut out);
        assert!(out.is_empty() && questions.next_due() == Some(at(3000)));
        questions.expire(at(3000), &mut out);
        questions.answered(ticket, rooms(&["b"]), at(3001), &mut out);
        assert_eq!(shown(&mut out), ["rooms a"]);
        assert!(questions.open(asker(), Kind::Sockets, 0, at(0), &mut out).is_none());
        assert_eq!(shown(&mut out), ["sockets 0"]);
        for _ in 0..FLEET_QUESTIONS_MAX {
            assert!(questions.open(asker(), Kind::Sockets, 1, at(0), &mut out).is_some());
        }
        assert!(questions.open(asker(), Kind::Sockets, 1, at(0), &mut out).is_none());
        assert_eq!(shown(&mut out), ["sockets 0"]);
    }

    #[test]
    fn acknowledgements_are_heard_for_as_long_as_the_asker_waits() {
        let (mut questions, mut out) = (Questions::default(), Vec::new());
        let kind = Kind::Event { waits: Duration::from_millis(100) };
        let ack = || Answer::Ack(Payload::json("1"));
        let ticket = questions.open(asker(), kind, 2, at(0), &mut out).unwrap();
        questions.answered(ticket, Answer::Count(1), at(0), &mut out);
        // The first shard's client is faster than the second shard.
        questions.answered(ticket, ack(), at(1), &mut out);
        questions.answered(ticket, Answer::Count(1), at(2), &mut out);
        questions.answered(ticket, ack(), at(3), &mut out);
        assert_eq!(shown(&mut out), ["ack 1", "count 2", "ack 1"]);
        questions.expire(at(102), &mut out);
        questions.answered(ticket, ack(), at(103), &mut out);
        assert!(out.is_empty() && questions.next_due().is_none());
    }
}
