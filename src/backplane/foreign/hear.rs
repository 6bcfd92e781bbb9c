//! What others say: read, and shared out among the shards.

use super::{
    Adapter, Foreign,
    question::{Asker, Kind, Via},
    row::Row,
    share,
};
use crate::backplane::{count::Count, link::BY_PATTERN};
use crate::base::{
    id::{ShardId, TenantId},
    time::{Duration, Instant},
};
use crate::profile::channel::To;
use crate::shard::foreign::{Foreign as Words, Publish, Whom};
use crate::shard::relay::Ticket;
use crate::wire::adapter::{
    self, ANSWER_MS, Audience, EMITTER, Message, Packet, Payload, What,
    channel::{Classic, Cluster},
    classic, cluster, streams,
};
use std::borrow::Cow;

/// A message of a plain channel, before it has its id.
pub struct Spoken {
    pub tenant: TenantId,
    pub to: To,
    pub kind: Box<str>,
    pub data: Box<str>,
    /// Of the channel and all of the message: what is the same on every node.
    pub hash: u128,
    pub heard: Instant,
}

impl Spoken {
    pub fn publish(self, id: Box<str>, is_first: bool) -> Publish {
        let Spoken { tenant, to, kind, data, .. } = self;
        Publish { tenant, to, kind, data, id, is_first }
    }
}

/// FNV-1a: every node and every build has the same, and a backend's messages are nobody's attack on it.
fn hash(channel: &str, message: &[u8]) -> u128 {
    let bytes = channel.bytes().chain([0]).chain(message.iter().copied());
    bytes.fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    })
}

/// Whom a message is from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Speaker {
    /// A node of this server: it has been heard already.
    Own,
    Emitter,
    Server,
}

impl Foreign {
    /// What a channel carried.
    pub(super) fn heard(&mut self, channel: &[u8], message: &[u8]) {
        self.count(Count::ForeignHeard);
        let (by_pattern, channel) = match channel {
            [BY_PATTERN, channel @ ..] => (true, channel),
            channel => (false, channel),
        };
        let Ok(channel) = std::str::from_utf8(channel) else { return self.count(Count::ForeignBroken) };
        let profile = self.fleet.profile.clone();
        if let Some(heard) = profile.hear(channel, message) {
            return match heard {
                Ok(heard) => self.spoken.push(Spoken {
                    hash: hash(channel, message),
                    heard: self.now(),
                    tenant: heard.tenant,
                    to: heard.to,
                    kind: heard.kind.into(),
                    data: heard.data.into(),
                }),
                Err(why) => {
                    self.count(Count::ForeignBroken);
                    tracing::debug!(channel, %why, "a message is no event");
                }
            };
        }
        let namespaces = self.fleet.namespaces.clone();
        let namespaces: Vec<&str> = namespaces.iter().map(|name| &**name).collect();
        let names = self.names.clone();
        // Classic broadcasts are heard by patterns, and all else by its name: the two may have the same. Such a broadcast is a list, which no
        // message of another adapter is.
        let is_list = matches!(message.first(), Some(0x90..=0x9f | 0xdc | 0xdd | b'['));
        let read = match names.read_classic(channel, &namespaces) {
            Some(on @ Classic::Broadcast { .. }) if by_pattern => {
                is_list.then(|| (Via::Classic, classic::decode(on, message)))
            }
            Some(on @ Classic::Request { .. }) if !by_pattern => Some((Via::Classic, classic::decode(on, message))),
            _ if by_pattern => None,
            _ => self.of_cluster(names.read_cluster(channel, &namespaces)).map(|via| (via, cluster::decode(message))),
        };
        match read {
            Some((via, Ok(message))) => self.message(&message, via),
            Some((_, Err(why))) => {
                self.count(Count::ForeignBroken);
                tracing::debug!(channel, %why, "a message cannot be read");
            }
            None => {}
        }
    }

    fn of_cluster(&self, on: Option<Cluster<'_>>) -> Option<Via> {
        on?;
        match self.fleet.adapter {
            Adapter::Sharded(_) => Some(Via::Sharded),
            Adapter::Streams => Some(Via::Streams),
            Adapter::Off | Adapter::Emitter | Adapter::Classic => None,
        }
    }

    /// A row of the stream.
    pub(super) fn row(&mut self, row: &Row) {
        if self.fleet.recovers() && self.placed(row) {
            return;
        }
        let fields = row.fields.iter().map(|(name, value)| (&name[..], &value[..]));
        // One without a namespace is for nobody here.
        let Some(read) = streams::Row::of(fields) else { return };
        self.count(Count::ForeignHeard);
        let mut buffer = Vec::new();
        let message = read.and_then(|row| {
            let own = self.fleet.namespaces.iter().any(|nsp| **nsp == *row.nsp);
            if own { streams::decode(&row, &mut buffer).map(Some) } else { Ok(None) }
        });
        match message {
            Ok(Some(message)) => self.message(&message, Via::Streams),
            Ok(None) => {}
            Err(why) => {
                self.count(Count::ForeignBroken);
                tracing::debug!(row = row.id, %why, "a row cannot be read");
            }
        }
    }

    fn speaker(&self, message: &Message<'_>) -> Speaker {
        match message.from.as_deref() {
            Some(uid) if uid.starts_with(&self.family) => Speaker::Own,
            // What an emitter has sockets do does not say whose it is.
            Some(EMITTER) | None => Speaker::Emitter,
            Some(_) => Speaker::Server,
        }
    }

