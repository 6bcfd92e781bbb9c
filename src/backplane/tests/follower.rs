//! Clients of the swarm that keep their place themselves: each follows one room, begins anew with each connection, and asks for what came since.
//!
//! Checked: from its place on it gets every event of the room once and in order, before it is answered as well; where it does not, `gap` has
//! said so before, or the answer does. Where the answer says that nothing is missing, what was missed has come before it.

use super::{
    delivery,
    swarm::{Swarm, tenant_token},
};
use crate::base::id::ConnKey;
use crate::shard::{
    io::{Hangup, Input, Wire},
    tests::field,
};

#[derive(Default)]
pub struct Follower {
    pub user: String,
    room: String,
    pub at: Option<(usize, ConnKey)>,
    connected: bool,
    asks: bool,
    pub is_in: bool,
    /// Epoch and offset of the newest it has; none: it cannot know.
    pub last: Option<(String, u64)>,
    /// Events between a question and its answer that says that nothing is missing.
    since: u64,
    pub followed: u64,
}

impl Follower {
    pub fn new(user: String, room: &str) -> Follower {
        Follower { user, room: room.to_owned(), ..Follower::default() }
    }

    /// Takes a packet; the place and the data of an event.
    pub fn packet(&mut self, packet: &str) -> Option<((String, String, u64), u64)> {
        // It acknowledges nothing.
        let (request, packet) = delivery::request(packet);
        if request.is_some() && packet.contains("\"attempt\":") {
            return None;
        }
        if packet.starts_with("40{") {
            self.connected = true;
        } else if packet.starts_with("42[\"gap\"") {
            if !packet.contains("\"room\":") || field(&packet, "room") == self.room {
                self.last = None;
            }
        } else if let Some(rest) = packet.strip_prefix("42[\"e\",") {
            let (epoch, offset) = (field(rest, "epoch").to_owned(), field(rest, "offset").parse().unwrap());
            assert!(self.asks || self.is_in, "{}: it is not in the room: {packet}", self.user);
            match &self.last {
                Some((known, last)) if *known == epoch => {
                    assert_eq!(offset, last + 1, "{}: {} {epoch}: once and in order", self.user, self.room);
                }
                Some((known, last)) => {
                    assert_eq!(offset, 1, "{}: {}: after {known} {last} it begins anew", self.user, self.room);
                }
                None => {}
            }
            self.since += 1;
            self.last = Some((epoch.clone(), offset));
            return Some(((self.room.clone(), epoch, offset), rest.split(',').next()?.parse().ok()?));
        } else if let Some((_, answer)) = packet.strip_prefix("43").and_then(|rest| rest.split_once('[')) {
            self.answered(answer);
        }
        None
    }

    fn answered(&mut self, answer: &str) {
        (self.asks, self.is_in) = (false, answer.contains("\"denied\":[]"));
        if !self.is_in {
            assert!(answer.contains("backplane_unavailable"), "{answer}");
            return;
        }
        let is_whole = answer.contains("\"recovered\":true");
        if !answer.contains("\"epoch\"") {
            // The store is away, or has just lost all: nobody is told then that nothing is missing.
            assert!(!is_whole, "{}: {answer}", self.user);
            return;
        }
        let place = (field(answer, "epoch").to_owned(), field(answer, "offset").parse().unwrap());
        if is_whole {
            assert_eq!(self.last.as_ref(), Some(&place), "{}: {}: nothing is missing", self.user, self.room);
            self.followed += self.since;
        }
        self.last = Some(place);
    }
}

impl Swarm {
    /// It comes, asks, goes, or does nothing.
    pub fn follower_acts(&mut self, nth: usize) {
        let Some((node, conn)) = self.followers[nth].at else { return self.follower_comes(nth) };
        match self.chance.below(10) {
            0..8 => self.follower_asks(nth),
            8 => {
                self.read();
                self.followers[nth].at = None;
                if self.chance.below(2) == 0 {
                    self.rigs[node].input(Input::Hangup { conn, cause: Hangup::Failed });
                }
            }
            _ => {}
        }
    }

    pub fn follower_comes(&mut self, nth: usize) {
        let node = self.chance.below(self.rigs.len() as u64) as usize;
        let (follower, rig) = (&mut self.followers[nth], &mut self.rigs[node]);
        let conn = rig.open(Wire::WebSocket, None);
        (follower.connected, follower.asks, follower.is_in) = (false, false, false);
        follower.at = Some((node, conn));
        let token = tenant_token(rig, &follower.user);
        rig.say(conn, &format!("40{{\"token\":\"{token}\"}}"));
        self.read();
    }

    pub fn follower_asks(&mut self, nth: usize) {
        let follower = &mut self.followers[nth];
        let Some((node, conn)) = follower.at.filter(|_| follower.connected && !follower.is_in && !follower.asks) else {
            return;
        };
        (follower.asks, follower.since) = (true, 0);
        let since = match &follower.last {
            Some((epoch, offset)) => format!(",\"since\":{{\"epoch\":\"{epoch}\",\"offset\":{offset}}}"),
            None => String::new(),
        };
        if std::env::var_os("SWARM_TRACE").is_some() {
            eprintln!("{} asks {node}: {} {since}", follower.user, follower.room);
        }
        self.rigs[node].say(conn, &format!("421[\"subscribe\",{{\"rooms\":[\"{}\"]{since}}}]", follower.room));
    }
}
