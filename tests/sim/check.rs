//! What must hold of every packet a client gets, and of the world when it has come to rest.

use crate::act::{Api, TYPES};
use crate::client::{Client, Kind, Request};
use crate::model::{Skip, Spot};
use crate::parse::Packet;
use crate::tamper::Verdict;
use crate::world::World;
use serde_json::Value;
use std::collections::BTreeMap;
use tenantcast::base::id::Sid;
use tenantcast::base::time::Duration;
use tenantcast::wire::api::Call;

impl World {
    /// A packet on its way to a client; the harness may get at it first.
    pub fn packet(&mut self, c: usize, packet: Packet) {
        self.show(c, "hears", &packet);
        match self.tampered(c, packet) {
            Verdict::Pass(packets) => packets.into_iter().for_each(|(c, packet)| self.assemble(c, packet)),
            Verdict::Swallow => {}
        }
    }

    pub fn understand(&mut self, c: usize, packet: Packet) {
        let client = &mut self.clients[c];
        let nsp = match &packet {
            Packet::Connect { nsp, .. }
            | Packet::Disconnect { nsp }
            | Packet::Event { nsp, .. }
            | Packet::Ack { nsp, .. } => {
                if !client.admitted {
                    let name = client.name.clone();
                    return self.fail(format!("{name} has shown no token and gets {packet:?}"));
                }
                nsp
            }
            _ => client.nsp,
        };
        if nsp != client.nsp && nsp != "/nowhere" {
            return self.fail(format!("{packet:?} for {}", self.clients[c].nsp));
        }
        match packet {
            Packet::Open(open) => {
                let sid = open["sid"].as_str().filter(|sid| sid.len() == 20).and_then(Sid::parse);
                if sid.is_none() || client.sid.is_some() {
                    return self.fail(format!("a second or broken handshake: {open}"));
                }
                client.sid = sid;
                let early_probe = client.poll.is_some() && self.acting.below(200) < self.swarm.upgrades;
                self.connect(c);
                if early_probe {
                    self.start_probe(c);
                }
            }
            Packet::Close => self.lost(c),
            Packet::Ping => self.say(c, "3".into()),
            Packet::ProbePong => self.fail("the answer to a probe on a session's transport"),
            Packet::Noop => {}
            Packet::Connect { pid, .. } => self.connected_to(c, pid),
            Packet::ConnectError { data, .. } => {
                if data["message"].as_str().is_none() {
                    self.fail(format!("an error without a message: {data}"));
                }
                self.clients[c].refused += 1;
                self.lost(c);
            }
            Packet::Disconnect { .. } => self.lost(c),
            Packet::Event { name, args, .. } => {
                if !client.live && name != "connected" {
                    // The official client keeps what comes before CONNECT, and so does this one.
                    client.early.push((name, args));
                } else {
                    self.event(c, &name, &args);
                }
            }
            Packet::Ack { id, args, .. } => self.acked(c, id, args.first().unwrap_or(&Value::Null)),
            packet @ (Packet::Binary { .. } | Packet::Attachment(_)) => {
                self.fail(format!("put together before it comes here: {packet:?}"));
            }
        }
    }

    fn connected_to(&mut self, c: usize, pid: Option<String>) {
        let client = &mut self.clients[c];
        let recovered = pid.is_some() && client.pid == pid;
        client.pid = pid;
        self.live(c, recovered);
    }

    /// The session has begun, or goes on.
    fn live(&mut self, c: usize, recovered: bool) {
        let client = &mut self.clients[c];
        if client.live {
            return self.fail("a session began twice");
        }
        client.live = true;
        client.epoch += 1;
        // What it was told in an earlier session may not be all.
        client.documents.clear();
        client.heard = crate::roster::Heard::default();
        client.own = None;
        let early = std::mem::take(&mut client.early);
        if recovered {
            self.model.recovered += 1;
            for seat in client.rooms.values_mut().filter(|seat| !seat.certain) {
                seat.at = None;
            }
        } else {
            self.model.not_recovered += 1;
            client.rooms.values_mut().for_each(|seat| seat.certain = false);
            if early.iter().any(|(name, _)| TYPES.contains(&name.as_str())) {
                return self.fail(format!("not recovered, but given {early:?}"));
            }
        }
        for (name, args) in early {
            self.event(c, &name, &args);
        }
        let after = if self.calm { 100 } else { self.acting.below(2 * self.swarm.act_every_ms) };
        self.wake_client(c, after);
    }

