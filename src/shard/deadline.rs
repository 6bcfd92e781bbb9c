//! The deadlines of a session: its heartbeat, the namespace it has to join, the end of its token. One timer serves them all: it is armed
//! for the nearest, and looks at each when it fires.
//!
//! ```text
//!   Ping(at) --at--> ping sent --> Pong(at + timeout) --pong--> Ping(now + interval)
//!                                        '------------at------> ping timeout: the session ends, and may come back
//! ```
//!
//! Invariant: every session has a timer that fires no later than its nearest deadline; of several, only the one `armed` names counts.

use super::Shard;
use super::count::Count;
use super::encode::Outgoing;
use super::outbox::Frame;
use super::room::slot;
use super::session::{Beat, End, Kind, Session, SessionKey};
use crate::base::{
    limit,
    time::{Duration, Instant, Now},
};
use crate::wire::close::Close;

impl Session {
    /// When to look at it next.
    fn next_look(&self, now: Now) -> Instant {
        let mut next = self.beat.at();
        if self.must_connect() {
            next = next.min(self.connect_by);
        }
        if let Some(left) = self.token_left(now) {
            let notice = if self.told_expiring { Duration::ZERO } else { limit::TOKEN_EXPIRING_NOTICE };
            next = next.min(now.at + left.saturating_sub(notice));
        }
        next
    }

    /// It may send nothing but CONNECT, and that in time.
    fn must_connect(&self) -> bool {
        self.kind == Kind::SocketIo && self.sockets.is_empty()
    }

    fn token_left(&self, now: Now) -> Option<Duration> {
        let expires_at = self.identity.as_ref()?.expires_at?;
        Some(Duration::from_millis(expires_at.0.saturating_sub(now.unix.0)))
    }
}

impl Shard {
    /// A deadline has changed: arms the timer if it is nearer than the one that runs.
    pub(super) fn arm_deadline(&mut self, key: SessionKey) {
        let next = self.sessions[key].next_look(self.now);
        if next < self.sessions[key].armed {
            self.sessions[key].armed = next;
            self.looks.arm(next, key);
        }
    }

    /// The timer has fired.
    pub(super) fn look(&mut self, key: SessionKey) {
        let now = self.now;
        let Some(session) = self.sessions.get_mut(key) else { return };
        if session.armed > now.at {
            // A nearer deadline came after it, and that one's timer goes on.
            return;
        }
        session.armed = Instant::NEVER;
        if session.must_connect() && session.connect_by <= now.at {
            return match self.waits_for_token(key) {
                Some(_) => self.late_timeout(key),
                None => self.end(key, End::Idle),
            };
        }
        if let Some(left) = session.token_left(now) {
            if left.is_zero() {
                return self.close(key, Close::TokenExpired);
            }
            if left <= limit::TOKEN_EXPIRING_NOTICE && !session.told_expiring {
                session.told_expiring = true;
                self.tell_expiring(key, left);
            }
        }
        if self.beat(key) {
            self.arm_deadline(key);
        }
    }

    fn tell_expiring(&mut self, key: SessionKey, left: Duration) {
        let session = &self.sessions[key];
        let Some(expires_at) = session.identity.as_ref().and_then(|identity| identity.expires_at) else { return };
        let args = format!("{{\"expiresAt\":\"{}\",\"inMs\":{}}}", expires_at.rfc3339(), left.as_millis());
        for socket in session.sockets.clone() {
            self.send_event(socket, &Outgoing { name: "session:expiring", args: &args, ..Outgoing::default() }, false);
        }
    }

    /// The peer has answered a ping.
    pub(super) fn pong(&mut self, key: SessionKey) {
        let was_asked = self.sessions[key].beat.waits_for_pong();
        self.sessions[key].beat = self.next_ping();
        // Nearer than what is armed only where the timeout is longer than the interval.
        self.arm_deadline(key);
        if was_asked {
            self.proven(key);
        }
    }

    /// Does what the heartbeat is due to. False if it ended the session.
    pub(super) fn beat(&mut self, key: SessionKey) -> bool {
        let (next, timeout) = (self.next_ping(), self.settings.ping_timeout);
        let Some(session) = self.sessions.get_mut(key) else { return false };
        if session.beat.at() > self.now.at {
            // A pong has moved it on since the timer was armed.
            return true;
        }
        if session.beat.waits_for_pong() {
            self.counts.up(Count::PingTimeouts);
            self.end(key, End::PingTimeout);
            return false;
        }
        session.beat = Beat::pong(session.beat.at() + timeout);
        let frame = match session.kind {
            Kind::SocketIo | Kind::Raw => Frame::text(b"2"),
            Kind::Plain | Kind::Bare => Frame::ping(),
            // One way: a comment keeps proxies from closing it, and a dead peer shows as a failed write.
            Kind::Events => {
                session.beat = next;
                Frame::raw(b": ping\n\n")
            }
        };
        let is_read = session.kind == Kind::Events && self.outbox.is_empty(slot(key));
        let index = self.outbox.frame(frame, false);
        self.outbox.push(slot(key), index);
        if is_read {
            // A stream has no pongs: that its connection took everything is all there is to know.
            self.proven(key);
        }
        true
    }

    /// When a session that is heard of now gets its next ping: rounded up to a 256th of the interval (0.1 s of 25 s), so that 15,000 idle
    /// sessions are pinged in 10 turns a second and not in 600.
    pub(super) fn next_ping(&self) -> Beat {
        let grain = (self.settings.ping_interval.as_micros() as u64 / 256).max(1);
        let at = self.now.at + self.settings.ping_interval;
        Beat::ping(Instant(at.0.div_ceil(grain).saturating_mul(grain)))
    }
}
