//! A token that comes after CONNECT, where the profile allows it.
//!
//! ```text
//! CONNECT without a token -> answered, `Early::Awaited`: no tenant, no socket, no room; only the event that authenticates is heard
//!   token accepted         -> to its tenant's home as a CONNECT with that token, and there a socket of the id already given out
//!   token refused          -> told so, disconnected
//!   nothing in time        -> closed `auth_timeout`
//! ```

use super::Shard;
use super::app::Args;
use super::count::Count;
use super::encode::{self, Outgoing};
use super::moving::Connecting;
use super::outbox::Frame;
use super::refusal::Refusal;
use super::room::slot;
use super::session::{Early, SessionKey};
use crate::base::id::Sid;
use crate::profile::{Act, Emit, Late};
use crate::wire::{
    auth::{self, Reject},
    close::Close,
    json, socket_io,
};

/// What a socket was given before it was one.
#[derive(Clone, Copy, Debug)]
pub struct LateConnect {
    pub sid: Sid,
    /// The acknowledgement that the token is owed.
    pub ack: Option<u64>,
}

impl Shard {
    /// Answers a CONNECT that has no token; true if the profile lets it wait for one.
    pub(super) fn let_token_come(&mut self, key: SessionKey, namespace: u8, reject: Reject) -> bool {
        if reject != Reject::Missing || self.app.profile.late.is_none() || self.sessions[key].identity.is_some() {
            return false;
        }
        let sid = Sid::new(self.settings.node, self.settings.shard, &mut self.chance);
        let session = &mut self.sessions[key];
        session.early = Some(Box::new(Early::Awaited { namespace, sid }));
        session.connect_by = self.now.at + self.settings.auth_deadline;
        self.arm_deadline(key);
        let mut packet = Vec::new();
        socket_io::connect(&mut packet, &self.app.names[usize::from(namespace)], &sid.to_string(), None);
        self.send_text(key, &packet, false);
        true
    }

    /// The namespace a session waits in, with the id it was given.
    pub(super) fn waits_for_token(&self, key: SessionKey) -> Option<(u8, Sid)> {
        match self.sessions.get(key)?.early.as_deref() {
            Some(Early::Awaited { namespace, sid }) => Some((*namespace, *sid)),
            _ => None,
        }
    }

    /// One event of a session that waits for its token.
    pub(super) fn late_event(&mut self, key: SessionKey, name: &str, ack: Option<u64>, args: Args<'_>) {
        let Some((namespace, sid)) = self.waits_for_token(key) else { return };
        let app = self.app.clone();
        let is_it = app.profile.client_events.get(name).is_some_and(|event| matches!(event.act, Act::Authenticate));
        if !is_it {
            self.counts.up(Count::RefusedPacket);
            return self.answer_late(key, namespace, ack, &Refusal::Token(Reject::Missing));
        }
        let verified = match (super::default::token(args), &self.settings.auth) {
            (Ok(token), Some(settings)) => auth::verify(&token, &settings.keys, &settings.policy, self.now.unix),
            (Err(_), Some(_)) => Err(Reject::Malformed),
            // Who welcomes everybody waits for nobody.
            (_, None) => return,
        };
        let admission = match verified {
            Ok(admission) => Box::new(admission),
            Err(reject) => return self.refuse_late(key, namespace, ack, reject),
        };
        let names = app.names[usize::from(namespace)].clone();
        let late = Some(LateConnect { sid, ack });
        let home = admission.tenant.home(self.settings.shards);
        if home != self.settings.shard {
            return self.leave(key, home, Connecting { namespace: &names, payload: "{}", admission, late });
        }
        self.sessions[key].early = None;
        self.connect_admitted(key, &names, "{}", *admission, late);
    }

    /// No token came in time.
    pub(super) fn late_timeout(&mut self, key: SessionKey) {
        let Some((namespace, _)) = self.waits_for_token(key) else { return };
        let row = Close::AuthTimeout.row();
        let mut args = b"{\"code\":".to_vec();
        json::write_string(&mut args, row.code);
        args.extend_from_slice(b",\"message\":");
        json::write_string(&mut args, row.message);
        args.push(b'}');
        self.say_late(key, namespace, "error", &String::from_utf8_lossy(&args));
        self.part_late(key, namespace);
        self.close(key, Close::AuthTimeout);
    }

    /// The token was refused: told in the profile's words, and disconnected.
    fn refuse_late(&mut self, key: SessionKey, namespace: u8, ack: Option<u64>, reject: Reject) {
        self.counts.refused(reject.close());
        let refusal = Refusal::Token(reject);
        if ack.is_some() {
            self.answer_late(key, namespace, ack, &refusal);
        }
        let app = self.app.clone();
        let told = app.profile.late.as_ref().and_then(|late| late.refused.as_ref());
        let raw = |path: &str| match path {
            "code" => Some(crate::profile::template::quoted(refusal.code())),
            "message" => Some(crate::profile::template::quoted(refusal.message())),
            _ => None,
        };
        let mut args = Vec::new();
        let event = match told {
            Some(Emit { event, data: Some(shape) }) => {
                shape.write(&mut args, &raw);
                event
            }
            Some(Emit { event, data: None }) => event,
            None => {
                args.push(b'{');
                refusal.write_members(&mut args);
                args.push(b'}');
                Late::REFUSED
            }
        };
        self.say_late(key, namespace, event, &String::from_utf8_lossy(&args));
        self.part_late(key, namespace);
        // The session may join a namespace again, in time.
        let session = &mut self.sessions[key];
        session.early = None;
        session.connect_by = self.now.at + self.settings.connect_timeout;
        self.arm_deadline(key);
    }

    fn answer_late(&mut self, key: SessionKey, namespace: u8, ack: Option<u64>, refusal: &Refusal) {
        let mut args = Vec::new();
        match ack {
            Some(id) => {
                refusal.write(&mut args);
                let mut packet = Vec::new();
                let args = String::from_utf8_lossy(&args);
                socket_io::ack(&mut packet, &self.app.names[usize::from(namespace)], id, &args, 0);
                self.send_text(key, &packet, false);
            }
            None => {
                args.push(b'{');
                refusal.write_members(&mut args);
                args.push(b'}');
                self.say_late(key, namespace, "error", &String::from_utf8_lossy(&args));
            }
        }
    }

    /// An event to a session that has no socket.
    fn say_late(&mut self, key: SessionKey, namespace: u8, event: &str, args: &str) {
        let outgoing = Outgoing { name: event, args, ..Outgoing::default() };
        let frame: Frame = outgoing.encode(encode::variant_of(namespace), &self.app.names, &mut self.text);
        let index = self.outbox.frame(frame, false);
        self.outbox.push(slot(key), index);
    }

    fn part_late(&mut self, key: SessionKey, namespace: u8) {
        let mut packet = Vec::new();
        socket_io::disconnect(&mut packet, &self.app.names[usize::from(namespace)]);
        self.send_text(key, &packet, false);
    }
}