    pub fn event(&mut self, c: usize, name: &str, args: &[Value]) {
        let client = &mut self.clients[c];
        if let (Some(Value::String(last)), Some(_)) = (args.last(), &client.pid) {
            client.last = Some(last.clone());
        }
        let (tenant, null) = (client.tenant, Value::Null);
        let data = args.first().unwrap_or(&null);
        let ours = |user: &Value| user.as_str().is_some_and(|user| user.starts_with(&format!("t{tenant}.")));
        match name {
            "connected" => self.greeted(c, data),
            "typing:start" | "typing:stop" if ours(&data["user"]) => {
                if !data["room"].as_str().is_some_and(|room| client.rooms.contains_key(room)) {
                    self.fail(format!("typing in a room it is not in: {data}"));
                }
            }
            "session:expiring" => {
                let at = data["expiresAt"].as_str().map(str::to_owned);
                if at.is_none() || client.expiring == at {
                    return self.fail(format!("told twice: {data}"));
                }
                client.expiring = at;
                if self.acting.below(3) > 0 || self.calm {
                    let token = self.token(c, true);
                    self.emit(c, "authenticate", &Value::String(token), Request::Renew);
                }
            }
            "error" if data["code"].is_string() => {}
            "announced" => {
                let number = data["n"].as_u64().filter(|number| (1..=self.model.announced).contains(number));
                if number.is_none_or(|number| !client.announced.insert(number)) {
                    self.fail(format!("{} gets an announcement nobody made, or twice: {data}", self.clients[c].name));
                }
            }
            "document:updated" => self.document_updated(c, data),
            "document:conflict" | "conflict:resolved" => self.document_disputed(c, data),
            "server:draining" if data["reconnectAfterMs"].is_number() => {}
            _ if TYPES.contains(&name) => self.published(c, name, args),
            _ if self.told_of_users(c, name, data) => {}
            _ => self.fail(format!("{} gets {name} {args:?}", self.clients[c].name)),
        }
    }

    fn greeted(&mut self, c: usize, data: &Value) {
        let client = &mut self.clients[c];
        let tenant = client.tenant;
        let told = data["recovered"].as_bool();
        if !client.live {
            if client.kind == Some(Kind::Events) && told == Some(true) {
                self.live(c, true);
            } else {
                self.live(c, false);
            }
        }
        let client = &mut self.clients[c];
        if data["tenant"] != format!("t{tenant}") || data["user"] != client.user {
            return self.fail(format!("another's greeting: {data}"));
        }
        let room = format!("tenant:t{tenant}");
        let here = data["epoch"].as_str().map(str::to_owned).zip(data["offset"].as_u64());
        let seat = client.rooms.entry(room.clone()).or_default();
        if told == Some(true) && seat.certain && seat.at.is_some() && seat.at != here {
            let what = format!("{} recovered {room} to {:?}, its top is {here:?}", client.name, seat.at);
            return self.fail(what);
        }
        (seat.at, seat.certain) = (here, true);
        let own = format!("user:{}", client.user);
        let seat = client.rooms.entry(own).or_default();
        if told == Some(false) {
            seat.at = None;
        }
        seat.certain = true;
        // It may have been asked for between CONNECT and this greeting.
        let asked: Vec<String> = client
            .pending
            .values()
            .filter_map(|request| match request {
                Request::Subscribe { room, .. } => Some(room.clone()),
                _ => None,
            })
            .collect();
        let again: Vec<(String, Option<(String, u64)>)> = client
            .rooms
            .iter_mut()
            .filter(|(room, seat)| !seat.certain && !asked.contains(*room))
            // Where the session goes on, it may be in the room already.
            .map(|(room, seat)| (room.clone(), seat.at.clone().filter(|_| told != Some(true))))
            .collect();
        if client.kind == Some(Kind::Events) {
            for seat in client.rooms.values_mut().filter(|seat| !seat.certain) {
                (seat.at, seat.certain) = (None, true);
            }
            return;
        }
        for (room, at) in again {
            self.subscribe(c, room, at);
        }
        for draft in std::mem::take(&mut self.clients[c].drafts).into_values() {
            self.publish(c, draft);
        }
    }

