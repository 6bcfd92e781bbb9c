//! Two shards fed with whatever comes to mind: inputs for connections that are not there, ids of chance, packets that are none.

use crate::mutate::{mutate, pick};
use crate::rounds;
use smallvec::SmallVec;
use tenantcast::base::chance::Chance;
use tenantcast::base::id::{ConnKey, NodeId, ReplyTo, ShardId, Sid, TenantId};
use tenantcast::base::slab::Key;
use tenantcast::base::time::{Duration, Instant, Now, UnixMs};
use tenantcast::shard::io::{Announcement, Hangup, Input, Message, Open, Output, Parcel, Wire};
use tenantcast::shard::offline::{Acknowledge, OfflineRule};
use tenantcast::shard::transit::Transit;
use tenantcast::shard::{Auth, Settings, Shard, default_app};
use tenantcast::wire::api::{Ack, Call, Publish};
use tenantcast::wire::auth::{Keys, Mint, Pattern, Policy, mint};

struct Rig {
    chance: Chance,
    shards: Vec<Shard>,
    now: Now,
    opened: u32,
    outputs: Vec<(usize, Output)>,
    tokens: Vec<String>,
    sids: Vec<Sid>,
    parted: Vec<(ShardId, Box<Transit>, SmallVec<[ConnKey; 2]>)>,
}

impl Rig {
    fn new(seed: u8) -> Rig {
        let keys = Keys::from_secret(b"0123456789abcdef0123456789abcdef").unwrap();
        let now = Now { at: Instant(1_000_000), unix: UnixMs(1_700_000_000_000) };
        let mut tokens = vec![String::new(), "a.b.c".to_owned()];
        for n in 0..6 {
            let (tenant, user) = (format!("t{}", n % 3), format!("u{n}"));
            let claims = Mint {
                tenant: &tenant,
                user: &user,
                permissions: &["publish".to_owned()],
                ttl: (n < 5).then_some(Duration::from_secs(50 * n)),
                ..Mint::default()
            };
            tokens.push(mint(&claims, &keys, &Policy::default(), now.unix).unwrap());
        }
        let shards = (0..2)
            .map(|n| {
                let mut settings = Settings {
                    shard: ShardId(n),
                    shards: 2,
                    auth: Some(Auth { keys: keys.clone(), policy: Policy::default() }),
                    ..Settings::new()
                };
                settings.limits.outbox_bytes = 20_000;
                settings.offline.ttl = Duration::from_secs(600);
                settings.offline.per_user = 5;
                let modes = [Acknowledge::Received, Acknowledge::Asked, Acknowledge::Delivered];
                let types = Pattern::parse("*").unwrap();
                let acknowledge = modes[usize::from(seed % 3)];
                settings.offline.rules = vec![OfflineRule { types: types.clone(), acknowledge }];
                settings.receipts.types = vec![types];
                settings.receipts.ttl = Duration::from_secs(600);
                Shard::new(settings, default_app(["/", "/chat"]), [seed ^ n; 32])
            })
            .collect();
        Rig {
            chance: Chance::new([seed; 32]),
            shards,
            now,
            opened: 0,
            outputs: Vec::new(),
            tokens,
            sids: Vec::new(),
            parted: Vec::new(),
        }
    }

    fn conn(&mut self) -> ConnKey {
        let newest = self.opened.saturating_sub(self.chance.below(40) as u32);
        ConnKey::new(newest, u32::from(self.chance.below(20) == 0))
    }

    fn sid(&mut self) -> Sid {
        match self.chance.below(4) {
            0 => Sid::new(NodeId(self.chance.below(2) as u16), ShardId(self.chance.below(3) as u8), &mut self.chance),
            n => self
                .sids
                .get((n * 1000) as usize % self.sids.len().max(1))
                .copied()
                .unwrap_or_else(|| Sid::new(NodeId(0), ShardId(0), &mut self.chance)),
        }
    }

