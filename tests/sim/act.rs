//! What clients and backends do of their own accord.

use crate::client::{Draft, Request};
use crate::model;
use crate::swarm::Act;
use crate::world::{API, Up, World};
use serde_json::{Value, json};
use tenantcast::base::id::TenantId;
use tenantcast::wire::api::{Call, Publish};

/// Every tenant has these; they are as many rooms as there are tenants.
pub const ROOMS: [&str; 6] = ["r0", "r1", "r2", "project:7", "f0", "aud"];
pub const TYPES: [&str; 3] = ["note", "paid", "chat"];
pub const ROLES: [&str; 2] = ["reader", "editor"];

/// A backend's request under way.
pub enum Api {
    Publish {
        tenant: usize,
        room: String,
        nonce: u64,
    },
    Ask {
        tenant: usize,
    },
    Kick,
    /// Somebody waits for the answer itself.
    Kept,
}

/// Members of this room want one type of event.
pub fn filter_of(room: &str) -> Option<&'static str> {
    (room == "f0").then_some("note")
}

impl World {
    /// A client's time has come.
    pub fn client_turn(&mut self, c: usize) {
        let client = &self.clients[c];
        if client.gone {
            return;
        }
        if client.main.is_none() && client.poll.is_none() {
            return self.begin(c);
        }
        if !client.live {
            return self.lost(c);
        }
        if self.calm {
            self.catch_up(c);
            return self.wake_client(c, 1000);
        }
        let upgrades = self.clients[c].poll.is_some() && self.acting.below(100) < self.swarm.upgrades;
        if upgrades {
            self.start_probe(c);
        }
        self.act(c);
        if self.clients[c].live {
            let after = 1 + self.acting.below(2 * self.swarm.act_every_ms);
            self.wake_client(c, after);
        }
    }

    /// Asks again for what was never answered.
    pub fn catch_up(&mut self, c: usize) {
        let client = &self.clients[c];
        let unsure: Vec<String> = client
            .rooms
            .iter()
            .filter(|(room, seat)| !seat.certain && !crate::client::is_automatic(room))
            .map(|(room, _)| room.clone())
            .collect();
        if client.pending.is_empty() {
            for room in unsure {
                self.subscribe(c, room, None);
            }
        }
    }

    pub fn subscribe(&mut self, c: usize, room: String, since: Option<(String, u64)>) {
        let filter = filter_of(&room);
        let seat = self.clients[c].rooms.entry(room.clone()).or_default();
        seat.filter = filter;
        let mut argument = json!({ "rooms": [room] });
        if let Some(filter) = filter {
            argument["eventTypes"] = json!([filter]);
        }
        if let Some((epoch, offset)) = &since {
            argument["since"] = json!({ "epoch": epoch, "offset": offset });
        }
        self.emit(c, "subscribe", &argument, Request::Subscribe { room, since: since.is_some() });
    }

    fn draft(&mut self, tenant: usize, room: String, role: Option<&'static str>, ephemeral: bool) -> Draft {
        let event = TYPES[self.acting.below(3) as usize];
        let nonce = self.model.draft(model::Draft { tenant, room: room.clone(), event, role, ephemeral });
        let pad = "x".repeat(self.acting.below(self.swarm.pad_bytes + 1) as usize);
        let id = (self.acting.below(2) == 0).then(|| format!("id-{nonce}"));
        let data = match ephemeral && self.acting.below(2) == 0 {
            true => json!(format!("t{tenant}|{nonce}|{pad}")).to_string(),
            false => json!({ "t": format!("t{tenant}"), "n": nonce, "pad": pad }).to_string(),
        };
        Draft { id, room, event, data, nonce, ephemeral }
    }

    pub fn publish(&mut self, c: usize, draft: Draft) {
        let data: Value = serde_json::from_str(&draft.data).expect("made above");
        let mut argument = json!({ "room": draft.room, "type": draft.event, "data": data });
        if draft.ephemeral {
            argument["ephemeral"] = json!(true);
        }
        if let Some(id) = &draft.id {
            argument["id"] = json!(id);
        }
        let request = Request::Publish { id: draft.id.clone(), room: draft.room.clone(), nonce: draft.nonce };
        self.emit(c, "publish", &argument, request);
        if draft.id.is_some() && !draft.ephemeral {
            self.clients[c].drafts.insert(draft.nonce, draft);
        }
    }

