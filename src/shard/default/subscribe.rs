//! `subscribe` and `unsubscribe`.

use super::{Entity, argument, text, write_list};
use crate::base::limit;
use crate::profile::room::Access;
use crate::shard::app::{Args, Context};
use crate::shard::filter::Filter;
use crate::shard::history::{Epoch, Gap};
use crate::shard::refusal::Refusal;
use crate::wire::{auth::Pattern, json};
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;
use std::rc::Rc;

#[derive(Deserialize)]
pub struct Since<'a> {
    #[serde(borrow)]
    epoch: Cow<'a, str>,
    offset: u64,
}

impl Since<'_> {
    /// What nobody ever gave out is the position of a history that is lost.
    pub fn place(&self) -> Option<(Epoch, u64)> {
        Some((Epoch::parse(&self.epoch)?, self.offset))
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Sinces<'a> {
    /// Of each room named.
    #[serde(borrow)]
    All(Since<'a>),
    /// By room.
    Each(BTreeMap<Cow<'a, str>, Since<'a>>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument<'a> {
    #[serde(borrow, default)]
    rooms: Option<Vec<Cow<'a, str>>>,
    #[serde(borrow, default)]
    event_types: Option<Vec<Cow<'a, str>>>,
    #[serde(borrow, default)]
    entities: Option<Vec<Entity<'a>>>,
    #[serde(borrow, default)]
    since: Option<Sinces<'a>>,
}

impl Argument<'_> {
    fn check(&self) -> Result<(), Refusal> {
        let count = |count: Option<usize>| count.unwrap_or(0) <= limit::SUBSCRIBE_ITEMS_MAX;
        let ok = count(self.rooms.as_ref().map(Vec::len))
            && count(self.event_types.as_ref().map(Vec::len))
            && count(self.entities.as_ref().map(Vec::len));
        if ok { Ok(()) } else { Err(Refusal::TooManyItems) }
    }

    fn since(&self, room: &str) -> Option<&Since<'_>> {
        match self.since.as_ref()? {
            Sinces::All(since) => Some(since),
            Sinces::Each(each) => each.get(room),
        }
    }

    fn filter(&self) -> Result<Option<Rc<Filter>>, Refusal> {
        let types = self.event_types.iter().flatten().map(|text| Pattern::parse(text));
        let types: Result<Box<[Pattern]>, _> = types.collect();
        let filter = Filter {
            types: types.map_err(|_| Refusal::InvalidArgument("eventTypes are names, with * and ?"))?,
            entities: self
                .entities
                .iter()
                .flatten()
                .map(|entity| (entity.kind[..].into(), entity.id[..].into()))
                .collect(),
        };
        Ok((!filter.is_empty()).then(|| Rc::new(filter)))
    }
}

const TAKES: &str = "subscribe takes {rooms?, eventTypes?, entities?: [{type, id}], since?: {epoch, offset}}";

/// Joins rooms, narrows what is wanted of them (of all rooms the socket is in, where none is named), and gives what was missed since a
/// position. What was missed is on its way before the answer.
/// Where the application's backend decides about some of the rooms, it is answered when that has.
pub fn subscribe(socket: &mut Context<'_>, args: Args<'_>) -> Result<Option<String>, Refusal> {
    let argument = read(args)?;
    let is_asked = |room: &&Cow<'_, str>| socket.access(room) == Access::AskBackend && !socket.is_in(room);
    let asked: Vec<Box<str>> = argument.rooms.iter().flatten().filter(is_asked).map(|room| (**room).into()).collect();
    if asked.is_empty() {
        return subscribe_known(socket, args, &argument, Verdicts::default());
    }
    ask(socket, Rc::from(args.first().unwrap_or("null")), asked, Verdicts::default());
    Ok(None)
}