    /// An event under its own type: durable with an envelope, ephemeral without.
    fn published(&mut self, c: usize, name: &str, args: &[Value]) {
        self.model.delivered += 1;
        let client = &self.clients[c];
        let (tenant, who) = (client.tenant, client.name.clone());
        let data = &args[0];
        let (of, nonce) = match data.as_str().map(|text| text.split('|').collect::<Vec<_>>()) {
            Some(parts) => (parts[0].to_owned(), parts.get(1).and_then(|nonce| nonce.parse().ok())),
            None => (data["t"].as_str().unwrap_or("").to_owned(), data["n"].as_u64()),
        };
        let (true, Some(nonce)) = (of == format!("t{tenant}"), nonce) else {
            return self.fail(format!("{who} of tenant {tenant} gets {name} {args:?}"));
        };
        let Some(draft) = self.model.drafts.get(&nonce).cloned() else { return self.fail("nobody said that") };
        let Some(seat) = self.clients[c].rooms.get(&draft.room).cloned() else {
            return self.fail(format!("{who} gets {name} of {}, which it is not in", draft.room));
        };
        if draft.event != name || !self.model.admits(nonce, seat.filter.filter(|_| seat.certain), self.clients[c].role)
        {
            return self.fail(format!("{who} gets {name} {nonce}, which is not for it: {draft:?}, {seat:?}"));
        }
        let meta = args.get(1).filter(|meta| meta.is_object());
        let Some(meta) = meta else {
            if !draft.ephemeral {
                return self.fail(format!("{who} gets a durable event without its envelope: {args:?}"));
            }
            if !self.clients[c].fleeting.insert(nonce) {
                self.fail(format!("{who} gets the ephemeral event {nonce} twice"));
            }
            return;
        };
        let (Some(id), Some(epoch), Some(offset)) =
            (meta["id"].as_str(), meta["epoch"].as_str(), meta["offset"].as_u64())
        else {
            return self.fail(format!("an envelope without place: {meta}"));
        };
        if meta["room"] != draft.room || meta["type"] != name {
            return self.fail(format!("{nonce} was published in {}: {meta}", draft.room));
        }
        let spot = Spot { tenant, room: draft.room.clone(), epoch: epoch.to_owned(), offset };
        let saw = self.model.saw(self.now.at.0, spot.clone(), id, Some(nonce));
        self.check(saw);
        let queued = meta["queued"] == true;
        self.came_to_its_own(c, &spot, id, nonce, queued);
        // What has waited says nothing of the place it goes on from.
        if !queued {
            self.moved_on(c, spot, false);
        }
    }

    /// A client has read to a place in a room (or, with `told`, was told that this is its top).
    fn moved_on(&mut self, c: usize, spot: Spot, told: bool) {
        let client = &mut self.clients[c];
        let (who, role) = (client.name.clone(), client.role);
        let replaying = client
            .pending
            .values()
            .any(|request| matches!(request, Request::Subscribe { room, since: true } if *room == spot.room));
        let Some(seat) = client.rooms.get_mut(&spot.room) else { return };
        let before = seat.at.replace((spot.epoch.clone(), spot.offset));
        let Some((epoch, offset)) = before.filter(|_| seat.certain || replaying) else { return };
        if epoch != spot.epoch {
            return self.fail(format!("{who} was at {epoch} {offset}, and is at {spot:?}"));
        }
        let next = if told { offset } else { offset + 1 };
        let picks = seat.filter.is_some() || spot.room == "aud";
        let filter = seat.filter;
        if spot.offset < next || (spot.offset > next && !picks) {
            return self.fail(format!("{who} has read to {offset} and is at {spot:?}"));
        }
        let missing = if told { next + 1..spot.offset + 1 } else { next..spot.offset };
        for offset in missing {
            self.model.skips.push(Skip { client: who.clone(), spot: Spot { offset, ..spot.clone() }, filter, role });
        }
    }

