//! A shard as the benches drive it: WebSocket members by the thousand, turns as the pump takes them, no socket and no clock.
//!
//! This is the one place of the benches that knows how a shard is fed and emptied.

use tenantcast::base::{
    id::{ConnKey, ReplyTo, ShardId},
    slab::Key,
    time::{Duration, Instant, Now, UnixMs},
};
use tenantcast::shard::{
    Auth, Settings, Shard, default_app,
    io::{Hangup, Input, Message, Open, Output, Wire},
};
use tenantcast::wire::auth::{Keys, Mint, Policy, mint};

pub struct Rig {
    pub shard: Shard,
    pub now: Now,
    keys: Keys,
    next: u32,
    outputs: Vec<Output>,
    /// The last frame written to each connection that [`listen`](Self::listen) named.
    heard: Vec<(ConnKey, Vec<u8>)>,
}

impl Rig {
    /// As configured by default, but that nobody is held to a rate: time stands still here.
    pub fn new() -> Rig {
        Rig::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut Settings)) -> Rig {
        let keys = Keys::from_secret(&[7; 32]).expect("a secret");
        let auth = Some(Auth { keys: keys.clone(), policy: Policy::default() });
        let mut settings = Settings { auth, ..Settings::new() };
        settings.limits.events_per_second = 0;
        change(&mut settings);
        Rig {
            shard: Shard::new(settings, default_app(["/"]), [1; 32]),
            now: Now { at: Instant(1), unix: UnixMs(1_700_000_000_000) },
            keys,
            next: 0,
            outputs: Vec::new(),
            heard: Vec::new(),
        }
    }

    pub fn token(&self, tenant: &str, user: &str) -> String {
        let permissions = ["publish".to_owned()];
        let ttl = Some(Duration::from_secs(3600));
        let claims = Mint { tenant, user, permissions: &permissions, ttl, ..Mint::default() };
        mint(&claims, &self.keys, &Policy::default(), self.now.unix).expect("a secret signs")
    }

    /// A connection that was upgraded to WebSocket and has said nothing yet.
    pub fn open(&mut self) -> ConnKey {
        let conn = ConnKey::new(self.next, 0);
        self.next += 1;
        self.open_as(conn);
        conn
    }

    pub fn open_as(&mut self, conn: ConnKey) {
        let open = Open {
            from: ReplyTo { shard: ShardId(0), conn },
            wire: Wire::WebSocket,
            token: None,
            admission: None,
            hops: 0,
            address: [127, 0, 0, 1].into(),
            crowded: false,
            rooms: Vec::new(),
            last_event_id: None,
        };
        self.shard.handle(self.now, Input::Open(Box::new(open)), &mut self.outputs);
    }

    /// A Socket.IO client in a room of its tenant.
    pub fn member(&mut self, tenant: &str, user: &str, room: &str) -> ConnKey {
        let conn = self.open();
        let token = self.token(tenant, user);
        self.say(conn, &format!("40{{\"token\":\"{token}\"}}"));
        self.say(conn, &format!("421[\"subscribe\",{{\"rooms\":[\"{room}\"]}}]"));
        self.end_turn();
        conn
    }

    /// `count` members of one room, each a user of its own; the first.
    pub fn members(&mut self, tenant: &str, room: &str, count: usize) -> ConnKey {
        let first = ConnKey::new(self.next, 0);
        for n in 0..count {
            self.member(tenant, &format!("{room}-{n}"), room);
        }
        first
    }

    /// What the frame decoder hands to the shard.
    pub fn say(&mut self, conn: ConnKey, text: &str) {
        self.shard.handle(self.now, Input::Message { conn, message: Message::Text(text) }, &mut self.outputs);
    }

    pub fn hang_up(&mut self, conn: ConnKey) {
        self.shard.handle(self.now, Input::Hangup { conn, cause: Hangup::Failed }, &mut self.outputs);
    }

    pub fn writable(&mut self, conn: ConnKey) {
        self.shard.handle(self.now, Input::Writable { conn }, &mut self.outputs);
    }

    /// Ends the turn with sockets that take everything; the bytes written.
    pub fn end_turn(&mut self) -> usize {
        self.end_turn_taking(|_, pending| pending.len())
    }

    /// Ends the turn: `take` is the socket, and says how many of the bytes it takes.
    pub fn end_turn_taking(&mut self, mut take: impl FnMut(ConnKey, &[u8]) -> usize) -> usize {
        self.shard.end_turn(self.now, &mut self.outputs);
        let mut bytes = 0;
        while let Some(conn) = self.shard.next_dirty() {
            let pending = self.shard.pending(conn);
            let taken = take(conn, std::hint::black_box(pending));
            if let Some((_, heard)) = self.heard.iter_mut().find(|(listening, _)| *listening == conn) {
                heard.clear();
                heard.extend_from_slice(pending);
            }
            bytes += taken;
            self.shard.wrote(self.now, conn, taken, &mut self.outputs);
        }
        self.outputs.clear();
        bytes
    }

    /// Keeps what is last written to `conn`.
    pub fn listen(&mut self, conn: ConnKey) {
        self.heard.push((conn, Vec::new()));
    }

    /// What was last written to `conn`, as text, frame headers and all.
    pub fn heard(&self, conn: ConnKey) -> String {
        let heard = self.heard.iter().find(|(listening, _)| *listening == conn);
        heard.map_or(String::new(), |(_, bytes)| String::from_utf8_lossy(bytes).into_owned())
    }
}

/// `42["publish",...]` of 100 bytes of data.
pub fn publish(room: &str, ephemeral: bool) -> String {
    let data = format!("{{\"text\":\"{}\"}}", "x".repeat(100 - 11));
    let ephemeral = if ephemeral { ",\"ephemeral\":true" } else { "" };
    format!("42[\"publish\",{{\"room\":\"{room}\",\"type\":\"note\",\"data\":{data}{ephemeral}}}]")
}
