//! The other inhabitants of Redis: plain channels that backends publish to, Socket.IO's emitters, and the Node servers of a fleet.
//!
//! ```text
//!  channels -- inlet --+                       +-- ways -----> shards: Report::Foreign
//!  stream  --- rows ---+--> decoded, shared out +
//!  core, shards - tray +                       +-- PUBLISH, SPUBLISH, XADD --> Redis: answers, events of ours
//! ```
//!
//! One task beside the core's, on the same thread, with connections of its own: what is said here is said at most once, and a stranger's flood
//! or a stream that is none disturbs nothing of what the nodes say to each other. Away, it tries again, and what was said meanwhile is lost, as
//! it is to every subscriber; a stream is read on from where it was.
//!
//! Invariants: a stranger's bytes never panic, and reach a tenant only where they name it; a message of a node of this server, by its uid, is
//! passed over: it has come already; every queue has its bound.

mod hear;
mod past;
mod placed;
mod question;
mod row;
mod share;
mod tell;
mod tray;
mod way;

pub use past::Ask;
pub use placed::Outward;
pub use tray::{Tray, Word};

use super::{
    Deliver, Settings,
    count::Count,
    inlet::{Heard, Inlet},
    link::{self, Link, backoff},
};
use crate::base::{
    chance::Chance,
    id::ShardId,
    limit::BATCH_COMMANDS_MAX,
    time::{Clock, Duration, Instant},
};
use crate::bridge::Errands;
use crate::profile::Profile;
use crate::shard::foreign::Foreign as Words;
use crate::shard::relay::{Relay, Report};
use crate::wire::adapter::{Mode, Names, streams::Offset};
use hear::Spoken;
use question::Questions;
use row::Read;
use std::{collections::BTreeSet, sync::Arc};
use tell::Command;
use tokio::{sync::mpsc, time::timeout};
use way::Way;

/// How often it is asked whether Redis is there.
const PING_EVERY: Duration = Duration::from_secs(2);
/// How soon a shard's full lane is tried again.
const RETRY_EVERY: Duration = Duration::from_millis(5);
/// How long what is left is told when the server ends.
const LAST_WORDS_MAX: Duration = Duration::from_millis(500);
/// Answers of the stream that wait to be looked at: then it is not read on.
const ROW_BATCHES_MAX: usize = 4;

/// Which adapter the other servers use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Adapter {
    /// There is nobody: not even emitters.
    Off,
    /// No servers.
    #[default]
    Emitter,
    /// `@socket.io/redis-adapter`, `createAdapter`.
    Classic,
    /// The same, `createShardedAdapter`.
    Sharded(Mode),
    /// `@socket.io/redis-streams-adapter`, from 0.3.
    Streams,
}

/// Who else there is, and what is made of what they say.
#[derive(Clone)]
pub struct Fleet {
    pub adapter: Adapter,
    /// The first word of the fleet's channels, and the name of its stream.
    pub key: Box<str>,
    pub stream: Box<str>,
    /// What the names of sessions that are kept for all begin with, where sockets come back to servers of another make, and theirs here.
    pub session_prefix: Option<Box<str>>,
    /// Of this server: others are not heard.
    pub namespaces: Box<[Box<str>]>,
    pub profile: Arc<Profile>,
}

/// What it needs besides.
pub struct Begin {
    pub errands: Arc<Errands<Relay>>,
    pub clock: Arc<dyn Clock + Send + Sync>,
    pub deliver: Arc<Deliver>,
    pub shards: u8,
    pub seed: [u8; 32],
    pub tray: Arc<Tray>,
}

impl Fleet {
    /// Whether there is anything to hear.
    pub fn is_silent(&self) -> bool {
        self.adapter == Adapter::Off && self.profile.channel_names().next().is_none()
    }

    /// Whether durable events are written to the shared stream in one step with their place, and delivered from there.
    pub fn recovers(&self) -> bool {
        self.session_prefix.is_some()
    }

    /// Whether the others are told what is published here.
    pub fn is_outward(&self) -> bool {
        !matches!(self.adapter, Adapter::Off | Adapter::Emitter)
    }
}