    fn message(&mut self, message: &Message<'_>, via: Via) {
        let speaker = self.speaker(message);
        if speaker == Speaker::Own {
            return;
        }
        let is_ours = match (self.fleet.adapter, via) {
            (Adapter::Classic, Via::Classic)
            | (Adapter::Sharded(_), Via::Sharded)
            | (Adapter::Streams, Via::Streams) => true,
            _ => speaker == Speaker::Emitter,
        };
        let asker = |request: &Cow<'_, str>| Asker {
            via,
            nsp: (*message.nsp).into(),
            uid: message.from.as_deref().unwrap_or_default().into(),
            request: (**request).into(),
        };
        match &message.what {
            What::Broadcast { packet, to, request } => {
                let shares = if is_ours { self.shares(to, &message.nsp) } else { Vec::new() };
                let asker = request.as_ref().map(asker);
                let waits = Duration::from_millis(to.flags.timeout_ms.unwrap_or(ANSWER_MS).min(10 * ANSWER_MS));
                // Without a ticket nobody answers, or the asker has been told that nobody does: the event goes all the same.
                let ask = asker.and_then(|asker| self.question(asker, Kind::Event { waits }, shares.len()));
                self.event(packet, to.flags.volatile, shares, ask);
            }
            What::Join { to, rooms, request } | What::Leave { to, rooms, request } if is_ours => {
                let rooms = share::rooms(rooms, self.fleet.profile.claims.single_tenant.as_ref());
                let joins = matches!(message.what, What::Join { .. });
                for (shard, to) in self.shares(to, &message.nsp) {
                    let rooms = rooms.clone();
                    self.report(shard, if joins { Words::Join { to, rooms } } else { Words::Leave { to, rooms } });
                }
                self.done(request.as_ref().map(asker), to);
            }
            What::Disconnect { to, close, request } if is_ours => {
                for (shard, whom) in self.shares(to, &message.nsp) {
                    self.report(shard, Words::Disconnect { to: whom, close: *close });
                }
                self.done(request.as_ref().map(asker), to);
            }
            What::Fetch { request, to } => self.fetch(asker(request), Kind::Sockets, to, is_ours),
            What::Sids { request, rooms } => {
                let to = Audience { rooms: rooms.clone(), ..Audience::default() };
                self.fetch(asker(request), Kind::Sids, &to, is_ours);
            }
            What::Rooms { request } => {
                let shards = if is_ours { self.begin.shards } else { 0 };
                if let Some(ticket) = self.question(asker(request), Kind::Rooms, shards.into()) {
                    for shard in 0..shards {
                        self.report(ShardId(shard), Words::Rooms { namespace: (*message.nsp).into(), ticket });
                    }
                }
            }
            // No code of an application runs here that could answer it: the asker is not left to wait.
            What::ServerSideEmit { request: Some(request), .. } => {
                let asker = asker(request);
                self.say(
                    asker.said(What::ServerSideEmitted { request: asker.request(), answer: Payload::json("null") }),
                );
            }
            What::ServerSideEmit { request: None, .. } => {}
            What::Join { .. } | What::Leave { .. } | What::Disconnect { .. } => {}
            // Nothing was asked, and no adapter that is served counts its nodes by these.
            What::Greeting | What::Heartbeat | What::Close => {}
            What::ClientCount { .. }
            | What::Ack { .. }
            | What::Done { .. }
            | What::Fetched { .. }
            | What::ServerSideEmitted { .. }
            | What::SidsFound { .. }
            | What::RoomsFound { .. } => {}
        }
    }

    fn shares(&mut self, to: &Audience<'_>, nsp: &str) -> Vec<(ShardId, Whom)> {
        let single = self.fleet.profile.claims.single_tenant.as_ref();
        let shares = share::shares(to, nsp, single, self.begin.shards);
        if shares.is_empty() {
            self.count(Count::ForeignNobody);
        }
        shares
    }

    fn question(&mut self, asker: Asker, kind: Kind, shards: usize) -> Option<Ticket> {
        let (now, mut said) = (self.now(), Vec::new());
        let ticket = self.questions.open(asker, kind, shards, now, &mut said);
        said.into_iter().for_each(|said| self.say(said));
        ticket
    }

    fn event(&mut self, packet: &Packet<'_>, volatile: bool, shares: Vec<(ShardId, Whom)>, ask: Option<Ticket>) {
        let row = self.row.filter(|_| ask.is_none());
        for (shard, to) in shares {
            let args = Payload {
                json: Cow::Owned(packet.args.json.to_string()),
                attachments: packet.args.attachments.clone(),
            };
            self.report(shard, Words::Event { to, event: (*packet.event).into(), args, volatile, ask, row });
        }
    }

    fn fetch(&mut self, asker: Asker, kind: Kind, to: &Audience<'_>, is_ours: bool) {
        let shares = if is_ours { self.shares(to, &asker.nsp.clone()) } else { Vec::new() };
        let Some(ticket) = self.question(asker, kind, shares.len()) else { return };
        for (shard, to) in shares {
            self.report(shard, Words::Fetch { to, ticket });
        }
    }

    /// Servers before version 8 of the adapter name one socket and wait for the node that has it.
    fn done(&mut self, asker: Option<Asker>, to: &Audience<'_>) {
        // Whichever node has it: the others' answers to a question that is answered are passed over.
        if let Some(asker) = asker
            && to.rooms.iter().any(|room| adapter::socket(room).is_some())
        {
            self.say(asker.said(What::Done { request: asker.request() }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_text_on_one_channel_has_one_hash() {
        assert_eq!(hash("a", b"b"), hash("a", b"b"));
        assert_ne!(hash("a", b"b"), hash("b", b"a"));
        assert_ne!(hash("ab", b""), hash("a", b"b"));
    }
}