    fn some_room(&mut self, c: usize) -> String {
        let tenant = self.clients[c].tenant;
        match self.acting.below(8) {
            7 => format!("tenant:t{tenant}"),
            6 => format!("user:{}", self.clients[c].user),
            n => ROOMS[n as usize].to_owned(),
        }
    }

    fn act(&mut self, c: usize) {
        let total = self.swarm.acts.iter().map(|(_, weight)| weight).sum();
        let mut at = self.acting.below(total);
        let chosen = self.swarm.acts.iter().find(|(_, weight)| {
            let here = at < *weight;
            at = at.saturating_sub(*weight);
            here
        });
        let act = chosen.map_or(Act::Publish, |(act, _)| *act);
        let reads_only = self.clients[c].kind == Some(crate::client::Kind::Events);
        if reads_only && !matches!(act, Act::Leave | Act::ApiPublish | Act::ApiKick | Act::ApiAsk) {
            return;
        }
        let (tenant, user) = (self.clients[c].tenant, self.clients[c].user.clone());
        match act {
            Act::Publish | Act::PublishUnnamed | Act::PublishEphemeral => {
                // A role is only asked for by backends.
                let room = self.some_room(c);
                let mut draft = self.draft(tenant, room, None, act == Act::PublishEphemeral);
                if act == Act::PublishUnnamed {
                    draft.id = None;
                }
                let twice = draft.id.is_some() && !draft.ephemeral && self.acting.below(6) == 0;
                self.publish(c, draft.clone());
                if twice {
                    self.publish(c, draft);
                }
            }
            Act::Subscribe => {
                let room = ROOMS[self.acting.below(6) as usize].to_owned();
                self.subscribe(c, room, None);
            }
            Act::Unsubscribe => {
                let room = ROOMS[self.acting.below(6) as usize].to_owned();
                if let Some(seat) = self.clients[c].rooms.get_mut(&room) {
                    // Its last events may come until it is answered.
                    seat.certain = false;
                    self.emit(c, "unsubscribe", &json!({ "rooms": [room] }), Request::Unsubscribe { room });
                }
            }
            Act::History => {
                let room = ROOMS[self.acting.below(6) as usize];
                self.emit(c, "history", &json!({ "room": room, "limit": 20 }), Request::History);
            }
            Act::Presence => {
                let room = ROOMS[self.acting.below(6) as usize].to_owned();
                let asked = match self.acting.below(3) {
                    0 => json!({ "users": [self.clients[c].user, user, "nobody"] }),
                    _ => json!({ "room": room }),
                };
                self.emit(c, "presence", &asked, Request::Presence);
            }
            Act::Status if self.acting.below(4) == 0 => {
                let state = ["available", "busy", "offline", "auto", "nonsense"][self.acting.below(5) as usize];
                self.emit(c, "availability", &json!({ "status": state }), Request::Other);
            }
            Act::Status => {
                let hidden = if self.swarm.kinds[3] == 0 { 4 } else { 3 };
                let status = ["online", "away", "busy", "offline"][self.acting.below(hidden) as usize];
                self.emit(c, "status", &json!({ "status": status }), Request::Other);
            }
            Act::Typing => {
                let room = ROOMS[self.acting.below(6) as usize];
                let event = ["typing:start", "typing:start", "typing:stop"][self.acting.below(3) as usize];
                self.emit(c, event, &json!({ "room": room }), Request::Other);
            }
            Act::Garbage => {
                let texts = [
                    "",
                    "4",
                    "42",
                    "42[",
                    "42[\"publish\"",
                    "4252-[\"x\"]",
                    "{}",
                    "\u{1e}",
                    "9",
                    "42[\"nope\",1]",
                    "bx",
                    "42/nowhere,[\"a\"]",
                    "45",
                ];
                match texts.get(self.acting.below(texts.len() as u64 + 2) as usize) {
                    Some(text) => self.say(c, (*text).to_owned()),
                    // Of no packet, or less than the packet wants.
                    None if self.acting.below(2) == 0 => self.say_binary(c, b"stray".to_vec()),
                    None => self.say(c, "451-[\"nope\",{\"_placeholder\":true,\"num\":0}]".to_owned()),
                }
            }
            Act::Flood => {
                for _ in 0..self.acting.below(3 * u64::from(self.swarm.events_burst)) {
                    self.emit(c, "presence", &json!({ "room": "r0" }), Request::Presence);
                }
            }
            Act::Renew => {
                let token = self.token(c, true);
                self.emit(c, "authenticate", &json!(token), Request::Renew);
            }
            Act::Mirror => {
                let parts = (0..self.acting.below(4)).map(|_| self.acting.below(1 + self.swarm.pad_bytes) as usize);
                let parts = parts.map(|bytes| vec![0xa5; bytes]).collect::<Vec<_>>();
                self.mirror(c, parts);
            }
            Act::Document => self.act_on_document(c),
            Act::Announce => self.announce(),
            Act::Leave => {
                match self.acting.below(3) {
                    0 if self.clients[c].kind != Some(crate::client::Kind::Plain) => self.say(c, "1".into()),
                    1 if self.clients[c].kind != Some(crate::client::Kind::Plain) => self.say(c, "41".into()),
                    _ => {}
                }
                // What it has said is on its way before it hangs up; a half-sent post may be lost with it.
                self.lost(c);
            }
            Act::ApiPublish => {
                let mut room = self.some_room(c);
                if room.starts_with("user:") && self.acting.below(2) == 0 {
                    room = format!("user:{}", crate::away::absent(tenant));
                }
                let role = (room == "aud" && self.acting.below(2) == 0).then(|| ROLES[self.acting.below(2) as usize]);
                let draft = self.draft(tenant, room.clone(), role, false);
                let event = Publish {
                    id: draft.id.as_deref().map(Into::into),
                    event: draft.event.into(),
                    room: Some(draft.room.as_str().into()),
                    data: draft.data.as_str().into(),
                    to_roles: role.into_iter().map(Into::into).collect(),
                    ..Publish::default()
                };
                self.call(tenant, Call::Publish(vec![event]), Api::Publish { tenant, room, nonce: draft.nonce });
            }
            Act::ApiKick => drop(self.call(tenant, Call::Kick { user: user.into() }, Api::Kick)),
            Act::ApiAsk => {
                let room = ROOMS[self.acting.below(6) as usize].into();
                let call = match self.acting.below(5) {
                    0 => Call::Rooms,
                    1 => Call::History { room, since: None, limit: 50 },
                    2 => Call::Presence { room },
                    3 => Call::User { user: user.into() },
                    _ => Call::Stats,
                };
                self.call(tenant, call, Api::Ask { tenant });
            }
        }
    }

