//! `/ws` and `/events`: one socket in the namespace `/` each, in other frames than Socket.IO's.

use super::Role;
use super::Shard;
use super::app::Args;
use super::count::Count;
use super::encode;
use super::history::Position;
use super::io::{Open, Output, Wire};
use super::namespace::{Comeback, member};
use super::outbox::Frame;
use super::refusal::Refusal;
use super::room::{Variant, slot};
use super::session::{End, Kind, SessionKey, Transport};
use crate::wire::{
    auth::{Admission, Reject},
    close::Close,
    http::Response,
    json,
};

impl Shard {
    pub(super) fn open_plain(&mut self, open: Open, early: Option<Result<Admission, Reject>>) {
        let conn = open.from.conn;
        let websocket = open.wire == Wire::Plain;
        let (kind, transport, variant) = match websocket {
            true => (Kind::Plain, Transport::WebSocket(conn), encode::PLAIN),
            false => (Kind::Events, Transport::Stream(conn), encode::EVENTS),
        };
        let admission = match (early, &self.settings.auth) {
            (Some(Ok(admission)), _) => Ok(admission),
            (Some(Err(reject)), _) => Err(reject.close()),
            (None, Some(_)) => Err(Close::TokenMissing),
            (None, None) => {
                let key = self.insert_session(kind, transport.clone(), &open);
                let admission = self.admission(key, "");
                return self.open_admitted(key, open, variant, admission.expect("everyone is welcome"));
            }
        };
        match admission {
            Ok(admission) => {
                let key = self.insert_session(kind, transport, &open);
                self.open_admitted(key, open, variant, admission);
            }
            Err(close) if websocket => {
                // A browser shows its program nothing of a refused upgrade, but the close frame it does.
                self.counts.refused(close);
                self.counts.up(Count::RefusedHandshake);
                self.out.push(Output::Refused { address: open.address, code: close.row().code });
                self.release(open.address, open.crowded);
                self.out.push(Output::Upgrade { conn });
                self.out.push(Output::Close {
                    conn,
                    rest: Vec::new(),
                    number: close.row().number,
                    text: close.row().json,
                });
            }
            Err(close) => {
                self.counts.refused(close);
                self.refuse(&open, Response::json(401, close.row().json.as_bytes()));
            }
        }
    }

    fn open_admitted(&mut self, key: SessionKey, open: Open, variant: Variant, admission: Admission) {
        let conn = open.from.conn;
        if let Err(refusal) = self.admit(key, admission) {
            self.set_role(conn, Role::Session(key));
            debug_assert_eq!(refusal, Refusal::TooManyConnections);
            if open.wire == Wire::Plain {
                self.out.push(Output::Upgrade { conn });
                return self.close(key, Close::TooManyConnections);
            }
            self.set_role(conn, Role::None);
            self.end(key, End::Broken);
            // Its end has released its address already.
            let open = Open { crowded: true, ..open };
            return self.refuse(&open, Response::json(429, Close::TooManyConnections.row().json.as_bytes()));
        }
        self.set_role(conn, Role::Session(key));
        self.out.push(if open.wire == Wire::Plain { Output::Upgrade { conn } } else { Output::Stream { conn } });
        if open.wire == Wire::Events {
            // Some proxies hold a response back until it has a body.
            let index = self.outbox.frame(Frame::raw(b": open\n\n"), false);
            self.outbox.push(slot(key), index);
        }
        let (socket, _) = self.add_socket(key, 0, variant, Comeback::default());
        let recovered = match open.wire {
            Wire::Events => self.resume_events(socket, &open.rooms, open.last_event_id.as_deref()),
            _ => false,
        };
        self.greet(socket, recovered);
        if open.wire == Wire::Events {
            // A reader that never gets an event has a place to come back to, too; and one that was not given what it missed does not
            // come back with a place before that.
            let position = Position::new(
                self.tenants[self.tenant_of(socket)].epoch,
                self.tenants[self.tenant_of(socket)].sequence,
            );
            let index = self.outbox.frame(Frame::raw(format!("id: {position}\n\n").as_bytes()), false);
            self.outbox.push(slot(key), index);
        }
    }

    /// `{"event":"subscribe","data":{...},"id":1}`, or `{"ack":1,"data":...}`.
    pub(super) fn plain_text(&mut self, key: SessionKey, text: &str) {
        if !self.paced(key) {
            return;
        }
        if !json::validate(text) {
            return self.broken(key);
        }
        let Some(socket) = self.sessions.get(key).and_then(|session| session.sockets.first().copied()) else { return };
        let number = |raw: &str| raw.parse::<u64>().ok();
        let id = match member(text, "id").map(number) {
            Some(None) => return self.broken(key),
            id => id.flatten(),
        };
        let data = member(text, "data").unwrap_or("");
        if let Some(ack) = member(text, "ack").and_then(number) {
            return self.acked(socket, ack, Args::of_value(data));
        }
        match member(text, "event").and_then(json::string) {
            Some(name) => self.event(socket, &name, id, Args::of_value(data)),
            None => self.broken(key),
        }
    }
}