fn read(args: Args<'_>) -> Result<Argument<'_>, Refusal> {
    let read: Argument<'_> = argument(args, TAKES)?;
    read.check()?;
    Ok(read)
}

/// What the backend has said of rooms.
type Verdicts = BTreeMap<Box<str>, Result<(), Refusal>>;

/// Asks about one room after the other.
fn ask(socket: &mut Context<'_>, argument: Rc<str>, mut asked: Vec<Box<str>>, mut verdicts: Verdicts) {
    let Some(room) = asked.pop() else {
        let args = Args::of_value(&argument);
        let answer = read(args).and_then(|read| subscribe_known(socket, args, &read, verdicts));
        return finish(socket, answer);
    };
    let name = room.clone();
    socket.begin_join();
    socket.authorize(&name, "subscribe", move |socket, verdict| {
        verdicts.insert(room, verdict);
        ask(socket, argument, asked, verdicts);
        socket.end_join();
    });
}

/// Whether a room may be joined, as far as the token and the backend go.
fn permission(socket: &Context<'_>, room: &str, verdicts: &Verdicts) -> Result<(), Refusal> {
    match socket.access(room) {
        Access::Granted => Ok(()),
        Access::Denied => Err(Refusal::Forbidden),
        Access::AskBackend if socket.is_in(room) => Ok(()),
        Access::AskBackend => verdicts.get(room).cloned().unwrap_or(Err(Refusal::Forbidden)),
    }
}

/// None: among nodes, it is answered when what it needs of the rooms is here.
fn subscribe_known(
    socket: &mut Context<'_>,
    args: Args<'_>,
    read: &Argument<'_>,
    verdicts: Verdicts,
) -> Result<Option<String>, Refusal> {
    let mut needs: Vec<(Box<str>, bool)> = Vec::new();
    for room in read.rooms.iter().flatten() {
        if permission(socket, room, &verdicts).is_ok() && socket.check_room_name(room).is_ok() {
            needs.push(((**room).into(), read.since(room).is_some()));
        }
    }
    if socket.is_ready(&needs) {
        return subscribe_ready(socket, args, read, verdicts);
    }
    let text: Rc<str> = args.first().unwrap_or("null").into();
    socket.begin_join();
    socket.when_ready(needs, move |socket| {
        let args = Args::of_value(&text);
        let answer = self::read(args).and_then(|read| subscribe_ready(socket, args, &read, verdicts));
        finish(socket, answer);
        socket.end_join();
    });
    Ok(None)
}

/// Of a client that has been further than this node, it is done when the node has followed: its place is not unknown.
fn subscribe_ready(
    socket: &mut Context<'_>,
    args: Args<'_>,
    read: &Argument<'_>,
    verdicts: Verdicts,
) -> Result<Option<String>, Refusal> {
    let is_ahead = |room: &Cow<'_, str>| {
        let place = read.since(room).and_then(Since::place);
        place.is_some_and(|(epoch, offset)| socket.is_ahead(room, epoch, offset))
    };
    if !read.rooms.iter().flatten().any(is_ahead) {
        return subscribe_now(socket, read, &verdicts);
    }
    let text: Rc<str> = args.first().unwrap_or("null").into();
    socket.begin_join();
    socket.when_current(move |socket| {
        let answer = self::read(Args::of_value(&text)).and_then(|read| subscribe_now(socket, &read, &verdicts));
        finish(socket, answer);
        socket.end_join();
    });
    Ok(None)
}

fn finish(socket: &mut Context<'_>, answer: Result<Option<String>, Refusal>) {
    match answer {
        Ok(Some(answer)) => socket.ack(&answer),
        Ok(None) => {}
        Err(refusal) => socket.refuse(&refusal),
    }
}

/// What became of the rooms that were named.
#[derive(Default)]
struct Outcome {
    /// None were: it was about all the socket is in.
    about_all: bool,
    asked_since: bool,
    joined: Vec<Box<str>>,
    denied: Vec<(Box<str>, Refusal)>,
    gap: Option<Gap>,
}