pub struct Foreign {
    settings: Arc<Settings>,
    fleet: Fleet,
    begin: Begin,
    chance: Chance,
    inlet: Arc<Inlet>,
    generation: u64,
    ways: Vec<Way>,
    questions: Questions,
    names: Names,
    /// This node among the fleet's, and how the uid of every node of this server begins: no server of another make has a colon in it.
    uid: String,
    family: String,
    /// Channels of single rooms that are here, and what of that Redis has not been told.
    rooms: BTreeSet<String>,
    changes: Vec<(&'static str, String)>,
    /// Messages of plain channels that have no id yet.
    spoken: Vec<Spoken>,
    /// What is to be written.
    commands: Vec<Command>,
    /// So far the shards have been given what is in the shared stream.
    read: Offset,
    /// Of the row that is being looked at, where it has a place among the nodes' own events.
    row: Option<Offset>,
    asks: Vec<Ask>,
    failures: u32,
    /// It was said that a channel may not be subscribed.
    is_refused: bool,
}

/// Why a link is not served any more.
enum Ended {
    Broken(String),
    /// The server ends.
    Told,
}

/// What woke the task.
enum Woken {
    Read(Read),
    Other,
}

impl Foreign {
    pub fn new(settings: Settings, fleet: Fleet, begin: Begin) -> Foreign {
        let family = format!("{}:", settings.prefix);
        Foreign {
            uid: uid(&settings),
            family,
            names: Names::new(&fleet.key),
            chance: Chance::new(begin.seed),
            ways: (0..begin.shards).map(|_| Way::default()).collect(),
            settings: Arc::new(settings),
            fleet,
            begin,
            inlet: Arc::default(),
            generation: 0,
            questions: Questions::default(),
            rooms: BTreeSet::new(),
            changes: Vec::new(),
            spoken: Vec::new(),
            commands: Vec::new(),
            read: Offset::default(),
            row: None,
            asks: Vec::new(),
            failures: 0,
            is_refused: false,
        }
    }

    fn now(&self) -> Instant {
        self.begin.clock.now().at
    }

    fn count(&self, count: Count) {
        self.begin.errands.count(count as usize);
    }

    /// Runs until the tray has ended and is empty.
    pub async fn run(mut self) {
        let (taker, mut rows) = mpsc::channel(ROW_BATCHES_MAX);
        let reader = (self.fleet.adapter != Adapter::Off).then(|| {
            tokio::spawn(row::read(self.settings.clone(), self.fleet.stream.to_string(), self.fleet.recovers(), taker))
        });
        let tray = self.begin.tray.clone();
        while !tray.is_ended() {
            self.generation += 1;
            let connecting = link::connect(self.settings.clone(), self.inlet.clone(), self.generation);
            let link = tokio::select! {
                link = connecting => link,
                () = self.until_ended() => break,
            };
            let why = match link {
                Ok(link) => match self.serve(&link, &mut rows).await {
                    Ended::Told => break,
                    Ended::Broken(why) => why,
                },
                Err(refusal) => refusal.to_string(),
            };
            self.lose();
            self.failures += 1;
            // The core says more loudly that Redis is away.
            tracing::debug!(why, "what others say in Redis cannot be heard now");
            let pause = backoff(self.failures, &mut self.chance);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.until_ended() => break,
            }
        }
        if let Some(reader) = reader {
            reader.abort();
        }
    }

    /// Nobody can be told anything, nor asks any more.
    fn lose(&mut self) {
        let lost =
            self.drop_words() + std::mem::take(&mut self.commands).len() + std::mem::take(&mut self.spoken).len();
        self.begin.errands.add(Count::ForeignDropped as usize, lost);
        self.questions.clear();
        self.refuse_asks();
    }

    /// Takes what is in the tray while nobody can be told; how much of it is lost.
    fn drop_words(&mut self) -> usize {
        let mut lost = 0;
        for word in self.begin.tray.take() {
            match word {
                Word::Room { tenant, room, is_here } => self.note_room(&tenant, &room, is_here),
                Word::Missed(ask) => self.asks.push(ask),
                Word::Answer { .. } | Word::Event { .. } => lost += 1,
            }
        }
        self.refuse_asks();
        lost
    }

    async fn until_ended(&mut self) {
        let tray = self.begin.tray.clone();
        while !tray.is_ended() {
            tray.wait().await;
            if !tray.is_ended() {
                let lost = self.drop_words();
                self.begin.errands.add(Count::ForeignDropped as usize, lost);
            }
        }
    }

