//! The last words to a long-polling session that the server closed: kept until its client comes for them.
//!
//! Invariants: the close packet goes alone, after everything else. The official client handles a close at once and what stands beside it in
//! the same payload later, which is never: it would not learn why it was closed, and come back where it should not. A client that was
//! upgrading hears them on whichever transport it ends up with.

use super::count::Count;
use super::io::{Message, Output};
use super::outbox::Frame;
use super::{Place, Role, Shard, Timer};
use crate::base::{
    id::{ConnKey, ReplyTo, Sid},
    time::Duration,
};
use crate::wire::engine_io;
use std::collections::VecDeque;

/// How long they are kept, as the Node server's `closeTimeout`.
const KEPT_FOR: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Farewell {
    /// One for each poll, the last of them the close packet.
    payloads: VecDeque<Box<[u8]>>,
    upgrading: Option<Upgrading>,
}

/// The WebSocket that was told `3probe`, and how it is closed.
#[derive(Debug)]
pub(super) struct Upgrading {
    pub conn: ConnKey,
    pub number: u16,
    pub text: &'static str,
}

impl Shard {
    /// Tells a session what waits for it, then that it is closed: now where a poll waits, the rest at the next polls, or on the WebSocket it
    /// is changing over to. True if something is left to be told.
    pub(super) fn begin_farewell(
        &mut self,
        sid: Sid,
        waiting: Option<ReplyTo>,
        mut payloads: VecDeque<Box<[u8]>>,
        upgrading: Option<Upgrading>,
    ) -> bool {
        payloads.push_back((*b"1").into());
        if let Some(to) = waiting
            && let Some(first) = payloads.pop_front()
        {
            self.answer_poll(to, first.into_vec());
        }
        if payloads.is_empty() {
            self.drop_upgrading(upgrading);
            return false;
        }
        if let Some(upgrading) = &upgrading {
            self.set_role(upgrading.conn, Role::Parting(sid));
        }
        self.sids.insert(sid, Place::Farewell(Farewell { payloads, upgrading }));
        self.counts.add(Count::Farewells, 1);
        self.timers.arm(self.now.at + KEPT_FOR, Timer::Farewell(sid));
        true
    }

    /// A poll comes for the next of them.
    pub(super) fn poll_farewell(&mut self, from: ReplyTo, sid: Sid) {
        let Some(Place::Farewell(farewell)) = self.sids.get_mut(&sid) else { return };
        let Some(payload) = farewell.payloads.pop_front() else { return };
        if farewell.payloads.is_empty() {
            self.end_farewell(sid);
        }
        self.answer_poll(from, payload.into_vec());
    }

    /// A client that closes the session itself does not poll again.
    pub(super) fn post_farewell(&mut self, from: ReplyTo, sid: Sid, body: &str) {
        if body.split('\x1e').any(|packet| packet == "1") {
            self.end_farewell(sid);
        }
        self.answer_post(from);
    }

    /// The client has changed over: everything at once, and a close frame instead of the close packet.
    pub(super) fn parting_message(&mut self, sid: Sid, conn: ConnKey, message: Message<'_>) {
        if message == Message::Pong {
            return;
        }
        let Some(Place::Farewell(farewell)) = self.sids.get_mut(&sid) else { return };
        let Some(Upgrading { number, text, .. }) = farewell.upgrading.take() else { return };
        if message != Message::Text("5") {
            return self.drop_conn(conn, number, text);
        }
        let payloads = std::mem::take(&mut farewell.payloads);
        let mut rest = self.take_link_bytes(conn);
        let packets = payloads.iter().flat_map(|payload| payload.split(|byte| *byte == engine_io::SEPARATOR));
        for packet in packets.filter(|packet| *packet != b"1") {
            rest.extend_from_slice(Frame::of_poll_packet(packet).bytes());
        }
        self.set_role(conn, Role::None);
        self.out.push(Output::Close { conn, rest, number, text });
        self.end_farewell(sid);
    }

    /// The client gave the upgrade up, or is gone.
    pub(super) fn parting_hangup(&mut self, sid: Sid) {
        if let Some(Place::Farewell(farewell)) = self.sids.get_mut(&sid) {
            farewell.upgrading = None;
        }
    }

    /// They were told, or nobody came for them in time.
    pub(super) fn end_farewell(&mut self, sid: Sid) {
        if let Some(Place::Farewell(_)) = self.sids.get(&sid)
            && let Some(Place::Farewell(farewell)) = self.sids.remove(&sid)
        {
            self.drop_upgrading(farewell.upgrading);
            self.counts.down(Count::Farewells);
            self.forget_elsewhere(sid);
        }
    }

    fn drop_upgrading(&mut self, upgrading: Option<Upgrading>) {
        if let Some(Upgrading { conn, number, text }) = upgrading {
            self.drop_conn(conn, number, text);
        }
    }
}