/// None: among nodes, it is answered when the socket's new rooms are kept for its coming back, or could not be.
fn subscribe_now(
    socket: &mut Context<'_>,
    argument: &Argument<'_>,
    verdicts: &Verdicts,
) -> Result<Option<String>, Refusal> {
    let filter = argument.filter()?;
    let mut outcome =
        Outcome { about_all: argument.rooms.is_none(), asked_since: argument.since.is_some(), ..Outcome::default() };
    let mut new: Vec<Box<str>> = Vec::new();
    for room in argument.rooms.iter().flatten() {
        let was_in = socket.is_in(room);
        match permission(socket, room, verdicts).and_then(|()| socket.subscribe(room, filter.clone())) {
            Ok(()) => {
                outcome.joined.push((**room).into());
                if !was_in {
                    new.push((**room).into());
                }
            }
            Err(refusal) => {
                socket.count_refused_room();
                outcome.denied.push(((**room).into(), refusal));
            }
        }
    }
    if argument.rooms.is_none() && filter.is_some() {
        socket.narrow_all(filter);
    }
    // Its answer waits for the store: events come before it, and what cannot be had of the past has to be told before those.
    let is_kept = socket.is_kept();
    let mut unread: Vec<Box<str>> = Vec::new();
    for room in &outcome.joined {
        let Some(since) = argument.since(room) else { continue };
        let missed = match since.place() {
            Some((epoch, offset)) => socket.replay(room, epoch, offset),
            None => Err(Gap::EpochChanged),
        };
        let answers_later = is_kept && new.contains(room);
        match missed {
            Ok(()) => {}
            // It is there when the store is: whoever asks again misses nothing.
            Err(Gap::Unavailable) if answers_later => unread.push(room.clone()),
            Err(gap) => {
                if answers_later {
                    socket.tell_gap(room, gap);
                }
                outcome.gap = outcome.gap.or(Some(gap));
            }
        }
    }
    for room in unread {
        new.retain(|joined| *joined != room);
        deny(socket, &mut outcome, room);
    }
    if new.is_empty() || !is_kept {
        return Ok(Some(answer(socket, &outcome)));
    }
    let epoch = socket.epoch();
    socket.when_kept(move |socket, kept| {
        if outcome.asked_since && socket.epoch() != epoch {
            // All was lost meanwhile, as it was told.
            outcome.gap = outcome.gap.or(Some(Gap::EpochChanged));
        }
        if !kept {
            // Else a node that takes the socket over would know nothing of what it was told here.
            for room in new {
                deny(socket, &mut outcome, room);
            }
        }
        // What it has left meanwhile it is not told to be in.
        outcome.joined.retain(|room| socket.is_in(room));
        let answer = answer(socket, &outcome);
        socket.ack(&answer);
    });
    Ok(None)
}

/// A room that was joined is left again.
fn deny(socket: &mut Context<'_>, outcome: &mut Outcome, room: Box<str>) {
    socket.unsubscribe(&room);
    outcome.joined.retain(|joined| *joined != room);
    outcome.denied.push((room, Refusal::BackplaneUnavailable));
}

fn answer(socket: &Context<'_>, outcome: &Outcome) -> String {
    let Outcome { about_all, asked_since, joined, denied, gap } = outcome;
    text(|out| {
        out.extend_from_slice(b"{\"ok\":true,\"rooms\":");
        match about_all {
            false => write_list(out, joined.iter().map(|room| &**room)),
            true => write_list(out, socket.rooms()),
        }
        out.extend_from_slice(b",\"denied\":[");
        for (nth, (room, refusal)) in denied.iter().enumerate() {
            out.extend_from_slice(if nth > 0 { b",{\"room\":" } else { b"{\"room\":" });
            json::write_string(out, room);
            let _ = write!(out, ",\"code\":\"{}\"}}", refusal.code());
        }
        out.push(b']');
        if *asked_since && !joined.is_empty() {
            let _ = write!(out, ",\"recovered\":{}", gap.is_none());
            if let Some(gap) = gap {
                let _ = write!(out, ",\"reason\":\"{}\"", gap.code());
            }
        }
        if let Some((epoch, offset)) = joined.first().and_then(|room| socket.place(room)) {
            let _ = write!(out, ",\"epoch\":\"{epoch}\",\"offset\":{offset}");
        }
        if joined.len() > 1 {
            out.extend_from_slice(b",\"positions\":{");
            let mut first = true;
            for room in joined {
                let Some((epoch, offset)) = socket.place(room) else { continue };
                if !std::mem::take(&mut first) {
                    out.push(b',');
                }
                json::write_string(out, room);
                let _ = write!(out, ":{{\"epoch\":\"{epoch}\",\"offset\":{offset}}}");
            }
            out.push(b'}');
        }
        out.push(b'}');
    })
}

/// Leaves the rooms named (the automatic ones are not left); with event types or entities instead, lifts the filters of all rooms.
pub fn unsubscribe(socket: &mut Context<'_>, args: Args<'_>) -> Result<String, Refusal> {
    let argument: Argument<'_> = argument(args, "unsubscribe takes {rooms?, eventTypes?, entities?}")?;
    argument.check()?;
    let mut denied = Vec::new();
    for room in argument.rooms.iter().flatten() {
        if !socket.unsubscribe(room) {
            denied.push(&**room);
        }
    }
    if argument.rooms.is_none() {
        socket.narrow_all(None);
    }
    Ok(text(|out| {
        out.extend_from_slice(b"{\"ok\":true,\"rooms\":");
        write_list(out, socket.rooms());
        out.extend_from_slice(b",\"denied\":[");
        for (nth, room) in denied.iter().enumerate() {
            out.extend_from_slice(if nth > 0 { b",{\"room\":" } else { b"{\"room\":" });
            json::write_string(out, room);
            out.extend_from_slice(b",\"code\":\"not_member\"}");
        }
        out.extend_from_slice(b"]}");
    }))
}
