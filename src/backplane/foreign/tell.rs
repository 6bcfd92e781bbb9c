//! What the others are told: answers, and what is published here; and how a plain channel's messages get their ids.

use super::{
    Adapter, Foreign,
    hear::Spoken,
    question::{Said, Via},
    tray::Word,
};
use crate::backplane::{count::Count, link::Link};
use crate::base::{
    id::TenantId,
    limit::{BATCH_COMMANDS_MAX, CHANNEL_REPEATS_MAX, CHANNEL_WINDOW},
    time::Instant,
};
use crate::shard::foreign::{Foreign as Words, as_sent};
use crate::wire::{
    adapter::{self, Audience, Flags, Message, Mode, Packet, Payload, What, classic, cluster, streams},
    envelope::{Body, Place},
};
use redis::{Pipeline, Value};
use std::{borrow::Cow, collections::BTreeMap};
use ulid::Ulid;

/// As the adapter's own default.
pub const STREAM_ROWS_MAX: usize = 10_000;

/// Something to be written.
pub struct Command {
    name: &'static str,
    /// Channel or stream.
    key: String,
    args: Vec<Vec<u8>>,
}

impl Foreign {
    /// What this node's shards have to say.
    pub(super) fn tell(&mut self, word: Word, now: Instant, said: &mut Vec<Said>) {
        match word {
            Word::Answer { from: _, ticket, answer } => self.questions.answered(ticket, *answer, now, said),
            Word::Room { tenant, room, is_here } => self.note_room(&tenant, &room, is_here),
            Word::Missed(ask) => self.asks.push(ask),
            Word::Event { tenant, body, place } => self.tell_event(&tenant, &body, place.as_ref()),
        }
    }

    /// Where each room has a channel of its own, it is listened to while the room is here.
    pub(super) fn note_room(&mut self, tenant: &TenantId, room: &str, is_here: bool) {
        let Adapter::Sharded(mode) = self.fleet.adapter else { return };
        let room = adapter::room_name(tenant, room, self.fleet.profile.claims.single_tenant.as_ref());
        for nsp in &self.fleet.namespaces {
            let Some(channel) = self.names.room(nsp, &room, mode) else { continue };
            let is_change = match is_here {
                true => self.rooms.insert(channel.clone()),
                false => self.rooms.remove(&channel),
            };
            if is_change {
                self.changes.push((if is_here { "SSUBSCRIBE" } else { "SUNSUBSCRIBE" }, channel));
            }
        }
    }

    fn tell_event(&mut self, tenant: &TenantId, body: &[u8], place: Option<&Place>) {
        let Ok((_, body)) = Body::decode(body) else { return };
        let profile = self.fleet.profile.clone();
        let (room, event, args, volatile) = match &body {
            Body::Post(post) => match as_sent(&profile, post, place) {
                Some((event, args)) => (post.room, event, args, false),
                None => return,
            },
            Body::Emit { room, event, args, ephemeral, except: _ } => {
                (*room, (*event).to_owned(), (*args).to_owned(), *ephemeral)
            }
            _ => return,
        };
        let room = adapter::room_name(tenant, room, profile.claims.single_tenant.as_ref());
        self.count(Count::ForeignTold);
        // A room of ours is one room whatever namespace its members are in.
        for nsp in &self.fleet.namespaces.clone() {
            let packet = Packet { event: Cow::Borrowed(&event), args: Payload::json(&*args) };
            let to = Audience {
                rooms: vec![Cow::Borrowed(&room)],
                except: Vec::new(),
                flags: Flags { volatile, ..Flags::default() },
            };
            let what = What::Broadcast { packet, to, request: None };
            let message = Message { nsp: Cow::Borrowed(nsp), from: Some(Cow::Borrowed(&self.uid)), what };
            let command = match self.fleet.adapter {
                Adapter::Classic => self.command(Via::Classic, &message, ""),
                Adapter::Sharded(_) => self.command(Via::Sharded, &message, ""),
                Adapter::Streams => self.command(Via::Streams, &message, ""),
                Adapter::Off | Adapter::Emitter => None,
            };
            self.commands.extend(command);
        }
    }

    /// Answers somebody.
    pub(super) fn say(&mut self, said: Said) {
        self.count(Count::ForeignAnswered);
        let Said { via, to, mut message } = said;
        message.from = Some(Cow::Owned(self.uid.clone()));
        let command = self.command(via, &message, &to);
        self.commands.extend(command);
    }