    /// A backend asks some shard; which one is chance.
    pub fn call(&mut self, tenant: usize, call: Call, api: Api) -> usize {
        let conn = self.dial(API);
        let tenant = TenantId::parse(&format!("t{tenant}")).expect("a plain name");
        self.api.insert(conn, api);
        self.send(conn, Up::Call(tenant, Box::new(call)));
        conn
    }

    pub fn api_answered(&mut self, conn: usize, status: u16, body: Vec<u8>) {
        self.hang_up(conn);
        let Some(api) = self.api.remove(&conn) else { return self.fail("a backend was answered twice") };
        let text = String::from_utf8_lossy(&body).into_owned();
        if status == 503 && !matches!(api, Api::Kept) {
            return;
        }
        match api {
            Api::Publish { tenant, room, nonce } => {
                let Ok(Value::Array(list)) = serde_json::from_str(&text) else {
                    return self.fail(format!("{status}: {text}"));
                };
                let (id, epoch, offset) =
                    (list[0]["id"].as_str(), list[0]["epoch"].as_str(), list[0]["offset"].as_u64());
                let (Some(id), Some(epoch), Some(offset), 202) = (id, epoch, offset, status) else {
                    return self.fail(format!("{status}: {text}"));
                };
                let spot = model::Spot { tenant, room, epoch: epoch.to_owned(), offset };
                self.model.acknowledged += 1;
                self.told(&spot, nonce);
                let saw = self.model.saw(self.now.at.0, spot, id, Some(nonce));
                self.check(saw);
            }
            Api::Ask { tenant } => self.only_of(tenant, &text),
            Api::Kick => {}
            Api::Kept => {
                self.answers.insert(conn, (status, body));
            }
        }
    }

    /// No text may name another tenant: all names and all data say whose they are.
    pub fn only_of(&mut self, tenant: usize, text: &str) {
        for other in (0..self.swarm.tenants).filter(|other| *other != tenant) {
            if [format!("\"t{other}\""), format!("\"t{other}."), format!("tenant:t{other}\""), format!("\"t{other}|")]
                .iter()
                .any(|name| text.contains(name))
            {
                return self.fail(format!("tenant {tenant} was told of tenant {other}: {text}"));
            }
        }
    }
}