    fn acked(&mut self, c: usize, id: u64, answer: &Value) {
        let tenant = self.clients[c].tenant;
        let Some(request) = self.clients[c].pending.remove(&id) else {
            return self.fail(format!("{} never asked {id}, or was answered already: {answer}", self.clients[c].name));
        };
        let Some(ok) = answer["ok"].as_bool() else { return self.fail(format!("no answer: {answer}")) };
        self.only_of(tenant, &answer.to_string());
        let place = answer["epoch"].as_str().map(str::to_owned).zip(answer["offset"].as_u64());
        match request {
            Request::Subscribe { room, since } if ok => self.subscribed(c, room, since, answer, place),
            Request::Unsubscribe { room } if ok => {
                // A subscription that was asked for meanwhile is answered later.
                let again = self.clients[c]
                    .pending
                    .values()
                    .any(|request| matches!(request, Request::Subscribe { room: other, .. } if *other == room));
                if !again {
                    self.clients[c].rooms.remove(&room);
                }
                self.clients[c].heard.rooms.retain(|(of, _), _| *of != room);
            }
            Request::Publish { nonce, room, id, .. } => {
                self.clients[c].drafts.remove(&nonce);
                let (true, Some((epoch, offset))) = (ok, place) else { return };
                let given = answer["id"].as_str().unwrap_or("").to_owned();
                if id.is_some_and(|id| id != given) {
                    return self.fail(format!("published under another id: {answer}"));
                }
                self.model.acknowledged += 1;
                let spot = Spot { tenant, room: room.clone(), epoch: epoch.clone(), offset };
                let saw = self.model.saw(self.now.at.0, spot, &given, Some(nonce));
                self.check(saw);
                let Some(seat) = self.clients[c].rooms.get(&room) else { return };
                if seat.certain
                    && seat.filter.is_none()
                    && room != "aud"
                    && let Some((at_epoch, at)) = &seat.at
                    && (*at_epoch != epoch || *at < offset)
                {
                    self.fail(format!("{} published {offset} in {room} and has read to {at}", self.clients[c].name));
                }
            }
            Request::History if ok => {
                let mut last = 0;
                for event in answer["events"].as_array().into_iter().flatten() {
                    let offset = event["offset"].as_u64().unwrap_or(0);
                    if offset <= last || event["data"]["t"] != format!("t{tenant}") {
                        return self.fail(format!("a broken history: {answer}"));
                    }
                    last = offset;
                }
            }
            Request::Open { document } if ok => self.document_opened(c, document, answer),
            request @ Request::Write { .. } => self.document_written(c, request, answer),
            Request::Received { id } if ok => self.acknowledged(c, id),
            // The same expiry again is another token's.
            Request::Renew if ok => self.clients[c].expiring = None,
            _ => {}
        }
    }

    fn subscribed(&mut self, c: usize, room: String, since: bool, answer: &Value, place: Option<(String, u64)>) {
        let joined = answer["rooms"].as_array().is_some_and(|rooms| rooms.iter().any(|name| *name == room));
        let Some((epoch, offset)) = place.filter(|_| joined) else {
            return self.fail(format!("not subscribed to {room}: {answer}"));
        };
        let tenant = self.clients[c].tenant;
        let leaving = self.clients[c]
            .pending
            .values()
            .any(|request| matches!(request, Request::Unsubscribe { room: other } if *other == room));
        let Some(seat) = self.clients[c].rooms.get_mut(&room) else { return };
        let spot = Spot { tenant, room: room.clone(), epoch: epoch.clone(), offset };
        let recovered = answer["recovered"].as_bool();
        if since && recovered.is_none() {
            return self.fail(format!("asked since, and not told: {answer}"));
        }
        if since && recovered == Some(true) && !seat.certain && seat.at.is_some() {
            seat.certain = true;
            self.moved_on(c, spot, true);
        } else if seat.certain && seat.at.is_some() {
            self.moved_on(c, spot, true);
        } else {
            seat.at = Some((epoch, offset));
        }
        if let Some(seat) = self.clients[c].rooms.get_mut(&room) {
            seat.certain = !leaving;
        }
    }