    /// How a message is written; none where its wire has no word for it.
    fn command(&self, via: Via, message: &Message<'_>, to: &str) -> Option<Command> {
        Some(match via {
            Via::Classic => Command {
                name: "PUBLISH",
                key: self.names.classic_channel(message, None),
                args: vec![classic::encode(message)?],
            },
            Via::Sharded => {
                let mode = if let Adapter::Sharded(mode) = self.fleet.adapter { mode } else { Mode::Static };
                Command {
                    name: "SPUBLISH",
                    key: self.names.cluster_channel(message, mode, to),
                    args: vec![cluster::encode(message)?],
                }
            }
            Via::Streams if streams::is_row(&message.what) => {
                let mut args: Vec<Vec<u8>> =
                    ["MAXLEN", "~", &STREAM_ROWS_MAX.to_string(), "*"].map(|text| text.into()).into();
                let mut row = streams::encode(message)?;
                if self.fleet.recovers() {
                    // What has no place is for who is there: read as a broadcast when it is added, and not given to who comes back.
                    row.iter_mut().filter(|(name, _)| *name == "type").for_each(|(_, kind)| kind.insert(0, b'0'));
                }
                args.extend(row.into_iter().flat_map(|(name, value)| [name.into(), value]));
                Command { name: "XADD", key: self.fleet.stream.to_string(), args }
            }
            Via::Streams => Command {
                name: "PUBLISH",
                key: self.names.cluster_channel(message, Mode::Static, to),
                args: vec![cluster::encode_packed(message)?],
            },
        })
    }

    /// Writes what is to be written, and asks for the ids of what plain channels carried.
    pub(super) async fn exchange(&mut self, link: &Link) -> Result<(), String> {
        for changes in std::mem::take(&mut self.changes).chunks(BATCH_COMMANDS_MAX) {
            link.channels().listen(changes.to_vec()).await.map_err(|error| error.to_string())?;
        }
        let mut commands = std::mem::take(&mut self.commands).into_iter().peekable();
        while commands.peek().is_some() {
            self.write(link, commands.by_ref().take(BATCH_COMMANDS_MAX)).await?;
        }
        let mut spoken = std::mem::take(&mut self.spoken).into_iter().peekable();
        while spoken.peek().is_some() {
            self.name(link, spoken.by_ref().take(BATCH_COMMANDS_MAX).collect()).await?;
        }
        Ok(())
    }

    async fn write(&mut self, link: &Link, commands: impl Iterator<Item = Command>) -> Result<(), String> {
        let mut lanes: BTreeMap<String, Pipeline> = BTreeMap::new();
        for Command { name, key, args } in commands {
            // A Cluster's pipeline goes to one slot.
            let lane = if link.is_cluster { key.clone() } else { String::new() };
            let pipeline = lanes.entry(lane).or_insert_with(redis::pipe);
            pipeline.cmd(name).arg(key).arg(args);
        }
        for (key, pipeline) in lanes {
            let answers = link.commands().send(pipeline, key).await.map_err(|error| error.to_string())?;
            for answer in answers {
                if let Value::ServerError(error) = answer {
                    self.count(Count::ForeignDropped);
                    tracing::debug!(%error, "Redis does not take what the fleet's other servers are told");
                }
            }
        }
        Ok(())
    }

    /// Messages of plain channels get their ids, and go to their tenants' shards.
    async fn name(&mut self, link: &Link, spoken: Vec<Spoken>) -> Result<(), String> {
        let now = self.begin.clock.now();
        let mut pipeline = redis::pipe();
        // All in one slot of a Cluster: what one channel carries keeps its order.
        let slot = format!("{}:~{{heard}}", self.settings.prefix);
        for one in &spoken {
            let id = Ulid::from_parts(now.unix.0, self.chance.u128()).to_string();
            let cmd = pipeline.cmd("EVAL").arg(include_str!("../lua/hear.lua")).arg(1);
            cmd.arg(format!("{slot}:{:032x}", one.hash)).arg(format!("{:x}", self.settings.origin.0));
            cmd.arg(now.at.since(one.heard).as_millis() as u64).arg(id);
            cmd.arg(CHANNEL_WINDOW.as_millis() as u64).arg(CHANNEL_REPEATS_MAX);
        }
        let answers = link.commands().send(pipeline, slot).await.map_err(|error| error.to_string())?;
        for (one, answer) in spoken.into_iter().zip(answers) {
            let Some((id, is_first)) = named(&answer) else {
                self.count(Count::ForeignDropped);
                continue;
            };
            let home = one.tenant.home(self.begin.shards);
            self.report(home, Words::Publish(Box::new(one.publish(id, is_first))));
        }
        Ok(())
    }
}

fn named(answer: &Value) -> Option<(Box<str>, bool)> {
    let Value::Array(fields) = answer else { return None };
    match &fields[..] {
        [Value::BulkString(id), Value::BulkString(first)] => {
            Some((std::str::from_utf8(id).ok()?.into(), first == b"1"))
        }
        _ => None,
    }
}