    fn text(&mut self) -> String {
        let token = self.tokens[self.chance.below(self.tokens.len() as u64) as usize].clone();
        let connect = format!("40{{\"token\":\"{token}\",\"pid\":\"AAAAAAAAAAAAAAAAAAAA\"}}");
        let corpus: &[&str] = &[
            &connect,
            "40/chat,",
            "421[\"subscribe\",{\"rooms\":[\"r\",\"s\"],\"eventTypes\":[\"n*\"],\"since\":{\"epoch\":\"a\",\"offset\":0}}]",
            "422[\"unsubscribe\",{\"rooms\":[\"r\"]}]",
            "423[\"publish\",{\"room\":\"r\",\"type\":\"note\",\"data\":\"x\",\"id\":\"1\"}]",
            "424[\"history\",{\"room\":\"r\",\"limit\":0}]",
            "42/chat,5[\"presence\",{\"room\":\"r\"}]",
            "42[\"typing:start\",{\"room\":\"r\"}]",
            "426[\"status\",{\"status\":\"offline\"}]",
            "427[\"document:open\",{\"document\":\"d\",\"version\":1,\"fields\":{\"a\":1}}]",
            "428[\"document:update\",{\"document\":\"d\",\"baseVersion\":1,\"fields\":{\"a\":2,\"b\":[1]},\"timestamp\":1}]",
            "429[\"document:update\",{\"document\":\"d\",\"baseVersion\":0,\"fields\":{\"a\":3},\"timestamp\":\"2023-11-14T22:13:20Z\"}]",
            "42[\"conflict:resolve\",{\"document\":\"d\",\"baseVersion\":2,\"fields\":{\"a\":4}}]",
            "42/chat,[\"document:get\",{\"document\":\"d\"}]",
            "427[\"publish\",{\"room\":\"user:u1\",\"type\":\"n\",\"id\":\"2\",\"ack\":{\"timeoutMs\":100}}]",
            "427[\"publish\",{\"room\":\"user:u2\",\"type\":\"n\",\"data\":2}]",
            "428[\"received\",{\"ids\":[\"1\",\"2\"]}]",
            "429[\"read\",{\"ids\":[\"2\",\"1\"]}]",
            "431000000001[]",
            "430[]",
            "451-[\"x\",{\"_placeholder\":true,\"num\":0}]",
            "{\"event\":\"subscribe\",\"data\":{\"rooms\":[\"r\"]},\"id\":1}",
            "2probe",
            "5",
            "3",
            "1",
            "41",
            "6",
        ];
        match self.chance.below(3) {
            0 => {
                let corpus: Vec<&[u8]> = corpus.iter().map(|text| text.as_bytes()).collect();
                String::from_utf8_lossy(&mutate(&mut self.chance, &corpus)).into_owned()
            }
            _ => pick(&mut self.chance, corpus).to_owned(),
        }
    }

    /// A request on a connection of its own: a data plane hands no key out twice.
    fn open(&mut self, shard: usize) -> Open {
        self.opened += 1;
        let conn = ConnKey::new(self.opened, 0);
        let sid = self.sid();
        let wires = [
            Wire::Polling,
            Wire::WebSocket,
            Wire::Probe(sid),
            Wire::Plain,
            Wire::Events,
            Wire::RawPolling,
            Wire::RawWebSocket,
            Wire::Bare,
        ];
        let wire = wires[self.chance.below(8) as usize];
        let token = self.tokens[self.chance.below(self.tokens.len() as u64) as usize].as_str().into();
        Open {
            from: ReplyTo { shard: ShardId(shard as u8), conn },
            wire,
            token: (self.chance.below(2) == 0).then_some(token),
            address: std::net::IpAddr::from([10, 0, 0, 1]),
            admission: None,
            hops: self.chance.below(2) as u8,
            crowded: self.chance.below(9) == 0,
            rooms: vec!["r".into(), "".into(), "user:x".into()],
            last_event_id: (self.chance.below(2) == 0).then(|| "1-2".into()),
        }
    }

    fn input(&mut self) {
        let mut shard = self.chance.below(2) as usize;
        let conn = self.conn();
        // A request comes on a connection that is nothing else.
        self.opened += 1;
        let from = ReplyTo { shard: ShardId(self.chance.below(2) as u8), conn: ConnKey::new(self.opened, 0) };
        let (sid, text) = (self.sid(), self.text());
        let (now, mut outputs) = (self.now, Vec::new());
        let binary = text.clone().into_bytes();
        let mut open = Box::new(self.open(shard));
        let tenant = TenantId::parse(["t0", "t1", "t2", "nobody"][self.chance.below(4) as usize]).unwrap();
        let room = || "r".into();
        let call = match self.chance.below(7) {
            0 => Call::Rooms,
            1 => Call::History { room: room(), since: Some(("zz".into(), 9)), limit: 3 },
            2 => Call::Presence { room: room() },
            3 => Call::User { user: "u1".into() },
            4 => Call::Kick { user: "u1".into() },
            5 => Call::Stats,
            _ => {
                let room = Some(["r", "user:u1", "user:u2"][self.chance.below(3) as usize].into());
                let ack = Ack::new(Some(100), None).filter(|_| self.chance.below(2) == 0);
                let event = Publish { event: "e".into(), data: "1".into(), room, ack, ..Publish::default() };
                Call::Publish(vec![event; 3])
            }
        };
        let call = Box::new(call);
        let input = match self.chance.below(16) {
            0 | 1 => Input::Open(open),
            2..=6 => Input::Message { conn, message: Message::Text(&text) },
            7 => Input::Message { conn, message: Message::Binary(&binary) },
            8 => Input::Message { conn, message: Message::Pong },
            9 => Input::Poll { from, sid },
            10 => Input::Post { from, sid, body: &text },
            11 => Input::Call { from, tenant, call },
            12 => {
                let cause = if self.chance.below(2) == 0 { Hangup::Broken } else { Hangup::Failed };
                Input::Hangup { conn, cause }
            }
            13 => Input::Writable { conn },
            14 => Input::Parcel(match self.chance.below(7) {
                0 => {
                    open.wire = Wire::Polling;
                    Parcel::Open(open)
                }
                1 => Parcel::Poll { from, sid },
                2 => Parcel::Post { from, sid, body: text.as_str().into() },
                3 => Parcel::Call { from, tenant, call },
                4 => Parcel::Abandon { from, sid },
                5 => Parcel::Release { from, sid },
                _ => Parcel::Forget { sid },
            }),
            _ => match self.parted.pop() {
                // With or without its connections.
                Some((to, transit, conns)) => {
                    shard = to.index();
                    let whole = matches!(*transit, Transit::Opening(_)) || self.chance.below(2) == 0;
                    Input::Arrive { transit, conns: if whole { conns } else { SmallVec::new() } }
                }
                None => Input::Announce(Announcement { event: "a".into(), data: "{}".into() }),
            },
        };
        self.shards[shard].handle(now, input, &mut outputs);
        self.settle(shard, outputs);
    }

