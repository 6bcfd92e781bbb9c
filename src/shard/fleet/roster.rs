//! Who is there, asked among nodes: answered from the store, and where that is away by what this node has, with `partial`.

use crate::base::{id::ReplyTo, limit};
use crate::shard::Shard;
use crate::shard::app::Context;
use crate::shard::io::Output;
use crate::shard::relay::presence::{Act, Answer, Found, Member, Question};
use crate::shard::relay::{self};
use crate::shard::roster::{Present, write_members, write_rooms, write_user};
use crate::shard::status::Status;
use crate::shard::tenant::TenantKey;
use crate::wire::{api::Call, envelope::Body, http::Response};
use std::collections::BTreeMap;
use std::io::Write;

/// An answer's object, with the word that it is not of all nodes.
fn partial(mut object: Vec<u8>) -> Vec<u8> {
    object.pop();
    object.extend_from_slice(b",\"partial\":true}");
    object
}

impl Shard {
    /// Asks the store, after what this node has to say itself; none: it is away. The tenant is here when `then` is.
    fn ask_roster(&mut self, key: TenantKey, what: Question, then: impl FnOnce(&mut Shard, Option<Answer>) + 'static) {
        if self.tenants[key].stream.as_ref().is_some_and(|stream| stream.is_given_up()) {
            return then(self, None);
        }
        self.say_presence(key);
        let act = Act::Ask { terms: self.terms(), what };
        self.share_then(key, relay::Act::Presence(act), move |shard, result| match result {
            Ok(relay::Answer::Presence(answer)) => then(shard, Some(answer)),
            _ => then(shard, None),
        });
    }

    /// A call that is about all nodes. The others are given back.
    pub(in crate::shard) fn call_among_nodes(&mut self, from: ReplyTo, key: TenantKey, call: Call) -> Option<Call> {
        match call {
            Call::Presence { room } => {
                let what = room_of(&room);
                self.ask_roster(key, what, move |shard, answer| {
                    let body = shard.room_among_nodes(key, &room, answer, false);
                    shard.respond_roster(from, body);
                });
            }
            Call::Rooms => {
                self.ask_roster(key, Question::Rooms { count: limit::ROOMS_LISTED_MAX }, move |shard, answer| {
                    let body = match answer {
                        Some(Answer::Rooms { mut rooms, count }) => {
                            rooms.sort_unstable();
                            let list = rooms.iter().map(|(name, members)| (&**name, *members as usize));
                            write_rooms(list, Some(count).filter(|count| *count > rooms.len()))
                        }
                        _ => partial(shard.list_rooms(key)),
                    };
                    shard.respond_roster(from, body);
                })
            }
            Call::User { user } => {
                let what = Question::Users(vec![user.clone()]);
                self.ask_roster(key, what, move |shard, answer| {
                    let body = match found(answer) {
                        Some(found) => shard.describe_found(key, &user, &found),
                        None => partial(shard.describe_user(key, &user)),
                    };
                    shard.respond_roster(from, body);
                });
            }
            Call::Kick { user } => {
                let what = Question::Users(vec![user.clone()]);
                self.ask_roster(key, what, move |shard, answer| {
                    let found = found(answer);
                    shard.tell_others(key, &Body::Kick { user: &user });
                    let here = shard.kick(key, &user);
                    let closed = here.max(found.as_ref().map_or(0, |found| found.sessions as usize));
                    let body = format!("{{\"closed\":{closed}}}").into_bytes();
                    shard.respond_roster(from, if found.is_some() { body } else { partial(body) });
                });
            }
            Call::Stats => self.ask_roster(key, Question::Totals, move |shard, answer| {
                let body = match answer {
                    Some(Answer::Totals(totals)) => shard.stats(key, Some(totals)),
                    _ => partial(shard.stats(key, None)),
                };
                shard.respond_roster(from, body);
            }),
            call @ (Call::Publish(_) | Call::History { .. }) => return Some(call),
        }
        if self.tenants.contains(key) {
            self.tend_tenant(key);
        }
        None
    }

    fn respond_roster(&mut self, from: ReplyTo, body: Vec<u8>) {
        let response = Response { no_store: true, ..Response::json(200, body) };
        self.out.push(Output::Respond { to: from, response });
    }