    async fn serve(&mut self, link: &Link, rows: &mut mpsc::Receiver<Read>) -> Ended {
        // All of them anew.
        self.changes.clear();
        for wanted in self.subscriptions().chunks(BATCH_COMMANDS_MAX) {
            match link.channels().listen(wanted.to_vec()).await {
                Err(error) => return Ended::Broken(error.to_string()),
                // What may be heard is heard.
                Ok(confirmed) if confirmed.contains(&false) && !std::mem::replace(&mut self.is_refused, true) => {
                    tracing::warn!("Redis refuses channels that others speak on: look at the user's ACL");
                }
                Ok(_) => {}
            }
        }
        self.failures = 0;
        let mut ping_at = self.now() + PING_EVERY;
        loop {
            for heard in self.inlet.take() {
                match heard {
                    Heard::Frame { channel, frame } => self.heard(&channel, &frame),
                    Heard::Dropped { .. } => self.count(Count::ForeignDropped),
                    Heard::Ended { channel } if self.is_left(&channel) => {}
                    Heard::Ended { .. } => return Ended::Broken("a subscription has ended".into()),
                    Heard::Broken => return Ended::Broken("the connection was closed".into()),
                }
            }
            let now = self.now();
            let mut said = Vec::new();
            for word in self.begin.tray.take() {
                self.tell(word, now, &mut said);
            }
            self.questions.expire(now, &mut said);
            said.into_iter().for_each(|said| self.say(said));
            if let Err(why) = self.exchange(link).await {
                return Ended::Broken(why);
            }
            if let Err(why) = self.look_back(link).await {
                return Ended::Broken(why);
            }
            self.flush();
            if self.begin.tray.is_ended() && self.begin.tray.is_empty() {
                return Ended::Told;
            }
            let now = self.now();
            if ping_at <= now {
                if !(link.commands().ping().await && link.channels().ping().await) {
                    return Ended::Broken("it does not answer".into());
                }
                ping_at = self.now() + PING_EVERY;
            }
            let retries = self.ways.iter().any(Way::waits).then_some(now + RETRY_EVERY);
            let wake_at =
                [Some(ping_at), self.questions.next_due(), retries, self.next_ask_due()].into_iter().flatten().min();
            let rest = wake_at.map_or(PING_EVERY, |at| at.since(now));
            let (inlet, tray) = (self.inlet.clone(), self.begin.tray.clone());
            let woken = tokio::select! {
                () = inlet.wait() => Woken::Other,
                () = tray.wait() => Woken::Other,
                Some(read) = rows.recv(), if self.takes_rows() => Woken::Read(read),
                () = tokio::time::sleep(rest) => Woken::Other,
            };
            match woken {
                Woken::Read(Read::Rows(rows)) => self.rows(&rows),
                Woken::Read(Read::Anew(row)) => self.read_anew(row),
                Woken::Other => {}
            }
        }
    }

    /// What is listened to: names of commands, and channels.
    fn subscriptions(&self) -> Vec<(&'static str, String)> {
        let mut all: Vec<(&'static str, String)> =
            self.fleet.profile.channel_names().map(|name| ("SUBSCRIBE", name.to_owned())).collect();
        if self.fleet.adapter == Adapter::Off {
            return all;
        }
        let namespaces: Vec<&str> = self.fleet.namespaces.iter().map(|name| &**name).collect();
        // Emitters publish as classic servers do; answers to others are nobody's here, because nothing is asked.
        let classic = self.names.classic(&namespaces, &self.uid);
        all.extend(classic.patterns.into_iter().map(|pattern| ("PSUBSCRIBE", pattern)));
        all.extend(namespaces.iter().map(|nsp| ("SUBSCRIBE", self.names.requests(nsp))));
        let cluster = || self.names.cluster(&namespaces, &self.uid).channels.into_iter();
        match self.fleet.adapter {
            Adapter::Sharded(_) => {
                let rooms = self.rooms.iter().cloned();
                all.extend(cluster().chain(rooms).map(|channel| ("SSUBSCRIBE", channel)));
            }
            // The pattern hears it as well, but only who subscribes by name is counted.
            Adapter::Streams => all.extend(cluster().map(|channel| ("SUBSCRIBE", channel))),
            Adapter::Off | Adapter::Emitter | Adapter::Classic => {}
        }
        all
    }

    /// Whether a channel was of a room that is not here any more.
    fn is_left(&self, channel: &[u8]) -> bool {
        let is_wanted = |channel: &str| {
            self.rooms.contains(channel) || self.subscriptions().iter().any(|(_, wanted)| wanted == channel)
        };
        std::str::from_utf8(channel).is_ok_and(|channel| !is_wanted(channel))
    }

    fn flush(&mut self) {
        for (index, way) in self.ways.iter_mut().enumerate() {
            let deliver = &self.begin.deliver;
            way.flush(|reports, load| deliver(ShardId(index as u8), reports, load));
        }
    }

    /// Puts something on its way to a shard; false: there is no room.
    fn report(&mut self, shard: ShardId, words: Words) -> bool {
        let Some(way) = self.ways.get_mut(shard.index()) else { return false };
        let has_room = way.push(Report::Foreign(Box::new(words)));
        if !has_room {
            self.count(Count::ForeignDropped);
        }
        has_room
    }
}

/// A node of this server, among the fleet's.
fn uid(settings: &Settings) -> String {
    format!("{}:{:x}", settings.prefix, settings.origin.0)
}

/// Runs the core, and this beside it where there is anything to hear.
pub async fn beside(core: impl Future<Output = ()>, foreign: Option<Foreign>) {
    let Some(foreign) = foreign else { return core.await };
    let tray = foreign.begin.tray.clone();
    let mut foreign = std::pin::pin!(foreign.run());
    {
        let mut core = std::pin::pin!(core);
        tokio::select! {
            () = &mut core => {}
            // It ends when it is told to: not before the core.
            () = &mut foreign => return core.await,
        }
    }
    tray.end();
    let _ = timeout(LAST_WORDS_MAX, foreign).await;
}