    fn settle(&mut self, shard: usize, outputs: Vec<Output>) {
        self.outputs.extend(outputs.into_iter().map(|output| (shard, output)));
        if self.chance.below(3) == 0 {
            self.turn(0);
            self.turn(1);
        }
    }

    fn turn(&mut self, shard: usize) {
        let (now, mut outputs) = (self.now, Vec::new());
        self.shards[shard].end_turn(now, &mut outputs);
        while let Some(conn) = self.shards[shard].next_dirty() {
            let len = self.shards[shard].pending(conn).len();
            let take = if self.chance.below(4) == 0 { self.chance.below(len as u64 + 1) as usize } else { len };
            self.shards[shard].wrote(now, conn, take, &mut outputs);
        }
        self.shards[shard].end_writes(&mut outputs);
        let outputs =
            std::mem::take(&mut self.outputs).into_iter().chain(outputs.into_iter().map(|output| (shard, output)));
        for (from, output) in outputs.collect::<Vec<_>>() {
            match output {
                Output::Respond { response, .. } => {
                    let body = String::from_utf8_lossy(&response.body);
                    let sid = body.strip_prefix("0{\"sid\":\"").and_then(|rest| rest.get(..20)).and_then(Sid::parse);
                    self.sids.extend(sid);
                }
                Output::Handoff { to, transit, conns, .. } => self.parted.push((to, transit, conns)),
                Output::Send { to, parcel } => {
                    assert_ne!(to.index(), from, "nobody sends parcels to itself");
                    let mut outputs = Vec::new();
                    self.shards[to.index().min(1)].handle(self.now, Input::Parcel(parcel), &mut outputs);
                    self.outputs.extend(outputs.into_iter().map(|output| (to.index().min(1), output)));
                }
                Output::Upgrade { .. }
                | Output::Stream { .. }
                | Output::Close { .. }
                | Output::Refused { .. }
                | Output::Ask(_)
                | Output::Relay(_)
                | Output::ListenerFailed { .. }
                | Output::Release { .. } => {}
            }
        }
    }

    fn pass(&mut self, span: Duration) {
        let until = self.now.at + span;
        for shard in 0..2 {
            while let Some(at) = self.shards[shard].next_deadline().filter(|at| *at <= until) {
                self.now = self.now.later(at.since(self.now.at));
                let mut outputs = Vec::new();
                self.shards[shard].handle(self.now, Input::Tick, &mut outputs);
                self.settle(shard, outputs);
                self.turn(shard);
            }
        }
        self.now = self.now.later(until.since(self.now.at));
    }
}

#[test]
fn a_shard_survives_anything_and_forgets_it() {
    for seed in 0..rounds(12) {
        let mut rig = Rig::new(seed as u8);
        for n in 0..6_000 {
            rig.input();
            if n % 50 == 0 {
                let span = Duration::from_millis(rig.chance.below(3000));
                rig.pass(span);
            }
        }
        rig.turn(0);
        rig.turn(1);
        for index in 0..=rig.opened {
            for shard in 0..2 {
                let (now, mut outputs) = (rig.now, Vec::new());
                let conn = ConnKey::new(index, 0);
                rig.shards[shard].handle(now, Input::Hangup { conn, cause: Hangup::Closed }, &mut outputs);
                rig.settle(shard, outputs);
            }
        }
        rig.pass(Duration::from_secs(8000));
        for shard in 0..2 {
            let census = rig.shards[shard].census();
            // Sessions on the way may be lost here, which a data plane never lets happen silently: their ids stay.
            let left: Vec<_> = census.iter().filter(|(name, count)| *count != 0 && *name != "session ids").collect();
            assert!(left.is_empty() && rig.shards[shard].is_empty(), "seed {seed}, shard {shard}: {census:?}");
        }
    }
}