    /// Faults are over and time has passed: everybody is there, is seen to be there, and has read to the top.
    pub fn check_rest(&mut self) {
        for c in 0..self.clients.len() {
            let client = &self.clients[c];
            let may_fail = client.hostile || (self.swarm.per_user > 0 && self.swarm.per_user < 50);
            if !may_fail
                && (!client.live || !client.pending.is_empty() || client.rooms.values().any(|seat| !seat.certain))
            {
                let (sid, main, polling) = (client.sid, client.main, client.poll.is_some());
                let what = format!(
                    "{} ({:?}) is not at rest: live {}, {sid:?}, main {main:?}, polling {polling}, asks {:?}, {:?}",
                    client.name, client.kind, client.live, client.pending, client.rooms
                );
                return self.fail(what);
            }
        }
        self.check_documents();
        self.check_announcement();
        for tenant in 0..self.swarm.tenants {
            let mut rooms: Vec<String> = crate::act::ROOMS.map(str::to_owned).to_vec();
            rooms.push(format!("tenant:t{tenant}"));
            for room in rooms {
                let presence = self.ask(tenant, Call::Presence { room: room.as_str().into() });
                let history = self.ask(tenant, Call::History { room: room.as_str().into(), since: None, limit: 1 });
                let mut there: BTreeMap<String, u64> = BTreeMap::new();
                for member in presence["members"].as_array().into_iter().flatten() {
                    there.insert(
                        member["user"].as_str().unwrap_or("").into(),
                        member["connections"].as_u64().unwrap_or(0),
                    );
                }
                let mut expected: BTreeMap<String, u64> = BTreeMap::new();
                for client in self
                    .clients
                    .iter()
                    .filter(|client| client.live && client.tenant == tenant && client.rooms.contains_key(&room))
                {
                    *expected.entry(client.user.clone()).or_default() += 1;
                }
                if there != expected {
                    let missing: Vec<_> = self
                        .clients
                        .iter()
                        .filter(|client| client.live && client.tenant == tenant && client.rooms.contains_key(&room))
                        .filter(|client| there.get(&client.user) != expected.get(&client.user))
                        .map(|client| format!("{} {:?} {:?}", client.name, client.kind, client.main))
                        .collect();
                    return self.fail(format!("presence in {room} of {tenant} differs for {missing:?}: {there:?}"));
                }
                let (Some(epoch), Some(offset)) = (history["epoch"].as_str(), history["offset"].as_u64()) else {
                    continue;
                };
                for c in 0..self.clients.len() {
                    let client = &self.clients[c];
                    if client.live
                        && client.tenant == tenant
                        && client.rooms.get(&room).is_some_and(|seat| seat.at.is_some())
                    {
                        let spot = Spot { tenant, room: room.clone(), epoch: epoch.to_owned(), offset };
                        self.moved_on(c, spot, true);
                    }
                }
            }
        }
        let skips = self.model.check_skips();
        self.check(skips);
    }

    /// What is announced now reaches everybody who stays.
    fn check_announcement(&mut self) {
        let here = |client: &Client| (client.live, client.sid, client.main, client.epoch);
        let before: Vec<_> = self.clients.iter().map(here).collect();
        self.announce();
        self.run(Duration::from_secs(3));
        for (client, before) in self.clients.iter().zip(before) {
            if client.live && here(client) == before && !client.announced.contains(&self.model.announced) {
                let what = format!("{} was there and never got announcement {}", client.name, self.model.announced);
                return self.fail(what);
            }
        }
    }

    fn ask(&mut self, tenant: usize, call: Call) -> Value {
        let conn = self.call(tenant, call, Api::Kept);
        self.run(Duration::from_secs(3));
        let Some((200, body)) = self.answers.remove(&conn) else {
            self.fail("a backend was not answered");
            return Value::Null;
        };
        serde_json::from_slice(&body).unwrap_or(Value::Null)
    }
}