    fn room_among_nodes(&self, key: TenantKey, room: &str, answer: Option<Answer>, ok: bool) -> Vec<u8> {
        let Some(Answer::Room { members, count }) = answer else { return partial(self.list_presence(key, room, ok)) };
        let is_whole = members.len() >= count;
        let mut users: BTreeMap<&str, Present<'_>> = BTreeMap::new();
        for Member { user, stance, seen, sockets } in &members {
            if stance.status != Status::Offline {
                let heard = self.user(key, user).map(|here| self.last_seen(key, user, here));
                let seen = heard.map_or(*seen, |heard| heard.max(*seen));
                users.entry(user).or_insert_with(|| Present::there(user, stance, seen)).add(seen, *sockets);
            }
        }
        let count = if is_whole { users.len() } else { count };
        let list: Vec<Present<'_>> = users.into_values().take(limit::PRESENCE_MEMBERS_MAX).collect();
        write_members(&self.presence, &list, count, ok)
    }

    /// A user as the store knows it, and this node where that knows more.
    fn present<'a>(&self, key: TenantKey, name: &'a str, found: &Found) -> Present<'a> {
        let local = self.tenants[key].absences.get(name);
        match (found.stance, found.seen) {
            (Some(stance), seen) if found.there => {
                let heard = self.user(key, name).map(|here| self.last_seen(key, name, here));
                let mut present = Present::there(name, &stance, heard.max(seen).unwrap_or(stance.since));
                present.add(stance.since, found.sessions);
                present
            }
            (Some(stance), seen @ Some(_)) => Present::left(name, stance.standing().duty.is_some(), seen),
            _ => {
                let duty = local.is_some_and(|absence| absence.user.standing().duty.is_some());
                Present::left(name, duty, local.map(|absence| absence.user.last_seen))
            }
        }
    }

    fn describe_found(&self, key: TenantKey, name: &str, found: &Found) -> Vec<u8> {
        let rooms = found.rooms.iter().map(|room| &**room).collect();
        write_user(&self.presence, &self.present(key, name, found), &rooms)
    }

    /// A user as other users may know it: who hides is gone since it began to.
    fn shown<'a>(&self, key: TenantKey, name: &'a str, found: &Found) -> Present<'a> {
        match found.stance.filter(|stance| stance.status == Status::Offline) {
            Some(stance) => Present::left(name, stance.standing().duty.is_some(), Some(stance.since)),
            None => self.present(key, name, found),
        }
    }

    fn users_among_nodes(&self, key: TenantKey, users: &[Box<str>], answer: Option<Answer>) -> Vec<u8> {
        let Some(Answer::Users(found)) = answer else { return partial(self.list_users(key, users)) };
        let mut out = b"{\"ok\":true,\"users\":[".to_vec();
        for (nth, (user, found)) in users.iter().zip(&found).enumerate() {
            if nth > 0 {
                out.push(b',');
            }
            self.shown(key, user, found).write(&self.presence, &mut out);
            out.push(b'}');
        }
        let _ = write!(out, "]}}");
        out
    }
}

fn room_of(room: &str) -> Question {
    // A user has a place for each node it is on.
    Question::Room { room: room.into(), count: 2 * limit::PRESENCE_MEMBERS_MAX }
}

fn found(answer: Option<Answer>) -> Option<Found> {
    match answer {
        Some(Answer::Users(users)) => users.into_iter().next(),
        _ => None,
    }
}

impl Context<'_> {
    /// Whether who is there is known only to the store.
    pub(in crate::shard) fn is_among_nodes(&self) -> bool {
        self.shard.is_fleet()
    }

    /// Answers who is in a room, later.
    pub(in crate::shard) fn presence_among_nodes(&mut self, room: &str) {
        let name: Box<str> = room.into();
        self.answer_roster(room_of(room), move |shard, key, answer| shard.room_among_nodes(key, &name, answer, true));
    }

    /// Answers how users are, later.
    pub(in crate::shard) fn presence_of_among_nodes(&mut self, users: Vec<Box<str>>) {
        let what = Question::Users(users.clone());
        self.answer_roster(what, move |shard, key, answer| shard.users_among_nodes(key, &users, answer));
    }

    fn answer_roster(
        &mut self,
        what: Question,
        write: impl FnOnce(&Shard, TenantKey, Option<Answer>) -> Vec<u8> + 'static,
    ) {
        let (socket, ack) = (self.socket, self.ack.take());
        let key = self.shard.tenant_of(socket);
        self.shard.ask_roster(key, what, move |shard, answer| {
            let text = String::from_utf8(write(shard, key, answer)).unwrap_or_default();
            if shard.sockets.contains(socket) {
                Context::new(shard, socket, ack).ack(&text);
            }
        });
    }
}
